// SPDX-License-Identifier: Apache-2.0
// Every layer kind alone, in one harness: the kind's forward against its twin, its backward against finite
// differences of sum(c * out) for random c, in every input and every parameter; frozen against not frozen;
// setting a gradient against adding to it; with statistics and dropout as in training. A new kind needs its lines
// in `cases`.
#include "models/layer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/gemm.h"
#include "models/plan.h"

enum { BATCH = 7, MAX_LEN = 5, MAX_IN = 4 };
#define UNTOUCHED 1e30f // a gradient, before backward

// Of inputs "in0", "in1", ...: i an id, s a sequence (all of the same entries), n a number; then the width.
struct layer_case {
    const char *kind;
    const char *inputs[MAX_IN];
    struct layer_value options[6];
    uint32_t n_of; // the first so many are the block's `of`, the rest is for options to name; 0: all
};

static const struct layer_case cases[] = {
    {"bilinear", .inputs = {"i5", "i5", "i5"}, .options = {{"bilinear", .text = "interaction"}}},
    {"bilinear", .inputs = {"i16", "i16", "i16", "i16"}, .options = {{"bilinear", .text = "each"}}},
    {"bilinear", .inputs = {"i5", "i5", "i5"}, .options = {{"bilinear", .text = "all"}}},
    {"bilinear", .inputs = {"i5", "i17", "i3"},
     .options = {{"bilinear", .text = "interaction"}, {"output", .text = "dot"}}},
    {"bilinear", .inputs = {"i5", "i5", "i5"},
     .options = {{"bilinear", .text = "each"}, {"output", .text = "dot"}}},
    {"bilinear", .inputs = {"i17", "i17"},
     .options = {{"bilinear", .text = "all"}, {"output", .text = "dot"}}},
    {"bilinear", .inputs = {"i3", "i3", "i3", "i3"},
     .options = {{"bilinear", .text = "interaction"}, {"pairs", .text = "in0 in3 in3 in0 in3 in1 in2 in2"}}},
    {"bilinear", .inputs = {"i3", "i3", "i3", "i3"},
     .options = {{"bilinear", .text = "each"}, {"pairs", .text = "in3 in1 in0 in3 in3 in2"}}},
    {"bilinear", .inputs = {"s4", "s4"}, .options = {{"bilinear", .text = "interaction"}}},
    {"concat", .inputs = {"i3", "n1", "i17"}},
    {"concat", .inputs = {"i4"}},
    {"concat", .inputs = {"s4", "s3"}},
    {"dcn_v2", .inputs = {"i5"}, .options = {{"dcn_v2", .number = 3}}},
    {"dcn_v2", .inputs = {"i3", "n1", "i17"}, .options = {{"dcn_v2", .number = 1}}},
    {"dcn_v2", .inputs = {"i9"}, .options = {{"dcn_v2", .number = 1}, {"rank", .number = 2}}},
    {"dcn_v2", .inputs = {"i3", "i4"}, .options = {{"dcn_v2", .number = 3}, {"rank", .number = 4}}},
    {"dcn_v2", .inputs = {"s4"}, .options = {{"dcn_v2", .number = 2}}},
    {"din", .inputs = {"s5", "i5"}, .n_of = 1,
     .options = {{"din", .dims = {6, 3}}, {"candidate", .text = "in1"}}},
    {"din", .inputs = {"s17", "i17"}, .n_of = 1,
     .options = {{"din", .dims = {4}},
                 {"candidate", .text = "in1"},
                 {"softmax", .number = 1},
                 {"activation", .text = "tanh"}}},
    {"din", .inputs = {"s4", "s3", "i4"}, .n_of = 2,
     .options = {{"din", .dims = {17, 5}}, {"candidate", .text = "in2"}, {"activation", .text = "dice"}}},
    {"din", .inputs = {"s4", "s3", "i4", "n1"}, .n_of = 2,
     .options = {{"din", .dims = {5, 3}},
                 {"candidate", .text = "in2 in3"},
                 {"activation", .text = "prelu"},
                 {"norm", .text = "layer"},
                 {"softmax", .number = 1}}},
    {"din", .inputs = {"s4", "i4"}, .n_of = 1,
     .options = {{"din", .dims = {9}},
                 {"candidate", .text = "in1"},
                 {"activation", .text = "sigmoid"},
                 {"norm", .text = "batch"},
                 {"dropout", .number = 0.3}}},
    {"experts", .inputs = {"i6"}, .options = {{"experts", .dims = {5, 3}}, {"count", .number = 3}}},
    {"experts", .inputs = {"i3", "n1"},
     .options = {{"experts", .dims = {17}}, {"activation", .text = "tanh"}}},
    {"experts", .inputs = {"s4"}, .options = {{"experts", .dims = {3, 2}}, {"count", .number = 2}}},
    {"experts", .inputs = {"i6"},
     .options = {{"experts", .dims = {5, 3}},
                 {"count", .number = 2},
                 {"norm", .text = "batch"},
                 {"dropout", .number = 0.3}}},
    {"fm", .inputs = {"i5", "i5"}},
    {"fm", .inputs = {"i17", "i17", "i17", "i17"}, .options = {{"vector", .number = 1}}},
    {"fm", .inputs = {"i5", "i5", "n1", "i2"}, .n_of = 2, .options = {{"linear", .text = "in2 in3"}}},
    {"fm", .inputs = {"s3", "s3"}},
    {"hadamard", .inputs = {"i5", "i5"}},
    {"hadamard", .inputs = {"i17", "i17", "i17"}},
    {"hadamard", .inputs = {"s3", "s3"}},
    {"l2norm", .inputs = {"i5"}},
    {"l2norm", .inputs = {"i17", "n1"}},
    {"l2norm", .inputs = {"s4"}},
    {"l2norm", .inputs = {"i4"}, .options = {{"eps", .number = 1}}},
    {"lhuc", .inputs = {"i6", "i3"}, .n_of = 1, .options = {{"lhuc", .dims = {5, 3}}, {"by", .text = "in1"}}},
    {"lhuc", .inputs = {"i6", "i3", "n1"}, .n_of = 2,
     .options =
         {{"lhuc", .dims = {17}}, {"by", .text = "in2"}, {"hidden", .number = 4}, {"scale", .number = 3}}},
    {"lhuc", .inputs = {"i3", "i2"}, .n_of = 1,
     .options = {{"lhuc", .dims = {4, 5, 3}}, {"by", .text = "in1"}, {"gate_input", .number = 1}}},
    {"lhuc", .inputs = {"i6", "i3"}, .n_of = 1,
     .options = {{"lhuc", .dims = {5, 4}},
                 {"by", .text = "in1"},
                 {"activation", .text = "tanh"},
                 {"norm", .text = "batch"},
                 {"dropout", .number = 0.3}}},
    {"mean", .inputs = {"s5"}},
    {"mean", .inputs = {"s1"}},
    {"mean", .inputs = {"s16"}},
    {"mlp", .inputs = {"i6"}, .options = {{"mlp", .dims = {5}}}},
    {"mlp", .inputs = {"i6"}, .options = {{"mlp", .dims = {9, 4, 3}}, {"activation", .text = "relu"}}},
    {"mlp", .inputs = {"i6"}, .options = {{"mlp", .dims = {5, 3}}, {"activation", .text = "none"}}},
    {"mlp", .inputs = {"i6"}, .options = {{"mlp", .dims = {5, 3}}, {"activation", .text = "sigmoid"}}},
    {"mlp", .inputs = {"i6"}, .options = {{"mlp", .dims = {5, 3}}, {"activation", .text = "tanh"}}},
    {"mlp", .inputs = {"i6"}, .options = {{"mlp", .dims = {5, 3}}, {"last", .text = "none"}}},
    {"mlp", .inputs = {"i6"},
     .options = {{"mlp", .dims = {5, 3}}, {"activation", .text = "tanh"}, {"last", .text = "relu"}}},
    {"mlp", .inputs = {"i3", "n1", "i2"}, .options = {{"mlp", .dims = {17, 1}}}},
    {"mlp", .inputs = {"s4"}, .options = {{"mlp", .dims = {6, 2}}}},
    {"mlp", .inputs = {"n1", "n1"}, .options = {{"mlp", .dims = {4, 4}}}},
    {"mlp", .inputs = {"i6"}, .options = {{"mlp", .dims = {5, 17, 3}}, {"activation", .text = "prelu"}}},
    {"mlp", .inputs = {"i6"}, .options = {{"mlp", .dims = {5, 17, 3}}, {"activation", .text = "dice"}}},
    {"mlp", .inputs = {"i6"}, .options = {{"mlp", .dims = {17, 3}}, {"norm", .text = "batch"}}},
    {"mlp", .inputs = {"i6"}, .options = {{"mlp", .dims = {17, 3}}, {"norm", .text = "layer"}}},
    {"mlp", .inputs = {"i6"}, .options = {{"mlp", .dims = {5, 33}}, {"dropout", .number = 0.4}}},
    {"mlp", .inputs = {"s4"},
     .options = {{"mlp", .dims = {5, 3}}, {"norm", .text = "batch"}, {"activation", .text = "dice"}}},
    {"mlp", .inputs = {"i4"},
     .options = {{"mlp", .dims = {7, 4}},
                 {"norm", .text = "layer"},
                 {"activation", .text = "prelu"},
                 {"dropout", .number = 0.3},
                 {"eps", .number = 0.1}}},
    {"mlp", .inputs = {"s4"},
     .options = {{"mlp", .dims = {5, 3}}, {"activation", .text = "tanh"}, {"dropout", .number = 0.5}}},
    {"mlp", .inputs = {"i4"},
     .options = {{"mlp", .dims = {5, 3}},
                 {"norm", .text = "batch"},
                 {"activation", .text = "sigmoid"},
                 {"dropout", .number = 0.2},
                 {"momentum", .number = 0.5}}},
    {"mlp", .inputs = {"i4"},
     .options = {{"mlp", .dims = {5, 3}},
                 {"norm", .text = "batch"},
                 {"last", .text = "dice"},
                 {"dropout", .number = 0.2}}},
    {"mmoe", .inputs = {"i5", "i5", "i5", "i3"}, .n_of = 3, .options = {{"by", .text = "in3"}}},
    {"mmoe", .inputs = {"i17", "i17", "i3", "n1"}, .n_of = 2,
     .options = {{"by", .text = "in2 in3"}, {"gate", .dims = {6, 4}}}},
    {"mmoe", .inputs = {"i5", "i5", "i5", "i3"}, .n_of = 3,
     .options = {{"by", .text = "in3"}, {"dropout", .number = 0.4}}},
    {"senet", .inputs = {"i5", "i17", "n1", "i3"}, .options = {{"reduction", .number = 2}}},
    {"senet", .inputs = {"i5", "i5"}, .options = {{"activation", .text = "relu"}}},
    {"senet", .inputs = {"s4", "s2", "s16"}, .options = {{"reduction", .number = 1}}},
    {"sim", .inputs = {"s5", "i5"}, .n_of = 1,
     .options =
         {{"candidate", .text = "in1"}, {"k", .number = 2}, {"heads", .number = 2}, {"width", .number = 6}}},
    {"sim", .inputs = {"s16", "s3", "i16"}, .n_of = 2,
     .options = {{"candidate", .text = "in2"},
                 {"search", .text = "none"},
                 {"heads", .number = 1},
                 {"width", .number = 5}}},
    {"sim", .inputs = {"s4", "i3"}, .n_of = 1, .options = {{"candidate", .text = "in1"}}},
    {"sim", .inputs = {"s4", "s3", "i4"}, .n_of = 2,
     .options = {{"candidate", .text = "in2"},
                 {"k", .number = 3},
                 {"attention", .text = "din"},
                 {"units", .dims = {5}},
                 {"activation", .text = "dice"}}},
    {"sim", .inputs = {"s4", "i4"}, .n_of = 1,
     .options = {{"candidate", .text = "in1"},
                 {"k", .number = 1},
                 {"attention", .text = "din"},
                 {"softmax", .number = 1}}},
    {"sim", .inputs = {"s4", "i4"}, .n_of = 1,
     .options = {{"candidate", .text = "in1"},
                 {"search", .text = "none"},
                 {"attention", .text = "din"},
                 {"activation", .text = "sigmoid"}}},
    {"stop", .inputs = {"i5"}},
    {"stop", .inputs = {"s3"}},
};
enum { CASES = sizeof cases / sizeof *cases };

