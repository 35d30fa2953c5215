// SPDX-License-Identifier: Apache-2.0
// Reading the sample log. What is not durable is decoded from memory; the rest from its 's' values in the
// store. A cursor stays where the last read ended, so reading on costs no search. Elsewhere the run is known
// from memory and the commit is found by bisecting: every 's' value tells its first seq, and its times. A run of
// 5,000 commits takes 13 seeks.
//
// A chunk holds every segment once, by count, and takes nothing of the log when it is let go of: any thread
// may do that.
#include <stdlib.h>

#include "base/mem.h"
#include "state/keys.h"
#include "state/record.h"
#include "state/samples_impl.h"

struct chunk {
    struct sample_chunk out; // first: a struct sample_chunk * of ours points here
    struct sample *samples;
    struct str *segments;
    struct segment **held;
    uint32_t n_held, cap_held;
    uint64_t number;
};

// ---- values in the store ----------------------------------------------------------------------------------

struct log_place {
    uint64_t commit;
    uint8_t part;
    uint16_t n;
};

static struct log_place place_of(struct str key)
{
    struct rd r = rd_of(key.s + 3, key.len - 3);
    struct log_place p = {.commit = rd_be64(&r)};
    p.part = rd_u8(&r);
    p.n = rd_be16(&r);
    return p;
}

static struct store_iter *log_iter(const struct samples *l)
{
    static const char prefix[3] = {(char)KEY_LOG, 0, 0};
    return store_iter_new(l->store, (struct str){prefix, sizeof prefix}, (struct str){NULL, 0}, true);
}

// Goes to the first 's' value at or after (commit, n). false: there is none before commit `end`.
static bool log_seek(struct store_iter *it, uint64_t commit, uint16_t n, uint64_t end,
                     struct log_place *ret_place)
{
    for (;;) {
        uint8_t key[LOG_KEY];
        log_key(commit, KEY_LOG_SAMPLES, n, key);
        store_iter_seek(it, (struct str){(const char *)key, sizeof key});
        if (!store_iter_valid(it) || store_iter_key(it).len != LOG_KEY)
            return false;
        struct log_place p = place_of(store_iter_key(it));
        if (p.commit >= end)
            return false;
        if (p.part == KEY_LOG_SAMPLES) {
            *ret_place = p;
            return true;
        }
        commit = p.part > KEY_LOG_SAMPLES ? p.commit + 1 : p.commit;
        n = 0;
    }
}

// The head of a value.
struct log_head {
    uint64_t first, end; // seq
    int64_t low, high;   // of emitted_ts in it
    int64_t time;        // the largest up to its end
};

// *from stands at the first record after it.
static struct log_head head_get(struct rd *from)
{
    struct log_head h;
    from->bad |= rd_u8(from) != RECORDS_VERSION;
    h.first = rd_varint(from);
    h.end = h.first + rd_varint(from);
    h.time = rd_zigzag(from);
    h.high = time_minus(h.time, (int64_t)rd_varint(from));
    h.low = time_minus(h.high, (int64_t)rd_varint(from));
    return h;
}

// The head of the value on which the iterator stands.
static struct log_head head_at(const struct store_iter *it)
{
    struct str value = store_iter_value(it);
    struct rd from = rd_of(value.s, value.len);
    return head_get(&from);
}

// Takes over the value on which the iterator stands.
static int cursor_load(struct log_cursor *c, const struct store_iter *it, struct log_place place,
                       struct err *err)
{
    struct str value = store_iter_value(it);
    c->open = false;
    buf_clear(&c->value);
    buf_put(&c->value, value.s, value.len);
    struct rd from = rd_of(c->value.data, c->value.len);
    struct log_head head = head_get(&from);
    if (from.bad)
        return err_set(err, ERR_CORRUPT, "sample records of commit %lu are damaged",
                       (unsigned long)place.commit);
    c->open = true;
    c->commit = place.commit;
    c->n = place.n;
    c->seq = c->first = head.first;
    c->end = head.end;
    c->at = (size_t)(from.p - c->value.data);
    return 0;
}

// The commit below which everything durable lies.
static uint64_t durable_end(const struct samples *l)
{
    return l->parts->commit;
}

// The last commit of [low, high) before which nothing is wanted: nothing of `seq` or above with a time of
// `from` or above. `low` is one.
static uint64_t log_bisect(struct store_iter *it, uint64_t seq, int64_t from, uint64_t low, uint64_t high)
{
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        struct log_place place;
        if (!log_seek(it, middle, 0, high, &place)) {
            high = middle;
            continue;
        }
        struct log_head head = head_at(it);
        if (head.first <= seq || head.time < from)
            low = place.commit;
        else
            high = middle;
    }
    return low;
}

