// SPDX-License-Identifier: Apache-2.0
// Features for requests: rows of (user, item, context, time) read by the path that makes samples
// (features_read, features_decode), so that what is served is what was trained on. A user's part is read once
// for the rows that follow one another with the same user, context and time.
#ifndef FRESHET_DAEMON_FEATURE_VIEW_H
#define FRESHET_DAEMON_FEATURE_VIEW_H

#include "base/json.h"
#include "daemon/engine.h"
#include "daemon/feature_body.h"

enum {
    FEATURE_VIEW_ROWS_MAX = 1000,
    FEATURE_VIEW_VALUES_MAX = 500000, // rows times features; an entry of a sequence is one, too
};

// Answers of the two requests of feature_body.h, as JSON. ERR_NOT_FOUND: a feature service that is none;
// ERR_INVALID: a name that is no feature (with the nearest), a time that is none; ERR_LIMIT: too many rows or
// values.
int feature_view_rows(struct engine *e, const struct feature_body *body, struct json *j, struct err *err);
int feature_view_feast(struct engine *e, const struct feast_body *body, struct json *j, struct err *err);

// What a feature is of: where that is not given it is null, where it is not known it reads as empty.
enum { FEATURE_NEEDS_USER = 1, FEATURE_NEEDS_ITEM = 2 };
uint32_t feature_view_needs(const struct config *config, uint32_t feature);

#endif
