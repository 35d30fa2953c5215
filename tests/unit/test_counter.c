// SPDX-License-Identifier: Apache-2.0
// A counter against a twin that keeps every event and sums by the definition: events out of order and late by
// up to days, reads before and after the newest tile, watermark steps, several partitions, window shapes.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "state/chunk.h"
#include "state/counter.h"

enum { EVENTS = 4000, SEC = 1000, MIN = 60000, HOUR = 3600000, DAY = 86400000 };

struct event {
    int64_t ts;
    uint64_t n;
    uint16_t partition;
};

struct twin {
    struct event events[EVENTS];
    uint32_t n;
};

struct shape {
    const char *name;
    struct state_window windows[STATE_WINDOWS_MAX];
    uint32_t n;
};

static const struct shape shapes[] = {
    {"1h 1d 7d", {{"1h", MIN, 60}, {"1d", 15 * MIN, 96}, {"7d", HOUR, 168}}, 3},
    {"one window", {{"1h", MIN, 60}}, 1},
    {"one tile", {{"1m", MIN, 1}}, 1},
    {"spans alike", {{"1h", MIN, 60}, {"1h", 15 * MIN, 4}, {"1h", HOUR, 1}, {"1d", HOUR, 24}}, 4},
    {"tiles that do not divide an hour", {{"a", 7 * MIN, 10}, {"b", 21 * MIN, 9}, {"c", 42 * MIN, 40}}, 3},
    {"a day of one tile", {{"s", SEC, 90}, {"h", HOUR, 3}, {"d", DAY, 1}}, 3},
    {"eight",
     {{"a", SEC, 60},
      {"b", 5 * SEC, 60},
      {"c", 30 * SEC, 60},
      {"d", MIN, 60},
      {"e", 10 * MIN, 60},
      {"f", 30 * MIN, 48},
      {"g", HOUR, 30},
      {"h", 3 * HOUR, 56}},
     8},
};

static uint64_t twin_window(const struct twin *t, const struct state_window *w, int64_t at, int64_t watermark)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        int64_t tile = t->events[i].ts / w->tile_ms;
        bool inside = tile <= at / w->tile_ms && tile > at / w->tile_ms - w->tiles;
        bool alive = watermark < 0 || tile > watermark / w->tile_ms - w->tiles;
        sum += inside && alive ? t->events[i].n : 0;
    }
    return sum;
}

static int64_t lateness(struct rng *r, int64_t span)
{
    switch (rng_below(r, 8)) {
    case 0:
        return (int64_t)rng_below(r, (uint64_t)(span + span / 4));
    case 1:
        return (int64_t)rng_below(r, HOUR);
    case 2:
        return (int64_t)rng_below(r, 5 * MIN);
    default:
        return (int64_t)rng_below(r, 3 * SEC);
    }
}

static void check_reads(struct rng *r, struct counter *c, struct tiling *t, const struct shape *s,
                        const struct twin *twin, int64_t now, int64_t watermark)
{
    int64_t span = s->windows[s->n - 1].tile_ms * s->windows[s->n - 1].tiles;
    int64_t at = now;
    switch (rng_below(r, 4)) {
    case 0:
        at = now - lateness(r, span);
        break;
    case 1:
        at = now + lateness(r, span);
        break;
    }
    tiling_seek(t, at);
    for (uint32_t w = 0; w < s->n; w++)
        cr_assert_eq(counter_window(c, w, t->lo[w], t->hi[w]),
                     twin_window(twin, &s->windows[w], at, watermark), "%s: window %u at %lld, event %u",
                     s->name, w, (long long)at, twin->n);
}

