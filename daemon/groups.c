// SPDX-License-Identifier: Apache-2.0
// See groups.h. Per message there is a table of bucket values and one of groups, a row for the message itself and
// one for each item; whoever asks fills in a cell.
//
// A group is four cache misses away, each behind the one before: a slot of the table, the group, its counter, the
// newest tile. Where the bucket stands in the message itself, its cells are filled in some messages before it is its
// turn, and it then goes through four stages, FETCH_STEP messages apart. Messages come out of the queue as they went
// in; one that did not (the first of a poll, one of many items) begins with an empty table.
#include "daemon/groups.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/mem.h"
#include "base/number.h"

enum {
    SMALL = 128,
    GROUPINGS = CONFIG_GROUPINGS_MAX + 1,
    HOUR_MS = 3600000,
    QUEUE = 16, // messages ahead; a power of two
    FETCH_STEP = 2,
    FETCH_STAGES = 4,
    AHEAD_ITEMS = 16, // of a message; one of more fills the caches by itself
};

struct bucket_plan {
    const struct config_bucket *config;
    struct attribute_plan of[2];
    bool by_item;
    bool by_profile;
};

// A cell: what bucket an item is in.
struct bucket_value {
    bool known;
    uint64_t hash; // 0: in none
    struct str text;
};

// A cell: a group, and where it is looked for (state_group_place); 0: not known, or it is in no bucket.
struct group_cell {
    uint64_t place;
    struct entity *found;
};

struct message {
    struct groups_of of;
    uint32_t measures;  // of which counters are fetched
    bool ahead;         // of->user is not known yet
    struct str profile; // of the user
    uint32_t cap_rows;
    struct bucket_value *values; // (1 + items) x n_buckets
    struct group_cell *cells;    // (1 + items) x (n_groupings + 1), the total of everything last
    struct arena texts;
};

struct groups {
    const struct config *config;
    struct bucket_plan plans[CONFIG_BUCKETS_MAX];
    bool use_profile;
    struct str small_text[SMALL]; // "0", "1", ...
    uint64_t small_hash[SMALL];
    char small_bytes[SMALL][4];
    uint8_t ahead[GROUPINGS]; // groupings that are counted, and are known before any profile
    uint32_t n_ahead;
    bool is_ahead[GROUPINGS];
    struct message *now; // at hand: `alone`, or one of the queue
    struct message alone;
    struct message queue[QUEUE];
    uint32_t head, tail;   // of the queue, counted on
    struct message *taken; // out of the queue; NULL: it was not there
};

static bool plan_by_item(const struct bucket_plan *p)
{
    if (p->config->kind == CONFIG_BUCKET_HOUR || p->config->kind == CONFIG_BUCKET_WEEKDAY)
        return false;
    bool second = p->config->kind == CONFIG_BUCKET_GEOHASH && p->of[1].of == CONFIG_OF_ITEM;
    return p->of[0].of == CONFIG_OF_ITEM || second;
}

static bool plan_by_profile(const struct bucket_plan *p)
{
    if (p->config->kind == CONFIG_BUCKET_HOUR || p->config->kind == CONFIG_BUCKET_WEEKDAY)
        return false;
    bool second = p->config->kind == CONFIG_BUCKET_GEOHASH && p->of[1].of != CONFIG_OF_CONTEXT;
    return p->of[0].of != CONFIG_OF_CONTEXT || second;
}

static void ahead_add(struct groups *g, uint32_t grouping)
{
    g->ahead[g->n_ahead++] = (uint8_t)grouping;
    g->is_ahead[grouping] = true;
}

