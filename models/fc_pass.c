// SPDX-License-Identifier: Apache-2.0
// What stands after a product: bias, normalization, activation, dropout, and the way back.
//
// By column (batch norm, dice), with E and Var of the batch, over n rows, or of the running ones:
//
//     h = (z - E) r, r = 1 / sqrt(Var + eps)
//     dz = r (dh - mean(dh) - h mean(dh h))     the two means only where E and Var are the batch's
//
// By row (layer norm) it is the same with means over the row, always. PyTorch's running variance is the unbiased one,
// Var n / (n - 1). Dice is y = z g, g = p + a (1 - p), p = sigmoid(h); p is kept:
//
//     dh = dy z (1 - a) p (1 - p), dz = dy g + (as above), da = sum of dy z (1 - p)
//
// Statistics in the scratch, of (out) each:
//
//     columns:  | E | r | Var | sum of dh | sum of dh h |
//     rows:     | E of each row | r of each row |
//
// Dropout: unit k of a sample (over its rows, then over columns) is kept if the hash of k under the seed of the sample
// and the layer, 32 bits, is at least p 2^32. What was kept is divided by 1 - p.
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "models/fc.h"
#include "models/kernel.h"

#define DICE_EPS 1e-9
#define DICE_MOMENTUM 0.01

struct columns {
    uint32_t rows, dim;
    bool batch; // E and Var are the batch's
    float *mean, *inv, *var, *sum, *dot;
};

size_t fc_norm_floats(const struct fc_layer *t, uint32_t rows_max)
{
    if (t->norm == FC_NORM_NONE)
        return 0;
    return t->norm == FC_NORM_BATCH ? 5 * (size_t)t->out : 2 * (size_t)rows_max;
}

size_t fc_dice_floats(const struct fc_layer *t)
{
    return t->f == FC_DICE ? 5 * (size_t)t->out : 0;
}

bool fc_pass_has_z(const struct fc_layer *t)
{
    return t->norm != FC_NORM_NONE || t->f >= FC_PRELU;
}

static bool drops(const struct fc_pass *p)
{
    return p->t->dropout > 0 && p->c->training && p->c->seeds != NULL;
}

// ---- by column --------------------------------------------------------------------------------------------

static struct columns columns_of(const struct fc_pass *p, size_t stats)
{
    float *at = p->c->scratch + stats;
    const uint32_t d = p->t->out;
    return (struct columns){
        p->rows,           d, p->c->dense && p->rows > 1, at, at + d, at + 2 * (size_t)d, at + 3 * (size_t)d,
        at + 4 * (size_t)d};
}

KERNEL static void column_moments(uint32_t rows, uint32_t dim, const float *restrict z, float *restrict mean,
                                  float *restrict var)
{
    memset(mean, 0, dim * sizeof *mean);
    memset(var, 0, dim * sizeof *var);
    for (size_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < dim; j++)
            mean[j] += z[i * dim + j];
    for (uint32_t j = 0; j < dim; j++)
        mean[j] /= (float)rows;
    for (size_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < dim; j++) {
            const float off = z[i * dim + j] - mean[j];
            var[j] += off * off;
        }
    for (uint32_t j = 0; j < dim; j++)
        var[j] /= (float)rows;
}

static void columns_read(const struct columns *s, const float *z, const float *running_mean,
                         const float *running_var, double eps)
{
    if (s->batch) {
        column_moments(s->rows, s->dim, z, s->mean, s->var);
    } else {
        memcpy(s->mean, running_mean, s->dim * sizeof *s->mean);
        memcpy(s->var, running_var, s->dim * sizeof *s->var);
    }
    for (uint32_t j = 0; j < s->dim; j++)
        s->inv[j] = 1 / sqrtf(s->var[j] + (float)eps);
}

// What is to be added to the running statistics, into their place in dparams.
static void columns_move(const struct columns *s, const struct layer_context *c, size_t mean, size_t var,
                         double momentum)
{
    if (c->dparams == NULL || !s->batch)
        return;
    const float unbias = (float)s->rows / (float)(s->rows - 1);
    for (uint32_t j = 0; j < s->dim; j++) {
        c->dparams[mean + j] += (float)momentum * (s->mean[j] - c->params[mean + j]);
        c->dparams[var + j] += (float)momentum * (s->var[j] * unbias - c->params[var + j]);
    }
}

