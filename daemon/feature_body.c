// SPDX-License-Identifier: Apache-2.0
#include "daemon/feature_body.h"

#include <stdio.h>
#include <string.h>

#include "daemon/body.h"

static int body_names(const json_t *names, struct arena *arena, struct feature_body *b, struct err *err)
{
    size_t n = json_array_size(names);
    b->all = names == NULL || json_is_null(names);
    if (b->all)
        return 0;
    if (!json_is_array(names) || n > FEATURE_NAMES_MAX)
        return err_set(err, n > FEATURE_NAMES_MAX ? ERR_LIMIT : ERR_INVALID,
                       "features must be a list of at most %d names", FEATURE_NAMES_MAX);
    b->names = ARENA_ARRAY(arena, struct str, n + 1);
    b->n_names = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(names, i);
        if (!json_is_string(v))
            return err_set(err, ERR_INVALID, "features[%zu] must be a name", i);
        b->names[i] = arena_str(arena, (struct str){json_string_value(v), (uint32_t)json_string_length(v)});
    }
    return 0;
}

static int keys_bound(size_t n, uint32_t max, const char *what, struct err *err)
{
    if (n == 0)
        return err_set(err, ERR_INVALID, "%s has no rows", what);
    if (n > max)
        return err_set(err, ERR_LIMIT, "a request reads 1 to %u rows, not %zu", max, n);
    return 0;
}

// ---- freshet's own ----------------------------------------------------------------------------------------

static int key_fields(json_t *v, struct arena *arena, struct feature_key *key, struct err *err)
{
    static const char *const members[] = {"user_id", "item_id", "context", "at", NULL};
    struct event_field *context;
    const json_t *user = json_object_get(v, "user_id");
    const json_t *item = json_object_get(v, "item_id");
    if (body_members(v, members, err) != 0)
        return -1;
    if (user != NULL && !json_is_null(user) && body_id(user, "user_id", arena, &key->user, err) != 0)
        return -1;
    if (item != NULL && !json_is_null(item) && body_id(item, "item_id", arena, &key->item, err) != 0)
        return -1;
    if (key->user.s == NULL && key->item.s == NULL)
        return err_set(err, ERR_INVALID, "there is neither a user_id nor an item_id");
    if (body_context("context", json_object_get(v, "context"), arena, &context, &key->n_context, err) != 0)
        return -1;
    key->context = context;
    return body_time(json_object_get(v, "at"), "at", arena, &key->at, err);
}

static int body_key(json_t *v, size_t i, struct arena *arena, struct feature_key *ret_key, struct err *err)
{
    struct feature_key key = {0};
    if (key_fields(v, arena, &key, err) != 0)
        return err_context(err, "entities[%zu]", i);
    *ret_key = key;
    return 0;
}

static int body_keys(const json_t *entities, uint32_t max, struct arena *arena, struct feature_body *b,
                     struct err *err)
{
    size_t n = json_array_size(entities);
    if (!json_is_array(entities))
        return err_set(err, ERR_INVALID,
                       "entities must be a list, e.g. [{\"user_id\": \"u1\", \"item_id\": \"i9\"}]");
    if (keys_bound(n, max, "entities", err) != 0)
        return -1;
    b->keys = ARENA_ARRAY(arena, struct feature_key, n);
    b->n_keys = (uint32_t)n;
    for (size_t i = 0; i < n; i++)
        if (body_key(json_array_get(entities, i), i, arena, &b->keys[i], err) != 0)
            return -1;
    return 0;
}

static int feature_body_fields(json_t *root, uint32_t max_keys, struct arena *arena, struct feature_body *b,
                               struct err *err)
{
    static const char *const members[] = {"features", "entities", "at", NULL};
    if (body_members(root, members, err) != 0 ||
        body_names(json_object_get(root, "features"), arena, b, err) != 0 ||
        body_keys(json_object_get(root, "entities"), max_keys, arena, b, err) != 0)
        return -1;
    return body_time(json_object_get(root, "at"), "at", arena, &b->at, err);
}

int feature_body_read(struct str text, uint32_t max_keys, struct arena *arena, struct feature_body *ret_body,
                      struct err *err)
{
    struct feature_body b = {0};
    json_t *root = body_load(text, err);
    if (root == NULL)
        return -1;
    int result = feature_body_fields(root, max_keys, arena, &b, err);
    json_decref(root);
    if (result == 0)
        *ret_body = b;
    return result;
}

// ---- Feast's ----------------------------------------------------------------------------------------------

