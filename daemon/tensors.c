// SPDX-License-Identifier: Apache-2.0
// The header is JSON, read by jansson, whose names clash with base/json.h. Nothing in it is believed before it has
// been checked: sizes are products of what a stranger wrote.
#include "daemon/tensors.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

enum { HEADER_MAX = 100 << 20, TENSORS_MAX = 100000, LENGTH_BYTES = 8 };

static const struct {
    const char *name;
    uint32_t bytes;
} types[] = {{"F64", 8},  {"I64", 8}, {"U64", 8}, {"F32", 4}, {"I32", 4}, {"U32", 4}, {"F16", 2},
             {"BF16", 2}, {"I16", 2}, {"U16", 2}, {"I8", 1},  {"U8", 1},  {"BOOL", 1}};

static uint32_t type_bytes(const char *type)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, type) == 0)
            return types[i].bytes;
    return 0;
}

// ---- the header -------------------------------------------------------------------------------------------

static bool whole(const json_t *v, uint64_t *ret)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *ret = (uint64_t)json_integer_value(v);
    return true;
}

static int shape_get(struct tensor *t, const json_t *shape, struct err *err)
{
    if (!json_is_array(shape) || json_array_size(shape) > TENSOR_DIMS)
        return err_set(err, ERR_CORRUPT, "tensor \"%.80s\": \"shape\" must be a list of at most %d numbers",
                       t->name, TENSOR_DIMS);
    t->n_dims = (uint32_t)json_array_size(shape);
    for (uint32_t d = 0; d < t->n_dims; d++)
        if (!whole(json_array_get(shape, d), &t->shape[d]))
            return err_set(err, ERR_CORRUPT, "tensor \"%.80s\": \"shape\" holds what is no whole number",
                           t->name);
    return 0;
}

// The bytes of its shape; -1: of a size that nothing has.
static int size_get(const struct tensor *t, uint64_t *ret)
{
    uint64_t bytes = type_bytes(t->type);
    for (uint32_t d = 0; d < t->n_dims; d++)
        if (__builtin_mul_overflow(bytes, t->shape[d], &bytes))
            return -1;
    *ret = bytes;
    return 0;
}

static int place_get(struct tensor *t, const json_t *offsets, const uint8_t *data, uint64_t n,
                     struct err *err)
{
    uint64_t begin, end, bytes;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !whole(json_array_get(offsets, 0), &begin) || !whole(json_array_get(offsets, 1), &end))
        return err_set(err, ERR_CORRUPT, "tensor \"%.80s\": \"data_offsets\" must be two whole numbers",
                       t->name);
    if (begin > end || end > n)
        return err_set(
            err, ERR_CORRUPT,
            "tensor \"%.80s\" is said to lie at %llu to %llu of %llu bytes of data: the file is cut "
            "short or damaged",
            t->name, (unsigned long long)begin, (unsigned long long)end, (unsigned long long)n);
    t->data = data + begin;
    t->bytes = end - begin;
    if (type_bytes(t->type) != 0 && (size_get(t, &bytes) != 0 || bytes != t->bytes))
        return err_set(err, ERR_CORRUPT, "tensor \"%.80s\": its shape does not fit its %llu bytes", t->name,
                       (unsigned long long)t->bytes);
    return 0;
}

static int tensor_get(struct tensor *t, json_t *entry, const uint8_t *data, uint64_t n, struct err *err)
{
    t->type = json_string_value(json_object_get(entry, "dtype"));
    if (t->type == NULL)
        return err_set(err, ERR_CORRUPT, "tensor \"%.80s\" has no \"dtype\"", t->name);
    if (shape_get(t, json_object_get(entry, "shape"), err) != 0)
        return -1;
    return place_get(t, json_object_get(entry, "data_offsets"), data, n, err);
}

static int header_read(struct tensors *t, json_t *root, const uint8_t *data, uint64_t n, struct err *err)
{
    const char *name;
    json_t *entry;
    if (!json_is_object(root) || json_object_size(root) > TENSORS_MAX)
        return err_set(err, ERR_CORRUPT, "its header is no JSON object of at most %d tensors", TENSORS_MAX);
    t->list = mem_array(json_object_size(root), sizeof *t->list);
    json_object_foreach(root, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        t->list[t->n].name = name;
        if (tensor_get(&t->list[t->n++], entry, data, n, err) != 0)
            return -1;
    }
    return 0;
}

// ---- the file ---------------------------------------------------------------------------------------------

static int file_map(struct tensors *t, const char *path, struct err *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "opening %s", path);
    int result = fstat(fd, &st) != 0 ? err_errno(err, "reading %s", path) : 0;
    if (result == 0 && st.st_size < LENGTH_BYTES)
        result = err_set(err, ERR_CORRUPT, "it is too short to be a safetensors file");
    if (result == 0) {
        t->map_bytes = (size_t)st.st_size;
        t->map = mmap(NULL, t->map_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (t->map == MAP_FAILED) {
            t->map = NULL;
            result = err_errno(err, "mapping %s", path);
        }
    }
    close(fd);
    return result;
}

