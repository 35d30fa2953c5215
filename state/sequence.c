// SPDX-License-Identifier: Apache-2.0
// In memory a sequence is a ring that grows to exactly N entries. Appending in order is O(1); an entry out of
// order, and one that is removed, moves those after it by one place each. A set (options.unique) looks for
// the id at every addition, O(N).
//
// The value of a slot in the store:
//
//     +------+---------+----------+--------+--------+-----------------------------------------------
//     | with | version | position | end    | kept   | entries: item u64, ts, category u64, author u64,
//     | u8   | varint  | varint   | varint | varint | dwell varint, as `with` says
//     +------+---------+----------+--------+--------+-----------------------------------------------
//              when it   of the     of the   entries
//              was put   first      whole    of the whole
//
// ts is the difference from the entry before (the first: from 0), zigzag; with category or author it begins
// with a byte that also says which of them are the entry's before, and are left out:
//
//     | more bytes follow : 1 | low bits of the ts : 5 | same author : 1 | same category : 1 |
//
// Every change writes the newest block, so the value with the largest version tells what is kept; so it does
// of two copies of a block. Two copies there are after N was changed in the config, since slots are then
// counted otherwise; then the whole sequence is written again at its next change, or a block that has a new
// place could fall upon one that still has its old. A block that lies behind `end` was left when entries were
// removed, and is overtaken like one that lies before the oldest kept.
#include "state/sequence.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum {
    ENTRY_BASE = 16,
    SAME_CATEGORY = 1,
    SAME_AUTHOR = 2,
    HEAD_BITS = 5, // of the ts in the byte that says what is the same
    HEAD_MORE = 0x80,
};

static uint32_t entry_stride(uint8_t with)
{
    return ENTRY_BASE + (with & SEQUENCE_CATEGORY ? 8u : 0) + (with & SEQUENCE_AUTHOR ? 8u : 0) +
           (with & SEQUENCE_DWELL ? 4u : 0);
}

static size_t sequence_size(uint8_t with, uint32_t cap)
{
    return sizeof(struct sequence) + (size_t)cap * entry_stride(with);
}

struct sequence *sequence_new(struct account *a, uint8_t number, uint8_t with, uint32_t cap)
{
    static_assert(offsetof(struct sequence, entries) == 64, "a line, then the ring");
    assert(cap > 0 && cap <= SEQUENCE_LAST_MAX);
    with &= SEQUENCE_WITH;
    struct sequence *s = account_alloc(a, sequence_size(with, cap));
    s->number = number;
    s->with = with;
    s->cap = (uint16_t)cap;
    s->dirty_from = UINT64_MAX;
    return s;
}

static uint32_t sequence_place(const struct sequence *s, uint32_t i)
{
    uint32_t at = s->head + i;
    return at < s->cap ? at : at - s->cap;
}

static uint8_t *entry_of(struct sequence *s, uint32_t i)
{
    return s->entries + (size_t)sequence_place(s, i) * entry_stride(s->with);
}

static const uint8_t *entry_of_const(const struct sequence *s, uint32_t i)
{
    assert(i < s->n);
    return s->entries + (size_t)sequence_place(s, i) * entry_stride(s->with);
}

static uint64_t entry_item(const struct sequence *s, uint32_t i)
{
    uint64_t item;
    memcpy(&item, entry_of_const(s, i), sizeof item);
    return item;
}

static int64_t entry_ts(const struct sequence *s, uint32_t i)
{
    int64_t ts;
    memcpy(&ts, entry_of_const(s, i) + sizeof(uint64_t), sizeof ts);
    return ts;
}

void sequence_at(const struct sequence *s, uint32_t i, struct sequence_entry *ret_entry)
{
    const uint8_t *from = entry_of_const(s, i);
    *ret_entry = (struct sequence_entry){0};
    memcpy(&ret_entry->item, from, 8);
    memcpy(&ret_entry->ts, from + 8, 8);
    from += ENTRY_BASE;
    if (s->with & SEQUENCE_CATEGORY) {
        memcpy(&ret_entry->category, from, 8);
        from += 8;
    }
    if (s->with & SEQUENCE_AUTHOR) {
        memcpy(&ret_entry->author, from, 8);
        from += 8;
    }
    if (s->with & SEQUENCE_DWELL)
        memcpy(&ret_entry->dwell_ms, from, 4);
}

