// SPDX-License-Identifier: Apache-2.0
// A commit: everything dirty goes into one batch (main thread: a memcpy an entry), and the batch to the
// commit thread, which sorts, writes and ingests it while the main thread fills the next one.
//
//     main thread    state_commit: wait for the one before; collect; hand over      next batch ...
//     commit thread                                     sort | write | sync | ingest | retention | eventfd
//
// One commit is under way at most. What it carries stays where it was (entities pinned, segments and blobs in
// memory) until the main thread notices that it is durable: in state_commit*, state_commit_ack, state_trim.
//
// A failure that can pass (a full disk) is tried again every second with the same batch; the eventfd tells
// the first of them too, so that the caller looks at state_commit_error. Any other failure (a failed fsync:
// what the kernel dropped is unknown; a damaged store) ends the commit thread for good: the process must end,
// and the next one begins from the last durable commit.
//
// Retention: LOG blocks below the least of all lows are of no use: to recovery (joiner, dedupe, outbox) or to
// readers of samples and of the order. Whole files of them are deleted once a commit that carries the new low
// is durable; those that share a file with other keys are dropped by the next compaction of it.
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/step.h"
#include "state/internal.h"

enum { REUSE_BYTES = 256 << 10 };

// ---- the commit thread ------------------------------------------------------------------------------------

static void tell(struct committer *c)
{
    uint64_t one = 1;
    ssize_t n =
        write(c->fd, &one, sizeof one); // fails only if the counter is full: then it is readable anyway
    (void)n;
}

static int fault(struct state *s, const char *step, struct err *err)
{
    int r = s->options.fault != NULL ? s->options.fault(s->options.fault_context, step) : 0;
    if (r == 0)
        return 0;
    errno = r;
    return err_errno(err, "commit, step \"%s\"", step);
}

// The keys of what was buried are found here, in the store as the commit before left it.
static int commit_bury(struct state *s, struct commit *work, struct err *err)
{
    uint64_t removed[3] = {0};
    if (sweep_delete(s->store, &work->buried, work->batch, removed, err) != 0)
        return -1;
    buried_done(&work->buried);
    pthread_mutex_lock(&s->committer.lock);
    for (int kind = 0; kind < 3; kind++)
        s->committer.removed[kind] += removed[kind];
    pthread_mutex_unlock(&s->committer.lock);
    return 0;
}

static int commit_write(struct state *s, struct commit *work, struct err *err)
{
    if (commit_bury(s, work, err) != 0 || fault(s, "collect", err) != 0 ||
        store_ingest(s->store, work->batch, err) != 0)
        return -1;
    step_reached("commit.durable");
    return fault(s, "done", err);
}

// The commit is durable: what it made superfluous may go.
static int commit_expire(struct state *s, const struct commit *work, struct err *err)
{
    atomic_store(&s->expire_watermark, work->watermark);
    atomic_store(&s->expire_log, work->log_low);
    if (work->log_low < s->log_expired + EXPIRE_COMMITS)
        return 0;
    step_reached("commit.expire");
    if (store_log_expire(s->store, 0, work->log_low, err) == 0)
        s->log_expired = work->log_low;
    else if (!err->retriable)
        return -1;
    step_reached("commit.expired");
    *err = (struct err){0};
    return 0;
}

static void commit_free(struct commit *work)
{
    if (work != NULL) {
        store_batch_free(work->batch);
        buried_done(&work->buried);
    }
    free(work);
}

// After the commit is told: what is over on disk. The main thread takes it before it notices the next commit.
static int commit_sweep(struct state *s, const struct expiry *expiry, uint64_t puts, struct err *err)
{
    struct committer *c = &s->committer;
    if (expiry[ENTITY_USER].before_s == 0 && expiry[ENTITY_ITEM].before_s == 0)
        return 0;
    if (sweep_run(s->store, expiry, puts > SWEEP_KEYS ? puts : SWEEP_KEYS, &c->sweep, err) != 0)
        return -1;
    pthread_mutex_lock(&c->lock);
    for (uint32_t i = 0; i < c->sweep.found.n; i++)
        buried_add(&c->found, &c->sweep.found.at[i]);
    memcpy(c->place, c->sweep.place, sizeof c->place);
    c->place_n = c->sweep.place_n;
    pthread_mutex_unlock(&c->lock);
    buried_done(&c->sweep.found);
    return 0;
}

static void commit_ended(struct state *s, struct commit *work, uint64_t us)
{
    struct committer *c = &s->committer;
    store_batch_clear(work->batch);
    pthread_mutex_lock(&c->lock);
    c->spare = work->batch;
    work->batch = NULL;
    c->us_last = us;
    c->us_max = us > c->us_max ? us : c->us_max;
    c->err = (struct err){0};
    c->work = NULL;
    atomic_store(&s->durable, work->number);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    tell(c);
    step_reached("commit.told");
    commit_free(work);
}

