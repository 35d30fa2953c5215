// SPDX-License-Identifier: Apache-2.0
// Fields that are mostly at their default (rates 1, partition 0, no watch time, nothing masked) are told by a flag.
#include "state/record.h"

#include <assert.h>

enum record_flag {
    RECORD_CORRECTED = 1,
    RECORD_WATCH = 2,
    RECORD_RATE = 4,
    RECORD_PARTITION = 8,
    RECORD_MASKED = 16,
    RECORD_RATES = 32,
    RECORD_FLAGS = 63,
};

void record_times_put(struct buf *to, uint32_t labels, const int64_t *label_ts, int64_t ts)
{
    for (uint32_t rest = labels; rest != 0; rest &= rest - 1)
        buf_put_zigzag(to, time_minus(label_ts[__builtin_ctz(rest)], ts));
}

void record_times_get(struct rd *from, uint32_t labels, int64_t ts, int64_t *ret_label_ts)
{
    if (labels >> ACTION_MAX != 0) {
        from->bad = true;
        from->p = from->end;
        return;
    }
    for (uint32_t rest = labels; rest != 0; rest &= rest - 1)
        ret_label_ts[__builtin_ctz(rest)] = time_plus(ts, rd_zigzag(from));
}

static uint8_t record_flags(const struct sample *s)
{
    return (uint8_t)((s->corrected ? RECORD_CORRECTED : 0) | (s->watch_ms != 0 ? RECORD_WATCH : 0) |
                     (s->keep_rate != 1.0f ? RECORD_RATE : 0) | (s->partition != 0 ? RECORD_PARTITION : 0) |
                     (s->masked != 0 ? RECORD_MASKED : 0) | (s->rated != 0 ? RECORD_RATES : 0));
}

static void rates_put(struct buf *to, const struct sample *s)
{
    buf_put_varint(to, s->rated);
    for (uint32_t rest = s->rated; rest != 0; rest &= rest - 1)
        buf_put_f32(to, s->keep_rates[__builtin_ctz(rest)]);
}

// A set of labels; malformed: none, and from->bad.
static uint32_t labels_get(struct rd *from)
{
    uint64_t labels = rd_varint(from);
    if (labels >> ACTION_MAX == 0)
        return (uint32_t)labels;
    from->bad = true;
    return 0;
}

static void rates_get(struct rd *from, struct sample *ret_sample)
{
    ret_sample->rated = labels_get(from);
    for (uint32_t rest = ret_sample->rated; rest != 0; rest &= rest - 1)
        ret_sample->keep_rates[__builtin_ctz(rest)] = rd_f32(from);
}

void record_put(struct buf *to, const struct sample *s, uint64_t commit)
{
    assert(s->body.commit <= commit);
    assert((s->labels | s->told | s->masked | s->rated) >> ACTION_MAX == 0);
    uint8_t flags = record_flags(s);
    buf_put_varint(to, commit - s->body.commit);
    buf_put_varint(to, s->body.segment);
    buf_put_varint(to, s->body.user_at);
    buf_put_varint(to, s->body.item_at);
    buf_put_varint(to, s->impression);
    buf_put_zigzag(to, s->impression_ts);
    buf_put_zigzag(to, time_minus(s->emitted_ts, s->impression_ts));
    buf_put_varint(to, s->labels);
    buf_put_u8(to, flags);
    record_times_put(to, s->labels, s->label_ts, s->impression_ts);
    if (flags & RECORD_CORRECTED)
        buf_put_varint(to, s->told);
    if (flags & RECORD_WATCH)
        buf_put_varint(to, s->watch_ms);
    if (flags & RECORD_RATE)
        buf_put_f32(to, s->keep_rate);
    if (flags & RECORD_PARTITION)
        buf_put_varint(to, s->partition);
    if (flags & RECORD_MASKED)
        buf_put_varint(to, s->masked);
    if (flags & RECORD_RATES)
        rates_put(to, s);
}

void record_get(struct rd *from, uint64_t commit, struct sample *ret_sample)
{
    struct sample s = {0};
    s.body.commit = commit - rd_varint(from);
    s.body.segment = (uint32_t)rd_varint(from);
    s.body.user_at = (uint32_t)rd_varint(from);
    s.body.item_at = (uint32_t)rd_varint(from);
    s.impression = rd_varint(from);
    s.impression_ts = rd_zigzag(from);
    s.emitted_ts = time_plus(s.impression_ts, rd_zigzag(from));
    s.labels = (uint32_t)rd_varint(from);
    uint8_t flags = rd_u8(from);
    if (s.body.commit > commit || flags > RECORD_FLAGS)
        from->bad = true;
    record_times_get(from, s.labels, s.impression_ts, s.label_ts);
    s.corrected = (flags & RECORD_CORRECTED) != 0;
    s.told = s.corrected ? labels_get(from) : 0;
    s.watch_ms = flags & RECORD_WATCH ? rd_varint(from) : 0;
    s.keep_rate = flags & RECORD_RATE ? rd_f32(from) : 1.0f;
    s.partition = flags & RECORD_PARTITION ? (uint16_t)rd_varint(from) : 0;
    s.masked = flags & RECORD_MASKED ? labels_get(from) : 0;
    if (flags & RECORD_RATES)
        rates_get(from, &s);
    *ret_sample = s;
}
