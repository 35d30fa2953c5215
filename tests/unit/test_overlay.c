// SPDX-License-Identifier: Apache-2.0
// The overlay against a naive twin: one list of rows, one occurrence after the other, sums in double.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/table.h"

enum { UNIVERSE = 300, DIM_MAX = 40, BATCH = 200 };

// ---- the twin ----------------------------------------------------------------------------------------

static const struct optimizer_at first = {.step = 1};

struct twin_row {
    bool present, touched, admitted;
    uint32_t count, seen;
    double accum;
    double vector[DIM_MAX];
};

struct twin {
    struct table_options options;
    uint32_t rows;
    uint64_t full;
    struct twin_row row[UNIVERSE];
};

static uint64_t id_of(uint32_t k)
{
    return hash_mix(k + 1);
}

static void twin_init_vector(struct twin *w, uint32_t k)
{
    struct rng rng = rng_of(hash_mix(id_of(k) + hash_mix(w->options.seed)));
    for (uint32_t j = 0; j < w->options.dim; j++)
        w->row[k].vector[j] = (double)(w->options.init * (float)rng_normal(&rng));
}

// Whether the occurrence is served.
static bool twin_touch(struct twin *w, uint32_t k, uint32_t seen)
{
    struct twin_row *r = &w->row[k];
    if (!r->present && w->rows == w->options.rows) {
        w->full++;
        return false;
    }
    w->rows += !r->present;
    r->present = r->touched = true;
    r->count++;
    r->seen = seen > r->seen ? seen : r->seen;
    if (!r->admitted && r->count >= w->options.admit) {
        r->admitted = true;
        r->accum = (double)w->options.optimizer.accum;
        twin_init_vector(w, k);
    }
    return r->admitted;
}

static void twin_step_row(struct twin *w, uint32_t k, const double *g)
{
    double squares = 0;
    for (uint32_t j = 0; j < w->options.dim; j++)
        squares += g[j] * g[j];
    w->row[k].accum += squares / w->options.dim;
    for (uint32_t j = 0; j < w->options.dim; j++)
        w->row[k].vector[j] -= (double)w->options.optimizer.lr * g[j] / (sqrt(w->row[k].accum) + 1e-8);
}

static void twin_step(struct twin *w, const uint32_t *ks, const bool *served, const float *gradients,
                      uint32_t n, double scale)
{
    for (uint32_t k = 0; k < UNIVERSE; k++) {
        double sum[DIM_MAX] = {0};
        bool any = false;
        for (uint32_t i = 0; i < n; i++) {
            if (ks[i] != k || !served[i])
                continue;
            any = true;
            for (uint32_t j = 0; j < w->options.dim; j++)
                sum[j] += scale * (double)gradients[i * w->options.dim + j];
        }
        if (any)
            twin_step_row(w, k, sum);
    }
}

static void near(double got, double want)
{
    cr_assert_lt(fabs(got - want), 1e-4 * (1 + fabs(want)), "%g, expected %g", got, want);
}

static void twin_check(const struct twin *w, const struct table *t)
{
    uint64_t rows = 0, admitted = 0;
    for (uint32_t k = 0; k < UNIVERSE; k++) {
        const struct twin_row *r = &w->row[k];
        uint32_t slot = table_find(t, id_of(k));
        cr_assert_eq(slot != TABLE_NONE, r->present);
        if (!r->present)
            continue;
        rows++;
        admitted += r->admitted;
        const struct table_row *row = table_row(t, slot);
        cr_assert_eq(row->count, r->count);
        cr_assert_eq(row->last_seen_s, r->seen);
        cr_assert_eq(table_admitted(t, row), r->admitted);
        near((double)row->accum, r->accum);
        for (uint32_t j = 0; j < w->options.dim; j++)
            near((double)row->vector[j], r->vector[j]);
    }
    cr_assert_eq(table_count(t), rows);
    cr_assert_eq(table_admitted_count(t), admitted);
}

// ---- against the twin --------------------------------------------------------------------------------

