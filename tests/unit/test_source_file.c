// SPDX-License-Identifier: Apache-2.0
// Files as a source: the merge against a plain twin, whatever the sizes of polls; going on from any offset;
// a recorded order; idleness; lines of all shapes. Also the generic part with a source made of a script, for
// what files never do: wait, stop, pause, push again.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/rng.h"
#include "stream/source_impl.h"

enum { FILES_MAX = 5, GOT_MAX = 20000 };

static int64_t test_now_us;
static int64_t test_step_us; // time passes also within a poll

static int64_t test_mono_us(void *context)
{
    (void)context;
    return test_now_us += test_step_us;
}

static struct source_options options(void)
{
    return (struct source_options){
        .decode = {action_names, ACTION_BUILTIN, 60000},
        .clock = {test_mono_us, test_mono_us, NULL},
        .idle_after_ms = 1000,
    };
}

// ---- files ------------------------------------------------------------------------------------------------

struct paths {
    char v[FILES_MAX][64];
    struct source_file files[FILES_MAX];
    uint32_t n;
};

static void paths_add(struct paths *p, const void *bytes, size_t n)
{
    char *path = p->v[p->n];
    strcpy(path, "/tmp/test_source_file.XXXXXX");
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, bytes, n), (ssize_t)n);
    close(fd);
    struct source_file *f = &p->files[p->n];
    *f = (struct source_file){.path = path,
                              .part = {"events", (int32_t)p->n, DECODER_EVENTS, SOURCE_OFFSET_START}};
    p->n++;
}

static void paths_done(struct paths *p)
{
    for (uint32_t i = 0; i < p->n; i++)
        unlink(p->v[i]);
    p->n = 0;
}

static struct source *paths_open(const struct paths *p)
{
    struct source_options o = options();
    struct source *s = NULL;
    struct err err = {0};
    cr_assert_eq(source_files_new(&o, p->files, p->n, &s, &err), 0, "%s", err.message);
    return s;
}

static void put_event(struct buf *to, int64_t ts)
{
    char text[128];
    int n = snprintf(text, sizeof text,
                     "{\"type\":\"click\",\"user_id\":1,\"item_id\":2,\"timestamp\":%lld}\n", (long long)ts);
    buf_put(to, text, (size_t)n);
}

// What came out, enough to compare.
struct got {
    enum event_kind kind;
    uint32_t part;
    int64_t ts, offset, next_offset;
};

static struct got got_of(const struct event *e)
{
    return (struct got){e->kind, e->part, e->kind == EVENT_BAD ? -1 : e->ts, e->offset, e->next_offset};
}

static bool got_same(struct got a, struct got b)
{
    return a.kind == b.kind && a.part == b.part && a.ts == b.ts && a.offset == b.offset &&
           a.next_offset == b.next_offset;
}

// Everything up to the end, by polls of at most `max`, or of random sizes for max 0.
static uint32_t drain(struct source *s, uint32_t max, struct got *got)
{
    struct rng rng = rng_of(max + 7);
    uint32_t n = 0;
    while (!source_ended(s)) {
        const struct event *const *events;
        uint32_t k;
        struct err err = {0};
        uint32_t limit = max > 0 ? max : 1 + (uint32_t)rng_below(&rng, 700);
        cr_assert_eq(source_poll(s, limit, &events, &k, &err), 0, "%s", err.message);
        cr_assert(k <= limit && (k > 0 || source_ended(s)));
        for (uint32_t i = 0; i < k; i++) {
            cr_assert_lt(n, GOT_MAX);
            got[n++] = got_of(events[i]);
        }
    }
    return n;
}

// Messages of one file in its order, found by hand.
static uint32_t twin_file(const struct buf *b, uint32_t part, struct got *to)
{
    uint32_t n = 0;
    for (size_t at = 0; at < b->len;) {
        const char *line = (const char *)b->data + at;
        const char *newline = memchr(line, '\n', b->len - at);
        size_t len = newline != NULL ? (size_t)(newline - line) : b->len - at;
        size_t next = at + len + (newline != NULL);
        long long ts = -1;
        const char *found = memmem(line, len, "\"timestamp\":", 12);
        if (found != NULL)
            ts = atoll(found + 12);
        if (len > 0)
            to[n++] = (struct got){found ? EVENT_ACTION : EVENT_BAD, part, ts, (int64_t)at, (int64_t)next};
        at = next;
    }
    int64_t end = n > 0 ? to[n - 1].next_offset : 0;
    to[n++] = (struct got){EVENT_IDLE, part, 0, end, end};
    return n;
}

