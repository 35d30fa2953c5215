// SPDX-License-Identifier: Apache-2.0
// Building a net: names become values, blocks become layers, shapes are checked on the way; then plan.c finds
// places. And what a net says about itself: parameters, sizes, products.
#include "models/net.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/rng.h"
#include "models/plan.h"

// ---- names ------------------------------------------------------------------------------------------------

// Of inputs and of the blocks made so far.
static struct value *value_find(const struct net *n, const char *name)
{
    for (uint32_t i = 0; i < n->spec.n_inputs; i++)
        if (strcmp(n->inputs[i].name, name) == 0)
            return &n->values[i];
    for (uint32_t i = 0; i < n->spec.n_blocks && n->block_values[i] != NULL; i++)
        if (strcmp(n->blocks[i].name, name) == 0)
            return n->block_values[i];
    return NULL;
}

// `what` and `who` say who asks: block "top", head "click".
static struct value *value_need(const struct net *n, const char *name, const char *what, const char *who,
                                struct err *err)
{
    struct value *v = value_find(n, name);
    if (v != NULL)
        return v;
    for (uint32_t i = 0; i < n->spec.n_blocks; i++)
        if (strcmp(n->blocks[i].name, name) == 0) {
            err_set(err, ERR_CONFIG, "%s \"%s\": block \"%s\" must stand before it", what, who, name);
            return NULL;
        }
    struct nearest near;
    nearest_init(&near, name);
    for (uint32_t i = 0; i < n->spec.n_inputs; i++)
        nearest_put(&near, n->inputs[i].name);
    for (uint32_t i = 0; i < n->spec.n_blocks && n->block_values[i] != NULL; i++)
        nearest_put(&near, n->blocks[i].name);
    err_set(err, ERR_CONFIG, "%s \"%s\": no input or block \"%s\"%s", what, who, name, nearest_hint(&near));
    return NULL;
}

// Parameters are named "<block>.<layer>.weight" and "<head>.weight": a dot could make two of them one.
static int name_check(const char *what, const char *name, bool dots, struct err *err)
{
    if (name[0] == 0)
        return err_set(err, ERR_CONFIG, "%s has no name", what);
    if (!dots && strchr(name, '.') != NULL)
        return err_set(err, ERR_CONFIG, "%s \"%s\": its name must have no dot", what, name);
    return 0;
}

// ---- building ---------------------------------------------------------------------------------------------

static void *copy_of(const void *from, size_t count, size_t size)
{
    void *p = mem_array(count + 1, size);
    if (count > 0)
        memcpy(p, from, count * size);
    return p;
}

static struct net *net_alloc(const struct net_spec *spec)
{
    struct net *n = mem_zalloc(sizeof *n);
    n->spec = *spec;
    n->inputs = copy_of(spec->inputs, spec->n_inputs, sizeof *spec->inputs);
    n->blocks = copy_of(spec->blocks, spec->n_blocks, sizeof *spec->blocks);
    n->head_specs = copy_of(spec->heads, spec->n_heads, sizeof *spec->heads);
    for (uint32_t i = 0; i < spec->n_blocks; i++)
        n->blocks[i].of = copy_of(spec->blocks[i].of, spec->blocks[i].n_of, NET_NAME);
    n->spec.inputs = n->inputs;
    n->spec.blocks = n->blocks;
    n->spec.heads = n->head_specs;
    // A block is one layer, or a concat and one.
    n->values = mem_array(spec->n_inputs + 2 * (size_t)spec->n_blocks + 1, sizeof *n->values);
    n->layers = mem_array(2 * (size_t)spec->n_blocks + 1, sizeof *n->layers);
    n->block_values = mem_array(spec->n_blocks + 1, sizeof(void *));
    n->heads = mem_array(spec->n_heads + 1, sizeof *n->heads);
    n->packed = mem_array(spec->n_inputs + 1, sizeof *n->packed);
    return n;
}

void net_free(struct net *n)
{
    if (n == NULL)
        return;
    if (n->arena != NULL)
        mem_unmap(n->arena, n->arena_bytes);
    for (uint32_t i = 0; i < n->n_layers; i++) {
        free(n->layers[i].in);
        free(n->layers[i].beta);
    }
    for (uint32_t i = 0; i < n->spec.n_blocks; i++)
        free(n->blocks[i].of);
    void *all[] = {n->inputs,       n->blocks, n->head_specs, n->values, n->layers,
                   n->block_values, n->heads,  n->packed,     n->params};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    free(n);
}

static struct value *value_add(struct net *n, const char *name)
{
    struct value *v = &n->values[n->n_values++];
    snprintf(v->name, sizeof v->name, "%s", name);
    v->rows_max = n->spec.batch;
    return v;
}

