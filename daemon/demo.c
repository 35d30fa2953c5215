// SPDX-License-Identifier: Apache-2.0
// freshet demo: the embedded broker and the simulator as processes of their own, the daemon in this one, and
// a line for every update. The simulator's truth is known, so each line also says what the best possible AUC
// was.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "daemon/commands.h"
#include "daemon/directory.h"
#include "daemon/run.h"
#include "daemon/simulator.h"

enum { DEMO_WAIT_S = 20, DEMO_UPDATES = 24, DEMO_SEED = 1 };
#define DEMO_SPEED "300" // event time by the clock
static const int64_t DEMO_START_MS = INT64_C(1767225600000);

struct demo {
    struct cli *cli;
    struct daemon *daemon;
    char dir[4096]; // broker's address, state
    bool dir_ours;
    pid_t broker, simulator;
    char address[256];
    uint64_t updates, wanted;
    bool terminal;
    struct simulator *truth; // the same draw as the simulator's, for the best possible AUC
    struct metrics best;
    int64_t truth_ms;
    double auc_sum, best_sum; // over updates after the bootstrap
    uint64_t n_after;
};

// ---- processes --------------------------------------------------------------------------------------------

static pid_t demo_spawn(char *const *args)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (freopen("/dev/null", "w", stdout) != NULL && freopen("/dev/null", "w", stderr) != NULL)
            execv("/proc/self/exe", args);
        _exit(EXIT_FAILED);
    }
    return pid;
}

static void demo_reap(pid_t pid)
{
    if (pid <= 0)
        return;
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
}

static int demo_broker(struct demo *d, struct err *err)
{
    char file[4200];
    snprintf(file, sizeof file, "%s/broker", d->dir);
    char *args[] = {"freshet", "broker", "--address-file", file, NULL};
    d->broker = demo_spawn(args);
    struct clock_source clock = clock_real();
    int64_t until = clock_now_ms(&clock) + (int64_t)DEMO_WAIT_S * 1000;
    while (clock_now_ms(&clock) < until) {
        FILE *f = fopen(file, "r");
        bool have =
            f != NULL && fgets(d->address, sizeof d->address, f) != NULL && strchr(d->address, '\n') != NULL;
        if (f != NULL)
            fclose(f);
        if (have) {
            d->address[strcspn(d->address, "\n")] = '\0';
            return 0;
        }
        if (waitpid(d->broker, NULL, WNOHANG) != 0)
            break;
        poll(NULL, 0, 20);
    }
    return err_set(err, ERR_UNAVAILABLE, "the embedded broker did not start");
}

static void demo_simulator(struct demo *d)
{
    char property[300];
    char seed[32];
    char speed[] = DEMO_SPEED;
    const char *given = cli_value(d->cli, "seed");
    snprintf(property, sizeof property, "bootstrap.servers=%s", d->address);
    snprintf(seed, sizeof seed, "%s", given != NULL ? given : "1");
    char *args[] = {"freshet", "simulate", "--kafka", "--events", "0",      "--speed",
                    speed,     "--seed",   seed,      "-X",       property, NULL};
    d->simulator = demo_spawn(args);
}

// ---- the table --------------------------------------------------------------------------------------------

// The best possible AUC of the impressions up to `until_ms` that no line has told of yet.
static double demo_best(struct demo *d, int64_t until_ms)
{
    struct buf json = {0};
    char user[24];
    char request[24];
    struct simulator_truth truth[SIMULATOR_SLATE];
    uint32_t n;
    metrics_clear(&d->best);
    while (d->truth_ms < until_ms) {
        buf_clear(&json);
        simulator_next(d->truth, false, &json, user, request, &d->truth_ms, truth, &n);
        for (uint32_t i = 0; i < n; i++) {
            float p = (float)truth[i].p;
            float label = truth[i].click;
            metrics_put(&d->best, &p, &label, NULL, 1);
        }
    }
    buf_done(&json);
    struct metrics_values v;
    metrics_values(&d->best, &v);
    return v.auc;
}

static void demo_header(const struct demo *d)
{
    const char *bold = d->terminal ? "\033[1m" : "";
    const char *plain = d->terminal ? "\033[0m" : "";
    printf(
        "%s event time  samples     auc  best    ne  calibr.     rows  version  layers  servable after%s\n",
        bold, plain);
}

static void demo_update(void *context, const struct daemon_update *u)
{
    struct demo *d = context;
    const struct update_result *r = &u->result;
    const struct metrics_values *m = &r->window[0];
    double best = demo_best(d, r->boundary_ms - d->cli->config->join.window_ms);
    uint64_t rows = 0;
    struct model *model = updater_model(d->daemon->engine->updater);
    for (uint32_t t = 0; t < model_table_count(model); t++)
        rows += table_admitted_count(model_table(model, t));
    int64_t minutes = (r->boundary_ms - DEMO_START_MS) / 60000;
    if (d->updates % 20 == 0)
        demo_header(d);
    printf("   +%02lld:%02lld h %8llu   %.3f  %.3f  %.3f   %.3f  %8llu  %7llu  %s  %6.2f s\n",
           (long long)minutes / 60, (long long)minutes % 60, (unsigned long long)r->samples, m->auc, best,
           m->ne, m->calibration, (unsigned long long)rows, (unsigned long long)r->version,
           r->frozen ? "frozen" : "all   ", (double)u->duration_us / 1e6);
    fflush(stdout);
    if (r->frozen && m->auc > 0 && best > 0) {
        d->auc_sum += m->auc;
        d->best_sum += best;
        d->n_after++;
    }
    if (++d->updates >= d->wanted)
        daemon_stop(d->daemon, EXIT_DONE);
}

