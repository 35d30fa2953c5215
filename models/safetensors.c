// SPDX-License-Identifier: Apache-2.0
#include "models/safetensors.h"

#include <assert.h>

#include "base/json.h"

enum { HEADER_ALIGN = 8 };

static const struct {
    const char *name;
    uint32_t bytes;
} types[] = {[SAFETENSOR_F32] = {"F32", 4}, [SAFETENSOR_F64] = {"F64", 8}, [SAFETENSOR_I64] = {"I64", 8}};

uint64_t safetensor_bytes(const struct safetensor *t)
{
    assert(t->n_dims <= SAFETENSOR_DIMS);
    uint64_t bytes = types[t->type].bytes;
    for (uint32_t d = 0; d < t->n_dims; d++)
        bytes *= t->shape[d];
    return bytes;
}

static void tensor_describe(struct json *j, const struct safetensor *t, uint64_t begin)
{
    json_key(j, t->name);
    json_object(j);
    json_key(j, "dtype");
    json_string(j, types[t->type].name);
    json_key(j, "shape");
    json_array(j);
    for (uint32_t d = 0; d < t->n_dims; d++)
        json_uint(j, t->shape[d]);
    json_end(j);
    json_key(j, "data_offsets");
    json_array(j);
    json_uint(j, begin);
    json_uint(j, begin + safetensor_bytes(t));
    json_end(j);
    json_end(j);
}

static void notes_put(struct json *j, const struct safetensor_note *notes, uint32_t n)
{
    json_key(j, "__metadata__");
    json_object(j);
    for (uint32_t i = 0; i < n; i++) {
        json_key(j, notes[i].key);
        json_string(j, notes[i].value);
    }
    json_end(j);
}

void safetensors_put_header(struct buf *to, const struct safetensor_note *notes, uint32_t n_notes,
                            const struct safetensor *tensors, uint32_t n)
{
    struct buf header = {0};
    struct json j = json_to(&header);
    uint64_t at = 0;
    json_object(&j);
    if (n_notes > 0)
        notes_put(&j, notes, n_notes);
    for (uint32_t i = 0; i < n; i++) {
        tensor_describe(&j, &tensors[i], at);
        at += safetensor_bytes(&tensors[i]);
    }
    json_end(&j);
    while (header.len % HEADER_ALIGN != 0)
        buf_put_u8(&header, ' ');
    buf_put_u64(to, header.len);
    buf_put(to, header.data, header.len);
    buf_done(&header);
}

void safetensors_put(struct buf *to, const struct safetensor *tensors, uint32_t n)
{
    safetensors_put_header(to, NULL, 0, tensors, n);
    for (uint32_t i = 0; i < n; i++)
        buf_put(to, tensors[i].data, safetensor_bytes(&tensors[i]));
}
