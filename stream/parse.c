// SPDX-License-Identifier: Apache-2.0
// A walk over the token index. The index gives the first byte of every token; the end of a string is found
// from the other side: between its closing quote and the next token there is nothing but white space, since
// anything else would be a token itself. So a string costs no scan, unless the text has a backslash anywhere.
// Numbers and literals are read byte by byte and must be followed by white space or punctuation, because a
// scalar that touches another one is a single token of the index.

#include "stream/parse.h"

#include <assert.h>
#include <string.h>

static int parse_wrong(struct parse *p, uint32_t at, const char *wrong)
{
    p->wrong = wrong;
    p->wrong_at = at;
    return -1;
}

static uint32_t parse_where(const struct parse *p)
{
    return p->next < p->n ? p->at[p->next] : p->len;
}

static int parse_expected(struct parse *p, const char *expected)
{
    return parse_wrong(p, parse_where(p), p->next < p->n ? expected : "it is cut off");
}

int parse_begin(struct parse *p, struct parse_index *x, struct str text, struct arena *arena)
{
    *p = (struct parse){.text = text.s, .len = text.len, .arena = arena};
    const char *wrong = text.len > 0 ? parse_index_build(x, text, &p->at, &p->n) : "empty";
    if (wrong != NULL)
        return parse_wrong(p, 0, wrong);
    p->escapes = memchr(text.s, '\\', text.len) != NULL;
    return 0;
}

int parse_end(struct parse *p)
{
    return p->next == p->n ? 0 : parse_wrong(p, parse_where(p), "nothing may follow the object");
}

static bool parse_is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

// One after the last byte before `end` that is no white space, not below `begin`.
static uint32_t parse_trim(const struct parse *p, uint32_t begin, uint32_t end)
{
    while (end > begin && parse_is_space(p->text[end - 1]))
        end--;
    return end;
}

struct str parse_since(const struct parse *p, uint32_t first)
{
    assert(first < p->n);
    uint32_t begin = p->at[first];
    return (struct str){p->text + begin, parse_trim(p, begin, parse_where(p)) - begin};
}

// ---- objects and arrays -----------------------------------------------------------------------------------

void parse_open(struct parse *p)
{
    assert(parse_peek(p) == '{' || parse_peek(p) == '[');
    p->next++;
    p->fresh = true;
}

// Moves past the comma before the next value, or past `closing`. 1: a value follows; 0: closed.
static int parse_step(struct parse *p, char closing)
{
    bool fresh = p->fresh;
    p->fresh = false;
    char c = parse_peek(p);
    if (c == closing) {
        p->next++;
        return 0;
    }
    if (fresh)
        return 1;
    if (c != ',')
        return parse_expected(p, closing == '}' ? "expected , or }" : "expected , or ]");
    p->next++;
    return 1;
}

int parse_member(struct parse *p, struct str *ret_name)
{
    int more = parse_step(p, '}');
    if (more <= 0)
        return more;
    if (parse_peek(p) != '"')
        return parse_expected(p, "expected a name in quotes");
    if (parse_string(p, ret_name) < 0)
        return -1;
    if (parse_peek(p) != ':')
        return parse_expected(p, "expected :");
    p->next++;
    return 1;
}

int parse_element(struct parse *p)
{
    return parse_step(p, ']');
}

// ---- strings ----------------------------------------------------------------------------------------------

static int parse_hex4(const char *s, const char *end)
{
    if (end - s < 4)
        return -1;
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        int digit = c >= '0' && c <= '9'                 ? c - '0'
                    : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                         : -1;
        if (digit < 0)
            return -1;
        v = v << 4 | digit;
    }
    return v;
}

static char *parse_put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *to++ = (char)(0xe0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    } else {
        *to++ = (char)(0xf0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 0x3f));
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    }
    return to;
}

