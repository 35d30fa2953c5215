// SPDX-License-Identifier: Apache-2.0
// What is of the request is computed once: a batch in requests against the same batch sample by sample, for every kind
// that may stand on one side or read both: predictions, loss, and the gradients of ids and parameters. And parts of a
// net: heads alone, and blocks that are given instead of computed.
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/gemm.h"
#include "models/net.h"
#include "models/plan.h"

TestSuite(requests, .init = gemm_setup);

enum { BATCH = 40, MAX_LEN = 5, ROWS = 50, DIM = 8, TABLES = 2, MAX_REQUEST = 6 };
enum { USER, ITEM, CLICKS, AGES, TAGS, HOUR, CTR, MATCH, N_INPUTS };

static const struct net_input inputs[N_INPUTS] = {
    {"user", NET_INPUT_ID, 0, DIM, 0, NET_USER, ""},
    {"item", NET_INPUT_ID, 1, DIM, 0, NET_ITEM, ""},
    {"clicks", NET_INPUT_SEQUENCE, 1, DIM, MAX_LEN, NET_USER, ""},
    {"ages", NET_INPUT_SEQUENCE, 0, DIM, MAX_LEN, NET_USER, "clicks"},
    {"tags", NET_INPUT_SEQUENCE, 0, DIM, MAX_LEN, NET_ITEM, ""},
    {"hour", NET_INPUT_NUMBER, 0, 1, 0, NET_CONTEXT, ""},
    {"ctr", NET_INPUT_NUMBER, 0, 1, 0, NET_ITEM, ""},
    {"match", NET_INPUT_NUMBER, 0, 1, 0, NET_CROSS, ""},
};

// ---- nets -------------------------------------------------------------------------------------------------

struct blueprint {
    const char *what;
    struct {
        const char *name, *kind, *of;
        uint32_t side;
        struct layer_value options[4];
    } blocks[8];
    struct {
        const char *name, *of, *through;
    } heads[3];
};

#define WIDTHS(kind, ...)                     \
    {                                         \
        .name = kind, .dims = { __VA_ARGS__ } \
    }
#define COUNT(key, n)            \
    {                            \
        .name = key, .number = n \
    }
#define TEXT(key, word)           \
    {                             \
        .name = key, .text = word \
    }

static const struct blueprint blueprints[] = {
    {"an mlp that reads all",
     {{"pooled", "mean", "clicks", 0, {{0}}},
      {"kinds", "mean", "tags", 0, {{0}}},
      {"top", "mlp", "user item hour ctr pooled match kinds", 0, {WIDTHS("mlp", 12, 7)}}},
     {{"click", "top", ""}, {"like", "top", "click"}}},
    {"three towers and a cross",
     {{"pooled", "mean", "clicks", 0, {{0}}},
      {"user_tower", "mlp", "user pooled hour", NET_USER, {WIDTHS("mlp", 16, 8)}},
      {"item_tower", "mlp", "item ctr", NET_ITEM, {WIDTHS("mlp", 8, 8)}},
      {"pair_tower", "mlp", "match", 0, {WIDTHS("mlp", 3)}},
      {"joined", "dcn_v2", "user_tower item_tower pair_tower", 0, {COUNT("dcn_v2", 2)}},
      {"top", "mlp", "joined", 0, {WIDTHS("mlp", 6)}}},
     {{"click", "top", ""}, {"both", "joined", ""}}},
    {"a concat that two read, experts and gates",
     {{"pooled", "mean", "clicks", 0, {{0}}},
      {"read", "concat", "user item hour pooled", 0, {{0}}},
      {"experts", "experts", "read", 0, {WIDTHS("experts", 9, 5), COUNT("count", 3)}},
      {"mixed", "mmoe", "experts", 0, {TEXT("by", "read")}},
      {"own", "mlp", "read match", 0, {WIDTHS("mlp", 4)}}},
     {{"click", "mixed", ""}, {"like", "own", ""}}},
    {"attention over sequences of the request",
     {{"interest",
       "din",
       "clicks",
       0,
       {WIDTHS("din", 6, 4), TEXT("candidate", "item"), TEXT("activation", "prelu")}},
      {"entries", "concat", "clicks ages", 0, {{0}}},
      {"pooled", "mean", "entries", 0, {{0}}},
      {"top", "mlp", "interest pooled user", 0, {WIDTHS("mlp", 9)}}},
     {{"click", "top", ""}, {"of_user", "pooled", ""}}},
    {"fields of both, and experts of the request",
     {{"weighed", "senet", "user item", 0, {{0}}},
      {"pairs", "bilinear", "weighed user", 0, {TEXT("bilinear", "all")}},
      {"experts", "experts", "user hour", NET_USER, {WIDTHS("experts", 4), COUNT("count", 2)}},
      {"gated", "mmoe", "experts", 0, {TEXT("by", "ctr")}},
      {"ppnet", "lhuc", "item ctr match", 0, {WIDTHS("lhuc", 6), TEXT("by", "user"), COUNT("hidden", 4)}},
      {"norm", "l2norm", "ppnet", 0, {{0}}}},
     {{"click", "pairs", ""}, {"like", "gated", ""}, {"share", "norm", ""}}},
    {"towers that draw, or keep statistics",
     {{"draws", "mlp", "user hour", NET_USER, {WIDTHS("mlp", 8), TEXT("norm", "batch")}},
      {"dice", "mlp", "user", 0, {WIDTHS("mlp", 5), TEXT("activation", "dice")}},
      {"top", "mlp", "draws dice item", 0, {WIDTHS("mlp", 7)}}},
     {{"click", "top", ""}, {"of_user", "draws", ""}}},
};
enum { N_BLUEPRINTS = sizeof blueprints / sizeof *blueprints };

