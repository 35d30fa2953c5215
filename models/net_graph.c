// SPDX-License-Identifier: Apache-2.0
// What a net says of itself: its graph, sizes, products and work; and whether its towers keep to their sides. A
// concat that was put before a layer because it takes one input is no node: its inputs are the layer's.
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "models/net.h"
#include "models/plan.h"

// ---- sizes and work ---------------------------------------------------------------------------------------

size_t net_arena_bytes(const struct net *n)
{
    return n->arena_bytes;
}

uint64_t net_packed_bytes(const struct net *n)
{
    return packs_bytes(&n->packs);
}

// A layer that takes the candidate's and the request's part of its input apart has its weights whole, and may have them
// in two parts besides, by columns; as din has them alone, which may take a panel more than the whole.
static uint64_t weight_packed_most(const struct net_param *p, bool split, enum packed_kernel kernel,
                                   bool backward)
{
    const uint32_t part = p->part > 0 ? p->part : p->rows;
    const uint64_t whole = p->rows / part * packs_bytes_most(kernel, part, p->cols, backward);
    return (split ? 2 : 1) * whole + 2 * packs_bytes_most(kernel, p->rows, 1, backward);
}

static bool param_split(const struct net *n, const struct net_param *p)
{
    for (uint32_t i = 0; i < n->n_layers; i++) {
        const struct layer *l = &n->layers[i];
        if (l->split != NULL && p->offset >= l->params && p->offset < l->params + l->n_params)
            return true;
    }
    return false;
}

// Going forward a weight is multiplied in one direction only, which may be either.
uint64_t net_packed_most(const struct net *n, enum packed_kernel kernel, bool backward)
{
    uint64_t bytes = packs_bytes_begin(kernel);
    for (uint32_t i = 0; i < n->n_params; i++) {
        const struct net_param *p = &n->params[i].param;
        if (p->vector)
            continue;
        const bool split = param_split(n, p);
        const uint64_t there = weight_packed_most(p, split, kernel, false),
                       back = weight_packed_most(p, split, kernel, true);
        bytes += backward ? there + back : there > back ? there : back;
    }
    return bytes;
}

bool net_stochastic(const struct net *n)
{
    return n->stochastic;
}

int net_head_label(const struct net *n, uint32_t head)
{
    assert(head < n->spec.n_heads);
    return (int)n->heads[head].loss->label;
}

double layer_flops(const struct layer *l, bool backward, bool dense)
{
    if (l->kind->flops == NULL || !l->out->live)
        return 0;
    if (backward && !(l->out->reached && (l->out->from_ids || dense)))
        return 0;
    return (double)l->out->rows_max / l->net->spec.batch * l->kind->flops(l, backward, dense);
}

double head_flops(const struct head *h, bool backward, bool dense)
{
    const double product = 2.0 * h->of->dim;
    const bool dx = h->of->from_ids || (dense && h->of->from_params);
    return backward ? product * (dx + dense) : product;
}

double net_flops(const struct net *n, bool train_dense, bool backward)
{
    double sum = 0;
    for (uint32_t i = 0; i < n->n_layers; i++)
        sum += layer_flops(&n->layers[i], false, train_dense) +
               (backward ? layer_flops(&n->layers[i], true, train_dense) : 0);
    for (uint32_t h = 0; h < n->spec.n_heads; h++)
        sum += head_flops(&n->heads[h], false, train_dense) +
               (backward ? head_flops(&n->heads[h], true, train_dense) : 0);
    return sum;
}

uint32_t net_shapes(const struct net *n, uint32_t max, uint32_t (*ret_shapes)[3])
{
    uint32_t count = 0, shape[3];
    for (uint32_t i = 0; i < n->n_layers; i++) {
        const struct layer *l = &n->layers[i];
        for (uint32_t j = 0; l->kind->product != NULL && l->kind->product(l, j, shape); j++, count++)
            if (count < max)
                memcpy(ret_shapes[count], shape, sizeof shape);
    }
    return count;
}

// ---- sides ------------------------------------------------------------------------------------------------

const char *net_sides_text(uint32_t sides, char *text, size_t size)
{
    static const char *const names[] = {"user", "item", "context", "cross"};
    size_t used = (size_t)snprintf(text, size, "%s", sides == 0 ? "-" : "");
    for (uint32_t i = 0; i < sizeof names / sizeof *names; i++)
        if ((sides >> i & 1) != 0 && used < size)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used > 0 ? "+" : "", names[i]);
    return text;
}

// A tower's way from its block to what has no place in it, written down on the way back.
struct way {
    uint32_t foreign;              // sides that have no place
    const struct layer_kind *kind; // that has none
    char text[600];                // "tower <- hist"
};

static void way_put(struct way *w, const char *name)
{
    char rest[sizeof w->text];
    snprintf(rest, sizeof rest, "%s", w->text);
    snprintf(w->text, sizeof w->text, "%s%s%.500s", name, rest[0] != 0 ? " <- " : "", rest);
}

