// SPDX-License-Identifier: Apache-2.0
// See feature_view.h. Cost: a row is a lookup of its item in the cache, the readings as bytes (as at ingest), and their
// decoding: about a microsecond and a half with twenty features, JSON included.
#include "daemon/feature_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "base/nearest.h"
#include "daemon/views.h"

struct feature_view_row {
    uint32_t key;
    bool first;      // of its run
    bool user, item; // known
    const struct feature_row *values;
};

struct feature_view {
    struct engine *engine;
    const struct feature_key *keys;
    uint32_t n_keys;
    int64_t *at; // by key
    uint32_t n_features;
    uint32_t *features; // features of the config, in the order of the request
    // Of the run of rows at hand:
    struct event_item *items;
    struct entity **entities;
    uint32_t *item_at;
    struct buf body;
    struct buf sequences;  // JSON of the run's sequences: the user's, so the same in each of its rows
    uint32_t *sequence_at; // by feature of the request: where it lies there, and its length
    uint32_t *sequence_len;
    // What a row's values go to.
    void (*put)(struct feature_view *v, const struct feature_view_row *row);
    void *context;
    struct json *json;
};

uint32_t feature_view_needs(const struct config *config, uint32_t feature)
{
    uint32_t sides = config_feature_sides(config, feature);
    return (sides & (NET_USER | NET_CROSS) ? FEATURE_NEEDS_USER : 0) |
           (sides & (NET_ITEM | NET_CROSS) ? FEATURE_NEEDS_ITEM : 0);
}

static void view_init(struct feature_view *v, struct engine *e, const struct feature_key *keys, uint32_t n)
{
    *v = (struct feature_view){.engine = e, .keys = keys, .n_keys = n};
    v->at = mem_array(n, sizeof *v->at);
    v->items = mem_array(n, sizeof *v->items);
    v->entities = mem_array(n, sizeof *v->entities);
    v->item_at = mem_array(n, sizeof *v->item_at);
}

static void view_done(struct feature_view *v)
{
    free(v->at);
    free(v->features);
    free(v->sequence_at);
    free(v->sequence_len);
    free(v->items);
    free(v->entities);
    free(v->item_at);
    buf_done(&v->body);
    buf_done(&v->sequences);
}

// ---- names and times --------------------------------------------------------------------------------------

static int feature_find(const struct config *c, struct str name, uint32_t *ret_feature, struct err *err)
{
    for (uint32_t i = 0; i < c->n_features; i++)
        if (str_is(name, c->features[i].name)) {
            *ret_feature = i;
            return 0;
        }
    char word[CONFIG_NAME];
    struct nearest nearest;
    snprintf(word, sizeof word, "%.*s", (int)name.len, name.s);
    nearest_init(&nearest, word);
    for (uint32_t i = 0; i < c->n_features; i++)
        nearest_put(&nearest, c->features[i].name);
    return err_set(err, ERR_INVALID, "there is no feature \"%.*s\"%s", (int)(name.len < 200 ? name.len : 200),
                   name.s, nearest_hint(&nearest));
}

static int view_names(struct feature_view *v, const struct feature_body *body, struct err *err)
{
    const struct config *c = v->engine->config;
    v->n_features = body->all ? c->n_features : body->n_names;
    v->features = mem_array(v->n_features, sizeof *v->features);
    for (uint32_t i = 0; i < v->n_features; i++) {
        v->features[i] = i;
        if (!body->all && feature_find(c, body->names[i], &v->features[i], err) != 0)
            return -1;
    }
    return 0;
}

static int time_of(struct str text, const char *what, int64_t *ret_at, struct err *err)
{
    if (text.len > 0 && view_time(text.s, ret_at) != 0)
        return err_set(err, ERR_INVALID, "%s %.64s: ms, s or RFC 3339 is expected", what, text.s);
    return 0;
}

static int view_times(struct feature_view *v, struct str at, int64_t *ret_at, struct err *err)
{
    *ret_at = view_at(v->engine, VIEW_NOW);
    if (time_of(at, "at", ret_at, err) != 0)
        return -1;
    for (uint32_t i = 0; i < v->n_keys; i++) {
        char what[40];
        snprintf(what, sizeof what, "entities[%u].at", i);
        v->at[i] = *ret_at;
        if (time_of(v->keys[i].at, what, &v->at[i], err) != 0)
            return -1;
    }
    return 0;
}

