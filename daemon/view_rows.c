// SPDX-License-Identifier: Apache-2.0
#include "daemon/view_rows.h"

#include <stdlib.h>

#include "base/mem.h"

// ---- counters ---------------------------------------------------------------------------------------------

const char *view_measure_name(const struct engine *e, uint32_t measure)
{
    if (measure == MEASURE_WATCH_MS)
        return "watch_ms";
    return measure < e->config->n_actions ? e->config->actions[measure] : NULL;
}

bool view_windows_read(struct engine *e, struct entity *entity, uint8_t measure, int64_t at,
                       struct view_windows *ret_windows)
{
    bool any = false;
    for (uint32_t w = 0; w < e->config->n_windows; w++) {
        ret_windows->windows[w] = state_window(e->state, entity, measure, w, at);
        any |= ret_windows->windows[w] > 0;
    }
    ret_windows->total = e->config->totals ? state_total(e->state, entity, measure) : 0;
    return any || ret_windows->total > 0;
}

void view_windows_json(const struct engine *e, const struct view_windows *w, struct json *j)
{
    json_object(j);
    for (uint32_t i = 0; i < e->config->n_windows; i++) {
        json_key(j, e->config->windows[i].name);
        json_uint(j, w->windows[i]);
    }
    if (e->config->totals) {
        json_key(j, "total");
        json_uint(j, w->total);
    }
    json_end(j);
}

// ---- sequences --------------------------------------------------------------------------------------------

static void text_json(struct engine *e, const char *key, uint64_t id, struct json *j)
{
    json_key(j, key);
    features_text_json(e->state, id, j);
}

static void entry_json(struct engine *e, const struct config_sequence *c, const struct sequence_entry *entry,
                       struct json *j)
{
    json_object(j);
    text_json(e, c->keeps_attribute ? "value" : "item_id", entry->item, j);
    json_key(j, "ts");
    json_int(j, entry->ts);
    if (c->with & SEQUENCE_CATEGORY)
        text_json(e, "category", entry->category, j);
    if (c->with & SEQUENCE_AUTHOR)
        text_json(e, "author", entry->author, j);
    if (c->with & SEQUENCE_DWELL) {
        json_key(j, "dwell_ms");
        json_uint(j, entry->dwell_ms);
    }
    json_end(j);
}

bool view_sequence_json(struct engine *e, struct entity *owner, uint32_t sequence, struct str key,
                        struct json *j)
{
    const struct config_sequence *c = &e->config->sequences[sequence];
    if (c->name[0] == '\0')
        return false;
    struct sequence_entry *entries = mem_array(c->last, sizeof *entries);
    uint32_t n = state_sequence(e->state, owner, (uint8_t)sequence, c->last, entries);
    if (n > 0) {
        json_key_n(j, key.s, key.len); // before the entries: it may be of an entity, which reads can move
        json_array(j);
        for (uint32_t i = 0; i < n; i++)
            entry_json(e, c, &entries[i], j);
        json_end(j);
    }
    free(entries);
    return n > 0;
}

// ---- groups -----------------------------------------------------------------------------------------------

int view_group_of(struct engine *e, const struct entity *group, struct view_group *ret_group, struct err *err)
{
    static const char *const names[] = {"user", "item", "all"};
    struct group_key key;
    struct entity *owner = NULL;
    entity_group(group, &key);
    *ret_group = (struct view_group){.of = names[key.of]};
    if (key.of != GROUP_OF_ALL && state_entity(e->state, key.of == GROUP_OF_USER ? ENTITY_USER : ENTITY_ITEM,
                                               key.of == GROUP_OF_USER ? key.partition : 0, key.owner,
                                               (struct str){0}, &owner, err) != 0)
        return -1;
    if (owner != NULL)
        ret_group->owner = entity_text(owner);
    if (key.grouping == CONFIG_GROUPING_TOTAL)
        return 0;
    if (key.grouping < e->config->n_groupings)
        ret_group->by = e->config->groupings[key.grouping].name;
    ret_group->bucket = entity_text(group);
    return 0;
}

