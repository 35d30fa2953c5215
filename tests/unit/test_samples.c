// SPDX-License-Identifier: Apache-2.0
// The sample log on a real store, against a plain array of everything that was ever appended: reads at any
// place, before and after commits and restarts, with a cache that holds nearly nothing, under retention.
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "state/record.h"
#include "state/samples.h"

enum { SAMPLES = 40000, BODY = 600, COMMITS = 300 };

struct world {
    struct rng r;
    char dir[64];
    struct store *store;
    struct samples *log;
    struct store_batch *batch; // batched and not ingested
    uint64_t batch_commit;
    uint64_t commit; // being filled
    struct buf meta; // of the newest durable commit
    struct buf meta_batch;
    struct sample *all; // by seq
    uint64_t n;
    struct body_ref *bodies; // bytes of body k are a function of k
    uint64_t *body_of;       // by seq
    uint64_t n_bodies;
    uint64_t durable_n, durable_bodies, durable_commit;
    uint64_t batch_n, batch_bodies;
    int64_t time;
};

static void world_store_open(struct world *w)
{
    struct err err = {0};
    struct store_options options = {.block_cache_bytes = 1 << 20};
    cr_assert_eq(store_open(w->dir, &options, &w->store, &err), 0, "%s", err.message);
}

static void world_init(struct world *w, uint64_t seed)
{
    *w = (struct world){.r = rng_of(seed), .commit = 1};
    snprintf(w->dir, sizeof w->dir, "/tmp/test_samples.XXXXXX");
    cr_assert_not_null(mkdtemp(w->dir));
    world_store_open(w);
    w->all = mem_array(SAMPLES, sizeof *w->all);
    w->bodies = mem_array(SAMPLES, sizeof *w->bodies);
    w->body_of = mem_array(SAMPLES, sizeof *w->body_of);
    w->log = samples_new(w->store, 1 << 20);
    samples_commit_set(w->log, w->commit);
}

static void world_done(struct world *w)
{
    samples_free(w->log);
    store_batch_free(w->batch);
    store_close(w->store);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", w->dir);
    cr_assert_eq(system(command), 0);
    buf_done(&w->meta);
    buf_done(&w->meta_batch);
    free(w->all);
    free(w->bodies);
    free(w->body_of);
}

static void body_bytes(uint64_t k, uint8_t ret_bytes[BODY])
{
    struct rng r = rng_of(k);
    for (int i = 0; i < BODY; i++)
        ret_bytes[i] = (uint8_t)rng_u64(&r);
}

static void world_body(struct world *w)
{
    uint8_t bytes[BODY];
    uint32_t at;
    uint64_t k = w->n_bodies++;
    body_bytes(k, bytes);
    samples_body_begin(w->log, BODY + (uint32_t)rng_below(&w->r, 100), &at);
    samples_body_append(w->log, bytes, BODY, &w->bodies[k]);
    cr_assert_eq(w->bodies[k].user_at, at);
    cr_assert_eq(w->bodies[k].commit, w->commit);
    cr_assert_eq(w->bodies[k].segment, samples_segment(w->log));
}

