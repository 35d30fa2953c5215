// SPDX-License-Identifier: Apache-2.0
// How fast a training step of a net is: each net of `nets` over 20 embeddings x 16, batches of 512, or of 256 with a
// sequence of 50 beside them, ids uniform over a table of 1 M rows, one thread; the gather of the rows is in, the update of the table is not. Nets take turns, and the
// best turn of each counts, since the machine is shared. A net is a row of `nets` and the blocks that it is made of.
//
//     bench_nets [NAME ...]      those whose names begin so; all without
#include "base/mem.h"
#include "base/rng.h"
#include "models/gemm.h"
#include "models/net.h"
#include "tests/bench/bench.h"

enum {
    FIELDS = 20,
    DIM = 16,
    BATCH = 512,
    HISTORY = 50,
    INPUTS = FIELDS + 1,
    ROWS = 1000000,
    STRIDE = 21,
    BATCHES = 16,
    TURNS = 7,
    STEPS = 6,
    BLOCKS = 6
};

#define DEEP(of)                                 \
    {                                            \
        "deep", "mlp", of, 0,                    \
        {                                        \
            {                                    \
                "mlp", .dims = { 512, 256, 128 } \
            }                                    \
        }                                        \
    }

static const struct bench_net {
    const char *name, *top; // top: what the head reads
    struct bench_block blocks[BLOCKS];
} nets[] = {
    {"mlp", "deep", {DEEP("fields")}},
    {"mlp, batch norm",
     "deep",
     {{"deep", "mlp", "fields", 0, {{"mlp", .dims = {512, 256, 128}}, {"norm", .text = "batch"}}}}},
    {"mlp, layer norm",
     "deep",
     {{"deep", "mlp", "fields", 0, {{"mlp", .dims = {512, 256, 128}}, {"norm", .text = "layer"}}}}},
    {"mlp, dice",
     "deep",
     {{"deep", "mlp", "fields", 0, {{"mlp", .dims = {512, 256, 128}}, {"activation", .text = "dice"}}}}},
    {"mlp, dropout",
     "deep",
     {{"deep", "mlp", "fields", 0, {{"mlp", .dims = {512, 256, 128}}, {"dropout", .number = 0.2}}}}},
    {"fm", "pairs", {{"pairs", "fm", "fields", 0, {{0}}}}},
    {"senet", "deep", {{"weighed", "senet", "fields", 0, {{0}}}, DEEP("weighed")}},
    {"dcn_v2",
     "top",
     {{"cross", "dcn_v2", "fields", 0, {{"dcn_v2", .number = 3}}},
      DEEP("fields"),
      {"top", "concat", "cross deep", 0, {{0}}}}},
    {"dcn_v2, rank 32",
     "top",
     {{"cross", "dcn_v2", "fields", 0, {{"dcn_v2", .number = 3}, {"rank", .number = 32}}},
      DEEP("fields"),
      {"top", "concat", "cross deep", 0, {{0}}}}},
    {"fibinet",
     "deep",
     {{"weighed", "senet", "fields", 0, {{0}}},
      {"pairs", "bilinear", "fields", 0, {{"bilinear", .text = "interaction"}}},
      {"weighed_pairs", "bilinear", "weighed", 0, {{"bilinear", .text = "interaction"}}},
      DEEP("fields pairs weighed_pairs")}},
    {"fibinet, dot",
     "deep",
     {{"weighed", "senet", "fields", 0, {{0}}},
      {"pairs", "bilinear", "fields", 0, {{"bilinear", .text = "interaction"}, {"output", .text = "dot"}}},
      {"weighed_pairs",
       "bilinear",
       "weighed",
       0,
       {{"bilinear", .text = "interaction"}, {"output", .text = "dot"}}},
      DEEP("fields pairs weighed_pairs")}},
    {"fibinet, dot, all",
     "deep",
     {{"weighed", "senet", "fields", 0, {{0}}},
      {"pairs", "bilinear", "fields", 0, {{"bilinear", .text = "all"}, {"output", .text = "dot"}}},
      {"weighed_pairs", "bilinear", "weighed", 0, {{"bilinear", .text = "all"}, {"output", .text = "dot"}}},
      DEEP("fields pairs weighed_pairs")}},
    {"mmoe",
     "top",
     {{"experts", "experts", "fields", 0, {{"experts", .dims = {256, 128}}, {"count", .number = 4}}},
      {"top", "mmoe", "experts", 0, {{"by", .text = "f0"}}}}},
    {"ppnet",
     "deep",
     {{"deep", "lhuc", "fields", 0, {{"lhuc", .dims = {512, 256, 128}}, {"by", .text = "f0"}}}}},
    {"din",
     "deep",
     {{"hist", "din", "history", 0, {{"din", .dims = {64, 16}}, {"candidate", .text = "f0"}}},
      DEEP("fields hist")}},
    {"din, dice",
     "deep",
     {{"hist",
       "din",
       "history",
       0,
       {{"din", .dims = {64, 16}}, {"candidate", .text = "f0"}, {"activation", .text = "dice"}}},
      DEEP("fields hist")}},
    {"sim, none",
     "deep",
     {{"hist", "sim", "history", 0, {{"candidate", .text = "f0"}, {"search", .text = "none"}}},
      DEEP("fields hist")}},
    {"sim, soft 10",
     "deep",
     {{"hist", "sim", "history", 0, {{"candidate", .text = "f0"}, {"k", .number = 10}}},
      DEEP("fields hist")}},
    {"mean", "deep", {{"hist", "mean", "history", 0, {{0}}}, DEEP("fields hist")}},
};
enum { NETS = sizeof nets / sizeof *nets, WAYS = 5 };

