// SPDX-License-Identifier: Apache-2.0
// "Connection: close" makes the end of the answer the end of the stream; what Content-Length or chunks say is
// checked against it, so that a cut answer is never taken for a whole one.
#include "daemon/http_client.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "daemon/http_chunks.h"

void http_client_encode(struct str s, struct buf *to)
{
    for (uint32_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.s[i];
        if (isalnum(c) || (c != '\0' && strchr("-._~", c) != NULL))
            buf_put_u8(to, c);
        else
            buf_printf(to, "%%%02X", c);
    }
}

// ---- the answer -------------------------------------------------------------------------------------------

// The next line without its end; moves `from` behind it. false: there is none.
static bool take_line(struct str *from, struct str *ret_line)
{
    const char *end = from->len > 0 ? memchr(from->s, '\n', from->len) : NULL;
    if (end == NULL)
        return false;
    uint32_t n = (uint32_t)(end - from->s);
    *ret_line = (struct str){from->s, n > 0 && from->s[n - 1] == '\r' ? n - 1 : n};
    *from = (struct str){end + 1, from->len - n - 1};
    return true;
}

// The digits of `s` in `base`; false where there are none, or too many.
static bool take_size(struct str s, int base, uint64_t *ret)
{
    char text[24] = "";
    uint32_t n = s.len < sizeof text - 1 ? s.len : (uint32_t)sizeof text - 1;
    memcpy(text, s.s, n);
    char *end;
    *ret = strtoull(text, &end, base);
    return isxdigit((unsigned char)text[0]) && *ret <= HTTP_CLIENT_ANSWER_MAX;
}

static int parse_chunks(struct str rest, struct buf *ret_body)
{
    struct str line;
    uint64_t n;
    while (take_line(&rest, &line)) {
        if (!take_size(line, 16, &n))
            return -1;
        if (n == 0)
            return 0;
        if (rest.len < n + 2)
            return -1;
        buf_put(ret_body, rest.s, n);
        rest = (struct str){rest.s + n + 2, rest.len - (uint32_t)n - 2};
    }
    return -1;
}

// The value of a header line of this name; false: another.
static bool header_is(struct str line, const char *name, struct str *ret_value)
{
    uint32_t n = (uint32_t)strlen(name);
    if (line.len <= n || strncasecmp(line.s, name, n) != 0 || line.s[n] != ':')
        return false;
    for (n++; n < line.len && line.s[n] == ' ';)
        n++;
    *ret_value = (struct str){line.s + n, line.len - n};
    return true;
}

int http_client_parse(struct str answer, struct buf *ret_body, int *ret_status)
{
    struct str line;
    struct str value;
    uint64_t length = UINT64_MAX;
    bool chunked = false;
    if (!take_line(&answer, &line) || line.len < 12 || strncmp(line.s, "HTTP/1.", 7) != 0)
        return -1;
    for (int i = 9; i < 12; i++)
        if (!isdigit((unsigned char)line.s[i]))
            return -1;
    int status = (line.s[9] - '0') * 100 + (line.s[10] - '0') * 10 + line.s[11] - '0';
    for (;;) {
        if (!take_line(&answer, &line))
            return -1;
        if (line.len == 0)
            break;
        if (header_is(line, "Content-Length", &value) && !take_size(value, 10, &length))
            return -1;
        if (header_is(line, "Transfer-Encoding", &value))
            chunked = value.len == 7 && strncasecmp(value.s, "chunked", 7) == 0;
    }
    if (status == 100)
        return http_client_parse(answer, ret_body, ret_status);
    *ret_status = status;
    if (chunked)
        return parse_chunks(answer, ret_body);
    if (length != UINT64_MAX && answer.len < length)
        return -1;
    buf_put(ret_body, answer.s, length != UINT64_MAX ? length : answer.len);
    return 0;
}

// ---- the way there ----------------------------------------------------------------------------------------

enum { HTTP_CLIENT_HEAD_MAX = 1 << 20 }; // of an answer that is a stream, or of its problem

struct client_url {
    char host[256], port[8], authority[272];
};

