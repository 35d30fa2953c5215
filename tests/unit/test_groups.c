// SPDX-License-Identifier: Apache-2.0
// Groups, totals, sequences with extras, sets, tombstones and expiry against a model that keeps every event in
// plain lists: under any schedule of commits, evictions, sweeps, restarts and crashes every read agrees with
// it, and the digests with one another.
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "state/entity.h"
#include "state/keys.h"
#include "store_fake.h"
#include "tests/unit/schedule.h"

enum { EVENTS = 3000, USERS = 12, ITEMS = 9, GROUPINGS = 2, VALUES = 4, PARTITIONS = 2, MEASURES = 3 };
enum { MINUTE = 60000, HOUR = 3600000, STEP_USER = 2 * HOUR / 16, STEP_ITEM = 3 * HOUR / 16 };
enum { SET = 30, RICH = 31, LONG = 32, SEQUENCES = 3, GONE_MAX = 3 };
enum {
    GROUPS_OF_USER = GROUPINGS * VALUES,
    THINGS = (USERS + ITEMS) * (1 + GROUPS_OF_USER) + GROUPS_OF_USER
};

static const struct state_options options = {
    .windows = {{"1h", MINUTE, 60}, {"4h", 15 * MINUTE, 16}},
    .n_windows = 2,
    .sequences = {[SET] = {.last = 7, .with = SEQUENCE_AUTHOR, .unique = true, .gone = true},
                  [RICH] = {.last = 40,
                            .with = SEQUENCE_CATEGORY | SEQUENCE_AUTHOR | SEQUENCE_DWELL,
                            .gone = true},
                  [LONG] = {.last = 300, .with = SEQUENCE_DWELL}},
    .totals = true,
    .user_expire_ms = 2 * HOUR,
    .item_expire_ms = 3 * HOUR,
    .gone_max = GONE_MAX,
};

// ---- the events -------------------------------------------------------------------------------------------

struct event {
    uint32_t user, item, grouping, value;
    int64_t ts, at, watermark;
    uint8_t measure;
    uint16_t partition;
    uint64_t n;
    bool create;  // else groups are only read
    bool removes; // the item from the user's sequences
    bool gone;    // the item's tombstone
    struct sequence_entry entry;
};

static uint64_t id_of(uint32_t n)
{
    return hash_mix(n + 7u) | 1;
}

static struct event *events_new(uint64_t seed)
{
    struct event *events = mem_array(EVENTS, sizeof *events);
    struct rng r = rng_of(seed);
    int64_t now = INT64_C(1767225600000);
    int64_t watermark = INT64_MIN;
    for (uint32_t i = 0; i < EVENTS; i++) {
        now += (int64_t)rng_below(&r, rng_below(&r, 200) == 0 ? 4 * (uint64_t)HOUR : 4 * MINUTE);
        int64_t late = (int64_t)rng_below(&r, rng_below(&r, 12) == 0 ? 5 * (uint64_t)HOUR : MINUTE);
        struct event *e = &events[i];
        *e = (struct event){.user = (uint32_t)rng_below(&r, rng_below(&r, 3) ? 4 : USERS),
                            .item = (uint32_t)rng_below(&r, rng_below(&r, 3) ? 3 : ITEMS),
                            .grouping = (uint32_t)rng_below(&r, GROUPINGS),
                            .value = (uint32_t)rng_below(&r, VALUES),
                            .ts = now - late,
                            .at = now - (int64_t)rng_below(&r, rng_below(&r, 4) == 0 ? HOUR : 1000),
                            .watermark = watermark,
                            .measure = (uint8_t)rng_below(&r, MEASURES),
                            .partition = (uint16_t)rng_below(&r, PARTITIONS),
                            .n = rng_below(&r, 5) == 0 ? 1000 : 1,
                            .create = rng_below(&r, 3) > 0,
                            .removes = rng_below(&r, 15) == 0,
                            .gone = rng_below(&r, 25) == 0};
        e->entry = (struct sequence_entry){.item = id_of(100 + e->item),
                                           .ts = e->ts,
                                           .category = rng_below(&r, 3),
                                           .author = rng_below(&r, 2) ? UINT64_C(1) << 60 : e->item,
                                           .dwell_ms = (uint32_t)rng_below(&r, 100000)};
        if (rng_below(&r, 3) == 0 && now - 5000 > watermark)
            watermark = now - 5000;
    }
    return events;
}

