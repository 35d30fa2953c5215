// SPDX-License-Identifier: Apache-2.0
// See update.h. The model and its version live here; what they are on disk is in update_store.c, what leaves
// on the delta topic in publish.c.
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/step.h"
#include "daemon/learned.h"
#include "daemon/targets.h"
#include "daemon/update_impl.h"
#include "models/gemm.h"

enum { SHAPES_MAX = 256, CHUNK_BATCHES = 16 };

const char *update_brake_name(enum update_brake brake)
{
    static const char *const names[BRAKE_COUNT] = {"none", "finite", "ne", "calibration", "row_norm"};
    return names[brake];
}

// ---- the model of the config ------------------------------------------------------------------------------

// A net error as the config's: at the block or head that does not fit.
static int updater_net_error(const struct config *config, const struct features_net *net, uint32_t block,
                             struct err *err)
{
    const struct config_at *at = &config->model.at;
    if (block < net->spec.n_blocks && net->block_of[block] != UINT32_MAX)
        at = &config->model.blocks[net->block_of[block]].at;
    else if (block >= net->spec.n_blocks && block - net->spec.n_blocks < config->model.n_heads)
        at = &config->model.heads[block - net->spec.n_blocks].at;
    char text[4200];
    err_context(err, "%s", config_at_text(at, text, sizeof text));
    err->code = ERR_CONFIG;
    return -1;
}

static int updater_model_new(const struct config *config, const struct features_net *net,
                             enum packed_kernel kernel, struct model **ret_model, struct err *err)
{
    struct model_options options = {.net = net->spec,
                                    .n_tables = net->n_tables,
                                    .tables = net->tables,
                                    .bootstrap_samples = config->update.bootstrap_samples,
                                    .dense = config_optimizer(&config->update.dense),
                                    .epochs = config->update.epochs,
                                    .seed = config->update.seed,
                                    .auc_samples = METRICS_SCORES,
                                    .kernel = kernel,
                                    .tower_bytes = config->model.item_cache};
    uint32_t block = 0;
    if (model_new(&options, ret_model, &block, err) != 0)
        return updater_net_error(config, net, block, err);
    return 0;
}

int updater_net_new(const struct config *config, struct features_net *ret_features, struct net **ret_net,
                    struct err *err)
{
    uint32_t block = 0;
    features_net_new(config, ret_features);
    if (net_new(&ret_features->spec, ret_net, &block, err) == 0)
        return 0;
    updater_net_error(config, ret_features, block, err);
    features_net_done(ret_features);
    return -1;
}

// Every product of the plan beside its naive twin: a daemon that would train on wrong numbers does not start.
static int updater_kernels(struct updater *u, struct err *err)
{
    uint32_t shapes[SHAPES_MAX][3];
    uint32_t n = net_shapes(model_net(u->model), SHAPES_MAX, shapes);
    for (uint32_t i = 0; i < n && i < SHAPES_MAX; i++)
        if (gemm_check(shapes[i][0], shapes[i][1], shapes[i][2], err) != 0)
            return err_context(err, "self-check of %s", gemm_kernel());
    return 0;
}

static int updater_build(struct updater *u, struct err *err)
{
    gemm_setup();
    features_net_new(u->config, &u->net);
    if (packed_kernel_choose(u->config->update.kernel, &u->kernel, err) != 0 ||
        updater_model_new(u->config, &u->net, u->kernel, &u->model, err) != 0 || updater_kernels(u, err) != 0)
        return -1;
    for (uint32_t h = 0; h < u->config->model.n_heads; h++) {
        metrics_init(&u->running[h], METRICS_SCORES);
        metrics_init(&u->after_bootstrap[h], METRICS_SCORES);
    }
    u->columns = columns_new(u->config);
    if (updater_load(u, err) != 0)
        return -1;
    u->served = u->version.version;
    return 0;
}

int updater_new(const struct config *config, struct features *features, struct state *state, bool publish,
                struct updater **ret_updater, struct err *err)
{
    struct updater *u = mem_zalloc(sizeof *u);
    u->config = config;
    u->features = features;
    u->state = state;
    u->publish = publish;
    if (updater_build(u, err) != 0) {
        updater_free(u);
        return -1;
    }
    *ret_updater = u;
    return 0;
}

void updater_free(struct updater *u)
{
    if (u == NULL)
        return;
    model_update_free(u->update);
    features_quantiles_free(u->quantiles);
    model_free(u->model);
    columns_free(u->columns);
    for (uint32_t h = 0; h < CONFIG_HEADS_MAX; h++) {
        metrics_done(&u->running[h]);
        metrics_done(&u->after_bootstrap[h]);
    }
    features_net_done(&u->net);
    free(u);
}

struct model *updater_model(struct updater *u)
{
    return u->model;
}

const struct version *updater_version(const struct updater *u)
{
    return &u->version;
}