// Publishes the failure; if it can pass, waits for the next attempt. False: give up.
static bool commit_failed(struct committer *c, const struct err *err)
{
    pthread_mutex_lock(&c->lock);
    bool news = c->err.code == ERR_NONE || !err->retriable;
    c->err = *err;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    if (news)
        tell(c);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += COMMIT_RETRY_MS / 1000;
    pthread_mutex_lock(&c->lock);
    int r = 0;
    while (err->retriable && !c->stop && r == 0)
        r = pthread_cond_timedwait(&c->changed, &c->lock, &until);
    bool again = err->retriable && !c->stop;
    pthread_mutex_unlock(&c->lock);
    return again;
}

static struct commit *commit_next(struct committer *c)
{
    pthread_mutex_lock(&c->lock);
    while (c->work == NULL && !c->stop)
        pthread_cond_wait(&c->changed, &c->lock);
    struct commit *work = c->work;
    pthread_mutex_unlock(&c->lock);
    return work;
}

static void *commit_thread(void *state)
{
    struct state *s = state;
    struct err err = {0};
    for (struct commit *work; (work = commit_next(&s->committer)) != NULL;) {
        int64_t begin = clock_real_mono_us(NULL);
        for (int i = 0; i <= JOINER_SPANS; i++)
            mem_populate(work->ahead[i]);
        while (commit_write(s, work, &err) != 0)
            if (!commit_failed(&s->committer, &err))
                return NULL;
        if (commit_expire(s, work, &err) != 0) {
            commit_failed(&s->committer, &err);
            return NULL;
        }
        struct expiry expiry[EXPIRY_KINDS] = {work->expiry[ENTITY_USER], work->expiry[ENTITY_ITEM]};
        uint64_t puts = store_batch_count(work->batch);
        commit_ended(s, work, (uint64_t)(clock_real_mono_us(NULL) - begin));
        if (commit_sweep(s, expiry, puts, &err) != 0) {
            commit_failed(&s->committer, &err);
            return NULL;
        }
    }
    return NULL;
}

static void lock_init(struct committer *c)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&c->lock, NULL);
}

int committer_start(struct state *s, struct err *err)
{
    struct committer *c = &s->committer;
    lock_init(c);
    if (s->options.read_only)
        return 0;
    c->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (c->fd < 0)
        return err_errno(err, "eventfd of the commit thread");
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); // signals are the main thread's
    int r = pthread_create(&c->thread, NULL, commit_thread, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = r;
    if (r != 0)
        return err_errno(err, "commit thread");
    pthread_setname_np(c->thread, "commit");
    c->running = true;
    return 0;
}

