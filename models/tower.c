// SPDX-License-Identifier: Apache-2.0
// An entry, one after the other in one mapping; found by a map from the low half of its key:
//
//     | key 128 bit | version u64 | n u32 | asked u8 | inputs, n bytes of at most `widest` | outputs, floats |
//
//     inputs   in order of the net's inputs that the blocks depend on:
//              id u64   |   number f32   |   sequence: u32 length, ids
//     outputs  of each such block, its width
//
// Of two keys with equal low halves the later takes the place of the earlier.
#include "models/tower.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/mem.h"
#include "models/kernel.h"

enum { ENTRY_ALIGN = 8, MAP_BYTES = 24 }; // MAP_BYTES: of an entry in the map, about

struct entry {
    struct digest key;
    uint64_t version; // that the outputs are of
    uint32_t n;       // bytes of inputs
    bool asked;       // since the hand was here, and since the version before
    uint8_t inputs[];
};

struct column { // of what is computed; of an input that is not needed: no more than offsets
    bool needed;
    uint64_t *ids;
    uint32_t *slots, *offsets;
    float *numbers;
};

struct tower {
    uint32_t n_blocks, n_inputs, batch;
    bool *blocks;   // by block of the net: it is kept
    bool *heads;    // by head: none
    uint32_t *dims; // by block
    float **rows;   // by block: (batch, dim), of the batch at hand
    size_t widest, width, outputs, stride;
    struct map map;
    uint8_t *entries;
    uint32_t n, cap, hand;
    uint64_t version;
    uint32_t filled;        // entries before it were looked at since the last version
    struct buf keys;        // inputs of the batch at hand
    size_t *at;             // by sample: where its inputs begin
    struct digest *digests; // by sample
    uint32_t *missing;
    struct column *columns; // by input
    const uint32_t **slots, **offsets;
    const float **numbers;
    struct net_rows *tables;
    struct model_tower_figures figures;
};

static struct entry *entry_of(const struct tower *t, uint32_t i)
{
    return (struct entry *)(void *)(t->entries + i * t->stride);
}

static float *outputs_of(const struct tower *t, struct entry *e)
{
    return (float *)(void *)((uint8_t *)e + t->outputs);
}

// ---- life -------------------------------------------------------------------------------------------------

static void column_new(struct tower *t, const struct net_input *input, uint32_t i)
{
    struct column *c = &t->columns[i];
    const bool sequence = input->kind == NET_INPUT_SEQUENCE, number = input->kind == NET_INPUT_NUMBER;
    const size_t ids = (size_t)t->batch * (sequence ? input->max_len : 1);
    if (sequence)
        t->offsets[i] = c->offsets = mem_array((size_t)t->batch + 1, sizeof(uint32_t));
    if (!c->needed)
        return;
    if (number) {
        t->numbers[i] = c->numbers = mem_array(t->batch, sizeof(float));
        t->widest += sizeof(float);
        return;
    }
    c->ids = mem_array(ids, sizeof(uint64_t));
    t->slots[i] = c->slots = mem_array(ids, sizeof(uint32_t));
    t->widest += sequence ? sizeof(uint32_t) + input->max_len * sizeof(uint64_t) : sizeof(uint64_t);
}

// What is kept, and what it depends on. False: nothing.
static bool tower_shape(struct tower *t, const struct model *m)
{
    struct net *net = m->serve.net;
    bool any = false;
    for (uint32_t b = 0; b < t->n_blocks; b++) {
        t->blocks[b] = net_block_tower(net, b, &t->dims[b]);
        t->width += t->blocks[b] ? t->dims[b] : 0;
        any |= t->blocks[b];
    }
    net_select(net, t->heads, t->blocks, NULL);
    for (uint32_t i = 0; i < m->n_inputs; i++)
        t->columns[i].needed = net_input_needed(net, i);
    net_select(net, NULL, NULL, NULL);
    for (uint32_t i = 0; any && i < m->n_inputs; i++)
        column_new(t, &m->inputs[i], i);
    t->outputs = (sizeof(struct entry) + t->widest + ENTRY_ALIGN - 1) / ENTRY_ALIGN * ENTRY_ALIGN;
    t->stride = (t->outputs + t->width * sizeof(float) + ENTRY_ALIGN - 1) / ENTRY_ALIGN * ENTRY_ALIGN;
    return any;
}

