// SPDX-License-Identifier: Apache-2.0
// Nets as wholes: what net_new refuses and how it says so; two nets against PyTorch's numbers
// (tests/golden/make_net_golden.py); random graphs against their naive twins and finite differences.
#include "tests/unit/golden.h"
#include "tests/unit/net_build.h"

TestSuite(net, .init = gemm_setup);

// ---- what a net says of itself ----------------------------------------------------------------------------

Test(net, parameters_are_named_as_pytorch_names_them)
{
    struct build b;
    build_mlp(&b, 4);
    struct net *net = build_net(&b);
    static const struct net_param expected[] = {
        {"bottom.0.weight", 0, 32, 26, false, 0, true, 0},   {"bottom.0.bias", 832, 32, 1, true, 0, true, 0},
        {"bottom.2.weight", 864, 16, 32, false, 0, true, 0}, {"bottom.2.bias", 1376, 16, 1, true, 0, true, 0},
        {"click.weight", 1392, 1, 16, false, 0, true, 0},    {"click.bias", 1408, 1, 1, true, 0, true, 0},
        {"like.weight", 1409, 1, 16, false, 0, true, 0},     {"like.bias", 1425, 1, 1, true, 0, true, 0},
    };
    cr_assert_eq(net_param_count(net), 8);
    cr_assert_eq(net_param_floats(net), 1426);
    for (uint32_t i = 0; i < 8; i++) {
        const struct net_param *p = net_param(net, i);
        cr_assert_str_eq(p->name, expected[i].name);
        cr_assert(p->offset == expected[i].offset && p->rows == expected[i].rows &&
                  p->cols == expected[i].cols && p->vector == expected[i].vector && p->trainable);
    }
    net_free(net);
}

Test(net, shapes_and_flops)
{
    struct build b;
    build_mlp(&b, 4);
    struct net *net = build_net(&b);
    uint32_t shapes[2][3];
    cr_assert_eq(net_shapes(net, 1, shapes), 2);
    cr_assert_eq(net_shapes(net, 2, shapes), 2);
    cr_assert_arr_eq(shapes, ((uint32_t[]){4, 32, 26, 4, 16, 32}), sizeof shapes);
    const double forward = 2 * (32 * 26 + 16 * 32 + 2 * 16);
    cr_assert_eq(net_flops(net, false, false), forward);
    cr_assert_eq(net_flops(net, false, true), 2 * forward);
    cr_assert_eq(net_flops(net, true, true), 3 * forward);
    cr_assert_gt(net_arena_bytes(net), 4 * (26 + 32 + 16) * sizeof(float));
    net_free(net);
}

Test(net, nodes_are_the_graph)
{
    static const struct {
        const char *name, *kind;
        uint32_t n_in, last, dim, sides;
        size_t params;
    } expected[] = {{"user", "id", 0, 0, 8, NET_USER, 0},
                    {"item", "id", 0, 0, 8, NET_ITEM, 0},
                    {"clicks", "sequence", 0, 0, 8, NET_USER, 0},
                    {"age", "number", 0, 0, 1, NET_CONTEXT, 0},
                    {"ctr", "number", 0, 0, 1, NET_ITEM, 0},
                    {"pooled", "mean", 1, 2, 8, NET_USER, 0},
                    {"bottom", "mlp", 5, 4, 16, NET_USER | NET_ITEM | NET_CONTEXT, 1392},
                    {"click", "head", 1, 6, 1, NET_USER | NET_ITEM | NET_CONTEXT, 17},
                    {"like", "head", 1, 6, 1, NET_USER | NET_ITEM | NET_CONTEXT, 17}};
    struct build b;
    build_sides(&b);
    struct net *net = build_net(&b);
    double forward = 0, dense = 0;
    size_t params = 0;
    cr_assert_eq(net_node_count(net), sizeof expected / sizeof *expected);
    for (uint32_t i = 0; i < net_node_count(net); i++) {
        struct net_node node;
        net_node(net, i, &node);
        cr_assert_str_eq(node.name, expected[i].name);
        cr_assert_str_eq(node.kind, expected[i].kind);
        cr_assert(node.n_in == expected[i].n_in && node.dim == expected[i].dim && node.live, "%u", i);
        cr_assert(node.sides == expected[i].sides && node.params == expected[i].params, "%u", i);
        cr_assert(node.ragged == (i == 2) && node.max_len == (i == 2 ? 6 : 0));
        if (node.n_in > 0)
            cr_assert_eq(net_node_in(net, i, node.n_in - 1), expected[i].last);
        forward += node.flops_forward;
        dense += node.flops_dense;
        params += node.params;
    }
    cr_assert_eq(params, net_param_floats(net));
    cr_assert_eq(forward, net_flops(net, false, false));
    cr_assert_eq(forward + dense, net_flops(net, true, true));
    net_free(net);
}

