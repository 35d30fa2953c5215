// SPDX-License-Identifier: Apache-2.0
// From the bytes of a message to a struct event, in one walk over its tokens (stream/parse.h). Each known
// field of a kind of message has a row in a table, name and function; unknown ones are walked over.
//
// Two sorts of mistakes: a malformed text ends the walk and is always reported as such; a field that makes no
// sense is noted, the first one counts, and the walk goes on, since what comes after may be malformed. Only
// then it is seen what is missing.
//
// Cost: 0.6 us for a message of 250 bytes with 14 values (tests/bench/bench_decode.c); the hash
// of each id is in it. Strings without escapes are not copied.

#include "stream/event.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "stream/parse.h"
#include "stream/timestamp.h"

enum {
    DECODE_SHOWN = 40,                    // bytes of a message shown in a detail
    DECODE_FIELDS_MAX = EVENT_FIELDS_MAX, // fields at the top of a message
};

// A year: nobody watches longer, and sums of it stay far from overflow.
#define DECODE_WATCH_MAX_MS UINT64_C(31536000000)

struct decoder {
    struct str actions[ACTION_MAX];
    uint32_t n_actions;
    int64_t max_future_ms;
    struct parse_index *index;
    // Room for one message.
    struct str names[DECODE_FIELDS_MAX]; // at the top
    struct str inner[EVENT_FIELDS_MAX];  // of context or attributes, null ones too
    struct event_field fields[EVENT_FIELDS_MAX];
    struct event_item items[EVENT_ITEMS_MAX];
    struct str list[EVENT_LIST_MAX];
};

enum decode_seen {
    SEEN_TYPE = 1,
    SEEN_USER = 2,
    SEEN_ITEM = 4,
    SEEN_ITEMS = 8,
    SEEN_TIMESTAMP = 16,
    SEEN_WATCH = 32,
    SEEN_ATTRIBUTES = 64,
};

// One message under way.
struct decode {
    struct decoder *decoder;
    struct parse parse;
    struct event *event;
    struct event_item item; // item_id and position
    unsigned seen;          // enum decode_seen, also where the value is bad
    uint32_t known;         // a bit for each field of the table that came
    uint32_t next;          // field of the table that is likely to come next
    uint32_t n_names;       // others that came
};

struct decode_field {
    struct str name;
    int (*take)(struct decode *c); // reads the value; -1 only if the text is malformed
};

struct decode_table {
    const struct decode_field *fields;
    uint32_t n;
};

struct decoder *decoder_new(const struct decoder_options *options)
{
    assert(options->n_actions <= ACTION_MAX);
    struct decoder *d = mem_zalloc(sizeof *d);
    d->n_actions = options->n_actions;
    d->max_future_ms = options->max_future_ms;
    for (uint32_t i = 0; i < d->n_actions; i++)
        d->actions[i] = str_of(mem_strdup(options->actions[i]));
    d->index = parse_index_new(EVENT_MESSAGE_BYTES);
    assert(d->index != NULL);
    return d;
}

void decoder_free(struct decoder *d)
{
    if (d == NULL)
        return;
    parse_index_free(d->index);
    for (uint32_t i = 0; i < d->n_actions; i++)
        free((char *)d->actions[i].s);
    free(d);
}

// ---- mistakes ---------------------------------------------------------------------------------------------

__attribute__((format(printf, 3, 4))) static void decode_bad(struct decode *c, enum event_bad reason,
                                                             const char *fmt, ...)
{
    struct event *e = c->event;
    if (e->bad != EVENT_BAD_NONE)
        return;
    e->bad = reason;
    va_list args;
    va_start(args, fmt);
    vsnprintf(e->detail, sizeof e->detail, fmt, args);
    va_end(args);
}

// How many bytes of s a detail shows: no character is cut in two. For "%.*s".
static int decode_shown(struct str s)
{
    uint32_t n = s.len;
    if (n > DECODE_SHOWN) {
        n = DECODE_SHOWN;
        while (n > 0 && ((uint8_t)s.s[n] & 0xc0) == 0x80)
            n--;
    }
    return (int)n;
}

