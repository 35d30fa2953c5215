// SPDX-License-Identifier: Apache-2.0
// The trainer thread of the daemon. The main thread owns the state and hands the thread one job at a time: a
// chunk of samples to feed, or the finish. While the thread has a job the main thread does not touch the
// update; while it has none, the thread waits. trainer_step is all of the protocol, run on the main thread.
#ifndef FRESHET_DAEMON_TRAINER_H
#define FRESHET_DAEMON_TRAINER_H

#include "daemon/engine.h"

struct trainer;

// `wake` is called on the trainer thread when a job is done: it must make the main thread call trainer_step.
int trainer_new(struct engine *engine, void (*wake)(void *context), void *context,
                struct trainer **ret_trainer, struct err *err);
void trainer_free(struct trainer *t); // waits for the job under way; its update is abandoned

enum trainer_state {
    TRAINER_IDLE, // no window waits
    TRAINER_BUSY, // the thread works
    TRAINER_DONE, // *ret_result is the new version: commit now, and call trainer_applied when it is durable
    TRAINER_WAITING, // for trainer_applied
};
// Goes as far as it can without waiting.
int trainer_step(struct trainer *t, enum trainer_state *ret_state, struct update_result *ret_result,
                 struct err *err);
void trainer_applied(struct trainer *t);
enum trainer_state trainer_state(const struct trainer *t);

#endif
