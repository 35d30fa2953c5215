// SPDX-License-Identifier: Apache-2.0
// A short sorted list: a user has one partition, an item as many as saw it. The record of one partition:
//
//     +----------+---------+---------------+---------+---------------+---
//     | n varint | measure | count varint  | measure | count varint  |
//     |          | u8      |               | u8      |               |
//     +----------+---------+---------------+---------+---------------+---
//
// Cost: 16 bytes a measure and partition; a block of 64 bytes holds three.
#include "state/totals.h"

#include <string.h>

#include "base/action.h"

enum { TOTALS_FIRST = 3 };

static uint32_t total_order(uint16_t partition, uint8_t measure)
{
    return (uint32_t)partition << 8 | measure;
}

static uint32_t totals_find(const struct totals *t, uint32_t order)
{
    uint32_t lo = 0;
    for (uint32_t hi = t->n; lo < hi;) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (total_order(t->list[mid].partition, t->list[mid].measure) < order)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct totals *totals_room(struct totals *t, struct account *a)
{
    if (t != NULL && t->n < t->cap)
        return t;
    uint32_t n = t != NULL ? t->n : 0;
    uint32_t cap = t != NULL ? t->cap * 2 + 1 : TOTALS_FIRST; // 3, 7, 15: with the head these fill a block
    t = account_resize(a, t, sizeof *t + cap * sizeof t->list[0]);
    t->n = n;
    t->cap = cap;
    return t;
}

static struct total *totals_at(struct totals **slot, struct account *a, uint16_t partition, uint8_t measure)
{
    uint32_t order = total_order(partition, measure);
    struct totals *t = *slot;
    uint32_t i = t != NULL ? totals_find(t, order) : 0;
    if (t != NULL && i < t->n && total_order(t->list[i].partition, t->list[i].measure) == order)
        return &t->list[i];
    *slot = t = totals_room(t, a);
    memmove(&t->list[i + 1], &t->list[i], (t->n - i) * sizeof t->list[0]);
    t->list[i] = (struct total){.partition = partition, .measure = measure};
    t->n++;
    return &t->list[i];
}

void totals_add(struct totals **t, struct account *a, uint16_t partition, uint8_t measure, uint64_t n)
{
    struct total *x = totals_at(t, a, partition, measure);
    x->count += n;
    x->dirty = true;
}

int totals_load(struct totals **t, struct account *a, uint16_t partition, struct rd *from)
{
    for (uint64_t n = rd_varint(from); n > 0 && !from->bad; n--) {
        uint8_t measure = rd_u8(from);
        uint64_t count = rd_varint(from);
        if (from->bad || measure >= MEASURE_MAX)
            return -1;
        totals_at(t, a, partition, measure)->count = count;
    }
    return from->bad ? -1 : 0;
}

uint64_t totals_sum(const struct totals *t, uint8_t measure)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; t != NULL && i < t->n; i++)
        sum += t->list[i].measure == measure ? t->list[i].count : 0;
    return sum;
}

bool totals_touch(struct totals *t, uint16_t partition)
{
    uint32_t i = t != NULL ? totals_find(t, total_order(partition, 0)) : 0;
    if (t == NULL || i == t->n || t->list[i].partition != partition)
        return false;
    t->list[i].dirty = true;
    return true;
}

bool totals_next(struct totals *t, uint32_t *at, uint16_t *ret_partition, struct buf *to)
{
    for (uint32_t end; t != NULL && *at < t->n; *at = end) {
        bool dirty = false;
        for (end = *at; end < t->n && t->list[end].partition == t->list[*at].partition; end++)
            dirty |= t->list[end].dirty;
        if (!dirty)
            continue;
        *ret_partition = t->list[*at].partition;
        buf_put_varint(to, end - *at);
        for (; *at < end; ++*at) {
            buf_put_u8(to, t->list[*at].measure);
            buf_put_varint(to, t->list[*at].count);
            t->list[*at].dirty = false;
        }
        return true;
    }
    return false;
}

void totals_put(const struct totals *t, struct buf *to)
{
    for (uint32_t i = 0; i < t->n; i++) {
        buf_put_u16(to, t->list[i].partition);
        buf_put_u8(to, t->list[i].measure);
        buf_put_u64(to, t->list[i].count);
    }
}
