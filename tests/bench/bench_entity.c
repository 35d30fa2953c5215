// SPDX-License-Identifier: Apache-2.0
// What an event costs in state/entity.c, and what an entity weighs: 1 M users, 100 k items, per event two
// gets, two counts, eight window reads; a commit every 200,000 events. Arguments: `-` no prefetching, `g` counts
// four groups more an event (two of the item, of 2 and 6 values; of the user and of all, of 20), `t` keeps totals,
// `e` lets users and items expire.
// clang-format off
// Build: gcc -std=gnu17 -D_GNU_SOURCE -O2 -I. tests/bench/bench_entity.c state/{account,entity,entity_expire,entity_group,entity_store,counter,chunk,sequence,gone,sweep,totals}.c base/*.c -lxxhash -lm -o bench_entity
// clang-format on
#include <stdio.h>
#include <time.h>

#include "base/rng.h"
#include "state/entity.h"
#include "tests/unit/store_fake.h"

enum {
    USERS = 1000000,
    ITEMS = 100000,
    EVENTS = 4000000,
    AHEAD = 8,
    COMMIT = 200000,
    EVENTS_A_SECOND = 2000
};

struct event {
    uint64_t user, item;
    int64_t ts;
    uint8_t action;
    uint8_t values[4]; // of its groups
};

