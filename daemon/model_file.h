// SPDX-License-Identifier: Apache-2.0
// A whole model as one safetensors file: what `freshet export model` writes and `freshet import model` reads.
//
//     <block>.<...>, <head>.weight, <head>.bias    F32   dense layers, PyTorch's names and layout (net_param)
//     tables.<name>.ids                            I64   (n) feature ids, the bits of a u64: hash_id of the text
//     tables.<name>.weight                         F32   (n, dim) their vectors
//     tables.<name>.accum                          F32   (n) the accumulators of row-wise Adagrad
//     tables.<name>.count                          I64   (n) occurrences in samples
//     tables.<name>.last_seen                      I64   (n) event time, seconds
//
// Notes: base, version, trained_through, trained, frozen.
#ifndef FRESHET_DAEMON_MODEL_FILE_H
#define FRESHET_DAEMON_MODEL_FILE_H

#include <stdio.h>

enum { MODEL_FILE_NAME = 160 };

enum model_file_part { PART_IDS, PART_COUNT, PART_SEEN, PART_WEIGHT, PART_ACCUM, PARTS };

static inline const char *model_file_name(const char *table, enum model_file_part part,
                                          char name[MODEL_FILE_NAME])
{
    static const char *const suffixes[PARTS] = {"ids", "count", "last_seen", "weight", "accum"};
    snprintf(name, MODEL_FILE_NAME, "tables.%s.%s", table, suffixes[part]);
    return name;
}

#endif
