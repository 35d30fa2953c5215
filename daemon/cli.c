// SPDX-License-Identifier: Apache-2.0
// See cli.h. Options may stand before or after arguments; "--" ends them.
#include "daemon/cli.h"

#include <assert.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/log.h"

enum { OPTION_SET = 256, OPTION_JSON, OPTION_VERSION, OPTION_OWN };

const char *cli_each(const struct cli *cli, const char *name, uint32_t *from)
{
    for (uint32_t i = *from; i < cli->n_values; i++)
        if (strcmp(cli->values[i].name, name) == 0) {
            *from = i + 1;
            return cli->values[i].value;
        }
    return NULL;
}

const char *cli_value(const struct cli *cli, const char *name)
{
    const char *last = NULL;
    uint32_t from = 0;
    for (const char *v; (v = cli_each(cli, name, &from)) != NULL;)
        last = v;
    return last;
}

bool cli_given(const struct cli *cli, const char *name)
{
    return cli_value(cli, name) != NULL;
}

int cli_fail(const struct cli *cli, const struct err *err)
{
    int code = err->code == ERR_CONFIG ? EXIT_CONFIG : EXIT_FAILED;
    if (cli->json) {
        struct buf out = {0};
        struct json j = json_to(&out);
        json_object(&j);
        json_key(&j, "error");
        json_string(&j, err->message);
        json_key(&j, "retriable");
        json_bool(&j, err->retriable);
        json_end(&j);
        printf("%.*s\n", (int)out.len, (const char *)out.data);
        buf_done(&out);
    }
    fprintf(stderr, err->code == ERR_CONFIG ? "%s\n" : "freshet: %s\n", err->message);
    return code;
}

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "freshet %s: ", cli->command->name);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\nTry: freshet %s --help\n", cli->command->name);
    return EXIT_USAGE;
}

static void cli_help_all(FILE *to)
{
    fprintf(to, "freshet keeps a recommender fresh: events in, features, samples and embeddings out.\n\n"
                "Usage: freshet COMMAND [OPTIONS]\n\nCommands:\n");
    for (uint32_t i = 0; cli_commands[i] != NULL; i++)
        fprintf(to, "  %-10s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
    fprintf(to, "\nOptions of every command:\n"
                "  -c FILE            the config; without it the built-in default\n"
                "  --set PATH=VALUE   overrides one config key, e.g. --set update.every=1m\n"
                "  -X PROP=VALUE      one librdkafka property, e.g. -X bootstrap.servers=kafka:9092\n"
                "  --json             stdout is one JSON document, or JSON lines\n"
                "  -h, --help         of the program, or of a command\n"
                "  --version\n\nFirst try: freshet demo\n");
}

static void cli_help(const struct cli_command *command)
{
    printf("Usage: freshet %s [OPTIONS]%s%s\n\n%s\n", command->name, *command->arguments ? " " : "",
           command->arguments, command->summary);
    if (command->options[0].name != NULL)
        printf("\nOptions:\n");
    for (int i = 0; i < CLI_OPTIONS_MAX && command->options[i].name != NULL; i++) {
        const struct cli_option *o = &command->options[i];
        char left[80];
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->argument != NULL ? " " : "",
                 o->argument != NULL ? o->argument : "");
        printf("  %-24s %s\n", left, o->help);
    }
    printf("\nAlso -c FILE, --set PATH=VALUE, -X PROP=VALUE, --json: see freshet --help.\n");
}

// PATH=VALUE cut at the first '='; NULL if there is none.
static char *cli_split(char *text)
{
    assert(text != NULL); // getopt sees to it
    char *eq = strchr(text, '=');
    if (eq != NULL)
        *eq++ = '\0';
    return eq;
}

static int cli_option_take(struct cli *cli, int option, char *argument)
{
    char *value;
    switch (option) {
    case 'c':
        cli->config_file = argument;
        return 0;
    case OPTION_JSON:
        cli->json = true;
        return 0;
    case OPTION_SET:
    case 'X':
        value = cli_split(argument);
        if (value == NULL)
            return cli_usage(cli, "%s %s: NAME=VALUE is expected", option == 'X' ? "-X" : "--set", argument);
        if (cli->n_overrides == CLI_VALUES_MAX)
            return cli_usage(cli, "more than %d options", CLI_VALUES_MAX);
        if (option == OPTION_SET) {
            cli->overrides[cli->n_overrides++] = (struct config_override){argument, value};
            return 0;
        }
        for (uint32_t i = 0; i < 2 * CLI_VALUES_MAX; i += 2)
            if (cli->properties[i] == NULL) {
                cli->properties[i] = argument;
                cli->properties[i + 1] = value;
                return 0;
            }
        return cli_usage(cli, "more than %d properties", CLI_VALUES_MAX);
    default:
        return EXIT_USAGE;
    }
}

