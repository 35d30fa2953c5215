// SPDX-License-Identifier: Apache-2.0
// Groups that are fetched some messages ahead (groups_ahead, groups_take, groups_begin_taken) beside a twin that looks at
// each message alone: whatever stands in the queue, is dropped from it or does not fit, and whatever is committed,
// evicted, expired, or told in a profile meanwhile, buckets and groups are the same, and count what a plain list counts.
#include <ftw.h>

#include "base/mem.h"
#include "base/rng.h"
#include "daemon/engine.h"
#include "daemon/groups.h"
#include "tests/unit/config_text.h"

enum { EVENTS = 6000, USERS = 30, ITEMS = 20, ITEMS_OF_ONE = 20, FIELDS = 5, PARTITIONS = 2, MINUTE = 60000 };
enum { AHEAD_MOST = 24, RING = AHEAD_MOST + 1, COUNTS = 1 << 16 };

static const char text[] = "stream: {users: {topic: users}, items: {topic: items}}\n"
                           "buckets:\n"
                           "  price: {of: context.price, edges: [10, 20, 30]}\n"
                           "  front: {of: context.device, prefix: 2}\n"
                           "  here: {geohash: [context.lat, context.lon], precision: 2}\n"
                           "  there: {geohash: [context.lat, user.lon], precision: 1}\n"
                           "  hour: {hour: timestamp}\n"
                           "counters:\n"
                           "  windows: [1h]\n"
                           "  totals: true\n"
                           "  item: {by: [context.device, price, here, gender, hour]}\n"
                           "  user: {by: [front, context.device, category, hour]}\n"
                           "  all: {by: [price, category, user.gender, there]}\n"
                           "features: {most: {count: click, of: all, window: total}}\n"
                           "models: {m: {net: [{name: n, mlp: [4], of: [most]}], heads: {click: {of: n}}}}\n";

// One of the ring's events, with all that it points to.
struct message {
    struct event event;
    struct event_item items[ITEMS_OF_ONE];
    struct event_field fields[FIELDS];
    char user[16], item[ITEMS_OF_ONE][16], device[16];
    uint16_t partition;
    bool told; // groups_ahead was called for it
};

struct count {
    uint64_t key;
    uint64_t n;
};

struct story {
    const struct config *config;
    struct state *state;
    struct groups *groups, *twin;
    struct rng rng;
    struct message *ring;
    int64_t now, jump;                           // the clock, and by how much it may leap
    struct count *counts;                        // by a hash of the group, as a plain list would have it
    uint64_t fresh, again, dropped, full, large; // how often: the events must not miss what they are for
};

static uint64_t below(struct story *s, uint64_t n)
{
    return rng_below(&s->rng, n);
}

// ---- messages ---------------------------------------------------------------------------------------------

static void field_string(struct message *m, const char *name, const char *value)
{
    m->fields[m->event.n_fields++] =
        (struct event_field){.name = str_of(name), .type = EVENT_STRING, .s = str_of(value)};
}

static void field_number(struct message *m, const char *name, double value)
{
    m->fields[m->event.n_fields++] =
        (struct event_field){.name = str_of(name), .type = EVENT_NUMBER, .n = value};
}

static void message_make(struct story *s, struct message *m)
{
    static const char *const devices[] = {"phone", "phablet", "tv", "\xc3\xa9\xc3\xa8x", ""};
    *m = (struct message){.event = {.kind = EVENT_ACTION, .action = ACTION_CLICK, .n_items = 1}};
    struct event *e = &m->event;
    s->now += (int64_t)below(s, below(s, 400) == 0 ? (uint64_t)s->jump : MINUTE);
    e->ts = s->now - (int64_t)below(s, 30 * MINUTE);
    uint64_t user = below(s, below(s, 3) > 0 ? 3 : USERS);
    snprintf(m->user, sizeof m->user, "u%llu", (unsigned long long)user);
    e->user_text = str_of(m->user);
    e->user = hash_id(e->user_text);
    m->partition = (uint16_t)(user % PARTITIONS);
    if (below(s, 3) == 0) {
        e->action = ACTION_IMPRESSION;
        e->n_items = 1 + (uint32_t)below(s, ITEMS_OF_ONE);
    }
    for (uint32_t i = 0; i < e->n_items; i++) {
        snprintf(m->item[i], sizeof m->item[i], "i%llu", (unsigned long long)below(s, ITEMS));
        m->items[i] = (struct event_item){.id = hash_id(str_of(m->item[i])), .text = str_of(m->item[i])};
    }
    e->items = m->items;
    snprintf(m->device, sizeof m->device, "%s", devices[below(s, 5)]);
    if (below(s, 8) == 0)
        field_number(m, "device", (double)below(s, 4) - 0.5);
    else if (below(s, 8) > 0)
        field_string(m, "device", m->device);
    if (below(s, 4) > 0)
        field_number(m, "price", 7 * (double)below(s, 6));
    if (below(s, 4) > 0)
        field_number(m, "lat", 50 + 10 * (double)below(s, 5)); // the last are of no place
    if (below(s, 4) > 0)
        field_number(m, "lon", 20 * (double)below(s, 9));
    e->fields = m->fields;
}

