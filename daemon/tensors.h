// SPDX-License-Identifier: Apache-2.0
// Reads a safetensors file (models/safetensors.h draws it): where each tensor lies and what it is said to hold, after
// it has been checked that the file holds it. The bytes are mapped, not copied.
#ifndef FRESHET_DAEMON_TENSORS_H
#define FRESHET_DAEMON_TENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum { TENSOR_DIMS = 8, TENSOR_SHAPE_TEXT = 8 * 21 + 3 };

struct tensor {
    const char *name;
    const char *type; // "F32", "I64", ...
    uint32_t n_dims;
    uint64_t shape[TENSOR_DIMS]; // row-major
    const uint8_t *data;         // little-endian, aligned to nothing
    uint64_t bytes;
    bool taken; // the caller's mark
};

struct tensors {
    uint32_t n;
    struct tensor *list; // in the order of the file's header
    void *map;           // NULL: of a document in memory
    size_t map_bytes;
    void *header; // owns the names
};

// ERR_CORRUPT: it is no safetensors file, or one that does not hold what it says.
int tensors_open(struct tensors *t, const char *path, struct err *err);
// The same of a document in memory, which the caller keeps.
int tensors_of(struct tensors *t, struct str document, struct err *err);
void tensors_done(struct tensors *t);
struct tensor *tensors_find(const struct tensors *t, const char *name); // NULL: there is none
// Fails, naming both, unless the tensor is of this type and shape.
int tensor_check(const struct tensor *t, const char *type, uint32_t n_dims, const uint64_t *shape,
                 struct err *err);
// "(3, 4)". Returns text.
const char *tensor_shape_text(uint32_t n_dims, const uint64_t *shape, char text[TENSOR_SHAPE_TEXT]);
// Fails, naming the first, if a number of a tensor of F32 or F64 is NaN or infinite.
int tensor_check_finite(const struct tensor *t, struct err *err);
// The same where one is below 0.
int tensor_check_positive(const struct tensor *t, struct err *err);

#endif
