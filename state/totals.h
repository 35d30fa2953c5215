// SPDX-License-Identifier: Apache-2.0
// The lifetime totals of one entity: a count for each partition and measure; used inside state/ only.
#ifndef FRESHET_STATE_TOTALS_H
#define FRESHET_STATE_TOTALS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "state/account.h"

struct total {
    uint64_t count;
    uint16_t partition;
    uint8_t measure;
    bool dirty;
};

struct totals {
    uint32_t n, cap;
    struct total list[]; // by (partition, measure)
};

// *t may be NULL, and may move. `load` adds what is in the store already: it is not dirty.
void totals_add(struct totals **t, struct account *a, uint16_t partition, uint8_t measure, uint64_t n);
int totals_load(struct totals **t, struct account *a, uint16_t partition, struct rd *from);
uint64_t totals_sum(const struct totals *t, uint8_t measure); // over all partitions
// All of a partition is dirty. False: there is none of it.
bool totals_touch(struct totals *t, uint16_t partition);
// The next partition from *at on (0 at first) that has a dirty total: appends its record, which is clean after
// it, and moves *at behind it. False: no more.
bool totals_next(struct totals *t, uint32_t *at, uint16_t *ret_partition, struct buf *to);
// Appends all of them, for digests.
void totals_put(const struct totals *t, struct buf *to);

#endif
