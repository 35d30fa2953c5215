// SPDX-License-Identifier: Apache-2.0
// The one table of layer kinds.
#include "models/layer.h"

const struct layer_kind *const layer_kinds[] = {
    &layer_concat,
    &layer_mean,
    &layer_mlp,
    NULL,
};
