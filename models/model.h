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
    float dense_lr;             // Adagrad of the dense layers
    uint32_t epochs;            // passes over the window's samples in training, at least 1
    uint64_t seed;              // of the dense layers' beginning, and of what they drop in training
    uint64_t auc_samples;       // scores kept for the AUC of an update, at least 1
};

// The options are copied. Errors are net_new's, with its *ret_block.
int model_new(const struct model_options *options, struct model **ret_model, uint32_t *ret_block,
              struct err *err);
void model_free(struct model *m);
struct net *model_net(struct model *m);
struct table *model_table(struct model *m, uint32_t table);
uint32_t model_table_count(const struct model *m);
const float *model_params(const struct model *m);
uint64_t model_trained(const struct model *m); // samples so far
bool model_frozen(const struct model *m);      // bootstrap is over
// XXH3-128 over the parameters, in order of net_param.
struct digest model_dense_digest(const struct model *m);

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

// ret_p[head][sample]. Changes nothing.
void model_predict(struct model *m, const struct model_samples *samples, float *const *ret_p);

struct model_update;
struct model_update *model_update_new(struct model *m);
void model_update_feed(struct model_update *u, const struct model_samples *samples);

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
// Applies and frees. What of the window's metrics is to go into running ones is taken out of the report before.
void model_apply(struct model *m, struct model_update *u);

// As model_update_dense wrote it; ERR_CORRUPT when it does not fit the net.
int model_dense_load(struct model *m, struct str blob, struct err *err);
void model_dense_save(const struct model *m, struct buf *to);

// Dense layers as safetensors, with PyTorch's names; of the model, and as an update leaves them.
void model_dense_safetensors(const struct model *m, struct buf *to);
void model_update_safetensors(const struct model_update *u, struct buf *to);

#endif
