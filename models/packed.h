// SPDX-License-Identifier: Apache-2.0
// Products with weights that stay: packed once, used for as long as nobody changes them.
//
// A BLAS does not know that the weights of the product before are those of the product to come: it rearranges both
// operands each time. While the dense layers are frozen, and between two versions in scoring, weights are arranged
// once here, and what follows a product (bias, ReLU, the ReLU's mask going back) is done where its sums still are in
// registers. Used inside models/ and by its tests, but for the kernels.
//
// Sums. Element (i, j) begins at its bias, at what y holds (`add`) or at 0, and takes x[i][p] w[p][j] for p = 0, 1, 2, ...,
// each by one fused multiply-add in float. So packed and its twin are equal to the byte, on every processor; and a
// row's result depends neither on how many rows there are nor on its place among them. Of bf16 the terms of a pair are
// added in the order of the instruction, to numbers that were rounded first; there, too, a row is on its own.
#ifndef FRESHET_MODELS_PACKED_H
#define FRESHET_MODELS_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/map.h"

enum packed_kernel {
    PACKED_BLAS, // nothing is packed
    PACKED_FLOAT,
    PACKED_BF16,
    PACKED_AUTO, // to packed_kernel_choose alone: PACKED_FLOAT where the processor can, else PACKED_BLAS
};
#define PACKED_KERNEL_CHOICES "blas|packed|bf16|auto" // in that order

// What `asked` is on this processor; ERR_CONFIG where that cannot be, or where its check against the twin fails: for
// PACKED_AUTO the BLAS is taken then.
int packed_kernel_choose(enum packed_kernel asked, enum packed_kernel *ret_kernel, struct err *err);
// Of what packed_kernel_choose gave: "blas", "packed", "bf16", which is all that bytes depend on; and with what this
// processor computes it, "packed (avx2)".
const char *packed_kernel_word(enum packed_kernel kernel);
const char *packed_kernel_name(enum packed_kernel kernel);

// M, N, K as in gemm.h: rows, outputs and inputs of a layer with the weights (N, K).
struct packed_product {
    uint32_t m, n, k;
    const float *w;
    const float *x; // forward (M, K), backward dy (M, N)
    uint32_t ldx;
    float *y; // forward (M, N), backward dx (M, K)
    uint32_t ldy;
    bool add;          // y += instead of y =
    const float *bias; // forward, without `add`: (N), or NULL
    bool relu;         // forward: max(y, 0)
    const float *mask; // backward: y is 0 where this is not above 0, or NULL
    uint32_t ldmask;
};

// Weights that were packed, by where they lie; of one thread.
struct packs {
    enum packed_kernel
        kernel; // of packed_kernel_choose; PACKED_BLAS: nothing is packed, packs_* are the BLAS'
    const struct packed_way *way;
    struct map places; // (w, direction) to `all`
    uint32_t n, cap;
    struct packed {
        uint32_t n, k;
        float *panels; // within `memory`
        void *memory;
    } * all;
    float *rows; // bf16: of a block of x, rounded
    uint64_t bytes;
};

void packs_init(struct packs *p, enum packed_kernel kernel);
void packs_done(struct packs *p);
// Before any w is changed.
void packs_clear(struct packs *p);
uint64_t packs_bytes(const struct packs *p); // of memory now; from any thread
// Of one w (n, k) packed in one direction, at most; and of a `packs` that has packed nothing. PACKED_BLAS: 0.
uint64_t packs_bytes_most(enum packed_kernel kernel, uint32_t n, uint32_t k, bool backward);
uint64_t packs_bytes_begin(enum packed_kernel kernel);

// y = act(x W^T + bias). `packs` NULL: by the BLAS and a pass, as for weights that are trained now. Else *w must be
// what it was when `packs` saw it first; it may be scratch that follows from parameters alone, then packs_have tells
// whether it need be computed.
void packs_forward(struct packs *packs, const struct packed_product *p);
// dx = dy W, masked.
void packs_backward(struct packs *packs, const struct packed_product *p);
bool packs_have(const struct packs *packs, const float *w, bool backward);

// The same as gemm_nt_ld, gemm_nt_add_ld and gemm_nn_ld.
static inline void packs_nt_ld(struct packs *packs, uint32_t m, uint32_t n, uint32_t k, const float *x,
                               uint32_t ldx, const float *w, float *y, uint32_t ldy)
{
    packs_forward(packs, &(struct packed_product){
                             .m = m, .n = n, .k = k, .w = w, .x = x, .ldx = ldx, .y = y, .ldy = ldy});
}

static inline void packs_nt_add_ld(struct packs *packs, uint32_t m, uint32_t n, uint32_t k, const float *x,
                                   uint32_t ldx, const float *w, float *y, uint32_t ldy)
{
    packs_forward(packs,
                  &(struct packed_product){
                      .m = m, .n = n, .k = k, .w = w, .x = x, .ldx = ldx, .y = y, .ldy = ldy, .add = true});
}

static inline void packs_nn_ld(struct packs *packs, uint32_t m, uint32_t n, uint32_t k, const float *dy,
                               uint32_t lddy, const float *w, float beta, float *dx, uint32_t lddx)
{
    packs_backward(
        packs,
        &(struct packed_product){
            .m = m, .n = n, .k = k, .w = w, .x = dy, .ldx = lddy, .y = dx, .ldy = lddx, .add = beta != 0});
}

// ---- one product, for tests and the check at start --------------------------------------------------------

// Columns of the result by panels of PACKED_COLS; x comes in units of 4 bytes, one float or a pair of bf16.
enum { PACKED_COLS = 16, PACKED_ROWS = 6, PACKED_PANELS = 4 };

// One call of a micro-kernel: rows x (panels * PACKED_COLS) of y, over k units.
struct packed_tile {
    uint32_t k;
    const float *x;
    size_t ldx;
    const float *w; // panels, `panel` units from one to the next
    size_t panel;
    const float *start; // where the sums begin; ldstart 0: the same in each row
    size_t ldstart;
    float *y;
    size_t ldy;
    bool relu;
    const float *mask;
    size_t ldmask;
};

typedef void packed_tile_fn(const struct packed_tile *t);

struct packed_way {
    const char *name;
    bool bf16;
    // bf16: a row of k floats to divide_up(k, 2) pairs; NULL: a loop that rounds as the processor does.
    void (*round)(uint32_t k, const float *x, uint32_t *to);
    // [rows - 1][panels - 1], NULL beyond panels_most[rows - 1].
    packed_tile_fn *tiles[PACKED_ROWS][PACKED_PANELS];
    uint32_t panels_most[PACKED_ROWS];
};

extern const struct packed_way packed_avx2, packed_avx512, packed_bf16;
bool packed_way_runs(const struct packed_way *way); // the processor has what it needs

// Panels of w for y = x w^T, or `backward` x w: w (n, k) as above.
size_t packed_floats(const struct packed_way *way, uint32_t n, uint32_t k, bool backward);
void packed_fill(const struct packed_way *way, uint32_t n, uint32_t k, bool backward, const float *w,
                 float *ret_panels);
size_t packed_rows_floats(const struct packed_way *way); // of scratch; 0: none
void packed_multiply(const struct packed_way *way, bool backward, const struct packed_product *p,
                     const float *panels, float *rows);
// The twin, from w itself. bf16: of rounded numbers, summed in double.
void packed_multiply_naive(bool bf16, bool backward, const struct packed_product *p);
// Compares the product with its twin on random numbers, both directions; ERR_NUMERIC.
int packed_check(const struct packed_way *way, uint32_t m, uint32_t n, uint32_t k, struct err *err);

#endif
