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

enum { META_VERSION = 2 };

// A log begins with profiles, or with feedback that meets nothing. Until its first sample has gone, all commits are
// kept, so that the order is on record from the first; but not for ever where no sample ever comes.
enum { COMMITS_BEFORE_SAMPLES = 1000 };

// ---- parts ------------------------------------------------------------------------------------------------

static struct log_part *part_new(uint64_t commit, uint64_t seq, int64_t time)
{
    struct log_part *p = mem_zalloc(sizeof *p);
    p->commit = commit;
    p->first = p->end = seq;
    p->body_low = UINT64_MAX;
    p->time = time;
    p->low = INT64_MAX;
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
    l->published = UINT64_MAX;
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
    for (int i = 0; i < LOG_CURSORS; i++)
        buf_done(&l->cursors[i].value);
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
    p->room += capacity;
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
    *v = (struct log_value){.first = p->end, .low = INT64_MAX, .high = INT64_MIN, .time = p->time};
    return v;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

uint64_t samples_append(struct samples *l, const struct sample *sample)
{
    samples_check(l);
    struct log_part *p = l->now;
    assert(!p->batched);
    struct log_value *v = value_now(p);
    size_t before = v->bytes.len;
    record_put(&v->bytes, sample, p->commit);
    p->bytes += v->bytes.len - before;
    v->n++;
    p->end++;
    p->body_low = sample->body.commit < p->body_low ? sample->body.commit : p->body_low;
    p->time = larger(sample->emitted_ts, p->time);
    p->low = smaller(sample->emitted_ts, p->low);
    v->high = larger(sample->emitted_ts, v->high);
    v->low = smaller(sample->emitted_ts, v->low);
    l->time = v->time = p->time;
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

uint64_t samples_durable_end(const struct samples *l)
{
    samples_check(l);
    return l->parts->first;
}

void samples_trained(struct samples *l, uint64_t seq)
{
    samples_check(l);
    assert(seq <= l->end);
    l->trained = seq > l->trained ? seq : l->trained;
}

void samples_published(struct samples *l, uint64_t seq)
{
    samples_check(l);
    assert(seq <= l->end || seq == UINT64_MAX);
    l->published = seq;
}

const struct samples_gone *samples_gone(const struct samples *l)
{
    samples_check(l);
    return &l->gone;
}

uint64_t samples_log_bytes(const struct samples *l)
{
    samples_check(l);
    uint64_t bytes = l->open_bytes;
    for (uint32_t i = 0; i < l->n_runs; i++)
        bytes += l->runs[i].bytes;
    return bytes;
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

// Makes one run of the two neighbours that are the smallest together.
static void runs_merge(struct samples *l)
{
    uint32_t least = 0;
    for (uint32_t i = 1; i + 1 < l->n_runs; i++)
        if (l->runs[i].bytes + l->runs[i + 1].bytes < l->runs[least].bytes + l->runs[least + 1].bytes)
            least = i;
    struct log_run *a = &l->runs[least];
    const struct log_run *b = a + 1;
    a->time = b->time;
    a->low = smaller(a->low, b->low);
    a->body_low = b->body_low < a->body_low ? b->body_low : a->body_low;
    a->bytes += b->bytes;
    l->n_runs--;
    memmove(a + 1, a + 2, (l->n_runs - least - 1) * sizeof *a);
}

static uint64_t part_bytes(const struct log_part *p)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < p->n_segments; i++)
        bytes += p->segments[i]->len;
    for (uint32_t i = 0; i < p->n_values; i++)
        bytes += p->values[i].bytes.len;
    return bytes;
}

static void run_add(struct samples *l, const struct log_part *p)
{
    l->open_bytes += part_bytes(p);
    if (p->end == p->first)
        return;
    if (l->n_runs == LOG_RUNS)
        runs_merge(l);
    l->runs[l->n_runs++] = (struct log_run){.commit = p->commit,
                                            .first = p->first,
                                            .body_low = p->body_low < p->commit ? p->body_low : p->commit,
                                            .time = p->time,
                                            .low = p->low,
                                            .bytes = l->open_bytes};
    l->open_bytes = 0;
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
    buf_put_zigzag(scratch, v->time);
    buf_put_varint(scratch, v->n > 0 ? (uint64_t)time_minus(v->time, v->high) : 0);
    buf_put_varint(scratch, v->n > 0 ? (uint64_t)time_minus(v->high, v->low) : 0);
    buf_put(scratch, v->bytes.data, v->bytes.len);
    store_batch_put(b, key, sizeof key, scratch->data, scratch->len);
}

void samples_turn_set(struct samples *l, void (*turn)(void *context), void *context)
{
    samples_check(l);
    l->turn = turn;
    l->turn_context = context;
}

void samples_batch(struct samples *l, struct store_batch *b)
{
    samples_check(l);
    struct log_part *p = l->now;
    struct buf scratch = {0};
    assert(!p->batched && p->n_values <= UINT16_MAX);
    for (uint32_t i = 0; i < p->n_segments; i++) {
        uint8_t key[LOG_KEY];
        if (l->turn != NULL)
            l->turn(l->turn_context);
        log_key(p->commit, KEY_LOG_BODIES, (uint16_t)i, key);
        store_batch_put_held(b, key, sizeof key, p->segments[i]->bytes, p->segments[i]->len);
    }
    const struct log_value none = {.first = p->first, .time = p->time};
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

// How many runs are older than `cut`, trained on and published.
static uint32_t runs_old(const struct samples *l, int64_t cut)
{
    uint64_t done = l->trained < l->published ? l->trained : l->published;
    uint32_t n = 0;
    while (n < l->n_runs && l->runs[n].time < cut && runs_end(l, n + 1) <= done)
        n++;
    return n;
}

// How many runs, all of them trained on, must go so that `keep_bytes` remain.
static uint32_t runs_over(const struct samples *l, uint64_t keep_bytes)
{
    uint64_t bytes = samples_log_bytes(l);
    uint32_t n = 0;
    while (n < l->n_runs && bytes > keep_bytes && runs_end(l, n + 1) <= l->trained)
        bytes -= l->runs[n++].bytes;
    return n;
}

// Lets go of the first `n` runs. Returns how many samples that were.
static uint64_t runs_drop(struct samples *l, uint32_t n)
{
    uint64_t begin = l->begin;
    l->begin = n > 0 ? runs_end(l, n) : l->begin;
    l->n_runs -= n;
    memmove(l->runs, l->runs + n, l->n_runs * sizeof l->runs[0]);
    return l->begin - begin;
}

uint64_t samples_low(struct samples *l, int64_t watermark, uint64_t keep_ms, uint64_t keep_bytes)
{
    samples_check(l);
    int64_t clock = watermark < l->time ? watermark : l->time;
    bool ever = keep_ms == 0 || keep_ms > INT64_MAX || clock < INT64_MIN + (int64_t)keep_ms;
    l->gone.by_age += runs_drop(l, runs_old(l, ever ? INT64_MIN : clock - (int64_t)keep_ms));
    l->gone.by_size += runs_drop(l, keep_bytes > 0 ? runs_over(l, keep_bytes) : 0);
    if (l->published < l->begin) {
        l->gone.unpublished += l->begin - l->published;
        l->published = l->begin;
    }
    if (l->begin == 0 && (l->end > 0 || l->now->commit <= COMMITS_BEFORE_SAMPLES))
        return 0;
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
    buf_put_varint(to, l->open_bytes);
    buf_put_varint(to, l->gone.by_age);
    buf_put_varint(to, l->gone.by_size);
    buf_put_varint(to, l->gone.unpublished);
    buf_put_varint(to, l->n_runs);
    struct log_run last = {0};
    for (uint32_t i = 0; i < l->n_runs; i++) {
        const struct log_run *r = &l->runs[i];
        buf_put_varint(to, r->commit - last.commit);
        buf_put_varint(to, r->first - last.first);
        buf_put_varint(to, r->commit - r->body_low);
        buf_put_zigzag(to, time_minus(r->time, last.time));
        buf_put_varint(to, (uint64_t)time_minus(r->time, r->low));
        buf_put_varint(to, r->bytes);
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
        last.low = time_minus(last.time, (int64_t)rd_varint(from));
        last.bytes = rd_varint(from);
        l->runs[l->n_runs] = last;
    }
}

int samples_meta_get(struct samples *l, struct rd *from, struct err *err)
{
    samples_check(l);
    assert(part_empty(l->now) && l->parts == l->now);
    uint8_t version = rd_u8(from);
    if (version != META_VERSION)
        return err_set(err, from->bad ? ERR_CORRUPT : ERR_VERSION,
                       "its sample log has version %u, this program writes version %d: use the program that "
                       "wrote it, or begin again from the stream in an empty directory",
                       version, META_VERSION);
    l->end = rd_varint(from);
    l->trained = rd_varint(from);
    l->begin = rd_varint(from);
    l->last_commit = rd_varint(from);
    l->time = rd_zigzag(from);
    l->open_bytes = rd_varint(from);
    l->gone.by_age = rd_varint(from);
    l->gone.by_size = rd_varint(from);
    l->gone.unpublished = rd_varint(from);
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

void samples_memory(const struct samples *l, struct samples_memory *ret_memory)
{
    samples_check(l);
    struct samples_memory m = {.cache_bytes = sizeof *l + l->cache.bytes,
                               .cache_hits = l->cache.hits,
                               .cache_misses = l->cache.misses,
                               .cache_evictions = l->cache.evictions};
    for (int i = 0; i < LOG_CURSORS; i++)
        m.cache_bytes += l->cursors[i].value.cap;
    for (const struct log_part *p = l->parts; p != NULL; p = p->next)
        m.part_bytes += p->room + p->bytes;
    *ret_memory = m;
}

// Twice: there, and in the batch of the commit.
uint64_t samples_dirty_bytes(const struct samples *l)
{
    samples_check(l);
    return l->now->batched ? 0 : l->now->room + 2 * l->now->bytes; // records are copied into the batch
}
