// SPDX-License-Identifier: Apache-2.0
// See remember.h. The config is turned into lists at the start: which groupings depend on the item, which
// sequences an action enters or is taken out of.
#include "daemon/remember.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/number.h"

struct list {
    uint8_t n;
    uint8_t at[STATE_SEQUENCES_MAX > STATE_GROUPINGS_MAX ? STATE_SEQUENCES_MAX : STATE_GROUPINGS_MAX];
};

struct remember {
    const struct config *config;
    struct groups *groups;
    struct state *state;
    struct list of_event; // groupings that are the same for every item of a message
    struct list of_item;
    struct list enters[ACTION_MAX];
    struct list leaves[ACTION_MAX];
    struct attribute_plan category, author;
    struct attribute_plan keep[STATE_SEQUENCES_MAX];
    bool gone;
};

static void list_add(struct list *l, uint32_t v)
{
    l->at[l->n++] = (uint8_t)v;
}

static void remember_sequences(struct remember *r)
{
    for (uint32_t i = 0; i < r->config->n_sequences; i++) {
        const struct config_sequence *s = &r->config->sequences[i];
        if (s->name[0] == '\0')
            continue;
        r->gone |= s->gone;
        if (s->keeps_attribute)
            r->keep[i] = attribute_plan_of(&s->keep);
        for (uint32_t a = 0; a < r->config->n_actions; a++) {
            if (s->actions >> a & 1)
                list_add(&r->enters[a], i);
            if (s->remove_on >> a & 1)
                list_add(&r->leaves[a], i);
        }
    }
}

struct remember *remember_new(const struct config *config, struct groups *groups, struct state *state)
{
    struct remember *r = mem_zalloc(sizeof *r);
    r->config = config;
    r->groups = groups;
    r->state = state;
    r->category = attribute_plan_named(config, config->item_category);
    r->author = attribute_plan_named(config, config->item_author);
    for (uint32_t i = 0; i < config->n_groupings; i++)
        if (config->groupings[i].counted)
            list_add(groups_by_item(groups, i) ? &r->of_item : &r->of_event, i);
    if (config->total_of_all)
        list_add(&r->of_event, CONFIG_GROUPING_TOTAL);
    remember_sequences(r);
    return r;
}

void remember_free(struct remember *r)
{
    free(r);
}

// ---- counters ---------------------------------------------------------------------------------------------

struct amount {
    uint8_t measure;
    uint64_t n;
};

static void count_entity(struct remember *r, const struct groups_of *of, struct entity *e,
                         const struct amount *amounts, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        state_count(r->state, e, of->partition, amounts[i].measure, of->event->ts, amounts[i].n);
}

static int count_groups(struct remember *r, const struct groups_of *of, const struct list *groupings,
                        uint32_t item, const struct amount *amounts, uint32_t n, struct err *err)
{
    for (uint32_t i = 0; i < groupings->n; i++) {
        struct entity *group;
        if (groups_find(r->groups, r->state, groupings->at[i], item, true, &group, err) != 0)
            return -1;
        if (group != NULL)
            count_entity(r, of, group, amounts, n);
    }
    return 0;
}

void remember_fetch(struct remember *r, const struct groups_of *of, uint32_t stage)
{
    for (uint32_t i = 0; i < r->of_event.n; i++)
        groups_fetch(r->groups, r->state, r->of_event.at[i], 0, stage);
    for (uint32_t k = 0; k < of->event->n_items && r->of_item.n > 0; k++)
        for (uint32_t i = 0; i < r->of_item.n; i++)
            groups_fetch(r->groups, r->state, r->of_item.at[i], k, stage);
}

void remember_begin(struct remember *r, const struct groups_of *of)
{
    groups_begin_taken(r->groups, of);
    remember_fetch(r, of, 0);
}

void remember_ahead(struct remember *r, const struct event *e, uint16_t partition, uint32_t measures)
{
    groups_ahead(r->groups, r->state, e, partition, measures);
}

void remember_take(struct remember *r, const struct event *e)
{
    groups_take(r->groups, e);
}

int remember_impression(struct remember *r, const struct groups_of *of, struct err *err)
{
    const struct event *e = of->event;
    const struct amount one = {ACTION_IMPRESSION, 1}, all = {ACTION_IMPRESSION, e->n_items};
    count_entity(r, of, of->user, &all, 1);
    if (count_groups(r, of, &r->of_event, 0, &all, 1, err) != 0)
        return -1;
    for (uint32_t i = 0; i < e->n_items; i++) {
        count_entity(r, of, of->items[i], &one, 1);
        if (count_groups(r, of, &r->of_item, i, &one, 1, err) != 0)
            return -1;
    }
    return 0;
}

