// SPDX-License-Identifier: Apache-2.0
// Problem: ids come for ever and the disk is bounded, but nobody asks for what is expired.
//
// Idea: after each commit look at some more keys of users and items, in key order, and tell which have not been
// seen for long enough: that stands in their 'L' records. The main thread, which knows what was seen since,
// buries them; the next commit deletes their keys, and those of their groups, before its own are put.
//
// Cost: 0.2 us a key looked at, and a search for the groups of each that is over, in the commit thread. With as many
// keys a commit as it put, a sweep goes round in the time in which the store would be rewritten; so what is expired
// is at most as much again as what is not.
#include "state/sweep.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void buried_add(struct buried_list *l, const struct buried *b)
{
    if (l->n == l->cap) {
        l->cap = l->cap > 0 ? l->cap * 2 : 64;
        l->at = mem_resize(l->at, l->cap, sizeof *l->at);
    }
    l->at[l->n++] = *b;
}

void buried_done(struct buried_list *l)
{
    free(l->at);
    *l = (struct buried_list){0};
}

// ---- looking ----------------------------------------------------------------------------------------------

// Reads the keys of the entity that the iterator stands on, and leaves it behind them. *ret_last is in seconds.
static void entity_last(struct store_iter *it, const uint8_t *prefix, uint64_t *keys, uint32_t *ret_last)
{
    *ret_last = 0;
    for (; store_iter_valid(it); store_iter_next(it), ++*keys) {
        struct str key = store_iter_key(it);
        if (key.len < KEY_PREFIX || memcmp(key.s, prefix, KEY_PREFIX) != 0)
            return;
        if (key.len == KEY_PREFIX || key.s[KEY_PREFIX] != KEY_SUB_LAST)
            continue;
        struct str value = store_iter_value(it);
        struct rd from = rd_of(value.s, value.len);
        uint64_t last = rd_varint(&from); // what is malformed is told when the entity is read
        if (!from.bad && last < UINT32_MAX && last > *ret_last)
            *ret_last = (uint32_t)last;
    }
}

static bool entity_over(const struct expiry *e, uint32_t last)
{
    return last - last % e->step_s < e->before_s;
}

// Walks over users and items from `place` on until `keys` were looked at, or to the end: then place_n is 0.
static int walk(struct store *store, const struct expiry expiry[EXPIRY_KINDS], uint64_t max_keys,
                struct sweep *sweep, void (*dead)(void *context, const struct buried *b), void *context,
                struct err *err)
{
    uint64_t keys = 0;
    int first = sweep->place_n > 0 ? sweep->place[0] - KEY_USER : 0;
    for (int kind = first; kind < EXPIRY_KINDS; kind++, sweep->place_n = 0) {
        if (expiry[kind].before_s == 0)
            continue;
        char family = (char)(KEY_USER + kind);
        struct str from = {(const char *)sweep->place, sweep->place_n};
        struct store_iter *it = store_iter_new(store, (struct str){&family, 1},
                                               from.len > 0 ? from : (struct str){NULL, 0}, false);
        while (store_iter_valid(it) && store_iter_key(it).len >= KEY_PREFIX && keys < max_keys) {
            uint8_t prefix[KEY_PREFIX];
            uint32_t last;
            memcpy(prefix, store_iter_key(it).s, KEY_PREFIX);
            entity_last(it, prefix, &keys, &last);
            struct rd id = rd_of(prefix + 1, KEY_PREFIX - 1);
            struct buried b = {.kind = (enum entity_kind)kind, .partition = rd_be16(&id)};
            b.id = rd_be64(&id);
            if (entity_over(&expiry[kind], last))
                dead(context, &b);
        }
        bool more = store_iter_valid(it) && store_iter_key(it).len >= KEY_PREFIX;
        if (more)
            memcpy(sweep->place, store_iter_key(it).s, KEY_PREFIX);
        sweep->place_n = more ? KEY_PREFIX : 0;
        if (store_iter_free(it, err) != 0)
            return -1;
        if (more)
            return 0;
    }
    sweep->place_n = 0;
    return 0;
}

static void found_owner(void *list, const struct buried *b)
{
    buried_add(list, b);
}

static int found_groups(struct store_iter *it, const struct buried *owner, struct buried_list *to,
                        struct err *err)
{
    enum group_of of = owner->kind == ENTITY_USER ? GROUP_OF_USER : GROUP_OF_ITEM;
    struct group_key key = {.of = of, .partition = owner->partition, .owner = owner->id};
    return groups_walk(it, &key, to, err);
}

int sweep_run(struct store *store, const struct expiry expiry[EXPIRY_KINDS], uint64_t keys,
              struct sweep *sweep, struct err *err)
{
    struct buried_list owners = {0};
    int r = walk(store, expiry, keys, sweep, found_owner, &owners, err);
    struct store_iter *it = r == 0 && owners.n > 0 ? groups_walker(store) : NULL;
    for (uint32_t i = 0; r == 0 && i < owners.n; i++) {
        buried_add(&sweep->found, &owners.at[i]);
        r = found_groups(it, &owners.at[i], &sweep->found, err);
    }
    buried_done(&owners);
    return store_iter_free(it, r == 0 ? err : NULL) < 0 ? -1 : r;
}

int sweep_each(struct store *store, const struct expiry expiry[EXPIRY_KINDS],
               void (*dead)(void *context, const struct buried *b), void *context, struct err *err)
{
    struct sweep all = {.place_n = 0};
    return walk(store, expiry, UINT64_MAX, &all, dead, context, err);
}

// ---- deleting ---------------------------------------------------------------------------------------------

static void prefix_of(const struct buried *b, struct buf *to)
{
    buf_clear(to);
    if (b->kind == ENTITY_GROUP) {
        group_key_put(&b->group, to);
        return;
    }
    buf_put_u8(to, (uint8_t)(KEY_USER + (int)b->kind));
    buf_put_be16(to, b->partition);
    buf_put_be64(to, b->id);
}

// That of their keys.
static int buried_order(const void *left, const void *right)
{
    const struct buried *x = left;
    const struct buried *y = right;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    if (x->kind == ENTITY_GROUP)
        return group_key_order(&x->group, &y->group);
    if (x->partition != y->partition)
        return x->partition < y->partition ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static bool delete_keys(struct store_iter *it, const struct buf *prefix, struct store_batch *batch)
{
    bool any = false;
    store_iter_seek(it, buf_str(prefix));
    for (; store_iter_begins(it, buf_str(prefix)); store_iter_next(it)) {
        struct str key = store_iter_key(it);
        store_batch_delete_old(batch, key.s, key.len);
        any = true;
    }
    return any;
}

int sweep_delete(struct store *store, struct buried_list *l, struct store_batch *b, uint64_t ret_removed[3],
                 struct err *err)
{
    if (l->n == 0)
        return 0;
    struct buf key = {0};
    struct store_iter *it = store_iter_new(store, (struct str){"", 0}, (struct str){NULL, 0}, false);
    qsort(l->at, l->n, sizeof *l->at, buried_order);
    for (uint32_t i = 0; i < l->n; i++) {
        const struct buried *x = &l->at[i];
        if (i > 0 && buried_order(x - 1, x) == 0)
            continue;
        prefix_of(x, &key);
        if (delete_keys(it, &key, b))
            ret_removed[x->kind]++;
    }
    buf_done(&key);
    return store_iter_free(it, err);
}