Test(net, init_is_uniform_and_of_the_seed)
{
    struct build b;
    build_mlp(&b, 4);
    struct net *net = build_net(&b);
    size_t n = net_param_floats(net);
    float *p = params_new(net), *q = params_new(net), most = 0, bias = 0;
    cr_assert_arr_eq(p, q, n * sizeof *p);
    net_init(net, 8, q);
    cr_assert_neq(p[0], q[0]);
    for (uint32_t i = 0; i < 832; i++)
        most = fmaxf(most, fabsf(p[i]));
    for (uint32_t i = 832; i < 864; i++)
        bias = fmaxf(bias, fabsf(p[i]));
    cr_assert(most <= 1 / sqrtf(26) && most > 0.98f / sqrtf(26), "%g", (double)most);
    cr_assert(bias <= 1 / sqrtf(26) && bias > 0.7f / sqrtf(26), "%g", (double)bias);
    net_free(net);
    free(p);
    free(q);
}

Test(net, free_of_nothing)
{
    net_free(NULL);
}

// ---- running ----------------------------------------------------------------------------------------------

Test(net, the_same_bytes_whatever_came_before)
{
    struct build b;
    build_towers(&b, N);
    struct net *net = build_net(&b), *fresh = build_net(&b);
    struct samples s, other;
    samples_init(&s, &b.spec, N, 1);
    samples_init(&other, &b.spec, N - 2, 2);
    float *params = params_new(net), *d1 = mem_array(net_param_floats(net), 4),
          *d2 = mem_array(net_param_floats(net), 4);
    net_forward(net, params, &other.batch, other.ret_p);
    net_backward(net, params, &other.batch, NULL);
    net_forward(net, params, &s.batch, s.ret_p);
    net_backward(net, params, &s.batch, d1);
    float p[N];
    memcpy(p, s.p[0], sizeof p);
    net_forward(fresh, params, &s.batch, s.ret_p);
    net_backward(fresh, params, &s.batch, d2);
    cr_assert_arr_eq(p, s.p[0], sizeof p);
    cr_assert_arr_eq(d1, d2, net_param_floats(net) * sizeof *d1);
    for (uint32_t i = 0; i < 3; i++) {
        size_t rows = i == 2 ? s.offsets[2][N] : N;
        cr_assert_arr_eq(net_gradient(net, i), net_gradient(fresh, i), rows * 8 * sizeof(float));
    }
    net_free(net);
    net_free(fresh);
    free(params);
    free(d1);
    free(d2);
}

Test(net, absent_rows_and_empty_sequences_are_zeros)
{
    struct build b;
    build_init(&b, N);
    add_inputs(&b);
    add_block(&b, "all", "concat", "user pooled", NULL, "");
    add_head(&b, "click", "all", 1);
    struct net *net = build_net(&b);
    struct samples s;
    samples_init(&s, &b.spec, 2, 3);
    memset(s.lengths, 0, sizeof s.lengths);
    s.ids[0][0] = s.ids[0][1] = UINT32_MAX;
    float *params = params_new(net);
    net_forward(net, params, &s.batch, s.ret_p);
    const float bias = params[16], expected = 1 / (1 + expf(-bias));
    cr_assert(s.p[0][0] == expected && s.p[0][1] == expected);
    net_free(net);
    free(params);
}

Test(net, a_batch_of_nothing)
{
    struct build b;
    build_towers(&b, N);
    struct net *net = build_net(&b);
    struct samples s;
    samples_init(&s, &b.spec, 0, 3);
    float *params = params_new(net), *dparams = mem_array(net_param_floats(net), sizeof *dparams);
    net_forward(net, params, &s.batch, s.ret_p);
    net_backward(net, params, &s.batch, dparams);
    for (size_t i = 0; i < net_param_floats(net); i++)
        cr_assert_eq(dparams[i], 0);
    net_free(net);
    free(params);
    free(dparams);
}

