// SPDX-License-Identifier: Apache-2.0
// LibRecommender's DIN, SIM, TwoTower and DeepFM (tests/golden/make_libreco_golden.py, which says what differs) composed
// of freshet's layers: predictions, the loss, the gradients of every table and parameter, and what statistics become,
// while the dense layers train; predictions and the gradients of the tables by the stored statistics, as a frozen net
// trains.
//
// Blocks whose names differ after an @ have one variable there: the same values, and a gradient that is the sum of all.
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/gemm.h"
#include "models/net.h"
#include "tests/unit/golden.h"

enum { BATCH = 11, TABLES = 6, INPUTS = 9, BLOCKS = 12, OF = 8, K = 4 };

struct input {
    const char *name, *table; // table NULL: a number
    uint32_t max_len;         // of a sequence
    const char *entries_of;
};

struct block {
    const char *name, *kind, *of; // of: names with blanks between
    struct layer_value options[6];
};

struct net_case {
    const char *name;
    const char *tables[TABLES];
    struct input inputs[INPUTS];
    struct block blocks[BLOCKS];
    const char *head; // y, of it
};

#define WIDTHS(...) "mlp", .dims = {__VA_ARGS__}
// A layer without activation; and as a normalization alone, its matrix being the identity.
#define LINEAR(width)                    \
    {                                    \
        {WIDTHS(width)},                 \
        {                                \
            "activation", .text = "none" \
        }                                \
    }
#define NORM(width)                                                                                          \
    {                                                                                                        \
        {WIDTHS(width)}, {"activation", .text = "none"}, {"norm", .text = "batch"}, {"eps", .number = 1e-3}, \
        {                                                                                                    \
            "momentum", .number = 0.01                                                                       \
        }                                                                                                    \
    }
// dense_nn with batch norm: of the input, and after the activation.
#define DENSE_NN(name, of, width)                                                      \
    {name "_0", "mlp", of, NORM(width)}, {name "_1", "mlp", name "_0", {{WIDTHS(7)}}}, \
        {name "_2", "mlp", name "_1", NORM(7)},                                        \
    {                                                                                  \
        name "_3", "mlp", name "_2", LINEAR(5)                                         \
    }

static const struct net_case cases[] = {
    {"din",
     {"users", "items", "sparse"},
     {{"user", .table = "users"},
      {"sex", .table = "sparse"},
      {"item", .table = "items"},
      {"category", .table = "sparse"},
      {"clicks", .table = "items", .max_len = 5},
      {"clicks_category", .table = "sparse", .max_len = 5, .entries_of = "clicks"}},
     {{"attention",
       "din",
       "clicks clicks_category",
       {{"din", .dims = {16}},
        {"candidate", .text = "item category"},
        {"activation", .text = "sigmoid"},
        {"softmax", .number = 1}}},
      {"mlp", "mlp", "user item sex category attention", {{WIDTHS(7, 5)}, {"last", .text = "none"}}}},
     "mlp"},
    {"sim",
     {"users", "items", "sparse"},
     {{"user", .table = "users"},
      {"sex", .table = "sparse"},
      {"item", .table = "items"},
      {"category", .table = "sparse"},
      {"long", .table = "items", .max_len = 8},
      {"long_category", .table = "sparse", .max_len = 8, .entries_of = "long"},
      {"short", .table = "items", .max_len = 4},
      {"short_category", .table = "sparse", .max_len = 4, .entries_of = "short"}},
     {{"project@item", "mlp", "item category", LINEAR(K)},
      {"project@long", "mlp", "long long_category", LINEAR(K)},
      {"project@short", "mlp", "short short_category", LINEAR(K)},
      {"found",
       "sim",
       "project@long",
       {{"candidate", .text = "project@item"},
        {"k", .number = 3},
        {"heads", .number = 2},
        {"width", .number = K}}},
      {"recent",
       "sim",
       "project@short",
       {{"candidate", .text = "project@item"},
        {"search", .text = "none"},
        {"heads", .number = 1},
        {"width", .number = K}}},
      {"mlp", "mlp", "found recent user item sex category", {{WIDTHS(7, 5)}, {"last", .text = "none"}}}},
     "mlp"},
    {"two_tower",
     {"users", "items", "sparse"},
     {{"user", .table = "users"},
      {"sex", .table = "sparse"},
      {"item", .table = "items"},
      {"category", .table = "sparse"},
      {"cost", .table = NULL}},
     {{"price", "mlp", "cost", LINEAR(K)},
      DENSE_NN("user", "user sex", 2 * K),
      DENSE_NN("item", "item category price", 3 * K),
      {"user_unit", "l2norm", .of = "user_3"},
      {"item_unit", "l2norm", .of = "item_3"},
      {"match", "hadamard", .of = "user_unit item_unit"}},
     "match"},
    {"deepfm",
     {"users", "items", "sparse", "users_linear", "items_linear", "sparse_linear"},
     {{"user", .table = "users"},
      {"sex", .table = "sparse"},
      {"item", .table = "items"},
      {"category", .table = "sparse"},
      {"user_linear", .table = "users_linear"},
      {"sex_linear", .table = "sparse_linear"},
      {"item_linear", .table = "items_linear"},
      {"category_linear", .table = "sparse_linear"},
      {"cost", .table = NULL}},
     {{"price", "mlp", "cost", LINEAR(K)},
      {"price_linear", "mlp", "cost", LINEAR(1)},
      {"linear", "mlp", "user_linear item_linear sex_linear category_linear price_linear", LINEAR(1)},
      {"pairs", "fm", "user item sex category price", {{"vector", .number = 1}}},
      DENSE_NN("deep", "user item sex category price", 5 * K),
      {"all", "concat", .of = "linear pairs deep_3"}},
     "all"},
};
enum { CASES = sizeof cases / sizeof *cases };

