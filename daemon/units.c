// SPDX-License-Identifier: Apache-2.0
// A number with a unit is digits, perhaps a fraction, and a suffix. It is computed in whole numbers:
// (all digits) * factor / 10^(digits of the fraction), which must come out even, so that 0.1s is exactly 100
// ms and 0.0001s is refused instead of rounded.
#include "daemon/units.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *suffix;
    uint64_t factor;
};

static const struct unit units_duration[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0},
};
static const struct unit units_count[] = {
    {"G", 1000000000}, {"M", 1000000}, {"k", 1000}, {"", 1}, {NULL, 0},
};
static const struct unit units_size[] = {
    {"TiB", UINT64_C(1) << 40},
    {"GiB", 1 << 30},
    {"MiB", 1 << 20},
    {"KiB", 1 << 10},
    {"TB", UINT64_C(1000000000000)},
    {"GB", 1000000000},
    {"MB", 1000000},
    {"KB", 1000},
    {"kB", 1000},
    {"B", 1},
    {"", 1},
    {NULL, 0},
};

// Appends a digit to *n; false when it does not fit.
static bool digit_append(uint64_t *n, char c)
{
    return !__builtin_mul_overflow(*n, 10, n) && !__builtin_add_overflow(*n, (uint64_t)(c - '0'), n);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const struct unit *unit_find(const struct unit *units, const char *suffix)
{
    for (const struct unit *u = units; u->suffix != NULL; u++)
        if (strcmp(u->suffix, suffix) == 0)
            return u;
    return NULL;
}

static int units_parse(const struct unit *units, const char *text, uint64_t *ret)
{
    const char *p = text;
    uint64_t digits = 0;
    uint64_t divisor = 1;
    if (!is_digit(*p))
        return -1;
    for (; is_digit(*p); p++)
        if (!digit_append(&digits, *p))
            return -1;
    if (*p == '.' && is_digit(p[1])) {
        for (p++; is_digit(*p); p++)
            if (!digit_append(&digits, *p) || __builtin_mul_overflow(divisor, 10, &divisor))
                return -1;
    }
    const struct unit *u = unit_find(units, p);
    unsigned __int128 value = (unsigned __int128)digits * (u != NULL ? u->factor : 0);
    if (u == NULL || value % divisor != 0 || value / divisor > UINT64_MAX)
        return -1;
    *ret = (uint64_t)(value / divisor);
    return 0;
}

static const char *units_format(const struct unit *units, uint64_t n, char text[UNITS_TEXT])
{
    const struct unit *u = units;
    while (u->factor > 1 && (n == 0 || n % u->factor != 0))
        u++;
    snprintf(text, UNITS_TEXT, "%" PRIu64 "%s", n / u->factor, u->suffix);
    return text;
}

int units_parse_duration(const char *text, int64_t *ret_ms)
{
    uint64_t ms = 0;
    if (strcmp(text, "0") != 0 && units_parse(units_duration, text, &ms) < 0)
        return -1;
    if (ms > INT64_MAX)
        return -1;
    *ret_ms = (int64_t)ms;
    return 0;
}

int units_parse_count(const char *text, uint64_t *ret_count)
{
    return units_parse(units_count, text, ret_count);
}

int units_parse_size(const char *text, uint64_t *ret_bytes)
{
    return units_parse(units_size, text, ret_bytes);
}

int units_parse_number(const char *text, double *ret_number)
{
    if (*text == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0')
        return -1;
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(v))
        return -1;
    *ret_number = v;
    return 0;
}

const char *units_format_duration(int64_t ms, char text[UNITS_TEXT])
{
    return ms == 0 ? memcpy(text, "0s", sizeof "0s") : units_format(units_duration, (uint64_t)ms, text);
}

const char *units_format_count(uint64_t count, char text[UNITS_TEXT])
{
    return units_format(units_count, count, text);
}

const char *units_format_size(uint64_t bytes, char text[UNITS_TEXT])
{
    return units_format(units_size, bytes, text);
}
