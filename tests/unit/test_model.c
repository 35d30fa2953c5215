// SPDX-License-Identifier: Apache-2.0
// A model and its updates: what they learn, what they leave alone, that the same samples give the same bytes.
#include "models/model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/gemm.h"
#include "tests/unit/model_small.h"

TestSuite(model, .init = gemm_setup);

// The rule to be learned: odd users and odd items are liked; both odd click 19 times in 20, neither one
// in 20.
static struct columns *columns_draw(uint64_t seed, uint32_t n, uint32_t seen_s)
{
    struct rng rng = rng_of(seed);
    struct columns *c = columns_new(n);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t user = rng_below(&rng, USERS), item = rng_below(&rng, ITEMS);
        c->user[i] = hash_mix(user + 1);
        c->item[i] = hash_mix(item + 1001);
        c->offsets[i + 1] = c->offsets[i] + (uint32_t)rng_below(&rng, MAX_LEN + 1);
        for (uint32_t k = c->offsets[i]; k < c->offsets[i + 1]; k++)
            c->clicks[k] = hash_mix(rng_below(&rng, ITEMS) + 1001);
        c->seen[i] = seen_s;
        c->age[i] = (float)rng_normal(&rng);
        c->click[i] = rng_below(&rng, 20) < 1 + 9 * (user % 2 + item % 2) ? 1 : 0;
        c->like[i] = rng_below(&rng, 4) == 0 ? 1 : 0;
        c->weight[i] = 1;
    }
    return c;
}

// All that a model remembers.
struct state {
    struct digest tables[N_TABLES], full[N_TABLES], dense;
    struct buf blob;
};

static struct state state_of(struct model *m)
{
    struct state s = {.dense = model_dense_digest(m)};
    for (uint32_t t = 0; t < N_TABLES; t++) {
        s.tables[t] = table_digest(model_table(m, t));
        s.full[t] = table_digest_full(model_table(m, t));
    }
    model_dense_save(m, &s.blob);
    return s;
}

static bool state_equal_and_done(struct state *a, struct state *b)
{
    bool equal = a->blob.len == b->blob.len && memcmp(a->blob.data, b->blob.data, a->blob.len) == 0;
    equal = equal && digest_equal(a->dense, b->dense);
    for (uint32_t t = 0; t < N_TABLES; t++)
        equal = equal && digest_equal(a->full[t], b->full[t]) && digest_equal(a->tables[t], b->tables[t]);
    buf_done(&a->blob);
    buf_done(&b->blob);
    return equal;
}

static bool models_equal(struct model *a, struct model *b)
{
    struct state x = state_of(a), y = state_of(b);
    return state_equal_and_done(&x, &y);
}

// ---- promises ----------------------------------------------------------------------------------------

Test(model, learns_a_planted_rule)
{
    struct setup s;
    setup_init(&s, 64);
    s.options.bootstrap_samples = 6400;
    struct model *m = setup_model(&s);
    double first = 0, last = 0;
    for (uint32_t update = 0; update < 6; update++) {
        struct columns *c = columns_draw(100 + update, 6400, 1000);
        struct model_report report;
        struct metrics_values values;
        struct model_update *u = update_fed(m, c, 6400);
        model_update_finish(u, 0, &report);
        cr_assert_eq(report.n_heads, N_HEADS);
        cr_assert_eq(report.dense_trained, update == 0);
        cr_assert(report.frozen_after);
        cr_assert_eq(report.tables[0].created, update == 0 ? USERS : 0);
        metrics_values(&report.window[0], &values);
        cr_assert_eq(values.n, 6400);
        *(update == 0 ? &first : &last) = values.auc;
        model_apply(m, u);
        columns_free(c);
    }
    cr_assert_lt(fabs(first - 0.5), 0.05, "before any training all is chance: %g", first);
    cr_assert_gt(last, 0.82, "the rule allows 0.8375: %g", last);
    cr_assert_eq(model_trained(m), 6 * 6400);
    model_free(m);
}

Test(model, an_update_that_is_dropped_changes_nothing)
{
    struct setup s;
    setup_init(&s, 32);
    struct model *m = setup_model(&s);
    struct columns *c = columns_draw(1, 320, 1000);
    train(m, c, 320);
    struct state before = state_of(m);
    struct columns *d = columns_draw(2, 320, 2000);
    struct model_update *u = update_fed(m, d, 320);
    struct model_report report;
    model_update_finish(u, 1500, &report);
    model_update_free(u);
    struct state after = state_of(m);
    cr_assert(state_equal_and_done(&before, &after));
    columns_free(c);
    columns_free(d);
    model_free(m);
}

