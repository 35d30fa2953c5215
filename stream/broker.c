// SPDX-License-Identifier: Apache-2.0
// The mock cluster lives in librdkafka's threads, inside a handle that does nothing else. The handle is given
// a cluster by rd_kafka_mock_cluster_new and not by test.mock.num.brokers, which would also make it a client.
#include "stream/broker.h"

#include <stdlib.h>

#include "base/mem.h"
#include "stream/broker_impl.h"
#include "stream/kafka_conf.h"

static int broker_topics(struct broker *b, const struct broker_topic *topics, uint32_t n, struct err *err)
{
    for (uint32_t i = 0; i < n; i++) {
        rd_kafka_resp_err_t code =
            rd_kafka_mock_topic_create(b->cluster, topics[i].name, topics[i].partitions, 1);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
            return err_set(err, ERR_INVALID, "topic %s: %s", topics[i].name, rd_kafka_err2str(code));
    }
    return 0;
}

static int broker_start(struct broker *b, const struct broker_topic *topics, uint32_t n, struct err *err)
{
    rd_kafka_conf_t *conf = kafka_conf_new(NULL, NULL, NULL, err);
    if (conf == NULL)
        return -1;
    b->rk = kafka_handle_new(RD_KAFKA_PRODUCER, conf, err);
    if (b->rk == NULL)
        return -1;
    b->cluster = rd_kafka_mock_cluster_new(b->rk, 1);
    if (b->cluster == NULL)
        return err_set(err, ERR_UNAVAILABLE, "the embedded broker cannot listen on 127.0.0.1");
    b->address = rd_kafka_mock_cluster_bootstraps(b->cluster);
    return broker_topics(b, topics, n, err);
}

int broker_new(const struct broker_topic *topics, uint32_t n, struct broker **ret_broker, struct err *err)
{
    struct broker *b = mem_zalloc(sizeof *b);
    if (broker_start(b, topics, n, err) < 0) {
        broker_free(b);
        return -1;
    }
    *ret_broker = b;
    return 0;
}

void broker_free(struct broker *b)
{
    if (b == NULL)
        return;
    if (b->cluster != NULL)
        rd_kafka_mock_cluster_destroy(b->cluster);
    if (b->rk != NULL)
        rd_kafka_destroy(b->rk);
    free(b);
}

const char *broker_address(const struct broker *b)
{
    return b->address;
}
