// SPDX-License-Identifier: Apache-2.0
// Packed products beside their twin, in every shape: the kernels that this processor has, and the template of those that
// it has not over an emulation of their instructions, so that packing, blocks and tails are tested everywhere.
#include "models/packed.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/gemm.h"

TestSuite(packed, .init = gemm_setup);

// ---- the instructions in C ----------------------------------------------------------------------------------

struct lanes {
    float f[PACKED_COLS];
};

#define LANES __attribute__((noinline)) static // inlined, hundreds of them would take minutes to compile

LANES struct lanes lanes_load(const float *p)
{
    struct lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

LANES struct lanes lanes_splat(const float *p)
{
    struct lanes v;
    for (int i = 0; i < PACKED_COLS; i++)
        memcpy(&v.f[i], p, sizeof *p); // a pair of bf16 is no float
    return v;
}

LANES struct lanes lanes_fma(struct lanes sum, struct lanes x, struct lanes w)
{
    for (int i = 0; i < PACKED_COLS; i++)
        sum.f[i] = fmaf(x.f[i], w.f[i], sum.f[i]);
    return sum;
}

static inline float bf16_half(float pair, int high)
{
    uint32_t bits;
    float f;
    memcpy(&bits, &pair, sizeof bits);
    bits = high ? bits & 0xffff0000u : bits << 16;
    memcpy(&f, &bits, sizeof f);
    return f;
}

// VDPBF16PS: the second of a pair, then the first, each rounded.
LANES struct lanes lanes_dpbf16(struct lanes sum, struct lanes x, struct lanes w)
{
    for (int i = 0; i < PACKED_COLS; i++)
        for (int high = 1; high >= 0; high--)
            sum.f[i] = fmaf(bf16_half(x.f[i], high), bf16_half(w.f[i], high), sum.f[i]);
    return sum;
}

LANES void lanes_store(float *p, struct lanes v)
{
    memcpy(p, &v, sizeof v);
}

LANES struct lanes lanes_relu(struct lanes v)
{
    for (int i = 0; i < PACKED_COLS; i++)
        v.f[i] = v.f[i] < 0 ? 0 : v.f[i];
    return v;
}

LANES struct lanes lanes_mask(struct lanes v, struct lanes m)
{
    for (int i = 0; i < PACKED_COLS; i++)
        v.f[i] = m.f[i] <= 0 ? 0 : v.f[i];
    return v;
}

#define TILE_NAME emulated_float
#define TILE_SET .name = "emulated"
#define TILE_ATTRIBUTE
#define TILE_VECTOR struct lanes
#define TILE_UNIT struct lanes
#define TILE_MOST 24
#define TILE_PLAIN
#define tile_load lanes_load
#define tile_splat lanes_splat
#define tile_dot lanes_fma
#define tile_store lanes_store
#define tile_relu lanes_relu
#define tile_mask lanes_mask
#include "models/packed_tile.h"

#define TILE_NAME emulated_bf16
#define TILE_SET .name = "emulated bf16", .bf16 = true
#define TILE_ATTRIBUTE
#define TILE_VECTOR struct lanes
#define TILE_UNIT struct lanes
#define TILE_MOST 24
#define TILE_PLAIN
#define tile_load lanes_load
#define tile_splat lanes_splat
#define tile_dot lanes_dpbf16
#define tile_store lanes_store
#define tile_relu lanes_relu
#define tile_mask lanes_mask
#include "models/packed_tile.h"

static const struct packed_way *const ways[] = {&packed_avx2, &packed_avx512, &packed_bf16, &emulated_float,
                                                &emulated_bf16};
enum { WAYS = sizeof ways / sizeof *ways };

static bool runs(const struct packed_way *way)
{
    return way == &emulated_float || way == &emulated_bf16 || packed_way_runs(way);
}

// ---- products -----------------------------------------------------------------------------------------------

enum { GAP = 3, UNTOUCHED = 77 }; // floats between rows, and what stands there

static float *random_new(size_t n, struct rng *rng)
{
    float *p = mem_array(n + 1, sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(2 * rng_uniform(rng) - 1);
    return p;
}

struct operands {
    struct packed_product p;
    bool backward;
    uint32_t columns, depth;
    size_t floats; // of y
    float *w, *x, *y, *bias, *mask;
};

static struct operands operands_new(uint32_t m, uint32_t n, uint32_t k, bool backward, struct rng *rng)
{
    struct operands o = {.backward = backward, .columns = backward ? k : n, .depth = backward ? n : k};
    const uint32_t ldx = o.depth + GAP, ldy = o.columns + GAP;
    o.floats = (size_t)m * ldy;
    o.w = random_new((size_t)n * k, rng);
    o.x = random_new((size_t)m * ldx, rng);
    o.bias = random_new(o.columns, rng);
    o.mask = random_new(o.floats, rng);
    o.y = random_new(o.floats, rng);
    for (size_t i = 0; i < o.floats; i++)
        o.y[i] = i % ldy < o.columns ? o.y[i] : UNTOUCHED;
    o.p =
        (struct packed_product){.m = m, .n = n, .k = k, .w = o.w, .x = o.x, .ldx = ldx, .y = o.y, .ldy = ldy};
    o.p.add = rng_below(rng, 2) == 0;
    o.p.bias = !backward && !o.p.add && rng_below(rng, 2) == 0 ? o.bias : NULL;
    o.p.relu = !backward && rng_below(rng, 2) == 0;
    o.p.mask = backward && rng_below(rng, 2) == 0 ? o.mask : NULL;
    o.p.ldmask = ldy;
    return o;
}

static void operands_free(struct operands *o)
{
    float *const all[] = {o->w, o->x, o->y, o->bias, o->mask};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void multiply(const struct packed_way *way, const struct operands *o, const struct packed_product *p)
{
    float *panels = mem_array(packed_floats(way, p->n, p->k, o->backward), sizeof *panels);
    float *rows = mem_array(packed_rows_floats(way) + 1, sizeof *rows);
    packed_fill(way, p->n, p->k, o->backward, p->w, panels);
    packed_multiply(way, o->backward, p, panels, rows);
    free(panels);
    free(rows);
}

static float *copy_new(const float *from, size_t n)
{
    float *p = mem_array(n, sizeof *p);
    memcpy(p, from, n * sizeof *p);
    return p;
}

static void check(const struct packed_way *way, const struct operands *o)
{
    struct packed_product twin = o->p, got = o->p;
    float *want = copy_new(o->y, o->floats), *y = copy_new(o->y, o->floats);
    twin.y = want;
    got.y = y;
    packed_multiply_naive(way->bf16, o->backward, &twin);
    multiply(way, o, &got);
    const double bound = way->bf16 ? (o->depth + 1) * 0x1p-22 : 0;
    for (size_t i = 0; i < o->floats; i++)
        cr_assert(fabs((double)y[i] - (double)want[i]) <= bound, "%s (%u, %u, %u)%s at %zu: %.9g, not %.9g",
                  way->name, o->p.m, o->p.n, o->p.k, o->backward ? " back" : "", i, (double)y[i],
                  (double)want[i]);
    free(want);
    free(y);
}

static void check_all(uint32_t m, uint32_t n, uint32_t k, bool backward, struct rng *rng)
{
    struct operands o = operands_new(m, n, k, backward, rng);
    for (uint32_t i = 0; i < WAYS; i++)
        if (runs(ways[i]))
            check(ways[i], &o);
    operands_free(&o);
}

Test(packed, equals_its_twin)
{
    static const uint32_t sizes[] = {1,  2,  3,  5,  6,   7,   15,  16,  17, 31,
                                     33, 64, 65, 97, 101, 193, 257, 300, 521};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    struct rng rng = rng_of(5);
    for (uint32_t round = 0; round < 400; round++) {
        const uint32_t m = sizes[rng_below(&rng, SIZES)], n = sizes[rng_below(&rng, SIZES - 2)],
                       k = sizes[rng_below(&rng, SIZES)];
        if ((uint64_t)m * n * k > 3000000)
            continue;
        check_all(m, n, k, round % 2 != 0, &rng);
    }
}

// Every number of rows of a tile, and a panel more than what is done at once.
Test(packed, equals_its_twin_with_few_rows)
{
    struct rng rng = rng_of(6);
    for (uint32_t m = 1; m <= 14; m++)
        for (uint32_t n = 60; n <= 84; n += 4) {
            check_all(m, n, 37, m % 2 != 0, &rng);
        }
}

// The bytes of a row are those that it has alone.
Test(packed, row_stands_on_its_own)
{
    struct rng rng = rng_of(7);
    struct operands o = operands_new(203, 70, 300, false, &rng);
    for (uint32_t w = 0; w < WAYS; w++) {
        if (!runs(ways[w]))
            continue;
        float *all = copy_new(o.y, o.floats), *one = copy_new(o.y, o.floats);
        struct packed_product p = o.p;
        p.y = all;
        multiply(ways[w], &o, &p);
        for (uint32_t i = 0, rows; i < 203; i += rows) {
            rows = 1 + (uint32_t)rng_below(&rng, 203 - i < 9 ? 203 - i : 9);
            struct packed_product part = o.p;
            part.m = rows;
            part.x += (size_t)i * o.p.ldx;
            part.y = one + (size_t)i * o.p.ldy;
            multiply(ways[w], &o, &part);
        }
        cr_assert_arr_eq(all, one, o.floats * sizeof *one, "%s", ways[w]->name);
        free(all);
        free(one);
    }
    operands_free(&o);
}

Test(packed, passes_nan_and_infinity_on)
{
    for (uint32_t w = 0; w < WAYS; w++) {
        if (!runs(ways[w]))
            continue;
        float x[9] = {1, NAN, 1, 1, INFINITY, 1, 1, 1, 1}, weights[3] = {1, 2, 3}, y[3];
        const struct operands o = {.depth = 3};
        const struct packed_product p = {
            .m = 3, .n = 1, .k = 3, .w = weights, .x = x, .ldx = 3, .y = y, .ldy = 1, .relu = true};
        multiply(ways[w], &o, &p);
        cr_assert(isnan(y[0]) && isinf(y[1]) && y[2] == 6, "%s: %g %g %g", ways[w]->name, (double)y[0],
                  (double)y[1], (double)y[2]);
    }
}

// ---- packs --------------------------------------------------------------------------------------------------

Test(packed, packs_keep_weights_until_cleared)
{
    struct rng rng = rng_of(8);
    struct err err;
    enum packed_kernel kernel;
    cr_assert_eq(packed_kernel_choose(PACKED_AUTO, &kernel, &err), 0);
    struct packs packs;
    packs_init(&packs, kernel);
    for (uint32_t round = 0; round < 3; round++)
        for (int backward = 0; backward < 2; backward++) {
            struct operands o = operands_new(20, 33, 18, backward, &rng);
            float *want = copy_new(o.y, o.floats);
            struct packed_product twin = o.p;
            twin.y = want;
            packed_multiply_naive(false, backward, &twin);
            cr_assert(!packs_have(&packs, o.w, backward));
            (backward ? packs_backward : packs_forward)(&packs, &o.p);
            cr_assert_eq(packs_have(&packs, o.w, backward), kernel != PACKED_BLAS);
            cr_assert(!packs_have(&packs, o.w, !backward));
            for (size_t i = 0; i < o.floats; i++)
                cr_assert_float_eq(o.y[i], want[i], 1e-5);
            packs_clear(&packs);
            cr_assert(!packs_have(&packs, o.w, backward));
            free(want);
            operands_free(&o);
        }
    packs_done(&packs);
}

Test(packed, without_packs_the_blas_and_a_pass)
{
    struct rng rng = rng_of(9);
    for (uint32_t round = 0; round < 40; round++) {
        struct operands o = operands_new(11, 19, 23, round % 2 != 0, &rng);
        float *want = copy_new(o.y, o.floats);
        struct packed_product twin = o.p;
        twin.y = want;
        packed_multiply_naive(false, o.backward, &twin);
        (o.backward ? packs_backward : packs_forward)(NULL, &o.p);
        for (size_t i = 0; i < o.floats; i++)
            cr_assert_float_eq(o.y[i], want[i], 1e-5);
        free(want);
        operands_free(&o);
    }
}

Test(packed, kernel_is_chosen_by_the_processor)
{
    struct err err;
    enum packed_kernel kernel;
    cr_assert_eq(packed_kernel_choose(PACKED_BLAS, &kernel, &err), 0);
    cr_assert_eq(kernel, PACKED_BLAS);
    cr_assert_str_eq(packed_kernel_name(kernel), "blas");
    cr_assert_eq(packed_kernel_choose(PACKED_AUTO, &kernel, &err), 0);
    cr_assert_eq(kernel, packed_way_runs(&packed_avx2) ? PACKED_FLOAT : PACKED_BLAS,
                 "never bf16 unless asked");
    if (packed_way_runs(&packed_bf16)) {
        cr_assert_eq(packed_kernel_choose(PACKED_BF16, &kernel, &err), 0, "%s", err.message);
        cr_assert_eq(kernel, PACKED_BF16);
    } else {
        cr_assert_eq(packed_kernel_choose(PACKED_BF16, &kernel, &err), -1);
        cr_assert_eq(err.code, ERR_CONFIG);
        cr_assert(strstr(err.message, "AVX512_BF16") != NULL, "%s", err.message);
    }
}
