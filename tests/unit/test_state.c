// SPDX-License-Identifier: Apache-2.0
// What state.h promises as a whole: the same events give the same digests, whenever commits are made and
// however often the process ends in between, with or without a last commit; nothing is lost to a full disk.
#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/rng.h"
#include "state/keys.h"
#include "state/state.h"
#include "state/store.h"

enum { EVENTS = 6000, USERS = 150, ITEMS = 60, PARTITIONS = 3, BODY_MAX = 600, RECENT = 20 };
enum { MINUTE = 60000, HOUR = 60 * MINUTE };
static const int64_t begin_ts = INT64_C(1767225600000);

// ---- helpers ----------------------------------------------------------------------------------------------

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

struct place {
    char dir[64];
};

static struct place place_new(void)
{
    struct place p;
    strcpy(p.dir, "/tmp/freshet-state-XXXXXX");
    cr_assert_not_null(mkdtemp(p.dir));
    return p;
}

static void place_remove(const struct place *p)
{
    nftw(p->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct state_options options_plain(void)
{
    struct state_options o = {
        .windows = {{"1h", MINUTE, 60}, {"1d", 15 * MINUTE, 96}, {"7d", HOUR, 168}},
        .n_windows = 3,
        .join = {.window_ms = 10 * MINUTE,
                 .labels = 1u << ACTION_CLICK | 1u << ACTION_LIKE | 1u << ACTION_WATCH,
                 .keep_negatives = 0.7,
                 .max_pending = 1000000},
        .out_of_order_ms = 5000,
        .dedupe_window_ms = 10 * MINUTE,
        .dedupe_max = 100000,
        .cache_bytes = 256 << 10, // small: entities are evicted and read back
        .body_cache_bytes = 1 << 20,
        .block_cache_bytes = 8 << 20,
    };
    o.sequences[ACTION_CLICK].last = 100;
    o.sequences[ACTION_LIKE].last = 20;
    return o;
}

static struct state *open_state(const struct place *p, const struct state_options *o)
{
    struct state *s = NULL;
    struct err err = {0};
    cr_assert_eq(state_open(p->dir, o, &s, &err), 0, "%s", err.message);
    return s;
}

static enum err_code open_fails(const struct place *p, const struct state_options *o, struct err *err)
{
    struct state *s = NULL;
    *err = (struct err){0};
    cr_assert_eq(state_open(p->dir, o, &s, err), -1, "it opened");
    return err->code;
}

static void commit(struct state *s, struct str progress)
{
    struct err err = {0};
    uint64_t ticket = 0;
    cr_assert_eq(state_commit(s, progress, &ticket, &err), 0, "%s", err.message);
    cr_assert_eq(state_commit_wait(s, &err), 0, "%s", err.message);
    cr_assert_eq(state_commit_durable(s), ticket);
    cr_assert_not(state_commit_busy(s));
}

static struct str progress_of(const uint64_t *next)
{
    return (struct str){(const char *)next, sizeof *next};
}

static uint64_t progress_read(const struct state *s)
{
    uint64_t next = 0;
    struct str p = state_progress(s);
    cr_assert(p.len == 0 || p.len == sizeof next);
    memcpy(&next, p.s, p.len);
    return next;
}

// ---- the events: a function of their number ---------------------------------------------------------------

struct event {
    uint64_t id, user, item, request;
    char user_text[16], item_text[16];
    uint16_t partition;
    uint8_t action;
    int64_t ts;
    uint64_t watch_ms;
};

static struct event event_of(uint64_t n)
{
    struct rng r = rng_of(hash_mix(n + 77));
    struct event e = {.id = hash_mix(n + 1)};
    uint64_t user = rng_below(&r, USERS);
    uint64_t item = rng_below(&r, ITEMS);
    snprintf(e.user_text, sizeof e.user_text, "u%lu", (unsigned long)user);
    snprintf(e.item_text, sizeof e.item_text, "i%lu", (unsigned long)item);
    e.user = hash_id(str_of(e.user_text));
    e.item = hash_id(str_of(e.item_text));
    e.partition = (uint16_t)(user % PARTITIONS);
    static const uint8_t kinds[] = {ACTION_IMPRESSION, ACTION_IMPRESSION, ACTION_CLICK, ACTION_LIKE,
                                    ACTION_WATCH};
    e.action = kinds[rng_below(&r, 5)];
    e.watch_ms = e.action == ACTION_WATCH ? 1 + rng_below(&r, 9000) : 0;
    e.ts = begin_ts + (int64_t)(n * 4000) - (int64_t)rng_below(&r, 9000); // some are late
    if (n % 500 == 499)
        e.ts += 3 * HOUR; // a jump: much leaves at once, much expires
    return e;
}

static int64_t watermark_after(uint64_t n)
{
    static int64_t watermarks[EVENTS];
    for (uint64_t i = 0; watermarks[EVENTS - 1] == 0 && i < EVENTS; i++) {
        int64_t w = event_of(i).ts - 5000;
        watermarks[i] = i > 0 && watermarks[i - 1] > w ? watermarks[i - 1] : w;
    }
    return watermarks[n];
}

static struct entity *entity_get(struct state *s, enum entity_kind kind, uint16_t partition, uint64_t id,
                                 const char *text)
{
    struct entity *e = NULL;
    struct err err = {0};
    cr_assert_eq(state_entity(s, kind, partition, id, str_of(text), &e, &err), 0, "%s", err.message);
    cr_assert(e != NULL && entity_id(e) == id && str_is(entity_text(e), text));
    return e;
}

static void sequence_put(struct state *s, struct entity *e, uint8_t sequence, uint64_t item, int64_t ts)
{
    state_sequence_add(s, e, sequence, &(struct sequence_entry){.item = item, .ts = ts});
}

// A body: u64 clicks of the user in 1h | sequence of clicks | u64 item.
static struct body_ref body_put(struct state *s, const struct event *e, struct entity *user)
{
    struct buf to = {0};
    struct body_ref ref;
    uint32_t at = 0;
    state_body_begin(s, BODY_MAX, &at);
    buf_put_u64(&to, state_window(s, user, ACTION_CLICK, 0, e->ts));
    state_sequence_put(s, user, ACTION_CLICK, RECENT, 0, &to, at);
    buf_put_u64(&to, e->item);
    cr_assert_leq(to.len, BODY_MAX);
    state_body_append(s, to.data, (uint32_t)to.len, &ref);
    cr_assert_eq(ref.user_at, at);
    buf_done(&to);
    return ref;
}

static void body_canonical(void *context, const struct sample *sample, struct str segment, struct buf *to)
{
    uint64_t *bodies = context;
    struct rd rd = rd_of(segment.s + sample->body.user_at, segment.len - sample->body.user_at);
    struct sequence_columns columns;
    buf_put_u64(to, rd_u64(&rd));
    state_sequence_get(segment, &rd, 0, &columns);
    buf_put(to, columns.ids, columns.n * sizeof(uint64_t));
    buf_put_u64(to, rd_u64(&rd));
    cr_assert_not(rd.bad);
    ++*bodies;
}

static void event_profile(struct state *s, const struct event *e, struct entity *user, uint64_t n)
{
    if (n % 7 == 0)
        state_profile_set(s, user, e->ts, str_of(e->item_text));
    if (n % 50 == 0)
        state_profile_set(s, user, e->ts, (struct str){NULL, 0});
}

static void event_apply(struct state *s, uint64_t n)
{
    struct event e = event_of(n);
    cr_assert_not(state_seen(s, e.id, e.ts), "event %lu", (unsigned long)n);
    cr_assert(state_seen(s, e.id, e.ts) || e.ts < watermark_after(n) - 9 * MINUTE);
    struct entity *user = entity_get(s, ENTITY_USER, e.partition, e.user, e.user_text);
    struct entity *item = entity_get(s, ENTITY_ITEM, 0, e.item, e.item_text);
    event_profile(s, &e, user, n);
    if (e.action == ACTION_IMPRESSION) {
        struct state_impression i = {e.user, e.item, 0, e.ts, e.partition, body_put(s, &e, user)};
        state_impression(s, &i);
    } else {
        struct state_feedback f = {e.user, e.item, 0, e.ts, e.partition, e.action, e.watch_ms};
        state_feedback(s, &f);
        sequence_put(s, user, e.action, e.item, e.ts);
    }
    state_count(s, user, e.partition, e.action, e.ts, 1);
    state_count(s, item, e.partition, e.action, e.ts, 1);
    state_order(s, e.partition, 1);
    state_advance(s, watermark_after(n), NULL, NULL);
}

// ---- runs -------------------------------------------------------------------------------------------------

struct run_plan {
    uint64_t every;  // events a commit
    uint64_t reopen; // commits between restarts; 0: none
    uint64_t lost;   // events that a restart loses
};

struct run_result {
    struct state_digests digests;
    struct state_join_counts counts;
    uint64_t samples, bodies, order;
};

static void order_run(void *context, uint16_t part, uint32_t count)
{
    uint64_t *h = context;
    *h = hash_mix(*h + part * 1000003u + count);
}

static struct run_result result_of(struct state *s)
{
    struct run_result r = {0};
    struct err err = {0};
    cr_assert_eq(state_digest(s, body_canonical, &r.bodies, &r.digests, &err), 0, "%s", err.message);
    cr_assert_eq(state_order_each(s, order_run, &r.order, &err), 0, "%s", err.message);
    state_join_counts(s, &r.counts);
    r.samples = state_samples_end(s);
    return r;
}

// A process that ends without a commit: what it did since the last one is lost, and done again.
static struct state *restart(struct state *s, const struct place *p, const struct state_options *o,
                             uint64_t next, uint64_t lost)
{
    for (uint64_t n = next; n < next + lost && n < EVENTS; n++)
        event_apply(s, n);
    state_close(s);
    s = open_state(p, o);
    cr_assert_eq(progress_read(s), next);
    return s;
}

static struct run_result run(const struct run_plan *plan)
{
    struct place p = place_new();
    struct state_options o = options_plain();
    struct state *s = open_state(&p, &o);
    uint64_t commits = 0;
    for (uint64_t n = 0; n < EVENTS;) {
        event_apply(s, n++);
        if (n % plan->every != 0 && n < EVENTS)
            continue;
        commit(s, progress_of(&n));
        state_trim(s);
        if (plan->reopen > 0 && ++commits % plan->reopen == 0)
            s = restart(s, &p, &o, n, plan->lost);
    }
    struct run_result r = result_of(s);
    state_close(s);
    place_remove(&p);
    return r;
}

static void same(const struct run_result *a, const struct run_result *b)
{
    cr_assert_eq(a->samples, b->samples);
    cr_assert_eq(a->bodies, b->bodies);
    cr_assert_eq(a->order, b->order);
    cr_assert_eq(memcmp(&a->counts, &b->counts, sizeof a->counts), 0);
    cr_assert(digest_equal(a->digests.counters, b->digests.counters), "counters");
    cr_assert(digest_equal(a->digests.sequences, b->digests.sequences), "sequences");
    cr_assert(digest_equal(a->digests.profiles, b->digests.profiles), "profiles");
    cr_assert(digest_equal(a->digests.joiner, b->digests.joiner), "joiner");
    cr_assert(digest_equal(a->digests.samples, b->digests.samples), "samples");
}

Test(state, commits_and_restarts_do_not_change_the_digests, .timeout = 120)
{
    struct run_result once = run(&(struct run_plan){.every = EVENTS});
    cr_assert(once.samples > EVENTS / 10 && once.bodies == once.samples);
    cr_assert(once.counts.joined > 0 && once.counts.orphans > 0 && once.counts.negatives_dropped > 0);
    struct run_result often = run(&(struct run_plan){.every = 211});
    same(&once, &often);
    struct run_result restarted = run(&(struct run_plan){.every = 307, .reopen = 2});
    same(&once, &restarted);
    struct run_result killed = run(&(struct run_plan){.every = 409, .reopen = 1, .lost = 150});
    same(&once, &killed);
}

Test(state, the_end_of_time_empties_the_joiner_and_nothing_else)
{
    struct place p = place_new();
    struct state_options o = options_plain();
    struct state *s = open_state(&p, &o);
    uint64_t n = 0;
    while (n < 300)
        event_apply(s, n++);
    commit(s, progress_of(&n));
    struct run_result before = result_of(s);
    uint64_t pending = 0;
    struct state_pending of_user[300];
    for (uint64_t u = 0; u < USERS; u++) {
        char text[16];
        snprintf(text, sizeof text, "u%lu", (unsigned long)u);
        uint32_t here = state_pending_of_user(s, hash_id(str_of(text)), 300, of_user);
        for (uint32_t i = 1; i < here; i++)
            cr_assert_leq(of_user[i - 1].ts, of_user[i].ts);
        pending += here;
    }
    cr_assert_eq(pending, before.counts.pending);
    state_advance(s, INT64_MAX, NULL, NULL);
    commit(s, progress_of(&n));
    struct run_result after = result_of(s);
    cr_assert(before.counts.pending > 0 && after.counts.pending == 0 && after.samples > before.samples);
    cr_assert(digest_equal(before.digests.counters, after.digests.counters));
    cr_assert(state_seen(s, event_of(n - 1).id, event_of(n - 1).ts));
    state_close(s);
    s = open_state(&p, &o);
    struct run_result again = result_of(s);
    same(&after, &again);
    state_close(s);
    place_remove(&p);
}

Test(state, a_read_only_state_reads_beside_the_daemon)
{
    struct place p = place_new();
    struct state_options o = options_plain();
    struct state *s = open_state(&p, &o);
    uint64_t n = 0;
    while (n < 400)
        event_apply(s, n++);
    commit(s, progress_of(&n));
    struct run_result committed = result_of(s);
    struct state_options read_only = o;
    read_only.read_only = true;
    struct state *r = open_state(&p, &read_only);
    struct run_result seen = result_of(r);
    same(&committed, &seen);
    event_apply(r, n); // in memory
    struct err err = {0};
    uint64_t ticket = 0;
    cr_assert_eq(state_commit(r, progress_of(&n), &ticket, &err), -1);
    cr_assert_eq(err.code, ERR_INVALID);
    struct event e = event_of(3);
    struct entity *user = NULL;
    cr_assert_eq(state_user_find(r, e.user, PARTITIONS, &user, &err), 0);
    cr_assert(user != NULL && entity_partition(user) == e.partition);
    cr_assert_eq(state_user_find(r, hash_id(str_of("nobody")), PARTITIONS, &user, &err), 0);
    cr_assert_null(user);
    state_close(r);
    state_close(s);
    place_remove(&p);
}

// ---- sequences in bodies ----------------------------------------------------------------------------------

Test(state, an_unchanged_sequence_is_a_reference)
{
    struct place p = place_new();
    struct state_options o = options_plain();
    struct state *s = open_state(&p, &o);
    struct entity *user = entity_get(s, ENTITY_USER, 0, hash_id(str_of("u")), "u");
    for (uint64_t i = 1; i <= 30; i++)
        sequence_put(s, user, ACTION_CLICK, i, begin_ts + (int64_t)i);
    struct buf segment = {0};
    uint32_t at = 0;
    for (int i = 0; i < 3; i++) {
        struct buf to = {0};
        struct body_ref ref;
        state_body_begin(s, BODY_MAX, &at);
        cr_assert_eq(at, segment.len);
        state_sequence_put(s, user, ACTION_CLICK, RECENT, 0, &to, at);
        cr_assert_eq(to.len, i == 1 ? 5u : 1u + 8u * RECENT);
        state_body_append(s, to.data, (uint32_t)to.len, &ref);
        buf_put(&segment, to.data, to.len);
        if (i == 1)
            sequence_put(s, user, ACTION_CLICK, 31, begin_ts + 31);
        buf_done(&to);
    }
    struct rd rd = rd_of(segment.data, segment.len);
    for (uint64_t newest = 30, i = 0; i < 3; i++, newest = i == 2 ? 31 : 30) {
        struct sequence_columns columns;
        state_sequence_get((struct str){(char *)segment.data, (uint32_t)segment.len}, &rd, 0, &columns);
        cr_assert_eq(columns.n, RECENT);
        cr_assert_eq(memcmp(columns.ids, &newest, 8), 0);
    }
    cr_assert(!rd.bad && rd_left(&rd) == 0);
    buf_done(&segment);
    state_close(s);
    place_remove(&p);
}

Test(state, a_malformed_sequence_is_refused)
{
    static const uint8_t cases[][6] = {{0, 200, 0, 0, 0}, {0, 0, 0, 0, 0}, {9, 1, 2, 3, 4}, {0xff, 0xff}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str segment = {(const char *)cases[i], 5};
        struct rd rd = rd_of(segment.s, segment.len);
        struct sequence_columns columns = {.ids = (const uint8_t *)""};
        state_sequence_get(segment, &rd, 0, &columns);
        cr_assert(rd.bad && columns.n == 0 && columns.ids == NULL);
    }
}

// ---- names, rows, blobs, outbox ---------------------------------------------------------------------------

Test(state, names_are_kept)
{
    struct place p = place_new();
    struct state_options o = options_plain();
    struct state *s = open_state(&p, &o);
    enum { NAMES = 300000, LONG = 60 }; // more than is kept in memory
    char text[LONG + 1];
    uint64_t n = 0;
    for (; n < NAMES; n++) {
        snprintf(text, sizeof text, "%0*lu", LONG, (unsigned long)n);
        state_name_put(s, hash_id(str_of(text)), str_of(text));
        if (n % 60000 == 0)
            commit(s, progress_of(&n));
        cr_assert(str_is(state_name(s, hash_id(str_of(text))), text));
    }
    commit(s, progress_of(&n));
    for (n = 0; n < NAMES; n += 977) {
        snprintf(text, sizeof text, "%0*lu", LONG, (unsigned long)n);
        cr_assert(str_is(state_name(s, hash_id(str_of(text))), text));
    }
    cr_assert(str_is(state_name(s, 42), ""));
    state_close(s);
    place_remove(&p);
}

static int row_sum(void *context, uint64_t id, struct str row)
{
    uint64_t *sums = context; // count, last id, sum of values
    uint64_t value = 0;
    cr_assert_eq(row.len, sizeof value);
    memcpy(&value, row.s, row.len);
    cr_assert(sums[0] == 0 || id > sums[1]);
    sums[0]++;
    sums[1] = id;
    sums[2] += value;
    return 0;
}

Test(state, rows_come_back_in_order_of_id)
{
    struct place p = place_new();
    struct state_options o = options_plain();
    struct state *s = open_state(&p, &o);
    uint64_t none = 0;
    for (uint64_t i = 1; i <= 1000; i++)
        for (uint16_t table = 0; table < 2; table++)
            state_row_put(s, table, hash_mix(i), (struct str){(const char *)&i, sizeof i});
    commit(s, progress_of(&none));
    for (uint64_t i = 1; i <= 1000; i += 2)
        state_row_delete(s, 1, hash_mix(i));
    commit(s, progress_of(&none));
    state_close(s);
    s = open_state(&p, &o);
    for (uint16_t table = 0; table < 3; table++) {
        uint64_t sums[3] = {0};
        struct err err = {0};
        cr_assert_eq(state_rows_each(s, table, row_sum, sums, &err), 0, "%s", err.message);
        cr_assert_eq(sums[0], table == 0 ? 1000u : table == 1 ? 500u : 0u);
        cr_assert_eq(sums[2], table == 0 ? 500500u : table == 1 ? 250500u : 0u);
    }
    state_close(s);
    place_remove(&p);
}

static void blob_expect(struct state *s, const char *name, const struct buf *blob)
{
    struct buf got = {0};
    struct err err = {0};
    bool found = false;
    cr_assert_eq(state_blob_get(s, name, &got, &found, &err), 0, "%s", err.message);
    cr_assert_eq(found, blob != NULL);
    if (found)
        cr_assert(got.len == blob->len && (got.len == 0 || memcmp(got.data, blob->data, got.len) == 0));
    buf_done(&got);
}

static void blob_put(struct state *s, const char *name, const struct buf *b)
{
    state_blob_put(s, name, (struct str){(const char *)b->data, (uint32_t)b->len});
}

Test(state, blobs_shrink_and_grow)
{
    static const size_t sizes[] = {3u << 20, 5, 0, (1u << 20) + 1, 1u << 20, 100};
    struct place p = place_new();
    struct state_options o = options_plain();
    struct state *s = open_state(&p, &o);
    struct rng r = rng_of(5);
    blob_expect(s, "dense", NULL);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct buf b = {0};
        while (b.len < sizes[i])
            buf_put_u8(&b, (uint8_t)rng_u64(&r));
        blob_put(s, "dense", &b);
        blob_expect(s, "dense", &b); // before the commit
        blob_expect(s, "dens", NULL);
        commit(s, progress_of(&r.state));
        blob_expect(s, "dense", &b);
        state_close(s);
        s = open_state(&p, &o);
        blob_expect(s, "dense", &b);
        buf_done(&b);
    }
    state_close(s);
    place_remove(&p);
}

static void outbox_fill(struct state *s, uint64_t from, uint64_t n)
{
    struct buf value = {0};
    for (uint64_t i = from; i < from + n; i++) {
        buf_clear(&value);
        while (value.len < 40000)
            buf_put_u64(&value, i);
        struct str v = {(const char *)value.data, (uint32_t)value.len};
        cr_assert_eq(state_outbox_put(s, str_of("deltas"), str_of("k"), v, str_of("")), i);
    }
    buf_done(&value);
}

static void outbox_expect(struct state *s, uint64_t after, uint64_t last)
{
    struct outbox_entry e;
    struct err err = {0};
    for (uint64_t want = after + 1; want <= last; want++) {
        cr_assert(state_outbox_next(s, want - 1, &e, &err), "%lu: %s", (unsigned long)want, err.message);
        cr_assert_eq(e.sequence, want);
        cr_assert(str_is(e.topic, "deltas") && str_is(e.key, "k") && e.headers.len == 0 &&
                  e.value.len == 40000);
        cr_assert_eq(memcmp(e.value.s, &want, sizeof want), 0);
    }
    cr_assert_not(state_outbox_next(s, last, &e, &err));
    cr_assert_eq(err.code, ERR_NONE);
}

Test(state, the_outbox_keeps_what_is_not_delivered)
{
    struct place p = place_new();
    struct state_options o = options_plain();
    struct state *s = open_state(&p, &o);
    uint64_t none = 0;
    outbox_fill(s, 1, 100); // several chunks
    outbox_expect(s, 0, 0); // not durable
    commit(s, progress_of(&none));
    outbox_expect(s, 0, 100);
    outbox_expect(s, 57, 100);
    state_outbox_delivered(s, 60);
    outbox_fill(s, 101, 3);
    outbox_expect(s, 60, 100);
    cr_assert(state_outbox_begin(s) == 60 && state_outbox_end(s) == 103);
    commit(s, progress_of(&none));
    struct outbox_entry first;
    struct err err = {0};
    cr_assert(state_outbox_next(s, 0, &first, &err) && first.sequence == 61); // up to 60 none is left
    state_close(s);
    s = open_state(&p, &o);
    cr_assert(state_outbox_begin(s) == 60 && state_outbox_end(s) == 103);
    outbox_expect(s, 60, 103);
    state_outbox_delivered(s, 103);
    commit(s, progress_of(&none));
    state_close(s);
    s = open_state(&p, &o);
    outbox_expect(s, 103, 103);
    outbox_fill(s, 104, 1);
    state_close(s);
    place_remove(&p);
}

// ---- faults, versions, retention --------------------------------------------------------------------------

struct fault_plan {
    const char *step;
    int error;
    _Atomic int times;
};

static int fault(void *context, const char *step)
{
    struct fault_plan *plan = context;
    if (strcmp(step, plan->step) != 0 || plan->times == 0)
        return 0;
    plan->times--;
    return plan->error;
}

static void commit_fd_wait(struct state *s)
{
    struct pollfd p = {.fd = state_commit_fd(s), .events = POLLIN};
    cr_assert_eq(poll(&p, 1, 20000), 1);
    state_commit_ack(s);
}

Test(state, a_full_disk_is_waited_for)
{
    static const char *const steps[] = {"ingest", "done"};
    struct run_result want = {0};
    for (size_t i = 0; i < 2; i++) {
        struct place p = place_new();
        struct fault_plan plan = {steps[i], ENOSPC, 1};
        struct state_options o = options_plain();
        o.fault = fault;
        o.fault_context = &plan;
        struct state *s = open_state(&p, &o);
        struct err err = {0};
        uint64_t ticket = 0;
        uint64_t n = 0;
        while (n < 200)
            event_apply(s, n++);
        cr_assert_eq(state_commit(s, progress_of(&n), &ticket, &err), 0);
        commit_fd_wait(s); // of the failure
        state_commit_error(s, &err);
        cr_assert(err.code == ERR_FULL && err.retriable && state_commit_busy(s), "%s", err.message);
        cr_assert_eq(state_commit_durable(s), 0);
        event_apply(s, n++); // goes on meanwhile
        commit_fd_wait(s);   // of the commit
        state_commit_error(s, &err);
        cr_assert(err.code == ERR_NONE && state_commit_durable(s) == ticket);
        commit(s, progress_of(&n));
        struct run_result got = result_of(s);
        if (i == 0)
            want = got;
        same(&want, &got);
        state_close(s);
        place_remove(&p);
    }
}

Test(state, a_failed_sync_ends_commits_for_good)
{
    struct place p = place_new();
    struct fault_plan plan = {"write", EIO, 1};
    struct state_options o = options_plain();
    o.fault = fault;
    o.fault_context = &plan;
    struct state *s = open_state(&p, &o);
    struct err err = {0};
    uint64_t n = 1;
    uint64_t ticket = 0;
    event_apply(s, 0);
    cr_assert_eq(state_commit(s, progress_of(&n), &ticket, &err), 0);
    cr_assert_eq(state_commit_wait(s, &err), -1);
    cr_assert(err.code == ERR_IO && !err.retriable, "%s", err.message);
    state_commit_error(s, &err);
    cr_assert(err.code == ERR_IO && !state_commit_busy(s));
    cr_assert_eq(state_commit(s, progress_of(&n), &ticket, &err), -1);
    state_close(s);
    o.fault = NULL;
    s = open_state(&p, &o);
    cr_assert_eq(state_progress(s).len, 0);
    state_close(s);
    place_remove(&p);
}

static void store_put_one(const struct place *p, const char *name, uint32_t value)
{
    struct store *store = NULL;
    struct store_options o = {0};
    struct err err = {0};
    cr_assert_eq(store_open(p->dir, &o, &store, &err), 0, "%s", err.message);
    struct store_batch *b = store_batch_new();
    uint8_t key[64] = {KEY_META};
    memcpy(key + KEY_PREFIX, name, strlen(name));
    store_batch_put(b, key, KEY_PREFIX + strlen(name), &value, sizeof value);
    cr_assert_eq(store_ingest(store, b, &err), 0, "%s", err.message);
    store_batch_free(b);
    store_close(store);
}

Test(state, another_format_is_refused)
{
    struct place p = place_new();
    struct state_options o = options_plain();
    struct err err;
    store_put_one(&p, "something", 1);
    cr_assert_eq(open_fails(&p, &o, &err), ERR_VERSION, "%s", err.message);
    store_put_one(&p, "format", STATE_FORMAT + 1);
    cr_assert_eq(open_fails(&p, &o, &err), ERR_VERSION, "%s", err.message);
    store_put_one(&p, "format", STATE_FORMAT);
    cr_assert_eq(open_fails(&p, &o, &err), ERR_CORRUPT, "%s", err.message); // no marks
    cr_assert_gt(strlen(err.message), 10);
    place_remove(&p);
}

Test(state, a_store_of_a_later_format_is_refused_and_stays_as_it_is)
{
    struct place p = place_new();
    struct state_options o = options_plain();
    struct err err;
    struct state *s = open_state(&p, &o);
    uint64_t n = 0;
    while (n < 100)
        event_apply(s, n++);
    commit(s, progress_of(&n));
    state_close(s);
    store_put_one(&p, "format", STATE_FORMAT + 1);
    char found[40], known[40];
    snprintf(found, sizeof found, "format %d,", STATE_FORMAT + 1);
    snprintf(known, sizeof known, "format %d:", STATE_FORMAT);
    for (int read_only = 0; read_only <= 1; read_only++) {
        o.read_only = read_only;
        cr_assert_eq(open_fails(&p, &o, &err), ERR_VERSION, "%s", err.message);
        cr_assert_not(err.retriable);
        cr_assert(strstr(err.message, found) != NULL && strstr(err.message, known) != NULL, "%s",
                  err.message);
        cr_assert_null(strchr(err.message, '\n'));
    }
    o.read_only = false;
    store_put_one(&p, "format", STATE_FORMAT);
    s = open_state(&p, &o);
    cr_assert_eq(progress_read(s), n);
    state_close(s);
    place_remove(&p);
}

Test(state, the_log_is_kept_as_long_as_samples_are, .timeout = 60)
{
    struct place p = place_new();
    struct state_options o = options_plain();
    o.samples_keep_ms = HOUR;
    struct state *s = open_state(&p, &o);
    struct err err = {0};
    for (uint64_t n = 0; n < 3000;) {
        event_apply(s, n++);
        state_samples_trained(s, state_samples_end(s));
        if (n % 100 == 0)
            commit(s, progress_of(&n));
    }
    uint64_t order = 0;
    cr_assert_gt(state_samples_begin(s), 0);
    cr_assert_eq(state_order_each(s, order_run, &order, &err), -1);
    cr_assert_eq(err.code, ERR_NOT_FOUND, "%s", err.message);
    struct state_digests before;
    struct state_digests after;
    uint64_t bodies = 0;
    cr_assert_eq(state_digest(s, body_canonical, &bodies, &before, &err), 0, "%s", err.message);
    state_close(s);
    s = open_state(&p, &o);
    cr_assert_eq(state_digest(s, body_canonical, &bodies, &after, &err), 0, "%s", err.message);
    cr_assert_eq(memcmp(&before, &after, sizeof before), 0);
    struct state_figures f;
    state_figures(s, &f);
    cr_assert(f.files > 0 && f.disk_bytes > 0 && f.dedupe_ids > 0);
    state_close(s);
    place_remove(&p);
}

static uint64_t memory_sum(const struct state_memory *m)
{
    uint64_t sum = 0;
    for (int i = 0; i < STATE_MEMORY_KINDS; i++)
        sum += m->bytes[i];
    return sum;
}

// It grows with what comes, a commit ends it, and with commits at a bound nothing exceeds what it may take.
Test(state, what_waits_for_a_commit_is_counted, .timeout = 60)
{
    enum { BOUND = 700 << 10 };
    struct place p = place_new();
    struct state_options o = options_plain();
    struct state *s = open_state(&p, &o);
    struct state_memory most;
    struct state_memory used;
    uint64_t commits = 0;
    state_memory_most(&o, BOUND, &most);
    for (uint64_t n = 0; n < EVENTS;) {
        uint64_t before = state_dirty_bytes(s);
        event_apply(s, n++);
        cr_assert(n % 100 != 0 || state_dirty_bytes(s) >= before);
        if (state_dirty_bytes(s) < BOUND)
            continue;
        commit(s, progress_of(&n));
        state_trim(s);
        cr_assert_lt(state_dirty_bytes(s), BOUND / 2);
        commits++;
        state_memory(s, &used);
        cr_assert(used.bytes[STATE_MEMORY_COMMIT] <= most.bytes[STATE_MEMORY_COMMIT] + (1 << 20));
        cr_assert(used.bytes[STATE_MEMORY_ENTITIES] <= most.bytes[STATE_MEMORY_ENTITIES]);
        cr_assert(memory_sum(&used) <= memory_sum(&most));
    }
    cr_assert_gt(commits, 0);
    state_close(s);
    place_remove(&p);
}

// ---- layout, groups, expiry -------------------------------------------------------------------------------

static const char layout_text[] = "window 0 1h\nwindow 1 1d\nsequence 1 click\n";

Test(state, what_numbers_mean_must_stay)
{
    static const struct {
        const char *layout, *names; // NULL: it opens
    } cases[] = {
        {"window 0 1h\nwindow 1 1d\nsequence 1 click\n", NULL},
        {"window 0 1h\nwindow 1 1d\nsequence 1 click\ngrouping 0 item gender\n", NULL},
        {"window 0 1h\nwindow 1 7d\nsequence 1 click\n",
         "\"window 1 1d\" where the config now has \"window 1 7d\""},
        {"window 0 1h\nwindow 1 1d\n", "\"sequence 1 click\" where the config now has \"\""},
        {"", "\"window 0 1h\""},
        {NULL, NULL},
    };
    struct state_options o = options_plain();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct place p = place_new();
        uint64_t next = 0;
        o.layout = layout_text;
        struct state *s = open_state(&p, &o);
        commit(s, progress_of(&next));
        state_close(s);
        o.layout = cases[i].layout;
        struct err err;
        if (cases[i].names == NULL) {
            state_close(open_state(&p, &o));
        } else {
            cr_assert_eq(open_fails(&p, &o, &err), ERR_VERSION);
            cr_assert_not_null(strstr(err.message, cases[i].names), "%s", err.message);
        }
        place_remove(&p);
    }
}