static void profile_tell(struct story *s, enum entity_kind kind, struct str id, uint16_t partition)
{
    static const char *const values[] = {"a", "bb", "ccc"};
    struct event_field fields[] = {
        {.name = str_of(kind == ENTITY_USER ? "gender" : "category"),
         .type = EVENT_STRING,
         .s = str_of(values[below(s, 3)])},
        {.name = str_of("lon"), .type = EVENT_NUMBER, .n = 30 * (double)below(s, 5)}};
    struct event e = {.kind = kind == ENTITY_USER ? EVENT_USER_PROFILE : EVENT_ITEM_PROFILE,
                      .n_fields = 2,
                      .fields = fields};
    struct buf record = {0};
    struct entity *entity;
    cr_assert_eq(state_entity(s->state, kind, partition, hash_id(id), id, &entity, NULL), 0);
    profile_put(&record, &e);
    state_profile_set(s->state, entity, s->now, buf_str(&record));
    buf_done(&record);
}

// ---- a message, by both ------------------------------------------------------------------------------------

static void count_plainly(struct story *s, const struct group_key *key, struct entity *group)
{
    uint64_t id = hash_mix(key->owner + hash_mix(key->value + hash_mix(key->of * 1000u + key->grouping))) | 1;
    uint32_t at = (uint32_t)(id % COUNTS);
    while (s->counts[at].key != 0 && s->counts[at].key != id)
        at = (at + 1) % COUNTS;
    s->counts[at].key = id;
    if (s->config->state.users_expire_ms == 0)
        cr_assert_eq(state_total(s->state, group, ACTION_CLICK), s->counts[at].n);
    else if (entity_is_new(group) && s->counts[at].n > 0)
        s->again++;
    s->fresh += entity_is_new(group);
    s->counts[at].n++;
}

// In both the same bucket and the same group.
static void cell_compare(struct story *s, const struct groups_of *of, uint32_t grouping, uint32_t item,
                         bool create)
{
    struct entity *group = NULL, *wanted = NULL;
    struct str bucket = groups_bucket(s->groups, grouping, item);
    cr_assert(str_equal(bucket, groups_bucket(s->twin, grouping, item)));
    if (create)
        for (uint32_t stage = 0; stage < 3; stage++)
            groups_fetch(s->groups, s->state, grouping, item, stage);
    cr_assert_eq(groups_find(s->groups, s->state, grouping, item, create, &group, NULL), 0);
    cr_assert_eq(groups_find(s->twin, s->state, grouping, item, create, &wanted, NULL), 0);
    cr_assert_eq(group, wanted);
    if (group == NULL)
        return;
    struct group_key key;
    entity_group(group, &key);
    bool total = grouping == CONFIG_GROUPING_TOTAL;
    enum group_of kind = total ? GROUP_OF_ALL : s->config->groupings[grouping].of;
    cr_assert(key.of == kind && key.grouping == grouping && str_equal(entity_text(group), bucket));
    cr_assert_eq(key.value, total ? 0 : hash_id(bucket));
    cr_assert_eq(key.owner, kind == GROUP_OF_USER   ? of->event->user
                            : kind == GROUP_OF_ITEM ? of->event->items[item].id
                                                    : 0);
    if (!create || of->event->action != ACTION_CLICK)
        return;
    count_plainly(s, &key, group);
    state_count(s->state, group, of->partition, ACTION_CLICK, of->event->ts, 1);
}

