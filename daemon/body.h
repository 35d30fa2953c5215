// SPDX-License-Identifier: Apache-2.0
// What the bodies of requests have in common, read by jansson: ids, flat contexts, times. A body is copied out
// of the document into an arena, so that who answers never sees jansson (whose names clash with
// base/json.h).
#ifndef FRESHET_DAEMON_BODY_H
#define FRESHET_DAEMON_BODY_H

#include <jansson.h>

#include "base/arena.h"
#include "base/err.h"
#include "stream/event.h"

enum { BODY_CONTEXT_MAX = 256 }; // fields of a context

// NULL: ERR_INVALID with line and column. To be freed with json_decref.
json_t *body_load(struct str text, struct err *err);
// The members of an object are among `names` (NULL-terminated); else ERR_INVALID names the one that is not.
int body_members(json_t *object, const char *const *names, struct err *err);
// A string of 1 to EVENT_ID_BYTES bytes, or an integer, which is its text. `what` names the place.
int body_id(const json_t *v, const char *what, struct arena *arena, struct str *ret_id, struct err *err);
// A string, number or boolean; null gives false.
int body_field(const char *what, const char *name, const json_t *v, struct arena *arena,
               struct event_field *ret_field, bool *ret_there, struct err *err);
// A flat object of them; NULL and null are an empty one.
int body_context(const char *what, json_t *context, struct arena *arena, struct event_field **ret_fields,
                 uint32_t *ret_n, struct err *err);
// The text of a time, terminated, for view_time; "" where it is absent or null.
int body_time(const json_t *v, const char *what, struct arena *arena, struct str *ret_time, struct err *err);

#endif
