// SPDX-License-Identifier: Apache-2.0
// A version on disk: blob "version" (struct version and its running metrics; format 1 has no `steps`, of which its
// optimizers had no need, and no `kernel`, which was the BLAS), blob "dense" (all layers and their optimizer), blob
// "model" (a text that describes the shapes, so that a store is not opened with a config that does not fit), blobs
// "quantiles" and "gathered" (features_quantiles.c; a store from before "gathered" begins to gather), blob "norms"
// (norms.h), and the rows of the tables.
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "daemon/update_impl.h"

enum { VERSION_FORMAT = 2 };

// ---- description
// -----------------------------------------------------------------------------------------------

// Optimizers other than the first, and of FTRL what its state is made of.
static void describe_optimizer(const struct config_optimizer *o, enum optimizer_kind first, struct buf *to)
{
    if (o->kind != first)
        buf_printf(to, ":%s", optimizer_name(o->kind));
    if (o->kind == OPTIMIZER_FTRL)
        buf_printf(to, "(lr=%g,beta=%g,l1=%g,l2=%g)", o->lr, o->beta, o->l1, o->l2);
}

static void updater_describe(const struct updater *u, struct buf *to)
{
    const struct config *c = u->config;
    buf_printf(to, "%.*s actions", (int)features_schema(u->features).len, features_schema(u->features).s);
    for (uint32_t i = 0; i < c->n_actions; i++)
        buf_printf(to, " %s", c->actions[i]);
    buf_printf(to, "; windows");
    for (uint32_t i = 0; i < c->n_windows; i++)
        buf_printf(to, " %s=%lldx%u", c->windows[i].name, (long long)c->windows[i].tile_ms,
                   c->windows[i].tiles);
    buf_printf(to, "; tables");
    for (uint32_t i = 0; i < c->n_tables; i++) {
        buf_printf(to, " %s=%u", c->tables[i].name, c->tables[i].dim);
        describe_optimizer(&c->tables[i].optimizer, OPTIMIZER_ROWWISE_ADAGRAD, to);
    }
    buf_printf(to, "; net");
    describe_optimizer(&c->update.dense, OPTIMIZER_ADAGRAD, to);
    const struct net *net = model_net(u->model);
    for (uint32_t i = 0; i < net_param_count(net); i++) {
        const struct net_param *p = net_param(net, i);
        buf_printf(to, " %s=%ux%u", p->name, p->rows, p->cols);
        if (p->lr > 0 && c->update.dense.kind == OPTIMIZER_FTRL)
            buf_printf(to, "(lr=%g)", (double)p->lr);
    }
}

// Where two descriptions part, for the message.
static int updater_describe_check(struct updater *u, const struct buf *stored, struct err *err)
{
    struct buf now = {0};
    updater_describe(u, &now);
    size_t same = 0;
    while (same < now.len && same < stored->len && now.data[same] == stored->data[same])
        same++;
    bool equal = same == now.len && same == stored->len;
    while (same > 0 && now.data[same - 1] != ' ')
        same--;
    if (!equal)
        err_set(err, ERR_VERSION,
                "it was made with other features, windows, tables, optimizers or layers: it has \"%.60s\" "
                "where the config gives \"%.60s\"; go back to that config, or give the new one a state.dir "
                "of its own",
                stored->len > same ? (const char *)stored->data + same : "nothing",
                now.len > same ? (const char *)now.data + same : "nothing");
    buf_done(&now);
    return equal ? 0 : -1;
}

// ---- loading
// ---------------------------------------------------------------------------------------------------

// Rows wait for memory and for nothing else: ROWS_AT_ONCE are copied together, and loaded with prefetching.
enum { ROWS_AT_ONCE = 32 };

struct row_loader {
    struct state *state;
    struct table *table;
    uint16_t number;
    uint32_t n;
    uint64_t ids[ROWS_AT_ONCE];
    uint32_t lengths[ROWS_AT_ONCE];
    struct buf records;
    int result;
    struct err err;
};

