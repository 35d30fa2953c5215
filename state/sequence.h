// SPDX-License-Identifier: Apache-2.0
// The Last-N sequence of one action of one user: ordered by ts, then arrival; used inside state/ only.
//
// Every entry has a position, counted from the first that was ever kept; an entry that comes in out of order
// moves those after it up by one. In the store a sequence is cut into blocks of SEQUENCE_BLOCK positions; the
// block of positions 32b .. 32b+31 lies in slot b % sequence_slots(last), so that slots are used in a circle.
#ifndef FRESHET_STATE_SEQUENCE_H
#define FRESHET_STATE_SEQUENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "state/account.h"
#include "state/state.h"

enum {
    SEQUENCE_FIRST = 4, // entries there is room for at first
    SEQUENCE_BLOCK = 32,
    SEQUENCE_SLOTS_MAX = 256, // a slot is a byte of the key
    SEQUENCE_LAST_MAX = (SEQUENCE_SLOTS_MAX - 1) * SEQUENCE_BLOCK,
};

struct sequence {
    struct sequence *next; // of the same user, by action
    uint8_t action;
    uint32_t n, cap;
    uint32_t head;       // the ring's oldest entry
    uint64_t end;        // position after the newest
    uint64_t dirty_from; // first position that is not in the store; UINT64_MAX: none
    // Where the last snapshot lies, see entities_snapshot.
    uint64_t snapshot_commit;
    uint32_t snapshot_segment;
    uint32_t snapshot_max; // 0: there is none
    uint32_t snapshot_at;
    struct sequence_entry entries[];
};

struct sequence *sequence_new(struct account *a, uint8_t action, uint32_t cap);
// Returns false if the entry is older than the N kept. *s may move.
bool sequence_add(struct sequence **s, struct account *a, uint32_t last, uint64_t item, int64_t ts);
uint32_t sequence_newest(const struct sequence *s, uint32_t max, struct sequence_entry *ret_entries);
const struct sequence_entry *sequence_at(const struct sequence *s, uint32_t i); // i-th, oldest first

static inline uint32_t sequence_slots(uint32_t last)
{
    return (last + SEQUENCE_BLOCK - 1) / SEQUENCE_BLOCK + 1;
}

// The entries of block b that are kept.
void sequence_block_put(const struct sequence *s, uint64_t block, struct buf *to);
// Puts together what the store holds of one sequence: add the values of all its slots in any order, then end
// with sequence_load, which leaves the loader empty. Slots that were overtaken are recognised by position.
struct sequence_loader;
struct sequence_loader *sequence_loader_new(void);
void sequence_loader_free(struct sequence_loader *l);
void sequence_loader_add(struct sequence_loader *l, uint8_t slot, struct str value);
void sequence_loader_clear(struct sequence_loader *l);
// *ret_sequence is NULL if nothing is kept.
int sequence_load(struct sequence_loader *l, struct account *a, uint8_t action, uint32_t last,
                  struct sequence **ret_sequence, struct err *err);

#endif
