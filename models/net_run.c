// SPDX-License-Identifier: Apache-2.0
// Running a net: lookups, layers in order, heads; and back. Nothing is allocated.
//
// A head is a layer with one output z, a dot product a row; what is predicted of z and what is minimised is its
// loss' (loss.h).
#include <assert.h>
#include <math.h>
#include <string.h>

#include "models/kernel.h"
#include "models/net.h"
#include "models/plan.h"

// ---- forward ----------------------------------------------------------------------------------------------

static uint32_t rows_of(const struct value *v, const struct net_batch *batch)
{
    return v->shared && batch->requests != NULL ? batch->n_requests : batch->n;
}

static void input_read(struct value *v, const struct net_input *input, uint32_t i,
                       const struct net_batch *batch)
{
    const uint32_t n = v->rows = rows_of(v, batch);
    if (v->ragged) {
        v->offsets = batch->offsets[i];
        assert(v->offsets[0] == 0);
        v->rows = v->offsets[n];
        assert(v->rows <= v->rows_max);
        const struct value *of = v->offsets_of;
        assert(of == v || memcmp(v->offsets, of->offsets, (n + 1) * sizeof *v->offsets) == 0);
    }
    if (!v->needed)
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
    const struct value *of = l->out->offsets_of;
    l->out->rows = of != NULL ? of->rows : n;
    l->out->offsets = of != NULL ? of->offsets : NULL;
}

static void given_read(const struct net *n, const struct net_batch *batch)
{
    for (uint32_t i = 0; i < n->spec.n_blocks; i++) {
        struct value *v = n->block_values[i];
        if (!v->given || !v->needed)
            continue;
        v->rows = batch->n;
        kernel_copy(batch->n, v->dim, batch->given[i], v->dim, v->x, v->stride);
    }
}

static struct layer_context layer_context(const struct layer *l, const float *params, float *dparams,
                                          const struct net_batch *batch)
{
    return (struct layer_context){.n = rows_of(l->out, batch),
                                  .n_requests = batch->requests != NULL ? batch->n_requests : batch->n,
                                  .requests = batch->requests,
                                  .params = params + l->params,
                                  .packs =
                                      params == l->net->packs_of && !batch->dense ? &l->net->packs : NULL,
                                  .dparams = dparams != NULL ? dparams + l->params : NULL,
                                  .scratch = l->scratch,
                                  .training = batch->training,
                                  .dense = batch->dense,
                                  .seeds = batch->training ? batch->seeds : NULL};
}

void net_forward(struct net *n, const float *params, const struct net_batch *batch, float *const *ret_p)
{
    assert(batch->n <= n->spec.batch);
    assert(batch->requests == NULL || batch->requests[batch->n_requests] == batch->n);
    if (batch->given != NULL)
        given_read(n, batch);
    for (uint32_t i = 0; i < n->spec.n_inputs; i++)
        input_read(&n->values[i], &n->inputs[i], i, batch);
    for (uint32_t i = 0; i < n->n_layers; i++) {
        const struct layer *l = &n->layers[i];
        struct layer_context c = layer_context(l, params, NULL, batch);
        if (l->kind == &layer_expand)
            expand_rows(l, &c); // others have its offsets, too
        if (!l->out->needed || l->out->given)
            continue;
        if (l->kind != &layer_expand)
            layer_rows(l, c.n);
        l->kind->forward(l, &c);
    }
    for (uint32_t h = 0; h < n->spec.n_heads; h++) {
        const struct head *head = &n->heads[h];
        if (!n->heads_on[h])
            continue;
        kernel_dot(batch->n, head->of->dim, head->of->x, head->of->stride, params + head->weight,
                   params[head->bias], head->z);
        for (uint32_t i = 0; i < batch->n; i++)
            ret_p[h][i] = head->loss->predict(head->z[i]);
    }
    for (uint32_t h = 0; h < n->spec.n_heads; h++)
        for (uint32_t i = 0; n->heads_on[h] && n->heads[h].through >= 0 && i < batch->n; i++)
            ret_p[h][i] *= ret_p[n->heads[h].through][i];
}

void net_pack(struct net *n, enum packed_kernel kernel, const float *params)
{
    packs_done(&n->packs);
    packs_init(&n->packs, kernel);
    n->packs_of = kernel != PACKED_BLAS ? params : NULL;
}

// ---- backward ---------------------------------------------------------------------------------------------

static const float *head_weights(const struct net_batch *batch, uint32_t h)
{
    return batch->weights != NULL ? batch->weights[h] : NULL;
}

// A weight below 0: what a sample with label 0 would teach is taken back.
static float head_gradient(const struct net_loss *loss, float z, float y, float weight)
{
    if (weight >= 0)
        return weight * loss->gradient(z, y);
    return -weight * (loss->gradient(z, y) - loss->gradient(z, 0));
}

// Of a head and the one that it goes through, whose own gradient stands there already.
static void pair_gradient(float z, float y, float weight, const struct head *through, uint32_t i,
                          float *ret_dz)
{
    float dz, dw, dz0 = 0, dw0 = 0;
    net_pair_gradient(z, through->z[i], y, &dz, &dw);
    if (weight < 0)
        net_pair_gradient(z, through->z[i], 0, &dz0, &dw0);
    *ret_dz = fabsf(weight) * (dz - dz0);
    through->dz[i] += fabsf(weight) * (dw - dw0);
}

