// SPDX-License-Identifier: Apache-2.0
// freshet check: the config, the net that it describes, and, unless told otherwise, what is around it.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "daemon/budget.h"
#include "daemon/commands.h"
#include "daemon/update.h"
#include "models/gemm.h"
#include "stream/source.h"

enum { CHECK_TIMEOUT_MS = 5000 };

// The state's directory, or the one that it will be made in, can be written.
static int check_directory(const struct config *config, struct err *err)
{
    char path[sizeof config->state.dir];
    snprintf(path, sizeof path, "%s", config->state.dir);
    struct stat st;
    while (stat(path, &st) != 0) {
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            snprintf(path, sizeof path, ".");
        else if (slash == path)
            path[1] = '\0';
        else
            *slash = '\0';
    }
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_CONFIG, "state.dir %s: %s is not a directory", config->state.dir, path);
    if (access(path, W_OK | X_OK) != 0)
        return err_set(err, ERR_CONFIG, "state.dir %s: %s cannot be written: %s", config->state.dir, path,
                       strerror(errno));
    return 0;
}

static int check_topic(const struct config *config, const char *topic, struct err *err)
{
    int32_t partitions;
    if (topic[0] == '\0')
        return 0;
    if (source_kafka_partitions(config->consumer.list, topic, CHECK_TIMEOUT_MS, &partitions, err) != 0)
        return err_context(err, "topic %s", topic);
    fprintf(stderr, "topic %s: %d partitions\n", topic, partitions);
    return 0;
}

static int check_environment(const struct config *config, struct err *err)
{
    if (check_directory(config, err) != 0 || check_topic(config, config->events.topic, err) != 0 ||
        check_topic(config, config->users.topic, err) != 0 ||
        check_topic(config, config->items.topic, err) != 0)
        return -1;
    return 0;
}

static void budget_print(const struct budget *budget)
{
    char bytes[32];
    for (int i = 0; i < BUDGET_FAMILIES; i++)
        printf("memory of %-8s %10s  %s\n", budget_families[i].name,
               budget_bytes_text(budget->most[i], bytes), budget_families[i].keys);
    printf("memory in all    %10s", budget_bytes_text(budget->sum, bytes));
    printf(" of %s, %s\n", budget_bytes_text(budget->limit, bytes), budget->limit_of);
}

static void budget_print_json(const struct budget *budget)
{
    struct buf out = {0};
    struct json j = json_to(&out);
    json_object(&j);
    json_key(&j, "memory");
    json_object(&j);
    json_key(&j, "limit");
    json_uint(&j, budget->limit);
    json_key(&j, "budget");
    json_uint(&j, budget->sum);
    json_key(&j, "families");
    json_object(&j);
    for (int i = 0; i < BUDGET_FAMILIES; i++) {
        json_key(&j, budget_families[i].name);
        json_uint(&j, budget->most[i]);
    }
    json_end(&j);
    json_end(&j);
    json_end(&j);
    printf("%.*s\n", (int)out.len, (const char *)out.data);
    buf_done(&out);
}

int check_command(struct cli *cli)
{
    struct err err = {0};
    const struct config *config = cli->config;
    if (cli_given(cli, "print-default")) {
        fputs(config_default_yaml(), stdout);
        return EXIT_DONE;
    }
    if (cli_given(cli, "reference")) {
        struct buf text = {0};
        config_reference(&text);
        fwrite(text.data, 1, text.len, stdout);
        buf_done(&text);
        return EXIT_DONE;
    }
    gemm_setup();
    if (config_check_profiles(config, &err) != 0 || explain_warnings(config, &err) != 0)
        return cli_fail(cli, &err);
    struct budget budget;
    enum packed_kernel kernel;
    if (budget_of(config, &budget, &err) != 0)
        return cli_fail(cli, &err);
    bool around = !cli_given(cli, "no-environment");
    if (around && (budget_check(&budget, &err) != 0 ||
                   packed_kernel_choose(config->update.kernel, &kernel, &err) != 0 ||
                   check_environment(config, &err) != 0))
        return cli_fail(cli, &err);
    if (cli->json) {
        budget_print_json(&budget);
        return EXIT_DONE;
    }
    budget_print(&budget);
    printf("%s: %u features, %u tables, model %s: fine\n",
           cli->config_file != NULL ? cli->config_file : "built-in default", config->n_features,
           config->n_tables, config->model.name);
    return EXIT_DONE;
}
