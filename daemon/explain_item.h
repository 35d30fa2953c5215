// SPDX-License-Identifier: Apache-2.0
// What the model would see of one user, one item and a context now, and where each value comes from.
#ifndef FRESHET_DAEMON_EXPLAIN_ITEM_H
#define FRESHET_DAEMON_EXPLAIN_ITEM_H

#include "daemon/views.h"

// {"user_id", "item_id", "at", "version", "features": [{"name", "kind", "value", "input", "from": [...], "by": [...]}]}
// of a request of one item. `input` is what the net gets: a number, or an id of a table; `from` the readings, each with
// a sentence `text`; `by` the steps from these to the value. ERR_LIMIT: not one item.
int view_explain(struct engine *e, const struct view_request *request, struct json *j, struct err *err);

#endif
