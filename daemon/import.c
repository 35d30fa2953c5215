// SPDX-License-Identifier: Apache-2.0
// freshet import model: a model that was trained or changed elsewhere becomes a version of its own, in a state that no
// daemon holds. It goes the way of every update: the file is checked and put into an overlay, the brakes look at it,
// rows, version and delta are one commit, and whoever follows gets it as any other version.
//
// The file is what `freshet export model` writes (model_file.h), or a part of it: the dense layers, all or none of
// them, tables, what was learned beside them, what the optimizers keep. What a table of the file does not name stays as
// it is. Without accum, count and last_seen a row keeps its own; a new one begins with the table's accumulator, and
// counts as seen just now in event time (--at).
//
// Nothing is changed before the whole file has been found good.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/nearest.h"
#include "daemon/commands.h"
#include "daemon/engine.h"
#include "daemon/learned.h"
#include "daemon/model_file.h"
#include "daemon/tensors.h"
#include "daemon/views.h"

// What the file says of one table; NULL where it says nothing.
struct table_file {
    const struct tensor *parts[PARTS];
    uint64_t rows;
};

struct import {
    struct cli *cli;
    struct engine *engine;
    struct tensors file;
    bool dense, dense_state;
    int64_t samples, step; // trained on; -1: the file does not say
    struct table_file *tables;
    struct norms norms;
    struct quantiles *quantiles;
    int64_t seen_s; // of rows of which the file does not say it; -1: not known
};

static struct model *import_model(const struct import *m)
{
    return updater_model(m->engine->updater);
}

static const struct table *import_table(const struct import *m, uint32_t t)
{
    return model_table(import_model(m), t);
}

// ---- what is in the file ----------------------------------------------------------------------------------

static int dense_find(struct import *m, struct err *err)
{
    const struct net *net = model_net(import_model(m));
    const char *missing = NULL;
    for (uint32_t i = 0; i < net_param_count(net); i++) {
        const struct net_param *p = net_param(net, i);
        const uint64_t shape[] = {p->rows, p->cols};
        struct tensor *t = tensors_find(&m->file, p->name);
        if (t == NULL) {
            missing = missing == NULL ? p->name : missing;
            continue;
        }
        t->taken = m->dense = true;
        if (tensor_check(t, "F32", p->vector ? 1 : 2, shape, err) != 0 || tensor_check_finite(t, err) != 0)
            return -1;
    }
    if (m->dense && missing != NULL)
        return err_set(err, ERR_INVALID, "tensor \"%s\" is missing: the dense layers come all or not at all",
                       missing);
    return 0;
}

// The optimizer's arrays of the dense layers: all or none, and with the layers that they are of.
static int state_find(struct import *m, struct err *err)
{
    const struct net *net = model_net(import_model(m));
    const enum optimizer_kind kind = model_optimizer(import_model(m));
    char name[MODEL_FILE_NAME], missing[MODEL_FILE_NAME] = "";
    for (uint32_t a = 0; a < optimizer_state(kind); a++)
        for (uint32_t i = 0; i < net_param_count(net); i++) {
            const struct net_param *p = net_param(net, i);
            const uint64_t shape[] = {p->rows, p->cols};
            struct tensor *t = tensors_find(&m->file, model_file_state_name(p->name, kind, a, name));
            if (t == NULL && p->trainable)
                memcpy(missing, name, sizeof missing);
            if (t == NULL || !p->trainable)
                continue;
            t->taken = m->dense_state = true;
            if (tensor_check(t, "F32", p->vector ? 1 : 2, shape, err) != 0 ||
                tensor_check_finite(t, err) != 0 ||
                (optimizer_state_squares(kind, a) && tensor_check_positive(t, err) != 0))
                return -1;
        }
    if (m->dense_state && (missing[0] != '\0' || !m->dense))
        return err_set(err, ERR_INVALID,
                       "tensor \"%s\" is missing: the optimizer's come all, and with the dense layers",
                       missing[0] != '\0' ? missing : net_param(net, 0)->name);
    return 0;
}

