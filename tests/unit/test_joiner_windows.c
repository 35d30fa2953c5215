// SPDX-License-Identifier: Apache-2.0
// Windows by label, emission policies, rates by label and thinning, against a twin that keeps every impression in
// an array and, for one advance, sorts what happens in it by time. Then, as for the joiner's plain modes: order of
// arrival, cuts and restarts decide nothing.
#include <math.h>

#include "joiner_log.h"

// ---- the twin ---------------------------------------------------------------------------------------------

struct twin_impression {
    struct state_impression i;
    struct sample s; // labels so far
    uint32_t told;
    bool out;  // its sample's time has come, be it kept or not
    bool gone; // nobody knows it any more
    float rate;
};

struct twin {
    struct state_join_options o;
    struct twin_impression p[EVENTS];
    int n;
    struct state_feedback held[EVENTS];
    int n_held;
    int64_t watermark;
    struct samples_seen seen;
    struct state_join_counts c;
};

static int64_t twin_window(const struct twin *t, uint8_t action)
{
    return t->o.label_window_ms[action] > 0 ? t->o.label_window_ms[action] : t->o.window_ms;
}

static int64_t twin_known(const struct twin *t)
{
    int64_t known = t->o.window_ms > t->o.remember_ms ? t->o.window_ms : t->o.remember_ms;
    for (uint8_t a = 0; a < ACTION_MAX; a++)
        if ((t->o.labels >> a & 1) && twin_window(t, a) > known)
            known = twin_window(t, a);
    return known;
}

static double twin_keep(const struct twin *t, int action)
{
    return t->o.keep[action] > 0 ? t->o.keep[action] : t->o.keep_negatives;
}

static uint64_t twin_hash(const struct twin_impression *p)
{
    uint64_t name[4] = {p->i.user, p->i.item, p->i.request, (uint64_t)p->i.ts};
    return hash_bytes(name, sizeof name);
}

static double twin_u(const struct twin_impression *p)
{
    return (double)twin_hash(p) / 18446744073709551616.0;
}

static void twin_put(struct twin *t, struct twin_impression *p, int64_t ts, bool corrected)
{
    struct sample s = p->s;
    s.body = p->i.body;
    s.impression = (uint64_t)(p - t->p);
    s.impression_ts = p->i.ts;
    s.partition = p->i.partition;
    s.emitted_ts = ts;
    s.corrected = corrected;
    s.told = corrected ? p->told : 0;
    s.keep_rate = s.labels != 0 ? p->rate : (float)t->o.keep_negatives;
    for (int a = 0; a < ACTION_MAX; a++) {
        if ((t->o.labels >> a & 1) == 0)
            continue;
        bool had = (corrected ? s.told : s.labels) >> a & 1;
        if (!had && twin_u(p) >= twin_keep(t, a))
            s.masked |= 1u << a;
        if (t->o.keep_by_label)
            s.keep_rates[a] = (float)twin_keep(t, a);
    }
    s.rated = t->o.keep_by_label ? t->o.labels : 0;
    t->c.samples++;
    t->c.corrected += corrected;
    seen_add(&t->seen, &s);
}

// The first sample of an impression, with or without labels.
static void twin_first(struct twin *t, struct twin_impression *p, int64_t ts)
{
    if (p->s.labels == 0 && twin_u(p) >= t->o.keep_negatives) {
        t->c.negatives_dropped++;
        return;
    }
    uint64_t count = log_count(NULL, p->i.item);
    bool thinned = p->s.labels != 0 && t->o.thin.above > 0 && count > t->o.thin.above;
    double share = thinned ? pow((double)t->o.thin.above / (double)count, t->o.thin.power) : 1;
    bool kept = share >= 1 || (double)hash_mix(twin_hash(p)) / 18446744073709551616.0 < share;
    p->rate = kept ? (float)share : 0;
    p->told = p->s.labels;
    t->c.positives_thinned += !kept;
    if (kept)
        twin_put(t, p, ts, false);
}

