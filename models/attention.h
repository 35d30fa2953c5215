// SPDX-License-Identifier: Apache-2.0
// Attention of a candidate over the entries of each sample: two units that layer kinds hold, as they hold an fc.
//
//     q (B, Dq)     the candidate; Dq <= D, and what it lacks counts as zeros: beside the items of a sequence may
//                   stand what a candidate has not, such as the time since
//     k (N, D)      the entries, ragged by offsets
//     y (B, D)      zeros for a sample without entries
#ifndef FRESHET_MODELS_ATTENTION_H
#define FRESHET_MODELS_ATTENTION_H

#include "models/fc.h"

struct attention_run {
    uint32_t n;              // samples
    const uint32_t *offsets; // n + 1
    const float *q, *k;
    float *y;
    uint32_t ldq, ldk, ldy;
    // Backward; NULL: not wanted. Set, or added to.
    const float *dy;
    float *dq, *dk;
    uint32_t lddy, lddq, lddk;
    bool add_q, add_k;
};

// Fails unless the candidate is a vector no wider than an entry of the sequence.
int attention_check(const struct layer *l, const struct value *sequence, const struct value *candidate,
                    struct err *err);
// Of in[0], the entries, and the option "candidate".
struct attention_run attention_run_of(const struct layer *l, const struct layer_context *c);
// For `shape`: so many more floats of scratch; returns their place.
size_t attention_scratch(struct layer *l, size_t floats);

// ---- the activation unit of DIN (attention_din.c) -----------------------------------------------------------

struct din_options {
    uint32_t dim, query; // D, Dq
    uint32_t rows_max;   // entries of the largest batch
    uint32_t n;          // hidden layers, at most DIN_HIDDEN_MAX
    const uint32_t *hidden;
    int activation; // in the order of FC_ACTIVATION_CHOICES
    enum fc_norm norm;
    double dropout;
    bool softmax;
};
enum { DIN_HIDDEN_MAX = NET_DIMS_MAX - 1 };

struct din {
    uint32_t dim, query, units; // units: of the first layer
    bool softmax;
    size_t packed_q, packed_k, part, mixed, scores, weights, dpacked; // scratch
    struct fc fc;
};

// For `shape`: declares parameters "attention_layer.mlp.<i>..." and scratch.
void din_init(struct layer *l, const struct din_options *o, struct din *ret_din);
void din_forward(const struct layer *l, const struct din *d, const struct layer_context *c,
                 const struct attention_run *run);
void din_backward(const struct layer *l, const struct din *d, const struct layer_context *c,
                  const struct attention_run *run);
void din_forward_naive(const struct layer *l, const struct din *d, const struct layer_context *c,
                       const struct attention_run *run);
// Of a sample with so many entries.
double din_flops(const struct din *d, double entries, bool backward, bool dense);
bool din_product(const struct din *d, uint32_t i, uint32_t samples, uint32_t rows_max, uint32_t ret_shape[3]);

// ---- multi-head target attention (attention_heads.c) --------------------------------------------------------

struct heads {
    uint32_t dim, query, heads, width;                            // width: A, of all heads
    size_t w_q, w_k, w_v, w_o;                                    // parameters
    size_t q, keys, mixed, out, dout, dkeys, dmixed, dq, weights; // scratch
};

// For `shape`: declares parameters "W_q.weight" (A, Dq), "W_k.weight" (A, D), "W_v.weight" (A, D), "W_o.weight"
// (D, A), and scratch. A is a multiple of the heads.
void heads_init(struct layer *l, const struct heads *sizes, uint32_t rows_max, struct heads *ret_heads);
void heads_forward(const struct layer *l, const struct heads *h, const struct layer_context *c,
                   const struct attention_run *run);
void heads_backward(const struct layer *l, const struct heads *h, const struct layer_context *c,
                    const struct attention_run *run);
void heads_forward_naive(const struct layer *l, const struct heads *h, const struct layer_context *c,
                         const struct attention_run *run);
double heads_flops(const struct heads *h, double entries, bool backward, bool dense);
bool heads_product(const struct heads *h, uint32_t i, uint32_t samples, uint32_t ret_shape[3]);

// ---- soft search (attention_search.c) -----------------------------------------------------------------------

struct search {
    uint32_t k, dim, query;
    uint32_t rows_max;                          // of what is found
    size_t order, heap, offsets, picked, x, dx; // scratch
};

void search_init(struct layer *l, uint32_t k, const struct value *sequence, uint32_t query,
                 struct search *ret_search);
// Each gives a run over what was found in that of all entries; search_run: after search_forward.
struct attention_run search_forward(const struct search *s, const struct layer_context *c,
                                    const struct attention_run *all);
struct attention_run search_run(const struct search *s, const struct layer_context *c,
                                const struct attention_run *all);
struct attention_run search_naive(const struct search *s, const struct layer_context *c,
                                  const struct attention_run *all);
// The gradient of what was found to that of all.
void search_backward(const struct search *s, const struct layer_context *c, const struct attention_run *all);

#endif
