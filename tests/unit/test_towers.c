// SPDX-License-Identifier: Apache-2.0
// A model with towers: trained by request it learns what it learns sample by sample, also where rows are admitted late;
// what is kept of the item's side gives the predictions that it would give without, version by version, bounded or not.
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/gemm.h"
#include "models/model.h"

TestSuite(towers, .init = gemm_setup);

enum {
    N_INPUTS = 7,
    N_HEADS = 2,
    N_TABLES = 2,
    DIM = 8,
    USERS = 40,
    ITEMS = 60,
    MAX_LEN = 4,
    N = 700,
    PIECE = 64
};
enum { USER, ITEM, CLICKS, HOUR, TAGS, PRICE, MATCH };

struct setup {
    struct net_input inputs[N_INPUTS];
    struct net_block blocks[6];
    struct net_head heads[N_HEADS];
    char of[6][4][NET_NAME];
    struct table_options tables[N_TABLES];
    struct model_options options;
};

static void setup_init(struct setup *s, bool sides, uint32_t admit, uint64_t tower_bytes)
{
    *s = (struct setup){
        .inputs = {{"user", NET_INPUT_ID, 0, DIM, 0, NET_USER, ""},
                   {"item", NET_INPUT_ID, 1, DIM, 0, NET_ITEM, ""},
                   {"clicks", NET_INPUT_SEQUENCE, 1, DIM, MAX_LEN, NET_USER, ""},
                   {"hour", NET_INPUT_NUMBER, 0, 1, 0, NET_CONTEXT, ""},
                   {"tags", NET_INPUT_SEQUENCE, 0, DIM, MAX_LEN, NET_ITEM, ""},
                   {"price", NET_INPUT_NUMBER, 0, 1, 0, NET_ITEM, ""},
                   {"match", NET_INPUT_NUMBER, 0, 1, 0, NET_CROSS, ""}},
        .of = {{"clicks"},
               {"tags"},
               {"user", "pooled", "hour"},
               {"item", "kinds", "price"},
               {"match"},
               {"user_tower", "item_tower", "pair_tower"}},
        .blocks = {{.name = "pooled", .kind = "mean", .n_of = 1},
                   {.name = "kinds", .kind = "mean", .n_of = 1},
                   {.name = "user_tower",
                    .kind = "mlp",
                    .n_of = 3,
                    .options = {{"mlp", .dims = {16, 8}}},
                    .side = NET_USER},
                   {.name = "item_tower",
                    .kind = "mlp",
                    .n_of = 3,
                    .options = {{"mlp", .dims = {12, 8}}},
                    .side = NET_ITEM},
                   {.name = "pair_tower", .kind = "mlp", .n_of = 1, .options = {{"mlp", .dims = {4}}}},
                   {.name = "top", .kind = "mlp", .n_of = 3, .options = {{"mlp", .dims = {8}}}}},
        .heads = {{.name = "click", .of = "top", .loss = "logloss", .weight = 1},
                  {.name = "like", .of = "item_tower", .loss = "logloss", .weight = 0.5f}},
        .options = {.n_tables = N_TABLES,
                    .bootstrap_samples = N,
                    .dense = {.kind = OPTIMIZER_ADAGRAD, .lr = 0.05f},
                    .epochs = 2,
                    .seed = 3,
                    .auc_samples = 1000,
                    .tower_bytes = tower_bytes},
    };
    for (uint32_t b = 0; b < 6; b++) {
        s->blocks[b].of = s->of[b];
        s->blocks[b].side = sides ? s->blocks[b].side : 0;
    }
    for (uint32_t i = 0; i < N_INPUTS; i++)
        s->inputs[i].sides = sides ? s->inputs[i].sides : 0;
    for (uint32_t t = 0; t < N_TABLES; t++)
        s->tables[t] = (struct table_options){
            .name = t == 0 ? "users" : "items",
            .dim = DIM,
            .rows = 400,
            .admit = admit,
            .init = 0.1f,
            .optimizer = {.kind = OPTIMIZER_ROWWISE_ADAGRAD, .lr = 0.1f, .accum = 0.01f},
            .seed = t + 1};
    s->options.tables = s->tables;
    s->options.net = (struct net_spec){.n_inputs = N_INPUTS,
                                       .n_blocks = 6,
                                       .n_heads = N_HEADS,
                                       .inputs = s->inputs,
                                       .blocks = s->blocks,
                                       .heads = s->heads,
                                       .batch = PIECE};
}

static struct model *model_of(bool sides, uint32_t admit, uint64_t tower_bytes)
{
    struct setup s;
    struct model *m = NULL;
    struct err err;
    uint32_t block = 0;
    setup_init(&s, sides, admit, tower_bytes);
    cr_assert_eq(model_new(&s.options, &m, &block, &err), 0, "%s", err.message);
    return m;
}

// ---- samples ----------------------------------------------------------------------------------------------

