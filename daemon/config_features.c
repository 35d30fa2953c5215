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
    OWN_ROWS_INTERVALS = 34,     // of the ages in a sequence
    GEOHASH_DEFAULT = 5,
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

static int choice_read(const struct reading *r, const struct tree_node *n, const char *choices,
                       const char *shown)
{
    if (scalar_check(r, n) < 0)
        return -1;
    int choice = config_choice(choices, n->text);
    if (choice < 0)
        (void)tree_fail(r->l->err, &n->at, "%s.%s is \"%.60s\", but must be one of: %s", r->name, n->key,
                        n->text, shown);
    return choice;
}

// By config_source, whose first numbers group_of has too.
static int of_read(struct reading *r)
{
    const struct tree_node *of = part(r, "of");
    if (of == NULL)
        return tree_fail(r->l->err, &r->n->key_at,
                         "%s needs \"of\": user, item or all, whose counters they are", r->name);
    int choice = choice_read(r, of, "user|item|all", "user, item, all");
    if (choice < 0)
        return -1;
    r->f->ref.of = choice == 2 ? CONFIG_OF_ALL : (enum config_source)choice;
    return 0;
}

static enum group_of group_of(const struct config_feature *f)
{
    return f->ref.of == CONFIG_OF_ALL    ? GROUP_OF_ALL
           : f->ref.of == CONFIG_OF_ITEM ? GROUP_OF_ITEM
                                         : GROUP_OF_USER;
}

static int grouping_fail(const struct reading *r, const char *key, const struct tree_node *n,
                         enum group_of of)
{
    static const char *const names[] = {"user", "item", "all"};
    const struct config *c = r->l->c;
    struct nearest near;
    nearest_init(&near, n->text);
    for (uint32_t i = 0; i < c->n_groupings; i++)
        if (c->groupings[i].counted && c->groupings[i].of == of)
            nearest_put(&near, c->groupings[i].name);
    return tree_fail(r->l->err, &n->at, "%s.%s: no \"%.60s\" in counters.%s.by%s", r->name, key, n->text,
                     names[of], nearest_hint(&near));
}

