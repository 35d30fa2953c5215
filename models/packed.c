// SPDX-License-Identifier: Apache-2.0
// Packing, and the order in which the micro-kernel goes over a product (Goto and van de Geijn 2008, without the packing
// of x, whose rows are read as they lie):
//
//     for each part of at most BLOCK_DEPTH of k             the part of a panel stays in L1
//         for each block of at most BLOCK_COLUMNS of y      the block of w stays in L2 or L3
//             for each block of at most BLOCK_ROWS rows     x of the block stays in L2
//                 for each panel of 16 columns
//                     for each 6 rows: a tile
//
//     panels    | 16 columns: w[0][0..15] | w[1][0..15] | ... | w[k-1][0..15] || the next 16 ... || zeros beyond n |
//     of bf16   | w[0][0] w[1][0] | w[0][1] w[1][1] | ... | w[2][0] w[3][0] | ...     a unit is a pair
//
// Between two parts of k the sums lie in y, which changes no bit of them. The last panel is computed aside where n is
// not a multiple of 16. The cost of packing is a copy of w, a thousandth of what a step costs.
#include "models/packed.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "models/activation.h"
#include "models/gemm.h"
#include "models/kernel.h"

// A part of a panel takes 32 KiB, a block of x 96 KiB, and one of w 512 KiB. Larger ones lose where an input is wide
// (FiBiNET's 6,080 columns) and L2 is of 512 KiB. Of bf16 twice the columns, so that x is rounded fewer times: who has
// the instruction has 1 MiB. No byte depends on them.
enum { BLOCK_ROWS = 48, BLOCK_DEPTH = 512, BLOCK_COLUMNS = 256, PACKED_ALIGN = 64 };

static uint32_t divide_up(uint32_t a, uint32_t by)
{
    return (a + by - 1) / by;
}

// ---- bf16 ---------------------------------------------------------------------------------------------------

// To nearest, ties to even, as the processor rounds; NaN stays NaN.
static inline __attribute__((always_inline)) uint32_t bf16_of(float x)
{
    const union {
        float f;
        uint32_t bits;
    } u = {x};
    const uint32_t nan = (u.bits & 0x7fffffffu) > 0x7f800000u ? 0x400000u : 0;
    const uint32_t half = nan != 0 ? nan : 0x7fffu + (u.bits >> 16 & 1);
    return (nan != 0 ? u.bits | half : u.bits + half) >> 16;
}

static float bf16_round(float x)
{
    const union {
        uint32_t bits;
        float f;
    } u = {bf16_of(x) << 16};
    return u.f;
}

static float pair_of(float first, float second)
{
    const union {
        uint32_t bits;
        float f;
    } u = {bf16_of(first) | bf16_of(second) << 16};
    return u.f;
}

KERNEL static void row_round(uint32_t k, const float *restrict x, uint32_t *restrict to)
{
    for (uint32_t p = 0; p < k / 2; p++)
        to[p] = bf16_of(x[2 * p]) | bf16_of(x[2 * p + 1]) << 16;
    if (k % 2 != 0)
        to[k / 2] = bf16_of(x[k - 1]);
}

// ---- packing ------------------------------------------------------------------------------------------------

static uint32_t units_of(const struct packed_way *way, uint32_t k)
{
    return way->bf16 ? divide_up(k, 2) : k;
}

size_t packed_floats(const struct packed_way *way, uint32_t n, uint32_t k, bool backward)
{
    const uint32_t columns = backward ? k : n, depth = backward ? n : k;
    return (size_t)divide_up(columns, PACKED_COLS) * PACKED_COLS * units_of(way, depth);
}

size_t packed_rows_floats(const struct packed_way *way)
{
    return way->bf16 ? (size_t)BLOCK_ROWS * BLOCK_DEPTH : 0;
}

void packed_fill(const struct packed_way *way, uint32_t n, uint32_t k, bool backward, const float *w,
                 float *ret_panels)
{
    const uint32_t columns = backward ? k : n, depth = backward ? n : k, units = units_of(way, depth);
    const size_t down = backward ? k : 1, across = backward ? 1 : k; // in w
    for (uint32_t j = 0; j < columns; j += PACKED_COLS)
        for (uint32_t p = 0; p < units; p++)
            for (uint32_t c = j; c < j + PACKED_COLS; c++) {
                const float *at = w + c * across;
                float unit = 0;
                if (c < columns && way->bf16)
                    unit = pair_of(at[2 * p * down], 2 * p + 1 < depth ? at[(2 * p + 1) * down] : 0);
                else if (c < columns)
                    unit = at[p * down];
                *ret_panels++ = unit;
            }
}

