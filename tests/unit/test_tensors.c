// SPDX-License-Identifier: Apache-2.0
// safetensors: what is written is read; whatever bytes a file holds, reading it ends with tensors that lie in it or
// with a message. And what comes from elsewhere into an update: rows and dense layers.
#include "daemon/tensors.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/rng.h"
#include "models/safetensors.h"
#include "models/table.h"

static char path[64];

static void path_init(void)
{
    snprintf(path, sizeof path, "/tmp/test_tensors.%d", (int)getpid());
}

static void path_done(void)
{
    unlink(path);
}

TestSuite(tensors, .init = path_init, .fini = path_done);

static void file_put(const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    cr_assert_eq(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static const int64_t ids[3] = {5, -1, 7};
static const float weight[6] = {1, 2, 3, 4, 5, 6.5f};

static void example(struct buf *to)
{
    const struct safetensor_note note = {"version", "3"};
    const struct safetensor tensors[] = {
        {.name = "ids", .type = SAFETENSOR_I64, .n_dims = 1, .shape = {3}, .data = ids},
        {.name = "weight", .type = SAFETENSOR_F32, .n_dims = 2, .shape = {3, 2}, .data = weight},
        {.name = "none", .type = SAFETENSOR_F32, .n_dims = 2, .shape = {0, 2}, .data = weight}};
    safetensors_put_header(to, &note, 1, tensors, 3);
    for (uint32_t i = 0; i < 3; i++)
        buf_put(to, tensors[i].data, safetensor_bytes(&tensors[i]));
}

Test(tensors, what_is_written_is_read)
{
    struct buf file = {0};
    struct tensors t;
    struct err err = {0};
    example(&file);
    file_put(file.data, file.len);
    cr_assert_eq(tensors_open(&t, path, &err), 0, "%s", err.message);
    cr_assert_eq(t.n, 3);
    const struct tensor *w = tensors_find(&t, "weight"), *i = tensors_find(&t, "ids");
    const uint64_t shape[] = {3, 2}, other[] = {2, 3};
    cr_assert_eq(tensor_check(w, "F32", 2, shape, &err), 0);
    cr_assert_eq(memcmp(w->data, weight, sizeof weight), 0);
    cr_assert_eq(memcmp(i->data, ids, sizeof ids), 0);
    cr_assert_eq(tensors_find(&t, "none")->bytes, 0);
    cr_assert_null(tensors_find(&t, "__metadata__"));
    cr_assert_eq(tensor_check(w, "F32", 2, other, &err), -1);
    cr_assert_not_null(strstr(err.message, "(2, 3)"));
    cr_assert_eq(tensor_check(i, "F32", 1, shape, &err), -1);
    cr_assert_not_null(strstr(err.message, "I64"));
    tensors_done(&t);
    buf_done(&file);
}

Test(tensors, nan_and_infinity_are_named)
{
    float bad[6] = {1, 2, 3, 4, NAN, 6};
    const struct tensor t = {.name = "w", .type = "F32", .data = (const uint8_t *)bad, .bytes = sizeof bad};
    struct err err = {0};
    cr_assert_eq(tensor_check_finite(&t, &err), -1);
    cr_assert_not_null(strstr(err.message, "NaN at place 4"));
    bad[4] = -INFINITY;
    cr_assert_eq(tensor_check_finite(&t, &err), -1);
    bad[4] = 5;
    cr_assert_eq(tensor_check_finite(&t, &err), 0);
    double wide[] = {1, -1e300, INFINITY};
    const struct tensor w = {.name = "w", .type = "F64", .data = (const uint8_t *)wide, .bytes = sizeof wide};
    cr_assert_eq(tensor_check_finite(&w, &err), -1);
    cr_assert_not_null(strstr(err.message, "infinity at place 2"));
    wide[2] = 1e300;
    cr_assert_eq(tensor_check_finite(&w, &err), 0);
}

// Bytes changed, cut off and put in, of the header and of its length.
static void damage(struct rng *r, struct buf *b)
{
    static const char pieces[] = "0123456789{}[]\":,-eE \\FIU";
    for (uint64_t n = 1 + rng_below(r, 4); n > 0; n--) {
        uint8_t *at = b->data + rng_below(r, b->len);
        *at = rng_below(r, 3) == 0 ? (uint8_t)rng_u64(r) : (uint8_t)pieces[rng_below(r, sizeof pieces - 1)];
    }
    if (rng_below(r, 4) == 0)
        b->len -= rng_below(r, b->len);
}

Test(tensors, no_bytes_do_harm)
{
    struct rng r = rng_of(11);
    uint32_t good = 0, bad = 0;
    for (uint32_t round = 0; round < 3000; round++) {
        struct buf file = {0};
        struct tensors t;
        struct err err = {0};
        example(&file);
        damage(&r, &file);
        file_put(file.data, file.len);
        if (tensors_open(&t, path, &err) != 0) {
            cr_assert(err.message[0] != '\0');
            bad++;
        } else {
            for (uint32_t i = 0; i < t.n; i++) {
                const uint8_t *map = t.map;
                cr_assert(t.list[i].data >= map && t.list[i].bytes <= t.map_bytes &&
                          t.list[i].data + t.list[i].bytes <= map + t.map_bytes);
            }
            good++;
        }
        tensors_done(&t);
        buf_done(&file);
    }
    cr_assert(good > 100 && bad > 100, "%u good, %u bad", good, bad);
}

// ---- a row from elsewhere ----------------------------------------------------------------------------

struct row_of_two {
    struct table_row row;
    float vector[2];
};

static const struct table_options two = {
    .name = "t", .dim = 2, .rows = 2, .admit = 3, .init = 0.1f, .optimizer = {.lr = 0.1f}, .seed = 5};

static struct table_row *row_of(struct row_of_two *r, uint64_t id, uint32_t count, float x)
{
    *r = (struct row_of_two){.row = {.id = id, .count = count, .last_seen_s = 9}};
    r->row.vector[0] = r->row.vector[1] = x;
    return &r->row;
}

Test(tensors, a_row_from_elsewhere_is_admitted_and_bounded)
{
    struct table_options options = two;
    struct row_of_two r;
    float begins[2];
    options.optimizer.kind = OPTIMIZER_ROWWISE_ADAGRAD;
    struct table *t = table_new(&options);
    struct overlay *o = overlay_new(t);
    cr_assert(overlay_put(o, row_of(&r, 7, 1, 0.5f), false));
    cr_assert(overlay_put(o, row_of(&r, 8, 10, 0.25f), false));
    cr_assert(overlay_put(o, row_of(&r, 8, 11, 0.75f), false), "what is there is replaced");
    cr_assert_not(overlay_put(o, row_of(&r, 9, 1, 1), false), "a third finds no room");
    table_apply(t, o);
    cr_assert_eq(table_count(t), 2);
    const struct table_row *row = table_row(t, table_find(t, 7)), *other = table_row(t, table_find(t, 8));
    cr_assert(table_admitted(t, row) && row->count == 3 && row->vector[1] == 0.5f && row->last_seen_s == 9);
    cr_assert(other->count == 11 && other->vector[0] == 0.75f);
    cr_assert_eq(table_begin(t, 7, begins), 0.0f);
    cr_assert(begins[0] != begins[1] && fabsf(begins[0]) < 1);
    overlay_free(o);
    table_free(t);
}
