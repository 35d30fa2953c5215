// SPDX-License-Identifier: Apache-2.0
// The products and their twins; the twins against numbers by hand.
#include "models/gemm.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

TestSuite(gemm, .init = gemm_setup);

Test(gemm, twins_by_hand)
{
    const float x[] = {1, 2, 3, 4, 5, 6};  // (2, 3)
    const float w[] = {1, 0, -1, 2, 1, 0}; // (2, 3)
    float y[4], dx[6] = {1, 1, 1, 1, 1, 1}, dw[6] = {10, 10, 10, 10, 10, 10};
    gemm_nt_naive(2, 2, 3, x, w, y);
    cr_assert_arr_eq(y, ((float[]){-2, 4, -2, 13}), sizeof y);
    gemm_nn_naive(2, 2, 3, y, w, 1, dx);
    cr_assert_arr_eq(dx, ((float[]){7, 5, 3, 25, 14, 3}), sizeof dx);
    gemm_nn_naive(2, 2, 3, y, w, 0, dx);
    cr_assert_arr_eq(dx, ((float[]){6, 4, 2, 24, 13, 2}), sizeof dx);
    gemm_tn_naive(2, 2, 3, y, x, dw);
    cr_assert_arr_eq(dw, ((float[]){0, -4, -8, 66, 83, 100}), sizeof dw);
}

Test(gemm, check_of_odd_shapes)
{
    const uint32_t sizes[] = {1, 2, 3, 7, 16, 17, 33, 65};
    struct err err;
    for (uint32_t m = 0; m < 8; m++)
        for (uint32_t n = 0; n < 8; n++)
            for (uint32_t k = 0; k < 8; k++)
                cr_assert_eq(gemm_check(sizes[m], sizes[n], sizes[k], &err), 0, "%s", err.message);
}

Test(gemm, check_of_a_layer)
{
    struct err err;
    cr_assert_eq(gemm_check(512, 256, 320, &err), 0, "%s", err.message);
}

// Rows of wider matrices: what lies between them stays as it was.
Test(gemm, distances)
{
    enum { M = 5, N = 7, K = 11, LX = 13, LY = 9 };
    struct rng rng = rng_of(1);
    float x[M * LX], w[N * K], y[M * LY], tight_x[M * K], tight_y[M * N], want[N * K], dw[N * K];
    for (uint32_t i = 0; i < M * LX; i++)
        x[i] = (float)rng_normal(&rng);
    for (uint32_t i = 0; i < N * K; i++)
        w[i] = (float)rng_normal(&rng);
    for (uint32_t i = 0; i < M * LY; i++)
        y[i] = 7;
    for (uint32_t i = 0; i < M; i++)
        memcpy(tight_x + i * K, x + i * LX, K * sizeof *x);

    gemm_nt_ld(M, N, K, x, LX, w, y, LY);
    gemm_nt_naive(M, N, K, tight_x, w, tight_y);
    for (uint32_t i = 0; i < M * LY; i++) {
        float expected = i % LY < N ? tight_y[i / LY * N + i % LY] : 7;
        cr_assert(fabsf(y[i] - expected) < 1e-4f);
    }
    gemm_nn_ld(M, N, K, y, LY, w, 1, x, LX);
    gemm_nn_naive(M, N, K, tight_y, w, 1, tight_x);
    for (uint32_t i = 0; i < M; i++)
        for (uint32_t j = 0; j < K; j++)
            cr_assert(fabsf(x[i * LX + j] - tight_x[i * K + j]) < 1e-3f);
    memset(dw, 0, sizeof dw);
    memset(want, 0, sizeof want);
    gemm_tn_ld(M, N, K, y, LY, x, LX, dw);
    gemm_tn_naive(M, N, K, tight_y, tight_x, want);
    for (uint32_t i = 0; i < N * K; i++)
        cr_assert(fabsf(dw[i] - want[i]) < 1e-2f);
}

Test(gemm, same_bytes_every_time)
{
    enum { SIZE = 96 };
    struct rng rng = rng_of(2);
    float x[SIZE * SIZE], w[SIZE * SIZE], first[SIZE * SIZE], y[SIZE * SIZE];
    for (uint32_t i = 0; i < SIZE * SIZE; i++) {
        x[i] = (float)rng_normal(&rng);
        w[i] = (float)rng_normal(&rng);
    }
    gemm_nt(SIZE, SIZE, SIZE, x, w, first);
    for (uint32_t turn = 0; turn < 20; turn++) {
        gemm_nt(SIZE, SIZE, SIZE, x, w, y);
        cr_assert_arr_eq(y, first, sizeof y);
    }
}

Test(gemm, denormals_are_flushed)
{
    volatile float tiny = 1e-38f, small = 0.01f;
    volatile float product = tiny * small;
    cr_assert_eq(product, 0);
}

Test(gemm, kernel_has_a_name)
{
    cr_assert(strncmp(gemm_kernel(), "OpenBLAS ", 9) == 0, "%s", gemm_kernel());
    cr_assert_str_eq(gemm_kernel(), gemm_kernel());
}
