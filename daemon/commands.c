// SPDX-License-Identifier: Apache-2.0
// The table of subcommands, and those that are a few lines.
#include "daemon/commands.h"

#include <stdio.h>

#include "daemon/directory.h"
#include "daemon/engine.h"
#include "models/gemm.h"
#include "models/packed.h"

#define STATE_OPTION                                                   \
    {                                                                  \
        "state", "DIR", "the state's directory, read without a daemon" \
    }

static const struct cli_command command_run = {
    .name = "run",
    .arguments = "",
    .summary = "the daemon",
    .run = run_command,
    .options = {{"state", "DIR", "the state's directory (config: state.dir)"},
                {"offset-gone", "WHERE",
                 "earliest or latest: where a partition goes on whose offset the broker lost"}}};

static const struct cli_command command_check = {
    .name = "check",
    .arguments = "",
    .summary = "validates the config; exit 78 and file:line:column on a mistake",
    .run = check_command,
    .options = {{"no-environment", NULL, "do not look at directories, broker and topics"},
                {"reference", NULL, "print the annotated reference config"},
                {"print-default", NULL, "print the built-in default config"}}};

static const struct cli_command command_replay = {
    .name = "replay",
    .arguments = "",
    .summary = "the same path from JSONL files, then one JSON summary",
    .run = replay_command,
    .options = {{"events", "FILE",
                 "events, - is stdin (the default when piped); several are merged by time as partitions"},
                {"users", "FILE", "user profiles"},
                {"items", "FILE", "item profiles"},
                {"flush", NULL, "move the watermark to the end of time when the files end"},
                {"state", "DIR", "keep the state there and continue where it stands"},
                {"dlq", "DIR", "bad messages go to DIR/<topic>.dlq.jsonl"},
                {"as-committed", NULL,
                 "follow the order that --state recorded into an empty state; compare digests"}}};

static const struct cli_command command_get = {
    .name = "get",
    .arguments = "user ID | item ID | embedding TABLE ID",
    .summary = "what is known of a user, an item or a feature id",
    .min_args = 2,
    .max_args = 3,
    .run = get_command,
    .options = {STATE_OPTION,
                {"at", "TS", "windows as of this time (ms or RFC 3339)"},
                {"url", "URL", "the daemon (default: http.listen of the config)"}}};

static const struct cli_command command_score = {
    .name = "score",
    .arguments = "USER ITEM...",
    .summary = "predictions for candidates, per head",
    .min_args = 2,
    .max_args = -1,
    .run = score_command,
    .options = {STATE_OPTION,
                {"at", "TS", "features as of this time"},
                {"context", "JSON", "the request's context"},
                {"url", "URL", "the daemon (default: http.listen of the config)"}}};

static const struct cli_command command_rank = {
    .name = "rank",
    .arguments = "USER",
    .summary = "candidates in order, best first, with the stage that ranked each",
    .min_args = 1,
    .max_args = 1,
    .run = rank_command,
    .options = {STATE_OPTION,
                {"items", "A,B,C", "the candidates"},
                {"items-file", "FILE", "the candidates, one a line; - is stdin"},
                {"at", "TS", "features as of this time"},
                {"context", "JSON", "the request's context"},
                {"url", "URL", "the daemon (default: http.listen of the config)"}}};

static const struct cli_command command_top = {
    .name = "top",
    .arguments = "",
    .summary = "what the daemon does, live: rates, lag, joins, progressive losses",
    .run = top_command,
    .options = {{"interval", "SECONDS", "between two looks (default 1)"},
                {"once", NULL, "one look, after one interval, and out"},
                {"url", "URL", "the daemon (default: http.listen of the config)"}}};

static const struct cli_command command_tap = {
    .name = "tap",
    .arguments = "events | samples",
    .summary = "events or samples as they pass through the daemon, as JSONL",
    .min_args = 1,
    .max_args = 1,
    .run = tap_command,
    .options = {
        {"where", "CONDITION",
         "only what fits, e.g. type=click, user_id=u1, watch_ms>=1000, labels.click=1; repeated: and"},
        {"limit", "N", "end after so many"},
        {"rate", "N", "so many a second at most; the rest is counted as dropped"},
        {"url", "URL", "the daemon (default: http.listen of the config)"}}};

static const struct cli_command command_export = {
    .name = "export",
    .arguments = "samples | predictions | counters | sequences | table NAME | dense | model",
    .summary = "JSONL or Arrow of the state, safetensors of the model",
    .min_args = 1,
    .max_args = 2,
    .run = export_command,
    .options = {STATE_OPTION,
                {"at", "TS", "counters as of this time"},
                {"out", "FILE", "where to write (default: stdout; ids of a table go to FILE.ids.jsonl)"},
                {"format", "NAME",
                 "of samples: jsonl (the default), arrow, or safetensors: the columns that the net reads"},
                {"initial", NULL, "model: as it was before any training"},
                {"from", "TS", "samples emitted at this event time or later (ms, s or RFC 3339)"},
                {"to", "TS", "and before this one"},
                {"from-sample", "N", "samples of this number or above"},
                {"to-sample", "N", "and below this one"}}};

static const struct cli_command command_import = {
    .name = "import",
    .arguments = "model",
    .summary = "a model from safetensors, as a version of its own; while no daemon runs",
    .min_args = 1,
    .max_args = 1,
    .run = import_command,
    .options = {{"state", "DIR", "the state's directory (config: state.dir)"},
                {"from", "FILE", "as export model writes it, or a part of it: dense layers, tables"},
                {"at", "TS", "when new rows count as last seen (default: the newest event)"}}};

