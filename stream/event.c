// SPDX-License-Identifier: Apache-2.0
#include "stream/event.h"

#include <assert.h>
#include <stddef.h>

static const char *const event_bad_names[EVENT_BAD_COUNT] = {
    [EVENT_BAD_NONE] = "",
    [EVENT_BAD_JSON] = "json",
    [EVENT_BAD_SIZE] = "size",
    [EVENT_BAD_TYPE] = "type",
    [EVENT_BAD_USER] = "user_id",
    [EVENT_BAD_ITEM] = "item_id",
    [EVENT_BAD_TIMESTAMP] = "timestamp",
    [EVENT_BAD_FUTURE] = "future",
    [EVENT_BAD_FIELD] = "field",
    [EVENT_BAD_WATCH] = "watch_ms",
    [EVENT_BAD_ATTRIBUTES] = "attributes",
};

const char *event_bad_name(enum event_bad reason)
{
    assert((unsigned)reason < EVENT_BAD_COUNT);
    return event_bad_names[reason];
}