// A sample of one of the last 300 bodies, its fields at random.
static void world_sample(struct world *w)
{
    uint64_t back = rng_below(&w->r, w->n_bodies < 300 ? w->n_bodies : 300);
    uint64_t k = w->n_bodies - 1 - back;
    w->time += (int64_t)rng_below(&w->r, 20);
    struct sample s = {.seq = w->n,
                       .body = w->bodies[k],
                       .impression = rng_u64(&w->r) >> rng_below(&w->r, 64),
                       .impression_ts = w->time - 300,
                       .emitted_ts = w->time - (int64_t)rng_below(&w->r, 5) -
                                     (int64_t)(rng_below(&w->r, 40) == 0) * (int64_t)rng_below(&w->r, 3000),
                       .corrected = rng_below(&w->r, 2),
                       .keep_rate = rng_below(&w->r, 2) ? 1.0f : 0.25f,
                       .partition = (uint16_t)(rng_below(&w->r, 2) * 300)};
    s.labels = (uint32_t)rng_below(&w->r, 2) * (uint32_t)rng_below(&w->r, 1u << ACTION_MAX);
    for (int a = 0; a < ACTION_MAX; a++)
        if (s.labels >> a & 1)
            s.label_ts[a] = s.impression_ts + (int64_t)rng_below(&w->r, 300);
    s.watch_ms = s.labels >> ACTION_WATCH & 1 ? rng_below(&w->r, 100000) : 0;
    s.told = s.corrected ? s.labels & (uint32_t)rng_u64(&w->r) : 0;
    s.masked = (uint32_t)rng_below(&w->r, 2) * (uint32_t)rng_below(&w->r, 1u << ACTION_MAX);
    s.rated = (uint32_t)rng_below(&w->r, 2) * (uint32_t)rng_below(&w->r, 1u << ACTION_MAX);
    for (int a = 0; a < ACTION_MAX; a++)
        s.keep_rates[a] = s.rated >> a & 1 ? 1.0f / (float)(a + 2) : 0;
    w->body_of[w->n] = k;
    w->all[w->n] = s;
    cr_assert_eq(samples_append(w->log, &s), w->n);
    w->n++;
}

static void world_durable(struct world *w)
{
    struct err err = {0};
    if (w->batch == NULL)
        return;
    cr_assert_eq(store_ingest(w->store, w->batch, &err), 0, "%s", err.message);
    store_batch_free(w->batch);
    w->batch = NULL;
    samples_durable(w->log, w->batch_commit);
    buf_clear(&w->meta);
    buf_put(&w->meta, w->meta_batch.data, w->meta_batch.len);
    w->durable_n = w->batch_n;
    w->durable_bodies = w->batch_bodies;
    w->durable_commit = w->batch_commit;
}

// Into the batch that stands, if one does: it is ingested by world_durable, several commits at once.
static uint64_t world_commit_within(struct world *w, uint64_t keep_ms, uint64_t keep_bytes)
{
    if (w->batch == NULL)
        w->batch = store_batch_new();
    w->batch_commit = w->commit;
    samples_batch(w->log, w->batch);
    uint64_t low = samples_low(w->log, w->time, keep_ms, keep_bytes);
    buf_clear(&w->meta_batch);
    samples_meta_put(w->log, &w->meta_batch);
    w->batch_n = w->n;
    w->batch_bodies = w->n_bodies;
    samples_commit_set(w->log, ++w->commit);
    return low;
}

static uint64_t world_commit(struct world *w, uint64_t keep_ms)
{
    return world_commit_within(w, keep_ms, 0);
}

static void world_restart(struct world *w)
{
    samples_free(w->log);
    store_batch_free(w->batch);
    w->batch = NULL;
    store_close(w->store);
    world_store_open(w);
    w->log = samples_new(w->store, rng_below(&w->r, 2) ? 1 : 64 << 20);
    if (w->meta.len > 0) {
        struct err err = {0};
        struct rd from = rd_of(w->meta.data, w->meta.len);
        cr_assert_eq(samples_meta_get(w->log, &from, &err), 0, "%s", err.message);
        cr_assert_eq(rd_left(&from), 0);
    }
    w->n = w->durable_n;
    w->n_bodies = w->durable_bodies;
    w->commit = w->durable_commit + 1;
    samples_commit_set(w->log, w->commit);
    cr_assert_eq(samples_end(w->log), w->n);
}

static void sample_expect(const struct world *w, const struct sample *s, struct str segment)
{
    const struct sample *e = &w->all[s->seq];
    cr_assert_eq(s->impression, e->impression);
    cr_assert_eq(s->impression_ts, e->impression_ts);
    cr_assert_eq(s->emitted_ts, e->emitted_ts);
    cr_assert_eq(s->labels, e->labels);
    cr_assert_eq(s->corrected, e->corrected);
    cr_assert_eq(s->keep_rate, e->keep_rate);
    cr_assert_eq(s->watch_ms, e->watch_ms);
    cr_assert_eq(s->partition, e->partition);
    cr_assert_arr_eq(s->label_ts, e->label_ts, sizeof e->label_ts);
    cr_assert(s->told == e->told && s->masked == e->masked && s->rated == e->rated);
    cr_assert_arr_eq(s->keep_rates, e->keep_rates, sizeof e->keep_rates);
    uint8_t bytes[BODY];
    body_bytes(w->body_of[s->seq], bytes);
    cr_assert(s->body.user_at == e->body.user_at && s->body.user_at + BODY <= segment.len);
    cr_assert_arr_eq(segment.s + s->body.user_at, bytes, BODY, "body of sample %lu", s->seq);
}

