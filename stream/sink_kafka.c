// SPDX-License-Identifier: Apache-2.0
// A sink of Kafka: one idempotent producer, and a ring of what is under way.
//
//      base                       base + n
//       |  done  ....  done ....    |        slot = {sequence, done}; the opaque of a message is its number,
//       +---------------------------+        counted over the life of the sink
//
// A delivery report marks its slot; the ring lets go of slots from the front while they are done, so that
// what sink_poll says holds for everything below, also when topics or partitions answer out of order.
//
// librdkafka tries again by itself what can be tried again, for ever (message.timeout.ms=0) and in order.
// What it gives up all the same (a fatal error of the producer, real or false; a topic that is gone; a
// message that the broker refuses) cannot be sent again in its place. enable.gapless.guarantee stops the
// producer before it sends what is behind the gap, and a broker refuses by its sequence what was in flight.
// So any such report loses everything: the producer is thrown away with what is under way, a new one is made
// after a pause that doubles from 1/4 s to 8 s, and the caller sends again from what sink_poll says. Until it
// has read sink_reset nothing is taken, or a later message could pass for everything below it.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "stream/kafka_conf.h"
#include "stream/sink_impl.h"

enum {
    SINK_RING_FIRST = 1024,
    SINK_PAUSE_US = 250 * 1000,
    SINK_PAUSE_MAX_US = 8 * 1000 * 1000,
    SINK_FREE_US = 1000 * 1000,
    SINK_REASON_BYTES = 300,
};

struct sink_slot {
    uint64_t sequence;
    bool done;
};

struct sink_kafka {
    char **conf;
    rd_kafka_t *rk; // NULL: lost, and not made anew yet
    rd_kafka_queue_t *queue;
    int fd;
    struct sink_slot *ring; // n slots from number `base`
    uint64_t base;
    uint32_t n;
    uint32_t cap; // a power of two
    uint64_t delivered;
    bool lost;  // everything under way is lost; becomes a reset in the same poll
    bool reset; // not yet told
    int64_t pause_us;
    int64_t not_before_us;
    struct err error;
    char reason[SINK_REASON_BYTES]; // why a broker could not be reached last
};

static const uint64_t sink_wake = 1;

static int64_t sink_now_us(void)
{
    return clock_real_mono_us(NULL);
}

static const char *const sink_defaults[] = {
    "message.timeout.ms",
    "0",
    "queue.buffering.max.kbytes",
    "65536",
    "statistics.interval.ms",
    "1000",
    "reconnect.backoff.max.ms",
    "2000",
    NULL,
};
static const char *const sink_forced[] = {"enable.idempotence", "true", "enable.gapless.guarantee", "true",
                                          NULL};

static int sink_kafka_open(struct sink_kafka *s, struct err *err)
{
    rd_kafka_conf_t *conf = kafka_conf_new(sink_defaults, (const char *const *)s->conf, sink_forced, err);
    if (conf == NULL)
        return -1;
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_STATS);
    s->rk = kafka_handle_new(RD_KAFKA_PRODUCER, conf, err);
    if (s->rk == NULL)
        return -1;
    s->queue = rd_kafka_queue_get_main(s->rk);
    rd_kafka_queue_io_event_enable(s->queue, s->fd, &sink_wake, sizeof sink_wake);
    return 0;
}

