// SPDX-License-Identifier: Apache-2.0
// See features.h for the layout. The config's features are compiled into a list of readings: each distinct
// (counter, window), attribute and sequence is read and stored once, however many features use it.
#include "daemon/features.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

enum {
    READINGS_MAX = 2 * CONFIG_FEATURES_MAX,
    BODY_FIXED = 64 + 2 * EVENT_ID_BYTES, // hashes, lengths and ids of a part
    SMALL_NUMBERS = 1024,                 // hours, weekdays and buckets whose ids are computed at start
};

enum reading_kind { READING_COUNTER, READING_ATTRIBUTE, READING_SEQUENCE };
enum reading_type { VALUE_MISSING, VALUE_STRING, VALUE_NUMBER, VALUE_FALSE, VALUE_TRUE };

struct reading {
    enum reading_kind kind;
    enum config_source of;
    uint8_t measure; // counter, or action of a sequence
    uint32_t window;
    uint32_t last;
    char field[CONFIG_NAME];
    bool named; // its text is hashed into a table: keep the text for readers of the table
};

// A reading decoded.
struct value {
    enum reading_type type;
    uint64_t count;
    double number;
    struct str text;
    const uint8_t *ids;
    uint32_t n;
};

struct features {
    const struct config *config;
    struct reading readings[READINGS_MAX]; // the user's part (user, context, sequences), then the item's
    uint32_t n_readings;
    uint32_t n_user;                      // readings of the user's part
    uint32_t first[CONFIG_FEATURES_MAX];  // feature -> its reading, UINT32_MAX: needs none
    uint32_t second[CONFIG_FEATURES_MAX]; // denominator of a rate
    uint64_t small[SMALL_NUMBERS];        // hash_id of "0", "1", ...
    uint64_t missing;                     // hash_id of ""
    struct buf schema;
};

// ---- compilation ------------------------------------------------------------------------------------------

static bool reading_equal(const struct reading *a, const struct reading *b)
{
    return a->kind == b->kind && a->of == b->of && a->measure == b->measure && a->window == b->window &&
           a->last == b->last && strcmp(a->field, b->field) == 0;
}

static uint32_t features_add(struct features *f, const struct reading *r)
{
    for (uint32_t i = 0; i < f->n_readings; i++)
        if (reading_equal(&f->readings[i], r)) {
            f->readings[i].named |= r->named;
            return i;
        }
    assert(f->n_readings < READINGS_MAX);
    f->readings[f->n_readings] = *r;
    return f->n_readings++;
}

// The reading that a feature needs, or its second one; false if it needs none.
static bool feature_reading(const struct config_feature *c, bool second, struct reading *ret)
{
    *ret = (struct reading){.of = c->of, .measure = c->measure, .window = c->window};
    switch (c->kind) {
    case CONFIG_FEATURE_COUNT:
        ret->kind = READING_COUNTER;
        return !second;
    case CONFIG_FEATURE_RATE:
        ret->kind = READING_COUNTER;
        ret->measure = second ? c->denominator : c->measure;
        return true;
    case CONFIG_FEATURE_ID:
    case CONFIG_FEATURE_NUMBER:
        if (second || (c->kind == CONFIG_FEATURE_ID && c->field[0] == '\0'))
            return false;
        *ret =
            (struct reading){.kind = READING_ATTRIBUTE, .of = c->of, .named = c->kind == CONFIG_FEATURE_ID};
        snprintf(ret->field, sizeof ret->field, "%s", c->field);
        return true;
    case CONFIG_FEATURE_SEQUENCE:
        *ret = (struct reading){
            .kind = READING_SEQUENCE, .of = CONFIG_OF_USER, .measure = c->measure, .last = c->last};
        return !second;
    case CONFIG_FEATURE_HOUR:
    case CONFIG_FEATURE_WEEKDAY:
        return false;
    }
    return false;
}

// Two passes: readings of the user's part first, so that a part is a run of readings.
static void features_compile(struct features *f, bool of_item)
{
    const struct config *config = f->config;
    for (uint32_t i = 0; i < config->n_features; i++)
        for (int second = 0; second < 2; second++) {
            struct reading r;
            if (!feature_reading(&config->features[i], second != 0, &r) ||
                (r.of == CONFIG_OF_ITEM) != of_item)
                continue;
            uint32_t at = features_add(f, &r);
            if (second)
                f->second[i] = at;
            else
                f->first[i] = at;
        }
}

