// SPDX-License-Identifier: Apache-2.0
// A net: inputs, a list of named blocks over earlier names, heads. net_new checks the shapes and compiles it
// into a forward and a backward plan over one arena that is sized for a batch of `batch` samples. Nothing is
// allocated after that.
//
// Values are (B, D) matrices, row-major, or ragged ones: (N, D) with B + 1 offsets, for sequences.
// Parameters are one array of floats, owned by the caller, so that a version and its successor can be
// evaluated by the same net. Names and layouts are PyTorch's: weight (out, in), bias (out).
//
// A layer kind is one file models/layer_<kind>.c and one row of LAYER_KINDS in models/layer.h: see models/README.md.
//
// Sides. Every value knows of whom it depends. What depends on the user and the request alone (a tower of `side`
// NET_USER) is computed once a request; what depends on the item alone can be given, computed before (net_select).
#ifndef FRESHET_MODELS_NET_H
#define FRESHET_MODELS_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "models/optimizer.h"
#include "models/option.h"
#include "models/packed.h"

enum { NET_OF_MAX = 256 };

enum net_side { // bits; 0: of nobody, as a constant
    NET_USER = 1,
    NET_ITEM = 2,
    NET_CONTEXT = 4, // of the request
    NET_CROSS = 8,   // of the pair
};

enum net_input_kind {
    NET_INPUT_ID,       // one id a sample: (B, dim) of its table
    NET_INPUT_SEQUENCE, // 0..n ids a sample: ragged (N, dim)
    NET_INPUT_NUMBER,   // one number a sample: (B, 1)
};

struct net_input {
    char name[NET_NAME];
    enum net_input_kind kind;
    uint32_t table;   // index of the table
    uint32_t dim;     // of the table; 1 for a number
    uint32_t max_len; // of a sequence
    uint32_t sides;   // bits of net_side
    // A sequence whose entries are those of an earlier one seen otherwise (the time since each, its category):
    // that input's name, or "". The offsets of a batch are the same.
    char offsets_as[NET_NAME];
};

// How the matrices of a block begin: by the layer's own rule, or by this one. Vectors begin by the layer's own.
enum net_init_rule {
    NET_INIT_OWN,
    NET_INIT_XAVIER_UNIFORM,  // uniform in +-sqrt(6 / (in + out)) (Glorot, Bengio 2010)
    NET_INIT_XAVIER_NORMAL,   // normal, of variance 2 / (in + out)
    NET_INIT_KAIMING_UNIFORM, // uniform in +-sqrt(6 / in) (He et al. 2015)
    NET_INIT_KAIMING_NORMAL,  // normal, of variance 2 / in
    NET_INIT_ZEROS,
    NET_INIT_NORMAL,   // of standard deviation x
    NET_INIT_UNIFORM,  // in +-x
    NET_INIT_CONSTANT, // x
};
#define NET_INIT_WORDS \
    "own|xavier_uniform|xavier_normal|kaiming_uniform|kaiming_normal|zeros" // in that order
struct net_init_by {
    enum net_init_rule rule;
    double x;
};

struct net_block {
    char name[NET_NAME];
    char kind[NET_NAME]; // a layer kind: "concat", "mean", "mlp", ...
    uint32_t n_of;
    char (*of)[NET_NAME]; // names of inputs or earlier blocks
    // Options of the kind that are given; a NULL name ends them. What they point at need live as long as the
    // call of net_new alone.
    struct layer_value options[NET_OPTIONS_MAX + 1];
    // NET_USER: a tower of the user's side, over nothing but the user and the request; NET_ITEM: of the item's. 0: any.
    uint32_t side;
    float lr; // of its parameters; 0: the optimizer's
    struct net_init_by init;
};

struct net_head {
    char name[NET_NAME]; // also the label's
    char of[NET_NAME];
    char loss[16]; // one of net_losses (loss.h): "logloss"
    float weight;  // in the sum of losses
    // An earlier head without one, or "": what is predicted is this head's probability times that one's, of the whole
    // space (ESMM); the loss is logloss of the product, and teaches both.
    char through[NET_NAME];
    float lr; // of its parameters; 0: the optimizer's
    struct net_init_by init;
};

