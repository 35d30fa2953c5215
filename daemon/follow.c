// SPDX-License-Identifier: Apache-2.0
// freshet follow: the reference consumer of the delta topic. It keeps a copy of the model (tables, dense layers and what
// was learned beside them), takes a version only when it is whole (number of rows, checksum, digest of the layers), proves
// that none is missing, repeated or of another base, compares the digests of whole tables when an END carries them, and
// prints a line a version. What it has is kept in a directory of its own, with the offset after it, so that it goes
// on where it stood after kill -9: blobs "follow", "dense" and "learned" (the documents as they came), and the rows.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/commands.h"
#include "daemon/copy.h"
#include "daemon/engine.h"
#include "stream/delta.h"
#include "stream/reader.h"

enum { FOLLOW_FORMAT = 2, FOLLOW_WAIT_MS = 200, FOLLOW_TIMEOUT_MS = 10000, FOLLOW_PARTITIONS = 64 };

struct follow {
    struct cli *cli;
    struct state *state;
    struct reader *reader;
    struct copy copy;
    uint64_t base, version;
    struct digest dense;
    int64_t offsets[FOLLOW_PARTITIONS]; // after the newest whole version; -1: the beginning
    bool met;                           // a version of the copy's base was seen in the topic
    bool other;                         // before that, one of another base
    // The version that is coming in.
    bool open;
    struct delta_begin begin;
    uint64_t coming;
    uint32_t chunk;
    struct hasher *checksum;
    struct buf rows;         // u32 length, message: ...
    struct buf dense_coming; // pieces, one after the other
    struct buf learned_coming;
    int map[DELTA_TABLES_MAX]; // table number of the version -> of the copy
};

static volatile sig_atomic_t follow_stop;

static void on_follow_signal(int number)
{
    (void)number;
    follow_stop = 1;
}

// ---- the copy on disk -------------------------------------------------------------------------------------

static void follow_save(struct follow *f, bool dense)
{
    if (dense)
        state_blob_put(f->state, "dense", buf_str(&f->copy.dense));
    state_blob_put(f->state, "learned", buf_str(&f->copy.learned));
    struct buf b = {0};
    buf_put_u32(&b, FOLLOW_FORMAT);
    buf_put_u64(&b, f->base);
    buf_put_u64(&b, f->version);
    buf_put(&b, &f->dense, sizeof f->dense);
    buf_put(&b, f->offsets, sizeof f->offsets);
    buf_put_u32(&b, f->copy.n_tables);
    for (uint32_t t = 0; t < f->copy.n_tables; t++) {
        buf_put_str(&b, str_of(f->copy.tables[t].name));
        buf_put_u32(&b, f->copy.tables[t].dim);
    }
    state_blob_put(f->state, "follow", buf_str(&b));
    buf_done(&b);
}

struct row_reader {
    struct copy_table *table;
    struct err err;
};

static int follow_load_row(void *context, uint64_t id, struct str row)
{
    struct row_reader *r = context;
    if (row.len != r->table->dim * sizeof(float))
        return err_set(&r->err, ERR_CORRUPT, "a row of the copy has %u bytes", row.len);
    copy_row(r->table, id, (const uint8_t *)row.s);
    return 0;
}

static int follow_load_tables(struct follow *f, struct rd *r, struct err *err)
{
    uint32_t n = rd_u32(r);
    for (uint32_t t = 0; t < n && !r->bad; t++) {
        struct str name = rd_str(r);
        int number = copy_table(&f->copy, name, rd_u32(r));
        if (number < 0 || r->bad)
            break;
        struct row_reader reader = {.table = &f->copy.tables[number]};
        if (state_rows_each(f->state, (uint16_t)number, follow_load_row, &reader, err) != 0)
            return -1;
    }
    return r->bad ? err_set(err, ERR_CORRUPT, "the copy's record is cut short") : 0;
}

