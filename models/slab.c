// SPDX-License-Identifier: Apache-2.0
#include "models/slab.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { SLAB_BITS_MIN = 4, DIGIT_BITS = 11, DIGITS = 6, DIGIT_VALUES = 1 << DIGIT_BITS };

// The next power of two of rows * 4/3: filled to three quarters at most.
uint32_t slab_bits_for(uint64_t rows)
{
    uint32_t bits = SLAB_BITS_MIN;
    while ((UINT64_C(1) << bits) < rows + rows / 3 + 1)
        bits++;
    return bits;
}

static void slab_slot_set(struct slab *s, uint64_t at, uint64_t id, uint32_t row, uint64_t served)
{
    s->slots[at] = slab_hash(id) << 32 | served | (row + 1);
}

uint32_t slab_insert(struct slab *s, uint64_t id)
{
    assert(id != 0);
    assert(s->count < SLAB_ROWS_MAX && s->count < slab_mask(s));
    uint64_t at = slab_probe(s, id);
    assert(s->slots[at] == 0);
    uint32_t row = s->count++;
    slab_slot_set(s, at, id, row, 0);
    struct table_row *r = slab_row(s, row);
    memset(r, 0, s->stride);
    r->id = id;
    return row;
}

void slab_index(struct slab *s)
{
    for (uint32_t row = 0; row < s->count; row++) {
        if (row + SLAB_AHEAD < s->count)
            slab_prefetch(s, slab_row(s, row + SLAB_AHEAD)->id);
        uint64_t id = slab_row(s, row)->id;
        slab_slot_set(s, slab_probe(s, id), id, row, 0);
    }
}

// Takes slot `hole` out and shifts back what its absence would cut off from its home.
static void slab_unlink(struct slab *s, uint64_t hole)
{
    uint64_t mask = slab_mask(s);
    for (uint64_t i = (hole + 1) & mask; s->slots[i] != 0; i = (i + 1) & mask) {
        uint64_t home = slab_hash(slab_row(s, slab_slot_row(s->slots[i]))->id) >> s->shift;
        if (((i - home) & mask) < ((i - hole) & mask))
            continue; // its home lies after the hole: it must stay
        s->slots[hole] = s->slots[i];
        hole = i;
    }
    s->slots[hole] = 0;
}

void slab_remove(struct slab *s, uint32_t row)
{
    assert(row < s->count);
    slab_unlink(s, slab_probe(s, slab_row(s, row)->id));
    uint32_t last = s->count - 1;
    if (row != last) {
        uint64_t id = slab_row(s, last)->id;
        uint64_t at = slab_probe(s, id);
        slab_slot_set(s, at, id, row, s->slots[at] & SLAB_SERVED);
        memcpy(slab_row(s, row), slab_row(s, last), s->stride);
    }
    s->count = last;
}

void slab_served_set(struct slab *s, uint64_t id, bool served)
{
    uint64_t at = slab_probe(s, id);
    assert(s->slots[at] != 0);
    s->slots[at] = (s->slots[at] & ~SLAB_SERVED) | (served ? SLAB_SERVED : 0);
}

static uint32_t digit(uint64_t id, uint32_t d)
{
    return (uint32_t)(id >> (d * DIGIT_BITS)) & (DIGIT_VALUES - 1);
}

// Counts to positions. False if all entries share this digit, so that its pass can be left out.
static bool digit_positions(uint32_t *counts, uint32_t n)
{
    uint32_t at = 0;
    for (uint32_t v = 0; v < DIGIT_VALUES; v++) {
        uint32_t count = counts[v];
        if (count == n)
            return false;
        counts[v] = at;
        at += count;
    }
    return true;
}

void slab_sort(struct slab_order *entries, uint32_t n)
{
    if (n < 2)
        return;
    struct slab_order *from = entries;
    struct slab_order *to = mem_alloc(n * sizeof *to);
    struct slab_order *spare = to;
    uint32_t(*counts)[DIGIT_VALUES] = mem_array(DIGITS, sizeof *counts);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t d = 0; d < DIGITS; d++)
            counts[d][digit(entries[i].id, d)]++;
    for (uint32_t d = 0; d < DIGITS; d++) {
        if (!digit_positions(counts[d], n))
            continue;
        for (uint32_t i = 0; i < n; i++)
            to[counts[d][digit(from[i].id, d)]++] = from[i];
        struct slab_order *other = from;
        from = to;
        to = other;
    }
    if (from != entries)
        memcpy(entries, from, n * sizeof *entries);
    free(counts);
    free(spare);
}
