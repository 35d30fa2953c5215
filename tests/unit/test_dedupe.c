// SPDX-License-Identifier: Apache-2.0
// Dedupe against a list that is searched from end to end.
#include <criterion/criterion.h>

#include "base/mem.h"
#include "base/rng.h"
#include "state/dedupe.h"

enum { STEPS = 20000, MINUTE = 60000, IDS = 3000, WINDOW = 5, BLOCKS = 400 };

struct twin {
    uint64_t id[STEPS];
    int64_t minute[STEPS];
    int n;
    int64_t now;   // minute of the watermark
    int64_t floor; // forgotten up to this minute
    uint64_t max;
    uint64_t forgotten;
};

static int64_t minute_of(int64_t ts)
{
    return ts >= 0 ? ts / MINUTE : -((-ts + MINUTE - 1) / MINUTE);
}

static bool twin_alive(const struct twin *t, int64_t minute)
{
    return minute > t->floor && t->now <= minute + WINDOW;
}

static uint64_t twin_count(const struct twin *t, int64_t *ret_oldest)
{
    uint64_t n = 0;
    *ret_oldest = INT64_MAX;
    for (int i = 0; i < t->n; i++) {
        if (!twin_alive(t, t->minute[i]))
            continue;
        n++;
        *ret_oldest = t->minute[i] < *ret_oldest ? t->minute[i] : *ret_oldest;
    }
    return n;
}

static bool twin_seen(struct twin *t, uint64_t id, int64_t ts)
{
    int64_t minute = minute_of(ts);
    for (int i = 0; i < t->n; i++)
        if (t->id[i] == id && twin_alive(t, t->minute[i]))
            return true;
    if (t->now > minute + WINDOW)
        return false;
    int64_t oldest;
    uint64_t n = twin_count(t, &oldest);
    if (n >= t->max && oldest < minute && minute > t->floor) {
        for (int i = 0; i < t->n; i++)
            t->forgotten += t->minute[i] == oldest && twin_alive(t, t->minute[i]);
        t->floor = oldest;
        n = 0;
    }
    if (minute <= t->floor || n >= t->max) {
        t->forgotten++;
        return false;
    }
    t->id[t->n] = id;
    t->minute[t->n++] = minute;
    return false;
}

static struct dedupe *rebuild(struct buf *blocks, uint64_t low, uint64_t next, uint64_t max)
{
    struct dedupe *d = dedupe_new(WINDOW * MINUTE, max);
    for (uint64_t c = low; c < next; c++) {
        struct err err = {0};
        struct rd from = rd_of(blocks[c].data, blocks[c].len);
        cr_assert_eq(dedupe_block_get(d, c, &from, &err), 0, "%s", err.message);
        cr_assert_eq(rd_left(&from), 0);
    }
    return d;
}

// Steps of random ids and times around a moving watermark, with blocks and restarts in between.
static void run(uint64_t seed, int steps, uint64_t max, int64_t start)
{
    static struct buf blocks[BLOCKS];
    struct rng r = rng_of(seed);
    struct twin *t = mem_zalloc(sizeof *t);
    t->now = t->floor = INT32_MIN;
    t->max = max;
    struct dedupe *d = dedupe_new(WINDOW * MINUTE, max);
    uint64_t commit = 0;
    int64_t base = start;
    uint64_t seen = 0;
    for (int k = 0; k < steps; k++) {
        base += (int64_t)rng_below(&r, 2000);
        int64_t ts = base - (int64_t)rng_below(&r, rng_below(&r, 20) == 0 ? 10 * MINUTE : 3000);
        uint64_t id = 1 + rng_below(&r, IDS);
        bool expected = twin_seen(t, id, ts);
        seen += expected;
        cr_assert_eq(dedupe_seen(d, id, ts), expected, "step %d", k);
        if (rng_below(&r, 4) == 0) {
            dedupe_advance(d, base - 5000);
            t->now = minute_of(base - 5000);
        }
        int64_t oldest;
        if (rng_below(&r, 10) == 0)
            dedupe_make_room(d); // decides nothing
        if (k % 50 == 0)
            cr_assert_eq(dedupe_count(d), twin_count(t, &oldest), "step %d", k);
        cr_assert_eq(dedupe_forgotten(d), t->forgotten);
        if (rng_below(&r, 20) > 0 || commit == BLOCKS)
            continue;
        dedupe_block_put(d, commit, &blocks[commit]);
        commit++;
        if (rng_below(&r, 3) > 0)
            continue;
        uint64_t low = dedupe_low(d, commit);
        dedupe_free(d);
        d = rebuild(blocks, low < commit ? low : commit - 1, commit, max);
        cr_assert_eq(dedupe_low(d, commit), low);
        cr_assert_eq(dedupe_count(d), twin_count(t, &oldest), "after a restart at step %d", k);
    }
    cr_assert(seen > 0);
    for (uint64_t c = 0; c < commit; c++)
        buf_done(&blocks[c]);
    dedupe_free(d);
    free(t);
}

