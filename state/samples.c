// SPDX-License-Identifier: Apache-2.0
// Appending to the sample log, its durable form and its retention; reading is in samples_read.c, the layouts
// stand in samples.h.
//
// Cost of a sample: its record's encoding, about 30 bytes; of a body: a memcpy. Records are encoded as they
// come, so a commit has only to copy them.
#include "state/samples.h"

#include <stdlib.h>

#include "base/mem.h"
#include "state/keys.h"
#include "state/record.h"
#include "state/samples_impl.h"

enum { META_VERSION = 1 };

// ---- parts ------------------------------------------------------------------------------------------------

static struct log_part *part_new(uint64_t commit, uint64_t seq, int64_t time)
{
    struct log_part *p = mem_zalloc(sizeof *p);
    p->commit = commit;
    p->first = p->end = seq;
    p->body_low = UINT64_MAX;
    p->time = time;
    return p;
}

static void part_free(struct log_part *p)
{
    for (uint32_t i = 0; i < p->n_segments; i++)
        segment_release(p->segments[i]);
    for (uint32_t i = 0; i < p->n_values; i++)
        buf_done(&p->values[i].bytes);
    free(p->segments);
    free(p->values);
    free(p);
}

static bool part_empty(const struct log_part *p)
{
    return p->n_segments == 0 && p->end == p->first;
}

struct samples *samples_new(struct store *store, uint64_t body_cache_bytes)
{
    struct samples *l = mem_zalloc(sizeof *l);
    l->magic = SAMPLES_MAGIC;
    l->store = store;
    l->cache.budget = body_cache_bytes;
    l->time = INT64_MIN;
    l->parts = l->now = part_new(0, 0, l->time);
    return l;
}

void samples_free(struct samples *l)
{
    if (l == NULL)
        return;
    samples_check(l);
    while (l->parts != NULL) {
        struct log_part *p = l->parts;
        l->parts = p->next;
        part_free(p);
    }
    segment_cache_done(&l->cache);
    buf_done(&l->cursor.value);
    free(l);
}

void samples_commit_set(struct samples *l, uint64_t commit)
{
    samples_check(l);
    if (part_empty(l->now) && !l->now->batched) {
        l->now->commit = commit;
        return;
    }
    assert(l->now->batched && commit > l->now->commit);
    l->now->next = part_new(commit, l->end, l->time);
    l->now = l->now->next;
}

// ---- bodies -----------------------------------------------------------------------------------------------

static struct segment *segment_now(const struct log_part *p)
{
    return p->n_segments > 0 ? p->segments[p->n_segments - 1] : NULL;
}

static struct segment *segment_add(struct log_part *p, uint32_t size)
{
    if (p->n_segments == p->cap_segments) {
        p->cap_segments = p->cap_segments > 0 ? p->cap_segments * 2 : 8;
        p->segments = mem_resize(p->segments, p->cap_segments, sizeof(struct segment *));
    }
    uint32_t capacity = size > SEGMENT_BYTES ? size : SEGMENT_BYTES;
    struct segment *g = segment_new(p->commit, p->n_segments, capacity);
    p->segments[p->n_segments++] = g;
    return g;
}

void samples_body_begin(struct samples *l, uint32_t size, uint32_t *ret_at)
{
    samples_check(l);
    assert(!l->now->batched);
    const struct segment *g = segment_now(l->now);
    if (g == NULL || g->capacity - g->len < size)
        g = segment_add(l->now, size);
    *ret_at = g->len;
}

void samples_body_append(struct samples *l, const void *bytes, uint32_t size, struct body_ref *ret_ref)
{
    samples_check(l);
    struct segment *g = segment_now(l->now);
    assert(!l->now->batched && g != NULL && g->capacity - g->len >= size);
    if (size > 0)
        memcpy(g->bytes + g->len, bytes, size);
    *ret_ref = (struct body_ref){g->commit, g->index, g->len, g->len};
    g->len += size;
}

uint64_t samples_commit(const struct samples *l)
{
    samples_check(l);
    return l->now->commit;
}

uint32_t samples_segment(const struct samples *l)
{
    samples_check(l);
    return l->now->n_segments > 0 ? l->now->n_segments - 1 : 0;
}

// ---- records ----------------------------------------------------------------------------------------------

