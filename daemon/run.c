// SPDX-License-Identifier: Apache-2.0
// See run.h. The functions stand in the order in which an event meets them.
#include "daemon/run.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/priority.h"
#include "daemon/commands.h"
#include "daemon/http.h"
#include "daemon/kafka.h"

enum {
    SLICE_EVENTS = 128,              // handed out at a time
    TOWER_SLICE = 32,                // outputs of items computed at a time for a new version
    SLICE_US = 4000,                 // a slice ends after so long
    SAMPLES_SLICE_US = 2000,         // and one of sending samples
    SAMPLES_SETTLE_MS = 1000,        // what is under way at the end is waited for so long
    SLICE_TURN = 32,                 // after so many events HTTP is asked whether it has something
    COMMIT_BEHIND_MESSAGES = 100000, // a lag above it is catching up
    COMMIT_BEHIND_US = 5000000,      // catching up: a commit after so long at the latest
    AHEAD_AGAIN_MS = 60000,          // a watermark that stays ahead of the clock is told again
};
static const double HOUSEKEEPING_S = 1.0;

void latency_put(struct latency *l, int64_t us)
{
    int b = 0;
    while (b < DAEMON_LATENCY_BUCKETS && us > (INT64_C(100) << b))
        b++;
    l->buckets[b]++;
    l->count++;
    l->sum_s += (double)us / 1e6;
}

double latency_quantile(const struct latency *l, double q)
{
    double bounds[DAEMON_LATENCY_BUCKETS];
    for (uint32_t b = 0; b < DAEMON_LATENCY_BUCKETS; b++)
        bounds[b] = 1e-4 * (double)(1U << b);
    return histogram_quantile(bounds, l->buckets, DAEMON_LATENCY_BUCKETS, q);
}

static void daemon_fatal(struct daemon *d, const struct err *err)
{
    log_error("cannot go on", "error=%s", log_quote(err->message));
    daemon_stop(d, EXIT_FAILED);
}

// A problem is logged when it begins, changes or ends, not at every try.
static void daemon_problem(struct daemon *d, const struct err *err)
{
    if (strcmp(d->problem.message, err->message) == 0)
        return;
    if (err->code != ERR_NONE)
        log_warn(err->code == ERR_OFFSET_GONE ? "a partition is stopped" : "trouble, and trying again",
                 "error=%s", log_quote(err->message));
    else
        log_info("trouble is over", "was=%s", log_quote(d->problem.message));
    d->problem = *err;
}

// ---- commits ----------------------------------------------------------------------------------------------

static void daemon_commit(struct daemon *d)
{
    struct err err = {0};
    if (state_commit_busy(d->engine->state)) {
        d->want_commit = true;
        return;
    }
    d->want_commit = false;
    d->commit_began_us = clock_mono_us(&d->clock);
    if (engine_commit(d->engine, &d->ticket, &err) != 0) {
        daemon_fatal(d, &err);
        return;
    }
    if (d->apply_at == UINT64_MAX)
        d->apply_at = d->ticket;
    d->figures.commits++;
}

static void daemon_outbox(struct daemon *d)
{
    struct err err = {0};
    uint64_t before = state_outbox_begin(d->engine->state);
    if (engine_outbox(d->engine, d->sink, &err) != 0) {
        daemon_fatal(d, &err);
        return;
    }
    uint64_t after = state_outbox_begin(d->engine->state);
    if (after > before) {
        d->figures.published += after - before;
        d->figures.publish_ms = clock_now_ms(&d->clock);
        d->progress++;
    }
}

// There may be samples to send, or deliveries to note.
static void daemon_samples(struct daemon *d)
{
    if (d->samples != NULL)
        ev_idle_start(d->loop, &d->more_samples);
}

// The progressive loss as it was after each update: it cannot be had from the windows later.
static void daemon_totals(struct daemon_figures *f, struct daemon_update *u)
{
    for (uint32_t h = 0; h < u->result.n_heads; h++) {
        const struct metrics_values *window = &u->result.window[h];
        f->total_n[h] += window->n;
        f->total_logloss[h] += window->n > 0 ? window->logloss * (double)window->n : 0;
        u->total_n[h] = f->total_n[h];
        u->total_logloss[h] = f->total_n[h] > 0 ? f->total_logloss[h] / (double)f->total_n[h] : (double)NAN;
    }
}

