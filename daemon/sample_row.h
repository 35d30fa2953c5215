// SPDX-License-Identifier: Apache-2.0
// A sample of the log as it leaves freshet. One list of columns, made from the
// config, says what a sample shows; JSONL, the samples topic and Arrow are
// three ways to write it:
//
//     group       JSON                      Arrow
//     OWN         member                    column of the same name
//     LABELS      member of `labels`        label_NAME
//     LABEL_TS    member of `label_ts`      label_ts_NAME
//     KEEP_RATES  member of `keep_rates`    keep_rate_NAME
//     FEATURES    member of `features`      feature_NAME
#ifndef FRESHET_DAEMON_SAMPLE_ROW_H
#define FRESHET_DAEMON_SAMPLE_ROW_H

#include "base/json.h"
#include "daemon/features.h"

enum sample_group { SAMPLE_OWN, SAMPLE_LABELS, SAMPLE_LABEL_TS, SAMPLE_KEEP_RATES, SAMPLE_FEATURES };

enum sample_type {
    SAMPLE_INT,
    SAMPLE_TIME,      // ms
    SAMPLE_FLAG,      // 0, 1
    SAMPLE_RATE,      // float
    SAMPLE_TEXT,      //
    SAMPLE_LABELS_OF, // a set of labels, by their names
    SAMPLE_NUMBER,    // double
    SAMPLE_IDS,       // the texts behind a sequence of ids
    SAMPLE_AGES,      // a sequence of intervals
};

// What a row has in a column; the type of the column says which member counts.
struct sample_value {
    bool missing;
    int64_t integer; // INT, TIME, FLAG; LABELS_OF: bit a
    double number;   // NUMBER, RATE
    struct str text; // TEXT; of a feature text.s NULL: features_value_json shows it
    const struct feature_value *feature;
};

struct sample_column {
    const char *name; // inside its group
    enum sample_group group;
    enum sample_type type;
    bool optional;  // JSON leaves out what is missing, instead of null
    uint32_t index; // of the action or the feature
    void (*get)(const struct sample_column *c, const struct sample *s, const struct feature_row *row,
                struct sample_value *ret);
};

struct sample_columns {
    const struct config *config;
    uint32_t n; // the features last
    uint32_t features;
    struct sample_column *columns;
};

void sample_columns_init(struct sample_columns *c, const struct config *config);
void sample_columns_done(struct sample_columns *c);
// "click", or "watch_ms".
const char *sample_label_name(const struct config *config, uint32_t action);

// Reads row i of a chunk. ERR_CORRUPT: its body does not decode.
int sample_row_decode(const struct features *f, const struct sample_chunk *chunk, uint32_t i,
                      struct feature_row *ret_row, struct err *err);
// One JSON object.
void sample_row_json(const struct sample_columns *c, const struct features *f, struct state *state,
                     const struct sample *s, const struct feature_row *row, struct json *j);

#endif
