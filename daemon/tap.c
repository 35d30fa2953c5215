// SPDX-License-Identifier: Apache-2.0
// See tap.h. A line that nobody could take is not made: rate and room are asked before it is encoded.
#include "daemon/tap.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/nearest.h"
#include "daemon/sample_json.h"
#include "daemon/targets.h"

// What a line has under a name: nothing, a text or a number.
struct tap_value {
    bool there, is_text;
    struct str text;
    double number;
};

// ---- conditions -------------------------------------------------------------------------------------------

static const char *const event_names[] = {"type",     "user_id", "item_id",  "request_id", "timestamp",
                                          "position", "value",   "watch_ms", "topic",      "partition",
                                          "offset",   "reason",  NULL};
static const char *const sample_names[] = {"sample",     "user_id",   "item_id",
                                           "request_id", "position",  "impression_ts",
                                           "emitted_ts", "keep_rate", NULL};

static bool name_after(const char *name, const char *prefix, const char **ret_rest)
{
    size_t n = strlen(prefix);
    *ret_rest = name + n;
    return strncmp(name, prefix, n) == 0;
}

static uint32_t label_of(const struct config *config, const char *name)
{
    for (uint32_t a = 1; a < config->n_actions; a++)
        if (((config->join.labels >> a) & 1) != 0 &&
            strcmp(name, a == ACTION_WATCH ? "watch_ms" : config->actions[a]) == 0)
            return a;
    return ACTION_MAX;
}

static bool is_completion(const struct config *config, const char *label)
{
    return config->completion.feature >= 0 && strcmp(label, "completion") == 0;
}

static uint32_t feature_of(const struct config *config, const char *name)
{
    uint32_t i = 0;
    while (i < config->n_features && strcmp(config->features[i].name, name) != 0)
        i++;
    return i;
}

static int condition_name(const struct config *config, enum tap_kind kind, const char *name, struct err *err)
{
    struct nearest nearest;
    const char *rest;
    const char *const *names = kind == TAP_EVENTS ? event_names : sample_names;
    for (const char *const *n = names; *n != NULL; n++)
        if (strcmp(name, *n) == 0)
            return 0;
    if (kind == TAP_EVENTS && (name_after(name, "context.", &rest) || name_after(name, "attributes.", &rest)))
        return 0;
    if (kind == TAP_SAMPLES && name_after(name, "labels.", &rest) &&
        (label_of(config, rest) < ACTION_MAX || is_completion(config, rest)))
        return 0;
    if (kind == TAP_SAMPLES && name_after(name, "features.", &rest) &&
        feature_of(config, rest) < config->n_features)
        return 0;
    nearest_init(&nearest, name);
    for (const char *const *n = names; *n != NULL; n++)
        nearest_put(&nearest, *n);
    return err_set(err, ERR_INVALID, "where: %s has no \"%s\"%s; besides there are %s",
                   kind == TAP_EVENTS ? "an event" : "a sample", name, nearest_hint(&nearest),
                   kind == TAP_EVENTS ? "context.NAME, attributes.NAME" : "labels.NAME, features.NAME");
}

int tap_condition_read(const struct config *config, enum tap_kind kind, struct str text,
                       struct tap_condition *ret_condition, struct err *err)
{
    static const char *const signs[] = {"=", "!=", "<", "<=", ">", ">="};
    struct tap_condition c;
    char *end;
    uint32_t at = 0;
    while (at < text.len && strchr("=!<>", text.s[at]) == NULL)
        at++;
    uint32_t n = at;
    while (n < text.len && n < at + 2 && strchr("=!<>", text.s[n]) != NULL)
        n++;
    int sign = 0;
    while (sign < 6 && (strlen(signs[sign]) != n - at || memcmp(text.s + at, signs[sign], n - at) != 0))
        sign++;
    if (at == 0 || at >= sizeof c.name || sign == 6 || text.len - n >= sizeof c.value)
        return err_set(err, ERR_INVALID, "where %.*s: NAME=VALUE is expected, or != < <= > >= in place of =",
                       (int)(text.len < 200 ? text.len : 200), text.s);
    snprintf(c.name, sizeof c.name, "%.*s", (int)at, text.s);
    snprintf(c.value, sizeof c.value, "%.*s", (int)(text.len - n), text.s + n);
    c.compare = (enum tap_compare)sign;
    c.number = strtod(c.value, &end);
    if (end == c.value || *end != '\0')
        c.number = (double)NAN;
    if (c.compare > TAP_UNEQUAL && isnan(c.number))
        return err_set(err, ERR_INVALID, "where %s: %s compares numbers, and \"%s\" is none", c.name,
                       signs[sign], c.value);
    if (condition_name(config, kind, c.name, err) != 0)
        return -1;
    *ret_condition = c;
    return 0;
}

