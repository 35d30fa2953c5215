// SPDX-License-Identifier: Apache-2.0
// The inside of a net: values, layers in order, heads, parameters, and the arena they share. Used inside
// models/ and by its tests.
//
//     net_new (net.c)       names and shapes: values, layers, heads, parameters
//     plan_place (plan.c)   who lies within whom, and where in the arena
//     plan_backward         who needs a gradient, and who is the first to write it; once per mode
#ifndef FRESHET_MODELS_PLAN_H
#define FRESHET_MODELS_PLAN_H

#include "models/layer.h"

struct head {
    struct value *of;
    size_t weight, bias; // offsets in the parameter array
    float beta;          // for the gradient of `of`
    bool masks;          // it is the last to write that gradient, and masks it by the ReLU before it
    float *z, *dz;       // logits and their gradient, (B)
};

struct param {
    struct net_param param;
    uint32_t fan_in;
};

enum plan_mode { PLAN_NONE, PLAN_FROZEN, PLAN_DENSE };

struct net {
    struct net_spec spec; // its arrays are copies of our own
    struct net_input *inputs;
    struct net_block *blocks;
    struct net_head *head_specs;

    uint32_t n_values; // inputs first, then what layers give
    struct value *values;
    struct value **block_values; // by block
    uint32_t n_layers;
    struct layer *layers;
    struct head *heads;
    uint32_t n_params;
    struct param *params;
    size_t n_floats; // of parameters
    float **packed;  // by input: its gradient without a stride, where it lies in a concat

    enum plan_mode mode; // that plan_backward was made for
    float *arena;
    size_t arena_bytes;
};

static inline const struct value *value_root(const struct value *v)
{
    while (v->within != NULL)
        v = v->within;
    return v;
}

void plan_place(struct net *n);
void plan_backward(struct net *n, bool dense);

#endif
