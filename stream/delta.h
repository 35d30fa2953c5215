// SPDX-License-Identifier: Apache-2.0
// The delta stream: what a model version changed, as messages of the delta topic (one partition, so that
// order is Kafka's). Published format 2; docs/DELTAS.md describes it byte by byte. Format 1, which had no
// DELTA_LEARNED, is read.
//
// A version is: DELTA_BEGIN, any number of DELTA_ROWS, any number of DELTA_DENSE (none in most versions; a large
// safetensors document is cut in pieces, whose payloads one after the other are it), DELTA_LEARNED likewise (none
// where the model has learned nothing beside rows and layers), DELTA_END. The end carries the number of rows and the
// XXH3-128 checksum over the version's ROWS, DENSE and LEARNED messages in order, so that a consumer knows that it has
// everything before it applies anything.
#ifndef FRESHET_STREAM_DELTA_H
#define FRESHET_STREAM_DELTA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/str.h"

enum {
    DELTA_FORMAT = 2,
    DELTA_FORMAT_OLDEST = 1, // that is read
    DELTA_HEAD_BYTES = 36,   // before the payload of every message
    DELTA_ROWS_BYTES = 512 << 10,
    DELTA_TABLES_MAX = 64
};

enum delta_kind { DELTA_BEGIN = 1, DELTA_ROWS = 2, DELTA_DENSE = 3, DELTA_END = 4, DELTA_LEARNED = 5 };

struct delta_table_digest {
    struct str table;
    struct digest digest; // over (id, vector) of every served row in order of id
    uint64_t rows;
};

struct delta_head {
    uint16_t format; // of a message that was read; what is put is of DELTA_FORMAT
    enum delta_kind kind;
    uint64_t base;     // id of the base: changes when a full update replaces all layers
    uint64_t version;  // 1, 2, ...
    uint64_t previous; // version before this one; 0 for the first
    uint32_t chunk;    // index of this message within the version, from 0
};

struct delta_begin {
    int64_t boundary_ms;      // event time up to which samples are in
    uint64_t trained_through; // sample sequence number
    struct digest dense;      // of all dense layers
    uint32_t n_tables;        // tables of the model: name and dim
    struct {
        struct str name;
        uint32_t dim;
    } tables[DELTA_TABLES_MAX];
};

struct delta_end {
    uint64_t rows;
    uint64_t tombstones;
    struct digest checksum;
    uint32_t n_digests; // 0 in most versions
    struct delta_table_digest digests[DELTA_TABLES_MAX];
};

void delta_put_begin(struct buf *to, const struct delta_head *head, const struct delta_begin *begin);
void delta_put_rows_head(struct buf *to, const struct delta_head *head);
// One row. vector NULL: a tombstone. `text` is the original id, "" where it is not known.
void delta_put_row(struct buf *to, uint16_t table, uint64_t id, struct str text, const float *vector,
                   uint32_t dim);
// A piece of a document: head->kind is DELTA_DENSE or DELTA_LEARNED.
void delta_put_piece(struct buf *to, const struct delta_head *head, struct str safetensors);
void delta_put_end(struct buf *to, const struct delta_head *head, const struct delta_end *end);

// Reading. Strings and vectors point into the message. A malformed message is ERR_CORRUPT, one of another format
// ERR_VERSION. After delta_get_head `from` stands at the payload: of DELTA_DENSE and DELTA_LEARNED all of it
// is the piece.
int delta_get_head(struct rd *from, struct delta_head *ret_head, struct err *err);
int delta_get_begin(struct rd *from, struct delta_begin *ret_begin, struct err *err);
int delta_get_end(struct rd *from, struct delta_end *ret_end, struct err *err);
struct delta_row {
    uint16_t table;
    bool tombstone;
    uint64_t id;
    struct str text;
    const uint8_t *vector; // dim little-endian float32, unaligned
};
// 1: a row, 0: no more, -1: malformed. `dims` by table number.
int delta_get_row(struct rd *from, const uint32_t *dims, uint32_t n_tables, struct delta_row *ret_row,
                  struct err *err);

#endif