// A name that comes twice makes a text malformed, which goes before whatever was noted.
static void decode_twice(struct decode *c, struct str name)
{
    if (c->event->bad != EVENT_BAD_JSON)
        c->event->bad = EVENT_BAD_NONE;
    decode_bad(c, EVENT_BAD_JSON, "JSON: the field %.*s comes twice", decode_shown(name), name.s);
}

// As str_equal; most that differ do so in the length or the first byte.
static bool decode_same(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || (a.s[0] == b.s[0] && memcmp(a.s, b.s, a.len) == 0));
}

// Walks over a value and notes that `name` is wrong with it.
static int decode_bad_value(struct decode *c, enum event_bad reason, const char *name, const char *what)
{
    uint32_t first = c->parse.next;
    if (parse_skip(&c->parse) < 0)
        return -1;
    struct str text = parse_since(&c->parse, first);
    decode_bad(c, reason, "%s: %.*s %s", name, decode_shown(text), text.s, what);
    return 0;
}

static bool decode_is_number(char first)
{
    return first == '-' || (first >= '0' && first <= '9');
}

// 1: the value was null, as if the field were absent; 0: it is something else; -1: malformed.
static int decode_null(struct decode *c)
{
    if (parse_peek(&c->parse) != 'n')
        return 0;
    return parse_null(&c->parse) < 0 ? -1 : 1;
}

// ---- ids --------------------------------------------------------------------------------------------------

// The text of an id. What is no id is noted under `reason`, and *ret_id left as it is.
static int decode_id(struct decode *c, enum event_bad reason, const char *name, struct str *ret_id)
{
    struct parse *p = &c->parse;
    char first = parse_peek(p);
    struct str id;
    if (first == '"') {
        if (parse_string(p, &id) < 0)
            return -1;
    } else if (decode_is_number(first)) {
        struct parse_decimal n;
        if (parse_number(p, &n) < 0)
            return -1;
        bool zero = n.integer && n.whole == 0 && n.negative;
        bool big = n.overflow || (n.negative && n.whole > UINT64_C(1) << 63);
        if (!n.integer || zero || big) {
            decode_bad(c, reason, "%s: %.*s is no id: %s", name, decode_shown(n.text), n.text.s,
                       zero  ? "a negative zero"
                       : big ? "a number of over 64 bits"
                             : "not an integer");
            return 0;
        }
        id = n.text;
    } else {
        return decode_bad_value(c, reason, name, "is no id");
    }
    if (id.len == 0 || id.len > EVENT_ID_BYTES) {
        decode_bad(c, reason, "%s: %s", name, id.len == 0 ? "is empty" : "is longer than 256 bytes");
        return 0;
    }
    *ret_id = id;
    return 0;
}

static int decode_user(struct decode *c)
{
    c->seen |= SEEN_USER;
    return decode_id(c, EVENT_BAD_USER, "user_id", &c->event->user_text);
}

static int decode_item(struct decode *c)
{
    c->seen |= SEEN_ITEM;
    return decode_id(c, EVENT_BAD_ITEM, "item_id", &c->item.text);
}

static int decode_request_id(struct decode *c)
{
    int null = decode_null(c);
    return null != 0 ? (null < 0 ? -1 : 0)
                     : decode_id(c, EVENT_BAD_FIELD, "request_id", &c->event->request_text);
}

static int decode_event_id(struct decode *c)
{
    int null = decode_null(c);
    if (null != 0)
        return null < 0 ? -1 : 0;
    struct str id = {NULL, 0};
    if (decode_id(c, EVENT_BAD_FIELD, "event_id", &id) < 0)
        return -1;
    if (id.s != NULL)
        c->event->event_id = hash_id(id);
    return 0;
}

// ---- type, timestamp, numbers -----------------------------------------------------------------------------

