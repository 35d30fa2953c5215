// SPDX-License-Identifier: Apache-2.0
// mlp: Linear, ReLU, Linear, ReLU, ... as PyTorch's nn.Sequential, so that layer i's parameters are named
// "<block>.<2i>.weight" (out, in) and "<block>.<2i>.bias" (out). With activation "none" nothing stands
// between.
//
//     y_i = relu(y_{i-1} W_i^T + b_i)           one product, one pass for bias and ReLU
//     dy_{i-1} = (dy_i W_i) where y_{i-1} > 0   one product, one pass; the mask is the output itself
//     dW_i += dy_i^T y_{i-1}                    not when frozen
//
// The cost is the products', 2 B in out each; the passes touch B out floats. Of a ragged input every entry is
// a row. Scratch: the outputs between the layers, then two gradients in turn:
//
//     | y_0 | y_1 | ... | y_{L-2} | dy even | dy odd |
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/gemm.h"
#include "models/kernel.h"
#include "models/layer.h"

struct linear {
    uint32_t in, out;
    size_t weight, bias; // offsets within the layer's parameters
    size_t y;            // offset of its output in the scratch, but for the last
};

static struct linear linear_of(const struct layer *l, uint32_t i)
{
    struct linear f = {.in = l->in[0]->dim, .out = l->block->dims[0]};
    for (uint32_t j = 0; j < i; j++) {
        f.weight += (size_t)f.out * f.in + f.out;
        f.y += (size_t)f.out * l->out->rows_max;
        f.in = f.out;
        f.out = l->block->dims[j + 1];
    }
    f.bias = f.weight + (size_t)f.out * f.in;
    return f;
}

// Widest value between two layers.
static uint32_t widest(const struct net_block *b)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i + 1 < b->n_dims; i++)
        most = b->dims[i] > most ? b->dims[i] : most;
    return most;
}

static int mlp_check(const struct net_block *b, struct err *err)
{
    if (b->n_dims == 0 || b->n_dims > NET_DIMS_MAX)
        return err_set(err, ERR_CONFIG, "block \"%s\": mlp takes the widths of 1 to %d layers", b->name,
                       NET_DIMS_MAX);
    for (uint32_t i = 0; i < b->n_dims; i++)
        if (b->dims[i] == 0 || b->dims[i] > INT32_MAX)
            return err_set(err, ERR_CONFIG, "block \"%s\": layer %u of the mlp is %u wide", b->name, i,
                           b->dims[i]);
    if (b->activation[0] != 0 && strcmp(b->activation, "relu") != 0 && strcmp(b->activation, "none") != 0)
        return err_set(err, ERR_CONFIG, "block \"%s\": no activation \"%s\": relu or none", b->name,
                       b->activation);
    return 0;
}

static int mlp_shape(struct layer *l, struct err *err)
{
    const struct net_block *b = l->block;
    if (mlp_check(b, err) < 0)
        return -1;
    l->out->dim = b->dims[b->n_dims - 1];
    l->out->ragged = l->in[0]->ragged;
    l->out->rows_max = l->in[0]->rows_max;
    l->out->relu = strcmp(b->activation, "none") != 0;
    for (uint32_t i = 0; i < b->n_dims; i++) {
        const struct linear f = linear_of(l, i);
        char suffix[NET_NAME];
        snprintf(suffix, sizeof suffix, "%u.weight", 2 * i);
        layer_param(l, suffix, f.out, f.in, f.in);
        snprintf(suffix, sizeof suffix, "%u.bias", 2 * i);
        layer_param(l, suffix, f.out, 1, f.in);
    }
    l->scratch_floats = linear_of(l, b->n_dims - 1).y + 2 * (size_t)widest(b) * l->out->rows_max;
    return 0;
}

static void mlp_forward(const struct layer *l, const struct layer_context *c)
{
    const uint32_t rows = l->out->rows, last = l->block->n_dims - 1;
    const float *x = l->in[0]->x;
    uint32_t ldx = l->in[0]->stride;
    for (uint32_t i = 0; i <= last; i++) {
        const struct linear f = linear_of(l, i);
        float *y = i == last ? l->out->x : c->scratch + f.y;
        const uint32_t ldy = i == last ? l->out->stride : f.out;
        gemm_nt_ld(rows, f.out, f.in, x, ldx, c->params + f.weight, y, ldy);
        kernel_bias(rows, f.out, c->params + f.bias, l->out->relu, y, ldy);
        x = y;
        ldx = ldy;
    }
}

