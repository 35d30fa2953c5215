// SPDX-License-Identifier: Apache-2.0
// What store.h promises: a batch is there as a whole or not at all, also after SIGKILL; a failed step loses
// nothing; what is read agrees with a plain map; damage, locks and foreign directories have a name.
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/rng.h"
#include "state/keys.h"
#include "state/store.h"

// ---- helpers ----------------------------------------------------------------------------------------------

static char dir[64];

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void dir_new(void)
{
    strcpy(dir, "/tmp/freshet-store-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}

static void dir_remove(void)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct store *open_with(const struct store_options *options)
{
    struct store *s = NULL;
    struct err err = {0};
    cr_assert_eq(store_open(dir, options, &s, &err), 0, "%s", err.message);
    return s;
}

static struct store *open_plain(void)
{
    struct store_options o = {.block_cache_bytes = 8 << 20};
    return open_with(&o);
}

static enum err_code open_fails(const struct store_options *options, struct err *err)
{
    struct store *s = NULL;
    *err = (struct err){0};
    cr_assert_eq(store_open(dir, options, &s, err), -1, "it opened");
    cr_assert_gt(strlen(err->message), 0);
    return err->code;
}

struct test_key {
    uint8_t bytes[16];
    size_t n;
};

static struct test_key key_of(uint8_t family, uint64_t id, uint8_t sub)
{
    struct test_key k = {.n = 12};
    k.bytes[0] = family;
    k.bytes[2] = (uint8_t)(id % 3);
    uint64_t be = __builtin_bswap64(id);
    memcpy(k.bytes + 3, &be, sizeof be);
    k.bytes[11] = sub;
    return k;
}

static struct test_key log_key(uint64_t commit)
{
    struct test_key k = key_of(KEY_LOG, commit, 'b');
    k.bytes[2] = 0;
    return k;
}

static void put(struct store_batch *b, struct test_key k, const void *value, size_t n)
{
    store_batch_put(b, k.bytes, k.n, value, n);
}

static bool get(struct store *s, struct test_key k, struct buf *value)
{
    bool found = false;
    struct err err = {0};
    cr_assert_eq(store_get(s, k.bytes, k.n, value, &found, &err), 0, "%s", err.message);
    return found;
}

static void ingest(struct store *s, struct store_batch *b)
{
    struct err err = {0};
    cr_assert_eq(store_ingest(s, b, &err), 0, "%s", err.message);
    store_batch_free(b);
}

// ---- against a plain map ----------------------------------------------------------------------------------

enum { TWIN_IDS = 300, TWIN_SUBS = 4, TWIN_KEYS = TWIN_IDS * TWIN_SUBS };

struct twin {
    bool there[TWIN_KEYS];
    uint64_t value[TWIN_KEYS];
};

static struct test_key twin_key(size_t i)
{
    static const uint8_t families[] = {KEY_META, KEY_USER, KEY_ROW, KEY_LOG};
    uint64_t id = i / TWIN_SUBS;
    return key_of(families[id % 4], hash_mix(id + 1), (uint8_t)(i % TWIN_SUBS));
}

static void twin_batch(struct twin *t, struct rng *r, struct store *s)
{
    struct store_batch *b = store_batch_new();
    size_t n = 1 + (size_t)rng_below(r, 400);
    for (size_t k = 0; k < n; k++) {
        size_t i = (size_t)rng_below(r, TWIN_KEYS);
        struct test_key key = twin_key(i);
        t->there[i] = rng_below(r, 4) > 0;
        t->value[i] = rng_u64(r);
        if (t->there[i] && i % 2 == 0)
            store_batch_put_held(b, key.bytes, key.n, &t->value[i], sizeof t->value[i]);
        else if (t->there[i])
            put(b, key, &t->value[i], sizeof t->value[i]);
        else
            store_batch_delete(b, key.bytes, key.n);
    }
    cr_assert_eq(store_batch_count(b), n);
    ingest(s, b);
}

static void twin_compare_gets(const struct twin *t, struct store *s)
{
    struct buf value = {0};
    for (size_t i = 0; i < TWIN_KEYS; i++) {
        bool found = get(s, twin_key(i), &value);
        cr_assert_eq(found, t->there[i], "key %zu", i);
        if (found)
            cr_assert(value.len == 8 && memcmp(value.data, &t->value[i], 8) == 0, "key %zu", i);
    }
    buf_done(&value);
}

static size_t twin_count(const struct twin *t, const struct test_key *prefix, size_t n,
                         const struct test_key *from)
{
    size_t count = 0;
    for (size_t i = 0; i < TWIN_KEYS; i++) {
        struct test_key k = twin_key(i);
        bool in = memcmp(k.bytes, prefix->bytes, n) == 0 &&
                  (from == NULL || memcmp(k.bytes, from->bytes, k.n) >= 0);
        count += t->there[i] && in;
    }
    return count;
}

// Counts the keys of a prefix and checks their order.
static size_t iterate(struct store *s, const struct test_key *prefix, size_t n, const struct test_key *from)
{
    struct str p = {(const char *)prefix->bytes, (uint32_t)n};
    struct str f = {from != NULL ? (const char *)from->bytes : NULL, from != NULL ? (uint32_t)from->n : 0};
    struct store_iter *it = store_iter_new(s, p, f, rand() % 2 == 0);
    struct test_key last = {.n = 0};
    size_t count = 0;
    for (; store_iter_valid(it); store_iter_next(it), count++) {
        struct str key = store_iter_key(it);
        cr_assert(key.len == 12 && memcmp(key.s, prefix->bytes, n) == 0);
        cr_assert(count == 0 || memcmp(key.s, last.bytes, key.len) > 0);
        memcpy(last.bytes, key.s, key.len);
        cr_assert_eq(store_iter_value(it).len, 8);
    }
    struct err err = {0};
    cr_assert_eq(store_iter_free(it, &err), 0, "%s", err.message);
    return count;
}

static void twin_compare_iterators(const struct twin *t, struct rng *r, struct store *s)
{
    static const size_t lengths[] = {0, 1, 3, KEY_PREFIX};
    for (int k = 0; k < 60; k++) {
        struct test_key prefix = twin_key((size_t)rng_below(r, TWIN_KEYS));
        struct test_key from = prefix;
        size_t n = lengths[k % 4];
        bool with_from = rng_below(r, 2) == 0;
        size_t seen = iterate(s, &prefix, n, with_from ? &from : NULL);
        cr_assert_eq(seen, twin_count(t, &prefix, n, with_from ? &from : NULL));
    }
}

Test(store, agrees_with_a_plain_map, .init = dir_new, .fini = dir_remove)
{
    static struct twin t;
    struct rng r = rng_of(7);
    struct store *s = open_plain();
    for (int round = 0; round < 40; round++) {
        twin_batch(&t, &r, s);
        if (round % 10 == 9) {
            twin_compare_gets(&t, s);
            twin_compare_iterators(&t, &r, s);
            store_close(s);
            s = open_plain();
        }
    }
    twin_compare_gets(&t, s);
    store_close(s);
}

Test(store, the_later_of_two_equal_keys_counts, .init = dir_new, .fini = dir_remove)
{
    struct store *s = open_plain();
    struct store_batch *b = store_batch_new();
    struct test_key k = key_of(KEY_USER, 5, 'N');
    struct test_key gone = key_of(KEY_USER, 6, 'N');
    for (uint64_t i = 0; i < 100; i++) {
        put(b, k, &i, sizeof i);
        put(b, gone, &i, sizeof i);
    }
    store_batch_delete(b, gone.bytes, gone.n);
    ingest(s, b);
    struct buf value = {0};
    uint64_t last = 99;
    cr_assert(get(s, k, &value) && memcmp(value.data, &last, 8) == 0);
    cr_assert_not(get(s, gone, &value));
    buf_done(&value);
    store_close(s);
}

Test(store, an_iterator_seeks_within_its_prefix, .init = dir_new, .fini = dir_remove)
{
    struct store *s = open_plain();
    struct store_batch *b = store_batch_new();
    for (uint8_t sub = 0; sub < 10; sub++)
        put(b, key_of(KEY_USER, 3, sub), &sub, 1);
    ingest(s, b);
    struct test_key k = key_of(KEY_USER, 3, 7);
    struct test_key absent = key_of(KEY_USER, 1u << 20, 0);
    struct store_iter *it =
        store_iter_new(s, (struct str){(char *)k.bytes, KEY_PREFIX}, (struct str){0}, true);
    store_iter_seek(it, (struct str){(char *)k.bytes, (uint32_t)k.n});
    cr_assert(store_iter_valid(it) && store_iter_value(it).s[0] == 7);
    store_iter_free(it, NULL);
    it = store_iter_new(s, (struct str){(char *)absent.bytes, KEY_PREFIX}, (struct str){0}, true);
    cr_assert_not(store_iter_valid(it));
    store_iter_free(it, NULL);
    store_close(s);
}

enum { NEIGHBOURS = 600 };

static struct test_group {
    uint8_t bytes[KEY_GROUP_PREFIX + 1];
} neighbour_of(uint32_t i)
{
    struct test_group k = {{KEY_GROUP, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}}; // one owner
    uint64_t value = __builtin_bswap64(hash_mix(i / 2 + 1u));
    k.bytes[KEY_PREFIX] = 1;
    k.bytes[KEY_PREFIX + 1] = (uint8_t)(i / 2 % 3);
    memcpy(k.bytes + KEY_PREFIX + 2, &value, sizeof value);
    k.bytes[KEY_GROUP_PREFIX] = i % 2 ? 'L' : 'N';
    return k;
}

static bool reader_finds(struct store_iter *it, const struct test_group *k, const char *value)
{
    store_iter_seek(it, (struct str){(const char *)k->bytes, KEY_GROUP_PREFIX});
    uint32_t n = 0;
    for (; store_iter_valid(it) && memcmp(store_iter_key(it).s, k->bytes, KEY_GROUP_PREFIX) == 0;
         store_iter_next(it))
        cr_assert(++n <= 2 && str_equal(store_iter_value(it), str_of(value)));
    cr_assert_not(store_iter_valid(it), "it went on behind its prefix");
    cr_assert_eq(store_iter_error(it, NULL), 0);
    return n > 0;
}

// Several times in one batch; the last counts.
static void neighbours_put(struct store *s, uint8_t without, const char *value)
{
    struct store_batch *b = store_batch_new();
    for (uint32_t i = 0; i < 3 * NEIGHBOURS; i++) {
        struct test_group k = neighbour_of(i * 7 % NEIGHBOURS);
        if (k.bytes[KEY_PREFIX + 1] != without)
            store_batch_put(b, k.bytes, sizeof k.bytes, i < 2 * NEIGHBOURS ? "old" : value, 3);
    }
    ingest(s, b);
}

// The keys of an owner's groups begin alike: a long run for the sort. A reader searches among them any number of times,
// and sees what there was when it was made.
Test(store, a_reader_searches_among_neighbours, .init = dir_new, .fini = dir_remove)
{
    struct store *s = open_plain();
    neighbours_put(s, 2, "one");
    struct store_iter *before = store_iter_prefixes(s);
    neighbours_put(s, 3, "two");
    struct store_iter *after = store_iter_prefixes(s);
    for (uint32_t k = 0; k < NEIGHBOURS; k++) {
        struct test_group g = neighbour_of(k * 7 % NEIGHBOURS);
        cr_assert_eq(reader_finds(before, &g, "one"), g.bytes[KEY_PREFIX + 1] != 2);
        cr_assert(reader_finds(after, &g, "two"));
        g.bytes[KEY_GROUP_PREFIX - 1] ^= 1;
        cr_assert_not(reader_finds(after, &g, ""));
    }
    uint32_t n = 0;
    struct test_group first = neighbour_of(0);
    struct str owner = {(const char *)first.bytes, KEY_GROUP_OWNER};
    struct store_iter *all = store_iter_new(s, owner, (struct str){NULL, 0}, true);
    uint8_t last[sizeof first.bytes] = {0};
    for (; store_iter_valid(all); store_iter_next(all), n++) {
        cr_assert(memcmp(store_iter_key(all).s, last, sizeof last) > 0);
        memcpy(last, store_iter_key(all).s, sizeof last);
    }
    cr_assert_eq(n, NEIGHBOURS);
    cr_assert_eq(store_iter_free(before, NULL) + store_iter_free(after, NULL) + store_iter_free(all, NULL),
                 0);
    store_close(s);
}

// ---- atomicity --------------------------------------------------------------------------------------------

enum { KILL_KEYS = 3000, KILL_LOG_BYTES = 5 << 20, KILL_ROUNDS = 8 };

static void kill_batch(struct store *s, uint64_t commit)
{
    struct store_batch *b = store_batch_new();
    for (uint64_t i = 0; i < KILL_KEYS; i++)
        put(b, key_of(KEY_USER, hash_mix(i + 1), 'C'), &commit, sizeof commit);
    size_t n = commit % 3 == 0 ? KILL_LOG_BYTES : 100; // a file of its own, or not
    uint8_t *log = mem_zalloc(n);
    put(b, log_key(commit), log, n);
    free(log);
    struct err err;
    if (store_ingest(s, b, &err) != 0)
        _exit(3);
    store_batch_free(b);
}

// Commits for ever, and tells each commit that is durable.
static void kill_child(int fd, uint64_t commit)
{
    struct store_options o = {0};
    struct store *s;
    struct err err;
    if (store_open(dir, &o, &s, &err) != 0)
        _exit(2);
    for (;; commit++) {
        kill_batch(s, commit);
        if (write(fd, &commit, sizeof commit) != sizeof commit)
            _exit(4);
    }
}

// In a process of its own: the commit that the store holds; 0 if it is not whole.
static uint64_t kill_check(void)
{
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct store *s = open_plain();
        struct buf value = {0};
        uint64_t commit = 0;
        bool whole = true;
        for (uint64_t i = 0; i < KILL_KEYS; i++) {
            whole = whole && get(s, key_of(KEY_USER, hash_mix(i + 1), 'C'), &value);
            whole = whole && (i == 0 || memcmp(&commit, value.data, 8) == 0);
            memcpy(&commit, value.data, whole ? 8 : 0);
        }
        whole = whole && get(s, log_key(commit), &value) && !get(s, log_key(commit + 1), &value);
        commit = whole ? commit : 0;
        store_close(s);
        _exit(write(fds[1], &commit, sizeof commit) != sizeof commit);
    }
    uint64_t commit = 0;
    close(fds[1]);
    cr_assert_eq(read(fds[0], &commit, sizeof commit), sizeof commit);
    close(fds[0]);
    waitpid(pid, NULL, 0);
    return commit;
}

// Lets a child commit, and kills it somewhere in the commit after the `n`th. Returns the last one it told.
static uint64_t kill_round(uint64_t commit, uint64_t n, uint64_t spins)
{
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0)
        kill_child(fds[1], commit);
    close(fds[1]);
    uint64_t told = 0;
    for (uint64_t i = 0; i < n; i++)
        cr_assert_eq(read(fds[0], &told, sizeof told), sizeof told);
    for (volatile uint64_t i = 0; i < spins; i++)
        ;
    kill(pid, SIGKILL);
    for (uint64_t more; read(fds[0], &more, sizeof more) == sizeof more;)
        told = more;
    close(fds[0]);
    waitpid(pid, NULL, 0);
    return told;
}

