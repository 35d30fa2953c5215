// SPDX-License-Identifier: Apache-2.0
// Optimizers against PyTorch and, for FTRL, the paper's algorithm (tests/golden/make_optimizer_golden.py); against
// their twins; and what steps of a net and of a table owe to them: runs of one learning rate, clipping over all of
// them, rows that are saved and loaded between two steps.
#include <criterion/criterion.h>
#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/net.h"
#include "models/table.h"
#include "tests/unit/golden.h"

enum { N = 37, STEPS = 12, SAMPLES = 8, ROWS = 7, DIM = 5 };

static void near(const char *name, size_t at, double got, double want)
{
    const double scale = fabs(want) < 1 ? 1 : fabs(want);
    cr_assert(fabs(got - want) <= 2e-6 * scale, "%s: %zu is %.9g, not %.9g", name, at, got, want);
}

static struct optimizer_at at_step(uint32_t step)
{
    return (struct optimizer_at){(uint64_t)(step + 1) * SAMPLES, step + 1};
}

// ---- dense, by PyTorch and the paper -----------------------------------------------------------------

#define ADAM .kind = OPTIMIZER_ADAM, .lr = 0.01f

static const struct dense_case {
    const char *name;
    struct optimizer optimizer;
    bool zeros; // parameters begin so
} dense_cases[] = {
    {"adagrad", {.kind = OPTIMIZER_ADAGRAD, .lr = 0.1f}, false},
    {"adagrad_all",
     {.kind = OPTIMIZER_ADAGRAD,
      .lr = 0.1f,
      .accum = 0.1f,
      .weight_decay = 0.05f,
      .warmup = 40,
      .clip_norm = 2},
     false},
    {"adam", {ADAM, .beta1 = 0.9f, .beta2 = 0.999f}, false},
    {"adam_all",
     {ADAM, .beta1 = 0.8f, .beta2 = 0.95f, .weight_decay = 0.05f, .warmup = 40, .clip_norm = 2},
     false},
    {"adamw", {ADAM, .beta1 = 0.9f, .beta2 = 0.999f, .weight_decay = 0.1f, .decoupled = true}, false},
    {"adamw_all",
     {ADAM, .beta1 = 0.9f, .beta2 = 0.999f, .weight_decay = 0.1f, .decoupled = true, .warmup = 40,
      .clip_norm = 2},
     false},
    {"ftrl", {.kind = OPTIMIZER_FTRL, .lr = 0.1f, .beta = 1}, false},
    {"ftrl_all",
     {.kind = OPTIMIZER_FTRL, .lr = 0.1f, .beta = 0.5f, .l1 = 1.5f, .l2 = 0.3f, .accum = 0.1f},
     false},
    {"ftrl_zeros", {.kind = OPTIMIZER_FTRL, .lr = 0.1f, .beta = 1, .l1 = 1.5f, .l2 = 0.3f}, true},
};
enum { DENSE_CASES = sizeof dense_cases / sizeof *dense_cases };

struct dense {
    float params[N], first[N], second[N];
};

static void dense_begin(struct dense *d, const struct golden *g, const struct dense_case *c)
{
    memset(d, 0, sizeof *d);
    if (!c->zeros)
        memcpy(d->params, golden_get(g, "", "params"), sizeof d->params);
    optimizer_begin(&c->optimizer, c->optimizer.lr, N, d->params, d->first, d->second);
}

// The gradient of a step as optimizer_step takes it.
static void clipped(const struct golden *g, const struct optimizer *o, uint32_t step, float to[N])
{
    memcpy(to, (const float *)golden_get(g, "", "gradients") + (size_t)step * N, N * sizeof *to);
    const float factor = optimizer_clip(o, sqrt(optimizer_squares(N, to)));
    for (uint32_t i = 0; i < N; i++)
        to[i] *= factor;
}

