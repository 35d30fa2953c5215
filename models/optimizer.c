// SPDX-License-Identifier: Apache-2.0
// The steps as plain loops over parameters, which the compiler vectorizes (kernel.h); no value depends on another, so
// any order gives the same bytes. Cost: parameters, state and gradient are read and written once each; weight
// decay is a pass of its own, and only where there is some.
//
// Two forms differ from the text of the papers. FTRL's sqrt(s') - sqrt(s) is g g / (sqrt(s') + sqrt(s)), which keeps
// its digits where s is large. Adam divides by 1 - b2^t once a step, in lr and in the 1e-8, not once a parameter.
#include "models/optimizer.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "models/kernel.h"

#define ADAM_EPS 1e-8
#define CLIP_EPS 1e-6 // of clip_grad_norm_

const char *optimizer_name(enum optimizer_kind kind)
{
    static const char *const names[] = {[OPTIMIZER_ADAGRAD] = "adagrad",
                                        [OPTIMIZER_FTRL] = "ftrl",
                                        [OPTIMIZER_ADAM] = "adam",
                                        [OPTIMIZER_ROWWISE_ADAGRAD] = "rowwise_adagrad"};
    return names[kind];
}

uint32_t optimizer_state(enum optimizer_kind kind)
{
    static const uint32_t floats[] = {
        [OPTIMIZER_ADAGRAD] = 1, [OPTIMIZER_FTRL] = 2, [OPTIMIZER_ADAM] = 2, [OPTIMIZER_ROWWISE_ADAGRAD] = 0};
    return floats[kind];
}

const char *optimizer_state_name(enum optimizer_kind kind, uint32_t array)
{
    static const char *const names[][2] = {[OPTIMIZER_ADAGRAD] = {"sum"},
                                           [OPTIMIZER_FTRL] = {"z", "n"},
                                           [OPTIMIZER_ADAM] = {"exp_avg", "exp_avg_sq"}};
    assert(array < optimizer_state(kind));
    return names[kind][array];
}

bool optimizer_state_squares(enum optimizer_kind kind, uint32_t array)
{
    return kind == OPTIMIZER_ADAGRAD || array == 1;
}

static float warmed(const struct optimizer *o, float lr, uint64_t samples)
{
    if (samples >= o->warmup)
        return lr;
    return (float)((double)lr * (double)samples / (double)o->warmup);
}

struct optimizer_step optimizer_step_of(const struct optimizer *o, float lr, const struct optimizer_at *at,
                                        bool rows)
{
    struct optimizer_step s = {.kind = o->kind,
                               .lr = warmed(o, lr, at->samples),
                               .beta1 = o->beta1,
                               .beta2 = o->beta2,
                               .beta = o->beta,
                               .l1 = o->l1,
                               .l2 = o->l2,
                               .keep = 1};
    assert(o->kind != OPTIMIZER_FTRL || (o->warmup == 0 && o->weight_decay == 0));
    if (o->decoupled)
        s.keep = 1 - s.lr * o->weight_decay;
    else
        s.decay = o->weight_decay;
    if (o->kind == OPTIMIZER_ADAM) {
        assert(at->step > 0);
        const double t = (double)at->step, root = sqrt(1 - pow((double)o->beta2, t));
        s.rate = (float)((double)s.lr * root / (1 - pow((double)o->beta1, t)));
        s.eps = (float)(rows ? ADAM_EPS : ADAM_EPS * root);
    }
    return s;
}

// ---- begin -------------------------------------------------------------------------------------------

void optimizer_begin(const struct optimizer *o, float lr, size_t n, const float *params, float *first,
                     float *second)
{
    const float scale = (o->beta + sqrtf(o->accum)) / lr + o->l2;
    switch (o->kind) {
    case OPTIMIZER_ADAGRAD:
        for (size_t i = 0; i < n; i++)
            first[i] = o->accum;
        return;
    case OPTIMIZER_FTRL:
        for (size_t i = 0; i < n; i++) {
            first[i] = params[i] == 0 ? 0 : -params[i] * scale - copysignf(o->l1, params[i]);
            second[i] = o->accum;
        }
        return;
    case OPTIMIZER_ADAM:
        memset(first, 0, n * sizeof *first);
        memset(second, 0, n * sizeof *second);
        return;
    case OPTIMIZER_ROWWISE_ADAGRAD:
        break;
    }
    assert(!"a kind with state of its own");
}

// ---- steps -------------------------------------------------------------------------------------------

KERNEL void optimizer_adagrad(size_t n, float *restrict params, float *restrict accum,
                              const float *restrict gradient, float lr)
{
    for (size_t i = 0; i < n; i++) {
        accum[i] += gradient[i] * gradient[i];
        params[i] -= lr * gradient[i] / (sqrtf(accum[i]) + 1e-10f);
    }
}

KERNEL static void step_adam(const struct optimizer_step *s, size_t n, float *restrict params,
                             float *restrict mean, float *restrict square, const float *restrict gradient)
{
    const float beta1 = s->beta1, beta2 = s->beta2, rate = s->rate, eps = s->eps;
    for (size_t i = 0; i < n; i++) {
        mean[i] = beta1 * mean[i] + (1 - beta1) * gradient[i];
        square[i] = beta2 * square[i] + (1 - beta2) * gradient[i] * gradient[i];
        params[i] -= rate * mean[i] / (sqrtf(square[i]) + eps);
    }
}

