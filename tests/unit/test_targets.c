// SPDX-License-Identifier: Apache-2.0
// What a sample says to each head: values of what was watched, conditions, corrections.
#include "daemon/targets.h"

#include <criterion/criterion.h>
#include <math.h>

enum { CLICK = 1 << ACTION_CLICK, LIKE = 1 << ACTION_LIKE, WATCH = 1 << ACTION_WATCH };

static struct config config;
static struct feature_row row;

static struct config_head *head_of(uint8_t label)
{
    struct config_head *h = &config.model.heads[0];
    config.model.n_heads = 1;
    *h = (struct config_head){.label = label, .given = -1, .through = -1, .length = -1};
    return h;
}

static void expect(const struct sample *s, float label, float weight)
{
    float got_label, got_weight;
    targets_of(&config, s, &row, &got_label, &got_weight);
    cr_expect(fabsf(got_label - label) < 1e-6f && got_weight == weight, "%g weighs %g, not %g, %g",
              (double)got_label, (double)got_weight, (double)label, (double)weight);
}

Test(targets, a_label_is_a_bit)
{
    head_of(ACTION_LIKE);
    expect(&(struct sample){.labels = CLICK, .keep_rate = 1}, 0, 1);
    expect(&(struct sample){.labels = LIKE, .keep_rate = 0.5f}, 1, 2);
    expect(&(struct sample){.labels = 0, .keep_rate = 0.5f}, 0, 1);
    expect(&(struct sample){.labels = CLICK, .masked = LIKE, .keep_rate = 1}, 0, 0);
    // corrected: what came since takes its negative back, what was told has been said
    expect(&(struct sample){.labels = LIKE, .corrected = true, .keep_rate = 1}, 1, -1);
    expect(&(struct sample){.labels = LIKE, .corrected = true, .told = LIKE, .keep_rate = 1}, 1, 0);
    expect(&(struct sample){.labels = CLICK, .corrected = true, .keep_rate = 1}, 0, 0);
    expect(&(struct sample){.labels = LIKE, .corrected = true, .masked = LIKE, .keep_rate = 1}, 1, 1);
    config.model.heads[0].corrected = CONFIG_CORRECTED_ADDS;
    expect(&(struct sample){.labels = LIKE, .corrected = true, .keep_rate = 1}, 1, 1);
}

Test(targets, given_a_click)
{
    head_of(ACTION_LIKE)->given = ACTION_CLICK;
    expect(&(struct sample){.labels = 0, .keep_rate = 1}, 0, 0);
    expect(&(struct sample){.labels = LIKE, .keep_rate = 1}, 1, 0);
    expect(&(struct sample){.labels = CLICK, .keep_rate = 1}, 0, 1);
    expect(&(struct sample){.labels = CLICK | LIKE, .keep_rate = 1}, 1, 1);
    // the click came since: the sample before said nothing to this head, so there is nothing to take back
    expect(&(struct sample){.labels = CLICK, .corrected = true, .keep_rate = 1}, 0, 1);
    expect(&(struct sample){.labels = CLICK | LIKE, .corrected = true, .keep_rate = 1}, 1, 1);
    expect(&(struct sample){.labels = CLICK | LIKE, .corrected = true, .told = LIKE, .keep_rate = 1}, 1, 1);
    // the like came since
    expect(&(struct sample){.labels = CLICK | LIKE, .corrected = true, .told = CLICK, .keep_rate = 1}, 1, -1);
}

Test(targets, what_was_watched)
{
    struct config_head *h = head_of(ACTION_WATCH);
    h->valued = true;
    expect(&(struct sample){.labels = WATCH, .watch_ms = 2500, .keep_rate = 1}, 2.5f, 1);
    expect(&(struct sample){.labels = CLICK, .keep_rate = 1}, 0, 1);
    expect(&(struct sample){.labels = WATCH, .watch_ms = 2500, .corrected = true, .keep_rate = 1}, 2.5f, -1);
    h->threshold = 2;
    expect(&(struct sample){.labels = WATCH, .watch_ms = 2500, .keep_rate = 1}, 1, 1);
    expect(&(struct sample){.labels = WATCH, .watch_ms = 1999, .keep_rate = 1}, 0, 1);
    expect(&(struct sample){.labels = WATCH, .watch_ms = 1999, .corrected = true, .keep_rate = 1}, 0, 0);
}

Test(targets, a_share_of_the_length)
{
    struct config_head *h = head_of(ACTION_WATCH);
    h->valued = true;
    h->length = 3;
    row.values[3] = (struct feature_value){.type = FEATURE_NUMBER, .number = 10000};
    expect(&(struct sample){.labels = WATCH, .watch_ms = 4000, .keep_rate = 1}, 0.4f, 1);
    expect(&(struct sample){.labels = WATCH, .watch_ms = 40000, .keep_rate = 1}, 1, 1);
    expect(&(struct sample){.labels = 0, .keep_rate = 1}, 0, 1);
    h->threshold = 0.8;
    expect(&(struct sample){.labels = WATCH, .watch_ms = 8000, .keep_rate = 1}, 1, 1);
    expect(&(struct sample){.labels = WATCH, .watch_ms = 7999, .keep_rate = 1}, 0, 1);
    static const struct feature_value unknown[] = {{.type = FEATURE_NUMBER, .number = 0},
                                                   {.type = FEATURE_NUMBER, .number = -10000},
                                                   {.type = FEATURE_MISSING, .number = 10000}};
    for (int i = 0; i < 3; i++) {
        row.values[3] = unknown[i];
        expect(&(struct sample){.labels = WATCH, .watch_ms = 8000, .keep_rate = 1}, 0, 0);
        cr_expect(targets_share(&(struct sample){.watch_ms = 8000}, &row, 3) < 0);
    }
}