Test(model, the_same_samples_give_the_same_bytes_however_they_are_cut)
{
    for (uint32_t epochs = 1; epochs <= 2; epochs++) {
        struct setup s;
        setup_init(&s, 32);
        s.options.epochs = epochs;
        struct model *m[4];
        const uint32_t pieces[] = {1000, 1000, 32, 96};
        for (uint32_t i = 0; i < 4; i++) {
            m[i] = setup_model(&s);
            for (uint32_t update = 0; update < 3; update++) {
                struct columns *c = columns_draw(update, 1000, 1000);
                train(m[i], c, pieces[i]);
                columns_free(c);
            }
            cr_assert(models_equal(m[0], m[i]));
        }
        for (uint32_t i = 0; i < 4; i++)
            model_free(m[i]);
    }
}

// While all layers are trained, when they freeze, when a blob is loaded, when others come from elsewhere: never the
// weights of before.
Test(model, packed_weights_are_those_of_the_version)
{
    struct setup s;
    struct err err;
    setup_init(&s, 32);
    s.options.bootstrap_samples = 2000;
    struct model *m[3];
    for (uint32_t i = 0; i < 3; i++) {
        s.options.kernel = PACKED_BLAS;
        if (i > 0)
            cr_assert_eq(packed_kernel_choose(PACKED_AUTO, &s.options.kernel, &err), 0);
        m[i] = setup_model(&s);
    }
    float got[3][2][1000];
    for (uint32_t update = 0; update < 4; update++) {
        struct columns *c = columns_draw(update, 1000, 1000);
        for (uint32_t i = 0; i < 3; i++) {
            train(m[i], c, i == 2 ? 96 : 1000);
            if (i == 2) { // what a restart does, into a model that has packed others
                struct buf blob = {0};
                model_dense_save(m[1], &blob);
                cr_assert_eq(model_dense_load(m[2], buf_str(&blob), &err), 0);
                buf_done(&blob);
            }
            const struct model_samples view = columns_view(c, 0, 1000);
            model_predict(m[i], &view, (float *[]){got[i][0], got[i][1]});
        }
        for (uint32_t j = 0; j < 1000; j++)
            cr_assert_float_eq(got[0][0][j], got[1][0][j], 1e-4);
        cr_assert_arr_eq(got[1][0], got[2][0], sizeof got[1][0]);
        cr_assert(models_equal(m[1], m[2]), "the same samples give the same bytes however they are cut");
        columns_free(c);
    }
    struct columns *c = columns_draw(9, 1000, 1000); // frozen, and other layers come
    for (uint32_t i = 0; i < 3; i++) {
        struct model_report report;
        const struct model_samples view = columns_view(c, 0, 1000);
        struct model_update *u = model_update_new(m[i]);
        model_update_params(u, model_params(m[0]), NULL);
        model_update_finish(u, 0, &report);
        model_apply(m[i], u);
        model_predict(m[i], &view, (float *[]){got[i][0], got[i][1]});
    }
    for (uint32_t j = 0; j < 1000; j++)
        cr_assert_float_eq(got[0][0][j], got[1][0][j], 1e-4);
    cr_assert_arr_eq(got[1][0], got[2][0], sizeof got[1][0]);
    columns_free(c);
    for (uint32_t i = 0; i < 3; i++)
        model_free(m[i]);
}

Test(model, dense_layers_freeze_at_a_batch_boundary_and_stay)
{
    struct setup s;
    setup_init(&s, 32);
    s.options.bootstrap_samples = 100; // within the fourth batch, which is trained whole
    struct model *whole = setup_model(&s), *short_of = setup_model(&s);
    struct columns *c = columns_draw(1, 320, 1000), *four = columns_draw(1, 128, 1000);
    cr_assert(!model_frozen(whole));
    train(whole, c, 320);
    train(short_of, four, 128);
    cr_assert(model_frozen(whole));
    cr_assert(model_frozen(short_of));
    cr_assert(digest_equal(model_dense_digest(whole), model_dense_digest(short_of)));
    struct state before = state_of(whole);
    struct model_update *u = update_fed(whole, c, 320);
    struct model_report report;
    model_update_finish(u, 0, &report);
    cr_assert(!report.dense_trained);
    cr_assert(digest_equal(model_update_dense_digest(u), before.dense));
    model_apply(whole, u);
    cr_assert(digest_equal(model_dense_digest(whole), before.dense));
    cr_assert(!digest_equal(table_digest(model_table(whole, 0)), before.tables[0]));
    buf_done(&before.blob);
    columns_free(c);
    columns_free(four);
    model_free(whole);
    model_free(short_of);
}

