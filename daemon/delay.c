// SPDX-License-Identifier: Apache-2.0
#include "daemon/delay.h"

#include <math.h>

const uint32_t delay_bounds_s[DELAY_BUCKETS] = {1,   2,    5,    10,   30,    60,    120,   300,
                                                600, 1800, 3600, 7200, 21600, 43200, 86400, 604800};

void delay_put(struct delay *d, int64_t ms)
{
    uint32_t b = 0;
    while (b < DELAY_BUCKETS && ms > (int64_t)delay_bounds_s[b] * 1000)
        b++;
    d->buckets[b]++;
    d->count++;
    d->sum_s += (double)ms / 1e3;
}

double histogram_quantile(const double *bounds, const uint64_t *buckets, uint32_t n, double q)
{
    uint64_t count = 0;
    for (uint32_t b = 0; b <= n; b++)
        count += buckets[b];
    if (count == 0)
        return (double)NAN;
    double rank = q * (double)count;
    double below = 0;
    for (uint32_t b = 0; b < n; b++) {
        double in = (double)buckets[b];
        double low = b > 0 ? bounds[b - 1] : 0;
        if (in > 0 && below + in >= rank)
            return low + (bounds[b] - low) * (rank > below ? (rank - below) / in : 0);
        below += in;
    }
    return bounds[n - 1];
}

double delay_quantile(const struct delay *d, double q)
{
    double bounds[DELAY_BUCKETS];
    for (uint32_t b = 0; b < DELAY_BUCKETS; b++)
        bounds[b] = delay_bounds_s[b];
    return histogram_quantile(bounds, d->buckets, DELAY_BUCKETS, q);
}