// A count that the file may have; else *ret stays.
static int count_find(struct import *m, const char *name, int64_t *ret, struct err *err)
{
    const uint64_t shape = 1;
    struct tensor *t = tensors_find(&m->file, name);
    if (t == NULL)
        return 0;
    t->taken = true;
    if (tensor_check(t, "I64", 1, &shape, err) != 0)
        return -1;
    memcpy(ret, t->data, sizeof *ret);
    return *ret < 0 ? err_set(err, ERR_INVALID, "tensor \"%s\" is below 0", name) : 0;
}

static int part_check(const struct tensor *t, enum model_file_part part, uint64_t rows, uint32_t dim,
                      struct err *err)
{
    const uint64_t shape[] = {rows, dim};
    const bool real = part >= PART_WEIGHT, wide = part == PART_WEIGHT || part >= PART_FIRST;
    if (tensor_check(t, real ? "F32" : "I64", wide ? 2 : 1, shape, err) != 0)
        return -1;
    return real ? tensor_check_finite(t, err) : 0;
}

static uint64_t part_u64(const struct tensor *t, uint64_t i)
{
    uint64_t v;
    memcpy(&v, t->data + i * sizeof v, sizeof v);
    return v;
}

static float part_f32(const struct tensor *t, uint64_t i)
{
    float v;
    memcpy(&v, t->data + i * sizeof v, sizeof v);
    return v;
}

