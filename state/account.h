// SPDX-License-Identifier: Apache-2.0
// The memory of entities, with an exact count of what the cache budget bounds; used inside state/ only.
//
//     struct account a;
//     account_init(&a, reserve);    `reserve` bytes of address space at most in huge pages; 0: malloc alone
//     p = account_alloc(&a, 100);   takes a block of 128 bytes
//     p = account_resize(&a, p, 300);
//     account_free(&a, p);
//     account_done(&a);             everything from the reserve is gone
//
// A block is 64 << order bytes and is aligned to 64, so a small struct lies in as few cache lines as it can.
#ifndef FRESHET_STATE_ACCOUNT_H
#define FRESHET_STATE_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

enum {
    ACCOUNT_UNIT = 64,
    ACCOUNT_ORDERS = 15, // 64 bytes .. 1 MiB; what is larger is malloc'ed
    ACCOUNT_BLOCK_MAX = ACCOUNT_UNIT << (ACCOUNT_ORDERS - 1),
    ACCOUNT_QUICK = 5, // orders, 64 bytes .. 1 KiB, of which blocks wait on a list for the next that is taken
};

struct account_block; // a free one

struct account {
    uint64_t bytes;   // that blocks in use take, with what their bookkeeping takes
    uint8_t *base;    // of the reserve
    uint8_t *tags;    // by unit: of the first of a block, its order and whether it is free
    uint64_t size;    // of the reserve, in bytes
    uint64_t top;     // used of it so far
    uint64_t told;    // of account_span
    uint64_t outside; // blocks in use that are malloc'ed
    struct account_block *free[ACCOUNT_ORDERS];
    struct account_block *quick[ACCOUNT_QUICK];
    uint32_t n_quick[ACCOUNT_QUICK];
};

void account_init(struct account *a, uint64_t reserve);
void account_done(struct account *a);
void *account_alloc(struct account *a, size_t size);           // zeroed
void *account_resize(struct account *a, void *p, size_t size); // what is added is not zeroed; p may be NULL
void account_free(struct account *a, void *p);
struct mem_span account_span(struct account *a); // of the reserve, what will be used next: mem_ahead

#endif