Test(state, further_lines_of_a_layout_are_taken_over)
{
    struct place p = place_new();
    struct state_options o = options_plain();
    uint64_t next = 0;
    struct err err;
    for (int i = 0; i < 3; i++) {
        o.layout = i == 0 ? NULL : i == 1 ? "a\n" : "a\nb\n";
        struct state *s = open_state(&p, &o);
        commit(s, progress_of(&next));
        commit(s, progress_of(&next));
        state_close(s);
    }
    o.layout = "a\nc\n";
    cr_assert_eq(open_fails(&p, &o, &err), ERR_VERSION);
    o.read_only = true;
    cr_assert_eq(open_fails(&p, &o, &err), ERR_VERSION);
    place_remove(&p);
}

static struct entity *group_get(struct state *s, uint64_t user, uint64_t value, const char *text)
{
    struct group_key key = {.of = GROUP_OF_USER, .owner = user, .grouping = 3, .value = value};
    struct entity *e = NULL;
    struct err err = {0};
    struct str bucket = text != NULL ? str_of(text) : (struct str){0};
    for (uint32_t stage = 0; stage < 3; stage++)
        state_group_fetch(s, &key, stage);
    cr_assert_eq(state_group(s, &key, bucket, &e, &err), 0, "%s", err.message);
    return e;
}

