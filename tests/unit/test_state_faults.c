// SPDX-License-Identifier: Apache-2.0
// What state.h promises when something is in the way: a full disk, a failed sync, a store of another format or layout;
// and what leaves it: the log by age, who is not seen, what is gone.
#include "tests/unit/state_events.h"

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

Test(state_faults, a_full_disk_is_waited_for)
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

Test(state_faults, a_failed_sync_ends_commits_for_good)
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

Test(state_faults, another_format_is_refused)
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

Test(state_faults, a_store_of_a_later_format_is_refused_and_stays_as_it_is)
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

Test(state_faults, the_log_is_kept_as_long_as_samples_are, .timeout = 60)
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
Test(state_faults, what_waits_for_a_commit_is_counted, .timeout = 60)
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

Test(state_faults, what_numbers_mean_must_stay)
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

Test(state_faults, further_lines_of_a_layout_are_taken_over)
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
    for (uint32_t stage = 0; stage < 4; stage++)
        state_group_fetch(s, state_group_place(&key), UINT32_MAX, stage);
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
Test(state_faults, what_is_not_seen_vanishes_with_its_groups)
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
    cr_assert_eq(state_total(s, user, ACTION_CLICK), 1);
    state_close(s);
    place_remove(&p);
}

// A shorter expire gives everybody that long from the moment of the change.
Test(state_faults, an_expire_that_changes_begins_at_the_change)
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
Test(state_faults, a_tombstone_ends_references)
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
