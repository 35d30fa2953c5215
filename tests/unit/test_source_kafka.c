// SPDX-License-Identifier: Apache-2.0
// The Kafka source on the embedded broker: order, exact resumption, offsets that are gone, ends and idleness,
// a broker that goes away and comes back.
#include "kafka_twin.h"

#include "base/rng.h"
#include "stream/source.h"

enum { PARTS = 4 };

static const int64_t day = INT64_C(1767225600000);

struct turned_clock {
    int64_t us;
};

static int64_t turned_us(void *context)
{
    return ((const struct turned_clock *)context)->us;
}

static int64_t turned_ms(void *context)
{
    return turned_us(context) / 1000;
}

static struct source_options options_of(struct turned_clock *clock)
{
    static const char *const actions[] = {"impression", "click",  "like",    "collect", "share",
                                          "comment",    "follow", "dislike", "watch"};
    return (struct source_options){
        .decode = {.actions = actions, .n_actions = 9, .max_future_ms = INT64_C(1) << 50},
        .clock = {turned_ms, turned_us, clock},
        .idle_after_ms = 1000,
    };
}

struct twin {
    struct broker *broker;
    rd_kafka_t *producer;
    struct turned_clock clock;
    struct source_part parts[PARTS];
    int64_t produced[PARTS];
};

static void twin_init(struct twin *t)
{
    *t = (struct twin){.broker = twin_broker("events", PARTS), .clock = {1}};
    t->producer = twin_handle(RD_KAFKA_PRODUCER, broker_address(t->broker));
    for (int i = 0; i < PARTS; i++)
        t->parts[i] = (struct source_part){"events", i, DECODER_EVENTS, SOURCE_OFFSET_START};
}

static void twin_done(struct twin *t)
{
    rd_kafka_destroy(t->producer);
}

static void twin_event(struct twin *t, int32_t part, int64_t ts)
{
    char json[200];
    int n = snprintf(json, sizeof json,
                     "{\"type\":\"click\",\"user_id\":\"u%d\",\"item_id\":%lld,\"timestamp\":%lld}", part,
                     (long long)t->produced[part]++, (long long)ts);
    twin_produce(t->producer, "events", part, json, (size_t)n);
}

static struct source *twin_source(struct twin *t)
{
    const char *conf[] = {"bootstrap.servers", broker_address(t->broker), "reconnect.backoff.max.ms", "200",
                          "fetch.wait.max.ms", "10",
                          // what the source must not believe
                          "auto.offset.reset", "latest", "enable.partition.eof", "false", NULL};
    const struct source_options options = options_of(&t->clock);
    struct source *s = NULL;
    struct err err = {0};
    cr_assert_eq(source_kafka_new(&options, conf, t->parts, PARTS, &s, &err), 0, "%s", err.message);
    return s;
}

struct seen {
    enum event_kind kind;
    uint16_t part;
    int64_t ts, offset, next_offset, append_ms;
    char item[24];
};

// One poll; what comes is appended. Returns the number.
static uint32_t poll_once(struct source *s, uint32_t max, struct seen *seen)
{
    const struct event *const *events;
    uint32_t n = 0;
    struct err err = {0};
    cr_assert_eq(source_poll(s, max, &events, &n, &err), 0, "%s", err.message);
    cr_assert_leq(n, max);
    for (uint32_t i = 0; i < n; i++) {
        const struct event *e = events[i];
        seen[i] = (struct seen){e->kind, e->part, e->ts, e->offset, e->next_offset, e->append_ms, ""};
        if (e->kind == EVENT_ACTION)
            snprintf(seen[i].item, sizeof seen[i].item, "%.*s", (int)e->items[0].text.len,
                     e->items[0].text.s);
    }
    return n;
}

static void collect(struct source *s, struct seen *seen, uint32_t want)
{
    int64_t deadline = twin_deadline();
    for (uint32_t got = 0; got < want;) {
        uint32_t n = poll_once(s, want - got < 333 ? want - got : 333, seen + got);
        got += n;
        cr_assert(!twin_late(deadline), "%u of %u events", got, want);
        if (n == 0)
            twin_wait(source_fd(s));
    }
}

// Polls until `done` of the source; no event may come.
static void poll_until(struct source *s, bool (*done)(const struct source *s))
{
    struct seen none;
    for (int64_t deadline = twin_deadline(); !done(s);) {
        cr_assert_eq(poll_once(s, 1, &none), 0);
        cr_assert(!twin_late(deadline));
        twin_wait(source_fd(s));
    }
}

