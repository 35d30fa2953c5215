// SPDX-License-Identifier: Apache-2.0
// What is of the request: user and context are the same for all candidates of a request, so what depends on them alone
// has one row a request (struct value, `shared`), and each layer is put on one of two sides when it is built:
//
//     it reads shared values alone     its output is shared: a user's tower, the mean of a sequence
//     it reads something else, too     what it reads of the shared is expanded to the samples (layer_expand.c)
//     ... and it `splits`              its first product is taken apart: the request's columns once a request
//
//     of: [user, item, age, ctr]   W (H, 4 D):  | user | item | age | ctr |
//                                  in[1], requests: | user | age |    in[0], samples: | item | ctr |
//
// Who draws, or keeps statistics of a batch, in training would do so by request: there it stays with the samples.
// Gradients of the samples are summed where they meet, so ids and parameters learn what they did, up to rounding.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/plan.h"

bool net_sides_shared(uint32_t sides)
{
    return sides != 0 && (sides & ~(uint32_t)(NET_USER | NET_CONTEXT)) == 0;
}

// ---- expanding --------------------------------------------------------------------------------------------

static struct value *value_of(struct net *n, const struct value *v)
{
    return &n->values[v - n->values];
}

// Whose entries its rows are: itself, or the expansion of the sequence that others are entries of.
static void expand_entries(struct net *n, struct layer *l, struct value *v)
{
    struct value *out = l->out;
    out->ragged = v->ragged;
    out->rows_max = v->rows_max;
    if (!v->ragged)
        return;
    out->offsets_of = v->offsets_of == v ? out : n->expanded[v->offsets_of - n->values];
    if (out->offsets_of == out)
        l->own = layer_alloc(l, (size_t)n->spec.batch + 1, sizeof(uint32_t));
}

struct value *net_expand(struct net *n, struct value *v)
{
    if (!v->shared)
        return v;
    struct value **expanded = &n->expanded[v - n->values];
    if (*expanded != NULL)
        return *expanded;
    if (v->ragged && v->offsets_of != v)
        net_expand(n, value_of(n, v->offsets_of));
    struct layer *l = net_layer_add(n, &layer_expand, NULL, &v, 1, 1);
    struct value *out = *expanded = l->out;
    out->dim = v->dim;
    out->sides = v->sides;
    out->from_ids = v->from_ids;
    out->from_params = v->from_params;
    out->layer = v->layer; // for who looks at what kind it came from
    out->request = v;
    expand_entries(n, l, v);
    return out;
}

struct layer *net_unshare(struct net *n, struct layer *l)
{
    struct layer own = *l;
    struct value *out = l->out;
    n->n_layers--; // its inputs' expansions stand before it
    for (uint32_t i = 0; i < own.n_in; i++)
        own.in[i] = net_expand(n, own.in[i]);
    out->shared = false;
    if (out->offsets_of != NULL)
        out->offsets_of = net_expand(n, value_of(n, out->offsets_of));
    l = &n->layers[n->n_layers++];
    *l = own;
    out->layer = l;
    return l;
}

// ---- taking apart -----------------------------------------------------------------------------------------

static struct value *before_expansion(struct value *v)
{
    return v->request != NULL ? v->request : v;
}

// Concats of both are opened, down to what is of one side. False: there are too many.
static bool leaves_put(struct value *v, struct value **leaves, uint32_t *n)
{
    const struct layer *l = v->layer;
    v = before_expansion(v);
    if (!v->shared && l != NULL && l->kind == &layer_concat) {
        for (uint32_t i = 0; i < l->n_in; i++)
            if (!leaves_put(l->in[i], leaves, n))
                return false;
        return true;
    }
    if (*n == NET_OF_MAX || v->ragged)
        return false;
    leaves[(*n)++] = v;
    return true;
}

struct layer_split *net_split(struct net *n, struct value *const *in, uint32_t n_in,
                              struct value *(*ret_parts)[NET_OF_MAX], uint32_t ret_n[2])
{
    struct value *leaves[NET_OF_MAX];
    uint32_t n_leaves = 0, column = 0, dim[2] = {0, 0};
    ret_n[0] = ret_n[1] = 0;
    for (uint32_t i = 0; i < n_in; i++)
        if (!leaves_put(in[i], leaves, &n_leaves))
            return NULL;
    struct layer_split s = {
        .n = n_leaves, .pieces = arena_alloc(&n->memory, n_leaves * sizeof *s.pieces, _Alignof(uint32_t))};
    for (uint32_t i = 0; i < n_leaves; i++) {
        const uint32_t part = leaves[i]->shared, width = leaves[i]->dim;
        s.pieces[i] = (struct layer_piece){column, width, dim[part], part};
        ret_parts[part][ret_n[part]++] = leaves[i];
        dim[part] += width;
        column += width;
    }
    if (ret_n[0] == 0 || ret_n[1] == 0)
        return NULL;
    struct layer_split *split = ARENA_ARRAY(&n->memory, struct layer_split, 1);
    *split = s;
    return split;
}
