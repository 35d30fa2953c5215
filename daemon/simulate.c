// SPDX-License-Identifier: Apache-2.0
// freshet simulate: the simulator's events to stdout or to the event topic.
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "daemon/commands.h"
#include "daemon/simulator.h"
#include "daemon/views.h"
#include "models/metrics.h"
#include "stream/sink.h"

struct simulation {
    struct cli *cli;
    struct simulator *simulator;
    struct sink *sink;
    FILE *truth;
    struct metrics best; // of the true probabilities
    uint64_t impressions, wanted, sent;
    double speed; // event time by the clock; 0: not paced
    int64_t began_ms, start_ms;
};

static void simulation_truth(struct simulation *s, const char *request, int64_t ts,
                             const struct simulator_truth *t, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        float p = (float)t[i].p;
        float label = t[i].click;
        metrics_put(&s->best, &p, &label, NULL, 1);
        if (s->truth != NULL)
            fprintf(s->truth,
                    "{\"request_id\":\"%s\",\"item_id\":\"%s\",\"timestamp\":%lld,\"p\":%.9g,\"click\":%d}\n",
                    request, t[i].item, (long long)ts, t[i].p, t[i].click);
    }
    s->impressions += n;
}

static void simulation_pace(const struct simulation *s, int64_t ts)
{
    if (s->speed <= 0)
        return;
    struct clock_source clock = clock_real();
    double due = (double)s->began_ms + (double)(ts - s->start_ms) / s->speed;
    for (double left; (left = due - (double)clock_now_ms(&clock)) > 0;) {
        if (s->sink != NULL)
            sink_poll(s->sink);
        else
            fflush(stdout);
        poll(NULL, 0, left > 50 ? 50 : (int)left + 1);
    }
}

static int simulation_send(struct simulation *s, const char *user, struct buf *json, struct err *err)
{
    s->sent++;
    if (s->sink == NULL) {
        buf_put_u8(json, '\n');
        return fwrite(json->data, 1, json->len, stdout) == json->len ? 0
                                                                     : err_errno(err, "writing to stdout");
    }
    struct sink_message message = {.topic = s->cli->config->events.topic,
                                   .partition = -1,
                                   .key = str_of(user),
                                   .value = {(const char *)json->data, (uint32_t)json->len},
                                   .sequence = s->sent};
    while (sink_send(s->sink, &message, err) != 0) {
        if (!err->retriable)
            return -1;
        sink_poll(s->sink);
        poll(NULL, 0, 1);
    }
    if (s->sent % 256 == 0)
        sink_poll(s->sink);
    return 0;
}

static int simulation_loop(struct simulation *s, struct err *err)
{
    struct buf json = {0};
    char user[24];
    char request[24];
    int64_t ts;
    uint32_t n;
    struct simulator_truth truth[SIMULATOR_SLATE];
    int result = 0;
    while (result == 0) {
        bool last = s->wanted > 0 && s->impressions >= s->wanted;
        buf_clear(&json);
        if (!simulator_next(s->simulator, last, &json, user, request, &ts, truth, &n))
            break;
        simulation_truth(s, request, ts, truth, n);
        simulation_pace(s, ts);
        result = simulation_send(s, user, &json, err);
    }
    while (result == 0 && s->sink != NULL && sink_under_way(s->sink) > 0) {
        sink_poll(s->sink);
        poll(NULL, 0, 1);
    }
    buf_done(&json);
    return result;
}

// A number of an option within bounds; false was reported.
static bool simulation_number(const struct cli *cli, const char *name, double fallback, double min,
                              double max, double *ret)
{
    const char *text = cli_value(cli, name);
    char *end = NULL;
    *ret = text != NULL ? strtod(text, &end) : fallback;
    if (text == NULL || (end != text && *end == '\0' && *ret >= min && *ret <= max))
        return true;
    cli_usage(cli, "--%s %s: a number from %g to %g is expected", name, text, min, max);
    return false;
}

