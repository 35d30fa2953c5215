// SPDX-License-Identifier: Apache-2.0
// Passes over rows, between the products: (rows, dim) matrices with a distance `ld` from row to row, in
// floats. Each value is read and written once. Sums go over fixed lanes in a fixed order, so the same input
// gives the same bytes; used inside models/ only.
#ifndef FRESHET_MODELS_KERNEL_H
#define FRESHET_MODELS_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Before a function of plain loops: the compiler vectorizes them, in one copy per instruction set, and the
// loader picks one. Not under sanitizers, which would instrument the picking before they are there
// themselves.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define KERNEL __attribute__((optimize("O3"), target_clones("default", "avx2", "avx512f")))
#else
#define KERNEL __attribute__((optimize("O3")))
#endif

enum { KERNEL_NO_ROW = UINT32_MAX };

// y += bias, then max(y, 0) where `relu`.
void kernel_bias(uint32_t rows, uint32_t dim, const float *bias, bool relu, float *y, uint32_t ld);
// dy = 0 where y <= 0.
void kernel_mask(uint32_t rows, uint32_t dim, const float *y, uint32_t ldy, float *dy, uint32_t lddy);
// to = from, or to += from.
void kernel_copy(uint32_t rows, uint32_t dim, const float *from, uint32_t ldf, float *to, uint32_t ldt);
void kernel_add(uint32_t rows, uint32_t dim, const float *from, uint32_t ldf, float *to, uint32_t ldt);
void kernel_zero(uint32_t rows, uint32_t dim, float *to, uint32_t ld);
// sum[j] += the sum over rows of dy[., j]: the gradient of a bias.
void kernel_column_sums(uint32_t rows, uint32_t dim, const float *dy, uint32_t ld, float *sum);
// to[i] = vectors[slots[i] * stride ..], zeros for KERNEL_NO_ROW.
void kernel_gather(uint32_t n, uint32_t dim, const float *vectors, size_t stride, const uint32_t *slots,
                   float *to, uint32_t ld);

// z[i] = x[i] . w + b: a layer with one output.
void kernel_dot(uint32_t rows, uint32_t dim, const float *x, uint32_t ld, const float *w, float b, float *z);
// dx[i] = dz[i] w, or += where beta is 1; then 0 where `mask` and x <= 0.
void kernel_outer(uint32_t rows, uint32_t dim, const float *dz, const float *w, float beta, bool mask,
                  const float *x, float *dx, uint32_t ld);
// dw += the sum over rows of dz[i] x[i].
void kernel_weighted_sum(uint32_t rows, uint32_t dim, const float *dz, const float *x, uint32_t ld,
                         float *dw);

#endif
