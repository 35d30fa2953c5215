// SPDX-License-Identifier: Apache-2.0
// The generic part of a source: queues of decoded events, one a part, and the order in which they are handed
// out (stream/source.h).
//
// A part's queue is a list of chunks. A chunk holds up to SOURCE_FETCH events and the arena of their bytes,
// so that a message is copied once and decoded in place. Chunks that were handed out to their end stay as
// they are until the next source_poll, which puts them up for use again.
//
// The merge is a tournament over the heads. Each part has a key: the ts of its head, SOURCE_NOW for what has
// no time of its own (bad, idle), SOURCE_NOTHING for an empty queue. A leaf of the tree is a part, an inner
// node the winner below it; on a tie the left one wins, which is the lower part index.
//
//        winners[1]                      least of all
//        [2]        [3]
//     [4]   [5]   [6]   [7]              leaves: parts 0 .. 3
//
// Handing out an event costs one path to the root, log2(parts) comparisons. An empty part that is neither at
// its end nor stopped holds the merge up; `waited` counts these.

#include "stream/source.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "stream/source_impl.h"

#define SOURCE_NOW INT64_MIN
#define SOURCE_NOTHING INT64_MAX
enum {
    SOURCE_MAGIC = 0x50c7ce01,
    SOURCE_CHUNK_BYTES = 1 << 20, // a chunk with more takes no further event, and gives its memory back
    SOURCE_UNSEEN_US = 2000000,   // between two polls, what counts of it as time at the end of a log
};

struct source_chunk {
    struct source_chunk *next;
    uint32_t n;
    uint32_t head; // events before it are handed out
    struct arena arena;
    struct event events[SOURCE_FETCH];
};

// One part at work.
struct source_lane {
    struct source_part part;
    struct source_chunk *first; // the one being handed out
    struct source_chunk *last;  // the one being filled
    int64_t next_offset;        // after the last event handed out
    int64_t fetch_offset;       // after the last event pushed
    int64_t end_since_us;       // when the end was noticed after the last message that was not bad
    uint64_t dry_in;            // the poll in which a fetch gave nothing
    bool at_end;                // the end of the log stands after what was pushed
    bool idle_due;              // an EVENT_IDLE is to be handed out
    bool end_known;             // end_since_us stands: nothing but bad messages was pushed since
    bool idle_told;             // an EVENT_IDLE was made since the last message that was not bad
    bool idle;                  // one was handed out since the last message that was not bad
    bool waited;
    bool stopped;
    struct err error;
};

struct source {
    uint32_t magic;
    const struct source_ops *ops;
    void *impl;
    struct source_options options;
    struct decoder *decoder;
    struct source_lane *lanes;
    uint32_t n;
    int64_t *keys;              // (leaves)
    uint16_t *winners;          // (2 * leaves)
    uint32_t leaves;            // a power of two >= n
    uint32_t waited;            // lanes that hold the merge up
    struct source_chunk *spent; // handed out in this poll
    struct source_chunk *unused;
    struct arena arena; // EVENT_IDLEs of this poll
    const struct event **out;
    uint32_t out_cap;
    uint64_t polls;
    int64_t now_us; // monotonic, at the begin of this poll
    bool paused;
    struct err failed; // the source is of no further use once what is buffered is handed out
    // A recorded order.
    bool follows;
    struct source_run *runs;
    uint32_t n_runs;
    uint32_t run;      // at which we are
    uint32_t run_done; // messages of it that were handed out
};

static void source_check(const struct source *s)
{
    assert(s != NULL && s->magic == SOURCE_MAGIC);
}

static struct source_lane *source_lane(const struct source *s, uint32_t part)
{
    source_check(s);
    assert(part < s->n);
    return &s->lanes[part];
}

// ---- making and freeing -----------------------------------------------------------------------------------

static void source_copy_parts(struct source *s, const struct source_part *parts, uint32_t n)
{
    s->lanes = mem_array(n, sizeof *s->lanes);
    for (uint32_t i = 0; i < n; i++) {
        int64_t offset = parts[i].offset;
        s->lanes[i].part = parts[i];
        s->lanes[i].next_offset = offset;
        s->lanes[i].fetch_offset = offset;
    }
}