struct bench {
    struct net *net;
    struct layer *layer; // the one under test
    uint32_t n;
    bool dense; // statistics are the batch's
    uint32_t offsets[BATCH + 1];
    uint64_t seeds[BATCH];
    float *params, *dparams, *c;
    struct packs *packs; // NULL: by the BLAS
};

static void case_input(struct net_input *in, uint32_t i, const char *spec)
{
    static const char kinds[] = {[NET_INPUT_ID] = 'i', [NET_INPUT_SEQUENCE] = 's', [NET_INPUT_NUMBER] = 'n'};
    in->kind = (enum net_input_kind)((const char *)memchr(kinds, spec[0], sizeof kinds) - kinds);
    in->dim = (uint32_t)atoi(spec + 1);
    in->max_len = MAX_LEN;
    snprintf(in->name, NET_NAME, "in%u", i);
}

static struct net *case_net(const struct layer_case *k)
{
    struct net_input inputs[MAX_IN] = {0};
    char of[MAX_IN][NET_NAME], one[1][NET_NAME] = {"block"};
    char sequence[NET_NAME] = "";
    uint32_t n = 0;
    for (; n < MAX_IN && k->inputs[n] != NULL; n++) {
        case_input(&inputs[n], n, k->inputs[n]);
        snprintf(of[n], NET_NAME, "in%u", n);
        if (inputs[n].kind == NET_INPUT_SEQUENCE) {
            memcpy(inputs[n].offsets_as, sequence, NET_NAME);
            if (sequence[0] == 0)
                memcpy(sequence, of[n], NET_NAME);
        }
    }
    struct net_block blocks[2] = {{.name = "block", .n_of = k->n_of > 0 ? k->n_of : n, .of = of},
                                  {.name = "pooled", .kind = "mean", .n_of = 1, .of = one}};
    snprintf(blocks[0].kind, NET_NAME, "%s", k->kind);
    memcpy(blocks[0].options, k->options, sizeof k->options);
    struct net_head head = {.name = "y", .of = "block", .loss = "logloss", .weight = 1};
    struct net_spec spec = {.n_inputs = n,
                            .n_blocks = 1,
                            .n_heads = 1,
                            .inputs = inputs,
                            .blocks = blocks,
                            .heads = &head,
                            .batch = BATCH};
    struct net *net;
    struct err err;
    if (net_new(&spec, &net, NULL, &err) == 0)
        return net;
    spec.n_blocks = 2; // a ragged output needs pooling before a head
    snprintf(head.of, NET_NAME, "pooled");
    cr_assert_eq(net_new(&spec, &net, NULL, &err), 0, "%s: %s", k->kind, err.message);
    return net;
}