static int follow_load(struct follow *f, const char *dir, struct err *err)
{
    struct buf b = {0};
    bool found;
    if (state_blob_get(f->state, "model", &b, &found, err) != 0)
        return -1;
    buf_done(&b);
    if (found)
        return err_set(err, ERR_INVALID,
                       "%s is a daemon's state: a copy needs a directory of its own as --state", dir);
    if (state_blob_get(f->state, "dense", &f->copy.dense, &found, err) != 0 ||
        state_blob_get(f->state, "learned", &f->copy.learned, &found, err) != 0 ||
        state_blob_get(f->state, "follow", &b, &found, err) != 0)
        return -1;
    int result = 0;
    if (found) {
        struct rd r = rd_of(b.data, b.len);
        if (rd_u32(&r) != FOLLOW_FORMAT) {
            result = err_set(err, ERR_VERSION,
                             "the copy was made by another freshet: begin a new one, in a new --state");
        } else {
            f->base = rd_u64(&r);
            f->version = rd_u64(&r);
            const uint8_t *dense = rd_bytes(&r, sizeof f->dense);
            const uint8_t *offsets = rd_bytes(&r, sizeof f->offsets);
            if (dense != NULL && offsets != NULL) {
                memcpy(&f->dense, dense, sizeof f->dense);
                memcpy(f->offsets, offsets, sizeof f->offsets);
            }
            for (int p = 0; p < FOLLOW_PARTITIONS; p++)
                f->met |= f->offsets[p] >= 0;
            result = follow_load_tables(f, &r, err);
        }
    }
    buf_done(&b);
    return result;
}

// ---- a version --------------------------------------------------------------------------------------------

static int follow_damaged(const struct delta_head *head, struct err *err)
{
    return err_context(err, "version %llu is damaged; begin a new copy with --from",
                       (unsigned long long)head->version);
}

// Whether the version is one to pass over: a topic may begin with what a copy made by --from has already, and with
// versions of bases before it.
static bool follow_passed(struct follow *f, const struct delta_head *head)
{
    if (f->base == head->base) {
        f->met = true;
        return head->version <= f->version; // or delivered again: at least once
    }
    if (f->base == 0 || f->met)
        return false;
    f->other = true;
    return true;
}

static int follow_begin(struct follow *f, const struct delta_head *head, struct rd *r, struct err *err)
{
    f->open = false;
    if (follow_passed(f, head))
        return 0;
    if (delta_get_begin(r, &f->begin, err) != 0)
        return follow_damaged(head, err);
    if (f->base != 0 && f->base != head->base)
        return err_set(
            err, ERR_GAP,
            "version %llu is of base %016llx, the copy of base %016llx: begin a new copy with --from",
            (unsigned long long)head->version, (unsigned long long)head->base, (unsigned long long)f->base);
    if (head->previous != f->version)
        return err_set(
            err, ERR_GAP,
            "version %llu follows version %llu, but the copy stands at %llu: versions are missing; begin a "
            "new copy with --from a state's directory",
            (unsigned long long)head->version, (unsigned long long)head->previous,
            (unsigned long long)f->version);
    for (uint32_t t = 0; t < f->begin.n_tables; t++) {
        f->map[t] = copy_table(&f->copy, f->begin.tables[t].name, f->begin.tables[t].dim);
        if (f->map[t] < 0)
            return err_set(err, ERR_GAP,
                           "table %.*s has another dim than in the copy; begin a new copy with --from",
                           (int)f->begin.tables[t].name.len, f->begin.tables[t].name.s);
    }
    f->open = true;
    f->coming = head->version;
    f->chunk = 1;
    hasher_free(f->checksum);
    f->checksum = hasher_new();
    buf_clear(&f->rows);
    buf_clear(&f->dense_coming);
    buf_clear(&f->learned_coming);
    return 0;
}

