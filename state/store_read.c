// SPDX-License-Identifier: Apache-2.0
// Reading the store: one key, or the keys of a prefix.
//
// A file's filter holds whole keys and what of a key comes before its sub (key_prefix), so a search for an entity
// that is not there is answered by filters alone, without a block being read. An iterator over a shorter prefix, as
// over the groups of an owner, cannot use them and seeks in total order.
#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "state/keys.h"
#include "state/store_private.h"

struct store_iter {
    const struct store *store;
    rocksdb_readoptions_t *read;
    rocksdb_iterator_t *rocks;
    uint8_t *bound; // the first key after the prefix; NULL: none
};

int store_get(struct store *s, const void *key, size_t key_len, struct buf *ret_value, bool *ret_found,
              struct err *err)
{
    assert(s->magic == STORE_MAGIC);
    char *text = NULL;
    rocksdb_pinnableslice_t *slice = rocksdb_get_pinned(s->db, s->read, key, key_len, &text);
    if (text != NULL)
        return store_fail(s->dir, text, "read", err);
    *ret_found = slice != NULL;
    if (slice == NULL)
        return 0;
    size_t n = 0;
    const char *value = rocksdb_pinnableslice_value(slice, &n);
    buf_clear(ret_value);
    buf_put(ret_value, value, n);
    rocksdb_pinnableslice_destroy(slice);
    return 0;
}

// The least key above all that begin with the prefix, in place; 0 if there is none.
static size_t prefix_successor(uint8_t *prefix, size_t n)
{
    while (n > 0 && prefix[n - 1] == 0xff)
        n--;
    if (n > 0)
        prefix[n - 1]++;
    return n;
}

static void iter_options(struct store_iter *it, struct str prefix, bool fill_cache)
{
    it->read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_fill_cache(it->read, fill_cache);
    bool filtered = prefix.len > 0 && prefix.len >= key_prefix((uint8_t)prefix.s[0]);
    rocksdb_readoptions_set_total_order_seek(it->read, !filtered);
    rocksdb_readoptions_set_prefix_same_as_start(it->read, filtered);
    it->bound = mem_alloc(prefix.len);
    if (prefix.len > 0)
        memcpy(it->bound, prefix.s, prefix.len);
    size_t n = prefix_successor(it->bound, prefix.len);
    if (n > 0)
        rocksdb_readoptions_set_iterate_upper_bound(it->read, (const char *)it->bound, n);
}

struct store_iter *store_iter_new(struct store *s, struct str prefix, struct str from, bool fill_cache)
{
    assert(s->magic == STORE_MAGIC);
    struct store_iter *it = mem_zalloc(sizeof *it);
    it->store = s;
    iter_options(it, prefix, fill_cache);
    it->rocks = rocksdb_create_iterator(s->db, it->read);
    store_iter_seek(it, from.s != NULL ? from : prefix);
    return it;
}

struct store_iter *store_iter_prefixes(struct store *s)
{
    assert(s->magic == STORE_MAGIC);
    struct store_iter *it = mem_zalloc(sizeof *it);
    it->store = s;
    it->read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_prefix_same_as_start(it->read, 1);
    it->rocks = rocksdb_create_iterator(s->db, it->read);
    return it;
}

bool store_iter_valid(const struct store_iter *it)
{
    return rocksdb_iter_valid(it->rocks);
}

void store_iter_next(struct store_iter *it)
{
    rocksdb_iter_next(it->rocks);
}

void store_iter_seek(struct store_iter *it, struct str key)
{
    rocksdb_iter_seek(it->rocks, key.s, key.len);
}

struct str store_iter_key(const struct store_iter *it)
{
    size_t n = 0;
    const char *key = rocksdb_iter_key(it->rocks, &n);
    return (struct str){key, (uint32_t)n};
}

struct str store_iter_value(const struct store_iter *it)
{
    size_t n = 0;
    const char *value = rocksdb_iter_value(it->rocks, &n);
    return (struct str){value, (uint32_t)n};
}

int store_iter_error(const struct store_iter *it, struct err *err)
{
    char *text = NULL;
    rocksdb_iter_get_error(it->rocks, &text);
    return text != NULL ? store_fail(it->store->dir, text, "read", err) : 0;
}

int store_iter_free(struct store_iter *it, struct err *err)
{
    if (it == NULL)
        return 0;
    int r = store_iter_error(it, err);
    rocksdb_iter_destroy(it->rocks);
    rocksdb_readoptions_destroy(it->read);
    free(it->bound);
    free(it);
    return r;
}
