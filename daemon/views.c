// SPDX-License-Identifier: Apache-2.0
#include "daemon/views.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "daemon/fusion.h"
#include "daemon/view_rows.h"
#include "stream/timestamp.h"

static const double VIEW_TIME_END = 4102444800000; // 2100, in ms

int64_t view_at(const struct engine *e, int64_t at)
{
    if (at != VIEW_NOW)
        return at;
    return e->ingest->watermark.largest == WATERMARK_NONE ? 0 : e->ingest->watermark.largest;
}

void view_watermark(const struct engine *e, struct json *j)
{
    int64_t watermark = e->ingest->watermark.value;
    if (watermark == WATERMARK_NONE || watermark == WATERMARK_END)
        json_string(j, watermark == WATERMARK_NONE ? NULL : "end");
    else
        json_int(j, watermark);
}

void view_counters(struct engine *e, struct entity *entity, int64_t at, struct json *j)
{
    json_object(j);
    for (uint32_t m = 0; m < MEASURE_MAX; m++) {
        struct view_windows w;
        const char *name = view_measure_name(e, m);
        if (name == NULL || !view_windows_read(e, entity, (uint8_t)m, at, &w))
            continue;
        json_key(j, name);
        view_windows_json(e, &w, j);
    }
    json_end(j);
}

static void view_profile(struct entity *entity, struct json *j)
{
    struct str record = entity == NULL ? (struct str){0} : state_profile(entity, NULL);
    json_key(j, "profile");
    profile_json(record, j);
}

static void view_pending(struct engine *e, uint64_t user, struct json *j)
{
    struct state_pending pending[VIEW_PENDING_MAX];
    uint32_t n = state_pending_of_user(e->state, user, VIEW_PENDING_MAX, pending);
    json_key(j, "pending");
    json_array(j);
    for (uint32_t i = 0; i < n; i++) {
        json_object(j);
        json_key(j, "item_id");
        json_str(j, features_text(e->state, pending[i].item, 0));
        json_key(j, "ts");
        json_int(j, pending[i].ts);
        json_key(j, "due");
        json_int(j, pending[i].due);
        json_key(j, "labels");
        json_array(j);
        for (uint32_t a = 0; a < e->config->n_actions; a++)
            if ((pending[i].labels >> a) & 1)
                json_string(j, e->config->actions[a]);
        json_end(j);
        json_end(j);
    }
    json_end(j);
}

static void view_head(struct entity *entity, const char *key, int64_t at, struct json *j)
{
    json_object(j);
    json_key(j, key);
    json_str(j, entity_text(entity));
    json_key(j, "at");
    json_int(j, at);
    json_key(j, "first_ts");
    json_int(j, entity_first_ts(entity));
}

int view_user(struct engine *e, struct str id, int64_t at, struct json *j, struct err *err)
{
    struct entity *user;
    struct entity *profile;
    uint64_t hash = hash_id(id);
    if (state_user_find(e->state, hash, ingest_partitions(e->ingest), &user, err) != 0 ||
        state_entity(e->state, ENTITY_USER, PROFILE_PARTITION, hash, (struct str){0}, &profile, err) != 0)
        return -1;
    struct entity *known = user != NULL ? user : profile;
    if (known == NULL)
        return err_set(err, ERR_NOT_FOUND, "no event and no profile of user \"%.*s\" has been seen",
                       (int)id.len, id.s);
    at = view_at(e, at);
    view_head(known, "user_id", at, j);
    json_key(j, "partition");
    json_int(j, entity_partition(known));
    view_profile(profile, j);
    json_key(j, "counters");
    view_counters(e, known, at, j);
    json_key(j, "sequences");
    json_object(j);
    for (uint32_t i = 0; user != NULL && i < e->config->n_sequences; i++)
        if (e->config->sequences[i].grouping == CONFIG_NONE)
            view_sequence_json(e, user, i, e->config->sequences[i].name, j);
    json_end(j);
    if (user != NULL && view_groups_json(e, GROUP_OF_USER, entity_partition(user), hash, at, j, err) != 0)
        return -1;
    view_pending(e, hash, j);
    json_end(j);
    return 0;
}

