// SPDX-License-Identifier: Apache-2.0
// See explain_item.h. The request goes the way of every request (features_read, features_decode); what is told
// besides comes from the same readings, and from the state that they were read from.
#include "daemon/explain_item.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "daemon/features_impl.h"
#include "daemon/view_rows.h"

static const char *const side_names[] = {"user", "item", "context", "all"};
static const char *const group_names[] = {"user", "item", "all"};

struct explain {
    struct engine *e;
    struct features *f;
    struct json *j;
    struct event event;
    struct event_item item;
    struct entity *item_entity;
    struct feature_entities of;
    struct buf body;
    struct feature_row row;
    struct value values[READINGS_MAX];
    struct buf text; // of the sentence at hand
};

static void text_time(struct buf *to, int64_t ms)
{
    char text[40];
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    if (gmtime_r(&t, &tm) == NULL || strftime(text, sizeof text, "%F %T", &tm) == 0)
        buf_printf(to, "%lld", (long long)ms);
    else
        buf_printf(to, "%s", text);
}

static void text_str(struct buf *to, struct str s)
{
    buf_put(to, s.s, s.len);
}

// A number as JSON writes it.
static void text_number(struct buf *to, double v)
{
    struct json j = json_to(to);
    json_double(&j, v);
}

// Ends an object of `from`: the sentence that was put together.
static void from_end(struct explain *x)
{
    json_key(x->j, "text");
    json_str(x->j, buf_str(&x->text));
    json_end(x->j);
    buf_clear(&x->text);
}

static void from_begin(struct explain *x, const char *reading)
{
    json_object(x->j);
    json_key(x->j, "reading");
    json_string(x->j, reading);
}

static void member_int(struct explain *x, const char *key, int64_t v)
{
    json_key(x->j, key);
    json_int(x->j, v);
}

// ---- whose counter ----------------------------------------------------------------------------------------

// "item i9", "item i9 by gender=f", "all by category=shoes", "all"; as members too.
static void owner_put(struct explain *x, enum config_source of, uint32_t grouping)
{
    const struct config_grouping *g = grouping == CONFIG_NONE || grouping == CONFIG_GROUPING_TOTAL
                                          ? NULL
                                          : &x->e->config->groupings[grouping];
    const char *name = g != NULL ? group_names[g->of] : side_names[of];
    struct str id = strcmp(name, "user") == 0   ? x->event.user_text
                    : strcmp(name, "item") == 0 ? x->item.text
                                                : (struct str){0};
    json_key(x->j, "of");
    json_string(x->j, name);
    buf_printf(&x->text, "%s%s", name, id.s != NULL ? " " : "");
    text_str(&x->text, id);
    if (g == NULL)
        return;
    struct str bucket = groups_bucket(x->f->groups, grouping, 0);
    json_key(x->j, "by");
    json_string(x->j, g->name);
    json_key(x->j, "bucket");
    if (bucket.len > 0)
        json_str(x->j, bucket);
    else
        json_null(x->j);
    buf_printf(&x->text, " by %s", g->name);
    if (bucket.len == 0) {
        buf_printf(&x->text, ", of which it is in no bucket");
        return;
    }
    buf_printf(&x->text, "=");
    text_str(&x->text, bucket);
}

static void from_counter(struct explain *x, const struct reading *r, const struct value *v)
{
    const char *measure = view_measure_name(x->e, r->measure);
    from_begin(x, "counter");
    owner_put(x, r->of, r->grouping);
    json_key(x->j, "measure");
    json_string(x->j, measure);
    json_key(x->j, "window");
    json_string(x->j, r->window == CONFIG_WINDOW_TOTAL ? "total" : x->e->config->windows[r->window].name);
    buf_printf(&x->text, ": %s %llu ", measure, (unsigned long long)v->count);
    if (r->window == CONFIG_WINDOW_TOTAL) {
        buf_printf(&x->text, "since ever");
    } else {
        const struct state_window *w = &x->e->config->windows[r->window];
        int64_t tile = x->event.ts / w->tile_ms;
        member_int(x, "from", (tile - w->tiles + 1) * w->tile_ms);
        member_int(x, "to", (tile + 1) * w->tile_ms);
        buf_printf(&x->text, "in %s, ", w->name);
        text_time(&x->text, (tile - w->tiles + 1) * w->tile_ms);
        buf_printf(&x->text, " to ");
        text_time(&x->text, (tile + 1) * w->tile_ms);
    }
    json_key(x->j, "value");
    json_uint(x->j, v->count);
    from_end(x);
}

// ---- other readings ---------------------------------------------------------------------------------------

