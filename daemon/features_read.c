// SPDX-License-Identifier: Apache-2.0
// From the state into a body: the readings as they stand. The same for an impression that is logged and for a
// request, but that a request writes sequences out in full and creates nothing.
#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "daemon/features_impl.h"
#include "stream/timestamp.h"

enum { BODY_FIXED = 64 + 2 * EVENT_ID_BYTES }; // hashes, lengths and ids of a part

// What a reading is read from.
struct source {
    struct features *f;
    struct state *s;
    const struct event *e;
    const struct feature_entities *of;
    uint32_t item; // number in the event
    uint32_t at;   // of the body in its segment; UINT32_MAX: a request
    struct buf *to;
};

static bool is_request(const struct source *x)
{
    return x->at == UINT32_MAX;
}

static struct entity *source_entity(const struct source *x, enum config_source of)
{
    return of == CONFIG_OF_USER ? x->of->user : x->of->items[x->item];
}

static struct str source_profile(const struct source *x, enum config_source of)
{
    const struct entity *e = of == CONFIG_OF_USER ? x->of->profile : x->of->items[x->item];
    return e == NULL || of > CONFIG_OF_ITEM ? (struct str){0} : state_profile(e, NULL);
}

static void source_find(const struct source *x, const struct attribute_plan *plan, struct attribute *ret)
{
    struct str profile = plan->of > CONFIG_OF_ITEM ? (struct str){0} : source_profile(x, plan->of);
    attribute_find(plan, x->e, profile, ret);
}

static void source_name(const struct source *x, const struct reading *r, uint64_t id, struct str text)
{
    if (r->named && !is_request(x))
        state_name_put(x->s, id, text);
}

// The entity of a counter or sequence: the user, the item, or a group. *ret NULL: there is none.
static int source_counted(const struct source *x, const struct reading *r, struct entity **ret)
{
    if (r->grouping != CONFIG_NONE)
        return groups_find(x->f->groups, x->s, r->grouping, x->item, false, ret, &x->f->err);
    *ret = source_entity(x, r->kind == READING_SEQUENCE ? CONFIG_OF_USER : r->of);
    return 0;
}

// ---- one reading ------------------------------------------------------------------------------------------

static int put_counter(const struct source *x, const struct reading *r)
{
    struct entity *e;
    uint64_t count = 0;
    if (source_counted(x, r, &e) != 0)
        return -1;
    if (e != NULL && r->window == CONFIG_WINDOW_TOTAL)
        count = state_total(x->s, e, r->measure);
    else if (e != NULL)
        count = state_window(x->s, e, r->measure, r->window, x->e->ts);
    buf_put_varint(x->to, count);
    return 0;
}

static void put_attribute(const struct source *x, const struct reading *r)
{
    struct attribute a;
    source_find(x, &r->attribute, &a);
    if (a.type == VALUE_LIST)
        a.type = VALUE_MISSING; // several values have no place in a feature of one
    buf_put_u8(x->to, (uint8_t)a.type);
    if (a.type == VALUE_NUMBER)
        buf_put_f64(x->to, a.number);
    if (a.type != VALUE_STRING)
        return;
    buf_put_str(x->to, a.text);
    source_name(x, r, a.hash, a.text);
}

static void put_place(const struct source *x, const struct reading *r)
{
    struct attribute lat, lon;
    char text[16];
    source_find(x, &r->attribute, &lat);
    source_find(x, &r->second, &lon);
    if (lat.type != VALUE_NUMBER || lon.type != VALUE_NUMBER ||
        !groups_geohash(lat.number, lon.number, r->precision, text)) {
        buf_put_u8(x->to, VALUE_MISSING);
        return;
    }
    struct str place = {text, r->precision};
    buf_put_u8(x->to, VALUE_STRING);
    buf_put_str(x->to, place);
    source_name(x, r, hash_id(place), place);
}

// A string is a list of one.
static void put_list(const struct source *x, const struct reading *r)
{
    struct attribute a;
    source_find(x, &r->attribute, &a);
    if (a.type == VALUE_STRING) {
        buf_put_varint(x->to, 1);
        buf_put_u64(x->to, a.hash);
        source_name(x, r, a.hash, a.text);
        return;
    }
    uint32_t n = a.type != VALUE_LIST ? 0 : a.n < r->last ? a.n : r->last;
    buf_put_varint(x->to, n);
    for (uint32_t k = 0; k < n; k++) {
        uint64_t hash;
        struct str text = attribute_list_next(&a.list, &hash);
        buf_put_u64(x->to, hash);
        source_name(x, r, hash, text);
    }
}

static bool birth_of(const struct attribute *a, int64_t *ret_ms)
{
    if (a->type == VALUE_STRING)
        return timestamp_of_text(a->text, ret_ms);
    if (a->type != VALUE_NUMBER || !(a->number >= 0 && a->number < 1e15))
        return false;
    *ret_ms = timestamp_ms(a->number);
    return true;
}

int64_t features_birth(const struct features *f, const struct entity *item, int64_t ts)
{
    struct attribute a = {0};
    int64_t ms;
    if (item == NULL)
        return ts;
    if (f->birth.name.len > 0)
        attribute_find(&f->birth, NULL, state_profile(item, NULL), &a);
    if (birth_of(&a, &ms))
        return ms;
    return entity_is_new(item) ? ts : entity_first_ts(item);
}

