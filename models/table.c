// SPDX-License-Identifier: Apache-2.0
// An embedding table: rows in a dense slab, found through an index of 8-byte slots (models/slab.h).
//
// Lookups of a batch wait for memory and for nothing else, so the work is to have many lines on the way at
// once: the index slot of the id 16 places ahead and the row of the id 8 places ahead are prefetched while
// the present one is compared. Whether a row is served stands in the index, so that a row that is not is
// never touched.
//
// Memory: one mapping, on huge pages where the kernel gives them. Per row of capacity 32 * ceil((20 +
// 4 dim (1 + k)) / 32) bytes, with the default optimizer (k = 0) 96 for dim 16, and 10.7 to 21.3 bytes of index. Rows are dense, so pages of rows that are not
// there are never touched; the index is touched all over.
#include "models/table_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { TABLE_MAGIC = 0x7ab1e001, ROW_RECORD = 12 };
#define ROW_WAITING (UINT32_C(1) << 31)

static size_t table_rows_bytes(const struct table_options *o)
{
    return (o->rows * slab_stride(table_floats(o)) + 63) / 64 * 64;
}

uint64_t table_budget_bytes(const struct table_options *options)
{
    return table_rows_bytes(options) + (sizeof(uint64_t) << slab_bits_for(options->rows));
}

struct table *table_new(const struct table_options *options)
{
    assert(options->dim > 0 && options->admit > 0);
    assert(options->rows > 0 && options->rows < SLAB_ROWS_MAX);
    struct table *t = mem_zalloc(sizeof *t);
    t->magic = TABLE_MAGIC;
    t->options = *options;
    t->name = mem_strdup(options->name != NULL ? options->name : "");
    t->options.name = t->name;
    t->slab.stride = slab_stride(table_floats(options));
    t->slab.shift = 64 - slab_bits_for(options->rows);
    t->slab.rows = mem_map(table_budget_bytes(options));
    t->slab.slots = (uint64_t *)(t->slab.rows + table_rows_bytes(options));
    return t;
}

void table_free(struct table *t)
{
    if (t == NULL)
        return;
    assert(t->magic == TABLE_MAGIC);
    mem_unmap(t->slab.rows, table_budget_bytes(&t->options));
    free(t->name);
    free(t);
}

const struct table_options *table_options(const struct table *t)
{
    return &t->options;
}

uint32_t table_find(const struct table *t, uint64_t id)
{
    assert(t->magic == TABLE_MAGIC);
    return slab_find(&t->slab, id);
}

// What a slot says of its row, in 32 bits: the row, with the top bit set if it is not served.
static uint32_t slot_guess(uint64_t slot)
{
    return slot == 0 ? TABLE_NONE : slab_slot_row(slot) | ((slot & SLAB_SERVED) != 0 ? 0 : ROW_WAITING);
}

static uint32_t guess_resolve(const struct slab *s, uint64_t id, uint32_t guess)
{
    if (guess == TABLE_NONE)
        return TABLE_NONE;
    if (slab_row(s, guess & ~ROW_WAITING)->id != id)
        guess = slot_guess(s->slots[slab_probe(s, id)]);
    return (guess & ROW_WAITING) != 0 ? TABLE_NONE : guess;
}

// Three stages, each as far behind the one before as memory takes: index line, row by its tag, row by its id.
void table_find_many(const struct table *t, const uint64_t *ids, uint32_t n, uint32_t *ret_slots)
{
    assert(t->magic == TABLE_MAGIC);
    const struct slab *s = &t->slab;
    const uint32_t behind = SLAB_AHEAD / 2;
    for (uint32_t i = 0; i < n + 2 * behind; i++) {
        if (i < n)
            slab_prefetch(s, ids[i]);
        if (i >= behind && i - behind < n)
            ret_slots[i - behind] = slot_guess(slab_candidate(s, ids[i - behind]));
        if (i >= 2 * behind)
            ret_slots[i - 2 * behind] = guess_resolve(s, ids[i - 2 * behind], ret_slots[i - 2 * behind]);
    }
}

const struct table_row *table_row(const struct table *t, uint32_t slot)
{
    assert(slot < t->slab.count);
    return slab_row(&t->slab, slot);
}

bool table_admitted(const struct table *t, const struct table_row *row)
{
    return row->count >= t->options.admit;
}

const float *table_vectors(const struct table *t)
{
    return (const float *)(t->slab.rows + SLAB_HEADER);
}

size_t table_stride(const struct table *t)
{
    return t->slab.stride / sizeof(float);
}

uint64_t table_count(const struct table *t)
{
    return t->slab.count;
}

uint64_t table_admitted_count(const struct table *t)
{
    return t->admitted;
}

uint64_t table_bytes(const struct table *t)
{
    return t->slab.count * t->slab.stride + (slab_mask(&t->slab) + 1) * sizeof(uint64_t);
}

// ---- persistence -------------------------------------------------------------------------------------

void table_row_put(const struct table *t, const struct table_row *row, struct buf *to)
{
    buf_put_f32(to, row->accum);
    buf_put_u32(to, row->count);
    buf_put_u32(to, row->last_seen_s);
    if (table_admitted(t, row))
        buf_put(to, row->vector, table_floats(&t->options) * sizeof(float));
}

