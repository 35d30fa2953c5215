// SPDX-License-Identifier: Apache-2.0
#include "daemon/http_chunks.h"

enum { CHUNK_DIGITS_MAX = 12 };

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void size_end(struct http_chunks *c)
{
    c->digits = 0;
    c->at = c->left > 0 ? CHUNK_DATA : CHUNK_END;
}

// One byte of a size line, or of the line's end behind the data. -1: malformed.
static int line_byte(struct http_chunks *c, char byte)
{
    int digit = hex(byte);
    switch (c->at) {
    case CHUNK_SIZE:
        if (digit >= 0 && c->digits < CHUNK_DIGITS_MAX) {
            c->left = c->left * 16 + (uint64_t)digit;
            c->digits++;
            return 0;
        }
        if (c->digits == 0 || (byte != ';' && byte != '\r' && byte != '\n' && byte != ' '))
            return -1;
        c->at = CHUNK_EXTENSION;
        if (byte == '\n')
            size_end(c);
        return 0;
    case CHUNK_EXTENSION:
        if (byte == '\n')
            size_end(c);
        return 0;
    case CHUNK_AFTER:
        if (byte == '\n')
            c->at = CHUNK_SIZE;
        return byte == '\n' || byte == '\r' ? 0 : -1;
    case CHUNK_DATA:
    case CHUNK_END:
        break;
    }
    return 0;
}

int http_chunks_decode(struct http_chunks *c, struct str bytes, struct buf *to)
{
    for (uint32_t i = 0; i < bytes.len && c->at != CHUNK_END;) {
        if (c->at != CHUNK_DATA) {
            if (line_byte(c, bytes.s[i++]) != 0)
                return -1;
            continue;
        }
        uint32_t n = bytes.len - i < c->left ? bytes.len - i : (uint32_t)c->left;
        buf_put(to, bytes.s + i, n);
        i += n;
        c->left -= n;
        if (c->left == 0)
            c->at = CHUNK_AFTER;
    }
    return c->at == CHUNK_END ? 0 : 1;
}
