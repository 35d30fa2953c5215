// SPDX-License-Identifier: Apache-2.0
// What is put under a key of its own and read back as it is: names, embedding rows, blobs. All of it goes
// into the batch of the commit at once.
//
// Names: most calls of state_name_put repeat a text that was put a moment ago. The texts of late are kept in
// memory in two generations of at most NAMES_BYTES; one that fell out is put again, which is harmless. The
// generations turn at a commit only, when all that the older one holds is durable: so a name is always found
// in memory or in the store.
//
// Blobs: pieces of 1 MiB, and under the piece number 0xffff the head: u64 length, u64 low and high of the
// digest of the whole. A blob that is not durable is kept in memory beside its pieces.
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"
#include "state/internal.h"

enum { BLOB_HEAD = 0xffff, BLOB_HEAD_BYTES = 24 };

// Of a read whose caller cannot be told.
static void read_failed(struct state *s, const struct err *err)
{
    if (s->advance_err.code == ERR_NONE)
        s->advance_err = *err;
}

// ---- names ------------------------------------------------------------------------------------------------

void names_done(struct names *n)
{
    map_done(&n->at);
    buf_done(&n->bytes);
    *n = (struct names){0};
}

static bool names_find(const struct names *n, uint64_t id, struct str *ret_text)
{
    uint32_t at = map_get(&n->at, id);
    if (at == MAP_NONE)
        return false;
    struct rd rd = rd_of(n->bytes.data + at, n->bytes.len - at);
    *ret_text = rd_str(&rd);
    return true;
}

static void names_add(struct names *n, uint64_t id, struct str text)
{
    *map_at(&n->at, id) = (uint32_t)n->bytes.len;
    buf_put_str(&n->bytes, text);
}

void names_turn(struct state *s)
{
    if (s->names.bytes.len + map_bytes(&s->names.at) < NAMES_BYTES)
        return;
    names_done(&s->names_before);
    s->names_before = s->names;
    s->names = (struct names){0};
}

void state_name_put(struct state *s, uint64_t id, struct str text)
{
    struct str known;
    if (map_get(&s->names.at, id) != MAP_NONE)
        return;
    bool old = names_find(&s->names_before, id, &known);
    names_add(&s->names, id, text);
    if (old)
        return;
    struct key key = key_of(KEY_NAME, 0, id);
    batch_put(s, &key, text);
}

// A read that fails gives "", and the next commit fails with it.
struct str state_name(struct state *s, uint64_t id)
{
    struct str text = {"", 0};
    if (names_find(&s->names, id, &text) || names_find(&s->names_before, id, &text))
        return text;
    struct key key = key_of(KEY_NAME, 0, id);
    bool found = false;
    struct err err = {0};
    if (store_get(s->store, key.bytes, key.n, &s->name_read, &found, &err) != 0)
        read_failed(s, &err);
    return found ? buf_str(&s->name_read) : (struct str){"", 0};
}

// ---- rows -------------------------------------------------------------------------------------------------

void state_row_put(struct state *s, uint16_t table, uint64_t id, struct str row)
{
    struct key key = key_of(KEY_ROW, table, id);
    batch_put(s, &key, row);
}

void state_row_delete(struct state *s, uint16_t table, uint64_t id)
{
    struct key key = key_of(KEY_ROW, table, id);
    store_batch_delete(s->batch, key.bytes, key.n);
}

int state_rows_each(struct state *s, uint16_t table, int (*row)(void *context, uint64_t id, struct str row),
                    void *context, struct err *err)
{
    struct key key = key_of(KEY_ROW, table, 0);
    struct str prefix = {(const char *)key.bytes, 3};
    struct store_iter *it = store_iter_new(s->store, prefix, (struct str){NULL, 0}, false);
    int r = 0;
    for (; r == 0 && store_iter_valid(it); store_iter_next(it)) {
        struct str at = store_iter_key(it);
        struct rd rd = rd_of(at.s, at.len);
        rd_bytes(&rd, 3);
        uint64_t id = rd_be64(&rd);
        r = row(context, id, store_iter_value(it));
    }
    return store_iter_free(it, r == 0 ? err : NULL) != 0 ? -1 : r;
}

// ---- blobs ------------------------------------------------------------------------------------------------

static struct key key_blob(const char *name, uint16_t piece)
{
    size_t n = strlen(name);
    struct key key = key_of(KEY_BLOB, 0, hash_bytes(name, n));
    key_add(&key, name, n);
    piece = __builtin_bswap16(piece);
    key_add(&key, &piece, sizeof piece);
    return key;
}

static uint16_t blob_pieces(uint64_t length)
{
    return (uint16_t)((length + BLOB_PIECE_BYTES - 1) / BLOB_PIECE_BYTES);
}

static struct blob *blob_find(struct state *s, const char *name)
{
    for (size_t i = 0; i < s->n_blobs; i++)
        if (strcmp(s->blobs[i].name, name) == 0)
            return &s->blobs[i];
    return NULL;
}

static void blob_done(struct blob *b)
{
    free(b->name);
    buf_done(&b->bytes);
}

