// SPDX-License-Identifier: Apache-2.0
// ns an event of the decoder, on one core, for the event of docs/CONTRACT.md with every field. Build: gcc -O2
// -D_GNU_SOURCE -I. tests/bench/bench_decode.c BUILD/libstream.a BUILD/libbase.a -lsimdjson -lxxhash
// -lrdkafka -lstdc++ -lm
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "stream/event.h"

enum { MESSAGES = 4096, ROUNDS = 250, LINE = 512 };

static uint32_t line_make(char *to, uint32_t i)
{
    return (uint32_t)snprintf(
        to, LINE,
        "{\"event_id\":\"e%010u\",\"type\":\"watch\",\"user_id\":\"u%08u\",\"item_id\":%u,"
        "\"request_id\":\"r%010u\",\"position\":%u,\"timestamp\":%llu,\"watch_ms\":%u,"
        "\"value\":%u.25,\"context\":{\"device\":\"ios\",\"geo\":\"wx4g0\",\"hour\":%u,"
        "\"battery\":0.71,\"wifi\":true}}",
        i, i * 7919 % 100000, i * 104729 % 1000000, i / 10, i % 10, 1767225600123ULL + i * 37, i % 60000,
        i % 10, i % 24);
}

int main(void)
{
    const struct decoder_options options = {action_names, ACTION_BUILTIN, 60000};
    struct decoder *d = decoder_new(&options);
    struct arena arena = {0};
    static char lines[MESSAGES][LINE];
    static uint32_t lengths[MESSAGES];
    static struct event event;
    uint64_t bytes = 0;
    uint64_t good = 0;
    for (uint32_t i = 0; i < MESSAGES; i++)
        bytes += lengths[i] = line_make(lines[i], i);
    int64_t begin = clock_real_mono_us(NULL);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < MESSAGES; i++) {
            if (i % 256 == 0)
                arena_clear(&arena);
            struct str message = {lines[i], lengths[i]};
            decoder_decode(d, DECODER_EVENTS, (struct str){"", 0}, message, 1767225700000, &arena, &event);
            good += event.kind == EVENT_ACTION && event.n_fields == 5;
        }
    }
    double us = (double)(clock_real_mono_us(NULL) - begin);
    double n = (double)MESSAGES * ROUNDS;
    printf("%.0f ns an event of %.0f bytes, %.2f M events/s, %.0f of %.0f good\n", us * 1000 / n,
           (double)bytes / MESSAGES, n / us, (double)good, n);
    decoder_free(d);
    arena_done(&arena);
    return good == MESSAGES * (uint64_t)ROUNDS ? 0 : 1;
}
