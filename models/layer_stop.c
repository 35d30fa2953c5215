// SPDX-License-Identifier: Apache-2.0
// stop: its input, through which no gradient goes back (PyTorch's detach): y = x, dx = 0. Where a paper trains a
// part by its own loss only, or keeps a gate from pulling at what it looks at (PPNet, KDD 2023). One copy.
#include <string.h>

#include "models/kernel.h"
#include "models/layer.h"

static int stop_shape(struct layer *l, struct err *err)
{
    (void)err;
    l->out->dim = l->in[0]->dim;
    layer_rows_as(l, l->in[0]);
    return 0;
}

static void stop_forward(const struct layer *l, const struct layer_context *c)
{
    (void)c;
    const struct value *in = l->in[0];
    kernel_copy(l->out->rows, in->dim, in->x, in->stride, l->out->x, l->out->stride);
}

static void stop_forward_naive(const struct layer *l, const struct layer_context *c)
{
    (void)c;
    for (size_t i = 0; i < l->out->rows; i++)
        for (uint32_t d = 0; d < l->out->dim; d++)
            l->out->x[i * l->out->stride + d] = l->in[0]->x[i * l->in[0]->stride + d];
}

const struct layer_kind layer_stop = {
    .name = "stop",
    .text = "Its input, through which no gradient goes back.",
    .one_input = true,
    .stops = true,
    .shape = stop_shape,
    .forward = stop_forward,
    .forward_naive = stop_forward_naive,
};
