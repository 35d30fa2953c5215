// SPDX-License-Identifier: Apache-2.0
// An input is one field, or those of the layer that it comes from, in order.
#include "models/fields.h"

#include "models/kernel.h"

static uint32_t count_of(const struct value *v)
{
    if (v->layer == NULL || !v->layer->kind->keeps_fields)
        return 1;
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->layer->n_of; i++)
        n += count_of(v->layer->in[i]);
    return n;
}

static void list_add(struct fields *f, const struct value *v, uint32_t in, uint32_t *column)
{
    if (v->layer != NULL && v->layer->kind->keeps_fields) {
        for (uint32_t i = 0; i < v->layer->n_of; i++)
            list_add(f, v->layer->in[i], in, column);
        return;
    }
    f->list[f->n++] = (struct field){.name = v->name, .in = in, .column = *column, .dim = v->dim};
    *column += v->dim;
    f->width += v->dim;
}

int fields_init(struct layer *l, struct fields *ret_fields, struct err *err)
{
    const struct value *first = l->in[0];
    uint32_t n = 0;
    *ret_fields = (struct fields){0};
    for (uint32_t i = 0; i < l->n_of; i++) {
        const struct value *in = l->in[i];
        if ((in->ragged || first->ragged) && layer_same_entries(l, first, in, err) < 0)
            return -1;
        n += count_of(in);
    }
    ret_fields->list = layer_alloc(l, n, sizeof *ret_fields->list);
    for (uint32_t i = 0; i < l->n_of; i++) {
        uint32_t column = 0;
        list_add(ret_fields, l->in[i], i, &column);
    }
    layer_rows_as(l, first);
    return 0;
}

int fields_one_width(const struct layer *l, const struct fields *f, struct err *err)
{
    for (uint32_t i = 1; i < f->n; i++)
        if (f->list[i].dim != f->list[0].dim)
            return layer_fail(
                l, err,
                "\"%s\" is %u wide and \"%s\" %u: %s takes fields of one width; name those in of, or "
                "with: {fields: [...]} of a preset",
                f->list[0].name, f->list[0].dim, f->list[i].name, f->list[i].dim, l->kind->name);
    return 0;
}

void fields_read(const struct layer *l, struct fields *f)
{
    for (uint32_t i = 0; i < f->n; i++) {
        struct field *field = &f->list[i];
        const struct value *in = l->in[field->in];
        field->x = in->x + field->column;
        field->dx = in->wanted ? in->dx + field->column : NULL;
        field->stride = in->stride;
        field->add = l->beta[field->in] != 0;
    }
}

void fields_begin(const struct layer *l, struct fields *f)
{
    fields_read(l, f);
    for (uint32_t i = 0; i < l->n_of; i++)
        if (l->in[i]->wanted && l->beta[i] == 0)
            kernel_zero(l->in[i]->rows, l->in[i]->dim, l->in[i]->dx, l->in[i]->stride);
    for (uint32_t i = 0; i < f->n; i++)
        f->list[i].add = true;
}
