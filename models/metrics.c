// SPDX-License-Identifier: Apache-2.0
// AUC is the chance that a random positive is scored above a random negative, ties counting one half. The
// scores are sorted once (radix sort, three passes of 11 bits over 33: the float's order, then the label),
// and a walk over groups of equal scores counts wins in half steps, as integers: exact, whatever the order of
// the samples.
//
// A sample at position i of all that were put is kept where i is a multiple of `step`; when more than `max`
// are kept, every second goes and `step` doubles. So what is kept is a function of the samples alone.
#include "models/metrics.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { RECORD = 5, RADIX = 11, BUCKETS = 1 << RADIX, PASSES = 3, VERSION = 1 };
static const double clip = 1e-7; // of a prediction, in the logloss alone

void metrics_init(struct metrics *m, uint64_t max_scores)
{
    assert(max_scores > 0);
    *m = (struct metrics){.max = max_scores, .step = 1};
}

void metrics_done(struct metrics *m)
{
    if (m == NULL)
        return;
    buf_done(&m->scores);
    *m = (struct metrics){0};
}

void metrics_clear(struct metrics *m)
{
    struct buf scores = m->scores;
    buf_clear(&scores);
    *m = (struct metrics){.scores = scores, .max = m->max, .step = 1};
}

static double logloss(double p, double y)
{
    p = p < clip ? clip : p > 1 - clip ? 1 - clip : p; // NaN stays
    double loss = y > 0 ? -y * log(p) : 0;
    return y < 1 ? loss - (1 - y) * log1p(-p) : loss;
}

// Keeps records first, first + each, ... and of them only.
static void keep_every(struct buf *scores, uint64_t each)
{
    size_t to = 0;
    for (size_t from = 0; from < scores->len; from += RECORD * each, to += RECORD)
        memmove(scores->data + to, scores->data + from, RECORD);
    scores->len = to;
}

static void thin(struct metrics *m)
{
    while (m->scores.len / RECORD > m->max) {
        keep_every(&m->scores, 2);
        m->step *= 2;
    }
}

static void score_put(struct metrics *m, float p, bool positive)
{
    buf_put_f32(&m->scores, p);
    buf_put_u8(&m->scores, positive);
    if (m->scores.len / RECORD > m->max)
        thin(m);
}

void metrics_put(struct metrics *m, const float *p, const float *labels, const float *weights, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const double weight = weights != NULL ? (double)weights[i] : 1, label = (double)labels[i];
        m->logloss_sum += weight * logloss((double)p[i], label);
        m->weight_sum += weight;
        m->label_sum += weight * label;
        m->prediction_sum += weight * (double)p[i];
        if (m->n++ % m->step == 0)
            score_put(m, p[i], labels[i] > 0.5f);
    }
}

// Positions of `from` go on where those of `into` end. Where `from` was thinned, what it kept are multiples
// of its own step, and they count as if they stood at multiples of the common one.
void metrics_merge(struct metrics *into, const struct metrics *from)
{
    assert(into != from);
    while (into->step < from->step) {
        keep_every(&into->scores, 2);
        into->step *= 2;
    }
    const size_t records = from->scores.len / RECORD;
    const uint64_t start = from->step == 1 ? into->n : 0;
    for (size_t i = 0; i < records; i++)
        if ((start + i * from->step) % into->step == 0) {
            const uint8_t *record = from->scores.data + i * RECORD;
            float p;
            memcpy(&p, record, sizeof p);
            score_put(into, p, record[4] != 0);
        }
    into->logloss_sum += from->logloss_sum;
    into->weight_sum += from->weight_sum;
    into->label_sum += from->label_sum;
    into->prediction_sum += from->prediction_sum;
    into->n += from->n;
}

// ---- AUC --------------------------------------------------------------------------------------------------

// A number that sorts as the float does, then the label in the lowest bit.
static uint64_t sort_key(const uint8_t *record)
{
    uint32_t bits;
    memcpy(&bits, record, sizeof bits);
    bits ^= bits >> 31 != 0 ? UINT32_MAX : UINT32_C(1) << 31;
    return (uint64_t)bits << 1 | record[4];
}

