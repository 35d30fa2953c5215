// SPDX-License-Identifier: Apache-2.0
// From the config to the net. A feature that some block names becomes an input of the net: with a table an input
// of ids, else a number. A block of a kind that takes sequences as they are sees a sequence so; every other sees its
// mean, by a block of kind "mean" that is put before it once.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/mem.h"
#include "daemon/features.h"

struct net_memory {
    struct arena texts; // of options
    struct net_input inputs[CONFIG_FEATURES_MAX];
    struct net_block blocks[CONFIG_BLOCKS_MAX + CONFIG_FEATURES_MAX];
    struct net_head heads[CONFIG_HEADS_MAX];
};

struct net_reading {
    struct features_net *net;
    const struct config *config;
};

static uint32_t feature_find(const struct config *config, const char *name)
{
    for (uint32_t i = 0; i < config->model.n_blocks; i++)
        if (strcmp(config->model.blocks[i].name, name) == 0)
            return UINT32_MAX;
    for (uint32_t i = 0; i < config->n_features; i++)
        if (strcmp(config->features[i].name, name) == 0)
            return i;
    return UINT32_MAX;
}

// ---- inputs -----------------------------------------------------------------------------------------------

// The earlier input whose entries those of this sequence are, each seen otherwise: or NULL.
static const char *input_twin(const struct net_reading *r, const struct config_feature *c)
{
    const struct net_memory *m = r->net->memory;
    for (uint32_t i = 0; i < r->net->spec.n_inputs; i++)
        if (config_feature_twins(&r->config->features[r->net->inputs_of[i]], c))
            return m->inputs[i].name;
    return NULL;
}

// Makes the feature an input, if it is not one yet.
static void input_add(const struct net_reading *r, uint32_t feature)
{
    struct net_memory *m = r->net->memory;
    const struct config_feature *c = &r->config->features[feature];
    for (uint32_t i = 0; i < r->net->spec.n_inputs; i++)
        if (r->net->inputs_of[i] == feature)
            return;
    const bool ragged = config_feature_ragged(c);
    const char *twin = ragged ? input_twin(r, c) : NULL;
    struct net_input *in = &m->inputs[r->net->spec.n_inputs];
    r->net->inputs_of[r->net->spec.n_inputs++] = feature;
    snprintf(in->name, sizeof in->name, "%s", c->name);
    in->kind = ragged ? NET_INPUT_SEQUENCE : c->table >= 0 ? NET_INPUT_ID : NET_INPUT_NUMBER;
    in->table = c->table >= 0 ? (uint32_t)c->table : 0;
    in->dim = c->table >= 0 ? r->config->tables[c->table].dim : 1;
    in->max_len = c->last;
    in->sides = config_feature_sides(r->config, feature);
    if (twin != NULL)
        snprintf(in->offsets_as, sizeof in->offsets_as, "%s", twin);
}

// ---- blocks -----------------------------------------------------------------------------------------------

// The block that pools a sequence, if it is not there yet.
static void mean_add(const struct net_reading *r, const char *feature, const char *name)
{
    struct net_memory *m = r->net->memory;
    for (uint32_t i = 0; i < r->net->spec.n_blocks; i++)
        if (strcmp(m->blocks[i].name, name) == 0)
            return;
    struct net_block *b = &m->blocks[r->net->spec.n_blocks];
    r->net->block_of[r->net->spec.n_blocks++] = UINT32_MAX;
    snprintf(b->name, sizeof b->name, "%s", name);
    snprintf(b->kind, sizeof b->kind, "mean");
    b->n_of = 1;
    b->of = mem_array(1, sizeof *b->of);
    snprintf(b->of[0], NET_NAME, "%s", feature);
}

