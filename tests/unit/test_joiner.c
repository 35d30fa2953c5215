// SPDX-License-Identifier: Apache-2.0
// The joiner against two twins: one written from docs/CONTRACT.md over a whole log (emit: wait), and one that
// goes step by step with plain arrays (every mode). Then: the order of arrival within out_of_order, the cuts
// of joiner_advance, and restarts from blocks decide nothing.
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
    struct joiner *j = joiner_new(options);
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

// ---- the twin over a whole log ----------------------------------------------------------------------------

// The first row, from `from` on, after which the watermark is at `ts` or above; n: only the end of time is.
static int watermark_reaches(const struct row *rows, int n, int from, int64_t ts)
{
    while (from < n && rows[from].watermark < ts)
        from++;
    return from;
}

static bool twin_matches(const struct row *imp, const struct row *fb)
{
    return imp->i.user == fb->f.user && imp->i.item == fb->f.item && imp->ts <= fb->ts &&
           fb->ts < imp->ts + WINDOW &&
           (imp->i.request == 0 || fb->f.request == 0 || imp->i.request == fb->f.request);
}

// The impression that feedback k belongs to, or -1.
static int twin_match(const struct row *rows, int n, int k)
{
    bool late = k > 0 && rows[k].ts < rows[k - 1].watermark;
    int settled = late ? k : watermark_reaches(rows, n, k, rows[k].ts + 1);
    int best = -1;
    for (int i = 0; i < n && i <= settled; i++) {
        if (rows[i].is_feedback || !twin_matches(&rows[i], &rows[k]))
            continue;
        int left = watermark_reaches(rows, n, i, rows[i].ts + WINDOW);
        if (left < settled || (late && left < k))
            continue;
        if (best < 0 || rows[i].ts >= rows[best].ts)
            best = i;
    }
    return best;
}

static int feedback_order(const void *a, const void *b)
{
    const struct row *const *x = a;
    const struct row *const *y = b;
    if ((*x)->ts != (*y)->ts)
        return (*x)->ts < (*y)->ts ? -1 : 1;
    return *x < *y ? -1 : *x > *y;
}

// The labels of a sample from all feedback that belongs to it, in order of (ts, arrival).
static void twin_label(struct sample *s, const struct row **feedback, size_t n, enum state_watch of)
{
    qsort(feedback, n, sizeof(const struct row *), feedback_order);
    for (size_t k = 0; k < n; k++) {
        const struct state_feedback *f = &feedback[k]->f;
        bool had = s->labels >> f->action & 1;
        s->labels |= 1u << f->action;
        if (f->action != ACTION_WATCH) {
            s->label_ts[f->action] = had ? s->label_ts[f->action] : f->ts;
            continue;
        }
        if (of != STATE_WATCH_MAX || !had || f->watch_ms > s->watch_ms) {
            s->label_ts[ACTION_WATCH] = f->ts;
            s->watch_ms = of == STATE_WATCH_SUM ? s->watch_ms + f->watch_ms : f->watch_ms;
        }
    }
}

struct twin_row {
    int left; // after which row
    struct sample s;
};

static int twin_order(const void *a, const void *b)
{
    const struct twin_row *x = a;
    const struct twin_row *y = b;
    if (x->left != y->left)
        return x->left - y->left;
    if (x->s.emitted_ts != y->s.emitted_ts)
        return x->s.emitted_ts < y->s.emitted_ts ? -1 : 1;
    return x->s.impression < y->s.impression ? -1 : 1;
}

static void twin_run(const struct row *rows, int n, enum state_watch of, struct samples_seen *ret_seen,
                     struct state_join_counts *ret_counts)
{
    int *match = mem_array((size_t)n, sizeof *match);
    struct twin_row *out = mem_array((size_t)n, sizeof *out);
    const struct row **mine = mem_array((size_t)n, sizeof(const struct row *));
    size_t samples = 0;
    for (int k = 0; k < n; k++) {
        match[k] = -1;
        if (!rows[k].is_feedback || (labels_all >> rows[k].f.action & 1) == 0)
            continue;
        match[k] = twin_match(rows, n, k);
        ret_counts->joined += match[k] >= 0;
        ret_counts->orphans += match[k] < 0;
    }
    for (int i = 0; i < n; i++) {
        if (rows[i].is_feedback)
            continue;
        size_t m = 0;
        for (int k = 0; k < n; k++)
            if (match[k] == i)
                mine[m++] = &rows[k];
        struct sample s = {.body = rows[i].i.body,
                           .impression = samples,
                           .impression_ts = rows[i].ts,
                           .emitted_ts = rows[i].ts + WINDOW,
                           .keep_rate = 1,
                           .partition = rows[i].i.partition};
        twin_label(&s, mine, m, of);
        out[samples++] = (struct twin_row){watermark_reaches(rows, n, i, rows[i].ts + WINDOW), s};
    }
    qsort(out, samples, sizeof *out, twin_order);
    for (size_t k = 0; k < samples; k++)
        seen_add(ret_seen, &out[k].s);
    free(match);
    free(out);
    free(mine);
}