static int count_one(void *context, struct entity *e)
{
    (void)e;
    ++*(uint64_t *)context;
    return 0;
}

static uint64_t count_of(struct state *s, enum entity_kind kind)
{
    struct err err = {0};
    uint64_t n = 0;
    cr_assert_eq(state_entities_each(s, kind, count_one, &n, &err), 0, "%s", err.message);
    return n;
}

static void user_with_groups(struct state *s, uint64_t id, int64_t ts)
{
    struct entity *user = entity_get(s, ENTITY_USER, 0, id, "u");
    state_count(s, user, 0, ACTION_CLICK, ts, 1);
    for (uint64_t value = 0; value < 3; value++)
        state_count(s, group_get(s, id, value, "bucket"), 0, ACTION_CLICK, ts, value + 1);
}

enum { OLD_USERS = 300 };

// Users and their groups go when they were not seen for `user_expire_ms`, from the disk with some commits more.
Test(state, what_is_not_seen_vanishes_with_its_groups)
{
    struct place p = place_new();
    struct state_options o = options_plain();
    o.user_expire_ms = 16 * HOUR;
    o.totals = true;
    struct state *s = open_state(&p, &o);
    uint64_t next = 0;
    for (uint64_t id = 1; id <= OLD_USERS; id++)
        user_with_groups(s, id, begin_ts);
    user_with_groups(s, OLD_USERS + 1, begin_ts + 10 * HOUR);
    state_advance(s, begin_ts + 17 * HOUR - 1, NULL, NULL);
    commit(s, progress_of(&next));
    cr_assert_eq(count_of(s, ENTITY_USER), OLD_USERS + 1);
    cr_assert_eq(count_of(s, ENTITY_GROUP), 3 * (OLD_USERS + 1));
    cr_assert_not_null(group_get(s, 5, 2, NULL));
    state_advance(s, begin_ts + 17 * HOUR, NULL, NULL);
    cr_assert_null(group_get(s, 5, 2, NULL));
    cr_assert_eq(count_of(s, ENTITY_USER), 1);
    cr_assert_eq(count_of(s, ENTITY_GROUP), 3);
    user_with_groups(s, 5, begin_ts + 20 * HOUR);
    cr_assert_eq(state_total(s, group_get(s, 5, 2, NULL), ACTION_CLICK), 3, "it began anew");
    struct state_figures f = {0};
    for (int i = 0; i < 50 && f.users_expired < OLD_USERS; i++) {
        commit(s, progress_of(&next));
        state_trim(s);
        if (i == 3) {
            state_close(s);
            s = open_state(&p, &o);
        }
        state_figures(s, &f);
    }
    cr_assert(f.users_expired > 0);
    cr_assert_eq(count_of(s, ENTITY_USER), 2);
    cr_assert_eq(count_of(s, ENTITY_GROUP), 6);
    struct entity *user = entity_get(s, ENTITY_USER, 0, 5, "u");
    cr_assert_eq(entity_first_ts(user), begin_ts + 20 * HOUR);
    cr_assert_eq(entity_last_ts(user), begin_ts + 20 * HOUR);
    cr_assert_eq(state_total(s, user, ACTION_CLICK), 1);
    state_close(s);
    place_remove(&p);
}

