// SPDX-License-Identifier: Apache-2.0
// What state.h promises as a whole: the same events give the same digests, whenever commits are made and
// however often the process ends in between, with or without a last commit; nothing is lost to a full disk.
#include "tests/unit/state_events.h"

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
    state_blob_put(s, name, buf_str(b));
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
