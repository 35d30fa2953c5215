// SPDX-License-Identifier: Apache-2.0
// The decoder: every message of tests/corpus gives the reason in its file name, or is good; each field in
// detail; and no cut or changed byte of a message leads astray.
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "stream/event.h"
#include "stream/timestamp.h"

static const int64_t append = 1767225600000;
static struct decoder *decoder;
static struct arena arena;

static void setup(void)
{
    const struct decoder_options options = {action_names, ACTION_BUILTIN, 60000};
    decoder = decoder_new(&options);
}

static void teardown(void)
{
    decoder_free(decoder);
    arena_done(&arena);
}

// A copy of exactly the message and the padding, so that a sanitizer sees a read too far.
static struct event decode_as(enum decoder_kind kind, struct str key, const void *bytes, size_t n,
                              int64_t append_ms)
{
    char *message = arena_alloc(&arena, n + DECODER_PADDING, 1);
    if (n > 0)
        memcpy(message, bytes, n);
    memset(message + n, '7', DECODER_PADDING);
    struct event e;
    memset(&e, 0xa5, sizeof e);
    decoder_decode(decoder, kind, key, (struct str){message, (uint32_t)n}, append_ms, &arena, &e);
    cr_assert(e.raw.len == n && (n == 0 || memcmp(e.raw.s, bytes, n) == 0));
    cr_assert((e.kind == EVENT_BAD) == (e.bad != EVENT_BAD_NONE));
    cr_assert((e.kind == EVENT_BAD) == (e.detail[0] != '\0'));
    return e;
}

static struct event decode(const char *text)
{
    return decode_as(DECODER_EVENTS, (struct str){"", 0}, text, strlen(text), 0);
}

static void same(struct str got, const char *text)
{
    cr_assert(str_is(got, text), "%.*s", (int)got.len, got.s);
}

TestSuite(decode, .init = setup, .fini = teardown);

// ---- corpus -----------------------------------------------------------------------------------------------

static char *read_file(const char *name, size_t *ret_n)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/corpus/%s", TESTS_DIR, name);
    FILE *f = fopen(path, "rb");
    cr_assert(f != NULL, "%s", path);
    char *bytes = mem_alloc(4 << 20);
    *ret_n = fread(bytes, 1, 4 << 20, f);
    fclose(f);
    return bytes;
}

Test(decode, corpus)
{
    DIR *dir = opendir(TESTS_DIR "/corpus");
    cr_assert(dir != NULL);
    unsigned n = 0;
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        size_t reason = strcspn(d->d_name, "-");
        if (d->d_name[reason] != '-')
            continue;
        size_t size;
        char *bytes = read_file(d->d_name, &size);
        struct event e = decode_as(DECODER_EVENTS, (struct str){"", 0}, bytes, size, 0);
        const char *got = e.bad == EVENT_BAD_NONE ? "good" : event_bad_name(e.bad);
        cr_expect(strlen(got) == reason && strncmp(got, d->d_name, reason) == 0, "%s: %s (%s)", d->d_name,
                  got, e.detail);
        free(bytes);
        arena_clear(&arena);
        n++;
    }
    closedir(dir);
    cr_assert_gt(n, 150);
}

// No beginning of a good message is good, but the whole.
Test(decode, every_cut_is_malformed)
{
    static const char *const names[] = {"good-contract.json", "good-escapes.json", "good-context-types.json",
                                        "good-items.json", "good-unknown-fields.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t n;
        char *bytes = read_file(names[i], &n);
        for (size_t cut = 0; cut < n; cut++) {
            struct event e = decode_as(DECODER_EVENTS, (struct str){"", 0}, bytes, cut, 0);
            cr_assert_eq(e.bad, EVENT_BAD_JSON, "%s cut at %zu", names[i], cut);
        }
        free(bytes);
    }
}

// ---- fields -----------------------------------------------------------------------------------------------

