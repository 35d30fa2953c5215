// SPDX-License-Identifier: Apache-2.0
// The routes: one row each, from which come the dispatch, 404, 405 and Allow. A path is matched segment by
// segment before it is decoded, so that an id may hold a slash (%2F).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/explain_item.h"
#include "daemon/http_impl.h"
#include "daemon/score_body.h"
#include "daemon/views.h"

// ---- answers ----------------------------------------------------------------------------------------------

static struct str request_id(const struct http_request *r, int i)
{
    return buf_str(&r->ids[i]);
}

void http_answer_err(struct http_request *r, const struct err *err)
{
    int64_t lag = err->code == ERR_NOT_FOUND ? daemon_lag(r->http->d) : 0;
    if (lag > 0)
        http_problem(r, MHD_HTTP_NOT_FOUND, "%s; %lld messages of the log are still to be read", err->message,
                     (long long)lag);
    else
        http_problem_err(r, err);
}

static void answer_health(struct http_request *r)
{
    buf_printf(&r->reply, "{\"status\":\"ok\"}");
}

static void answer_ready(struct http_request *r)
{
    const char *why;
    if (daemon_ready(r->http->d, &why))
        buf_printf(&r->reply, "{\"status\":\"ready\"}");
    else
        http_problem(r, MHD_HTTP_SERVICE_UNAVAILABLE, "%s%s%s", why,
                     r->http->d->problem.code != ERR_NONE ? ": " : "", r->http->d->problem.message);
}

static void answer_metrics(struct http_request *r)
{
    r->type = "text/plain; version=0.0.4; charset=utf-8";
    prometheus_put(r->http->d, &r->http->cache, &r->reply);
}

static void answer_status(struct http_request *r)
{
    struct json j = json_to(&r->reply);
    http_status_json(r->http, &j);
}

// False: `at` is there and unreadable; answered.
static bool request_at(struct http_request *r, int64_t *ret_at)
{
    *ret_at = VIEW_NOW;
    const char *raw = MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, "at");
    if (raw == NULL)
        return true;
    struct buf text = {0};
    bool good = http_decode(raw, strlen(raw), &text) == 0;
    buf_put_u8(&text, '\0');
    good = good && view_time((const char *)text.data, ret_at) == 0;
    buf_done(&text);
    if (!good)
        http_problem(r, MHD_HTTP_BAD_REQUEST, "at=%.64s: ms, s or RFC 3339 is expected (a + is written %%2B)",
                     raw);
    return good;
}

static void answer_entity(struct http_request *r,
                          int (*view)(struct engine *, struct str, int64_t, struct json *, struct err *))
{
    int64_t at;
    struct err err = {0};
    struct json j = json_to(&r->reply);
    if (request_at(r, &at) && view(r->http->d->engine, request_id(r, 0), at, &j, &err) != 0)
        http_answer_err(r, &err);
}

static void answer_user(struct http_request *r)
{
    answer_entity(r, view_user);
}

static void answer_item(struct http_request *r)
{
    answer_entity(r, view_item);
}

static void answer_embedding(struct http_request *r)
{
    struct err err = {0};
    struct json j = json_to(&r->reply);
    if (view_embedding(r->http->d->engine, request_id(r, 0), request_id(r, 1), &j, &err) != 0)
        http_answer_err(r, &err);
}

// The body of a request for predictions of candidates, or for what they would be made of.
static int score_put(struct http_request *r,
                     int (*view)(struct engine *, const struct view_request *, struct json *, struct err *),
                     struct arena *arena, struct err *err)
{
    struct score_body body;
    struct str text = {(const char *)r->body.data, (uint32_t)r->body.len};
    if (score_body_read(text, VIEW_CANDIDATES_MAX, arena, &body, err) != 0)
        return -1;
    struct view_request request = {.user = body.user,
                                   .n_items = body.n_items,
                                   .items = body.items,
                                   .at = VIEW_NOW,
                                   .n_context = body.n_context,
                                   .context = body.context,
                                   .sort = body.sort};
    if (body.timestamp.len > 0 && view_time(body.timestamp.s, &request.at) != 0)
        return err_set(err, ERR_INVALID, "timestamp %.64s: ms, s or RFC 3339 is expected", body.timestamp.s);
    struct json j = json_to(&r->reply);
    return view(r->http->d->engine, &request, &j, err);
}

static void answer_score(struct http_request *r)
{
    struct arena arena = {0};
    struct err err = {0};
    if (score_put(r, view_score, &arena, &err) != 0)
        http_answer_err(r, &err);
    arena_done(&arena);
}

