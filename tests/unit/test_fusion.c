// SPDX-License-Identifier: Apache-2.0
// The expression that fuses heads: values against the same in C, and errors at their column.
#include "daemon/fusion.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {"click", "watch", "like", "log"};
enum { NAMES = sizeof names / sizeof *names };

static double value(const char *text, const double *heads)
{
    struct arena arena = {0};
    const struct fusion *f = NULL;
    struct err err = {0};
    cr_assert_eq(fusion_parse(&arena, text, NAMES, names, &f, &err), 0, "%s: %s", text, err.message);
    const double v = fusion_value(f, heads);
    arena_done(&arena);
    return v;
}

Test(fusion, values)
{
    const double h[NAMES] = {0.25, 30, 0.125, 7};
    const struct {
        const char *text;
        double value;
    } cases[] = {
        {"click", h[0]},
        {" 2 ", 2},
        {"1 + 2 * 3", 7},
        {"(1 + 2) * 3", 9},
        {"8 - 3 - 2", 3},
        {"8 / 4 / 2", 1},
        {"2 ^ 3 ^ 2", 512},
        {"-2 ^ 2", -4},
        {"2 ^ -1", 0.5},
        {"2 * -3", -6},
        {"--3", 3},
        {"1e3 + .5", 1000.5},
        {"click^1.0 * (1 + watch)^0.5 * like^0.2", h[0] * sqrt(1 + h[1]) * pow(h[2], 0.2)},
        {"log(watch) + exp(click)", log(h[1]) + exp(h[0])},
        {"log", h[3]}, // a head; a function where "(" follows
        {"log(log)", log(h[3])},
        {"min(3, 1, 2) + max(click, like)", 1 + h[0]},
        {"max(1, min(click, 2), 0.5)", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect_float_eq(value(cases[i].text, h), cases[i].value, 1e-12, "%s", cases[i].text);
    cr_expect(isinf(value("1 / (click - click)", h)) && isnan(value("log(-1)", h)));
}

Test(fusion, errors_name_the_column)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "column 1: it ends where a value is expected"},
        {"click *", "column 8: it ends where a value is expected"},
        {"click * lik^2", "column 9: no head or function \"lik\"; did you mean \"like\"?"},
        {"click like", "column 7: \"l\" where an operator or the end is expected"},
        {"(click + 1", "column 11: \")\" is missing, for that of column 1"},
        {"click + * 2", "column 9: \"*\" where a value is expected"},
        {"min(click)", "column 4: min takes two or more, not 1"},
        {"exp(1, 2)", "column 4: exp takes one value, not 2"},
        {"sin(click)", "column 1: no head or function \"sin\"; "},
        {"click(1)", "column 1: no head or function \"click\"; "},
        {"1 + )", "column 5: \")\" where a value is expected"},
        {"1e999", "column 1: this is no number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena arena = {0};
        const struct fusion *f;
        struct err err = {0};
        cr_assert_lt(fusion_parse(&arena, cases[i].text, NAMES, names, &f, &err), 0, "%s", cases[i].text);
        cr_expect_eq(strncmp(err.message, cases[i].message, strlen(cases[i].message)), 0, "%s: %s",
                     cases[i].text, err.message);
        arena_done(&arena);
    }
}

static void fails(const char *text)
{
    struct arena arena = {0};
    const struct fusion *f;
    struct err err = {0};
    cr_expect_lt(fusion_parse(&arena, text, NAMES, names, &f, &err), 0);
    arena_done(&arena);
}

// However long or deep: an error, not a crash.
Test(fusion, bounds)
{
    char text[4001];
    memset(text, '(', 4000);
    text[4000] = '\0';
    fails(text);
    memset(text, '-', 4000);
    fails(text);
    for (size_t i = 0; i < 4000; i++)
        text[i] = i % 2 == 0 ? '1' : '+';
    fails(text);
    for (size_t i = 0; i < 4000; i++)
        text[i] = i % 2 == 0 ? '2' : '^';
    fails(text);
}