static void daemon_totals_begin(struct daemon *d)
{
    for (uint32_t h = 0; h < d->config->model.n_heads; h++) {
        struct metrics_values all;
        struct metrics_values after;
        updater_metrics(d->engine->updater, h, &all, &after);
        d->figures.total_n[h] = all.n;
        d->figures.total_logloss[h] = all.n > 0 ? all.logloss * (double)all.n : 0;
    }
}

static void daemon_applied(struct daemon *d)
{
    d->apply_at = 0;
    trainer_applied(d->trainer);
    if (!d->config->update.enabled && d->waiting.samples == 0) // passed over: there is nothing to tell
        return;
    int64_t now = clock_now_ms(&d->clock);
    struct daemon_update *u = &d->figures.updates[d->figures.n_updates++ % DAEMON_UPDATES_SHOWN];
    *u = (struct daemon_update){.result = d->waiting,
                                .wall_ms = now,
                                .duration_us = clock_mono_us(&d->clock) - d->update_began_us,
                                .servable_ms = now - d->waiting.boundary_ms};
    daemon_totals(&d->figures, u);
    latency_put(&d->figures.update, u->duration_us);
    const struct metrics_values *m = &u->result.window[0];
    if (u->result.brake != BRAKE_NONE)
        log_warn("update stopped by a brake: the served version stays",
                 "brake=%s value=%g version=%llu samples=%llu", update_brake_name(u->result.brake),
                 u->result.brake_value, (unsigned long long)u->result.version,
                 (unsigned long long)u->result.samples);
    else
        log_info("update", "version=%llu samples=%llu rows=%llu auc=%.4f ne=%.4f frozen=%d ms=%lld",
                 (unsigned long long)u->result.version, (unsigned long long)u->result.samples,
                 (unsigned long long)u->result.rows, m->auc, m->ne, u->result.frozen,
                 (long long)u->duration_us / 1000);
    if (d->on_update != NULL)
        d->on_update(d->on_update_context, u);
}

static void daemon_trainer(struct daemon *d);

static void daemon_commit_hint(struct daemon *d)
{
    int64_t *offsets = mem_array(source_part_count(d->source), sizeof *offsets);
    for (uint32_t i = 0; i < source_part_count(d->source); i++)
        offsets[i] = d->engine->ingest->parts[d->part_of[i]].next_offset;
    source_commit_hint(d->source, offsets);
    free(offsets);
}

// A commit ended, well or badly.
static void on_commit(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop;
    (void)events;
    struct daemon *d = w->data;
    struct err err;
    state_commit_ack(d->engine->state);
    state_commit_error(d->engine->state, &err);
    if (err.code != ERR_NONE && !err.retriable) {
        daemon_fatal(d, &err);
        return;
    }
    d->disk_full = err.code != ERR_NONE;
    d->figures.commit_failures += d->disk_full;
    if (d->source != NULL)
        source_pause(d->source, d->disk_full);
    if (d->disk_full) {
        daemon_problem(d, &err);
        return;
    }
    if (state_commit_busy(d->engine->state))
        return;
    latency_put(&d->figures.commit, clock_mono_us(&d->clock) - d->commit_began_us);
    d->stalled = false;
    d->progress++;
    state_trim(d->engine->state);
    if (d->apply_at != 0 && d->apply_at != UINT64_MAX &&
        state_commit_durable(d->engine->state) >= d->apply_at)
        daemon_applied(d);
    daemon_outbox(d);
    daemon_samples(d);
    if (d->source != NULL)
        daemon_commit_hint(d);
    if (d->want_commit)
        daemon_commit(d);
    daemon_trainer(d);
    ev_idle_start(d->loop, &d->more);
}

static void on_commit_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct daemon *d = w->data;
    // Catching up, commits are counted in events: the larger they are, the more changes of one key become one
    // put.
    int64_t since = clock_mono_us(&d->clock) - d->commit_began_us;
    int64_t lag = daemon_lag(d); // -1: not told yet
    bool behind = d->source != NULL && since < COMMIT_BEHIND_US &&
                  (lag < 0 ? !source_caught_up(d->source) : lag > COMMIT_BEHIND_MESSAGES);
    if (d->want_commit || ((d->engine->dirty_events > 0 || d->engine->samples_mark.dirty) && !behind))
        daemon_commit(d);
}

