// SPDX-License-Identifier: Apache-2.0
// What is promised of attention over a sequence beside what test_layers.c checks of every kind: which entries soft
// search finds, of long sequences and of equal ones; that what it did not find has no gradient; and how a net is
// refused that cannot be.
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/gemm.h"
#include "models/plan.h"

enum { BATCH = 5, LENGTH = 300, DIM = 4 };

// A block of `kind` over the sequence "past", and a candidate.
static int net_of(const char *kind, const char *of, uint32_t side, const struct layer_value *options,
                  struct net **ret_net, struct err *err)
{
    const struct net_input inputs[] = {
        {.name = "past", .kind = NET_INPUT_SEQUENCE, .dim = DIM, .max_len = LENGTH, .sides = NET_USER},
        {.name = "item", .kind = NET_INPUT_ID, .dim = DIM, .sides = NET_ITEM},
        {.name = "wide", .kind = NET_INPUT_ID, .dim = DIM + 1, .sides = NET_ITEM}};
    char names[1][NET_NAME];
    snprintf(names[0], NET_NAME, "%s", of);
    struct net_block block = {.name = "block", .n_of = 1, .of = names, .side = side};
    snprintf(block.kind, NET_NAME, "%s", kind);
    for (uint32_t i = 0; options[i].name != NULL; i++)
        block.options[i] = options[i];
    const struct net_head head = {.name = "y", .of = "block", .loss = "logloss", .weight = 1};
    const struct net_spec spec = {.n_inputs = 3,
                                  .n_blocks = 1,
                                  .n_heads = 1,
                                  .inputs = inputs,
                                  .blocks = &block,
                                  .heads = &head,
                                  .batch = BATCH};
    return net_new(&spec, ret_net, NULL, err);
}

// ---- soft search ------------------------------------------------------------------------------------------

struct found {
    struct net *net;
    struct layer *layer;
    float *params;
    uint32_t offsets[BATCH + 1];
};

// Every entry's numbers are of -levels..levels, so that many products are equal.
static void found_init(struct found *f, uint32_t k, uint32_t levels, struct rng *rng)
{
    const struct layer_value options[] = {{"candidate", .text = "item"},
                                          {"k", .number = k},
                                          {"heads", .number = 2},
                                          {"width", .number = 4},
                                          {0}};
    struct err err;
    *f = (struct found){0};
    cr_assert_eq(net_of("sim", "past", 0, options, &f->net, &err), 0, "%s", err.message);
    f->layer = &f->net->layers[f->net->n_layers - 1]; // before it the sequence is expanded
    f->params = mem_array(net_param_floats(f->net), sizeof *f->params);
    net_init(f->net, 7, f->params);
    for (uint32_t i = 0; i < BATCH; i++)
        f->offsets[i + 1] = f->offsets[i] + (uint32_t)rng_below(rng, LENGTH + 1);
    for (uint32_t i = 0; i < 2; i++) {
        struct value *v = f->layer->in[i];
        v->rows = i == 0 ? f->offsets[BATCH] : BATCH;
        v->offsets = i == 0 ? f->offsets : NULL;
        for (uint32_t at = 0; at < v->rows * DIM; at++)
            v->x[at / DIM * v->stride + at % DIM] = (float)rng_below(rng, 2 * levels + 1) - (float)levels;
    }
    f->layer->out->rows = BATCH;
}

static float product_of(const struct found *f, uint32_t sample, uint32_t entry)
{
    const struct value *k = f->layer->in[0], *q = f->layer->in[1];
    float sum = 0;
    for (uint32_t d = 0; d < DIM; d++)
        sum += k->x[entry * k->stride + d] * q->x[sample * q->stride + d];
    return sum;
}

// Fewer than k stand before it: those of a greater product, and the earlier of an equal one.
static bool is_near(const struct found *f, uint32_t sample, uint32_t entry, uint32_t k)
{
    uint32_t before = 0;
    for (uint32_t other = f->offsets[sample]; other < f->offsets[sample + 1]; other++) {
        const float x = product_of(f, sample, other), own = product_of(f, sample, entry);
        before += x > own || (other < entry && !(x < own));
    }
    return before < k;
}

static void step(const struct found *f)
{
    const struct layer *l = f->layer;
    const struct layer_context c = {.n = BATCH, .params = f->params, .scratch = l->scratch};
    plan_backward(f->net, false);
    l->kind->forward(l, &c);
    for (uint32_t i = 0; i < l->n_in; i++)
        l->beta[i] = 0;
    for (uint32_t i = 0; i < BATCH * DIM; i++)
        l->out->dx[i / DIM * l->out->stride + i % DIM] = 1 + (float)(i % 3);
    l->kind->backward(l, &c);
}

