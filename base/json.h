// SPDX-License-Identifier: Apache-2.0
// Writes JSON into a buffer, commas and escapes included. Invalid UTF-8 becomes U+FFFD, NaN and infinities
// become null, so that what is written always parses. Doubles are written with 17 digits at most, the
// shortest that reads back the same.
#ifndef FRESHET_BASE_JSON_H
#define FRESHET_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

enum { JSON_DEPTH = 32 };

struct json {
    struct buf *out;
    uint32_t depth;
    bool comma;               // a value stands before the place where the next goes
    char closing[JSON_DEPTH]; // '}' or ']' by depth
};

static inline struct json json_to(struct buf *out)
{
    return (struct json){.out = out};
}

void json_object(struct json *j); // json_end closes it
void json_array(struct json *j);  // json_end closes it
void json_end(struct json *j);
void json_key(struct json *j, const char *key);
void json_key_n(struct json *j, const char *key, size_t n);
void json_string(struct json *j, const char *s); // NULL gives null
void json_string_n(struct json *j, const char *s, size_t n);
void json_str(struct json *j, struct str s);
void json_int(struct json *j, int64_t v);
void json_uint(struct json *j, uint64_t v);
void json_double(struct json *j, double v);
void json_float(struct json *j, float v); // 9 digits at most
void json_bool(struct json *j, bool v);
void json_null(struct json *j);
void json_raw(struct json *j, const char *s, size_t n); // a value that is JSON already
bool json_is_utf8(const char *s, size_t n);             // whether json_string_n would keep every byte

// A key and its value.
static inline void json_member_string(struct json *j, const char *key, const char *s)
{
    json_key(j, key);
    json_string(j, s);
}

static inline void json_member_int(struct json *j, const char *key, int64_t v)
{
    json_key(j, key);
    json_int(j, v);
}

static inline void json_member_uint(struct json *j, const char *key, uint64_t v)
{
    json_key(j, key);
    json_uint(j, v);
}

static inline void json_member_double(struct json *j, const char *key, double v)
{
    json_key(j, key);
    json_double(j, v);
}

#endif
