// SPDX-License-Identifier: Apache-2.0
#include "daemon/views.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
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
            view_sequence_json(e, user, i, str_of(e->config->sequences[i].name), j);
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

// ---- times ------------------------------------------------------------------------------------------------

int view_time(const char *text, int64_t *ret_ms)
{
    char *end;
    double number = strtod(text, &end);
    if (end != text && *end == '\0') {
        if (!(number >= 0 && number < VIEW_TIME_END)) // NaN too
            return -1;
        *ret_ms = timestamp_ms(number);
        return 0;
    }
    return timestamp_of_text(str_of(text), ret_ms) ? 0 : -1;
}
