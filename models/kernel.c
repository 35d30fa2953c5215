// SPDX-License-Identifier: Apache-2.0
// Plain loops that the compiler vectorizes, in one copy per instruction set; the loader picks one. None of
// them changes the order of a sum, so the copies differ by fused multiply-adds at most, and one machine has
// one copy.
#include "models/kernel.h"

#include <string.h>

enum { LANES = 16, AHEAD = 16 };

KERNEL void kernel_bias(uint32_t rows, uint32_t dim, const float *restrict bias, bool relu, float *restrict y,
                        uint32_t ld)
{
    for (size_t i = 0; i < rows; i++) {
        float *restrict row = y + i * ld;
        if (relu)
            for (uint32_t j = 0; j < dim; j++) {
                float v = row[j] + bias[j];
                row[j] = 0 > v ? 0 : v; // NaN stays
            }
        else
            for (uint32_t j = 0; j < dim; j++)
                row[j] += bias[j];
    }
}

KERNEL void kernel_mask(uint32_t rows, uint32_t dim, const float *restrict y, uint32_t ldy,
                        float *restrict dy, uint32_t lddy)
{
    for (size_t i = 0; i < rows; i++) {
        const float *restrict from = y + i * ldy;
        float *restrict row = dy + i * lddy;
        for (uint32_t j = 0; j < dim; j++)
            row[j] = from[j] <= 0 ? 0 : row[j];
    }
}

void kernel_copy(uint32_t rows, uint32_t dim, const float *restrict from, uint32_t ldf, float *restrict to,
                 uint32_t ldt)
{
    for (size_t i = 0; i < rows; i++)
        memcpy(to + i * ldt, from + i * ldf, dim * sizeof *to);
}

KERNEL void kernel_add(uint32_t rows, uint32_t dim, const float *restrict from, uint32_t ldf,
                       float *restrict to, uint32_t ldt)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < dim; j++)
            to[i * ldt + j] += from[i * ldf + j];
}

void kernel_zero(uint32_t rows, uint32_t dim, float *to, uint32_t ld)
{
    for (size_t i = 0; i < rows; i++)
        memset(to + i * ld, 0, dim * sizeof *to);
}

KERNEL void kernel_column_sums(uint32_t rows, uint32_t dim, const float *restrict dy, uint32_t ld,
                               float *restrict sum)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < dim; j++)
            sum[j] += dy[i * ld + j];
}

void kernel_expand(uint32_t n, const uint32_t *requests, uint32_t dim, const float *restrict from,
                   uint32_t ldf, float *restrict to, uint32_t ldt)
{
    for (size_t r = 0; r < n; r++)
        for (size_t i = requests[r]; i < requests[r + 1]; i++)
            memcpy(to + i * ldt, from + r * ldf, dim * sizeof *to);
}

KERNEL void kernel_reduce(uint32_t n, const uint32_t *requests, uint32_t dim, const float *restrict from,
                          uint32_t ldf, float beta, float *restrict to, uint32_t ldt)
{
    for (size_t r = 0; r < n; r++) {
        float *restrict sum = to + r * ldt;
        for (uint32_t j = 0; j < dim && beta == 0; j++)
            sum[j] = 0;
        for (size_t i = requests[r]; i < requests[r + 1]; i++)
            for (uint32_t j = 0; j < dim; j++)
                sum[j] += from[i * ldf + j];
    }
}

// Rows lie anywhere in a table that no cache holds: they are asked for AHEAD rows before their turn.
static inline __attribute__((always_inline)) void gather(uint32_t n, uint32_t dim,
                                                         const float *restrict vectors, size_t stride,
                                                         const uint32_t *restrict slots, float *restrict to,
                                                         uint32_t ld)
{
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n && slots[i + AHEAD] != KERNEL_NO_ROW) {
            const float *next = vectors + slots[i + AHEAD] * stride;
            for (uint32_t j = 0; j < dim; j += 16)
                __builtin_prefetch(next + j);
            __builtin_prefetch(next + dim - 1);
        }
        if (slots[i] == KERNEL_NO_ROW)
            memset(to + i * ld, 0, dim * sizeof *to);
        else
            memcpy(to + i * ld, vectors + slots[i] * stride, dim * sizeof *to);
    }
}

// A copy of 16 is one or two moves where the compiler knows that it is of 16.
KERNEL void kernel_gather(uint32_t n, uint32_t dim, const float *restrict vectors, size_t stride,
                          const uint32_t *restrict slots, float *restrict to, uint32_t ld)
{
    if (dim == 16)
        gather(n, 16, vectors, stride, slots, to, ld);
    else
        gather(n, dim, vectors, stride, slots, to, ld);
}

// One dot product over LANES sums, which are added up in order at the end.
static inline __attribute__((always_inline)) float dot(uint32_t dim, const float *restrict x,
                                                       const float *restrict w)
{
    float lanes[LANES] = {0};
    uint32_t j = 0;
    for (; j + LANES <= dim; j += LANES)
        for (uint32_t l = 0; l < LANES; l++)
            lanes[l] += x[j + l] * w[j + l];
    for (uint32_t l = 0; j + l < dim; l++)
        lanes[l] += x[j + l] * w[j + l];
    float sum = 0;
    for (uint32_t l = 0; l < LANES; l++)
        sum += lanes[l];
    return sum;
}

KERNEL void kernel_dot(uint32_t rows, uint32_t dim, const float *restrict x, uint32_t ld,
                       const float *restrict w, float b, float *restrict z)
{
    for (size_t i = 0; i < rows; i++)
        z[i] = dot(dim, x + i * ld, w) + b;
}

KERNEL void kernel_dot_rows(uint32_t rows, uint32_t dim, const float *x, uint32_t ldx, const float *y,
                            uint32_t ldy, float *restrict z)
{
    for (size_t i = 0; i < rows; i++)
        z[i] = dot(dim, x + i * ldx, y + i * ldy);
}

KERNEL void kernel_outer(uint32_t rows, uint32_t dim, const float *restrict dz, const float *restrict w,
                         float beta, bool mask, const float *restrict x, float *restrict dx, uint32_t ld)
{
    for (size_t i = 0; i < rows; i++) {
        const float *restrict from = x + i * ld;
        float *restrict row = dx + i * ld;
        if (beta == 0)
            for (uint32_t j = 0; j < dim; j++)
                row[j] = dz[i] * w[j];
        else
            for (uint32_t j = 0; j < dim; j++)
                row[j] += dz[i] * w[j];
        if (mask) // the row is in the nearest cache
            for (uint32_t j = 0; j < dim; j++)
                row[j] = from[j] <= 0 ? 0 : row[j];
    }
}

KERNEL void kernel_weighted_sum(uint32_t rows, uint32_t dim, const float *restrict dz,
                                const float *restrict x, uint32_t ld, float *restrict dw)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < dim; j++)
            dw[j] += dz[i] * x[i * ld + j];
}