struct tower *tower_new(const struct model *m, uint64_t bytes)
{
    struct tower *t = mem_zalloc(sizeof *t);
    t->n_blocks = net_block_count(m->serve.net);
    t->n_inputs = m->n_inputs;
    t->batch = m->batch;
    t->version = 1;
    t->blocks = mem_array(t->n_blocks + 1, sizeof *t->blocks);
    t->dims = mem_array(t->n_blocks + 1, sizeof *t->dims);
    t->rows = mem_array(t->n_blocks + 1, sizeof(float *));
    t->heads = mem_array(m->n_heads + 1, sizeof *t->heads);
    t->columns = mem_array(m->n_inputs + 1, sizeof *t->columns);
    t->slots = mem_array(m->n_inputs + 1, sizeof(uint32_t *));
    t->offsets = mem_array(m->n_inputs + 1, sizeof(uint32_t *));
    t->numbers = mem_array(m->n_inputs + 1, sizeof(float *));
    t->tables = mem_array(m->options.n_tables + 1, sizeof *t->tables);
    t->at = mem_array((size_t)m->batch + 1, sizeof *t->at);
    t->digests = mem_array(m->batch, sizeof *t->digests);
    t->missing = mem_array(m->batch, sizeof *t->missing);
    const bool any = tower_shape(t, m);
    const uint64_t cap = bytes / (t->stride + MAP_BYTES);
    t->cap = cap < INT32_MAX ? (uint32_t)cap : INT32_MAX;
    if (!any || t->cap == 0) {
        tower_free(t);
        return NULL;
    }
    t->entries = mem_map(t->cap * t->stride);
    for (uint32_t b = 0; b < t->n_blocks; b++)
        if (t->blocks[b])
            t->rows[b] = mem_array((size_t)m->batch * t->dims[b], sizeof(float));
    t->figures.capacity = t->cap;
    return t;
}

void tower_free(struct tower *t)
{
    if (t == NULL)
        return;
    for (uint32_t b = 0; b < t->n_blocks; b++)
        free(t->rows[b]);
    for (uint32_t i = 0; i < t->n_inputs; i++) {
        free(t->columns[i].ids);
        free(t->columns[i].slots);
        free(t->columns[i].offsets);
        free(t->columns[i].numbers);
    }
    if (t->entries != NULL)
        mem_unmap(t->entries, t->cap * t->stride);
    map_done(&t->map);
    buf_done(&t->keys);
    void *all[] = {t->blocks,  t->heads,  t->dims, t->rows,    t->columns, t->slots,
                   t->offsets, t->tables, t->at,   t->digests, t->missing, t->numbers};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    free(t);
}

// ---- inputs -----------------------------------------------------------------------------------------------

// The inputs of sample s of the batch that was cut.
static void inputs_put(struct tower *t, const struct model *m, const struct runner *r, uint32_t s)
{
    for (uint32_t i = 0; i < t->n_inputs; i++) {
        const struct request_column *c = &r->requests.columns[i];
        if (!t->columns[i].needed)
            continue;
        if (m->inputs[i].kind == NET_INPUT_NUMBER) {
            buf_put(&t->keys, &c->numbers[s], sizeof(float));
        } else if (m->inputs[i].kind == NET_INPUT_ID) {
            buf_put_u64(&t->keys, c->ids[s]);
        } else {
            const uint32_t begin = r->offsets[i][s], len = r->offsets[i][s + 1] - begin;
            buf_put_u32(&t->keys, len);
            buf_put(&t->keys, c->ids + begin, len * sizeof *c->ids);
        }
    }
}

