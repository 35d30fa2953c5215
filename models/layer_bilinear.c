// SPDX-License-Identifier: Apache-2.0
// bilinear: crosses pairs (i, j) of fields by a learned matrix (Huang et al., FiBiNET, RecSys 2019), as FuxiCTR's
// BilinearInteraction.
//
//     h = W x_i                                    (B, D_j), W (D_j, D_i)
//     hadamard:  y_ij = h o x_j                    (B, D), fields of one width
//     dot:       y_ij = h . x_j = x_j^T W x_i      (B, 1)
//     W:         interaction  one of each pair; each  one of each field that stands left; all  one
//
//     dh = dy o x_j (dot: dy x_j);  dx_j += dy o h;  dx_i += dh W;  dW += dh^T x_i
//
// Pairs are all, (0, 1), (0, 2), ..., (1, 2), ..., or those of `pairs`, in their order. W is of the first of a pair: what
// is written x_i o (W x_j) elsewhere is the pair (j, i).
// Parameters are as of nn.Linear without bias: "<block>.<p>.weight" of pair p, "<block>.<i>.weight" of field i,
// "<block>.weight" of all; FuxiCTR's bilinear_W holds the same, transposed.
//
// The cost is the products', 2 B D D a matrix, or 2 B D D m of `all`. The matrices of pairs with one left field that
// follow each other lie one below the other, and are one product:
//
//     (B, D) x_i  ->  | h of (i, i+1) | h of (i, i+2) | ...     a row of H
//
// With `hadamard` and `interaction` a row of y has the form of a row of H: pairs whose right fields lie side by side,
// as embeddings in a concat do, are one loop, and dH is dy itself. Scratch: | H (B, sum of h) | dH |.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/nearest.h"
#include "models/fields.h"
#include "models/gemm.h"
#include "models/kernel.h"

static const struct layer_option bilinear_options[] = {
    {"bilinear", LAYER_CHOICE, .choices = "interaction|each|all", .required = true,
     .text = "One matrix of each pair, of each field, or of all."},
    {"output", LAYER_CHOICE, .choices = "hadamard|dot", .text = "Of a pair: a vector, or its sum."},
    {"pairs", LAYER_PAIRS, .text = "Which pairs; all where it is not given."},
    {0},
};
enum { TYPE_INTERACTION, TYPE_EACH, TYPE_ALL };

// A part of a row of H: of one pair, or of one field.
struct hidden {
    uint32_t left;   // field
    uint32_t column; // in H
    uint32_t dim;
    size_t weight;
};

struct pair {
    uint32_t left, right, hidden;
};

// Pairs whose values lie side by side, as one.
struct term {
    const float *x;                       // of the right fields
    float *dx;                            // NULL: not wanted
    uint32_t stride, dim, hidden, column; // hidden: column in H; column: in y
};

// Matrices one below the other, from the same field.
struct product {
    uint32_t left, column, dim;
    size_t weight;
};

struct bilinear {
    struct fields fields;
    int type;
    bool dot;
    uint32_t n_pairs, n_hidden, n_products, n_terms;
    struct pair *pairs;
    struct hidden *hidden;
    struct product *products;
    struct term *terms;
    uint32_t width; // of H
};

// dH lies in dy.
static bool in_place(const struct bilinear *b)
{
    return b->type == TYPE_INTERACTION && !b->dot;
}

// ---- shape ------------------------------------------------------------------------------------------------

static int field_find(const struct layer *l, const struct fields *f, const char *name, struct err *err)
{
    struct nearest near;
    nearest_init(&near, name);
    for (uint32_t i = 0; i < f->n; i++) {
        if (strcmp(f->list[i].name, name) == 0)
            return (int)i;
        nearest_put(&near, f->list[i].name);
    }
    return layer_fail(l, err, "pairs: \"%s\" is none of its fields%s", name, nearest_hint(&near));
}

// Names in twos, with blanks between.
static int pairs_chosen(struct layer *l, struct bilinear *b, const char *text, struct err *err)
{
    char left[NET_NAME], right[NET_NAME];
    int used = 0;
    uint32_t most = 0;
    for (const char *at = text; sscanf(at, "%*s %*s%n", &used) == 0 && used > 0; at += used, used = 0)
        most++;
    b->pairs = layer_alloc(l, most + 1, sizeof *b->pairs);
    for (; sscanf(text, "%63s %63s%n", left, right, &used) == 2; text += used) {
        const int i = field_find(l, &b->fields, left, err),
                  j = i < 0 ? -1 : field_find(l, &b->fields, right, err);
        if (j < 0)
            return -1;
        b->pairs[b->n_pairs++] = (struct pair){.left = (uint32_t)i, .right = (uint32_t)j};
    }
    if (b->n_pairs == 0 || text[strspn(text, " ")] != 0)
        return layer_fail(l, err, "pairs takes names in twos");
    return 0;
}