// Rows of the waiting messages into the copy, or only counted.
static int follow_rows(struct follow *f, bool apply, uint64_t *ret_rows, uint64_t *ret_tombstones,
                       struct err *err)
{
    uint32_t dims[DELTA_TABLES_MAX];
    for (uint32_t t = 0; t < f->begin.n_tables; t++)
        dims[t] = f->begin.tables[t].dim;
    *ret_rows = *ret_tombstones = 0;
    struct rd all = rd_of(f->rows.data, f->rows.len);
    while (rd_left(&all) > 0) {
        uint32_t len = rd_u32(&all);
        struct rd r = rd_of(rd_bytes(&all, len), len);
        struct delta_head head;
        struct delta_row row;
        int more;
        if (delta_get_head(&r, &head, err) != 0)
            return -1;
        while ((more = delta_get_row(&r, dims, f->begin.n_tables, &row, err)) > 0) {
            *ret_rows += !row.tombstone;
            *ret_tombstones += row.tombstone;
            if (!apply)
                continue;
            uint16_t number = (uint16_t)f->map[row.table];
            copy_row(&f->copy.tables[number], row.id, row.tombstone ? NULL : row.vector);
            if (row.tombstone)
                state_row_delete(f->state, number, row.id);
            else
                state_row_put(
                    f->state, number, row.id,
                    (struct str){(const char *)row.vector, dims[row.table] * (uint32_t)sizeof(float)});
        }
        if (more < 0)
            return -1;
    }
    return 0;
}

// The digests in an END are of the tables as the version before left them.
static int follow_digests(const struct follow *f, const struct delta_end *end, struct err *err)
{
    for (uint32_t i = 0; i < end->n_digests; i++)
        for (uint32_t t = 0; t < f->copy.n_tables; t++) {
            const struct copy_table *table = &f->copy.tables[t];
            if (!str_is(end->digests[i].table, table->name))
                continue;
            if (table->n != end->digests[i].rows || !digest_equal(copy_digest(table), end->digests[i].digest))
                return err_set(
                    err, ERR_DIGEST,
                    "table %s of version %llu: the copy has %u rows and another digest than the daemon's "
                    "%llu rows; begin a new copy with --from",
                    table->name, (unsigned long long)f->version, table->n,
                    (unsigned long long)end->digests[i].rows);
        }
    return 0;
}

// What came of the dense layers, or else what the copy has, must be what BEGIN says.
static int follow_dense(const struct follow *f, struct err *err)
{
    struct digest digest = f->dense;
    if (f->dense_coming.len > 0 && copy_dense_digest(buf_str(&f->dense_coming), &digest, err) != 0)
        return err_context(err, "the dense layers of version %llu", (unsigned long long)f->coming);
    if (!digest_equal(digest, f->begin.dense))
        return err_set(
            err, ERR_DIGEST,
            "the dense layers of version %llu do not have the digest that its begin says; begin a new "
            "copy with --from",
            (unsigned long long)f->coming);
    return 0;
}

static void follow_take(struct buf *to, const struct buf *from)
{
    buf_clear(to);
    buf_put(to, from->data, from->len);
}

static struct digest follow_learned(const struct follow *f)
{
    return digest_bytes(f->copy.learned.data, f->copy.learned.len);
}

static void follow_print(const struct follow *f, const struct delta_end *end)
{
    char dense[DIGEST_TEXT];
    digest_text(f->dense, dense);
    if (f->cli->json)
        printf("{\"version\":%llu,\"base\":\"%016llx\",\"boundary\":%lld,\"rows\":%llu,\"tombstones\":%llu,"
               "\"dense\":\"%s\",\"verified_tables\":%u}\n",
               (unsigned long long)f->version, (unsigned long long)f->base, (long long)f->begin.boundary_ms,
               (unsigned long long)end->rows, (unsigned long long)end->tombstones, dense, end->n_digests);
    else
        printf("version %llu  rows %llu  tombstones %llu  dense %.12s  checksum ok%s\n",
               (unsigned long long)f->version, (unsigned long long)end->rows,
               (unsigned long long)end->tombstones, dense, end->n_digests > 0 ? "  tables verified" : "");
    fflush(stdout);
}

