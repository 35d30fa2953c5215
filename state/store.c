// SPDX-License-Identifier: Apache-2.0
// The store: RocksDB without its write path. A put through RocksDB's WriteBatch costs 4 to 5 us, mostly in
// the memtable's skip list, and as much again in recovery from the WAL. Here a batch is sorted once, written
// through SstFileWriter and ingested: nothing is ever in a memtable or a WAL, an ingestion is one record in
// the MANIFEST, so it is atomic, and opening after kill -9 has nothing to replay.
//
//     DIR/                 RocksDB's own: CURRENT, MANIFEST-*, *.sst, LOCK, LOG, OPTIONS-*; its WAL stays empty
//     DIR/ingest/N.sst     files of a batch that is being written; the ingestion moves (links) them into DIR;
//                          what a killed process left is removed at open
//
// Durability: SstFileWriter syncs a file when it finishes it; the ingestion syncs it again after the link,
// then DIR, then the MANIFEST. When it returns, the batch is on the disk.
//
// Compaction: level, 256 MB base, dynamic level sizes. Files of the LOG family that are large go in alone;
// their keys lie above all others, so they land in the last level and are not rewritten. Small ones share the
// file of the rest and travel down with it.
//
// Errors: RocksDB's C API gives strings only; store_fail knows the ones that matter.
#include "state/store.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "state/keys.h"
#include "state/store_private.h"

enum {
    BLOCK_BYTES = 16 << 10,
    BLOCK_CACHE_LEAST = 8 << 20,
    FILTER_BITS = 10, // bits a key: 1% of absent keys cost a read
    OPEN_FILES = 512, // well under the usual limit of 1,024
    LEVEL0_FILES = 4, // so many files of commits before they are merged
    LEVEL_BASE_BYTES = 256 << 20,
    FILE_BYTES = 32 << 20,
    COMPACTION_BYTES = 256 << 20, // at most this much of the next level is rewritten for one file
    MANIFEST_BYTES = 16 << 20,
    INFO_LOG_NOTHING = 6, // above every level
    FORMAT_VERSION = 5,
    MEMTABLE_BYTES = 1 << 20, // never written to
    READ_ONLY_TRIES = 10,     // files can go while a read-only open of a live store finds them
};

// ---- errors -----------------------------------------------------------------------------------------------

// Who holds the lock. Not for locks of this process: closing any descriptor of LOCK would drop them.
static long lock_holder(const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/LOCK", dir);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return 0;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    bool held = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    close(fd);
    return held ? (long)lock.l_pid : 0;
}

static int fail_locked(const char *dir, const char *text, struct err *err)
{
    long pid = strstr(text, "current process") == NULL ? lock_holder(dir) : (long)getpid();
    char who[48] = "another process";
    if (pid > 0)
        snprintf(who, sizeof who, "process %ld", pid);
    return err_set(
        err, ERR_LOCKED,
        "%s holds the store %s: ask it over HTTP, or stop it first (systemctl stop freshet); a store "
        "that is in use can also be opened read-only",
        who, dir);
}

static bool text_has(const char *text, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strstr(text, *words) != NULL)
            return true;
    return false;
}

int store_fail(const char *dir, char *text, const char *doing, struct err *err)
{
    static const char *const full[] = {"No space left", "NoSpace", "Disk quota", "Space limit", NULL};
    static const char *const locked[] = {"While lock file", "lock hold by", NULL};
    static const char *const corrupt[] = {"Corruption", "No such file", "checksum mismatch", "size mismatch",
                                          NULL};
    static const char *const version[] = {"Not implemented", "Unknown Footer", "unsupported format", NULL};
    if (text_has(text, locked))
        fail_locked(dir, text, err);
    else if (text_has(text, full) && strstr(text, "MANIFEST-") != NULL)
        // RocksDB does not know any more what its MANIFEST holds, and fails an assertion when tried again.
        err_set(
            err, ERR_FULL,
            "%s: no space for the MANIFEST of the store %s: make room and start again; nothing is lost (%s)",
            doing, dir, text);
    else if (text_has(text, full))
        err_set_retriable(err, ERR_FULL, "%s: no space for the store %s: make room, it is tried again (%s)",
                          doing, dir, text);
    else if (text_has(text, version))
        err_set(err, ERR_VERSION, "%s: the store %s was written by another RocksDB: %s", doing, dir, text);
    else if (text_has(text, corrupt))
        err_set(
            err, ERR_CORRUPT,
            "%s: the store %s is damaged: %s; restore the directory from a backup, or move it away and begin "
            "again from the stream",
            doing, dir, text);
    else
        err_set(err, ERR_IO, "%s: store %s: %s", doing, dir, text);
    rocksdb_free(text);
    return -1;
}

// ---- the directory ----------------------------------------------------------------------------------------