static void source_make_tree(struct source *s)
{
    for (s->leaves = 1; s->leaves < s->n;)
        s->leaves *= 2;
    s->keys = mem_array(s->leaves, sizeof *s->keys);
    s->winners = mem_array(2 * (size_t)s->leaves, sizeof *s->winners);
    for (uint32_t i = 0; i < s->leaves; i++) {
        s->keys[i] = SOURCE_NOTHING;
        s->winners[s->leaves + i] = (uint16_t)i;
    }
    for (uint32_t i = s->leaves - 1; i > 0; i--)
        s->winners[i] = s->winners[2 * (size_t)i];
}

struct source *source_new(const struct source_options *options, const struct source_ops *ops, void *impl,
                          const struct source_part *parts, uint32_t n)
{
    assert(n <= UINT16_MAX);
    struct source *s = mem_zalloc(sizeof *s);
    s->magic = SOURCE_MAGIC;
    s->ops = ops;
    s->impl = impl;
    s->options = *options;
    s->n = n;
    s->decoder = decoder_new(&options->decode);
    source_copy_parts(s, parts, n);
    source_make_tree(s);
    return s;
}

static void source_free_chunks(struct source_chunk *c)
{
    while (c != NULL) {
        struct source_chunk *next = c->next;
        arena_done(&c->arena);
        free(c);
        c = next;
    }
}

void source_free(struct source *s)
{
    if (s == NULL)
        return;
    source_check(s);
    if (s->impl != NULL)
        s->ops->free(s->impl);
    for (uint32_t i = 0; i < s->n; i++)
        source_free_chunks(s->lanes[i].first);
    source_free_chunks(s->spent);
    source_free_chunks(s->unused);
    arena_done(&s->arena);
    decoder_free(s->decoder);
    free(s->lanes);
    free(s->keys);
    free(s->winners);
    free(s->out);
    free(s->runs);
    s->magic = 0;
    free(s);
}

// ---- queues -----------------------------------------------------------------------------------------------

static struct source_chunk *source_chunk_get(struct source *s)
{
    struct source_chunk *c = s->unused;
    if (c != NULL) {
        s->unused = c->next;
    } else {
        c = mem_alloc(sizeof *c);
        c->arena = (struct arena){0};
    }
    c->next = NULL;
    c->n = 0;
    c->head = 0;
    return c;
}

// What was handed out by the poll before is no longer needed.
static void source_recycle(struct source *s)
{
    while (s->spent != NULL) {
        struct source_chunk *c = s->spent;
        s->spent = c->next;
        if (c->arena.total > SOURCE_CHUNK_BYTES)
            arena_done(&c->arena);
        else
            arena_clear(&c->arena);
        c->next = s->unused;
        s->unused = c;
    }
    arena_clear(&s->arena);
}

// The chunk into which the next event goes.
static struct source_chunk *source_chunk_of(struct source *s, struct source_lane *lane)
{
    struct source_chunk *last = lane->last;
    if (last != NULL && last->n < SOURCE_FETCH && last->arena.total <= SOURCE_CHUNK_BYTES)
        return last;
    struct source_chunk *c = source_chunk_get(s);
    if (last != NULL)
        last->next = c;
    else
        lane->first = c;
    lane->last = c;
    return c;
}

static struct event *source_head(const struct source_lane *lane)
{
    return lane->first != NULL ? &lane->first->events[lane->first->head] : NULL;
}

static void source_pop(struct source *s, struct source_lane *lane)
{
    struct source_chunk *c = lane->first;
    if (++c->head < c->n)
        return;
    lane->first = c->next;
    if (lane->first == NULL)
        lane->last = NULL;
    c->next = s->spent;
    s->spent = c;
}

