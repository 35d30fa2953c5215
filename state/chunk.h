// SPDX-License-Identifier: Apache-2.0
// The tiles of one entity cut into chunks for the store: by chunk of event time (an hour, or the least
// multiple of the coarsest tile above it) and partition, all measures together; used inside state/ only.
//
//     chunks_begin(&k);
//     for each measure, ascending: chunks_take(&k, &tiling, measure, counter, first_dirty_chunk);
//     while (chunks_next(&k, &chunk, &partition, &value)) put it
#ifndef FRESHET_STATE_CHUNK_H
#define FRESHET_STATE_CHUNK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "state/counter.h"

struct chunk_row {
    uint64_t count;
    uint32_t offset; // in the chunk
    uint32_t next;   // row of the same chunk and partition, or CHUNK_NONE
    uint8_t measure;
};

struct chunk_group {
    uint32_t chunk;
    uint16_t partition;
    bool dirty;
    uint32_t first, last; // rows
};

// Scratch memory of the caller, kept from entity to entity.
struct chunks {
    struct chunk_row *rows;
    uint32_t n_rows, cap_rows;
    struct chunk_group *groups;
    uint32_t n_groups, cap_groups;
    uint32_t at; // the group last used
};

void chunks_begin(struct chunks *k);
void chunks_done(struct chunks *k);
// Takes the tiles of `c` from chunk `from` on. They are clean after it.
void chunks_take(struct chunks *k, const struct tiling *t, uint8_t measure, struct counter *c, uint32_t from);
// The next chunk that holds a dirty tile; its value is appended to `to`. False: no more.
bool chunks_next(struct chunks *k, uint32_t *ret_chunk, uint16_t *ret_partition, struct buf *to);

struct chunk_tile {
    uint64_t count;
    uint32_t tile;
    uint8_t measure;
};

// Reads a value, tile by tile: start with zeroed `r` but for from, base and size.
struct chunk_reader {
    struct rd from;
    uint32_t base, size; // of the chunk, in finest tiles
    uint64_t left;       // tiles of this measure
    uint32_t offset;
    uint8_t measure;
};
// False at the end, and on a malformed value: then from.bad is set.
bool chunk_read(struct chunk_reader *r, struct chunk_tile *ret_tile);

#endif
