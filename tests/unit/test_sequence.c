// SPDX-License-Identifier: Apache-2.0
// A sequence against a twin that keeps every entry; written and read back by blocks at random moments.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "state/sequence.h"

enum { ADDS = 3000 };

struct twin {
    struct sequence_entry all[ADDS]; // by ts, then arrival
    uint32_t n;
};

static void twin_add(struct twin *t, uint64_t item, int64_t ts)
{
    uint32_t i = t->n++;
    for (; i > 0 && t->all[i - 1].ts > ts; i--)
        t->all[i] = t->all[i - 1];
    t->all[i] = (struct sequence_entry){item, ts};
}

// The store: one value a slot.
struct slots {
    struct buf values[SEQUENCE_SLOTS_MAX];
};

static void slots_write(struct slots *to, struct sequence *s, uint32_t last)
{
    if (s->dirty_from >= s->end)
        return;
    uint64_t from = s->dirty_from > s->end - s->n ? s->dirty_from : s->end - s->n;
    for (uint64_t b = from / SEQUENCE_BLOCK; b * SEQUENCE_BLOCK < s->end; b++) {
        struct buf *value = &to->values[b % sequence_slots(last)];
        buf_clear(value);
        sequence_block_put(s, b, value);
    }
    s->dirty_from = UINT64_MAX;
}

static struct sequence *slots_read(const struct slots *from, struct sequence_loader *l, struct account *a,
                                   uint32_t last)
{
    for (int i = 0; i < SEQUENCE_SLOTS_MAX; i++)
        if (from->values[i].len > 0)
            sequence_loader_add(
                l, (uint8_t)i,
                (struct str){(const char *)from->values[i].data, (uint32_t)from->values[i].len});
    struct sequence *s = NULL;
    cr_assert_eq(sequence_load(l, a, 1, last, &s, NULL), 0);
    return s;
}

static void check(const struct sequence *s, const struct twin *t, uint32_t last, uint32_t max)
{
    struct sequence_entry got[SEQUENCE_LAST_MAX];
    uint32_t n = t->n < last ? t->n : last;
    n = n < max ? n : max;
    cr_assert_eq(sequence_newest(s, max, got), n);
    for (uint32_t i = 0; i < n; i++)
        cr_assert(got[i].item == t->all[t->n - 1 - i].item && got[i].ts == t->all[t->n - 1 - i].ts);
}

static void run(uint32_t last, uint64_t seed)
{
    struct rng r = rng_of(seed);
    struct account a = {0};
    struct twin *t = mem_zalloc(sizeof *t);
    struct slots *store = mem_zalloc(sizeof *store);
    struct sequence_loader *l = sequence_loader_new();
    struct sequence *s = sequence_new(&a, 1, last < 2 ? last : 2);
    int64_t now = INT64_C(1767225600000);
    for (uint32_t i = 0; i < ADDS; i++) {
        now += (int64_t)rng_below(&r, 3);
        int64_t back = rng_below(&r, 5) == 0 ? (int64_t)rng_below(&r, rng_below(&r, 5) == 0 ? 500 : 10) : 0;
        sequence_add(&s, &a, last, i, now - back);
        twin_add(t, i, now - back);
        if (rng_below(&r, 10) == 0)
            check(s, t, last, 1 + (uint32_t)rng_below(&r, last));
        if (rng_below(&r, 12) == 0) {
            slots_write(store, s, last);
            if (rng_below(&r, 3) == 0) {
                account_free(&a, s);
                s = slots_read(store, l, &a, last);
            }
            check(s, t, last, last);
        }
    }
    account_free(&a, s);
    cr_assert_eq(a.bytes, 0);
    sequence_loader_free(l);
    for (int i = 0; i < SEQUENCE_SLOTS_MAX; i++)
        buf_done(&store->values[i]);
    free(store);
    free(t);
}

Test(sequence, agrees_with_the_definition)
{
    const uint32_t lasts[] = {1, 2, 3, 31, 32, 33, 64, 100, 1000, SEQUENCE_LAST_MAX};
    for (size_t i = 0; i < sizeof lasts / sizeof lasts[0]; i++)
        for (uint64_t seed = 0; seed < 3; seed++)
            run(lasts[i], seed);
}

// Entries of equal ts stay in order of arrival.
Test(sequence, equal_times_keep_arrival)
{
    struct account a = {0};
    struct sequence *s = sequence_new(&a, 1, 2);
    for (uint64_t i = 0; i < 10; i++)
        sequence_add(&s, &a, 5, i, 1000);
    struct sequence_entry got[5];
    cr_assert_eq(sequence_newest(s, 5, got), 5);
    for (uint64_t i = 0; i < 5; i++)
        cr_assert_eq(got[i].item, 9 - i);
    account_free(&a, s);
}

// N changes in the config: what was kept under both is there, in order, at each start, also where blocks of
// an earlier N lie in other slots.
Test(sequence, n_may_change)
{
    const uint32_t lasts[] = {100, 50, 33, 64, 20, 300};
    struct rng r = rng_of(77);
    struct account a = {0};
    struct twin *t = mem_zalloc(sizeof *t);
    struct slots *store = mem_zalloc(sizeof *store);
    struct sequence_loader *l = sequence_loader_new();
    struct sequence *s = sequence_new(&a, 1, 2);
    uint32_t last = 100;
    for (uint32_t i = 0; i < ADDS; i++) {
        if (rng_below(&r, 30) == 0 && s->n > 0) {
            slots_write(store, s, last);
            last = lasts[rng_below(&r, sizeof lasts / sizeof lasts[0])];
            uint32_t least = s->n < last ? s->n : last;
            account_free(&a, s);
            s = slots_read(store, l, &a, last);
            cr_assert_geq(s->n, least);
        }
        int64_t ts = 1000 + 10 * (int64_t)i - (int64_t)rng_below(&r, 50);
        sequence_add(&s, &a, last, i, ts);
        twin_add(t, i, ts);
        check(s, t, last, s->n);
    }
    account_free(&a, s);
    sequence_loader_free(l);
    for (int i = 0; i < SEQUENCE_SLOTS_MAX; i++)
        buf_done(&store->values[i]);
    free(store);
    free(t);
}

Test(sequence, damage_is_noticed)
{
    struct rng r = rng_of(3);
    struct sequence_loader *l = sequence_loader_new();
    for (int i = 0; i < 5000; i++) {
        char bytes[64];
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (char)rng_below(&r, rng_below(&r, 2) ? 8 : 256);
        sequence_loader_add(l, (uint8_t)rng_below(&r, 5),
                            (struct str){bytes, (uint32_t)rng_below(&r, sizeof bytes)});
        struct account a = {0};
        struct sequence *s = NULL;
        struct err err;
        if (sequence_load(l, &a, 1, 100, &s, &err) < 0)
            cr_assert_eq(err.code, ERR_CORRUPT);
        account_free(&a, s);
    }
    sequence_loader_free(l);
}
