// SPDX-License-Identifier: Apache-2.0
// Hashes and digests, by XXH3. An id is known inside by hash_id of its text: 64 bits, never 0 and never
// UINT64_MAX, so that both can mark empty slots of a table.
#ifndef FRESHET_BASE_HASH_H
#define FRESHET_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct digest {
    uint64_t low;
    uint64_t high;
};

enum { DIGEST_TEXT = 33 }; // 32 hex digits and the terminator

uint64_t hash_bytes(const void *p, size_t n);
uint64_t hash_id(struct str text);
// Spreads the bits of a number over all 64 (splitmix64's finisher).
static inline uint64_t hash_mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

// A digest over a stream of bytes: XXH3-128.
struct hasher;
struct hasher *hasher_new(void);
void hasher_free(struct hasher *h);
void hasher_put(struct hasher *h, const void *p, size_t n);
struct digest hasher_digest(const struct hasher *h);

struct digest digest_bytes(const void *p, size_t n);
void digest_text(struct digest d, char ret_text[DIGEST_TEXT]);
static inline int digest_equal(struct digest a, struct digest b)
{
    return a.low == b.low && a.high == b.high;
}

#endif