KERNEL static void columns_forward(const struct columns *s, const float *restrict z,
                                   const float *restrict gamma, const float *restrict beta, float *restrict y,
                                   uint32_t ldy)
{
    const float *restrict mean = s->mean, *restrict inv = s->inv;
    for (size_t i = 0; i < s->rows; i++)
        for (uint32_t j = 0; j < s->dim; j++)
            y[i * ldy + j] = (z[i * s->dim + j] - mean[j]) * inv[j] * gamma[j] + beta[j];
}

KERNEL static void columns_sums(const struct columns *s, const float *restrict z, const float *restrict dy,
                                uint32_t lddy)
{
    float *restrict sum = s->sum, *restrict dot = s->dot;
    const float *restrict mean = s->mean, *restrict inv = s->inv;
    memset(sum, 0, s->dim * sizeof *sum);
    memset(dot, 0, s->dim * sizeof *dot);
    for (size_t i = 0; i < s->rows; i++)
        for (uint32_t j = 0; j < s->dim; j++) {
            const float d = dy[i * lddy + j];
            sum[j] += d;
            dot[j] += d * ((z[i * s->dim + j] - mean[j]) * inv[j]);
        }
}

KERNEL static void columns_backward(const struct columns *s, const float *restrict z,
                                    const float *restrict gamma, float *restrict dy, uint32_t lddy)
{
    const float *restrict mean = s->mean, *restrict inv = s->inv, *restrict sum = s->sum,
                          *restrict dot = s->dot;
    const float part = s->batch ? 1 / (float)s->rows : 0;
    for (size_t i = 0; i < s->rows; i++)
        for (uint32_t j = 0; j < s->dim; j++) {
            const float h = (z[i * s->dim + j] - mean[j]) * inv[j];
            dy[i * lddy + j] = gamma[j] * inv[j] * (dy[i * lddy + j] - part * (sum[j] + h * dot[j]));
        }
}

static void batch_norm_backward(const struct fc_pass *p, float *dy, uint32_t lddy)
{
    const struct columns s = columns_of(p, p->t->stats);
    const float *z = p->c->scratch + p->t->z;
    float *dparams = p->c->dparams;
    columns_sums(&s, z, dy, lddy);
    for (uint32_t j = 0; j < s.dim && dparams != NULL; j++) {
        dparams[p->t->gamma + j] += s.dot[j];
        dparams[p->t->beta + j] += s.sum[j];
    }
    columns_move(&s, p->c, p->t->mean, p->t->var, p->fc->momentum);
    columns_backward(&s, z, p->c->params + p->t->gamma, dy, lddy);
}

// ---- dice -------------------------------------------------------------------------------------------------

KERNEL static void dice_rows(const struct columns *s, const float *restrict z, const float *restrict alpha,
                             float *restrict gate, float *restrict y, uint32_t ldy)
{
    const float *restrict mean = s->mean, *restrict inv = s->inv;
    const uint32_t dim = s->dim;
    for (size_t i = 0; i < s->rows; i++) {
        const float *restrict from = z + i * dim;
        float *restrict g = gate + i * dim, *restrict to = y + i * ldy;
        for (uint32_t j = 0; j < dim; j++)
            g[j] = kernel_sigmoid((from[j] - mean[j]) * inv[j]);
        for (uint32_t j = 0; j < dim; j++)
            to[j] = from[j] * (g[j] + alpha[j] * (1 - g[j]));
    }
}

static void dice_forward(const struct fc_pass *p)
{
    const struct columns s = columns_of(p, p->t->dice_stats);
    const float *z = p->c->scratch + p->t->u, *params = p->c->params;
    columns_read(&s, z, params + p->t->dice_mean, params + p->t->dice_var, DICE_EPS);
    dice_rows(&s, z, params + p->t->alpha, p->c->scratch + p->t->gate, p->y, p->ldy);
}

