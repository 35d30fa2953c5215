// SPDX-License-Identifier: Apache-2.0
// A model's life, and prediction: samples are cut into batches, ids become slots, the net runs.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/model_impl.h"
#include "models/tower.h"

enum { MODEL_MAGIC = 0x30de1001 };

// ---- life --------------------------------------------------------------------------------------------

bool model_input_has_ids(const struct model *m, uint32_t input)
{
    return m->inputs[input].kind != NET_INPUT_NUMBER;
}

static int runner_init(struct runner *r, const struct net_spec *spec, uint32_t n_tables, uint32_t *ret_block,
                       struct err *err)
{
    if (net_new(spec, &r->net, ret_block, err) != 0)
        return -1;
    r->tables = mem_array(n_tables, sizeof *r->tables);
    r->ids = mem_array(spec->n_inputs, sizeof *r->ids);
    r->counts = mem_array(spec->n_inputs, sizeof *r->counts);
    r->slots = mem_array(spec->n_inputs, sizeof *r->slots);
    r->slots_cap = mem_array(spec->n_inputs, sizeof *r->slots_cap);
    r->offsets = mem_array(spec->n_inputs, sizeof *r->offsets);
    r->numbers = mem_array(spec->n_inputs, sizeof *r->numbers);
    r->seen_offsets = mem_array(spec->n_inputs, sizeof *r->seen_offsets);
    requests_init(&r->requests, spec);
    r->labels = mem_array(spec->n_heads, sizeof *r->labels);
    r->weights = mem_array(spec->n_heads, sizeof *r->weights);
    for (uint32_t i = 0; i < spec->n_inputs; i++)
        if (spec->inputs[i].kind == NET_INPUT_SEQUENCE)
            r->offsets[i] = mem_array((size_t)spec->batch + 1, sizeof *r->offsets[i]);
    return 0;
}

static void runner_done(struct runner *r, uint32_t n_inputs)
{
    for (uint32_t i = 0; r->slots != NULL && i < n_inputs; i++) {
        free(r->slots[i]);
        free(r->offsets[i]);
    }
    net_free(r->net);
    free(r->tables);
    free(r->ids);
    free(r->counts);
    free(r->slots);
    free(r->slots_cap);
    free(r->offsets);
    free(r->numbers);
    free(r->seen_offsets);
    requests_done(&r->requests, n_inputs);
    free(r->labels);
    free(r->weights);
}

static void model_tables_new(struct model *m, const struct model_options *options)
{
    for (uint32_t i = 0; i < m->n_inputs; i++)
        if (model_input_has_ids(m, i)) {
            assert(m->inputs[i].table < options->n_tables);
            assert(m->inputs[i].dim == options->tables[m->inputs[i].table].dim);
        }
    m->tables = mem_array(options->n_tables, sizeof(struct table *));
    for (uint32_t t = 0; t < options->n_tables; t++)
        m->tables[t] = table_new(&options->tables[t]);
}

uint64_t model_bytes(const struct model *m)
{
    const struct net *nets[] = {m->serve.net, m->train.net};
    uint64_t bytes = m->n_params * sizeof *m->params + m->n_state * sizeof *m->state;
    for (uint32_t i = 0; i < sizeof nets / sizeof *nets; i++)
        bytes += net_arena_bytes(nets[i]) + net_packed_bytes(nets[i]);
    return bytes;
}

void model_pack(struct model *m)
{
    net_pack(m->serve.net, m->options.kernel, m->params);
    net_pack(m->train.net, m->options.kernel, m->params);
}

static void model_params_new(struct model *m)
{
    m->n_params = net_param_floats(m->serve.net);
    m->params = mem_array(m->n_params, sizeof *m->params);
    m->n_state = net_state_floats(m->serve.net, &m->options.dense);
    m->state = mem_array(m->n_state, sizeof *m->state);
    net_init(m->serve.net, m->options.seed, m->params);
    net_state_begin(m->serve.net, &m->options.dense, m->params, m->state);
    model_pack(m);
}

