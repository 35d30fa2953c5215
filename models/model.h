// SPDX-License-Identifier: Apache-2.0
// A model: tables, a net, the parameters of its dense layers; how it predicts and how it is updated.
//
// An update is: model_update_new, model_update_feed for each piece of its samples in log order,
// model_update_finish, a look at the report, and then model_apply, or model_update_free, which leaves the model
// as it was. feed first predicts every sample with the model as it stands (progressive metrics), then trains
// the overlay in batches of `batch` samples; pieces must be multiples of it, but for the last. The result is a
// function of the model and the samples alone. One batch is one step, of every row in it and of the dense layers,
// with the mean of its gradients. Predictions are made without dropout; in training what sample i of all that a
// model was ever trained on drops depends on i, the epoch and the seed.
//
// Threads: one may serve (model_predict, and everything that takes a const model) while another feeds and finishes
// an update; model_apply and model_dense_load only while nobody does either.
#ifndef FRESHET_MODELS_MODEL_H
#define FRESHET_MODELS_MODEL_H

#include "models/metrics.h"
#include "models/net.h"
#include "models/table.h"

struct model;

#define MODEL_NEVER_FROZEN UINT64_MAX // for bootstrap_samples: always train all layers, as a full update does

struct model_options {
    struct net_spec net;
    uint32_t n_tables;
    const struct table_options *tables;
    uint64_t bootstrap_samples; // until so many have been trained on, all layers are trained
    struct optimizer dense;     // of the dense layers: any but row-wise Adagrad
    uint32_t epochs;            // passes over the window's samples in training, at least 1
    uint64_t seed;              // of the dense layers' beginning, and of what they drop in training
    uint64_t auc_samples;       // scores kept for the AUC of an update, at least 1
    enum packed_kernel
        kernel;           // of packed_kernel_choose: of products with dense layers that are not trained now
    uint64_t tower_bytes; // for outputs of the item's side in model_predict; 0: none are kept
};

// The options are copied. Errors are net_new's, with its *ret_block.
int model_new(const struct model_options *options, struct model **ret_model, uint32_t *ret_block,
              struct err *err);
void model_free(struct model *m);
struct net *model_net(struct model *m);
struct table *model_table(struct model *m, uint32_t table);
uint32_t model_table_count(const struct model *m);
const float *model_params(const struct model *m);
// Of the dense layers' optimizer: its arrays one after the other, each of net_param_floats.
const float *model_state(const struct model *m);
enum optimizer_kind model_optimizer(const struct model *m);
// As the parameters begin, from the seed alone.
void model_params_begin(const struct model *m, float *ret_params);
uint64_t model_trained(const struct model *m); // samples so far
uint64_t model_steps(const struct model *m);   // batches so far, epochs counted
// Goes on where a model was: counts of model_trained and model_steps, which the store keeps with each version.
void model_resume(struct model *m, uint64_t trained, uint64_t steps);
bool model_frozen(const struct model *m); // bootstrap is over
// XXH3-128 over the parameters, in order of net_param.
struct digest model_dense_digest(const struct model *m);

// Of memory: arenas of the nets, dense layers with their optimizer's state, packed weights. From any thread.
uint64_t model_bytes(const struct model *m);

// Samples column by column; they need live as long as the call alone. For input i of the net: ids[i] (n, or
// offsets[i][n] of them; 0: none) or numbers[i] (n).
struct model_samples {
    uint32_t n;
    const uint64_t *const *ids;
    const uint32_t *const *offsets;
    const float *const *numbers;
    const float *const *labels;  // by head
    const float *const *weights; // by head, or NULL; 0: takes no part, below 0: see net.h
    const uint32_t *seen_s;      // event time of each sample, seconds
};

// ret_p[head][sample]. Changes nothing but what is kept of the item's side.
void model_predict(struct model *m, const struct model_samples *samples, float *const *ret_p);
// The same of those heads alone for which heads[head]; what no such head depends on is not computed.
void model_predict_heads(struct model *m, const struct model_samples *samples, const bool *heads,
                         float *const *ret_p);

// Outputs of the item's side, kept for as long as a version is served (tower.h): blocks of `side` NET_ITEM. All zero
// where nothing is kept.
struct model_tower_figures {
    uint64_t entries, capacity, bytes;
    uint64_t hits, misses; // candidates
    uint64_t fills;        // computed anew for the version, before they were asked for
    uint64_t evictions;
};
void model_tower_figures(const struct model *m, struct model_tower_figures *ret_figures);
// After a new version: computes at most `max` of those anew that were asked for before. Whether there may be more.
bool model_tower_fill(struct model *m, uint32_t max);

struct model_update;
struct model_update *model_update_new(struct model *m);
void model_update_feed(struct model_update *u, const struct model_samples *samples);
// What comes from elsewhere instead of samples: a row as overlay_put takes it; all parameters of the dense layers, with the
// state of their optimizer, or NULL: it begins, but for the sums of adagrad, which stay; and how much has been trained
// before. The update is as any other then, but that nothing was trained.
bool model_update_row(struct model_update *u, uint32_t table, const struct table_row *row, bool state);
void model_update_params(struct model_update *u, const float *params, const float *state);
void model_update_resume(struct model_update *u, uint64_t trained, uint64_t steps);

struct model_report {
    uint64_t samples;
    uint32_t n_heads;
    const struct metrics *window;         // by head: progressive metrics of this update's samples
    const struct overlay_figures *tables; // by table
    bool finite;                          // rows and dense layers hold no NaN or Inf
    bool dense_trained;                   // some batch trained the dense layers
    bool frozen_after;
};
// expire_at_s: rows last seen before it minus the table's expire_ms go; 0: no expiry now.
void model_update_finish(struct model_update *u, uint32_t expire_at_s, struct model_report *ret_report);
void model_update_free(struct model_update *u);

// What changed, for the store and the delta stream, in order of (table, id). Record: as table_row_put.
void model_update_each(const struct model_update *u,
                       void (*each)(void *context, uint32_t table, uint64_t id, const struct table_row *row,
                                    bool served),
                       void *context);
// Dense layers, their optimizer and the sample count after the update, for the store.
void model_update_dense(const struct model_update *u, struct buf *to);
struct digest model_update_dense_digest(const struct model_update *u);
uint64_t model_update_steps(const struct model_update *u);   // model_steps after it
uint64_t model_update_trained(const struct model_update *u); // model_trained after it
// Applies and frees. What of the window's metrics is to go into running ones is taken out of the report before.
void model_apply(struct model *m, struct model_update *u);

// As model_update_dense wrote it; ERR_CORRUPT when it does not fit the net.
int model_dense_load(struct model *m, struct str blob, struct err *err);
void model_dense_save(const struct model *m, struct buf *to);

// Dense layers as safetensors, with PyTorch's names; of the model, and as an update leaves them.
void model_dense_safetensors(const struct model *m, struct buf *to);
void model_update_safetensors(const struct model_update *u, struct buf *to);

#endif
