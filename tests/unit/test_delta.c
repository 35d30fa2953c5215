// SPDX-License-Identifier: Apache-2.0
// The delta format: what is put comes back; whatever else arrives is refused and never crashes.
#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "stream/delta.h"

static const uint32_t dims[] = {4, 1, 32};
static const struct delta_head head = {.base = 7, .version = 12, .previous = 11, .chunk = 3};

static struct rd payload(const struct buf *b, enum delta_kind kind)
{
    struct rd r = rd_of(b->data, b->len);
    struct delta_head h;
    struct err err = {0};
    cr_assert_eq(delta_get_head(&r, &h, &err), 0, "%s", err.message);
    cr_assert(h.kind == kind && h.base == 7 && h.version == 12 && h.previous == 11 && h.chunk == 3);
    cr_assert_eq(b->len - rd_left(&r), DELTA_HEAD_BYTES);
    return r;
}

static struct delta_begin a_begin(void)
{
    struct delta_begin b = {.boundary_ms = -5, .trained_through = 1u << 20, .dense = {1, 2}, .n_tables = 3};
    b.tables[0].name = str_of("users");
    b.tables[1].name = str_of("items");
    b.tables[2].name = str_of("");
    for (int i = 0; i < 3; i++)
        b.tables[i].dim = dims[i];
    return b;
}

static struct delta_end an_end(void)
{
    struct delta_end e = {.rows = 100, .tombstones = 7, .checksum = {3, UINT64_MAX}, .n_digests = 2};
    e.digests[0] = (struct delta_table_digest){str_of("users"), {5, 6}, 1000};
    e.digests[1] = (struct delta_table_digest){str_of("items"), {7, 8}, 0};
    return e;
}

Test(delta, begin_comes_back)
{
    struct buf b = {0};
    struct delta_begin in = a_begin();
    struct delta_begin out;
    struct err err = {0};
    delta_put_begin(&b, &head, &in);
    struct rd r = payload(&b, DELTA_BEGIN);
    cr_assert_eq(delta_get_begin(&r, &out, &err), 0, "%s", err.message);
    cr_assert(out.boundary_ms == in.boundary_ms && out.trained_through == in.trained_through);
    cr_assert(digest_equal(out.dense, in.dense));
    cr_assert_eq(out.n_tables, 3);
    for (int i = 0; i < 3; i++)
        cr_assert(str_equal(out.tables[i].name, in.tables[i].name) && out.tables[i].dim == in.tables[i].dim);
    buf_done(&b);
}

Test(delta, end_comes_back)
{
    struct buf b = {0};
    struct delta_end in = an_end();
    struct delta_end out;
    struct err err = {0};
    delta_put_end(&b, &head, &in);
    struct rd r = payload(&b, DELTA_END);
    cr_assert_eq(delta_get_end(&r, &out, &err), 0, "%s", err.message);
    cr_assert(out.rows == 100 && out.tombstones == 7 && digest_equal(out.checksum, in.checksum));
    cr_assert_eq(out.n_digests, 2);
    for (int i = 0; i < 2; i++) {
        cr_assert(str_equal(out.digests[i].table, in.digests[i].table));
        cr_assert(digest_equal(out.digests[i].digest, in.digests[i].digest));
        cr_assert_eq(out.digests[i].rows, in.digests[i].rows);
    }
    buf_done(&b);
}

Test(delta, pieces_of_documents_come_back)
{
    static const enum delta_kind kinds[] = {DELTA_DENSE, DELTA_LEARNED};
    for (int i = 0; i < 2; i++) {
        struct buf b = {0};
        struct delta_head of = head;
        of.kind = kinds[i];
        delta_put_piece(&b, &of, str_of("a piece of safetensors"));
        struct rd r = payload(&b, kinds[i]);
        cr_assert(str_is((struct str){(const char *)r.p, (uint32_t)rd_left(&r)}, "a piece of safetensors"));
        buf_done(&b);
    }
}

// The first format had no LEARNED; else its bytes are the same.
Test(delta, the_first_format_is_read)
{
    struct buf b = {0};
    struct rd r;
    struct delta_head got, of = head;
    struct err err = {0};
    of.kind = DELTA_DENSE;
    delta_put_piece(&b, &of, str_of("layers"));
    b.data[4] = 1;
    r = rd_of(b.data, b.len);
    cr_assert_eq(delta_get_head(&r, &got, &err), 0, "%s", err.message);
    cr_assert(got.format == 1 && got.kind == DELTA_DENSE && rd_left(&r) == 6);
    b.data[6] = DELTA_LEARNED;
    r = rd_of(b.data, b.len);
    cr_assert_eq(delta_get_head(&r, &got, &err), -1);
    cr_assert_eq(err.code, ERR_CORRUPT);
    b.data[4] = 2;
    r = rd_of(b.data, b.len);
    cr_assert_eq(delta_get_head(&r, &got, &err), 0, "%s", err.message);
    cr_assert(got.format == 2 && got.kind == DELTA_LEARNED);
    buf_done(&b);
}

struct row {
    uint16_t table;
    uint64_t id;
    bool tombstone;
    char text[300];
    float vector[32];
};

static struct row random_row(struct rng *g)
{
    struct row row = {
        .table = (uint16_t)rng_below(g, 3), .id = rng_u64(g), .tombstone = rng_below(g, 4) == 0};
    uint64_t n = rng_below(g, 257);
    memset(row.text, 'a' + (int)rng_below(g, 26), n);
    for (uint32_t i = 0; i < dims[row.table]; i++)
        row.vector[i] = (float)rng_normal(g);
    return row;
}

