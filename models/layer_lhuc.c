// SPDX-License-Identifier: Apache-2.0
// lhuc: fully connected layers, the output of each multiplied by a gate that reads the user: Learning Hidden Unit
// Contributions (Swietojanski et al., SLT 2014), in recommendation PPNet's gates (Chang et al., PEPNet, KDD 2023; as
// FuxiCTR's PPNet). (B, D) becomes (B, last width):
//
//     s_i = sigmoid(V_i relu(U_i g + c_i) + d_i)         U_i (H, G), V_i (D_i, H)
//     y_i = scale s_i o f(norm(W_i y_{i-1} + b_i))       y_{-1} = x; scale 2: the gate begins near 1
//
// g is what `by` names. `detached`: with it what the block reads, x, without a gradient (PPNet's stop-gradient), g =
// [by, x]. `gate_input`: x is gated too, y_{-1} = scale s o x, and then the stack is FuxiCTR's PPNetBlock but for its
// last layer, which is the head here.
//
// Parameters: "<block>.layers.<i>.<j>...", "<block>.gates.<k>.0.weight", "...2.weight" and biases; gate 0 is the
// input's where that is gated. The cost is the products'. Scratch:
//
//     | g (detached), dg | of each gate: f(...) (B, D_i), s_i, y_i | of the FCs | ds | dy even | dy odd |
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "models/fc.h"
#include "models/kernel.h"

static const struct layer_option lhuc_options[] = {
    {"lhuc", LAYER_DIMS, .min = 1, .max = NET_DIM_MAX, .required = true,
     .text = "Widths of fully connected layers, each with a gate after it."},
    {"by", LAYER_INPUT, .required = true, .text = "What the gates read: features of the user."},
    {"hidden", LAYER_COUNT, .min = 0, .max = NET_DIM_MAX,
     .text = "Width of the hidden layer of a gate; 0: that of what it gates."},
    {"scale", LAYER_NUMBER, .min = 1e-3, .max = 100, .fallback = 2,
     .text = "By which a sigmoid is multiplied."},
    {"detached", LAYER_FLAG, .text = "The gates read what the block reads, too, without a gradient."},
    {"gate_input", LAYER_FLAG, .text = "What the block reads is gated, too."},
    {"activation", LAYER_CHOICE, .choices = FC_ACTIVATION_CHOICES, .text = "Of the layers."},
    {"norm", LAYER_CHOICE, .choices = FC_NORM_CHOICES, .text = "Between a product and its activation."},
    {"dropout", LAYER_NUMBER, .min = 0, .max = 0.95, .fallback = 0,
     .text = "Share of the units that is dropped in training, before the gate."},
    {0},
};

// A gate and what it stands behind.
struct stage {
    uint32_t dim;
    struct fc layer; // n 0: the input
    struct fc gate;
    size_t h, s, y; // in the scratch; the input has no h, the last no y
};

struct lhuc {
    uint32_t n, by, width; // stages, the input of the gates, their width
    bool detached;
    float scale;
    struct stage *stages;
    size_t g, dg, ds, dy[2]; // in the scratch; dy turn by turn
};

// ---- shape ------------------------------------------------------------------------------------------------

static size_t take(struct layer *l, size_t floats)
{
    const size_t at = l->scratch_floats;
    l->scratch_floats += (floats + 15) / 16 * 16;
    return at;
}

static void stage_layer(struct layer *l, struct stage *t, uint32_t i, uint32_t in, uint32_t first)
{
    char prefix[20];
    const int activation = layer_choice(l, "activation");
    snprintf(prefix, sizeof prefix, "layers.%u.", i);
    const struct fc_options o = {.prefix = prefix,
                                 .in = in,
                                 .n = 1,
                                 .dims = &t->dim,
                                 .activation = activation,
                                 .last = activation,
                                 .norm = (enum fc_norm)layer_choice(l, "norm"),
                                 .eps = 1e-5,
                                 .momentum = 0.1,
                                 .dropout = layer_number(l, "dropout"),
                                 .first = first};
    t->h = take(l, (size_t)l->out->rows_max * t->dim);
    fc_init(l, l->out->rows_max, &o, &t->layer);
}