static void read_expect(struct world *w, uint64_t seq, uint32_t max)
{
    struct err err = {0};
    struct sample_chunk *chunk;
    if (seq < samples_begin(w->log)) {
        cr_assert_eq(samples_read(w->log, seq, max, &chunk, &err), -1);
        cr_assert_eq(err.code, ERR_NOT_FOUND);
        return;
    }
    cr_assert_eq(samples_read(w->log, seq, max, &chunk, &err), 0, "%s", err.message);
    uint64_t left = seq < w->n ? w->n - seq : 0;
    cr_assert_eq(chunk->n, left < max ? left : max);
    for (uint32_t i = 0; i < chunk->n; i++) {
        cr_assert_eq(chunk->samples[i].seq, seq + i);
        if (chunk->n < 50 || i % 17 == 0)
            sample_expect(w, &chunk->samples[i], chunk->segments[i]);
    }
    samples_chunk_free(w->log, chunk);
}

static void fill(struct world *w, uint64_t bodies, uint64_t samples)
{
    while (bodies-- > 0)
        world_body(w);
    while (samples-- > 0 && w->n < SAMPLES)
        world_sample(w);
}

Test(samples, reads_what_was_appended_across_commits_and_restarts)
{
    struct world w;
    world_init(&w, 1);
    world_body(&w);
    for (int round = 0; round < 120; round++) {
        fill(&w, rng_below(&w.r, 40), rng_below(&w.r, 4) ? rng_below(&w.r, 200) : 0);
        if (rng_below(&w.r, 3) > 0)
            world_commit(&w, 0);
        if (rng_below(&w.r, 3) == 0)
            world_durable(&w);
        if (round > 10 && rng_below(&w.r, 12) == 0) {
            world_restart(&w);
            if (w.n_bodies == 0)
                world_body(&w);
        }
        for (int k = 0; k < 4; k++)
            read_expect(&w, rng_below(&w.r, w.n + 2), 1 + (uint32_t)rng_below(&w.r, 300));
    }
    for (uint64_t seq = 0; seq < w.n; seq += 501) // one after the other: the cursor
        read_expect(&w, seq, 501);
    struct samples_memory memory;
    samples_memory(w.log, &memory);
    cr_assert(memory.cache_bytes + memory.part_bytes > 0);
    world_done(&w);
}

Test(samples, a_commit_of_many_values_and_segments)
{
    struct world w;
    world_init(&w, 2);
    fill(&w, 1500, 20000);
    read_expect(&w, 0, UINT32_MAX);
    world_commit(&w, 0);
    fill(&w, 10, 500);
    world_commit(&w, 0);
    world_durable(&w);
    read_expect(&w, 19000, 1400);
    world_restart(&w);
    read_expect(&w, 15000, 3);
    read_expect(&w, 15003, 3);
    read_expect(&w, 0, UINT32_MAX);
    world_done(&w);
}

Test(samples, finds_any_place_when_the_index_is_sparse)
{
    struct world w;
    world_init(&w, 5);
    world_body(&w);
    for (int round = 0; round < 2 * COMMITS; round++) {
        fill(&w, rng_below(&w.r, 3), rng_below(&w.r, 3) * rng_below(&w.r, 20));
        world_commit(&w, 0);
        if (round % 200 == 199)
            world_durable(&w);
    }
    world_restart(&w);
    cr_assert(w.n > 1000);
    for (int k = 0; k < 300; k++)
        read_expect(&w, rng_below(&w.r, w.n), 1 + (uint32_t)rng_below(&w.r, 100));
    world_done(&w);
}

