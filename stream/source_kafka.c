// SPDX-License-Identifier: Apache-2.0
// Events from Kafka partitions that are assigned by hand, from offsets that our own store keeps.
//
// Every partition keeps a queue of its own in librdkafka (it is not forwarded to the consumer's), so that the
// merge in stream/source.c can take exactly the partition that it waits for: what is not taken stays in
// librdkafka, bounded by its properties, and no partition can stand in the way of another. All queues wake
// one eventfd, when they become non-empty; the poll that drains the fd empties them or leaves with events to
// hand out.
//
//   partition queues  ->  source_kafka_fetch(part): a batch by rd_kafka_consume_batch_queue -> source_push
//   common queue      ->  source_kafka_service: errors and statistics, by callbacks
//
// What librdkafka 2.0.2 makes necessary:
// - auto.offset.reset=error, or an offset that is gone is skipped with a line in a log that nobody reads.
// - queued.min.messages of a second or two of the peak, since a full queue costs a pause of 1 s; with queues
//   of their own it and queued.max.messages.kbytes count per partition.
// - the end of a partition is told once for an offset; a message after it takes it back (source_push does that).
//
// Cost: librdkafka 0.4 us an event; here one look at the message and the copy in source_push.
#include <assert.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "stream/kafka_conf.h"
#include "stream/source_impl.h"

enum {
    SOURCE_KAFKA_MAGIC = 0x534b4b31,
    SOURCE_QUEUE_MESSAGES_MIN = 10 * 1000, // ready for one partition at least
    SOURCE_QUEUE_BYTES_MIN = 1 << 20,      // the same in bytes
    SOURCE_MESSAGE_BYTES = 320,            // what librdkafka takes for a message beside its bytes
    SOURCE_WATERMARK_MS = 1000,            // to ask the broker what it still holds, when an offset is gone
    SOURCE_REASON_BYTES = 300,
};

struct kafka_part {
    rd_kafka_queue_t *queue;
    int64_t end;       // where the end was seen last, -1 never
    struct err *error; // NULL: none; until the part gives something again
    bool stopped;
};

struct source_kafka {
    uint32_t magic;
    struct source *source;
    rd_kafka_t *rk;
    rd_kafka_queue_t *common;
    int fd;
    uint32_t n;
    struct kafka_part *parts;
    struct err error;                 // of no part: no broker
    char reason[SOURCE_REASON_BYTES]; // why a broker could not be reached last
    uint32_t serving;                 // the part whose queue is being read, n: the common one
    rd_kafka_message_t *batch[SOURCE_FETCH];
};

static const uint64_t source_wake = 1;

static void source_kafka_wake(const struct source_kafka *k)
{
    (void)!write(k->fd, &source_wake, sizeof source_wake);
}

// -----------------------------------------------------------------------------------------------------------
// What goes wrong

// For callbacks and for the answers of librdkafka alike: any thing that arrives says that the broker is
// there.
static void source_kafka_works(struct source_kafka *k, struct kafka_part *p)
{
    k->error.code = ERR_NONE;
    if (p->error != NULL) {
        free(p->error);
        p->error = NULL;
    }
}

// Something that librdkafka tries again by itself.
static void source_kafka_hurt(struct source_kafka *k, uint32_t part, rd_kafka_resp_err_t code,
                              const char *text)
{
    const struct source_part *p = source_part(k->source, part);
    bool unknown = code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION ||
                   code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    struct kafka_part *own = &k->parts[part];
    if (own->error == NULL)
        own->error = mem_zalloc(sizeof *own->error);
    err_set_retriable(own->error, unknown ? ERR_NOT_FOUND : ERR_UNAVAILABLE, "topic %s partition %d: %s",
                      p->topic, p->partition, text);
}

// Errors of brokers; and of a part (a topic that does not exist), which come by the queue of the part.
static void source_kafka_on_error(rd_kafka_t *rk, int code, const char *text, void *opaque)
{
    struct source_kafka *k = opaque;
    (void)rk;
    if (k->serving < k->n) {
        source_kafka_hurt(k, k->serving, (rd_kafka_resp_err_t)code, text);
        return;
    }
    switch (code) {
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
        err_set_retriable(&k->error, ERR_UNAVAILABLE, "no Kafka broker can be reached: %s", k->reason);
        break;
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR__SSL:
        err_set_retriable(&k->error, ERR_UNAVAILABLE, "Kafka: %s", text);
        break;
    default:
        snprintf(k->reason, sizeof k->reason, "%s", text);
    }
}

