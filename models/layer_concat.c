// SPDX-License-Identifier: Apache-2.0
// concat: (B, D1), (B, D2), ... side by side as (B, D1 + D2 + ...); or sequences of the same entries, (N, D1),
// (N, D2), ... as (N, D1 + D2 + ...).
//
//     row i:  | in 0 | in 1       | in 2 | ...       each input's stride is the concat's
//
// Nearly always nothing is to be done: the plan lets inputs write their rows, and read their gradients, in
// the concat's own (struct value, `within`). What remains is an input that lies in another concat already, or
// stands here twice: it is copied.
#include "models/kernel.h"
#include "models/layer.h"

static int concat_shape(struct layer *l, struct err *err)
{
    const struct value *first = l->in[0];
    uint64_t dim = 0;
    for (uint32_t i = 0; i < l->n_in; i++) {
        const struct value *in = l->in[i];
        if (in->ragged != first->ragged)
            return layer_fail(l, err,
                              "\"%s\" is a sequence and cannot be concatenated: pool it with mean first",
                              in->ragged ? in->name : first->name);
        if (in->ragged && layer_same_entries(l, first, in, err) < 0)
            return -1;
        dim += in->dim;
    }
    if (dim > INT32_MAX)
        return layer_fail(l, err, "it is %llu wide, which is too much", (unsigned long long)dim);
    l->out->dim = (uint32_t)dim;
    layer_rows_as(l, first);
    return 0;
}

static void concat_forward(const struct layer *l, const struct layer_context *c)
{
    (void)c;
    const struct value *out = l->out;
    uint32_t column = 0;
    for (uint32_t i = 0; i < l->n_in; i++) {
        const struct value *in = l->in[i];
        if (!layer_in_place(l, i, column))
            kernel_copy(out->rows, in->dim, in->x, in->stride, out->x + column, out->stride);
        column += in->dim;
    }
}

static void concat_backward(const struct layer *l, const struct layer_context *c)
{
    (void)c;
    const struct value *out = l->out;
    uint32_t column = 0;
    for (uint32_t i = 0; i < l->n_in; i++) {
        const struct value *in = l->in[i];
        if (!in->wanted || layer_in_place(l, i, column))
            ;
        else if (l->beta[i] == 0)
            kernel_copy(out->rows, in->dim, out->dx + column, out->stride, in->dx, in->stride);
        else
            kernel_add(out->rows, in->dim, out->dx + column, out->stride, in->dx, in->stride);
        column += in->dim;
    }
}

static void concat_forward_naive(const struct layer *l, const struct layer_context *c)
{
    (void)c;
    for (size_t row = 0; row < l->out->rows; row++) {
        float *to = l->out->x + row * l->out->stride;
        for (uint32_t i = 0; i < l->n_in; i++)
            for (uint32_t j = 0; j < l->in[i]->dim; j++)
                *to++ = l->in[i]->x[row * l->in[i]->stride + j];
    }
}

const struct layer_kind layer_concat = {
    .name = "concat",
    .text = "Its inputs side by side; sequences of the same entries too.",
    .shape = concat_shape,
    .forward = concat_forward,
    .backward = concat_backward,
    .forward_naive = concat_forward_naive,
};
