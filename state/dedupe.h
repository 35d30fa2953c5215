// SPDX-License-Identifier: Apache-2.0
// The ids of events seen inside a window of event time; used inside state/ only. Two arrays, open addressing:
// the 64-bit hash and the minute of its ts. An id is remembered while
// floor(watermark/1min) <= minute + window minutes; a slot whose time is over counts as free.
#ifndef FRESHET_STATE_DEDUPE_H
#define FRESHET_STATE_DEDUPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct dedupe;

struct dedupe *dedupe_new(int64_t window_ms, uint64_t max_ids);
void dedupe_free(struct dedupe *d);
// Called now and then inside dedupe_make_room; it may read all but this. NULL: nothing is.
void dedupe_turn_set(struct dedupe *d, void (*turn)(void *context), void *context);
// To be called between events: where the table is about to be too full for those to come, it is made anew here.
void dedupe_make_room(struct dedupe *d);
bool dedupe_seen(struct dedupe *d, uint64_t id, int64_t ts);
void dedupe_prefetch(const struct dedupe *d, uint64_t id); // of an id that will be asked for soon
void dedupe_advance(struct dedupe *d, int64_t watermark);
uint64_t dedupe_count(const struct dedupe *d);
uint64_t dedupe_bytes(const struct dedupe *d);
uint64_t dedupe_bytes_most(uint64_t max_ids);
uint64_t dedupe_dirty_bytes(const struct dedupe *d); // of ids since the last block
uint64_t dedupe_forgotten(const struct dedupe *d);   // ids dropped at the bound before their time

// The ids accepted since the last block: runs of (minute, n, n hashes).
void dedupe_block_put(struct dedupe *d, uint64_t commit, struct buf *to);
int dedupe_block_get(struct dedupe *d, uint64_t commit, struct rd *from, struct err *err);
uint64_t dedupe_low(const struct dedupe *d, uint64_t next_commit); // oldest commit still needed

#endif
