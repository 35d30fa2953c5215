// SPDX-License-Identifier: Apache-2.0
// The bytes of one sample's record, about 30; used inside state/ only. The layout stands in samples.h.
// `commit` is the commit that writes the record: the body's is told by its distance. seq is not part of it.
#ifndef FRESHET_STATE_RECORD_H
#define FRESHET_STATE_RECORD_H

#include "base/buf.h"
#include "state/state.h"

// Zigzag differences of times wrap like the times themselves, so any pair comes back as it was.
static inline int64_t time_minus(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a - (uint64_t)b);
}

static inline int64_t time_plus(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

// a + b for b >= 0, at most INT64_MAX: a time that lies beyond the end of time is the end of time.
static inline int64_t time_after(int64_t a, int64_t b)
{
    return a > INT64_MAX - b ? INT64_MAX : a + b;
}

void record_put(struct buf *to, const struct sample *s, uint64_t commit);
// Malformed bytes set from->bad.
void record_get(struct rd *from, uint64_t commit, struct sample *ret_sample);
// ts of every action in `labels`, in their order, as distances from `ts`.
void record_times_put(struct buf *to, uint32_t labels, const int64_t *label_ts, int64_t ts);
void record_times_get(struct rd *from, uint32_t labels, int64_t ts, int64_t *ret_label_ts);

#endif
