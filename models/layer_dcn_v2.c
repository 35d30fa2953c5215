// SPDX-License-Identifier: Apache-2.0
// dcn_v2: cross layers (Wang et al., DCN V2: Improved Deep & Cross Network, WWW 2021), as FuxiCTR's CrossNetV2. Each
// adds one degree of explicit crossing; all are (B, D), the width of the input.
//
//     u_l = W_l x_l + b_l           W (D, D); with `rank: r` W = U V^T, U and V (D, r): 2 r D instead of D D
//     x_{l+1} = x_0 o u_l + x_l
//
//     g_l = dx_{l+1}:  du_l = g o x_0;  dx_0 += g o u_l;  dx_l = g + du_l W_l;  dW_l += du_l^T x_l;  db_l += du_l
//
// The cost is the products'. Forward is one pass after each, for bias, product and skip; backward one before each, and
// g stays where it is: the product is added to it, and the last one to the gradient of x_0 itself. Parameters:
// "<block>.cross_layers.<l>.weight" and ".bias"; of low rank "U_list.<l>", "V_list.<l>", "bias.<l>", as CrossNetMix
// has them, without its experts, gates and nonlinearities. Scratch:
//
//     | u_0 | ... | u_{L-1} | x_1 | ... | x_{L-1} | du | dx_0 | t_0 = x_0 V (B, r) | ... | dt |
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "models/gemm.h"
#include "models/kernel.h"
#include "models/layer.h"

static const struct layer_option dcn_options[] = {
    {"dcn_v2", LAYER_COUNT, .min = 1, .max = 32, .required = true, .text = "How many."},
    {"rank", LAYER_COUNT, .min = 0, .max = NET_DIM_MAX, .text = "Of the weights, U V^T; 0: full."},
    {0},
};

struct cross {
    size_t weight, u, v, bias; // offsets within the layer's parameters
};

struct dcn {
    uint32_t n, dim, rank; // rank 0: full
    size_t du, dx0, dt;    // in the scratch
    struct cross layers[];
};

static size_t floats_of(const struct layer *l)
{
    return (size_t)l->out->rows_max * l->out->dim;
}

static float *u_of(const struct layer *l, const struct layer_context *c, uint32_t i)
{
    return c->scratch + i * floats_of(l);
}

static float *t_of(const struct layer *l, const struct layer_context *c, uint32_t i)
{
    const struct dcn *d = l->own;
    return c->scratch + d->dt + (1 + (size_t)i) * l->out->rows_max * d->rank;
}

static void cross_declare(struct layer *l, const struct dcn *d, struct cross *t, uint32_t i)
{
    char s[NET_NAME];
    if (d->rank == 0) {
        snprintf(s, sizeof s, "cross_layers.%u.weight", i);
        t->weight = layer_param(l, s, d->dim, d->dim, init_fan_in(d->dim));
        snprintf(s, sizeof s, "cross_layers.%u.bias", i);
        t->bias = layer_vector(l, s, d->dim, init_fan_in(d->dim));
        return;
    }
    snprintf(s, sizeof s, "U_list.%u", i);
    t->u = layer_param(l, s, d->dim, d->rank, init_xavier_normal(d->rank, d->dim));
    snprintf(s, sizeof s, "V_list.%u", i);
    t->v = layer_param(l, s, d->dim, d->rank, init_xavier_normal(d->rank, d->dim));
    snprintf(s, sizeof s, "bias.%u", i);
    t->bias = layer_vector(l, s, d->dim, init_constant(0));
}

static int dcn_shape(struct layer *l, struct err *err)
{
    const uint32_t n = layer_count(l, "dcn_v2"), dim = l->in[0]->dim;
    struct dcn *d = l->own = layer_alloc(l, 1, sizeof *d + n * sizeof *d->layers);
    d->n = n;
    d->dim = dim;
    d->rank = layer_count(l, "rank");
    if (d->rank > 0 && d->rank >= dim)
        return layer_fail(l, err,
                          "rank is %u, but what it crosses is %u wide: leave it out for the full weights",
                          d->rank, dim);
    l->out->dim = dim;
    layer_rows_as(l, l->in[0]);
    for (uint32_t i = 0; i < n; i++)
        cross_declare(l, d, &d->layers[i], i);
    d->du = (2 * (size_t)n - 1) * floats_of(l);
    d->dx0 = d->du + floats_of(l);
    d->dt = d->dx0 + floats_of(l);
    l->scratch_floats = d->dt + (1 + (size_t)n) * l->out->rows_max * d->rank;
    return 0;
}

