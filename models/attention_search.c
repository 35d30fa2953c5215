// SPDX-License-Identifier: Apache-2.0
// Soft search (the general search unit of SIM): of each sample's entries the k whose inner product with the candidate
// is greatest, in their own order; of equal ones the earlier. Where the candidate is narrower, the product is over its
// columns: the item, without the time beside it. What is picked is not differentiated through.
//
// A product becomes a number whose order is that of its bits; a heap of k finds the last that is picked, and all that
// do not stand behind it are picked: 2 Dq an entry, and few come into the heap.
//
// Scratch: | order of each entry (N) | heap (k) | offsets (B + 1) | picked (M) | their entries (M, D) | gradient |
#include <assert.h>
#include <string.h>

#include "models/attention.h"
#include "models/kernel.h"

void search_init(struct layer *l, uint32_t k, const struct value *sequence, uint32_t query,
                 struct search *ret_search)
{
    struct search *s = ret_search;
    const uint32_t samples = l->out->rows_max, longest = sequence->rows_max / samples;
    *s = (struct search){.k = k < longest ? k : longest, .dim = sequence->dim, .query = query};
    s->rows_max = samples * s->k;
    s->order = attention_scratch(l, sequence->rows_max);
    s->heap = attention_scratch(l, s->k);
    s->offsets = attention_scratch(l, (size_t)samples + 1);
    s->picked = attention_scratch(l, s->rows_max);
    s->x = attention_scratch(l, (size_t)s->rows_max * s->dim);
    s->dx = attention_scratch(l, (size_t)s->rows_max * s->dim);
}

// A float as an integer of the same order; -0 is 0, and NaN has its place too.
static inline uint32_t order_of(float x)
{
    const union {
        float f;
        uint32_t bits;
    } u = {x + 0.0f};
    return u.bits >> 31 ? ~u.bits : u.bits | 0x80000000u;
}

KERNEL static void orders(const struct attention_run *run, uint32_t query, uint32_t *restrict order)
{
    for (size_t i = 0; i < run->n; i++) {
        const float *restrict q = run->q + i * run->ldq;
        for (size_t j = run->offsets[i]; j < run->offsets[i + 1]; j++) {
            const float *restrict k = run->k + j * run->ldk;
            float sum;
#define PRODUCT(x) (q[x] * k[x])
            KERNEL_SUM(sum, query, PRODUCT);
            order[j] = order_of(sum);
        }
    }
}

static bool behind(const uint32_t *order, uint32_t a, uint32_t b)
{
    return order[a] != order[b] ? order[a] < order[b] : a > b;
}

// The heap's first is behind all others; `at` is out of its place.
static void sift(const uint32_t *order, uint32_t *heap, uint32_t n, uint32_t at)
{
    const uint32_t x = heap[at];
    for (uint32_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && behind(order, heap[child + 1], heap[child]))
            child++;
        if (!behind(order, heap[child], x))
            break;
        heap[at] = heap[child];
    }
    heap[at] = x;
}

// The last of the k first of entries from .. to, which are more.
static uint32_t last_picked(const uint32_t *order, uint32_t *heap, uint32_t k, uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < k; i++)
        heap[i] = from + i;
    for (uint32_t i = k / 2; i-- > 0;)
        sift(order, heap, k, i);
    for (uint32_t j = from + k; j < to; j++)
        if (behind(order, heap[0], j)) {
            heap[0] = j;
            sift(order, heap, k, 0);
        }
    return heap[0];
}

struct attention_run search_forward(const struct search *s, const struct layer_context *c,
                                    const struct attention_run *all)
{
    uint32_t *order = (uint32_t *)(c->scratch + s->order), *heap = (uint32_t *)(c->scratch + s->heap);
    uint32_t *offsets = (uint32_t *)(c->scratch + s->offsets), *picked = (uint32_t *)(c->scratch + s->picked);
    uint32_t n = 0;
    orders(all, s->query, order);
    for (uint32_t i = 0; i < all->n; i++) {
        const uint32_t from = all->offsets[i], to = all->offsets[i + 1];
        offsets[i] = n;
        const uint32_t last = to - from > s->k ? last_picked(order, heap, s->k, from, to) : to;
        for (uint32_t j = from; j < to; j++)
            if (last == to || !behind(order, j, last))
                picked[n++] = j;
    }
    offsets[all->n] = n;
    assert(n <= s->rows_max);
    kernel_gather(n, s->dim, all->k, all->ldk, picked, c->scratch + s->x, s->dim);
    return search_run(s, c, all);
}

struct attention_run search_run(const struct search *s, const struct layer_context *c,
                                const struct attention_run *all)
{
    struct attention_run run = *all;
    run.offsets = (const uint32_t *)(c->scratch + s->offsets);
    run.k = c->scratch + s->x;
    run.dk = all->dk != NULL ? c->scratch + s->dx : NULL;
    run.ldk = run.lddk = s->dim;
    run.add_k = false;
    return run;
}

void search_backward(const struct search *s, const struct layer_context *c, const struct attention_run *all)
{
    if (all->dk == NULL)
        return;
    const uint32_t *offsets = (const uint32_t *)(c->scratch + s->offsets);
    const uint32_t *picked = (const uint32_t *)(c->scratch + s->picked);
    if (!all->add_k)
        kernel_zero(all->offsets[all->n], s->dim, all->dk, all->lddk);
    for (size_t i = 0; i < offsets[all->n]; i++)
        kernel_add(1, s->dim, c->scratch + s->dx + i * s->dim, s->dim,
                   all->dk + (size_t)picked[i] * all->lddk, all->lddk);
}

// ---- twin -------------------------------------------------------------------------------------------------

static double product_naive(const struct search *s, const struct attention_run *all, size_t i, size_t j)
{
    double sum = 0;
    for (uint32_t d = 0; d < s->query; d++)
        sum += (double)all->q[i * all->ldq + d] * (double)all->k[j * all->ldk + d];
    return sum;
}

// An entry is picked if fewer than k stand before it.
static bool picked_naive(const struct search *s, const struct attention_run *all, size_t i, size_t j)
{
    const double own = product_naive(s, all, i, j);
    uint32_t before = 0;
    for (size_t other = all->offsets[i]; other < all->offsets[i + 1]; other++) {
        const double x = product_naive(s, all, i, other);
        before += x > own || (x == own && other < j); // NOLINT: a tie is a tie
    }
    return before < s->k;
}

struct attention_run search_naive(const struct search *s, const struct layer_context *c,
                                  const struct attention_run *all)
{
    uint32_t *offsets = (uint32_t *)(c->scratch + s->offsets);
    float *x = c->scratch + s->x;
    offsets[0] = 0;
    for (size_t i = 0; i < all->n; i++) {
        offsets[i + 1] = offsets[i];
        for (size_t j = all->offsets[i]; j < all->offsets[i + 1]; j++)
            if (picked_naive(s, all, i, j))
                memcpy(x + (size_t)offsets[i + 1]++ * s->dim, all->k + j * all->ldk, s->dim * sizeof *x);
    }
    return search_run(s, c, all);
}