Test(store, a_kill_leaves_one_commit_or_the_one_before, .init = dir_new, .fini = dir_remove, .timeout = 60)
{
    struct rng r = rng_of(11);
    uint64_t commit = 1;
    for (int round = 0; round < KILL_ROUNDS; round++) {
        uint64_t told = kill_round(commit, 1 + rng_below(&r, 4), rng_below(&r, 20000000));
        uint64_t held = kill_check();
        cr_assert(held == told || held == told + 1, "told %lu, holds %lu", (unsigned long)told,
                  (unsigned long)held);
        commit = held + 1;
    }
}

// ---- faults -----------------------------------------------------------------------------------------------

struct fault_plan {
    const char *step;
    int error;
    int times;
};

static int fault(void *context, const char *step)
{
    struct fault_plan *p = context;
    if (p->times == 0 || strcmp(step, p->step) != 0)
        return 0;
    p->times--;
    return p->error;
}

static size_t count_names(const char *sub)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, sub);
    DIR *d = opendir(path);
    cr_assert_not_null(d);
    size_t n = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void fault_step(const char *step)
{
    struct fault_plan plan = {step, ENOSPC, 2};
    struct store_options o = {.fault = fault, .fault_context = &plan};
    struct store *s = open_with(&o);
    struct store_batch *b = store_batch_new();
    struct buf value = {0};
    struct err err = {0};
    struct test_key k = key_of(KEY_USER, hash_bytes(step, strlen(step)), 'N');
    put(b, k, step, strlen(step));
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(store_ingest(s, b, &err), -1);
        cr_assert(err.code == ERR_FULL && err.retriable, "%s", err.message);
        cr_assert_not(get(s, k, &value));
        cr_assert_eq(count_names("ingest"), 0);
    }
    ingest(s, b);
    cr_assert(get(s, k, &value) && memcmp(value.data, step, strlen(step)) == 0);
    buf_done(&value);
    store_close(s);
}

