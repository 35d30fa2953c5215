// SPDX-License-Identifier: Apache-2.0
// Building a net: names become values, blocks become layers (net_block.c), shapes are checked on the way; then
// plan.c finds places. And its parameters.
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

struct value *net_value_find(const struct net *n, const char *name)
{
    for (uint32_t i = 0; i < n->spec.n_inputs; i++)
        if (strcmp(n->inputs[i].name, name) == 0)
            return &n->values[i];
    for (uint32_t i = 0; i < n->spec.n_blocks && n->block_values[i] != NULL; i++)
        if (strcmp(n->blocks[i].name, name) == 0)
            return n->block_values[i];
    return NULL;
}

struct value *net_value_need(const struct net *n, const char *name, const char *what, const char *who,
                             struct err *err)
{
    struct value *v = net_value_find(n, name);
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
int net_name_check(const char *what, const char *name, bool dots, struct err *err)
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
    // A block is one layer, with a concat before it and before each option at most.
    // And each value may be expanded once.
    const size_t layers = 2 * ((size_t)spec->n_inputs + (size_t)spec->n_blocks * (3 + NET_OPTIONS_MAX) + 1);
    n->values = mem_array(spec->n_inputs + layers, sizeof *n->values);
    n->layers = mem_array(layers, sizeof *n->layers);
    n->block_values = mem_array(spec->n_blocks + 1, sizeof(void *));
    n->expanded = mem_array(spec->n_inputs + layers, sizeof(void *));
    n->heads_on = mem_array(spec->n_heads + 1, sizeof *n->heads_on);
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
        free(n->layers[i].read);
        free(n->layers[i].beta);
        free(n->layers[i].settings);
    }
    for (uint32_t i = 0; i < n->spec.n_blocks; i++)
        free(n->blocks[i].of);
    void *all[] = {n->inputs, n->blocks, n->head_specs, n->values,   n->layers,  n->block_values,
                   n->heads,  n->packed, n->params,     n->expanded, n->heads_on};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    packs_done(&n->packs);
    arena_done(&n->memory);
    free(n);
}

struct value *net_value_add(struct net *n, const char *name)
{
    struct value *v = &n->values[n->n_values++];
    snprintf(v->name, sizeof v->name, "%s", name);
    v->rows_max = n->spec.batch;
    return v;
}

// Its entries are those of an earlier sequence.
static int input_offsets(struct net *n, struct value *v, const struct net_input *input, struct err *err)
{
    const struct net_input *of = n->inputs;
    while (of < input && strcmp(of->name, input->offsets_as) != 0)
        of++;
    if (of == input || of->kind != NET_INPUT_SEQUENCE || !v->ragged)
        return err_set(err, ERR_CONFIG, "input \"%s\": \"%s\" is no sequence that stands before it",
                       input->name, input->offsets_as);
    if (of->max_len != input->max_len)
        return err_set(err, ERR_CONFIG,
                       "inputs \"%s\" and \"%s\": %u and %u entries at most, but of the same", of->name,
                       input->name, of->max_len, input->max_len);
    v->offsets_of = n->values[of - n->inputs].offsets_of;
    if (v->shared != v->offsets_of->shared)
        return err_set(err, ERR_CONFIG,
                       "inputs \"%s\" and \"%s\": one is of the request alone, but the other is not",
                       of->name, input->name);
    return 0;
}

static int input_add(struct net *n, const struct net_input *input, struct err *err)
{
    if (net_name_check("an input", input->name, true, err) < 0)
        return -1;
    for (const struct net_input *other = n->inputs; other < input; other++)
        if (strcmp(other->name, input->name) == 0)
            return err_set(err, ERR_CONFIG, "two inputs are named \"%s\"", input->name);
    if (input->dim == 0 || (input->kind == NET_INPUT_NUMBER && input->dim != 1))
        return err_set(err, ERR_CONFIG, "input \"%s\" cannot be %u wide", input->name, input->dim);
    if (input->kind == NET_INPUT_SEQUENCE && input->max_len == 0)
        return err_set(err, ERR_CONFIG, "input \"%s\": a sequence needs a greatest length", input->name);
    struct value *v = net_value_add(n, input->name);
    v->dim = input->dim;
    v->sides = input->sides;
    v->shared = net_sides_shared(input->sides);
    v->from_ids = input->kind != NET_INPUT_NUMBER;
    v->ragged = input->kind == NET_INPUT_SEQUENCE;
    if (v->ragged && (uint64_t)n->spec.batch * input->max_len > INT32_MAX)
        return err_set(err, ERR_CONFIG, "input \"%s\": a batch of %u sequences of %u is too much",
                       input->name, n->spec.batch, input->max_len);
    if (v->ragged)
        v->rows_max = n->spec.batch * input->max_len;
    v->offsets_of = v->ragged ? v : NULL;
    return input->offsets_as[0] != 0 ? input_offsets(n, v, input, err) : 0;
}

