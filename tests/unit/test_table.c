// SPDX-License-Identifier: Apache-2.0
// The embedding table against a plain list that is searched from end to end.
#include "models/table.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

enum { UNIVERSE = 600, DIM = 5, RECORD = 12 };

struct twin_row {
    bool present;
    float accum;
    uint32_t count, seen;
    float vector[DIM];
};

// Ids that are hashes, and ids that are anything but.
static uint64_t id_of(uint32_t k)
{
    switch (k % 3) {
    case 0:
        return hash_mix(k + 1);
    case 1:
        return k + 1;
    default:
        return (uint64_t)(k + 1) << 40;
    }
}

static struct table_options options_of(uint64_t rows)
{
    return (struct table_options){.name = "items",
                                  .dim = DIM,
                                  .rows = rows,
                                  .admit = 3,
                                  .init = 0.1f,
                                  .optimizer = {.kind = OPTIMIZER_ROWWISE_ADAGRAD, .lr = 0.1f},
                                  .seed = 5};
}

static void record_put(struct buf *to, const struct twin_row *row, uint32_t admit)
{
    buf_put_f32(to, row->accum);
    buf_put_u32(to, row->count);
    buf_put_u32(to, row->seen);
    if (row->count >= admit)
        buf_put(to, row->vector, sizeof row->vector);
}

static void load_row(struct table *t, uint64_t id, const struct twin_row *row)
{
    struct err err;
    struct buf record = {0};
    record_put(&record, row, table_options(t)->admit);
    int rc = table_row_load(t, id, buf_str(&record), &err);
    cr_assert_eq(rc, 0, "%s", rc != 0 ? err.message : "");
    buf_done(&record);
}

static struct twin_row row_random(struct rng *rng)
{
    struct twin_row row = {.present = true,
                           .accum = (float)rng_uniform(rng),
                           .count = 1 + (uint32_t)rng_below(rng, 6),
                           .seen = 1000 + (uint32_t)rng_below(rng, 1000)};
    for (uint32_t j = 0; j < DIM; j++)
        row.vector[j] = (float)rng_normal(rng);
    return row;
}

// Removes what was last seen before `before_s`: the one way in which rows go.
static void expire(struct table *t, uint32_t before_s)
{
    struct overlay *o = overlay_new(t);
    overlay_expire(o, before_s);
    table_apply(t, o);
    overlay_free(o);
}

static void row_check(const struct table *t, uint64_t id, const struct twin_row *twin, uint32_t found_many)
{
    uint32_t slot = table_find(t, id);
    if (!twin->present) {
        cr_assert_eq(slot, TABLE_NONE);
        cr_assert_eq(found_many, TABLE_NONE);
        return;
    }
    cr_assert_neq(slot, TABLE_NONE);
    const struct table_row *row = table_row(t, slot);
    bool admitted = twin->count >= table_options(t)->admit;
    cr_assert_eq(row->id, id);
    cr_assert_eq(row->accum, twin->accum);
    cr_assert_eq(row->count, twin->count);
    cr_assert_eq(row->last_seen_s, twin->seen);
    cr_assert_eq(table_admitted(t, row), admitted);
    cr_assert_eq(found_many, admitted ? slot : TABLE_NONE);
    const float *vector = table_vectors(t) + slot * table_stride(t);
    cr_assert_eq((const void *)vector, (const void *)row->vector);
    if (admitted)
        cr_assert_arr_eq(vector, twin->vector, sizeof twin->vector);
}

static void table_check(const struct table *t, const struct twin_row *twin)
{
    uint64_t ids[UNIVERSE];
    uint32_t many[UNIVERSE];
    uint64_t rows = 0, admitted = 0;
    for (uint32_t k = 0; k < UNIVERSE; k++)
        ids[k] = id_of(k);
    table_find_many(t, ids, UNIVERSE, many);
    for (uint32_t k = 0; k < UNIVERSE; k++) {
        row_check(t, ids[k], &twin[k], many[k]);
        rows += twin[k].present;
        admitted += twin[k].present && twin[k].count >= table_options(t)->admit;
    }
    cr_assert_eq(table_count(t), rows);
    cr_assert_eq(table_admitted_count(t), admitted);
}

