// SPDX-License-Identifier: Apache-2.0
// Multi-head target attention (Vaswani et al., 2017, with one query a sample; the exact search unit of SIM, Pi et al.,
// CIKM 2020), as FuxiCTR's MultiHeadTargetAttention and PyTorch's nn.MultiheadAttention without biases. Of head h:
//
//     s_j = (Wq_h q) . (Wk_h k_j) / sqrt(A / H);  a = softmax(s) over the sample's entries
//     o_h = sum of a_j Wv_h k_j;                  y = Wo [o_1, ..., o_H]
//
// Since all entries of a sample meet the same query, the weights of keys and values are moved out of the sums:
//
//     u_h = Wk_h^T Wq_h q / sqrt(A / H)  (D):  s_j = u_h . k_j
//     m_h = sum of a_j k_j               (D):  o_h = Wv_h m_h
//
// so an entry costs 4 D H instead of 4 D A, and every product has the rows of the samples. Backward, by head:
//
//     da_j = dm . k_j,  ds_j = a_j (da_j - sum of a da),  dk_j = a_j dm + ds_j u,  du = sum of ds_j k_j
//
// Scratch: | Wq q, scaled (B, A) | u (B, H D) | m (B, H D) | o (B, A) | their gradients | a (N, H), then ds |
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/attention.h"
#include "models/gemm.h"
#include "models/kernel.h"

void heads_init(struct layer *l, const struct heads *sizes, uint32_t rows_max, struct heads *ret_heads)
{
    struct heads *h = ret_heads;
    *h = *sizes;
    const size_t n = l->out->rows_max;
    h->w_q = layer_param(l, "W_q.weight", h->width, h->query, init_fan_in(h->query));
    h->w_k = layer_param_parts(l, "W_k.weight", h->width, h->dim, h->width / h->heads, init_fan_in(h->dim));
    h->w_v = layer_param_parts(l, "W_v.weight", h->width, h->dim, h->width / h->heads, init_fan_in(h->dim));
    h->w_o = layer_param(l, "W_o.weight", h->dim, h->width, init_fan_in(h->width));
    h->q = attention_scratch(l, n * h->width);
    h->keys = attention_scratch(l, n * h->heads * h->dim);
    h->mixed = attention_scratch(l, n * h->heads * h->dim);
    h->out = attention_scratch(l, n * h->width);
    h->dq = attention_scratch(l, n * h->width);
    h->dkeys = attention_scratch(l, n * h->heads * h->dim);
    h->dmixed = attention_scratch(l, n * h->heads * h->dim);
    h->dout = attention_scratch(l, n * h->width);
    h->weights = attention_scratch(l, (size_t)rows_max * h->heads);
}

// ---- forward ----------------------------------------------------------------------------------------------

KERNEL static void scale_rows(size_t n, float by, float *restrict x)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= by;
}

// Of one head and sample: a from u, and m. `step` from entry to entry of a.
KERNEL static void attend(const struct attention_run *run, uint32_t i, uint32_t dim, uint32_t step,
                          const float *restrict u, float *restrict a, float *restrict m)
{
    const size_t from = run->offsets[i], to = run->offsets[i + 1];
    float most = -INFINITY, sum = 0;
    for (uint32_t d = 0; d < dim; d++)
        m[d] = 0;
    for (size_t j = from; j < to; j++) {
        const float *restrict k = run->k + j * run->ldk;
        float s;
#define KEY(x) (u[x] * k[x])
        KERNEL_SUM(s, dim, KEY);
        a[j * step] = s;
        most = s > most ? s : most;
    }
    for (size_t j = from; j < to; j++) {
        a[j * step] = kernel_exp(a[j * step] - most);
        sum += a[j * step];
    }
    for (size_t j = from; j < to; j++) {
        const float *restrict k = run->k + j * run->ldk, w = a[j * step] / sum;
        a[j * step] = w;
        for (uint32_t d = 0; d < dim; d++)
            m[d] += w * k[d];
    }
}