static void features_describe(struct features *f)
{
    buf_printf(&f->schema, "body 1;");
    for (uint32_t i = 0; i < f->n_readings; i++) {
        const struct reading *r = &f->readings[i];
        buf_printf(&f->schema, " %u %u %u %s %u %s;", (unsigned)r->kind, (unsigned)r->of,
                   (unsigned)r->measure,
                   r->kind == READING_COUNTER ? f->config->windows[r->window].name : "-", r->last, r->field);
    }
}

struct features *features_new(const struct config *config)
{
    struct features *f = mem_zalloc(sizeof *f);
    f->config = config;
    for (uint32_t i = 0; i < CONFIG_FEATURES_MAX; i++)
        f->first[i] = f->second[i] = UINT32_MAX;
    features_compile(f, false);
    f->n_user = f->n_readings;
    features_compile(f, true);
    for (int i = 0; i < SMALL_NUMBERS; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        f->small[i] = hash_id(str_of(text));
    }
    f->missing = hash_id(str_of(""));
    features_describe(f);
    return f;
}

void features_free(struct features *f)
{
    if (f == NULL)
        return;
    buf_done(&f->schema);
    free(f);
}

struct str features_schema(const struct features *f)
{
    return (struct str){(const char *)f->schema.data, (uint32_t)f->schema.len};
}

// ---- reading ----------------------------------------------------------------------------------------------

static void value_put_string(struct buf *to, struct str s)
{
    buf_put_u8(to, VALUE_STRING);
    buf_put_str(to, s);
}

static void value_put_field(struct buf *to, const struct event_field *field)
{
    switch (field->type) {
    case EVENT_STRING:
        value_put_string(to, field->s);
        return;
    case EVENT_NUMBER:
        buf_put_u8(to, VALUE_NUMBER);
        buf_put_f64(to, field->n);
        return;
    case EVENT_BOOL:
        buf_put_u8(to, field->b ? VALUE_TRUE : VALUE_FALSE);
        return;
    case EVENT_LIST: // several values have no place in a feature of one: missing
        buf_put_u8(to, VALUE_MISSING);
        return;
    }
}

// The profile record: name, then a value, for each field; lists as VALUE_MISSING are kept as text fields are.
enum { PROFILE_LIST = 5 };

void features_profile_put(struct buf *to, const struct event *e)
{
    for (uint32_t i = 0; i < e->n_fields; i++) {
        const struct event_field *field = &e->fields[i];
        buf_put_str(to, field->name);
        if (field->type != EVENT_LIST) {
            value_put_field(to, field);
            continue;
        }
        buf_put_u8(to, PROFILE_LIST);
        buf_put_varint(to, field->list.n);
        for (uint32_t k = 0; k < field->list.n; k++)
            buf_put_str(to, field->list.v[k]);
    }
}

// Skips a profile value; *ret_value spans its bytes.
static uint8_t profile_value(struct rd *r, struct str *ret_value)
{
    const uint8_t *begin = r->p;
    uint8_t type = rd_u8(r);
    if (type == VALUE_STRING)
        rd_str(r);
    else if (type == VALUE_NUMBER)
        rd_f64(r);
    else if (type == PROFILE_LIST)
        for (uint64_t n = rd_varint(r); n > 0 && !r->bad; n--)
            rd_str(r);
    *ret_value = (struct str){(const char *)begin, (uint32_t)(r->p - begin)};
    return type;
}

// Copies the attribute `name` of a profile record, or a missing value.
static void value_put_profile(struct buf *to, struct str record, const char *name)
{
    struct rd r = rd_of(record.s, record.len);
    struct str wanted = str_of(name);
    while (rd_left(&r) > 0) {
        struct str field = rd_str(&r);
        struct str value;
        uint8_t type = profile_value(&r, &value);
        if (str_equal(field, wanted) && type != PROFILE_LIST) {
            buf_put(to, value.s, value.len);
            return;
        }
    }
    buf_put_u8(to, VALUE_MISSING);
}

static void value_put_context(struct buf *to, const struct event *e, const char *name)
{
    struct str wanted = str_of(name);
    for (uint32_t i = 0; i < e->n_fields; i++)
        if (str_equal(e->fields[i].name, wanted)) {
            value_put_field(to, &e->fields[i]);
            return;
        }
    buf_put_u8(to, VALUE_MISSING);
}