enum packed_kernel updater_kernel(const struct updater *u)
{
    return u->kernel;
}

const struct norms *updater_norms(const struct updater *u)
{
    return &u->norms;
}

uint64_t updater_served(const struct updater *u)
{
    return u->served;
}

void updater_metrics(const struct updater *u, uint32_t head, struct metrics_values *ret_all,
                     struct metrics_values *ret_after_bootstrap)
{
    metrics_values(&u->running[head], ret_all);
    metrics_values(&u->after_bootstrap[head], ret_after_bootstrap);
}

void updater_predict(struct updater *u, const struct model_samples *samples, const bool *heads,
                     float *const *ret_p)
{
    model_predict_heads(u->model, samples, heads, ret_p);
}

double updater_norm(const struct updater *u, uint32_t head, const struct feature_row *row)
{
    return norms_of(&u->norms, u->config, head, row);
}

// ---- one update -------------------------------------------------------------------------------------------

void updater_partitions(struct updater *u, uint16_t partitions)
{
    u->partitions = partitions;
}

void update_begin(struct updater *u, const struct ingest_mark *mark)
{
    assert(u->update == NULL);
    step_reached("update.begin");
    u->mark = *mark;
    // Switched off, the samples are not even predicted.
    u->fed = u->config->update.enabled ? u->version.trained_through : mark->through;
    u->was_frozen = model_frozen(u->model);
    u->update = model_update_new(u->model);
    u->quantiles = features_quantiles_new(u->features);
    u->next_norms = u->norms;
    u->n_digests = 0;
    u->training = u->config->update.enabled && !(u->config->update.stop_after_bootstrap && u->was_frozen);
}

struct model_update *update_import(struct updater *u)
{
    const struct ingest_mark mark = {.through = u->version.trained_through,
                                     .boundary_ms = u->version.boundary_ms};
    update_begin(u, &mark);
    features_quantiles_free(u->quantiles); // there is nothing to learn them from
    u->quantiles = NULL;
    u->training = true;
    return u->update;
}

void update_import_learned(struct updater *u, const struct norms *norms, struct quantiles *quantiles)
{
    assert(u->update != NULL && u->quantiles == NULL);
    u->next_norms = *norms;
    u->quantiles = quantiles;
}

void updater_learned(const struct updater *u, struct buf *to)
{
    learned_put(u->features, u->config, NULL, &u->norms, to);
}

uint32_t updater_learned_tensors(const struct updater *u, struct learned_tensor *ret_tensors)
{
    return learned_tensors(u->features, u->config, NULL, &u->norms, ret_tensors);
}

uint64_t update_left(const struct updater *u, uint64_t *ret_seq)
{
    *ret_seq = u->fed;
    return u->mark.through > u->fed ? u->mark.through - u->fed : 0;
}

uint32_t update_chunk(const struct updater *u)
{
    return u->config->update.batch * CHUNK_BATCHES;
}

int update_feed(struct updater *u, const struct sample_chunk *chunk, struct err *err)
{
    struct feature_row row;
    float labels[CONFIG_HEADS_MAX];
    float weights[CONFIG_HEADS_MAX];
    columns_clear(u->columns);
    for (uint32_t i = 0; i < chunk->n; i++) {
        const struct sample *s = &chunk->samples[i];
        if (features_decode(u->features, chunk->segments[i], s->body.user_at, s->body.item_at,
                            s->impression_ts, &row) != 0)
            return err_set(err, ERR_CORRUPT, "sample %llu does not fit the features of the config",
                           (unsigned long long)s->seq);
        targets_of(u->config, s, &row, labels, weights);
        features_quantiles_put(u->quantiles, &row);
        norms_put(&u->next_norms, u->config, &row, labels, weights);
        columns_put(u->columns, &row, s->impression_ts, labels, weights);
    }
    u->fed += chunk->n;
    model_update_feed(u->update, columns_samples(u->columns));
    step_reached("update.fed");
    return 0;
}

// Expiry looks at the tables once an hour of event time, since it scans them.
static uint32_t update_expire_at(const struct updater *u)
{
    enum { HOUR_MS = 3600000 };
    bool due = u->version.version > 0 && u->mark.boundary_ms / HOUR_MS > u->version.boundary_ms / HOUR_MS;
    return due ? (uint32_t)(u->mark.boundary_ms / 1000) : 0;
}

void update_finish(struct updater *u)
{
    model_update_finish(u->update, update_expire_at(u), &u->report);
    uint64_t every = u->config->publish.digest_every;
    if (!u->publish || every == 0 || u->version.version == 0 || u->version.version % every != 0)
        return;
    u->n_digests = model_table_count(u->model);
    for (uint32_t t = 0; t < u->n_digests; t++)
        u->digests[t] = table_digest(model_table(u->model, t));
}

