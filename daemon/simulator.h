// SPDX-License-Identifier: Apache-2.0
// Events with a known truth. Users and items have latent tastes and a quality that turn with time, items are
// born and die, and the click probability of an impression is
//
//     logit p = bias + a_u + q_i(t) + s cos(theta_u - theta_i(t)),   q_i(t) = q_i + A sin(omega_i t + phi_i)
//
// so that the best possible AUC is known: that of p itself. `drift` is how many radians the tastes and
// qualities of items turn in an hour, on average. A click comes 300 ms and an exponential time after its impression,
// of mean `delay_s`, or `slow_s` for the share `slow`. From the seed alone; event times only go up.
#ifndef FRESHET_DAEMON_SIMULATOR_H
#define FRESHET_DAEMON_SIMULATOR_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/rng.h"
#include "base/str.h"

enum { SIMULATOR_USERS = 1000, SIMULATOR_ITEMS = 300, SIMULATOR_RATE = 50 }; // defaults
#define SIMULATOR_DRIFT 0.5                                                  // default drift
#define SIMULATOR_LIFE_H 24.0                                                // default mean life of an item

#define SIMULATOR_DELAY_S 8.0 // default delay of a click

enum { SIMULATOR_SLATE = 4 }; // items of one request

struct simulator_options {
    uint32_t users, items; // items alive at once
    uint64_t seed;
    int64_t start_ms;
    uint32_t slate; // items of a request, 1 to SIMULATOR_SLATE
    double rate;    // impressions a second of event time
    double drift;   // radians an hour
    double life_h;  // mean life of an item, hours
    double fresh;   // share of the requests whose user was never seen
    double delay_s; // mean time from an impression to its click; 0: SIMULATOR_DELAY_S
    double slow;    // share of the clicks that come much later,
    double slow_s;  // after so long on average
};

// The truth of one impression.
struct simulator_truth {
    char item[24];
    double p;
    bool click;
};

struct simulator;
struct simulator *simulator_new(const struct simulator_options *options);
void simulator_free(struct simulator *s);

// The next event in order of time: JSON of docs/CONTRACT.md into `to` (without a newline), the user's id as
// the key. For an impression message ret_truth holds its items and *ret_n their number, else *ret_n is 0.
// With `last_request`, no further requests are made; false when the feedback that was under way is through.
bool simulator_next(struct simulator *s, bool last_request, struct buf *to, char ret_user[24],
                    char ret_request[24], int64_t *ret_ts, struct simulator_truth ret_truth[SIMULATOR_SLATE],
                    uint32_t *ret_n);

#endif
