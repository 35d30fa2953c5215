// SPDX-License-Identifier: Apache-2.0
// What the tests of stream/ on Kafka share: the embedded broker, a plain producer and a plain consumer, and
// bounded waits.
#ifndef FRESHET_TESTS_KAFKA_TWIN_H
#define FRESHET_TESTS_KAFKA_TWIN_H

#include <criterion/criterion.h>
#include <librdkafka/rdkafka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "stream/broker.h"
#include "stream/broker_impl.h"

enum { TWIN_WAIT_MS = 30000 }; // after which a wait is given up

static inline int64_t twin_deadline(void)
{
    return clock_real_mono_us(NULL) + TWIN_WAIT_MS * 1000;
}

static inline bool twin_late(int64_t deadline)
{
    return clock_real_mono_us(NULL) > deadline;
}

// Waits on an fd, 100 ms at most: some things (idleness, a pause between attempts) are told by time alone.
static inline void twin_wait(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    poll(&p, 1, 100);
}

// It may end with the process of its test: librdkafka takes up to a second to free it (test_broker.c does
// that). `kept` shows it to a leak checker.
static inline struct broker *twin_broker(const char *topic, int32_t partitions)
{
    static struct broker *volatile kept;
    struct broker *b = NULL;
    struct err err = {0};
    const struct broker_topic t = {topic, partitions};
    cr_assert_eq(broker_new(&t, 1, &b, &err), 0, "%s", err.message);
    kept = b;
    return kept;
}

static inline rd_kafka_t *twin_handle(rd_kafka_type_t type, const char *address)
{
    char errstr[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", address, errstr, sizeof errstr);
    rd_kafka_conf_set(conf, "group.id", "twin", errstr, sizeof errstr);
    rd_kafka_conf_set(conf, "enable.partition.eof", "true", errstr, sizeof errstr);
    rd_kafka_conf_set(conf, "fetch.wait.max.ms", "10", errstr, sizeof errstr);
    rd_kafka_conf_set(conf, "log_level", "0", errstr, sizeof errstr);
    rd_kafka_t *rk = rd_kafka_new(type, conf, errstr, sizeof errstr);
    cr_assert_not_null(rk, "%s", errstr);
    return rk;
}

static inline void twin_produce(rd_kafka_t *rk, const char *topic, int32_t partition, const void *value,
                                size_t n)
{
    rd_kafka_resp_err_t code;
    while ((code = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
                                     RD_KAFKA_V_VALUE((void *)(uintptr_t)value, n),
                                     RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END)) ==
           RD_KAFKA_RESP_ERR__QUEUE_FULL)
        rd_kafka_poll(rk, 10);
    cr_assert_eq(code, RD_KAFKA_RESP_ERR_NO_ERROR, "%s", rd_kafka_err2str(code));
}

static inline void twin_flush(rd_kafka_t *rk)
{
    cr_assert_eq(rd_kafka_flush(rk, TWIN_WAIT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
}

// All messages of a partition from its start to its end, as librdkafka gives them.
static inline uint32_t twin_read(const char *address, const char *topic, int32_t partition,
                                 rd_kafka_message_t **messages, uint32_t max, rd_kafka_t **ret_rk)
{
    rd_kafka_t *rk = twin_handle(RD_KAFKA_CONSUMER, address);
    rd_kafka_poll_set_consumer(rk);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, partition)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_assign(rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    uint32_t n = 0;
    for (int64_t deadline = twin_deadline(); n < max;) {
        cr_assert(!twin_late(deadline), "reading back takes too long");
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 100);
        if (m == NULL)
            continue;
        bool end = m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
        if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR)
            messages[n++] = m;
        else
            rd_kafka_message_destroy(m);
        if (end)
            break;
    }
    *ret_rk = rk;
    return n;
}

#endif