Test(model, a_full_update_never_freezes)
{
    struct setup s;
    setup_init(&s, 32);
    s.options.bootstrap_samples = 1;
    struct model *daily = setup_model(&s);
    struct columns *c = columns_draw(1, 320, 1000);
    train(daily, c, 320);
    s.options.bootstrap_samples = MODEL_NEVER_FROZEN;
    struct model *full = setup_model(&s);
    struct buf blob = {0};
    model_dense_save(daily, &blob);
    cr_assert_eq(model_dense_load(full, buf_str(&blob), NULL), 0);
    cr_assert(!model_frozen(full));
    train(full, c, 320);
    cr_assert(!model_frozen(full));
    cr_assert(!digest_equal(model_dense_digest(full), model_dense_digest(daily)));
    buf_clear(&blob);
    model_dense_save(full, &blob);
    cr_assert_eq(model_dense_load(daily, buf_str(&blob), NULL), 0);
    cr_assert(model_frozen(daily));
    cr_assert(digest_equal(model_dense_digest(full), model_dense_digest(daily)));
    buf_done(&blob);
    columns_free(c);
    model_free(full);
    model_free(daily);
}

static void row_into_table(void *context, uint32_t table, uint64_t id, const struct table_row *row,
                           bool served)
{
    struct model *m = context;
    cr_assert_not_null(row);
    cr_assert(served);
    struct buf record = {0};
    table_row_put(model_table(m, table), row, &record);
    struct str bytes = {(const char *)record.data, (uint32_t)record.len};
    cr_assert_eq(table_row_load(model_table(m, table), id, bytes, NULL), 0);
    buf_done(&record);
}

// As the store does it: each update's rows and dense layers go into another model, which must be the same
// then.
Test(model, what_an_update_gives_out_is_the_model_after_it)
{
    struct setup s;
    setup_init(&s, 32);
    struct model *m = setup_model(&s), *copy = setup_model(&s);
    for (uint32_t update = 0; update < 4; update++) {
        struct columns *c = columns_draw(update, 500, 1000);
        struct model_update *u = update_fed(m, c, 500);
        struct model_report report;
        model_update_finish(u, 0, &report);
        struct buf blob = {0}, tensors = {0}, tensors_after = {0};
        model_update_dense(u, &blob);
        model_update_safetensors(u, &tensors);
        struct digest digest = model_update_dense_digest(u);
        model_update_each(u, row_into_table, copy);
        cr_assert_eq(model_dense_load(copy, buf_str(&blob), NULL), 0);
        model_apply(m, u);
        cr_assert(models_equal(m, copy));
        cr_assert(digest_equal(model_dense_digest(m), digest));
        model_dense_safetensors(m, &tensors_after);
        cr_assert_eq(tensors.len, tensors_after.len);
        cr_assert_arr_eq(tensors.data, tensors_after.data, tensors.len);
        cr_assert_eq(model_frozen(copy), update > 0);
        buf_done(&blob);
        buf_done(&tensors);
        buf_done(&tensors_after);
        columns_free(c);
    }
    model_free(m);
    model_free(copy);
}

// What is stored of a model into a new one: rows; dense layers as of their last training; the two counts.
static struct model *restarted(const struct setup *s, struct model *m, const struct buf *dense)
{
    struct model *to = setup_model(s);
    cr_assert_eq(model_dense_load(to, buf_str(dense), NULL), 0);
    model_resume(to, model_trained(m), model_steps(m));
    for (uint32_t t = 0; t < N_TABLES; t++)
        for (uint32_t i = 0; i < table_count(model_table(m, t)); i++) {
            const struct table_row *row = table_row(model_table(m, t), i);
            row_into_table(to, t, row->id, row, true);
        }
    model_free(m);
    return to;
}

static struct optimizer optimizer_all(enum optimizer_kind kind)
{
    const bool ftrl = kind == OPTIMIZER_FTRL;
    return (struct optimizer){.kind = kind,
                              .lr = kind == OPTIMIZER_ADAM ? 0.005f : 0.05f,
                              .accum = kind == OPTIMIZER_ADAM ? 0 : 0.01f,
                              .beta1 = 0.9f,
                              .beta2 = 0.999f,
                              .beta = 1,
                              .l1 = 0.01f,
                              .l2 = 0.01f,
                              .weight_decay = ftrl ? 0 : 0.01f,
                              .decoupled = kind == OPTIMIZER_ADAM,
                              .clip_norm = 0.1f,
                              .warmup = ftrl ? 0 : 700};
}

