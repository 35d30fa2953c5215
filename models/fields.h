// SPDX-License-Identifier: Apache-2.0
// Fields: the inputs of a layer that crosses them, each (B, D_i). An input that keeps its fields, as the output of
// senet does, stands for as many as it was made of. Used by layer kinds only.
#ifndef FRESHET_MODELS_FIELDS_H
#define FRESHET_MODELS_FIELDS_H

#include "models/layer.h"

struct field {
    const char *name;
    uint32_t in;     // of the layer
    uint32_t column; // within it
    uint32_t dim;
    // After fields_read:
    const float *x;
    float *dx; // NULL: not wanted
    uint32_t stride;
    bool add; // to dx, where it is wanted
};

struct fields {
    uint32_t n;
    uint32_t width; // of all
    struct field *list;
};

// For `shape`: checks that all are of the same rows and gives the output them. Lives as long as the net.
int fields_init(struct layer *l, struct fields *ret_fields, struct err *err);
// Fails unless all are of one width.
int fields_one_width(const struct layer *l, const struct fields *f, struct err *err);
// Where they lie. For `forward`, and for `backward`.
void fields_read(const struct layer *l, struct fields *f);
// Zeroes the gradients that are to be set; all are to be added to then.
void fields_begin(const struct layer *l, struct fields *f);

#endif
