// SPDX-License-Identifier: Apache-2.0
// Embedding tables in memory, and the overlay in which an update changes them.
//
// A table is rows in a dense array and an open-addressed index on the 64-bit feature id, in one mmap with huge
// pages. A slot is a row's place in that array. A row, `stride` bytes (models/table.c tells the memory):
//
//     +---------+-----------+---------+--------------+--------- ... ---+----------- ... ---+
//     | id u64  | accum f32 | count   | last_seen_s  | vector          | state             |
//     |         |           | u32     | u32          | dim x f32       | k x dim x f32     |
//     +---------+-----------+---------+--------------+--------- ... ---+----------- ... ---+
//
// accum: the state of row-wise Adagrad (the sum over steps of the mean of the squared gradient of the row), else 0.
// state: that of the other optimizers (optimizer.h), their first array, then their second; k is 0 with row-wise
// Adagrad, 1 with Adagrad, 2 with FTRL and Adam. count: occurrences in samples.
// last_seen_s: event time, seconds. A row is admitted, that is, has a vector and is served, once count reaches
// `admit`.
//
// Threads: an update reads the table and writes its overlay; the table itself changes in table_apply only,
// when no update runs and no reader of another thread is there.
#ifndef FRESHET_MODELS_TABLE_H
#define FRESHET_MODELS_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/str.h"
#include "models/optimizer.h"

enum { TABLE_NONE = UINT32_MAX };

enum table_init { TABLE_NORMAL, TABLE_UNIFORM, TABLE_CONSTANT };

struct table_options {
    const char *name;
    uint32_t dim;
    uint64_t rows;     // capacity; a new id beyond it is not admitted and counted in `full`
    uint32_t admit;    // occurrences before a row is admitted, at least 1
    int64_t expire_ms; // a row not seen for so long goes; 0: never
    // How vectors begin, from (seed, id) alone: normal with the standard deviation `init`, uniform in +-init, or init.
    enum table_init init_by;
    float init;
    struct optimizer optimizer;
    uint64_t seed;
};

struct table_row {
    uint64_t id;
    float accum;
    uint32_t count;
    uint32_t last_seen_s;
    float vector[]; // dim, then the optimizer's state
};

struct table;
struct table *table_new(const struct table_options *options);
void table_free(struct table *t);
const struct table_options *table_options(const struct table *t);
uint32_t table_find(const struct table *t, uint64_t id); // slot of an admitted or waiting row, TABLE_NONE
// Slots of n ids, with prefetching; TABLE_NONE for what is absent or not admitted, and for the id 0.
void table_find_many(const struct table *t, const uint64_t *ids, uint32_t n, uint32_t *ret_slots);
const struct table_row *table_row(const struct table *t, uint32_t slot);
bool table_admitted(const struct table *t, const struct table_row *row);
// For gathers: vector of slot s is at table_vectors(t) + s * table_stride(t), in floats.
const float *table_vectors(const struct table *t);
size_t table_stride(const struct table *t);
uint64_t table_count(const struct table *t);                      // rows
uint64_t table_admitted_count(const struct table *t);             // of them admitted
uint64_t table_bytes(const struct table *t);                      // of the rows that are there, and the index
uint64_t table_budget_bytes(const struct table_options *options); // of a full table; what is mapped

// The vector and the accumulator that the row of `id` begins with, from the table's options and the id alone.
float table_begin(const struct table *t, uint64_t id, float *ret_vector);

// Persistence: the record of a row is accum f32, count u32, last_seen_s u32, then vector and state where admitted.
void table_row_put(const struct table *t, const struct table_row *row, struct buf *to);
// ERR_CORRUPT, ERR_LIMIT. A row that was admitted under another `admit` stays so: its count is fitted.
int table_row_load(struct table *t, uint64_t id, struct str record, struct err *err);
// The same for n rows, with prefetching; some tens at a time.
int table_rows_load(struct table *t, const uint64_t *ids, const struct str *records, uint32_t n,
                    struct err *err);

// Over (id, vector) of every admitted row in order of id.
struct digest table_digest(const struct table *t);
// Over (id, accum, count, last_seen, vector, state) of every row in order of id.
struct digest table_digest_full(const struct table *t);
// Slots in order of id, ascending; the caller frees. *ret_n of them.
uint32_t *table_order(const struct table *t, uint32_t *ret_n);

// ---- overlay ----------------------------------------------------------------------------------------------

// Copies of the rows that an update touches, new rows, and tombstones. One per table and update.
struct overlay;
struct overlay *overlay_new(const struct table *t);
void overlay_free(struct overlay *o);
void overlay_clear(struct overlay *o); // for reuse by the next update

// The overlay's slot of `id`, copied from the table or made new on first touch; counts the occurrences and
// takes last_seen. TABLE_NONE if it is not admitted (yet), or the table is full. Both in order of the array,
// so that the result depends on the samples alone. The id 0 is none: TABLE_NONE, and nothing is counted.
void overlay_touch(struct overlay *o, const uint64_t *ids, const uint32_t *seen_s, uint32_t n,
                   uint32_t *ret_slots);
// The same, where ids[i] occurs times[i] times, all of which see the row as it is after them.
void overlay_touch_times(struct overlay *o, const uint64_t *ids, const uint32_t *seen_s,
                         const uint32_t *times, uint32_t n, uint32_t *ret_slots);
// Takes over a row that was made elsewhere, in place of what is there; its count becomes at least `admit`. `state`: that
// of the optimizer stands behind its vector; else it begins, but for the sums of adagrad, which stay. False: the table
// is full.
bool overlay_put(struct overlay *o, const struct table_row *row, bool state);
const float *overlay_vectors(const struct overlay *o); // gathers as for a table; moves when the overlay grows
size_t overlay_stride(const struct overlay *o);

// One step of the table's optimizer: gradients of n occurrences (n x dim, row i for slots[i], TABLE_NONE skipped).
// Occurrences of one row are summed in order of the array first.
void overlay_step(struct overlay *o, const uint32_t *slots, const float *gradients, uint32_t n,
                  const struct optimizer_at *at);
// The same in two halves, for a batch whose inputs share a table: gradients are summed over all calls, in their
// order, and then every row among them takes one step with g = scale * sum. Gradient i is at i * stride, in floats.
void overlay_gradient(struct overlay *o, const uint32_t *slots, const float *gradients, size_t stride,
                      uint32_t n);
void overlay_descend(struct overlay *o, float scale, const struct optimizer_at *at);

// Rows of the table (with the overlay seen first) last seen before `before_s` become tombstones. Comes last:
// nothing is touched or stepped after it.
void overlay_expire(struct overlay *o, uint32_t before_s);

struct overlay_figures {
    uint64_t rows, admitted, created, tombstones, full;
    bool finite;    // no NaN or Inf in any touched row
    float norm_max; // largest L2 norm of a touched vector
    double norm_mean;
};
uint64_t overlay_budget_bytes(const struct table_options *options); // of one that touches every row
void overlay_figures(const struct overlay *o, struct overlay_figures *ret_figures);
// Touched rows in order of id (tombstones: row NULL). `served` is true when consumers must hear of it: the row
// is admitted, or was and is gone.
void overlay_each(const struct overlay *o,
                  void (*each)(void *context, uint64_t id, const struct table_row *row, bool served),
                  void *context);
// Applies to the table: rows copied in, tombstones removed.
void table_apply(struct table *t, const struct overlay *o);

#endif
