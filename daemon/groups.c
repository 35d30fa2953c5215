// SPDX-License-Identifier: Apache-2.0
// See groups.h. Per message there is a table of bucket values and one of groups, a row for the message itself and
// one for each item; whoever asks fills in a cell.
#include "daemon/groups.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/mem.h"
#include "base/number.h"

enum { SMALL = 128, GROUPINGS = CONFIG_GROUPINGS_MAX + 1, HOUR_MS = 3600000 };

struct bucket_plan {
    const struct config_bucket *config;
    struct attribute_plan of[2];
    bool by_item;
};

// A cell: what bucket an item is in.
struct bucket_value {
    bool known;
    uint64_t hash; // 0: in none
    struct str text;
};

struct groups {
    const struct config *config;
    struct bucket_plan plans[CONFIG_BUCKETS_MAX];
    bool use_profile;
    struct str small_text[SMALL]; // "0", "1", ...
    uint64_t small_hash[SMALL];
    char small_bytes[SMALL][4];
    // the message at hand
    struct groups_of of;
    struct str profile;
    uint32_t cap_rows;
    struct bucket_value *values; // (1 + items) x n_buckets
    struct entity **found;       // (1 + items) x GROUPINGS
    struct arena texts;
};

static bool plan_by_item(const struct bucket_plan *p)
{
    if (p->config->kind == CONFIG_BUCKET_HOUR || p->config->kind == CONFIG_BUCKET_WEEKDAY)
        return false;
    bool second = p->config->kind == CONFIG_BUCKET_GEOHASH && p->of[1].of == CONFIG_OF_ITEM;
    return p->of[0].of == CONFIG_OF_ITEM || second;
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
    }
    for (uint32_t i = 0; i < config->n_groupings; i++) {
        const struct bucket_plan *p = &g->plans[config->groupings[i].bucket];
        g->use_profile |= p->of[0].of == CONFIG_OF_USER || p->of[1].of == CONFIG_OF_USER;
    }
    for (int i = 0; i < SMALL; i++) {
        size_t n = number_put_int(i, g->small_bytes[i]);
        g->small_text[i] = (struct str){g->small_bytes[i], (uint32_t)n};
        g->small_hash[i] = hash_id(g->small_text[i]);
    }
    return g;
}

void groups_free(struct groups *g)
{
    if (g == NULL)
        return;
    free(g->values);
    free(g->found);
    arena_done(&g->texts);
    free(g);
}

bool groups_use_profile(const struct groups *g)
{
    return g->use_profile;
}