void heads_forward(const struct layer *l, const struct heads *h, const struct layer_context *c,
                   const struct attention_run *run)
{
    (void)l;
    const uint32_t n = run->n, part = h->width / h->heads, wide = h->heads * h->dim;
    const float *p = c->params;
    float *s = c->scratch;
    packs_nt_ld(c->packs, n, h->width, h->query, run->q, run->ldq, p + h->w_q, s + h->q, h->width);
    scale_rows((size_t)n * h->width, 1 / sqrtf((float)part), s + h->q);
    for (uint32_t t = 0; t < h->heads; t++) {
        const size_t w = (size_t)t * part * h->dim, at = (size_t)t * h->dim;
        packs_nn_ld(c->packs, n, part, h->dim, s + h->q + t * part, h->width, p + h->w_k + w, 0,
                    s + h->keys + at, wide);
        for (uint32_t i = 0; i < n; i++)
            attend(run, i, h->dim, h->heads, s + h->keys + i * wide + at, s + h->weights + t,
                   s + h->mixed + i * wide + at);
        packs_nt_ld(c->packs, n, part, h->dim, s + h->mixed + at, wide, p + h->w_v + w, s + h->out + t * part,
                    h->width);
    }
    packs_nt_ld(c->packs, n, h->dim, h->width, s + h->out, h->width, p + h->w_o, run->y, run->ldy);
}

// ---- backward ---------------------------------------------------------------------------------------------

// Of one head and sample: a becomes ds on the way.
KERNEL static void unattend(const struct attention_run *run, uint32_t i, uint32_t dim, uint32_t step,
                            bool add, const float *restrict u, const float *restrict dm, float *restrict a,
                            float *restrict du)
{
    float mean = 0;
    for (uint32_t d = 0; d < dim; d++)
        du[d] = 0;
    // The first pass only finds the mean: to keep every da would take as much again.
    for (size_t j = run->offsets[i]; j < run->offsets[i + 1]; j++) {
        const float *restrict k = run->k + j * run->ldk;
        float da;
#define VALUE(x) (dm[x] * k[x])
        KERNEL_SUM(da, dim, VALUE);
        mean += a[j * step] * da;
    }
    for (size_t j = run->offsets[i]; j < run->offsets[i + 1]; j++) {
        const float *restrict k = run->k + j * run->ldk, w = a[j * step];
        float *restrict dk = run->dk != NULL ? run->dk + j * run->lddk : NULL;
        float da;
        KERNEL_SUM(da, dim, VALUE);
        const float ds = w * (da - mean);
        for (uint32_t d = 0; d < dim; d++)
            du[d] += ds * k[d];
        if (dk != NULL && !add)
            for (uint32_t d = 0; d < dim; d++)
                dk[d] = w * dm[d] + ds * u[d];
        else if (dk != NULL)
            for (uint32_t d = 0; d < dim; d++)
                dk[d] += w * dm[d] + ds * u[d];
    }
}

static void head_backward(const struct heads *h, const struct layer_context *c,
                          const struct attention_run *run, uint32_t t)
{
    const uint32_t n = run->n, part = h->width / h->heads, wide = h->heads * h->dim;
    const size_t w = (size_t)t * part * h->dim, at = (size_t)t * h->dim;
    const float *p = c->params;
    float *s = c->scratch;
    packs_nn_ld(c->packs, n, part, h->dim, s + h->dout + t * part, h->width, p + h->w_v + w, 0,
                s + h->dmixed + at, wide);
    for (uint32_t i = 0; i < n; i++)
        unattend(run, i, h->dim, h->heads, t > 0 || run->add_k, s + h->keys + i * wide + at,
                 s + h->dmixed + i * wide + at, s + h->weights + t, s + h->dkeys + i * wide + at);
    packs_nt_ld(c->packs, n, part, h->dim, s + h->dkeys + at, wide, p + h->w_k + w, s + h->dq + t * part,
                h->width);
    if (c->dparams == NULL)
        return;
    gemm_tn_ld(n, part, h->dim, s + h->dout + t * part, h->width, s + h->mixed + at, wide,
               c->dparams + h->w_v + w);
    gemm_tn_ld(n, part, h->dim, s + h->q + t * part, h->width, s + h->dkeys + at, wide,
               c->dparams + h->w_k + w);
}

