// SPDX-License-Identifier: Apache-2.0
// Values by the table: text to number with its unit, bounds, and the messages, which say what stands there,
// what may, and for a wrong key which one was meant.
#include "daemon/config_keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/units.h"

const struct config_key *config_key_find(const struct config_key *keys, const char *path)
{
    for (const struct config_key *k = keys; k->path != NULL; k++)
        if (strcmp(k->path, path) == 0)
            return k;
    return NULL;
}

int config_choice(const char *choices, const char *text)
{
    int i = 0;
    for (const char *p = choices; *p != '\0'; i++) {
        size_t len = strcspn(p, "|");
        if (strlen(text) == len && memcmp(p, text, len) == 0)
            return i;
        p += len + (p[len] == '|');
    }
    return -1;
}

// ---- scalars -----------------------------------------------------------------------------------------

// "is X, but must be A to B", with the numbers written as `format` does.
static int bounds_fail(struct config_loader *l, const char *name, const struct tree_node *n, const char *min,
                       const char *max)
{
    char value[80];
    tree_quote(n, value, sizeof value);
    return tree_fail(l->err, &n->at, "%s is %s, but must be %s to %s", name, value, min, max);
}

// Little-endian, as everything here: the low bytes come first.
static void unsigned_put(const struct config_key *k, uint64_t v, void *to)
{
    memcpy((char *)to + k->offset, &v, k->size);
}

static int duration_read(struct config_loader *l, const struct config_key *k, const char *name,
                         const struct tree_node *n, void *to)
{
    int64_t ms;
    char value[80], min[UNITS_TEXT], max[UNITS_TEXT];
    if (units_parse_duration(n->text, &ms) < 0)
        return tree_fail(l->err, &n->at, "%s is %s, which is no duration; write 500ms, 5s, 10m, 1h or 30d",
                         name, tree_quote(n, value, sizeof value));
    if ((double)ms < k->min || (double)ms > k->max)
        return bounds_fail(l, name, n, units_format_duration((int64_t)k->min, min),
                           units_format_duration((int64_t)k->max, max));
    memcpy((char *)to + k->offset, &ms, sizeof ms);
    return 0;
}

static int count_read(struct config_loader *l, const struct config_key *k, const char *name,
                      const struct tree_node *n, void *to)
{
    uint64_t v;
    char value[80], min[UNITS_TEXT], max[UNITS_TEXT];
    if (units_parse_count(n->text, &v) < 0)
        return tree_fail(l->err, &n->at, "%s is %s, which is no count; write 1000, 100k, 1M or 1G", name,
                         tree_quote(n, value, sizeof value));
    if ((double)v < k->min || (double)v > k->max)
        return bounds_fail(l, name, n, units_format_count((uint64_t)k->min, min),
                           units_format_count((uint64_t)k->max, max));
    unsigned_put(k, v, to);
    return 0;
}

static int size_read(struct config_loader *l, const struct config_key *k, const char *name,
                     const struct tree_node *n, void *to)
{
    uint64_t v;
    char value[80], min[UNITS_TEXT], max[UNITS_TEXT];
    if (units_parse_size(n->text, &v) < 0)
        return tree_fail(l->err, &n->at, "%s is %s, which is no size; write 4096, 64MB or 1GiB", name,
                         tree_quote(n, value, sizeof value));
    if ((double)v < k->min || (double)v > k->max)
        return bounds_fail(l, name, n, units_format_size((uint64_t)k->min, min),
                           units_format_size((uint64_t)k->max, max));
    unsigned_put(k, v, to);
    return 0;
}

static int number_read(struct config_loader *l, const struct config_key *k, const char *name,
                       const struct tree_node *n, void *to)
{
    double v;
    char value[80], min[UNITS_TEXT], max[UNITS_TEXT];
    if (units_parse_number(n->text, &v) < 0)
        return tree_fail(l->err, &n->at, "%s is %s, which is no number", name,
                         tree_quote(n, value, sizeof value));
    if (v < k->min || v > k->max) {
        snprintf(min, sizeof min, "%g", k->min);
        snprintf(max, sizeof max, "%g", k->max);
        return bounds_fail(l, name, n, min, max);
    }
    memcpy((char *)to + k->offset, &v, sizeof v);
    return 0;
}

