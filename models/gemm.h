// SPDX-License-Identifier: Apache-2.0
// Matrix products, row-major, by OpenBLAS with one thread; and their naive twins, which sum in double, the
// standard that every kernel is held to. M is always the samples, K the inputs and N the outputs of a layer.
// ld* is the distance from row to row, in floats, where a matrix is a part of a wider one.
#ifndef FRESHET_MODELS_GEMM_H
#define FRESHET_MODELS_GEMM_H

#include <stdint.h>

#include "base/err.h"

// Y (M, N) = X (M, K) W^T, W (N, K) as PyTorch keeps it: forward.
void gemm_nt(uint32_t m, uint32_t n, uint32_t k, const float *x, const float *w, float *y);
// dX (M, K) = dY (M, N) W, W (N, K): backward to the input. beta 0 or 1: overwrite or add.
void gemm_nn(uint32_t m, uint32_t n, uint32_t k, const float *dy, const float *w, float beta, float *dx);
// dW (N, K) += dY^T (N, M) X (M, K): backward to the weights.
void gemm_tn(uint32_t m, uint32_t n, uint32_t k, const float *dy, const float *x, float *dw);

// The same with distances of their own; beta 0 or 1 as above.
void gemm_nt_ld(uint32_t m, uint32_t n, uint32_t k, const float *x, uint32_t ldx, const float *w, float *y,
                uint32_t ldy);
// The same, added to Y.
void gemm_nt_add_ld(uint32_t m, uint32_t n, uint32_t k, const float *x, uint32_t ldx, const float *w,
                    float *y, uint32_t ldy);
void gemm_nn_ld(uint32_t m, uint32_t n, uint32_t k, const float *dy, uint32_t lddy, const float *w,
                float beta, float *dx, uint32_t lddx);
void gemm_tn_ld(uint32_t m, uint32_t n, uint32_t k, const float *dy, uint32_t lddy, const float *x,
                uint32_t ldx, float *dw);

void gemm_nt_naive(uint32_t m, uint32_t n, uint32_t k, const float *x, const float *w, float *y);
void gemm_nn_naive(uint32_t m, uint32_t n, uint32_t k, const float *dy, const float *w, float beta,
                   float *dx);
void gemm_tn_naive(uint32_t m, uint32_t n, uint32_t k, const float *dy, const float *x, float *dw);

// Once at start, before any thread: one thread, denormals flushed.
void gemm_setup(void);
// At the start of every other thread that uses models/: denormals flushed. Results do not depend on who
// computes them only if all threads agree on this.
void gemm_thread_setup(void);
// Compares the three products with their twins at (m, n, k), on random numbers: OpenBLAS builds exist that
// are wrong on some processors. ERR_NUMERIC says which product and by how much.
int gemm_check(uint32_t m, uint32_t n, uint32_t k, struct err *err);
const char *gemm_kernel(void); // name of the BLAS and the core it runs for, e.g. "OpenBLAS 0.3.21 Zen"

#endif