struct bench {
    const struct net_case *k;
    const struct golden *golden;
    struct net *net;
    uint32_t n_tables, n_inputs;
    float *params, *dparams;
    struct net_rows tables[TABLES];
    uint32_t table_floats[TABLES];
    uint32_t of_input[INPUTS]; // its table
    const uint32_t *slots[INPUTS], *offsets[INPUTS];
    const float *numbers[INPUTS], *labels[1];
    struct net_batch batch;
};

// ---- numbers ----------------------------------------------------------------------------------------------

// CASE/<prefix><name>, or NULL.
static const struct record *record(const struct bench *b, const char *prefix, const char *name)
{
    char full[2 * NET_NAME];
    snprintf(full, sizeof full, "%.20s/%.20s%.80s", b->k->name, prefix, name);
    return golden_find(b->golden, "", full);
}

static const struct record *record_of(const struct bench *b, const char *prefix, const char *name, size_t n)
{
    const struct record *r = record(b, prefix, name);
    cr_assert_not_null(r, "%s: no %s%s", b->k->name, prefix, name);
    cr_assert_eq(r->count, n, "%s: %s%s has %u numbers, not %zu", b->k->name, prefix, name, r->count, n);
    return r;
}

// The name of what a parameter is there: without what stands between @ and the next dot.
static void variable_name(const char *param, char ret_name[2 * NET_NAME])
{
    const size_t own = strcspn(param, "@");
    const char *rest = param + own;
    snprintf(ret_name, 2 * NET_NAME, "%.*s%s", (int)own, param, rest + strcspn(rest, "."));
}

static void near_all(const struct bench *b, const char *what, size_t n, const float *got, const float *want)
{
    for (size_t i = 0; i < n; i++)
        cr_assert(fabsf(got[i] - want[i]) <= 1e-5f * fmaxf(1, fabsf(want[i])), "%s: %s at %zu is %g, not %g",
                  b->k->name, what, i, (double)got[i], (double)want[i]);
}

// ---- the net ----------------------------------------------------------------------------------------------

static uint32_t table_find(const struct bench *b, const char *name)
{
    for (uint32_t i = 0; i < b->n_tables; i++)
        if (strcmp(b->k->tables[i], name) == 0)
            return i;
    cr_assert_fail("%s: no table %s", b->k->name, name);
    return 0;
}

static void input_of(struct bench *b, uint32_t i, struct net_input *ret_input)
{
    const struct input *in = &b->k->inputs[i];
    *ret_input = (struct net_input){.kind = NET_INPUT_NUMBER, .dim = 1};
    snprintf(ret_input->name, NET_NAME, "%s", in->name);
    if (in->table == NULL)
        return;
    b->of_input[i] = table_find(b, in->table);
    ret_input->kind = in->max_len > 0 ? NET_INPUT_SEQUENCE : NET_INPUT_ID;
    ret_input->table = b->of_input[i];
    ret_input->dim = (uint32_t)b->tables[b->of_input[i]].stride;
    ret_input->max_len = in->max_len;
    snprintf(ret_input->offsets_as, NET_NAME, "%s", in->entries_of != NULL ? in->entries_of : "");
}

