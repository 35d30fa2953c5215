// SPDX-License-Identifier: Apache-2.0
// The rules of joining (docs/CONTRACT.md, "Definitions"); its memory is in pending.c, its durable form in
// joiner_block.c.
//
// joiner_advance takes what is due and what is held in order of time; at the same time, what is due goes
// first. Feedback matches only what is due later than itself, so this decides nothing but the order of
// samples in the mode first_label; and since nothing depends on the watermark but how far to go, one call
// does what many small ones would. What leaves between two calls (the first label of a late feedback; the
// oldest when max_pending is exceeded; 0 is no bound) is encoded into `ready` and comes first in the next
// call.
//
// Mode first_label: the impression stays in memory as a shadow until it is due, because a later label must
// find it. Feedback that changes nothing (a second click) makes no corrected sample.
//
// Prefetching: both queues know what will be touched soon, whether in this call or a later one: the slot of
// the entry 16 places on, then the map slot of the one 8 places on, for held feedback at last the impression
// that it will meet.
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "state/joiner_impl.h"
#include "state/record.h"

enum { AHEAD_SLOT = 16, AHEAD_KEY = 8, AHEAD_PENDING = 4 };

struct joiner *joiner_new(const struct state_join_options *options)
{
    assert(options->window_ms > 0);
    assert(options->labels >> ACTION_MAX == 0 && (options->labels & 1u << ACTION_IMPRESSION) == 0);
    struct joiner *j = mem_zalloc(sizeof *j);
    j->magic = JOINER_MAGIC;
    j->options = *options;
    j->watermark = WATERMARK_NONE;
    j->slab_free = PENDING_NONE;
    j->sets_free = PENDING_NONE;
    return j;
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
    timeq_done(&j->held);
    pending_done(j);
    free(j->marks);
    buf_done(&j->ready);
    free(j);
}

// ---- samples ----------------------------------------------------------------------------------------------

// A negative is kept by a hash of what names its impression, so that every replay keeps the same ones.
static bool negative_kept(const struct joiner *j, const struct pending *p)
{
    const uint64_t name[4] = {p->user, p->item, p->request, (uint64_t)p->ts};
    return (double)hash_bytes(name, sizeof name) * 0x1p-64 < j->options.keep_negatives;
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
        ret_sample->watch_ms = set->watch_ms;
        memcpy(ret_sample->label_ts, set->ts, sizeof set->ts);
    } else if (j->options.keep_negatives < 1) {
        ret_sample->keep_rate = (float)j->options.keep_negatives;
    }
}

