// SPDX-License-Identifier: Apache-2.0
// Nets of several tasks against deepctr-torch's MMOE and PyTorch (tests/golden/make_multitask_golden.py): predictions,
// the sum of losses, and every gradient, trained and frozen. And what dropout on a gate's output does.
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/gemm.h"
#include "models/net.h"
#include "tests/unit/golden.h"

enum { BATCH = 11, INPUTS = 2, BLOCKS = 3, HEADS = 4 };

struct block {
    const char *name, *kind, *of;
    struct layer_value options[6];
};

struct net_case {
    const char *name;
    struct net_input inputs[INPUTS];
    struct block blocks[BLOCKS];
    struct net_head heads[HEADS];
};

static const struct net_case cases[] = {
    {"mmoe", .inputs = {{"x", .dim = 9}},
     .blocks = {{"experts", "experts", "x", {{"experts", .dims = {7, 5}}, {"count", .number = 3}}},
                {"for_click", "mmoe", "experts", {{"by", .text = "x"}, {"gate", .dims = {6}}}},
                {"for_like", "mmoe", "experts", {{"by", .text = "x"}, {"gate", .dims = {6}}}}},
     .heads = {{"click", "for_click", "logloss", 1, ""}, {"like", "for_like", "logloss", 1, ""}}},
    {"mmoe_plain", .inputs = {{"x", .dim = 9}},
     .blocks = {{"experts", "experts", "x", {{"experts", .dims = {7, 5}}, {"count", .number = 3}}},
                {"for_click", "mmoe", "experts", {{"by", .text = "x"}}},
                {"for_like", "mmoe", "experts", {{"by", .text = "x"}}}},
     .heads = {{"click", "for_click", "logloss", 1, ""}, {"like", "for_like", "logloss", 1, ""}}},
    {"ppnet", .inputs = {{"x", .dim = 8}, {"user", .table = 1, .dim = 4}},
     .blocks = {{"top",
                 "lhuc",
                 "x",
                 {{"lhuc", .dims = {7, 5}},
                  {"by", .text = "user"},
                  {"hidden", .number = 6},
                  {"detached", .number = 1},
                  {"gate_input", .number = 1}}}},
     .heads = {{"click", "top", "logloss", 1, ""}}},
    {"lhuc", .inputs = {{"x", .dim = 8}, {"user", .table = 1, .dim = 4}},
     .blocks =
         {{"top", "lhuc", "x", {{"lhuc", .dims = {7, 5}}, {"by", .text = "user"}, {"hidden", .number = 6}}}},
     .heads = {{"click", "top", "logloss", 1, ""}}},
    {"losses", .inputs = {{"x", .dim = 6}},
     .heads = {{"click", "x", "logloss", 1, ""},
               {"like", "x", "logloss", 1, "click"},
               {"watch", "x", "watch_time", 1, ""},
               {"done", "x", "fraction", 1, ""}}},
};
enum { CASES = sizeof cases / sizeof *cases };

static struct net *case_net(const struct net_case *k)
{
    struct net_block blocks[BLOCKS] = {0};
    char of[BLOCKS][1][NET_NAME];
    struct net_spec spec = {.inputs = k->inputs, .blocks = blocks, .heads = k->heads, .batch = BATCH};
    while (spec.n_inputs < INPUTS && k->inputs[spec.n_inputs].dim > 0)
        spec.n_inputs++;
    while (spec.n_heads < HEADS && k->heads[spec.n_heads].weight > 0)
        spec.n_heads++;
    for (uint32_t i = 0; i < BLOCKS && k->blocks[i].name != NULL; i++, spec.n_blocks++) {
        snprintf(blocks[i].name, NET_NAME, "%s", k->blocks[i].name);
        snprintf(blocks[i].kind, NET_NAME, "%s", k->blocks[i].kind);
        snprintf(of[i][0], NET_NAME, "%s", k->blocks[i].of);
        blocks[i].of = of[i];
        blocks[i].n_of = 1;
        memcpy(blocks[i].options, k->blocks[i].options, sizeof k->blocks[i].options);
    }
    struct net *net;
    struct err err;
    cr_assert_eq(net_new(&spec, &net, NULL, &err), 0, "%s: %s", k->name, err.message);
    return net;
}

// ---- against others ---------------------------------------------------------------------------------------

struct bench {
    const struct net_case *k;
    struct golden *golden;
    struct net *net;
    float *params;
    uint32_t slots[BATCH];
    const uint32_t *slot_ptrs[INPUTS];
    const uint32_t *offset_ptrs[INPUTS];
    const float *number_ptrs[INPUTS];
    struct net_rows tables[INPUTS];
    const float *labels[HEADS];
    struct net_batch batch;
};

static const float *numbers(const struct bench *b, const char *prefix, const char *name)
{
    char full[2 * NET_NAME];
    snprintf(full, sizeof full, "%.20s/%.20s%.60s", b->k->name, prefix, name);
    return golden_get(b->golden, "", full);
}

