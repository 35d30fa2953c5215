// SPDX-License-Identifier: Apache-2.0
// One decoded message, of whatever kind: the only shape in which the rest of freshet sees the outside
// (docs/CONTRACT.md, "Events").
//
// Ownership: every pointer in a struct event points into memory of the source that gave it, and is valid
// until the next source_poll of that source.
#ifndef FRESHET_STREAM_EVENT_H
#define FRESHET_STREAM_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/action.h"
#include "base/arena.h"
#include "base/str.h"

enum {
    EVENT_ID_BYTES = 256,         // longest id
    EVENT_TEXT_BYTES = 4096,      // longest string in context or attributes
    EVENT_FIELDS_MAX = 256,       // fields of one context or attributes object
    EVENT_ITEMS_MAX = 1000,       // items of one impression message
    EVENT_LIST_MAX = 4096,        // entries of one attribute list
    EVENT_MESSAGE_BYTES = 1 << 20 // longest message: what is longer is bad, unparsed
};

enum event_kind {
    EVENT_ACTION,       // impression or feedback
    EVENT_USER_PROFILE, // upsert, or a tombstone (fields == NULL and tombstone set)
    EVENT_ITEM_PROFILE,
    EVENT_BAD,  // goes to the DLQ: reason, stage and the raw message are set, nothing else
    EVENT_IDLE, // not a message: the partition has been at its end for idle_after; raw is empty
};

// Why a message is bad. The names (event_bad_name) stand in the DLQ headers and in metrics.
enum event_bad {
    EVENT_BAD_NONE = 0,
    EVENT_BAD_JSON,       // "json": not JSON, truncated, too deep, invalid UTF-8, not an object
    EVENT_BAD_SIZE,       // "size": over EVENT_MESSAGE_BYTES, or a part over its bound above
    EVENT_BAD_TYPE,       // "type": `type` missing, not a string, or unknown
    EVENT_BAD_USER,       // "user_id": missing, empty, too long, a fraction or of another JSON type
    EVENT_BAD_ITEM,       // "item_id": the same; also both or neither of item_id and items
    EVENT_BAD_TIMESTAMP,  // "timestamp": missing, unreadable, or outside 1970..2100
    EVENT_BAD_FUTURE,     // "future": further than max_future ahead of the append time
    EVENT_BAD_FIELD,      // "field": an optional field of the wrong type or an absurd number
    EVENT_BAD_WATCH,      // "watch_ms": a watch without it, or a negative or absurd one
    EVENT_BAD_ATTRIBUTES, // "attributes": missing or not a flat object
    EVENT_BAD_COUNT
};
const char *event_bad_name(enum event_bad reason);

enum event_value { EVENT_STRING, EVENT_NUMBER, EVENT_BOOL, EVENT_LIST };

struct event_field {
    struct str name;
    enum event_value type;
    union {
        struct str s;
        double n;
        bool b;
        struct {
            const struct str *v;
            uint32_t n;
        } list; // strings; attributes only
    };
};

struct event_item {
    uint64_t id; // hash_id of text
    struct str text;
    int32_t position; // -1: none
};

struct event {
    enum event_kind kind;
    uint8_t action; // enum action or a configured one
    bool has_value;
    bool tombstone;
    int64_t ts;           // ms since the epoch
    uint64_t user;        // hash_id of user_text; 0 for item profiles
    struct str user_text; // "7" for 7
    uint64_t request;     // hash_id of request_text, 0 where there is none
    struct str request_text;
    uint64_t event_id; // hash_id of the event_id, 0 where there is none
    uint64_t watch_ms;
    double value;
    uint32_t n_items;  // 1, or more for an impression message with `items`
    uint32_t n_fields; // context or attributes
    const struct event_item *items;
    const struct event_field *fields; // in the order of the message; a name that comes twice is bad (json)
    struct str raw_fields;            // the JSON text of context or attributes, "" where absent

    // Where it came from, filled by the source.
    uint16_t part;       // index into the source's parts
    int64_t offset;      // of this message
    int64_t next_offset; // where the next one begins
    int64_t append_ms;   // the broker's append time; 0 unknown

    // For EVENT_BAD (and for profiles, whose bytes are kept): the message as it came.
    enum event_bad bad;
    char detail[160]; // what exactly is wrong, for the exception.message header
    struct str key;
    struct str raw;
    uint64_t cut_from; // how long it was, where `raw` is only its beginning; else 0
};

// Decodes one message. One decoder per thread; it owns the parser's buffers.
struct decoder;

struct decoder_options {
    const char *const *actions; // names by number, the built-in ones first
    uint32_t n_actions;
    int64_t max_future_ms; // an event further than this ahead of its append time is bad
};

enum decoder_kind { DECODER_EVENTS, DECODER_USERS, DECODER_ITEMS };

struct decoder *decoder_new(const struct decoder_options *options); // copies the names
void decoder_free(struct decoder *d);

// `message` must be followed by DECODER_PADDING readable bytes. `key` is the message's key (may be empty):
// a NULL payload (message.s == NULL) of a profile topic is a tombstone for the id in the key. Always fills
// *ret_event: an undecodable message is an event of kind EVENT_BAD. Arrays and unescaped strings are taken
// from `arena`; strings without escapes may point into `message`. Sets everything but the "where" fields.
// append_ms 0: the future is not checked.
enum { DECODER_PADDING = 64 };
void decoder_decode(struct decoder *d, enum decoder_kind kind, struct str key, struct str message,
                    int64_t append_ms, struct arena *arena, struct event *ret_event);

#endif