static void entry_set(struct sequence *s, uint32_t i, const struct sequence_entry *x)
{
    uint8_t *to = entry_of(s, i);
    memcpy(to, &x->item, 8);
    memcpy(to + 8, &x->ts, 8);
    to += ENTRY_BASE;
    if (s->with & SEQUENCE_CATEGORY) {
        memcpy(to, &x->category, 8);
        to += 8;
    }
    if (s->with & SEQUENCE_AUTHOR) {
        memcpy(to, &x->author, 8);
        to += 8;
    }
    if (s->with & SEQUENCE_DWELL)
        memcpy(to, &x->dwell_ms, 4);
}

static void entry_move(struct sequence *s, uint32_t to, uint32_t from)
{
    memcpy(entry_of(s, to), entry_of(s, from), entry_stride(s->with));
}

// ---- changes ----------------------------------------------------------------------------------------------

static struct sequence *sequence_grow(struct sequence *s, struct account *a, uint32_t last)
{
    assert(s->head == 0); // a ring turns only when it has its full size
    uint32_t cap =
        s->cap * 2u + (uint32_t)SEQUENCE_FIRST; // 4, 12, 28, ...: with the struct these fill a block
    if (cap > last)
        cap = last;
    s = account_resize(a, s, sequence_size(s->with, cap));
    s->cap = (uint16_t)cap;
    return s;
}

// The entries from the i-th on are others now.
static void sequence_changed(struct sequence *s, uint32_t i)
{
    uint64_t position = s->end - s->n + i;
    if (position < s->dirty_from)
        s->dirty_from = position;
    s->snapshot.max = 0;
}

static void sequence_cut(struct sequence *s, uint32_t i)
{
    sequence_changed(s, i);
    for (uint32_t k = i; k + 1 < s->n; k++)
        entry_move(s, k, k + 1);
    s->n--;
    s->end--;
}

static bool sequence_full(const struct sequence *s, uint32_t last)
{
    return s->n >= last;
}

// Room for one more, after the oldest left where N are kept. False: `i`, where the entry belongs, is before
// the oldest.
static bool sequence_room(struct sequence **slot, struct account *a, uint32_t last, uint32_t *i)
{
    struct sequence *s = *slot;
    if (sequence_full(s, last)) {
        if (*i == 0)
            return false;
        s->head = (uint16_t)sequence_place(s, 1);
        s->n--;
        --*i;
    } else if (s->n == s->cap) {
        *slot = sequence_grow(s, a, last);
    }
    return true;
}

// In a set: the older entry of the id goes. False: it is a newer one.
static bool sequence_replaces(struct sequence *s, const struct sequence_entry *x)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (entry_item(s, i) != x->item)
            continue;
        if (entry_ts(s, i) > x->ts)
            return false;
        sequence_cut(s, i);
        return true;
    }
    return true;
}

bool sequence_add(struct sequence **slot, struct account *a, const struct state_sequence_options *options,
                  const struct sequence_entry *entry)
{
    struct sequence *s = *slot;
    assert(options->last > 0);
    if (options->unique && !sequence_replaces(s, entry))
        return false;
    uint32_t i = s->n;
    while (i > 0 && entry_ts(s, i - 1) > entry->ts)
        i--;
    if (!sequence_room(slot, a, options->last, &i))
        return false;
    s = *slot;
    sequence_changed(s, i);
    s->n++;
    for (uint32_t k = s->n - 1u; k > i; k--)
        entry_move(s, k, k - 1);
    entry_set(s, i, entry);
    s->end++;
    return true;
}

uint32_t sequence_remove(struct sequence *s, uint64_t item)
{
    uint32_t n = s->n;
    for (uint32_t i = n; i > 0; i--)
        if (entry_item(s, i - 1) == item)
            sequence_cut(s, i - 1);
    return n - s->n;
}