static int bool_read(struct config_loader *l, const struct config_key *k, const char *name,
                     const struct tree_node *n, void *to)
{
    char value[80];
    bool v = strcmp(n->text, "true") == 0;
    if (!v && strcmp(n->text, "false") != 0)
        return tree_fail(l->err, &n->at, "%s is %s, but must be true or false", name,
                         tree_quote(n, value, sizeof value));
    memcpy((char *)to + k->offset, &v, sizeof v);
    return 0;
}

static int choice_fail(struct config_loader *l, const struct config_key *k, const char *name,
                       const struct tree_node *n)
{
    char value[80], list[NEAREST_TEXT];
    size_t used = 0;
    for (const char *p = k->choices; *p != '\0' && used + 3 < sizeof list; p++) {
        used += (size_t)snprintf(list + used, sizeof list - used, *p == '|' ? ", " : "%c", *p);
    }
    return tree_fail(l->err, &n->at, "%s is %s, but must be one of: %s", name,
                     tree_quote(n, value, sizeof value), list);
}

static int choice_read(struct config_loader *l, const struct config_key *k, const char *name,
                       const struct tree_node *n, void *to)
{
    int choice = config_choice(k->choices, n->text);
    if (choice < 0)
        return choice_fail(l, k, name, n);
    unsigned_put(k, (uint64_t)choice, to);
    return 0;
}

static int text_read(struct config_loader *l, const struct config_key *k, const char *name,
                     const struct tree_node *n, void *to)
{
    char value[80];
    size_t len = strlen(n->text);
    if (k->choices != NULL && config_choice(k->choices, n->text) < 0)
        return choice_fail(l, k, name, n);
    if (len < (size_t)k->min)
        return tree_fail(l->err, &n->at, "%s must not be empty", name);
    if (len >= k->size)
        return tree_fail(l->err, &n->at, "%s is %zu bytes long, but may be %d at most", name, len,
                         k->size - 1);
    static const char topic[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (k->type == CONFIG_TOPIC && n->text[strspn(n->text, topic)] != '\0')
        return tree_fail(l->err, &n->at, "%s is %s, but a topic is made of letters, digits, '.', '_' and '-'",
                         name, tree_quote(n, value, sizeof value));
    memset((char *)to + k->offset, 0, k->size);
    memcpy((char *)to + k->offset, n->text, len);
    return 0;
}

static const char *type_name(enum config_type type)
{
    switch (type) {
    case CONFIG_DURATION:
        return "a duration";
    case CONFIG_COUNT:
        return "a count";
    case CONFIG_SIZE:
        return "a size";
    case CONFIG_NUMBER:
        return "a number";
    case CONFIG_BOOL:
        return "true or false";
    default:
        return "a single value";
    }
}

int config_key_read(struct config_loader *l, const struct config_key *key, const char *name,
                    const struct tree_node *n, void *to)
{
    char value[80];
    if (n->kind != TREE_SCALAR)
        return tree_fail(l->err, &n->at, "%s is %s, but must be %s", name, tree_quote(n, value, sizeof value),
                         type_name(key->type));
    if (n->null)
        return tree_fail(l->err, &n->at, "%s has no value", name);
    switch (key->type) {
    case CONFIG_DURATION:
        return duration_read(l, key, name, n, to);
    case CONFIG_COUNT:
        return count_read(l, key, name, n, to);
    case CONFIG_SIZE:
        return size_read(l, key, name, n, to);
    case CONFIG_NUMBER:
        return number_read(l, key, name, n, to);
    case CONFIG_BOOL:
        return bool_read(l, key, name, n, to);
    case CONFIG_CHOICE:
        return choice_read(l, key, name, n, to);
    default:
        return text_read(l, key, name, n, to);
    }
}

// ---- entries -----------------------------------------------------------------------------------------

static bool key_has_field(const struct config_key *k)
{
    return k->size > 0 && k->type != CONFIG_OWN && k->type != CONFIG_SECTION;
}

void config_entry_init(struct config_loader *l, const struct config_key *keys, void *to)
{
    for (const struct config_key *k = keys; k->path != NULL; k++) {
        if (!key_has_field(k) || k->fallback == NULL)
            continue;
        struct tree_node n = {.kind = TREE_SCALAR, .text = k->fallback, .at = {"built-in", 0, 0}};
        struct config_loader quiet = *l;
        quiet.err = NULL;
        (void)config_key_read(&quiet, k, k->path, &n, to);
    }
}

static int entry_unknown(struct config_loader *l, const struct config_key *keys, const char *name,
                         const struct tree_node *n)
{
    struct nearest near;
    nearest_init(&near, n->key);
    for (const struct config_key *k = keys; k->path != NULL; k++)
        nearest_put(&near, k->path);
    return tree_fail(l->err, &n->key_at, "unknown key \"%.80s\" in %s%s", n->key, name, nearest_hint(&near));
}

int config_entry_read(struct config_loader *l, const struct config_key *keys, const char *name,
                      const struct tree_node *n, void *to)
{
    if (config_map_check(l, name, n) < 0)
        return -1;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next) {
        const struct config_key *k = config_key_find(keys, c->key);
        if (k == NULL)
            return entry_unknown(l, keys, name, c);
        char path[3 * CONFIG_NAME];
        snprintf(path, sizeof path, "%s.%s", name, c->key);
        if (key_has_field(k) && config_key_read(l, k, path, c, to) < 0)
            return -1;
    }
    return 0;
}