static struct log_value *value_now(struct log_part *p)
{
    if (p->n_values > 0 && p->values[p->n_values - 1].bytes.len < RECORDS_VALUE_BYTES)
        return &p->values[p->n_values - 1];
    if (p->n_values == p->cap_values) {
        p->cap_values = p->cap_values > 0 ? p->cap_values * 2 : 8;
        p->values = mem_resize(p->values, p->cap_values, sizeof *p->values);
    }
    struct log_value *v = &p->values[p->n_values++];
    *v = (struct log_value){.first = p->end};
    return v;
}

uint64_t samples_append(struct samples *l, const struct sample *sample)
{
    samples_check(l);
    struct log_part *p = l->now;
    assert(!p->batched);
    struct log_value *v = value_now(p);
    record_put(&v->bytes, sample, p->commit);
    v->n++;
    p->end++;
    p->body_low = sample->body.commit < p->body_low ? sample->body.commit : p->body_low;
    p->time = sample->emitted_ts > p->time ? sample->emitted_ts : p->time;
    l->time = p->time;
    return l->end++;
}

uint64_t samples_end(const struct samples *l)
{
    samples_check(l);
    return l->end;
}

uint64_t samples_begin(const struct samples *l)
{
    samples_check(l);
    return l->begin;
}

void samples_trained(struct samples *l, uint64_t seq)
{
    samples_check(l);
    assert(seq <= l->end);
    l->trained = seq > l->trained ? seq : l->trained;
}

// ---- commits ----------------------------------------------------------------------------------------------

void log_key(uint64_t commit, uint8_t part, uint16_t n, uint8_t ret_key[LOG_KEY])
{
    uint64_t commit_be = __builtin_bswap64(commit);
    uint16_t n_be = __builtin_bswap16(n);
    ret_key[0] = KEY_LOG;
    ret_key[1] = ret_key[2] = 0;
    memcpy(ret_key + 3, &commit_be, sizeof commit_be);
    ret_key[11] = part;
    memcpy(ret_key + 12, &n_be, sizeof n_be);
}

// Merges runs by pairs.
static void runs_thin(struct samples *l)
{
    for (uint32_t i = 0; i < LOG_RUNS / 2; i++) {
        struct log_run a = l->runs[(size_t)2 * i];
        const struct log_run *b = &l->runs[(size_t)2 * i + 1];
        a.time = b->time;
        a.body_low = b->body_low < a.body_low ? b->body_low : a.body_low;
        l->runs[i] = a;
    }
    l->n_runs = LOG_RUNS / 2;
}

static void run_add(struct samples *l, const struct log_part *p)
{
    if (p->end == p->first)
        return;
    if (l->n_runs == LOG_RUNS)
        runs_thin(l);
    uint64_t low = p->body_low < p->commit ? p->body_low : p->commit;
    l->runs[l->n_runs++] = (struct log_run){p->commit, p->first, low, p->time};
}

static void value_batch(struct store_batch *b, uint64_t commit, uint16_t n, const struct log_value *v,
                        struct buf *scratch)
{
    uint8_t key[LOG_KEY];
    log_key(commit, KEY_LOG_SAMPLES, n, key);
    buf_clear(scratch);
    buf_put_u8(scratch, RECORDS_VERSION);
    buf_put_varint(scratch, v->first);
    buf_put_varint(scratch, v->n);
    buf_put(scratch, v->bytes.data, v->bytes.len);
    store_batch_put(b, key, sizeof key, scratch->data, scratch->len);
}

void samples_batch(struct samples *l, struct store_batch *b)
{
    samples_check(l);
    struct log_part *p = l->now;
    struct buf scratch = {0};
    assert(!p->batched && p->n_values <= UINT16_MAX);
    for (uint32_t i = 0; i < p->n_segments; i++) {
        uint8_t key[LOG_KEY];
        log_key(p->commit, KEY_LOG_BODIES, (uint16_t)i, key);
        store_batch_put(b, key, sizeof key, p->segments[i]->bytes, p->segments[i]->len);
    }
    const struct log_value none = {.first = p->first};
    if (p->n_values == 0)
        value_batch(b, p->commit, 0, &none, &scratch);
    for (uint32_t i = 0; i < p->n_values; i++)
        value_batch(b, p->commit, (uint16_t)i, &p->values[i], &scratch);
    buf_done(&scratch);
    p->batched = true;
    l->last_commit = p->commit;
    run_add(l, p);
}

// Without a store there is nowhere to read from, and everything stays.
void samples_durable(struct samples *l, uint64_t commit)
{
    samples_check(l);
    if (l->store == NULL)
        return;
    while (l->parts->batched && l->parts->commit <= commit) {
        struct log_part *p = l->parts;
        if (p == l->now) // its successor has no number yet
            l->now = p->next = part_new(p->commit + 1, l->end, l->time);
        l->parts = p->next;
        for (uint32_t i = 0; i < p->n_segments; i++)
            segment_cache_put(&l->cache, segment_fit(p->segments[i]));
        p->n_segments = 0;
        part_free(p);
    }
}