static bool trainable(const struct bench *b, size_t at)
{
    for (uint32_t i = 0; i < net_param_count(b->net); i++) {
        const struct net_param *p = net_param(b->net, i);
        size_t begin = p->offset - b->layer->params;
        if (p->offset >= b->layer->params && at >= begin && at < begin + (size_t)p->rows * p->cols)
            return p->trainable;
    }
    return true;
}

static void randomize(struct value *v, struct rng *rng)
{
    for (uint32_t i = 0; i < v->rows; i++)
        for (uint32_t j = 0; j < v->dim; j++)
            v->x[i * v->stride + j] = (float)rng_normal(rng);
}

static void value_sized(struct value *v, struct bench *b)
{
    v->rows = v->ragged ? b->offsets[b->n] : b->n;
    v->offsets = v->ragged ? b->offsets : NULL;
}

static void bench_init(struct bench *b, const struct layer_case *k, uint32_t n, uint64_t seed)
{
    struct rng rng = rng_of(seed);
    *b = (struct bench){.net = case_net(k), .n = n, .dense = true};
    for (uint32_t i = 0; i < n; i++)
        b->seeds[i] = rng_u64(&rng);
    for (uint32_t i = 0; i < b->net->n_layers; i++)
        if (strcmp(b->net->layers[i].kind->name, k->kind) == 0 && !b->net->layers[i].implicit)
            b->layer = &b->net->layers[i];
    cr_assert_not_null(b->layer);
    for (uint32_t i = 0; i < n; i++)
        b->offsets[i + 1] = b->offsets[i] + (uint32_t)(i % 3 == 1 ? 0 : rng_below(&rng, MAX_LEN + 1));
    b->params = mem_array(b->layer->n_params + 1, sizeof(float));
    b->dparams = mem_array(b->layer->n_params + 1, sizeof(float));
    for (size_t i = 0; i < b->layer->n_params; i++) {
        b->params[i] = (float)rng_normal(&rng) * 0.5f;
        if (!trainable(b, i)) // running statistics may be variances
            b->params[i] = 0.5f + fabsf(b->params[i]);
    }
    for (uint32_t i = 0; i < b->layer->n_in; i++) {
        value_sized(b->layer->in[i], b);
        randomize(b->layer->in[i], &rng);
    }
    value_sized(b->layer->out, b);
    b->c = mem_array((size_t)b->layer->out->rows_max * b->layer->out->dim, sizeof(float));
    for (size_t i = 0; i < (size_t)b->layer->out->rows * b->layer->out->dim; i++)
        b->c[i] = (float)rng_normal(&rng);
}

