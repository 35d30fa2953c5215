// SPDX-License-Identifier: Apache-2.0
// The first product of a stack that reads what is of the candidate and what is of the request (net_share.c), R requests
// of n candidates:
//
//     y = x W^T = x_c W_c^T + expand(x_r W_r^T)      2 R |r| out instead of 2 n |r| out
//     dx_c = dz W_c;  dx_r = reduce(dz) W_r;  dW_c += dz^T x_c;  dW_r += reduce(dz)^T x_r
//
// Columns of both stand in W in the order in which the config names them, as PyTorch's twin has them: W is copied into
// one matrix of each part, where these are not packed yet (packed.h), at every pass: as much as reading it once more.
// Scratch:
//
//     | W_c (out, |c|) | W_r (out, |r|) | y_r, then reduce(dz) (R, out) | dW_c or dW_r |
#include <string.h>

#include "models/fc.h"
#include "models/gemm.h"
#include "models/kernel.h"

void fc_split_init(struct layer *l, uint32_t rows_max, struct fc *f)
{
    const size_t out = f->layers[0].out;
    f->split = l->split;
    if (f->split == NULL)
        return;
    f->packed[0] = fc_scratch(l, out * f->split->dim[0]);
    f->packed[1] = fc_scratch(l, out * f->split->dim[1]);
    f->sums = fc_scratch(l, rows_max * out);
    f->dw = fc_scratch(l, out * (f->split->dim[0] > f->split->dim[1] ? f->split->dim[0] : f->split->dim[1]));
}

// W_c or W_r: copied unless it is packed, or forward has left it there. In between other parameters may have been there
// where some are packed and others not.
static const float *part_weights(const struct fc *f, const struct layer_context *c, uint32_t part,
                                 bool backward)
{
    const struct fc_layer *t = &f->layers[0];
    float *w = c->scratch + f->packed[part];
    if ((backward && c->packs == NULL) || packs_have(c->packs, w, backward))
        return w;
    for (uint32_t i = 0; i < f->split->n; i++) {
        const struct layer_piece p = f->split->pieces[i];
        if (p.part == part)
            kernel_copy(t->out, p.width, c->params + t->weight + p.column, t->in, w + p.from,
                        f->split->dim[part]);
    }
    return w;
}

static void unpack(const struct fc *f, const struct layer_context *c, uint32_t part)
{
    const struct fc_layer *t = &f->layers[0];
    for (uint32_t i = 0; i < f->split->n; i++) {
        const struct layer_piece p = f->split->pieces[i];
        if (p.part == part)
            kernel_add(t->out, p.width, c->scratch + f->dw + p.from, f->split->dim[part],
                       c->dparams + t->weight + p.column, t->in);
    }
}

void fc_split_forward(const struct fc *f, const struct layer_context *c, const struct fc_run *run, float *y,
                      uint32_t ldy)
{
    const uint32_t out = f->layers[0].out, *dim = f->split->dim;
    const struct value *request = run->request;
    const float *w_c = part_weights(f, c, 0, false), *w_r = part_weights(f, c, 1, false);
    float *sums = c->scratch + f->sums;
    if (c->requests == NULL) {
        packs_nt_ld(c->packs, run->rows, out, dim[1], request->x, request->stride, w_r, y, ldy);
    } else {
        packs_nt_ld(c->packs, request->rows, out, dim[1], request->x, request->stride, w_r, sums, out);
        kernel_expand(request->rows, c->requests, out, sums, out, y, ldy);
    }
    packs_nt_add_ld(c->packs, run->rows, out, dim[0], run->x, run->ldx, w_c, y, ldy);
}

static void weights_backward(const struct fc *f, const struct layer_context *c, uint32_t part, uint32_t rows,
                             const float *dz, uint32_t lddz, const float *x, uint32_t ldx)
{
    const uint32_t out = f->layers[0].out, in = f->split->dim[part];
    memset(c->scratch + f->dw, 0, (size_t)out * in * sizeof(float));
    gemm_tn_ld(rows, out, in, dz, lddz, x, ldx, c->scratch + f->dw);
    unpack(f, c, part);
}

void fc_split_backward(const struct fc *f, const struct layer_context *c, const struct fc_run *run,
                       const float *dz, uint32_t lddz)
{
    const uint32_t out = f->layers[0].out, *dim = f->split->dim;
    const struct value *request = run->request;
    float *sums = c->scratch + f->sums;
    const float *dr = c->requests != NULL ? sums : dz;
    const uint32_t lddr = c->requests != NULL ? out : lddz;
    if (c->requests != NULL && (c->dparams != NULL || request->wanted))
        kernel_reduce(request->rows, c->requests, out, dz, lddz, 0, sums, out);
    if (c->dparams != NULL) {
        weights_backward(f, c, 0, run->rows, dz, lddz, run->x, run->ldx);
        weights_backward(f, c, 1, request->rows, dr, lddr, request->x, request->stride);
    }
    if (run->dx != NULL)
        packs_nn_ld(c->packs, run->rows, out, dim[0], dz, lddz, part_weights(f, c, 0, true), run->beta,
                    run->dx, run->lddx);
    if (request->wanted)
        packs_nn_ld(c->packs, request->rows, out, dim[1], dr, lddr, part_weights(f, c, 1, true),
                    run->request_beta, request->dx, request->stride);
}

// Row i of all columns, for the naive twin.
void fc_split_row(const struct fc *f, const struct layer_context *c, const struct fc_run *run, uint32_t i,
                  double *to)
{
    uint32_t r = c->requests != NULL ? 0 : i;
    while (c->requests != NULL && c->requests[r + 1] <= i)
        r++;
    for (uint32_t k = 0; k < f->split->n; k++) {
        const struct layer_piece p = f->split->pieces[k];
        const float *from =
            p.part == 0 ? run->x + (size_t)i * run->ldx : run->request->x + (size_t)r * run->request->stride;
        for (uint32_t j = 0; j < p.width; j++)
            to[p.column + j] = (double)from[p.from + j];
    }
}