struct batch {
    uint64_t ids[BATCH];
    uint32_t ks[BATCH], seen[BATCH], slots[BATCH];
    bool served[BATCH];
    float gradients[BATCH * DIM_MAX];
};

// A few ids often, so that there are duplicates.
static void batch_draw(struct batch *b, struct rng *rng, uint32_t dim, uint32_t now)
{
    for (uint32_t i = 0; i < BATCH; i++) {
        uint32_t range = rng_below(rng, 2) != 0 ? UNIVERSE : 12;
        b->ks[i] = (uint32_t)rng_below(rng, range);
        b->ids[i] = id_of(b->ks[i]);
        b->seen[i] = now - (uint32_t)rng_below(rng, 50);
    }
    for (uint32_t i = 0; i < BATCH * dim; i++)
        b->gradients[i] = (float)rng_normal(rng);
}

static void batch_run(struct batch *b, struct overlay *o, struct twin *w, bool halves)
{
    const uint32_t dim = w->options.dim, half = BATCH / 3;
    overlay_touch(o, b->ids, b->seen, BATCH, b->slots);
    for (uint32_t i = 0; i < BATCH; i++) {
        b->served[i] = twin_touch(w, b->ks[i], b->seen[i]);
        cr_assert_eq(b->slots[i] != TABLE_NONE, b->served[i]);
        const float *vector = overlay_vectors(o) + b->slots[i] * overlay_stride(o);
        for (uint32_t j = 0; b->served[i] && j < dim; j++)
            near((double)vector[j], w->row[b->ks[i]].vector[j]);
    }
    if (halves) {
        overlay_gradient(o, b->slots, b->gradients, dim, half);
        overlay_gradient(o, b->slots + half, b->gradients + half * dim, dim, BATCH - half);
        overlay_descend(o, 0.25f, &first);
    } else {
        overlay_step(o, b->slots, b->gradients, BATCH, &first);
    }
    twin_step(w, b->ks, b->served, b->gradients, BATCH, halves ? 0.25 : 1);
}

static void twin_expire(struct twin *w, uint32_t before_s)
{
    for (uint32_t k = 0; k < UNIVERSE; k++)
        if (w->row[k].present && w->row[k].seen < before_s) {
            w->row[k] = (struct twin_row){0};
            w->rows--;
        }
}

static void updates_check(uint32_t dim, uint64_t rows, uint32_t admit)
{
    struct rng rng = rng_of(dim + rows + admit);
    struct twin *w = mem_zalloc(sizeof *w);
    struct batch *b = mem_zalloc(sizeof *b);
    w->options =
        (struct table_options){.name = "t",
                               .dim = dim,
                               .rows = rows,
                               .admit = admit,
                               .init = 0.1f,
                               .optimizer = {.kind = OPTIMIZER_ROWWISE_ADAGRAD, .lr = 0.1f, .accum = 0.01f},
                               .seed = 9};
    struct table *t = table_new(&w->options);
    struct overlay *o = overlay_new(t);
    for (uint32_t update = 0; update < 6; update++) {
        uint32_t now = 1000 + update * 20;
        for (uint32_t i = 0; i < 4; i++) {
            batch_draw(b, &rng, dim, now);
            batch_run(b, o, w, i % 2 != 0);
        }
        struct overlay_figures figures;
        overlay_figures(o, &figures);
        cr_assert_eq(figures.full, w->full);
        cr_assert(figures.finite);
        if (update % 2 != 0) {
            overlay_expire(o, now - 60);
            twin_expire(w, now - 60);
        }
        table_apply(t, o);
        twin_check(w, t);
        overlay_clear(o);
        w->full = 0;
    }
    overlay_free(o);
    table_free(t);
    free(w);
    free(b);
}

Test(overlay, does_what_a_naive_one_does)
{
    const uint32_t dims[] = {1, 3, 8, 16, 33, 40};
    for (uint32_t d = 0; d < sizeof dims / sizeof *dims; d++) {
        updates_check(dims[d], UNIVERSE, 1);
        updates_check(dims[d], UNIVERSE, 4);
    }
}

