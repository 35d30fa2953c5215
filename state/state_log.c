// SPDX-License-Identifier: Apache-2.0
// Two kinds of LOG blocks: the recorded order and the outbox.
//
// Order: one value a commit, runs of (varint part, varint count). Runs of equal parts are merged while they
// are collected, and across commits while they are read, so that what is read does not depend on when commits
// were made. It is kept as long as the rest of the LOG: as long as samples are (samples_keep_ms; 0: for
// ever).
//
// Outbox: the entries of a commit in chunks of about 1 MiB:
//
//     varint first sequence number, varint n, then n times: topic, key, value, headers, each as buf_put_str
//
// In memory is an index of the chunks that are not delivered, and the one chunk that is being read; so a
// broker that is away for hours costs disk, not memory. Recovery makes the index again from outbox_low on.
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"
#include "state/internal.h"

// ---- order ------------------------------------------------------------------------------------------------

static void order_close_run(struct order *o)
{
    if (o->open) {
        buf_put_varint(&o->done, o->part);
        buf_put_varint(&o->done, o->count);
    }
    o->open = false;
}

void state_order(struct state *s, uint16_t part, uint32_t count)
{
    struct order *o = &s->order;
    bool joins = o->open && o->part == part && count > 0 && o->count > 0 && UINT32_MAX - o->count >= count;
    if (joins) {
        o->count += count;
        return;
    }
    order_close_run(o);
    o->open = true;
    o->part = part;
    o->count = count;
}

void order_batch(struct state *s, uint64_t commit)
{
    struct order *o = &s->order;
    order_close_run(o);
    struct buf flown = o->flight;
    o->flight = o->done;
    o->done = flown;
    buf_clear(&o->done);
    if (o->flight.len == 0)
        return;
    struct key key = key_log(commit, KEY_LOG_ORDER, 0);
    batch_put(s, &key, buf_str(&o->flight));
}

void order_done(struct order *o)
{
    buf_done(&o->done);
    buf_done(&o->flight);
}

// Merges runs on their way to the caller.
struct order_reader {
    void (*run)(void *context, uint16_t part, uint32_t count);
    void *context;
    bool open;
    uint16_t part;
    uint32_t count;
};

static void reader_flush(struct order_reader *r)
{
    if (r->open)
        r->run(r->context, r->part, r->count);
    r->open = false;
}

static void reader_run(struct order_reader *r, uint16_t part, uint32_t count)
{
    if (r->open && r->part == part && count > 0 && r->count > 0 && UINT32_MAX - r->count >= count) {
        r->count += count;
        return;
    }
    reader_flush(r);
    *r = (struct order_reader){r->run, r->context, true, part, count};
}

static int reader_block(struct order_reader *r, const struct buf *block, uint64_t commit, struct err *err)
{
    struct rd rd = rd_of(block->data, block->len);
    while (rd_left(&rd) > 0) {
        uint64_t part = rd_varint(&rd);
        uint64_t count = rd_varint(&rd);
        if (rd.bad || part > UINT16_MAX || count > UINT32_MAX)
            return err_set(err, ERR_CORRUPT, "the order block of commit %" PRIu64 " is damaged", commit);
        reader_run(r, (uint16_t)part, (uint32_t)count);
    }
    return 0;
}

static int order_read(struct state *s, struct order_reader *reader, struct buf *block, struct err *err)
{
    uint64_t durable = atomic_load(&s->durable);
    for (uint64_t c = s->order.begin; c <= durable; c++) {
        bool found = false;
        if (block_get(s, c, KEY_LOG_ORDER, 0, block, &found, err) != 0)
            return -1;
        if (found && reader_block(reader, block, c, err) != 0)
            return -1;
    }
    bool flying = durable + 1 < s->next_commit;
    if (flying && reader_block(reader, &s->order.flight, durable + 1, err) != 0)
        return -1;
    if (reader_block(reader, &s->order.done, s->next_commit, err) != 0)
        return -1;
    if (s->order.open)
        reader_run(reader, s->order.part, s->order.count);
    reader_flush(reader);
    return 0;
}

