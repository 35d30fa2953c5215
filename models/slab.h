// SPDX-License-Identifier: Apache-2.0
// Rows side by side in a dense slab, and an index that finds them by id; used inside models/ only, by the
// table and by the overlay.
//
// The index is open addressing with linear probing. A slot is 8 bytes, so that eight neighbours are one cache
// line and a probe that misses seldom touches a row:
//
//      63           32  31     30            0
//     +---------------+--------+--------------+
//     | tag: hash low | served | row + 1      |      all zero: a free slot
//     +---------------+--------+--------------+
//
// The home of an id is the top of id * 2^64/phi, which spreads ids that are no good hashes too. A row that
// goes is filled with the last one, and the index is shifted back: no tombstones, no holes, no slow decay.
#ifndef FRESHET_MODELS_SLAB_H
#define FRESHET_MODELS_SLAB_H

#include "models/table.h"

enum {
    SLAB_HEADER = 20,          // bytes of a row before its vector
    SLAB_ALIGN = 32,           // a row of dim 16 then always lies in two cache lines, never in three
    SLAB_ROWS_MAX = INT32_MAX, // row + 1 must fit 31 bits
    SLAB_AHEAD = 32,           // how far ahead of its use an index line is fetched; a row half as far
};

#define SLAB_SERVED (UINT64_C(1) << 31)

struct slab {
    uint8_t *rows;
    uint64_t *slots;
    size_t stride; // bytes of a row
    uint32_t count;
    uint32_t shift; // 64 - log2 of the number of slots
};

// Of a row with so many floats: its vector, and the optimizer's state behind it.
static inline size_t slab_stride(uint32_t floats)
{
    return (SLAB_HEADER + (size_t)floats * sizeof(float) + SLAB_ALIGN - 1) / SLAB_ALIGN * SLAB_ALIGN;
}

static inline uint64_t slab_hash(uint64_t id)
{
    return id * UINT64_C(0x9e3779b97f4a7c15);
}

static inline uint64_t slab_mask(const struct slab *s)
{
    return (UINT64_C(1) << (64 - s->shift)) - 1;
}

static inline struct table_row *slab_row(const struct slab *s, uint32_t row)
{
    return (struct table_row *)(s->rows + row * s->stride);
}

// The index slot of `id`, or the free one where its probing ends.
static inline uint64_t slab_probe(const struct slab *s, uint64_t id)
{
    uint64_t h = slab_hash(id);
    uint64_t mask = slab_mask(s);
    for (uint64_t i = h >> s->shift;; i = (i + 1) & mask) {
        uint64_t v = s->slots[i];
        if (v == 0)
            return i;
        if (v >> 32 == (uint32_t)h && slab_row(s, ((uint32_t)v & INT32_MAX) - 1)->id == id)
            return i;
    }
}

static inline uint32_t slab_slot_row(uint64_t slot)
{
    return slot == 0 ? TABLE_NONE : ((uint32_t)slot & INT32_MAX) - 1;
}

static inline uint32_t slab_find(const struct slab *s, uint64_t id)
{
    return slab_slot_row(s->slots[slab_probe(s, id)]);
}

static inline __attribute__((always_inline)) void slab_prefetch(const struct slab *s, uint64_t id)
{
    __builtin_prefetch(&s->slots[slab_hash(id) >> s->shift]);
}

// The first lines of a row; what a long row has beyond them comes by itself. Inlined by force:
// gcc counts a prefetch as no effect, so it drops calls of a function that does nothing else, and loops
// around it.
static inline __attribute__((always_inline)) void slab_row_prefetch(const struct slab *s, uint32_t row)
{
    const uint8_t *p = s->rows + row * s->stride;
    __builtin_prefetch(p);
    if (s->stride > 64)
        __builtin_prefetch(p + 64);
    if (s->stride > 128)
        __builtin_prefetch(p + 128);
    if (s->stride > 192)
        __builtin_prefetch(p + 192);
}

// The slot that `id` seems to have by its tag, 0 if none has it; no row is touched, but that one is
// prefetched. One in 2^32 is another's: who uses it compares the row's id, and probes if it differs.
static inline __attribute__((always_inline)) uint64_t slab_candidate(const struct slab *s, uint64_t id)
{
    uint64_t h = slab_hash(id);
    uint64_t mask = slab_mask(s);
    for (uint64_t i = h >> s->shift;; i = (i + 1) & mask) {
        uint64_t v = s->slots[i];
        if (v == 0)
            return 0;
        if (v >> 32 == (uint32_t)h) {
            slab_row_prefetch(s, slab_slot_row(v));
            return v;
        }
    }
}

uint32_t slab_bits_for(uint64_t rows); // log2 of the slots of an index that holds `rows`
// A zeroed row for an id that is absent; the caller has seen to the room.
uint32_t slab_insert(struct slab *s, uint64_t id);
void slab_remove(struct slab *s, uint32_t row); // the last row takes its place
void slab_served_set(struct slab *s, uint64_t id, bool served);
// Fills an empty index of the slab from its rows. The served marks are lost.
void slab_index(struct slab *s);

// Sorts by id, ascending, by LSD radix: O(n), stable.
struct slab_order {
    uint64_t id;
    uint32_t ref;
};
void slab_sort(struct slab_order *entries, uint32_t n);

#endif
