// SPDX-License-Identifier: Apache-2.0
// What a sample says to each head (docs/LABELS.md): its label and its weight.
#ifndef FRESHET_DAEMON_TARGETS_H
#define FRESHET_DAEMON_TARGETS_H

#include "daemon/features.h"

// By head, as net.h takes them. `row`: the sample's features.
void targets_of(const struct config *config, const struct sample *s, const struct feature_row *row,
                float *ret_labels, float *ret_weights);

// The share of a length (a number feature, ms) that was watched, 1 at most; below 0 where the length is not known.
double targets_share(const struct sample *s, const struct feature_row *row, int length);

#endif
