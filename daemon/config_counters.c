// SPDX-License-Identifier: Apache-2.0
// Buckets, and which counters and sequences are grouped by them. A grouping has a number in the store, by the
// order in which it is met: item.by, user.by, all.by, then what only a sequence needs.
#include <stdio.h>
#include <string.h>

#include "daemon/config_keys.h"
#include "daemon/units.h"

enum {
    ANY_SINGLE = 1U << CONFIG_STRING | 1U << CONFIG_REAL | 1U << CONFIG_BOOLEAN,
    PRECISION_MAX = 12,
};

// ---- buckets -----------------------------------------------------------------------------------------

struct bucket_reading {
    struct config_loader *l;
    struct config_bucket *b;
    const struct tree_node *n;
    char name[2 * CONFIG_NAME]; // "buckets.age"
};

int config_edges_read(struct config_loader *l, const char *name, const char *short_name,
                      const struct tree_node *n, double *edges, uint32_t *ret_n)
{
    char value[80];
    if (config_list_check(l, name, n, 1, CONFIG_EDGES_MAX) < 0)
        return -1;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next) {
        double *to = &edges[*ret_n];
        if (c->kind != TREE_SCALAR || units_parse_number(c->text, to) < 0 || *to < -1e18 || *to > 1e18)
            return tree_fail(l->err, &c->at, "%s holds %s, but must hold numbers of -1e+18 to 1e+18", name,
                             tree_quote(c, value, sizeof value));
        if (*ret_n > 0 && *to <= to[-1])
            return tree_fail(l->err, &c->at, "%s: %s must ascend", name, short_name);
        (*ret_n)++;
    }
    return 0;
}

int config_location_read(struct config_loader *l, const char *name, const struct tree_node *n,
                         struct config_ref *ret_lat, struct config_ref *ret_lon)
{
    if (config_list_check(l, name, n, 2, 2) < 0 ||
        config_ref_read(l, name, n->first, false, 1U << CONFIG_REAL, ret_lat) < 0)
        return -1;
    return config_ref_read(l, name, n->last, false, 1U << CONFIG_REAL, ret_lon);
}

static int bucket_timestamp(const struct bucket_reading *r, const struct tree_node *n)
{
    char value[80];
    if (n->kind == TREE_SCALAR && strcmp(n->text, "timestamp") == 0)
        return 0;
    return tree_fail(r->l->err, &n->at, "%s.%s is %s, but must be timestamp", r->name, n->key,
                     tree_quote(n, value, sizeof value));
}

static int bucket_of_read(struct bucket_reading *r, const struct tree_node *of)
{
    const struct tree_node *edges = tree_get(r->n, "edges"), *prefix = tree_get(r->n, "prefix");
    char name[3 * CONFIG_NAME];
    if (edges != NULL && prefix != NULL)
        return tree_fail(r->l->err, &prefix->key_at, "%s has both edges and prefix", r->name);
    unsigned types = edges != NULL ? 1U << CONFIG_REAL : prefix != NULL ? 1U << CONFIG_STRING : ANY_SINGLE;
    r->b->kind = edges != NULL    ? CONFIG_BUCKET_EDGES
                 : prefix != NULL ? CONFIG_BUCKET_PREFIX
                                  : CONFIG_BUCKET_VALUE;
    snprintf(name, sizeof name, "%s.of", r->name);
    if (config_ref_read(r->l, name, of, false, types, &r->b->of[0]) < 0)
        return -1;
    if (edges == NULL)
        return 0;
    snprintf(name, sizeof name, "%s.edges", r->name);
    return config_edges_read(r->l, name, "edges", edges, r->b->edges, &r->b->n_edges);
}

// The key that says the kind, and which others go with it.
static const struct {
    const char *key, *others;
} bucket_kinds[] = {
    {"of", "edges|prefix"}, {"geohash", "precision"}, {"hour", "offset"}, {"weekday", "offset"}};
