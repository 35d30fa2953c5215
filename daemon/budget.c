// SPDX-License-Identifier: Apache-2.0
// Each family's bound is worked out by who knows it (state_memory_most, table_budget_bytes, http_bytes_most); here
// they meet. What is reserved and not touched costs nothing, but it may be touched: the bound counts.
//
// The limit is the least of MemTotal and of memory.max (cgroup v2) or memory.limit_in_bytes (v1) of our control
// group and those above it.
#include "daemon/budget.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/http.h"
#include "daemon/run.h"
#include "models/net.h"

#define MIB (UINT64_C(1) << 20)

#define COMMIT_LEAST (UINT64_C(128) << 20)
#define COMMIT_MOST (UINT64_C(1) << 30)

enum {
    COMMIT_SHARE = 16,   // of the limit, for what waits for a commit
    LARGEST = 3,         // families that the refusal names
    SINK_MESSAGES = 25,  // MiB: 100,000 messages that librdkafka keeps until they are confirmed
    SINK_KBYTES = 65536, // queue.buffering.max.kbytes where the config has none
    // MiB: code, stacks, a fetch that is being read, chunks of decoded events, columns of a chunk of samples, taps,
    // BLAS, and what malloc has not given back.
    PROGRAM = 96,
    ROW_RECORD = 11 + 12 + 56, // of a row in the commit of a version: key, head, and its entry in the batch
    ROW_DELTA = 40,            // and in the delta: id, text, head
    UPDATE_PARAMS = 2,         // of dense layers that an update trains: a copy, and the gradient
};

const struct budget_about budget_families[BUDGET_FAMILIES] = {
    [BUDGET_ENTITIES] = {"entities", "state.cache", "users, items and groups"},
    [BUDGET_BODIES] = {"bodies", "state.body_cache", "encoded impressions that are durable"},
    [BUDGET_BLOCKS] = {"blocks", "state.block_cache", "blocks of the store"},
    [BUDGET_STORE] = {"store", "", "RocksDB beside its blocks"},
    [BUDGET_JOINER] = {"joiner", "join.max_pending", "impressions that are known, feedback that waits"},
    [BUDGET_DEDUPE] = {"dedupe", "dedupe.max", "ids seen"},
    [BUDGET_COMMIT] = {"commit", "state.commit_bytes", "what is not durable yet"},
    [BUDGET_NAMES] = {"names", "", "texts and tombstones of late"},
    [BUDGET_TABLES] = {"tables", "rows of tables", "rows of the embedding tables"},
    [BUDGET_UPDATE] = {"update", "rows of tables",
                       "rows that an update touches, and writing them; dense layers that it trains",
                       .fixed = true},
    [BUDGET_MODEL] = {"model", "models, update.kernel",
                      "dense layers, as they are and packed, and what a batch needs"},
    [BUDGET_ITEMS] = {"items", "models.NAME.item_cache", "outputs of the item's side"},
    [BUDGET_SOURCE] = {"source", "stream.queue", "messages fetched", .fixed = true},
    [BUDGET_SINK] = {"sink", "kafka.producer.queue.buffering.max.kbytes", "messages to be confirmed",
                     .fixed = true},
    [BUDGET_HTTP] = {"http", "http.connections, http.body", "connections, bodies, answers"},
    [BUDGET_PROGRAM] = {"program", "", "code, stacks, buffers", .fixed = true},
};

// ---- the machine ------------------------------------------------------------------------------------------