struct groups *groups_new(const struct config *config)
{
    struct groups *g = mem_zalloc(sizeof *g);
    g->config = config;
    for (uint32_t i = 0; i < config->n_buckets; i++) {
        struct bucket_plan *p = &g->plans[i];
        p->config = &config->buckets[i];
        p->of[0] = attribute_plan_of(&p->config->of[0]);
        p->of[1] = attribute_plan_of(&p->config->of[1]);
        p->by_item = plan_by_item(p);
        p->by_profile = plan_by_profile(p);
    }
    for (uint32_t i = 0; i < config->n_groupings; i++) {
        const struct bucket_plan *p = &g->plans[config->groupings[i].bucket];
        g->use_profile |= p->of[0].of == CONFIG_OF_USER || p->of[1].of == CONFIG_OF_USER;
        if (config->groupings[i].counted && !p->by_profile)
            ahead_add(g, i);
    }
    if (config->total_of_all)
        ahead_add(g, CONFIG_GROUPING_TOTAL);
    g->now = &g->alone;
    for (int i = 0; i < SMALL; i++) {
        size_t n = number_put_int(i, g->small_bytes[i]);
        g->small_text[i] = (struct str){g->small_bytes[i], (uint32_t)n};
        g->small_hash[i] = hash_id(g->small_text[i]);
    }
    return g;
}

static void message_done(struct message *m)
{
    free(m->values);
    free(m->cells);
    arena_done(&m->texts);
}

void groups_free(struct groups *g)
{
    if (g == NULL)
        return;
    message_done(&g->alone);
    for (int i = 0; i < QUEUE; i++)
        message_done(&g->queue[i]);
    free(g);
}

bool groups_use_profile(const struct groups *g)
{
    return g->use_profile;
}

// Empty tables.
static void message_begin(const struct groups *g, struct message *m, const struct groups_of *of, bool ahead)
{
    size_t rows = of->event->n_items + (size_t)1;
    size_t buckets = g->config->n_buckets;
    size_t cells = g->config->n_groupings + (size_t)1;
    m->of = *of;
    m->measures = UINT32_MAX;
    m->ahead = ahead;
    m->profile = (struct str){0};
    if (rows > m->cap_rows) {
        m->cap_rows = (uint32_t)rows;
        m->values = mem_resize(m->values, rows * (buckets + 1), sizeof *m->values);
        m->cells = mem_resize(m->cells, rows * cells, sizeof *m->cells);
    }
    memset(m->values, 0, rows * buckets * sizeof *m->values);
    memset(m->cells, 0, rows * cells * sizeof *m->cells);
    arena_clear(&m->texts);
}

static void message_profile(struct message *m)
{
    m->profile = m->of.profile == NULL ? (struct str){0} : state_profile(m->of.profile, NULL);
}

void groups_begin(struct groups *g, const struct groups_of *of)
{
    g->now = &g->alone;
    message_begin(g, g->now, of, false);
    message_profile(g->now);
}

void groups_take(struct groups *g, const struct event *e)
{
    struct message *first = &g->queue[g->head % QUEUE];
    bool there = g->head != g->tail && first->of.event == e;
    g->taken = there ? first : NULL;
    g->head += there;
}

void groups_begin_taken(struct groups *g, const struct groups_of *of)
{
    if (g->taken == NULL) {
        groups_begin(g, of);
        return;
    }
    assert(g->taken->of.event == of->event && g->taken->of.partition == of->partition);
    g->now = g->taken;
    g->taken = NULL;
    g->now->of = *of;
    message_profile(g->now);
}

// ---- buckets ----------------------------------------------------------------------------------------------

bool groups_geohash(double lat, double lon, uint32_t precision, char *ret_text)
{
    static const char digits[] = "0123456789bcdefghjkmnpqrstuvwxyz";
    double low[2] = {-180, -90}, high[2] = {180, 90};
    const double at[2] = {lon, lat};
    if (!(fabs(lat) <= 90) || !(fabs(lon) <= 180))
        return false;
    for (uint32_t i = 0; i < precision; i++) {
        uint32_t digit = 0;
        for (uint32_t bit = 0; bit < 5; bit++) {
            uint32_t axis = (i * 5 + bit) & 1; // longitude first
            double middle = (low[axis] + high[axis]) / 2;
            bool above = at[axis] >= middle;
            digit = digit << 1 | above;
            *(above ? &low[axis] : &high[axis]) = middle;
        }
        ret_text[i] = digits[digit];
    }
    return true;
}

static void value_small(const struct groups *g, uint32_t n, struct bucket_value *ret)
{
    assert(n < SMALL);
    ret->text = g->small_text[n];
    ret->hash = g->small_hash[n];
}