// ---- a product ----------------------------------------------------------------------------------------------

// A product as columns and depth of its result, whichever its direction.
struct multiply {
    const struct packed_way *way;
    const struct packed_product *p;
    const float *panels;
    uint32_t columns, units;
};

// Where a tile's columns begin: at what y holds, at the bias, or at zeros.
static void tile_start(const struct multiply *a, struct packed_tile *t, uint32_t column, uint32_t unit)
{
    static const float zeros[PACKED_PANELS * PACKED_COLS];
    if (a->p->add || unit > 0) {
        t->start = t->y;
        t->ldstart = t->ldy;
    } else {
        t->start = a->p->bias != NULL ? a->p->bias + column : zeros;
        t->ldstart = 0;
    }
}

// The last panel, of which `columns` are there: in rows of our own.
static void tile_aside(packed_tile_fn *run, struct packed_tile t, uint32_t rows, uint32_t columns)
{
    float y[PACKED_ROWS * PACKED_COLS] = {0}, start[PACKED_ROWS * PACKED_COLS] = {0},
                          mask[PACKED_ROWS * PACKED_COLS] = {0};
    float *to = t.y;
    const size_t ldto = t.ldy;
    kernel_copy(t.ldstart > 0 ? rows : 1, columns, t.start, (uint32_t)t.ldstart, start, PACKED_COLS);
    if (t.mask != NULL)
        kernel_copy(rows, columns, t.mask, (uint32_t)t.ldmask, mask, PACKED_COLS);
    t.start = start;
    t.mask = t.mask != NULL ? mask : NULL;
    t.y = y;
    t.ldstart = t.ldstart > 0 ? PACKED_COLS : 0;
    t.ldmask = t.ldy = PACKED_COLS;
    run(&t);
    kernel_copy(rows, columns, y, PACKED_COLS, to, (uint32_t)ldto);
}

// Rows from `row` on and `panels` panels from `column` on; *t has x and the part of k, and of the mask whether.
static void multiply_tile(const struct multiply *a, struct packed_tile *t, uint32_t row, uint32_t rows,
                          uint32_t column, uint32_t panels, uint32_t unit)
{
    const struct packed_product *p = a->p;
    packed_tile_fn *run = a->way->tiles[rows - 1][panels - 1];
    t->w = a->panels + (size_t)column * a->units + (size_t)unit * PACKED_COLS;
    t->y = p->y + (size_t)row * p->ldy + column;
    t->mask = t->mask != NULL ? p->mask + (size_t)row * p->ldmask + column : NULL;
    tile_start(a, t, column, unit);
    if (column + panels * PACKED_COLS <= a->columns)
        run(t);
    else
        tile_aside(run, *t, rows, a->columns - column);
}

// A part of the sums of a part of y.
struct block {
    uint32_t top, bottom, left, right; // rows and columns
    uint32_t unit, units;              // over which is summed
    const float *x;                    // at row `top` and unit `unit`
    size_t ldx;
};

// Rows from .. to - 1 of a block, in tiles of `rows`. Whole panels go several at once; a last one, of which a part is
// not there, alone.
static void multiply_rows(const struct multiply *a, const struct block *b, uint32_t from, uint32_t to,
                          uint32_t rows)
{
    const bool last = b->unit + b->units == a->units;
    struct packed_tile t = {.k = b->units,
                            .ldx = b->ldx,
                            .panel = (size_t)PACKED_COLS * a->units,
                            .ldy = a->p->ldy,
                            .relu = last && a->p->relu,
                            .mask = last ? a->p->mask : NULL,
                            .ldmask = a->p->ldmask};
    for (uint32_t j = b->left, panels; j < b->right && from < to; j += panels * PACKED_COLS) {
        const uint32_t whole = (b->right - j) / PACKED_COLS, most = a->way->panels_most[rows - 1];
        panels = whole == 0 ? 1 : whole < most ? whole : most;
        for (uint32_t i = from; i < to; i += rows) {
            t.x = b->x + (size_t)(i - b->top) * b->ldx;
            multiply_tile(a, &t, i, rows, j, panels, b->unit);
        }
    }
}