// Statistics are asked for only to see that a broker is back where no message tells it.
static int source_kafka_on_stats(rd_kafka_t *rk, char *json, size_t json_len, void *opaque)
{
    struct source_kafka *k = opaque;
    (void)rk, (void)json_len;
    if (k->error.code != ERR_NONE && kafka_stats_up(json))
        k->error.code = ERR_NONE;
    return 0; // librdkafka frees json
}

static void source_kafka_stop(struct source_kafka *k, uint32_t part, const struct err *err)
{
    k->parts[part].stopped = true;
    source_stop(k->source, part, err);
}

// Our offset is not on the broker: says which messages cannot be read any more, and where one can go on.
static void source_kafka_gone(struct source_kafka *k, uint32_t part, const char *text)
{
    const struct source_part *p = source_part(k->source, part);
    int64_t ours = source_fetch_offset(k->source, part);
    int64_t low = 0;
    int64_t high = 0;
    rd_kafka_resp_err_t code =
        rd_kafka_query_watermark_offsets(k->rk, p->topic, p->partition, &low, &high, SOURCE_WATERMARK_MS);
    struct err err = {0};
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        err_set(&err, ERR_OFFSET_GONE,
                "topic %s partition %d: the next offset, %" PRId64
                ", is gone (%s), and what the broker still "
                "holds is unknown (%s). To go on, restore the topic, or start once with --offset-gone "
                "earliest (or latest)",
                p->topic, p->partition, ours, text, rd_kafka_err2str(code));
    else if (ours > high)
        err_set(&err, ERR_OFFSET_GONE,
                "topic %s partition %d: the next offset, %" PRId64
                ", is beyond the end of the log, which holds "
                "%" PRId64 " to %" PRId64
                ": the topic was cut or made anew. To go on, restore the topic, or start "
                "once with --offset-gone earliest (at %" PRId64 ") or latest (at %" PRId64 ")",
                p->topic, p->partition, ours, low, high, low, high);
    else
        err_set(&err, ERR_OFFSET_GONE,
                "topic %s partition %d: the next offset, %" PRId64 ", is gone; the broker holds %" PRId64
                " to %" PRId64 ", so %" PRId64
                " messages can no longer be read. To go on, restore the topic, or "
                "start once with --offset-gone earliest (at %" PRId64 ") or latest (at %" PRId64
                ", without what is between)",
                p->topic, p->partition, ours, low, high, low > ours ? low - ours : 0, low, high);
    source_kafka_stop(k, part, &err);
}

// Bytes on the broker that cannot be read: librdkafka would go on behind them.
static void source_kafka_damaged(struct source_kafka *k, uint32_t part, const char *text)
{
    const struct source_part *p = source_part(k->source, part);
    struct err err = {0};
    err_set(&err, ERR_CORRUPT,
            "topic %s partition %d cannot be read on from offset %" PRId64
            ": %s. If a restart does not help, "
            "restore the topic, or say at which offset to go on",
            p->topic, p->partition, source_fetch_offset(k->source, part), text);
    source_kafka_stop(k, part, &err);
}

// -----------------------------------------------------------------------------------------------------------
// Messages

static void source_kafka_message(struct source_kafka *k, uint32_t part, const rd_kafka_message_t *m)
{
    rd_kafka_timestamp_type_t type;
    int64_t ms = rd_kafka_message_timestamp(m, &type);
    size_t len = m->len < EVENT_MESSAGE_BYTES + 1 ? m->len : EVENT_MESSAGE_BYTES + 1;
    const struct source_raw raw = {
        .key = {m->key, (uint32_t)m->key_len},
        .value = {m->payload, (uint32_t)len},
        .cut_from = m->len > len ? m->len : 0,
        .offset = m->offset,
        .next_offset = m->offset + 1,
        .append_ms = type != RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && ms > 0 ? ms : 0,
    };
    source_push(k->source, part, &raw);
}

