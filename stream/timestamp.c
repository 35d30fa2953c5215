// SPDX-License-Identifier: Apache-2.0
// Seconds with a fraction are read from their decimal digits: a double of 1767225600.123 is not that number,
// and cutting it to ms would lose one of them every so often.

#include "stream/timestamp.h"

#include <math.h>

static bool timestamp_in_range(int64_t ms, int64_t *ret_ms)
{
    if (ms < 0 || ms >= TIMESTAMP_END)
        return false;
    *ret_ms = ms;
    return true;
}

// The first three digits after the point.
static int64_t timestamp_fraction_ms(struct str digits)
{
    int64_t ms = 0;
    for (uint32_t i = 0; i < 3; i++)
        ms = ms * 10 + (i < digits.len ? digits.s[i] - '0' : 0);
    return ms;
}

int64_t timestamp_ms(double value)
{
    // Half a microsecond makes up for what the double of a decimal fraction is too small by.
    return (int64_t)(fabs(value) < TIMESTAMP_SECONDS_BELOW ? floor(value * 1000 + 5e-4) : floor(value));
}

static bool timestamp_of_double(const struct parse_decimal *number, int64_t *ret_ms)
{
    double value;
    return parse_decimal_double(number, &value) && fabs(value) < 1e15 &&
           timestamp_in_range(timestamp_ms(value), ret_ms);
}

bool timestamp_of_number(const struct parse_decimal *number, int64_t *ret_ms)
{
    if (number->exponent)
        return timestamp_of_double(number, ret_ms);
    if (number->overflow || number->negative || number->whole >= (uint64_t)TIMESTAMP_END)
        return false;
    int64_t ms = (int64_t)number->whole;
    if (number->whole < (uint64_t)TIMESTAMP_SECONDS_BELOW)
        ms = ms * 1000 + timestamp_fraction_ms(number->fraction);
    return timestamp_in_range(ms, ret_ms);
}

// ---- RFC 3339 ---------------------------------------------------------------------------------------------

// Days from 1970-01-01 in the proleptic Gregorian calendar, counted in years that begin in March.
static int64_t timestamp_days(int year, int month, int day)
{
    int64_t y = year - (month <= 2);
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int64_t era = y / 400;
    int64_t year_of_era = y - era * 400;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static int timestamp_days_of_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

// Takes `n` digits off the front; -1 if they are not there.
static int timestamp_digits(struct str *text, uint32_t n)
{
    if (text->len < n)
        return -1;
    int v = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (text->s[i] < '0' || text->s[i] > '9')
            return -1;
        v = v * 10 + (text->s[i] - '0');
    }
    text->s += n;
    text->len -= n;
    return v;
}

static bool timestamp_take(struct str *text, const char *any_of)
{
    if (text->len == 0 || text->s[0] == '\0' || strchr(any_of, text->s[0]) == NULL)
        return false;
    text->s++;
    text->len--;
    return true;
}

static bool timestamp_date(struct str *text, int64_t *ret_days)
{
    int year = timestamp_digits(text, 4);
    if (year < 0 || !timestamp_take(text, "-"))
        return false;
    int month = timestamp_digits(text, 2);
    if (month < 1 || month > 12 || !timestamp_take(text, "-"))
        return false;
    int day = timestamp_digits(text, 2);
    if (day < 1 || day > timestamp_days_of_month(year, month))
        return false;
    *ret_days = timestamp_days(year, month, day);
    return true;
}

static bool timestamp_hours_minutes(struct str *text, int64_t *ret_minutes)
{
    int hours = timestamp_digits(text, 2);
    if (hours < 0 || hours > 23 || !timestamp_take(text, ":"))
        return false;
    int minutes = timestamp_digits(text, 2);
    if (minutes < 0 || minutes > 59)
        return false;
    *ret_minutes = INT64_C(60) * hours + minutes;
    return true;
}

// Seconds and their fraction, in ms.
static bool timestamp_seconds(struct str *text, int64_t *ret_ms)
{
    int seconds = timestamp_digits(text, 2);
    if (seconds < 0 || seconds > 60)
        return false;
    struct str fraction = {text->s, 0};
    if (timestamp_take(text, ".")) {
        fraction.s = text->s;
        while (timestamp_digits(text, 1) >= 0)
            fraction.len++;
        if (fraction.len == 0)
            return false;
    }
    *ret_ms = INT64_C(1000) * seconds + timestamp_fraction_ms(fraction);
    return true;
}

// Minutes to take off.
static bool timestamp_offset(struct str *text, int64_t *ret_minutes)
{
    *ret_minutes = 0;
    if (timestamp_take(text, "Zz"))
        return true;
    bool west = text->len > 0 && text->s[0] == '-';
    if (!timestamp_take(text, "+-") || !timestamp_hours_minutes(text, ret_minutes))
        return false;
    if (west)
        *ret_minutes = -*ret_minutes;
    return true;
}

bool timestamp_of_text(struct str text, int64_t *ret_ms)
{
    int64_t days;
    int64_t minutes;
    int64_t ms;
    int64_t offset;
    if (!timestamp_date(&text, &days) || !timestamp_take(&text, "Tt ") ||
        !timestamp_hours_minutes(&text, &minutes) || !timestamp_take(&text, ":") ||
        !timestamp_seconds(&text, &ms) || !timestamp_offset(&text, &offset) || text.len != 0)
        return false;
    return timestamp_in_range((days * 1440 + minutes - offset) * 60000 + ms, ret_ms);
}