static bool has_error(const struct source *s)
{
    struct err err;
    source_error(s, &err);
    return err.code != ERR_NONE;
}

static bool has_no_error(const struct source *s)
{
    return !has_error(s);
}

// The order that is promised, by brute force: always the part with the least head.
static void merge_twin(int64_t *const ts[PARTS], const uint32_t n[PARTS], struct seen *to)
{
    uint32_t at[PARTS] = {0};
    for (;; to++) {
        int best = -1;
        for (int i = 0; i < PARTS; i++)
            if (at[i] < n[i] && (best < 0 || ts[i][at[i]] < ts[best][at[best]]))
                best = i;
        if (best < 0)
            return;
        *to = (struct seen){.part = (uint16_t)best, .ts = ts[best][at[best]], .offset = at[best]};
        at[best]++;
    }
}

enum { N = 6000 };

// N events over the partitions, unevenly, in an order that is only roughly that of time.
static void produce_merged(struct twin *t, struct seen *expected)
{
    struct rng g = rng_of(11);
    int64_t *ts[PARTS];
    uint32_t n[PARTS] = {0};
    for (int i = 0; i < PARTS; i++)
        ts[i] = mem_array(N, sizeof **ts);
    for (uint32_t i = 0; i < N; i++) {
        int part = rng_below(&g, 10) < 6 ? 2 : (int)rng_below(&g, PARTS);
        ts[part][n[part]] = day + i * 10 + (int64_t)rng_below(&g, 300);
        twin_event(t, part, ts[part][n[part]++]);
    }
    twin_flush(t->producer);
    merge_twin(ts, n, expected);
    for (int i = 0; i < PARTS; i++)
        free(ts[i]);
}

static void same(const struct seen *got, const struct seen *expected, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        char item[24];
        snprintf(item, sizeof item, "%lld", (long long)expected[i].offset);
        cr_assert(got[i].kind == EVENT_ACTION && got[i].part == expected[i].part &&
                      got[i].ts == expected[i].ts && got[i].offset == expected[i].offset &&
                      got[i].next_offset == expected[i].offset + 1,
                  "event %u: part %u offset %lld", i, got[i].part, (long long)got[i].offset);
        cr_assert_str_eq(got[i].item, item);
        cr_assert_gt(got[i].append_ms, 0);
    }
}

Test(source_kafka, merges_partitions_by_event_time)
{
    struct twin t;
    struct seen *expected = mem_array(N, sizeof *expected);
    struct seen *got = mem_array(N, sizeof *got);
    twin_init(&t);
    produce_merged(&t, expected);
    struct source *s = twin_source(&t);
    collect(s, got, N);
    same(got, expected, N);
    poll_until(s, source_caught_up);
    for (uint32_t i = 0; i < PARTS; i++) {
        struct source_part_status status;
        source_part_status(s, i, &status);
        cr_assert(status.at_end && !status.idle && !status.stopped && status.error.code == ERR_NONE);
        cr_assert(status.lag == 0 && status.end_offset == t.produced[i] &&
                  status.next_offset == t.produced[i]);
    }
    cr_assert_not(source_ended(s));
    source_free(s);
    twin_done(&t);
    free(expected);
    free(got);
}

Test(source_kafka, goes_on_exactly_where_it_was)
{
    struct twin t;
    struct rng g = rng_of(5);
    struct seen *expected = mem_array(N, sizeof *expected);
    struct seen *got = mem_array(N, sizeof *got);
    twin_init(&t);
    produce_merged(&t, expected);
    for (uint32_t done = 0; done < N;) {
        uint32_t n = 500 + (uint32_t)rng_below(&g, 2000);
        n = n < N - done ? n : N - done;
        struct source *s = twin_source(&t);
        collect(s, got + done, n);
        for (uint32_t i = done; i < done + n; i++)
            t.parts[got[i].part].offset = got[i].next_offset;
        done += n;
        source_free(s);
    }
    same(got, expected, N);
    twin_done(&t);
    free(expected);
    free(got);
}

static bool part_0_stopped(const struct source *s)
{
    struct source_part_status status;
    source_part_status(s, 0, &status);
    return status.stopped;
}

