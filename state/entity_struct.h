// SPDX-License-Identifier: Apache-2.0
// What an entity and the cache look like; used by entity*.c and their tests only.
//
// Cost of an entity: a block of 128 bytes if its text has at most 36 (of a group: 28), 16 bytes of table at a
// load of 3/8 to 3/4, and a counter of 64 or 128 bytes (2 or 6 tiles) for each measure in use.
#ifndef FRESHET_STATE_ENTITY_STRUCT_H
#define FRESHET_STATE_ENTITY_STRUCT_H

#include <stddef.h>

#include "state/account.h"
#include "state/chunk.h"
#include "state/counter.h"
#include "state/entity.h"
#include "state/sequence.h"
#include "state/sweep.h"
#include "state/totals.h"

enum {
    ENTITY_COUNTERS = 4, // kept inside the struct
    ENTITY_TEXT_MAX = UINT16_MAX,
    GROUP_VALUE = sizeof(uint64_t), // bytes before the text of a group
};

enum entity_flag {
    ENTITY_USED = 1,  // since the clock's hand last came by
    ENTITY_DIRTY = 2, // on the dirty list
    ENTITY_NAMED = 4, // first_ts is known
    ENTITY_NAME_DIRTY = 8,
    ENTITY_PROFILE_DIRTY = 16,
    ENTITY_LAST_DIRTY = 32, // the last ts moved by a step
    ENTITY_BURIED = 64,     // not in the table any more
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
    struct sequence *sequences;                // a list by number
    union {
        struct profile *profile; // of users and items
        uint64_t owner;          // of a group
    };
    struct totals *totals;
    int64_t first_ts;
    uint32_t commit; // the newest that holds a part of it
    uint32_t last_s; // its last ts in seconds, see entities_seen; UINT32_MAX until it is named
    uint16_t text_len;
    union {
        uint16_t last_partition; // of users and items: that moved last_s
        struct {
            uint8_t of, grouping; // of a group
        };
    };
    char text[]; // of a group: after its value, GROUP_VALUE bytes
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
    uint32_t measures[PREFETCH_RING];
    uint32_t at;
};

// The named groups that are not durable, by owner.
struct young_group {
    struct entity *group;
    uint32_t next; // of the same owner, or MAP_NONE
};

struct young {
    struct map at; // hash of the owner -> its first
    struct young_group *list;
    uint32_t n, cap;
};

enum { ENTITY_KINDS = 3 };

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
    uint64_t durable;              // newest durable commit
    uint64_t hand;                 // of the clock, a slot
    bool stuck;                    // nothing more can be evicted before the next commit is durable
    uint64_t cached[ENTITY_KINDS]; // by kind
    uint64_t hits, misses, evictions;
    struct expiry expiry[ENTITY_KINDS]; // step_s 0: last_s is not kept
    int64_t since[EXPIRY_KINDS]; // the watermark when an expire came into force; INT64_MIN: from the start
    // See entity_expire.c.
    struct map hidden, hidden_flight;
    uint64_t hidden_commit;
    struct buried_list buried;
    struct entity **grave;
    uint32_t n_grave, cap_grave;
    uint64_t *absent; // keys that the store has not, of late
    struct gone gone;
    struct young young;
    // Scratch.
    struct chunks chunks;
    struct buf value;
    struct sequence_loader *loader;
    struct store_iter *reader; // see entity_load; NULL: none
};

enum { ENTITIES_MAGIC = 0x656e7473 };

static inline size_t entity_size(enum entity_kind kind, size_t text_len)
{
    size_t size = offsetof(struct entity, text) + (kind == ENTITY_GROUP ? GROUP_VALUE : 0) + text_len;
    return size > sizeof(struct entity) ? size : sizeof(struct entity);
}

// Inlined by force: gcc takes a function that only prefetches for one without effect and drops its calls.
__attribute__((always_inline)) static inline void entity_prefetch(const struct entity *e)
{
    __builtin_prefetch(e);
    __builtin_prefetch((const char *)e + 64);
}

