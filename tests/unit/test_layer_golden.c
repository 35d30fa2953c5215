// SPDX-License-Identifier: Apache-2.0
// Layer kinds against FuxiCTR's and PyTorch's numbers (tests/golden/make_layer_golden.py): outputs, gradients of
// sum(c * output), and what statistics become, while the dense layers train; and output and gradients by the stored
// statistics, which is how a frozen layer trains. A case is a row here and one there.
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/gemm.h"
#include "models/plan.h"
#include "tests/unit/golden.h"

enum { BATCH = 11, MAX_IN = 8, MAX_LEN = 5 };

struct golden_case {
    const char *name, *kind;
    uint32_t widths[MAX_IN];
    struct layer_value options[6];
};

static const struct golden_case cases[] = {
    {"mlp_prelu", "mlp", {6}, {{"mlp", .dims = {9, 4}}, {"activation", .text = "prelu"}}},
    {"mlp_dice", "mlp", {6}, {{"mlp", .dims = {9, 4}}, {"activation", .text = "dice"}}},
    {"mlp_sigmoid", "mlp", {6}, {{"mlp", .dims = {9, 4}}, {"activation", .text = "sigmoid"}}},
    {"mlp_tanh", "mlp", {6}, {{"mlp", .dims = {9, 4}}, {"activation", .text = "tanh"}}},
    {"mlp_batch", "mlp", {6}, {{"mlp", .dims = {9, 4}}, {"norm", .text = "batch"}}},
    {"mlp_layer", "mlp", {6}, {{"mlp", .dims = {9, 4}}, {"norm", .text = "layer"}}},
    {"mlp_layer_dice",
     "mlp",
     {6},
     {{"mlp", .dims = {9, 4}}, {"norm", .text = "layer"}, {"activation", .text = "dice"}}},
    {"mlp_momentum",
     "mlp",
     {6},
     {{"mlp", .dims = {9, 4}},
      {"norm", .text = "batch"},
      {"activation", .text = "tanh"},
      {"eps", .number = 0.01},
      {"momentum", .number = 0.3}}},
    {"mlp_block", "mlp", {6}, {{"mlp", .dims = {9, 4}}, {"norm", .text = "batch"}}},
    {"mlp_last",
     "mlp",
     {6},
     {{"mlp", .dims = {9, 4}}, {"norm", .text = "batch"}, {"last", .text = "sigmoid"}}},
    {"dcn_v2", "dcn_v2", {4, 5}, {{"dcn_v2", .number = 3}}},
    {"dcn_v2_rank", "dcn_v2", {9}, {{"dcn_v2", .number = 2}, {"rank", .number = 3}}},
    {"senet_relu", "senet", {4, 4, 4, 4, 4}, {{"activation", .text = "relu"}, {"reduction", .number = 2}}},
    {"senet", "senet", {4, 7, 1, 3}, {{"reduction", .number = 2}}},
    {"bilinear_interaction", "bilinear", {5, 5, 5, 5}, {{"bilinear", .text = "interaction"}}},
    {"bilinear_interactionv2", "bilinear", {5, 5, 5, 5}, {{"bilinear", .text = "interaction"}}},
    {"bilinear_each", "bilinear", {5, 5, 5, 5}, {{"bilinear", .text = "each"}}},
    {"bilinear_all", "bilinear", {5, 5, 5, 5}, {{"bilinear", .text = "all"}}},
    {"bilinear_dot", "bilinear", {4, 6, 3}, {{"bilinear", .text = "interaction"}, {"output", .text = "dot"}}},
    {"fm", "fm", {5, 5, 5, 5}, {{0}}},
    {"fm_vector", "fm", {5, 5, 5, 5}, {{"vector", .number = 1}}},
    {"din", "din", {5, 5}, {{"din", .dims = {9, 4}}, {"candidate", .text = "x1"}}},
    {"din_softmax",
     "din",
     {5, 5},
     {{"din", .dims = {9}},
      {"candidate", .text = "x1"},
      {"activation", .text = "sigmoid"},
      {"softmax", .number = 1}}},
    {"din_dice",
     "din",
     {4, 3, 4, 3},
     {{"din", .dims = {9, 4}}, {"candidate", .text = "x2 x3"}, {"activation", .text = "dice"}}},
    {"din_batch",
     "din",
     {5, 5},
     {{"din", .dims = {9, 4}},
      {"candidate", .text = "x1"},
      {"activation", .text = "sigmoid"},
      {"norm", .text = "batch"}}},
    {"din_narrow", "din", {4, 3, 4}, {{"din", .dims = {9, 4}}, {"candidate", .text = "x2"}}},
    {"sim_heads",
     "sim",
     {6, 6},
     {{"candidate", .text = "x1"},
      {"search", .text = "none"},
      {"heads", .number = 2},
      {"width", .number = 6}}},
    {"sim_soft",
     "sim",
     {6, 6},
     {{"candidate", .text = "x1"}, {"k", .number = 2}, {"heads", .number = 4}, {"width", .number = 8}}},
    {"sim_soft_din",
     "sim",
     {4, 3, 4},
     {{"candidate", .text = "x2"},
      {"k", .number = 3},
      {"attention", .text = "din"},
      {"units", .dims = {9, 4}}}},
};
enum { CASES = sizeof cases / sizeof *cases };

