// SPDX-License-Identifier: Apache-2.0
// The overlay: copies of the rows that an update touches, so that the table stays as it was served until the
// update is looked at and committed.
//
// It is a slab like the table's, with an index of its own that grows, and a trace beside each row. Rows lie
// in address space for as many rows as the table can hold, of which only what is touched becomes memory, so
// they never move:
//
//     rows    | id accum count last_seen_s vector state | ...   stride bytes each; count 0: expired, or never admitted
//     traces  | base u32, stamp u32 | ...                 base: the table's slot, or TABLE_NONE for a new row
//
// A step first sums the gradients of equal rows in a dense buffer. `stamp` is the row's place there; it holds
// if the buffer's owner of that place is the row (a sparse set), so nothing is cleared between steps. Then
// each row of the buffer is stepped once, in order of first appearance, a few rows prefetched ahead. Sums
// have a fixed order (8 lanes, then a tree), whatever the width of the machine's vectors.
//
// Memory: 8 bytes and a stride per touched row, 10.7 to 21.3 bytes of index, 4 (dim + 1) bytes per row of a
// batch.
#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/table_impl.h"

#pragma GCC optimize("O3")

enum { OVERLAY_MAGIC = 0x0e71a101, OVERLAY_BITS = 12, OVERLAY_KEEP = 64 << 20, LANES = 8 };

struct trace {
    uint32_t base;
    uint32_t stamp;
};

struct overlay {
    uint32_t magic;
    uint32_t dim;
    const struct table *table;
    struct slab slab;
    struct trace *traces;
    uint64_t full;    // occurrences refused
    uint64_t created; // rows that the table does not have, expired ones included
    bool expired;     // overlay_expire has run: nothing is touched after it
    uint32_t *gone;   // table slots of tombstones, ascending
    uint32_t n_gone;
    uint32_t cap_gone;
    float *sums;      // (n_sums, dim) gradients of this step
    uint32_t *owners; // (n_sums) their rows
    uint32_t n_sums;
    uint32_t cap_sums;
};

// ---- life --------------------------------------------------------------------------------------------

static size_t overlay_rows_bytes(const struct overlay *o)
{
    return o->table->options.rows * o->slab.stride;
}

static size_t overlay_bytes(const struct overlay *o)
{
    return overlay_rows_bytes(o) + o->table->options.rows * sizeof *o->traces;
}

static size_t index_bytes(const struct slab *s)
{
    return (size_t)(slab_mask(s) + 1) * sizeof *s->slots;
}

static void overlay_map(struct overlay *o)
{
    uint32_t bits = slab_bits_for(o->table->options.rows);
    o->slab.rows = mem_map(overlay_bytes(o));
    o->traces = (struct trace *)(o->slab.rows + overlay_rows_bytes(o));
    o->slab.shift = 64 - (bits < OVERLAY_BITS ? bits : OVERLAY_BITS);
    o->slab.slots = mem_map(index_bytes(&o->slab));
}

static void overlay_unmap(struct overlay *o)
{
    mem_unmap(o->slab.rows, overlay_bytes(o));
    mem_unmap(o->slab.slots, index_bytes(&o->slab));
}

uint64_t overlay_budget_bytes(const struct table_options *options)
{
    return options->rows * (slab_stride(table_floats(options)) + sizeof(struct trace)) +
           (sizeof(uint64_t) << slab_bits_for(options->rows));
}

struct overlay *overlay_new(const struct table *t)
{
    struct overlay *o = mem_zalloc(sizeof *o);
    o->magic = OVERLAY_MAGIC;
    o->dim = t->options.dim;
    o->table = t;
    o->slab.stride = t->slab.stride;
    overlay_map(o);
    return o;
}

void overlay_free(struct overlay *o)
{
    if (o == NULL)
        return;
    assert(o->magic == OVERLAY_MAGIC);
    overlay_unmap(o);
    free(o->gone);
    free(o->sums);
    free(o->owners);
    free(o);
}

void overlay_clear(struct overlay *o)
{
    assert(o->magic == OVERLAY_MAGIC);
    size_t touched = (size_t)o->slab.count * o->slab.stride;
    if (touched > OVERLAY_KEEP) { // give the memory back
        overlay_unmap(o);
        overlay_map(o);
    } else {
        memset(o->slab.slots, 0, index_bytes(&o->slab));
    }
    o->slab.count = 0;
    o->full = 0;
    o->created = 0;
    o->expired = false;
    o->n_gone = 0;
    o->n_sums = 0;
}