static int input_add(struct net *n, const struct net_input *input, struct err *err)
{
    if (name_check("an input", input->name, true, err) < 0)
        return -1;
    for (const struct net_input *other = n->inputs; other < input; other++)
        if (strcmp(other->name, input->name) == 0)
            return err_set(err, ERR_CONFIG, "two inputs are named \"%s\"", input->name);
    if (input->dim == 0 || (input->kind == NET_INPUT_NUMBER && input->dim != 1))
        return err_set(err, ERR_CONFIG, "input \"%s\" cannot be %u wide", input->name, input->dim);
    if (input->kind == NET_INPUT_SEQUENCE && input->max_len == 0)
        return err_set(err, ERR_CONFIG, "input \"%s\": a sequence needs a greatest length", input->name);
    struct value *v = value_add(n, input->name);
    v->dim = input->dim;
    v->from_ids = input->kind != NET_INPUT_NUMBER;
    v->ragged = input->kind == NET_INPUT_SEQUENCE;
    if (v->ragged && (uint64_t)n->spec.batch * input->max_len > INT32_MAX)
        return err_set(err, ERR_CONFIG, "input \"%s\": a batch of %u sequences of %u is too much",
                       input->name, n->spec.batch, input->max_len);
    if (v->ragged)
        v->rows_max = n->spec.batch * input->max_len;
    return 0;
}

// A layer over `in`, which it owns from here on.
static struct layer *layer_add(struct net *n, const struct layer_kind *kind, const struct net_block *block,
                               struct value **in, uint32_t n_in, struct err *err)
{
    struct layer *l = &n->layers[n->n_layers++];
    *l =
        (struct layer){.kind = kind, .block = block, .in = in, .n_in = n_in, .net = n, .params = n->n_floats};
    l->beta = mem_array(n_in, sizeof *l->beta);
    l->out = value_add(n, block->name);
    if (kind->shape(l, err) < 0)
        return NULL;
    n->n_floats += l->n_params;
    l->out->from_params = l->n_params > 0;
    for (uint32_t i = 0; i < n_in; i++) {
        l->out->from_ids |= in[i]->from_ids;
        l->out->from_params |= in[i]->from_params;
    }
    return l;
}

static const struct layer_kind *kind_find(const struct net_block *block, struct err *err)
{
    char known[512] = "";
    for (const struct layer_kind *const *k = layer_kinds; *k != NULL; k++) {
        if (strcmp((*k)->name, block->kind) == 0)
            return *k;
        size_t len = strlen(known);
        snprintf(known + len, sizeof known - len, "%s%s", len > 0 ? ", " : "", (*k)->name);
    }
    err_set(err, ERR_CONFIG, "block \"%s\": no layer kind \"%s\"; there are %s", block->name, block->kind,
            known);
    return NULL;
}

static int block_check(const struct net *n, const struct net_block *block, struct err *err)
{
    if (name_check("block", block->name, false, err) < 0)
        return -1;
    if (value_find(n, block->name) != NULL)
        return err_set(err, ERR_CONFIG, "block \"%s\": an input or an earlier block has this name",
                       block->name);
    if (block->n_of == 0 || block->n_of > NET_OF_MAX)
        return err_set(err, ERR_CONFIG, "block \"%s\" must be of 1 to %d names, not %u", block->name,
                       NET_OF_MAX, block->n_of);
    return 0;
}

static int block_add(struct net *n, uint32_t b, struct err *err)
{
    const struct net_block *block = &n->blocks[b];
    if (block_check(n, block, err) < 0)
        return -1;
    const struct layer_kind *kind = kind_find(block, err);
    if (kind == NULL)
        return -1;
    struct value *of[NET_OF_MAX];
    for (uint32_t i = 0; i < block->n_of; i++) {
        of[i] = value_need(n, block->of[i], "block", block->name, err);
        if (of[i] == NULL)
            return -1;
    }
    struct value **in = copy_of(of, block->n_of, sizeof(void *));
    uint32_t n_in = block->n_of;
    if (kind->one_input && n_in > 1) {
        const struct layer *joined = layer_add(n, &layer_concat, block, in, n_in, err);
        if (joined == NULL)
            return -1;
        in = copy_of(&joined->out, 1, sizeof(void *));
        n_in = 1;
    }
    const struct layer *l = layer_add(n, kind, block, in, n_in, err);
    if (l == NULL)
        return -1;
    n->block_values[b] = l->out;
    return 0;
}

static size_t param_add(struct net *n, const char *of, const char *suffix, size_t offset, uint32_t rows,
                        uint32_t cols, uint32_t fan_in)
{
    n->params = mem_resize(n->params, n->n_params + 1, sizeof *n->params);
    struct param *p = &n->params[n->n_params++];
    *p = (struct param){.param = {.offset = offset, .rows = rows, .cols = cols}, .fan_in = fan_in};
    snprintf(p->param.name, sizeof p->param.name, "%s.%s", of, suffix);
    return (size_t)rows * cols;
}

size_t layer_param(struct layer *l, const char *suffix, uint32_t rows, uint32_t cols, uint32_t fan_in)
{
    size_t offset = l->n_params;
    l->n_params += param_add(l->net, l->block->name, suffix, l->params + offset, rows, cols, fan_in);
    return offset;
}

