// SPDX-License-Identifier: Apache-2.0
// Where events come from: Kafka partitions or JSONL files, behind one interface, merged by event time.
//
// Order (docs/DESIGN.md, "Order"): the next event is taken from the part whose head has the least ts; ties go
// to the lower part index. A bad message has no time of its own and is taken as soon as it is a head. A part
// with nothing buffered that is not at the end of its log is waited for; one at its end is not. Live, arrival
// decides. source_follow replaces the rule by a recorded order.
//
// A part at the end of its log for idle_after (files: at once) yields one EVENT_IDLE, in the order in which
// it is noticed, and is idle until its next event that is not bad; bad ones do not begin that time anew. The
// watermark above leaves idle parts out.
//
// Threads: one thread polls. The Kafka source wakes an fd when something may be there (source_fd).
#ifndef FRESHET_STREAM_SOURCE_H
#define FRESHET_STREAM_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "stream/event.h"

struct source;

enum { SOURCE_OFFSET_START = -2 }; // begin at the start of the log

// One partition of one topic, or one file (topic = "events", "users", "items"; partition = index among the
// files of that topic).
struct source_part {
    char topic[250];
    int32_t partition;
    enum decoder_kind kind;
    int64_t offset; // where to begin: Kafka offset or byte position; SOURCE_OFFSET_START
};

// What is known of a part now, for metrics and status.
struct source_part_status {
    int64_t next_offset; // the offset after the last event handed out
    int64_t end_offset;  // end of the log as last seen, -1 unknown
    int64_t lag;         // messages between the two, -1 unknown
    bool at_end;
    bool idle;
    bool stopped; // by an error that needs the operator, e.g. an offset that is gone
    struct err error;
};

enum { SOURCE_QUEUE_BYTES = 256 << 20 };

struct source_options {
    struct decoder_options decode;
    struct clock_source clock;
    int64_t idle_after_ms;
    uint64_t queue_bytes; // of Kafka: what librdkafka holds ready, over all partitions; 0: SOURCE_QUEUE_BYTES
    int64_t file_append_ms; // what files take for the append time (0: no check of the future)
};

// Files. `path` "-" is stdin. The parts are in the given order; parts[i].offset > 0 continues there: a seek,
// or for a pipe reading and throwing away.
struct source_file {
    const char *path;
    struct source_part part;
};
int source_files_new(const struct source_options *options, const struct source_file *files, uint32_t n,
                     struct source **ret_source, struct err *err);

// Kafka. `conf` holds librdkafka properties name, value, name, value, ..., NULL; ours win where they must
// (auto.offset.reset=error, enable.auto.commit=false, enable.partition.eof=true, ...). Assigns exactly
// `parts`. Returns at once; a broker that is away is reported by source_error until it is back.
int source_kafka_new(const struct source_options *options, const char *const *conf,
                     const struct source_part *parts, uint32_t n, struct source **ret_source,
                     struct err *err);

// The partitions of `topic`, asked of the broker; waits at most timeout_ms. ERR_UNAVAILABLE: no broker;
// ERR_NOT_FOUND: no such topic.
int source_kafka_partitions(const char *const *conf, const char *topic, int timeout_ms, int32_t *ret_count,
                            struct err *err);

// The offsets that the broker holds of a partition: the first, and the one after the last.
int source_kafka_range(const char *const *conf, const char *topic, int32_t partition, int timeout_ms,
                       int64_t *ret_low, int64_t *ret_high, struct err *err);

void source_free(struct source *s);

uint32_t source_part_count(const struct source *s);
const struct source_part *source_part(const struct source *s, uint32_t part);
void source_part_status(const struct source *s, uint32_t part, struct source_part_status *ret_status);

// Up to `max` next events in order. *ret_events is an array of *ret_n pointers, valid until the next call.
// 0 events: nothing to hand out now (look at source_ended, wait on source_fd). Never blocks for Kafka; blocks
// on a read of a file or pipe. Fails only on a fatal error (unreadable file, unusable config).
int source_poll(struct source *s, uint32_t max, const struct event *const **ret_events, uint32_t *ret_n,
                struct err *err);

// True when every part has ended and all was handed out (files only; Kafka never ends).
bool source_ended(const struct source *s);
// True when everything up to the end of every log has been handed out (for Kafka: caught up).
bool source_caught_up(const struct source *s);
// Readable when source_poll may have something; -1 for files.
int source_fd(const struct source *s);
// Stop and go on fetching (back-pressure: a full disk). A paused part is not idle.
void source_pause(struct source *s, bool pause);
// The last error that is not tied to a part (broker away), or code ERR_NONE.
void source_error(const struct source *s, struct err *ret_err);
// For Kafka: tells the broker `offsets` (one per part) for lag tools; never read back. Errors are ignored.
void source_commit_hint(struct source *s, const int64_t *offsets);

// A recorded order: runs of `count` messages of `part`; count 0 is the EVENT_IDLE of that part. Events follow
// it exactly from the next poll on; after its end source_poll gives 0 events and source_ended is true.
struct source_run {
    uint16_t part;
    uint32_t count;
};
void source_follow(struct source *s, const struct source_run *runs, uint32_t n); // copies

#endif