static int follow_end(struct follow *f, const struct delta_head *head, struct rd *r,
                      const struct reader_message *m, struct err *err)
{
    struct delta_end end;
    uint64_t rows;
    uint64_t tombstones;
    if (delta_get_end(r, &end, err) != 0 || follow_rows(f, false, &rows, &tombstones, err) != 0)
        return follow_damaged(head, err);
    if (rows != end.rows || tombstones != end.tombstones)
        return err_set(err, ERR_GAP,
                       "version %llu has %llu rows and %llu tombstones, its end says %llu and %llu; begin a "
                       "new copy with --from",
                       (unsigned long long)f->coming, (unsigned long long)rows,
                       (unsigned long long)tombstones, (unsigned long long)end.rows,
                       (unsigned long long)end.tombstones);
    if (!digest_equal(hasher_digest(f->checksum), end.checksum))
        return err_set(
            err, ERR_DIGEST,
            "version %llu does not have the checksum that its end says; begin a new copy with --from",
            (unsigned long long)f->coming);
    if (follow_dense(f, err) != 0 || follow_digests(f, &end, err) != 0 ||
        follow_rows(f, true, &rows, &tombstones, err) != 0)
        return -1;
    if (f->dense_coming.len > 0)
        follow_take(&f->copy.dense, &f->dense_coming);
    if (head->format > 1) // the first did not tell
        follow_take(&f->copy.learned, &f->learned_coming);
    f->open = false;
    f->base = head->base;
    f->version = f->coming;
    f->met = true;
    f->dense = f->begin.dense;
    if (m->partition < FOLLOW_PARTITIONS)
        f->offsets[m->partition] = m->offset + 1;
    follow_save(f, f->dense_coming.len > 0);
    uint64_t ticket;
    if (state_commit(f->state, (struct str){0}, &ticket, err) != 0)
        return -1;
    follow_print(f, &end);
    return 0;
}

static int follow_message(struct follow *f, const struct reader_message *m, struct err *err)
{
    struct delta_head head;
    struct rd r = rd_of(m->value.s, m->value.len);
    if (delta_get_head(&r, &head, err) != 0)
        return err_context(err, "message at partition %d offset %lld", m->partition, (long long)m->offset);
    if (head.kind == DELTA_BEGIN)
        return follow_begin(f, &head, &r, err);
    if (!f->open || head.version != f->coming)
        return 0; // pieces of a version that is here already, or whose begin came before we did
    if (head.chunk != f->chunk) {
        if (head.chunk < f->chunk)
            return 0; // a piece that was delivered again
        return err_set(err, ERR_GAP, "version %llu: piece %u is missing; begin a new copy with --from",
                       (unsigned long long)f->coming, f->chunk);
    }
    f->chunk++;
    if (head.kind == DELTA_END)
        return follow_end(f, &head, &r, m, err);
    hasher_put(f->checksum, m->value.s, m->value.len);
    if (head.kind == DELTA_ROWS) {
        buf_put_u32(&f->rows, m->value.len);
        buf_put(&f->rows, m->value.s, m->value.len);
    } else {
        buf_put(head.kind == DELTA_DENSE ? &f->dense_coming : &f->learned_coming, r.p, rd_left(&r));
    }
    return 0;
}

// ---- opening ----------------------------------------------------------------------------------------------

// A new copy from a state's tables: the way back after a gap.
static int follow_snapshot(struct follow *f, const char *dir, struct err *err)
{
    struct engine *engine;
    struct engine_options options = {.dir = dir, .read_only = true, .fail_if_absent = true};
    if (engine_open(f->cli->config, &options, &engine, err) != 0)
        return err_context(err, "snapshot %s", dir);
    const struct version *v = updater_version(engine->updater);
    f->base = v->base;
    f->version = v->version;
    f->dense = v->dense;
    for (uint32_t t = 0; t < model_table_count(updater_model(engine->updater)); t++) {
        const struct table *table = model_table(updater_model(engine->updater), t);
        uint32_t dim = table_options(table)->dim;
        int number = copy_table(&f->copy, str_of(table_options(table)->name), dim);
        uint32_t n;
        uint32_t *order = table_order(table, &n);
        for (uint32_t i = 0; i < n; i++) {
            const struct table_row *row = table_row(table, order[i]);
            if (!table_admitted(table, row))
                continue;
            copy_row(&f->copy.tables[number], row->id, (const uint8_t *)row->vector);
            state_row_put(f->state, (uint16_t)number, row->id,
                          (struct str){(const char *)row->vector, dim * (uint32_t)sizeof(float)});
        }
        free(order);
    }
    model_dense_safetensors(updater_model(engine->updater), &f->copy.dense);
    updater_learned(engine->updater, &f->copy.learned);
    engine_close(engine);
    follow_save(f, true);
    return 0;
}

