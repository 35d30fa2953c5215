// SPDX-License-Identifier: Apache-2.0
// freshet export model: dense layers and tables as one file (model_file.h). With --initial as they were before any
// training: the layers as the seed gives them, and of each row that is there now the vector that it began with, so
// that the training can be done again elsewhere.
//
// Tensors are written one after the other: what is in memory beside the model is one tensor of one table, at most.
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/export.h"
#include "daemon/learned.h"
#include "daemon/model_file.h"
#include "models/safetensors.h"

struct model_tensor {
    char name[MODEL_FILE_NAME];
    uint32_t table; // where the head has no data: of a part of a table they are gathered
    enum model_file_part part;
};

struct model_export {
    struct model *model;
    bool initial;
    float *params; // as they begin; NULL: the model's
    uint64_t samples, steps;
    uint32_t **rows; // by table: slots of its admitted rows, in order of id
    uint32_t *n_rows;
    uint32_t n_learned;
    struct learned_tensor *learned;
    uint32_t n;
    struct model_tensor *tensors;
    struct safetensor *heads;
    struct buf data;
    float vector[NET_DIM_MAX];
};

static void rows_find(struct model_export *m, uint32_t t)
{
    const struct table *table = model_table(m->model, t);
    uint32_t n, kept = 0;
    uint32_t *order = table_order(table, &n);
    for (uint32_t i = 0; i < n; i++)
        if (table_admitted(table, table_row(table, order[i])))
            order[kept++] = order[i];
    m->rows[t] = order;
    m->n_rows[t] = kept;
}

static void tensor_add(struct model_export *m, const struct model_tensor *tensor,
                       const struct safetensor *head)
{
    m->tensors[m->n] = *tensor;
    m->heads[m->n] = *head;
    m->heads[m->n].name = m->tensors[m->n].name;
    m->n++;
}

static void tensors_of_table(struct model_export *m, uint32_t t, bool integers)
{
    const struct table_options *o = table_options(model_table(m->model, t));
    for (int part = PART_IDS; part < PARTS; part++) {
        struct model_tensor tensor = {.table = t, .part = (enum model_file_part)part};
        struct safetensor head = {.type = part < PART_WEIGHT ? SAFETENSOR_I64 : SAFETENSOR_F32,
                                  .n_dims = part == PART_WEIGHT || part >= PART_FIRST ? 2 : 1,
                                  .shape = {m->n_rows[t], o->dim}};
        const bool state = part == PART_FIRST || part == PART_SECOND;
        if (integers != (part < PART_WEIGHT) || !model_file_has(o->optimizer.kind, tensor.part) ||
            (state && m->initial))
            continue;
        model_file_name(o->name, o->optimizer.kind, tensor.part, tensor.name);
        tensor_add(m, &tensor, &head);
    }
}

// A model that has learned nothing has none.
static void tensors_of_learned(struct model_export *m)
{
    for (uint32_t i = 0; i < m->n_learned; i++) {
        const struct safetensor head = learned_head(&m->learned[i]);
        struct model_tensor tensor = {.table = 0};
        snprintf(tensor.name, sizeof tensor.name, "%s", m->learned[i].name);
        tensor_add(m, &tensor, &head);
    }
}

static struct safetensor param_head(const struct net_param *p, const float *data)
{
    return (struct safetensor){.type = SAFETENSOR_F32,
                               .n_dims = p->vector ? 1 : 2,
                               .shape = {p->rows, p->cols},
                               .data = data + p->offset};
}

static void tensors_of_net(struct model_export *m)
{
    const struct net *net = model_net(m->model);
    const float *params = m->params != NULL ? m->params : model_params(m->model);
    for (uint32_t i = 0; i < net_param_count(net); i++) {
        const struct net_param *p = net_param(net, i);
        const struct safetensor head = param_head(p, params);
        struct model_tensor tensor = {.table = 0};
        snprintf(tensor.name, sizeof tensor.name, "%s", p->name);
        tensor_add(m, &tensor, &head);
    }
}

static void tensors_of_optimizer(struct model_export *m)
{
    const struct net *net = model_net(m->model);
    const enum optimizer_kind kind = model_optimizer(m->model);
    for (uint32_t a = 0; a < optimizer_state(kind) && !m->initial; a++)
        for (uint32_t i = 0; i < net_param_count(net); i++) {
            const struct net_param *p = net_param(net, i);
            const struct safetensor head = param_head(p, model_state(m->model) + a * net_param_floats(net));
            struct model_tensor tensor = {.table = 0};
            if (!p->trainable)
                continue;
            model_file_state_name(p->name, kind, a, tensor.name);
            tensor_add(m, &tensor, &head);
        }
}

static void tensors_of_counts(struct model_export *m)
{
    const struct model_tensor samples = {.name = MODEL_FILE_SAMPLES}, step = {.name = MODEL_FILE_STEP};
    struct safetensor head = {.type = SAFETENSOR_I64, .n_dims = 1, .shape = {1}, .data = &m->samples};
    if (m->initial)
        return;
    m->samples = model_trained(m->model);
    m->steps = model_steps(m->model);
    tensor_add(m, &samples, &head);
    head.data = &m->steps;
    tensor_add(m, &step, &head);
}

