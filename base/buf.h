// SPDX-License-Identifier: Apache-2.0
// A growing byte buffer, and a reader over bytes that never runs past their end. Numbers are little-endian;
// `varint` is LEB128 of at most 10 bytes; `be` puts big-endian, for keys whose byte order is their order.
#ifndef FRESHET_BASE_BUF_H
#define FRESHET_BASE_BUF_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/str.h"

struct buf {
    uint8_t *data;
    size_t len;
    size_t cap;
};

void buf_done(struct buf *b); // frees; the buffer is empty and usable after it
void buf_reserve_slow(struct buf *b, size_t n);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static inline void buf_clear(struct buf *b)
{
    b->len = 0;
}

// Its bytes, until it is changed; at most 4 GiB of them.
static inline struct str buf_str(const struct buf *b)
{
    return (struct str){(const char *)b->data, (uint32_t)b->len};
}

// Room for n more bytes; returns where they go. The length is not changed.
static inline uint8_t *buf_reserve(struct buf *b, size_t n)
{
    if (b->cap - b->len < n)
        buf_reserve_slow(b, n);
    return b->data + b->len;
}

static inline void buf_put(struct buf *b, const void *p, size_t n)
{
    uint8_t *to = buf_reserve(b, n);
    if (n > 0)
        memcpy(to, p, n);
    b->len += n;
}

static inline void buf_put_u8(struct buf *b, uint8_t v)
{
    *buf_reserve(b, 1) = v;
    b->len += 1;
}

static inline void buf_put_u16(struct buf *b, uint16_t v)
{
    buf_put(b, &v, sizeof v);
}

static inline void buf_put_u32(struct buf *b, uint32_t v)
{
    buf_put(b, &v, sizeof v);
}

static inline void buf_put_u64(struct buf *b, uint64_t v)
{
    buf_put(b, &v, sizeof v);
}

static inline void buf_put_f32(struct buf *b, float v)
{
    buf_put(b, &v, sizeof v);
}

static inline void buf_put_f64(struct buf *b, double v)
{
    buf_put(b, &v, sizeof v);
}

static inline void buf_put_be16(struct buf *b, uint16_t v)
{
    v = __builtin_bswap16(v);
    buf_put(b, &v, sizeof v);
}

static inline void buf_put_be64(struct buf *b, uint64_t v)
{
    v = __builtin_bswap64(v);
    buf_put(b, &v, sizeof v);
}

static inline void buf_put_varint(struct buf *b, uint64_t v)
{
    uint8_t *to = buf_reserve(b, 10);
    size_t n = 0;
    while (v >= 0x80) {
        to[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    to[n++] = (uint8_t)v;
    b->len += n;
}

// Signed values near zero stay short.
static inline void buf_put_zigzag(struct buf *b, int64_t v)
{
    buf_put_varint(b, ((uint64_t)v << 1) ^ (uint64_t)(v >> 63));
}

// varint length, then the bytes.
static inline void buf_put_str(struct buf *b, struct str s)
{
    buf_put_varint(b, s.len);
    buf_put(b, s.s, s.len);
}

// A reader. After any read past the end or of a malformed varint `bad` is set, every further read gives
// zero, and rd_left is 0: check `bad` once at the end.
struct rd {
    const uint8_t *p;
    const uint8_t *end;
    bool bad;
};

static inline struct rd rd_of(const void *p, size_t n)
{
    assert(p != NULL || n == 0);
    return (struct rd){(const uint8_t *)p, (const uint8_t *)p + n, false};
}

static inline size_t rd_left(const struct rd *r)
{
    assert(r->p != NULL || r->end == NULL);
    return (size_t)(r->end - r->p);
}

// n bytes in place, or NULL at the end.
static inline const uint8_t *rd_bytes(struct rd *r, size_t n)
{
    if (rd_left(r) < n) {
        r->bad = true;
        r->p = r->end;
        return NULL;
    }
    const uint8_t *p = r->p;
    r->p += n;
    return p;
}

static inline uint8_t rd_u8(struct rd *r)
{
    const uint8_t *p = rd_bytes(r, 1);
    return p ? *p : 0;
}

static inline uint16_t rd_u16(struct rd *r)
{
    uint16_t v = 0;
    const uint8_t *p = rd_bytes(r, sizeof v);
    if (p)
        memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t rd_u32(struct rd *r)
{
    uint32_t v = 0;
    const uint8_t *p = rd_bytes(r, sizeof v);
    if (p)
        memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t rd_u64(struct rd *r)
{
    uint64_t v = 0;
    const uint8_t *p = rd_bytes(r, sizeof v);
    if (p)
        memcpy(&v, p, sizeof v);
    return v;
}

static inline float rd_f32(struct rd *r)
{
    float v = 0;
    const uint8_t *p = rd_bytes(r, sizeof v);
    if (p)
        memcpy(&v, p, sizeof v);
    return v;
}

static inline double rd_f64(struct rd *r)
{
    double v = 0;
    const uint8_t *p = rd_bytes(r, sizeof v);
    if (p)
        memcpy(&v, p, sizeof v);
    return v;
}

static inline uint16_t rd_be16(struct rd *r)
{
    return __builtin_bswap16(rd_u16(r));
}

static inline uint32_t rd_be32(struct rd *r)
{
    return __builtin_bswap32(rd_u32(r));
}

static inline uint64_t rd_be64(struct rd *r)
{
    return __builtin_bswap64(rd_u64(r));
}

static inline uint64_t rd_varint(struct rd *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (r->p == r->end)
            break;
        uint8_t byte = *r->p++;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return v;
    }
    r->bad = true;
    r->p = r->end;
    return 0;
}

static inline int64_t rd_zigzag(struct rd *r)
{
    uint64_t v = rd_varint(r);
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static inline struct str rd_str(struct rd *r)
{
    uint64_t n = rd_varint(r);
    if (n > rd_left(r)) {
        r->bad = true;
        r->p = r->end;
        return (struct str){NULL, 0};
    }
    const uint8_t *p = rd_bytes(r, (size_t)n);
    return (struct str){(const char *)p, (uint32_t)n};
}

#endif
