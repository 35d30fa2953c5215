// SPDX-License-Identifier: Apache-2.0
// freshet export: samples (export_samples.c), counters and sequences as JSONL,
// tables and dense layers as safetensors, from a state's directory, read only.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/commands.h"
#include "daemon/export.h"
#include "daemon/view_rows.h"
#include "daemon/views.h"
#include "models/safetensors.h"

enum { EXPORT_FLUSH = 1 << 20 };

void export_flush(struct export *x)
{
    if (x->out.len > 0 && fwrite(x->out.data, 1, x->out.len, x->to) != x->out.len)
        x->write_failed = true;
    buf_clear(&x->out);
}

struct json *export_line(struct export *x)
{
    x->json = json_to(&x->out);
    json_object(&x->json);
    return &x->json;
}

void export_end(struct export *x)
{
    buf_put_u8(&x->out, '\n');
    if (x->out.len >= EXPORT_FLUSH)
        export_flush(x);
}

void export_line_end(struct export *x)
{
    json_end(&x->json);
    export_end(x);
}

static void member_str(struct json *j, const char *key, struct str value)
{
    json_key(j, key);
    json_str(j, value);
}

// ---- counters and sequences
// -------------------------------------------------------------------------------

static void member_or_null(struct json *j, const char *key, bool there, struct str value)
{
    json_key(j, key);
    if (there)
        json_str(j, value);
    else
        json_null(j);
}

static void export_counter(struct export *x, struct entity *e, const struct view_group *g, uint8_t measure)
{
    struct view_windows w;
    const char *name = view_measure_name(x->engine, measure);
    if (name == NULL || !view_windows_read(x->engine, e, measure, x->at, &w))
        return;
    struct json *j = export_line(x);
    json_key(j, "entity");
    json_string(j, g->of);
    member_or_null(j, "id", strcmp(g->of, "all") != 0, g->owner);
    json_key(j, "by");
    json_string(j, g->by);
    member_or_null(j, "bucket", g->by != NULL, g->bucket);
    json_key(j, "action");
    json_string(j, name);
    json_key(j, "windows");
    view_windows_json(x->engine, &w, j);
    json_key(j, "at");
    json_int(j, x->at);
    export_line_end(x);
}

static void export_entity_counters(struct export *x, struct entity *e, const struct view_group *g)
{
    for (uint32_t m = 0; m < MEASURE_MAX; m++)
        export_counter(x, e, g, (uint8_t)m);
}

static int export_user_counters(void *context, struct entity *e)
{
    export_entity_counters(context, e, &(struct view_group){.of = "user", .owner = entity_text(e)});
    return 0;
}

static int export_item_counters(void *context, struct entity *e)
{
    export_entity_counters(context, e, &(struct view_group){.of = "item", .owner = entity_text(e)});
    return 0;
}

static int export_group_counters(void *context, struct entity *e)
{
    struct export *x = context;
    struct view_group g;
    if (view_group_of(x->engine, e, &g, &x->err) != 0)
        return -1;
    export_entity_counters(x, e, &g);
    return 0;
}

static int export_counters(struct export *x, struct err *err)
{
    struct state *s = x->engine->state;
    if (state_entities_each(s, ENTITY_USER, export_user_counters, x, err) != 0 ||
        state_entities_each(s, ENTITY_ITEM, export_item_counters, x, err) != 0)
        return -1;
    int result = state_entities_each(s, ENTITY_GROUP, export_group_counters, x, err);
    if (result != 0 && x->err.code != ERR_NONE)
        *err = x->err;
    return result;
}

// A line of a sequence that is not empty; of one by bucket `g` is the group's.
static void export_sequence(struct export *x, struct entity *owner, struct str user, uint32_t sequence,
                            const struct view_group *g)
{
    size_t begin = x->out.len;
    struct json *j = export_line(x);
    member_str(j, "user_id", user);
    json_key(j, "action");
    json_string(j, x->cli->config->sequences[sequence].name);
    if (g != NULL) {
        json_key(j, "by");
        json_string(j, g->by);
        member_str(j, "bucket", g->bucket);
    }
    if (view_sequence_json(x->engine, owner, sequence, str_of("entries"), j))
        export_line_end(x);
    else
        x->out.len = begin;
}

static int export_user_sequences(void *context, struct entity *e)
{
    struct export *x = context;
    const struct config *c = x->cli->config;
    for (uint32_t i = 0; i < c->n_sequences; i++)
        if (c->sequences[i].name[0] != '\0' && c->sequences[i].grouping == CONFIG_NONE)
            export_sequence(x, e, entity_text(e), i, NULL);
    return 0;
}

static int export_group_sequences(void *context, struct entity *e)
{
    struct export *x = context;
    const struct config *c = x->cli->config;
    struct view_group g;
    struct group_key key;
    entity_group(e, &key);
    if (view_group_of(x->engine, e, &g, &x->err) != 0)
        return -1;
    for (uint32_t i = 0; i < c->n_sequences; i++)
        if (c->sequences[i].name[0] != '\0' && c->sequences[i].grouping == key.grouping)
            export_sequence(x, e, g.owner, i, &g);
    return 0;
}