static int document_read(struct tensors *t, const uint8_t *bytes, uint64_t n, struct err *err)
{
    uint64_t length;
    json_error_t wrong;
    if (n < LENGTH_BYTES)
        return err_set(err, ERR_CORRUPT, "it is too short to be a safetensors file");
    memcpy(&length, bytes, sizeof length);
    if (length > HEADER_MAX || length > n - LENGTH_BYTES)
        return err_set(err, ERR_CORRUPT, "it is no safetensors file: its header would be %llu bytes long",
                       (unsigned long long)length);
    json_t *root = json_loadb((const char *)bytes + LENGTH_BYTES, length, JSON_REJECT_DUPLICATES, &wrong);
    if (root == NULL)
        return err_set(err, ERR_CORRUPT, "its header is no JSON: %s", wrong.text);
    t->header = root;
    return header_read(t, root, bytes + LENGTH_BYTES + length, n - LENGTH_BYTES - length, err);
}

int tensors_open(struct tensors *t, const char *path, struct err *err)
{
    *t = (struct tensors){0};
    if (file_map(t, path, err) == 0 && document_read(t, t->map, t->map_bytes, err) == 0)
        return 0;
    if (err->code == ERR_CORRUPT)
        err_context(err, "%s", path);
    tensors_done(t);
    return -1;
}

int tensors_of(struct tensors *t, struct str document, struct err *err)
{
    *t = (struct tensors){0};
    if (document_read(t, (const uint8_t *)document.s, document.len, err) == 0)
        return 0;
    tensors_done(t);
    return -1;
}

void tensors_done(struct tensors *t)
{
    if (t->map != NULL)
        munmap(t->map, t->map_bytes);
    free(t->list);
    json_decref(t->header);
    *t = (struct tensors){0};
}

struct tensor *tensors_find(const struct tensors *t, const char *name)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (strcmp(t->list[i].name, name) == 0)
            return &t->list[i];
    return NULL;
}

// ---- checks -----------------------------------------------------------------------------------------------

const char *tensor_shape_text(uint32_t n_dims, const uint64_t *shape, char text[TENSOR_SHAPE_TEXT])
{
    size_t at = 0;
    text[at++] = '(';
    for (uint32_t d = 0; d < n_dims; d++)
        at += (size_t)snprintf(text + at, TENSOR_SHAPE_TEXT - at, "%s%llu", d > 0 ? ", " : "",
                               (unsigned long long)shape[d]);
    snprintf(text + at, TENSOR_SHAPE_TEXT - at, ")");
    return text;
}

int tensor_check(const struct tensor *t, const char *type, uint32_t n_dims, const uint64_t *shape,
                 struct err *err)
{
    char want[TENSOR_SHAPE_TEXT], got[TENSOR_SHAPE_TEXT];
    if (strcmp(t->type, type) != 0)
        return err_set(err, ERR_INVALID, "tensor \"%.80s\" must be %s, it is %.20s", t->name, type, t->type);
    if (t->n_dims != n_dims || memcmp(t->shape, shape, n_dims * sizeof *shape) != 0)
        return err_set(err, ERR_INVALID, "tensor \"%.80s\" must be of shape %s, it is %s", t->name,
                       tensor_shape_text(n_dims, shape, want), tensor_shape_text(t->n_dims, t->shape, got));
    return 0;
}

static double float_at(const struct tensor *t, uint64_t i)
{
    float x;
    memcpy(&x, t->data + i * sizeof x, sizeof x);
    return (double)x;
}

static double double_at(const struct tensor *t, uint64_t i)
{
    double x;
    memcpy(&x, t->data + i * sizeof x, sizeof x);
    return x;
}

int tensor_check_finite(const struct tensor *t, struct err *err)
{
    const bool wide = strcmp(t->type, "F64") == 0;
    for (uint64_t i = 0; i < t->bytes / type_bytes(t->type); i++) {
        const double x = wide ? double_at(t, i) : float_at(t, i);
        if (!isfinite(x))
            return err_set(err, ERR_NUMERIC, "tensor \"%.80s\" holds %s at place %llu", t->name,
                           isnan(x) ? "NaN" : "an infinity", (unsigned long long)i);
    }
    return 0;
}

int tensor_check_positive(const struct tensor *t, struct err *err)
{
    const bool wide = strcmp(t->type, "F64") == 0;
    for (uint64_t i = 0; i < t->bytes / type_bytes(t->type); i++)
        if ((wide ? double_at(t, i) : float_at(t, i)) < 0)
            return err_set(err, ERR_INVALID, "tensor \"%.80s\" is below 0 at place %llu", t->name,
                           (unsigned long long)i);
    return 0;
}
