// SPDX-License-Identifier: Apache-2.0
// What a layer kind is: a row of functions; used inside models/ only. To add one: write models/layer_<kind>.c
// with its forward and backward pair and a naive twin, put a row into models/layers.c, and a test beside
// tests/unit/test_layers.c (finite differences come for free from the harness there).
#ifndef FRESHET_MODELS_LAYER_H
#define FRESHET_MODELS_LAYER_H

#include "models/net.h"

// A value of the plan. For a batch of n samples `rows` is n, or the number of entries of a ragged value.
struct value {
    uint32_t dim;
    bool ragged;
    bool wanted;             // some input of ids lies before it: its gradient is needed
    uint32_t rows;           // in this batch
    const uint32_t *offsets; // n + 1, ragged only, in this batch
    float *x;                // (rows, dim)
    float *dx;               // gradient, (rows, dim); layers add into it
};

struct layer_context {
    uint32_t n;          // samples in this batch
    const float *params; // of this layer
    float *dparams;      // NULL: frozen
    float *scratch;      // as asked for in `shape`
};

struct layer;

struct layer_kind {
    const char *name;
    // Checks the inputs and block; sets output dim and raggedness, parameters (layer_param) and scratch.
    int (*shape)(struct layer *l, const struct net_block *block, struct err *err);
    void (*forward)(const struct layer *l, const struct layer_context *c);
    // Adds to in[i]->dx where in[i]->wanted, and to dparams where not NULL.
    void (*backward)(const struct layer *l, const struct layer_context *c);
    void (*forward_naive)(const struct layer *l, const struct layer_context *c); // the twin
    double (*flops)(const struct layer *l); // forward, a sample
};

struct layer {
    const struct layer_kind *kind;
    const struct net_block *block;
    uint32_t n_in;
    struct value **in;
    struct value *out;
    size_t params;          // offset of this layer's parameters
    size_t n_params;
    size_t scratch_floats;  // for a batch of spec.batch samples
    uint32_t batch;
    struct net *net;
};

// Declares a parameter of the layer being shaped; returns its offset within the layer.
size_t layer_param(struct layer *l, const char *suffix, uint32_t rows, uint32_t cols);

extern const struct layer_kind *const layer_kinds[]; // NULL-terminated

#endif