Test(optimizer, dense_steps_are_those_of_pytorch_and_the_paper)
{
    struct golden g;
    golden_read(&g, "optimizer.bin");
    for (uint32_t k = 0; k < DENSE_CASES; k++) {
        const struct dense_case *c = &dense_cases[k];
        const float *want = golden_get(&g, "", c->name);
        struct dense d, twin;
        dense_begin(&d, &g, c);
        dense_begin(&twin, &g, c);
        for (uint32_t step = 0; step < STEPS; step++) {
            const struct optimizer_at at = at_step(step);
            const struct optimizer_step s = optimizer_step_of(&c->optimizer, c->optimizer.lr, &at, false);
            float gradient[N];
            clipped(&g, &c->optimizer, step, gradient);
            optimizer_step_naive(&s, N, twin.params, twin.first, twin.second, gradient);
            optimizer_step(&s, N, d.params, d.first, d.second, gradient);
            for (uint32_t i = 0; i < N; i++) {
                near(c->name, i, (double)d.params[i], (double)want[step * N + i]);
                near("twin", i, (double)d.params[i], (double)twin.params[i]);
            }
        }
    }
    golden_done(&g);
}

Test(optimizer, ftrl_keeps_its_weights_where_nothing_is_learned)
{
    const struct optimizer o = {.kind = OPTIMIZER_FTRL, .lr = 0.1f, .beta = 1, .l1 = 0.5f, .l2 = 0.1f};
    const struct optimizer_at at = at_step(0);
    const struct optimizer_step s = optimizer_step_of(&o, o.lr, &at, false);
    float params[] = {0, 0.25f, -3, 1e-3f}, first[4], second[4], zeros[4] = {0};
    const float begin[] = {0, 0.25f, -3, 1e-3f};
    optimizer_begin(&o, o.lr, 4, params, first, second);
    for (uint32_t step = 0; step < 100; step++)
        optimizer_step(&s, 4, params, first, second, zeros);
    for (uint32_t i = 0; i < 4; i++)
        near("params", i, (double)params[i], (double)begin[i]);
}

Test(optimizer, warm_up_rises_by_samples_and_then_stays)
{
    const struct optimizer o = {.kind = OPTIMIZER_ADAGRAD, .lr = 0.3f, .warmup = 1000};
    const uint64_t samples[] = {1, 250, 999, 1000, 1001, UINT64_MAX};
    const double shares[] = {0.001, 0.25, 0.999, 1, 1, 1};
    for (uint32_t i = 0; i < 6; i++) {
        const struct optimizer_at at = {samples[i], 1};
        near("lr", i, (double)optimizer_step_of(&o, o.lr, &at, false).lr, 0.3 * shares[i]);
    }
}

// What is not a number is passed on, not hidden: a brake looks for it.
Test(optimizer, nan_goes_on)
{
    for (uint32_t k = 0; k < DENSE_CASES; k++) {
        const struct optimizer *o = &dense_cases[k].optimizer;
        const struct optimizer_at at = at_step(0);
        const struct optimizer_step s = optimizer_step_of(o, o->lr, &at, false);
        float params[] = {1, 1}, first[2], second[2], gradient[] = {NAN, 1};
        optimizer_begin(o, o->lr, 2, params, first, second);
        optimizer_step(&s, 2, params, first, second, gradient);
        cr_assert(isnan(params[0]) && isfinite(params[1]), "%s", dense_cases[k].name);
    }
}

// ---- a net -------------------------------------------------------------------------------------------

static struct net *net_of_two(float lr)
{
    static char of[2][1][NET_NAME] = {{"x"}, {"bottom"}};
    struct net_input input = {.name = "x", .kind = NET_INPUT_ID, .dim = 6};
    struct net_block blocks[2] = {
        {.name = "bottom", .kind = "mlp", .n_of = 1, .of = of[0], .lr = lr, .init = {NET_INIT_NORMAL, 0.5}},
        {.name = "top", .kind = "mlp", .n_of = 1, .of = of[1], .init = {NET_INIT_KAIMING_UNIFORM, 0}}};
    blocks[0].options[0] = (struct layer_value){.name = "mlp", .dims = {64}};
    blocks[1].options[0] = (struct layer_value){.name = "mlp", .dims = {32}};
    blocks[1].options[1] = (struct layer_value){.name = "norm", .text = "batch"};
    const struct net_head head = {
        .name = "click", .of = "top", .loss = "logloss", .weight = 1, .init = {NET_INIT_ZEROS, 0}};
    const struct net_spec spec = {.n_inputs = 1,
                                  .n_blocks = 2,
                                  .n_heads = 1,
                                  .inputs = &input,
                                  .blocks = blocks,
                                  .heads = &head,
                                  .batch = 4};
    struct net *net;
    struct err err = {0};
    cr_assert_eq(net_new(&spec, &net, NULL, &err), 0, "%s", err.message);
    return net;
}

