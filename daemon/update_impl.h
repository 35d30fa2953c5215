// SPDX-License-Identifier: Apache-2.0
// The inside of the updater, shared by update.c (how a version comes about), update_store.c (what it is on
// disk) and publish.c (what leaves on the delta topic).
#ifndef FRESHET_DAEMON_UPDATE_IMPL_H
#define FRESHET_DAEMON_UPDATE_IMPL_H

#include "daemon/norms.h"
#include "daemon/update.h"

enum { METRICS_SCORES = 200000 }; // scores kept for a running AUC: exact up to so many samples

struct updater {
    const struct config *config;
    struct features *features;
    struct state *state;
    struct features_net net;
    struct model *model;
    enum packed_kernel kernel;
    struct columns *columns;
    bool publish;
    uint16_t partitions; // of users, for the texts of their rows
    struct version version;
    uint64_t served; // version of the model
    struct metrics running[CONFIG_HEADS_MAX];
    struct metrics after_bootstrap[CONFIG_HEADS_MAX];
    struct norms norms; // of the served version
    bool dirty;         // version or metrics differ from the state's
    bool dense_dirty;   // so do the dense layers

    // The update under way.
    struct model_update *update;
    bool recorded; // it is in the state, and waits for its commit
    struct ingest_mark mark;
    uint64_t fed; // samples below it are in the update
    bool was_frozen;
    bool training;               // false: the samples are only predicted
    struct quantiles *quantiles; // that it learns; NULL: all are known
    struct norms next_norms;     // of the version that it makes: with those of its samples
    struct model_report report;
    struct digest digests[STATE_TABLES_MAX]; // of the tables as the version before left them
    uint32_t n_digests;
};

// Takes up version, metrics, dense layers and rows from the state.
int updater_load(struct updater *u, struct err *err);
// The next version: rows into the state, its delta into the outbox.
void updater_store_update(struct updater *u, struct update_result *result);
// The delta of the update under way, of which u->version tells already.
void publish_update(struct updater *u, uint64_t previous);

#endif
