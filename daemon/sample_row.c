// SPDX-License-Identifier: Apache-2.0
// The columns of a sample: the fixed ones by a table, then one a label, one a
// feature. A new member of a sample is a row of the table, or a group, and
// shows in all three formats.
#include "daemon/sample_row.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/targets.h"

// ---- values
// -----------------------------------------------------------------------------------------------

static void get_sample(const struct sample_column *c, const struct sample *s, const struct feature_row *row,
                       struct sample_value *ret)
{
    (void)c;
    (void)row;
    ret->integer = (int64_t)s->seq;
}

static void get_impression(const struct sample_column *c, const struct sample *s,
                           const struct feature_row *row, struct sample_value *ret)
{
    (void)c;
    (void)row;
    ret->integer = (int64_t)s->impression;
}

static void get_user(const struct sample_column *c, const struct sample *s, const struct feature_row *row,
                     struct sample_value *ret)
{
    (void)c;
    (void)s;
    ret->text = row->user_text;
}

static void get_item(const struct sample_column *c, const struct sample *s, const struct feature_row *row,
                     struct sample_value *ret)
{
    (void)c;
    (void)s;
    ret->text = row->item_text;
}

static void get_request(const struct sample_column *c, const struct sample *s, const struct feature_row *row,
                        struct sample_value *ret)
{
    (void)c;
    (void)s;
    ret->text = row->request_text;
    ret->missing = row->request_text.len == 0;
}

static void get_position(const struct sample_column *c, const struct sample *s, const struct feature_row *row,
                         struct sample_value *ret)
{
    (void)c;
    (void)s;
    ret->integer = row->position;
    ret->missing = row->position < 0;
}

static void get_impression_ts(const struct sample_column *c, const struct sample *s,
                              const struct feature_row *row, struct sample_value *ret)
{
    (void)c;
    (void)row;
    ret->integer = s->impression_ts;
}

static void get_emitted_ts(const struct sample_column *c, const struct sample *s,
                           const struct feature_row *row, struct sample_value *ret)
{
    (void)c;
    (void)row;
    ret->integer = s->emitted_ts;
}

static void get_label(const struct sample_column *c, const struct sample *s, const struct feature_row *row,
                      struct sample_value *ret)
{
    (void)row;
    ret->integer = c->index == ACTION_WATCH ? (int64_t)s->watch_ms : (s->labels >> c->index) & 1;
}

// What share of the length was watched; missing where the length is not known.
static void get_completion(const struct sample_column *c, const struct sample *s,
                           const struct feature_row *row, struct sample_value *ret)
{
    ret->number = targets_share(s, row, (int)c->index);
    ret->missing = ret->number < 0;
}

static void get_label_ts(const struct sample_column *c, const struct sample *s, const struct feature_row *row,
                         struct sample_value *ret)
{
    (void)row;
    ret->missing = ((s->labels >> c->index) & 1) == 0;
    ret->integer = s->label_ts[c->index];
}

static void get_keep_rate(const struct sample_column *c, const struct sample *s,
                          const struct feature_row *row, struct sample_value *ret)
{
    (void)c;
    (void)row;
    ret->number = (double)s->keep_rate;
}

static void get_keep_rates(const struct sample_column *c, const struct sample *s,
                           const struct feature_row *row, struct sample_value *ret)
{
    (void)row;
    ret->missing = ((s->rated >> c->index) & 1) == 0;
    ret->number = (double)s->keep_rates[c->index];
}

static void get_masked(const struct sample_column *c, const struct sample *s, const struct feature_row *row,
                       struct sample_value *ret)
{
    (void)c;
    (void)row;
    ret->integer = s->masked & ~s->labels;
    ret->missing = ret->integer == 0;
}

static void get_corrects(const struct sample_column *c, const struct sample *s, const struct feature_row *row,
                         struct sample_value *ret)
{
    (void)c;
    (void)row;
    ret->missing = !s->corrected;
    ret->integer = (int64_t)s->impression;
}

static void get_changed(const struct sample_column *c, const struct sample *s, const struct feature_row *row,
                        struct sample_value *ret)
{
    (void)c;
    (void)row;
    ret->missing = !s->corrected;
    ret->integer = s->labels & ~s->told;
}