static uint64_t machine_bytes(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

// UINT64_MAX: no such file, or no bound in it.
static uint64_t file_bytes(const char *path)
{
    unsigned long long bytes = 0;
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return UINT64_MAX;
    bool found = fscanf(f, "%llu", &bytes) == 1;
    fclose(f);
    return found ? bytes : UINT64_MAX;
}

// Of the group and those above it, the least.
static uint64_t group_bytes(const char *root, char *group, const char *file)
{
    uint64_t least = UINT64_MAX;
    char path[4400];
    for (;;) {
        snprintf(path, sizeof path, "%s%s/%s", root, group, file);
        uint64_t bytes = file_bytes(path);
        least = bytes < least ? bytes : least;
        char *slash = strrchr(group, '/');
        if (slash == NULL)
            return least;
        *slash = '\0';
    }
}

// A line of /proc/self/cgroup is "0::/a/b" (v2) or "5:memory:/a/b" (v1).
static uint64_t groups_bytes(void)
{
    char line[4200];
    uint64_t least = UINT64_MAX;
    FILE *f = fopen("/proc/self/cgroup", "r");
    if (f == NULL)
        return least;
    while (fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *group = strchr(line, '/');
        bool v1 = strstr(line, ":memory:") != NULL;
        if (group == NULL || (!v1 && strncmp(line, "0::", 3) != 0))
            continue;
        uint64_t bytes = v1 ? group_bytes("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes")
                            : group_bytes("/sys/fs/cgroup", group, "memory.max");
        least = bytes < least ? bytes : least;
    }
    fclose(f);
    return least;
}

static void budget_limit(const struct config *config, struct budget *b)
{
    uint64_t groups = groups_bytes();
    b->limit = machine_bytes();
    b->limit_of = "the memory of the machine";
    if (groups < b->limit) {
        b->limit = groups;
        b->limit_of = "the memory of the control group";
    }
    if (config->memory_limit > 0) {
        b->limit = config->memory_limit;
        b->limit_of = "memory.limit";
    }
}

uint64_t budget_commit_bytes(const struct config *config)
{
    struct budget b;
    if (config->state.commit_bytes > 0)
        return config->state.commit_bytes;
    budget_limit(config, &b);
    uint64_t share = b.limit / COMMIT_SHARE;
    return share < COMMIT_LEAST ? COMMIT_LEAST : share > COMMIT_MOST ? COMMIT_MOST : share;
}

// ---- at most ----------------------------------------------------------------------------------------------

static void budget_state(const struct config *config, struct budget *b)
{
    static const enum budget_family of[STATE_MEMORY_KINDS] = {
        [STATE_MEMORY_ENTITIES] = BUDGET_ENTITIES, [STATE_MEMORY_BODIES] = BUDGET_BODIES,
        [STATE_MEMORY_BLOCKS] = BUDGET_BLOCKS,     [STATE_MEMORY_STORE] = BUDGET_STORE,
        [STATE_MEMORY_JOINER] = BUDGET_JOINER,     [STATE_MEMORY_DEDUPE] = BUDGET_DEDUPE,
        [STATE_MEMORY_COMMIT] = BUDGET_COMMIT,     [STATE_MEMORY_REST] = BUDGET_NAMES,
    };
    struct state_options options;
    struct state_memory most;
    engine_state_options(config, &options);
    state_memory_most(&options, budget_commit_bytes(config), &most);
    for (int i = 0; i < STATE_MEMORY_KINDS; i++)
        b->most[of[i]] = most.bytes[i];
}

static int budget_model(const struct config *config, struct budget *b, struct err *err)
{
    struct features_net features;
    struct net *net;
    if (updater_net_new(config, &features, &net, err) != 0)
        return -1;
    const enum packed_kernel asked = config->update.kernel,
                             kernel = asked == PACKED_AUTO ? PACKED_FLOAT : asked; // may be less then
    const struct optimizer dense = config_optimizer(&config->update.dense);
    const uint64_t params = net_param_floats(net) * sizeof(float),
                   state = net_state_floats(net, &dense) * sizeof(float);
    // One net serves and one is trained.
    b->most[BUDGET_MODEL] = 2 * net_arena_bytes(net) + params + state + net_packed_most(net, kernel, false) +
                            net_packed_most(net, kernel, true);
    if (config->update.enabled)
        b->most[BUDGET_UPDATE] = UPDATE_PARAMS * params + state;
    for (uint32_t i = 0, dim; i < net_block_count(net); i++)
        if (net_block_tower(net, i, &dim))
            b->most[BUDGET_ITEMS] = config->model.item_cache;
    for (uint32_t i = 0; i < features.n_tables; i++) {
        const struct table_options *t = &features.tables[i];
        const uint64_t vector = t->dim * sizeof(float);
        const uint64_t beside = vector * optimizer_state(t->optimizer.kind);
        b->most[BUDGET_TABLES] += table_budget_bytes(t);
        if (config->update.enabled)
            b->most[BUDGET_UPDATE] += overlay_budget_bytes(t) + t->rows * (ROW_RECORD + vector + beside) +
                                      (config->publish.enabled ? t->rows * (ROW_DELTA + vector) : 0);
    }
    net_free(net);
    features_net_done(&features);
    return 0;
}

static uint64_t sink_bytes(const struct config *config)
{
    uint64_t kbytes = SINK_KBYTES;
    const char *const *list = config->producer.list;
    for (; list != NULL && list[0] != NULL; list += 2)
        if (strcmp(list[0], "queue.buffering.max.kbytes") == 0)
            kbytes = strtoull(list[1], NULL, 10);
    uint64_t sinks = 1 + (config->publish.samples_topic[0] != '\0');
    return sinks * ((kbytes << 10) + SINK_MESSAGES * MIB);
}

int budget_of(const struct config *config, struct budget *ret_budget, struct err *err)
{
    struct budget b = {.most = {[BUDGET_SOURCE] = config->queue_bytes,
                                [BUDGET_SINK] = sink_bytes(config),
                                [BUDGET_HTTP] = http_bytes_most(config),
                                [BUDGET_PROGRAM] = PROGRAM * MIB}};
    budget_state(config, &b);
    if (budget_model(config, &b, err) != 0)
        return -1;
    for (int i = 0; i < BUDGET_FAMILIES; i++)
        b.sum += b.most[i];
    budget_limit(config, &b);
    *ret_budget = b;
    return 0;
}

// ---- too much ---------------------------------------------------------------------------------------------

const char *budget_bytes_text(uint64_t bytes, char text[32])
{
    if (bytes >= 1024 * MIB)
        snprintf(text, 32, "%.1f GiB", (double)bytes / (double)(1024 * MIB));
    else
        snprintf(text, 32, "%.0f MiB", (double)bytes / (double)MIB);
    return text;
}

static int budget_largest(const struct budget *b, int below)
{
    int largest = -1;
    for (int i = 0; i < BUDGET_FAMILIES; i++) {
        bool smaller =
            below < 0 || b->most[i] < b->most[below] || (b->most[i] == b->most[below] && i > below);
        if (budget_families[i].keys[0] != '\0' && smaller && (largest < 0 || b->most[i] > b->most[largest]))
            largest = i;
    }
    return largest;
}

int budget_check(const struct budget *budget, struct err *err)
{
    char sum[32], limit[32], bytes[32];
    char names[512] = "";
    size_t at = 0;
    if (budget->sum <= budget->limit)
        return 0;
    int family = -1;
    for (int k = 0; k < LARGEST && at < sizeof names; k++) {
        family = budget_largest(budget, family);
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s %s (%s)", k > 0 ? ", " : "",
                               budget_families[family].name, budget_bytes_text(budget->most[family], bytes),
                               budget_families[family].keys);
    }
    return err_set(
        err, ERR_CONFIG,
        "the budgets of the config are %s in all, and %s is %s; the largest: %s. Make them smaller, or say "
        "by memory.limit what may be used",
        budget_bytes_text(budget->sum, sum), budget->limit_of, budget_bytes_text(budget->limit, limit),
        names);
}