// p as it is written and as it is used in the gradient, far out on both sides.
Test(net, extreme_logits_stay_finite)
{
    struct build b;
    build_init(&b, N);
    add_input(&b, "x", NET_INPUT_NUMBER, 0, 1);
    add_input(&b, "id", NET_INPUT_ID, 0, 8);
    add_block(&b, "both", "concat", "x id", NULL, "");
    add_head(&b, "click", "both", 1);
    struct net *net = build_net(&b);
    struct samples s;
    samples_init(&s, &b.spec, 4, 4);
    float params[10] = {1};
    const float x[4] = {1000, -1000, 1000, -1000}, y[4] = {0, 1, 1, 0};
    memcpy(s.values[0], x, sizeof x);
    memcpy(s.targets[0], y, sizeof y);
    s.batch.weights = NULL;
    cr_assert(fabs(loss_of(net, params, &s) - 2000) < 1e-3);
    cr_assert(s.p[0][0] == 1 && s.p[0][1] == 0);
    params[1] = 1;
    net_backward(net, params, &s.batch, NULL);
    const float *g = net_gradient(net, 1);
    cr_assert(g[0] == 1 && g[8] == -1 && g[16] == 0 && g[24] == 0);
    net_free(net);
}

Test(net, unused_parts_are_never_computed)
{
    struct build b;
    build_init(&b, N);
    add_inputs(&b);
    add_block(&b, "unused", "mlp", "user item", DIMS(4), "");
    add_block(&b, "used", "mlp", "item age", DIMS(4), "");
    add_head(&b, "click", "used", 1);
    struct net *net = build_net(&b);
    struct samples s;
    samples_init(&s, &b.spec, N, 5);
    float *params = params_new(net), *dparams = mem_array(net_param_floats(net), sizeof *dparams);
    net_forward(net, params, &s.batch, s.ret_p);
    net_backward(net, params, &s.batch, dparams);
    for (uint32_t i = 0; i < 4 * 16 + 4; i++)
        cr_assert_eq(dparams[i], 0);
    cr_assert_neq(dparams[4 * 16 + 4 + 4 * 9], 0);
    for (uint32_t i = 0; i < N * 8; i++)
        cr_assert_eq(net_gradient(net, 0)[i], 0);
    net_free(net);
    free(params);
    free(dparams);
}

// What lies before a stop alone has no gradient; what else uses it has its own.
Test(net, nothing_goes_back_through_a_stop)
{
    struct build b;
    build_init(&b, N);
    add_inputs(&b);
    add_block(&b, "gate", "stop", "user item", NULL, "");
    add_block(&b, "top", "mlp", "gate item pooled", DIMS(5), "");
    add_head(&b, "click", "top", 1);
    struct net *net = build_net(&b);
    struct samples s;
    samples_init(&s, &b.spec, N, 8);
    float *params = params_new(net), *dparams = mem_array(net_param_floats(net), sizeof *dparams);
    net_forward(net, params, &s.batch, s.ret_p);
    for (uint32_t frozen = 0; frozen < 2; frozen++) {
        net_backward(net, params, &s.batch, frozen ? NULL : dparams);
        for (uint32_t i = 0; i < N * DIM; i++)
            cr_assert_eq(net_gradient(net, 0)[i], 0);
        cr_assert_neq(net_gradient(net, 1)[0], 0);
    }
    for (uint32_t i = 0; i < N; i++) // as if the gate were numbers
        for (uint32_t d = 0; d < DIM; d++) {
            double sum = 0;
            const struct value *top = net->block_values[2];
            for (uint32_t j = 0; j < top->dim; j++)
                sum += (double)params[j * 32 + 16 + d] * (double)top->dx[i * top->stride + j];
            cr_assert(fabs(sum - (double)net_gradient(net, 1)[i * DIM + d]) < 1e-5);
        }
    net_free(net);
    free(params);
    free(dparams);
}