Test(store, a_full_disk_loses_nothing, .init = dir_new, .fini = dir_remove)
{
    fault_step("write");
    fault_step("ingest");
}

Test(store, a_failed_sync_is_not_tried_again, .init = dir_new, .fini = dir_remove)
{
    struct fault_plan plan = {"ingest", EIO, 1};
    struct store_options o = {.fault = fault, .fault_context = &plan};
    struct store *s = open_with(&o);
    struct store_batch *b = store_batch_new();
    struct err err = {0};
    put(b, key_of(KEY_USER, 1, 'N'), "x", 1);
    cr_assert_eq(store_ingest(s, b, &err), -1);
    cr_assert(err.code == ERR_IO && !err.retriable, "%s", err.message);
    store_batch_free(b);
    store_close(s);
}

// ---- the directory ----------------------------------------------------------------------------------------

static void file_write(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    fputs(text, f);
    fclose(f);
}

// What a failed sync of the MANIFEST leaves: the MANIFEST names a file that is in ingest/ alone.
static void newest_table_into_ingest(const char *as)
{
    char from[300] = "";
    char to[300];
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (strstr(e->d_name, ".sst") != NULL) {
            char path[300];
            snprintf(path, sizeof path, "%s/%.200s", dir, e->d_name);
            if (strcmp(path, from) > 0)
                strcpy(from, path);
        }
    closedir(d);
    snprintf(to, sizeof to, "%s/ingest/%s", dir, as);
    cr_assert_eq(rename(from, to), 0);
}