static int id_compare(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static int ids_check(const struct tensor *t, uint64_t rows, struct err *err)
{
    uint64_t *sorted = mem_array(rows, sizeof *sorted);
    int result = 0;
    if (rows > 0)
        memcpy(sorted, t->data, rows * sizeof *sorted);
    qsort(sorted, rows, sizeof *sorted, id_compare);
    for (uint64_t i = 0; i < rows && result == 0; i++)
        if (sorted[i] == 0 || sorted[i] == UINT64_MAX || (i > 0 && sorted[i] == sorted[i - 1]))
            result = err_set(err, ERR_INVALID, "tensor \"%.80s\": the feature id %016llx %s", t->name,
                             (unsigned long long)sorted[i],
                             i > 0 && sorted[i] == sorted[i - 1] ? "is there twice" : "is none");
    free(sorted);
    return result;
}

static int numbers_check(const struct table_file *f, enum optimizer_kind kind, struct err *err)
{
    for (int part = PART_COUNT; part <= PART_SEEN; part++)
        for (uint64_t i = 0; f->parts[part] != NULL && i < f->rows; i++)
            if (part_u64(f->parts[part], i) > UINT32_MAX)
                return err_set(err, ERR_INVALID, "tensor \"%.80s\", place %llu: 0 to %u is expected",
                               f->parts[part]->name, (unsigned long long)i, UINT32_MAX);
    for (int part = PART_ACCUM; part < PARTS; part++) {
        const bool squares =
            part == PART_ACCUM || optimizer_state_squares(kind, (uint32_t)(part - PART_FIRST));
        if (f->parts[part] != NULL && squares && tensor_check_positive(f->parts[part], err) != 0)
            return -1;
    }
    return 0;
}

static int parts_check(const struct table_file *f, const struct table_options *o, struct err *err)
{
    const enum optimizer_kind kind = o->optimizer.kind;
    const bool state = f->parts[PART_FIRST] != NULL || f->parts[PART_SECOND] != NULL;
    char name[MODEL_FILE_NAME];
    for (int part = 0; part < PARTS; part++) {
        const bool needed = part == PART_IDS || part == PART_WEIGHT || (state && part >= PART_FIRST);
        if (needed && f->parts[part] == NULL && model_file_has(kind, (enum model_file_part)part))
            return err_set(
                err, ERR_INVALID,
                "tensor \"%s\" is missing: a table has ids and weight, and of its optimizer all or "
                "nothing",
                model_file_name(o->name, kind, (enum model_file_part)part, name));
    }
    return 0;
}

static int table_check(struct table_file *f, const struct table_options *o, struct err *err)
{
    if (parts_check(f, o, err) != 0)
        return -1;
    f->rows = f->parts[PART_WEIGHT]->n_dims > 0 ? f->parts[PART_WEIGHT]->shape[0] : 0;
    for (int part = 0; part < PARTS; part++)
        if (f->parts[part] != NULL &&
            part_check(f->parts[part], (enum model_file_part)part, f->rows, o->dim, err) != 0)
            return -1;
    return ids_check(f->parts[PART_IDS], f->rows, err) != 0 ? -1 : numbers_check(f, o->optimizer.kind, err);
}

static int tables_find(struct import *m, struct err *err)
{
    char name[MODEL_FILE_NAME];
    m->tables = mem_array(model_table_count(import_model(m)), sizeof *m->tables);
    for (uint32_t t = 0; t < model_table_count(import_model(m)); t++) {
        const struct table_options *o = table_options(import_table(m, t));
        bool any = false;
        for (int part = 0; part < PARTS; part++) {
            if (!model_file_has(o->optimizer.kind, (enum model_file_part)part))
                continue;
            model_file_name(o->name, o->optimizer.kind, (enum model_file_part)part, name);
            struct tensor *found = tensors_find(&m->file, name);
            m->tables[t].parts[part] = found;
            if (found != NULL)
                any = found->taken = true;
        }
        if (any && table_check(&m->tables[t], o, err) != 0)
            return -1;
    }
    return 0;
}

// PyTorch's count of batches says nothing to us: statistics move by a momentum.
static bool tensor_ignored(const struct tensor *t)
{
    static const char batches[] = "num_batches_tracked";
    const size_t n = strlen(t->name), tail = sizeof batches - 1;
    return n > tail && strcmp(t->name + n - tail, batches) == 0 && t->name[n - tail - 1] == '.';
}

static int unknown_check(const struct import *m, struct err *err)
{
    const struct net *net = model_net(import_model(m));
    struct nearest near;
    for (uint32_t i = 0; i < m->file.n; i++) {
        const struct tensor *t = &m->file.list[i];
        if (t->taken || tensor_ignored(t))
            continue;
        nearest_init(&near, t->name);
        for (uint32_t k = 0; k < net_param_count(net); k++)
            nearest_put(&near, net_param(net, k)->name);
        const bool bare = strcmp(t->name, "weight") == 0; // as `export table` writes it
        return err_set(
            err, ERR_INVALID, "tensor \"%.80s\" is no part of the model that the config declares%s", t->name,
            bare ? "; rows of a table are tables.NAME.weight with tables.NAME.ids, as export model has them"
                 : nearest_hint(&near));
    }
    return 0;
}

static int file_check(struct import *m, struct err *err)
{
    m->norms = *updater_norms(m->engine->updater);
    if (dense_find(m, err) != 0 || state_find(m, err) != 0 ||
        count_find(m, MODEL_FILE_SAMPLES, &m->samples, err) != 0 ||
        count_find(m, MODEL_FILE_STEP, &m->step, err) != 0 || tables_find(m, err) != 0 ||
        learned_read(&m->file, m->cli->config, &m->norms, &m->quantiles, err) != 0 ||
        unknown_check(m, err) != 0)
        return -1;
    for (uint32_t i = 0; i < m->file.n; i++)
        if (m->file.list[i].taken)
            return 0;
    return err_set(err, ERR_INVALID, "it holds no tensor of the model");
}

// ---- into an update ---------------------------------------------------------------------------------------

// The row as it stands, or a new one.
static void row_begin(const struct table *table, uint64_t id, struct table_row *row)
{
    const uint32_t slot = table_find(table, id);
    *row = (struct table_row){.id = id};
    row->accum = table_begin(table, id, row->vector);
    if (slot == TABLE_NONE)
        return;
    const struct table_row *now = table_row(table, slot);
    row->count = now->count;
    row->last_seen_s = now->last_seen_s;
    if (table_admitted(table, now))
        row->accum = now->accum;
}

static int row_seen(const struct import *m, const struct table_file *f, uint64_t i,
                    const struct table_options *o, struct table_row *row, struct err *err)
{
    if (f->parts[PART_SEEN] != NULL)
        row->last_seen_s = (uint32_t)part_u64(f->parts[PART_SEEN], i);
    else if (row->count == 0 && m->seen_s >= 0)
        row->last_seen_s = (uint32_t)m->seen_s;
    else if (row->count == 0 && o->expire_ms > 0)
        return err_set(err, ERR_INVALID,
                       "the state has seen no event yet: say with --at as of when the new rows of table %s "
                       "count as seen, or they would expire at once",
                       o->name);
    return 0;
}

static int table_put(const struct import *m, struct model_update *u, uint32_t t, struct err *err)
{
    const struct table_file *f = &m->tables[t];
    const struct table *table = import_table(m, t);
    const struct table_options *o = table_options(table);
    const uint32_t arrays = f->parts[PART_FIRST] != NULL ? optimizer_state(o->optimizer.kind) : 0;
    const size_t bytes = o->dim * sizeof(float);
    struct table_row *row = mem_zalloc(sizeof *row + (1 + arrays) * bytes);
    int result = 0;
    for (uint64_t i = 0; i < f->rows && result == 0; i++) {
        row_begin(table, part_u64(f->parts[PART_IDS], i), row);
        result = row_seen(m, f, i, o, row, err);
        if (f->parts[PART_COUNT] != NULL)
            row->count = (uint32_t)part_u64(f->parts[PART_COUNT], i);
        if (f->parts[PART_ACCUM] != NULL)
            row->accum = part_f32(f->parts[PART_ACCUM], i);
        memcpy(row->vector, f->parts[PART_WEIGHT]->data + i * bytes, bytes);
        for (uint32_t a = 0; a < arrays; a++)
            memcpy(row->vector + (size_t)(1 + a) * o->dim, f->parts[PART_FIRST + a]->data + i * bytes, bytes);
        if (result == 0 && !model_update_row(u, t, row, arrays > 0))
            result = err_set(err, ERR_LIMIT,
                             "table %s has no room for them: tables.%s.rows is %llu, of which %llu are taken",
                             o->name, o->name, (unsigned long long)o->rows,
                             (unsigned long long)table_count(table));
    }
    free(row);
    return result;
}

static float *dense_state(const struct import *m)
{
    const struct net *net = model_net(import_model(m));
    const enum optimizer_kind kind = model_optimizer(import_model(m));
    const size_t n = net_param_floats(net);
    char name[MODEL_FILE_NAME];
    float *state = mem_array(n * optimizer_state(kind), sizeof *state);
    for (uint32_t a = 0; a < optimizer_state(kind); a++)
        for (uint32_t i = 0; i < net_param_count(net); i++) {
            const struct net_param *p = net_param(net, i);
            const struct tensor *t = tensors_find(&m->file, model_file_state_name(p->name, kind, a, name));
            if (p->trainable)
                memcpy(state + a * n + p->offset, t->data, t->bytes);
        }
    return state;
}

static void dense_put(const struct import *m, struct model_update *u)
{
    const struct net *net = model_net(import_model(m));
    float *params = mem_array(net_param_floats(net), sizeof *params);
    for (uint32_t i = 0; i < net_param_count(net); i++) {
        const struct net_param *p = net_param(net, i);
        memcpy(params + p->offset, tensors_find(&m->file, p->name)->data,
               (size_t)p->rows * p->cols * sizeof *params);
    }
    float *state = m->dense_state ? dense_state(m) : NULL;
    model_update_params(u, params, state);
    free(state);
    free(params);
}

static int import_version(struct import *m, struct update_result *ret, struct err *err)
{
    struct updater *updater = m->engine->updater;
    struct model_update *u = update_import(updater);
    update_import_learned(updater, &m->norms, m->quantiles);
    m->quantiles = NULL;
    const struct model *model = import_model(m);
    model_update_resume(u, m->samples >= 0 ? (uint64_t)m->samples : model_trained(model),
                        m->step >= 0 ? (uint64_t)m->step : model_steps(model));
    if (m->dense)
        dense_put(m, u);
    for (uint32_t t = 0; t < model_table_count(import_model(m)); t++)
        if (m->tables[t].rows > 0 && table_put(m, u, t, err) != 0)
            return -1;
    update_finish(updater);
    update_record(updater, ret);
    if (ret->brake != BRAKE_NONE)
        return err_set(err, ERR_NUMERIC, "the brake %s stops it (value %g): see update.brakes",
                       update_brake_name(ret->brake), ret->brake_value);
    if (engine_commit_wait(m->engine, err) != 0)
        return -1;
    update_apply(updater);
    return 0;
}

// ---- the command ------------------------------------------------------------------------------------------

static void import_print(const struct import *m, const struct update_result *result)
{
    struct buf out = {0};
    struct json j = json_to(&out);
    char text[DIGEST_TEXT];
    uint64_t ignored = 0;
    for (uint32_t i = 0; i < m->file.n; i++)
        ignored += !m->file.list[i].taken;
    json_object(&j);
    json_key(&j, "version");
    json_uint(&j, result->version);
    json_key(&j, "dense");
    digest_text(updater_version(m->engine->updater)->dense, text);
    json_string(&j, text);
    json_key(&j, "dense_imported");
    json_bool(&j, m->dense);
    json_key(&j, "rows");
    json_object(&j);
    for (uint32_t t = 0; t < model_table_count(import_model(m)); t++) {
        json_key(&j, table_options(import_table(m, t))->name);
        json_uint(&j, m->tables[t].rows);
    }
    json_end(&j);
    json_key(&j, "ignored");
    json_uint(&j, ignored);
    json_end(&j);
    printf("%.*s\n", (int)out.len, (const char *)out.data);
    buf_done(&out);
}

static int import_open(struct import *m, struct err *err)
{
    const struct config *config = m->cli->config;
    const struct engine_options options = {.dir = cli_value(m->cli, "state"),
                                           .publish = config->publish.enabled};
    if (tensors_open(&m->file, cli_value(m->cli, "from"), err) != 0 ||
        engine_open(config, &options, &m->engine, err) != 0)
        return -1;
    const int64_t largest = m->engine->ingest->watermark.largest;
    if (m->seen_s < 0 && largest != WATERMARK_NONE)
        m->seen_s = largest / 1000;
    return 0;
}

static int import_run(struct import *m, struct err *err)
{
    struct update_result result = {0};
    if (import_open(m, err) != 0)
        return -1;
    if (file_check(m, err) != 0)
        return err_context(err, "%s", cli_value(m->cli, "from"));
    if (import_version(m, &result, err) != 0)
        return -1;
    import_print(m, &result);
    return 0;
}

int import_command(struct cli *cli)
{
    struct err err = {0};
    struct import m = {.cli = cli, .samples = -1, .step = -1, .seen_s = -1};
    const char *at = cli_value(cli, "at");
    int64_t at_ms = -1000;
    if (strcmp(cli->args[0], "model") != 0)
        return cli_usage(cli, "\"%s\" cannot be imported: model", cli->args[0]);
    if (cli_value(cli, "from") == NULL)
        return cli_usage(cli, "--from FILE is missing");
    if (at != NULL && (view_time(at, &at_ms) != 0 || at_ms < 0 || at_ms / 1000 > UINT32_MAX))
        return cli_usage(cli, "--at %s: milliseconds, seconds or RFC 3339 are expected", at);
    m.seen_s = at_ms / 1000;
    const int result = import_run(&m, &err);
    engine_close(m.engine);
    tensors_done(&m.file);
    features_quantiles_free(m.quantiles);
    free(m.tables);
    return result == 0 ? EXIT_DONE : cli_fail(cli, &err);
}
