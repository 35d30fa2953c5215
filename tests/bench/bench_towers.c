// SPDX-License-Identifier: Apache-2.0
// What is of the request computed once, and the item's side kept: whole models, tables and lookups with them, one thread.
//
//     training   requests of 20 candidates; beside it the same samples of a net that is told nothing of sides
//     scoring    a request of CANDIDATES; beside it the same, and with the item's outputs kept
//
// 10 ids x 16 of the user, 8 of the item, 2 numbers of the pair, and 50 clicks of the user; tables of 1 M rows, ids
// uniform. Models take turns, and the best turn of each counts.
//
//     bench_towers [CANDIDATES]      default 500
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "models/gemm.h"
#include "models/model.h"
#include "tests/bench/bench.h"

enum {
    DIM = 16,
    USER_IDS = 10,
    ITEM_IDS = 8,
    PAIR_NUMBERS = 2,
    CLICKS = USER_IDS + ITEM_IDS,
    FIRST_NUMBER = CLICKS + 1,
    INPUTS = FIRST_NUMBER + PAIR_NUMBERS,
    HISTORY = 50,
    ROWS = 1000000,
    BATCH = 512,
    SLATE = 20,
    REQUESTS = 128, // of a log in training
    CANDIDATES_MAX = 1000,
    TURNS = 7,
    BLOCKS = 8
};

// `of`: users, items, pairs stand for the inputs of a side; hist for the sequence.
static const struct bench_net {
    const char *name;
    struct bench_block blocks[BLOCKS];
} nets[] = {
    {"mlp 512-256-128",
     {{"mean", "mean", "hist", 0, {{0}}},
      {"top", "mlp", "users mean items pairs", 0, {BENCH_WIDTHS("mlp", 512, 256, 128)}}}},
    {"three towers",
     {{"mean", "mean", "hist", 0, {{0}}},
      {"user", "mlp", "users mean", NET_USER, {BENCH_WIDTHS("mlp", 512, 256, 64)}},
      {"item", "mlp", "items", NET_ITEM, {BENCH_WIDTHS("mlp", 256, 64)}},
      {"match", "hadamard", "user item", 0, {{0}}},
      {"pair", "mlp", "match pairs", 0, {BENCH_WIDTHS("mlp", 32)}},
      {"crossed", "dcn_v2", "user item pair", 0, {{.name = "dcn_v2", .number = 1}}},
      {"top", "mlp", "crossed", 0, {BENCH_WIDTHS("mlp", 64)}}}},
    {"din 64-16 over 50",
     {{"interest", "din", "hist", 0, {BENCH_WIDTHS("din", 64, 16), {.name = "candidate", .text = "i0"}}},
      {"top", "mlp", "users items pairs interest", 0, {BENCH_WIDTHS("mlp", 512, 256, 128)}}}},
};
enum { NETS = sizeof nets / sizeof *nets };

struct data {
    uint32_t n, slate;
    uint64_t *ids[INPUTS];
    uint32_t *offsets, *seen;
    float *numbers[INPUTS], *labels;
    const uint64_t *id_ptrs[INPUTS];
    const uint32_t *offset_ptrs[INPUTS];
    const float *number_ptrs[INPUTS], *label_ptrs[1];
    struct model_samples samples;
};

// ---- models -----------------------------------------------------------------------------------------------

static void input_put(struct net_input *in, const char *prefix, uint32_t i, enum net_input_kind kind,
                      uint32_t side)
{
    *in = (struct net_input){
        .kind = kind, .dim = kind == NET_INPUT_NUMBER ? 1 : DIM, .max_len = HISTORY, .sides = side};
    in->table = side == NET_ITEM || kind == NET_INPUT_SEQUENCE;
    snprintf(in->name, NET_NAME, kind == NET_INPUT_SEQUENCE ? "%s" : "%s%u", prefix, i);
}