static void store_of_commits(int n)
{
    struct store *s = open_plain();
    for (int i = 0; i < n; i++) {
        struct store_batch *b = store_batch_new();
        char value[8];
        int len = snprintf(value, sizeof value, "%d", i);
        put(b, key_of(KEY_USER, (uint64_t)i + 1, 'N'), value, (size_t)len);
        cr_assert_eq(store_ingest(s, b, NULL), 0);
        store_batch_free(b);
    }
    store_close(s);
}

Test(store, files_of_a_commit_whose_manifest_was_not_synced_are_found, .init = dir_new, .fini = dir_remove)
{
    store_of_commits(3);
    file_write("ingest/0.sst", "of a commit that was killed while it was written");
    newest_table_into_ingest("1.sst");
    newest_table_into_ingest("2.sst");
    struct store *s = open_plain();
    for (int i = 0; i < 3; i++) {
        struct buf value = {0};
        cr_assert(get(s, key_of(KEY_USER, (uint64_t)i + 1, 'N'), &value));
        cr_assert(value.len == 1 && value.data[0] == '0' + i);
        buf_done(&value);
    }
    store_close(s);
}

Test(store, a_lost_table_is_not_replaced_by_another, .init = dir_new, .fini = dir_remove)
{
    struct store_options o = {0};
    struct err err;
    store_of_commits(3);
    newest_table_into_ingest("1.sst");
    char path[300];
    snprintf(path, sizeof path, "%s/ingest/1.sst", dir);
    cr_assert_eq(unlink(path), 0);
    newest_table_into_ingest("1.sst"); // of the commit before: as large, and not the same
    cr_assert_eq(open_fails(&o, &err), ERR_CORRUPT, "%s", err.message);
}

