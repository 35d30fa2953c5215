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
    t->all[i] = (struct sequence_entry){.item = item, .ts = ts};
}

static void add(struct sequence **s, struct account *a, uint32_t last, uint64_t item, int64_t ts)
{
    struct state_sequence_options o = {.last = last};
    sequence_add(s, a, &o, &(struct sequence_entry){.item = item, .ts = ts});
}

// The store: one value a slot.
struct slots {
    struct buf values[SEQUENCE_SLOTS_MAX];
};

static void slots_write(struct slots *to, struct sequence *s, uint32_t last)
{
    uint64_t b, end;
    if (!sequence_dirty(s, &b, &end))
        return;
    for (; b <= end; b++) {
        struct buf *value = &to->values[b % sequence_slots(last)];
        buf_clear(value);
        sequence_block_put(s, b, value);
    }
    sequence_written(s);
}

static void slots_add(const struct slots *from, struct sequence_loader *l)
{
    for (int i = 0; i < SEQUENCE_SLOTS_MAX; i++)
        if (from->values[i].len > 0)
            sequence_loader_add(l, (uint8_t)i, buf_str(&from->values[i]));
}

static struct sequence *slots_read(const struct slots *from, struct sequence_loader *l, struct account *a,
                                   uint32_t last)
{
    slots_add(from, l);
    struct sequence *s = NULL;
    struct state_sequence_options o = {.last = last};
    cr_assert_eq(sequence_load(l, a, 1, &o, &s, NULL), 0);
    return s;
}

