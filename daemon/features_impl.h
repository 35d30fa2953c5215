// SPDX-License-Identifier: Apache-2.0
// The inside of features, shared by features_*.c: readings, and how they look when they are decoded.
#ifndef FRESHET_DAEMON_FEATURES_IMPL_H
#define FRESHET_DAEMON_FEATURES_IMPL_H

#include "daemon/features.h"
#include "daemon/groups.h"
#include "daemon/profile.h"

enum {
    READS_MAX = 2 + 2 * CONFIG_PARENTS_MAX, // of one feature: numerator and denominator at each level
    READINGS_MAX = 4 * CONFIG_FEATURES_MAX,
    SMALL_NUMBERS = 1024, // hours, weekdays and buckets whose ids are computed at start
    INTERVALS = 32,       // of the ages in a sequence
};

enum reading_kind {
    READING_COUNTER,
    READING_ATTRIBUTE,
    READING_SEQUENCE,
    READING_LIST,
    READING_PLACE,
    READING_AGE,
    READING_MEMBER,
};

struct reading {
    enum reading_kind kind;
    bool of_item;            // lies in the item's part
    bool named;              // its text is hashed into a table: keep the text for readers of the table
    enum config_source of;   // counter: whose
    uint32_t grouping;       // counter: of a group
    uint8_t measure;         // counter
    uint32_t window;         // counter
    uint32_t sequence, last; // sequence, member; list: last
    uint8_t with;            // sequence: columns, SEQUENCE_*
    uint32_t precision;      // place
    struct attribute_plan attribute, second;
};

// A reading decoded.
struct value {
    enum value_type type; // attribute, place
    uint64_t count;       // counter; member: 0 or 1; age: 1 + ms, 0 where it is not known
    double number;
    struct str text;
    uint32_t n; // sequence, list
    const uint8_t *ids, *times, *category, *author;
};

struct learned {
    bool known;
    uint32_t n;
    double edges[CONFIG_EDGES_MAX];
};

// Values that edges will be learned from, owned.
struct gathered {
    uint32_t n;
    double *values;
};

struct features {
    const struct config *config;
    struct groups *groups;
    struct attribute_plan birth;           // name "": none
    struct reading readings[READINGS_MAX]; // the user's part (user, context, sequences), then the item's
    uint32_t n_readings;
    uint32_t n_user;                                // readings of the user's part
    uint32_t reads[CONFIG_FEATURES_MAX][READS_MAX]; // by feature
    uint32_t n_reads[CONFIG_FEATURES_MAX];
    struct learned learned[CONFIG_FEATURES_MAX];   // edges of quantiles
    struct gathered gathered[CONFIG_FEATURES_MAX]; // of the served version; none where edges are known
    uint64_t small[SMALL_NUMBERS];                 // hash_id of "0", "1", ...
    uint64_t missing;                              // hash_id of ""
    struct buf schema;
    struct err err; // of the last features_read that failed
};

// Both parts of a body; -1 if they do not fit. `row` gets ids, texts and position.
int features_body_decode(const struct features *f, struct str segment, uint32_t user_at, uint32_t item_at,
                         struct feature_row *row, struct value *values);
// Feature i from the readings; earlier ones have been evaluated.
void features_eval(const struct features *f, uint32_t i, const struct value *values, int64_t ts,
                   struct feature_row *row);
uint64_t features_small(const struct features *f, int64_t n); // hash_id of the number's text
void features_quantiles_done(struct features *f);
// A rate as its levels say, counted from the last parent up: *ret_levels[k] is the smoothed rate of level k.
double features_rate(const struct features *f, uint32_t i, const struct value *values,
                     double ret_levels[1 + CONFIG_PARENTS_MAX]);

#endif
