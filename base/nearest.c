// SPDX-License-Identifier: Apache-2.0
// Edit distance with swaps of neighbours (optimal string alignment, Damerau 1964), three rows of the table at
// a time: O(|a| |b|). A name is near when at most a third of the word was mistyped, and one or two letters
// always may be.
#include "base/nearest.h"

#include <stdio.h>
#include <string.h>

static uint32_t min2(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

uint32_t nearest_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n >= NEAREST_WORD || m >= NEAREST_WORD)
        return strcmp(a, b) == 0 ? 0 : NEAREST_WORD;
    uint32_t rows[3][NEAREST_WORD + 1];
    for (uint32_t j = 0; j <= m; j++)
        rows[0][j] = j;
    for (uint32_t i = 1; i <= n; i++) {
        uint32_t *row = rows[i % 3];
        const uint32_t *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];
        row[0] = i;
        for (uint32_t j = 1; j <= m; j++) {
            row[j] = min2(min2(up[j], row[j - 1]) + 1, up[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = min2(row[j], up2[j - 2] + 1);
        }
    }
    return rows[n % 3][m];
}

void nearest_init(struct nearest *n, const char *word)
{
    size_t len = strlen(word);
    n->word = word;
    n->best = NULL;
    n->distance = len <= 3 ? 2 : len <= 8 ? 3 : min2((uint32_t)len / 3 + 1, NEAREST_WORD);
    n->n = 0;
    n->full = false;
    n->list[0] = '\0';
}

void nearest_put(struct nearest *n, const char *name)
{
    uint32_t d = nearest_distance(n->word, name);
    if (d < n->distance) {
        n->distance = d;
        n->best = name;
    }
    size_t used = strlen(n->list);
    size_t room = sizeof n->list - used - sizeof ", ..."; // below zero only once full, when it is not used
    if (!n->full && strlen(name) + 2 <= room) {
        snprintf(n->list + used, room + 1, "%s%s", n->n > 0 ? ", " : "", name);
    } else if (!n->full) {
        snprintf(n->list + used, sizeof n->list - used, "%s", n->n > 0 ? ", ..." : "...");
        n->full = true;
    }
    n->n++;
}

const char *nearest_hint(struct nearest *n)
{
    n->hint[0] = '\0';
    if (n->best != NULL)
        snprintf(n->hint, sizeof n->hint, "; did you mean \"%s\"?", n->best);
    else if (n->n > 0)
        snprintf(n->hint, sizeof n->hint, "; there are: %s", n->list);
    return n->hint;
}
