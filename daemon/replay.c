// SPDX-License-Identifier: Apache-2.0
// freshet replay: the path of `run` over JSONL files, as fast as it goes. Each --events file stands for a
// partition of the event topic (--users and --items likewise), and they are merged by time as partitions are.
// Updates happen where an update window ends, in line. Nothing is published; bad messages go to a file.
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/commands.h"
#include "daemon/directory.h"
#include "daemon/engine.h"
#include "daemon/replay.h"
#include "stream/source.h"

enum {
    REPLAY_POLL = 1024,
    PROGRESS_US = 500000,
    JUMP_MS = 86400000, // an event so far ahead of its file is told
    JUMPS_TOLD = 10,    // each; more are only counted
};

// ---- files ------------------------------------------------------------------------------------------------

// The parts of one option, in order of the command line.
static uint32_t replay_files(struct replay *r, const char *option, enum decoder_kind kind,
                             struct source_file *files, uint32_t n)
{
    uint32_t from = 0;
    char topic[32];
    snprintf(topic, sizeof topic, INGEST_FILE_TOPIC "%s", option);
    int32_t partition = 0;
    for (const char *path; n < REPLAY_FILES_MAX && (path = cli_each(r->cli, option, &from)) != NULL; n++) {
        uint32_t part = ingest_part(r->engine->ingest, topic, partition, kind);
        files[n] = (struct source_file){.path = path, .part = {.partition = partition, .kind = kind}};
        snprintf(files[n].part.topic, sizeof files[n].part.topic, "%s", topic);
        int64_t offset = r->engine->ingest->parts[part].next_offset;
        files[n].part.offset = offset;
        r->part_of[n] = part;
        r->paths[n] = path;
        partition++;
    }
    return n;
}

// Parts that the state knows and that are not read now must not hold the watermark back.
static void replay_rest_idle(struct replay *r, uint32_t n)
{
    for (uint32_t p = 0; p < r->engine->ingest->n_parts; p++) {
        bool read = false;
        for (uint32_t i = 0; i < n; i++)
            read |= r->part_of[i] == p;
        if (!read)
            watermark_idle(&r->engine->ingest->watermark, p);
    }
}

int replay_open_source(struct replay *r, struct err *err)
{
    const struct config *config = r->cli->config;
    struct source_file files[REPLAY_FILES_MAX];
    uint32_t n = replay_files(r, "users", DECODER_USERS, files, 0);
    n = replay_files(r, "items", DECODER_ITEMS, files, n);
    n = replay_files(r, "events", DECODER_EVENTS, files, n);
    replay_rest_idle(r, n);
    const char *names[ACTION_MAX];
    for (uint32_t a = 0; a < config->n_actions; a++)
        names[a] = config->actions[a];
    struct source_options options = {.decode = {.actions = names,
                                                .n_actions = config->n_actions,
                                                .max_future_ms = config->time.max_future_ms},
                                     .clock = r->clock,
                                     .idle_after_ms = config->time.idle_after_ms,
                                     .file_append_ms = clock_now_ms(&r->clock)};
    return source_files_new(&options, files, n, &r->source, err);
}

// ---- jumps of event time ----------------------------------------------------------------------------------
//
// A file does not say when its lines were written, so max_future cannot tell a wrong clock in the middle of it. An
// event that is far ahead of all before it may be one, and all that follows is late then; or the log has a gap, which
// is no mistake. So it is taken as it is, and told.

// 0: not to be had, as of a pipe.
static uint64_t line_of(const char *path, int64_t offset)
{
    uint64_t line = 1;
    FILE *f = strcmp(path, "-") != 0 ? fopen(path, "r") : NULL;
    if (f == NULL)
        return 0;
    for (int c; offset > 0 && (c = getc_unlocked(f)) != EOF; offset--)
        line += c == '\n';
    fclose(f);
    return offset == 0 ? line : 0;
}

static void replay_jump(struct replay *r, const struct event *e, int64_t ahead_ms)
{
    const char *path = r->paths[e->part];
    if (++r->jumps > JUMPS_TOLD)
        return;
    log_warn("an event is far ahead of all before it in its file: if it is no gap of the log, what follows "
             "is late",
             "at=%s:%llu byte=%lld ahead_hours=%.1f", path, (unsigned long long)line_of(path, e->offset),
             (long long)e->offset, (double)ahead_ms / 3600000);
    if (r->jumps == JUMPS_TOLD)
        log_warn("more such events are only counted, under time_jumps", "told=%d", JUMPS_TOLD);
}