// ---- training ---------------------------------------------------------------------------------------------

static void daemon_trainer(struct daemon *d)
{
    enum trainer_state state;
    struct update_result result;
    struct err err = {0};
    if (d->stopping)
        return;
    enum trainer_state before = trainer_state(d->trainer);
    if (trainer_step(d->trainer, &state, &result, &err) != 0) {
        daemon_fatal(d, &err);
        return;
    }
    if (before == TRAINER_IDLE && state == TRAINER_BUSY)
        d->update_began_us = clock_mono_us(&d->clock);
    if (state != TRAINER_DONE)
        return;
    d->waiting = result;
    d->apply_at = UINT64_MAX; // the next commit's ticket
    daemon_commit(d);
}

static void on_trained(struct ev_loop *loop, ev_async *w, int events)
{
    (void)loop;
    (void)events;
    struct daemon *d = w->data;
    d->progress++;
    daemon_trainer(d);
}

static void daemon_wake(void *context)
{
    struct daemon *d = context;
    ev_async_send(d->loop, &d->trained);
}

// ---- events -----------------------------------------------------------------------------------------------

// Whether events may be taken in now; the policy at each bound.
static bool daemon_may_ingest(struct daemon *d)
{
    if (d->source == NULL || d->stopping || d->disk_full || d->stalled)
        return false;
    if (d->engine->ingest->n_marks >= INGEST_MARKS_MAX)
        return false; // training lags by so many windows: it catches up first
    if (!engine_commit_due(d->engine))
        return true;
    daemon_commit(d);
    d->stalled = d->want_commit; // the commit before is still under way
    return !d->stalled;
}

// At most SLICE_US of events. Returns whether there may be more.
static bool daemon_slice(struct daemon *d)
{
    int64_t until = clock_mono_us(&d->clock) + SLICE_US;
    struct err err = {0};
    while (daemon_may_ingest(d)) {
        const struct event *const *events;
        uint32_t n;
        state_make_room(d->engine->state);
        if (source_poll(d->source, SLICE_EVENTS, &events, &n, &err) != 0) {
            daemon_fatal(d, &err);
            return false;
        }
        for (uint32_t i = 0; i < n; i++) {
            if (i % SLICE_TURN == 0)
                http_turn(d->http);
            if (i + INGEST_AHEAD < n) {
                const struct event *ahead = events[i + INGEST_AHEAD];
                ingest_prefetch(d->engine->ingest, d->part_of[ahead->part], ahead);
            }
            if (d->n_taps > 0)
                http_tap_event(d->http, &d->engine->ingest->parts[d->part_of[events[i]->part]], events[i]);
            if (ingest_event(d->engine->ingest, d->part_of[events[i]->part], events[i], &err) != 0) {
                daemon_fatal(d, &err);
                return false;
            }
        }
        d->engine->dirty_events += n;
        d->progress += n;
        if (d->engine->ingest->n_marks > 0 && trainer_state(d->trainer) == TRAINER_IDLE)
            daemon_trainer(d);
        if (n == 0) {
            d->caught_up |= source_caught_up(d->source);
            return false;
        }
        if (clock_mono_us(&d->clock) >= until)
            return true;
    }
    return false;
}

// A slice, what taps have gathered, and outputs of items for a new version. Returns whether there may be more.
static bool daemon_work(struct daemon *d)
{
    bool more = daemon_slice(d);
    if (d->n_taps > 0)
        more |= http_tap_turn(d->http);
    more |= model_tower_fill(updater_model(d->engine->updater), TOWER_SLICE);
    return more;
}

static void on_more(struct ev_loop *loop, ev_idle *w, int events)
{
    (void)events;
    if (!daemon_work(w->data))
        ev_idle_stop(loop, w);
}

static void on_source(struct ev_loop *loop, ev_io *w, int events)
{
    (void)events;
    struct daemon *d = w->data;
    if (daemon_work(d))
        ev_idle_start(loop, &d->more);
}

static void on_sink(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop;
    (void)events;
    daemon_outbox(w->data);
}

// Returns whether there is more to send now.
static bool daemon_samples_slice(struct daemon *d)
{
    struct err err = {0};
    bool more = false;
    uint64_t before = samples_topic_published(d->samples);
    if (samples_topic_step(d->samples, clock_mono_us(&d->clock) + SAMPLES_SLICE_US, &more, &err) != 0)
        daemon_fatal(d, &err);
    d->progress += samples_topic_published(d->samples) - before;
    return more;
}