static void bench_done(struct bench *b)
{
    net_free(b->net);
    free(b->params);
    free(b->dparams);
    free(b->c);
}

static struct layer_context context_of(const struct bench *b, float *dparams)
{
    return (struct layer_context){.n = b->n,
                                  .params = b->params,
                                  .packs = b->packs,
                                  .dparams = dparams,
                                  .scratch = b->layer->scratch,
                                  .training = true,
                                  .dense = b->dense,
                                  .seeds = b->seeds};
}

static double bench_sum(const struct bench *b)
{
    const struct value *out = b->layer->out;
    const struct layer_context c = context_of(b, NULL);
    b->layer->kind->forward(b->layer, &c);
    double sum = 0;
    for (uint32_t i = 0; i < out->rows; i++)
        for (uint32_t j = 0; j < out->dim; j++)
            sum += (double)b->c[i * out->dim + j] * (double)out->x[i * out->stride + j];
    return sum;
}

// Gradients of inputs begin as `begin`; so they must stay untouched where beta is 0.
static void bench_backward(const struct bench *b, float beta, float begin, float *dparams)
{
    const struct layer *l = b->layer;
    bench_sum(b);
    plan_backward(b->net, dparams != NULL);
    l->out->masked = false;
    for (uint32_t i = 0; i < l->n_in; i++) {
        l->beta[i] = beta;
        for (uint32_t r = 0; r < l->in[i]->rows; r++)
            for (uint32_t j = 0; j < l->in[i]->dim; j++)
                l->in[i]->dx[r * l->in[i]->stride + j] = begin;
    }
    for (uint32_t i = 0; i < l->out->rows; i++)
        memcpy(l->out->dx + i * l->out->stride, b->c + i * l->out->dim, l->out->dim * sizeof(float));
    const struct layer_context c = context_of(b, dparams);
    if (!l->kind->stops)
        l->kind->backward(l, &c);
}