static void radix_pass(const uint64_t *from, uint64_t *to, size_t n, uint32_t shift)
{
    size_t places[BUCKETS] = {0};
    for (size_t i = 0; i < n; i++)
        places[from[i] >> shift & (BUCKETS - 1)]++;
    size_t place = 0;
    for (uint32_t b = 0; b < BUCKETS; b++) {
        size_t count = places[b];
        places[b] = place;
        place += count;
    }
    for (size_t i = 0; i < n; i++)
        to[places[from[i] >> shift & (BUCKETS - 1)]++] = from[i];
}

// Over sorted keys.
static double auc_sorted(const uint64_t *keys, size_t n)
{
    uint64_t positives = 0, negatives = 0;
    unsigned __int128 half_wins = 0;
    for (size_t i = 0; i < n;) {
        uint64_t group[2] = {0, 0};
        for (uint64_t score = keys[i] >> 1; i < n && keys[i] >> 1 == score; i++)
            group[keys[i] & 1]++;
        half_wins += (unsigned __int128)group[1] * (2 * negatives + group[0]);
        negatives += group[0];
        positives += group[1];
    }
    if (positives == 0 || negatives == 0)
        return NAN;
    return (double)half_wins / (2.0 * (double)positives * (double)negatives);
}

static double auc(const struct buf *scores)
{
    const size_t n = scores->len / RECORD;
    if (n == 0)
        return NAN;
    uint64_t *keys = mem_array(2 * n, sizeof *keys), *other = keys + n;
    for (size_t i = 0; i < n; i++)
        keys[i] = sort_key(scores->data + i * RECORD);
    radix_pass(keys, other, n, 0);
    radix_pass(other, keys, n, RADIX);
    radix_pass(keys, other, n, 2 * RADIX);
    double value = auc_sorted(other, n);
    free(keys);
    return value;
}

// ---- values, store ----------------------------------------------------------------------------------------

static double entropy(double p)
{
    return p > 0 && p < 1 ? -p * log(p) - (1 - p) * log1p(-p) : NAN;
}

void metrics_values(const struct metrics *m, struct metrics_values *ret_values)
{
    const double base = m->weight_sum > 0 ? m->label_sum / m->weight_sum : NAN;
    const double loss = m->weight_sum > 0 ? m->logloss_sum / m->weight_sum : NAN;
    *ret_values = (struct metrics_values){
        .n = m->n,
        .auc = auc(&m->scores),
        .logloss = loss,
        .ne = loss / entropy(base),
        .calibration = m->label_sum > 0 ? m->prediction_sum / m->label_sum : NAN,
        .base_rate = base,
    };
}

// version u8 | n, step u64 | the four sums f64 | count u64 | count x (p f32, label u8)
void metrics_save(const struct metrics *m, struct buf *to)
{
    buf_put_u8(to, VERSION);
    buf_put_u64(to, m->n);
    buf_put_u64(to, m->step);
    buf_put_f64(to, m->logloss_sum);
    buf_put_f64(to, m->weight_sum);
    buf_put_f64(to, m->label_sum);
    buf_put_f64(to, m->prediction_sum);
    buf_put_u64(to, m->scores.len / RECORD);
    buf_put(to, m->scores.data, m->scores.len);
}

static double rd_double(struct rd *from)
{
    uint64_t bits = rd_u64(from);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static bool labels_valid(const uint8_t *records, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (records[i * RECORD + 4] > 1)
            return false;
    return true;
}

int metrics_load(struct metrics *m, struct rd *from)
{
    const uint8_t version = rd_u8(from);
    struct metrics loaded = {.max = m->max, .n = rd_u64(from), .step = rd_u64(from)};
    loaded.logloss_sum = rd_double(from);
    loaded.weight_sum = rd_double(from);
    loaded.label_sum = rd_double(from);
    loaded.prediction_sum = rd_double(from);
    const uint64_t count = rd_u64(from);
    if (from->bad || version != VERSION || count > rd_left(from) / RECORD || count > loaded.n)
        return -1;
    if (loaded.step == 0 || (loaded.step & (loaded.step - 1)) != 0)
        return -1;
    const uint8_t *records = rd_bytes(from, (size_t)count * RECORD);
    if (!labels_valid(records, count))
        return -1;
    loaded.scores = m->scores;
    buf_clear(&loaded.scores);
    buf_put(&loaded.scores, records, (size_t)count * RECORD);
    *m = loaded;
    thin(m); // kept under a larger max
    return 0;
}
