// SPDX-License-Identifier: Apache-2.0
// POST /v1/features, and the same data in the shape of Feast's feature server.
#include "daemon/feature_view.h"
#include "daemon/http_impl.h"

static struct str body_of(const struct http_request *r)
{
    return buf_str(&r->body);
}

void http_answer_features(struct http_request *r)
{
    struct arena arena = {0};
    struct err err = {0};
    struct feature_body body;
    struct json j = json_to(&r->reply);
    if (feature_body_read(body_of(r), FEATURE_VIEW_ROWS_MAX, &arena, &body, &err) != 0 ||
        feature_view_rows(r->http->d->engine, &body, &j, &err) != 0)
        http_answer_err(r, &err);
    arena_done(&arena);
}

void http_answer_feast(struct http_request *r)
{
    struct arena arena = {0};
    struct err err = {0};
    struct feast_body body;
    struct json j = json_to(&r->reply);
    if (feast_body_read(body_of(r), FEATURE_VIEW_ROWS_MAX, &arena, &body, &err) != 0 ||
        feature_view_feast(r->http->d->engine, &body, &j, &err) != 0)
        http_answer_err(r, &err);
    arena_done(&arena);
}