static void store_with_keys(void)
{
    struct store *s = open_plain();
    struct store_batch *b = store_batch_new();
    for (uint64_t i = 0; i < 5000; i++)
        put(b, key_of(KEY_USER, hash_mix(i + 1), 'N'), &i, sizeof i);
    ingest(s, b);
    store_close(s);
}

Test(store, leftover_files_are_removed_at_open, .init = dir_new, .fini = dir_remove)
{
    store_with_keys();
    file_write("ingest/17.sst", "half a file");
    store_close(open_plain());
    cr_assert_eq(count_names("ingest"), 0);
}

Test(store, a_foreign_directory_is_refused, .init = dir_new, .fini = dir_remove)
{
    file_write("thesis.tex", "important");
    struct err err;
    struct store_options o = {0};
    cr_assert_eq(open_fails(&o, &err), ERR_INVALID);
    cr_assert_not_null(strstr(err.message, "thesis.tex"));
    cr_assert_eq(count_names("."), 1);
}

Test(store, an_absent_store_is_not_made_where_that_is_not_wanted, .init = dir_new, .fini = dir_remove)
{
    struct err err;
    struct store_options absent = {.fail_if_absent = true};
    struct store_options read_only = {.read_only = true};
    cr_assert_eq(open_fails(&absent, &err), ERR_NOT_FOUND);
    cr_assert_eq(open_fails(&read_only, &err), ERR_NOT_FOUND);
    rmdir(dir);
    cr_assert_eq(open_fails(&absent, &err), ERR_NOT_FOUND);
    cr_assert_neq(access(dir, F_OK), 0);
    store_close(open_plain()); // makes it
}

