// SPDX-License-Identifier: Apache-2.0
// What the joiner and dedupe cost: ns an impression and a feedback while `pending` impressions wait (default
// 1 M).
//
//     bench_joiner [PENDING]
//
// Impressions come one a tick of event time, ten a request, with jitter; every tenth gets a click, at a
// random age within the window; ids are random. The phases are timed one by one: fill, impressions and leaves
// in the steady state, feedback taken in, feedback settled, a block, an id.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "base/rng.h"
#include "state/dedupe.h"
#include "state/joiner.h"

enum { JITTER = 100, ROUND = 1000, ROUNDS = 2000 };

struct bench {
    struct joiner *j;
    struct state_impression *shown; // of the last `pending` impressions, a ring
    uint64_t pending;
    uint64_t n; // shown so far
    uint64_t samples, labels;
    struct rng r;
};

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void count(void *context, const struct sample *s)
{
    struct bench *b = context;
    b->samples++;
    b->labels += s->labels != 0;
}

static void impressions_make(struct bench *b, uint64_t n)
{
    for (uint64_t k = b->n; k < b->n + n; k++) {
        struct state_impression *i = &b->shown[k % b->pending];
        const struct state_impression *first = &b->shown[(k - k % 10) % b->pending];
        *i = (struct state_impression){.user = k % 10 ? first->user : rng_u64(&b->r) | 1,
                                       .item = rng_u64(&b->r) | 1,
                                       .request = k % 10 ? first->request : rng_u64(&b->r) | 1,
                                       .ts = (int64_t)(k + rng_below(&b->r, JITTER)),
                                       .body = {1 + k / 100000, (uint32_t)(k / 1000 % 100), 0, 0}};
    }
}

static double impressions_add(struct bench *b, uint64_t n)
{
    double start = now_ns();
    for (uint64_t k = b->n; k < b->n + n; k++)
        joiner_impression(b->j, &b->shown[k % b->pending]);
    b->n += n;
    return now_ns() - start;
}

static double advance(struct bench *b)
{
    double start = now_ns();
    joiner_advance(b->j, (int64_t)b->n - JITTER, count, b);
    return now_ns() - start;
}

static double feedback_add(struct bench *b, struct state_feedback *f, uint64_t n)
{
    for (uint64_t k = 0; k < n; k++) {
        const struct state_impression *i =
            &b->shown[(b->n - 1 - rng_below(&b->r, b->pending * 9 / 10)) % b->pending];
        f[k] = (struct state_feedback){.user = i->user,
                                       .item = i->item,
                                       .request = i->request,
                                       .ts = (int64_t)b->n - JITTER + (int64_t)rng_below(&b->r, JITTER),
                                       .action = ACTION_CLICK};
    }
    double start = now_ns();
    for (uint64_t k = 0; k < n; k++)
        joiner_feedback(b->j, &f[k]);
    return now_ns() - start;
}

static void steady(struct bench *b)
{
    struct state_feedback *f = mem_array(ROUND, sizeof *f);
    struct buf block = {0};
    double add = 0, hold = 0, settle = 0, leave = 0, put = 0;
    double settled = 0;
    for (int round = 0; round < ROUNDS; round++) {
        impressions_make(b, ROUND);
        add += impressions_add(b, ROUND);
        leave += advance(b);
        hold += feedback_add(b, f, ROUND / 10);
        double start = now_ns();
        joiner_advance(b->j, (int64_t)b->n, count, b); // JITTER ticks on: as many leaves, all feedback
        settle += now_ns() - start;
        settled += ROUND / 10.0;
        if (round % 100 != 99)
            continue;
        buf_clear(&block);
        start = now_ns();
        joiner_block_put(b->j, 1 + (uint64_t)round, &block);
        put += now_ns() - start;
    }
    double impressions = (double)ROUND * ROUNDS;
    printf("impression, added:    %6.1f ns\n", add / impressions);
    printf("impression, left:     %6.1f ns\n", leave / impressions);
    printf("feedback, held:       %6.1f ns\n", hold / settled);
    printf("feedback, settled:    %6.1f ns (with as many leaves)\n", settle / settled);
    printf("block, an impression: %6.1f ns, %.1f bytes\n", put / impressions,
           (double)block.len / (100.0 * ROUND));
    free(f);
    buf_done(&block);
}

// What one read of a random line of 256 MiB costs here and now: the other figures are to be read beside it.
static void reference_run(struct rng *r)
{
    enum { LINES = 1 << 22, READS = 1 << 21 };
    uint64_t *lines = mem_map((size_t)LINES * 64);
    for (size_t k = 0; k < LINES; k++)
        lines[k * 8] = rng_u64(r);
    double start = now_ns();
    uint64_t at = 0;
    for (size_t k = 0; k < READS; k++)
        at = lines[(at + k * 977) % LINES * 8];
    printf("reference, a read:    %6.1f ns (%lu)\n", (now_ns() - start) / READS, (unsigned long)(at % 10));
    mem_unmap(lines, (size_t)LINES * 64);
}

static void dedupe_run(uint64_t n)
{
    struct dedupe *d = dedupe_new(600000, UINT64_MAX);
    struct rng r = rng_of(2);
    double start = now_ns();
    for (uint64_t k = 0; k < 2 * n; k++) {
        int64_t ts = (int64_t)(k * 600000 / n); // n within the window
        dedupe_seen(d, rng_u64(&r) | 1, ts);
        if (k % 1000 == 0)
            dedupe_advance(d, ts);
    }
    printf("dedupe, an id:        %6.1f ns (%lu alive, %.1f bytes each)\n",
           (now_ns() - start) / (2.0 * (double)n), (unsigned long)dedupe_count(d),
           (double)dedupe_bytes(d) / (double)dedupe_count(d));
    dedupe_free(d);
}

int main(int argc, char **argv)
{
    struct bench b = {.pending = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000, .r = rng_of(1)};
    const struct state_join_options options = {
        .window_ms = (int64_t)b.pending, .labels = 1u << ACTION_CLICK, .keep_negatives = 1};
    struct state_join_counts counts;
    b.j = joiner_new(&options);
    b.shown = mem_array(b.pending, sizeof *b.shown);
    impressions_make(&b, b.pending);
    double fill = impressions_add(&b, b.pending);
    joiner_advance(b.j, (int64_t)b.n - JITTER, count, &b);
    printf("impression, filling:  %6.1f ns\n", fill / (double)b.pending);
    steady(&b);
    joiner_counts(b.j, &counts);
    printf("%lu pending, %.0f bytes each; %lu joined, %lu orphans\n", (unsigned long)counts.pending,
           (double)joiner_bytes(b.j) / (double)counts.pending, (unsigned long)counts.joined,
           (unsigned long)counts.orphans);
    double start = now_ns();
    struct joiner_pending pending[16];
    joiner_of_user(b.j, b.shown[0].user, 16, pending);
    printf("pending of one user:  %6.2f ms\n", (now_ns() - start) / 1e6);
    joiner_free(b.j);
    free(b.shown);
    dedupe_run(4 * b.pending);
    reference_run(&b.r);
    return 0;
}
