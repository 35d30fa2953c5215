// SPDX-License-Identifier: Apache-2.0
#include "daemon/norms.h"

#include <math.h>

static const double PRIOR = 20; // samples that the mean of all counts for

uint32_t norms_bucket(double length_ms)
{
    int exponent;
    if (!(length_ms > 0)) // NaN too
        return 0;
    const double seconds = length_ms / 1000,
                 fraction = frexp(seconds, &exponent); // fraction * 2^exponent, 0.5 to 1
    const int half = 2 * (exponent + 2) + (fraction >= 0.70710678118654752) + 2; // 0.125 s: 2
    if (!isfinite(seconds) || half >= NORMS_BUCKETS)
        return NORMS_BUCKETS - 1;
    return half < 1 ? 1 : (uint32_t)half;
}

static double length_of(const struct config *config, uint32_t head, const struct feature_row *row)
{
    const struct feature_value *v = &row->values[config->model.heads[head].length];
    return v->type == FEATURE_NUMBER ? v->number : 0;
}

void norms_put(struct norms *n, const struct config *config, const struct feature_row *row,
               const float *labels, const float *weights)
{
    for (uint32_t k = 0; k < config->model.n_norms; k++) {
        const uint32_t h = config->model.norms[k], bucket = norms_bucket(length_of(config, h, row));
        const double weight = (double)weights[h];
        n->heads[h].sum[bucket] += fabs(weight) * (double)labels[h];
        n->heads[h].n[bucket] += weight > 0 ? weight : 0;
    }
}

double norms_of(const struct norms *n, const struct config *config, uint32_t head,
                const struct feature_row *row)
{
    const struct norm *norm = &n->heads[head];
    const uint32_t bucket = norms_bucket(length_of(config, head, row));
    double sum = 0, samples = 0;
    for (uint32_t b = 0; b < NORMS_BUCKETS; b++) {
        sum += norm->sum[b];
        samples += norm->n[b];
    }
    const double mean = samples > 0 ? sum / samples : 0;
    return (norm->sum[bucket] + PRIOR * mean) / (norm->n[bucket] + PRIOR);
}

// ---- in the store -------------------------------------------------------------------------------------

void norms_save(const struct norms *n, const struct config *config, struct buf *to)
{
    for (uint32_t k = 0; k < config->model.n_norms; k++) {
        const struct config_head *head = &config->model.heads[config->model.norms[k]];
        const struct norm *norm = &n->heads[config->model.norms[k]];
        buf_put_str(to, str_of(head->name));
        buf_put_str(to, str_of(config->features[head->length].name));
        for (uint32_t b = 0; b < NORMS_BUCKETS; b++) {
            buf_put_f64(to, norm->sum[b]);
            buf_put_f64(to, norm->n[b]);
        }
    }
}

static struct norm *norm_find(struct norms *n, const struct config *config, struct str head,
                              struct str length)
{
    for (uint32_t k = 0; k < config->model.n_norms; k++) {
        const struct config_head *h = &config->model.heads[config->model.norms[k]];
        if (str_is(head, h->name) && str_is(length, config->features[h->length].name))
            return &n->heads[config->model.norms[k]];
    }
    return NULL;
}

int norms_load(struct norms *n, const struct config *config, struct str blob, struct err *err)
{
    struct rd r = rd_of(blob.s, blob.len);
    while (rd_left(&r) > 0) {
        struct norm read;
        const struct str head = rd_str(&r), length = rd_str(&r);
        for (uint32_t b = 0; b < NORMS_BUCKETS; b++) {
            read.sum[b] = rd_f64(&r);
            read.n[b] = rd_f64(&r);
        }
        if (r.bad)
            return err_set(err, ERR_CORRUPT, "the store's means by length are cut short");
        struct norm *norm = norm_find(n, config, head, length);
        if (norm != NULL)
            *norm = read;
    }
    return 0;
}
