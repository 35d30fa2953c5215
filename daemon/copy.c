// SPDX-License-Identifier: Apache-2.0
#include "daemon/copy.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "daemon/tensors.h"

void copy_done(struct copy *c)
{
    for (uint32_t t = 0; t < c->n_tables; t++) {
        map_done(&c->tables[t].rows);
        free(c->tables[t].ids);
        free(c->tables[t].vectors);
    }
    buf_done(&c->dense);
    buf_done(&c->learned);
    *c = (struct copy){0};
}

int copy_table(struct copy *c, struct str name, uint32_t dim)
{
    for (uint32_t t = 0; t < c->n_tables; t++)
        if (str_is(name, c->tables[t].name))
            return c->tables[t].dim == dim ? (int)t : -1;
    if (c->n_tables == DELTA_TABLES_MAX || name.len >= sizeof c->tables[0].name)
        return -1;
    struct copy_table *t = &c->tables[c->n_tables];
    *t = (struct copy_table){.dim = dim};
    snprintf(t->name, sizeof t->name, "%.*s", (int)name.len, name.s);
    return (int)c->n_tables++;
}

// The last row takes the place of the removed one: the arrays stay dense.
static void copy_remove(struct copy_table *t, uint64_t id)
{
    uint32_t at = map_get(&t->rows, id);
    if (at == MAP_NONE)
        return;
    uint32_t last = --t->n;
    map_remove(&t->rows, id);
    if (at == last)
        return;
    t->ids[at] = t->ids[last];
    memcpy(t->vectors + (size_t)at * t->dim, t->vectors + (size_t)last * t->dim, t->dim * sizeof *t->vectors);
    *map_at(&t->rows, t->ids[at]) = at;
}

void copy_row(struct copy_table *t, uint64_t id, const uint8_t *vector)
{
    if (vector == NULL) {
        copy_remove(t, id);
        return;
    }
    uint32_t *at = map_at(&t->rows, id);
    if (*at == MAP_NONE) {
        if (t->n == t->cap) {
            t->cap = t->cap > 0 ? 2 * t->cap : 1024;
            t->ids = mem_resize(t->ids, t->cap, sizeof *t->ids);
            t->vectors = mem_resize(t->vectors, (size_t)t->cap * t->dim, sizeof *t->vectors);
        }
        t->ids[t->n] = id;
        *at = t->n++;
    }
    memcpy(t->vectors + (size_t)*at * t->dim, vector, t->dim * sizeof *t->vectors);
}

struct id_order {
    uint64_t id;
    uint32_t at;
};

static int id_compare(const void *a, const void *b)
{
    uint64_t x = ((const struct id_order *)a)->id;
    uint64_t y = ((const struct id_order *)b)->id;
    return x < y ? -1 : x > y;
}

uint32_t *copy_order(const struct copy_table *t)
{
    struct id_order *order = mem_array(t->n, sizeof *order);
    uint32_t *places = mem_array(t->n, sizeof *places);
    for (uint32_t i = 0; i < t->n; i++)
        order[i] = (struct id_order){t->ids[i], i};
    qsort(order, t->n, sizeof *order, id_compare);
    for (uint32_t i = 0; i < t->n; i++)
        places[i] = order[i].at;
    free(order);
    return places;
}

struct digest copy_digest(const struct copy_table *t)
{
    uint32_t *order = copy_order(t);
    struct hasher *h = hasher_new();
    for (uint32_t i = 0; i < t->n; i++) {
        hasher_put(h, &t->ids[order[i]], sizeof *t->ids);
        hasher_put(h, t->vectors + (size_t)order[i] * t->dim, t->dim * sizeof *t->vectors);
    }
    struct digest d = hasher_digest(h);
    hasher_free(h);
    free(order);
    return d;
}

// A document has the layers in the order of the net, as the daemon's digest takes them.
int copy_dense_digest(struct str document, struct digest *ret_digest, struct err *err)
{
    struct tensors file;
    if (tensors_of(&file, document, err) != 0)
        return -1;
    struct hasher *h = hasher_new();
    for (uint32_t i = 0; i < file.n; i++)
        hasher_put(h, file.list[i].data, file.list[i].bytes);
    *ret_digest = hasher_digest(h);
    hasher_free(h);
    tensors_done(&file);
    return 0;
}
