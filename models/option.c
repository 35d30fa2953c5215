// SPDX-License-Identifier: Apache-2.0
// The tables of options, and what a layer reads of its own.
#include "models/option.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"
#include "models/layer.h"

// ---- tables -----------------------------------------------------------------------------------------------

static const struct layer_option no_options[] = {{0}};

static struct net_kind kind_public(const struct layer_kind *k)
{
    if (k == NULL)
        return (struct net_kind){0};
    return (struct net_kind){k->name, k->text, k->options != NULL ? k->options : no_options, k->sequences};
}

struct net_kind net_kind(uint32_t i)
{
    return kind_public(layer_kinds[i]);
}

struct net_kind net_kind_find(const char *name)
{
    const struct layer_kind *const *k = layer_kinds;
    while (*k != NULL && strcmp((*k)->name, name) != 0)
        k++;
    return kind_public(*k);
}

const struct layer_option *net_kind_option(const struct net_kind *kind, const char *name)
{
    for (const struct layer_option *o = kind->options; o->name != NULL; o++)
        if (strcmp(o->name, name) == 0)
            return o;
    return NULL;
}

// ---- of a layer -------------------------------------------------------------------------------------------

static const struct layer_setting *setting(const struct layer *l, const char *option,
                                           enum layer_option_type type)
{
    const struct layer_option *o = l->kind->options;
    uint32_t i = 0;
    while (o[i].name != NULL && strcmp(o[i].name, option) != 0)
        i++;
    assert(o[i].name != NULL && (o[i].type == type || (type == LAYER_INPUTS && o[i].type == LAYER_INPUT)));
    return &l->settings[i];
}

double layer_number(const struct layer *l, const char *option)
{
    return setting(l, option, LAYER_NUMBER)->number;
}

uint32_t layer_count(const struct layer *l, const char *option)
{
    return (uint32_t)setting(l, option, LAYER_COUNT)->number;
}

bool layer_flag(const struct layer *l, const char *option)
{
    return setting(l, option, LAYER_FLAG)->number != 0;
}

int layer_choice(const struct layer *l, const char *option)
{
    return (int)setting(l, option, LAYER_CHOICE)->number;
}

const uint32_t *layer_dims(const struct layer *l, const char *option, uint32_t *ret_n)
{
    const struct layer_setting *s = setting(l, option, LAYER_DIMS);
    *ret_n = s->n;
    return s->dims;
}

uint32_t layer_inputs(const struct layer *l, const char *option, uint32_t *ret_n)
{
    const struct layer_setting *s = setting(l, option, LAYER_INPUTS);
    *ret_n = s->n;
    return s->at;
}

struct value *layer_input(const struct layer *l, const char *option)
{
    const struct layer_setting *s = setting(l, option, LAYER_INPUT);
    return s->n > 0 ? l->in[s->at] : NULL;
}

const char *layer_pairs(const struct layer *l, const char *option)
{
    const struct layer_value *v = l->block->options;
    while (v->name != NULL && strcmp(v->name, option) != 0)
        v++;
    (void)setting(l, option, LAYER_PAIRS);
    return v->name != NULL ? v->text : NULL;
}

uint64_t layer_seed(const struct layer *l, const struct layer_context *c, uint32_t sample)
{
    return hash_mix(c->seeds[sample] ^ l->seed);
}