static void source_kafka_trouble(struct source_kafka *k, uint32_t part, const rd_kafka_message_t *m)
{
    struct kafka_part *p = &k->parts[part];
    switch (m->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        source_kafka_works(k, p);
        p->end = m->offset;
        source_reached_end(k->source, part);
        break;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        source_kafka_gone(k, part, rd_kafka_message_errstr(m));
        break;
    case RD_KAFKA_RESP_ERR__BAD_MSG:
    case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED:
        source_kafka_damaged(k, part, rd_kafka_message_errstr(m));
        break;
    default:
        source_kafka_hurt(k, part, m->err, rd_kafka_message_errstr(m));
    }
}

// One batch of `part`. Returns how many messages came, the number pushed in *pushed.
static ssize_t source_kafka_batch(struct source_kafka *k, uint32_t part, uint32_t *pushed)
{
    struct kafka_part *p = &k->parts[part];
    k->serving = part;
    ssize_t n = rd_kafka_consume_batch_queue(p->queue, 0, k->batch, SOURCE_FETCH);
    k->serving = k->n;
    for (ssize_t i = 0; i < n; i++) {
        const rd_kafka_message_t *m = k->batch[i];
        if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR && !p->stopped) {
            source_kafka_trouble(k, part, m);
        } else if (!p->stopped) {
            source_kafka_message(k, part, m);
            ++*pushed;
        }
        rd_kafka_message_destroy(k->batch[i]);
    }
    if (*pushed > 0)
        source_kafka_works(k, p);
    return n;
}

// Goes on until something was pushed or the queue is empty: errors and ends alone must not leave messages
// behind, since nothing would wake the fd for them.
static int source_kafka_fetch(void *impl, uint32_t part, struct err *err)
{
    struct source_kafka *k = impl;
    (void)err;
    assert(k->magic == SOURCE_KAFKA_MAGIC && part < k->n);
    uint32_t pushed = 0;
    while (!k->parts[part].stopped && pushed == 0 && source_kafka_batch(k, part, &pushed) > 0)
        ;
    return 0;
}

// Messages that come here are of no partition of ours, or errors of the consumer as a whole.
static int source_kafka_service(void *impl, struct err *err)
{
    struct source_kafka *k = impl;
    (void)err;
    assert(k->magic == SOURCE_KAFKA_MAGIC);
    uint64_t woken;
    (void)!read(k->fd, &woken, sizeof woken);
    for (ssize_t n; (n = rd_kafka_consume_batch_queue(k->common, 0, k->batch, SOURCE_FETCH)) > 0;)
        for (ssize_t i = 0; i < n; i++) {
            const rd_kafka_message_t *m = k->batch[i];
            if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR)
                source_kafka_on_error(k->rk, m->err, rd_kafka_message_errstr(m), k);
            rd_kafka_message_destroy(k->batch[i]);
        }
    if (k->error.code != ERR_NONE)
        source_ends_unknown(k->source); // without a broker no partition is idle, however long it takes
    return 0;
}

// -----------------------------------------------------------------------------------------------------------
// The other operations

// Pausing is not fetching: librdkafka's queues fill and it stops by itself. Its own pause would throw away
// what it holds. What came meanwhile woke the fd then, and not again.
static void source_kafka_pause(void *impl, bool pause)
{
    if (!pause)
        source_kafka_wake(impl);
}

static int source_kafka_fd(const void *impl)
{
    const struct source_kafka *k = impl;
    return k->fd;
}

static void source_kafka_status(const void *impl, uint32_t part, struct source_part_status *status)
{
    const struct source_kafka *k = impl;
    const struct source_part *p = source_part(k->source, part);
    int64_t low = -1;
    int64_t high = -1;
    if (rd_kafka_get_watermark_offsets(k->rk, p->topic, p->partition, &low, &high) ==
            RD_KAFKA_RESP_ERR_NO_ERROR &&
        high >= 0)
        status->end_offset = high;
    if (k->parts[part].end > status->end_offset)
        status->end_offset = k->parts[part].end;
    // The last offsets of a log can be control records, which are never handed out.
    if (status->at_end && k->parts[part].end == status->end_offset)
        status->lag = 0;
    else if (status->end_offset >= 0 && status->next_offset >= 0)
        status->lag = status->end_offset > status->next_offset ? status->end_offset - status->next_offset : 0;
    if (status->error.code == ERR_NONE && k->parts[part].error != NULL)
        status->error = *k->parts[part].error;
}