// The name of a feature or block as a block of the net sees it; makes what it needs before.
static void name_use(const struct net_reading *r, const char *name, bool sequences, char ret_name[NET_NAME])
{
    const uint32_t feature = feature_find(r->config, name);
    snprintf(ret_name, NET_NAME, "%s", name);
    if (feature == UINT32_MAX)
        return;
    input_add(r, feature);
    if (!config_feature_ragged(&r->config->features[feature]) || sequences)
        return;
    snprintf(ret_name, NET_NAME, "%.58s:mean", name);
    mean_add(r, name, ret_name);
}

static struct layer_value option_use(const struct net_reading *r, const struct layer_option *o,
                                     const struct layer_value *from)
{
    struct net_memory *m = r->net->memory;
    struct layer_value v = *from;
    if (o->type != LAYER_INPUT && o->type != LAYER_INPUTS && o->type != LAYER_PAIRS)
        return v;
    struct buf names = {0};
    char name[NET_NAME], used[NET_NAME];
    int len = 0;
    for (const char *text = from->text; sscanf(text, "%63s%n", name, &len) == 1; text += len) {
        name_use(r, name, o->sequences, used);
        buf_printf(&names, "%s%s", names.len > 0 ? " " : "", used);
    }
    v.text = arena_str(&m->texts, buf_str(&names)).s;
    buf_done(&names);
    return v;
}

static void block_add(const struct net_reading *r, uint32_t i)
{
    struct net_memory *m = r->net->memory;
    const struct config_block *c = &r->config->model.blocks[i];
    const struct net_kind kind = net_kind_find(c->kind);
    struct net_block b = {.n_of = c->n_of,
                          .of = mem_array(c->n_of, NET_NAME),
                          .side = c->side,
                          .lr = (float)c->lr,
                          .init = c->init};
    for (uint32_t k = 0; k < c->n_of; k++)
        name_use(r, c->of[k], kind.sequences, b.of[k]);
    for (uint32_t k = 0; c->options[k].name != NULL; k++)
        b.options[k] = option_use(r, net_kind_option(&kind, c->options[k].name), &c->options[k]);
    snprintf(b.name, sizeof b.name, "%s", c->name);
    snprintf(b.kind, sizeof b.kind, "%s", c->kind);
    m->blocks[r->net->spec.n_blocks] = b;
    r->net->block_of[r->net->spec.n_blocks++] = i;
}

static void head_add(const struct net_reading *r, uint32_t i)
{
    struct net_memory *m = r->net->memory;
    const struct config_head *c = &r->config->model.heads[i];
    struct net_head *h = &m->heads[r->net->spec.n_heads++];
    name_use(r, c->of, false, h->of);
    snprintf(h->name, sizeof h->name, "%s", c->name);
    snprintf(h->loss, sizeof h->loss, "%s", c->loss);
    h->weight = (float)c->weight;
    h->lr = (float)c->lr;
    h->init = c->init;
    if (c->through >= 0)
        snprintf(h->through, sizeof h->through, "%s", r->config->model.heads[c->through].name);
}

static enum table_init init_by(const struct config_table *t)
{
    return t->init.rule == NET_INIT_NORMAL    ? TABLE_NORMAL
           : t->init.rule == NET_INIT_UNIFORM ? TABLE_UNIFORM
                                              : TABLE_CONSTANT;
}

void features_net_new(const struct config *config, struct features_net *ret_net)
{
    struct net_memory *m = mem_zalloc(sizeof *m);
    *ret_net = (struct features_net){.n_tables = config->n_tables, .memory = m};
    const struct net_reading r = {ret_net, config};
    for (uint32_t i = 0; i < config->model.n_blocks; i++)
        block_add(&r, i);
    for (uint32_t i = 0; i < config->model.n_heads; i++)
        head_add(&r, i);
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
                                                    .init_by = init_by(t),
                                                    .init = (float)t->init.x,
                                                    .optimizer = config_optimizer(&t->optimizer),
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
    arena_done(&m->texts);
    free(m);
    *net = (struct features_net){0};
}
