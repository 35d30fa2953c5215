// SPDX-License-Identifier: Apache-2.0
// Problem: every event looks up a user and an item among millions, reads about eight windows and adds to a
// few counters, and the whole has a budget of half a microsecond and of so many bytes.
//
// Idea: one table of (key, pointer), four slots a cache line, over entities that are allocated once and never
// move; a counter exists only for a measure in use. The way to a cold counter is four dependent cache misses
// (slot, entity, counter, newest tile), so entities_prefetch takes each key through four stages,
// PREFETCH_STEP calls apart: with two calls an event (user, item) it serves best when called 8 events ahead.
//
// The budget is kept by a clock over the table's slots: what is clean and durable and was not used since the
// hand last came by is freed. Dirty entities are on a list, so a commit costs what changed.
//
// The store's side (loading, batches, digests) is in entity_store.c.
#include "state/entity.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "state/entity_struct.h"

enum {
    TABLE_FIRST = 1024,     // slots
    RESERVE_MIN = 64 << 20, // a smaller cache is not worth huge pages
    TABLE_MAPPED = 2 << 20, // bytes from which on it is worth huge pages
    PREFETCH_STEP = 4,
};

// ---- the table --------------------------------------------------------------------------------------------

static uint64_t table_key(enum entity_kind kind, uint16_t partition, uint64_t id)
{
    return id ^ hash_mix(((uint64_t)kind << 16 | partition) + 1);
}

static uint64_t table_bytes(uint64_t slots)
{
    return slots * sizeof(struct entity_slot);
}

static struct entity_slot *table_alloc(struct account *a, uint64_t slots)
{
    uint64_t bytes = table_bytes(slots);
    a->bytes += bytes;
    return bytes < TABLE_MAPPED ? mem_zalloc(bytes) : mem_map(bytes);
}

static void table_free(struct account *a, struct entity_slot *slots, uint64_t n)
{
    if (slots == NULL)
        return;
    a->bytes -= table_bytes(n);
    if (table_bytes(n) < TABLE_MAPPED)
        free(slots);
    else
        mem_unmap(slots, table_bytes(n));
}

static void table_place(struct entity_table *t, struct entity_slot slot)
{
    uint64_t i = slot.key & t->mask;
    while (t->slots[i].entity != NULL)
        i = (i + 1) & t->mask;
    t->slots[i] = slot;
}

static void table_grow(struct entity_table *t, struct account *a)
{
    struct entity_table old = *t;
    uint64_t slots = (old.mask + 1) * 2;
    t->slots = table_alloc(a, slots);
    t->mask = slots - 1;
    for (uint64_t i = 0; i <= old.mask; i++)
        if (old.slots[i].entity != NULL)
            table_place(t, old.slots[i]);
    table_free(a, old.slots, old.mask + 1);
}

static void table_insert(struct entities *es, struct entity *e)
{
    struct entity_table *t = &es->table;
    if (t->count >= (t->mask + 1) / 4 * 3) {
        table_grow(t, &es->account);
        es->hand = 0;
    }
    table_place(t, (struct entity_slot){table_key(e->kind, e->partition, e->id), e});
    t->count++;
    *(e->kind == ENTITY_USER ? &es->users : &es->items) += 1;
}

// Frees slot `hole` by moving back what probed past it.
static void table_remove(struct entity_table *t, uint64_t hole)
{
    for (uint64_t i = (hole + 1) & t->mask; t->slots[i].entity != NULL; i = (i + 1) & t->mask) {
        uint64_t home = t->slots[i].key & t->mask;
        if (((i - home) & t->mask) < ((i - hole) & t->mask))
            continue;
        t->slots[hole] = t->slots[i];
        hole = i;
    }
    t->slots[hole] = (struct entity_slot){0};
    t->count--;
}

static struct entity *table_find(const struct entity_table *t, enum entity_kind kind, uint16_t partition,
                                 uint64_t id)
{
    uint64_t key = table_key(kind, partition, id);
    for (uint64_t i = key & t->mask; t->slots[i].entity != NULL; i = (i + 1) & t->mask) {
        struct entity *e = t->slots[i].entity;
        if (t->slots[i].key == key && e->id == id && e->partition == partition && e->kind == kind)
            return e;
    }
    return NULL;
}

// By key alone, without a look at the entity.
static const struct entity *table_find_key(const struct entity_table *t, uint64_t key)
{
    for (uint64_t i = key & t->mask; t->slots[i].entity != NULL; i = (i + 1) & t->mask)
        if (t->slots[i].key == key)
            return t->slots[i].entity;
    return NULL;
}

