// SPDX-License-Identifier: Apache-2.0
// Metrics against their definitions, written out in quadratic time.
#include "models/metrics.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

static double auc_twin(const float *p, const float *y, uint32_t n)
{
    double wins = 0, pairs = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++) {
            if (!(y[i] > 0.5f) || y[j] > 0.5f)
                continue;
            pairs += 1;
            wins += p[i] > p[j] ? 1 : p[i] == p[j] ? 0.5 : 0;
        }
    return pairs > 0 ? wins / pairs : NAN;
}

static void random_samples(uint64_t seed, uint32_t n, uint32_t levels, float *p, float *y, float *w)
{
    struct rng rng = rng_of(seed);
    for (uint32_t i = 0; i < n; i++) {
        p[i] = levels > 0 ? (float)rng_below(&rng, levels) / (float)levels : (float)rng_uniform(&rng);
        y[i] = rng_uniform(&rng) < 0.3 ? 1 : 0;
        w[i] = (float)rng_uniform(&rng);
    }
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-12 * fmax(1, fabs(b));
}

static bool same(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

Test(metrics, auc_with_ties)
{
    enum { N = 500 };
    float p[N], y[N], w[N];
    const uint32_t levels[] = {0, 1, 2, 7, 100};
    for (uint32_t l = 0; l < 5; l++) {
        random_samples(l, N, levels[l], p, y, w);
        struct metrics m;
        metrics_init(&m, N);
        metrics_put(&m, p, y, NULL, N);
        struct metrics_values v;
        metrics_values(&m, &v);
        cr_assert(near(v.auc, auc_twin(p, y, N)), "%u levels: %.17g", levels[l], v.auc);
        metrics_done(&m);
    }
}

Test(metrics, values_by_definition)
{
    enum { N = 300 };
    float p[N], y[N], w[N];
    random_samples(3, N, 0, p, y, w);
    p[0] = 0; // clipped in the logloss
    y[0] = 1;
    p[1] = 1;
    y[1] = 0;
    y[2] = 0.25f; // a soft label
    double loss = 0, ws = 0, ys = 0, ps = 0;
    for (uint32_t i = 0; i < N; i++) {
        double q = fmin(fmax((double)p[i], 1e-7), 1 - 1e-7), t = (double)y[i], weight = (double)w[i];
        loss -= weight * (t * log(q) + (1 - t) * log(1 - q));
        ws += weight;
        ys += weight * t;
        ps += weight * (double)p[i];
    }
    struct metrics m;
    metrics_init(&m, 1000);
    metrics_put(&m, p, y, w, N);
    struct metrics_values v;
    metrics_values(&m, &v);
    double base = ys / ws, h = -base * log(base) - (1 - base) * log(1 - base);
    cr_assert(fabs(v.logloss - loss / ws) < 1e-9);
    cr_assert(fabs(v.ne - loss / ws / h) < 1e-9);
    cr_assert(near(v.calibration, ps / ys));
    cr_assert(near(v.base_rate, base));
    cr_assert_eq(v.n, N);
    metrics_done(&m);
}

Test(metrics, the_base_rate_has_ne_1_and_calibration_1)
{
    float p[8], y[8] = {1, 1, 0, 0, 0, 0, 0, 0};
    for (uint32_t i = 0; i < 8; i++)
        p[i] = 0.25f;
    struct metrics m;
    metrics_init(&m, 100);
    metrics_put(&m, p, y, NULL, 8);
    struct metrics_values v;
    metrics_values(&m, &v);
    cr_assert(near(v.ne, 1) && near(v.calibration, 1) && near(v.auc, 0.5));
    metrics_done(&m);
}

Test(metrics, one_class_or_nothing_is_nan)
{
    struct metrics m;
    struct metrics_values v;
    metrics_init(&m, 100);
    metrics_values(&m, &v);
    cr_assert(isnan(v.auc) && isnan(v.logloss) && isnan(v.ne) && isnan(v.calibration));
    float p[2] = {0.5f, 0.25f}, y[2] = {0, 0};
    metrics_put(&m, p, y, NULL, 2);
    metrics_values(&m, &v);
    cr_assert(isnan(v.auc) && isnan(v.ne) && isnan(v.calibration) && v.logloss > 0);
    metrics_clear(&m);
    y[0] = y[1] = 1;
    metrics_put(&m, p, y, NULL, 2);
    metrics_values(&m, &v);
    cr_assert(isnan(v.auc) && isnan(v.ne) && near(v.calibration, 0.375));
    metrics_done(&m);
}

Test(metrics, nan_predictions_show)
{
    struct metrics m;
    metrics_init(&m, 100);
    float p[2] = {NAN, 0.5f}, y[2] = {0, 1};
    metrics_put(&m, p, y, NULL, 2);
    struct metrics_values v;
    metrics_values(&m, &v);
    cr_assert(isnan(v.logloss) && isnan(v.ne) && isnan(v.calibration));
    metrics_done(&m);
}

Test(metrics, thinning_keeps_positions)
{
    enum { N = 1000, MAX = 100 };
    float p[N], y[N], w[N], kept_p[N], kept_y[N];
    random_samples(4, N, 50, p, y, w);
    struct metrics m;
    metrics_init(&m, MAX);
    for (uint32_t i = 0; i < N; i += 37)
        metrics_put(&m, p + i, y + i, NULL, i + 37 < N ? 37 : N - i);
    cr_assert_eq(m.step, 16); // 1000 / 100 is above 8
    uint32_t kept = 0;
    for (uint32_t i = 0; i < N; i += 16, kept++) {
        kept_p[kept] = p[i];
        kept_y[kept] = y[i];
    }
    cr_assert_eq(m.scores.len, kept * 5);
    struct metrics_values v;
    metrics_values(&m, &v);
    cr_assert(near(v.auc, auc_twin(kept_p, kept_y, kept)));
    cr_assert_eq(v.n, N);
    metrics_done(&m);
}

// `from` is not thinned: its samples may as well have been put.
Test(metrics, merge_is_putting)
{
    enum { N = 1000 };
    float p[N], y[N], w[N];
    random_samples(5, N, 0, p, y, w);
    for (uint64_t max = 60; max <= 2000; max += 485) {
        struct metrics whole, a, b;
        metrics_init(&whole, max);
        metrics_init(&a, max);
        metrics_init(&b, 10000);
        metrics_put(&whole, p, y, w, N);
        metrics_put(&a, p, y, w, 613);
        metrics_put(&b, p + 613, y + 613, w + 613, N - 613);
        metrics_merge(&a, &b);
        cr_assert_eq(a.n, whole.n);
        cr_assert_eq(a.step, whole.step);
        cr_assert_eq(a.scores.len, whole.scores.len);
        cr_assert_arr_eq(a.scores.data, whole.scores.data, whole.scores.len);
        cr_assert(near(a.logloss_sum, whole.logloss_sum) && near(a.prediction_sum, whole.prediction_sum));
        metrics_done(&whole);
        metrics_done(&a);
        metrics_done(&b);
    }
}

// A sample that is left out is as if it were not there; one that is put as a negative and then moved, with the same
// prediction, is as if it had been put as a positive.
Test(metrics, masks_and_moves_end_at_the_final_labels)
{
    enum { N = 1000 };
    float p[N], y[N], w[N], first[N], again_p[N], again_y[N], again_w[N];
    uint32_t moved = 0, n = 0;
    random_samples(8, N, 30, p, y, w);
    struct metrics whole, m;
    metrics_init(&whole, 10000);
    metrics_init(&m, 10000);
    for (uint32_t i = 0; i < N; i++) {
        bool masked = i % 7 == 0;
        bool late = !masked && y[i] > 0 && i % 3 == 0;
        first[i] = late ? 0 : y[i];
        if (late) {
            again_p[moved] = p[i];
            again_y[moved] = 1;
            again_w[moved++] = -w[i];
        }
        if (!masked)
            metrics_put(&whole, p + i, y + i, w + i, 1);
        n += !masked;
        w[i] = masked ? 0 : w[i];
    }
    metrics_put(&m, p, first, w, N);
    metrics_put(&m, again_p, again_y, again_w, moved);
    struct metrics_values a, b;
    metrics_values(&whole, &a);
    metrics_values(&m, &b);
    cr_assert(moved > 50 && a.n == n && b.n == n);
    cr_assert(near(a.auc, b.auc) && near(a.logloss, b.logloss) && near(a.ne, b.ne));
    cr_assert(near(a.calibration, b.calibration) && near(a.base_rate, b.base_rate));
    metrics_done(&whole);
    metrics_done(&m);
}

Test(metrics, merge_of_thinned_ones_stays_bounded)
{
    enum { N = 1000 };
    float p[N], y[N], w[N];
    random_samples(6, N, 0, p, y, w);
    struct metrics a, b;
    metrics_init(&a, 64);
    metrics_init(&b, 200);
    for (uint32_t i = 0; i < 20; i++) {
        metrics_clear(&b);
        metrics_put(&b, p, y, w, N - i);
        metrics_merge(&a, &b);
        cr_assert_leq(a.scores.len / 5, 64);
        cr_assert_geq(a.scores.len / 5, 16);
        cr_assert_geq(a.step, b.step);
    }
    metrics_done(&a);
    metrics_done(&b);
}

Test(metrics, save_and_load_bit_for_bit)
{
    enum { N = 777 };
    float p[N], y[N], w[N];
    random_samples(7, N, 0, p, y, w);
    struct metrics a, b;
    struct buf saved = {0}, again = {0};
    metrics_init(&a, 300);
    metrics_init(&b, 300);
    metrics_put(&a, p, y, w, 400);
    metrics_save(&a, &saved);
    struct rd rd = rd_of(saved.data, saved.len);
    cr_assert_eq(metrics_load(&b, &rd), 0);
    cr_assert_eq(rd_left(&rd), 0);
    metrics_put(&a, p + 400, y + 400, w + 400, N - 400);
    metrics_put(&b, p + 400, y + 400, w + 400, N - 400);
    buf_clear(&saved);
    metrics_save(&a, &saved);
    metrics_save(&b, &again);
    cr_assert_eq(saved.len, again.len);
    cr_assert_arr_eq(saved.data, again.data, saved.len);
    struct metrics_values va, vb;
    metrics_values(&a, &va);
    metrics_values(&b, &vb);
    cr_assert(same(va.auc, vb.auc) && same(va.ne, vb.ne) && same(va.logloss, vb.logloss));
    buf_done(&saved);
    buf_done(&again);
    metrics_done(&a);
    metrics_done(&b);
}

Test(metrics, load_refuses_what_is_malformed)
{
    float p[3] = {0.1f, 0.2f, 0.3f}, y[3] = {0, 1, 0};
    struct metrics a, b;
    struct buf saved = {0};
    metrics_init(&a, 10);
    metrics_init(&b, 10);
    metrics_put(&a, p, y, NULL, 3);
    metrics_put(&b, p, y, NULL, 1);
    metrics_save(&a, &saved);
    for (size_t len = 0; len < saved.len; len++) {
        struct rd rd = rd_of(saved.data, len);
        cr_assert_eq(metrics_load(&b, &rd), -1);
        cr_assert_eq(b.n, 1);
    }
    const size_t broken[] = {0, 17, 57 + 7, saved.len - 1}; // version, step, count, a label
    for (uint32_t i = 0; i < 4; i++) {
        saved.data[broken[i]] ^= 0x4a;
        struct rd rd = rd_of(saved.data, saved.len);
        cr_assert_eq(metrics_load(&b, &rd), -1);
        saved.data[broken[i]] ^= 0x4a;
    }
    buf_done(&saved);
    metrics_done(&a);
    metrics_done(&b);
}
