// SPDX-License-Identifier: Apache-2.0
// The daemon: one loop (libev) on the main thread, around an engine, a Kafka source, a sink and HTTP.
//
//     source fd --> slice of events --> ingest            (bounded, so that HTTP and timers get their turn)
//     commit timer, or many events --> commit thread --> commit fd: outbox goes on, waiting version is
//     applied mark waiting --> trainer thread --> async: next chunk, or record and commit HTTP:
//     libmicrohttpd's epoll fd
#ifndef FRESHET_DAEMON_RUN_H
#define FRESHET_DAEMON_RUN_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "daemon/budget.h"
#include "daemon/cli.h"
#include "daemon/engine.h"
#include "daemon/trainer.h"
#include "stream/sink.h"
#include "stream/source.h"

struct http;
struct kafka_asker;
struct samples_topic;

enum {
    DAEMON_UPDATES_SHOWN = 128, // newest updates kept for the status
    DAEMON_LATENCY_BUCKETS = 16,
};

// A histogram of durations: bucket b counts those up to 2^b * 100 us.
struct latency {
    uint64_t buckets[DAEMON_LATENCY_BUCKETS + 1];
    uint64_t count;
    double sum_s;
};
void latency_put(struct latency *l, int64_t us);
double latency_quantile(const struct latency *l, double q); // seconds; NaN of an empty one

struct daemon_update {
    struct update_result result;
    int64_t wall_ms;                    // when it was applied
    int64_t duration_us;                // from begin to applied
    uint64_t total_n[CONFIG_HEADS_MAX]; // samples so far, this update's too, and their mean logloss
    double total_logloss[CONFIG_HEADS_MAX];
    int64_t servable_ms; // wall clock minus the boundary: how old the newest sample was
};

struct daemon_figures {
    uint64_t commits, commit_failures;
    struct latency commit, update, request;
    struct daemon_update updates[DAEMON_UPDATES_SHOWN]; // ring, newest at (n_updates - 1) % SHOWN
    uint64_t n_updates;
    uint64_t total_n[CONFIG_HEADS_MAX]; // of all updates so far: samples and the sum of their logloss
    double total_logloss[CONFIG_HEADS_MAX];
    uint64_t http_requests[6]; // by status / 100
    uint64_t published;
    int64_t publish_ms; // wall clock of the last delivery
};

struct daemon {
    struct config *config; // values that a reload may change are changed in place
    struct cli *cli;
    struct clock_source clock;
    struct engine *engine;
    struct source *source; // NULL until the broker told the partitions
    uint32_t part_of[INGEST_PARTS_MAX];
    struct sink *sink;
    struct samples_topic *samples; // NULL: no samples topic
    struct trainer *trainer;
    struct kafka_asker *asker; // until the broker told
    struct http *http;
    uint32_t n_taps; // of http
    struct budget budget;
    struct ev_loop *loop;
    ev_io source_io, sink_io, samples_io, commit_io;
    ev_idle more, more_samples;
    ev_timer commit_timer, housekeeping, watchdog;
    ev_signal sigterm, sigint, sighup;
    ev_async trained, asked;
    uint64_t ticket;         // of the newest commit
    int64_t commit_began_us; // of the commit under way
    uint64_t apply_at;       // ticket that makes the waiting version durable; 0: none waits
    struct update_result waiting;
    int64_t update_began_us;
    bool want_commit;
    bool stalled;   // ingestion waits for the commit thread
    bool disk_full; // a commit fails and is tried again
    bool caught_up; // at the end of every log, once since the start
    bool stopping;
    int exit_code;
    struct err problem;    // what an operator must know now; ERR_NONE: nothing
    int64_t ahead_told_ms; // when it was last logged that the watermark is ahead of the clock
    int64_t began_ms;
    uint64_t progress, progress_fed; // for the watchdog
    struct daemon_figures figures;
    struct ingest_counts last_counts; // as they were when the daemon ended
    void (*on_update)(void *context, const struct daemon_update *update); // for the demo
    void *on_update_context;
};

// Runs until SIGTERM or SIGINT, or a fatal error. The exit code.
int daemon_run(struct daemon *d);
void daemon_stop(struct daemon *d, int exit_code);
// Loads the config file again and takes over what can change while running. -1: the old config stays.
int daemon_reload(struct daemon *d, struct err *err);

// Ready: at the end of the log at least once since the start, a model, no disk trouble. *ret_why tells what
// is missing.
bool daemon_ready(const struct daemon *d, const char **ret_why);
// Lag over all parts: messages not yet read, -1 unknown.
int64_t daemon_lag(const struct daemon *d);

// Where a part stands. False: there is no such part (yet).
struct daemon_part {
    const char *topic;
    int32_t partition;
    int64_t next_offset; // SOURCE_OFFSET_START before the first message
    int64_t lag;         // messages, -1 unknown
    int64_t watermark;   // WATERMARK_NONE before its first event; profiles have none
    bool idle, stopped;
};
bool daemon_part(const struct daemon *d, uint32_t i, struct daemon_part *ret_part);
// By how much the watermark is ahead of the clock, 0 if it is not.
int64_t daemon_ahead_ms(const struct daemon *d);

#endif
