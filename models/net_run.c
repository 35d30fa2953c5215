// SPDX-License-Identifier: Apache-2.0
// Running a net: lookups, layers in order, heads; and back. Nothing is allocated.
//
// A head is a layer with one output, a dot product a row, and a sigmoid: p = 1 / (1 + exp(-z)). The gradient
// of its logloss by z is p - y, exact at both ends, where a loss computed from p would have lost its digits.
#include <assert.h>
#include <math.h>
#include <string.h>

#include "models/kernel.h"
#include "models/net.h"
#include "models/plan.h"

// ---- forward ----------------------------------------------------------------------------------------------

static void input_read(struct value *v, const struct net_input *input, uint32_t i,
                       const struct net_batch *batch)
{
    v->rows = batch->n;
    if (v->ragged) {
        v->offsets = batch->offsets[i];
        assert(v->offsets[0] == 0);
        v->rows = v->offsets[batch->n];
        assert(v->rows <= v->rows_max);
    }
    if (!v->live)
        return;
    if (input->kind == NET_INPUT_NUMBER) {
        kernel_copy(v->rows, 1, batch->numbers[i], 1, v->x, v->stride);
    } else {
        const struct net_rows *table = &batch->tables[input->table];
        kernel_gather(v->rows, v->dim, table->vectors, table->stride, batch->slots[i], v->x, v->stride);
    }
}

static void layer_rows(const struct layer *l, uint32_t n)
{
    l->out->rows = n;
    for (uint32_t i = 0; l->out->ragged && i < l->n_in; i++)
        if (l->in[i]->ragged) {
            l->out->rows = l->in[i]->rows;
            l->out->offsets = l->in[i]->offsets;
            break;
        }
}

static float sigmoid(float z)
{
    return 1 / (1 + expf(-z));
}

void net_forward(struct net *n, const float *params, const struct net_batch *batch, float *const *ret_p)
{
    assert(batch->n <= n->spec.batch);
    for (uint32_t i = 0; i < n->spec.n_inputs; i++)
        input_read(&n->values[i], &n->inputs[i], i, batch);
    for (uint32_t i = 0; i < n->n_layers; i++) {
        const struct layer *l = &n->layers[i];
        if (!l->out->live)
            continue;
        layer_rows(l, batch->n);
        struct layer_context c = {.n = batch->n, .params = params + l->params, .scratch = l->scratch};
        l->kind->forward(l, &c);
    }
    for (uint32_t h = 0; h < n->spec.n_heads; h++) {
        const struct head *head = &n->heads[h];
        kernel_dot(batch->n, head->of->dim, head->of->x, head->of->stride, params + head->weight,
                   params[head->bias], head->z);
        for (uint32_t i = 0; i < batch->n; i++)
            ret_p[h][i] = sigmoid(head->z[i]);
    }
}

// ---- backward ---------------------------------------------------------------------------------------------

static const float *head_weights(const struct net_batch *batch, uint32_t h)
{
    return batch->weights != NULL ? batch->weights[h] : NULL;
}

static void head_backward(const struct net *n, uint32_t h, const float *params, const struct net_batch *batch,
                          float *dparams)
{
    const struct head *head = &n->heads[h];
    const struct value *of = head->of;
    const float *weights = head_weights(batch, h);
    const float scale = n->head_specs[h].weight;
    double sum = 0;
    for (uint32_t i = 0; i < batch->n; i++) {
        const float weight = weights != NULL ? scale * weights[i] : scale;
        head->dz[i] = weight * (sigmoid(head->z[i]) - batch->labels[h][i]);
        sum += (double)head->dz[i];
    }
    if (dparams != NULL) {
        kernel_weighted_sum(batch->n, of->dim, head->dz, of->x, of->stride, dparams + head->weight);
        dparams[head->bias] += (float)sum;
    }
    if (of->wanted)
        kernel_outer(batch->n, of->dim, head->dz, params + head->weight, head->beta, head->masks, of->x,
                     of->dx, of->stride);
}

void net_backward(struct net *n, const float *params, const struct net_batch *batch, float *dparams)
{
    plan_backward(n, dparams != NULL);
    for (uint32_t i = 0; i < n->n_values; i++) {
        const struct value *v = &n->values[i];
        if (v->zero)
            kernel_zero(v->rows, v->dim, v->dx, v->stride);
    }
    for (uint32_t h = 0; h < n->spec.n_heads; h++)
        head_backward(n, h, params, batch, dparams);
    for (uint32_t i = n->n_layers; i-- > 0;) {
        const struct layer *l = &n->layers[i];
        if (!l->out->wanted)
            continue;
        struct layer_context c = {.n = batch->n,
                                  .params = params + l->params,
                                  .dparams = dparams != NULL ? dparams + l->params : NULL,
                                  .scratch = l->scratch};
        l->kind->backward(l, &c);
    }
}

// ---- what a batch left behind -----------------------------------------------------------------------------

const float *net_gradient_rows(const struct net *n, uint32_t input, size_t *ret_stride)
{
    assert(input < n->spec.n_inputs && n->values[input].from_ids);
    *ret_stride = n->values[input].stride;
    return n->values[input].dx;
}

const float *net_gradient(const struct net *n, uint32_t input)
{
    assert(input < n->spec.n_inputs && n->values[input].from_ids);
    const struct value *v = &n->values[input];
    if (n->packed[input] == NULL)
        return v->dx;
    kernel_copy(v->rows, v->dim, v->dx, v->stride, n->packed[input], v->dim);
    return n->packed[input];
}

// logloss of a label 0..1 by its logit, without a log of 0: -y log p - (1-y) log(1-p) = max(z,0) - zy +
// log1p(e^-|z|)
static double logit_loss(double z, double y)
{
    return (z > 0 ? z : 0) - z * y + log1p(exp(-fabs(z)));
}

double net_loss(const struct net *n, const struct net_batch *batch)
{
    double sum = 0;
    for (uint32_t h = 0; h < n->spec.n_heads; h++) {
        const float *weights = head_weights(batch, h);
        for (uint32_t i = 0; i < batch->n; i++) {
            double loss = logit_loss((double)n->heads[h].z[i], (double)batch->labels[h][i]);
            sum += (double)n->head_specs[h].weight * loss * (weights != NULL ? (double)weights[i] : 1);
        }
    }
    return sum;
}

KERNEL void net_adagrad(size_t n, float *restrict params, float *restrict accum,
                        const float *restrict gradient, float lr)
{
    for (size_t i = 0; i < n; i++) {
        accum[i] += gradient[i] * gradient[i];
        params[i] -= lr * gradient[i] / (sqrtf(accum[i]) + 1e-10f);
    }
}
