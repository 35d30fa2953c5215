// SPDX-License-Identifier: Apache-2.0
// Problem: millions of small things of a few sizes, visited at random. With malloc they straddle cache lines
// and lie on small pages, and every visit is a walk through the page tables: 42 ns against 23 on huge pages.
//
// Idea: the buddy system (Knowlton 1965) over one reserve of huge pages. Blocks are powers of two of 64
// bytes; a block that is freed is joined with its buddy (the one whose offset differs in one bit) when that
// is free too, so sizes that go out of use do not hold memory. Tags lie apart from the blocks, a byte a unit:
//
//     +-------+--------------------+
//     | FREE  | order              |     at a block's first unit; others are not looked at
//     | bit 7 | bits 0-6           |
//     +-------+--------------------+
//
// A small block that is freed is taken again soon, as lists grow and what they leave is the next one's: up to
// QUICK_MAX of an order wait, not joined, and still warm in the cache. They join when the reserve is used up.
//
// When it is, and for what is larger than its largest block, malloc serves.
//
// Cost: 1/64 for the tags, and the rounding to a power of two, which lists that grow by doubling do not
// notice.
#include "state/account.h"

#include <assert.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { TAG_FREE = 0x80, MALLOC_OVERHEAD = 8, QUICK_MAX = 1024 };

struct account_block {
    struct account_block *next, *prev;
};

void account_init(struct account *a, uint64_t reserve)
{
    *a = (struct account){.size = reserve / ACCOUNT_BLOCK_MAX * ACCOUNT_BLOCK_MAX};
    if (a->size == 0)
        return;
    a->base = mem_map(a->size);
    a->tags = mem_map(a->size / ACCOUNT_UNIT);
}

void account_done(struct account *a)
{
    if (a->base != NULL) {
        mem_unmap(a->base, a->size);
        mem_unmap(a->tags, a->size / ACCOUNT_UNIT);
    }
    *a = (struct account){0};
}

static uint32_t order_of(size_t size)
{
    uint32_t order = 0;
    while (((size_t)ACCOUNT_UNIT << order) < size)
        order++;
    return order;
}

// What a block of the reserve takes, its tags included.
static uint64_t block_cost(uint32_t order)
{
    return ((uint64_t)ACCOUNT_UNIT + 1) << order;
}

static bool account_has(const struct account *a, const void *p)
{
    return (uint64_t)((const uint8_t *)p - a->base) < a->size && a->base != NULL;
}

static uint8_t *account_tag(const struct account *a, const void *p)
{
    return &a->tags[(uint64_t)((const uint8_t *)p - a->base) / ACCOUNT_UNIT];
}

static void block_link(struct account *a, void *p, uint32_t order)
{
    struct account_block *b = p;
    *account_tag(a, p) = (uint8_t)(TAG_FREE | order);
    *b = (struct account_block){.next = a->free[order]};
    if (b->next != NULL)
        b->next->prev = b;
    a->free[order] = b;
}

static void block_unlink(struct account *a, struct account_block *b, uint32_t order)
{
    if (b->next != NULL)
        b->next->prev = b->prev;
    *(b->prev != NULL ? &b->prev->next : &a->free[order]) = b->next;
}

static void block_give(struct account *a, const uint8_t *p, uint32_t order);

// False: there are none.
static bool quick_join(struct account *a)
{
    bool any = false;
    for (uint32_t order = 0; order < ACCOUNT_QUICK; order++) {
        for (struct account_block *b = a->quick[order], *next; b != NULL; b = next, any = true) {
            next = b->next;
            block_give(a, (const uint8_t *)b, order);
        }
        a->quick[order] = NULL;
        a->n_quick[order] = 0;
    }
    return any;
}

static void *quick_take(struct account *a, uint32_t order)
{
    struct account_block *b = a->quick[order];
    a->quick[order] = b->next;
    a->n_quick[order]--;
    return b;
}

// NULL when the reserve is used up.
static void *block_take(struct account *a, uint32_t order)
{
    if (order < ACCOUNT_QUICK && a->quick[order] != NULL)
        return quick_take(a, order);
    uint32_t from = order;
    while (from < ACCOUNT_ORDERS && a->free[from] == NULL)
        from++;
    if (from == ACCOUNT_ORDERS) {
        if (a->top == a->size)
            return quick_join(a) ? block_take(a, order) : NULL;
        block_link(a, a->base + a->top, --from);
        a->top += ACCOUNT_BLOCK_MAX;
    }
    struct account_block *b = a->free[from];
    block_unlink(a, b, from);
    while (from > order) {
        from--;
        block_link(a, (uint8_t *)b + ((size_t)ACCOUNT_UNIT << from), from);
    }
    *account_tag(a, b) = (uint8_t)order;
    return b;
}

static void block_give(struct account *a, const uint8_t *p, uint32_t order)
{
    uint64_t at = (uint64_t)(p - a->base);
    for (; order < ACCOUNT_ORDERS - 1; order++) {
        uint64_t buddy = at ^ (uint64_t)ACCOUNT_UNIT << order;
        if (*account_tag(a, a->base + buddy) != (TAG_FREE | order))
            break;
        block_unlink(a, (struct account_block *)(void *)(a->base + buddy), order);
        at &= buddy;
    }
    block_link(a, a->base + at, order);
}

static void block_free(struct account *a, void *p, uint32_t order)
{
    if (order >= ACCOUNT_QUICK || a->n_quick[order] == QUICK_MAX) {
        block_give(a, p, order);
        return;
    }
    struct account_block *b = p;
    b->next = a->quick[order];
    a->quick[order] = b;
    a->n_quick[order]++;
}

static void *account_take(struct account *a, size_t size)
{
    if (size <= ACCOUNT_BLOCK_MAX) {
        uint32_t order = order_of(size);
        size = (size_t)ACCOUNT_UNIT << order;
        void *p = block_take(a, order);
        if (p != NULL) {
            a->bytes += block_cost(order);
            return p;
        }
    }
    void *p = mem_alloc(size);
    a->outside++;
    a->bytes += malloc_usable_size(p) + MALLOC_OVERHEAD;
    return p;
}

// Usable bytes of a block.
static size_t account_room(const struct account *a, void *p)
{
    if (!account_has(a, p))
        return malloc_usable_size(p);
    assert(*account_tag(a, p) < ACCOUNT_ORDERS);
    return (size_t)ACCOUNT_UNIT << *account_tag(a, p);
}

void *account_alloc(struct account *a, size_t size)
{
    void *p = account_take(a, size);
    memset(p, 0, size);
    return p;
}

void account_free(struct account *a, void *p)
{
    if (p == NULL)
        return;
    if (account_has(a, p)) {
        uint32_t order = *account_tag(a, p);
        assert(order < ACCOUNT_ORDERS);
        a->bytes -= block_cost(order);
        block_free(a, p, order);
    } else {
        a->bytes -= malloc_usable_size(p) + MALLOC_OVERHEAD;
        a->outside--;
        free(p);
    }
}

void *account_resize(struct account *a, void *p, size_t size)
{
    if (p == NULL)
        return account_take(a, size);
    size_t room = account_room(a, p);
    if (size <= room && (room == ACCOUNT_UNIT || size > room / 2))
        return p;
    void *to = account_take(a, size);
    memcpy(to, p, size < room ? size : room);
    account_free(a, p);
    return to;
}

struct mem_span account_span(struct account *a)
{
    return mem_ahead(a->base, a->top, a->size, 1, a->top, &a->told);
}