static struct str source_keep(struct arena *arena, struct str bytes)
{
    if (bytes.s == NULL)
        return bytes;
    char *p = arena_alloc(arena, (size_t)bytes.len + DECODER_PADDING, 1);
    memcpy(p, bytes.s, bytes.len);
    memset(p + bytes.len, 0, DECODER_PADDING);
    return (struct str){p, bytes.len};
}

static void source_cut(const struct source_raw *raw, struct str key, struct str value, struct event *e)
{
    *e = (struct event){
        .kind = EVENT_BAD, .bad = EVENT_BAD_SIZE, .key = key, .raw = value, .cut_from = raw->cut_from};
    snprintf(e->detail, sizeof e->detail, "the message has %" PRIu64 " bytes, the first %u are kept",
             raw->cut_from, value.len);
}

void source_push(struct source *s, uint32_t part, const struct source_raw *raw)
{
    struct source_lane *lane = source_lane(s, part);
    if (raw->offset < lane->fetch_offset)
        return;
    struct source_chunk *c = source_chunk_of(s, lane);
    struct event *e = &c->events[c->n++];
    struct str key = source_keep(&c->arena, raw->key);
    struct str value = source_keep(&c->arena, raw->value);
    if (raw->cut_from > 0)
        source_cut(raw, key, value, e);
    else
        decoder_decode(s->decoder, lane->part.kind, key, value, raw->append_ms, &c->arena, e);
    e->part = (uint16_t)part;
    e->offset = raw->offset;
    e->next_offset = raw->next_offset;
    e->append_ms = raw->append_ms;
    lane->fetch_offset = raw->next_offset;
    lane->at_end = false;
    if (e->kind == EVENT_BAD)
        return; // it tells nothing of event time: a part that gives nothing else must not hold the others
    lane->end_known = false;
    lane->idle_told = false;
}

void source_reached_end(struct source *s, uint32_t part)
{
    struct source_lane *lane = source_lane(s, part);
    if (!lane->end_known)
        lane->end_since_us = clock_mono_us(&s->options.clock);
    lane->end_known = true;
    lane->at_end = true;
}

void source_ends_unknown(struct source *s)
{
    source_check(s);
    int64_t now_us = clock_mono_us(&s->options.clock);
    for (uint32_t i = 0; i < s->n; i++)
        s->lanes[i].end_since_us = now_us;
}

void source_stop(struct source *s, uint32_t part, const struct err *err)
{
    struct source_lane *lane = source_lane(s, part);
    lane->stopped = true;
    lane->error = *err;
}

int64_t source_fetch_offset(const struct source *s, uint32_t part)
{
    return source_lane(s, part)->fetch_offset;
}

// ---- heads ------------------------------------------------------------------------------------------------

static void source_lane_fetch(struct source *s, uint32_t part)
{
    struct source_lane *lane = &s->lanes[part];
    bool ended = lane->at_end && s->ops->ends;
    if (lane->stopped || ended || s->failed.code != ERR_NONE || lane->dry_in == s->polls)
        return;
    struct err failed = {0};
    if (s->ops->fetch(s->impl, part, &failed) < 0)
        s->failed = failed;
    if (lane->first == NULL)
        lane->dry_in = s->polls;
}

static void source_lane_idle(struct source *s, struct source_lane *lane)
{
    // A file is idle right after its last event: in the same poll, or the size of polls would decide the order.
    int64_t after_us = s->ops->ends ? 0 : s->options.idle_after_ms * 1000;
    bool early = after_us > 0 && s->now_us - lane->end_since_us < after_us;
    if (!lane->at_end || lane->stopped || lane->idle_told || early)
        return;
    lane->idle_told = true;
    lane->idle_due = true;
}

static int64_t source_lane_key(const struct source_lane *lane)
{
    const struct event *head = source_head(lane);
    if (lane->idle_due || (head != NULL && head->kind == EVENT_BAD))
        return SOURCE_NOW;
    return head != NULL ? head->ts : SOURCE_NOTHING;
}