static int rows_flush(struct row_loader *l)
{
    struct str records[ROWS_AT_ONCE];
    const char *at = (const char *)l->records.data;
    for (uint32_t i = 0; i < l->n; at += l->lengths[i++])
        records[i] = (struct str){at, l->lengths[i]};
    int result = table_rows_load(l->table, l->ids, records, l->n, &l->err);
    buf_clear(&l->records);
    l->n = 0;
    return result;
}

static int row_load(void *context, uint64_t id, struct str row)
{
    struct row_loader *l = context;
    buf_put(&l->records, row.s, row.len);
    l->ids[l->n] = id;
    l->lengths[l->n++] = row.len;
    return l->n < ROWS_AT_ONCE ? 0 : rows_flush(l);
}

static void *rows_load(void *context)
{
    struct row_loader *l = context;
    l->result = state_rows_each(l->state, l->number, row_load, l, &l->err);
    if (l->result == 0)
        l->result = rows_flush(l);
    buf_done(&l->records);
    return NULL;
}

// One thread a table: loading is what a start waits for.
static int updater_load_rows(struct updater *u, struct err *err)
{
    uint32_t n = model_table_count(u->model);
    struct row_loader *loaders = mem_array(n, sizeof *loaders);
    pthread_t *threads = mem_array(n, sizeof *threads);
    bool *started = mem_array(n, sizeof *started);
    for (uint32_t t = 0; t < n; t++) {
        loaders[t] =
            (struct row_loader){.state = u->state, .table = model_table(u->model, t), .number = (uint16_t)t};
        started[t] = pthread_create(&threads[t], NULL, rows_load, &loaders[t]) == 0;
        if (!started[t])
            rows_load(&loaders[t]);
    }
    int result = 0;
    for (uint32_t t = 0; t < n; t++) {
        if (started[t])
            pthread_join(threads[t], NULL);
        if (loaders[t].result != 0 && result == 0) {
            *err = loaders[t].err;
            result = err_context(err, "table %s", u->config->tables[t].name);
        }
    }
    free(started);
    free(threads);
    free(loaders);
    return result;
}

static void version_put(const struct updater *u, struct buf *to)
{
    buf_put_u32(to, VERSION_FORMAT);
    buf_put(to, &u->version, sizeof u->version);
    for (uint32_t h = 0; h < u->config->model.n_heads; h++) {
        metrics_save(&u->running[h], to);
        metrics_save(&u->after_bootstrap[h], to);
    }
}

static int version_get(struct updater *u, const struct buf *blob, struct err *err)
{
    struct rd r = rd_of(blob->data, blob->len);
    const uint32_t format = rd_u32(&r);
    const size_t bytes = format == 1 ? offsetof(struct version, steps) : sizeof u->version;
    if (format == 0 || format > VERSION_FORMAT)
        return err_set(err, ERR_VERSION,
                       "the store's version record is of another format than this freshet's");
    const uint8_t *version = rd_bytes(&r, bytes);
    if (version != NULL)
        memcpy(&u->version, version, bytes);
    if (u->version.kernel >= PACKED_AUTO)
        return err_set(err, ERR_CORRUPT, "the store's version record names no kernel");
    for (uint32_t h = 0; h < u->config->model.n_heads && !r.bad; h++)
        if (metrics_load(&u->running[h], &r) != 0 || metrics_load(&u->after_bootstrap[h], &r) != 0)
            r.bad = true;
    return r.bad ? err_set(err, ERR_CORRUPT, "the store's version record is cut short") : 0;
}

// A store that holds no model yet: its description is written with the first commit.
static int updater_load_new(struct updater *u)
{
    struct buf text = {0};
    updater_describe(u, &text);
    struct str description = {(const char *)text.data, (uint32_t)text.len};
    u->version = (struct version){.base = hash_mix(hash_bytes(text.data, text.len) ^ u->config->update.seed),
                                  .dense = model_dense_digest(u->model),
                                  .kernel = u->kernel};
    state_blob_put(u->state, "model", description);
    u->dirty = u->dense_dirty = true;
    buf_done(&text);
    return 0;
}

