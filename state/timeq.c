// SPDX-License-Identifier: Apache-2.0
// The ring is a power of two in size and indexed by counters that never wrap back; the heap is binary. A
// merge moves the end of the ring from the back, as far as the least of the stage belongs.
#include "state/timeq.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { TIMEQ_FIRST = 64 };

void timeq_done(struct timeq *q)
{
    free(q->ring);
    free(q->stage);
    free(q->heap);
    *q = (struct timeq){0};
}

void timeq_clear(struct timeq *q)
{
    q->head = q->tail = 0;
    q->heap_len = 0;
    q->stage_len = 0;
}

// ---- ring -------------------------------------------------------------------------------------------------

static uint64_t ring_len(const struct timeq *q)
{
    return q->tail - q->head;
}

static struct timeq_entry *ring_at(const struct timeq *q, uint64_t i)
{
    return &q->ring[i & q->mask];
}

static void ring_room(struct timeq *q, uint64_t n)
{
    uint64_t len = ring_len(q);
    uint64_t cap = q->ring != NULL ? q->mask + 1 : TIMEQ_FIRST;
    if (q->ring != NULL && cap - len >= n)
        return;
    uint64_t old = q->ring != NULL ? cap : 0;
    while (cap - len < n)
        cap *= 2;
    q->ring = mem_resize(q->ring, cap, sizeof *q->ring); // a large one is not copied
    q->mask = cap - 1;
    for (uint64_t i = q->head; old > 0 && i != q->tail; i++)
        if ((i & q->mask) >= old)
            q->ring[i & q->mask] = q->ring[i & (old - 1)];
}

// Puts it `back` places before the end.
static void ring_insert(struct timeq *q, struct timeq_entry e, uint64_t back)
{
    for (uint64_t i = 0; i < back; i++)
        *ring_at(q, q->tail - i) = *ring_at(q, q->tail - i - 1);
    *ring_at(q, q->tail - back) = e;
    q->tail++;
}

// ---- heap -------------------------------------------------------------------------------------------------

static void heap_push(struct timeq *q, struct timeq_entry e)
{
    if (q->heap_len == q->heap_cap) {
        q->heap_cap = q->heap_cap > 0 ? q->heap_cap * 2 : TIMEQ_FIRST;
        q->heap = mem_resize(q->heap, q->heap_cap, sizeof *q->heap);
    }
    size_t i = q->heap_len++;
    for (; i > 0 && timeq_before(&e, &q->heap[(i - 1) / 2]); i = (i - 1) / 2)
        q->heap[i] = q->heap[(i - 1) / 2];
    q->heap[i] = e;
}

static void heap_pop(struct timeq *q)
{
    struct timeq_entry last = q->heap[--q->heap_len];
    size_t i = 0;
    for (size_t child = 1; child < q->heap_len; child = 2 * i + 1) {
        if (child + 1 < q->heap_len && timeq_before(&q->heap[child + 1], &q->heap[child]))
            child++;
        if (!timeq_before(&q->heap[child], &last))
            break;
        q->heap[i] = q->heap[child];
        i = child;
    }
    q->heap[i] = last;
}

// ---- stage ------------------------------------------------------------------------------------------------

// Merges from[0 .. middle) and from[middle .. n) into `to`, each step without a branch on what is compared.
static void merge_halves(const struct timeq_entry *from, size_t middle, size_t n, struct timeq_entry *to)
{
    const struct timeq_entry *a = from;
    const struct timeq_entry *b = from + middle;
    while (a < from + middle && b < from + n) {
        bool second = timeq_before(b, a);
        *to++ = *(second ? b : a);
        b += second;
        a += !second;
    }
    for (; a < from + middle; a++)
        *to++ = *a;
    for (; b < from + n; b++)
        *to++ = *b;
}

// Sorts n entries by merging runs of growing length; `spare` has room for as many.
static void entries_sort(struct timeq_entry *e, size_t n, struct timeq_entry *spare)
{
    struct timeq_entry *from = e;
    struct timeq_entry *to = spare;
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t i = 0; i < n; i += 2 * run) {
            size_t len = n - i < 2 * run ? n - i : 2 * run;
            merge_halves(from + i, run < len ? run : len, len, to + i);
        }
        struct timeq_entry *swap = from;
        from = to;
        to = swap;
    }
    if (from != e && n > 0)
        memcpy(e, from, n * sizeof *e);
}