static void block_write(const struct blueprint *b, uint32_t i, struct net_block *to, char (*of)[NET_NAME])
{
    *to = (struct net_block){.side = b->blocks[i].side, .of = of};
    snprintf(to->name, NET_NAME, "%s", b->blocks[i].name);
    snprintf(to->kind, NET_NAME, "%s", b->blocks[i].kind);
    memcpy(to->options, b->blocks[i].options, sizeof b->blocks[i].options);
    int used = 0;
    for (const char *s = b->blocks[i].of; sscanf(s, "%63s%n", of[to->n_of], &used) == 1; s += used)
        to->n_of++;
}

static struct net *net_of(const struct blueprint *b, bool predicts)
{
    struct net_block blocks[8];
    struct net_head heads[3] = {0};
    static char of[8][N_INPUTS + 1][NET_NAME];
    struct net_spec spec = {.n_inputs = N_INPUTS, .inputs = inputs, .blocks = blocks, .heads = heads};
    spec.batch = BATCH;
    spec.predicts = predicts;
    while (spec.n_blocks < 8 && b->blocks[spec.n_blocks].name != NULL) {
        block_write(b, spec.n_blocks, &blocks[spec.n_blocks], of[spec.n_blocks]);
        spec.n_blocks++;
    }
    for (; spec.n_heads < 3 && b->heads[spec.n_heads].name != NULL; spec.n_heads++) {
        struct net_head *h = &heads[spec.n_heads];
        snprintf(h->name, NET_NAME, "%s", b->heads[spec.n_heads].name);
        snprintf(h->of, NET_NAME, "%s", b->heads[spec.n_heads].of);
        snprintf(h->through, NET_NAME, "%s", b->heads[spec.n_heads].through);
        snprintf(h->loss, sizeof h->loss, "logloss");
        h->weight = 1;
    }
    struct net *n;
    struct err err;
    cr_assert_eq(net_new(&spec, &n, NULL, &err), 0, "%s: %s", b->what, err.message);
    return n;
}

// ---- batches ----------------------------------------------------------------------------------------------

struct columns {
    uint32_t slots[N_INPUTS][BATCH * MAX_LEN], offsets[N_INPUTS][BATCH + 1];
    float numbers[N_INPUTS][BATCH];
    const uint32_t *slot_ptrs[N_INPUTS], *offset_ptrs[N_INPUTS];
    const float *number_ptrs[N_INPUTS];
};

struct pair { // the same samples, in requests and one by one
    float vectors[TABLES][ROWS * DIM];
    struct net_rows tables[TABLES];
    uint32_t requests[BATCH + 1], request_of[BATCH], n_requests;
    float labels[3][BATCH], weights[3][BATCH];
    const float *label_ptrs[3], *weight_ptrs[3];
    struct columns grouped, single;
    struct net_batch in_requests, by_sample;
};