// One model goes on, the other begins anew from what is stored after every update; the freeze falls in between.
Test(model, a_restart_changes_no_byte_with_any_optimizer)
{
    for (uint32_t kind = 0; kind <= OPTIMIZER_ROWWISE_ADAGRAD; kind++) {
        struct setup s;
        setup_init(&s, 32);
        s.options.epochs = 2;
        s.blocks[1].options[1] = (struct layer_value){.name = "dropout", .number = 0.2};
        s.options.dense = optimizer_all(kind % OPTIMIZER_ROWWISE_ADAGRAD);
        for (uint32_t t = 0; t < N_TABLES; t++)
            s.tables[t].optimizer = optimizer_all(kind);
        struct model *m = setup_model(&s), *again = setup_model(&s);
        struct buf dense = {0}, after = {0};
        for (uint32_t update = 0; update < 6; update++) {
            struct columns *c = columns_draw(update, 500, 1000);
            const bool frozen = model_frozen(again);
            train(m, c, 500);
            train(again, c, 96);
            buf_clear(&after);
            model_dense_save(again, &after);
            cr_assert(!frozen || memcmp(after.data + 13, dense.data + 13, dense.len - 13) == 0);
            if (!frozen) {
                buf_clear(&dense);
                buf_put(&dense, after.data, after.len);
            }
            again = restarted(&s, again, &dense);
            cr_assert(models_equal(m, again), "%s, update %u", optimizer_name(kind), update);
            cr_assert_eq(model_steps(m), 32 * (update + 1));
            columns_free(c);
        }
        cr_assert(model_frozen(m));
        buf_done(&dense);
        buf_done(&after);
        model_free(m);
        model_free(again);
    }
}

Test(model, rows_that_are_not_seen_any_more_go)
{
    struct setup s;
    setup_init(&s, 32);
    s.tables[1].expire_ms = 0;
    struct model *m = setup_model(&s);
    struct columns *c = columns_draw(1, 320, 1000), *d = columns_draw(2, 4, 1051);
    train(m, c, 320);
    uint64_t items = table_count(model_table(m, 1));
    struct model_update *u = update_fed(m, d, 4);
    struct model_report report;
    model_update_finish(u, 1051, &report);
    cr_assert_eq(report.tables[0].tombstones + report.tables[0].rows, USERS);
    cr_assert_leq(report.tables[0].rows, 4);
    model_apply(m, u);
    cr_assert_leq(table_count(model_table(m, 0)), 4);
    cr_assert_eq(table_count(model_table(m, 1)), items, "a table without expiry keeps its rows");
    columns_free(c);
    columns_free(d);
    model_free(m);
}

Test(model, dense_blobs_that_do_not_fit_are_refused)
{
    struct setup s;
    setup_init(&s, 32);
    struct model *m = setup_model(&s);
    struct buf blob = {0};
    struct err err = {0};
    model_dense_save(m, &blob);
    struct state before = state_of(m);
    for (uint32_t len = 0; len < blob.len; len += len < 20 ? 1 : 97) {
        cr_assert_eq(model_dense_load(m, (struct str){(const char *)blob.data, len}, &err), -1);
        cr_assert_eq(err.code, ERR_CORRUPT);
    }
    blob.data[0]++;
    cr_assert_eq(model_dense_load(m, buf_str(&blob), &err), -1);
    cr_assert_eq(err.code, ERR_CORRUPT);
    struct state after = state_of(m);
    cr_assert(state_equal_and_done(&before, &after));
    buf_done(&blob);
    model_free(m);
}

Test(model, dense_layers_are_a_safetensors_file)
{
    struct setup s;
    setup_init(&s, 32);
    struct model *m = setup_model(&s);
    struct buf file = {0};
    model_dense_safetensors(m, &file);
    uint64_t header = 0;
    memcpy(&header, file.data, sizeof header);
    cr_assert_eq(header % 8, 0);
    const char *expected =
        "{\"bottom.0.weight\":{\"dtype\":\"F32\",\"shape\":[16,25],\"data_offsets\":[0,1600]},"
        "\"bottom.0.bias\":{\"dtype\":\"F32\",\"shape\":[16],\"data_offsets\":[1600,1664]},";
    cr_assert_eq(memcmp(file.data + 8, expected, strlen(expected)), 0, "%.*s", (int)header, file.data + 8);
    size_t floats = net_param_floats(model_net(m));
    cr_assert_eq(file.len, 8 + header + floats * sizeof(float));
    cr_assert_arr_eq(file.data + 8 + header, model_params(m), 1664);
    buf_done(&file);
    model_free(m);
}