int model_new(const struct model_options *options, struct model **ret_model, uint32_t *ret_block,
              struct err *err)
{
    const struct net_spec *spec = &options->net;
    assert(options->epochs > 0 && spec->batch > 0);
    assert(options->dense.kind != OPTIMIZER_ROWWISE_ADAGRAD);
    struct model *m = mem_zalloc(sizeof *m);
    m->magic = MODEL_MAGIC;
    m->options = *options;
    m->options.net = (struct net_spec){0};
    m->options.tables = NULL;
    m->n_inputs = spec->n_inputs;
    m->n_heads = spec->n_heads;
    m->batch = spec->batch;
    m->inputs = mem_array(spec->n_inputs, sizeof *m->inputs);
    if (spec->n_inputs > 0)
        memcpy(m->inputs, spec->inputs, spec->n_inputs * sizeof *m->inputs);
    struct net_spec serve = *spec;
    serve.predicts = true;
    if (runner_init(&m->serve, &serve, options->n_tables, ret_block, err) != 0 ||
        runner_init(&m->train, spec, options->n_tables, ret_block, err) != 0) {
        model_free(m);
        return -1;
    }
    model_tables_new(m, options);
    m->spare = mem_array(options->n_tables, sizeof(struct overlay *));
    model_params_new(m);
    m->frozen = model_frozen_at(m, 0, false);
    m->tower = options->tower_bytes > 0 ? tower_new(m, options->tower_bytes) : NULL;
    *ret_model = m;
    return 0;
}

void model_free(struct model *m)
{
    if (m == NULL)
        return;
    assert(m->magic == MODEL_MAGIC);
    for (uint32_t t = 0; m->spare != NULL && t < m->options.n_tables; t++)
        overlay_free(m->spare[t]); // before its table, at which it looks
    for (uint32_t t = 0; m->tables != NULL && t < m->options.n_tables; t++)
        table_free(m->tables[t]);
    free(m->spare);
    tower_free(m->tower);
    runner_done(&m->serve, m->n_inputs);
    runner_done(&m->train, m->n_inputs);
    free(m->tables);
    free(m->inputs);
    free(m->params);
    free(m->state);
    free(m);
}

struct overlay *model_overlay_take(struct model *m, uint32_t table)
{
    struct overlay *overlay = m->spare[table];
    m->spare[table] = NULL;
    return overlay != NULL ? overlay : overlay_new(m->tables[table]);
}

void model_overlay_give(struct model *m, uint32_t table, struct overlay *overlay)
{
    if (m->spare[table] != NULL) {
        overlay_free(overlay);
        return;
    }
    overlay_clear(overlay);
    m->spare[table] = overlay;
}

struct net *model_net(struct model *m)
{
    return m->serve.net;
}

struct table *model_table(struct model *m, uint32_t table)
{
    assert(m->magic == MODEL_MAGIC && table < m->options.n_tables);
    return m->tables[table];
}

uint32_t model_table_count(const struct model *m)
{
    return m->options.n_tables;
}

const float *model_state(const struct model *m)
{
    return m->state;
}

enum optimizer_kind model_optimizer(const struct model *m)
{
    return m->options.dense.kind;
}

const float *model_params(const struct model *m)
{
    return m->params;
}

void model_params_begin(const struct model *m, float *ret_params)
{
    net_init(m->serve.net, m->options.seed, ret_params);
}

uint64_t model_trained(const struct model *m)
{
    return m->trained;
}

uint64_t model_steps(const struct model *m)
{
    return m->steps;
}

void model_resume(struct model *m, uint64_t trained, uint64_t steps)
{
    m->trained = trained;
    m->steps = steps;
    m->frozen = model_frozen_at(m, trained, m->frozen);
}

bool model_frozen(const struct model *m)
{
    return m->frozen;
}

bool model_frozen_at(const struct model *m, uint64_t trained, bool before)
{
    if (m->options.bootstrap_samples == MODEL_NEVER_FROZEN)
        return false;
    return before || trained >= m->options.bootstrap_samples;
}

// ---- batches -----------------------------------------------------------------------------------------

static void slots_reserve(struct runner *r, uint32_t input)
{
    if (r->counts[input] <= r->slots_cap[input])
        return;
    r->slots_cap[input] = r->counts[input] + r->counts[input] / 2;
    r->slots[input] = mem_resize(r->slots[input], r->slots_cap[input], sizeof *r->slots[input]);
}