static void check(struct sequence *s, const struct twin *t, uint32_t last, uint32_t max)
{
    struct sequence_entry got[SEQUENCE_LAST_MAX];
    uint32_t n = t->n < last ? t->n : last;
    n = n < max ? n : max;
    cr_assert_eq(sequence_newest(s, NULL, max, got), n);
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
    struct sequence *s = sequence_new(&a, 1, 0, last < 2 ? last : 2);
    int64_t now = INT64_C(1767225600000);
    for (uint32_t i = 0; i < ADDS; i++) {
        now += (int64_t)rng_below(&r, 3);
        int64_t back = rng_below(&r, 5) == 0 ? (int64_t)rng_below(&r, rng_below(&r, 5) == 0 ? 500 : 10) : 0;
        add(&s, &a, last, i, now - back);
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
    struct sequence *s = sequence_new(&a, 1, 0, 2);
    for (uint64_t i = 0; i < 10; i++)
        add(&s, &a, 5, i, 1000);
    struct sequence_entry got[5];
    cr_assert_eq(sequence_newest(s, NULL, 5, got), 5);
    for (uint64_t i = 0; i < 5; i++)
        cr_assert_eq(got[i].item, 9 - i);
    account_free(&a, s);
}

// ---- what can be kept, sets, removal ----------------------------------------------------------------------

struct plain {
    struct sequence_entry all[ADDS];
    uint32_t n;
};

static void plain_cut(struct plain *p, uint32_t i)
{
    memmove(&p->all[i], &p->all[i + 1], (--p->n - i) * sizeof p->all[0]);
}

static void plain_add(struct plain *p, const struct state_sequence_options *o, const struct sequence_entry *x)
{
    for (uint32_t i = p->n; o->unique && i > 0; i--) {
        if (p->all[i - 1].item != x->item)
            continue;
        if (p->all[i - 1].ts > x->ts)
            return;
        plain_cut(p, i - 1);
    }
    uint32_t i = p->n++;
    for (; i > 0 && p->all[i - 1].ts > x->ts; i--)
        p->all[i] = p->all[i - 1];
    p->all[i] = *x;
    if (p->n > o->last)
        plain_cut(p, 0);
}

static uint32_t plain_remove(struct plain *p, uint64_t item)
{
    uint32_t n = p->n;
    for (uint32_t i = n; i > 0; i--)
        if (p->all[i - 1].item == item)
            plain_cut(p, i - 1);
    return n - p->n;
}

static void check_plain(struct sequence *s, const struct plain *p, uint8_t with)
{
    static struct sequence_entry got[SEQUENCE_LAST_MAX];
    cr_assert_eq(sequence_newest(s, NULL, SEQUENCE_LAST_MAX, got), p->n);
    for (uint32_t i = 0; i < p->n; i++) {
        const struct sequence_entry *x = &p->all[p->n - 1 - i];
        cr_assert(got[i].item == x->item && got[i].ts == x->ts);
        cr_assert_eq(got[i].category, with & SEQUENCE_CATEGORY ? x->category : 0);
        cr_assert_eq(got[i].author, with & SEQUENCE_AUTHOR ? x->author : 0);
        cr_assert_eq(got[i].dwell_ms, with & SEQUENCE_DWELL ? x->dwell_ms : 0);
    }
}

static struct sequence_entry entry_random(struct rng *r, uint32_t ids, int64_t now)
{
    return (struct sequence_entry){
        .item = 1 + rng_below(r, ids),
        .ts = rng_below(r, 500) == 0 ? (int64_t)hash_mix(rng_below(r, 1000)) >> rng_below(r, 40)
                                     : now - (int64_t)rng_below(r, rng_below(r, 5) ? 3 : 300),
        .category = rng_below(r, 3) == 0 ? 0 : hash_mix(rng_below(r, 4)),
        .author = hash_mix(rng_below(r, 2)),
        .dwell_ms = (uint32_t)(hash_mix(rng_below(r, 1000)) >> (32 + rng_below(r, 32))),
    };
}

static void run_plain(const struct state_sequence_options *o, uint32_t ids, uint64_t seed)
{
    struct rng r = rng_of(seed);
    struct account a = {0};
    struct plain *p = mem_zalloc(sizeof *p);
    struct slots *store = mem_zalloc(sizeof *store);
    struct sequence_loader *l = sequence_loader_new();
    struct sequence *s = sequence_new(&a, 1, o->with, o->last < 2 ? o->last : 2);
    int64_t now = INT64_C(1767225600000);
    for (uint32_t i = 0; i < ADDS; i++) {
        now += (int64_t)rng_below(&r, 3);
        struct sequence_entry x = entry_random(&r, ids, now);
        sequence_add(&s, &a, o, &x);
        plain_add(p, o, &x);
        for (uint64_t n = rng_below(&r, 8) == 0 ? rng_below(&r, rng_below(&r, 30) == 0 ? 60 : 3) : 0; n > 0;
             n--) {
            uint64_t item = 1 + rng_below(&r, ids);
            cr_assert_eq(sequence_remove(s, item), plain_remove(p, item));
        }
        if (rng_below(&r, 12) == 0)
            slots_write(store, s, o->last);
        if (s->version > 0 && s->dirty_from == UINT64_MAX && rng_below(&r, 3) == 0) {
            account_free(&a, s);
            s = NULL;
            slots_add(store, l);
            cr_assert_eq(sequence_load(l, &a, 1, o, &s, NULL), 0);
        }
        if (rng_below(&r, 5) == 0)
            check_plain(s, p, o->with);
    }
    account_free(&a, s);
    sequence_loader_free(l);
    for (int i = 0; i < SEQUENCE_SLOTS_MAX; i++)
        buf_done(&store->values[i]);
    free(store);
    free(p);
}

Test(sequence, agrees_with_a_plain_list)
{
    const uint32_t lasts[] = {1, 2, 31, 32, 33, 64, 100, 700};
    for (uint32_t i = 0; i < 8; i++)
        for (uint8_t with = 0; with <= SEQUENCE_WITH; with++) {
            struct state_sequence_options o = {.last = lasts[i], .with = with, .unique = (with + i) % 2 == 0};
            run_plain(&o, with % 3 == 0 ? 20 : 120, with);
        }
}

// Beside item and ts nothing is kept that was not asked for.
Test(sequence, an_entry_takes_16_bytes_if_nothing_is_kept_with_it)
{
    struct account a = {0};
    account_init(&a, UINT64_C(1) << 21);
    account_free(&a, sequence_new(&a, 1, 0, 60));
    struct sequence *s = sequence_new(&a, 1, 0, 60);
    cr_assert_eq(a.bytes, 1024 + 1024 / ACCOUNT_UNIT);
    account_free(&a, s);
    account_done(&a);
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
    struct sequence *s = sequence_new(&a, 1, 0, 2);
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
        add(&s, &a, last, i, ts);
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
        struct state_sequence_options o = {.last = 100};
        if (sequence_load(l, &a, 1, &o, &s, &err) < 0)
            cr_assert_eq(err.code, ERR_CORRUPT);
        account_free(&a, s);
    }
    sequence_loader_free(l);
}
