// SPDX-License-Identifier: Apache-2.0
// Writes the safetensors format, which PyTorch, NumPy and the others of that trade read:
//
//     +--------------+--------------------------------------------------+----------------------+
//     | length u64le | JSON, padded with spaces to a multiple of 8:     | data, back to back   |
//     |              | {"name":{"dtype":"F32","shape":[3,4],            | little-endian        |
//     |              |          "data_offsets":[begin,end]},...}        |                      |
//     +--------------+--------------------------------------------------+----------------------+
#ifndef FRESHET_MODELS_SAFETENSORS_H
#define FRESHET_MODELS_SAFETENSORS_H

#include <stdint.h>

#include "base/buf.h"

enum { SAFETENSOR_DIMS = 4 };

enum safetensor_type { SAFETENSOR_F32, SAFETENSOR_F64, SAFETENSOR_I64 };

struct safetensor {
    const char *name;
    enum safetensor_type type;
    uint32_t n_dims;
    uint64_t shape[SAFETENSOR_DIMS]; // row-major
    const void *data;                // the product of the shape in numbers
};

// Appends one file of n tensors, in this order. Put I64 and F64 before F32, so that all data are aligned.
void safetensors_put(struct buf *to, const struct safetensor *tensors, uint32_t n);

struct safetensor_note {
    const char *key;
    char value[96];
};

// The same up to the data, which the caller writes behind it in this order: of what need not be in memory at once.
// The notes are "__metadata__".
void safetensors_put_header(struct buf *to, const struct safetensor_note *notes, uint32_t n_notes,
                            const struct safetensor *tensors, uint32_t n);
uint64_t safetensor_bytes(const struct safetensor *t);

#endif