static uint32_t cli_long_options(const struct cli_command *command, struct option *to)
{
    uint32_t n = 0;
    to[n++] = (struct option){"set", required_argument, NULL, OPTION_SET};
    to[n++] = (struct option){"json", no_argument, NULL, OPTION_JSON};
    to[n++] = (struct option){"help", no_argument, NULL, 'h'};
    to[n++] = (struct option){"version", no_argument, NULL, OPTION_VERSION};
    for (int i = 0; i < CLI_OPTIONS_MAX && command->options[i].name != NULL; i++)
        to[n++] = (struct option){command->options[i].name,
                                  command->options[i].argument != NULL ? required_argument : no_argument,
                                  NULL, OPTION_OWN + i};
    to[n] = (struct option){0};
    return n;
}

// 0: parsed; -1: done (help was printed); else an exit code.
static int cli_parse(struct cli *cli, int argc, char **argv)
{
    struct option options[CLI_OPTIONS_MAX + 8];
    cli_long_options(cli->command, options);
    optind = 1;
    for (int option; (option = getopt_long(argc, argv, "c:X:h", options, NULL)) != -1;) {
        if (option == 'h') {
            cli_help(cli->command);
            return -1;
        }
        if (option == OPTION_VERSION) {
            printf("freshet %s\n", FRESHET_VERSION);
            return -1;
        }
        if (option == '?')
            return cli_usage(cli, "see the options below");
        if (option >= OPTION_OWN) {
            if (cli->n_values == CLI_VALUES_MAX)
                return cli_usage(cli, "more than %d options", CLI_VALUES_MAX);
            cli->values[cli->n_values].name = cli->command->options[option - OPTION_OWN].name;
            cli->values[cli->n_values++].value = optarg != NULL ? optarg : "";
            continue;
        }
        int code = cli_option_take(cli, option, optarg);
        if (code != 0)
            return code;
    }
    cli->args = argv + optind;
    cli->n_args = argc - optind;
    if (cli->n_args < cli->command->min_args)
        return cli_usage(cli, "%s is missing", cli->command->arguments);
    if (cli->command->max_args >= 0 && cli->n_args > cli->command->max_args)
        return cli_usage(cli, "\"%s\" is too much", cli->args[cli->command->max_args]);
    return 0;
}

void cli_log_setup(const struct config *config)
{
    assert(config != NULL);
    static const struct {
        const char *name;
        enum log_level level;
    } levels[] = {{"error", LOG_LEVEL_ERROR},
                  {"warn", LOG_LEVEL_WARN},
                  {"info", LOG_LEVEL_INFO},
                  {"debug", LOG_LEVEL_DEBUG}};
    for (uint32_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (strcmp(levels[i].name, config->log.level) == 0)
            log_setup(levels[i].level, config->log.json);
}

static int cli_run(struct cli *cli)
{
    struct err err = {0};
    if (cli->command->no_config)
        return cli->command->run(cli);
    if (config_load(cli->config_file, cli->overrides, cli->n_overrides, cli->properties, &cli->config,
                    &err) != 0)
        return cli_fail(cli, &err);
    cli_log_setup(cli->config);
    int code = cli->command->run(cli);
    config_free(cli->config);
    return code;
}

int cli_main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "--help";
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        name = "version";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        cli_help_all(argc > 1 ? stdout : stderr);
        return argc > 1 ? EXIT_DONE : EXIT_USAGE;
    }
    for (uint32_t i = 0; cli_commands[i] != NULL; i++) {
        if (strcmp(cli_commands[i]->name, name) != 0)
            continue;
        struct cli *cli = calloc(1, sizeof *cli);
        if (cli == NULL)
            return EXIT_FAILED;
        cli->command = cli_commands[i];
        int code = cli_parse(cli, argc - 1, argv + 1);
        if (code == 0)
            code = cli_run(cli);
        free(cli);
        if (fflush(stdout) != 0 && code == EXIT_DONE)
            code = EXIT_FAILED;
        return code < 0 ? EXIT_DONE : code;
    }
    fprintf(stderr, "freshet: unknown command \"%s\"\n", name);
    cli_help_all(stderr);
    return EXIT_USAGE;
}
