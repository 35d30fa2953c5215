// SPDX-License-Identifier: Apache-2.0
// What model.c, model_update.c and model_io.c share.
#ifndef FRESHET_MODELS_MODEL_IMPL_H
#define FRESHET_MODELS_MODEL_IMPL_H

#include "base/arena.h"
#include "models/model.h"

// The samples of a batch by request (requests.c).
struct requests {
    uint32_t n;
    uint32_t *offsets; // n + 1 into the samples
    bool any;          // some input is of the request
    struct request_column {
        bool shared;
        // As cut, by sample:
        const uint64_t *ids;
        uint32_t count;
        const float *numbers;
        // By request:
        uint64_t *own_ids;
        uint32_t cap_ids;
        uint32_t *own_offsets;
        float *own_numbers;
    } * columns; // by input
};

// A net, and the columns of the batch that it looks at now. A model has two: what is served and what is
// trained run in different threads, and a net holds the values of its batch.
struct runner {
    struct net *net;
    struct net_batch batch;        // its arrays are those below
    struct net_rows *tables;       // by table
    const uint64_t **ids;          // by input: of this batch, as the net sees it: by request or sample
    uint32_t *counts;              // by input: how many ids
    uint32_t **slots;              // by input: theirs
    uint32_t *slots_cap;           // by input
    uint32_t **offsets;            // by input: of a sequence, from 0, by sample
    const uint32_t **seen_offsets; // by input: as the net sees it
    const float **numbers;         // by input
    const float **labels;          // by head
    const float **weights;         // by head
    struct requests requests;
};

struct model {
    uint32_t magic;
    struct model_options options; // without the net and the tables
    uint32_t n_inputs, n_heads, batch;
    struct net_input *inputs;
    struct table **tables;
    struct overlay **spare; // by table: an empty overlay for the next update, or NULL
    struct runner serve, train;
    struct tower *tower; // of what is served; NULL: none
    size_t n_params;     // floats
    float *params;
    float *state; // of the optimizer
    size_t n_state;
    uint64_t trained, steps;
    bool frozen;
};

struct model_update {
    uint32_t magic;
    struct model *m;
    struct overlay **overlays; // by table
    float *params;             // a copy that is trained; NULL if the model was frozen before
    float *state;
    float *gradient;
    uint64_t samples; // of this update
    uint64_t trained; // with it
    uint64_t steps;   // with it
    bool frozen;
    bool dense_trained;
    bool ended; // a piece that was no multiple of the batch has come, or finish
    struct metrics *window;
    struct overlay_figures *figures;
    float **p;              // by head: predictions of a batch
    float *odds[2];         // of a head whose label is a number x: predictions and labels as x / (1 + x)
    uint32_t *seen, *times; // by occurrence
    uint32_t seen_cap;
    struct arena kept_memory;
    struct net_batch *kept; // for further epochs
    uint32_t n_kept, cap_kept;
    uint64_t *seeds; // of the batch; NULL: no layer draws
};

// What an update trains of the dense layers, or the model's where they are frozen.
static inline const float *update_params(const struct model_update *u)
{
    return u->params != NULL ? u->params : u->m->params;
}

// The batch of samples at .. at + n - 1; slots are left to the caller.
void runner_cut(struct model *m, struct runner *r, const struct model_samples *samples, uint32_t at,
                uint32_t n);
void requests_init(struct requests *q, const struct net_spec *spec);
void requests_done(struct requests *q, uint32_t n_inputs);
// Of the batch that was cut; its columns are by request from here on, where that is fewer.
void requests_find(const struct model *m, struct runner *r);
// Slots of the batch in the overlays, every occurrence counted.
void requests_touch(struct model_update *u, struct runner *r, const uint32_t *seen_s);
// Slots and vectors of the batch that was cut, from the tables as they are served.
void runner_find(struct model *m, struct runner *r);
// An empty overlay: mapping one anew for each update would cost more than a small update.
struct overlay *model_overlay_take(struct model *m, uint32_t table);
void model_overlay_give(struct model *m, uint32_t table, struct overlay *overlay);
bool model_input_has_ids(const struct model *m, uint32_t input);
// Before m->params is used again, where they changed: their packed weights are not theirs any more.
void model_pack(struct model *m);
// Whether the dense layers are frozen once `trained` samples have been trained on, given that they were
// before.
bool model_frozen_at(const struct model *m, uint64_t trained, bool before);

#endif
