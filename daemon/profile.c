// SPDX-License-Identifier: Apache-2.0
#include "daemon/profile.h"

#include <math.h>

#include "base/number.h"

static uint32_t name_hash(struct str name)
{
    return (uint32_t)hash_bytes(name.s, name.len);
}

struct attribute_plan attribute_plan_of(const struct config_ref *ref)
{
    struct str name = str_of(ref->field);
    return (struct attribute_plan){ref->of, name_hash(name), name, ref->type};
}

struct attribute_plan attribute_plan_named(const struct config *c, const char *name)
{
    enum config_type_of type = CONFIG_ANY;
    for (uint32_t i = 0; i < c->n_item_attributes; i++)
        if (strcmp(c->item_attributes[i].name, name) == 0)
            type = c->item_attributes[i].type;
    return (struct attribute_plan){CONFIG_OF_ITEM, name_hash(str_of(name)), str_of(name), type};
}

// ---- records ----------------------------------------------------------------------------------------------

static void hashed_put(struct buf *to, struct str s)
{
    buf_put_u64(to, hash_id(s));
    buf_put_str(to, s);
}

static void field_put(struct buf *to, const struct event_field *field)
{
    switch (field->type) {
    case EVENT_STRING:
        buf_put_u8(to, VALUE_STRING);
        hashed_put(to, field->s);
        return;
    case EVENT_NUMBER:
        buf_put_u8(to, VALUE_NUMBER);
        buf_put_f64(to, field->n);
        return;
    case EVENT_BOOL:
        buf_put_u8(to, field->b ? VALUE_TRUE : VALUE_FALSE);
        return;
    case EVENT_LIST:
        buf_put_u8(to, VALUE_LIST);
        buf_put_varint(to, field->list.n);
        for (uint32_t k = 0; k < field->list.n; k++)
            hashed_put(to, field->list.v[k]);
        return;
    }
}

void profile_put(struct buf *to, const struct event *e)
{
    struct buf one = {0};
    for (uint32_t i = 0; i < e->n_fields; i++) {
        buf_clear(&one);
        buf_put_str(&one, e->fields[i].name);
        field_put(&one, &e->fields[i]);
        buf_put_u32(to, name_hash(e->fields[i].name));
        buf_put_varint(to, one.len);
        buf_put(to, one.data, one.len);
    }
    buf_done(&one);
}

struct str attribute_list_next(struct rd *list, uint64_t *ret_hash)
{
    *ret_hash = rd_u64(list);
    return rd_str(list);
}

static void value_get(struct rd *r, struct attribute *ret)
{
    *ret = (struct attribute){.type = (enum value_type)rd_u8(r)};
    if (ret->type == VALUE_STRING) {
        ret->hash = rd_u64(r);
        ret->text = rd_str(r);
    } else if (ret->type == VALUE_NUMBER) {
        ret->number = rd_f64(r);
    } else if (ret->type == VALUE_LIST) {
        ret->n = (uint32_t)rd_varint(r);
        ret->list = *r;
    }
}

static void value_json(struct attribute *a, struct json *j)
{
    uint64_t hash;
    if (a->type == VALUE_STRING)
        json_str(j, a->text);
    else if (a->type == VALUE_NUMBER)
        json_double(j, a->number);
    else if (a->type == VALUE_FALSE || a->type == VALUE_TRUE)
        json_bool(j, a->type == VALUE_TRUE);
    else if (a->type != VALUE_LIST)
        json_null(j);
    else {
        json_array(j);
        for (uint32_t k = 0; k < a->n && !a->list.bad; k++)
            json_str(j, attribute_list_next(&a->list, &hash));
        json_end(j);
    }
}

void profile_json(struct str record, struct json *j)
{
    struct rd r = rd_of(record.s, record.len);
    json_object(j);
    while (rd_left(&r) > 0) {
        struct attribute a;
        (void)rd_u32(&r);
        uint64_t size = rd_varint(&r);
        const uint8_t *bytes = rd_bytes(&r, size);
        struct rd one = rd_of(bytes, bytes != NULL ? size : 0);
        struct str name = rd_str(&one);
        if (one.bad)
            break;
        value_get(&one, &a);
        json_key_n(j, name.s, name.len);
        value_json(&a, j);
    }
    json_end(j);
}

// ---- types ------------------------------------------------------------------------------------------------

