// SPDX-License-Identifier: Apache-2.0
// expand: what is of the request alone, a row a request, to a row a sample: user and context are the same for every
// candidate, so their part of a net is computed once a request, and given to the candidates where the net reads both
// (RecD, MLSys 2023, does so for training on samples by session).
//
//     x of requests (R, D)      | r0 | r1 |              R <= B
//     x of samples  (B, D)      | r0 | r0 | r0 | r1 | r1 |
//     dx of r0 = the sum of those of its samples
//
// A sequence likewise: the entries of the request stand again for each of its samples, and so do the offsets. No config
// names it: net_share.c puts it where a layer reads both. It costs one pass over the rows of the samples.
#include "models/kernel.h"
#include "models/plan.h"

// Sample s has the entries of its request; *ret_r is that of sample s - 1 before.
static uint32_t request_of(const struct layer_context *c, uint32_t s, uint32_t r)
{
    while (c->requests != NULL && c->requests[r + 1] <= s)
        r++;
    return c->requests != NULL ? r : s;
}

// Of the value whose entries others share: the offsets by sample, at l->own.
static void expand_offsets(const struct layer *l, const struct layer_context *c)
{
    const uint32_t *from = l->in[0]->offsets;
    uint32_t *to = l->own;
    to[0] = 0;
    for (uint32_t s = 0, r = 0; s < c->n; s++) {
        r = request_of(c, s, r);
        to[s + 1] = to[s] + from[r + 1] - from[r];
    }
}

void expand_rows(const struct layer *l, const struct layer_context *c)
{
    struct value *out = l->out;
    if (!out->ragged) {
        out->rows = c->n;
        return;
    }
    if (l->own != NULL)
        expand_offsets(l, c);
    out->offsets = l->own != NULL ? l->own : out->offsets_of->offsets;
    out->rows = out->offsets[c->n];
}

static void expand_forward(const struct layer *l, const struct layer_context *c)
{
    const struct value *in = l->in[0], *out = l->out;
    if (c->requests == NULL) {
        kernel_copy(out->rows, in->dim, in->x, in->stride, out->x, out->stride);
    } else if (!out->ragged) {
        kernel_expand(c->n_requests, c->requests, in->dim, in->x, in->stride, out->x, out->stride);
    } else {
        for (uint32_t s = 0, r = 0; s < c->n; s++) {
            r = request_of(c, s, r);
            kernel_copy(out->offsets[s + 1] - out->offsets[s], in->dim,
                        in->x + (size_t)in->offsets[r] * in->stride, in->stride,
                        out->x + (size_t)out->offsets[s] * out->stride, out->stride);
        }
    }
}

static void expand_backward(const struct layer *l, const struct layer_context *c)
{
    const struct value *in = l->in[0], *out = l->out;
    if (!in->wanted)
        return;
    if (c->requests != NULL && !out->ragged) {
        kernel_reduce(c->n_requests, c->requests, in->dim, out->dx, out->stride, l->beta[0], in->dx,
                      in->stride);
        return;
    }
    if (l->beta[0] == 0)
        kernel_zero(in->rows, in->dim, in->dx, in->stride);
    if (c->requests == NULL) {
        kernel_add(out->rows, in->dim, out->dx, out->stride, in->dx, in->stride);
        return;
    }
    for (uint32_t s = 0, r = 0; s < c->n; s++) {
        r = request_of(c, s, r);
        kernel_add(out->offsets[s + 1] - out->offsets[s], in->dim,
                   out->dx + (size_t)out->offsets[s] * out->stride, out->stride,
                   in->dx + (size_t)in->offsets[r] * in->stride, in->stride);
    }
}

static void expand_forward_naive(const struct layer *l, const struct layer_context *c)
{
    const struct value *in = l->in[0], *out = l->out;
    uint32_t to = 0;
    for (uint32_t s = 0; s < c->n; s++) {
        const uint32_t r = request_of(c, s, 0);
        const uint32_t begin = out->ragged ? in->offsets[r] : r,
                       end = out->ragged ? in->offsets[r + 1] : r + 1;
        for (uint32_t i = begin; i < end; i++, to++)
            for (uint32_t j = 0; j < in->dim; j++)
                out->x[to * out->stride + j] = in->x[i * in->stride + j];
    }
}

const struct layer_kind layer_expand = {
    .name = "expand",
    .text = "Of a request, to each of its samples.",
    .forward = expand_forward,
    .backward = expand_backward,
    .forward_naive = expand_forward_naive,
};
