// SPDX-License-Identifier: Apache-2.0
// What table.c and overlay.c share.
#ifndef FRESHET_MODELS_TABLE_IMPL_H
#define FRESHET_MODELS_TABLE_IMPL_H

#include "models/slab.h"

struct table {
    uint32_t magic;
    struct table_options options; // options.name is `name`
    char *name;
    struct slab slab; // rows and index in one mapping
    uint64_t admitted;
};

// Floats of a row: its vector and the optimizer's state.
static inline uint32_t table_floats(const struct table_options *o)
{
    return o->dim * (1 + optimizer_state(o->optimizer.kind));
}

uint32_t table_row_make(struct table *t, uint64_t id);                         // TABLE_NONE: full
void table_row_set(struct table *t, uint32_t at, const struct table_row *row); // row->id must be its id
void table_row_drop(struct table *t, uint32_t at);                             // the last row moves to `at`

#endif