void heads_backward(const struct layer *l, const struct heads *h, const struct layer_context *c,
                    const struct attention_run *run)
{
    (void)l;
    const uint32_t n = run->n, part = h->width / h->heads;
    const float *p = c->params;
    float *s = c->scratch;
    packs_nn_ld(c->packs, n, h->dim, h->width, run->dy, run->lddy, p + h->w_o, 0, s + h->dout, h->width);
    for (uint32_t t = 0; t < h->heads; t++)
        head_backward(h, c, run, t);
    scale_rows((size_t)n * h->width, 1 / sqrtf((float)part), s + h->dq);
    if (c->dparams != NULL) {
        gemm_tn_ld(n, h->dim, h->width, run->dy, run->lddy, s + h->out, h->width, c->dparams + h->w_o);
        gemm_tn_ld(n, h->width, h->query, s + h->dq, h->width, run->q, run->ldq, c->dparams + h->w_q);
    }
    if (run->dq != NULL)
        packs_nn_ld(c->packs, n, h->width, h->query, s + h->dq, h->width, p + h->w_q, run->add_q, run->dq,
                    run->lddq);
}

// ---- twin -------------------------------------------------------------------------------------------------

// W x, W (rows, cols).
static void multiply_naive(uint32_t rows, uint32_t cols, const float *w, const double *x, double *y)
{
    for (size_t r = 0; r < rows; r++) {
        y[r] = 0;
        for (uint32_t k = 0; k < cols; k++)
            y[r] += (double)w[r * cols + k] * x[k];
    }
}

static void widen(uint32_t n, const float *from, double *to)
{
    for (uint32_t i = 0; i < n; i++)
        to[i] = (double)from[i];
}

// o += e^s of each head times the values of an entry; sums += e^s.
static void entry_naive(const struct heads *h, const float *params, const double *q, const double *k,
                        double *key, double *value, double *o, double *sums)
{
    const uint32_t part = h->width / h->heads;
    multiply_naive(h->width, h->dim, params + h->w_k, k, key);
    multiply_naive(h->width, h->dim, params + h->w_v, k, value);
    for (uint32_t t = 0; t < h->heads; t++) {
        double s = 0;
        for (uint32_t j = t * part; j < (t + 1) * part; j++)
            s += q[j] * key[j];
        s = exp(s / sqrt(part));
        sums[t] += s;
        for (uint32_t j = t * part; j < (t + 1) * part; j++)
            o[j] += s * value[j];
    }
}

void heads_forward_naive(const struct layer *l, const struct heads *h, const struct layer_context *c,
                         const struct attention_run *run)
{
    (void)l;
    const uint32_t a = h->width, part = a / h->heads;
    double *q = mem_array(4 * (size_t)a + h->heads + 2 * (size_t)h->dim, sizeof *q);
    double *key = q + a, *value = key + a, *o = value + a, *sums = o + a, *x = sums + h->heads,
           *y = x + h->dim;
    for (size_t i = 0; i < run->n; i++) {
        widen(h->query, run->q + i * run->ldq, x);
        multiply_naive(a, h->query, c->params + h->w_q, x, q);
        memset(o, 0, (a + h->heads) * sizeof *o);
        for (size_t j = run->offsets[i]; j < run->offsets[i + 1]; j++) {
            widen(h->dim, run->k + j * run->ldk, x);
            entry_naive(h, c->params, q, x, key, value, o, sums);
        }
        for (uint32_t j = 0; j < a; j++)
            o[j] = sums[j / part] > 0 ? o[j] / sums[j / part] : 0;
        multiply_naive(h->dim, a, c->params + h->w_o, o, y);
        for (uint32_t j = 0; j < h->dim; j++)
            run->y[i * run->ldy + j] = (float)y[j];
    }
    free(q);
}

// ---- what it costs ------------------------------------------------------------------------------------------

double heads_flops(const struct heads *h, double entries, bool backward, bool dense)
{
    const double weights = 2.0 * h->width * (h->query + 3.0 * h->dim), entry = 4.0 * h->heads * h->dim;
    return backward ? weights * (1 + dense) + 2.5 * entries * entry : weights + entries * entry;
}

bool heads_product(const struct heads *h, uint32_t i, uint32_t samples, uint32_t ret_shape[3])
{
    const uint32_t part = h->width / h->heads;
    const uint32_t shapes[][2] = {{h->width, h->query}, {part, h->dim}, {h->dim, h->width}};
    if (i >= 3)
        return false;
    ret_shape[0] = samples;
    ret_shape[1] = shapes[i][0];
    ret_shape[2] = shapes[i][1];
    return true;
}