static bool entry_hidden(const struct sequence *s, const struct gone *gone, uint32_t i)
{
    return gone_hides(gone, entry_item(s, i), entry_ts(s, i));
}

uint32_t sequence_drop(struct sequence *s, const struct gone *gone)
{
    if (gone == NULL || gone->n == 0 || s->clean == gone->epoch)
        return 0;
    uint32_t n = s->n;
    for (uint32_t i = n; i > 0; i--)
        if (entry_hidden(s, gone, i - 1))
            sequence_cut(s, i - 1);
    s->clean = gone->epoch;
    return n - s->n;
}

// ---- reading ----------------------------------------------------------------------------------------------

// Looks once an epoch whether there is anything to hide.
static bool sequence_clean(struct sequence *s, const struct gone *gone)
{
    if (gone == NULL || gone->n == 0 || s->clean == gone->epoch)
        return true;
    for (uint32_t i = 0; i < s->n; i++)
        if (entry_hidden(s, gone, i))
            return false;
    s->clean = gone->epoch;
    return true;
}

uint32_t sequence_newest(struct sequence *s, const struct gone *gone, uint32_t max,
                         struct sequence_entry *ret_entries)
{
    bool clean = sequence_clean(s, gone);
    uint32_t n = 0;
    for (uint32_t i = s->n; i > 0 && n < max; i--)
        if (clean || !entry_hidden(s, gone, i - 1))
            sequence_at(s, i - 1, &ret_entries[n++]);
    return n;
}

// One column of the newest n that are not hidden.
static void column_put(const struct sequence *s, const struct gone *gone, uint32_t n, uint32_t offset,
                       uint32_t size, struct buf *to)
{
    uint8_t *at = buf_reserve(to, (size_t)n * size);
    to->len += (size_t)n * size;
    for (uint32_t i = s->n; i > 0 && n > 0; i--) {
        if (gone != NULL && entry_hidden(s, gone, i - 1))
            continue;
        memcpy(at, entry_of_const(s, i - 1) + offset, size);
        at += size;
        n--;
    }
}

static void column_none(uint32_t n, uint32_t size, struct buf *to)
{
    memset(buf_reserve(to, (size_t)n * size), 0, (size_t)n * size);
    to->len += (size_t)n * size;
}

uint32_t sequence_count(struct sequence *s, const struct gone *gone, uint32_t max)
{
    if (sequence_clean(s, gone))
        return s->n < max ? s->n : max;
    uint32_t n = 0;
    for (uint32_t i = s->n; i > 0 && n < max; i--)
        n += !entry_hidden(s, gone, i - 1);
    return n;
}

void sequence_columns_put(struct sequence *s, const struct gone *gone, uint32_t n, uint8_t with,
                          struct buf *to)
{
    static const struct {
        uint8_t flag, size;
    } columns[] = {{SEQUENCE_CATEGORY, 8}, {SEQUENCE_AUTHOR, 8}, {SEQUENCE_DWELL, 4}};
    const struct gone *filter = sequence_clean(s, gone) ? NULL : gone;
    column_put(s, filter, n, 0, sizeof(uint64_t), to);
    if (with & SEQUENCE_TIME)
        column_put(s, filter, n, sizeof(uint64_t), sizeof(int64_t), to);
    uint32_t offset = ENTRY_BASE;
    for (size_t c = 0; c < sizeof columns / sizeof columns[0]; c++) {
        bool kept = (s->with & columns[c].flag) != 0;
        if (with & columns[c].flag && kept)
            column_put(s, filter, n, offset, columns[c].size, to);
        else if (with & columns[c].flag)
            column_none(n, columns[c].size, to);
        offset += kept ? columns[c].size : 0;
    }
}

bool sequence_has(const struct sequence *s, const struct gone *gone, uint64_t item)
{
    for (uint32_t i = s->n; i > 0; i--)
        if (entry_item(s, i - 1) == item && !entry_hidden(s, gone, i - 1))
            return true;
    return false;
}