// Of the counters those of these measures, bit m for measure m.
__attribute__((always_inline)) static inline void entity_prefetch_counters(const struct entity *e,
                                                                           uint32_t measures)
{
    uint32_t i = 0;
    for (uint32_t rest = e->measures; rest != 0 && i < ENTITY_COUNTERS; rest &= rest - 1, i++) {
        if ((rest & -rest & measures) == 0)
            continue;
        __builtin_prefetch(e->counters[i]);
        __builtin_prefetch((const char *)e->counters[i] + 64);
    }
    if (e->more != NULL)
        __builtin_prefetch(e->more);
    if (e->totals != NULL)
        __builtin_prefetch(e->totals);
    if (e->sequences != NULL) {
        __builtin_prefetch(e->sequences);
        __builtin_prefetch((const char *)e->sequences + 64);
    }
}

__attribute__((always_inline)) static inline void entity_prefetch_newest(const struct entity *e,
                                                                         uint32_t measures)
{
    uint32_t i = 0;
    for (uint32_t rest = e->measures; rest != 0; rest &= rest - 1, i++) {
        if ((rest & -rest & measures) == 0)
            continue;
        if (i < ENTITY_COUNTERS)
            __builtin_prefetch(&counter_tiles_const(e->counters[i])[e->counters[i]->n]);
        else
            __builtin_prefetch(e->more[i - ENTITY_COUNTERS]);
    }
    if (e->sequences != NULL && e->sequences->next != NULL)
        __builtin_prefetch(e->sequences->next);
}

static inline char *entity_text_at(struct entity *e)
{
    return e->text + (e->kind == ENTITY_GROUP ? GROUP_VALUE : 0);
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
struct sequence **entity_sequence_at(struct entity *e, uint8_t number); // where it is or belongs
void entity_profile_put(struct entities *es, struct entity *e, int64_t ts, bool deleted, struct str record);

uint64_t entity_key(enum entity_kind kind, uint16_t partition, uint64_t id); // in the table
void entities_insert(struct entities *es, struct entity *e);
// Loads it unless it is known that the store has no such entity, or it is hidden. *ret_entity NULL: absent.
// `group` is what a group is; NULL of users and items.
int entities_load(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id,
                  const struct group_key *group, struct str text, struct entity **ret_entity,
                  struct err *err);
// What is in the cache, expired or not; as used, as it is, and out of the table.
struct entity *entities_find(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id);
struct entity *entities_cached(const struct entities *es, enum entity_kind kind, uint16_t partition,
                               uint64_t id);
struct entity *entities_take(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id);
// last_s of an entity that was seen at `ts`.
static inline uint32_t entity_seconds(int64_t ts)
{
    int64_t s = ts > 0 ? ts / 1000 : 0;
    return s < UINT32_MAX ? (uint32_t)s : UINT32_MAX - 1;
}

// entity_expire.c
static inline bool entity_expired(const struct entities *es, const struct entity *e)
{
    return e->last_s < es->expiry[e->kind].before_s;
}
void expiry_watermark(struct entities *es); // the watermark moved
bool entity_hidden(const struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id);
void hidden_durable(struct entities *es);
void hidden_done(struct entities *es);
void graves_trim(struct entities *es);
int entity_bury(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id, struct err *err);

// entity_group.c: the groups of an owner that are new, and an end to these.
void groups_young(const struct entities *es, const struct group_key *owner, struct buried_list *to);
void groups_young_bury(struct entities *es, const struct group_key *owner);
void group_named(struct entities *es, struct entity *group);
void groups_durable(struct entities *es);
void young_done(struct entities *es);
void entity_group_set(struct entity *e, const struct group_key *key);
uint64_t group_id(const struct group_key *key);                 // in the cache
bool group_key_read(struct str key, struct group_key *ret_key); // of the store; false: malformed

// entity_store.c
void entities_reader_end(struct entities *es);
// *ret_entity stays as it is if the store has no such entity.
int entity_load(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id,
                const struct group_key *group, struct str text, struct entity **ret_entity, struct err *err);

#endif