static void expect_gone(struct source *s, const char *ours, const char *held)
{
    struct source_part_status status;
    source_part_status(s, 0, &status);
    cr_assert_eq(status.error.code, ERR_OFFSET_GONE, "%s", status.error.message);
    cr_assert_not_null(strstr(status.error.message, "topic events partition 0"), "%s", status.error.message);
    cr_assert_not_null(strstr(status.error.message, ours), "%s", status.error.message);
    cr_assert_not_null(strstr(status.error.message, held), "%s", status.error.message);
    cr_assert_not_null(strstr(status.error.message, "To go on"), "%s", status.error.message);
}

Test(source_kafka, an_offset_beyond_the_end_stops_its_part_alone)
{
    struct twin t;
    struct seen got[2];
    twin_init(&t);
    twin_event(&t, 0, day);
    twin_event(&t, 1, day + 1);
    twin_event(&t, 3, day + 2);
    twin_flush(t.producer);
    t.parts[0].offset = 77;
    struct source *s = twin_source(&t);
    collect(s, got, 2);
    cr_assert(got[0].part == 1 && got[1].part == 3);
    poll_until(s, part_0_stopped);
    expect_gone(s, "77", "0 to 1");
    source_free(s);
    twin_done(&t);
}

Test(source_kafka, an_offset_that_was_deleted_stops_its_part)
{
    enum { BIG = 64 << 10, COUNT = 120 }; // more than the 5 MB that the embedded broker keeps
    struct twin t;
    twin_init(&t);
    char *value = mem_zalloc(BIG);
    memset(value, 'x', BIG);
    for (int i = 0; i < COUNT; i++)
        twin_produce(t.producer, "events", 0, value, BIG);
    twin_flush(t.producer);
    t.parts[0].offset = 1;
    struct source *s = twin_source(&t);
    poll_until(s, part_0_stopped);
    expect_gone(s, "the next offset, 1, is gone", "to 120");
    source_free(s);
    twin_done(&t);
    free(value);
}

Test(source_kafka, an_end_makes_idle_and_a_message_ends_it)
{
    struct twin t;
    struct seen got[PARTS + 1];
    struct source_part_status status;
    twin_init(&t);
    struct source *s = twin_source(&t);
    poll_until(s, source_caught_up); // no EVENT_IDLE: the clock stands
    t.clock.us += 1000 * 1000;
    collect(s, got, PARTS);
    bool idle[PARTS] = {false};
    for (int i = 0; i < PARTS; i++) {
        cr_assert(got[i].kind == EVENT_IDLE && !idle[got[i].part]);
        idle[got[i].part] = true;
    }
    t.clock.us += 5000 * 1000;
    cr_assert_eq(poll_once(s, PARTS, got), 0); // told once
    twin_event(&t, 2, day);
    twin_flush(t.producer);
    collect(s, got, 1);
    cr_assert(got[0].kind == EVENT_ACTION && got[0].part == 2);
    source_part_status(s, 2, &status);
    cr_assert_not(status.idle);
    poll_until(s, source_caught_up);
    t.clock.us += 1000 * 1000;
    collect(s, got, 1);
    cr_assert(got[0].kind == EVENT_IDLE && got[0].part == 2);
    source_free(s);
    twin_done(&t);
}

Test(source_kafka, a_bad_message_comes_with_its_bytes)
{
    struct twin t;
    twin_init(&t);
    twin_produce(t.producer, "events", 1, "no json", 7);
    twin_flush(t.producer);
    struct source *s = twin_source(&t);
    const struct event *const *events;
    uint32_t n = 0;
    struct err err = {0};
    for (int64_t deadline = twin_deadline(); n == 0;) {
        cr_assert_eq(source_poll(s, 10, &events, &n, &err), 0, "%s", err.message);
        cr_assert(!twin_late(deadline));
        if (n == 0)
            twin_wait(source_fd(s));
    }
    cr_assert(n == 1 && events[0]->kind == EVENT_BAD && events[0]->bad == EVENT_BAD_JSON);
    cr_assert(str_is(events[0]->raw, "no json") && events[0]->offset == 0 && events[0]->part == 1);
    source_free(s);
    twin_done(&t);
}

Test(source_kafka, a_pause_holds_everything_back)
{
    struct twin t;
    struct seen got[1];
    twin_init(&t);
    struct source *s = twin_source(&t);
    poll_until(s, source_caught_up);
    source_pause(s, true);
    twin_event(&t, 0, day);
    twin_flush(t.producer);
    t.clock.us += 10 * 1000 * 1000;
    twin_wait(source_fd(s));
    cr_assert_eq(poll_once(s, 1, got), 0);
    source_pause(s, false);
    collect(s, got, 1);
    cr_assert(got[0].kind == EVENT_ACTION && got[0].part == 0);
    source_free(s);
    twin_done(&t);
}