// The rule of stream/source.h, by looking at all heads each time.
static uint32_t twin_merge(struct got (*files)[GOT_MAX], const uint32_t *n, uint32_t n_files, struct got *to)
{
    uint32_t at[FILES_MAX] = {0};
    uint32_t k = 0;
    for (;;) {
        uint32_t best = UINT32_MAX;
        int64_t least = INT64_MAX;
        for (uint32_t i = 0; i < n_files; i++) {
            if (at[i] == n[i])
                continue;
            const struct got *head = &files[i][at[i]];
            int64_t key = head->kind == EVENT_ACTION ? head->ts : INT64_MIN;
            if (key < least || best == UINT32_MAX) {
                least = key;
                best = i;
            }
        }
        if (best == UINT32_MAX)
            return k;
        to[k++] = files[best][at[best]++];
    }
}

static struct got twin_files[FILES_MAX][GOT_MAX];
static struct got wanted[GOT_MAX];
static struct got actual[GOT_MAX];

// Files with times that rise, fall back at times and tie, bad and empty lines, some without a last newline.
static uint32_t make_files(struct paths *p, struct rng *rng, uint32_t n_files, uint32_t lines)
{
    uint32_t n[FILES_MAX];
    for (uint32_t f = 0; f < n_files; f++) {
        struct buf b = {0};
        int64_t ts = 1767225600000;
        for (uint64_t i = rng_below(rng, lines + 1); i > 0; i--) {
            ts += (int64_t)rng_below(rng, 7) - 2;
            uint64_t what = rng_below(rng, 20);
            if (what == 0)
                buf_put(&b, "{\"bad\n", 6);
            else if (what == 1)
                buf_put_u8(&b, '\n');
            else
                put_event(&b, ts);
        }
        if (b.len > 0 && rng_below(rng, 2) == 0)
            b.len--;
        n[f] = twin_file(&b, f, twin_files[f]);
        paths_add(p, b.data != NULL ? (const void *)b.data : "", b.len);
        buf_done(&b);
    }
    return twin_merge(twin_files, n, n_files, wanted);
}

static void expect(const struct got *got, uint32_t n, const struct got *want, uint32_t n_want)
{
    cr_assert_eq(n, n_want, "%u of %u", n, n_want);
    for (uint32_t i = 0; i < n; i++)
        cr_assert(got_same(got[i], want[i]), "at %u: kind %d part %u ts %lld offset %lld", i, got[i].kind,
                  got[i].part, (long long)got[i].ts, (long long)got[i].offset);
}

Test(source_file, merge_and_poll_sizes)
{
    static const uint32_t sizes[] = {1, 2, 255, 256, 257, 0, 100000};
    struct rng rng = rng_of(1);
    test_step_us = 1;
    for (uint32_t round = 0; round < 12; round++) {
        struct paths p = {0};
        uint32_t want = make_files(&p, &rng, 1 + round % FILES_MAX, round < 8 ? 40 : 3000);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            struct source *s = paths_open(&p);
            expect(actual, drain(s, sizes[i], actual), wanted, want);
            cr_assert(source_caught_up(s));
            source_free(s);
        }
        paths_done(&p);
    }
}

Test(source_file, goes_on_from_any_offset)
{
    struct rng rng = rng_of(2);
    struct paths p = {0};
    uint32_t want = make_files(&p, &rng, 3, 300);
    for (uint32_t cut = 0; cut < want; cut += 1 + cut / 7) {
        for (uint32_t i = 0; i < p.n; i++)
            p.files[i].part.offset = 0;
        for (uint32_t i = 0; i < cut; i++)
            p.files[wanted[i].part].part.offset = wanted[i].next_offset;
        struct source *s = paths_open(&p);
        uint32_t n = drain(s, 0, actual);
        // Idle parts tell so again, first of all: leave them out.
        uint32_t at = cut;
        for (uint32_t i = 0; i < n; i++) {
            while (at < want && wanted[at].kind == EVENT_IDLE)
                at++;
            if (actual[i].kind != EVENT_IDLE)
                cr_assert(at < want && got_same(actual[i], wanted[at++]), "cut %u at %u", cut, i);
        }
        source_free(s);
    }
    paths_done(&p);
}

