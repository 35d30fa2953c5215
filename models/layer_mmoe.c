// SPDX-License-Identifier: Apache-2.0
// mmoe: the mixture of experts by the gate of one task (Ma et al., Modeling Task Relationships in Multi-task Learning
// with Multi-gate Mixture-of-Experts, KDD 2018); as deepctr-torch's MMOE. A block for each task; the experts are the
// parts of an `experts` block, or any blocks of one width (B, H).
//
//     h = FC(g)                g (B, G): what `by` names; h is g without `gate`
//     a = softmax(h W^T)       (B, E); W (E, .) has no bias
//     y = sum_e a_e x_e        (B, H)
//
//     dx_e = a_e dy;  da_e = dy . x_e;  du_e = a_e (da_e - sum_k a_k da_k);  dh = du W;  dW += du^T h
//
// `dropout` keeps a gate from leaving all to one expert: in training each weight is masked with probability p, and
// those left are divided by their sum, as in Zhao et al., Recommending What Video to Watch Next, RecSys 2019. That is
// the softmax over the experts left, so predicting needs no other scale. Where none would be left, all are.
//
// Parameters: "<block>.gate.<i>.weight", ".bias", i = 0, 2, ..., and of W "<block>.gate.<i>.weight", the next i. The
// cost is the products'; the mixture reads the experts once forward, and twice backward. Scratch:
//
//     | a (B, E) | du (B, E) | h (B, last width) | dh | of the FC |
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "models/fc.h"
#include "models/gemm.h"
#include "models/kernel.h"

enum { MMOE_EXPERTS_MAX = 256 };

static const struct layer_option mmoe_options[] = {
    {"by", LAYER_INPUT, .required = true, .text = "What the gate reads."},
    {"gate", LAYER_DIMS, .min = 1, .max = NET_DIM_MAX,
     .text = "Widths of fully connected layers of the gate, ReLU; left out: none."},
    {"dropout", LAYER_NUMBER, .min = 0, .max = 0.95, .fallback = 0,
     .text = "The probability that an expert is masked in training, against gates that use one alone."},
    {0},
};

struct part {
    uint32_t in, column;
};

struct mmoe {
    uint32_t n, dim, by; // experts, their width, which input the gate reads
    struct part *parts;
    struct fc gate;
    bool hidden; // there is an FC
    uint32_t width;
    double dropout;
    size_t weight;       // offset within the parameters
    size_t a, du, h, dh; // in the scratch
};

// ---- shape ------------------------------------------------------------------------------------------------

static uint32_t parts_of(const struct value *v)
{
    return v->layer != NULL && v->layer->kind == &layer_experts ? layer_count(v->layer, "count") : 1;
}

static int parts_init(struct layer *l, struct mmoe *m, struct err *err)
{
    for (uint32_t i = 0; i < l->n_of; i++)
        m->n += parts_of(l->in[i]);
    if (m->n < 2 || m->n > MMOE_EXPERTS_MAX)
        return layer_fail(l, err,
                          "it mixes 2 to %d experts, not %u: an experts block, or blocks of one width",
                          MMOE_EXPERTS_MAX, m->n);
    m->parts = layer_alloc(l, m->n, sizeof *m->parts);
    m->dim = l->in[0]->dim / parts_of(l->in[0]);
    for (uint32_t i = 0, at = 0; i < l->n_of; i++) {
        const uint32_t parts = parts_of(l->in[i]), dim = l->in[i]->dim / parts;
        if (dim != m->dim)
            return layer_fail(l, err, "experts must be of one width, but \"%s\" is %u wide and \"%s\" %u",
                              l->in[0]->name, m->dim, l->in[i]->name, dim);
        for (uint32_t p = 0; p < parts; p++)
            m->parts[at++] = (struct part){i, p * dim};
    }
    return 0;
}

