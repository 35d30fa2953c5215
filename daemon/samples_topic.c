// SPDX-License-Identifier: Apache-2.0
// See samples_topic.h. Bounded: at most UNDER_WAY messages and UNDER_WAY_BYTES
// are in the producer, at most CHUNK samples are read at a time. Cost of a
// sample: its JSON, on the main thread, in slices.
#include "daemon/samples_topic.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/engine.h"
#include "daemon/sample_json.h"

enum {
    UNDER_WAY = 8192, // a power of two
    UNDER_WAY_BYTES = 32 << 20,
    CHUNK = 64,
    TELL_US = 60000000, // what goes on is logged once in so long
    MARK_FORMAT = 1,
};
static const char mark_blob[] = "samples-topic";

// ---- the mark
// ---------------------------------------------------------------------------------------------

bool samples_topic_wanted(const struct config *config)
{
    return config->publish.enabled && config->publish.samples_topic[0] != '\0';
}

static int mark_new(struct engine *e, struct err *err)
{
    struct samples_mark *m = &e->samples_mark;
    *m = (struct samples_mark){
        .active = true, .dirty = true, .through = state_samples_begin(e->state), .ticket = UINT64_MAX};
    if (getrandom(&m->id, sizeof m->id, 0) != (ssize_t)sizeof m->id)
        return err_errno(err, "getrandom");
    return 0;
}

// The blob: u32 format, str topic, u64 id, u64 through.
static int mark_get(struct engine *e, const struct buf *blob, bool *ret_same, struct err *err)
{
    struct rd r = rd_of(blob->data, blob->len);
    uint32_t format = rd_u32(&r);
    if (!r.bad && format != MARK_FORMAT)
        return err_set(err, ERR_VERSION, "the mark of the samples topic has format %u, not %d", format,
                       MARK_FORMAT);
    struct str topic = rd_str(&r);
    struct samples_mark mark = {.active = true};
    mark.id = rd_u64(&r);
    mark.through = rd_u64(&r);
    if (r.bad || mark.through > state_samples_end(e->state))
        return err_set(err, ERR_CORRUPT, "the mark of the samples topic is damaged");
    *ret_same = str_equal(topic, str_of(e->config->publish.samples_topic));
    if (*ret_same)
        e->samples_mark = mark;
    return 0;
}

int samples_mark_load(struct engine *e, bool read_only, struct err *err)
{
    struct buf blob = {0};
    bool found = false;
    bool same = false;
    if (!samples_topic_wanted(e->config))
        return 0;
    int result = state_blob_get(e->state, mark_blob, &blob, &found, err);
    if (result == 0 && found)
        result = mark_get(e, &blob, &same, err);
    if (result == 0 && !same && !read_only)
        result = mark_new(e, err);
    if (result == 0 && e->samples_mark.active)
        state_samples_published(e->state, e->samples_mark.through);
    buf_done(&blob);
    return result;
}

void samples_mark_put(struct engine *e)
{
    struct samples_mark *m = &e->samples_mark;
    if (!m->active || !m->dirty)
        return;
    struct buf blob = {0};
    buf_put_u32(&blob, MARK_FORMAT);
    buf_put_str(&blob, str_of(e->config->publish.samples_topic));
    buf_put_u64(&blob, m->id);
    buf_put_u64(&blob, m->through);
    state_blob_put(e->state, mark_blob, buf_str(&blob));
    buf_done(&blob);
    m->dirty = false;
}

static void mark_move(struct engine *e, uint64_t through)
{
    struct samples_mark *m = &e->samples_mark;
    if (through <= m->through)
        return;
    m->through = through;
    m->dirty = true;
    state_samples_published(e->state, through);
}

// ---- the sender
// -------------------------------------------------------------------------------------------

struct samples_topic {
    struct engine *engine;
    struct sink *sink;
    struct clock_source clock;
    uint64_t next;              // to be sent
    struct sample_chunk *chunk; // `next` is in it at `at`; NULL: none
    uint32_t at;
    struct buf json;
    uint64_t delivered;           // samples below it are
    uint64_t sent_bytes;          // over the life of the sender
    uint64_t delivered_bytes;     // of those, up to `delivered`
    uint64_t bytes_to[UNDER_WAY]; // sent_bytes as it was after sample n, at n %
                                  // UNDER_WAY
    uint64_t published;           // delivered since the start
    uint64_t oversize;
    int64_t told_behind_us, told_oversize_us; // when it was logged; 0: never
};

struct samples_topic *samples_topic_new(struct engine *e, struct sink *sink)
{
    struct samples_topic *t = mem_zalloc(sizeof *t);
    t->engine = e;
    t->sink = sink;
    t->clock = clock_real();
    t->next = t->delivered = e->samples_mark.through;
    return t;
}

static void chunk_drop(struct samples_topic *t)
{
    if (t->chunk != NULL)
        state_chunk_free(t->engine->state, t->chunk);
    t->chunk = NULL;
    t->at = 0;
}

void samples_topic_free(struct samples_topic *t)
{
    if (t == NULL)
        return;
    chunk_drop(t);
    sink_free(t->sink);
    buf_done(&t->json);
    free(t);
}

// Whether to log it now: what goes on is logged when it begins, and then
// seldom.
static bool tell(const struct samples_topic *t, int64_t *told_us)
{
    int64_t now = clock_mono_us(&t->clock);
    if (*told_us != 0 && now - *told_us < TELL_US)
        return false;
    *told_us = now;
    return true;
}

