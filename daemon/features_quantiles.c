// SPDX-License-Identifier: Apache-2.0
// Buckets of equal share, learned from the stream: the edges between N buckets are the values at k/N of the sorted
// values of the first update's samples (the first QUANTILES_SAMPLES of them), equal ones once. They belong to the
// version that this update makes, are stored with it, and do not change after that: what a bucket means must not
// move under the row that was learned for it.
//
//     blob "quantiles"   { str feature, u32 N, u32 n, n x f64 } ...
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/features_impl.h"

enum { QUANTILES_SAMPLES = 20000 };

struct collected {
    uint32_t feature;
    uint32_t n, cap;
    double *values;
    struct learned edges;
};

struct quantiles {
    uint32_t samples;
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
        q->list[q->n++].feature = i;
    }
    return q;
}

void features_quantiles_free(struct quantiles *q)
{
    if (q == NULL)
        return;
    for (uint32_t i = 0; i < q->n; i++)
        free(q->list[i].values);
    free(q);
}

void features_quantiles_put(struct quantiles *q, const struct feature_row *row)
{
    if (q == NULL || q->samples++ >= QUANTILES_SAMPLES)
        return;
    for (uint32_t i = 0; i < q->n; i++) {
        struct collected *c = &q->list[i];
        const struct feature_value *v = &row->values[c->feature];
        if (v->type == FEATURE_MISSING)
            continue;
        if (c->n == c->cap) {
            c->cap = c->cap > 0 ? 2 * c->cap : 1024;
            c->values = mem_resize(c->values, c->cap, sizeof *c->values);
        }
        c->values[c->n++] = v->number;
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
        if (c->edges.known) // it came from elsewhere
            continue;
        c->edges.known = c->n > 0; // else the next update is asked
        c->edges.n = features_quantile_edges(c->values, c->n, f->config->features[c->feature].quantiles,
                                             c->edges.edges);
    }
}

static void learned_put(const struct features *f, uint32_t feature, const struct learned *l, struct buf *to)
{
    buf_put_str(to, str_of(f->config->features[feature].name));
    buf_put_u32(to, f->config->features[feature].quantiles);
    buf_put_u32(to, l->n);
    for (uint32_t k = 0; k < l->n; k++)
        buf_put_f64(to, l->edges[k]);
}

static const struct learned *learned_next(const struct features *f, const struct quantiles *q,
                                          uint32_t feature)
{
    for (uint32_t i = 0; q != NULL && i < q->n; i++)
        if (q->list[i].feature == feature)
            return &q->list[i].edges;
    return &f->learned[feature];
}

void features_quantiles_save(const struct features *f, const struct quantiles *q, struct buf *to)
{
    for (uint32_t i = 0; i < f->config->n_features; i++) {
        const struct learned *l = learned_next(f, q, i);
        if (l->known)
            learned_put(f, i, l, to);
    }
}

void features_quantiles_apply(struct features *f, const struct quantiles *q)
{
    for (uint32_t i = 0; q != NULL && i < q->n; i++)
        f->learned[q->list[i].feature] = q->list[i].edges;
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

// The feature that an entry of the blob is of; CONFIG_NONE: the config has it no more, or otherwise.
static uint32_t learned_feature(const struct features *f, struct str name, uint32_t quantiles)
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
        uint32_t feature = learned_feature(f, name, rd_u32(&r));
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