static int pairs_init(struct layer *l, struct bilinear *b, struct err *err)
{
    const char *text = layer_pairs(l, "pairs");
    const uint32_t m = b->fields.n;
    if (text != NULL)
        return pairs_chosen(l, b, text, err);
    if (m < 2)
        return layer_fail(l, err, "bilinear takes 2 or more fields");
    b->pairs = layer_alloc(l, (size_t)m * (m - 1) / 2, sizeof *b->pairs);
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = i + 1; j < m; j++)
            b->pairs[b->n_pairs++] = (struct pair){.left = i, .right = j};
    return 0;
}

static uint32_t hidden_add(struct bilinear *b, uint32_t left, uint32_t dim, size_t weight)
{
    b->hidden[b->n_hidden] = (struct hidden){left, b->width, dim, weight};
    b->width += dim;
    return b->n_hidden++;
}

static size_t weight_declare(struct layer *l, int number, uint32_t rows, uint32_t cols)
{
    char suffix[NET_NAME] = "weight";
    if (number >= 0)
        snprintf(suffix, sizeof suffix, "%d.weight", number);
    return layer_param(l, suffix, rows, cols, init_xavier_normal(cols, rows));
}

static void hidden_by_pair(struct layer *l, struct bilinear *b)
{
    for (uint32_t p = 0; p < b->n_pairs; p++) {
        struct pair *pair = &b->pairs[p];
        const uint32_t in = b->fields.list[pair->left].dim, out = b->fields.list[pair->right].dim;
        pair->hidden = hidden_add(b, pair->left, out, weight_declare(l, (int)p, out, in));
    }
}

static void hidden_by_field(struct layer *l, struct bilinear *b)
{
    const uint32_t dim = b->fields.list[0].dim;
    const size_t shared = b->type == TYPE_ALL ? weight_declare(l, -1, dim, dim) : 0;
    for (uint32_t i = 0; i < b->fields.n; i++) {
        uint32_t hidden = UINT32_MAX;
        for (uint32_t p = 0; p < b->n_pairs; p++) {
            if (b->pairs[p].left != i)
                continue;
            if (hidden == UINT32_MAX)
                hidden =
                    hidden_add(b, i, dim, b->type == TYPE_ALL ? shared : weight_declare(l, (int)i, dim, dim));
            b->pairs[p].hidden = hidden;
        }
    }
}

static void products_init(struct bilinear *b)
{
    for (uint32_t i = 0; i < b->n_hidden; i++) {
        const struct hidden *h = &b->hidden[i];
        struct product *last = b->n_products > 0 ? &b->products[b->n_products - 1] : NULL;
        if (last != NULL && last->left == h->left)
            last->dim += h->dim;
        else
            b->products[b->n_products++] = (struct product){h->left, h->column, h->dim, h->weight};
    }
}

static int bilinear_shape(struct layer *l, struct err *err)
{
    struct bilinear *b = l->own = layer_alloc(l, 1, sizeof *b);
    b->type = layer_choice(l, "bilinear");
    b->dot = layer_choice(l, "output") == 1;
    if (fields_init(l, &b->fields, err) < 0 || pairs_init(l, b, err) < 0)
        return -1;
    if (!(b->dot && b->type == TYPE_INTERACTION) && fields_one_width(l, &b->fields, err) < 0)
        return -1;
    b->hidden = layer_alloc(l, b->n_pairs, sizeof *b->hidden);
    b->products = layer_alloc(l, b->n_pairs, sizeof *b->products);
    b->terms = layer_alloc(l, b->n_pairs, sizeof *b->terms);
    if (b->type == TYPE_INTERACTION)
        hidden_by_pair(l, b);
    else
        hidden_by_field(l, b);
    products_init(b);
    const uint64_t dim = b->dot ? b->n_pairs : (uint64_t)b->n_pairs * b->fields.list[0].dim;
    if (dim > INT32_MAX / 4)
        return layer_fail(l, err, "it is %llu wide, which is too much", (unsigned long long)dim);
    l->out->dim = (uint32_t)dim;
    l->scratch_floats = (in_place(b) ? 1 : 2) * (size_t)l->out->rows_max * b->width;
    return 0;
}

// ---- running ----------------------------------------------------------------------------------------------

