// SPDX-License-Identifier: Apache-2.0
// What replay.c shares with as_committed.c: an engine, a source, and the loop between them.
#ifndef FRESHET_DAEMON_REPLAY_H
#define FRESHET_DAEMON_REPLAY_H

#include "base/clock.h"
#include "daemon/cli.h"
#include "daemon/engine.h"
#include "stream/source.h"

enum { REPLAY_FILES_MAX = 256 };

struct replay {
    struct cli *cli;
    struct engine *engine;
    struct source *source;
    struct sink *sink;
    uint32_t part_of[INGEST_PARTS_MAX];  // source part -> ingest part
    const char *paths[REPLAY_FILES_MAX]; // by source part; NULL: no file
    uint64_t jumps;                      // events far ahead of all before them in their file
    struct clock_source clock;
    int64_t began_us, shown_us;
    bool terminal;
    uint64_t max_updates; // windows beyond so many wait untrained, as they did in a recording
    char temporary[4096]; // the state's directory, when it is ours to remove
};

// dir NULL: a temporary state. Opens the engine and the sink; replay_open_source the files of the options.
int replay_open(struct replay *r, struct cli *cli, const char *dir, struct err *err);
int replay_open_source(struct replay *r, struct err *err);
// Events until the source ends, then the end of time if `flush`, then everything durable.
int replay_run(struct replay *r, bool flush, struct err *err);
void replay_close(struct replay *r);

int replay_as_committed(struct cli *cli);

#endif
