// SPDX-License-Identifier: Apache-2.0
// From an ended update window to a new version. The steps, in order, and who may run them:
//
//     update_begin    main      what is to be trained on
//     update_feed     any one   a chunk of samples: decode, predict with the version that stands, train
//     update_finish   any one   expiry, figures
//     update_record   main      the brakes; then rows, version and delta go into the next commit
//     update_apply    main      once that commit is durable: the model becomes the new version
//
// In `replay` all five run in a row; in the daemon the middle two run on the trainer thread. What comes out
// is a function of the version before and of the samples alone.
#ifndef FRESHET_DAEMON_UPDATE_H
#define FRESHET_DAEMON_UPDATE_H

#include "daemon/config.h"
#include "daemon/features.h"
#include "daemon/ingest.h"
#include "models/model.h"
#include "state/state.h"

struct updater;
struct norms;
struct learned_tensor;

// What the newest version is. Kept in the store under "version".
struct version {
    uint64_t base;            // identifies the net and its last full training
    uint64_t version;         // 0: nothing trained yet
    uint64_t trained_through; // samples below it have been trained on, or skipped by a brake
    int64_t boundary_ms;      // event time of the update
    uint64_t updates;         // tried
    uint64_t stopped;         // by a brake
    uint64_t samples;         // trained on
    uint64_t rows;            // put, all versions together
    uint64_t tombstones;
    struct digest dense;
    uint64_t steps;  // of the optimizers, epochs counted; since format 2 of the record
    uint64_t kernel; // enum packed_kernel of the last update; since format 2, PACKED_BLAS before
};

// Why an update was not taken.
enum update_brake { BRAKE_NONE, BRAKE_FINITE, BRAKE_NE, BRAKE_CALIBRATION, BRAKE_NORM, BRAKE_COUNT };
const char *update_brake_name(enum update_brake brake);

struct update_result {
    uint64_t version;
    int64_t boundary_ms;
    uint64_t samples;
    uint64_t rows, tombstones;
    enum update_brake brake;
    bool frozen;
    double brake_value;
    uint32_t n_heads;
    struct metrics_values window[CONFIG_HEADS_MAX]; // progressive metrics of the window
};

// Builds the model of the config, checks the kernels, and takes up the version in the store. ERR_CONFIG: the
// net does not fit together (file:line:column). ERR_VERSION: the store holds a model of another shape.
// `publish`: deltas go to the outbox.
int updater_new(const struct config *config, struct features *features, struct state *state, bool publish,
                struct updater **ret_updater, struct err *err);
void updater_free(struct updater *u);

// The config's net, compiled; both are the caller's. ERR_CONFIG as above.
int updater_net_new(const struct config *config, struct features_net *ret_features, struct net **ret_net,
                    struct err *err);

struct model *updater_model(struct updater *u);
// The newest version, which may still wait for its commit; and the one that the model is at and that is served.
const struct version *updater_version(const struct updater *u);
enum packed_kernel updater_kernel(const struct updater *u); // by which versions are made from now on
uint64_t updater_served(const struct updater *u);
// What the served version learned beside its model, as the safetensors document of daemon/learned.h; appends nothing
// where there is none.
void updater_learned(const struct updater *u, struct buf *to);
// The same as learned_tensors gives it.
uint32_t updater_learned_tensors(const struct updater *u, struct learned_tensor *ret_tensors);
const struct norms *updater_norms(const struct updater *u);
// Running progressive metrics: over all samples, and over those after the bootstrap.
void updater_metrics(const struct updater *u, uint32_t head, struct metrics_values *ret_all,
                     struct metrics_values *ret_after_bootstrap);

void update_begin(struct updater *u, const struct ingest_mark *mark);
// The same of a version that no samples make: the caller changes the update (model_update_row, model_update_params),
// then come update_finish, update_record and update_apply.
struct model_update *update_import(struct updater *u);
// What learned_read gave, in place of what is served; the quantiles are the updater's then.
void update_import_learned(struct updater *u, const struct norms *norms, struct quantiles *quantiles);
// Samples still to be fed; 0: update_finish is next. *ret_seq is the first of them.
uint64_t update_left(const struct updater *u, uint64_t *ret_seq);
// The largest number of samples of a feed: a multiple of the batch.
uint32_t update_chunk(const struct updater *u);
int update_feed(struct updater *u, const struct sample_chunk *chunk, struct err *err);
void update_finish(struct updater *u);
void update_record(struct updater *u, struct update_result *ret_result);
void update_apply(struct updater *u);

// Under how many partitions users may be: for the texts of published rows.
void updater_partitions(struct updater *u, uint16_t partitions);
// All steps in a row.
int update_run(struct updater *u, const struct ingest_mark *mark, struct update_result *ret_result,
               struct err *err);
// Puts what changed since the last call (version, metrics, dense layers) into the state; before state_commit.
void updater_commit(struct updater *u);

// Predicts the candidates of one request: p[head][i], for those heads alone for which heads[head]; NULL: all.
void updater_predict(struct updater *u, const struct model_samples *samples, const bool *heads,
                     float *const *ret_p);
// What the head's prediction is divided by for a candidate of this length: norms.h.
double updater_norm(const struct updater *u, uint32_t head, const struct feature_row *row);

#endif