static int head_check(const struct net *n, const struct net_head *head, struct err *err)
{
    if (name_check("head", head->name, false, err) < 0)
        return -1;
    for (const struct net_head *other = n->head_specs; other < head; other++)
        if (strcmp(other->name, head->name) == 0)
            return err_set(err, ERR_CONFIG, "two heads are named \"%s\"", head->name);
    if (strcmp(head->loss, "logloss") != 0)
        return err_set(err, ERR_CONFIG, "head \"%s\": no loss \"%s\"; there is logloss", head->name,
                       head->loss);
    if (!(isfinite(head->weight) && head->weight >= 0))
        return err_set(err, ERR_CONFIG, "head \"%s\": its weight must be a number from 0 on", head->name);
    return 0;
}

static int head_add(struct net *n, uint32_t h, struct err *err)
{
    const struct net_head *head = &n->head_specs[h];
    if (head_check(n, head, err) < 0)
        return -1;
    struct value *of = value_need(n, head->of, "head", head->name, err);
    if (of == NULL)
        return -1;
    if (of->ragged)
        return err_set(err, ERR_CONFIG, "head \"%s\": \"%s\" is a sequence: pool it with mean first",
                       head->name, of->name);
    n->heads[h] = (struct head){.of = of, .weight = n->n_floats, .bias = n->n_floats + of->dim};
    n->n_floats += param_add(n, head->name, "weight", n->n_floats, 1, of->dim, of->dim);
    n->n_floats += param_add(n, head->name, "bias", n->n_floats, 1, 1, of->dim);
    return 0;
}

// *ret_at is the part that was at work, as net_new's ret_block.
static int net_build(struct net *n, uint32_t *ret_at, struct err *err)
{
    *ret_at = UINT32_MAX;
    if (n->spec.batch == 0 || n->spec.batch > INT32_MAX)
        return err_set(err, ERR_CONFIG, "a batch of %u samples is not possible", n->spec.batch);
    if (n->spec.n_heads == 0)
        return err_set(err, ERR_CONFIG, "the net has no head");
    for (uint32_t i = 0; i < n->spec.n_inputs; i++)
        if (input_add(n, &n->inputs[i], err) < 0)
            return -1;
    for (uint32_t i = 0; i < n->spec.n_blocks; i++) {
        *ret_at = i;
        if (block_add(n, i, err) < 0)
            return -1;
    }
    for (uint32_t i = 0; i < n->spec.n_heads; i++) {
        *ret_at = n->spec.n_blocks + i;
        if (head_add(n, i, err) < 0)
            return -1;
    }
    return 0;
}

int net_new(const struct net_spec *spec, struct net **ret_net, uint32_t *ret_block, struct err *err)
{
    struct net *n = net_alloc(spec);
    uint32_t at;
    if (net_build(n, &at, err) < 0) {
        net_free(n);
        if (ret_block != NULL)
            *ret_block = at;
        return -1;
    }
    plan_place(n);
    *ret_net = n;
    return 0;
}

// ---- what a net says of itself ----------------------------------------------------------------------------

uint32_t net_param_count(const struct net *n)
{
    return n->n_params;
}

const struct net_param *net_param(const struct net *n, uint32_t i)
{
    assert(i < n->n_params);
    return &n->params[i].param;
}

size_t net_param_floats(const struct net *n)
{
    return n->n_floats;
}

size_t net_arena_bytes(const struct net *n)
{
    return n->arena_bytes;
}

static double head_flops(const struct head *h, bool train_dense, bool backward)
{
    const double product = 2.0 * h->of->dim;
    if (!backward)
        return product;
    const bool dx = h->of->from_ids || (train_dense && h->of->from_params);
    return product * (dx + train_dense);
}

double net_flops(const struct net *n, bool train_dense, bool backward)
{
    double sum = 0;
    for (uint32_t i = 0; i < n->n_layers; i++) {
        const struct layer *l = &n->layers[i];
        if (l->kind->flops == NULL || !l->out->live)
            continue;
        const double rows = (double)l->out->rows_max / n->spec.batch;
        sum += rows * l->kind->flops(l, false, train_dense);
        if (backward && (l->out->from_ids || train_dense))
            sum += rows * l->kind->flops(l, true, train_dense);
    }
    for (uint32_t h = 0; h < n->spec.n_heads; h++) {
        sum += head_flops(&n->heads[h], train_dense, false);
        if (backward)
            sum += head_flops(&n->heads[h], train_dense, true);
    }
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

void net_init(const struct net *n, uint64_t seed, float *ret_params)
{
    for (uint32_t i = 0; i < n->n_params; i++) {
        const struct param *p = &n->params[i];
        struct rng rng = rng_of(hash_mix(seed) ^ hash_bytes(p->param.name, strlen(p->param.name)));
        const double bound = 1 / sqrt(p->fan_in);
        for (size_t j = 0; j < (size_t)p->param.rows * p->param.cols; j++)
            ret_params[p->param.offset + j] = (float)((2 * rng_uniform(&rng) - 1) * bound);
    }
}