Test(model, predicts_any_number_of_samples)
{
    struct setup s;
    setup_init(&s, 32);
    struct model *m = setup_model(&s);
    struct columns *c = columns_draw(1, 200, 1000);
    train(m, c, 200);
    float click[200], like[200], one_click, one_like;
    struct model_samples all = columns_view(c, 0, 200);
    all.labels = NULL;
    all.weights = NULL;
    all.seen_s = NULL;
    model_predict(m, &all, (float *const[]){click, like});
    for (uint32_t i = 0; i < 200; i++) {
        struct model_samples one = columns_view(c, i, 1);
        model_predict(m, &one, (float *const[]){&one_click, &one_like});
        cr_assert_lt(fabsf(one_click - click[i]), 1e-5f);
        cr_assert_lt(fabsf(one_like - like[i]), 1e-5f);
    }
    all.n = 0;
    model_predict(m, &all, (float *const[]){click, like});
    columns_free(c);
    model_free(m);
}

// ---- from elsewhere ----------------------------------------------------------------------------------

// All of `from`, row by row, into an update of `to`; with what the optimizers keep, or without.
static void carry(struct model *from, struct model *to, bool state)
{
    struct model_report report;
    struct model_update *u = model_update_new(to);
    for (uint32_t t = 0; t < N_TABLES; t++) {
        uint32_t n, *order = table_order(model_table(from, t), &n);
        for (uint32_t i = 0; i < n; i++)
            cr_assert(model_update_row(u, t, table_row(model_table(from, t), order[i]), state));
        free(order);
    }
    model_update_params(u, model_params(from), state ? model_state(from) : NULL);
    model_update_resume(u, model_trained(from), model_steps(from));
    model_update_finish(u, 0, &report);
    model_apply(to, u);
}

Test(model, what_optimizers_keep_is_carried_over)
{
    static const struct optimizer optimizers[] = {
        {.kind = OPTIMIZER_ADAGRAD, .lr = 0.05f, .accum = 0.1f},
        {.kind = OPTIMIZER_FTRL, .lr = 0.1f, .beta = 1, .l1 = 0.01f, .l2 = 0.1f},
        {.kind = OPTIMIZER_ADAM, .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f}};
    for (uint32_t i = 0; i < 6; i++) {
        struct setup s;
        setup_init(&s, 32);
        s.options.dense = s.tables[0].optimizer = s.tables[1].optimizer = optimizers[i % 3];
        s.options.bootstrap_samples = i < 3 ? 1500 : 100; // freezes after it was carried over, or before
        struct model *from = setup_model(&s), *to = setup_model(&s);
        struct columns *c = columns_draw(i, 1000, 1000);
        train(from, c, 1000);
        columns_free(c);
        carry(from, to, true);
        cr_assert(models_equal(from, to));
        c = columns_draw(10 + i, 1000, 1000);
        train(from, c, 1000);
        train(to, c, 1000);
        cr_assert(models_equal(from, to), "%s goes on", optimizer_name(optimizers[i % 3].kind));
        columns_free(c);
        model_free(from);
        model_free(to);
    }
}

// Else an import would be forgotten by the next step of ftrl, whose parameters follow from its sums.
Test(model, state_that_does_not_come_begins)
{
    struct setup s;
    setup_init(&s, 32);
    s.options.dense = (struct optimizer){.kind = OPTIMIZER_FTRL, .lr = 0.1f, .beta = 1, .l1 = 0.01f};
    struct model *from = setup_model(&s), *to = setup_model(&s);
    struct columns *c = columns_draw(1, 1000, 1000);
    train(from, c, 1000);
    columns_free(c);
    carry(from, to, false);
    const size_t n = net_state_floats(model_net(to), &s.options.dense);
    float *begun = mem_array(n, sizeof *begun);
    net_state_begin(model_net(to), &s.options.dense, model_params(from), begun);
    cr_assert_arr_eq(model_state(to), begun, n * sizeof *begun);
    cr_assert_arr_neq(model_state(from), begun, n * sizeof *begun);
    free(begun);
    model_free(from);
    model_free(to);
}