static void near_all(const struct bench *b, const char *what, size_t n, const float *got, size_t stride,
                     size_t dim, const float *want)
{
    for (size_t i = 0; i < n; i++)
        cr_assert(fabsf(got[i / dim * stride + i % dim] - want[i]) <= 2e-5f * fmaxf(1, fabsf(want[i])),
                  "%s: %s at %zu is %g, not %g", b->k->name, what, i, (double)got[i / dim * stride + i % dim],
                  (double)want[i]);
}

static void bench_init(struct bench *b, const struct net_case *k, struct golden *g)
{
    *b = (struct bench){.k = k, .golden = g, .net = case_net(k)};
    b->params = mem_array(net_param_floats(b->net), sizeof(float));
    for (uint32_t i = 0; i < net_param_count(b->net); i++) {
        const struct net_param *p = net_param(b->net, i);
        memcpy(b->params + p->offset, numbers(b, "", p->name), (size_t)p->rows * p->cols * sizeof(float));
    }
    for (uint32_t i = 0; i < BATCH; i++)
        b->slots[i] = i;
    for (uint32_t i = 0; i < INPUTS && k->inputs[i].dim > 0; i++) {
        b->slot_ptrs[i] = b->slots;
        b->tables[i] = (struct net_rows){numbers(b, "", k->inputs[i].name), k->inputs[i].dim};
    }
    for (uint32_t h = 0; h < HEADS && k->heads[h].weight > 0; h++)
        b->labels[h] = numbers(b, "label.", k->heads[h].name);
    b->batch = (struct net_batch){.n = BATCH,
                                  .tables = b->tables,
                                  .slots = b->slot_ptrs,
                                  .offsets = b->offset_ptrs,
                                  .numbers = b->number_ptrs,
                                  .labels = b->labels};
}

static void check_run(struct bench *b, float *dparams)
{
    float p[HEADS][BATCH], *ret_p[HEADS] = {p[0], p[1], p[2], p[3]};
    b->batch.training = true;
    b->batch.dense = dparams != NULL;
    net_forward(b->net, b->params, &b->batch, ret_p);
    for (uint32_t h = 0; h < HEADS && b->k->heads[h].weight > 0; h++)
        near_all(b, "prediction", BATCH, p[h], 1, 1, numbers(b, "p.", b->k->heads[h].name));
    const double loss = (double)*numbers(b, "", "loss");
    cr_assert(fabs(net_loss(b->net, &b->batch) - loss) < 1e-5 * fmax(1, loss), "%s: loss", b->k->name);
    net_backward(b->net, b->params, &b->batch, dparams);
    for (uint32_t i = 0; i < INPUTS && b->k->inputs[i].dim > 0; i++) {
        const uint32_t dim = b->k->inputs[i].dim;
        near_all(b, b->k->inputs[i].name, (size_t)BATCH * dim, net_gradient(b->net, i), dim, dim,
                 numbers(b, "gradient.", b->k->inputs[i].name));
    }
}

// In both modes: none of these has statistics, so frozen gives the same gradients to the inputs.
static void check_case(const struct net_case *k, struct golden *g)
{
    struct bench b;
    bench_init(&b, k, g);
    float *dparams = mem_array(net_param_floats(b.net), sizeof *dparams);
    check_run(&b, dparams);
    for (uint32_t i = 0; i < net_param_count(b.net); i++) {
        const struct net_param *p = net_param(b.net, i);
        near_all(&b, p->name, (size_t)p->rows * p->cols, dparams + p->offset, 1, 1,
                 numbers(&b, "gradient.", p->name));
    }
    check_run(&b, NULL);
    net_free(b.net);
    free(b.params);
    free(dparams);
}

Test(multitask, nets_are_those_of_others, .init = gemm_setup)
{
    struct golden g;
    golden_read(&g, "multitask.bin");
    for (uint32_t i = 0; i < CASES; i++)
        check_case(&cases[i], &g);
    golden_done(&g);
}

// A corrected sample (weight below 0) of a head through another takes back what a negative of the product taught.
Test(multitask, a_pair_takes_its_negative_back, .init = gemm_setup)
{
    struct golden g;
    struct bench b;
    golden_read(&g, "multitask.bin");
    bench_init(&b, &cases[CASES - 1], &g);
    float p[HEADS][BATCH], *ret_p[HEADS] = {p[0], p[1], p[2], p[3]}, ones[BATCH], zeros[BATCH] = {0};
    float back[BATCH], *sums[3];
    const float *none = zeros, *weights[HEADS] = {none, back, none, none},
                *labels[HEADS] = {zeros, ones, zeros, zeros};
    for (uint32_t i = 0; i < BATCH; i++)
        ones[i] = 1;
    b.batch.weights = weights;
    b.batch.labels = labels;
    b.batch.dense = true;
    for (uint32_t run = 0; run < 3; run++) { // a positive, a negative, a correction
        for (uint32_t i = 0; i < BATCH; i++)
            back[i] = run == 2 ? -1 : 1;
        labels[1] = run == 1 ? zeros : ones;
        sums[run] = mem_array(net_param_floats(b.net), sizeof(float));
        net_forward(b.net, b.params, &b.batch, ret_p);
        net_backward(b.net, b.params, &b.batch, sums[run]);
    }
    for (size_t i = 0; i < net_param_floats(b.net); i++)
        cr_assert(fabsf(sums[2][i] + sums[1][i] - sums[0][i]) < 1e-4f, "at %zu", i);
    for (uint32_t run = 0; run < 3; run++)
        free(sums[run]);
    net_free(b.net);
    free(b.params);
    golden_done(&g);
}

