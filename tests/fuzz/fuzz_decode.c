// SPDX-License-Identifier: Apache-2.0
// libFuzzer on the decoder. The first byte picks the kind of message. What comes out as good must have sound
// parts and be a JSON text for jansson too. Build, and run for a minute:
//   clang++ -c -O1 -g -fsanitize=fuzzer-no-link,address -I. stream/parse_index.cc -o parse_index.o
//   clang -O1 -g -D_GNU_SOURCE -fsanitize=fuzzer,address -I. tests/fuzz/fuzz_decode.c
//     stream/{decode,parse,timestamp,event}.c base/{action,arena,hash,mem}.c parse_index.o
//     -ljansson -lsimdjson -lxxhash -lstdc++ -lm -o fuzz_decode
//   ./fuzz_decode -max_total_time=60 -max_len=4096 NEW_INPUTS tests/corpus
#include <assert.h>
#include <jansson.h>
#include <stdlib.h>

#include "base/hash.h"
#include "stream/event.h"
#include "stream/timestamp.h"

static volatile uint8_t sink;

static void touch(struct str s)
{
    for (uint32_t i = 0; i < s.len; i++)
        sink ^= (uint8_t)s.s[i];
}

static void check_id(struct str text, uint64_t id)
{
    touch(text);
    assert(text.len > 0 && text.len <= EVENT_ID_BYTES && id == hash_id(text));
}

static void check_fields(const struct event *e)
{
    assert(e->n_fields <= EVENT_FIELDS_MAX);
    touch(e->raw_fields);
    for (uint32_t i = 0; i < e->n_fields; i++) {
        const struct event_field *f = &e->fields[i];
        touch(f->name);
        if (f->type == EVENT_STRING)
            touch(f->s);
        for (uint32_t j = 0; f->type == EVENT_LIST && j < f->list.n; j++)
            touch(f->list.v[j]);
    }
}

static void check_good(const struct event *e, enum decoder_kind kind)
{
    assert(e->ts >= 0 && e->ts < TIMESTAMP_END);
    if (kind != DECODER_ITEMS)
        check_id(e->user_text, e->user);
    assert((kind == DECODER_USERS) == (e->n_items == 0) && e->n_items <= EVENT_ITEMS_MAX);
    for (uint32_t i = 0; i < e->n_items; i++)
        check_id(e->items[i].text, e->items[i].id);
    if (e->request_text.s != NULL)
        check_id(e->request_text, e->request);
    check_fields(e);
}

// jansson refuses what we take knowingly: numbers out of range, \u0000 in a name, deep nesting is its 2048.
static void check_json(struct str text)
{
    json_error_t error;
    json_t *json = json_loadb(text.s, text.len, JSON_ALLOW_NUL, &error);
    enum json_error_code code = json == NULL ? json_error_code(&error) : json_error_unknown;
    assert(json != NULL || code == json_error_numeric_overflow || code == json_error_null_byte_in_key);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static struct decoder *decoder;
    if (decoder == NULL)
        decoder = decoder_new(&(struct decoder_options){action_names, ACTION_BUILTIN, 60000});
    enum decoder_kind kind = DECODER_EVENTS;
    if (n > 0 && bytes[0] < 3) {
        kind = (enum decoder_kind)bytes[0];
        bytes++;
        n--;
    }
    char *text = malloc(n + DECODER_PADDING);
    assert(text != NULL);
    if (n > 0)
        memcpy(text, bytes, n);
    memset(text + n, 'x', DECODER_PADDING);
    struct str message = {text, (uint32_t)n};
    struct arena arena = {0};
    struct event e;
    decoder_decode(decoder, kind, (struct str){"k", 1}, message, 0, &arena, &e);
    if (e.kind == EVENT_BAD) {
        assert(e.bad != EVENT_BAD_NONE && e.detail[0] != '\0');
    } else {
        check_good(&e, kind);
        check_json(message);
    }
    arena_done(&arena);
    free(text);
    return 0;
}
