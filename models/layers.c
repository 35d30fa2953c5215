// SPDX-License-Identifier: Apache-2.0
// The one table of layer kinds.
#include "models/layer.h"

// clang-format off
const struct layer_kind *const layer_kinds[] = {
    &layer_bilinear,
    &layer_concat,
    &layer_dcn_v2,
    &layer_din,
    &layer_experts,
    &layer_fm,
    &layer_hadamard,
    &layer_l2norm,
    &layer_lhuc,
    &layer_mean,
    &layer_mlp,
    &layer_mmoe,
    &layer_senet,
    &layer_sim,
    &layer_stop,
    NULL,
};
// clang-format on