// ---- the whole file ----------------------------------------------------------------------------------

// The word of `path` below `above`, "" for the root; NULL where it is not below it.
static const char *path_below(const char *path, const char *above)
{
    size_t len = strlen(above);
    if (len == 0)
        return path;
    return strncmp(path, above, len) == 0 && path[len] == '.' ? path + len + 1 : NULL;
}

static int key_unknown(struct config_loader *l, const char *above, const struct tree_node *n)
{
    struct nearest near;
    nearest_init(&near, n->key);
    const char *elsewhere = NULL;
    for (const struct config_key *k = config_keys; k->path != NULL; k++) {
        const char *below = path_below(k->path, above);
        const char *last = strrchr(k->path, '.');
        if (below != NULL && strchr(below, '.') == NULL)
            nearest_put(&near, below);
        if (last != NULL && strcmp(last + 1, n->key) == 0)
            elsewhere = k->path;
    }
    char hint[160] = "";
    if (near.best == NULL && elsewhere != NULL)
        snprintf(hint, sizeof hint, "; did you mean \"%s\"?", elsewhere);
    return tree_fail(l->err, &n->key_at, "unknown key \"%.80s\"%s%s%s", n->key, *above != '\0' ? " in " : "",
                     above, *hint != '\0' ? hint : nearest_hint(&near));
}

static int keys_check(struct config_loader *l, const struct tree_node *map, const char *above)
{
    for (const struct tree_node *n = map->first; n != NULL; n = n->next) {
        char path[160];
        snprintf(path, sizeof path, "%s%s%.64s", above, *above != '\0' ? "." : "", n->key);
        const struct config_key *k = config_key_find(config_keys, path);
        if (k == NULL || strlen(n->key) > CONFIG_NAME)
            return key_unknown(l, above, n);
        if (k->type == CONFIG_SECTION && (config_map_check(l, path, n) < 0 || keys_check(l, n, path) < 0))
            return -1;
    }
    return 0;
}

int config_check_keys(struct config_loader *l, const struct tree_node *root)
{
    return keys_check(l, root, "");
}

bool config_merges(const char *path)
{
    if (*path == '\0' || strcmp(path, "kafka") == 0 || strcmp(path, "kafka.consumer") == 0 ||
        strcmp(path, "kafka.producer") == 0)
        return true;
    const struct config_key *k = config_key_find(config_keys, path);
    return k != NULL && k->type == CONFIG_SECTION;
}
