// SPDX-License-Identifier: Apache-2.0
// Sections whose names the user chooses: kafka, actions, windows, tables; and http.listen. All read by
// tables of keys for their entries. Buckets and groupings are in config_counters.c, sequences in
// config_sequences.c, labels in config_join.c, features in config_features.c, the model in config_models.c.
#include <stdio.h>
#include <string.h>

#include "daemon/config_keys.h"
#include "daemon/units.h"

// ---- kafka -------------------------------------------------------------------------------------------

int config_property_put(struct config_properties *p, const char *name, const char *value)
{
    for (uint32_t i = 0; i < p->n; i++) {
        if (strcmp(p->list[2 * (size_t)i], name) == 0) {
            p->list[2 * (size_t)i + 1] = value;
            return 0;
        }
    }
    if (p->n == CONFIG_PROPERTIES_MAX)
        return -1;
    const char **end = p->list + 2 * (size_t)p->n++;
    end[0] = name;
    end[1] = value;
    end[2] = NULL;
    return 0;
}

static int property_read(struct config_loader *l, const struct tree_node *n, struct config_properties *to)
{
    char value[80];
    if (n->kind != TREE_SCALAR || n->null)
        return tree_fail(l->err, &n->at, "property %.80s is %s, but must be a single value", n->key,
                         tree_quote(n, value, sizeof value));
    if (config_property_put(to, n->key, n->text) < 0)
        return tree_fail(l->err, &n->key_at, "more than %d properties", CONFIG_PROPERTIES_MAX);
    return 0;
}

static int overlay_read(struct config_loader *l, const struct tree_node *n, struct config_properties *to)
{
    char name[CONFIG_NAME];
    snprintf(name, sizeof name, "kafka.%s", n->key);
    if (config_map_check(l, name, n) < 0)
        return -1;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next)
        if (property_read(l, c, to) < 0)
            return -1;
    return 0;
}

static bool is_overlay(const struct tree_node *n)
{
    return strcmp(n->key, "consumer") == 0 || strcmp(n->key, "producer") == 0;
}

int config_kafka_read(struct config_loader *l, const struct tree_node *n)
{
    if (config_map_check(l, "kafka", n) < 0)
        return -1;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next) {
        if (is_overlay(c))
            continue;
        if (property_read(l, c, &l->c->consumer) < 0 || property_read(l, c, &l->c->producer) < 0)
            return -1;
    }
    const struct tree_node *consumer = tree_get(n, "consumer"), *producer = tree_get(n, "producer");
    if (consumer != NULL && overlay_read(l, consumer, &l->c->consumer) < 0)
        return -1;
    return producer != NULL ? overlay_read(l, producer, &l->c->producer) : 0;
}

// ---- actions -----------------------------------------------------------------------------------------

int config_actions_read(struct config_loader *l, const struct tree_node *n)
{
    struct config *c = l->c;
    for (c->n_actions = 0; c->n_actions < ACTION_BUILTIN; c->n_actions++)
        snprintf(c->actions[c->n_actions], CONFIG_NAME, "%s", action_names[c->n_actions]);
    if (config_list_check(l, "stream.actions", n, 0, ACTION_MAX - ACTION_BUILTIN) < 0)
        return -1;
    for (const struct tree_node *a = n->first; a != NULL; a = a->next) {
        uint8_t twin = config_action_find(c, a->text);
        if (twin < ACTION_BUILTIN)
            return tree_fail(l->err, &a->at, "stream.actions: %s is built in", a->text);
        if (twin != ACTION_MAX)
            return tree_fail(l->err, &a->at, "stream.actions: %s stands twice", a->text);
        if (strcmp(a->text, "all") == 0 || strcmp(a->text, "watch_ms") == 0)
            return tree_fail(l->err, &a->at, "stream.actions: %s has a meaning of its own", a->text);
        if (config_name_take(l, "an action", a->text, &a->at, c->actions[c->n_actions]) < 0)
            return -1;
        c->n_actions++;
    }
    return 0;
}

// ---- windows -----------------------------------------------------------------------------------------

enum { WINDOW_TILES_MAX = 1024 };

static const struct state_window windows_known[] = {
    {"1h", 60000, 60},
    {"1d", 900000, 96},
    {"7d", 3600000, 168},
};

static int window_known(struct config_loader *l, const struct tree_node *n, struct state_window *ret_window)
{
    for (size_t i = 0; i < sizeof windows_known / sizeof *windows_known; i++) {
        if (strcmp(windows_known[i].name, n->text) == 0) {
            *ret_window = windows_known[i];
            return 0;
        }
    }
    char value[80];
    return tree_fail(
        l->err, &n->at,
        "counters.windows: %s is none of 1h, 1d and 7d; others are {name: .., tile: .., length: ..}",
        tree_quote(n, value, sizeof value));
}

