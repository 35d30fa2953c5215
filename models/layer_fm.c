// SPDX-License-Identifier: Apache-2.0
// fm: the second order of a factorization machine (Rendle, Factorization Machines, ICDM 2010) over m fields of one
// width, (B, D) each, as FuxiCTR's InnerProductInteraction "product_sum"; with `vector` its "bi_interaction" (He, Chua,
// Neural Factorization Machines, SIGIR 2017).
//
//     v = sum over i < j of x_i o x_j = (s o s - sum of x_i o x_i) / 2, s = sum of x_i     (B, D): m D instead of m m D
//     y = sum of v                                                                         (B, 1)
//     dx_i = dy (s - x_i)
//
// `linear` is the first order, a weight for each of its columns: y += sum of w n. Parameters: "<block>.linear.weight"
// (1, columns). One pass each way. Scratch: s, (B, D), and
// v of a row.
#include "models/fields.h"
#include "models/kernel.h"

static const struct layer_option fm_options[] = {
    {"vector", LAYER_FLAG, .text = "The D sums before they are added up."},
    {"linear", LAYER_INPUT, .text = "First order: what is added by a weight each, as numbers are."},
    {0},
};

struct fm {
    struct fields fields;
    bool vector;
    size_t weight;
};

static int fm_shape(struct layer *l, struct err *err)
{
    struct fm *m = l->own = layer_alloc(l, 1, sizeof *m);
    const struct value *linear = layer_input(l, "linear");
    m->vector = layer_flag(l, "vector");
    if (fields_init(l, &m->fields, err) < 0 || fields_one_width(l, &m->fields, err) < 0)
        return -1;
    if (m->fields.n < 2)
        return layer_fail(l, err, "fm takes 2 or more fields");
    if (linear != NULL && m->vector)
        return layer_fail(l, err, "linear goes without vector: concatenate instead");
    if (linear != NULL && (linear->ragged || l->in[0]->ragged) &&
        layer_same_entries(l, l->in[0], linear, err) < 0)
        return -1;
    l->out->dim = m->vector ? m->fields.list[0].dim : 1;
    l->scratch_floats = (1 + (size_t)l->out->rows_max) * m->fields.list[0].dim;
    if (linear != NULL)
        m->weight = layer_param(l, "linear.weight", 1, linear->dim, init_fan_in(linear->dim));
    return 0;
}

// s; and v, or its sum. v is the sum of x_i (s - x_i) / 2, the same without a difference of squares, which cancels.
KERNEL static void forward_rows(uint32_t rows, const struct fields *f, bool vector, float *restrict s,
                                float *restrict v, float *restrict y, uint32_t ldy)
{
    const uint32_t dim = f->list[0].dim;
    for (size_t i = 0; i < rows; i++) {
        float *restrict sum = s + i * dim;
        for (uint32_t d = 0; d < dim; d++)
            sum[d] = v[d] = 0;
        for (uint32_t k = 0; k < f->n; k++) {
            const float *restrict x = f->list[k].x + i * f->list[k].stride;
            for (uint32_t d = 0; d < dim; d++)
                sum[d] += x[d];
        }
        for (uint32_t k = 0; k < f->n; k++) {
            const float *restrict x = f->list[k].x + i * f->list[k].stride;
            for (uint32_t d = 0; d < dim; d++)
                v[d] += x[d] * (sum[d] - x[d]);
        }
        float total;
#define HALF(d) (v[d] / 2)
        KERNEL_SUM(total, dim, HALF);
        for (uint32_t d = 0; d < dim && vector; d++)
            y[i * ldy + d] = HALF(d);
        if (!vector)
            y[i * ldy] = total;
    }
}

static void fm_forward(const struct layer *l, const struct layer_context *c)
{
    struct fm *m = l->own;
    const struct value *linear = layer_input(l, "linear"), *out = l->out;
    fields_read(l, &m->fields);
    float *v = c->scratch + (size_t)out->rows_max * m->fields.list[0].dim;
    forward_rows(out->rows, &m->fields, m->vector, c->scratch, v, out->x, out->stride);
    for (size_t i = 0; i < out->rows && linear != NULL; i++) {
        float sum = 0;
        for (uint32_t j = 0; j < linear->dim; j++)
            sum += c->params[m->weight + j] * linear->x[i * linear->stride + j];
        out->x[i * out->stride] += sum;
    }
}

