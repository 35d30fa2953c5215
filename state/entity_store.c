// SPDX-License-Identifier: Apache-2.0
// Entities and the store: loading by a search and an iteration over an entity's keys, the dirty parts into a batch,
// the canonical bytes for digests. Keys are described in keys.h; values here:
//
//     'A'   ts zigzag, u8 1 = there is a record / 0 = deleted, record to the end
//     'C'   chunk.c; the key's hour is the number of the chunk, which is an hour unless the coarsest tile is
//           longer or does not divide it: then a chunk is the least multiple of that tile above an hour
//     'L'   last ts in seconds varint, then with totals totals.c
//     'N'   first ts zigzag, text to the end
//     'S'   sequence.c
//
// Tiles are numbers of finest tiles: a store must be read with the windows it was written with.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "state/entity_struct.h"
#include "state/keys.h"

enum {
    KEY_SUB_TILES_LEN = 7,
    KEY_MAX = KEY_GROUP_PREFIX + KEY_SUB_TILES_LEN,
    BATCH_AHEAD = 4,
    BATCH_TURN = 32,
};

struct key {
    uint8_t bytes[KEY_MAX];
    size_t len;
};

static void key_put_be(struct key *k, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        k->bytes[k->len++] = (uint8_t)(v >> (8 * (n - 1 - i)));
}

static struct key key_of(enum entity_kind kind, uint16_t partition, uint64_t id)
{
    struct key k = {.len = 0};
    key_put_be(&k, KEY_USER + (uint64_t)kind, 1);
    key_put_be(&k, partition, 2);
    key_put_be(&k, id, 8);
    return k;
}

static struct key key_of_group(const struct group_key *group)
{
    struct key k = key_of(ENTITY_GROUP, group->partition, group->owner);
    key_put_be(&k, (uint64_t)group->of, 1);
    key_put_be(&k, group->grouping, 1);
    key_put_be(&k, group->value, 8);
    return k;
}

static struct key key_of_entity(const struct entity *e)
{
    struct group_key group;
    if (e->kind != ENTITY_GROUP)
        return key_of(e->kind, e->partition, e->id);
    entity_group(e, &group);
    return key_of_group(&group);
}

static struct str key_str(const struct key *k)
{
    return (struct str){(const char *)k->bytes, (uint32_t)k->len};
}

// ---- loading ----------------------------------------------------------------------------------------------

// An entity while its keys are read.
struct loading {
    struct entities *es;
    struct entity *e;
    int sequence; // whose slots are in the loader; -1: none
};

static int loading_name(struct loading *l, struct rd *from, struct err *err)
{
    struct entity *e = l->e;
    e->first_ts = rd_zigzag(from);
    size_t len = rd_left(from);
    if (from->bad || len > ENTITY_TEXT_MAX)
        return err_set(err, ERR_CORRUPT, "a name is malformed");
    if (len != e->text_len)
        l->e = e = account_resize(&l->es->account, e, entity_size(e->kind, len));
    e->text_len = (uint16_t)len;
    if (len > 0)
        memcpy(entity_text_at(e), from->p, len);
    e->flags |= ENTITY_NAMED;
    return 0;
}

static int loading_last(struct loading *l, struct rd *rest, struct rd *from, struct err *err)
{
    struct entity *e = l->e;
    uint16_t partition = rd_be16(rest);
    uint64_t last = rd_varint(from);
    if (rest->bad || rd_left(rest) > 0 || from->bad || last >= UINT32_MAX)
        return err_set(err, ERR_CORRUPT, "a record of totals is malformed");
    if (rd_left(from) > 0 && l->es->options.totals &&
        totals_load(&e->totals, &l->es->account, partition, from) < 0)
        return err_set(err, ERR_CORRUPT, "a record of totals is malformed");
    uint32_t step = l->es->expiry[e->kind].step_s;
    uint32_t seconds = step > 0 ? (uint32_t)last - (uint32_t)last % step : UINT32_MAX;
    if (e->last_s == UINT32_MAX || seconds > e->last_s)
        e->last_s = seconds;
    return 0;
}

static int loading_profile(struct loading *l, struct rd *from, struct err *err)
{
    int64_t ts = rd_zigzag(from);
    uint8_t there = rd_u8(from);
    if (from->bad || there > 1)
        return err_set(err, ERR_CORRUPT, "a profile is malformed");
    struct str record = {(const char *)from->p, (uint32_t)rd_left(from)};
    entity_profile_put(l->es, l->e, ts, there == 0, record);
    return 0;
}

