// SPDX-License-Identifier: Apache-2.0
// mlp: a stack of fully connected layers, y_i = drop(f(norm(y_{i-1} W_i^T + b_i))), as PyTorch's nn.Sequential; the
// maths is fc.c's, the names are in fc.h. (B, D) becomes (B, last width); of a ragged input every entry is a row.
//
//     activation  relu, none, sigmoid, tanh
//                 prelu  max(x, 0) + a min(x, 0), one a a layer (He et al., Delving Deep into Rectifiers, ICCV 2015)
//                 dice   x (p + a (1 - p)), p = sigmoid((x - E) / sqrt(Var + 1e-9)), an a a column (Zhou et al., DIN,
//                        KDD 2018)
//     norm        batch  (x - E) / sqrt(Var + eps) g + b by column (Ioffe, Szegedy, ICML 2015)
//                 layer  the same by row (Ba et al., Layer Normalization, 2016)
//     dropout     a unit is 0 with probability p, else divided by 1 - p (Srivastava et al., JMLR 2014)
//
// Statistics of `batch` and `dice` are the batch's while the dense layers train, and move the running ones, which are
// what predicts. Frozen, training too takes the running ones, as constants, and no byte of them changes. A batch of
// one row has no variance: it is taken by the running ones, and does not move them.
#include "models/fc.h"

static const struct layer_option mlp_options[] = {
    {"mlp", LAYER_DIMS, .min = 1, .max = NET_DIM_MAX, .required = true,
     .text = "Widths of fully connected layers."},
    {"activation", LAYER_CHOICE, .choices = FC_ACTIVATION_CHOICES, .text = "Between and after the layers."},
    {"last", LAYER_CHOICE, .choices = "same|" FC_ACTIVATION_CHOICES,
     .text = "After the last layer, which has neither norm nor dropout then."},
    {"norm", LAYER_CHOICE, .choices = FC_NORM_CHOICES,
     .text =
         "Between a product and its activation; batch: by the running statistics, which stay, where frozen."},
    {"eps", LAYER_NUMBER, .min = 1e-12, .max = 1, .fallback = 1e-5,
     .text = "norm: what is added to a variance."},
    {"momentum", LAYER_NUMBER, .min = 0, .max = 1, .fallback = 0.1,
     .text = "norm batch: how far a batch moves the running statistics."},
    {"dropout", LAYER_NUMBER, .min = 0, .max = 0.95, .fallback = 0,
     .text = "Share of the units that is dropped in training."},
    {0},
};

static int mlp_shape(struct layer *l, struct err *err)
{
    (void)err;
    const int activation = layer_choice(l, "activation"), last = layer_choice(l, "last");
    struct fc_options o = {.prefix = "",
                           .in = layer_width(l),
                           .activation = activation,
                           .last = last == 0 ? activation : last - 1,
                           .bare_last = last != 0,
                           .norm = (enum fc_norm)layer_choice(l, "norm"),
                           .eps = layer_number(l, "eps"),
                           .momentum = layer_number(l, "momentum"),
                           .dropout = layer_number(l, "dropout")};
    o.dims = layer_dims(l, "mlp", &o.n);
    struct fc *f = l->own = layer_alloc(l, 1, sizeof *f);
    layer_rows_as(l, l->in[0]);
    fc_init(l, l->out->rows_max, &o, f);
    l->out->dim = o.dims[o.n - 1];
    l->out->relu = o.last == ACTIVATION_RELU;
    l->stochastic = fc_stochastic(f);
    return 0;
}

static struct fc_run mlp_run(const struct layer *l)
{
    const struct value *in = l->in[0], *out = l->out;
    return (struct fc_run){.rows = out->rows,
                           .offsets = out->offsets,
                           .x = in->x,
                           .y = out->x,
                           .ldx = in->stride,
                           .ldy = out->stride,
                           .dy = out->dx,
                           .dx = in->wanted ? in->dx : NULL,
                           .lddy = out->stride,
                           .lddx = in->stride,
                           .beta = l->beta[0],
                           .masked = out->masked,
                           .request = l->split != NULL ? l->in[1] : NULL,
                           .request_beta = l->beta[1]};
}

static void mlp_forward(const struct layer *l, const struct layer_context *c)
{
    const struct fc_run run = mlp_run(l);
    fc_forward(l, l->own, c, &run);
}

static void mlp_backward(const struct layer *l, const struct layer_context *c)
{
    const struct fc_run run = mlp_run(l);
    fc_backward(l, l->own, c, &run);
}

static void mlp_forward_naive(const struct layer *l, const struct layer_context *c)
{
    const struct fc_run run = mlp_run(l);
    fc_forward_naive(l, l->own, c, &run);
}

static double mlp_flops(const struct layer *l, bool backward, bool dense)
{
    return fc_flops(l->own, backward, dense, l->in[0]->from_ids || (dense && l->in[0]->from_params));
}

static bool mlp_product(const struct layer *l, uint32_t i, uint32_t ret_shape[3])
{
    return fc_product(l->own, i, l->out->rows_max, ret_shape);
}

const struct layer_kind layer_mlp = {
    .name = "mlp",
    .text = "Fully connected layers.",
    .options = mlp_options,
    .one_input = true,
    .splits = true,
    .stochastic = true,
    .shape = mlp_shape,
    .forward = mlp_forward,
    .backward = mlp_backward,
    .forward_naive = mlp_forward_naive,
    .flops = mlp_flops,
    .product = mlp_product,
};
