// SPDX-License-Identifier: Apache-2.0
// What the benchmarks of models/ share: nets written as rows, time, and which of them are asked for. Included once a program.
#ifndef FRESHET_TESTS_BENCH_H
#define FRESHET_TESTS_BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "models/net.h"

// A block; `of`: names with blanks between, each of which may stand for a group of inputs.
struct bench_block {
    const char *name, *kind, *of;
    uint32_t side;
    struct layer_value options[5];
};

// `word` stands for the inputs `prefix`from, `prefix`(from + 1), ..., n of them.
struct bench_group {
    const char *word, *prefix;
    uint32_t from, n;
};

#define BENCH_WIDTHS(kind, ...)               \
    {                                         \
        .name = kind, .dims = { __VA_ARGS__ } \
    }

static inline double bench_now_s(void) // of this thread's CPU
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline const struct bench_group *bench_group_of(const struct bench_group *groups, const char *word)
{
    while (groups->word != NULL && strcmp(groups->word, word) != 0)
        groups++;
    return groups->word != NULL ? groups : NULL;
}

// `groups` end with a word NULL; `of` has room for all names.
static inline void bench_block_of(const struct bench_block *from, const struct bench_group *groups,
                                  char (*of)[NET_NAME], struct net_block *to)
{
    *to = (struct net_block){.of = of, .side = from->side};
    snprintf(to->name, NET_NAME, "%s", from->name);
    snprintf(to->kind, NET_NAME, "%s", from->kind);
    memcpy(to->options, from->options, sizeof from->options);
    char word[NET_NAME];
    int used = 0;
    for (const char *text = from->of; sscanf(text, "%63s%n", word, &used) == 1; text += used) {
        const struct bench_group *group = bench_group_of(groups, word);
        if (group == NULL)
            snprintf(of[to->n_of++], NET_NAME, "%s", word);
        for (uint32_t i = 0; group != NULL && i < group->n; i++)
            snprintf(of[to->n_of++], NET_NAME, "%s%u", group->prefix, group->from + i);
    }
}

// Those whose names begin as one of the arguments, all without.
static inline bool bench_chosen(int argc, char **argv, const char *name)
{
    bool any = argc == 1;
    for (int i = 1; i < argc; i++)
        any |= strncmp(name, argv[i], strlen(argv[i])) == 0;
    return any;
}

static inline void bench_die(const char *what, const struct err *err)
{
    fprintf(stderr, "%s: %s\n", what, err->message);
    exit(1);
}

#endif
