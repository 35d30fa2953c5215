// SPDX-License-Identifier: Apache-2.0
// Features. The key that an entry has (id, count, ...) says its kind; a table says which other keys go with
// the kind and who reads it. What becomes an embedding has a table: the one that it names, or one of its own.
#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "daemon/config_keys.h"
#include "daemon/units.h"

enum {
    OWN_DIM = 8,                 // of a feature's own table
    OWN_ROWS_ENTITY = 1000000,   // of one for user or item ids
    OWN_ROWS_ATTRIBUTE = 100000, // of one for anything else
    SEQUENCE_DEFAULT = 50,
    EQUAL_BUCKETS_MAX = 1000,
};

// A feature while it is read.
struct reading {
    struct config_loader *l;
    struct config_feature *f;
    const struct tree_node *n;    // the entry
    const struct tree_node *kind; // the value of the key that names the kind
    uint64_t rows;                // of a table of its own; 0: a plain number
    char name[2 * CONFIG_NAME];   // "features.x"
};

struct feature_kind {
    const char *key;
    const char *others; // "a|b": keys that go with it
    int (*read)(struct reading *r);
};

// ---- pieces ------------------------------------------------------------------------------------------

static const struct tree_node *part(const struct reading *r, const char *key)
{
    return tree_get(r->n, key);
}

static int scalar_check(const struct reading *r, const struct tree_node *n)
{
    char value[80];
    if (n->kind == TREE_SCALAR && !n->null)
        return 0;
    return tree_fail(r->l->err, &n->at, "%s.%s is %s, but must be a single value", r->name, n->key,
                     tree_quote(n, value, sizeof value));
}

// user, item (where `self`), context.NAME, user.ATTRIBUTE, item.ATTRIBUTE.
static int source_read(struct reading *r, bool self)
{
    static const char *const sources[] = {
        [CONFIG_OF_USER] = "user", [CONFIG_OF_ITEM] = "item", [CONFIG_OF_CONTEXT] = "context"};
    if (scalar_check(r, r->kind) < 0)
        return -1;
    const char *text = r->kind->text;
    size_t len = strcspn(text, ".");
    const char *field = text[len] == '.' ? text + len + 1 : "";
    if (strlen(field) >= CONFIG_NAME)
        return tree_fail(r->l->err, &r->kind->at, "%s.%s: the name is longer than %d bytes", r->name,
                         r->kind->key, CONFIG_NAME - 1);
    for (int i = 0; i < 3; i++) {
        if (strlen(sources[i]) != len || memcmp(sources[i], text, len) != 0)
            continue;
        bool bare = text[len] == '\0' && self && i != CONFIG_OF_CONTEXT;
        if (!bare && *field == '\0')
            break;
        r->f->of = (enum config_source)i;
        snprintf(r->f->field, sizeof r->f->field, "%s", field);
        return 0;
    }
    return tree_fail(r->l->err, &r->kind->at,
                     "%s.%s is \"%.60s\", but must be %scontext.NAME, user.ATTRIBUTE or item.ATTRIBUTE",
                     r->name, r->kind->key, text, self ? "user, item, " : "");
}

static int of_read(struct reading *r)
{
    const struct tree_node *of = part(r, "of");
    if (of == NULL)
        return tree_fail(r->l->err, &r->n->key_at, "%s needs \"of\": user or item, whose counters they are",
                         r->name);
    if (scalar_check(r, of) < 0)
        return -1;
    int choice = config_choice("user|item", of->text);
    if (choice < 0)
        return tree_fail(r->l->err, &of->at, "%s.of is \"%.60s\", but must be one of: user, item", r->name,
                         of->text);
    r->f->of = choice == 0 ? CONFIG_OF_USER : CONFIG_OF_ITEM;
    return 0;
}

