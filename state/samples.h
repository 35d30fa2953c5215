// SPDX-License-Identifier: Apache-2.0
// The sample log: bodies in segments, records that refer to them; used inside state/ only.
//
// A segment is SEGMENT_BYTES of bodies, appended to, never moved: readers of another thread may hold it. It
// is one value in the store, lz4-compressed by it. Segments of commits that are not durable stay in memory;
// older ones are read back through a cache of `body_cache_bytes`.
//
// A value of the log (about 256 KiB at most; a commit writes one at least) begins with what a search looks at:
//     u8 version, varint first seq, varint n, zigzag largest emitted_ts from the begin of the log to its end,
//     varint how much its own largest is below that, varint how much its least is below its largest
// Then come n records of about 30 bytes:
//     varint body commit distance, varint segment, varint user_at, varint item_at, varint impression,
//     zigzag ts, zigzag emitted - ts, varint labels, u8 flags (1 corrected, 2 watch_ms, 4 rate, 8 partition,
//     16 masked, 32 rates by label), zigzag label ts - ts of each label; then what the flags name: varint labels
//     that the sample before had, varint watch_ms, f32 rate, varint partition, varint masked labels, varint labels
//     that have a rate and f32 of each
// To change it raise RECORDS_VERSION and STATE_FORMAT. Version 2: times of a value, told, masked, rates
// by label.
#ifndef FRESHET_STATE_SAMPLES_H
#define FRESHET_STATE_SAMPLES_H

#include "state/state.h"
#include "state/store.h"

enum { SEGMENT_BYTES = 256 << 10 };

struct samples;

struct samples *samples_new(struct store *store,
                            uint64_t body_cache_bytes); // store may be NULL in unit tests
// Called now and then while a commit's blocks are copied; it may read. NULL: nothing is.
void samples_turn_set(struct samples *l, void (*turn)(void *context), void *context);
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
uint64_t samples_durable_end(const struct samples *l);

// Puts the segments and the records of the commit being filled into the batch, and keeps them in memory until
// samples_durable. Every commit writes a record block, if only an empty one. At a commit call samples_batch,
// samples_low, samples_meta_put in this order: what retention let go of is then on record. Retention marks go
// into the caller's meta record by samples_meta_put.
void samples_batch(struct samples *l, struct store_batch *b);
void samples_durable(struct samples *l, uint64_t commit);
void samples_meta_put(const struct samples *l, struct buf *to);
int samples_meta_get(struct samples *l, struct rd *from, struct err *err);
void samples_trained(struct samples *l, uint64_t seq);
void samples_published(struct samples *l, uint64_t seq); // UINT64_MAX, as at first: nobody publishes

// What the log let go of, in samples, since it began.
struct samples_gone {
    uint64_t by_age;
    uint64_t by_size;
    uint64_t unpublished; // of those by size: the samples topic had not got them
};
const struct samples_gone *samples_gone(const struct samples *l);

// The oldest commit that is still needed by retention, training and publishing: its records and the bodies
// that they refer to; until a sample has gone the first, 0. Moves samples_begin past what is no longer needed,
// whole runs at a time.
// `keep_ms` (0: for ever) before `watermark`: what is older goes once it is trained on and published; a
// watermark beyond the newest sample counts as the newest sample's time, so the end of time empties no log.
// `keep_bytes` (0: no bound): of more than that the oldest goes once it is trained on, published or not.
uint64_t samples_low(struct samples *l, int64_t watermark, uint64_t keep_ms, uint64_t keep_bytes);
uint64_t samples_log_bytes(const struct samples *l); // what keep_bytes bounds

int samples_read(struct samples *l, uint64_t seq, uint32_t max, struct sample_chunk **ret_chunk,
                 struct err *err);
void samples_chunk_free(struct samples *l, struct sample_chunk *chunk);
// state_samples_find.
int samples_find(struct samples *l, uint64_t seq, int64_t from, int64_t to, uint64_t *ret_begin,
                 uint64_t *ret_end, struct err *err);
struct samples_memory {
    uint64_t cache_bytes, cache_hits, cache_misses, cache_evictions; // of what is durable
    uint64_t part_bytes;                                             // of what is not
};
void samples_memory(const struct samples *l, struct samples_memory *ret_memory);
uint64_t samples_dirty_bytes(const struct samples *l); // what the next commit holds until it is durable

#endif
