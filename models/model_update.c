// SPDX-License-Identifier: Apache-2.0
// An update: what is trained lies beside the model, in overlays of the rows and, while the dense layers are
// not frozen, in a copy of them. The model changes in model_apply alone.
//
// A batch: predict with the model as it stands; touch the ids of each input, in order of the inputs; forward,
// backward; one step for every row among them, whichever inputs it came in by, and one for the dense layers.
//
// The net gives the gradient of the sum of the losses. Both steps take the mean over the batch's samples (the
// sum divided by n, also where samples have weights), as a BCELoss with its default reduction gives it to
// torch's optimizers. Adagrad takes most of that scale out again; what is left of it is in the first steps,
// and in how much a short last batch weighs.
#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/loss.h"
#include "models/model_impl.h"
#include "models/tower.h"

enum { UPDATE_MAGIC = 0x0bda7e01 };

// ---- life --------------------------------------------------------------------------------------------

static void update_dense_new(struct model_update *u)
{
    const struct model *m = u->m;
    size_t bytes = m->n_params * sizeof *m->params;
    u->params = mem_alloc(bytes);
    u->state = mem_alloc(m->n_state * sizeof *m->state);
    u->gradient = mem_alloc(bytes);
    memcpy(u->params, m->params, bytes);
    memcpy(u->state, m->state, m->n_state * sizeof *m->state);
}

struct model_update *model_update_new(struct model *m)
{
    struct model_update *u = mem_zalloc(sizeof *u);
    u->magic = UPDATE_MAGIC;
    u->m = m;
    u->trained = m->trained;
    u->steps = m->steps;
    u->frozen = m->frozen;
    u->overlays = mem_array(m->options.n_tables, sizeof(struct overlay *));
    u->figures = mem_array(m->options.n_tables, sizeof *u->figures);
    for (uint32_t t = 0; t < m->options.n_tables; t++)
        u->overlays[t] = model_overlay_take(m, t);
    u->window = mem_array(m->n_heads, sizeof *u->window);
    u->p = mem_array(m->n_heads, sizeof *u->p);
    u->odds[0] = mem_array(m->batch, sizeof(float));
    u->odds[1] = mem_array(m->batch, sizeof(float));
    for (uint32_t h = 0; h < m->n_heads; h++) {
        metrics_init(&u->window[h], m->options.auc_samples);
        u->p[h] = mem_array(m->batch, sizeof(float));
    }
    if (net_stochastic(m->train.net))
        u->seeds = mem_array(m->batch, sizeof *u->seeds);
    if (!m->frozen)
        update_dense_new(u);
    return u;
}

void model_update_free(struct model_update *u)
{
    if (u == NULL)
        return;
    assert(u->magic == UPDATE_MAGIC);
    for (uint32_t t = 0; t < u->m->options.n_tables; t++)
        model_overlay_give(u->m, t, u->overlays[t]);
    for (uint32_t h = 0; h < u->m->n_heads; h++) {
        metrics_done(&u->window[h]);
        free(u->p[h]);
    }
    arena_done(&u->kept_memory);
    free(u->overlays);
    free(u->figures);
    free(u->window);
    free(u->p);
    free(u->odds[0]);
    free(u->odds[1]);
    free(u->params);
    free(u->state);
    free(u->gradient);
    free(u->seen);
    free(u->times);
    free(u->seeds);
    free(u->kept);
    free(u);
}

// ---- from elsewhere ----------------------------------------------------------------------------------

bool model_update_row(struct model_update *u, uint32_t table, const struct table_row *row, bool state)
{
    assert(u->magic == UPDATE_MAGIC && !u->ended && table < u->m->options.n_tables);
    return overlay_put(u->overlays[table], row, state);
}

