// SPDX-License-Identifier: Apache-2.0
// Lookups and updates of embedding tables a second, for random ids, at 1 M and 10 M rows of 16 floats. Prints
// one line a table and figure. A figure is the best of five runs; each run goes over 4 M ids in batches of
// 8,192.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/table.h"

enum { IDS = 4 << 20, BATCH = 8192, DIM = 16, RUNS = 5 };

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint64_t id_of(uint64_t i)
{
    return hash_mix(i + 1);
}

static struct table *table_filled(const struct table_options *o)
{
    struct table *t = table_new(o);
    uint8_t record[12 + DIM * 4] = {0, 0, 0, 0, 1};
    for (uint64_t i = 0; i < o->rows; i++)
        if (table_row_load(t, id_of(i), (struct str){(const char *)record, sizeof record}, NULL) != 0)
            abort();
    return t;
}

static double bench_find(const struct table *t, const uint64_t *ids, uint32_t *slots)
{
    double begin = now_s();
    for (uint32_t at = 0; at < IDS; at += BATCH)
        table_find_many(t, ids + at, BATCH, slots);
    return IDS / (now_s() - begin);
}

// As a net does it: find, then copy the vectors side by side.
static double bench_gather(const struct table *t, const uint64_t *ids, uint32_t *slots, float *to)
{
    double begin = now_s();
    const float *vectors = table_vectors(t);
    for (uint32_t at = 0; at < IDS; at += 512) {
        table_find_many(t, ids + at, 512, slots);
        for (uint32_t i = 0; i < 512; i++)
            memcpy(to + i * DIM, vectors + slots[i] * table_stride(t), DIM * sizeof *to);
    }
    return IDS / (now_s() - begin);
}

static double bench_touch(struct overlay *o, const uint64_t *ids, const uint32_t *seen, uint32_t *slots)
{
    double begin = now_s();
    for (uint32_t at = 0; at < IDS; at += BATCH)
        overlay_touch(o, ids + at, seen, BATCH, slots + at);
    return IDS / (now_s() - begin);
}

static double bench_step(struct overlay *o, const uint32_t *slots, const float *gradients)
{
    double begin = now_s();
    for (uint32_t at = 0; at < IDS; at += BATCH)
        overlay_step(o, slots + at, gradients, BATCH, &(struct optimizer_at){.step = 1});
    return IDS / (now_s() - begin);
}

static double best(double a, double b)
{
    return a > b ? a : b;
}

static void bench(uint64_t rows)
{
    struct table_options o = {.name = "bench",
                              .dim = DIM,
                              .rows = rows,
                              .admit = 1,
                              .init = 0.01f,
                              .optimizer = {.kind = OPTIMIZER_ROWWISE_ADAGRAD, .lr = 0.05f}};
    struct table *t = table_filled(&o);
    uint64_t *ids = mem_array(IDS, sizeof *ids);
    uint32_t *slots = mem_array(IDS, sizeof *slots);
    uint32_t *seen = mem_array(BATCH, sizeof *seen);
    float *gradients = mem_array((size_t)BATCH * DIM, sizeof *gradients);
    struct rng rng = rng_of(7);
    for (uint32_t i = 0; i < IDS; i++)
        ids[i] = id_of(rng_below(&rng, rows));
    for (uint32_t i = 0; i < BATCH * DIM; i++)
        gradients[i] = (float)rng_normal(&rng);
    struct overlay *overlay = overlay_new(t);
    double find = 0, gather = 0, touch = 0, step = 0;
    double first = bench_touch(overlay, ids, seen, slots);
    for (int run = 0; run < RUNS; run++) {
        find = best(find, bench_find(t, ids, slots));
        gather = best(gather, bench_gather(t, ids, slots, gradients));
        touch = best(touch, bench_touch(overlay, ids, seen, slots));
        step = best(step, bench_step(overlay, slots, gradients));
    }
    printf(
        "%9llu rows x %d, %4llu MB: %5.1f M lookups/s, %5.1f M lookups+gathers/s, %5.1f M first touches/s, "
        "%5.1f M touches/s, %5.1f M updates/s\n",
        (unsigned long long)rows, DIM, (unsigned long long)(table_budget_bytes(&o) >> 20), find / 1e6,
        gather / 1e6, first / 1e6, touch / 1e6, step / 1e6);
    double begin = now_s();
    table_digest(t);
    double digest = now_s() - begin;
    begin = now_s();
    table_apply(t, overlay);
    printf("%9llu rows: digest %.3f s, apply %.3f s\n", (unsigned long long)rows, digest, now_s() - begin);
    overlay_free(overlay);
    table_free(t);
    free(gradients);
    free(seen);
    free(slots);
    free(ids);
}

int main(void)
{
    bench(1000 * 1000);
    bench(10 * 1000 * 1000);
    return 0;
}
