// SPDX-License-Identifier: Apache-2.0
// Training steps of a model, FC frozen, by the kernels that this processor has: the three nets of bench_torch.py, ids
// uniform over a table of 1 M rows, one thread, in CPU time. Ways take turns, and the best turn of each counts, since the
// machine is shared.
//
//     net       rows gathered, forward, backward to the gradient of each id
//     step      ids found and counted, net, row-wise Adagrad of the rows, metrics: what is trained on, whole
//     update    model_update_new to model_apply over BATCHES batches: steps, and before each its samples predicted by the
//               version before, rows copied at first touch, the model changed at the end
//     layers    step, with all layers trained by Adagrad
//
// One line each: NET KERNEL WAY samples/s GFLOP/s
//
//     bench_step [NET ...]      those whose names begin so; all without
#include "base/mem.h"
#include "base/rng.h"
#include "models/gemm.h"
#include "models/model.h"
#include "tests/bench/bench.h"

enum {
    FIELDS = 20,
    USER_FIELDS = 6, // of two towers, beside NUMBERS; then the item's
    ITEM_FIELDS = 4,
    NUMBERS = 8,
    INPUTS = FIELDS + 1,
    DIM = 16,
    BATCH = 512,
    HISTORY = 50,
    ROWS = 1000000,
    BATCHES = 32,
    TURNS = 6,
    BLOCKS = 3
};

static const struct bench_net {
    const char *name;
    uint32_t batch, fields, numbers, history;
    struct bench_block blocks[BLOCKS]; // the last is what the head reads
} nets[] = {
    {"mlp", BATCH, FIELDS, 0, 0, {{"top", "mlp", "fields", 0, {BENCH_WIDTHS("mlp", 512, 256, 128)}}}},
    {"din",
     BATCH / 2,
     FIELDS,
     0,
     HISTORY,
     {{"interest", "din", "history", 0, {BENCH_WIDTHS("din", 64, 16), {"candidate", .text = "f0"}}},
      {"top", "mlp", "fields interest", 0, {BENCH_WIDTHS("mlp", 512, 256, 128)}}}},
    {"two_towers",
     BATCH,
     USER_FIELDS + ITEM_FIELDS,
     NUMBERS,
     0,
     {{"user", "mlp", "users numbers", 0, {BENCH_WIDTHS("mlp", 256, 128, 64)}},
      {"item", "mlp", "items", 0, {BENCH_WIDTHS("mlp", 256, 128, 64)}},
      {"top", "hadamard", "user item", 0, {{0}}}}},
};
enum { NETS = sizeof nets / sizeof *nets };

// ---- models -----------------------------------------------------------------------------------------------

static uint32_t inputs_of(const struct bench_net *net, struct net_input *inputs)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < net->fields; i++, n++) {
        inputs[n] = (struct net_input){.kind = NET_INPUT_ID, .dim = DIM};
        snprintf(inputs[n].name, NET_NAME, "f%u", i);
    }
    for (uint32_t i = 0; i < net->numbers; i++, n++) {
        inputs[n] = (struct net_input){.kind = NET_INPUT_NUMBER, .dim = 1};
        snprintf(inputs[n].name, NET_NAME, "n%u", i);
    }
    if (net->history > 0)
        inputs[n++] = (struct net_input){
            .name = "history", .kind = NET_INPUT_SEQUENCE, .dim = DIM, .max_len = net->history};
    return n;
}

static struct model *model_of(const struct bench_net *from, enum packed_kernel kernel, bool frozen)
{
    static struct net_input inputs[INPUTS];
    static char of[BLOCKS][INPUTS][NET_NAME];
    struct net_block blocks[BLOCKS];
    uint32_t n = 0;
    const struct bench_group groups[] = {{"fields", "f", 0, from->fields},
                                         {"users", "f", 0, USER_FIELDS},
                                         {"numbers", "n", 0, from->numbers},
                                         {"items", "f", USER_FIELDS, ITEM_FIELDS},
                                         {0}};
    for (; n < BLOCKS && from->blocks[n].name != NULL; n++)
        bench_block_of(&from->blocks[n], groups, of[n], &blocks[n]);
    const struct net_head head = {.name = "click", .of = "top", .loss = "logloss", .weight = 1};
    const struct table_options table = {
        .name = "ids",
        .dim = DIM,
        .rows = ROWS,
        .admit = 1,
        .init = 0.05f,
        .optimizer = {.kind = OPTIMIZER_ROWWISE_ADAGRAD, .lr = 0.05f},
    };
    const struct model_options options = {.net = {.n_inputs = inputs_of(from, inputs),
                                                  .n_blocks = n,
                                                  .n_heads = 1,
                                                  .inputs = inputs,
                                                  .blocks = blocks,
                                                  .heads = &head,
                                                  .batch = from->batch},
                                          .n_tables = 1,
                                          .tables = &table,
                                          .bootstrap_samples = frozen ? 0 : MODEL_NEVER_FROZEN,
                                          .dense = {.kind = OPTIMIZER_ADAGRAD, .lr = 0.01f},
                                          .epochs = 1,
                                          .auc_samples = 1 << 20,
                                          .kernel = kernel};
    struct model *m;
    struct err err;
    uint32_t block;
    if (model_new(&options, &m, &block, &err) != 0)
        bench_die(from->name, &err);
    return m;
}