Test(dedupe, agrees_with_a_plain_list)
{
    run(1, 4000, UINT64_MAX, INT64_C(1767225600000));
    run(2, 2000, UINT64_MAX, -10 * MINUTE);
}

Test(dedupe, at_the_bound_the_oldest_minute_goes)
{
    run(3, 3000, 100, INT64_C(1767225600000));
    run(4, 2000, 7, 0);
}

Test(dedupe, grows_shrinks_and_forgets_in_time)
{
    struct dedupe *d = dedupe_new(WINDOW * MINUTE, UINT64_MAX);
    for (uint64_t id = 1; id <= 100000; id++)
        cr_assert(!dedupe_seen(d, id, 1000));
    uint64_t bytes = dedupe_bytes(d);
    for (uint64_t id = 1; id <= 100000; id++)
        cr_assert(dedupe_seen(d, id, 2000));
    cr_assert_eq(dedupe_count(d), 100000);
    dedupe_advance(d, (WINDOW + 1) * MINUTE - 1);
    cr_assert_eq(dedupe_count(d), 100000);
    dedupe_advance(d, (WINDOW + 1) * MINUTE);
    cr_assert_eq(dedupe_count(d), 0);
    cr_assert(!dedupe_seen(d, 1, 1000)); // too late to be remembered
    cr_assert(!dedupe_seen(d, 1, 1000));
    for (uint64_t id = 1; id <= 200000; id++)
        cr_assert(!dedupe_seen(d, id + 1000000, (WINDOW + 2) * MINUTE));
    cr_assert(dedupe_bytes(d) <= 4 * bytes);
    dedupe_free(d);
}

static void count_turn(void *turns)
{
    ++*(int *)turns;
}

Test(dedupe, makes_room_between_events_with_turns_and_inside_them_without)
{
    enum { MANY = 100000 };
    int turns = 0;
    uint64_t grown = 0;
    struct dedupe *d = dedupe_new(WINDOW * MINUTE, UINT64_MAX);
    dedupe_turn_set(d, count_turn, &turns);
    for (uint64_t id = 1; id <= MANY; id++)
        cr_assert(!dedupe_seen(d, id, 1000));
    cr_assert_eq(turns, 0);
    for (uint64_t id = MANY + 1; id <= 4 * MANY; id++) {
        int before = turns;
        uint64_t bytes = dedupe_bytes(d);
        if (id % 100 == 0)
            dedupe_make_room(d);
        grown += dedupe_bytes(d) > bytes && turns > before + 10;
        before = turns;
        cr_assert(!dedupe_seen(d, id, 1000));
        cr_assert_eq(turns, before);
    }
    cr_assert_geq(grown, 2);
    for (uint64_t id = 1; id <= 4 * MANY; id++)
        cr_assert(dedupe_seen(d, id, 2000));
    dedupe_free(d);
}

Test(dedupe, a_damaged_block_is_refused)
{
    struct dedupe *d = dedupe_new(WINDOW * MINUTE, 1000);
    struct buf block = {0};
    for (uint64_t id = 0; id < 50; id++)
        dedupe_seen(d, id, (int64_t)id * 5000);
    dedupe_block_put(d, 1, &block);
    for (size_t cut = 0; cut < block.len; cut++) {
        struct dedupe *e = dedupe_new(WINDOW * MINUTE, 1000);
        struct rd from = rd_of(block.data, cut);
        struct err err = {0};
        cr_assert_eq(dedupe_block_get(e, 1, &from, &err), -1);
        cr_assert_eq(err.code, ERR_CORRUPT);
        dedupe_free(e);
    }
    buf_done(&block);
    dedupe_free(d);
}