int view_item(struct engine *e, struct str id, int64_t at, struct json *j, struct err *err)
{
    struct entity *item;
    if (state_entity(e->state, ENTITY_ITEM, 0, hash_id(id), (struct str){0}, &item, err) != 0)
        return -1;
    if (item == NULL)
        return err_set(err, ERR_NOT_FOUND, "no event and no profile of item \"%.*s\" has been seen",
                       (int)id.len, id.s);
    at = view_at(e, at);
    view_head(item, "item_id", at, j);
    view_profile(item, j);
    json_key(j, "counters");
    view_counters(e, item, at, j);
    if (view_groups_json(e, GROUP_OF_ITEM, 0, entity_id(item), at, j, err) != 0)
        return -1;
    json_end(j);
    return 0;
}

// ---- embeddings -------------------------------------------------------------------------------------------

static int view_table(const struct engine *e, struct str name, uint32_t *ret_table, struct err *err)
{
    char known[512] = "";
    for (uint32_t t = 0; t < e->config->n_tables; t++) {
        if (str_is(name, e->config->tables[t].name)) {
            *ret_table = t;
            return 0;
        }
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", n > 0 ? ", " : "", e->config->tables[t].name);
    }
    return err_set(err, ERR_NOT_FOUND, "there is no table \"%.*s\"; there are: %s", (int)name.len, name.s,
                   known);
}

int view_embedding(struct engine *e, struct str table, struct str id, struct json *j, struct err *err)
{
    uint32_t number = 0;
    if (view_table(e, table, &number, err) != 0)
        return -1;
    const struct table *t = model_table(updater_model(e->updater), number);
    uint32_t slot = table_find(t, hash_id(id));
    if (slot == TABLE_NONE)
        return err_set(err, ERR_NOT_FOUND, "table %.*s has no row for \"%.*s\"", (int)table.len, table.s,
                       (int)id.len, id.s);
    const struct table_row *row = table_row(t, slot);
    json_object(j);
    json_key(j, "table");
    json_str(j, table);
    json_key(j, "id");
    json_str(j, id);
    json_key(j, "version");
    json_uint(j, updater_served(e->updater));
    json_key(j, "admitted");
    json_bool(j, table_admitted(t, row));
    json_key(j, "count");
    json_uint(j, row->count);
    json_key(j, "last_seen");
    json_int(j, (int64_t)row->last_seen_s * 1000);
    json_key(j, "vector");
    if (table_admitted(t, row)) {
        json_array(j);
        for (uint32_t i = 0; i < e->config->tables[number].dim; i++)
            json_float(j, row->vector[i]);
        json_end(j);
    } else {
        json_null(j);
    }
    json_end(j);
    return 0;
}

// ---- scores -----------------------------------------------------------------------------------------------

struct scoring {
    struct event event;
    struct event_item *items;
    struct entity **entities;
    uint32_t *item_at;
    struct buf body;
    float *p[CONFIG_HEADS_MAX];
};

static void scoring_done(struct scoring *s)
{
    free(s->items);
    free(s->entities);
    free(s->item_at);
    buf_done(&s->body);
    for (uint32_t h = 0; h < CONFIG_HEADS_MAX; h++)
        free(s->p[h]);
}

// The request as the event that an impression of it would be; entities that are not known stay NULL.
static int scoring_read(struct engine *e, const struct view_request *r, struct scoring *s, struct err *err)
{
    struct feature_entities of = {0};
    uint32_t n = r->n_items;
    s->items = mem_array(n, sizeof *s->items);
    s->entities = mem_array(n, sizeof *s->entities);
    s->item_at = mem_array(n, sizeof *s->item_at);
    s->event = (struct event){.kind = EVENT_ACTION,
                              .ts = view_at(e, r->at),
                              .user = hash_id(r->user),
                              .user_text = r->user,
                              .n_items = n,
                              .items = s->items,
                              .n_fields = r->n_context,
                              .fields = r->context};
    for (uint32_t i = 0; i < n; i++) {
        s->items[i] = (struct event_item){.id = hash_id(r->items[i]), .text = r->items[i], .position = -1};
        if (state_entity(e->state, ENTITY_ITEM, 0, s->items[i].id, (struct str){0}, &s->entities[i], err) !=
            0)
            return -1;
    }
    if (state_user_find(e->state, s->event.user, ingest_partitions(e->ingest), &of.user, err) != 0 ||
        state_entity(e->state, ENTITY_USER, PROFILE_PARTITION, s->event.user, (struct str){0}, &of.profile,
                     err) != 0)
        return -1;
    of.items = s->entities;
    if (features_read(e->features, e->state, &s->event, &of, UINT32_MAX, &s->body, s->item_at) == 0)
        return 0;
    features_error(e->features, err);
    return -1;
}

