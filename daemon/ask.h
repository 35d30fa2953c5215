// SPDX-License-Identifier: Apache-2.0
// What `get` and `score` share: an answer from the running daemon, or from a state's directory.
#ifndef FRESHET_DAEMON_ASK_H
#define FRESHET_DAEMON_ASK_H

#include "daemon/cli.h"
#include "daemon/engine.h"
#include "daemon/view_print.h"

struct ask {
    enum view_kind kind;
    const char *method;
    struct buf path; // over HTTP
    struct buf body;
    // from a state
    int (*view)(void *context, struct engine *e, struct json *j, struct err *err);
    void *context;
};

// Asks, prints, frees the buffers of *ask. The exit code.
int ask_command(struct cli *cli, struct ask *ask);

// Where the daemon is: --url, or where the config's daemon listens.
int ask_url(const struct cli *cli, char *url, size_t size, struct err *err);
// The body of GET `path` from the running daemon; what is not 200 is an error with its detail. Retriable: it is away.
int ask_get(const struct cli *cli, const char *path, struct buf *ret_body, struct err *err);

#endif