// What retention let go of is passed over; state/ has counted it. Some of it
// may be under way and arrive yet.
static void pass_over(struct samples_topic *t)
{
    uint64_t begin = state_samples_begin(t->engine->state);
    uint64_t through = t->engine->samples_mark.through;
    if (through >= begin)
        return;
    if (tell(t, &t->told_behind_us))
        log_warn("the samples topic is behind state.samples_bytes: samples went "
                 "before they were delivered",
                 "samples=%" PRIu64 " from=%" PRIu64, begin - through, through);
    mark_move(t->engine, begin);
    if (t->next < begin) {
        chunk_drop(t);
        t->next = begin;
    }
}

// The sink's numbers are those of samples, and 1.
static void note_deliveries(struct samples_topic *t)
{
    uint64_t delivered = sink_poll(t->sink);
    if (sink_reset(t->sink)) {
        chunk_drop(t);
        t->next = delivered > t->engine->samples_mark.through ? delivered : t->engine->samples_mark.through;
        t->delivered = t->next;
    }
    bool all = sink_under_way(t->sink) == 0;
    delivered = all ? t->next : delivered;
    if (all || delivered > t->delivered)
        t->delivered_bytes = all ? t->sent_bytes : t->bytes_to[(delivered - 1) % UNDER_WAY];
    if (delivered <= t->delivered)
        return;
    t->published += delivered - t->delivered;
    t->delivered = delivered;
    mark_move(t->engine, delivered);
}

static bool has_room(const struct samples_topic *t)
{
    return t->next - t->delivered < UNDER_WAY && t->sent_bytes - t->delivered_bytes < UNDER_WAY_BYTES;
}

// Makes `next` stand in the chunk. *ret_there false: it is not on disk yet.
static int chunk_fill(struct samples_topic *t, bool *ret_there, struct err *err)
{
    struct state *s = t->engine->state;
    *ret_there = true;
    if (t->chunk != NULL && t->at < t->chunk->n)
        return 0;
    chunk_drop(t);
    uint64_t durable = state_samples_durable(s);
    *ret_there = t->next < durable && state_commit_durable(s) >= t->engine->samples_mark.ticket;
    if (!*ret_there)
        return 0;
    uint32_t n = durable - t->next < CHUNK ? (uint32_t)(durable - t->next) : CHUNK;
    return state_samples_read(s, t->next, n, &t->chunk, err);
}

static int sample_send(struct samples_topic *t, const struct sample *s, const struct feature_row *row,
                       struct err *err)
{
    char number[24];
    char id[24];
    struct json j = json_to(&t->json);
    buf_clear(&t->json);
    sample_json(t->engine, s, row, &j);
    snprintf(number, sizeof number, "%" PRIu64, s->seq);
    snprintf(id, sizeof id, "%016" PRIx64, t->engine->samples_mark.id);
    const struct sink_header headers[] = {{str_of("freshet.sample"), str_of(number)},
                                          {str_of("freshet.state"), str_of(id)}};
    const struct sink_message message = {
        .topic = t->engine->config->publish.samples_topic,
        .partition = -1,
        .key = row->user_text,
        .value = {(const char *)t->json.data, (uint32_t)t->json.len},
        .headers = headers,
        .n_headers = sizeof headers / sizeof *headers,
        .sequence = s->seq + 1,
    };
    return sink_send(t->sink, &message, err);
}

// *ret_sent false: the sink takes nothing now.
static int sample_next(struct samples_topic *t, bool *ret_sent, struct err *err)
{
    struct feature_row row;
    struct err refused = {0};
    const struct sample *s = &t->chunk->samples[t->at];
    if (sample_row_decode(t->engine->features, t->chunk, t->at, &row, err) != 0)
        return -1;
    *ret_sent = sample_send(t, s, &row, &refused) == 0;
    if (!*ret_sent && refused.code == ERR_LIMIT && !refused.retriable) {
        t->oversize++;
        if (tell(t, &t->told_oversize_us))
            log_warn("a sample is too long for the samples topic and is passed over",
                     "sample=%" PRIu64 " error=%s", s->seq, log_quote(refused.message));
        *ret_sent = true;
    }
    if (!*ret_sent)
        return 0;
    t->sent_bytes += t->json.len;
    t->bytes_to[s->seq % UNDER_WAY] = t->sent_bytes;
    t->next++;
    t->at++;
    return 0;
}

int samples_topic_step(struct samples_topic *t, int64_t until_us, bool *ret_more, struct err *err)
{
    bool more = true;
    note_deliveries(t);
    pass_over(t);
    while (more && clock_mono_us(&t->clock) < until_us) {
        more = has_room(t);
        if (more && chunk_fill(t, &more, err) != 0)
            return -1;
        if (more && sample_next(t, &more, err) != 0)
            return -1;
    }
    *ret_more = more;
    return 0;
}

void samples_topic_settle(struct samples_topic *t, int ms)
{
    int64_t until = clock_mono_us(&t->clock) + (int64_t)ms * 1000;
    note_deliveries(t);
    for (int64_t left; sink_under_way(t->sink) > 0 && (left = until - clock_mono_us(&t->clock)) > 0;) {
        struct pollfd fd = {.fd = sink_fd(t->sink), .events = POLLIN};
        poll(&fd, 1, (int)(left / 1000) + 1);
        note_deliveries(t);
    }
}

struct sink *samples_topic_sink(const struct samples_topic *t)
{
    return t->sink;
}

uint64_t samples_topic_published(const struct samples_topic *t)
{
    return t->published;
}

uint64_t samples_topic_oversize(const struct samples_topic *t)
{
    return t->oversize;
}