static void run(const struct shape *s, uint64_t seed, uint16_t partitions, bool merge)
{
    struct rng r = rng_of(seed);
    struct account a = {0};
    struct tiling t;
    tiling_init(&t, s->windows, s->n);
    struct counter *c = counter_new(&a);
    struct twin *twin = mem_zalloc(sizeof *twin);
    int64_t span = s->windows[s->n - 1].tile_ms * s->windows[s->n - 1].tiles;
    int64_t now = INT64_C(1767225600000);
    int64_t watermark = -1;
    int64_t step = span * 5 / EVENTS;
    for (uint32_t i = 0; i < EVENTS; i++) {
        now += rng_below(&r, 500) == 0 ? (int64_t)rng_below(&r, (uint64_t)span)
                                       : (int64_t)rng_below(&r, (uint64_t)step);
        struct event x = {now - lateness(&r, span), 1 + rng_below(&r, 5),
                          (uint16_t)rng_below(&r, partitions)};
        uint32_t tile = tiling_tile(&t, x.ts);
        if (tile != TILE_NONE)
            counter_add(&c, &a, &t, tile, x.partition, x.n);
        twin->events[twin->n++] = x;
        if (rng_below(&r, 10) == 0 && now - 5 * SEC > watermark) {
            watermark = now - 5 * SEC;
            tiling_watermark(&t, watermark);
        }
        if (merge && rng_below(&r, 20) == 0)
            counter_merge(c, &t);
        if (rng_below(&r, 8) == 0)
            check_reads(&r, c, &t, s, twin, now, watermark);
    }
    counter_free(&a, c);
    cr_assert_eq(a.bytes, 0);
    free(twin);
}

Test(counter, agrees_with_the_definition)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (uint64_t seed = 0; seed < 4; seed++)
            run(&shapes[i], seed, seed % 2 ? 5 : 1, seed >= 2);
}

// Two counters that are merged at different moments end with the same bytes.
Test(counter, merging_has_no_history)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const struct shape *s = &shapes[i];
        struct rng r = rng_of(i + 100);
        struct account a = {0};
        struct tiling t;
        tiling_init(&t, s->windows, s->n);
        struct counter *often = counter_new(&a), *once = counter_new(&a);
        int64_t span = s->windows[s->n - 1].tile_ms * s->windows[s->n - 1].tiles;
        int64_t now = INT64_C(1767225600000);
        for (int k = 0; k < 5000; k++) {
            now += (int64_t)rng_below(&r, (uint64_t)(span / 500));
            uint32_t tile = tiling_tile(&t, now - lateness(&r, span));
            uint16_t partition = (uint16_t)rng_below(&r, 3);
            if (tile != TILE_NONE) {
                counter_add(&often, &a, &t, tile, partition, 1);
                counter_add(&once, &a, &t, tile, partition, 1);
            }
            tiling_watermark(&t, now - MIN);
            counter_merge(often, &t);
        }
        counter_merge(once, &t);
        cr_assert_eq(often->n, once->n, "%s", s->name);
        for (uint32_t k = 0; k < once->n; k++) {
            const struct tile *x = &counter_tiles(once)[k], *y = &counter_tiles(often)[k];
            cr_assert(x->tile == y->tile && x->partition == y->partition && x->count == y->count);
        }
        counter_free(&a, often);
        counter_free(&a, once);
    }
}

Test(counter, length_is_bounded)
{
    const struct shape *s = &shapes[0];
    struct account a = {0};
    struct tiling t;
    tiling_init(&t, s->windows, s->n);
    struct counter *c = counter_new(&a);
    for (int64_t ts = INT64_C(1767225600000), i = 0; i < 30 * 24 * 60; i++, ts += MIN) {
        tiling_watermark(&t, ts - 5 * SEC);
        counter_add(&c, &a, &t, tiling_tile(&t, ts), 0, 1);
    }
    counter_merge(c, &t);
    cr_assert_leq(c->n, 60 + 96 + 168);
    cr_assert_leq(a.bytes, 16 * 1024);
    counter_free(&a, c);
}

Test(counter, times_at_the_edges)
{
    struct tiling t;
    tiling_init(&t, shapes[0].windows, shapes[0].n);
    cr_assert_eq(tiling_tile(&t, -1), TILE_NONE);
    cr_assert_eq(tiling_tile(&t, INT64_MAX), TILE_NONE);
    cr_assert_eq(tiling_tile(&t, 0), 0);
    struct account a = {0};
    struct counter *c = counter_new(&a);
    counter_add(&c, &a, &t, 0, 0, 7);
    tiling_seek(&t, INT64_MIN);
    cr_assert_eq(counter_window(c, 0, t.lo[0], t.hi[0]), 0);
    tiling_seek(&t, INT64_MAX);
    cr_assert_eq(counter_window(c, 0, t.lo[0], t.hi[0]), 0);
    tiling_seek(&t, 59 * MIN);
    cr_assert_eq(counter_window(c, 0, t.lo[0], t.hi[0]), 7);
    tiling_seek(&t, 60 * MIN);
    cr_assert_eq(counter_window(c, 0, t.lo[0], t.hi[0]), 0);
    cr_assert_eq(counter_window(c, 1, t.lo[1], t.hi[1]), 7);
    counter_free(&a, c);
}

