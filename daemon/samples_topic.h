// SPDX-License-Identifier: Apache-2.0
// The sample log as a topic, for whoever trains elsewhere. The log is durable
// by itself, so samples do not go through the outbox: they are read from the
// log in order, and a mark says how far they are delivered.
//
//     log   0 ........ mark ........ next ........ durable ........ end
//           delivered   |  under way  |  to be sent  |  not yet on disk
//                       `- goes with each commit, as a small blob
//
// Killed, the daemon sends again from the mark: at least once. Numbers ascend
// inside a partition, repetitions aside: a number in a partition means that
// every lower one of that partition stands before it. (One producer is
// idempotent and leaves no gap; the next one begins at the mark or below.) So a
// consumer that keeps the largest number it has seen of each partition, and
// drops what is not above it, has each sample exactly once.
//
// Numbers count from 0 in a state, and a state that is begun anew counts anew:
// it has another id, and messages carry both.
#ifndef FRESHET_DAEMON_SAMPLES_TOPIC_H
#define FRESHET_DAEMON_SAMPLES_TOPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "stream/sink.h"

struct config;
struct engine;
struct samples_topic;

// ---- the mark, part of every engine of a config with such a topic
// -----------------------------------------

struct samples_mark {
    bool active;
    bool dirty;       // not as on disk
    uint64_t id;      // of the state
    uint64_t through; // samples below it are delivered
    uint64_t ticket;  // of the commit that made the id durable; UINT64_MAX: none
                      // yet, 0: one before the start
};

bool samples_topic_wanted(const struct config *config);
// Loads the mark, or begins one at the begin of the log; another topic than
// before begins anew.
int samples_mark_load(struct engine *e, bool read_only, struct err *err);
// Before state_commit: puts the mark.
void samples_mark_put(struct engine *e);

// ---- the sender, of the daemon
// ----------------------------------------------------------------------------

// Takes over the sink. The engine must outlive it.
struct samples_topic *samples_topic_new(struct engine *e, struct sink *sink);
void samples_topic_free(struct samples_topic *t);
// Takes note of deliveries and sends until `until_us` of the monotonic clock.
// *ret_more: there is more to send now; else the sink's fd or the next commit
// tell when. Fails only where the state cannot be read.
int samples_topic_step(struct samples_topic *t, int64_t until_us, bool *ret_more, struct err *err);
// Waits for what is under way, at most `ms`.
void samples_topic_settle(struct samples_topic *t, int ms);
struct sink *samples_topic_sink(const struct samples_topic *t);
uint64_t samples_topic_published(const struct samples_topic *t); // delivered since the start
uint64_t samples_topic_oversize(const struct samples_topic *t);  // passed over: longer than message.max.bytes

#endif