static int export_sequences(struct export *x, struct err *err)
{
    struct state *s = x->engine->state;
    if (state_entities_each(s, ENTITY_USER, export_user_sequences, x, err) != 0)
        return -1;
    int result = state_entities_each(s, ENTITY_GROUP, export_group_sequences, x, err);
    if (result != 0 && x->err.code != ERR_NONE)
        *err = x->err;
    return result;
}

// ---- safetensors
// ------------------------------------------------------------------------------------------

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

// ---- the command
// ------------------------------------------------------------------------------------------

static const struct {
    const char *name;
    int (*run)(struct export *x, struct err *err);
    bool ranged; // takes a range of the log
    bool files;  // opens --out by itself
} exports[] = {{"samples", export_samples, true, false},    {"predictions", export_predictions, true, false},
               {"counters", export_counters, false, false}, {"sequences", export_sequences, false, false},
               {"table", export_table, false, true},        {"dense", export_dense, false, true},
               {"model", export_model, false, true}};

// What an option is for, where it is not for this kind; else NULL.
static const char *export_misplaced(const struct export *x, uint32_t kind, const char **ret_option)
{
    const struct {
        const char *option, *of;
        bool fits;
    } options[] = {{"from", "samples and predictions", exports[kind].ranged},
                   {"to", "samples and predictions", exports[kind].ranged},
                   {"from-sample", "samples and predictions", exports[kind].ranged},
                   {"to-sample", "samples and predictions", exports[kind].ranged},
                   {"format", "samples", strcmp(exports[kind].name, "samples") == 0},
                   {"initial", "model", strcmp(exports[kind].name, "model") == 0}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (!options[i].fits && cli_given(x->cli, options[i].option)) {
            *ret_option = options[i].option;
            return options[i].of;
        }
    return NULL;
}

// What makes no sense together, before anything is opened.
static int export_usage(struct export *x, uint32_t kind, char *ret_why, size_t size)
{
    const char *option, *of = export_misplaced(x, kind, &option);
    if (of != NULL) {
        snprintf(ret_why, size, "--%s is for %s", option, of);
        return -1;
    }
    const char *format = cli_value(x->cli, "format");
    if (format != NULL && strcmp(format, "jsonl") != 0 && strcmp(format, "arrow") != 0 &&
        strcmp(format, "safetensors") != 0) {
        snprintf(ret_why, size, "--format %s: jsonl, arrow or safetensors is expected", format);
        return -1;
    }
    const char *at = cli_value(x->cli, "at");
    if (at != NULL && view_time(at, &x->at) != 0) {
        snprintf(ret_why, size, "--at %s: milliseconds, seconds or RFC 3339 are expected", at);
        return -1;
    }
    return export_range_get(x->cli, &x->range, ret_why, size);
}

static int export_to(struct export *x, uint32_t kind, struct err *err)
{
    const char *out = cli_value(x->cli, "out");
    x->to = stdout;
    if (exports[kind].files || out == NULL || strcmp(out, "-") == 0)
        return 0;
    x->to = fopen(out, "wb");
    return x->to == NULL ? err_errno(err, "opening %s", out) : 0;
}

static int export_run(struct export *x, uint32_t kind, struct err *err)
{
    struct engine_options options = {
        .dir = cli_value(x->cli, "state"), .read_only = true, .fail_if_absent = true};
    if (engine_open(x->cli->config, &options, &x->engine, err) != 0 || export_to(x, kind, err) != 0)
        return -1;
    int64_t largest = x->engine->ingest->watermark.largest;
    if (!cli_given(x->cli, "at"))
        x->at = largest == WATERMARK_NONE ? 0 : largest;
    if (exports[kind].run(x, err) != 0)
        return -1;
    export_flush(x);
    if (x->write_failed || fflush(x->to) != 0)
        return err_errno(err, "writing the export");
    return 0;
}

int export_command(struct cli *cli)
{
    struct err err = {0};
    struct export x = {.cli = cli};
    char why[400];
    uint32_t kind = 0;
    while (kind < sizeof exports / sizeof *exports && strcmp(exports[kind].name, cli->args[0]) != 0)
        kind++;
    if (kind == sizeof exports / sizeof *exports)
        return cli_usage(cli,
                         "\"%s\" cannot be exported: samples, predictions, counters, sequences, "
                         "table NAME, dense or model",
                         cli->args[0]);
    if (export_usage(&x, kind, why, sizeof why) != 0)
        return cli_usage(cli, "%s", why);
    int result = export_run(&x, kind, &err);
    if (x.to != NULL && x.to != stdout && fclose(x.to) != 0 && result == 0)
        result = err_errno(&err, "closing %s", cli_value(cli, "out"));
    buf_done(&x.out);
    engine_close(x.engine);
    return result == 0 ? EXIT_DONE : cli_fail(cli, &err);
}