// Sees to it that a part has a head, and puts its key into the tree.
static void source_lane_refresh(struct source *s, uint32_t part)
{
    struct source_lane *lane = &s->lanes[part];
    if (lane->first == NULL) {
        source_lane_fetch(s, part);
        if (lane->first == NULL)
            source_lane_idle(s, lane);
    }
    bool waited = lane->first == NULL && !lane->at_end && !lane->stopped;
    s->waited = s->waited - lane->waited + waited;
    lane->waited = waited;
    s->keys[part] = source_lane_key(lane);
    const int64_t *keys = s->keys;
    uint16_t *winners = s->winners;
    for (size_t i = (s->leaves + part) / 2; i > 0; i /= 2) {
        uint16_t left = winners[2 * i];
        uint16_t right = winners[2 * i + 1];
        winners[i] = keys[right] < keys[left] ? right : left;
    }
}

static const struct event *source_idle_event(struct source *s, uint32_t part)
{
    struct source_lane *lane = &s->lanes[part];
    lane->idle_due = false;
    lane->idle = true;
    struct event *e = ARENA_ARRAY(&s->arena, struct event, 1);
    *e = (struct event){.kind = EVENT_IDLE, .part = (uint16_t)part};
    e->offset = lane->next_offset;
    e->next_offset = lane->next_offset;
    return e;
}

static const struct event *source_take(struct source *s, uint32_t part)
{
    struct source_lane *lane = &s->lanes[part];
    const struct event *e = source_head(lane);
    lane->next_offset = e->next_offset;
    lane->idle &= e->kind == EVENT_BAD;
    source_pop(s, lane);
    return e;
}

// ---- polling ----------------------------------------------------------------------------------------------

static void source_out(struct source *s, uint32_t n, const struct event *e)
{
    if (n == s->out_cap) {
        s->out_cap = s->out_cap > 0 ? 2 * s->out_cap : SOURCE_FETCH;
        s->out = mem_resize(s->out, s->out_cap, sizeof(const struct event *));
    }
    s->out[n] = e;
}

// By event time. Returns how many events are in s->out.
static uint32_t source_merge(struct source *s, uint32_t max)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->lanes[i].first == NULL || s->keys[i] == SOURCE_NOTHING)
            source_lane_refresh(s, i);
    }
    while (n < max) {
        uint32_t part = s->winners[1];
        int64_t key = s->keys[part];
        if (key == SOURCE_NOTHING || (s->waited > 0 && key != SOURCE_NOW))
            break;
        const struct event *e = s->lanes[part].idle_due ? source_idle_event(s, part) : source_take(s, part);
        source_out(s, n++, e);
        source_lane_refresh(s, part);
    }
    return n;
}

// The next message of a run, or NULL where it is not there yet or will never be (s->failed).
static const struct event *source_follow_take(struct source *s, uint32_t part)
{
    struct source_lane *lane = &s->lanes[part];
    if (lane->first == NULL)
        source_lane_fetch(s, part);
    if (lane->first != NULL)
        return source_take(s, part);
    if (lane->stopped)
        s->failed = lane->error;
    else if (lane->at_end && s->ops->ends)
        err_set(&s->failed, ERR_CORRUPT,
                "the recorded order has more messages of %s [%d] than there are after offset %" PRId64,
                lane->part.topic, lane->part.partition, lane->next_offset);
    return NULL;
}

static uint32_t source_follow_order(struct source *s, uint32_t max)
{
    uint32_t n = 0;
    while (n < max && s->run < s->n_runs) {
        const struct source_run run = s->runs[s->run];
        if (run.part >= s->n) {
            err_set(&s->failed, ERR_CORRUPT, "the recorded order names part %u of %u", run.part, s->n);
            break;
        }
        const struct event *e =
            run.count == 0 ? source_idle_event(s, run.part) : source_follow_take(s, run.part);
        if (e == NULL)
            break;
        source_out(s, n++, e);
        if (++s->run_done >= run.count) {
            s->run++;
            s->run_done = 0;
        }
    }
    return n;
}