// ---- now --------------------------------------------------------------------------------------------------

void budget_used(const struct daemon *d, uint64_t ret_used[BUDGET_FAMILIES])
{
    struct state_memory used;
    struct model *model = updater_model(d->engine->updater);
    state_memory(d->engine->state, &used);
    memset(ret_used, 0, BUDGET_FAMILIES * sizeof *ret_used);
    ret_used[BUDGET_ENTITIES] = used.bytes[STATE_MEMORY_ENTITIES];
    ret_used[BUDGET_BODIES] = used.bytes[STATE_MEMORY_BODIES];
    ret_used[BUDGET_BLOCKS] = used.bytes[STATE_MEMORY_BLOCKS];
    ret_used[BUDGET_STORE] = used.bytes[STATE_MEMORY_STORE];
    ret_used[BUDGET_JOINER] = used.bytes[STATE_MEMORY_JOINER];
    ret_used[BUDGET_DEDUPE] = used.bytes[STATE_MEMORY_DEDUPE];
    ret_used[BUDGET_COMMIT] = used.bytes[STATE_MEMORY_COMMIT];
    ret_used[BUDGET_NAMES] = used.bytes[STATE_MEMORY_REST];
    for (uint32_t t = 0; t < model_table_count(model); t++)
        ret_used[BUDGET_TABLES] += table_bytes(model_table(model, t));
    ret_used[BUDGET_MODEL] = model_bytes(model);
    struct model_tower_figures items;
    model_tower_figures(model, &items);
    ret_used[BUDGET_ITEMS] = items.bytes;
    if (d->http != NULL)
        ret_used[BUDGET_HTTP] = http_bytes(d->http);
}