const float *overlay_vectors(const struct overlay *o)
{
    return (const float *)(o->slab.rows + SLAB_HEADER);
}

size_t overlay_stride(const struct overlay *o)
{
    return o->slab.stride / sizeof(float);
}

// ---- touch -------------------------------------------------------------------------------------------

static void overlay_index_grow(struct overlay *o)
{
    struct slab *s = &o->slab;
    mem_unmap(s->slots, index_bytes(s));
    s->shift--;
    s->slots = mem_map(index_bytes(s));
    slab_index(s);
}

// The row of an id that the overlay does not hold: a copy of the table's, or a new one.
static uint32_t overlay_take(struct overlay *o, uint64_t id, uint32_t times)
{
    const struct table *t = o->table;
    uint32_t base = slab_find(&t->slab, id);
    if (base == TABLE_NONE && t->slab.count + o->created >= t->options.rows) {
        o->full += times;
        return TABLE_NONE;
    }
    if (o->slab.count >= (slab_mask(&o->slab) + 1) / 4 * 3)
        overlay_index_grow(o);
    uint32_t row = slab_insert(&o->slab, id);
    o->traces[row] = (struct trace){base, 0};
    if (base != TABLE_NONE)
        memcpy(slab_row(&o->slab, row), slab_row(&t->slab, base), o->slab.stride);
    else
        o->created++;
    return row;
}

static void vector_begin(const struct table_options *t, uint64_t id, float *to)
{
    struct rng rng = rng_of(hash_mix(id + hash_mix(t->seed)));
    for (uint32_t j = 0; j < t->dim; j++) {
        if (t->init_by == TABLE_NORMAL)
            to[j] = t->init * (float)rng_normal(&rng);
        else if (t->init_by == TABLE_UNIFORM)
            to[j] = t->init * (float)(2 * rng_uniform(&rng) - 1);
        else
            to[j] = t->init;
    }
}

float table_begin(const struct table *t, uint64_t id, float *ret_vector)
{
    vector_begin(&t->options, id, ret_vector);
    return t->options.optimizer.kind == OPTIMIZER_ROWWISE_ADAGRAD ? t->options.optimizer.accum : 0;
}

// The state of a row whose vector is there.
static void state_begin(const struct table_options *t, struct table_row *row)
{
    float *state = row->vector + t->dim;
    if (t->optimizer.kind != OPTIMIZER_ROWWISE_ADAGRAD)
        optimizer_begin(&t->optimizer, t->optimizer.lr, t->dim, row->vector, state, state + t->dim);
}

static void row_admit(const struct table_options *t, struct table_row *row)
{
    vector_begin(t, row->id, row->vector);
    row->accum = t->optimizer.kind == OPTIMIZER_ROWWISE_ADAGRAD ? t->optimizer.accum : 0;
    state_begin(t, row);
}

static uint32_t overlay_count(struct overlay *o, uint32_t at, uint32_t seen_s, uint32_t times)
{
    struct table_row *row = slab_row(&o->slab, at);
    if (seen_s > row->last_seen_s)
        row->last_seen_s = seen_s;
    const uint32_t before = row->count, admit = o->table->options.admit;
    row->count = times < UINT32_MAX - before ? before + times : UINT32_MAX;
    if (before < admit && row->count >= admit)
        row_admit(&o->table->options, row);
    return row->count >= admit ? at : TABLE_NONE;
}

// `guess` is the overlay's row of the id, or TABLE_NONE, or another's.
static uint32_t overlay_touch_one(struct overlay *o, uint64_t id, uint32_t seen_s, uint32_t times,
                                  uint32_t guess)
{
    uint32_t at = guess;
    if (at == TABLE_NONE || slab_row(&o->slab, at)->id != id)
        at = slab_find(&o->slab, id);
    if (at == TABLE_NONE && id != 0)
        at = overlay_take(o, id, times);
    return at != TABLE_NONE ? overlay_count(o, at, seen_s, times) : TABLE_NONE;
}

// The overlay's row of the id as its index has it; where it has none, the table's index is asked for.
static uint32_t overlay_guess(const struct overlay *o, uint64_t id)
{
    const uint64_t slot = slab_candidate(&o->slab, id);
    if (slot == 0)
        slab_prefetch(&o->table->slab, id);
    return slab_slot_row(slot);
}