static bool simulation_options(struct simulation *s, struct simulator_options *o)
{
    struct clock_source clock = clock_real();
    double events;
    double users;
    double items;
    double seed;
    double slate;
    if (!simulation_number(s->cli, "events", 100000, 0, 1e15, &events) ||
        !simulation_number(s->cli, "users", SIMULATOR_USERS, 1, 1e8, &users) ||
        !simulation_number(s->cli, "items", SIMULATOR_ITEMS, 1, 1e8, &items) ||
        !simulation_number(s->cli, "seed", 1, 0, 1e15, &seed) ||
        !simulation_number(s->cli, "slate", SIMULATOR_SLATE, 1, SIMULATOR_SLATE, &slate) ||
        !simulation_number(s->cli, "rate", SIMULATOR_RATE, 1e-3, 1e7, &o->rate) ||
        !simulation_number(s->cli, "drift", SIMULATOR_DRIFT, 0, 1000, &o->drift) ||
        !simulation_number(s->cli, "delay", SIMULATOR_DELAY_S, 1e-3, 1e7, &o->delay_s) ||
        !simulation_number(s->cli, "slow", 0, 0, 1, &o->slow) ||
        !simulation_number(s->cli, "slow-delay", 3600, 1e-3, 1e7, &o->slow_s) ||
        !simulation_number(s->cli, "life", SIMULATOR_LIFE_H, 1e-3, 1e7, &o->life_h) ||
        !simulation_number(s->cli, "fresh", 0, 0, 1, &o->fresh) ||
        !simulation_number(s->cli, "speed", 0, 1e-3, 1e9, &s->speed))
        return false;
    s->wanted = (uint64_t)events;
    o->slate = (uint32_t)slate;
    o->users = (uint32_t)users;
    o->items = (uint32_t)items;
    o->seed = (uint64_t)seed;
    o->start_ms = INT64_C(1767225600000);
    const char *start = cli_value(s->cli, "start");
    if (cli_given(s->cli, "live")) {
        o->start_ms = clock_now_ms(&clock);
        s->speed = 1;
    } else if (start != NULL && view_time(start, &o->start_ms) != 0) {
        cli_usage(s->cli, "--start %s: ms, s or RFC 3339 is expected", start);
        return false;
    }
    s->start_ms = o->start_ms;
    s->began_ms = clock_now_ms(&clock);
    return true;
}

static int simulation_open(struct simulation *s, const struct simulator_options *o, struct err *err)
{
    const char *truth = cli_value(s->cli, "truth");
    metrics_init(&s->best, 1000000);
    s->simulator = simulator_new(o);
    if (truth != NULL && (s->truth = fopen(truth, "w")) == NULL)
        return err_errno(err, "opening %s", truth);
    if (!cli_given(s->cli, "kafka"))
        return 0;
    return sink_kafka_new(s->cli->config->producer.list, &s->sink, err);
}

int simulate_command(struct cli *cli)
{
    struct err err = {0};
    struct simulation s = {.cli = cli};
    struct simulator_options options = {0};
    if (!simulation_options(&s, &options))
        return EXIT_USAGE;
    int result = simulation_open(&s, &options, &err);
    if (result == 0)
        result = simulation_loop(&s, &err);
    if (result == 0) {
        struct metrics_values best;
        metrics_values(&s.best, &best);
        fprintf(
            stderr, "%llu impressions, %llu messages; best possible: auc %.4f ne %.4f (click rate %.4f)\n",
            (unsigned long long)s.impressions, (unsigned long long)s.sent, best.auc, best.ne, best.base_rate);
    }
    if (s.truth != NULL && fclose(s.truth) != 0 && result == 0)
        result = err_errno(&err, "writing the truth");
    metrics_done(&s.best);
    sink_free(s.sink);
    simulator_free(s.simulator);
    return result == 0 ? EXIT_DONE : cli_fail(cli, &err);
}
