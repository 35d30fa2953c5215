// SPDX-License-Identifier: Apache-2.0
// Names that the user chooses: what they may look like, where they are found, and the nearest when they are
// not.
#include <stdio.h>
#include <string.h>

#include "daemon/config_keys.h"

int config_name_take(struct config_loader *l, const char *what, const char *name, const struct config_at *at,
                     char to[CONFIG_NAME])
{
    static const char taken[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789-";
    size_t len = strlen(name);
    bool good = len > 0 && name[strspn(name, taken)] == '\0' && strchr("0123456789-", name[0]) == NULL;
    if (!good)
        return tree_fail(l->err, at,
                         "\"%.80s\" is no name for %s: letters, digits, _ and -, a letter or _ first", name,
                         what);
    if (len >= CONFIG_NAME)
        return tree_fail(l->err, at, "\"%.80s\" is too long for %s: %d bytes at most", name, what,
                         CONFIG_NAME - 1);
    memset(to, 0, CONFIG_NAME);
    snprintf(to, CONFIG_NAME, "%s", name);
    return 0;
}

uint8_t config_action_find(const struct config *c, const char *name)
{
    for (uint32_t i = 0; i < c->n_actions; i++)
        if (strcmp(c->actions[i], name) == 0)
            return (uint8_t)i;
    return ACTION_MAX;
}

int config_action_take(struct config_loader *l, const char *what, const char *name, bool feedback,
                       const struct config_at *at, uint8_t *ret_action)
{
    uint8_t action = config_action_find(l->c, name);
    if (action != ACTION_MAX && !(feedback && action == ACTION_IMPRESSION)) {
        *ret_action = action;
        return 0;
    }
    if (action != ACTION_MAX)
        return tree_fail(l->err, at, "%s: impression is no feedback", what);
    struct nearest near;
    nearest_init(&near, name);
    for (uint32_t i = feedback; i < l->c->n_actions; i++)
        nearest_put(&near, l->c->actions[i]);
    return tree_fail(l->err, at, "%s: no action \"%.80s\"%s", what, name, nearest_hint(&near));
}

int config_table_find(const struct config *c, const char *name)
{
    for (uint32_t i = 0; i < c->n_tables; i++)
        if (strcmp(c->tables[i].name, name) == 0)
            return (int)i;
    return -1;
}

int config_feature_find(const struct config *c, const char *name)
{
    for (uint32_t i = 0; i < c->n_features; i++)
        if (strcmp(c->features[i].name, name) == 0)
            return (int)i;
    return -1;
}

struct config_table *config_table_add(struct config_loader *l, const char *name, const struct config_at *at)
{
    if (l->c->n_tables == STATE_TABLES_MAX) {
        (void)tree_fail(l->err, at, "more than %d tables", STATE_TABLES_MAX);
        return NULL;
    }
    struct config_table *t = &l->c->tables[l->c->n_tables];
    if (config_name_take(l, "a table", name, at, t->name) < 0)
        return NULL;
    config_entry_init(l, config_table_keys, t);
    const struct tree_node init = {.kind = TREE_SCALAR,
                                   .text = config_key_find(config_table_keys, "init")->fallback};
    if (config_init_read(l, name, &init, false, &t->init) < 0)
        return NULL;
    t->at = *at;
    l->c->n_tables++;
    return t;
}

int config_list_check(struct config_loader *l, const char *name, const struct tree_node *n, uint32_t min,
                      uint32_t max)
{
    char value[80];
    if (n->kind != TREE_LIST)
        return tree_fail(l->err, &n->at, "%s is %s, but must be a list", name,
                         tree_quote(n, value, sizeof value));
    uint32_t count = tree_count(n);
    if (count < min || count > max)
        return tree_fail(l->err, &n->at, "%s has %u entries, but must have %u to %u", name, count, min, max);
    return 0;
}

int config_map_check(struct config_loader *l, const char *name, const struct tree_node *n)
{
    char value[80];
    if (n->kind == TREE_MAP || (n->kind == TREE_SCALAR && n->null))
        return 0;
    return tree_fail(l->err, &n->at, "%s is %s, but must be a map", name, tree_quote(n, value, sizeof value));
}