static void demo_summary(const struct demo *d, const struct daemon *daemon, const struct ingest_counts *c)
{
    uint64_t feedback = 0;
    for (int a = 1; a < ACTION_MAX; a++)
        feedback += c->events[a];
    printf("\n%llu impressions and %llu events of feedback became samples; %llu versions left on topic %s.\n",
           (unsigned long long)c->events[ACTION_IMPRESSION], (unsigned long long)feedback,
           (unsigned long long)daemon->figures.n_updates, d->cli->config->publish.topic);
    if (d->n_after > 0)
        printf("With frozen layers: auc %.3f on average, %.3f was possible, so %.0f%% of the way from 0.5.\n",
               d->auc_sum / (double)d->n_after, d->best_sum / (double)d->n_after,
               100 * (d->auc_sum / (double)d->n_after - 0.5) / (d->best_sum / (double)d->n_after - 0.5));
    printf("\nWhat to try next:\n"
           "  freshet demo --keep demo-state          then  freshet get user u7 --state demo-state\n"
           "  freshet simulate --events 100000 | freshet replay --events - --flush\n"
           "  freshet check --reference > freshet.yaml and  freshet run -c freshet.yaml   with your own "
           "Kafka\n");
}

// ---- together ---------------------------------------------------------------------------------------------

static int demo_open(struct demo *d, struct err *err)
{
    const char *keep = cli_value(d->cli, "keep");
    const char *updates = cli_value(d->cli, "updates");
    const char *seed = cli_value(d->cli, "seed");
    d->wanted = updates != NULL ? strtoull(updates, NULL, 10) : DEMO_UPDATES;
    d->terminal = isatty(1) != 0 && getenv("NO_COLOR") == NULL;
    struct simulator_options options = {.users = SIMULATOR_USERS,
                                        .items = SIMULATOR_ITEMS,
                                        .slate = SIMULATOR_SLATE,
                                        .seed = seed != NULL ? strtoull(seed, NULL, 10) : DEMO_SEED,
                                        .start_ms = DEMO_START_MS,
                                        .rate = SIMULATOR_RATE,
                                        .drift = SIMULATOR_DRIFT,
                                        .life_h = SIMULATOR_LIFE_H};
    d->truth = simulator_new(&options);
    metrics_init(&d->best, 100000);
    if (directory_temporary(d->dir, sizeof d->dir, err) != 0)
        return -1;
    d->dir_ours = true;
    struct config *config = d->cli->config;
    snprintf(config->state.dir, sizeof config->state.dir, "%.4000s%s", keep != NULL ? keep : d->dir,
             keep != NULL ? "" : "/state");
    return demo_broker(d, err);
}

// The config is loaded again with the broker's address; what the demo needs comes before what the user says.
static int demo_config(struct demo *d, struct err *err)
{
    struct config *old = d->cli->config;
    struct config_override overrides[CLI_VALUES_MAX + 4] = {{"update.bootstrap.samples", "40k"},
                                                            {"http.listen", "127.0.0.1:0"},
                                                            {"log.level", "warn"},
                                                            {"state.dir", old->state.dir}};
    for (uint32_t i = 0; i < d->cli->n_overrides; i++)
        overrides[4 + i] = d->cli->overrides[i];
    const char *properties[] = {"bootstrap.servers", d->address, NULL};
    struct config *fresh;
    if (config_load(d->cli->config_file, overrides, 4 + d->cli->n_overrides, properties, &fresh, err) != 0)
        return -1;
    d->cli->config = fresh;
    config_free(old);
    cli_log_setup(fresh);
    return 0;
}

static int demo_run(struct demo *d)
{
    struct daemon *daemon = mem_zalloc(sizeof *daemon);
    daemon->cli = d->cli;
    daemon->config = d->cli->config;
    daemon->on_update = demo_update;
    daemon->on_update_context = d;
    d->daemon = daemon;
    printf("freshet demo: a broker at %s, a simulator at %s times real time, and the daemon.\n"
           "Every line is an update of 5 minutes of events.\n\n",
           d->address, DEMO_SPEED);
    fflush(stdout);
    demo_simulator(d);
    int code = daemon_run(daemon);
    if (code == EXIT_DONE)
        demo_summary(d, daemon, &daemon->last_counts);
    free(daemon);
    return code;
}

int demo_command(struct cli *cli)
{
    struct err err = {0};
    struct demo *d = mem_zalloc(sizeof *d);
    d->cli = cli;
    int code = demo_open(d, &err) == 0 && demo_config(d, &err) == 0 ? demo_run(d) : cli_fail(cli, &err);
    demo_reap(d->simulator);
    demo_reap(d->broker);
    if (d->dir_ours)
        directory_remove(d->dir);
    simulator_free(d->truth);
    metrics_done(&d->best);
    free(d);
    return code;
}
