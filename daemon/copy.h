// SPDX-License-Identifier: Apache-2.0
// A follower's copy of the tables: what it was told, (id, text, vector), nothing of the optimizer. The digest
// of a table is the same as the daemon's (models/table.h, table_digest).
#ifndef FRESHET_DAEMON_COPY_H
#define FRESHET_DAEMON_COPY_H

#include "base/hash.h"
#include "base/map.h"
#include "base/str.h"
#include "stream/delta.h"

struct copy_table {
    char name[64];
    uint32_t dim;
    struct map rows; // id -> index into the arrays
    uint64_t *ids;
    float *vectors;
    uint32_t n, cap;
};

struct copy {
    struct copy_table tables[DELTA_TABLES_MAX];
    uint32_t n_tables;
};

void copy_done(struct copy *c);
// Index of a table by name, made if new. -1: it exists with another dim, or there are too many.
int copy_table(struct copy *c, struct str name, uint32_t dim);
// vector: dim little-endian float32, unaligned; NULL removes.
void copy_row(struct copy_table *t, uint64_t id, const uint8_t *vector);
struct digest copy_digest(const struct copy_table *t);

#endif