static int scoring_predict(struct engine *e, struct scoring *s, struct err *err)
{
    struct feature_row row;
    struct str segment = {(const char *)s->body.data, (uint32_t)s->body.len};
    if (e->columns == NULL)
        e->columns = columns_new(e->config);
    columns_clear(e->columns);
    for (uint32_t i = 0; i < s->event.n_items; i++) {
        if (features_decode(e->features, segment, 0, s->item_at[i], s->event.ts, &row) != 0)
            return err_set(err, ERR_INVALID, "the request's features do not decode");
        columns_put(e->columns, &row, s->event.ts, NULL, NULL);
    }
    for (uint32_t h = 0; h < e->config->model.n_heads; h++)
        s->p[h] = mem_array(s->event.n_items, sizeof *s->p[h]);
    updater_predict(e->updater, columns_samples(e->columns), s->p);
    return 0;
}

// p = a q / ((1 - q) + a q): the probability, where the share a of the negatives was kept in training.
static double scoring_calibrated(double q, double a)
{
    return a * q / ((1 - q) + a * q);
}

// What the heads say of item i; whether some of them was calibrated.
static bool scoring_heads(const struct engine *e, const struct scoring *s, uint32_t i, double *ret_p)
{
    const struct config *c = e->config;
    bool calibrated = false;
    for (uint32_t h = 0; h < c->model.n_heads; h++) {
        assert(s->p[h] != NULL);
        const double keep = config_keep(c, c->model.heads[h].label), q = (double)s->p[h][i];
        ret_p[h] = keep < 1 ? scoring_calibrated(q, keep) : q;
        calibrated |= keep < 1;
    }
    return calibrated;
}

// The fused score, by which candidates are ordered; the predictions by head; and where negatives are left out those
// before their calibration.
static void scoring_heads_json(const struct engine *e, const struct scoring *s, uint32_t i, struct json *j)
{
    const struct config *c = e->config;
    double p[CONFIG_HEADS_MAX];
    const bool calibrated = scoring_heads(e, s, i, p);
    if (c->model.score != NULL) {
        json_key(j, "score");
        json_float(j, (float)fusion_value(c->model.score, p));
    }
    for (uint32_t h = 0; h < c->model.n_heads; h++) {
        json_key(j, c->model.heads[h].name);
        json_float(j, (float)p[h]);
    }
    if (!calibrated)
        return;
    json_key(j, "raw");
    json_object(j);
    for (uint32_t h = 0; h < c->model.n_heads; h++) {
        json_key(j, c->model.heads[h].name);
        json_float(j, s->p[h][i]);
    }
    json_end(j);
}

static void scoring_json(const struct engine *e, const struct scoring *s, struct json *j)
{
    json_object(j);
    json_key(j, "version");
    json_uint(j, updater_served(e->updater));
    json_key(j, "at");
    json_int(j, s->event.ts);
    json_key(j, "scores");
    json_array(j);
    for (uint32_t i = 0; i < s->event.n_items; i++) {
        json_object(j);
        json_key(j, "item_id");
        json_str(j, s->items[i].text);
        scoring_heads_json(e, s, i, j);
        json_end(j);
    }
    json_end(j);
    json_end(j);
}

int view_score(struct engine *e, const struct view_request *request, struct json *j, struct err *err)
{
    if (request->n_items == 0 || request->n_items > VIEW_CANDIDATES_MAX)
        return err_set(err, ERR_LIMIT, "a request scores 1 to %d items, not %u", VIEW_CANDIDATES_MAX,
                       request->n_items);
    struct scoring s = {0};
    int result = scoring_read(e, request, &s, err);
    if (result == 0)
        result = scoring_predict(e, &s, err);
    if (result == 0)
        scoring_json(e, &s, j);
    scoring_done(&s);
    return result;
}

// ---- times ------------------------------------------------------------------------------------------------

int view_time(const char *text, int64_t *ret_ms)
{
    char *end;
    double number = strtod(text, &end);
    if (end != text && *end == '\0') {
        if (!(number >= 0 && number < VIEW_TIME_END)) // NaN too
            return -1;
        *ret_ms = (int64_t)(number < TIMESTAMP_SECONDS_BELOW ? number * 1000 : number);
        return 0;
    }
    return timestamp_of_text(str_of(text), ret_ms) ? 0 : -1;
}