static void sink_kafka_close(struct sink_kafka *s)
{
    if (s->rk == NULL)
        return;
    rd_kafka_queue_io_event_enable(s->queue, -1, NULL, 0);
    rd_kafka_purge(s->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
    rd_kafka_queue_destroy(s->queue);
    rd_kafka_destroy(s->rk);
    s->rk = NULL;
    s->queue = NULL;
}

static struct sink_slot *sink_slot(struct sink_kafka *s, uint64_t number)
{
    return &s->ring[number & (s->cap - 1)];
}

static void sink_ring_grow(struct sink_kafka *s)
{
    uint32_t cap = s->cap > 0 ? 2 * s->cap : SINK_RING_FIRST;
    struct sink_slot *ring = mem_array(cap, sizeof *ring);
    for (uint64_t i = s->base; i < s->base + s->n; i++)
        ring[i & (cap - 1)] = *sink_slot(s, i);
    free(s->ring);
    s->ring = ring;
    s->cap = cap;
}

static void sink_ring_done(struct sink_kafka *s, uint64_t number)
{
    assert(number >= s->base && number < s->base + s->n);
    sink_slot(s, number)->done = true;
    while (s->n > 0 && sink_slot(s, s->base)->done) {
        s->delivered = sink_slot(s, s->base)->sequence;
        s->base++;
        s->n--;
    }
}

static bool sink_unknown(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
           code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
}

static void sink_lose(struct sink_kafka *s, enum err_code code, const char *what, const char *why)
{
    if (!s->lost)
        err_set_retriable(&s->error, code, "%s: %s", what, why);
    s->lost = true;
}

// What producev itself refuses. Errors of the topic pass: librdkafka knows them from an earlier answer of the
// broker until it has asked again.
static int sink_refused(struct sink_kafka *s, const struct sink_message *m, rd_kafka_resp_err_t code,
                        struct err *err)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
        return err_set_retriable(err, ERR_LIMIT, "the producer's queue is full: %u messages are under way",
                                 s->n);
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
        return err_set(err, ERR_LIMIT, "a message of %u bytes for topic %s is over message.max.bytes",
                       m->value.len, m->topic);
    case RD_KAFKA_RESP_ERR__INVALID_ARG:
        return err_set(err, ERR_INVALID, "topic %s: %s", m->topic, rd_kafka_err2str(code));
    case RD_KAFKA_RESP_ERR__FATAL:
        sink_lose(s, ERR_UNAVAILABLE, "the producer failed", "it is made anew");
        break;
    default:
        err_set_retriable(&s->error, sink_unknown(code) ? ERR_NOT_FOUND : ERR_UNAVAILABLE, "topic %s: %s",
                          m->topic, rd_kafka_err2str(code));
    }
    if (err != NULL)
        *err = s->error;
    return -1;
}

static rd_kafka_headers_t *sink_headers(const struct sink_message *m)
{
    if (m->n_headers == 0)
        return NULL;
    rd_kafka_headers_t *headers = rd_kafka_headers_new(m->n_headers);
    for (uint32_t i = 0; i < m->n_headers; i++) {
        const struct sink_header *h = &m->headers[i];
        rd_kafka_header_add(headers, h->name.s, (ssize_t)h->name.len, h->value.s, (ssize_t)h->value.len);
    }
    return headers;
}

static rd_kafka_resp_err_t sink_produce(struct sink_kafka *s, const struct sink_message *m, uint64_t number)
{
    rd_kafka_headers_t *headers = sink_headers(m);
    void *opaque = (void *)(uintptr_t)number; // NOLINT(performance-no-int-to-ptr)
    void *value = (void *)m->value.s;         // is only read
    rd_kafka_resp_err_t code =
        rd_kafka_producev(s->rk, RD_KAFKA_V_TOPIC(m->topic), RD_KAFKA_V_PARTITION(m->partition),
                          RD_KAFKA_V_KEY(m->key.s, m->key.len), RD_KAFKA_V_VALUE(value, m->value.len),
                          RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_OPAQUE(opaque),
                          RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR && headers != NULL)
        rd_kafka_headers_destroy(headers);
    return code;
}

static int sink_kafka_send(void *impl, const struct sink_message *message, struct err *err)
{
    struct sink_kafka *s = impl;
    if (s->reset || s->rk == NULL)
        return err_set_retriable(err, ERR_LIMIT, "the producer is being made anew: %s", s->error.message);
    if (s->n == s->cap)
        sink_ring_grow(s);
    uint64_t number = s->base + s->n;
    rd_kafka_resp_err_t code = sink_produce(s, message, number);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return sink_refused(s, message, code, err);
    *sink_slot(s, number) = (struct sink_slot){.sequence = message->sequence};
    s->n++;
    return 0;
}

static void sink_report(struct sink_kafka *s, const rd_kafka_message_t *m)
{
    if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        sink_ring_done(s, (uint64_t)(uintptr_t)m->_private);
        s->pause_us = SINK_PAUSE_US;
        if (!s->lost)
            s->error = (struct err){0};
        return;
    }
    char what[300];
    snprintf(what, sizeof what, "a message for topic %s was not delivered", rd_kafka_topic_name(m->rkt));
    sink_lose(s, sink_unknown(m->err) ? ERR_NOT_FOUND : ERR_UNAVAILABLE, what, rd_kafka_err2str(m->err));
}

