// SPDX-License-Identifier: Apache-2.0
// The twin of fc_pass.c: the same in the plainest way, in double.
#include <math.h>

#include "base/hash.h"
#include "models/fc.h"

struct moments {
    double mean, var;
};

// Of n numbers that stand `step` apart.
static struct moments moments_of(const double *x, uint32_t n, uint32_t step)
{
    struct moments m = {0};
    for (size_t i = 0; i < n; i++)
        m.mean += x[i * step] / n;
    for (size_t i = 0; i < n; i++)
        m.var += (x[i * step] - m.mean) * (x[i * step] - m.mean) / n;
    return m;
}

static struct moments column_naive(const struct fc_pass *p, const double *z, uint32_t j, size_t mean,
                                   size_t var)
{
    if (p->c->dense && p->rows > 1)
        return moments_of(z + j, p->rows, p->t->out);
    return (struct moments){(double)p->c->params[mean + j], (double)p->c->params[var + j]};
}

static void norm_naive(const struct fc_pass *p, double *z)
{
    const struct fc_layer *t = p->t;
    const uint32_t dim = t->out;
    for (uint32_t j = 0; j < dim && t->norm == FC_NORM_BATCH; j++) {
        const struct moments m = column_naive(p, z, j, t->mean, t->var);
        for (size_t i = 0; i < p->rows; i++)
            z[i * dim + j] = (z[i * dim + j] - m.mean) / sqrt(m.var + p->fc->eps);
    }
    for (size_t i = 0; i < p->rows && t->norm == FC_NORM_LAYER; i++) {
        const struct moments m = moments_of(z + i * dim, dim, 1);
        for (uint32_t j = 0; j < dim; j++)
            z[i * dim + j] = (z[i * dim + j] - m.mean) / sqrt(m.var + p->fc->eps);
    }
    for (size_t i = 0; i < (size_t)p->rows * dim; i++)
        z[i] = z[i] * (double)p->c->params[t->gamma + i % dim] + (double)p->c->params[t->beta + i % dim];
}

static void dice_naive(const struct fc_pass *p, double *z)
{
    const struct fc_layer *t = p->t;
    for (uint32_t j = 0; j < t->out; j++) {
        const struct moments m = column_naive(p, z, j, t->dice_mean, t->dice_var);
        const double alpha = (double)p->c->params[t->alpha + j];
        for (size_t i = 0; i < p->rows; i++) {
            double *x = &z[i * t->out + j];
            const double g = 1 / (1 + exp(-(*x - m.mean) / sqrt(m.var + 1e-9)));
            *x *= g + alpha * (1 - g);
        }
    }
}

static void activate_naive(const struct fc_pass *p, double *z)
{
    const struct fc_layer *t = p->t;
    if (t->f == FC_DICE) {
        dice_naive(p, z);
        return;
    }
    for (size_t i = 0; i < (size_t)p->rows * t->out; i++)
        if (t->f == FC_PRELU)
            z[i] = fmax(z[i], 0) + (double)p->c->params[t->alpha] * fmin(z[i], 0);
        else
            z[i] = activation_naive((enum activation)t->f, z[i]);
}

// Whether unit k of the sample is kept.
static bool kept_naive(const struct fc_pass *p, uint32_t sample, uint64_t k)
{
    const uint64_t seed = hash_mix(layer_seed(p->l, p->c, sample) + p->at), word = UINT64_C(1) << 32;
    uint64_t h = (k * 0x9e3779b9 + seed) % word;
    h = ((h ^ h / 65536) * 0x7feb352d + seed / word) % word;
    h = (h ^ h / 32768) * 0x846ca68b % word;
    return (double)(h ^ h / 65536) >= floor(p->t->dropout * 4294967296.0);
}

static void drop_naive(const struct fc_pass *p, double *z)
{
    const uint32_t dim = p->t->out;
    uint32_t sample = 0;
    for (uint32_t i = 0, first = 0; i < p->rows; i++) {
        while (p->offsets != NULL && i >= p->offsets[sample + 1])
            first = p->offsets[++sample];
        if (p->offsets == NULL)
            first = sample = i;
        for (uint32_t j = 0; j < dim; j++) {
            double *x = &z[(size_t)i * dim + j];
            *x = kept_naive(p, sample, (uint64_t)(i - first) * dim + j) ? *x / (1 - p->t->dropout) : 0;
        }
    }
}

void fc_pass_naive(const struct fc_pass *p, double *z)
{
    const struct fc_layer *t = p->t;
    for (size_t i = 0; i < (size_t)p->rows * t->out; i++)
        z[i] += (double)p->c->params[t->bias + i % t->out];
    if (t->norm != FC_NORM_NONE)
        norm_naive(p, z);
    activate_naive(p, z);
    if (t->dropout > 0 && p->c->training && p->c->seeds != NULL)
        drop_naive(p, z);
}