static void on_more_samples(struct ev_loop *loop, ev_idle *w, int events)
{
    (void)events;
    if (!daemon_samples_slice(w->data))
        ev_idle_stop(loop, w);
}

// Its fd stays readable until the step has looked: an idle watcher would never get its turn.
static void on_samples(struct ev_loop *loop, ev_io *w, int events)
{
    (void)events;
    struct daemon *d = w->data;
    if (daemon_samples_slice(d))
        ev_idle_start(loop, &d->more_samples);
}

// ---- once a second ----------------------------------------------------------------------------------------

// The broker told the partitions, or a question failed.
static void daemon_open_source(struct daemon *d)
{
    struct err err = {0};
    int32_t counts[KAFKA_TOPICS];
    if (d->source != NULL)
        return;
    if (!kafka_asker_told(d->asker, counts, &err)) {
        if (err.code == ERR_NONE || err.code == ERR_UNAVAILABLE || err.code == ERR_NOT_FOUND)
            daemon_problem(d, &err);
        else
            daemon_fatal(d, &err);
        return;
    }
    const char *gone = cli_value(d->cli, "offset-gone");
    if (gone != NULL &&
        kafka_offsets_mend(d->config, d->engine->ingest, counts, strcmp(gone, "latest") == 0, &err) != 0) {
        daemon_fatal(d, &err);
        return;
    }
    if (kafka_source_open(d->config, d->engine->ingest, d->clock, counts, d->part_of, &d->source, &err) !=
        0) {
        daemon_fatal(d, &err);
        return;
    }
    err = (struct err){0};
    daemon_problem(d, &err);
    log_info("reading", "parts=%u topic=%s", source_part_count(d->source), d->config->events.topic);
    ev_io_init(&d->source_io, on_source, source_fd(d->source), EV_READ);
    d->source_io.data = d;
    ev_io_start(d->loop, &d->source_io);
    ev_idle_start(d->loop, &d->more);
}

static void on_asked(struct ev_loop *loop, ev_async *w, int events)
{
    (void)loop;
    (void)events;
    daemon_open_source(w->data);
}

static void daemon_asked(void *context)
{
    struct daemon *d = context;
    ev_async_send(d->loop, &d->asked);
}

// The first trouble of source, parts and sink that stands now.
static void daemon_trouble(const struct daemon *d, struct err *ret_err)
{
    *ret_err = (struct err){0};
    for (uint32_t i = 0; d->source != NULL && i < source_part_count(d->source); i++) {
        struct source_part_status status;
        source_part_status(d->source, i, &status);
        if (status.stopped) {
            *ret_err = status.error;
            return;
        }
    }
    if (d->source != NULL)
        source_error(d->source, ret_err);
    if (ret_err->code == ERR_NONE && d->sink != NULL)
        sink_error(d->sink, ret_err);
    if (ret_err->code == ERR_NONE && d->samples != NULL)
        sink_error(samples_topic_sink(d->samples), ret_err);
}

bool daemon_part(const struct daemon *d, uint32_t i, struct daemon_part *ret_part)
{
    struct source_part_status status;
    if (d->source == NULL || i >= source_part_count(d->source))
        return false;
    const struct source_part *part = source_part(d->source, i);
    const struct ingest *in = d->engine->ingest;
    const struct watermark_part *time = &in->watermark.parts[d->part_of[i]];
    source_part_status(d->source, i, &status);
    *ret_part = (struct daemon_part){.topic = part->topic,
                                     .partition = part->partition,
                                     .next_offset = status.next_offset,
                                     .lag = status.lag,
                                     .watermark = WATERMARK_NONE,
                                     .idle = time->idle,
                                     .stopped = status.stopped};
    if (time->counts && time->largest != WATERMARK_NONE)
        ret_part->watermark = time->largest - in->watermark.out_of_order;
    return true;
}

int64_t daemon_ahead_ms(const struct daemon *d)
{
    int64_t watermark = d->engine->ingest->watermark.value;
    int64_t ahead =
        watermark == WATERMARK_NONE || watermark == WATERMARK_END ? 0 : watermark - clock_now_ms(&d->clock);
    return ahead > 0 ? ahead : 0;
}