enum { BUCKET_KINDS = sizeof bucket_kinds / sizeof *bucket_kinds };

static int bucket_kind_read(struct bucket_reading *r, const struct tree_node *n)
{
    char name[3 * CONFIG_NAME];
    snprintf(name, sizeof name, "%s.%s", r->name, n->key);
    if (strcmp(n->key, "of") == 0)
        return bucket_of_read(r, n);
    if (strcmp(n->key, "geohash") == 0) {
        r->b->kind = CONFIG_BUCKET_GEOHASH;
        return config_location_read(r->l, name, n, &r->b->of[0], &r->b->of[1]);
    }
    r->b->kind = strcmp(n->key, "hour") == 0 ? CONFIG_BUCKET_HOUR : CONFIG_BUCKET_WEEKDAY;
    r->b->of[0].of = r->b->of[1].of = CONFIG_OF_CONTEXT;
    return bucket_timestamp(r, n);
}

static int bucket_keys_check(const struct bucket_reading *r, int kind)
{
    for (const struct tree_node *c = r->n->first; c != NULL; c = c->next)
        if (strcmp(c->key, bucket_kinds[kind].key) != 0 &&
            config_choice(bucket_kinds[kind].others, c->key) < 0)
            return tree_fail(r->l->err, &c->key_at, "%s: \"%s\" does not go with \"%s\"", r->name, c->key,
                             bucket_kinds[kind].key);
    return 0;
}

static struct config_bucket *bucket_add(struct config_loader *l, const struct config_at *at)
{
    struct config *c = l->c;
    if (c->n_buckets == CONFIG_BUCKETS_MAX) {
        (void)tree_fail(l->err, at, "more than %d buckets", CONFIG_BUCKETS_MAX);
        return NULL;
    }
    struct config_bucket *b = &c->buckets[c->n_buckets++];
    b->at = *at;
    b->precision = 5;
    b->of[1].of = CONFIG_OF_CONTEXT;
    return b;
}

static int bucket_read(struct config_loader *l, const struct tree_node *n)
{
    struct bucket_reading r = {.l = l, .b = bucket_add(l, &n->key_at), .n = n};
    snprintf(r.name, sizeof r.name, "buckets.%.64s", n->key);
    if (r.b == NULL || config_name_take(l, "a bucket", n->key, &n->key_at, r.b->name) < 0)
        return -1;
    if (config_choice("user|item|all|total", n->key) >= 0)
        return tree_fail(l->err, &n->key_at, "buckets: \"%s\" has a meaning of its own", n->key);
    r.b->named = true;
    if (config_entry_read(l, config_bucket_keys, r.name, n, r.b) < 0)
        return -1;
    for (int i = 0; i < BUCKET_KINDS; i++) {
        const struct tree_node *kind = tree_get(n, bucket_kinds[i].key);
        if (kind != NULL)
            return bucket_keys_check(&r, i) < 0 ? -1 : bucket_kind_read(&r, kind);
    }
    return tree_fail(l->err, &n->key_at, "%s needs one of: of, geohash, hour, weekday", r.name);
}

int config_buckets_read(struct config_loader *l, const struct tree_node *n)
{
    if (config_map_check(l, "buckets", n) < 0)
        return -1;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next)
        if (bucket_read(l, c) < 0)
            return -1;
    return 0;
}

// ---- groupings ---------------------------------------------------------------------------------------

static int bucket_named(const struct config *c, const char *name)
{
    for (uint32_t i = 0; i < c->n_buckets; i++)
        if (c->buckets[i].named && strcmp(c->buckets[i].name, name) == 0)
            return (int)i;
    return -1;
}

