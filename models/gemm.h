// SPDX-License-Identifier: Apache-2.0
// Matrix products, row-major, by OpenBLAS with one thread; and their naive twins, the standard that every
// kernel is held to. (M, N, K): C is M x N, K is summed over.
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

void gemm_nt_naive(uint32_t m, uint32_t n, uint32_t k, const float *x, const float *w, float *y);
void gemm_nn_naive(uint32_t m, uint32_t n, uint32_t k, const float *dy, const float *w, float beta, float *dx);
void gemm_tn_naive(uint32_t m, uint32_t n, uint32_t k, const float *dy, const float *x, float *dw);

// Once at start, before any thread: one thread, denormals flushed.
void gemm_setup(void);
// Compares the three products with their twins at (m, n, k), on random numbers: OpenBLAS builds exist that are
// wrong on some processors. ERR_NUMERIC says which product and by how much.
int gemm_check(uint32_t m, uint32_t n, uint32_t k, struct err *err);
const char *gemm_kernel(void); // name of the BLAS and the core it runs for, e.g. "OpenBLAS 0.3.21 Zen"

#endif
