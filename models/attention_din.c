// SPDX-License-Identifier: Apache-2.0
// The activation unit of DIN (Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018) as
// FuxiCTR's DIN_Attention: of each entry k beside its sample's candidate q,
//
//     a = FC([q, k, q - k, q o k])     a number, by hidden layers; with softmax over the sample's entries, or as it is
//     y = sum of a_j k_j
//
// The first weight is (H, Dq + D + D + Dq) = | Wq | Wk | Wd | Wp |, so z = (Wq + Wd) q + (Wk - Wd) k + Wp (q o k):
// the part of q is computed once a sample, that of an entry is one product of [k, q o k] (N, D + Dq) with
// [Wk - Wd, Wp]. Where Dq < D, q - k is -k in the columns that q lacks, and q o k is nothing there. Backward, with S
// the sums of dz over the entries of a sample:
//
//     dq = S (Wq + Wd) + sum of dm_j o k_j     dm = dz Wp
//     dk = dz (Wk - Wd) + dm o q + a dy
//     dWk = dz^T k, dWp = dz^T (q o k), dWq = S^T q, dWd = dWq - dWk
//
// The cost is the products', 2 N (D + Dq) H for the first, and three fifths of the time; the rest are passes over
// (N, H). Statistics of a norm or of dice are those of the entries that are there: FuxiCTR counts its padding too.
//
// Scratch: | Wq + Wd | Wk - Wd, Wp | part of q, then S (B, H) | [k, q o k], then its gradient | a | scores |, fc's own.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/attention.h"
#include "models/gemm.h"
#include "models/kernel.h"

void din_init(struct layer *l, const struct din_options *o, struct din *ret_din)
{
    const uint32_t in = 2 * (o->dim + o->query), mixed = o->dim + o->query, h = o->hidden[0];
    uint32_t dims[NET_DIMS_MAX];
    memcpy(dims, o->hidden, o->n * sizeof *dims);
    dims[o->n] = 1;
    const struct fc_options fc = {.prefix = "attention_layer.mlp.",
                                  .in = in,
                                  .n = o->n + 1,
                                  .dims = dims,
                                  .activation = o->activation,
                                  .last = ACTIVATION_NONE,
                                  .bare_last = true,
                                  .norm = o->norm,
                                  .eps = 1e-5,
                                  .momentum = 0.1,
                                  .dropout = o->dropout};
    struct din *d = ret_din;
    *d = (struct din){.dim = o->dim, .query = o->query, .units = h, .softmax = o->softmax};
    d->packed_q = attention_scratch(l, (size_t)h * o->query);
    d->packed_k = attention_scratch(l, (size_t)h * mixed);
    d->dpacked = attention_scratch(l, (size_t)h * mixed);
    d->part = attention_scratch(l, (size_t)l->out->rows_max * h);
    d->mixed = attention_scratch(l, (size_t)o->rows_max * mixed);
    d->weights = attention_scratch(l, o->rows_max);
    d->scores = attention_scratch(l, o->rows_max);
    fc_init(l, o->rows_max, &fc, &d->fc);
}

// ---- forward ----------------------------------------------------------------------------------------------

// | Wq | Wk | Wd | Wp | of each unit.
KERNEL static void pack(uint32_t units, uint32_t dim, uint32_t query, const float *restrict w,
                        float *restrict to_q, float *restrict to_k)
{
    for (size_t h = 0; h < units; h++, w += 2 * (dim + query)) {
        const float *restrict k = w + query, *restrict d = k + dim, *restrict p = d + dim;
        float *restrict row = to_k + h * (dim + query);
        for (uint32_t j = 0; j < query; j++)
            to_q[h * query + j] = w[j] + d[j];
        for (uint32_t j = 0; j < dim; j++)
            row[j] = k[j] - d[j];
        for (uint32_t j = 0; j < query; j++)
            row[dim + j] = p[j];
    }
}

// Unless they are packed already.
static void first_weights(const struct din *d, const struct layer_context *c, bool backward)
{
    float *q = c->scratch + d->packed_q, *k = c->scratch + d->packed_k;
    if (!packs_have(c->packs, q, backward) || !packs_have(c->packs, k, backward))
        pack(d->units, d->dim, d->query, c->params + d->fc.layers[0].weight, q, k);
}