// ---- in the store -----------------------------------------------------------------------------------------

bool sequence_dirty(const struct sequence *s, uint64_t *ret_first, uint64_t *ret_last)
{
    if (s->dirty_from == UINT64_MAX)
        return false;
    uint64_t begin = s->end - s->n;
    uint64_t last = s->n > 0 ? s->end - 1 : s->end; // of none at least the head
    uint64_t first = s->dirty_from > begin ? s->dirty_from : begin;
    *ret_first = (first < last ? first : last) / SEQUENCE_BLOCK;
    *ret_last = last / SEQUENCE_BLOCK;
    return true;
}

void sequence_written(struct sequence *s)
{
    s->version++;
    s->dirty_from = UINT64_MAX;
}

static void time_put(struct buf *to, uint64_t zigzag, uint8_t same)
{
    uint8_t head = (uint8_t)(same | (zigzag & ((1u << HEAD_BITS) - 1)) << 2);
    zigzag >>= HEAD_BITS;
    buf_put_u8(to, zigzag > 0 ? head | HEAD_MORE : head);
    if (zigzag > 0)
        buf_put_varint(to, zigzag);
}

static uint64_t time_get(struct rd *from, uint8_t *ret_same)
{
    uint8_t head = rd_u8(from);
    *ret_same = head & (SAME_CATEGORY | SAME_AUTHOR);
    uint64_t zigzag = head >> 2 & ((1u << HEAD_BITS) - 1);
    return head & HEAD_MORE ? zigzag | rd_varint(from) << HEAD_BITS : zigzag;
}