static int decode_type(struct decode *c)
{
    c->seen |= SEEN_TYPE;
    struct parse *p = &c->parse;
    if (parse_peek(p) != '"')
        return decode_bad_value(c, EVENT_BAD_TYPE, "type", "is not a string");
    uint32_t first = p->next;
    struct str name;
    if (parse_string(p, &name) < 0)
        return -1;
    for (uint32_t i = 0; i < c->decoder->n_actions; i++) {
        if (decode_same(name, c->decoder->actions[i])) {
            c->event->action = (uint8_t)i;
            return 0;
        }
    }
    struct str text = parse_since(p, first);
    decode_bad(c, EVENT_BAD_TYPE, "type: %.*s is unknown", decode_shown(text), text.s);
    return 0;
}

static int decode_timestamp(struct decode *c)
{
    c->seen |= SEEN_TIMESTAMP;
    struct parse *p = &c->parse;
    uint32_t first = p->next;
    bool good;
    if (parse_peek(p) == '"') {
        struct str text;
        if (parse_string(p, &text) < 0)
            return -1;
        good = timestamp_of_text(text, &c->event->ts);
    } else if (decode_is_number(parse_peek(p))) {
        struct parse_decimal n;
        if (parse_number(p, &n) < 0)
            return -1;
        good = timestamp_of_number(&n, &c->event->ts);
    } else {
        return decode_bad_value(c, EVENT_BAD_TIMESTAMP, "timestamp", "is neither a number nor a string");
    }
    if (!good) {
        struct str text = parse_since(p, first);
        decode_bad(c, EVENT_BAD_TIMESTAMP, "timestamp: %.*s is no time in 1970..2100", decode_shown(text),
                   text.s);
    }
    return 0;
}

// A number or null. *ret_text.s is NULL where there is none to use.
static int decode_number(struct decode *c, enum event_bad reason, const char *name,
                         struct parse_decimal *ret_number, double *ret_value)
{
    ret_number->text.s = NULL;
    int null = decode_null(c);
    if (null != 0)
        return null < 0 ? -1 : 0;
    if (!decode_is_number(parse_peek(&c->parse)))
        return decode_bad_value(c, reason, name, "is not a number");
    if (parse_number(&c->parse, ret_number) < 0)
        return -1;
    if (parse_decimal_double(ret_number, ret_value))
        return 0;
    decode_bad(c, reason, "%s: %.*s is out of range", name, decode_shown(ret_number->text),
               ret_number->text.s);
    ret_number->text.s = NULL;
    return 0;
}

static int decode_value(struct decode *c)
{
    struct parse_decimal n;
    if (decode_number(c, EVENT_BAD_FIELD, "value", &n, &c->event->value) < 0)
        return -1;
    c->event->has_value = n.text.s != NULL;
    return 0;
}

static int decode_watch_ms(struct decode *c)
{
    struct parse_decimal n;
    double value;
    if (decode_number(c, EVENT_BAD_WATCH, "watch_ms", &n, &value) < 0)
        return -1;
    if (n.text.s == NULL)
        return 0;
    c->seen |= SEEN_WATCH;
    if (value < 0 || value > (double)DECODE_WATCH_MAX_MS)
        decode_bad(c, EVENT_BAD_WATCH, "watch_ms: %.*s is %s", decode_shown(n.text), n.text.s,
                   value < 0 ? "negative" : "more than a year");
    else
        c->event->watch_ms = (uint64_t)value;
    return 0;
}

static int decode_position_into(struct decode *c, int32_t *ret_position)
{
    struct parse_decimal n;
    double value;
    if (decode_number(c, EVENT_BAD_FIELD, "position", &n, &value) < 0)
        return -1;
    if (n.text.s == NULL)
        return 0;
    if (value < 0 || value > INT32_MAX || value != floor(value))
        decode_bad(c, EVENT_BAD_FIELD, "position: %.*s is not in 0..2147483647", decode_shown(n.text),
                   n.text.s);
    else
        *ret_position = (int32_t)value;
    return 0;
}

static int decode_position(struct decode *c)
{
    return decode_position_into(c, &c->item.position);
}

// ---- items ------------------------------------------------------------------------------------------------

