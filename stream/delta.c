// SPDX-License-Identifier: Apache-2.0
// The bytes of the delta stream. docs/DELTAS.md is the reference; the two change together, and with them
// DELTA_FORMAT. Everything is little-endian and packed; strings are a LEB128 length and the bytes.
//
//   head     0      4        6      7      8       16        24         32      36
//            "FDLT" | format | kind | zero | base  | version | previous | chunk | payload...
//                     u16      u8     u8     u64     u64       u64        u32
//   BEGIN    boundary i64 | trained_through u64 | dense digest 16
//            | tables u16 | (dim u32 | name)... | check u64
//   ROWS     (table u16 | flags u8 | id u64 | text | dim x f32, none for a tombstone)... to the end
//   DENSE    a piece of a safetensors document, to the end
//   LEARNED  the same of another
//   END      rows u64 | tombstones u64 | checksum 16
//            | digests u16 | (table | digest 16 | rows u64)... | check u64
//
// ROWS, DENSE and LEARNED are covered by the checksum in END. BEGIN and END carry a check of their own: the XXH3-64 of
// the payload before it. The head needs none: kind, version and chunk must follow one another.
#include "stream/delta.h"

#include <assert.h>

enum {
    DELTA_TOMBSTONE = 1, // flag of a row
    DELTA_TEXT_BYTES = 256,
};

static const char delta_magic[4] = {'F', 'D', 'L', 'T'};

static void delta_put_head(struct buf *to, const struct delta_head *head, enum delta_kind kind)
{
    size_t start = to->len;
    buf_put(to, delta_magic, sizeof delta_magic);
    buf_put_u16(to, DELTA_FORMAT);
    buf_put_u8(to, (uint8_t)kind);
    buf_put_u8(to, 0);
    buf_put_u64(to, head->base);
    buf_put_u64(to, head->version);
    buf_put_u64(to, head->previous);
    buf_put_u32(to, head->chunk);
    assert(to->len - start == DELTA_HEAD_BYTES);
}

static void delta_put_digest(struct buf *to, struct digest d)
{
    buf_put_u64(to, d.low);
    buf_put_u64(to, d.high);
}

// The check over what was put since `payload`.
static void delta_put_check(struct buf *to, size_t payload)
{
    buf_put_u64(to, hash_bytes(to->data + payload, to->len - payload));
}

void delta_put_begin(struct buf *to, const struct delta_head *head, const struct delta_begin *begin)
{
    assert(begin->n_tables <= DELTA_TABLES_MAX);
    delta_put_head(to, head, DELTA_BEGIN);
    size_t payload = to->len;
    buf_put_u64(to, (uint64_t)begin->boundary_ms);
    buf_put_u64(to, begin->trained_through);
    delta_put_digest(to, begin->dense);
    buf_put_u16(to, (uint16_t)begin->n_tables);
    for (uint32_t i = 0; i < begin->n_tables; i++) {
        buf_put_u32(to, begin->tables[i].dim);
        buf_put_str(to, begin->tables[i].name);
    }
    delta_put_check(to, payload);
}

void delta_put_rows_head(struct buf *to, const struct delta_head *head)
{
    delta_put_head(to, head, DELTA_ROWS);
}

void delta_put_row(struct buf *to, uint16_t table, uint64_t id, struct str text, const float *vector,
                   uint32_t dim)
{
    assert(text.len <= DELTA_TEXT_BYTES);
    buf_put_u16(to, table);
    buf_put_u8(to, vector == NULL ? DELTA_TOMBSTONE : 0);
    buf_put_u64(to, id);
    buf_put_str(to, text);
    if (vector != NULL)
        buf_put(to, vector, dim * sizeof *vector);
}

void delta_put_piece(struct buf *to, const struct delta_head *head, struct str safetensors)
{
    assert(head->kind == DELTA_DENSE || head->kind == DELTA_LEARNED);
    delta_put_head(to, head, head->kind);
    buf_put(to, safetensors.s, safetensors.len);
}

void delta_put_end(struct buf *to, const struct delta_head *head, const struct delta_end *end)
{
    assert(end->n_digests <= DELTA_TABLES_MAX);
    delta_put_head(to, head, DELTA_END);
    size_t payload = to->len;
    buf_put_u64(to, end->rows);
    buf_put_u64(to, end->tombstones);
    delta_put_digest(to, end->checksum);
    buf_put_u16(to, (uint16_t)end->n_digests);
    for (uint32_t i = 0; i < end->n_digests; i++) {
        buf_put_str(to, end->digests[i].table);
        delta_put_digest(to, end->digests[i].digest);
        buf_put_u64(to, end->digests[i].rows);
    }
    delta_put_check(to, payload);
}