// ---- samples ----------------------------------------------------------------------------------------------

// BATCHES batches, one after the other in each column.
struct data {
    uint32_t n, inputs;
    uint64_t *ids[INPUTS];
    float *numbers[INPUTS], *labels;
    uint32_t *seen, *offsets;
};

static void data_new(struct data *d, const struct bench_net *net)
{
    struct rng rng = rng_of(1);
    const uint32_t n = BATCHES * net->batch;
    *d = (struct data){.n = n, .inputs = net->fields + net->numbers + (net->history > 0)};
    for (uint32_t i = 0; i < d->inputs; i++) {
        const bool number = i >= net->fields && net->history == 0;
        const size_t each = i < net->fields ? 1 : net->history;
        d->ids[i] = number ? NULL : mem_array(n * each, sizeof(uint64_t));
        for (size_t k = 0; k < n * each && !number; k++)
            d->ids[i][k] = 1 + rng_below(&rng, ROWS);
        d->numbers[i] = number ? mem_array(n, sizeof(float)) : NULL;
        for (size_t k = 0; k < n && number; k++)
            d->numbers[i][k] = (float)rng_uniform(&rng);
    }
    d->labels = mem_array(n, sizeof(float));
    d->seen = mem_array((size_t)n * (net->history + 1), sizeof(uint32_t));
    d->offsets = mem_array((size_t)n + 1, sizeof(uint32_t));
    for (uint32_t i = 0; i < n; i++) {
        d->labels[i] = rng_below(&rng, 10) == 0;
        d->offsets[i + 1] = (i + 1) * net->history;
    }
    for (size_t i = 0; i < (size_t)n * (net->history + 1); i++)
        d->seen[i] = 1000;
}

static void data_done(struct data *d)
{
    for (uint32_t i = 0; i < d->inputs; i++) {
        free(d->ids[i]);
        free(d->numbers[i]);
    }
    free(d->labels);
    free(d->seen);
    free(d->offsets);
}

static void update(struct model *m, const struct data *d)
{
    const uint64_t *ids[INPUTS];
    const uint32_t *offsets[INPUTS] = {NULL};
    const float *numbers[INPUTS], *labels[] = {d->labels};
    for (uint32_t i = 0; i < d->inputs; i++) {
        ids[i] = d->ids[i];
        numbers[i] = d->numbers[i];
        offsets[i] = i + 1 == d->inputs && d->offsets[1] > 0 ? d->offsets : NULL;
    }
    const struct model_samples samples = {
        .n = d->n, .ids = ids, .offsets = offsets, .numbers = numbers, .labels = labels, .seen_s = d->seen};
    struct model_report report;
    struct model_update *u = model_update_new(m);
    model_update_feed(u, &samples);
    model_update_finish(u, 0, &report);
    model_apply(m, u);
}

// ---- steps ------------------------------------------------------------------------------------------------

// A net beside the model's own table, and an overlay that is there from step to step.
struct stepper {
    const struct bench_net *from;
    struct net *net;
    struct model *m;
    struct overlay *overlay;
    struct metrics metrics;
    float *params, *dparams, *state, *p;
    uint32_t *slots[INPUTS]; // of all batches
    uint32_t at;
};

static void stepper_new(struct stepper *s, const struct bench_net *from, struct model *m,
                        enum packed_kernel kernel)
{
    *s = (struct stepper){.from = from, .m = m, .overlay = overlay_new(model_table(m, 0))};
    s->net = model_net(m);
    const size_t n = net_param_floats(s->net);
    s->params = mem_array(n, sizeof(float));
    s->dparams = mem_array(n, sizeof(float));
    s->state = mem_array(n, sizeof(float));
    s->p = mem_array(from->batch, sizeof(float));
    model_params_begin(m, s->params);
    net_pack(s->net, kernel, s->params);
    metrics_init(&s->metrics, 1 << 20);
    for (uint32_t i = 0; i < INPUTS; i++)
        s->slots[i] = mem_array((size_t)BATCHES * BATCH * HISTORY, sizeof(uint32_t));
}

static void stepper_done(struct stepper *s)
{
    overlay_free(s->overlay);
    metrics_done(&s->metrics);
    free(s->params);
    free(s->dparams);
    free(s->state);
    free(s->p);
    for (uint32_t i = 0; i < INPUTS; i++)
        free(s->slots[i]);
}

// Ids of an input: of one sample, or of its sequence.
static uint32_t each_of(const struct stepper *s, uint32_t input)
{
    return input < s->from->fields ? 1 : s->from->history;
}

