// SPDX-License-Identifier: Apache-2.0
// Presets of models: `models: {ctr: {preset: mlp}}` stands for a net and its heads, written as YAML. Used by
// config*.c only.
#ifndef FRESHET_DAEMON_PRESETS_H
#define FRESHET_DAEMON_PRESETS_H

#include "daemon/config_keys.h"

enum { PRESET_ARGUMENTS_MAX = 14 };

struct preset_argument {
    const char *name;
    const char *fallback; // as YAML
    const char *text;     // one line for the reference
};

// In `yaml`, two maps `net` and `heads`: <NAME> is an argument as YAML, a line that holds <head> stands once for
// every head.
struct preset {
    const char *name;
    const char *text; // one line for the reference
    struct preset_argument arguments[PRESET_ARGUMENTS_MAX + 1];
    const char *yaml;
};

extern const struct preset presets[]; // ends with a NULL name

// Where the entry of the model names a preset, *net and *heads become the preset's, its heads as the entry's
// own keys change them; else they stay.
int preset_expand(struct config_loader *l, const struct tree_node *model, const struct tree_node **net,
                  const struct tree_node **heads);

#endif
