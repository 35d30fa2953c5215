// SPDX-License-Identifier: Apache-2.0
// What samples.c and samples_read.c share. Nobody else includes this.
//
//     parts -> part -> part -> now       commits that are not durable, and the one being filled: in memory
//     runs  [commit, first seq, time, body_low] ...       of what is durable: at most LOG_RUNS, evenly sparse
//
// A run is what one commit, or several that follow each other, appended. When there are LOG_RUNS of them, the
// two neighbours that are the smallest together become one: so runs are about even in bytes, the whole index
// is a few KB whatever the length of the log, and it goes into the meta record of every commit. A position
// inside a run is found by bisecting commits in the store.
//
// Samples leave about in order of emitted_ts, but not quite (late impressions, late labels). Two times make
// the index exact all the same: `time`, the largest emitted_ts from the begin of the log to here, never falls,
// so what is before `from` is found by bisecting; `low`, the least in here, tells what to pass over.
#ifndef FRESHET_STATE_SAMPLES_IMPL_H
#define FRESHET_STATE_SAMPLES_IMPL_H

#include <assert.h>

#include "state/samples.h"
#include "state/segment.h"

enum {
    SAMPLES_MAGIC = 0x73616d70,
    RECORDS_VERSION = 2,
    RECORDS_VALUE_BYTES = 256 << 10, // a value is closed when it is this long
    LOG_RUNS = 128,
    LOG_CURSORS = 2, // readers that go on side by side: training, and the samples topic
    LOG_KEY = 14,
};

// Records of one value, without its head.
struct log_value {
    uint64_t first; // seq
    uint32_t n;
    int64_t low, high; // least and largest emitted_ts in it
    int64_t time;      // the largest up to its end
    struct buf bytes;
    uint64_t read_seq; // where the last read ended, 0: at the first; reading on costs no search
    size_t read_at;    // its byte
};

struct log_part {
    struct log_part *next;
    uint64_t commit;
    uint64_t first, end; // seq
    uint64_t body_low;   // oldest commit of a body that its records refer to
    int64_t time;        // the largest emitted_ts up to here
    int64_t low;         // the least in here
    bool batched;
    uint64_t room;  // bytes of its segments, used or not
    uint64_t bytes; // of its records
    struct segment **segments;
    uint32_t n_segments, cap_segments;
    struct log_value *values;
    uint32_t n_values, cap_values;
};

struct log_run {
    uint64_t commit;   // its first
    uint64_t first;    // seq
    uint64_t body_low; // oldest commit that it needs
    int64_t time;      // the largest emitted_ts up to its end
    int64_t low;       // the least in it
    uint64_t bytes;    // of bodies and records, as they were written, before compression
};

// The value that was read last, and where in it.
struct log_cursor {
    bool open;
    uint64_t commit;
    uint16_t n;
    uint64_t first, end, seq;
    size_t at;       // of the record of `seq`
    uint64_t number; // of the last read by it
    struct buf value;
};

struct samples {
    uint32_t magic;
    struct store *store;
    uint64_t begin, end, trained;
    uint64_t published;  // UINT64_MAX: nobody publishes
    uint64_t open_bytes; // of commits since the last run: they had no samples
    struct samples_gone gone;
    uint64_t last_commit; // the newest that was batched
    int64_t time;
    struct log_part *parts, *now;
    struct log_run runs[LOG_RUNS];
    uint32_t n_runs;
    struct segment_cache cache;
    struct log_cursor cursors[LOG_CURSORS];
    uint64_t chunks;             // read so far
    void (*turn)(void *context); // in the middle of samples_batch
    void *turn_context;
};

static inline void samples_check(const struct samples *l)
{
    assert(l != NULL && l->magic == SAMPLES_MAGIC);
}

void log_key(uint64_t commit, uint8_t part, uint16_t n, uint8_t ret_key[LOG_KEY]);

#endif