static float *gradient_copy(const struct value *v)
{
    float *copy = mem_array((size_t)v->rows * v->dim + 1, sizeof *copy);
    for (uint32_t i = 0; i < v->rows; i++)
        memcpy(copy + i * v->dim, v->dx + i * v->stride, v->dim * sizeof *copy);
    return copy;
}

// Least distance of the gradient from finite differences of both sides and of each, over several steps: a
// kink may lie on one side, a large step may cross one, a small one drowns in rounding.
static double off_by(const struct bench *b, float *at, double gradient)
{
    const float x = *at;
    const double here = bench_sum(b);
    double least = INFINITY;
    for (float h = 0x1p-3f; h > 0x1p-11f; h /= 2) {
        *at = x + h;
        double up = (bench_sum(b) - here) / (double)h;
        *at = x - h;
        double down = (here - bench_sum(b)) / (double)h;
        least = fmin(least, fabs((up + down) / 2 - gradient));
        least = fmin(least, fmin(fabs(up - gradient), fabs(down - gradient)));
    }
    *at = x;
    return least / fmax(1, fabs(gradient));
}

Test(layers, every_kind_has_a_case, .init = gemm_setup)
{
    for (const struct layer_kind *const *k = layer_kinds; *k != NULL; k++) {
        uint32_t found = 0;
        for (uint32_t i = 0; i < CASES; i++)
            found += strcmp(cases[i].kind, (*k)->name) == 0;
        cr_assert_gt(found, 0, "layer kind %s has no case", (*k)->name);
    }
}