static bool type_fits(enum config_type_of declared, enum value_type type)
{
    static const uint8_t fits[] = {[CONFIG_ANY] = 0xff,
                                   [CONFIG_STRING] = 1 << VALUE_STRING,
                                   [CONFIG_REAL] = 1 << VALUE_NUMBER,
                                   [CONFIG_LIST] = 1 << VALUE_LIST,
                                   [CONFIG_BOOLEAN] = 1 << VALUE_FALSE | 1 << VALUE_TRUE};
    return fits[declared] >> type & 1;
}

static enum value_type type_of(const struct event_field *field)
{
    static const enum value_type types[] = {[EVENT_STRING] = VALUE_STRING,
                                            [EVENT_NUMBER] = VALUE_NUMBER,
                                            [EVENT_BOOL] = VALUE_TRUE,
                                            [EVENT_LIST] = VALUE_LIST};
    return types[field->type];
}

uint32_t profile_conflicts(const struct config *c, const struct event *e)
{
    bool user = e->kind == EVENT_USER_PROFILE;
    const struct config_attribute *list = user ? c->user_attributes : c->item_attributes;
    uint32_t n = user ? c->n_user_attributes : c->n_item_attributes;
    uint32_t conflicts = 0;
    for (uint32_t i = 0; i < e->n_fields; i++)
        for (uint32_t k = 0; k < n; k++)
            if (str_is(e->fields[i].name, list[k].name))
                conflicts += !type_fits(list[k].type, type_of(&e->fields[i]));
    return conflicts;
}

// ---- values -----------------------------------------------------------------------------------------------

static void find_in_profile(const struct attribute_plan *plan, struct str record, struct attribute *ret)
{
    struct rd r = rd_of(record.s, record.len);
    while (rd_left(&r) > 0) {
        uint32_t hash = rd_u32(&r);
        uint64_t size = rd_varint(&r);
        const uint8_t *bytes = rd_bytes(&r, size);
        if (hash != plan->name_hash || bytes == NULL)
            continue;
        struct rd one = rd_of(bytes, size);
        if (!str_equal(rd_str(&one), plan->name))
            continue;
        value_get(&one, ret);
        return;
    }
}

static void find_in_context(const struct attribute_plan *plan, const struct event *e, struct attribute *ret)
{
    for (uint32_t i = 0; i < e->n_fields; i++) {
        const struct event_field *field = &e->fields[i];
        if (!str_equal(field->name, plan->name))
            continue;
        ret->type = type_of(field);
        if (field->type == EVENT_STRING) {
            ret->text = field->s;
            ret->hash = hash_id(field->s);
        } else if (field->type == EVENT_NUMBER) {
            ret->number = field->n;
        } else if (field->type == EVENT_BOOL) {
            ret->type = field->b ? VALUE_TRUE : VALUE_FALSE;
        } else {
            ret->type = VALUE_MISSING; // a context has no lists
        }
        return;
    }
}

void attribute_find(const struct attribute_plan *plan, const struct event *e, struct str profile,
                    struct attribute *ret_value)
{
    *ret_value = (struct attribute){0};
    if (plan->of == CONFIG_OF_CONTEXT)
        find_in_context(plan, e, ret_value);
    else
        find_in_profile(plan, profile, ret_value);
    bool finite = ret_value->type != VALUE_NUMBER || isfinite(ret_value->number);
    if (!type_fits(plan->type, ret_value->type) || !finite)
        *ret_value = (struct attribute){0};
}

bool attribute_whole(double v)
{
    return fabs(v) < 1e15 && v == floor(v);
}

struct str attribute_text(const struct attribute *a, char *scratch)
{
    switch (a->type) {
    case VALUE_STRING:
        return a->text;
    case VALUE_NUMBER: {
        double v = a->number == 0 ? 0 : a->number; // -0 is 0
        return (struct str){scratch, (uint32_t)number_put_double(v, scratch)};
    }
    case VALUE_FALSE:
        return str_of("false");
    case VALUE_TRUE:
        return str_of("true");
    default:
        return (struct str){0};
    }
}

uint64_t attribute_id(const struct attribute *a)
{
    char scratch[NUMBER_TEXT];
    struct str text = attribute_text(a, scratch);
    return text.len == 0 ? 0 : a->type == VALUE_STRING ? a->hash : hash_id(text);
}