static void answer_explain(struct http_request *r)
{
    struct arena arena = {0};
    struct err err = {0};
    if (score_put(r, view_explain, &arena, &err) != 0)
        http_answer_err(r, &err);
    arena_done(&arena);
}

// A pair without a context.
static void answer_explain_pair(struct http_request *r)
{
    struct err err = {0};
    struct str item = request_id(r, 1);
    struct view_request request = {.user = request_id(r, 0), .n_items = 1, .items = &item};
    struct json j = json_to(&r->reply);
    if (request_at(r, &request.at) && view_explain(r->http->d->engine, &request, &j, &err) != 0)
        http_answer_err(r, &err);
}

static void answer_reload(struct http_request *r)
{
    struct err err = {0};
    if (daemon_reload(r->http->d, &err) != 0)
        http_problem(r, MHD_HTTP_CONFLICT, "the old config stays: %s", err.message);
    else
        buf_printf(&r->reply, "{\"status\":\"reloaded\"}");
}

const struct http_route http_routes[] = {{"GET", "/healthz", true, answer_health},
                                         {"GET", "/readyz", false, answer_ready},
                                         {"GET", "/metrics", false, answer_metrics},
                                         {"GET", "/v1/status", false, answer_status},
                                         {"GET", "/v1/users/*", false, answer_user},
                                         {"GET", "/v1/items/*", false, answer_item},
                                         {"GET", "/v1/embeddings/*/*", false, answer_embedding},
                                         {"POST", "/v1/score", false, answer_score},
                                         {"POST", "/v1/explain", false, answer_explain},
                                         {"GET", "/v1/explain/*/*", false, answer_explain_pair},
                                         {"POST", "/v1/features", false, http_answer_features},
                                         {"POST", "/get-online-features", false, http_answer_feast},
                                         {"GET", "/v1/tap", false, http_answer_tap},
                                         {"POST", "/v1/reload", false, answer_reload},
                                         {0}};

// ---- finding ----------------------------------------------------------------------------------------------

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int http_decode(const char *s, size_t n, struct buf *to)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] != '%') {
            buf_put_u8(to, (uint8_t)s[i]);
            continue;
        }
        int high = i + 2 < n ? hex(s[i + 1]) : -1;
        int low = i + 2 < n ? hex(s[i + 2]) : -1;
        if (high < 0 || low < 0)
            return -1;
        buf_put_u8(to, (uint8_t)(high << 4 | low));
        i += 2;
    }
    return 0;
}

// Whether `path` is of the pattern; where its ids are, undecoded.
static bool route_match(const char *pattern, const char *path, struct str *ret_ids, int *ret_n)
{
    *ret_n = 0;
    while (*pattern != '\0') {
        if (*pattern != '*') {
            if (*pattern++ != *path++)
                return false;
            continue;
        }
        size_t n = strcspn(path, "/");
        if (n == 0)
            return false;
        ret_ids[(*ret_n)++] = (struct str){path, (uint32_t)n};
        path += n;
        pattern++;
    }
    return *path == '\0';
}

static void route_unknown(struct http_request *r)
{
    char list[800] = "";
    for (const struct http_route *route = http_routes; route->path != NULL; route++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s %s", n > 0 ? ", " : "", route->method, route->path);
    }
    http_problem(r, MHD_HTTP_NOT_FOUND, "there is no %.200s here; there are %s", r->path, list);
}

static bool route_ids(struct http_request *r, const struct str *ids, int n)
{
    for (int i = 0; i < n; i++)
        if (http_decode(ids[i].s, ids[i].len, &r->ids[i]) != 0) {
            http_problem(r, MHD_HTTP_BAD_REQUEST, "%%XX in the path is not two hex digits");
            return false;
        }
    return true;
}

bool http_route_find(struct http_request *r)
{
    struct str ids[HTTP_SEGMENTS_MAX];
    int n;
    const char *method = strcmp(r->method, "HEAD") == 0 ? "GET" : r->method;
    for (const struct http_route *route = http_routes; route->path != NULL; route++) {
        if (!route_match(route->path, r->path, ids, &n))
            continue;
        r->route = route;
        if (strcmp(route->method, method) == 0)
            return route_ids(r, ids, n);
        r->allow = strcmp(route->method, "GET") == 0 ? "GET, HEAD" : route->method;
        http_problem(r, MHD_HTTP_METHOD_NOT_ALLOWED, "%s takes %s", r->path, r->allow);
        return false;
    }
    route_unknown(r);
    return false;
}