// The entity that was asked for `steps` stages ago.
static const struct entity *prefetch_stage(const struct entities *es, uint32_t steps)
{
    const struct entity_prefetch *p = es->prefetch;
    return table_find_key(&es->table, p->keys[(p->at - steps * PREFETCH_STEP) % PREFETCH_RING]);
}

void entities_prefetch(const struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id)
{
    struct entity_prefetch *p = es->prefetch;
    uint64_t key = table_key(kind, kind == ENTITY_ITEM ? 0 : partition, id);
    __builtin_prefetch(&es->table.slots[key & es->table.mask]);
    p->keys[p->at % PREFETCH_RING] = key;
    const struct entity *e = prefetch_stage(es, 1);
    if (e != NULL)
        entity_prefetch(e);
    e = prefetch_stage(es, 2);
    if (e != NULL)
        entity_prefetch_counters(e);
    e = prefetch_stage(es, 3);
    if (e != NULL)
        entity_prefetch_newest(e);
    p->at++;
}

// ---- one entity -------------------------------------------------------------------------------------------

struct entity *entity_new(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id,
                          struct str text)
{
    uint32_t len = text.len < ENTITY_TEXT_MAX ? text.len : ENTITY_TEXT_MAX;
    struct entity *e = account_alloc(&es->account, entity_size(len));
    e->id = id;
    e->partition = partition;
    e->kind = (uint8_t)kind;
    e->flags = ENTITY_USED;
    e->text_len = (uint16_t)len;
    if (len > 0)
        memcpy(e->text, text.s, len);
    return e;
}

static struct counter **counter_slot(struct entity *e, uint32_t i)
{
    return i < ENTITY_COUNTERS ? &e->counters[i] : &e->more[i - ENTITY_COUNTERS];
}

static uint32_t counter_index(const struct entity *e, uint8_t measure)
{
    uint32_t below = e->measures & ((1u << measure) - 1);
    return below != 0 ? (uint32_t)__builtin_popcount(below) : 0;
}

void entity_free(struct entities *es, struct entity *e)
{
    if (e == NULL)
        return;
    for (uint32_t i = entity_counters(e); i > 0; i--)
        counter_free(&es->account, *counter_slot(e, i - 1));
    for (struct sequence *s = e->sequences, *next; s != NULL; s = next) {
        next = s->next;
        account_free(&es->account, s);
    }
    account_free(&es->account, e->more);
    account_free(&es->account, e->profile);
    account_free(&es->account, e);
}

struct counter *entity_counter(const struct entity *e, uint8_t measure)
{
    if ((e->measures >> measure & 1) == 0)
        return NULL;
    return entity_counter_nth(e, counter_index(e, measure));
}

struct counter **entity_counter_at(struct entities *es, struct entity *e, uint8_t measure)
{
    uint32_t at = counter_index(e, measure);
    if (e->measures >> measure & 1)
        return counter_slot(e, at);
    uint32_t n = entity_counters(e);
    if (n >= ENTITY_COUNTERS)
        e->more = account_resize(&es->account, e->more, (n + 1 - ENTITY_COUNTERS) * sizeof *e->more);
    for (uint32_t i = n; i > at; i--)
        *counter_slot(e, i) = *counter_slot(e, i - 1);
    *counter_slot(e, at) = counter_new(&es->account);
    e->measures |= 1u << measure;
    return counter_slot(e, at);
}

struct sequence **entity_sequence_at(struct entity *e, uint8_t action)
{
    struct sequence **at = &e->sequences;
    while (*at != NULL && (*at)->action < action)
        at = &(*at)->next;
    return at;
}

static const struct sequence *entity_sequence(const struct entity *e, uint8_t action)
{
    const struct sequence *s = e->sequences;
    while (s != NULL && s->action < action)
        s = s->next;
    return s != NULL && s->action == action ? s : NULL;
}

uint64_t entity_id(const struct entity *e)
{
    return e->id;
}

uint16_t entity_partition(const struct entity *e)
{
    return e->partition;
}

struct str entity_text(const struct entity *e)
{
    return (struct str){e->text, e->text_len};
}

int64_t entity_first_ts(const struct entity *e)
{
    return e->first_ts;
}

struct str state_profile(const struct entity *e, int64_t *ret_ts)
{
    const struct profile *p = e->profile;
    if (ret_ts != NULL)
        *ret_ts = p != NULL ? p->ts : 0;
    return p != NULL && !p->deleted ? (struct str){p->record, p->len} : str_of("");
}

