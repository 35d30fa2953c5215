// SPDX-License-Identifier: Apache-2.0
// The actions of docs/CONTRACT.md, numbered once. The numbers stand in the store: append, never reorder.
#ifndef FRESHET_BASE_ACTION_H
#define FRESHET_BASE_ACTION_H

#include <stdint.h>

enum action {
    ACTION_IMPRESSION = 0,
    ACTION_CLICK,
    ACTION_LIKE,
    ACTION_COLLECT,
    ACTION_SHARE,
    ACTION_COMMENT,
    ACTION_FOLLOW,
    ACTION_DISLIKE,
    ACTION_WATCH,
    ACTION_BUILTIN, // how many are built in; what the config adds is numbered from here on
};

enum {
    ACTION_MAX = 24,               // bound: built-in and configured actions together
    MEASURE_WATCH_MS = ACTION_MAX, // a counter that sums watch_ms beside the count of `watch`
    MEASURE_MAX = ACTION_MAX + 1,  // counters of one entity: one per action, and the sum of watch_ms
};

// Names of the built-in actions by number: "impression", "click", ...
extern const char *const action_names[ACTION_BUILTIN];

#endif