Test(samples, retention_keeps_what_time_and_training_need)
{
    struct world w;
    world_init(&w, 3);
    world_body(&w);
    uint64_t keep = 4000;
    for (int round = 0; round < COMMITS; round++) {
        fill(&w, rng_below(&w.r, 5), rng_below(&w.r, 40));
        uint64_t trained = w.n - (w.n > 200 ? rng_below(&w.r, 200) : w.n);
        samples_trained(w.log, trained);
        uint64_t low = world_commit(&w, keep);
        struct err err = {0};
        if (round % 8 == 0) {
            world_durable(&w);
            cr_assert_eq(store_log_expire(w.store, 0, low, &err), 0, "%s", err.message);
        }
        uint64_t begin = samples_begin(w.log);
        cr_assert(begin <= trained);
        for (uint64_t seq = 0; seq < begin; seq++)
            cr_assert(w.all[seq].emitted_ts < w.time - (int64_t)keep);
        for (uint64_t seq = begin; seq < w.n; seq++)
            cr_assert(w.all[seq].body.commit >= low);
        read_expect(&w, rng_below(&w.r, w.n), 50);
        if (round % 60 == 59) {
            world_restart(&w);
            cr_assert_eq(samples_begin(w.log) > 0, begin > 0);
        }
    }
    cr_assert(samples_begin(w.log) > 0);
    read_expect(&w, samples_begin(w.log), UINT32_MAX);
    cr_assert(samples_begin(w.log) + SAMPLES / 20 > w.n - 400, "much more is kept than needed");
    world_done(&w);
}

// What an index of whole commits cannot do: keep little more than asked for, however many commits there were.
Test(samples, retention_goes_on_over_many_commits)
{
    struct world w;
    world_init(&w, 7);
    world_body(&w);
    for (int round = 0; round < 4000; round++) {
        fill(&w, 1, 5);
        samples_trained(w.log, w.n);
        world_commit(&w, 30000);
        if (round % 50 == 49)
            world_durable(&w);
    }
    uint64_t wanted = 0;
    while (w.all[w.n - 1 - wanted].emitted_ts >= w.time - 30000 || wanted < 10)
        wanted++;
    uint64_t kept = w.n - samples_begin(w.log);
    cr_assert(kept < wanted + wanted / 10 + 400, "%lu are kept, about %lu are wanted", kept, wanted);
    cr_assert_eq(samples_gone(w.log)->by_age, samples_begin(w.log));
    cr_assert_eq(samples_gone(w.log)->by_size, 0);
    world_done(&w);
}

// Age waits for training and for the topic; size waits for training alone, and counts what the topic missed.
Test(samples, retention_by_size)
{
    enum { KEEP = 120000 };
    struct world w;
    uint64_t published = 0;
    uint64_t trained = 0;
    uint64_t missed = 0;
    world_init(&w, 8);
    world_body(&w);
    samples_published(w.log, 0);
    for (int round = 0; round < 700; round++) {
        fill(&w, 1 + rng_below(&w.r, 3), 1 + rng_below(&w.r, 40));
        trained += rng_below(&w.r, w.n - trained + 1);
        samples_trained(w.log, trained);
        bool stuck = round > 400 && round < 600;
        if (!stuck && published < w.n - 1)
            published += rng_below(&w.r, w.n - published);
        samples_published(w.log, published);
        uint64_t before = samples_begin(w.log);
        world_commit_within(&w, stuck ? 1 : 0, stuck && round < 500 ? 0 : KEEP);
        uint64_t begin = samples_begin(w.log);
        cr_assert(begin >= before && begin <= trained);
        cr_assert(!stuck || round >= 500 || begin <= published, "age let go of what the topic has not got");
        missed += begin > published ? begin - published : 0;
        published = begin > published ? begin : published;
        cr_assert_eq(samples_gone(w.log)->unpublished, missed);
        cr_assert_eq(samples_gone(w.log)->by_age + samples_gone(w.log)->by_size, begin);
        cr_assert(samples_log_bytes(w.log) <= KEEP || stuck || trained - begin < 700);
        if (round % 10 == 9)
            world_durable(&w);
        if (round % 100 == 99) {
            world_restart(&w);
            samples_published(w.log, published);
            read_expect(&w, samples_begin(w.log), 500);
        }
    }
    cr_assert(missed > 0 && samples_gone(w.log)->by_age > 0 && samples_gone(w.log)->by_size > 0);
    world_done(&w);
}