static const struct cli_command command_explain = {
    .name = "explain",
    .arguments = "USER ITEM | --model NAME",
    .summary = "every feature of a pair and where it comes from; or the net of the config",
    .max_args = 2,
    .run = explain_command,
    .options = {STATE_OPTION,
                {"at", "TS", "USER ITEM: features as of this time"},
                {"context", "NAME=VALUE", "USER ITEM: a field of the request's context; may be repeated"},
                {"url", "URL", "the daemon (default: http.listen of the config)"},
                {"model", "NAME", "the model: shapes, parameters, work, sides"},
                {"dot", NULL, "with --model: Graphviz instead of text"}}};

static const struct cli_command command_digest = {.name = "digest",
                                                  .arguments = "",
                                                  .summary = "digests of everything in a state",
                                                  .run = digest_command,
                                                  .options = {STATE_OPTION}};

static const struct cli_command command_follow = {
    .name = "follow",
    .arguments = "",
    .summary = "copies the model from the delta topic and proves it equal",
    .run = follow_command,
    .options = {
        {"state", "DIR", "where the copy is kept (default: freshet-follow)"},
        {"once", NULL, "end when caught up"},
        {"until", "VERSION", "end at this version"},
        {"from", "DIR", "begin with the snapshot of a state, when the topic no longer holds the beginning"},
        {"digest", NULL, "print the copy's digests when done"},
        {"model", "FILE", "write the copy as a model when done: what import model reads"}}};

static const struct cli_command command_broker = {
    .name = "broker",
    .arguments = "",
    .summary = "an embedded Kafka broker for a first try: nothing on disk",
    .run = broker_command,
    .options = {{"partitions", "N", "of the event topic (default 4)"},
                {"topic", "NAME[:N]", "another topic, with N partitions"},
                {"address-file", "FILE", "write host:port there when it is up"}}};

static const struct cli_command command_simulate = {
    .name = "simulate",
    .arguments = "",
    .summary = "events with a known, drifting truth",
    .run = simulate_command,
    .options = {{"events", "N", "impressions to draw (default 100000; 0: endless)"},
                {"users", "N", "default 1000"},
                {"items", "N", "alive at once, default 300"},
                {"slate", "N", "items of a request, 1 to 4 (default 4)"},
                {"seed", "N", "default 1"},
                {"rate", "N", "impressions a second of event time (default 50)"},
                {"live", NULL, "timestamps are now, paced by the clock"},
                {"start", "TS", "first timestamp (default 2026-01-01T00:00:00Z)"},
                {"speed", "X",
                 "with --kafka: event time runs X times as fast as the clock (default: as fast as it goes)"},
                {"drift", "X", "how fast tastes turn, radians an hour (default 0.5)"},
                {"delay", "S", "seconds from an impression to its click, on average (default 8)"},
                {"slow", "X", "share of the clicks that come later than that (default 0)"},
                {"slow-delay", "S", "theirs, on average (default 3600)"},
                {"life", "H", "hours that an item is shown, on average (default 24)"},
                {"fresh", "X", "share of the requests of a user who never came before (default 0)"},
                {"truth", "FILE", "true click probability of every impression, JSONL"},
                {"kafka", NULL, "produce to the event topic instead of stdout"}}};

static const struct cli_command command_demo = {
    .name = "demo",
    .arguments = "",
    .summary = "broker, simulator and daemon together, with a live table",
    .run = demo_command,
    .options = {{"updates", "N", "end after N updates (default 24)"},
                {"seed", "N", "of the simulator"},
                {"keep", "DIR", "keep the state there"}}};

static const struct cli_command command_version = {.name = "version",
                                                   .arguments = "",
                                                   .summary = "version and kernels",
                                                   .no_config = true,
                                                   .run = version_command};

const struct cli_command *const cli_commands[] = {
    &command_demo,   &command_run,    &command_check,  &command_replay,   &command_get,     &command_score,
    &command_rank,   &command_top,    &command_tap,    &command_explain,  &command_export,  &command_import,
    &command_digest, &command_follow, &command_broker, &command_simulate, &command_version, NULL};

int version_command(struct cli *cli)
{
    (void)cli;
    gemm_setup();
    struct err err;
    enum packed_kernel kernel;
    packed_kernel_choose(PACKED_AUTO, &kernel, &err); // which never fails
    printf("freshet %s\n%s\n%s\n", FRESHET_VERSION, gemm_kernel(), packed_kernel_name(kernel));
    return EXIT_DONE;
}

int digest_command(struct cli *cli)
{
    struct err err = {0};
    struct engine *engine;
    struct engine_options options = {
        .dir = cli_value(cli, "state"), .read_only = true, .fail_if_absent = true};
    if (engine_open(cli->config, &options, &engine, &err) != 0)
        return cli_fail(cli, &err);
    struct buf out = {0};
    struct json j = json_to(&out);
    json_object(&j);
    int result = engine_digest_json(engine, &j, &err);
    json_end(&j);
    if (result == 0)
        printf("%.*s\n", (int)out.len, (const char *)out.data);
    buf_done(&out);
    engine_close(engine);
    return result == 0 ? EXIT_DONE : cli_fail(cli, &err);
}