// ---- chunks -----------------------------------------------------------------------------------------------

static void read_back(struct account *a, const struct tiling *t, uint32_t chunk, uint16_t partition,
                      const struct buf *value, struct counter *to[MEASURE_MAX])
{
    struct chunk_reader r = {
        .from = rd_of(value->data, value->len), .base = chunk * t->chunk, .size = t->chunk};
    struct chunk_tile x;
    while (chunk_read(&r, &x)) {
        if (to[x.measure] == NULL)
            to[x.measure] = counter_new(a);
        counter_load(&to[x.measure], a, t, x.tile, partition, x.count);
    }
    cr_assert_not(r.from.bad);
}

Test(chunk, what_is_written_is_read_back)
{
    struct tiling t;
    tiling_init(&t, shapes[0].windows, shapes[0].n);
    struct account a = {0};
    struct rng r = rng_of(5);
    struct counter *from[MEASURE_MAX] = {0}, *to[MEASURE_MAX] = {0};
    for (int i = 0; i < 3000; i++) {
        uint8_t m = (uint8_t)(rng_below(&r, 3) * 12);
        if (from[m] == NULL)
            from[m] = counter_new(&a);
        counter_add(&from[m], &a, &t, 29000000 + (uint32_t)rng_below(&r, 300), (uint16_t)rng_below(&r, 4),
                    1 + rng_below(&r, 1000));
    }
    struct chunks k = {0};
    struct buf value = {0};
    chunks_begin(&k);
    for (uint8_t m = 0; m < MEASURE_MAX; m++)
        if (from[m] != NULL)
            chunks_take(&k, &t, m, from[m], from[m]->dirty);
    uint32_t chunk, n = 0;
    uint16_t partition;
    for (; chunks_next(&k, &chunk, &partition, &value); buf_clear(&value), n++)
        read_back(&a, &t, chunk, partition, &value, to);
    cr_assert(n >= 20 && n <= 24);
    for (uint8_t m = 0; m < MEASURE_MAX; m++) {
        cr_assert_eq(from[m] == NULL, to[m] == NULL);
        if (from[m] == NULL)
            continue;
        cr_assert_eq(from[m]->n, to[m]->n);
        cr_assert_eq(from[m]->dirty, (uint32_t)CHUNK_NONE);
        cr_assert_eq(memcmp(counter_tiles(from[m]), counter_tiles(to[m]), from[m]->n * sizeof(struct tile)),
                     0);
        counter_free(&a, from[m]);
        counter_free(&a, to[m]);
    }
    chunks_done(&k);
    buf_done(&value);
}

Test(chunk, only_touched_chunks_are_written)
{
    struct tiling t;
    tiling_init(&t, shapes[0].windows, shapes[0].n);
    struct account a = {0};
    struct counter *c = counter_new(&a);
    for (uint32_t i = 0; i < 10; i++)
        counter_load(&c, &a, &t, 29000000 / 60 * 60 + i * 60, 0, 1);
    counter_add(&c, &a, &t, 29000000 / 60 * 60 + 3 * 60 + 5, 0, 1);
    struct chunks k = {0};
    struct buf value = {0};
    chunks_begin(&k);
    chunks_take(&k, &t, 0, c, c->dirty);
    uint32_t chunk;
    uint16_t partition;
    cr_assert(chunks_next(&k, &chunk, &partition, &value));
    cr_assert_eq(chunk, 29000000 / 60 + 3);
    cr_assert_not(chunks_next(&k, &chunk, &partition, &value));
    chunks_done(&k);
    buf_done(&value);
    counter_free(&a, c);
}

Test(chunk, damage_is_noticed)
{
    struct rng r = rng_of(9);
    for (int i = 0; i < 20000; i++) {
        uint8_t bytes[24];
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (uint8_t)rng_below(&r, rng_below(&r, 2) ? 4 : 256);
        struct chunk_reader reader = {
            .from = rd_of(bytes, rng_below(&r, sizeof bytes)), .base = 600, .size = 60};
        struct chunk_tile x;
        while (chunk_read(&reader, &x))
            cr_assert(x.tile >= 600 && x.tile < 660 && x.measure < MEASURE_MAX);
    }
}
