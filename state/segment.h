// SPDX-License-Identifier: Apache-2.0
// Segments of bodies, and the cache of those that are durable; used inside state/ only. A segment is counted:
// the commit being filled, the cache and chunks being read hold it, and the last one to let go frees it. The
// counter is atomic, since a chunk may be let go by another thread; everything else is the main thread's.
#ifndef FRESHET_STATE_SEGMENT_H
#define FRESHET_STATE_SEGMENT_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/map.h"

struct segment {
    uint64_t commit;
    uint32_t index; // in its commit
    uint32_t capacity;
    uint32_t len; // bytes below it never change
    _Atomic uint32_t refs;
    uint64_t chunk;                // number of the chunk that took hold of it last
    struct segment *newer, *older; // in the cache
    uint32_t slot;
    uint8_t bytes[];
};

struct segment *segment_new(uint64_t commit, uint32_t index, uint32_t capacity); // held once
struct segment *segment_hold(struct segment *g);
void segment_release(struct segment *g); // NULL: nothing
// A copy without the unused rest, where that is much and nobody else holds `g`; else `g`. Takes over the
// hold.
struct segment *segment_fit(struct segment *g);

// Least recently used first out, by bytes.
struct segment_cache {
    uint64_t budget;
    uint64_t bytes;
    uint64_t hits, misses, evictions;
    struct map map;         // of (commit, index) -> slot
    struct segment **slots; // NULL: free
    uint32_t *free_slots;
    uint32_t n_slots, n_free, cap_slots;
    struct segment *newest, *oldest;
};

void segment_cache_done(struct segment_cache *c);
struct segment *segment_cache_get(struct segment_cache *c, uint64_t commit,
                                  uint32_t index);                  // NULL: not there
void segment_cache_put(struct segment_cache *c, struct segment *g); // takes over the caller's hold

#endif
