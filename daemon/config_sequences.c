// SPDX-License-Identifier: Apache-2.0
// Sequences: one for each action that `all` or an entry of its name asks for, and named ones over one action or
// several. What they keep of the item (category, author, or an attribute in its place) comes from its profile.
#include <stdio.h>
#include <string.h>

#include "daemon/config_keys.h"

enum { KEPT = 1U << CONFIG_STRING | 1U << CONFIG_REAL | 1U << CONFIG_BOOLEAN };

struct reading {
    struct config_loader *l;
    struct config_sequence *s;
    const struct tree_node *n;
    char name[2 * CONFIG_NAME]; // "sequences.click"
};

// The node itself where it is one name, or each entry of a list.
static const struct tree_node *names_first(const struct tree_node *n)
{
    return n->kind == TREE_LIST ? n->first : n;
}

static const struct tree_node *names_next(const struct tree_node *n, const struct tree_node *c)
{
    return n->kind == TREE_LIST ? c->next : NULL;
}

static int actions_read(const struct reading *r, const struct tree_node *n, uint32_t *ret_actions)
{
    char what[3 * CONFIG_NAME], value[80];
    snprintf(what, sizeof what, "%s.%s", r->name, n->key);
    for (const struct tree_node *c = names_first(n); c != NULL; c = names_next(n, c)) {
        uint8_t action;
        if (c->kind != TREE_SCALAR || c->null)
            return tree_fail(r->l->err, &c->at, "%s holds %s, but must hold actions", what,
                             tree_quote(c, value, sizeof value));
        if (config_action_take(r->l, what, c->text, true, &c->at, &action) < 0)
            return -1;
        *ret_actions |= 1U << action;
    }
    return 0;
}

static int with_read(const struct reading *r, const struct tree_node *n)
{
    static const uint8_t bits[] = {SEQUENCE_CATEGORY, SEQUENCE_AUTHOR, SEQUENCE_DWELL};
    const struct config *c = r->l->c;
    char what[3 * CONFIG_NAME], value[80];
    snprintf(what, sizeof what, "%s.with", r->name);
    for (const struct tree_node *w = names_first(n); w != NULL; w = names_next(n, w)) {
        struct config_ref ref;
        int choice = w->kind == TREE_SCALAR ? config_choice("category|author|dwell", w->text) : -1;
        if (choice < 0)
            return tree_fail(r->l->err, &w->at, "%s holds %s, but must hold category, author or dwell", what,
                             tree_quote(w, value, sizeof value));
        if (choice < 2 &&
            config_ref_of(r->l, what, CONFIG_OF_ITEM, choice == 0 ? c->item_category : c->item_author, KEPT,
                          &w->at, &ref) < 0)
            return -1;
        r->s->with |= bits[choice];
    }
    return 0;
}

static int keep_read(const struct reading *r, const struct tree_node *n)
{
    char what[3 * CONFIG_NAME];
    struct config_ref ref;
    snprintf(what, sizeof what, "%s.keep", r->name);
    if (config_ref_read(r->l, what, n, true, KEPT, &ref) < 0)
        return -1;
    if (ref.of != CONFIG_OF_ITEM)
        return tree_fail(r->l->err, &n->at, "%s is \"%.60s\", but must be item or item.ATTRIBUTE", what,
                         n->text);
    r->s->keep = ref;
    r->s->keeps_attribute = ref.field[0] != '\0';
    return 0;
}

static int by_read(const struct reading *r, const struct tree_node *n)
{
    char what[3 * CONFIG_NAME];
    snprintf(what, sizeof what, "%s.by", r->name);
    return config_grouping_of_user(r->l, what, n, &r->s->grouping);
}

static int sequence_read(const struct reading *r)
{
    static const struct {
        const char *key;
        int (*read)(const struct reading *r, const struct tree_node *n);
    } parts[] = {{"with", with_read}, {"keep", keep_read}, {"by", by_read}};
    const struct tree_node *remove_on = tree_get(r->n, "remove_on");
    r->s->at = r->n->key_at;
    r->s->grouping = CONFIG_NONE;
    config_entry_init(r->l, config_sequence_keys, r->s);
    if (config_entry_read(r->l, config_sequence_keys, r->name, r->n, r->s) < 0)
        return -1;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const struct tree_node *n = tree_get(r->n, parts[i].key);
        if (n != NULL && parts[i].read(r, n) < 0)
            return -1;
    }
    const struct tree_node *gone = tree_get(r->n, "gone");
    if (r->s->gone && r->s->keeps_attribute)
        return tree_fail(r->l->err, &gone->at, "%s.gone: it keeps item.%s, and no items that could be gone",
                         r->name, r->s->keep.field);
    return remove_on != NULL ? actions_read(r, remove_on, &r->s->remove_on) : 0;
}

