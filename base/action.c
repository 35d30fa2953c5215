// SPDX-License-Identifier: Apache-2.0
#include "base/action.h"

const char *const action_names[ACTION_BUILTIN] = {
    [ACTION_IMPRESSION] = "impression", [ACTION_CLICK] = "click",     [ACTION_LIKE] = "like",
    [ACTION_COLLECT] = "collect",       [ACTION_SHARE] = "share",     [ACTION_COMMENT] = "comment",
    [ACTION_FOLLOW] = "follow",         [ACTION_DISLIKE] = "dislike", [ACTION_WATCH] = "watch",
};