// ---- the model --------------------------------------------------------------------------------------------

struct count {
    int64_t ts;
    uint8_t measure;
    uint64_t n;
};

struct list {
    struct sequence_entry *at;
    uint32_t n;
};

struct thing {
    bool exists;
    int64_t first_ts, last_ts;
    struct count counts[EVENTS];
    uint32_t n;
    struct list lists[SEQUENCES];
};

struct model {
    struct thing *things;
    int64_t watermark;
    struct {
        uint64_t id;
        int64_t ts;
    } gone[GONE_MAX + 1];
    uint32_t n_gone;
    uint64_t expired, hidden; // how often: the events must not miss what they are for
};

static struct thing *user_of(struct model *m, uint32_t user)
{
    return &m->things[user];
}

static struct thing *item_of(struct model *m, uint32_t item)
{
    return &m->things[USERS + item];
}

static struct thing *group_of(struct model *m, enum group_of of, uint32_t owner, uint32_t grouping,
                              uint32_t value)
{
    uint32_t row = of == GROUP_OF_USER ? owner : of == GROUP_OF_ITEM ? USERS + owner : USERS + ITEMS;
    return &m->things[USERS + ITEMS + row * GROUPS_OF_USER + grouping * VALUES + value];
}

static void thing_forget(struct thing *t)
{
    for (int s = 0; s < SEQUENCES; s++)
        t->lists[s].n = 0;
    t->exists = false;
    t->n = 0;
}

static bool model_over(const struct model *m, const struct thing *t, int64_t step, int64_t expire)
{
    return t->exists && m->watermark != INT64_MIN && t->last_ts / step * step + step + expire <= m->watermark;
}

// What is over is forgotten, and its groups: it makes no difference whether it is now or later.
static void model_expire(struct model *m)
{
    for (uint32_t owner = 0; owner < USERS + ITEMS; owner++) {
        bool user = owner < USERS;
        struct thing *t = &m->things[owner];
        if (!model_over(m, t, user ? STEP_USER : STEP_ITEM, user ? 2 * HOUR : 3 * HOUR))
            continue;
        thing_forget(t);
        m->expired++;
        for (uint32_t g = 0; g < GROUPS_OF_USER; g++)
            thing_forget(&m->things[USERS + ITEMS + owner * GROUPS_OF_USER + g]);
    }
}

static void thing_seen(const struct model *m, struct thing *t, int64_t ts)
{
    int64_t seen = ts > m->watermark ? ts : m->watermark;
    if (!t->exists)
        t->first_ts = ts;
    t->last_ts = !t->exists || seen > t->last_ts ? seen : t->last_ts;
    t->exists = true;
}

static void thing_count(const struct model *m, struct thing *t, const struct event *e)
{
    thing_seen(m, t, e->ts);
    t->counts[t->n++] = (struct count){e->ts, e->measure, e->n};
}

static uint64_t thing_window(const struct model *m, const struct thing *t, uint8_t measure, uint32_t window,
                             int64_t at)
{
    const struct state_window *w = &options.windows[window];
    uint64_t sum = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        int64_t tile = t->counts[i].ts / w->tile_ms;
        bool alive = m->watermark < 0 || tile > m->watermark / w->tile_ms - w->tiles;
        bool inside = tile <= at / w->tile_ms && tile > at / w->tile_ms - w->tiles;
        sum += t->counts[i].measure == measure && alive && inside ? t->counts[i].n : 0;
    }
    return sum;
}

