// SPDX-License-Identifier: Apache-2.0
// Activations against the C library's, over all sizes of numbers; with their limits, and NaN.
#include "models/activation.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>

#include "models/kernel.h"

enum { COUNT = 4096 };

KERNEL static void exp_rows(uint32_t n, const float *restrict x, float *restrict y)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] = kernel_exp(x[i]);
}

Test(activation, exp_is_the_librarys)
{
    static float x[COUNT], y[COUNT];
    for (uint32_t i = 0; i < COUNT; i++)
        x[i] = ((float)i / COUNT - 0.5f) * 2 * 87;
    exp_rows(COUNT, x, y);
    for (uint32_t i = 0; i < COUNT; i++)
        cr_assert(fabs((double)y[i] / exp((double)x[i]) - 1) < 2.5e-7, "exp(%g) = %g", (double)x[i],
                  (double)y[i]);
    const float far[] = {-INFINITY, -100, INFINITY, 100, 0, -0.0f, NAN};
    exp_rows(7, far, y);
    cr_assert(y[0] < 1.3e-38f && y[1] == y[0] && y[2] > 2.3e38f && y[2] < INFINITY && y[3] == y[2]);
    cr_assert(y[4] == 1 && y[5] == 1 && isnan(y[6]));
}

Test(activation, values_are_their_twins)
{
    static const enum activation all[] = {ACTIVATION_RELU, ACTIVATION_NONE, ACTIVATION_SIGMOID,
                                          ACTIVATION_TANH};
    static float y[COUNT], bias[COUNT];
    for (uint32_t k = 0; k < 4; k++) {
        for (uint32_t i = 0; i < COUNT; i++) {
            y[i] = ((float)i / COUNT - 0.5f) * (i % 2 == 0 ? 6.0f : 400.0f);
            bias[i] = 0.25f;
        }
        activation_forward(all[k], 1, COUNT, bias, y, COUNT);
        for (uint32_t i = 0; i < COUNT; i++) {
            const float x = ((float)i / COUNT - 0.5f) * (i % 2 == 0 ? 6.0f : 400.0f) + 0.25f;
            cr_assert(fabs((double)y[i] - activation_naive(all[k], (double)x)) < 3e-7, "%u of %g", k,
                      (double)x);
        }
        y[0] = NAN;
        activation_apply(all[k], 1, 1, y, COUNT);
        cr_assert(isnan(y[0]), "%u", k);
    }
}