struct contents {
    bool absent, current, tables, foreign;
    char example[256]; // a foreign name
};

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

static bool ends(const char *name, const char *with)
{
    size_t n = strlen(name);
    size_t w = strlen(with);
    return n >= w && strcmp(name + n - w, with) == 0;
}

static void contents_see(struct contents *c, const char *name)
{
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lost+found") == 0)
        return;
    bool manifest = begins(name, "MANIFEST-");
    if (strcmp(name, "CURRENT") == 0)
        c->current = true;
    else if (ends(name, ".sst") || (manifest && strcmp(name, "MANIFEST-000001") != 0))
        c->tables = true;
    else if (!manifest && strcmp(name, "LOCK") != 0 && strcmp(name, "IDENTITY") != 0 &&
             !begins(name, "LOG") && !begins(name, "OPTIONS-") && !ends(name, ".log") &&
             !ends(name, ".dbtmp") && strcmp(name, "ingest") != 0) {
        c->foreign = true;
        snprintf(c->example, sizeof c->example, "%s", name);
    }
}

static int contents_read(const char *dir, struct contents *ret, struct err *err)
{
    struct contents c = {0};
    DIR *d = opendir(dir);
    if (d == NULL && errno != ENOENT)
        return err_errno(err, "store %s", dir);
    c.absent = d == NULL;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        contents_see(&c, e->d_name);
    if (d != NULL)
        closedir(d);
    *ret = c;
    return 0;
}

static int dir_sync(const char *dir, struct err *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        err_errno(err, "sync of the directory %s", dir);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    close(fd);
    return 0;
}

static int dir_make(const char *dir, struct err *err)
{
    if (mkdir(dir, 0750) != 0 && errno != EEXIST)
        return err_errno(err, "cannot create the directory %s", dir);
    char *parent = mem_alloc(strlen(dir) + 4);
    sprintf(parent, "%s/..", dir);
    int r = dir_sync(parent, err);
    free(parent);
    return r;
}

// A store, or a place where one may be made.
static int dir_check(const char *dir, const struct store_options *options, struct err *err)
{
    struct contents c = {0};
    if (contents_read(dir, &c, err) != 0)
        return -1;
    if (c.current)
        return 0;
    if (c.tables)
        return err_set(
            err, ERR_CORRUPT,
            "the store %s is damaged: its file CURRENT is gone; restore the directory from a backup, or "
            "move it away and begin again from the stream",
            dir);
    if (c.foreign)
        return err_set(err, ERR_INVALID,
                       "%s is no freshet store and not empty (it holds \"%s\"): name another one", dir,
                       c.example);
    if (options->read_only || options->fail_if_absent)
        return err_set(err, ERR_NOT_FOUND, "there is no store in %s", dir);
    return dir_make(dir, err);
}

// Removes what a killed process left in ingest/; called under the lock.
static int ingest_dir_clean(const struct store *s, struct err *err)
{
    if (mkdir(s->ingest_dir, 0750) != 0 && errno != EEXIST)
        return err_errno(err, "cannot create the directory %s", s->ingest_dir);
    DIR *d = opendir(s->ingest_dir);
    if (d == NULL)
        return err_errno(err, "store %s", s->ingest_dir);
    int r = 0;
    for (struct dirent *e; r == 0 && (e = readdir(d)) != NULL;)
        if (ends(e->d_name, ".sst") && unlinkat(dirfd(d), e->d_name, 0) != 0)
            r = err_errno(err, "cannot remove %s/%s", s->ingest_dir, e->d_name);
    closedir(d);
    return r;
}

// ---- options ----------------------------------------------------------------------------------------------

static const char *filter_name(void *state)
{
    (void)state;
    return "freshet.expired";
}

static void filter_done(void *state)
{
    (void)state;
}

static unsigned char filter_drops(void *state, int level, const char *key, size_t key_len, const char *value,
                                  size_t value_len, char **ret_value, size_t *ret_len,
                                  unsigned char *ret_changed)
{
    (void)level, (void)value, (void)value_len;
    const struct store *s = state;
    *ret_changed = 0;
    *ret_value = NULL;
    *ret_len = 0;
    return s->options.expired(s->options.expired_context, (const uint8_t *)key, key_len);
}

// What the filter knows of a key beside the whole of it: a user, an item, a group.
static char *prefix_of(void *state, const char *key, size_t n, size_t *ret_n)
{
    (void)state, (void)n;
    *ret_n = key_prefix((uint8_t)key[0]);
    return (char *)key;
}

static unsigned char prefix_has(void *state, const char *key, size_t n)
{
    (void)state;
    return n > 0 && n >= key_prefix((uint8_t)key[0]);
}

static unsigned char prefix_is(void *state, const char *prefix, size_t n)
{
    (void)state;
    return n > 0 && n == key_prefix((uint8_t)prefix[0]);
}

