// SPDX-License-Identifier: Apache-2.0
// hadamard: the elementwise product of 2 or more inputs of one width, (B, D) each; or of sequences of the same
// entries, (N, D).
//
//     y = x_1 o x_2 o ... o x_n
//     dx_k = dy o (product of the others), computed as such: a quotient y / x_k would break at 0
//
// The cost is n (n - 1) passes over B D floats backward, which for the 2 or 3 inputs of a net is little.
#include "models/kernel.h"
#include "models/layer.h"

static int hadamard_shape(struct layer *l, struct err *err)
{
    const struct value *first = l->in[0];
    if (l->n_in < 2)
        return layer_fail(l, err, "hadamard takes 2 or more inputs");
    for (uint32_t i = 1; i < l->n_in; i++) {
        const struct value *in = l->in[i];
        if (in->dim != first->dim)
            return layer_fail(l, err, "\"%s\" is %u wide and \"%s\" %u: hadamard takes one width",
                              first->name, first->dim, in->name, in->dim);
        if ((in->ragged || first->ragged) && layer_same_entries(l, first, in, err) < 0)
            return -1;
    }
    l->out->dim = first->dim;
    l->scratch_floats = first->dim;
    layer_rows_as(l, first);
    return 0;
}

KERNEL static void multiply(uint32_t rows, uint32_t dim, const float *restrict x, uint32_t ldx,
                            float *restrict y, uint32_t ldy)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t d = 0; d < dim; d++)
            y[i * ldy + d] *= x[i * ldx + d];
}

// Row i of dy o the product of all inputs but `but`, into `row`.
KERNEL static void others_row(const struct layer *l, uint32_t but, size_t i, float *restrict row)
{
    const float *restrict dy = l->out->dx + i * l->out->stride;
    for (uint32_t d = 0; d < l->out->dim; d++)
        row[d] = dy[d];
    for (uint32_t k = 0; k < l->n_in; k++) {
        const float *restrict x = l->in[k]->x + i * l->in[k]->stride;
        for (uint32_t d = 0; d < l->out->dim && k != but; d++)
            row[d] *= x[d];
    }
}

static void hadamard_forward(const struct layer *l, const struct layer_context *c)
{
    (void)c;
    const struct value *out = l->out;
    kernel_copy(out->rows, out->dim, l->in[0]->x, l->in[0]->stride, out->x, out->stride);
    for (uint32_t k = 1; k < l->n_in; k++)
        multiply(out->rows, out->dim, l->in[k]->x, l->in[k]->stride, out->x, out->stride);
}

static void hadamard_backward(const struct layer *l, const struct layer_context *c)
{
    float *row = c->scratch;
    for (uint32_t k = 0; k < l->n_in; k++) {
        const struct value *in = l->in[k];
        for (size_t i = 0; i < l->out->rows && in->wanted; i++) {
            float *dx = in->dx + i * in->stride;
            others_row(l, k, i, row);
            for (uint32_t d = 0; d < in->dim; d++)
                dx[d] = (l->beta[k] == 0 ? 0 : dx[d]) + row[d];
        }
    }
}

static void hadamard_forward_naive(const struct layer *l, const struct layer_context *c)
{
    (void)c;
    for (size_t i = 0; i < l->out->rows; i++)
        for (uint32_t d = 0; d < l->out->dim; d++) {
            double product = 1;
            for (uint32_t k = 0; k < l->n_in; k++)
                product *= (double)l->in[k]->x[i * l->in[k]->stride + d];
            l->out->x[i * l->out->stride + d] = (float)product;
        }
}

static double hadamard_flops(const struct layer *l, bool backward, bool dense)
{
    (void)dense;
    return (double)l->out->dim * (l->n_in - 1) * (backward ? l->n_in : 1);
}

const struct layer_kind layer_hadamard = {
    .name = "hadamard",
    .text = "The elementwise product of inputs of one width.",
    .shape = hadamard_shape,
    .forward = hadamard_forward,
    .backward = hadamard_backward,
    .forward_naive = hadamard_forward_naive,
    .flops = hadamard_flops,
};
