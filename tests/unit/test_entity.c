// SPDX-License-Identifier: Apache-2.0
// Users and items against a twin that keeps every event: under any schedule of commits, evictions, restarts
// and crashes every read gives the same, and at the end so do the canonical bytes.
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "state/entity.h"
#include "state/keys.h"
#include "state/sequence.h"
#include "store_fake.h"
#include "tests/unit/schedule.h"

enum { EVENTS = 4000, USERS = 40, ITEMS = 15, PARTITIONS = 3, MIN = 60000, HOUR = 3600000, DAY = 86400000 };

static const struct state_options defaults = {
    .windows = {{"1h", MIN, 60}, {"1d", 15 * MIN, 96}, {"7d", HOUR, 168}},
    .n_windows = 3,
    .sequences = {[ACTION_CLICK] = {.last = 100}, [ACTION_LIKE] = {.last = 7}},
    .cache_bytes = UINT64_C(1) << 30,
};

static const struct state_options odd = {
    .windows = {{"a", 7 * MIN, 9}, {"b", 21 * MIN, 3}, {"c", 42 * MIN, 200}},
    .n_windows = 3,
    .sequences = {[ACTION_CLICK] = {.last = 33}},
    .cache_bytes = UINT64_C(1) << 30,
};

// ---- the events -------------------------------------------------------------------------------------------

struct event {
    uint64_t user, item;
    int64_t ts, at, watermark; // watermark before the event
    uint16_t partition;
    uint8_t action;
    bool profile; // also upserts the item's profile, or deletes it
    bool deletes;
};

static struct event *events_new(uint64_t seed)
{
    struct event *events = mem_array(EVENTS, sizeof *events);
    struct rng r = rng_of(seed);
    int64_t now = INT64_C(1767225600000);
    int64_t watermark = INT64_MIN;
    for (uint32_t i = 0; i < EVENTS; i++) {
        now += (int64_t)rng_below(&r, rng_below(&r, 300) == 0 ? 2 * DAY : 5 * MIN);
        int64_t late = rng_below(&r, 10) == 0 ? (int64_t)rng_below(&r, 9 * (uint64_t)DAY)
                                              : (int64_t)rng_below(&r, 2 * MIN);
        uint64_t user = rng_below(&r, USERS);
        events[i] = (struct event){
            .user = hash_mix(user + 1),
            .item = hash_mix(1000 + rng_below(&r, ITEMS)),
            .ts = now - late,
            .at =
                now - (rng_below(&r, 4) == 0 ? (int64_t)rng_below(&r, 2 * DAY) : (int64_t)rng_below(&r, MIN)),
            .watermark = watermark,
            .partition = (uint16_t)(user % PARTITIONS),
            .action = (uint8_t)rng_below(&r, rng_below(&r, 10) == 0 ? ACTION_MAX : 3),
            .profile = rng_below(&r, 5) == 0,
            .deletes = rng_below(&r, 3) == 0,
        };
        if (rng_below(&r, 3) == 0 && now - 5000 > watermark)
            watermark = now - 5000;
    }
    return events;
}

// ---- one run ----------------------------------------------------------------------------------------------

struct run {
    struct state_options options;
    const struct event *events;
    struct store *store;
    struct entities *es;
    struct store_batch *batch; // not yet durable
    uint64_t commit;
    uint32_t committed; // events in the store
    uint64_t reads[EVENTS];
    struct digest digest;
};

static struct str name_of(uint64_t id, char text[24])
{
    snprintf(text, 24, "id-%llu", (unsigned long long)(id % 100000));
    return str_of(text);
}

static struct entity *get(struct run *run, enum entity_kind kind, uint16_t partition, uint64_t id)
{
    char text[24];
    struct entity *e = NULL;
    cr_assert_eq(entities_get(run->es, kind, partition, id, name_of(id, text), &e, NULL), 0);
    cr_assert(e != NULL && entity_id(e) == id && str_equal(entity_text(e), name_of(id, text)));
    return e;
}

static void sequence_put(struct entities *es, struct entity *e, uint8_t number, uint64_t item, int64_t ts)
{
    entities_sequence_add(es, e, number, &(struct sequence_entry){.item = item, .ts = ts});
}

