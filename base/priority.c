// SPDX-License-Identifier: Apache-2.0
// A thread that answers requests works for a tenth of a millisecond at a time. On a full machine it waits behind
// threads that compute for as long as their slice lasts, milliseconds, and that is what the slow answers are.
//
// Two things help. Nice values are those of a thread on Linux, whatever POSIX says, and go to the threads that it
// starts. And from 6.12 on a thread can ask for a slice of its own (EEVDF: the deadline by which threads are ordered
// lies one slice ahead); older kernels take the request and do nothing with it.
//
// RocksDB starts its threads when it opens, and names no way to set their nice value but to the least there is, at
// which compaction would fall behind for good on a full machine. So it is set from outside, for all that are there.
#include "base/priority.h"

#include <dirent.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    BACKGROUND_NICE = 5, // a third of the weight: enough to give way, and not to starve beside other programs
    SLICE_NS = 100000,   // the least that the kernel takes
    RESET_ON_FORK = 0x01, // SCHED_FLAG_RESET_ON_FORK: what is started gets the usual slice
};

// As in linux/sched/types.h, which does not go with sched.h everywhere.
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

void priority_others_background(void)
{
    const pid_t self = gettid();
    const int nice = getpriority(PRIO_PROCESS, (id_t)self) + BACKGROUND_NICE;
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL)
        return;
    for (struct dirent *e; (e = readdir(tasks)) != NULL;) {
        pid_t thread = (pid_t)strtol(e->d_name, NULL, 10);
        if (thread > 0 && thread != self && getpriority(PRIO_PROCESS, (id_t)thread) < nice)
            (void)setpriority(PRIO_PROCESS, (id_t)thread, nice);
    }
    closedir(tasks);
}

void priority_prompt(void)
{
    struct attributes a = {.size = sizeof a};
    if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) != 0 || a.policy != SCHED_OTHER)
        return;
    a.size = sizeof a;
    a.flags = RESET_ON_FORK;
    a.runtime = SLICE_NS;
    (void)syscall(SYS_sched_setattr, 0, &a, 0);
}
