// SPDX-License-Identifier: Apache-2.0
// The body of POST /v1/score: {"user_id": ID, "items": [ID, ...], "timestamp": TS, "context": {flat},
// "sort": BOOL}, an ID
// being a string or an integer. By itself because jansson and base/json.h name functions alike and cannot be
// included together.
#ifndef FRESHET_DAEMON_SCORE_BODY_H
#define FRESHET_DAEMON_SCORE_BODY_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "stream/event.h"

struct score_body {
    struct str user;
    struct str *items;
    uint32_t n_items;
    struct event_field *context;
    uint32_t n_context;
    struct str timestamp; // text, "" where absent
    bool sort;
};

// Everything in *ret_body lies in `arena`. ERR_INVALID: says what is wrong, with line and column where it is
// the JSON; ERR_LIMIT: more than max_items.
int score_body_read(struct str text, uint32_t max_items, struct arena *arena, struct score_body *ret_body,
                    struct err *err);
// The context alone: a flat JSON object.
int score_context_read(struct str text, struct arena *arena, struct score_body *ret_body, struct err *err);

#endif