uint32_t table_row_make(struct table *t, uint64_t id)
{
    uint32_t at = slab_find(&t->slab, id);
    if (at != TABLE_NONE || t->slab.count == t->options.rows)
        return at;
    return slab_insert(&t->slab, id);
}

// The row was changed in place; `before` tells whether it was admitted until then.
static void row_admitted(struct table *t, const struct table_row *row, bool before)
{
    bool after = table_admitted(t, row);
    if (before == after)
        return;
    slab_served_set(&t->slab, row->id, after);
    t->admitted += after ? 1 : UINT64_MAX;
}

void table_row_set(struct table *t, uint32_t at, const struct table_row *row)
{
    struct table_row *mine = slab_row(&t->slab, at);
    bool before = table_admitted(t, mine);
    memcpy(mine, row, t->slab.stride);
    row_admitted(t, mine, before);
}

void table_row_drop(struct table *t, uint32_t at)
{
    if (table_admitted(t, slab_row(&t->slab, at)))
        t->admitted--;
    slab_remove(&t->slab, at);
}

// What was admitted when the row was written is what has a vector. Where `admit` has changed since, the count
// is moved to the near side of it, so that the served rows, and their digest, stay what consumers hold.
static uint32_t count_fitted(const struct table *t, uint32_t count, bool vector)
{
    uint32_t admit = t->options.admit;
    if (vector)
        return count > admit ? count : admit;
    return count < admit ? count : admit - 1;
}

static int record_check(const struct table *t, uint64_t id, struct str record, struct err *err)
{
    size_t vector = table_floats(&t->options) * sizeof(float);
    if (id == 0)
        return err_set(err, ERR_CORRUPT, "a row of table %s has the id 0, which no row can have", t->name);
    if (record.len != ROW_RECORD && record.len != ROW_RECORD + vector)
        return err_set(err, ERR_CORRUPT,
                       "a row of table %s has %u bytes; with dim %u and %s it has %u, or %zu with a vector",
                       t->name, record.len, t->options.dim, optimizer_name(t->options.optimizer.kind),
                       (unsigned)ROW_RECORD, ROW_RECORD + vector);
    return 0;
}

int table_row_load(struct table *t, uint64_t id, struct str record, struct err *err)
{
    if (record_check(t, id, record, err) != 0)
        return -1;
    uint32_t at = table_row_make(t, id);
    if (at == TABLE_NONE)
        return err_set(err, ERR_LIMIT, "table %s holds no more than %llu rows; raise its `rows`", t->name,
                       (unsigned long long)t->options.rows);
    struct rd from = rd_of(record.s, record.len);
    struct table_row *row = slab_row(&t->slab, at);
    bool before = table_admitted(t, row);
    row->accum = rd_f32(&from);
    row->count = rd_u32(&from);
    row->last_seen_s = rd_u32(&from);
    size_t left = rd_left(&from);
    row->count = count_fitted(t, row->count, left > 0);
    memset(row->vector, 0, t->slab.stride - SLAB_HEADER);
    if (left > 0)
        memcpy(row->vector, rd_bytes(&from, left), left);
    row_admitted(t, row, before);
    return 0;
}

int table_rows_load(struct table *t, const uint64_t *ids, const struct str *records, uint32_t n,
                    struct err *err)
{
    for (uint32_t i = 0; i < n; i++)
        slab_prefetch(&t->slab, ids[i]);
    for (uint32_t i = 0; i < n; i++)
        if (table_row_load(t, ids[i], records[i], err) != 0)
            return -1;
    return 0;
}

// ---- order and digests -------------------------------------------------------------------------------

uint32_t *table_order(const struct table *t, uint32_t *ret_n)
{
    uint32_t n = t->slab.count;
    struct slab_order *entries = mem_alloc(n * sizeof *entries);
    for (uint32_t i = 0; i < n; i++)
        entries[i] = (struct slab_order){slab_row(&t->slab, i)->id, i};
    slab_sort(entries, n);
    uint32_t *order = mem_alloc(n * sizeof *order);
    for (uint32_t i = 0; i < n; i++)
        order[i] = entries[i].ref;
    free(entries);
    *ret_n = n;
    return order;
}

// The header, the vector and the state of a row lie side by side, as the full digest takes them.
static void digest_row(const struct table *t, struct hasher *h, const struct table_row *row, bool full)
{
    bool admitted = table_admitted(t, row);
    size_t vector = t->options.dim * sizeof(float);
    if (full) {
        hasher_put(h, row, SLAB_HEADER + (admitted ? table_floats(&t->options) * sizeof(float) : 0));
    } else if (admitted) {
        hasher_put(h, &row->id, sizeof row->id);
        hasher_put(h, row->vector, vector);
    }
}

static struct digest digest_rows(const struct table *t, bool full)
{
    uint32_t n = 0;
    uint32_t *order = table_order(t, &n);
    struct hasher *h = hasher_new();
    for (uint32_t i = 0; i < n; i++) {
        if (i + SLAB_AHEAD < n)
            slab_row_prefetch(&t->slab, order[i + SLAB_AHEAD]);
        digest_row(t, h, slab_row(&t->slab, order[i]), full);
    }
    struct digest d = hasher_digest(h);
    hasher_free(h);
    free(order);
    return d;
}

struct digest table_digest(const struct table *t)
{
    return digest_rows(t, false);
}

struct digest table_digest_full(const struct table *t)
{
    return digest_rows(t, true);
}