// A commit under way ends first, unless it fails.
void committer_stop(struct state *s)
{
    struct committer *c = &s->committer;
    if (c->running) {
        pthread_mutex_lock(&c->lock);
        c->stop = true;
        pthread_cond_broadcast(&c->changed);
        pthread_mutex_unlock(&c->lock);
        pthread_join(c->thread, NULL);
        c->running = false;
    }
    commit_free(c->work);
    c->work = NULL;
    store_batch_free(c->spare);
    c->spare = NULL;
    buried_done(&c->sweep.found);
    buried_done(&c->found);
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

// ---- the main thread --------------------------------------------------------------------------------------

// A const state still has a lock to be taken.
static struct committer *committer_of(const struct state *s)
{
    assert(s->magic == STATE_MAGIC);
    return (struct committer *)&s->committer;
}

static void swept_take(struct state *s)
{
    struct committer *c = &s->committer;
    pthread_mutex_lock(&c->lock);
    struct buried_list found = c->found;
    c->found = (struct buried_list){0};
    pthread_mutex_unlock(&c->lock);
    entities_swept(s->entities, &found);
    buried_done(&found);
}

void state_settle(struct state *s)
{
    uint64_t durable = atomic_load(&s->durable);
    if (durable == s->settled)
        return;
    s->settled = durable;
    swept_take(s);
    entities_durable(s->entities, durable);
    samples_durable(s->samples, durable);
    blobs_durable(s, durable);
}

static struct buf *block_begin(struct state *s, uint64_t commit, enum key_log part)
{
    struct key key = key_log(commit, part, 0);
    return store_batch_begin(s->batch, key.bytes, key.n);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

// The oldest commit whose LOG blocks are still needed. It never goes back.
static uint64_t log_low(const struct state *s, uint64_t commit)
{
    uint64_t before = s->order.begin;
    bool for_ever = s->options.samples_keep_ms == 0 && s->options.samples_keep_bytes == 0;
    if (for_ever || s->watermark == INT64_MIN)
        return before;
    uint64_t low = least(joiner_low(s->joiner, commit + 1), dedupe_low(s->dedupe, commit + 1));
    low = least(low, outbox_low(s, commit + 1));
    low = least(low, samples_low(s->samples, s->watermark, s->options.samples_keep_ms,
                                 s->options.samples_keep_bytes));
    low = least(low, commit); // recovery reads the last block of each kind
    return low > before ? low : before;
}

static void turn(const struct state *s)
{
    if (s->options.turn != NULL)
        s->options.turn(s->options.turn_context);
}

static void collect(struct state *s, uint64_t commit)
{
    struct dirty_mark mark = dirty_mark(s);
    entities_batch(s->entities, commit, s->batch);
    dirty_collected(s, &mark);
    turn(s);
    samples_batch(s->samples, s->batch);
    turn(s);
    joiner_block_put(s->joiner, commit, block_begin(s, commit, KEY_LOG_JOINER));
    store_batch_end(s->batch);
    turn(s);
    dedupe_block_put(s->dedupe, commit, block_begin(s, commit, KEY_LOG_DEDUPE));
    store_batch_end(s->batch);
    turn(s);
    order_batch(s, commit);
    outbox_batch(s, commit);
}

// The batch of the commit before is used again, for its pages are there. What was put since is little, but for the
// rows of an update: then it goes instead.
static void batch_reuse(struct state *s)
{
    struct committer *c = &s->committer;
    pthread_mutex_lock(&c->lock);
    struct store_batch *other = c->spare;
    c->spare = NULL;
    pthread_mutex_unlock(&c->lock);
    if (other != NULL && store_batch_bytes(s->batch) < REUSE_BYTES) {
        store_batch_append(other, s->batch);
        struct store_batch *swap = s->batch;
        s->batch = other;
        other = swap;
    }
    store_batch_free(other);
}

static void hand_over(struct state *s, struct commit *work)
{
    struct committer *c = &s->committer;
    pthread_mutex_lock(&c->lock);
    assert(c->work == NULL);
    c->work = work;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

int state_commit(struct state *s, struct str progress, uint64_t *ret_ticket, struct err *err)
{
    assert(s->magic == STATE_MAGIC);
    if (s->options.read_only)
        return err_set(err, ERR_INVALID, "a read-only state cannot commit");
    if (state_commit_wait(s, err) != 0)
        return -1;
    if (s->advance_err.code != ERR_NONE) {
        if (err != NULL)
            *err = s->advance_err;
        return -1;
    }
    uint64_t number = s->next_commit;
    step_reached("commit.collect");
    s->flight_bytes = state_dirty_bytes(s);
    batch_reuse(s);
    collect(s, number);
    names_turn(s);
    uint64_t low = log_low(s, number);
    meta_put(s, low, progress);
    s->order.begin = low;
    struct commit *work = mem_zalloc(sizeof *work);
    *work = (struct commit){.number = number,
                            .batch = s->batch,
                            .watermark = s->watermark,
                            .log_low = low,
                            .buried = entities_buried(s->entities, number)};
    memcpy(work->expiry, entities_expiry(s->entities), sizeof work->expiry);
    joiner_ahead(s->joiner, work->ahead);
    work->ahead[JOINER_SPANS] = entities_ahead(s->entities);
    s->commits++;
    s->commit_puts += store_batch_count(s->batch);
    s->commit_bytes += store_batch_bytes(s->batch);
    s->batch = store_batch_new();
    s->next_commit++;
    samples_commit_set(s->samples, s->next_commit);
    step_reached("commit.collected");
    hand_over(s, work);
    *ret_ticket = number;
    return 0;
}

// Under the lock: the commit thread has given up.
static bool is_dead(const struct committer *c)
{
    return c->err.code != ERR_NONE && !c->err.retriable;
}

bool state_commit_busy(const struct state *s)
{
    struct committer *c = committer_of(s);
    pthread_mutex_lock(&c->lock);
    bool busy = c->work != NULL && !is_dead(c);
    pthread_mutex_unlock(&c->lock);
    return busy;
}

uint64_t state_commit_durable(const struct state *s)
{
    return atomic_load(&s->durable);
}

int state_commit_wait(struct state *s, struct err *err)
{
    struct committer *c = committer_of(s);
    pthread_mutex_lock(&c->lock);
    while (c->work != NULL && !is_dead(c))
        pthread_cond_wait(&c->changed, &c->lock);
    bool dead = is_dead(c);
    if (dead && err != NULL)
        *err = c->err;
    pthread_mutex_unlock(&c->lock);
    state_settle(s);
    return dead ? -1 : 0;
}

void state_commit_error(const struct state *s, struct err *ret_err)
{
    struct committer *c = committer_of(s);
    pthread_mutex_lock(&c->lock);
    *ret_err = c->err;
    pthread_mutex_unlock(&c->lock);
}

int state_commit_fd(const struct state *s)
{
    return s->committer.fd;
}

void state_commit_ack(struct state *s)
{
    uint64_t n;
    ssize_t r = s->committer.fd >= 0 ? read(s->committer.fd, &n, sizeof n) : 0; // EAGAIN: nothing ended
    (void)r;
    state_settle(s);
}
