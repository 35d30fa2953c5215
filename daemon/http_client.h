// SPDX-License-Identifier: Apache-2.0
// A small blocking HTTP/1.1 client for the CLI: one request, one answer, plain sockets, timeouts.
#ifndef FRESHET_DAEMON_HTTP_CLIENT_H
#define FRESHET_DAEMON_HTTP_CLIENT_H

#include "base/buf.h"
#include "base/err.h"

enum {
    HTTP_CLIENT_TIMEOUT_S = 5,              // without any progress
    HTTP_CLIENT_ANSWER_MAX = 256 * 1048576, // bytes of an answer
};

struct http_client_request {
    const char *url;    // http://HOST[:PORT], as in --url
    const char *method; // GET or POST
    const char *path;   // encoded, with the query
    const char *token;  // "" or NULL: none
    struct str body;    // JSON; POST alone
};

// The status, and the body in *ret_body. ERR_UNAVAILABLE: nobody answers; the message tells the way out.
// ERR_INVALID: the URL; ERR_CORRUPT: not HTTP.
int http_client_ask(const struct http_client_request *request, struct buf *ret_body, int *ret_status,
                    struct err *err);

// The body of an answer without an end, as it comes, until it ends or `take` says no. HTTP_CLIENT_QUIET_S without a
// byte is an error. What is not 200 is an ERR_INVALID with the answer's bytes in *ret_problem and its status.
enum { HTTP_CLIENT_QUIET_S = 20 };
int http_client_stream(const struct http_client_request *request,
                       bool (*take)(void *context, struct str bytes), void *context, struct buf *ret_problem,
                       int *ret_status, struct err *err);

// The answer's body out of the bytes of a whole answer; in the open for tests. -1: not HTTP, or cut off.
int http_client_parse(struct str answer, struct buf *ret_body, int *ret_status);
// %XX for all but letters, digits and -._~
void http_client_encode(struct str s, struct buf *to);

#endif