// ---- rows -------------------------------------------------------------------------------------------------

static bool field_equal(const struct event_field *a, const struct event_field *b)
{
    if (a->type != b->type || !str_equal(a->name, b->name))
        return false;
    switch (a->type) {
    case EVENT_STRING:
        return str_equal(a->s, b->s);
    case EVENT_NUMBER:
        return a->n == b->n;
    case EVENT_BOOL:
        return a->b == b->b;
    case EVENT_LIST:
        break;
    }
    return false;
}

// Whether two rows share the user's part.
static bool same_user(const struct feature_view *v, uint32_t i, uint32_t k)
{
    const struct feature_key *a = &v->keys[i];
    const struct feature_key *b = &v->keys[k];
    if (v->at[i] != v->at[k] || a->n_context != b->n_context || (a->user.s == NULL) != (b->user.s == NULL) ||
        !str_equal(a->user, b->user))
        return false;
    for (uint32_t f = 0; f < a->n_context; f++)
        if (!field_equal(&a->context[f], &b->context[f]))
            return false;
    return true;
}

static int run_entities(struct feature_view *v, uint32_t begin, uint32_t n, struct feature_entities *ret_of,
                        struct err *err)
{
    struct engine *e = v->engine;
    struct str user = v->keys[begin].user;
    *ret_of = (struct feature_entities){.items = v->entities};
    for (uint32_t i = 0; i < n; i++) {
        struct str item = v->keys[begin + i].item;
        v->items[i] = (struct event_item){.text = {"", 0}, .position = -1};
        v->entities[i] = NULL;
        if (item.s == NULL)
            continue;
        v->items[i].id = hash_id(item);
        v->items[i].text = item;
        if (state_entity(e->state, ENTITY_ITEM, 0, v->items[i].id, (struct str){0}, &v->entities[i], err) !=
            0)
            return -1;
    }
    if (user.s == NULL)
        return 0;
    if (state_user_find(e->state, hash_id(user), ingest_partitions(e->ingest), &ret_of->user, err) != 0)
        return -1;
    return state_entity(e->state, ENTITY_USER, PROFILE_PARTITION, hash_id(user), (struct str){0},
                        &ret_of->profile, err);
}

// Rows begin .. begin + n - 1, which share the user's part.
static int view_run(struct feature_view *v, uint32_t begin, uint32_t n, struct err *err)
{
    struct engine *e = v->engine;
    const struct feature_key *key = &v->keys[begin];
    struct feature_entities of;
    struct feature_row values;
    if (run_entities(v, begin, n, &of, err) != 0)
        return -1;
    struct event event = {.kind = EVENT_ACTION,
                          .ts = v->at[begin],
                          .user = key->user.s != NULL ? hash_id(key->user) : 0,
                          .user_text = key->user.s != NULL ? key->user : (struct str){"", 0},
                          .request_text = {"", 0},
                          .n_items = n,
                          .items = v->items,
                          .n_fields = key->n_context,
                          .fields = key->context};
    buf_clear(&v->body);
    buf_clear(&v->sequences);
    if (features_read(e->features, e->state, &event, &of, UINT32_MAX, &v->body, v->item_at) != 0) {
        features_error(e->features, err);
        return -1;
    }
    struct str segment = {(const char *)v->body.data, (uint32_t)v->body.len};
    for (uint32_t i = 0; i < n; i++) {
        if (features_decode(e->features, segment, 0, v->item_at[i], event.ts, &values) != 0)
            return err_set(err, ERR_INVALID, "the request's features do not decode");
        struct feature_view_row row = {.key = begin + i,
                                       .first = i == 0,
                                       .user = of.user != NULL || of.profile != NULL,
                                       .item = v->entities[i] != NULL,
                                       .values = &values};
        v->put(v, &row);
    }
    return 0;
}

