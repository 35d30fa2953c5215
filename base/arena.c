// SPDX-License-Identifier: Apache-2.0
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"

enum {
    ARENA_FIRST = 16 << 10, // what a request needs: malloc has it without asking the kernel for pages
    ARENA_BLOCK = 256 << 10,
};

struct arena_block {
    struct arena_block *next;
    size_t size;
    _Alignas(64) uint8_t data[];
};

static struct arena_block *arena_block_new(size_t size)
{
    struct arena_block *b = mem_alloc(sizeof *b + size);
    b->next = NULL;
    b->size = size;
    return b;
}

// Each twice the one before.
static size_t arena_block_size(const struct arena *a)
{
    if (a->now == NULL)
        return ARENA_FIRST;
    return a->now->size < ARENA_BLOCK / 2 ? a->now->size * 2 : ARENA_BLOCK;
}

// The next block that holds `size` bytes: one kept from before, or a new one put after `now`.
static void arena_advance(struct arena *a, size_t size)
{
    struct arena_block *next = a->now != NULL ? a->now->next : a->first;
    if (next == NULL || next->size < size) {
        size_t usual = arena_block_size(a);
        struct arena_block *b = arena_block_new(size > usual ? size : usual);
        b->next = next;
        if (a->now != NULL)
            a->now->next = b;
        else
            a->first = b;
        next = b;
    }
    a->now = next;
    a->used = 0;
}

void *arena_alloc(struct arena *a, size_t size, size_t align)
{
    size_t at = (a->used + align - 1) & ~(align - 1);
    if (a->now == NULL || at + size > a->now->size) {
        arena_advance(a, size);
        at = 0;
    }
    a->used = at + size;
    a->total += size;
    return a->now->data + at;
}

struct str arena_str(struct arena *a, struct str s)
{
    char *p = arena_alloc(a, s.len + 1, 1);
    if (s.len > 0)
        memcpy(p, s.s, s.len);
    p[s.len] = '\0';
    return (struct str){p, s.len};
}

void arena_clear(struct arena *a)
{
    a->now = NULL;
    a->used = 0;
    a->total = 0;
}

void arena_done(struct arena *a)
{
    for (struct arena_block *b = a->first; b != NULL;) {
        struct arena_block *next = b->next;
        free(b);
        b = next;
    }
    *a = (struct arena){0};
}
