// SPDX-License-Identifier: Apache-2.0
// Groups: entities that count what belongs to a user, an item or all under one value of a grouping.
//
// Problem: a grouping multiplies entities (an item by gender, age and geo; a user by category), most of which
// do not exist, and a request wants all of one owner.
//
// Idea: in memory a group is found by a hash of (owner, grouping, value) as if it were an id, so cache and
// prefetching serve it as they serve a user. In the store it lies under its owner (keys.h):
//
//     | GROUP | partition be16 | owner be64 | of u8 | grouping u8 | value be64 | sub ...
//
// What is counted for one item by gender, age and place is read from the same few blocks, and to enumerate the
// groups of an owner is to walk over its keys. Until a group is durable it is on a list by owner, `young`.
//
// Cost: a new group costs what a new item does, and so does counting for it. A walk passes over every key of the
// groups: those of a tile hour as many as there are hours, up to WALK_KEYS of a group and a seek more.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "state/entity_struct.h"
#include "state/keys.h"

enum { WALK_KEYS = 8 }; // of one group are passed one by one; a seek costs as much

static uint16_t group_partition(const struct group_key *key)
{
    return key->of == GROUP_OF_USER ? key->partition : 0;
}

uint64_t group_id(const struct group_key *key)
{
    uint64_t grouping = (uint64_t)key->of << 8 | key->grouping;
    return hash_mix(key->owner ^ hash_mix(key->value + (grouping + 1) * UINT64_C(0x9e3779b97f4a7c15)));
}

static uint64_t group_value(const struct entity *e)
{
    uint64_t value;
    memcpy(&value, e->text, sizeof value);
    return value;
}

void entity_group(const struct entity *e, struct group_key *ret_key)
{
    assert(e->kind == ENTITY_GROUP);
    *ret_key = (struct group_key){.of = (enum group_of)e->of,
                                  .partition = e->partition,
                                  .owner = e->owner,
                                  .grouping = e->grouping,
                                  .value = group_value(e)};
}

void entity_group_set(struct entity *e, const struct group_key *key)
{
    e->of = (uint8_t)key->of;
    e->owner = key->owner;
    e->grouping = key->grouping;
    memcpy(e->text, &key->value, GROUP_VALUE);
}

// Whether the owner of a group is expired. One that never was is not.
static int owner_expired(struct entities *es, const struct group_key *key, bool *ret_expired, struct err *err)
{
    enum entity_kind kind = key->of == GROUP_OF_USER ? ENTITY_USER : ENTITY_ITEM;
    *ret_expired = false;
    if (key->of == GROUP_OF_ALL || es->expiry[kind].before_s == 0)
        return 0;
    struct entity *e = entities_cached(es, kind, group_partition(key), key->owner);
    if (e != NULL) {
        *ret_expired = entity_expired(es, e);
        return 0;
    }
    if (entities_load(es, kind, group_partition(key), key->owner, NULL, (struct str){NULL, 0}, &e, err) < 0)
        return -1;
    *ret_expired = e != NULL && entity_expired(es, e);
    if (*ret_expired)
        entity_free(es, e);
    else if (e != NULL)
        entities_insert(es, e);
    return 0;
}

int entities_group(struct entities *es, const struct group_key *key, struct str text,
                   struct entity **ret_group, struct err *err)
{
    assert(es->magic == ENTITIES_MAGIC && key->grouping < STATE_GROUPINGS_MAX);
    uint16_t partition = group_partition(key);
    uint64_t id = group_id(key);
    struct group_key of = *key;
    of.partition = partition;
    bool expired;
    *ret_group = NULL;
    if (owner_expired(es, key, &expired, err) < 0)
        return -1;
    if (expired && text.s == NULL)
        return 0;
    if (expired &&
        entity_bury(es, key->of == GROUP_OF_USER ? ENTITY_USER : ENTITY_ITEM, partition, key->owner, err) < 0)
        return -1;
    struct entity *e = entities_find(es, ENTITY_GROUP, partition, id);
    bool cached = e != NULL;
    if (!cached && entities_load(es, ENTITY_GROUP, partition, id, &of, text, &e, err) < 0)
        return -1;
    if (e == NULL && text.s != NULL) {
        e = entity_new(es, ENTITY_GROUP, partition, id, text);
        entity_group_set(e, &of);
    }
    if (e != NULL && !cached)
        entities_insert(es, e);
    *ret_group = e;
    return 0;
}

