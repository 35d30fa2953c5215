// SPDX-License-Identifier: Apache-2.0
// A small model of two tables, a sequence, a number and two heads, and samples for it: what tests of models share.
#ifndef FRESHET_TESTS_MODEL_SMALL_H
#define FRESHET_TESTS_MODEL_SMALL_H

#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/mem.h"
#include "models/model.h"

enum { N_INPUTS = 4, N_HEADS = 2, N_TABLES = 2, DIM = 8, USERS = 60, ITEMS = 40, MAX_LEN = 4 };
enum { USER, ITEM, CLICKS, AGE };

// ---- a small model -----------------------------------------------------------------------------------

struct setup {
    struct net_input inputs[N_INPUTS];
    struct net_block blocks[2];
    struct net_head heads[N_HEADS];
    char of[2][4][NET_NAME];
    struct table_options tables[N_TABLES];
    struct model_options options;
};

static void setup_init(struct setup *s, uint32_t batch)
{
    *s = (struct setup){
        .inputs = {{.name = "user", .kind = NET_INPUT_ID, .table = 0, .dim = DIM},
                   {.name = "item", .kind = NET_INPUT_ID, .table = 1, .dim = DIM},
                   {.name = "clicks", .kind = NET_INPUT_SEQUENCE, .table = 1, .dim = DIM, .max_len = MAX_LEN},
                   {.name = "age", .kind = NET_INPUT_NUMBER, .dim = 1}},
        .blocks = {{.name = "pooled", .kind = "mean", .n_of = 1, .of = s->of[0]},
                   {.name = "bottom",
                    .kind = "mlp",
                    .n_of = 4,
                    .of = s->of[1],
                    .options = {{"mlp", .dims = {16, 8}}}}},
        .heads = {{.name = "click", .of = "bottom", .loss = "logloss", .weight = 1},
                  {.name = "like", .of = "bottom", .loss = "logloss", .weight = 0.5f}},
        .of = {{"clicks"}, {"user", "item", "pooled", "age"}},
        .options = {.n_tables = N_TABLES,
                    .bootstrap_samples = 1000,
                    .dense = {.kind = OPTIMIZER_ADAGRAD, .lr = 0.05f},
                    .epochs = 1,
                    .seed = 3,
                    .auc_samples = 100000},
    };
    for (uint32_t t = 0; t < N_TABLES; t++)
        s->tables[t] = (struct table_options){
            .name = t == 0 ? "users" : "items",
            .dim = DIM,
            .rows = 500,
            .admit = 1,
            .expire_ms = 50 * 1000,
            .init = 0.1f,
            .optimizer = {.kind = OPTIMIZER_ROWWISE_ADAGRAD, .lr = 0.1f, .accum = 0.01f},
            .seed = t + 1};
    s->options.tables = s->tables;
    s->options.net = (struct net_spec){.n_inputs = N_INPUTS,
                                       .n_blocks = 2,
                                       .n_heads = N_HEADS,
                                       .inputs = s->inputs,
                                       .blocks = s->blocks,
                                       .heads = s->heads,
                                       .batch = batch};
}

static struct model *setup_model(const struct setup *s)
{
    struct model *m = NULL;
    struct err err;
    uint32_t block = 0;
    int rc = model_new(&s->options, &m, &block, &err);
    cr_assert_eq(rc, 0, "%s", rc != 0 ? err.message : "");
    return m;
}

// ---- samples -----------------------------------------------------------------------------------------

struct columns {
    uint32_t n;
    uint64_t *user, *item, *clicks;
    uint32_t *offsets, *seen;
    float *age, *click, *like, *weight;
    const uint64_t *ids[N_INPUTS];
    const uint32_t *by_offsets[N_INPUTS];
    const float *numbers[N_INPUTS];
    const float *labels[N_HEADS], *weights[N_HEADS];
};

static struct columns *columns_new(uint32_t n)
{
    struct columns *c = mem_zalloc(sizeof *c);
    c->n = n;
    c->user = mem_array(n, sizeof *c->user);
    c->item = mem_array(n, sizeof *c->item);
    c->clicks = mem_array((size_t)n * MAX_LEN, sizeof *c->clicks);
    c->offsets = mem_array(n + 1, sizeof *c->offsets);
    c->seen = mem_array(n, sizeof *c->seen);
    c->age = mem_array(n, sizeof *c->age);
    c->click = mem_array(n, sizeof *c->click);
    c->like = mem_array(n, sizeof *c->like);
    c->weight = mem_array(n, sizeof *c->weight);
    return c;
}

static void columns_free(struct columns *c)
{
    free(c->user);
    free(c->item);
    free(c->clicks);
    free(c->offsets);
    free(c->seen);
    free(c->age);
    free(c->click);
    free(c->like);
    free(c->weight);
    free(c);
}

// The samples from `at` on; the arrays are the columns' own, so one view is in use at a time.
static struct model_samples columns_view(struct columns *c, uint32_t at, uint32_t n)
{
    c->ids[USER] = c->user + at;
    c->ids[ITEM] = c->item + at;
    c->ids[CLICKS] = c->clicks;
    c->by_offsets[CLICKS] = c->offsets + at;
    c->numbers[AGE] = c->age + at;
    c->labels[0] = c->click + at;
    c->labels[1] = c->like + at;
    c->weights[0] = c->weight + at;
    c->weights[1] = NULL;
    return (struct model_samples){n, c->ids, c->by_offsets, c->numbers, c->labels, c->weights, c->seen + at};
}

static struct model_update *update_fed(struct model *m, struct columns *c, uint32_t piece)
{
    struct model_update *u = model_update_new(m);
    for (uint32_t at = 0; at < c->n; at += piece) {
        struct model_samples view = columns_view(c, at, c->n - at < piece ? c->n - at : piece);
        model_update_feed(u, &view);
    }
    return u;
}

static void train(struct model *m, struct columns *c, uint32_t piece)
{
    struct model_report report;
    struct model_update *u = update_fed(m, c, piece);
    model_update_finish(u, 0, &report);
    cr_assert(report.finite);
    cr_assert_eq(report.samples, c->n);
    model_apply(m, u);
}

#endif
