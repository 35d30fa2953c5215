// SPDX-License-Identifier: Apache-2.0
// A copy as a file that `freshet import model` reads: what the deltas brought, so all that a score depends on but the
// config. Of the optimizer a copy knows nothing.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/copy.h"
#include "daemon/model_file.h"
#include "daemon/tensors.h"
#include "models/safetensors.h"

enum { TABLE_TENSORS = 2 }; // ids and weight

struct copy_file {
    const struct copy *copy;
    uint32_t *orders[DELTA_TABLES_MAX]; // by table: rows in order of id
    char names[DELTA_TABLES_MAX][TABLE_TENSORS][MODEL_FILE_NAME];
    struct tensors dense, learned;
    uint32_t n;
    struct safetensor *heads; // in the order of the file; of a table's `data` is NULL
    FILE *to;
};

static int document_open(struct tensors *t, const struct buf *b, struct err *err)
{
    return b->len == 0 ? 0 : tensors_of(t, buf_str(b), err);
}

static int heads_of_document(struct copy_file *f, const struct tensors *t, const char *type,
                             enum safetensor_type number, struct err *err)
{
    for (uint32_t i = 0; i < t->n; i++) {
        const struct tensor *from = &t->list[i];
        if (strcmp(from->type, type) != 0 || from->n_dims > SAFETENSOR_DIMS)
            return err_set(err, ERR_CORRUPT, "the copy's tensor \"%.80s\" is of no shape that a model has",
                           from->name);
        struct safetensor *to = &f->heads[f->n++];
        *to = (struct safetensor){
            .name = from->name, .type = number, .n_dims = from->n_dims, .data = from->data};
        memcpy(to->shape, from->shape, from->n_dims * sizeof *to->shape);
    }
    return 0;
}

static void head_of_table(struct copy_file *f, uint32_t t, enum model_file_part part)
{
    const struct copy_table *table = &f->copy->tables[t];
    const bool ids = part == PART_IDS;
    f->heads[f->n++] = (struct safetensor){
        .name = model_file_name(table->name, OPTIMIZER_ROWWISE_ADAGRAD, part, f->names[t][!ids]),
        .type = ids ? SAFETENSOR_I64 : SAFETENSOR_F32,
        .n_dims = ids ? 1 : 2,
        .shape = {table->n, table->dim}};
}

// I64 and F64 first, so that all data are aligned.
static int heads_list(struct copy_file *f, struct err *err)
{
    const struct copy *c = f->copy;
    if (document_open(&f->dense, &c->dense, err) != 0 || document_open(&f->learned, &c->learned, err) != 0)
        return -1;
    f->heads = mem_array(f->dense.n + f->learned.n + TABLE_TENSORS * c->n_tables, sizeof *f->heads);
    for (uint32_t t = 0; t < c->n_tables; t++) {
        f->orders[t] = copy_order(&c->tables[t]);
        head_of_table(f, t, PART_IDS);
    }
    if (heads_of_document(f, &f->learned, "F64", SAFETENSOR_F64, err) != 0 ||
        heads_of_document(f, &f->dense, "F32", SAFETENSOR_F32, err) != 0)
        return -1;
    for (uint32_t t = 0; t < c->n_tables; t++)
        head_of_table(f, t, PART_WEIGHT);
    return 0;
}

static void table_put(const struct copy_file *f, uint32_t t, enum model_file_part part, struct buf *to)
{
    const struct copy_table *table = &f->copy->tables[t];
    for (uint32_t i = 0; i < table->n; i++) {
        const uint32_t at = f->orders[t][i];
        if (part == PART_IDS)
            buf_put_u64(to, table->ids[at]);
        else
            buf_put(to, table->vectors + (size_t)at * table->dim, table->dim * sizeof *table->vectors);
    }
}

static bool piece_write(const struct copy_file *f, struct buf *b)
{
    const bool whole = fwrite(b->data, 1, b->len, f->to) == b->len;
    buf_clear(b);
    return whole;
}

static bool all_write(const struct copy_file *f, uint64_t base, uint64_t version)
{
    struct safetensor_note notes[] = {{"base", ""}, {"version", ""}};
    struct buf b = {0};
    snprintf(notes[0].value, sizeof notes[0].value, "%016" PRIx64, base);
    snprintf(notes[1].value, sizeof notes[1].value, "%" PRIu64, version);
    safetensors_put_header(&b, notes, sizeof notes / sizeof *notes, f->heads, f->n);
    bool whole = piece_write(f, &b);
    const uint32_t n_tables = f->copy->n_tables;
    for (uint32_t i = 0; i < f->n && whole; i++) {
        if (f->heads[i].data != NULL)
            buf_put(&b, f->heads[i].data, safetensor_bytes(&f->heads[i]));
        else if (i < n_tables)
            table_put(f, i, PART_IDS, &b);
        else
            table_put(f, i - (f->n - n_tables), PART_WEIGHT, &b);
        whole = piece_write(f, &b);
    }
    buf_done(&b);
    return whole;
}

int copy_write(const struct copy *c, uint64_t base, uint64_t version, const char *path, struct err *err)
{
    struct copy_file *f = mem_zalloc(sizeof *f);
    f->copy = c;
    int result = heads_list(f, err);
    if (result == 0 && (f->to = fopen(path, "wb")) == NULL)
        result = err_errno(err, "opening %s", path);
    if (f->to != NULL) {
        const bool whole = all_write(f, base, version);
        if (fclose(f->to) != 0 || !whole)
            result = err_errno(err, "writing %s", path);
    }
    for (uint32_t t = 0; t < c->n_tables; t++)
        free(f->orders[t]);
    tensors_done(&f->dense);
    tensors_done(&f->learned);
    free(f->heads);
    free(f);
    return result;
}
