// SPDX-License-Identifier: Apache-2.0
// The metrics: one table (name, type, help, how to get it), from which come /metrics and docs/METRICS.md.
#ifndef FRESHET_DAEMON_PROMETHEUS_H
#define FRESHET_DAEMON_PROMETHEUS_H

#include "base/buf.h"
#include "daemon/config.h"
#include "models/metrics.h"

struct daemon;

// Running metrics of the heads: an AUC sorts its scores, so they are worked out once an update.
struct prometheus_cache {
    bool filled;
    uint64_t updates; // as of so many
    struct metrics_values all[CONFIG_HEADS_MAX], after_bootstrap[CONFIG_HEADS_MAX];
};
// Resident memory of this process, 0 where the system does not tell.
uint64_t prometheus_resident_bytes(void);
void prometheus_cache_fill(struct daemon *d, struct prometheus_cache *cache);

// The exposition (text format 0.0.4).
void prometheus_put(struct daemon *d, struct prometheus_cache *cache, struct buf *to);
// docs/METRICS.md.
void prometheus_reference(struct buf *to);

#endif