static void twin_leave(struct twin *t, struct twin_impression *p, int64_t ts)
{
    if (!p->out)
        twin_first(t, p, ts);
    p->out = true;
}

// Returns whether anything changed.
static bool twin_label(struct sample *s, const struct state_feedback *f)
{
    struct sample before = *s;
    bool had = s->labels >> f->action & 1;
    int64_t *ts = &s->label_ts[f->action];
    s->labels |= 1u << f->action;
    if (f->action != ACTION_WATCH) {
        *ts = had && *ts < f->ts ? *ts : f->ts;
    } else if (!had || f->watch_ms > s->watch_ms || (f->watch_ms == s->watch_ms && f->ts < *ts)) {
        s->watch_ms = f->watch_ms;
        *ts = f->ts;
    }
    return memcmp(&before, s, sizeof before) != 0;
}

static void twin_settle(struct twin *t, const struct state_feedback *f)
{
    struct twin_impression *best = NULL;
    bool known = false;
    for (int k = 0; k < t->n; k++) {
        struct twin_impression *p = &t->p[k];
        bool request = p->i.request == 0 || f->request == 0 || p->i.request == f->request;
        if (p->gone || p->i.user != f->user || p->i.item != f->item || !request || f->ts < p->i.ts)
            continue;
        known |= f->ts < p->i.ts + twin_known(t);
        if (f->ts < p->i.ts + twin_window(t, f->action) && (best == NULL || p->i.ts >= best->i.ts))
            best = p;
    }
    t->c.joined += best != NULL;
    t->c.after_window[f->action] += best == NULL && known;
    t->c.orphans += best == NULL && !known;
    if (best == NULL)
        return;
    bool changed = twin_label(&best->s, f);
    bool tells_all = t->o.emit == STATE_EMIT_WAIT || t->o.corrections;
    if (!best->out && t->o.emit == STATE_EMIT_FIRST_LABEL) {
        twin_leave(t, best, f->ts);
    } else if (best->out && !tells_all && best->told != 0) {
        t->c.late_labels++;
    } else if (best->out && changed) {
        if (best->told == 0 && twin_u(best) >= t->o.keep_negatives)
            twin_first(t, best, f->ts);
        else if (best->rate > 0)
            twin_put(t, best, f->ts, true);
        best->told = best->s.labels;
    }
}

static void twin_feed(struct twin *t, const struct row *row)
{
    if (row->is_feedback) {
        if ((t->o.labels >> row->f.action & 1) == 0)
            return;
        if (row->ts < t->watermark)
            twin_settle(t, &row->f);
        else
            t->held[t->n_held++] = row->f;
        return;
    }
    t->c.impressions++;
    t->p[t->n++] = (struct twin_impression){.i = row->i, .rate = 1};
    struct twin_impression *least = NULL;
    uint32_t known = 0;
    for (int k = 0; k < t->n; k++) {
        known += !t->p[k].gone;
        if (!t->p[k].gone && (least == NULL || t->p[k].i.ts < least->i.ts))
            least = &t->p[k];
    }
    if (known <= t->o.max_pending)
        return;
    // A shadow of first_label waits still: it counts as one that leaves early.
    int64_t leaves = t->o.emit == STATE_EMIT_FAKE_NEGATIVE ? least->i.ts + 1 : least->i.ts + t->o.window_ms;
    bool waits = !least->out || (t->o.emit == STATE_EMIT_FIRST_LABEL && leaves > t->watermark);
    t->c.left_early += waits;
    t->c.forgotten_early += !waits;
    twin_leave(t, least, t->watermark != INT64_MIN ? t->watermark : least->i.ts);
    least->gone = true;
}

struct twin_step {
    int64_t ts;
    int kind; // 0: leaves, 1: settles
    int64_t order_ts;
    int at;
};

static int step_order(const void *a, const void *b)
{
    const struct twin_step *x = a;
    const struct twin_step *y = b;
    if (x->ts != y->ts)
        return x->ts < y->ts ? -1 : 1;
    return x->kind != y->kind ? x->kind - y->kind : x->at - y->at;
}