static void blob_remember(struct state *s, const char *name, struct str bytes)
{
    struct blob *b = blob_find(s, name);
    if (b == NULL) {
        if (s->n_blobs == s->cap_blobs) {
            s->cap_blobs = s->cap_blobs > 0 ? s->cap_blobs * 2 : 8;
            s->blobs = mem_resize(s->blobs, s->cap_blobs, sizeof *s->blobs);
        }
        b = &s->blobs[s->n_blobs++];
        *b = (struct blob){.name = mem_strdup(name)};
    }
    b->commit = s->next_commit;
    buf_clear(&b->bytes);
    buf_put(&b->bytes, bytes.s, bytes.len);
}

void blobs_durable(struct state *s, uint64_t commit)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->n_blobs; i++) {
        if (s->blobs[i].commit <= commit)
            blob_done(&s->blobs[i]);
        else
            s->blobs[kept++] = s->blobs[i];
    }
    s->n_blobs = kept;
}

void blobs_done(struct state *s)
{
    blobs_durable(s, UINT64_MAX);
    free(s->blobs);
}

// The head as the store has it; length 0 where there is none.
static int blob_head(struct state *s, const char *name, struct buf *scratch, uint64_t *ret_length,
                     struct digest *ret_digest, bool *ret_found, struct err *err)
{
    struct key key = key_blob(name, BLOB_HEAD);
    if (store_get(s->store, key.bytes, key.n, scratch, ret_found, err) != 0)
        return -1;
    *ret_length = 0;
    if (!*ret_found)
        return 0;
    struct rd rd = rd_of(scratch->data, scratch->len);
    *ret_length = rd_u64(&rd);
    ret_digest->low = rd_u64(&rd);
    ret_digest->high = rd_u64(&rd);
    if (rd.bad || *ret_length > BLOB_BYTES_MAX)
        return err_set(err, ERR_CORRUPT, "the head of blob %s is damaged", name);
    return 0;
}

// How many pieces the blob may have on disk or in a commit that is under way.
static uint16_t blob_pieces_before(struct state *s, const char *name)
{
    const struct blob *b = blob_find(s, name);
    struct buf scratch = {0};
    struct digest digest;
    uint64_t length = 0;
    bool found = false;
    uint16_t pieces = b != NULL ? blob_pieces(b->bytes.len) : 0;
    struct err err = {0};
    if (blob_head(s, name, &scratch, &length, &digest, &found, &err) != 0)
        read_failed(s, &err);
    else if (blob_pieces(length) > pieces)
        pieces = blob_pieces(length);
    buf_done(&scratch);
    return pieces;
}

static void blob_head_put(struct state *s, const char *name, struct str blob)
{
    struct digest digest = digest_bytes(blob.s, blob.len);
    uint64_t head[3] = {blob.len, digest.low, digest.high};
    static_assert(sizeof head == BLOB_HEAD_BYTES, "three numbers");
    struct key key = key_blob(name, BLOB_HEAD);
    batch_put(s, &key, (struct str){(const char *)head, sizeof head});
}

void state_blob_put(struct state *s, const char *name, struct str blob)
{
    assert(blob.len <= BLOB_BYTES_MAX);
    uint16_t before = blob_pieces_before(s, name);
    uint16_t pieces = blob_pieces(blob.len);
    for (uint16_t i = 0; i < pieces; i++) {
        uint32_t at = (uint32_t)i * BLOB_PIECE_BYTES;
        uint32_t left = blob.len - at;
        struct key key = key_blob(name, i);
        batch_put(s, &key, (struct str){blob.s + at, left < BLOB_PIECE_BYTES ? left : BLOB_PIECE_BYTES});
    }
    for (uint16_t i = pieces; i < before; i++) {
        struct key key = key_blob(name, i);
        store_batch_delete(s->batch, key.bytes, key.n);
    }
    blob_head_put(s, name, blob);
    blob_remember(s, name, blob);
}

static int blob_read(struct state *s, const char *name, uint64_t length, struct buf *piece, struct buf *to,
                     struct err *err)
{
    for (uint16_t i = 0; i < blob_pieces(length); i++) {
        struct key key = key_blob(name, i);
        bool found = false;
        if (store_get(s->store, key.bytes, key.n, piece, &found, err) != 0)
            return -1;
        if (!found)
            return err_set(err, ERR_CORRUPT, "piece %u of blob %s is missing", i, name);
        buf_put(to, piece->data, piece->len);
    }
    return 0;
}

static int blob_load(struct state *s, const char *name, struct buf *scratch, struct buf *to, bool *ret_found,
                     struct err *err)
{
    uint64_t length = 0;
    struct digest digest = {0};
    if (blob_head(s, name, scratch, &length, &digest, ret_found, err) != 0)
        return -1;
    if (!*ret_found)
        return 0;
    buf_clear(to);
    if (blob_read(s, name, length, scratch, to, err) != 0)
        return -1;
    if (to->len != length || !digest_equal(digest_bytes(to->data, to->len), digest))
        return err_set(err, ERR_CORRUPT, "blob %s is damaged: its digest does not agree", name);
    return 0;
}

int state_blob_get(struct state *s, const char *name, struct buf *ret_blob, bool *ret_found, struct err *err)
{
    const struct blob *b = blob_find(s, name);
    if (b != NULL) {
        buf_clear(ret_blob);
        buf_put(ret_blob, b->bytes.data, b->bytes.len);
        *ret_found = true;
        return 0;
    }
    struct buf scratch = {0};
    int r = blob_load(s, name, &scratch, ret_blob, ret_found, err);
    buf_done(&scratch);
    return r;
}