static struct model *model_of(const struct bench_net *from, bool sides, bool frozen, uint64_t tower_bytes)
{
    static struct net_input inputs[INPUTS];
    static char of[BLOCKS][INPUTS][NET_NAME];
    struct net_block blocks[BLOCKS];
    struct table_options tables[2] = {{.name = "users"}, {.name = "items"}};
    uint32_t n = 0, at = 0;
    for (uint32_t i = 0; i < USER_IDS; i++)
        input_put(&inputs[at++], "u", i, NET_INPUT_ID, sides ? NET_USER : 0);
    for (uint32_t i = 0; i < ITEM_IDS; i++)
        input_put(&inputs[at++], "i", i, NET_INPUT_ID, sides ? NET_ITEM : 0);
    input_put(&inputs[at++], "hist", 0, NET_INPUT_SEQUENCE, sides ? NET_USER : 0);
    for (uint32_t i = 0; i < PAIR_NUMBERS; i++)
        input_put(&inputs[at++], "p", i, NET_INPUT_NUMBER, sides ? NET_CROSS : 0);
    static const struct bench_group groups[] = {
        {"users", "u", 0, USER_IDS}, {"items", "i", 0, ITEM_IDS}, {"pairs", "p", 0, PAIR_NUMBERS}, {0}};
    for (; n < BLOCKS && from->blocks[n].name != NULL; n++) {
        bench_block_of(&from->blocks[n], groups, of[n], &blocks[n]);
        blocks[n].side = sides ? blocks[n].side : 0;
    }
    const struct net_head head = {.name = "click", .of = "top", .loss = "logloss", .weight = 1};
    for (uint32_t t = 0; t < 2; t++) {
        tables[t].dim = DIM;
        tables[t].rows = ROWS;
        tables[t].admit = 1;
        tables[t].init = 0.05f;
        tables[t].optimizer = (struct optimizer){.kind = OPTIMIZER_ROWWISE_ADAGRAD, .lr = 0.05f};
    }
    for (uint32_t i = 0; i < INPUTS; i++)
        inputs[i].table = inputs[i].table || (i >= USER_IDS && i <= CLICKS);
    const struct model_options options = {.net = {.n_inputs = INPUTS,
                                                  .n_blocks = n,
                                                  .n_heads = 1,
                                                  .inputs = inputs,
                                                  .blocks = blocks,
                                                  .heads = &head,
                                                  .batch = BATCH},
                                          .n_tables = 2,
                                          .tables = tables,
                                          .bootstrap_samples = frozen ? 0 : MODEL_NEVER_FROZEN,
                                          .dense = {.kind = OPTIMIZER_ADAGRAD, .lr = 0.01f},
                                          .epochs = 1,
                                          .auc_samples = 1000,
                                          .tower_bytes = tower_bytes};
    struct model *m;
    struct err err;
    uint32_t block;
    if (model_new(&options, &m, &block, &err) != 0)
        bench_die(from->name, &err);
    return m;
}

// ---- samples ----------------------------------------------------------------------------------------------

static void data_new(struct data *d, uint32_t n, uint32_t slate, uint64_t seed)
{
    struct rng rng = rng_of(seed);
    *d = (struct data){.n = n, .slate = slate};
    for (uint32_t i = 0; i < INPUTS; i++) {
        const bool number = i >= FIRST_NUMBER, user = i < USER_IDS;
        d->ids[i] = mem_array((size_t)n * (i == CLICKS ? HISTORY : 1), sizeof(uint64_t));
        d->numbers[i] = mem_array(n, sizeof(float));
        for (uint32_t s = 0; s < n && number; s++)
            d->numbers[i][s] = (float)rng_uniform(&rng);
        for (uint32_t s = 0; s < n && !number && i != CLICKS; s++)
            d->ids[i][s] = user && s % slate != 0 ? d->ids[i][s - 1] : 1 + rng_below(&rng, ROWS / 2);
        d->id_ptrs[i] = number ? NULL : d->ids[i];
        d->number_ptrs[i] = number ? d->numbers[i] : NULL;
    }
    d->offsets = mem_array((size_t)n + 1, sizeof(uint32_t));
    d->seen = mem_array(n, sizeof(uint32_t));
    d->labels = mem_array(n, sizeof(float));
    for (uint32_t s = 0; s < n; s++) {
        for (uint32_t k = 0; k < HISTORY; k++)
            d->ids[CLICKS][s * HISTORY + k] =
                s % slate != 0 ? d->ids[CLICKS][(s - 1) * HISTORY + k] : 1 + rng_below(&rng, ROWS / 2);
        d->offsets[s + 1] = (s + 1) * HISTORY;
        d->labels[s] = rng_below(&rng, 10) == 0;
        d->seen[s] = 1000;
    }
    d->offset_ptrs[CLICKS] = d->offsets;
    d->label_ptrs[0] = d->labels;
    d->samples = (struct model_samples){.n = n,
                                        .ids = d->id_ptrs,
                                        .offsets = d->offset_ptrs,
                                        .numbers = d->number_ptrs,
                                        .labels = d->label_ptrs,
                                        .seen_s = d->seen};
}

