// SPDX-License-Identifier: Apache-2.0
// The micro-kernel, over whatever can add products of 16 lanes; included once for each, with
//
//     TILE_NAME           of the packed_way that is defined
//     TILE_SET            its other members
//     TILE_ATTRIBUTE      of each function: the target
//     TILE_VECTOR         16 floats
//     TILE_UNIT           what one unit of x is, over all lanes
//     tile_load(p) tile_splat(p) tile_dot(sum, unit, w) tile_store(p, v) tile_relu(v) tile_mask(v, m)
//     TILE_MOST           at most so many accumulators, in vectors
//     TILE_PLAIN          if it is defined, nothing is unrolled or inlined: for emulations
//
// Sums stay in registers for the whole of k: rows x panels of them. A row of w is loaded once for all rows of x, an
// element of x is spread over the lanes from where it lies, so x needs no packing. Few rows take several panels at
// once, or each sum would wait for the one before.
//
//              | w0 | w1 |       16 lanes each
//     x[0][p]  | s00| s01|
//     x[1][p]  | s10| s11|
#define TILE_JOIN_(a, b) a##_##b
#define TILE_JOIN(a, b) TILE_JOIN_(a, b)
#if defined(TILE_PLAIN) || defined(__SANITIZE_ADDRESS__) // which takes a minute to compile it unrolled
#define TILE_INLINE TILE_ATTRIBUTE static
#define TILE_UNROLL(n)
#else
#define TILE_INLINE TILE_ATTRIBUTE static inline __attribute__((always_inline))
#define TILE_PRAGMA(text) _Pragma(#text)
#define TILE_UNROLL(n) TILE_PRAGMA(GCC unroll n)
#endif

// clang-format off

TILE_INLINE void TILE_JOIN(TILE_NAME, tile)(const struct packed_tile *t, const int rows, const int panels)
{
    TILE_VECTOR sums[PACKED_ROWS][PACKED_PANELS];
    const float *x[PACKED_ROWS], *const w = t->w;
    const size_t panel = t->panel;
    TILE_UNROLL(6)
    for (int i = 0; i < rows; i++) {
        x[i] = t->x + (size_t)i * t->ldx;
        TILE_UNROLL(4)
        for (int j = 0; j < panels; j++)
            sums[i][j] = tile_load(t->start + (size_t)i * t->ldstart + j * PACKED_COLS);
    }
    TILE_UNROLL(4)
    for (size_t p = 0; p < t->k; p++) {
        TILE_VECTOR row[PACKED_PANELS];
        TILE_UNROLL(4)
        for (int j = 0; j < panels; j++)
            row[j] = tile_load(w + (size_t)j * panel + p * PACKED_COLS);
        TILE_UNROLL(6)
        for (int i = 0; i < rows; i++) {
            const TILE_UNIT unit = tile_splat(x[i] + p);
            TILE_UNROLL(4)
            for (int j = 0; j < panels; j++)
                sums[i][j] = tile_dot(sums[i][j], unit, row[j]);
        }
    }
    TILE_UNROLL(6)
    for (int i = 0; i < rows; i++) {
        TILE_UNROLL(4)
        for (int j = 0; j < panels; j++) {
            const float *mask = t->mask != NULL ? t->mask + (size_t)i * t->ldmask + j * PACKED_COLS : NULL;
            TILE_VECTOR v = t->relu ? tile_relu(sums[i][j]) : sums[i][j];
            v = mask != NULL ? tile_mask(v, tile_load(mask)) : v;
            tile_store(t->y + (size_t)i * t->ldy + j * PACKED_COLS, v);
        }
    }
}

#define TILE(rows, panels)                                                                                \
    TILE_ATTRIBUTE static void TILE_JOIN(TILE_JOIN(TILE_NAME, rows), panels)(const struct packed_tile *t) \
    {                                                                                                     \
        TILE_JOIN(TILE_NAME, tile)(t, rows, panels);                                                      \
    }
#define TILE_OF(rows, panels) TILE_JOIN(TILE_JOIN(TILE_NAME, rows), panels)

TILE(1, 1) TILE(1, 2) TILE(1, 3) TILE(1, 4)
TILE(2, 1) TILE(2, 2)
TILE(3, 1)
TILE(4, 1) TILE(5, 1) TILE(6, 1)
#if TILE_MOST >= 24
TILE(2, 3) TILE(2, 4)
TILE(3, 2) TILE(3, 3) TILE(3, 4)
TILE(4, 2) TILE(4, 3) TILE(4, 4)
TILE(5, 2) TILE(5, 3) TILE(5, 4)
TILE(6, 2) TILE(6, 3) TILE(6, 4)

#define TILES_OF(r) {TILE_OF(r, 1), TILE_OF(r, 2), TILE_OF(r, 3), TILE_OF(r, 4)}
const struct packed_way TILE_NAME = {
    TILE_SET,
    .tiles = {TILES_OF(1), TILES_OF(2), TILES_OF(3), TILES_OF(4), TILES_OF(5), TILES_OF(6)},
    .panels_most = {4, 4, 4, 4, 4, 4},
};
#undef TILES_OF
#else
const struct packed_way TILE_NAME = {
    TILE_SET,
    .tiles = {{TILE_OF(1, 1), TILE_OF(1, 2), TILE_OF(1, 3), TILE_OF(1, 4)},
              {TILE_OF(2, 1), TILE_OF(2, 2)},
              {TILE_OF(3, 1)},
              {TILE_OF(4, 1)},
              {TILE_OF(5, 1)},
              {TILE_OF(6, 1)}},
    .panels_most = {4, 2, 1, 1, 1, 1},
};
#endif
// clang-format on

#undef TILE
#undef TILE_OF
#undef TILE_INLINE
#undef TILE_PRAGMA
#undef TILE_UNROLL
#undef TILE_PLAIN
#undef TILE_NAME
#undef TILE_SET
#undef TILE_ATTRIBUTE
#undef TILE_VECTOR
#undef TILE_UNIT
#undef TILE_MOST
#undef tile_load
#undef tile_splat
#undef tile_dot
#undef tile_store
#undef tile_relu
#undef tile_mask
