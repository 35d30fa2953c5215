// SPDX-License-Identifier: Apache-2.0
// Users, items and groups: the write-back cache over the store, and what an entity holds: counters, totals,
// sequences, a profile; used inside state/ only. See state.h for the meaning of each operation.
//
// A counter is one list of (tile, partition, count), oldest first, in tiles of the finest window; a tile whose
// window it has left at the watermark is merged into a tile of the next coarser window, and at last dropped
// ("1 min for 1h, 15 min for 1d, 1 h for 7d" are thus one list of at most 60 + 96 + 168 tiles). Which window a
// tile still counts in follows from its time and the watermark alone, so merging early or late, before or
// after a restart, gives the same. Running sums a window make a read O(1).
//
// On disk a counter is cut by hour of event time and partition (keys.h): a commit writes the touched hours of
// touched entities only, which is the open hour of each and, rarely, one that a late event reached. A hot
// item's open hour is about a kilobyte; a closed hour is never written again; an hour that left the longest
// window is dropped by compaction. Sequences are cut into 32 entries by position.
#ifndef FRESHET_STATE_ENTITY_H
#define FRESHET_STATE_ENTITY_H

#include "state/sequence.h"
#include "state/state.h"
#include "state/store.h"
#include "state/sweep.h"

struct entities;

// `store` is read on a miss. `fresh`: the store held no entity when it was opened, so that as long as nothing
// was evicted an absent entity needs no read.
struct entities *entities_new(const struct state_options *options, struct store *store, bool fresh);
void entities_free(struct entities *es);

int entities_get(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id, struct str text,
                 struct entity **ret_entity, struct err *err);
// Cached only; NULL otherwise.
struct entity *entities_peek(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id);
void entities_prefetch(const struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id,
                       uint32_t measures);
// Groups; see state.h.
int entities_group(struct entities *es, const struct group_key *key, struct str text,
                   struct entity **ret_group, struct err *err);
uint64_t entities_group_place(const struct group_key *key);
void entities_fetch(const struct entities *es, uint64_t key, uint32_t measures,
                    uint32_t stage); // state_group_fetch
int entities_groups_each(struct entities *es, const struct group_key *owner,
                         int (*each)(void *context, struct entity *group), void *context, struct err *err);
void entities_watermark(struct entities *es, int64_t watermark); // tiles age by it; never goes back

void entities_count(struct entities *es, struct entity *e, uint16_t partition, uint8_t measure, int64_t ts,
                    uint64_t n);
struct mem_span entities_ahead(struct entities *es); // what will be filled next: mem_ahead
uint64_t entities_window(struct entities *es, struct entity *e, uint8_t measure, uint32_t window, int64_t at);
uint64_t entities_total(const struct entity *e, uint8_t measure);
void entities_seen(struct entities *es, struct entity *e, uint16_t partition, int64_t ts);

void entities_sequence_add(struct entities *es, struct entity *e, uint8_t number,
                           const struct sequence_entry *entry);
uint32_t entities_sequence_remove(struct entities *es, struct entity *e, uint8_t number, uint64_t item);
uint32_t entities_sequence(const struct entities *es, const struct entity *e, uint8_t number, uint32_t max,
                           struct sequence_entry *ret_entries);
bool entities_sequence_has(const struct entities *es, const struct entity *e, uint8_t number, uint64_t item);
void entities_gone(struct entities *es, uint64_t item, int64_t ts, struct store_batch *b);
int entities_gone_load(struct entities *es, struct store_batch *b, struct err *err);
// See state_sequence_put. Of `place` commit, segment and at count: where `to` will begin.
void entities_sequence_put(struct entities *es, struct entity *e, uint8_t number, uint32_t max, uint8_t with,
                           const struct sequence_snapshot *place, struct buf *to);
bool entities_profile_set(struct entities *es, struct entity *e, int64_t ts, struct str record);

// Puts every dirty part of every dirty entity into the batch; they are clean after it, and cannot be evicted
// until entities_durable(commit).
void entities_batch(struct entities *es, uint64_t commit, struct store_batch *b);
void entities_durable(struct entities *es, uint64_t commit);

// Expiry; see entity_expire.c. An expire that came into force at the watermark `since`; as soon as it is known.
void entities_since(struct entities *es, enum entity_kind kind, int64_t since);
int64_t entities_since_of(const struct entities *es, enum entity_kind kind);
// For the commit thread: what is over at the watermark, users and items; and what was buried since the last
// call, whose keys commit `commit` deletes: the caller's.
const struct expiry *entities_expiry(const struct entities *es);
struct buried_list entities_buried(struct entities *es, uint64_t commit);
// What the sweep of an earlier commit found; before entities_durable of a later one.
void entities_swept(struct entities *es, const struct buried_list *found);
void entities_trim(struct entities *es);

// From the store, in key order (users by partition and id, items by id, groups by partition, owner, whose, grouping
// and value).
int entities_each(struct entities *es, enum entity_kind kind, int (*each)(void *context, struct entity *e),
                  void *context, struct err *err);
// Canonical bytes at the watermark of what one entity holds, for digests; nothing is put where it is empty.
void entities_counters_put(struct entities *es, struct entity *e, struct buf *to);
void entities_sequences_put(const struct entities *es, const struct entity *e, struct buf *to);
void entities_profile_put(const struct entity *e, struct buf *to);

// True for the key of a tile hour that has left the longest window at `watermark`; for the compaction filter,
// any thread.
bool entities_key_expired(const struct state_options *options, int64_t watermark, const uint8_t *key,
                          size_t n);

struct entities_figures {
    uint64_t gone, gone_forgotten, gone_bytes;
    uint64_t users, items, groups, bytes, hits, misses, evictions;
    uint64_t dirty; // users, items and groups that the next commit puts
};
void entities_figures(const struct entities *es, struct entities_figures *ret_figures);

#endif