Test(store, a_half_made_store_is_made_again, .init = dir_new, .fini = dir_remove)
{
    file_write("LOCK", "");
    file_write("MANIFEST-000001", "");
    store_close(open_plain());
}

Test(store, a_second_process_is_refused, .init = dir_new, .fini = dir_remove)
{
    int ready[2];
    int end[2];
    cr_assert(pipe(ready) == 0 && pipe(end) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(end[1]);
        struct store *s = open_plain();
        char c = 'r';
        bool sound = write(ready[1], &c, 1) == 1 && read(end[0], &c, 1) == 0;
        store_close(s);
        _exit(!sound);
    }
    char c;
    cr_assert_eq(read(ready[0], &c, 1), 1);
    struct err err;
    struct store_options o = {0};
    cr_assert_eq(open_fails(&o, &err), ERR_LOCKED, "%s", err.message);
    char number[32];
    snprintf(number, sizeof number, "process %ld", (long)pid);
    cr_assert_not_null(strstr(err.message, number), "%s", err.message);
    struct store_options read_only = {.read_only = true};
    store_close(open_with(&read_only));
    close(end[1]);
    int status = 1;
    waitpid(pid, &status, 0);
    cr_assert_eq(status, 0);
}

Test(store, a_second_opener_of_the_same_process_is_refused, .init = dir_new, .fini = dir_remove)
{
    struct store *s = open_plain();
    struct err err;
    struct store_options o = {0};
    cr_assert_eq(open_fails(&o, &err), ERR_LOCKED, "%s", err.message);
    store_close(s);
}

Test(store, read_only_sees_what_was_committed, .init = dir_new, .fini = dir_remove)
{
    store_with_keys();
    struct store *writer = open_plain();
    struct store_options o = {.read_only = true};
    struct store *reader = open_with(&o);
    struct buf value = {0};
    cr_assert(get(reader, key_of(KEY_USER, hash_mix(1), 'N'), &value));
    store_close(writer);
    cr_assert(get(reader, key_of(KEY_USER, hash_mix(2), 'N'), &value));
    buf_done(&value);
    store_close(reader);
}

// ---- damage -----------------------------------------------------------------------------------------------

// The newest file of the store whose name begins or ends so.
static void file_find(const char *begin, const char *end, char ret_path[512])
{
    DIR *d = opendir(dir);
    char best[256] = "";
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t n = strlen(e->d_name);
        bool fits = strncmp(e->d_name, begin, strlen(begin)) == 0 && n >= strlen(end) &&
                    strcmp(e->d_name + n - strlen(end), end) == 0;
        if (fits && strcmp(e->d_name, best) > 0)
            strcpy(best, e->d_name);
    }
    closedir(d);
    cr_assert_gt(strlen(best), 0);
    snprintf(ret_path, 512, "%s/%s", dir, best);
}