// What cross layer i reads.
struct rows {
    const float *x;
    uint32_t ld;
};

static struct rows rows_of(const struct layer *l, const struct layer_context *c, uint32_t i)
{
    const struct dcn *d = l->own;
    if (i == 0)
        return (struct rows){l->in[0]->x, l->in[0]->stride};
    return (struct rows){c->scratch + (d->n + i - 1) * floats_of(l), d->dim};
}

// u += bias; y = x0 o u + x.
KERNEL static void cross(uint32_t rows, uint32_t dim, const struct rows *from0, const struct rows *from,
                         const float *restrict bias, float *restrict u, float *restrict y, uint32_t ldy)
{
    for (size_t i = 0; i < rows; i++) {
        const float *x0 = from0->x + i * from0->ld, *x = from->x + i * from->ld;
        for (uint32_t j = 0; j < dim; j++) {
            const float v = u[i * dim + j] + bias[j];
            u[i * dim + j] = v;
            y[i * ldy + j] = x0[j] * v + x[j];
        }
    }
}

static void dcn_forward(const struct layer *l, const struct layer_context *c)
{
    const struct dcn *d = l->own;
    const uint32_t rows = l->out->rows, dim = d->dim;
    const struct rows x0 = rows_of(l, c, 0);
    for (uint32_t i = 0; i < d->n; i++) {
        const struct cross *t = &d->layers[i];
        const struct rows x = rows_of(l, c, i);
        float *u = u_of(l, c, i);
        if (d->rank == 0) {
            packs_nt_ld(c->packs, rows, dim, dim, x.x, x.ld, c->params + t->weight, u, dim);
        } else {
            packs_nn_ld(c->packs, rows, dim, d->rank, x.x, x.ld, c->params + t->v, 0, t_of(l, c, i), d->rank);
            packs_nt_ld(c->packs, rows, dim, d->rank, t_of(l, c, i), d->rank, c->params + t->u, u, dim);
        }
        const bool last = i + 1 == d->n;
        cross(rows, dim, &x0, &x, c->params + t->bias, u,
              last ? l->out->x : c->scratch + (d->n + (size_t)i) * floats_of(l), last ? l->out->stride : dim);
    }
}

// du = g o x0; dx0 = or += g o u.
KERNEL static void uncross(uint32_t rows, uint32_t dim, const struct rows *from0, const float *restrict g,
                           uint32_t ldg, const float *restrict u, bool add, float *restrict du,
                           float *restrict dx0)
{
    for (size_t i = 0; i < rows; i++) {
        const float *restrict x0 = from0->x + i * from0->ld;
        for (uint32_t j = 0; j < dim; j++) {
            const float d = g[i * ldg + j];
            du[i * dim + j] = d * x0[j];
            dx0[i * dim + j] = (add ? dx0[i * dim + j] : 0) + d * u[i * dim + j];
        }
    }
}

// dx = or += g + dx0: what reaches x_0 but by the first product.
KERNEL static void join(uint32_t rows, uint32_t dim, const float *restrict g, uint32_t ldg,
                        const float *restrict dx0, bool add, float *restrict dx, uint32_t lddx)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < dim; j++)
            dx[i * lddx + j] = (add ? dx[i * lddx + j] : 0) + g[i * ldg + j] + dx0[i * dim + j];
}

static void cross_params(const struct layer *l, const struct layer_context *c, uint32_t i, const float *du,
                         const float *dt)
{
    const struct dcn *d = l->own;
    const struct cross *t = &d->layers[i];
    const struct rows x = rows_of(l, c, i);
    const uint32_t rows = l->out->rows;
    kernel_column_sums(rows, d->dim, du, d->dim, c->dparams + t->bias);
    if (d->rank == 0) {
        gemm_tn_ld(rows, d->dim, d->dim, du, d->dim, x.x, x.ld, c->dparams + t->weight);
        return;
    }
    gemm_tn_ld(rows, d->dim, d->rank, du, d->dim, t_of(l, c, i), d->rank, c->dparams + t->u);
    gemm_tn_ld(rows, d->dim, d->rank, x.x, x.ld, dt, d->rank, c->dparams + t->v);
}

