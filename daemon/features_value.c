// SPDX-License-Identifier: Apache-2.0
// From a body to values: what the model and the exports see. log1p, smoothing, buckets and crossings are applied
// here, once, on raw readings.
#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "base/number.h"
#include "daemon/features_impl.h"

// ---- readings ---------------------------------------------------------------------------------------------

static void get_sequence(const struct reading *r, struct str segment, struct rd *from, struct value *ret)
{
    struct sequence_columns c;
    state_sequence_get(segment, from, r->with, &c);
    ret->n = c.n;
    ret->ids = c.ids;
    ret->times = c.ts;
    ret->category = c.category;
    ret->author = c.author;
}

static void reading_get(const struct reading *r, struct str segment, struct rd *from, struct value *ret)
{
    *ret = (struct value){0};
    switch (r->kind) {
    case READING_COUNTER:
    case READING_AGE:
        ret->count = rd_varint(from);
        return;
    case READING_MEMBER:
        ret->count = rd_u8(from);
        return;
    case READING_SEQUENCE:
        get_sequence(r, segment, from, ret);
        return;
    case READING_LIST: {
        uint64_t n = rd_varint(from);
        ret->ids = n <= r->last ? rd_bytes(from, 8 * (size_t)n) : NULL;
        ret->n = ret->ids != NULL ? (uint32_t)n : 0;
        from->bad |= n > r->last;
        return;
    }
    case READING_ATTRIBUTE:
    case READING_PLACE:
        ret->type = (enum value_type)rd_u8(from);
        if (ret->type == VALUE_STRING)
            ret->text = rd_str(from);
        else if (ret->type == VALUE_NUMBER)
            ret->number = rd_f64(from);
        return;
    }
}

