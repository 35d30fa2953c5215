// SPDX-License-Identifier: Apache-2.0
// In memory a sequence is a ring that grows to exactly N entries. Appending in order is O(1); an entry out of
// order moves those after it by one place each.
//
// The value of a slot in the store:
//
//     +------------------+--------------+--------------+-------------+------------------+---
//     | position varint  | end varint   | kept varint  | item u64    | ts zigzag        | item, ts ...
//     | of the first     | of the whole | entries of   |             | minus the one    |
//     | entry            | sequence     | the whole    |             | before (first 0) |
//     +------------------+--------------+--------------+-------------+------------------+---
//
// Every change writes the newest block, so the value with the largest `end` tells what is kept. `end` grows
// with every entry, so of two copies of a block the one with the larger is the later. Two copies there are
// after N was changed in the config, since slots are then counted otherwise; then the whole sequence is
// written again at its next change, or a block that has a new place could fall upon one that still has its
// old.
#include "state/sequence.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static size_t sequence_size(uint32_t cap)
{
    return sizeof(struct sequence) + cap * sizeof(struct sequence_entry);
}

struct sequence *sequence_new(struct account *a, uint8_t action, uint32_t cap)
{
    assert(cap > 0);
    struct sequence *s = account_alloc(a, sequence_size(cap));
    s->action = action;
    s->cap = cap;
    s->dirty_from = UINT64_MAX;
    return s;
}

static uint32_t sequence_place(const struct sequence *s, uint32_t i)
{
    uint32_t at = s->head + i;
    return at < s->cap ? at : at - s->cap;
}

const struct sequence_entry *sequence_at(const struct sequence *s, uint32_t i)
{
    assert(i < s->n);
    return &s->entries[sequence_place(s, i)];
}

static struct sequence *sequence_grow(struct sequence *s, struct account *a, uint32_t last)
{
    assert(s->head == 0);                       // a ring turns only when it has its full size
    uint32_t cap = s->cap * 2 + SEQUENCE_FIRST; // 4, 12, 28, ...: with the struct these fill a block
    if (cap > last)
        cap = last;
    s = account_resize(a, s, sequence_size(cap));
    s->cap = cap;
    return s;
}

bool sequence_add(struct sequence **slot, struct account *a, uint32_t last, uint64_t item, int64_t ts)
{
    struct sequence *s = *slot;
    uint32_t i = s->n;
    while (i > 0 && sequence_at(s, i - 1)->ts > ts)
        i--;
    uint64_t position = s->end - s->n + i;
    if (s->n == last) {
        if (i == 0)
            return false;
        s->head = sequence_place(s, 1); // the oldest leaves
        s->n--;
        i--;
    } else if (s->n == s->cap) {
        *slot = s = sequence_grow(s, a, last);
    }
    for (uint32_t k = s->n; k > i; k--)
        s->entries[sequence_place(s, k)] = s->entries[sequence_place(s, k - 1)];
    s->entries[sequence_place(s, i)] = (struct sequence_entry){.item = item, .ts = ts};
    s->n++;
    s->end++;
    if (position < s->dirty_from)
        s->dirty_from = position;
    s->snapshot_max = 0;
    return true;
}

uint32_t sequence_newest(const struct sequence *s, uint32_t max, struct sequence_entry *ret_entries)
{
    uint32_t n = s->n < max ? s->n : max;
    for (uint32_t i = 0; i < n; i++)
        ret_entries[i] = *sequence_at(s, s->n - 1 - i);
    return n;
}

// ---- in the store -----------------------------------------------------------------------------------------

void sequence_block_put(const struct sequence *s, uint64_t block, struct buf *to)
{
    uint64_t begin = s->end - s->n;
    uint64_t from = block * SEQUENCE_BLOCK > begin ? block * SEQUENCE_BLOCK : begin;
    uint64_t end = (block + 1) * SEQUENCE_BLOCK < s->end ? (block + 1) * SEQUENCE_BLOCK : s->end;
    assert(from < end);
    buf_put_varint(to, from);
    buf_put_varint(to, s->end);
    buf_put_varint(to, s->n);
    int64_t before = 0;
    for (uint64_t p = from; p < end; p++) {
        const struct sequence_entry *x = sequence_at(s, (uint32_t)(p - begin));
        buf_put_u64(to, x->item);
        buf_put_zigzag(to, x->ts - before);
        before = x->ts;
    }
}

// Entries of positions [begin, end); of each block how new it is and where it lies, from begin's block on.
struct sequence_loader {
    struct buf values; // slot u8, then the value as buf_put_str
    uint64_t begin, end;
    uint64_t stamp[SEQUENCE_SLOTS_MAX + 1];
    uint8_t slot[SEQUENCE_SLOTS_MAX + 1];
    uint8_t filled[SEQUENCE_LAST_MAX]; // by position
    struct sequence_entry entries[SEQUENCE_LAST_MAX];
};

