// SPDX-License-Identifier: Apache-2.0
// What the tests of the joiner share: random logs, how a joiner is fed with them, and what must decide nothing:
// the order of arrival within out_of_order, the cuts of joiner_advance, restarts from blocks.
#ifndef FRESHET_TESTS_JOINER_LOG_H
#define FRESHET_TESTS_JOINER_LOG_H

#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "state/joiner.h"

enum { EVENTS = 400, OUT_OF_ORDER = 50, WINDOW = 300, STEPS = 4000 };

static const uint32_t labels_all = 1u << ACTION_CLICK | 1u << ACTION_LIKE | 1u << ACTION_WATCH;

// ---- a log of events --------------------------------------------------------------------------------------

struct row {
    bool is_feedback;
    struct state_impression i;
    struct state_feedback f;
    int64_t ts;
    int64_t watermark; // after this row
};

struct samples_seen {
    struct sample *s;
    size_t n, cap;
};

static void seen_add(void *context, const struct sample *s)
{
    struct samples_seen *seen = context;
    if (seen->n == seen->cap) {
        seen->cap = seen->cap * 2 + 64;
        seen->s = mem_resize(seen->s, seen->cap, sizeof *seen->s);
    }
    seen->s[seen->n++] = *s;
}

static void seen_done(struct samples_seen *seen)
{
    free(seen->s);
    *seen = (struct samples_seen){0};
}

static struct state_join_options options_of(enum state_emit emit, enum state_watch watch)
{
    return (struct state_join_options){.window_ms = WINDOW,
                                       .emit = emit,
                                       .watch_of = watch,
                                       .labels = labels_all,
                                       .keep_negatives = 1,
                                       .max_pending = 1 << 20};
}

// Thinning is by this: item 1 came once, item 2 four times, item 3 nine times.
static uint64_t log_count(void *context, uint64_t item)
{
    (void)context;
    return item * item;
}

static struct joiner *joiner_of(const struct state_join_options *options)
{
    struct joiner *j = joiner_new(options);
    joiner_count_set(j, log_count, NULL);
    return j;
}

static struct row row_random(struct rng *r, int64_t ts)
{
    static const uint8_t actions[] = {ACTION_CLICK, ACTION_LIKE, ACTION_WATCH, ACTION_SHARE};
    struct row row = {.is_feedback = rng_below(r, 2) == 0, .ts = ts};
    uint64_t user = 1 + rng_below(r, 3);
    uint64_t item = 1 + rng_below(r, 3);
    uint64_t request = rng_below(r, 3); // 0: none
    uint16_t partition = (uint16_t)rng_below(r, 3);
    struct body_ref body = {rng_below(r, UINT64_C(1) << 40), (uint32_t)rng_below(r, 5),
                            (uint32_t)rng_below(r, 999), 7};
    body.item_at = (uint32_t)rng_below(r, 100000);
    row.i = (struct state_impression){user, item, request, ts, partition, body};
    row.f = (struct state_feedback){user,           item, request, ts, partition, actions[rng_below(r, 4)],
                                    rng_below(r, 4)};
    return row;
}

// Times go up by some, with jitter; one in `late_one_in` comes far too late. The watermark follows them.
static void log_random(struct rng *r, struct row *rows, int n, int64_t step, uint64_t late_one_in)
{
    int64_t base = 1000;
    int64_t newest = INT64_MIN;
    for (int k = 0; k < n; k++) {
        base += (int64_t)rng_below(r, (uint64_t)step);
        int64_t ts = base - (int64_t)rng_below(r, OUT_OF_ORDER);
        if (rng_below(r, late_one_in) == 0)
            ts -= (int64_t)rng_below(r, 2 * WINDOW);
        rows[k] = row_random(r, ts);
        newest = ts > newest ? ts : newest;
        rows[k].watermark = newest - OUT_OF_ORDER;
    }
}

static void row_feed(struct joiner *j, const struct row *row)
{
    if (row->is_feedback)
        joiner_feedback(j, &row->f);
    else
        joiner_impression(j, &row->i);
}

