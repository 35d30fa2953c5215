// SPDX-License-Identifier: Apache-2.0
#include "base/map.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

enum { MAP_FIRST = 64 };

void map_done(struct map *m)
{
    free(m->keys);
    free(m->values);
    *m = (struct map){0};
}

uint32_t map_get(const struct map *m, uint64_t key)
{
    if (m->keys == NULL)
        return MAP_NONE;
    for (uint32_t i = (uint32_t)key & m->mask;; i = (i + 1) & m->mask) {
        if (m->keys[i] == key)
            return m->values[i];
        if (m->keys[i] == 0)
            return MAP_NONE;
    }
}

static void map_grow(struct map *m)
{
    struct map old = *m;
    uint32_t slots = old.keys != NULL ? (old.mask + 1) * 2 : MAP_FIRST;
    m->keys = mem_array(slots, sizeof *m->keys);
    m->values = mem_array(slots, sizeof *m->values);
    m->mask = slots - 1;
    for (uint32_t i = 0; old.keys != NULL && i <= old.mask; i++) {
        if (old.keys[i] == 0)
            continue;
        uint32_t at = (uint32_t)old.keys[i] & m->mask;
        while (m->keys[at] != 0)
            at = (at + 1) & m->mask;
        m->keys[at] = old.keys[i];
        m->values[at] = old.values[i];
    }
    free(old.keys);
    free(old.values);
}

uint32_t *map_at(struct map *m, uint64_t key)
{
    assert(key != 0);
    if (m->keys == NULL || m->count >= (m->mask + 1) / 4 * 3)
        map_grow(m);
    uint32_t i = (uint32_t)key & m->mask;
    for (; m->keys[i] != 0; i = (i + 1) & m->mask)
        if (m->keys[i] == key)
            return &m->values[i];
    m->keys[i] = key;
    m->values[i] = MAP_NONE;
    m->count++;
    return &m->values[i];
}

bool map_remove(struct map *m, uint64_t key)
{
    if (m->keys == NULL)
        return false;
    uint32_t hole = (uint32_t)key & m->mask;
    for (; m->keys[hole] != key; hole = (hole + 1) & m->mask)
        if (m->keys[hole] == 0)
            return false;
    for (uint32_t i = (hole + 1) & m->mask; m->keys[i] != 0; i = (i + 1) & m->mask) {
        uint32_t home = (uint32_t)m->keys[i] & m->mask;
        if (((i - home) & m->mask) < ((i - hole) & m->mask))
            continue; // its home lies after the hole: it must stay
        m->keys[hole] = m->keys[i];
        m->values[hole] = m->values[i];
        hole = i;
    }
    m->keys[hole] = 0;
    m->count--;
    return true;
}

size_t map_bytes(const struct map *m)
{
    return m->keys == NULL ? 0 : ((size_t)m->mask + 1) * (sizeof *m->keys + sizeof *m->values);
}