static void reading_put_sequence(const struct reading *r, struct state *s, struct entity *user, uint32_t at,
                                 struct buf *to)
{
    if (user == NULL) {
        buf_put_varint(to, 1); // n + 1, n = 0
        return;
    }
    if (at != UINT32_MAX) {
        state_sequence_put(s, user, r->measure, r->last, to, at);
        return;
    }
    struct sequence_entry *entries = mem_array(r->last, sizeof *entries);
    uint32_t n = state_sequence(s, user, r->measure, r->last, entries);
    buf_put_varint(to, n + UINT64_C(1));
    for (uint32_t i = 0; i < n; i++)
        buf_put_u64(to, entries[i].item);
    free(entries);
}

static void reading_put(const struct reading *r, struct state *s, const struct event *e,
                        struct entity *entity, uint32_t at, struct buf *to)
{
    if (r->kind == READING_SEQUENCE) {
        reading_put_sequence(r, s, entity, at, to);
        return;
    }
    if (r->kind == READING_COUNTER) {
        buf_put_varint(to, entity == NULL ? 0 : state_window(s, entity, r->measure, r->window, e->ts));
        return;
    }
    size_t begin = to->len;
    if (r->of == CONFIG_OF_CONTEXT)
        value_put_context(to, e, r->field);
    else
        value_put_profile(to, entity == NULL ? (struct str){0} : state_profile(entity, NULL), r->field);
    if (r->named && at != UINT32_MAX && to->data[begin] == VALUE_STRING) {
        struct rd value = rd_of(to->data + begin + 1, to->len - begin - 1);
        struct str text = rd_str(&value);
        state_name_put(s, hash_id(text), text);
    }
}

uint32_t features_body_bound(const struct features *f, const struct event *e)
{
    uint32_t user = BODY_FIXED;
    uint32_t item = BODY_FIXED;
    for (uint32_t i = 0; i < f->n_readings; i++) {
        const struct reading *r = &f->readings[i];
        uint32_t size = r->kind == READING_COUNTER ? 10 : r->kind == READING_SEQUENCE ? 10 + 8 * r->last : 0;
        if (r->kind == READING_ATTRIBUTE)
            size = 16 + EVENT_TEXT_BYTES;
        if (i < f->n_user)
            user += size;
        else
            item += size;
    }
    return user + e->n_items * item;
}

bool features_use_profile(const struct features *f)
{
    for (uint32_t i = 0; i < f->n_user; i++)
        if (f->readings[i].kind == READING_ATTRIBUTE && f->readings[i].of == CONFIG_OF_USER)
            return true;
    return false;
}

void features_read(struct features *f, struct state *s, const struct event *e,
                   const struct feature_entities *of, uint32_t at, struct buf *to, uint32_t *ret_item_at)
{
    buf_put_u64(to, e->user);
    buf_put_str(to, e->user_text);
    buf_put_str(to, e->request_text);
    for (uint32_t i = 0; i < f->n_user; i++) {
        bool profile = f->readings[i].kind == READING_ATTRIBUTE;
        reading_put(&f->readings[i], s, e, profile ? of->profile : of->user, at, to);
    }
    for (uint32_t k = 0; k < e->n_items; k++) {
        ret_item_at[k] = (uint32_t)to->len;
        buf_put_u64(to, e->items[k].id);
        buf_put_str(to, e->items[k].text);
        buf_put_zigzag(to, e->items[k].position);
        for (uint32_t i = f->n_user; i < f->n_readings; i++)
            reading_put(&f->readings[i], s, e, of->items[k], at, to);
    }
}

// ---- values -----------------------------------------------------------------------------------------------

static void reading_get(const struct reading *r, struct str segment, struct rd *from, struct value *ret)
{
    *ret = (struct value){0};
    if (r->kind == READING_COUNTER) {
        ret->count = rd_varint(from);
        return;
    }
    if (r->kind == READING_SEQUENCE) {
        ret->n = state_sequence_get(segment, from, &ret->ids);
        return;
    }
    ret->type = rd_u8(from);
    if (ret->type == VALUE_STRING)
        ret->text = rd_str(from);
    else if (ret->type == VALUE_NUMBER)
        ret->number = rd_f64(from);
}

static uint64_t features_small(const struct features *f, int64_t n)
{
    if (n >= 0 && n < SMALL_NUMBERS)
        return f->small[n];
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)n);
    return hash_id(str_of(text));
}

static void feature_integer(const struct features *f, int64_t n, struct feature_value *ret)
{
    ret->type = FEATURE_CATEGORY;
    ret->integer = n;
    ret->number = (double)n;
    ret->id = features_small(f, n);
}

