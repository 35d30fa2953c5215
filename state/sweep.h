// SPDX-License-Identifier: Apache-2.0
// Users and items whose time is over, on disk: finding them, and deleting the keys of those that were buried;
// used inside state/ only, in the commit thread.
#ifndef FRESHET_STATE_SWEEP_H
#define FRESHET_STATE_SWEEP_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "state/keys.h"
#include "state/state.h"
#include "state/store.h"

// When what was last seen is over: `last_s` of an entity is in whole steps, and below `before_s` it is expired.
struct expiry {
    uint32_t step_s;
    uint32_t before_s; // 0: nothing is expired
};

enum { EXPIRY_KINDS = 2 }; // users and items, by enum entity_kind

// What was buried, or is to be: a user, an item, or a group of one.
struct buried {
    enum entity_kind kind;
    uint16_t partition;
    uint64_t id;
    struct group_key group; // of a group
};

struct buried_list {
    struct buried *at;
    uint32_t n, cap;
};

void buried_add(struct buried_list *l, const struct buried *b);
void buried_done(struct buried_list *l);

struct sweep {
    uint8_t place[KEY_PREFIX]; // where the next one begins
    uint32_t place_n;          // 0: at the first key
    struct buried_list found;  // an owner, then its groups; ...
};

// Looks at about `keys` keys from the place on and finds what is expired, and its groups.
int sweep_run(struct store *store, const struct expiry expiry[EXPIRY_KINDS], uint64_t keys,
              struct sweep *sweep, struct err *err);
// The beginning of the keys of a group.
void group_key_put(const struct group_key *group, struct buf *to);
int group_key_order(const struct group_key *x, const struct group_key *y); // that of these beginnings
// Calls `dead` for every user or item on disk that is expired.
int sweep_each(struct store *store, const struct expiry expiry[EXPIRY_KINDS],
               void (*dead)(void *context, const struct buried *b), void *context, struct err *err);
// The groups of an owner that the store has (entity_group.c).
int groups_stored(struct store *store, const struct group_key *owner, struct buried_list *to,
                  struct err *err);
// The same for many owners, over one iterator.
struct store_iter *groups_walker(struct store *store);
int groups_walk(struct store_iter *it, const struct group_key *owner, struct buried_list *to,
                struct err *err);
// Deletes what the store holds of the buried, except what the batch puts itself.
// ret_removed by kind counts those that the store held.
int sweep_delete(struct store *store, struct buried_list *l, struct store_batch *b, uint64_t ret_removed[3],
                 struct err *err);

#endif
