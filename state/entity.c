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
    LAST_STEPS = 16,  // of an expire
    ABSENT = 1 << 14, // keys
};

// ---- the table --------------------------------------------------------------------------------------------

uint64_t entity_key(enum entity_kind kind, uint16_t partition, uint64_t id)
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

static uint64_t *absent_slot(const struct entities *es, uint64_t key)
{
    return &es->absent[key % ABSENT];
}

void entities_insert(struct entities *es, struct entity *e)
{
    struct entity_table *t = &es->table;
    uint64_t *absent = absent_slot(es, entity_key(e->kind, e->partition, e->id));
    if (*absent == entity_key(e->kind, e->partition, e->id))
        *absent = 0;
    if (t->count >= (t->mask + 1) / 4 * 3) {
        table_grow(t, &es->account);
        es->hand = 0;
    }
    table_place(t, (struct entity_slot){entity_key(e->kind, e->partition, e->id), e});
    t->count++;
    es->cached[e->kind]++;
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
    uint64_t key = entity_key(kind, partition, id);
    for (uint64_t i = key & t->mask; t->slots[i].entity != NULL; i = (i + 1) & t->mask) {
        struct entity *e = t->slots[i].entity;
        if (t->slots[i].key == key && e->id == id && e->partition == partition && e->kind == kind)
            return e;
    }
    return NULL;
}

struct entity *entities_cached(const struct entities *es, enum entity_kind kind, uint16_t partition,
                               uint64_t id)
{
    return table_find(&es->table, kind, partition, id);
}

struct entity *entities_take(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id)
{
    struct entity *e = table_find(&es->table, kind, partition, id);
    if (e == NULL)
        return NULL;
    uint64_t i = entity_key(kind, partition, id) & es->table.mask;
    while (es->table.slots[i].entity != e)
        i = (i + 1) & es->table.mask;
    table_remove(&es->table, i);
    es->cached[kind]--;
    return e;
}

// By key alone, without a look at the entity.
static const struct entity *table_find_key(const struct entity_table *t, uint64_t key)
{
    for (uint64_t i = key & t->mask; t->slots[i].entity != NULL; i = (i + 1) & t->mask)
        if (t->slots[i].key == key)
            return t->slots[i].entity;
    return NULL;
}

// The entity that was asked for `steps` stages ago, and what for.
static const struct entity *prefetch_stage(const struct entities *es, uint32_t steps, uint32_t *ret_measures)
{
    const struct entity_prefetch *p = es->prefetch;
    uint32_t at = (p->at - steps * PREFETCH_STEP) % PREFETCH_RING;
    *ret_measures = p->measures[at];
    return table_find_key(&es->table, p->keys[at]);
}

void entities_prefetch(const struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id,
                       uint32_t measures)
{
    struct entity_prefetch *p = es->prefetch;
    uint64_t key = entity_key(kind, kind == ENTITY_ITEM ? 0 : partition, id);
    __builtin_prefetch(&es->table.slots[key & es->table.mask]);
    p->keys[p->at % PREFETCH_RING] = key;
    p->measures[p->at % PREFETCH_RING] = measures;
    const struct entity *e = prefetch_stage(es, 1, &measures);
    if (e != NULL)
        entity_prefetch(e);
    e = prefetch_stage(es, 2, &measures);
    if (e != NULL)
        entity_prefetch_counters(e, measures);
    e = prefetch_stage(es, 3, &measures);
    if (e != NULL)
        entity_prefetch_newest(e, measures);
    p->at++;
}

void entities_fetch(const struct entities *es, uint64_t key, uint32_t measures, uint32_t stage)
{
    if (stage == 0) {
        __builtin_prefetch(&es->table.slots[key & es->table.mask]);
        return;
    }
    const struct entity *e = table_find_key(&es->table, key);
    if (e == NULL)
        return;
    if (stage == 1)
        entity_prefetch(e);
    else if (stage == 2)
        entity_prefetch_counters(e, measures);
    else
        entity_prefetch_newest(e, measures);
}

// ---- one entity -------------------------------------------------------------------------------------------