static int sequence_overlap(const struct reading *r)
{
    uint32_t both = r->s->actions & r->s->remove_on;
    const struct tree_node *n = tree_get(r->n, "remove_on");
    if (both == 0)
        return 0;
    return tree_fail(r->l->err, &n->at, "%s: %s both enters and removes", r->name,
                     r->l->c->actions[__builtin_ctz(both)]);
}

// The entry's place: an action's own, or the next free number above them.
static int sequence_place(struct config_loader *l, const struct tree_node *n, uint32_t *ret_number)
{
    struct config *c = l->c;
    uint8_t action = 0;
    char name[CONFIG_NAME];
    if (tree_get(n, "of") == NULL || config_action_find(c, n->key) != ACTION_MAX) {
        if (config_action_take(l, "sequences", n->key, true, &n->key_at, &action) < 0)
            return -1;
        *ret_number = action;
        return 0;
    }
    if (config_name_take(l, "a sequence", n->key, &n->key_at, name) < 0)
        return -1;
    if (c->n_sequences == STATE_SEQUENCES_MAX)
        return tree_fail(l->err, &n->key_at, "more than %d named sequences",
                         STATE_SEQUENCES_MAX - ACTION_MAX);
    *ret_number = c->n_sequences++;
    return 0;
}

static int named_read(struct config_loader *l, const struct tree_node *n)
{
    uint32_t number = 0;
    if (sequence_place(l, n, &number) < 0)
        return -1;
    struct reading r = {.l = l, .s = &l->c->sequences[number], .n = n};
    const struct tree_node *of = tree_get(n, "of");
    snprintf(r.name, sizeof r.name, "sequences.%.64s", n->key);
    *r.s = (struct config_sequence){.grouping = CONFIG_NONE};
    snprintf(r.s->name, sizeof r.s->name, "%s", n->key);
    if (of != NULL ? actions_read(&r, of, &r.s->actions) < 0 : (r.s->actions = 1U << number) == 0)
        return -1;
    if (r.s->actions == 0)
        return tree_fail(l->err, &of->at, "%s.of is empty", r.name);
    return sequence_read(&r) < 0 ? -1 : sequence_overlap(&r);
}

static int all_read(struct config_loader *l, const struct tree_node *all)
{
    struct config_sequence s = {0};
    struct reading r = {.l = l, .s = &s, .n = all, .name = "sequences.all"};
    const struct tree_node *of = tree_get(all, "of");
    if (of != NULL)
        return tree_fail(l->err, &of->key_at,
                         "sequences.all: \"of\" does not go with \"all\", which is every "
                         "feedback action by itself");
    if (sequence_read(&r) < 0)
        return -1;
    for (uint32_t a = ACTION_IMPRESSION + 1; a < l->c->n_actions; a++) {
        if (s.remove_on >> a & 1)
            continue; // what removes has no use for a sequence that it empties, unless it is asked for by name
        l->c->sequences[a] = s;
        l->c->sequences[a].actions = 1U << a;
        memcpy(l->c->sequences[a].name, l->c->actions[a], CONFIG_NAME);
    }
    return 0;
}

int config_sequences_read(struct config_loader *l, const struct tree_node *n)
{
    if (config_map_check(l, "sequences", n) < 0)
        return -1;
    l->c->n_sequences = ACTION_MAX;
    const struct tree_node *all = tree_get(n, "all");
    if (all != NULL && all_read(l, all) < 0)
        return -1;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next)
        if (c != all && named_read(l, c) < 0)
            return -1;
    for (uint32_t i = 0; i < l->c->n_sequences; i++)
        if (l->c->sequences[i].last == 0)
            l->c->sequences[i].name[0] = '\0'; // none is kept
    return 0;
}