static const struct bench_way {
    const char *name;
    bool packed, backward, dense;
} ways[WAYS] = {
    {"predict", true, false, false}, {"by BLAS", false, false, false},  {"FC frozen", true, true, false},
    {"by BLAS", false, true, false}, {"all layers", false, true, true},
};

struct bench {
    struct net *net, *blas; // with packed weights, and without
    uint32_t batch;
    float *params, *dparams, *accum;
    double best[WAYS]; // seconds a step
};

struct bench_data {
    float *vectors;
    uint32_t *slots;   // BATCHES x FIELDS x BATCH
    uint32_t *history; // BATCHES x BATCH x HISTORY
    uint32_t offsets[BATCH + 1];
    uint64_t seeds[BATCH];
    float labels[BATCH], p[BATCH];
    uint32_t step;
    double sum; // keeps results alive
};

static uint32_t batch_of(const struct bench_net *from)
{
    for (uint32_t i = 0; i < BLOCKS && from->blocks[i].name != NULL; i++)
        if (strcmp(from->blocks[i].of, "history") == 0)
            return BATCH / 2;
    return BATCH;
}

static struct net *net_of(const struct bench_net *from)
{
    static struct net_input inputs[INPUTS];
    static char of[BLOCKS][FIELDS + BLOCKS][NET_NAME];
    static const struct bench_group groups[] = {{"fields", "f", 0, FIELDS}, {0}};
    struct net_block blocks[BLOCKS];
    uint32_t n = 0;
    for (uint32_t i = 0; i < FIELDS; i++) {
        inputs[i] = (struct net_input){.kind = NET_INPUT_ID, .dim = DIM};
        snprintf(inputs[i].name, NET_NAME, "f%u", i);
    }
    inputs[FIELDS] =
        (struct net_input){.name = "history", .kind = NET_INPUT_SEQUENCE, .dim = DIM, .max_len = HISTORY};
    for (; n < BLOCKS && from->blocks[n].name != NULL; n++)
        bench_block_of(&from->blocks[n], groups, of[n], &blocks[n]);
    struct net_head head = {.name = "click", .loss = "logloss", .weight = 1};
    snprintf(head.of, NET_NAME, "%s", from->top);
    const struct net_spec spec = {.n_inputs = INPUTS,
                                  .n_blocks = n,
                                  .n_heads = 1,
                                  .inputs = inputs,
                                  .blocks = blocks,
                                  .heads = &head,
                                  .batch = batch_of(from)};
    struct net *net;
    struct err err;
    if (net_new(&spec, &net, NULL, &err) < 0)
        bench_die(from->name, &err);
    return net;
}

static void bench_init(struct bench *b, const struct bench_net *from, enum packed_kernel kernel)
{
    b->net = net_of(from);
    b->blas = net_of(from);
    b->batch = batch_of(from);
    b->params = mem_array(net_param_floats(b->net), sizeof(float));
    b->dparams = mem_array(net_param_floats(b->net), sizeof(float));
    b->accum = mem_array(net_param_floats(b->net), sizeof(float));
    net_init(b->net, 1, b->params);
    net_pack(b->net, kernel, b->params);
}