Test(overlay, refuses_new_ids_when_the_table_is_full)
{
    updates_check(16, 100, 1);
    updates_check(5, 40, 3);
}

// ---- promises one by one -----------------------------------------------------------------------------

static struct table_options options_of(uint64_t rows, uint32_t admit)
{
    return (struct table_options){.name = "t",
                                  .dim = 4,
                                  .rows = rows,
                                  .admit = admit,
                                  .init = 0.1f,
                                  .optimizer = {.kind = OPTIMIZER_ROWWISE_ADAGRAD, .lr = 0.1f},
                                  .seed = 3};
}

static void touch_one(struct overlay *o, uint64_t id, uint32_t seen_s)
{
    uint32_t slot = 0;
    overlay_touch(o, &id, &seen_s, 1, &slot);
}

Test(overlay, admits_from_the_occurrence_that_makes_it_full)
{
    struct table_options options = options_of(10, 3);
    struct table *t = table_new(&options);
    struct overlay *o = overlay_new(t);
    const uint64_t ids[] = {7, 7, 8, 0, 7, 8, 7};
    const uint32_t seen[7] = {1, 5, 1, 1, 2, 1, 1};
    uint32_t slots[7];
    overlay_touch(o, ids, seen, 7, slots);
    const bool served[] = {false, false, false, false, true, false, true};
    for (uint32_t i = 0; i < 7; i++)
        cr_assert_eq(slots[i] != TABLE_NONE, served[i]);
    cr_assert_eq(slots[4], slots[6]);
    cr_assert_eq(table_count(t), 0, "the table is as it was");
    table_apply(t, o);
    cr_assert_eq(table_count(t), 2);
    const struct table_row *row = table_row(t, table_find(t, 7));
    cr_assert_eq(row->count, 4);
    cr_assert_eq(row->last_seen_s, 5);
    overlay_free(o);
    table_free(t);
}

Test(overlay, vectors_begin_from_seed_and_id_alone)
{
    struct table_options options = options_of(100, 1);
    struct table *a = table_new(&options), *b = table_new(&options);
    options.seed++;
    struct table *c = table_new(&options);
    struct overlay *oa = overlay_new(a), *ob = overlay_new(b), *oc = overlay_new(c);
    for (uint32_t k = 0; k < 100; k++) {
        touch_one(oa, id_of(k), 1);
        touch_one(ob, id_of(99 - k), 1);
        touch_one(oc, id_of(k), 1);
    }
    table_apply(a, oa);
    table_apply(b, ob);
    table_apply(c, oc);
    cr_assert(digest_equal(table_digest_full(a), table_digest_full(b)));
    cr_assert(!digest_equal(table_digest(a), table_digest(c)));
    double sum = 0, squares = 0;
    for (uint32_t slot = 0; slot < 100; slot++)
        for (uint32_t j = 0; j < 4; j++) {
            double v = (double)table_row(a, slot)->vector[j];
            sum += v;
            squares += v * v;
        }
    cr_assert_lt(fabs(sum / 400), 0.02);
    cr_assert_lt(fabs(sqrt(squares / 400) - 0.1), 0.02);
    overlay_free(oa);
    overlay_free(ob);
    overlay_free(oc);
    table_free(a);
    table_free(b);
    table_free(c);
}

struct heard {
    uint32_t n;
    uint64_t ids[16];
    bool gone[16], served[16];
};

static void hear(void *context, uint64_t id, const struct table_row *row, bool served)
{
    struct heard *h = context;
    cr_assert(row == NULL || row->id == id);
    h->ids[h->n] = id;
    h->gone[h->n] = row == NULL;
    h->served[h->n++] = served;
}