static void stage_gate(struct layer *l, const struct lhuc *u, struct stage *t, uint32_t i)
{
    char prefix[20];
    const uint32_t hidden = layer_count(l, "hidden");
    const uint32_t dims[] = {hidden > 0 ? hidden : t->dim, t->dim};
    snprintf(prefix, sizeof prefix, "gates.%u.", i);
    const struct fc_options o = {.prefix = prefix,
                                 .in = u->width,
                                 .n = 2,
                                 .dims = dims,
                                 .activation = ACTIVATION_RELU,
                                 .last = ACTIVATION_SIGMOID,
                                 .bare_last = true};
    t->s = take(l, (size_t)l->out->rows_max * t->dim);
    if (i + 1 < u->n)
        t->y = take(l, (size_t)l->out->rows_max * t->dim);
    fc_init(l, l->out->rows_max, &o, &t->gate);
}

static int lhuc_check(const struct layer *l, struct err *err)
{
    for (uint32_t i = 0; i < l->n_in; i++)
        if (l->in[i]->ragged)
            return layer_fail(l, err, "\"%s\" is a sequence: pool it with mean first", l->in[i]->name);
    return 0;
}

static int lhuc_shape(struct layer *l, struct err *err)
{
    const bool gate_input = layer_flag(l, "gate_input");
    const size_t rows = l->out->rows_max;
    struct lhuc *u = l->own = layer_alloc(l, 1, sizeof *u);
    uint32_t n_dims, n_by, in = l->in[0]->dim, widest = in;
    const uint32_t *dims = layer_dims(l, "lhuc", &n_dims);
    if (lhuc_check(l, err) < 0)
        return -1;
    u->by = layer_inputs(l, "by", &n_by);
    u->detached = layer_flag(l, "detached");
    u->scale = (float)layer_number(l, "scale");
    u->width = l->in[u->by]->dim + (u->detached ? in : 0);
    u->n = n_dims + gate_input;
    u->stages = layer_alloc(l, u->n, sizeof *u->stages);
    u->g = take(l, u->detached ? rows * u->width : 0);
    u->dg = take(l, rows * u->width);
    for (uint32_t i = 0; i < u->n; i++) {
        struct stage *t = &u->stages[i];
        t->dim = gate_input && i == 0 ? in : dims[i - gate_input];
        if (!(gate_input && i == 0))
            stage_layer(l, t, i - gate_input, in, i);
        stage_gate(l, u, t, i);
        in = t->dim;
        widest = t->dim > widest ? t->dim : widest;
    }
    u->ds = take(l, rows * widest);
    u->dy[0] = take(l, rows * widest);
    u->dy[1] = take(l, rows * widest);
    l->out->dim = in;
    l->stochastic = fc_stochastic(&u->stages[u->n - 1].layer);
    return 0;
}

// ---- running ----------------------------------------------------------------------------------------------

struct rows {
    const float *x;
    uint32_t ld;
};

static struct rows gate_rows(const struct layer *l, const struct layer_context *c)
{
    const struct lhuc *u = l->own;
    const struct value *by = l->in[u->by];
    return u->detached ? (struct rows){c->scratch + u->g, u->width} : (struct rows){by->x, by->stride};
}

// What stage i reads.
static struct rows stage_in(const struct layer *l, const struct layer_context *c, uint32_t i)
{
    const struct lhuc *u = l->own;
    return i == 0 ? (struct rows){l->in[0]->x, l->in[0]->stride}
                  : (struct rows){c->scratch + u->stages[i - 1].y, u->stages[i - 1].dim};
}

// What its gate multiplies.
static struct rows stage_gated(const struct layer *l, const struct layer_context *c, uint32_t i)
{
    const struct lhuc *u = l->own;
    const struct stage *t = &u->stages[i];
    return t->layer.n == 0 ? stage_in(l, c, i) : (struct rows){c->scratch + t->h, t->dim};
}

static struct fc_run layer_run(const struct layer *l, const struct layer_context *c, uint32_t i)
{
    const struct lhuc *u = l->own;
    const struct rows from = stage_in(l, c, i);
    const struct stage *t = &u->stages[i];
    return (struct fc_run){.rows = c->n, .x = from.x, .ldx = from.ld, .y = c->scratch + t->h, .ldy = t->dim};
}

static struct fc_run gate_run(const struct layer *l, const struct layer_context *c, uint32_t i)
{
    const struct lhuc *u = l->own;
    const struct rows from = gate_rows(l, c);
    const struct stage *t = &u->stages[i];
    return (struct fc_run){.rows = c->n, .x = from.x, .ldx = from.ld, .y = c->scratch + t->s, .ldy = t->dim};
}

