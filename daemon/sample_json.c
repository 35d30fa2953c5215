// SPDX-License-Identifier: Apache-2.0
#include "daemon/sample_json.h"

void sample_json(const struct engine *e, const struct sample *s, const struct feature_row *row,
                 struct json *j)
{
    sample_row_json(&e->sample_columns, e->features, e->state, s, row, j);
}