// A buffer takes what its layer wants added; the rest is Adagrad's.
Test(net, a_step_adds_to_buffers)
{
    struct build b;
    build_mlp(&b, 4);
    struct net *net = build_net(&b);
    const size_t n = net_param_floats(net);
    struct rng rng = rng_of(9);
    float *p = params_new(net), *a = mem_array(n, sizeof *a), *g = mem_array(n, sizeof *g);
    float *p1 = params_new(net), *a1 = mem_array(n, sizeof *a), *g1 = mem_array(n, sizeof *g);
    for (size_t i = 0; i < n; i++) {
        g[i] = (float)rng_normal(&rng);
        g1[i] = g[i] * 0.25f;
    }
    net->params[1].param.trainable = net->params[7].param.trainable = false;
    optimizer_adagrad(n, p1, a1, g1, 0.1f);
    float *before = params_new(net);
    net_step(net, &(struct optimizer){.lr = 0.1f}, &(struct optimizer_at){.step = 1}, 0.25f, p, a, g);
    for (size_t i = 0; i < n; i++) {
        const bool buffer = (i >= 832 && i < 864) || i == n - 1;
        cr_assert(p[i] == (buffer ? before[i] + g[i] : p1[i]) && a[i] == (buffer ? 0 : a1[i]), "%zu", i);
    }
    net_free(net);
    float *all[] = {p, a, g, p1, a1, g1, before};
    for (uint32_t i = 0; i < 7; i++)
        free(all[i]);
}

Test(net, adagrad_by_formula)
{
    enum { LEN = 37 };
    struct rng rng = rng_of(6);
    float p[LEN], a[LEN], g[LEN], p0[LEN], a0[LEN];
    for (uint32_t i = 0; i < LEN; i++) {
        p0[i] = p[i] = (float)rng_normal(&rng);
        a0[i] = a[i] = i == 0 ? 0 : (float)rng_uniform(&rng);
        g[i] = i == 0 ? 0 : (float)rng_normal(&rng);
    }
    optimizer_adagrad(LEN, p, a, g, 0.1f);
    cr_assert(p[0] == p0[0] && a[0] == 0);
    for (uint32_t i = 1; i < LEN; i++) {
        double accum = (double)a0[i] + (double)g[i] * (double)g[i];
        cr_assert(fabs((double)a[i] - accum) < 1e-6 * accum);
        cr_assert(fabs((double)p[i] - ((double)p0[i] - 0.1 * (double)g[i] / (sqrt(accum) + 1e-10))) < 1e-6);
    }
}

// ---- random graphs ----------------------------------------------------------------------------------------

static void add_crossing(struct build *b, const char *name, const char *of, uint32_t n_of, struct rng *rng)
{
    static const char *const wide[] = {"user item", "item pooled user", "user user item", "pooled item"};
    static const char *const types[] = {"interaction", "each", "all"};
    const uint64_t kind = rng_below(rng, 4);
    if (kind == 0) {
        add_block(b, name, "dcn_v2", of, NULL, "");
        add_option(b, (struct layer_value){.name = "dcn_v2", .number = 1});
    } else if (kind == 1 && n_of > 1) {
        add_block(b, name, "senet", of, NULL, "");
    } else if (kind == 2) {
        add_block(b, name, "fm", wide[rng_below(rng, 4)], NULL, "");
        add_option(b, (struct layer_value){.name = "vector", .number = (double)rng_below(rng, 2)});
    } else {
        add_block(b, name, "bilinear", wide[rng_below(rng, 4)], NULL, "");
        add_option(b, (struct layer_value){.name = "bilinear", .text = types[rng_below(rng, 3)]});
        add_option(
            b, (struct layer_value){.name = "output", .text = rng_below(rng, 2) == 0 ? "dot" : "hadamard"});
    }
}

