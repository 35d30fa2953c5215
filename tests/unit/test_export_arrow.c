// SPDX-License-Identifier: Apache-2.0
// Samples as Arrow, read back by nanoarrow's own reader, against the same samples as JSONL: row by row, column by
// column, with features of every kind, missing values, corrected samples, rates by label, and many batches.
#include <criterion/criterion.h>
#include <nanoarrow/nanoarrow_ipc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "daemon/directory.h"
#include "daemon/export.h"
#include "daemon/replay.h"

// ---- a state with samples ---------------------------------------------------------------------------------

struct world {
    struct cli cli;
    struct replay replay;
    char events[64], items[64];
};

static FILE *file_new(char *path, size_t size)
{
    snprintf(path, size, "/tmp/test_export_arrow.XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    return fdopen(fd, "w");
}

static void items_write(FILE *to, int n, struct rng *r)
{
    for (int i = 0; i < n; i++) {
        fprintf(to, "{\"item_id\":\"i%d\",\"timestamp\":1767225600000,\"attributes\":{", i);
        if (i % 5 > 0)
            fprintf(to, "\"category\":\"c%d\",", i % 7);
        fprintf(to, "\"tags\":[");
        for (uint64_t k = rng_below(r, 4); k > 0; k--)
            fprintf(to, "\"t%d\"%s", (int)rng_below(r, 9), k > 1 ? "," : "");
        fprintf(to, "]}}\n");
    }
}

static void events_write(FILE *to, int n, int items, struct rng *r)
{
    static const char *const types[] = {"impression", "impression", "click", "like", "watch"};
    static const char *const devices[] = {"\"ios\"", "\"\\u00e9\\u4e2d \\\"\\\\\"", "7", "2.5", "true", NULL};
    for (int64_t ts = 1767225600000; n > 0; n--) {
        const char *type = types[rng_below(r, 5)];
        const char *device = devices[rng_below(r, 6)];
        ts += (int64_t)rng_below(r, 900);
        fprintf(to, "{\"type\":\"%s\",\"user_id\":\"u%d\",\"item_id\":\"i%d\",\"timestamp\":%lld", type,
                (int)rng_below(r, 60), (int)rng_below(r, (uint64_t)items), (long long)ts);
        if (type[0] == 'w')
            fprintf(to, ",\"watch_ms\":%d", (int)rng_below(r, 90000));
        if (type[0] == 'i' && rng_below(r, 2))
            fprintf(to, ",\"position\":%d,\"request_id\":\"r\\u00df%d\"", (int)rng_below(r, 9), n);
        fprintf(to, ",\"context\":{\"n\":%d", n);
        if (device != NULL)
            fprintf(to, ",\"device\":%s", device);
        if (rng_below(r, 3))
            fprintf(to, ",\"x\":%.17g", rng_uniform(r) * 4 - 1);
        fprintf(to, "}}\n");
    }
}

static void world_init(struct world *w, const struct config_override *overrides, uint32_t n_overrides,
                       int events)
{
    static const char *const none[] = {NULL};
    struct err err = {0};
    struct rng r = rng_of(5);
    *w = (struct world){0};
    FILE *f = file_new(w->items, sizeof w->items);
    items_write(f, 40, &r);
    fclose(f);
    f = file_new(w->events, sizeof w->events);
    events_write(f, events, 40, &r);
    fclose(f);
    cr_assert_eq(config_load(NULL, overrides, n_overrides, none, &w->cli.config, &err), 0, "%s", err.message);
    w->cli.values[0].name = "events";
    w->cli.values[0].value = w->events;
    w->cli.values[1].name = "items";
    w->cli.values[1].value = w->items;
    w->cli.n_values = 2;
    cr_assert_eq(replay_open(&w->replay, &w->cli, NULL, &err), 0, "%s", err.message);
    cr_assert_eq(replay_open_source(&w->replay, &err), 0, "%s", err.message);
    cr_assert_eq(replay_run(&w->replay, true, &err), 0, "%s", err.message);
}

static void world_done(struct world *w)
{
    replay_close(&w->replay);
    config_free(w->cli.config);
    unlink(w->events);
    unlink(w->items);
}

// ---- a row as JSON ----------------------------------------------------------------------------------------

// The line that export writes, made again from the columns; `line` is the one that it must become, and tells where a
// category is shown as JSON of its own instead of as a string.
struct row_writer {
    const struct ArrowSchema *schema;
    const struct ArrowArrayView *view;
    int64_t row;
    const char *line;
    struct buf out;
    struct json json;
};

static const struct {
    const char *prefix, *key;
    bool always, nulls; // the object is there though empty; members are though null
} groups[] = {{"label_ts_", "label_ts", true, false},
              {"label_", "labels", true, true},
              {"keep_rate_", "keep_rates", false, false},
              {"feature_", "features", true, true},
              {"", NULL, true, true}};
enum { OWN = sizeof groups / sizeof *groups - 1 };

static int group_of_column(const char *name)
{
    int g = 0;
    while (strncmp(name, groups[g].prefix, strlen(groups[g].prefix)) != 0)
        g++;
    return g;
}

static void value_put(struct row_writer *w, const struct ArrowArrayView *v, int64_t i)
{
    struct json *j = &w->json;
    if (ArrowArrayViewIsNull(v, i)) {
        json_null(j);
        return;
    }
    switch (v->storage_type) {
    case NANOARROW_TYPE_INT64:
    case NANOARROW_TYPE_BOOL:
        json_int(j, ArrowArrayViewGetIntUnsafe(v, i));
        return;
    case NANOARROW_TYPE_FLOAT:
        json_float(j, (float)ArrowArrayViewGetDoubleUnsafe(v, i));
        return;
    case NANOARROW_TYPE_DOUBLE:
        json_double(j, ArrowArrayViewGetDoubleUnsafe(v, i));
        return;
    case NANOARROW_TYPE_STRING: {
        struct ArrowStringView text = ArrowArrayViewGetStringUnsafe(v, i);
        bool comma = j->comma; // a value of a list stands behind one
        bool quoted = strlen(w->line) <= w->out.len + comma || w->line[w->out.len + comma] == '"';
        (quoted ? json_string_n : json_raw)(j, text.data, (size_t)text.size_bytes);
        return;
    }
    case NANOARROW_TYPE_LIST:
        json_array(j);
        for (int64_t k = ArrowArrayViewListChildOffset(v, i); k < ArrowArrayViewListChildOffset(v, i + 1);
             k++)
            value_put(w, v->children[0], k);
        json_end(j);
        return;
    default:
        cr_assert_fail("type %d", (int)v->storage_type);
    }
}

// The columns of the group that begins at `c`. Returns the first behind it.
static int64_t group_put(struct row_writer *w, int64_t c)
{
    int g = group_of_column(w->schema->children[c]->name);
    bool any = groups[g].always;
    int64_t end = c;
    for (; end < w->schema->n_children && group_of_column(w->schema->children[end]->name) == g; end++)
        any |= !ArrowArrayViewIsNull(w->view->children[end], w->row);
    if (!any)
        return end;
    if (g != OWN) {
        json_key(&w->json, groups[g].key);
        json_object(&w->json);
    }
    for (; c < end; c++) {
        const char *name = w->schema->children[c]->name;
        bool null = ArrowArrayViewIsNull(w->view->children[c], w->row);
        bool optional =
            strcmp(name, "masked") == 0 || strcmp(name, "corrects") == 0 || strcmp(name, "changed") == 0;
        if (null && (optional || !groups[g].nulls))
            continue;
        json_key(&w->json, name + strlen(groups[g].prefix));
        value_put(w, w->view->children[c], w->row);
    }
    if (g != OWN)
        json_end(&w->json);
    return end;
}

// ---- the whole --------------------------------------------------------------------------------------------

struct seen {
    int64_t rows, batches, columns;
    int64_t there[CONFIG_FEATURES_MAX]; // values of a column that are not null
};

static void batch_expect(const struct ArrowSchema *schema, const struct ArrowArrayView *view, FILE *lines,
                         struct seen *seen)
{
    static char line[1 << 16];
    struct row_writer w = {.schema = schema, .view = view, .line = line};
    for (; w.row < view->length; w.row++) {
        cr_assert_not_null(fgets(line, sizeof line, lines));
        buf_clear(&w.out);
        w.json = json_to(&w.out);
        json_object(&w.json);
        for (int64_t c = 0; c < schema->n_children;)
            c = group_put(&w, c);
        json_end(&w.json);
        buf_put(&w.out, "\n", 2);
        cr_assert_str_eq((const char *)w.out.data, line);
        for (int64_t c = 0; c < schema->n_children; c++)
            seen->there[c] += !ArrowArrayViewIsNull(view->children[c], w.row);
    }
    buf_done(&w.out);
    seen->rows += view->length;
    seen->batches++;
}

static void stream_expect(FILE *arrow, FILE *lines, struct seen *ret_seen)
{
    struct ArrowIpcInputStream in;
    struct ArrowArrayStream stream;
    struct ArrowSchema schema;
    struct ArrowArrayView view;
    struct ArrowError error;
    *ret_seen = (struct seen){0};
    cr_assert_eq(ArrowIpcInputStreamInitFile(&in, arrow, 0), 0);
    cr_assert_eq(ArrowIpcArrayStreamReaderInit(&stream, &in, NULL), 0);
    cr_assert_eq(ArrowArrayStreamGetSchema(&stream, &schema, &error), 0, "%s", error.message);
    cr_assert_eq(ArrowArrayViewInitFromSchema(&view, &schema, &error), 0, "%s", error.message);
    ret_seen->columns = schema.n_children;
    for (;;) {
        struct ArrowArray batch;
        cr_assert_eq(ArrowArrayStreamGetNext(&stream, &batch, &error), 0, "%s", error.message);
        if (batch.release == NULL)
            break;
        cr_assert_eq(ArrowArrayViewSetArray(&view, &batch, &error), 0, "%s", error.message);
        cr_assert_eq(ArrowArrayViewValidate(&view, NANOARROW_VALIDATION_LEVEL_FULL, &error), 0, "%s",
                     error.message);
        batch_expect(&schema, &view, lines, ret_seen);
        ArrowArrayRelease(&batch);
    }
    ArrowArrayViewReset(&view);
    ArrowSchemaRelease(&schema);
    ArrowArrayStreamRelease(&stream);
    cr_assert_eq(fgetc(lines), EOF, "JSONL has more rows");
}

// Exports the range in both formats; the Arrow file begins after its magic.
static void export_expect(struct world *w, const struct export_range *range, bool as_file,
                          struct seen *ret_seen)
{
    struct err err = {0};
    struct export x = {.cli = &w->cli, .engine = w->replay.engine, .range = *range, .to = tmpfile()};
    FILE *arrow = tmpfile();
    cr_assert(x.to != NULL && arrow != NULL);
    cr_assert_eq(export_samples(&x, &err), 0, "%s", err.message);
    export_flush(&x);
    cr_assert_eq(export_arrow(w->replay.engine, range, arrow, as_file, &err), 0, "%s", err.message);
    rewind(x.to);
    rewind(arrow);
    if (as_file) {
        char magic[8];
        cr_assert(fread(magic, 1, sizeof magic, arrow) == sizeof magic && memcmp(magic, "ARROW1\0", 8) == 0);
    }
    stream_expect(arrow, x.to, ret_seen);
    fclose(arrow);
    fclose(x.to);
    buf_done(&x.out);
}

static const struct export_range everything = {.end = UINT64_MAX, .from = INT64_MIN, .to = INT64_MAX};

Test(export_arrow, holds_what_jsonl_holds)
{
    static const struct config_override overrides[] = {
        {"update.enabled", "false"},
        {"join.emit", "first_label"},
        {"join.corrections", "true"},
        {"join.labels", "{all: {}, completion: {of: watch, length: whole}}"},
        {"join.keep_negatives", "{click: 0.5, all: 0.8}"},
        {"tables", "{users: {dim: 8, rows: 1k}, items: {dim: 8, rows: 1k}, cats: {dim: 8, rows: 1k}}"},
        {"sequences", "{click: {last: 30, with: [category]}}"},
        {"features",
         "{user_id: {id: user, table: users}, item_id: {id: item, table: items}, hour: {hour: timestamp},"
         " device: {id: context.device}, x: {number: context.x}, whole: {number: context.n}, bucket: "
         "{number: context.x, bucketize: "
         "[0.5, 1]},"
         " ctr: {rate: click/impression, of: item, window: 1d, smooth: [1, 20]},"
         " n: {count: impression, of: user, window: 1d}, clicks: {sequence: click, last: 20, table: items},"
         " cats: {sequence: click, of: category, last: 20, table: cats}, ages: {sequence: click, of: age, "
         "last: 20},"
         " pair: {cross: [device, hour]}, tags: {ids: item.tags}, seen: {member: click}, age: {age: item}}"},
        {"models",
         "{ctr: {net: [{name: bottom, mlp: [8], of: [user_id, item_id]}], heads: {click: {of: bottom, "
         "loss: logloss}}}}"},
    };
    struct world w;
    struct seen seen;
    world_init(&w, overrides, sizeof overrides / sizeof *overrides, 6000);
    export_expect(&w, &everything, true, &seen);
    cr_assert(seen.rows > 2000 && seen.rows == (int64_t)state_samples_end(w.replay.engine->state));
    for (int64_t c = 0; c < seen.columns; c++)
        if (c < 10 || c >= seen.columns - 15)
            cr_assert(seen.there[c] > 0, "column %ld is never there", (long)c);
    export_expect(&w, &everything, false, &seen);
    const int64_t middle = 1767225600000 + 1500000;
    const struct export_range some = {.first = 100, .end = 1500, .from = middle - 300000, .to = middle};
    export_expect(&w, &some, true, &seen);
    cr_assert(seen.rows > 100 && seen.rows < 1400);
    const struct export_range none = {.end = UINT64_MAX, .from = 5, .to = 6};
    export_expect(&w, &none, true, &seen);
    cr_assert_eq(seen.rows, 0);
    world_done(&w);
}

Test(export_arrow, many_batches)
{
    static const struct config_override overrides[] = {
        {"update.enabled", "false"},
        {"features", "{user_id: {id: user, table: users}}"},
        {"models", "{ctr: {net: [{name: bottom, mlp: [8], of: [user_id]}], heads: {click: {of: bottom, loss: "
                   "logloss}}}}"},
    };
    struct world w;
    struct seen seen;
    world_init(&w, overrides, sizeof overrides / sizeof *overrides, 350000);
    export_expect(&w, &everything, true, &seen);
    cr_assert(seen.rows > 131072 && seen.batches == (seen.rows + 65535) / 65536);
    world_done(&w);
}
