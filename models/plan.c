// SPDX-License-Identifier: Apache-2.0
// Two plans over the layers of a net.
//
// Places. An input of a concat is given the concat's own rows to live in, and so is a concat in a concat, so
// that lookups and layers write where the next product reads, and the product's gradient is read where it was
// written. A value has one such place; a second concat over it copies.
//
// Gradients. Several may write the gradient of one buffer: layers over a concat, and layers over one of its
// inputs. If the first to come in backward order writes all of the buffer, it overwrites; otherwise the
// buffer is zeroed first and all add.
#include "models/plan.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { ARENA_ALIGN = 16 }; // floats: a cache line

// ---- places -----------------------------------------------------------------------------------------------

static void mark_live(struct net *n)
{
    for (uint32_t h = 0; h < n->spec.n_heads; h++) {
        n->heads[h].of->live = n->heads[h].of->reached = true;
        n->heads[h].read->declared = true;
    }
    for (uint32_t i = n->n_layers; i-- > 0;) {
        const struct layer *l = &n->layers[i];
        for (uint32_t j = 0; j < l->n_read && l->out->declared; j++)
            l->read[j]->declared = true;
        for (uint32_t j = 0; j < l->n_in && l->out->live; j++) {
            l->in[j]->live = true;
            l->in[j]->reached |= l->out->reached && !l->kind->stops;
        }
        n->stochastic |= l->out->live && l->stochastic;
    }
}

static void place_within(const struct layer *l)
{
    uint32_t column = 0;
    for (uint32_t i = 0; i < l->n_in; i++) {
        struct value *in = l->in[i];
        if (in->within == NULL) {
            in->within = l->out;
            in->column = column;
        }
        column += in->dim;
    }
}

static size_t take(size_t *at, size_t floats)
{
    size_t here = *at;
    *at += (floats + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    return here;
}

// Hands out the arena from `base`; NULL only measures. Returns its size in floats.
static size_t place_all(struct net *n, float *base)
{
    size_t at = 0;
    for (uint32_t i = 0; i < n->n_values; i++) {
        struct value *v = &n->values[i];
        if (v->within != NULL)
            continue;
        v->stride = v->dim;
        size_t x = take(&at, (size_t)v->rows_max * v->dim), dx = take(&at, (size_t)v->rows_max * v->dim);
        v->x = base == NULL ? NULL : base + x;
        v->dx = base == NULL ? NULL : base + dx;
    }
    for (uint32_t i = 0; i < n->n_layers; i++) {
        size_t scratch = take(&at, n->layers[i].scratch_floats);
        n->layers[i].scratch = base == NULL ? NULL : base + scratch;
    }
    for (uint32_t h = 0; h < n->spec.n_heads; h++) {
        size_t z = take(&at, n->spec.batch), dz = take(&at, n->spec.batch);
        n->heads[h].z = base == NULL ? NULL : base + z;
        n->heads[h].dz = base == NULL ? NULL : base + dz;
    }
    for (uint32_t i = 0; i < n->spec.n_inputs; i++) {
        const struct value *v = &n->values[i];
        if (v->within == NULL || !v->from_ids)
            continue;
        size_t packed = take(&at, (size_t)v->rows_max * v->dim);
        n->packed[i] = base == NULL ? NULL : base + packed;
    }
    return at;
}

static void resolve(struct value *v)
{
    const struct value *root = v;
    uint32_t column = 0;
    for (; root->within != NULL; root = root->within)
        column += root->column;
    v->stride = root->stride;
    v->x = root->x + column;
    v->dx = root->dx + column;
}

void plan_place(struct net *n)
{
    mark_live(n);
    for (uint32_t i = 0; i < n->n_layers; i++)
        if (n->layers[i].kind == &layer_concat && n->layers[i].out->live)
            place_within(&n->layers[i]);
    n->arena_bytes = place_all(n, NULL) * sizeof(float);
    n->arena = mem_map(n->arena_bytes);
    place_all(n, n->arena);
    for (uint32_t i = 0; i < n->n_values; i++)
        if (n->values[i].within != NULL)
            resolve(&n->values[i]);
}

// ---- gradients --------------------------------------------------------------------------------------------

enum root_state { UNWRITTEN, WRITTEN };

// What the next to write the gradient of `v` does; notes that it was written.
static float next_beta(struct net *n, struct value *v, uint8_t *states)
{
    struct value *root = &n->values[value_root(v) - n->values];
    uint8_t *state = &states[root - n->values];
    if (*state == UNWRITTEN && root != v)
        root->zero = true;
    float beta = *state == UNWRITTEN && root == v ? 0 : 1;
    *state = WRITTEN;
    return beta;
}

// The last head over a value with a ReLU masks its gradient in the same pass, if no layer writes it too.
static void plan_masks(struct net *n)
{
    for (uint32_t h = 0; h < n->spec.n_heads; h++) {
        struct head *head = &n->heads[h];
        bool alone = head->of->relu && head->of->within == NULL;
        for (uint32_t later = h + 1; later < n->spec.n_heads; later++)
            alone = alone && n->heads[later].of != head->of;
        for (uint32_t i = 0; i < n->n_layers && alone; i++)
            for (uint32_t j = 0; j < n->layers[i].n_in; j++)
                alone = alone && (n->layers[i].in[j] != head->of || !n->layers[i].out->live);
        head->masks = alone;
        head->of->masked = alone;
    }
}

void plan_backward(struct net *n, bool dense)
{
    enum plan_mode mode = dense ? PLAN_DENSE : PLAN_FROZEN;
    if (n->mode == mode)
        return;
    n->mode = mode;
    uint8_t *states = mem_array(n->n_values, sizeof *states);
    for (uint32_t i = 0; i < n->n_values; i++) {
        struct value *v = &n->values[i];
        v->wanted = v->reached && (v->from_ids || (dense && v->from_params));
        v->zero = v->masked = false;
    }
    for (uint32_t h = 0; h < n->spec.n_heads; h++)
        if (n->heads[h].of->wanted)
            n->heads[h].beta = next_beta(n, n->heads[h].of, states);
    for (uint32_t i = n->n_layers; i-- > 0;) {
        struct layer *l = &n->layers[i];
        uint32_t column = 0;
        for (uint32_t j = 0; j < l->n_in && l->out->wanted; j++) {
            if (l->in[j]->wanted && !layer_in_place(l, j, column))
                l->beta[j] = next_beta(n, l->in[j], states);
            column += l->in[j]->dim;
        }
    }
    plan_masks(n);
    free(states);
}