struct bench {
    const struct golden *golden;
    const char *name; // of the case
    struct net *net;
    struct layer *layer;
    uint32_t n_in;
    uint32_t offsets[BATCH + 1]; // of the sequences
    float *params, *dparams;
};

static const float *numbers(const struct bench *b, const char *what)
{
    char prefix[NET_NAME];
    snprintf(prefix, sizeof prefix, "%s/", b->name);
    return golden_get(b->golden, prefix, what);
}

static const float *numbered(const struct bench *b, const char *what, uint32_t i)
{
    char name[NET_NAME];
    snprintf(name, sizeof name, "%s%u", what, i);
    return numbers(b, name);
}

// What stands before a candidate is a sequence.
static uint32_t sequences_of(const struct golden_case *k)
{
    for (const struct layer_value *v = k->options; v->name != NULL; v++)
        if (strcmp(v->name, "candidate") == 0)
            return (uint32_t)atoi(v->text + 1);
    return 0;
}

static struct net *case_net(const struct golden_case *k, uint32_t n)
{
    struct net_input inputs[MAX_IN] = {0};
    char of[MAX_IN][NET_NAME];
    const uint32_t n_sequences = sequences_of(k);
    for (uint32_t i = 0; i < n; i++) {
        const bool sequence = i < n_sequences;
        inputs[i] = (struct net_input){
            .kind = sequence ? NET_INPUT_SEQUENCE : NET_INPUT_ID, .dim = k->widths[i], .max_len = MAX_LEN};
        snprintf(inputs[i].name, NET_NAME, "x%u", i);
        snprintf(inputs[i].offsets_as, NET_NAME, "%s", sequence && i > 0 ? "x0" : "");
        snprintf(of[i], NET_NAME, "x%u", i);
    }
    struct net_block block = {.name = "block", .n_of = n_sequences > 0 ? n_sequences : n, .of = of};
    snprintf(block.kind, NET_NAME, "%s", k->kind);
    memcpy(block.options, k->options, sizeof k->options);
    const struct net_head head = {.name = "y", .of = "block", .loss = "logloss", .weight = 1};
    const struct net_spec spec = {.n_inputs = n,
                                  .n_blocks = 1,
                                  .n_heads = 1,
                                  .inputs = inputs,
                                  .blocks = &block,
                                  .heads = &head,
                                  .batch = BATCH};
    struct net *net;
    struct err err;
    cr_assert_eq(net_new(&spec, &net, NULL, &err), 0, "%s: %s", k->name, err.message);
    return net;
}

// ---- parameters, by the names of the net ------------------------------------------------------------------

// Calls each with every parameter of the block and the numbers of that name with the prefix.
static void params_each(const struct bench *b, const char *prefix, bool buffers,
                        void (*each)(const struct bench *b, const struct net_param *p, const float *golden))
{
    for (uint32_t i = 0; i < net_param_count(b->net); i++) {
        const struct net_param *p = net_param(b->net, i);
        char name[3 * NET_NAME];
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        if (strncmp(p->name, "block.", 6) == 0 && (!buffers || !p->trainable))
            each(b, p, numbers(b, name));
    }
}

static void param_set(const struct bench *b, const struct net_param *p, const float *golden)
{
    memcpy(b->params + p->offset, golden, (size_t)p->rows * p->cols * sizeof *golden);
}

// Equal but for rounding, which goes with the terms that were summed: with the largest number among the neighbours. The
// order of the sums is the BLAS', which differs by processor.
static void near_all(const struct bench *b, const char *what, size_t n, const float *got, const float *want)
{
    float largest = 1;
    for (size_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(want[i]));
    for (size_t i = 0; i < n; i++)
        cr_assert(fabsf(got[i] - want[i]) <= 1e-5f * largest, "%s: %s at %zu is %.9g, not %.9g", b->name,
                  what, i, (double)got[i], (double)want[i]);
}

