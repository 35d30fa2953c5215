// SPDX-License-Identifier: Apache-2.0
// The config's features become a list of readings: each distinct counter, attribute, list and sequence is read and
// stored once, however many features use it. Readings of the user's part come first, so that a part is a run of
// them.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "daemon/features_impl.h"

static bool plan_equal(const struct attribute_plan *a, const struct attribute_plan *b)
{
    return a->of == b->of && a->name_hash == b->name_hash && str_equal(a->name, b->name);
}

static bool reading_equal(const struct reading *a, const struct reading *b)
{
    return a->kind == b->kind && a->of == b->of && a->grouping == b->grouping && a->measure == b->measure &&
           a->window == b->window && a->sequence == b->sequence && a->last == b->last &&
           a->precision == b->precision && plan_equal(&a->attribute, &b->attribute) &&
           plan_equal(&a->second, &b->second);
}

static void features_add(struct features *f, uint32_t feature, const struct reading *r)
{
    uint32_t i = 0;
    while (i < f->n_readings && !reading_equal(&f->readings[i], r))
        i++;
    if (i == f->n_readings) {
        assert(f->n_readings < READINGS_MAX);
        f->readings[f->n_readings++] = *r;
    }
    f->readings[i].named |= r->named;
    f->readings[i].with |= r->with;
    f->reads[feature][f->n_reads[feature]++] = i;
}

// ---- readings of a feature --------------------------------------------------------------------------------

struct needs {
    struct reading list[READS_MAX];
    uint32_t n;
};

static struct reading *needs_add(struct needs *needs, enum reading_kind kind)
{
    assert(needs->n < READS_MAX);
    struct reading *r = &needs->list[needs->n++];
    *r = (struct reading){.kind = kind, .grouping = CONFIG_NONE, .of = CONFIG_OF_CONTEXT};
    return r;
}

static void need_counter(const struct features *f, const struct config_feature *c, uint32_t grouping,
                         uint8_t measure, struct needs *needs)
{
    struct reading *r = needs_add(needs, READING_COUNTER);
    r->of = grouping == CONFIG_NONE ? c->ref.of : CONFIG_OF_ALL; // of a group the grouping says it
    r->grouping = grouping;
    r->measure = measure;
    r->window = c->window;
    r->of_item = grouping == CONFIG_NONE ? c->ref.of == CONFIG_OF_ITEM : groups_by_item(f->groups, grouping);
}

static void need_level(const struct features *f, const struct config_feature *c, uint32_t grouping,
                       struct needs *needs)
{
    need_counter(f, c, grouping, c->measure, needs);
    if (c->kind == CONFIG_FEATURE_RATE)
        need_counter(f, c, grouping, c->denominator, needs);
}

static void need_attribute(const struct config_feature *c, enum reading_kind kind, bool named,
                           struct needs *needs)
{
    struct reading *r = needs_add(needs, kind);
    r->attribute = attribute_plan_of(&c->ref);
    r->second = attribute_plan_of(&c->second);
    r->of_item = c->ref.of == CONFIG_OF_ITEM || (kind == READING_PLACE && c->second.of == CONFIG_OF_ITEM);
    r->precision = kind == READING_PLACE ? c->precision : 0;
    r->last = kind == READING_LIST ? c->last : 0;
    r->named = named;
}

static void need_sequence(const struct features *f, const struct config_feature *c, struct needs *needs)
{
    static const uint8_t with[] = {0, SEQUENCE_CATEGORY, SEQUENCE_AUTHOR, SEQUENCE_TIME};
    const struct config_sequence *s = &f->config->sequences[c->sequence];
    struct reading *r = needs_add(needs, READING_SEQUENCE);
    r->grouping = s->grouping;
    r->sequence = c->sequence;
    r->last = c->last;
    r->with = with[c->column];
    r->of_item = s->grouping != CONFIG_NONE && groups_by_item(f->groups, s->grouping);
}

static void need_member(const struct features *f, const struct config_feature *c, struct needs *needs)
{
    const struct config_sequence *s = &f->config->sequences[c->sequence];
    struct reading *r = needs_add(needs, READING_MEMBER);
    r->sequence = c->sequence;
    r->of_item = true;
    if (s->keeps_attribute)
        r->attribute = attribute_plan_of(&s->keep);
}