static bool of_request(uint32_t input)
{
    return (inputs[input].sides & ~(uint32_t)(NET_USER | NET_CONTEXT)) == 0;
}

static void row_random(struct columns *c, uint32_t input, uint32_t row, struct rng *rng)
{
    const bool sequence = inputs[input].kind == NET_INPUT_SEQUENCE;
    uint32_t begin = sequence ? c->offsets[input][row] : row, len = 1;
    if (sequence) {
        len = input == AGES ? c->offsets[CLICKS][row + 1] - c->offsets[CLICKS][row]
                            : (uint32_t)rng_below(rng, MAX_LEN + 1);
        c->offsets[input][row + 1] = begin + len;
    }
    for (uint32_t i = 0; i < len; i++)
        c->slots[input][begin + i] = rng_below(rng, 9) == 0 ? UINT32_MAX : (uint32_t)rng_below(rng, ROWS);
    c->numbers[input][row] = (float)rng_normal(rng);
}

static void row_copy(struct columns *to, uint32_t row, const struct columns *from, uint32_t at,
                     uint32_t input)
{
    uint32_t begin = row, source = at, len = 1;
    if (inputs[input].kind == NET_INPUT_SEQUENCE) {
        begin = to->offsets[input][row];
        source = from->offsets[input][at];
        len = from->offsets[input][at + 1] - source;
        to->offsets[input][row + 1] = begin + len;
    }
    memcpy(to->slots[input] + begin, from->slots[input] + source, len * sizeof(uint32_t));
    to->numbers[input][row] = from->numbers[input][at];
}

static void columns_point(struct columns *c)
{
    for (uint32_t i = 0; i < N_INPUTS; i++) {
        c->slot_ptrs[i] = c->slots[i];
        c->offset_ptrs[i] = inputs[i].kind == NET_INPUT_SEQUENCE ? c->offsets[i] : NULL;
        c->number_ptrs[i] = c->numbers[i];
    }
}

static uint32_t requests_random(struct pair *p, struct rng *rng)
{
    uint32_t n = 0;
    while (n < BATCH - MAX_REQUEST) {
        uint32_t size = 1 + (uint32_t)rng_below(rng, MAX_REQUEST);
        for (uint32_t i = 0; i < size; i++)
            p->request_of[n + i] = p->n_requests;
        n += size;
        p->requests[++p->n_requests] = n;
    }
    return n;
}

static struct pair *pair_new(uint64_t seed)
{
    struct pair *p = mem_zalloc(sizeof *p);
    struct rng rng = rng_of(seed);
    for (uint32_t t = 0; t < TABLES; t++) {
        for (uint32_t i = 0; i < ROWS * DIM; i++)
            p->vectors[t][i] = (float)rng_normal(&rng);
        p->tables[t] = (struct net_rows){p->vectors[t], DIM};
    }
    const uint32_t n = requests_random(p, &rng);
    for (uint32_t i = 0; i < N_INPUTS; i++) {
        for (uint32_t r = 0; r < (of_request(i) ? p->n_requests : n); r++)
            row_random(&p->grouped, i, r, &rng);
        for (uint32_t s = 0; s < n; s++)
            row_copy(&p->single, s, &p->grouped, of_request(i) ? p->request_of[s] : s, i);
    }
    for (uint32_t h = 0; h < 3; h++) {
        for (uint32_t s = 0; s < n; s++) {
            p->labels[h][s] = (float)rng_below(&rng, 2);
            p->weights[h][s] = (float)rng_uniform(&rng);
        }
        p->label_ptrs[h] = p->labels[h];
        p->weight_ptrs[h] = p->weights[h];
    }
    columns_point(&p->grouped);
    columns_point(&p->single);
    p->by_sample =
        (struct net_batch){.n = n, .tables = p->tables, .labels = p->label_ptrs, .weights = p->weight_ptrs};
    p->in_requests = p->by_sample;
    p->by_sample.slots = p->single.slot_ptrs;
    p->by_sample.offsets = p->single.offset_ptrs;
    p->by_sample.numbers = p->single.number_ptrs;
    p->in_requests.slots = p->grouped.slot_ptrs;
    p->in_requests.offsets = p->grouped.offset_ptrs;
    p->in_requests.numbers = p->grouped.number_ptrs;
    p->in_requests.n_requests = p->n_requests;
    p->in_requests.requests = p->requests;
    return p;
}