int delta_get_head(struct rd *from, struct delta_head *ret_head, struct err *err)
{
    const uint8_t *magic = rd_bytes(from, sizeof delta_magic);
    if (magic == NULL || memcmp(magic, delta_magic, sizeof delta_magic) != 0)
        return err_set(err, ERR_CORRUPT, "not a delta message: it does not begin with FDLT");
    uint16_t format = rd_u16(from);
    if (!from->bad && (format < DELTA_FORMAT_OLDEST || format > DELTA_FORMAT))
        return err_set(err, ERR_VERSION, "a delta message of format %u; this program reads formats %d to %d",
                       format, DELTA_FORMAT_OLDEST, DELTA_FORMAT);
    uint8_t kind = rd_u8(from);
    uint8_t zero = rd_u8(from);
    struct delta_head head = {.format = format, .kind = kind};
    head.base = rd_u64(from);
    head.version = rd_u64(from);
    head.previous = rd_u64(from);
    head.chunk = rd_u32(from);
    if (from->bad)
        return err_set(err, ERR_CORRUPT, "a delta message that ends within its head");
    const uint8_t last = format == 1 ? DELTA_END : DELTA_LEARNED;
    if (kind < DELTA_BEGIN || kind > last || zero != 0 || head.version == 0)
        return err_set(err, ERR_CORRUPT, "a delta message with a malformed head (kind %u)", kind);
    *ret_head = head;
    return 0;
}

// Verifies the check at the end of the payload and takes it off the reader.
static int delta_take_check(struct rd *from, const char *what, struct err *err)
{
    size_t n = rd_left(from);
    if (n < sizeof(uint64_t))
        return err_set(err, ERR_CORRUPT, "%s is cut off", what);
    n -= sizeof(uint64_t);
    struct rd check = rd_of(from->p + n, sizeof(uint64_t));
    if (rd_u64(&check) != hash_bytes(from->p, n))
        return err_set(err, ERR_CORRUPT, "%s is damaged: its check does not match", what);
    from->end = from->p + n;
    return 0;
}

static int delta_finish(const struct rd *from, const char *what, struct err *err)
{
    if (from->bad || rd_left(from) != 0)
        return err_set(err, ERR_CORRUPT, "%s is malformed", what);
    return 0;
}

static struct digest delta_get_digest(struct rd *from)
{
    uint64_t low = rd_u64(from);
    return (struct digest){low, rd_u64(from)};
}

int delta_get_begin(struct rd *from, struct delta_begin *ret_begin, struct err *err)
{
    if (delta_take_check(from, "the BEGIN of a delta", err) < 0)
        return -1;
    struct delta_begin begin = {.boundary_ms = (int64_t)rd_u64(from)};
    begin.trained_through = rd_u64(from);
    begin.dense = delta_get_digest(from);
    begin.n_tables = rd_u16(from);
    if (begin.n_tables > DELTA_TABLES_MAX)
        return err_set(err, ERR_CORRUPT, "a delta of %u tables; at most %d are read", begin.n_tables,
                       DELTA_TABLES_MAX);
    for (uint32_t i = 0; i < begin.n_tables; i++) {
        begin.tables[i].dim = rd_u32(from);
        begin.tables[i].name = rd_str(from);
    }
    if (delta_finish(from, "the BEGIN of a delta", err) < 0)
        return -1;
    *ret_begin = begin;
    return 0;
}

int delta_get_end(struct rd *from, struct delta_end *ret_end, struct err *err)
{
    if (delta_take_check(from, "the END of a delta", err) < 0)
        return -1;
    struct delta_end end = {.rows = rd_u64(from)};
    end.tombstones = rd_u64(from);
    end.checksum = delta_get_digest(from);
    end.n_digests = rd_u16(from);
    if (end.n_digests > DELTA_TABLES_MAX)
        return err_set(err, ERR_CORRUPT, "a delta with digests of %u tables; at most %d are read",
                       end.n_digests, DELTA_TABLES_MAX);
    for (uint32_t i = 0; i < end.n_digests; i++) {
        end.digests[i].table = rd_str(from);
        end.digests[i].digest = delta_get_digest(from);
        end.digests[i].rows = rd_u64(from);
    }
    if (delta_finish(from, "the END of a delta", err) < 0)
        return -1;
    *ret_end = end;
    return 0;
}

int delta_get_row(struct rd *from, const uint32_t *dims, uint32_t n_tables, struct delta_row *ret_row,
                  struct err *err)
{
    if (from->bad)
        return err_set(err, ERR_CORRUPT, "the ROWS of a delta are malformed");
    if (rd_left(from) == 0)
        return 0;
    struct delta_row row = {.table = rd_u16(from)};
    uint8_t flags = rd_u8(from);
    row.id = rd_u64(from);
    row.text = rd_str(from);
    if (from->bad)
        return err_set(err, ERR_CORRUPT, "the ROWS of a delta end within a row");
    if (row.table >= n_tables)
        return err_set(err, ERR_CORRUPT, "a delta row of table %u; the version has %u", row.table, n_tables);
    if (flags > DELTA_TOMBSTONE || row.text.len > DELTA_TEXT_BYTES)
        return err_set(err, ERR_CORRUPT, "a malformed delta row of table %u", row.table);
    row.tombstone = flags == DELTA_TOMBSTONE;
    if (!row.tombstone) {
        row.vector = rd_bytes(from, dims[row.table] * sizeof(float));
        if (row.vector == NULL)
            return err_set(err, ERR_CORRUPT, "the ROWS of a delta end within a vector");
    }
    *ret_row = row;
    return 1;
}
