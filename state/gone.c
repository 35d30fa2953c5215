// SPDX-License-Identifier: Apache-2.0
// A map from id to its place in a binary heap by (ts, id): a look-up is one probe, a put a few exchanges.
// Cost: 16 bytes an id in the heap and 16 to 32 in the map.
#include "state/gone.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

enum { GONE_FIRST = 64 };

void gone_init(struct gone *g, uint64_t max)
{
    *g = (struct gone){.max = max < MAP_NONE / 2 ? max : MAP_NONE / 2, .epoch = 1};
}

void gone_done(struct gone *g)
{
    map_done(&g->at);
    free(g->items);
    *g = (struct gone){0};
}

static bool gone_older(const struct gone_item *x, const struct gone_item *y)
{
    return x->ts != y->ts ? x->ts < y->ts : x->id < y->id;
}

static void gone_place(struct gone *g, uint32_t i, struct gone_item item)
{
    g->items[i] = item;
    *map_at(&g->at, item.id) = i;
}

static void gone_up(struct gone *g, uint32_t i, struct gone_item item)
{
    for (uint32_t parent; i > 0 && gone_older(&item, &g->items[parent = (i - 1) / 2]); i = parent)
        gone_place(g, i, g->items[parent]);
    gone_place(g, i, item);
}

static void gone_down(struct gone *g, uint32_t i, struct gone_item item)
{
    for (uint32_t child; (child = 2 * i + 1) < g->n; i = child) {
        if (child + 1 < g->n && gone_older(&g->items[child + 1], &g->items[child]))
            child++;
        if (!gone_older(&g->items[child], &item))
            break;
        gone_place(g, i, g->items[child]);
    }
    gone_place(g, i, item);
}

static void gone_add(struct gone *g, struct gone_item item)
{
    if (g->n == g->cap) {
        g->cap = g->cap > 0 ? g->cap * 2 : GONE_FIRST;
        g->items = mem_resize(g->items, g->cap, sizeof *g->items);
    }
    gone_up(g, g->n++, item);
}

// The oldest makes room.
static void gone_replace(struct gone *g, struct gone_item item, uint64_t *ret_forgotten)
{
    *ret_forgotten = g->items[0].id;
    map_remove(&g->at, g->items[0].id);
    gone_down(g, 0, item);
    g->forgotten++;
}

bool gone_put(struct gone *g, uint64_t id, int64_t ts, uint64_t *ret_forgotten)
{
    struct gone_item item = {id, ts};
    uint32_t at = map_get(&g->at, id);
    *ret_forgotten = 0;
    if (at != MAP_NONE) {
        if (ts <= g->items[at].ts)
            return false;
        gone_down(g, at, item);
    } else if (g->n < g->max) {
        gone_add(g, item);
    } else if (g->n > 0 && gone_older(&g->items[0], &item)) {
        gone_replace(g, item, ret_forgotten);
    } else {
        g->forgotten++;
        return false;
    }
    g->epoch++;
    return true;
}

bool gone_hides_slow(const struct gone *g, uint64_t id, int64_t ts)
{
    uint32_t at = map_get(&g->at, id);
    return id != 0 && at != MAP_NONE && ts <= g->items[at].ts;
}

uint64_t gone_bytes(const struct gone *g)
{
    return map_bytes(&g->at) + g->cap * sizeof *g->items;
}