// Sums of dh and dh h; of dy z (1 - p) into dalpha, where it is not NULL.
KERNEL static void dice_sums(const struct columns *s, const float *restrict z, const float *restrict gate,
                             const float *restrict alpha, const float *restrict dy, uint32_t lddy,
                             float *restrict dalpha)
{
    float *restrict sum = s->sum, *restrict dot = s->dot;
    const float *restrict mean = s->mean, *restrict inv = s->inv;
    memset(sum, 0, s->dim * sizeof *sum);
    memset(dot, 0, s->dim * sizeof *dot);
    for (size_t i = 0; i < s->rows; i++) {
        const size_t at = i * s->dim;
        for (uint32_t j = 0; j < s->dim; j++) {
            const float rest = 1 - gate[at + j], dyz = dy[i * lddy + j] * z[at + j];
            const float dh = dyz * (1 - alpha[j]) * gate[at + j] * rest;
            sum[j] += dh;
            dot[j] += dh * ((z[at + j] - mean[j]) * inv[j]);
        }
        for (uint32_t j = 0; j < s->dim && dalpha != NULL; j++)
            dalpha[j] += dy[i * lddy + j] * z[at + j] * (1 - gate[at + j]);
    }
}

KERNEL static void dice_gradient(const struct columns *s, const float *restrict z, const float *restrict gate,
                                 const float *restrict alpha, float *restrict dy, uint32_t lddy)
{
    const float *restrict mean = s->mean, *restrict inv = s->inv, *restrict sum = s->sum,
                          *restrict dot = s->dot;
    const float part = s->batch ? 1 / (float)s->rows : 0;
    for (size_t i = 0; i < s->rows; i++)
        for (uint32_t j = 0; j < s->dim; j++) {
            const float x = z[i * s->dim + j], g = gate[i * s->dim + j], d = dy[i * lddy + j];
            const float h = (x - mean[j]) * inv[j], dh = d * x * (1 - alpha[j]) * g * (1 - g);
            dy[i * lddy + j] = d * (g + alpha[j] * (1 - g)) + inv[j] * (dh - part * (sum[j] + h * dot[j]));
        }
}

static void dice_backward(const struct fc_pass *p, float *dy, uint32_t lddy)
{
    const struct columns s = columns_of(p, p->t->dice_stats);
    const float *z = p->c->scratch + p->t->u, *gate = p->c->scratch + p->t->gate;
    const float *alpha = p->c->params + p->t->alpha;
    if (s.batch || p->c->dparams != NULL)
        dice_sums(&s, z, gate, alpha, dy, lddy, p->c->dparams != NULL ? p->c->dparams + p->t->alpha : NULL);
    else
        memset(s.sum, 0, 2 * s.dim * sizeof *s.sum); // of both: they have no part in it
    columns_move(&s, p->c, p->t->dice_mean, p->t->dice_var, DICE_MOMENTUM);
    dice_gradient(&s, z, gate, alpha, dy, lddy);
}

// ---- by row -----------------------------------------------------------------------------------------------

KERNEL static void rows_forward(uint32_t rows, uint32_t dim, const float *restrict z, float eps,
                                const float *restrict gamma, const float *restrict beta, float *restrict mean,
                                float *restrict inv, float *restrict y, uint32_t ldy)
{
    for (size_t i = 0; i < rows; i++) {
        const float *restrict row = z + i * dim;
        float sum, squares;
#define VALUE(j) row[j]
        KERNEL_SUM(sum, dim, VALUE);
        const float e = sum / (float)dim;
#define SQUARE(j) ((row[j] - e) * (row[j] - e))
        KERNEL_SUM(squares, dim, SQUARE);
        const float r = 1 / sqrtf(squares / (float)dim + eps);
        for (uint32_t j = 0; j < dim; j++)
            y[i * ldy + j] = (row[j] - e) * r * gamma[j] + beta[j];
        mean[i] = e;
        inv[i] = r;
    }
}