Test(source_file, follows_a_recorded_order)
{
    struct rng rng = rng_of(3);
    struct paths p = {0};
    uint32_t n[FILES_MAX] = {0};
    uint32_t at[FILES_MAX] = {0};
    make_files(&p, &rng, 3, 500);
    for (uint32_t f = 0; f < 3; f++) {
        while (twin_files[f][n[f]].kind != EVENT_IDLE)
            n[f]++;
    }
    static struct source_run runs[GOT_MAX];
    uint32_t n_runs = 0;
    uint32_t want = 0;
    while (at[0] + at[1] + at[2] < n[0] + n[1] + n[2]) {
        uint32_t f = (uint32_t)rng_below(&rng, 3);
        uint32_t count = (uint32_t)rng_below(&rng, 9);
        count = count < n[f] - at[f] ? count : n[f] - at[f];
        runs[n_runs++] = (struct source_run){(uint16_t)f, count};
        int64_t next = at[f] > 0 ? twin_files[f][at[f] - 1].next_offset : 0;
        if (count == 0)
            wanted[want++] = (struct got){EVENT_IDLE, f, 0, next, next};
        for (uint32_t i = 0; i < count; i++)
            wanted[want++] = twin_files[f][at[f]++];
    }
    for (uint32_t max = 0; max < 300; max += 99) {
        struct source *s = paths_open(&p);
        source_follow(s, runs, n_runs);
        expect(actual, drain(s, max, actual), wanted, want);
        source_free(s);
    }
    // One message more than there is.
    runs[n_runs++] = (struct source_run){1, 1};
    struct source *s = paths_open(&p);
    source_follow(s, runs, n_runs);
    const struct event *const *events;
    uint32_t k;
    struct err err = {0};
    cr_assert(source_poll(s, 100000, &events, &k, &err) == 0 && k == want);
    cr_assert(source_poll(s, 100000, &events, &k, &err) == -1 && err.code == ERR_CORRUPT);
    cr_assert(!source_ended(s));
    source_free(s);
    paths_done(&p);
}

// ---- lines ------------------------------------------------------------------------------------------------

static uint32_t poll_all(struct source *s, const struct event *const **ret_events)
{
    uint32_t n;
    struct err err = {0};
    cr_assert_eq(source_poll(s, 100000, ret_events, &n, &err), 0, "%s", err.message);
    return n;
}

Test(source_file, lines_of_all_shapes)
{
    static const size_t sizes[] = {EVENT_MESSAGE_BYTES, EVENT_MESSAGE_BYTES + 1, 3 * EVENT_MESSAGE_BYTES};
    struct buf b = {0};
    struct paths p = {0};
    buf_put(&b, "\r\n \t\r\n", 6);
    put_event(&b, 1767225600001);
    for (size_t i = 0; i < 3; i++) {
        memset(buf_reserve(&b, sizes[i]), 'x', sizes[i]);
        b.len += sizes[i];
        buf_put_u8(&b, '\n');
    }
    put_event(&b, 1767225600002);
    size_t last = b.len;
    memset(buf_reserve(&b, 2 << 20), 'y', 2 << 20);
    b.len += 2 << 20;
    paths_add(&p, b.data, b.len);
    struct source *s = paths_open(&p);
    const struct event *const *e;
    cr_assert_eq(poll_all(s, &e), 7);
    cr_assert(e[0]->kind == EVENT_ACTION && e[0]->offset == 6);
    cr_assert(e[1]->bad == EVENT_BAD_JSON && e[1]->raw.len == EVENT_MESSAGE_BYTES);
    cr_assert(e[2]->bad == EVENT_BAD_SIZE && e[2]->raw.len < EVENT_MESSAGE_BYTES && e[2]->raw.s[0] == 'x');
    cr_assert_str_eq(e[3]->detail, "the message has 3145728 bytes, the first 65536 are kept");
    cr_assert(e[1]->cut_from == 0 && e[2]->cut_from == sizes[1] && e[3]->cut_from == sizes[2]);
    cr_assert(e[4]->kind == EVENT_ACTION && e[4]->ts == 1767225600002 && e[4]->offset == e[3]->next_offset);
    cr_assert(e[5]->bad == EVENT_BAD_SIZE && e[5]->offset == (int64_t)last);
    cr_assert_eq(e[5]->next_offset, (int64_t)b.len);
    cr_assert_eq(e[6]->kind, EVENT_IDLE);
    source_free(s);
    buf_done(&b);
    paths_done(&p);
}

