// SPDX-License-Identifier: Apache-2.0
// freshet export: samples, counters and sequences as JSONL, tables and dense layers as safetensors, from a
// state's directory, read only.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/commands.h"
#include "daemon/engine.h"
#include "daemon/views.h"
#include "models/safetensors.h"

enum { EXPORT_CHUNK = 4096, EXPORT_FLUSH = 1 << 20 };

struct export
{
    struct cli *cli;
    struct engine *engine;
    struct buf out;
    struct json json;
    int64_t at;
    bool write_failed;
};

static void export_flush(struct export *x, FILE *to)
{
    if (x->out.len > 0 && fwrite(x->out.data, 1, x->out.len, to) != x->out.len)
        x->write_failed = true;
    buf_clear(&x->out);
}

static struct json *export_line(struct export *x)
{
    x->json = json_to(&x->out);
    json_object(&x->json);
    return &x->json;
}

static void export_line_end(struct export *x)
{
    json_end(&x->json);
    buf_put_u8(&x->out, '\n');
    if (x->out.len >= EXPORT_FLUSH)
        export_flush(x, stdout);
}

static void member_str(struct json *j, const char *key, struct str value)
{
    json_key(j, key);
    json_str(j, value);
}

// ---- samples ----------------------------------------------------------------------------------------------

static void sample_labels(const struct config *config, const struct sample *s, struct json *j)
{
    json_key(j, "labels");
    json_object(j);
    for (uint32_t a = 1; a < config->n_actions; a++) {
        if (!((config->join.labels >> a) & 1))
            continue;
        json_key(j, a == ACTION_WATCH ? "watch_ms" : config->actions[a]);
        if (a == ACTION_WATCH)
            json_uint(j, s->watch_ms);
        else
            json_int(j, (s->labels >> a) & 1);
    }
    json_end(j);
    json_key(j, "label_ts");
    json_object(j);
    for (uint32_t a = 1; a < config->n_actions; a++)
        if ((s->labels >> a) & 1) {
            json_key(j, a == ACTION_WATCH ? "watch_ms" : config->actions[a]);
            json_int(j, s->label_ts[a]);
        }
    json_end(j);
}

static void export_sample(struct export *x, const struct sample *s, const struct feature_row *row)
{
    struct json *j = export_line(x);
    json_key(j, "sample");
    json_uint(j, s->seq);
    member_str(j, "user_id", row->user_text);
    member_str(j, "item_id", row->item_text);
    json_key(j, "request_id");
    if (row->request_text.len > 0)
        json_str(j, row->request_text);
    else
        json_null(j);
    json_key(j, "position");
    if (row->position >= 0)
        json_int(j, row->position);
    else
        json_null(j);
    json_key(j, "impression_ts");
    json_int(j, s->impression_ts);
    json_key(j, "emitted_ts");
    json_int(j, s->emitted_ts);
    sample_labels(x->cli->config, s, j);
    json_key(j, "keep_rate");
    json_float(j, s->keep_rate);
    if (s->corrected) {
        json_key(j, "corrects");
        json_uint(j, s->impression);
    }
    json_key(j, "features");
    features_json(x->engine->features, x->engine->state, row, j);
    export_line_end(x);
}

static int export_chunk(struct export *x, const struct sample_chunk *chunk, struct err *err)
{
    struct feature_row row;
    for (uint32_t i = 0; i < chunk->n; i++) {
        const struct sample *s = &chunk->samples[i];
        if (features_decode(x->engine->features, chunk->segments[i], s->body.user_at, s->body.item_at,
                            s->impression_ts, &row) != 0)
            return err_set(err, ERR_CORRUPT, "sample %llu does not decode", (unsigned long long)s->seq);
        export_sample(x, s, &row);
    }
    return 0;
}

static int export_samples(struct export *x, struct err *err)
{
    const char *from = cli_value(x->cli, "from");
    const char *to = cli_value(x->cli, "to");
    uint64_t seq = state_samples_begin(x->engine->state);
    uint64_t end = state_samples_end(x->engine->state);
    if (from != NULL && strtoull(from, NULL, 10) > seq)
        seq = strtoull(from, NULL, 10);
    if (to != NULL && strtoull(to, NULL, 10) < end)
        end = strtoull(to, NULL, 10);
    while (seq < end && !x->write_failed) {
        struct sample_chunk *chunk;
        uint32_t n = end - seq < EXPORT_CHUNK ? (uint32_t)(end - seq) : EXPORT_CHUNK;
        if (state_samples_read(x->engine->state, seq, n, &chunk, err) != 0)
            return -1;
        int result = export_chunk(x, chunk, err);
        seq += chunk->n;
        state_chunk_free(x->engine->state, chunk);
        if (result != 0)
            return -1;
    }
    return 0;
}