static int follow_open(struct follow *f, struct err *err)
{
    const char *dir = cli_value(f->cli, "state") != NULL ? cli_value(f->cli, "state") : "freshet-follow";
    const char *from = cli_value(f->cli, "from");
    struct state_options options;
    engine_state_options(f->cli->config, &options);
    for (int p = 0; p < FOLLOW_PARTITIONS; p++)
        f->offsets[p] = -1;
    if (state_open(dir, &options, &f->state, err) != 0 || follow_load(f, dir, err) != 0)
        return -1;
    if (from != NULL && f->version > 0)
        return err_set(err, ERR_INVALID, "%s holds a copy already: --from begins a new one, in a new --state",
                       dir);
    if (from != NULL && follow_snapshot(f, from, err) != 0)
        return -1;
    return reader_new(f->cli->config->consumer.list, f->cli->config->publish.topic, f->offsets,
                      FOLLOW_PARTITIONS, FOLLOW_TIMEOUT_MS, &f->reader, err);
}

static void follow_digest(struct follow *f)
{
    struct buf out = {0};
    struct json j = json_to(&out);
    char text[DIGEST_TEXT];
    json_object(&j);
    json_key(&j, "version");
    json_uint(&j, f->version);
    json_key(&j, "tables");
    json_object(&j);
    for (uint32_t t = 0; t < f->copy.n_tables; t++) {
        digest_text(copy_digest(&f->copy.tables[t]), text);
        json_key(&j, f->copy.tables[t].name);
        json_string(&j, text);
    }
    json_end(&j);
    json_key(&j, "dense");
    digest_text(f->dense, text);
    json_string(&j, text);
    json_key(&j, "learned");
    digest_text(follow_learned(f), text);
    json_string(&j, text);
    json_end(&j);
    printf("%.*s\n", (int)out.len, (const char *)out.data);
    buf_done(&out);
}

static int follow_loop(struct follow *f, struct err *err)
{
    const char *until = cli_value(f->cli, "until");
    uint64_t last = until != NULL ? strtoull(until, NULL, 10) : UINT64_MAX;
    bool once = cli_given(f->cli, "once");
    while (!follow_stop && f->version < last) {
        struct reader_message message;
        bool found;
        if (reader_next(f->reader, FOLLOW_WAIT_MS, &message, &found, err) != 0)
            return -1;
        if (found && follow_message(f, &message, err) != 0)
            return -1;
        if (found || !reader_caught_up(f->reader))
            continue;
        if (f->other && !f->met)
            return err_set(
                err, ERR_GAP,
                "the topic has nothing of the copy's base %016llx, but versions of another: begin a "
                "new copy with --from a state of that base",
                (unsigned long long)f->base);
        if (once)
            break;
    }
    return state_commit_wait(f->state, err);
}

int follow_command(struct cli *cli)
{
    struct err err = {0};
    struct follow *f = mem_zalloc(sizeof *f);
    f->cli = cli;
    signal(SIGINT, on_follow_signal);
    signal(SIGTERM, on_follow_signal);
    int result = follow_open(f, &err);
    if (result == 0)
        result = follow_loop(f, &err);
    if (result == 0 && cli_given(cli, "digest"))
        follow_digest(f);
    if (result == 0 && cli_value(cli, "model") != NULL)
        result = copy_write(&f->copy, f->base, f->version, cli_value(cli, "model"), &err);
    reader_free(f->reader);
    state_close(f->state);
    hasher_free(f->checksum);
    copy_done(&f->copy);
    buf_done(&f->rows);
    buf_done(&f->dense_coming);
    buf_done(&f->learned_coming);
    free(f);
    return result == 0 ? EXIT_DONE : cli_fail(cli, &err);
}