// ---- retention --------------------------------------------------------------------------------------------

// The seq after the last one of the first `n` runs.
static uint64_t runs_end(const struct samples *l, uint32_t n)
{
    if (n < l->n_runs)
        return l->runs[n].first;
    return l->now->batched ? l->end : l->now->first;
}

uint64_t samples_low(struct samples *l, int64_t watermark, uint64_t keep_ms)
{
    samples_check(l);
    int64_t clock = watermark < l->time ? watermark : l->time;
    bool ever = keep_ms == 0 || keep_ms > INT64_MAX || clock < INT64_MIN + (int64_t)keep_ms;
    int64_t cut = ever ? INT64_MIN : clock - (int64_t)keep_ms;
    uint32_t gone = 0;
    while (gone < l->n_runs && l->runs[gone].time < cut && runs_end(l, gone + 1) <= l->trained)
        gone++;
    l->begin = gone > 0 ? runs_end(l, gone) : l->begin;
    l->n_runs -= gone;
    memmove(l->runs, l->runs + gone, l->n_runs * sizeof l->runs[0]);
    uint64_t low = l->now->body_low < l->now->commit ? l->now->body_low : l->now->commit;
    for (uint32_t i = 0; i < l->n_runs; i++)
        low = l->runs[i].body_low < low ? l->runs[i].body_low : low;
    return low;
}

void samples_meta_put(const struct samples *l, struct buf *to)
{
    samples_check(l);
    assert(l->now->batched || l->now->end == l->now->first);
    buf_put_u8(to, META_VERSION);
    buf_put_varint(to, l->end);
    buf_put_varint(to, l->trained);
    buf_put_varint(to, l->begin);
    buf_put_varint(to, l->last_commit);
    buf_put_zigzag(to, l->time);
    buf_put_varint(to, l->n_runs);
    struct log_run last = {0};
    for (uint32_t i = 0; i < l->n_runs; i++) {
        const struct log_run *r = &l->runs[i];
        buf_put_varint(to, r->commit - last.commit);
        buf_put_varint(to, r->first - last.first);
        buf_put_varint(to, r->commit - r->body_low);
        buf_put_zigzag(to, time_minus(r->time, last.time));
        last = *r;
    }
}

static void runs_get(struct samples *l, struct rd *from, uint32_t n)
{
    struct log_run last = {0};
    for (l->n_runs = 0; l->n_runs < n && !from->bad; l->n_runs++) {
        last.commit += rd_varint(from);
        last.first += rd_varint(from);
        last.body_low = last.commit - rd_varint(from);
        last.time = time_plus(last.time, rd_zigzag(from));
        l->runs[l->n_runs] = last;
    }
}

int samples_meta_get(struct samples *l, struct rd *from, struct err *err)
{
    samples_check(l);
    assert(part_empty(l->now) && l->parts == l->now);
    uint8_t version = rd_u8(from);
    if (version != META_VERSION)
        return err_set(err, from->bad ? ERR_CORRUPT : ERR_VERSION, "sample log: version %u, not %d", version,
                       META_VERSION);
    l->end = rd_varint(from);
    l->trained = rd_varint(from);
    l->begin = rd_varint(from);
    l->last_commit = rd_varint(from);
    l->time = rd_zigzag(from);
    uint64_t n = rd_varint(from);
    if (n <= LOG_RUNS)
        runs_get(l, from, (uint32_t)n);
    if (from->bad || n > LOG_RUNS || l->begin > l->end || l->trained > l->end)
        return err_set(err, ERR_CORRUPT, "sample log: its record in the store is damaged");
    l->now->first = l->now->end = l->end;
    l->now->time = l->time;
    l->now->commit = l->last_commit + 1;
    return 0;
}

uint64_t samples_bytes(const struct samples *l)
{
    samples_check(l);
    uint64_t bytes = sizeof *l + l->cache.bytes + l->cursor.value.cap;
    for (const struct log_part *p = l->parts; p != NULL; p = p->next) {
        for (uint32_t i = 0; i < p->n_segments; i++)
            bytes += p->segments[i]->capacity;
        for (uint32_t i = 0; i < p->n_values; i++)
            bytes += p->values[i].bytes.cap;
    }
    return bytes;
}