Test(table, holds_what_a_plain_list_holds)
{
    struct rng rng = rng_of(1);
    struct table_options options = options_of(UNIVERSE);
    struct table *t = table_new(&options);
    struct twin_row twin[UNIVERSE] = {0};
    for (uint32_t round = 0; round < 60; round++) {
        for (uint32_t i = 0; i < 80; i++) {
            uint32_t k = (uint32_t)rng_below(&rng, UNIVERSE);
            twin[k] = row_random(&rng);
            load_row(t, id_of(k), &twin[k]);
        }
        uint32_t before_s = 1000 + (uint32_t)rng_below(&rng, 500);
        expire(t, before_s);
        for (uint32_t k = 0; k < UNIVERSE; k++)
            twin[k].present = twin[k].present && twin[k].seen >= before_s;
        table_check(t, twin);
    }
    expire(t, UINT32_MAX);
    cr_assert_eq(table_count(t), 0);
    cr_assert_eq(table_admitted_count(t), 0);
    table_free(t);
}

Test(table, finds_many_of_any_number)
{
    struct table_options options = options_of(UNIVERSE);
    struct table *t = table_new(&options);
    struct rng rng = rng_of(2);
    for (uint32_t k = 0; k < UNIVERSE; k += 2) {
        struct twin_row row = row_random(&rng);
        load_row(t, id_of(k), &row);
    }
    for (uint32_t n = 0; n < 100; n++) {
        uint64_t ids[100];
        uint32_t slots[101];
        for (uint32_t i = 0; i < n; i++)
            ids[i] = rng_below(&rng, 10) == 0 ? 0 : id_of((uint32_t)rng_below(&rng, UNIVERSE));
        slots[n] = 77;
        table_find_many(t, ids, n, slots);
        cr_assert_eq(slots[n], 77);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t slot = ids[i] != 0 ? table_find(t, ids[i]) : TABLE_NONE;
            bool served = slot != TABLE_NONE && table_admitted(t, table_row(t, slot));
            cr_assert_eq(slots[i], served ? slot : TABLE_NONE);
        }
    }
    table_free(t);
}

static int twin_order(const void *a, const void *b)
{
    uint64_t x = id_of(*(const uint32_t *)a), y = id_of(*(const uint32_t *)b);
    return x < y ? -1 : x > y;
}

// The digests, written down once more: sorted, then hashed in one piece.
static void digests_of(const struct twin_row *twin, uint32_t admit, struct digest *ret_digest,
                       struct digest *ret_full)
{
    uint32_t order[UNIVERSE];
    struct buf served = {0}, full = {0};
    for (uint32_t k = 0; k < UNIVERSE; k++)
        order[k] = k;
    qsort(order, UNIVERSE, sizeof *order, twin_order);
    for (uint32_t i = 0; i < UNIVERSE; i++) {
        const struct twin_row *row = &twin[order[i]];
        if (!row->present)
            continue;
        buf_put_u64(&full, id_of(order[i]));
        record_put(&full, row, admit);
        if (row->count < admit)
            continue;
        buf_put_u64(&served, id_of(order[i]));
        buf_put(&served, row->vector, sizeof row->vector);
    }
    *ret_digest = digest_bytes(served.data, served.len);
    *ret_full = digest_bytes(full.data, full.len);
    buf_done(&served);
    buf_done(&full);
}

Test(table, digests_tell_content_and_not_history)
{
    struct rng rng = rng_of(3);
    struct table_options options = options_of(UNIVERSE);
    struct twin_row twin[UNIVERSE] = {0};
    for (uint32_t k = 0; k < UNIVERSE; k++)
        if (rng_below(&rng, 4) != 0)
            twin[k] = row_random(&rng);
    struct table *forward = table_new(&options), *backward = table_new(&options);
    // Guests that leave again have the rows of one of them moved about.
    struct twin_row guest = {.present = true, .count = 9, .seen = 1};
    for (uint32_t k = 0; k < UNIVERSE; k++) {
        load_row(forward, id_of(k), twin[k].present ? &twin[k] : &guest);
        if (twin[UNIVERSE - 1 - k].present)
            load_row(backward, id_of(UNIVERSE - 1 - k), &twin[UNIVERSE - 1 - k]);
    }
    cr_assert(!digest_equal(table_digest(forward), table_digest(backward)));
    expire(forward, 2);
    table_check(forward, twin);
    struct digest digest, full;
    digests_of(twin, options.admit, &digest, &full);
    cr_assert(digest_equal(table_digest(forward), digest));
    cr_assert(digest_equal(table_digest(backward), digest));
    cr_assert(digest_equal(table_digest_full(forward), full));
    cr_assert(digest_equal(table_digest_full(backward), full));
    table_free(forward);
    table_free(backward);
}