static int loading_tiles(struct loading *l, struct rd *rest, struct rd from, struct err *err)
{
    struct entities *es = l->es;
    const struct tiling *t = &es->tiling;
    uint64_t chunk = rd_be32(rest);
    uint16_t partition = rd_be16(rest);
    if (rest->bad || rd_left(rest) > 0 || (chunk + 1) * t->chunk > UINT32_MAX)
        return err_set(err, ERR_CORRUPT, "a key of tiles is malformed");
    struct chunk_reader r = {.from = from, .base = (uint32_t)chunk * t->chunk, .size = t->chunk};
    if (r.base + r.size <= t->alive_any)
        return 0;
    struct chunk_tile x;
    while (chunk_read(&r, &x)) {
        uint32_t tile = tiling_merged(t, x.tile);
        if (tile != TILE_NONE && x.count > 0)
            counter_load(entity_counter_at(es, l->e, x.measure), &es->account, t, tile, partition, x.count);
    }
    return r.from.bad ? err_set(err, ERR_CORRUPT, "a chunk of tiles is malformed") : 0;
}

// All slots of l->sequence have been read.
static int loading_sequence_end(struct loading *l, struct err *err)
{
    if (l->sequence < 0)
        return 0;
    struct entities *es = l->es;
    uint8_t number = (uint8_t)l->sequence;
    struct sequence *s = NULL;
    l->sequence = -1;
    if (sequence_load(es->loader, &es->account, number, &es->options.sequences[number], &s, err) < 0)
        return -1;
    if (s == NULL)
        return 0;
    struct sequence **at = entity_sequence_at(l->e, number);
    s->next = *at;
    *at = s;
    return 0;
}

static int loading_slot(struct loading *l, struct rd *rest, struct str value, struct err *err)
{
    uint8_t number = rd_u8(rest);
    uint8_t slot = rd_u8(rest);
    if (rest->bad || rd_left(rest) > 0 || number >= STATE_SEQUENCES_MAX)
        return err_set(err, ERR_CORRUPT, "a key of a sequence is malformed");
    if (number != l->sequence && loading_sequence_end(l, err) < 0)
        return -1;
    l->sequence = number;
    sequence_loader_add(l->es->loader, slot, value);
    return 0;
}

static int loading_key(struct loading *l, struct str key, struct str value, struct err *err)
{
    size_t prefix = key_prefix((uint8_t)key.s[0]);
    struct rd rest = rd_of(key.s + prefix, key.len - prefix);
    struct rd from = rd_of(value.s, value.len);
    switch (rd_u8(&rest)) {
    case KEY_SUB_NAME:
        return loading_name(l, &from, err);
    case KEY_SUB_PROFILE:
        if (l->e->kind == ENTITY_GROUP)
            return err_set(err, ERR_CORRUPT, "a group has a profile");
        return loading_profile(l, &from, err);
    case KEY_SUB_TILES:
        return loading_tiles(l, &rest, from, err);
    case KEY_SUB_LAST:
        return loading_last(l, &rest, &from, err);
    case KEY_SUB_SEQUENCE:
        return loading_slot(l, &rest, value, err);
    default:
        return err_set(err, ERR_CORRUPT, "a key of an unknown kind");
    }
}

// Reads the entity that the iterator stands on, and leaves the iterator behind it.
static int entity_read(struct entities *es, struct store_iter *it, const struct key *prefix, struct entity *e,
                       struct entity **ret_entity, struct err *err)
{
    struct loading l = {.es = es, .e = e, .sequence = -1};
    int r = 0;
    for (; r == 0 && store_iter_begins(it, key_str(prefix)); store_iter_next(it))
        r = loading_key(&l, store_iter_key(it), store_iter_value(it), err);
    if (r == 0)
        r = loading_sequence_end(&l, err);
    if (l.e->last_s == UINT32_MAX && es->expiry[l.e->kind].step_s > 0)
        l.e->last_s = 0;
    if (r == 0 && (l.e->flags & ENTITY_NAMED) == 0)
        r = err_set(err, ERR_CORRUPT, "an entity has no name");
    if (r < 0) {
        static const char *const kinds[] = {"user", "item", "group"};
        err_context(err, "%s %016llx of partition %u", kinds[l.e->kind], (unsigned long long)l.e->id,
                    l.e->partition);
        sequence_loader_clear(es->loader);
        entity_free(es, l.e);
        return -1;
    }
    *ret_entity = l.e;
    return 0;
}