static uint64_t read_all(struct run *run, struct entity *e, int64_t at)
{
    uint64_t sum = 0;
    for (uint32_t w = 0; w < run->options.n_windows; w++)
        for (uint8_t m = 0; m < 3; m++)
            sum = sum * 31 + entities_window(run->es, e, m, w, at);
    struct sequence_entry entries[20];
    uint32_t n = entities_sequence(run->es, e, ACTION_CLICK, 20, entries);
    for (uint32_t i = 0; i < n; i++)
        sum = hash_mix(sum + entries[i].item + (uint64_t)entries[i].ts);
    int64_t ts;
    struct str profile = state_profile(e, &ts);
    return hash_mix(sum + (uint64_t)ts + hash_bytes(profile.s, profile.len) + (uint64_t)entity_first_ts(e));
}

static void event_apply(struct run *run, uint32_t i)
{
    const struct event *x = &run->events[i];
    entities_watermark(run->es, x->watermark);
    struct entity *user = get(run, ENTITY_USER, x->partition, x->user);
    struct entity *item = get(run, ENTITY_ITEM, x->partition, x->item);
    run->reads[i] = hash_mix(read_all(run, user, x->at)) ^ read_all(run, item, x->at);
    entities_count(run->es, user, x->partition, x->action, x->ts, 1);
    entities_count(run->es, item, x->partition, x->action, x->ts, 1);
    sequence_put(run->es, user, x->action, x->item, x->ts);
    if (x->action == ACTION_COLLECT)
        entities_count(run->es, user, x->partition, MEASURE_WATCH_MS, x->ts, 1000 + i);
    if (x->profile) {
        char text[24];
        struct str record = name_of(hash_mix(i), text);
        entities_profile_set(run->es, item, x->ts, x->deletes ? (struct str){NULL, 0} : record);
    }
}

static void run_durable(struct run *run)
{
    if (run->batch == NULL)
        return;
    cr_assert_eq(store_ingest(run->store, run->batch, NULL), 0);
    store_batch_free(run->batch);
    run->batch = NULL;
    entities_durable(run->es, run->commit);
}

static void run_commit(struct run *run, uint32_t events, bool lag)
{
    run_durable(run);
    run->batch = store_batch_new();
    entities_batch(run->es, ++run->commit, run->batch);
    run->committed = events;
    if (!lag)
        run_durable(run);
}

static uint32_t run_open(struct run *run)
{
    entities_free(run->es);
    run->es = entities_new(&run->options, run->store, run->store->n == 0);
    if (run->committed > 0)
        entities_watermark(run->es, run->events[run->committed - 1].watermark);
    return run->committed;
}

static int digest_entity(void *context, struct entity *e)
{
    struct run *run = context;
    struct buf b = {0};
    buf_put(&b, &run->digest, sizeof run->digest);
    entities_counters_put(run->es, e, &b);
    entities_sequences_put(run->es, e, &b);
    entities_profile_put(e, &b);
    run->digest = digest_bytes(b.data, b.len);
    buf_done(&b);
    return 0;
}

static void run_trim(struct run *run)
{
    entities_trim(run->es);
}

static const struct schedule_calls calls = {event_apply, run_commit, run_trim, run_durable, run_open};

static struct run *run_new(const struct state_options *options, const struct event *events,
                           const struct schedule *s)
{
    struct run *run = mem_zalloc(sizeof *run);
    run->options = *options;
    run->options.cache_bytes = s->cache_bytes;
    run->events = events;
    cr_assert_eq(store_open("", NULL, &run->store, NULL), 0);
    schedule_run(s, &calls, run, EVENTS);
    cr_assert_eq(entities_each(run->es, ENTITY_USER, digest_entity, run, NULL), 0);
    cr_assert_eq(entities_each(run->es, ENTITY_ITEM, digest_entity, run, NULL), 0);
    return run;
}

static void run_free(struct run *run)
{
    entities_free(run->es);
    store_close(run->store);
    free(run);
}

static const struct schedule schedules[] = {
    {"everything in memory", UINT64_C(1) << 30, EVENTS * 10, EVENTS, 0, 0, false, 0},
    {"a commit an event, nothing cached", 0, 1, 1, 0, 0, false, 0},
    {"small cache", 40000, 20, 5, 0, 0, false, 0},
    {"commits that take long", 40000, 20, 5, 0, 0, true, 0},
    {"restarts", 60000, 50, 10, 100, 0, false, 0},
    {"crashes", 60000, 50, 10, 0, 100, true, 0},
    {"restarts with a large cache", UINT64_C(1) << 30, 300, 10, 500, 700, true, 0},
};

