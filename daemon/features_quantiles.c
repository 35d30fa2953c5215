// SPDX-License-Identifier: Apache-2.0
// Buckets of equal share, learned from the stream: the edges between N buckets are the values at k/N of the sorted
// values of the samples so far, equal ones once, at the end of the first update that brings them to BUCKET_VALUES a
// bucket; of more than VALUES_MAX the first. They belong to the version that this update makes, are stored with it, and
// do not change after that: what a bucket means must not move under the row that was learned for it. So they must not
// come from the few samples of an update that a stray early event cut off; until there are enough, the values are
// stored with the version, in the order of the samples.
//
//     blob "quantiles"   { str feature, u32 N, u32 n, n x f64 } ...   edges
//     blob "gathered"    { str feature, u32 N, u32 n, n x f64 } ...   values of features that have no edges yet
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/features_impl.h"

// At 100 a bucket the share of one is off by a tenth or so.
enum { BUCKET_VALUES = 100, VALUES_MAX = 20000 };
static_assert((CONFIG_EDGES_MAX + 1) * BUCKET_VALUES <= VALUES_MAX,
              "as many buckets as there can be are learned");

struct collected {
    uint32_t feature;
    uint32_t cap;
    struct gathered next; // of the version before, and of the update
    struct learned edges;
};

struct quantiles {
    uint32_t n;
    struct collected list[CONFIG_FEATURES_MAX];
};

struct quantiles *features_quantiles_new(const struct features *f)
{
    struct quantiles *q = NULL;
    for (uint32_t i = 0; i < f->config->n_features; i++) {
        if (f->config->features[i].quantiles == 0 || f->learned[i].known)
            continue;
        if (q == NULL)
            q = mem_zalloc(sizeof *q);
        struct collected *c = &q->list[q->n++];
        const struct gathered *g = &f->gathered[i];
        c->feature = i;
        c->next.n = c->cap = g->n;
        c->next.values = g->n > 0 ? mem_array(g->n, sizeof *g->values) : NULL;
        if (g->n > 0)
            memcpy(c->next.values, g->values, g->n * sizeof *g->values);
    }
    return q;
}

void features_quantiles_free(struct quantiles *q)
{
    if (q == NULL)
        return;
    for (uint32_t i = 0; i < q->n; i++)
        free(q->list[i].next.values);
    free(q);
}

void features_quantiles_done(struct features *f)
{
    for (uint32_t i = 0; i < CONFIG_FEATURES_MAX; i++)
        free(f->gathered[i].values);
}

