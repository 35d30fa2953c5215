// SPDX-License-Identifier: Apache-2.0
// GET /v1/tap: the lines of a tap as they come, chunked, without an end but `limit`. While a tap has nothing, its
// connection is suspended: libmicrohttpd would ask again and again. A line that is empty goes out when there was
// nothing for TAP_QUIET_MS: a reader knows that it is still connected, and one that has gone is noticed.
//
// A tap belongs to the response: it ends when libmicrohttpd frees that, be it that the reader has gone.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/http_impl.h"
#include "daemon/tap.h"

enum { TAP_BLOCK = 32768, TAP_QUIET_MS = 5000, TAP_TELL_MS = 1000 };

struct http_tap {
    struct http *http;
    struct tap *tap;
    struct MHD_Connection *connection;
    size_t taken; // of tap->lines
    bool suspended;
    int64_t put_us; // when there was a line last
};

// ---- lines to the reader ----------------------------------------------------------------------------------

static ssize_t tap_read(void *context, uint64_t position, char *to, size_t max)
{
    (void)position;
    struct http_tap *t = context;
    struct buf *lines = &t->tap->lines;
    size_t n = lines->len - t->taken < max ? lines->len - t->taken : max;
    if (n == 0 && t->tap->ended)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n == 0) {
        MHD_suspend_connection(t->connection);
        t->suspended = true;
        return 0;
    }
    memcpy(to, lines->data + t->taken, n);
    t->taken += n;
    if (t->taken == lines->len) {
        buf_clear(lines);
        t->taken = 0;
    }
    return (ssize_t)n;
}

static void tap_closed(void *context)
{
    struct http_tap *t = context;
    for (uint32_t i = 0; i < TAPS_MAX; i++)
        if (t->http->taps[i] == t)
            t->http->taps[i] = NULL;
    t->http->d->n_taps--;
    tap_free(t->tap);
    free(t);
}

static bool tap_wake(struct http_tap *t)
{
    if (!t->suspended || (t->tap->lines.len == 0 && !t->tap->ended))
        return false;
    t->suspended = false;
    MHD_resume_connection(t->connection);
    return true;
}

void http_tap_event(struct http *h, const struct ingest_part *part, const struct event *event)
{
    int64_t now = clock_mono_us(&h->d->clock);
    for (uint32_t i = 0; i < TAPS_MAX; i++)
        if (h->taps[i] != NULL)
            tap_event(h->taps[i]->tap, h->d->engine, part, event, now);
}

bool http_tap_turn(struct http *h)
{
    bool more = false;
    bool woke = false;
    int64_t now = clock_mono_us(&h->d->clock);
    for (uint32_t i = 0; i < TAPS_MAX; i++) {
        struct http_tap *t = h->taps[i];
        if (t == NULL)
            continue;
        more |= tap_samples(t->tap, h->d->engine, now);
        if (t->tap->lines.len > 0)
            t->put_us = now;
        else if (t->tap->dropped > 0 && now - t->put_us > TAP_TELL_MS * INT64_C(1000))
            tap_tell_dropped(t->tap);
        else if (now - t->put_us > TAP_QUIET_MS * INT64_C(1000) && t->suspended)
            buf_put_u8(&t->tap->lines, '\n');
        woke |= tap_wake(t);
    }
    if (woke) // without a thread of its own libmicrohttpd does not notice by itself
        http_run(h);
    return more;
}

void http_tap_end(struct http *h)
{
    for (uint32_t i = 0; i < TAPS_MAX; i++)
        if (h->taps[i] != NULL) {
            h->taps[i]->tap->ended = true;
            tap_wake(h->taps[i]);
        }
}

// ---- the request ------------------------------------------------------------------------------------------

struct tap_arguments {
    struct http_request *r;
    struct tap *tap;
    struct buf text;
    struct err err;
};

