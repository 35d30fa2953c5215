// SPDX-License-Identifier: Apache-2.0
// A model trained as PyTorch trains it: rows, optimizer, dense layers and predictions after every epoch, beside the numbers
// of tests/golden/make_model_golden.py.
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/gemm.h"
#include "models/model.h"
#include "tests/unit/model_small.h"

TestSuite(model_golden, .init = gemm_setup);

enum { G_ROWS = 20, G_NEW = 4, G_ALL = G_ROWS + G_NEW + 1, G_BATCH = 8 };

struct golden {
    struct buf file;
};

static void golden_open(struct golden *g)
{
    FILE *f = fopen(TESTS_DIR "/golden/model.bin", "rb");
    cr_assert_not_null(f);
    uint8_t piece[4096];
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;)
        buf_put(&g->file, piece, n);
    fclose(f);
}

// The values of a record; they are not aligned.
static const uint8_t *golden_find(const struct golden *g, const char *name, uint32_t *ret_n)
{
    struct rd r = rd_of(g->file.data, g->file.len);
    while (rd_left(&r) > 0) {
        uint8_t len = rd_u8(&r);
        const uint8_t *key = rd_bytes(&r, len);
        rd_u8(&r);
        uint32_t n = rd_u32(&r);
        const uint8_t *values = rd_bytes(&r, n * sizeof(float));
        if (len == strlen(name) && memcmp(key, name, len) == 0) {
            *ret_n = n;
            return values;
        }
    }
    cr_assert_fail("no %s in the golden file", name);
    return NULL;
}

static uint32_t golden_floats(const struct golden *g, const char *name, float *to, uint32_t max)
{
    uint32_t n = 0;
    const uint8_t *values = golden_find(g, name, &n);
    cr_assert_leq(n, max);
    memcpy(to, values, n * sizeof *to);
    return n;
}

static uint32_t golden_ids(const struct golden *g, const char *name, uint64_t *to)
{
    uint32_t n = 0;
    const uint8_t *values = golden_find(g, name, &n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id;
        memcpy(&id, values + i * sizeof id, sizeof id);
        to[i] = id;
    }
    return n;
}

static struct columns *golden_columns(const struct golden *g)
{
    uint32_t n = 0;
    golden_find(g, "age", &n);
    struct columns *c = columns_new(n);
    golden_ids(g, "user", c->user);
    golden_ids(g, "item", c->item);
    golden_ids(g, "clicks", c->clicks);
    uint32_t offsets = 0;
    memcpy(c->offsets, golden_find(g, "offsets", &offsets), (n + 1) * sizeof *c->offsets);
    cr_assert_eq(offsets, n + 1);
    golden_floats(g, "age", c->age, n);
    golden_floats(g, "click", c->click, n);
    golden_floats(g, "like", c->like, n);
    golden_floats(g, "weights", c->weight, n);
    return c;
}

static void golden_into_model(const struct golden *g, struct model *m, float accum)
{
    struct buf blob = {0};
    const struct net *net = model_net(m);
    buf_put_u32(&blob, 1);
    buf_put_u64(&blob, 0);
    buf_put_u8(&blob, 0);
    size_t params = blob.len, bytes = net_param_floats(net) * sizeof(float);
    memset(buf_reserve(&blob, 2 * bytes), 0, 2 * bytes);
    blob.len += 2 * bytes;
    for (uint32_t i = 0; i < net_param_count(net); i++) {
        const struct net_param *p = net_param(net, i);
        uint32_t n = 0;
        const uint8_t *values = golden_find(g, p->name, &n);
        cr_assert_eq(n, p->rows * p->cols);
        memcpy(blob.data + params + p->offset * sizeof(float), values, n * sizeof(float));
    }
    cr_assert_eq(model_dense_load(m, buf_str(&blob), NULL), 0);
    for (uint32_t t = 0; t < N_TABLES; t++) {
        float rows[G_ALL * DIM];
        golden_floats(g, t == 0 ? "table0" : "table1", rows, G_ALL * DIM);
        for (uint64_t id = 1; id <= G_ROWS; id++) {
            buf_clear(&blob);
            buf_put_f32(&blob, accum);
            buf_put_u64(&blob, 1); // count, and never seen
            buf_put(&blob, rows + id * DIM, DIM * sizeof(float));
            struct str record = {(const char *)blob.data, (uint32_t)blob.len};
            cr_assert_eq(table_row_load(model_table(m, t), id, record, NULL), 0);
        }
    }
    buf_done(&blob);
}