static void multiply_block(const struct multiply *a, const struct block *b)
{
    const uint32_t rest = (b->bottom - b->top) % PACKED_ROWS;
    multiply_rows(a, b, b->top, b->bottom - rest, PACKED_ROWS);
    multiply_rows(a, b, b->bottom - rest, b->bottom, rest);
}

// x of a block, rounded into `rows`.
static void block_round(const struct multiply *a, struct block *b, float *rows, uint32_t depth)
{
    const uint32_t first = 2 * b->unit, n = depth - first < 2 * b->units ? depth - first : 2 * b->units;
    b->x = rows;
    b->ldx = b->units;
    void (*const round)(uint32_t, const float *, uint32_t *) =
        a->way->round != NULL ? a->way->round : row_round;
    for (uint32_t i = b->top; i < b->bottom; i++)
        round(n, a->p->x + (size_t)i * a->p->ldx + first, (uint32_t *)rows + (size_t)(i - b->top) * b->units);
}

// In equal shares of at most `most`, of whole `step`s.
static uint32_t share_of(uint32_t n, uint32_t most, uint32_t step)
{
    return divide_up(divide_up(n, divide_up(n, most)), step) * step;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

void packed_multiply(const struct packed_way *way, bool backward, const struct packed_product *p,
                     const float *panels, float *rows)
{
    const uint32_t depth = backward ? p->n : p->k, columns = backward ? p->k : p->n;
    const struct multiply a = {way, p, panels, columns, units_of(way, depth)};
    assert(!(p->add && p->bias != NULL));
    if (p->m == 0 || columns == 0)
        return;
    const uint32_t part = share_of(a.units, BLOCK_DEPTH, 1), high = share_of(p->m, BLOCK_ROWS, PACKED_ROWS),
                   wide = share_of(columns, way->bf16 ? 2 * BLOCK_COLUMNS : BLOCK_COLUMNS,
                                   PACKED_PANELS * PACKED_COLS);
    for (uint32_t unit = 0; unit < a.units; unit += part)
        for (uint32_t j = 0; j < columns; j += wide)
            for (uint32_t i = 0; i < p->m; i += high) {
                struct block b = {.top = i,
                                  .bottom = least(i + high, p->m),
                                  .left = j,
                                  .right = least(j + wide, columns),
                                  .unit = unit,
                                  .units = least(part, a.units - unit),
                                  .x = p->x + (size_t)i * p->ldx + unit,
                                  .ldx = p->ldx};
                if (way->bf16)
                    block_round(&a, &b, rows, depth);
                multiply_block(&a, &b);
            }
}

// ---- twin ---------------------------------------------------------------------------------------------------

static float finish(const struct packed_product *p, float sum, size_t i, size_t j)
{
    if (p->relu && sum < 0)
        sum = 0;
    return p->mask != NULL && p->mask[i * p->ldmask + j] <= 0 ? 0 : sum;
}

void packed_multiply_naive(bool bf16, bool backward, const struct packed_product *p)
{
    const size_t columns = backward ? p->k : p->n, depth = backward ? p->n : p->k;
    for (size_t i = 0; i < p->m; i++)
        for (size_t j = 0; j < columns; j++) {
            float *y = &p->y[i * p->ldy + j];
            const float begin = p->add ? *y : p->bias != NULL ? p->bias[j] : 0;
            float sum = begin;
            double exact = (double)begin;
            for (size_t q = 0; q < depth; q++) {
                const float x = p->x[i * p->ldx + q], w = backward ? p->w[q * p->k + j] : p->w[j * p->k + q];
                sum = fmaf(x, w, sum);
                exact += (double)bf16_round(x) * (double)bf16_round(w);
            }
            *y = finish(p, bf16 ? (float)exact : sum, i, j);
        }
}

// ---- weights that were packed ---------------------------------------------------------------------------------

static const struct packed_way *float_way(void)
{
    return packed_way_runs(&packed_avx512) ? &packed_avx512 : &packed_avx2;
}

static const struct packed_way *way_of(enum packed_kernel kernel)
{
    assert(kernel != PACKED_AUTO);
    return kernel == PACKED_BLAS ? NULL : kernel == PACKED_BF16 ? &packed_bf16 : float_way();
}

uint64_t packs_bytes_begin(enum packed_kernel kernel)
{
    return kernel == PACKED_BLAS ? 0 : packed_rows_floats(way_of(kernel)) * sizeof(float);
}

uint64_t packs_bytes_most(enum packed_kernel kernel, uint32_t n, uint32_t k, bool backward)
{
    return kernel == PACKED_BLAS
               ? 0
               : packed_floats(way_of(kernel), n, k, backward) * sizeof(float) + PACKED_ALIGN;
}

// One thread writes it, and others may look.
static void bytes_set(struct packs *p, uint64_t bytes)
{
    __atomic_store_n(&p->bytes, bytes, __ATOMIC_RELAXED);
}

uint64_t packs_bytes(const struct packs *p)
{
    return __atomic_load_n(&p->bytes, __ATOMIC_RELAXED);
}

void packs_init(struct packs *p, enum packed_kernel kernel)
{
    *p = (struct packs){.kernel = kernel, .way = way_of(kernel)};
    if (kernel == PACKED_BF16)
        p->rows = mem_array(packed_rows_floats(p->way), sizeof *p->rows);
    bytes_set(p, packs_bytes_begin(kernel));
}

void packs_clear(struct packs *p)
{
    for (uint32_t i = 0; i < p->n; i++)
        free(p->all[i].memory);
    bytes_set(p, packs_bytes_begin(p->kernel));
    map_done(&p->places);
    p->places = (struct map){0};
    p->n = 0;
}

void packs_done(struct packs *p)
{
    packs_clear(p);
    free(p->all);
    free(p->rows);
    *p = (struct packs){0};
}

static uint64_t place_of(const float *w, bool backward)
{
    return hash_mix((uint64_t)(uintptr_t)w + backward); // of what is not 0 it is not 0
}

bool packs_have(const struct packs *p, const float *w, bool backward)
{
    return p != NULL && p->way != NULL && map_get(&p->places, place_of(w, backward)) != MAP_NONE;
}

static struct packed packed_of(const struct packs *packs, const struct packed_product *p, bool backward)
{
    const size_t bytes = packed_floats(packs->way, p->n, p->k, backward) * sizeof(float);
    struct packed made = {.n = p->n, .k = p->k, .memory = mem_alloc(bytes + PACKED_ALIGN)};
    const uintptr_t at = (uintptr_t)made.memory;
    made.panels = (float *)(at + (PACKED_ALIGN - at % PACKED_ALIGN));
    packed_fill(packs->way, p->n, p->k, backward, p->w, made.panels);
    return made;
}

// Packs what was not seen before.
static const float *packs_get(struct packs *packs, const struct packed_product *p, bool backward)
{
    uint32_t *place = map_at(&packs->places, place_of(p->w, backward));
    if (*place == MAP_NONE) {
        if (packs->n == packs->cap) {
            packs->cap = 2 * packs->cap + 16;
            packs->all = mem_resize(packs->all, packs->cap, sizeof *packs->all);
        }
        packs->all[packs->n] = packed_of(packs, p, backward);
        bytes_set(packs, packs->bytes + packs_bytes_most(packs->kernel, p->n, p->k, backward));
        *place = packs->n++;
    }
    const struct packed *found = &packs->all[*place];
    assert(found->n == p->n && found->k == p->k);
    return found->panels;
}

static void packs_multiply(struct packs *packs, bool backward, const struct packed_product *p)
{
    packed_multiply(packs->way, backward, p, packs_get(packs, p, backward), packs->rows);
}

void packs_forward(struct packs *packs, const struct packed_product *p)
{
    if (packs != NULL && packs->way != NULL) {
        packs_multiply(packs, false, p);
        return;
    }
    (p->add ? gemm_nt_add_ld : gemm_nt_ld)(p->m, p->n, p->k, p->x, p->ldx, p->w, p->y, p->ldy);
    if (p->bias != NULL)
        kernel_bias(p->m, p->n, p->bias, p->relu, p->y, p->ldy);
    else if (p->relu)
        activation_apply(ACTIVATION_RELU, p->m, p->n, p->y, p->ldy);
}

void packs_backward(struct packs *packs, const struct packed_product *p)
{
    if (packs != NULL && packs->way != NULL) {
        packs_multiply(packs, true, p);
        return;
    }
    gemm_nn_ld(p->m, p->n, p->k, p->x, p->ldx, p->w, p->add ? 1 : 0, p->y, p->ldy);
    if (p->mask != NULL)
        kernel_mask(p->m, p->k, p->mask, p->ldmask, p->y, p->ldy);
}

// ---- the choice at start --------------------------------------------------------------------------------------

enum { CHECK_SHAPES = 4 };

static void random_fill(float *p, size_t n, struct rng *rng)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(2 * rng_uniform(rng) - 1);
}

