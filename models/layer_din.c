// SPDX-License-Identifier: Apache-2.0
// din: the entries of a sequence, each by its weight beside the candidate (Zhou et al., KDD 2018); (N, D) and the
// candidate (B, Dq) to (B, D). The unit, the formulas and the cost are in attention_din.c.
//
//     {name: hist, din: [64, 16], of: clicks, candidate: item_id}
//
// `of` may be several sequences of the same entries, side by side: [clicks, click_categories], candidate: [item_id,
// category]. The candidate comes in the same order and may end before an entry does, as beside the time since each
// entry there is nothing of the candidate: it counts as zeros there.
#include "models/attention.h"
#include "models/layer.h"

static const struct layer_option din_options[] = {
    {"din", LAYER_DIMS, .min = 1, .max = NET_DIM_MAX, .required = true, .text = "Hidden widths, 7 at most."},
    {"candidate", LAYER_INPUT, .required = true, .text = "What an entry is weighed by, no wider than it."},
    {"activation", LAYER_CHOICE, .choices = FC_ACTIVATION_CHOICES, .text = "Of the hidden layers."},
    {"softmax", LAYER_FLAG, .text = "Weights sum to 1 over a sequence."},
    {"norm", LAYER_CHOICE, .choices = FC_NORM_CHOICES, .text = "Before an activation."},
    {"dropout", LAYER_NUMBER, .min = 0, .max = 0.95, .text = "Share of the hidden units, in training."},
    {0},
};

static int din_shape(struct layer *l, struct err *err)
{
    const struct value *sequence = l->in[0], *candidate = layer_input(l, "candidate");
    if (attention_check(l, sequence, candidate, err) < 0)
        return -1;
    struct din_options o = {.dim = sequence->dim,
                            .query = candidate->dim,
                            .rows_max = sequence->rows_max,
                            .activation = layer_choice(l, "activation"),
                            .norm = (enum fc_norm)layer_choice(l, "norm"),
                            .dropout = layer_number(l, "dropout"),
                            .softmax = layer_flag(l, "softmax")};
    o.hidden = layer_dims(l, "din", &o.n);
    if (o.n > DIN_HIDDEN_MAX)
        return layer_fail(l, err, "din takes %d hidden layers at most", DIN_HIDDEN_MAX);
    struct din *d = l->own = layer_alloc(l, 1, sizeof *d);
    l->out->dim = sequence->dim;
    din_init(l, &o, d);
    l->stochastic = fc_stochastic(&d->fc);
    return 0;
}

static void layer_din_forward(const struct layer *l, const struct layer_context *c)
{
    const struct attention_run run = attention_run_of(l, c);
    din_forward(l, l->own, c, &run);
}

static void layer_din_backward(const struct layer *l, const struct layer_context *c)
{
    const struct attention_run run = attention_run_of(l, c);
    din_backward(l, l->own, c, &run);
}

static void layer_din_naive(const struct layer *l, const struct layer_context *c)
{
    const struct attention_run run = attention_run_of(l, c);
    din_forward_naive(l, l->own, c, &run);
}

static double layer_din_flops(const struct layer *l, bool backward, bool dense)
{
    return din_flops(l->own, (double)l->in[0]->rows_max / l->out->rows_max, backward, dense);
}

static bool layer_din_product(const struct layer *l, uint32_t i, uint32_t ret_shape[3])
{
    return din_product(l->own, i, l->out->rows_max, l->in[0]->rows_max, ret_shape);
}

const struct layer_kind layer_din = {
    .name = "din",
    .text = "The entries of a sequence, added up by weights that a candidate gives them.",
    .options = din_options,
    .one_input = true,
    .sequences = true,
    .stochastic = true,
    .no_tower = "it weighs the user's entries by the candidate",
    .shape = din_shape,
    .forward = layer_din_forward,
    .backward = layer_din_backward,
    .forward_naive = layer_din_naive,
    .flops = layer_din_flops,
    .product = layer_din_product,
};