static bool term_joins(const struct term *last, const struct term *t)
{
    return last->x + last->dim == t->x && last->stride == t->stride &&
           (last->dx == NULL) == (t->dx == NULL) && (t->dx == NULL || last->dx + last->dim == t->dx);
}

static void terms_read(struct bilinear *b)
{
    b->n_terms = 0;
    for (uint32_t p = 0, column = 0; p < b->n_pairs; p++) {
        const struct field *right = &b->fields.list[b->pairs[p].right];
        const struct hidden *h = &b->hidden[b->pairs[p].hidden];
        const struct term t = {right->x, right->dx, right->stride, right->dim, h->column, column};
        struct term *last = b->n_terms > 0 ? &b->terms[b->n_terms - 1] : NULL;
        if (last != NULL && in_place(b) && term_joins(last, &t))
            last->dim += t.dim;
        else
            b->terms[b->n_terms++] = t;
        column += b->dot ? 1 : right->dim;
    }
}

KERNEL static void forward_rows(uint32_t rows, const struct bilinear *b, const float *restrict h,
                                float *restrict y, uint32_t ldy)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t k = 0; k < b->n_terms; k++) {
            const struct term *t = &b->terms[k];
            const float *restrict x = t->x + i * t->stride, *restrict from = h + i * b->width + t->hidden;
            float *restrict to = y + i * ldy + t->column;
#define PRODUCT(d) (from[d] * x[d])
            if (b->dot)
                KERNEL_SUM(*to, t->dim, PRODUCT);
            else
                for (uint32_t d = 0; d < t->dim; d++)
                    to[d] = PRODUCT(d);
        }
}

static void bilinear_forward(const struct layer *l, const struct layer_context *c)
{
    struct bilinear *b = l->own;
    const uint32_t rows = l->out->rows;
    fields_read(l, &b->fields);
    terms_read(b);
    for (uint32_t i = 0; i < b->n_products; i++) {
        const struct product *p = &b->products[i];
        const struct field *left = &b->fields.list[p->left];
        packs_nt_ld(c->packs, rows, p->dim, left->dim, left->x, left->stride, c->params + p->weight,
                    c->scratch + p->column, b->width);
    }
    forward_rows(rows, b, c->scratch, l->out->x, l->out->stride);
}

// dx_j += dy o h, and dh = dy o x_j in the place of dy.
KERNEL static void backward_in_place(uint32_t rows, const struct bilinear *b, const float *restrict h,
                                     float *restrict dy, uint32_t lddy)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t k = 0; k < b->n_terms; k++) {
            const struct term *t = &b->terms[k];
            const float *restrict x = t->x + i * t->stride, *restrict from = h + i * b->width + t->hidden;
            float *restrict d = dy + i * lddy + t->column;
            if (t->dx != NULL) {
                float *restrict dx = t->dx + i * t->stride;
                for (uint32_t j = 0; j < t->dim; j++)
                    dx[j] += d[j] * from[j];
            }
            for (uint32_t j = 0; j < t->dim; j++)
                d[j] *= x[j];
        }
}

// The same of sums: dx_j += dy h, and dh = or += dy x_j.
KERNEL static void backward_dot(uint32_t rows, const struct bilinear *b, const float *restrict h,
                                const float *restrict dy, uint32_t lddy, bool add, float *restrict dh)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t k = 0; k < b->n_terms; k++) {
            const struct term *t = &b->terms[k];
            const float *restrict x = t->x + i * t->stride, *restrict from = h + i * b->width + t->hidden;
            const float d = dy[i * lddy + t->column];
            float *restrict to = dh + i * b->width + t->hidden;
            if (t->dx != NULL) {
                float *restrict dx = t->dx + i * t->stride;
                for (uint32_t j = 0; j < t->dim; j++)
                    dx[j] += d * from[j];
            }
            for (uint32_t j = 0; j < t->dim; j++)
                to[j] = (add ? to[j] : 0) + d * x[j];
        }
}

// Of vectors, where several pairs share h: dh += dy o x_j.
KERNEL static void backward_shared(uint32_t rows, const struct bilinear *b, const float *restrict h,
                                   const float *restrict dy, uint32_t lddy, float *restrict dh)
{
    for (size_t i = 0; i < rows; i++)
        for (uint32_t k = 0; k < b->n_terms; k++) {
            const struct term *t = &b->terms[k];
            const float *restrict x = t->x + i * t->stride, *restrict from = h + i * b->width + t->hidden;
            const float *restrict d = dy + i * lddy + t->column;
            float *restrict to = dh + i * b->width + t->hidden;
            if (t->dx != NULL) {
                float *restrict dx = t->dx + i * t->stride;
                for (uint32_t j = 0; j < t->dim; j++)
                    dx[j] += d[j] * from[j];
            }
            for (uint32_t j = 0; j < t->dim; j++)
                to[j] += d[j] * x[j];
        }
}