static void twin_advance(struct twin *t, int64_t watermark)
{
    static struct twin_step steps[2 * EVENTS];
    int n = 0;
    int held = 0;
    t->watermark = watermark > t->watermark ? watermark : t->watermark;
    for (int k = 0; k < t->n; k++) {
        bool fake = t->o.emit == STATE_EMIT_FAKE_NEGATIVE;
        int64_t ts = fake ? t->p[k].i.ts : t->p[k].i.ts + t->o.window_ms;
        if (!t->p[k].gone && !t->p[k].out && (fake ? ts < t->watermark : ts <= t->watermark))
            steps[n++] = (struct twin_step){.ts = ts, .at = k};
    }
    for (int k = 0; k < t->n_held; k++)
        if (t->held[k].ts < t->watermark)
            steps[n++] = (struct twin_step){.ts = t->held[k].ts, .kind = 1, .at = k};
    qsort(steps, (size_t)n, sizeof *steps, step_order);
    for (int k = 0; k < n; k++) {
        if (steps[k].kind == 0)
            twin_leave(t, &t->p[steps[k].at], steps[k].ts);
        else
            twin_settle(t, &t->held[steps[k].at]);
    }
    for (int k = 0; k < t->n_held; k++)
        if (t->held[k].ts >= t->watermark)
            t->held[held++] = t->held[k];
    t->n_held = held;
    for (int k = 0; k < t->n; k++)
        t->p[k].gone |= t->watermark == INT64_MAX || t->p[k].i.ts + twin_known(t) <= t->watermark;
}

static void counts_expect(const struct joiner *j, const struct twin *t)
{
    struct state_join_counts c;
    struct state_join_counts want = t->c;
    joiner_counts(j, &c);
    want.held = (uint64_t)t->n_held;
    want.pending = c.pending;
    want.kept = c.kept;
    cr_assert_arr_eq(&c, &want, sizeof c);
    uint64_t known = 0;
    uint64_t waiting = 0;
    for (int k = 0; k < t->n; k++) {
        known += !t->p[k].gone;
        waiting += !t->p[k].out;
    }
    cr_assert_eq(c.pending, waiting);
    cr_assert(c.pending + c.kept <= known); // shadows are in neither
}

static void twin_round(struct rng *r, const struct state_join_options *o, struct state_join_counts *io_sum)
{
    static struct row rows[EVENTS];
    struct twin *t = mem_zalloc(sizeof *t);
    struct samples_seen seen = {0};
    struct joiner *j = joiner_of(o);
    t->o = *o;
    t->watermark = INT64_MIN;
    log_random(r, rows, EVENTS, 1 + (int64_t)rng_below(r, 20), 10);
    for (int k = 0; k < EVENTS; k++) {
        row_feed(j, &rows[k]);
        twin_feed(t, &rows[k]);
        if (rng_below(r, 3) == 0)
            continue;
        joiner_advance(j, rows[k].watermark, seen_add, &seen);
        twin_advance(t, rows[k].watermark);
        counts_expect(j, t);
    }
    joiner_advance(j, INT64_MAX, seen_add, &seen);
    twin_advance(t, INT64_MAX);
    counts_expect(j, t);
    seen_expect(&seen, &t->seen);
    io_sum->corrected += t->c.corrected;
    io_sum->late_labels += t->c.late_labels;
    io_sum->positives_thinned += t->c.positives_thinned;
    io_sum->negatives_dropped += t->c.negatives_dropped;
    io_sum->forgotten_early += t->c.forgotten_early;
    io_sum->left_early += t->c.left_early;
    for (int a = 0; a < ACTION_MAX; a++)
        io_sum->after_window[a] += t->c.after_window[a];
    seen_done(&seen);
    seen_done(&t->seen);
    joiner_free(j);
    free(t);
}

