// SPDX-License-Identifier: Apache-2.0
// What tests of nets share: nets written down in a few calls, and random batches for them.
#ifndef FRESHET_TESTS_UNIT_NET_BUILD_H
#define FRESHET_TESTS_UNIT_NET_BUILD_H

#include "models/net.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/rng.h"
#include "models/gemm.h"
#include "models/plan.h"

enum { MAX_INPUTS = 8, MAX_BLOCKS = 10, MAX_HEADS = 4, MAX_OF = 6 };

// ---- writing nets down ------------------------------------------------------------------------------------

struct build {
    struct net_input inputs[MAX_INPUTS];
    struct net_block blocks[MAX_BLOCKS];
    struct net_head heads[MAX_HEADS];
    char of[MAX_BLOCKS][MAX_OF][NET_NAME];
    struct net_spec spec;
};

static inline void build_init(struct build *b, uint32_t batch)
{
    *b = (struct build){.spec = {.batch = batch}};
    b->spec.inputs = b->inputs;
    b->spec.blocks = b->blocks;
    b->spec.heads = b->heads;
}

static inline void add_input(struct build *b, const char *name, enum net_input_kind kind, uint32_t table,
                             uint32_t dim)
{
    struct net_input *input = &b->inputs[b->spec.n_inputs++];
    *input = (struct net_input){.kind = kind, .table = table, .dim = dim, .max_len = 6};
    snprintf(input->name, NET_NAME, "%s", name);
}

static inline void add_option(struct build *b, struct layer_value option)
{
    struct layer_value *o = b->blocks[b->spec.n_blocks - 1].options;
    while (o->name != NULL)
        o++;
    *o = option;
}

// `of`: names with blanks between; dims end with 0.
static inline void add_block(struct build *b, const char *name, const char *kind, const char *of,
                             const uint32_t dims[NET_DIMS_MAX], const char *activation)
{
    uint32_t at = b->spec.n_blocks++;
    struct net_block *block = &b->blocks[at];
    *block = (struct net_block){.of = b->of[at]};
    snprintf(block->name, NET_NAME, "%s", name);
    snprintf(block->kind, NET_NAME, "%s", kind);
    for (int used = 0; sscanf(of, "%63s%n", block->of[block->n_of], &used) == 1; of += used)
        cr_assert_lt(block->n_of++, MAX_OF - 1);
    struct layer_value widths = {.name = kind};
    for (uint32_t i = 0; dims != NULL && i < NET_DIMS_MAX; i++)
        widths.dims[i] = dims[i];
    if (dims != NULL)
        add_option(b, widths);
    if (activation[0] != 0)
        add_option(b, (struct layer_value){.name = "activation", .text = activation});
}

static inline void add_head(struct build *b, const char *name, const char *of, float weight)
{
    struct net_head *head = &b->heads[b->spec.n_heads++];
    *head = (struct net_head){.loss = "logloss", .weight = weight};
    snprintf(head->name, NET_NAME, "%s", name);
    snprintf(head->of, NET_NAME, "%s", of);
}

#define DIMS(...) ((const uint32_t[NET_DIMS_MAX]){__VA_ARGS__})

static inline void add_inputs(struct build *b)
{
    add_input(b, "user", NET_INPUT_ID, 0, 8);
    add_input(b, "item", NET_INPUT_ID, 1, 8);
    add_input(b, "clicks", NET_INPUT_SEQUENCE, 1, 8);
    add_input(b, "age", NET_INPUT_NUMBER, 0, 1);
    add_input(b, "ctr", NET_INPUT_NUMBER, 0, 1);
    add_block(b, "pooled", "mean", "clicks", NULL, "");
}

static inline void build_mlp(struct build *b, uint32_t batch)
{
    build_init(b, batch);
    add_inputs(b);
    add_block(b, "bottom", "mlp", "user age item pooled ctr", DIMS(32, 16), "relu");
    add_head(b, "click", "bottom", 1);
    add_head(b, "like", "bottom", 0.5f);
}