static bool number_fits(const struct tap_condition *c, double v)
{
    switch (c->compare) {
    case TAP_EQUAL:
        return v == c->number;
    case TAP_UNEQUAL:
        return v != c->number;
    case TAP_LESS:
        return v < c->number;
    case TAP_MOST:
        return v <= c->number;
    case TAP_MORE:
        return v > c->number;
    case TAP_LEAST:
        return v >= c->number;
    }
    return false;
}

// What is not there is unequal to everything.
static bool value_fits(const struct tap_condition *c, const struct tap_value *v)
{
    if (!v->there)
        return c->compare == TAP_UNEQUAL;
    if (!v->is_text)
        return number_fits(c, v->number);
    bool equal = str_is(v->text, c->value);
    return c->compare == TAP_EQUAL ? equal : c->compare == TAP_UNEQUAL && !equal;
}

static struct tap_value value_text(struct str text)
{
    return (struct tap_value){.there = text.len > 0, .is_text = true, .text = text};
}

static struct tap_value value_number(bool there, double number)
{
    return (struct tap_value){.there = there, .number = number};
}

// ---- lines ------------------------------------------------------------------------------------------------

struct tap *tap_new(const struct engine *e, enum tap_kind kind)
{
    struct tap *tap = mem_zalloc(sizeof *tap);
    tap->kind = kind;
    tap->limit = UINT64_MAX;
    tap->next_seq = state_samples_end(e->state);
    return tap;
}

void tap_free(struct tap *tap)
{
    if (tap == NULL)
        return;
    buf_done(&tap->lines);
    free(tap);
}

void tap_tell_dropped(struct tap *tap)
{
    if (tap->dropped > 0)
        buf_printf(&tap->lines, "{\"dropped\":%llu}\n", (unsigned long long)tap->dropped);
    tap->dropped = 0;
}

static bool tap_room(struct tap *tap, int64_t now_us)
{
    int64_t second = now_us / 1000000;
    if (second != tap->second)
        tap->in_second = 0;
    tap->second = second;
    if (tap->lines.len >= TAP_BUFFER || (tap->rate > 0 && tap->in_second >= tap->rate)) {
        tap->dropped++;
        return false;
    }
    tap_tell_dropped(tap);
    tap->in_second++;
    return true;
}

static void tap_line_end(struct tap *tap)
{
    buf_put_u8(&tap->lines, '\n');
    if (tap->limit != UINT64_MAX)
        tap->limit--;
    tap->ended = tap->limit == 0;
}

// ---- events -----------------------------------------------------------------------------------------------

static const char *event_type(const struct engine *e, const struct event *event)
{
    switch (event->kind) {
    case EVENT_ACTION:
        return e->config->actions[event->action];
    case EVENT_USER_PROFILE:
        return "user_profile";
    case EVENT_ITEM_PROFILE:
        return "item_profile";
    case EVENT_BAD:
        return "bad";
    case EVENT_IDLE:
        break;
    }
    return "";
}

static struct tap_value field_value(const struct event *event, const char *name)
{
    struct tap_value none = {0};
    for (uint32_t i = 0; i < event->n_fields; i++) {
        const struct event_field *f = &event->fields[i];
        if (!str_is(f->name, name))
            continue;
        if (f->type == EVENT_STRING)
            return value_text(f->s);
        if (f->type == EVENT_BOOL)
            return value_text(str_of(f->b ? "true" : "false"));
        return f->type == EVENT_NUMBER ? value_number(true, f->n) : none;
    }
    return none;
}

