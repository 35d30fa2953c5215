// SPDX-License-Identifier: Apache-2.0
// What the config allows to be used of memory, family by family, against what there is. A family is what one key, or
// a few, bound; what happens at its bound stands in docs/GUARANTEES.md.
//
//     struct budget b;
//     budget_of(config, &b, err);      the sum, and the limit: memory.limit, or the machine's
//     budget_check(&b, err);           ERR_CONFIG, with the largest families, where the sum is above it
//     budget_used(daemon, used);       what each takes now
#ifndef FRESHET_DAEMON_BUDGET_H
#define FRESHET_DAEMON_BUDGET_H

#include "daemon/config.h"

struct daemon;

enum budget_family {
    BUDGET_ENTITIES,
    BUDGET_BODIES,
    BUDGET_BLOCKS,
    BUDGET_STORE,
    BUDGET_JOINER,
    BUDGET_DEDUPE,
    BUDGET_COMMIT,
    BUDGET_NAMES,
    BUDGET_TABLES,
    BUDGET_UPDATE,
    BUDGET_MODEL,
    BUDGET_ITEMS,
    BUDGET_SOURCE,
    BUDGET_SINK,
    BUDGET_HTTP,
    BUDGET_PROGRAM,
    BUDGET_FAMILIES
};

struct budget_about {
    const char *name, *keys, *what;
    bool fixed; // what is used of it is not measured
};
extern const struct budget_about budget_families[BUDGET_FAMILIES];

struct budget {
    uint64_t most[BUDGET_FAMILIES];
    uint64_t sum, limit;
    const char *limit_of; // "memory.limit", "the machine's memory", "the control group's memory.max"
};

// ERR_CONFIG: the net of the config is none.
int budget_of(const struct config *config, struct budget *ret_budget, struct err *err);
int budget_check(const struct budget *budget, struct err *err);
// Bytes now; 0 where `fixed`.
void budget_used(const struct daemon *d, uint64_t ret_used[BUDGET_FAMILIES]);
// state.commit_bytes, or where that is 0 what it stands for. Small commits cost: at 128 MiB the same backlog takes 1.4
// times the CPU that it takes at 1 GiB.
uint64_t budget_commit_bytes(const struct config *config);
// "1.5 GiB".
const char *budget_bytes_text(uint64_t bytes, char text[32]);

#endif