// \uXXXX, or a pair of surrogates; s stands after the u. Returns the place after it, or NULL.
static const char *parse_unicode(const char *s, const char *end, char **to)
{
    int c = parse_hex4(s, end);
    s += 4;
    if (c < 0 || (c >= 0xdc00 && c <= 0xdfff))
        return NULL;
    if (c >= 0xd800 && c <= 0xdbff) {
        if (end - s < 6 || s[0] != '\\' || s[1] != 'u')
            return NULL;
        int low = parse_hex4(s + 2, end);
        if (low < 0xdc00 || low > 0xdfff)
            return NULL;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        s += 6;
    }
    *to = parse_put_utf8(*to, (uint32_t)c);
    return s;
}

// One escape; s stands after the backslash.
static const char *parse_escape(const char *s, const char *end, char **to)
{
    static const char from[] = "\"\\/bfnrt";
    static const char into[] = "\"\\/\b\f\n\r\t";
    if (s == end)
        return NULL;
    if (*s == 'u')
        return parse_unicode(s + 1, end, to);
    const char *found = memchr(from, *s, sizeof from - 1);
    if (found == NULL)
        return NULL;
    *(*to)++ = into[found - from];
    return s + 1;
}

static int parse_unescape(struct parse *p, struct str raw, struct str *ret_string)
{
    char *copy = arena_alloc(p->arena, raw.len, 1);
    char *to = copy;
    const char *s = raw.s;
    const char *const end = raw.s + raw.len;
    while (s < end) {
        const char *stop = memchr(s, '\\', (size_t)(end - s));
        size_t plain = (size_t)((stop != NULL ? stop : end) - s);
        memcpy(to, s, plain);
        to += plain;
        if (stop == NULL)
            break;
        s = parse_escape(stop + 1, end, &to);
        if (s == NULL)
            return parse_wrong(p, (uint32_t)(stop - p->text), "no such escape");
    }
    *ret_string = (struct str){copy, (uint32_t)(to - copy)};
    return 0;
}

int parse_string(struct parse *p, struct str *ret_string)
{
    assert(parse_peek(p) == '"');
    uint32_t begin = p->at[p->next] + 1;
    p->next++;
    uint32_t end = parse_trim(p, begin, parse_where(p));
    if (end == begin || p->text[end - 1] != '"')
        return parse_wrong(p, begin - 1, "a string does not end");
    struct str raw = {p->text + begin, end - 1 - begin};
    if (p->escapes && memchr(raw.s, '\\', raw.len) != NULL)
        return parse_unescape(p, raw, ret_string);
    *ret_string = raw;
    return 0;
}

// ---- numbers and literals ---------------------------------------------------------------------------------

static bool parse_ends_scalar(const char *s, const char *end)
{
    return s == end || parse_is_space(*s) || *s == ',' || *s == '}' || *s == ']';
}

static bool parse_is_digit(const char *s, const char *end)
{
    return s < end && (unsigned)(*s - '0') < 10;
}

static const char *parse_digits(const char *s, const char *end)
{
    while (parse_is_digit(s, end))
        s++;
    return s;
}

// 20 digits may be too many for 64 bits, more are.
static const char *parse_whole(const char *s, const char *end, struct parse_decimal *n)
{
    const char *begin = s;
    uint64_t whole = 0;
    uint64_t before = 0;
    for (; parse_is_digit(s, end); s++) {
        before = whole;
        whole = whole * 10 + (uint64_t)(*s - '0');
    }
    n->whole = whole;
    n->overflow = s - begin > 20 || (s - begin == 20 && (before > UINT64_MAX / 10 || whole < before));
    return s;
}