void model_update_params(struct model_update *u, const float *params, const float *state)
{
    assert(u->magic == UPDATE_MAGIC && !u->ended);
    const struct model *m = u->m;
    if (u->params == NULL)
        update_dense_new(u);
    memcpy(u->params, params, m->n_params * sizeof *params);
    if (state != NULL)
        memcpy(u->state, state, m->n_state * sizeof *state);
    else if (m->options.dense.kind != OPTIMIZER_ADAGRAD)
        net_state_begin(m->train.net, &m->options.dense, params, u->state);
    u->dense_trained = true;
}

void model_update_resume(struct model_update *u, uint64_t trained, uint64_t steps)
{
    assert(u->magic == UPDATE_MAGIC && !u->ended && u->samples == 0);
    u->trained = trained;
    u->steps = steps;
    u->frozen = model_frozen_at(u->m, trained, u->frozen);
}

// ---- a batch -----------------------------------------------------------------------------------------

// A number is judged as it is trained: as the probability of which it is the odds.
static const float *update_odds(const float *x, uint32_t n, float *to)
{
    for (uint32_t i = 0; i < n; i++)
        to[i] = x[i] / (1 + x[i]);
    return to;
}

static void update_predict(struct model_update *u, struct runner *r)
{
    runner_find(u->m, r);
    net_forward(r->net, u->m->params, &r->batch, u->p);
    for (uint32_t h = 0; h < u->m->n_heads; h++) {
        const float *p = u->p[h], *labels = r->labels[h];
        if (net_head_label(r->net, h) == NET_LABEL_NUMBER) {
            p = update_odds(p, r->batch.n, u->odds[0]);
            labels = update_odds(labels, r->batch.n, u->odds[1]);
        }
        metrics_put(&u->window[h], p, labels, r->batch.weights != NULL ? r->weights[h] : NULL, r->batch.n);
    }
}

// Rows of an input: its requests or samples.
static uint32_t batch_rows(const struct model *m, const struct net_batch *batch, uint32_t input)
{
    const bool shared = batch->requests != NULL && net_input_shared(m->train.net, input);
    return shared ? batch->n_requests : batch->n;
}

static uint32_t batch_ids(const struct model *m, const struct net_batch *batch, uint32_t input)
{
    const uint32_t n = batch_rows(m, batch, input);
    return batch->offsets[input] != NULL ? batch->offsets[input][n] : n;
}

static void update_rows(struct model_update *u, const struct net *net, const struct net_batch *batch,
                        const struct optimizer_at *at)
{
    const struct model *m = u->m;
    for (uint32_t i = 0; i < m->n_inputs; i++) {
        if (!model_input_has_ids(m, i))
            continue;
        size_t stride = 0;
        const float *gradients = net_gradient_rows(net, i, &stride);
        overlay_gradient(u->overlays[m->inputs[i].table], batch->slots[i], gradients, stride,
                         batch_ids(m, batch, i));
    }
    for (uint32_t t = 0; t < m->options.n_tables; t++)
        overlay_descend(u->overlays[t], 1.0f / (float)batch->n, at);
}

static void update_dense_step(struct model_update *u, uint32_t n, const struct optimizer_at *at)
{
    net_step(u->m->train.net, &u->m->options.dense, at, 1.0f / (float)n, u->params, u->state, u->gradient);
    u->dense_trained = true;
}

// The batch in training: `first` is how many samples the model was trained on before it.
static struct net_batch update_seeded(struct model_update *u, const struct net_batch *batch, uint64_t first,
                                      uint32_t epoch)
{
    struct net_batch seeded = *batch;
    const uint64_t salt = hash_mix(u->m->options.seed + epoch);
    for (uint32_t i = 0; u->seeds != NULL && i < batch->n; i++)
        u->seeds[i] = hash_mix(salt ^ (first + i));
    seeded.training = true;
    seeded.dense = !u->frozen;
    seeded.seeds = u->seeds;
    return seeded;
}

