// SPDX-License-Identifier: Apache-2.0
// From a block to its layers: options against the kind's table, names to values, a concat before whatever takes
// one value and is given several.
//
//     in:  | of ...                  | inputs of option 0 | inputs of option 1 | ...
//          | one_input: one of them  | LAYER_INPUT: one   |
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "models/plan.h"

struct building {
    struct net *n;
    const struct net_block *block;
    const struct layer_kind *kind;
    struct layer_setting *settings;
    struct value *in[NET_OF_MAX];
    uint32_t n_in, n_of;
    struct value *read[2 * NET_OF_MAX]; // as the spec says
    uint32_t n_read;
    const struct layer_split *split;
    struct err *err;
};

static int build_fail(const struct building *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int build_fail(const struct building *b, const char *fmt, ...)
{
    char text[800];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return err_set(b->err, ERR_CONFIG, "block \"%s\": %s", b->block->name, text);
}

// ---- layers -----------------------------------------------------------------------------------------------

static const struct value *entries_of(const struct layer *l)
{
    return l->out->ragged ? l->out->offsets_of : NULL;
}

struct layer *net_layer_add(struct net *n, const struct layer_kind *kind, const struct net_block *block,
                            struct value *const *in, uint32_t n_in, uint32_t n_of)
{
    struct layer *l = &n->layers[n->n_layers++];
    *l = (struct layer){.kind = kind, .block = block, .n_in = n_in, .n_of = n_of, .net = n};
    l->params = n->n_floats;
    l->implicit = true;
    l->stochastic = kind->stochastic;
    l->in = mem_array(n_in + 1, sizeof(struct value *));
    memcpy(l->in, in, n_in * sizeof(struct value *));
    l->beta = mem_array(n_in + 1, sizeof *l->beta);
    l->settings = mem_array(NET_OPTIONS_MAX, sizeof *l->settings);
    l->out = net_value_add(n, block != NULL ? block->name : in[0]->name);
    l->out->layer = l;
    return l;
}

// What the value takes over from what its layer reads.
static void layer_inherit(struct layer *l)
{
    struct value *out = l->out;
    out->shared = l->n_in > 0;
    out->from_params = l->n_params > 0;
    for (uint32_t i = 0; i < l->n_in; i++) {
        const struct value *in = l->in[i];
        out->from_ids |= in->from_ids && !l->kind->stops;
        out->from_params |= in->from_params && !l->kind->stops;
        out->sides |= in->sides;
        out->shared = out->shared && in->shared;
    }
}

// A layer of the block itself, or one before it.
static struct layer *layer_add(const struct building *b, const struct layer_kind *kind,
                               struct value *const *in, uint32_t n_in, uint32_t n_of)
{
    struct net *n = b->n;
    struct layer *l = net_layer_add(n, kind, b->block, in, n_in, n_of);
    l->implicit = kind != b->kind;
    l->seed = hash_bytes(b->block->name, strlen(b->block->name));
    if (!l->implicit) {
        memcpy(l->settings, b->settings, NET_OPTIONS_MAX * sizeof *l->settings);
        l->split = b->split;
        l->read = mem_array(b->n_read + 1, sizeof(struct value *));
        memcpy(l->read, b->read, b->n_read * sizeof(struct value *));
        l->n_read = b->n_read;
    }
    if (kind->shape(l, b->err) < 0)
        return NULL;
    l->out->offsets_of = entries_of(l);
    n->n_floats += l->n_params;
    layer_inherit(l);
    return l->out->shared && l->stochastic && !n->spec.predicts ? net_unshare(n, l) : l;
}

// What is of the request is given to each of its samples, from input `from` on, if something else is not.
static void build_expand(struct building *b, uint32_t from)
{
    bool shared = true;
    for (uint32_t i = from; i < b->n_in; i++)
        shared = shared && b->in[i]->shared;
    for (uint32_t i = from; i < b->n_in && !shared; i++)
        if (b->split == NULL || i != 1)
            b->in[i] = net_expand(b->n, b->in[i]);
}

// The inputs from `from` on become one.
static int build_join(struct building *b, uint32_t from)
{
    if (b->n_in - from <= 1)
        return 0;
    build_expand(b, from);
    const struct layer *joined = layer_add(b, &layer_concat, b->in + from, b->n_in - from, b->n_in - from);
    if (joined == NULL)
        return -1;
    b->in[from] = joined->out;
    b->n_in = from + 1;
    return 0;
}

// All inputs become two, where something is gained by it.
static int build_split(struct building *b)
{
    struct value *parts[2][NET_OF_MAX];
    uint32_t n[2];
    struct layer_split *split = net_split(b->n, b->in, b->n_in, parts, n);
    if (split == NULL)
        return build_join(b, 0);
    for (uint32_t p = 0; p < 2; p++) {
        const struct layer *joined = n[p] > 1 ? layer_add(b, &layer_concat, parts[p], n[p], n[p]) : NULL;
        if (n[p] > 1 && joined == NULL)
            return -1;
        b->in[p] = joined != NULL ? joined->out : parts[p][0];
        split->dim[p] = b->in[p]->dim;
    }
    b->n_in = 2;
    b->split = split;
    return 0;
}

static int build_input(struct building *b, const char *name)
{
    if (b->n_in == NET_OF_MAX)
        return build_fail(b, "it has more than %d inputs", NET_OF_MAX);
    struct value *v = net_value_need(b->n, name, "block", b->block->name, b->err);
    if (v == NULL)
        return -1;
    b->in[b->n_in++] = v;
    if (b->n_read < 2 * NET_OF_MAX)
        b->read[b->n_read++] = v;
    return 0;
}

// ---- options ----------------------------------------------------------------------------------------------

static int read_dims(const struct building *b, const struct layer_option *o, const struct layer_value *v,
                     struct layer_setting *s)
{
    for (; s->n < NET_DIMS_MAX && v->dims[s->n] != 0; s->n++) {
        if (!(v->dims[s->n] >= o->min && v->dims[s->n] <= o->max))
            return build_fail(b, "%s: %u is not %g to %g", o->name, v->dims[s->n], o->min, o->max);
        s->dims[s->n] = v->dims[s->n];
    }
    if (s->n == 0)
        return build_fail(b, "%s takes 1 to %d counts from 1 on", o->name, NET_DIMS_MAX);
    return 0;
}

// The place of a word in "a|b|c", or -1.
static int choice_of(const char *choices, const char *word)
{
    const size_t len = strlen(word);
    int at = 0;
    for (const char *c = choices;; c += strcspn(c, "|") + 1, at++) {
        if (strcspn(c, "|") == len && memcmp(c, word, len) == 0)
            return at;
        if (strchr(c, '|') == NULL)
            return -1;
    }
}

static int read_choice(const struct building *b, const struct layer_option *o, const struct layer_value *v,
                       struct layer_setting *s)
{
    const char *word = v->text != NULL ? v->text : "";
    const int at = choice_of(o->choices, word);
    if (at < 0)
        return build_fail(b, "%s is \"%s\", but must be one of %s", o->name, word, o->choices);
    s->number = at;
    return 0;
}

static int read_inputs(struct building *b, const struct layer_option *o, const struct layer_value *v,
                       struct layer_setting *s)
{
    char name[NET_NAME];
    int used = 0;
    s->at = b->n_in;
    for (const char *text = v->text != NULL ? v->text : ""; sscanf(text, "%63s%n", name, &used) == 1;
         text += used)
        if (build_input(b, name) < 0)
            return -1;
    if (b->n_in == s->at)
        return build_fail(b, "%s names nothing", o->name);
    if (o->type == LAYER_INPUT && build_join(b, s->at) < 0)
        return -1;
    s->n = b->n_in - s->at;
    return 0;
}

static int read_number(const struct building *b, const struct layer_option *o, const struct layer_value *v,
                       struct layer_setting *s)
{
    if (!(v->number >= o->min && v->number <= o->max))
        return build_fail(b, "%s is %g, but must be %g to %g", o->name, v->number, o->min, o->max);
    if (o->type == LAYER_COUNT && v->number != floor(v->number))
        return build_fail(b, "%s is %g, but must be a whole number", o->name, v->number);
    s->number = v->number;
    return 0;
}

static int read_option(struct building *b, const struct layer_option *o, const struct layer_value *v,
                       struct layer_setting *s)
{
    *s = (struct layer_setting){.number = o->type == LAYER_CHOICE ? 0 : o->fallback};
    if (v == NULL)
        return o->required ? build_fail(b, "%s needs \"%s\"", b->kind->name, o->name) : 0;
    switch (o->type) {
    case LAYER_NUMBER:
    case LAYER_COUNT:
        return read_number(b, o, v, s);
    case LAYER_FLAG:
        s->number = v->number != 0;
        return 0;
    case LAYER_DIMS:
        return read_dims(b, o, v, s);
    case LAYER_CHOICE:
        return read_choice(b, o, v, s);
    case LAYER_PAIRS: // by the layer, which knows its fields
        return 0;
    case LAYER_INPUT:
    case LAYER_INPUTS:
        return read_inputs(b, o, v, s);
    }
    return -1;
}

static const struct layer_value *value_given(const struct net_block *block, const char *name)
{
    const struct layer_value *v = block->options;
    while (v->name != NULL && strcmp(v->name, name) != 0)
        v++;
    return v->name != NULL ? v : NULL;
}

static int options_check(const struct building *b)
{
    const struct net_kind kind = net_kind_find(b->kind->name);
    for (const struct layer_value *v = b->block->options; v->name != NULL; v++) {
        if (value_given(b->block, v->name) != v)
            return build_fail(b, "\"%s\" is given twice", v->name);
        if (net_kind_option(&kind, v->name) != NULL)
            continue;
        struct nearest near;
        nearest_init(&near, v->name);
        for (const struct layer_option *o = kind.options; o->name != NULL; o++)
            nearest_put(&near, o->name);
        return build_fail(b, "%s has no option \"%s\"%s", kind.name, v->name, nearest_hint(&near));
    }
    return 0;
}

static int options_read(struct building *b)
{
    const struct net_kind kind = net_kind_find(b->kind->name);
    if (options_check(b) < 0)
        return -1;
    for (uint32_t i = 0; kind.options[i].name != NULL; i++)
        if (read_option(b, &kind.options[i], value_given(b->block, kind.options[i].name), &b->settings[i]) <
            0)
            return -1;
    return 0;
}

// ---- a block ----------------------------------------------------------------------------------------------

static const struct layer_kind *kind_find(const struct net_block *block, struct err *err)
{
    struct nearest near;
    nearest_init(&near, block->kind);
    for (const struct layer_kind *const *k = layer_kinds; *k != NULL; k++) {
        if (strcmp((*k)->name, block->kind) == 0)
            return *k;
        nearest_put(&near, (*k)->name);
    }
    err_set(err, ERR_CONFIG, "block \"%s\": no layer kind \"%s\"%s", block->name, block->kind,
            nearest_hint(&near));
    return NULL;
}

static int block_check(const struct net *n, const struct net_block *block, struct err *err)
{
    if (net_name_check("block", block->name, false, err) < 0)
        return -1;
    if (net_value_find(n, block->name) != NULL)
        return err_set(err, ERR_CONFIG, "block \"%s\": an input or an earlier block has this name",
                       block->name);
    if (block->n_of == 0 || block->n_of > NET_OF_MAX)
        return err_set(err, ERR_CONFIG, "block \"%s\" must be of 1 to %d names, not %u", block->name,
                       NET_OF_MAX, block->n_of);
    if (block->side != 0 && block->side != NET_USER && block->side != NET_ITEM)
        return err_set(err, ERR_CONFIG, "block \"%s\": a tower is of the user or of the item", block->name);
    return 0;
}

int net_block_add(struct net *n, uint32_t at, struct err *err)
{
    struct layer_setting settings[NET_OPTIONS_MAX] = {0};
    struct building b = {.n = n, .block = &n->blocks[at], .settings = settings, .err = err};
    if (block_check(n, b.block, err) < 0 || (b.kind = kind_find(b.block, err)) == NULL)
        return -1;
    for (uint32_t i = 0; i < b.block->n_of; i++)
        if (build_input(&b, b.block->of[i]) < 0)
            return -1;
    if (b.kind->one_input && (b.kind->splits ? build_split(&b) : build_join(&b, 0)) < 0)
        return -1;
    b.n_of = b.n_in;
    if (options_read(&b) < 0)
        return -1;
    build_expand(&b, 0);
    const struct layer *l = layer_add(&b, b.kind, b.in, b.n_in, b.n_of);
    if (l == NULL)
        return -1;
    n->block_values[at] = l->out;
    return 0;
}

// ---- for the kinds' `shape` -------------------------------------------------------------------------------

int layer_fail(const struct layer *l, struct err *err, const char *fmt, ...)
{
    char text[800];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return err_set(err, ERR_CONFIG, "block \"%s\": %s", l->block->name, text);
}

void *layer_alloc(struct layer *l, size_t count, size_t size)
{
    void *p = arena_alloc(&l->net->memory, count * size, _Alignof(max_align_t));
    memset(p, 0, count * size);
    return p;
}

void layer_rows_as(struct layer *l, const struct value *v)
{
    l->out->ragged = v->ragged;
    l->out->offsets_of = v->offsets_of;
    l->out->rows_max = v->rows_max;
}

int layer_same_entries(const struct layer *l, const struct value *a, const struct value *b, struct err *err)
{
    if (a->ragged && b->ragged && a->offsets_of == b->offsets_of)
        return 0;
    return layer_fail(l, err, "\"%s\" and \"%s\" are not sequences of the same entries", a->name, b->name);
}

struct layer_init init_fan_in(uint32_t fan_in)
{
    return (struct layer_init){.spread = 1 / sqrt(fan_in)};
}

struct layer_init init_constant(double x)
{
    return (struct layer_init){.center = x};
}

struct layer_init init_xavier_uniform(uint32_t fan_in, uint32_t fan_out)
{
    return (struct layer_init){.spread = sqrt(6.0 / ((double)fan_in + fan_out))};
}

struct layer_init init_xavier_normal(uint32_t fan_in, uint32_t fan_out)
{
    return (struct layer_init){.spread = sqrt(2.0 / ((double)fan_in + fan_out)), .normal = true};
}

struct layer_init init_by(const struct net_init_by *by, const struct net_param *p, struct layer_init own)
{
    switch (p->vector ? NET_INIT_OWN : by->rule) {
    case NET_INIT_XAVIER_UNIFORM:
        return init_xavier_uniform(p->cols, p->rows);
    case NET_INIT_XAVIER_NORMAL:
        return init_xavier_normal(p->cols, p->rows);
    case NET_INIT_KAIMING_UNIFORM:
        return (struct layer_init){.spread = sqrt(6.0 / p->cols)};
    case NET_INIT_KAIMING_NORMAL:
        return (struct layer_init){.spread = sqrt(2.0 / p->cols), .normal = true};
    case NET_INIT_ZEROS:
        return init_constant(0);
    case NET_INIT_NORMAL:
        return (struct layer_init){.spread = by->x, .normal = true};
    case NET_INIT_UNIFORM:
        return (struct layer_init){.spread = by->x};
    case NET_INIT_CONSTANT:
        return init_constant(by->x);
    case NET_INIT_OWN:
        break;
    }
    return own;
}

static size_t declare(struct layer *l, const char *suffix, struct net_param p, struct layer_init init)
{
    p.lr = l->block->lr;
    if (p.trainable)
        init = init_by(&l->block->init, &p, init);
    const size_t offset = l->n_params;
    p.offset = l->params + offset;
    l->n_params += net_param_add(l->net, l->block->name, suffix, &p, init);
    return offset;
}

size_t layer_param(struct layer *l, const char *suffix, uint32_t rows, uint32_t cols, struct layer_init init)
{
    return declare(l, suffix, (struct net_param){.rows = rows, .cols = cols, .trainable = true}, init);
}

size_t layer_param_parts(struct layer *l, const char *suffix, uint32_t rows, uint32_t cols, uint32_t part,
                         struct layer_init init)
{
    const struct net_param p = {.rows = rows, .cols = cols, .part = part, .trainable = true};
    return declare(l, suffix, p, init);
}

size_t layer_vector(struct layer *l, const char *suffix, uint32_t n, struct layer_init init)
{
    const struct net_param p = {.rows = n, .cols = 1, .vector = true, .trainable = true};
    return declare(l, suffix, p, init);
}

size_t layer_buffer(struct layer *l, const char *suffix, uint32_t n, struct layer_init init)
{
    return declare(l, suffix, (struct net_param){.rows = n, .cols = 1, .vector = true}, init);
}
