// SPDX-License-Identifier: Apache-2.0
// From feature rows to the model's columns: an input of the net is a feature of the config (feature_net.c).
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "daemon/features.h"

struct column {
    uint32_t feature;
    enum net_input_kind kind;
    uint64_t *ids;
    uint32_t n_ids, cap_ids;
    uint32_t *offsets;
    float *numbers;
};

struct columns {
    uint32_t n, cap; // samples
    uint32_t n_inputs, n_heads;
    uint64_t missing; // hash_id of ""
    struct column column[CONFIG_FEATURES_MAX];
    float *labels[CONFIG_HEADS_MAX];
    float *weights[CONFIG_HEADS_MAX];
    bool weighted; // some weight is not 1
    uint32_t *seen_s;
    struct model_samples samples;
    const uint64_t *ids[CONFIG_FEATURES_MAX];
    const uint32_t *offsets[CONFIG_FEATURES_MAX];
    const float *numbers[CONFIG_FEATURES_MAX];
    const float *label_ptrs[CONFIG_HEADS_MAX];
    const float *weight_ptrs[CONFIG_HEADS_MAX];
};

struct columns *columns_new(const struct config *config)
{
    struct columns *c = mem_zalloc(sizeof *c);
    struct features_net net;
    features_net_new(config, &net);
    c->n_inputs = net.spec.n_inputs;
    c->n_heads = net.spec.n_heads;
    c->missing = hash_id(str_of(""));
    for (uint32_t i = 0; i < c->n_inputs; i++)
        c->column[i] = (struct column){.feature = net.inputs_of[i], .kind = net.spec.inputs[i].kind};
    features_net_done(&net);
    return c;
}

void columns_free(struct columns *c)
{
    if (c == NULL)
        return;
    for (uint32_t i = 0; i < c->n_inputs; i++) {
        free(c->column[i].ids);
        free(c->column[i].offsets);
        free(c->column[i].numbers);
    }
    for (uint32_t h = 0; h < c->n_heads; h++) {
        free(c->labels[h]);
        free(c->weights[h]);
    }
    free(c->seen_s);
    free(c);
}

void columns_clear(struct columns *c)
{
    c->n = 0;
    c->weighted = false;
    for (uint32_t i = 0; i < c->n_inputs; i++)
        c->column[i].n_ids = 0;
}

static void columns_grow(struct columns *c)
{
    c->cap = c->cap > 0 ? 2 * c->cap : 1024;
    for (uint32_t i = 0; i < c->n_inputs; i++) {
        struct column *k = &c->column[i];
        if (k->kind == NET_INPUT_NUMBER)
            k->numbers = mem_resize(k->numbers, c->cap, sizeof *k->numbers);
        if (k->kind == NET_INPUT_SEQUENCE)
            k->offsets = mem_resize(k->offsets, (size_t)c->cap + 1, sizeof *k->offsets);
    }
    for (uint32_t h = 0; h < c->n_heads; h++) {
        c->labels[h] = mem_resize(c->labels[h], c->cap, sizeof *c->labels[h]);
        c->weights[h] = mem_resize(c->weights[h], c->cap, sizeof *c->weights[h]);
    }
    c->seen_s = mem_resize(c->seen_s, c->cap, sizeof *c->seen_s);
}

static uint64_t *column_ids(struct column *k, uint32_t n)
{
    while (k->n_ids + n > k->cap_ids) {
        k->cap_ids = k->cap_ids > 0 ? 2 * k->cap_ids : 1024;
        k->ids = mem_resize(k->ids, k->cap_ids, sizeof *k->ids);
    }
    uint64_t *to = k->ids + k->n_ids;
    k->n_ids += n;
    return to;
}

// An entry without a category has the id of what is missing.
static void column_put_sequence(const struct columns *c, uint64_t *to, const struct feature_value *v)
{
    for (uint32_t i = 0; i < v->n; i++) {
        uint64_t id = feature_value_id(v, i);
        to[i] = id != 0 ? id : c->missing;
    }
}

void columns_put(struct columns *c, const struct feature_row *row, int64_t seen_ms, const float *labels,
                 const float *weights)
{
    if (c->n == c->cap)
        columns_grow(c);
    for (uint32_t i = 0; i < c->n_inputs; i++) {
        struct column *k = &c->column[i];
        const struct feature_value *v = &row->values[k->feature];
        switch (k->kind) {
        case NET_INPUT_ID:
            *column_ids(k, 1) = v->id;
            break;
        case NET_INPUT_SEQUENCE:
            k->offsets[c->n] = k->n_ids;
            if (v->n > 0)
                column_put_sequence(c, column_ids(k, v->n), v);
            k->offsets[c->n + 1] = k->n_ids;
            break;
        case NET_INPUT_NUMBER:
            k->numbers[c->n] = (float)v->number;
            break;
        }
    }
    for (uint32_t h = 0; h < c->n_heads; h++) {
        c->labels[h][c->n] = labels == NULL ? 0 : labels[h];
        c->weights[h][c->n] = weights == NULL ? 1 : weights[h];
        c->weighted |= c->weights[h][c->n] != 1;
    }
    c->seen_s[c->n] = (uint32_t)(seen_ms / 1000);
    c->n++;
}

const struct model_samples *columns_samples(struct columns *c)
{
    for (uint32_t i = 0; i < c->n_inputs; i++) {
        c->ids[i] = c->column[i].ids;
        c->offsets[i] = c->column[i].kind == NET_INPUT_SEQUENCE ? c->column[i].offsets : NULL;
        c->numbers[i] = c->column[i].numbers;
    }
    for (uint32_t h = 0; h < c->n_heads; h++) {
        c->label_ptrs[h] = c->labels[h];
        c->weight_ptrs[h] = c->weights[h];
    }
    c->samples = (struct model_samples){.n = c->n,
                                        .ids = c->ids,
                                        .offsets = c->offsets,
                                        .numbers = c->numbers,
                                        .labels = c->label_ptrs,
                                        .weights = c->weighted ? c->weight_ptrs : NULL,
                                        .seen_s = c->seen_s};
    return &c->samples;
}