int features_body_decode(const struct features *f, struct str segment, uint32_t user_at, uint32_t item_at,
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

// ---- values of one id -------------------------------------------------------------------------------------

uint64_t features_small(const struct features *f, int64_t n)
{
    if (n >= 0 && n < SMALL_NUMBERS)
        return f->small[n];
    char text[NUMBER_TEXT];
    return hash_id((struct str){text, (uint32_t)number_put_int(n, text)});
}

static void feature_integer(const struct features *f, int64_t n, struct feature_value *ret)
{
    ret->type = FEATURE_CATEGORY;
    ret->integer = n;
    ret->number = (double)n;
    ret->id = features_small(f, n);
}

static void feature_missing(const struct features *f, struct feature_value *ret)
{
    *ret = (struct feature_value){.type = FEATURE_MISSING, .id = f->missing};
}

static void feature_text(struct str text, uint64_t id, struct feature_value *ret)
{
    ret->type = FEATURE_CATEGORY;
    ret->text = text;
    ret->id = id;
}

// Ids of a smaller table: those of the numbers below the modulus. What is missing stays what it is.
static void feature_hash(const struct features *f, const struct config_feature *c, struct feature_value *ret)
{
    if (c->hash > 0 && ret->type == FEATURE_CATEGORY)
        ret->id = features_small(f, (int64_t)(ret->id % c->hash));
}

static void feature_id(const struct features *f, const struct value *v, struct feature_value *ret)
{
    char text[NUMBER_TEXT];
    switch (v->type) {
    case VALUE_STRING:
        feature_text(v->text, hash_id(v->text), ret);
        return;
    case VALUE_NUMBER: // a whole number is its decimal text, as with ids
        if (attribute_whole(v->number)) {
            feature_integer(f, (int64_t)v->number, ret);
            return;
        }
        ret->type = FEATURE_CATEGORY;
        ret->number = v->number;
        ret->fraction = true;
        ret->id = hash_id((struct str){text, (uint32_t)number_put_double(v->number, text)});
        return;
    case VALUE_FALSE:
    case VALUE_TRUE:
        feature_integer(f, v->type == VALUE_TRUE, ret);
        return;
    default:
        feature_missing(f, ret);
    }
}

// ---- values that are numbers ------------------------------------------------------------------------------

static uint32_t edges_below(const double *edges, uint32_t n, double v)
{
    uint32_t bucket = 0;
    while (bucket < n && edges[bucket] <= v)
        bucket++;
    return bucket;
}

// A number becomes the number of edges at or below it, or one of equal parts of [0, 1].
static void feature_bucketize(const struct features *f, uint32_t i, struct feature_value *ret)
{
    const struct config_feature *c = &f->config->features[i];
    double number = ret->number;
    int64_t bucket;
    if (c->quantiles > 0) {
        bucket = edges_below(f->learned[i].edges, f->learned[i].n, number);
    } else if (c->equal_buckets > 0) {
        double scaled = floor(number * c->equal_buckets);
        bucket = scaled < 0                   ? 0
                 : scaled >= c->equal_buckets ? (int64_t)c->equal_buckets - 1
                                              : (int64_t)scaled;
    } else if (c->n_edges > 0) {
        bucket = edges_below(c->edges, c->n_edges, number);
    } else {
        return;
    }
    feature_integer(f, bucket, ret);
    ret->number = number;
}

// What is no number (0/0 of an empty smoothing, say) is missing.
static void feature_number(const struct features *f, uint32_t i, double number, struct feature_value *ret)
{
    const struct config_feature *c = &f->config->features[i];
    if (!isfinite(number)) {
        feature_missing(f, ret);
        return;
    }
    ret->type = FEATURE_NUMBER;
    ret->number = c->log1p ? log1p(number > 0 ? number : 0) : number;
    feature_bucketize(f, i, ret);
}

static void feature_attribute(const struct features *f, uint32_t i, const struct value *v,
                              struct feature_value *ret)
{
    const struct config_feature *c = &f->config->features[i];
    if (v->type == VALUE_NUMBER || v->type == VALUE_FALSE || v->type == VALUE_TRUE)
        feature_number(f, i, v->type == VALUE_NUMBER ? v->number : v->type == VALUE_TRUE, ret);
    else if (c->missing == CONFIG_MISSING_VALUE)
        feature_number(f, i, c->missing_value, ret);
    else
        feature_missing(f, ret);
}

double features_rate(const struct features *f, uint32_t i, const struct value *values,
                     double ret_levels[1 + CONFIG_PARENTS_MAX])
{
    const struct config_feature *c = &f->config->features[i];
    double rate = 0;
    for (uint32_t k = c->n_parents + 1; k-- > 0;) {
        double above = (double)values[f->reads[i][2 * k]].count;
        double below = (double)values[f->reads[i][2 * k + 1]].count;
        rate = k == c->n_parents ? (above + c->smooth[0]) / (below + c->smooth[1])
                                 : (above + c->weight * rate) / (below + c->weight);
        ret_levels[k] = rate;
    }
    return rate;
}

// ---- the rest ---------------------------------------------------------------------------------------------

static void feature_sequence(const struct features *f, const struct config_feature *c, const struct value *v,
                             int64_t ts, struct feature_value *ret)
{
    ret->type = FEATURE_SEQUENCE;
    ret->n = v->n;
    ret->ids = c->column == CONFIG_COLUMN_CATEGORY ? v->category
               : c->column == CONFIG_COLUMN_AUTHOR ? v->author
                                                   : v->ids;
    if (c->column == CONFIG_COLUMN_AGE) {
        ret->ids = NULL;
        ret->times = v->times;
        ret->ts = ts;
        ret->small = f->small;
    }
}

uint32_t feature_value_interval(const struct feature_value *v, uint32_t k)
{
    int64_t ts;
    memcpy(&ts, v->times + 8 * (size_t)k, sizeof ts);
    int64_t hours = (v->ts - ts) / 3600000;
    uint32_t interval = hours <= 0 ? 0 : 64 - (uint32_t)__builtin_clzll((uint64_t)hours);
    return interval < INTERVALS ? interval : INTERVALS - 1;
}

uint64_t feature_value_id(const struct feature_value *v, uint32_t k)
{
    uint64_t id;
    if (v->times != NULL)
        return v->small[feature_value_interval(v, k)];
    memcpy(&id, v->ids + 8 * (size_t)k, sizeof id);
    return id;
}

static void feature_cross(const struct features *f, const struct config_feature *c,
                          const struct feature_row *row, struct feature_value *ret)
{
    uint64_t a = row->values[c->cross[0]].id, b = row->values[c->cross[1]].id;
    uint64_t id = hash_mix(a ^ hash_mix(b + UINT64_C(0x9e3779b97f4a7c15)));
    ret->type = FEATURE_CATEGORY;
    ret->id = id == 0 || id == UINT64_MAX ? 1 : id;
    ret->cross = true;
    feature_hash(f, c, ret);
}

static void feature_of_entity(const struct config_feature *c, const struct feature_row *row,
                              struct feature_value *ret)
{
    bool user = c->ref.of == CONFIG_OF_USER;
    feature_text(user ? row->user_text : row->item_text, user ? row->user : row->item, ret);
}

void features_eval(const struct features *f, uint32_t i, const struct value *values, int64_t ts,
                   struct feature_row *row)
{
    const struct config_feature *c = &f->config->features[i];
    struct feature_value *ret = &row->values[i];
    const struct value *v = f->n_reads[i] == 0 ? NULL : &values[f->reads[i][0]];
    double levels[1 + CONFIG_PARENTS_MAX];
    *ret = (struct feature_value){0};
    switch (c->kind) {
    case CONFIG_FEATURE_ID:
        if (v != NULL)
            feature_id(f, v, ret);
        else
            feature_of_entity(c, row, ret);
        feature_hash(f, c, ret);
        return;
    case CONFIG_FEATURE_GEOHASH:
        assert(v != NULL);
        feature_id(f, v, ret);
        feature_hash(f, c, ret);
        return;
    case CONFIG_FEATURE_NUMBER:
        assert(v != NULL);
        feature_attribute(f, i, v, ret);
        return;
    case CONFIG_FEATURE_COUNT:
        assert(v != NULL);
        feature_number(f, i, (double)v->count, ret);
        return;
    case CONFIG_FEATURE_RATE:
        feature_number(f, i, features_rate(f, i, values, levels), ret);
        return;
    case CONFIG_FEATURE_HOUR:
    case CONFIG_FEATURE_WEEKDAY:
        feature_integer(f, groups_hour(ts, c->offset_hours, c->kind == CONFIG_FEATURE_WEEKDAY), ret);
        return;
    case CONFIG_FEATURE_AGE:
        assert(v != NULL);
        feature_number(f, i, v->count == 0 ? (double)NAN : (double)(v->count - 1) / 3600000.0, ret);
        return;
    case CONFIG_FEATURE_MEMBER:
        assert(v != NULL);
        feature_number(f, i, (double)v->count, ret);
        return;
    case CONFIG_FEATURE_CROSS:
        feature_cross(f, c, row, ret);
        return;
    case CONFIG_FEATURE_IDS:
        assert(v != NULL);
        ret->type = FEATURE_SEQUENCE;
        ret->ids = v->ids;
        ret->n = v->n;
        return;
    case CONFIG_FEATURE_SEQUENCE:
        assert(v != NULL);
        feature_sequence(f, c, v, ts, ret);
        return;
    }
}

int features_decode(const struct features *f, struct str segment, uint32_t user_at, uint32_t item_at,
                    int64_t ts, struct feature_row *ret_row)
{
    struct value values[READINGS_MAX];
    if (features_body_decode(f, segment, user_at, item_at, ret_row, values) != 0)
        return -1;
    for (uint32_t i = 0; i < f->config->n_features; i++)
        features_eval(f, i, values, ts, ret_row);
    return 0;
}