static void sink_event_error(struct sink_kafka *s, rd_kafka_event_t *ev)
{
    const char *text = rd_kafka_event_error_string(ev);
    switch (rd_kafka_event_error(ev)) {
    case RD_KAFKA_RESP_ERR__FATAL: {
        char why[SINK_REASON_BYTES];
        rd_kafka_fatal_error(s->rk, why, sizeof why);
        sink_lose(s, ERR_UNAVAILABLE, "the producer failed", why);
        break;
    }
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
        err_set_retriable(&s->error, ERR_UNAVAILABLE, "no Kafka broker can be reached: %s", s->reason);
        break;
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR__SSL:
        err_set_retriable(&s->error, ERR_UNAVAILABLE, "Kafka: %s", text);
        break;
    default:
        snprintf(s->reason, sizeof s->reason, "%s", text);
    }
}

static void sink_event(struct sink_kafka *s, rd_kafka_event_t *ev)
{
    switch (rd_kafka_event_type(ev)) {
    case RD_KAFKA_EVENT_DR:
        for (const rd_kafka_message_t *m; (m = rd_kafka_event_message_next(ev)) != NULL;)
            sink_report(s, m);
        break;
    case RD_KAFKA_EVENT_ERROR:
        sink_event_error(s, ev);
        break;
    case RD_KAFKA_EVENT_STATS:
        if (s->error.code != ERR_NONE && s->n == 0 && kafka_stats_up(rd_kafka_event_stats(ev)))
            s->error = (struct err){0};
        break;
    default:
        break;
    }
}

static void sink_serve(struct sink_kafka *s, int timeout_ms)
{
    for (rd_kafka_event_t *ev; (ev = rd_kafka_queue_poll(s->queue, timeout_ms)) != NULL; timeout_ms = 0) {
        sink_event(s, ev);
        rd_kafka_event_destroy(ev);
    }
}

static void sink_recover(struct sink_kafka *s)
{
    sink_kafka_close(s);
    s->base += s->n; // numbers are not used again
    s->n = 0;
    s->lost = false;
    s->reset = true;
    s->not_before_us = sink_now_us() + s->pause_us;
    s->pause_us = s->pause_us * 2 < SINK_PAUSE_MAX_US ? s->pause_us * 2 : SINK_PAUSE_MAX_US;
}

static uint64_t sink_kafka_poll(void *impl)
{
    struct sink_kafka *s = impl;
    uint64_t woken;
    (void)!read(s->fd, &woken, sizeof woken);
    struct err err = {0};
    if (s->rk == NULL && sink_now_us() >= s->not_before_us && sink_kafka_open(s, &err) < 0) {
        s->error = err;
        s->not_before_us = sink_now_us() + s->pause_us;
    }
    if (s->rk != NULL)
        sink_serve(s, 0);
    if (s->lost)
        sink_recover(s);
    return s->delivered;
}

static bool sink_kafka_reset(void *impl)
{
    struct sink_kafka *s = impl;
    bool reset = s->reset;
    s->reset = false;
    return reset;
}

static uint32_t sink_kafka_under_way(const void *impl)
{
    const struct sink_kafka *s = impl;
    return s->n;
}

static int sink_kafka_fd(const void *impl)
{
    const struct sink_kafka *s = impl;
    return s->fd;
}

static void sink_kafka_error(const void *impl, struct err *ret_err)
{
    const struct sink_kafka *s = impl;
    *ret_err = s->error;
}

static void sink_kafka_free(void *impl)
{
    struct sink_kafka *s = impl;
    for (int64_t left, end = sink_now_us() + SINK_FREE_US;
         s->rk != NULL && s->n > 0 && !s->lost && (left = end - sink_now_us()) > 0;)
        sink_serve(s, (int)(left / 1000) + 1);
    sink_kafka_close(s);
    if (s->fd >= 0)
        close(s->fd);
    kafka_list_free(s->conf);
    free(s->ring);
    free(s);
}

static const struct sink_ops sink_kafka_ops = {
    .send = sink_kafka_send,
    .poll = sink_kafka_poll,
    .reset = sink_kafka_reset,
    .under_way = sink_kafka_under_way,
    .fd = sink_kafka_fd,
    .error = sink_kafka_error,
    .free = sink_kafka_free,
};

int sink_kafka_new(const char *const *conf, struct sink **ret_sink, struct err *err)
{
    struct sink_kafka *s = mem_zalloc(sizeof *s);
    s->conf = kafka_list_copy(conf);
    s->pause_us = SINK_PAUSE_US;
    s->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int result = s->fd < 0 ? err_errno(err, "eventfd") : sink_kafka_open(s, err);
    if (result < 0) {
        sink_kafka_free(s);
        return -1;
    }
    *ret_sink = sink_new(&sink_kafka_ops, s);
    return 0;
}