// ---- sequences --------------------------------------------------------------------------------------------

// The id of an attribute of the item, whose text is kept for readers; 0: it has none.
static uint64_t item_attribute(struct remember *r, const struct groups_of *of,
                               const struct attribute_plan *plan)
{
    struct attribute a;
    char scratch[NUMBER_TEXT];
    attribute_find(plan, of->event, state_profile(of->items[0], NULL), &a);
    uint64_t id = attribute_id(&a);
    if (id != 0)
        state_name_put(r->state, id, attribute_text(&a, scratch));
    return id;
}

// What the event is in this sequence; 0: nothing.
static uint64_t sequence_id(struct remember *r, const struct groups_of *of, uint8_t sequence)
{
    return r->config->sequences[sequence].keeps_attribute ? item_attribute(r, of, &r->keep[sequence])
                                                          : of->event->items[0].id;
}

// The user, or the group of a sequence by bucket. NULL: there is none.
static int sequence_owner(struct remember *r, const struct groups_of *of, uint8_t sequence, bool create,
                          struct entity **ret_owner, struct err *err)
{
    uint32_t grouping = r->config->sequences[sequence].grouping;
    if (grouping != CONFIG_NONE)
        return groups_find(r->groups, r->state, grouping, 0, create, ret_owner, err);
    *ret_owner = of->user;
    return 0;
}

static int sequence_enter(struct remember *r, const struct groups_of *of, uint8_t sequence,
                          uint32_t *ret_skipped, struct err *err)
{
    const struct config_sequence *c = &r->config->sequences[sequence];
    struct sequence_entry entry = {.item = sequence_id(r, of, sequence), .ts = of->event->ts};
    struct entity *owner = NULL;
    if (entry.item != 0 && sequence_owner(r, of, sequence, true, &owner, err) != 0)
        return -1;
    if (owner == NULL) {
        ++*ret_skipped;
        return 0;
    }
    if (c->with & SEQUENCE_CATEGORY)
        entry.category = item_attribute(r, of, &r->category);
    if (c->with & SEQUENCE_AUTHOR)
        entry.author = item_attribute(r, of, &r->author);
    if (c->with & SEQUENCE_DWELL)
        entry.dwell_ms = of->event->watch_ms < UINT32_MAX ? (uint32_t)of->event->watch_ms : UINT32_MAX;
    state_sequence_add(r->state, owner, sequence, &entry);
    return 0;
}

static int sequence_leave(struct remember *r, const struct groups_of *of, uint8_t sequence, struct err *err)
{
    struct entity *owner;
    uint64_t id = sequence_id(r, of, sequence);
    if (id == 0)
        return 0;
    if (sequence_owner(r, of, sequence, false, &owner, err) != 0)
        return -1;
    if (owner != NULL)
        (void)state_sequence_remove(r->state, owner, sequence, id);
    return 0;
}

int remember_feedback(struct remember *r, const struct groups_of *of, uint32_t *ret_skipped, struct err *err)
{
    const struct event *e = of->event;
    const struct amount amounts[] = {{e->action, 1}, {MEASURE_WATCH_MS, e->watch_ms}};
    uint32_t n = e->action == ACTION_WATCH && e->watch_ms > 0 ? 2 : 1;
    *ret_skipped = 0;
    remember_fetch(r, of, 2);
    count_entity(r, of, of->user, amounts, n);
    count_entity(r, of, of->items[0], amounts, n);
    if (count_groups(r, of, &r->of_event, 0, amounts, n, err) != 0 ||
        count_groups(r, of, &r->of_item, 0, amounts, n, err) != 0)
        return -1;
    for (uint32_t i = 0; i < r->enters[e->action].n; i++)
        if (sequence_enter(r, of, r->enters[e->action].at[i], ret_skipped, err) != 0)
            return -1;
    for (uint32_t i = 0; i < r->leaves[e->action].n; i++)
        if (sequence_leave(r, of, r->leaves[e->action].at[i], err) != 0)
            return -1;
    return 0;
}

void remember_gone(struct remember *r, uint64_t item, int64_t ts)
{
    if (r->gone)
        state_gone(r->state, item, ts);
}