// The commit and number after a value's.
static struct log_place place_after(uint64_t commit, uint16_t n)
{
    return (struct log_place){.commit = n < UINT16_MAX ? commit : commit + 1,
                              .n = n < UINT16_MAX ? (uint16_t)(n + 1) : 0};
}

// Loads values from (commit, n) on until one has `seq`.
static int cursor_scan(struct samples *l, struct log_cursor *c, struct store_iter *it, struct log_place from,
                       uint64_t seq, struct err *err)
{
    struct log_place place;
    while (log_seek(it, from.commit, from.n, durable_end(l), &place)) {
        if (cursor_load(c, it, place, err) != 0)
            return -1;
        if (c->first > seq)
            break;
        if (seq < c->end)
            return 0;
        from = place_after(place.commit, place.n);
    }
    c->open = false;
    return err_set(err, ERR_CORRUPT, "sample %lu is missing in the store", (unsigned long)seq);
}

// The number of runs that begin at `seq` or before.
static uint32_t runs_to(const struct samples *l, uint64_t seq)
{
    uint32_t n = l->n_runs;
    while (n > 0 && l->runs[n - 1].first > seq)
        n--;
    return n;
}

// The commit at which the run after `run` begins, or behind what is durable.
static uint64_t run_high(const struct samples *l, uint32_t run)
{
    uint64_t end = durable_end(l);
    return run + 1 < l->n_runs && l->runs[run + 1].commit < end ? l->runs[run + 1].commit : end;
}

// Searches for `seq`, which is durable.
static int cursor_search(struct samples *l, struct log_cursor *c, uint64_t seq, struct err *err)
{
    uint32_t runs = runs_to(l, seq);
    if (runs == 0)
        return err_set(err, ERR_NOT_FOUND, "sample %lu is no longer kept", (unsigned long)seq);
    struct store_iter *it = log_iter(l);
    uint64_t commit = log_bisect(it, seq, INT64_MIN, l->runs[runs - 1].commit, run_high(l, runs - 1));
    int rc = cursor_scan(l, c, it, (struct log_place){.commit = commit}, seq, err);
    return store_iter_free(it, rc == 0 ? err : NULL) != 0 ? -1 : rc;
}

// The value after the cursor's.
static int cursor_next(struct samples *l, struct log_cursor *c, uint64_t seq, struct err *err)
{
    struct store_iter *it = log_iter(l);
    int rc = cursor_scan(l, c, it, place_after(c->commit, c->n), seq, err);
    return store_iter_free(it, rc == 0 ? err : NULL) != 0 ? -1 : rc;
}

// The cursor that stands at `seq`, else the one that read least recently.
static struct log_cursor *cursor_of(struct samples *l, uint64_t seq)
{
    struct log_cursor *c = &l->cursors[0];
    for (int i = 0; i < LOG_CURSORS; i++) {
        struct log_cursor *k = &l->cursors[i];
        if (k->open && k->seq <= seq && seq <= k->end) {
            c = k;
            break;
        }
        c = k->number < c->number ? k : c;
    }
    c->number = l->chunks;
    return c;
}

// Decodes the cursor's next record.
static int cursor_get(struct log_cursor *c, struct sample *ret_sample, struct err *err)
{
    struct rd from = rd_of(c->value.data + c->at, c->value.len - c->at);
    record_get(&from, c->commit, ret_sample);
    if (from.bad) {
        c->open = false;
        return err_set(err, ERR_CORRUPT, "sample records of commit %lu are damaged",
                       (unsigned long)c->commit);
    }
    ret_sample->seq = c->seq++;
    c->at = (size_t)(from.p - c->value.data);
    return 0;
}

static int durable_read(struct samples *l, uint64_t seq, uint64_t end, struct sample *to, struct err *err)
{
    struct log_cursor *c = cursor_of(l, seq);
    while (seq < end) {
        int rc = 0;
        if (!c->open || seq < c->seq || seq > c->end)
            rc = cursor_search(l, c, seq, err);
        else if (seq == c->end)
            rc = cursor_next(l, c, seq, err);
        while (rc == 0 && c->seq < seq) {
            struct sample skipped;
            rc = cursor_get(c, &skipped, err);
        }
        for (; rc == 0 && seq < end && c->seq < c->end; seq++)
            rc = cursor_get(c, to++, err);
        if (rc != 0)
            return -1;
    }
    return 0;
}

// ---- values in memory -------------------------------------------------------------------------------------

