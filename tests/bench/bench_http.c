// SPDX-License-Identifier: Apache-2.0
// A client for measuring: HTTP/1.1 over kept connections, each with one request under way at most.
//
//     bench_http PORT CONNECTIONS SECONDS RATE FILE
//
// FILE has a request a line: METHOD PATH [BODY]; they are sent in turn. RATE > 0: so many requests a second, each
// due at its time, and what is measured is from then on, whether or not a connection was free (a client that waits for
// a slow answer before it asks again would not see the slowness: "coordinated omission"). RATE 0: each
// connection asks again as soon as it has its answer. One line on stdout: requests, errors, requests a second, and
// microseconds: p50 p90 p99 p99.9 max, and how long in all this client was ready to run and another had its processor,
// which an answer looks slower by.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/priority.h"

enum { CONNECTIONS_MAX = 256, REQUESTS_MAX = 4096, ANSWER_MAX = 4 << 20, SAMPLES_MAX = 1 << 22 };

struct request {
    char *bytes;
    size_t n;
};

struct connection {
    int fd;
    bool busy;
    int64_t due_ns;
    size_t have, body_end; // bytes of the answer; where it ends, 0: not known yet
    char *answer;
};

static struct request requests[REQUESTS_MAX];
static size_t n_requests, next_request;
static struct connection connections[CONNECTIONS_MAX];
static float samples[SAMPLES_MAX]; // us
static size_t n_samples, errors;

static void die(const char *what)
{
    fprintf(stderr, "bench_http: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void requests_read(const char *path)
{
    char *line = NULL;
    size_t cap = 0;
    FILE *f = fopen(path, "r");
    if (f == NULL)
        die(path);
    while (n_requests < REQUESTS_MAX && getline(&line, &cap, f) > 0) {
        char method[16];
        char where[1024];
        int at = 0;
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "%15s %1023s %n", method, where, &at) < 2)
            continue;
        const char *body = line + at;
        struct request *r = &requests[n_requests++];
        r->n =
            (size_t)asprintf(&r->bytes, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
                             method, where, strlen(body), body);
    }
    free(line);
    fclose(f);
    if (n_requests == 0)
        die("no requests");
}

static int connect_to(uint16_t port)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void ask(struct connection *c, int64_t due)
{
    const struct request *r = &requests[next_request++ % n_requests];
    c->due_ns = due;
    c->busy = true;
    c->have = c->body_end = 0;
    if (send(c->fd, r->bytes, r->n, MSG_NOSIGNAL) != (ssize_t)r->n) // small: the socket takes it whole
        die("send");
}

// Where the answer ends, 0: its headers are not there yet.
static size_t answer_end(const struct connection *c)
{
    const char *end = memmem(c->answer, c->have, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    for (const char *p = c->answer; p < end; p = (const char *)memchr(p, '\n', (size_t)(end + 2 - p)) + 1)
        if (strncasecmp(p, "Content-Length:", 15) == 0)
            return (size_t)(end - c->answer) + 4 + strtoul(p + 15, NULL, 10);
    die("an answer without Content-Length");
    return 0;
}

static void answered(struct connection *c)
{
    c->busy = false;
    errors += strncmp(c->answer, "HTTP/1.1 200", 12) != 0;
    if (n_samples < SAMPLES_MAX)
        samples[n_samples++] = (float)((double)(now_ns() - c->due_ns) / 1e3);
}

static void receive(struct connection *c)
{
    ssize_t n = recv(c->fd, c->answer + c->have, ANSWER_MAX - c->have, 0);
    if (n <= 0)
        die("the connection ended");
    c->have += (size_t)n;
    if (c->body_end == 0)
        c->body_end = answer_end(c);
    if (c->body_end > 0 && c->have >= c->body_end)
        answered(c);
}

// Waits for answers, or until `until`.
static void wait_answers(int n, int64_t until)
{
    struct pollfd fds[CONNECTIONS_MAX];
    for (int i = 0; i < n; i++)
        fds[i] = (struct pollfd){.fd = connections[i].busy ? connections[i].fd : -1, .events = POLLIN};
    int64_t left = until - now_ns();
    struct timespec timeout = {left > 0 ? left / 1000000000 : 0, left > 0 ? left % 1000000000 : 0};
    if (ppoll(fds, (nfds_t)n, &timeout, NULL) < 0 && errno != EINTR)
        die("poll");
    for (int i = 0; i < n; i++)
        if (fds[i].fd >= 0 && fds[i].revents != 0)
            receive(&connections[i]);
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile(double q)
{
    size_t i = (size_t)(q * (double)n_samples);
    return n_samples == 0 ? 0 : (double)samples[i < n_samples ? i : n_samples - 1];
}

// 0 where the kernel does not tell.
static uint64_t late_us(void)
{
    unsigned long long ran = 0;
    unsigned long long waited = 0;
    FILE *f = fopen("/proc/thread-self/schedstat", "r");
    if (f == NULL || fscanf(f, "%llu %llu", &ran, &waited) != 2)
        waited = 0;
    if (f != NULL)
        fclose(f);
    return waited / 1000;
}

static void run(int n, double seconds, double rate)
{
    int64_t begin = now_ns();
    int64_t end = begin + (int64_t)(seconds * 1e9);
    int64_t step = rate > 0 ? (int64_t)(1e9 / rate) : 0;
    int64_t due = begin;
    for (int64_t now = begin; now < end; now = now_ns()) {
        for (int i = 0; i < n; i++)
            if (!connections[i].busy && due <= now) {
                ask(&connections[i], step > 0 ? due : now_ns());
                due += step;
            }
        wait_answers(n, step > 0 && due > now ? due : now + 100000000);
    }
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: bench_http PORT CONNECTIONS SECONDS RATE FILE\n");
        return 2;
    }
    int n = atoi(argv[2]);
    double seconds = atof(argv[3]);
    requests_read(argv[5]);
    if (n < 1 || n > CONNECTIONS_MAX)
        return 2;
    for (int i = 0; i < n; i++) {
        connections[i].fd = connect_to((uint16_t)atoi(argv[1]));
        connections[i].answer = malloc(ANSWER_MAX);
    }
    priority_prompt(); // what it sees late it measures too long
    uint64_t late = late_us();
    run(n, seconds, atof(argv[4]));
    late = late_us() - late;
    qsort(samples, n_samples, sizeof *samples, compare);
    printf("%zu %zu %.0f %.0f %.0f %.0f %.0f %.0f %lu\n", n_samples, errors, (double)n_samples / seconds,
           quantile(0.5), quantile(0.9), quantile(0.99), quantile(0.999), quantile(1.0), (unsigned long)late);
    return 0;
}