// ---- counters and sequences -------------------------------------------------------------------------------

static void export_counter(struct export *x, struct entity *e, enum entity_kind kind, uint8_t measure)
{
    const struct config *config = x->cli->config;
    uint64_t values[STATE_WINDOWS_MAX];
    bool any = false;
    for (uint32_t w = 0; w < config->n_windows; w++) {
        values[w] = state_window(x->engine->state, e, measure, w, x->at);
        any |= values[w] > 0;
    }
    if (!any)
        return;
    struct json *j = export_line(x);
    json_key(j, "entity");
    json_string(j, kind == ENTITY_USER ? "user" : "item");
    member_str(j, "id", entity_text(e));
    json_key(j, "by");
    json_null(j);
    json_key(j, "bucket");
    json_null(j);
    json_key(j, "action");
    json_string(j, measure == MEASURE_WATCH_MS ? "watch_ms" : config->actions[measure]);
    json_key(j, "windows");
    json_object(j);
    for (uint32_t w = 0; w < config->n_windows; w++) {
        json_key(j, config->windows[w].name);
        json_uint(j, values[w]);
    }
    json_end(j);
    json_key(j, "at");
    json_int(j, x->at);
    export_line_end(x);
}

static void export_entity_counters(struct export *x, struct entity *e, enum entity_kind kind)
{
    for (uint32_t m = 0; m < x->cli->config->n_actions; m++)
        export_counter(x, e, kind, (uint8_t)m);
    export_counter(x, e, kind, MEASURE_WATCH_MS);
}

static int export_user_counters(void *context, struct entity *e)
{
    export_entity_counters(context, e, ENTITY_USER);
    return 0;
}

static int export_item_counters(void *context, struct entity *e)
{
    export_entity_counters(context, e, ENTITY_ITEM);
    return 0;
}

static int export_counters(struct export *x, struct err *err)
{
    if (state_entities_each(x->engine->state, ENTITY_USER, export_user_counters, x, err) != 0)
        return -1;
    return state_entities_each(x->engine->state, ENTITY_ITEM, export_item_counters, x, err);
}

static int export_user_sequences(void *context, struct entity *e)
{
    struct export *x = context;
    for (uint32_t a = 0; a < x->cli->config->n_actions; a++) {
        uint32_t last = x->cli->config->sequence_last[a];
        struct sequence_entry *entries = mem_array(last, sizeof *entries);
        uint32_t n = last > 0 ? state_sequence(x->engine->state, e, (uint8_t)a, last, entries) : 0;
        if (n > 0) {
            struct json *j = export_line(x);
            member_str(j, "user_id", entity_text(e));
            json_key(j, "action");
            json_string(j, x->cli->config->actions[a]);
            json_key(j, "entries");
            json_array(j);
            for (uint32_t i = 0; i < n; i++) {
                json_object(j);
                member_str(j, "item_id", features_text(x->engine->state, entries[i].item, 0));
                json_key(j, "ts");
                json_int(j, entries[i].ts);
                json_end(j);
            }
            json_end(j);
            export_line_end(x);
        }
        free(entries);
    }
    return 0;
}

static int export_sequences(struct export *x, struct err *err)
{
    return state_entities_each(x->engine->state, ENTITY_USER, export_user_sequences, x, err);
}

// ---- safetensors ------------------------------------------------------------------------------------------

static int export_write(const char *path, const struct buf *bytes, struct err *err)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL)
        return err_errno(err, "opening %s", path);
    bool ok = fwrite(bytes->data, 1, bytes->len, f) == bytes->len;
    if (fclose(f) != 0 || !ok)
        return err_errno(err, "writing %s", path);
    return 0;
}