static void compare_schedules(const struct state_options *options, uint64_t seed)
{
    struct event *events = events_new(seed);
    struct run *first = run_new(options, events, &schedules[0]);
    for (size_t i = 1; i < sizeof schedules / sizeof schedules[0]; i++) {
        struct run *other = run_new(options, events, &schedules[i]);
        for (uint32_t k = 0; k < EVENTS; k++)
            cr_assert_eq(first->reads[k], other->reads[k], "%s: event %u reads otherwise", schedules[i].name,
                         k);
        cr_assert(digest_equal(first->digest, other->digest), "%s: another digest", schedules[i].name);
        run_free(other);
    }
    run_free(first);
    free(events);
}

Test(entity, schedules_change_nothing)
{
    compare_schedules(&defaults, 1);
    compare_schedules(&defaults, 2);
}

Test(entity, schedules_change_nothing_with_odd_windows)
{
    compare_schedules(&odd, 3);
}

// ---- the twin ---------------------------------------------------------------------------------------------

static uint64_t twin_window(const struct event *events, uint32_t n, uint64_t item, uint8_t action,
                            const struct state_window *w, int64_t at, int64_t watermark)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct event *x = &events[i];
        int64_t tile = x->ts / w->tile_ms;
        bool alive = watermark < 0 || tile > watermark / w->tile_ms - w->tiles;
        bool inside = tile <= at / w->tile_ms && tile > at / w->tile_ms - w->tiles;
        sum += x->item == item && x->action == action && alive && inside;
    }
    return sum;
}

Test(entity, agrees_with_the_definition)
{
    struct event *events = events_new(11);
    struct run *run = mem_zalloc(sizeof *run);
    run->options = defaults;
    run->options.cache_bytes = 30000;
    run->events = events;
    cr_assert_eq(store_open("", NULL, &run->store, NULL), 0);
    run_open(run);
    for (uint32_t i = 0; i < EVENTS; i++) {
        event_apply(run, i);
        if (i % 7 == 0)
            run_commit(run, i + 1, false);
        const struct event *x = &events[i];
        struct entity *item = get(run, ENTITY_ITEM, 0, x->item);
        for (uint32_t w = 0; i % 3 == 0 && w < 3; w++)
            cr_assert_eq(
                entities_window(run->es, item, x->action, w, x->at),
                twin_window(events, i + 1, x->item, x->action, &defaults.windows[w], x->at, x->watermark));
        entities_trim(run->es);
    }
    struct entities_figures f;
    entities_figures(run->es, &f);
    cr_assert_gt(f.evictions, 100);
    run_free(run);
    free(events);
}

// ---- what else is promised --------------------------------------------------------------------------------

static struct run *small_run(uint64_t cache_bytes)
{
    struct run *run = mem_zalloc(sizeof *run);
    run->options = defaults;
    run->options.cache_bytes = cache_bytes;
    cr_assert_eq(store_open("", NULL, &run->store, NULL), 0);
    run->es = entities_new(&run->options, run->store, true);
    return run;
}

Test(entity, absent_is_not_made)
{
    struct run *run = small_run(1 << 30);
    struct entity *e = (struct entity *)(uintptr_t)1;
    cr_assert_eq(entities_get(run->es, ENTITY_USER, 0, 5, (struct str){NULL, 0}, &e, NULL), 0);
    cr_assert_null(e);
    cr_assert_null(entities_peek(run->es, ENTITY_USER, 0, 5));
    cr_assert_eq(run->store->iterators, 0, "a fresh store was read");
    run_free(run);
}

Test(entity, partitions_separate_users_and_share_items)
{
    struct run *run = small_run(1 << 30);
    cr_assert_neq(get(run, ENTITY_USER, 0, 5), get(run, ENTITY_USER, 1, 5));
    cr_assert_eq(get(run, ENTITY_ITEM, 0, 5), get(run, ENTITY_ITEM, 1, 5));
    cr_assert_eq(entities_peek(run->es, ENTITY_ITEM, 7, 5), get(run, ENTITY_ITEM, 1, 5));
    run_free(run);
}

Test(entity, a_commit_writes_what_changed)
{
    struct run *run = small_run(1 << 30);
    int64_t ts = INT64_C(1767225600000);
    for (uint64_t id = 1; id <= 1000; id++)
        entities_count(run->es, get(run, ENTITY_USER, 0, id), 0, 0, ts, 1);
    run->batch = store_batch_new();
    entities_batch(run->es, ++run->commit, run->batch);
    cr_assert_eq(store_batch_count(run->batch), 2000, "a name and an hour each");
    run_durable(run);
    entities_count(run->es, get(run, ENTITY_USER, 0, 7), 0, 0, ts + 2 * HOUR, 1);
    run->batch = store_batch_new();
    entities_batch(run->es, ++run->commit, run->batch);
    cr_assert_eq(store_batch_count(run->batch), 1, "the new hour");
    run_durable(run);
    run_free(run);
}

