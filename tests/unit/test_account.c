// SPDX-License-Identifier: Apache-2.0
// Blocks against a list of what is held: no two overlap, contents stay, and what is freed joins up again.
#include <criterion/criterion.h>
#include <string.h>

#include "base/rng.h"
#include "state/account.h"

enum { HELD = 300, STEPS = 60000 };

struct held {
    uint8_t *p;
    size_t size;
    uint8_t mark;
};

static void held_check(const struct held *h)
{
    for (size_t i = 0; i < h->size; i += 1 + h->size / 64)
        cr_assert_eq(h->p[i], h->mark);
    if (h->size > 0)
        cr_assert_eq(h->p[h->size - 1], h->mark);
}

static size_t random_size(struct rng *r)
{
    return (size_t)rng_below(r, UINT64_C(2) << rng_below(r, 20));
}

static void run(uint64_t reserve)
{
    struct rng r = rng_of(reserve + 1);
    struct account a;
    account_init(&a, reserve);
    struct held held[HELD] = {0};
    for (int step = 0; step < STEPS; step++) {
        struct held *h = &held[rng_below(&r, HELD)];
        if (h->p != NULL)
            held_check(h);
        size_t size = random_size(&r);
        if (h->p == NULL) {
            h->p = account_alloc(&a, size);
            for (size_t i = 0; i < size; i += 1 + size / 64)
                cr_assert_eq(h->p[i], 0);
        } else if (rng_below(&r, 2)) {
            h->p = account_resize(&a, h->p, size);
            for (size_t i = 0; i < size && i < h->size; i += 1 + h->size / 64)
                cr_assert_eq(h->p[i], h->mark);
        } else {
            account_free(&a, h->p);
            *h = (struct held){0};
            continue;
        }
        *h = (struct held){.p = h->p, .size = size, .mark = (uint8_t)step};
        memset(h->p, h->mark, size);
    }
    for (int i = 0; i < HELD; i++)
        account_free(&a, held[i].p);
    cr_assert_eq(a.bytes, 0);
    account_done(&a);
}

Test(account, blocks_do_not_overlap)
{
    run(0);
    run(8 << 20); // used up at times
    run(UINT64_C(1) << 30);
}

Test(account, freed_blocks_join)
{
    enum { SIZE = 4 << 20 };
    struct account a;
    account_init(&a, SIZE);
    struct rng r = rng_of(4);
    static void *p[SIZE / ACCOUNT_UNIT];
    for (size_t i = 0; i < SIZE / ACCOUNT_UNIT; i++)
        p[i] = account_alloc(&a, 50);
    cr_assert_eq(a.bytes, SIZE + SIZE / ACCOUNT_UNIT, "every unit of the reserve is in use");
    for (size_t i = SIZE / ACCOUNT_UNIT; i > 1; i--) {
        size_t k = (size_t)rng_below(&r, i);
        void *swap = p[i - 1];
        p[i - 1] = p[k];
        p[k] = swap;
    }
    for (size_t i = 0; i < SIZE / ACCOUNT_UNIT; i++)
        account_free(&a, p[i]);
    cr_assert_eq(a.bytes, 0);
    for (int i = 0; i < SIZE / ACCOUNT_BLOCK_MAX; i++) {
        uint8_t *block = account_alloc(&a, ACCOUNT_BLOCK_MAX);
        cr_assert(block >= a.base && block < a.base + a.size, "the reserve is whole again");
    }
    account_done(&a);
}

Test(account, blocks_are_aligned)
{
    struct account a;
    account_init(&a, 2 << 20);
    for (int i = 0; i < 100; i++)
        cr_assert_eq((uintptr_t)account_alloc(&a, 1 + (size_t)i * 7) % ACCOUNT_UNIT, 0);
    account_done(&a);
}

Test(account, what_comes_next_is_told_within_the_reserve)
{
    struct account a;
    account_init(&a, 8 << 20);
    (void)account_alloc(&a, ACCOUNT_BLOCK_MAX);
    cr_assert_eq(account_span(&a).n, 0, "the first time nobody knows");
    cr_assert_eq(account_span(&a).n, 0, "nothing came");
    (void)account_alloc(&a, ACCOUNT_BLOCK_MAX);
    struct mem_span span = account_span(&a);
    cr_assert_eq((const uint8_t *)span.p, a.base + a.top, "behind what is used");
    cr_assert_eq(span.n, 2 * ACCOUNT_BLOCK_MAX, "twice of what came");
    mem_populate(span);
    for (int i = 0; i < 4; i++)
        (void)account_alloc(&a, ACCOUNT_BLOCK_MAX);
    span = account_span(&a);
    cr_assert_eq(span.n, (size_t)2 * ACCOUNT_BLOCK_MAX, "and no more than the reserve has");
    mem_populate(span);
    cr_assert_eq(((const uint8_t *)span.p)[span.n - 1], 0, "it is there, and of zeros");
    account_done(&a);
}