// One member of an item. *seen: 1 item_id, 2 position.
static int decode_item_member(struct decode *c, struct str name, struct event_item *item, unsigned *seen)
{
    unsigned bit = str_is(name, "item_id") ? 1 : str_is(name, "position") ? 2 : 0;
    if ((*seen & bit) != 0)
        decode_twice(c, name);
    *seen |= bit;
    if (bit == 1)
        return decode_id(c, EVENT_BAD_ITEM, "items: item_id", &item->text);
    return bit == 2 ? decode_position_into(c, &item->position) : parse_skip(&c->parse);
}

static int decode_items_entry(struct decode *c, struct event_item *item)
{
    *item = (struct event_item){.position = -1};
    if (parse_peek(&c->parse) != '{')
        return decode_bad_value(c, EVENT_BAD_ITEM, "items", "is not an object");
    parse_open(&c->parse);
    unsigned seen = 0;
    struct str name;
    int more;
    while ((more = parse_member(&c->parse, &name)) > 0) {
        if (decode_item_member(c, name, item, &seen) < 0)
            return -1;
    }
    if (more == 0 && (seen & 1) == 0)
        decode_bad(c, EVENT_BAD_ITEM, "items: an item without item_id");
    return more;
}

static int decode_items(struct decode *c)
{
    int null = decode_null(c);
    if (null != 0)
        return null < 0 ? -1 : 0;
    c->seen |= SEEN_ITEMS;
    if (parse_peek(&c->parse) != '[')
        return decode_bad_value(c, EVENT_BAD_ITEM, "items", "is not an array");
    parse_open(&c->parse);
    struct event_item *items = c->decoder->items;
    uint32_t n = 0;
    int more;
    while ((more = parse_element(&c->parse)) > 0) {
        if (n == EVENT_ITEMS_MAX) {
            decode_bad(c, EVENT_BAD_SIZE, "items: more than %d", EVENT_ITEMS_MAX);
            n = 0;
        }
        if (decode_items_entry(c, &items[n++]) < 0)
            return -1;
    }
    c->event->n_items = n;
    if (n == 0)
        decode_bad(c, EVENT_BAD_ITEM, "items: is empty");
    return more;
}

// ---- context, attributes ----------------------------------------------------------------------------------

// Notes a name that comes twice or is one too many. False: no room for it.
static bool decode_name(struct decode *c, struct str *names, uint32_t *n, uint32_t max, struct str name)
{
    for (uint32_t i = 0; i < *n; i++) {
        if (decode_same(names[i], name)) {
            decode_twice(c, name);
            return true;
        }
    }
    if (*n == max) {
        decode_bad(c, EVENT_BAD_SIZE, "more than %u fields in one object", max);
        return false;
    }
    names[(*n)++] = name;
    return true;
}

static int decode_text(struct decode *c, const char *name, struct str *ret_text)
{
    if (parse_string(&c->parse, ret_text) < 0)
        return -1;
    if (ret_text->len > EVENT_TEXT_BYTES)
        decode_bad(c, EVENT_BAD_SIZE, "%s: a string of more than %d bytes", name, EVENT_TEXT_BYTES);
    return 0;
}

static int decode_list(struct decode *c, struct event_field *field)
{
    field->type = EVENT_LIST;
    struct str *list = c->decoder->list;
    uint32_t n = 0;
    int more;
    parse_open(&c->parse);
    while ((more = parse_element(&c->parse)) > 0) {
        if (n == EVENT_LIST_MAX) {
            decode_bad(c, EVENT_BAD_SIZE, "attributes: a list of more than %d", EVENT_LIST_MAX);
            n = 0;
        }
        int done = parse_peek(&c->parse) == '"'
                       ? decode_text(c, "attributes", &list[n++])
                       : decode_bad_value(c, EVENT_BAD_ATTRIBUTES, "attributes", "in a list is not a string");
        if (done < 0)
            return -1;
    }
    struct str *v = ARENA_ARRAY(c->parse.arena, struct str, n);
    if (n > 0)
        memcpy(v, list, n * sizeof *v);
    field->list.v = v;
    field->list.n = n;
    return more;
}

