// SPDX-License-Identifier: Apache-2.0
// Progressive metrics of one head (docs/CONTRACT.md, "Definitions"). AUC is exact over what was put (ties count
// one half), by sorting; sums are in double, in order, so that the same samples give the same bytes.
#ifndef FRESHET_MODELS_METRICS_H
#define FRESHET_MODELS_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct metrics {
    double logloss_sum;
    double weight_sum;
    double label_sum;      // weighted
    double prediction_sum; // weighted
    uint64_t n;            // samples judged
    uint64_t put;          // with those that moved
    // Of every sample, for the AUC: f32 prediction, u8 1: label > 0.5, 0: not, 2: a negative that became a positive
    struct buf scores;
    uint64_t max;  // scores kept at most; beyond it every second is dropped, by position
    uint64_t step; // one of so many is kept now
};

void metrics_init(struct metrics *m, uint64_t max_scores);
void metrics_done(struct metrics *m);
void metrics_clear(struct metrics *m);
// A weight of 0 leaves a sample out; one below 0 says that it was put before with label 0 and has its label now: it
// moves, at its prediction now, from the negatives to the positives.
void metrics_put(struct metrics *m, const float *p, const float *labels, const float *weights, uint32_t n);
void metrics_merge(struct metrics *into, const struct metrics *from); // as if put one after the other

struct metrics_values {
    uint64_t n;
    double auc; // NaN with one class only
    double logloss;
    double ne;          // logloss / entropy of the base rate; NaN with one class only
    double calibration; // sum of predictions / sum of labels; NaN without labels
    double base_rate;
};
void metrics_values(const struct metrics *m, struct metrics_values *ret_values);
void metrics_save(const struct metrics *m, struct buf *to); // for the store: bit for bit
int metrics_load(struct metrics *m, struct rd *from);       // -1: malformed

#endif
