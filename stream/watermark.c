// SPDX-License-Identifier: Apache-2.0
// The least over the parts is searched only when it can have moved: when the part that advanced was no
// further than the watermark itself. Any other one was not the last, so most events cost one comparison.
//
// Where all parts are idle there is no least one, and the watermark is that of the furthest part. So it does
// not matter in which order parts fall idle.

#include "stream/watermark.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

enum { WATERMARK_FORMAT = 1 };

void watermark_init(struct watermark *w, uint32_t n_parts, int64_t out_of_order_ms)
{
    assert(out_of_order_ms >= 0);
    *w = (struct watermark){
        .parts = mem_array(n_parts, sizeof *w->parts),
        .n = n_parts,
        .out_of_order = out_of_order_ms,
        .value = WATERMARK_NONE,
        .largest = WATERMARK_NONE,
    };
    for (uint32_t i = 0; i < n_parts; i++)
        w->parts[i] = (struct watermark_part){.largest = WATERMARK_NONE, .counts = true};
}

void watermark_done(struct watermark *w)
{
    free(w->parts);
    *w = (struct watermark){.value = WATERMARK_NONE, .largest = WATERMARK_NONE};
}

void watermark_counts(struct watermark *w, uint32_t part, bool counts)
{
    assert(part < w->n);
    w->parts[part].counts = counts;
}

static int64_t watermark_of(const struct watermark *w, int64_t largest)
{
    return largest == WATERMARK_NONE ? WATERMARK_NONE : largest - w->out_of_order;
}

static int64_t watermark_least(const struct watermark *w)
{
    int64_t least = WATERMARK_END;
    int64_t furthest = WATERMARK_NONE;
    for (uint32_t i = 0; i < w->n; i++) {
        const struct watermark_part *part = &w->parts[i];
        if (!part->counts)
            continue;
        if (!part->idle && part->largest < least)
            least = part->largest;
        if (part->largest > furthest)
            furthest = part->largest;
    }
    return watermark_of(w, least == WATERMARK_END ? furthest : least);
}

static bool watermark_move(struct watermark *w)
{
    int64_t value = watermark_least(w);
    if (value <= w->value)
        return false;
    w->value = value;
    return true;
}

bool watermark_event(struct watermark *w, uint32_t part, int64_t ts)
{
    assert(part < w->n && ts > WATERMARK_NONE && ts < WATERMARK_END);
    struct watermark_part *p = &w->parts[part];
    bool was_idle = p->idle;
    int64_t before = p->largest;
    p->idle = false;
    if (ts > before)
        p->largest = ts;
    if (!p->counts)
        return false;
    if (ts > w->largest)
        w->largest = ts;
    bool held = was_idle || watermark_of(w, before) <= w->value;
    return held && watermark_move(w);
}

bool watermark_idle(struct watermark *w, uint32_t part)
{
    assert(part < w->n);
    w->parts[part].idle = true;
    return watermark_move(w);
}

void watermark_flush(struct watermark *w)
{
    w->value = WATERMARK_END;
}

void watermark_part_put(const struct watermark *w, uint32_t part, struct buf *to)
{
    assert(part < w->n);
    buf_put_u8(to, WATERMARK_FORMAT);
    buf_put_u8(to, w->parts[part].idle);
    buf_put_u64(to, (uint64_t)w->value);
    buf_put_u64(to, (uint64_t)w->largest);
    buf_put_u64(to, (uint64_t)w->parts[part].largest);
}

// A record is as old as the commit that last wrote its part: the furthest values of all records hold.
void watermark_part_get(struct watermark *w, uint32_t part, struct rd *from)
{
    assert(part < w->n);
    if (rd_u8(from) != WATERMARK_FORMAT)
        from->bad = true;
    bool idle = rd_u8(from) != 0;
    int64_t value = (int64_t)rd_u64(from);
    int64_t largest = (int64_t)rd_u64(from);
    int64_t part_largest = (int64_t)rd_u64(from);
    if (from->bad)
        return;
    w->parts[part].idle = idle;
    w->parts[part].largest = part_largest;
    if (value > w->value)
        w->value = value;
    if (largest > w->largest)
        w->largest = largest;
}
