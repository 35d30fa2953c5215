// SPDX-License-Identifier: Apache-2.0
// A store of sorted keys on RocksDB, used inside state/ only. Writing is by batches: a batch is sorted,
// written as one or two SST files and ingested in one call, so it is there as a whole or not at all, without
// a WAL. Any thread may read; one thread at a time ingests.
#ifndef FRESHET_STATE_STORE_H
#define FRESHET_STATE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

struct store;
struct store_batch;
struct store_iter;

struct store_options {
    uint64_t block_cache_bytes;
    bool read_only;
    bool fail_if_absent;
    int (*fault)(void *context, const char *step); // see state_options
    void *fault_context;
    // Keys that a compaction may drop: called from RocksDB's threads. NULL: none.
    bool (*expired)(void *context, const uint8_t *key, size_t n);
    void *expired_context;
};

int store_open(const char *dir, const struct store_options *options, struct store **ret_store,
               struct err *err);
void store_close(struct store *s);

// Keys and values are copied. A key that comes twice in a batch: the later one counts.
struct store_batch *store_batch_new(void);
void store_batch_free(struct store_batch *b);
// Empty, for the next commit: pages that were there need not be made again.
void store_batch_clear(struct store_batch *b);
// What `more` holds, as if it were put now.
void store_batch_append(struct store_batch *b, const struct store_batch *more);
void store_batch_put(struct store_batch *b, const void *key, size_t key_len, const void *value,
                     size_t value_len);
// The same of a value that is not copied: it stays where it is until the batch was ingested or is freed.
void store_batch_put_held(struct store_batch *b, const void *key, size_t key_len, const void *value,
                          size_t value_len);
// The same of a value that the caller puts behind what the buffer holds, until store_batch_end. Nothing else is put
// between the two.
struct buf *store_batch_begin(struct store_batch *b, const void *key, size_t key_len);
void store_batch_end(struct store_batch *b);
void store_batch_delete(struct store_batch *b, const void *key, size_t key_len);
// The same, unless the batch puts the key, before or after.
void store_batch_delete_old(struct store_batch *b, const void *key, size_t key_len);
uint64_t store_batch_count(const struct store_batch *b);
uint64_t store_batch_bytes(const struct store_batch *b);

// Durable on return. LOG keys go into a file of their own when they are many bytes, else into the same file.
// ERR_FULL, retriable: the store is as it was and the batch can be ingested again.
int store_ingest(struct store *s, struct store_batch *b, struct err *err);

int store_get(struct store *s, const void *key, size_t key_len, struct buf *ret_value, bool *ret_found,
              struct err *err);

// Keys that begin with `prefix` (from key_prefix bytes on it uses the filter), in order, from `from` on (NULL:
// the first). `fill_cache` false for scans of everything.
struct store_iter *store_iter_new(struct store *s, struct str prefix, struct str from, bool fill_cache);
bool store_iter_valid(const struct store_iter *it);
void store_iter_next(struct store_iter *it);
void store_iter_seek(struct store_iter *it, struct str key);
struct str store_iter_key(const struct store_iter *it);
struct str store_iter_value(const struct store_iter *it);
// It is valid, and its key begins so.
static inline bool store_iter_begins(const struct store_iter *it, struct str prefix)
{
    if (!store_iter_valid(it))
        return false;
    struct str key = store_iter_key(it);
    return key.len >= prefix.len && memcmp(key.s, prefix.s, prefix.len) == 0;
}
int store_iter_error(const struct store_iter *it,
                     struct err *err);                       // of a read; where it is not valid any more
int store_iter_free(struct store_iter *it, struct err *err); // reports a read error
// One for any number of searches: store_iter_seek to key_prefix bytes, and it is valid as long as keys begin so. It
// sees the store as it was when it was made, and keeps the files of then.
struct store_iter *store_iter_prefixes(struct store *s);

// Deletes whole files that lie in [from, to) of the LOG family, by commit number.
int store_log_expire(struct store *s, uint64_t from_commit, uint64_t to_commit, struct err *err);

struct store_figures {
    uint64_t written_bytes, files, disk_bytes, block_cache_used, block_hits, block_misses;
    uint64_t work_bytes; // memory of table readers and memtables, beside the cache
};
void store_figures(const struct store *s, struct store_figures *ret_figures);
// About how many bytes on disk the keys from family `first` to family `last` take.
uint64_t store_family_bytes(const struct store *s, uint8_t first, uint8_t last);

#endif
