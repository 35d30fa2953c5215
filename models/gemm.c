// SPDX-License-Identifier: Apache-2.0
// Thin over cblas. The three products of a layer are three transpositions of one sgemm; OpenBLAS packs both
// operands into its own panels, so that a row distance costs nothing.
//
// Denormals: a logit far out gives gradients near 1e-40, and a processor takes a hundred cycles for each;
// they are flushed to zero. The mode is the thread's.
#include "models/gemm.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#if defined(__SSE__)
#include <immintrin.h>
#endif

#include "base/mem.h"
#include "base/rng.h"

void gemm_nt_ld(uint32_t m, uint32_t n, uint32_t k, const float *x, uint32_t ldx, const float *w, float *y,
                uint32_t ldy)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)k, 1, x, (int)ldx, w, (int)k, 0,
                y, (int)ldy);
}

void gemm_nt_add_ld(uint32_t m, uint32_t n, uint32_t k, const float *x, uint32_t ldx, const float *w,
                    float *y, uint32_t ldy)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)k, 1, x, (int)ldx, w, (int)k, 1,
                y, (int)ldy);
}

void gemm_nn_ld(uint32_t m, uint32_t n, uint32_t k, const float *dy, uint32_t lddy, const float *w,
                float beta, float *dx, uint32_t lddx)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)m, (int)k, (int)n, 1, dy, (int)lddy, w,
                (int)k, beta, dx, (int)lddx);
}

void gemm_tn_ld(uint32_t m, uint32_t n, uint32_t k, const float *dy, uint32_t lddy, const float *x,
                uint32_t ldx, float *dw)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)n, (int)k, (int)m, 1, dy, (int)lddy, x,
                (int)ldx, 1, dw, (int)k);
}

void gemm_nt(uint32_t m, uint32_t n, uint32_t k, const float *x, const float *w, float *y)
{
    gemm_nt_ld(m, n, k, x, k, w, y, n);
}

void gemm_nn(uint32_t m, uint32_t n, uint32_t k, const float *dy, const float *w, float beta, float *dx)
{
    gemm_nn_ld(m, n, k, dy, n, w, beta, dx, k);
}

void gemm_tn(uint32_t m, uint32_t n, uint32_t k, const float *dy, const float *x, float *dw)
{
    gemm_tn_ld(m, n, k, dy, n, x, k, dw);
}

// ---- twins ------------------------------------------------------------------------------------------------

void gemm_nt_naive(uint32_t m, uint32_t n, uint32_t k, const float *x, const float *w, float *y)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t p = 0; p < k; p++)
                sum += (double)x[i * k + p] * (double)w[j * k + p];
            y[i * n + j] = (float)sum;
        }
    }
}

// One row of sums in double: row[p] += a * b[p].
static void row_add(double *row, double a, const float *b, size_t n)
{
    for (size_t p = 0; p < n; p++)
        row[p] += a * (double)b[p];
}

void gemm_nn_naive(uint32_t m, uint32_t n, uint32_t k, const float *dy, const float *w, float beta, float *dx)
{
    double *row = mem_array(k, sizeof *row);
    for (size_t i = 0; i < m; i++) {
        for (size_t p = 0; p < k; p++)
            row[p] = beta == 0 ? 0 : (double)beta * (double)dx[i * k + p];
        for (size_t j = 0; j < n; j++)
            row_add(row, (double)dy[i * n + j], w + j * k, k);
        for (size_t p = 0; p < k; p++)
            dx[i * k + p] = (float)row[p];
    }
    free(row);
}

void gemm_tn_naive(uint32_t m, uint32_t n, uint32_t k, const float *dy, const float *x, float *dw)
{
    double *row = mem_array(k, sizeof *row);
    for (size_t j = 0; j < n; j++) {
        for (size_t p = 0; p < k; p++)
            row[p] = (double)dw[j * k + p];
        for (size_t i = 0; i < m; i++)
            row_add(row, (double)dy[i * n + j], x + i * k, k);
        for (size_t p = 0; p < k; p++)
            dw[j * k + p] = (float)row[p];
    }
    free(row);
}

// ---- setup and self-test ----------------------------------------------------------------------------------

void gemm_thread_setup(void)
{
#if defined(__SSE__)
    _mm_setcsr(_mm_getcsr() | 0x8040u); // flush to zero, denormals are zero
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr | (UINT64_C(1) << 24)));
#endif
}

void gemm_setup(void)
{
    openblas_set_num_threads(1);
    gemm_thread_setup();
}

const char *gemm_kernel(void)
{
    static char name[128];
    char version[64] = "";
    // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ...": the first two words.
    sscanf(openblas_get_config(), "%*s %63s", version);
    snprintf(name, sizeof name, "OpenBLAS %s %s", version, openblas_get_corename());
    return name;
}

static float *random_new(size_t n, struct rng *rng)
{
    float *p = mem_array(n, sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(2 * rng_uniform(rng) - 1);
    return p;
}

// Numbers lie in -1..1, so each of the `terms` roundings of a sum errs by less than terms * 2^-24, and in
// practice by its square root. A wrong kernel is off by 0.1 or more.
static int compare(const char *product, const float *got, const float *want, size_t n, uint32_t terms,
                   const uint32_t shape[3], struct err *err)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)got[i] - (double)want[i]);
        if (!(off <= worst)) // NaN too
            worst = off;
    }
    if (worst <= (terms + 2) * 0x1p-23)
        return 0;
    return err_set(err, ERR_NUMERIC,
                   "%s computes a wrong product: %s of (%u, %u, %u) is off by %g; set OPENBLAS_CORETYPE to "
                   "another core or use another OpenBLAS",
                   gemm_kernel(), product, shape[0], shape[1], shape[2], worst);
}

int gemm_check(uint32_t m, uint32_t n, uint32_t k, struct err *err)
{
    const uint32_t shape[3] = {m, n, k};
    const size_t ny = (size_t)m * n, nx = (size_t)m * k, nw = (size_t)n * k;
    struct rng rng = rng_of(hash_mix((uint64_t)m << 40 ^ (uint64_t)n << 20 ^ k));
    float *x = random_new(nx, &rng), *w = random_new(nw, &rng), *dy = random_new(ny, &rng);
    float *got = mem_array(ny > nx ? ny : nx, sizeof *got),
          *want = mem_array(ny > nx ? ny : nx, sizeof *want);
    float *dw = mem_array(nw, sizeof *dw), *dw_want = mem_array(nw, sizeof *dw_want);

    gemm_nt(m, n, k, x, w, got);
    gemm_nt_naive(m, n, k, x, w, want);
    int r = compare("X W^T", got, want, ny, k, shape, err);
    if (r == 0) {
        gemm_nn(m, n, k, dy, w, 0, got);
        gemm_nn_naive(m, n, k, dy, w, 0, want);
        r = compare("dY W", got, want, nx, n, shape, err);
    }
    if (r == 0) {
        gemm_tn(m, n, k, dy, x, dw);
        gemm_tn_naive(m, n, k, dy, x, dw_want);
        r = compare("dY^T X", dw, dw_want, nw, m, shape, err);
    }
    float *all[] = {x, w, dy, got, want, dw, dw_want};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return r;
}