KERNEL static void step_ftrl(const struct optimizer_step *s, size_t n, float *restrict params,
                             float *restrict z, float *restrict squares, const float *restrict gradient)
{
    const float over = 1 / s->lr, beta = s->beta, l1 = s->l1, l2 = s->l2;
    for (size_t i = 0; i < n; i++) {
        const float gg = gradient[i] * gradient[i], before = sqrtf(squares[i]);
        squares[i] += gg;
        const float after = sqrtf(squares[i]), both = before + after;
        z[i] += gradient[i] - params[i] * over * (both > 0 ? gg / both : 0);
        const float beyond = fabsf(z[i]) - l1; // NaN stays
        params[i] = beyond <= 0 ? 0 : -copysignf(beyond, z[i]) / ((beta + after) * over + l2);
    }
}

KERNEL static void decay_gradient(size_t n, const float *restrict params, float *restrict gradient,
                                  float decay)
{
    for (size_t i = 0; i < n; i++)
        gradient[i] += decay * params[i];
}

KERNEL static void decay_params(size_t n, float *restrict params, float keep)
{
    for (size_t i = 0; i < n; i++)
        params[i] *= keep;
}

void optimizer_decay(const struct optimizer_step *s, size_t n, float *params, float *gradient)
{
    if (s->decay > 0)
        decay_gradient(n, params, gradient, s->decay);
    if (s->keep != 1)
        decay_params(n, params, s->keep);
}

void optimizer_step(const struct optimizer_step *s, size_t n, float *params, float *first, float *second,
                    float *gradient)
{
    optimizer_decay(s, n, params, gradient);
    switch (s->kind) {
    case OPTIMIZER_ADAGRAD:
        optimizer_adagrad(n, params, first, gradient, s->lr);
        return;
    case OPTIMIZER_FTRL:
        step_ftrl(s, n, params, first, second, gradient);
        return;
    case OPTIMIZER_ADAM:
        step_adam(s, n, params, first, second, gradient);
        return;
    case OPTIMIZER_ROWWISE_ADAGRAD:
        break;
    }
    assert(!"a kind with state of its own");
}

// ---- norms -------------------------------------------------------------------------------------------

KERNEL double optimizer_squares(size_t n, const float *x)
{
    double lanes[KERNEL_LANES] = {0};
    size_t i = 0;
    for (; i + KERNEL_LANES <= n; i += KERNEL_LANES)
        for (uint32_t k = 0; k < KERNEL_LANES; k++)
            lanes[k] += (double)x[i + k] * (double)x[i + k];
    for (uint32_t k = 0; i + k < n; k++)
        lanes[k] += (double)x[i + k] * (double)x[i + k];
    for (uint32_t half = KERNEL_LANES / 2; half > 0; half /= 2)
        for (uint32_t k = 0; k < half; k++)
            lanes[k] += lanes[k + half];
    return lanes[0];
}

float optimizer_clip(const struct optimizer *o, double norm)
{
    if (o->clip_norm == 0)
        return 1;
    const double factor = (double)o->clip_norm / (norm + CLIP_EPS);
    return factor < 1 ? (float)factor : 1;
}

// ---- the twin ----------------------------------------------------------------------------------------

static double naive_adagrad(double g, double w, float *accum, double lr)
{
    const double a = (double)*accum + g * g;
    *accum = (float)a;
    return w - lr * g / (sqrt(a) + 1e-10);
}

static double naive_adam(const struct optimizer_step *s, double g, double w, float *mean, float *square)
{
    const double m = (double)s->beta1 * (double)*mean + (1 - (double)s->beta1) * g;
    const double v = (double)s->beta2 * (double)*square + (1 - (double)s->beta2) * g * g;
    *mean = (float)m;
    *square = (float)v;
    return w - (double)s->rate * m / (sqrt(v) + (double)s->eps);
}

static double naive_ftrl(const struct optimizer_step *s, double g, double w, float *z, float *squares)
{
    const double lr = (double)s->lr, after = (double)*squares + g * g;
    const double sum = (double)*z + g - (sqrt(after) - sqrt((double)*squares)) / lr * w;
    *z = (float)sum;
    *squares = (float)after;
    if (fabs(sum) <= (double)s->l1)
        return 0;
    return -(sum - copysign((double)s->l1, sum)) / (((double)s->beta + sqrt(after)) / lr + (double)s->l2);
}

void optimizer_step_naive(const struct optimizer_step *s, size_t n, float *params, float *first,
                          float *second, const float *gradient)
{
    for (size_t i = 0; i < n; i++) {
        const double g = (double)gradient[i] + (double)s->decay * (double)params[i];
        const double w = (double)params[i] * (double)s->keep;
        if (s->kind == OPTIMIZER_ADAGRAD)
            params[i] = (float)naive_adagrad(g, w, &first[i], (double)s->lr);
        else if (s->kind == OPTIMIZER_ADAM)
            params[i] = (float)naive_adam(s, g, w, &first[i], &second[i]);
        else
            params[i] = (float)naive_ftrl(s, g, w, &first[i], &second[i]);
    }
}