static void value_text(struct bucket_value *ret, struct str text, uint64_t hash)
{
    if (text.len == 0)
        return; // no text is no value
    ret->text = text;
    ret->hash = hash != 0 ? hash : hash_id(text);
}

// The first characters, never a part of one.
static struct str text_prefix(struct str s, uint32_t characters)
{
    uint32_t n = 0;
    while (n < s.len && ((s.s[n] & 0xc0) == 0x80 || characters-- > 0))
        n++;
    return (struct str){s.s, n};
}

static void value_number(const struct groups *g, const struct config_bucket *b, const struct attribute *a,
                         struct bucket_value *ret)
{
    uint32_t n = 0;
    if (a->type != VALUE_NUMBER)
        return;
    while (n < b->n_edges && b->edges[n] <= a->number)
        n++;
    value_small(g, n, ret);
}

static void value_place(struct message *m, const struct bucket_plan *p, const struct attribute *lat,
                        struct str item, struct bucket_value *ret)
{
    struct attribute lon;
    attribute_find(&p->of[1], m->of.event, p->of[1].of == CONFIG_OF_ITEM ? item : m->profile, &lon);
    char *text = arena_alloc(&m->texts, 16, 1);
    if (lat->type == VALUE_NUMBER && lon.type == VALUE_NUMBER &&
        groups_geohash(lat->number, lon.number, p->config->precision, text))
        value_text(ret, (struct str){text, p->config->precision}, 0);
}

uint32_t groups_hour(int64_t ts, double offset_hours, bool weekday)
{
    int64_t ms = ts + (int64_t)(offset_hours * HOUR_MS);
    int64_t hours = ms / HOUR_MS - (ms % HOUR_MS < 0); // floors, also before 1970
    int64_t days = hours / 24 - (hours % 24 < 0);
    // 1970-01-01 was a Thursday: 3 counting from Monday.
    int64_t day = (days + 3) % 7;
    return (uint32_t)(!weekday ? hours - 24 * days : day < 0 ? day + 7 : day);
}

static void bucket_eval(const struct groups *g, struct message *m, const struct bucket_plan *p,
                        struct str item, struct bucket_value *ret)
{
    struct attribute a;
    ret->known = true;
    if (p->config->kind == CONFIG_BUCKET_HOUR || p->config->kind == CONFIG_BUCKET_WEEKDAY) {
        value_small(
            g,
            groups_hour(m->of.event->ts, p->config->offset_hours, p->config->kind == CONFIG_BUCKET_WEEKDAY),
            ret);
        return;
    }
    attribute_find(&p->of[0], m->of.event, p->of[0].of == CONFIG_OF_ITEM ? item : m->profile, &a);
    if (p->config->kind == CONFIG_BUCKET_EDGES)
        value_number(g, p->config, &a, ret);
    else if (p->config->kind == CONFIG_BUCKET_GEOHASH)
        value_place(m, p, &a, item, ret);
    else if (p->config->kind == CONFIG_BUCKET_VALUE)
        value_text(ret, attribute_text(&a, arena_alloc(&m->texts, NUMBER_TEXT, 1)), a.hash);
    else if (a.type == VALUE_STRING)
        value_text(ret, text_prefix(a.text, p->config->prefix), 0);
}

static uint32_t bucket_row(const struct groups *g, uint32_t bucket, uint32_t item)
{
    return g->plans[bucket].by_item ? item + 1 : 0;
}

static const struct bucket_value *bucket_at(const struct groups *g, struct message *m, uint32_t bucket,
                                            uint32_t item)
{
    uint32_t row = bucket_row(g, bucket, item);
    struct bucket_value *v = &m->values[(size_t)row * g->config->n_buckets + bucket];
    if (!v->known) {
        const struct entity *e = row > 0 && m->of.items != NULL ? m->of.items[item] : NULL;
        bucket_eval(g, m, &g->plans[bucket], e == NULL ? (struct str){0} : state_profile(e, NULL), v);
    }
    return v;
}

struct str groups_bucket(struct groups *g, uint32_t grouping, uint32_t item)
{
    if (grouping == CONFIG_GROUPING_TOTAL)
        return (struct str){"", 0};
    return bucket_at(g, g->now, g->config->groupings[grouping].bucket, item)->text;
}

// ---- groups -----------------------------------------------------------------------------------------------

