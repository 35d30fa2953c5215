// SPDX-License-Identifier: Apache-2.0
// Deterministic random numbers: splitmix64 over a counter. A seed and a number of draws give the value, on
// every machine.
#ifndef FRESHET_BASE_RNG_H
#define FRESHET_BASE_RNG_H

#include <math.h>
#include <stdint.h>

#include "base/hash.h"

struct rng {
    uint64_t state;
};

static inline struct rng rng_of(uint64_t seed)
{
    return (struct rng){seed};
}

static inline uint64_t rng_u64(struct rng *r)
{
    r->state += UINT64_C(0x9e3779b97f4a7c15);
    return hash_mix(r->state);
}

// Uniform in [0, 1).
static inline double rng_uniform(struct rng *r)
{
    return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

// Uniform in 0 .. n-1, n > 0.
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)rng_u64(r) * n) >> 64);
}

// Standard normal (Box-Muller, one of the pair).
static inline double rng_normal(struct rng *r)
{
    double u = 1.0 - rng_uniform(r);
    double v = rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

#endif
