// SPDX-License-Identifier: Apache-2.0
// Outputs of the item's side, kept for as long as a version is served: blocks of `side: item` that something else
// reads. What they depend on are the ids and numbers of the item alone, so an output is kept by those, to the byte: it
// is the one that would be computed, whatever changes in the item meanwhile. A version makes all of them stale at once;
// tower_fill computes them anew from what is kept of their inputs, a few at a time. Bounded: at the bound the place goes
// on from one entry to the next and takes the first that nobody asked for since it was there last (CLOCK).
//
// Used inside models/; its figures are in model.h.
#ifndef FRESHET_MODELS_TOWER_H
#define FRESHET_MODELS_TOWER_H

#include "models/model_impl.h"

struct tower;

// NULL: the net has no such block, or `bytes` is not enough for one entry of it.
struct tower *tower_new(const struct model *m, uint64_t bytes);
void tower_free(struct tower *t);
// Of the batch that was cut, sets `given` of it, for the blocks whose flags are returned, for net_select; NULL: what
// the net is to compute needs none.
const bool *tower_give(struct tower *t, struct model *m, struct runner *r);
// Nothing that was computed until now holds any longer.
void tower_stale(struct tower *t);
// Computes at most `max` (up to a batch) of those entries anew that were asked for since the version before. Returns
// whether there may be more.
bool tower_fill(struct tower *t, struct model *m, uint32_t max);
void tower_figures(const struct tower *t, struct model_tower_figures *ret_figures);

#endif
