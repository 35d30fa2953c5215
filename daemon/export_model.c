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
#include "daemon/model_file.h"
#include "models/safetensors.h"

struct model_tensor {
    char name[MODEL_FILE_NAME];
    const struct net_param *param; // NULL: a part of a table
    uint32_t table;
    enum model_file_part part;
};

struct model_export {
    struct model *model;
    bool initial;
    float *params;   // as they begin; NULL: the model's
    uint32_t **rows; // by table: slots of its admitted rows, in order of id
    uint32_t *n_rows;
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
                                  .n_dims = part == PART_WEIGHT ? 2 : 1,
                                  .shape = {m->n_rows[t], o->dim}};
        if (integers != (part < PART_WEIGHT))
            continue;
        model_file_name(o->name, tensor.part, tensor.name);
        tensor_add(m, &tensor, &head);
    }
}

static void tensors_of_net(struct model_export *m)
{
    const struct net *net = model_net(m->model);
    for (uint32_t i = 0; i < net_param_count(net); i++) {
        const struct net_param *p = net_param(net, i);
        struct model_tensor tensor = {.param = p};
        struct safetensor head = {
            .type = SAFETENSOR_F32, .n_dims = p->vector ? 1 : 2, .shape = {p->rows, p->cols}};
        snprintf(tensor.name, sizeof tensor.name, "%s", p->name);
        tensor_add(m, &tensor, &head);
    }
}

// I64 first, so that all data are aligned.
static void tensors_list(struct model_export *m)
{
    const uint32_t n_tables = model_table_count(m->model);
    const uint32_t most = net_param_count(model_net(m->model)) + n_tables * PARTS;
    m->tensors = mem_array(most, sizeof *m->tensors);
    m->heads = mem_array(most, sizeof *m->heads);
    m->rows = mem_array(n_tables, sizeof *m->rows);
    m->n_rows = mem_array(n_tables, sizeof *m->n_rows);
    for (uint32_t t = 0; t < n_tables; t++) {
        rows_find(m, t);
        tensors_of_table(m, t, true);
    }
    tensors_of_net(m);
    for (uint32_t t = 0; t < n_tables; t++)
        tensors_of_table(m, t, false);
    if (!m->initial)
        return;
    m->params = mem_array(net_param_floats(model_net(m->model)), sizeof *m->params);
    model_params_begin(m->model, m->params);
}

// ---- data -------------------------------------------------------------------------------------------------

static void row_vector_put(struct model_export *m, const struct table *table, const struct table_row *row)
{
    if (m->initial)
        table_begin(table, row->id, m->vector);
    buf_put(&m->data, m->initial ? m->vector : row->vector, table_options(table)->dim * sizeof *m->vector);
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
    default:
        if (m->initial)
            accum = table_begin(table, row->id, m->vector);
        buf_put(&m->data, &accum, sizeof accum);
    }
}

static void tensor_data(struct model_export *m, const struct model_tensor *t)
{
    buf_clear(&m->data);
    if (t->param != NULL) {
        const float *params = m->params != NULL ? m->params : model_params(m->model);
        buf_put(&m->data, params + t->param->offset,
                (size_t)t->param->rows * t->param->cols * sizeof *params);
        return;
    }
    const struct table *table = model_table(m->model, t->table);
    for (uint32_t i = 0; i < m->n_rows[t->table]; i++)
        part_put(m, table, table_row(table, m->rows[t->table][i]), t->part);
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
        tensor_data(m, &m->tensors[i]);
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
    tensors_list(&m);
    int result = write_all(&m, updater_version(x->engine->updater), f);
    if (fclose(f) != 0 || result != 0)
        result = err_errno(err, "writing %s", path);
    else
        fprintf(stderr, "%u tensors in %s\n", m.n, path);
    model_export_done(&m);
    return result;
}
