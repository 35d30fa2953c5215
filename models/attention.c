// SPDX-License-Identifier: Apache-2.0
// What every attention over a sequence has: its candidate's check, and where its values lie.
#include "models/attention.h"

#include "models/kernel.h"

int attention_check(const struct layer *l, const struct value *sequence, const struct value *candidate,
                    struct err *err)
{
    if (!sequence->ragged)
        return layer_fail(l, err, "%s takes a sequence, and \"%s\" is none", l->kind->name, l->block->of[0]);
    if (candidate->ragged)
        return layer_fail(l, err, "the candidate \"%s\" is a sequence: pool it with mean first",
                          candidate->name);
    if (candidate->dim > sequence->dim)
        return layer_fail(l, err,
                          "the candidate is %u wide, but an entry %u: name in `of`, in the same order, the "
                          "sequences of what the candidate is made of",
                          candidate->dim, sequence->dim);
    return 0;
}

struct attention_run attention_run_of(const struct layer *l, const struct layer_context *c)
{
    uint32_t n;
    const uint32_t at = layer_inputs(l, "candidate", &n);
    const struct value *k = l->in[0], *q = l->in[at], *out = l->out;
    return (struct attention_run){.n = c->n,
                                  .offsets = k->offsets,
                                  .q = q->x,
                                  .k = k->x,
                                  .y = out->x,
                                  .ldq = q->stride,
                                  .ldk = k->stride,
                                  .ldy = out->stride,
                                  .dy = out->dx,
                                  .dq = q->wanted ? q->dx : NULL,
                                  .dk = k->wanted ? k->dx : NULL,
                                  .lddy = out->stride,
                                  .lddq = q->stride,
                                  .lddk = k->stride,
                                  .add_q = l->beta[at] != 0,
                                  .add_k = l->beta[0] != 0};
}

size_t attention_scratch(struct layer *l, size_t floats)
{
    const size_t at = l->scratch_floats;
    l->scratch_floats += (floats + KERNEL_LANES - 1) / KERNEL_LANES * KERNEL_LANES;
    return at;
}