// In stages, as table_find_many; rows of the overlay never move, so that a guess stays good while others come
// in.
void overlay_touch(struct overlay *o, const uint64_t *ids, const uint32_t *seen_s, uint32_t n,
                   uint32_t *ret_slots)
{
    overlay_touch_times(o, ids, seen_s, NULL, n, ret_slots);
}

void overlay_touch_times(struct overlay *o, const uint64_t *ids, const uint32_t *seen_s,
                         const uint32_t *times, uint32_t n, uint32_t *ret_slots)
{
    assert(o->magic == OVERLAY_MAGIC && !o->expired);
    const uint32_t behind = SLAB_AHEAD / 2;
    for (uint32_t i = 0; i < n + 3 * behind; i++) {
        if (i < n)
            slab_prefetch(&o->slab, ids[i]);
        if (i >= behind && i - behind < n)
            ret_slots[i - behind] = overlay_guess(o, ids[i - behind]);
        if (i >= 2 * behind && i - 2 * behind < n && ret_slots[i - 2 * behind] == TABLE_NONE)
            slab_candidate(&o->table->slab, ids[i - 2 * behind]);
        if (i >= 3 * behind) {
            const uint32_t k = i - 3 * behind;
            ret_slots[k] =
                overlay_touch_one(o, ids[k], seen_s[k], times != NULL ? times[k] : 1, ret_slots[k]);
        }
    }
}

bool overlay_put(struct overlay *o, const struct table_row *row, bool state)
{
    assert(o->magic == OVERLAY_MAGIC && !o->expired && row->id != 0);
    uint32_t at = slab_find(&o->slab, row->id);
    if (at == TABLE_NONE)
        at = overlay_take(o, row->id, 1);
    if (at == TABLE_NONE)
        return false;
    struct table_row *to = slab_row(&o->slab, at);
    const bool had_sums =
        table_admitted(o->table, to) && o->table->options.optimizer.kind == OPTIMIZER_ADAGRAD;
    const uint32_t arrays = state ? 1 + optimizer_state(o->table->options.optimizer.kind) : 1;
    memcpy(to, row, sizeof *row + (size_t)arrays * o->dim * sizeof *row->vector);
    if (!had_sums && !state)
        state_begin(&o->table->options, to);
    if (to->count < o->table->options.admit)
        to->count = o->table->options.admit;
    return true;
}

// ---- step --------------------------------------------------------------------------------------------

static void sums_reserve(struct overlay *o, uint32_t n)
{
    if (o->cap_sums - o->n_sums >= n)
        return;
    uint32_t cap = o->cap_sums * 2 > o->n_sums + n ? o->cap_sums * 2 : o->n_sums + n;
    o->sums = mem_resize(o->sums, (size_t)cap * o->dim, sizeof *o->sums);
    o->owners = mem_resize(o->owners, cap, sizeof *o->owners);
    o->cap_sums = cap;
}

static inline __attribute__((always_inline)) void gradient_add(struct overlay *o, const uint32_t *slots,
                                                               const float *gradients, size_t stride,
                                                               uint32_t n, uint32_t dim)
{
    for (uint32_t i = 0; i < n; i++) {
        if (i + SLAB_AHEAD < n && slots[i + SLAB_AHEAD] != TABLE_NONE)
            __builtin_prefetch(&o->traces[slots[i + SLAB_AHEAD]], 1);
        uint32_t slot = slots[i];
        if (slot == TABLE_NONE)
            continue;
        const float *g = gradients + i * stride;
        struct trace *trace = &o->traces[slot];
        if (trace->stamp < o->n_sums && o->owners[trace->stamp] == slot) {
            float *sum = o->sums + (size_t)trace->stamp * dim;
            for (uint32_t j = 0; j < dim; j++)
                sum[j] += g[j];
        } else {
            trace->stamp = o->n_sums++;
            o->owners[trace->stamp] = slot;
            memcpy(o->sums + (size_t)trace->stamp * dim, g, dim * sizeof *g);
        }
    }
}

void overlay_gradient(struct overlay *o, const uint32_t *slots, const float *gradients, size_t stride,
                      uint32_t n)
{
    assert(o->magic == OVERLAY_MAGIC && !o->expired);
    sums_reserve(o, n);
    if (o->dim == 16)
        gradient_add(o, slots, gradients, stride, n, 16);
    else
        gradient_add(o, slots, gradients, stride, n, o->dim);
}

