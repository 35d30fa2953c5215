// SPDX-License-Identifier: Apache-2.0
// Promised: a number that is written reads back as the same, in no more digits than it takes, and as JSON;
// whole numbers have no exponent; what is not finite is null.
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/rng.h"

enum { N = 200000, TEXT = 64 };

static void text_of(struct buf *b, char *text)
{
    cr_assert(b->len < TEXT);
    memcpy(text, b->data, b->len);
    text[b->len] = '\0';
    buf_clear(b);
}

static void put_double(struct buf *b, double v, char *text)
{
    struct json j = json_to(b);
    json_double(&j, v);
    text_of(b, text);
}

static uint32_t digits(const char *text)
{
    uint32_t n = 0;
    for (; *text != '\0' && *text != 'e'; text++)
        if (*text >= '0' && *text <= '9' && (n > 0 || *text != '0'))
            n++;
    return n;
}

// The plain way: one digit more until it reads back.
static uint32_t digits_twin(double v)
{
    char text[TEXT];
    for (int n = 1; n < 17; n++) {
        snprintf(text, sizeof text, "%.*e", n - 1, v);
        if (strtod(text, NULL) == v)
            return (uint32_t)n;
    }
    return 17;
}

// JSON knows no 1., .1, +1, 01 nor 0x1.
static bool is_json_number(const char *s)
{
    s += *s == '-';
    if (*s == '0' ? s[1] >= '0' && s[1] <= '9' : *s < '1' || *s > '9')
        return false;
    s += strspn(s, "0123456789");
    if (*s == '.') {
        size_t n = strspn(++s, "0123456789");
        if (n == 0)
            return false;
        s += n;
    }
    if (*s == 'e') {
        s++;
        s += *s == '-' || *s == '+';
        size_t n = strspn(s, "0123456789");
        if (n == 0)
            return false;
        s += n;
    }
    return *s == '\0';
}

static void expect_double(struct buf *b, double v)
{
    char text[TEXT];
    put_double(b, v, text);
    double back = strtod(text, NULL);
    cr_expect(memcmp(&back, &v, sizeof v) == 0, "%.17g is written %s", v, text);
    cr_expect(is_json_number(text), "%s is no JSON", text);
    if (v != floor(v) || fabs(v) >= 1e15)
        cr_expect(digits(text) <= digits_twin(v), "%.17g is written %s", v, text);
}

Test(json, doubles_of_every_kind_read_back)
{
    struct rng rng = rng_of(4);
    struct buf b = {0};
    for (int i = 0; i < N; i++) {
        uint64_t bits = rng_u64(&rng);
        double v;
        memcpy(&v, &bits, sizeof v);
        if (isfinite(v))
            expect_double(&b, v);
        expect_double(&b, (double)(int64_t)(bits >> 40) / 1000);
        expect_double(&b, (double)(int64_t)(bits >> 20));
    }
    static const double edges[] = {0.0, -0.0, 5e-324, 1.7976931348623157e308, 1e15, 999999999999999,
                                   0.1, -0.5};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        expect_double(&b, edges[i]);
    buf_done(&b);
}

Test(json, floats_read_back)
{
    struct rng rng = rng_of(5);
    struct buf b = {0};
    for (int i = 0; i < N; i++) {
        uint32_t bits = (uint32_t)rng_u64(&rng);
        float v;
        char text[TEXT];
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v))
            continue;
        struct json j = json_to(&b);
        json_float(&j, v);
        text_of(&b, text);
        cr_expect(strtof(text, NULL) == v, "%.9g is written %s", (double)v, text);
        cr_expect(is_json_number(text), "%s is no JSON", text);
    }
    buf_done(&b);
}

Test(json, integers_are_as_printf_writes_them)
{
    struct rng rng = rng_of(6);
    struct buf b = {0};
    char text[TEXT];
    char wanted[TEXT];
    for (int i = 0; i < N; i++) {
        uint64_t v = rng_u64(&rng) >> (rng_u64(&rng) & 63);
        struct json j = json_to(&b);
        json_uint(&j, v);
        text_of(&b, text);
        snprintf(wanted, sizeof wanted, "%llu", (unsigned long long)v);
        cr_expect_str_eq(text, wanted);
        j = json_to(&b);
        json_int(&j, (int64_t)v);
        text_of(&b, text);
        snprintf(wanted, sizeof wanted, "%lld", (long long)v);
        cr_expect_str_eq(text, wanted);
    }
    buf_done(&b);
}

Test(json, plain_forms)
{
    struct buf b = {0};
    char text[TEXT];
    static const struct {
        double v;
        const char *text;
    } cases[] = {{100000, "100000"}, {-3, "-3"},   {0.25, "0.25"},        {1e300, "1e+300"},
                 {0, "0"},           {1.5, "1.5"}, {(double)NAN, "null"}, {(double)INFINITY, "null"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_double(&b, cases[i].v, text);
        cr_expect_str_eq(text, cases[i].text);
    }
    buf_done(&b);
}