static struct state_join_options options_random(struct rng *r)
{
    static const int64_t windows[] = {0, WINDOW / 4, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW};
    struct state_join_options o = options_of((enum state_emit)rng_below(r, 3), STATE_WATCH_MAX);
    o.corrections = rng_below(r, 2);
    o.label_window_ms[ACTION_CLICK] = windows[rng_below(r, 6)];
    o.label_window_ms[ACTION_LIKE] = windows[rng_below(r, 6)];
    o.label_window_ms[ACTION_WATCH] = windows[rng_below(r, 6)];
    o.remember_ms = rng_below(r, 2) ? 0 : 4 * WINDOW;
    if (rng_below(r, 2)) {
        o.keep_negatives = 0.6;
        o.keep_by_label = rng_below(r, 2);
        o.keep[ACTION_LIKE] = o.keep_by_label ? 0.2 : 0;
    }
    if (rng_below(r, 3) == 0)
        o.thin = (struct state_thin){.above = 1, .power = 0.5};
    o.max_pending = rng_below(r, 2) ? 1u << 20 : 5 + (uint32_t)rng_below(r, 60);
    return o;
}

Test(joiner_windows, agree_with_the_twin_in_every_policy)
{
    struct rng r = rng_of(11);
    struct state_join_counts sum = {0};
    for (int round = 0; round < 250; round++) {
        struct state_join_options o = options_random(&r);
        twin_round(&r, &o, &sum);
    }
    cr_assert(sum.corrected > 1000 && sum.late_labels > 100 && sum.positives_thinned > 100);
    cr_assert(sum.negatives_dropped > 100 && sum.forgotten_early > 100 && sum.left_early > 100);
    cr_assert(sum.after_window[ACTION_CLICK] > 100 && sum.after_window[ACTION_WATCH] > 100);
}

// ---- what decides nothing ---------------------------------------------------------------------------------

Test(joiner_windows, order_of_arrival_within_out_of_order_decides_nothing)
{
    struct rng r = rng_of(12);
    for (int round = 0; round < 100; round++)
        order_round(&r, options_random(&r));
}

Test(joiner_windows, cuts_of_advance_decide_nothing)
{
    struct rng r = rng_of(13);
    for (int round = 0; round < 100; round++) {
        struct state_join_options o = options_random(&r);
        cuts_round(&r, &o);
    }
}

Test(joiner_windows, a_restart_from_blocks_changes_nothing)
{
    struct rng r = rng_of(14);
    for (int round = 0; round < 250; round++) {
        struct state_join_options o = options_random(&r);
        restart_round(&r, &o);
    }
}

// ---- single promises --------------------------------------------------------------------------------------

struct story {
    struct joiner *j;
    struct samples_seen seen;
};

static struct story story_begin(const struct state_join_options *o)
{
    struct story s = {.j = joiner_of(o)};
    joiner_impression(s.j, &(struct state_impression){.user = 1, .item = 2, .ts = 1000});
    return s;
}

static void story_feedback(struct story *s, uint8_t action, int64_t ts)
{
    joiner_feedback(s->j, &(struct state_feedback){.user = 1, .item = 2, .ts = ts, .action = action});
    joiner_advance(s->j, ts + 1, seen_add, &s->seen);
}

static void story_expect(const struct story *s, size_t at, int64_t emitted_ts, uint32_t labels, uint32_t told,
                         bool corrected)
{
    cr_assert_lt(at, s->seen.n, "there are %zu samples", s->seen.n);
    const struct sample *sample = &s->seen.s[at];
    cr_assert_eq(sample->emitted_ts, emitted_ts, "sample %zu left at %ld", at, sample->emitted_ts);
    cr_assert(sample->labels == labels && sample->told == told && sample->corrected == corrected,
              "sample %zu", at);
    cr_assert_eq(sample->impression, 0);
}

static void story_end(struct story *s, size_t n)
{
    joiner_advance(s->j, INT64_MAX, seen_add, &s->seen);
    cr_assert_eq(s->seen.n, n, "%zu samples", s->seen.n);
    seen_done(&s->seen);
    joiner_free(s->j);
}