Test(layers, forward_is_its_twin, .init = gemm_setup)
{
    for (uint32_t i = 0; i < CASES; i++)
        for (uint32_t n = 0; n <= BATCH; n++) {
            struct bench b;
            bench_init(&b, &cases[i], n, i * 10 + n);
            double fast = bench_sum(&b);
            const struct value *out = b.layer->out;
            float *kept = mem_array((size_t)out->rows * out->stride + 1, sizeof *kept);
            memcpy(kept, out->x, (size_t)out->rows * out->stride * sizeof *kept);
            const struct layer_context c = context_of(&b, NULL);
            b.layer->kind->forward_naive(b.layer, &c);
            for (size_t j = 0; j < (size_t)out->rows * out->stride; j++)
                cr_assert(fabsf(kept[j] - out->x[j]) <= 1e-5f * fmaxf(1, fabsf(kept[j])), "case %u, %s", i,
                          cases[i].kind);
            cr_assert(bench_sum(&b) == fast, "case %u, %s: not the same twice", i, cases[i].kind);
            free(kept);
            bench_done(&b);
        }
}

static void check_differences(uint32_t i, bool dense)
{
    struct bench b;
    bench_init(&b, &cases[i], BATCH, 100 + i);
    b.dense = dense;
    bench_backward(&b, 0, UNTOUCHED, dense ? b.dparams : NULL);
    const struct layer *l = b.layer;
    float *gradients[MAX_IN] = {NULL};
    for (uint32_t j = 0; j < l->n_in; j++)
        gradients[j] = gradient_copy(l->in[j]);
    for (uint32_t j = 0; j < l->n_in; j++) {
        const struct value *in = l->in[j];
        const bool may_change = in->wanted || value_root(in) == value_root(l->out);
        for (uint32_t at = 0; !may_change && at < in->rows * in->dim; at++)
            cr_assert(gradients[j][at] == UNTOUCHED, "case %u, %s: input %u is not wanted", i, cases[i].kind,
                      j);
        for (uint32_t at = 0; in->wanted && at < in->rows * in->dim; at++) {
            double off =
                off_by(&b, &in->x[at / in->dim * in->stride + at % in->dim], (double)gradients[j][at]);
            cr_assert(off < 3e-4, "case %u, %s: input %u at %u is off by %g", i, cases[i].kind, j, at, off);
        }
        free(gradients[j]);
    }
    for (size_t at = 0; at < l->n_params && dense; at++) {
        double off = trainable(&b, at) ? off_by(&b, &b.params[at], (double)b.dparams[at]) : 0;
        cr_assert(off < 3e-4, "case %u, %s: parameter %zu is off by %g", i, cases[i].kind, at, off);
    }
    bench_done(&b);
}

Test(layers, finite_differences, .init = gemm_setup)
{
    for (uint32_t i = 0; i < CASES; i++) {
        check_differences(i, true);
        check_differences(i, false);
    }
}

Test(layers, frozen_gives_the_same_gradients, .init = gemm_setup)
{
    for (uint32_t i = 0; i < CASES; i++) {
        struct bench b;
        bench_init(&b, &cases[i], BATCH, 200 + i);
        b.dense = false; // statistics as stored in both
        bench_backward(&b, 0, 0, b.dparams);
        const struct layer *l = b.layer;
        float *gradients[MAX_IN] = {NULL};
        for (uint32_t j = 0; j < l->n_in; j++)
            gradients[j] = gradient_copy(l->in[j]);
        bench_backward(&b, 0, 0, NULL);
        for (uint32_t j = 0; j < l->n_in; j++) {
            float *frozen = gradient_copy(l->in[j]);
            cr_assert(
                !l->in[j]->wanted ||
                    memcmp(frozen, gradients[j], (size_t)l->in[j]->rows * l->in[j]->dim * sizeof(float)) == 0,
                "case %u, %s", i, cases[i].kind);
            free(frozen);
            free(gradients[j]);
        }
        bench_done(&b);
    }
}

