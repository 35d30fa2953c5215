// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <assert.h>
#include <math.h>

#include "base/number.h"

static void json_before_value(struct json *j)
{
    if (j->comma)
        buf_put_u8(j->out, ',');
    j->comma = true;
}

static void json_open(struct json *j, char open, char close)
{
    json_before_value(j);
    assert(j->depth < JSON_DEPTH);
    j->closing[j->depth++] = close;
    buf_put_u8(j->out, (uint8_t)open);
    j->comma = false;
}

void json_object(struct json *j)
{
    json_open(j, '{', '}');
}

void json_array(struct json *j)
{
    json_open(j, '[', ']');
}

void json_end(struct json *j)
{
    assert(j->depth > 0);
    buf_put_u8(j->out, (uint8_t)j->closing[--j->depth]);
    j->comma = true;
}

// Bytes of the UTF-8 sequence at p, or 0 if it is malformed (overlong and surrogates included).
static size_t json_utf8(const uint8_t *p, size_t n)
{
    if (p[0] < 0x80)
        return 1;
    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool bad = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
               (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f);
    return bad ? 0 : len;
}

bool json_is_utf8(const char *s, size_t n)
{
    const uint8_t *p = (const uint8_t *)s;
    for (size_t i = 0, len; i < n; i += len) {
        len = json_utf8(p + i, n - i);
        if (len == 0)
            return false;
    }
    return true;
}

static void json_escape(struct buf *out, uint8_t c)
{
    static const char *const names = "btn fr"; // for 8, 9, 10, -, 12, 13
    if (c == '"' || c == '\\') {
        buf_put_u8(out, '\\');
        buf_put_u8(out, c);
    } else if (c >= 8 && c <= 13 && c != 11) {
        buf_put_u8(out, '\\');
        buf_put_u8(out, (uint8_t)names[c - 8]);
    } else {
        buf_printf(out, "\\u%04x", c);
    }
}

static void json_quoted(struct buf *out, const char *s, size_t n)
{
    const uint8_t *p = (const uint8_t *)s;
    buf_put_u8(out, '"');
    for (size_t i = 0; i < n;) {
        size_t plain = i;
        while (plain < n && p[plain] >= 0x20 && p[plain] < 0x80 && p[plain] != '"' && p[plain] != '\\')
            plain++;
        buf_put(out, p + i, plain - i);
        i = plain;
        if (i == n)
            break;
        if (p[i] < 0x80) {
            json_escape(out, p[i++]);
            continue;
        }
        size_t len = json_utf8(p + i, n - i);
        buf_put(out, len > 0 ? p + i : (const uint8_t *)"\xef\xbf\xbd", len > 0 ? len : 3);
        i += len > 0 ? len : 1;
    }
    buf_put_u8(out, '"');
}

void json_key_n(struct json *j, const char *key, size_t n)
{
    json_before_value(j);
    json_quoted(j->out, key, n);
    buf_put_u8(j->out, ':');
    j->comma = false;
}

void json_key(struct json *j, const char *key)
{
    json_key_n(j, key, strlen(key));
}

void json_string_n(struct json *j, const char *s, size_t n)
{
    json_before_value(j);
    json_quoted(j->out, s, n);
}

void json_string(struct json *j, const char *s)
{
    if (s == NULL)
        json_null(j);
    else
        json_string_n(j, s, strlen(s));
}

void json_str(struct json *j, struct str s)
{
    json_string_n(j, s.s, s.len);
}

void json_int(struct json *j, int64_t v)
{
    json_before_value(j);
    j->out->len += number_put_int(v, (char *)buf_reserve(j->out, NUMBER_TEXT));
}

void json_uint(struct json *j, uint64_t v)
{
    json_before_value(j);
    j->out->len += number_put_uint(v, (char *)buf_reserve(j->out, NUMBER_TEXT));
}

void json_double(struct json *j, double v)
{
    if (!isfinite(v)) {
        json_null(j);
        return;
    }
    json_before_value(j);
    j->out->len += number_put_double(v, (char *)buf_reserve(j->out, NUMBER_TEXT));
}

void json_float(struct json *j, float v)
{
    if (!isfinite(v)) {
        json_null(j);
        return;
    }
    json_before_value(j);
    j->out->len += number_put_float(v, (char *)buf_reserve(j->out, NUMBER_TEXT));
}

void json_bool(struct json *j, bool v)
{
    json_raw(j, v ? "true" : "false", v ? 4 : 5);
}

void json_null(struct json *j)
{
    json_raw(j, "null", 4);
}

void json_raw(struct json *j, const char *s, size_t n)
{
    json_before_value(j);
    buf_put(j->out, s, n);
}
