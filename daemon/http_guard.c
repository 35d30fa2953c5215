// SPDX-License-Identifier: Apache-2.0
// Who may ask. Without a token the daemon listens on loopback alone (the config sees to it), and the Host
// header must name loopback too: else a web page whose name is made to resolve to 127.0.0.1 could read the
// answers in a browser on this machine (DNS rebinding).
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/http_impl.h"

void http_problem(struct http_request *r, unsigned status, const char *fmt, ...)
{
    char detail[1200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(detail, sizeof detail, fmt, args);
    va_end(args);
    buf_clear(&r->reply);
    struct json j = json_to(&r->reply);
    json_object(&j);
    json_key(&j, "type");
    json_string(&j, "about:blank");
    json_key(&j, "title");
    json_string(&j, MHD_get_reason_phrase_for(status));
    json_key(&j, "status");
    json_uint(&j, status);
    json_key(&j, "detail");
    json_string(&j, detail);
    json_key(&j, "instance");
    json_string(&j, r->path);
    json_end(&j);
    r->status = status;
    r->type = "application/problem+json";
}

void http_problem_err(struct http_request *r, const struct err *err)
{
    static const struct {
        enum err_code code;
        unsigned status;
    } fits[] = {{ERR_NOT_FOUND, MHD_HTTP_NOT_FOUND},
                {ERR_INVALID, MHD_HTTP_BAD_REQUEST},
                {ERR_LIMIT, MHD_HTTP_BAD_REQUEST},
                {ERR_CONFIG, MHD_HTTP_CONFLICT},
                {ERR_UNAVAILABLE, MHD_HTTP_SERVICE_UNAVAILABLE},
                {ERR_FULL, MHD_HTTP_SERVICE_UNAVAILABLE}};
    unsigned status = MHD_HTTP_INTERNAL_SERVER_ERROR;
    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++)
        if (fits[i].code == err->code)
            status = fits[i].status;
    http_problem(r, status, "%s", err->message);
}

// `host` is `name`, alone or with a port.
static bool host_is(const char *host, const char *name)
{
    size_t n = strlen(name);
    if (strncasecmp(host, name, n) != 0)
        return false;
    const char *rest = host + n;
    return *rest == '\0' ||
           (*rest == ':' && rest[1] != '\0' && rest[1 + strspn(rest + 1, "0123456789")] == '\0');
}

bool http_guard_host(struct http_request *r)
{
    const struct config *c = r->http->d->config;
    if (c->http.token[0] != '\0')
        return true;
    const char *host = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
    if (host != NULL && (host_is(host, "localhost") || host_is(host, "127.0.0.1") || host_is(host, "[::1]") ||
                         host_is(host, c->http.host)))
        return true;
    http_problem(r, MHD_HTTP_MISDIRECTED_REQUEST,
                 "Host is \"%s\", but without http.token only localhost, 127.0.0.1 and [::1] are answered",
                 host != NULL ? host : "");
    return false;
}

// In a time that tells nothing of how much is right.
static bool token_equal(const char *given, const char *token)
{
    size_t n = strlen(given);
    size_t m = strlen(token);
    volatile unsigned char differ = n != m;
    for (size_t i = 0; i < n; i++)
        differ |= (unsigned char)(given[i] ^ token[m > 0 ? i % m : 0]);
    return differ == 0;
}

bool http_guard_token(struct http_request *r)
{
    const char *token = r->http->d->config->http.token;
    if (token[0] == '\0')
        return true;
    const char *given =
        MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
    if (given != NULL && strncasecmp(given, "Bearer ", 7) == 0 && token_equal(given + 7, token))
        return true;
    http_problem(r, MHD_HTTP_UNAUTHORIZED,
                 "%s; the config's http.token is asked for as Authorization: Bearer",
                 given == NULL ? "there is no Authorization header" : "the token is not the right one");
    return false;
}
