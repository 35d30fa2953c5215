// SPDX-License-Identifier: Apache-2.0
// What is known of a user, an item, a feature id, and predictions for a request: as JSON, the same from the
// daemon over HTTP and from a state's directory.
#ifndef FRESHET_DAEMON_VIEWS_H
#define FRESHET_DAEMON_VIEWS_H

#include "base/json.h"
#include "daemon/engine.h"

enum { VIEW_CANDIDATES_MAX = 1000, VIEW_PENDING_MAX = 100 };
#define VIEW_NOW INT64_MIN // as of the largest accepted ts

// Each writes one JSON value. ERR_NOT_FOUND: nothing is known of the id.
int view_user(struct engine *e, struct str id, int64_t at, struct json *j, struct err *err);
int view_item(struct engine *e, struct str id, int64_t at, struct json *j, struct err *err);
// ERR_NOT_FOUND names the tables when it is the table that is unknown.
int view_embedding(struct engine *e, struct str table, struct str id, struct json *j, struct err *err);

struct view_request {
    struct str user;
    uint32_t n_items;
    const struct str *items;
    int64_t at; // VIEW_NOW
    uint32_t n_context;
    const struct event_field *context;
    bool sort; // by score, best first
};
// {"version":..., "at":..., "scores":[{"item_id":..., "click":0.1, ...}, ...]}. A user or item that is not
// known scores with empty features. In order of the request; with `sort`, or where the model ranks in stages, in that
// of rank, and then each has "rank" and "stage". ERR_LIMIT: too many items.
int view_score(struct engine *e, const struct view_request *request, struct json *j, struct err *err);

// Counters of an entity as {"impression": {"1h": 3, ...}, ...}; only actions that have any.
void view_counters(struct engine *e, struct entity *entity, int64_t at, struct json *j);

// What VIEW_NOW stands for; any other time is itself.
int64_t view_at(const struct engine *e, int64_t at);
// A value: ms, null before the first event, "end" after a flush.
void view_watermark(const struct engine *e, struct json *j);

// ms, s or RFC 3339; -1: none of them.
int view_time(const char *text, int64_t *ret_ms);

#endif
