// SPDX-License-Identifier: Apache-2.0
// experts: several stacks of fully connected layers over one input, of the same widths, sharing no parameters (Ma et
// al., Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts, KDD 2018). Side by side,
// (B, D) becomes (B, E H), H the last width:
//
//     out_e = FC_e(x)                       | out_0 (H) | out_1 | ... | out_{E-1} |
//     dx = the sum of what each gives       one after the other into the same rows
//
// The mixtures of layer_mmoe.c read it, one for each task, and know how many it holds. Other kinds may be experts,
// too: mmoe takes any blocks of one width. Parameters are those of fc.h, below "<block>.<e>.", as of a ModuleList.
#include <stdio.h>

#include "models/fc.h"

static const struct layer_option experts_options[] = {
    {"experts", LAYER_DIMS, .min = 1, .max = NET_DIM_MAX, .required = true,
     .text = "Widths of the layers of each expert."},
    {"count", LAYER_COUNT, .min = 1, .max = 64, .fallback = 4, .text = "How many experts."},
    {"activation", LAYER_CHOICE, .choices = FC_ACTIVATION_CHOICES, .text = "Between and after the layers."},
    {"norm", LAYER_CHOICE, .choices = FC_NORM_CHOICES, .text = "Between a product and its activation."},
    {"dropout", LAYER_NUMBER, .min = 0, .max = 0.95, .fallback = 0,
     .text = "Share of the units that is dropped in training."},
    {0},
};

struct experts {
    uint32_t n, dim;
    struct fc *fc;
};

static int experts_shape(struct layer *l, struct err *err)
{
    const int activation = layer_choice(l, "activation");
    struct fc_options o = {.in = layer_width(l),
                           .activation = activation,
                           .last = activation,
                           .norm = (enum fc_norm)layer_choice(l, "norm"),
                           .eps = 1e-5,
                           .momentum = 0.1,
                           .dropout = layer_number(l, "dropout")};
    o.dims = layer_dims(l, "experts", &o.n);
    struct experts *x = l->own = layer_alloc(l, 1, sizeof *x);
    x->n = layer_count(l, "count");
    x->dim = o.dims[o.n - 1];
    if (x->n * x->dim > NET_DIM_MAX)
        return layer_fail(l, err, "%u experts of width %u are wider than %d", x->n, x->dim, NET_DIM_MAX);
    x->fc = layer_alloc(l, x->n, sizeof *x->fc);
    layer_rows_as(l, l->in[0]);
    for (uint32_t e = 0; e < x->n; e++) {
        char prefix[16];
        snprintf(prefix, sizeof prefix, "%u.", e);
        o.prefix = prefix;
        o.first = e * o.n;
        fc_init(l, l->out->rows_max, &o, &x->fc[e]);
    }
    l->out->dim = x->n * x->dim;
    l->out->relu = activation == ACTIVATION_RELU;
    l->stochastic = fc_stochastic(&x->fc[0]);
    return 0;
}

static struct fc_run expert_run(const struct layer *l, uint32_t e)
{
    const struct experts *x = l->own;
    const struct value *in = l->in[0], *out = l->out;
    return (struct fc_run){.rows = out->rows,
                           .offsets = out->offsets,
                           .x = in->x,
                           .y = out->x + e * x->dim,
                           .ldx = in->stride,
                           .ldy = out->stride,
                           .dy = out->dx + e * x->dim,
                           .dx = in->wanted ? in->dx : NULL,
                           .lddy = out->stride,
                           .lddx = in->stride,
                           .beta = e == 0 ? l->beta[0] : 1,
                           .masked = out->masked,
                           .request = l->split != NULL ? l->in[1] : NULL,
                           .request_beta = e == 0 ? l->beta[1] : 1};
}

static void experts_forward(const struct layer *l, const struct layer_context *c)
{
    const struct experts *x = l->own;
    for (uint32_t e = 0; e < x->n; e++) {
        const struct fc_run run = expert_run(l, e);
        fc_forward(l, &x->fc[e], c, &run);
    }
}

static void experts_backward(const struct layer *l, const struct layer_context *c)
{
    const struct experts *x = l->own;
    for (uint32_t e = 0; e < x->n; e++) {
        const struct fc_run run = expert_run(l, e);
        fc_backward(l, &x->fc[e], c, &run);
    }
}

static void experts_forward_naive(const struct layer *l, const struct layer_context *c)
{
    const struct experts *x = l->own;
    for (uint32_t e = 0; e < x->n; e++) {
        const struct fc_run run = expert_run(l, e);
        fc_forward_naive(l, &x->fc[e], c, &run);
    }
}

static double experts_flops(const struct layer *l, bool backward, bool dense)
{
    const struct experts *x = l->own;
    const struct value *in = l->in[0];
    return x->n * fc_flops(&x->fc[0], backward, dense, in->from_ids || (dense && in->from_params));
}

// All experts have the same products.
static bool experts_product(const struct layer *l, uint32_t i, uint32_t ret_shape[3])
{
    const struct experts *x = l->own;
    return fc_product(&x->fc[0], i, l->out->rows_max, ret_shape);
}

const struct layer_kind layer_experts = {
    .name = "experts",
    .text = "Stacks of fully connected layers side by side, for mmoe.",
    .options = experts_options,
    .one_input = true,
    .splits = true,
    .stochastic = true,
    .shape = experts_shape,
    .forward = experts_forward,
    .backward = experts_backward,
    .forward_naive = experts_forward_naive,
    .flops = experts_flops,
    .product = experts_product,
};