// ---- what a pass gives ------------------------------------------------------------------------------------

struct pass {
    float p[3][BATCH];
    double loss;
    float rows[TABLES][(ROWS + 1) * DIM]; // gradients by row
    float *dparams;
};

static float *params_of(const struct net *n)
{
    float *params = mem_array(net_param_floats(n) + 1, sizeof *params);
    net_init(n, 5, params);
    return params;
}

static void gradients_add(const struct net *n, const struct net_batch *b, struct pass *to)
{
    for (uint32_t i = 0; i < N_INPUTS; i++) {
        if (inputs[i].kind == NET_INPUT_NUMBER)
            continue;
        const uint32_t rows = b->requests != NULL && net_input_shared(n, i) ? b->n_requests : b->n;
        const float *g = net_gradient(n, i);
        for (uint32_t k = 0; k < (b->offsets[i] != NULL ? b->offsets[i][rows] : rows); k++)
            for (uint32_t j = 0; j < DIM; j++) {
                const uint32_t slot = b->slots[i][k] == UINT32_MAX ? ROWS : b->slots[i][k];
                to->rows[inputs[i].table][slot * DIM + j] += n->values[i].live ? g[k * DIM + j] : 0;
            }
    }
    memset(to->rows[0] + ROWS * DIM, 0, DIM * sizeof(float));
    memset(to->rows[1] + ROWS * DIM, 0, DIM * sizeof(float));
}

static struct pass *pass_run(struct net *n, const struct net_batch *batch, bool dense)
{
    struct pass *pass = mem_zalloc(sizeof *pass);
    float *params = params_of(n), *ret_p[3] = {pass->p[0], pass->p[1], pass->p[2]};
    struct net_batch b = *batch;
    b.training = true;
    b.dense = dense;
    pass->dparams = mem_array(net_param_floats(n) + 1, sizeof(float));
    net_forward(n, params, &b, ret_p);
    pass->loss = net_loss(n, &b);
    net_backward(n, params, &b, dense ? pass->dparams : NULL);
    gradients_add(n, &b, pass);
    free(params);
    return pass;
}

static void pass_free(struct pass *p)
{
    free(p->dparams);
    free(p);
}

static void close(const char *what, const char *part, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        cr_assert_lt(fabsf(a[i] - b[i]), 2e-5f * (1 + fabsf(a[i])), "%s: %s %zu: %.9g, %.9g", what, part, i,
                     (double)a[i], (double)b[i]);
}

static void same(const struct blueprint *b, const struct net *n, const struct pass *one,
                 const struct pass *two)
{
    cr_assert_float_eq(one->loss, two->loss, 1e-4, "%s: %g, %g", b->what, one->loss, two->loss);
    for (uint32_t h = 0; h < n->spec.n_heads; h++)
        close(b->what, "prediction", one->p[h], two->p[h], BATCH);
    for (uint32_t t = 0; t < TABLES; t++)
        close(b->what, "row", one->rows[t], two->rows[t], ROWS * DIM);
    close(b->what, "parameter", one->dparams, two->dparams, net_param_floats(n));
}

// ---- tests ------------------------------------------------------------------------------------------------

Test(requests, a_batch_in_requests_is_the_same_as_one_by_one)
{
    for (uint32_t i = 0; i < N_BLUEPRINTS; i++)
        for (uint32_t k = 0; k < 6; k++) {
            struct net *n = net_of(&blueprints[i], false);
            struct pair *p = pair_new(100 + k);
            struct pass *one = pass_run(n, &p->by_sample, k % 2 == 0);
            struct pass *two = pass_run(n, &p->in_requests, k % 2 == 0);
            struct pass *again = pass_run(n, &p->in_requests, k % 2 == 0);
            same(&blueprints[i], n, one, two);
            cr_assert_eq(memcmp(two->p, again->p, sizeof two->p), 0);
            cr_assert_eq(memcmp(two->rows, again->rows, sizeof two->rows), 0);
            pass_free(one);
            pass_free(two);
            pass_free(again);
            net_free(n);
            free(p);
        }
}

