// SPDX-License-Identifier: Apache-2.0
#include "stream/reader.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "stream/kafka_conf.h"

struct reader {
    rd_kafka_t *rk;
    rd_kafka_message_t *message; // the one handed out
    char topic[250];
    bool *at_end;
    int32_t n;
};

static int reader_assign(struct reader *r, const int64_t *offsets, int32_t n_offsets, struct err *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(r->n);
    for (int32_t p = 0; p < r->n; p++) {
        bool known = p < n_offsets && offsets[p] >= 0;
        rd_kafka_topic_partition_list_add(list, r->topic, p)->offset =
            known ? offsets[p] : RD_KAFKA_OFFSET_BEGINNING;
    }
    rd_kafka_resp_err_t code = rd_kafka_assign(r->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return err_set(err, ERR_UNAVAILABLE, "assigning %s: %s", r->topic, rd_kafka_err2str(code));
    return 0;
}

static int reader_open(struct reader *r, const char *const *conf, const int64_t *offsets, int32_t n_offsets,
                       int timeout_ms, struct err *err)
{
    static const char *const defaults[] = {"group.id", "freshet-reader", NULL};
    static const char *const forced[] = {"auto.offset.reset",
                                         "error",
                                         "enable.auto.commit",
                                         "false",
                                         "enable.partition.eof",
                                         "true",
                                         "enable.auto.offset.store",
                                         "false",
                                         NULL};
    rd_kafka_conf_t *properties = kafka_conf_new(defaults, conf, forced, err);
    if (properties == NULL)
        return -1;
    r->rk = kafka_handle_new(RD_KAFKA_CONSUMER, properties, err);
    if (r->rk == NULL)
        return -1;
    rd_kafka_poll_set_consumer(r->rk);
    if (kafka_partitions(r->rk, r->topic, timeout_ms, &r->n, err) != 0)
        return -1;
    r->at_end = mem_array((size_t)r->n, sizeof *r->at_end);
    return reader_assign(r, offsets, n_offsets, err);
}

int reader_new(const char *const *conf, const char *topic, const int64_t *offsets, int32_t n_offsets,
               int timeout_ms, struct reader **ret_reader, struct err *err)
{
    struct reader *r = mem_zalloc(sizeof *r);
    snprintf(r->topic, sizeof r->topic, "%s", topic);
    if (reader_open(r, conf, offsets, n_offsets, timeout_ms, err) != 0) {
        reader_free(r);
        return -1;
    }
    *ret_reader = r;
    return 0;
}

void reader_free(struct reader *r)
{
    if (r == NULL)
        return;
    if (r->message != NULL)
        rd_kafka_message_destroy(r->message);
    if (r->rk != NULL) {
        rd_kafka_consumer_close(r->rk);
        rd_kafka_destroy(r->rk);
    }
    free(r->at_end);
    free(r);
}

bool reader_caught_up(const struct reader *r)
{
    for (int32_t p = 0; p < r->n; p++)
        if (!r->at_end[p])
            return false;
    return true;
}

// An event that is not a message: 0 when it is nothing to end for.
static int reader_event(struct reader *r, const rd_kafka_message_t *m, struct err *err)
{
    switch (m->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        if (m->partition >= 0 && m->partition < r->n)
            r->at_end[m->partition] = true;
        return 0;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
        return err_set(
            err, ERR_OFFSET_GONE,
            "%s partition %d no longer holds the offset where we stand; begin again from a snapshot",
            r->topic, m->partition);
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        return err_set(err, ERR_NOT_FOUND, "there is no topic %s", r->topic);
    default:
        return 0; // brokers that come and go: librdkafka tries again
    }
}

int reader_next(struct reader *r, int timeout_ms, struct reader_message *ret_message, bool *ret_found,
                struct err *err)
{
    *ret_found = false;
    if (r->message != NULL)
        rd_kafka_message_destroy(r->message);
    r->message = rd_kafka_consumer_poll(r->rk, timeout_ms);
    if (r->message == NULL)
        return 0;
    const rd_kafka_message_t *m = r->message;
    if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        return reader_event(r, m, err);
    r->at_end[m->partition] = false;
    *ret_message = (struct reader_message){.partition = m->partition,
                                           .offset = m->offset,
                                           .key = {m->key, (uint32_t)m->key_len},
                                           .value = {m->payload, (uint32_t)m->len}};
    *ret_found = true;
    return 0;
}