uint64_t entities_group_place(const struct group_key *key)
{
    return entity_key(ENTITY_GROUP, group_partition(key), group_id(key));
}

// ---- groups that are not durable --------------------------------------------------------------------------

static uint64_t owner_hash(enum group_of of, uint16_t partition, uint64_t owner)
{
    return hash_mix(owner ^ hash_mix((uint64_t)partition << 8 | (uint64_t)of)) | 1;
}

static void young_add(struct entities *es, struct entity *group)
{
    struct young *y = &es->young;
    if (y->n == y->cap) {
        y->cap = y->cap > 0 ? y->cap * 2 : 64;
        y->list = account_resize(&es->account, y->list, y->cap * sizeof *y->list);
    }
    uint32_t *first = map_at(&y->at, owner_hash((enum group_of)group->of, group->partition, group->owner));
    y->list[y->n] = (struct young_group){group, *first};
    *first = y->n++;
}

void young_done(struct entities *es)
{
    map_done(&es->young.at);
    account_free(&es->account, es->young.list);
    es->young = (struct young){0};
}

void group_named(struct entities *es, struct entity *group)
{
    young_add(es, group);
}

void groups_durable(struct entities *es)
{
    struct young *y = &es->young;
    uint32_t n = y->n;
    map_done(&y->at);
    y->n = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct entity *group = y->list[i].group;
        if (group != NULL && (group->flags & ENTITY_NAME_DIRTY || group->commit > es->durable))
            young_add(es, group);
    }
}

// The first of an owner from the i-th on, or MAP_NONE.
static uint32_t young_of(const struct young *y, uint32_t i, const struct group_key *owner)
{
    for (; i != MAP_NONE; i = y->list[i].next) {
        const struct entity *e = y->list[i].group;
        if (e != NULL && e->of == owner->of && e->partition == owner->partition && e->owner == owner->owner)
            break;
    }
    return i;
}

static uint32_t young_first(const struct young *y, const struct group_key *owner)
{
    return young_of(y, map_get(&y->at, owner_hash(owner->of, owner->partition, owner->owner)), owner);
}

void groups_young(const struct entities *es, const struct group_key *owner, struct buried_list *to)
{
    const struct young *y = &es->young;
    for (uint32_t i = young_first(y, owner); i != MAP_NONE; i = young_of(y, y->list[i].next, owner)) {
        const struct entity *e = y->list[i].group;
        struct buried b = {.kind = ENTITY_GROUP, .partition = e->partition, .id = e->id};
        entity_group(e, &b.group);
        buried_add(to, &b);
    }
}

void groups_young_bury(struct entities *es, const struct group_key *owner)
{
    struct young *y = &es->young;
    for (uint32_t i = young_first(y, owner); i != MAP_NONE; i = young_of(y, y->list[i].next, owner))
        y->list[i].group = NULL;
}

// ---- keys -------------------------------------------------------------------------------------------------

static void owner_key_put(const struct group_key *owner, struct buf *to)
{
    buf_put_u8(to, KEY_GROUP);
    buf_put_be16(to, owner->partition);
    buf_put_be64(to, owner->owner);
    buf_put_u8(to, (uint8_t)owner->of);
}

void group_key_put(const struct group_key *group, struct buf *to)
{
    owner_key_put(group, to);
    buf_put_u8(to, group->grouping);
    buf_put_be64(to, group->value);
}