static void get_feature(const struct sample_column *c, const struct sample *s, const struct feature_row *row,
                        struct sample_value *ret)
{
    (void)s;
    static const enum feature_type types[] = {[SAMPLE_NUMBER] = FEATURE_NUMBER,
                                              [SAMPLE_TEXT] = FEATURE_CATEGORY,
                                              [SAMPLE_IDS] = FEATURE_SEQUENCE,
                                              [SAMPLE_AGES] = FEATURE_SEQUENCE};
    const struct feature_value *v = &row->values[c->index];
    assert(v->type == FEATURE_MISSING || v->type == types[c->type]);
    *ret = (struct sample_value){
        .missing = v->type == FEATURE_MISSING, .number = v->number, .text = v->text, .feature = v};
}

// ---- the list
// ---------------------------------------------------------------------------------------------

static const struct sample_column columns_before[] = {
    {.name = "sample", .type = SAMPLE_INT, .get = get_sample},
    {.name = "impression", .type = SAMPLE_INT, .get = get_impression},
    {.name = "user_id", .type = SAMPLE_TEXT, .get = get_user},
    {.name = "item_id", .type = SAMPLE_TEXT, .get = get_item},
    {.name = "request_id", .type = SAMPLE_TEXT, .get = get_request},
    {.name = "position", .type = SAMPLE_INT, .get = get_position},
    {.name = "impression_ts", .type = SAMPLE_TIME, .get = get_impression_ts},
    {.name = "emitted_ts", .type = SAMPLE_TIME, .get = get_emitted_ts},
};
static const struct sample_column columns_between[] = {
    {.name = "keep_rate", .type = SAMPLE_RATE, .get = get_keep_rate},
};
static const struct sample_column columns_after[] = {
    {.name = "masked", .type = SAMPLE_LABELS_OF, .optional = true, .get = get_masked},
    {.name = "corrects", .type = SAMPLE_INT, .optional = true, .get = get_corrects},
    {.name = "changed", .type = SAMPLE_LABELS_OF, .optional = true, .get = get_changed},
};

static void columns_add(struct sample_columns *c, const struct sample_column *columns, size_t n)
{
    c->columns = mem_resize(c->columns, c->n + n, sizeof *c->columns);
    memcpy(c->columns + c->n, columns, n * sizeof *columns);
    c->n += (uint32_t)n;
}

const char *sample_label_name(const struct config *config, uint32_t action)
{
    return action == ACTION_WATCH ? "watch_ms" : config->actions[action];
}

// A column a label, like `column`.
static void columns_labels(struct sample_columns *c, struct sample_column column)
{
    for (uint32_t a = 1; a < c->config->n_actions; a++) {
        if (!((c->config->join.labels >> a) & 1))
            continue;
        struct sample_column own = column;
        own.index = a;
        own.name = sample_label_name(c->config, a);
        if (column.group == SAMPLE_LABELS && a == ACTION_WATCH)
            own.type = SAMPLE_INT;
        columns_add(c, &own, 1);
    }
}

// What has a table is a category, or several; all else is a number: as for the
// model.
static enum sample_type feature_column_type(const struct config_feature *f)
{
    if (f->kind == CONFIG_FEATURE_SEQUENCE && f->column == CONFIG_COLUMN_AGE)
        return SAMPLE_AGES;
    if (f->kind == CONFIG_FEATURE_SEQUENCE || f->kind == CONFIG_FEATURE_IDS)
        return SAMPLE_IDS;
    return f->table >= 0 ? SAMPLE_TEXT : SAMPLE_NUMBER;
}

static void columns_features(struct sample_columns *c)
{
    c->features = c->n;
    for (uint32_t i = 0; i < c->config->n_features; i++) {
        const struct sample_column column = {.name = c->config->features[i].name,
                                             .group = SAMPLE_FEATURES,
                                             .type = feature_column_type(&c->config->features[i]),
                                             .index = i,
                                             .get = get_feature};
        columns_add(c, &column, 1);
    }
}