static void ref_name(const struct attribute_plan *p, struct buf *to)
{
    buf_printf(to, "%s.%.*s", side_names[p->of], (int)p->name.len, p->name.s);
}

// When the profile that an attribute is of came; nothing for a context.
static void profile_put_ts(struct explain *x, const struct attribute_plan *p)
{
    int64_t ts = 0;
    const struct entity *e = p->of == CONFIG_OF_USER   ? x->of.profile
                             : p->of == CONFIG_OF_ITEM ? x->item_entity
                                                       : NULL;
    if (p->of > CONFIG_OF_ITEM)
        return;
    struct str record = e == NULL ? (struct str){0} : state_profile(e, &ts);
    json_key(x->j, "profile_ts");
    if (record.len == 0) {
        json_null(x->j);
        buf_printf(&x->text, ", of whom there is no profile");
        return;
    }
    json_int(x->j, ts);
    buf_printf(&x->text, ", of the profile of ");
    text_time(&x->text, ts);
}

static void from_attribute(struct explain *x, const struct reading *r, const struct value *v)
{
    struct buf name = {0};
    from_begin(x, r->kind == READING_PLACE ? "place" : "attribute");
    ref_name(&r->attribute, &name);
    if (r->kind == READING_PLACE) {
        buf_printf(&name, ", ");
        ref_name(&r->second, &name);
    }
    struct str names = {(const char *)name.data, (uint32_t)name.len};
    json_key(x->j, "name");
    json_str(x->j, names);
    text_str(&x->text, names);
    json_key(x->j, "value");
    size_t begin = x->j->out->len;
    if (v->type == VALUE_STRING)
        json_str(x->j, v->text);
    else if (v->type == VALUE_NUMBER)
        json_double(x->j, v->number);
    else if (v->type == VALUE_MISSING)
        json_null(x->j);
    else
        json_bool(x->j, v->type == VALUE_TRUE);
    buf_printf(&x->text, " = %.*s", (int)(x->j->out->len - begin), (const char *)x->j->out->data + begin);
    profile_put_ts(x, &r->attribute);
    from_end(x);
    buf_done(&name);
}

static void from_list(struct explain *x, const struct reading *r, const struct value *v)
{
    from_begin(x, "list");
    ref_name(&r->attribute, &x->text);
    buf_printf(&x->text, ": the first %u, %u are there", r->last, v->n);
    member_int(x, "entries", v->n);
    profile_put_ts(x, &r->attribute);
    from_end(x);
}

static void from_sequence(struct explain *x, const struct reading *r, const struct value *v)
{
    const struct config_sequence *s = &x->e->config->sequences[r->sequence];
    from_begin(x, "sequence");
    json_key(x->j, "sequence");
    json_string(x->j, s->name);
    owner_put(x, CONFIG_OF_USER, r->grouping);
    member_int(x, "entries", v->n);
    buf_printf(&x->text, ": the newest %u of sequence %s, %u are there", r->last, s->name, v->n);
    from_end(x);
}

static void from_age(struct explain *x)
{
    int64_t birth = features_birth(x->f, x->item_entity, x->event.ts);
    bool first = x->item_entity == NULL || birth == entity_first_ts(x->item_entity);
    from_begin(x, "birth");
    member_int(x, "ts", birth);
    buf_printf(&x->text, "item born ");
    text_time(&x->text, birth);
    if (x->item_entity == NULL)
        buf_printf(&x->text, ": nothing is known of it, so it is new");
    else if (first)
        buf_printf(&x->text, ", when it was first seen");
    else
        buf_printf(&x->text, ", as item.%s says", x->e->config->item_birth);
    from_end(x);
}

static void from_member(struct explain *x, const struct reading *r, const struct value *v)
{
    const struct config_sequence *s = &x->e->config->sequences[r->sequence];
    from_begin(x, "member");
    json_key(x->j, "sequence");
    json_string(x->j, s->name);
    json_key(x->j, "value");
    json_bool(x->j, v->count != 0);
    buf_printf(&x->text, "item%s%s is %sin the user's sequence %s", s->keeps_attribute ? "." : "",
               s->keep.field, v->count != 0 ? "" : "not ", s->name);
    from_end(x);
}

static void from_reading(struct explain *x, uint32_t reading)
{
    const struct reading *r = &x->f->readings[reading];
    const struct value *v = &x->values[reading];
    switch (r->kind) {
    case READING_COUNTER:
        from_counter(x, r, v);
        return;
    case READING_ATTRIBUTE:
    case READING_PLACE:
        from_attribute(x, r, v);
        return;
    case READING_LIST:
        from_list(x, r, v);
        return;
    case READING_SEQUENCE:
        from_sequence(x, r, v);
        return;
    case READING_AGE:
        from_age(x);
        return;
    case READING_MEMBER:
        from_member(x, r, v);
        return;
    }
}