static void put_row(struct buf *b, const struct row *row)
{
    delta_put_row(b, row->table, row->id, str_of(row->text), row->tombstone ? NULL : row->vector,
                  dims[row->table]);
}

Test(delta, rows_come_back)
{
    enum { N = 1000 };
    struct rng g = rng_of(1);
    struct row *rows = mem_array(N, sizeof *rows);
    struct buf b = {0};
    struct err err = {0};
    delta_put_rows_head(&b, &head);
    for (int i = 0; i < N; i++) {
        rows[i] = random_row(&g);
        put_row(&b, &rows[i]);
    }
    struct rd r = payload(&b, DELTA_ROWS);
    struct delta_row out;
    for (int i = 0; i < N; i++) {
        cr_assert_eq(delta_get_row(&r, dims, 3, &out, &err), 1, "%s", err.message);
        cr_assert(out.table == rows[i].table && out.id == rows[i].id && out.tombstone == rows[i].tombstone);
        cr_assert(str_is(out.text, rows[i].text));
        if (!out.tombstone)
            cr_assert_eq(memcmp(out.vector, rows[i].vector, dims[out.table] * sizeof(float)), 0);
    }
    cr_assert_eq(delta_get_row(&r, dims, 3, &out, &err), 0);
    buf_done(&b);
    free(rows);
}

// Reads a message as a consumer would. 0: taken to its end.
static int read_all(const uint8_t *p, size_t n, struct err *err)
{
    uint8_t *copy = mem_alloc(n); // exactly n bytes: a sanitizer sees a read behind them
    memcpy(copy, p, n);
    struct rd r = rd_of(copy, n);
    struct delta_head h;
    static struct delta_begin begin;
    static struct delta_end end;
    struct delta_row row;
    int result = delta_get_head(&r, &h, err);
    if (result == 0 && h.kind == DELTA_BEGIN)
        result = delta_get_begin(&r, &begin, err);
    else if (result == 0 && h.kind == DELTA_END)
        result = delta_get_end(&r, &end, err);
    else if (result == 0 && h.kind == DELTA_ROWS)
        while ((result = delta_get_row(&r, dims, 3, &row, err)) == 1)
            ;
    free(copy);
    return result;
}

static bool refused(const struct err *err)
{
    return (err->code == ERR_CORRUPT || err->code == ERR_VERSION) && err->message[0] != '\0';
}

// Every prefix and every flipped bit: no crash. What must be noticed: a BEGIN or END that is not whole.
static void torture(const struct buf *b, bool checked)
{
    struct err err = {0};
    cr_assert_eq(read_all(b->data, b->len, &err), 0, "%s", err.message);
    for (size_t n = 0; n < b->len; n++) {
        err = (struct err){0};
        int result = read_all(b->data, n, &err);
        cr_assert(result == 0 ? !checked && n >= DELTA_HEAD_BYTES : refused(&err), "cut to %zu", n);
    }
    for (size_t bit = 0; bit < 8 * b->len; bit++) {
        err = (struct err){0};
        b->data[bit / 8] ^= (uint8_t)(1 << (bit % 8));
        int result = read_all(b->data, b->len, &err);
        b->data[bit / 8] ^= (uint8_t)(1 << (bit % 8));
        if (result < 0)
            cr_assert(refused(&err), "bit %zu", bit);
        else
            cr_assert(!checked || bit / 8 < DELTA_HEAD_BYTES, "bit %zu", bit);
    }
}

Test(delta, damage_is_refused)
{
    struct buf b = {0};
    struct rng g = rng_of(2);
    struct delta_begin begin = a_begin();
    struct delta_end end = an_end();
    delta_put_begin(&b, &head, &begin);
    torture(&b, true);
    buf_clear(&b);
    delta_put_end(&b, &head, &end);
    torture(&b, true);
    buf_clear(&b);
    delta_put_rows_head(&b, &head);
    for (int i = 0; i < 8; i++) {
        struct row row = random_row(&g);
        row.text[20] = '\0';
        put_row(&b, &row);
    }
    torture(&b, false);
    buf_done(&b);
}

Test(delta, noise_is_refused)
{
    struct rng g = rng_of(3);
    struct buf b = {0};
    for (int round = 0; round < 20000; round++) {
        buf_clear(&b);
        delta_put_rows_head(&b, &head);
        b.data[6] = (uint8_t)(1 + rng_below(&g, 4)); // kind
        for (uint64_t n = rng_below(&g, 200); n > 0; n--)
            buf_put_u8(&b, (uint8_t)rng_u64(&g));
        struct err err = {0};
        if (read_all(b.data, b.len, &err) < 0)
            cr_assert(refused(&err));
    }
    buf_done(&b);
}

Test(delta, another_format_is_named)
{
    struct buf b = {0};
    struct err err = {0};
    static const uint8_t others[] = {0, DELTA_FORMAT + 1};
    delta_put_rows_head(&b, &head);
    for (int i = 0; i < 2; i++) {
        b.data[4] = others[i];
        cr_assert_eq(read_all(b.data, b.len, &err), -1);
        cr_assert_eq(err.code, ERR_VERSION);
    }
    buf_done(&b);
}