static void sample_out(struct joiner *j, const struct pending *p, int64_t emitted_ts, bool corrected)
{
    if (p->set == PENDING_NONE && j->options.keep_negatives < 1 && !negative_kept(j, p)) {
        j->counts.negatives_dropped++;
        return;
    }
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

// The least pending leaves, with a sample if it has not had its first one.
static void least_leave(struct joiner *j, int64_t emitted_ts)
{
    const struct pending *p = &j->slab[timeq_min(&j->due)->at];
    const struct label_set *set = pending_set(j, p);
    if (set == NULL || !set->emitted)
        sample_out(j, p, emitted_ts, false);
    pending_drop(j);
}

// ---- feedback ---------------------------------------------------------------------------------------------

static bool matches(const struct joiner *j, const struct pending *p, const struct state_feedback *f)
{
    return p->user == f->user && p->item == f->item && p->ts <= f->ts &&
           f->ts < time_after(p->ts, j->options.window_ms) &&
           (p->request == f->request || p->request == 0 || f->request == 0);
}

// The latest impression by (ts, arrival) that the feedback belongs to, or PENDING_NONE.
static uint32_t match(const struct joiner *j, const struct state_feedback *f)
{
    uint32_t newest = chain_newest(j, f->user, f->item);
    if (newest == PENDING_NONE || matches(j, &j->slab[newest], f))
        return newest;
    uint32_t found = PENDING_NONE;
    for (uint32_t at = j->slab[newest].next; at != newest; at = j->slab[at].next) {
        if (j->slab[at].ts > f->ts)
            break;
        if (matches(j, &j->slab[at], f))
            found = at;
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

// A label came in the mode first_label, or one was out when the mode was changed.
static void label_emit(struct joiner *j, uint32_t at, struct label_set *set, const struct state_feedback *f,
                       bool changed)
{
    if (!set->emitted) {
        set->emitted = true;
        j->shadows++;
        sample_out(j, &j->slab[at], f->ts, false);
    } else if (!j->options.corrections) {
        j->counts.late_labels++;
    } else if (changed) {
        sample_out(j, &j->slab[at], f->ts, true);
    }
}

static void settle(struct joiner *j, const struct state_feedback *f)
{
    chain_link_all(j);
    uint32_t at = match(j, f);
    if (at == PENDING_NONE) {
        j->counts.orphans++;
        return;
    }
    j->counts.joined++;
    struct label_set *set = pending_set_make(j, at);
    bool changed = label(j, set, f);
    if (!set->dirty && pending_arrival(&j->slab[at]) < j->fresh_first) {
        set->dirty = true;
        list_add(&j->updates, j->slab[at].set);
    }
    if (j->options.emit == STATE_EMIT_FIRST_LABEL || set->emitted)
        label_emit(j, at, set, f, changed);
}

// ---- the interface ----------------------------------------------------------------------------------------

void joiner_impression(struct joiner *j, const struct state_impression *i)
{
    joiner_check(j);
    joiner_recovered(j);
    list_add(&j->fresh, pending_add(j, i, j->next_arrival));
    j->next_arrival++;
    j->counts.impressions++;
    if (j->options.max_pending == 0 || timeq_count(&j->due) <= j->options.max_pending)
        return;
    j->counts.left_early++;
    least_leave(j, j->watermark != WATERMARK_NONE ? j->watermark : timeq_min(&j->due)->time);
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
}

static void due_prefetch(const struct joiner *j)
{
    const struct timeq_entry *e = timeq_ahead(&j->due, AHEAD_SLOT);
    if (e != NULL)
        __builtin_prefetch(&j->slab[e->at]);
    e = timeq_ahead(&j->due, AHEAD_KEY);
    if (e != NULL)
        chain_prefetch(j, j->slab[e->at].user, j->slab[e->at].item);
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
        const struct timeq_entry *least = timeq_min(&j->due);
        const struct timeq_entry *held = timeq_min(&j->held);
        int64_t due = least != NULL ? time_after(least->time, j->options.window_ms) : INT64_MAX;
        if (least != NULL && due <= j->watermark && (held == NULL || due <= held->time)) {
            due_prefetch(j);
            least_leave(j, due);
        } else if (held != NULL &&
                   held->time < j->watermark) { // at the watermark an impression may still come
            held_settle(j);
        } else {
            break;
        }
    }
    j->emit = NULL;
}

void joiner_counts(const struct joiner *j, struct state_join_counts *ret_counts)
{
    joiner_check(j);
    *ret_counts = j->counts;
    ret_counts->held = timeq_count(&j->held);
    ret_counts->pending = timeq_count(&j->due) - j->shadows;
}

// ---- one user ---------------------------------------------------------------------------------------------

static int pending_order(const void *a, const void *b)
{
    const struct timeq_entry *x = a;
    const struct timeq_entry *y = b;
    return timeq_before(x, y) ? -1 : timeq_before(y, x);
}

// A walk over the slab, one cache line an impression: there is no index by user, for requests are rare.
uint32_t joiner_of_user(const struct joiner *j, uint64_t user, uint32_t max,
                        struct joiner_pending *ret_pending)
{
    joiner_check(j);
    struct timeq_entry *found = NULL;
    size_t n = 0;
    for (uint32_t at = 0; at < j->slab_len; at++) {
        const struct pending *p = &j->slab[at];
        if (p->user != user || pending_arrival(p) == ARRIVAL_FREE ||
            (p->set != PENDING_NONE && j->sets[p->set].emitted))
            continue;
        if ((n & (n - 1)) == 0)
            found = mem_resize(found, n > 0 ? n * 2 : 1, sizeof *found);
        found[n++] = (struct timeq_entry){p->ts, pending_arrival(p), at};
    }
    if (n > 0)
        qsort(found, n, sizeof *found, pending_order);
    uint32_t written = n < max ? (uint32_t)n : max;
    for (uint32_t i = 0; i < written; i++) {
        const struct pending *p = &j->slab[found[i].at];
        const struct label_set *set = pending_set(j, p);
        ret_pending[i] =
            (struct joiner_pending){p->item, p->request, p->ts, time_after(p->ts, j->options.window_ms),
                                    set != NULL ? set->labels : 0};
    }
    free(found);
    return written;
}