static void log_run(const struct state_join_options *options, const struct row *rows, int n,
                    struct samples_seen *ret_seen, struct state_join_counts *ret_counts)
{
    struct joiner *j = joiner_of(options);
    for (int k = 0; k < n; k++) {
        row_feed(j, &rows[k]);
        joiner_advance(j, rows[k].watermark, seen_add, ret_seen);
    }
    joiner_advance(j, INT64_MAX, seen_add, ret_seen);
    joiner_counts(j, ret_counts);
    joiner_free(j);
}

static void sample_expect(const struct sample *a, const struct sample *b, size_t at)
{
    cr_assert_eq(a->impression, b->impression, "sample %zu", at);
    cr_assert_eq(a->impression_ts, b->impression_ts, "sample %zu", at);
    cr_assert_eq(a->emitted_ts, b->emitted_ts, "sample %zu: %ld, not %ld", at, a->emitted_ts, b->emitted_ts);
    cr_assert_eq(a->labels, b->labels, "sample %zu: %x, not %x", at, a->labels, b->labels);
    cr_assert_eq(a->corrected, b->corrected, "sample %zu", at);
    cr_assert_eq(a->keep_rate, b->keep_rate, "sample %zu", at);
    cr_assert_eq(a->told, b->told, "sample %zu: told %x, not %x", at, a->told, b->told);
    cr_assert_eq(a->masked, b->masked, "sample %zu: masked %x, not %x", at, a->masked, b->masked);
    cr_assert_eq(a->rated, b->rated, "sample %zu", at);
    cr_assert_arr_eq(a->keep_rates, b->keep_rates, sizeof a->keep_rates, "sample %zu", at);
    cr_assert_eq(a->watch_ms, b->watch_ms, "sample %zu", at);
    cr_assert_eq(a->partition, b->partition, "sample %zu", at);
    cr_assert(a->body.commit == b->body.commit && a->body.segment == b->body.segment, "sample %zu", at);
    cr_assert(a->body.user_at == b->body.user_at && a->body.item_at == b->body.item_at, "sample %zu", at);
    cr_assert_arr_eq(a->label_ts, b->label_ts, sizeof a->label_ts, "sample %zu", at);
}

static void seen_expect(const struct samples_seen *a, const struct samples_seen *b)
{
    cr_assert_eq(a->n, b->n, "%zu samples, not %zu", a->n, b->n);
    for (size_t k = 0; k < a->n; k++)
        sample_expect(&a->s[k], &b->s[k], k);
}

// ---- what decides nothing ---------------------------------------------------------------------------------

// Bodies stand for the impression here, for its number follows arrival.
static void same_but_numbers(struct samples_seen *a, struct samples_seen *b)
{
    for (size_t k = 0; k < a->n && k < b->n; k++)
        a->s[k].impression = b->s[k].impression = 0;
    seen_expect(a, b);
}

// The same log in two orders of arrival, both within out_of_order: the same samples and counts.
static void order_round(struct rng *r, struct state_join_options o)
{
    static struct row rows[EVENTS];
    struct samples_seen runs[2] = {{0}, {0}};
    struct state_join_counts counts[2];
    int64_t ts = 1000;
    o.max_pending = 1 << 20; // whom the bound takes depends on who has come
    for (int k = 0; k < EVENTS; k++)
        rows[k] = row_random(r, ts += 1 + (int64_t)rng_below(r, 8));
    for (int shuffled = 0; shuffled < 2; shuffled++) {
        int64_t newest = INT64_MIN;
        for (int k = 0; shuffled && k < 20 * EVENTS; k++) {
            int at = (int)rng_below(r, EVENTS - 1);
            struct row x = rows[at]; // swapped while it keeps within half of out_of_order of its place
            int64_t low = x.ts < rows[at + 1].ts ? x.ts : rows[at + 1].ts;
            int64_t high = x.ts < rows[at + 1].ts ? rows[at + 1].ts : x.ts;
            if (high - low >= OUT_OF_ORDER)
                continue;
            rows[at] = rows[at + 1];
            rows[at + 1] = x;
        }
        for (int k = 0; k < EVENTS; k++) {
            newest = rows[k].ts > newest ? rows[k].ts : newest;
            rows[k].watermark = newest - OUT_OF_ORDER;
            cr_assert(k == 0 || rows[k].ts > rows[k - 1].watermark);
        }
        log_run(&o, rows, EVENTS, &runs[shuffled], &counts[shuffled]);
    }
    same_but_numbers(&runs[0], &runs[1]);
    cr_assert_arr_eq(&counts[0], &counts[1], sizeof counts[0]);
    seen_done(&runs[0]);
    seen_done(&runs[1]);
}