static void file_flip(const char *path, off_t at)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;
    cr_assert_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 0x55;
    cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

Test(store, a_damaged_table_is_told, .init = dir_new, .fini = dir_remove)
{
    store_with_keys();
    char path[512];
    file_find("", ".sst", path);
    file_flip(path, 5000);
    struct store *s = open_plain();
    struct err err = {0};
    struct store_iter *it = store_iter_new(s, (struct str){"", 0}, (struct str){0}, false);
    while (store_iter_valid(it))
        store_iter_next(it);
    cr_assert_eq(store_iter_free(it, &err), -1);
    cr_assert_eq(err.code, ERR_CORRUPT, "%s", err.message);
    cr_assert_not_null(strstr(err.message, ".sst"), "it names the file: %s", err.message);
    store_close(s);
}

Test(store, a_shortened_table_is_told_at_open, .init = dir_new, .fini = dir_remove)
{
    store_with_keys();
    char path[512];
    file_find("", ".sst", path);
    cr_assert_eq(truncate(path, 3000), 0);
    struct err err;
    struct store_options o = {0};
    cr_assert_eq(open_fails(&o, &err), ERR_CORRUPT, "%s", err.message);
    remove(path);
    cr_assert_eq(open_fails(&o, &err), ERR_CORRUPT, "%s", err.message);
}

Test(store, a_damaged_manifest_is_told, .init = dir_new, .fini = dir_remove)
{
    store_with_keys();
    char path[512];
    file_find("MANIFEST-", "", path);
    file_flip(path, 20);
    struct err err;
    struct store_options o = {0};
    cr_assert_eq(open_fails(&o, &err), ERR_CORRUPT, "%s", err.message);
    remove(path);
    cr_assert_eq(open_fails(&o, &err), ERR_CORRUPT, "%s", err.message);
}

Test(store, a_lost_current_is_no_new_store, .init = dir_new, .fini = dir_remove)
{
    store_with_keys();
    char path[512];
    file_find("CURRENT", "", path);
    remove(path);
    struct err err;
    struct store_options o = {0};
    cr_assert_eq(open_fails(&o, &err), ERR_CORRUPT, "%s", err.message);
}

// ---- retention, figures -----------------------------------------------------------------------------------

static bool before_five(void *context, const uint8_t *key, size_t n)
{
    (void)context;
    uint64_t be;
    memcpy(&be, key + 3, sizeof be);
    return n > KEY_PREFIX && key[0] == KEY_LOG && __builtin_bswap64(be) < 5;
}

Test(store, whole_files_of_old_log_blocks_go, .init = dir_new, .fini = dir_remove)
{
    struct store_options o = {.expired = before_five};
    struct store *s = open_with(&o);
    struct rng r = rng_of(3);
    uint64_t *big = mem_alloc(KILL_LOG_BYTES);
    for (size_t i = 0; i < KILL_LOG_BYTES / sizeof *big; i++)
        big[i] = rng_u64(&r);
    for (uint64_t commit = 1; commit <= 8; commit++) {
        struct store_batch *b = store_batch_new();
        put(b, key_of(KEY_USER, hash_mix(commit), 'N'), &commit, sizeof commit);
        put(b, log_key(commit), big, KILL_LOG_BYTES);
        ingest(s, b);
    }
    struct store_figures before;
    struct store_figures after;
    struct err err = {0};
    struct buf value = {0};
    store_figures(s, &before);
    cr_assert_eq(store_log_expire(s, 0, 5, &err), 0, "%s", err.message);
    store_figures(s, &after);
    cr_assert_geq(before.disk_bytes, after.disk_bytes + 4u * KILL_LOG_BYTES);
    cr_assert_geq(before.written_bytes, 8u * KILL_LOG_BYTES);
    cr_assert_geq(before.files, 8);
    for (uint64_t commit = 1; commit <= 8; commit++) {
        cr_assert_eq(get(s, log_key(commit), &value), commit >= 5);
        cr_assert(get(s, key_of(KEY_USER, hash_mix(commit), 'N'), &value));
    }
    buf_done(&value);
    free(big);
    store_close(s);
}
