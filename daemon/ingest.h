// SPDX-License-Identifier: Apache-2.0
// The way of one event, from decoded to joined: dedupe, features as they stand, counters, sequences, joiner,
// watermark; and when an update window has ended. The same for the daemon and for replay; no I/O but through
// state/, no clock but event time.
#ifndef FRESHET_DAEMON_INGEST_H
#define FRESHET_DAEMON_INGEST_H

#include "daemon/config.h"
#include "daemon/delay.h"
#include "daemon/features.h"
#include "daemon/remember.h"
#include "state/state.h"
#include "stream/event.h"
#include "stream/source.h"
#include "stream/watermark.h"

enum {
    INGEST_PARTS_MAX = 4096,
    INGEST_MARKS_MAX = 64, // update windows that may wait for training before ingestion stops
};

// Topics of parts that are files begin so: their offsets are byte positions, not Kafka's.
#define INGEST_FILE_TOPIC "file:"

struct ingest_part {
    char topic[250];
    int32_t partition;
    enum decoder_kind kind;
    int64_t next_offset; // SOURCE_OFFSET_START before the first message
};

// An update window has ended: samples below `through` that no earlier mark covers are to be trained on.
struct ingest_mark {
    uint64_t through;
    int64_t boundary_ms; // end of the window, event time
};

struct ingest_counts {
    uint64_t messages;
    uint64_t events[ACTION_MAX]; // accepted, by action; an impression message counts its items
    uint64_t users, items;       // profile upserts
    uint64_t duplicates;
    uint64_t late_impressions, late_feedback;
    uint64_t profiles_stale;       // older than what is kept
    uint64_t profile_conflicts[2]; // values of users, of items that are not of the declared type
    uint64_t sequences_skipped;    // entries that lacked the attribute by which a sequence keeps them
    uint64_t dlq[EVENT_BAD_COUNT];
    uint64_t skipped;         // messages that the broker had lost, passed over by --offset-gone
    uint64_t lengths_missing; // impressions for which the label completion is not defined
};

struct ingest {
    const struct config *config;
    struct features *features;
    struct state *state;
    struct watermark watermark;
    struct ingest_part *parts; // as many as watermark.n
    uint32_t n_parts;
    struct ingest_counts counts;
    struct ingest_mark *marks; // waiting, oldest first
    uint32_t n_marks, cap_marks;
    int64_t window;  // number of the update window that is open, -1 before the first sample
    uint64_t marked; // samples below it belong to a mark
    bool use_profile;
    uint32_t reads; // measures that features are made of
    struct remember *remember;
    struct delay label_delay; // from impression to label, of the samples that left since the start
    struct buf scratch;
    struct entity *items[EVENT_ITEMS_MAX];
    uint32_t item_at[EVENT_ITEMS_MAX];
    // Sees every sample that leaves, after the ingest's own bookkeeping; may be NULL.
    void (*on_sample)(void *context, const struct sample *sample);
    void *on_sample_context;
};

// Takes up what the state's last commit recorded.
int ingest_new(const struct config *config, struct features *features, struct state *state,
               struct ingest **ret_ingest, struct err *err);
void ingest_free(struct ingest *in);

// The number of (topic, partition) in the ingest, by which order and offsets are recorded; made if new.
uint32_t ingest_part(struct ingest *in, const char *topic, int32_t partition, enum decoder_kind kind);

// Users may be under the partitions below this one.
uint16_t ingest_partitions(const struct ingest *in);

// One event; `part` is the ingest's number of the part. Fails only when the state cannot be read.
int ingest_event(struct ingest *in, uint32_t part, const struct event *e, struct err *err);
// Starts fetching what ingest_event will touch: called INGEST_AHEAD events before it.
enum { INGEST_AHEAD = 8 };
void ingest_prefetch(const struct ingest *in, uint32_t part, const struct event *e);
// The end of time: everything leaves, the last window ends.
void ingest_flush(struct ingest *in);
// What is due at the watermark, and what left early since the last event that moved it, goes into the sample log.
void ingest_advance(struct ingest *in);
// The oldest waiting mark is trained (or skipped).
void ingest_mark_done(struct ingest *in);
// The record for state_commit.
void ingest_progress_put(const struct ingest *in, struct buf *to);

#endif