void sample_columns_init(struct sample_columns *c, const struct config *config)
{
    static const struct sample_column label = {.group = SAMPLE_LABELS, .type = SAMPLE_FLAG, .get = get_label};
    static const struct sample_column label_ts = {
        .group = SAMPLE_LABEL_TS, .type = SAMPLE_TIME, .optional = true, .get = get_label_ts};
    static const struct sample_column rate = {
        .group = SAMPLE_KEEP_RATES, .type = SAMPLE_RATE, .optional = true, .get = get_keep_rates};
    *c = (struct sample_columns){.config = config};
    columns_add(c, columns_before, sizeof columns_before / sizeof *columns_before);
    columns_labels(c, label);
    if (config->completion.feature >= 0) {
        const struct sample_column completion = {.name = "completion",
                                                 .group = SAMPLE_LABELS,
                                                 .type = SAMPLE_NUMBER,
                                                 .index = (uint32_t)config->completion.feature,
                                                 .get = get_completion};
        columns_add(c, &completion, 1);
    }
    columns_labels(c, label_ts);
    columns_add(c, columns_between, sizeof columns_between / sizeof *columns_between);
    columns_labels(c, rate);
    columns_add(c, columns_after, sizeof columns_after / sizeof *columns_after);
    columns_features(c);
}

void sample_columns_done(struct sample_columns *c)
{
    free(c->columns);
    *c = (struct sample_columns){0};
}

int sample_row_decode(const struct features *f, const struct sample_chunk *chunk, uint32_t i,
                      struct feature_row *ret_row, struct err *err)
{
    const struct sample *s = &chunk->samples[i];
    if (features_decode(f, chunk->segments[i], s->body.user_at, s->body.item_at, s->impression_ts, ret_row) !=
        0)
        return err_set(err, ERR_CORRUPT, "sample %llu does not decode", (unsigned long long)s->seq);
    return 0;
}

// ---- JSON
// -------------------------------------------------------------------------------------------------

static void labels_json(const struct config *config, int64_t labels, struct json *j)
{
    json_array(j);
    for (uint32_t a = 1; a < config->n_actions; a++)
        if ((labels >> a) & 1)
            json_string(j, sample_label_name(config, a));
    json_end(j);
}

static void value_json(const struct config *config, const struct sample_column *c,
                       const struct sample_value *v, struct json *j)
{
    json_key(j, c->name);
    if (v->missing)
        json_null(j);
    else if (c->type == SAMPLE_TEXT)
        json_str(j, v->text);
    else if (c->type == SAMPLE_RATE)
        json_float(j, (float)v->number);
    else if (c->type == SAMPLE_NUMBER)
        json_double(j, v->number);
    else if (c->type == SAMPLE_LABELS_OF)
        labels_json(config, v->integer, j);
    else
        json_int(j, v->integer);
}

struct row_writer {
    const struct sample_columns *columns;
    const struct sample *sample;
    const struct feature_row *row;
    struct json *json;
};

// The columns of a group from column `i` on. Returns the column behind them;
// *ret_any: something was written.
static uint32_t group_members(const struct row_writer *w, uint32_t i, enum sample_group group, bool *ret_any)
{
    const struct sample_columns *c = w->columns;
    *ret_any = false;
    for (; i < c->features && c->columns[i].group == group; i++) {
        struct sample_value v = {0};
        c->columns[i].get(&c->columns[i], w->sample, w->row, &v);
        if (v.missing && c->columns[i].optional)
            continue;
        value_json(c->config, &c->columns[i], &v, w->json);
        *ret_any = true;
    }
    return i;
}

// `key`: {...}; without `always` nothing where nothing is in it.
static uint32_t group_json(const struct row_writer *w, uint32_t i, enum sample_group group, const char *key,
                           bool always)
{
    const struct json before = *w->json;
    size_t begin = w->json->out->len;
    bool any;
    json_key(w->json, key);
    json_object(w->json);
    i = group_members(w, i, group, &any);
    json_end(w->json);
    if (!any && !always) {
        *w->json = before;
        w->json->out->len = begin;
    }
    return i;
}

void sample_row_json(const struct sample_columns *c, const struct features *f, struct state *state,
                     const struct sample *s, const struct feature_row *row, struct json *j)
{
    const struct row_writer w = {c, s, row, j};
    bool any;
    json_object(j);
    uint32_t i = group_members(&w, 0, SAMPLE_OWN, &any);
    i = group_json(&w, i, SAMPLE_LABELS, "labels", true);
    i = group_json(&w, i, SAMPLE_LABEL_TS, "label_ts", true);
    i = group_members(&w, i, SAMPLE_OWN, &any);
    i = group_json(&w, i, SAMPLE_KEEP_RATES, "keep_rates", false);
    i = group_members(&w, i, SAMPLE_OWN, &any);
    assert(i == c->features);
    json_key(j, "features");
    features_json(f, state, row, j);
    json_end(j);
}
