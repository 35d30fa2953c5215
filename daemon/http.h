// SPDX-License-Identifier: Apache-2.0
// HTTP by libmicrohttpd under libev: its epoll fd is an ev_io, its timeout a timer. All on the main thread.
// Input is bounded in every dimension: connections, header memory, body bytes, items of a request.
#ifndef FRESHET_DAEMON_HTTP_H
#define FRESHET_DAEMON_HTTP_H

#include "daemon/run.h"

// Listens where the config says. ERR_UNAVAILABLE: the port is in use; the message says by what address and
// how to choose another.
int http_new(struct daemon *d, struct http **ret_http, struct err *err);
void http_free(struct http *h);

#endif