static void source_kafka_error(const void *impl, struct err *ret_err)
{
    const struct source_kafka *k = impl;
    *ret_err = k->error;
}

static void source_kafka_commit_hint(void *impl, const int64_t *offsets)
{
    struct source_kafka *k = impl;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)k->n);
    for (uint32_t i = 0; i < k->n; i++)
        if (offsets[i] >= 0) {
            const struct source_part *p = source_part(k->source, i);
            rd_kafka_topic_partition_list_add(list, p->topic, p->partition)->offset = offsets[i];
        }
    if (list->cnt > 0)
        rd_kafka_commit(k->rk, list, 1);
    rd_kafka_topic_partition_list_destroy(list);
}

static void source_kafka_free(void *impl)
{
    struct source_kafka *k = impl;
    if (k == NULL)
        return;
    for (uint32_t i = 0; i < k->n; i++) {
        if (k->parts[i].queue != NULL) {
            rd_kafka_queue_io_event_enable(k->parts[i].queue, -1, NULL, 0);
            rd_kafka_queue_destroy(k->parts[i].queue);
        }
        free(k->parts[i].error);
    }
    if (k->common != NULL) {
        rd_kafka_queue_io_event_enable(k->common, -1, NULL, 0);
        rd_kafka_queue_destroy(k->common);
    }
    if (k->rk != NULL)
        rd_kafka_destroy(k->rk);
    if (k->fd >= 0)
        close(k->fd);
    free(k->parts);
    k->magic = 0;
    free(k);
}

static const struct source_ops source_kafka_ops = {
    .ends = false,
    .service = source_kafka_service,
    .fetch = source_kafka_fetch,
    .pause = source_kafka_pause,
    .fd = source_kafka_fd,
    .status = source_kafka_status,
    .error = source_kafka_error,
    .commit_hint = source_kafka_commit_hint,
    .free = source_kafka_free,
};

// -----------------------------------------------------------------------------------------------------------
// Start

static const char *const source_forced[] = {
    "auto.offset.reset",
    "error",
    "enable.auto.commit",
    "false",
    "enable.auto.offset.store",
    "false",
    "enable.partition.eof",
    "true",
    "allow.auto.create.topics",
    "false",
    NULL,
};

// Fetching stops at so many messages or at so many bytes of them: five eighths of the queue for these, the rest for
// what librdkafka needs for each message.
static rd_kafka_conf_t *source_kafka_conf(const char *const *conf, uint64_t queue_bytes, uint32_t n,
                                          struct err *err)
{
    uint64_t part = queue_bytes / n;
    uint64_t bytes = part / 8 * 5;
    uint64_t messages = (part - bytes) / SOURCE_MESSAGE_BYTES;
    char messages_text[24];
    char kbytes_text[24];
    snprintf(messages_text, sizeof messages_text, "%" PRIu64,
             messages > SOURCE_QUEUE_MESSAGES_MIN ? messages : SOURCE_QUEUE_MESSAGES_MIN);
    snprintf(kbytes_text, sizeof kbytes_text, "%" PRIu64,
             (bytes > SOURCE_QUEUE_BYTES_MIN ? bytes : SOURCE_QUEUE_BYTES_MIN) >> 10);
    const char *const defaults[] = {
        "group.id",
        "freshet",
        "queued.min.messages",
        messages_text,
        "queued.max.messages.kbytes",
        kbytes_text,
        // The end of a partition is told when a fetch comes back empty, and the merge waits for it.
        "fetch.wait.max.ms",
        "50",
        "check.crcs",
        "true",
        "topic.metadata.refresh.interval.ms",
        "30000",
        "statistics.interval.ms",
        "1000",
        "reconnect.backoff.max.ms",
        "2000",
        NULL,
    };
    return kafka_conf_new(defaults, conf, source_forced, err);
}