static void gate_init(struct layer *l, struct mmoe *m)
{
    const size_t rows = l->out->rows_max;
    char name[NET_NAME];
    struct fc_options o = {.prefix = "gate.", .in = l->in[m->by]->dim};
    o.dims = layer_dims(l, "gate", &o.n);
    m->hidden = o.n > 0;
    m->width = m->hidden ? o.dims[o.n - 1] : o.in;
    m->du = rows * m->n;
    m->h = m->du + rows * m->n;
    m->dh = m->h + (m->hidden ? rows * m->width : 0);
    l->scratch_floats = m->dh + (m->hidden ? rows * m->width : 0);
    l->scratch_floats = (l->scratch_floats + 15) / 16 * 16;
    if (m->hidden)
        fc_init(l, l->out->rows_max, &o, &m->gate);
    snprintf(name, sizeof name, "gate.%u.weight", 2 * o.n);
    m->weight = layer_param(l, name, m->n, m->width, init_fan_in(m->width));
}

static int mmoe_shape(struct layer *l, struct err *err)
{
    struct mmoe *m = l->own = layer_alloc(l, 1, sizeof *m);
    uint32_t n_by;
    m->by = layer_inputs(l, "by", &n_by);
    m->dropout = layer_number(l, "dropout");
    l->stochastic = m->dropout > 0;
    for (uint32_t i = 0; i < l->n_in; i++)
        if (l->in[i]->ragged)
            return layer_fail(l, err, "\"%s\" is a sequence: pool it with mean first", l->in[i]->name);
    if (parts_init(l, m, err) < 0)
        return -1;
    l->out->dim = m->dim;
    gate_init(l, m);
    return 0;
}

// ---- the gate ---------------------------------------------------------------------------------------------

// What W is multiplied with.
static const float *gate_hidden(const struct layer *l, const struct layer_context *c, uint32_t *ret_ld)
{
    const struct mmoe *m = l->own;
    *ret_ld = m->hidden ? m->width : l->in[m->by]->stride;
    return m->hidden ? c->scratch + m->h : l->in[m->by]->x;
}

static struct fc_run gate_run(const struct layer *l, const struct layer_context *c)
{
    const struct mmoe *m = l->own;
    const struct value *by = l->in[m->by];
    return (struct fc_run){.rows = c->n,
                           .x = by->x,
                           .y = c->scratch + m->h,
                           .ldx = by->stride,
                           .ldy = m->width,
                           .dy = c->scratch + m->dh,
                           .dx = by->wanted ? by->dx : NULL,
                           .lddy = m->width,
                           .lddx = by->stride,
                           .beta = l->beta[m->by]};
}

// Which experts take part in the sample's mixture.
static void kept_draw(const struct layer *l, const struct layer_context *c, uint32_t sample, bool *ret_kept)
{
    const struct mmoe *m = l->own;
    const bool drops = m->dropout > 0 && c->training && c->seeds != NULL;
    const uint64_t seed = drops ? layer_seed(l, c, sample) : 0;
    const uint64_t least = (uint64_t)(m->dropout * 0x1p32);
    uint32_t left = 0;
    for (uint32_t e = 0; e < m->n; e++) {
        ret_kept[e] = !drops || hash_mix(seed + e) >> 32 >= least;
        left += ret_kept[e];
    }
    for (uint32_t e = 0; e < m->n && left == 0; e++)
        ret_kept[e] = true;
}

// In place. What is not kept is 0.
KERNEL static void softmax(uint32_t n, const bool *kept, float *restrict a)
{
    float most = -INFINITY, sum = 0;
    for (uint32_t e = 0; e < n; e++)
        most = kept[e] && a[e] > most ? a[e] : most;
    for (uint32_t e = 0; e < n; e++) {
        a[e] = kept[e] ? kernel_exp(a[e] - most) : 0;
        sum += a[e];
    }
    for (uint32_t e = 0; e < n; e++)
        a[e] /= sum;
}

