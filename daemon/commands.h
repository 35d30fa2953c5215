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
int export_command(struct cli *cli);
int digest_command(struct cli *cli);
int follow_command(struct cli *cli);
int broker_command(struct cli *cli);
int simulate_command(struct cli *cli);
int demo_command(struct cli *cli);
int version_command(struct cli *cli);

#endif