#define HEAD(head, by, factor)                                              \
    {                                                                       \
        .name = head, .of = "x", .loss = by, .weight = 1, .through = factor \
    }

// A head goes through an earlier one, by the logloss, and no further.
Test(multitask, through_what_is_there)
{
    static const struct {
        struct net_head heads[3];
        const char *message;
    } wrong[] = {
        {{HEAD("a", "logloss", "b"), HEAD("b", "logloss", ""), HEAD("c", "logloss", "")},
         "head \"a\": no earlier head \"b\""},
        {{HEAD("a", "fnw", ""), HEAD("b", "logloss", "a"), HEAD("c", "logloss", "")},
         "head \"b\" through \"a\": both must have the loss logloss"},
        {{HEAD("a", "logloss", ""), HEAD("b", "logloss", "a"), HEAD("c", "logloss", "b")},
         "head \"c\": head \"b\" goes through another itself"},
    };
    const struct net_input input = {"x", .dim = 3};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const struct net_spec spec = {
            .n_inputs = 1, .n_heads = 3, .inputs = &input, .heads = wrong[i].heads, .batch = BATCH};
        struct net *net;
        struct err err;
        cr_assert_lt(net_new(&spec, &net, NULL, &err), 0);
        cr_expect_not_null(strstr(err.message, wrong[i].message), "%s", err.message);
    }
}

// ---- dropout on a gate's output ---------------------------------------------------------------------------

static const struct net_case dropped = {
    "dropped", .inputs = {{"x", .dim = 4}},
    .blocks = {{"experts",
                "experts",
                "x",
                {{"experts", .dims = {5}}, {"count", .number = 3}, {"activation", .text = "none"}}},
               {"mixed", "mmoe", "experts", {{"by", .text = "x"}, {"dropout", .number = 0.5}}}},
    .heads = {{"click", "mixed", "logloss", 1, ""}}};

// Experts that all say the same: whichever are left out, the rest weigh 1 together. With others, training differs
// from predicting, by sample, the same for the same seeds.
static void dropped_run(bool alike, bool training, float *ret_p)
{
    struct net *net = case_net(&dropped);
    struct rng rng = rng_of(5);
    float *params = mem_array(net_param_floats(net), sizeof *params), x[BATCH * 4];
    uint32_t slots[BATCH];
    uint64_t seeds[BATCH];
    net_init(net, 1, params);
    for (uint32_t i = 0; i < net_param_count(net) && alike; i++) {
        const struct net_param *p = net_param(net, i);
        if (strncmp(p->name, "experts.", 8) == 0) // of experts 1 and 2 those of expert 0
            memcpy(params + p->offset, params + net_param(net, i % 2)->offset,
                   (size_t)p->rows * p->cols * sizeof *params);
    }
    for (uint32_t i = 0; i < BATCH * 4; i++)
        x[i] = (float)rng_normal(&rng);
    for (uint32_t i = 0; i < BATCH; i++) {
        slots[i] = i;
        seeds[i] = rng_u64(&rng);
    }
    const uint32_t *slot_ptr = slots, *offsets = NULL;
    const float *numbers_ptr = NULL;
    const struct net_rows table = {x, 4};
    const struct net_batch batch = {.n = BATCH,
                                    .tables = &table,
                                    .slots = &slot_ptr,
                                    .offsets = &offsets,
                                    .numbers = &numbers_ptr,
                                    .training = training,
                                    .seeds = seeds};
    net_forward(net, params, &batch, &ret_p);
    free(params);
    net_free(net);
}

Test(multitask, a_gate_drops_experts_and_weighs_the_rest, .init = gemm_setup)
{
    float all[BATCH], some[BATCH], again[BATCH];
    uint32_t differ = 0;
    dropped_run(true, false, all);
    dropped_run(true, true, some);
    for (uint32_t i = 0; i < BATCH; i++)
        cr_assert(fabsf(all[i] - some[i]) < 1e-6f);
    dropped_run(false, false, all);
    dropped_run(false, true, some);
    dropped_run(false, true, again);
    for (uint32_t i = 0; i < BATCH; i++)
        differ += all[i] != some[i];
    cr_assert_gt(differ, BATCH / 2);
    cr_assert_arr_eq(some, again, sizeof some);
}