static bool in_range(const struct world *w, uint64_t seq, int64_t from, int64_t to)
{
    return w->all[seq].emitted_ts >= from && w->all[seq].emitted_ts < to;
}

// Follows the stretches from `seq` on: together they hold all that is in the range. Returns how many samples they
// are.
static uint64_t find_expect(struct world *w, uint64_t seq, int64_t from, int64_t to)
{
    struct err err = {0};
    uint64_t looked = 0;
    uint64_t begin;
    uint64_t end;
    seq = seq > samples_begin(w->log) ? seq : samples_begin(w->log);
    for (;; seq = end) {
        cr_assert_eq(samples_find(w->log, seq, from, to, &begin, &end, &err), 0, "%s", err.message);
        cr_assert(begin >= seq && end >= begin && end <= w->n);
        for (uint64_t k = seq; k < begin; k++)
            cr_assert(!in_range(w, k, from, to), "sample %lu is passed over", k);
        if (begin == end)
            break;
        looked += end - begin;
        if (rng_below(&w->r, 3) == 0)
            read_expect(w, begin, (uint32_t)(end - begin));
        if (rng_below(&w->r, 20) == 0)
            read_expect(w, samples_begin(w->log) + rng_below(&w->r, w->n - samples_begin(w->log)), 10);
    }
    cr_assert(begin == w->n);
    return looked;
}

Test(samples, finds_by_time_what_a_scan_finds)
{
    struct world w;
    world_init(&w, 6);
    world_body(&w);
    for (int round = 0; round < 900; round++) {
        fill(&w, rng_below(&w.r, 3), rng_below(&w.r, 2) * rng_below(&w.r, 50));
        if (rng_below(&w.r, 4) > 0) {
            samples_trained(w.log, w.n);
            world_commit(&w, 80000);
        }
        if (rng_below(&w.r, 5) == 0)
            world_durable(&w);
        if (round % 100 == 99)
            world_restart(&w);
        if (w.n_bodies == 0)
            world_body(&w);
        if (round % 8 != 0 || w.n == samples_begin(w.log))
            continue;
        int64_t from = w.time - (int64_t)rng_below(&w.r, 100000);
        find_expect(&w, rng_below(&w.r, w.n), from, from + (int64_t)rng_below(&w.r, 2000));
        find_expect(&w, 0, from, INT64_MAX);
        find_expect(&w, 0, INT64_MIN, from);
    }
    cr_assert(samples_begin(w.log) > 0);
    world_durable(&w);
    uint64_t looked = find_expect(&w, 0, w.time - 40000, w.time - 39000);
    cr_assert(looked > 0 && looked < (w.n - samples_begin(w.log)) / 2, "%lu of %lu", looked, w.n);
    cr_assert_eq(find_expect(&w, 0, w.time + 1, INT64_MAX), 0);
    cr_assert_eq(find_expect(&w, 0, INT64_MIN, w.all[samples_begin(w.log)].emitted_ts - 4000), 0);
    world_done(&w);
}

Test(samples, the_end_of_time_empties_no_log)
{
    struct world w;
    world_init(&w, 4);
    fill(&w, 5, 100);
    samples_trained(w.log, w.n);
    world_commit(&w, 0);
    w.time = INT64_MAX - 1000;
    samples_low(w.log, INT64_MAX, 100000, 0);
    cr_assert_eq(samples_begin(w.log), 0);
    cr_assert_eq(samples_low(w.log, INT64_MIN, 1, 0), 0);
    world_done(&w);
}