// The gradient of u_i, by way of the weights, is added to dx.
static void cross_back(const struct layer *l, const struct layer_context *c, uint32_t i, float *dx,
                       uint32_t lddx)
{
    const struct dcn *d = l->own;
    const struct cross *t = &d->layers[i];
    const uint32_t rows = l->out->rows;
    float *du = c->scratch + d->du, *dt = c->scratch + d->dt;
    if (d->rank > 0)
        packs_nn_ld(c->packs, rows, d->dim, d->rank, du, d->dim, c->params + t->u, 0, dt, d->rank);
    if (c->dparams != NULL)
        cross_params(l, c, i, du, dt);
    if (dx != NULL && d->rank == 0)
        packs_nn_ld(c->packs, rows, d->dim, d->dim, du, d->dim, c->params + t->weight, 1, dx, lddx);
    else if (dx != NULL)
        packs_nt_add_ld(c->packs, rows, d->dim, d->rank, dt, d->rank, c->params + t->v, dx, lddx);
}

static void dcn_backward(const struct layer *l, const struct layer_context *c)
{
    const struct dcn *d = l->own;
    const struct value *in = l->in[0], *out = l->out;
    const struct rows x0 = rows_of(l, c, 0);
    float *du = c->scratch + d->du, *dx0 = c->scratch + d->dx0;
    for (uint32_t i = d->n; i-- > 0;) {
        uncross(out->rows, d->dim, &x0, out->dx, out->stride, u_of(l, c, i), i + 1 < d->n, du, dx0);
        if (i == 0 && in->wanted)
            join(out->rows, d->dim, out->dx, out->stride, dx0, l->beta[0] != 0, in->dx, in->stride);
        if (i == 0)
            cross_back(l, c, i, in->wanted ? in->dx : NULL, in->stride);
        else
            cross_back(l, c, i, out->dx, out->stride);
    }
}

static double weight_naive(const struct dcn *d, const struct cross *t, const float *params, size_t j,
                           size_t k)
{
    if (d->rank == 0)
        return (double)params[t->weight + j * d->dim + k];
    double sum = 0;
    for (size_t r = 0; r < d->rank; r++)
        sum += (double)params[t->u + j * d->rank + r] * (double)params[t->v + k * d->rank + r];
    return sum;
}

static void row_naive(const struct dcn *d, const float *params, const float *x0, double *x, double *u)
{
    for (uint32_t j = 0; j < d->dim; j++)
        x[j] = (double)x0[j];
    for (uint32_t i = 0; i < d->n; i++) {
        for (uint32_t j = 0; j < d->dim; j++) {
            u[j] = (double)params[d->layers[i].bias + j];
            for (uint32_t k = 0; k < d->dim; k++)
                u[j] += weight_naive(d, &d->layers[i], params, j, k) * x[k];
        }
        for (uint32_t j = 0; j < d->dim; j++)
            x[j] += (double)x0[j] * u[j];
    }
}

static void dcn_forward_naive(const struct layer *l, const struct layer_context *c)
{
    const struct dcn *d = l->own;
    double *x = mem_array(2 * (size_t)d->dim, sizeof *x);
    for (size_t r = 0; r < l->out->rows; r++) {
        row_naive(d, c->params, l->in[0]->x + r * l->in[0]->stride, x, x + d->dim);
        for (uint32_t j = 0; j < d->dim; j++)
            l->out->x[r * l->out->stride + j] = (float)x[j];
    }
    free(x);
}

static double dcn_flops(const struct layer *l, bool backward, bool dense)
{
    const struct dcn *d = l->own;
    const double weights = d->rank == 0 ? (double)d->dim * d->dim : 2.0 * d->dim * d->rank;
    return d->n * (2 * weights * (backward ? 1 + dense : 1) + 2.0 * d->dim);
}

static bool dcn_product(const struct layer *l, uint32_t i, uint32_t ret_shape[3])
{
    const struct dcn *d = l->own;
    if (i > 0)
        return false;
    ret_shape[0] = l->out->rows_max;
    ret_shape[1] = d->dim;
    ret_shape[2] = d->rank == 0 ? d->dim : d->rank;
    return true;
}

const struct layer_kind layer_dcn_v2 = {
    .name = "dcn_v2",
    .text = "Cross layers, x + x_0 o (W x + b).",
    .options = dcn_options,
    .one_input = true,
    .shape = dcn_shape,
    .forward = dcn_forward,
    .backward = dcn_backward,
    .forward_naive = dcn_forward_naive,
    .flops = dcn_flops,
    .product = dcn_product,
};
