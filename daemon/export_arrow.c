// SPDX-License-Identifier: Apache-2.0
// Samples as Apache Arrow IPC, by nanoarrow: what pandas, Polars, DuckDB and
// Spark read without a parser. The columns are those of daemon/sample_row.h,
// one a label and one a feature:
//
//     INT   int64      TIME  timestamp[ms, UTC]    FLAG    bool            RATE
//     float TEXT  utf8       NUMBER  double              IDS, LABELS_OF
//     list<utf8>          AGES  list<int64>
//
// What is missing is null. A category that JSON shows as a number or, crossed,
// as a pair is that JSON as text.
//
// A record batch is closed at BATCH_ROWS, or before at BATCH_BYTES of text
// (offsets have 32 bits); it is held once as it is filled and once as it is
// encoded. Cost of a row: some 20 ns a column, and for a list the look-up of
// each item's text.
#include <errno.h>
#include <math.h>
#include <nanoarrow/nanoarrow_ipc.h>
#include <string.h>

#include "daemon/export.h"
#include "daemon/sample_row.h"

enum { BATCH_ROWS = 64 << 10, BATCH_BYTES = 64 << 20 };

struct arrow {
    struct engine *engine;
    bool as_file;
    const struct sample_columns *columns;
    struct ArrowIpcWriter writer;
    struct ArrowSchema schema;
    struct ArrowArray batch; // being filled; released: none
    struct ArrowArrayView view;
    struct ArrowError error; // what nanoarrow says of its last failure
    uint32_t rows;
    const struct feature_row *row; // being appended
    struct buf shown;
    size_t bytes; // of text in the batch
};

static int arrow_fail(const struct arrow *a, int code, const char *what, struct err *err)
{
    if (a->error.message[0] != '\0')
        return err_set(err, ERR_IO, "%s: %s", what, a->error.message);
    errno = code;
    return err_errno(err, "%s", what);
}

// ---- the schema
// -------------------------------------------------------------------------------------------

static int schema_type(struct ArrowSchema *s, enum sample_type type)
{
    static const enum ArrowType types[] = {
        [SAMPLE_INT] = NANOARROW_TYPE_INT64,  [SAMPLE_FLAG] = NANOARROW_TYPE_BOOL,
        [SAMPLE_RATE] = NANOARROW_TYPE_FLOAT, [SAMPLE_TEXT] = NANOARROW_TYPE_STRING,
        [SAMPLE_IDS] = NANOARROW_TYPE_LIST,   [SAMPLE_LABELS_OF] = NANOARROW_TYPE_LIST,
        [SAMPLE_AGES] = NANOARROW_TYPE_LIST,  [SAMPLE_NUMBER] = NANOARROW_TYPE_DOUBLE,
    };
    if (type == SAMPLE_TIME)
        return ArrowSchemaSetTypeDateTime(s, NANOARROW_TYPE_TIMESTAMP, NANOARROW_TIME_UNIT_MILLI, "UTC");
    int code = ArrowSchemaSetType(s, types[type]);
    if (code == 0 && types[type] == NANOARROW_TYPE_LIST)
        code = ArrowSchemaSetType(s->children[0],
                                  type == SAMPLE_AGES ? NANOARROW_TYPE_INT64 : NANOARROW_TYPE_STRING);
    return code;
}

static int schema_column(struct ArrowSchema *s, const struct sample_column *c)
{
    static const char *const prefixes[] = {[SAMPLE_OWN] = "",
                                           [SAMPLE_LABELS] = "label_",
                                           [SAMPLE_LABEL_TS] = "label_ts_",
                                           [SAMPLE_KEEP_RATES] = "keep_rate_",
                                           [SAMPLE_FEATURES] = "feature_"};
    char name[CONFIG_NAME + 16];
    snprintf(name, sizeof name, "%s%s", prefixes[c->group], c->name);
    int code = schema_type(s, c->type);
    return code != 0 ? code : ArrowSchemaSetName(s, name);
}

static int schema_make(struct arrow *a)
{
    ArrowSchemaInit(&a->schema);
    int code = ArrowSchemaSetTypeStruct(&a->schema, a->columns->n);
    for (uint32_t i = 0; i < a->columns->n && code == 0; i++)
        code = schema_column(a->schema.children[i], &a->columns->columns[i]);
    return code != 0 ? code : ArrowArrayViewInitFromSchema(&a->view, &a->schema, &a->error);
}

// ---- rows
// -------------------------------------------------------------------------------------------------

static int append_text(struct arrow *a, struct ArrowArray *to, struct str text)
{
    a->bytes += text.len;
    return ArrowArrayAppendString(to, (struct ArrowStringView){text.s, text.len});
}

static int append_ids(struct arrow *a, struct ArrowArray *to, const struct feature_value *v)
{
    int code = 0;
    for (uint32_t k = 0; k < v->n && code == 0; k++) {
        uint64_t id = feature_value_id(v, k);
        struct str text = id != 0 ? features_text(a->engine->state, id, 0) : (struct str){"", 0};
        code = features_text_known(id, text) ? append_text(a, to->children[0], text)
                                             : ArrowArrayAppendNull(to->children[0], 1);
    }
    return code != 0 ? code : ArrowArrayFinishElement(to);
}

static int append_ages(struct ArrowArray *to, const struct feature_value *v)
{
    int code = 0;
    for (uint32_t k = 0; k < v->n && code == 0; k++)
        code = ArrowArrayAppendInt(to->children[0], feature_value_interval(v, k));
    return code != 0 ? code : ArrowArrayFinishElement(to);
}