Test(entity, bytes_are_exact_and_bounded)
{
    struct run *run = small_run(200000);
    int64_t ts = INT64_C(1767225600000);
    for (uint64_t id = 1; id <= 5000; id++, ts += 1000) {
        struct entity *e = get(run, ENTITY_USER, 0, hash_mix(id));
        for (uint8_t m = 0; m < 8; m++)
            entities_count(run->es, e, 0, m, ts, 1);
        sequence_put(run->es, e, ACTION_CLICK, id, ts);
        if (id % 100 == 0)
            run_commit(run, 0, false);
        entities_trim(run->es);
    }
    run_commit(run, 0, false);
    entities_trim(run->es);
    struct entities_figures f;
    entities_figures(run->es, &f);
    cr_assert_leq(f.bytes, 200000);
    cr_assert_gt(f.users, 50);
    cr_assert_eq(f.users + f.evictions, 5000);
    run_free(run);
}

Test(entity, what_is_not_durable_is_not_evicted)
{
    struct run *run = small_run(0);
    struct entity *e = get(run, ENTITY_USER, 0, 9);
    entities_count(run->es, e, 0, 0, INT64_C(1767225600000), 1);
    entities_trim(run->es);
    cr_assert_eq(entities_peek(run->es, ENTITY_USER, 0, 9), e, "dirty");
    run_commit(run, 0, true);
    entities_trim(run->es);
    cr_assert_eq(entities_peek(run->es, ENTITY_USER, 0, 9), e, "under way");
    run_durable(run);
    entities_trim(run->es);
    cr_assert_null(entities_peek(run->es, ENTITY_USER, 0, 9));
    cr_assert_eq(entities_window(run->es, get(run, ENTITY_USER, 0, 9), 0, 0, INT64_C(1767225600000)), 1);
    run_free(run);
}

Test(entity, profiles_keep_the_newest)
{
    struct run *run = small_run(1 << 30);
    struct entity *e = get(run, ENTITY_ITEM, 0, 3);
    int64_t ts;
    cr_assert_eq(state_profile(e, &ts).len, 0);
    cr_assert(entities_profile_set(run->es, e, 100, str_of("first")));
    cr_assert(entities_profile_set(run->es, e, 100, str_of("a later arrival")));
    cr_assert_not(entities_profile_set(run->es, e, 99, str_of("older")));
    cr_assert(str_is(state_profile(e, &ts), "a later arrival") && ts == 100);
    cr_assert(entities_profile_set(run->es, e, 200, (struct str){NULL, 0}));
    run_commit(run, 0, false);
    entities_free(run->es);
    run->es = entities_new(&run->options, run->store, false);
    e = get(run, ENTITY_ITEM, 0, 3);
    cr_assert_eq(state_profile(e, NULL).len, 0);
    cr_assert_not(entities_profile_set(run->es, e, 150, str_of("before the deletion")));
    cr_assert_eq(state_profile(e, NULL).len, 0);
    cr_assert(entities_profile_set(run->es, e, 201, str_of("")));
    cr_assert(str_is(state_profile(e, &ts), "") && ts == 201);
    run_free(run);
}

// Puts a sequence as of (commit, segment) at offset 300; true if a reference to an earlier copy was enough.
static bool is_reference(struct run *run, struct entity *e, uint32_t max, uint32_t commit, uint32_t segment)
{
    struct sequence_snapshot place = {.commit = commit, .segment = segment, .at = 300};
    struct buf b = {0};
    entities_sequence_put(run->es, e, ACTION_CLICK, max, 0, &place, &b);
    bool reference = b.data[0] == 0;
    cr_assert(!reference || (b.len == 5 && b.data[1] == 300 % 256 && b.data[2] == 300 / 256));
    buf_done(&b);
    return reference;
}

Test(entity, snapshots_hold_until_the_sequence_changes)
{
    struct run *run = small_run(1 << 30);
    struct entity *e = get(run, ENTITY_USER, 0, 3);
    cr_assert_not(is_reference(run, e, 50, 1, 2));
    cr_assert_not(is_reference(run, e, 50, 1, 2), "nothing to refer to");
    sequence_put(run->es, e, ACTION_CLICK, 1, 1000);
    cr_assert_not(is_reference(run, e, 50, 1, 2));
    cr_assert(is_reference(run, e, 50, 1, 2));
    cr_assert_not(is_reference(run, e, 20, 1, 2));
    cr_assert_not(is_reference(run, e, 20, 2, 2));
    cr_assert_not(is_reference(run, e, 20, 2, 3));
    cr_assert(is_reference(run, e, 20, 2, 3));
    sequence_put(run->es, e, ACTION_CLICK, 2, 1000);
    cr_assert_not(is_reference(run, e, 20, 2, 3));
    run_free(run);
}