// The same net with sides of nobody: nothing is shared, no product is taken apart.
Test(requests, sharing_changes_no_number_of_the_net)
{
    for (uint32_t i = 0; i < N_BLUEPRINTS; i++) {
        struct net *n = net_of(&blueprints[i], true), *plain = net_of(&blueprints[i], true);
        struct pair *p = pair_new(7);
        float *params = params_of(n), a[3][BATCH] = {{0}}, b[3][BATCH] = {{0}};
        float *ret_a[3] = {a[0], a[1], a[2]}, *ret_b[3] = {b[0], b[1], b[2]};
        net_forward(n, params, &p->in_requests, ret_a);
        net_forward(plain, params, &p->by_sample, ret_b);
        for (uint32_t h = 0; h < n->spec.n_heads; h++)
            close(blueprints[i].what, "prediction", a[h], b[h], BATCH);
        for (uint32_t l = 0; l < plain->n_layers; l++) { // each layer's twin, over what the others left
            const struct layer *layer = &plain->layers[l];
            if (!layer->out->live)
                continue;
            struct layer_context c = {.n = p->by_sample.n,
                                      .n_requests = p->by_sample.n,
                                      .params = params + layer->params,
                                      .scratch = layer->scratch};
            layer->kind->forward_naive(layer, &c);
        }
        for (uint32_t h = 0; h < n->spec.n_heads; h++)
            for (uint32_t s = 0; s < p->by_sample.n && plain->heads[h].through < 0; s++) {
                const struct head *head = &plain->heads[h];
                double z = (double)params[head->bias];
                for (uint32_t j = 0; j < head->of->dim; j++)
                    z += (double)params[head->weight + j] * (double)head->of->x[s * head->of->stride + j];
                cr_assert_float_eq(1 / (1 + exp(-z)), (double)a[h][s], 1e-5, "%s", blueprints[i].what);
            }
        free(params);
        free(p);
        net_free(n);
        net_free(plain);
    }
}

Test(requests, gradients_of_requests_are_those_of_the_loss)
{
    for (uint32_t i = 0; i < N_BLUEPRINTS - 1; i++) { // the last keeps statistics
        struct net *n = net_of(&blueprints[i], false);
        struct pair *p = pair_new(31);
        struct pass *pass = pass_run(n, &p->in_requests, true);
        struct rng rng = rng_of(3);
        float *params = params_of(n), trash[3][BATCH], *ret_p[3] = {trash[0], trash[1], trash[2]};
        for (uint32_t k = 0; k < 40; k++) {
            const bool row = k % 2 == 0;
            const size_t at = rng_below(&rng, row ? ROWS * DIM : net_param_floats(n));
            float *x = row ? &p->vectors[k % 4 / 2][at] : &params[at];
            const float was = *x, h = 4e-3f;
            double loss[2];
            for (int side = 0; side < 2; side++) {
                *x = was + (side == 0 ? -h : h);
                net_forward(n, params, &p->in_requests, ret_p);
                loss[side] = net_loss(n, &p->in_requests);
            }
            *x = was;
            const double slope = (loss[1] - loss[0]) / (2.0 * (double)h);
            const double g = (double)(row ? pass->rows[k % 4 / 2][at] : pass->dparams[at]);
            cr_assert_lt(fabs(slope - g), 2e-2 * (1 + fabs(g)), "%s: %s %zu: %g, %g", blueprints[i].what,
                         row ? "row" : "parameter", at, slope, g);
        }
        free(params);
        free(p);
        pass_free(pass);
        net_free(n);
    }
}

Test(requests, a_request_of_each_sample_is_no_request_at_all)
{
    for (uint32_t i = 0; i < N_BLUEPRINTS; i++) {
        struct net *n = net_of(&blueprints[i], false);
        struct pair *p = pair_new(11);
        uint32_t each[BATCH + 1];
        for (uint32_t s = 0; s <= p->by_sample.n; s++)
            each[s] = s;
        struct net_batch b = p->by_sample;
        b.requests = each;
        b.n_requests = b.n;
        struct pass *one = pass_run(n, &p->by_sample, true), *two = pass_run(n, &b, true);
        same(&blueprints[i], n, one, two);
        pass_free(one);
        pass_free(two);
        net_free(n);
        free(p);
    }
}

// ---- parts of a net ---------------------------------------------------------------------------------------