// Any block over any earlier names, the same one twice included; so values lie within concats that lie within
// concats, are copied into others, and have gradients from several sides.
static void build_random(struct build *b, struct rng *rng)
{
    const char *names[MAX_INPUTS + MAX_BLOCKS] = {"user", "item", "age", "pooled"};
    static const char *const fresh[] = {"b0", "b1", "b2", "b3", "b4", "b5"};
    uint32_t known = 4;
    build_init(b, N);
    add_inputs(b);
    uint32_t blocks = 1 + (uint32_t)rng_below(rng, 6);
    for (uint32_t i = 0; i < blocks; i++) {
        char of[256] = "";
        uint32_t n_of = 1 + (uint32_t)rng_below(rng, 4);
        for (uint32_t j = 0; j < n_of; j++)
            snprintf(of + strlen(of), sizeof of - strlen(of), "%s ", names[rng_below(rng, known)]);
        const uint32_t *dims = rng_below(rng, 2) == 0 ? DIMS(5) : DIMS(7, 4);
        const uint64_t kind = rng_below(rng, 9);
        if (kind < 4)
            add_block(b, fresh[i], "concat", of, NULL, "");
        else if (kind == 8)
            add_crossing(b, fresh[i], of, n_of, rng);
        else
            add_block(b, fresh[i], "mlp", of, dims, rng_below(rng, 4) == 0 ? "none" : "relu");
        names[known++] = fresh[i];
    }
    add_head(b, "h0", fresh[blocks - 1], 1);
    add_head(b, "h1", names[rng_below(rng, known)], 0.5f);
    add_head(b, "h2", names[known - 1 - rng_below(rng, 2)], 2);
}

// The net by the naive twins of its layers.
static void forward_naive(const struct net *net, const float *params, float *const *ret_z)
{
    for (uint32_t i = 0; i < net->n_layers; i++) {
        const struct layer *l = &net->layers[i];
        if (!l->out->live)
            continue;
        struct layer_context c = {.n = l->out->rows, .params = params + l->params, .scratch = l->scratch};
        l->kind->forward_naive(l, &c);
    }
    for (uint32_t h = 0; h < net->spec.n_heads; h++) {
        const struct value *of = net->heads[h].of;
        for (uint32_t i = 0; i < of->rows; i++) {
            double z = (double)params[net->heads[h].bias];
            for (uint32_t j = 0; j < of->dim; j++)
                z += (double)of->x[i * of->stride + j] * (double)params[net->heads[h].weight + j];
            ret_z[h][i] = (float)z;
        }
    }
}

Test(net, random_graphs_are_their_twins)
{
    struct rng rng = rng_of(11);
    for (uint32_t turn = 0; turn < 300; turn++) {
        struct build b;
        build_random(&b, &rng);
        struct net *net = build_net(&b);
        struct samples s;
        samples_init(&s, &b.spec, 1 + (uint32_t)rng_below(&rng, N), turn);
        float *params = params_new(net), z[MAX_HEADS][N], *ret_z[MAX_HEADS] = {z[0], z[1], z[2], z[3]};
        net_forward(net, params, &s.batch, s.ret_p);
        forward_naive(net, params, ret_z);
        for (uint32_t h = 0; h < b.spec.n_heads; h++)
            for (uint32_t i = 0; i < s.batch.n; i++)
                cr_assert(fabsf(s.p[h][i] - 1 / (1 + expf(-z[h][i]))) < 1e-5f, "graph %u", turn);
        net_free(net);
        free(params);
    }
}

// As off_by in test_layers.c, of the whole loss.
static double off_by(struct net *net, const float *params, struct samples *s, float *at, double gradient)
{
    const float x = *at;
    const double here = loss_of(net, params, s);
    double least = INFINITY;
    for (float h = 0x1p-5f; h > 0x1p-12f && least > 1e-3; h /= 2) {
        *at = x + h;
        double up = (loss_of(net, params, s) - here) / (double)h;
        *at = x - h;
        double down = (here - loss_of(net, params, s)) / (double)h;
        least = fmin(least, fabs((up + down) / 2 - gradient));
        least = fmin(least, fmin(fabs(up - gradient), fabs(down - gradient)));
    }
    *at = x;
    return least / fmax(1, fabs(gradient));
}

// Gradient of every vector of the two tables: of all inputs, by slot.
static void table_gradients(const struct net *net, const struct samples *s, double ret[2][ROWS * STRIDE])
{
    memset(ret, 0, 2 * sizeof *ret);
    for (uint32_t i = 0; i < 3; i++) {
        const float *g = net_gradient(net, i);
        size_t stride, n = i == 2 ? s->offsets[i][s->batch.n] : s->batch.n;
        const float *rows = net_gradient_rows(net, i, &stride);
        for (size_t j = 0; j < n; j++)
            for (uint32_t d = 0; d < DIM; d++) {
                cr_assert_eq(g[j * DIM + d], rows[j * stride + d]);
                if (s->slots[i][j] != UINT32_MAX)
                    ret[i > 0][s->slots[i][j] * STRIDE + d] += (double)g[j * DIM + d];
            }
    }
}

