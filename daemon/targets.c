// SPDX-License-Identifier: Apache-2.0
// A label is the bit of an action, or a value made of what was watched:
//
//     threshold 0, logloss   1 if the action came
//     threshold c            1 if the value is at least c
//     fraction               the value, watch_ms / length, at most 1
//     watch_time             the value, seconds
//
// A weight is 0 where the sample says nothing to the head: its negative is not among those kept, the sample that it
// corrects has said it, the label that is `given` did not come, the length is not known. Below 0 it takes back the
// negative that the sample was before. A thinned positive stands for those that were left out.
#include "daemon/targets.h"

#include <math.h>
#include <string.h>

static bool bit(uint32_t labels, int action)
{
    return (labels >> action & 1) != 0;
}

double targets_share(const struct sample *s, const struct feature_row *row, int length)
{
    const struct feature_value *whole = &row->values[length];
    if (whole->type != FEATURE_NUMBER || !(whole->number > 0))
        return -1;
    return fmin((double)s->watch_ms / whole->number, 1);
}

// -1: not known.
static double value_of(const struct config_head *head, const struct sample *s, const struct feature_row *row)
{
    return head->length < 0 ? (double)s->watch_ms / 1000 : targets_share(s, row, head->length);
}

static float label_of(const struct config_head *head, double value, bool came)
{
    if (head->threshold > 0)
        return came && value >= head->threshold ? 1 : 0;
    return !head->valued ? (came ? 1 : 0) : came ? (float)value : 0;
}

// Whether the head took part in the sample that this one corrects.
static bool took_part(const struct config_head *head, const struct sample *s)
{
    return s->corrected && (head->given < 0 || bit(s->told, head->given));
}

// The factor of the sample's weight: 1, 0 or -1.
static float part_of(const struct config_head *head, const struct sample *s, float label)
{
    const bool came = bit(s->labels, head->label), masked = bit(s->masked, head->label);
    if (head->given >= 0 && !bit(s->labels, head->given))
        return 0;
    if (!took_part(head, s))
        return masked && !came ? 0 : 1;
    if (bit(s->told, head->label) || label == 0) // said before, as it is
        return 0;
    return !masked && head->corrected == CONFIG_CORRECTED_REPLACES ? -1 : 1;
}

void targets_of(const struct config *config, const struct sample *s, const struct feature_row *row,
                float *ret_labels, float *ret_weights)
{
    const float weight = s->labels != 0 && s->keep_rate > 0 ? 1 / s->keep_rate : 1;
    for (uint32_t h = 0; h < config->model.n_heads; h++) {
        const struct config_head *head = &config->model.heads[h];
        const double value = value_of(head, s, row);
        ret_labels[h] = label_of(head, value, bit(s->labels, head->label));
        ret_weights[h] = value < 0 ? 0 : weight * part_of(head, s, ret_labels[h]);
    }
}