// Of a long time without a poll (the process stood still, or waited for a disk) only the begin counts as time
// at the end of a log: nobody has looked whether more has come.
static void source_turn_clock(struct source *s)
{
    int64_t now_us = clock_mono_us(&s->options.clock);
    int64_t unseen_us = now_us - s->now_us - SOURCE_UNSEEN_US;
    s->now_us = now_us;
    for (uint32_t i = 0; i < s->n && unseen_us > 0; i++) {
        int64_t since_us = s->lanes[i].end_since_us + unseen_us;
        s->lanes[i].end_since_us = since_us < now_us ? since_us : now_us;
    }
}

int source_poll(struct source *s, uint32_t max, const struct event *const **ret_events, uint32_t *ret_n,
                struct err *err)
{
    source_check(s);
    source_recycle(s);
    s->polls++;
    source_turn_clock(s);
    if (s->failed.code == ERR_NONE && s->ops->service != NULL) {
        struct err failed = {0};
        if (s->ops->service(s->impl, &failed) < 0)
            s->failed = failed;
    }
    uint32_t n = 0;
    if (!s->paused)
        n = s->follows ? source_follow_order(s, max) : source_merge(s, max);
    if (n == 0 && s->failed.code != ERR_NONE) {
        if (err != NULL)
            *err = s->failed;
        return -1;
    }
    *ret_events = s->out;
    *ret_n = n;
    return 0;
}

void source_follow(struct source *s, const struct source_run *runs, uint32_t n)
{
    source_check(s);
    free(s->runs);
    s->runs = mem_array(n, sizeof *s->runs);
    if (n > 0)
        memcpy(s->runs, runs, n * sizeof *runs);
    s->n_runs = n;
    s->run = 0;
    s->run_done = 0;
    s->follows = true;
}

// ---- what is known ----------------------------------------------------------------------------------------

uint32_t source_part_count(const struct source *s)
{
    source_check(s);
    return s->n;
}

const struct source_part *source_part(const struct source *s, uint32_t part)
{
    return &source_lane(s, part)->part;
}

void source_part_status(const struct source *s, uint32_t part, struct source_part_status *ret_status)
{
    const struct source_lane *lane = source_lane(s, part);
    *ret_status = (struct source_part_status){
        .next_offset = lane->next_offset,
        .end_offset = -1,
        .lag = -1,
        .at_end = lane->at_end && lane->first == NULL,
        .idle = lane->idle,
        .stopped = lane->stopped,
        .error = lane->error,
    };
    if (s->ops->status != NULL)
        s->ops->status(s->impl, part, ret_status);
}

bool source_caught_up(const struct source *s)
{
    source_check(s);
    if (s->follows)
        return s->run == s->n_runs;
    for (uint32_t i = 0; i < s->n; i++) {
        if (!s->lanes[i].at_end || s->lanes[i].first != NULL)
            return false;
    }
    return true;
}

bool source_ended(const struct source *s)
{
    source_check(s);
    if (s->follows)
        return s->run == s->n_runs;
    for (uint32_t i = 0; i < s->n; i++) {
        if (!s->lanes[i].idle_told || s->lanes[i].idle_due)
            return false;
    }
    return s->ops->ends && source_caught_up(s);
}

int source_fd(const struct source *s)
{
    source_check(s);
    return s->ops->fd != NULL ? s->ops->fd(s->impl) : -1;
}

void source_pause(struct source *s, bool pause)
{
    source_check(s);
    if (s->paused == pause)
        return;
    s->paused = pause;
    source_ends_unknown(s); // what came during the pause is not fetched yet
    if (s->ops->pause != NULL)
        s->ops->pause(s->impl, pause);
}

void source_error(const struct source *s, struct err *ret_err)
{
    source_check(s);
    *ret_err = (struct err){0};
    if (s->ops->error != NULL)
        s->ops->error(s->impl, ret_err);
}

void source_commit_hint(struct source *s, const int64_t *offsets)
{
    source_check(s);
    if (s->ops->commit_hint != NULL)
        s->ops->commit_hint(s->impl, offsets);
}