struct options {
    bool prefetch, groups, totals, expire;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct event *events_new(void)
{
    struct event *events = mem_array(EVENTS + AHEAD, sizeof *events);
    struct rng r = rng_of(1);
    int64_t start = INT64_C(1767225600000);
    for (uint32_t i = 0; i < EVENTS + AHEAD; i++) {
        double u = rng_uniform(&r);
        events[i] = (struct event){
            .user = hash_mix(1 + rng_below(&r, USERS)),
            .item = hash_mix(1 + (uint64_t)((double)ITEMS * u * u)) | 1,
            .ts = start + (int64_t)i * 1000 / EVENTS_A_SECOND - (int64_t)rng_below(&r, 3000),
            .action = rng_below(&r, 10) == 0 ? ACTION_CLICK : ACTION_IMPRESSION,
        };
        uint64_t category = hash_mix(events[i].item) % 20;
        events[i].values[0] = (uint8_t)(1 + hash_mix(events[i].user) % 2);
        events[i].values[1] = (uint8_t)(1 + hash_mix(events[i].user + 1) % 6);
        events[i].values[2] = events[i].values[3] = (uint8_t)(1 + category);
    }
    return events;
}

static struct group_key key_of(const struct event *x, uint32_t i)
{
    return (struct group_key){
        .of = i < 2    ? GROUP_OF_ITEM
              : i == 2 ? GROUP_OF_USER
                       : GROUP_OF_ALL,
        .owner = i < 2    ? x->item
                 : i == 2 ? x->user
                          : 0,
        .grouping = (uint8_t)i,
        .value = hash_mix(x->values[i]),
    };
}

static void groups_prefetch(const struct entities *es, const struct event *x)
{
    for (uint32_t i = 0; i < 4; i++) {
        struct group_key key = key_of(x, i);
        entities_fetch(es, entities_group_place(&key), UINT32_MAX, 0);
    }
}

static void groups_run(struct entities *es, const struct event *x)
{
    for (uint32_t i = 0; i < 4; i++) {
        struct group_key key = key_of(x, i);
        struct entity *e;
        if (entities_group(es, &key, str_of("bucket"), &e, NULL) == 0)
            entities_count(es, e, 0, x->action, x->ts, 1);
    }
}

static uint64_t event_run(struct entities *es, const struct event *x)
{
    struct entity *user, *item;
    if (entities_get(es, ENTITY_USER, 0, x->user, str_of("user_123456"), &user, NULL) < 0 ||
        entities_get(es, ENTITY_ITEM, 0, x->item, str_of("item_123456"), &item, NULL) < 0)
        return 0;
    uint64_t sum = 0;
    for (uint32_t w = 1; w < 3; w++) {
        sum += entities_window(es, user, ACTION_IMPRESSION, w, x->ts);
        sum += entities_window(es, user, ACTION_CLICK, w, x->ts);
        sum += entities_window(es, item, ACTION_IMPRESSION, w, x->ts);
        sum += entities_window(es, item, ACTION_CLICK, w, x->ts);
    }
    entities_count(es, user, 0, x->action, x->ts, 1);
    entities_count(es, item, 0, x->action, x->ts, 1);
    return sum;
}

static void commit(struct entities *es, uint64_t number, double *seconds, uint64_t *puts, uint64_t *bytes)
{
    struct store_batch *b = store_batch_new();
    double start = now();
    entities_batch(es, number, b);
    *seconds += now() - start;
    entities_durable(es, number);
    *puts += store_batch_count(b);
    *bytes += store_batch_bytes(b);
    store_batch_free(b);
}

static struct options options_of(int argc, char **argv)
{
    struct options o = {.prefetch = true};
    for (int i = 1; i < argc; i++) {
        o.prefetch &= argv[i][0] != '-';
        o.groups |= argv[i][0] == 'g';
        o.totals |= argv[i][0] == 't';
        o.expire |= argv[i][0] == 'e';
    }
    return o;
}

static void prefetch(const struct entities *es, const struct options *o, const struct event *x)
{
    entities_prefetch(es, ENTITY_USER, 0, x->user, UINT32_MAX);
    entities_prefetch(es, ENTITY_ITEM, 0, x->item, UINT32_MAX);
    if (o->groups)
        groups_prefetch(es, x);
}

int main(int argc, char **argv)
{
    struct options o = options_of(argc, argv);
    struct state_options options = {
        .windows = {{"1h", 60000, 60}, {"1d", 900000, 96}, {"7d", 3600000, 168}},
        .n_windows = 3,
        .cache_bytes = UINT64_C(8) << 30,
        .totals = o.totals,
        .user_expire_ms = o.expire ? INT64_C(30) * 86400000 : 0,
        .item_expire_ms = o.expire ? INT64_C(30) * 86400000 : 0,
    };
    struct event *events = events_new();
    struct entities *es = entities_new(&options, NULL, true);
    uint64_t sum = 0, puts = 0, bytes = 0;
    double commit_seconds = 0, start = now(), warm = 0;
    for (uint32_t i = 0; i < EVENTS; i++) {
        if (o.prefetch)
            prefetch(es, &o, &events[i + AHEAD]);
        sum += event_run(es, &events[i]);
        if (o.groups)
            groups_run(es, &events[i]);
        if (i % 1000 == 0)
            entities_watermark(es, events[i].ts - 5000);
        if (i == EVENTS / 2)
            warm = now() - start - commit_seconds;
        if (i % COMMIT == COMMIT - 1) {
            double before = now(), inside = commit_seconds;
            commit(es, i / COMMIT + 1, &commit_seconds, &puts, &bytes);
            start += now() - before - (commit_seconds - inside);
        }
    }
    double all = now() - start - commit_seconds;
    struct entities_figures f;
    entities_figures(es, &f);
    printf("first half %.0f ns an event, second half %.0f; batch %.0f ns an event, %.2f puts, %.0f bytes\n",
           warm * 2e9 / EVENTS, (all - warm) * 2e9 / EVENTS, commit_seconds * 1e9 / EVENTS,
           (double)puts / EVENTS, (double)bytes / EVENTS);
    printf("%llu users, %llu items, %llu groups, %.0f bytes an entity, sum %llu\n",
           (unsigned long long)f.users, (unsigned long long)f.items, (unsigned long long)f.groups,
           (double)f.bytes / (double)(f.users + f.items + f.groups), (unsigned long long)sum);
    entities_free(es);
    free(events);
    return 0;
}