static uint64_t thing_total(const struct thing *t, uint8_t measure)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < t->n; i++)
        sum += t->counts[i].measure == measure ? t->counts[i].n : 0;
    return sum;
}

static bool model_hides(const struct model *m, uint8_t number, const struct sequence_entry *x)
{
    for (uint32_t i = 0; options.sequences[number].gone && i < m->n_gone; i++)
        if (m->gone[i].id == x->item && x->ts <= m->gone[i].ts)
            return true;
    return false;
}

static void list_cut(struct list *l, uint32_t i)
{
    memmove(&l->at[i], &l->at[i + 1], (--l->n - i) * sizeof *l->at);
}

static void model_add(struct model *m, struct thing *t, uint8_t number, const struct sequence_entry *x)
{
    struct list *l = &t->lists[number - SET];
    thing_seen(m, t, x->ts);
    for (uint32_t i = l->n; i > 0; i--)
        if (model_hides(m, number, &l->at[i - 1])) {
            list_cut(l, i - 1);
            m->hidden++;
        }
    if (model_hides(m, number, x))
        return;
    for (uint32_t i = l->n; options.sequences[number].unique && i > 0; i--) {
        if (l->at[i - 1].item != x->item)
            continue;
        if (l->at[i - 1].ts > x->ts)
            return;
        list_cut(l, i - 1);
    }
    uint32_t at = l->n++;
    for (; at > 0 && l->at[at - 1].ts > x->ts; at--)
        l->at[at] = l->at[at - 1];
    l->at[at] = *x;
    if (l->n > options.sequences[number].last)
        list_cut(l, 0);
}

static uint32_t model_remove(struct thing *t, uint8_t number, uint64_t item)
{
    struct list *l = &t->lists[number - SET];
    uint32_t n = l->n;
    for (uint32_t i = n; i > 0; i--)
        if (l->at[i - 1].item == item)
            list_cut(l, i - 1);
    return n - l->n;
}

static void model_gone(struct model *m, uint64_t id, int64_t ts)
{
    uint32_t i = 0;
    while (i < m->n_gone && m->gone[i].id != id)
        i++;
    if (i == m->n_gone)
        m->gone[m->n_gone++].id = id;
    else if (m->gone[i].ts > ts)
        return;
    m->gone[i].ts = ts;
    if (m->n_gone <= GONE_MAX)
        return;
    uint32_t oldest = 0;
    for (i = 1; i < m->n_gone; i++)
        if (m->gone[i].ts < m->gone[oldest].ts ||
            (m->gone[i].ts == m->gone[oldest].ts && m->gone[i].id < m->gone[oldest].id))
            oldest = i;
    m->gone[oldest] = m->gone[--m->n_gone];
}

static struct model *model_new(void)
{
    struct model *m = mem_zalloc(sizeof *m);
    m->watermark = INT64_MIN;
    m->things = mem_array(THINGS, sizeof *m->things);
    for (uint32_t i = 0; i < THINGS; i++) {
        m->things[i] = (struct thing){0};
        for (int s = 0; s < SEQUENCES; s++)
            m->things[i].lists[s].at = mem_array(EVENTS + 1, sizeof *m->things[i].lists[s].at);
    }
    return m;
}

static void model_free(struct model *m)
{
    for (uint32_t i = 0; i < THINGS; i++)
        for (int s = 0; s < SEQUENCES; s++)
            free(m->things[i].lists[s].at);
    free(m->things);
    free(m);
}

// ---- reading: into one number -----------------------------------------------------------------------------

static uint64_t mix_entry(uint64_t sum, const struct sequence_entry *x, uint8_t with)
{
    sum = hash_mix(sum + x->item);
    sum = hash_mix(sum + (uint64_t)x->ts);
    sum = hash_mix(sum + (with & SEQUENCE_CATEGORY ? x->category : 0));
    sum = hash_mix(sum + (with & SEQUENCE_AUTHOR ? x->author : 0));
    return hash_mix(sum + (with & SEQUENCE_DWELL ? x->dwell_ms : 0));
}