// A bucket of the value itself, which no entry of `buckets` names.
static int bucket_in_passing(struct config_loader *l, const char *name, const struct config_ref *ref,
                             const struct config_at *at, uint32_t *ret_bucket)
{
    struct config *c = l->c;
    for (uint32_t i = 0; i < c->n_buckets; i++) {
        const struct config_bucket *b = &c->buckets[i];
        if (!b->named && b->of[0].of == ref->of && strcmp(b->of[0].field, ref->field) == 0 &&
            strcmp(b->name, name) == 0) {
            *ret_bucket = i;
            return 0;
        }
    }
    struct config_bucket *b = bucket_add(l, at);
    if (b == NULL)
        return -1;
    snprintf(b->name, sizeof b->name, "%s", name);
    b->of[0] = *ref;
    *ret_bucket = (uint32_t)(b - c->buckets);
    return 0;
}

// What an entry of `by` means: a bucket, user.X, item.X or context.X, or an attribute of the other side.
static int by_bucket(struct config_loader *l, const char *what, enum group_of of, const struct tree_node *n,
                     uint32_t *ret_bucket)
{
    char value[80];
    struct config_ref ref;
    if (n->kind != TREE_SCALAR || n->null)
        return tree_fail(l->err, &n->at, "%s holds %s, but must hold names", what,
                         tree_quote(n, value, sizeof value));
    int bucket = bucket_named(l->c, n->text);
    if (bucket >= 0) {
        *ret_bucket = (uint32_t)bucket;
        return 0;
    }
    if (strchr(n->text, '.') != NULL) {
        if (config_ref_read(l, what, n, false, ANY_SINGLE, &ref) < 0)
            return -1;
    } else if (config_choice("user|item|all|total|timestamp", n->text) >= 0 || n->text[0] == '\0') {
        return tree_fail(l->err, &n->at, "%s: \"%s\" is neither a bucket nor an attribute", what, n->text);
    } else if (config_ref_of(l, what, of == GROUP_OF_ITEM ? CONFIG_OF_USER : CONFIG_OF_ITEM, n->text,
                             ANY_SINGLE, &n->at, &ref) < 0) {
        return -1;
    }
    return bucket_in_passing(l, n->text, &ref, &n->at, ret_bucket);
}

static int grouping_add(struct config_loader *l, const char *name, enum group_of of, uint32_t bucket,
                        bool counted, const struct config_at *at, uint32_t *ret_grouping)
{
    struct config *c = l->c;
    for (uint32_t i = 0; i < c->n_groupings; i++)
        if (c->groupings[i].of == of && c->groupings[i].bucket == bucket) {
            *ret_grouping = i;
            return 0;
        }
    if (c->n_groupings == CONFIG_GROUPINGS_MAX)
        return tree_fail(l->err, at, "more than %d groupings of counters and sequences together",
                         CONFIG_GROUPINGS_MAX);
    struct config_grouping *g = &c->groupings[c->n_groupings];
    *g = (struct config_grouping){.of = of, .bucket = bucket, .counted = counted};
    snprintf(g->name, sizeof g->name, "%s", name);
    *ret_grouping = c->n_groupings++;
    return 0;
}

int config_grouping_of_user(struct config_loader *l, const char *what, const struct tree_node *n,
                            uint32_t *ret_grouping)
{
    uint32_t bucket;
    if (by_bucket(l, what, GROUP_OF_USER, n, &bucket) < 0)
        return -1;
    return grouping_add(l, n->text, GROUP_OF_USER, bucket, false, &n->at, ret_grouping);
}

static int by_read(struct config_loader *l, const char *what, enum group_of of, const struct tree_node *n)
{
    if (config_list_check(l, what, n, 0, CONFIG_GROUPINGS_MAX) < 0)
        return -1;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next) {
        uint32_t bucket, grouping, before = l->c->n_groupings;
        if (by_bucket(l, what, of, c, &bucket) < 0 ||
            grouping_add(l, c->text, of, bucket, true, &c->at, &grouping) < 0)
            return -1;
        if (l->c->n_groupings == before)
            return tree_fail(l->err, &c->at, "%s: \"%s\" stands twice", what, c->text);
    }
    return 0;
}