// Once when it begins, and each AHEAD_AGAIN_MS while it lasts. Named is the part that is furthest: where all are
// ahead it is the likeliest culprit, and with one part it is the one.
static void daemon_ahead(struct daemon *d)
{
    int64_t ahead = daemon_ahead_ms(d);
    int64_t now = clock_now_ms(&d->clock);
    struct daemon_part part;
    struct daemon_part furthest = {.topic = "", .watermark = WATERMARK_NONE};
    if (ahead == 0)
        d->ahead_told_ms = 0;
    if (ahead == 0 || now - d->ahead_told_ms < AHEAD_AGAIN_MS)
        return;
    for (uint32_t i = 0; daemon_part(d, i, &part); i++)
        if (part.watermark > furthest.watermark)
            furthest = part;
    d->ahead_told_ms = now;
    log_warn("the watermark is ahead of the clock: what comes until then is late",
             "ahead_ms=%lld topic=%s partition=%d partition_ahead_ms=%lld hint=%s", (long long)ahead,
             furthest.topic, furthest.partition, (long long)(furthest.watermark - now),
             log_quote("stream.time.max_future bounds it; the producers' clocks are to be looked at"));
}

static void on_housekeeping(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct daemon *d = w->data;
    if (d->source == NULL)
        return;
    struct err err;
    daemon_trouble(d, &err);
    if (!d->disk_full)
        daemon_problem(d, &err);
    daemon_ahead(d);
    daemon_outbox(d);
    daemon_samples(d);
    daemon_trainer(d);
    ev_idle_start(d->loop, &d->more);
    sd_notifyf(0, "STATUS=%llu messages, lag %lld, version %llu%s%s",
               (unsigned long long)d->engine->ingest->counts.messages, (long long)daemon_lag(d),
               (unsigned long long)updater_served(d->engine->updater),
               d->problem.code != ERR_NONE ? "; " : "", d->problem.message);
}

// Fed by progress: events, commits, trained chunks, deliveries. With nothing to do, the turn of the loop
// itself is the progress; with work at hand that does not move, the watchdog is not fed and systemd starts us
// again.
static void on_watchdog(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct daemon *d = w->data;
    bool idle =
        d->source == NULL || source_caught_up(d->source) || d->disk_full || d->problem.code != ERR_NONE;
    bool work = state_commit_busy(d->engine->state) || trainer_state(d->trainer) == TRAINER_BUSY;
    if (d->progress != d->progress_fed || (idle && (!work || d->disk_full)))
        sd_notify(0, "WATCHDOG=1");
    d->progress_fed = d->progress;
}

bool daemon_ready(const struct daemon *d, const char **ret_why)
{
    *ret_why = NULL;
    if (d->source == NULL)
        *ret_why = "the broker has not told the partitions yet";
    else if (!d->caught_up)
        *ret_why = "catching up with the log";
    else if (d->config->update.enabled && updater_served(d->engine->updater) == 0)
        *ret_why = "no model version yet";
    else if (d->disk_full)
        *ret_why = "commits fail: the disk is full";
    return *ret_why == NULL;
}

int64_t daemon_lag(const struct daemon *d)
{
    int64_t lag = 0;
    for (uint32_t i = 0; d->source != NULL && i < source_part_count(d->source); i++) {
        struct source_part_status status;
        source_part_status(d->source, i, &status);
        if (status.lag < 0)
            return -1;
        lag += status.lag;
    }
    return d->source == NULL ? -1 : lag;
}

// ---- start and stop ---------------------------------------------------------------------------------------

void daemon_stop(struct daemon *d, int exit_code)
{
    if (!d->stopping)
        d->exit_code = exit_code;
    d->stopping = true;
    ev_break(d->loop, EVBREAK_ALL);
}

static void on_stop(struct ev_loop *loop, ev_signal *w, int events)
{
    (void)loop;
    (void)events;
    log_info("stopping", "signal=%d", w->signum);
    sd_notify(0, "STOPPING=1");
    daemon_stop(w->data, EXIT_DONE);
}

