// SPDX-License-Identifier: Apache-2.0
// A batch that is filled, ingested, emptied and filled again, with values that are made in their place.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "state/keys.h"
#include "state/store.h"

enum { ROUNDS = 3, NUMBERS = 10000 };

struct test_key {
    uint8_t bytes[12];
};

static struct test_key key_of(uint8_t id)
{
    return (struct test_key){{KEY_USER, 0, 0, 0, 0, 0, 0, 0, 0, 0, id, 'N'}};
}

static void fill(struct store_batch *b, uint64_t round)
{
    struct test_key numbers = key_of(5);
    struct test_key one = key_of(6);
    struct test_key none = key_of(7);
    struct buf *to = store_batch_begin(b, numbers.bytes, sizeof numbers.bytes);
    for (uint64_t i = 0; i < NUMBERS; i++)
        buf_put_u64(to, i + round);
    store_batch_end(b);
    store_batch_put(b, one.bytes, sizeof one.bytes, &round, sizeof round);
    store_batch_begin(b, none.bytes, sizeof none.bytes);
    store_batch_end(b);
    cr_assert_eq(store_batch_count(b), 3);
}

static size_t read_back(struct store *s, uint8_t id, struct buf *value)
{
    struct test_key k = key_of(id);
    struct err err = {0};
    bool found = false;
    cr_assert_eq(store_get(s, k.bytes, sizeof k.bytes, value, &found, &err), 0, "%s", err.message);
    cr_assert(found);
    return value->len;
}

static void compare(struct store *s, uint64_t round)
{
    struct buf value = {0};
    cr_assert_eq(read_back(s, 5, &value), NUMBERS * sizeof(uint64_t));
    struct rd from = rd_of(value.data, value.len);
    for (uint64_t i = 0; i < NUMBERS; i++)
        cr_assert_eq(rd_u64(&from), i + round);
    cr_assert_eq(read_back(s, 6, &value), sizeof round);
    cr_assert_eq(memcmp(value.data, &round, sizeof round), 0);
    cr_assert_eq(read_back(s, 7, &value), 0);
    buf_done(&value);
}

Test(store_batch, values_are_made_in_their_place_and_a_batch_is_used_again)
{
    char dir[] = "/tmp/freshet-test-XXXXXX";
    char rm[64];
    struct store *s;
    struct err err = {0};
    cr_assert(mkdtemp(dir) != NULL);
    cr_assert_eq(store_open(dir, &(struct store_options){0}, &s, &err), 0, "%s", err.message);
    struct store_batch *b = store_batch_new();
    struct store_batch *more = store_batch_new();
    for (uint64_t round = 0; round < ROUNDS; round++) {
        fill(b, round);
        cr_assert_eq(store_ingest(s, b, &err), 0, "%s", err.message);
        compare(s, round);
        store_batch_clear(b);
        fill(more, round + 1);
        store_batch_append(b, more);
        store_batch_clear(more);
        cr_assert_eq(store_batch_count(b), 3);
        cr_assert_eq(store_ingest(s, b, &err), 0, "%s", err.message);
        compare(s, round + 1);
        store_batch_clear(b);
        cr_assert(store_batch_count(b) == 0 && store_batch_bytes(b) == 0);
    }
    store_batch_free(b);
    store_batch_free(more);
    store_close(s);
    snprintf(rm, sizeof rm, "rm -r %s", dir);
    cr_assert_eq(system(rm), 0);
}