static uint64_t zigzag_of(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static int64_t zigzag_value(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static bool with_ids(uint8_t with)
{
    return (with & (SEQUENCE_CATEGORY | SEQUENCE_AUTHOR)) != 0;
}

// `before` is zero before the first of a block.
static void entry_put(struct buf *to, uint8_t with, const struct sequence_entry *x,
                      const struct sequence_entry *before)
{
    uint8_t same = (uint8_t)((x->category == before->category ? SAME_CATEGORY : 0) |
                             (x->author == before->author ? SAME_AUTHOR : 0));
    uint64_t zigzag = zigzag_of((int64_t)((uint64_t)x->ts - (uint64_t)before->ts));
    buf_put_u64(to, x->item);
    if (with_ids(with))
        time_put(to, zigzag, same);
    else
        buf_put_varint(to, zigzag);
    if (with & SEQUENCE_CATEGORY && !(same & SAME_CATEGORY))
        buf_put_u64(to, x->category);
    if (with & SEQUENCE_AUTHOR && !(same & SAME_AUTHOR))
        buf_put_u64(to, x->author);
    if (with & SEQUENCE_DWELL)
        buf_put_varint(to, x->dwell_ms);
}

// *x is the entry before, and becomes the next one.
static void entry_get(struct rd *from, uint8_t with, struct sequence_entry *x)
{
    uint8_t same = 0;
    x->item = rd_u64(from);
    uint64_t zigzag = with_ids(with) ? time_get(from, &same) : rd_varint(from);
    x->ts = (int64_t)((uint64_t)x->ts + (uint64_t)zigzag_value(zigzag));
    if (with & SEQUENCE_CATEGORY && !(same & SAME_CATEGORY))
        x->category = rd_u64(from);
    if (with & SEQUENCE_AUTHOR && !(same & SAME_AUTHOR))
        x->author = rd_u64(from);
    if (with & SEQUENCE_DWELL)
        x->dwell_ms = (uint32_t)rd_varint(from);
}

void sequence_block_put(const struct sequence *s, uint64_t block, struct buf *to)
{
    uint64_t begin = s->end - s->n;
    uint64_t from = block * SEQUENCE_BLOCK > begin ? block * SEQUENCE_BLOCK : begin;
    uint64_t end = (block + 1) * SEQUENCE_BLOCK < s->end ? (block + 1) * SEQUENCE_BLOCK : s->end;
    assert(from < end || s->n == 0);
    buf_put_u8(to, s->with);
    buf_put_varint(to, s->version + UINT64_C(1));
    buf_put_varint(to, from);
    buf_put_varint(to, s->end);
    buf_put_varint(to, s->n);
    struct sequence_entry before = {0};
    for (uint64_t p = from; p < end; p++) {
        struct sequence_entry x;
        sequence_at(s, (uint32_t)(p - begin), &x);
        entry_put(to, s->with, &x, &before);
        before = x;
    }
}

// Entries of positions [begin, end); of each block how new it is and where it lies, from begin's block on.
struct sequence_loader {
    struct buf values; // slot u8, then the value as buf_put_str
    bool found;
    uint64_t begin, end;
    uint32_t version;
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
    uint8_t with;
    uint64_t version, position, end, kept;
};

static struct block_head block_head_get(struct rd *from)
{
    struct block_head h = {.with = rd_u8(from)};
    h.version = rd_varint(from);
    h.position = rd_varint(from);
    h.end = rd_varint(from);
    h.kept = rd_varint(from);
    bool empty = h.kept == 0 && h.position == h.end;
    if (h.kept > h.end || (!empty && (h.position >= h.end || h.position < h.end - h.kept)) ||
        h.with & ~SEQUENCE_WITH || h.version == 0 || h.version > UINT32_MAX)
        from->bad = true;
    return h;
}

static int loader_bounds(struct sequence_loader *l, uint32_t last, struct err *err)
{
    l->begin = l->end = 0;
    l->version = 0;
    struct rd all = rd_of(l->values.data, l->values.len);
    while (rd_left(&all) > 0) {
        rd_u8(&all);
        struct str value = rd_str(&all);
        struct rd one = rd_of(value.s, value.len);
        struct block_head h = block_head_get(&one);
        if (one.bad)
            return err_set(err, ERR_CORRUPT, "a block of a sequence is malformed");
        if (h.version <= l->version)
            continue;
        l->version = (uint32_t)h.version;
        l->end = h.end;
        l->begin = h.end - (h.kept < last ? h.kept : last);
    }
    return 0;
}

static void loader_block(struct sequence_loader *l, uint8_t slot, struct rd *from)
{
    struct block_head h = block_head_get(from);
    uint64_t first = l->begin / SEQUENCE_BLOCK;
    if (h.position / SEQUENCE_BLOCK < first || h.position >= l->end)
        return; // overtaken
    uint64_t block = h.position / SEQUENCE_BLOCK - first;
    if (h.version < l->stamp[block])
        return;
    l->stamp[block] = h.version;
    l->slot[block] = slot;
    struct sequence_entry x = {0};
    uint64_t p = h.position;
    for (; rd_left(from) > 0 && p < l->end && p / SEQUENCE_BLOCK == first + block; p++) {
        entry_get(from, h.with, &x);
        if (p < l->begin)
            continue;
        l->entries[p - l->begin] = x;
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

static struct sequence *loader_sequence(const struct sequence_loader *l, struct account *a, uint8_t number,
                                        const struct state_sequence_options *options)
{
    uint32_t n = (uint32_t)(l->end - l->begin);
    struct sequence *s = sequence_new(a, number, options->with, n > 0 ? n : 1);
    s->n = (uint16_t)n;
    s->end = l->end;
    s->version = l->version;
    for (uint32_t i = 0; i < n; i++)
        entry_set(s, i, &l->entries[i]);
    if (n > 0 && loader_displaced(l, options->last))
        s->dirty_from = l->begin;
    return s;
}

int sequence_load(struct sequence_loader *l, struct account *a, uint8_t number,
                  const struct state_sequence_options *options, struct sequence **ret_sequence,
                  struct err *err)
{
    assert(options->last <= SEQUENCE_LAST_MAX);
    int r = loader_bounds(l, options->last, err);
    if (r == 0)
        r = loader_blocks(l, err);
    if (r == 0 && l->version > 0 && options->last > 0)
        *ret_sequence = loader_sequence(l, a, number, options);
    sequence_loader_clear(l);
    return r;
}
