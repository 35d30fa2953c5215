// SPDX-License-Identifier: Apache-2.0
// The cache: a map of slots, and a list by use through the segments themselves. hash_mix is one to one, so
// two segments never share a key while commits are below 2^48 and indexes below 2^16, as in the store's keys.
#include "state/segment.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

struct segment *segment_new(uint64_t commit, uint32_t index, uint32_t capacity)
{
    assert(index <= UINT16_MAX && commit >> 48 == 0);
    struct segment *g = mem_alloc(sizeof *g + capacity);
    *g = (struct segment){.commit = commit, .index = index, .capacity = capacity, .slot = MAP_NONE};
    atomic_init(&g->refs, 1);
    return g;
}

struct segment *segment_hold(struct segment *g)
{
    atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
    return g;
}

void segment_release(struct segment *g)
{
    if (g != NULL && atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) == 1)
        free(g);
}

struct segment *segment_fit(struct segment *g)
{
    if (g->len > g->capacity / 4 * 3 || atomic_load_explicit(&g->refs, memory_order_acquire) > 1)
        return g;
    struct segment *copy = segment_new(g->commit, g->index, g->len);
    memcpy(copy->bytes, g->bytes, g->len);
    copy->len = g->len;
    segment_release(g);
    return copy;
}

static uint64_t segment_key(uint64_t commit, uint32_t index)
{
    return hash_mix((commit << 16 | index) + 1);
}

static void cache_unlink(struct segment_cache *c, struct segment *g)
{
    *(g->newer != NULL ? &g->newer->older : &c->newest) = g->older;
    *(g->older != NULL ? &g->older->newer : &c->oldest) = g->newer;
}

static void cache_link(struct segment_cache *c, struct segment *g)
{
    g->newer = NULL;
    g->older = c->newest;
    *(g->older != NULL ? &g->older->newer : &c->oldest) = g;
    c->newest = g;
}

static void cache_drop(struct segment_cache *c, struct segment *g)
{
    cache_unlink(c, g);
    map_remove(&c->map, segment_key(g->commit, g->index));
    c->slots[g->slot] = NULL;
    c->free_slots[c->n_free++] = g->slot;
    c->bytes -= sizeof *g + g->capacity;
    g->slot = MAP_NONE;
    segment_release(g);
}

void segment_cache_done(struct segment_cache *c)
{
    while (c->oldest != NULL)
        cache_drop(c, c->oldest);
    map_done(&c->map);
    free(c->slots);
    free(c->free_slots);
    *c = (struct segment_cache){0};
}

struct segment *segment_cache_get(struct segment_cache *c, uint64_t commit, uint32_t index)
{
    uint32_t slot = map_get(&c->map, segment_key(commit, index));
    c->hits += slot != MAP_NONE;
    c->misses += slot == MAP_NONE;
    if (slot == MAP_NONE)
        return NULL;
    struct segment *g = c->slots[slot];
    cache_unlink(c, g);
    cache_link(c, g);
    return g;
}

static uint32_t cache_slot(struct segment_cache *c)
{
    if (c->n_free > 0)
        return c->free_slots[--c->n_free];
    if (c->n_slots == c->cap_slots) {
        c->cap_slots = c->cap_slots > 0 ? c->cap_slots * 2 : 64;
        c->slots = mem_resize(c->slots, c->cap_slots, sizeof(struct segment *));
        c->free_slots = mem_resize(c->free_slots, c->cap_slots, sizeof *c->free_slots);
    }
    return c->n_slots++;
}

void segment_cache_put(struct segment_cache *c, struct segment *g)
{
    uint32_t *slot = map_at(&c->map, segment_key(g->commit, g->index));
    assert(*slot == MAP_NONE && g->slot == MAP_NONE);
    *slot = g->slot = cache_slot(c);
    c->slots[g->slot] = g;
    cache_link(c, g);
    c->bytes += sizeof *g + g->capacity;
    for (; c->bytes > c->budget && c->oldest != NULL; c->evictions++)
        cache_drop(c, c->oldest);
}