static struct entity *entity_empty(struct entities *es, enum entity_kind kind, uint16_t partition,
                                   uint64_t id, const struct group_key *group, struct str text)
{
    struct entity *e = entity_new(es, kind, partition, id, text);
    if (group != NULL)
        entity_group_set(e, group);
    return e;
}

// One iterator serves until a commit becomes durable: to make one costs as much as a search. What is not in memory
// was evicted, or taken out by a burial, when all of it was in commits that entities_durable had told, and a reader is
// made after the last of these: so it sees all there is to see of what it is asked for. Most of that is absent,
// groups above all, and the filters tell.
static struct store_iter *entities_reader(struct entities *es)
{
    if (es->reader == NULL)
        es->reader = store_iter_prefixes(es->store);
    return es->reader;
}

void entities_reader_end(struct entities *es)
{
    (void)store_iter_free(es->reader, NULL); // what it could not read was told by the search
    es->reader = NULL;
}

int entity_load(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id,
                const struct group_key *group, struct str text, struct entity **ret_entity, struct err *err)
{
    struct key prefix = group != NULL ? key_of_group(group) : key_of(kind, partition, id);
    struct store_iter *it = entities_reader(es);
    struct entity *e = NULL;
    int r = 0;
    store_iter_seek(it, key_str(&prefix));
    if (store_iter_begins(it, key_str(&prefix)))
        r = entity_read(es, it, &prefix, entity_empty(es, kind, partition, id, group, text), &e, err);
    if (r == 0 && !store_iter_valid(it))
        r = store_iter_error(it, err);
    if (r < 0) {
        entity_free(es, e);
        entities_reader_end(es);
        return -1;
    }
    if (e != NULL)
        *ret_entity = e;
    return 0;
}

// What entities_each needs: for groups, whose owners are expired.
struct each {
    struct entities *es;
    struct map dead; // hash of an owner
    int (*each)(void *context, struct entity *e);
    void *context;
};

static uint64_t dead_key(enum entity_kind kind, uint16_t partition, uint64_t id)
{
    return hash_mix(entity_key(kind, partition, id)) | 1;
}

static void each_dead(void *context, const struct buried *b)
{
    struct each *x = context;
    *map_at(&x->dead, dead_key(b->kind, b->partition, b->id)) = 0;
}

static bool each_passes(const struct each *x, const struct entity *e)
{
    if (e->kind != ENTITY_GROUP)
        return !entity_expired(x->es, e);
    enum entity_kind owner = e->of == GROUP_OF_USER ? ENTITY_USER : ENTITY_ITEM;
    return e->of == GROUP_OF_ALL || map_get(&x->dead, dead_key(owner, e->partition, e->owner)) == MAP_NONE;
}

// An entity whose keys begin so.
static int each_new(struct entities *es, const struct key *prefix, struct entity **ret_entity,
                    struct err *err)
{
    struct rd from = rd_of(prefix->bytes, prefix->len);
    enum entity_kind kind = (enum entity_kind)(rd_u8(&from) - KEY_USER);
    uint16_t partition = rd_be16(&from);
    uint64_t id = rd_be64(&from);
    struct group_key group = {0};
    if (kind == ENTITY_GROUP && !group_key_read(key_str(prefix), &group))
        return err_set(err, ERR_CORRUPT, "a key of a group is malformed");
    id = kind == ENTITY_GROUP ? group_id(&group) : id;
    *ret_entity =
        entity_empty(es, kind, partition, id, kind == ENTITY_GROUP ? &group : NULL, (struct str){NULL, 0});
    return 0;
}

static int each_next(struct each *x, struct store_iter *it, struct err *err)
{
    struct entities *es = x->es;
    struct str first = store_iter_key(it);
    struct key prefix = {.len = key_prefix((uint8_t)first.s[0])};
    struct entity *e = NULL;
    if (first.len < prefix.len)
        return err_set(err, ERR_CORRUPT, "a key of %u bytes among users, items and groups", first.len);
    memcpy(prefix.bytes, first.s, prefix.len);
    if (each_new(es, &prefix, &e, err) < 0)
        return -1;
    if (entity_read(es, it, &prefix, e, &e, err) < 0)
        return -1;
    int r = each_passes(x, e) ? x->each(x->context, e) : 0;
    entity_free(es, e);
    return r != 0 ? -1 : 0;
}

