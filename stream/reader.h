// SPDX-License-Identifier: Apache-2.0
// Reads a topic as raw messages, every partition from a given offset: what a follower of the delta topic
// needs. Order is Kafka's, by partition. An offset that is gone is ERR_OFFSET_GONE, never a skip.
#ifndef FRESHET_STREAM_READER_H
#define FRESHET_STREAM_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct reader;

struct reader_message {
    int32_t partition;
    int64_t offset;
    struct str key, value;
};

// offsets[p] for partition p of n_offsets; others, and negative ones, begin at the start of the log. Waits at
// most timeout_ms for the broker to tell the partitions.
int reader_new(const char *const *conf, const char *topic, const int64_t *offsets, int32_t n_offsets,
               int timeout_ms, struct reader **ret_reader, struct err *err);
void reader_free(struct reader *r);

// The next message, waiting at most timeout_ms. *ret_found false: none came. Valid until the next call. A
// broker that is away is waited for.
int reader_next(struct reader *r, int timeout_ms, struct reader_message *ret_message, bool *ret_found,
                struct err *err);
// Every partition has been read to its end.
bool reader_caught_up(const struct reader *r);

#endif
