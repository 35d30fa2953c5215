// SPDX-License-Identifier: Apache-2.0
// The net as it is declared, for `freshet explain --model NAME --json`: presets opened, every option of every block
// with its value, what each block reads by name, tables, heads, and how all of it is trained. Whoever reads it can
// build the same net elsewhere (tests/twin/), without knowing presets or defaults.
#include <stdio.h>
#include <string.h>

#include "daemon/explain_net.h"

static void put_name(struct json *j, const char *key, const char *name)
{
    json_member_string(j, key, name[0] != '\0' ? name : NULL);
}

static void put_side(struct json *j, uint32_t side)
{
    json_member_string(j, "side", side == NET_USER ? "user" : side == NET_ITEM ? "item" : NULL);
}

// All of its numbers, also those that its kind does not look at.
static void put_optimizer(struct json *j, const struct optimizer *o)
{
    json_key(j, "optimizer");
    json_object(j);
    json_member_string(j, "kind", optimizer_name(o->kind));
    json_member_double(j, "lr", (double)o->lr);
    json_member_double(j, "accum", (double)o->accum);
    json_member_double(j, "beta1", (double)o->beta1);
    json_member_double(j, "beta2", (double)o->beta2);
    json_member_double(j, "beta", (double)o->beta);
    json_member_double(j, "l1", (double)o->l1);
    json_member_double(j, "l2", (double)o->l2);
    json_member_double(j, "weight_decay", (double)o->weight_decay);
    json_key(j, "decoupled");
    json_bool(j, o->decoupled);
    json_member_double(j, "clip_norm", (double)o->clip_norm);
    json_member_double(j, "warmup", (double)o->warmup);
    json_end(j);
}

// ---- options ----------------------------------------------------------------------------------------------

static const struct layer_value *option_given(const struct net_block *block, const char *name)
{
    for (const struct layer_value *v = block->options; v->name != NULL; v++)
        if (strcmp(v->name, name) == 0)
            return v;
    return NULL;
}

static void put_words(struct json *j, const char *text)
{
    json_array(j);
    while (text != NULL && *(text += strspn(text, " ")) != '\0') {
        const size_t n = strcspn(text, " ");
        json_string_n(j, text, n);
        text += n;
    }
    json_end(j);
}

static void put_dims(struct json *j, const struct layer_value *given)
{
    json_array(j);
    for (uint32_t i = 0; given != NULL && i < NET_DIMS_MAX && given->dims[i] != 0; i++)
        json_uint(j, given->dims[i]);
    json_end(j);
}

// As given or by default; what names inputs is a list, empty where nothing is named.
static void put_option(struct json *j, const struct layer_option *o, const struct layer_value *given)
{
    json_key(j, o->name);
    switch (o->type) {
    case LAYER_NUMBER:
    case LAYER_COUNT:
        json_double(j, given != NULL ? given->number : o->fallback);
        return;
    case LAYER_FLAG:
        json_bool(j, (given != NULL ? given->number : o->fallback) != 0);
        return;
    case LAYER_CHOICE:
        if (given != NULL)
            json_string(j, given->text);
        else
            json_string_n(j, o->choices, strcspn(o->choices, "|"));
        return;
    case LAYER_DIMS:
        put_dims(j, given);
        return;
    case LAYER_INPUT:
    case LAYER_INPUTS:
    case LAYER_PAIRS:
        put_words(j, given != NULL ? given->text : NULL);
        return;
    }
}

// ---- parts ------------------------------------------------------------------------------------------------

static void put_block(struct json *j, const struct net_block *block)
{
    const struct net_kind kind = net_kind_find(block->kind);
    json_object(j);
    json_member_string(j, "name", block->name);
    json_member_string(j, "kind", block->kind);
    put_side(j, block->side);
    json_member_double(j, "lr", (double)block->lr);
    json_key(j, "of");
    json_array(j);
    for (uint32_t i = 0; i < block->n_of; i++)
        json_string(j, block->of[i]);
    json_end(j);
    json_key(j, "options");
    json_object(j);
    for (const struct layer_option *o = kind.options; o->name != NULL; o++)
        put_option(j, o, option_given(block, o->name));
    json_end(j);
    json_end(j);
}

static void put_input(struct json *j, const struct config *config, const struct net_input *input)
{
    static const char *const kinds[] = {"id", "sequence", "number"};
    json_object(j);
    json_member_string(j, "name", input->name);
    json_member_string(j, "kind", kinds[input->kind]);
    json_member_string(j, "table",
                       input->kind == NET_INPUT_NUMBER ? NULL : config->tables[input->table].name);
    json_member_double(j, "dim", input->dim);
    json_member_double(j, "max_len", input->max_len);
    put_name(j, "entries_of", input->offsets_as);
    json_end(j);
}

static void put_table(struct json *j, const struct table_options *t)
{
    static const char *const inits[] = {
        [TABLE_NORMAL] = "normal", [TABLE_UNIFORM] = "uniform", [TABLE_CONSTANT] = "constant"};
    json_object(j);
    json_member_string(j, "name", t->name);
    json_member_double(j, "dim", t->dim);
    json_member_double(j, "rows", (double)t->rows);
    json_member_double(j, "admit", t->admit);
    json_member_string(j, "init", inits[t->init_by]);
    json_member_double(j, "init_by", (double)t->init);
    put_optimizer(j, &t->optimizer);
    json_end(j);
}

static void put_head(struct json *j, const struct net_head *head)
{
    json_object(j);
    json_member_string(j, "name", head->name);
    json_member_string(j, "of", head->of);
    json_member_string(j, "loss", head->loss);
    json_member_double(j, "weight", (double)head->weight);
    put_name(j, "through", head->through);
    json_member_double(j, "lr", (double)head->lr);
    json_end(j);
}

static void put_training(struct json *j, const struct config *config)
{
    json_object(j);
    json_member_double(j, "batch", config->update.batch);
    json_member_double(j, "epochs", config->update.epochs);
    json_member_double(j, "every_ms", (double)config->update.every_ms);
    json_member_double(j, "bootstrap_samples", (double)config->update.bootstrap_samples);
    json_member_double(j, "seed", (double)config->update.seed);
    const struct optimizer dense = config_optimizer(&config->update.dense);
    put_optimizer(j, &dense);
    json_end(j);
}

void explain_net_json(struct json *j, const struct config *config, const struct features_net *net)
{
    json_key(j, "tables");
    json_array(j);
    for (uint32_t i = 0; i < net->n_tables; i++)
        put_table(j, &net->tables[i]);
    json_end(j);
    json_key(j, "inputs");
    json_array(j);
    for (uint32_t i = 0; i < net->spec.n_inputs; i++)
        put_input(j, config, &net->spec.inputs[i]);
    json_end(j);
    json_key(j, "blocks");
    json_array(j);
    for (uint32_t i = 0; i < net->spec.n_blocks; i++)
        put_block(j, &net->spec.blocks[i]);
    json_end(j);
    json_key(j, "heads");
    json_array(j);
    for (uint32_t i = 0; i < net->spec.n_heads; i++)
        put_head(j, &net->spec.heads[i]);
    json_end(j);
    json_key(j, "training");
    put_training(j, config);
}
