// SPDX-License-Identifier: Apache-2.0
// What corrected samples and fake negatives teach: gradients against the formulas of the paper (Ktena et al., RecSys
// 2019), p held constant, and against finite differences of net_loss; then that a model of one number, trained on a
// stream of fake negatives and corrections, ends at the true rate, also where only some negatives are kept.
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

#include "base/rng.h"
#include "models/net.h"

// z = weight * x + bias, with x = 1.
static struct net *net_of(const char *loss)
{
    struct err err = {0};
    uint32_t block;
    struct net *net = NULL;
    const struct net_input input = {.name = "x", .kind = NET_INPUT_NUMBER, .dim = 1};
    struct net_head head = {.name = "click", .of = "x", .weight = 1};
    snprintf(head.loss, sizeof head.loss, "%s", loss);
    const struct net_spec spec = {.n_inputs = 1, .n_heads = 1, .inputs = &input, .heads = &head, .batch = 4};
    cr_assert_eq(net_new(&spec, &net, &block, &err), 0, "%s", err.message);
    cr_assert_eq(net_param_floats(net), 2);
    return net;
}

struct one {
    float x, label, weight;
};

static double run(struct net *net, const float *params, const struct one *s, float *ret_p,
                  float *ret_gradient)
{
    const uint32_t *none[1] = {NULL};
    const float *numbers[1] = {&s->x};
    const float *labels[1] = {&s->label};
    const float *weights[1] = {&s->weight};
    float *p[1] = {ret_p};
    const struct net_batch batch = {.n = 1,
                                    .slots = none,
                                    .offsets = none,
                                    .numbers = numbers,
                                    .labels = labels,
                                    .weights = weights,
                                    .dense = true};
    net_forward(net, params, &batch, p);
    ret_gradient[0] = ret_gradient[1] = 0;
    net_backward(net, params, &batch, ret_gradient);
    return net_loss(net, &batch);
}

// dz of a negative, of a positive that takes one back, and of a positive that never was one.
static void gradients_expect(const char *loss, double p, double *ret_dz)
{
    double factor = strcmp(loss, "fnw") == 0 ? (1 - p) * (1 + p) : 1;
    ret_dz[0] = factor * p;
    ret_dz[1] = strcmp(loss, "fnw") == 0 ? (1 + p) * (p - 1) : -1;
    ret_dz[2] = factor * (p - 1);
}

Test(corrections, gradients_are_those_of_the_formulas)
{
    static const char *const losses[] = {"logloss", "fnw"};
    static const struct one cases[] = {{1, 0, 1}, {1, 1, -1}, {1, 1, 1}};
    struct rng r = rng_of(21);
    for (int k = 0; k < 400; k++) {
        const char *loss = losses[k % 2];
        struct net *net = net_of(loss);
        float params[2] = {(float)(3 * rng_normal(&r)), (float)rng_normal(&r)};
        double wanted[3];
        float p;
        float gradient[2];
        float unused[2];
        for (int c = 0; c < 3; c++) {
            run(net, params, &cases[c], &p, gradient);
            gradients_expect(loss, (double)p, wanted);
            cr_assert_float_eq((double)gradient[1], wanted[c], 1e-6 * (1 + fabs(wanted[c])), "%s case %d",
                               loss, c);
            const float step = 1e-3f;
            float up[2] = {params[0], params[1] + step};
            float down[2] = {params[0], params[1] - step};
            double slope = (run(net, up, &cases[c], &p, unused) - run(net, down, &cases[c], &p, unused)) /
                           ((double)up[1] - (double)down[1]);
            cr_assert_float_eq((double)gradient[1], slope, 2e-4, "%s case %d", loss, c);
        }
        const struct one masked = {1, 0, 0};
        run(net, params, &masked, &p, gradient);
        cr_assert(gradient[0] == 0 && gradient[1] == 0);
        net_free(net);
    }
}

// The mean of the predictions over the second half of a training on fake negatives of which the share `keep` is
// kept. `replace`: corrections take the negative back.
static double trained(const char *loss, double rate, double keep, bool replace)
{
    enum { SAMPLES = 60000 };
    struct net *net = net_of(loss);
    struct rng r = rng_of(22);
    float params[2] = {0, 0};
    float gradient[2];
    float p;
    double sum = 0;
    for (int k = 0; k < SAMPLES; k++) {
        bool negative = rng_uniform(&r) < keep;
        const struct one fake = {0, 0, negative ? 1 : 0};
        const struct one click = {0, 1, negative && replace ? -1 : 1};
        run(net, params, &fake, &p, gradient);
        params[1] -= 0.02f * gradient[1];
        sum += k >= SAMPLES / 2 ? (double)p : 0;
        if (rng_uniform(&r) >= rate)
            continue;
        run(net, params, &click, &p, gradient);
        params[1] -= 0.02f * gradient[1];
    }
    net_free(net);
    return sum / (SAMPLES - SAMPLES / 2);
}

Test(corrections, predictions_end_at_the_true_rate)
{
    static const char *const losses[] = {"logloss", "fnw"};
    for (int k = 0; k < 2; k++) {
        cr_assert_float_eq(trained(losses[k], 0.25, 1, true), 0.25, 0.012, "%s", losses[k]);
        double q = trained(losses[k], 0.25, 0.2, true); // calibrated as in serving
        cr_assert_float_eq(0.2 * q / ((1 - q) + 0.2 * q), 0.25, 0.02, "%s: %f", losses[k], q);
    }
    // Added beside their negatives, positives are outnumbered: p / (1 + p).
    cr_assert_float_eq(trained("logloss", 0.25, 1, false), 0.2, 0.012);
}