Test(attention, soft_search_finds_the_nearest, .init = gemm_setup)
{
    struct rng rng = rng_of(11);
    const uint32_t ks[] = {1, 2, 7, 50, 299, 300, 8192};
    for (uint32_t i = 0; i < sizeof ks / sizeof *ks; i++)
        for (uint32_t levels = 1; levels <= 100; levels *= 10) {
            struct found f;
            found_init(&f, ks[i], levels, &rng);
            step(&f);
            const struct value *in = f.layer->in[0];
            for (uint32_t s = 0; s < BATCH; s++)
                for (uint32_t j = f.offsets[s]; j < f.offsets[s + 1]; j++) {
                    bool any = false;
                    for (uint32_t d = 0; d < DIM; d++)
                        any |= in->dx[j * in->stride + d] != 0;
                    const bool is = is_near(&f, s, j, ks[i]);
                    // A weight may round to nothing.
                    cr_assert(is || !any, "k %u, levels %u: entry %u has a gradient", ks[i], levels, j);
                    cr_assert(!is || any || levels > 1, "k %u: entry %u has none", ks[i], j);
                }
            net_free(f.net);
            free(f.params);
        }
}

// ---- refusals ---------------------------------------------------------------------------------------------

struct mistake {
    const char *kind, *of;
    struct layer_value options[6];
    uint32_t side;
    const char *message;
};

static const struct mistake mistakes[] = {
    {"din", "past", {{"din", .dims = {4}}, {0}}, 0, "block \"block\": din needs \"candidate\""},
    {"din",
     "item",
     {{"din", .dims = {4}}, {"candidate", .text = "item"}, {0}},
     0,
     "block \"block\": din takes a sequence, and \"item\" is none"},
    {"din",
     "past",
     {{"din", .dims = {4}}, {"candidate", .text = "past"}, {0}},
     0,
     "block \"block\": the candidate \"past\" is a sequence: pool it with mean first"},
    {"din",
     "past",
     {{"din", .dims = {4}}, {"candidate", .text = "wide"}, {0}},
     0,
     "block \"block\": the candidate is 5 wide, but an entry 4: name in `of`, in the same order, the "
     "sequences of "
     "what the candidate is made of"},
    {"din",
     "past",
     {{"din", .dims = {8, 8, 8, 8, 8, 8, 8, 8}}, {"candidate", .text = "item"}, {0}},
     0,
     "block \"block\": din takes 7 hidden layers at most"},
    {"sim",
     "past",
     {{"candidate", .text = "item"}, {"heads", .number = 3}, {0}},
     0,
     "block \"block\": width is 64, which is no multiple of 3 heads"},
    {"sim",
     "past",
     {{"candidate", .text = "item"}, {"units", .dims = {3}}, {0}},
     0,
     "block \"block\": \"units\" goes with attention: din"},
    {"sim",
     "past",
     {{"candidate", .text = "item"}, {"attention", .text = "din"}, {"heads", .number = 2}, {0}},
     0,
     "block \"block\": \"heads\" goes with attention: multihead"},
    {"sim",
     "past",
     {{"candidate", .text = "item"}, {"search", .text = "none"}, {"k", .number = 2}, {0}},
     0,
     "block \"block\": \"k\" goes with search: soft"},
};

Test(attention, refusals)
{
    for (uint32_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        const struct mistake *m = &mistakes[i];
        struct net *net;
        struct err err;
        cr_assert_eq(net_of(m->kind, m->of, m->side, m->options, &net, &err), -1, "%u", i);
        cr_assert_str_eq(err.message, m->message);
    }
}

Test(attention, has_no_place_in_a_tower)
{
    const struct layer_value din[] = {{"din", .dims = {4}}, {"candidate", .text = "item"}, {0}};
    const struct layer_value sim[] = {{"candidate", .text = "item"}, {0}};
    struct net *net;
    struct err err;
    cr_assert_eq(net_of("din", "past", NET_USER, din, &net, &err), -1);
    cr_assert_not_null(strstr(err.message, "it weighs the user's entries by the candidate"), "%s",
                       err.message);
    cr_assert_eq(net_of("sim", "past", NET_USER, sim, &net, &err), -1);
    cr_assert_not_null(strstr(err.message, "it searches the user's entries for the candidate"), "%s",
                       err.message);
}