static uint64_t model_read(const struct model *m, const struct thing *t, const struct event *e)
{
    if (!t->exists)
        return 1;
    uint64_t sum = (uint64_t)t->first_ts;
    for (uint8_t measure = 0; measure < MEASURES; measure++) {
        for (uint32_t w = 0; w < options.n_windows; w++)
            sum = hash_mix(sum + thing_window(m, t, measure, w, e->at));
        sum = hash_mix(sum + thing_total(t, measure));
    }
    for (uint8_t s = SET; s < SET + SEQUENCES; s++) {
        bool has = false;
        for (uint32_t i = t->lists[s - SET].n; i > 0; i--) {
            const struct sequence_entry *x = &t->lists[s - SET].at[i - 1];
            if (model_hides(m, s, x))
                continue;
            sum = mix_entry(sum, x, options.sequences[s].with);
            has |= x->item == e->entry.item;
        }
        sum = hash_mix(sum + has);
    }
    return sum;
}

static uint64_t real_read(struct entities *es, struct entity *t, const struct event *e)
{
    static struct sequence_entry entries[300];
    if (t == NULL || entity_first_ts(t) == 0)
        return 1; // absent, or was made a moment ago
    uint64_t sum = (uint64_t)entity_first_ts(t);
    for (uint8_t measure = 0; measure < MEASURES; measure++) {
        for (uint32_t w = 0; w < options.n_windows; w++)
            sum = hash_mix(sum + entities_window(es, t, measure, w, e->at));
        sum = hash_mix(sum + entities_total(t, measure));
    }
    for (uint8_t s = SET; s < SET + SEQUENCES; s++) {
        uint32_t n = entities_sequence(es, t, s, 300, entries);
        for (uint32_t i = 0; i < n; i++)
            sum = mix_entry(sum, &entries[i], UINT8_MAX); // what is not kept reads 0
        sum = hash_mix(sum + entities_sequence_has(es, t, s, e->entry.item));
    }
    return sum;
}

// The columns of a body must be the entries of a read.
static void check_columns(struct entities *es, struct entity *t, uint8_t number)
{
    static struct sequence_entry entries[300];
    struct sequence_snapshot place = {.at = UINT32_MAX};
    struct buf b = {0};
    uint8_t with = SEQUENCE_TIME | SEQUENCE_CATEGORY | SEQUENCE_AUTHOR | SEQUENCE_DWELL;
    uint32_t n = entities_sequence(es, t, number, 20, entries);
    entities_sequence_put(es, t, number, 20, with, &place, &b);
    struct rd rd = rd_of(b.data, b.len);
    cr_assert_eq(rd_varint(&rd), n + 1);
    for (uint32_t i = 0; i < n; i++)
        cr_assert_eq(rd_u64(&rd), entries[i].item);
    for (uint32_t i = 0; i < n; i++)
        cr_assert_eq((int64_t)rd_u64(&rd), entries[i].ts);
    for (uint32_t i = 0; i < n; i++)
        cr_assert_eq(rd_u64(&rd), entries[i].category);
    for (uint32_t i = 0; i < n; i++)
        cr_assert_eq(rd_u64(&rd), entries[i].author);
    for (uint32_t i = 0; i < n; i++)
        cr_assert_eq(rd_u32(&rd), entries[i].dwell_ms);
    cr_assert(!rd.bad && rd_left(&rd) == 0);
    buf_done(&b);
}

// ---- the events, for the model ----------------------------------------------------------------------------

static struct thing *model_group(struct model *m, enum group_of of, const struct event *e)
{
    return group_of(m, of, of == GROUP_OF_USER ? e->user : e->item, e->grouping, e->value);
}

static uint64_t model_each(const struct model *m, const struct event *e)
{
    uint64_t sum = 0;
    for (uint32_t g = 0; g < GROUPS_OF_USER; g++) {
        const struct thing *t = &m->things[USERS + ITEMS + e->user * GROUPS_OF_USER + g];
        if (t->exists)
            sum += hash_mix(UINT64_C(1) + g) ^ model_read(m, t, e);
    }
    return sum;
}