static int append_labels(struct arrow *a, struct ArrowArray *to, int64_t labels)
{
    const struct config *config = a->engine->config;
    int code = 0;
    for (uint32_t i = 1; i < config->n_actions && code == 0; i++)
        if ((labels >> i) & 1)
            code = append_text(a, to->children[0], str_of(sample_label_name(config, i)));
    return code != 0 ? code : ArrowArrayFinishElement(to);
}

// A category that is no text: what JSON shows.
static int append_shown(struct arrow *a, struct ArrowArray *to, const struct sample_column *c)
{
    struct json j = json_to(&a->shown);
    buf_clear(&a->shown);
    features_value_json(a->engine->features, a->engine->state, a->row, c->index, &j);
    return append_text(a, to, buf_str(&a->shown));
}

static int append_value(struct arrow *a, struct ArrowArray *to, const struct sample_column *c,
                        const struct sample_value *v)
{
    if (v->missing)
        return ArrowArrayAppendNull(to, 1);
    switch (c->type) {
    case SAMPLE_INT:
    case SAMPLE_TIME:
    case SAMPLE_FLAG:
        return ArrowArrayAppendInt(to, v->integer);
    case SAMPLE_NUMBER:
    case SAMPLE_RATE: // JSON has no number for what is not finite, either
        return isfinite(v->number) ? ArrowArrayAppendDouble(to, v->number) : ArrowArrayAppendNull(to, 1);
    case SAMPLE_IDS:
        return append_ids(a, to, v->feature);
    case SAMPLE_AGES:
        return append_ages(to, v->feature);
    case SAMPLE_LABELS_OF:
        return append_labels(a, to, v->integer);
    case SAMPLE_TEXT:
        return v->text.s != NULL ? append_text(a, to, v->text) : append_shown(a, to, c);
    }
    return EINVAL;
}

static int batch_begin(struct arrow *a)
{
    int code = ArrowArrayInitFromSchema(&a->batch, &a->schema, &a->error);
    return code != 0 ? code : ArrowArrayStartAppending(&a->batch);
}

static int batch_end(struct arrow *a)
{
    if (a->rows == 0)
        return 0;
    int code = ArrowArrayFinishBuildingDefault(&a->batch, &a->error);
    if (code == 0)
        code = ArrowArrayViewSetArray(&a->view, &a->batch, &a->error);
    if (code == 0)
        code = ArrowIpcWriterWriteArrayView(&a->writer, &a->view, &a->error);
    ArrowArrayRelease(&a->batch);
    a->rows = 0;
    a->bytes = 0;
    return code;
}

static int row_append(struct arrow *a, const struct sample *s, const struct feature_row *row)
{
    int code = a->rows == 0 ? batch_begin(a) : 0;
    a->row = row;
    for (uint32_t i = 0; i < a->columns->n && code == 0; i++) {
        const struct sample_column *c = &a->columns->columns[i];
        struct sample_value v = {0};
        c->get(c, s, row, &v);
        code = append_value(a, a->batch.children[i], c, &v);
    }
    if (code == 0)
        code = ArrowArrayFinishElement(&a->batch);
    if (code != 0)
        return code;
    a->rows++;
    return a->rows == BATCH_ROWS || a->bytes >= BATCH_BYTES ? batch_end(a) : 0;
}

static int arrow_row(void *context, const struct sample *s, const struct feature_row *row, struct err *err)
{
    struct arrow *a = context;
    int code = row_append(a, s, row);
    return code == 0 ? 0 : arrow_fail(a, code, "writing the samples as Arrow", err);
}

// ---- the whole
// --------------------------------------------------------------------------------------------

static int arrow_begin(struct arrow *a, FILE *to)
{
    struct ArrowIpcOutputStream stream;
    int code = ArrowIpcOutputStreamInitFile(&stream, to, 0);
    if (code == 0)
        code = ArrowIpcWriterInit(&a->writer, &stream);
    if (code == 0 && a->as_file)
        code = ArrowIpcWriterStartFile(&a->writer, &a->error);
    if (code == 0)
        code = schema_make(a);
    return code != 0 ? code : ArrowIpcWriterWriteSchema(&a->writer, &a->schema, &a->error);
}

// A file is a stream with its end mark between the magic and the footer.
static int arrow_end(struct arrow *a)
{
    int code = batch_end(a);
    if (code == 0)
        code = ArrowIpcWriterWriteArrayView(&a->writer, NULL, &a->error);
    return code == 0 && a->as_file ? ArrowIpcWriterFinalizeFile(&a->writer, &a->error) : code;
}

static void arrow_done(struct arrow *a)
{
    if (a->batch.release != NULL)
        ArrowArrayRelease(&a->batch);
    ArrowArrayViewReset(&a->view);
    if (a->schema.release != NULL)
        ArrowSchemaRelease(&a->schema);
    ArrowIpcWriterReset(&a->writer);
    buf_done(&a->shown);
}

int export_arrow(struct engine *e, const struct export_range *range, FILE *to, bool as_file, struct err *err)
{
    struct arrow a = {.engine = e, .as_file = as_file, .columns = &e->sample_columns};
    ArrowArrayViewInitFromType(&a.view, NANOARROW_TYPE_UNINITIALIZED);
    int code = arrow_begin(&a, to);
    int result = code == 0 ? 0 : arrow_fail(&a, code, "beginning the Arrow output", err);
    if (result == 0)
        result = export_samples_each(e, range, arrow_row, &a, err);
    if (result == 0 && (code = arrow_end(&a)) != 0)
        result = arrow_fail(&a, code, "ending the Arrow output", err);
    arrow_done(&a);
    return result;
}