struct net_spec {
    uint32_t n_inputs, n_blocks, n_heads;
    const struct net_input *inputs;
    const struct net_block *blocks;
    const struct net_head *heads; // an FC to 1 and a sigmoid over `of`
    uint32_t batch;               // samples in a forward pass at most
    // It is never trained: what draws or keeps a batch's statistics in training is the request's, too, where its
    // inputs are.
    bool predicts;
};

struct net;
// ERR_CONFIG: the message names the block and what does not fit; *ret_block is its index (n_blocks + i for
// head i, UINT32_MAX for an input or the net as a whole), so that the caller can give file, line and column.
// The spec is copied. An input or a block that no head depends on is allowed, and never computed.
int net_new(const struct net_spec *spec, struct net **ret_net, uint32_t *ret_block, struct err *err);
void net_free(struct net *n);

struct net_param {
    char name[2 * NET_NAME]; // "bottom.0.weight", "click.weight"
    size_t offset;           // in the parameter array, in floats
    uint32_t rows, cols;     // weight: (out, in); a vector: (out, 1)
    bool vector;             // one dimension
    uint32_t part;           // of a weight: rows that a product takes, where it does not take all; else 0
    bool trainable;          // false: a buffer (running statistics); see net_step
    float lr;                // learning rate; 0: the optimizer's
};
uint32_t net_param_count(const struct net *n);
const struct net_param *net_param(const struct net *n, uint32_t i);
size_t net_param_floats(const struct net *n);
size_t net_arena_bytes(const struct net *n);
// Of weights that are packed: now, from any thread, and for this kernel at most; `backward`: of a net that is trained.
uint64_t net_packed_bytes(const struct net *n);
uint64_t net_packed_most(const struct net *n, enum packed_kernel kernel, bool backward);
// Of a sample: forward, and backward too if so asked.
double net_flops(const struct net *n, bool train_dense, bool backward);
// Every (M, N, K) of a product in the plan, for gemm_check. Returns how many; writes at most max.
uint32_t net_shapes(const struct net *n, uint32_t max, uint32_t (*ret_shapes)[3]);

// As each layer says of each parameter (layer_param), from the seed and the names alone.
void net_init(const struct net *n, uint64_t seed, float *ret_params);

// ---- the graph, for reports -------------------------------------------------------------------------------

// Inputs, blocks and heads, in order of computation. FLOPs are of a sample, sequences at their greatest length,
// multiply-adds counted as 2; backward beside forward.
struct net_node {
    const char *name;
    const char *kind; // "id", "sequence", "number"; a layer kind; "head"
    bool is_input, is_head;
    uint32_t n_in; // see net_node_in
    uint32_t dim;
    bool ragged;
    uint32_t max_len; // of a ragged one
    uint32_t sides;
    bool live;     // some head depends on it
    size_t params; // floats
    double flops_forward, flops_frozen, flops_dense;
};
uint32_t net_node_count(const struct net *n);
void net_node(const struct net *n, uint32_t i, struct net_node *ret_node);
// The node that is input k of node i.
uint32_t net_node_in(const struct net *n, uint32_t i, uint32_t k);
// "user", "item", "context", "cross", joined by +; "-" for none. Returns text.
const char *net_sides_text(uint32_t sides, char *text, size_t size);

// ---- running ----------------------------------------------------------------------------------------------

// Where the vectors of a table are: slot s at vectors + s * stride (in floats).
struct net_rows {
    const float *vectors;
    size_t stride;
};

