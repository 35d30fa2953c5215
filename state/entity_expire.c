// SPDX-License-Identifier: Apache-2.0
// Expiry of users and items, and of their groups with them (state.h, "Expiry").
//
// Whether an entity is expired is judged whenever it is looked for, by its last ts and the watermark alone: so
// the result does not depend on when it was committed, evicted, read back or swept from the disk.
//
// One that is to begin anew, or that the sweep found, is buried: it leaves the cache, its groups with it, and
// the next commit deletes its keys (sweep.c). Until that commit is durable the store still has them, so its
// reads are hidden: `hidden` since the last commit was collected, `hidden_flight` while that one is under way.
// The memory of what was buried is kept until the next trim, since the caller may hold it.
#include <assert.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "state/entity_struct.h"

static int64_t limit_of(int64_t watermark, int64_t expire_ms, uint32_t step_s)
{
    int64_t span = (int64_t)step_s * 1000;
    span = expire_ms < INT64_MAX - span ? expire_ms + span : INT64_MAX;
    return watermark >= INT64_MIN + span ? watermark - span : INT64_MIN;
}

// begin(last) + step + expire <= watermark, where last is at least `since`.
static uint32_t before_of(const struct entities *es, enum entity_kind kind, int64_t expire_ms)
{
    if (expire_ms == 0 || es->watermark == INT64_MIN)
        return 0;
    uint32_t step = es->expiry[kind].step_s;
    int64_t limit = limit_of(es->watermark, expire_ms, step);
    uint32_t since = es->since[kind] > INT64_MIN ? entity_seconds(es->since[kind]) : 0;
    since -= since % step;
    if (limit < 0 || (es->since[kind] > INT64_MIN && (int64_t)since * 1000 > limit))
        return 0;
    return limit / 1000 < UINT32_MAX - 1 ? (uint32_t)(limit / 1000) + 1 : UINT32_MAX - 1;
}

void expiry_watermark(struct entities *es)
{
    es->expiry[ENTITY_USER].before_s = before_of(es, ENTITY_USER, es->options.user_expire_ms);
    es->expiry[ENTITY_ITEM].before_s = before_of(es, ENTITY_ITEM, es->options.item_expire_ms);
}

void entities_since(struct entities *es, enum entity_kind kind, int64_t since)
{
    es->since[kind] = since;
    expiry_watermark(es);
}

int64_t entities_since_of(const struct entities *es, enum entity_kind kind)
{
    return es->since[kind];
}

const struct expiry *entities_expiry(const struct entities *es)
{
    return es->expiry;
}

// ---- what is hidden ---------------------------------------------------------------------------------------

static uint64_t hidden_key(enum entity_kind kind, uint16_t partition, uint64_t id)
{
    return hash_mix(entity_key(kind, partition, id)) | 1;
}

bool entity_hidden(const struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id)
{
    if (es->hidden.count == 0 && es->hidden_flight.count == 0)
        return false;
    uint64_t key = hidden_key(kind, partition, id);
    return map_get(&es->hidden, key) != MAP_NONE || map_get(&es->hidden_flight, key) != MAP_NONE;
}

void hidden_durable(struct entities *es)
{
    if (es->hidden_flight.count > 0 && es->durable >= es->hidden_commit)
        map_done(&es->hidden_flight);
}

struct buried_list entities_buried(struct entities *es, uint64_t commit)
{
    assert(es->hidden_flight.count == 0);
    struct buried_list l = es->buried;
    es->buried = (struct buried_list){0};
    es->hidden_flight = es->hidden;
    es->hidden = (struct map){0};
    es->hidden_commit = commit;
    return l;
}

void hidden_done(struct entities *es)
{
    map_done(&es->hidden);
    map_done(&es->hidden_flight);
    buried_done(&es->buried);
    for (uint32_t i = 0; i < es->n_grave; i++)
        entity_free(es, es->grave[i]);
    free(es->grave);
}

// ---- burial -----------------------------------------------------------------------------------------------

static void grave_add(struct entities *es, struct entity *e)
{
    if (es->n_grave == es->cap_grave) {
        es->cap_grave = es->cap_grave > 0 ? es->cap_grave * 2 : 64;
        es->grave = mem_resize(es->grave, es->cap_grave, sizeof *es->grave);
    }
    e->flags |= ENTITY_BURIED;
    es->grave[es->n_grave++] = e;
}

void graves_trim(struct entities *es)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < es->n_grave; i++) {
        if (es->grave[i]->flags & ENTITY_DIRTY) // the list of what is dirty still has it
            es->grave[kept++] = es->grave[i];
        else
            entity_free(es, es->grave[i]);
    }
    es->n_grave = kept;
}

static void bury_one(struct entities *es, const struct buried *b)
{
    struct entity *e = entities_take(es, b->kind, b->partition, b->id);
    if (e != NULL)
        grave_add(es, e);
    *map_at(&es->hidden, hidden_key(b->kind, b->partition, b->id)) = 0;
    buried_add(&es->buried, b);
}

static struct buried buried_of(enum entity_kind kind, uint16_t partition, uint64_t id)
{
    return (struct buried){.kind = kind, .partition = partition, .id = id};
}

static struct group_key owner_of(const struct buried *b)
{
    return (struct group_key){.of = b->kind == ENTITY_USER ? GROUP_OF_USER : GROUP_OF_ITEM,
                              .partition = b->partition,
                              .owner = b->id};
}

// An owner, and its groups in `stored` and those that are new.
static void bury_all(struct entities *es, const struct buried *owner, const struct buried *stored, uint32_t n)
{
    struct buried_list young = {0};
    struct group_key key = owner_of(owner);
    bury_one(es, owner);
    for (uint32_t i = 0; i < n; i++)
        bury_one(es, &stored[i]);
    groups_young(es, &key, &young);
    for (uint32_t i = 0; i < young.n; i++)
        bury_one(es, &young.at[i]);
    groups_young_bury(es, &key);
    buried_done(&young);
}

int entity_bury(struct entities *es, enum entity_kind kind, uint16_t partition, uint64_t id, struct err *err)
{
    struct buried owner = buried_of(kind, partition, id);
    struct group_key key = owner_of(&owner);
    struct buried_list stored = {0};
    int r = groups_stored(es->store, &key, &stored, err);
    if (r == 0)
        bury_all(es, &owner, stored.at, stored.n);
    buried_done(&stored);
    return r;
}

void entities_swept(struct entities *es, const struct buried_list *found)
{
    for (uint32_t i = 0, end; i < found->n; i = end) {
        const struct buried *owner = &found->at[i];
        for (end = i + 1; end < found->n && found->at[end].kind == ENTITY_GROUP; end++)
            ;
        const struct entity *e = entities_cached(es, owner->kind, owner->partition, owner->id);
        bool alive = e != NULL && !entity_expired(es, e);
        if (!alive && !entity_hidden(es, owner->kind, owner->partition, owner->id))
            bury_all(es, owner, owner + 1, end - i - 1);
    }
}
