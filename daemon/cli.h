// SPDX-License-Identifier: Apache-2.0
// The command line: one row a subcommand, from which come parsing, --help and the exit codes.
#ifndef FRESHET_DAEMON_CLI_H
#define FRESHET_DAEMON_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/config.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CONFIG = 78 };

enum { CLI_OPTIONS_MAX = 20, CLI_VALUES_MAX = 128 };

struct cli_option {
    const char *name;     // "events"
    const char *argument; // "FILE"; NULL: a switch
    const char *help;
};

struct cli {
    const struct cli_command *command;
    struct {
        const char *name, *value; // value "" for a switch
    } values[CLI_VALUES_MAX];     // the command's own options as given, in order
    uint32_t n_values;
    int n_args;
    char **args; // what is left
    const char *config_file;
    struct config_override overrides[CLI_VALUES_MAX];
    uint32_t n_overrides;
    const char *properties[2 * CLI_VALUES_MAX + 1]; // of -X
    bool json;
    struct config *config; // loaded unless the command says not to
};

struct cli_command {
    const char *name;
    const char *arguments; // "USER ITEM..."
    const char *summary;
    int min_args, max_args; // max -1: any number
    bool no_config;
    struct cli_option options[CLI_OPTIONS_MAX];
    int (*run)(struct cli *cli); // the exit code
};

// The value of an option, the last one given; NULL if it was not. `from`: continue after this index (start
// with NULL) to see every one of a repeated option.
const char *cli_value(const struct cli *cli, const char *name);
const char *cli_each(const struct cli *cli, const char *name, uint32_t *from);
bool cli_given(const struct cli *cli, const char *name);

// Prints the message (as JSON on stdout with --json) and gives the exit code that fits.
int cli_fail(const struct cli *cli, const struct err *err);
int cli_usage(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// Log level and format as the config says.
void cli_log_setup(const struct config *config);

// The whole program below main.
int cli_main(int argc, char **argv);

extern const struct cli_command *const cli_commands[]; // NULL-terminated, in the order of --help

#endif