// Whether something at or before v has no place.
static bool way_find(struct way *w, const struct value *v)
{
    const struct layer *l = v->layer;
    bool found = l == NULL && (v->sides & w->foreign) != 0;
    if (l != NULL && l->kind->no_tower != NULL) {
        w->kind = l->kind;
        found = true;
    }
    for (uint32_t i = 0; l != NULL && i < l->n_in && !found; i++)
        found = way_find(w, l->in[i]);
    if (found && !(l != NULL && l->implicit))
        way_put(w, v->name);
    return found;
}

int net_check_sides(const struct net *n, uint32_t *ret_block, struct err *err)
{
    for (uint32_t i = 0; i < n->spec.n_blocks; i++) {
        const struct net_block *block = &n->blocks[i];
        if (block->side == 0)
            continue;
        struct way w = {.foreign = block->side == NET_USER ? NET_ITEM | NET_CROSS
                                                           : NET_USER | NET_CONTEXT | NET_CROSS};
        if (!way_find(&w, n->block_values[i]))
            continue;
        *ret_block = i;
        const char *side = block->side == NET_USER ? "user" : "item";
        if (w.kind != NULL)
            return err_set(err, ERR_CONFIG,
                           "block \"%s\" is a tower of the %s's side, where %s has no place, since %s: %s",
                           block->name, side, w.kind->name, w.kind->no_tower, w.text);
        return err_set(err, ERR_CONFIG,
                       "block \"%s\" is a tower of the %s's side, but has something of another in it: %s",
                       block->name, side, w.text);
    }
    return 0;
}

// ---- the graph --------------------------------------------------------------------------------------------

static uint32_t nodes_of_layers(const struct net *n)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < n->n_layers; i++)
        count += !n->layers[i].implicit;
    return count;
}

uint32_t net_node_count(const struct net *n)
{
    return n->spec.n_inputs + nodes_of_layers(n) + n->spec.n_heads;
}

static const struct layer *node_layer(const struct net *n, uint32_t i)
{
    for (uint32_t j = 0;; j++)
        if (!n->layers[j].implicit && i-- == 0)
            return &n->layers[j];
}

// Of a value that is no implicit concat's.
static uint32_t node_of(const struct net *n, const struct value *v)
{
    if (v->layer == NULL)
        return (uint32_t)(v - n->values);
    uint32_t at = n->spec.n_inputs;
    for (const struct layer *l = n->layers; l != v->layer; l++)
        at += !l->implicit;
    return at;
}

static void node_value(const struct net *n, const struct value *v, struct net_node *ret)
{
    ret->name = v->name;
    ret->dim = v->dim;
    ret->ragged = v->ragged;
    ret->max_len = v->ragged ? v->rows_max / n->spec.batch : 0;
    ret->sides = v->sides;
    ret->live = v->declared;
}

static void node_head(const struct net *n, uint32_t h, struct net_node *ret)
{
    const struct head *head = &n->heads[h];
    *ret = (struct net_node){.name = n->head_specs[h].name,
                             .kind = "head",
                             .is_head = true,
                             .n_in = 1,
                             .dim = 1,
                             .sides = head->read->sides,
                             .live = true,
                             .params = head->of->dim + (size_t)1,
                             .flops_forward = head_flops(head, false, false),
                             .flops_frozen = head_flops(head, true, false),
                             .flops_dense = head_flops(head, true, true)};
}

void net_node(const struct net *n, uint32_t i, struct net_node *ret_node)
{
    static const char *const kinds[] = {"id", "sequence", "number"};
    const uint32_t layers = nodes_of_layers(n);
    assert(i < net_node_count(n));
    *ret_node = (struct net_node){0};
    if (i < n->spec.n_inputs) {
        node_value(n, &n->values[i], ret_node);
        ret_node->kind = kinds[n->inputs[i].kind];
        ret_node->is_input = true;
    } else if (i < n->spec.n_inputs + layers) {
        const struct layer *l = node_layer(n, i - n->spec.n_inputs);
        node_value(n, l->out, ret_node);
        ret_node->n_in = l->n_read;
        ret_node->kind = l->kind->name;
        ret_node->params = l->n_params;
        ret_node->flops_forward = layer_flops(l, false, false);
        ret_node->flops_frozen = layer_flops(l, true, false);
        ret_node->flops_dense = layer_flops(l, true, true);
    } else {
        node_head(n, i - n->spec.n_inputs - layers, ret_node);
    }
}

uint32_t net_node_in(const struct net *n, uint32_t i, uint32_t k)
{
    const uint32_t layers = nodes_of_layers(n), first = n->spec.n_inputs;
    assert(i >= first && i < net_node_count(n));
    if (i >= first + layers)
        return node_of(n, n->heads[i - first - layers].read);
    const struct layer *l = node_layer(n, i - first);
    assert(k < l->n_read);
    return node_of(n, l->read[k]);
}