static uint64_t model_apply(struct model *m, const struct event *e)
{
    if (e->watermark > m->watermark)
        m->watermark = e->watermark;
    model_expire(m);
    struct thing *user = user_of(m, e->user);
    struct thing *item = item_of(m, e->item);
    uint64_t sum = model_read(m, user, e);
    sum = hash_mix(sum + model_read(m, item, e));
    for (int of = GROUP_OF_USER; of <= GROUP_OF_ALL; of++)
        sum = hash_mix(sum + model_read(m, model_group(m, (enum group_of)of, e), e));
    sum = hash_mix(sum + model_each(m, e));
    thing_count(m, user, e);
    thing_count(m, item, e);
    for (int of = GROUP_OF_USER; e->create && of <= GROUP_OF_ALL; of++)
        thing_count(m, model_group(m, (enum group_of)of, e), e);
    model_add(m, user, SET, &e->entry);
    model_add(m, user, RICH, &e->entry);
    if (e->create)
        model_add(m, model_group(m, GROUP_OF_USER, e), LONG, &e->entry);
    if (e->removes)
        sum = hash_mix(sum + model_remove(user, SET, e->entry.item) * 7 +
                       model_remove(user, RICH, e->entry.item));
    if (e->gone)
        model_gone(m, e->entry.item, e->ts);
    return sum;
}

// ---- the events, for entities -----------------------------------------------------------------------------

struct run {
    struct state_options options;
    const struct schedule *schedule;
    const struct event *events;
    struct store *store;
    struct entities *es;
    struct store_batch *open;   // tombstones go into it at once
    struct store_batch *flight; // not yet durable
    struct buried_list buried;
    struct expiry expiry[EXPIRY_KINDS];
    struct sweep sweep;
    struct buried_list found;
    uint64_t removed[3];
    uint64_t commit;
    uint32_t committed;
    uint64_t reads[EVENTS];
    struct digest digest;
};

static struct str text_of(uint32_t n, char text[24])
{
    snprintf(text, 24, "text-%u", n);
    return str_of(text);
}

static struct entity *owner(struct run *run, enum entity_kind kind, uint32_t n)
{
    char text[24];
    struct entity *e = NULL;
    struct str name = text_of(n, text);
    uint16_t partition = kind == ENTITY_USER ? (uint16_t)(n % PARTITIONS) : 0;
    uint64_t id = id_of(kind == ENTITY_USER ? n : 100 + n);
    cr_assert_eq(entities_get(run->es, kind, partition, id, name, &e, NULL), 0);
    cr_assert(e != NULL && entity_id(e) == id && str_equal(entity_text(e), name));
    return e;
}

static struct group_key key_of(enum group_of of, const struct event *e)
{
    struct group_key key = {
        .of = of,
        .partition = (uint16_t)(e->user % PARTITIONS),
        .owner = of == GROUP_OF_USER   ? id_of(e->user)
                 : of == GROUP_OF_ITEM ? id_of(100 + e->item)
                                       : 0,
        .grouping = (uint8_t)e->grouping,
        .value = e->value == 0 ? 0 : id_of(1000 + e->value),
    };
    return key;
}

static struct entity *group(struct run *run, enum group_of of, const struct event *e, bool create)
{
    char text[24];
    struct group_key key = key_of(of, e);
    struct group_key got;
    struct entity *t = NULL;
    struct str name = text_of(e->value, text);
    for (uint32_t stage = 0; stage < 4; stage++)
        entities_fetch(run->es, entities_group_place(&key), UINT32_MAX, stage);
    cr_assert_eq(entities_group(run->es, &key, create ? name : (struct str){0}, &t, NULL), 0);
    cr_assert(t != NULL || !create);
    if (t == NULL)
        return NULL;
    cr_assert(str_equal(entity_text(t), name));
    entity_group(t, &got);
    cr_assert(got.of == key.of && got.owner == key.owner && got.grouping == key.grouping &&
              got.value == key.value);
    return t;
}

