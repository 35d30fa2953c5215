// SPDX-License-Identifier: Apache-2.0
// The sinks: everything arrives, in order, and is reported; what is lost on the way is asked for again.
#include "kafka_twin.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "stream/sink.h"

enum { API_PRODUCE = 0 };

static struct sink *twin_sink(const struct broker *b, const char *name, const char *value)
{
    const char *conf[] = {
        "bootstrap.servers", broker_address(b), "reconnect.backoff.max.ms", "200", name, value, NULL};
    struct sink *s = NULL;
    struct err err = {0};
    cr_assert_eq(sink_kafka_new(conf, &s, &err), 0, "%s", err.message);
    return s;
}

static int send_one(struct sink *s, uint64_t sequence, struct err *err)
{
    char value[40];
    snprintf(value, sizeof value, "value %llu", (unsigned long long)sequence);
    const struct sink_message m = {
        .topic = "out", .partition = 0, .key = str_of("k"), .value = str_of(value), .sequence = sequence};
    return sink_send(s, &m, err);
}

// Sends `from` .. `to`, waiting where the queue is full and beginning again where the sink says so, until all
// is delivered. Returns how often it began again.
static int deliver(struct sink *s, uint64_t from, uint64_t to)
{
    int resets = 0;
    uint64_t next = from;
    uint64_t before = 0;
    for (int64_t deadline = twin_deadline();;) {
        struct err err = {0};
        while (next <= to && send_one(s, next, &err) == 0)
            next++;
        cr_assert(next > to || (err.code == ERR_LIMIT && err.retriable) || err.retriable, "%s", err.message);
        uint64_t delivered = sink_poll(s);
        cr_assert(delivered >= before && delivered < next);
        bool moved = delivered > before;
        before = delivered;
        if (sink_reset(s)) {
            cr_assert_not(sink_reset(s)); // once
            resets++;
            next = delivered + 1 > from ? delivered + 1 : from;
        }
        if (delivered == to)
            break;
        cr_assert(!twin_late(deadline), "%llu of %llu", (unsigned long long)delivered,
                  (unsigned long long)to);
        if (!moved)
            twin_wait(sink_fd(s));
    }
    cr_assert_eq(sink_under_way(s), 0);
    return resets;
}

// Reads the topic back: the values 1 .. n, each at least once; the first of each in order.
static void expect_read_back(const struct broker *b, uint64_t n, bool exactly)
{
    enum { MAX = 60000 };
    rd_kafka_message_t **messages = mem_array(MAX, sizeof *messages);
    rd_kafka_t *rk;
    uint32_t got = twin_read(broker_address(b), "out", 0, messages, MAX, &rk);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < got; i++) {
        char value[40];
        snprintf(value, sizeof value, "%.*s", (int)messages[i]->len, (const char *)messages[i]->payload);
        uint64_t sequence = strtoull(value + strlen("value "), NULL, 10);
        cr_assert_leq(sequence, seen + 1, "%s after %llu", value, (unsigned long long)seen);
        seen = sequence == seen + 1 ? sequence : seen;
        rd_kafka_message_destroy(messages[i]);
    }
    cr_assert_eq(seen, n);
    cr_assert(!exactly || got == n, "%u messages for %llu", got, (unsigned long long)n);
    rd_kafka_destroy(rk);
    free(messages);
}

static void expect_no_error(const struct sink *s)
{
    struct err err;
    sink_error(s, &err);
    cr_assert_eq(err.code, ERR_NONE, "%s", err.message);
}

Test(sink_kafka, delivers_in_order)
{
    struct broker *b = twin_broker("out", 1);
    struct sink *s = twin_sink(b, "linger.ms", "1");
    cr_assert_eq(sink_poll(s), 0);
    cr_assert_eq(deliver(s, 1, 20000), 0);
    expect_no_error(s);
    sink_free(s);
    expect_read_back(b, 20000, true);
}

