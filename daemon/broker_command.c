// SPDX-License-Identifier: Apache-2.0
// freshet broker: the embedded broker as a process of its own, so that a first try needs no Java.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/commands.h"
#include "stream/broker.h"

enum { BROKER_TOPICS_MAX = 32 };

static void broker_topic_add(struct broker_topic *topics, uint32_t *n, const char *name, int32_t partitions)
{
    if (*n < BROKER_TOPICS_MAX && name[0] != '\0')
        topics[(*n)++] = (struct broker_topic){name, partitions};
}

// NAME or NAME:N; the name is cut in place.
static int32_t broker_topic_parse(char *text)
{
    char *colon = strchr(text, ':');
    if (colon == NULL)
        return 1;
    *colon = '\0';
    long n = strtol(colon + 1, NULL, 10);
    return n > 0 && n < 1000 ? (int32_t)n : 1;
}

static int broker_address_write(const char *path, const char *address, struct err *err)
{
    FILE *f = fopen(path, "w");
    if (f == NULL)
        return err_errno(err, "opening %s", path);
    fprintf(f, "%s\n", address);
    return fclose(f) == 0 ? 0 : err_errno(err, "writing %s", path);
}

static void broker_wait(void)
{
    sigset_t set;
    int number;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigwait(&set, &number);
}

int broker_command(struct cli *cli)
{
    const struct config *config = cli->config;
    struct broker_topic topics[BROKER_TOPICS_MAX];
    char names[BROKER_TOPICS_MAX][300];
    uint32_t n = 0;
    struct broker *broker;
    struct err err = {0};
    const char *partitions = cli_value(cli, "partitions");
    int32_t events = partitions != NULL ? (int32_t)strtol(partitions, NULL, 10) : 4;
    if (events < 1 || events > 1000)
        return cli_usage(cli, "--partitions %s: 1 to 1000", partitions);
    // Threads of the broker must not take the signals that this one waits for.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    broker_topic_add(topics, &n, config->events.topic, events);
    broker_topic_add(topics, &n, config->users.topic, events);
    broker_topic_add(topics, &n, config->items.topic, events);
    broker_topic_add(topics, &n, config->publish.topic, 1);
    broker_topic_add(topics, &n, config->publish.samples_topic, events);
    snprintf(names[0], sizeof names[0], "%s%s", config->events.topic, config->dlq_suffix);
    broker_topic_add(topics, &n, names[0], 1);
    uint32_t from = 0;
    uint32_t own = 1;
    for (const char *topic; (topic = cli_each(cli, "topic", &from)) != NULL && own < BROKER_TOPICS_MAX;
         own++) {
        snprintf(names[own], sizeof names[own], "%s", topic);
        int32_t count = broker_topic_parse(names[own]);
        broker_topic_add(topics, &n, names[own], count);
    }
    if (broker_new(topics, n, &broker, &err) != 0)
        return cli_fail(cli, &err);
    const char *file = cli_value(cli, "address-file");
    int result = file != NULL ? broker_address_write(file, broker_address(broker), &err) : 0;
    printf("%s\n", broker_address(broker));
    fflush(stdout);
    if (result == 0)
        broker_wait();
    broker_free(broker);
    return result == 0 ? EXIT_DONE : cli_fail(cli, &err);
}
