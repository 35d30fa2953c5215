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

// Asks the broker for the partitions of the configured topics. ret_counts: users, items, events; 0 where there is
// no such topic in the config. ERR_UNAVAILABLE, ERR_NOT_FOUND: try again later.
enum { KAFKA_TOPICS = 3 };
int kafka_partitions_ask(const struct config *config, int timeout_ms, int32_t ret_counts[KAFKA_TOPICS],
                         struct err *err);

// The same on a thread of its own, again and again until the broker has told, so that nobody waits for it.
struct kafka_asker;
int kafka_asker_new(const struct config *config, void (*wake)(void *context), void *context,
                    struct kafka_asker **ret_asker, struct err *err);
void kafka_asker_free(struct kafka_asker *a); // waits for the question under way, 1 s at most
// true: *ret_counts is told. Else *ret_err is how the last try failed (ERR_NONE: none ended yet).
bool kafka_asker_told(struct kafka_asker *a, int32_t ret_counts[KAFKA_TOPICS], struct err *ret_err);

// By the operator's word: a part whose next offset the broker no longer holds goes on at the first one that it
// holds, or, `latest`, after the last. What is passed over is counted (skipped) and logged.
int kafka_offsets_mend(const struct config *config, struct ingest *in, const int32_t counts[KAFKA_TOPICS],
                       bool latest, struct err *err);

// Opens that many partitions where the ingest stands (its parts are made where new). part_of[source part] = ingest
// part.
int kafka_source_open(const struct config *config, struct ingest *in, struct clock_source clock,
                      const int32_t counts[KAFKA_TOPICS], uint32_t *part_of, struct source **ret_source,
                      struct err *err);

#endif