KERNEL static void rows_backward(uint32_t rows, uint32_t dim, const float *restrict z,
                                 const float *restrict gamma, const float *restrict mean,
                                 const float *restrict inv, float *restrict dy, uint32_t lddy)
{
    for (size_t i = 0; i < rows; i++) {
        const float *restrict row = z + i * dim;
        float *restrict d = dy + i * lddy;
        const float e = mean[i], r = inv[i];
        float sum, dot;
#define PART(j) (d[j] * gamma[j])
        KERNEL_SUM(sum, dim, PART);
#define PART_H(j) (d[j] * gamma[j] * (row[j] - e) * r)
        KERNEL_SUM(dot, dim, PART_H);
        sum /= (float)dim;
        dot /= (float)dim;
        for (uint32_t j = 0; j < dim; j++)
            d[j] = r * (d[j] * gamma[j] - sum - (row[j] - e) * r * dot);
    }
}

KERNEL static void rows_params(uint32_t rows, uint32_t dim, const float *restrict z,
                               const float *restrict mean, const float *restrict inv,
                               const float *restrict dy, uint32_t lddy, float *restrict dgamma,
                               float *restrict dbeta)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < dim; j++) {
            dgamma[j] += dy[i * lddy + j] * (z[i * dim + j] - mean[i]) * inv[i];
            dbeta[j] += dy[i * lddy + j];
        }
}

static void layer_norm_backward(const struct fc_pass *p, float *dy, uint32_t lddy)
{
    const struct fc_layer *t = p->t;
    const float *z = p->c->scratch + t->z, *mean = p->c->scratch + t->stats, *inv = mean + p->rows;
    if (p->c->dparams != NULL)
        rows_params(p->rows, t->out, z, mean, inv, dy, lddy, p->c->dparams + t->gamma,
                    p->c->dparams + t->beta);
    rows_backward(p->rows, t->out, z, p->c->params + t->gamma, mean, inv, dy, lddy);
}

// ---- activation and dropout -------------------------------------------------------------------------------

KERNEL static void prelu_forward(uint32_t rows, uint32_t dim, const float *restrict z, float a,
                                 float *restrict y, uint32_t ldy)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < dim; j++)
            y[i * ldy + j] = z[i * dim + j] > 0 ? z[i * dim + j] : a * z[i * dim + j];
}

KERNEL static float prelu_backward(uint32_t rows, uint32_t dim, const float *restrict z, float a,
                                   float *restrict dy, uint32_t lddy)
{
    float da = 0;
    for (size_t i = 0; i < rows; i++) {
        const float *restrict row = z + i * dim;
        float *restrict d = dy + i * lddy;
        float sum;
#define BELOW(j) (row[j] > 0 ? 0 : d[j] * row[j])
        KERNEL_SUM(sum, dim, BELOW);
        da += sum;
        for (uint32_t j = 0; j < dim; j++)
            d[j] = row[j] > 0 ? d[j] : a * d[j];
    }
    return da;
}

// Writes `keep` of n units from unit k of the sample on, by which y is multiplied.
KERNEL static void drop_row(uint32_t n, uint64_t seed, uint32_t k, uint32_t least, float kept,
                            float *restrict keep, float *restrict y)
{
    const uint32_t low = (uint32_t)seed, high = (uint32_t)(seed >> 32);
    for (uint32_t j = 0; j < n; j++) {
        uint32_t h = (k + j) * 0x9e3779b9u + low;
        h = (h ^ h >> 16) * 0x7feb352du + high;
        h = (h ^ h >> 15) * 0x846ca68bu;
        keep[j] = (h ^ h >> 16) >= least ? kept : 0;
        y[j] *= keep[j];
    }
}

static void drop_forward(const struct fc_pass *p)
{
    const uint32_t dim = p->t->out, n = p->offsets != NULL ? p->c->n : p->rows;
    const uint32_t least = (uint32_t)(p->t->dropout * 0x1p32);
    const float kept = (float)(1 / (1 - p->t->dropout));
    float *keep = p->c->scratch + p->t->keep;
    for (uint32_t s = 0; s < n; s++) {
        const uint64_t seed = hash_mix(layer_seed(p->l, p->c, s) + p->at);
        const size_t from = p->offsets != NULL ? p->offsets[s] : s,
                     to = p->offsets != NULL ? p->offsets[s + 1] : s + 1;
        for (size_t i = from; i < to; i++)
            drop_row(dim, seed, (uint32_t)(i - from) * dim, least, kept, keep + i * dim, p->y + i * p->ldy);
    }
}