Test(joiner, agrees_with_the_contract_over_whole_logs)
{
    struct rng r = rng_of(1);
    static struct row rows[EVENTS];
    for (int round = 0; round < 60; round++) {
        enum state_watch of = (enum state_watch)(round % 3);
        struct samples_seen seen = {0};
        struct samples_seen expected = {0};
        struct state_join_counts counts;
        struct state_join_counts want = {0};
        struct state_join_options options = options_of(STATE_EMIT_WAIT, of);
        log_random(&r, rows, EVENTS, 1 + round % 20, round % 2 ? 10 : 1000000);
        log_run(&options, rows, EVENTS, &seen, &counts);
        twin_run(rows, EVENTS, of, &expected, &want);
        seen_expect(&seen, &expected);
        cr_assert_eq(counts.joined, want.joined);
        cr_assert_eq(counts.orphans, want.orphans);
        cr_assert_eq(counts.samples, expected.n);
        cr_assert(want.joined > 0 && want.orphans > 0);
        cr_assert(counts.held == 0 && counts.pending == 0);
        seen_done(&seen);
        seen_done(&expected);
    }
}

// ---- the twin that goes step by step ----------------------------------------------------------------------

struct naive_pending {
    struct state_impression i;
    uint64_t arrival;
    struct sample s; // its labels so far
    bool out;
};

struct naive {
    struct state_join_options o;
    struct naive_pending p[STEPS];
    int n;
    struct state_feedback held[STEPS];
    int n_held;
    struct samples_seen ready;
    uint64_t arrivals;
    int64_t watermark;
    struct state_join_counts c;
};

static void naive_out(struct naive *v, struct naive_pending *p, int64_t ts, bool corrected)
{
    struct sample s = p->s;
    s.body = p->i.body;
    s.impression = p->arrival;
    s.impression_ts = p->i.ts;
    s.partition = p->i.partition;
    s.emitted_ts = ts;
    s.corrected = corrected;
    s.keep_rate = s.labels != 0 ? 1.0f : (float)v->o.keep_negatives;
    uint64_t name[4] = {p->i.user, p->i.item, p->i.request, (uint64_t)p->i.ts};
    if (s.labels == 0 &&
        (double)hash_bytes(name, sizeof name) / 18446744073709551616.0 >= v->o.keep_negatives) {
        v->c.negatives_dropped++;
        return;
    }
    v->c.samples++;
    v->c.corrected += corrected;
    seen_add(&v->ready, &s);
}

static int naive_least(const struct naive *v)
{
    int least = -1;
    for (int k = 0; k < v->n; k++)
        if (least < 0 || v->p[k].i.ts < v->p[least].i.ts) // arrival goes up with k
            least = k;
    return least;
}

static void naive_leave(struct naive *v, int k, int64_t ts)
{
    if (!v->p[k].out)
        naive_out(v, &v->p[k], ts, false);
    memmove(&v->p[k], &v->p[k + 1], (size_t)(v->n - k - 1) * sizeof v->p[0]);
    v->n--;
}