// Inputs become row k of the columns.
static void inputs_read(struct tower *t, const struct model *m, const uint8_t *from, uint32_t k)
{
    for (uint32_t i = 0; i < t->n_inputs; i++) {
        struct column *c = &t->columns[i];
        if (!c->needed)
            continue;
        if (m->inputs[i].kind == NET_INPUT_NUMBER) {
            memcpy(&c->numbers[k], from, sizeof(float));
            from += sizeof(float);
            continue;
        }
        uint32_t len = 1, at = k;
        if (m->inputs[i].kind == NET_INPUT_SEQUENCE) {
            memcpy(&len, from, sizeof len);
            from += sizeof len;
            at = c->offsets[k];
            c->offsets[k + 1] = at + len;
        }
        memcpy(c->ids + at, from, len * sizeof *c->ids);
        from += len * sizeof *c->ids;
    }
}

// The blocks of the n rows of the columns, by the model as it is.
static void compute(struct tower *t, struct model *m, uint32_t n)
{
    struct net *net = m->serve.net;
    for (uint32_t k = 0; k < m->options.n_tables; k++)
        t->tables[k] = (struct net_rows){table_vectors(m->tables[k]), table_stride(m->tables[k])};
    for (uint32_t i = 0; i < t->n_inputs; i++) {
        const struct column *c = &t->columns[i];
        if (c->ids != NULL)
            table_find_many(m->tables[m->inputs[i].table], c->ids, c->offsets != NULL ? c->offsets[n] : n,
                            c->slots);
    }
    const struct net_batch batch = {
        .n = n, .tables = t->tables, .slots = t->slots, .offsets = t->offsets, .numbers = t->numbers};
    net_select(net, t->heads, t->blocks, NULL);
    net_forward(net, m->params, &batch, NULL);
}

// Row k of the blocks that were computed, side by side.
static void computed_row(const struct tower *t, const struct net *net, uint32_t k, float *to)
{
    for (uint32_t b = 0; b < t->n_blocks; b++) {
        uint32_t dim;
        size_t stride;
        if (!t->blocks[b])
            continue;
        const float *x = net_block_rows(net, b, &dim, &stride);
        memcpy(to, x + k * stride, dim * sizeof *to);
        to += dim;
    }
}

static void rows_put(struct tower *t, uint32_t s, const float *from)
{
    for (uint32_t b = 0; b < t->n_blocks; b++) {
        if (!t->blocks[b])
            continue;
        memcpy(t->rows[b] + (size_t)s * t->dims[b], from, t->dims[b] * sizeof *from);
        from += t->dims[b];
    }
}

// ---- entries ----------------------------------------------------------------------------------------------

static uint64_t map_key(struct digest key)
{
    return key.low != 0 ? key.low : 1;
}

static struct entry *entry_find(const struct tower *t, struct digest key)
{
    const uint32_t at = map_get(&t->map, map_key(key));
    struct entry *e = at != MAP_NONE ? entry_of(t, at) : NULL;
    return e != NULL && digest_equal(e->key, key) ? e : NULL;
}

// A place for a new one: unused, or the first after the hand that nobody asked for since the hand was there.
static struct entry *entry_take(struct tower *t)
{
    if (t->n < t->cap)
        return entry_of(t, t->n++);
    struct entry *e = entry_of(t, t->hand);
    for (; e->asked; e = entry_of(t, t->hand)) {
        e->asked = false;
        t->hand = t->hand + 1 < t->cap ? t->hand + 1 : 0;
    }
    t->hand = t->hand + 1 < t->cap ? t->hand + 1 : 0;
    const uint32_t at = map_get(&t->map, map_key(e->key));
    if (at != MAP_NONE && entry_of(t, at) == e)
        map_remove(&t->map, map_key(e->key));
    t->figures.evictions++;
    return e;
}

