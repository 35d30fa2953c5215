// SPDX-License-Identifier: Apache-2.0
// The inside of a net: values, layers in order, heads, parameters, and the arena they share. Used inside
// models/ and by its tests.
//
//     net_new (net.c)       names and shapes: values, layers, heads, parameters
//     net_graph.c           what a net says of itself, and whether its towers keep to their sides
//     plan_place (plan.c)   who lies within whom, and where in the arena
//     plan_backward         who needs a gradient, and who is the first to write it; once per mode
#ifndef FRESHET_MODELS_PLAN_H
#define FRESHET_MODELS_PLAN_H

#include "base/arena.h"
#include "models/layer.h"
#include "models/loss.h"

struct head {
    struct value *of, *read; // expanded, and as the spec says
    const struct net_loss *loss;
    int through;         // the head whose probability is a factor of its own; -1: none
    size_t weight, bias; // offsets in the parameter array
    float beta;          // for the gradient of `of`
    bool masks;          // it is the last to write that gradient, and masks it by the ReLU before it
    float *z, *dz;       // logits and their gradient, (B)
};

struct param {
    struct net_param param;
    struct layer_init init;
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
    struct value **expanded;     // by value: its expansion, or NULL
    bool *heads_on;              // by head: net_select asks for it
    uint32_t n_layers;
    struct layer *layers;
    struct head *heads;
    uint32_t n_params;
    struct param *params;
    size_t n_floats;     // of parameters
    bool stochastic;     // some live layer is
    struct arena memory; // of layer_alloc
    float **packed;      // by input: its gradient without a stride, where it lies in a concat

    struct packs packs;
    const float *packs_of; // params that they are of, or NULL
    enum plan_mode mode;   // that plan_backward was made for
    float *arena;
    size_t arena_bytes;
};

static inline const struct value *value_root(const struct value *v)
{
    while (v->within != NULL)
        v = v->within;
    return v;
}

// ---- building (net.c, net_block.c) ------------------------------------------------------------------------

struct value *net_value_find(const struct net *n, const char *name); // of inputs and the blocks so far; NULL
// With a message where there is none. `what` and `who` say who asks: block "top", head "click".
struct value *net_value_need(const struct net *n, const char *name, const char *what, const char *who,
                             struct err *err);
struct value *net_value_add(struct net *n, const char *name);
int net_name_check(const char *what, const char *name, bool dots, struct err *err);
// Names it "<of>.<suffix>"; returns its floats.
size_t net_param_add(struct net *n, const char *of, const char *suffix, const struct net_param *param,
                     struct layer_init init);
int net_block_add(struct net *n, uint32_t block, struct err *err);

// A layer without settings and shape; its output has a name and nothing else.
struct layer *net_layer_add(struct net *n, const struct layer_kind *kind, const struct net_block *block,
                            struct value *const *in, uint32_t n_in, uint32_t n_of);

// ---- what is of the request (net_share.c) -----------------------------------------------------------------

// A row a sample of a shared value, by a layer that is made once; of any other the value itself.
struct value *net_expand(struct net *n, struct value *v);
// The last layer that was added shall be computed for each sample. Returns it; it moves.
struct layer *net_unshare(struct net *n, struct layer *l);
// Parts of what in[0 .. n) name, with concats opened; NULL: nothing is to be gained. ret_parts[p] are the values of
// part p, at most NET_OF_MAX.
struct layer_split *net_split(struct net *n, struct value *const *in, uint32_t n_in,
                              struct value *(*ret_parts)[NET_OF_MAX], uint32_t ret_n[2]);

// Rows and offsets of what it makes, before it is made (layer_expand.c).
void expand_rows(const struct layer *l, const struct layer_context *c);

// What shaping leaves to check: towers hold what they say (net_graph.c). *ret_block is the block at fault.
int net_check_sides(const struct net *n, uint32_t *ret_block, struct err *err);
// FLOPs of a layer a sample.
double layer_flops(const struct layer *l, bool backward, bool dense);
double head_flops(const struct head *h, bool backward, bool dense);

void plan_place(struct net *n);
void plan_backward(struct net *n, bool dense);

#endif