static int by_read(struct reading *r)
{
    const struct tree_node *by = part(r, "by");
    enum group_of of = group_of(r->f);
    r->f->grouping = of == GROUP_OF_ALL ? CONFIG_GROUPING_TOTAL : CONFIG_NONE;
    if (by == NULL) {
        r->l->c->total_of_all |= of == GROUP_OF_ALL;
        return 0;
    }
    if (scalar_check(r, by) < 0)
        return -1;
    int grouping = config_grouping_find(r->l->c, of, by->text);
    if (grouping < 0)
        return grouping_fail(r, "by", by, of);
    r->f->grouping = (uint32_t)grouping;
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
    if (strcmp(window->text, "total") == 0) {
        r->f->window = CONFIG_WINDOW_TOTAL;
        return c->totals ? 0
                         : tree_fail(r->l->err, &window->at,
                                     "%s: window: total needs counters.totals: true, by which they are kept",
                                     r->name);
    }
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

// An action, or watch_ms.
static int measure_read(struct reading *r, const char *name, uint8_t *ret_measure)
{
    char what[3 * CONFIG_NAME];
    if (strcmp(name, "watch_ms") == 0) {
        *ret_measure = MEASURE_WATCH_MS;
        return 0;
    }
    snprintf(what, sizeof what, "%s.%s", r->name, r->kind->key);
    return config_action_take(r->l, what, name, false, &r->kind->at, ret_measure);
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

// ---- smoothing ---------------------------------------------------------------------------------------

static int prior_read(struct reading *r, const char *name, const struct tree_node *n)
{
    double *smooth = r->f->smooth;
    if (config_list_check(r->l, name, n, 2, 2) < 0 || number_take(r, n->first, "smooth", 0, &smooth[0]) < 0 ||
        number_take(r, n->last, "smooth", 0, &smooth[1]) < 0)
        return -1;
    if (smooth[1] <= 0)
        return tree_fail(r->l->err, &n->last->at,
                         "%s is [a, b], and b must be above 0: nothing is divided by zero", name);
    return 0;
}

static int parent_read(struct reading *r, const struct tree_node *n)
{
    struct config_feature *f = r->f;
    uint32_t *to = &f->parents[f->n_parents];
    if (scalar_check(r, n) < 0)
        return -1;
    int self = config_choice("user|item", n->text);
    if (strcmp(n->text, "all") == 0) {
        *to = CONFIG_GROUPING_TOTAL;
    } else if (self >= 0) {
        if (self != (int)f->ref.of || f->grouping == CONFIG_NONE || f->n_parents > 0)
            return tree_fail(
                r->l->err, &n->at,
                "%s.smooth.parent: %s is the first parent of what is counted of it by a bucket, and of "
                "nothing else",
                r->name, n->text);
        *to = CONFIG_NONE;
    } else {
        int grouping = config_grouping_find(r->l->c, GROUP_OF_ALL, n->text);
        if (grouping < 0)
            return grouping_fail(r, "smooth.parent", n, GROUP_OF_ALL);
        *to = (uint32_t)grouping;
    }
    f->n_parents++;
    return 0;
}

// Everything is the parent of whatever is named last, so that the chain always ends in many events.
static int parents_read(struct reading *r, const struct tree_node *n)
{
    struct config_feature *f = r->f;
    char name[3 * CONFIG_NAME];
    snprintf(name, sizeof name, "%s.smooth.parent", r->name);
    if (n->kind == TREE_LIST && config_list_check(r->l, name, n, 1, CONFIG_PARENTS_MAX - 1) < 0)
        return -1;
    for (const struct tree_node *c = n->kind == TREE_LIST ? n->first : n; c != NULL;
         c = n->kind == TREE_LIST ? c->next : NULL) {
        if (f->n_parents > 0 && f->parents[f->n_parents - 1] == CONFIG_GROUPING_TOTAL)
            return tree_fail(r->l->err, &c->at, "%s: nothing comes after all", name);
        if (parent_read(r, c) < 0)
            return -1;
    }
    if (f->parents[f->n_parents - 1] != CONFIG_GROUPING_TOTAL)
        f->parents[f->n_parents++] = CONFIG_GROUPING_TOTAL;
    r->l->c->total_of_all = true;
    return 0;
}

static int smooth_read(struct reading *r)
{
    const struct tree_node *n = part(r, "smooth");
    char name[3 * CONFIG_NAME];
    r->f->smooth[0] = 1;
    r->f->smooth[1] = 20;
    r->f->weight = 20;
    if (n == NULL)
        return 0;
    snprintf(name, sizeof name, "%s.smooth", r->name);
    if (n->kind != TREE_MAP)
        return prior_read(r, name, n);
    if (config_entry_read(r->l, config_smooth_keys, name, n, r->f) < 0)
        return -1;
    const struct tree_node *prior = tree_get(n, "prior"), *parent = tree_get(n, "parent");
    snprintf(name, sizeof name, "%s.smooth.prior", r->name);
    if (prior != NULL && prior_read(r, name, prior) < 0)
        return -1;
    if (parent == NULL)
        return tree_fail(r->l->err, &n->at, "%s.smooth needs \"parent\", or is [a, b]", r->name);
    return parents_read(r, parent);
}

// ---- buckets of a number -----------------------------------------------------------------------------

static int edges_read(struct reading *r, const struct tree_node *n)
{
    char name[3 * CONFIG_NAME];
    snprintf(name, sizeof name, "%s.bucketize", r->name);
    if (config_edges_read(r->l, name, "edges", n, r->f->edges, &r->f->n_edges) < 0)
        return -1;
    r->rows = r->f->n_edges + 2; // n + 1 buckets, and one for what has no value
    return 0;
}

static int quantiles_read(struct reading *r, const struct tree_node *n)
{
    char name[3 * CONFIG_NAME];
    snprintf(name, sizeof name, "%s.bucketize", r->name);
    if (config_entry_read(r->l, config_bucketize_keys, name, n, r->f) < 0)
        return -1;
    if (r->f->quantiles == 0)
        return tree_fail(r->l->err, &n->at, "%s needs \"quantiles\", or is a list of edges", name);
    r->rows = r->f->quantiles + 1;
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
    if (n->kind == TREE_MAP)
        return quantiles_read(r, n);
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

// What stands for a number that is not there.
static int missing_read(struct reading *r)
{
    const struct tree_node *n = part(r, "missing");
    struct config_feature *f = r->f;
    if (n == NULL)
        return 0;
    if (scalar_check(r, n) < 0)
        return -1;
    if (strcmp(n->text, "category") == 0)
        return r->rows > 0
                   ? 0
                   : tree_fail(r->l->err, &n->at,
                               "%s.missing: a category of its own goes with bucketize; a plain number "
                               "needs a value, as zero",
                               r->name);
    f->missing = CONFIG_MISSING_VALUE;
    return strcmp(n->text, "zero") == 0 ? 0 : number_take(r, n, "missing", -1e18, &f->missing_value);
}

static void hash_read(struct reading *r, uint64_t rows)
{
    r->rows = r->f->hash > 0 ? r->f->hash + 1 : rows;
}

// ---- kinds -------------------------------------------------------------------------------------------

enum {
    SINGLE = 1U << CONFIG_STRING | 1U << CONFIG_REAL | 1U << CONFIG_BOOLEAN,
    NUMERIC = 1U << CONFIG_REAL | 1U << CONFIG_BOOLEAN,
    LISTED = 1U << CONFIG_LIST | 1U << CONFIG_STRING,
};

static int ref_read(struct reading *r, bool self, unsigned types)
{
    char what[3 * CONFIG_NAME];
    snprintf(what, sizeof what, "%s.%s", r->name, r->kind->key);
    return config_ref_read(r->l, what, r->kind, self, types, &r->f->ref);
}

static int id_read(struct reading *r)
{
    if (ref_read(r, true, SINGLE) < 0)
        return -1;
    hash_read(r, r->f->ref.field[0] == '\0' ? OWN_ROWS_ENTITY : OWN_ROWS_ATTRIBUTE);
    return 0;
}

static int number_read(struct reading *r)
{
    if (ref_read(r, false, NUMERIC) < 0 || bucketize_read(r) < 0)
        return -1;
    return missing_read(r);
}

static int counter_read(struct reading *r)
{
    return of_read(r) < 0 || by_read(r) < 0 ? -1 : window_read(r);
}

static int count_read(struct reading *r)
{
    if (scalar_check(r, r->kind) < 0 || measure_read(r, r->kind->text, &r->f->measure) < 0)
        return -1;
    if (part(r, "log1p") == NULL)
        r->f->log1p = true;
    return counter_read(r) < 0 ? -1 : bucketize_read(r);
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
    if (measure_read(r, numerator, &r->f->measure) < 0 || measure_read(r, slash + 1, &r->f->denominator) < 0)
        return -1;
    return counter_read(r) < 0 || smooth_read(r) < 0 ? -1 : bucketize_read(r);
}

static int age_read(struct reading *r)
{
    if (scalar_check(r, r->kind) < 0)
        return -1;
    if (strcmp(r->kind->text, "item") != 0)
        return tree_fail(r->l->err, &r->kind->at, "%s.age is \"%.60s\", but must be item", r->name,
                         r->kind->text);
    if (part(r, "log1p") == NULL)
        r->f->log1p = true;
    r->f->ref.of = CONFIG_OF_ITEM;
    return bucketize_read(r);
}

static int geohash_read(struct reading *r)
{
    char what[3 * CONFIG_NAME];
    snprintf(what, sizeof what, "%s.geohash", r->name);
    if (r->f->precision == 0)
        r->f->precision = GEOHASH_DEFAULT;
    hash_read(r, OWN_ROWS_ATTRIBUTE);
    return config_location_read(r->l, what, r->kind, &r->f->ref, &r->f->second);
}

static int ids_read(struct reading *r)
{
    if (ref_read(r, false, LISTED) < 0)
        return -1;
    if (r->f->ref.of == CONFIG_OF_CONTEXT)
        return tree_fail(r->l->err, &r->kind->at, "%s.ids: a context has no lists", r->name);
    if (part(r, "last") == NULL)
        r->f->last = SEQUENCE_DEFAULT;
    r->rows = OWN_ROWS_ATTRIBUTE;
    return 0;
}

static int cross_side(struct reading *r, const struct tree_node *n, uint32_t *ret_feature)
{
    const struct config *c = r->l->c;
    if (scalar_check(r, n) < 0)
        return -1;
    int i = config_feature_find(c, n->text);
    if (i < 0) {
        struct nearest near;
        nearest_init(&near, n->text);
        for (uint32_t k = 0; k < c->n_features; k++)
            nearest_put(&near, c->features[k].name);
        return tree_fail(r->l->err, &n->at, "%s.cross: no earlier feature \"%.60s\"%s", r->name, n->text,
                         nearest_hint(&near));
    }
    const struct config_feature *f = &c->features[i];
    if (f->table < 0 || f->kind == CONFIG_FEATURE_SEQUENCE || f->kind == CONFIG_FEATURE_IDS)
        return tree_fail(r->l->err, &n->at, "%s.cross: %s has no single id; bucketize makes one of a number",
                         r->name, n->text);
    *ret_feature = (uint32_t)i;
    return 0;
}

static int cross_read(struct reading *r)
{
    char name[3 * CONFIG_NAME];
    snprintf(name, sizeof name, "%s.cross", r->name);
    hash_read(r, OWN_ROWS_ENTITY);
    if (config_list_check(r->l, name, r->kind, 2, 2) < 0 ||
        cross_side(r, r->kind->first, &r->f->cross[0]) < 0)
        return -1;
    return cross_side(r, r->kind->last, &r->f->cross[1]);
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

static int sequence_find(struct reading *r)
{
    const struct config *c = r->l->c;
    struct nearest near;
    if (scalar_check(r, r->kind) < 0)
        return -1;
    nearest_init(&near, r->kind->text);
    for (uint32_t i = 0; i < c->n_sequences; i++) {
        if (c->sequences[i].name[0] == '\0')
            continue;
        nearest_put(&near, c->sequences[i].name);
        if (strcmp(c->sequences[i].name, r->kind->text) == 0) {
            r->f->sequence = i;
            return 0;
        }
    }
    if (config_action_find(c, r->kind->text) != ACTION_MAX)
        return tree_fail(r->l->err, &r->kind->at, "%s: sequences keeps none of %s", r->name, r->kind->text);
    return tree_fail(r->l->err, &r->kind->at, "%s.%s: no sequence \"%.60s\"%s", r->name, r->kind->key,
                     r->kind->text, nearest_hint(&near));
}

static int column_read(struct reading *r, const struct config_sequence *s)
{
    static const uint8_t needs[] = {0, SEQUENCE_CATEGORY, SEQUENCE_AUTHOR, 0};
    const struct tree_node *of = part(r, "of");
    if (of == NULL)
        return 0;
    int column = choice_read(r, of, "item|category|author|age", "item, category, author, age");
    if (column < 0)
        return -1;
    if ((s->with & needs[column]) != needs[column])
        return tree_fail(r->l->err, &of->at,
                         "%s.of: sequences.%s is not kept with %s; write with: [%s] there", r->name, s->name,
                         of->text, of->text);
    r->f->column = (enum config_column)column;
    return 0;
}

static int sequence_last_read(struct reading *r, const struct config_sequence *s)
{
    const struct tree_node *last = part(r, "last");
    struct config_feature *f = r->f;
    if (last == NULL)
        f->last = s->last < SEQUENCE_DEFAULT ? s->last : SEQUENCE_DEFAULT;
    if (f->last > s->last)
        return tree_fail(r->l->err, &last->at, "%s.last is %u, but sequences keeps %u of %s", r->name,
                         f->last, s->last, r->kind->text);
    return 0;
}

static int sequence_read(struct reading *r)
{
    const struct tree_node *pool = part(r, "pool");
    if (sequence_find(r) < 0)
        return -1;
    const struct config_sequence *s = &r->l->c->sequences[r->f->sequence];
    if (column_read(r, s) < 0 || sequence_last_read(r, s) < 0)
        return -1;
    if (pool != NULL && strcmp(pool->text, "mean") != 0)
        return tree_fail(r->l->err, &pool->at, "%s.pool is \"%.60s\", but must be one of: mean", r->name,
                         pool->text);
    if (r->f->column == CONFIG_COLUMN_AGE)
        r->rows = OWN_ROWS_INTERVALS;
    else if (part(r, "table") == NULL)
        return tree_fail(r->l->err, &r->n->key_at, "%s needs \"table\": the one of the items", r->name);
    return 0;
}

static int member_read(struct reading *r)
{
    if (sequence_find(r) < 0)
        return -1;
    const struct config_sequence *s = &r->l->c->sequences[r->f->sequence];
    if (s->grouping != CONFIG_NONE)
        return tree_fail(r->l->err, &r->kind->at, "%s.member: sequences.%s is kept by bucket", r->name,
                         s->name);
    return 0;
}

static const struct feature_kind kinds[] = {
    [CONFIG_FEATURE_ID] = {"id", "hash|table", id_read},
    [CONFIG_FEATURE_NUMBER] = {"number", "log1p|bucketize|missing|table", number_read},
    [CONFIG_FEATURE_COUNT] = {"count", "of|by|window|log1p|bucketize|table", count_read},
    [CONFIG_FEATURE_RATE] = {"rate", "of|by|window|smooth|bucketize|table", rate_read},
    [CONFIG_FEATURE_HOUR] = {"hour", "offset|table", time_read},
    [CONFIG_FEATURE_WEEKDAY] = {"weekday", "offset|table", time_read},
    [CONFIG_FEATURE_SEQUENCE] = {"sequence", "of|last|table|pool", sequence_read},
    [CONFIG_FEATURE_CROSS] = {"cross", "hash|table", cross_read},
    [CONFIG_FEATURE_AGE] = {"age", "log1p|bucketize|table", age_read},
    [CONFIG_FEATURE_GEOHASH] = {"geohash", "precision|hash|table", geohash_read},
    [CONFIG_FEATURE_IDS] = {"ids", "last|table", ids_read},
    [CONFIG_FEATURE_MEMBER] = {"member", "", member_read},
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
        return tree_fail(
            r->l->err, &r->n->key_at,
            "%s needs one of: id, number, count, rate, hour, weekday, sequence, cross, age, geohash, "
            "ids, member",
            r->name);
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
    r.f->grouping = CONFIG_NONE;
    r.f->ref.of = r.f->second.of = CONFIG_OF_CONTEXT;
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
    return config_completion_resolve(l);
}
