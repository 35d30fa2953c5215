// SPDX-License-Identifier: Apache-2.0
// sim: of a long sequence the entries that have to do with the candidate, then attention over these (Pi et al.,
// Search-based User Interest Modeling with Lifelong Sequential Behavior Data, CIKM 2020); (N, D) and the candidate
// (B, Dq) to (B, D).
//
//     {name: long, sim: {}, of: [long_items, long_ages], candidate: item_id}
//
// Hard search is the feature's: a sequence that is kept by bucket comes as that of the candidate's bucket, with
// `search: none`. Soft search is attention_search.c, the attention attention_heads.c or the unit of din,
// attention_din.c. Beside the items of `of` stands what else is known of the same entries, such as the time since; the
// candidate, which comes first in the same order, counts as zeros there.
#include <string.h>

#include "models/attention.h"
#include "models/layer.h"

enum { SIM_SOFT, SIM_NONE };
enum { SIM_HEADS, SIM_DIN };

static const struct layer_option sim_options[] = {
    {"candidate", LAYER_INPUT, .required = true, .text = "What is searched for, no wider than an entry."},
    {"search", LAYER_CHOICE, .choices = "soft|none",
     .text = "soft: the k nearest of the sequence; none: all, which is hard search where it is kept by the "
             "candidate's bucket."},
    {"k", LAYER_COUNT, .min = 1, .max = 8192, .fallback = 50, .text = "search soft: how many."},
    {"attention", LAYER_CHOICE, .choices = "multihead|din", .text = "Over what was found."},
    {"heads", LAYER_COUNT, .min = 1, .max = 64, .fallback = 4, .text = "attention multihead: how many."},
    {"width", LAYER_COUNT, .min = 1, .max = NET_DIM_MAX, .fallback = 64, .text = "multihead: of all heads."},
    {"units", LAYER_DIMS, .min = 1, .max = NET_DIM_MAX,
     .text = "attention din: hidden widths; else [64, 16]."},
    {"activation", LAYER_CHOICE, .choices = FC_ACTIVATION_CHOICES, .text = "attention din: of these."},
    {"softmax", LAYER_FLAG, .text = "attention din: weights sum to 1."},
    {0},
};

struct sim {
    int search, attention;
    struct search found;
    struct heads heads;
    struct din din;
};

// ---- shape ------------------------------------------------------------------------------------------------

// Options of what was not chosen would be without effect.
static int sim_check_options(const struct layer *l, const struct sim *s, struct err *err)
{
    static const struct {
        const char *name, *needs;
        bool attention;
        int choice;
    } rules[] = {
        {"k", "search: soft", false, SIM_SOFT},
        {"heads", "attention: multihead", true, SIM_HEADS},
        {"width", "attention: multihead", true, SIM_HEADS},
        {"units", "attention: din", true, SIM_DIN},
        {"activation", "attention: din", true, SIM_DIN},
        {"softmax", "attention: din", true, SIM_DIN},
    };
    for (const struct layer_value *v = l->block->options; v->name != NULL; v++)
        for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
            if (strcmp(v->name, rules[i].name) == 0 &&
                rules[i].choice != (rules[i].attention ? s->attention : s->search))
                return layer_fail(l, err, "\"%s\" goes with %s", v->name, rules[i].needs);
    return 0;
}

static int sim_shape_heads(struct layer *l, struct sim *s, uint32_t rows_max, uint32_t query, struct err *err)
{
    const struct heads sizes = {.dim = l->in[0]->dim,
                                .query = query,
                                .heads = layer_count(l, "heads"),
                                .width = layer_count(l, "width")};
    if (sizes.width % sizes.heads != 0)
        return layer_fail(l, err, "width is %u, which is no multiple of %u heads", sizes.width, sizes.heads);
    heads_init(l, &sizes, rows_max, &s->heads);
    l->stochastic = false;
    return 0;
}

