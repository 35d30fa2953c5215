// SPDX-License-Identifier: Apache-2.0
// mean: a ragged (N, D) with offsets to (B, D), the mean of each sample's entries; zeros where there are
// none.
//
//     y[i] = sum of x[j] / n_i,  offsets[i] <= j < offsets[i + 1];     dx[j] = dy[i] / n_i
#include "models/kernel.h"
#include "models/layer.h"

static int mean_shape(struct layer *l, struct err *err)
{
    if (l->n_in != 1)
        return layer_fail(l, err, "mean takes one sequence, not %u", l->n_in);
    if (!l->in[0]->ragged)
        return layer_fail(l, err, "mean takes a sequence, and \"%s\" is none", l->in[0]->name);
    l->out->dim = l->in[0]->dim;
    return 0;
}

KERNEL static void mean_rows(uint32_t n, uint32_t dim, const uint32_t *offsets, const float *restrict x,
                             uint32_t ldx, float *restrict y, uint32_t ldy)
{
    for (size_t i = 0; i < n; i++) {
        float *restrict to = y + i * ldy;
        for (uint32_t d = 0; d < dim; d++)
            to[d] = 0;
        for (size_t j = offsets[i]; j < offsets[i + 1]; j++)
            for (uint32_t d = 0; d < dim; d++)
                to[d] += x[j * ldx + d];
        const float entries = (float)(offsets[i + 1] - offsets[i]);
        if (entries > 1)
            for (uint32_t d = 0; d < dim; d++)
                to[d] /= entries;
    }
}

KERNEL static void mean_gradient(uint32_t n, uint32_t dim, const uint32_t *offsets, const float *restrict dy,
                                 uint32_t ldy, float beta, float *restrict dx, uint32_t ldx)
{
    for (size_t i = 0; i < n; i++) {
        const float scale = 1 / (float)(offsets[i + 1] - offsets[i]);
        for (size_t j = offsets[i]; j < offsets[i + 1]; j++)
            for (uint32_t d = 0; d < dim; d++)
                dx[j * ldx + d] = (beta == 0 ? 0 : dx[j * ldx + d]) + dy[i * ldy + d] * scale;
    }
}

static void mean_forward(const struct layer *l, const struct layer_context *c)
{
    const struct value *in = l->in[0];
    mean_rows(c->n, in->dim, in->offsets, in->x, in->stride, l->out->x, l->out->stride);
}

static void mean_backward(const struct layer *l, const struct layer_context *c)
{
    const struct value *in = l->in[0];
    if (in->wanted)
        mean_gradient(c->n, in->dim, in->offsets, l->out->dx, l->out->stride, l->beta[0], in->dx, in->stride);
}

static void mean_forward_naive(const struct layer *l, const struct layer_context *c)
{
    const struct value *in = l->in[0];
    for (size_t i = 0; i < c->n; i++) {
        for (uint32_t d = 0; d < in->dim; d++) {
            double sum = 0;
            for (size_t j = in->offsets[i]; j < in->offsets[i + 1]; j++)
                sum += (double)in->x[j * in->stride + d];
            uint32_t entries = in->offsets[i + 1] - in->offsets[i];
            l->out->x[i * l->out->stride + d] = entries > 0 ? (float)(sum / entries) : 0;
        }
    }
}

const struct layer_kind layer_mean = {
    .name = "mean",
    .text = "Of the entries of a sequence.",
    .sequences = true,
    .shape = mean_shape,
    .forward = mean_forward,
    .backward = mean_backward,
    .forward_naive = mean_forward_naive,
};
