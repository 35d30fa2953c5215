// SPDX-License-Identifier: Apache-2.0
// Event time (docs/DESIGN.md, "Time"). The watermark of a part is its largest accepted ts minus out_of_order;
// the watermark of the whole is the least over the parts that are not idle, and never goes back. A part that
// has given nothing yet and is not idle holds it at WATERMARK_NONE.
#ifndef FRESHET_STREAM_WATERMARK_H
#define FRESHET_STREAM_WATERMARK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define WATERMARK_NONE INT64_MIN
#define WATERMARK_END INT64_MAX

struct watermark_part {
    int64_t largest; // largest accepted ts, WATERMARK_NONE before the first
    bool idle;
    bool counts; // profile parts do not
};

struct watermark {
    struct watermark_part *parts;
    uint32_t n;
    int64_t out_of_order; // ms
    int64_t value;        // the watermark of the whole
    int64_t largest;      // the largest accepted ts of all, WATERMARK_NONE before the first
};

void watermark_init(struct watermark *w, uint32_t n_parts, int64_t out_of_order_ms);
void watermark_done(struct watermark *w);
void watermark_counts(struct watermark *w, uint32_t part, bool counts);
// An accepted event. Returns true if the watermark moved.
bool watermark_event(struct watermark *w, uint32_t part, int64_t ts);
bool watermark_idle(struct watermark *w, uint32_t part);
// To the end of time (--flush).
void watermark_flush(struct watermark *w);

// State for the store, by (topic, partition) of the caller's choice: encode writes value, largest and for
// part `i` its (largest, idle); decode reads the same.
void watermark_part_put(const struct watermark *w, uint32_t part, struct buf *to);
void watermark_part_get(struct watermark *w, uint32_t part, struct rd *from);

#endif
