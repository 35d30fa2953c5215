// SPDX-License-Identifier: Apache-2.0
// Reads one JSON text (RFC 8259) token by token, strictly: whoever walks to parse_end without an error has
// seen a well-formed document. Internal to stream/.
//
// Every function that can find a malformed text returns -1, sets `wrong` (what is expected or not allowed)
// and `wrong_at` (byte), and leaves the reader of no further use.
#ifndef FRESHET_STREAM_PARSE_H
#define FRESHET_STREAM_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"

enum { PARSE_DEPTH = 64 }; // deepest nesting of a value that is skipped

// The index: where the tokens begin (stream/parse_index.cc).
struct parse_index;
struct parse_index *parse_index_new(size_t longest); // longest text in bytes
void parse_index_free(struct parse_index *x);

struct parse {
    const char *text;
    uint32_t len;
    const uint32_t *at; // begin of each token: { } [ ] : , a string, a number, a literal
    uint32_t n;
    uint32_t next; // the token to be read next, index into at
    bool fresh;    // an object or array was just opened
    bool escapes;  // there is a backslash somewhere
    struct arena *arena;
    const char *wrong;
    uint32_t wrong_at;
};

struct parse_decimal {
    struct str text;
    struct str fraction; // digits after the point
    uint64_t whole;      // digits before it
    bool negative;
    bool integer; // neither point nor exponent
    bool exponent;
    bool overflow; // `whole` is over UINT64_MAX
};

// Indexes the text; checks UTF-8, control characters in strings and that the last string is closed. Unescaped
// strings are put into `arena`.
int parse_begin(struct parse *p, struct parse_index *x, struct str text, struct arena *arena);
// Nothing may follow the value that was read.
int parse_end(struct parse *p);

// The first byte of the next token, '\0' at the end.
static inline char parse_peek(const struct parse *p)
{
    return p->next < p->n ? p->text[p->at[p->next]] : '\0';
}

// The text from token `first` up to the token to be read next, without the space between.
struct str parse_since(const struct parse *p, uint32_t first);

// After parse_open (at a '{' or '[') parse_member or parse_element gives 1 before each value, which must then
// be read, 0 after the last, when the closing bracket has been read.
void parse_open(struct parse *p);
int parse_member(struct parse *p, struct str *ret_name);
int parse_element(struct parse *p);

int parse_string(struct parse *p, struct str *ret_string);
int parse_number(struct parse *p, struct parse_decimal *ret_number);
int parse_bool(struct parse *p, bool *ret_bool);
int parse_null(struct parse *p);
int parse_skip(struct parse *p); // any value

// The nearest double. False: out of the range of doubles.
bool parse_decimal_double(const struct parse_decimal *number, double *ret_value);

// In stream/parse_index.cc. Returns NULL or what is wrong with the text.
const char *parse_index_build(struct parse_index *x, struct str text, const uint32_t **ret_at,
                              uint32_t *ret_n);
bool parse_utf8(struct str text);
bool parse_double(struct str text, double *ret_value);

#endif