void features_quantiles_put(struct quantiles *q, const struct feature_row *row)
{
    for (uint32_t i = 0; q != NULL && i < q->n; i++) {
        struct collected *c = &q->list[i];
        const struct feature_value *v = &row->values[c->feature];
        if (v->type == FEATURE_MISSING || c->next.n >= VALUES_MAX)
            continue;
        if (c->next.n == c->cap) {
            c->cap = c->cap > 0 ? 2 * c->cap : 1024;
            c->next.values = mem_resize(c->next.values, c->cap, sizeof *c->next.values);
        }
        c->next.values[c->next.n++] = v->number;
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

uint32_t features_quantile_edges(double *values, uint32_t n, uint32_t quantiles, double *ret_edges)
{
    uint32_t edges = 0;
    if (n > 1)
        qsort(values, n, sizeof *values, compare_doubles);
    for (uint32_t k = 1; k < quantiles && n > 0; k++) {
        double edge = values[(uint64_t)k * n / quantiles];
        if (edges == 0 || edge > ret_edges[edges - 1])
            ret_edges[edges++] = edge;
    }
    return edges;
}

void features_quantiles_learn(const struct features *f, struct quantiles *q)
{
    for (uint32_t i = 0; q != NULL && i < q->n; i++) {
        struct collected *c = &q->list[i];
        const uint32_t quantiles = f->config->features[c->feature].quantiles;
        if (c->edges.known || c->next.n < features_quantiles_need(quantiles)) // known: it came from elsewhere
            continue;
        c->edges.known = true;
        c->edges.n = features_quantile_edges(c->next.values, c->next.n, quantiles, c->edges.edges);
        free(c->next.values);
        c->next = (struct gathered){0};
    }
}

static void entry_put(const struct features *f, uint32_t feature, const double *values, uint32_t n,
                      struct buf *to)
{
    buf_put_str(to, str_of(f->config->features[feature].name));
    buf_put_u32(to, f->config->features[feature].quantiles);
    buf_put_u32(to, n);
    for (uint32_t k = 0; k < n; k++)
        buf_put_f64(to, values[k]);
}

static const struct learned *learned_next(const struct features *f, const struct quantiles *q,
                                          uint32_t feature)
{
    for (uint32_t i = 0; q != NULL && i < q->n; i++)
        if (q->list[i].feature == feature)
            return &q->list[i].edges;
    return &f->learned[feature];
}

static const struct gathered *gathered_next(const struct features *f, const struct quantiles *q,
                                            uint32_t feature)
{
    for (uint32_t i = 0; q != NULL && i < q->n; i++)
        if (q->list[i].feature == feature)
            return &q->list[i].next;
    return &f->gathered[feature];
}

void features_quantiles_save(const struct features *f, const struct quantiles *q, struct buf *to,
                             struct buf *gathered)
{
    for (uint32_t i = 0; i < f->config->n_features; i++) {
        const struct learned *l = learned_next(f, q, i);
        const struct gathered *g = gathered_next(f, q, i);
        if (l->known)
            entry_put(f, i, l->edges, l->n, to);
        else if (g->n > 0)
            entry_put(f, i, g->values, g->n, gathered);
    }
}

void features_quantiles_apply(struct features *f, struct quantiles *q)
{
    for (uint32_t i = 0; q != NULL && i < q->n; i++) {
        struct collected *c = &q->list[i];
        struct gathered *g = &f->gathered[c->feature];
        f->learned[c->feature] = c->edges;
        free(g->values);
        *g = c->next;
        c->next = (struct gathered){0};
    }
}

void features_quantiles_set(struct quantiles **q, uint32_t feature, const double *edges, uint32_t n)
{
    assert(n <= CONFIG_EDGES_MAX);
    if (*q == NULL)
        *q = mem_zalloc(sizeof **q);
    struct learned *l = &(*q)->list[(*q)->n].edges;
    (*q)->list[(*q)->n++].feature = feature;
    l->known = true;
    l->n = n;
    memcpy(l->edges, edges, n * sizeof *edges);
}

// The feature that an entry of a blob is of; CONFIG_NONE: the config has it no more, or otherwise.
static uint32_t entry_feature(const struct features *f, struct str name, uint32_t quantiles)
{
    for (uint32_t i = 0; i < f->config->n_features; i++)
        if (str_is(name, f->config->features[i].name) && f->config->features[i].quantiles == quantiles)
            return i;
    return CONFIG_NONE;
}

int features_quantiles_load(struct features *f, struct str blob, struct err *err)
{
    struct rd r = rd_of(blob.s, blob.len);
    while (rd_left(&r) > 0) {
        struct learned l = {.known = true};
        struct str name = rd_str(&r);
        uint32_t feature = entry_feature(f, name, rd_u32(&r));
        l.n = rd_u32(&r);
        if (l.n > CONFIG_EDGES_MAX)
            r.bad = true;
        for (uint32_t k = 0; k < l.n && !r.bad; k++)
            l.edges[k] = rd_f64(&r);
        if (r.bad)
            return err_set(err, ERR_CORRUPT, "the store's learned quantiles are cut short");
        if (feature != CONFIG_NONE)
            f->learned[feature] = l;
    }
    return 0;
}

int features_quantiles_load_gathered(struct features *f, struct str blob, struct err *err)
{
    struct rd r = rd_of(blob.s, blob.len);
    while (rd_left(&r) > 0) {
        struct str name = rd_str(&r);
        uint32_t feature = entry_feature(f, name, rd_u32(&r));
        const uint32_t n = rd_u32(&r);
        if (r.bad || n > VALUES_MAX || rd_left(&r) < n * sizeof(double))
            return err_set(err, ERR_CORRUPT, "the store's values for quantiles are cut short");
        double *values = mem_array(n, sizeof *values);
        for (uint32_t k = 0; k < n; k++)
            values[k] = rd_f64(&r);
        if (feature == CONFIG_NONE) {
            free(values);
            continue;
        }
        free(f->gathered[feature].values);
        f->gathered[feature] = (struct gathered){n, values};
    }
    return 0;
}

uint32_t features_quantiles_need(uint32_t quantiles)
{
    return quantiles * BUCKET_VALUES;
}

uint32_t features_quantiles_gathered(const struct features *f, uint32_t feature)
{
    return f->gathered[feature].n;
}

bool features_quantiles_of(const struct features *f, uint32_t feature, const double **ret_edges,
                           uint32_t *ret_n)
{
    *ret_edges = f->learned[feature].edges;
    *ret_n = f->learned[feature].n;
    return f->learned[feature].known;
}

bool features_quantiles_next(const struct features *f, const struct quantiles *q, uint32_t feature,
                             const double **ret_edges, uint32_t *ret_n)
{
    const struct learned *l = learned_next(f, q, feature);
    *ret_edges = l->edges;
    *ret_n = l->n;
    return l->known;
}