// Gradients of the right fields; returns that of H.
static float *terms_backward(const struct layer *l, const struct layer_context *c, uint32_t *ret_ld)
{
    const struct bilinear *b = l->own;
    const struct value *out = l->out;
    const bool shared = b->type != TYPE_INTERACTION;
    *ret_ld = out->stride;
    if (in_place(b)) {
        backward_in_place(out->rows, b, c->scratch, out->dx, out->stride);
        return out->dx;
    }
    float *dh = c->scratch + (size_t)out->rows_max * b->width;
    *ret_ld = b->width;
    if (shared)
        memset(dh, 0, (size_t)out->rows * b->width * sizeof *dh);
    if (b->dot)
        backward_dot(out->rows, b, c->scratch, out->dx, out->stride, shared, dh);
    else
        backward_shared(out->rows, b, c->scratch, out->dx, out->stride, dh);
    return dh;
}

static void bilinear_backward(const struct layer *l, const struct layer_context *c)
{
    struct bilinear *b = l->own;
    const uint32_t rows = l->out->rows;
    uint32_t lddh;
    fields_begin(l, &b->fields);
    terms_read(b);
    const float *dh = terms_backward(l, c, &lddh);
    for (uint32_t i = 0; i < b->n_products; i++) {
        const struct product *p = &b->products[i];
        const struct field *left = &b->fields.list[p->left];
        if (c->dparams != NULL)
            gemm_tn_ld(rows, p->dim, left->dim, dh + p->column, lddh, left->x, left->stride,
                       c->dparams + p->weight);
        if (left->dx != NULL)
            packs_nn_ld(c->packs, rows, p->dim, left->dim, dh + p->column, lddh, c->params + p->weight, 1,
                        left->dx, left->stride);
    }
}

static double pair_naive(const struct layer *l, const struct layer_context *c, const struct pair *p,
                         size_t row, uint32_t d)
{
    const struct bilinear *b = l->own;
    const struct field *i = &b->fields.list[p->left], *j = &b->fields.list[p->right];
    const struct value *vi = l->in[i->in], *vj = l->in[j->in];
    double h = 0;
    for (uint32_t k = 0; k < i->dim; k++)
        h += (double)c->params[b->hidden[p->hidden].weight + d * i->dim + k] *
             (double)vi->x[row * vi->stride + i->column + k];
    return h * (double)vj->x[row * vj->stride + j->column + d];
}

static void bilinear_forward_naive(const struct layer *l, const struct layer_context *c)
{
    const struct bilinear *b = l->own;
    for (size_t i = 0; i < l->out->rows; i++) {
        float *y = l->out->x + i * l->out->stride;
        for (uint32_t p = 0; p < b->n_pairs; p++) {
            double sum = 0;
            for (uint32_t d = 0; d < b->fields.list[b->pairs[p].right].dim; d++) {
                const double v = pair_naive(l, c, &b->pairs[p], i, d);
                sum += v;
                if (!b->dot)
                    *y++ = (float)v;
            }
            if (b->dot)
                *y++ = (float)sum;
        }
    }
}

static double bilinear_flops(const struct layer *l, bool backward, bool dense)
{
    const struct bilinear *b = l->own;
    double products = 0, terms = 0;
    for (uint32_t i = 0; i < b->n_hidden; i++)
        products += 2.0 * b->hidden[i].dim * b->fields.list[b->hidden[i].left].dim;
    for (uint32_t p = 0; p < b->n_pairs; p++)
        terms += 2.0 * b->fields.list[b->pairs[p].right].dim;
    return products * (backward ? 1 + dense : 1) + terms * (backward ? 2 : 1);
}

static bool bilinear_product(const struct layer *l, uint32_t i, uint32_t ret_shape[3])
{
    const struct bilinear *b = l->own;
    if (i >= b->n_products)
        return false;
    ret_shape[0] = l->out->rows_max;
    ret_shape[1] = b->products[i].dim;
    ret_shape[2] = b->fields.list[b->products[i].left].dim;
    return true;
}

const struct layer_kind layer_bilinear = {
    .name = "bilinear",
    .text = "Pairs of its fields, (W x_i) o x_j.",
    .options = bilinear_options,
    .shape = bilinear_shape,
    .forward = bilinear_forward,
    .backward = bilinear_backward,
    .forward_naive = bilinear_forward_naive,
    .flops = bilinear_flops,
    .product = bilinear_product,
};