// Sorts the stage and merges it into the ring; what belongs too far from the end goes into the heap.
static void stage_flush(struct timeq *q)
{
    uint64_t len = ring_len(q);
    uint64_t reach = len < TIMEQ_MERGE ? len : TIMEQ_MERGE;
    uint32_t n = q->stage_len;
    uint32_t far = 0;
    entries_sort(q->stage, n, q->stage + TIMEQ_STAGE);
    if (reach < len)
        while (far < n && timeq_before(&q->stage[far], ring_at(q, q->tail - reach)))
            heap_push(q, q->stage[far++]);
    ring_room(q, n - far);
    uint64_t from = q->tail; // one after the next of the ring to move
    q->tail += n - far;
    for (uint64_t to = q->tail; n > far; to--) {
        bool moves = from > q->head && timeq_before(&q->stage[n - 1], ring_at(q, from - 1));
        *ring_at(q, to - 1) = moves ? *ring_at(q, from - 1) : q->stage[n - 1];
        from -= moves;
        n -= !moves;
    }
    q->stage_len = 0;
}

static void stage_push(struct timeq *q, struct timeq_entry e)
{
    if (q->stage == NULL)
        q->stage = mem_array((size_t)2 * TIMEQ_STAGE, sizeof *q->stage);
    if (q->stage_len == 0 || timeq_before(&e, &q->stage[q->stage_least]))
        q->stage_least = q->stage_len;
    q->stage[q->stage_len++] = e;
    if (q->stage_len == TIMEQ_STAGE)
        stage_flush(q);
}

// ---- the interface ----------------------------------------------------------------------------------------

void timeq_reserve(struct timeq *q, uint64_t n)
{
    ring_room(q, n);
}

void timeq_push(struct timeq *q, struct timeq_entry e)
{
    ring_room(q, 1);
    uint64_t len = ring_len(q);
    uint64_t reach = len < TIMEQ_REACH ? len : TIMEQ_REACH;
    uint64_t back = 0; // places before the end
    while (back < reach && timeq_before(&e, ring_at(q, q->tail - 1 - back)))
        back++;
    if (back < TIMEQ_REACH)
        ring_insert(q, e, back);
    else if (timeq_before(&e, ring_at(q, q->head)))
        heap_push(q, e);
    else
        stage_push(q, e);
}

void timeq_pop(struct timeq *q)
{
    const struct timeq_entry *least = timeq_min(q);
    assert(least != NULL);
    if (q->stage_len > 0 && least == &q->stage[q->stage_least]) {
        stage_flush(q);
        least = timeq_min(q);
    }
    if (q->heap_len > 0 && least == &q->heap[0])
        heap_pop(q);
    else
        q->head++;
}

void timeq_walk_begin(const struct timeq *q, struct timeq_walk *ret_walk)
{
    size_t n = q->stage_len + q->heap_len;
    struct timeq_entry *others = mem_array(2 * n, sizeof *others); // the second half is for sorting
    if (q->stage_len > 0)
        memcpy(others, q->stage, q->stage_len * sizeof *others);
    if (q->heap_len > 0)
        memcpy(others + q->stage_len, q->heap, q->heap_len * sizeof *others);
    entries_sort(others, n, others + n);
    *ret_walk = (struct timeq_walk){.q = q, .at = q->head, .others = others, .n = n};
}

const struct timeq_entry *timeq_walk_next(struct timeq_walk *w)
{
    const struct timeq_entry *ring = w->at != w->q->tail ? &w->q->ring[w->at & w->q->mask] : NULL;
    const struct timeq_entry *other = w->next < w->n ? &w->others[w->next] : NULL;
    if (ring != NULL && (other == NULL || timeq_before(ring, other))) {
        w->at++;
        return ring;
    }
    w->next += other != NULL;
    return other;
}

void timeq_walk_end(struct timeq_walk *w)
{
    free(w->others);
    *w = (struct timeq_walk){0};
}

size_t timeq_bytes(const struct timeq *q)
{
    size_t entries = (q->ring != NULL ? (size_t)q->mask + 1 : 0) + q->heap_cap;
    return (entries + (q->stage != NULL ? 2 * TIMEQ_STAGE : 0)) * sizeof *q->ring;
}

struct mem_span timeq_span(const struct timeq *q, uint64_t *io_told)
{
    if (q->ring == NULL)
        return (struct mem_span){NULL, 0};
    return mem_ahead(q->ring, q->tail & q->mask, q->mask + 1, sizeof *q->ring, q->tail, io_told);
}