struct seen {
    struct run *run;
    const struct event *event;
    uint64_t sum;
    bool first;
    struct group_key before;
};

static int seen_group(void *context, struct entity *t)
{
    struct seen *s = context;
    struct group_key key;
    entity_group(t, &key);
    cr_assert(s->first || key.grouping > s->before.grouping ||
              (key.grouping == s->before.grouping && key.value > s->before.value));
    uint32_t value = 0;
    while (value < VALUES && (value == 0 ? 0 : id_of(1000 + value)) != key.value)
        value++;
    cr_assert_lt(value, VALUES);
    if (entity_first_ts(t) != 0)
        s->sum += hash_mix(1 + (uint64_t)key.grouping * VALUES + value) ^ real_read(s->run->es, t, s->event);
    s->first = false;
    s->before = key;
    return 0;
}

static uint64_t real_each(struct run *run, const struct event *e)
{
    struct seen s = {run, e, 0, true, {0}};
    struct group_key key = key_of(GROUP_OF_USER, e);
    cr_assert_eq(entities_groups_each(run->es, &key, seen_group, &s, NULL), 0);
    return s.sum;
}

static uint64_t real_apply(struct run *run, const struct event *e)
{
    struct entities *es = run->es;
    entities_watermark(es, e->watermark);
    struct entity *user = owner(run, ENTITY_USER, e->user);
    struct entity *item = owner(run, ENTITY_ITEM, e->item);
    uint64_t sum = real_read(es, user, e);
    sum = hash_mix(sum + real_read(es, item, e));
    for (int of = GROUP_OF_USER; of <= GROUP_OF_ALL; of++)
        sum = hash_mix(sum + real_read(es, group(run, (enum group_of)of, e, false), e));
    sum = hash_mix(sum + real_each(run, e));
    entities_count(es, user, entity_partition(user), e->measure, e->ts, e->n);
    entities_count(es, item, e->partition, e->measure, e->ts, e->n);
    for (int of = GROUP_OF_USER; e->create && of <= GROUP_OF_ALL; of++) {
        struct entity *t = group(run, (enum group_of)of, e, true);
        entities_count(es, t, of == GROUP_OF_USER ? entity_partition(t) : e->partition, e->measure, e->ts,
                       e->n);
    }
    entities_sequence_add(es, user, SET, &e->entry);
    entities_sequence_add(es, user, RICH, &e->entry);
    if (e->create)
        entities_sequence_add(es, group(run, GROUP_OF_USER, e, false), LONG, &e->entry);
    if (e->removes) {
        uint32_t set = entities_sequence_remove(es, user, SET, e->entry.item);
        sum = hash_mix(sum + set * 7 + entities_sequence_remove(es, user, RICH, e->entry.item));
    }
    if (e->gone)
        entities_gone(es, e->entry.item, e->ts, run->open);
    check_columns(es, user, RICH);
    return sum;
}

// ---- one run: what commit.c does, without a thread --------------------------------------------------------

static void run_durable(struct run *run)
{
    if (run->flight == NULL)
        return;
    cr_assert_eq(sweep_delete(run->store, &run->buried, run->flight, run->removed, NULL), 0);
    buried_done(&run->buried);
    cr_assert_eq(store_ingest(run->store, run->flight, NULL), 0);
    store_batch_free(run->flight);
    run->flight = NULL;
    entities_swept(run->es, &run->found);
    buried_done(&run->found);
    entities_durable(run->es, run->commit);
    cr_assert_eq(sweep_run(run->store, run->expiry, run->schedule->sweep, &run->sweep, NULL), 0);
    run->found = run->sweep.found;
    run->sweep.found = (struct buried_list){0};
}