static void value_read(struct log_value *v, uint64_t commit, uint64_t seq, uint64_t end, struct sample *to)
{
    bool on = v->read_seq > v->first && v->read_seq <= seq;
    uint64_t at = on ? v->read_seq : v->first;
    size_t skip = on ? v->read_at : 0;
    struct rd from = rd_of(v->bytes.data + skip, v->bytes.len - skip);
    for (; at < end && at < v->first + v->n; at++) {
        struct sample s;
        record_get(&from, commit, &s);
        assert(!from.bad);
        s.seq = at;
        if (at >= seq)
            to[at - seq] = s;
    }
    v->read_seq = at;
    v->read_at = (size_t)(from.p - v->bytes.data);
}

// to[0] is the sample `seq`.
static void memory_read(const struct samples *l, uint64_t seq, uint64_t end, struct sample *to)
{
    for (const struct log_part *p = l->parts; p != NULL; p = p->next) {
        if (p->end <= seq || p->first >= end)
            continue;
        for (uint32_t i = 0; i < p->n_values; i++)
            if (p->values[i].first + p->values[i].n > seq && p->values[i].first < end)
                value_read(&p->values[i], p->commit, seq, end, to);
    }
}

// ---- by time ----------------------------------------------------------------------------------------------

struct log_search {
    uint64_t seq;
    int64_t from, to;
    uint64_t begin, end; // what was found; equal: nothing
};

static bool search_hit(struct log_search *s, uint64_t first, uint64_t end, int64_t low, int64_t high)
{
    if (end <= s->seq || end == first || high < s->from || low >= s->to)
        return false;
    s->begin = first > s->seq ? first : s->seq;
    s->end = end;
    return true;
}

// Where to begin looking in a run: behind the value that was found last, if that was just before.
static struct log_place search_start(struct samples *l, struct store_iter *it, const struct log_search *s,
                                     uint32_t run, const struct log_cursor *c)
{
    if (c->open && c->end == s->seq && c->commit >= l->runs[run].commit)
        return place_after(c->commit, c->n);
    return (struct log_place){.commit =
                                  log_bisect(it, s->seq, s->from, l->runs[run].commit, run_high(l, run))};
}

// The first value of a run that has something; the cursor goes there, so that reading it needs no search.
static int run_search(struct samples *l, struct store_iter *it, struct log_search *s, uint32_t run,
                      struct err *err)
{
    struct log_cursor *c = cursor_of(l, s->seq);
    struct log_place at = search_start(l, it, s, run, c);
    struct log_place place;
    while (log_seek(it, at.commit, at.n, run_high(l, run), &place)) {
        struct log_head h = head_at(it);
        if (search_hit(s, h.first, h.end, h.low, h.high))
            return cursor_load(c, it, place, err);
        at = place_after(place.commit, place.n);
    }
    return 0;
}

static int durable_search(struct samples *l, struct log_search *s, struct err *err)
{
    uint32_t run = runs_to(l, s->seq);
    run -= run > 0;
    struct store_iter *it = log_iter(l);
    int rc = 0;
    for (; run < l->n_runs && l->runs[run].commit < durable_end(l) && rc == 0 && s->begin == s->end; run++)
        if (l->runs[run].time >= s->from && l->runs[run].low < s->to)
            rc = run_search(l, it, s, run, err);
    return store_iter_free(it, rc == 0 ? err : NULL) != 0 ? -1 : rc;
}

static void memory_search(const struct samples *l, struct log_search *s)
{
    for (const struct log_part *p = l->parts; p != NULL; p = p->next)
        for (uint32_t i = 0; i < p->n_values; i++) {
            const struct log_value *v = &p->values[i];
            if (search_hit(s, v->first, v->first + v->n, v->low, v->high))
                return;
        }
}

int samples_find(struct samples *l, uint64_t seq, int64_t from, int64_t to, uint64_t *ret_begin,
                 uint64_t *ret_end, struct err *err)
{
    samples_check(l);
    struct log_search s = {.seq = seq > l->begin ? seq : l->begin, .from = from, .to = to};
    if (s.seq < samples_durable_end(l) && durable_search(l, &s, err) != 0)
        return -1;
    if (s.begin == s.end)
        memory_search(l, &s);
    *ret_begin = s.begin == s.end ? l->end : s.begin;
    *ret_end = s.begin == s.end ? l->end : s.end;
    return 0;
}

// ---- segments ---------------------------------------------------------------------------------------------

