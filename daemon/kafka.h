// SPDX-License-Identifier: Apache-2.0
// The config's topics as a source.
#ifndef FRESHET_DAEMON_KAFKA_H
#define FRESHET_DAEMON_KAFKA_H

#include "base/clock.h"
#include "daemon/config.h"
#include "daemon/ingest.h"
#include "stream/source.h"

// Decoding and time as the config says.
void source_options_of(const struct config *config, struct clock_source clock, const char **names,
                       struct source_options *ret_options);

// Asks the broker for the partitions of the configured topics and opens them where the ingest stands (its
// parts are made where new). part_of[source part] = ingest part. ERR_UNAVAILABLE, ERR_NOT_FOUND: try again
// later.
int kafka_source_open(const struct config *config, struct ingest *in, struct clock_source clock,
                      int timeout_ms, uint32_t *part_of, struct source **ret_source, struct err *err);

#endif
