// SPDX-License-Identifier: Apache-2.0
// librdkafka configuration for the source, the sink and their questions to the broker. Internal to stream/.
//
// The order of setting is the precedence: first our defaults, then what the user says, then what must hold
// whatever the user says. librdkafka knows its own aliases, so later ones win over earlier ones by either
// name.
#ifndef FRESHET_STREAM_KAFKA_CONF_H
#define FRESHET_STREAM_KAFKA_CONF_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>

#include "base/err.h"

// A configuration from three lists of name, value, ..., NULL; any may be NULL. Silent: librdkafka's log goes
// nowhere, unless the user sets `debug`. ERR_CONFIG names the property. NULL on failure.
rd_kafka_conf_t *kafka_conf_new(const char *const *defaults, const char *const *user,
                                const char *const *forced, struct err *err);

// Makes the handle; takes over `conf` also on failure.
rd_kafka_t *kafka_handle_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, struct err *err);

// A copy of a list, freed by kafka_list_free.
char **kafka_list_copy(const char *const *list);
void kafka_list_free(char **list);

// Topic partitions as the broker knows them, waiting at most timeout_ms. ERR_UNAVAILABLE (retriable): no
// broker answers, or the topic is just being made; ERR_NOT_FOUND: there is no such topic.
int kafka_partitions(rd_kafka_t *rk, const char *topic, int timeout_ms, int32_t *ret_count, struct err *err);

// Whether a statistics document (JSON text) shows a broker that is connected. Only broker objects have a
// "state" in capitals. It is how an error "no broker" ends where there is no message to tell it.
bool kafka_stats_up(const char *json);

#endif
