// SPDX-License-Identifier: Apache-2.0
// A step of the dense layers. Neighbours that are trained at one learning rate are one run, which is one loop of the
// optimizer; buffers part them. The state lies in arrays of the parameters' size, one after the other:
//
//     params    | bottom.0.weight | bottom.0.bias | ... | click.weight | click.bias |
//     state     | first ...                                                         | second ... |
#include "models/net.h"

#include <math.h>
#include <string.h>

#include "models/plan.h"

struct run {
    size_t from, to;
    float lr; // 0: the optimizer's
};

static size_t param_end(const struct net_param *p)
{
    return p->offset + (size_t)p->rows * p->cols;
}

// The next run from parameter *at on, which it moves; false: there is none.
static bool run_next(const struct net *n, uint32_t *at, struct run *run)
{
    while (*at < n->n_params && !n->params[*at].param.trainable)
        ++*at;
    if (*at == n->n_params)
        return false;
    const struct net_param *p = &n->params[*at].param;
    *run = (struct run){p->offset, param_end(p), p->lr};
    for (++*at; *at < n->n_params; ++*at) {
        p = &n->params[*at].param;
        if (!p->trainable || p->lr != run->lr || p->offset != run->to)
            break;
        run->to = param_end(p);
    }
    return true;
}

static float run_lr(const struct run *run, const struct optimizer *o)
{
    return run->lr > 0 ? run->lr : o->lr;
}

size_t net_state_floats(const struct net *n, const struct optimizer *o)
{
    return n->n_floats * optimizer_state(o->kind);
}

// Where the second array has the state of parameter `at`; of a kind that has one array nobody looks there.
static float *state_second(const struct net *n, const struct optimizer *o, float *state, size_t at)
{
    return optimizer_state(o->kind) > 1 ? state + n->n_floats + at : NULL;
}

void net_state_begin(const struct net *n, const struct optimizer *o, const float *params, float *ret_state)
{
    struct run r;
    memset(ret_state, 0, net_state_floats(n, o) * sizeof *ret_state);
    for (uint32_t at = 0; run_next(n, &at, &r);)
        optimizer_begin(o, run_lr(&r, o), r.to - r.from, params + r.from, ret_state + r.from,
                        state_second(n, o, ret_state, r.from));
}

// Gradients of all that is trained, times `scale` and what clips their norm.
static void gradient_scale(const struct net *n, const struct optimizer *o, float scale, float *gradient)
{
    struct run r;
    double sum = 0;
    for (uint32_t at = 0; o->clip_norm > 0 && run_next(n, &at, &r);)
        sum += optimizer_squares(r.to - r.from, gradient + r.from);
    const float factor = scale * optimizer_clip(o, (double)scale * sqrt(sum));
    for (uint32_t at = 0; run_next(n, &at, &r);)
        for (size_t j = r.from; j < r.to; j++)
            gradient[j] *= factor;
}

static void buffers_step(const struct net *n, float *params, const float *gradient)
{
    for (uint32_t i = 0; i < n->n_params; i++) {
        const struct net_param *p = &n->params[i].param;
        for (size_t j = p->offset; !p->trainable && j < param_end(p); j++)
            params[j] += gradient[j];
    }
}

void net_step(const struct net *n, const struct optimizer *o, const struct optimizer_at *at, float scale,
              float *params, float *state, float *gradient)
{
    struct run r;
    buffers_step(n, params, gradient);
    gradient_scale(n, o, scale, gradient);
    for (uint32_t i = 0; run_next(n, &i, &r);) {
        const struct optimizer_step s = optimizer_step_of(o, run_lr(&r, o), at, false);
        optimizer_step(&s, r.to - r.from, params + r.from, state + r.from, state_second(n, o, state, r.from),
                       gradient + r.from);
    }
}