static int url_parse(const char *url, struct client_url *ret, struct err *err)
{
    static const char scheme[] = "http://";
    const char *s = url;
    if (strncasecmp(s, scheme, sizeof scheme - 1) == 0)
        s += sizeof scheme - 1;
    size_t n = strcspn(s, "/");
    bool rest = s[n] != '\0' && s[n + 1] != '\0';
    if (strstr(s, "://") != NULL || n == 0 || n >= sizeof ret->host || rest)
        return err_set(err, ERR_INVALID, "--url %s: http://HOST:PORT is expected", url);
    snprintf(ret->authority, sizeof ret->authority, "%.*s", (int)n, s);
    snprintf(ret->host, sizeof ret->host, "%.*s", (int)n, s);
    snprintf(ret->port, sizeof ret->port, "80");
    char *colon = strrchr(ret->host, ':');
    if (colon != NULL && strchr(colon, ']') == NULL) {
        snprintf(ret->port, sizeof ret->port, "%.6s", colon + 1);
        *colon = '\0';
    }
    size_t len = strlen(ret->host);
    if (len > 2 && ret->host[0] == '[' && ret->host[len - 1] == ']') {
        memmove(ret->host, ret->host + 1, len - 2);
        ret->host[len - 2] = '\0';
    }
    return 0;
}

static int client_connect(const struct client_url *url, int *ret_fd)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *addresses;
    struct timeval timeout = {.tv_sec = HTTP_CLIENT_TIMEOUT_S};
    int fd = -1;
    if (getaddrinfo(url->host, url->port, &hints, &addresses) != 0) {
        errno = EHOSTUNREACH;
        return -1;
    }
    for (const struct addrinfo *a = addresses; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout); // bounds connect too
        if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
            break;
        int error = errno;
        close(fd);
        errno = error;
        fd = -1;
    }
    freeaddrinfo(addresses);
    *ret_fd = fd;
    return fd >= 0 ? 0 : -1;
}

