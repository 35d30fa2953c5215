// SPDX-License-Identifier: Apache-2.0
// Inside of the embedded broker, for tests that break it on purpose (rdkafka_mock.h: brokers down and up,
// requests that fail).
#ifndef FRESHET_STREAM_BROKER_IMPL_H
#define FRESHET_STREAM_BROKER_IMPL_H

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

struct broker {
    rd_kafka_t *rk; // only carries the cluster
    rd_kafka_mock_cluster_t *cluster;
    const char *address; // the cluster's
};

#endif