// ---- steps ------------------------------------------------------------------------------------------------

static void step_end(struct explain *x)
{
    json_str(x->j, buf_str(&x->text));
    buf_clear(&x->text);
}

// From the last parent up, as it is computed.
static void steps_rate(struct explain *x, uint32_t i)
{
    const struct config_feature *c = &x->e->config->features[i];
    double levels[1 + CONFIG_PARENTS_MAX];
    features_rate(x->f, i, x->values, levels);
    for (uint32_t k = c->n_parents + 1; k-- > 0;) {
        uint32_t at = x->f->reads[i][2 * k];
        bool last = k == c->n_parents;
        buf_printf(&x->text, "(%llu + ", (unsigned long long)x->values[at].count);
        text_number(&x->text, last ? c->smooth[0] : c->weight);
        if (!last) {
            buf_printf(&x->text, " * ");
            text_number(&x->text, levels[k + 1]);
        }
        buf_printf(&x->text, ") / (%llu + ", (unsigned long long)x->values[x->f->reads[i][2 * k + 1]].count);
        text_number(&x->text, last ? c->smooth[1] : c->weight);
        buf_printf(&x->text, ") = ");
        text_number(&x->text, levels[k]);
        step_end(x);
    }
}

static void step_edges(struct explain *x, const char *what, const double *edges, uint32_t n, double v)
{
    buf_printf(&x->text, "%s: the bucket is how many of [", what);
    for (uint32_t k = 0; k < n; k++) {
        buf_printf(&x->text, "%s", k > 0 ? ", " : "");
        text_number(&x->text, edges[k]);
    }
    buf_printf(&x->text, "] are at or below ");
    text_number(&x->text, v);
    step_end(x);
}

static void steps_bucket(struct explain *x, uint32_t i)
{
    const struct config_feature *c = &x->e->config->features[i];
    const struct feature_value *v = &x->row.values[i];
    const double *edges;
    uint32_t n;
    if (c->quantiles > 0 && !features_quantiles_of(x->f, i, &edges, &n)) {
        buf_printf(&x->text, "%u quantiles: not learned yet (%u of %u values), everything is in bucket 0",
                   c->quantiles, features_quantiles_gathered(x->f, i), features_quantiles_need(c->quantiles));
        step_end(x);
    } else if (c->quantiles > 0) {
        step_edges(x, "quantiles, as learned from the first values", edges, n, v->number);
    } else if (c->equal_buckets > 0) {
        buf_printf(&x->text, "%u equal parts of 0 to 1: ", c->equal_buckets);
        text_number(&x->text, v->number);
        buf_printf(&x->text, " is in part %lld", (long long)v->integer);
        step_end(x);
    } else if (c->n_edges > 0) {
        step_edges(x, "edges", c->edges, c->n_edges, v->number);
    }
}

static void steps(struct explain *x, uint32_t i)
{
    const struct config *config = x->e->config;
    const struct config_feature *c = &config->features[i];
    const struct feature_value *v = &x->row.values[i];
    if (c->kind == CONFIG_FEATURE_RATE)
        steps_rate(x, i);
    if (v->type == FEATURE_MISSING) {
        buf_printf(&x->text, c->table >= 0 ? "missing, which has a row of its own"
                                           : "missing, which the net sees as 0");
        step_end(x);
        return;
    }
    if (c->log1p) {
        buf_printf(&x->text, "log(1 + x)");
        step_end(x);
    }
    steps_bucket(x, i);
    if (c->kind == CONFIG_FEATURE_HOUR || c->kind == CONFIG_FEATURE_WEEKDAY) {
        buf_printf(&x->text, "of the time of the request in UTC%+g", c->offset_hours);
        step_end(x);
    }
    if (c->kind == CONFIG_FEATURE_CROSS) {
        buf_printf(&x->text, "the pair of %s and %s", config->features[c->cross[0]].name,
                   config->features[c->cross[1]].name);
        step_end(x);
    }
    if (c->hash > 0) {
        buf_printf(&x->text, "its hash modulo %llu is the row", (unsigned long long)c->hash);
        step_end(x);
    }
    if (v->times != NULL) {
        buf_printf(&x->text, "hours since each entry: 0 below one, then 1 + floor(log2(hours))");
        step_end(x);
    }
}

// ---- a feature --------------------------------------------------------------------------------------------

