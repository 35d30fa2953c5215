// SPDX-License-Identifier: Apache-2.0
// Inside the HTTP files of daemon/ only: a request on its way, and the answers to it.
//
//     http.c         listening, libev, one request from its first byte to its end
//     http_guard.c   who may ask: Host and token; problems as JSON
//     http_routes.c  the table of routes and what each answers
//     http_features.c  features of users and items
//     http_tap.c     GET /v1/tap, a stream
//     http_status.c  GET /v1/status
#ifndef FRESHET_DAEMON_HTTP_IMPL_H
#define FRESHET_DAEMON_HTTP_IMPL_H

#include <ev.h>
#include <microhttpd.h>

#include "base/buf.h"
#include "daemon/prometheus.h"
#include "daemon/run.h"
#include "daemon/tap.h"

enum {
    HTTP_SEGMENTS_MAX = 2,         // ids in a path
    HTTP_CONNECTION_BYTES = 32768, // for request line and headers, a connection
    HTTP_TIMEOUT_S = 30,           // an idle connection is closed
    HTTP_HELD_BYTES =
        32 << 20,   // bodies and answers of all connections; a request beyond it is told to come again
    HTTP_DRAIN = 8, // a body of up to so many times the bound is read to its end, so that its sender sees why
};

struct http {
    struct daemon *d;
    struct MHD_Daemon *mhd;
    int listener;
    ev_io io;
    ev_timer timer;
    ev_prepare prepare;
    int epoll;       // libmicrohttpd's
    int64_t turn_us; // when http_turn looks next
    bool turning;    // an answer is being made
    uint64_t held;   // bytes of bodies and answers
    struct prometheus_cache cache;
    struct http_tap *taps[TAPS_MAX];
};

struct http_route;

struct http_request {
    struct http *http;
    struct MHD_Connection *connection;
    char *method, *path;
    const struct http_route *route;
    struct buf ids[HTTP_SEGMENTS_MAX]; // decoded
    int64_t began_us;
    struct buf body;
    uint64_t body_seen;
    uint64_t held;   // its part of http.held
    unsigned status; // 0: not answered yet
    const char *type;
    const char *allow;
    struct buf reply;
    bool streams;                  // how long it takes is its reader's choice
    struct MHD_Response *response; // in place of `reply`: comes bit by bit
};

struct http_route {
    const char *method; // "GET" stands for HEAD too
    const char *path;   // "*" is an id
    bool open;          // without a token
    void (*answer)(struct http_request *r);
};

extern const struct http_route http_routes[]; // ends with a NULL path

// Makes the answer an application/problem+json; what was written before is dropped.
void http_problem(struct http_request *r, unsigned status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
// The status that fits an error, and the error's message.
void http_problem_err(struct http_request *r, const struct err *err);
// False: the request was answered with a problem.
bool http_guard_host(struct http_request *r);
bool http_guard_token(struct http_request *r);

// Finds the route; answers 404 or 405 itself. False: answered.
bool http_route_find(struct http_request *r);
// Decodes %XX of a path segment or an argument. -1: malformed.
int http_decode(const char *s, size_t n, struct buf *to);

// What is not known may only not have been read yet: the problem says so.
void http_answer_err(struct http_request *r, const struct err *err);
void http_answer_features(struct http_request *r);
void http_answer_feast(struct http_request *r);
void http_answer_tap(struct http_request *r);
uint64_t http_held_most(const struct config *config);
void http_run(struct http *h);     // lets libmicrohttpd work; nothing inside itself
void http_tap_end(struct http *h); // before the end: no tap stays suspended

void http_status_json(struct http *h, struct json *j);

#endif