Test(joiner_windows, a_label_of_a_longer_window_corrects_its_sample)
{
    const uint32_t click = 1u << ACTION_CLICK;
    const uint32_t like = 1u << ACTION_LIKE;
    struct state_join_counts c;
    struct state_join_options o = options_of(STATE_EMIT_WAIT, STATE_WATCH_MAX);
    o.label_window_ms[ACTION_CLICK] = WINDOW / 2;
    o.label_window_ms[ACTION_LIKE] = 10 * WINDOW;
    struct story s = story_begin(&o);
    story_feedback(&s, ACTION_CLICK, 1000 + WINDOW / 2 - 1);
    story_feedback(&s, ACTION_LIKE, 1000 + WINDOW);
    story_expect(&s, 0, 1000 + WINDOW, click, 0, false);
    story_expect(&s, 1, 1000 + WINDOW, click | like, click, true);
    story_feedback(&s, ACTION_CLICK, 1000 + 2 * WINDOW); // known still, but no label any more
    story_feedback(&s, ACTION_LIKE, 1000 + 10 * WINDOW); // nobody knows the impression
    joiner_counts(s.j, &c);
    cr_assert(c.after_window[ACTION_CLICK] == 1 && c.orphans == 1 && c.joined == 2);
    story_end(&s, 2);
}

Test(joiner_windows, remember_tells_conversions_after_the_window_from_orphans)
{
    struct state_join_counts c;
    struct state_join_options o = options_of(STATE_EMIT_WAIT, STATE_WATCH_MAX);
    o.remember_ms = 2 * WINDOW;
    struct story s = story_begin(&o);
    story_feedback(&s, ACTION_CLICK, 1000 + 2 * WINDOW - 1);
    story_feedback(&s, ACTION_CLICK, 1000 + 2 * WINDOW);
    joiner_counts(s.j, &c);
    cr_assert(c.after_window[ACTION_CLICK] == 1 && c.orphans == 1 && c.kept == 0);
    story_end(&s, 1);
}

Test(joiner_windows, fake_negatives_leave_once_the_watermark_has_passed)
{
    struct state_join_options o = options_of(STATE_EMIT_FAKE_NEGATIVE, STATE_WATCH_MAX);
    struct story s = story_begin(&o);
    joiner_advance(s.j, 1000, seen_add, &s.seen);
    cr_assert_eq(s.seen.n, 0, "at the watermark an impression may still come");
    joiner_feedback(s.j, &(struct state_feedback){.user = 1, .item = 2, .ts = 1000, .action = ACTION_CLICK});
    joiner_advance(s.j, 1001, seen_add, &s.seen);
    story_expect(&s, 0, 1000, 0, 0, false);
    story_expect(&s, 1, 1000, 1u << ACTION_CLICK, 0, true);
    story_feedback(&s, ACTION_LIKE, 1200); // no corrections: only the first label is told
    story_end(&s, 2);
}

Test(joiner_windows, a_positive_whose_negative_was_not_kept_corrects_nothing)
{
    struct state_join_options o = options_of(STATE_EMIT_FAKE_NEGATIVE, STATE_WATCH_MAX);
    o.keep_negatives = 1e-9;
    o.corrections = true;
    struct story s = story_begin(&o);
    story_feedback(&s, ACTION_CLICK, 1100);
    story_expect(&s, 0, 1100, 1u << ACTION_CLICK, 0, false);
    cr_assert_eq(s.seen.s[0].masked, 1u << ACTION_LIKE | 1u << ACTION_WATCH);
    story_feedback(&s, ACTION_LIKE, 1200);
    story_expect(&s, 1, 1200, 1u << ACTION_CLICK | 1u << ACTION_LIKE, 1u << ACTION_CLICK, true);
    cr_assert_eq(s.seen.s[1].masked, 1u << ACTION_LIKE | 1u << ACTION_WATCH); // its negative never was
    story_end(&s, 2);
}
