// SPDX-License-Identifier: Apache-2.0
// The watermark against its definition, computed anew after every step.
#include <criterion/criterion.h>

#include "base/rng.h"
#include "stream/watermark.h"

enum { PARTS = 5, OUT_OF_ORDER = 50 };

// The definition: the least over the parts that count and are not idle; all idle: the furthest; never back.
static int64_t twin(const struct watermark *w, int64_t before)
{
    int64_t least = INT64_MAX;
    int64_t most = INT64_MIN;
    for (uint32_t i = 0; i < w->n; i++) {
        const struct watermark_part *p = &w->parts[i];
        int64_t value = p->largest == WATERMARK_NONE ? WATERMARK_NONE : p->largest - w->out_of_order;
        if (p->counts && !p->idle && value < least)
            least = value;
        if (p->counts && value > most)
            most = value;
    }
    int64_t now = least == INT64_MAX ? most : least;
    return now > before ? now : before;
}

Test(watermark, random_steps)
{
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct rng rng = rng_of(seed);
        struct watermark w;
        watermark_init(&w, PARTS, OUT_OF_ORDER);
        watermark_counts(&w, PARTS - 1, seed % 2 == 0);
        int64_t before = WATERMARK_NONE;
        for (int64_t i = 0; i < 400; i++) {
            uint32_t part = (uint32_t)rng_below(&rng, PARTS);
            bool moved = rng_below(&rng, 10) == 0
                             ? watermark_idle(&w, part)
                             : watermark_event(&w, part, 1000 + i * 3 - (int64_t)rng_below(&rng, 300));
            cr_assert_eq(w.value, twin(&w, before));
            cr_assert_eq(moved, w.value != before);
            before = w.value;
        }
        watermark_done(&w);
    }
}

Test(watermark, one_part)
{
    struct watermark w;
    watermark_init(&w, 1, 5000);
    cr_assert_eq(w.value, WATERMARK_NONE);
    cr_assert(watermark_event(&w, 0, 100000));
    cr_assert_eq(w.value, 95000);
    cr_assert(!watermark_event(&w, 0, 99000));
    cr_assert(w.value == 95000 && w.largest == 100000);
    cr_assert(!watermark_idle(&w, 0));
    watermark_flush(&w);
    cr_assert_eq(w.value, WATERMARK_END);
    cr_assert(!watermark_event(&w, 0, 200000));
    cr_assert_eq(w.value, WATERMARK_END);
    watermark_done(&w);
    watermark_done(&w);
}

Test(watermark, a_part_that_has_given_nothing_holds)
{
    struct watermark w;
    watermark_init(&w, 2, 0);
    cr_assert(!watermark_event(&w, 0, 100));
    cr_assert_eq(w.value, WATERMARK_NONE);
    cr_assert(watermark_idle(&w, 1));
    cr_assert_eq(w.value, 100);
    cr_assert(!watermark_event(&w, 1, 50));
    cr_assert(!watermark_event(&w, 0, 200));
    cr_assert_eq(w.value, 100);
    cr_assert(watermark_event(&w, 1, 150));
    cr_assert_eq(w.value, 150);
    watermark_done(&w);
}

Test(watermark, profiles_do_not_count)
{
    struct watermark w;
    watermark_init(&w, 2, 10);
    watermark_counts(&w, 1, false);
    cr_assert(!watermark_event(&w, 1, 900));
    cr_assert_eq(w.largest, WATERMARK_NONE);
    cr_assert(watermark_event(&w, 0, 100));
    cr_assert(w.value == 90 && w.largest == 100);
    watermark_done(&w);
}

Test(watermark, state_comes_back)
{
    struct watermark w;
    struct watermark back;
    struct buf bytes[3] = {{0}};
    watermark_init(&w, 3, 10);
    watermark_init(&back, 3, 10);
    watermark_event(&w, 0, 100);
    watermark_event(&w, 1, 200);
    watermark_part_put(&w, 0, &bytes[0]); // an older commit
    watermark_idle(&w, 2);
    watermark_event(&w, 0, 150);
    watermark_part_put(&w, 1, &bytes[1]);
    watermark_part_put(&w, 2, &bytes[2]);
    for (uint32_t i = 0; i < 3; i++) {
        struct rd rd = rd_of(bytes[i].data, bytes[i].len);
        watermark_part_get(&back, i, &rd);
        cr_assert(!rd.bad && rd_left(&rd) == 0);
    }
    cr_assert(back.value == w.value && back.largest == w.largest);
    cr_assert(back.parts[0].largest == 100 && back.parts[1].largest == 200 && back.parts[2].idle);
    struct rd cut = rd_of(bytes[0].data, bytes[0].len - 1);
    watermark_part_get(&back, 1, &cut);
    cr_assert(cut.bad && back.parts[1].largest == 200);
    for (uint32_t i = 0; i < 3; i++)
        buf_done(&bytes[i]);
    watermark_done(&w);
    watermark_done(&back);
}