void groups_begin(struct groups *g, const struct groups_of *of)
{
    uint32_t rows = of->event->n_items + 1;
    g->of = *of;
    g->profile = of->profile == NULL ? (struct str){0} : state_profile(of->profile, NULL);
    if (rows > g->cap_rows) {
        g->cap_rows = rows;
        g->values = mem_resize(g->values, (size_t)rows * (g->config->n_buckets + 1), sizeof *g->values);
        g->found = mem_resize(g->found, (size_t)rows * GROUPINGS, sizeof *g->found);
    }
    memset(g->values, 0, (size_t)rows * g->config->n_buckets * sizeof *g->values);
    for (uint32_t r = 0; r < rows; r++) {
        struct entity **row = g->found + (size_t)r * GROUPINGS;
        memset(row, 0, g->config->n_groupings * sizeof *row);
        row[CONFIG_GROUPING_TOTAL] = NULL;
    }
    arena_clear(&g->texts);
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

static void value_place(struct groups *g, const struct bucket_plan *p, const struct attribute *lat,
                        struct str item, struct bucket_value *ret)
{
    struct attribute lon;
    attribute_find(&p->of[1], g->of.event, p->of[1].of == CONFIG_OF_ITEM ? item : g->profile, &lon);
    char *text = arena_alloc(&g->texts, 16, 1);
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

static void bucket_eval(struct groups *g, const struct bucket_plan *p, struct str item,
                        struct bucket_value *ret)
{
    struct attribute a;
    ret->known = true;
    if (p->config->kind == CONFIG_BUCKET_HOUR || p->config->kind == CONFIG_BUCKET_WEEKDAY) {
        value_small(
            g,
            groups_hour(g->of.event->ts, p->config->offset_hours, p->config->kind == CONFIG_BUCKET_WEEKDAY),
            ret);
        return;
    }
    attribute_find(&p->of[0], g->of.event, p->of[0].of == CONFIG_OF_ITEM ? item : g->profile, &a);
    if (p->config->kind == CONFIG_BUCKET_EDGES)
        value_number(g, p->config, &a, ret);
    else if (p->config->kind == CONFIG_BUCKET_GEOHASH)
        value_place(g, p, &a, item, ret);
    else if (p->config->kind == CONFIG_BUCKET_VALUE)
        value_text(ret, attribute_text(&a, arena_alloc(&g->texts, NUMBER_TEXT, 1)), a.hash);
    else if (a.type == VALUE_STRING)
        value_text(ret, text_prefix(a.text, p->config->prefix), 0);
}

static uint32_t bucket_row(const struct groups *g, uint32_t bucket, uint32_t item)
{
    return g->plans[bucket].by_item ? item + 1 : 0;
}

static const struct bucket_value *bucket_at(struct groups *g, uint32_t bucket, uint32_t item)
{
    uint32_t row = bucket_row(g, bucket, item);
    struct bucket_value *v = &g->values[(size_t)row * g->config->n_buckets + bucket];
    if (!v->known) {
        const struct entity *e = row > 0 && g->of.items != NULL ? g->of.items[item] : NULL;
        bucket_eval(g, &g->plans[bucket], e == NULL ? (struct str){0} : state_profile(e, NULL), v);
    }
    return v;
}

struct str groups_bucket(struct groups *g, uint32_t grouping, uint32_t item)
{
    if (grouping == CONFIG_GROUPING_TOTAL)
        return (struct str){"", 0};
    return bucket_at(g, g->config->groupings[grouping].bucket, item)->text;
}

// ---- groups -----------------------------------------------------------------------------------------------

bool groups_by_item(const struct groups *g, uint32_t grouping)
{
    if (grouping == CONFIG_GROUPING_TOTAL)
        return false;
    const struct config_grouping *c = &g->config->groupings[grouping];
    return c->of == GROUP_OF_ITEM || g->plans[c->bucket].by_item;
}

static bool group_key_of(struct groups *g, uint32_t grouping, uint32_t item, struct group_key *ret_key,
                         struct str *ret_text)
{
    *ret_key = (struct group_key){.of = GROUP_OF_ALL, .grouping = (uint8_t)grouping};
    *ret_text = (struct str){"", 0};
    if (grouping == CONFIG_GROUPING_TOTAL)
        return true;
    const struct config_grouping *c = &g->config->groupings[grouping];
    const struct bucket_value *v = bucket_at(g, c->bucket, item);
    const struct event *e = g->of.event;
    ret_key->of = c->of;
    ret_key->value = v->hash;
    *ret_text = v->text;
    if (c->of == GROUP_OF_USER) {
        ret_key->owner = e->user;
        ret_key->partition = g->of.partition;
        return v->hash != 0 && g->of.user != NULL;
    }
    ret_key->owner = c->of == GROUP_OF_ITEM ? e->items[item].id : 0;
    return v->hash != 0;
}

int groups_find(struct groups *g, struct state *s, uint32_t grouping, uint32_t item, bool create,
                struct entity **ret_group, struct err *err)
{
    uint32_t row = groups_by_item(g, grouping) ? item + 1 : 0;
    struct entity **cell = &g->found[(size_t)row * GROUPINGS + grouping];
    struct group_key key;
    struct str text;
    if (*cell == NULL && group_key_of(g, grouping, item, &key, &text) &&
        state_group(s, &key, create ? text : (struct str){0}, cell, err) != 0)
        return -1;
    *ret_group = *cell;
    return 0;
}

void groups_fetch(struct groups *g, const struct state *s, uint32_t grouping, uint32_t item, uint32_t stage)
{
    struct group_key key;
    struct str text;
    if (group_key_of(g, grouping, item, &key, &text))
        state_group_fetch(s, &key, stage);
}