int daemon_reload(struct daemon *d, struct err *err)
{
    struct config *fresh;
    if (config_load(d->cli->config_file, d->cli->overrides, d->cli->n_overrides, d->cli->properties, &fresh,
                    err) != 0)
        return -1;
    // These are read where they are used, on the main thread: a new value counts from the next use.
    d->config->update.brakes = fresh->update.brakes;
    d->config->update.enabled = fresh->update.enabled;
    d->config->publish.digest_every = fresh->publish.digest_every;
    d->config->state.commit_every_ms = fresh->state.commit_every_ms;
    d->config->state.commit_events = fresh->state.commit_events;
    d->config->state.commit_bytes = fresh->state.commit_bytes;
    d->engine->commit_bytes = budget_commit_bytes(d->config);
    memcpy(d->config->log.level, fresh->log.level, sizeof d->config->log.level);
    d->config->log.json = fresh->log.json;
    config_free(fresh);
    cli_log_setup(d->config);
    d->commit_timer.repeat = (double)d->config->state.commit_every_ms / 1000;
    ev_timer_again(d->loop, &d->commit_timer);
    return 0;
}

static void on_reload(struct ev_loop *loop, ev_signal *w, int events)
{
    (void)loop;
    (void)events;
    struct daemon *d = w->data;
    struct err err = {0};
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)clock_mono_us(&d->clock));
    if (daemon_reload(d, &err) != 0)
        log_error("reload refused, the old config stays", "error=%s", log_quote(err.message));
    else
        log_info(
            "reloaded: brakes, update.enabled, commit pace, digest_every and log; the rest needs a restart",
            "file=%s", d->cli->config_file != NULL ? log_quote(d->cli->config_file) : "built-in");
    sd_notify(0, "READY=1");
}

static void daemon_signal(struct daemon *d, ev_signal *w, int number,
                          void (*call)(struct ev_loop *, ev_signal *, int))
{
    ev_signal_init(w, call, number);
    w->data = d;
    ev_signal_start(d->loop, w);
}

static void daemon_timer(struct daemon *d, ev_timer *w, double every,
                         void (*call)(struct ev_loop *, ev_timer *, int))
{
    ev_timer_init(w, call, 0.0, every);
    w->data = d;
    ev_timer_start(d->loop, w);
}

static void daemon_watch(struct daemon *d)
{
    daemon_signal(d, &d->sigterm, SIGTERM, on_stop);
    daemon_signal(d, &d->sigint, SIGINT, on_stop);
    daemon_signal(d, &d->sighup, SIGHUP, on_reload);
    ev_async_init(&d->trained, on_trained);
    d->trained.data = d;
    ev_async_start(d->loop, &d->trained);
    ev_idle_init(&d->more, on_more);
    ev_set_priority(&d->more,
                    EV_MAXPRI); // idle of its own priority: requests alone do not keep it from its turn
    d->more.data = d;
    ev_io_init(&d->commit_io, on_commit, state_commit_fd(d->engine->state), EV_READ);
    d->commit_io.data = d;
    ev_io_start(d->loop, &d->commit_io);
    if (d->sink != NULL && sink_fd(d->sink) >= 0) {
        ev_io_init(&d->sink_io, on_sink, sink_fd(d->sink), EV_READ);
        d->sink_io.data = d;
        ev_io_start(d->loop, &d->sink_io);
    }
    if (d->samples != NULL) {
        ev_idle_init(&d->more_samples, on_more_samples);
        ev_io_init(&d->samples_io, on_samples, sink_fd(samples_topic_sink(d->samples)), EV_READ);
        d->more_samples.data = d->samples_io.data = d;
        ev_io_start(d->loop, &d->samples_io);
        ev_idle_start(d->loop, &d->more_samples);
    }
    daemon_timer(d, &d->commit_timer, (double)d->config->state.commit_every_ms / 1000, on_commit_timer);
    daemon_timer(d, &d->housekeeping, HOUSEKEEPING_S, on_housekeeping);
    uint64_t watchdog_us = 0;
    if (sd_watchdog_enabled(0, &watchdog_us) > 0)
        daemon_timer(d, &d->watchdog, (double)watchdog_us / 3e6, on_watchdog);
}

// A producer of its own: the sink's numbers are those of samples, and one topic does not hold up the other.
static int daemon_open_samples(struct daemon *d, struct err *err)
{
    struct sink *sink;
    if (!d->engine->samples_mark.active)
        return 0;
    if (sink_kafka_new(d->config->producer.list, &sink, err) != 0)
        return -1;
    d->samples = samples_topic_new(d->engine, sink);
    return 0;
}