// A number becomes the number of edges at or below it, or one of equal parts of [0, 1].
static void feature_bucketize(const struct features *f, const struct config_feature *c,
                              struct feature_value *ret)
{
    int64_t bucket = 0;
    if (c->equal_buckets > 0) {
        double scaled = floor(ret->number * c->equal_buckets);
        bucket = scaled < 0                   ? 0
                 : scaled >= c->equal_buckets ? (int64_t)c->equal_buckets - 1
                                              : (int64_t)scaled;
    } else if (c->n_edges > 0) {
        while (bucket < c->n_edges && c->edges[bucket] <= ret->number)
            bucket++;
    } else {
        return;
    }
    double number = ret->number;
    feature_integer(f, bucket, ret);
    ret->number = number;
}

static void feature_missing(const struct features *f, struct feature_value *ret)
{
    ret->type = FEATURE_MISSING;
    ret->id = f->missing;
}

static void feature_attribute(const struct features *f, const struct config_feature *c, const struct value *v,
                              struct feature_value *ret)
{
    if (c->kind == CONFIG_FEATURE_NUMBER) {
        if (v->type == VALUE_MISSING || v->type == VALUE_STRING) {
            feature_missing(f, ret);
            return;
        }
        ret->type = FEATURE_NUMBER;
        ret->number = v->type == VALUE_NUMBER ? v->number : v->type == VALUE_TRUE;
        if (c->log1p)
            ret->number = log1p(ret->number > 0 ? ret->number : 0);
        feature_bucketize(f, c, ret);
        return;
    }
    switch (v->type) {
    case VALUE_MISSING:
        feature_missing(f, ret);
        return;
    case VALUE_STRING:
        ret->type = FEATURE_CATEGORY;
        ret->text = v->text;
        ret->id = hash_id(v->text);
        return;
    case VALUE_NUMBER: // a whole number is its decimal text, as with ids
        feature_integer(f, (int64_t)v->number, ret);
        return;
    case VALUE_FALSE:
    case VALUE_TRUE:
        feature_integer(f, v->type == VALUE_TRUE, ret);
        return;
    }
}

static void feature_time(const struct features *f, const struct config_feature *c, int64_t ts,
                         struct feature_value *ret)
{
    enum { HOUR_MS = 3600000 };
    int64_t hours = (ts + (int64_t)(c->offset_hours * HOUR_MS)) / HOUR_MS;
    // 1970-01-01 was a Thursday: 3 counting from Monday.
    feature_integer(f, c->kind == CONFIG_FEATURE_HOUR ? hours % 24 : (hours / 24 + 3) % 7, ret);
}

static void feature_eval(const struct features *f, uint32_t i, const struct value *values, int64_t ts,
                         struct feature_row *row)
{
    const struct config_feature *c = &f->config->features[i];
    struct feature_value *ret = &row->values[i];
    const struct value *v = f->first[i] == UINT32_MAX ? NULL : &values[f->first[i]];
    *ret = (struct feature_value){0};
    assert(v != NULL || c->kind == CONFIG_FEATURE_ID || c->kind == CONFIG_FEATURE_HOUR ||
           c->kind == CONFIG_FEATURE_WEEKDAY);
    switch (c->kind) {
    case CONFIG_FEATURE_ID:
        if (v != NULL) {
            feature_attribute(f, c, v, ret);
            return;
        }
        ret->type = FEATURE_CATEGORY;
        ret->id = c->of == CONFIG_OF_USER ? row->user : row->item;
        ret->text = c->of == CONFIG_OF_USER ? row->user_text : row->item_text;
        return;
    case CONFIG_FEATURE_NUMBER:
        feature_attribute(f, c, v, ret);
        return;
    case CONFIG_FEATURE_COUNT:
        ret->type = FEATURE_NUMBER;
        ret->number = c->log1p ? log1p((double)v->count) : (double)v->count;
        feature_bucketize(f, c, ret);
        return;
    case CONFIG_FEATURE_RATE:
        ret->type = FEATURE_NUMBER;
        ret->number = ((double)v->count + c->smooth[0]) / ((double)values[f->second[i]].count + c->smooth[1]);
        feature_bucketize(f, c, ret);
        return;
    case CONFIG_FEATURE_HOUR:
    case CONFIG_FEATURE_WEEKDAY:
        feature_time(f, c, ts, ret);
        return;
    case CONFIG_FEATURE_SEQUENCE:
        ret->type = FEATURE_SEQUENCE;
        ret->ids = v->ids;
        ret->n = v->n;
        return;
    }
}

