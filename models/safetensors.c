// SPDX-License-Identifier: Apache-2.0
#include "models/safetensors.h"

#include <assert.h>

#include "base/json.h"

enum { HEADER_ALIGN = 8 };

static uint64_t tensor_bytes(const struct safetensor *t)
{
    assert(t->n_dims <= SAFETENSOR_DIMS);
    uint64_t bytes = t->type == SAFETENSOR_I64 ? sizeof(int64_t) : sizeof(float);
    for (uint32_t d = 0; d < t->n_dims; d++)
        bytes *= t->shape[d];
    return bytes;
}

static void tensor_describe(struct json *j, const struct safetensor *t, uint64_t begin)
{
    json_key(j, t->name);
    json_object(j);
    json_key(j, "dtype");
    json_string(j, t->type == SAFETENSOR_I64 ? "I64" : "F32");
    json_key(j, "shape");
    json_array(j);
    for (uint32_t d = 0; d < t->n_dims; d++)
        json_uint(j, t->shape[d]);
    json_end(j);
    json_key(j, "data_offsets");
    json_array(j);
    json_uint(j, begin);
    json_uint(j, begin + tensor_bytes(t));
    json_end(j);
    json_end(j);
}

void safetensors_put(struct buf *to, const struct safetensor *tensors, uint32_t n)
{
    struct buf header = {0};
    struct json j = json_to(&header);
    uint64_t at = 0;
    json_object(&j);
    for (uint32_t i = 0; i < n; i++) {
        tensor_describe(&j, &tensors[i], at);
        at += tensor_bytes(&tensors[i]);
    }
    json_end(&j);
    while (header.len % HEADER_ALIGN != 0)
        buf_put_u8(&header, ' ');
    buf_put_u64(to, header.len);
    buf_put(to, header.data, header.len);
    for (uint32_t i = 0; i < n; i++)
        buf_put(to, tensors[i].data, tensor_bytes(&tensors[i]));
    buf_done(&header);
}
