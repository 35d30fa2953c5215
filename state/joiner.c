// SPDX-License-Identifier: Apache-2.0
// The rules of joining (docs/CONTRACT.md, "Joining" and "Samples"); its memory is in pending.c, its durable form
// in joiner_block.c.
//
// joiner_advance takes what is due, what is to be forgotten and what is held in order of time; at the same time,
// in this order. Feedback matches only what is forgotten later than itself, so this decides nothing but the order
// of samples; and since nothing depends on the watermark but how far to go, one call does what many small ones
// would. What leaves between two calls (a label of late feedback; the oldest when max_pending is exceeded; 0 is no
// bound) is encoded into `ready` and comes first in the next call.
//
//     impression.ts               + window                      + the longest window, or remember
//     |---- waits (due) ----------|---- is kept -----------------|  forgotten
//     |  a label: set, and in mode first_label the first leaves  |
//     |                           |  a label: corrected sample   |
//
// fake_negative: the window is 0, and the watermark must have passed it, for at the watermark itself an impression
// may still come. Mode first_label: the impression stays in `due` as a shadow until it is due, because a later
// label must find it. Feedback that changes nothing (a second click) makes no corrected sample.
//
// One hash of what names an impression decides which negatives are kept, another which popular positives are, so
// that every replay keeps the same ones.
//
// Prefetching: both queues know what will be touched soon, whether in this call or a later one: the slot of
// the entry 16 places on, then the map slot of the one 8 places on, for held feedback at last the impression
// that it will meet.
#include <math.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "state/joiner_impl.h"
#include "state/record.h"

enum { AHEAD_SLOT = 16, AHEAD_KEY = 8, AHEAD_PENDING = 4 };
// Feedback that waits for the watermark: at most a part of max_pending. At the bound the oldest is settled at once.
enum { HELD_PART = 8, HELD_LEAST = 65536 };

