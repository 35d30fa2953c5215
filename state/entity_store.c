// SPDX-License-Identifier: Apache-2.0
// Entities and the store: loading by one iteration over an entity's keys, the dirty parts into a batch, the
// canonical bytes for digests. Keys are described in keys.h; values here:
//
//     'N'   first ts zigzag, text to the end
//     'A'   ts zigzag, u8 1 = there is a record / 0 = deleted, record to the end
//     'C'   chunk.c; the key's hour is the number of the chunk, which is an hour unless the coarsest tile is
//           longer or does not divide it: then a chunk is the least multiple of that tile above an hour
//     'S'   sequence.c
//
// Tiles are numbers of finest tiles: a store must be read with the windows it was written with.
#include <assert.h>
#include <string.h>

#include "state/entity_struct.h"
#include "state/keys.h"

enum { KEY_MAX = KEY_PREFIX + 7, BATCH_AHEAD = 4 };

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
    key_put_be(&k, kind == ENTITY_USER ? KEY_USER : KEY_ITEM, 1);
    key_put_be(&k, partition, 2);
    key_put_be(&k, id, 8);
    return k;
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
    int action; // whose slots are in the loader; -1: none
};

static int loading_name(struct loading *l, struct rd *from, struct err *err)
{
    struct entity *e = l->e;
    e->first_ts = rd_zigzag(from);
    size_t len = rd_left(from);
    if (from->bad || len > ENTITY_TEXT_MAX)
        return err_set(err, ERR_CORRUPT, "a name is malformed");
    if (len != e->text_len)
        l->e = e = account_resize(&l->es->account, e, entity_size(len));
    e->text_len = (uint16_t)len;
    if (len > 0)
        memcpy(e->text, from->p, len);
    e->flags |= ENTITY_NAMED;
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

// All slots of l->action have been read.
static int loading_sequence_end(struct loading *l, struct err *err)
{
    if (l->action < 0)
        return 0;
    struct entities *es = l->es;
    uint8_t action = (uint8_t)l->action;
    struct sequence *s = NULL;
    l->action = -1;
    if (sequence_load(es->loader, &es->account, action, es->options.sequence_last[action], &s, err) < 0)
        return -1;
    if (s == NULL)
        return 0;
    struct sequence **at = entity_sequence_at(l->e, action);
    s->next = *at;
    *at = s;
    return 0;
}

static int loading_slot(struct loading *l, struct rd *rest, struct str value, struct err *err)
{
    uint8_t action = rd_u8(rest);
    uint8_t slot = rd_u8(rest);
    if (rest->bad || rd_left(rest) > 0 || action >= ACTION_MAX)
        return err_set(err, ERR_CORRUPT, "a key of a sequence is malformed");
    if (action != l->action && loading_sequence_end(l, err) < 0)
        return -1;
    l->action = action;
    sequence_loader_add(l->es->loader, slot, value);
    return 0;
}

static int loading_key(struct loading *l, struct str key, struct str value, struct err *err)
{
    struct rd rest = rd_of(key.s + KEY_PREFIX, key.len - KEY_PREFIX);
    struct rd from = rd_of(value.s, value.len);
    switch (rd_u8(&rest)) {
    case KEY_SUB_NAME:
        return loading_name(l, &from, err);
    case KEY_SUB_PROFILE:
        return loading_profile(l, &from, err);
    case KEY_SUB_TILES:
        return loading_tiles(l, &rest, from, err);
    case KEY_SUB_SEQUENCE:
        return loading_slot(l, &rest, value, err);
    default:
        return err_set(err, ERR_CORRUPT, "a key of an unknown kind");
    }
}

static bool key_of_entity(const struct store_iter *it, const struct key *prefix)
{
    if (!store_iter_valid(it))
        return false;
    struct str key = store_iter_key(it);
    return key.len >= prefix->len && memcmp(key.s, prefix->bytes, prefix->len) == 0;
}

// Reads the entity that the iterator stands on, and leaves the iterator behind it.
static int entity_read(struct entities *es, struct store_iter *it, const struct key *prefix, struct entity *e,
                       struct entity **ret_entity, struct err *err)
{
    struct loading l = {.es = es, .e = e, .action = -1};
    int r = 0;
    for (; r == 0 && key_of_entity(it, prefix); store_iter_next(it))
        r = loading_key(&l, store_iter_key(it), store_iter_value(it), err);
    if (r == 0)
        r = loading_sequence_end(&l, err);
    if (r == 0 && (l.e->flags & ENTITY_NAMED) == 0)
        r = err_set(err, ERR_CORRUPT, "an entity has no name");
    if (r < 0) {
        err_context(err, "%s %016llx of partition %u", l.e->kind == ENTITY_USER ? "user" : "item",
                    (unsigned long long)l.e->id, l.e->partition);
        sequence_loader_clear(es->loader);
        entity_free(es, l.e);
        return -1;
    }
    *ret_entity = l.e;
    return 0;
}

int entity_load(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id, struct str text,
                struct entity **ret_entity, struct err *err)
{
    struct key prefix = key_of(kind, partition, id);
    struct store_iter *it = store_iter_new(es->store, key_str(&prefix), (struct str){NULL, 0}, true);
    struct entity *e = NULL;
    int r = 0;
    if (key_of_entity(it, &prefix))
        r = entity_read(es, it, &prefix, entity_new(es, kind, partition, id, text), &e, err);
    if (store_iter_free(it, r == 0 ? err : NULL) < 0)
        r = -1;
    if (r < 0) {
        entity_free(es, e);
        return -1;
    }
    if (e != NULL)
        *ret_entity = e;
    return 0;
}

static int entity_each(struct entities *es, struct store_iter *it,
                       int (*each)(void *context, struct entity *e), void *context, struct err *err)
{
    struct str first = store_iter_key(it);
    if (first.len < KEY_PREFIX)
        return err_set(err, ERR_CORRUPT, "a key of %u bytes among users and items", first.len);
    struct key prefix = {.len = KEY_PREFIX};
    memcpy(prefix.bytes, first.s, KEY_PREFIX);
    struct rd from = rd_of(prefix.bytes, KEY_PREFIX);
    enum entity_kind kind = rd_u8(&from) == KEY_USER ? ENTITY_USER : ENTITY_ITEM;
    uint16_t partition = rd_be16(&from);
    uint64_t id = rd_be64(&from);
    struct entity *e = entity_new(es, kind, partition, id, (struct str){NULL, 0});
    if (entity_read(es, it, &prefix, e, &e, err) < 0)
        return -1;
    int r = each(context, e);
    entity_free(es, e);
    return r != 0 ? -1 : 0;
}

int entities_each(struct entities *es, enum entity_kind kind, int (*each)(void *context, struct entity *e),
                  void *context, struct err *err)
{
    char family = (char)(kind == ENTITY_USER ? KEY_USER : KEY_ITEM);
    struct store_iter *it = store_iter_new(es->store, (struct str){&family, 1}, (struct str){NULL, 0}, false);
    int r = 0;
    while (r == 0 && store_iter_valid(it))
        r = entity_each(es, it, each, context, err);
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
    buf_put(&es->value, e->text, e->text_len);
    batch_put(b, &key, &es->value);
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
    if (s->dirty_from >= s->end)
        return;
    uint64_t begin = s->end - s->n;
    uint64_t from = s->dirty_from > begin ? s->dirty_from : begin;
    uint32_t slots = sequence_slots(es->options.sequence_last[s->action]);
    for (uint64_t block = from / SEQUENCE_BLOCK; block * SEQUENCE_BLOCK < s->end; block++) {
        struct key key = *prefix;
        key_put_be(&key, KEY_SUB_SEQUENCE, 1);
        key_put_be(&key, s->action, 1);
        key_put_be(&key, block % slots, 1);
        buf_clear(&es->value);
        sequence_block_put(s, block, &es->value);
        batch_put(b, &key, &es->value);
    }
    s->dirty_from = UINT64_MAX;
}

static void entity_batch(struct entities *es, struct entity *e, struct store_batch *b)
{
    struct key prefix = key_of(e->kind, e->partition, e->id);
    if (e->flags & ENTITY_NAME_DIRTY)
        batch_name(es, e, prefix, b);
    if (e->flags & ENTITY_PROFILE_DIRTY)
        batch_profile(es, e, prefix, b);
    batch_tiles(es, e, &prefix, b);
    for (struct sequence *s = e->sequences; s != NULL; s = s->next)
        batch_sequence(es, s, &prefix, b);
    e->flags &= (uint8_t) ~(ENTITY_DIRTY | ENTITY_NAME_DIRTY | ENTITY_PROFILE_DIRTY);
}

__attribute__((always_inline)) static inline void batch_prefetch(const struct entities *es, uint64_t i)
{
    if (i + UINT64_C(2) * BATCH_AHEAD < es->n_dirty)
        entity_prefetch(es->dirty[i + UINT64_C(2) * BATCH_AHEAD]);
    if (i + BATCH_AHEAD < es->n_dirty)
        entity_prefetch_counters(es->dirty[i + BATCH_AHEAD]);
}

void entities_batch(struct entities *es, uint64_t commit, struct store_batch *b)
{
    assert(es->magic == ENTITIES_MAGIC);
    for (uint64_t i = 0; i < es->n_dirty; i++) {
        batch_prefetch(es, i);
        struct entity *e = es->dirty[i];
        assert(e->flags & ENTITY_DIRTY);
        entity_batch(es, e, b);
        e->commit = commit;
    }
    es->n_dirty = 0;
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
    bool head = false;
    uint32_t measures = e->measures;
    for (uint32_t i = 0; measures != 0; i++, measures &= measures - 1) {
        struct counter *c = entity_counter_nth(e, i);
        counter_merge(c, &es->tiling);
        if (c->n == 0)
            continue;
        if (!head)
            entity_head_put(e, to);
        head = true;
        counter_put(c, (uint8_t)__builtin_ctz(measures), to);
    }
}

void entities_sequences_put(const struct entity *e, struct buf *to)
{
    if (e->sequences != NULL)
        entity_head_put(e, to);
    for (const struct sequence *s = e->sequences; s != NULL; s = s->next) {
        buf_put_u8(to, s->action);
        buf_put_varint(to, s->n);
        for (uint32_t i = 0; i < s->n; i++) {
            buf_put_u64(to, sequence_at(s, i)->item);
            buf_put_u64(to, (uint64_t)sequence_at(s, i)->ts);
        }
    }
}

void entities_profile_put(const struct entity *e, struct buf *to)
{
    const struct profile *p = e->profile;
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
    if (n != KEY_MAX || (key[0] != KEY_USER && key[0] != KEY_ITEM) || key[KEY_PREFIX] != KEY_SUB_TILES)
        return false;
    struct tiling t;
    tiling_init(&t, options->windows, options->n_windows);
    if (watermark != INT64_MAX)
        tiling_watermark(&t, watermark);
    struct rd from = rd_of(key + KEY_PREFIX + 1, 4);
    return ((uint64_t)rd_be32(&from) + 1) * t.chunk <= t.alive_any;
}