struct entity *entity_new(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id,
                          struct str text)
{
    uint32_t len = text.len < ENTITY_TEXT_MAX ? text.len : ENTITY_TEXT_MAX;
    struct entity *e = account_alloc(&es->account, entity_size(kind, len));
    e->id = id;
    e->partition = partition;
    e->kind = (uint8_t)kind;
    e->flags = ENTITY_USED;
    e->last_s = UINT32_MAX;
    e->text_len = (uint16_t)len;
    if (len > 0)
        memcpy(entity_text_at(e), text.s, len);
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
    account_free(&es->account, e->totals);
    if (e->kind != ENTITY_GROUP)
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

struct sequence **entity_sequence_at(struct entity *e, uint8_t number)
{
    struct sequence **at = &e->sequences;
    while (*at != NULL && (*at)->number < number)
        at = &(*at)->next;
    return at;
}

static struct sequence *entity_sequence(const struct entity *e, uint8_t number)
{
    struct sequence *s = e->sequences;
    while (s != NULL && s->number < number)
        s = s->next;
    return s != NULL && s->number == number ? s : NULL;
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
    return (struct str){entity_text_at((struct entity *)e), e->text_len};
}

int64_t entity_first_ts(const struct entity *e)
{
    return e->first_ts;
}

bool entity_is_new(const struct entity *e)
{
    return (e->flags & ENTITY_NAMED) == 0;
}

struct str state_profile(const struct entity *e, int64_t *ret_ts)
{
    const struct profile *p = e->kind != ENTITY_GROUP ? e->profile : NULL;
    if (ret_ts != NULL)
        *ret_ts = p != NULL ? p->ts : 0;
    return p != NULL && !p->deleted ? (struct str){p->record, p->len} : str_of("");
}

// ---- the cache --------------------------------------------------------------------------------------------

// Of last_s, in seconds; 0: it is not kept.
static uint32_t step_of(int64_t expire_ms, bool totals)
{
    if (expire_ms == 0)
        return totals ? 1 : 0;
    int64_t step = expire_ms / LAST_STEPS / 1000;
    return step < 1 ? 1 : step < UINT32_MAX / 2 ? (uint32_t)step : UINT32_MAX / 2;
}

struct entities *entities_new(const struct state_options *options, struct store *store, bool fresh)
{
    struct entities *es = mem_zalloc(sizeof *es);
    es->magic = ENTITIES_MAGIC;
    es->options = *options;
    for (int i = 0; i < STATE_SEQUENCES_MAX; i++)
        assert(options->sequences[i].last <= SEQUENCE_LAST_MAX);
    es->expiry[ENTITY_USER].step_s = step_of(options->user_expire_ms, options->totals);
    es->expiry[ENTITY_ITEM].step_s = step_of(options->item_expire_ms, options->totals);
    es->expiry[ENTITY_GROUP].step_s = step_of(0, options->totals);
    es->since[ENTITY_USER] = es->since[ENTITY_ITEM] = INT64_MIN;
    es->absent = mem_zalloc(ABSENT * sizeof *es->absent);
    es->store = store;
    es->fresh = fresh;
    es->watermark = INT64_MIN;
    account_init(&es->account, options->cache_bytes < RESERVE_MIN ? 0 : options->cache_bytes * 2);
    tiling_init(&es->tiling, options->windows, options->n_windows);
    gone_init(&es->gone, options->gone_max);
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
    account_free(&es->account, es->dirty);
    young_done(es); // its list lies outside as a rule
    entities_reader_end(es);
    // What lies in the reserve goes with it: millions of entities need not be visited once more.
    for (uint64_t i = 0; i <= es->table.mask && es->account.outside > 0; i++)
        entity_free(es, es->table.slots[i].entity);
    table_free(&es->account, es->table.slots, es->table.mask + 1);
    chunks_done(&es->chunks);
    gone_done(&es->gone);
    hidden_done(es);
    free(es->absent);
    buf_done(&es->value);
    sequence_loader_free(es->loader);
    account_done(&es->account);
    free(es->prefetch);
    free(es);
}

int entities_load(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id,
                  const struct group_key *group, struct str text, struct entity **ret_entity, struct err *err)
{
    uint64_t key = entity_key(kind, partition, id);
    es->misses++;
    *ret_entity = NULL;
    bool absent = key != 0 && *absent_slot(es, key) == key; // 0 marks a free slot
    if (es->fresh || absent || entity_hidden(es, kind, partition, id))
        return 0;
    if (entity_load(es, kind, partition, id, group, text, ret_entity, err) < 0)
        return -1;
    if (*ret_entity == NULL)
        *absent_slot(es, key) = key;
    return 0;
}

// `e` is expired, and is not in the table if it was `loaded`: it begins anew, or is as absent.
static int entity_again(struct entities *es, struct entity **e, bool loaded, bool create, struct err *err)
{
    struct entity *old = *e;
    *e = NULL;
    int r = create ? entity_bury(es, old->kind, old->partition, old->id, err) : 0;
    if (loaded)
        entity_free(es, old);
    return r;
}

int entities_get(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id, struct str text,
                 struct entity **ret_entity, struct err *err)
{
    assert(es->magic == ENTITIES_MAGIC && kind < ENTITY_GROUP);
    if (kind == ENTITY_ITEM)
        partition = 0;
    bool create = text.s != NULL;
    struct entity *e = entities_find(es, kind, partition, id);
    bool loaded = e == NULL;
    if (loaded && entities_load(es, kind, partition, id, NULL, text, &e, err) < 0)
        return -1;
    if (e != NULL && entity_expired(es, e)) {
        if (entity_again(es, &e, loaded, create, err) < 0)
            return -1;
        loaded = true;
    }
    if (e == NULL && create)
        e = entity_new(es, kind, partition, id, text);
    if (e != NULL && loaded)
        entities_insert(es, e);
    *ret_entity = e;
    return 0;
}

struct entity *entities_find(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id)
{
    struct entity *e = table_find(&es->table, kind, partition, id);
    if (e == NULL)
        return NULL;
    e->flags |= ENTITY_USED;
    es->hits++;
    return e;
}

struct entity *entities_peek(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id)
{
    struct entity *e = table_find(&es->table, kind, kind == ENTITY_ITEM ? 0 : partition, id);
    if (e == NULL || entity_expired(es, e))
        return NULL;
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
    expiry_watermark(es);
}

static bool entity_evictable(const struct entities *es, const struct entity *e)
{
    return (e->flags & ENTITY_DIRTY) == 0 && e->commit <= es->durable;
}

static void entities_evict(struct entities *es, uint64_t slot)
{
    struct entity *e = es->table.slots[slot].entity;
    es->cached[e->kind]--;
    table_remove(&es->table, slot);
    entity_free(es, e);
    es->evictions++;
    es->fresh = false;
}

void entities_trim(struct entities *es)
{
    assert(es->magic == ENTITIES_MAGIC);
    graves_trim(es);
    entities_reader_end(es); // it keeps files
    uint64_t idle = 0;       // slots passed since the last eviction
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
    entities_reader_end(es);
    groups_durable(es);
    hidden_durable(es);
}

void entities_figures(const struct entities *es, struct entities_figures *ret_figures)
{
    *ret_figures = (struct entities_figures){
        .users = es->cached[ENTITY_USER],
        .items = es->cached[ENTITY_ITEM],
        .groups = es->cached[ENTITY_GROUP],
        .gone = es->gone.n,
        .gone_forgotten = es->gone.forgotten,
        .gone_bytes = gone_bytes(&es->gone),
        .bytes = es->account.bytes,
        .hits = es->hits,
        .misses = es->misses,
        .evictions = es->evictions,
        .dirty = es->n_dirty,
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
    if (e->kind == ENTITY_GROUP)
        group_named(es, e);
}

// It was seen in a later step than before.
static void entity_step(struct entities *es, struct entity *e, uint16_t partition, uint32_t seconds)
{
    e->last_s = seconds - seconds % es->expiry[e->kind].step_s;
    e->flags |= ENTITY_LAST_DIRTY;
    if (e->kind != ENTITY_GROUP)
        e->last_partition = partition;
    entity_dirty(es, e);
}

void entities_seen(struct entities *es, struct entity *e, uint16_t partition, int64_t ts)
{
    entity_named(es, e, ts);
    uint32_t step = es->expiry[e->kind].step_s;
    if (step == 0)
        return;
    uint32_t seconds = entity_seconds(ts > es->watermark ? ts : es->watermark);
    if (e->last_s == UINT32_MAX || seconds >= e->last_s + (uint64_t)step)
        entity_step(es, e, partition, seconds);
}

void entities_count(struct entities *es, struct entity *e, uint16_t partition, uint8_t measure, int64_t ts,
                    uint64_t n)
{
    assert(measure < MEASURE_MAX);
    entities_seen(es, e, partition, ts);
    if (es->options.totals && n > 0) {
        totals_add(&e->totals, &es->account, partition, measure, n);
        entity_dirty(es, e);
    }
    uint32_t tile = tiling_tile(&es->tiling, ts);
    if (tile == TILE_NONE || n == 0)
        return;
    counter_add(entity_counter_at(es, e, measure), &es->account, &es->tiling, tile, partition, n);
    entity_dirty(es, e);
}

struct mem_span entities_ahead(struct entities *es)
{
    return account_span(&es->account);
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

uint64_t entities_total(const struct entity *e, uint8_t measure)
{
    assert(measure < MEASURE_MAX);
    return totals_sum(e->totals, measure);
}

// ---- sequences --------------------------------------------------------------------------------------------

static const struct gone *sequence_gone(const struct entities *es, uint8_t number)
{
    return es->options.sequences[number].gone ? &es->gone : NULL;
}

static struct sequence **entity_sequence_make(struct entities *es, struct entity *e, uint8_t number)
{
    const struct state_sequence_options *o = &es->options.sequences[number];
    struct sequence **at = entity_sequence_at(e, number);
    if (*at != NULL && (*at)->number == number)
        return at;
    struct sequence *s =
        sequence_new(&es->account, number, o->with, o->last < SEQUENCE_FIRST ? o->last : SEQUENCE_FIRST);
    s->next = *at;
    *at = s;
    return at;
}

// What tombstones hide leaves first; what comes hidden does not enter.
void entities_sequence_add(struct entities *es, struct entity *e, uint8_t number,
                           const struct sequence_entry *entry)
{
    assert(number < STATE_SEQUENCES_MAX);
    const struct state_sequence_options *o = &es->options.sequences[number];
    const struct gone *gone = sequence_gone(es, number);
    entities_seen(es, e, e->partition, entry->ts);
    if (o->last == 0)
        return;
    struct sequence **at = entity_sequence_make(es, e, number);
    bool changed = sequence_drop(*at, gone) > 0;
    if (!gone_hides(gone, entry->item, entry->ts))
        changed |= sequence_add(at, &es->account, o, entry);
    if (changed)
        entity_dirty(es, e);
}

uint32_t entities_sequence_remove(struct entities *es, struct entity *e, uint8_t number, uint64_t item)
{
    struct sequence *s = entity_sequence(e, number);
    uint32_t n = s != NULL ? sequence_remove(s, item) : 0;
    if (n > 0)
        entity_dirty(es, e);
    return n;
}

uint32_t entities_sequence(const struct entities *es, const struct entity *e, uint8_t number, uint32_t max,
                           struct sequence_entry *ret_entries)
{
    struct sequence *s = entity_sequence(e, number);
    return s != NULL ? sequence_newest(s, sequence_gone(es, number), max, ret_entries) : 0;
}

bool entities_sequence_has(const struct entities *es, const struct entity *e, uint8_t number, uint64_t item)
{
    const struct sequence *s = entity_sequence(e, number);
    return s != NULL && sequence_has(s, sequence_gone(es, number), item);
}

// In full: varint n + 1, then n ids and the columns. As a reference: varint 0, then u32 the offset in the
// segment at which the full copy begins. A sequence of none is always put in full: it is one byte.
void entities_sequence_put(struct entities *es, struct entity *e, uint8_t number, uint32_t max, uint8_t with,
                           const struct sequence_snapshot *place, struct buf *to)
{
    struct sequence *s = entity_sequence(e, number);
    const struct gone *gone = sequence_gone(es, number);
    uint32_t n = s != NULL ? sequence_count(s, gone, max) : 0;
    if (n == 0) {
        buf_put_varint(to, 1);
        return;
    }
    struct sequence_snapshot *last = &s->snapshot;
    bool again = place->at != UINT32_MAX && max <= UINT16_MAX;
    if (again && last->max == max && last->with == with && last->commit == place->commit &&
        last->segment == place->segment && last->epoch == es->gone.epoch) {
        buf_put_varint(to, 0);
        buf_put_u32(to, last->at);
        return;
    }
    if (again)
        *last = (struct sequence_snapshot){.commit = place->commit,
                                           .segment = place->segment,
                                           .at = place->at + (uint32_t)to->len,
                                           .epoch = es->gone.epoch,
                                           .max = (uint16_t)max,
                                           .with = with};
    buf_put_varint(to, (uint64_t)n + 1);
    sequence_columns_put(s, gone, n, with, to);
}

// ---- profiles ---------------------------------------------------------------------------------------------

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
    assert(e->kind != ENTITY_GROUP);
    entities_seen(es, e, e->partition, ts);
    if (e->profile != NULL && ts < e->profile->ts)
        return false;
    if (record.s == NULL)
        record.len = 0;
    entity_profile_put(es, e, ts, record.s == NULL, record);
    e->flags |= ENTITY_PROFILE_DIRTY;
    entity_dirty(es, e);
    return true;
}