Test(samples, without_a_store_all_stays_in_memory)
{
    struct samples *l = samples_new(NULL, 0);
    struct store_batch *b = store_batch_new();
    for (uint64_t commit = 1; commit < 5; commit++) {
        struct sample s = {.keep_rate = 1, .emitted_ts = (int64_t)commit};
        uint32_t at;
        samples_commit_set(l, commit);
        samples_body_begin(l, 10, &at);
        samples_body_append(l, "0123456789", 10, &s.body);
        cr_assert_eq(samples_append(l, &s), commit - 1);
        samples_batch(l, b);
        samples_durable(l, commit);
    }
    struct sample_chunk *chunk;
    cr_assert_eq(samples_read(l, 0, 10, &chunk, NULL), 0);
    cr_assert_eq(chunk->n, 4);
    cr_assert_eq(chunk->samples[3].emitted_ts, 4);
    cr_assert_eq(memcmp(chunk->segments[2].s, "0123456789", 10), 0);
    samples_chunk_free(l, chunk);
    samples_free(l);
    store_batch_free(b);
}

// ---- another thread ---------------------------------------------------------------------------------------

static void *chunk_check(void *argument)
{
    struct sample_chunk *chunk = argument;
    uint64_t wrong = 0;
    for (uint32_t i = 0; i < chunk->n; i++) {
        uint8_t bytes[BODY];
        body_bytes(chunk->samples[i].impression, bytes);
        wrong += memcmp(chunk->segments[i].s + chunk->samples[i].body.item_at, bytes, BODY) != 0;
    }
    samples_chunk_free(NULL, chunk);
    return wrong == 0 ? NULL : argument;
}

Test(samples, a_thread_reads_a_chunk_while_its_segment_grows)
{
    struct samples *l = samples_new(NULL, 0);
    pthread_t reader;
    bool reading = false;
    samples_commit_set(l, 1);
    for (uint64_t k = 0; k < 4000; k++) {
        uint8_t bytes[BODY];
        uint32_t at;
        struct sample s = {.impression = k, .keep_rate = 1};
        body_bytes(k, bytes);
        samples_body_begin(l, BODY, &at);
        samples_body_append(l, bytes, BODY, &s.body);
        samples_append(l, &s);
        if (k % 500 != 499)
            continue;
        void *failed = NULL;
        if (reading)
            pthread_join(reader, &failed);
        cr_assert_null(failed);
        struct sample_chunk *chunk;
        cr_assert_eq(samples_read(l, k - 499, 500, &chunk, NULL), 0);
        cr_assert_eq(pthread_create(&reader, NULL, chunk_check, chunk), 0);
        reading = true;
    }
    void *failed = NULL;
    pthread_join(reader, &failed);
    cr_assert_null(failed);
    samples_free(l);
}

Test(samples, records_come_back_and_damage_is_noticed)
{
    struct rng r = rng_of(9);
    struct buf bytes = {0};
    for (int k = 0; k < 2000; k++) {
        struct sample s = {.keep_rate = k % 2 ? 1.0f : 0.5f,
                           .labels = (uint32_t)rng_below(&r, 1u << ACTION_MAX)};
        struct sample back;
        s.impression_ts = (int64_t)rng_u64(&r);
        s.emitted_ts = (int64_t)rng_u64(&r);
        for (int a = 0; a < ACTION_MAX; a++)
            s.label_ts[a] = s.labels >> a & 1 ? (int64_t)rng_u64(&r) : 0;
        s.body.commit = rng_below(&r, 1000);
        buf_clear(&bytes);
        record_put(&bytes, &s, 1000);
        struct rd from = rd_of(bytes.data, bytes.len);
        record_get(&from, 1000, &back);
        cr_assert(!from.bad && rd_left(&from) == 0);
        cr_assert(back.impression_ts == s.impression_ts && back.emitted_ts == s.emitted_ts);
        cr_assert_eq(back.body.commit, s.body.commit);
        cr_assert_arr_eq(back.label_ts, s.label_ts, sizeof s.label_ts);
        from = rd_of(bytes.data, bytes.len - 1);
        record_get(&from, 1000, &back);
        cr_assert(from.bad);
    }
    buf_done(&bytes);
}
