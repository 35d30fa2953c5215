// SPDX-License-Identifier: Apache-2.0
// Ingestion of a batch, and retention of the LOG family. See store.c for the idea.
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/step.h"
#include "state/keys.h"
#include "state/store_private.h"

enum {
    LOG_FILE_BYTES = 4 << 20,   // LOG keys of more bytes get a file of their own
    FREE_BYTES_LEAST = 4 << 20, // below this RocksDB's own small writes (MANIFEST) are not risked
    PATH_BYTES = 4096,
};

static int fault(const struct store *s, const char *step, struct err *err)
{
    int r = s->options.fault != NULL ? s->options.fault(s->options.fault_context, step) : 0;
    if (r == 0)
        return 0;
    errno = r;
    return err_errno(err, "store %s, step \"%s\"", s->dir, step);
}

static bool is_log(const struct store_batch *b, const struct batch_slot *slot)
{
    return batch_key(b, &b->entries[slot->entry])[0] == KEY_LOG;
}

// How many slots come before the LOG family: the families are in order.
static size_t before_log(const struct store_batch *b, const struct batch_slot *slots, size_t n)
{
    size_t low = 0;
    for (size_t high = n; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (is_log(b, &slots[middle]))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static uint64_t slots_bytes(const struct store_batch *b, const struct batch_slot *slots, size_t n)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += b->entries[slots[i].entry].value_len;
    return bytes;
}

static void entry_write(rocksdb_sstfilewriter_t *writer, const struct store_batch *b,
                        const struct batch_entry *e, char **ret_text)
{
    const char *key = (const char *)batch_key(b, e);
    if (e->deleted)
        rocksdb_sstfilewriter_delete(writer, key, e->key_len, ret_text);
    else
        rocksdb_sstfilewriter_put(writer, key, e->key_len, (const char *)batch_value(b, e), e->value_len,
                                  ret_text);
}

// Writes and syncs one file.
static int file_write(struct store *s, const char *path, const struct store_batch *b,
                      const struct batch_slot *slots, size_t n, struct err *err)
{
    char *text = NULL;
    rocksdb_sstfilewriter_t *writer =
        rocksdb_sstfilewriter_create(s->env, is_log(b, slots) ? s->rocks_log : s->rocks);
    rocksdb_sstfilewriter_open(writer, path, &text);
    for (size_t i = 0; i < n && text == NULL; i++) {
        batch_prefetch(b, slots, n, i);
        entry_write(writer, b, &b->entries[slots[i].entry], &text);
    }
    if (text == NULL)
        rocksdb_sstfilewriter_finish(writer, &text);
    if (text == NULL) {
        uint64_t bytes = 0;
        rocksdb_sstfilewriter_file_size(writer, &bytes);
        atomic_fetch_add(&s->ingested_bytes, bytes);
    }
    rocksdb_sstfilewriter_destroy(writer);
    return text != NULL ? store_fail(s->dir, text, "write", err) : 0;
}

static int room_check(const struct store *s, struct err *err)
{
    struct statvfs v;
    if (statvfs(s->dir, &v) != 0)
        return err_errno(err, "store %s", s->dir);
    uint64_t bytes = (uint64_t)v.f_bavail * v.f_frsize;
    if (bytes >= FREE_BYTES_LEAST)
        return 0;
    return err_set_retriable(
        err, ERR_FULL, "no space for the store %s: make room, it is tried again (%" PRIu64 " bytes are free)",
        s->dir, bytes);
}

static int files_ingest(struct store *s, const char *const *paths, size_t n, struct err *err)
{
    if (fault(s, "ingest", err) != 0 || room_check(s, err) != 0)
        return -1;
    char *text = NULL;
    step_reached("commit.ingest");
    rocksdb_ingest_external_file(s->db, paths, n, s->ingest, &text);
    return text != NULL ? store_fail(s->dir, text, "ingest", err) : 0;
}

static int slots_ingest(struct store *s, const struct store_batch *b, const struct batch_slot *slots,
                        size_t n, struct err *err)
{
    size_t split = before_log(b, slots, n);
    if (split > 0 && slots_bytes(b, slots + split, n - split) <= LOG_FILE_BYTES)
        split = n;
    char names[2][PATH_BYTES];
    const char *paths[2];
    size_t n_paths = 0;
    int r = 0;
    for (size_t from = 0; from < n && r == 0; n_paths++) {
        size_t to = from < split ? split : n;
        snprintf(names[n_paths], PATH_BYTES, "%s/%" PRIu64 ".sst", s->ingest_dir, s->n_files++);
        paths[n_paths] = names[n_paths];
        r = file_write(s, paths[n_paths], b, slots + from, to - from, err);
        from = to;
    }
    step_reached("commit.written");
    if (r == 0)
        r = files_ingest(s, paths, n_paths, err);
    // Where it is unknown what the disk holds the next open may need them: store_salvage.c.
    for (size_t i = 0; i < n_paths && r != 0 && err->retriable; i++)
        unlink(paths[i]);
    return r;
}

// A killed process leaves files that are due to be merged. That waits until the store has been read and takes
// its first batch: a start needs the processors itself. Where it fails the next batch tries again.
static void compaction_begin(struct store *s)
{
    static const char *const key[] = {"disable_auto_compactions"};
    static const char *const value[] = {"false"};
    char *text = NULL;
    rocksdb_set_options(s->db, 1, key, value, &text);
    s->compacts = text == NULL;
    rocksdb_free(text);
}

int store_ingest(struct store *s, struct store_batch *b, struct err *err)
{
    assert(s->magic == STORE_MAGIC && !s->options.read_only);
    if (b->n == 0)
        return 0;
    if (fault(s, "write", err) != 0)
        return -1;
    size_t n = 0;
    step_reached("commit.write");
    struct batch_slot *slots = batch_sort(b, &n);
    int r = slots_ingest(s, b, slots, n, err);
    free(slots);
    if (r == 0 && !s->compacts)
        compaction_begin(s);
    return r;
}

static void log_key(uint64_t commit, uint8_t ret_key[KEY_PREFIX])
{
    commit = __builtin_bswap64(commit);
    memset(ret_key, 0, KEY_PREFIX);
    ret_key[0] = KEY_LOG;
    memcpy(ret_key + 3, &commit, sizeof commit);
}

int store_log_expire(struct store *s, uint64_t from_commit, uint64_t to_commit, struct err *err)
{
    assert(s->magic == STORE_MAGIC && !s->options.read_only);
    uint8_t from[KEY_PREFIX];
    uint8_t to[KEY_PREFIX];
    log_key(from_commit, from);
    log_key(to_commit, to);
    char *text = NULL;
    rocksdb_delete_file_in_range(s->db, (const char *)from, sizeof from, (const char *)to, sizeof to, &text);
    return text != NULL ? store_fail(s->dir, text, "retention", err) : 0;
}