static void mlp_backward(const struct layer *l, const struct layer_context *c)
{
    const uint32_t rows = l->out->rows, last = l->block->n_dims - 1;
    const struct value *in = l->in[0];
    float *dy = l->out->dx;
    uint32_t lddy = l->out->stride;
    if (l->out->relu && !l->out->masked)
        kernel_mask(rows, l->out->dim, l->out->x, l->out->stride, dy, lddy);
    float *turns = c->scratch + linear_of(l, last).y;
    for (uint32_t i = last; i > 0; i--) {
        const struct linear f = linear_of(l, i);
        const float *x = c->scratch + linear_of(l, i - 1).y;
        float *dx = turns + (i & 1) * (size_t)widest(l->block) * l->out->rows_max;
        if (c->dparams != NULL) {
            gemm_tn_ld(rows, f.out, f.in, dy, lddy, x, f.in, c->dparams + f.weight);
            kernel_column_sums(rows, f.out, dy, lddy, c->dparams + f.bias);
        }
        gemm_nn_ld(rows, f.out, f.in, dy, lddy, c->params + f.weight, 0, dx, f.in);
        if (l->out->relu)
            kernel_mask(rows, f.in, x, f.in, dx, f.in);
        dy = dx;
        lddy = f.in;
    }
    const struct linear f = linear_of(l, 0);
    if (c->dparams != NULL) {
        gemm_tn_ld(rows, f.out, f.in, dy, lddy, in->x, in->stride, c->dparams + f.weight);
        kernel_column_sums(rows, f.out, dy, lddy, c->dparams + f.bias);
    }
    if (in->wanted)
        gemm_nn_ld(rows, f.out, f.in, dy, lddy, c->params + f.weight, l->beta[0], in->dx, in->stride);
}

static void mlp_forward_naive(const struct layer *l, const struct layer_context *c)
{
    const size_t rows = l->out->rows;
    float *x = mem_array(rows * l->in[0]->dim + 1, sizeof *x);
    for (size_t r = 0; r < rows; r++)
        memcpy(x + r * l->in[0]->dim, l->in[0]->x + r * l->in[0]->stride, l->in[0]->dim * sizeof *x);
    for (uint32_t i = 0; i < l->block->n_dims; i++) {
        const struct linear f = linear_of(l, i);
        float *y = mem_array(rows * f.out + 1, sizeof *y);
        gemm_nt_naive((uint32_t)rows, f.out, f.in, x, c->params + f.weight, y);
        for (size_t j = 0; j < rows * f.out; j++) {
            y[j] += c->params[f.bias + j % f.out];
            y[j] = l->out->relu && y[j] < 0 ? 0 : y[j];
        }
        free(x);
        x = y;
    }
    for (size_t r = 0; r < rows; r++)
        memcpy(l->out->x + r * l->out->stride, x + r * l->out->dim, l->out->dim * sizeof *x);
    free(x);
}

// Backward: a product for the gradient of each layer's input, the first only where it is wanted, and one of
// the same size for each dW.
static double mlp_flops(const struct layer *l, bool backward, bool dense)
{
    double sum = 0;
    for (uint32_t i = 0; i < l->block->n_dims; i++) {
        const struct linear f = linear_of(l, i);
        const bool dx = i > 0 || l->in[0]->from_ids || (dense && l->in[0]->from_params);
        sum += 2.0 * f.in * f.out * (backward ? dx + dense : 1);
    }
    return sum;
}

static bool mlp_product(const struct layer *l, uint32_t i, uint32_t ret_shape[3])
{
    if (i >= l->block->n_dims)
        return false;
    const struct linear f = linear_of(l, i);
    ret_shape[0] = l->out->rows_max;
    ret_shape[1] = f.out;
    ret_shape[2] = f.in;
    return true;
}

const struct layer_kind layer_mlp = {
    .name = "mlp",
    .one_input = true,
    .shape = mlp_shape,
    .forward = mlp_forward,
    .backward = mlp_backward,
    .forward_naive = mlp_forward_naive,
    .flops = mlp_flops,
    .product = mlp_product,
};
