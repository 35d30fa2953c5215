// SPDX-License-Identifier: Apache-2.0
// "did you mean": the known name with the fewest edits to a given one (Levenshtein), if a third of it or less
// is edited.
#include <string.h>

#include "models/plan.h"

static uint32_t least(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

static uint32_t edits(const char *a, const char *b)
{
    uint32_t row[NET_NAME + 1];
    const size_t n = strnlen(a, NET_NAME), m = strnlen(b, NET_NAME);
    for (uint32_t j = 0; j <= m; j++)
        row[j] = j;
    for (uint32_t i = 1; i <= n; i++) {
        uint32_t diagonal = row[0];
        row[0] = i;
        for (uint32_t j = 1; j <= m; j++) {
            uint32_t above = row[j];
            row[j] = least(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[m];
}

const char *plan_nearest(const struct net *n, const char *name)
{
    const char *best = NULL;
    uint32_t best_edits = (uint32_t)strnlen(name, NET_NAME) / 3 + 2;
    for (uint32_t i = 0; i < n->spec.n_inputs + n->spec.n_blocks; i++) {
        const char *known = i < n->spec.n_inputs ? n->inputs[i].name : n->blocks[i - n->spec.n_inputs].name;
        uint32_t e = edits(name, known);
        if (e < best_edits && (i < n->spec.n_inputs || n->block_values[i - n->spec.n_inputs] != NULL)) {
            best = known;
            best_edits = e;
        }
    }
    return best;
}
