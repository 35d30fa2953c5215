// SPDX-License-Identifier: Apache-2.0
// The items that are gone, and since when: entries of them not newer than that are hidden in every sequence;
// used inside state/ only. At most `max` are remembered; beyond it the oldest by (ts, id) is forgotten, so
// what is remembered follows from what was put and not from when the process was started.
#ifndef FRESHET_STATE_GONE_H
#define FRESHET_STATE_GONE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"

struct gone_item {
    uint64_t id;
    int64_t ts;
};

struct gone {
    struct map at;           // id -> place in the heap
    struct gone_item *items; // a binary heap, the oldest first
    uint32_t n, cap;
    uint64_t max;
    uint64_t forgotten;
    uint32_t epoch; // grows with every change
};

void gone_init(struct gone *g, uint64_t max);
void gone_done(struct gone *g);
// False: nothing changed, since a later tombstone is remembered or this one is older than all of `max`.
// *ret_forgotten is the id that had to go for it, or 0.
bool gone_put(struct gone *g, uint64_t id, int64_t ts, uint64_t *ret_forgotten);
bool gone_hides_slow(const struct gone *g, uint64_t id, int64_t ts);
uint64_t gone_bytes(const struct gone *g);

static inline bool gone_hides(const struct gone *g, uint64_t id, int64_t ts)
{
    return g != NULL && g->n > 0 && gone_hides_slow(g, id, ts);
}

#endif