// Before anything is read: the answer's size, and so the time that it takes, is bounded.
static int view_bound(const struct feature_view *v, struct err *err)
{
    uint64_t values = 0;
    for (uint32_t i = 0; i < v->n_features; i++) {
        const struct config_feature *c = &v->engine->config->features[v->features[i]];
        values += c->kind == CONFIG_FEATURE_SEQUENCE || c->kind == CONFIG_FEATURE_IDS ? c->last : 1;
    }
    if (values * v->n_keys <= FEATURE_VIEW_VALUES_MAX)
        return 0;
    return err_set(
        err, ERR_LIMIT,
        "%u rows of these features are up to %llu values, and a request reads at most %d: ask for fewer "
        "rows or features",
        v->n_keys, (unsigned long long)(values * v->n_keys), FEATURE_VIEW_VALUES_MAX);
}

static int view_runs(struct feature_view *v, struct err *err)
{
    if (view_bound(v, err) != 0)
        return -1;
    v->sequence_at = mem_array(v->n_features, sizeof *v->sequence_at);
    v->sequence_len = mem_array(v->n_features, sizeof *v->sequence_len);
    for (uint32_t begin = 0, end; begin < v->n_keys; begin = end) {
        for (end = begin + 1; end < v->n_keys && end - begin < EVENT_ITEMS_MAX && same_user(v, begin, end);)
            end++;
        if (view_run(v, begin, end - begin, err) != 0)
            return -1;
    }
    return 0;
}

// ---- values -----------------------------------------------------------------------------------------------

// A sequence of the user alone is made for the first row of a run, and repeated for the others.
static void sequence_put(struct feature_view *v, const struct feature_view_row *row, uint32_t i,
                         struct json *j)
{
    if (row->first) {
        struct json once = json_to(&v->sequences);
        v->sequence_at[i] = (uint32_t)v->sequences.len;
        features_value_json(v->engine->features, v->engine->state, row->values, v->features[i], &once);
        v->sequence_len[i] = (uint32_t)v->sequences.len - v->sequence_at[i];
    }
    json_raw(j, (const char *)v->sequences.data + v->sequence_at[i], v->sequence_len[i]);
}

static void value_put(struct feature_view *v, const struct feature_view_row *row, uint32_t i, struct json *j)
{
    uint32_t feature = v->features[i];
    if (row->values->values[feature].type == FEATURE_SEQUENCE &&
        feature_view_needs(v->engine->config, feature) == FEATURE_NEEDS_USER)
        sequence_put(v, row, i, j);
    else
        features_value_json(v->engine->features, v->engine->state, row->values, feature, j);
}

static bool value_given(const struct feature_view *v, uint32_t key, uint32_t feature)
{
    uint32_t needs = feature_view_needs(v->engine->config, feature);
    return ((needs & FEATURE_NEEDS_USER) == 0 || v->keys[key].user.s != NULL) &&
           ((needs & FEATURE_NEEDS_ITEM) == 0 || v->keys[key].item.s != NULL);
}

// ---- freshet's own answer ---------------------------------------------------------------------------------

static void key_json(struct json *j, const char *name, struct str id)
{
    json_key(j, name);
    if (id.s != NULL)
        json_str(j, id);
    else
        json_null(j);
}

static void rows_put(struct feature_view *v, const struct feature_view_row *row)
{
    struct json *j = v->json;
    const struct feature_key *key = &v->keys[row->key];
    json_object(j);
    key_json(j, "user_id", key->user);
    key_json(j, "item_id", key->item);
    json_key(j, "at");
    json_int(j, v->at[row->key]);
    json_key(j, "found");
    json_object(j);
    json_key(j, "user");
    json_bool(j, row->user);
    json_key(j, "item");
    json_bool(j, row->item);
    json_end(j);
    json_key(j, "values");
    json_array(j);
    for (uint32_t i = 0; i < v->n_features; i++) {
        if (value_given(v, row->key, v->features[i]))
            value_put(v, row, i, j);
        else
            json_null(j);
    }
    json_end(j);
    json_end(j);
}

static int rows_json(struct feature_view *v, int64_t at, struct json *j, struct err *err)
{
    v->json = j;
    v->put = rows_put;
    json_object(j);
    json_key(j, "at");
    json_int(j, at);
    json_key(j, "watermark");
    view_watermark(v->engine, j);
    json_key(j, "version");
    json_uint(j, updater_served(v->engine->updater));
    json_key(j, "features");
    json_array(j);
    for (uint32_t i = 0; i < v->n_features; i++)
        json_string(j, v->engine->config->features[v->features[i]].name);
    json_end(j);
    json_key(j, "rows");
    json_array(j);
    if (view_runs(v, err) != 0)
        return -1;
    json_end(j);
    json_end(j);
    return 0;
}

