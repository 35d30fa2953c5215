// SPDX-License-Identifier: Apache-2.0
// senet: weighs m fields, (B, D_i) each, of any widths (Hu et al., Squeeze-and-Excitation Networks, CVPR 2018; on
// fields: Huang et al., FiBiNET, RecSys 2019), as FuxiCTR's SqueezeExcitation.
//
//     z_i = mean of x_i                    squeeze       (B, m)
//     h = relu(z W_1^T)                    excitation    (B, k), k = max(1, floor(m / reduction))
//     a = f(h W_2^T)                       f: sigmoid or relu, (B, m)
//     y_i = a_i x_i                        re-weight     (B, D_1 + ... + D_m), the fields side by side
//
//     da_i = dy_i . x_i;  dx_i = a_i dy_i + dz_i / D_i
//
// A layer that takes fields finds those of the input in the output. The cost is the passes', two each way over
// B (D_1 + ... + D_m) floats; the products are of (B, m, k). Parameters, without biases: "<block>.excitation.0.weight"
// (k, m), "<block>.excitation.2.weight" (m, k). Scratch: | z | h | a | da | dh | dz |.
#include <stdlib.h>

#include "base/mem.h"
#include "models/activation.h"
#include "models/fields.h"
#include "models/gemm.h"
#include "models/kernel.h"

static const struct layer_option senet_options[] = {
    {"reduction", LAYER_NUMBER, .min = 1, .max = 256, .fallback = 3, .text = "Fields by hidden units."},
    {"activation", LAYER_CHOICE, .choices = "sigmoid|relu", .text = "Of a field's weight."},
    {0},
};

struct senet {
    struct fields fields;
    uint32_t m, k;
    enum activation f;
    size_t first, second;       // offsets of the weights
    size_t z, h, a, da, dh, dz; // in the scratch
};

static int senet_shape(struct layer *l, struct err *err)
{
    struct senet *s = l->own = layer_alloc(l, 1, sizeof *s);
    if (fields_init(l, &s->fields, err) < 0)
        return -1;
    if (s->fields.n < 2)
        return layer_fail(l, err, "senet takes 2 or more fields");
    s->m = s->fields.n;
    s->k = (uint32_t)(s->m / layer_number(l, "reduction"));
    s->k = s->k > 0 ? s->k : 1;
    s->f = layer_choice(l, "activation") == 0 ? ACTIVATION_SIGMOID : ACTIVATION_RELU;
    l->out->dim = s->fields.width;
    s->first = layer_param(l, "excitation.0.weight", s->k, s->m, init_fan_in(s->m));
    s->second = layer_param(l, "excitation.2.weight", s->m, s->k, init_fan_in(s->k));
    const size_t rows = l->out->rows_max, wide = rows * s->m, narrow = rows * s->k;
    s->h = s->z + wide;
    s->a = s->h + narrow;
    s->da = s->a + wide;
    s->dh = s->da + wide;
    s->dz = s->dh + narrow;
    l->scratch_floats = s->dz + wide;
    return 0;
}

KERNEL static void squeeze(uint32_t rows, const struct fields *f, float *restrict z)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t k = 0; k < f->n; k++) {
            const float *restrict x = f->list[k].x + i * f->list[k].stride;
            float sum;
#define VALUE(d) x[d]
            KERNEL_SUM(sum, f->list[k].dim, VALUE);
            z[i * f->n + k] = sum / (float)f->list[k].dim;
        }
}

KERNEL static void reweight(uint32_t rows, const struct fields *f, const float *restrict a, float *restrict y,
                            uint32_t ldy)
{
    for (size_t i = 0; i < rows; i++) {
        float *restrict to = y + i * ldy;
        for (uint32_t k = 0; k < f->n; k++) {
            const float *restrict x = f->list[k].x + i * f->list[k].stride;
            for (uint32_t d = 0; d < f->list[k].dim; d++)
                to[d] = a[i * f->n + k] * x[d];
            to += f->list[k].dim;
        }
    }
}

static void senet_forward(const struct layer *l, const struct layer_context *c)
{
    struct senet *s = l->own;
    const uint32_t rows = l->out->rows;
    float *z = c->scratch + s->z, *h = c->scratch + s->h, *a = c->scratch + s->a;
    fields_read(l, &s->fields);
    squeeze(rows, &s->fields, z);
    packs_nt_ld(c->packs, rows, s->k, s->m, z, s->m, c->params + s->first, h, s->k);
    activation_apply(ACTIVATION_RELU, rows, s->k, h, s->k);
    packs_nt_ld(c->packs, rows, s->m, s->k, h, s->k, c->params + s->second, a, s->m);
    activation_apply(s->f, rows, s->m, a, s->m);
    reweight(rows, &s->fields, a, l->out->x, l->out->stride);
}

