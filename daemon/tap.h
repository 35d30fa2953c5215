// SPDX-License-Identifier: Apache-2.0
// Taps: a look at what passes through the daemon, for a few readers at a time. A tap has conditions, all of which
// must hold, and a bounded buffer of lines: where its reader is slower than the stream, lines are dropped and
// {"dropped": n} stands in their place. Events are seen as they are taken in, before anything is made of
// them; samples are read from the log, from the moment of the tap on. Without a tap it costs a look at one
// number a slice.
#ifndef FRESHET_DAEMON_TAP_H
#define FRESHET_DAEMON_TAP_H

#include "base/json.h"
#include "daemon/engine.h"

enum {
    TAPS_MAX = 4,
    TAP_CONDITIONS_MAX = 16,
    TAP_BUFFER = 1 << 20,       // bytes of lines that wait for the reader
    TAP_SAMPLES_BEHIND = 20000, // samples not looked at yet, above which a tap leaps to the newest
    TAP_SAMPLES_TURN = 256,     // looked at in one turn
};

enum tap_kind { TAP_EVENTS, TAP_SAMPLES };
enum tap_compare { TAP_EQUAL, TAP_UNEQUAL, TAP_LESS, TAP_MOST, TAP_MORE, TAP_LEAST };

struct tap_condition {
    char name[CONFIG_NAME + 16];
    char value[EVENT_ID_BYTES + 1];
    double number; // of the value; NaN: it is none
    enum tap_compare compare;
};

struct tap {
    enum tap_kind kind;
    uint32_t n_conditions;
    struct tap_condition conditions[TAP_CONDITIONS_MAX];
    uint64_t limit; // lines left; UINT64_MAX: no end
    uint32_t rate;  // lines a second at most; 0: all
    int64_t second; // of the clock, and how many lines were put in it
    uint32_t in_second;
    uint64_t dropped;  // since the last line
    uint64_t next_seq; // of a sample
    bool ended;        // the limit is reached: what is in the buffer is the last
    struct buf lines;
};

// "name=value" and with != < <= > >=. ERR_INVALID: it is none, or the name is nothing that a line has.
int tap_condition_read(const struct config *config, enum tap_kind kind, struct str text,
                       struct tap_condition *ret_condition, struct err *err);

struct tap *tap_new(const struct engine *e, enum tap_kind kind);
void tap_free(struct tap *tap);

// Puts the line about what was dropped, if anything was: where no other line comes behind which it could stand.
void tap_tell_dropped(struct tap *tap);
// One event of the source, of (topic, partition): puts a line if it fits.
void tap_event(struct tap *tap, const struct engine *e, const struct ingest_part *part,
               const struct event *event, int64_t now_us);
// The samples that left since the last turn, TAP_SAMPLES_TURN of them at most. True: there are more.
bool tap_samples(struct tap *tap, struct engine *e, int64_t now_us);

#endif