// One column of `entities`: ids of users or items, or a field of the rows' contexts.
static int feast_column(const char *name, const json_t *values, struct arena *arena, struct feast_body *f,
                        struct event_field *const *contexts, struct err *err)
{
    bool user = strcmp(name, "user_id") == 0;
    bool item = strcmp(name, "item_id") == 0;
    if (user || item)
        f->column_user[f->n_columns++] = user;
    for (uint32_t i = 0; i < f->body.n_keys; i++) {
        struct feature_key *key = &f->body.keys[i];
        const json_t *v = json_array_get(values, i);
        bool there = true;
        int result;
        if (user || item) {
            result = body_id(v, name, arena, user ? &key->user : &key->item, err);
            key->user_int |= user && json_is_integer(v);
            key->item_int |= item && json_is_integer(v);
        } else {
            result = body_field("entities", name, v, arena, &contexts[i][key->n_context], &there, err);
            key->n_context += there;
        }
        if (result != 0)
            return err_context(err, "row %u", i);
    }
    return 0;
}

static int feast_rows(json_t *entities, uint32_t max, struct feast_body *f, struct err *err)
{
    const char *name;
    json_t *values;
    size_t n = SIZE_MAX;
    json_object_foreach(entities, name, values)
    {
        if (!json_is_array(values))
            return err_set(err, ERR_INVALID, "entities.%.64s must be a list", name);
        if (n != SIZE_MAX && json_array_size(values) != n)
            return err_set(err, ERR_INVALID, "the lists of entities differ in length: %zu and %zu", n,
                           json_array_size(values));
        n = json_array_size(values);
    }
    if (n == SIZE_MAX)
        return err_set(err, ERR_INVALID,
                       "entities must be an object of lists: {\"user_id\": [...], \"item_id\": [...]}");
    f->body.n_keys = (uint32_t)n;
    return keys_bound(n, max, "entities", err);
}

static int feast_entities(json_t *entities, uint32_t max, struct arena *arena, struct feast_body *f,
                          struct err *err)
{
    const char *name;
    json_t *values;
    if (feast_rows(entities, max, f, err) != 0)
        return -1;
    size_t columns = json_object_size(entities);
    if (columns > BODY_CONTEXT_MAX)
        return err_set(err, ERR_LIMIT, "entities has more than %d lists", BODY_CONTEXT_MAX);
    if (json_object_get(entities, "user_id") == NULL && json_object_get(entities, "item_id") == NULL)
        return err_set(err, ERR_INVALID, "entities has neither a list user_id nor a list item_id");
    f->body.keys = ARENA_ARRAY(arena, struct feature_key, f->body.n_keys);
    memset(f->body.keys, 0, f->body.n_keys * sizeof *f->body.keys);
    struct event_field **contexts = ARENA_ARRAY(arena, struct event_field *, f->body.n_keys);
    for (uint32_t i = 0; i < f->body.n_keys; i++)
        f->body.keys[i].context = contexts[i] = ARENA_ARRAY(arena, struct event_field, columns);
    json_object_foreach(entities, name, values)
    {
        if (feast_column(name, values, arena, f, contexts, err) != 0)
            return -1;
    }
    return 0;
}

// `entity_rows` and others of its older shapes are not taken: better an error than an answer to half of it.
static int feast_body_fields(json_t *root, uint32_t max_keys, struct arena *arena, struct feast_body *f,
                             struct err *err)
{
    static const char *const members[] = {"features", "feature_service", "entities", "full_feature_names",
                                          NULL};
    if (body_members(root, members, err) != 0 ||
        body_names(json_object_get(root, "features"), arena, &f->body, err) != 0)
        return -1;
    const json_t *service = json_object_get(root, "feature_service");
    const json_t *full = json_object_get(root, "full_feature_names");
    if (json_is_string(service))
        f->service =
            arena_str(arena, (struct str){json_string_value(service), (uint32_t)json_string_length(service)});
    else if (service != NULL && !json_is_null(service))
        return err_set(err, ERR_INVALID, "feature_service must be a name");
    if (full != NULL && !json_is_boolean(full))
        return err_set(err, ERR_INVALID, "full_feature_names must be true or false");
    if (f->body.all == (f->service.s == NULL))
        return err_set(err, ERR_INVALID, "either features or feature_service is expected");
    f->full_names = json_is_true(full);
    return feast_entities(json_object_get(root, "entities"), max_keys, arena, f, err);
}

int feast_body_read(struct str text, uint32_t max_keys, struct arena *arena, struct feast_body *ret_body,
                    struct err *err)
{
    struct feast_body f = {0};
    json_t *root = body_load(text, err);
    if (root == NULL)
        return -1;
    int result = feast_body_fields(root, max_keys, arena, &f, err);
    json_decref(root);
    if (result == 0)
        *ret_body = f;
    return result;
}
