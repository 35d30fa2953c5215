// SPDX-License-Identifier: Apache-2.0
// Profiles as state_profile_set keeps them, and single values of a profile or a context. What an event needs of
// them is found by a hash of the name that was computed at the start, and a string's own hash, which is its id in
// tables and the value of its bucket, is computed when the profile comes:
//
//     record     attribute ...
//     attribute  u32 hash of the name, varint bytes that follow, str name, u8 type, value
//     value      string: u64 hash_id, str    number: f64    list: varint n, n x (u64 hash_id, str)
#ifndef FRESHET_DAEMON_PROFILE_H
#define FRESHET_DAEMON_PROFILE_H

#include "base/json.h"
#include "daemon/config.h"
#include "stream/event.h"

enum value_type { VALUE_MISSING, VALUE_STRING, VALUE_NUMBER, VALUE_FALSE, VALUE_TRUE, VALUE_LIST };

// One value, as it lies in a record or an event.
struct attribute {
    enum value_type type;
    double number;
    struct str text;
    uint64_t hash;  // of a string
    uint32_t n;     // of a list
    struct rd list; // its entries
};

// A name of the config, ready to be looked for.
struct attribute_plan {
    enum config_source of;
    uint32_t name_hash;
    struct str name;
    enum config_type_of type; // a value of another type is missing
};
struct attribute_plan attribute_plan_of(const struct config_ref *ref); // points into ref
// An attribute of items by its name, as it is declared. "" is found nowhere.
struct attribute_plan attribute_plan_named(const struct config *c, const char *name);

void profile_put(struct buf *to, const struct event *e);
void profile_json(struct str record, struct json *j);
// How many values of the profile are not of the type that the config declares.
uint32_t profile_conflicts(const struct config *c, const struct event *e);

// The value, or one of type VALUE_MISSING. `profile`: record of the user or item, whichever plan->of says.
void attribute_find(const struct attribute_plan *plan, const struct event *e, struct str profile,
                    struct attribute *ret_value);
// The next entry of a list.
struct str attribute_list_next(struct rd *list, uint64_t *ret_hash);

// The text of a single value: a string itself, a whole number in decimal, another in the fewest digits that read
// back the same, true, false. "" where there is none. At most NUMBER_TEXT bytes go to `scratch`.
struct str attribute_text(const struct attribute *a, char *scratch);
// hash_id of that text, computed only where it is not a string's; 0 where there is none.
uint64_t attribute_id(const struct attribute *a);
// A whole number of less than 1e15, which can be shown as such.
bool attribute_whole(double v);

#endif