Test(source_file, status_and_append_time)
{
    struct buf b = {0};
    struct paths p = {0};
    put_event(&b, 1767225600000);
    put_event(&b, 1767225700000);
    paths_add(&p, b.data, b.len);
    struct source_options o = options();
    o.file_append_ms = 1767225600000;
    struct source *s;
    cr_assert_eq(source_files_new(&o, p.files, 1, &s, NULL), 0);
    const struct event *const *e;
    uint32_t n;
    cr_assert(source_poll(s, 1, &e, &n, NULL) == 0 && n == 1 && e[0]->append_ms == o.file_append_ms);
    struct source_part_status status;
    source_part_status(s, 0, &status);
    cr_assert(status.next_offset == (int64_t)b.len / 2 && status.end_offset == (int64_t)b.len &&
              !status.at_end);
    cr_assert_eq(status.lag, -1);
    cr_assert(source_poll(s, 9, &e, &n, NULL) == 0 && n == 2 && e[0]->bad == EVENT_BAD_FUTURE);
    source_part_status(s, 0, &status);
    cr_assert(status.lag == 0 && status.at_end && status.idle && source_fd(s) == -1 &&
              source_part_count(s) == 1);
    source_free(s);
    buf_done(&b);
    paths_done(&p);
}

Test(source_file, pipe_goes_on_by_reading)
{
    struct buf b = {0};
    for (int i = 0; i < 100; i++)
        put_event(&b, 1767225600000 + i);
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(write(ends[1], b.data, b.len), (ssize_t)b.len);
    close(ends[1]);
    cr_assert_eq(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    struct source_file file = {.path = "-", .part = {"events", 0, DECODER_EVENTS, (int64_t)b.len / 100 * 60}};
    struct source_options o = options();
    struct source *s;
    cr_assert_eq(source_files_new(&o, &file, 1, &s, NULL), 0);
    const struct event *const *e;
    cr_assert_eq(poll_all(s, &e), 41);
    cr_assert(e[0]->ts == 1767225600060 && e[0]->offset == file.part.offset && e[40]->kind == EVENT_IDLE);
    source_free(s);
    buf_done(&b);
}

Test(source_file, errors)
{
    struct paths p = {0};
    struct source_options o = options();
    struct source *s = NULL;
    struct err err = {0};
    const struct event *const *e;
    uint32_t n;
    paths_add(&p, "{}\n", 3);
    p.files[0].part.offset = 4;
    cr_assert(source_files_new(&o, p.files, 1, &s, &err) == -1 && err.code == ERR_INVALID && s == NULL);
    struct source_file missing = {.path = "/nonexistent/x.jsonl"};
    cr_assert(source_files_new(&o, &missing, 1, &s, &err) == -1 && err.code == ERR_IO);
    cr_assert(strstr(err.message, "/nonexistent/x.jsonl") != NULL);
    struct source_file folder = {.path = "/tmp"};
    cr_assert_eq(source_files_new(&o, &folder, 1, &s, &err), 0);
    cr_assert(source_poll(s, 1, &e, &n, &err) == -1 && err.code == ERR_IO);
    cr_assert_eq(source_poll(s, 1, &e, &n, &err), -1);
    source_free(s);
    source_free(NULL);
    paths_done(&p);
}

// ---- a source by script -----------------------------------------------------------------------------------

// What each part gives in its next fetches: a ts a message, BAD is one that makes no sense; 0 ends the fetch, -1 is
// the end of the log, -2 stops the part.
enum { BAD = -3 };

struct script {
    struct source *source;
    const int64_t *parts[3];
    int64_t offset[3];
    uint32_t fetches;
    bool fails;
};

static int script_fetch(void *impl, uint32_t part, struct err *err)
{
    struct script *script = impl;
    script->fetches++;
    if (script->fails)
        return err_set(err, ERR_IO, "as the script says");
    for (; *script->parts[part] > 0 || *script->parts[part] == BAD; script->parts[part]++) {
        char text[128];
        int n =
            snprintf(text, sizeof text, "{\"type\":\"%s\",\"user_id\":1,\"item_id\":2,\"timestamp\":%lld}",
                     *script->parts[part] == BAD ? "none" : "click", (long long)*script->parts[part]);
        int64_t offset = script->offset[part]++;
        struct source_raw raw = {.value = {text, (uint32_t)n}, .offset = offset, .next_offset = offset + 1};
        source_push(script->source, part, &raw);
        source_push(script->source, part, &raw); // a redelivery
    }
    if (*script->parts[part] == -1)
        source_reached_end(script->source, part);
    const struct err gone = {ERR_OFFSET_GONE, false, "gone"};
    if (*script->parts[part] == -2)
        source_stop(script->source, part, &gone);
    return 0;
}

static void script_free(void *impl)
{
    (void)impl;
}

static const struct source_ops script_ops = {.fetch = script_fetch, .free = script_free};

static void script_open(struct script *script, uint32_t n)
{
    static const struct source_part parts[3];
    struct source_options o = options();
    test_now_us = 0;
    script->source = source_new(&o, &script_ops, script, parts, n);
}

// The ts of what one poll gives, by '+'-free text: "5 7 idle1 bad0".
static const char *poll_text(struct source *s)
{
    static char text[1000];
    const struct event *const *events;
    uint32_t n = poll_all(s, &events);
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < n; i++) {
        const char *space = i > 0 ? " " : "";
        if (events[i]->kind == EVENT_IDLE)
            at += (size_t)sprintf(text + at, "%sidle%u", space, events[i]->part);
        else if (events[i]->kind == EVENT_BAD)
            at += (size_t)sprintf(text + at, "%sbad%u", space, events[i]->part);
        else
            at += (size_t)sprintf(text + at, "%s%lld", space, (long long)events[i]->ts / 1000);
    }
    return text;
}

