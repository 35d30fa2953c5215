// SPDX-License-Identifier: Apache-2.0
// Features and what they are made of: profile records, buckets, geohashes, hours, quantiles; and that a body is read
// back as it was written. Values of whole configs are compared with another program in tests/scenario/oracle.py.
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"
#include "daemon/features_impl.h"

// ---- places and hours -------------------------------------------------------------------------------------

Test(features, geohash)
{
    static const struct {
        double lat, lon;
        const char *text; // of the literature, and of the corners
    } cases[] = {{57.64911, 10.40744, "u4pruydqqvj8"},
                 {-25.382708, -49.265506, "6gkzwgjzn820"},
                 {48.669, -4.329, "gbsuv"},
                 {0, 0, "s00000000000"},
                 {90, 180, "zzzzzzzzzzzz"},
                 {-90, -180, "000000000000"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[13] = "";
        cr_expect(groups_geohash(cases[i].lat, cases[i].lon, 12, text));
        cr_expect(strncmp(text, cases[i].text, strlen(cases[i].text)) == 0, "%s, not %s", text,
                  cases[i].text);
    }
    char none[16];
    static const double bad[][2] = {
        {90.001, 0}, {-91, 0}, {0, 180.5}, {(double)NAN, 0}, {0, (double)INFINITY}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_not(groups_geohash(bad[i][0], bad[i][1], 5, none));
}

// A shorter one is the beginning of a longer, and the place lies in the cell that its digits halve out.
Test(features, geohash_of_random_places)
{

    struct rng rng = rng_of(7);
    for (int i = 0; i < 1000; i++) {
        double lat = rng_uniform(&rng) * 180 - 90, lon = rng_uniform(&rng) * 360 - 180;
        char fine[16], coarse[16];
        cr_assert(groups_geohash(lat, lon, 9, fine) && groups_geohash(lat, lon, 4, coarse));
        cr_expect(memcmp(fine, coarse, 4) == 0);
        uint64_t x = (uint64_t)floor((lon + 180) / 360 * (1 << 10)),
                 y = (uint64_t)floor((lat + 90) / 180 * (1 << 10));
        uint32_t bits = 0;
        for (int b = 9; b >= 0; b--)
            bits = bits << 2 | (uint32_t)(x >> b & 1) << 1 | (uint32_t)(y >> b & 1);
        static const char digits[] = "0123456789bcdefghjkmnpqrstuvwxyz";
        for (int k = 0; k < 4; k++)
            cr_expect_eq(coarse[k], digits[bits >> (15 - 5 * k) & 31]);
    }
}

Test(features, hours)
{
    enum { HOUR = 3600000 };
    cr_expect_eq(groups_hour(0, 0, false), 0);
    cr_expect_eq(groups_hour(0, 0, true), 3, "1970 began on a Thursday");
    cr_expect_eq(groups_hour(0, -1, false), 23);
    cr_expect_eq(groups_hour(0, -1, true), 2);
    cr_expect_eq(groups_hour(5 * HOUR - 1, 0, false), 4);
    cr_expect_eq(groups_hour(INT64_C(1767225600000), 5.5, false), 5);
    for (int64_t day = -8; day < 9; day++)
        cr_expect_eq(groups_hour(day * 24 * HOUR + 1, 0, true), (uint32_t)((day + 8 + 3 + 6) % 7));
}

// ---- profiles ---------------------------------------------------------------------------------------------

Test(features, a_profile_is_read_as_it_was_written)
{
    static const struct str tags[] = {{"a", 1}, {"", 0}, {"b\0c", 3}};
    struct event_field fields[] = {{.name = {"s", 1}, .type = EVENT_STRING, .s = {"text", 4}},
                                   {.name = {"n", 1}, .type = EVENT_NUMBER, .n = -2.5},
                                   {.name = {"yes", 3}, .type = EVENT_BOOL, .b = true},
                                   {.name = {"list", 4}, .type = EVENT_LIST}};
    fields[3].list.v = tags;
    fields[3].list.n = 3;
    struct event e = {.kind = EVENT_USER_PROFILE, .n_fields = 4, .fields = fields};
    struct buf record = {0};
    profile_put(&record, &e);
    struct str bytes = {(const char *)record.data, (uint32_t)record.len};
    struct config_ref refs[] = {{.of = CONFIG_OF_USER, .field = "s"},
                                {.of = CONFIG_OF_USER, .field = "n"},
                                {.of = CONFIG_OF_USER, .field = "yes", .type = CONFIG_BOOLEAN},
                                {.of = CONFIG_OF_USER, .field = "list"},
                                {.of = CONFIG_OF_USER, .field = "absent"},
                                {.of = CONFIG_OF_USER, .field = "n", .type = CONFIG_STRING}};
    struct attribute a[6];
    for (int i = 0; i < 6; i++) {
        struct attribute_plan plan = attribute_plan_of(&refs[i]);
        attribute_find(&plan, &e, bytes, &a[i]);
    }
    cr_expect(a[0].type == VALUE_STRING && str_is(a[0].text, "text") && a[0].hash == hash_id(str_of("text")));
    cr_expect(a[1].type == VALUE_NUMBER && a[1].number == -2.5 && a[2].type == VALUE_TRUE);
    cr_assert(a[3].type == VALUE_LIST && a[3].n == 3);
    for (int k = 0; k < 3; k++) {
        uint64_t hash;
        struct str text = attribute_list_next(&a[3].list, &hash);
        cr_expect(str_equal(text, tags[k]) && hash == hash_id(tags[k]));
    }
    cr_expect(a[4].type == VALUE_MISSING);
    cr_expect(a[5].type == VALUE_MISSING, "of another type than declared");
    for (size_t n = 0; n < record.len; n++) { // cut anywhere, it is read without running over
        struct attribute_plan plan = attribute_plan_of(&refs[3]);
        struct attribute cut;
        attribute_find(&plan, &e, (struct str){bytes.s, (uint32_t)n}, &cut);
        cr_expect(cut.type == VALUE_MISSING);
    }
    buf_done(&record);
}

Test(features, texts_of_values)
{
    static const struct {
        double number;
        const char *text;
    } cases[] = {{0, "0"},
                 {-0.0, "0"},
                 {31, "31"},
                 {-7, "-7"},
                 {0.1, "0.1"},
                 {2.5, "2.5"},
                 {1e14, "100000000000000"},
                 {1e15, "1e+15"},
                 {-1e300, "-1e+300"}};
    char scratch[32];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct attribute a = {.type = VALUE_NUMBER, .number = cases[i].number};
        struct str text = attribute_text(&a, scratch);
        cr_expect(str_is(text, cases[i].text), "%.*s", (int)text.len, text.s);
        cr_expect_eq(attribute_id(&a), hash_id(str_of(cases[i].text)));
    }
    cr_expect_eq(attribute_id(&(struct attribute){.type = VALUE_STRING, .text = {"", 0}}), 0);
    cr_expect_eq(attribute_id(&(struct attribute){.type = VALUE_LIST}), 0);
}

// ---- quantiles --------------------------------------------------------------------------------------------

// Buckets hold equal shares of distinct values, to one; equal values never part.
Test(features, quantiles_are_equal_shares)
{

    struct rng rng = rng_of(3);
    for (uint32_t quantiles = 2; quantiles < 66; quantiles += 7) {
        enum { N = 1000 };
        double values[N], edges[CONFIG_EDGES_MAX];
        uint32_t in[66] = {0};
        for (int i = 0; i < N; i++)
            values[i] = rng_uniform(&rng) * 1e6 - 5e5;
        uint32_t n = features_quantile_edges(values, N, quantiles, edges);
        cr_assert_eq(n, quantiles - 1);
        for (int i = 0; i < N; i++) {
            uint32_t bucket = 0;
            while (bucket < n && edges[bucket] <= values[i])
                bucket++;
            in[bucket]++;
        }
        for (uint32_t b = 0; b < quantiles; b++)
            cr_expect(in[b] == N / quantiles || in[b] == N / quantiles + 1, "%u of %u: %u", b, quantiles,
                      in[b]);
    }
    double same[100] = {0}, edges[CONFIG_EDGES_MAX];
    cr_expect_eq(features_quantile_edges(same, 100, 10, edges), 1, "one value, one edge");
    cr_expect_eq(features_quantile_edges(same, 0, 10, edges), 0, "no value, none");
}

// The update is fed so many rows more: q is its number (feature 0), r and e are missing.
static struct quantiles *gathered(const struct features *f, int from, int to)
{
    struct quantiles *q = features_quantiles_new(f);
    struct feature_row *row = calloc(1, sizeof *row);
    for (int i = from; i <= to; i++) {
        row->values[0] = (struct feature_value){.type = FEATURE_CATEGORY, .number = i};
        row->values[1] = (struct feature_value){.type = FEATURE_MISSING};
        features_quantiles_put(q, row);
    }
    features_quantiles_learn(f, q);
    free(row);
    return q;
}

static struct str bytes_of(const struct buf *b)
{
    return (struct str){(const char *)b->data, (uint32_t)b->len};
}

// f has four updates, the second of which is stopped; `again` takes up what is stored after the third. Both learn from
// 1 to 400, for it takes 100 a bucket.
Test(features, quantiles_are_kept_with_a_version)
{
    struct config *c = NULL;
    struct err err = {0};
    static const struct config_override overrides[] = {
        {"features", "{q: {number: context.x, bucketize: {quantiles: 4}}, r: {number: context.y, bucketize: "
                     "{quantiles: 3}}, e: {number: context.x, bucketize: [1]}}"},
        {"models", "{m: {heads: {click: {of: q}}}}"}};
    cr_assert(config_load(NULL, overrides, 2, NULL, &c, &err) == 0, "%s", err.message);
    struct features *f = features_new(c), *again = features_new(c);
    struct buf blob = {0}, few = {0}, none = {0};
    const double *edges;
    uint32_t n;
    struct quantiles *q = gathered(f, 1, 6);
    features_quantiles_apply(f, q);
    features_quantiles_free(q);
    features_quantiles_free(gathered(f, 7, 2000));
    q = gathered(f, 7, 399);
    features_quantiles_save(f, q, &blob, &few);
    features_quantiles_apply(f, q);
    features_quantiles_free(q);
    cr_expect(blob.len == 0 && !features_quantiles_of(f, 0, &edges, &n), "one too few");
    cr_assert_eq(features_quantiles_load(again, bytes_of(&blob), &err), 0);
    for (size_t cut = 1; cut < few.len; cut++)
        cr_expect_eq(features_quantiles_load_gathered(
                         again, (struct str){(const char *)few.data, (uint32_t)cut}, &err),
                     -1);
    cr_assert_eq(features_quantiles_load_gathered(again, bytes_of(&few), &err), 0);
    cr_expect_eq(features_quantiles_gathered(again, 0), 399);
    for (int i = 0; i < 2; i++) {
        struct features *of = i == 0 ? f : again;
        q = gathered(of, 400, 400);
        buf_clear(&blob);
        features_quantiles_save(of, q, &blob, &none);
        cr_expect_not(features_quantiles_of(of, 0, &edges, &n), "nothing changes before the version stands");
        features_quantiles_apply(of, q);
        features_quantiles_free(q);
    }
    cr_expect_eq(none.len, 0, "what was learned is gathered no more");
    cr_assert_eq(features_quantiles_load(again, bytes_of(&blob), &err), 0);
    for (int i = 0; i < 2; i++) {
        cr_assert(features_quantiles_of(i == 0 ? f : again, 0, &edges, &n) && n == 3);
        cr_expect(edges[0] == 101 && edges[1] == 201 && edges[2] == 301);
        cr_expect_not(features_quantiles_of(i == 0 ? f : again, 1, &edges, &n), "of what was always missing");
    }
    struct quantiles *rest = features_quantiles_new(f);
    cr_expect_not_null(rest, "which the next update asks");
    for (size_t cut = 1; cut < blob.len; cut++)
        cr_expect_eq(
            features_quantiles_load(again, (struct str){(const char *)blob.data, (uint32_t)cut}, &err), -1);
    features_quantiles_free(rest);
    buf_done(&none);
    buf_done(&few);
    buf_done(&blob);
    features_free(f);
    features_free(again);
    config_free(c);
}

// ---- intervals --------------------------------------------------------------------------------------------

Test(features, intervals_double)
{
    enum { HOUR = 3600000 };
    uint64_t small[64];
    int64_t times[] = {0,
                       HOUR,
                       HOUR + 1,
                       -HOUR,
                       -2 * HOUR,
                       -3 * (int64_t)HOUR,
                       -4 * (int64_t)HOUR,
                       -1000 * (int64_t)HOUR,
                       INT64_MIN / 4};
    static const uint32_t wanted[] = {0, 0, 0, 1, 2, 2, 3, 10, 31};
    for (uint64_t i = 0; i < 64; i++)
        small[i] = i + 100;
    struct feature_value v = {
        .type = FEATURE_SEQUENCE, .n = 9, .times = (const uint8_t *)times, .small = small};
    for (uint32_t k = 0; k < 9; k++) {
        cr_expect_eq(feature_value_interval(&v, k), wanted[k], "entry %u: %u", k,
                     feature_value_interval(&v, k));
        cr_expect_eq(feature_value_id(&v, k), wanted[k] + 100);
    }
}
