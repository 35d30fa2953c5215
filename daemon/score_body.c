// SPDX-License-Identifier: Apache-2.0
#include "daemon/score_body.h"

#include "daemon/body.h"

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
    for (size_t i = 0; i < n; i++)
        if (body_id(json_array_get(items, i), "an id", arena, &b->items[i], err) != 0)
            return err_context(err, "items[%zu]", i);
    return 0;
}

static int body_fields(json_t *root, uint32_t max_items, struct arena *arena, struct score_body *b,
                       struct err *err)
{
    static const char *const members[] = {"user_id", "items", "timestamp", "context", "sort", NULL};
    if (!json_is_object(root))
        return err_set(err, ERR_INVALID, "the body must be an object: {\"user_id\": ..., \"items\": [...]}");
    if (body_members(root, members, err) != 0 ||
        body_id(json_object_get(root, "user_id"), "user_id", arena, &b->user, err) != 0 ||
        body_items(json_object_get(root, "items"), max_items, arena, b, err) != 0 ||
        body_time(json_object_get(root, "timestamp"), "timestamp", arena, &b->timestamp, err) != 0)
        return -1;
    const json_t *sort = json_object_get(root, "sort");
    if (sort != NULL && !json_is_boolean(sort))
        return err_set(err, ERR_INVALID, "sort must be true or false");
    b->sort = json_is_true(sort);
    return body_context("context", json_object_get(root, "context"), arena, &b->context, &b->n_context, err);
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
    int result = body_context("context", root, arena, &ret_body->context, &ret_body->n_context, err);
    json_decref(root);
    return result;
}