static void data_init(struct bench_data *d)
{
    struct rng rng = rng_of(1);
    d->vectors = mem_map((size_t)ROWS * STRIDE * sizeof *d->vectors);
    for (size_t i = 0; i < (size_t)ROWS * STRIDE; i++)
        d->vectors[i] = (float)(0.1 * (2 * rng_uniform(&rng) - 1));
    d->slots = mem_array((size_t)BATCHES * FIELDS * BATCH, sizeof *d->slots);
    for (size_t i = 0; i < (size_t)BATCHES * FIELDS * BATCH; i++)
        d->slots[i] = (uint32_t)rng_below(&rng, ROWS);
    d->history = mem_array((size_t)BATCHES * BATCH * HISTORY, sizeof *d->history);
    for (size_t i = 0; i < (size_t)BATCHES * BATCH * HISTORY; i++)
        d->history[i] = (uint32_t)rng_below(&rng, ROWS);
    for (uint32_t i = 0; i < BATCH; i++) {
        d->offsets[i + 1] = (i + 1) * HISTORY;
        d->labels[i] = rng_below(&rng, 10) == 0;
        d->seeds[i] = rng_u64(&rng);
    }
}

static void bench_step(struct bench *b, struct bench_data *d, const struct bench_way *way)
{
    struct net *net = way->packed ? b->net : b->blas;
    const uint32_t *slots[INPUTS], *offsets[INPUTS] = {NULL};
    for (uint32_t i = 0; i < FIELDS; i++)
        slots[i] = d->slots + ((size_t)(d->step % BATCHES) * FIELDS + i) * BATCH;
    slots[FIELDS] = d->history + (size_t)(d->step % BATCHES) * BATCH * HISTORY;
    offsets[FIELDS] = d->offsets;
    const float *labels[] = {d->labels};
    float *p[] = {d->p};
    const struct net_rows table = {d->vectors, STRIDE};
    const bool dense = way->dense;
    const struct net_batch batch = {.n = b->batch,
                                    .tables = &table,
                                    .slots = slots,
                                    .offsets = offsets,
                                    .labels = labels,
                                    .training = way->backward,
                                    .dense = dense,
                                    .seeds = d->seeds};
    const size_t n = net_param_floats(b->net);
    d->step++;
    net_forward(net, b->params, &batch, p);
    d->sum += (double)d->p[0];
    if (dense)
        memset(b->dparams, 0, n * sizeof *b->dparams);
    if (way->backward)
        net_backward(net, b->params, &batch, dense ? b->dparams : NULL);
    if (dense)
        net_step(net, &(struct optimizer){.lr = 0.001f}, &(struct optimizer_at){.step = 1},
                 1 / (float)b->batch, b->params, b->accum, b->dparams);
}

int main(int argc, char **argv)
{
    static struct bench benches[NETS];
    static struct bench_data d;
    struct err err;
    enum packed_kernel kernel;
    gemm_setup();
    if (packed_kernel_choose(PACKED_AUTO, &kernel, &err) != 0)
        return 1;
    data_init(&d);
    for (uint32_t i = 0; i < NETS; i++)
        if (bench_chosen(argc, argv, nets[i].name))
            bench_init(&benches[i], &nets[i], kernel);
    for (uint32_t turn = 0; turn < TURNS + 1; turn++)
        for (uint32_t i = 0; i < NETS; i++)
            for (uint32_t way = 0; way < WAYS && benches[i].net != NULL; way++) {
                double t = bench_now_s();
                for (uint32_t s = 0; s < STEPS; s++)
                    bench_step(&benches[i], &d, &ways[way]);
                t = (bench_now_s() - t) / STEPS;
                if (turn <= 1 || t < benches[i].best[way]) // the first only warms up
                    benches[i].best[way] = t;
            }
    printf("%s, %s, batch %d (256 with a sequence), %d fields x %d; samples/s of CPU time, GFLOP/s\n",
           gemm_kernel(), packed_kernel_name(kernel), BATCH, FIELDS, DIM);
    printf("%-20s", "");
    for (uint32_t way = 0; way < WAYS; way++)
        printf(" %10s %5s ", ways[way].name, "");
    printf("\n");
    for (uint32_t i = 0; i < NETS; i++) {
        if (benches[i].net == NULL)
            continue;
        printf("%-20s", nets[i].name);
        for (uint32_t way = 0; way < WAYS; way++)
            printf(" %10.0f %5.1f ", benches[i].batch / benches[i].best[way],
                   net_flops(benches[i].net, ways[way].dense, ways[way].backward) * benches[i].batch /
                       benches[i].best[way] * 1e-9);
        printf("\n");
    }
    return d.sum > 1e30;
}
