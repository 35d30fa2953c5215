// SPDX-License-Identifier: Apache-2.0
// The samples of a batch by request. Samples of one request stand together in the log and in a call for scores, so a
// request is a run of samples that are equal, to the byte, in every input of the user and the request: nobody has to
// say so, and the result is a function of the batch alone. What is equal is looked up and computed once (net.h):
//
//     user    | u1 u1 u1 u2 u2 |          user    | u1 u2 |       requests | 0 3 5 |
//     clicks  | a b, a b, a b, c, c |     clicks  | a b, c |
//     item    | i1 i2 i3 i4 i5 |          item    | i1 i2 i3 i4 i5 |
//     as cut                              as the net sees it
//
// In training each sample still counts as an occurrence of the ids. Where a table admits a row after some of them, it can
// begin in the midst of a request: there the request is cut in two, and what is learned is what sample by sample is.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/model_impl.h"

void requests_init(struct requests *q, const struct net_spec *spec)
{
    q->offsets = mem_array((size_t)spec->batch + 1, sizeof *q->offsets);
    q->columns = mem_array(spec->n_inputs + 1, sizeof *q->columns);
    for (uint32_t i = 0; i < spec->n_inputs; i++) {
        const enum net_input_kind kind = spec->inputs[i].kind;
        if (!net_sides_shared(spec->inputs[i].sides))
            continue;
        if (kind == NET_INPUT_NUMBER)
            q->columns[i].own_numbers = mem_array(spec->batch, sizeof(float));
        if (kind == NET_INPUT_SEQUENCE)
            q->columns[i].own_offsets = mem_array((size_t)spec->batch + 1, sizeof(uint32_t));
        q->columns[i].shared = true;
        q->any = true;
    }
}

void requests_done(struct requests *q, uint32_t n_inputs)
{
    for (uint32_t i = 0; q->columns != NULL && i < n_inputs; i++) {
        free(q->columns[i].own_ids);
        free(q->columns[i].own_offsets);
        free(q->columns[i].own_numbers);
    }
    free(q->offsets);
    free(q->columns);
}

// ---- finding ----------------------------------------------------------------------------------------------

// Whether samples s - 1 and s are equal in what is of the request.
static bool equal_before(const struct model *m, const struct runner *r, uint32_t s)
{
    for (uint32_t i = 0; i < m->n_inputs; i++) {
        const struct request_column *c = &r->requests.columns[i];
        if (!c->shared)
            continue;
        if (m->inputs[i].kind == NET_INPUT_NUMBER) {
            if (memcmp(&c->numbers[s - 1], &c->numbers[s], sizeof(float)) != 0)
                return false;
        } else if (m->inputs[i].kind == NET_INPUT_ID) {
            if (c->ids[s - 1] != c->ids[s])
                return false;
        } else {
            const uint32_t *o = r->offsets[i] + s - 1;
            const uint32_t n = o[1] - o[0];
            // Of no ids at all they may be NULL.
            if (n != o[2] - o[1] || (n > 0 && memcmp(c->ids + o[0], c->ids + o[1], n * sizeof *c->ids) != 0))
                return false;
        }
    }
    return true;
}

static void column_pack(struct runner *r, uint32_t input)
{
    const struct requests *q = &r->requests;
    struct request_column *c = &r->requests.columns[input];
    uint32_t at = 0;
    if (c->own_numbers != NULL) {
        for (uint32_t k = 0; k < q->n; k++)
            c->own_numbers[k] = c->numbers[q->offsets[k]];
        r->numbers[input] = c->own_numbers;
        return;
    }
    if (c->count > c->cap_ids) {
        c->cap_ids = c->count + c->count / 2;
        c->own_ids = mem_resize(c->own_ids, c->cap_ids, sizeof *c->own_ids);
    }
    for (uint32_t k = 0; k < q->n; k++) {
        const uint32_t s = q->offsets[k];
        const uint32_t begin = c->own_offsets != NULL ? r->offsets[input][s] : s;
        const uint32_t len = c->own_offsets != NULL ? r->offsets[input][s + 1] - begin : 1;
        if (len > 0) // of no ids at all both may be NULL
            memcpy(c->own_ids + at, c->ids + begin, len * sizeof *c->ids);
        at += len;
        if (c->own_offsets != NULL)
            c->own_offsets[k + 1] = at;
    }
    r->ids[input] = c->own_ids;
    r->counts[input] = at;
    if (c->own_offsets != NULL)
        r->seen_offsets[input] = c->own_offsets;
}

// The columns as the net sees them, by what is in `offsets`.
static void pack(const struct model *m, struct runner *r)
{
    const bool grouped = r->requests.n < r->batch.n;
    r->batch.requests = grouped ? r->requests.offsets : NULL;
    r->batch.n_requests = grouped ? r->requests.n : 0;
    for (uint32_t i = 0; i < m->n_inputs; i++) {
        const struct request_column *c = &r->requests.columns[i];
        r->ids[i] = c->ids;
        r->counts[i] = c->count;
        r->numbers[i] = c->numbers;
        r->seen_offsets[i] = r->offsets[i];
        if (c->shared && grouped)
            column_pack(r, i);
    }
}