// Parameter by parameter, with the norm over all that are trained.
static void naive_net_step(const struct net *net, const struct optimizer *o, const struct optimizer_at *at,
                           float scale, float *params, float *state, const float *gradient)
{
    const size_t floats = net_param_floats(net);
    double sum = 0;
    for (uint32_t i = 0; i < net_param_count(net); i++) {
        const struct net_param *p = net_param(net, i);
        for (size_t j = p->offset; j < p->offset + (size_t)p->rows * p->cols; j++)
            sum += p->trainable ? pow((double)gradient[j] * (double)scale, 2) : 0;
    }
    const double factor = fmin(1, (double)o->clip_norm / (sqrt(sum) + 1e-6)) * (double)scale;
    for (uint32_t i = 0; i < net_param_count(net); i++) {
        const struct net_param *p = net_param(net, i);
        const struct optimizer_step s = optimizer_step_of(o, p->lr > 0 ? p->lr : o->lr, at, false);
        for (size_t j = p->offset; j < p->offset + (size_t)p->rows * p->cols; j++) {
            const float g = (float)((double)gradient[j] * factor);
            float *second = optimizer_state(o->kind) > 1 ? &state[floats + j] : NULL;
            if (p->trainable)
                optimizer_step_naive(&s, 1, &params[j], &state[j], second, &g);
            else
                params[j] += gradient[j];
        }
    }
}

Test(optimizer, a_net_steps_by_layer_and_clips_over_all)
{
    struct rng rng = rng_of(3);
    struct net *net = net_of_two(0.02f);
    const size_t n = net_param_floats(net);
    for (uint32_t k = 0; k < DENSE_CASES; k++) {
        struct optimizer o = dense_cases[k].optimizer;
        o.clip_norm = 0.7f;
        float *params = mem_array(n, sizeof(float)), *twin = mem_array(n, sizeof(float));
        float *state = mem_array(2 * n, sizeof(float)), *twin_state = mem_array(2 * n, sizeof(float));
        float *g = mem_array(n, sizeof(float));
        net_init(net, 5, params);
        memcpy(twin, params, n * sizeof *twin);
        net_state_begin(net, &o, params, state);
        net_state_begin(net, &o, params, twin_state);
        for (uint32_t step = 0; step < 4; step++) {
            const struct optimizer_at at = at_step(step);
            for (size_t i = 0; i < n; i++)
                g[i] = (float)rng_normal(&rng);
            naive_net_step(net, &o, &at, 0.25f, twin, twin_state, g);
            net_step(net, &o, &at, 0.25f, params, state, g);
        }
        for (size_t i = 0; i < n; i++)
            near(dense_cases[k].name, i, (double)params[i], (double)twin[i]);
        float *all[] = {params, twin, state, twin_state, g};
        for (uint32_t i = 0; i < 5; i++)
            free(all[i]);
    }
    net_free(net);
}

static void moments(const struct net *net, const float *params, const char *name, double *ret_deviation,
                    double *ret_most)
{
    double sum = 0;
    *ret_most = 0;
    for (uint32_t i = 0; i < net_param_count(net); i++) {
        const struct net_param *p = net_param(net, i);
        const size_t n = (size_t)p->rows * p->cols;
        if (strcmp(p->name, name) != 0)
            continue;
        for (size_t j = p->offset; j < p->offset + n; j++) {
            sum += (double)params[j] * (double)params[j] / (double)n;
            *ret_most = fmax(*ret_most, fabs((double)params[j]));
        }
    }
    *ret_deviation = sqrt(sum);
}