static void run_commit(struct run *run, uint32_t events, bool lag)
{
    run_durable(run);
    entities_batch(run->es, ++run->commit, run->open);
    run->buried = entities_buried(run->es, run->commit);
    memcpy(run->expiry, entities_expiry(run->es), sizeof run->expiry);
    run->flight = run->open;
    run->open = store_batch_new();
    run->committed = events;
    if (!lag)
        run_durable(run);
}

static uint32_t run_open(struct run *run)
{
    entities_free(run->es);
    buried_done(&run->found);
    store_batch_free(run->open);
    run->open = store_batch_new();
    run->es = entities_new(&run->options, run->store, run->store->n == 0);
    if (run->committed > 0)
        entities_watermark(run->es, run->events[run->committed - 1].watermark);
    cr_assert_eq(entities_gone_load(run->es, run->open, NULL), 0);
    return run->committed;
}

static int digest_entity(void *context, struct entity *e)
{
    struct run *run = context;
    struct buf b = {0};
    buf_put(&b, &run->digest, sizeof run->digest);
    entities_counters_put(run->es, e, &b);
    entities_sequences_put(run->es, e, &b);
    run->digest = digest_bytes(b.data, b.len);
    buf_done(&b);
    return 0;
}

static void run_apply(struct run *run, uint32_t i)
{
    run->reads[i] = real_apply(run, &run->events[i]);
}

static void run_trim(struct run *run)
{
    entities_trim(run->es);
}

static const struct schedule_calls calls = {run_apply, run_commit, run_trim, run_durable, run_open};

static struct run *run_new(const struct event *events, const struct schedule *s)
{
    struct run *run = mem_zalloc(sizeof *run);
    run->options = options;
    run->options.cache_bytes = s->cache_bytes;
    run->schedule = s;
    run->events = events;
    run->open = store_batch_new();
    cr_assert_eq(store_open("", NULL, &run->store, NULL), 0);
    schedule_run(s, &calls, run, EVENTS);
    for (int kind = ENTITY_USER; kind <= ENTITY_GROUP; kind++)
        cr_assert_eq(entities_each(run->es, (enum entity_kind)kind, digest_entity, run, NULL), 0);
    return run;
}

static void run_free(struct run *run)
{
    entities_free(run->es);
    buried_done(&run->found);
    store_batch_free(run->open);
    store_close(run->store);
    free(run);
}

static const struct schedule schedules[] = {
    {"everything in memory", UINT64_C(1) << 30, EVENTS * 10, EVENTS, 0, 0, false, 0},
    {"a commit an event, nothing cached", 0, 1, 1, 0, 0, false, 0},
    {"small cache, swept", 40000, 20, 5, 0, 0, false, 30},
    {"commits that take long", 40000, 20, 5, 0, 0, true, 1000},
    {"restarts", 60000, 50, 10, 100, 0, false, 200},
    {"crashes", 60000, 50, 10, 0, 100, true, 200},
    {"restarts with a large cache", UINT64_C(1) << 30, 300, 10, 500, 700, true, 1000},
    {"a large cache, swept", UINT64_C(1) << 30, 20, 10, 0, 0, true, 1000},
};

static void compare(uint64_t seed)
{
    struct event *events = events_new(seed);
    struct model *m = model_new();
    uint64_t *expected = mem_array(EVENTS, sizeof *expected);
    struct digest digest = {0};
    for (uint32_t i = 0; i < EVENTS; i++)
        expected[i] = model_apply(m, &events[i]);
    cr_assert(m->expired > 50 && m->hidden > 20);
    for (size_t k = 0; k < sizeof schedules / sizeof schedules[0]; k++) {
        struct run *run = run_new(events, &schedules[k]);
        for (uint32_t i = 0; i < EVENTS; i++)
            cr_assert_eq(run->reads[i], expected[i], "%s: event %u reads otherwise", schedules[k].name, i);
        cr_assert(k == 0 || digest_equal(digest, run->digest), "%s: another digest", schedules[k].name);
        digest = run->digest;
        run_free(run);
    }
    free(expected);
    model_free(m);
    free(events);
}

Test(groups, schedules_agree_with_the_model)
{
    compare(1);
    compare(2);
    compare(3);
}