bool group_key_read(struct str key, struct group_key *ret_key)
{
    struct rd from = rd_of(key.s, key.len);
    struct group_key group = {0};
    bool family = rd_u8(&from) == KEY_GROUP;
    group.partition = rd_be16(&from);
    group.owner = rd_be64(&from);
    uint8_t of = rd_u8(&from);
    group.of = (enum group_of)of;
    group.grouping = rd_u8(&from);
    group.value = rd_be64(&from);
    if (!family || from.bad || of > GROUP_OF_ALL || group.grouping >= STATE_GROUPINGS_MAX)
        return false;
    *ret_key = group;
    return true;
}

static int order_of(uint64_t x, uint64_t y)
{
    return (x > y) - (x < y);
}

int group_key_order(const struct group_key *x, const struct group_key *y)
{
    int order = order_of(x->partition, y->partition);
    if (order == 0)
        order = order_of(x->owner, y->owner);
    if (order == 0)
        order = order_of(x->of, y->of);
    if (order == 0)
        order = order_of(x->grouping, y->grouping);
    return order != 0 ? order : order_of(x->value, y->value);
}

// ---- enumeration ------------------------------------------------------------------------------------------

// Leaves the group that the iterator stands on behind. `scratch` is cleared first.
static void group_pass(struct store_iter *it, struct buf *scratch)
{
    buf_clear(scratch);
    buf_put(scratch, store_iter_key(it).s, KEY_GROUP_PREFIX);
    for (int i = 0; i < WALK_KEYS; i++) {
        store_iter_next(it);
        if (!store_iter_begins(it, buf_str(scratch)))
            return;
    }
    buf_put_u8(scratch, UINT8_MAX); // above every sub
    store_iter_seek(it, buf_str(scratch));
}

int groups_walk(struct store_iter *it, const struct group_key *owner, struct buried_list *to, struct err *err)
{
    struct buf prefix = {0};
    struct buf scratch = {0};
    int r = 0;
    owner_key_put(owner, &prefix);
    store_iter_seek(it, buf_str(&prefix));
    while (r == 0 && store_iter_begins(it, buf_str(&prefix))) {
        struct buried b = {.kind = ENTITY_GROUP, .partition = owner->partition};
        if (!group_key_read(store_iter_key(it), &b.group)) {
            r = err_set(err, ERR_CORRUPT, "a key of a group is malformed");
            break;
        }
        b.id = group_id(&b.group);
        buried_add(to, &b);
        group_pass(it, &scratch);
    }
    buf_done(&prefix);
    buf_done(&scratch);
    return r;
}

struct store_iter *groups_walker(struct store *store)
{
    const char family = (char)KEY_GROUP;
    return store_iter_new(store, (struct str){&family, 1}, (struct str){NULL, 0}, true);
}

int groups_stored(struct store *store, const struct group_key *owner, struct buried_list *to, struct err *err)
{
    struct store_iter *it = groups_walker(store);
    int r = groups_walk(it, owner, to, err);
    return store_iter_free(it, r == 0 ? err : NULL) < 0 ? -1 : r;
}

static int list_order(const void *left, const void *right)
{
    return group_key_order(&((const struct buried *)left)->group, &((const struct buried *)right)->group);
}

static int list_each(struct entities *es, const struct buried_list *l,
                     int (*each)(void *context, struct entity *group), void *context, struct err *err)
{
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < l->n; i++) {
        struct entity *group = NULL;
        if (i > 0 && list_order(&l->at[i - 1], &l->at[i]) == 0)
            continue;
        if (entities_group(es, &l->at[i].group, (struct str){NULL, 0}, &group, err) != 0)
            return -1;
        if (group != NULL)
            r = each(context, group);
    }
    return r;
}

int entities_groups_each(struct entities *es, const struct group_key *owner,
                         int (*each)(void *context, struct entity *group), void *context, struct err *err)
{
    struct group_key of = *owner;
    of.partition = group_partition(owner);
    struct buried_list l = {0};
    groups_young(es, &of, &l);
    int r = groups_stored(es->store, &of, &l, err);
    if (r == 0 && l.n > 0) {
        qsort(l.at, l.n, sizeof *l.at, list_order);
        r = list_each(es, &l, each, context, err);
    }
    buried_done(&l);
    return r;
}
