// SPDX-License-Identifier: Apache-2.0
// How fast a training step of the net is: MLP 20 embeddings x 16 = 320 -> 512 -> 256 -> 128 -> 1, batches of
// 512, ids uniform over a table of 1 M rows, one thread; the gather of the rows is in, the update of the
// table is not. Frozen, and to predict, with weights that are packed once (models/packed.h), as the model runs it, and by
// the BLAS; beside it the bare products of the same shapes, the best that the BLAS can give. In CPU time; ways take
// turns, and the best turn of each counts, since the machine is shared. With the table's update, and beside PyTorch:
// bench_step.c.
//
//     bench_train [bf16]      with packed weights in bf16
#include "base/mem.h"
#include "base/rng.h"
#include "models/gemm.h"
#include "models/net.h"
#include "tests/bench/bench.h"

enum {
    FIELDS = 20,
    DIM = 16,
    BATCH = 512,
    ROWS = 1000000,
    STRIDE = 21,
    BATCHES = 64,
    FEW = 10, // candidates of a small request
    TURNS = 15,
    STEPS = 12
};

static const uint32_t widths[] = {FIELDS * DIM, 512, 256, 128};

struct bench {
    struct net *net, *blas; // with packed weights, and without
    float *params, *dparams, *accum, *vectors;
    uint32_t *slots; // BATCHES x FIELDS x BATCH
    float labels[BATCH], p[BATCH];
    float *x, *w, *y; // operands of the bare products
    uint32_t step;
    double sum; // keeps results alive
};

static struct net *bench_net(void)
{
    static struct net_input inputs[FIELDS];
    static char of[FIELDS][NET_NAME];
    static const struct bench_group groups[] = {{"fields", "f", 0, FIELDS}, {0}};
    static const struct bench_block bottom = {
        "bottom", "mlp", "fields", 0, {BENCH_WIDTHS("mlp", 512, 256, 128)}};
    for (uint32_t i = 0; i < FIELDS; i++) {
        inputs[i] = (struct net_input){.kind = NET_INPUT_ID, .dim = DIM};
        snprintf(inputs[i].name, NET_NAME, "f%u", i);
    }
    struct net_block block;
    bench_block_of(&bottom, groups, of, &block);
    struct net_head head = {.name = "click", .of = "bottom", .loss = "logloss", .weight = 1};
    struct net_spec spec = {.n_inputs = FIELDS,
                            .n_blocks = 1,
                            .n_heads = 1,
                            .inputs = inputs,
                            .blocks = &block,
                            .heads = &head,
                            .batch = BATCH};
    struct net *net;
    struct err err;
    if (net_new(&spec, &net, NULL, &err) < 0)
        bench_die("mlp", &err);
    return net;
}