// The sum of the squares, in an order of its own that no compiler may change.
static inline __attribute__((always_inline)) float squares(const float *g, uint32_t dim)
{
    float lane[LANES] = {0};
    uint32_t whole = dim / LANES * LANES;
    for (uint32_t j = 0; j < whole; j += LANES)
        for (uint32_t l = 0; l < LANES; l++)
            lane[l] += g[j + l] * g[j + l];
    for (uint32_t j = whole; j < dim; j++)
        lane[j - whole] += g[j] * g[j];
    for (uint32_t half = LANES / 2; half > 0; half /= 2)
        for (uint32_t l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

static inline __attribute__((always_inline)) void row_step(struct table_row *row, const float *g, float scale,
                                                           float lr, uint32_t dim)
{
    row->accum += squares(g, dim) * (scale * scale / (float)dim);
    float rate = lr * scale / (sqrtf(row->accum) + 1e-8f);
    for (uint32_t j = 0; j < dim; j++)
        row->vector[j] -= rate * g[j];
}

static inline __attribute__((always_inline)) void rows_step(struct overlay *o, float scale, float lr,
                                                            uint32_t dim)
{
    for (uint32_t k = 0; k < o->n_sums; k++) {
        if (k + SLAB_AHEAD < o->n_sums)
            slab_row_prefetch(&o->slab, o->owners[k + SLAB_AHEAD]);
        row_step(slab_row(&o->slab, o->owners[k]), o->sums + (size_t)k * dim, scale, lr, dim);
    }
}

// A row whose gradient is clipped, whose weights decay, or whose optimizer is another.
static void row_step_any(const struct overlay *o, const struct optimizer_step *s, struct table_row *row,
                         float *g, float scale)
{
    const uint32_t dim = o->dim;
    const struct optimizer *how = &o->table->options.optimizer;
    if (how->clip_norm > 0)
        scale *= optimizer_clip(how, (double)(scale * sqrtf(squares(g, dim))));
    for (uint32_t j = 0; j < dim; j++)
        g[j] *= scale;
    if (s->kind == OPTIMIZER_ROWWISE_ADAGRAD) {
        optimizer_decay(s, dim, row->vector, g);
        row_step(row, g, 1, s->lr, dim);
    } else {
        optimizer_step(s, dim, row->vector, row->vector + dim, row->vector + 2 * dim, g);
    }
}

static void rows_step_any(struct overlay *o, const struct optimizer_step *s, float scale)
{
    for (uint32_t k = 0; k < o->n_sums; k++) {
        if (k + SLAB_AHEAD < o->n_sums)
            slab_row_prefetch(&o->slab, o->owners[k + SLAB_AHEAD]);
        row_step_any(o, s, slab_row(&o->slab, o->owners[k]), o->sums + (size_t)k * o->dim, scale);
    }
}

void overlay_descend(struct overlay *o, float scale, const struct optimizer_at *at)
{
    assert(o->magic == OVERLAY_MAGIC && !o->expired);
    const struct optimizer *how = &o->table->options.optimizer;
    const struct optimizer_step s = optimizer_step_of(how, how->lr, at, true);
    if (how->kind != OPTIMIZER_ROWWISE_ADAGRAD || how->clip_norm > 0 || how->weight_decay > 0)
        rows_step_any(o, &s, scale);
    else if (o->dim == 16)
        rows_step(o, scale, s.lr, 16);
    else
        rows_step(o, scale, s.lr, o->dim);
    o->n_sums = 0;
}

void overlay_step(struct overlay *o, const uint32_t *slots, const float *gradients, uint32_t n,
                  const struct optimizer_at *at)
{
    assert(o->n_sums == 0);
    overlay_gradient(o, slots, gradients, o->dim, n);
    overlay_descend(o, 1.0f, at);
}

// ---- expiry ------------------------------------------------------------------------------------------

static void gone_put(struct overlay *o, uint32_t slot)
{
    if (o->n_gone == o->cap_gone) {
        o->cap_gone = o->cap_gone > 0 ? o->cap_gone * 2 : 256;
        o->gone = mem_resize(o->gone, o->cap_gone, sizeof *o->gone);
    }
    o->gone[o->n_gone++] = slot;
}

static bool row_alive(const struct table_row *row)
{
    return row->count > 0;
}

// A late event can touch a row, or make one, that is too old all the same.
static void overlay_expire_touched(struct overlay *o, uint32_t before_s)
{
    for (uint32_t i = 0; i < o->slab.count; i++) {
        struct table_row *row = slab_row(&o->slab, i);
        if (row->last_seen_s < before_s)
            row->count = 0;
    }
}

void overlay_expire(struct overlay *o, uint32_t before_s)
{
    assert(o->magic == OVERLAY_MAGIC && !o->expired);
    const struct slab *base = &o->table->slab;
    overlay_expire_touched(o, before_s);
    for (uint32_t i = 0; i < base->count; i++) {
        const struct table_row *row = slab_row(base, i);
        if (row->last_seen_s >= before_s)
            continue;
        uint32_t mine = slab_find(&o->slab, row->id);
        if (mine == TABLE_NONE || !row_alive(slab_row(&o->slab, mine)))
            gone_put(o, i);
    }
    o->expired = true;
}

// ---- what changed ------------------------------------------------------------------------------------

static bool row_finite(const struct table_row *row, uint32_t floats)
{
    bool finite = fabsf(row->accum) <= FLT_MAX;
    for (uint32_t j = 0; j < floats; j++)
        finite &= fabsf(row->vector[j]) <= FLT_MAX;
    return finite;
}

static void figures_put(struct overlay_figures *f, const struct overlay *o, uint32_t i)
{
    const struct table_row *row = slab_row(&o->slab, i);
    f->rows++;
    f->created += o->traces[i].base == TABLE_NONE;
    if (!table_admitted(o->table, row))
        return;
    f->admitted++;
    f->finite &= row_finite(row, table_floats(&o->table->options));
    float norm = sqrtf(squares(row->vector, o->dim));
    f->norm_mean += (double)norm;
    if (norm > f->norm_max)
        f->norm_max = norm;
}

void overlay_figures(const struct overlay *o, struct overlay_figures *ret_figures)
{
    assert(o->magic == OVERLAY_MAGIC);
    struct overlay_figures f = {.full = o->full, .tombstones = o->n_gone, .finite = true};
    for (uint32_t i = 0; i < o->slab.count; i++)
        if (row_alive(slab_row(&o->slab, i)))
            figures_put(&f, o, i);
    if (f.admitted > 0)
        f.norm_mean /= (double)f.admitted;
    *ret_figures = f;
}

// Entries by id: rows of the overlay by their index, tombstones by their place in `gone` after those.
static struct slab_order *overlay_order(const struct overlay *o, uint32_t *ret_n)
{
    uint32_t n = 0;
    struct slab_order *entries = mem_alloc(((size_t)o->slab.count + o->n_gone) * sizeof *entries);
    for (uint32_t i = 0; i < o->slab.count; i++) {
        const struct table_row *row = slab_row(&o->slab, i);
        if (row_alive(row))
            entries[n++] = (struct slab_order){row->id, i};
    }
    for (uint32_t k = 0; k < o->n_gone; k++) {
        uint64_t id = slab_row(&o->table->slab, o->gone[k])->id;
        entries[n++] = (struct slab_order){id, o->slab.count + k};
    }
    slab_sort(entries, n);
    *ret_n = n;
    return entries;
}

void overlay_each(const struct overlay *o,
                  void (*each)(void *context, uint64_t id, const struct table_row *row, bool served),
                  void *context)
{
    assert(o->magic == OVERLAY_MAGIC);
    uint32_t n = 0;
    struct slab_order *entries = overlay_order(o, &n);
    for (uint32_t i = 0; i < n; i++) {
        const struct table_row *row = NULL;
        const struct table_row *looked = NULL;
        if (entries[i].ref < o->slab.count)
            looked = row = slab_row(&o->slab, entries[i].ref);
        else
            looked = slab_row(&o->table->slab, o->gone[entries[i].ref - o->slab.count]);
        each(context, entries[i].id, row, table_admitted(o->table, looked));
    }
    free(entries);
}

// Rows are set before any is dropped, so that the slots in the traces still hold; they are dropped from the
// last to the first, so that the row that fills a hole is never one that must go.
void table_apply(struct table *t, const struct overlay *o)
{
    assert(o->magic == OVERLAY_MAGIC && o->table == t);
    for (uint32_t i = 0; i < o->slab.count; i++) {
        const struct table_row *row = slab_row(&o->slab, i);
        if (!row_alive(row))
            continue;
        uint32_t at = o->traces[i].base;
        if (at == TABLE_NONE)
            at = table_row_make(t, row->id);
        assert(at != TABLE_NONE);
        table_row_set(t, at, row);
    }
    for (uint32_t k = o->n_gone; k > 0; k--)
        table_row_drop(t, o->gone[k - 1]);
}
