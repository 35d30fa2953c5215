// SPDX-License-Identifier: Apache-2.0
// Where messages go: the DLQ, the delta topic. A sink takes messages in order and tells how far they are
// delivered; the outbox in the store lets go of an entry only then. At least once, in order per topic.
#ifndef FRESHET_STREAM_SINK_H
#define FRESHET_STREAM_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct sink;

struct sink_header {
    struct str name;
    struct str value;
};

struct sink_message {
    const char *topic;
    int32_t partition; // -1: by key
    struct str key;    // s == NULL: none
    struct str value;
    const struct sink_header *headers;
    uint32_t n_headers;
    uint64_t sequence; // of the outbox; increasing over the calls of one sink
};

// Kafka, by an idempotent producer. conf as in source_kafka_new. After a fatal error of the producer (which
// librdkafka 2.0.2 can report falsely) the sink makes a new one and sink_reset tells the caller to send again.
int sink_kafka_new(const char *const *conf, struct sink **ret_sink, struct err *err);

// Files: DIR/<topic>.jsonl, one line a message: {"key","value" or "value_base64","headers":{...}}; written
// and flushed on sink_poll, then delivered.
int sink_files_new(const char *dir, struct sink **ret_sink, struct err *err);

void sink_free(struct sink *s); // waits at most 1 s for what is under way

// Takes a copy. ERR_LIMIT, retriable: the queue is full, poll and try again.
int sink_send(struct sink *s, const struct sink_message *message, struct err *err);

// Handles delivery reports. Every message with sequence <= the value returned is delivered.
// ERR_NOT_FOUND/ERR_UNAVAILABLE conditions are kept for sink_error and tried again by the sink.
uint64_t sink_poll(struct sink *s);

// True once after the sink lost what was under way: send again everything above sink_poll's value.
bool sink_reset(struct sink *s);

uint32_t sink_under_way(const struct sink *s);
int sink_fd(const struct sink *s); // readable when sink_poll has something; -1 for files
void sink_error(const struct sink *s, struct err *ret_err); // ERR_NONE when all is well

// Makes sure that `topic` exists with at least `partitions` partitions (asks the broker to create it).
int sink_kafka_topic(const char *const *conf, const char *topic, int32_t partitions, int timeout_ms,
                     struct err *err);

#endif
