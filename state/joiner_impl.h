// SPDX-License-Identifier: Apache-2.0
// What joiner.c and joiner_block.c share: the joiner's memory. Nobody else includes this.
//
//     chains  tag of (user, item) -> newest of a chain      slab of struct pending, 64 bytes each
//                                    newest --next--> oldest --next--> ... --next--> newest   (a circle)
//     due     timeq over (ts, arrival)                      held  timeq over (ts, arrival) of feedback
//
// Everything that leaves is the least of all by (ts, arrival), hence the oldest of its chain: a circle that
// is known by its newest gives O(1) for adding the newest, for matching the newest and for taking the oldest.
#ifndef FRESHET_STATE_JOINER_IMPL_H
#define FRESHET_STATE_JOINER_IMPL_H

#include <assert.h>

#include "base/hash.h"
#include "state/joiner.h"
#include "state/timeq.h"

enum { JOINER_MAGIC = 0x6a6f696e, PENDING_NONE = UINT32_MAX, UNLINKED_MAX = 16 };

// A commit number has 40 bits here, an arrival number 56.
#define ARRIVAL_BITS 56
#define ARRIVAL_FREE ((UINT64_C(1) << ARRIVAL_BITS) - 1) // the slot holds no impression
#define WATERMARK_NONE INT64_MIN

struct pending {
    uint64_t user, item, request;
    int64_t ts;
    uint64_t arrival; // the number; above it the high 8 bits of the body's commit
    uint32_t commit;  // its low 32 bits
    uint32_t user_at, item_at;
    uint16_t segment, partition;
    uint32_t next; // in the chain, towards the newer; of a free slot: the next free one
    uint32_t set;  // its labels: an index into `sets`, or PENDING_NONE
};
_Static_assert(sizeof(struct pending) == 64, "one cache line");

// The labels of one impression, made when the first one comes.
struct label_set {
    uint32_t labels;
    uint32_t owner; // PENDING_NONE: left; the set waits for the next block to be freed
    uint32_t next;  // of a free set
    bool emitted;   // its first sample is out already
    bool dirty;     // stands in the list of updates for the next block
    uint64_t watch_ms;
    int64_t ts[ACTION_MAX];
};

// The head of a chain. Tags are 32 bits: a chain may hold other users and items besides, and matching looks.
struct chain_slot {
    uint32_t tag;
    uint32_t newest; // slot of the slab, plus 1; 0: free
};

// Open addressing, linear probing from the top bits of the tag, deletion by shifting back.
struct chains {
    struct chain_slot *slots;
    uint32_t log2; // of their number
    uint64_t taken;
};

struct list {
    uint32_t *at;
    size_t len, cap;
};

// Impressions of one durable block that are still pending.
struct joiner_source {
    uint64_t commit;
    uint64_t end; // arrival numbers below it, down to the end of the source before
    uint64_t live;
};

// Of the impressions in slots below `first`, all up to (ts, arrival) have left.
struct joiner_mark {
    int64_t ts;
    uint64_t arrival;
    uint32_t first;
};

struct joiner {
    uint32_t magic;
    struct state_join_options options;
    int64_t watermark;
    struct state_join_counts counts; // held and pending are counted elsewhere
    uint64_t next_arrival;
    uint64_t held_order;

    struct pending *slab;
    uint32_t slab_len, slab_cap, slab_free;
    struct chains chains;
    uint32_t unlinked[UNLINKED_MAX]; // came last, in order, and wait for their chain's slot to be fetched
    uint32_t n_unlinked;
    struct timeq due; // by ts: the window is the same for all
    uint64_t shadows; // impressions in memory whose first sample is out
    struct label_set *sets;
    uint32_t sets_len, sets_cap, sets_free;

    struct state_feedback *feedback; // slots of `held`
    uint32_t feedback_len, feedback_cap;
    struct list feedback_free;
    struct timeq held;

    joiner_emit_fn *emit; // inside joiner_advance only
    void *emit_context;
    // Samples that left outside of it: varint body commit, record. They are the first out at the next one.
    struct buf ready;
    struct sample scratch;

    // Durability. Numbers below `fresh_first` stand in a block.
    uint64_t fresh_first;
    struct list fresh;   // slots by arrival number, from fresh_first
    struct list updates; // label sets of older impressions that changed
    bool left;           // an older impression left since the last block: all up to (left_ts, left_arrival)
    int64_t left_ts;
    uint64_t left_arrival;
    struct joiner_source *sources;
    size_t sources_head, sources_len, sources_cap;
    bool recovering; // blocks are being read back: see joiner_recover.c
    struct joiner_mark *marks;
    size_t marks_len, marks_cap;
};

void pending_done(struct joiner *j); // slab, label sets, chains
void chain_prefetch(const struct joiner *j, uint64_t user, uint64_t item);
// The newest of the chain of (user, item), or PENDING_NONE.
uint32_t chain_newest(const struct joiner *j, uint64_t user, uint64_t item);
void chain_link_all(struct joiner *j); // what is unlinked; before any look into a chain
void list_add(struct list *l, uint32_t at);
void list_done(struct list *l);

static inline void joiner_check(const struct joiner *j)
{
    assert(j != NULL && j->magic == JOINER_MAGIC);
}

static inline uint64_t pending_arrival(const struct pending *p)
{
    return p->arrival & ARRIVAL_FREE;
}

static inline struct body_ref pending_body(const struct pending *p)
{
    return (struct body_ref){p->arrival >> ARRIVAL_BITS << 32 | p->commit, p->segment, p->user_at,
                             p->item_at};
}

static inline struct label_set *pending_set(const struct joiner *j, const struct pending *p)
{
    return p->set != PENDING_NONE ? &j->sets[p->set] : NULL;
}

// Makes the impression numbered `arrival` pending; gives its slot.
uint32_t pending_add(struct joiner *j, const struct state_impression *i, uint64_t arrival);
// Forgets the least pending by (ts, arrival), without a sample.
void pending_drop(struct joiner *j);
// The label set of a pending impression, made where it has none.
struct label_set *pending_set_make(struct joiner *j, uint32_t at);
void label_set_free(struct joiner *j, uint32_t set);
void held_add(struct joiner *j, const struct state_feedback *f);
void held_clear(struct joiner *j);
void joiner_source_add(struct joiner *j, uint64_t commit, uint64_t end, uint64_t live);
// A slot with impression and number and nothing else: in no chain and in no queue.
uint32_t pending_place(struct joiner *j, const struct state_impression *i, uint64_t arrival);
// Puts what stands in slot `at` into its chain, when its line has been fetched, and into `due`.
void pending_enter(struct joiner *j, uint32_t at);
// Forgets what stands in slot `at`, which is in no chain and in no queue; the slot itself remains taken.
void pending_forget(struct joiner *j, uint32_t at);
void pending_slot_free(struct joiner *j, uint32_t at);
// Room for the chains of `n` impressions, where there are none yet.
void chains_reserve(struct joiner *j, uint64_t n);

// ---- reading blocks back (joiner_recover.c)

void recover_begin(struct joiner *j);
// The next impression in order of arrival.
uint32_t recover_add(struct joiner *j, const struct state_impression *i, uint64_t arrival);
// The slot of the impression numbered `arrival`, or PENDING_NONE.
uint32_t recover_find(const struct joiner *j, uint64_t arrival);
// Of the impressions added so far, all up to (ts, arrival) have left.
void recover_mark(struct joiner *j, int64_t ts, uint64_t arrival);

#endif