struct log {
    uint64_t user[N], item[N], clicks[N * MAX_LEN], tags[N * MAX_LEN];
    uint32_t click_offsets[N + 1], tag_offsets[N + 1], seen[N];
    float hour[N], price[N], match[N], labels[N_HEADS][N];
    const uint64_t *ids[N_INPUTS];
    const uint32_t *offsets[N_INPUTS];
    const float *numbers[N_INPUTS], *label_ptrs[N_HEADS];
    struct model_samples samples;
};

// What an item is known by does not change, but for its price now and then.
static void log_item(struct log *l, uint32_t s, struct rng *rng)
{
    const uint32_t item = 1 + (uint32_t)rng_below(rng, ITEMS);
    l->item[s] = item;
    l->tag_offsets[s + 1] = l->tag_offsets[s] + item % (MAX_LEN + 1);
    for (uint32_t i = l->tag_offsets[s]; i < l->tag_offsets[s + 1]; i++)
        l->tags[i] = 1000 + (item * 7 + i - l->tag_offsets[s]) % 11;
    l->price[s] = (float)(item % 5) + (rng_below(rng, 20) == 0 ? 0.5f : 0);
    l->match[s] = (float)rng_normal(rng);
}

static struct log *log_new(uint64_t seed)
{
    struct log *l = mem_zalloc(sizeof *l);
    struct rng rng = rng_of(seed);
    for (uint32_t s = 0; s < N; s++) {
        const bool same = s > 0 && rng_below(&rng, 5) > 0;
        l->user[s] = same ? l->user[s - 1] : 1 + rng_below(&rng, USERS);
        l->hour[s] = same ? l->hour[s - 1] : (float)rng_below(&rng, 24) / 24;
        const uint32_t before = s > 0 ? l->click_offsets[s] - l->click_offsets[s - 1] : 0;
        const uint32_t n = same ? before : (uint32_t)rng_below(&rng, MAX_LEN + 1), at = l->click_offsets[s];
        l->click_offsets[s + 1] = at + n;
        for (uint32_t i = 0; i < n; i++)
            l->clicks[at + i] = same ? l->clicks[at - n + i] : 1 + rng_below(&rng, ITEMS);
        l->seen[s] = 1000 + s / 3;
        log_item(l, s, &rng);
        for (uint32_t h = 0; h < N_HEADS; h++)
            l->labels[h][s] = rng_below(&rng, 3) == 0 ? 1 : 0;
    }
    l->ids[USER] = l->user;
    l->ids[ITEM] = l->item;
    l->ids[CLICKS] = l->clicks;
    l->ids[TAGS] = l->tags;
    l->offsets[CLICKS] = l->click_offsets;
    l->offsets[TAGS] = l->tag_offsets;
    l->numbers[HOUR] = l->hour;
    l->numbers[PRICE] = l->price;
    l->numbers[MATCH] = l->match;
    for (uint32_t h = 0; h < N_HEADS; h++)
        l->label_ptrs[h] = l->labels[h];
    l->samples = (struct model_samples){.n = N,
                                        .ids = l->ids,
                                        .offsets = l->offsets,
                                        .numbers = l->numbers,
                                        .labels = l->label_ptrs,
                                        .seen_s = l->seen};
    return l;
}

static struct model_update *update_of(struct model *m, const struct log *l)
{
    struct model_report report;
    struct model_update *u = model_update_new(m);
    model_update_feed(u, &l->samples);
    model_update_finish(u, 0, &report);
    return u;
}

// ---- training ---------------------------------------------------------------------------------------------

static void same_tables(struct model *a, struct model *b)
{
    for (uint32_t t = 0; t < N_TABLES; t++) {
        cr_assert_eq(table_count(model_table(a, t)), table_count(model_table(b, t)));
        for (uint64_t id = 1; id < 1100; id++) {
            const uint32_t one = table_find(model_table(a, t), id), two = table_find(model_table(b, t), id);
            cr_assert_eq(one == TABLE_NONE, two == TABLE_NONE, "%u: %llu", t, (unsigned long long)id);
            if (one == TABLE_NONE)
                continue;
            const struct table_row *x = table_row(model_table(a, t), one),
                                   *y = table_row(model_table(b, t), two);
            cr_assert_eq(x->count, y->count);
            cr_assert_eq(x->last_seen_s, y->last_seen_s);
            cr_assert_lt(fabsf(x->accum - y->accum), 1e-4f * (1 + fabsf(x->accum)));
            for (uint32_t j = 0; j < DIM; j++)
                cr_assert_lt(fabsf(x->vector[j] - y->vector[j]), 2e-4f, "%u: %llu", t,
                             (unsigned long long)id);
        }
    }
}

Test(towers, by_request_learns_what_sample_by_sample_does)
{
    const uint32_t admits[] = {1, 2, 5};
    for (uint32_t i = 0; i < 3; i++) {
        struct model *by_request = model_of(true, admits[i], 0), *by_sample = model_of(false, admits[i], 0);
        struct log *logs[2] = {log_new(1), log_new(2)};
        for (uint32_t k = 0; k < 2; k++) { // all layers, then frozen
            model_apply(by_request, update_of(by_request, logs[k]));
            model_apply(by_sample, update_of(by_sample, logs[k]));
            same_tables(by_request, by_sample);
        }
        cr_assert(model_frozen(by_request));
        model_free(by_request);
        model_free(by_sample);
        free(logs[0]);
        free(logs[1]);
    }
}