// [k, q o k] of each entry, and the first layer's z begun by the part of q.
KERNEL static void mix(const struct attention_run *run, uint32_t dim, uint32_t query, float *restrict mixed,
                       uint32_t units, const float *restrict part, float *restrict z)
{
    const uint32_t *restrict offsets = run->offsets;
    for (size_t i = 0; i < run->n; i++) {
        const float *restrict q = run->q + i * run->ldq, *restrict p = part + i * units;
        for (size_t j = offsets[i]; j < offsets[i + 1]; j++) {
            const float *restrict k = run->k + j * run->ldk;
            float *restrict to = mixed + j * (dim + query), *restrict row = z + j * units;
            for (uint32_t d = 0; d < dim; d++)
                to[d] = k[d];
            for (uint32_t d = 0; d < query; d++)
                to[dim + d] = q[d] * k[d];
            for (uint32_t h = 0; h < units; h++)
                row[h] = p[h];
        }
    }
}

// Over the entries of each sample.
KERNEL static void soften(uint32_t n, const uint32_t *restrict offsets, const float *restrict scores,
                          float *restrict weights)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t from = offsets[i], to = offsets[i + 1];
        float most = from < to ? scores[from] : 0, sum = 0;
        for (uint32_t j = from; j < to; j++)
            most = scores[j] > most ? scores[j] : most;
        for (uint32_t j = from; j < to; j++)
            weights[j] = kernel_exp(scores[j] - most);
        for (uint32_t j = from; j < to; j++)
            sum += weights[j];
        for (uint32_t j = from; j < to; j++)
            weights[j] /= sum;
    }
}

KERNEL static void weigh(const struct attention_run *run, uint32_t dim, const float *restrict weights)
{
    const uint32_t *restrict offsets = run->offsets;
    for (size_t i = 0; i < run->n; i++) {
        float *restrict y = run->y + i * run->ldy;
        for (uint32_t d = 0; d < dim; d++)
            y[d] = 0;
        for (size_t j = offsets[i]; j < offsets[i + 1]; j++) {
            const float *restrict k = run->k + j * run->ldk, a = weights[j];
            for (uint32_t d = 0; d < dim; d++)
                y[d] += a * k[d];
        }
    }
}

static struct fc_run fc_run_of(const struct din *d, const struct layer_context *c,
                               const struct attention_run *run)
{
    return (struct fc_run){
        .rows = run->offsets[run->n], .offsets = run->offsets, .y = c->scratch + d->scores, .ldy = 1};
}

void din_forward(const struct layer *l, const struct din *d, const struct layer_context *c,
                 const struct attention_run *run)
{
    float *s = c->scratch;
    const uint32_t rows = run->offsets[run->n], mixed = d->dim + d->query;
    const struct fc_run fc = fc_run_of(d, c, run);
    float *z = fc_first(&d->fc, c, &fc);
    first_weights(d, c, false);
    packs_nt_ld(c->packs, run->n, d->units, d->query, run->q, run->ldq, s + d->packed_q, s + d->part,
                d->units);
    mix(run, d->dim, d->query, s + d->mixed, d->units, s + d->part, z);
    packs_nt_add_ld(c->packs, rows, d->units, mixed, s + d->mixed, mixed, s + d->packed_k, z, d->units);
    fc_forward(l, &d->fc, c, &fc);
    if (d->softmax)
        soften(run->n, run->offsets, s + d->scores, s + d->weights);
    weigh(run, d->dim, s + (d->softmax ? d->weights : d->scores));
}

// ---- backward ---------------------------------------------------------------------------------------------

// Of the weights, then of the scores where there is a softmax between.
KERNEL static void score_gradient(const struct attention_run *run, uint32_t dim,
                                  const float *restrict weights, bool softmax, float *restrict ds)
{
    const uint32_t *restrict offsets = run->offsets;
    for (size_t i = 0; i < run->n; i++) {
        const float *restrict dy = run->dy + i * run->lddy;
        float mean = 0;
        for (size_t j = offsets[i]; j < offsets[i + 1]; j++) {
            const float *restrict k = run->k + j * run->ldk;
            float sum;
#define PRODUCT(x) (dy[x] * k[x])
            KERNEL_SUM(sum, dim, PRODUCT);
            ds[j] = sum;
            mean += softmax ? weights[j] * sum : 0;
        }
        for (size_t j = offsets[i]; j < offsets[i + 1] && softmax; j++)
            ds[j] = weights[j] * (ds[j] - mean);
    }
}