static float *random_floats(size_t n, struct rng *rng)
{
    float *p = mem_map(n * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(0.1 * (2 * rng_uniform(rng) - 1));
    return p;
}

static void bench_init(struct bench *b, enum packed_kernel kernel)
{
    struct rng rng = rng_of(1);
    b->net = bench_net();
    b->blas = bench_net();
    b->params = mem_array(net_param_floats(b->net), sizeof(float));
    b->dparams = mem_array(net_param_floats(b->net), sizeof(float));
    b->accum = mem_array(net_param_floats(b->net), sizeof(float));
    net_init(b->net, 1, b->params);
    net_pack(b->net, kernel, b->params);
    b->vectors = random_floats((size_t)ROWS * STRIDE, &rng);
    b->slots = mem_array((size_t)BATCHES * FIELDS * BATCH, sizeof *b->slots);
    for (size_t i = 0; i < (size_t)BATCHES * FIELDS * BATCH; i++)
        b->slots[i] = (uint32_t)rng_below(&rng, ROWS);
    for (uint32_t i = 0; i < BATCH; i++)
        b->labels[i] = rng_below(&rng, 10) == 0;
    b->x = random_floats(512 * 512, &rng);
    b->w = random_floats(512 * 512, &rng);
    b->y = random_floats(512 * 512, &rng);
}

static void bench_step(struct bench *b, struct net *net, uint32_t samples, bool backward, bool dense)
{
    const uint32_t *slots[FIELDS];
    for (uint32_t i = 0; i < FIELDS; i++)
        slots[i] = b->slots + ((size_t)(b->step % BATCHES) * FIELDS + i) * BATCH;
    const float *labels[] = {b->labels};
    float *p[] = {b->p};
    struct net_rows table = {b->vectors, STRIDE};
    struct net_batch batch = {
        .n = samples, .tables = &table, .slots = slots, .labels = labels, .dense = dense};
    b->step++;
    net_forward(net, b->params, &batch, p);
    b->sum += (double)b->p[0];
    if (!backward)
        return;
    const size_t n = net_param_floats(net);
    for (size_t i = 0; i < n && dense; i++)
        b->dparams[i] = 0;
    net_backward(net, b->params, &batch, dense ? b->dparams : NULL);
    if (dense)
        optimizer_adagrad(n, b->params, b->accum, b->dparams, 0.001f);
    size_t stride;
    b->sum += (double)*net_gradient_rows(net, 0, &stride);
}

static void way_predict(struct bench *b)
{
    bench_step(b, b->net, BATCH, false, false);
}

static void way_predict_blas(struct bench *b)
{
    bench_step(b, b->blas, BATCH, false, false);
}

static void way_score(struct bench *b)
{
    bench_step(b, b->net, FEW, false, false);
}

static void way_score_blas(struct bench *b)
{
    bench_step(b, b->blas, FEW, false, false);
}

static void way_frozen(struct bench *b)
{
    bench_step(b, b->net, BATCH, true, false);
}

static void way_frozen_blas(struct bench *b)
{
    bench_step(b, b->blas, BATCH, true, false);
}

static void way_dense(struct bench *b) // by the BLAS: no weight stays
{
    bench_step(b, b->blas, BATCH, true, true);
}

static void products(struct bench *b, bool backward, bool dense)
{
    for (uint32_t i = 0; i < 3; i++)
        gemm_nt(BATCH, widths[i + 1], widths[i], b->x, b->w, b->y);
    for (uint32_t i = 3; i-- > 0 && backward;) {
        gemm_nn(BATCH, widths[i + 1], widths[i], b->x, b->w, 0, b->y);
        if (dense)
            gemm_tn(BATCH, widths[i + 1], widths[i], b->x, b->w, b->y);
    }
}

static void way_predict_bare(struct bench *b)
{
    products(b, false, false);
}

static void way_frozen_bare(struct bench *b)
{
    products(b, true, false);
}

static void way_dense_bare(struct bench *b)
{
    products(b, true, true);
    for (size_t i = 0; i < 512 * 512; i++)
        b->y[i] = 0.01f; // or the sums would grow to infinity
}

int main(int argc, char **argv)
{
    static struct bench b;
    static const struct {
        const char *name;
        void (*run)(struct bench *b);
        bool backward, dense;
        uint32_t samples;
    } ways[] = {
        {"predict", way_predict, false, false, BATCH},
        {"  bare products", way_predict_bare, false, false, BATCH},
        {"predict by BLAS", way_predict_blas, false, false, BATCH},
        {"train, FC frozen", way_frozen, true, false, BATCH},
        {"  bare products", way_frozen_bare, true, false, BATCH},
        {"train, FC by BLAS", way_frozen_blas, true, false, BATCH},
        {"train, all layers", way_dense, true, true, BATCH},
        {"  bare products", way_dense_bare, true, true, BATCH},
        {"score 10", way_score, false, false, FEW},
        {"score 10 by BLAS", way_score_blas, false, false, FEW},
    };
    enum { WAYS = sizeof ways / sizeof *ways };
    struct err err;
    enum packed_kernel kernel;
    gemm_setup();
    const bool bf16 = argc > 1 && strcmp(argv[1], "bf16") == 0;
    if (packed_kernel_choose(bf16 ? PACKED_BF16 : PACKED_AUTO, &kernel, &err) != 0)
        bench_die("kernel", &err);
    bench_init(&b, kernel);
    double best[WAYS];
    for (uint32_t turn = 0; turn < TURNS + 1; turn++)
        for (uint32_t i = 0; i < WAYS; i++) {
            double t = bench_now_s();
            for (uint32_t s = 0; s < STEPS; s++)
                ways[i].run(&b);
            t = (bench_now_s() - t) / STEPS;
            best[i] = turn <= 1 || t < best[i] ? t : best[i]; // the first only warms up
        }
    printf("%s, %s, batch %d\n", gemm_kernel(), packed_kernel_name(kernel), BATCH);
    for (uint32_t i = 0; i < WAYS; i++)
        printf("%-20s %8.0f samples/s %7.1f GFLOP/s %7.0f us a batch\n", ways[i].name,
               ways[i].samples / best[i],
               net_flops(b.net, ways[i].dense, ways[i].backward) * ways[i].samples / best[i] * 1e-9,
               best[i] * 1e6);
    return b.sum > 1e30;
}
