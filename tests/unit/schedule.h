// SPDX-License-Identifier: Apache-2.0
// One log under several schedules: how often it is committed, trimmed, restarted and crashed must decide nothing. What
// a run is, and what these mean to it, is the test's own `struct run`.
#ifndef FRESHET_TESTS_UNIT_SCHEDULE_H
#define FRESHET_TESTS_UNIT_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"

struct schedule {
    const char *name;
    uint64_t cache_bytes;
    uint32_t commit_every, trim_every;
    uint32_t restart; // once in so many events, after a commit; 0: never
    uint32_t crash;   // once in so many events: back to the last commit; 0: never
    bool lag;         // a commit becomes durable at the next one only
    uint64_t sweep;   // keys a commit
};

struct run;
struct schedule_calls {
    void (*apply)(struct run *run, uint32_t event);
    void (*commit)(struct run *run, uint32_t events, bool lag);
    void (*trim)(struct run *run);
    void (*durable)(struct run *run);  // what is in the commit thread gets through
    uint32_t (*open)(struct run *run); // anew, from the store; how many events are in it
};

// Events 0 to n - 1, all committed at the end.
static inline void schedule_run(const struct schedule *s, const struct schedule_calls *calls, struct run *run,
                                uint32_t n)
{
    struct rng r = rng_of(s->commit_every + s->restart);
    calls->open(run);
    for (uint32_t i = 0; i < n; i++) {
        calls->apply(run, i);
        if (rng_below(&r, s->commit_every) == 0)
            calls->commit(run, i + 1, s->lag);
        if (rng_below(&r, s->trim_every) == 0)
            calls->trim(run);
        if (s->restart > 0 && rng_below(&r, s->restart) == 0) {
            calls->commit(run, i + 1, false);
            calls->open(run);
        }
        if (s->crash > 0 && rng_below(&r, s->crash) == 0) {
            calls->durable(run);
            i = calls->open(run) - 1; // wraps to start again from 0
        }
    }
    calls->commit(run, n, false);
}

#endif
