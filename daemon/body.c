// SPDX-License-Identifier: Apache-2.0
#include "daemon/body.h"

#include <stdio.h>
#include <string.h>

json_t *body_load(struct str text, struct err *err)
{
    json_error_t wrong;
    json_t *root =
        json_loadb(text.s != NULL ? text.s : "", text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &wrong);
    if (root == NULL)
        err_set(err, ERR_INVALID, "bad JSON at line %d, column %d: %s", wrong.line, wrong.column, wrong.text);
    return root;
}

static bool member_known(const char *name, const char *const *names)
{
    for (; *names != NULL; names++)
        if (strcmp(name, *names) == 0)
            return true;
    return false;
}

static int members_wrong(const char *name, const char *const *names, struct err *err)
{
    char list[200] = "";
    for (const char *const *n = names; *n != NULL; n++) {
        size_t at = strlen(list);
        snprintf(list + at, sizeof list - at, "%s%s", at > 0 ? ", " : "", *n);
    }
    if (name == NULL)
        return err_set(err, ERR_INVALID, "an object with some of %s is expected", list);
    return err_set(err, ERR_INVALID, "\"%.64s\" is none of %s", name, list);
}

int body_members(json_t *object, const char *const *names, struct err *err)
{
    const char *name;
    json_t *v;
    if (!json_is_object(object))
        return members_wrong(NULL, names, err);
    json_object_foreach(object, name, v)
    {
        if (!member_known(name, names))
            return members_wrong(name, names, err);
    }
    return 0;
}

static struct str body_text(struct arena *arena, const char *s, size_t n)
{
    return arena_str(arena, (struct str){s, (uint32_t)n});
}

int body_id(const json_t *v, const char *what, struct arena *arena, struct str *ret_id, struct err *err)
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

int body_field(const char *what, const char *name, const json_t *v, struct arena *arena,
               struct event_field *ret_field, bool *ret_there, struct err *err)
{
    struct event_field f = {.name = arena_str(arena, str_of(name))};
    *ret_there = !json_is_null(v);
    if (!*ret_there)
        return 0;
    if (json_is_string(v)) {
        f.type = EVENT_STRING;
        f.s = body_text(arena, json_string_value(v), json_string_length(v));
    } else if (json_is_number(v)) {
        f.type = EVENT_NUMBER;
        f.n = json_number_value(v);
    } else if (json_is_boolean(v)) {
        f.type = EVENT_BOOL;
        f.b = json_is_true(v);
    } else {
        return err_set(err, ERR_INVALID, "%s.%s must be a string, a number, true or false", what, name);
    }
    *ret_field = f;
    return 0;
}

int body_context(const char *what, json_t *context, struct arena *arena, struct event_field **ret_fields,
                 uint32_t *ret_n, struct err *err)
{
    const char *name;
    json_t *v;
    uint32_t n = 0;
    *ret_fields = NULL;
    *ret_n = 0;
    if (context == NULL || json_is_null(context))
        return 0;
    if (!json_is_object(context) || json_object_size(context) > BODY_CONTEXT_MAX)
        return err_set(err, ERR_INVALID, "%s must be a flat object of at most %d fields", what,
                       BODY_CONTEXT_MAX);
    struct event_field *fields = ARENA_ARRAY(arena, struct event_field, json_object_size(context) + 1);
    json_object_foreach(context, name, v)
    {
        bool there;
        if (body_field(what, name, v, arena, &fields[n], &there, err) != 0)
            return -1;
        n += there;
    }
    *ret_fields = fields;
    *ret_n = n;
    return 0;
}

int body_time(const json_t *v, const char *what, struct arena *arena, struct str *ret_time, struct err *err)
{
    char number[40];
    struct str text = {"", 1};
    if (json_is_string(v))
        text = body_text(arena, json_string_value(v), json_string_length(v) + 1);
    else if (json_is_number(v))
        text = body_text(arena, number,
                         (size_t)snprintf(number, sizeof number, "%.17g", json_number_value(v)) + 1);
    else if (v != NULL && !json_is_null(v))
        return err_set(err, ERR_INVALID, "%s must be ms, s or RFC 3339", what);
    text.len--; // the terminator stays behind it
    *ret_time = text;
    return 0;
}
