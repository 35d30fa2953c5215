// SPDX-License-Identifier: Apache-2.0
// A Kafka broker for first tries, demos and tests: librdkafka's mock cluster, listening on a port that other
// processes can connect to. Nothing is kept on disk; at most 5 MB or 100,000 messages a partition are held,
// the oldest are dropped; no transactions.
#ifndef FRESHET_STREAM_BROKER_H
#define FRESHET_STREAM_BROKER_H

#include <stdint.h>

#include "base/err.h"

struct broker;

struct broker_topic {
    const char *name;
    int32_t partitions;
};

// Starts at 127.0.0.1 on a port that the system picks; broker_address gives it.
int broker_new(const struct broker_topic *topics, uint32_t n, struct broker **ret_broker, struct err *err);
void broker_free(struct broker *b);
const char *broker_address(const struct broker *b); // "127.0.0.1:PORT"

#endif