static int updater_load_stored(struct updater *u, struct buf *blob, struct err *err)
{
    bool found;
    if (updater_describe_check(u, blob, err) != 0)
        return -1;
    buf_clear(blob);
    if (state_blob_get(u->state, "version", blob, &found, err) != 0)
        return -1;
    if (!found)
        return err_set(err, ERR_CORRUPT, "the store holds a model without a version");
    if (version_get(u, blob, err) != 0)
        return -1;
    buf_clear(blob);
    if (state_blob_get(u->state, "dense", blob, &found, err) != 0)
        return -1;
    if (!found)
        return err_set(err, ERR_CORRUPT, "the store holds a version without its dense layers");
    if (model_dense_load(u->model, buf_str(blob), err) != 0)
        return -1;
    model_resume(u->model, u->version.samples, u->version.steps);
    if (updater_load_rows(u, err) != 0)
        return -1;
    buf_clear(blob);
    if (state_blob_get(u->state, "quantiles", blob, &found, err) != 0 ||
        (found && features_quantiles_load(u->features, buf_str(blob), err) != 0))
        return -1;
    buf_clear(blob);
    if (state_blob_get(u->state, "gathered", blob, &found, err) != 0 ||
        (found && features_quantiles_load_gathered(u->features, buf_str(blob), err) != 0))
        return -1;
    buf_clear(blob);
    if (state_blob_get(u->state, "norms", blob, &found, err) != 0 ||
        (found && norms_load(&u->norms, u->config, buf_str(blob), err) != 0))
        return -1;
    struct digest dense = model_dense_digest(u->model);
    if (!digest_equal(dense, u->version.dense))
        return err_set(err, ERR_DIGEST,
                       "the dense layers in the store do not have the digest of version %llu",
                       (unsigned long long)u->version.version);
    return 0;
}

int updater_load(struct updater *u, struct err *err)
{
    struct buf blob = {0};
    bool found;
    bool copy = false;
    int result = state_blob_get(u->state, "model", &blob, &found, err);
    if (result == 0 && !found)
        result = state_blob_get(u->state, "follow", &blob, &copy, err);
    if (result == 0 && copy)
        result =
            err_set(err, ERR_INVALID, "the directory holds the copy of `freshet follow`, which is no state");
    else if (result == 0)
        result = found ? updater_load_stored(u, &blob, err) : updater_load_new(u);
    buf_done(&blob);
    return result;
}

// ---- storing
// ---------------------------------------------------------------------------------------------------

struct row_store {
    struct updater *u;
    struct update_result *result;
    struct buf record;
};

static void row_store(void *context, uint32_t table, uint64_t id, const struct table_row *row, bool served)
{
    struct row_store *s = context;
    if (row == NULL) {
        state_row_delete(s->u->state, (uint16_t)table, id);
        s->result->tombstones += served;
        return;
    }
    buf_clear(&s->record);
    table_row_put(model_table(s->u->model, table), row, &s->record);
    state_row_put(s->u->state, (uint16_t)table, id, buf_str(&s->record));
    s->result->rows += served;
}

void updater_store_update(struct updater *u, struct update_result *result)
{
    struct row_store store = {.u = u, .result = result};
    u->recorded = true;
    model_update_each(u->update, row_store, &store);
    buf_done(&store.record);
    uint64_t previous = u->version.version;
    u->version.version++;
    u->version.boundary_ms = u->mark.boundary_ms;
    u->version.samples = model_update_trained(u->update);
    u->version.rows += result->rows;
    u->version.tombstones += result->tombstones;
    u->version.dense = model_update_dense_digest(u->update);
    u->version.steps = model_update_steps(u->update);
    u->version.kernel = u->kernel;
    if (u->publish)
        publish_update(u, previous);
}

void updater_commit(struct updater *u)
{
    struct buf blob = {0};
    if (u->dense_dirty) {
        // While an update waits for its commit, the dense layers to be stored are the update's. One that is still
        // trained is no version yet: a new store's first commit holds the layers that version 0 begins with.
        if (u->recorded)
            model_update_dense(u->update, &blob);
        else
            model_dense_save(u->model, &blob);
        state_blob_put(u->state, "dense", buf_str(&blob));
        buf_clear(&blob);
    }
    if (u->dirty) {
        version_put(u, &blob);
        state_blob_put(u->state, "version", buf_str(&blob));
    }
    u->dirty = u->dense_dirty = false;
    buf_done(&blob);
}
