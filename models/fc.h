// SPDX-License-Identifier: Apache-2.0
// A stack of fully connected layers inside of a layer kind: the whole of mlp, a part of others.
//
// After each product come, as in FuxiCTR's MLP_Block, bias, normalization, activation and dropout. Parameters are named
// by their place in PyTorch's nn.Sequential(Linear, [BatchNorm1d or LayerNorm,] activation, [Dropout,] Linear, ...),
// where an activation has a place even if it is none:
//
//     <p><i>.weight (out, in), <p><i>.bias          Linear
//     <p><i>.weight, <p><i>.bias (out)              BatchNorm1d, LayerNorm
//     <p><i>.running_mean, <p><i>.running_var       BatchNorm1d: buffers
//     <p><i>.weight (1)                             PReLU
//     <p><i>.alpha (out), <p><i>.bn.running_*       Dice, as FuxiCTR's: its batch norm has eps 1e-9, momentum 0.01
#ifndef FRESHET_MODELS_FC_H
#define FRESHET_MODELS_FC_H

#include "models/activation.h"
#include "models/layer.h"

// Choices of an option: the activations of activation.h, and two that have parameters.
#define FC_ACTIVATION_CHOICES ACTIVATION_CHOICES "|prelu|dice"
enum { FC_PRELU = ACTIVATION_TANH + 1, FC_DICE };
#define FC_NORM_CHOICES "none|batch|layer"
enum fc_norm { FC_NORM_NONE, FC_NORM_BATCH, FC_NORM_LAYER };

struct fc_options {
    const char *prefix; // of the names: ""
    uint32_t in, n;
    const uint32_t *dims; // n widths
    int activation, last; // in the order of FC_ACTIVATION_CHOICES
    bool bare_last;       // the last layer has neither normalization nor dropout
    enum fc_norm norm;
    double eps, momentum; // of the normalization; momentum of the batch's alone
    double dropout;       // the share that is dropped
    uint32_t first; // of several stacks in a layer: how many layers stand before, so that each drops its own
};

struct fc_layer {
    uint32_t in, out;
    int f;
    enum fc_norm norm;
    double dropout;
    size_t weight, bias, gamma, beta, mean, var, alpha, dice_mean,
        dice_var; // offsets in the layer's parameters
    // Offsets in the scratch, of (rows, out), where they are needed; u is z without a normalization.
    size_t y, z, u, gate, keep;
    size_t stats, dice_stats; // see fc_pass.c
};

struct fc {
    uint32_t n, first;
    double eps, momentum;
    size_t turns[2]; // scratch: gradients between the layers
    struct fc_layer layers[NET_DIMS_MAX];
    // Of the first product, taken apart (fc_split.c): offsets in the scratch.
    const struct layer_split *split; // NULL: it is not
    size_t packed[2], sums, dw;
};

// For `shape`: declares parameters and scratch for at most rows_max rows. A layer that `splits` is one of these alone
// over what it reads, and gives its stacks in[0] and in[1] so (fc_run).
void fc_init(struct layer *l, uint32_t rows_max, const struct fc_options *o, struct fc *ret_fc);
// Whether training differs from predicting.
bool fc_stochastic(const struct fc *f);

struct fc_run {
    uint32_t rows;
    const uint32_t *offsets; // of the samples' rows; NULL: a row is a sample
    const float *x;          // NULL: the first product is the caller's, at fc_first; see there
    float *y;
    uint32_t ldx, ldy;
    // Backward. dy is overwritten; `masked`: it is masked by the last ReLU already.
    float *dy, *dx; // dx NULL: not wanted
    uint32_t lddy, lddx;
    float beta; // dx: set or add
    bool masked;
    const struct value *request; // split: the request's part, x being the candidates'
    float request_beta;
};

void fc_forward(const struct layer *l, const struct fc *f, const struct layer_context *c,
                const struct fc_run *run);
// After fc_forward of the same rows, with its y.
void fc_backward(const struct layer *l, const struct fc *f, const struct layer_context *c,
                 const struct fc_run *run);
void fc_forward_naive(const struct layer *l, const struct fc *f, const struct layer_context *c,
                      const struct fc_run *run);
// Where x is NULL: the place of the first product (rows, out of the first layer), which the caller makes before
// fc_forward; and after fc_backward its gradient there, from which neither dW nor dx is made.
float *fc_first(const struct fc *f, const struct layer_context *c, const struct fc_run *run);
const float *fc_first_gradient(const struct fc *f, const struct layer_context *c, const struct fc_run *run);
double fc_flops(const struct fc *f, bool backward, bool dense, bool dx); // of a row
bool fc_product(const struct fc *f, uint32_t i, uint32_t rows_max, uint32_t ret_shape[3]);

// ---- the first product, taken apart (fc_split.c) ------------------------------------------------------------

size_t fc_scratch(struct layer *l, size_t floats); // takes some; its offset
void fc_split_init(struct layer *l, uint32_t rows_max, struct fc *f);
void fc_split_forward(const struct fc *f, const struct layer_context *c, const struct fc_run *run, float *y,
                      uint32_t ldy);
void fc_split_backward(const struct fc *f, const struct layer_context *c, const struct fc_run *run,
                       const float *dz, uint32_t lddz);
void fc_split_row(const struct fc *f, const struct layer_context *c, const struct fc_run *run, uint32_t i,
                  double *to);

// ---- what stands after a product (fc_pass.c, fc_naive.c) ----------------------------------------------------

struct fc_pass {
    const struct fc *fc;
    const struct fc_layer *t;
    const struct layer *l;
    const struct layer_context *c;
    const uint32_t *offsets;
    uint32_t at; // which layer of the stack
    uint32_t rows;
    bool biased; // the product has added the bias, and is rectified where y is and nothing stands between
    float *y;
    uint32_t ldy;
};

size_t fc_norm_floats(const struct fc_layer *t, uint32_t rows_max); // of `stats`
size_t fc_dice_floats(const struct fc_layer *t);                    // of `dice_stats`
bool fc_pass_has_z(const struct fc_layer *t);                       // the product goes to z, not to y
void fc_pass_forward(const struct fc_pass *p);
// dy becomes the gradient of the product.
void fc_pass_backward(const struct fc_pass *p, float *dy, uint32_t lddy, bool masked);
// In double, z (rows, out) without its bias becomes y.
void fc_pass_naive(const struct fc_pass *p, double *z);

#endif