static void entry_put(struct tower *t, const struct net *net, uint32_t s, uint32_t k)
{
    struct entry *e = entry_find(t, t->digests[s]);
    if (e == NULL) {
        e = entry_take(t);
        *map_at(&t->map, map_key(t->digests[s])) =
            (uint32_t)((size_t)((uint8_t *)e - t->entries) / t->stride);
        e->key = t->digests[s];
        e->n = (uint32_t)(t->at[s + 1] - t->at[s]);
        memcpy(e->inputs, t->keys.data + t->at[s], e->n);
    }
    e->asked = true;
    e->version = t->version;
    computed_row(t, net, k, outputs_of(t, e));
}

// ---- giving -----------------------------------------------------------------------------------------------

// Rows of what is there; returns how many samples are not.
static uint32_t look_up(struct tower *t, const struct model *m, const struct runner *r)
{
    uint32_t n = 0;
    buf_clear(&t->keys);
    for (uint32_t s = 0; s < r->batch.n; s++) {
        t->at[s] = t->keys.len;
        inputs_put(t, m, r, s);
        t->digests[s] = digest_bytes(t->keys.data + t->at[s], t->keys.len - t->at[s]);
    }
    t->at[r->batch.n] = t->keys.len;
    for (uint32_t s = 0; s < r->batch.n; s++) {
        struct entry *e = entry_find(t, t->digests[s]);
        if (e == NULL || e->version != t->version) {
            t->missing[n++] = s;
            continue;
        }
        e->asked = true;
        rows_put(t, s, outputs_of(t, e));
    }
    return n;
}

static bool needed(const struct tower *t, const struct net *net)
{
    bool any = false;
    for (uint32_t b = 0; b < t->n_blocks; b++)
        any |= t->blocks[b] && net_block_needed(net, b);
    return any;
}

const bool *tower_give(struct tower *t, struct model *m, struct runner *r)
{
    if (!needed(t, m->serve.net))
        return NULL;
    const uint32_t n = look_up(t, m, r);
    float *row = NULL;
    t->figures.hits += r->batch.n - n;
    t->figures.misses += n;
    for (uint32_t k = 0; k < n; k++)
        inputs_read(t, m, t->keys.data + t->at[t->missing[k]], k);
    if (n > 0) {
        compute(t, m, n);
        row = mem_array(t->width, sizeof *row);
    }
    for (uint32_t k = 0; k < n; k++) {
        computed_row(t, m->serve.net, k, row);
        rows_put(t, t->missing[k], row);
        entry_put(t, m->serve.net, t->missing[k], k);
    }
    free(row);
    r->batch.given = (const float *const *)t->rows;
    return t->blocks;
}

// ---- versions ---------------------------------------------------------------------------------------------

void tower_stale(struct tower *t)
{
    t->version++;
    t->filled = 0;
}

bool tower_fill(struct tower *t, struct model *m, uint32_t max)
{
    uint32_t n = 0;
    max = max < t->batch ? max : t->batch;
    for (; t->filled < t->n && n < max; t->filled++) {
        struct entry *e = entry_of(t, t->filled);
        if (e->version == t->version || !e->asked)
            continue;
        e->asked = false; // of the version that comes
        inputs_read(t, m, e->inputs, n);
        t->missing[n++] = t->filled;
    }
    if (n > 0)
        compute(t, m, n);
    for (uint32_t k = 0; k < n; k++) {
        struct entry *e = entry_of(t, t->missing[k]);
        computed_row(t, m->serve.net, k, outputs_of(t, e));
        e->version = t->version;
    }
    t->figures.fills += n;
    return t->filled < t->n;
}

void tower_figures(const struct tower *t, struct model_tower_figures *ret_figures)
{
    *ret_figures = t->figures;
    ret_figures->entries = t->n;
    ret_figures->bytes = t->n * t->stride + map_bytes(&t->map);
}