KERNEL static void backward_rows(uint32_t rows, const struct fields *f, bool vector, const float *restrict s,
                                 const float *restrict dy, uint32_t lddy)
{
    const uint32_t dim = f->list[0].dim;
    for (size_t i = 0; i < rows; i++)
        for (uint32_t k = 0; k < f->n; k++) {
            const struct field *field = &f->list[k];
            if (field->dx == NULL)
                continue;
            const float *restrict x = field->x + i * field->stride;
            float *restrict dx = field->dx + i * field->stride;
            for (uint32_t d = 0; d < dim; d++)
                dx[d] = (field->add ? dx[d] : 0) + dy[i * lddy + (vector ? d : 0)] * (s[i * dim + d] - x[d]);
        }
}

static void linear_backward(const struct layer *l, const struct layer_context *c)
{
    const struct fm *m = l->own;
    const struct value *linear = layer_input(l, "linear"), *out = l->out;
    uint32_t n;
    if (linear == NULL)
        return;
    const float beta = l->beta[layer_inputs(l, "linear", &n)];
    for (size_t i = 0; i < out->rows; i++) {
        const float dy = out->dx[i * out->stride];
        for (uint32_t j = 0; j < linear->dim && c->dparams != NULL; j++)
            c->dparams[m->weight + j] += dy * linear->x[i * linear->stride + j];
        float *dx = linear->dx + i * linear->stride;
        for (uint32_t j = 0; j < linear->dim && linear->wanted; j++)
            dx[j] = (beta == 0 ? 0 : dx[j]) + dy * c->params[m->weight + j];
    }
}

static void fm_backward(const struct layer *l, const struct layer_context *c)
{
    struct fm *m = l->own;
    fields_read(l, &m->fields);
    backward_rows(l->out->rows, &m->fields, m->vector, c->scratch, l->out->dx, l->out->stride);
    linear_backward(l, c);
}

static double pairs_naive(const struct layer *l, size_t row, uint32_t d)
{
    const struct fm *m = l->own;
    double sum = 0;
    for (uint32_t i = 0; i < m->fields.n; i++)
        for (uint32_t j = i + 1; j < m->fields.n; j++) {
            const struct field *a = &m->fields.list[i], *b = &m->fields.list[j];
            const struct value *va = l->in[a->in], *vb = l->in[b->in];
            sum += (double)va->x[row * va->stride + a->column + d] *
                   (double)vb->x[row * vb->stride + b->column + d];
        }
    return sum;
}

static void fm_forward_naive(const struct layer *l, const struct layer_context *c)
{
    const struct fm *m = l->own;
    const struct value *linear = layer_input(l, "linear");
    for (size_t i = 0; i < l->out->rows; i++) {
        double sum = 0;
        for (uint32_t d = 0; d < m->fields.list[0].dim; d++) {
            const double v = pairs_naive(l, i, d);
            sum += v;
            if (m->vector)
                l->out->x[i * l->out->stride + d] = (float)v;
        }
        for (uint32_t j = 0; linear != NULL && j < linear->dim; j++)
            sum += (double)c->params[m->weight + j] * (double)linear->x[i * linear->stride + j];
        if (!m->vector)
            l->out->x[i * l->out->stride] = (float)sum;
    }
}

static double fm_flops(const struct layer *l, bool backward, bool dense)
{
    (void)dense;
    const struct fm *m = l->own;
    return (backward ? 2.0 : 3.0) * m->fields.width;
}

const struct layer_kind layer_fm = {
    .name = "fm",
    .text = "The sum of x_i x_j over all pairs of its fields, which are of one width.",
    .options = fm_options,
    .shape = fm_shape,
    .forward = fm_forward,
    .backward = fm_backward,
    .forward_naive = fm_forward_naive,
    .flops = fm_flops,
};