static double train(struct model *m, const struct data *d)
{
    struct model_report report;
    struct model_update *u = model_update_new(m);
    const double began = bench_now_s();
    model_update_feed(u, &d->samples);
    model_update_finish(u, 0, &report);
    const double took = bench_now_s() - began;
    model_update_free(u);
    return took;
}

static double score(struct model *m, const struct data *d)
{
    static float p[CANDIDATES_MAX];
    float *ret_p[1] = {p};
    const double began = bench_now_s();
    model_predict(m, &d->samples, ret_p);
    return bench_now_s() - began;
}

// ---- turns ------------------------------------------------------------------------------------------------

static void least(double *best, double x)
{
    if (*best <= 0 || x < *best)
        *best = x;
}

static void training(const struct bench_net *net, const struct data *d)
{
    double best[2][2] = {{0}}; // frozen, all layers; by sample, by request
    for (uint32_t dense = 0; dense < 2; dense++) {
        struct model *m[2] = {model_of(net, false, dense == 0, 0), model_of(net, true, dense == 0, 0)};
        for (uint32_t turn = 0; turn < TURNS; turn++)
            for (uint32_t k = 0; k < 2; k++)
                least(&best[dense][k], train(m[k], d));
        model_free(m[0]);
        model_free(m[1]);
    }
    printf("%-20s", net->name);
    for (uint32_t dense = 0; dense < 2; dense++)
        printf("  %9.0f  %9.0f  %5.2f", d->n / best[dense][0], d->n / best[dense][1],
               best[dense][0] / best[dense][1]);
    printf("\n");
}

static void scoring(const struct bench_net *net, const struct data *learned, const struct data *d)
{
    double best[3] = {0};
    struct model *m[3] = {model_of(net, false, true, 0), model_of(net, true, true, 0),
                          model_of(net, true, true, 64 << 20)};
    struct model_tower_figures kept;
    model_tower_figures(m[2], &kept);
    for (uint32_t k = 0; k < 3; k++) {
        struct model_report report;
        struct model_update *u = model_update_new(m[k]);
        model_update_feed(u, &learned->samples);
        model_update_feed(u, &d->samples);
        model_update_finish(u, 0, &report);
        model_apply(m[k], u);
    }
    for (uint32_t turn = 0; turn < 5 * TURNS; turn++)
        for (uint32_t k = 0; k < 3; k++)
            least(&best[k], score(m[k], d));
    printf("%-20s  %9.3f  %9.3f", net->name, 1e3 * best[0], 1e3 * best[1]);
    if (kept.capacity > 0)
        printf("  %9.3f", 1e3 * best[2]);
    printf("\n");
    for (uint32_t k = 0; k < 3; k++)
        model_free(m[k]);
}

int main(int argc, char **argv)
{
    const int given = argc > 1 ? atoi(argv[1]) : 500;
    const uint32_t candidates = given > 0 && given <= CANDIDATES_MAX ? (uint32_t)given : 500;
    struct data log, request;
    gemm_setup();
    data_new(&log, REQUESTS * SLATE / BATCH * BATCH, SLATE, 1);
    data_new(&request, candidates, candidates, 2);
    printf("training, samples/s, %u candidates a request\n", SLATE);
    printf("%-20s  %27s  %27s\n", "", "frozen", "all layers");
    printf("%-20s  %9s  %9s  %5s  %9s  %9s  %5s\n", "", "by sample", "by reques", "gain", "by sample",
           "by reques", "gain");
    for (uint32_t i = 0; i < NETS; i++)
        training(&nets[i], &log);
    printf("\nscoring %u candidates, ms\n", candidates);
    printf("%-20s  %9s  %9s  %9s\n", "", "by sample", "by reques", "and items");
    for (uint32_t i = 0; i < NETS; i++)
        scoring(&nets[i], &log, &request);
    return 0;
}