static void step(struct stepper *s, const struct data *d, bool whole, bool dense)
{
    const uint32_t n = s->from->batch, first = s->at % BATCHES * n;
    const uint32_t *slots[INPUTS], *offsets[INPUTS] = {NULL};
    const float *numbers[INPUTS], *labels[] = {d->labels + first};
    for (uint32_t i = 0; i < d->inputs; i++) {
        const uint32_t each = each_of(s, i);
        uint32_t *to = s->slots[i] + (size_t)first * each;
        numbers[i] = d->numbers[i] != NULL ? d->numbers[i] + first : NULL;
        slots[i] = d->ids[i] != NULL ? to : NULL;
        offsets[i] = each > 1 ? d->offsets : NULL;
        if (whole && d->ids[i] != NULL)
            overlay_touch(s->overlay, d->ids[i] + (size_t)first * each, d->seen, n * each, to);
    }
    float *p[] = {s->p};
    const struct net_rows rows = {overlay_vectors(s->overlay), overlay_stride(s->overlay)};
    const struct net_batch batch = {.n = n,
                                    .tables = &rows,
                                    .slots = slots,
                                    .offsets = offsets,
                                    .numbers = numbers,
                                    .labels = labels,
                                    .training = true,
                                    .dense = dense};
    net_forward(s->net, s->params, &batch, p);
    if (dense)
        memset(s->dparams, 0, net_param_floats(s->net) * sizeof(float));
    net_backward(s->net, s->params, &batch, dense ? s->dparams : NULL);
    const struct optimizer_at at = {s->at * n, ++s->at};
    if (dense)
        net_step(s->net, &(struct optimizer){.kind = OPTIMIZER_ADAGRAD, .lr = 0.001f}, &at, 1 / (float)n,
                 s->params, s->state, s->dparams);
    for (uint32_t i = 0; i < d->inputs && whole; i++) {
        size_t stride = 0;
        const float *gradients = d->ids[i] != NULL ? net_gradient_rows(s->net, i, &stride) : NULL;
        if (gradients != NULL)
            overlay_gradient(s->overlay, slots[i], gradients, stride, n * each_of(s, i));
    }
    if (whole) {
        overlay_descend(s->overlay, 1 / (float)n, &at);
        metrics_put(&s->metrics, s->p, labels[0], NULL, n);
    }
}

// ---- turns ------------------------------------------------------------------------------------------------

enum way { WAY_NET, WAY_STEP, WAY_UPDATE, WAY_LAYERS, WAYS };
static const char *const way_names[] = {"net", "step", "update", "layers"};

// Seconds a batch.
static double turn(enum way way, struct stepper *s, struct model *m, const struct data *d)
{
    const double began = bench_now_s();
    if (way == WAY_UPDATE)
        update(m, d);
    else
        for (uint32_t i = 0; i < BATCHES; i++)
            step(s, d, way != WAY_NET, way == WAY_LAYERS);
    return (bench_now_s() - began) / BATCHES;
}

static void measure(const struct bench_net *net, enum packed_kernel kernel)
{
    struct data d;
    struct stepper frozen, trained;
    struct model *m = model_of(net, kernel, true), *beside = model_of(net, kernel, true),
                 *all = model_of(net, PACKED_BLAS, false);
    double best[WAYS] = {0};
    data_new(&d, net);
    update(m, &d);
    update(beside, &d);
    stepper_new(&frozen, net, beside, kernel);
    stepper_new(&trained, net, all, PACKED_BLAS);
    step(&frozen, &d, true, false);
    for (uint32_t t = 0; t <= TURNS; t++) // the first only warms up
        for (enum way way = 0; way < WAYS; way++) {
            const enum way first = t == 0 && way == WAY_NET ? WAY_STEP : way; // which finds the slots
            const double took = turn(first, way == WAY_LAYERS ? &trained : &frozen, m, &d);
            if (t <= 1 || took < best[way])
                best[way] = took;
        }
    for (enum way way = 0; way < WAYS; way++)
        printf("%s %s %s %.0f %.1f\n", net->name,
               packed_kernel_word(way == WAY_LAYERS ? PACKED_BLAS : kernel), way_names[way],
               net->batch / best[way],
               net_flops(frozen.net, way == WAY_LAYERS, true) * net->batch / best[way] * 1e-9);
    stepper_done(&frozen);
    stepper_done(&trained);
    data_done(&d);
    model_free(m);
    model_free(beside);
    model_free(all);
}

int main(int argc, char **argv)
{
    static const enum packed_kernel asked[] = {PACKED_AUTO, PACKED_BF16};
    struct err err;
    gemm_setup();
    for (uint32_t i = 0; i < NETS; i++)
        for (uint32_t k = 0; k < 2 && bench_chosen(argc, argv, nets[i].name); k++) {
            enum packed_kernel kernel;
            if (packed_kernel_choose(asked[k], &kernel, &err) == 0)
                measure(&nets[i], kernel);
        }
    return 0;
}
