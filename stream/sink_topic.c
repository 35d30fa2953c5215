// SPDX-License-Identifier: Apache-2.0
// Makes sure that a topic exists: look, ask the admin API to make it, and look until its partitions are
// there.
//
// All of it by a consumer handle, since a producer's look makes the topic by itself, with as many partitions
// as the broker likes. Only where the broker knows no CreateTopics (the embedded one) a look that makes it is
// the way.
#include <stdio.h>

#include "base/clock.h"
#include "stream/kafka_conf.h"
#include "stream/sink.h"

enum { TOPIC_LOOK_MS = 100 }; // between two looks for a topic that is just being made

struct topic_wish {
    const char *name;
    int32_t partitions;
    int64_t deadline_us;
};

static int topic_left_ms(const struct topic_wish *w)
{
    int64_t left = (w->deadline_us - clock_real_mono_us(NULL)) / 1000;
    return left > 0 ? (int)left : 1;
}

static bool topic_time_left(const struct topic_wish *w)
{
    return clock_real_mono_us(NULL) < w->deadline_us;
}

// 0 when it is there with enough partitions.
static int topic_look(rd_kafka_t *rk, const struct topic_wish *w, struct err *err)
{
    int32_t n = 0;
    if (kafka_partitions(rk, w->name, topic_left_ms(w), &n, err) < 0)
        return -1;
    if (n < w->partitions)
        return err_set(err, ERR_INVALID,
                       "topic %s has %d partitions, and %d are wanted: add partitions to it", w->name, n,
                       w->partitions);
    return 0;
}

// Looks until the topic is there, for as long as it may just be on its way.
static int topic_look_until(rd_kafka_t *rk, const struct topic_wish *w, struct err *err)
{
    for (;;) {
        struct err now = {0};
        if (topic_look(rk, w, &now) == 0)
            return 0;
        if ((now.code != ERR_NOT_FOUND && now.code != ERR_UNAVAILABLE) || !topic_time_left(w)) {
            if (err != NULL)
                *err = now;
            return -1;
        }
        rd_kafka_poll(rk, TOPIC_LOOK_MS);
    }
}

// The broker's answer to CreateTopics for the one topic. `text` gets its words.
static rd_kafka_resp_err_t topic_answer(rd_kafka_event_t *ev, char *text, size_t size)
{
    if (ev == NULL)
        return RD_KAFKA_RESP_ERR__TIMED_OUT;
    snprintf(text, size, "%s", rd_kafka_event_error_string(ev));
    rd_kafka_resp_err_t code = rd_kafka_event_error(ev);
    const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(ev);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR || result == NULL)
        return code;
    size_t n = 0;
    const rd_kafka_topic_result_t **topics = rd_kafka_CreateTopics_result_topics(result, &n);
    if (n != 1)
        return RD_KAFKA_RESP_ERR__BAD_MSG;
    const char *words = rd_kafka_topic_result_error_string(topics[0]);
    code = rd_kafka_topic_result_error(topics[0]);
    snprintf(text, size, "%s", words != NULL ? words : rd_kafka_err2str(code));
    return code;
}

static rd_kafka_resp_err_t topic_create(rd_kafka_t *rk, const struct topic_wish *w, char *text, size_t size)
{
    // Replication -1: as the broker is configured.
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(w->name, w->partitions, -1, text, size);
    if (topic == NULL)
        return RD_KAFKA_RESP_ERR__INVALID_ARG;
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_AdminOptions_set_request_timeout(options, topic_left_ms(w), text, size);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_CreateTopics(rk, &topic, 1, options, queue);
    // The request has its own timeout; the margin lets its report arrive.
    rd_kafka_event_t *ev = rd_kafka_queue_poll(queue, topic_left_ms(w) + 1000);
    rd_kafka_resp_err_t code = topic_answer(ev, text, size);
    if (ev != NULL)
        rd_kafka_event_destroy(ev);
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_NewTopic_destroy(topic);
    return code;
}

static rd_kafka_t *topic_handle(const char *const *conf, const char *const *forced, struct err *err)
{
    rd_kafka_conf_t *c = kafka_conf_new(NULL, conf, forced, err);
    return c != NULL ? kafka_handle_new(RD_KAFKA_CONSUMER, c, err) : NULL;
}

// Asks for metadata in the way that makes the topic.
static int topic_auto_create(const char *const *conf, const struct topic_wish *w, struct err *err)
{
    static const char *const creating[] = {"allow.auto.create.topics", "true", NULL};
    rd_kafka_t *rk = topic_handle(conf, creating, err);
    if (rk == NULL)
        return -1;
    int result = topic_look_until(rk, w, err);
    rd_kafka_destroy(rk);
    return result;
}

static int topic_make(rd_kafka_t *rk, const char *const *conf, const struct topic_wish *w, struct err *err)
{
    char text[512] = "no answer in time";
    rd_kafka_resp_err_t code = topic_create(rk, w, text, sizeof text);
    switch (code) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
    case RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS:
        return topic_look_until(rk, w, err);
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
        return topic_auto_create(conf, w, err);
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TRANSPORT:
        return err_set_retriable(err, ERR_UNAVAILABLE, "cannot create topic %s: %s", w->name, text);
    default:
        return err_set(err, ERR_INVALID, "cannot create topic %s: %s", w->name, text);
    }
}

int sink_kafka_topic(const char *const *conf, const char *topic, int32_t partitions, int timeout_ms,
                     struct err *err)
{
    static const char *const looking[] = {"allow.auto.create.topics", "false", NULL};
    const struct topic_wish wish = {topic, partitions, clock_real_mono_us(NULL) + (int64_t)timeout_ms * 1000};
    rd_kafka_t *rk = topic_handle(conf, looking, err);
    if (rk == NULL)
        return -1;
    struct err seen = {0};
    int result = topic_look(rk, &wish, &seen);
    if (result < 0 && seen.code == ERR_NOT_FOUND)
        result = topic_make(rk, conf, &wish, err);
    else if (result < 0 && seen.code == ERR_UNAVAILABLE && topic_time_left(&wish))
        result = topic_look_until(rk, &wish, err); // just being made by somebody else
    else if (result < 0 && err != NULL)
        *err = seen;
    rd_kafka_destroy(rk);
    return result;
}