static int argument_number(struct tap_arguments *a, const char *name, uint64_t max, uint64_t *ret)
{
    const char *text = (const char *)a->text.data;
    char *end;
    unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || v == 0 || v > max)
        return err_set(&a->err, ERR_INVALID, "%s=%.64s: a number of 1 to %llu is expected", name, text,
                       (unsigned long long)max);
    *ret = v;
    return 0;
}

static int argument_where(struct tap_arguments *a)
{
    struct tap *tap = a->tap;
    if (tap->n_conditions == TAP_CONDITIONS_MAX)
        return err_set(&a->err, ERR_LIMIT, "where: at most %d conditions", TAP_CONDITIONS_MAX);
    struct str text = {(const char *)a->text.data, (uint32_t)strlen((const char *)a->text.data)};
    return tap_condition_read(a->r->http->d->config, tap->kind, text, &tap->conditions[tap->n_conditions++],
                              &a->err);
}

static int argument_take(struct tap_arguments *a, const char *name)
{
    uint64_t number = 0;
    if (strcmp(name, "where") == 0)
        return argument_where(a);
    if (strcmp(name, "limit") == 0)
        return argument_number(a, name, UINT64_MAX - 1, &a->tap->limit);
    if (strcmp(name, "rate") == 0) {
        int result = argument_number(a, name, UINT32_MAX, &number);
        a->tap->rate = (uint32_t)number;
        return result;
    }
    if (strcmp(name, "kind") == 0)
        return 0;
    return err_set(&a->err, ERR_INVALID, "\"%.64s\" is none of kind, where, limit, rate", name);
}

static enum MHD_Result on_argument(void *context, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    (void)kind;
    struct tap_arguments *a = context;
    buf_clear(&a->text);
    if (value == NULL || http_decode(value, strlen(value), &a->text) != 0)
        err_set(&a->err, ERR_INVALID, "%.64s has no value, or %%XX in it is not two hex digits", name);
    buf_put_u8(&a->text, '\0');
    if (a->err.code == ERR_NONE)
        argument_take(a, name);
    return a->err.code == ERR_NONE ? MHD_YES : MHD_NO;
}

static int tap_place(const struct http *h, struct err *err)
{
    for (int i = 0; i < TAPS_MAX; i++)
        if (h->taps[i] == NULL)
            return i;
    return err_set(err, ERR_UNAVAILABLE, "there are %d taps already, as many as may be", TAPS_MAX);
}

static int tap_open(struct http_request *r, enum tap_kind kind, int place, struct err *err)
{
    struct tap_arguments a = {.r = r, .tap = tap_new(r->http->d->engine, kind)};
    MHD_get_connection_values(r->connection, MHD_GET_ARGUMENT_KIND, on_argument, &a);
    buf_done(&a.text);
    if (a.err.code != ERR_NONE) {
        *err = a.err;
        tap_free(a.tap);
        return -1;
    }
    struct http_tap *t = mem_zalloc(sizeof *t);
    *t = (struct http_tap){.http = r->http,
                           .tap = a.tap,
                           .connection = r->connection,
                           .put_us = clock_mono_us(&r->http->d->clock)};
    r->response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, TAP_BLOCK, tap_read, t, tap_closed);
    if (r->response == NULL) {
        tap_free(t->tap);
        free(t);
        return err_set(err, ERR_IO, "libmicrohttpd made no response");
    }
    r->streams = true;
    r->http->taps[place] = t;
    r->http->d->n_taps++;
    return 0;
}

void http_answer_tap(struct http_request *r)
{
    struct err err = {0};
    const char *kind = MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, "kind");
    bool samples = kind != NULL && strcmp(kind, "samples") == 0;
    if (!samples && (kind == NULL || strcmp(kind, "events") != 0)) {
        http_problem(r, MHD_HTTP_BAD_REQUEST, "kind=events or kind=samples is expected");
        return;
    }
    int place = tap_place(r->http, &err);
    if (place < 0 || tap_open(r, samples ? TAP_SAMPLES : TAP_EVENTS, place, &err) != 0)
        http_answer_err(r, &err);
    else
        r->type = "application/x-ndjson";
}