Test(optimizer, matrices_begin_by_the_rule_of_their_block)
{
    struct net *net = net_of_two(0);
    float *params = mem_array(net_param_floats(net), sizeof *params);
    double deviation, most;
    net_init(net, 5, params);
    moments(net, params, "bottom.0.weight", &deviation, &most);
    cr_assert(fabs(deviation - 0.5) < 0.05 && most > 1, "normal: %g, %g", deviation, most);
    moments(net, params, "top.0.weight", &deviation, &most);
    const double bound = sqrt(6.0 / 64);
    cr_assert(most <= bound && most > 0.99 * bound && fabs(deviation - bound / sqrt(3)) < 0.01,
              "kaiming_uniform: %g, %g", deviation, most);
    moments(net, params, "click.weight", &deviation, &most);
    cr_assert(most == 0);
    moments(net, params, "click.bias", &deviation, &most);
    cr_assert(most > 0, "a vector begins by its layer's own rule");
    free(params);
    net_free(net);
}

// ---- rows --------------------------------------------------------------------------------------------

static const struct rows_case {
    const char *name;
    struct optimizer optimizer;
} rows_cases[] = {
    {"rows.adam", {ADAM, .beta1 = 0.9f, .beta2 = 0.999f}},
    {"rows.adam_warm", {ADAM, .beta1 = 0.8f, .beta2 = 0.95f, .warmup = 40}},
    {"rows.adagrad", {.kind = OPTIMIZER_ADAGRAD, .lr = 0.1f}},
    {"rows.adagrad_all", {.kind = OPTIMIZER_ADAGRAD, .lr = 0.1f, .weight_decay = 0.05f, .clip_norm = 1.5f}},
    {"rows.rowwise", {.kind = OPTIMIZER_ROWWISE_ADAGRAD, .lr = 0.1f}},
    {"rows.rowwise_all",
     {.kind = OPTIMIZER_ROWWISE_ADAGRAD,
      .lr = 0.1f,
      .accum = 0.1f,
      .weight_decay = 0.05f,
      .clip_norm = 1.5f}},
    {"rows.rowwise_w",
     {.kind = OPTIMIZER_ROWWISE_ADAGRAD, .lr = 0.1f, .weight_decay = 0.5f, .decoupled = true}},
    {"rows.ftrl", {.kind = OPTIMIZER_FTRL, .lr = 0.1f, .beta = 1, .l1 = 0.5f, .l2 = 0.1f}},
};
enum { ROWS_CASES = sizeof rows_cases / sizeof *rows_cases };

static struct table *rows_table(const struct rows_case *c)
{
    const struct table_options options = {
        .name = "t", .dim = DIM, .rows = 100, .admit = 1, .optimizer = c->optimizer, .seed = 1};
    return table_new(&options);
}

// Rows of the golden table, with the state that they begin with.
static void rows_put(struct table *t, const struct rows_case *c, const float *vectors)
{
    struct overlay *o = overlay_new(t);
    struct table_row *row = mem_zalloc(sizeof *row + DIM * sizeof *row->vector);
    for (uint32_t r = 0; r < ROWS; r++) {
        *row = (struct table_row){.id = r + 1, .count = 1, .last_seen_s = 1, .accum = c->optimizer.accum};
        memcpy(row->vector, vectors + (size_t)r * DIM, DIM * sizeof *vectors);
        cr_assert(overlay_put(o, row, false));
    }
    table_apply(t, o);
    overlay_free(o);
    free(row);
}

static void rows_step(struct overlay *o, const struct golden *g, uint32_t step)
{
    const uint32_t *touched = (const uint32_t *)golden_get(g, "", "touched") + (size_t)step * ROWS;
    const float *gradients = (const float *)golden_get(g, "", "rows") + (size_t)step * ROWS * DIM;
    const struct optimizer_at at = at_step(step);
    uint64_t ids[ROWS] = {0};
    uint32_t seen[ROWS] = {0}, slots[ROWS];
    for (uint32_t r = 0; r < ROWS; r++)
        ids[r] = touched[r] != 0 ? r + 1 : 0;
    overlay_touch(o, ids, seen, ROWS, slots);
    overlay_step(o, slots, gradients, ROWS, &at);
}

// Every row through its record, into a table of its own.
static struct table *rows_reload(const struct table *t)
{
    struct table *to = table_new(table_options(t));
    struct err err = {0};
    struct buf record = {0};
    for (uint32_t i = 0; i < table_count(t); i++) {
        buf_clear(&record);
        table_row_put(t, table_row(t, i), &record);
        const struct str text = {(const char *)record.data, (uint32_t)record.len};
        cr_assert_eq(table_row_load(to, table_row(t, i)->id, text, &err), 0, "%s", err.message);
    }
    buf_done(&record);
    cr_assert(digest_equal(table_digest_full(t), table_digest_full(to)));
    return to;
}

