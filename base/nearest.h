// SPDX-License-Identifier: Apache-2.0
// The hint of an error about an unknown name: put every name that would be right, then ask for the hint.
#ifndef FRESHET_BASE_NEAREST_H
#define FRESHET_BASE_NEAREST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NEAREST_TEXT = 320, NEAREST_WORD = 64 };

struct nearest {
    const char *word;
    const char *best; // the nearest so far; NULL: none is near
    uint32_t distance;
    uint32_t n;
    bool full;
    char list[NEAREST_TEXT]; // "a, b, c", cut with ", ..." when it gets long
    char hint[NEAREST_TEXT + 32];
};

void nearest_init(struct nearest *n, const char *word);
// The name must stay where it is until the hint has been taken.
void nearest_put(struct nearest *n, const char *name);
// `; did you mean "x"?`, or `; there are: a, b, c`, or "" where nothing was put. Lives in *n.
const char *nearest_hint(struct nearest *n);

// Edits (insert, delete, change, swap of neighbours) from a to b; capped at NEAREST_WORD for long words.
uint32_t nearest_distance(const char *a, const char *b);

#endif
