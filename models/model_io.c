// SPDX-License-Identifier: Apache-2.0
// The dense layers outside of the model: for the store, for consumers, and their digest.
//
// For the store, little-endian:
//
//     +-------------+-------------+-----------+----------------------+---------------------+
//     | version u32 | trained u64 | frozen u8 | parameters, n x f32  | state, k x n x f32  |
//     +-------------+-------------+-----------+----------------------+---------------------+
//
// Parameters are in the net's order (net_param); k arrays of state are the optimizer's (optimizer.h). Another layout takes another version; what was written by
// one that is not known is refused.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/model_impl.h"
#include "models/safetensors.h"
#include "models/tower.h"

enum { DENSE_VERSION = 1, DENSE_HEADER = 13 };

static void dense_put(const struct model *m, const float *params, const float *state, uint64_t trained,
                      bool frozen, struct buf *to)
{
    buf_put_u32(to, DENSE_VERSION);
    buf_put_u64(to, trained);
    buf_put_u8(to, frozen);
    buf_put(to, params, m->n_params * sizeof *params);
    buf_put(to, state, m->n_state * sizeof *state);
}

void model_dense_save(const struct model *m, struct buf *to)
{
    dense_put(m, m->params, m->state, m->trained, m->frozen, to);
}

void model_update_dense(const struct model_update *u, struct buf *to)
{
    const float *state = u->state != NULL ? u->state : u->m->state;
    dense_put(u->m, update_params(u), state, u->trained, u->frozen, to);
}

int model_dense_load(struct model *m, struct str blob, struct err *err)
{
    struct rd from = rd_of(blob.s, blob.len);
    const size_t bytes = m->n_params * sizeof *m->params, state = m->n_state * sizeof *m->state;
    uint32_t version = rd_u32(&from);
    if (from.bad || version != DENSE_VERSION)
        return err_set(err, ERR_CORRUPT, "the dense layers are of version %u, this program reads %u", version,
                       (unsigned)DENSE_VERSION);
    uint64_t trained = rd_u64(&from);
    uint8_t frozen = rd_u8(&from);
    if (from.bad || blob.len != DENSE_HEADER + bytes + state || frozen > 1)
        return err_set(err, ERR_CORRUPT,
                       "the dense layers have %u bytes, where the net with its %zu parameters and %s has "
                       "%zu; was `models` "
                       "changed in the config?",
                       blob.len, m->n_params, optimizer_name(m->options.dense.kind),
                       DENSE_HEADER + bytes + state);
    memcpy(m->params, rd_bytes(&from, bytes), bytes);
    model_pack(m);
    if (m->tower != NULL)
        tower_stale(m->tower);
    memcpy(m->state, rd_bytes(&from, state), state);
    m->trained = trained;
    m->frozen = model_frozen_at(m, trained, frozen);
    return 0;
}

// Parameter by parameter, so that padding between them, should a net have any, is no part of it.
static struct digest dense_digest(const struct model *m, const float *params)
{
    const struct net *net = m->serve.net;
    struct hasher *h = hasher_new();
    for (uint32_t i = 0; i < net_param_count(net); i++) {
        const struct net_param *p = net_param(net, i);
        hasher_put(h, params + p->offset, (size_t)p->rows * p->cols * sizeof *params);
    }
    struct digest d = hasher_digest(h);
    hasher_free(h);
    return d;
}

struct digest model_dense_digest(const struct model *m)
{
    return dense_digest(m, m->params);
}

struct digest model_update_dense_digest(const struct model_update *u)
{
    return dense_digest(u->m, update_params(u));
}

static void dense_safetensors(const struct model *m, const float *params, struct buf *to)
{
    const struct net *net = m->serve.net;
    uint32_t n = net_param_count(net);
    struct safetensor *tensors = mem_array(n, sizeof *tensors);
    for (uint32_t i = 0; i < n; i++) {
        const struct net_param *p = net_param(net, i);
        tensors[i] = (struct safetensor){
            .name = p->name,
            .type = SAFETENSOR_F32,
            .n_dims = p->vector ? 1 : 2,
            .shape = {p->rows, p->cols},
            .data = params + p->offset,
        };
    }
    safetensors_put(to, tensors, n);
    free(tensors);
}

void model_dense_safetensors(const struct model *m, struct buf *to)
{
    dense_safetensors(m, m->params, to);
}

void model_update_safetensors(const struct model_update *u, struct buf *to)
{
    dense_safetensors(u->m, update_params(u), to);
}