Test(entity, every_measure_has_a_counter)
{
    struct run *run = small_run(1 << 30);
    struct entity *e = get(run, ENTITY_USER, 0, 3);
    int64_t ts = INT64_C(1767225600000);
    for (uint8_t i = 0; i < MEASURE_MAX; i++) {
        uint8_t m = (uint8_t)((i * 7 + 3) % MEASURE_MAX);
        entities_count(run->es, e, 0, m, ts, m + 1u);
    }
    run_commit(run, 0, false);
    entities_free(run->es);
    run->es = entities_new(&run->options, run->store, false);
    for (uint8_t m = 0; m < MEASURE_MAX; m++)
        cr_assert_eq(entities_window(run->es, get(run, ENTITY_USER, 0, 3), m, 0, ts), m + 1u);
    run_free(run);
}

// The end of a stream moves the watermark to the end of time; the counters stay as they are.
Test(entity, the_end_of_time_is_no_time)
{
    struct run *run = small_run(1 << 30);
    struct entity *e = get(run, ENTITY_USER, 0, 3);
    int64_t ts = INT64_C(1767225600000);
    entities_count(run->es, e, 0, 0, ts, 1);
    entities_watermark(run->es, INT64_MAX);
    cr_assert_eq(entities_window(run->es, e, 0, 0, ts), 1);
    run_free(run);
}

// A key may go exactly when none of its tiles is alive in any window.
Test(entity, expired_keys)
{
    struct run *run = small_run(1 << 30);
    int64_t ts = INT64_C(1767225600000);
    entities_count(run->es, get(run, ENTITY_USER, 2, 77), 2, 0, ts, 1);
    run_commit(run, 0, false);
    uint32_t tiles = 0;
    for (size_t i = 0; i < run->store->n; i++) {
        struct str key = run->store->pairs[i].key;
        const uint8_t *bytes = (const uint8_t *)key.s;
        cr_assert_not(entities_key_expired(&defaults, INT64_MIN, bytes, key.len));
        cr_assert_not(entities_key_expired(&defaults, INT64_MAX, bytes, key.len));
        if (bytes[KEY_PREFIX] != KEY_SUB_TILES) {
            cr_assert_not(entities_key_expired(&defaults, ts + 100 * (int64_t)DAY, bytes, key.len));
            continue;
        }
        tiles++;
        int64_t last_alive = ts / HOUR * HOUR + 168 * (int64_t)HOUR - 1;
        cr_assert_not(entities_key_expired(&defaults, last_alive, bytes, key.len));
        cr_assert(entities_key_expired(&defaults, last_alive + 1, bytes, key.len));
    }
    cr_assert_eq(tiles, 1);
    run_free(run);
}

// Whatever bytes a value is damaged to, loading gives an error or an entity, never a crash.
Test(entity, damage_is_an_error)
{
    struct rng r = rng_of(21);
    struct run *run = small_run(1 << 30);
    int64_t ts = INT64_C(1767225600000);
    for (int i = 0; i < 200; i++) {
        struct entity *e = get(run, ENTITY_USER, 0, 3);
        entities_count(run->es, e, 0, (uint8_t)(i % 3), ts + i * MIN, 1);
        sequence_put(run->es, e, ACTION_CLICK, (uint64_t)i, ts + i * MIN);
        entities_profile_set(run->es, e, ts, str_of("a profile"));
    }
    run_commit(run, 0, false);
    uint32_t errors = 0;
    for (int i = 0; i < 3000; i++) {
        struct str *value = &run->store->pairs[rng_below(&r, run->store->n)].value;
        char *byte = (char *)(uintptr_t)value->s + rng_below(&r, value->len);
        char before = *byte;
        uint32_t len = value->len;
        *byte = (char)rng_below(&r, 256);
        if (rng_below(&r, 2))
            value->len = (uint32_t)rng_below(&r, len);
        struct entities *es = entities_new(&run->options, run->store, false);
        struct entity *e = NULL;
        struct err err = {0};
        if (entities_get(es, ENTITY_USER, 0, 3, (struct str){NULL, 0}, &e, &err) < 0) {
            cr_assert(err.code == ERR_CORRUPT && e == NULL);
            errors++;
        }
        entities_free(es);
        *byte = before;
        value->len = len;
    }
    cr_assert_gt(errors, 100);
    run_free(run);
}
