// SPDX-License-Identifier: Apache-2.0
// Joins feedback to impressions, in memory; used inside state/ only. Its durable form is a block a commit
// (joiner_block_put): the impressions that came, labels that were set, early leaves, and the whole of the held
// feedback, which is short. Recovery reads the blocks from joiner_low on, in order (joiner_block_get).
//
// Exactness: all feedback is held until the watermark has passed its ts, so that an impression out of order, or a
// later one that matches better, is there when it is matched: the result does not depend on arrival order.
// Late feedback (ts below the watermark) is matched at once. Matching: same user and item, same request where
// both name one, impression.ts <= feedback.ts < impression.ts + the label's window; the latest by (ts, arrival).
//
// An impression waits until its sample leaves. Where something is known longer than that (a label with a longer
// window, options.remember_ms, fake_negative) it is then kept, for corrected samples, until all windows are over.
//
// Cost: one map probe and one append an impression, two probes a feedback; waiting, kept and held are a ring each,
// with a small heap for what comes out of order.
#ifndef FRESHET_STATE_JOINER_H
#define FRESHET_STATE_JOINER_H

#include "base/mem.h"
#include "state/state.h"

struct joiner;
typedef void joiner_emit_fn(void *context, const struct sample *sample); // seq is not set

struct joiner *joiner_new(const struct state_join_options *options);
// Called now and then while a block is made, and in joiner_make_room; it may read. NULL: nothing is.
void joiner_turn_set(struct joiner *j, void (*turn)(void *context), void *context);
// What will be filled next (mem_ahead).
enum { JOINER_SPANS = 6 };
void joiner_ahead(struct joiner *j, struct mem_span ret_spans[JOINER_SPANS]);
// To be called between events: where the chains are about to be too full for those to come, they are made anew here.
void joiner_make_room(struct joiner *j);
// Tells how often options.thin.action came for an item, lately; needed where options.thin is set.
typedef uint64_t joiner_count_fn(void *context, uint64_t item);
void joiner_count_set(struct joiner *j, joiner_count_fn *count, void *context);
void joiner_free(struct joiner *j);

void joiner_impression(struct joiner *j, const struct state_impression *impression);
void joiner_feedback(struct joiner *j, const struct state_feedback *feedback);
// Settles held feedback and emits due samples, merged in order of (settle ts | due, arrival), up to and
// including `watermark`.
void joiner_advance(struct joiner *j, int64_t watermark, joiner_emit_fn *emit, void *context);
void joiner_counts(const struct joiner *j, struct state_join_counts *ret_counts);
uint64_t joiner_bytes(const struct joiner *j);
uint64_t joiner_bytes_most(const struct state_join_options *options); // at max_pending
uint64_t joiner_dirty_bytes(const struct joiner *j);                  // about what the next block takes

// What changed since the last block; then nothing is dirty.
void joiner_block_put(struct joiner *j, uint64_t commit, struct buf *to);
int joiner_block_get(struct joiner *j, uint64_t commit, struct rd *from, struct err *err);
// To be called after the last joiner_block_get, before anything else but joiner_free.
void joiner_recovered(struct joiner *j);
// The oldest commit whose block recovery still needs.
uint64_t joiner_low(const struct joiner *j, uint64_t next_commit);

// Logical content in order: waiting, then kept impressions by (ts, arrival) with labels, held feedback by
// (ts, arrival), counts.
void joiner_digest(const struct joiner *j, struct hasher *h);
// Pending impressions of one user, oldest first: for `get user`. Returns how many were written.
struct joiner_pending {
    uint64_t item, request;
    int64_t ts, due;
    uint32_t labels;
};
uint32_t joiner_of_user(const struct joiner *j, uint64_t user, uint32_t max,
                        struct joiner_pending *ret_pending);

#endif