static int decode_field_number(struct decode *c, enum event_bad reason, const char *object,
                               struct event_field *field)
{
    struct parse_decimal n;
    field->type = EVENT_NUMBER;
    return decode_number(c, reason, object, &n, &field->n);
}

// The value of one member, not null.
static int decode_field_value(struct decode *c, enum event_bad reason, const char *object,
                              struct event_field *field)
{
    char first = parse_peek(&c->parse);
    if (first == '"') {
        field->type = EVENT_STRING;
        return decode_text(c, object, &field->s);
    }
    if (first == 't' || first == 'f') {
        field->type = EVENT_BOOL;
        return parse_bool(&c->parse, &field->b);
    }
    if (decode_is_number(first))
        return decode_field_number(c, reason, object, field);
    if (first == '[' && reason == EVENT_BAD_ATTRIBUTES)
        return decode_list(c, field);
    return decode_bad_value(c, reason, object, "cannot be the value of a field");
}

// An object of strings, numbers, booleans and, in attributes, lists of strings; the next token is its brace.
static int decode_fields(struct decode *c, enum event_bad reason, const char *object)
{
    struct decoder *d = c->decoder;
    uint32_t first = c->parse.next;
    uint32_t n_names = 0;
    uint32_t n = 0;
    struct str name;
    int more;
    parse_open(&c->parse);
    while ((more = parse_member(&c->parse, &name)) > 0) {
        if (name.len > EVENT_TEXT_BYTES)
            decode_bad(c, EVENT_BAD_SIZE, "%s: a name of more than %d bytes", object, EVENT_TEXT_BYTES);
        if (!decode_name(c, d->inner, &n_names, EVENT_FIELDS_MAX, name))
            n = 0; // it is bad already: walk on in the room there is
        int null = decode_null(c);
        if (null < 0)
            return -1;
        if (null > 0)
            continue;
        n = n < EVENT_FIELDS_MAX ? n : 0;
        struct event_field *field = &d->fields[n++];
        field->name = name;
        if (decode_field_value(c, reason, object, field) < 0)
            return -1;
    }
    if (more < 0)
        return -1;
    c->event->raw_fields = parse_since(&c->parse, first);
    struct event_field *fields = ARENA_ARRAY(c->parse.arena, struct event_field, n);
    memcpy(fields, d->fields, n * sizeof *fields);
    c->event->fields = fields;
    c->event->n_fields = n;
    return 0;
}

static int decode_context(struct decode *c)
{
    int null = decode_null(c);
    if (null != 0)
        return null < 0 ? -1 : 0;
    if (parse_peek(&c->parse) != '{')
        return decode_bad_value(c, EVENT_BAD_FIELD, "context", "is not an object");
    return decode_fields(c, EVENT_BAD_FIELD, "context");
}

static int decode_attributes(struct decode *c)
{
    c->seen |= SEEN_ATTRIBUTES;
    if (parse_peek(&c->parse) != '{')
        return decode_bad_value(c, EVENT_BAD_ATTRIBUTES, "attributes", "is not an object");
    return decode_fields(c, EVENT_BAD_ATTRIBUTES, "attributes");
}

// ---- a message --------------------------------------------------------------------------------------------

#define DECODE_FIELD(name, take)           \
    {                                      \
        {(name), sizeof(name) - 1}, (take) \
    }
static const struct decode_field decode_event_fields[] = {
    DECODE_FIELD("event_id", decode_event_id),     DECODE_FIELD("type", decode_type),
    DECODE_FIELD("user_id", decode_user),          DECODE_FIELD("item_id", decode_item),
    DECODE_FIELD("request_id", decode_request_id), DECODE_FIELD("position", decode_position),
    DECODE_FIELD("timestamp", decode_timestamp),   DECODE_FIELD("watch_ms", decode_watch_ms),
    DECODE_FIELD("value", decode_value),           DECODE_FIELD("context", decode_context),
    DECODE_FIELD("items", decode_items),
};
static const struct decode_field decode_user_fields[] = {
    DECODE_FIELD("user_id", decode_user),
    DECODE_FIELD("timestamp", decode_timestamp),
    DECODE_FIELD("attributes", decode_attributes),
};
static const struct decode_field decode_item_fields[] = {
    DECODE_FIELD("item_id", decode_item),
    DECODE_FIELD("timestamp", decode_timestamp),
    DECODE_FIELD("attributes", decode_attributes),
};

