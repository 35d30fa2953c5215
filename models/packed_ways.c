// SPDX-License-Identifier: Apache-2.0
// The micro-kernels of packed.h by instruction set. avx2 and avx512 sum in the same order, so they give the same
// bytes. Elsewhere than on x86-64 there are none, and packed_way_runs says so.
#include <string.h>

#include "models/packed.h"

#if defined(__x86_64__)
#include <immintrin.h>

// ---- avx2: a vector is two registers -----------------------------------------------------------------------

struct pair {
    __m256 low, high;
};

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX2_INLINE AVX2 static inline __attribute__((always_inline))

AVX2_INLINE struct pair avx2_load(const float *p)
{
    return (struct pair){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

AVX2_INLINE struct pair avx2_dot(struct pair sum, __m256 x, struct pair w)
{
    return (struct pair){_mm256_fmadd_ps(x, w.low, sum.low), _mm256_fmadd_ps(x, w.high, sum.high)};
}

AVX2_INLINE void avx2_store(float *p, struct pair v)
{
    _mm256_storeu_ps(p, v.low);
    _mm256_storeu_ps(p + 8, v.high);
}

AVX2_INLINE struct pair avx2_relu(struct pair v)
{
    const __m256 zero = _mm256_setzero_ps(); // max gives its second where one is NaN
    return (struct pair){_mm256_max_ps(zero, v.low), _mm256_max_ps(zero, v.high)};
}

AVX2_INLINE __m256 avx2_keep(__m256 v, __m256 mask)
{
    return _mm256_andnot_ps(_mm256_cmp_ps(mask, _mm256_setzero_ps(), _CMP_LE_OQ), v);
}

AVX2_INLINE struct pair avx2_mask(struct pair v, struct pair m)
{
    return (struct pair){avx2_keep(v.low, m.low), avx2_keep(v.high, m.high)};
}

#define TILE_NAME packed_avx2
#define TILE_SET .name = "avx2"
#define TILE_ATTRIBUTE AVX2
#define TILE_VECTOR struct pair
#define TILE_UNIT __m256
#define TILE_MOST 6
#define tile_load avx2_load
#define tile_splat _mm256_broadcast_ss
#define tile_dot avx2_dot
#define tile_store avx2_store
#define tile_relu avx2_relu
#define tile_mask avx2_mask
#include "models/packed_tile.h"

// ---- avx512: and with products of bf16 ---------------------------------------------------------------------

#define AVX512 __attribute__((target("avx512f")))
#define AVX512_INLINE AVX512 static inline __attribute__((always_inline))

AVX512_INLINE __m512 avx512_splat(const float *p)
{
    return _mm512_set1_ps(*p);
}

AVX512_INLINE __m512 avx512_dot(__m512 sum, __m512 x, __m512 w)
{
    return _mm512_fmadd_ps(x, w, sum);
}

AVX512_INLINE __m512 avx512_relu(__m512 v)
{
    return _mm512_max_ps(_mm512_setzero_ps(), v);
}

AVX512_INLINE __m512 avx512_mask(__m512 v, __m512 m)
{
    const __mmask16 off = _mm512_cmp_ps_mask(m, _mm512_setzero_ps(), _CMP_LE_OQ);
    return _mm512_maskz_mov_ps((__mmask16)~off, v);
}

#define TILE_NAME packed_avx512
#define TILE_SET .name = "avx512"
#define TILE_ATTRIBUTE AVX512
#define TILE_VECTOR __m512
#define TILE_UNIT __m512
#define TILE_MOST 24
#define tile_load _mm512_loadu_ps
#define tile_splat avx512_splat
#define tile_dot avx512_dot
#define tile_store _mm512_storeu_ps
#define tile_relu avx512_relu
#define tile_mask avx512_mask
#include "models/packed_tile.h"

#define BF16 __attribute__((target("avx512f,avx512bf16")))

BF16 static inline __attribute__((always_inline)) __m512 bf16_dot(__m512 sum, __m512 x, __m512 w)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

// 32 floats at a time; what the last pair lacks is 0.
BF16 static void bf16_round(uint32_t k, const float *x, uint32_t *to)
{
    uint32_t i = 0;
    for (; i + 32 <= k; i += 32)
        _mm512_storeu_si512(
            to + i / 2, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i)));
    const uint32_t rest = k - i, low = rest < 16 ? rest : 16, high = rest - low;
    if (rest == 0)
        return;
    const __m512 first = _mm512_maskz_loadu_ps((__mmask16)((1u << low) - 1), x + i),
                 second = _mm512_maskz_loadu_ps((__mmask16)((1u << high) - 1), x + i + 16);
    _mm512_mask_storeu_epi32(to + i / 2, (__mmask16)((1u << (rest + 1) / 2) - 1),
                             (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

#define TILE_NAME packed_bf16
#define TILE_SET .name = "avx512_bf16", .bf16 = true, .round = bf16_round
#define TILE_ATTRIBUTE BF16
#define TILE_VECTOR __m512
#define TILE_UNIT __m512
#define TILE_MOST 24
#define tile_load _mm512_loadu_ps
#define tile_splat avx512_splat
#define tile_dot bf16_dot
#define tile_store _mm512_storeu_ps
#define tile_relu avx512_relu
#define tile_mask avx512_mask
#include "models/packed_tile.h"

bool packed_way_runs(const struct packed_way *way)
{
    if (way == &packed_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    return __builtin_cpu_supports("avx512f") && (!way->bf16 || __builtin_cpu_supports("avx512bf16"));
}

#else

const struct packed_way packed_avx2 = {.name = "avx2"}, packed_avx512 = {.name = "avx512"},
                        packed_bf16 = {.name = "avx512_bf16", .bf16 = true};

bool packed_way_runs(const struct packed_way *way)
{
    (void)way;
    return false;
}

#endif
