// SPDX-License-Identifier: Apache-2.0
// Nice values of threads, as the kernel tells them.
#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/priority.h"

struct worker {
    sem_t began, ends;
    int inherited;
};

static void *inner_main(void *worker)
{
    ((struct worker *)worker)->inherited = getpriority(PRIO_PROCESS, (id_t)gettid());
    return NULL;
}

static void *worker_main(void *worker)
{
    struct worker *w = worker;
    pthread_t inner;
    sem_post(&w->began);
    sem_wait(&w->ends);
    if (pthread_create(&inner, NULL, inner_main, w) == 0)
        pthread_join(inner, NULL);
    return (void *)(intptr_t)getpriority(PRIO_PROCESS, (id_t)gettid());
}

Test(priority, others_and_what_they_start_give_way_and_the_caller_does_not)
{
    const int own = getpriority(PRIO_PROCESS, (id_t)gettid());
    const int below = own + 5 < 19 ? own + 5 : 19; // 19 is the least there is
    struct worker w = {.inherited = -100};
    pthread_t thread;
    void *nice;
    sem_init(&w.began, 0, 0);
    sem_init(&w.ends, 0, 0);
    cr_assert_eq(pthread_create(&thread, NULL, worker_main, &w), 0);
    sem_wait(&w.began);
    priority_prompt();
    priority_others_background();
    priority_others_background(); // not further
    sem_post(&w.ends);
    pthread_join(thread, &nice);
    cr_assert_eq((intptr_t)nice, below);
    cr_assert_eq(w.inherited, below);
    cr_assert_eq(getpriority(PRIO_PROCESS, (id_t)gettid()), own);
}
