// SPDX-License-Identifier: Apache-2.0
// A queue ordered by (time, order) for what comes almost in order; used inside state/ only.
//
//     ring   sorted; what comes in order is appended, what is out of order by a few places put in there
//     stage  unsorted: what belongs further ahead; sorted and merged into the end of the ring
//            when TIMEQ_STAGE have gathered, or when its least is the least of all
//     heap   what belongs before the front of the ring, or further than TIMEQ_MERGE from its end
//
// So jitter between partitions costs a sort of small runs, a stray event far in the future costs nothing to
// those behind it, and only what is late costs a logarithm, of the number of late ones.
#ifndef FRESHET_STATE_TIMEQ_H
#define FRESHET_STATE_TIMEQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

enum { TIMEQ_REACH = 8, TIMEQ_STAGE = 1024, TIMEQ_MERGE = 16384 };

struct timeq_entry {
    int64_t time;
    uint64_t order; // grows with every push
    uint32_t at;    // the caller's
};

struct timeq {
    struct timeq_entry *ring; // mask + 1 of them, sorted from head to tail
    uint64_t mask;
    uint64_t head, tail;
    struct timeq_entry *stage; // room for 2 * TIMEQ_STAGE: the second half is for sorting
    uint32_t stage_len, stage_least;
    struct timeq_entry *heap;
    size_t heap_len, heap_cap;
};

void timeq_done(struct timeq *q);
void timeq_clear(struct timeq *q);
void timeq_reserve(struct timeq *q, uint64_t n); // room for n more, in one step
void timeq_push(struct timeq *q, struct timeq_entry e);
void timeq_pop(struct timeq *q); // the least; there must be one
// All entries, least first, while the queue stands still. Only what is not in the ring is copied, and sorted.
struct timeq_walk {
    const struct timeq *q;
    uint64_t at; // in the ring
    struct timeq_entry *others;
    size_t n, next; // of others
};
void timeq_walk_begin(const struct timeq *q, struct timeq_walk *ret_walk);
const struct timeq_entry *
timeq_walk_next(struct timeq_walk *w); // NULL behind the last; valid until the walk's end
void timeq_walk_end(struct timeq_walk *w);
size_t timeq_bytes(const struct timeq *q);
struct mem_span timeq_span(const struct timeq *q,
                           uint64_t *io_told); // of the ring, what will be filled next: mem_ahead

static inline bool timeq_before(const struct timeq_entry *a, const struct timeq_entry *b)
{
    return (a->time < b->time) | ((a->time == b->time) & (a->order < b->order)); // no branch to mispredict
}

static inline uint64_t timeq_count(const struct timeq *q)
{
    return q->tail - q->head + q->heap_len + q->stage_len;
}

// The least, or NULL. Valid until the next change.
static inline const struct timeq_entry *timeq_min(const struct timeq *q)
{
    const struct timeq_entry *least = q->head != q->tail ? &q->ring[q->head & q->mask] : NULL;
    if (q->stage_len > 0 && (least == NULL || timeq_before(&q->stage[q->stage_least], least)))
        least = &q->stage[q->stage_least];
    if (q->heap_len > 0 && (least == NULL || timeq_before(&q->heap[0], least)))
        least = &q->heap[0];
    return least;
}

// The entry `n` places behind the front of the ring, or NULL: to fetch what will be needed soon.
static inline const struct timeq_entry *timeq_ahead(const struct timeq *q, uint64_t n)
{
    return q->tail - q->head > n ? &q->ring[(q->head + n) & q->mask] : NULL;
}

#endif