static int window_read(struct reading *r)
{
    const struct config *c = r->l->c;
    const struct tree_node *window = part(r, "window");
    if (window == NULL)
        return tree_fail(r->l->err, &r->n->key_at, "%s needs \"window\": one of counters.windows", r->name);
    if (scalar_check(r, window) < 0)
        return -1;
    struct nearest near;
    nearest_init(&near, window->text);
    near.distance = 0; // of names this short the list says more than the nearest
    for (uint32_t i = 0; i < c->n_windows; i++) {
        nearest_put(&near, c->windows[i].name);
        if (strcmp(c->windows[i].name, window->text) == 0) {
            r->f->window = i;
            return 0;
        }
    }
    return tree_fail(r->l->err, &window->at, "%s: no window \"%.60s\" in counters.windows%s", r->name,
                     window->text, nearest_hint(&near));
}

static int action_read(struct reading *r, const char *name, bool feedback, uint8_t *ret_action)
{
    char what[3 * CONFIG_NAME];
    snprintf(what, sizeof what, "%s.%s", r->name, r->kind->key);
    return config_action_take(r->l, what, name, feedback, &r->kind->at, ret_action);
}

static int number_take(struct reading *r, const struct tree_node *n, const char *key, double min,
                       double *ret_v)
{
    char value[80];
    if (n->kind != TREE_SCALAR || units_parse_number(n->text, ret_v) < 0 || *ret_v < min || *ret_v > 1e18)
        return tree_fail(r->l->err, &n->at, "%s.%s holds %s, but must hold numbers of %g to 1e+18", r->name,
                         key, tree_quote(n, value, sizeof value), min);
    return 0;
}

static int smooth_read(struct reading *r)
{
    const struct tree_node *n = part(r, "smooth");
    double *smooth = r->f->smooth;
    char name[3 * CONFIG_NAME];
    smooth[0] = 1;
    smooth[1] = 20;
    if (n == NULL)
        return 0;
    snprintf(name, sizeof name, "%s.smooth", r->name);
    if (config_list_check(r->l, name, n, 2, 2) < 0 || number_take(r, n->first, "smooth", 0, &smooth[0]) < 0 ||
        number_take(r, n->last, "smooth", 0, &smooth[1]) < 0)
        return -1;
    if (smooth[1] <= 0)
        return tree_fail(r->l->err, &n->last->at,
                         "%s is [a, b], and b must be above 0: nothing is divided by zero", name);
    return 0;
}

static int edges_read(struct reading *r, const struct tree_node *n)
{
    char name[3 * CONFIG_NAME];
    snprintf(name, sizeof name, "%s.bucketize", r->name);
    if (config_list_check(r->l, name, n, 1, CONFIG_EDGES_MAX) < 0)
        return -1;
    struct config_feature *f = r->f;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next) {
        if (number_take(r, c, "bucketize", -1e18, &f->edges[f->n_edges]) < 0)
            return -1;
        if (f->n_edges > 0 && f->edges[f->n_edges] <= f->edges[f->n_edges - 1])
            return tree_fail(r->l->err, &c->at, "%s: edges must ascend", name);
        f->n_edges++;
    }
    r->rows = f->n_edges + 2; // n + 1 buckets, and one for what has no value
    return 0;
}

static int bucketize_read(struct reading *r)
{
    const struct tree_node *n = part(r, "bucketize");
    if (n == NULL)
        return 0;
    if (part(r, "log1p") != NULL)
        return tree_fail(r->l->err, &part(r, "log1p")->key_at,
                         "%s: log1p has no effect with bucketize, whose edges cut the plain value", r->name);
    r->f->log1p = false;
    if (n->kind != TREE_SCALAR || r->f->kind != CONFIG_FEATURE_RATE)
        return edges_read(r, n);
    static const struct config_key key = {"bucketize",
                                          CONFIG_COUNT,
                                          .offset = offsetof(struct config_feature, equal_buckets),
                                          .size = sizeof(uint32_t),
                                          .min = 2,
                                          .max = EQUAL_BUCKETS_MAX};
    char name[3 * CONFIG_NAME];
    snprintf(name, sizeof name, "%s.bucketize", r->name);
    if (config_key_read(r->l, &key, name, n, r->f) < 0)
        return -1;
    r->rows = r->f->equal_buckets + 1;
    return 0;
}

// ---- kinds -------------------------------------------------------------------------------------------