static struct tap_value event_value(const struct engine *e, const struct ingest_part *part,
                                    const struct event *event, const char *name)
{
    const char *rest;
    bool items = event->n_items > 0;
    if (strcmp(name, "type") == 0)
        return value_text(str_of(event_type(e, event)));
    if (strcmp(name, "user_id") == 0)
        return value_text(event->user_text);
    if (strcmp(name, "request_id") == 0)
        return value_text(event->request_text);
    if (strcmp(name, "timestamp") == 0)
        return value_number(event->kind != EVENT_BAD, (double)event->ts);
    if (strcmp(name, "position") == 0)
        return value_number(items && event->items[0].position >= 0, items ? event->items[0].position : 0);
    if (strcmp(name, "value") == 0)
        return value_number(event->has_value, event->value);
    if (strcmp(name, "watch_ms") == 0)
        return value_number(event->kind == EVENT_ACTION && event->action == ACTION_WATCH,
                            (double)event->watch_ms);
    if (strcmp(name, "topic") == 0)
        return value_text(str_of(part->topic));
    if (strcmp(name, "partition") == 0)
        return value_number(true, part->partition);
    if (strcmp(name, "offset") == 0)
        return value_number(true, (double)event->offset);
    if (strcmp(name, "reason") == 0)
        return value_text(event->kind == EVENT_BAD ? str_of(event_bad_name(event->bad))
                                                   : (struct str){"", 0});
    bool of = event->kind == EVENT_ACTION ? name_after(name, "context.", &rest)
                                          : name_after(name, "attributes.", &rest);
    return of ? field_value(event, rest) : (struct tap_value){0};
}

// Of several items it is enough that one is it.
static bool item_fits(const struct tap_condition *c, const struct event *event)
{
    struct tap_condition equal = *c;
    equal.compare = TAP_EQUAL;
    bool any = false;
    for (uint32_t i = 0; i < event->n_items && !any; i++) {
        struct tap_value v = value_text(event->items[i].text);
        any = value_fits(&equal, &v);
    }
    return any == (c->compare == TAP_EQUAL);
}

static bool event_fits(const struct tap *tap, const struct engine *e, const struct ingest_part *part,
                       const struct event *event)
{
    for (uint32_t i = 0; i < tap->n_conditions; i++) {
        const struct tap_condition *c = &tap->conditions[i];
        if (strcmp(c->name, "item_id") == 0) {
            if (!item_fits(c, event))
                return false;
            continue;
        }
        struct tap_value v = event_value(e, part, event, c->name);
        if (!value_fits(c, &v))
            return false;
    }
    return true;
}

static void member_str(struct json *j, const char *key, struct str value)
{
    if (value.len == 0)
        return;
    json_key(j, key);
    json_str(j, value);
}

static void event_fields_json(const struct event *event, struct json *j)
{
    json_key(j, event->kind == EVENT_ACTION ? "context" : "attributes");
    json_object(j);
    for (uint32_t i = 0; i < event->n_fields; i++) {
        const struct event_field *f = &event->fields[i];
        json_key_n(j, f->name.s, f->name.len);
        if (f->type == EVENT_STRING) {
            json_str(j, f->s);
        } else if (f->type == EVENT_NUMBER) {
            json_double(j, f->n);
        } else if (f->type == EVENT_BOOL) {
            json_bool(j, f->b);
        } else {
            json_array(j);
            for (uint32_t k = 0; k < f->list.n; k++)
                json_str(j, f->list.v[k]);
            json_end(j);
        }
    }
    json_end(j);
}

static void event_item_json(const struct event_item *item, struct json *j)
{
    member_str(j, "item_id", item->text);
    if (item->position >= 0) {
        json_key(j, "position");
        json_int(j, item->position);
    }
}

static void event_items_json(const struct event *event, struct json *j)
{
    if (event->n_items == 1) {
        event_item_json(&event->items[0], j);
        return;
    }
    json_key(j, "items");
    json_array(j);
    for (uint32_t i = 0; i < event->n_items; i++) {
        json_object(j);
        event_item_json(&event->items[i], j);
        json_end(j);
    }
    json_end(j);
}

static void event_bad_json(const struct event *event, struct json *j)
{
    json_key(j, "reason");
    json_string(j, event_bad_name(event->bad));
    json_key(j, "detail");
    json_string(j, event->detail);
}

// As the message was, with the names of docs/CONTRACT.md; then where it came from.
static void event_good_json(const struct event *event, struct json *j)
{
    member_str(j, "user_id", event->user_text);
    if (event->n_items > 0)
        event_items_json(event, j);
    member_str(j, "request_id", event->request_text);
    json_key(j, "timestamp");
    json_int(j, event->ts);
    if (event->has_value) {
        json_key(j, "value");
        json_double(j, event->value);
    }
    if (event->kind == EVENT_ACTION && event->action == ACTION_WATCH) {
        json_key(j, "watch_ms");
        json_uint(j, event->watch_ms);
    }
    if (event->n_fields > 0)
        event_fields_json(event, j);
    if (event->tombstone) {
        json_key(j, "deleted");
        json_bool(j, true);
    }
}

