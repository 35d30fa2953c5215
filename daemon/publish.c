// SPDX-License-Identifier: Apache-2.0
// A version's delta (stream/delta.h) into the outbox: BEGIN, ROWS in pieces, DENSE in pieces when the layers
// changed, LEARNED whole where there is any, END with the checksum over the pieces. Only rows that consumers serve leave. The digests of whole
// tables in an END are of the tables as the version before left them: that is what stands while this one is
// made.
#include <stdio.h>

#include "daemon/learned.h"
#include "daemon/update_impl.h"
#include "stream/delta.h"

struct publisher {
    struct updater *u;
    struct delta_head head;
    struct hasher *checksum;
    struct delta_end end;
    struct buf message; // ROWS being filled
    uint32_t in_message;
};

// Key: the base, so that all of one base is in one partition whatever the topic has.
static void publish_send(struct publisher *p, const struct buf *message, bool summed)
{
    char key[20];
    snprintf(key, sizeof key, "%016llx", (unsigned long long)p->head.base);
    if (summed)
        hasher_put(p->checksum, message->data, message->len);
    state_outbox_put(p->u->state, str_of(p->u->config->publish.topic), str_of(key), buf_str(message),
                     (struct str){0});
    p->head.chunk++;
}

static void publish_rows_send(struct publisher *p)
{
    if (p->in_message > 0)
        publish_send(p, &p->message, true);
    buf_clear(&p->message);
    p->in_message = 0;
}

static void publish_row(void *context, uint32_t table, uint64_t id, const struct table_row *row, bool served)
{
    struct publisher *p = context;
    if (!served)
        return;
    if (p->in_message == 0) {
        p->head.kind = DELTA_ROWS;
        delta_put_rows_head(&p->message, &p->head);
    }
    const float *vector = row == NULL ? NULL : row->vector;
    delta_put_row(&p->message, (uint16_t)table, id, features_text(p->u->state, id, p->u->partitions), vector,
                  p->u->config->tables[table].dim);
    p->in_message++;
    if (row == NULL)
        p->end.tombstones++;
    else
        p->end.rows++;
    if (p->message.len >= DELTA_ROWS_BYTES)
        publish_rows_send(p);
}

static void publish_begin(struct publisher *p)
{
    const struct config *config = p->u->config;
    struct delta_begin begin = {.boundary_ms = p->u->version.boundary_ms,
                                .trained_through = p->u->version.trained_through,
                                .dense = p->u->version.dense,
                                .n_tables = config->n_tables};
    for (uint32_t t = 0; t < config->n_tables; t++) {
        begin.tables[t].name = str_of(config->tables[t].name);
        begin.tables[t].dim = config->tables[t].dim;
    }
    p->head.kind = DELTA_BEGIN;
    delta_put_begin(&p->message, &p->head, &begin);
    publish_send(p, &p->message, false);
    buf_clear(&p->message);
}

static void publish_document(struct publisher *p, enum delta_kind kind, const struct buf *tensors)
{
    for (size_t at = 0; at < tensors->len; at += DELTA_ROWS_BYTES) {
        size_t n = tensors->len - at < DELTA_ROWS_BYTES ? tensors->len - at : DELTA_ROWS_BYTES;
        p->head.kind = kind;
        delta_put_piece(&p->message, &p->head, (struct str){(const char *)tensors->data + at, (uint32_t)n});
        publish_send(p, &p->message, true);
        buf_clear(&p->message);
    }
}

static void publish_dense(struct publisher *p)
{
    struct buf tensors = {0};
    model_update_safetensors(p->u->update, &tensors);
    publish_document(p, DELTA_DENSE, &tensors);
    buf_done(&tensors);
}

static void publish_learned(struct publisher *p)
{
    struct buf tensors = {0};
    learned_put(p->u->features, p->u->config, p->u->quantiles, &p->u->next_norms, &tensors);
    publish_document(p, DELTA_LEARNED, &tensors);
    buf_done(&tensors);
}

static void publish_end(struct publisher *p)
{
    const struct config *config = p->u->config;
    p->end.checksum = hasher_digest(p->checksum);
    p->end.n_digests = p->u->n_digests;
    for (uint32_t t = 0; t < p->u->n_digests; t++)
        p->end.digests[t] =
            (struct delta_table_digest){.table = str_of(config->tables[t].name),
                                        .digest = p->u->digests[t],
                                        .rows = table_admitted_count(model_table(p->u->model, t))};
    p->head.kind = DELTA_END;
    delta_put_end(&p->message, &p->head, &p->end);
    publish_send(p, &p->message, false);
}

void publish_update(struct updater *u, uint64_t previous)
{
    struct publisher p = {
        .u = u,
        .head = {.base = u->version.base, .version = u->version.version, .previous = previous},
        .checksum = hasher_new()};
    publish_begin(&p);
    model_update_each(u->update, publish_row, &p);
    publish_rows_send(&p);
    if (u->dense_dirty)
        publish_dense(&p);
    publish_learned(&p);
    publish_end(&p);
    hasher_free(p.checksum);
    buf_done(&p.message);
}
