// SPDX-License-Identifier: Apache-2.0
// In which buckets an event is, and the groups of counters that belong to them. One message at a time:
// groups_begin takes the message and its profiles; then any group of any of its items can be asked for. Each
// bucket is computed once, and each group looked for once, whether features read it, counters count in it, or
// both.
#ifndef FRESHET_DAEMON_GROUPS_H
#define FRESHET_DAEMON_GROUPS_H

#include "daemon/config.h"
#include "daemon/profile.h"
#include "state/state.h"
#include "stream/event.h"

struct groups;

struct groups *groups_new(const struct config *config);
void groups_free(struct groups *g);
bool groups_use_profile(const struct groups *g); // of the user

// Whose message it is. Of a request what is not known is NULL.
struct groups_of {
    const struct event *event;
    struct entity *user;
    struct entity *profile;      // of the user
    struct entity *const *items; // by item of the event
    uint16_t partition;          // of the user
};
void groups_begin(struct groups *g, const struct groups_of *of);

// Before that, for messages that are ingested in the order of these calls: computes what needs no profile, and starts
// fetching the groups that will be counted in and their counters of these measures (bit m for measure m). The event and its texts must stay until its groups_take, which comes
// for each of them, and for those that were not seen ahead: the next groups_begin_taken is of this message.
void groups_ahead(struct groups *g, const struct state *s, const struct event *e, uint16_t partition,
                  uint32_t measures);
void groups_take(struct groups *g, const struct event *e);
void groups_begin_taken(struct groups *g, const struct groups_of *of);

// Whether the grouping's bucket depends on the item (then `item` below must be given) or on the message alone.
bool groups_by_item(const struct groups *g, uint32_t grouping);
// The bucket of item `item` of the message: its text, "" if it is in none.
struct str groups_bucket(struct groups *g, uint32_t grouping, uint32_t item);
// Its group. *ret_group NULL: it is in no bucket, or, without `create`, nothing has been counted there.
int groups_find(struct groups *g, struct state *s, uint32_t grouping, uint32_t item, bool create,
                struct entity **ret_group, struct err *err);
// Starts fetching what groups_find and counting will touch, unless groups_ahead did; in three stages some work apart,
// each after the one before: 0 where the group is looked for, 1 the group, 2 its counters.
void groups_fetch(struct groups *g, const struct state *s, uint32_t grouping, uint32_t item, uint32_t stage);

// The text of a place: `precision` characters of base 32 (Niemeyer's geohash). False: out of range.
bool groups_geohash(double lat, double lon, uint32_t precision, char *ret_text);
// The hour of the day, 0 to 23, or the day of the week, 0 Monday to 6, so many hours from UTC.
uint32_t groups_hour(int64_t ts, double offset_hours, bool weekday);

#endif