static int id_read(struct reading *r)
{
    if (source_read(r, true) < 0)
        return -1;
    r->rows = r->f->field[0] == '\0' ? OWN_ROWS_ENTITY : OWN_ROWS_ATTRIBUTE;
    return 0;
}

static int number_read(struct reading *r)
{
    return source_read(r, false) < 0 ? -1 : bucketize_read(r);
}

static int count_read(struct reading *r)
{
    if (scalar_check(r, r->kind) < 0)
        return -1;
    if (strcmp(r->kind->text, "watch_ms") == 0)
        r->f->measure = MEASURE_WATCH_MS;
    else if (action_read(r, r->kind->text, false, &r->f->measure) < 0)
        return -1;
    if (part(r, "log1p") == NULL)
        r->f->log1p = true;
    return of_read(r) < 0 || window_read(r) < 0 ? -1 : bucketize_read(r);
}

static int rate_read(struct reading *r)
{
    if (scalar_check(r, r->kind) < 0)
        return -1;
    const char *slash = strchr(r->kind->text, '/');
    size_t len = slash != NULL ? (size_t)(slash - r->kind->text) : CONFIG_NAME;
    if (len >= CONFIG_NAME)
        return tree_fail(r->l->err, &r->kind->at,
                         "%s.rate is \"%.60s\", but must be ACTION/ACTION, as click/impression", r->name,
                         r->kind->text);
    char numerator[CONFIG_NAME];
    memcpy(numerator, r->kind->text, len);
    numerator[len] = '\0';
    if (action_read(r, numerator, false, &r->f->measure) < 0 ||
        action_read(r, slash + 1, false, &r->f->denominator) < 0)
        return -1;
    return of_read(r) < 0 || window_read(r) < 0 || smooth_read(r) < 0 ? -1 : bucketize_read(r);
}

static int time_read(struct reading *r)
{
    if (scalar_check(r, r->kind) < 0)
        return -1;
    if (strcmp(r->kind->text, "timestamp") != 0)
        return tree_fail(r->l->err, &r->kind->at, "%s.%s is \"%.60s\", but must be timestamp", r->name,
                         r->kind->key, r->kind->text);
    r->rows = r->f->kind == CONFIG_FEATURE_HOUR ? 24 : 7;
    return 0;
}

static int sequence_read(struct reading *r)
{
    const struct tree_node *pool = part(r, "pool"), *last = part(r, "last");
    struct config_feature *f = r->f;
    if (scalar_check(r, r->kind) < 0 || action_read(r, r->kind->text, true, &f->measure) < 0)
        return -1;
    uint32_t kept = r->l->c->sequence_last[f->measure];
    if (kept == 0)
        return tree_fail(r->l->err, &r->kind->at, "%s: sequences keeps none of %s", r->name, r->kind->text);
    if (last == NULL)
        f->last = kept < SEQUENCE_DEFAULT ? kept : SEQUENCE_DEFAULT;
    if (f->last > kept)
        return tree_fail(r->l->err, &last->at, "%s.last is %u, but sequences keeps %u of %s", r->name,
                         f->last, kept, r->kind->text);
    if (pool != NULL && strcmp(pool->text, "mean") != 0)
        return tree_fail(r->l->err, &pool->at, "%s.pool is \"%.60s\", but must be one of: mean", r->name,
                         pool->text);
    if (part(r, "table") == NULL)
        return tree_fail(r->l->err, &r->n->key_at, "%s needs \"table\": the one of the items", r->name);
    return 0;
}