// One event; what it is by event time shows in what it does to the watermark of its part.
static int replay_event(struct replay *r, const struct event *e, struct err *err)
{
    struct ingest *in = r->engine->ingest;
    const struct watermark_part *part = &in->watermark.parts[r->part_of[e->part]];
    int64_t before = part->largest;
    if (ingest_event(in, r->part_of[e->part], e, err) != 0)
        return -1;
    if (e->part < REPLAY_FILES_MAX && r->paths[e->part] != NULL && before != WATERMARK_NONE && part->counts &&
        part->largest - before > JUMP_MS)
        replay_jump(r, e, part->largest - before);
    return 0;
}

// ---- the loop ---------------------------------------------------------------------------------------------

static void replay_show(struct replay *r, const char *end)
{
    const struct ingest_counts *c = &r->engine->ingest->counts;
    const struct version *v = updater_version(r->engine->updater);
    double seconds = (double)(clock_mono_us(&r->clock) - r->began_us) / 1e6;
    fprintf(stderr, "\r%12llu events  %9.0f/s  %10llu samples  version %llu  %.1f s%s",
            (unsigned long long)c->messages, (double)c->messages / (seconds > 0 ? seconds : 1),
            (unsigned long long)state_samples_end(r->engine->state), (unsigned long long)v->version, seconds,
            end);
}

static int replay_train(struct replay *r, struct err *err)
{
    struct ingest *in = r->engine->ingest;
    while (in->n_marks > 0 && updater_version(r->engine->updater)->updates < r->max_updates) {
        struct update_result result;
        if (update_run(r->engine->updater, &in->marks[0], &result, err) != 0)
            return -1;
        if (result.brake != BRAKE_NONE)
            log_warn("update stopped by a brake", "brake=%s value=%g boundary=%lld samples=%llu",
                     update_brake_name(result.brake), result.brake_value, (long long)result.boundary_ms,
                     (unsigned long long)result.samples);
        ingest_mark_done(in);
    }
    return 0;
}

// Until no commit is under way. A full disk is told once, and waited for: nothing is lost.
static int replay_durable(const struct replay *r, struct err *err)
{
    enum { WAIT_MS = 100 };
    bool told = false;
    while (state_commit_busy(r->engine->state)) {
        struct err trouble;
        state_commit_error(r->engine->state, &trouble);
        if (trouble.code != ERR_NONE && !trouble.retriable) {
            *err = trouble;
            return -1;
        }
        if (trouble.code != ERR_NONE && !told) {
            log_warn("a commit fails and is tried again until it goes through: make room", "error=%s",
                     log_quote(trouble.message));
            told = true;
        }
        struct pollfd fd = {.fd = state_commit_fd(r->engine->state), .events = POLLIN};
        poll(&fd, 1, WAIT_MS);
        state_commit_ack(r->engine->state);
    }
    return 0;
}

static int replay_commit(struct replay *r, struct err *err)
{
    uint64_t ticket;
    if (replay_durable(r, err) != 0 || engine_outbox(r->engine, r->sink, err) != 0 ||
        engine_commit(r->engine, &ticket, err) != 0)
        return -1;
    state_trim(r->engine->state);
    return 0;
}

// Kafka has nothing now: until it has, or for a moment.
static void replay_wait(const struct replay *r)
{
    enum { WAIT_MS = 100 };
    struct pollfd fd = {.fd = source_fd(r->source), .events = POLLIN};
    if (fd.fd >= 0)
        poll(&fd, 1, WAIT_MS);
}

static int replay_events(struct replay *r, struct err *err)
{
    while (!source_ended(r->source)) {
        const struct event *const *events;
        uint64_t room = r->cli->config->state.commit_events - r->engine->dirty_events;
        uint32_t n;
        if (source_poll(r->source, room < REPLAY_POLL ? (uint32_t)room : REPLAY_POLL, &events, &n, err) != 0)
            return -1;
        for (uint32_t i = 0; i < n; i++) {
            if (i + INGEST_AHEAD < n)
                ingest_prefetch(r->engine->ingest, r->part_of[events[i + INGEST_AHEAD]->part],
                                events[i + INGEST_AHEAD]);
            if (replay_event(r, events[i], err) != 0)
                return -1;
            if (r->engine->ingest->n_marks > 0 && replay_train(r, err) != 0)
                return -1;
        }
        if (n == 0)
            replay_wait(r);
        r->engine->dirty_events += n;
        if (engine_commit_due(r->engine) && replay_commit(r, err) != 0)
            return -1;
        int64_t now = clock_mono_us(&r->clock);
        if (r->terminal && now - r->shown_us > PROGRESS_US) {
            r->shown_us = now;
            replay_show(r, "");
        }
    }
    return 0;
}