static uint32_t split(const char *names, char ret_of[OF][NET_NAME])
{
    uint32_t n = 0;
    for (const char *at = names; *at != '\0'; n++) {
        const size_t len = strcspn(at, " ");
        cr_assert_lt(n, OF);
        snprintf(ret_of[n], NET_NAME, "%.*s", (int)len, at);
        at += len + (at[len] == ' ');
    }
    return n;
}

static void net_make(struct bench *b)
{
    struct net_input inputs[INPUTS];
    struct net_block blocks[BLOCKS] = {0};
    char of[BLOCKS][OF][NET_NAME];
    struct net_head head = {.name = "y", .loss = "logloss", .weight = 1};
    struct net_spec spec = {.inputs = inputs, .blocks = blocks, .n_heads = 1, .heads = &head, .batch = BATCH};
    for (uint32_t i = 0; i < b->n_inputs; i++)
        input_of(b, i, &inputs[i]);
    spec.n_inputs = b->n_inputs;
    for (uint32_t i = 0; i < BLOCKS && b->k->blocks[i].name != NULL; i++, spec.n_blocks++) {
        const struct block *from = &b->k->blocks[i];
        snprintf(blocks[i].name, NET_NAME, "%s", from->name);
        snprintf(blocks[i].kind, NET_NAME, "%s", from->kind);
        blocks[i].n_of = split(from->of, of[i]);
        blocks[i].of = of[i];
        memcpy(blocks[i].options, from->options, sizeof from->options);
    }
    snprintf(head.of, NET_NAME, "%s", b->k->head);
    struct err err;
    cr_assert_eq(net_new(&spec, &b->net, NULL, &err), 0, "%s: %s", b->k->name, err.message);
}

static void params_read(struct bench *b)
{
    b->params = mem_array(net_param_floats(b->net), sizeof(float));
    b->dparams = mem_array(net_param_floats(b->net), sizeof(float));
    for (uint32_t i = 0; i < net_param_count(b->net); i++) {
        const struct net_param *p = net_param(b->net, i);
        const size_t n = (size_t)p->rows * p->cols;
        char name[2 * NET_NAME];
        variable_name(p->name, name);
        const bool constant = record(b, "constant.", name) != NULL;
        memcpy(b->params + p->offset, record_of(b, constant ? "constant." : "", name, n)->values,
               n * sizeof(float));
    }
}

static void tables_read(struct bench *b)
{
    while (b->n_tables < TABLES && b->k->tables[b->n_tables] != NULL) {
        const char *name = b->k->tables[b->n_tables];
        const struct record *r = record(b, "", name);
        cr_assert_not_null(r, "%s: no %s", b->k->name, name);
        b->table_floats[b->n_tables] = r->count;
        b->tables[b->n_tables++] = (struct net_rows){r->values, strstr(name, "_linear") != NULL ? 1 : K};
    }
}

static void inputs_read(struct bench *b)
{
    for (uint32_t i = 0; i < b->n_inputs; i++) {
        const struct input *in = &b->k->inputs[i];
        if (in->max_len > 0)
            b->offsets[i] =
                record_of(b, "offsets.", in->entries_of != NULL ? in->entries_of : in->name, BATCH + 1)
                    ->values;
        const size_t n = in->max_len > 0 ? b->offsets[i][BATCH] : BATCH;
        const void *values = record_of(b, "slots.", in->name, n)->values;
        b->slots[i] = in->table != NULL ? values : NULL;
        b->numbers[i] = in->table == NULL ? values : NULL;
    }
}

static void bench_init(struct bench *b, const struct net_case *k, const struct golden *g)
{
    *b = (struct bench){.k = k, .golden = g};
    while (b->n_inputs < INPUTS && k->inputs[b->n_inputs].name != NULL)
        b->n_inputs++;
    tables_read(b);
    net_make(b);
    params_read(b);
    inputs_read(b);
    b->labels[0] = record_of(b, "", "label", BATCH)->values;
    b->batch = (struct net_batch){.n = BATCH,
                                  .tables = b->tables,
                                  .slots = b->slots,
                                  .offsets = b->offsets,
                                  .numbers = b->numbers,
                                  .labels = b->labels};
}