KERNEL static void multiply(uint32_t rows, uint32_t dim, const float *restrict by, float *restrict x,
                            uint32_t ld)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < dim; j++)
            x[i * ld + j] *= by[i * dim + j];
}

// Of sigmoid and tanh, by an output that dropout has multiplied by 1 / scale, or by 0, where dy is 0 too.
KERNEL static void squash_gradient(bool tanh_, uint32_t rows, uint32_t dim, const float *restrict y,
                                   uint32_t ldy, float scale, float *restrict dy, uint32_t lddy)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < dim; j++) {
            const float v = y[i * ldy + j] * scale;
            dy[i * lddy + j] *= tanh_ ? 1 - v * v : v * (1 - v);
        }
}

static void activation_back(const struct fc_pass *p, float *dy, uint32_t lddy, bool masked)
{
    const struct fc_layer *t = p->t;
    const uint32_t rows = p->rows, dim = t->out;
    if (t->f == FC_DICE) {
        dice_backward(p, dy, lddy);
    } else if (t->f == FC_PRELU) {
        float da = prelu_backward(rows, dim, p->c->scratch + t->u, p->c->params[t->alpha], dy, lddy);
        if (p->c->dparams != NULL)
            p->c->dparams[t->alpha] += da;
    } else if (drops(p) && (t->f == ACTIVATION_SIGMOID || t->f == ACTIVATION_TANH)) {
        squash_gradient(t->f == ACTIVATION_TANH, rows, dim, p->y, p->ldy, (float)(1 - t->dropout), dy, lddy);
    } else if (!(masked && t->f == ACTIVATION_RELU)) {
        activation_backward((enum activation)t->f, rows, dim, p->y, p->ldy, dy, lddy);
    }
}

// ---- the whole --------------------------------------------------------------------------------------------

// z becomes u, or y where a plain activation follows.
static void norm_forward(const struct fc_pass *p)
{
    const struct fc_layer *t = p->t;
    const float *z = p->c->scratch + t->z, *params = p->c->params;
    float *to = t->f >= FC_PRELU ? p->c->scratch + t->u : p->y;
    const uint32_t ld = t->f >= FC_PRELU ? t->out : p->ldy;
    if (t->norm == FC_NORM_BATCH) {
        const struct columns s = columns_of(p, t->stats);
        columns_read(&s, z, params + t->mean, params + t->var, p->fc->eps);
        columns_forward(&s, z, params + t->gamma, params + t->beta, to, ld);
    } else if (t->norm == FC_NORM_LAYER) {
        float *mean = p->c->scratch + t->stats;
        rows_forward(p->rows, t->out, z, (float)p->fc->eps, params + t->gamma, params + t->beta, mean,
                     mean + p->rows, to, ld);
    }
}

void fc_pass_forward(const struct fc_pass *p)
{
    const struct fc_layer *t = p->t;
    const float *bias = p->c->params + t->bias;
    if (!fc_pass_has_z(t)) {
        if (!p->biased)
            activation_forward((enum activation)t->f, p->rows, t->out, bias, p->y, p->ldy);
        else if (t->f != ACTIVATION_RELU)
            activation_apply((enum activation)t->f, p->rows, t->out, p->y, p->ldy);
    } else {
        if (!p->biased)
            kernel_bias(p->rows, t->out, bias, false, p->c->scratch + t->z, t->out);
        norm_forward(p);
        if (t->f == FC_DICE)
            dice_forward(p);
        else if (t->f == FC_PRELU)
            prelu_forward(p->rows, t->out, p->c->scratch + t->u, p->c->params[t->alpha], p->y, p->ldy);
        else
            activation_apply((enum activation)t->f, p->rows, t->out, p->y, p->ldy);
    }
    if (drops(p))
        drop_forward(p);
}

void fc_pass_backward(const struct fc_pass *p, float *dy, uint32_t lddy, bool masked)
{
    if (drops(p))
        multiply(p->rows, p->t->out, p->c->scratch + p->t->keep, dy, lddy);
    activation_back(p, dy, lddy, masked);
    if (p->t->norm == FC_NORM_BATCH)
        batch_norm_backward(p, dy, lddy);
    else if (p->t->norm == FC_NORM_LAYER)
        layer_norm_backward(p, dy, lddy);
}