KERNEL static void entry_sums(uint32_t n, const uint32_t *restrict offsets, uint32_t units,
                              const float *restrict dz, uint32_t ld, float *restrict sums)
{
    for (size_t i = 0; i < n; i++) {
        float *restrict to = sums + i * units;
        for (uint32_t h = 0; h < units; h++)
            to[h] = 0;
        for (size_t j = offsets[i]; j < offsets[i + 1]; j++)
            for (uint32_t h = 0; h < units; h++)
                to[h] += dz[j * ld + h];
    }
}

// dk of an entry, and what it adds to the dq of its sample, from the gradient of [k, q o k].
KERNEL static void unmix(const struct attention_run *run, uint32_t dim, uint32_t query,
                         const float *restrict weights, const float *restrict mixed)
{
    const uint32_t *restrict offsets = run->offsets;
    for (size_t i = 0; i < run->n; i++) {
        const float *restrict q = run->q + i * run->ldq, *restrict dy = run->dy + i * run->lddy;
        float *restrict dq = run->dq != NULL ? run->dq + i * run->lddq : NULL;
        for (size_t j = offsets[i]; j < offsets[i + 1]; j++) {
            const float *restrict k = run->k + j * run->ldk, *restrict from = mixed + j * (dim + query);
            const float *restrict m = from + dim, a = weights[j];
            float *restrict dk = run->dk != NULL ? run->dk + j * run->lddk : NULL;
            if (dq != NULL)
                for (uint32_t d = 0; d < query; d++)
                    dq[d] += m[d] * k[d];
            if (dk == NULL)
                continue;
            if (!run->add_k)
                for (uint32_t d = 0; d < dim; d++)
                    dk[d] = from[d] + a * dy[d];
            else
                for (uint32_t d = 0; d < dim; d++)
                    dk[d] += from[d] + a * dy[d];
            for (uint32_t d = 0; d < query; d++)
                dk[d] += m[d] * q[d];
        }
    }
}

// G = dz^T [k, q o k] and S^T q, into dWq, dWk, dWd and dWp.
static void first_params(const struct din *d, const struct layer_context *c, const struct attention_run *run,
                         const float *dz, uint32_t lddz)
{
    float *s = c->scratch, *g = s + d->dpacked, *gq = s + d->packed_q;
    const uint32_t dim = d->dim, query = d->query, mixed = dim + query;
    float *dw = c->dparams + d->fc.layers[0].weight;
    memset(g, 0, (size_t)d->units * mixed * sizeof *g);
    memset(gq, 0, (size_t)d->units * query * sizeof *gq);
    gemm_tn_ld(run->offsets[run->n], d->units, mixed, dz, lddz, s + d->mixed, mixed, g);
    gemm_tn_ld(run->n, d->units, query, s + d->part, d->units, run->q, run->ldq, gq);
    for (size_t h = 0; h < d->units; h++, dw += 2 * mixed, g += mixed, gq += query) {
        for (uint32_t j = 0; j < query; j++) {
            dw[j] += gq[j];
            dw[query + dim + j] += gq[j];
            dw[query + 2 * dim + j] += g[dim + j];
        }
        for (uint32_t j = 0; j < dim; j++) {
            dw[query + j] += g[j];
            dw[query + dim + j] -= g[j];
        }
    }
}