int entities_each(struct entities *es, enum entity_kind kind, int (*each)(void *context, struct entity *e),
                  void *context, struct err *err)
{
    static_assert(KEY_ITEM - KEY_USER == ENTITY_ITEM && KEY_GROUP - KEY_USER == ENTITY_GROUP, "in one order");
    struct each x = {.es = es, .each = each, .context = context};
    if (kind == ENTITY_GROUP && sweep_each(es->store, es->expiry, each_dead, &x, err) < 0)
        return -1;
    char family = (char)(KEY_USER + (int)kind);
    struct store_iter *it = store_iter_new(es->store, (struct str){&family, 1}, (struct str){NULL, 0}, false);
    int r = 0;
    while (r == 0 && store_iter_valid(it))
        r = each_next(&x, it, err);
    map_done(&x.dead);
    if (store_iter_free(it, r == 0 ? err : NULL) < 0)
        r = -1;
    return r;
}

// ---- batches ----------------------------------------------------------------------------------------------

static void batch_put(struct store_batch *b, const struct key *key, const struct buf *value)
{
    store_batch_put(b, key->bytes, key->len, value->data, value->len);
}

static void batch_name(struct entities *es, const struct entity *e, struct key key, struct store_batch *b)
{
    key_put_be(&key, KEY_SUB_NAME, 1);
    buf_clear(&es->value);
    buf_put_zigzag(&es->value, e->first_ts);
    struct str text = entity_text(e);
    buf_put(&es->value, text.s, text.len);
    batch_put(b, &key, &es->value);
}

// The records of the partitions that counted, and of the one that moved the last ts.
static void batch_last(struct entities *es, struct entity *e, const struct key *prefix, struct store_batch *b)
{
    uint16_t partition = e->kind == ENTITY_GROUP ? e->partition : e->last_partition;
    bool alone = (e->flags & ENTITY_LAST_DIRTY) != 0 && !totals_touch(e->totals, partition);
    uint32_t at = 0;
    uint32_t last = e->last_s != UINT32_MAX ? e->last_s : 0;
    for (;; alone = false) {
        buf_clear(&es->value);
        buf_put_varint(&es->value, last);
        if (!alone && !totals_next(e->totals, &at, &partition, &es->value))
            return;
        struct key key = *prefix;
        key_put_be(&key, KEY_SUB_LAST, 1);
        key_put_be(&key, partition, 2);
        batch_put(b, &key, &es->value);
    }
}

static void batch_profile(struct entities *es, const struct entity *e, struct key key, struct store_batch *b)
{
    key_put_be(&key, KEY_SUB_PROFILE, 1);
    buf_clear(&es->value);
    buf_put_zigzag(&es->value, e->profile->ts);
    buf_put_u8(&es->value, e->profile->deleted ? 0 : 1);
    buf_put(&es->value, e->profile->record, e->profile->len);
    batch_put(b, &key, &es->value);
}

static uint32_t entity_dirty_chunk(const struct entity *e)
{
    uint32_t from = CHUNK_NONE;
    for (uint32_t i = entity_counters(e); i > 0; i--) {
        const struct counter *c = entity_counter_nth(e, i - 1);
        from = c->dirty < from ? c->dirty : from;
    }
    return from;
}

static void batch_tiles(struct entities *es, const struct entity *e, const struct key *prefix,
                        struct store_batch *b)
{
    uint32_t from = entity_dirty_chunk(e);
    if (from == CHUNK_NONE)
        return;
    struct chunks *k = &es->chunks;
    chunks_begin(k);
    uint32_t measures = e->measures;
    for (uint32_t i = 0; measures != 0; i++, measures &= measures - 1)
        chunks_take(k, &es->tiling, (uint8_t)__builtin_ctz(measures), entity_counter_nth(e, i), from);
    uint32_t chunk;
    uint16_t partition;
    for (buf_clear(&es->value); chunks_next(k, &chunk, &partition, &es->value); buf_clear(&es->value)) {
        struct key key = *prefix;
        key_put_be(&key, KEY_SUB_TILES, 1);
        key_put_be(&key, chunk, 4);
        key_put_be(&key, partition, 2);
        batch_put(b, &key, &es->value);
    }
}