static void cut_ids(struct model *m, struct runner *r, const struct model_samples *samples, uint32_t input,
                    uint32_t at)
{
    if (m->inputs[input].kind == NET_INPUT_ID) {
        r->ids[input] = samples->ids[input] + at;
        r->counts[input] = r->batch.n;
    } else {
        const uint32_t *from = samples->offsets[input] + at;
        for (uint32_t i = 0; i <= r->batch.n; i++) {
            assert(i == 0 || from[i] - from[i - 1] <= m->inputs[input].max_len);
            r->offsets[input][i] = from[i] - from[0];
        }
        r->ids[input] = samples->ids[input] + from[0];
        r->counts[input] = r->offsets[input][r->batch.n];
    }
    slots_reserve(r, input);
}

void runner_cut(struct model *m, struct runner *r, const struct model_samples *samples, uint32_t at,
                uint32_t n)
{
    r->batch = (struct net_batch){
        .n = n,
        .tables = r->tables,
        .slots = (const uint32_t *const *)r->slots,
        .offsets = r->seen_offsets,
        .numbers = r->numbers,
        .labels = samples->labels != NULL ? r->labels : NULL,
        .weights = samples->weights != NULL ? r->weights : NULL,
    };
    for (uint32_t i = 0; i < m->n_inputs; i++) {
        if (model_input_has_ids(m, i))
            cut_ids(m, r, samples, i, at);
        else
            r->numbers[i] = samples->numbers[i] + at;
        struct request_column *c = &r->requests.columns[i];
        c->ids = r->ids[i];
        c->count = r->counts[i];
        c->numbers = r->numbers[i];
    }
    for (uint32_t h = 0; samples->labels != NULL && h < m->n_heads; h++)
        r->labels[h] = samples->labels[h] + at;
    for (uint32_t h = 0; samples->weights != NULL && h < m->n_heads; h++)
        r->weights[h] = samples->weights[h] != NULL ? samples->weights[h] + at : NULL;
    requests_find(m, r);
}

void runner_find(struct model *m, struct runner *r)
{
    for (uint32_t t = 0; t < m->options.n_tables; t++)
        r->tables[t] = (struct net_rows){table_vectors(m->tables[t]), table_stride(m->tables[t])};
    for (uint32_t i = 0; i < m->n_inputs; i++)
        if (model_input_has_ids(m, i) && net_input_needed(r->net, i))
            table_find_many(m->tables[m->inputs[i].table], r->ids[i], r->counts[i], r->slots[i]);
}

void model_predict_heads(struct model *m, const struct model_samples *samples, const bool *heads,
                         float *const *ret_p)
{
    assert(m->magic == MODEL_MAGIC);
    float **p = mem_array(m->n_heads, sizeof *p);
    for (uint32_t at = 0; at < samples->n; at += m->batch) {
        uint32_t n = samples->n - at < m->batch ? samples->n - at : m->batch;
        for (uint32_t h = 0; h < m->n_heads; h++)
            p[h] = ret_p[h] + at;
        runner_cut(m, &m->serve, samples, at, n);
        net_select(m->serve.net, heads, NULL, NULL);
        const bool *given = m->tower != NULL ? tower_give(m->tower, m, &m->serve) : NULL;
        if (given != NULL)
            net_select(m->serve.net, heads, NULL, given);
        runner_find(m, &m->serve);
        net_forward(m->serve.net, m->params, &m->serve.batch, p);
    }
    free(p);
}

void model_predict(struct model *m, const struct model_samples *samples, float *const *ret_p)
{
    model_predict_heads(m, samples, NULL, ret_p);
}

// ---- what is kept of the item's side ------------------------------------------------------------------

void model_tower_figures(const struct model *m, struct model_tower_figures *ret_figures)
{
    *ret_figures = (struct model_tower_figures){0};
    if (m->tower != NULL)
        tower_figures(m->tower, ret_figures);
}

bool model_tower_fill(struct model *m, uint32_t max)
{
    return m->tower != NULL && tower_fill(m->tower, m, max);
}
