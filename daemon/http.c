// SPDX-License-Identifier: Apache-2.0
// See http.h. libmicrohttpd runs without a thread of its own: its epoll fd is an ev_io, and before the loop
// sleeps (ev_prepare) its timeout becomes a timer. A request is judged at its headers (host, token, route,
// declared size); one that is refused has its body read and thrown away up to HTTP_DRAIN times the bound, so
// that the sender gets to see the answer instead of a reset.
#include "daemon/http.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "daemon/http_impl.h"

// ---- one request ------------------------------------------------------------------------------------------

static struct http_request *request_new(struct http *h, struct MHD_Connection *connection, const char *method,
                                        const char *path)
{
    struct http_request *r = mem_zalloc(sizeof *r);
    r->http = h;
    r->connection = connection;
    r->method = mem_strdup(method);
    r->path = mem_strdup(path);
    r->began_us = clock_mono_us(&h->d->clock);
    return r;
}

static void request_free(struct http_request *r)
{
    for (int i = 0; i < HTTP_SEGMENTS_MAX; i++)
        buf_done(&r->ids[i]);
    buf_done(&r->body);
    buf_done(&r->reply);
    r->http->held -= r->held;
    if (r->response != NULL)
        MHD_destroy_response(r->response);
    free(r->method);
    free(r->path);
    free(r);
}

static void request_hold(struct http_request *r, size_t n)
{
    r->held += n;
    r->http->held += n;
}

static enum MHD_Result request_send(struct http_request *r)
{
    request_hold(r, r->reply.cap);
    struct MHD_Response *response = r->response;
    if (response == NULL)
        response = MHD_create_response_from_buffer(r->reply.len, r->reply.data, MHD_RESPMEM_MUST_FREE);
    if (response == NULL)
        return MHD_NO;
    if (response != r->response)
        r->reply = (struct buf){0};
    r->response = NULL;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, r->type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (r->allow != NULL)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, r->allow);
    if (r->status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"freshet\"");
    enum MHD_Result result = MHD_queue_response(r->connection, r->status, response);
    MHD_destroy_response(response);
    return result;
}

static void request_too_large(struct http_request *r)
{
    http_problem(r, MHD_HTTP_CONTENT_TOO_LARGE, "the body is larger than http.body, %llu bytes",
                 (unsigned long long)r->http->d->config->http.body_bytes);
}

static void request_too_many(struct http_request *r)
{
    http_problem(
        r, MHD_HTTP_SERVICE_UNAVAILABLE,
        "bodies and answers of other requests fill the memory of HTTP: try again, or with less at a time");
}

uint64_t http_held_most(const struct config *config)
{
    return config->http.body_bytes > HTTP_HELD_BYTES ? config->http.body_bytes : HTTP_HELD_BYTES;
}

uint64_t http_bytes_most(const struct config *config)
{
    return http_held_most(config) +
           config->http.connections * (uint64_t)(HTTP_CONNECTION_BYTES + sizeof(struct http_request));
}

uint64_t http_bytes(const struct http *h)
{
    return h->held;
}