int state_order_each(struct state *s, void (*run)(void *context, uint16_t part, uint32_t count),
                     void *context, struct err *err)
{
    if (s->order.begin > 1)
        return err_set(err, ERR_NOT_FOUND,
                       "the recorded order begins at commit %" PRIu64
                       ": what was before is older than the samples "
                       "that are kept",
                       s->order.begin);
    struct order_reader reader = {run, context, false, 0, 0};
    struct buf block = {0};
    int r = order_read(s, &reader, &block, err);
    buf_done(&block);
    return r;
}

// ---- outbox -----------------------------------------------------------------------------------------------

void outbox_done(struct outbox *o)
{
    free(o->chunks);
    buf_done(&o->open);
    buf_done(&o->read);
}

static void outbox_index(struct outbox *o, struct outbox_chunk chunk)
{
    if (o->n_chunks == o->cap_chunks) {
        o->cap_chunks = o->cap_chunks > 0 ? o->cap_chunks * 2 : 16;
        o->chunks = mem_resize(o->chunks, o->cap_chunks, sizeof *o->chunks);
    }
    o->chunks[o->n_chunks++] = chunk;
}

static void outbox_close_chunk(struct state *s)
{
    struct outbox *o = &s->outbox;
    if (o->open_count == 0)
        return;
    struct buf value = {0};
    buf_reserve(&value, o->open.len + 20);
    buf_put_varint(&value, o->open_first);
    buf_put_varint(&value, o->open_count);
    buf_put(&value, o->open.data, o->open.len);
    struct key key = key_log(s->next_commit, KEY_LOG_OUTBOX, o->open_n);
    batch_put(s, &key, buf_str(&value));
    buf_done(&value);
    outbox_index(o, (struct outbox_chunk){s->next_commit, o->open_first, o->open_count, o->open_n});
    assert(o->open_n < UINT16_MAX);
    o->open_n++;
    o->open_count = 0;
    buf_clear(&o->open);
}

uint64_t state_outbox_put(struct state *s, struct str topic, struct str key, struct str value,
                          struct str headers)
{
    struct outbox *o = &s->outbox;
    o->end++;
    if (o->open_count == 0)
        o->open_first = o->end;
    buf_put_str(&o->open, topic);
    buf_put_str(&o->open, key);
    buf_put_str(&o->open, value);
    buf_put_str(&o->open, headers);
    o->open_count++;
    if (o->open.len >= OUTBOX_CHUNK_BYTES)
        outbox_close_chunk(s);
    return o->end;
}

void outbox_batch(struct state *s, uint64_t commit)
{
    assert(commit == s->next_commit);
    outbox_close_chunk(s);
    s->outbox.open_n = 0;
}

uint64_t outbox_low(const struct state *s, uint64_t next_commit)
{
    return s->outbox.n_chunks > 0 ? s->outbox.chunks[0].commit : next_commit;
}

void state_outbox_delivered(struct state *s, uint64_t sequence)
{
    struct outbox *o = &s->outbox;
    if (sequence <= o->delivered)
        return;
    assert(sequence <= o->end);
    o->delivered = sequence;
    size_t gone = 0;
    while (gone < o->n_chunks && o->chunks[gone].first + o->chunks[gone].count - 1 <= sequence)
        gone++;
    o->n_chunks -= gone;
    if (o->n_chunks > 0)
        memmove(o->chunks, o->chunks + gone, o->n_chunks * sizeof *o->chunks);
}

uint64_t state_outbox_end(const struct state *s)
{
    return s->outbox.end;
}

uint64_t state_outbox_begin(const struct state *s)
{
    return s->outbox.delivered;
}