// The two parts of a body; -1 if they do not fit.
static int body_decode(const struct features *f, struct str segment, uint32_t user_at, uint32_t item_at,
                       struct feature_row *row, struct value *values)
{
    if (user_at > segment.len || item_at > segment.len)
        return -1;
    struct rd user = rd_of(segment.s + user_at, segment.len - user_at);
    struct rd item = rd_of(segment.s + item_at, segment.len - item_at);
    row->user = rd_u64(&user);
    row->user_text = rd_str(&user);
    row->request_text = rd_str(&user);
    row->item = rd_u64(&item);
    row->item_text = rd_str(&item);
    row->position = rd_zigzag(&item);
    for (uint32_t i = 0; i < f->n_readings; i++)
        reading_get(&f->readings[i], segment, i < f->n_user ? &user : &item, &values[i]);
    return user.bad || item.bad ? -1 : 0;
}

int features_decode(const struct features *f, struct str segment, uint32_t user_at, uint32_t item_at,
                    int64_t ts, struct feature_row *ret_row)
{
    struct value values[READINGS_MAX];
    if (body_decode(f, segment, user_at, item_at, ret_row, values) != 0)
        return -1;
    for (uint32_t i = 0; i < f->config->n_features; i++)
        feature_eval(f, i, values, ts, ret_row);
    return 0;
}

struct str features_text(struct state *s, uint64_t id, uint16_t partitions)
{
    struct entity *e = NULL;
    struct err err;
    struct str text = state_name(s, id);
    if (text.len > 0)
        return text;
    if (state_entity(s, ENTITY_ITEM, 0, id, (struct str){0}, &e, &err) == 0 && e != NULL)
        return entity_text(e);
    if (partitions > 0 && state_user_find(s, id, partitions, &e, &err) == 0 && e != NULL)
        return entity_text(e);
    return (struct str){"", 0};
}

static void feature_json_sequence(struct state *s, const struct feature_value *v, struct json *j)
{
    json_array(j);
    for (uint32_t k = 0; k < v->n; k++) {
        uint64_t id;
        memcpy(&id, v->ids + 8 * (size_t)k, sizeof id);
        json_str(j, features_text(s, id, 0));
    }
    json_end(j);
}

void features_json(const struct features *f, struct state *s, const struct feature_row *row, struct json *j)
{
    json_object(j);
    for (uint32_t i = 0; i < f->config->n_features; i++) {
        const struct feature_value *v = &row->values[i];
        json_key(j, f->config->features[i].name);
        if (v->type == FEATURE_MISSING)
            json_null(j);
        else if (v->type == FEATURE_NUMBER)
            json_double(j, v->number);
        else if (v->type == FEATURE_SEQUENCE)
            feature_json_sequence(s, v, j);
        else if (v->text.s != NULL)
            json_str(j, v->text);
        else
            json_int(j, v->integer);
    }
    json_end(j);
}

void features_canonical(void *features, const struct sample *sample, struct str segment, struct buf *to)
{
    const struct features *f = features;
    struct feature_row row;
    struct value values[READINGS_MAX];
    if (body_decode(f, segment, sample->body.user_at, sample->body.item_at, &row, values) != 0)
        return;
    buf_put_str(to, row.user_text);
    buf_put_str(to, row.request_text);
    buf_put_str(to, row.item_text);
    buf_put_zigzag(to, row.position);
    for (uint32_t i = 0; i < f->n_readings; i++) {
        const struct value *v = &values[i];
        buf_put_u8(to, (uint8_t)v->type);
        buf_put_u64(to, v->count);
        buf_put_f64(to, v->number);
        buf_put_str(to, v->text);
        buf_put_u32(to, v->n);
        buf_put(to, v->ids, 8 * (size_t)v->n);
    }
}

static void profile_value_json(struct rd *r, struct json *j)
{
    switch (rd_u8(r)) {
    case VALUE_STRING:
        json_str(j, rd_str(r));
        return;
    case VALUE_NUMBER:
        json_double(j, rd_f64(r));
        return;
    case VALUE_FALSE:
        json_bool(j, false);
        return;
    case VALUE_TRUE:
        json_bool(j, true);
        return;
    case PROFILE_LIST:
        json_array(j);
        for (uint64_t n = rd_varint(r); n > 0 && !r->bad; n--)
            json_str(j, rd_str(r));
        json_end(j);
        return;
    default:
        json_null(j);
    }
}

void features_profile_json(struct str record, struct json *j)
{
    struct rd r = rd_of(record.s, record.len);
    json_object(j);
    while (rd_left(&r) > 0) {
        struct str name = rd_str(&r);
        json_key_n(j, name.s, name.len);
        profile_value_json(&r, j);
    }
    json_end(j);
}