static int source_kafka_open(struct source_kafka *k, const char *const *conf, uint64_t queue_bytes,
                             struct err *err)
{
    k->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (k->fd < 0)
        return err_errno(err, "eventfd");
    rd_kafka_conf_t *c = source_kafka_conf(conf, queue_bytes, k->n, err);
    if (c == NULL)
        return -1;
    rd_kafka_conf_set_opaque(c, k);
    rd_kafka_conf_set_error_cb(c, source_kafka_on_error);
    rd_kafka_conf_set_stats_cb(c, source_kafka_on_stats);
    k->rk = kafka_handle_new(RD_KAFKA_CONSUMER, c, err);
    if (k->rk == NULL)
        return -1;
    rd_kafka_poll_set_consumer(k->rk);
    k->common = rd_kafka_queue_get_consumer(k->rk);
    rd_kafka_queue_io_event_enable(k->common, k->fd, &source_wake, sizeof source_wake);
    return 0;
}

// The queues are taken apart before the assignment, so that nothing can come by the common one.
static int source_kafka_assign(struct source_kafka *k, const struct source_part *parts, struct err *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)k->n);
    int result = 0;
    for (uint32_t i = 0; i < k->n && result == 0; i++) {
        k->parts[i].queue = rd_kafka_queue_get_partition(k->rk, parts[i].topic, parts[i].partition);
        if (k->parts[i].queue == NULL) {
            result = err_set(err, ERR_INVALID, "%s is no name of a topic", parts[i].topic);
            break;
        }
        rd_kafka_queue_forward(k->parts[i].queue, NULL);
        rd_kafka_queue_io_event_enable(k->parts[i].queue, k->fd, &source_wake, sizeof source_wake);
        rd_kafka_topic_partition_list_add(list, parts[i].topic, parts[i].partition)->offset =
            parts[i].offset == SOURCE_OFFSET_START ? RD_KAFKA_OFFSET_BEGINNING : parts[i].offset;
    }
    rd_kafka_resp_err_t code = result == 0 ? rd_kafka_assign(k->rk, list) : RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_topic_partition_list_destroy(list);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return err_set(err, ERR_INVALID, "kafka: cannot assign partitions: %s", rd_kafka_err2str(code));
    return result;
}

int source_kafka_new(const struct source_options *options, const char *const *conf,
                     const struct source_part *parts, uint32_t n, struct source **ret_source, struct err *err)
{
    assert(n > 0);
    struct source_kafka *k = mem_zalloc(sizeof *k);
    k->magic = SOURCE_KAFKA_MAGIC;
    k->n = n;
    k->serving = n;
    k->parts = mem_array(n, sizeof *k->parts);
    for (uint32_t i = 0; i < n; i++)
        k->parts[i].end = -1;
    if (source_kafka_open(k, conf, options->queue_bytes > 0 ? options->queue_bytes : SOURCE_QUEUE_BYTES,
                          err) < 0 ||
        source_kafka_assign(k, parts, err) < 0) {
        source_kafka_free(k);
        return -1;
    }
    k->source = source_new(options, &source_kafka_ops, k, parts, n);
    *ret_source = k->source;
    return 0;
}

int source_kafka_partitions(const char *const *conf, const char *topic, int timeout_ms, int32_t *ret_count,
                            struct err *err)
{
    rd_kafka_conf_t *c = kafka_conf_new(NULL, conf, source_forced, err);
    if (c == NULL)
        return -1;
    rd_kafka_t *rk = kafka_handle_new(RD_KAFKA_CONSUMER, c, err);
    if (rk == NULL)
        return -1;
    int result = kafka_partitions(rk, topic, timeout_ms, ret_count, err);
    rd_kafka_destroy(rk);
    return result;
}

int source_kafka_range(const char *const *conf, const char *topic, int32_t partition, int timeout_ms,
                       int64_t *ret_low, int64_t *ret_high, struct err *err)
{
    rd_kafka_conf_t *c = kafka_conf_new(NULL, conf, source_forced, err);
    if (c == NULL)
        return -1;
    rd_kafka_t *rk = kafka_handle_new(RD_KAFKA_CONSUMER, c, err);
    if (rk == NULL)
        return -1;
    rd_kafka_resp_err_t code =
        rd_kafka_query_watermark_offsets(rk, topic, partition, ret_low, ret_high, timeout_ms);
    rd_kafka_destroy(rk);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return err_set_retriable(err, ERR_UNAVAILABLE, "topic %s partition %d: asking for its offsets: %s",
                                 topic, partition, rd_kafka_err2str(code));
    return 0;
}