static int sim_shape_din(struct layer *l, struct sim *s, uint32_t rows_max, uint32_t query, struct err *err)
{
    static const uint32_t usual[] = {64, 16};
    struct din_options o = {.dim = l->in[0]->dim,
                            .query = query,
                            .rows_max = rows_max,
                            .activation = layer_choice(l, "activation"),
                            .softmax = layer_flag(l, "softmax")};
    o.hidden = layer_dims(l, "units", &o.n);
    if (o.n > DIN_HIDDEN_MAX)
        return layer_fail(l, err, "units: %d hidden layers at most", DIN_HIDDEN_MAX);
    if (o.n == 0) {
        o.hidden = usual;
        o.n = 2;
    }
    din_init(l, &o, &s->din);
    l->stochastic = fc_stochastic(&s->din.fc);
    return 0;
}

static int sim_shape(struct layer *l, struct err *err)
{
    const struct value *sequence = l->in[0], *candidate = layer_input(l, "candidate");
    struct sim *s = l->own = layer_alloc(l, 1, sizeof *s);
    s->search = layer_choice(l, "search");
    s->attention = layer_choice(l, "attention");
    if (attention_check(l, sequence, candidate, err) < 0 || sim_check_options(l, s, err) < 0)
        return -1;
    uint32_t rows_max = sequence->rows_max;
    l->out->dim = sequence->dim;
    if (s->search == SIM_SOFT) {
        search_init(l, layer_count(l, "k"), sequence, candidate->dim, &s->found);
        rows_max = s->found.rows_max;
    }
    return s->attention == SIM_HEADS ? sim_shape_heads(l, s, rows_max, candidate->dim, err)
                                     : sim_shape_din(l, s, rows_max, candidate->dim, err);
}

// ---- running ----------------------------------------------------------------------------------------------

static void sim_forward(const struct layer *l, const struct layer_context *c)
{
    const struct sim *s = l->own;
    struct attention_run run = attention_run_of(l, c);
    if (s->search == SIM_SOFT)
        run = search_forward(&s->found, c, &run);
    if (s->attention == SIM_HEADS)
        heads_forward(l, &s->heads, c, &run);
    else
        din_forward(l, &s->din, c, &run);
}

static void sim_backward(const struct layer *l, const struct layer_context *c)
{
    const struct sim *s = l->own;
    const struct attention_run all = attention_run_of(l, c);
    const struct attention_run run = s->search == SIM_SOFT ? search_run(&s->found, c, &all) : all;
    if (s->attention == SIM_HEADS)
        heads_backward(l, &s->heads, c, &run);
    else
        din_backward(l, &s->din, c, &run);
    if (s->search == SIM_SOFT)
        search_backward(&s->found, c, &all);
}

static void sim_forward_naive(const struct layer *l, const struct layer_context *c)
{
    const struct sim *s = l->own;
    struct attention_run run = attention_run_of(l, c);
    if (s->search == SIM_SOFT)
        run = search_naive(&s->found, c, &run);
    if (s->attention == SIM_HEADS)
        heads_forward_naive(l, &s->heads, c, &run);
    else
        din_forward_naive(l, &s->din, c, &run);
}

static double sim_flops(const struct layer *l, bool backward, bool dense)
{
    const struct sim *s = l->own;
    const double entries = (double)l->in[0]->rows_max / l->out->rows_max;
    const double found = s->search == SIM_SOFT ? s->found.k : entries;
    const double search = s->search == SIM_SOFT && !backward ? 2 * entries * s->found.query : 0;
    return search + (s->attention == SIM_HEADS ? heads_flops(&s->heads, found, backward, dense)
                                               : din_flops(&s->din, found, backward, dense));
}

static bool sim_product(const struct layer *l, uint32_t i, uint32_t ret_shape[3])
{
    const struct sim *s = l->own;
    const uint32_t rows = s->search == SIM_SOFT ? s->found.rows_max : l->in[0]->rows_max;
    return s->attention == SIM_HEADS ? heads_product(&s->heads, i, l->out->rows_max, ret_shape)
                                     : din_product(&s->din, i, l->out->rows_max, rows, ret_shape);
}

const struct layer_kind layer_sim = {
    .name = "sim",
    .text = "Attention of a candidate over what it finds in a long sequence.",
    .options = sim_options,
    .one_input = true,
    .sequences = true,
    .stochastic = true,
    .no_tower = "it searches the user's entries for the candidate",
    .shape = sim_shape,
    .forward = sim_forward,
    .backward = sim_backward,
    .forward_naive = sim_forward_naive,
    .flops = sim_flops,
    .product = sim_product,
};