static inline void build_towers(struct build *b, uint32_t batch)
{
    build_init(b, batch);
    add_inputs(b);
    add_block(b, "shared", "mlp", "user", DIMS(6, 5), "none");
    add_block(b, "left", "mlp", "user pooled", DIMS(16, 8), "");
    add_block(b, "right", "mlp", "item ctr shared", DIMS(12, 7), "relu");
    add_block(b, "both", "concat", "left right", NULL, "");
    add_block(b, "top", "mlp", "both user", DIMS(12), "relu");
    add_head(b, "click", "top", 1);
    add_head(b, "like", "both", 0.5f);
}

static inline void build_sides(struct build *b)
{
    static const uint32_t sides[] = {NET_USER, NET_ITEM, NET_USER, NET_CONTEXT, NET_ITEM};
    build_mlp(b, 4);
    for (uint32_t i = 0; i < 5; i++)
        b->inputs[i].sides = sides[i];
}

static inline struct net *build_net(const struct build *b)
{
    struct net *net;
    struct err err;
    cr_assert_eq(net_new(&b->spec, &net, NULL, &err), 0, "%s", err.message);
    return net;
}

// ---- batches ----------------------------------------------------------------------------------------------

enum { N = 9, ROWS = 30, DIM = 8, STRIDE = 11, SEQUENCE = 6 };

struct samples {
    float vectors[2][ROWS * STRIDE];
    struct net_rows tables[2];
    uint32_t ids[MAX_INPUTS][N * SEQUENCE], lengths[MAX_INPUTS][N + 1];
    float values[MAX_INPUTS][N], targets[MAX_HEADS][N], loads[MAX_HEADS][N], p[MAX_HEADS][N];
    const uint32_t *slots[MAX_INPUTS], *offsets[MAX_INPUTS];
    const float *numbers[MAX_INPUTS], *labels[MAX_HEADS], *weights[MAX_HEADS];
    float *ret_p[MAX_HEADS];
    struct net_batch batch;
};

static inline void samples_tables(struct samples *s, struct rng *rng)
{
    for (uint32_t t = 0; t < 2; t++) {
        for (uint32_t i = 0; i < ROWS * STRIDE; i++)
            s->vectors[t][i] = (float)rng_normal(rng);
        s->tables[t] = (struct net_rows){s->vectors[t], STRIDE};
    }
}

static inline uint32_t random_slot(struct rng *rng)
{
    return rng_below(rng, 10) == 0 ? UINT32_MAX : (uint32_t)rng_below(rng, ROWS);
}

static inline void samples_init(struct samples *s, const struct net_spec *spec, uint32_t n, uint64_t seed)
{
    struct rng rng = rng_of(seed);
    *s = (struct samples){0};
    samples_tables(s, &rng);
    for (uint32_t i = 0; i < spec->n_inputs; i++) {
        for (uint32_t j = 0; j < n; j++) {
            s->lengths[i][j + 1] = s->lengths[i][j] + (uint32_t)rng_below(&rng, SEQUENCE + 1);
            s->values[i][j] = (float)rng_normal(&rng);
        }
        for (uint32_t j = 0; j < N * SEQUENCE; j++)
            s->ids[i][j] = random_slot(&rng);
        s->slots[i] = s->ids[i];
        s->offsets[i] = s->lengths[i];
        s->numbers[i] = s->values[i];
    }
    for (uint32_t h = 0; h < spec->n_heads; h++) {
        for (uint32_t j = 0; j < n; j++) {
            s->targets[h][j] = rng_below(&rng, 2) == 0 ? 0 : (float)rng_below(&rng, 3) / 2;
            s->loads[h][j] = (float)rng_uniform(&rng) * 2;
        }
        s->labels[h] = s->targets[h];
        s->weights[h] = h % 2 == 0 ? s->loads[h] : NULL;
        s->ret_p[h] = s->p[h];
    }
    s->batch = (struct net_batch){.n = n,
                                  .tables = s->tables,
                                  .slots = s->slots,
                                  .offsets = s->offsets,
                                  .numbers = s->numbers,
                                  .labels = s->labels,
                                  .weights = s->weights};
}

static inline float *params_new(const struct net *net)
{
    float *params = mem_array(net_param_floats(net) + 1, sizeof *params);
    net_init(net, 7, params);
    return params;
}

static inline double loss_of(struct net *net, const float *params, struct samples *s)
{
    net_forward(net, params, &s->batch, s->ret_p);
    return net_loss(net, &s->batch);
}

#endif
