// SPDX-License-Identifier: Apache-2.0
// A histogram of delays in event time, from a second to a week: how long labels take. Counts by bound, so that it
// costs nothing to keep and is what Prometheus wants; a quantile is read off between two bounds.
#ifndef FRESHET_DAEMON_DELAY_H
#define FRESHET_DAEMON_DELAY_H

#include <stdint.h>

enum { DELAY_BUCKETS = 16 };
extern const uint32_t delay_bounds_s[DELAY_BUCKETS];

struct delay {
    uint64_t buckets[DELAY_BUCKETS + 1]; // bucket b: up to delay_bounds_s[b], and above the bound before
    uint64_t count;
    double sum_s;
};

void delay_put(struct delay *d, int64_t ms);

// Seconds below which the share q lies, if a bucket's are spread evenly over it; NaN of an empty one. `bounds` are n
// ascending upper bounds, `buckets` n + 1 counts; what is above all bounds counts as the last.
double histogram_quantile(const double *bounds, const uint64_t *buckets, uint32_t n, double q);
double delay_quantile(const struct delay *d, double q);

#endif