#define DECODE_TABLE(fields)                           \
    {                                                  \
        (fields), sizeof(fields) / sizeof((fields)[0]) \
    }
static const struct decode_table decode_tables[] = {
    [DECODER_EVENTS] = DECODE_TABLE(decode_event_fields),
    [DECODER_USERS] = DECODE_TABLE(decode_user_fields),
    [DECODER_ITEMS] = DECODE_TABLE(decode_item_fields),
};

// The index of `name`, or n. The search begins after the field before: most producers keep to one order.
static uint32_t decode_find(const struct decode *c, const struct decode_table *table, struct str name)
{
    uint32_t at = c->next;
    for (uint32_t i = 0; i < table->n; i++, at++) {
        at = at < table->n ? at : 0;
        if (decode_same(table->fields[at].name, name))
            return at;
    }
    return table->n;
}

static int decode_member(struct decode *c, const struct decode_table *table, struct str name)
{
    uint32_t at = decode_find(c, table, name);
    if (at == table->n) {
        decode_name(c, c->decoder->names, &c->n_names, DECODE_FIELDS_MAX, name);
        return parse_skip(&c->parse);
    }
    if ((c->known >> at & 1) != 0)
        decode_twice(c, name);
    c->known |= 1u << at;
    c->next = at + 1;
    return table->fields[at].take(c);
}

// -1: malformed.
static int decode_object(struct decode *c, const struct decode_table *table)
{
    struct parse *p = &c->parse;
    if (parse_peek(p) != '{') {
        p->wrong = "not an object";
        return -1;
    }
    parse_open(p);
    struct str name;
    int more;
    while ((more = parse_member(p, &name)) > 0) {
        if (decode_member(c, table, name) < 0)
            return -1;
    }
    return more < 0 ? -1 : parse_end(p);
}

static void decode_check_items(struct decode *c)
{
    bool one = (c->seen & SEEN_ITEM) != 0;
    bool many = (c->seen & SEEN_ITEMS) != 0;
    if (one == many)
        decode_bad(c, EVENT_BAD_ITEM, one ? "item_id and items: both are given" : "item_id: is missing");
    if (many && (c->seen & SEEN_TYPE) != 0 && c->event->action != ACTION_IMPRESSION)
        decode_bad(c, EVENT_BAD_ITEM, "items: only an impression has them");
}

static void decode_check_missing(struct decode *c, enum decoder_kind kind)
{
    if (kind == DECODER_EVENTS && (c->seen & SEEN_TYPE) == 0)
        decode_bad(c, EVENT_BAD_TYPE, "type: is missing");
    if (kind != DECODER_ITEMS && (c->seen & SEEN_USER) == 0)
        decode_bad(c, EVENT_BAD_USER, "user_id: is missing");
    if (kind != DECODER_USERS)
        decode_check_items(c);
    if ((c->seen & SEEN_TIMESTAMP) == 0)
        decode_bad(c, EVENT_BAD_TIMESTAMP, "timestamp: is missing");
    if (kind == DECODER_EVENTS && c->event->action == ACTION_WATCH && (c->seen & SEEN_WATCH) == 0)
        decode_bad(c, EVENT_BAD_WATCH, "watch_ms: is missing, and the type is watch");
    if (kind != DECODER_EVENTS && (c->seen & SEEN_ATTRIBUTES) == 0)
        decode_bad(c, EVENT_BAD_ATTRIBUTES, "attributes: is missing");
}

static void decode_check_future(struct decode *c, int64_t append_ms)
{
    int64_t ahead = c->event->ts - append_ms;
    if (append_ms > 0 && ahead > c->decoder->max_future_ms)
        decode_bad(c, EVENT_BAD_FUTURE, "timestamp: %lld ms ahead of the append time", (long long)ahead);
}