size_t net_param_add(struct net *n, const char *of, const char *suffix, const struct net_param *param,
                     struct layer_init init)
{
    n->params = mem_resize(n->params, n->n_params + 1, sizeof *n->params);
    struct param *p = &n->params[n->n_params++];
    *p = (struct param){.param = *param, .init = init};
    snprintf(p->param.name, sizeof p->param.name, "%s.%s", of, suffix);
    return (size_t)param->rows * param->cols;
}

static int head_loss_fail(const struct net_head *head, struct err *err)
{
    struct nearest near;
    nearest_init(&near, head->loss);
    for (const struct net_loss *l = net_losses; l->name != NULL; l++)
        nearest_put(&near, l->name);
    return err_set(err, ERR_CONFIG, "head \"%s\": no loss \"%s\"%s", head->name, head->loss,
                   nearest_hint(&near));
}

static int head_check(const struct net *n, const struct net_head *head, struct err *err)
{
    if (net_name_check("head", head->name, false, err) < 0)
        return -1;
    for (const struct net_head *other = n->head_specs; other < head; other++)
        if (strcmp(other->name, head->name) == 0)
            return err_set(err, ERR_CONFIG, "two heads are named \"%s\"", head->name);
    if (net_loss_find(head->loss) == NULL)
        return head_loss_fail(head, err);
    if (!(isfinite(head->weight) && head->weight >= 0))
        return err_set(err, ERR_CONFIG, "head \"%s\": its weight must be a number from 0 on", head->name);
    return 0;
}

// The head that stands before it, and of both the logloss.
static int head_through(struct net *n, uint32_t h, struct err *err)
{
    const struct net_head *head = &n->head_specs[h];
    struct nearest near;
    nearest_init(&near, head->through);
    for (uint32_t i = 0; i < h; i++) {
        nearest_put(&near, n->head_specs[i].name);
        if (strcmp(n->head_specs[i].name, head->through) != 0)
            continue;
        if (n->heads[i].through >= 0)
            return err_set(err, ERR_CONFIG, "head \"%s\": head \"%s\" goes through another itself",
                           head->name, head->through);
        if (strcmp(head->loss, "logloss") != 0 || strcmp(n->head_specs[i].loss, "logloss") != 0)
            return err_set(err, ERR_CONFIG, "head \"%s\" through \"%s\": both must have the loss logloss",
                           head->name, head->through);
        n->heads[h].through = (int)i;
        return 0;
    }
    return err_set(err, ERR_CONFIG, "head \"%s\": no earlier head \"%s\"%s", head->name, head->through,
                   nearest_hint(&near));
}

static int head_add(struct net *n, uint32_t h, struct err *err)
{
    const struct net_head *head = &n->head_specs[h];
    if (head_check(n, head, err) < 0)
        return -1;
    struct value *of = net_value_need(n, head->of, "head", head->name, err);
    if (of == NULL)
        return -1;
    if (of->ragged)
        return err_set(err, ERR_CONFIG, "head \"%s\": \"%s\" is a sequence: pool it with mean first",
                       head->name, of->name);
    n->heads[h] = (struct head){.of = net_expand(n, of),
                                .read = of,
                                .loss = net_loss_find(head->loss),
                                .through = -1,
                                .weight = n->n_floats,
                                .bias = n->n_floats + of->dim};
    if (head->through[0] != 0 && head_through(n, h, err) < 0)
        return -1;
    struct net_param p = {
        .offset = n->n_floats, .rows = 1, .cols = of->dim, .trainable = true, .lr = head->lr};
    n->n_floats += net_param_add(n, head->name, "weight", &p, init_by(&head->init, &p, init_fan_in(of->dim)));
    p.offset = n->n_floats;
    p.cols = 1;
    p.vector = true;
    n->n_floats += net_param_add(n, head->name, "bias", &p, init_fan_in(of->dim));
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
        if (net_block_add(n, i, err) < 0)
            return -1;
    }
    if (net_check_sides(n, ret_at, err) < 0)
        return -1;
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
    net_select(n, NULL, NULL, NULL);
    *ret_net = n;
    return 0;
}

// ---- parameters -------------------------------------------------------------------------------------------

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

void net_init(const struct net *n, uint64_t seed, float *ret_params)
{
    for (uint32_t i = 0; i < n->n_params; i++) {
        const struct param *p = &n->params[i];
        const struct layer_init init = p->init;
        struct rng rng = rng_of(hash_mix(seed) ^ hash_bytes(p->param.name, strlen(p->param.name)));
        for (size_t j = 0; j < (size_t)p->param.rows * p->param.cols; j++) {
            double u = init.normal ? rng_normal(&rng) : 2 * rng_uniform(&rng) - 1;
            ret_params[p->param.offset + j] = (float)(init.center + u * init.spread);
        }
    }
}
