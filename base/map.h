// SPDX-License-Identifier: Apache-2.0
// An open-addressing map from a 64-bit key to a 32-bit value, for keys that are hashes already. Linear
// probing, deletion by shifting back, so no tombstones and no slow decay. Keys 0 is not allowed.
#ifndef FRESHET_BASE_MAP_H
#define FRESHET_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAP_NONE = UINT32_MAX };

struct map {
    uint64_t *keys; // 0 marks a free slot
    uint32_t *values;
    uint32_t count;
    uint32_t mask; // slots - 1; 0 before the first insertion
};

void map_done(struct map *m);
uint32_t map_get(const struct map *m, uint64_t key); // MAP_NONE if absent
// The place of the value of `key`, made with MAP_NONE in it where it was absent. Valid until the next change.
uint32_t *map_at(struct map *m, uint64_t key);
bool map_remove(struct map *m, uint64_t key);
size_t map_bytes(const struct map *m);
#endif