static void head_logits_backward(const struct net *n, uint32_t h, const struct net_batch *batch)
{
    const struct head *head = &n->heads[h];
    const float *weights = head_weights(batch, h), *labels = batch->labels[h];
    const float scale = n->head_specs[h].weight;
    for (uint32_t i = 0; i < batch->n; i++) {
        const float weight = weights != NULL ? scale * weights[i] : scale;
        if (head->through < 0)
            head->dz[i] = head_gradient(head->loss, head->z[i], labels[i], weight);
        else
            pair_gradient(head->z[i], labels[i], weight, &n->heads[head->through], i, &head->dz[i]);
    }
}

static void head_backward(const struct net *n, uint32_t h, const float *params, const struct net_batch *batch,
                          float *dparams)
{
    const struct head *head = &n->heads[h];
    const struct value *of = head->of;
    double sum = 0;
    for (uint32_t i = 0; i < batch->n; i++)
        sum += (double)head->dz[i];
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
    assert(!n->stochastic || batch->dense == (dparams != NULL));
    plan_backward(n, dparams != NULL);
    for (uint32_t i = 0; i < n->n_values; i++) {
        const struct value *v = &n->values[i];
        if (v->zero)
            kernel_zero(v->rows, v->dim, v->dx, v->stride);
    }
    for (uint32_t h = 0; h < n->spec.n_heads; h++)
        head_logits_backward(n, h, batch);
    for (uint32_t h = 0; h < n->spec.n_heads; h++)
        head_backward(n, h, params, batch, dparams);
    for (uint32_t i = n->n_layers; i-- > 0;) {
        const struct layer *l = &n->layers[i];
        if (!l->out->wanted)
            continue;
        struct layer_context c = layer_context(l, params, dparams, batch);
        l->kind->backward(l, &c);
    }
}

// ---- what is computed -------------------------------------------------------------------------------------

void net_select(struct net *n, const bool *heads, const bool *wanted, const bool *given)
{
    for (uint32_t i = 0; i < n->n_values; i++)
        n->values[i].needed = n->values[i].given = false;
    for (uint32_t i = 0; i < n->spec.n_blocks; i++) {
        struct value *v = n->block_values[i];
        v->needed = wanted != NULL && wanted[i];
        v->given = given != NULL && given[i];
        assert(!v->given || (!v->ragged && !v->shared));
    }
    for (uint32_t h = n->spec.n_heads; h-- > 0;) {
        n->heads_on[h] = heads == NULL || heads[h];
        n->heads[h].of->needed |= n->heads_on[h];
    }
    for (uint32_t h = 0; h < n->spec.n_heads; h++) // a factor of its own
        if (n->heads_on[h] && n->heads[h].through >= 0) {
            n->heads_on[n->heads[h].through] = true;
            n->heads[n->heads[h].through].of->needed = true;
        }
    for (uint32_t i = n->n_layers; i-- > 0;)
        for (uint32_t j = 0; j < n->layers[i].n_in; j++)
            n->layers[i].in[j]->needed |= n->layers[i].out->needed && !n->layers[i].out->given;
}

bool net_input_needed(const struct net *n, uint32_t input)
{
    assert(input < n->spec.n_inputs);
    return n->values[input].needed;
}

bool net_block_needed(const struct net *n, uint32_t block)
{
    assert(block < n->spec.n_blocks);
    return n->block_values[block]->needed;
}

bool net_input_shared(const struct net *n, uint32_t input)
{
    assert(input < n->spec.n_inputs);
    return n->values[input].shared;
}

uint32_t net_block_count(const struct net *n)
{
    return n->spec.n_blocks;
}

bool net_block_tower(const struct net *n, uint32_t block, uint32_t *ret_dim)
{
    assert(block < n->spec.n_blocks);
    const struct value *v = n->block_values[block];
    bool read = false;
    *ret_dim = v->dim;
    if (n->blocks[block].side != NET_ITEM || !v->live || v->ragged || v->sides != NET_ITEM)
        return false;
    for (uint32_t h = 0; h < n->spec.n_heads; h++)
        read |= n->heads[h].of == v;
    for (uint32_t i = 0; i < n->n_layers; i++) {
        const struct layer *l = &n->layers[i];
        for (uint32_t j = 0; j < l->n_in && l->out->live; j++)
            read |= l->in[j] == v && (l->block == NULL || l->block->side != NET_ITEM);
    }
    return read;
}

const float *net_block_rows(const struct net *n, uint32_t block, uint32_t *ret_dim, size_t *ret_stride)
{
    assert(block < n->spec.n_blocks && n->block_values[block]->needed);
    *ret_dim = n->block_values[block]->dim;
    *ret_stride = n->block_values[block]->stride;
    return n->block_values[block]->x;
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

static double sample_loss(const struct net *n, const struct head *head, uint32_t i, double y)
{
    const double z = (double)head->z[i];
    return head->through < 0 ? head->loss->loss(z, y)
                             : net_pair_loss(z, (double)n->heads[head->through].z[i], y);
}

static double head_loss(const struct net *n, const struct head *head, uint32_t i, double y, double weight)
{
    const double loss = sample_loss(n, head, i, y);
    return weight >= 0 ? weight * loss : -weight * (loss - sample_loss(n, head, i, 0));
}

double net_loss(const struct net *n, const struct net_batch *batch)
{
    double sum = 0;
    for (uint32_t h = 0; h < n->spec.n_heads; h++) {
        const struct head *head = &n->heads[h];
        const float *weights = head_weights(batch, h);
        for (uint32_t i = 0; i < batch->n; i++)
            sum += (double)n->head_specs[h].weight * head_loss(n, head, i, (double)batch->labels[h][i],
                                                               weights != NULL ? (double)weights[i] : 1);
    }
    return sum;
}
