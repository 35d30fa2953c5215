// SPDX-License-Identifier: Apache-2.0
// What a layer kind is: a row of functions; used inside models/ only. To add one: write models/layer_<kind>.c
// with its forward and backward pair and a naive twin, put a row into models/layers.c, and a case into
// tests/unit/test_layers.c (finite differences come for free from the harness there).
#ifndef FRESHET_MODELS_LAYER_H
#define FRESHET_MODELS_LAYER_H

#include "models/net.h"

// A value of the plan. For a batch of n samples `rows` is n, or the number of entries of a ragged value.
// Row i is x[i * stride .. + dim]: an input of a concat lies in the concat's own rows, and nobody copies it.
struct value {
    char name[NET_NAME];
    uint32_t dim;
    bool ragged;
    bool relu;            // no gradient where x is not above 0: its layer ends in a ReLU
    bool live;            // some head depends on it
    bool from_ids;        // some input of ids lies before it
    bool from_params;     // some parameter lies before it
    uint32_t rows_max;    // rows of the largest batch
    struct value *within; // the concat whose rows hold it from `column` on, or NULL: it has its own
    uint32_t column;
    uint32_t stride; // floats from row to row, of x and of dx
    // In this batch:
    bool wanted; // its gradient is needed: it is live and of ids, or of params that are trained
    bool zero;   // dx is zeroed before backward: the first to write it writes a part
    bool masked; // dx is already masked by the ReLU of `relu`
    uint32_t rows;
    const uint32_t *offsets; // n + 1, ragged only
    float *x;                // (rows, dim)
    float *dx;               // gradient, (rows, dim)
};

struct layer_context {
    uint32_t n;          // samples in this batch
    const float *params; // of this layer
    float *dparams;      // NULL: frozen
    float *scratch;      // as asked for in `shape`; what forward leaves there, backward finds
};

struct layer;

struct layer_kind {
    const char *name;
    bool one_input; // a block over several names: they are concatenated before it
    // Checks the inputs and block; sets output dim and raggedness, parameters (layer_param) and scratch.
    int (*shape)(struct layer *l, struct err *err);
    void (*forward)(const struct layer *l, const struct layer_context *c);
    // dx of input i where it is wanted: set it if l->beta[i] is 0, add to it if 1. Adds to dparams where not
    // NULL. May overwrite out->dx, which nobody reads after.
    void (*backward)(const struct layer *l, const struct layer_context *c);
    void (*forward_naive)(const struct layer *l, const struct layer_context *c); // the twin
    // Of a row, multiply-adds counted as 2: forward, or backward where `backward`, frozen unless `dense`.
    double (*flops)(const struct layer *l, bool backward, bool dense); // NULL: none worth counting
    // (M, N, K) of product i for a full batch; false: there are no more. NULL: none at all.
    bool (*product)(const struct layer *l, uint32_t i, uint32_t ret_shape[3]);
};

struct layer {
    const struct layer_kind *kind;
    const struct net_block *block; // the net's copy
    uint32_t n_in;
    struct value **in;
    float *beta; // by input, for backward
    struct value *out;
    size_t params;         // offset of this layer's parameters
    size_t n_params;       // floats of them
    size_t scratch_floats; // for the largest batch
    float *scratch;
    struct net *net;
};

// Whether input i of a concat lies in its rows at `column`, its place.
static inline bool layer_in_place(const struct layer *l, uint32_t i, uint32_t column)
{
    return l->in[i]->within == l->out && l->in[i]->column == column;
}

// Declares a parameter "<block>.<suffix>" of the layer being shaped; returns its offset within the layer. It
// begins uniform in +-1/sqrt(fan_in).
size_t layer_param(struct layer *l, const char *suffix, uint32_t rows, uint32_t cols, uint32_t fan_in);

extern const struct layer_kind *const layer_kinds[]; // NULL-terminated
extern const struct layer_kind layer_concat, layer_mean, layer_mlp;

#endif
