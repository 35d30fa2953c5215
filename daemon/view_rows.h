// SPDX-License-Identifier: Apache-2.0
// Counters and sequences of one entity as exports and views show them.
#ifndef FRESHET_DAEMON_VIEW_ROWS_H
#define FRESHET_DAEMON_VIEW_ROWS_H

#include "base/json.h"
#include "daemon/engine.h"

// Every window of a measure, then the total where totals are kept. False: all are 0.
struct view_windows {
    uint64_t windows[STATE_WINDOWS_MAX];
    uint64_t total;
};
bool view_windows_read(struct engine *e, struct entity *entity, uint8_t measure, int64_t at,
                       struct view_windows *ret_windows);
void view_windows_json(const struct engine *e, const struct view_windows *w, struct json *j);
// "click", or NULL for a number that is no measure of the config.
const char *view_measure_name(const struct engine *e, uint32_t measure);

// The entries of a sequence, newest first, as a list. Nothing is written, and false returned, where it is empty;
// `key` goes before it.
bool view_sequence_json(struct engine *e, struct entity *owner, uint32_t sequence, struct str key,
                        struct json *j);

// What a group is: "user", "item" or "all", the owner's text ("" for all), the grouping's name and the bucket's
// text; both NULL for the total of everything.
struct view_group {
    const char *of;
    struct str owner;
    const char *by;
    struct str bucket;
};
int view_group_of(struct engine *e, const struct entity *group, struct view_group *ret_group,
                  struct err *err);

// "counters_by": {"gender": {"f": {"click": {"1h": 2, ...}}}} and "sequences_by": {"long": {"shoes": [...]}} as
// members of the open object, where there are any. `owner` is the user's or item's id.
int view_groups_json(struct engine *e, enum group_of of, uint16_t partition, uint64_t owner, int64_t at,
                     struct json *j, struct err *err);

#endif
