// SPDX-License-Identifier: Apache-2.0
// What joiner.c and joiner_block.c share: the joiner's memory. Nobody else includes this.
//
//     chains  tag of (user, item) -> newest of a chain      slab of struct pending, 64 bytes each
//                                    newest --next--> oldest --next--> ... --next--> newest   (a circle)
//     due     timeq over (ts, arrival): they wait           held  timeq over (ts, arrival) of feedback
//     kept    the same: their sample has left
//
// What leaves is the least of `due`, what is forgotten the least of all by (ts, arrival), for every impression
// is known longer than it waits. So what is forgotten is the oldest of its chain: a circle that is known by its
// newest gives O(1) for adding the newest, for matching the newest and for taking the oldest.
#ifndef FRESHET_STATE_JOINER_IMPL_H
#define FRESHET_STATE_JOINER_IMPL_H

#include <assert.h>

#include "base/hash.h"
#include "state/joiner.h"
#include "state/timeq.h"

enum { JOINER_MAGIC = 0x6a6f696e, PENDING_NONE = UINT32_MAX, UNLINKED_MAX = 16 };

// A commit number has 40 bits here, an arrival number 55.
#define ARRIVAL_BITS 56
#define ARRIVAL_KEPT (UINT64_C(1) << (ARRIVAL_BITS - 1)) // it stands in `kept`
#define ARRIVAL_FREE (ARRIVAL_KEPT - 1)                  // the slot holds no impression
#define WATERMARK_NONE INT64_MIN

struct pending {
    uint64_t user, item, request;
    int64_t ts;
    uint64_t arrival; // the number; above it ARRIVAL_KEPT, then the high 8 bits of the body's commit
    uint32_t commit;  // its low 32 bits
    uint32_t user_at, item_at;
    uint16_t segment, partition;
    uint32_t next; // in the chain, towards the newer; of a free slot: the next free one
    uint32_t set;  // its labels: an index into `sets`, or PENDING_NONE
};
_Static_assert(sizeof(struct pending) == 64, "one cache line");

// The labels of one impression, made when the first one comes. Of ts only as much is there as actions can be
// labels: see label_set_at.
struct label_set {
    uint32_t labels;
    uint32_t told;  // of them those that the last sample had
    uint32_t owner; // PENDING_NONE: forgotten; the set waits for the next block to be freed
    uint32_t next;  // of a free set
    float rate; // at which its first sample with a label was kept: 1, or less by thinning; 0: it was dropped
    bool emitted; // its first sample left with its first label, and before it was due
    bool dirty;   // stands in the list of updates for the next block
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

// By slot: its neighbours among the impressions of one user, and of others whose list is the same. Slots plus 1;
// before the first and behind the last is 0.
struct user_link {
    uint32_t next, before;
};

// Impressions of one durable block that are still known.
struct joiner_source {
    uint64_t commit;
    uint64_t end; // arrival numbers below it, down to the end of the source before
    uint64_t live;
};

// All impressions up to (ts, arrival); none where `any` is not set.
struct joiner_upto {
    bool any;
    int64_t ts;
    uint64_t arrival;
};

// Of the impressions in slots below `first`: who was forgotten, and whose sample left.
struct joiner_mark {
    struct joiner_upto gone, out;
    uint32_t first;
};

struct joiner {
    uint32_t magic;
    struct state_join_options options;
    int64_t watermark;
    int64_t leave_ms;              // after the impression its sample leaves
    int64_t known_ms;              // and it is forgotten
    int64_t window_ms[ACTION_MAX]; // by label
    double keep[ACTION_MAX];       // rates of negatives, by label
    bool drops;                    // some negatives are not kept
    joiner_count_fn *count;        // for thinning
    void *count_context;
    struct state_join_counts counts; // held, pending and kept are counted elsewhere
    uint64_t next_arrival;
    uint64_t held_order;

    struct pending *slab;
    struct user_link *links; // by slot
    uint32_t *firsts;        // of lists by user, 1 << firsts_log2 of them: they never grow
    uint32_t firsts_log2;
    uint32_t slab_len, slab_cap, slab_free;
    uint64_t told[JOINER_SPANS]; // of mem_ahead
    struct chains chains;
    uint32_t unlinked[UNLINKED_MAX]; // came last, in order, and wait for their chain's slot to be fetched
    uint32_t n_unlinked;
    struct timeq due;  // by ts: they wait equally long
    struct timeq kept; // by ts
    uint64_t shadows;  // impressions in `due` whose first sample is out
    uint8_t *sets;     // of label sets
    size_t set_bytes;  // of each
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
    struct list fresh;       // slots by arrival number, from fresh_first
    struct list updates;     // label sets of older impressions that changed
    struct joiner_upto gone; // older impressions that were forgotten since the last block
    struct joiner_upto out;  // older impressions whose sample left since then, and that are kept
    struct joiner_source *sources;
    size_t sources_head, sources_len, sources_cap;
    void (*turn)(void *context); // in the middle of a block
    void *turn_context;
    bool recovering; // blocks are being read back: see joiner_recover.c
    struct joiner_mark *marks;
    size_t marks_len, marks_cap;
};

void pending_done(struct joiner *j); // slab, label sets, chains
void chain_prefetch(const struct joiner *j, uint64_t user, uint64_t item);
// The first of the list that the user's impressions are in, with those of others, or PENDING_NONE; and the next.
uint32_t user_first(const struct joiner *j, uint64_t user);
uint32_t user_next(const struct joiner *j, uint32_t at);
void user_prefetch(const struct joiner *j, uint32_t at); // the one before it, for when `at` is forgotten
uint32_t users_log2(const struct state_join_options *options);
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

static inline bool pending_kept(const struct pending *p)
{
    return (p->arrival & ARRIVAL_KEPT) != 0;
}

static inline struct label_set *label_set_at(const struct joiner *j, uint32_t set)
{
    return (struct label_set *)(void *)(j->sets + set * j->set_bytes);
}

static inline struct label_set *pending_set(const struct joiner *j, const struct pending *p)
{
    return p->set != PENDING_NONE ? label_set_at(j, p->set) : NULL;
}

// Makes the impression numbered `arrival` pending; gives its slot.
uint32_t pending_add(struct joiner *j, const struct state_impression *i, uint64_t arrival);
// Forgets the least of `from`, which is the least of all by (ts, arrival), without a sample.
void pending_drop(struct joiner *j, struct timeq *from);
// The sample of the least of `due` has left: it is kept.
void pending_keep(struct joiner *j);
// The label set in slot `at` changed, and goes into the next block.
void label_set_dirty(struct joiner *j, uint32_t at);
// The label set of an impression, made where it has none.
struct label_set *pending_set_make(struct joiner *j, uint32_t at, uint32_t labels); // with room for these
void label_set_free(struct joiner *j, uint32_t set);
size_t label_set_bytes(uint32_t labels); // of a set that can hold these
// The labels of an impression are these: see pending_set_make.
void label_set_copy(struct joiner *j, uint32_t at, const struct label_set *labels);
void held_add(struct joiner *j, const struct state_feedback *f);
void held_clear(struct joiner *j);
void joiner_source_add(struct joiner *j, uint64_t commit, uint64_t end, uint64_t live);
// A slot with impression and number and nothing else: in no chain and in no queue.
uint32_t pending_place(struct joiner *j, const struct state_impression *i, uint64_t arrival);
// Puts what stands in slot `at` into its chain, when its line has been fetched, and into `due` or `kept`.
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
// Of the impressions added so far, who was forgotten and whose sample left.
void recover_mark(struct joiner *j, const struct joiner_upto *gone, const struct joiner_upto *out);

#endif