Test(sink_kafka, a_full_queue_says_so_and_empties)
{
    struct broker *b = twin_broker("out", 1);
    struct sink *s = twin_sink(b, "queue.buffering.max.messages", "50");
    struct err err = {0};
    uint64_t next = 1;
    while (send_one(s, next, &err) == 0)
        cr_assert_leq(++next, 1000);
    cr_assert(err.code == ERR_LIMIT && err.retriable, "%s", err.message);
    cr_assert_gt(sink_under_way(s), 0);
    deliver(s, next, 2000);
    sink_free(s);
    expect_read_back(b, 2000, true);
}

Test(sink_kafka, keeps_key_headers_and_null)
{
    struct broker *b = twin_broker("out", 1);
    struct sink *s = twin_sink(b, "linger.ms", "0");
    const struct sink_header headers[] = {{str_of("exception.reason"), str_of("json")},
                                          {str_of("b"), {"\0x", 2}}};
    const struct sink_message bad = {"out", 0, {"\xff\0", 2}, {"\0\1\2", 3}, headers, 2, 7};
    const struct sink_message none = {.topic = "out", .partition = 0, .key = str_of("gone"), .sequence = 9};
    struct err err = {0};
    cr_assert_eq(sink_send(s, &bad, &err), 0, "%s", err.message);
    cr_assert_eq(sink_send(s, &none, &err), 0, "%s", err.message);
    for (int64_t deadline = twin_deadline(); sink_poll(s) != 9; twin_wait(sink_fd(s)))
        cr_assert(!twin_late(deadline));
    sink_free(s);
    rd_kafka_message_t *m[3];
    rd_kafka_t *rk;
    cr_assert_eq(twin_read(broker_address(b), "out", 0, m, 3, &rk), 2);
    cr_assert(m[0]->key_len == 2 && memcmp(m[0]->key, "\xff\0", 2) == 0);
    cr_assert(m[0]->len == 3 && memcmp(m[0]->payload, "\0\1\2", 3) == 0);
    rd_kafka_headers_t *got;
    const void *value;
    size_t size;
    cr_assert_eq(rd_kafka_message_headers(m[0], &got), RD_KAFKA_RESP_ERR_NO_ERROR);
    cr_assert_eq(rd_kafka_header_get_last(got, "b", &value, &size), RD_KAFKA_RESP_ERR_NO_ERROR);
    cr_assert(size == 2 && memcmp(value, "\0x", 2) == 0);
    cr_assert(m[1]->payload == NULL && m[1]->key_len == 4);
    rd_kafka_message_destroy(m[0]);
    rd_kafka_message_destroy(m[1]);
    rd_kafka_destroy(rk);
}

// Errors that librdkafka passes on to the messages, and one that is fatal to an idempotent producer: either
// way the sink says once that it begins anew. One request at a time: the embedded broker takes what is in
// flight behind a refused request, where a real one refuses it by its sequence.
static void lose_and_recover(rd_kafka_resp_err_t code)
{
    struct broker *b = twin_broker("out", 1);
    struct sink *s = twin_sink(b, "max.in.flight", "1");
    struct err err;
    cr_assert_eq(deliver(s, 1, 100), 0);
    rd_kafka_mock_push_request_errors(b->cluster, API_PRODUCE, 1, code);
    cr_assert_eq(deliver(s, 101, 3000), 1);
    sink_error(s, &err);
    cr_assert_eq(err.code, ERR_NONE, "%s", err.message);
    sink_free(s);
    expect_read_back(b, 3000, false);
}

