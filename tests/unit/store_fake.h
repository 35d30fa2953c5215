// SPDX-License-Identifier: Apache-2.0
// state/store.h on a sorted array in memory, for tests of what stands on it; include it in one source file of
// a program. A batch is ingested as a whole, the later of two equal keys counts.
#ifndef FRESHET_TESTS_STORE_FAKE_H
#define FRESHET_TESTS_STORE_FAKE_H

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "state/store.h"

struct fake_pair {
    struct str key, value; // owned
};

struct store {
    struct fake_pair *pairs; // by key
    size_t n, cap;
    uint64_t iterators; // how many were made: what reads cost
};

struct store_batch {
    struct buf pairs; // key, 1 = put / 0 = delete / 2 = delete what is old, value; in order of arrival
    uint64_t count, bytes;
};

struct store_iter {
    struct store *store;
    struct buf prefix;
    size_t at;
};

static struct str fake_copy(const void *p, size_t n)
{
    char *s = mem_alloc(n + 1);
    if (n > 0)
        memcpy(s, p, n);
    return (struct str){s, (uint32_t)n};
}

static int fake_compare(struct str a, struct str b)
{
    int r = memcmp(a.s, b.s, a.len < b.len ? a.len : b.len);
    return r != 0 ? r : (a.len > b.len) - (a.len < b.len);
}

static size_t fake_find(const struct store *s, struct str key)
{
    size_t lo = 0;
    for (size_t hi = s->n; lo < hi;) {
        size_t mid = (lo + hi) / 2;
        if (fake_compare(s->pairs[mid].key, key) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

int store_open(const char *dir, const struct store_options *options, struct store **ret_store,
               struct err *err)
{
    (void)dir, (void)options, (void)err;
    *ret_store = mem_zalloc(sizeof **ret_store);
    return 0;
}

static void fake_free(struct fake_pair *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free((void *)(uintptr_t)pairs[i].key.s);
        free((void *)(uintptr_t)pairs[i].value.s);
    }
    free(pairs);
}

void store_close(struct store *s)
{
    fake_free(s->pairs, s->n);
    free(s);
}

struct store_batch *store_batch_new(void)
{
    return mem_zalloc(sizeof(struct store_batch));
}

void store_batch_free(struct store_batch *b)
{
    buf_done(&b->pairs);
    free(b);
}

static void fake_append(struct store_batch *b, struct str key, uint8_t put, struct str value)
{
    buf_put_str(&b->pairs, key);
    buf_put_u8(&b->pairs, put);
    buf_put_str(&b->pairs, value);
    b->count++;
    b->bytes += key.len + value.len;
}

void store_batch_put(struct store_batch *b, const void *key, size_t key_len, const void *value,
                     size_t value_len)
{
    fake_append(b, (struct str){key, (uint32_t)key_len}, 1, (struct str){value, (uint32_t)value_len});
}

void store_batch_delete(struct store_batch *b, const void *key, size_t key_len)
{
    fake_append(b, (struct str){key, (uint32_t)key_len}, 0, str_of(""));
}

void store_batch_delete_old(struct store_batch *b, const void *key, size_t key_len)
{
    fake_append(b, (struct str){key, (uint32_t)key_len}, 2, str_of(""));
}

uint64_t store_batch_count(const struct store_batch *b)
{
    return b->count;
}

uint64_t store_batch_bytes(const struct store_batch *b)
{
    return b->bytes;
}

static void fake_remove(struct store *s, size_t at)
{
    free((void *)(uintptr_t)s->pairs[at].key.s);
    free((void *)(uintptr_t)s->pairs[at].value.s);
    memmove(&s->pairs[at], &s->pairs[at + 1], (--s->n - at) * sizeof *s->pairs);
}

static void fake_insert(struct store *s, size_t at, struct str key, struct str value)
{
    if (s->n == s->cap) {
        s->cap = s->cap > 0 ? s->cap * 2 : 64;
        s->pairs = mem_resize(s->pairs, s->cap, sizeof *s->pairs);
    }
    memmove(&s->pairs[at + 1], &s->pairs[at], (s->n++ - at) * sizeof *s->pairs);
    s->pairs[at] = (struct fake_pair){fake_copy(key.s, key.len), fake_copy(value.s, value.len)};
}

static void fake_apply(struct store *s, const struct store_batch *b, bool old)
{
    struct rd from = rd_of(b->pairs.data, b->pairs.len);
    for (uint64_t i = 0; i < b->count; i++) {
        struct str key = rd_str(&from);
        uint8_t what = rd_u8(&from);
        struct str value = rd_str(&from);
        if ((what == 2) != old)
            continue;
        size_t at = fake_find(s, key);
        if (at < s->n && fake_compare(s->pairs[at].key, key) == 0)
            fake_remove(s, at);
        if (what == 1)
            fake_insert(s, at, key, value);
    }
}

int store_ingest(struct store *s, struct store_batch *b, struct err *err)
{
    (void)err;
    fake_apply(s, b, true);
    fake_apply(s, b, false);
    return 0;
}

int store_get(struct store *s, const void *key, size_t key_len, struct buf *ret_value, bool *ret_found,
              struct err *err)
{
    (void)err;
    struct str k = {key, (uint32_t)key_len};
    size_t at = fake_find(s, k);
    *ret_found = at < s->n && fake_compare(s->pairs[at].key, k) == 0;
    if (*ret_found) {
        buf_clear(ret_value);
        buf_put(ret_value, s->pairs[at].value.s, s->pairs[at].value.len);
    }
    return 0;
}

struct store_iter *store_iter_new(struct store *s, struct str prefix, struct str from, bool fill_cache)
{
    (void)fill_cache;
    struct store_iter *it = mem_zalloc(sizeof *it);
    it->store = s;
    buf_put(&it->prefix, prefix.s, prefix.len);
    it->at = fake_find(s, from.s != NULL ? from : prefix);
    s->iterators++;
    return it;
}

struct store_iter *store_iter_prefixes(struct store *s)
{
    return store_iter_new(s, str_of(""), (struct str){NULL, 0}, true);
}

int store_iter_error(const struct store_iter *it, struct err *err)
{
    (void)it, (void)err;
    return 0;
}

bool store_iter_valid(const struct store_iter *it)
{
    if (it->at >= it->store->n)
        return false;
    struct str key = it->store->pairs[it->at].key;
    return key.len >= it->prefix.len &&
           (it->prefix.len == 0 || memcmp(key.s, it->prefix.data, it->prefix.len) == 0);
}

void store_iter_next(struct store_iter *it)
{
    it->at++;
}

void store_iter_seek(struct store_iter *it, struct str key)
{
    it->at = fake_find(it->store, key);
}

struct str store_iter_key(const struct store_iter *it)
{
    return it->store->pairs[it->at].key;
}

struct str store_iter_value(const struct store_iter *it)
{
    return it->store->pairs[it->at].value;
}

int store_iter_free(struct store_iter *it, struct err *err)
{
    (void)err;
    if (it == NULL)
        return 0;
    buf_done(&it->prefix);
    free(it);
    return 0;
}

int store_log_expire(struct store *s, uint64_t from_commit, uint64_t to_commit, struct err *err)
{
    (void)s, (void)from_commit, (void)to_commit, (void)err;
    return 0;
}

void store_figures(const struct store *s, struct store_figures *ret_figures)
{
    *ret_figures = (struct store_figures){.files = s->n};
}

#endif