static void message_compare(struct story *s, const struct message *m)
{
    const struct event *e = &m->event;
    struct entity *items[ITEMS_OF_ONE];
    struct groups_of of = {.event = e, .items = items, .partition = m->partition};
    cr_assert_eq(state_entity(s->state, ENTITY_USER, m->partition, e->user, e->user_text, &of.user, NULL), 0);
    for (uint32_t i = 0; i < e->n_items; i++)
        cr_assert_eq(
            state_entity(s->state, ENTITY_ITEM, 0, e->items[i].id, e->items[i].text, &items[i], NULL), 0);
    cr_assert_eq(
        state_entity(s->state, ENTITY_USER, PROFILE_PARTITION, e->user, (struct str){0}, &of.profile, NULL),
        0);
    state_count(s->state, of.user, m->partition, e->action, e->ts, 1);
    for (uint32_t i = 0; i < e->n_items; i++)
        state_count(s->state, items[i], m->partition, e->action, e->ts, 1);
    groups_begin_taken(s->groups, &of);
    groups_begin(s->twin, &of);
    bool create = below(s, 4) > 0; // or it is only read
    for (uint32_t g = 0; g <= s->config->n_groupings; g++) {
        uint32_t grouping = g < s->config->n_groupings ? g : CONFIG_GROUPING_TOTAL;
        uint32_t n = groups_by_item(s->groups, grouping) ? e->n_items : 1;
        for (uint32_t i = 0; i < n; i++)
            cell_compare(s, &of, grouping, i, create);
    }
}

// ---- what happens between ----------------------------------------------------------------------------------

static void between(struct story *s)
{
    uint64_t ticket;
    struct err err = {0};
    char id[16];
    switch (below(s, 30)) {
    case 0:
        cr_assert_eq(state_commit(s->state, (struct str){0}, &ticket, &err), 0, "%s", err.message);
        break;
    case 1:
        cr_assert_eq(state_commit_wait(s->state, &err), 0, "%s", err.message);
        break;
    case 2:
        state_trim(s->state);
        break;
    case 3:
        state_advance(s->state, s->now - 30 * MINUTE, NULL, NULL);
        break;
    case 4:
        snprintf(id, sizeof id, "u%llu", (unsigned long long)below(s, USERS));
        profile_tell(s, ENTITY_USER, str_of(id), PROFILE_PARTITION);
        break;
    case 5:
        snprintf(id, sizeof id, "i%llu", (unsigned long long)below(s, ITEMS));
        profile_tell(s, ENTITY_ITEM, str_of(id), 0);
        break;
    default:
        break;
    }
}

static void tell_ahead(struct story *s, struct message *m, uint32_t outstanding)
{
    if (below(s, 10) == 0)
        return; // as the first of a poll
    m->told = true;
    s->full += outstanding >= 16;
    s->large += m->event.n_items > 16;
    groups_ahead(s->groups, s->state, &m->event, m->partition, UINT32_MAX);
}

static void story_run(struct story *s)
{
    uint32_t told = 0, outstanding = 0;
    for (uint32_t i = 0; i < EVENTS; i++) {
        uint32_t reach = i + 1 + (uint32_t)below(s, below(s, 20) == 0 ? AHEAD_MOST : 8);
        for (; told < reach && told < EVENTS; told++) {
            struct message *m = &s->ring[told % RING];
            message_make(s, m);
            tell_ahead(s, m, outstanding);
            outstanding += m->told;
        }
        between(s);
        struct message *m = &s->ring[i % RING];
        groups_take(s->groups, &m->event);
        outstanding -= m->told;
        if (below(s, 6) == 0)
            s->dropped += m->told; // a duplicate
        else
            message_compare(s, m);
    }
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void story_tell(const char *more, uint64_t seed)
{
    char dir[] = "/tmp/freshet-groups-XXXXXX";
    char whole[2048];
    struct err err = {0};
    struct state_options options;
    cr_assert_not_null(mkdtemp(dir));
    snprintf(whole, sizeof whole, "%s%s", text, more);
    struct config *config = load_good(whole);
    struct story s = {.config = config,
                      .groups = groups_new(config),
                      .twin = groups_new(config),
                      .rng = rng_of(seed),
                      .ring = mem_array(RING, sizeof *s.ring),
                      .now = INT64_C(1767225600000),
                      .jump = 20 * (int64_t)60 * MINUTE,
                      .counts = mem_zalloc(COUNTS * sizeof *s.counts)};
    engine_state_options(config, &options);
    options.cache_bytes = 60000;
    cr_assert_eq(state_open(dir, &options, &s.state, &err), 0, "%s", err.message);
    story_run(&s);
    cr_assert_eq(state_commit_wait(s.state, &err), 0, "%s", err.message);
    struct state_figures f;
    state_figures(s.state, &f);
    cr_assert(f.evictions > 1000 && s.dropped > 100 && s.full > 50 && s.large > 50 && s.fresh > 200);
    cr_assert(config->state.users_expire_ms == 0 || s.again > 100);
    groups_free(s.groups);
    groups_free(s.twin);
    state_close(s.state);
    config_free(config);
    free(s.ring);
    free(s.counts);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

Test(groups_ahead, are_those_of_each_message_alone)
{
    story_tell("", 1);
}

Test(groups_ahead, of_owners_that_expire_between)
{
    story_tell("state: {expire: {users: 2h, items: 3h}}\n", 2);
}
