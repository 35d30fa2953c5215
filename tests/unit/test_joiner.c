// SPDX-License-Identifier: Apache-2.0
// The joiner against two twins: one written from docs/CONTRACT.md over a whole log (emit: wait), and one that
// goes step by step with plain arrays (every mode). Then: the order of arrival within out_of_order, the cuts
// of joiner_advance, and restarts from blocks decide nothing.
#include "joiner_log.h"

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
    uint32_t told;   // those of its last sample
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
    bool kept = (double)hash_bytes(name, sizeof name) / 18446744073709551616.0 < v->o.keep_negatives;
    if (s.labels == 0 && !kept) {
        v->c.negatives_dropped++;
        return;
    }
    s.told = corrected ? p->told : 0;
    s.masked = kept ? 0 : labels_all & ~(corrected ? s.told : s.labels);
    p->told = s.labels;
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

Test(joiner, order_of_arrival_within_out_of_order_decides_nothing)
{
    struct rng r = rng_of(3);
    for (int round = 0; round < 40; round++)
        order_round(&r, options_random(&r));
}

Test(joiner, cuts_of_advance_decide_nothing)
{
    struct rng r = rng_of(4);
    for (int round = 0; round < 40; round++) {
        struct state_join_options o = options_random(&r);
        cuts_round(&r, &o);
    }
}

// ---- restarts ---------------------------------------------------------------------------------------------

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

enum { LISTED_USERS = 50, LISTED = 40000, LISTED_WINDOW = 3000 };

struct listed {
    struct joiner *j;
    uint64_t user[LISTED];
    int64_t ts[LISTED];
    int n, turns;
    int64_t watermark;
};

// The joiner beside a look through all that came. Also called while chains are made larger.
static void listed_compare(void *context)
{
    struct listed *l = context;
    struct joiner_pending p[LISTED_WINDOW];
    uint64_t user = 1 + (uint64_t)l->turns++ % LISTED_USERS;
    uint32_t n = joiner_of_user(l->j, user, LISTED_WINDOW, p);
    uint32_t found = 0;
    for (int k = l->n - 2 * LISTED_WINDOW > 0 ? l->n - 2 * LISTED_WINDOW : 0; k < l->n; k++)
        if (l->user[k] == user && l->ts[k] + LISTED_WINDOW > l->watermark) {
            cr_assert_lt(found, n);
            cr_assert(p[found].item == (uint64_t)k && p[found].ts == l->ts[k]);
            found++;
        }
    cr_assert_eq(found, n);
}

Test(joiner, shows_all_that_a_user_waits_for_while_others_come_and_go)
{
    struct state_join_options o = options_of(STATE_EMIT_WAIT, STATE_WATCH_MAX);
    struct samples_seen seen = {0};
    struct rng r = rng_of(3);
    static struct listed l;
    o.window_ms = LISTED_WINDOW;
    l.j = joiner_new(&o);
    joiner_turn_set(l.j, listed_compare, &l);
    l.watermark = -1;
    for (int64_t ts = 0; l.n < LISTED; ts++) {
        l.user[l.n] = 1 + rng_below(&r, LISTED_USERS);
        l.ts[l.n] = ts;
        joiner_impression(l.j,
                          &(struct state_impression){.user = l.user[l.n], .item = (uint64_t)l.n, .ts = ts});
        l.n++;
        if (rng_below(&r, 20) == 0)
            listed_compare(&l);
        joiner_make_room(l.j);
        if (rng_below(&r, 100) > 0)
            continue;
        l.watermark = ts - 1;
        joiner_advance(l.j, l.watermark, seen_add, &seen);
        seen.n = 0;
    }
    cr_assert_gt(l.turns, LISTED / 25);
    joiner_free(l.j);
    seen_done(&seen);
}

// Labels that a later config does not have still stand in blocks.
Test(joiner, label_sets_widen_for_an_older_config)
{
    enum { N = 300, FAR = 20 };
    struct state_join_options many = options_of(STATE_EMIT_WAIT, STATE_WATCH_MAX);
    struct state_join_options few = options_of(STATE_EMIT_WAIT, STATE_WATCH_MAX);
    struct samples_seen seen = {0};
    struct buf block = {0};
    many.labels |= 1u << FAR;
    few.labels = 1u << ACTION_CLICK;
    struct joiner *j = joiner_new(&many);
    for (uint64_t k = 0; k < N; k++) {
        joiner_impression(j, &(struct state_impression){.user = k + 1, .item = 2, .ts = 1000});
        const uint8_t action = k % 2 == 0 ? ACTION_CLICK : FAR;
        joiner_feedback(j, &(struct state_feedback){
                               .user = k + 1, .item = 2, .ts = 1000 + (int64_t)k % 7, .action = action});
    }
    joiner_advance(j, 1004, seen_add, &seen); // of the others the feedback is held
    joiner_block_put(j, 0, &block);
    joiner_free(j);
    j = rebuild(&few, &block, 0, 1);
    joiner_advance(j, INT64_MAX, seen_add, &seen);
    cr_assert_eq(seen.n, N);
    for (uint64_t k = 0; k < N; k++) {
        const uint8_t action = k % 2 == 0 ? ACTION_CLICK : FAR;
        cr_assert_eq(seen.s[k].labels, 1u << action);
        cr_assert_eq(seen.s[k].label_ts[action], 1000 + (int64_t)k % 7);
    }
    joiner_free(j);
    buf_done(&block);
    seen_done(&seen);
}

Test(joiner, feedback_beyond_its_bound_is_settled)
{
    enum { BOUND = 65536, MORE = 1000 };
    struct state_join_options o = options_of(STATE_EMIT_WAIT, STATE_WATCH_MAX);
    struct state_join_counts counts;
    o.max_pending = 1000;
    struct joiner *j = joiner_new(&o);
    for (uint64_t k = 0; k < BOUND + MORE; k++)
        joiner_feedback(
            j, &(struct state_feedback){.user = k, .item = 2, .ts = (int64_t)k, .action = ACTION_CLICK});
    joiner_counts(j, &counts);
    cr_assert(counts.held == BOUND && counts.settled_early == MORE && counts.orphans == MORE);
    joiner_free(j);
}

Test(joiner, keeps_to_what_it_may_take)
{
    struct state_join_options o = options_of(STATE_EMIT_FIRST_LABEL, STATE_WATCH_MAX);
    o.max_pending = 100000;
    o.remember_ms = 10 * WINDOW;
    struct samples_seen seen = {0};
    struct joiner *j = joiner_new(&o);
    for (uint64_t k = 0; k < 4 * o.max_pending; k++) {
        const int64_t ts = (int64_t)(k / 200);
        joiner_impression(j, &(struct state_impression){.user = k, .item = 2, .ts = ts});
        joiner_feedback(j, &(struct state_feedback){.user = k, .item = 2, .ts = ts, .action = ACTION_WATCH});
        if (k % 1000 == 0) {
            struct buf block = {0};
            joiner_advance(j, ts - 1, seen_add, &seen);
            joiner_block_put(j, k / 1000, &block);
            buf_done(&block);
            seen.n = 0;
        }
        cr_assert(joiner_bytes(j) <= joiner_bytes_most(&o) + (1 << 20)); // lists of a block, sources
    }
    cr_assert(joiner_bytes(j) > joiner_bytes_most(&o) / 2);
    joiner_free(j);
    seen_done(&seen);
}