static const char *request_header(const struct http_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

// What the headers alone decide.
static enum MHD_Result request_begin(struct http_request *r)
{
    uint64_t bound = r->http->d->config->http.body_bytes;
    const char *length = request_header(r, MHD_HTTP_HEADER_CONTENT_LENGTH);
    unsigned long long declared = length != NULL ? strtoull(length, NULL, 10) : 0;
    bool answered = !http_guard_host(r) || !http_route_find(r);
    if (!answered && !r->route->open)
        answered = !http_guard_token(r);
    if (!answered && declared > bound)
        request_too_large(r);
    bool waits = request_header(r, MHD_HTTP_HEADER_EXPECT) != NULL;
    if (r->status != 0 && declared > 0 && (waits || declared > HTTP_DRAIN * bound))
        return request_send(r);
    return MHD_YES;
}

// MHD_NO closes the connection.
static enum MHD_Result request_body(struct http_request *r, const char *data, size_t n)
{
    uint64_t bound = r->http->d->config->http.body_bytes;
    r->body_seen += n;
    if (r->body_seen > HTTP_DRAIN * bound)
        return MHD_NO;
    if (r->status == 0 && r->body_seen > bound)
        request_too_large(r);
    if (r->status == 0 && r->http->held + n > http_held_most(r->http->d->config))
        request_too_many(r);
    if (r->status != 0)
        return MHD_YES;
    request_hold(r, n);
    buf_put(&r->body, data, n);
    return MHD_YES;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data, size_t *size,
                                  void **request)
{
    (void)version;
    struct http_request *r = *request;
    if (r == NULL) {
        *request = r = request_new(context, connection, method, path);
        return request_begin(r);
    }
    if (*size > 0) {
        size_t n = *size;
        *size = 0;
        return request_body(r, data, n);
    }
    if (r->status == 0 && r->http->held > http_held_most(r->http->d->config))
        request_too_many(r);
    if (r->status == 0) {
        r->status = MHD_HTTP_OK;
        r->type = "application/json";
        r->route->answer(r);
    }
    return request_send(r);
}

static void on_completed(void *context, struct MHD_Connection *connection, void **request,
                         enum MHD_RequestTerminationCode code)
{
    (void)connection;
    (void)code;
    struct http *h = context;
    struct http_request *r = *request;
    if (r == NULL)
        return;
    if (r->status >= 100 && r->status < 600)
        h->d->figures.http_requests[r->status / 100]++;
    if (!r->streams)
        latency_put(&h->d->figures.request, clock_mono_us(&h->d->clock) - r->began_us);
    request_free(r);
    *request = NULL;
}

// Paths are decoded by us, segment by segment: an id may hold a slash.
static size_t on_unescape(void *context, struct MHD_Connection *connection, char *s)
{
    (void)context;
    (void)connection;
    return strlen(s);
}

__attribute__((format(printf, 2, 0))) static void on_log(void *context, const char *fmt, va_list args)
{
    (void)context;
    char text[400];
    vsnprintf(text, sizeof text, fmt, args);
    text[strcspn(text, "\n")] = '\0';
    log_debug("http", "message=%s", log_quote(text));
}

// ---- libev ------------------------------------------------------------------------------------------------

// Never inside itself: an answer may take long enough for a turn.
void http_run(struct http *h)
{
    if (h->turning)
        return;
    h->turning = true;
    MHD_run(h->mhd);
    h->turning = false;
}

static void on_io(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop;
    (void)events;
    http_run(w->data);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    http_run(w->data);
}

// Work of this thread: while others have the processor it stands still.
static int64_t thread_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

void http_turn(struct http *h)
{
    int64_t now = clock_mono_us(&h->d->clock);
    if (now < h->turn_us)
        return;
    int64_t worked = 0;
    struct pollfd fd = {.fd = h->epoll, .events = POLLIN};
    if (poll(&fd, 1, 0) > 0) {
        int64_t before = thread_us();
        http_run(h);
        worked = thread_us() - before;
    }
    h->turn_us = clock_mono_us(&h->d->clock) + (worked > HTTP_TURN_US ? worked : HTTP_TURN_US);
}

static void on_prepare(struct ev_loop *loop, ev_prepare *w, int events)
{
    (void)events;
    struct http *h = w->data;
    MHD_UNSIGNED_LONG_LONG ms;
    ev_timer_stop(loop, &h->timer);
    if (MHD_get_timeout(h->mhd, &ms) != MHD_YES)
        return;
    ev_timer_set(&h->timer, (double)ms / 1000, 0.0);
    ev_timer_start(loop, &h->timer);
}

static int http_watch(struct http *h, struct err *err)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL)
        return err_set(err, ERR_IO, "libmicrohttpd has no epoll here");
    h->epoll = info->epoll_fd;
    ev_io_init(&h->io, on_io, h->epoll, EV_READ);
    ev_init(&h->timer, on_timer);
    ev_prepare_init(&h->prepare, on_prepare);
    h->io.data = h->timer.data = h->prepare.data = h;
    ev_io_start(h->d->loop, &h->io);
    ev_prepare_start(h->d->loop, &h->prepare);
    return 0;
}