Test(source_kafka, a_broker_goes_and_comes_back)
{
    struct twin t;
    struct seen got[2];
    struct err err;
    twin_init(&t);
    twin_event(&t, 0, day);
    twin_flush(t.producer);
    struct source *s = twin_source(&t);
    collect(s, got, 1);
    rd_kafka_mock_broker_set_down(t.broker->cluster, -1);
    poll_until(s, has_error);
    source_error(s, &err);
    cr_assert(err.code == ERR_UNAVAILABLE && err.retriable, "%s", err.message);
    for (int i = 0; i < 60; i++) { // and a minute of it is no idleness: nobody knows what is in the log
        t.clock.us += 1000 * 1000;
        cr_assert(poll_once(s, 2, got) == 0 || !has_error(s));
    }
    rd_kafka_mock_broker_set_up(t.broker->cluster, -1);
    poll_until(s, has_no_error); // without any message
    twin_event(&t, 0, day + 1);
    twin_flush(t.producer);
    collect(s, got, 1);
    cr_assert(got[0].part == 0 && got[0].offset == 1);
    source_free(s);
    twin_done(&t);
}

Test(source_kafka, starts_without_a_broker)
{
    struct turned_clock clock = {1};
    const struct source_options options = options_of(&clock);
    const struct source_part part = {"events", 0, DECODER_EVENTS, 5};
    const char *conf[] = {"bootstrap.servers", "127.0.0.1:1", NULL};
    struct source *s = NULL;
    struct err err = {0};
    cr_assert_eq(source_kafka_new(&options, conf, &part, 1, &s, &err), 0, "%s", err.message);
    poll_until(s, has_error);
    source_error(s, &err);
    cr_assert_eq(err.code, ERR_UNAVAILABLE);
    cr_assert_not_null(strstr(err.message, "127.0.0.1:1"), "%s", err.message);
    source_free(s);
}

static bool part_0_hurt(const struct source *s)
{
    struct source_part_status status;
    source_part_status(s, 0, &status);
    return status.error.code != ERR_NONE;
}

Test(source_kafka, a_missing_topic_is_an_error_that_waits)
{
    struct broker *b = twin_broker("events", 1);
    rd_kafka_mock_topic_set_error(b->cluster, "elsewhere", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    struct turned_clock clock = {1};
    const struct source_options options = options_of(&clock);
    const struct source_part part = {"elsewhere", 0, DECODER_EVENTS, SOURCE_OFFSET_START};
    const char *conf[] = {"bootstrap.servers",
                          broker_address(b),
                          "topic.metadata.propagation.max.ms",
                          "0",
                          "topic.metadata.refresh.interval.ms",
                          "100",
                          NULL};
    struct source *s = NULL;
    struct err err = {0};
    cr_assert_eq(source_kafka_new(&options, conf, &part, 1, &s, &err), 0, "%s", err.message);
    poll_until(s, part_0_hurt);
    struct source_part_status status;
    source_part_status(s, 0, &status);
    cr_assert(status.error.code == ERR_NOT_FOUND && !status.stopped && !status.at_end, "%s",
              status.error.message);
    source_free(s);
}

Test(source_kafka, a_hint_is_what_lag_tools_see)
{
    struct twin t;
    twin_init(&t);
    struct source *s = twin_source(&t);
    const int64_t offsets[PARTS] = {3, -1, 0, 9};
    source_commit_hint(s, offsets);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(PARTS);
    for (int i = 0; i < PARTS; i++)
        rd_kafka_topic_partition_list_add(list, "events", i);
    char errstr[200];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", broker_address(t.broker), errstr, sizeof errstr);
    rd_kafka_conf_set(conf, "group.id", "freshet", errstr, sizeof errstr);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, errstr, sizeof errstr);
    cr_assert_not_null(rk);
    for (int64_t deadline = twin_deadline(); list->elems[3].offset != 9;) {
        rd_kafka_committed(rk, list, TWIN_WAIT_MS);
        cr_assert(!twin_late(deadline));
    }
    cr_assert(list->elems[0].offset == 3 && list->elems[1].offset < 0 && list->elems[2].offset == 0);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
    source_free(s);
    twin_done(&t);
}
