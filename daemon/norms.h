// SPDX-License-Identifier: Apache-2.0
// f(length), by which a prediction is divided: short videos are watched to their end, long ones are not, and a ranking
// by completion alone would prefer the short. f is the mean label of a head with `length`, fitted on the samples of all
// versions, by length in steps of half an octave:
//
//     bucket   0: length not known | 1: below 0.125 s | 2: .. 0.177 s | 3: .. 0.25 s | ... | 33: from 8192 s on
//     f(b)     (sum of labels in b + 20 mean) / (samples in b + 20)     mean: of all samples; 0 before the first
//
// Samples count by their weights. A correction adds its label where the sample was a negative before. An update collects
// its own; they are added with the version, and stored with it:
//
//     blob "norms"   { str head, str length feature, 34 x { f64 sum, f64 samples } } ...
#ifndef FRESHET_DAEMON_NORMS_H
#define FRESHET_DAEMON_NORMS_H

#include "daemon/features.h"

enum { NORMS_BUCKETS = 34 };

struct norms { // all zero: nothing is known
    struct norm {
        double sum[NORMS_BUCKETS], n[NORMS_BUCKETS];
    } heads[CONFIG_HEADS_MAX];
};

uint32_t norms_bucket(double length_ms);
// Labels and weights by head, as targets_of gives them.
void norms_put(struct norms *n, const struct config *config, const struct feature_row *row,
               const float *labels, const float *weights);
// f of the head's length in this row. The head has one.
double norms_of(const struct norms *n, const struct config *config, uint32_t head,
                const struct feature_row *row);

void norms_save(const struct norms *n, const struct config *config, struct buf *to);
// Heads that the config has no more, or with another length, are left out. ERR_CORRUPT.
int norms_load(struct norms *n, const struct config *config, struct str blob, struct err *err);

#endif
