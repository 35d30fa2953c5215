// SPDX-License-Identifier: Apache-2.0
// Timestamps as messages carry them (docs/CONTRACT.md, "Events"), into ms since the epoch. Internal to
// stream/.
#ifndef FRESHET_STREAM_TIMESTAMP_H
#define FRESHET_STREAM_TIMESTAMP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "stream/parse.h"

#define TIMESTAMP_SECONDS_BELOW 1e11         // a number of less than this is in s, else in ms
#define TIMESTAMP_END INT64_C(4102444800000) // 2100-01-01T00:00:00Z; a ts is in 0 .. TIMESTAMP_END - 1

// What is finer than a ms is cut off. False: unreadable, or outside 1970 .. 2100.
bool timestamp_of_number(const struct parse_decimal *number, int64_t *ret_ms);
// Of a number of s or ms within +-1e15: ms. It may be out of range.
int64_t timestamp_ms(double value);
// RFC 3339: 2026-01-01T00:00:00.123+05:30; also a space for the T, small t and z, and a leap second, which is
// the first second of the next minute.
bool timestamp_of_text(struct str text, int64_t *ret_ms);

#endif