static void gate_forward(const struct layer *l, const struct layer_context *c)
{
    const struct mmoe *m = l->own;
    uint32_t ld;
    const float *h = gate_hidden(l, c, &ld);
    bool kept[MMOE_EXPERTS_MAX];
    if (m->hidden) {
        const struct fc_run run = gate_run(l, c);
        fc_forward(l, &m->gate, c, &run);
    }
    packs_nt_ld(c->packs, c->n, m->n, m->width, h, ld, c->params + m->weight, c->scratch + m->a, m->n);
    for (uint32_t s = 0; s < c->n; s++) {
        kept_draw(l, c, s, kept);
        softmax(m->n, kept, c->scratch + m->a + (size_t)s * m->n);
    }
}

// ---- the mixture ------------------------------------------------------------------------------------------

// y = or += a_e x.
KERNEL static void mix(uint32_t rows, uint32_t dim, const float *restrict a, uint32_t lda,
                       const float *restrict x, uint32_t ldx, bool add, float *restrict y, uint32_t ldy)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < dim; j++)
            y[i * ldy + j] = (add ? y[i * ldy + j] : 0) + a[i * lda] * x[i * ldx + j];
}

static void mmoe_forward(const struct layer *l, const struct layer_context *c)
{
    const struct mmoe *m = l->own;
    gate_forward(l, c);
    for (uint32_t e = 0; e < m->n; e++) {
        const struct value *in = l->in[m->parts[e].in];
        mix(c->n, m->dim, c->scratch + m->a + e, m->n, in->x + m->parts[e].column, in->stride, e > 0,
            l->out->x, l->out->stride);
    }
}

// da_e = dy . x_e.
KERNEL static void weights_back(uint32_t rows, uint32_t dim, const float *restrict dy, uint32_t lddy,
                                const float *restrict x, uint32_t ldx, float *restrict da, uint32_t ldda)
{
    for (size_t i = 0; i < rows; i++) {
        const float *restrict u = dy + i * lddy, *restrict v = x + i * ldx;
#define TERM(j) (u[j] * v[j])
        KERNEL_SUM(da[i * ldda], dim, TERM);
#undef TERM
    }
}

// da becomes du.
KERNEL static void softmax_back(uint32_t rows, uint32_t n, const float *restrict a, float *restrict da)
{
    for (size_t i = 0; i < rows; i++) {
        float sum = 0;
        for (uint32_t e = 0; e < n; e++)
            sum += a[i * n + e] * da[i * n + e];
        for (uint32_t e = 0; e < n; e++)
            da[i * n + e] = a[i * n + e] * (da[i * n + e] - sum);
    }
}

static void gate_backward(const struct layer *l, const struct layer_context *c)
{
    const struct mmoe *m = l->own;
    const struct value *by = l->in[m->by];
    float *du = c->scratch + m->du;
    uint32_t ld;
    const float *h = gate_hidden(l, c, &ld), *w = c->params + m->weight;
    if (c->dparams == NULL && !by->wanted)
        return;
    for (uint32_t e = 0; e < m->n; e++) {
        const struct value *in = l->in[m->parts[e].in];
        weights_back(c->n, m->dim, l->out->dx, l->out->stride, in->x + m->parts[e].column, in->stride, du + e,
                     m->n);
    }
    softmax_back(c->n, m->n, c->scratch + m->a, du);
    if (c->dparams != NULL)
        gemm_tn_ld(c->n, m->n, m->width, du, m->n, h, ld, c->dparams + m->weight);
    if (m->hidden) {
        const struct fc_run run = gate_run(l, c);
        packs_nn_ld(c->packs, c->n, m->n, m->width, du, m->n, w, 0, run.dy, m->width);
        fc_backward(l, &m->gate, c, &run);
    } else if (by->wanted) {
        packs_nn_ld(c->packs, c->n, m->n, m->width, du, m->n, w, l->beta[m->by], by->dx, by->stride);
    }
}