static void put_age(const struct source *x)
{
    int64_t age = x->e->ts - features_birth(x->f, x->of->items[x->item], x->e->ts);
    buf_put_varint(x->to, 1 + (uint64_t)(age > 0 ? age : 0));
}

static void put_member(const struct source *x, const struct reading *r)
{
    uint64_t id = x->e->items[x->item].id;
    if (r->attribute.name.len > 0) {
        struct attribute a;
        source_find(x, &r->attribute, &a);
        id = attribute_id(&a);
    }
    buf_put_u8(x->to, x->of->user != NULL && id != 0 &&
                          state_sequence_has(x->s, x->of->user, (uint8_t)r->sequence, id));
}

static int put_sequence(const struct source *x, const struct reading *r)
{
    struct entity *e;
    if (source_counted(x, r, &e) != 0)
        return -1;
    if (e == NULL)
        buf_put_varint(x->to, 1); // n + 1, n = 0
    else
        state_sequence_put(x->s, e, (uint8_t)r->sequence, r->last, r->with, x->to, x->at);
    return 0;
}

static int reading_put(const struct source *x, const struct reading *r)
{
    switch (r->kind) {
    case READING_COUNTER:
        return put_counter(x, r);
    case READING_SEQUENCE:
        return put_sequence(x, r);
    case READING_ATTRIBUTE:
        put_attribute(x, r);
        return 0;
    case READING_LIST:
        put_list(x, r);
        return 0;
    case READING_PLACE:
        put_place(x, r);
        return 0;
    case READING_AGE:
        put_age(x);
        return 0;
    case READING_MEMBER:
        put_member(x, r);
        return 0;
    }
    return 0;
}

// ---- a body -----------------------------------------------------------------------------------------------

static uint32_t reading_bound(const struct reading *r)
{
    enum { VARINT = 10, TEXT = 16 + EVENT_TEXT_BYTES, COLUMNS = 4, ENTRY = 8 };
    if (r->kind == READING_SEQUENCE)
        return 2 * VARINT + COLUMNS + (1 + COLUMNS) * ENTRY * r->last;
    if (r->kind == READING_LIST)
        return VARINT + ENTRY * r->last;
    return r->kind == READING_ATTRIBUTE ? TEXT : r->kind == READING_PLACE ? 2 * ENTRY : VARINT;
}

uint32_t features_body_bound(const struct features *f, const struct event *e)
{
    uint32_t user = BODY_FIXED;
    uint32_t item = BODY_FIXED;
    for (uint32_t i = 0; i < f->n_readings; i++)
        *(i < f->n_user ? &user : &item) += reading_bound(&f->readings[i]);
    return user + e->n_items * item;
}

int features_read(struct features *f, struct state *s, const struct event *e,
                  const struct feature_entities *of, uint32_t at, struct buf *to, uint32_t *ret_item_at)
{
    struct source x = {.f = f, .s = s, .e = e, .of = of, .at = at, .to = to};
    uint16_t partition = of->user != NULL ? entity_partition(of->user) : 0;
    if (!of->begun)
        groups_begin(f->groups, &(struct groups_of){e, of->user, of->profile, of->items, partition});
    buf_put_u64(to, e->user);
    buf_put_str(to, e->user_text);
    buf_put_str(to, e->request_text);
    for (uint32_t i = 0; i < f->n_user; i++)
        if (reading_put(&x, &f->readings[i]) != 0)
            return -1;
    for (uint32_t k = 0; k < e->n_items; k++) {
        ret_item_at[k] = (uint32_t)to->len;
        x.item = k;
        buf_put_u64(to, e->items[k].id);
        buf_put_str(to, e->items[k].text);
        buf_put_zigzag(to, e->items[k].position);
        for (uint32_t i = f->n_user; i < f->n_readings; i++)
            if (reading_put(&x, &f->readings[i]) != 0)
                return -1;
    }
    return 0;
}

// As feature_attribute has it, of a number as it is; NaN: missing.
static double plain_number(const struct source *x, uint32_t feature)
{
    const struct config_feature *c = &x->f->config->features[feature];
    struct attribute a;
    source_find(x, &x->f->readings[x->f->reads[feature][0]].attribute, &a);
    if (a.type == VALUE_NUMBER)
        return a.number;
    if (a.type == VALUE_TRUE || a.type == VALUE_FALSE)
        return a.type == VALUE_TRUE;
    return c->missing == CONFIG_MISSING_VALUE ? c->missing_value : (double)NAN;
}

uint32_t features_lengths_missing(struct features *f, const struct event *e,
                                  const struct feature_entities *of)
{
    struct source x = {.f = f, .e = e, .of = of};
    uint32_t missing = 0;
    for (uint32_t k = 0; f->config->completion.feature >= 0 && k < e->n_items; k++) {
        x.item = k;
        missing += !(plain_number(&x, (uint32_t)f->config->completion.feature) > 0);
    }
    return missing;
}

void features_error(const struct features *f, struct err *ret_err)
{
    *ret_err = f->err;
}
