// SPDX-License-Identifier: Apache-2.0
// Numbers of others, from a file below tests/golden/: records of name length u8, name, kind u8 (0 f32, 1 u32),
// count u32, values, until its end.
#ifndef FRESHET_TESTS_UNIT_GOLDEN_H
#define FRESHET_TESTS_UNIT_GOLDEN_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "models/net.h"

enum { GOLDEN_RECORDS = 1024, GOLDEN_BYTES = 1 << 20 };

struct golden {
    char *bytes;
    uint32_t n;
    struct record {
        char name[NET_NAME];
        uint32_t count;
        const void *values;
    } records[GOLDEN_RECORDS];
};

static inline void golden_read(struct golden *g, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/golden/%s", TESTS_DIR, name);
    FILE *f = fopen(path, "rb");
    cr_assert_not_null(f, "%s", path);
    *g = (struct golden){.bytes = mem_zalloc(GOLDEN_BYTES)};
    size_t len = fread(g->bytes, 1, GOLDEN_BYTES, f);
    fclose(f);
    struct rd rd = rd_of(g->bytes, len);
    while (rd_left(&rd) > 0) {
        cr_assert_lt(g->n, GOLDEN_RECORDS);
        struct record *r = &g->records[g->n++];
        uint8_t name_len = rd_u8(&rd);
        const uint8_t *text = rd_bytes(&rd, name_len);
        cr_assert(text != NULL && name_len < NET_NAME);
        memcpy(r->name, text, name_len);
        rd_u8(&rd);
        r->count = rd_u32(&rd);
        const uint8_t *values = rd_bytes(&rd, r->count * sizeof(float));
        cr_assert_not_null(values);
        float *aligned = mem_array(r->count + 1, sizeof *aligned);
        memcpy(aligned, values, r->count * sizeof *aligned);
        r->values = aligned;
    }
}

static inline void golden_done(struct golden *g)
{
    for (uint32_t i = 0; i < g->n; i++)
        free((void *)(uintptr_t)g->records[i].values);
    free(g->bytes);
}

// NULL: there is none of that name.
static inline const struct record *golden_find(const struct golden *g, const char *prefix, const char *name)
{
    char full[2 * NET_NAME];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    for (uint32_t i = 0; i < g->n; i++)
        if (strcmp(g->records[i].name, full) == 0)
            return &g->records[i];
    return NULL;
}

static inline const void *golden_get(const struct golden *g, const char *prefix, const char *name)
{
    const struct record *r = golden_find(g, prefix, name);
    cr_assert_not_null(r, "the golden file has no %s%s", prefix, name);
    return r->values;
}

#endif