// I64 and F64 first, so that all data are aligned.
static void tensors_list(struct model_export *m)
{
    const uint32_t n_tables = model_table_count(m->model);
    const uint32_t most =
        net_param_count(model_net(m->model)) * (1 + PARTS - PART_FIRST) + n_tables * PARTS + m->n_learned + 2;
    m->tensors = mem_array(most, sizeof *m->tensors);
    m->heads = mem_array(most, sizeof *m->heads);
    m->rows = mem_array(n_tables, sizeof *m->rows);
    m->n_rows = mem_array(n_tables, sizeof *m->n_rows);
    if (m->initial) {
        m->params = mem_array(net_param_floats(model_net(m->model)), sizeof *m->params);
        model_params_begin(m->model, m->params);
    }
    for (uint32_t t = 0; t < n_tables; t++) {
        rows_find(m, t);
        tensors_of_table(m, t, true);
    }
    tensors_of_counts(m);
    tensors_of_learned(m);
    tensors_of_net(m);
    tensors_of_optimizer(m);
    for (uint32_t t = 0; t < n_tables; t++)
        tensors_of_table(m, t, false);
}

// ---- data -------------------------------------------------------------------------------------------------

static void row_vector_put(struct model_export *m, const struct table *table, const struct table_row *row)
{
    if (m->initial)
        table_begin(table, row->id, m->vector);
    buf_put(&m->data, m->initial ? m->vector : row->vector, table_options(table)->dim * sizeof *m->vector);
}

static void state_put(struct model_export *m, const struct table *table, const struct table_row *row,
                      uint32_t array)
{
    const uint32_t dim = table_options(table)->dim;
    buf_put(&m->data, row->vector + (1 + array) * dim, dim * sizeof *row->vector);
}

static void part_put(struct model_export *m, const struct table *table, const struct table_row *row,
                     enum model_file_part part)
{
    float accum = row->accum;
    switch (part) {
    case PART_IDS:
        buf_put_u64(&m->data, row->id);
        return;
    case PART_COUNT:
        buf_put_u64(&m->data, row->count);
        return;
    case PART_SEEN:
        buf_put_u64(&m->data, row->last_seen_s);
        return;
    case PART_WEIGHT:
        row_vector_put(m, table, row);
        return;
    case PART_FIRST:
    case PART_SECOND:
        state_put(m, table, row, (uint32_t)(part - PART_FIRST));
        return;
    default:
        if (m->initial)
            accum = table_begin(table, row->id, m->vector);
        buf_put(&m->data, &accum, sizeof accum);
    }
}

static void tensor_data(struct model_export *m, uint32_t i)
{
    const struct model_tensor *t = &m->tensors[i];
    const struct safetensor *head = &m->heads[i];
    buf_clear(&m->data);
    if (head->data != NULL) {
        buf_put(&m->data, head->data, safetensor_bytes(head));
        return;
    }
    const struct table *table = model_table(m->model, t->table);
    for (uint32_t k = 0; k < m->n_rows[t->table]; k++)
        part_put(m, table, table_row(table, m->rows[t->table][k]), t->part);
}

static void header_data(struct model_export *m, const struct version *v)
{
    struct safetensor_note notes[] = {
        {"base", ""}, {"version", ""}, {"trained_through", ""}, {"trained", ""}, {"frozen", ""}};
    snprintf(notes[0].value, sizeof notes[0].value, "%016" PRIx64, v->base);
    snprintf(notes[1].value, sizeof notes[1].value, "%" PRIu64, m->initial ? 0 : v->version);
    snprintf(notes[2].value, sizeof notes[2].value, "%" PRIu64, v->trained_through);
    snprintf(notes[3].value, sizeof notes[3].value, "%" PRIu64, model_trained(m->model));
    snprintf(notes[4].value, sizeof notes[4].value, "%s", model_frozen(m->model) ? "true" : "false");
    buf_clear(&m->data);
    safetensors_put_header(&m->data, notes, sizeof notes / sizeof *notes, m->heads, m->n);
}

static int write_all(struct model_export *m, const struct version *v, FILE *to)
{
    header_data(m, v);
    for (uint32_t i = 0;; i++) {
        if (fwrite(m->data.data, 1, m->data.len, to) != m->data.len)
            return -1;
        if (i == m->n)
            return 0;
        tensor_data(m, i);
    }
}

static void model_export_done(struct model_export *m)
{
    for (uint32_t t = 0; t < model_table_count(m->model); t++)
        free(m->rows[t]);
    free(m->rows);
    free(m->n_rows);
    free(m->tensors);
    free(m->heads);
    free(m->params);
    free(m->learned);
    buf_done(&m->data);
}

int export_model(struct export *x, struct err *err)
{
    const char *path = cli_value(x->cli, "out") != NULL ? cli_value(x->cli, "out") : "model.safetensors";
    struct model_export m = {.model = updater_model(x->engine->updater),
                             .initial = cli_given(x->cli, "initial")};
    FILE *f = fopen(path, "wb");
    if (f == NULL)
        return err_errno(err, "opening %s", path);
    m.learned = mem_array(LEARNED_MAX, sizeof *m.learned);
    if (!m.initial)
        m.n_learned = updater_learned_tensors(x->engine->updater, m.learned);
    tensors_list(&m);
    int result = write_all(&m, updater_version(x->engine->updater), f);
    if (fclose(f) != 0 || result != 0)
        result = err_errno(err, "writing %s", path);
    else
        fprintf(stderr, "%u tensors in %s\n", m.n, path);
    model_export_done(&m);
    return result;
}