KERNEL static void weight_gradient(uint32_t rows, const struct fields *f, const float *restrict dy,
                                   uint32_t lddy, float *restrict da)
{
    for (size_t i = 0; i < rows; i++) {
        const float *restrict from = dy + i * lddy;
        for (uint32_t k = 0; k < f->n; k++) {
            const float *restrict x = f->list[k].x + i * f->list[k].stride;
            float sum;
#define PRODUCT(d) (from[d] * x[d])
            KERNEL_SUM(sum, f->list[k].dim, PRODUCT);
            da[i * f->n + k] = sum;
            from += f->list[k].dim;
        }
    }
}

KERNEL static void field_gradient(uint32_t rows, const struct fields *f, const float *restrict a,
                                  const float *restrict dz, const float *restrict dy, uint32_t lddy)
{
    for (size_t i = 0; i < rows; i++) {
        const float *restrict from = dy + i * lddy;
        for (uint32_t k = 0; k < f->n; from += f->list[k++].dim) {
            const struct field *field = &f->list[k];
            if (field->dx == NULL)
                continue;
            float *restrict dx = field->dx + i * field->stride;
            const float w = a[i * f->n + k], part = dz[i * f->n + k] / (float)field->dim;
            for (uint32_t d = 0; d < field->dim; d++)
                dx[d] = (field->add ? dx[d] : 0) + w * from[d] + part;
        }
    }
}

static void senet_backward(const struct layer *l, const struct layer_context *c)
{
    struct senet *s = l->own;
    const uint32_t rows = l->out->rows;
    const float *z = c->scratch + s->z, *h = c->scratch + s->h, *a = c->scratch + s->a;
    float *da = c->scratch + s->da, *dh = c->scratch + s->dh, *dz = c->scratch + s->dz;
    fields_read(l, &s->fields);
    weight_gradient(rows, &s->fields, l->out->dx, l->out->stride, da);
    activation_backward(s->f, rows, s->m, a, s->m, da, s->m);
    packs_nn_ld(c->packs, rows, s->m, s->k, da, s->m, c->params + s->second, 0, dh, s->k);
    activation_backward(ACTIVATION_RELU, rows, s->k, h, s->k, dh, s->k);
    packs_nn_ld(c->packs, rows, s->k, s->m, dh, s->k, c->params + s->first, 0, dz, s->m);
    if (c->dparams != NULL) {
        gemm_tn(rows, s->m, s->k, da, h, c->dparams + s->second);
        gemm_tn(rows, s->k, s->m, dh, z, c->dparams + s->first);
    }
    field_gradient(rows, &s->fields, a, dz, l->out->dx, l->out->stride);
}

static const float *field_row(const struct layer *l, const struct field *f, size_t row)
{
    return l->in[f->in]->x + row * l->in[f->in]->stride + f->column;
}

static void row_naive(const struct layer *l, const struct layer_context *c, size_t row, double *z, double *h)
{
    const struct senet *s = l->own;
    for (uint32_t i = 0; i < s->m; i++) {
        z[i] = 0;
        for (uint32_t d = 0; d < s->fields.list[i].dim; d++)
            z[i] += (double)field_row(l, &s->fields.list[i], row)[d] / s->fields.list[i].dim;
    }
    for (uint32_t k = 0; k < s->k; k++) {
        h[k] = 0;
        for (uint32_t i = 0; i < s->m; i++)
            h[k] += (double)c->params[s->first + (size_t)k * s->m + i] * z[i];
        h[k] = activation_naive(ACTIVATION_RELU, h[k]);
    }
    float *y = l->out->x + row * l->out->stride;
    for (uint32_t i = 0; i < s->m; i++) {
        double a = 0;
        for (uint32_t k = 0; k < s->k; k++)
            a += (double)c->params[s->second + (size_t)i * s->k + k] * h[k];
        for (uint32_t d = 0; d < s->fields.list[i].dim; d++)
            *y++ = (float)(activation_naive(s->f, a) * (double)field_row(l, &s->fields.list[i], row)[d]);
    }
}

static void senet_forward_naive(const struct layer *l, const struct layer_context *c)
{
    const struct senet *s = l->own;
    double *memory = mem_array(2 * (size_t)s->m, sizeof *memory);
    for (size_t i = 0; i < l->out->rows; i++)
        row_naive(l, c, i, memory, memory + s->m);
    free(memory);
}

static double senet_flops(const struct layer *l, bool backward, bool dense)
{
    const struct senet *s = l->own;
    return 2.0 * s->fields.width * (backward ? 2 : 1) + 4.0 * s->m * s->k * (backward ? 1 + dense : 1);
}

static bool senet_product(const struct layer *l, uint32_t i, uint32_t ret_shape[3])
{
    const struct senet *s = l->own;
    if (i >= 2)
        return false;
    ret_shape[0] = l->out->rows_max;
    ret_shape[1] = i == 0 ? s->k : s->m;
    ret_shape[2] = i == 0 ? s->m : s->k;
    return true;
}

const struct layer_kind layer_senet = {
    .name = "senet",
    .text = "Its fields, each times a weight that it learns from the means of all.",
    .options = senet_options,
    .keeps_fields = true,
    .shape = senet_shape,
    .forward = senet_forward,
    .backward = senet_backward,
    .forward_naive = senet_forward_naive,
    .flops = senet_flops,
    .product = senet_product,
};
