// SPDX-License-Identifier: Apache-2.0
// What an entity and the cache look like; used by entity*.c and their tests only.
//
// Cost of an entity: a block of 128 bytes if its text has at most 38, 16 bytes of table at a load of 3/8 to
// 3/4, and a counter of 64 or 128 bytes (2 or 6 tiles) for each measure in use.
#ifndef FRESHET_STATE_ENTITY_STRUCT_H
#define FRESHET_STATE_ENTITY_STRUCT_H

#include <stddef.h>

#include "state/account.h"
#include "state/chunk.h"
#include "state/counter.h"
#include "state/entity.h"
#include "state/sequence.h"

enum {
    ENTITY_COUNTERS = 4, // kept inside the struct
    ENTITY_TEXT_MAX = UINT16_MAX,
};

enum entity_flag {
    ENTITY_USED = 1,  // since the clock's hand last came by
    ENTITY_DIRTY = 2, // on the dirty list
    ENTITY_NAMED = 4, // first_ts is known
    ENTITY_NAME_DIRTY = 8,
    ENTITY_PROFILE_DIRTY = 16,
};

struct profile {
    int64_t ts;
    uint32_t len;
    bool deleted; // a tombstone: keeps an older upsert from coming back
    char record[];
};

struct entity {
    uint64_t id;
    uint32_t measures; // bit m: there is a counter of measure m
    uint16_t partition;
    uint8_t kind;
    uint8_t flags;
    struct counter *counters[ENTITY_COUNTERS]; // the first of them in order of measure,
    struct counter **more;                     // and the others
    struct sequence *sequences;                // a list by action
    struct profile *profile;
    uint64_t commit; // the newest that holds a part of it
    int64_t first_ts;
    uint16_t text_len;
    char text[];
};

struct entity_slot {
    uint64_t key;
    struct entity *entity; // NULL: free
};

// Open addressing, linear probing, deletion by shifting back; as base/map.h, with key and entity in one line.
struct entity_table {
    struct entity_slot *slots;
    uint64_t mask;
    uint64_t count;
};

enum { PREFETCH_RING = 16 }; // a power of two

struct entity_prefetch {
    uint64_t keys[PREFETCH_RING];
    uint32_t at;
};

struct entities {
    uint32_t magic;
    struct state_options options;
    struct store *store;
    bool fresh; // nothing of an absent entity can be in the store
    struct tiling tiling;
    int64_t watermark;
    struct account account;
    struct entity_table table;
    struct entity_prefetch *prefetch;
    struct entity **dirty;
    uint64_t n_dirty, cap_dirty;
    uint64_t durable; // newest durable commit
    uint64_t hand;    // of the clock, a slot
    bool stuck;       // nothing more can be evicted before the next commit is durable
    uint64_t users, items, hits, misses, evictions;
    // Scratch.
    struct chunks chunks;
    struct buf value;
    struct sequence_loader *loader;
};

enum { ENTITIES_MAGIC = 0x656e7473 };

static inline size_t entity_size(size_t text_len)
{
    size_t size = offsetof(struct entity, text) + text_len;
    return size > sizeof(struct entity) ? size : sizeof(struct entity);
}

// Inlined by force: gcc takes a function that only prefetches for one without effect and drops its calls.
__attribute__((always_inline)) static inline void entity_prefetch(const struct entity *e)
{
    __builtin_prefetch(e);
    __builtin_prefetch((const char *)e + 64);
}

__attribute__((always_inline)) static inline void entity_prefetch_counters(const struct entity *e)
{
    for (uint32_t i = 0; i < ENTITY_COUNTERS && e->counters[i] != NULL; i++) {
        __builtin_prefetch(e->counters[i]);
        __builtin_prefetch((const char *)e->counters[i] + 64);
    }
}

__attribute__((always_inline)) static inline void entity_prefetch_newest(const struct entity *e)
{
    for (uint32_t i = 0; i < ENTITY_COUNTERS && e->counters[i] != NULL; i++)
        __builtin_prefetch(&counter_tiles_const(e->counters[i])[e->counters[i]->n]);
}

// entity.c
struct entity *entity_new(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id,
                          struct str text);
void entity_free(struct entities *es, struct entity *e);
struct counter *entity_counter(const struct entity *e, uint8_t measure); // NULL: none
static inline uint32_t entity_counters(const struct entity *e)
{
    return (uint32_t)__builtin_popcount(e->measures);
}

// In order of measure; its measure is the i-th bit that is set.
static inline struct counter *entity_counter_nth(const struct entity *e, uint32_t i)
{
    return i < ENTITY_COUNTERS ? e->counters[i] : e->more[i - ENTITY_COUNTERS];
}
struct counter **entity_counter_at(struct entities *es, struct entity *e, uint8_t measure); // made if absent
struct sequence **entity_sequence_at(struct entity *e, uint8_t action); // where it is or belongs
void entity_profile_put(struct entities *es, struct entity *e, int64_t ts, bool deleted, struct str record);

// entity_store.c: *ret_entity stays as it is if the store has no such entity.
int entity_load(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id, struct str text,
                struct entity **ret_entity, struct err *err);

#endif
