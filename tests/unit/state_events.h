// SPDX-License-Identifier: Apache-2.0
// What tests of the state share: a place on disk, a state in it, and events that are a function of their number.
#ifndef FRESHET_TESTS_UNIT_STATE_EVENTS_H
#define FRESHET_TESTS_UNIT_STATE_EVENTS_H

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

static inline int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

struct place {
    char dir[64];
};

static inline struct place place_new(void)
{
    struct place p;
    strcpy(p.dir, "/tmp/freshet-state-XXXXXX");
    cr_assert_not_null(mkdtemp(p.dir));
    return p;
}

static inline void place_remove(const struct place *p)
{
    nftw(p->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline struct state_options options_plain(void)
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

static inline struct state *open_state(const struct place *p, const struct state_options *o)
{
    struct state *s = NULL;
    struct err err = {0};
    cr_assert_eq(state_open(p->dir, o, &s, &err), 0, "%s", err.message);
    return s;
}

static inline enum err_code open_fails(const struct place *p, const struct state_options *o, struct err *err)
{
    struct state *s = NULL;
    *err = (struct err){0};
    cr_assert_eq(state_open(p->dir, o, &s, err), -1, "it opened");
    return err->code;
}

static inline void commit(struct state *s, struct str progress)
{
    struct err err = {0};
    uint64_t ticket = 0;
    cr_assert_eq(state_commit(s, progress, &ticket, &err), 0, "%s", err.message);
    cr_assert_eq(state_commit_wait(s, &err), 0, "%s", err.message);
    cr_assert_eq(state_commit_durable(s), ticket);
    cr_assert_not(state_commit_busy(s));
}

static inline struct str progress_of(const uint64_t *next)
{
    return (struct str){(const char *)next, sizeof *next};
}

static inline uint64_t progress_read(const struct state *s)
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

static inline struct event event_of(uint64_t n)
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

static inline int64_t watermark_after(uint64_t n)
{
    static int64_t watermarks[EVENTS];
    for (uint64_t i = 0; watermarks[EVENTS - 1] == 0 && i < EVENTS; i++) {
        int64_t w = event_of(i).ts - 5000;
        watermarks[i] = i > 0 && watermarks[i - 1] > w ? watermarks[i - 1] : w;
    }
    return watermarks[n];
}

static inline struct entity *entity_get(struct state *s, enum entity_kind kind, uint16_t partition,
                                        uint64_t id, const char *text)
{
    struct entity *e = NULL;
    struct err err = {0};
    cr_assert_eq(state_entity(s, kind, partition, id, str_of(text), &e, &err), 0, "%s", err.message);
    cr_assert(e != NULL && entity_id(e) == id && str_is(entity_text(e), text));
    return e;
}

static inline void sequence_put(struct state *s, struct entity *e, uint8_t sequence, uint64_t item,
                                int64_t ts)
{
    state_sequence_add(s, e, sequence, &(struct sequence_entry){.item = item, .ts = ts});
}

// A body: u64 clicks of the user in 1h | sequence of clicks | u64 item.
static inline struct body_ref body_put(struct state *s, const struct event *e, struct entity *user)
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

static inline void body_canonical(void *context, const struct sample *sample, struct str segment,
                                  struct buf *to)
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

static inline void event_profile(struct state *s, const struct event *e, struct entity *user, uint64_t n)
{
    if (n % 7 == 0)
        state_profile_set(s, user, e->ts, str_of(e->item_text));
    if (n % 50 == 0)
        state_profile_set(s, user, e->ts, (struct str){NULL, 0});
}

static inline void event_apply(struct state *s, uint64_t n)
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

static inline void order_run(void *context, uint16_t part, uint32_t count)
{
    uint64_t *h = context;
    *h = hash_mix(*h + part * 1000003u + count);
}

static inline struct run_result result_of(struct state *s)
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
static inline struct state *restart(struct state *s, const struct place *p, const struct state_options *o,
                                    uint64_t next, uint64_t lost)
{
    for (uint64_t n = next; n < next + lost && n < EVENTS; n++)
        event_apply(s, n);
    state_close(s);
    s = open_state(p, o);
    cr_assert_eq(progress_read(s), next);
    return s;
}

static inline struct run_result run(const struct run_plan *plan)
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

static inline void same(const struct run_result *a, const struct run_result *b)
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

#endif