// In the table: 1, 2, 3 served, 4, 5 waiting; then 1 and 4 are touched, 6 and 7 are new, 7 is late, 2 and 5
// stay.
Test(overlay, tells_what_changed_in_order_of_id)
{
    struct table_options options = options_of(10, 2);
    struct table *t = table_new(&options);
    struct overlay *o = overlay_new(t);
    for (uint64_t id = 1; id <= 5; id++)
        for (uint32_t i = 0; i < (id <= 3 ? 2 : 1); i++)
            touch_one(o, id, id == 3 ? 100 : 10);
    table_apply(t, o);
    overlay_clear(o);
    touch_one(o, 6, 100);
    touch_one(o, 4, 100);
    touch_one(o, 1, 20);
    touch_one(o, 7, 20);
    touch_one(o, 2, 100);
    overlay_expire(o, 50);
    struct heard h = {0};
    overlay_each(o, hear, &h);
    const uint64_t ids[] = {1, 2, 4, 5, 6};
    const bool gone[] = {true, false, false, true, false};
    const bool served[] = {true, true, true, false, false};
    cr_assert_eq(h.n, 5);
    for (uint32_t i = 0; i < 5; i++) {
        cr_assert_eq(h.ids[i], ids[i]);
        cr_assert_eq(h.gone[i], gone[i]);
        cr_assert_eq(h.served[i], served[i]);
    }
    struct overlay_figures f;
    overlay_figures(o, &f);
    cr_assert_eq(f.rows, 3);
    cr_assert_eq(f.admitted, 2);
    cr_assert_eq(f.created, 1);
    cr_assert_eq(f.tombstones, 2);
    table_apply(t, o);
    cr_assert_eq(table_count(t), 4);
    for (uint64_t id = 1; id <= 7; id++)
        cr_assert_eq(table_find(t, id) == TABLE_NONE, id == 1 || id == 5 || id == 7);
    overlay_free(o);
    table_free(t);
}

Test(overlay, figures_tell_norms_and_what_is_not_finite)
{
    struct table_options options = options_of(10, 1);
    options.init = 0;
    options.optimizer.lr = 1;
    struct table *t = table_new(&options);
    struct overlay *o = overlay_new(t);
    const uint64_t ids[] = {1, 2};
    const uint32_t seen[] = {1, 1};
    uint32_t slots[2];
    struct overlay_figures f;
    overlay_touch(o, ids, seen, 2, slots);
    float gradients[8] = {3, 0, 0, 0, 0, 0, 0, 0}; // accum 9 / 4, so the vector moves by 3 / 1.5
    overlay_step(o, slots, gradients, 2, &first);
    overlay_figures(o, &f);
    cr_assert(f.finite);
    near((double)f.norm_max, 2);
    near(f.norm_mean, 1);
    gradients[5] = NAN;
    overlay_step(o, slots, gradients, 2, &first);
    overlay_figures(o, &f);
    cr_assert(!f.finite);
    overlay_free(o);
    table_free(t);
}

Test(overlay, grows_over_many_rows)
{
    enum { MANY = 300000, PIECE = 1000 };
    struct table_options options = options_of(MANY, 1);
    options.dim = 1;
    options.init = 0;
    struct table *t = table_new(&options);
    struct overlay *o = overlay_new(t);
    uint64_t ids[PIECE];
    uint32_t seen[PIECE] = {0}, slots[PIECE];
    for (uint32_t at = 0; at < 2 * MANY; at += PIECE) {
        for (uint32_t i = 0; i < PIECE; i++)
            ids[i] = id_of((at + i) % MANY);
        overlay_touch(o, ids, seen, PIECE, slots);
        for (uint32_t i = 0; i < PIECE; i++)
            cr_assert_eq(slots[i], (at + i) % MANY);
    }
    struct overlay_figures f;
    overlay_figures(o, &f);
    cr_assert_eq(f.rows, MANY);
    cr_assert_eq(f.full, 0);
    touch_one(o, id_of(MANY), 1);
    overlay_figures(o, &f);
    cr_assert_eq(f.full, 1);
    table_apply(t, o);
    cr_assert_eq(table_count(t), MANY);
    overlay_free(o);
    table_free(t);
}
