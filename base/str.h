// SPDX-License-Identifier: Apache-2.0
// A string that is looked at, not owned. Not terminated.
#ifndef FRESHET_BASE_STR_H
#define FRESHET_BASE_STR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *s;
    uint32_t len; // bytes
};

static inline struct str str_of(const char *s)
{
    return (struct str){s, (uint32_t)strlen(s)};
}

static inline bool str_equal(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.s, b.s, a.len) == 0);
}

static inline bool str_is(struct str a, const char *s)
{
    return str_equal(a, str_of(s));
}

#endif
