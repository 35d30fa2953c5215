// SPDX-License-Identifier: Apache-2.0
// The products of a stack of fully connected layers, and their order.
//
//     y_i = drop(f(norm(y_{i-1} W_i^T + b_i)))      one product, and passes (fc_pass.c): one where it is ReLU alone
//     dy_{i-1} = dz_i W_i                           dz_i: dy_i through the passes, in place
//     dW_i += dz_i^T y_{i-1}                        not when frozen
//
// The cost is the products', 2 B in out each; a pass touches B out floats. Scratch, as far as it is needed:
//
//     | y_0 | z_0 | u_0 | gate_0 | keep_0 | stats_0 | y_1 | ... | dy even | dy odd |
#include "models/fc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/gemm.h"
#include "models/kernel.h"

enum { FC_ALIGN = 16 }; // floats: a cache line

// ---- shape ------------------------------------------------------------------------------------------------

size_t fc_scratch(struct layer *l, size_t floats)
{
    const size_t at = l->scratch_floats;
    l->scratch_floats += (floats + FC_ALIGN - 1) / FC_ALIGN * FC_ALIGN;
    return at;
}

static const char *name_of(char *text, const char *prefix, uint32_t i, const char *what)
{
    snprintf(text, NET_NAME, "%.20s%u.%s", prefix, i, what);
    return text;
}

static void declare_norm(struct layer *l, struct fc_layer *t, const char *prefix, uint32_t i)
{
    char s[NET_NAME];
    t->gamma = layer_vector(l, name_of(s, prefix, i, "weight"), t->out, init_constant(1));
    t->beta = layer_vector(l, name_of(s, prefix, i, "bias"), t->out, init_constant(0));
    if (t->norm != FC_NORM_BATCH)
        return;
    t->mean = layer_buffer(l, name_of(s, prefix, i, "running_mean"), t->out, init_constant(0));
    t->var = layer_buffer(l, name_of(s, prefix, i, "running_var"), t->out, init_constant(1));
}

static void declare_activation(struct layer *l, struct fc_layer *t, const char *prefix, uint32_t i)
{
    char s[NET_NAME];
    if (t->f == FC_PRELU)
        t->alpha = layer_vector(l, name_of(s, prefix, i, "weight"), 1, init_constant(0.25));
    if (t->f != FC_DICE)
        return;
    t->dice_mean = layer_buffer(l, name_of(s, prefix, i, "bn.running_mean"), t->out, init_constant(0));
    t->dice_var = layer_buffer(l, name_of(s, prefix, i, "bn.running_var"), t->out, init_constant(1));
    t->alpha = layer_vector(l, name_of(s, prefix, i, "alpha"), t->out, init_constant(0));
}

// `i` is its place in the nn.Sequential.
static void layer_declare(struct layer *l, struct fc_layer *t, const char *prefix, uint32_t i)
{
    char s[NET_NAME];
    t->weight = layer_param(l, name_of(s, prefix, i, "weight"), t->out, t->in, init_fan_in(t->in));
    t->bias = layer_vector(l, name_of(s, prefix, i, "bias"), t->out, init_fan_in(t->in));
    if (t->norm != FC_NORM_NONE)
        declare_norm(l, t, prefix, ++i);
    declare_activation(l, t, prefix, i + 1);
}

static void layer_place(struct layer *l, struct fc_layer *t, uint32_t rows_max, bool last)
{
    const size_t floats = (size_t)rows_max * t->out;
    if (!last)
        t->y = fc_scratch(l, floats);
    if (fc_pass_has_z(t))
        t->z = t->u = fc_scratch(l, floats);
    if (t->norm != FC_NORM_NONE && t->f >= FC_PRELU)
        t->u = fc_scratch(l, floats);
    if (t->f == FC_DICE)
        t->gate = fc_scratch(l, floats);
    if (t->dropout > 0)
        t->keep = fc_scratch(l, floats);
    t->stats = fc_scratch(l, fc_norm_floats(t, rows_max));
    t->dice_stats = fc_scratch(l, fc_dice_floats(t));
}

