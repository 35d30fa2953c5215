// SPDX-License-Identifier: Apache-2.0
// What of a stack of fully connected layers differs between training and predicting: dropout, and statistics. That
// the numbers are right is tested in test_layers.c and test_layer_golden.c.
#include "models/fc.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/gemm.h"
#include "models/plan.h"

TestSuite(fc, .init = gemm_setup);

enum { BATCH = 50, DIM = 4, WIDE = 100 };

struct bench {
    struct net *net;
    float vectors[BATCH * DIM], p[BATCH], labels[BATCH];
    uint32_t slots[BATCH];
    uint64_t seeds[BATCH];
    float *params, *gradient, *accum;
};

// mlp: [100] over one input, with options.
static void bench_init(struct bench *b, struct layer_value first, struct layer_value second)
{
    char of[1][NET_NAME] = {"x"};
    const struct net_input input = {.name = "x", .kind = NET_INPUT_ID, .dim = DIM};
    const struct net_block block = {.name = "deep",
                                    .kind = "mlp",
                                    .n_of = 1,
                                    .of = of,
                                    .options = {{"mlp", .dims = {WIDE}}, first, second}};
    const struct net_head head = {.name = "click", .of = "deep", .loss = "logloss", .weight = 1};
    const struct net_spec spec = {.n_inputs = 1,
                                  .n_blocks = 1,
                                  .n_heads = 1,
                                  .inputs = &input,
                                  .blocks = &block,
                                  .heads = &head,
                                  .batch = BATCH};
    struct rng rng = rng_of(3);
    struct err err;
    *b = (struct bench){0};
    cr_assert_eq(net_new(&spec, &b->net, NULL, &err), 0, "%s", err.message);
    b->params = mem_array(net_param_floats(b->net), sizeof(float));
    b->gradient = mem_array(net_param_floats(b->net), sizeof(float));
    b->accum = mem_array(net_param_floats(b->net), sizeof(float));
    net_init(b->net, 1, b->params);
    for (uint32_t i = 0; i < BATCH * DIM; i++)
        b->vectors[i] = (float)rng_normal(&rng);
    for (uint32_t i = 0; i < BATCH; i++) {
        b->slots[i] = i;
        b->seeds[i] = rng_u64(&rng);
        b->labels[i] = i % 3 == 0;
    }
}

static void bench_done(struct bench *b)
{
    net_free(b->net);
    free(b->params);
    free(b->gradient);
    free(b->accum);
}

static void run(struct bench *b, uint32_t n, bool training, bool dense)
{
    const struct net_rows table = {b->vectors, DIM};
    const uint32_t *slots[] = {b->slots}, *offsets[] = {NULL};
    const float *labels[] = {b->labels};
    float *p[] = {b->p};
    const struct net_batch batch = {.n = n,
                                    .tables = &table,
                                    .slots = slots,
                                    .offsets = offsets,
                                    .labels = labels,
                                    .training = training,
                                    .dense = dense,
                                    .seeds = b->seeds};
    net_forward(b->net, b->params, &batch, p);
    memset(b->gradient, 0, net_param_floats(b->net) * sizeof *b->gradient);
    if (training)
        net_backward(b->net, b->params, &batch, dense ? b->gradient : NULL);
}

static const struct value *output(const struct bench *b)
{
    return b->net->block_values[0];
}

Test(fc, only_what_differs_is_stochastic)
{
    static const struct {
        struct layer_value option;
        bool stochastic;
    } cases[] = {
        {{"dropout", .number = 0}, false},      {{"dropout", .number = 0.1}, true},
        {{"norm", .text = "batch"}, true},      {{"norm", .text = "layer"}, false},
        {{"activation", .text = "dice"}, true}, {{"activation", .text = "prelu"}, false},
        {{"last", .text = "dice"}, true},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b;
        bench_init(&b, cases[i].option, (struct layer_value){.name = NULL});
        cr_assert_eq(net_stochastic(b.net), cases[i].stochastic, "%u", i);
        bench_done(&b);
    }
}

Test(fc, dropout_is_the_seeds)
{
    struct bench b;
    bench_init(&b, (struct layer_value){.name = "dropout", .number = 0.25},
               (struct layer_value){.name = "activation", .text = "none"});
    static float plain[BATCH * WIDE], dropped[BATCH * WIDE];
    run(&b, BATCH, false, false);
    memcpy(plain, output(&b)->x, sizeof plain);
    run(&b, BATCH, true, false);
    memcpy(dropped, output(&b)->x, sizeof dropped);
    uint32_t zeros = 0, alike = 0;
    for (uint32_t i = 0; i < BATCH * WIDE; i++) {
        zeros += dropped[i] == 0;
        alike += i >= WIDE && (dropped[i] == 0) == (dropped[i - WIDE] == 0);
        cr_assert(dropped[i] == 0 || fabsf(dropped[i] - plain[i] / 0.75f) < 1e-5f);
    }
    cr_assert(zeros > 1100 && zeros < 1400, "%u of 5000", zeros);
    cr_assert(alike > 2900 && alike < 3250, "%u of 4900", alike); // .25^2 + .75^2
    for (uint32_t i = 0; i < BATCH; i++)
        b.slots[i] = 0; // other inputs, the same seeds
    run(&b, BATCH, true, true);
    for (uint32_t i = 0; i < BATCH * WIDE; i++)
        cr_assert_eq(output(&b)->x[i] == 0, dropped[i] == 0);
    bench_done(&b);
}

// Statistics go towards the batch's while the dense layers train; frozen, and by one row, they are used as they are.
Test(fc, running_statistics)
{
    struct bench b;
    bench_init(&b, (struct layer_value){.name = "norm", .text = "batch"},
               (struct layer_value){.name = "momentum", .number = 0.5});
    const struct net_param *mean = net_param(b.net, 4), *var = net_param(b.net, 5);
    cr_assert_str_eq(mean->name, "deep.1.running_mean");
    cr_assert(!mean->trainable && !var->trainable && b.params[mean->offset] == 0 &&
              b.params[var->offset] == 1);
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < BATCH; i++) {
        double z = (double)b.params[net_param(b.net, 1)->offset];
        for (uint32_t d = 0; d < DIM; d++)
            z += (double)b.params[d] * (double)b.vectors[i * DIM + d];
        sum += z;
        squares += z * z;
    }
    const double e = sum / BATCH, v = (squares - sum * e) / (BATCH - 1);
    for (double left = 1; left > 0.1; left /= 2) {
        cr_assert(fabs((double)b.params[mean->offset] - e * (1 - left)) < 1e-5);
        cr_assert(fabs((double)b.params[var->offset] - (v + (1 - v) * left)) < 1e-5);
        run(&b, BATCH, true, true);
        net_step(b.net, &(struct optimizer){0}, &(struct optimizer_at){.step = 1}, 1, b.params, b.accum,
                 b.gradient);
    }
    run(&b, BATCH, true, false);
    const float frozen = output(&b)->x[7];
    run(&b, BATCH, false, false);
    cr_assert_eq(output(&b)->x[7], frozen);
    run(&b, 1, true, true);
    cr_assert_eq(output(&b)->x[7], frozen);
    cr_assert(b.gradient[mean->offset] == 0 && b.gradient[var->offset] == 0);
    bench_done(&b);
}
