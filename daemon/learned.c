// SPDX-License-Identifier: Apache-2.0
#include "daemon/learned.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static void quantiles_name(const struct config_feature *f, char name[MODEL_FILE_NAME])
{
    snprintf(name, MODEL_FILE_NAME, "quantiles.%s.%u", f->name, f->quantiles);
}

static void norms_name(const struct config *config, uint32_t head, const char *part,
                       char name[MODEL_FILE_NAME])
{
    const struct config_head *h = &config->model.heads[head];
    snprintf(name, MODEL_FILE_NAME, "norms.%s.%s.%s", h->name, config->features[h->length].name, part);
}

uint32_t learned_tensors(const struct features *f, const struct config *config,
                         const struct quantiles *coming, const struct norms *norms,
                         struct learned_tensor *ret_tensors)
{
    struct learned_tensor *t = ret_tensors;
    for (uint32_t i = 0; i < config->n_features; i++)
        if (config->features[i].quantiles > 0 && features_quantiles_next(f, coming, i, &t->data, &t->n))
            quantiles_name(&config->features[i], t++->name);
    for (uint32_t k = 0; k < config->model.n_norms; k++) {
        const uint32_t head = config->model.norms[k];
        const struct norm *norm = &norms->heads[head];
        t[0] = (struct learned_tensor){.n = NORMS_BUCKETS, .data = norm->sum};
        t[1] = (struct learned_tensor){.n = NORMS_BUCKETS, .data = norm->n};
        norms_name(config, head, "sum", t[0].name);
        norms_name(config, head, "samples", t[1].name);
        t += 2;
    }
    return (uint32_t)(t - ret_tensors);
}

struct safetensor learned_head(const struct learned_tensor *t)
{
    return (struct safetensor){
        .name = t->name, .type = SAFETENSOR_F64, .n_dims = 1, .shape = {t->n}, .data = t->data};
}

void learned_put(const struct features *f, const struct config *config, const struct quantiles *coming,
                 const struct norms *norms, struct buf *to)
{
    struct learned_tensor *tensors = mem_array(LEARNED_MAX, sizeof *tensors);
    struct safetensor *heads = mem_array(LEARNED_MAX, sizeof *heads);
    const uint32_t n = learned_tensors(f, config, coming, norms, tensors);
    for (uint32_t i = 0; i < n; i++)
        heads[i] = learned_head(&tensors[i]);
    if (n > 0)
        safetensors_put(to, heads, n);
    free(heads);
    free(tensors);
}

// ---- from a file ------------------------------------------------------------------------------------------

static int edges_read(struct tensor *t, const struct config_feature *f, double edges[CONFIG_EDGES_MAX],
                      uint32_t *ret_n, struct err *err)
{
    // Fewer than N - 1, where edges were equal.
    uint64_t n = t->n_dims == 1 ? t->shape[0] : f->quantiles - 1;
    n = n < f->quantiles ? n : f->quantiles - 1;
    t->taken = true;
    if (tensor_check(t, "F64", 1, &n, err) != 0 || tensor_check_finite(t, err) != 0)
        return -1;
    memcpy(edges, t->data, n * sizeof *edges);
    for (uint64_t i = 1; i < n; i++)
        if (edges[i] <= edges[i - 1])
            return err_set(err, ERR_INVALID, "tensor \"%.80s\" does not ascend at place %llu", t->name,
                           (unsigned long long)i);
    *ret_n = (uint32_t)n;
    return 0;
}

static int quantiles_read(const struct tensors *file, const struct config *config,
                          struct quantiles **quantiles, struct err *err)
{
    char name[MODEL_FILE_NAME];
    double edges[CONFIG_EDGES_MAX];
    for (uint32_t i = 0, n = 0; i < config->n_features; i++) {
        quantiles_name(&config->features[i], name);
        struct tensor *t = config->features[i].quantiles > 0 ? tensors_find(file, name) : NULL;
        if (t == NULL)
            continue;
        if (edges_read(t, &config->features[i], edges, &n, err) != 0)
            return -1;
        features_quantiles_set(quantiles, i, edges, n);
    }
    return 0;
}

static int norm_part_read(struct tensor *t, double to[NORMS_BUCKETS], struct err *err)
{
    const uint64_t shape = NORMS_BUCKETS;
    t->taken = true;
    if (tensor_check(t, "F64", 1, &shape, err) != 0 || tensor_check_finite(t, err) != 0)
        return -1;
    memcpy(to, t->data, NORMS_BUCKETS * sizeof *to);
    return 0;
}

static int norm_read(const struct tensors *file, const struct config *config, uint32_t head,
                     struct norm *norm, struct err *err)
{
    char sum_name[MODEL_FILE_NAME], samples_name[MODEL_FILE_NAME];
    struct norm read;
    norms_name(config, head, "sum", sum_name);
    norms_name(config, head, "samples", samples_name);
    struct tensor *sum = tensors_find(file, sum_name), *samples = tensors_find(file, samples_name);
    if (sum == NULL && samples == NULL)
        return 0;
    if (sum == NULL || samples == NULL)
        return err_set(err, ERR_INVALID, "tensor \"%s\" is missing: sums and samples come together",
                       sum == NULL ? sum_name : samples_name);
    if (norm_part_read(sum, read.sum, err) != 0 || norm_part_read(samples, read.n, err) != 0)
        return -1;
    if (tensor_check_positive(samples, err) != 0)
        return -1;
    *norm = read;
    return 0;
}

int learned_read(const struct tensors *file, const struct config *config, struct norms *norms,
                 struct quantiles **quantiles, struct err *err)
{
    for (uint32_t k = 0; k < config->model.n_norms; k++) {
        const uint32_t head = config->model.norms[k];
        if (norm_read(file, config, head, &norms->heads[head], err) != 0)
            return -1;
    }
    return quantiles_read(file, config, quantiles, err);
}