static const char *prefix_name(void *state)
{
    (void)state;
    return "freshet.prefix";
}

// Index and filter are cut into blocks: the filter of a whole file is a megabyte, more than a shard of the
// cache takes, and would be read again for every search.
static rocksdb_block_based_table_options_t *table_options(const struct store *s)
{
    rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_size(t, BLOCK_BYTES);
    rocksdb_block_based_options_set_format_version(t, FORMAT_VERSION);
    rocksdb_block_based_options_set_block_cache(t, s->cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(t, 1);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(t, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(t, 1);
    rocksdb_block_based_options_set_index_type(t,
                                               rocksdb_block_based_table_index_type_two_level_index_search);
    rocksdb_block_based_options_set_partition_filters(t, 1);
    rocksdb_block_based_options_set_pin_top_level_index_and_filter(t, 1);
    rocksdb_block_based_options_set_filter_policy(t, rocksdb_filterpolicy_create_bloom_full(FILTER_BITS));
    rocksdb_block_based_options_set_whole_key_filtering(t, 1);
    return t;
}

static void options_set_compaction(rocksdb_options_t *o)
{
    rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
    rocksdb_options_set_level0_file_num_compaction_trigger(o, LEVEL0_FILES);
    rocksdb_options_set_max_bytes_for_level_base(o, LEVEL_BASE_BYTES);
    rocksdb_options_set_target_file_size_base(o, FILE_BYTES);
    rocksdb_options_set_max_compaction_bytes(o, COMPACTION_BYTES);
    rocksdb_options_set_max_background_jobs(o, 2);
    rocksdb_options_set_disable_auto_compactions(o, 1); // until the first batch
    rocksdb_options_set_compression(o, rocksdb_lz4_compression);
    rocksdb_options_set_write_buffer_size(o, MEMTABLE_BYTES);
}

static void options_set_files(rocksdb_options_t *o, bool read_only)
{
    // A read-only store opens every file at once and keeps it, so that the daemon beside it may delete them.
    rocksdb_options_set_max_open_files(o, read_only ? -1 : OPEN_FILES);
    rocksdb_options_set_paranoid_checks(o, 1);
    rocksdb_options_set_skip_stats_update_on_db_open(o, 1);
    rocksdb_options_set_max_manifest_file_size(o, MANIFEST_BYTES);
    // A write to its LOG that fails (a full disk) makes the next one fail an assertion. What matters of it comes
    // back in the texts of errors.
    rocksdb_options_set_info_log_level(o, INFO_LOG_NOTHING);
    rocksdb_options_set_keep_log_file_num(o, 2);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_stats_persist_period_sec(o, 0);
}

static void store_options_make(struct store *s)
{
    uint64_t cache = s->options.block_cache_bytes;
    s->cache = rocksdb_cache_create_lru(cache > BLOCK_CACHE_LEAST ? cache : BLOCK_CACHE_LEAST);
    s->rocks = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(s->rocks, !s->options.read_only && !s->options.fail_if_absent);
    rocksdb_options_enable_statistics(s->rocks);
    rocksdb_options_set_prefix_extractor(
        s->rocks,
        rocksdb_slicetransform_create(NULL, filter_done, prefix_of, prefix_has, prefix_is, prefix_name));
    options_set_compaction(s->rocks);
    options_set_files(s->rocks, s->options.read_only);
    rocksdb_block_based_table_options_t *table = table_options(s);
    rocksdb_options_set_block_based_table_factory(s->rocks, table);
    rocksdb_block_based_options_destroy(table);
    if (s->options.expired != NULL) {
        s->filter = rocksdb_compactionfilter_create(s, filter_done, filter_drops, filter_name);
        rocksdb_options_set_compaction_filter(s->rocks, s->filter);
    }
    // LOG is hashes and varints: LZ4 takes 1 to 7 % off it, for 3 to 4 % of what an event costs.
    s->rocks_log = rocksdb_options_create_copy(s->rocks);
    rocksdb_options_set_compression(s->rocks_log, rocksdb_no_compression);
    s->env = rocksdb_envoptions_create();
    s->read = rocksdb_readoptions_create();
    s->ingest = rocksdb_ingestexternalfileoptions_create();
    rocksdb_ingestexternalfileoptions_set_move_files(s->ingest, 1);
}

// ---- open and close ---------------------------------------------------------------------------------------

static int open_read_only(struct store *s, struct err *err)
{
    for (int i = 0;; i++) {
        char *text = NULL;
        s->db = rocksdb_open_for_read_only(s->rocks, s->dir, 0, &text);
        if (text == NULL)
            return 0;
        if (i == READ_ONLY_TRIES || strstr(text, "No such file") == NULL)
            return store_fail(s->dir, text, "open", err);
        rocksdb_free(text);
    }
}

static int open_for_writing(struct store *s, struct err *err)
{
    struct salvage salvage = {0};
    for (;;) {
        char *text = NULL;
        s->db = rocksdb_open(s->rocks, s->dir, &text);
        if (text == NULL)
            return ingest_dir_clean(s, err);
        if (!store_salvage(s, text, &salvage))
            return store_fail(s->dir, text, "open", err);
        rocksdb_free(text);
    }
}

int store_open(const char *dir, const struct store_options *options, struct store **ret_store,
               struct err *err)
{
    if (dir_check(dir, options, err) != 0)
        return -1;
    struct store *s = mem_zalloc(sizeof *s);
    s->magic = STORE_MAGIC;
    s->options = *options;
    s->dir = mem_strdup(dir);
    s->ingest_dir = mem_alloc(strlen(dir) + sizeof "/ingest");
    sprintf(s->ingest_dir, "%s/ingest", dir);
    store_options_make(s);
    if ((options->read_only ? open_read_only(s, err) : open_for_writing(s, err)) != 0) {
        store_close(s);
        return -1;
    }
    *ret_store = s;
    return 0;
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    assert(s->magic == STORE_MAGIC);
    if (s->db != NULL) {
        rocksdb_cancel_all_background_work(s->db, 1);
        rocksdb_close(s->db);
    }
    rocksdb_ingestexternalfileoptions_destroy(s->ingest);
    rocksdb_readoptions_destroy(s->read);
    rocksdb_envoptions_destroy(s->env);
    rocksdb_options_destroy(s->rocks_log);
    rocksdb_options_destroy(s->rocks);
    if (s->filter != NULL)
        rocksdb_compactionfilter_destroy(s->filter);
    rocksdb_cache_destroy(s->cache);
    free(s->ingest_dir);
    free(s->dir);
    s->magic = 0;
    free(s);
}

// ---- figures ----------------------------------------------------------------------------------------------

static uint64_t property(const struct store *s, const char *name)
{
    uint64_t value = 0;
    return rocksdb_property_int(s->db, name, &value) == 0 ? value : 0;
}

static uint64_t count_files(const struct store *s)
{
    uint64_t n = 0;
    for (int level = 0; level < 7; level++) {
        char name[48];
        snprintf(name, sizeof name, "rocksdb.num-files-at-level%d", level);
        char *text = rocksdb_property_value(s->db, name);
        if (text != NULL)
            n += strtoull(text, NULL, 10);
        rocksdb_free(text);
    }
    return n;
}

// The C API gives what compaction wrote in the statistics text only: "Cumulative compaction: 0.12 GB write".
static uint64_t compacted_bytes(const struct store *s)
{
    static const char mark[] = "Cumulative compaction: ";
    char *text = rocksdb_property_value(s->db, "rocksdb.cfstats-no-file-histogram");
    const char *at = text != NULL ? strstr(text, mark) : NULL;
    double gigabytes = at != NULL ? strtod(at + strlen(mark), NULL) : 0;
    rocksdb_free(text);
    return (uint64_t)(gigabytes * (1 << 30));
}

// And counters in another: "rocksdb.block.cache.hit COUNT : 17".
static uint64_t ticker(const char *text, const char *name)
{
    const char *at = text != NULL ? strstr(text, name) : NULL;
    return at != NULL ? strtoull(at + strlen(name), NULL, 10) : 0;
}

void store_figures(const struct store *s, struct store_figures *ret_figures)
{
    assert(s->magic == STORE_MAGIC);
    char *text = rocksdb_options_statistics_get_string(s->rocks);
    *ret_figures = (struct store_figures){
        .written_bytes = atomic_load(&s->ingested_bytes) + compacted_bytes(s),
        .files = count_files(s),
        .disk_bytes = property(s, "rocksdb.total-sst-files-size"),
        .block_cache_used = rocksdb_cache_get_usage(s->cache),
        .work_bytes = property(s, "rocksdb.estimate-table-readers-mem") +
                      property(s, "rocksdb.cur-size-all-mem-tables"),
        .block_hits = ticker(text, "rocksdb.block.cache.hit COUNT : "),
        .block_misses = ticker(text, "rocksdb.block.cache.miss COUNT : "),
    };
    rocksdb_free(text);
}

uint64_t store_family_bytes(const struct store *s, uint8_t first, uint8_t last)
{
    const char from = (char)first;
    const char to = (char)(last + 1);
    const char *starts[] = {&from};
    const char *ends[] = {&to};
    const size_t one = 1;
    uint64_t bytes = 0;
    char *text = NULL;
    rocksdb_approximate_sizes(s->db, 1, starts, &one, ends, &one, &bytes, &text);
    rocksdb_free(text); // a figure is no reason to fail
    return bytes;
}