static const struct feature_kind kinds[] = {
    [CONFIG_FEATURE_ID] = {"id", "table", id_read},
    [CONFIG_FEATURE_NUMBER] = {"number", "log1p|bucketize|table", number_read},
    [CONFIG_FEATURE_COUNT] = {"count", "of|window|log1p|bucketize|table", count_read},
    [CONFIG_FEATURE_RATE] = {"rate", "of|window|smooth|bucketize|table", rate_read},
    [CONFIG_FEATURE_HOUR] = {"hour", "offset|table", time_read},
    [CONFIG_FEATURE_WEEKDAY] = {"weekday", "offset|table", time_read},
    [CONFIG_FEATURE_SEQUENCE] = {"sequence", "last|table|pool", sequence_read},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

// ---- a feature ---------------------------------------------------------------------------------------

static int kind_find(struct reading *r, const struct feature_kind **ret_kind)
{
    const struct feature_kind *found = NULL;
    for (int i = 0; i < KINDS; i++) {
        const struct tree_node *n = part(r, kinds[i].key);
        if (n == NULL)
            continue;
        if (found != NULL)
            return tree_fail(r->l->err, &n->key_at, "%s has both \"%s\" and \"%s\": a feature is of one kind",
                             r->name, found->key, kinds[i].key);
        found = &kinds[i];
        r->f->kind = (enum config_feature_kind)i;
        r->kind = n;
    }
    if (found == NULL)
        return tree_fail(r->l->err, &r->n->key_at,
                         "%s needs one of: id, number, count, rate, hour, weekday, sequence", r->name);
    *ret_kind = found;
    return 0;
}

static int kind_check(struct reading *r, const struct feature_kind *kind)
{
    assert(kind != NULL);
    for (const struct tree_node *c = r->n->first; c != NULL; c = c->next)
        if (strcmp(c->key, kind->key) != 0 && config_choice(kind->others, c->key) < 0)
            return tree_fail(r->l->err, &c->key_at, "%s: \"%s\" does not go with \"%s\"", r->name, c->key,
                             kind->key);
    return 0;
}

static int table_named(struct reading *r, const struct tree_node *n)
{
    if (scalar_check(r, n) < 0)
        return -1;
    if (r->rows == 0 && r->f->kind != CONFIG_FEATURE_SEQUENCE)
        return tree_fail(r->l->err, &n->key_at,
                         "%s: a plain number has no table; bucketize makes it an embedding", r->name);
    r->f->table = config_table_find(r->l->c, n->text);
    if (r->f->table >= 0)
        return 0;
    struct nearest near;
    nearest_init(&near, n->text);
    for (uint32_t i = 0; i < r->l->c->n_tables; i++)
        nearest_put(&near, r->l->c->tables[i].name);
    return tree_fail(r->l->err, &n->at, "%s: no table \"%.60s\"%s", r->name, n->text, nearest_hint(&near));
}

// A table in `tables` of the feature's name is taken for its own, so that its size can be chosen.
static int table_own(struct reading *r)
{
    r->f->table = config_table_find(r->l->c, r->f->name);
    if (r->f->table >= 0)
        return 0;
    struct config_table *t = config_table_add(r->l, r->f->name, &r->n->key_at);
    if (t == NULL)
        return -1;
    t->dim = OWN_DIM;
    t->rows = r->rows;
    r->f->table = config_table_find(r->l->c, r->f->name);
    return 0;
}

static int feature_read(struct config_loader *l, const struct tree_node *n)
{
    struct config *c = l->c;
    if (c->n_features == CONFIG_FEATURES_MAX)
        return tree_fail(l->err, &n->key_at, "more than %d features", CONFIG_FEATURES_MAX);
    struct reading r = {.l = l, .f = &c->features[c->n_features], .n = n};
    snprintf(r.name, sizeof r.name, "features.%.64s", n->key);
    r.f->table = -1;
    r.f->at = n->key_at;
    const struct feature_kind *kind = NULL;
    if (config_name_take(l, "a feature", n->key, &n->key_at, r.f->name) < 0 ||
        config_entry_read(l, config_feature_keys, r.name, n, r.f) < 0 || kind_find(&r, &kind) < 0 ||
        kind_check(&r, kind) < 0 || kind->read(&r) < 0)
        return -1;
    const struct tree_node *table = part(&r, "table");
    if (table != NULL ? table_named(&r, table) < 0 : r.rows > 0 && table_own(&r) < 0)
        return -1;
    c->n_features++;
    return 0;
}

int config_features_read(struct config_loader *l, const struct tree_node *n)
{
    if (config_map_check(l, "features", n) < 0)
        return -1;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next)
        if (feature_read(l, c) < 0)
            return -1;
    return 0;
}
