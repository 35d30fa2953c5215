// SPDX-License-Identifier: Apache-2.0
// Numbers as people write them in the config: durations (500ms, 5s, 10m, 1h, 30d), counts (1000, 100k, 1M,
// 1G) and sizes in bytes (4096, 64MB, 1GiB; KB = 1000, KiB = 1024). A fraction is taken where it comes out
// even: 1.5h, 2.5M. Parsing returns -1 on anything else and leaves the result untouched; formatting writes
// what parses back to the same number, in the largest unit that fits.
#ifndef FRESHET_DAEMON_UNITS_H
#define FRESHET_DAEMON_UNITS_H

#include <stdint.h>

enum { UNITS_TEXT = 32 };

int units_parse_duration(const char *text, int64_t *ret_ms); // 0 needs no unit
int units_parse_count(const char *text, uint64_t *ret_count);
int units_parse_size(const char *text, uint64_t *ret_bytes);
int units_parse_number(const char *text, double *ret_number); // decimal, finite; no hex

const char *units_format_duration(int64_t ms, char text[UNITS_TEXT]);
const char *units_format_count(uint64_t count, char text[UNITS_TEXT]);
const char *units_format_size(uint64_t bytes, char text[UNITS_TEXT]);

#endif
