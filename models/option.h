// SPDX-License-Identifier: Apache-2.0
// Options of a layer kind: each kind has a table of them, and nobody else knows them. From the table come what
// the config accepts below a block and how it refuses the rest, the reference file, and the checks of net_new.
//
// The option that bears the kind's own name is its main one: `mlp: [256, 128]`. A kind without such an option is
// written `concat: {}`.
#ifndef FRESHET_MODELS_OPTION_H
#define FRESHET_MODELS_OPTION_H

#include <stdbool.h>
#include <stdint.h>

enum { NET_NAME = 64, NET_DIMS_MAX = 8, NET_OPTIONS_MAX = 12, NET_DIM_MAX = 8192 };

enum layer_option_type {
    LAYER_NUMBER, // a double
    LAYER_COUNT,  // a whole number
    LAYER_DIMS,   // 1 to NET_DIMS_MAX counts
    LAYER_CHOICE, // one of `choices`
    LAYER_FLAG,   // true or false
    LAYER_INPUT,  // a name of an input or an earlier block; several are concatenated
    LAYER_INPUTS, // names, kept apart
    LAYER_PAIRS,  // pairs of what the block reads, a*b in the config
};

struct layer_option {
    const char *name;
    enum layer_option_type type;
    double min, max;     // number, count, and each of dims
    double fallback;     // number, count, flag (0 or 1): where it is not given
    const char *choices; // "relu|none": the first is the default
    bool required;
    bool sequences;   // inputs: a sequence comes as it is; otherwise as the mean of its entries
    const char *text; // one line for the reference
};

// An option as it is given in a block.
struct layer_value {
    const char *name;
    double number;               // number, count, flag
    uint32_t dims[NET_DIMS_MAX]; // dims; 0 ends them
    const char *text;            // the choice; inputs: names with blanks between; pairs: names in twos
};

// The tables: kinds 0, 1, ... in order, until the name is NULL.
struct net_kind {
    const char *name;
    const char *text;                   // one line for the reference
    const struct layer_option *options; // ends with a NULL name; never NULL itself
    bool sequences; // a sequence among `of` comes as it is; otherwise as the mean of its entries
};
struct net_kind net_kind(uint32_t i);
struct net_kind net_kind_find(const char *name); // .name NULL: there is none
const struct layer_option *net_kind_option(const struct net_kind *kind, const char *name); // NULL: none

#endif