// Numbers lie in -1..1. Float: no byte differs. bf16: each addition of `terms` may err by 2^-24 of the sum.
static int compare(const struct packed_way *way, const char *what, const struct packed_product *p,
                   const float *got, const float *want, size_t n, struct err *err)
{
    const double bound = way->bf16 ? (p->n + p->k) * 0x1p-22 : 0;
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= bound))
            return err_set(
                err, ERR_NUMERIC,
                "the kernel %s computes a wrong product on this processor: %s of (%u, %u, %u) gives "
                "%.9g instead of %.9g; set update.kernel to blas",
                way->name, what, p->m, p->n, p->k, (double)got[i], (double)want[i]);
    return 0;
}

int packed_check(const struct packed_way *way, uint32_t m, uint32_t n, uint32_t k, struct err *err)
{
    struct rng rng = rng_of(hash_mix((uint64_t)m << 40 ^ (uint64_t)n << 20 ^ k));
    const uint32_t most = n > k ? n : k;
    const size_t floats = (size_t)m * most;
    float *numbers = mem_array(4 * floats + (size_t)n * k + most, sizeof *numbers);
    float *x = numbers, *mask = x + floats, *got = mask + floats, *want = got + floats, *w = want + floats;
    int r = 0;
    random_fill(numbers, 2 * floats, &rng);
    random_fill(w, (size_t)n * k + most, &rng);
    for (int backward = 0; backward < 2 && r == 0; backward++) {
        const uint32_t columns = backward ? k : n, depth = backward ? n : k;
        const struct packed_product p = {.m = m,
                                         .n = n,
                                         .k = k,
                                         .w = w,
                                         .x = x,
                                         .ldx = depth,
                                         .ldy = columns,
                                         .bias = backward ? NULL : w + (size_t)n * k,
                                         .relu = !backward,
                                         .mask = backward ? mask : NULL,
                                         .ldmask = columns};
        struct packed_product a = p, b = p;
        float *panels = mem_array(packed_floats(way, n, k, backward), sizeof *panels);
        float *rows = mem_array(packed_rows_floats(way) + 1, sizeof *rows);
        a.y = got;
        b.y = want;
        packed_fill(way, n, k, backward, w, panels);
        packed_multiply(way, backward, &a, panels, rows);
        packed_multiply_naive(way->bf16, backward, &b);
        r = compare(way, backward ? "dY W" : "X W^T", &p, got, want, (size_t)m * columns, err);
        free(panels);
        free(rows);
    }
    free(numbers);
    return r;
}