// Until the outbox is empty: what is durable goes to the sink, and what it has delivered goes with a commit.
static int replay_settle(struct replay *r, struct err *err)
{
    uint64_t ticket;
    if (replay_commit(r, err) != 0 || replay_durable(r, err) != 0 ||
        engine_outbox(r->engine, r->sink, err) != 0 || engine_commit(r->engine, &ticket, err) != 0)
        return -1;
    return replay_durable(r, err);
}

int replay_run(struct replay *r, bool flush, struct err *err)
{
    if (replay_events(r, err) != 0)
        return -1;
    if (flush) {
        ingest_flush(r->engine->ingest);
        if (replay_train(r, err) != 0)
            return -1;
    }
    return replay_settle(r, err);
}

// ---- opening and closing ----------------------------------------------------------------------------------

static int replay_sink(struct replay *r, const char *state_dir, struct err *err)
{
    const char *dlq = cli_value(r->cli, "dlq");
    if (dlq != NULL)
        return sink_files_new(dlq, &r->sink, err);
    if (state_dir == NULL)
        return 0;
    char dir[4200];
    snprintf(dir, sizeof dir, "%s/outbox", state_dir);
    return sink_files_new(dir, &r->sink, err);
}

int replay_open(struct replay *r, struct cli *cli, const char *dir, struct err *err)
{
    *r = (struct replay){.cli = cli,
                         .clock = clock_real(),
                         .terminal = isatty(2) != 0 && !cli->json,
                         .max_updates = UINT64_MAX};
    r->began_us = clock_mono_us(&r->clock);
    struct engine_options options = {.dir = dir};
    if (dir == NULL) {
        if (directory_temporary(r->temporary, sizeof r->temporary, err) != 0)
            return -1;
        options.dir = r->temporary;
    }
    if (engine_open(cli->config, &options, &r->engine, err) != 0)
        return -1;
    return replay_sink(r, dir, err);
}

void replay_close(struct replay *r)
{
    source_free(r->source);
    sink_free(r->sink);
    engine_close(r->engine);
    if (r->temporary[0] != '\0')
        directory_remove(r->temporary);
}

static void replay_warn_dlq(const struct replay *r)
{
    uint64_t bad = 0;
    for (int reason = 0; reason < EVENT_BAD_COUNT; reason++)
        bad += r->engine->ingest->counts.dlq[reason];
    if (bad > 0 && r->sink == NULL)
        log_warn("messages were bad and are only counted: --dlq DIR keeps them, with the reason",
                 "messages=%llu", (unsigned long long)bad);
}

static int replay_summary(struct replay *r, struct err *err)
{
    struct buf out = {0};
    struct json j = json_to(&out);
    json_object(&j);
    engine_counts_json(r->engine, &j);
    json_key(&j, "time_jumps");
    json_uint(&j, r->jumps);
    json_key(&j, "metrics");
    engine_metrics_json(r->engine, &j);
    json_key(&j, "digest");
    json_object(&j);
    int result = engine_digest_json(r->engine, &j, err);
    json_end(&j);
    json_key(&j, "seconds");
    json_double(&j, (double)(clock_mono_us(&r->clock) - r->began_us) / 1e6);
    json_end(&j);
    if (result == 0)
        printf("%.*s\n", (int)out.len, (const char *)out.data);
    buf_done(&out);
    return result;
}

// ---- the command ------------------------------------------------------------------------------------------

int replay_command(struct cli *cli)
{
    struct err err = {0};
    if (cli_given(cli, "as-committed"))
        return replay_as_committed(cli);
    if (!cli_given(cli, "events") && !cli_given(cli, "users") && !cli_given(cli, "items")) {
        struct stat in;
        bool piped = fstat(0, &in) == 0 && !S_ISCHR(in.st_mode);
        if (!piped || cli->n_values == CLI_VALUES_MAX)
            return cli_usage(cli, "--events FILE is missing (- is stdin)");
        cli->values[cli->n_values].name = "events"; // a pipe into replay means what it says
        cli->values[cli->n_values++].value = "-";
    }
    struct replay *r = mem_alloc(sizeof *r);
    int result = replay_open(r, cli, cli_value(cli, "state"), &err);
    if (result == 0)
        result = replay_open_source(r, &err);
    if (result == 0)
        result = replay_run(r, cli_given(cli, "flush"), &err);
    if (result == 0 && r->terminal)
        replay_show(r, "\n");
    if (result == 0) {
        replay_warn_dlq(r);
        result = replay_summary(r, &err);
    }
    replay_close(r);
    free(r);
    return result == 0 ? EXIT_DONE : cli_fail(cli, &err);
}