// Everything of the event that is made from texts: hashes, and the items in memory that lasts.
static void decode_finish(struct decode *c, enum decoder_kind kind)
{
    struct event *e = c->event;
    e->kind = kind == DECODER_EVENTS  ? EVENT_ACTION
              : kind == DECODER_USERS ? EVENT_USER_PROFILE
                                      : EVENT_ITEM_PROFILE;
    if (e->user_text.s != NULL)
        e->user = hash_id(e->user_text);
    if (e->request_text.s != NULL)
        e->request = hash_id(e->request_text);
    if (kind == DECODER_USERS)
        return;
    const struct event_item *from = c->decoder->items;
    if ((c->seen & SEEN_ITEM) != 0) {
        from = &c->item;
        e->n_items = 1;
    }
    struct event_item *items = ARENA_ARRAY(c->parse.arena, struct event_item, e->n_items);
    for (uint32_t i = 0; i < e->n_items; i++) {
        items[i] = from[i];
        items[i].id = hash_id(items[i].text);
    }
    e->items = items;
}

// Leaves nothing of a message that turned out bad but its bytes and the reason.
static void decode_spoil(struct event *e)
{
    struct event bad = {.kind = EVENT_BAD, .bad = e->bad, .key = e->key, .raw = e->raw};
    memcpy(bad.detail, e->detail, sizeof bad.detail);
    *e = bad;
}

static void decode_json(struct decode *c, enum decoder_kind kind, int64_t append_ms)
{
    struct event *e = c->event;
    struct parse *p = &c->parse;
    if (parse_begin(p, c->decoder->index, e->raw, p->arena) < 0 ||
        decode_object(c, &decode_tables[kind]) < 0) {
        e->bad = EVENT_BAD_NONE;
        decode_bad(c, EVENT_BAD_JSON, "JSON: %s at byte %u", p->wrong, p->wrong_at);
        return;
    }
    decode_check_missing(c, kind);
    decode_check_future(c, append_ms);
    if (e->bad == EVENT_BAD_NONE)
        decode_finish(c, kind);
}

// The deletion of the profile whose id is the key.
static void decode_tombstone(struct decode *c, enum decoder_kind kind, int64_t append_ms)
{
    struct event *e = c->event;
    enum event_bad reason = kind == DECODER_USERS ? EVENT_BAD_USER : EVENT_BAD_ITEM;
    if (kind == DECODER_EVENTS)
        decode_bad(c, EVENT_BAD_JSON, "JSON: a null payload");
    else if (e->key.len == 0 || e->key.len > EVENT_ID_BYTES || !parse_utf8(e->key))
        decode_bad(c, reason, "key: of a deletion must be an id, it has %u bytes", e->key.len);
    if (e->bad != EVENT_BAD_NONE)
        return;
    e->tombstone = true;
    e->ts = append_ms;
    c->item.text = e->key;
    c->seen = SEEN_ITEM;
    if (kind == DECODER_USERS)
        e->user_text = e->key;
    decode_finish(c, kind);
}

// All but `detail`, which has 160 bytes and is read only where `bad` is set.
static void decode_clear(struct event *e)
{
    memset(e, 0, offsetof(struct event, detail));
    e->detail[0] = '\0';
}

void decoder_decode(struct decoder *d, enum decoder_kind kind, struct str key, struct str message,
                    int64_t append_ms, struct arena *arena, struct event *ret_event)
{
    struct decode c;
    c.decoder = d;
    c.parse.arena = arena;
    c.event = ret_event;
    c.item = (struct event_item){.position = -1};
    c.seen = 0;
    c.known = 0;
    c.next = 0;
    c.n_names = 0;
    decode_clear(ret_event);
    ret_event->key = key;
    ret_event->raw = message;
    if (message.s == NULL)
        decode_tombstone(&c, kind, append_ms);
    else if (message.len > EVENT_MESSAGE_BYTES)
        decode_bad(&c, EVENT_BAD_SIZE, "the message has %u bytes", message.len);
    else
        decode_json(&c, kind, append_ms);
    if (ret_event->bad != EVENT_BAD_NONE)
        decode_spoil(ret_event);
}