static void feature_needs(const struct features *f, const struct config_feature *c, struct needs *needs)
{
    switch (c->kind) {
    case CONFIG_FEATURE_COUNT:
    case CONFIG_FEATURE_RATE:
        need_level(f, c, c->grouping, needs);
        for (uint32_t k = 0; k < c->n_parents; k++)
            need_level(f, c, c->parents[k], needs);
        return;
    case CONFIG_FEATURE_ID:
    case CONFIG_FEATURE_NUMBER:
        if (c->ref.field[0] != '\0')
            need_attribute(c, READING_ATTRIBUTE, c->kind == CONFIG_FEATURE_ID, needs);
        return;
    case CONFIG_FEATURE_GEOHASH:
        need_attribute(c, READING_PLACE, true, needs);
        return;
    case CONFIG_FEATURE_IDS:
        need_attribute(c, READING_LIST, true, needs);
        return;
    case CONFIG_FEATURE_SEQUENCE:
        need_sequence(f, c, needs);
        return;
    case CONFIG_FEATURE_AGE:
        needs_add(needs, READING_AGE)->of_item = true;
        return;
    case CONFIG_FEATURE_MEMBER:
        need_member(f, c, needs);
        return;
    case CONFIG_FEATURE_HOUR:
    case CONFIG_FEATURE_WEEKDAY:
    case CONFIG_FEATURE_CROSS:
        return;
    }
}

// The readings of one feature may lie in both parts (an item's rate and its parent's), so both passes go over all.
static void features_compile(struct features *f)
{
    struct needs *all = mem_array(f->config->n_features, sizeof *all);
    for (uint32_t i = 0; i < f->config->n_features; i++) {
        all[i].n = 0;
        feature_needs(f, &f->config->features[i], &all[i]);
    }
    uint32_t(*at)[READS_MAX] = mem_array(f->config->n_features, sizeof *at);
    for (int of_item = 0; of_item < 2; of_item++) {
        for (uint32_t i = 0; i < f->config->n_features; i++)
            for (uint32_t k = 0; k < all[i].n; k++)
                if (all[i].list[k].of_item == (of_item != 0)) {
                    f->n_reads[i] = 0;
                    features_add(f, i, &all[i].list[k]);
                    at[i][k] = f->reads[i][0];
                }
        if (!of_item)
            f->n_user = f->n_readings;
    }
    for (uint32_t i = 0; i < f->config->n_features; i++) {
        f->n_reads[i] = all[i].n;
        memcpy(f->reads[i], at[i], all[i].n * sizeof at[i][0]);
    }
    free(at);
    free(all);
}

static void features_describe(struct features *f)
{
    buf_printf(&f->schema, "body 2;");
    for (uint32_t i = 0; i < f->n_readings; i++) {
        const struct reading *r = &f->readings[i];
        const char *window = r->kind != READING_COUNTER         ? "-"
                             : r->window == CONFIG_WINDOW_TOTAL ? "total"
                                                                : f->config->windows[r->window].name;
        buf_printf(&f->schema, " %u %u %d %u %s %u %u %u %u %u.%.*s %u.%.*s;", (unsigned)r->kind,
                   (unsigned)r->of, r->grouping == CONFIG_NONE ? -1 : (int)r->grouping, (unsigned)r->measure,
                   window, r->sequence, r->last, r->with, r->precision, (unsigned)r->attribute.of,
                   (int)r->attribute.name.len, r->attribute.name.s != NULL ? r->attribute.name.s : "",
                   (unsigned)r->second.of, (int)r->second.name.len,
                   r->second.name.s != NULL ? r->second.name.s : "");
    }
}

struct features *features_new(const struct config *config)
{
    struct features *f = mem_zalloc(sizeof *f);
    f->config = config;
    f->groups = groups_new(config);
    f->birth = attribute_plan_named(config, config->item_birth);
    features_compile(f);
    for (int i = 0; i < SMALL_NUMBERS; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        f->small[i] = hash_id(str_of(text));
    }
    f->missing = hash_id(str_of(""));
    features_describe(f);
    return f;
}

void features_free(struct features *f)
{
    if (f == NULL)
        return;
    features_quantiles_done(f);
    groups_free(f->groups);
    buf_done(&f->schema);
    free(f);
}

struct str features_schema(const struct features *f)
{
    return buf_str(&f->schema);
}

struct groups *features_groups(struct features *f)
{
    return f->groups;
}

bool features_use_profile(const struct features *f)
{
    bool used = groups_use_profile(f->groups);
    for (uint32_t i = 0; i < f->n_readings; i++) {
        const struct reading *r = &f->readings[i];
        bool second = r->kind == READING_PLACE && r->second.of == CONFIG_OF_USER;
        used |= (r->attribute.of == CONFIG_OF_USER && r->attribute.name.len > 0) || second;
    }
    return used;
}

uint32_t features_measures(const struct features *f)
{
    uint32_t measures = 0;
    for (uint32_t i = 0; i < f->n_readings; i++)
        if (f->readings[i].kind == READING_COUNTER)
            measures |= 1u << f->readings[i].measure;
    return measures;
}
