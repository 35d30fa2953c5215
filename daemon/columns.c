// SPDX-License-Identifier: Apache-2.0
// From feature rows to the model's columns, and from the config to the net. A feature that some block names
// becomes an input of the net: with a table an input of ids, else a number; a sequence gets a block of kind
// "mean" after it, and whoever named the sequence sees the mean.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "daemon/features.h"

// ---- the net ----------------------------------------------------------------------------------------------

struct net_memory {
    struct net_input inputs[CONFIG_FEATURES_MAX];
    struct net_block blocks[CONFIG_BLOCKS_MAX + CONFIG_FEATURES_MAX];
    struct net_head heads[CONFIG_HEADS_MAX];
};

static uint32_t config_feature_find(const struct config *config, const char *name)
{
    for (uint32_t i = 0; i < config->n_features; i++)
        if (strcmp(config->features[i].name, name) == 0)
            return i;
    return UINT32_MAX;
}

static bool config_block_named(const struct config *config, const char *name)
{
    for (uint32_t i = 0; i < config->model.n_blocks; i++)
        if (strcmp(config->model.blocks[i].name, name) == 0)
            return true;
    return false;
}

static void net_mean_name(char *to, const char *feature)
{
    snprintf(to, NET_NAME, "%.58s:mean", feature);
}

// The block that pools a sequence.
static void net_add_mean(struct features_net *net, const struct config_feature *c)
{
    struct net_memory *m = net->memory;
    struct net_block *b = &m->blocks[net->spec.n_blocks];
    net->block_of[net->spec.n_blocks++] = UINT32_MAX;
    net_mean_name(b->name, c->name);
    snprintf(b->kind, sizeof b->kind, "mean");
    b->n_of = 1;
    b->of = mem_array(1, sizeof *b->of);
    snprintf(b->of[0], NET_NAME, "%s", c->name);
}

// Makes the feature an input, if it is not one yet, and writes the name under which blocks see it.
static void net_use(struct features_net *net, const struct config *config, const char *name, char *ret_name)
{
    struct net_memory *m = net->memory;
    uint32_t feature = config_block_named(config, name) ? UINT32_MAX : config_feature_find(config, name);
    snprintf(ret_name, NET_NAME, "%s", name);
    if (feature == UINT32_MAX)
        return;
    const struct config_feature *c = &config->features[feature];
    bool sequence = c->kind == CONFIG_FEATURE_SEQUENCE;
    if (sequence)
        net_mean_name(ret_name, c->name);
    for (uint32_t i = 0; i < net->spec.n_inputs; i++)
        if (net->inputs_of[i] == feature)
            return;
    struct net_input *in = &m->inputs[net->spec.n_inputs];
    net->inputs_of[net->spec.n_inputs++] = feature;
    snprintf(in->name, sizeof in->name, "%s", c->name);
    in->kind = sequence ? NET_INPUT_SEQUENCE : c->table >= 0 ? NET_INPUT_ID : NET_INPUT_NUMBER;
    in->table = c->table >= 0 ? (uint32_t)c->table : 0;
    in->dim = c->table >= 0 ? config->tables[c->table].dim : 1;
    in->max_len = c->last;
    if (sequence)
        net_add_mean(net, c);
}

static void net_add_block(struct features_net *net, const struct config *config, uint32_t i)
{
    struct net_memory *m = net->memory;
    const struct config_block *c = &config->model.blocks[i];
    char(*of)[NET_NAME] = mem_array(c->n_of, sizeof *of);
    for (uint32_t k = 0; k < c->n_of; k++)
        net_use(net, config, c->of[k], of[k]);
    struct net_block *b = &m->blocks[net->spec.n_blocks];
    net->block_of[net->spec.n_blocks++] = i;
    snprintf(b->name, sizeof b->name, "%s", c->name);
    snprintf(b->kind, sizeof b->kind, "%s", c->kind);
    snprintf(b->activation, sizeof b->activation, "%s", c->activation);
    b->n_of = c->n_of;
    b->of = of;
    b->n_dims = c->n_dims;
    memcpy(b->dims, c->dims, sizeof b->dims);
}

static void net_add_head(struct features_net *net, const struct config *config, uint32_t i)
{
    struct net_memory *m = net->memory;
    const struct config_head *c = &config->model.heads[i];
    struct net_head *h = &m->heads[net->spec.n_heads++];
    net_use(net, config, c->of, h->of);
    snprintf(h->name, sizeof h->name, "%s", c->name);
    snprintf(h->loss, sizeof h->loss, "%s", c->loss);
    h->weight = (float)c->weight;
}

void features_net_new(const struct config *config, struct features_net *ret_net)
{
    struct net_memory *m = mem_zalloc(sizeof *m);
    *ret_net = (struct features_net){.n_tables = config->n_tables, .memory = m};
    for (uint32_t i = 0; i < config->model.n_blocks; i++)
        net_add_block(ret_net, config, i);
    for (uint32_t i = 0; i < config->model.n_heads; i++)
        net_add_head(ret_net, config, i);
    ret_net->spec.inputs = m->inputs;
    ret_net->spec.blocks = m->blocks;
    ret_net->spec.heads = m->heads;
    ret_net->spec.batch = config->update.batch;
    for (uint32_t i = 0; i < config->n_tables; i++) {
        const struct config_table *t = &config->tables[i];
        ret_net->tables[i] = (struct table_options){.name = t->name,
                                                    .dim = t->dim,
                                                    .rows = t->rows,
                                                    .admit = t->admit,
                                                    .expire_ms = t->expire_ms,
                                                    .lr = (float)t->lr,
                                                    .init = (float)t->init,
                                                    .accum = 0,
                                                    .seed = hash_mix(config->update.seed + i + 1)};
    }
}