int config_item_by_read(struct config_loader *l, const struct tree_node *n)
{
    return by_read(l, "counters.item.by", GROUP_OF_ITEM, n);
}

int config_user_by_read(struct config_loader *l, const struct tree_node *n)
{
    return by_read(l, "counters.user.by", GROUP_OF_USER, n);
}

int config_all_by_read(struct config_loader *l, const struct tree_node *n)
{
    return by_read(l, "counters.all.by", GROUP_OF_ALL, n);
}

int config_grouping_find(const struct config *c, enum group_of of, const char *name)
{
    for (uint32_t i = 0; i < c->n_groupings; i++)
        if (c->groupings[i].counted && c->groupings[i].of == of && strcmp(c->groupings[i].name, name) == 0)
            return (int)i;
    return -1;
}

// ---- what the numbers in the store mean --------------------------------------------------------------

static void layout_sequence(const struct config *c, uint32_t i, struct buf *to)
{
    const struct config_sequence *s = &c->sequences[i];
    buf_printf(to, "sequence %u %s of %x with %u keep %s", i, s->name, s->actions, s->with,
               s->keeps_attribute ? s->keep.field : "item");
    if (s->grouping != CONFIG_NONE)
        buf_printf(to, " by %s", c->groupings[s->grouping].name);
    buf_printf(to, "%s\n", s->unique ? " unique" : "");
}

static void layout_ref(const struct config_ref *r, struct buf *to)
{
    static const char *const names[] = {"user", "item", "context"};
    buf_printf(to, " %s.%s", names[r->of], r->field);
}

static void layout_grouping(const struct config *c, uint32_t i, struct buf *to)
{
    static const char *const of[] = {"user", "item", "all"};
    static const char *const kinds[] = {"value", "edges", "prefix", "geohash", "hour", "weekday"};
    const struct config_grouping *g = &c->groupings[i];
    const struct config_bucket *b = &c->buckets[g->bucket];
    buf_printf(to, "grouping %u %s by %s: %s", i, of[g->of], g->name, kinds[b->kind]);
    if (b->kind != CONFIG_BUCKET_HOUR && b->kind != CONFIG_BUCKET_WEEKDAY)
        layout_ref(&b->of[0], to);
    else
        buf_printf(to, " %g", b->offset_hours);
    if (b->kind == CONFIG_BUCKET_GEOHASH)
        layout_ref(&b->of[1], to);
    if (b->kind == CONFIG_BUCKET_GEOHASH || b->kind == CONFIG_BUCKET_PREFIX)
        buf_printf(to, " %u", b->kind == CONFIG_BUCKET_GEOHASH ? b->precision : b->prefix);
    for (uint32_t k = 0; k < b->n_edges; k++)
        buf_printf(to, " %.17g", b->edges[k]);
    buf_put_u8(to, '\n');
}

void config_layout(struct config_loader *l)
{
    struct config *c = l->c;
    struct buf text = {0};
    for (uint32_t i = 0; i < c->n_windows; i++)
        buf_printf(&text, "window %u %s %lldx%u\n", i, c->windows[i].name, (long long)c->windows[i].tile_ms,
                   c->windows[i].tiles);
    buf_printf(&text, "totals %s\n", c->totals ? "true" : "false");
    for (uint32_t i = 0; i < c->n_actions; i++)
        buf_printf(&text, "action %u %s\n", i, c->actions[i]);
    for (uint32_t i = 0; i < c->n_sequences; i++)
        if (c->sequences[i].name[0] != '\0')
            layout_sequence(c, i, &text);
    for (uint32_t i = 0; i < c->n_groupings; i++)
        layout_grouping(c, i, &text);
    if (c->total_of_all)
        buf_printf(&text, "grouping %d all\n", CONFIG_GROUPING_TOTAL);
    c->layout = arena_str(l->arena, buf_str(&text)).s;
    buf_done(&text);
}