static void near(float got, float want, const char *what)
{
    cr_assert_lt(fabsf(got - want), 1e-5f * (1 + fabsf(want)), "%s: %.9g, PyTorch has %.9g", what,
                 (double)got, (double)want);
}

static void golden_check_rows(const struct golden *g, struct model *m, uint32_t t, uint32_t epochs)
{
    char name[64];
    float rows[G_ALL * DIM], accums[G_ALL];
    snprintf(name, sizeof name, "%u.accum%u", epochs, t);
    golden_floats(g, name, accums, G_ALL);
    snprintf(name, sizeof name, "%u.table%u", epochs, t);
    golden_floats(g, name, rows, G_ALL * DIM);
    for (uint32_t id = 1; id < G_ALL; id++) {
        uint32_t slot = table_find(model_table(m, t), id);
        cr_assert_neq(slot, TABLE_NONE);
        const struct table_row *row = table_row(model_table(m, t), slot);
        near(row->accum, accums[id], name);
        for (uint32_t j = 0; j < DIM; j++)
            near(row->vector[j], rows[id * DIM + j], name);
    }
}

static void golden_check_params(const struct golden *g, struct model *m, uint32_t epochs)
{
    char name[3 * NET_NAME];
    const struct net *net = model_net(m);
    for (uint32_t i = 0; i < net_param_count(net); i++) {
        const struct net_param *p = net_param(net, i);
        float want[1024];
        snprintf(name, sizeof name, "%u.%s", epochs, p->name);
        uint32_t n = golden_floats(g, name, want, 1024);
        for (uint32_t j = 0; j < n; j++)
            near(model_params(m)[p->offset + j], want[j], name);
    }
}

static void golden_check_predictions(const struct golden *g, struct model *m, struct columns *c,
                                     const char *when)
{
    char name[64];
    float click[64], like[64], want[64];
    struct model_samples all = columns_view(c, 0, c->n);
    model_predict(m, &all, (float *const[]){click, like});
    for (uint32_t h = 0; h < N_HEADS; h++) {
        snprintf(name, sizeof name, "%s.%s", when, h == 0 ? "click" : "like");
        golden_floats(g, name, want, 64);
        for (uint32_t i = 0; i < c->n; i++)
            near((h == 0 ? click : like)[i], want[i], name);
    }
}

static void golden_run(uint32_t epochs)
{
    struct golden g = {0};
    golden_open(&g);
    struct setup s;
    setup_init(&s, G_BATCH);
    s.options.bootstrap_samples = 24;
    s.options.epochs = epochs;
    for (uint32_t t = 0; t < N_TABLES; t++)
        s.tables[t].init = 0;
    struct model *m = setup_model(&s);
    golden_into_model(&g, m, s.tables[0].optimizer.accum);
    struct columns *c = golden_columns(&g);
    golden_check_predictions(&g, m, c, "before");
    train(m, c, c->n);
    char when[16];
    snprintf(when, sizeof when, "%u.after", epochs);
    golden_check_params(&g, m, epochs);
    for (uint32_t t = 0; t < N_TABLES; t++)
        golden_check_rows(&g, m, t, epochs);
    golden_check_predictions(&g, m, c, when);
    columns_free(c);
    model_free(m);
    buf_done(&g.file);
}

Test(model_golden, trains_as_pytorch_does)
{
    golden_run(1);
}

Test(model_golden, trains_as_pytorch_does_over_two_epochs)
{
    golden_run(2);
}