struct sequence_loader *sequence_loader_new(void)
{
    return mem_zalloc(sizeof(struct sequence_loader));
}

void sequence_loader_free(struct sequence_loader *l)
{
    if (l == NULL)
        return;
    buf_done(&l->values);
    free(l);
}

void sequence_loader_add(struct sequence_loader *l, uint8_t slot, struct str value)
{
    buf_put_u8(&l->values, slot);
    buf_put_str(&l->values, value);
}

void sequence_loader_clear(struct sequence_loader *l)
{
    buf_clear(&l->values);
}

// The head of a value.
struct block_head {
    uint64_t position, end, kept;
};

static struct block_head block_head_get(struct rd *from)
{
    struct block_head h = {.position = rd_varint(from)};
    h.end = rd_varint(from);
    h.kept = rd_varint(from);
    if (h.kept > h.end || h.position >= h.end || h.position < h.end - h.kept)
        from->bad = true;
    return h;
}

static int loader_bounds(struct sequence_loader *l, uint32_t last, struct err *err)
{
    l->begin = l->end = 0;
    struct rd all = rd_of(l->values.data, l->values.len);
    while (rd_left(&all) > 0) {
        rd_u8(&all);
        struct str value = rd_str(&all);
        struct rd one = rd_of(value.s, value.len);
        struct block_head h = block_head_get(&one);
        if (one.bad)
            return err_set(err, ERR_CORRUPT, "a block of a sequence is malformed");
        if (h.end <= l->end)
            continue;
        l->end = h.end;
        l->begin = h.end - (h.kept < last ? h.kept : last);
    }
    return 0;
}

static void loader_block(struct sequence_loader *l, uint8_t slot, struct rd *from)
{
    struct block_head h = block_head_get(from);
    if (h.position / SEQUENCE_BLOCK < l->begin / SEQUENCE_BLOCK)
        return; // overtaken
    uint64_t block = h.position / SEQUENCE_BLOCK - l->begin / SEQUENCE_BLOCK;
    if (h.end < l->stamp[block])
        return;
    l->stamp[block] = h.end;
    l->slot[block] = slot;
    int64_t ts = 0;
    for (uint64_t p = h.position; rd_left(from) > 0 && p < l->end; p++) {
        uint64_t item = rd_u64(from);
        ts = (int64_t)((uint64_t)ts + (uint64_t)rd_zigzag(from));
        if (p < l->begin)
            continue;
        l->entries[p - l->begin] = (struct sequence_entry){.item = item, .ts = ts};
        l->filled[p - l->begin] = 1;
    }
}

static int loader_blocks(struct sequence_loader *l, struct err *err)
{
    memset(l->stamp, 0, sizeof l->stamp);
    memset(l->filled, 0, (size_t)(l->end - l->begin));
    struct rd all = rd_of(l->values.data, l->values.len);
    while (rd_left(&all) > 0) {
        uint8_t slot = rd_u8(&all);
        struct str value = rd_str(&all);
        struct rd one = rd_of(value.s, value.len);
        loader_block(l, slot, &one);
        if (one.bad)
            return err_set(err, ERR_CORRUPT, "a block of a sequence is cut short");
    }
    for (uint64_t i = 0; i < l->end - l->begin; i++)
        if (!l->filled[i])
            return err_set(err, ERR_CORRUPT, "a sequence has a hole");
    return 0;
}

// Is any block in a slot of another N?
static bool loader_displaced(const struct sequence_loader *l, uint32_t last)
{
    uint64_t first = l->begin / SEQUENCE_BLOCK;
    for (uint64_t block = first; block * SEQUENCE_BLOCK < l->end; block++)
        if (l->slot[block - first] != block % sequence_slots(last))
            return true;
    return false;
}

static struct sequence *loader_sequence(const struct sequence_loader *l, struct account *a, uint8_t action,
                                        uint32_t last)
{
    uint32_t n = (uint32_t)(l->end - l->begin);
    if (n == 0)
        return NULL;
    struct sequence *s = sequence_new(a, action, n);
    memcpy(s->entries, l->entries, n * sizeof s->entries[0]);
    s->n = n;
    s->end = l->end;
    if (loader_displaced(l, last))
        s->dirty_from = l->begin;
    return s;
}

int sequence_load(struct sequence_loader *l, struct account *a, uint8_t action, uint32_t last,
                  struct sequence **ret_sequence, struct err *err)
{
    assert(last <= SEQUENCE_LAST_MAX);
    int r = loader_bounds(l, last, err);
    if (r == 0)
        r = loader_blocks(l, err);
    if (r == 0)
        *ret_sequence = loader_sequence(l, a, action, last);
    sequence_loader_clear(l);
    return r;
}