struct net_batch {
    uint32_t n;                    // samples, at most spec.batch
    const struct net_rows *tables; // by table index
    // Samples of one request stand together, and are the same in all that is of the request alone: request r is
    // samples requests[r] .. requests[r + 1] - 1. For an input that is shared (net_input_shared), n below is
    // n_requests. NULL: each sample is a request of its own.
    uint32_t n_requests;
    const uint32_t *requests;       // n_requests + 1
    const uint32_t *const *slots;   // by input: n slots, or offsets[input][n] of them; UINT32_MAX: zeros
    const uint32_t *const *offsets; // by input: n + 1 offsets of a sequence, else NULL
    const float *const *numbers;    // by input: n numbers
    const float *const *given;      // by block: n rows of its width, where net_select says so
    const float *const *labels;     // by head, n of 0..1; for backward
    // By head, n sample weights, or NULL. Below 0: the sample was trained on with label 0 before, and takes back
    // what that teaches, with the absolute value as its weight.
    const float *const *weights;
    // Training: dropout and its like are on. `dense`: the backward pass that follows gets dparams, so statistics
    // are the batch's, not those stored. Both false to predict.
    bool training, dense;
    const uint64_t *seeds; // training: a seed for each sample; NULL: nothing is dropped
};

// What the labels of a head are: enum net_label of loss.h.
int net_head_label(const struct net *n, uint32_t head);
// Whether training and predicting differ for the same parameters (dropout, batch statistics).
bool net_stochastic(const struct net *n);

// What depends on the user and the request alone is computed once a request, and given to each of its samples where
// something of the item reads it too; the gradients of the samples are added up there. The first product of fully
// connected layers that read both is taken apart for that. What draws in training (dropout), or keeps a batch's
// statistics, is computed for each sample all the same, unless spec.predicts.
bool net_sides_shared(uint32_t sides);
bool net_input_shared(const struct net *n, uint32_t input);

// From now on weights of these params are packed as products meet them (packed.h), in passes that are not `dense`. Called
// again after each change of theirs. params NULL, and all others: by the BLAS.
void net_pack(struct net *n, enum packed_kernel kernel, const float *params);

// What the forward passes from now on compute: `heads` by head, NULL: all; `wanted`, by block, NULL: none, are
// computed, too, for net_block_rows; `given`, by block, NULL: none, come with the batch instead, and what only they
// depend on is not computed. A given block is of the item's side. net_backward needs all heads and nothing given.
void net_select(struct net *n, const bool *heads, const bool *wanted, const bool *given);
// Whether they read input i; whether block i is needed.
bool net_input_needed(const struct net *n, uint32_t input);
bool net_block_needed(const struct net *n, uint32_t block);
// Whether the block is of `side` NET_ITEM, no sequence, and read by something that is not; its width.
bool net_block_tower(const struct net *n, uint32_t block, uint32_t *ret_dim);
uint32_t net_block_count(const struct net *n);
// After net_forward: row i of a block's output at i * *ret_stride.
const float *net_block_rows(const struct net *n, uint32_t block, uint32_t *ret_dim, size_t *ret_stride);

// Predictions into ret_p[head][sample]. Keeps what backward needs in the arena. To predict only, call it
// alone: labels and weights are not read.
void net_forward(struct net *n, const float *params, const struct net_batch *batch, float *const *ret_p);

// After net_forward of the same batch: gradients of sum over samples and heads of weight * loss (a sum, not a
// mean), to every id and sequence input as net_gradient gives them. dparams NULL: frozen, no dW is computed;
// else gradients are added to it.
void net_backward(struct net *n, const float *params, const struct net_batch *batch, float *dparams);
// After net_backward: (occurrences, dim) gradient of an input of ids.
const float *net_gradient(const struct net *n, uint32_t input);
// The same without a copy: row i is at i * *ret_stride, in floats.
const float *net_gradient_rows(const struct net *n, uint32_t input, size_t *ret_stride);
// After net_forward: the sum whose gradient net_backward computes, from the logits.
double net_loss(const struct net *n, const struct net_batch *batch);

// Floats of the optimizer's state: optimizer_state arrays of net_param_floats. And how they begin beside params.
size_t net_state_floats(const struct net *n, const struct optimizer *o);
void net_state_begin(const struct net *n, const struct optimizer *o, const float *params, float *ret_state);
// One step of the dense layers by the gradient of net_backward times `scale`, for what is trained; to buffers their
// part of the gradient, which is what a layer wants added, is added as it is. Overwrites the gradient.
void net_step(const struct net *n, const struct optimizer *o, const struct optimizer_at *at, float scale,
              float *params, float *state, float *gradient);

#endif
