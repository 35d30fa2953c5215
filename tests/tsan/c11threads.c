// SPDX-License-Identifier: Apache-2.0
// C11 threads on top of POSIX ones, for builds under ThreadSanitizer alone.
//
// librdkafka is built on <threads.h>, of which TSan knows nothing: a thread that it did not see begin has no place for
// what it keeps of each, and ends the process at its first call. Symbols of the program go before those of libc, so
// librdkafka takes these, and TSan sees pthread_create and the locks that order what the threads do. In glibc the types
// are as large as the POSIX ones (asserted below), so they hold one in place.
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>
#include <time.h>

static_assert(sizeof(mtx_t) >= sizeof(pthread_mutex_t), "a mutex lies in a mtx_t");
static_assert(sizeof(cnd_t) >= sizeof(pthread_cond_t), "a condition lies in a cnd_t");
static_assert(sizeof(thrd_t) == sizeof(pthread_t), "and a thread in a thrd_t");

struct start {
    thrd_start_t call;
    void *context;
};

static int code_of(int error)
{
    return error == 0           ? thrd_success
           : error == ETIMEDOUT ? thrd_timedout
           : error == EBUSY     ? thrd_busy
           : error == ENOMEM    ? thrd_nomem
                                : thrd_error;
}

static void *started(void *context)
{
    struct start start = *(struct start *)context;
    free(context);
    return (void *)(intptr_t)start.call(start.context);
}

int thrd_create(thrd_t *thread, thrd_start_t call, void *context)
{
    struct start *start = malloc(sizeof *start);
    if (start == NULL)
        return thrd_nomem;
    *start = (struct start){call, context};
    int error = pthread_create(thread, NULL, started, start);
    if (error != 0)
        free(start);
    return code_of(error);
}

int thrd_join(thrd_t thread, int *ret_result)
{
    void *result;
    int error = pthread_join(thread, &result);
    if (error == 0 && ret_result != NULL)
        *ret_result = (int)(intptr_t)result;
    return code_of(error);
}

int thrd_detach(thrd_t thread)
{
    return code_of(pthread_detach(thread));
}

int mtx_init(mtx_t *m, int type)
{
    pthread_mutexattr_t how;
    pthread_mutexattr_init(&how);
    if ((type & mtx_recursive) != 0)
        pthread_mutexattr_settype(&how, PTHREAD_MUTEX_RECURSIVE);
    int error = pthread_mutex_init((pthread_mutex_t *)m, &how);
    pthread_mutexattr_destroy(&how);
    return code_of(error);
}

int mtx_lock(mtx_t *m)
{
    return code_of(pthread_mutex_lock((pthread_mutex_t *)m));
}

int mtx_trylock(mtx_t *m)
{
    return code_of(pthread_mutex_trylock((pthread_mutex_t *)m));
}

int mtx_unlock(mtx_t *m)
{
    return code_of(pthread_mutex_unlock((pthread_mutex_t *)m));
}

void mtx_destroy(mtx_t *m)
{
    pthread_mutex_destroy((pthread_mutex_t *)m);
}

int cnd_init(cnd_t *c)
{
    return code_of(pthread_cond_init((pthread_cond_t *)c, NULL));
}

int cnd_signal(cnd_t *c)
{
    return code_of(pthread_cond_signal((pthread_cond_t *)c));
}

int cnd_broadcast(cnd_t *c)
{
    return code_of(pthread_cond_broadcast((pthread_cond_t *)c));
}

int cnd_wait(cnd_t *c, mtx_t *m)
{
    return code_of(pthread_cond_wait((pthread_cond_t *)c, (pthread_mutex_t *)m));
}

int cnd_timedwait(cnd_t *restrict c, mtx_t *restrict m, const struct timespec *restrict until)
{
    return code_of(pthread_cond_timedwait((pthread_cond_t *)c, (pthread_mutex_t *)m, until));
}

void cnd_destroy(cnd_t *c)
{
    pthread_cond_destroy((pthread_cond_t *)c);
}

void call_once(once_flag *flag, void (*call)(void))
{
    static_assert(sizeof(once_flag) == sizeof(pthread_once_t), "and a flag in a once_flag");
    pthread_once((pthread_once_t *)flag, call);
}