// What the net gets.
static void input_json(struct explain *x, uint32_t i)
{
    const struct config_feature *c = &x->e->config->features[i];
    const struct feature_value *v = &x->row.values[i];
    json_key(x->j, "input");
    json_object(x->j);
    if (c->table >= 0) {
        json_key(x->j, "table");
        json_string(x->j, x->e->config->tables[c->table].name);
    }
    if (v->type == FEATURE_SEQUENCE) {
        member_int(x, "ids", v->n);
    } else if (c->table < 0) {
        json_key(x->j, "number");
        json_float(x->j, (float)v->number);
    } else {
        char hex[20];
        snprintf(hex, sizeof hex, "%016llx", (unsigned long long)v->id);
        json_key(x->j, "feature_id");
        json_string(x->j, hex);
    }
    json_end(x->j);
}

static void feature_json(struct explain *x, uint32_t i)
{
    static const char *const kinds[] = {"id",       "number", "count", "rate",    "hour", "weekday",
                                        "sequence", "cross",  "age",   "geohash", "ids",  "member"};
    const struct config_feature *c = &x->e->config->features[i];
    json_object(x->j);
    json_key(x->j, "name");
    json_string(x->j, c->name);
    json_key(x->j, "kind");
    json_string(x->j, kinds[c->kind]);
    json_key(x->j, "value");
    features_value_json(x->f, x->e->state, &x->row, i, x->j);
    input_json(x, i);
    json_key(x->j, "from");
    json_array(x->j);
    for (uint32_t k = 0; k < x->f->n_reads[i]; k++)
        from_reading(x, x->f->reads[i][k]);
    json_end(x->j);
    json_key(x->j, "by");
    json_array(x->j);
    steps(x, i);
    json_end(x->j);
    json_end(x->j);
}

// ---- the whole --------------------------------------------------------------------------------------------

static int explain_read(struct explain *x, const struct view_request *r, struct err *err)
{
    struct engine *e = x->e;
    uint32_t item_at;
    int64_t now = e->ingest->watermark.largest == WATERMARK_NONE ? 0 : e->ingest->watermark.largest;
    x->item = (struct event_item){.id = hash_id(r->items[0]), .text = r->items[0], .position = -1};
    x->event = (struct event){.kind = EVENT_ACTION,
                              .ts = r->at == VIEW_NOW ? now : r->at,
                              .user = hash_id(r->user),
                              .user_text = r->user,
                              .n_items = 1,
                              .items = &x->item,
                              .n_fields = r->n_context,
                              .fields = r->context};
    x->of.items = &x->item_entity;
    if (state_entity(e->state, ENTITY_ITEM, 0, x->item.id, (struct str){0}, &x->item_entity, err) != 0 ||
        state_user_find(e->state, x->event.user, ingest_partitions(e->ingest), &x->of.user, err) != 0 ||
        state_entity(e->state, ENTITY_USER, PROFILE_PARTITION, x->event.user, (struct str){0}, &x->of.profile,
                     err) != 0)
        return -1;
    if (features_read(x->f, e->state, &x->event, &x->of, UINT32_MAX, &x->body, &item_at) != 0) {
        features_error(x->f, err);
        return -1;
    }
    struct str segment = {(const char *)x->body.data, (uint32_t)x->body.len};
    struct feature_row row;
    if (features_decode(x->f, segment, 0, item_at, x->event.ts, &x->row) != 0 ||
        features_body_decode(x->f, segment, 0, item_at, &row, x->values) != 0)
        return err_set(err, ERR_INVALID, "the request's features do not decode");
    return 0;
}

static void explain_json(struct explain *x)
{
    json_object(x->j);
    json_key(x->j, "user_id");
    json_str(x->j, x->event.user_text);
    json_key(x->j, "item_id");
    json_str(x->j, x->item.text);
    member_int(x, "at", x->event.ts);
    json_key(x->j, "version");
    json_uint(x->j, updater_served(x->e->updater));
    json_key(x->j, "known");
    json_object(x->j);
    json_key(x->j, "user");
    json_bool(x->j, x->of.user != NULL || x->of.profile != NULL);
    json_key(x->j, "item");
    json_bool(x->j, x->item_entity != NULL);
    json_end(x->j);
    json_key(x->j, "features");
    json_array(x->j);
    for (uint32_t i = 0; i < x->e->config->n_features; i++)
        feature_json(x, i);
    json_end(x->j);
    json_end(x->j);
}

int view_explain(struct engine *e, const struct view_request *request, struct json *j, struct err *err)
{
    if (request->n_items != 1)
        return err_set(err, ERR_LIMIT, "one item is explained at a time, not %u", request->n_items);
    struct explain *x = mem_zalloc(sizeof *x);
    x->e = e;
    x->f = e->features;
    x->j = j;
    int result = explain_read(x, request, err);
    if (result == 0)
        explain_json(x);
    buf_done(&x->body);
    buf_done(&x->text);
    free(x);
    return result;
}