Test(source, waits_for_a_part_that_is_not_at_its_end)
{
    static const int64_t a[] = {10, 30, 50, -1};
    static const int64_t b[] = {0, 0};
    static const int64_t b2[] = {20, 40, 0};
    static const int64_t b3[] = {-1};
    struct script script = {.parts = {a, b}};
    script_open(&script, 2);
    cr_assert_str_eq(poll_text(script.source), "");
    script.parts[1] = b2;
    cr_assert_str_eq(poll_text(script.source), "10 20 30 40");
    cr_assert(!source_caught_up(script.source));
    script.parts[1] = b3;
    cr_assert_str_eq(poll_text(script.source), "50");
    cr_assert(source_caught_up(script.source) && !source_ended(script.source));
    source_free(script.source);
}

Test(source, idle_after_its_time_and_until_the_next_event)
{
    static const int64_t a[] = {10, -1};
    static const int64_t b[] = {-1};
    static const int64_t a2[] = {15, -1};
    struct script script = {.parts = {a, b}};
    struct source_part_status status;
    script_open(&script, 2);
    struct source *s = script.source;
    cr_assert_str_eq(poll_text(s), "10");
    test_now_us = 999999;
    cr_assert_str_eq(poll_text(s), "");
    test_now_us = 1000000;
    cr_assert_str_eq(poll_text(s), "idle0 idle1");
    source_part_status(s, 0, &status);
    cr_assert(status.idle && status.next_offset == 1);
    test_now_us = 9000000;
    cr_assert_str_eq(poll_text(s), "");
    script.parts[0] = a2;
    cr_assert_str_eq(poll_text(s), "15");
    source_part_status(s, 0, &status);
    cr_assert(!status.idle);
    test_now_us = 10000000;
    cr_assert_str_eq(poll_text(s), "idle0");
    source_free(s);
}