void features_net_done(struct features_net *net)
{
    struct net_memory *m = net->memory;
    if (m == NULL)
        return;
    for (uint32_t i = 0; i < net->spec.n_blocks; i++)
        free(m->blocks[i].of);
    free(m);
    *net = (struct features_net){0};
}

// ---- columns ----------------------------------------------------------------------------------------------

struct column {
    uint32_t feature;
    enum net_input_kind kind;
    uint64_t *ids;
    uint32_t n_ids, cap_ids;
    uint32_t *offsets;
    float *numbers;
};

struct columns {
    uint32_t n, cap; // samples
    uint32_t n_inputs, n_heads;
    struct column column[CONFIG_FEATURES_MAX];
    float *labels[CONFIG_HEADS_MAX];
    uint32_t *seen_s;
    struct model_samples samples;
    const uint64_t *ids[CONFIG_FEATURES_MAX];
    const uint32_t *offsets[CONFIG_FEATURES_MAX];
    const float *numbers[CONFIG_FEATURES_MAX];
    const float *label_ptrs[CONFIG_HEADS_MAX];
};

struct columns *columns_new(const struct config *config)
{
    struct columns *c = mem_zalloc(sizeof *c);
    struct features_net net;
    features_net_new(config, &net);
    c->n_inputs = net.spec.n_inputs;
    c->n_heads = net.spec.n_heads;
    for (uint32_t i = 0; i < c->n_inputs; i++)
        c->column[i] = (struct column){.feature = net.inputs_of[i], .kind = net.spec.inputs[i].kind};
    features_net_done(&net);
    return c;
}

void columns_free(struct columns *c)
{
    if (c == NULL)
        return;
    for (uint32_t i = 0; i < c->n_inputs; i++) {
        free(c->column[i].ids);
        free(c->column[i].offsets);
        free(c->column[i].numbers);
    }
    for (uint32_t h = 0; h < c->n_heads; h++)
        free(c->labels[h]);
    free(c->seen_s);
    free(c);
}

void columns_clear(struct columns *c)
{
    c->n = 0;
    for (uint32_t i = 0; i < c->n_inputs; i++)
        c->column[i].n_ids = 0;
}

static void columns_grow(struct columns *c)
{
    c->cap = c->cap > 0 ? 2 * c->cap : 1024;
    for (uint32_t i = 0; i < c->n_inputs; i++) {
        struct column *k = &c->column[i];
        if (k->kind == NET_INPUT_NUMBER)
            k->numbers = mem_resize(k->numbers, c->cap, sizeof *k->numbers);
        if (k->kind == NET_INPUT_SEQUENCE)
            k->offsets = mem_resize(k->offsets, (size_t)c->cap + 1, sizeof *k->offsets);
    }
    for (uint32_t h = 0; h < c->n_heads; h++)
        c->labels[h] = mem_resize(c->labels[h], c->cap, sizeof *c->labels[h]);
    c->seen_s = mem_resize(c->seen_s, c->cap, sizeof *c->seen_s);
}

static uint64_t *column_ids(struct column *k, uint32_t n)
{
    while (k->n_ids + n > k->cap_ids) {
        k->cap_ids = k->cap_ids > 0 ? 2 * k->cap_ids : 1024;
        k->ids = mem_resize(k->ids, k->cap_ids, sizeof *k->ids);
    }
    uint64_t *to = k->ids + k->n_ids;
    k->n_ids += n;
    return to;
}

void columns_put(struct columns *c, const struct feature_row *row, int64_t seen_ms, const float *labels)
{
    if (c->n == c->cap)
        columns_grow(c);
    for (uint32_t i = 0; i < c->n_inputs; i++) {
        struct column *k = &c->column[i];
        const struct feature_value *v = &row->values[k->feature];
        switch (k->kind) {
        case NET_INPUT_ID:
            *column_ids(k, 1) = v->id;
            break;
        case NET_INPUT_SEQUENCE:
            k->offsets[c->n] = k->n_ids;
            if (v->n > 0)
                memcpy(column_ids(k, v->n), v->ids, 8 * (size_t)v->n);
            k->offsets[c->n + 1] = k->n_ids;
            break;
        case NET_INPUT_NUMBER:
            k->numbers[c->n] = (float)v->number;
            break;
        }
    }
    for (uint32_t h = 0; h < c->n_heads; h++)
        c->labels[h][c->n] = labels == NULL ? 0 : labels[h];
    c->seen_s[c->n] = (uint32_t)(seen_ms / 1000);
    c->n++;
}

const struct model_samples *columns_samples(struct columns *c)
{
    for (uint32_t i = 0; i < c->n_inputs; i++) {
        c->ids[i] = c->column[i].ids;
        c->offsets[i] = c->column[i].kind == NET_INPUT_SEQUENCE ? c->column[i].offsets : NULL;
        c->numbers[i] = c->column[i].numbers;
    }
    for (uint32_t h = 0; h < c->n_heads; h++)
        c->label_ptrs[h] = c->labels[h];
    c->samples = (struct model_samples){.n = c->n,
                                        .ids = c->ids,
                                        .offsets = c->offsets,
                                        .numbers = c->numbers,
                                        .labels = c->label_ptrs,
                                        .weights = NULL,
                                        .seen_s = c->seen_s};
    return &c->samples;
}