static void naive_settle(struct naive *v, const struct state_feedback *f)
{
    struct naive_pending *best = NULL;
    for (int k = 0; k < v->n; k++) {
        const struct row imp = {.i = v->p[k].i, .ts = v->p[k].i.ts};
        const struct row fb = {.f = *f, .ts = f->ts};
        if (twin_matches(&imp, &fb) && (best == NULL || imp.ts >= best->i.ts))
            best = &v->p[k];
    }
    v->c.joined += best != NULL;
    v->c.orphans += best == NULL;
    if (best == NULL)
        return;
    struct sample before = best->s;
    struct sample *s = &best->s;
    bool had = s->labels >> f->action & 1;
    int64_t *ts = &s->label_ts[f->action];
    s->labels |= 1u << f->action;
    if (f->action != ACTION_WATCH) {
        *ts = had && *ts < f->ts ? *ts : f->ts;
    } else if (v->o.watch_of == STATE_WATCH_SUM) {
        s->watch_ms += f->watch_ms;
        *ts = had && *ts > f->ts ? *ts : f->ts;
    } else if (v->o.watch_of == STATE_WATCH_LAST) {
        s->watch_ms = had && *ts > f->ts ? s->watch_ms : f->watch_ms;
        *ts = had && *ts > f->ts ? *ts : f->ts;
    } else if (!had || f->watch_ms > s->watch_ms || (f->watch_ms == s->watch_ms && f->ts < *ts)) {
        s->watch_ms = f->watch_ms;
        *ts = f->ts;
    }
    if (v->o.emit != STATE_EMIT_FIRST_LABEL)
        return;
    if (!best->out)
        naive_out(v, best, f->ts, false);
    else if (!v->o.corrections)
        v->c.late_labels++;
    else if (memcmp(&before, s, sizeof before) != 0)
        naive_out(v, best, f->ts, true);
    best->out = true;
}

static void naive_feed(struct naive *v, const struct row *row)
{
    if (!row->is_feedback) {
        v->c.impressions++;
        v->p[v->n++] = (struct naive_pending){.i = row->i, .arrival = v->arrivals++};
        if (v->n <= (int)v->o.max_pending)
            return;
        int least = naive_least(v);
        v->c.left_early++;
        naive_leave(v, least, v->watermark != INT64_MIN ? v->watermark : v->p[least].i.ts);
    } else if (labels_all >> row->f.action & 1) {
        if (row->ts < v->watermark)
            naive_settle(v, &row->f);
        else
            v->held[v->n_held++] = row->f;
    }
}

static void naive_advance(struct naive *v, int64_t watermark)
{
    v->watermark = watermark > v->watermark ? watermark : v->watermark;
    for (;;) {
        int held = -1;
        for (int k = 0; k < v->n_held; k++)
            if (held < 0 || v->held[k].ts < v->held[held].ts)
                held = k;
        int least = naive_least(v);
        int64_t due = least >= 0 ? v->p[least].i.ts + WINDOW : INT64_MAX;
        if (least >= 0 && due <= v->watermark && (held < 0 || due <= v->held[held].ts)) {
            naive_leave(v, least, due);
        } else if (held >= 0 && v->held[held].ts < v->watermark) {
            struct state_feedback f = v->held[held];
            memmove(&v->held[held], &v->held[held + 1], (size_t)(v->n_held - held - 1) * sizeof f);
            v->n_held--;
            naive_settle(v, &f);
        } else {
            return;
        }
    }
}

static void counts_expect(const struct joiner *j, const struct naive *v)
{
    struct state_join_counts c;
    joiner_counts(j, &c);
    cr_assert_eq(c.impressions, v->c.impressions);
    cr_assert_eq(c.joined, v->c.joined);
    cr_assert_eq(c.orphans, v->c.orphans);
    cr_assert_eq(c.samples, v->c.samples);
    cr_assert_eq(c.corrected, v->c.corrected);
    cr_assert_eq(c.negatives_dropped, v->c.negatives_dropped);
    cr_assert_eq(c.left_early, v->c.left_early);
    cr_assert_eq(c.late_labels, v->c.late_labels);
    cr_assert_eq(c.held, (uint64_t)v->n_held);
    uint64_t waiting = 0;
    for (int k = 0; k < v->n; k++)
        waiting += !v->p[k].out;
    cr_assert_eq(c.pending, waiting);
}

static void naive_round(struct rng *r, const struct state_join_options *options)
{
    struct naive *v = mem_zalloc(sizeof *v);
    static struct row rows[EVENTS];
    struct samples_seen seen = {0};
    struct joiner *j = joiner_new(options);
    v->o = *options;
    v->watermark = INT64_MIN;
    log_random(r, rows, EVENTS, 1 + (int64_t)rng_below(r, 12), 10);
    for (int k = 0; k < EVENTS; k++) {
        row_feed(j, &rows[k]);
        naive_feed(v, &rows[k]);
        if (rng_below(r, 3) == 0) // so that some things wait for the next advance
            continue;
        joiner_advance(j, rows[k].watermark, seen_add, &seen);
        naive_advance(v, rows[k].watermark);
        counts_expect(j, v);
    }
    joiner_advance(j, INT64_MAX, seen_add, &seen);
    naive_advance(v, INT64_MAX);
    counts_expect(j, v);
    seen_expect(&seen, &v->ready);
    seen_done(&seen);
    seen_done(&v->ready);
    joiner_free(j);
    free(v);
}

