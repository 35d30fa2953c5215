// SPDX-License-Identifier: Apache-2.0
// The inside of a store and of a batch, for store*.c alone.
#ifndef FRESHET_STATE_STORE_PRIVATE_H
#define FRESHET_STATE_STORE_PRIVATE_H

#include <rocksdb/c.h>
#include <stdatomic.h>

#include "state/store.h"

enum { STORE_MAGIC = 0x53544f52 };

struct store {
    uint32_t magic;
    struct store_options options;
    char *dir;
    char *ingest_dir;
    rocksdb_t *db;
    rocksdb_cache_t *cache;
    rocksdb_options_t *rocks;           // also of the files that a batch is written to,
    rocksdb_options_t *rocks_log;       // but for those of LOG alone
    rocksdb_compactionfilter_t *filter; // NULL: none
    rocksdb_envoptions_t *env;
    rocksdb_ingestexternalfileoptions_t *ingest;
    rocksdb_readoptions_t *read;
    bool compacts;    // since the first batch: see store_ingest
    uint64_t n_files; // written by this process: names the next one
    _Atomic uint64_t ingested_bytes;
};

// Takes the error string of RocksDB (and frees it) over into err. Returns -1.
int store_fail(const char *dir, char *text, const char *doing, struct err *err);

// The search for the files of a commit whose MANIFEST could not be synced.
struct salvage {
    uint64_t number; // of the file that is missing; 0: none yet
    uint32_t next;   // of the originals: the one to try next
    uint32_t tries;
    bool linked;
};
// An open failed with this text of RocksDB: true if a file was put in the place of a missing one, so that it is
// worth another try.
bool store_salvage(const struct store *s, const char *text, struct salvage *v);

struct batch_entry {
    size_t at; // of the key in bytes.data; the value follows it
    uint32_t value_len;
    uint16_t key_len;
    bool deleted : 1;
    bool old : 1;  // gives way to any other entry of the key
    bool held : 1; // what follows the key is a pointer to the value
};

struct batch_slot {
    uint64_t head;  // first 8 bytes of the key, big-endian, zeros after a shorter key
    uint32_t entry; // index into entries: also the order of arrival
};

struct store_batch {
    struct buf bytes;
    struct batch_entry *entries;
    size_t n, cap;
    size_t held; // bytes of values that lie elsewhere
    bool open;   // the value of the last entry is being put
};

static inline const uint8_t *batch_key(const struct store_batch *b, const struct batch_entry *e)
{
    return b->bytes.data + e->at;
}

static inline const uint8_t *batch_value(const struct store_batch *b, const struct batch_entry *e)
{
    const uint8_t *value = b->bytes.data + e->at + e->key_len;
    if (e->held)
        memcpy(&value, value, sizeof value);
    return value;
}

enum { BATCH_AHEAD_ENTRY = 24, BATCH_AHEAD_KEY = 12 };

// Sorted, entries lie anywhere: for a walk over `slots` that is at the i-th of n.
__attribute__((always_inline)) static inline void
batch_prefetch(const struct store_batch *b, const struct batch_slot *slots, size_t n, size_t i)
{
    if (i + BATCH_AHEAD_ENTRY < n)
        __builtin_prefetch(&b->entries[slots[i + BATCH_AHEAD_ENTRY].entry]);
    if (i + BATCH_AHEAD_KEY < n)
        __builtin_prefetch(batch_key(b, &b->entries[slots[i + BATCH_AHEAD_KEY].entry]));
}

// The entries in order of key, of equal keys only the last. *ret_n slots, to be freed with free().
struct batch_slot *batch_sort(const struct store_batch *b, size_t *ret_n);

#endif
