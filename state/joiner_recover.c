// SPDX-License-Identifier: Apache-2.0
// The way back from blocks to memory, which is what a start waits for.
//
// While blocks are read, the slab alone is filled: impressions come in order of arrival, so it is sorted by
// arrival, and a number is found where its distance from the last one says, or a little further on, for some
// are missing. What the marks say of who is forgotten, and whose sample left, is kept for the end: of an
// impression the greatest mark of all later blocks decides. Then one pass in order of memory drops those that
// are gone, and puts the others into chains and queues, whose sizes are known by now.
//
// When the slab is full, those that are gone so far are dropped and the others moved together: memory is in
// proportion to what is known, also where one impression far in the future keeps old blocks alive.
//
// Cost: one cache line an impression, twice; one line of the chains, fetched ahead.
#include <stdlib.h>

#include "base/mem.h"
#include "state/joiner_impl.h"

enum { MARKS_FIRST = 64 };

void recover_begin(struct joiner *j)
{
    assert(j->recovering || timeq_count(&j->due) == 0);
    j->recovering = true;
}

void recover_mark(struct joiner *j, const struct joiner_upto *gone, const struct joiner_upto *out)
{
    if (j->slab_len == 0 || (!gone->any && !out->any))
        return;
    if (j->marks_len == j->marks_cap) {
        j->marks_cap = j->marks_cap > 0 ? j->marks_cap * 2 : MARKS_FIRST;
        j->marks = mem_resize(j->marks, j->marks_cap, sizeof *j->marks);
    }
    j->marks[j->marks_len++] = (struct joiner_mark){*gone, *out, j->slab_len};
}

static bool upto_reaches(const struct joiner_upto *u, int64_t ts, uint64_t arrival)
{
    return u->any && (u->ts > ts || (u->ts == ts && u->arrival >= arrival));
}

static void upto_raise(struct joiner_upto *u, const struct joiner_upto *by)
{
    if (by->any && (!u->any || upto_reaches(by, u->ts, u->arrival)))
        *u = *by;
}

// Forgets all that is gone, from the last mark back to the first, and tells whose sample is out.
static void marks_settle(struct joiner *j)
{
    struct joiner_upto gone = {0};
    struct joiner_upto out = {0};
    for (size_t k = j->marks_len; k > 0; k--) {
        const struct joiner_mark *m = &j->marks[k - 1];
        upto_raise(&gone, &m->gone);
        upto_raise(&out, &m->out);
        for (uint32_t at = k > 1 ? j->marks[k - 2].first : 0; at < m->first; at++) {
            struct pending *p = &j->slab[at];
            if (upto_reaches(&gone, p->ts, pending_arrival(p)))
                pending_forget(j, at);
            else if (upto_reaches(&out, p->ts, pending_arrival(p)))
                p->arrival |= ARRIVAL_KEPT;
        }
    }
    j->marks_len = 0;
}

static void slab_compact(struct joiner *j)
{
    uint32_t to = 0;
    for (uint32_t at = 0; at < j->slab_len; at++) {
        if (pending_arrival(&j->slab[at]) == ARRIVAL_FREE)
            continue;
        j->slab[to] = j->slab[at];
        if (j->slab[to].set != PENDING_NONE)
            label_set_at(j, j->slab[to].set)->owner = to;
        to++;
    }
    j->slab_len = to;
}

uint32_t recover_add(struct joiner *j, const struct state_impression *i, uint64_t arrival)
{
    if (j->slab_len == j->slab_cap && j->marks_len > 0) {
        marks_settle(j);
        slab_compact(j);
    }
    return pending_place(j, i, arrival);
}

// From the end as many places back as numbers are between, which is too far back by what is missing there;
// from there on in steps that double, and then in halves.
uint32_t recover_find(const struct joiner *j, uint64_t arrival)
{
    if (j->slab_len == 0)
        return PENDING_NONE;
    uint64_t last = pending_arrival(&j->slab[j->slab_len - 1]);
    if (arrival > last)
        return PENDING_NONE;
    uint32_t low = last - arrival < j->slab_len ? j->slab_len - 1 - (uint32_t)(last - arrival) : 0;
    uint32_t high = low; // in the end the first slot whose number is not below `arrival`
    for (uint32_t step = 1; pending_arrival(&j->slab[high]) < arrival; step *= 2) {
        low = high + 1;
        high = step < j->slab_len - 1 - high ? high + step : j->slab_len - 1;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (pending_arrival(&j->slab[middle]) < arrival)
            low = middle + 1;
        else
            high = middle;
    }
    return pending_arrival(&j->slab[high]) == arrival ? high : PENDING_NONE;
}

// How many of each block are left; blocks of which none is go from the list. Returns how many of all are kept.
static uint64_t sources_count(struct joiner *j)
{
    size_t source = j->sources_head;
    uint64_t kept = 0;
    for (size_t k = source; k < j->sources_len; k++)
        j->sources[k].live = 0;
    for (uint32_t at = 0; at < j->slab_len; at++) {
        uint64_t arrival = pending_arrival(&j->slab[at]);
        if (arrival == ARRIVAL_FREE)
            continue;
        while (source < j->sources_len && arrival >= j->sources[source].end)
            source++;
        assert(source < j->sources_len);
        j->sources[source].live++;
        kept += pending_kept(&j->slab[at]);
    }
    size_t to = 0;
    for (size_t k = j->sources_head; k < j->sources_len; k++)
        if (j->sources[k].live > 0)
            j->sources[to++] = j->sources[k];
    j->sources_head = 0;
    j->sources_len = to;
    return kept;
}

static void queues_reserve(struct joiner *j, uint64_t kept)
{
    uint64_t n = 0;
    for (size_t k = 0; k < j->sources_len; k++)
        n += j->sources[k].live;
    timeq_reserve(&j->due, n - kept);
    timeq_reserve(&j->kept, kept);
    chains_reserve(j, n);
}

void joiner_recovered(struct joiner *j)
{
    joiner_check(j);
    if (!j->recovering)
        return;
    j->recovering = false;
    marks_settle(j);
    queues_reserve(j, sources_count(j));
    j->shadows = 0;
    for (uint32_t at = 0; at < j->slab_len; at++) {
        const struct pending *p = &j->slab[at];
        if (pending_arrival(p) == ARRIVAL_FREE) {
            pending_slot_free(j, at);
            continue;
        }
        j->shadows += p->set != PENDING_NONE && !pending_kept(p) && label_set_at(j, p->set)->emitted;
        pending_enter(j, at);
    }
    free(j->marks);
    j->marks = NULL;
    j->marks_cap = 0;
}