Test(optimizer, rows_step_as_sparse_tensors_do_and_a_reload_changes_nothing)
{
    struct golden g;
    golden_read(&g, "optimizer.bin");
    for (uint32_t k = 0; k < ROWS_CASES; k++) {
        const struct rows_case *c = &rows_cases[k];
        const float *want = golden_get(&g, "", c->name);
        struct table *t = rows_table(c);
        rows_put(t, c, golden_get(&g, "", "table"));
        for (uint32_t step = 0; step < STEPS;) {
            struct overlay *o = overlay_new(t);
            for (const uint32_t end = step + 3; step < end; step++)
                rows_step(o, &g, step);
            struct overlay_figures f;
            overlay_figures(o, &f);
            cr_assert(f.finite);
            table_apply(t, o);
            overlay_free(o);
            struct table *again = rows_reload(t);
            table_free(t);
            t = again;
        }
        for (uint32_t i = 0; i < ROWS * DIM; i++)
            near(c->name, i, (double)table_row(t, table_find(t, i / DIM + 1))->vector[i % DIM],
                 (double)want[i]);
        table_free(t);
    }
    golden_done(&g);
}

Test(optimizer, a_record_of_another_optimizer_is_refused)
{
    struct table *adam = rows_table(&rows_cases[0]), *rowwise = rows_table(&rows_cases[4]);
    const float vectors[ROWS * DIM] = {1};
    struct buf record = {0};
    struct err err = {0};
    rows_put(adam, &rows_cases[0], vectors);
    table_row_put(adam, table_row(adam, 0), &record);
    cr_assert_eq(record.len, 12 + 3 * DIM * sizeof(float));
    const struct str text = {(const char *)record.data, (uint32_t)record.len};
    cr_assert_eq(table_row_load(rowwise, 1, text, &err), -1);
    cr_assert(err.code == ERR_CORRUPT && strstr(err.message, "rowwise_adagrad") != NULL, "%s", err.message);
    buf_done(&record);
    table_free(adam);
    table_free(rowwise);
}

// The state of a row is judged with it: what is not finite there would be so in the vector a step later.
Test(optimizer, state_that_is_not_finite_is_seen)
{
    struct table *t = rows_table(&rows_cases[2]);
    struct overlay *o = overlay_new(t);
    const uint64_t id = 3;
    const uint32_t seen = 1;
    const struct optimizer_at at = at_step(0);
    float gradient[DIM] = {1e30f};
    uint32_t slot;
    struct overlay_figures f;
    overlay_touch(o, &id, &seen, 1, &slot);
    overlay_step(o, &slot, gradient, 1, &at);
    overlay_figures(o, &f);
    cr_assert(!f.finite);
    overlay_free(o);
    table_free(t);
}

Test(optimizer, vectors_begin_as_the_table_says)
{
    const enum table_init by[] = {TABLE_NORMAL, TABLE_UNIFORM, TABLE_CONSTANT};
    enum { WIDE = 1024 };
    static float vector[WIDE], again[WIDE];
    for (uint32_t k = 0; k < 3; k++) {
        const struct table_options options = {
            .name = "t", .dim = WIDE, .rows = 10, .admit = 1, .init_by = by[k], .init = 0.1f, .seed = 4};
        struct table *t = table_new(&options);
        double sum = 0, most = 0;
        table_begin(t, 77, vector);
        table_begin(t, 77, again);
        cr_assert_arr_eq(vector, again, sizeof vector);
        for (uint32_t j = 0; j < WIDE; j++) {
            sum += (double)vector[j] * (double)vector[j] / WIDE;
            most = fmax(most, fabs((double)vector[j]));
        }
        const double deviations[] = {0.1, 0.1 / sqrt(3), 0.1};
        cr_assert(fabs(sqrt(sum) - deviations[k]) < 0.01, "%u: %g", k, sqrt(sum));
        cr_assert(k == 0 ? most > 0.2 : most <= 0.1000001, "%u: %g", k, most);
        table_free(t);
    }
}