// When all is over the disk has only what belongs to all, and tombstones.
Test(groups, what_is_expired_leaves_the_store)
{
    struct event *events = events_new(4);
    struct run *run = run_new(events, &schedules[2]);
    size_t before = run->store->n;
    entities_watermark(run->es, events[EVENTS - 1].ts + 100 * (int64_t)HOUR);
    for (int i = 0; i < 300; i++)
        run_commit(run, EVENTS, true);
    run_durable(run);
    cr_assert_lt(run->store->n, before);
    for (size_t i = 0; i < run->store->n; i++) {
        const uint8_t *key = (const uint8_t *)run->store->pairs[i].key.s;
        cr_assert(key[0] == KEY_GROUP || key[0] == KEY_GONE);
        cr_assert(key[0] != KEY_GROUP || key[KEY_PREFIX] == GROUP_OF_ALL);
    }
    cr_assert(run->removed[ENTITY_USER] > 0 && run->removed[ENTITY_ITEM] > 0 &&
              run->removed[ENTITY_GROUP] > 0);
    struct entities_figures f;
    entities_trim(run->es);
    entities_figures(run->es, &f);
    cr_assert_eq(f.users + f.items, 0);
    run_free(run);
    free(events);
}

static void group_key_ages(struct str key, int64_t ts)
{
    const uint8_t *bytes = (const uint8_t *)key.s;
    struct rd from = rd_of(bytes + KEY_GROUP_PREFIX + 1, key.len - KEY_GROUP_PREFIX - 1);
    if (bytes[KEY_GROUP_PREFIX] != KEY_SUB_TILES) {
        cr_assert_not(entities_key_expired(&options, ts + 1000 * (int64_t)HOUR, bytes, key.len));
        return;
    }
    int64_t dead = ((int64_t)rd_be32(&from) + 1 + 4) * HOUR - 15 * MINUTE; // of its last tile
    cr_assert_not(entities_key_expired(&options, dead - 1, bytes, key.len));
    cr_assert(entities_key_expired(&options, dead, bytes, key.len));
}

// Groups of one owner, some with more keys than a walk passes one by one, lie side by side; each is found once, and
// not those of another.
Test(groups, an_owner_is_walked_over)
{
    int64_t ts = INT64_C(1767225600000);
    struct store *store = NULL;
    struct buried_list l = {0};
    cr_assert_eq(store_open("", NULL, &store, NULL), 0);
    struct entities *es = entities_new(&options, store, true);
    struct store_batch *b = store_batch_new();
    for (uint32_t i = 0; i < 24; i++) {
        struct entity *e;
        struct group_key key = {
            .of = (enum group_of)(i % 2), .owner = 5, .grouping = (uint8_t)(i % 3), .value = i};
        cr_assert_eq(entities_group(es, &key, str_of("t"), &e, NULL), 0);
        for (uint32_t hour = 0; hour <= i; hour++)
            entities_count(es, e, 0, 0, ts + hour * (int64_t)HOUR, 1);
    }
    entities_batch(es, 1, b);
    cr_assert_eq(store_ingest(store, b, NULL), 0);
    for (size_t i = 0; i < store->n; i++)
        group_key_ages(store->pairs[i].key, ts);
    cr_assert_eq(groups_stored(store, &(struct group_key){.of = GROUP_OF_ITEM, .owner = 5}, &l, NULL), 0);
    cr_assert_eq(l.n, 12);
    for (uint32_t i = 0; i < l.n; i++) {
        const struct group_key *g = &l.at[i].group;
        cr_assert(g->of == GROUP_OF_ITEM && g->owner == 5 && g->value % 2 == 1 &&
                  g->grouping == g->value % 3);
        cr_assert(i == 0 || g->grouping > l.at[i - 1].group.grouping || g->value > l.at[i - 1].group.value);
    }
    buried_done(&l);
    store_batch_free(b);
    entities_free(es);
    store_close(store);
}