Test(sink_kafka, begins_anew_when_messages_are_refused)
{
    lose_and_recover(RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
}

Test(sink_kafka, begins_anew_after_a_fatal_error)
{
    lose_and_recover(RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
}

Test(sink_kafka, takes_nothing_before_the_reset_is_read)
{
    struct broker *b = twin_broker("out", 1);
    struct sink *s = twin_sink(b, "linger.ms", "0");
    struct err err = {0};
    rd_kafka_mock_push_request_errors(b->cluster, API_PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    cr_assert_eq(send_one(s, 1, &err), 0, "%s", err.message);
    for (int64_t deadline = twin_deadline(); sink_under_way(s) > 0; twin_wait(sink_fd(s))) {
        cr_assert_eq(sink_poll(s), 0);
        cr_assert(!twin_late(deadline));
    }
    cr_assert_eq(send_one(s, 2, &err), -1);
    cr_assert(err.code == ERR_LIMIT && err.retriable);
    sink_error(s, &err);
    cr_assert(err.code == ERR_UNAVAILABLE && strstr(err.message, "topic out") != NULL, "%s", err.message);
    cr_assert(sink_reset(s));
    deliver(s, 1, 2);
    sink_free(s);
    expect_read_back(b, 2, true);
}

Test(sink_kafka, waits_for_a_broker_that_is_away)
{
    struct broker *b = twin_broker("out", 1);
    struct sink *s = twin_sink(b, "linger.ms", "1");
    struct err err = {0};
    cr_assert_eq(deliver(s, 1, 10), 0);
    rd_kafka_mock_broker_set_down(b->cluster, -1);
    cr_assert_eq(send_one(s, 11, &err), 0, "%s", err.message);
    for (int64_t deadline = twin_deadline(); err.code == ERR_NONE; sink_error(s, &err)) {
        cr_assert_eq(sink_poll(s), 10);
        cr_assert(!twin_late(deadline));
        twin_wait(sink_fd(s));
    }
    cr_assert(err.code == ERR_UNAVAILABLE && err.retriable, "%s", err.message);
    rd_kafka_mock_broker_set_up(b->cluster, -1);
    cr_assert_eq(deliver(s, 12, 20), 0);
    expect_no_error(s);
    sink_free(s);
    expect_read_back(b, 20, false);
}

Test(sink_kafka, a_message_that_is_too_large_is_refused_for_good)
{
    struct broker *b = twin_broker("out", 1);
    struct sink *s = twin_sink(b, "message.max.bytes", "1000");
    char *value = mem_zalloc(5000);
    const struct sink_message m = {.topic = "out", .value = {value, 5000}, .sequence = 1};
    struct err err = {0};
    cr_assert_eq(sink_send(s, &m, &err), -1);
    cr_assert(err.code == ERR_LIMIT && !err.retriable, "%s", err.message);
    deliver(s, 1, 3);
    free(value);
    sink_free(s);
}

Test(sink_kafka, is_freed_in_bounded_time_without_a_broker)
{
    const char *conf[] = {"bootstrap.servers", "127.0.0.1:1", NULL};
    struct sink *s = NULL;
    struct err err = {0};
    cr_assert_eq(sink_kafka_new(conf, &s, &err), 0, "%s", err.message);
    cr_assert_eq(send_one(s, 1, &err), 0, "%s", err.message);
    cr_assert_eq(sink_poll(s), 0);
    sink_free(s);
}

// -----------------------------------------------------------------------------------------------------------

struct folder {
    char dir[64];
    char path[96];
};

static void folder_init(struct folder *f)
{
    snprintf(f->dir, sizeof f->dir, "/tmp/test_sink.XXXXXX");
    cr_assert_not_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/out.jsonl", f->dir);
}

static void folder_done(struct folder *f)
{
    unlink(f->path);
    cr_assert_eq(rmdir(f->dir), 0);
}

static void expect_file(const struct folder *f, const char *expected)
{
    char text[4096];
    int fd = open(f->path, O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    cr_assert_geq(n, 0);
    text[n] = '\0';
    cr_assert_str_eq(text, expected);
}

static struct sink *files(const struct folder *f)
{
    struct sink *s = NULL;
    struct err err = {0};
    cr_assert_eq(sink_files_new(f->dir, &s, &err), 0, "%s", err.message);
    return s;
}

static void put(struct sink *s, struct str key, struct str value, uint64_t sequence)
{
    const struct sink_header header = {str_of("reason"), str_of("json")};
    const struct sink_message m = {"out", -1, key, value, &header, 1, sequence};
    struct err err = {0};
    cr_assert_eq(sink_send(s, &m, &err), 0, "%s", err.message);
}

Test(sink_files, writes_a_line_a_message)
{
    struct folder f;
    folder_init(&f);
    struct sink *s = files(&f);
    put(s, str_of("u1"), str_of("{\"a\":1}"), 3);
    put(s, (struct str){NULL, 0}, (struct str){"\xff\xfe\0", 3}, 4);
    put(s, (struct str){"\x80", 1}, (struct str){NULL, 0}, 9);
    cr_assert(sink_under_way(s) == 3 && sink_fd(s) == -1);
    cr_assert_eq(sink_poll(s), 9);
    cr_assert(sink_under_way(s) == 0 && !sink_reset(s));
    expect_file(&f, "{\"key\":\"u1\",\"value\":\"{\\\"a\\\":1}\",\"headers\":{\"reason\":\"json\"}}\n"
                    "{\"key\":null,\"value_base64\":\"//4A\",\"headers\":{\"reason\":\"json\"}}\n"
                    "{\"key_base64\":\"gA==\",\"value\":null,\"headers\":{\"reason\":\"json\"}}\n");
    sink_free(s);
    folder_done(&f);
}

Test(sink_files, goes_on_behind_whole_lines)
{
    struct folder f;
    folder_init(&f);
    FILE *file = fopen(f.path, "w");
    fputs("{\"whole\":1}\n{\"half", file);
    fclose(file);
    struct sink *s = files(&f);
    put(s, str_of("k"), str_of("v"), 1);
    sink_free(s); // writes what waits
    expect_file(&f, "{\"whole\":1}\n{\"key\":\"k\",\"value\":\"v\",\"headers\":{\"reason\":\"json\"}}\n");
    folder_done(&f);
}

Test(sink_files, refuses_a_topic_that_is_a_path)
{
    struct folder f;
    folder_init(&f);
    struct sink *s = files(&f);
    static const char *const names[] = {"../out", "", ".", "..", "a/b", "caf\xc3\xa9"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct sink_message m = {.topic = names[i], .value = str_of("v"), .sequence = 1};
        struct err err = {0};
        cr_assert_eq(sink_send(s, &m, &err), -1);
        cr_assert_eq(err.code, ERR_INVALID);
    }
    sink_free(s);
    folder_done(&f);
}

Test(sink_files, a_folder_that_cannot_be_is_an_error)
{
    struct sink *s = NULL;
    struct err err = {0};
    cr_assert_eq(sink_files_new("/dev/null/folder", &s, &err), -1);
    cr_assert_eq(err.code, ERR_IO);
    cr_assert_null(s);
}

static void limit_file_size(rlim_t bytes)
{
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

// A limit on the size of files stands for the full disk: the write stops in the middle of a line.
Test(sink_files, a_failed_write_is_tried_again_from_the_whole_lines)
{
    struct folder f;
    struct err err;
    folder_init(&f);
    signal(SIGXFSZ, SIG_IGN);
    struct sink *s = files(&f);
    put(s, str_of("k"), str_of("a"), 1);
    cr_assert_eq(sink_poll(s), 1);
    put(s, str_of("k"), str_of("b"), 2);
    put(s, str_of("k"), str_of("c"), 3);
    limit_file_size(100);
    cr_assert_eq(sink_poll(s), 1);
    sink_error(s, &err);
    cr_assert_eq(err.code, ERR_IO, "%s", err.message);
    cr_assert_eq(sink_under_way(s), 2);
    limit_file_size(RLIM_INFINITY);
    cr_assert_eq(sink_poll(s), 3);
    expect_no_error(s);
    expect_file(&f, "{\"key\":\"k\",\"value\":\"a\",\"headers\":{\"reason\":\"json\"}}\n"
                    "{\"key\":\"k\",\"value\":\"b\",\"headers\":{\"reason\":\"json\"}}\n"
                    "{\"key\":\"k\",\"value\":\"c\",\"headers\":{\"reason\":\"json\"}}\n");
    sink_free(s);
    folder_done(&f);
}