// Returns the end of the number at s, NULL if it is none.
static const char *parse_number_scan(const char *s, const char *end, struct parse_decimal *n)
{
    n->negative = *s == '-';
    s += n->negative;
    if (!parse_is_digit(s, end) || (*s == '0' && parse_is_digit(s + 1, end)))
        return NULL;
    s = parse_whole(s, end, n);
    n->integer = true;
    if (s < end && *s == '.') {
        n->integer = false;
        n->fraction.s = s + 1;
        s = parse_digits(s + 1, end);
        n->fraction.len = (uint32_t)(s - n->fraction.s);
        if (n->fraction.len == 0)
            return NULL;
    }
    if (s < end && (*s | 32) == 'e') {
        n->integer = false;
        n->exponent = true;
        s++;
        s += s < end && (*s == '+' || *s == '-');
        if (!parse_is_digit(s, end))
            return NULL;
        s = parse_digits(s, end);
    }
    return s;
}

int parse_number(struct parse *p, struct parse_decimal *ret_number)
{
    uint32_t at = parse_where(p);
    const char *s = p->text + at;
    const char *limit = p->text + p->len;
    assert(*s == '-' || parse_is_digit(s, limit));
    struct parse_decimal n = {0};
    const char *end = parse_number_scan(s, limit, &n);
    if (end == NULL || !parse_ends_scalar(end, limit))
        return parse_wrong(p, at, "not a number");
    n.text = (struct str){s, (uint32_t)(end - s)};
    *ret_number = n;
    p->next++;
    return 0;
}

// Up to 15 digits without an exponent are exact: two integers below 2^53, divided once.
bool parse_decimal_double(const struct parse_decimal *number, double *ret_value)
{
    static const double tens[] = {1,   1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    if (number->exponent || number->text.len > 16)
        return parse_double(number->text, ret_value);
    uint64_t digits = number->whole;
    for (uint32_t i = 0; i < number->fraction.len; i++)
        digits = digits * 10 + (uint64_t)(number->fraction.s[i] - '0');
    if (digits >= UINT64_C(1) << 53)
        return parse_double(number->text, ret_value);
    double value = (double)digits / tens[number->fraction.len];
    *ret_value = number->negative ? -value : value;
    return true;
}

static int parse_literal(struct parse *p, const char *word, uint32_t n)
{
    uint32_t at = parse_where(p);
    const char *s = p->text + at;
    if (p->len - at < n || memcmp(s, word, n) != 0 || !parse_ends_scalar(s + n, p->text + p->len))
        return parse_wrong(p, at, "not a value");
    p->next++;
    return 0;
}

int parse_bool(struct parse *p, bool *ret_bool)
{
    bool is = parse_peek(p) == 't';
    if (parse_literal(p, is ? "true" : "false", is ? 4 : 5) < 0)
        return -1;
    *ret_bool = is;
    return 0;
}

int parse_null(struct parse *p)
{
    return parse_literal(p, "null", 4);
}

// ---- any value --------------------------------------------------------------------------------------------

static int parse_skip_scalar(struct parse *p)
{
    struct str string;
    struct parse_decimal number;
    bool truth;
    char c = parse_peek(p);
    switch (c) {
    case '"':
        return parse_string(p, &string);
    case 't':
    case 'f':
        return parse_bool(p, &truth);
    case 'n':
        return parse_null(p);
    default:
        if (c == '-' || (c >= '0' && c <= '9'))
            return parse_number(p, &number);
        return parse_expected(p, "expected a value");
    }
}

int parse_skip(struct parse *p)
{
    uint64_t objects = 0; // one bit for each open bracket, the innermost lowest: 1 for an object
    uint32_t depth = 0;
    struct str name;
    do {
        int more = depth == 0 ? 1 : objects & 1 ? parse_member(p, &name) : parse_element(p);
        char c = parse_peek(p);
        if (more < 0)
            return -1;
        if (more == 0) {
            objects >>= 1;
            depth--;
        } else if (c == '{' || c == '[') {
            if (depth == PARSE_DEPTH)
                return parse_wrong(p, parse_where(p), "nested too deeply");
            parse_open(p);
            objects = objects << 1 | (c == '{');
            depth++;
        } else if (parse_skip_scalar(p) < 0) {
            return -1;
        }
    } while (depth > 0);
    return 0;
}