static int64_t longer(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

// What the options leave to a default.
static void options_settle(struct joiner *j)
{
    const struct state_join_options *o = &j->options;
    j->leave_ms = o->emit == STATE_EMIT_FAKE_NEGATIVE ? 0 : o->window_ms;
    j->known_ms = longer(o->window_ms, o->remember_ms);
    for (uint32_t a = 0; a < ACTION_MAX; a++) {
        j->window_ms[a] = o->label_window_ms[a] > 0 ? o->label_window_ms[a] : o->window_ms;
        j->keep[a] = o->keep[a] > 0 ? o->keep[a] : o->keep_negatives;
        assert(j->keep[a] <= o->keep_negatives);
        if ((o->labels >> a & 1) == 0)
            continue;
        j->known_ms = longer(j->known_ms, j->window_ms[a]);
        j->drops |= j->keep[a] < 1;
    }
}

struct joiner *joiner_new(const struct state_join_options *options)
{
    assert(options->window_ms > 0);
    assert(options->labels >> ACTION_MAX == 0 && (options->labels & 1u << ACTION_IMPRESSION) == 0);
    struct joiner *j = mem_zalloc(sizeof *j);
    j->magic = JOINER_MAGIC;
    j->options = *options;
    options_settle(j);
    j->watermark = WATERMARK_NONE;
    j->slab_free = PENDING_NONE;
    j->sets_free = PENDING_NONE;
    j->set_bytes = label_set_bytes(options->labels);
    return j;
}

void joiner_count_set(struct joiner *j, joiner_count_fn *count, void *context)
{
    joiner_check(j);
    j->count = count;
    j->count_context = context;
}

void joiner_free(struct joiner *j)
{
    if (j == NULL)
        return;
    joiner_check(j);
    free(j->feedback);
    free(j->sources);
    list_done(&j->feedback_free);
    list_done(&j->fresh);
    list_done(&j->updates);
    timeq_done(&j->due);
    timeq_done(&j->kept);
    timeq_done(&j->held);
    pending_done(j);
    free(j->marks);
    buf_done(&j->ready);
    free(j);
}

// ---- samples ----------------------------------------------------------------------------------------------

// The hash of what names an impression.
static uint64_t name_hash(const struct pending *p)
{
    const uint64_t name[4] = {p->user, p->item, p->request, (uint64_t)p->ts};
    return hash_bytes(name, sizeof name);
}

// A hash as a number of [0, 1).
static double share_of(uint64_t hash)
{
    return (double)hash * 0x1p-64;
}

static bool negative_kept(const struct joiner *j, const struct pending *p)
{
    return j->options.keep_negatives >= 1 || share_of(name_hash(p)) < j->options.keep_negatives;
}

// The share of the labelled samples of this item that is kept now.
static double thin_share(const struct joiner *j, const struct pending *p)
{
    const struct state_thin *thin = &j->options.thin;
    if (thin->above == 0 || j->count == NULL)
        return 1;
    uint64_t count = j->count(j->count_context, p->item);
    return count > thin->above ? pow((double)thin->above / (double)count, thin->power) : 1;
}

// Labels whose negatives at this impression are not among those kept, but for those that `had` has.
static uint32_t labels_masked(const struct joiner *j, const struct pending *p, uint32_t had)
{
    uint32_t masked = 0;
    if (!j->drops)
        return 0;
    double share = share_of(name_hash(p));
    for (uint32_t rest = j->options.labels & ~had; rest != 0; rest &= rest - 1)
        if (share >= j->keep[__builtin_ctz(rest)])
            masked |= 1u << __builtin_ctz(rest);
    return masked;
}

static void rates_fill(const struct joiner *j, struct sample *io_sample)
{
    io_sample->rated = j->options.labels;
    for (uint32_t rest = io_sample->rated; rest != 0; rest &= rest - 1) {
        int a = __builtin_ctz(rest);
        io_sample->keep_rates[a] = (float)j->keep[a];
    }
}

static void sample_fill(const struct joiner *j, const struct pending *p, int64_t emitted_ts, bool corrected,
                        struct sample *ret_sample)
{
    const struct label_set *set = pending_set(j, p);
    *ret_sample = (struct sample){
        .body = pending_body(p),
        .impression = pending_arrival(p),
        .impression_ts = p->ts,
        .emitted_ts = emitted_ts,
        .corrected = corrected,
        .keep_rate = 1.0f,
        .partition = p->partition,
    };
    if (set != NULL) {
        ret_sample->labels = set->labels;
        ret_sample->told = corrected ? set->told : 0;
        ret_sample->keep_rate = set->rate;
        ret_sample->watch_ms = set->watch_ms;
        memcpy(ret_sample->label_ts, set->ts, j->set_bytes - offsetof(struct label_set, ts));
    } else {
        ret_sample->keep_rate = (float)j->options.keep_negatives;
    }
    ret_sample->masked = labels_masked(j, p, corrected ? ret_sample->told : ret_sample->labels);
    if (j->options.keep_by_label)
        rates_fill(j, ret_sample);
}

static void sample_out(struct joiner *j, const struct pending *p, int64_t emitted_ts, bool corrected)
{
    sample_fill(j, p, emitted_ts, corrected, &j->scratch);
    j->counts.samples++;
    j->counts.corrected += corrected;
    if (j->emit != NULL) {
        j->emit(j->emit_context, &j->scratch);
        return;
    }
    buf_put_varint(&j->ready, j->scratch.body.commit);
    record_put(&j->ready, &j->scratch, j->scratch.body.commit);
}

// The first sample of an impression, unless it is not kept.
static void sample_first(struct joiner *j, const struct pending *p, int64_t emitted_ts)
{
    struct label_set *set = pending_set(j, p);
    if (set == NULL && !negative_kept(j, p)) {
        j->counts.negatives_dropped++;
        return;
    }
    double share = set != NULL ? thin_share(j, p) : 1;
    if (set != NULL)
        set->told = set->labels;
    if (share < 1) {
        bool kept = share_of(hash_mix(name_hash(p))) < share;
        set->rate = kept ? (float)share : 0;
        j->counts.positives_thinned += !kept;
        if (!kept)
            return;
    }
    sample_out(j, p, emitted_ts, false);
}

// A later one. Where the one without a label was not kept this is the first; where the first with a label was
// not, there are none.
static void sample_next(struct joiner *j, const struct pending *p, int64_t emitted_ts)
{
    struct label_set *set = pending_set(j, p);
    if (set->told == 0 && !negative_kept(j, p)) {
        sample_first(j, p, emitted_ts);
        return;
    }
    if (set->rate > 0)
        sample_out(j, p, emitted_ts, true);
    set->told = set->labels;
}

static void ready_flush(struct joiner *j)
{
    struct rd r = rd_of(j->ready.data, j->ready.len);
    while (rd_left(&r) > 0) {
        uint64_t commit = rd_varint(&r);
        record_get(&r, commit, &j->scratch);
        assert(!r.bad);
        j->emit(j->emit_context, &j->scratch);
    }
    buf_clear(&j->ready);
}

static bool has_left(const struct joiner *j, const struct pending *p)
{
    return pending_kept(p) || (p->set != PENDING_NONE && label_set_at(j, p->set)->emitted);
}

// The sample of the least that waits leaves, if it has not with its first label.
static void least_leave(struct joiner *j, int64_t emitted_ts)
{
    const struct pending *p = &j->slab[timeq_min(&j->due)->at];
    if (!has_left(j, p))
        sample_first(j, p, emitted_ts);
}

// The oldest of all goes, be it waiting or kept.
static void oldest_drop(struct joiner *j)
{
    const struct timeq_entry *due = timeq_min(&j->due);
    const struct timeq_entry *kept = timeq_min(&j->kept);
    if (kept != NULL && (due == NULL || timeq_before(kept, due))) {
        j->counts.forgotten_early++;
        pending_drop(j, &j->kept);
        return;
    }
    j->counts.left_early++;
    least_leave(j, j->watermark != WATERMARK_NONE ? j->watermark : due->time);
    pending_drop(j, &j->due);
}

// ---- feedback ---------------------------------------------------------------------------------------------

static bool belongs(const struct pending *p, const struct state_feedback *f)
{
    return p->user == f->user && p->item == f->item && p->ts <= f->ts &&
           (p->request == f->request || p->request == 0 || f->request == 0);
}

static bool inside(const struct pending *p, const struct state_feedback *f, int64_t window_ms)
{
    return f->ts < time_after(p->ts, window_ms);
}

// The latest impression by (ts, arrival) whose label the feedback is, or PENDING_NONE; then *ret_known says
// whether it belongs to one that would be known at that time.
static uint32_t match(const struct joiner *j, const struct state_feedback *f, bool *ret_known)
{
    const int64_t window_ms = j->window_ms[f->action];
    uint32_t newest = chain_newest(j, f->user, f->item);
    *ret_known = false;
    if (newest == PENDING_NONE)
        return newest;
    if (belongs(&j->slab[newest], f)) {
        if (inside(&j->slab[newest], f, window_ms))
            return newest;
        *ret_known = inside(&j->slab[newest], f, j->known_ms);
    }
    uint32_t found = PENDING_NONE;
    for (uint32_t at = j->slab[newest].next; at != newest; at = j->slab[at].next) {
        const struct pending *p = &j->slab[at];
        if (p->ts > f->ts)
            break;
        if (!belongs(p, f))
            continue;
        if (inside(p, f, window_ms))
            found = at;
        *ret_known |= inside(p, f, j->known_ms);
    }
    return found;
}

// Sets watch_ms and its ts. Feedback comes in order of (ts, arrival), late feedback excepted.
static void watch_label(const struct joiner *j, struct label_set *set, const struct state_feedback *f)
{
    bool first = (set->labels >> ACTION_WATCH & 1) == 0;
    bool later = f->ts >= set->ts[ACTION_WATCH];
    bool take = first;
    switch (j->options.watch_of) {
    case STATE_WATCH_MAX:
        take = first || f->watch_ms > set->watch_ms || (f->watch_ms == set->watch_ms && !later);
        break;
    case STATE_WATCH_SUM:
        set->watch_ms += f->watch_ms;
        if (first || later)
            set->ts[ACTION_WATCH] = f->ts;
        return;
    case STATE_WATCH_LAST:
        take = first || later;
        break;
    }
    if (take) {
        set->watch_ms = f->watch_ms;
        set->ts[ACTION_WATCH] = f->ts;
    }
}

// Returns whether the labels are others than before.
static bool label(const struct joiner *j, struct label_set *set, const struct state_feedback *f)
{
    uint32_t labels = set->labels;
    uint64_t watch_ms = set->watch_ms;
    int64_t ts = set->ts[f->action];
    if (f->action == ACTION_WATCH)
        watch_label(j, set, f);
    else if ((labels >> f->action & 1) == 0 || f->ts < ts)
        set->ts[f->action] = f->ts;
    set->labels |= 1u << f->action;
    return set->labels != labels || set->watch_ms != watch_ms || set->ts[f->action] != ts;
}

// A label came after the sample had left.
static void label_after(struct joiner *j, const struct pending *p, const struct state_feedback *f,
                        bool changed)
{
    const struct label_set *set = pending_set(j, p);
    if (j->options.emit != STATE_EMIT_WAIT && !j->options.corrections && set->told != 0)
        j->counts.late_labels++;
    else if (changed)
        sample_next(j, p, f->ts);
}

static void settle(struct joiner *j, const struct state_feedback *f)
{
    bool known;
    chain_link_all(j);
    uint32_t at = match(j, f, &known);
    if (at == PENDING_NONE) {
        j->counts.orphans += !known;
        j->counts.after_window[f->action] += known;
        return;
    }
    j->counts.joined++;
    const struct pending *p = &j->slab[at];
    struct label_set *set = pending_set_make(j, at, 1u << f->action);
    bool changed = label(j, set, f);
    label_set_dirty(j, at);
    if (has_left(j, p)) {
        label_after(j, p, f, changed);
    } else if (j->options.emit == STATE_EMIT_FIRST_LABEL) {
        set->emitted = true;
        j->shadows++;
        sample_first(j, p, f->ts);
    }
}

static void held_prefetch(const struct joiner *j)
{
    const struct timeq_entry *e = timeq_ahead(&j->held, AHEAD_SLOT);
    if (e != NULL)
        __builtin_prefetch(&j->feedback[e->at]);
    e = timeq_ahead(&j->held, AHEAD_KEY);
    if (e != NULL)
        chain_prefetch(j, j->feedback[e->at].user, j->feedback[e->at].item);
    e = timeq_ahead(&j->held, AHEAD_PENDING);
    if (e == NULL)
        return;
    uint32_t at = chain_newest(j, j->feedback[e->at].user, j->feedback[e->at].item);
    if (at != PENDING_NONE)
        __builtin_prefetch(&j->slab[at]);
}

static void held_settle(struct joiner *j)
{
    held_prefetch(j);
    uint32_t at = timeq_min(&j->held)->at;
    settle(j, &j->feedback[at]);
    list_add(&j->feedback_free, at);
    timeq_pop(&j->held);
}

// ---- the interface ----------------------------------------------------------------------------------------

void joiner_impression(struct joiner *j, const struct state_impression *i)
{
    joiner_check(j);
    joiner_recovered(j);
    list_add(&j->fresh, pending_add(j, i, j->next_arrival));
    j->next_arrival++;
    j->counts.impressions++;
    if (j->options.max_pending > 0 && timeq_count(&j->due) + timeq_count(&j->kept) > j->options.max_pending)
        oldest_drop(j);
}

// Feedback waits for seconds, impressions for minutes.
static uint64_t held_most(const struct state_join_options *options)
{
    uint64_t part = options->max_pending / HELD_PART;
    return part > HELD_LEAST ? part : HELD_LEAST;
}

void joiner_feedback(struct joiner *j, const struct state_feedback *f)
{
    joiner_check(j);
    joiner_recovered(j);
    if (f->action >= ACTION_MAX || (j->options.labels >> f->action & 1) == 0)
        return;
    if (f->ts < j->watermark)
        settle(j, f);
    else
        held_add(j, f);
    if (j->options.max_pending > 0 && timeq_count(&j->held) > held_most(&j->options)) {
        j->counts.settled_early++;
        held_settle(j);
    }
}

static void queue_prefetch(const struct joiner *j, const struct timeq *q)
{
    const struct timeq_entry *e = timeq_ahead(q, AHEAD_SLOT);
    if (e != NULL) {
        __builtin_prefetch(&j->slab[e->at]);
        __builtin_prefetch(&j->links[e->at]);
    }
    e = timeq_ahead(q, AHEAD_KEY);
    if (e != NULL) {
        chain_prefetch(j, j->slab[e->at].user, j->slab[e->at].item);
        user_prefetch(j, e->at);
    }
}

static void due_leave(struct joiner *j, int64_t time)
{
    queue_prefetch(j, &j->due);
    least_leave(j, time);
    if (j->known_ms > j->leave_ms)
        pending_keep(j);
    else
        pending_drop(j, &j->due);
}

static void kept_forget(struct joiner *j)
{
    queue_prefetch(j, &j->kept);
    pending_drop(j, &j->kept);
}

// Whether the least of a queue is through with `after` ms at the watermark; `strict`: once it has passed that.
static bool queue_ready(const struct joiner *j, const struct timeq *q, int64_t after, bool strict,
                        int64_t *ret_time)
{
    const struct timeq_entry *least = timeq_min(q);
    *ret_time = least != NULL ? time_after(least->time, after) : INT64_MAX;
    return least != NULL && (strict ? *ret_time < j->watermark : *ret_time <= j->watermark);
}

void joiner_advance(struct joiner *j, int64_t watermark, joiner_emit_fn *emit, void *context)
{
    joiner_check(j);
    joiner_recovered(j);
    if (watermark > j->watermark)
        j->watermark = watermark;
    j->emit = emit;
    j->emit_context = context;
    ready_flush(j);
    for (;;) {
        int64_t due;
        int64_t over;
        int64_t held;
        // At the watermark itself an impression may still come, so feedback and fake negatives wait for more.
        bool leaves = queue_ready(j, &j->due, j->leave_ms, j->leave_ms == 0, &due);
        bool forgets = queue_ready(j, &j->kept, j->known_ms, false, &over);
        bool settles = queue_ready(j, &j->held, 0, true, &held);
        if (leaves && due <= over && due <= held)
            due_leave(j, due);
        else if (forgets && over <= held)
            kept_forget(j);
        else if (settles)
            held_settle(j);
        else
            break;
    }
    j->emit = NULL;
}

void joiner_counts(const struct joiner *j, struct state_join_counts *ret_counts)
{
    joiner_check(j);
    *ret_counts = j->counts;
    ret_counts->held = timeq_count(&j->held);
    ret_counts->pending = timeq_count(&j->due) - j->shadows;
    ret_counts->kept = timeq_count(&j->kept);
}

static uint64_t power_of_two(uint64_t n)
{
    uint64_t power = 1;
    while (power < n)
        power *= 2;
    return power;
}

// Of an impression a slot, its place in the list of its user, a set of labels, a place in a queue or at another time in the
// other, and one in the chains; of feedback a slot and a place in its queue.
uint64_t joiner_bytes_most(const struct state_join_options *options)
{
    const uint64_t n = options->max_pending;
    const uint64_t held = held_most(options);
    struct joiner j = {.options = *options};
    options_settle(&j);
    const uint64_t rings = power_of_two(n) * (j.known_ms > j.leave_ms ? 2 : 1) + power_of_two(held);
    return n * (sizeof(struct pending) + sizeof(struct user_link) + label_set_bytes(options->labels)) +
           (sizeof(uint32_t) << users_log2(options)) + power_of_two(n * 4 / 3) * sizeof(struct chain_slot) +
           rings * sizeof(struct timeq_entry) + held * (sizeof(struct state_feedback) + sizeof(uint32_t));
}

// ---- one user ---------------------------------------------------------------------------------------------

static int pending_order(const void *a, const void *b)
{
    const struct timeq_entry *x = a;
    const struct timeq_entry *y = b;
    return timeq_before(x, y) ? -1 : timeq_before(y, x);
}

// Gathers slot `at` if it is of the user. Returns how many there are.
static size_t of_user_gather(const struct joiner *j, uint32_t at, uint64_t user,
                             struct timeq_entry **io_found, size_t n)
{
    const struct pending *p = &j->slab[at];
    if (p->user != user || has_left(j, p))
        return n;
    if ((n & (n - 1)) == 0)
        *io_found = mem_resize(*io_found, n > 0 ? n * 2 : 1, sizeof **io_found);
    (*io_found)[n] = (struct timeq_entry){p->ts, pending_arrival(p), at};
    return n + 1;
}

uint32_t joiner_of_user(const struct joiner *j, uint64_t user, uint32_t max,
                        struct joiner_pending *ret_pending)
{
    joiner_check(j);
    struct timeq_entry *found = NULL;
    size_t n = 0;
    for (uint32_t at = user_first(j, user); at != PENDING_NONE; at = user_next(j, at))
        n = of_user_gather(j, at, user, &found, n);
    for (uint32_t i = 0; i < j->n_unlinked; i++)
        n = of_user_gather(j, j->unlinked[i], user, &found, n);
    if (n > 0)
        qsort(found, n, sizeof *found, pending_order);
    uint32_t written = n < max ? (uint32_t)n : max;
    for (uint32_t i = 0; i < written; i++) {
        const struct pending *p = &j->slab[found[i].at];
        const struct label_set *set = pending_set(j, p);
        ret_pending[i] = (struct joiner_pending){p->item, p->request, p->ts, time_after(p->ts, j->leave_ms),
                                                 set != NULL ? set->labels : 0};
    }
    free(found);
    return written;
}