// Whole panels and blocks, several of each, one row, and odd ends of everything.
static int way_check(const struct packed_way *way, struct err *err)
{
    static const uint32_t shapes[CHECK_SHAPES][3] = {{96, 64, 64}, {107, 35, 301}, {1, 130, 77}, {6, 1, 5}};
    for (uint32_t i = 0; i < CHECK_SHAPES; i++)
        if (packed_check(way, shapes[i][0], shapes[i][1], shapes[i][2], err) != 0)
            return -1;
    return 0;
}

static const char *const kernel_names[] = {"blas", "packed", "bf16", "auto"};

int packed_kernel_choose(enum packed_kernel asked, enum packed_kernel *ret_kernel, struct err *err)
{
    struct err why;
    if (asked == PACKED_BLAS) {
        *ret_kernel = asked;
        return 0;
    }
    const struct packed_way *way = asked == PACKED_BF16 ? &packed_bf16 : float_way();
    const bool runs = packed_way_runs(way);
    if (!runs && asked != PACKED_AUTO)
        return err_set(err, ERR_CONFIG, "update.kernel: %s needs %s, which this processor has not; use auto",
                       kernel_names[asked], way->bf16 ? "AVX512_BF16" : "AVX2 and FMA");
    const bool right = runs && way_check(way, &why) == 0;
    if (!right && asked != PACKED_AUTO) {
        *err = why;
        return -1;
    }
    *ret_kernel = !right ? PACKED_BLAS : asked == PACKED_AUTO ? PACKED_FLOAT : asked;
    return 0;
}

const char *packed_kernel_word(enum packed_kernel kernel)
{
    assert(kernel < PACKED_AUTO);
    return kernel_names[kernel];
}

const char *packed_kernel_name(enum packed_kernel kernel)
{
    if (kernel == PACKED_FLOAT)
        return float_way() == &packed_avx512 ? "packed (avx512)" : "packed (avx2)";
    return packed_kernel_word(kernel);
}