static void batch_sequence(struct entities *es, struct sequence *s, const struct key *prefix,
                           struct store_batch *b)
{
    uint64_t block, last;
    if (!sequence_dirty(s, &block, &last))
        return;
    uint32_t slots = sequence_slots(es->options.sequences[s->number].last);
    for (; block <= last; block++) {
        struct key key = *prefix;
        key_put_be(&key, KEY_SUB_SEQUENCE, 1);
        key_put_be(&key, s->number, 1);
        key_put_be(&key, block % slots, 1);
        buf_clear(&es->value);
        sequence_block_put(s, block, &es->value);
        batch_put(b, &key, &es->value);
    }
    sequence_written(s);
}

static void entity_batch(struct entities *es, struct entity *e, struct store_batch *b)
{
    struct key prefix = key_of_entity(e);
    if (e->flags & ENTITY_NAME_DIRTY)
        batch_name(es, e, prefix, b);
    if (e->flags & ENTITY_PROFILE_DIRTY)
        batch_profile(es, e, prefix, b);
    batch_tiles(es, e, &prefix, b);
    if (e->totals != NULL || e->flags & ENTITY_LAST_DIRTY)
        batch_last(es, e, &prefix, b);
    for (struct sequence *s = e->sequences; s != NULL; s = s->next)
        batch_sequence(es, s, &prefix, b);
    e->flags &= (uint8_t) ~(ENTITY_DIRTY | ENTITY_NAME_DIRTY | ENTITY_PROFILE_DIRTY | ENTITY_LAST_DIRTY);
}

__attribute__((always_inline)) static inline void batch_prefetch(const struct entities *es, uint64_t i)
{
    if (i + UINT64_C(2) * BATCH_AHEAD < es->n_dirty)
        entity_prefetch(es->dirty[i + UINT64_C(2) * BATCH_AHEAD]);
    if (i + BATCH_AHEAD < es->n_dirty)
        entity_prefetch_counters(es->dirty[i + BATCH_AHEAD], UINT32_MAX);
}

void entities_batch(struct entities *es, uint64_t commit, struct store_batch *b)
{
    assert(es->magic == ENTITIES_MAGIC && commit < UINT32_MAX);
    for (uint64_t i = 0; i < es->n_dirty; i++) {
        if (i % BATCH_TURN == 0 && es->options.turn != NULL)
            es->options.turn(es->options.turn_context);
        batch_prefetch(es, i);
        struct entity *e = es->dirty[i];
        assert(e->flags & ENTITY_DIRTY);
        if (e->flags & ENTITY_BURIED) {
            e->flags &= (uint8_t)~ENTITY_DIRTY;
            continue;
        }
        entity_batch(es, e, b);
        e->commit = (uint32_t)commit;
    }
    es->n_dirty = 0;
}

// ---- tombstones -------------------------------------------------------------------------------------------

static struct key key_of_gone(uint64_t item)
{
    struct key k = {.len = 0};
    key_put_be(&k, KEY_GONE, 1);
    key_put_be(&k, 0, 2);
    key_put_be(&k, item, 8);
    return k;
}

static void gone_forget(uint64_t item, struct store_batch *b)
{
    struct key key = key_of_gone(item);
    store_batch_delete(b, key.bytes, key.len);
}

void entities_gone(struct entities *es, uint64_t item, int64_t ts, struct store_batch *b)
{
    uint64_t forgotten = 0;
    if (!gone_put(&es->gone, item, ts, &forgotten))
        return;
    struct key key = key_of_gone(item);
    buf_clear(&es->value);
    buf_put_zigzag(&es->value, ts);
    batch_put(b, &key, &es->value);
    if (forgotten != 0)
        gone_forget(forgotten, b);
}

// What is more than gone_max, which may have been changed, goes with the next commit.
int entities_gone_load(struct entities *es, struct store_batch *b, struct err *err)
{
    struct key prefix = key_of_gone(0);
    prefix.len = 1;
    struct store_iter *it = store_iter_new(es->store, key_str(&prefix), (struct str){NULL, 0}, false);
    int r = 0;
    for (; r == 0 && store_iter_valid(it); store_iter_next(it)) {
        struct str key = store_iter_key(it);
        struct str value = store_iter_value(it);
        struct rd from = rd_of(value.s, value.len);
        struct rd id = rd_of(key.s, key.len);
        uint64_t forgotten = 0;
        rd_bytes(&id, 3);
        uint64_t item = rd_be64(&id);
        int64_t ts = rd_zigzag(&from);
        if (id.bad || from.bad || item == 0)
            r = err_set(err, ERR_CORRUPT, "the record of an item that is gone is malformed");
        else if (!gone_put(&es->gone, item, ts, &forgotten))
            forgotten = item;
        if (forgotten != 0)
            gone_forget(forgotten, b);
    }
    return store_iter_free(it, r == 0 ? err : NULL) < 0 ? -1 : r;
}

