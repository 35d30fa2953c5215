// SPDX-License-Identifier: Apache-2.0
// The wall clock, handed in: tests turn it by hand. It paces commits, idleness and rates; what is counted,
// joined or trained follows event time alone.
#ifndef FRESHET_BASE_CLOCK_H
#define FRESHET_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

struct clock_source {
    int64_t (*now_ms)(void *context);  // since the epoch
    int64_t (*mono_us)(void *context); // monotonic
    void *context;
};

static inline int64_t clock_real_ms(void *context)
{
    (void)context;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static inline int64_t clock_real_mono_us(void *context)
{
    (void)context;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static inline struct clock_source clock_real(void)
{
    return (struct clock_source){clock_real_ms, clock_real_mono_us, 0};
}

static inline int64_t clock_now_ms(const struct clock_source *c)
{
    return c->now_ms(c->context);
}

static inline int64_t clock_mono_us(const struct clock_source *c)
{
    return c->mono_us(c->context);
}

#endif