// Many calls of joiner_advance or one: the same samples.
static void cuts_round(struct rng *r, const struct state_join_options *o)
{
    static struct row rows[EVENTS];
    struct samples_seen one = {0};
    struct samples_seen many = {0};
    struct joiner *a = joiner_of(o);
    struct joiner *b = joiner_of(o);
    int64_t watermark = 900;
    log_random(r, rows, EVENTS, 10, 10);
    for (int k = 0; k < EVENTS; k++) {
        row_feed(a, &rows[k]);
        row_feed(b, &rows[k]);
        if (rng_below(r, 10) > 0)
            continue;
        for (; watermark < rows[k].watermark; watermark += 1 + (int64_t)rng_below(r, 20))
            joiner_advance(b, watermark, seen_add, &many);
        watermark = rows[k].watermark;
        joiner_advance(a, watermark, seen_add, &one);
        joiner_advance(b, watermark, seen_add, &many);
    }
    seen_expect(&one, &many);
    cr_assert(one.n > 0);
    seen_done(&one);
    seen_done(&many);
    joiner_free(a);
    joiner_free(b);
}

static struct digest digest_of(const struct joiner *j)
{
    struct hasher *h = hasher_new();
    joiner_digest(j, h);
    struct digest d = hasher_digest(h);
    hasher_free(h);
    return d;
}

static struct joiner *rebuild(const struct state_join_options *o, struct buf *blocks, uint64_t low,
                              uint64_t next)
{
    struct joiner *j = joiner_of(o);
    for (uint64_t c = low; c < next; c++) {
        struct err err = {0};
        struct rd from = rd_of(blocks[c].data, blocks[c].len);
        cr_assert_eq(joiner_block_get(j, c, &from, &err), 0, "%s", err.message);
        cr_assert_eq(rd_left(&from), 0);
    }
    joiner_recovered(j);
    return j;
}

static void restart_round(struct rng *r, const struct state_join_options *o)
{
    static struct buf blocks[EVENTS];
    static struct row rows[EVENTS];
    struct samples_seen one = {0};
    struct samples_seen two = {0};
    struct joiner *whole = joiner_of(o);
    struct joiner *broken = joiner_of(o);
    uint64_t commit = 0;
    log_random(r, rows, EVENTS, 1 + (int64_t)rng_below(r, 30), 10);
    for (int k = 0; k < EVENTS; k++) {
        row_feed(whole, &rows[k]);
        row_feed(broken, &rows[k]);
        if (rng_below(r, 3) > 0) {
            joiner_advance(whole, rows[k].watermark, seen_add, &one);
            joiner_advance(broken, rows[k].watermark, seen_add, &two);
        }
        if (rng_below(r, 5) > 0)
            continue;
        buf_clear(&blocks[commit]);
        joiner_block_put(broken, commit, &blocks[commit]);
        commit++;
        if (rng_below(r, 3) > 0)
            continue;
        uint64_t low = joiner_low(broken, commit);
        joiner_free(broken);
        broken = rebuild(o, blocks, low < commit ? low : commit - 1, commit);
        cr_assert(digest_equal(digest_of(whole), digest_of(broken)), "row %d", k);
        cr_assert_eq(joiner_low(broken, commit), low);
    }
    joiner_advance(whole, INT64_MAX, seen_add, &one);
    joiner_advance(broken, INT64_MAX, seen_add, &two);
    seen_expect(&one, &two);
    cr_assert(digest_equal(digest_of(whole), digest_of(broken)));
    cr_assert_eq(joiner_low(broken, commit), joiner_low(whole, commit));
    for (uint64_t c = 0; c < commit; c++)
        buf_done(&blocks[c]);
    seen_done(&one);
    seen_done(&two);
    joiner_free(whole);
    joiner_free(broken);
}

#endif
