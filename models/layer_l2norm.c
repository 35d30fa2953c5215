// SPDX-License-Identifier: Apache-2.0
// l2norm: each row at length 1, as torch.nn.functional.normalize: (B, D) -> (B, D), of a sequence (N, D) -> (N, D).
//
//     y = x / max(|x|, eps)
//     dx = (dy - y (y . dy)) / |x|       dy / eps below eps, where the length is a constant
//
// Scratch, by row:  | 1 / max(|x|, eps) | y . dy |      two passes over B D floats each way
#include <math.h>

#include "models/kernel.h"
#include "models/layer.h"

static const struct layer_option l2norm_options[] = {
    {"eps", LAYER_NUMBER, .min = 1e-12, .max = 1, .fallback = 1e-12,
     .text = "Least length that is divided by."},
    {0},
};

static int l2norm_shape(struct layer *l, struct err *err)
{
    (void)err;
    l->out->dim = l->in[0]->dim;
    layer_rows_as(l, l->in[0]);
    l->scratch_floats = 2 * (size_t)l->out->rows_max;
    return 0;
}

// y = x s, s by row.
KERNEL static void scale_rows(uint32_t rows, uint32_t dim, const float *restrict x, uint32_t ldx,
                              const float *restrict s, float *restrict y, uint32_t ldy)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t d = 0; d < dim; d++)
            y[i * ldy + d] = x[i * ldx + d] * s[i];
}

KERNEL static void gradient(uint32_t rows, uint32_t dim, const float *restrict y, const float *restrict dy,
                            uint32_t ldy, const float *restrict dot, const float *restrict inverse,
                            float beta, float *restrict dx, uint32_t lddx)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t d = 0; d < dim; d++) {
            const float g = (dy[i * ldy + d] - y[i * ldy + d] * dot[i]) * inverse[i];
            dx[i * lddx + d] = (beta == 0 ? 0 : dx[i * lddx + d]) + g;
        }
}

static void l2norm_forward(const struct layer *l, const struct layer_context *c)
{
    const struct value *in = l->in[0], *out = l->out;
    const float eps = (float)layer_number(l, "eps");
    float *inverse = c->scratch;
    kernel_dot_rows(out->rows, in->dim, in->x, in->stride, in->x, in->stride, inverse);
    for (uint32_t i = 0; i < out->rows; i++) {
        const float length = sqrtf(inverse[i]);
        inverse[i] = 1 / (length <= eps ? eps : length); // NaN stays
    }
    scale_rows(out->rows, in->dim, in->x, in->stride, inverse, out->x, out->stride);
}

static void l2norm_backward(const struct layer *l, const struct layer_context *c)
{
    const struct value *in = l->in[0], *out = l->out;
    const float most = 1 / (float)layer_number(l, "eps");
    const float *inverse = c->scratch;
    float *dot = c->scratch + out->rows_max;
    if (!in->wanted)
        return;
    kernel_dot_rows(out->rows, in->dim, out->x, out->stride, out->dx, out->stride, dot);
    for (uint32_t i = 0; i < out->rows; i++)
        dot[i] = inverse[i] == most ? 0 : dot[i];
    gradient(out->rows, in->dim, out->x, out->dx, out->stride, dot, inverse, l->beta[0], in->dx, in->stride);
}

static void l2norm_forward_naive(const struct layer *l, const struct layer_context *c)
{
    (void)c;
    const struct value *in = l->in[0];
    for (size_t i = 0; i < l->out->rows; i++) {
        double sum = 0;
        for (uint32_t d = 0; d < in->dim; d++)
            sum += (double)in->x[i * in->stride + d] * (double)in->x[i * in->stride + d];
        const double length = fmax(sqrt(sum), layer_number(l, "eps"));
        for (uint32_t d = 0; d < in->dim; d++)
            l->out->x[i * l->out->stride + d] = (float)((double)in->x[i * in->stride + d] / length);
    }
}

static double l2norm_flops(const struct layer *l, bool backward, bool dense)
{
    (void)dense;
    return (backward ? 5.0 : 3.0) * l->out->dim;
}

const struct layer_kind layer_l2norm = {
    .name = "l2norm",
    .text = "Its input at length 1.",
    .options = l2norm_options,
    .one_input = true,
    .shape = l2norm_shape,
    .forward = l2norm_forward,
    .backward = l2norm_backward,
    .forward_naive = l2norm_forward_naive,
    .flops = l2norm_flops,
};
