// SPDX-License-Identifier: Apache-2.0
// One sequence of one entity, Last-N or a set: ordered by ts, then arrival; used inside state/ only.
//
// Every entry has a position, counted from the first that was ever kept; an entry that comes in out of order
// moves those after it up by one, one that is removed moves them down. In the store a sequence is cut into
// blocks of SEQUENCE_BLOCK positions; the block of positions 32b .. 32b+31 lies in slot b %
// sequence_slots(last), so that slots are used in a circle.
#ifndef FRESHET_STATE_SEQUENCE_H
#define FRESHET_STATE_SEQUENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "state/account.h"
#include "state/gone.h"
#include "state/state.h"

enum {
    SEQUENCE_FIRST = 4, // entries there is room for at first
    SEQUENCE_BLOCK = 32,
    SEQUENCE_SLOTS_MAX = 256, // a slot is a byte of the key
    SEQUENCE_LAST_MAX = (SEQUENCE_SLOTS_MAX - 1) * SEQUENCE_BLOCK,
    SEQUENCE_WITH = SEQUENCE_CATEGORY | SEQUENCE_AUTHOR | SEQUENCE_DWELL, // what can be kept
};

// Where sequence_put left the last copy of a sequence.
struct sequence_snapshot {
    uint32_t commit, segment, at;
    uint32_t epoch; // of the item tombstones then
    uint16_t max;   // 0: there is none
    uint8_t with;
};

// 64 bytes, then the ring: item u64, ts i64, and of category u64, author u64, dwell u32 what `with` says.
struct sequence {
    struct sequence *next; // of the same entity, by number
    uint8_t number;
    uint8_t with;
    uint16_t n, cap;
    uint16_t head;       // the ring's oldest entry
    uint64_t end;        // position after the newest
    uint64_t dirty_from; // first position that is not in the store; UINT64_MAX: all is
    uint32_t version;    // how often it was written: tells the later of two copies in the store
    uint32_t clean;      // epoch of the tombstones at which none of its entries was hidden
    struct sequence_snapshot snapshot;
    _Alignas(8) uint8_t entries[];
};

struct sequence *sequence_new(struct account *a, uint8_t number, uint8_t with, uint32_t cap);
// Returns false if nothing changed: the entry is older than the N kept or, in a set, than the one with its id.
// *s may move.
bool sequence_add(struct sequence **s, struct account *a, const struct state_sequence_options *options,
                  const struct sequence_entry *entry);
// Removes all entries of `item`. Returns how many there were.
uint32_t sequence_remove(struct sequence *s, uint64_t item);
// Removes the entries that tombstones hide. Returns how many there were.
uint32_t sequence_drop(struct sequence *s, const struct gone *gone);
// The newest `max` that tombstones do not hide, newest first; `gone` NULL: nothing is hidden.
uint32_t sequence_newest(struct sequence *s, const struct gone *gone, uint32_t max,
                         struct sequence_entry *ret_entries);
// How many of them there are; and these as columns: ids, and what `with` names, in the order TIME, CATEGORY,
// AUTHOR, DWELL. What is not kept is put as zeros.
uint32_t sequence_count(struct sequence *s, const struct gone *gone, uint32_t max);
void sequence_columns_put(struct sequence *s, const struct gone *gone, uint32_t n, uint8_t with,
                          struct buf *to);
bool sequence_has(const struct sequence *s, const struct gone *gone, uint64_t item);
void sequence_at(const struct sequence *s, uint32_t i, struct sequence_entry *ret_entry); // oldest first

static inline uint32_t sequence_slots(uint32_t last)
{
    return (last + SEQUENCE_BLOCK - 1) / SEQUENCE_BLOCK + 1;
}

// ---- in the store ---------------------------------------------------------------------------------------

// The blocks that must be written: `block` is ret_first .. ret_last. False: none. After writing them:
// sequence_written.
bool sequence_dirty(const struct sequence *s, uint64_t *ret_first, uint64_t *ret_last);
void sequence_block_put(const struct sequence *s, uint64_t block, struct buf *to);
void sequence_written(struct sequence *s);

// Puts together what the store holds of one sequence: add the values of all its slots in any order, then end
// with sequence_load, which leaves the loader empty. Slots that were overtaken are recognised by position.
struct sequence_loader;
struct sequence_loader *sequence_loader_new(void);
void sequence_loader_free(struct sequence_loader *l);
void sequence_loader_add(struct sequence_loader *l, uint8_t slot, struct str value);
void sequence_loader_clear(struct sequence_loader *l);
// *ret_sequence is NULL if it was never written, or is no longer kept.
int sequence_load(struct sequence_loader *l, struct account *a, uint8_t number,
                  const struct state_sequence_options *options, struct sequence **ret_sequence,
                  struct err *err);

#endif