static int segment_load(const struct samples *l, const struct body_ref *ref, struct segment **ret_segment,
                        struct err *err)
{
    uint8_t key[LOG_KEY];
    struct buf value = {0};
    bool found = false;
    if (l->store != NULL && ref->segment <= UINT16_MAX) {
        log_key(ref->commit, KEY_LOG_BODIES, (uint16_t)ref->segment, key);
        if (store_get(l->store, key, sizeof key, &value, &found, err) != 0) {
            buf_done(&value);
            return -1;
        }
    }
    if (!found || value.len > UINT32_MAX) {
        buf_done(&value);
        return err_set(err, ERR_CORRUPT, "bodies %lu/%u of the sample log are missing in the store",
                       (unsigned long)ref->commit, ref->segment);
    }
    struct segment *g = segment_new(ref->commit, ref->segment, (uint32_t)value.len);
    g->len = (uint32_t)value.len;
    if (g->len > 0)
        memcpy(g->bytes, value.data, g->len);
    buf_done(&value);
    *ret_segment = g;
    return 0;
}

// The segment, held for the caller.
static int segment_get(struct samples *l, const struct body_ref *ref, struct segment **ret_segment,
                       struct err *err)
{
    for (const struct log_part *p = l->parts; p != NULL; p = p->next)
        if (p->commit == ref->commit && ref->segment < p->n_segments) {
            *ret_segment = segment_hold(p->segments[ref->segment]);
            return 0;
        }
    struct segment *g = segment_cache_get(&l->cache, ref->commit, ref->segment);
    if (g == NULL) {
        if (segment_load(l, ref, &g, err) != 0)
            return -1;
        *ret_segment = segment_hold(g);
        segment_cache_put(&l->cache, g);
        return 0;
    }
    *ret_segment = segment_hold(g);
    return 0;
}

// ---- chunks -----------------------------------------------------------------------------------------------

static struct chunk *chunk_new(struct samples *l, uint32_t n)
{
    struct chunk *k = mem_zalloc(sizeof *k);
    k->samples = mem_alloc(n * sizeof *k->samples);
    k->segments = mem_alloc(n * sizeof *k->segments);
    k->number = ++l->chunks;
    k->out = (struct sample_chunk){n, k->samples, k->segments};
    return k;
}

static void chunk_free(struct chunk *k)
{
    for (uint32_t i = 0; i < k->n_held; i++)
        segment_release(k->held[i]);
    free(k->held);
    free(k->samples);
    free(k->segments);
    free(k);
}

// Holds it once a chunk, however often the chunk meets it. Takes over the caller's hold.
static void chunk_hold(struct chunk *k, struct segment *g)
{
    if (g->chunk == k->number) {
        segment_release(g);
        return;
    }
    g->chunk = k->number;
    if (k->n_held == k->cap_held) {
        k->cap_held = k->cap_held > 0 ? k->cap_held * 2 : 16;
        k->held = mem_resize(k->held, k->cap_held, sizeof(struct segment *));
    }
    k->held[k->n_held++] = g;
}

static int chunk_segments(struct samples *l, struct chunk *k, struct err *err)
{
    struct segment *g = NULL;
    for (uint32_t i = 0; i < k->out.n; i++) {
        const struct body_ref *ref = &k->samples[i].body;
        if (g == NULL || g->commit != ref->commit || g->index != ref->segment) {
            if (segment_get(l, ref, &g, err) != 0)
                return -1;
            chunk_hold(k, g);
        }
        if (ref->user_at > g->len || ref->item_at > g->len)
            return err_set(err, ERR_CORRUPT, "sample %lu points past the end of its bodies",
                           (unsigned long)k->samples[i].seq);
        k->segments[i] = (struct str){(const char *)g->bytes, g->len};
    }
    return 0;
}

int samples_read(struct samples *l, uint64_t seq, uint32_t max, struct sample_chunk **ret_chunk,
                 struct err *err)
{
    samples_check(l);
    if (seq < l->begin)
        return err_set(err, ERR_NOT_FOUND, "sample %lu is no longer kept; the log begins at %lu",
                       (unsigned long)seq, (unsigned long)l->begin);
    uint64_t left = seq < l->end ? l->end - seq : 0;
    uint32_t n = left < max ? (uint32_t)left : max;
    struct chunk *k = chunk_new(l, n);
    uint64_t memory = l->parts->first < seq ? seq : l->parts->first; // seq from which on it is in memory
    memory = memory < seq + n ? memory : seq + n;
    if (durable_read(l, seq, memory, k->samples, err) != 0) {
        chunk_free(k);
        return -1;
    }
    memory_read(l, memory, seq + n, k->samples + (memory - seq));
    if (chunk_segments(l, k, err) != 0) {
        chunk_free(k);
        return -1;
    }
    *ret_chunk = &k->out;
    return 0;
}

void samples_chunk_free(struct samples *l, struct sample_chunk *chunk)
{
    (void)l;
    if (chunk != NULL)
        chunk_free((struct chunk *)chunk);
}
