// SPDX-License-Identifier: Apache-2.0
// What a layer kind is: a table of functions; used inside models/ only. To add one: write models/layer_<kind>.c
// with its forward and backward pair and a naive twin, put its row into LAYER_KINDS at the end, and its lines into
// tests/unit/test_layers.c, whose harness does the rest. README.md goes through it step by step.
#ifndef FRESHET_MODELS_LAYER_H
#define FRESHET_MODELS_LAYER_H

#include "models/net.h"

// A value of the plan. For a batch of n samples `rows` is n, or the number of entries of a ragged value.
// Row i is x[i * stride .. + dim]: an input of a concat lies in the concat's own rows, and nobody copies it.
struct value {
    char name[NET_NAME];
    uint32_t dim;
    bool ragged;
    bool relu;                      // no gradient where x is not above 0: its layer ends in a ReLU
    bool live;                      // some head depends on it
    bool declared;                  // and so says the spec; the plan may go around a concat
    bool needed, given;             // of what net_select asks for; its rows come with the batch
    bool reached;                   // and by a way on which gradients come back
    bool from_ids;                  // some input of ids lies before it
    bool from_params;               // some parameter lies before it
    uint32_t rows_max;              // rows of the largest batch
    uint32_t sides;                 // bits of net_side: on whom it depends
    bool shared;                    // of the request alone: a row a request, see layer_expand.c
    struct value *request;          // it is the expansion of this shared one, or NULL
    const struct value *offsets_of; // ragged: the input whose entries its rows are
    const struct layer *layer;      // that makes it, or what it expands; NULL: an input
    struct value *within;           // the concat whose rows hold it from `column` on, or NULL: it has its own
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
    uint32_t n;               // samples in this batch; requests, where the output is shared
    uint32_t n_requests;      // how many there are; samples where `requests` is NULL
    const uint32_t *requests; // n_requests + 1 offsets into the samples; NULL: each is a request of its own
    const float *params;      // of this layer
    struct packs *packs; // for products with params, or with what follows from them alone; NULL: by the BLAS
    float *dparams;      // NULL: frozen
    float *scratch;      // as asked for in `shape`; what forward leaves there, backward finds
    bool training;       // dropout is on
    bool dense;          // all layers are trained in this step: statistics are the batch's
    const uint64_t *seeds; // by sample: see layer_seed; NULL: drop nothing
};

struct layer;

struct layer_kind {
    const char *name;
    const char *text;                   // one line for the reference: what it does
    const struct layer_option *options; // ends with a NULL name; NULL: none
    bool one_input;    // `of` several names: they are concatenated before it, and in[0] is the concat
    bool sequences;    // a sequence among `of` comes as it is; otherwise the config pools it by mean first
    bool stops;        // no gradient goes back through it; `backward` is never called
    bool stochastic;   // training differs from predicting: it looks at `training`, `dense` or `seeds`
    bool splits;       // one_input: it takes what is of the candidate and what is of the request apart (fc.h)
    bool keeps_fields; // its output is the fields of `of` side by side: who takes fields sees them (fields.h)
    const char *no_tower; // why it has no place in a tower of one side; NULL: it has
    // Checks the inputs; sets the output's dim and, for a ragged one, layer_rows_as; declares parameters and
    // scratch. `relu` of the output, where it ends in one.
    int (*shape)(struct layer *l, struct err *err);
    void (*forward)(const struct layer *l, const struct layer_context *c);
    // dx of input i where it is wanted: set it if l->beta[i] is 0, add to it if 1. Adds to dparams where not
    // NULL. In order of `in`: a value may stand there twice. May overwrite out->dx, which nobody reads after.
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
    uint32_t n_in, n_of;           // the first n_of are those of `of` (one_input: 1); then the named ones
    struct value **in;
    const struct layer_split
        *split;          // in[0] is the candidate's part of what it reads, in[1] the request's; or NULL
    struct value **read; // what the spec says that it reads, n_read of them
    uint32_t n_read;
    struct layer_setting *settings; // by option of the kind
    uint64_t seed;                  // of the block's name
    bool implicit;                  // a concat that one_input put before the layer of the block
    bool stochastic; // as the kind says; `shape` clears it where the options leave nothing of it
    void *own;       // the kind's, from layer_alloc; NULL: none
    float *beta;     // by input, for backward
    struct value *out;
    size_t params;         // offset of this layer's parameters
    size_t n_params;       // floats of them
    size_t scratch_floats; // for the largest batch
    float *scratch;
    struct net *net;
};

// Where columns of one input stand in two: n pieces, each of `width` columns from `column` on of the whole, and from
// `from` on in in[part].
struct layer_split {
    uint32_t n;
    uint32_t dim[2];
    struct layer_piece {
        uint32_t column, width, from, part;
    } * pieces;
};

