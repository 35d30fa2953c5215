// SPDX-License-Identifier: Apache-2.0
// A follower's copy of a model: of its tables what it was told, (id, vector), nothing of the optimizer; the dense
// layers, and what was learned beside them (daemon/learned.h), as the documents in which they came. The digests are the
// same as the daemon's (table_digest, model_dense_digest).
#ifndef FRESHET_DAEMON_COPY_H
#define FRESHET_DAEMON_COPY_H

#include "base/buf.h"
#include "base/err.h"
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
    struct buf dense, learned; // empty: none
};

void copy_done(struct copy *c);
// Index of a table by name, made if new. -1: it exists with another dim, or there are too many.
int copy_table(struct copy *c, struct str name, uint32_t dim);
// vector: dim little-endian float32, unaligned; NULL removes.
void copy_row(struct copy_table *t, uint64_t id, const uint8_t *vector);
struct digest copy_digest(const struct copy_table *t);
// Rows in order of id: indices into the arrays; the caller frees.
uint32_t *copy_order(const struct copy_table *t);
// Of the layers in a safetensors document that a DENSE brought. ERR_CORRUPT.
int copy_dense_digest(struct str document, struct digest *ret_digest, struct err *err);
// The file of daemon/model_file.h, without what only training needs (copy_file.c).
int copy_write(const struct copy *c, uint64_t base, uint64_t version, const char *path, struct err *err);

#endif