// ---- canonical bytes --------------------------------------------------------------------------------------

static void entity_head_put(const struct entity *e, struct buf *to)
{
    buf_put_u8(to, e->kind);
    buf_put_u16(to, e->partition);
    buf_put_u64(to, e->id);
}

static void counter_put(const struct counter *c, uint8_t measure, struct buf *to)
{
    buf_put_u8(to, measure);
    buf_put_varint(to, c->n);
    const struct tile *tiles = counter_tiles_const(c);
    for (uint32_t i = 0; i < c->n; i++) {
        buf_put_u32(to, tiles[i].tile);
        buf_put_u16(to, tiles[i].partition);
        buf_put_u64(to, tiles[i].count);
    }
}

void entities_counters_put(struct entities *es, struct entity *e, struct buf *to)
{
    size_t head = to->len;
    entity_head_put(e, to);
    size_t begin = to->len;
    uint32_t measures = e->measures;
    for (uint32_t i = 0; measures != 0; i++, measures &= measures - 1) {
        struct counter *c = entity_counter_nth(e, i);
        counter_merge(c, &es->tiling);
        if (c->n > 0)
            counter_put(c, (uint8_t)__builtin_ctz(measures), to);
    }
    if (e->totals != NULL) {
        buf_put_u8(to, UINT8_MAX); // no measure
        totals_put(e->totals, to);
    }
    if (to->len == begin)
        to->len = head;
}

static void sequence_put(const struct entities *es, const struct entity *e, const struct sequence *s,
                         struct buf *to)
{
    struct sequence_entry *entries = mem_array(s->n, sizeof *entries);
    uint32_t n = entities_sequence(es, e, s->number, s->n, entries);
    if (n > 0) {
        buf_put_u8(to, s->number);
        buf_put_varint(to, n);
    }
    for (uint32_t i = n; i > 0; i--) {
        const struct sequence_entry *x = &entries[i - 1];
        buf_put_u64(to, x->item);
        buf_put_u64(to, (uint64_t)x->ts);
        if (s->with & SEQUENCE_CATEGORY)
            buf_put_u64(to, x->category);
        if (s->with & SEQUENCE_AUTHOR)
            buf_put_u64(to, x->author);
        if (s->with & SEQUENCE_DWELL)
            buf_put_u32(to, x->dwell_ms);
    }
    free(entries);
}

void entities_sequences_put(const struct entities *es, const struct entity *e, struct buf *to)
{
    size_t head = to->len;
    entity_head_put(e, to);
    size_t begin = to->len;
    for (const struct sequence *s = e->sequences; s != NULL; s = s->next)
        sequence_put(es, e, s, to);
    if (to->len == begin)
        to->len = head;
}

void entities_profile_put(const struct entity *e, struct buf *to)
{
    const struct profile *p = e->kind != ENTITY_GROUP ? e->profile : NULL;
    if (p == NULL)
        return;
    entity_head_put(e, to);
    buf_put_u64(to, (uint64_t)p->ts);
    buf_put_u8(to, p->deleted ? 0 : 1);
    buf_put_str(to, (struct str){p->record, p->len});
}

bool entities_key_expired(const struct state_options *options, int64_t watermark, const uint8_t *key,
                          size_t n)
{
    size_t prefix = key_prefix(key[0]);
    if (n != prefix + KEY_SUB_TILES_LEN || key[0] < KEY_USER || key[0] > KEY_GROUP ||
        key[prefix] != KEY_SUB_TILES)
        return false;
    struct tiling t;
    tiling_init(&t, options->windows, options->n_windows);
    if (watermark != INT64_MAX)
        tiling_watermark(&t, watermark);
    struct rd from = rd_of(key + prefix + 1, 4);
    return ((uint64_t)rd_be32(&from) + 1) * t.chunk <= t.alive_any;
}