Test(decode, every_field)
{
    struct event e = decode(
        "{\"event_id\":\"e1\",\"type\":\"impression\",\"user_id\":\"u1\",\"item_id\":\"i9\","
        "\"request_id\":7,\"position\":3,\"timestamp\":1767225600123,\"value\":-2.5,"
        "\"watch_ms\":12.9,\"context\": {\"device\":\"i\\u006fs\",\"n\":0.1,\"b\":true, \"z\":null} }");
    cr_assert_eq(e.kind, EVENT_ACTION, "%s", e.detail);
    cr_assert_eq(e.action, ACTION_IMPRESSION);
    cr_assert_eq(e.ts, 1767225600123);
    same(e.user_text, "u1");
    cr_assert_eq(e.user, hash_id(str_of("u1")));
    same(e.request_text, "7");
    cr_assert_eq(e.request, hash_id(str_of("7")));
    cr_assert_eq(e.event_id, hash_id(str_of("e1")));
    cr_assert_eq(e.n_items, 1);
    same(e.items[0].text, "i9");
    cr_assert_eq(e.items[0].id, hash_id(str_of("i9")));
    cr_assert_eq(e.items[0].position, 3);
    cr_assert(e.has_value && e.value == -2.5);
    cr_assert_eq(e.watch_ms, 12);
    cr_assert_eq(e.n_fields, 3);
    same(e.fields[0].name, "device");
    same(e.fields[0].s, "ios");
    cr_assert(e.fields[0].type == EVENT_STRING && e.fields[1].type == EVENT_NUMBER);
    cr_assert_eq(e.fields[1].n, 0.1);
    cr_assert(e.fields[2].type == EVENT_BOOL && e.fields[2].b);
    same(e.raw_fields, "{\"device\":\"i\\u006fs\",\"n\":0.1,\"b\":true, \"z\":null}");
}

Test(decode, absent_fields)
{
    struct event e = decode("{\"type\":\"click\",\"user_id\":7,\"item_id\":8,\"timestamp\":5}");
    cr_assert_eq(e.kind, EVENT_ACTION);
    cr_assert_eq(e.user, hash_id(str_of("7")));
    cr_assert_eq(e.ts, 5000);
    cr_assert(e.request == 0 && e.event_id == 0 && !e.has_value && e.watch_ms == 0);
    cr_assert(e.items[0].position == -1 && e.n_fields == 0 && e.raw_fields.len == 0);
}

Test(decode, items)
{
    struct event e =
        decode("{\"items\":[{\"item_id\":\"a\",\"position\":2},{\"x\":{},\"item_id\":7}],"
               "\"user_id\":\"u\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"type\":\"impression\"}");
    cr_assert_eq(e.kind, EVENT_ACTION, "%s", e.detail);
    cr_assert_eq(e.n_items, 2);
    same(e.items[1].text, "7");
    cr_assert(e.items[0].position == 2 && e.items[1].position == -1);
    cr_assert_eq(e.items[0].id, hash_id(str_of("a")));
}

Test(decode, future)
{
    char text[200];
    for (int64_t ahead = 59999; ahead <= 60001; ahead++) {
        int n =
            snprintf(text, sizeof text, "{\"type\":\"click\",\"user_id\":1,\"item_id\":2,\"timestamp\":%lld}",
                     (long long)append + ahead);
        struct event e = decode_as(DECODER_EVENTS, (struct str){"", 0}, text, (size_t)n, append);
        cr_assert_eq(e.bad, ahead > 60000 ? EVENT_BAD_FUTURE : EVENT_BAD_NONE);
        cr_assert_eq(decode(text).bad, EVENT_BAD_NONE);
    }
}

Test(decode, details)
{
    cr_assert_str_eq(decode("{\"type\":\"clik\",\"user_id\":1,\"item_id\":2,\"timestamp\":3}").detail,
                     "type: \"clik\" is unknown");
    cr_assert_str_eq(decode("{\"type\":\"click\",\"item_id\":2,\"timestamp\":3}").detail,
                     "user_id: is missing");
    cr_assert_str_eq(decode("{\"type\":\"click\",}").detail, "JSON: expected a name in quotes at byte 16");
    cr_assert_str_eq(decode("{\"type\":\"click\"").detail, "JSON: it is cut off at byte 15");
}

Test(decode, configured_actions)
{
    const char *names[] = {"impression", "click", "buy"};
    const struct decoder_options options = {names, 3, 0};
    decoder_free(decoder);
    decoder = decoder_new(&options);
    struct event e = decode("{\"type\":\"buy\",\"user_id\":1,\"item_id\":2,\"timestamp\":3}");
    cr_assert(e.kind == EVENT_ACTION && e.action == 2);
    cr_assert_eq(decode("{\"type\":\"like\",\"user_id\":1,\"item_id\":2,\"timestamp\":3}").bad,
                 EVENT_BAD_TYPE);
}

Test(decode, size_of_a_message)
{
    static const char head[] = "{\"type\":\"click\",\"user_id\":1,\"item_id\":2,\"timestamp\":3,\"x\":\"";
    size_t longest = EVENT_MESSAGE_BYTES;
    char *text = mem_alloc(longest + 2);
    memset(text, 'x', longest + 2);
    memcpy(text, head, sizeof head - 1);
    memcpy(text + longest - 2, "\"}", 2);
    cr_assert_eq(decode_as(DECODER_EVENTS, (struct str){"", 0}, text, longest, 0).bad, EVENT_BAD_NONE);
    memcpy(text + longest - 2, "xx\"}", 4);
    cr_assert_eq(decode_as(DECODER_EVENTS, (struct str){"", 0}, text, longest + 2, 0).bad, EVENT_BAD_SIZE);
    free(text);
}