int feature_view_rows(struct engine *e, const struct feature_body *body, struct json *j, struct err *err)
{
    struct feature_view v;
    int64_t at;
    view_init(&v, e, body->keys, body->n_keys);
    int result = view_names(&v, body, err);
    if (result == 0)
        result = view_times(&v, body->at, &at, err);
    if (result == 0)
        result = rows_json(&v, at, j, err);
    view_done(&v);
    return result;
}

// ---- Feast's answer ---------------------------------------------------------------------------------------
//
// Column by column: results[k] holds all rows of metadata.feature_names[k], the entity columns first. Rows are
// read one after the other, so the columns grow beside one another in buffers of their own.

struct feast_columns {
    struct json *values; // by feature, each over a buffer of its own
    struct buf *texts;
    uint8_t *statuses; // feature * n_keys + key
};

enum feast_status { FEAST_PRESENT, FEAST_NULL_VALUE, FEAST_NOT_FOUND };

static enum feast_status feast_status(const struct feature_view *v, const struct feature_view_row *row,
                                      uint32_t feature)
{
    uint32_t needs = feature_view_needs(v->engine->config, feature);
    if (((needs & FEATURE_NEEDS_USER) != 0 && !row->user) ||
        ((needs & FEATURE_NEEDS_ITEM) != 0 && !row->item))
        return FEAST_NOT_FOUND;
    return row->values->values[feature].type == FEATURE_MISSING ? FEAST_NULL_VALUE : FEAST_PRESENT;
}

static void feast_put(struct feature_view *v, const struct feature_view_row *row)
{
    struct feast_columns *columns = v->context;
    for (uint32_t i = 0; i < v->n_features; i++) {
        enum feast_status status = feast_status(v, row, v->features[i]);
        columns->statuses[i * v->n_keys + row->key] = (uint8_t)status;
        if (status == FEAST_PRESENT)
            value_put(v, row, i, &columns->values[i]);
        else
            json_null(&columns->values[i]);
    }
}

// "view:feature" cut in two. Views "user" and "item" hold what is theirs; any other name holds all features.
static int feast_name(struct feature_view *v, struct str name, uint32_t *ret_feature, struct str *ret_view,
                      struct err *err)
{
    const char *colon = name.len > 0 ? memchr(name.s, ':', name.len) : NULL;
    if (colon == NULL || colon == name.s)
        return err_set(err, ERR_INVALID, "\"%.*s\" is not VIEW:FEATURE",
                       (int)(name.len < 200 ? name.len : 200), name.s);
    struct str view = {name.s, (uint32_t)(colon - name.s)};
    struct str feature = {colon + 1, name.len - view.len - 1};
    if (feature_find(v->engine->config, feature, ret_feature, err) != 0)
        return -1;
    uint32_t needs = feature_view_needs(v->engine->config, *ret_feature);
    if ((str_is(view, "user") && needs != FEATURE_NEEDS_USER) ||
        (str_is(view, "item") && needs != FEATURE_NEEDS_ITEM))
        return err_set(err, ERR_INVALID,
                       "feature \"%.*s\" is not of the view \"%.*s\"; the view \"freshet\" has all",
                       (int)feature.len, feature.s, (int)view.len, view.s);
    *ret_view = view;
    return 0;
}

// A feature service: "freshet" is all features, the model's name those that it reads.
static int feast_service(struct feature_view *v, struct str service, struct err *err)
{
    const struct config *c = v->engine->config;
    v->features = mem_array(c->n_features, sizeof *v->features);
    if (str_is(service, "freshet")) {
        for (; v->n_features < c->n_features; v->n_features++)
            v->features[v->n_features] = v->n_features;
        return 0;
    }
    if (!str_is(service, c->model.name))
        return err_set(err, ERR_NOT_FOUND, "there is no feature_service \"%.*s\"; there are: freshet, %s",
                       (int)(service.len < 200 ? service.len : 200), service.s, c->model.name);
    struct features_net net;
    features_net_new(c, &net);
    for (; v->n_features < net.spec.n_inputs; v->n_features++)
        v->features[v->n_features] = net.inputs_of[v->n_features];
    features_net_done(&net);
    return 0;
}

