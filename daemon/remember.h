// SPDX-License-Identifier: Apache-2.0
// What an accepted event leaves behind in counters and sequences, besides what the joiner makes of it: counts of
// its user and items, in each grouping of the config, and entries of the user's sequences.
#ifndef FRESHET_DAEMON_REMEMBER_H
#define FRESHET_DAEMON_REMEMBER_H

#include "daemon/config.h"
#include "daemon/groups.h"
#include "state/state.h"
#include "stream/event.h"

struct remember;

// `groups` is the one that features_read fills, so that what it found is not looked for again.
struct remember *remember_new(const struct config *config, struct groups *groups, struct state *state);
void remember_free(struct remember *r);

// Some events before it: starts fetching the groups that are known by then; see groups_ahead. remember_take then
// comes first for every event, and is all there is of one that is left out.
void remember_ahead(struct remember *r, const struct event *e, uint16_t partition, uint32_t measures);
void remember_take(struct remember *r, const struct event *e);
// Called first for every message that counts: takes its buckets and starts fetching its groups.
void remember_begin(struct remember *r, const struct groups_of *of);
// Goes on fetching, some work later; stage 1, then 2 (groups_fetch).
void remember_fetch(struct remember *r, const struct groups_of *of, uint32_t stage);
// The impression of all items of the message.
int remember_impression(struct remember *r, const struct groups_of *of, struct err *err);
// One feedback. *ret_skipped: sequences that it could not enter, since the item has
// no such attribute or is in no bucket.
int remember_feedback(struct remember *r, const struct groups_of *of, uint32_t *ret_skipped, struct err *err);
// The item's profile was deleted.
void remember_gone(struct remember *r, uint64_t item, int64_t ts);

#endif
