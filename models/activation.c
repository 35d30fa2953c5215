// SPDX-License-Identifier: Apache-2.0
// relu'(x) = 1 where y > 0, sigmoid' = y (1 - y), tanh' = 1 - y y: one pass each.
#include "models/activation.h"

#include <math.h>
#include <stddef.h>

#include "models/kernel.h"

KERNEL static void squash(enum activation a, uint32_t rows, uint32_t dim, float *restrict y, uint32_t ld)
{
    for (size_t i = 0; i < rows; i++) {
        float *restrict row = y + i * ld;
        if (a == ACTIVATION_TANH)
            for (uint32_t j = 0; j < dim; j++)
                row[j] = kernel_tanh(row[j]);
        else
            for (uint32_t j = 0; j < dim; j++)
                row[j] = kernel_sigmoid(row[j]);
    }
}

void activation_forward(enum activation a, uint32_t rows, uint32_t dim, const float *bias, float *y,
                        uint32_t ld)
{
    kernel_bias(rows, dim, bias, a == ACTIVATION_RELU, y, ld);
    if (a == ACTIVATION_SIGMOID || a == ACTIVATION_TANH)
        squash(a, rows, dim, y, ld);
}

KERNEL static void rectify(uint32_t rows, uint32_t dim, float *restrict y, uint32_t ld)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < dim; j++)
            y[i * ld + j] = 0 > y[i * ld + j] ? 0 : y[i * ld + j]; // NaN stays
}

void activation_apply(enum activation a, uint32_t rows, uint32_t dim, float *y, uint32_t ld)
{
    if (a == ACTIVATION_RELU)
        rectify(rows, dim, y, ld);
    else if (a != ACTIVATION_NONE)
        squash(a, rows, dim, y, ld);
}

KERNEL static void squash_gradient(enum activation a, uint32_t rows, uint32_t dim, const float *restrict y,
                                   uint32_t ldy, float *restrict dy, uint32_t lddy)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < dim; j++) {
            const float v = y[i * ldy + j];
            dy[i * lddy + j] *= a == ACTIVATION_TANH ? 1 - v * v : v * (1 - v);
        }
}

void activation_backward(enum activation a, uint32_t rows, uint32_t dim, const float *y, uint32_t ldy,
                         float *dy, uint32_t lddy)
{
    if (a == ACTIVATION_RELU)
        kernel_mask(rows, dim, y, ldy, dy, lddy);
    else if (a != ACTIVATION_NONE)
        squash_gradient(a, rows, dim, y, ldy, dy, lddy);
}

double activation_naive(enum activation a, double x)
{
    switch (a) {
    case ACTIVATION_RELU:
        return x < 0 ? 0 : x;
    case ACTIVATION_SIGMOID:
        return 1 / (1 + exp(-x));
    case ACTIVATION_TANH:
        return tanh(x);
    case ACTIVATION_NONE:
        break;
    }
    return x;
}