// The chunk that holds `sequence`, or the first one above it; NULL if there is none.
static const struct outbox_chunk *chunk_find(const struct outbox *o, uint64_t sequence)
{
    size_t low = 0;
    for (size_t high = o->n_chunks; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (o->chunks[middle].first + o->chunks[middle].count - 1 < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low < o->n_chunks ? &o->chunks[low] : NULL;
}

static int chunk_damaged(const struct outbox_chunk *c, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "outbox block %u of commit %" PRIu64 " is damaged", c->n, c->commit);
}

// Puts the reader at the first entry of the chunk.
static int chunk_begin(struct state *s, const struct outbox_chunk *c, struct err *err)
{
    struct outbox *o = &s->outbox;
    if (o->read_commit != c->commit || o->read_n != c->n) {
        bool found = false;
        o->read_commit = 0;
        if (block_get(s, c->commit, KEY_LOG_OUTBOX, c->n, &o->read, &found, err) != 0)
            return -1;
        if (!found)
            return chunk_damaged(c, err);
        o->read_commit = c->commit;
        o->read_n = c->n;
    }
    struct rd rd = rd_of(o->read.data, o->read.len);
    o->read_next = rd_varint(&rd);
    o->read_left = (uint32_t)rd_varint(&rd);
    o->read_at = (size_t)(rd.p - o->read.data);
    return rd.bad || o->read_next != c->first || o->read_left != c->count ? chunk_damaged(c, err) : 0;
}

static bool entry_read(struct outbox *o, struct outbox_entry *ret)
{
    struct rd rd = rd_of(o->read.data + o->read_at, o->read.len - o->read_at);
    *ret = (struct outbox_entry){.sequence = o->read_next};
    ret->topic = rd_str(&rd);
    ret->key = rd_str(&rd);
    ret->value = rd_str(&rd);
    ret->headers = rd_str(&rd);
    if (rd.bad)
        return false;
    o->read_at = (size_t)(rd.p - o->read.data);
    o->read_next++;
    o->read_left--;
    return true;
}

bool state_outbox_next(struct state *s, uint64_t after, struct outbox_entry *ret_entry, struct err *err)
{
    struct outbox *o = &s->outbox;
    uint64_t wanted = (after > o->delivered ? after : o->delivered) + 1;
    const struct outbox_chunk *c = chunk_find(o, wanted);
    if (c == NULL || c->commit > atomic_load(&s->durable))
        return false;
    bool here =
        o->read_commit == c->commit && o->read_n == c->n && o->read_left > 0 && o->read_next <= wanted;
    if (!here && chunk_begin(s, c, err) != 0)
        return false;
    struct outbox_entry entry;
    do {
        if (o->read_left == 0 || !entry_read(o, &entry)) {
            o->read_commit = 0;
            chunk_damaged(c, err);
            return false;
        }
    } while (entry.sequence < wanted);
    *ret_entry = entry;
    return true;
}

static int outbox_index_chunk(struct state *s, uint64_t commit, uint16_t n, const struct buf *block,
                              struct err *err)
{
    struct outbox *o = &s->outbox;
    struct rd rd = rd_of(block->data, block->len);
    struct outbox_chunk c = {.commit = commit, .n = n, .first = rd_varint(&rd)};
    c.count = (uint32_t)rd_varint(&rd);
    if (rd.bad || c.count == 0)
        return chunk_damaged(&c, err);
    if (c.first + c.count - 1 > o->delivered)
        outbox_index(o, c);
    return 0;
}

int outbox_load(struct state *s, uint64_t low, struct err *err)
{
    struct buf block = {0};
    int r = 0;
    for (uint64_t c = low; c < s->next_commit && r == 0; c++) {
        bool found = true;
        for (uint16_t n = 0; r == 0 && found; n++) {
            r = block_get(s, c, KEY_LOG_OUTBOX, n, &block, &found, err);
            if (r == 0 && found)
                r = outbox_index_chunk(s, c, n, &block, err);
        }
    }
    buf_done(&block);
    return r;
}
