// SPDX-License-Identifier: Apache-2.0
// Promised: what is formatted parses back to the same number; the forms of the header parse to what they say;
// anything else is refused and leaves the result alone.
#include <criterion/criterion.h>
#include <inttypes.h>

#include "base/rng.h"
#include "daemon/units.h"

Test(units, durations)
{
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"500ms", 500},
        {"5s", 5000},
        {"10m", 600000},
        {"1h", 3600000},
        {"30d", INT64_C(2592000000)},
        {"0", 0},
        {"0s", 0},
        {"1.5h", 5400000},
        {"0.1s", 100},
        {"0.001s", 1},
        {"90m", 5400000},
        {"106751991167d", INT64_C(9223372036828800000)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ms = -1;
        cr_expect_eq(units_parse_duration(cases[i].text, &ms), 0, "%s", cases[i].text);
        cr_expect_eq(ms, cases[i].ms, "%s: %" PRId64, cases[i].text, ms);
    }
}

Test(units, counts_and_sizes)
{
    static const struct {
        const char *text;
        uint64_t value;
    } counts[] = {{"1000", 1000},
                  {"100k", 100000},
                  {"1M", 1000000},
                  {"1G", 1000000000},
                  {"2.5M", 2500000},
                  {"0", 0},
                  {"18446744073709551615", UINT64_MAX}},
      sizes[] = {{"4096", 4096},    {"64MB", 64000000}, {"1GiB", 1 << 30}, {"1KB", 1000},
                 {"1kB", 1000},     {"1KiB", 1024},     {"7B", 7},         {"2TiB", UINT64_C(2) << 40},
                 {"0.5MiB", 524288}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        uint64_t v = 77;
        cr_expect_eq(units_parse_count(counts[i].text, &v), 0, "%s", counts[i].text);
        cr_expect_eq(v, counts[i].value, "%s: %" PRIu64, counts[i].text, v);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t v = 77;
        cr_expect_eq(units_parse_size(sizes[i].text, &v), 0, "%s", sizes[i].text);
        cr_expect_eq(v, sizes[i].value, "%s: %" PRIu64, sizes[i].text, v);
    }
}

Test(units, refused)
{
    static const char *const durations[] = {"",
                                            "5",
                                            "s",
                                            "5 s",
                                            "-5s",
                                            "5S",
                                            "1h30m",
                                            "1..5h",
                                            ".5h",
                                            "5.s",
                                            "1e3s",
                                            "0.0001s",
                                            "ms",
                                            "5sec",
                                            "99999999999999999999s",
                                            "106751991168d"};
    static const char *const counts[] = {"",
                                         "k",
                                         "1K",
                                         "1m",
                                         "1.5",
                                         "0.0001k",
                                         "-1",
                                         "+1",
                                         "0x10",
                                         "1e3",
                                         "1 k",
                                         "18446744073709551616",
                                         "99999999999G"};
    static const char *const sizes[] = {"", "1M", "1G", "64mb", "1 MiB", "0.3", "1.1KiB", "MB"};
    static const char *const numbers[] = {"",   "nan", "inf",   "0x1p3", "1,5",
                                          "1 ", "e",   "1e999", "--1",   "1.2.3"};
    int64_t ms = 42;
    uint64_t v = 42;
    double d = 42;
    for (size_t i = 0; i < sizeof durations / sizeof *durations; i++)
        cr_expect_lt(units_parse_duration(durations[i], &ms), 0, "\"%s\"", durations[i]);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        cr_expect_lt(units_parse_count(counts[i], &v), 0, "\"%s\"", counts[i]);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        cr_expect_lt(units_parse_size(sizes[i], &v), 0, "\"%s\"", sizes[i]);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        cr_expect_lt(units_parse_number(numbers[i], &d), 0, "\"%s\"", numbers[i]);
    cr_expect(ms == 42 && v == 42 && d == 42);
}

Test(units, formatted_parses_back)
{
    struct rng rng = rng_of(7);
    for (int i = 0; i < 20000; i++) {
        uint64_t n = rng_u64(&rng) >> (1 + rng_below(&rng, 62)), v = 0;
        int64_t ms = -1;
        char text[UNITS_TEXT];
        if (i % 3 == 0)
            n = n % 5000 * (uint64_t[]){1, 1000, 1024, 60000, 86400000, 1 << 30}[rng_below(&rng, 6)];
        cr_assert(units_parse_duration(units_format_duration((int64_t)n, text), &ms) == 0 &&
                      (uint64_t)ms == n,
                  "%s", text);
        cr_assert(units_parse_count(units_format_count(n, text), &v) == 0 && v == n, "%s", text);
        cr_assert(units_parse_size(units_format_size(n, text), &v) == 0 && v == n, "%s", text);
    }
}
