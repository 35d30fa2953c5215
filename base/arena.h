// SPDX-License-Identifier: Apache-2.0
// A bump allocator: everything is freed at once. Blocks are kept across arena_clear, so that a batch that
// repeats allocates nothing.
#ifndef FRESHET_BASE_ARENA_H
#define FRESHET_BASE_ARENA_H

#include <stddef.h>

#include "base/str.h"

struct arena_block;

struct arena {
    struct arena_block *first;
    struct arena_block *now;
    size_t used;  // bytes of `now` that are taken
    size_t total; // bytes handed out since the last clear
};

void *arena_alloc(struct arena *a, size_t size, size_t align);
struct str arena_str(struct arena *a, struct str s); // a copy
void arena_clear(struct arena *a);
void arena_done(struct arena *a);

#define ARENA_ARRAY(a, type, n) ((type *)arena_alloc((a), sizeof(type) * (size_t)(n), _Alignof(type)))

#endif