static bool is_column(const struct feast_body *f, const char *feature)
{
    for (uint32_t i = 0; i < f->n_columns; i++)
        if (strcmp(feature, f->column_user[i] ? "user_id" : "item_id") == 0)
            return true;
    return false;
}

// Without the view before it a name must stand for one thing.
static int feast_distinct(const struct feature_view *v, const struct feast_body *f, struct err *err)
{
    for (uint32_t i = 0; i < v->n_features; i++) {
        const char *name = v->engine->config->features[v->features[i]].name;
        bool twice = is_column(f, name);
        for (uint32_t k = 0; k < i; k++)
            twice |= v->features[i] == v->features[k];
        if (twice)
            return err_set(err, ERR_INVALID,
                           "\"%s\" would stand twice in the answer: ask once, or with full_feature_names",
                           name);
    }
    return 0;
}

// Of a service, what the entity columns say already is left out.
static void feast_leave_out(struct feature_view *v, const struct feast_body *f)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n_features; i++)
        if (!is_column(f, v->engine->config->features[v->features[i]].name))
            v->features[n++] = v->features[i];
    v->n_features = n;
}

// Fills v->features, and the view of each (s == NULL: of a service).
static int feast_names(struct feature_view *v, const struct feast_body *f, struct str *ret_views,
                       struct err *err)
{
    if (f->service.s != NULL) {
        if (feast_service(v, f->service, err) != 0)
            return -1;
        if (!f->full_names)
            feast_leave_out(v, f);
        return 0;
    }
    v->features = mem_array(f->body.n_names, sizeof *v->features);
    for (; v->n_features < f->body.n_names; v->n_features++)
        if (feast_name(v, f->body.names[v->n_features], &v->features[v->n_features],
                       &ret_views[v->n_features], err) != 0)
            return -1;
    return f->full_names ? 0 : feast_distinct(v, f, err);
}

// What a feature is of must be among the entity columns.
static int feast_keys(const struct feature_view *v, struct err *err)
{
    for (uint32_t i = 0; i < v->n_features; i++)
        if (!value_given(v, 0, v->features[i])) {
            return err_set(err, ERR_INVALID, "feature \"%s\" needs the list entities.%s",
                           v->engine->config->features[v->features[i]].name,
                           v->keys[0].user.s == NULL ? "user_id" : "item_id");
        }
    return 0;
}

// As protobuf writes a Timestamp: no fraction, or three digits of it.
static void feast_time(int64_t ms, char *text, size_t size)
{
    char seconds[32];
    struct tm tm;
    time_t t = (time_t)(ms / 1000);
    gmtime_r(&t, &tm);
    strftime(seconds, sizeof seconds, "%FT%T", &tm);
    if (ms % 1000 != 0)
        snprintf(text, size, "\"%s.%03dZ\"", seconds, (int)(ms % 1000));
    else
        snprintf(text, size, "\"%sZ\"", seconds);
}

static void feast_repeat(struct json *j, const char *key, uint32_t n, const char *value)
{
    size_t len = strlen(value);
    json_key(j, key);
    json_array(j);
    for (uint32_t i = 0; i < n; i++)
        json_raw(j, value, len);
    json_end(j);
}

static void feast_entity_column(const struct feature_view *v, bool user, struct json *j)
{
    json_object(j);
    json_key(j, "values");
    json_array(j);
    for (uint32_t i = 0; i < v->n_keys; i++) {
        struct str id = user ? v->keys[i].user : v->keys[i].item;
        if (user ? v->keys[i].user_int : v->keys[i].item_int)
            json_raw(j, id.s, id.len);
        else
            json_str(j, id);
    }
    json_end(j);
    feast_repeat(j, "statuses", v->n_keys, "\"PRESENT\"");
    feast_repeat(j, "event_timestamps", v->n_keys, "\"1970-01-01T00:00:00Z\"");
    json_end(j);
}

