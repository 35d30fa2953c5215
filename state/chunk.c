// SPDX-License-Identifier: Apache-2.0
// The value of a chunk, in measures and tiles ascending:
//
//     +---------+----------+-------------------+---------------+-------------------+--- ... +---------+---
//     | measure | n varint | offset varint     | count varint  | distance varint   |        | measure |
//     | u8      | tiles    | of the first tile |               | to the next tile  |        | u8      |
//     +---------+----------+-------------------+---------------+-------------------+--- ... +---------+---
//
// Offsets are in finest tiles from the beginning of the chunk. A chunk is a multiple of every tile, so
// merging never moves a tile from one chunk to another, and a chunk may be rewritten from merged tiles.
//
// Rows are chained by (chunk, partition) while they are taken. Tiles come by (tile, partition), so the group
// after the last one used is nearly always the right one: no sorting.
#include "state/chunk.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

enum { CHUNKS_FIRST = 64 };

void chunks_begin(struct chunks *k)
{
    k->n_rows = 0;
    k->n_groups = 0;
    k->at = 0;
}

void chunks_done(struct chunks *k)
{
    free(k->rows);
    free(k->groups);
    *k = (struct chunks){0};
}

static struct chunk_group *chunks_group_add(struct chunks *k, uint32_t chunk, uint16_t partition)
{
    if (k->n_groups == k->cap_groups) {
        k->cap_groups = k->cap_groups > 0 ? k->cap_groups * 2 : CHUNKS_FIRST;
        k->groups = mem_resize(k->groups, k->cap_groups, sizeof *k->groups);
    }
    k->at = k->n_groups++;
    k->groups[k->at] =
        (struct chunk_group){.chunk = chunk, .partition = partition, .first = CHUNK_NONE, .last = CHUNK_NONE};
    return &k->groups[k->at];
}

static struct chunk_group *chunks_group(struct chunks *k, uint32_t chunk, uint16_t partition)
{
    for (uint32_t i = 0; i < k->n_groups; i++) {
        uint32_t at = k->at + i < k->n_groups ? k->at + i : k->at + i - k->n_groups;
        if (k->groups[at].chunk == chunk && k->groups[at].partition == partition) {
            k->at = at;
            return &k->groups[at];
        }
    }
    return chunks_group_add(k, chunk, partition);
}

static uint32_t chunks_row_add(struct chunks *k, uint8_t measure, uint32_t offset, uint64_t count)
{
    if (k->n_rows == k->cap_rows) {
        k->cap_rows = k->cap_rows > 0 ? k->cap_rows * 2 : CHUNKS_FIRST;
        k->rows = mem_resize(k->rows, k->cap_rows, sizeof *k->rows);
    }
    k->rows[k->n_rows] =
        (struct chunk_row){.count = count, .offset = offset, .next = CHUNK_NONE, .measure = measure};
    return k->n_rows++;
}

void chunks_take(struct chunks *k, const struct tiling *t, uint8_t measure, struct counter *c, uint32_t from)
{
    for (uint32_t i = counter_find(c, from * t->chunk, 0); i < c->n; i++) {
        struct tile *x = &counter_tiles(c)[i];
        uint32_t chunk = x->tile / t->chunk;
        struct chunk_group *g = chunks_group(k, chunk, x->partition);
        uint32_t row = chunks_row_add(k, measure, x->tile - chunk * t->chunk, x->count);
        if (g->first == CHUNK_NONE)
            g->first = row;
        else
            k->rows[g->last].next = row;
        g->last = row;
        g->dirty |= x->dirty != 0;
        x->dirty = 0;
        k->at = k->at + 1 < k->n_groups ? k->at + 1 : 0;
    }
    c->dirty = CHUNK_NONE;
    k->at = 0;
}

// Puts the rows of one measure; returns the first of the next one.
static uint32_t chunk_put_measure(const struct chunks *k, uint32_t row, struct buf *to)
{
    uint8_t measure = k->rows[row].measure;
    uint32_t n = 0;
    for (uint32_t i = row; i != CHUNK_NONE && k->rows[i].measure == measure; i = k->rows[i].next)
        n++;
    buf_put_u8(to, measure);
    buf_put_varint(to, n);
    for (uint32_t before = 0; n > 0; n--, row = k->rows[row].next) {
        buf_put_varint(to, k->rows[row].offset - before);
        buf_put_varint(to, k->rows[row].count);
        before = k->rows[row].offset;
    }
    return row;
}

bool chunks_next(struct chunks *k, uint32_t *ret_chunk, uint16_t *ret_partition, struct buf *to)
{
    while (k->at < k->n_groups && !k->groups[k->at].dirty)
        k->at++;
    if (k->at == k->n_groups)
        return false;
    const struct chunk_group *g = &k->groups[k->at++];
    for (uint32_t row = g->first; row != CHUNK_NONE;)
        row = chunk_put_measure(k, row, to);
    *ret_chunk = g->chunk;
    *ret_partition = g->partition;
    return true;
}

bool chunk_read(struct chunk_reader *r, struct chunk_tile *ret_tile)
{
    if (r->left == 0) {
        if (rd_left(&r->from) == 0)
            return false;
        assert(r->from.p != NULL);
        r->measure = rd_u8(&r->from);
        r->left = rd_varint(&r->from);
        r->offset = 0;
    }
    uint64_t offset = r->offset + rd_varint(&r->from);
    uint64_t count = rd_varint(&r->from);
    if (r->left == 0 || offset >= r->size || r->measure >= MEASURE_MAX)
        r->from.bad = true;
    if (r->from.bad)
        return false;
    r->left--;
    r->offset = (uint32_t)offset;
    *ret_tile = (struct chunk_tile){.count = count, .tile = r->base + r->offset, .measure = r->measure};
    return true;
}