KERNEL static void gate(uint32_t rows, uint32_t dim, float scale, const struct rows *from,
                        const float *restrict s, float *restrict y, uint32_t ldy)
{
    for (size_t i = 0; i < rows; i++) {
        const float *restrict h = from->x + i * from->ld;
        for (uint32_t j = 0; j < dim; j++)
            y[i * ldy + j] = scale * s[i * dim + j] * h[j];
    }
}

static void detached_read(const struct layer *l, const struct layer_context *c)
{
    const struct lhuc *u = l->own;
    const struct value *by = l->in[u->by], *in = l->in[0];
    if (!u->detached)
        return;
    kernel_copy(c->n, by->dim, by->x, by->stride, c->scratch + u->g, u->width);
    kernel_copy(c->n, in->dim, in->x, in->stride, c->scratch + u->g + by->dim, u->width);
}

static void lhuc_forward(const struct layer *l, const struct layer_context *c)
{
    const struct lhuc *u = l->own;
    detached_read(l, c);
    for (uint32_t i = 0; i < u->n; i++) {
        const struct stage *t = &u->stages[i];
        const bool last = i + 1 == u->n;
        const struct fc_run layer = layer_run(l, c, i), gates = gate_run(l, c, i);
        if (t->layer.n > 0)
            fc_forward(l, &t->layer, c, &layer);
        fc_forward(l, &t->gate, c, &gates);
        const struct rows h = stage_gated(l, c, i);
        gate(c->n, t->dim, u->scale, &h, c->scratch + t->s, last ? l->out->x : c->scratch + t->y,
             last ? l->out->stride : t->dim);
    }
}

// ds = scale dy o h; dy becomes the gradient of h, scale dy o s.
KERNEL static void ungate(uint32_t rows, uint32_t dim, float scale, const struct rows *from,
                          const float *restrict s, float *restrict dy, uint32_t lddy, float *restrict ds)
{
    for (size_t i = 0; i < rows; i++) {
        const float *restrict h = from->x + i * from->ld;
        for (uint32_t j = 0; j < dim; j++) {
            const float d = scale * dy[i * lddy + j];
            ds[i * dim + j] = d * h[j];
            dy[i * lddy + j] = d * s[i * dim + j];
        }
    }
}

// The gates' gradients of g are summed, from the last stage to the first.
static void gate_back(const struct layer *l, const struct layer_context *c, uint32_t i)
{
    const struct lhuc *u = l->own;
    struct fc_run run = gate_run(l, c, i);
    if (c->dparams == NULL && !l->in[u->by]->wanted)
        return;
    run.dy = c->scratch + u->ds;
    run.lddy = u->stages[i].dim;
    run.dx = l->in[u->by]->wanted ? c->scratch + u->dg : NULL;
    run.lddx = u->width;
    run.beta = i + 1 == u->n ? 0 : 1;
    fc_backward(l, &u->stages[i].gate, c, &run);
}

static void set_or_add(const struct layer_context *c, const float *from, uint32_t ldf, float beta,
                       const struct value *to)
{
    if (beta != 0)
        kernel_add(c->n, to->dim, from, ldf, to->dx, to->stride);
    else
        kernel_copy(c->n, to->dim, from, ldf, to->dx, to->stride);
}

static void lhuc_backward(const struct layer *l, const struct layer_context *c)
{
    const struct lhuc *u = l->own;
    const struct value *in = l->in[0], *by = l->in[u->by];
    float *dy = l->out->dx;
    uint32_t lddy = l->out->stride;
    for (uint32_t i = u->n; i-- > 0;) {
        const struct stage *t = &u->stages[i];
        const struct rows h = stage_gated(l, c, i);
        ungate(c->n, t->dim, u->scale, &h, c->scratch + t->s, dy, lddy, c->scratch + u->ds);
        gate_back(l, c, i);
        if (t->layer.n == 0)
            continue;
        struct fc_run run = layer_run(l, c, i);
        run.dy = dy;
        run.lddy = lddy;
        run.dx = i > 0 ? c->scratch + u->dy[i & 1] : in->wanted ? in->dx : NULL;
        run.lddx = i > 0 ? run.ldx : in->stride;
        run.beta = i > 0 ? 0 : l->beta[0];
        fc_backward(l, &t->layer, c, &run);
        dy = run.dx;
        lddy = run.lddx;
    }
    if (u->stages[0].layer.n == 0 && in->wanted)
        set_or_add(c, dy, lddy, l->beta[0], in);
    if (by->wanted)
        set_or_add(c, c->scratch + u->dg, u->width, l->beta[u->by], by);
}