void din_backward(const struct layer *l, const struct din *d, const struct layer_context *c,
                  const struct attention_run *run)
{
    float *s = c->scratch, *weights = s + (d->softmax ? d->weights : d->scores);
    const uint32_t rows = run->offsets[run->n], mixed = d->dim + d->query;
    struct fc_run fc = fc_run_of(d, c, run);
    fc.dy = s + (d->softmax ? d->scores : d->weights); // the one of the two that nobody reads
    fc.lddy = 1;
    score_gradient(run, d->dim, weights, d->softmax, fc.dy);
    fc_backward(l, &d->fc, c, &fc);
    const float *dz = fc_first_gradient(&d->fc, c, &fc);
    if (run->dq != NULL || c->dparams != NULL)
        entry_sums(run->n, run->offsets, d->units, dz, d->units, s + d->part);
    if (c->packs != NULL) // in between other parameters may have been there
        first_weights(d, c, true);
    if (run->dq != NULL) // before the weights there give way to their gradient
        packs_nn_ld(c->packs, run->n, d->units, d->query, s + d->part, d->units, s + d->packed_q, run->add_q,
                    run->dq, run->lddq);
    if (c->dparams != NULL)
        first_params(d, c, run, dz, d->units);
    if (run->dq == NULL && run->dk == NULL)
        return;
    packs_nn_ld(c->packs, rows, d->units, mixed, dz, d->units, s + d->packed_k, 0, s + d->mixed, mixed);
    unmix(run, d->dim, d->query, weights, s + d->mixed);
}

// ---- twin -------------------------------------------------------------------------------------------------

static void weigh_naive(const struct din *d, const struct attention_run *run, uint32_t i, const float *scores)
{
    double most = -INFINITY, sum = 0;
    for (size_t j = run->offsets[i]; j < run->offsets[i + 1]; j++)
        most = fmax(most, (double)scores[j]);
    for (size_t j = run->offsets[i]; j < run->offsets[i + 1]; j++)
        sum += exp((double)scores[j] - most);
    for (uint32_t k = 0; k < d->dim; k++) {
        double y = 0;
        for (size_t j = run->offsets[i]; j < run->offsets[i + 1]; j++)
            y += (d->softmax ? exp((double)scores[j] - most) / sum : (double)scores[j]) *
                 (double)run->k[j * run->ldk + k];
        run->y[i * run->ldy + k] = (float)y;
    }
}

void din_forward_naive(const struct layer *l, const struct din *d, const struct layer_context *c,
                       const struct attention_run *run)
{
    const uint32_t rows = run->offsets[run->n], in = 2 * (d->dim + d->query);
    float *x = mem_array((size_t)rows * in + 1, sizeof *x), *scores = mem_array(rows + 1, sizeof *scores);
    for (uint32_t i = 0; i < run->n; i++)
        for (size_t j = run->offsets[i]; j < run->offsets[i + 1]; j++) {
            const float *q = run->q + (size_t)i * run->ldq, *k = run->k + j * run->ldk;
            float *to = x + j * in;
            for (uint32_t e = 0; e < d->query; e++)
                *to++ = q[e];
            for (uint32_t e = 0; e < d->dim; e++)
                *to++ = k[e];
            for (uint32_t e = 0; e < d->dim; e++)
                *to++ = e < d->query ? q[e] - k[e] : -k[e];
            for (uint32_t e = 0; e < d->query; e++)
                *to++ = q[e] * k[e];
        }
    const struct fc_run fc = {
        .rows = rows, .offsets = run->offsets, .x = x, .ldx = in, .y = scores, .ldy = 1};
    fc_forward_naive(l, &d->fc, c, &fc);
    for (uint32_t i = 0; i < run->n; i++)
        weigh_naive(d, run, i, scores);
    free(x);
    free(scores);
}

// ---- what it costs ------------------------------------------------------------------------------------------

double din_flops(const struct din *d, double entries, bool backward, bool dense)
{
    const double times = backward ? 1 + dense : 1, first = 2.0 * d->units;
    const double rest =
        fc_flops(&d->fc, backward, dense, false) - (backward && !dense ? 0 : first * 2 * (d->dim + d->query));
    return first * d->query * times + entries * (first * (d->dim + d->query) * times + rest + 2.0 * d->dim);
}

bool din_product(const struct din *d, uint32_t i, uint32_t samples, uint32_t rows_max, uint32_t ret_shape[3])
{
    if (i > 1)
        return fc_product(&d->fc, i - 1, rows_max, ret_shape);
    ret_shape[0] = i == 0 ? samples : rows_max;
    ret_shape[1] = d->units;
    ret_shape[2] = i == 0 ? d->query : d->dim + d->query;
    return true;
}