// ---- profiles ---------------------------------------------------------------------------------------------

static struct event profile(enum decoder_kind kind, const char *text)
{
    return decode_as(kind, str_of("k"), text, strlen(text), 0);
}

Test(decode, profiles)
{
    struct event e = profile(
        DECODER_USERS, "{\"user_id\":\"u1\",\"timestamp\":7,\"attributes\":"
                       "{\"gender\":\"f\",\"age\":31,\"tags\":[\"a\",\"b\\n\"],\"none\":[],\"x\":null}}");
    cr_assert_eq(e.kind, EVENT_USER_PROFILE, "%s", e.detail);
    cr_assert_eq(e.user, hash_id(str_of("u1")));
    cr_assert(e.n_items == 0 && e.n_fields == 4 && !e.tombstone);
    cr_assert(e.fields[2].type == EVENT_LIST && e.fields[2].list.n == 2 && e.fields[3].list.n == 0);
    same(e.fields[2].list.v[1], "b\n");
    e = profile(DECODER_ITEMS,
                "{\"item_id\":9,\"user_id\":{},\"timestamp\":7,\"attributes\":{\"category\":\"shoes\"}}");
    cr_assert_eq(e.kind, EVENT_ITEM_PROFILE, "%s", e.detail);
    cr_assert(e.user == 0 && e.n_items == 1 && e.items[0].id == hash_id(str_of("9")));
}

Test(decode, bad_profiles)
{
    static const struct {
        const char *text;
        enum event_bad bad;
    } cases[] = {
        {"{\"timestamp\":7,\"attributes\":{}}", EVENT_BAD_USER},
        {"{\"user_id\":1,\"attributes\":{}}", EVENT_BAD_TIMESTAMP},
        {"{\"user_id\":1,\"timestamp\":7}", EVENT_BAD_ATTRIBUTES},
        {"{\"user_id\":1,\"timestamp\":7,\"attributes\":null}", EVENT_BAD_ATTRIBUTES},
        {"{\"user_id\":1,\"timestamp\":7,\"attributes\":[]}", EVENT_BAD_ATTRIBUTES},
        {"{\"user_id\":1,\"timestamp\":7,\"attributes\":{\"a\":{}}}", EVENT_BAD_ATTRIBUTES},
        {"{\"user_id\":1,\"timestamp\":7,\"attributes\":{\"a\":[1]}}", EVENT_BAD_ATTRIBUTES},
        {"{\"user_id\":1,\"timestamp\":7,\"attributes\":{\"a\":[[]]}}", EVENT_BAD_ATTRIBUTES},
        {"{\"user_id\":1,\"timestamp\":7,\"attributes\":{\"a\":1e999}}", EVENT_BAD_ATTRIBUTES},
        {"{\"user_id\":1,\"timestamp\":7,\"attributes\":{\"a\":1,\"a\":1}}", EVENT_BAD_JSON},
        {"{\"user_id\":1,\"timestamp\":7,\"attributes\":{\"a\":[\"b\",]}}", EVENT_BAD_JSON},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert_eq(profile(DECODER_USERS, cases[i].text).bad, cases[i].bad, "%s", cases[i].text);
}

Test(decode, long_lists)
{
    char *text = mem_alloc(1 << 20);
    for (int n = EVENT_LIST_MAX; n <= EVENT_LIST_MAX + 1; n++) {
        int at = sprintf(text, "{\"user_id\":1,\"timestamp\":7,\"attributes\":{\"a\":[\"0\"");
        for (int i = 1; i < n; i++)
            at += sprintf(text + at, ",\"%d\"", i);
        sprintf(text + at, "]}}");
        struct event e = profile(DECODER_USERS, text);
        cr_assert_eq(e.bad, n > EVENT_LIST_MAX ? EVENT_BAD_SIZE : EVENT_BAD_NONE);
    }
    free(text);
}

Test(decode, tombstones)
{
    struct event e;
    const struct str null = {NULL, 0};
    decoder_decode(decoder, DECODER_USERS, str_of("u1"), null, append, &arena, &e);
    cr_assert(e.kind == EVENT_USER_PROFILE && e.tombstone && e.fields == NULL && e.ts == append);
    cr_assert_eq(e.user, hash_id(str_of("u1")));
    decoder_decode(decoder, DECODER_ITEMS, str_of("i"), null, append, &arena, &e);
    cr_assert(e.kind == EVENT_ITEM_PROFILE && e.tombstone && e.items[0].id == hash_id(str_of("i")));
    decoder_decode(decoder, DECODER_ITEMS, null, null, append, &arena, &e);
    cr_assert_eq(e.bad, EVENT_BAD_ITEM);
    decoder_decode(decoder, DECODER_USERS, str_of("\xff"), null, append, &arena, &e);
    cr_assert_eq(e.bad, EVENT_BAD_USER);
    decoder_decode(decoder, DECODER_EVENTS, str_of("u1"), null, append, &arena, &e);
    cr_assert_eq(e.bad, EVENT_BAD_JSON);
}

// ---- timestamps and numbers against twins -----------------------------------------------------------------

Test(decode, rfc3339_against_timegm)
{
    struct rng rng = rng_of(1);
    for (int i = 0; i < 20000; i++) {
        int64_t ms = (int64_t)rng_below(&rng, (uint64_t)TIMESTAMP_END);
        int minutes = (int)rng_below(&rng, 2 * 1439 + 1) - 1439;
        time_t local = ms / 1000 + minutes * 60;
        struct tm tm;
        gmtime_r(&local, &tm);
        char text[128];
        snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03d%c%02d:%02d", tm.tm_year + 1900,
                 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(ms % 1000),
                 minutes < 0 ? '-' : '+', abs(minutes) / 60, abs(minutes) % 60);
        int64_t got;
        cr_assert(timestamp_of_text(str_of(text), &got), "%s", text);
        cr_assert_eq(got, ms, "%s", text);
    }
}

