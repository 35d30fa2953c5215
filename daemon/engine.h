// SPDX-License-Identifier: Apache-2.0
// State, ingest and model of one config, put together: what `run` and `replay`
// have in common.
#ifndef FRESHET_DAEMON_ENGINE_H
#define FRESHET_DAEMON_ENGINE_H

#include "base/json.h"
#include "daemon/config.h"
#include "daemon/features.h"
#include "daemon/ingest.h"
#include "daemon/sample_row.h"
#include "daemon/samples_topic.h"
#include "daemon/update.h"
#include "state/state.h"
#include "stream/sink.h"

struct engine {
    const struct config *config;
    struct features *features;
    struct state *state;
    struct ingest *ingest;
    struct updater *updater;
    struct columns *columns;              // of the requests that are scored; made by the first
    uint64_t outbox_sent;                 // entries up to it were given to the sink
    uint64_t dirty_events;                // messages since the last commit
    uint64_t commit_bytes;                // when so much waits it is time for one
    struct sample_columns sample_columns; // what a sample shows
    struct samples_mark samples_mark;
    struct buf progress;
};

struct engine_options {
    const char *dir; // NULL: config's state.dir
    bool read_only;
    bool fail_if_absent;
    bool publish;
    void (*turn)(void *context); // as in state_options
    void *turn_context;
};

int engine_open(const struct config *config, const struct engine_options *options, struct engine **ret_engine,
                struct err *err);
void engine_close(struct engine *e);
// The options of the state that follow from the config.
void engine_state_options(const struct config *config, struct state_options *ret_options);

// So many events, or so much memory, wait for a commit that it is time for one.
bool engine_commit_due(const struct engine *e);
// Hands everything to the commit thread (waits for the commit before it).
int engine_commit(struct engine *e, uint64_t *ret_ticket, struct err *err);
// Commits and waits until it is durable.
int engine_commit_wait(struct engine *e, struct err *err);

// Gives durable outbox entries to the sink, takes note of what it has
// delivered. NULL sink: they are dropped as if delivered.
int engine_outbox(struct engine *e, struct sink *sink, struct err *err);

// Digests of docs/CONTRACT.md as members of the open JSON object; after
// engine_commit_wait.
int engine_digest_json(struct engine *e, struct json *j, struct err *err);
// {"click": {"auc":..., ...}, ...} of the running metrics.
void engine_metrics_json(const struct engine *e, struct json *j);
void metrics_values_json(const struct metrics_values *v, struct json *j);
// Members `events`, `duplicates`, `late`, `dlq`, `orphans`, `samples`,
// `updates`, `version`, `watermark`.
void engine_counts_json(const struct engine *e, struct json *j);
// Offsets by topic and partition: {"events": {"0": 12, ...}}.
void engine_offsets_json(const struct engine *e, struct json *j);

#endif
