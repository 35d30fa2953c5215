// SPDX-License-Identifier: Apache-2.0
// Activations of layers, each with its gradient by its own output, so that nothing else need be kept.
#ifndef FRESHET_MODELS_ACTIVATION_H
#define FRESHET_MODELS_ACTIVATION_H

#include <stdint.h>

// In the order of the choices of an option.
#define ACTIVATION_CHOICES "relu|none|sigmoid|tanh"
enum activation { ACTIVATION_RELU, ACTIVATION_NONE, ACTIVATION_SIGMOID, ACTIVATION_TANH };

// y = f(y + bias).
void activation_forward(enum activation a, uint32_t rows, uint32_t dim, const float *bias, float *y,
                        uint32_t ld);
// y = f(y).
void activation_apply(enum activation a, uint32_t rows, uint32_t dim, float *y, uint32_t ld);
// dy *= f'(y), by the output y.
void activation_backward(enum activation a, uint32_t rows, uint32_t dim, const float *y, uint32_t ldy,
                         float *dy, uint32_t lddy);
double activation_naive(enum activation a, double x);

#endif
