// SPDX-License-Identifier: Apache-2.0
// See number.h. std::to_chars of C++17 is the shortest text that reads back the same (Ryu; Adams, PLDI 2018), which
// the C library does not have.
#include "base/number.h"

#include <charconv>
#include <cmath>

namespace
{

// Below it whole numbers are written as such: 100000, not 1e+05.
const double whole_below = 1e15;

template <typename T> size_t put(T v, char *to)
{
    return static_cast<size_t>(std::to_chars(to, to + NUMBER_TEXT, v).ptr - to);
}

template <typename T> size_t put_real(T v, char *to)
{
    bool large = std::abs(static_cast<double>(v)) >= whole_below;
    if (large) // else it would be written out in full
        return static_cast<size_t>(std::to_chars(to, to + NUMBER_TEXT, v, std::chars_format::scientific).ptr -
                                   to);
    if (v == std::floor(v) && !(v == 0 && std::signbit(v)))
        return put(static_cast<int64_t>(v), to);
    return put(v, to);
}

} // namespace

size_t number_put_uint(uint64_t v, char *to)
{
    return put(v, to);
}

size_t number_put_int(int64_t v, char *to)
{
    return put(v, to);
}

size_t number_put_double(double v, char *to)
{
    return put_real(v, to);
}

size_t number_put_float(float v, char *to)
{
    return put_real(v, to);
}