static void check_gradients(struct net *net, float *params, struct samples *s, uint32_t turn, struct rng *rng)
{
    static double tables[2][ROWS * STRIDE], frozen[2][ROWS * STRIDE];
    float *dparams = mem_array(net_param_floats(net) + 1, sizeof *dparams);
    net_forward(net, params, &s->batch, s->ret_p);
    net_backward(net, params, &s->batch, dparams);
    table_gradients(net, s, tables);
    net_backward(net, params, &s->batch, NULL);
    table_gradients(net, s, frozen);
    cr_assert_arr_eq(tables, frozen, sizeof tables, "graph %u: frozen gradients differ", turn);
    for (uint32_t i = 0; i < 25; i++) {
        size_t at = rng_below(rng, net_param_floats(net));
        double off = off_by(net, params, s, &params[at], (double)dparams[at]);
        cr_assert(off < 2e-3, "graph %u: parameter %zu is off by %g", turn, at, off);
        uint32_t table = i % 2, row = (uint32_t)rng_below(rng, ROWS), d = (uint32_t)rng_below(rng, DIM);
        at = row * STRIDE + d;
        off = off_by(net, params, s, &s->vectors[table][at], tables[table][at]);
        cr_assert(off < 2e-3, "graph %u: table %u at %zu is off by %g", turn, table, at, off);
    }
    free(dparams);
}

// senet's output is the fields that it was given, under their names.
static void build_fibinet(struct build *b, const char *type, const char *output)
{
    build_init(b, N);
    add_inputs(b);
    add_block(b, "weighed", "senet", "user item pooled", NULL, "");
    add_block(b, "pairs", "bilinear", "user item pooled", NULL, "");
    add_option(b, (struct layer_value){.name = "bilinear", .text = type});
    add_block(b, "weighed_pairs", "bilinear", "weighed", NULL, "");
    add_option(b, (struct layer_value){.name = "bilinear", .text = type});
    add_option(b, (struct layer_value){.name = "output", .text = output});
    add_option(b, (struct layer_value){.name = "pairs", .text = "pooled user item pooled user item"});
    add_block(b, "sums", "fm", "weighed user", NULL, "");
    add_block(b, "top", "mlp", "user item pooled pairs weighed_pairs", DIMS(9), "");
    add_block(b, "all", "concat", "top sums", NULL, "");
    add_head(b, "click", "all", 1);
}

Test(net, fields_go_through_senet)
{
    static const char *const types[] = {"interaction", "each", "all"};
    struct rng rng = rng_of(13);
    for (uint32_t turn = 0; turn < 6; turn++) {
        struct build b;
        build_fibinet(&b, types[turn / 2], turn % 2 == 0 ? "dot" : "hadamard");
        struct net *net = build_net(&b);
        cr_assert_eq(net->block_values[2]->dim, 3 * DIM);
        cr_assert_eq(net->block_values[3]->dim, turn % 2 == 0 ? 3 : 3 * DIM);
        struct samples s;
        samples_init(&s, &b.spec, N, turn);
        float *params = params_new(net);
        check_gradients(net, params, &s, turn, &rng);
        net_free(net);
        free(params);
    }
}

Test(net, random_graphs_by_finite_differences)
{
    struct rng rng = rng_of(12);
    for (uint32_t turn = 0; turn < 150; turn++) {
        struct build b;
        build_random(&b, &rng);
        struct net *net = build_net(&b);
        struct samples s;
        samples_init(&s, &b.spec, N, turn);
        float *params = params_new(net);
        check_gradients(net, params, &s, turn, &rng);
        net_free(net);
        free(params);
    }
}

// ---- PyTorch ----------------------------------------------------------------------------------------------

static void near_all(const float *got, const float *want, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        cr_assert(fabsf(got[i] - want[i]) <= 2e-5f * fmaxf(1, fabsf(want[i])),
                  "%s at %zu: %g, PyTorch says %g", what, i, (double)got[i], (double)want[i]);
}