// What the command line and attributes have is a double already.
Test(decode, a_double_of_seconds_is_the_ms_that_was_meant)
{
    struct rng rng = rng_of(3);
    for (int i = 0; i < 20000; i++) {
        int64_t ms = (int64_t)rng_below(&rng, (uint64_t)TIMESTAMP_END);
        cr_assert_eq(timestamp_ms((double)ms / 1000), ms, "%lld", (long long)ms);
        if ((double)ms >= TIMESTAMP_SECONDS_BELOW)
            cr_assert_eq(timestamp_ms((double)ms + 0.75), ms, "%lld", (long long)ms);
    }
}

Test(decode, seconds_with_a_fraction_are_exact)
{
    struct rng rng = rng_of(2);
    char text[128];
    for (int i = 0; i < 20000; i++) {
        int64_t ms = (int64_t)rng_below(&rng, (uint64_t)TIMESTAMP_END);
        char number[64];
        bool point = i % 2 == 0;
        snprintf(number, sizeof number, "%lld%s%03d%s", (long long)(ms / 1000), point ? "." : "",
                 (int)(ms % 1000), point ? "" : "e-3");
        const char *digits = number;
        while (digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9')
            digits++;
        snprintf(text, sizeof text, "{\"type\":\"click\",\"user_id\":1,\"item_id\":2,\"timestamp\":%s}",
                 digits);
        struct event e = decode(text);
        cr_assert(e.bad == EVENT_BAD_NONE && e.ts == ms, "%s: %lld %s", text, (long long)e.ts, e.detail);
        arena_clear(&arena);
    }
}

Test(decode, numbers_against_strtod)
{
    static const char *const forms[] = {"%.0f", "%.3f", "%.17g", "%.12e", "%.1f"};
    struct rng rng = rng_of(3);
    char number[400];
    char text[600];
    for (int i = 0; i < 20000; i++) {
        double v = (rng_uniform(&rng) - 0.5) * pow(10, (double)rng_below(&rng, 40) - 10);
        snprintf(number, sizeof number, forms[i % 5], v);
        snprintf(text, sizeof text,
                 "{\"type\":\"click\",\"user_id\":1,\"item_id\":2,\"timestamp\":3,\"value\":%s}", number);
        struct event e = decode(text);
        cr_assert(e.bad == EVENT_BAD_NONE && e.value == strtod(number, NULL), "%s", number);
        arena_clear(&arena);
    }
}

// ---- noise ------------------------------------------------------------------------------------------------

// Whatever happens to the bytes, the decoder comes back with an event, and one decoder forgets it all.
Test(decode, changed_bytes)
{
    struct rng rng = rng_of(4);
    size_t n;
    char *good = read_file("good-contract.json", &n);
    char *bytes = mem_alloc(n);
    for (int i = 0; i < 50000; i++) {
        memcpy(bytes, good, n);
        for (uint64_t changes = 1 + rng_below(&rng, 3); changes > 0; changes--)
            bytes[rng_below(&rng, n)] = "{}[]:,\"\\0-1.eu \x80\xff"[rng_below(&rng, 18)];
        decode_as((enum decoder_kind)(i % 3), (struct str){"", 0}, bytes, n, 0);
        arena_clear(&arena);
    }
    cr_assert_eq(decode_as(DECODER_EVENTS, (struct str){"", 0}, good, n, 0).bad, EVENT_BAD_NONE);
    free(bytes);
    free(good);
}
