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
// Answers what waits, if anything does, without waiting itself: for the middle of long work on the main thread.
// Asks the system once in HTTP_TURN_US at most, so it may be called often; and takes no more than half of the
// time, however many ask.
enum { HTTP_TURN_US = 100 };
void http_turn(struct http *h);

// While d->n_taps is not 0: an event on its way in; and after some of them, what was gathered goes to the readers. True:
// there is more of it.
void http_tap_event(struct http *h, const struct ingest_part *part, const struct event *event);
bool http_tap_turn(struct http *h);

// What it takes now, and at most.
uint64_t http_bytes(const struct http *h);
uint64_t http_bytes_most(const struct config *config);

#endif
