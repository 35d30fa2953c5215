// SPDX-License-Identifier: Apache-2.0
// The rows of LAYER_KINDS as a table.
#include "models/layer.h"

#define LAYER_ROW(kind) &layer_##kind,
const struct layer_kind *const layer_kinds[] = {LAYER_KINDS(LAYER_ROW) NULL};