// ---- the cache --------------------------------------------------------------------------------------------

struct entities *entities_new(const struct state_options *options, struct store *store, bool fresh)
{
    struct entities *es = mem_zalloc(sizeof *es);
    es->magic = ENTITIES_MAGIC;
    es->options = *options;
    for (int a = 0; a < ACTION_MAX; a++)
        assert(options->sequence_last[a] <= SEQUENCE_LAST_MAX);
    es->store = store;
    es->fresh = fresh;
    es->watermark = INT64_MIN;
    account_init(&es->account, options->cache_bytes < RESERVE_MIN ? 0 : options->cache_bytes * 2);
    tiling_init(&es->tiling, options->windows, options->n_windows);
    es->table.slots = table_alloc(&es->account, TABLE_FIRST);
    es->table.mask = TABLE_FIRST - 1;
    es->prefetch = mem_zalloc(sizeof *es->prefetch);
    es->loader = sequence_loader_new();
    return es;
}

void entities_free(struct entities *es)
{
    if (es == NULL)
        return;
    for (uint64_t i = 0; i <= es->table.mask; i++)
        entity_free(es, es->table.slots[i].entity);
    table_free(&es->account, es->table.slots, es->table.mask + 1);
    account_free(&es->account, es->dirty);
    chunks_done(&es->chunks);
    buf_done(&es->value);
    sequence_loader_free(es->loader);
    account_done(&es->account);
    free(es->prefetch);
    free(es);
}

int entities_get(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id, struct str text,
                 struct entity **ret_entity, struct err *err)
{
    assert(es->magic == ENTITIES_MAGIC);
    if (kind == ENTITY_ITEM)
        partition = 0;
    struct entity *e = table_find(&es->table, kind, partition, id);
    if (e != NULL) {
        e->flags |= ENTITY_USED;
        es->hits++;
        *ret_entity = e;
        return 0;
    }
    es->misses++;
    if (!es->fresh && entity_load(es, kind, partition, id, text, &e, err) < 0)
        return -1;
    if (e == NULL && text.s != NULL)
        e = entity_new(es, kind, partition, id, text);
    if (e != NULL)
        table_insert(es, e);
    *ret_entity = e;
    return 0;
}

struct entity *entities_peek(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id)
{
    struct entity *e = table_find(&es->table, kind, kind == ENTITY_ITEM ? 0 : partition, id);
    if (e != NULL)
        e->flags |= ENTITY_USED;
    return e;
}

void entities_watermark(struct entities *es, int64_t watermark)
{
    // INT64_MAX is the end of a stream, not a time: what is counted does not age by it.
    if (watermark <= es->watermark || watermark == INT64_MAX)
        return;
    es->watermark = watermark;
    tiling_watermark(&es->tiling, watermark);
}

static bool entity_evictable(const struct entities *es, const struct entity *e)
{
    return (e->flags & ENTITY_DIRTY) == 0 && e->commit <= es->durable;
}

static void entities_evict(struct entities *es, uint64_t slot)
{
    struct entity *e = es->table.slots[slot].entity;
    *(e->kind == ENTITY_USER ? &es->users : &es->items) -= 1;
    table_remove(&es->table, slot);
    entity_free(es, e);
    es->evictions++;
    es->fresh = false;
}

void entities_trim(struct entities *es)
{
    assert(es->magic == ENTITIES_MAGIC);
    uint64_t idle = 0; // slots passed since the last eviction
    while (es->account.bytes > es->options.cache_bytes && !es->stuck) {
        struct entity *e = es->table.slots[es->hand].entity;
        bool used = e != NULL && (e->flags & ENTITY_USED) != 0;
        if (e != NULL && !used && entity_evictable(es, e)) {
            entities_evict(es, es->hand); // and look again at what was moved here
            idle = 0;
            continue;
        }
        if (used)
            e->flags &= (uint8_t)~ENTITY_USED;
        es->hand = (es->hand + 1) & es->table.mask;
        es->stuck = ++idle > 2 * (es->table.mask + 1);
    }
}

void entities_durable(struct entities *es, uint64_t commit)
{
    if (commit > es->durable)
        es->durable = commit;
    es->stuck = false;
}

void entities_figures(const struct entities *es, struct entities_figures *ret_figures)
{
    *ret_figures = (struct entities_figures){
        .users = es->users,
        .items = es->items,
        .bytes = es->account.bytes,
        .hits = es->hits,
        .misses = es->misses,
        .evictions = es->evictions,
    };
}

