// SPDX-License-Identifier: Apache-2.0
// The subcommands: each returns an exit code (cli.h).
#ifndef FRESHET_DAEMON_COMMANDS_H
#define FRESHET_DAEMON_COMMANDS_H

#include "daemon/cli.h"

int run_command(struct cli *cli);
int check_command(struct cli *cli);
int replay_command(struct cli *cli);
int get_command(struct cli *cli);
int score_command(struct cli *cli);
int rank_command(struct cli *cli);
int explain_command(struct cli *cli);
int top_command(struct cli *cli);
int tap_command(struct cli *cli);
int export_command(struct cli *cli);
int import_command(struct cli *cli);
int digest_command(struct cli *cli);
int follow_command(struct cli *cli);
int broker_command(struct cli *cli);
int simulate_command(struct cli *cli);
int demo_command(struct cli *cli);
int version_command(struct cli *cli);

// ---- parts of commands

// freshet explain --model NAME (explain_model.c).
int explain_model(struct cli *cli, const char *name);
// freshet explain USER ITEM (explain_ask.c).
int explain_pair(struct cli *cli);
// Compiles the net; what nobody uses goes to stderr as "file:line:column: warning: ...".
int explain_warnings(const struct config *config, struct err *err);

#endif
