// SPDX-License-Identifier: Apache-2.0
// The bodies of POST /v1/features and of POST /get-online-features (Feast's), as plain rows of keys.
//
//     {"features": ["ctr_1d", ...], "entities": [{"user_id": ID, "item_id": ID, "context": {flat}, "at": TS}, ...],
//      "at": TS}
//
//     {"features": ["view:feature", ...], "feature_service": NAME, "full_feature_names": bool,
//      "entities": {"user_id": [ID, ...], "item_id": [ID, ...], "a context field": [...]}}
#ifndef FRESHET_DAEMON_FEATURE_BODY_H
#define FRESHET_DAEMON_FEATURE_BODY_H

#include "base/arena.h"
#include "base/err.h"
#include "stream/event.h"

enum { FEATURE_NAMES_MAX = 1024 }; // names of one request

struct feature_key {
    struct str user, item;   // s == NULL: not given
    bool user_int, item_int; // came as an integer: Feast's answer repeats it as such
    struct str at;           // text, "" where absent
    uint32_t n_context;
    const struct event_field *context;
};

struct feature_body {
    bool all; // `features` is absent
    uint32_t n_names, n_keys;
    struct str *names;
    struct feature_key *keys;
    struct str at; // "" where absent
};

struct feast_body {
    struct feature_body body; // `at` of Feast's is always absent; names are "view:feature"
    struct str service;       // s == NULL: not given
    bool full_names;
    uint32_t n_columns;
    bool column_user[2]; // entity columns in the order of the request: the user's, or the item's
};

// Everything in *ret_body lies in `arena`. ERR_INVALID: says what is wrong and where; ERR_LIMIT: more than
// max_keys rows.
int feature_body_read(struct str text, uint32_t max_keys, struct arena *arena, struct feature_body *ret_body,
                      struct err *err);
int feast_body_read(struct str text, uint32_t max_keys, struct arena *arena, struct feast_body *ret_body,
                    struct err *err);

#endif
