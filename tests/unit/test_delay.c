// SPDX-License-Identifier: Apache-2.0
// Promised: a quantile of a histogram lies in the bucket where the exact one lies; an empty one has none.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "daemon/delay.h"

enum { N = 5000 };

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static uint32_t bucket_of(double s)
{
    uint32_t b = 0;
    while (b < DELAY_BUCKETS && s > delay_bounds_s[b])
        b++;
    return b;
}

Test(delay, quantiles_are_in_the_right_bucket)
{
    static const double shares[] = {0.01, 0.25, 0.5, 0.9, 0.99, 1.0};
    static int64_t ms[N];
    struct rng rng = rng_of(11);
    for (int round = 0; round < 20; round++) {
        struct delay d = {0};
        for (int i = 0; i < N; i++) {
            ms[i] = (int64_t)exp(rng_uniform(&rng) * log(6e8)); // to a week
            delay_put(&d, ms[i]);
        }
        qsort(ms, N, sizeof *ms, ascending);
        for (size_t q = 0; q < sizeof shares / sizeof *shares; q++) {
            double exact = (double)ms[(int)ceil(shares[q] * N) - 1] / 1e3;
            double got = delay_quantile(&d, shares[q]);
            cr_expect_eq(bucket_of(got), bucket_of(exact), "%g of it: %g, exactly %g", shares[q], got, exact);
        }
    }
}

Test(delay, edges)
{
    struct delay d = {0};
    cr_expect(isnan(delay_quantile(&d, 0.5)));
    delay_put(&d, 0);
    cr_expect(delay_quantile(&d, 0.99) <= 1);
    struct delay far = {0};
    delay_put(&far, INT64_C(1) << 50);
    cr_expect_eq(delay_quantile(&far, 0.5), (double)delay_bounds_s[DELAY_BUCKETS - 1]);
}