Test(table, order_is_by_id)
{
    struct rng rng = rng_of(4);
    struct table_options options = options_of(UNIVERSE);
    struct table *t = table_new(&options);
    for (uint32_t k = 0; k < UNIVERSE; k++) {
        struct twin_row row = row_random(&rng);
        load_row(t, id_of(k), &row);
    }
    uint32_t n = 0;
    uint32_t *order = table_order(t, &n);
    cr_assert_eq(n, UNIVERSE);
    for (uint32_t i = 1; i < n; i++)
        cr_assert_lt(table_row(t, order[i - 1])->id, table_row(t, order[i])->id);
    free(order);
    table_free(t);
}

Test(table, rows_survive_their_records)
{
    struct rng rng = rng_of(5);
    struct table_options options = options_of(UNIVERSE);
    struct table *from = table_new(&options), *to = table_new(&options);
    for (uint32_t k = 0; k < UNIVERSE; k++) {
        struct twin_row row = row_random(&rng);
        load_row(from, id_of(k), &row);
    }
    struct buf record = {0};
    for (uint32_t slot = 0; slot < UNIVERSE; slot++) {
        const struct table_row *row = table_row(from, slot);
        buf_clear(&record);
        table_row_put(from, row, &record);
        cr_assert_eq(record.len, RECORD + (table_admitted(from, row) ? DIM * sizeof(float) : 0));
        struct str bytes = {(const char *)record.data, (uint32_t)record.len};
        cr_assert_eq(table_row_load(to, row->id, bytes, NULL), 0);
    }
    cr_assert(digest_equal(table_digest_full(from), table_digest_full(to)));
    buf_done(&record);
    table_free(from);
    table_free(to);
}

Test(table, refuses_records_that_do_not_fit)
{
    struct table_options options = options_of(2);
    struct table *t = table_new(&options);
    char bytes[64] = {0};
    struct err err = {0};
    for (uint32_t len = 0; len < sizeof bytes; len++) {
        int rc = table_row_load(t, 7, (struct str){bytes, len}, &err);
        bool fits = len == RECORD || len == RECORD + DIM * sizeof(float);
        cr_assert_eq(rc, fits ? 0 : -1);
        if (!fits)
            cr_assert_eq(err.code, ERR_CORRUPT);
    }
    cr_assert_eq(table_row_load(t, 0, (struct str){bytes, RECORD}, &err), -1);
    cr_assert_eq(err.code, ERR_CORRUPT);
    cr_assert_eq(table_row_load(t, 8, (struct str){bytes, RECORD}, &err), 0);
    cr_assert_eq(table_row_load(t, 9, (struct str){bytes, RECORD}, &err), -1);
    cr_assert_eq(err.code, ERR_LIMIT);
    cr_assert_eq(table_row_load(t, 7, (struct str){bytes, RECORD}, &err), 0,
                 "a row that is there can be replaced");
    table_free(t);
}

Test(table, another_admit_changes_nothing_that_is_served)
{
    struct table_options options = options_of(4);
    struct table *t = table_new(&options);
    struct twin_row served = {.count = 3, .seen = 1, .vector = {1}}, waiting = {.count = 2, .seen = 1};
    load_row(t, 1, &served);
    load_row(t, 2, &waiting);
    for (uint32_t admit = 1; admit < 6; admit++) {
        struct table_options other = options;
        other.admit = admit;
        struct table *u = table_new(&other);
        for (uint32_t slot = 0; slot < 2; slot++) {
            struct buf record = {0};
            table_row_put(t, table_row(t, slot), &record);
            struct str bytes = {(const char *)record.data, (uint32_t)record.len};
            cr_assert_eq(table_row_load(u, table_row(t, slot)->id, bytes, NULL), 0);
            buf_done(&record);
        }
        cr_assert(table_admitted(u, table_row(u, table_find(u, 1))));
        cr_assert(!table_admitted(u, table_row(u, table_find(u, 2))));
        cr_assert(digest_equal(table_digest(u), table_digest(t)));
        table_free(u);
    }
    table_free(t);
}

Test(table, keeps_to_its_budget)
{
    for (uint64_t rows = 1; rows < 3000; rows = rows * 3 + 1) {
        struct table_options options = options_of(rows);
        struct table *t = table_new(&options);
        struct twin_row row = {.count = 1};
        for (uint64_t i = 0; i < rows; i++)
            load_row(t, hash_mix(i + 1), &row);
        cr_assert_eq(table_count(t), rows);
        cr_assert_leq(table_bytes(t), table_budget_bytes(&options));
        cr_assert_gt(table_bytes(t) + 64, table_budget_bytes(&options));
        table_free(t);
    }
}
