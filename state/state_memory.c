// SPDX-License-Identifier: Apache-2.0
// Problem: caches have budgets, but what a commit must write stays in memory until it is durable, whatever the
// budgets say: entities that changed or are new, bodies, records, and the batch into which they are copied. At a
// million new users a second that is what fills the machine.
//
// Idea: keep one number, about what a commit would hold now, that costs a few additions to read. The caller commits
// when it reaches its bound. There is one commit under way at most, so twice the bound is enough for both:
//
//     cache_bytes             | clean, or changed in place            evicted down to it after each commit
//     + growth                | loaded or made since the last commit  ) dirty: at most commit_bytes
//     + batch of what changed | about what an entity took last time   )
//     + bodies, records twice | there; records are copied, too        )
//     + the same of the commit under way                                flight
//
// What entities take beyond cache_bytes is thus growth of these two, and is told as theirs.
#include <assert.h>

#include "state/internal.h"

enum {
    ENTRY_BYTES =
        24 + 2 * 16,        // of a batch beside key and value: the entry, and twice a slot while it is sorted
    ENTITY_PUT = 512,       // of a dirty entity, before the first commit tells
    STORE_BYTES = 64 << 20, // measured: readers of 512 files, a builder with its filters, two compactions
    GONE_BYTES = 56,        // of a tombstone: gone.c
    NAMES_MAPS = 16 << 20,  // of the two generations of names, whose texts are short
};

static uint64_t entity_bytes(const struct state *s, uint64_t *ret_dirty)
{
    struct entities_figures e = {0};
    entities_figures(s->entities, &e);
    *ret_dirty = e.dirty;
    return e.bytes;
}

static uint64_t batch_bytes(const struct state *s)
{
    return store_batch_bytes(s->batch) + store_batch_count(s->batch) * ENTRY_BYTES;
}

// What is copied when it is collected, but for entities, bodies and records.
static uint64_t blocks_bytes(const struct state *s)
{
    return 2 * dedupe_dirty_bytes(s->dedupe) + joiner_dirty_bytes(s->joiner) + 2 * s->order.done.len +
           2 * s->outbox.open.len;
}

uint64_t state_dirty_bytes(const struct state *s)
{
    assert(s->magic == STATE_MAGIC);
    uint64_t dirty;
    uint64_t bytes = entity_bytes(s, &dirty);
    uint64_t growth = bytes > s->entity_bytes ? bytes - s->entity_bytes : 0;
    return growth + dirty * (s->entity_put > 0 ? s->entity_put : ENTITY_PUT) + batch_bytes(s) +
           samples_dirty_bytes(s->samples) + blocks_bytes(s);
}

struct dirty_mark dirty_mark(const struct state *s)
{
    struct dirty_mark mark = {.bytes = batch_bytes(s)};
    entity_bytes(s, &mark.entities);
    return mark;
}

void dirty_collected(struct state *s, const struct dirty_mark *before)
{
    uint64_t none;
    s->entity_bytes = entity_bytes(s, &none);
    if (before->entities > 0)
        s->entity_put = (batch_bytes(s) - before->bytes) / before->entities + 1;
}

void dirty_trim(struct state *s)
{
    uint64_t none;
    uint64_t before = entity_bytes(s, &none);
    entities_trim(s->entities);
    uint64_t evicted = before - entity_bytes(s, &none);
    s->entity_bytes -= evicted < s->entity_bytes ? evicted : s->entity_bytes;
}

// ---- in sum -----------------------------------------------------------------------------------------------

static uint64_t rest_bytes(const struct state *s)
{
    struct entities_figures e = {0};
    entities_figures(s->entities, &e);
    return e.gone_bytes + map_bytes(&s->names.at) + s->names.bytes.cap + map_bytes(&s->names_before.at) +
           s->names_before.bytes.cap + s->outbox.read.cap + s->name_read.cap;
}

void state_memory(const struct state *s, struct state_memory *ret_used)
{
    struct samples_memory samples;
    struct store_figures store = {0};
    uint64_t none;
    uint64_t entities = entity_bytes(s, &none);
    uint64_t over = entities > s->options.cache_bytes ? entities - s->options.cache_bytes : 0;
    samples_memory(s->samples, &samples);
    store_figures(s->store, &store);
    *ret_used = (struct state_memory){{
        [STATE_MEMORY_ENTITIES] = entities - over,
        [STATE_MEMORY_BODIES] = samples.cache_bytes,
        [STATE_MEMORY_BLOCKS] = store.block_cache_used,
        [STATE_MEMORY_STORE] = store.work_bytes,
        [STATE_MEMORY_JOINER] = joiner_bytes(s->joiner),
        [STATE_MEMORY_DEDUPE] = dedupe_bytes(s->dedupe),
        [STATE_MEMORY_COMMIT] = over + samples.part_bytes + batch_bytes(s) + blocks_bytes(s) +
                                (state_commit_busy(s) ? s->flight_bytes : 0),
        [STATE_MEMORY_REST] = rest_bytes(s),
    }};
}

void state_memory_most(const struct state_options *options, uint64_t commit_bytes,
                       struct state_memory *ret_most)
{
    *ret_most = (struct state_memory){{
        [STATE_MEMORY_ENTITIES] = options->cache_bytes,
        [STATE_MEMORY_BODIES] = options->body_cache_bytes,
        [STATE_MEMORY_BLOCKS] = options->block_cache_bytes,
        [STATE_MEMORY_STORE] = STORE_BYTES,
        [STATE_MEMORY_JOINER] = joiner_bytes_most(&options->join),
        [STATE_MEMORY_DEDUPE] = options->dedupe_window_ms > 0 ? dedupe_bytes_most(options->dedupe_max) : 0,
        [STATE_MEMORY_COMMIT] = 2 * commit_bytes,
        [STATE_MEMORY_REST] = options->gone_max * GONE_BYTES + 2 * NAMES_BYTES + NAMES_MAPS,
    }};
}