// A part that gives nothing but bad messages falls idle as one that gives nothing, and stays so.
Test(source, bad_messages_are_no_sign_of_life)
{
    static const int64_t a[] = {10, -1};
    static const int64_t bad[] = {BAD, BAD, -1};
    static const int64_t good[] = {BAD, 20, BAD, -1};
    struct script script = {.parts = {a, bad}};
    struct source_part_status status;
    script_open(&script, 2);
    struct source *s = script.source;
    cr_assert_str_eq(poll_text(s), "bad1 bad1 10");
    for (test_now_us = 100000; test_now_us < 1000000; test_now_us += 100000) {
        script.parts[1] = bad;
        cr_assert_str_eq(poll_text(s), "bad1 bad1");
    }
    script.parts[1] = bad;
    cr_assert_str_eq(poll_text(s), "idle0 bad1 bad1 idle1");
    script.parts[1] = bad;
    test_now_us = 2500000;
    cr_assert_str_eq(poll_text(s), "bad1 bad1"); // told once
    source_part_status(s, 1, &status);
    cr_assert(status.idle);
    script.parts[1] = good;
    cr_assert_str_eq(poll_text(s), "bad1 20 bad1");
    source_part_status(s, 1, &status);
    cr_assert_not(status.idle);
    script.parts[1] = bad;
    test_now_us = 3499999;
    cr_assert_str_eq(poll_text(s), "bad1 bad1");
    test_now_us = 3500000;
    cr_assert_str_eq(poll_text(s), "idle1");
    source_free(s);
}

Test(source, a_paused_part_is_not_idle)
{
    static const int64_t a[] = {10, -1};
    static const int64_t a2[] = {20, -1};
    struct script script = {.parts = {a}};
    script_open(&script, 1);
    struct source *s = script.source;
    cr_assert_str_eq(poll_text(s), "10");
    source_pause(s, true);
    script.parts[0] = a2;
    test_now_us = 5000000;
    cr_assert_str_eq(poll_text(s), "");
    source_pause(s, false);
    cr_assert_str_eq(poll_text(s), "20");
    source_pause(s, true);
    test_now_us = 9000000;
    source_pause(s, false);
    cr_assert_str_eq(poll_text(s), "");
    test_now_us = 10000000;
    cr_assert_str_eq(poll_text(s), "idle0");
    source_free(s);
}

// A process that stood still has not looked at the log: its parts are not idle when it wakes.
Test(source, time_without_polls_is_not_idleness)
{
    static const int64_t a[] = {10, -1};
    static const int64_t a2[] = {20, -1};
    const struct source_part part = {0};
    struct script script = {.parts = {a}};
    struct source_options o = options();
    o.idle_after_ms = 10000;
    test_now_us = 0;
    struct source *s = script.source = source_new(&o, &script_ops, &script, &part, 1);
    cr_assert_str_eq(poll_text(s), "10");
    test_now_us = INT64_C(3600) * 1000000;
    cr_assert_str_eq(poll_text(s), "");
    script.parts[0] = a2;
    cr_assert_str_eq(poll_text(s), "20");
    for (int i = 0; i < 10; i++) {
        cr_assert_str_eq(poll_text(s), "");
        test_now_us += 1000000;
    }
    cr_assert_str_eq(poll_text(s), "idle0");
    source_free(s);
}

Test(source, a_stopped_part_is_neither_waited_for_nor_idle)
{
    static const int64_t a[] = {10, 30, -2};
    static const int64_t b[] = {20, 40, -1};
    struct script script = {.parts = {a, b}};
    struct source_part_status status;
    script_open(&script, 2);
    cr_assert_str_eq(poll_text(script.source), "10 20 30 40");
    test_now_us = 5000000;
    cr_assert_str_eq(poll_text(script.source), "idle1");
    source_part_status(script.source, 0, &status);
    cr_assert(status.stopped && status.error.code == ERR_OFFSET_GONE && !status.idle);
    cr_assert(!source_caught_up(script.source));
    source_free(script.source);
}

Test(source, a_failed_source_hands_out_what_is_in_order_first)
{
    static const int64_t a[] = {10, 20, 0};
    static const int64_t b[] = {15, 30, 0};
    struct script script = {.parts = {a, b}};
    const struct event *const *e;
    uint32_t n;
    struct err err = {0};
    script_open(&script, 2);
    cr_assert(source_poll(script.source, 1, &e, &n, &err) == 0 && n == 1);
    script.fails = true;
    cr_assert_str_eq(poll_text(script.source), "15 20");
    cr_assert(source_poll(script.source, 9, &e, &n, &err) == -1 && err.code == ERR_IO);
    source_free(script.source);
}

Test(source, an_empty_part_is_asked_once_a_poll)
{
    static const int64_t a[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, -1};
    static const int64_t b[] = {-1};
    struct script script = {.parts = {a, b, b}};
    script_open(&script, 3);
    cr_assert_str_eq(poll_text(script.source), "1 2 3 4 5 6 7 8 9");
    cr_assert_leq(script.fetches, 4);
    source_free(script.source);
}