static void event_json(const struct engine *e, const struct ingest_part *part, const struct event *event,
                       struct json *j)
{
    json_object(j);
    json_key(j, "type");
    json_string(j, event_type(e, event));
    if (event->kind == EVENT_BAD)
        event_bad_json(event, j);
    else
        event_good_json(event, j);
    json_key(j, "topic");
    json_string(j, part->topic);
    json_key(j, "partition");
    json_int(j, part->partition);
    json_key(j, "offset");
    json_int(j, event->offset);
    json_end(j);
}

void tap_event(struct tap *tap, const struct engine *e, const struct ingest_part *part,
               const struct event *event, int64_t now_us)
{
    if (tap->kind != TAP_EVENTS || tap->ended || event->kind == EVENT_IDLE ||
        !event_fits(tap, e, part, event) || !tap_room(tap, now_us))
        return;
    struct json j = json_to(&tap->lines);
    event_json(e, part, event, &j);
    tap_line_end(tap);
}

// ---- samples ----------------------------------------------------------------------------------------------

static struct tap_value feature_tap_value(const struct feature_value *v)
{
    if (v->type == FEATURE_MISSING || v->type == FEATURE_SEQUENCE)
        return (struct tap_value){0};
    if (v->type == FEATURE_NUMBER)
        return value_number(true, v->number);
    return v->text.s != NULL ? value_text(v->text) : value_number(true, (double)v->integer);
}

static struct tap_value sample_value(const struct config *config, const struct sample *s,
                                     const struct feature_row *row, const char *name)
{
    const char *rest;
    if (name_after(name, "labels.", &rest) && is_completion(config, rest)) {
        double share = targets_share(s, row, config->completion.feature);
        return value_number(share >= 0, share);
    }
    if (name_after(name, "labels.", &rest)) {
        uint32_t a = label_of(config, rest);
        return value_number(true, a == ACTION_WATCH ? (double)s->watch_ms : (double)((s->labels >> a) & 1));
    }
    if (name_after(name, "features.", &rest))
        return feature_tap_value(&row->values[feature_of(config, rest)]);
    if (strcmp(name, "user_id") == 0)
        return value_text(row->user_text);
    if (strcmp(name, "item_id") == 0)
        return value_text(row->item_text);
    if (strcmp(name, "request_id") == 0)
        return value_text(row->request_text);
    if (strcmp(name, "sample") == 0)
        return value_number(true, (double)s->seq);
    if (strcmp(name, "position") == 0)
        return value_number(row->position >= 0, (double)row->position);
    if (strcmp(name, "impression_ts") == 0)
        return value_number(true, (double)s->impression_ts);
    if (strcmp(name, "emitted_ts") == 0)
        return value_number(true, (double)s->emitted_ts);
    return value_number(true, (double)s->keep_rate);
}

static void tap_sample(struct tap *tap, const struct engine *e, const struct sample *s, struct str segment,
                       int64_t now_us)
{
    struct feature_row row;
    if (features_decode(e->features, segment, s->body.user_at, s->body.item_at, s->impression_ts, &row) != 0)
        return;
    for (uint32_t i = 0; i < tap->n_conditions; i++) {
        struct tap_value v = sample_value(e->config, s, &row, tap->conditions[i].name);
        if (!value_fits(&tap->conditions[i], &v))
            return;
    }
    if (!tap_room(tap, now_us))
        return;
    struct json j = json_to(&tap->lines);
    sample_json(e, s, &row, &j);
    tap_line_end(tap);
}

bool tap_samples(struct tap *tap, struct engine *e, int64_t now_us)
{
    uint64_t end = state_samples_end(e->state);
    if (tap->kind != TAP_SAMPLES || tap->ended || tap->next_seq >= end)
        return false;
    if (end - tap->next_seq > TAP_SAMPLES_BEHIND) {
        tap->dropped += end - TAP_SAMPLES_TURN - tap->next_seq;
        tap->next_seq = end - TAP_SAMPLES_TURN;
    }
    uint64_t left = end - tap->next_seq;
    struct sample_chunk *chunk;
    struct err err;
    if (state_samples_read(e->state, tap->next_seq,
                           left < TAP_SAMPLES_TURN ? (uint32_t)left : TAP_SAMPLES_TURN, &chunk, &err) != 0) {
        tap->dropped += left; // no longer kept
        tap->next_seq = end;
        return false;
    }
    for (uint32_t i = 0; i < chunk->n && !tap->ended; i++)
        tap_sample(tap, e, &chunk->samples[i], chunk->segments[i], now_us);
    tap->next_seq += chunk->n;
    state_chunk_free(e->state, chunk);
    return tap->next_seq < end;
}
