// SPDX-License-Identifier: Apache-2.0
// A sample as JSON: the line of `export samples` and of a tap.
#ifndef FRESHET_DAEMON_SAMPLE_JSON_H
#define FRESHET_DAEMON_SAMPLE_JSON_H

#include "base/json.h"
#include "daemon/engine.h"

void sample_json(const struct engine *e, const struct sample *s, const struct feature_row *row,
                 struct json *j);

#endif