// ---- against theirs ---------------------------------------------------------------------------------------

// What comes to a table of every occurrence of its rows.
static void check_tables(const struct bench *b, const char *prefix)
{
    for (uint32_t t = 0; t < b->n_tables; t++) {
        const size_t dim = b->tables[t].stride;
        float *sum = mem_array(b->table_floats[t], sizeof *sum);
        for (uint32_t i = 0; i < b->n_inputs; i++) {
            const size_t n = b->offsets[i] != NULL ? b->offsets[i][BATCH] : BATCH;
            if (b->slots[i] == NULL || b->of_input[i] != t)
                continue;
            const float *gradient = net_gradient(b->net, i);
            for (size_t j = 0; j < n * dim; j++)
                sum[b->slots[i][j / dim] * dim + j % dim] += gradient[j];
        }
        near_all(b, b->k->tables[t], b->table_floats[t], sum,
                 record_of(b, prefix, b->k->tables[t], b->table_floats[t])->values);
        free(sum);
    }
}

static void predict(struct bench *b, const char *prefix)
{
    float p[BATCH], *ret_p = p;
    net_forward(b->net, b->params, &b->batch, &ret_p);
    near_all(b, "prediction", BATCH, p, record_of(b, prefix, "p", BATCH)->values);
}

static void train(struct bench *b, bool dense)
{
    b->batch.training = true;
    b->batch.dense = dense;
    predict(b, dense ? "" : "frozen.");
    const float *loss = record_of(b, dense ? "" : "frozen.", "loss", 1)->values;
    cr_assert(fabs(net_loss(b->net, &b->batch) - (double)*loss) <= 1e-5 * fmax(1, (double)*loss), "%s: loss",
              b->k->name);
    net_backward(b->net, b->params, &b->batch, dense ? b->dparams : NULL);
    check_tables(b, dense ? "gradient." : "frozen.gradient.");
}

// Adds up the gradients of all parameters that are that variable.
static void variable_gradient(const struct bench *b, const char *variable, size_t n, float *ret_sum)
{
    for (uint32_t i = 0; i < net_param_count(b->net); i++) {
        const struct net_param *p = net_param(b->net, i);
        char name[2 * NET_NAME];
        variable_name(p->name, name);
        for (size_t j = 0; j < n && strcmp(name, variable) == 0; j++)
            ret_sum[j] += b->dparams[p->offset + j];
    }
}

static void check_param(const struct bench *b, const struct net_param *p)
{
    const size_t n = (size_t)p->rows * p->cols;
    float *got = mem_array(n, sizeof *got);
    char name[2 * NET_NAME];
    variable_name(p->name, name);
    if (p->trainable)
        variable_gradient(b, name, n, got);
    for (size_t j = 0; j < n && !p->trainable; j++)
        got[j] = b->params[p->offset + j] + b->dparams[p->offset + j];
    if (record(b, "constant.", name) == NULL)
        near_all(b, name, n, got, record_of(b, p->trainable ? "gradient." : "after.", name, n)->values);
    free(got);
}

static void check_case(const struct net_case *k, const struct golden *g)
{
    struct bench b;
    bench_init(&b, k, g);
    predict(&b, "frozen.");
    train(&b, true);
    for (uint32_t i = 0; i < net_param_count(b.net); i++)
        check_param(&b, net_param(b.net, i));
    train(&b, false);
    net_free(b.net);
    free(b.params);
    free(b.dparams);
}

static void check(const char *name)
{
    struct golden g;
    uint32_t found = 0;
    golden_read(&g, "libreco.bin");
    for (uint32_t i = 0; i < CASES; i++)
        if (strcmp(cases[i].name, name) == 0) {
            check_case(&cases[i], &g);
            found++;
        }
    cr_assert_eq(found, 1);
    golden_done(&g);
}

Test(libreco_golden, din, .init = gemm_setup)
{
    check("din");
}

Test(libreco_golden, sim_by_soft_search, .init = gemm_setup)
{
    check("sim");
}

Test(libreco_golden, two_towers, .init = gemm_setup)
{
    check("two_tower");
}

Test(libreco_golden, deepfm, .init = gemm_setup)
{
    check("deepfm");
}