// The width of what a layer with one_input reads.
static inline uint32_t layer_width(const struct layer *l)
{
    return l->split != NULL ? l->split->dim[0] + l->split->dim[1] : l->in[0]->dim;
}

// Whether input i of a concat lies in its rows at `column`, its place.
static inline bool layer_in_place(const struct layer *l, uint32_t i, uint32_t column)
{
    return l->in[i]->within == l->out && l->in[i]->column == column;
}

// ---- options ----------------------------------------------------------------------------------------------

struct layer_setting {
    double number;
    uint32_t n, dims[NET_DIMS_MAX];
    uint32_t at; // inputs: n of them from in[at] on
};

// As given or by default. An option that the kind does not declare, or of another type, is a defect.
double layer_number(const struct layer *l, const char *option);
uint32_t layer_count(const struct layer *l, const char *option);
bool layer_flag(const struct layer *l, const char *option);
int layer_choice(const struct layer *l, const char *option); // its place in `choices`
const uint32_t *layer_dims(const struct layer *l, const char *option, uint32_t *ret_n);
// Where the inputs that the option names stand in `in`; *ret_n 0: it is not given. Of LAYER_INPUT 0 or 1.
uint32_t layer_inputs(const struct layer *l, const char *option, uint32_t *ret_n);
struct value *layer_input(const struct layer *l, const char *option); // NULL: not given
// Pairs: names in twos with blanks between, or NULL: not given. In `shape` alone.
const char *layer_pairs(const struct layer *l, const char *option);

// ---- for `shape` ------------------------------------------------------------------------------------------

// How a parameter begins: center + spread * u, u uniform in -1..1, or normal.
struct layer_init {
    double center, spread;
    bool normal;
};
struct layer_init init_fan_in(uint32_t fan_in); // uniform in +-1/sqrt(fan_in), as PyTorch's nn.Linear
struct layer_init init_constant(double x);      // 0: zeros, 1: ones
struct layer_init init_xavier_uniform(uint32_t fan_in, uint32_t fan_out);
struct layer_init init_xavier_normal(uint32_t fan_in, uint32_t fan_out);
// Of a matrix (out, in) by the rule of its block; where that has none, and of a vector: `own`.
struct layer_init init_by(const struct net_init_by *by, const struct net_param *p, struct layer_init own);

// Declare "<block>.<suffix>", (rows, cols) or a vector; return its offset within the layer. A buffer is not
// trained: where dparams is not NULL, backward adds to it there what is to be added to the buffer.
size_t layer_param(struct layer *l, const char *suffix, uint32_t rows, uint32_t cols, struct layer_init init);
// The same of a weight whose products take `part` rows each.
size_t layer_param_parts(struct layer *l, const char *suffix, uint32_t rows, uint32_t cols, uint32_t part,
                         struct layer_init init);
size_t layer_vector(struct layer *l, const char *suffix, uint32_t n, struct layer_init init);
size_t layer_buffer(struct layer *l, const char *suffix, uint32_t n, struct layer_init init);

// Zeroed, for as long as the net lives.
void *layer_alloc(struct layer *l, size_t count, size_t size);
// The output has the rows of `v`: a sequence's entries where it is ragged.
void layer_rows_as(struct layer *l, const struct value *v);
// "block \"NAME\" (KIND): ..."; returns -1.
int layer_fail(const struct layer *l, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
// Fails unless the two are ragged over the same entries.
int layer_same_entries(const struct layer *l, const struct value *a, const struct value *b, struct err *err);

// ---- for `forward` and `backward` -------------------------------------------------------------------------

// The sample's seed for this layer: draws of two layers are independent.
uint64_t layer_seed(const struct layer *l, const struct layer_context *c, uint32_t sample);

// The kinds, a row each: ROW(scale) is layer_scale of layer_scale.c. In this order they are told to the user.
#define LAYER_KINDS(ROW) \
    ROW(bilinear)        \
    ROW(concat)          \
    ROW(dcn_v2)          \
    ROW(din)             \
    ROW(experts)         \
    ROW(fm)              \
    ROW(hadamard)        \
    ROW(l2norm)          \
    ROW(lhuc)            \
    ROW(mean)            \
    ROW(mlp)             \
    ROW(mmoe)            \
    ROW(senet)           \
    ROW(sim)             \
    ROW(stop)

#define LAYER_DECLARE(kind) extern const struct layer_kind layer_##kind;
LAYER_KINDS(LAYER_DECLARE)
#undef LAYER_DECLARE
extern const struct layer_kind layer_expand; // of no config: net_share.c puts it in

extern const struct layer_kind *const layer_kinds[]; // NULL-terminated

#endif