// ---- listening --------------------------------------------------------------------------------------------

static int listen_fail(const struct config *c, struct err *err)
{
    if (errno == EADDRINUSE)
        return err_set(err, ERR_UNAVAILABLE,
                       "http.listen: %s:%u is in use, perhaps by another freshet; choose another with "
                       "--set http.listen=%s:%u, or :0 for any free port",
                       c->http.host, c->http.port, c->http.host,
                       c->http.port == UINT16_MAX ? 0 : c->http.port + 1U);
    return err_set(err, ERR_UNAVAILABLE,
                   "http.listen: cannot listen on %s:%u: %s; choose another with --set "
                   "http.listen=127.0.0.1:7878",
                   c->http.host, c->http.port, strerror(errno));
}

static int listen_on(const struct addrinfo *a)
{
    int one = 1;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
        bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static int http_listen(struct http *h, struct err *err)
{
    struct config *c = h->d->config;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *addresses;
    char port[8];
    snprintf(port, sizeof port, "%u", c->http.port);
    int code = getaddrinfo(c->http.host, port, &hints, &addresses);
    if (code != 0)
        return err_set(err, ERR_UNAVAILABLE, "http.listen: %s: %s", c->http.host, gai_strerror(code));
    errno = EADDRNOTAVAIL;
    for (const struct addrinfo *a = addresses; a != NULL && h->listener < 0; a = a->ai_next)
        h->listener = listen_on(a);
    freeaddrinfo(addresses);
    if (h->listener < 0)
        return listen_fail(c, err);
    struct sockaddr_storage name;
    socklen_t n = sizeof name;
    if (getsockname(h->listener, (struct sockaddr *)&name, &n) != 0 ||
        getnameinfo((struct sockaddr *)&name, n, NULL, 0, port, sizeof port, NI_NUMERICSERV) != 0)
        return err_errno(err, "http.listen: asking for the port");
    c->http.port = (uint16_t)strtoul(port, NULL, 10);
    return 0;
}

static int http_start(struct http *h, struct err *err)
{
    const struct config *c = h->d->config;
    unsigned connections = c->http.connections;
    unsigned per_ip = connections > 8 ? connections - connections / 4 : connections;
    h->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, h,
        MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET, h->listener,
        MHD_OPTION_CONNECTION_LIMIT, connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT, per_ip,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)HTTP_TIMEOUT_S, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        h, MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL, MHD_OPTION_END);
    if (h->mhd == NULL)
        return err_set(err, ERR_UNAVAILABLE, "libmicrohttpd did not start on %s:%u", c->http.host,
                       c->http.port);
    h->listener = -1; // libmicrohttpd's now
    return 0;
}

int http_new(struct daemon *d, struct http **ret_http, struct err *err)
{
    struct http *h = mem_zalloc(sizeof *h);
    h->d = d;
    h->listener = -1;
    if (http_listen(h, err) != 0 || http_start(h, err) != 0 || http_watch(h, err) != 0) {
        http_free(h);
        return -1;
    }
    log_info("http", "address=%s port=%u", d->config->http.host, d->config->http.port);
    *ret_http = h;
    return 0;
}

void http_free(struct http *h)
{
    if (h == NULL)
        return;
    ev_io_stop(h->d->loop, &h->io);
    ev_timer_stop(h->d->loop, &h->timer);
    ev_prepare_stop(h->d->loop, &h->prepare);
    http_tap_end(h);
    if (h->mhd != NULL)
        MHD_stop_daemon(h->mhd);
    if (h->listener >= 0)
        close(h->listener);
    free(h);
}
