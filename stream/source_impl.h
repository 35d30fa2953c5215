// SPDX-License-Identifier: Apache-2.0
// What stands between the generic part of a source (stream/source.c: queues, decoding, merge, idleness,
// recorded order) and where its messages come from (stream/source_file.c, stream/source_kafka.c). Internal to
// stream/.
//
// The generic part asks: once at the start of each source_poll it calls `service`, then `fetch` for a part
// whenever the part has nothing buffered, at most once a poll after a fetch that gave nothing. The
// implementation answers by calling source_push for each raw message (of any part), source_reached_end and
// source_stop. All of it on the polling thread.
#ifndef FRESHET_STREAM_SOURCE_IMPL_H
#define FRESHET_STREAM_SOURCE_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "stream/source.h"

enum { SOURCE_FETCH = 256 }; // messages that one fetch should bring at most

// One message as it came. source_push copies key and value: they need to live, and need no padding, only
// during the call.
struct source_raw {
    struct str key;
    struct str value;  // s == NULL: a null payload
    uint64_t cut_from; // 0, or the full length of a message over EVENT_MESSAGE_BYTES of which value holds
                       // only the beginning
    int64_t offset;
    int64_t next_offset; // Kafka: offset + 1
    int64_t append_ms;   // 0 unknown
};

struct source_ops {
    // Files: a part that is at its end has ended for good, and is idle at once.
    bool ends;
    // Any of the following but `fetch` and `free` may be NULL.
    // Once at the start of every poll, also while paused: serve callbacks. -1 only on a fatal error.
    int (*service)(void *impl, struct err *err);
    // Brings up to about SOURCE_FETCH messages of `part` by source_push; tells an end that it sees by
    // source_reached_end. Bringing nothing is fine: the part is then waited for unless it is at its end.
    // -1 only on a fatal error; what was pushed before is still handed out.
    int (*fetch)(void *impl, uint32_t part, struct err *err);
    void (*pause)(void *impl, bool pause);
    int (*fd)(const void *impl); // NULL: -1
    // Sets end_offset and lag (both are -1 before the call); next_offset, at_end, ... are set already.
    void (*status)(const void *impl, uint32_t part, struct source_part_status *status);
    void (*error)(const void *impl, struct err *ret_err); // NULL: ERR_NONE
    void (*commit_hint)(void *impl, const int64_t *offsets);
    void (*free)(void *impl);
};

// Takes over `impl`; it is freed by source_free. Copies options and parts.
struct source *source_new(const struct source_options *options, const struct source_ops *ops, void *impl,
                          const struct source_part *parts, uint32_t n);

// A message below the offset that is expected next (a redelivery) is dropped. Clears the end of the part.
void source_push(struct source *s, uint32_t part, const struct source_raw *raw);
// The end of the log stands after what was pushed last. May be told again and again.
void source_reached_end(struct source *s, uint32_t part);
// What stands at the ends of the logs cannot be known now: the time at the end begins anew for all parts.
void source_ends_unknown(struct source *s);
// The part cannot go on without the operator. It is neither waited for nor idle.
void source_stop(struct source *s, uint32_t part, const struct err *err);
// Where the next message to be fetched is expected: the offset after the last one pushed, or where the part
// begins (can be SOURCE_OFFSET_START).
int64_t source_fetch_offset(const struct source *s, uint32_t part);

#endif