static float *output_copy(const struct value *v)
{
    float *copy = mem_array((size_t)v->rows * v->dim + 1, sizeof *copy);
    for (uint32_t i = 0; i < v->rows; i++)
        memcpy(copy + i * v->dim, v->x + i * v->stride, v->dim * sizeof *copy);
    return copy;
}

static void check_close_and_free(const float *a, float *b, size_t n, uint32_t at)
{
    for (size_t i = 0; i < n; i++)
        cr_assert(fabsf(a[i] - b[i]) <= 1e-4f * fmaxf(1, fabsf(a[i])), "case %u, %s: %g, not %g", at,
                  cases[at].kind, (double)b[i], (double)a[i]);
    free(b);
}

// Forward and back, with weights packed in the first pass and met again in the second, with other parameters by the
// BLAS in between.
Test(layers, packed_weights_give_the_same, .init = gemm_setup)
{
    struct err err;
    enum packed_kernel kernel;
    cr_assert_eq(packed_kernel_choose(PACKED_AUTO, &kernel, &err), 0);
    for (uint32_t i = 0; i < CASES; i++) {
        struct bench b;
        struct packs packs;
        bench_init(&b, &cases[i], BATCH, 400 + i);
        packs_init(&packs, kernel);
        b.dense = false;
        const struct layer *l = b.layer;
        float *out = NULL, *gradients[MAX_IN] = {NULL};
        for (uint32_t pass = 0; pass < 4; pass++) {
            b.packs = pass % 2 != 0 ? &packs : NULL;
            for (size_t j = 0; j < l->n_params; j++)
                b.params[j] *= pass == 2 ? 2 : pass == 3 ? 0.5f : 1;
            bench_backward(&b, 0, 1e30f, NULL);
            if (pass == 0)
                out = output_copy(l->out);
            else if (pass != 2)
                check_close_and_free(out, output_copy(l->out), (size_t)l->out->rows * l->out->dim, i);
            for (uint32_t j = 0; j < l->n_in; j++)
                if (pass == 0)
                    gradients[j] = gradient_copy(l->in[j]);
                else if (pass != 2 && l->in[j]->wanted)
                    check_close_and_free(gradients[j], gradient_copy(l->in[j]),
                                         (size_t)l->in[j]->rows * l->in[j]->dim, i);
        }
        free(out);
        for (uint32_t j = 0; j < l->n_in; j++)
            free(gradients[j]);
        cr_assert(packs_bytes(&packs) <= net_packed_most(b.net, kernel, true),
                  "case %u, %s: more is packed than its parameters let expect: see layer_param_parts", i,
                  l->kind->name);
        packs_done(&packs);
        bench_done(&b);
    }
}

// Gradients of inputs with beta 1, and of parameters always, are added to what is there.
Test(layers, gradients_add, .init = gemm_setup)
{
    for (uint32_t i = 0; i < CASES; i++) {
        struct bench b;
        bench_init(&b, &cases[i], BATCH, 300 + i);
        const struct layer *l = b.layer;
        bench_backward(&b, 0, 0, b.dparams);
        float *dparams = mem_array(l->n_params + 1, sizeof *dparams), *gradients[MAX_IN] = {NULL};
        for (uint32_t j = 0; j < l->n_in; j++)
            gradients[j] = gradient_copy(l->in[j]);
        for (size_t j = 0; j < l->n_params; j++)
            dparams[j] = 2;
        bench_backward(&b, 1, 2, dparams);
        for (size_t j = 0; j < l->n_params; j++)
            cr_assert(fabsf(dparams[j] - b.dparams[j] - 2) < 1e-4f, "case %u, %s", i, cases[i].kind);
        for (uint32_t j = 0; j < l->n_in; j++) {
            const struct value *in = l->in[j];
            float *added = gradient_copy(in), begin = value_root(in) == value_root(l->out) ? 0 : 2;
            for (uint32_t at = 0; in->wanted && at < in->rows * in->dim; at++)
                cr_assert(fabsf(added[at] - gradients[j][at] - begin) < 1e-4f, "case %u, %s", i,
                          cases[i].kind);
            free(added);
            free(gradients[j]);
        }
        free(dparams);
        bench_done(&b);
    }
}