// In the middle of what takes the main thread long: requests do not wait for the end of it.
static void daemon_turn(void *context)
{
    struct daemon *d = context;
    if (d->http != NULL)
        http_turn(d->http);
}

static int daemon_open(struct daemon *d, struct err *err)
{
    struct engine_options options = {.dir = cli_value(d->cli, "state"),
                                     .publish = d->config->publish.enabled,
                                     .turn = daemon_turn,
                                     .turn_context = d};
    d->loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOSIGMASK);
    if (d->loop == NULL)
        return err_set(err, ERR_IO, "libev has no backend here");
    // The broker is asked while the state opens.
    ev_async_init(&d->asked, on_asked);
    d->asked.data = d;
    ev_async_start(d->loop, &d->asked);
    if (kafka_asker_new(d->config, daemon_asked, d, &d->asker, err) != 0)
        return -1;
    if (engine_open(d->config, &options, &d->engine, err) != 0)
        return -1;
    daemon_totals_begin(d);
    if (trainer_new(d->engine, daemon_wake, d, &d->trainer, err) != 0)
        return -1;
    // The threads of state and trainer are there, those of Kafka, whose events would come later, are not yet.
    priority_others_background();
    priority_prompt();
    if (sink_kafka_new(d->config->producer.list, &d->sink, err) != 0 || daemon_open_samples(d, err) != 0)
        return -1;
    return http_new(d, &d->http, err);
}

// What is known is made durable; the broker's answers are waited for a little.
static void daemon_finish(struct daemon *d)
{
    struct err err = {0};
    trainer_free(d->trainer); // an update under way is abandoned: it is repeated from the log
    d->trainer = NULL;
    if (d->samples != NULL && d->exit_code == EXIT_DONE)
        samples_topic_settle(d->samples, SAMPLES_SETTLE_MS);
    if (d->exit_code == EXIT_DONE && !d->disk_full &&
        (state_commit_wait(d->engine->state, &err) != 0 || engine_outbox(d->engine, d->sink, &err) != 0 ||
         engine_commit_wait(d->engine, &err) != 0)) {
        log_error("the last commit failed", "error=%s", log_quote(err.message));
        d->exit_code = EXIT_FAILED;
    }
    if (d->source != NULL && d->exit_code == EXIT_DONE)
        daemon_commit_hint(d);
}

static void daemon_close(struct daemon *d)
{
    kafka_asker_free(d->asker);
    http_free(d->http);
    trainer_free(d->trainer);
    source_free(d->source);
    samples_topic_free(d->samples);
    sink_free(d->sink);
    engine_close(d->engine);
    if (d->loop != NULL)
        ev_loop_destroy(d->loop);
}

int daemon_run(struct daemon *d)
{
    struct err err = {0};
    d->clock = clock_real();
    d->began_ms = clock_now_ms(&d->clock);
    if (budget_of(d->config, &d->budget, &err) != 0 || budget_check(&d->budget, &err) != 0)
        return cli_fail(d->cli, &err);
    if (daemon_open(d, &err) != 0) {
        daemon_close(d);
        return cli_fail(d->cli, &err);
    }
    daemon_watch(d);
    log_info(
        "ready", "version=%llu http=%s:%u state=%s",
        (unsigned long long)updater_version(d->engine->updater)->version, d->config->http.host,
        d->config->http.port,
        log_quote(cli_value(d->cli, "state") != NULL ? cli_value(d->cli, "state") : d->config->state.dir));
    sd_notify(0, "READY=1");
    ev_run(d->loop, 0);
    daemon_finish(d);
    d->last_counts = d->engine->ingest->counts;
    daemon_close(d);
    return d->exit_code;
}

int run_command(struct cli *cli)
{
    const char *gone = cli_value(cli, "offset-gone");
    if (gone != NULL && strcmp(gone, "earliest") != 0 && strcmp(gone, "latest") != 0)
        return cli_usage(cli, "--offset-gone %s: earliest or latest is expected", gone);
    struct err err = {0};
    if (config_check_profiles(cli->config, &err) != 0)
        return cli_fail(cli, &err);
    struct daemon *d = mem_zalloc(sizeof *d);
    d->cli = cli;
    d->config = cli->config;
    int code = daemon_run(d);
    free(d);
    return code;
}
