// SPDX-License-Identifier: Apache-2.0
// The documents of views.h for people: aligned text. From their JSON, so that it is the same whether they
// came over HTTP or from a state. By itself because jansson and base/json.h cannot be included together.
#ifndef FRESHET_DAEMON_VIEW_PRINT_H
#define FRESHET_DAEMON_VIEW_PRINT_H

#include <stdio.h>

#include "base/err.h"
#include "base/str.h"

enum view_kind { VIEW_ENTITY, VIEW_EMBEDDING, VIEW_SCORES, VIEW_EXPLAIN };

// ERR_CORRUPT: not such a document.
int view_print(enum view_kind kind, struct str document, FILE *to, struct err *err);
// The `detail` of an application/problem+json; else "HTTP STATUS".
void view_problem(struct str document, int status, char *ret_detail, size_t size);

#endif