// A shorter expire gives everybody that long from the moment of the change.
Test(state, an_expire_that_changes_begins_at_the_change)
{
    struct place p = place_new();
    struct state_options o = options_plain();
    uint64_t next = 0;
    int64_t now = begin_ts + 100 * HOUR;
    struct state *s = open_state(&p, &o);
    user_with_groups(s, 1, begin_ts);
    state_advance(s, now, NULL, NULL);
    commit(s, progress_of(&next));
    state_close(s);
    o.user_expire_ms = 16 * HOUR;
    for (int i = 0; i < 2; i++) {
        s = open_state(&p, &o);
        cr_assert_eq(count_of(s, ENTITY_USER), 1);
        state_advance(s, now + 15 * HOUR, NULL, NULL);
        cr_assert_eq(count_of(s, ENTITY_USER), 1);
        commit(s, progress_of(&next));
        state_close(s);
    }
    s = open_state(&p, &o);
    state_advance(s, now + 17 * HOUR, NULL, NULL);
    cr_assert_eq(count_of(s, ENTITY_USER), 0);
    cr_assert_eq(count_of(s, ENTITY_GROUP), 0);
    state_close(s);
    place_remove(&p);
}

// Bodies that say what was gone when they were written stay; those that come do not refer to them.
Test(state, a_tombstone_ends_references)
{
    struct place p = place_new();
    struct state_options o = options_plain();
    o.sequences[ACTION_CLICK].gone = true;
    o.gone_max = 10;
    struct state *s = open_state(&p, &o);
    struct entity *user = entity_get(s, ENTITY_USER, 0, hash_id(str_of("u")), "u");
    for (uint64_t i = 1; i <= 3; i++)
        sequence_put(s, user, ACTION_CLICK, i, begin_ts + (int64_t)i);
    static const uint64_t expected[][2] = {{3, 0}, {0, 0}, {2, 0}, {0, 0}}; // ids put; 0: a reference
    for (int i = 0; i < 4; i++) {
        struct buf to = {0};
        struct body_ref ref;
        uint32_t at = 0;
        if (i == 2)
            state_gone(s, 2, begin_ts + 100);
        state_body_begin(s, BODY_MAX, &at);
        state_sequence_put(s, user, ACTION_CLICK, RECENT, SEQUENCE_TIME, &to, at);
        cr_assert_eq(to.len, expected[i][0] == 0 ? 5 : 1 + 16 * expected[i][0]);
        state_body_append(s, to.data, (uint32_t)to.len, &ref);
        buf_done(&to);
    }
    cr_assert_not(state_sequence_has(s, user, ACTION_CLICK, 2));
    sequence_put(s, user, ACTION_CLICK, 2, begin_ts + 101);
    cr_assert(state_sequence_has(s, user, ACTION_CLICK, 2));
    uint64_t next = 0;
    commit(s, progress_of(&next));
    state_close(s);
    s = open_state(&p, &o);
    user = entity_get(s, ENTITY_USER, 0, hash_id(str_of("u")), "u");
    sequence_put(s, user, ACTION_CLICK, 2, begin_ts + 50);
    struct sequence_entry got[10];
    cr_assert_eq(state_sequence(s, user, ACTION_CLICK, 10, got), 3);
    cr_assert(got[0].item == 2 && got[1].item == 3 && got[2].item == 1);
    state_close(s);
    place_remove(&p);
}