static void feast_column(const struct feature_view *v, uint32_t i, const char *time, struct json *j)
{
    static const char *const names[] = {"\"PRESENT\"", "\"NULL_VALUE\"", "\"NOT_FOUND\""};
    const struct feast_columns *columns = v->context;
    const uint8_t *statuses = columns->statuses + (size_t)i * v->n_keys;
    json_object(j);
    json_key(j, "values");
    json_raw(j, (const char *)columns->texts[i].data, columns->texts[i].len);
    json_key(j, "statuses");
    json_array(j);
    for (uint32_t k = 0; k < v->n_keys; k++)
        json_raw(j, names[statuses[k]], strlen(names[statuses[k]]));
    json_end(j);
    json_key(j, "event_timestamps");
    json_array(j);
    for (uint32_t k = 0; k < v->n_keys; k++) {
        const char *t = statuses[k] == FEAST_NOT_FOUND ? "\"1970-01-01T00:00:00Z\"" : time;
        json_raw(j, t, strlen(t));
    }
    json_end(j);
    json_end(j);
}

static void feast_metadata(const struct feature_view *v, const struct feast_body *f, const struct str *views,
                           struct json *j)
{
    json_key(j, "metadata");
    json_object(j);
    json_key(j, "feature_names");
    json_array(j);
    for (uint32_t i = 0; i < f->n_columns; i++)
        json_string(j, f->column_user[i] ? "user_id" : "item_id");
    for (uint32_t i = 0; i < v->n_features; i++) {
        char name[2 * CONFIG_NAME + 256];
        struct str view = views[i].s != NULL ? views[i] : str_of("freshet");
        const char *feature = v->engine->config->features[v->features[i]].name;
        if (f->full_names)
            snprintf(name, sizeof name, "%.*s__%s", (int)(view.len < 256 ? view.len : 256), view.s, feature);
        json_string(j, f->full_names ? name : feature);
    }
    json_end(j);
    json_end(j);
}

static void feast_columns_init(struct feast_columns *c, const struct feature_view *v)
{
    c->values = mem_array(v->n_features, sizeof *c->values);
    c->texts = mem_array(v->n_features, sizeof *c->texts);
    c->statuses = mem_array(v->n_features, v->n_keys);
    for (uint32_t i = 0; i < v->n_features; i++) {
        c->texts[i] = (struct buf){0};
        c->values[i] = json_to(&c->texts[i]);
        json_array(&c->values[i]);
    }
}

static void feast_columns_done(struct feast_columns *c, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        buf_done(&c->texts[i]);
    free(c->values);
    free(c->texts);
    free(c->statuses);
}

static int feast_json(struct feature_view *v, const struct feast_body *f, const struct str *views,
                      struct json *j, struct err *err)
{
    char time[40];
    struct feast_columns columns;
    feast_columns_init(&columns, v);
    v->put = feast_put;
    v->context = &columns;
    int result = view_runs(v, err);
    feast_time(v->at[0], time, sizeof time);
    json_object(j);
    feast_metadata(v, f, views, j);
    json_key(j, "results");
    json_array(j);
    for (uint32_t i = 0; i < f->n_columns; i++)
        feast_entity_column(v, f->column_user[i], j);
    for (uint32_t i = 0; i < v->n_features && result == 0; i++) {
        json_end(&columns.values[i]);
        feast_column(v, i, time, j);
    }
    json_end(j);
    json_end(j);
    feast_columns_done(&columns, v->n_features);
    return result;
}

int feature_view_feast(struct engine *e, const struct feast_body *f, struct json *j, struct err *err)
{
    struct feature_view v;
    int64_t at;
    uint32_t n = f->body.n_names > e->config->n_features ? f->body.n_names : e->config->n_features;
    struct str *views = mem_array(n, sizeof *views);
    memset(views, 0, n * sizeof *views);
    view_init(&v, e, f->body.keys, f->body.n_keys);
    int result = feast_names(&v, f, views, err);
    if (result == 0)
        result = feast_keys(&v, err);
    if (result == 0)
        result = view_times(&v, f->body.at, &at, err);
    if (result == 0)
        result = feast_json(&v, f, views, j, err);
    view_done(&v);
    free(views);
    return result;
}
