// SPDX-License-Identifier: Apache-2.0
// One score of several heads, by an expression in the config: "click * (1 + watch)^0.5 * like^0.2". Known are
// + - * / ^ with the usual precedence (^ binds most and to the right, so -2^2 is -4), ( ), numbers, the names of
// heads, log, exp, min and max of two or more.
#ifndef FRESHET_DAEMON_FUSION_H
#define FRESHET_DAEMON_FUSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

enum { FUSION_OPS_MAX = 256, FUSION_DEPTH_MAX = 32 };

struct fusion;

// Lives in the arena. `names` are those of the heads, n of them. ERR_CONFIG: "column 9: ...", counted from 1 in text.
int fusion_parse(struct arena *arena, const char *text, uint32_t n, const char *const *names,
                 const struct fusion **ret_fusion, struct err *err);
bool fusion_reads(const struct fusion *f, uint32_t head);
// By the values of the heads; as IEEE arithmetic has it, so it may be NaN or infinite.
double fusion_value(const struct fusion *f, const double *heads);

#endif
