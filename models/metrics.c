// SPDX-License-Identifier: Apache-2.0
// AUC is the chance that a random positive is scored above a random negative, ties counting one half. The scores are
// sorted once (radix sort, three passes of 11 bits over the float's 32), and a walk over groups of equal scores counts
// wins in half steps, as integers: exact, whatever the order of the samples, and so without their weights.
//
// Of a negative that became a positive, the prediction when it was put first is not known any more; it is taken to
// be that of the correction. So counts by score are signed: one positive more and one negative less.
//
// A sample at position i of all that were put is kept where i is a multiple of `step`; when more than `max`
// are kept, every second goes and `step` doubles. So what is kept is a function of the samples alone.
#include "models/metrics.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { RECORD = 5, RADIX = 11, BUCKETS = 1 << RADIX, VERSION = 2 };
enum { SCORE_NEGATIVE, SCORE_POSITIVE, SCORE_MOVED, SCORE_KINDS, KIND_BITS = 2 };
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

static void score_put(struct metrics *m, float p, uint8_t kind)
{
    buf_put_f32(&m->scores, p);
    buf_put_u8(&m->scores, kind);
    if (m->scores.len / RECORD > m->max)
        thin(m);
}

// A moved sample stays one sample, with the same prediction: what changes is its label, and its loss by that.
static void moved_put(struct metrics *m, double p, double label, double weight)
{
    m->logloss_sum += weight * (logloss(p, label) - logloss(p, 0));
    m->label_sum += weight * label;
}

void metrics_put(struct metrics *m, const float *p, const float *labels, const float *weights, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const double weight = weights != NULL ? (double)weights[i] : 1, label = (double)labels[i];
        if (weight == 0)
            continue;
        uint8_t kind = labels[i] > 0.5f ? SCORE_POSITIVE : SCORE_NEGATIVE;
        if (weight < 0) {
            moved_put(m, (double)p[i], label, -weight);
            kind = SCORE_MOVED;
        } else {
            m->logloss_sum += weight * logloss((double)p[i], label);
            m->weight_sum += weight;
            m->label_sum += weight * label;
            m->prediction_sum += weight * (double)p[i];
            m->n++;
        }
        if (m->put++ % m->step == 0)
            score_put(m, p[i], kind);
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
    const uint64_t start = from->step == 1 ? into->put : 0;
    for (size_t i = 0; i < records; i++)
        if ((start + i * from->step) % into->step == 0) {
            const uint8_t *record = from->scores.data + i * RECORD;
            float p;
            memcpy(&p, record, sizeof p);
            score_put(into, p, record[4]);
        }
    into->logloss_sum += from->logloss_sum;
    into->weight_sum += from->weight_sum;
    into->label_sum += from->label_sum;
    into->prediction_sum += from->prediction_sum;
    into->n += from->n;
    into->put += from->put;
}

// ---- AUC --------------------------------------------------------------------------------------------------

// Above the kind in the lowest two bits, a number that sorts as the float does.
static uint64_t sort_key(const uint8_t *record)
{
    uint32_t bits;
    memcpy(&bits, record, sizeof bits);
    bits ^= bits >> 31 != 0 ? UINT32_MAX : UINT32_C(1) << 31;
    return (uint64_t)bits << KIND_BITS | record[4];
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

// Over keys sorted by score.
static double auc_sorted(const uint64_t *keys, size_t n)
{
    int64_t positives = 0, negatives = 0;
    __int128 half_wins = 0;
    for (size_t i = 0; i < n;) {
        int64_t group[SCORE_KINDS] = {0};
        for (uint64_t score = keys[i] >> KIND_BITS; i < n && keys[i] >> KIND_BITS == score; i++)
            group[keys[i] & ((1u << KIND_BITS) - 1)]++;
        const int64_t above = group[SCORE_POSITIVE] + group[SCORE_MOVED];
        const int64_t below = group[SCORE_NEGATIVE] - group[SCORE_MOVED];
        half_wins += (__int128)above * (2 * negatives + below);
        negatives += below;
        positives += above;
    }
    if (positives <= 0 || negatives <= 0)
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
    radix_pass(keys, other, n, KIND_BITS);
    radix_pass(other, keys, n, KIND_BITS + RADIX);
    radix_pass(keys, other, n, KIND_BITS + 2 * RADIX);
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

// version u8 | n, put, step u64 | the four sums f64 | count u64 | count x (p f32, label u8)
void metrics_save(const struct metrics *m, struct buf *to)
{
    buf_put_u8(to, VERSION);
    buf_put_u64(to, m->n);
    buf_put_u64(to, m->put);
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

static bool kinds_valid(const uint8_t *records, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (records[i * RECORD + 4] >= SCORE_KINDS)
            return false;
    return true;
}

int metrics_load(struct metrics *m, struct rd *from)
{
    const uint8_t version = rd_u8(from);
    struct metrics loaded = {.max = m->max, .n = rd_u64(from)};
    loaded.put = rd_u64(from);
    loaded.step = rd_u64(from);
    loaded.logloss_sum = rd_double(from);
    loaded.weight_sum = rd_double(from);
    loaded.label_sum = rd_double(from);
    loaded.prediction_sum = rd_double(from);
    const uint64_t count = rd_u64(from);
    if (from->bad || version != VERSION || count > rd_left(from) / RECORD || count > loaded.put)
        return -1;
    if (loaded.step == 0 || (loaded.step & (loaded.step - 1)) != 0)
        return -1;
    const uint8_t *records = rd_bytes(from, (size_t)count * RECORD);
    if (!kinds_valid(records, count))
        return -1;
    loaded.scores = m->scores;
    buf_clear(&loaded.scores);
    buf_put(&loaded.scores, records, (size_t)count * RECORD);
    *m = loaded;
    thin(m); // kept under a larger max
    return 0;
}