static void param_gradient_near(const struct bench *b, const struct net_param *p, const float *golden)
{
    if (p->trainable)
        near_all(b, p->name, (size_t)p->rows * p->cols, b->dparams + p->offset, golden);
}

static void buffer_after_near(const struct bench *b, const struct net_param *p, const float *golden)
{
    const size_t n = (size_t)p->rows * p->cols;
    float *after = mem_array(n, sizeof *after);
    for (size_t i = 0; i < n; i++)
        after[i] = b->params[p->offset + i] + b->dparams[p->offset + i];
    near_all(b, p->name, n, after, golden);
    free(after);
}

// ---- values -----------------------------------------------------------------------------------------------

static void value_near(const struct bench *b, const char *what, const struct value *v, const float *x,
                       const float *golden)
{
    const size_t n = (size_t)v->rows * v->dim;
    float *rows = mem_array(n, sizeof *rows);
    for (size_t i = 0; i < n; i++)
        rows[i] = x[i / v->dim * v->stride + i % v->dim];
    near_all(b, what, n, rows, golden);
    free(rows);
}

// What the block reads, as if it were concatenated.
static void inputs_set(const struct bench *b)
{
    for (uint32_t i = 0; i < b->n_in; i++) {
        struct value *v = &b->net->values[i];
        const float *golden = numbered(b, "x", i);
        for (size_t r = 0; r < v->rows; r++)
            memcpy(v->x + r * v->stride, golden + r * v->dim, v->dim * sizeof *golden);
    }
}

// Rows of the values: those of the samples, or of their entries. `sequences`: there are any.
static void rows_set(struct bench *b, bool sequences)
{
    const float *lengths = sequences ? numbers(b, "lengths") : NULL;
    for (uint32_t i = 0; i < BATCH && sequences; i++)
        b->offsets[i + 1] = b->offsets[i] + (uint32_t)lengths[i];
    for (uint32_t i = 0; i < b->net->n_values; i++) {
        struct value *v = &b->net->values[i];
        v->rows = v->ragged ? b->offsets[BATCH] : BATCH;
        v->offsets = v->ragged ? b->offsets : NULL;
    }
}

static void run(const struct bench *b, bool dense)
{
    const struct layer *l = b->layer;
    const struct layer_context c = {.n = BATCH,
                                    .params = b->params + l->params,
                                    .dparams = dense ? b->dparams + l->params : NULL,
                                    .scratch = l->scratch,
                                    .training = true,
                                    .dense = dense};
    const float *out = numbers(b, "c");
    plan_backward(b->net, dense);
    l->out->masked = false;
    inputs_set(b);
    l->kind->forward(l, &c);
    value_near(b, "output", l->out, l->out->x, numbers(b, dense ? "out" : "frozen.out"));
    for (uint32_t i = 0; i < l->n_in; i++)
        l->beta[i] = 0;
    for (size_t r = 0; r < BATCH; r++)
        memcpy(l->out->dx + r * l->out->stride, out + r * l->out->dim, l->out->dim * sizeof *out);
    l->kind->backward(l, &c);
    for (uint32_t i = 0; i < b->n_in; i++)
        value_near(b, "gradient of input", &b->net->values[i], b->net->values[i].dx,
                   numbered(b, dense ? "gradient.x" : "frozen.x", i));
}

static void check_case(const struct golden *g, const struct golden_case *k)
{
    struct bench b = {.golden = g, .name = k->name};
    while (b.n_in < MAX_IN && k->widths[b.n_in] > 0)
        b.n_in++;
    b.net = case_net(k, b.n_in);
    for (uint32_t i = 0; i < b.net->n_layers; i++)
        if (!b.net->layers[i].implicit)
            b.layer = &b.net->layers[i];
    rows_set(&b, sequences_of(k) > 0);
    b.params = mem_array(net_param_floats(b.net), sizeof(float));
    b.dparams = mem_array(net_param_floats(b.net), sizeof(float));
    params_each(&b, "", false, param_set);
    run(&b, true);
    params_each(&b, "gradient.", false, param_gradient_near);
    params_each(&b, "after.", true, buffer_after_near);
    run(&b, false);
    net_free(b.net);
    free(b.params);
    free(b.dparams);
}

Test(layer_golden, layers_are_those_of_others, .init = gemm_setup)
{
    struct golden g;
    golden_read(&g, "layers.bin");
    for (uint32_t i = 0; i < CASES; i++)
        check_case(&g, &cases[i]);
    golden_done(&g);
}