static enum update_brake brake_metrics(const struct updater *u, double *ret_value)
{
    const struct metrics *window = u->report.window;
    for (uint32_t h = 0; h < u->report.n_heads; h++) {
        struct metrics_values v;
        metrics_values(&window[h], &v);
        if (v.n < u->config->update.brakes.min_samples || !u->was_frozen)
            continue;
        *ret_value = v.ne;
        if (u->config->update.brakes.ne_max > 0 && v.ne > u->config->update.brakes.ne_max)
            return BRAKE_NE;
        *ret_value = v.calibration;
        if ((u->config->update.brakes.calibration_max > 0 &&
             v.calibration > u->config->update.brakes.calibration_max) ||
            v.calibration < u->config->update.brakes.calibration_min)
            return BRAKE_CALIBRATION;
    }
    return BRAKE_NONE;
}

static enum update_brake update_brakes(const struct updater *u, double *ret_value)
{
    *ret_value = 0;
    if (!u->report.finite)
        return BRAKE_FINITE;
    double limit = u->config->update.brakes.row_norm_max;
    for (uint32_t t = 0; t < model_table_count(u->model); t++) {
        *ret_value = (double)u->report.tables[t].norm_max;
        if (limit > 0 && *ret_value > limit)
            return BRAKE_NORM;
    }
    return brake_metrics(u, ret_value);
}

static void update_result_fill(struct updater *u, struct update_result *ret)
{
    *ret = (struct update_result){.boundary_ms = u->mark.boundary_ms,
                                  .samples = u->report.samples,
                                  .n_heads = u->report.n_heads,
                                  .frozen = u->report.frozen_after};
    for (uint32_t h = 0; h < u->report.n_heads; h++)
        metrics_values(&u->report.window[h], &ret->window[h]);
}

static void update_take_metrics(struct updater *u)
{
    for (uint32_t h = 0; h < u->report.n_heads; h++) {
        metrics_merge(&u->running[h], &u->report.window[h]);
        if (u->was_frozen)
            metrics_merge(&u->after_bootstrap[h], &u->report.window[h]);
    }
}

static void update_quantiles_done(struct updater *u)
{
    features_quantiles_free(u->quantiles);
    u->quantiles = NULL;
}

static void update_norms_store(struct updater *u)
{
    struct buf blob = {0};
    if (u->config->model.n_norms == 0)
        return;
    norms_save(&u->next_norms, u->config, &blob);
    state_blob_put(u->state, "norms", buf_str(&blob));
    buf_done(&blob);
}

static void update_quantiles_store(struct updater *u)
{
    struct buf blob = {0};
    struct buf gathered = {0};
    if (u->quantiles == NULL)
        return;
    features_quantiles_learn(u->features, u->quantiles);
    features_quantiles_save(u->features, u->quantiles, &blob, &gathered);
    state_blob_put(u->state, "quantiles", buf_str(&blob));
    state_blob_put(u->state, "gathered", buf_str(&gathered));
    buf_done(&gathered);
    buf_done(&blob);
}

void update_record(struct updater *u, struct update_result *ret_result)
{
    step_reached("update.record");
    update_result_fill(u, ret_result);
    ret_result->brake = update_brakes(u, &ret_result->brake_value);
    update_take_metrics(u);
    u->version.updates += u->config->update.enabled;
    u->version.trained_through = u->mark.through;
    u->dirty = true;
    state_samples_trained(u->state, u->mark.through);
    if (ret_result->brake != BRAKE_NONE || !u->training) {
        u->version.stopped += ret_result->brake != BRAKE_NONE;
        model_update_free(u->update);
        u->update = NULL;
        update_quantiles_done(u);
    } else {
        u->dense_dirty |= u->report.dense_trained || u->version.version == 0;
        update_quantiles_store(u);
        update_norms_store(u);
        updater_store_update(u, ret_result);
    }
    ret_result->version = u->version.version;
    step_reached("update.recorded");
}

void update_apply(struct updater *u)
{
    if (u->update == NULL)
        return;
    step_reached("update.apply");
    model_apply(u->model, u->update);
    features_quantiles_apply(u->features, u->quantiles);
    u->norms = u->next_norms;
    update_quantiles_done(u);
    u->served = u->version.version;
    u->update = NULL;
    u->recorded = false;
    step_reached("update.applied");
}

int update_run(struct updater *u, const struct ingest_mark *mark, struct update_result *ret_result,
               struct err *err)
{
    uint64_t seq;
    update_begin(u, mark);
    for (uint64_t left; (left = update_left(u, &seq)) > 0;) {
        struct sample_chunk *chunk;
        uint32_t n = left < update_chunk(u) ? (uint32_t)left : update_chunk(u);
        if (state_samples_read(u->state, seq, n, &chunk, err) != 0)
            return -1;
        int result = update_feed(u, chunk, err);
        state_chunk_free(u->state, chunk);
        if (result != 0)
            return -1;
    }
    update_finish(u);
    update_record(u, ret_result);
    update_apply(u);
    return 0;
}
