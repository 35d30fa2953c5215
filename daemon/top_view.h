// SPDX-License-Identifier: Apache-2.0
// What `freshet top` shows, from two documents of GET /v1/status: rates are what lies between them. By itself
// because jansson and base/json.h cannot be included together.
#ifndef FRESHET_DAEMON_TOP_VIEW_H
#define FRESHET_DAEMON_TOP_VIEW_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

enum top_form {
    TOP_SCREEN, // for a terminal: as many lines as fit
    TOP_LINE,   // one line, name=value
    TOP_JSON,   // one line of JSON
};

struct top_frame {
    enum top_form form;
    int rows, columns; // of a screen
    bool color;
    const char *address;
};

// Appends to `to`; lines of a screen are no longer than `columns` and end with "\n". `before` may be empty: then
// there are no rates yet. ERR_CORRUPT: not such a document.
int top_view(const struct top_frame *frame, struct str before, struct str now, struct buf *to,
             struct err *err);

#endif
