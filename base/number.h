// SPDX-License-Identifier: Apache-2.0
// Numbers as text, fast: answers of the feature API are mostly numbers, and printf with a look whether it reads
// back the same costs a microsecond and more for each (std::to_chars: 50 ns).
#ifndef FRESHET_BASE_NUMBER_H
#define FRESHET_BASE_NUMBER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { NUMBER_TEXT = 32 };

// Each writes at most NUMBER_TEXT bytes, no terminator, and returns how many.
size_t number_put_uint(uint64_t v, char *to);
size_t number_put_int(int64_t v, char *to);
// The fewest digits that read back the same; whole numbers below 1e15 without exponent. Finite values only.
size_t number_put_double(double v, char *to);
size_t number_put_float(float v, char *to);

#ifdef __cplusplus
}
#endif

#endif