static void update_train(struct model_update *u, const struct net_batch *samples, uint64_t first,
                         uint32_t epoch)
{
    const struct net_batch seeded = update_seeded(u, samples, first, epoch), *batch = &seeded;
    struct runner *r = &u->m->train;
    for (uint32_t t = 0; t < u->m->options.n_tables; t++)
        r->tables[t] = (struct net_rows){overlay_vectors(u->overlays[t]), overlay_stride(u->overlays[t])};
    float *gradient = u->frozen ? NULL : u->gradient;
    if (gradient != NULL)
        memset(gradient, 0, u->m->n_params * sizeof *gradient);
    net_forward(r->net, update_params(u), batch, u->p);
    net_backward(r->net, update_params(u), batch, gradient);
    const uint64_t through = first + batch->n; // in a further epoch all were trained on already
    const struct optimizer_at at = {through > u->trained ? through : u->trained, ++u->steps};
    update_rows(u, r->net, batch, &at);
    if (gradient != NULL)
        update_dense_step(u, batch->n, &at);
}

// ---- further epochs ----------------------------------------------------------------------------------

static void *kept_copy(struct model_update *u, const void *from, size_t bytes)
{
    void *to = arena_alloc(&u->kept_memory, bytes, _Alignof(max_align_t));
    if (bytes > 0)
        memcpy(to, from, bytes);
    return to;
}

static const float **kept_columns(struct model_update *u, const float *const *columns, uint32_t count,
                                  uint32_t n)
{
    if (columns == NULL)
        return NULL;
    const float **to = ARENA_ARRAY(&u->kept_memory, const float *, count);
    for (uint32_t i = 0; i < count; i++)
        to[i] = columns[i] != NULL ? kept_copy(u, columns[i], n * sizeof(float)) : NULL;
    return to;
}

static const float **kept_numbers(struct model_update *u, const struct net_batch *batch)
{
    const float **to = ARENA_ARRAY(&u->kept_memory, const float *, u->m->n_inputs);
    for (uint32_t i = 0; i < u->m->n_inputs; i++)
        to[i] = batch->numbers[i] == NULL
                    ? NULL
                    : kept_copy(u, batch->numbers[i], batch_rows(u->m, batch, i) * sizeof(float));
    return to;
}

// The batch as the net sees it: slots of the overlay, which hold to its end, stand for the ids. So an
// occurrence is counted once, however many epochs there are, and what was not admitted in the first is not
// later.
static void update_keep(struct model_update *u, const struct net_batch *batch)
{
    const uint32_t n_inputs = u->m->n_inputs;
    if (u->n_kept == u->cap_kept) {
        u->cap_kept = u->cap_kept > 0 ? u->cap_kept * 2 : 64;
        u->kept = mem_resize(u->kept, u->cap_kept, sizeof *u->kept);
    }
    uint32_t **slots = ARENA_ARRAY(&u->kept_memory, uint32_t *, n_inputs);
    uint32_t **offsets = ARENA_ARRAY(&u->kept_memory, uint32_t *, n_inputs);
    for (uint32_t i = 0; i < n_inputs; i++) {
        slots[i] = offsets[i] = NULL;
        if (model_input_has_ids(u->m, i))
            slots[i] = kept_copy(u, batch->slots[i], batch_ids(u->m, batch, i) * sizeof(uint32_t));
        if (batch->offsets[i] != NULL)
            offsets[i] =
                kept_copy(u, batch->offsets[i], ((size_t)batch_rows(u->m, batch, i) + 1) * sizeof(uint32_t));
    }
    u->kept[u->n_kept++] = (struct net_batch){
        .n = batch->n,
        .tables = batch->tables,
        .n_requests = batch->n_requests,
        .requests = batch->requests == NULL
                        ? NULL
                        : kept_copy(u, batch->requests, ((size_t)batch->n_requests + 1) * sizeof(uint32_t)),
        .slots = (const uint32_t *const *)slots,
        .offsets = (const uint32_t *const *)offsets,
        .numbers = kept_numbers(u, batch),
        .labels = kept_columns(u, batch->labels, u->m->n_heads, batch->n),
        .weights = kept_columns(u, batch->weights, u->m->n_heads, batch->n),
    };
}

// ---- an update ---------------------------------------------------------------------------------------

