// SPDX-License-Identifier: Apache-2.0
// The counter of one measure of one entity: a list of tiles, and the geometry of the windows that it is read
// by; used inside state/ only. Pure memory: no store, no clock.
//
//     struct tiling t;                                  one for all counters
//     tiling_init(&t, windows, n_windows);
//     tiling_watermark(&t, watermark);
//     uint32_t tile = tiling_tile(&t, ts);              TILE_NONE: dead in every window
//     counter_add(&counter, account, &t, tile, partition, 1);
//     tiling_seek(&t, at);
//     counter_window(counter, w, t.lo[w], t.hi[w]);
//
// A tile number is time in units of the tile of the finest window, whatever the width of the tile it names.
#ifndef FRESHET_STATE_COUNTER_H
#define FRESHET_STATE_COUNTER_H

#include <stdbool.h>
#include <stdint.h>

#include "state/account.h"
#include "state/state.h"

enum {
    TILE_NONE = UINT32_MAX,
    CHUNK_NONE = UINT32_MAX,
    TILE_MS_MIN = 1000,     // of the finest window: 2^32 of them reach the year 2106
    CHUNK_MS_MIN = 3600000, // a chunk of the store is the least multiple of the coarsest tile from here on
    COUNTER_SMALL = 128, // bytes: up to here (6 tiles) a read scans the tiles; above there are running sums
};

struct tiling {
    uint32_t n;                        // windows, finest first
    uint32_t tiles[STATE_WINDOWS_MAX]; // length of a window in its own tiles
    int64_t tile_ms[STATE_WINDOWS_MAX];
    uint32_t width[STATE_WINDOWS_MAX]; // of a window's tile, in finest tiles
    uint32_t chunk;                    // of a chunk of the store, in finest tiles
    int64_t ts_max;                    // a later ts has no tile number
    uint32_t alive[STATE_WINDOWS_MAX]; // first tile that is alive at the watermark, by window
    uint32_t alive_any;                // and in any window
    // Where the last tiling_seek stood: a finest tile [from_ms, to_ms), and what every window sums there.
    int64_t from_ms, to_ms;
    uint32_t tile;
    uint32_t lo[STATE_WINDOWS_MAX], hi[STATE_WINDOWS_MAX]; // lo <= tile < hi
};

void tiling_init(struct tiling *t, const struct state_window *windows, uint32_t n);
void tiling_watermark(struct tiling *t, int64_t watermark);
void tiling_seek_slow(struct tiling *t, int64_t at);
uint32_t tiling_merged(const struct tiling *t,
                       uint32_t tile); // as wide as the watermark asks for, or TILE_NONE

static inline void tiling_seek(struct tiling *t, int64_t at)
{
    if (at < t->from_ms || at >= t->to_ms)
        tiling_seek_slow(t, at);
}

// The tile that an event of `ts` is counted in.
static inline uint32_t tiling_tile(struct tiling *t, int64_t ts)
{
    if (ts < 0 || ts > t->ts_max)
        return TILE_NONE;
    uint32_t tile = ts >= t->from_ms && ts < t->to_ms ? t->tile : (uint32_t)(ts / t->tile_ms[0]);
    return tile >= t->alive[0] ? tile : tiling_merged(t, tile);
}

struct tile {
    uint32_t tile;
    uint16_t partition;
    uint16_t dirty; // 1: changed since it was last put into a batch
    uint64_t count;
};

// The sum of tiles[first ..], which are those from `lo` on.
struct counter_sum {
    uint64_t sum;
    uint32_t first;
    uint32_t lo;
};

//     +-----------------------+--------------------------+----------------------------------- ...
//     | struct counter (24 B) | sums, one a window       | tiles by (tile, partition), no two alike
//     |                       | (none while it is small) |
//     +-----------------------+--------------------------+----------------------------------- ...
struct counter {
    uint32_t n; // tiles
    uint32_t cap;
    uint32_t dirty;   // oldest chunk with a dirty tile, or CHUNK_NONE
    uint32_t newest;  // number of the last tile
    uint32_t windows; // length of sums; 0 up to COUNTER_SMALL
    uint32_t bytes;   // of all this
    struct counter_sum sums[];
};

static inline struct tile *counter_tiles(struct counter *c)
{
    return (struct tile *)(void *)(c->sums + c->windows);
}

static inline const struct tile *counter_tiles_const(const struct counter *c)
{
    return (const struct tile *)(const void *)(c->sums + c->windows);
}

struct counter *counter_new(struct account *a);
void counter_free(struct account *a, struct counter *c);

// *c may move. `tile` is from tiling_tile or tiling_merged.
void counter_add(struct counter **c, struct account *a, const struct tiling *t, uint32_t tile,
                 uint16_t partition, uint64_t n);
// The same for what is in the store already: it is not dirty.
void counter_load(struct counter **c, struct account *a, const struct tiling *t, uint32_t tile,
                  uint16_t partition, uint64_t n);
// Sum over lo <= tile < hi.
uint64_t counter_window(struct counter *c, uint32_t window, uint32_t lo, uint32_t hi);
// Merges tiles to the width that the watermark asks for and drops dead ones: the canonical form.
void counter_merge(struct counter *c, const struct tiling *t);
// Index of the first tile that is not before (tile, partition).
uint32_t counter_find(const struct counter *c, uint32_t tile, uint16_t partition);

#endif