void requests_find(const struct model *m, struct runner *r)
{
    struct requests *q = &r->requests;
    q->n = 0;
    for (uint32_t s = 0; s < r->batch.n; s++)
        if (s == 0 || !q->any || !equal_before(m, r, s))
            q->offsets[q->n++] = s;
    q->offsets[q->n] = r->batch.n;
    for (uint32_t i = 0; i < m->n_inputs; i++)
        if (q->columns[i].own_offsets != NULL)
            q->columns[i].own_offsets[0] = 0;
    pack(m, r);
}

// ---- touching ---------------------------------------------------------------------------------------------

static bool admits_late(const struct model *m, uint32_t input)
{
    return model_input_has_ids(m, input) && table_options(m->tables[m->inputs[input].table])->admit > 1;
}

static bool slots_equal_before(const struct model *m, const struct runner *r, uint32_t s)
{
    for (uint32_t i = 0; i < m->n_inputs; i++) {
        if (!r->requests.columns[i].shared || !admits_late(m, i))
            continue;
        const uint32_t *o = r->offsets[i] != NULL ? r->offsets[i] + s - 1 : NULL;
        const uint32_t before = o != NULL ? o[0] : s - 1, own = o != NULL ? o[1] : s;
        const uint32_t len = o != NULL ? o[1] - o[0] : 1;
        if (memcmp(r->slots[i] + before, r->slots[i] + own, len * sizeof(uint32_t)) != 0)
            return false;
    }
    return true;
}

// A row was admitted between two samples of a request: each part sees its own.
static void refine(const struct model *m, struct runner *r)
{
    struct requests *q = &r->requests;
    uint32_t n = 0, k = 0;
    bool *begins = mem_array(r->batch.n + 1, sizeof *begins);
    for (uint32_t s = 0; s < r->batch.n; s++) {
        begins[s] = s == q->offsets[k] || !slots_equal_before(m, r, s);
        k += s == q->offsets[k];
    }
    for (uint32_t s = 0; s < r->batch.n; s++)
        if (begins[s])
            q->offsets[n++] = s;
    q->offsets[n] = r->batch.n;
    q->n = n;
    free(begins);
    pack(m, r);
}

// Slots by sample to slots by request, in place.
static void slots_pack(const struct model *m, struct runner *r)
{
    for (uint32_t i = 0; i < m->n_inputs; i++) {
        if (!r->requests.columns[i].shared || !admits_late(m, i))
            continue;
        uint32_t at = 0;
        for (uint32_t k = 0; k < r->requests.n; k++) {
            const uint32_t s = r->requests.offsets[k];
            const uint32_t begin = r->offsets[i] != NULL ? r->offsets[i][s] : s;
            const uint32_t len = r->offsets[i] != NULL ? r->offsets[i][s + 1] - begin : 1;
            memmove(r->slots[i] + at, r->slots[i] + begin, len * sizeof(uint32_t));
            at += len;
        }
    }
}

static void touch_reserve(struct model_update *u, uint32_t n)
{
    if (n <= u->seen_cap)
        return;
    u->seen_cap = n + n / 2;
    u->seen = mem_resize(u->seen, u->seen_cap, sizeof *u->seen);
    u->times = mem_resize(u->times, u->seen_cap, sizeof *u->times);
}

// Occurrences of an input's ids: those of samples, or of requests, each as often as it has samples, at the last's time.
static void touch(struct model_update *u, struct runner *r, uint32_t input, const uint32_t *seen_s,
                  bool by_request)
{
    const struct request_column *c = &r->requests.columns[input];
    const uint32_t *offsets = by_request ? r->seen_offsets[input] : r->offsets[input];
    const uint32_t n = by_request ? r->requests.n : r->batch.n;
    uint32_t count = by_request ? r->counts[input] : c->count;
    touch_reserve(u, count);
    for (uint32_t k = 0; k < n; k++) {
        const uint32_t first = by_request ? r->requests.offsets[k] : k;
        const uint32_t end = by_request ? r->requests.offsets[k + 1] : k + 1;
        uint32_t seen = 0;
        for (uint32_t s = first; s < end; s++)
            seen = seen_s[s] > seen ? seen_s[s] : seen;
        const uint32_t begin = offsets != NULL ? offsets[k] : k,
                       stop = offsets != NULL ? offsets[k + 1] : k + 1;
        for (uint32_t i = begin; i < stop; i++) {
            u->seen[i] = seen;
            u->times[i] = end - first;
        }
    }
    overlay_touch_times(u->overlays[u->m->inputs[input].table], by_request ? r->ids[input] : c->ids, u->seen,
                        u->times, count, r->slots[input]);
}

void requests_touch(struct model_update *u, struct runner *r, const uint32_t *seen_s)
{
    const struct model *m = u->m;
    for (uint32_t i = 0; i < m->n_inputs; i++)
        if (admits_late(m, i))
            touch(u, r, i, seen_s, false);
    if (r->batch.requests != NULL) {
        refine(m, r);
        slots_pack(m, r);
    }
    for (uint32_t i = 0; i < m->n_inputs; i++)
        if (model_input_has_ids(m, i) && !admits_late(m, i))
            touch(u, r, i, seen_s, r->requests.columns[i].shared && r->batch.requests != NULL);
}
