// SPDX-License-Identifier: Apache-2.0
// A whole model as one safetensors file: what `freshet export model` writes and `freshet import model` reads.
//
//     <block>.<...>, <head>.weight, <head>.bias    F32   dense layers, PyTorch's names and layout (net_param)
//     tables.<name>.ids                            I64   (n) feature ids, the bits of a u64: hash_id of the text
//     tables.<name>.weight                         F32   (n, dim) their vectors
//     tables.<name>.accum                          F32   (n) the accumulators of row-wise Adagrad
//     tables.<name>.<array>                        F32   (n, dim) what other optimizers keep beside each number: sum of
//                                                        adagrad, z and n of ftrl, exp_avg and exp_avg_sq of adam
//     tables.<name>.count                          I64   (n) occurrences in samples
//     tables.<name>.last_seen                      I64   (n) event time, seconds
//     optimizer.<block>.<...>.<array>              F32   the same of each dense layer that is trained, of its shape
//     optimizer.samples, optimizer.step            I64   (1) trained on so far: samples, and batches (adam's step)
//     quantiles.<...>, norms.<...>                 F64   learned.h
//
// Notes: base, version, trained_through, trained, frozen.
#ifndef FRESHET_DAEMON_MODEL_FILE_H
#define FRESHET_DAEMON_MODEL_FILE_H

#include <stdbool.h>
#include <stdio.h>

#include "models/optimizer.h"

enum { MODEL_FILE_NAME = 160 };

#define MODEL_FILE_SAMPLES "optimizer.samples"
#define MODEL_FILE_STEP "optimizer.step"

// Of a table. PART_FIRST and PART_SECOND are the arrays of its optimizer, as far as it has any.
enum model_file_part {
    PART_IDS,
    PART_COUNT,
    PART_SEEN,
    PART_WEIGHT,
    PART_ACCUM,
    PART_FIRST,
    PART_SECOND,
    PARTS
};

static inline bool model_file_has(enum optimizer_kind kind, enum model_file_part part)
{
    return part < PART_FIRST || (uint32_t)(part - PART_FIRST) < optimizer_state(kind);
}

static inline const char *model_file_name(const char *table, enum optimizer_kind kind,
                                          enum model_file_part part, char name[MODEL_FILE_NAME])
{
    static const char *const suffixes[PART_FIRST] = {"ids", "count", "last_seen", "weight", "accum"};
    snprintf(name, MODEL_FILE_NAME, "tables.%s.%s", table,
             part < PART_FIRST ? suffixes[part] : optimizer_state_name(kind, (uint32_t)(part - PART_FIRST)));
    return name;
}

// Of an array of the optimizer of a dense layer's parameter.
static inline const char *model_file_state_name(const char *param, enum optimizer_kind kind, uint32_t array,
                                                char name[MODEL_FILE_NAME])
{
    snprintf(name, MODEL_FILE_NAME, "optimizer.%s.%s", param, optimizer_state_name(kind, array));
    return name;
}

#endif