// ids[i] beside row i of the tensor.
static int export_table_rows(struct export *x, const struct table *t, const char *path, struct err *err)
{
    uint32_t dim = table_options(t)->dim;
    uint32_t n;
    uint32_t *order = table_order(t, &n);
    struct buf vectors = {0};
    struct buf ids = {0};
    uint64_t rows = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct table_row *row = table_row(t, order[i]);
        if (!table_admitted(t, row))
            continue;
        buf_put(&vectors, row->vector, dim * sizeof *row->vector);
        struct json j = json_to(&ids);
        json_object(&j);
        json_key(&j, "row");
        json_uint(&j, rows++);
        member_str(&j, "id", features_text(x->engine->state, row->id, ingest_partitions(x->engine->ingest)));
        char hex[20];
        snprintf(hex, sizeof hex, "%016llx", (unsigned long long)row->id);
        json_key(&j, "feature_id");
        json_string(&j, hex);
        json_key(&j, "count");
        json_uint(&j, row->count);
        json_end(&j);
        buf_put_u8(&ids, '\n');
    }
    struct safetensor tensor = {
        .name = "weight", .type = SAFETENSOR_F32, .n_dims = 2, .shape = {rows, dim}, .data = vectors.data};
    struct buf file = {0};
    char ids_path[4200];
    snprintf(ids_path, sizeof ids_path, "%s.ids.jsonl", path);
    safetensors_put(&file, &tensor, 1);
    int result = export_write(path, &file, err);
    if (result == 0)
        result = export_write(ids_path, &ids, err);
    if (result == 0)
        fprintf(stderr, "%llu rows of dim %u in %s, ids in %s\n", (unsigned long long)rows, dim, path,
                ids_path);
    buf_done(&file);
    buf_done(&vectors);
    buf_done(&ids);
    free(order);
    return result;
}

static int export_table(struct export *x, struct err *err)
{
    const char *name = x->cli->n_args > 1 ? x->cli->args[1] : "";
    for (uint32_t t = 0; t < x->cli->config->n_tables; t++) {
        if (strcmp(x->cli->config->tables[t].name, name) != 0)
            continue;
        char path[4096];
        const char *out = cli_value(x->cli, "out");
        snprintf(path, sizeof path, "%s%s", out != NULL ? out : name, out != NULL ? "" : ".safetensors");
        return export_table_rows(x, model_table(updater_model(x->engine->updater), t), path, err);
    }
    return err_set(err, ERR_NOT_FOUND, "there is no table \"%s\" in the config", name);
}

static int export_dense(struct export *x, struct err *err)
{
    struct buf file = {0};
    const char *path = cli_value(x->cli, "out") != NULL ? cli_value(x->cli, "out") : "dense.safetensors";
    model_dense_safetensors(updater_model(x->engine->updater), &file);
    int result = export_write(path, &file, err);
    if (result == 0)
        fprintf(stderr, "dense layers in %s\n", path);
    buf_done(&file);
    return result;
}

// ---- the command ------------------------------------------------------------------------------------------

static const struct {
    const char *name;
    int (*run)(struct export *x, struct err *err);
} exports[] = {{"samples", export_samples},
               {"counters", export_counters},
               {"sequences", export_sequences},
               {"table", export_table},
               {"dense", export_dense}};

int export_command(struct cli *cli)
{
    struct err err = {0};
    struct export x = {.cli = cli};
    const char *what = cli->args[0];
    uint32_t kind = 0;
    while (kind < sizeof exports / sizeof *exports && strcmp(exports[kind].name, what) != 0)
        kind++;
    if (kind == sizeof exports / sizeof *exports)
        return cli_usage(cli, "\"%s\" cannot be exported: samples, counters, sequences, table NAME or dense",
                         what);
    struct engine_options options = {
        .dir = cli_value(cli, "state"), .read_only = true, .fail_if_absent = true};
    if (engine_open(cli->config, &options, &x.engine, &err) != 0)
        return cli_fail(cli, &err);
    const char *at = cli_value(cli, "at");
    x.at = x.engine->ingest->watermark.largest == WATERMARK_NONE ? 0 : x.engine->ingest->watermark.largest;
    int code = EXIT_DONE;
    if (at != NULL && view_time(at, &x.at) != 0)
        code = cli_usage(cli, "--at %s: milliseconds, seconds or RFC 3339 are expected", at);
    else if (exports[kind].run(&x, &err) != 0)
        code = cli_fail(cli, &err);
    export_flush(&x, stdout);
    if (x.write_failed && code == EXIT_DONE) {
        err_errno(&err, "writing to stdout");
        code = cli_fail(cli, &err);
    }
    buf_done(&x.out);
    engine_close(x.engine);
    return code;
}
