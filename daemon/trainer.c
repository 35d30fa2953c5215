// SPDX-License-Identifier: Apache-2.0
#include "daemon/trainer.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"
#include "models/gemm.h"

enum trainer_job { JOB_NONE, JOB_FEED, JOB_FINISH, JOB_QUIT };

struct trainer {
    struct engine *engine;
    void (*wake)(void *context);
    void *context;
    pthread_t thread;
    enum trainer_state state;   // main thread's
    struct sample_chunk *chunk; // lent to the thread
    // Under the lock:
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum trainer_job job; // NONE: the thread waits
    bool finished;        // the last job was the finish
    int result;
    struct err err;
};

static void trainer_work(struct trainer *t, enum trainer_job job)
{
    if (job == JOB_FEED)
        t->result = update_feed(t->engine->updater, t->chunk, &t->err);
    else
        update_finish(t->engine->updater);
}

static void *trainer_main(void *context)
{
    struct trainer *t = context;
    gemm_thread_setup();
    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (t->job == JOB_NONE)
            pthread_cond_wait(&t->changed, &t->lock);
        enum trainer_job job = t->job;
        if (job == JOB_QUIT)
            break;
        pthread_mutex_unlock(&t->lock);
        trainer_work(t, job);
        pthread_mutex_lock(&t->lock);
        t->finished = job == JOB_FINISH;
        if (t->job == job)
            t->job = JOB_NONE;
        pthread_cond_broadcast(&t->changed);
        t->wake(t->context);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

int trainer_new(struct engine *engine, void (*wake)(void *context), void *context,
                struct trainer **ret_trainer, struct err *err)
{
    struct trainer *t = mem_zalloc(sizeof *t);
    t->engine = engine;
    t->wake = wake;
    t->context = context;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    int code = pthread_create(&t->thread, NULL, trainer_main, t);
    if (code != 0) {
        free(t);
        return err_set(err, ERR_IO, "starting the trainer thread: error %d", code);
    }
    *ret_trainer = t;
    return 0;
}

static void trainer_give(struct trainer *t, enum trainer_job job)
{
    pthread_mutex_lock(&t->lock);
    t->job = job;
    t->finished = false;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    t->state = TRAINER_BUSY;
}

void trainer_free(struct trainer *t)
{
    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    while (t->job != JOB_NONE)
        pthread_cond_wait(&t->changed, &t->lock);
    t->job = JOB_QUIT;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    if (t->chunk != NULL)
        state_chunk_free(t->engine->state, t->chunk);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->changed);
    free(t);
}

// The next chunk of the update under way, or its finish.
static int trainer_next(struct trainer *t, struct err *err)
{
    uint64_t seq;
    uint64_t left = update_left(t->engine->updater, &seq);
    if (left == 0) {
        trainer_give(t, JOB_FINISH);
        return 0;
    }
    uint32_t most = update_chunk(t->engine->updater);
    if (state_samples_read(t->engine->state, seq, left < most ? (uint32_t)left : most, &t->chunk, err) != 0)
        return -1;
    trainer_give(t, JOB_FEED);
    return 0;
}

// The thread has done its job: *ret_finished says whether it was the finish.
static int trainer_collect(struct trainer *t, bool *ret_done, bool *ret_finished, struct err *err)
{
    pthread_mutex_lock(&t->lock);
    *ret_done = t->job == JOB_NONE;
    *ret_finished = t->finished;
    pthread_mutex_unlock(&t->lock);
    if (!*ret_done)
        return 0;
    if (t->chunk != NULL)
        state_chunk_free(t->engine->state, t->chunk);
    t->chunk = NULL;
    if (t->result != 0)
        *err = t->err;
    return t->result;
}

int trainer_step(struct trainer *t, enum trainer_state *ret_state, struct update_result *ret_result,
                 struct err *err)
{
    struct ingest *in = t->engine->ingest;
    int result = 0;
    bool finished = false;
    if (t->state == TRAINER_BUSY) {
        bool done;
        result = trainer_collect(t, &done, &finished, err);
        if (result == 0 && done && !finished)
            result = trainer_next(t, err);
        if (result == 0 && done && finished) {
            update_record(t->engine->updater, ret_result);
            ingest_mark_done(in);
            t->state = TRAINER_WAITING;
        }
    } else if (t->state == TRAINER_IDLE && in->n_marks > 0) {
        update_begin(t->engine->updater, &in->marks[0]);
        result = trainer_next(t, err);
    }
    *ret_state = finished && result == 0 ? TRAINER_DONE : t->state;
    return result;
}

void trainer_applied(struct trainer *t)
{
    update_apply(t->engine->updater);
    t->state = TRAINER_IDLE;
}

enum trainer_state trainer_state(const struct trainer *t)
{
    return t->state;
}