void fc_init(struct layer *l, uint32_t rows_max, const struct fc_options *o, struct fc *ret_fc)
{
    const uint32_t places = 2u + (o->norm != FC_NORM_NONE) + (o->dropout > 0);
    uint32_t widest = 0;
    *ret_fc = (struct fc){.n = o->n, .first = o->first, .eps = o->eps, .momentum = o->momentum};
    for (uint32_t i = 0; i < o->n; i++) {
        const bool last = i + 1 == o->n, bare = last && o->bare_last;
        struct fc_layer *t = &ret_fc->layers[i];
        *t = (struct fc_layer){.in = i == 0 ? o->in : o->dims[i - 1],
                               .out = o->dims[i],
                               .f = last ? o->last : o->activation,
                               .norm = bare ? FC_NORM_NONE : o->norm,
                               .dropout = bare ? 0 : o->dropout};
        layer_declare(l, t, o->prefix, i * places);
        layer_place(l, t, rows_max, last);
        widest = !last && t->out > widest ? t->out : widest;
    }
    fc_split_init(l, rows_max, ret_fc);
    ret_fc->turns[0] = fc_scratch(l, (size_t)widest * rows_max);
    ret_fc->turns[1] = fc_scratch(l, (size_t)widest * rows_max);
}

bool fc_stochastic(const struct fc *f)
{
    bool any = false;
    for (uint32_t i = 0; i < f->n; i++) {
        const struct fc_layer *t = &f->layers[i];
        any |= t->norm == FC_NORM_BATCH || t->f == FC_DICE || t->dropout > 0;
    }
    return any;
}

// ---- running ----------------------------------------------------------------------------------------------

static struct fc_pass pass_of(const struct layer *l, const struct fc *f, const struct layer_context *c,
                              const struct fc_run *run, uint32_t i)
{
    const struct fc_layer *t = &f->layers[i];
    const bool last = i + 1 == f->n;
    return (struct fc_pass){.fc = f,
                            .t = t,
                            .l = l,
                            .c = c,
                            .offsets = run->offsets,
                            .at = f->first + i,
                            .rows = run->rows,
                            .y = last ? run->y : c->scratch + t->y,
                            .ldy = last ? run->ldy : t->out};
}

float *fc_first(const struct fc *f, const struct layer_context *c, const struct fc_run *run)
{
    const struct fc_layer *t = &f->layers[0];
    if (fc_pass_has_z(t))
        return c->scratch + t->z;
    return f->n == 1 ? run->y : c->scratch + t->y;
}

const float *fc_first_gradient(const struct fc *f, const struct layer_context *c, const struct fc_run *run)
{
    return f->n == 1 ? run->dy : c->scratch + f->turns[1];
}

void fc_forward(const struct layer *l, const struct fc *f, const struct layer_context *c,
                const struct fc_run *run)
{
    const float *x = run->x;
    uint32_t ldx = run->ldx;
    for (uint32_t i = 0; i < f->n; i++) {
        const struct fc_layer *t = &f->layers[i];
        struct fc_pass p = pass_of(l, f, c, run, i);
        const bool z = fc_pass_has_z(t), split = i == 0 && f->split != NULL;
        float *to = z ? c->scratch + t->z : p.y;
        const uint32_t ld = z ? t->out : p.ldy;
        p.biased = x != NULL && !split;
        if (split)
            fc_split_forward(f, c, run, to, ld);
        else if (x != NULL)
            packs_forward(c->packs, &(struct packed_product){.m = run->rows,
                                                             .n = t->out,
                                                             .k = t->in,
                                                             .w = c->params + t->weight,
                                                             .x = x,
                                                             .ldx = ldx,
                                                             .y = to,
                                                             .ldy = ld,
                                                             .bias = c->params + t->bias,
                                                             .relu = !z && t->f == ACTIVATION_RELU});
        fc_pass_forward(&p);
        x = p.y;
        ldx = p.ldy;
    }
}

// dx = dz W of layer i, masked where y of the layer before is rectified.
static void product_backward(const struct fc *f, const struct layer_context *c, const struct fc_run *run,
                             uint32_t i, const float *dz, uint32_t lddz, float *dx, uint32_t lddx)
{
    const struct fc_layer *t = &f->layers[i];
    const float *w = c->params + t->weight;
    const bool mask = i > 0 && f->layers[i - 1].f == ACTIVATION_RELU, add = i == 0 && run->beta != 0;
    const float *y = mask ? c->scratch + f->layers[i - 1].y : NULL;
    if (t->out == 1 && lddz == 1) // three times as fast as the product of one column
        kernel_outer(run->rows, t->in, dz, w, add ? 1 : 0, mask, mask ? y : dx, dx, lddx);
    else
        packs_backward(c->packs, &(struct packed_product){.m = run->rows,
                                                          .n = t->out,
                                                          .k = t->in,
                                                          .w = w,
                                                          .x = dz,
                                                          .ldx = lddz,
                                                          .y = dx,
                                                          .ldy = lddx,
                                                          .add = add,
                                                          .mask = y,
                                                          .ldmask = t->in});
}

