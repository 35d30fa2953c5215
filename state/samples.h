// SPDX-License-Identifier: Apache-2.0
// The sample log: bodies in segments, records that refer to them; used inside state/ only.
//
// A segment is SEGMENT_BYTES of bodies, appended to, never moved: readers of another thread may hold it. It
// is one value in the store, lz4-compressed by it. Segments of commits that are not durable stay in memory;
// older ones are read back through a cache of `body_cache_bytes`.
//
// A record of the log (block of one commit: u8 version, varint first seq, varint n, then n records, cut into
// values of at most about 256 KiB) is about 30 bytes:
//     varint body commit distance, varint segment, varint user_at, varint item_at, varint impression,
//     zigzag ts, zigzag emitted - ts, varint labels, u8 flags (1 corrected, 2 watch_ms, 4 rate, 8 partition),
//     zigzag label ts - ts of each label; then what the flags name: varint watch_ms, f32 rate,
//     varint partition
#ifndef FRESHET_STATE_SAMPLES_H
#define FRESHET_STATE_SAMPLES_H

#include "state/state.h"
#include "state/store.h"

enum { SEGMENT_BYTES = 256 << 10 };

struct samples;

struct samples *samples_new(struct store *store,
                            uint64_t body_cache_bytes); // store may be NULL in unit tests
void samples_free(struct samples *l);

// The number of the commit that is being filled.
void samples_commit_set(struct samples *l, uint64_t commit);
void samples_body_begin(struct samples *l, uint32_t size, uint32_t *ret_at);
void samples_body_append(struct samples *l, const void *bytes, uint32_t size, struct body_ref *ret_ref);
uint64_t samples_commit(const struct samples *l); // for state_sequence_put: what a reference must agree in
uint32_t samples_segment(const struct samples *l);

uint64_t samples_append(struct samples *l, const struct sample *sample); // gives it its seq
uint64_t samples_end(const struct samples *l);
uint64_t samples_begin(const struct samples *l);

// Puts the segments and the records of the commit being filled into the batch, and keeps them in memory until
// samples_durable. Every commit writes a record block, if only an empty one. At a commit call samples_batch,
// samples_low, samples_meta_put in this order: what retention let go of is then on record. Retention marks go
// into the caller's meta record by samples_meta_put.
void samples_batch(struct samples *l, struct store_batch *b);
void samples_durable(struct samples *l, uint64_t commit);
void samples_meta_put(const struct samples *l, struct buf *to);
int samples_meta_get(struct samples *l, struct rd *from, struct err *err);
void samples_trained(struct samples *l, uint64_t seq);
// The oldest commit that retention `keep_ms` (0: for ever) before `watermark`, and training, still need: its
// records and the bodies that they refer to. Moves samples_begin past what is no longer needed; a watermark
// beyond the newest sample counts as the newest sample's time, so the end of time empties no log.
uint64_t samples_low(struct samples *l, int64_t watermark, uint64_t keep_ms);

int samples_read(struct samples *l, uint64_t seq, uint32_t max, struct sample_chunk **ret_chunk,
                 struct err *err);
void samples_chunk_free(struct samples *l, struct sample_chunk *chunk);
uint64_t samples_bytes(const struct samples *l); // in memory

#endif
