// SPDX-License-Identifier: Apache-2.0
#include "daemon/score_body.h"

#include <jansson.h>
#include <stdio.h>

static struct str body_text(struct arena *arena, const char *s, size_t n)
{
    return arena_str(arena, (struct str){s, (uint32_t)n});
}

static int body_id(const json_t *v, const char *what, struct arena *arena, struct str *ret_id,
                   struct err *err)
{
    char number[24];
    size_t n = 0;
    const char *s = json_string_value(v);
    if (json_is_integer(v)) {
        n = (size_t)snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
        s = number;
    } else if (s != NULL) {
        n = json_string_length(v);
    }
    if (n == 0 || n > EVENT_ID_BYTES)
        return err_set(err, ERR_INVALID, "%s must be a string of 1 to %d bytes or an integer", what,
                       EVENT_ID_BYTES);
    *ret_id = body_text(arena, s, n);
    return 0;
}

static int body_items(const json_t *items, uint32_t max, struct arena *arena, struct score_body *b,
                      struct err *err)
{
    size_t n = json_array_size(items);
    if (!json_is_array(items) || n == 0)
        return err_set(err, ERR_INVALID, "items must be a list of item ids, e.g. [\"i1\", \"i2\"]");
    if (n > max)
        return err_set(err, ERR_LIMIT, "a request scores 1 to %u items, not %zu", max, n);
    b->items = ARENA_ARRAY(arena, struct str, n);
    b->n_items = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        char what[32];
        snprintf(what, sizeof what, "items[%zu]", i);
        if (body_id(json_array_get(items, i), what, arena, &b->items[i], err) != 0)
            return -1;
    }
    return 0;
}

// null is as if it were not there.
static int body_field(const char *name, const json_t *v, struct arena *arena, struct score_body *b,
                      struct err *err)
{
    struct event_field *f = &b->context[b->n_context];
    f->name = arena_str(arena, str_of(name));
    if (json_is_null(v))
        return 0;
    if (json_is_string(v)) {
        f->type = EVENT_STRING;
        f->s = body_text(arena, json_string_value(v), json_string_length(v));
    } else if (json_is_number(v)) {
        f->type = EVENT_NUMBER;
        f->n = json_number_value(v);
    } else if (json_is_boolean(v)) {
        f->type = EVENT_BOOL;
        f->b = json_is_true(v);
    } else {
        return err_set(err, ERR_INVALID, "context.%s must be a string, a number, true or false", name);
    }
    b->n_context++;
    return 0;
}

static int body_context(json_t *context, struct arena *arena, struct score_body *b, struct err *err)
{
    const char *name;
    json_t *v;
    if (context == NULL || json_is_null(context))
        return 0;
    if (!json_is_object(context) || json_object_size(context) > SCORE_CONTEXT_MAX)
        return err_set(err, ERR_INVALID, "context must be a flat object of at most %d fields",
                       SCORE_CONTEXT_MAX);
    b->context = ARENA_ARRAY(arena, struct event_field, json_object_size(context) + 1);
    json_object_foreach(context, name, v) if (body_field(name, v, arena, b, err) != 0) return -1;
    return 0;
}

static int body_timestamp(const json_t *v, struct arena *arena, struct score_body *b, struct err *err)
{
    char number[40];
    if (v == NULL || json_is_null(v))
        return 0;
    if (json_is_string(v))
        b->timestamp = body_text(arena, json_string_value(v), json_string_length(v) + 1);
    else if (json_is_number(v))
        b->timestamp = body_text(arena, number,
                                 (size_t)snprintf(number, sizeof number, "%.17g", json_number_value(v)) + 1);
    else
        return err_set(err, ERR_INVALID, "timestamp must be ms, s or RFC 3339");
    b->timestamp.len--; // the terminator stays behind it
    return 0;
}

static int body_fields(json_t *root, uint32_t max_items, struct arena *arena, struct score_body *b,
                       struct err *err)
{
    const char *name;
    json_t *v;
    if (!json_is_object(root))
        return err_set(err, ERR_INVALID, "the body must be an object: {\"user_id\": ..., \"items\": [...]}");
    json_object_foreach(
        root, name,
        v) if (strcmp(name, "user_id") != 0 && strcmp(name, "items") != 0 && strcmp(name, "timestamp") != 0 &&
               strcmp(name, "context") !=
                   0) return err_set(err, ERR_INVALID,
                                     "\"%.64s\" is none of user_id, items, timestamp, context", name);
    if (body_id(json_object_get(root, "user_id"), "user_id", arena, &b->user, err) != 0)
        return -1;
    if (body_items(json_object_get(root, "items"), max_items, arena, b, err) != 0)
        return -1;
    if (body_timestamp(json_object_get(root, "timestamp"), arena, b, err) != 0)
        return -1;
    return body_context(json_object_get(root, "context"), arena, b, err);
}

static json_t *body_load(struct str text, struct err *err)
{
    json_error_t wrong;
    json_t *root =
        json_loadb(text.s != NULL ? text.s : "", text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &wrong);
    if (root == NULL)
        err_set(err, ERR_INVALID, "bad JSON at line %d, column %d: %s", wrong.line, wrong.column, wrong.text);
    return root;
}

int score_body_read(struct str text, uint32_t max_items, struct arena *arena, struct score_body *ret_body,
                    struct err *err)
{
    struct score_body b = {0};
    json_t *root = body_load(text, err);
    if (root == NULL)
        return -1;
    int result = body_fields(root, max_items, arena, &b, err);
    json_decref(root);
    if (result == 0)
        *ret_body = b;
    return result;
}

int score_context_read(struct str text, struct arena *arena, struct score_body *ret_body, struct err *err)
{
    json_t *root = body_load(text, err);
    if (root == NULL)
        return -1;
    int result = body_context(root, arena, ret_body, err);
    json_decref(root);
    return result;
}