static struct state_join_options options_random(struct rng *r)
{
    struct state_join_options o =
        options_of((enum state_emit)rng_below(r, 2), (enum state_watch)rng_below(r, 3));
    o.corrections = rng_below(r, 2);
    o.keep_negatives = rng_below(r, 2) ? 1 : 0.3;
    o.max_pending = rng_below(r, 2) ? 1u << 20 : 1 + (uint32_t)rng_below(r, 30);
    return o;
}

Test(joiner, agrees_with_the_naive_twin_in_every_mode)
{
    struct rng r = rng_of(2);
    for (int round = 0; round < 80; round++) {
        struct state_join_options o = options_random(&r);
        naive_round(&r, &o);
    }
}

// ---- what decides nothing ---------------------------------------------------------------------------------

// Bodies stand for the impression here, for its number follows arrival.
static void same_but_numbers(struct samples_seen *a, struct samples_seen *b)
{
    for (size_t k = 0; k < a->n && k < b->n; k++)
        a->s[k].impression = b->s[k].impression = 0;
    seen_expect(a, b);
}

Test(joiner, order_of_arrival_within_out_of_order_decides_nothing)
{
    struct rng r = rng_of(3);
    static struct row rows[EVENTS];
    for (int round = 0; round < 40; round++) {
        struct state_join_options o = options_random(&r);
        o.max_pending = 1 << 20; // whom the bound takes depends on who has come
        struct samples_seen runs[2] = {{0}, {0}};
        struct state_join_counts counts;
        int64_t ts = 1000;
        for (int k = 0; k < EVENTS; k++)
            rows[k] = row_random(&r, ts += 1 + (int64_t)rng_below(&r, 8));
        for (int shuffled = 0; shuffled < 2; shuffled++) {
            int64_t newest = INT64_MIN;
            for (int k = 0; shuffled && k < 20 * EVENTS; k++) {
                int at = (int)rng_below(&r, EVENTS - 1);
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
            log_run(&o, rows, EVENTS, &runs[shuffled], &counts);
        }
        same_but_numbers(&runs[0], &runs[1]);
        seen_done(&runs[0]);
        seen_done(&runs[1]);
    }
}

Test(joiner, cuts_of_advance_decide_nothing)
{
    struct rng r = rng_of(4);
    static struct row rows[EVENTS];
    for (int round = 0; round < 40; round++) {
        struct state_join_options o = options_random(&r);
        struct samples_seen one = {0};
        struct samples_seen many = {0};
        struct joiner *a = joiner_new(&o);
        struct joiner *b = joiner_new(&o);
        int64_t watermark = 900;
        log_random(&r, rows, EVENTS, 10, 10);
        for (int k = 0; k < EVENTS; k++) {
            row_feed(a, &rows[k]);
            row_feed(b, &rows[k]);
            if (rng_below(&r, 10) > 0)
                continue;
            for (; watermark < rows[k].watermark; watermark += 1 + (int64_t)rng_below(&r, 20))
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
}

// ---- restarts ---------------------------------------------------------------------------------------------

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
    struct joiner *j = joiner_new(o);
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
    struct joiner *whole = joiner_new(o);
    struct joiner *broken = joiner_new(o);
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

Test(joiner, a_restart_from_blocks_changes_nothing)
{
    struct rng r = rng_of(5);
    for (int round = 0; round < 120; round++) {
        struct state_join_options o = options_random(&r);
        restart_round(&r, &o);
    }
}

Test(joiner, a_damaged_block_is_refused_and_harmless)
{
    struct rng r = rng_of(6);
    static struct row rows[EVENTS];
    struct state_join_options o = options_of(STATE_EMIT_FIRST_LABEL, STATE_WATCH_MAX);
    struct joiner *j = joiner_new(&o);
    struct samples_seen seen = {0};
    struct buf block = {0};
    log_random(&r, rows, EVENTS, 5, 10);
    for (int k = 0; k < EVENTS; k++) {
        row_feed(j, &rows[k]);
        joiner_advance(j, rows[k].watermark, seen_add, &seen);
    }
    joiner_block_put(j, 3, &block);
    for (size_t cut = 0; cut < block.len; cut += 7) {
        struct joiner *b = joiner_new(&o);
        struct rd from = rd_of(block.data, cut);
        struct err err = {0};
        cr_assert_eq(joiner_block_get(b, 3, &from, &err), -1);
        joiner_free(b);
    }
    for (int k = 0; k < 500; k++) {
        struct joiner *b = joiner_new(&o);
        uint8_t *byte = &block.data[rng_below(&r, block.len)];
        uint8_t was = *byte;
        *byte = (uint8_t)rng_u64(&r);
        struct rd from = rd_of(block.data, block.len);
        if (joiner_block_get(b, 3, &from, NULL) == 0)
            joiner_advance(b, INT64_MAX, seen_add, &seen);
        *byte = was;
        joiner_free(b);
    }
    buf_done(&block);
    seen_done(&seen);
    joiner_free(j);
}

// ---- single promises --------------------------------------------------------------------------------------

Test(joiner, a_change_of_mode_or_window_loses_and_doubles_nothing)
{
    struct state_join_options wait = options_of(STATE_EMIT_WAIT, STATE_WATCH_MAX);
    struct state_join_options first = options_of(STATE_EMIT_FIRST_LABEL, STATE_WATCH_MAX);
    first.window_ms = WINDOW / 2;
    struct state_impression i = {.user = 1, .item = 2, .ts = 1000};
    struct state_feedback f = {.user = 1, .item = 2, .ts = 1001, .action = ACTION_CLICK};
    const struct state_join_options *modes[2][2] = {{&wait, &first}, {&first, &wait}};
    for (int m = 0; m < 2; m++) {
        struct samples_seen seen = {0};
        struct buf block = {0};
        struct joiner *j = joiner_new(modes[m][0]);
        joiner_impression(j, &i);
        joiner_feedback(j, &f);
        joiner_advance(j, 1002, seen_add, &seen);
        joiner_block_put(j, 0, &block);
        joiner_free(j);
        j = rebuild(modes[m][1], &block, 0, 1);
        joiner_advance(j, INT64_MAX, seen_add, &seen);
        cr_assert_eq(seen.n, 1);
        cr_assert_eq(seen.s[0].labels, 1u << ACTION_CLICK);
        joiner_free(j);
        buf_done(&block);
        seen_done(&seen);
    }
}

Test(joiner, a_late_impression_leaves_though_the_watermark_stands)
{
    struct state_join_options o = options_of(STATE_EMIT_WAIT, STATE_WATCH_MAX);
    struct samples_seen seen = {0};
    struct joiner *j = joiner_new(&o);
    joiner_advance(j, 5000, seen_add, &seen);
    joiner_impression(j, &(struct state_impression){.user = 1, .item = 2, .ts = 1000});
    joiner_feedback(j, &(struct state_feedback){.user = 1, .item = 2, .ts = 1100, .action = ACTION_LIKE});
    joiner_advance(j, 5000, seen_add, &seen);
    cr_assert_eq(seen.n, 1);
    cr_assert_eq(seen.s[0].emitted_ts, 1000 + WINDOW);
    cr_assert_eq(seen.s[0].label_ts[ACTION_LIKE], 1100);
    joiner_free(j);
    seen_done(&seen);
}

Test(joiner, shows_what_a_user_waits_for_oldest_first)
{
    struct state_join_options o = options_of(STATE_EMIT_WAIT, STATE_WATCH_MAX);
    struct joiner *j = joiner_new(&o);
    struct joiner_pending p[4];
    for (uint64_t k = 0; k < 6; k++)
        joiner_impression(j, &(struct state_impression){
                                 .user = 1 + k % 2, .item = k, .request = k + 10, .ts = 1000 - (int64_t)k});
    cr_assert_eq(joiner_of_user(j, 2, 4, p), 3);
    cr_assert(p[0].item == 5 && p[1].item == 3 && p[2].item == 1);
    cr_assert(p[0].ts == 995 && p[0].due == 995 + WINDOW && p[0].request == 15);
    cr_assert_eq(joiner_of_user(j, 1, 2, p), 2);
    cr_assert_eq(p[0].item, 4);
    cr_assert_eq(joiner_of_user(j, 3, 4, p), 0);
    cr_assert(joiner_bytes(j) > 0);
    joiner_free(j);
}