// Groups come in order of (grouping, value): an object is open while the grouping stays the same.
struct groups_json {
    struct engine *e;
    struct json *j;
    int64_t at;
    uint32_t open; // grouping, CONFIG_NONE: none
    uint32_t sequence;
};

static bool group_counters_json(struct groups_json *x, struct entity *group)
{
    bool any = false;
    for (uint32_t m = 0; m < MEASURE_MAX; m++) {
        struct view_windows w;
        const char *name = view_measure_name(x->e, m);
        if (name == NULL || !view_windows_read(x->e, group, (uint8_t)m, x->at, &w))
            continue;
        if (!any)
            json_object(x->j);
        any = true;
        json_key(x->j, name);
        view_windows_json(x->e, &w, x->j);
    }
    if (any)
        json_end(x->j);
    return any;
}

static bool group_counts(struct groups_json *x, struct entity *group)
{
    for (uint32_t m = 0; m < MEASURE_MAX; m++) {
        struct view_windows w;
        if (view_measure_name(x->e, m) != NULL && view_windows_read(x->e, group, (uint8_t)m, x->at, &w))
            return true;
    }
    return false;
}

static int each_counters(void *context, struct entity *group)
{
    struct groups_json *x = context;
    struct group_key key;
    entity_group(group, &key);
    if (key.grouping >= x->e->config->n_groupings || !group_counts(x, group))
        return 0;
    if (x->open != key.grouping) {
        if (x->open != CONFIG_NONE)
            json_end(x->j);
        json_key(x->j, x->e->config->groupings[key.grouping].name);
        json_object(x->j);
        x->open = key.grouping;
    }
    struct str bucket = entity_text(group);
    json_key_n(x->j, bucket.s, bucket.len);
    group_counters_json(x, group);
    return 0;
}

static int each_sequence(void *context, struct entity *group)
{
    struct groups_json *x = context;
    struct group_key key;
    entity_group(group, &key);
    if (x->e->config->sequences[x->sequence].grouping != key.grouping)
        return 0;
    view_sequence_json(x->e, group, x->sequence, entity_text(group), x->j);
    return 0;
}

static int sequences_by_json(struct groups_json *x, enum group_of of, uint16_t partition, uint64_t owner,
                             struct err *err)
{
    const struct config *c = x->e->config;
    json_key(x->j, "sequences_by");
    json_object(x->j);
    for (x->sequence = 0; x->sequence < c->n_sequences; x->sequence++) {
        const struct config_sequence *s = &c->sequences[x->sequence];
        if (s->name[0] == '\0' || s->grouping == CONFIG_NONE)
            continue;
        json_key(x->j, s->name);
        json_object(x->j);
        if (state_groups_each(x->e->state, of, partition, owner, each_sequence, x, err) != 0)
            return -1;
        json_end(x->j);
    }
    json_end(x->j);
    return 0;
}

int view_groups_json(struct engine *e, enum group_of of, uint16_t partition, uint64_t owner, int64_t at,
                     struct json *j, struct err *err)
{
    struct groups_json x = {.e = e, .j = j, .at = at, .open = CONFIG_NONE};
    bool counted = false, kept = false;
    for (uint32_t i = 0; i < e->config->n_groupings; i++)
        counted |= e->config->groupings[i].of == of && e->config->groupings[i].counted;
    for (uint32_t i = 0; i < e->config->n_sequences; i++)
        kept |= e->config->sequences[i].name[0] != '\0' && e->config->sequences[i].grouping != CONFIG_NONE;
    if (counted) {
        json_key(j, "counters_by");
        json_object(j);
        if (state_groups_each(e->state, of, partition, owner, each_counters, &x, err) != 0)
            return -1;
        if (x.open != CONFIG_NONE)
            json_end(j);
        json_end(j);
    }
    return kept && of == GROUP_OF_USER ? sequences_by_json(&x, of, partition, owner, err) : 0;
}