static int client_send(int fd, const struct buf *b)
{
    for (size_t sent = 0; sent < b->len;) {
        ssize_t n = send(fd, b->data + sent, b->len - sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return -1;
        sent += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int client_receive(int fd, struct buf *to)
{
    for (;;) {
        ssize_t n = recv(fd, buf_reserve(to, 65536), 65536, 0);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -1;
        to->len += n > 0 ? (size_t)n : 0;
        if (to->len > HTTP_CLIENT_ANSWER_MAX) {
            errno = EFBIG;
            return -1;
        }
    }
}

static void client_request_put(const struct http_client_request *r, const struct client_url *url,
                               struct buf *to)
{
    buf_printf(to, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nAccept: application/json\r\n",
               r->method, r->path, url->authority);
    if (r->token != NULL && r->token[0] != '\0')
        buf_printf(to, "Authorization: Bearer %s\r\n", r->token);
    if (r->body.len > 0)
        buf_printf(to, "Content-Type: application/json\r\nContent-Length: %u\r\n", r->body.len);
    buf_printf(to, "\r\n");
    buf_put(to, r->body.s, r->body.len);
}

static int client_open(const struct http_client_request *request, struct client_url *url, int *ret_fd,
                       struct err *err)
{
    if (url_parse(request->url, url, err) != 0)
        return -1;
    if (client_connect(url, ret_fd) == 0)
        return 0;
    char why[100];
    snprintf(why, sizeof why, "%s", errno == EINPROGRESS ? "no answer in time" : strerror(errno));
    why[0] = (char)tolower((unsigned char)why[0]);
    return err_set_retriable(err, ERR_UNAVAILABLE,
                             "no freshet answers at http://%s (%s): start it with \"freshet run\", or read "
                             "a state with --state DIR",
                             url->authority, why);
}

int http_client_ask(const struct http_client_request *request, struct buf *ret_body, int *ret_status,
                    struct err *err)
{
    struct client_url url;
    struct buf bytes = {0};
    struct buf answer = {0};
    int fd;
    if (client_open(request, &url, &fd, err) != 0)
        return -1;
    client_request_put(request, &url, &bytes);
    int result = 0;
    if (client_send(fd, &bytes) != 0 || client_receive(fd, &answer) != 0)
        result = err_set_retriable(err, ERR_UNAVAILABLE, "http://%s did not answer within %d s (%s)",
                                   url.authority, HTTP_CLIENT_TIMEOUT_S, strerror(errno));
    struct str text = {(const char *)answer.data, (uint32_t)answer.len};
    if (result == 0 && http_client_parse(text, ret_body, ret_status) != 0)
        result =
            err_set(err, ERR_CORRUPT, "what http://%s answered is not HTTP, or was cut off", url.authority);
    close(fd);
    buf_done(&bytes);
    buf_done(&answer);
    return result;
}

// ---- an answer without an end -----------------------------------------------------------------------------

struct stream {
    int fd;
    struct buf bytes; // head of the answer, then what is not decoded yet
    struct http_chunks chunks;
    bool (*take)(void *context, struct str bytes);
    void *context;
};

static ssize_t stream_receive(struct stream *s)
{
    ssize_t n;
    do
        n = recv(s->fd, buf_reserve(&s->bytes, 65536), 65536, 0);
    while (n < 0 && errno == EINTR);
    s->bytes.len += n > 0 ? (size_t)n : 0;
    return n;
}

// Reads until the head is there; *ret_body is where the body begins.
static int stream_head(struct stream *s, size_t *ret_body)
{
    for (;;) {
        const uint8_t *end = s->bytes.len > 0 ? memmem(s->bytes.data, s->bytes.len, "\r\n\r\n", 4) : NULL;
        if (end != NULL) {
            *ret_body = (size_t)(end - s->bytes.data) + 4;
            return 0;
        }
        if (s->bytes.len > HTTP_CLIENT_HEAD_MAX || stream_receive(s) <= 0)
            return -1;
    }
}

static bool head_chunked(const struct buf *bytes, size_t head)
{
    struct str rest = {(const char *)bytes->data, (uint32_t)head};
    struct str line;
    struct str value;
    while (take_line(&rest, &line))
        if (header_is(line, "Transfer-Encoding", &value) && value.len == 7 &&
            strncasecmp(value.s, "chunked", 7) == 0)
            return true;
    return false;
}

// Every byte that has come goes to `take`. 1: it goes on; 0: the end; -1: not HTTP.
static int stream_take(struct stream *s, struct buf *piece)
{
    buf_clear(piece);
    int more = http_chunks_decode(&s->chunks, buf_str(&s->bytes), piece);
    buf_clear(&s->bytes);
    if (piece->len > 0 && !s->take(s->context, buf_str(piece)))
        return 0;
    return more;
}

static int stream_body(struct stream *s, const char *who, struct err *err)
{
    struct buf piece = {0};
    int more = stream_take(s, &piece);
    while (more > 0) {
        ssize_t n = stream_receive(s);
        if (n <= 0) {
            err_set_retriable(err, ERR_UNAVAILABLE, "http://%s %s", who,
                              n == 0 ? "ended the stream: the daemon has stopped" : "gives no sign of life");
            break;
        }
        more = stream_take(s, &piece);
    }
    buf_done(&piece);
    if (more < 0)
        return err_set(err, ERR_CORRUPT, "what http://%s answered is not HTTP", who);
    return more == 0 ? 0 : -1;
}

static int stream_answer(struct stream *s, const char *who, struct buf *ret_problem, int *ret_status,
                         struct err *err)
{
    size_t body;
    if (stream_head(s, &body) != 0 || s->bytes.len < 12 || memcmp(s->bytes.data, "HTTP/1.", 7) != 0)
        return err_set(err, ERR_CORRUPT, "what http://%s answered is not HTTP, or was cut off", who);
    *ret_status = atoi((const char *)s->bytes.data + 9);
    if (*ret_status == 200 && head_chunked(&s->bytes, body)) {
        s->bytes.len -= body;
        memmove(s->bytes.data, s->bytes.data + body, s->bytes.len);
        return stream_body(s, who, err);
    }
    while (s->bytes.len < HTTP_CLIENT_HEAD_MAX && stream_receive(s) > 0)
        ;
    int status;
    if (http_client_parse(buf_str(&s->bytes), ret_problem, &status) != 0)
        return err_set(err, ERR_CORRUPT, "what http://%s answered is not HTTP, or was cut off", who);
    return err_set(err, ERR_INVALID, "HTTP status %d", status);
}

int http_client_stream(const struct http_client_request *request,
                       bool (*take)(void *context, struct str bytes), void *context, struct buf *ret_problem,
                       int *ret_status, struct err *err)
{
    struct client_url url;
    struct timeval quiet = {.tv_sec = HTTP_CLIENT_QUIET_S};
    struct stream s = {.take = take, .context = context};
    if (client_open(request, &url, &s.fd, err) != 0)
        return -1;
    setsockopt(s.fd, SOL_SOCKET, SO_RCVTIMEO, &quiet, sizeof quiet);
    struct buf bytes = {0};
    client_request_put(request, &url, &bytes);
    int result =
        client_send(s.fd, &bytes) != 0
            ? err_set_retriable(err, ERR_UNAVAILABLE, "http://%s: %s", url.authority, strerror(errno))
            : stream_answer(&s, url.authority, ret_problem, ret_status, err);
    close(s.fd);
    buf_done(&bytes);
    buf_done(&s.bytes);
    return result;
}