Test(requests, heads_alone_say_what_they_say_together)
{
    for (uint32_t i = 0; i < N_BLUEPRINTS; i++) {
        struct net *n = net_of(&blueprints[i], true);
        struct pair *p = pair_new(17);
        float *params = params_of(n), all[3][BATCH], own[3][BATCH];
        float *ret_all[3] = {all[0], all[1], all[2]}, *ret_own[3] = {own[0], own[1], own[2]};
        net_forward(n, params, &p->in_requests, ret_all);
        for (uint32_t h = 0; h < n->spec.n_heads; h++) {
            bool heads[3] = {false};
            heads[h] = true;
            net_select(n, heads, NULL, NULL);
            net_forward(n, params, &p->in_requests, ret_own);
            cr_assert_eq(memcmp(own[h], all[h], p->in_requests.n * sizeof(float)), 0, "%s",
                         blueprints[i].what);
        }
        free(params);
        free(p);
        net_free(n);
    }
}

Test(requests, a_given_tower_is_as_good_as_a_computed_one)
{
    struct net *n = net_of(&blueprints[1], true);
    struct pair *p = pair_new(23);
    const bool none[3] = {false}, tower[8] = {false, false, true};
    float *params = params_of(n), all[3][BATCH], own[3][BATCH], rows[BATCH * DIM];
    float *ret_all[3] = {all[0], all[1], all[2]}, *ret_own[3] = {own[0], own[1], own[2]};
    net_forward(n, params, &p->in_requests, ret_all);

    net_select(n, none, tower, NULL);
    cr_assert(net_input_needed(n, ITEM) && net_input_needed(n, CTR));
    cr_assert(!net_input_needed(n, USER) && !net_input_needed(n, CLICKS) && !net_input_needed(n, MATCH));
    net_forward(n, params, &p->in_requests, ret_own);
    uint32_t dim;
    size_t stride;
    const float *x = net_block_rows(n, 2, &dim, &stride);
    cr_assert_eq(dim, DIM);
    for (uint32_t s = 0; s < p->in_requests.n; s++)
        memcpy(rows + s * DIM, x + s * stride, DIM * sizeof(float));

    net_select(n, NULL, NULL, tower);
    cr_assert(!net_input_needed(n, ITEM) && !net_input_needed(n, CTR) && net_input_needed(n, USER));
    const float *given[8] = {NULL, NULL, rows};
    struct net_batch b = p->in_requests;
    b.given = given;
    memset(p->grouped.slots[ITEM], 0xff, sizeof p->grouped.slots[ITEM]); // nobody may look
    net_forward(n, params, &b, ret_own);
    for (uint32_t h = 0; h < 2; h++)
        cr_assert_eq(memcmp(own[h], all[h], b.n * sizeof(float)), 0);
    free(params);
    free(p);
    net_free(n);
}

// Weights packed whole, and in parts where a request is taken apart: their memory is counted, and within its bound.
Test(requests, packed_weights_are_within_their_bound)
{
    enum packed_kernel kernels[] = {PACKED_BLAS, PACKED_AUTO, PACKED_BF16};
    struct err err = {0};
    for (uint32_t k = 0; k < 3; k++) {
        if (packed_kernel_choose(kernels[k], &kernels[k], &err) != 0)
            continue; // the processor has no bf16
        for (uint32_t i = 0; i < 2 * N_BLUEPRINTS; i++) {
            struct net *n = net_of(&blueprints[i / 2], false);
            struct pair *p = pair_new(17);
            const bool backward = i % 2 == 0;
            float *params = params_of(n), trash[3][BATCH], *ret_p[3] = {trash[0], trash[1], trash[2]};
            net_pack(n, kernels[k], params);
            for (uint32_t turn = 0; turn < 2; turn++) {
                const struct net_batch *b = turn == 0 ? &p->by_sample : &p->in_requests;
                net_forward(n, params, b, ret_p);
                if (backward)
                    net_backward(n, params, b, NULL);
            }
            const uint64_t bytes = net_packed_bytes(n), most = net_packed_most(n, kernels[k], backward);
            cr_assert(bytes <= most, "%s: %llu bytes are packed, %llu were foreseen", blueprints[i / 2].what,
                      (unsigned long long)bytes, (unsigned long long)most);
            cr_assert_eq(bytes > 0, kernels[k] != PACKED_BLAS, "%s", blueprints[i / 2].what);
            net_pack(n, kernels[k], params);
            cr_assert_eq(net_packed_bytes(n), packs_bytes_begin(kernels[k]), "packed anew");
            free(params);
            free(p);
            net_free(n);
        }
    }
}