void model_update_feed(struct model_update *u, const struct model_samples *samples)
{
    assert(u->magic == UPDATE_MAGIC && !u->ended);
    assert(samples->n == 0 || (samples->labels != NULL && samples->seen_s != NULL));
    struct model *m = u->m;
    struct runner *r = &m->train;
    for (uint32_t at = 0; at < samples->n; at += m->batch) {
        uint32_t n = samples->n - at < m->batch ? samples->n - at : m->batch;
        runner_cut(m, r, samples, at, n);
        update_predict(u, r);
        requests_touch(u, r, samples->seen_s + at);
        update_train(u, &r->batch, u->trained, 0);
        if (m->options.epochs > 1)
            update_keep(u, &r->batch);
        u->trained += n;
        u->samples += n;
        u->frozen = model_frozen_at(m, u->trained, u->frozen);
    }
    u->ended = samples->n % m->batch != 0;
}

static void update_expire(struct model_update *u, uint32_t expire_at_s)
{
    for (uint32_t t = 0; t < u->m->options.n_tables; t++) {
        int64_t expire_s = table_options(u->m->tables[t])->expire_ms / 1000;
        if (expire_s > 0 && expire_at_s > expire_s)
            overlay_expire(u->overlays[t], (uint32_t)(expire_at_s - expire_s));
    }
}

static bool floats_finite(const float *x, size_t n)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++)
        finite &= fabsf(x[i]) <= FLT_MAX;
    return finite;
}

void model_update_finish(struct model_update *u, uint32_t expire_at_s, struct model_report *ret_report)
{
    assert(u->magic == UPDATE_MAGIC);
    struct model *m = u->m;
    u->ended = true;
    for (uint32_t epoch = 1; epoch < m->options.epochs; epoch++) {
        uint64_t first = u->trained - u->samples;
        for (uint32_t k = 0; k < u->n_kept; first += u->kept[k++].n)
            update_train(u, &u->kept[k], first, epoch);
    }
    update_expire(u, expire_at_s);
    bool finite = floats_finite(update_params(u), m->n_params);
    for (uint32_t t = 0; t < m->options.n_tables; t++) {
        overlay_figures(u->overlays[t], &u->figures[t]);
        finite = finite && u->figures[t].finite;
    }
    *ret_report = (struct model_report){
        .samples = u->samples,
        .n_heads = m->n_heads,
        .window = u->window,
        .tables = u->figures,
        .finite = finite,
        .dense_trained = u->dense_trained,
        .frozen_after = u->frozen,
    };
}

struct each_context {
    void (*each)(void *context, uint32_t table, uint64_t id, const struct table_row *row, bool served);
    void *context;
    uint32_t table;
};

static void each_row(void *context, uint64_t id, const struct table_row *row, bool served)
{
    const struct each_context *c = context;
    c->each(c->context, c->table, id, row, served);
}

void model_update_each(const struct model_update *u,
                       void (*each)(void *context, uint32_t table, uint64_t id, const struct table_row *row,
                                    bool served),
                       void *context)
{
    for (uint32_t t = 0; t < u->m->options.n_tables; t++) {
        struct each_context c = {each, context, t};
        overlay_each(u->overlays[t], each_row, &c);
    }
}

void model_apply(struct model *m, struct model_update *u)
{
    assert(u->magic == UPDATE_MAGIC && u->m == m);
    for (uint32_t t = 0; t < m->options.n_tables; t++)
        table_apply(m->tables[t], u->overlays[t]);
    if (m->tower != NULL)
        tower_stale(m->tower);
    if (u->dense_trained) {
        memcpy(m->params, u->params, m->n_params * sizeof *m->params);
        memcpy(m->state, u->state, m->n_state * sizeof *m->state);
        model_pack(m);
    }
    m->trained = u->trained;
    m->steps = u->steps;
    m->frozen = u->frozen;
    model_update_free(u);
}

uint64_t model_update_trained(const struct model_update *u)
{
    return u->trained;
}

uint64_t model_update_steps(const struct model_update *u)
{
    return u->steps;
}