static void mmoe_backward(const struct layer *l, const struct layer_context *c)
{
    const struct mmoe *m = l->own;
    for (uint32_t e = 0; e < m->n; e++) {
        const struct value *in = l->in[m->parts[e].in];
        if (in->wanted)
            mix(c->n, m->dim, c->scratch + m->a + e, m->n, l->out->dx, l->out->stride,
                l->beta[m->parts[e].in] != 0, in->dx + m->parts[e].column, in->stride);
    }
    gate_backward(l, c);
}

// ---- the twin ---------------------------------------------------------------------------------------------

// Of a row: the weights in double.
static void weights_naive(const struct layer *l, const struct layer_context *c, uint32_t sample,
                          const float *h, double *ret_a)
{
    const struct mmoe *m = l->own;
    bool kept[MMOE_EXPERTS_MAX];
    double sum = 0;
    kept_draw(l, c, sample, kept);
    for (uint32_t e = 0; e < m->n; e++) {
        double u = 0;
        for (uint32_t j = 0; j < m->width; j++)
            u += (double)c->params[m->weight + (size_t)e * m->width + j] * (double)h[j];
        ret_a[e] = kept[e] ? exp(u) : 0;
        sum += ret_a[e];
    }
    for (uint32_t e = 0; e < m->n; e++)
        ret_a[e] /= sum;
}

static void mmoe_forward_naive(const struct layer *l, const struct layer_context *c)
{
    const struct mmoe *m = l->own;
    float *h = mem_array((size_t)c->n * m->width + 1, sizeof *h);
    double a[MMOE_EXPERTS_MAX];
    if (m->hidden) {
        struct fc_run run = gate_run(l, c);
        run.y = h;
        fc_forward_naive(l, &m->gate, c, &run);
    }
    for (uint32_t s = 0; s < c->n; s++) {
        const struct value *by = l->in[m->by];
        weights_naive(l, c, s, m->hidden ? h + (size_t)s * m->width : by->x + (size_t)s * by->stride, a);
        for (uint32_t j = 0; j < m->dim; j++) {
            double y = 0;
            for (uint32_t e = 0; e < m->n; e++) {
                const struct value *in = l->in[m->parts[e].in];
                y += a[e] * (double)in->x[(size_t)s * in->stride + m->parts[e].column + j];
            }
            l->out->x[(size_t)s * l->out->stride + j] = (float)y;
        }
    }
    free(h);
}

static double mmoe_flops(const struct layer *l, bool backward, bool dense)
{
    const struct mmoe *m = l->own;
    const struct value *by = l->in[m->by];
    const bool dx = by->from_ids || (dense && by->from_params);
    const double product = 2.0 * m->n * m->width, mixture = 2.0 * m->n * m->dim;
    const double hidden = m->hidden ? fc_flops(&m->gate, backward, dense, dx) : 0;
    return backward ? 2 * mixture + product * (dx + dense) + hidden : mixture + product + hidden;
}

static bool mmoe_product(const struct layer *l, uint32_t i, uint32_t ret_shape[3])
{
    const struct mmoe *m = l->own;
    const uint32_t hidden = m->hidden ? m->gate.n : 0;
    if (i < hidden)
        return fc_product(&m->gate, i, l->out->rows_max, ret_shape);
    ret_shape[0] = l->out->rows_max;
    ret_shape[1] = m->n;
    ret_shape[2] = m->width;
    return i == hidden;
}

const struct layer_kind layer_mmoe = {
    .name = "mmoe",
    .text = "A task's mixture of experts (an experts block, or blocks of one width) by a softmax gate.",
    .options = mmoe_options,
    .stochastic = true,
    .shape = mmoe_shape,
    .forward = mmoe_forward,
    .backward = mmoe_backward,
    .forward_naive = mmoe_forward_naive,
    .flops = mmoe_flops,
    .product = mmoe_product,
};