void fc_backward(const struct layer *l, const struct fc *f, const struct layer_context *c,
                 const struct fc_run *run)
{
    float *dy = run->dy;
    uint32_t lddy = run->lddy;
    for (uint32_t i = f->n; i-- > 0;) {
        const struct fc_layer *t = &f->layers[i];
        const struct fc_pass p = pass_of(l, f, c, run, i);
        const float *x = i == 0 ? run->x : c->scratch + f->layers[i - 1].y;
        const uint32_t ldx = i == 0 ? run->ldx : t->in;
        float *dx = i == 0 ? run->dx : c->scratch + f->turns[i & 1];
        const uint32_t lddx = i == 0 ? run->lddx : t->in;
        const bool split = i == 0 && f->split != NULL;
        fc_pass_backward(&p, dy, lddy, i + 1 < f->n || run->masked);
        if (split)
            fc_split_backward(f, c, run, dy, lddy);
        if (c->dparams != NULL) {
            if (x != NULL && !split)
                gemm_tn_ld(run->rows, t->out, t->in, dy, lddy, x, ldx, c->dparams + t->weight);
            kernel_column_sums(run->rows, t->out, dy, lddy, c->dparams + t->bias);
        }
        if (dx != NULL && !split)
            product_backward(f, c, run, i, dy, lddy, dx, lddx);
        dy = dx;
        lddy = lddx;
    }
}

static double *product_naive(const struct fc_layer *t, const float *w, uint32_t rows, const double *x)
{
    double *z = mem_array((size_t)rows * t->out + 1, sizeof *z);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < t->out; j++)
            for (size_t k = 0; k < t->in; k++)
                z[i * t->out + j] += x[i * t->in + k] * (double)w[j * t->in + k];
    return z;
}

void fc_forward_naive(const struct layer *l, const struct fc *f, const struct layer_context *c,
                      const struct fc_run *run)
{
    const uint32_t in = f->layers[0].in, out = f->layers[f->n - 1].out;
    double *x = mem_array((size_t)run->rows * in + 1, sizeof *x);
    for (uint32_t i = 0; i < run->rows; i++)
        if (f->split != NULL)
            fc_split_row(f, c, run, i, x + (size_t)i * in);
        else
            for (uint32_t j = 0; j < in; j++)
                x[(size_t)i * in + j] = (double)run->x[(size_t)i * run->ldx + j];
    for (uint32_t i = 0; i < f->n; i++) {
        const struct fc_pass p = pass_of(l, f, c, run, i);
        double *z = product_naive(p.t, c->params + p.t->weight, run->rows, x);
        fc_pass_naive(&p, z);
        free(x);
        x = z;
    }
    for (size_t i = 0; i < (size_t)run->rows * out; i++)
        run->y[i / out * run->ldy + i % out] = (float)x[i];
    free(x);
}

// Backward: a product for the gradient of each layer's input, the first only where it is wanted, and one of
// the same size for each dW.
double fc_flops(const struct fc *f, bool backward, bool dense, bool dx)
{
    double sum = 0;
    for (uint32_t i = 0; i < f->n; i++)
        sum += 2.0 * f->layers[i].in * f->layers[i].out * (backward ? (i > 0 || dx) + dense : 1);
    return sum;
}

bool fc_product(const struct fc *f, uint32_t i, uint32_t rows_max, uint32_t ret_shape[3])
{
    const uint32_t parts = f->split != NULL ? 2 : 0;
    if (i >= f->n + parts)
        return false;
    ret_shape[0] = rows_max;
    ret_shape[1] = f->layers[i < f->n ? i : 0].out;
    ret_shape[2] = i < f->n ? f->layers[i].in : f->split->dim[i - f->n];
    return true;
}