// All parameters of the net, in its order.
static float *golden_params(const struct golden *g, const struct net *net, const char *prefix)
{
    float *params = mem_array(net_param_floats(net), sizeof *params);
    for (uint32_t i = 0; i < net_param_count(net); i++) {
        const struct net_param *p = net_param(net, i);
        memcpy(params + p->offset, golden_get(g, prefix, p->name),
               (size_t)p->rows * p->cols * sizeof *params);
    }
    return params;
}

static void golden_batch(const struct golden *g, struct samples *s)
{
    static const char *const inputs[] = {"user", "item", "clicks", "age", "ctr"};
    for (uint32_t i = 0; i < 3; i++)
        s->slots[i] = golden_get(g, "slots.", inputs[i]);
    s->offsets[2] = golden_get(g, "offsets.", "clicks");
    s->numbers[3] = golden_get(g, "", "age");
    s->numbers[4] = golden_get(g, "", "ctr");
    s->labels[0] = golden_get(g, "", "click");
    s->labels[1] = golden_get(g, "", "like");
    s->weights[0] = golden_get(g, "weights.", "click");
    for (uint32_t t = 0; t < 2; t++)
        s->tables[t] = (struct net_rows){golden_get(g, "table", t == 0 ? "0" : "1"), DIM};
    s->batch = (struct net_batch){.n = 13,
                                  .tables = s->tables,
                                  .slots = s->slots,
                                  .offsets = s->offsets,
                                  .numbers = s->numbers,
                                  .labels = s->labels,
                                  .weights = s->weights};
}

// Then products are taken apart, and what is of the request stands by itself.
static void add_sides(struct build *b)
{
    const uint32_t sides[] = {NET_USER, NET_ITEM, NET_USER, NET_USER, NET_ITEM};
    for (uint32_t i = 0; i < b->spec.n_inputs; i++)
        b->inputs[i].sides = sides[i];
}

static void check_golden(const struct build *b, const char *file)
{
    static const char *const inputs[] = {"user", "item", "clicks"};
    struct golden g;
    golden_read(&g, file);
    struct net *net = build_net(b);
    struct samples s = {0};
    golden_batch(&g, &s);
    float p[2][13], *ret_p[2] = {p[0], p[1]}, *params = golden_params(&g, net, "");
    float *dparams = mem_array(net_param_floats(net), sizeof *dparams);
    net_forward(net, params, &s.batch, ret_p);
    near_all(p[0], golden_get(&g, "p.", "click"), 13, "p of click");
    near_all(p[1], golden_get(&g, "p.", "like"), 13, "p of like");
    cr_assert(fabs(net_loss(net, &s.batch) - (double)*(const float *)golden_get(&g, "", "loss")) < 1e-4);
    for (uint32_t frozen = 0; frozen < 2; frozen++) {
        net_backward(net, params, &s.batch, frozen ? NULL : dparams);
        for (uint32_t i = 0; i < 3; i++)
            near_all(net_gradient(net, i), golden_get(&g, "gradient.", inputs[i]),
                     (i == 2 ? s.offsets[2][13] : 13) * (size_t)DIM, inputs[i]);
    }
    float *gradient = golden_params(&g, net, "gradient."), *after = golden_params(&g, net, "after.");
    near_all(dparams, gradient, net_param_floats(net), "gradient of parameters");
    for (size_t i = 0; i < net_param_floats(net); i++)
        gradient[i] = 0.1f; // the accumulator
    optimizer_adagrad(net_param_floats(net), params, gradient, dparams, 0.05f);
    near_all(params, after, net_param_floats(net), "parameters after a step");
    net_free(net);
    free(params);
    free(dparams);
    free(gradient);
    free(after);
    golden_done(&g);
}

Test(net, an_mlp_is_pytorchs)
{
    struct build b;
    build_mlp(&b, 16);
    check_golden(&b, "net_mlp.bin");
    add_sides(&b);
    check_golden(&b, "net_mlp.bin");
}

Test(net, towers_are_pytorchs)
{
    struct build b;
    build_towers(&b, 13);
    check_golden(&b, "net_towers.bin");
    add_sides(&b);
    check_golden(&b, "net_towers.bin");
}