static int window_length(struct config_loader *l, const struct tree_node *n, struct state_window *w)
{
    static const struct config_key key = {"length", CONFIG_DURATION, .size = sizeof(int64_t), .min = 1,
                                          .max = 3650 * 86400e3};
    int64_t length;
    if (config_key_read(l, &key, "counters.windows.length", n, &length) < 0)
        return -1;
    if (length % w->tile_ms != 0 || length / w->tile_ms > WINDOW_TILES_MAX)
        return tree_fail(l->err, &n->at, "counters.windows.length is \"%s\", but must be 1 to %d whole tiles",
                         n->text, WINDOW_TILES_MAX);
    w->tiles = (uint32_t)(length / w->tile_ms);
    return 0;
}

static int window_own(struct config_loader *l, const struct tree_node *n, struct state_window *ret_window)
{
    if (config_entry_read(l, config_window_keys, "counters.windows", n, ret_window) < 0)
        return -1;
    for (const struct config_key *k = config_window_keys; k->path != NULL; k++)
        if (tree_get(n, k->path) == NULL)
            return tree_fail(l->err, &n->at, "a window needs name, tile and length; %s is missing", k->path);
    return window_length(l, tree_get(n, "length"), ret_window);
}

// Windows nest: a coarser tile holds whole finer ones, and no window is shorter than the one before.
static int window_check(struct config_loader *l, const struct tree_node *n, const struct state_window *w)
{
    for (uint32_t i = 0; i < l->c->n_windows; i++)
        if (strcmp(l->c->windows[i].name, w->name) == 0)
            return tree_fail(l->err, &n->at, "counters.windows: \"%s\" stands twice", w->name);
    if (strcmp(w->name, "total") == 0)
        return tree_fail(l->err, &n->at, "counters.windows: \"total\" is what counters.totals keeps");
    if (l->c->n_windows == 0)
        return 0;
    const struct state_window *before = &l->c->windows[l->c->n_windows - 1];
    if (w->tile_ms % before->tile_ms != 0)
        return tree_fail(l->err, &n->at,
                         "counters.windows: the tile of \"%s\" is no multiple of that of \"%s\" before it",
                         w->name, before->name);
    if (w->tile_ms * w->tiles < before->tile_ms * before->tiles)
        return tree_fail(l->err, &n->at, "counters.windows: \"%s\" is shorter than \"%s\" before it", w->name,
                         before->name);
    return 0;
}

int config_windows_read(struct config_loader *l, const struct tree_node *n)
{
    if (config_list_check(l, "counters.windows", n, 1, STATE_WINDOWS_MAX) < 0)
        return -1;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next) {
        struct state_window w = {0};
        int rc = c->kind == TREE_SCALAR ? window_known(l, c, &w) : window_own(l, c, &w);
        if (rc < 0 || window_check(l, c, &w) < 0)
            return -1;
        l->c->windows[l->c->n_windows++] = w;
    }
    return 0;
}

// ---- labels ------------------------------------------------------------------------------------------

// ---- tables ------------------------------------------------------------------------------------------

int config_tables_read(struct config_loader *l, const struct tree_node *n)
{
    if (config_map_check(l, "tables", n) < 0)
        return -1;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next) {
        char name[2 * CONFIG_NAME];
        snprintf(name, sizeof name, "tables.%.64s", c->key);
        struct config_table *t = config_table_add(l, c->key, &c->key_at);
        if (t == NULL || config_entry_read(l, config_table_keys, name, c, t) < 0)
            return -1;
        const struct tree_node *init = tree_get(c, "init");
        if (config_optimizer_check(l, name, c, tree_get(c, "lr"), &t->optimizer) < 0 ||
            (init != NULL && config_init_read(l, name, init, false, &t->init) < 0))
            return -1;
    }
    return 0;
}

// ---- http.listen -------------------------------------------------------------------------------------

static int listen_fail(struct config_loader *l, const struct tree_node *n)
{
    char value[80];
    return tree_fail(l->err, &n->at,
                     "http.listen is %s, but must be host:port, as 127.0.0.1:7878 or \"[::1]:7878\"",
                     tree_quote(n, value, sizeof value));
}

int config_listen_read(struct config_loader *l, const struct tree_node *n)
{
    const char *colon = strrchr(n->text, ':');
    if (n->kind != TREE_SCALAR || colon == NULL)
        return listen_fail(l, n);
    const char *host = n->text;
    size_t len = (size_t)(colon - host);
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    } else if (memchr(host, ':', len) != NULL) {
        return listen_fail(l, n);
    }
    uint64_t port;
    bool digits = colon[1] != '\0' && colon[1 + strspn(colon + 1, "0123456789")] == '\0';
    if (!digits || units_parse_count(colon + 1, &port) < 0 || port > UINT16_MAX || len == 0 ||
        len >= sizeof l->c->http.host)
        return listen_fail(l, n);
    memcpy(l->c->http.host, host, len);
    l->c->http.host[len] = '\0';
    l->c->http.port = (uint16_t)port;
    return 0;
}
