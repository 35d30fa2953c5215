// SPDX-License-Identifier: Apache-2.0
// Loading: the built-in default, the file laid over it, the overrides laid over both, all as trees; then the
// environment is put in, unknown keys are refused, and every key of the table reads its value in the order of
// the table, so that what a section refers to (a window, a table) has been read before it.
#include "daemon/config.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/config_keys.h"

// ---- trees -------------------------------------------------------------------------------------------

static int file_merge(struct config_loader *l, const char *file, struct tree_node *root)
{
    struct tree_node *tree = NULL;
    const char *name = arena_str(l->arena, str_of(file)).s;
    l->c->file = name;
    if (tree_read(l->arena, name, &tree, l->err) < 0 || config_map_check(l, "a config", tree) < 0)
        return -1;
    tree_merge(l->arena, root, tree, "", config_merges);
    return 0;
}

static int root_build(struct config_loader *l, const char *file, const struct config_override *overrides,
                      uint32_t n_overrides, struct tree_node **ret_root)
{
    struct tree_node *root = NULL;
    if (tree_parse(l->arena, "built-in", 0, str_of(config_default_yaml()), &root, l->err) < 0)
        return -1;
    if (file != NULL && file_merge(l, file, root) < 0)
        return -1;
    for (uint32_t i = 0; i < n_overrides; i++)
        if (tree_set(l->arena, root, &overrides[i], config_merges, l->err) < 0)
            return -1;
    *ret_root = root;
    return 0;
}

static int keys_read(struct config_loader *l, const struct tree_node *root)
{
    for (const struct config_key *k = config_keys; k->path != NULL; k++) {
        if (k->type == CONFIG_SECTION)
            continue;
        const struct tree_node *n = tree_path(root, k->path);
        int rc = k->read != NULL ? k->read(l, n) : config_key_read(l, k, k->path, n, l->c);
        if (rc < 0)
            return -1;
    }
    return 0;
}

static int properties_put(struct config_loader *l, const char *const *properties)
{
    struct config_at at = {"command line", 1, 1};
    for (uint32_t i = 0; properties != NULL && properties[i] != NULL; i += 2) {
        const char *name = arena_str(l->arena, str_of(properties[i])).s;
        if (properties[i + 1] == NULL)
            return tree_fail(l->err, &at, "-X %.80s: property=value is meant", name);
        const char *value = arena_str(l->arena, str_of(properties[i + 1])).s;
        if (config_property_put(&l->c->consumer, name, value) < 0 ||
            config_property_put(&l->c->producer, name, value) < 0)
            return tree_fail(l->err, &at, "-X %.80s: more than %d properties", name, CONFIG_PROPERTIES_MAX);
    }
    return 0;
}

// ---- what two keys say together ----------------------------------------------------------------------

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return strcmp(host, "localhost") == 0;
}

static int check_http(struct config_loader *l, const struct tree_node *root)
{
    const struct config *c = l->c;
    if (is_loopback(c->http.host) || c->http.token[0] != '\0')
        return 0;
    return tree_fail(
        l->err, &tree_path(root, "http.listen")->at,
        "http.listen: %s can be reached from other machines, and without http.token everyone there could "
        "read what is known of every user; set a token, or listen on 127.0.0.1",
        c->http.host);
}

// The topics must differ: deltas that come back as events would go round for ever.
static int check_topics(struct config_loader *l, const struct tree_node *root)
{
    const struct config *c = l->c;
    const struct {
        const char *path, *topic;
    } topics[] = {
        {"stream.events.topic", c->events.topic},
        {"stream.users.topic", c->users.topic},
        {"stream.items.topic", c->items.topic},
        {"publish.topic", c->publish.topic},
        {"publish.samples.topic", c->publish.samples_topic},
    };
    enum { TOPICS = sizeof topics / sizeof *topics };
    for (int i = 0; i < TOPICS; i++) {
        const struct config_at *at = &tree_path(root, topics[i].path)->at;
        if (i < 3 && strlen(topics[i].topic) + strlen(c->dlq_suffix) > 249)
            return tree_fail(l->err, at, "%s with stream.dlq.suffix after it is longer than Kafka's 249",
                             topics[i].path);
        for (int j = 0; j < i; j++)
            if (topics[i].topic[0] != '\0' && strcmp(topics[i].topic, topics[j].topic) == 0)
                return tree_fail(l->err, at, "%s and %s are the same topic, %s", topics[j].path,
                                 topics[i].path, topics[i].topic);
    }
    return 0;
}

// Who vanished while a window still counts for it would be half forgotten.
static int check_expire(struct config_loader *l, const struct tree_node *root)
{
    const struct config *c = l->c;
    const struct state_window *longest = &c->windows[c->n_windows - 1];
    const struct {
        const char *path;
        int64_t ms;
    } expires[] = {{"state.expire.users", c->state.users_expire_ms},
                   {"state.expire.items", c->state.items_expire_ms}};
    for (int i = 0; i < 2; i++)
        if (expires[i].ms > 0 && expires[i].ms < longest->tile_ms * longest->tiles)
            return tree_fail(l->err, &tree_path(root, expires[i].path)->at,
                             "%s is shorter than the longest of counters.windows, %s", expires[i].path,
                             longest->name);
    return 0;
}

static int check_rest(struct config_loader *l, const struct tree_node *root)
{
    const struct config *c = l->c;
    double min = c->update.brakes.calibration_min, max = c->update.brakes.calibration_max;
    if (max > 0 && min > max)
        return tree_fail(l->err, &tree_path(root, "update.brakes.calibration_min")->at,
                         "update.brakes.calibration_min is %g, above calibration_max %g", min, max);
    if (config_optimizer_check(l, "update.dense", tree_path(root, "update.dense"),
                               tree_path(root, "update.dense_lr"), &l->c->update.dense) < 0)
        return -1;
    return check_expire(l, root) < 0 ? -1 : config_join_check(l, root);
}

// ---- the whole ---------------------------------------------------------------------------------------

static int config_fill(struct config_loader *l, const char *file, const struct config_override *overrides,
                       uint32_t n_overrides, const char *const *properties)
{
    struct tree_node *root = NULL;
    if (root_build(l, file, overrides, n_overrides, &root) < 0 || config_check_keys(l, root) < 0 ||
        tree_expand(l->arena, root, l->err) < 0 || keys_read(l, root) < 0 ||
        properties_put(l, properties) < 0)
        return -1;
    config_layout(l);
    return check_http(l, root) < 0 || check_topics(l, root) < 0 ? -1 : check_rest(l, root);
}

int config_load(const char *file, const struct config_override *overrides, uint32_t n_overrides,
                const char *const *properties, struct config **ret_config, struct err *err)
{
    struct config *c = mem_zalloc(sizeof *c);
    struct config_loader l = {.c = c, .arena = mem_zalloc(sizeof(struct arena)), .err = err};
    c->file = "built-in";
    c->memory = l.arena;
    if (config_fill(&l, file, overrides, n_overrides, properties) < 0) {
        config_free(c);
        return -1;
    }
    *ret_config = c;
    return 0;
}

void config_free(struct config *c)
{
    if (c == NULL)
        return;
    if (c->memory != NULL) {
        arena_done(c->memory);
        free(c->memory);
    }
    explicit_bzero(c->http.token, sizeof c->http.token);
    free(c);
}