// ---- changes ----------------------------------------------------------------------------------------------

static void entity_dirty(struct entities *es, struct entity *e)
{
    if (e->flags & ENTITY_DIRTY)
        return;
    e->flags |= ENTITY_DIRTY;
    if (es->n_dirty == es->cap_dirty) {
        es->cap_dirty = es->cap_dirty > 0 ? es->cap_dirty * 2 : 64;
        es->dirty = account_resize(&es->account, es->dirty, es->cap_dirty * sizeof(struct entity *));
    }
    es->dirty[es->n_dirty++] = e;
}

// The first event of an entity creates it.
static void entity_named(struct entities *es, struct entity *e, int64_t ts)
{
    if (e->flags & ENTITY_NAMED)
        return;
    e->first_ts = ts;
    e->flags |= ENTITY_NAMED | ENTITY_NAME_DIRTY;
    entity_dirty(es, e);
}

void entities_count(struct entities *es, struct entity *e, uint16_t partition, uint8_t measure, int64_t ts,
                    uint64_t n)
{
    assert(measure < MEASURE_MAX);
    entity_named(es, e, ts);
    uint32_t tile = tiling_tile(&es->tiling, ts);
    if (tile == TILE_NONE || n == 0)
        return;
    counter_add(entity_counter_at(es, e, measure), &es->account, &es->tiling, tile, partition, n);
    entity_dirty(es, e);
}

uint64_t entities_window(struct entities *es, struct entity *e, uint8_t measure, uint32_t window, int64_t at)
{
    assert(measure < MEASURE_MAX && window < es->tiling.n);
    struct counter *c = entity_counter(e, measure);
    if (c == NULL)
        return 0;
    tiling_seek(&es->tiling, at);
    return counter_window(c, window, es->tiling.lo[window], es->tiling.hi[window]);
}

void entities_sequence_add(struct entities *es, struct entity *user, uint8_t action, uint64_t item,
                           int64_t ts)
{
    assert(action < ACTION_MAX);
    entity_named(es, user, ts);
    uint32_t last = es->options.sequence_last[action];
    if (last == 0)
        return;
    struct sequence **at = entity_sequence_at(user, action);
    if (*at == NULL || (*at)->action != action) {
        struct sequence *s =
            sequence_new(&es->account, action, last < SEQUENCE_FIRST ? last : SEQUENCE_FIRST);
        s->next = *at;
        *at = s;
    }
    if (sequence_add(at, &es->account, last, item, ts))
        entity_dirty(es, user);
}

uint32_t entities_sequence(const struct entity *user, uint8_t action, uint32_t max,
                           struct sequence_entry *ret_entries)
{
    const struct sequence *s = entity_sequence(user, action);
    return s != NULL ? sequence_newest(s, max, ret_entries) : 0;
}

uint32_t entities_snapshot(const struct entity *user, uint8_t action, uint32_t max, uint64_t commit,
                           uint32_t segment)
{
    const struct sequence *s = entity_sequence(user, action);
    bool there = s != NULL && max > 0 && s->snapshot_max == max && s->snapshot_commit == commit &&
                 s->snapshot_segment == segment;
    return there ? s->snapshot_at : UINT32_MAX;
}

void entities_snapshot_set(struct entity *user, uint8_t action, uint32_t max, uint64_t commit,
                           uint32_t segment, uint32_t at)
{
    struct sequence *s = *entity_sequence_at(user, action);
    if (s == NULL || s->action != action)
        return; // an empty one is as short as a reference to it
    s->snapshot_max = max;
    s->snapshot_commit = commit;
    s->snapshot_segment = segment;
    s->snapshot_at = at;
}

void entity_profile_put(struct entities *es, struct entity *e, int64_t ts, bool deleted, struct str record)
{
    if (e->profile == NULL || e->profile->len < record.len)
        e->profile = account_resize(&es->account, e->profile, sizeof *e->profile + record.len);
    e->profile->ts = ts;
    e->profile->deleted = deleted;
    e->profile->len = record.len;
    if (record.len > 0)
        memcpy(e->profile->record, record.s, record.len);
}

bool entities_profile_set(struct entities *es, struct entity *e, int64_t ts, struct str record)
{
    entity_named(es, e, ts);
    if (e->profile != NULL && ts < e->profile->ts)
        return false;
    if (record.s == NULL)
        record.len = 0;
    entity_profile_put(es, e, ts, record.s == NULL, record);
    e->flags |= ENTITY_PROFILE_DIRTY;
    entity_dirty(es, e);
    return true;
}
