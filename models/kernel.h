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
#define KERNEL                                                          \
    __attribute__((optimize("O3", "no-trapping-math", "no-math-errno"), \
                   target_clones("default", "avx2", "avx512f")))
#else
#define KERNEL __attribute__((optimize("O3", "no-trapping-math", "no-math-errno")))
#endif

// exp(x) to 2 ulp, of what a loop over it can vectorize; within 1.2e-38 and 2.4e38, where it stays. NaN is NaN.
static inline __attribute__((always_inline)) float kernel_exp(float x)
{
    const float low = x < -87.33f ? -87.33f : x, y = low > 88.37f ? 88.37f : low;
    const union {
        float f;
        uint32_t bits;
    } n = {y * 1.44269504f + 0x1.8p23f}; // 1.5 * 2^23 + n: n = round(y / ln 2) lies in the last bits
    const float whole = n.f - 0x1.8p23f, r = y - whole * 0.693359375f + whole * 2.12194440e-4f;
    float p = 1.9875691500e-4f; // of exp(r), |r| <= ln 2 / 2 (Cephes)
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1;
    const union {
        uint32_t bits;
        float f;
    } scale = {(n.bits - 0x4b400000u + 127) << 23};
    return p * scale.f;
}

static inline __attribute__((always_inline)) float kernel_sigmoid(float x)
{
    return 1 / (1 + kernel_exp(-x));
}

// 1e-7 off at most, whatever its size.
static inline __attribute__((always_inline)) float kernel_tanh(float x)
{
    return 1 - 2 / (kernel_exp(2 * x) + 1);
}

enum { KERNEL_NO_ROW = UINT32_MAX, KERNEL_LANES = 16 };

// Within a KERNEL function: the sum of f(j) over j < n, over fixed lanes that are folded in halves.
#define KERNEL_SUM(sum, n, f)                                          \
    do {                                                               \
        float lanes_[KERNEL_LANES] = {0};                              \
        uint32_t j_ = 0;                                               \
        for (; j_ + KERNEL_LANES <= (n); j_ += KERNEL_LANES)           \
            for (uint32_t k_ = 0; k_ < KERNEL_LANES; k_++)             \
                lanes_[k_] += f(j_ + k_);                              \
        for (uint32_t k_ = 0; j_ + k_ < (n); k_++)                     \
            lanes_[k_] += f(j_ + k_);                                  \
        for (uint32_t half_ = KERNEL_LANES / 2; half_ > 0; half_ /= 2) \
            for (uint32_t k_ = 0; k_ < half_; k_++)                    \
                lanes_[k_] += lanes_[k_ + half_];                      \
        (sum) = lanes_[0];                                             \
    } while (0)

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
// Row r of `from` to the rows requests[r] .. requests[r + 1] - 1 of `to`; and the sum of those, set where beta is 0.
void kernel_expand(uint32_t n, const uint32_t *requests, uint32_t dim, const float *from, uint32_t ldf,
                   float *to, uint32_t ldt);
void kernel_reduce(uint32_t n, const uint32_t *requests, uint32_t dim, const float *from, uint32_t ldf,
                   float beta, float *to, uint32_t ldt);
// to[i] = vectors[slots[i] * stride ..], zeros for KERNEL_NO_ROW.
void kernel_gather(uint32_t n, uint32_t dim, const float *vectors, size_t stride, const uint32_t *slots,
                   float *to, uint32_t ld);

// z[i] = x[i] . w + b: a layer with one output.
void kernel_dot(uint32_t rows, uint32_t dim, const float *x, uint32_t ld, const float *w, float b, float *z);
// z[i] = x[i] . y[i].
void kernel_dot_rows(uint32_t rows, uint32_t dim, const float *x, uint32_t ldx, const float *y, uint32_t ldy,
                     float *z);
// dx[i] = dz[i] w, or += where beta is 1; then 0 where `mask` and x <= 0.
void kernel_outer(uint32_t rows, uint32_t dim, const float *dz, const float *w, float beta, bool mask,
                  const float *x, float *dx, uint32_t ld);
// dw += the sum over rows of dz[i] x[i].
void kernel_weighted_sum(uint32_t rows, uint32_t dim, const float *dz, const float *x, uint32_t ld,
                         float *dw);

#endif