bool groups_by_item(const struct groups *g, uint32_t grouping)
{
    if (grouping == CONFIG_GROUPING_TOTAL)
        return false;
    const struct config_grouping *c = &g->config->groupings[grouping];
    return c->of == GROUP_OF_ITEM || g->plans[c->bucket].by_item;
}

static bool group_key_of(const struct groups *g, struct message *m, uint32_t grouping, uint32_t item,
                         struct group_key *ret_key, struct str *ret_text)
{
    *ret_key = (struct group_key){.of = GROUP_OF_ALL, .grouping = (uint8_t)grouping};
    *ret_text = (struct str){"", 0};
    if (grouping == CONFIG_GROUPING_TOTAL)
        return true;
    const struct config_grouping *c = &g->config->groupings[grouping];
    const struct bucket_value *v = bucket_at(g, m, c->bucket, item);
    const struct event *e = m->of.event;
    ret_key->of = c->of;
    ret_key->value = v->hash;
    *ret_text = v->text;
    if (c->of == GROUP_OF_USER) {
        ret_key->owner = e->user;
        ret_key->partition = m->of.partition;
        return v->hash != 0 && (m->ahead || m->of.user != NULL);
    }
    ret_key->owner = c->of == GROUP_OF_ITEM ? e->items[item].id : 0;
    return v->hash != 0;
}

static struct group_cell *cell_at(const struct groups *g, const struct message *m, uint32_t grouping,
                                  uint32_t item)
{
    size_t row = groups_by_item(g, grouping) ? item + (size_t)1 : 0;
    uint32_t n = g->config->n_groupings;
    return &m->cells[row * (n + 1) + (grouping == CONFIG_GROUPING_TOTAL ? n : grouping)];
}

int groups_find(struct groups *g, struct state *s, uint32_t grouping, uint32_t item, bool create,
                struct entity **ret_group, struct err *err)
{
    struct group_cell *cell = cell_at(g, g->now, grouping, item);
    struct group_key key;
    struct str text;
    if (cell->found == NULL && group_key_of(g, g->now, grouping, item, &key, &text) &&
        state_group(s, &key, create ? text : (struct str){0}, &cell->found, err) != 0)
        return -1;
    *ret_group = cell->found;
    return 0;
}

// ---- fetching ---------------------------------------------------------------------------------------------

static void cell_fetch(const struct groups *g, struct message *m, const struct state *s, uint32_t grouping,
                       uint32_t item, uint32_t stage)
{
    struct group_cell *cell = cell_at(g, m, grouping, item);
    struct group_key key;
    struct str text;
    if (stage == 0 && group_key_of(g, m, grouping, item, &key, &text))
        cell->place = state_group_place(&key);
    if (cell->place != 0)
        state_group_fetch(s, cell->place, m->measures, stage);
}

void groups_fetch(struct groups *g, const struct state *s, uint32_t grouping, uint32_t item, uint32_t stage)
{
    if (!g->now->ahead || !g->is_ahead[grouping])
        cell_fetch(g, g->now, s, grouping, item, stage);
}

static void message_fetch(const struct groups *g, struct message *m, const struct state *s, uint32_t stage)
{
    for (uint32_t i = 0; i < g->n_ahead; i++) {
        uint32_t n = groups_by_item(g, g->ahead[i]) ? m->of.event->n_items : 1;
        for (uint32_t k = 0; k < n; k++)
            cell_fetch(g, m, s, g->ahead[i], k, stage);
    }
}

void groups_ahead(struct groups *g, const struct state *s, const struct event *e, uint16_t partition,
                  uint32_t measures)
{
    if (g->n_ahead == 0 || e->n_items > AHEAD_ITEMS || g->tail - g->head == QUEUE)
        return;
    struct message *m = &g->queue[g->tail++ % QUEUE];
    message_begin(g, m, &(struct groups_of){.event = e, .partition = partition}, true);
    m->measures = measures;
    for (uint32_t stage = 0; stage < FETCH_STAGES && g->tail - g->head > stage * FETCH_STEP; stage++)
        message_fetch(g, &g->queue[(g->tail - 1 - stage * FETCH_STEP) % QUEUE], s, stage);
}