Test(towers, the_same_samples_give_the_same_bytes)
{
    struct model *a = model_of(true, 2, 0), *b = model_of(true, 2, 1 << 20);
    struct log *l = log_new(4);
    float p[N_HEADS][N], *ret_p[N_HEADS] = {p[0], p[1]};
    model_predict(b, &l->samples, ret_p); // who is asked learns the same
    model_apply(a, update_of(a, l));
    model_apply(b, update_of(b, l));
    for (uint32_t t = 0; t < N_TABLES; t++)
        cr_assert(digest_equal(table_digest_full(model_table(a, t)), table_digest_full(model_table(b, t))));
    cr_assert(digest_equal(model_dense_digest(a), model_dense_digest(b)));
    model_free(a);
    model_free(b);
    free(l);
}

// ---- what is kept -----------------------------------------------------------------------------------------

static struct model_tower_figures figures_of(const struct model *m)
{
    struct model_tower_figures f;
    model_tower_figures(m, &f);
    return f;
}

static void same_scores(struct model *kept, struct model *plain, const struct log *l)
{
    float a[N_HEADS][N], b[N_HEADS][N], *ret_a[N_HEADS] = {a[0], a[1]}, *ret_b[N_HEADS] = {b[0], b[1]};
    model_predict(kept, &l->samples, ret_a);
    model_predict(plain, &l->samples, ret_b);
    for (uint32_t h = 0; h < N_HEADS; h++)
        for (uint32_t s = 0; s < N; s++)
            cr_assert_lt(fabsf(a[h][s] - b[h][s]), 1e-6f, "head %u, sample %u: %.9g, %.9g", h, s,
                         (double)a[h][s], (double)b[h][s]);
}

Test(towers, what_is_kept_changes_no_score)
{
    const uint64_t budgets[] = {1 << 20, 4000}; // all of it, and next to nothing
    for (uint32_t i = 0; i < 2; i++) {
        struct model *kept = model_of(true, 1, budgets[i]), *plain = model_of(true, 1, 0);
        for (uint64_t version = 0; version < 4; version++) {
            struct log *l = log_new(10 + version);
            same_scores(kept, plain, l);
            same_scores(kept, plain, l);
            model_apply(kept, update_of(kept, l));
            model_apply(plain, update_of(plain, l));
            same_scores(kept, plain, l);
            if (version % 2 == 0)
                while (model_tower_fill(kept, 7))
                    ;
            same_scores(kept, plain, l);
            free(l);
        }
        const struct model_tower_figures f = figures_of(kept);
        cr_assert_leq(f.entries, f.capacity);
        cr_assert_leq(f.bytes, budgets[i] + 4096);
        cr_assert(f.hits > 0 && f.misses > 0);
        cr_assert(i == 0 ? f.evictions == 0 : f.evictions > 0);
        cr_assert_eq(figures_of(plain).hits + figures_of(plain).misses, 0);
        model_free(kept);
        model_free(plain);
    }
}

Test(towers, a_version_makes_all_stale_and_filling_makes_them_new)
{
    struct model *m = model_of(true, 1, 1 << 20);
    struct log *l = log_new(5);
    float p[N_HEADS][N], *ret_p[N_HEADS] = {p[0], p[1]};
    model_predict(m, &l->samples, ret_p);
    const struct model_tower_figures first = figures_of(m);
    cr_assert_eq(first.hits + first.misses, N);
    cr_assert_geq(first.misses, first.entries);
    model_apply(m, update_of(m, l));
    uint32_t slices = 1;
    while (model_tower_fill(m, 10))
        slices++;
    cr_assert_eq(figures_of(m).fills, first.entries);
    cr_assert_gt(slices, 5);
    model_predict(m, &l->samples, ret_p);
    cr_assert_eq(figures_of(m).misses, first.misses, "all were there");
    model_apply(m, update_of(m, l));
    model_apply(m, update_of(m, l)); // in between nobody asked
    while (model_tower_fill(m, 1000))
        ;
    cr_assert_eq(figures_of(m).fills, 2 * first.entries);
    model_predict(m, &l->samples, ret_p);
    cr_assert_eq(figures_of(m).misses, first.misses);
    model_free(m);
    free(l);
}

Test(towers, heads_alone_say_the_same)
{
    struct model *m = model_of(true, 1, 1 << 20);
    struct log *l = log_new(6);
    float all[N_HEADS][N], own[N_HEADS][N], *ret_all[N_HEADS] = {all[0], all[1]},
                                            *ret_own[N_HEADS] = {own[0], own[1]};
    model_apply(m, update_of(m, l));
    model_predict(m, &l->samples, ret_all);
    for (uint32_t h = 0; h < N_HEADS; h++) {
        const bool heads[N_HEADS] = {h == 0, h == 1};
        model_predict_heads(m, &l->samples, heads, ret_own);
        cr_assert_eq(memcmp(own[h], all[h], sizeof own[h]), 0);
    }
    model_free(m);
    free(l);
}
