// SPDX-License-Identifier: Apache-2.0
// Users and items: the write-back cache over the store, and what an entity holds: counters, Last-N sequences,
// a profile; used inside state/ only. See state.h for the meaning of each operation.
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

#include "state/state.h"
#include "state/store.h"

struct entities;

// `store` is read on a miss. `fresh`: the store held no entity when it was opened, so that as long as nothing
// was evicted an absent entity needs no read.
struct entities *entities_new(const struct state_options *options, struct store *store, bool fresh);
void entities_free(struct entities *es);

int entities_get(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id, struct str text,
                 struct entity **ret_entity, struct err *err);
// Cached only; NULL otherwise.
struct entity *entities_peek(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id);
void entities_prefetch(const struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id);
void entities_watermark(struct entities *es, int64_t watermark); // tiles age by it; never goes back

void entities_count(struct entities *es, struct entity *e, uint16_t partition, uint8_t measure, int64_t ts,
                    uint64_t n);
uint64_t entities_window(struct entities *es, struct entity *e, uint8_t measure, uint32_t window, int64_t at);
void entities_sequence_add(struct entities *es, struct entity *user, uint8_t action, uint64_t item,
                           int64_t ts);
uint32_t entities_sequence(const struct entity *user, uint8_t action, uint32_t max,
                           struct sequence_entry *ret_entries);
// Where the last snapshot of (user, action, max) was put, for back-references: the offset in `segment` of
// `commit`, or UINT32_MAX if there is none or the sequence changed since.
uint32_t entities_snapshot(const struct entity *user, uint8_t action, uint32_t max, uint64_t commit,
                           uint32_t segment);
void entities_snapshot_set(struct entity *user, uint8_t action, uint32_t max, uint64_t commit,
                           uint32_t segment, uint32_t at);
bool entities_profile_set(struct entities *es, struct entity *e, int64_t ts, struct str record);

// Puts every dirty part of every dirty entity into the batch; they are clean after it, and cannot be evicted
// until entities_durable(commit).
void entities_batch(struct entities *es, uint64_t commit, struct store_batch *b);
void entities_durable(struct entities *es, uint64_t commit);
void entities_trim(struct entities *es);

// From the store, in key order (users by partition and id, items by id).
int entities_each(struct entities *es, enum entity_kind kind, int (*each)(void *context, struct entity *e),
                  void *context, struct err *err);
// Canonical bytes at the watermark of what one entity holds, for digests; nothing is put where it is empty.
void entities_counters_put(struct entities *es, struct entity *e, struct buf *to);
void entities_sequences_put(const struct entity *e, struct buf *to);
void entities_profile_put(const struct entity *e, struct buf *to);

// True for the key of a tile hour that has left the longest window at `watermark`; for the compaction filter,
// any thread.
bool entities_key_expired(const struct state_options *options, int64_t watermark, const uint8_t *key,
                          size_t n);

struct entities_figures {
    uint64_t users, items, bytes, hits, misses, evictions;
};
void entities_figures(const struct entities *es, struct entities_figures *ret_figures);

#endif
