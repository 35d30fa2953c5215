// SPDX-License-Identifier: Apache-2.0
// freshet export samples: a range of the log as JSONL or Arrow. The range by
// time is exact whatever the order in which samples left; the index of the log
// tells which of its values can hold something, and only these are read
// (state_samples_find). Memory: EXPORT_CHUNK samples and the segments that they
// point into.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/export.h"
#include "daemon/sample_json.h"
#include "daemon/views.h"

enum { EXPORT_CHUNK = 1024 };

// ---- the range
// --------------------------------------------------------------------------------------------

static int number_get(const char *text, uint64_t *ret)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0)
        return -1;
    *ret = v;
    return 0;
}

int export_range_get(const struct cli *cli, struct export_range *ret_range, char *ret_why, size_t size)
{
    *ret_range = (struct export_range){.end = UINT64_MAX, .from = INT64_MIN, .to = INT64_MAX};
    const struct {
        const char *name;
        int64_t *time;
        uint64_t *number;
    } options[] = {{"from", &ret_range->from, NULL},
                   {"to", &ret_range->to, NULL},
                   {"from-sample", NULL, &ret_range->first},
                   {"to-sample", NULL, &ret_range->end}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        const char *text = cli_value(cli, options[i].name);
        if (text == NULL)
            continue;
        bool time = options[i].time != NULL;
        if ((time ? view_time(text, options[i].time) : number_get(text, options[i].number)) == 0)
            continue;
        snprintf(ret_why, size, "--%s %s: %s expected", options[i].name, text,
                 time ? "milliseconds, seconds or RFC 3339 are" : "the number of a sample is");
        return -1;
    }
    return 0;
}

// ---- the walk
// ---------------------------------------------------------------------------------------------

typedef int row_fn(void *context, const struct sample *s, const struct feature_row *row, struct err *err);

static int chunk_each(const struct engine *e, const struct export_range *range,
                      const struct sample_chunk *chunk, row_fn *row, void *context, struct err *err)
{
    struct feature_row values;
    for (uint32_t i = 0; i < chunk->n; i++) {
        const struct sample *s = &chunk->samples[i];
        if (s->emitted_ts < range->from || s->emitted_ts >= range->to)
            continue;
        if (sample_row_decode(e->features, chunk, i, &values, err) != 0 || row(context, s, &values, err) != 0)
            return -1;
    }
    return 0;
}

int export_samples_each(struct engine *e, const struct export_range *range, row_fn *row, void *context,
                        struct err *err)
{
    uint64_t seq = range->first;
    uint64_t found = 0; // end of the stretch that was found last
    while (seq < range->end) {
        if (seq >= found && state_samples_find(e->state, seq, range->from, range->to, &seq, &found, err) != 0)
            return -1;
        uint64_t end = found < range->end ? found : range->end;
        if (seq >= end)
            break;
        struct sample_chunk *chunk;
        uint32_t n = end - seq < EXPORT_CHUNK ? (uint32_t)(end - seq) : EXPORT_CHUNK;
        if (state_samples_read(e->state, seq, n, &chunk, err) != 0)
            return -1;
        int result = chunk_each(e, range, chunk, row, context, err);
        seq += chunk->n;
        state_chunk_free(e->state, chunk);
        if (result != 0)
            return -1;
    }
    return 0;
}

// ---- JSONL
// ------------------------------------------------------------------------------------------------

static int jsonl_row(void *context, const struct sample *s, const struct feature_row *row, struct err *err)
{
    struct export *x = context;
    struct json j = json_to(&x->out);
    sample_json(x->engine, s, row, &j);
    export_end(x);
    return x->write_failed ? err_errno(err, "writing the samples") : 0;
}

int export_samples(struct export *x, struct err *err)
{
    const char *format = cli_value(x->cli, "format");
    if (format != NULL && strcmp(format, "arrow") == 0)
        return export_arrow(x->engine, &x->range, x->to, x->to != stdout, err);
    if (format != NULL && strcmp(format, "safetensors") == 0)
        return export_columns(x, err);
    return export_samples_each(x->engine, &x->range, jsonl_row, x, err);
}