// ---- the twin ---------------------------------------------------------------------------------------------

static float *gates_naive(const struct layer *l, const struct layer_context *c)
{
    const struct lhuc *u = l->own;
    const struct value *by = l->in[u->by], *in = l->in[0];
    float *g = mem_array((size_t)c->n * u->width + 1, sizeof *g);
    for (size_t r = 0; r < c->n; r++)
        for (uint32_t j = 0; j < u->width; j++)
            g[r * u->width + j] =
                j < by->dim ? by->x[r * by->stride + j] : in->x[r * in->stride + j - by->dim];
    return g;
}

// Stage i of g (B, width) and x (B, ldx): (B, dim).
static float *stage_naive(const struct layer *l, const struct layer_context *c, uint32_t i, const float *g,
                          const float *x, uint32_t ldx)
{
    const struct lhuc *u = l->own;
    const struct stage *t = &u->stages[i];
    float *y = mem_array((size_t)c->n * t->dim + 1, sizeof *y),
          *s = mem_array((size_t)c->n * t->dim + 1, sizeof *s);
    struct fc_run run = {.rows = c->n, .x = x, .ldx = ldx, .y = y, .ldy = t->dim};
    if (t->layer.n > 0)
        fc_forward_naive(l, &t->layer, c, &run);
    else
        kernel_copy(c->n, t->dim, x, ldx, y, t->dim);
    run = (struct fc_run){.rows = c->n, .x = g, .ldx = u->width, .y = s, .ldy = t->dim};
    fc_forward_naive(l, &t->gate, c, &run);
    for (size_t j = 0; j < (size_t)c->n * t->dim; j++)
        y[j] = (float)((double)u->scale * (double)s[j] * (double)y[j]);
    free(s);
    return y;
}

static void lhuc_forward_naive(const struct layer *l, const struct layer_context *c)
{
    const struct lhuc *u = l->own;
    float *g = gates_naive(l, c), *x = NULL;
    for (uint32_t i = 0; i < u->n; i++) {
        float *y = i == 0 ? stage_naive(l, c, i, g, l->in[0]->x, l->in[0]->stride)
                          : stage_naive(l, c, i, g, x, u->stages[i - 1].dim);
        free(x);
        x = y;
    }
    kernel_copy(c->n, l->out->dim, x, l->out->dim, l->out->x, l->out->stride);
    free(x);
    free(g);
}

static double lhuc_flops(const struct layer *l, bool backward, bool dense)
{
    const struct lhuc *u = l->own;
    const struct value *in = l->in[0], *by = l->in[u->by];
    const bool dx = in->from_ids || (dense && in->from_params),
               dg = by->from_ids || (dense && by->from_params);
    double sum = 0;
    for (uint32_t i = 0; i < u->n; i++) {
        const struct stage *t = &u->stages[i];
        sum += fc_flops(&t->gate, backward, dense, dg) + (backward ? 4.0 : 2.0) * t->dim;
        if (t->layer.n > 0)
            sum += fc_flops(&t->layer, backward, dense, i > 0 || dx);
    }
    return sum;
}

static bool lhuc_product(const struct layer *l, uint32_t i, uint32_t ret_shape[3])
{
    const struct lhuc *u = l->own;
    const uint32_t rows = l->out->rows_max;
    for (uint32_t k = 0; k < u->n; k++) {
        const struct stage *t = &u->stages[k];
        if (i < t->gate.n)
            return fc_product(&t->gate, i, rows, ret_shape);
        i -= t->gate.n;
        if (i < t->layer.n)
            return fc_product(&t->layer, i, rows, ret_shape);
        i -= t->layer.n;
    }
    return false;
}

const struct layer_kind layer_lhuc = {
    .name = "lhuc",
    .text = "Fully connected layers with gates by the user between them, as PPNet's.",
    .options = lhuc_options,
    .one_input = true,
    .stochastic = true,
    .shape = lhuc_shape,
    .forward = lhuc_forward,
    .backward = lhuc_backward,
    .forward_naive = lhuc_forward_naive,
    .flops = lhuc_flops,
    .product = lhuc_product,
};
