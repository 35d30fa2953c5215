// SPDX-License-Identifier: Apache-2.0
// A library for LD_PRELOAD under which the world of a process goes wrong at one exact call. The calls of libc by
// which a process touches files below one directory, or a socket that it connected, pass through here and are
// counted; so are the named steps of base/step.h. At the call that the plan names the process is killed (-9),
// before it, after it or half-way through a write; or the call fails; or the disk is full from then on, until a
// file appears. Production code needs no hooks, and the same plan gives the same crash.
//
//     CRASH_DIR=/path    what is watched: files below it (as the process spells them)
//     CRASH_LOG=/path    a line "fired ..." when the plan comes true; at a normal end "calls CLASS N" for each
//     CRASH_PLAN=...     key=value, key=value ...:
//
//         on=CLASS       open (that creates), write, sync, range (a hint: sync_file_range), allocate, rename, link,
//                        unlink, truncate, mkdir, send, recv, step; any: each of them but step and sockets;
//                        socket: send and recv
//         name=TEXT      only where the path below CRASH_DIR holds TEXT; of a step: its whole name
//         at=N           the N-th such call, from 1
//         times=N        of errors and short writes: that one and N - 1 more; 0: all from then on
//         do=kill        SIGKILL before the call
//         do=killafter   SIGKILL after it
//         do=torn        SIGKILL after the first half of a write or send
//         do=short       the first half of a write, which returns so
//         do=full        no space: calls that need some fail, and statvfs tells 0, until the file `until` exists;
//                        if the call is a write, its first half still finds room
//         do=NUMBER      fails with this errno
//         until=PATH     of do=full
//
// Calls that libc makes inside itself (stdio, opendir) do not come by, which is right for what is tested: data
// is written by write, pwrite and the sync calls.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum call {
    CALL_OPEN,
    CALL_WRITE,
    CALL_SYNC,
    CALL_RANGE,
    CALL_ALLOCATE,
    CALL_RENAME,
    CALL_LINK,
    CALL_UNLINK,
    CALL_TRUNCATE,
    CALL_MKDIR,
    CALL_SEND,
    CALL_RECV,
    CALL_STEP,
    CALL_COUNT
};

enum {
    FDS = 4096,
    NAME_BYTES = 64, // of a path below the directory, as much as plans look at
    SOCKETS = 1 << CALL_SEND | 1 << CALL_RECV,
    NEED_ROOM = 1 << CALL_OPEN | 1 << CALL_WRITE | 1 << CALL_ALLOCATE | 1 << CALL_RENAME | 1 << CALL_LINK |
                1 << CALL_MKDIR,
};

static const char *const call_names[CALL_COUNT] = {"open",   "write", "sync",   "range",    "allocate",
                                                   "rename", "link",  "unlink", "truncate", "mkdir",
                                                   "send",   "recv",  "step"};

enum action { DO_NOTHING, DO_KILL, DO_KILL_AFTER, DO_TORN, DO_SHORT, DO_FULL, DO_ERROR };

static struct {
    bool ready;
    char dir[512];
    size_t dir_len;
    char log[512];
    unsigned on; // bit c: call c is counted
    char name[NAME_BYTES];
    uint64_t at, times;
    enum action action;
    int error;
    char until[512];
} plan;

static atomic_uint_least64_t counted;           // calls that the plan looks at
static atomic_uint_least64_t calls[CALL_COUNT]; // all of them
static atomic_bool fired;

// What a descriptor is: '\0' not watched, "@" a socket, else the path below the directory.
static char fd_names[FDS][NAME_BYTES];

// ---- the plan ---------------------------------------------------------------------------------------------

static unsigned plan_classes(const char *text)
{
    if (strcmp(text, "any") == 0)
        return (1 << CALL_STEP) - 1 - SOCKETS;
    if (strcmp(text, "socket") == 0)
        return SOCKETS;
    for (int c = 0; c < CALL_COUNT; c++)
        if (strcmp(text, call_names[c]) == 0)
            return 1U << c;
    return 0;
}

static void plan_action(const char *text)
{
    static const char *const names[] = {[DO_KILL] = "kill",
                                        [DO_KILL_AFTER] = "killafter",
                                        [DO_TORN] = "torn",
                                        [DO_SHORT] = "short",
                                        [DO_FULL] = "full"};
    for (int a = DO_KILL; a <= DO_FULL; a++)
        if (strcmp(text, names[a]) == 0)
            plan.action = (enum action)a;
    if (plan.action == DO_NOTHING) {
        plan.action = DO_ERROR;
        plan.error = atoi(text);
    }
}

static void plan_put(const char *key, const char *value)
{
    if (strcmp(key, "on") == 0)
        plan.on = plan_classes(value);
    else if (strcmp(key, "name") == 0)
        snprintf(plan.name, sizeof plan.name, "%s", value);
    else if (strcmp(key, "at") == 0)
        plan.at = strtoull(value, NULL, 10);
    else if (strcmp(key, "times") == 0)
        plan.times = strtoull(value, NULL, 10);
    else if (strcmp(key, "do") == 0)
        plan_action(value);
    else if (strcmp(key, "until") == 0)
        snprintf(plan.until, sizeof plan.until, "%s", value);
}

static void plan_read(const char *text)
{
    char copy[2048];
    char *rest = copy;
    snprintf(copy, sizeof copy, "%s", text);
    plan.times = 1;
    for (char *pair; (pair = strsep(&rest, ",")) != NULL;) {
        char *value = strchr(pair, '=');
        if (value == NULL)
            continue;
        *value = '\0';
        plan_put(pair, value + 1);
    }
}

__attribute__((constructor)) static void shim_ready(void)
{
    const char *dir = getenv("CRASH_DIR");
    const char *log = getenv("CRASH_LOG");
    const char *text = getenv("CRASH_PLAN");
    if (plan.ready)
        return;
    snprintf(plan.dir, sizeof plan.dir, "%s", dir != NULL ? dir : "");
    snprintf(plan.log, sizeof plan.log, "%s", log != NULL ? log : "");
    plan.dir_len = strlen(plan.dir);
    plan_read(text != NULL ? text : "");
    plan.ready = true;
}

// ---- past this library ------------------------------------------------------------------------------------

// Calls are made by number: no lookup that could come back here, and no moment at which it is not ready.
static void log_line(const char *line)
{
    if (plan.log[0] == '\0')
        return;
    long fd = syscall(SYS_openat, AT_FDCWD, plan.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0)
        return;
    syscall(SYS_write, fd, line, strlen(line));
    syscall(SYS_close, fd);
}

__attribute__((destructor)) static void shim_end(void)
{
    char line[80];
    for (int c = 0; c < CALL_COUNT; c++) {
        snprintf(line, sizeof line, "calls %s %llu\n", call_names[c],
                 (unsigned long long)atomic_load(&calls[c]));
        log_line(line);
    }
}

static void die(void)
{
    for (;;)
        syscall(SYS_kill, getpid(), SIGKILL);
}

static void told(enum call c, const char *name, uint64_t n)
{
    char line[NAME_BYTES + 80];
    if (atomic_exchange(&fired, true))
        return;
    snprintf(line, sizeof line, "fired %s %s %llu\n", call_names[c], name, (unsigned long long)n);
    log_line(line);
}

// ---- what becomes of a call -------------------------------------------------------------------------------

static bool full_now(void)
{
    return plan.action == DO_FULL && atomic_load(&fired) &&
           syscall(SYS_faccessat, AT_FDCWD, plan.until, F_OK) != 0;
}

static bool plan_sees(enum call c, const char *name)
{
    if ((plan.on >> c & 1) == 0)
        return false;
    if (plan.name[0] == '\0')
        return true;
    return c == CALL_STEP ? strcmp(name, plan.name) == 0 : strstr(name, plan.name) != NULL;
}

static enum action judge_full(enum call c, const char *name, uint64_t n)
{
    if (n == plan.at) {
        told(c, name, n);
        if (c == CALL_WRITE)
            return DO_SHORT; // the write that fills the disk gets half of its bytes down
    }
    if ((NEED_ROOM >> c & 1) == 0 || !full_now())
        return DO_NOTHING;
    errno = ENOSPC;
    return DO_ERROR;
}

// DO_ERROR: errno is set. DO_KILL never comes back.
static enum action judge(enum call c, const char *name)
{
    if (!plan.ready)
        shim_ready();
    atomic_fetch_add(&calls[c], 1);
    bool seen = plan_sees(c, name);
    uint64_t n = seen ? atomic_fetch_add(&counted, 1) + 1 : 0;
    if (plan.action == DO_FULL)
        return judge_full(c, name, n);
    if (!seen || n < plan.at || (plan.times > 0 && n - plan.at >= plan.times))
        return DO_NOTHING;
    told(c, name, n);
    if (plan.action == DO_KILL)
        die();
    errno = plan.error;
    return plan.action;
}

// A call that is done or not, as a whole.
static long after(enum action action, long result)
{
    if (action == DO_KILL_AFTER || action == DO_TORN)
        die();
    return result;
}

// How much of `n` bytes is written.
static size_t part(enum action action, size_t n)
{
    return (action == DO_TORN || action == DO_SHORT) && n > 1 ? n / 2 : n;
}

void step_observed(const char *name);
void step_observed(const char *name)
{
    after(judge(CALL_STEP, name), 0);
}

// ---- descriptors ------------------------------------------------------------------------------------------

// The part of a path below the directory, or NULL.
static const char *below(const char *path)
{
    if (!plan.ready)
        shim_ready();
    if (plan.dir_len == 0 || path == NULL || strncmp(path, plan.dir, plan.dir_len) != 0)
        return NULL;
    path += plan.dir_len;
    if (*path != '/' && *path != '\0')
        return NULL;
    return *path == '/' && path[1] != '\0' ? path + 1 : ".";
}

static void fd_put(long fd, const char *name)
{
    if (fd >= 0 && fd < FDS)
        snprintf(fd_names[fd], NAME_BYTES, "%s", name);
}

// NULL: not watched.
static const char *fd_file(int fd)
{
    return fd >= 0 && fd < FDS && fd_names[fd][0] != '\0' && fd_names[fd][0] != '@' ? fd_names[fd] : NULL;
}

static bool fd_socket(int fd)
{
    return fd >= 0 && fd < FDS && fd_names[fd][0] == '@';
}

static int shim_open(int at, const char *path, int flags, mode_t mode)
{
    const char *name = below(path);
    enum action action = name != NULL && (flags & O_CREAT) != 0 ? judge(CALL_OPEN, name) : DO_NOTHING;
    if (action == DO_ERROR)
        return -1;
    long fd = after(action, syscall(SYS_openat, at, path, flags, mode));
    fd_put(fd, name != NULL ? name : "");
    return (int)fd;
}

static mode_t open_mode(int flags, va_list rest)
{
    return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = open_mode(flags, rest);
    va_end(rest);
    return shim_open(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = open_mode(flags, rest);
    va_end(rest);
    return shim_open(AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = open_mode(flags, rest);
    va_end(rest);
    return shim_open(at, path, flags, mode);
}

int close(int fd)
{
    fd_put(fd, "");
    return (int)syscall(SYS_close, fd);
}

int connect(int fd, const struct sockaddr *address, socklen_t n)
{
    if (address->sa_family == AF_INET || address->sa_family == AF_INET6)
        fd_put(fd, "@");
    return (int)syscall(SYS_connect, fd, address, n);
}

// ---- writing ----------------------------------------------------------------------------------------------

ssize_t write(int fd, const void *bytes, size_t n)
{
    const char *name = fd_file(fd);
    enum action action = name != NULL ? judge(CALL_WRITE, name) : DO_NOTHING;
    return action == DO_ERROR ? -1 : after(action, syscall(SYS_write, fd, bytes, part(action, n)));
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    const char *name = fd_file(fd);
    enum action action = name != NULL ? judge(CALL_WRITE, name) : DO_NOTHING;
    return action == DO_ERROR ? -1 : after(action, syscall(SYS_pwrite64, fd, bytes, part(action, n), at));
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off_t at)
{
    return pwrite(fd, bytes, n, at);
}

// Half of several pieces is the half of the first.
ssize_t writev(int fd, const struct iovec *pieces, int n)
{
    const char *name = fd_file(fd);
    enum action action = name != NULL && n > 0 ? judge(CALL_WRITE, name) : DO_NOTHING;
    if (action == DO_ERROR)
        return -1;
    if (action == DO_TORN || action == DO_SHORT)
        return after(action, syscall(SYS_write, fd, pieces[0].iov_base, part(action, pieces[0].iov_len)));
    return after(action, syscall(SYS_writev, fd, pieces, n));
}

ssize_t pwritev(int fd, const struct iovec *pieces, int n, off_t at)
{
    const char *name = fd_file(fd);
    enum action action = name != NULL && n > 0 ? judge(CALL_WRITE, name) : DO_NOTHING;
    if (action == DO_ERROR)
        return -1;
    if (action == DO_TORN || action == DO_SHORT)
        return after(action,
                     syscall(SYS_pwrite64, fd, pieces[0].iov_base, part(action, pieces[0].iov_len), at));
    return after(action, syscall(SYS_pwritev, fd, pieces, n, at, 0L));
}

static int fd_call(enum call c, int fd, long number, long a, long b, long d)
{
    const char *name = fd_file(fd);
    enum action action = name != NULL ? judge(c, name) : DO_NOTHING;
    return action == DO_ERROR ? -1 : (int)after(action, syscall(number, fd, a, b, d));
}

int fsync(int fd)
{
    return fd_call(CALL_SYNC, fd, SYS_fsync, 0, 0, 0);
}

int fdatasync(int fd)
{
    return fd_call(CALL_SYNC, fd, SYS_fdatasync, 0, 0, 0);
}

int sync_file_range(int fd, off_t from, off_t n, unsigned flags)
{
    return fd_call(CALL_RANGE, fd, SYS_sync_file_range, from, n, (long)flags);
}

int ftruncate(int fd, off_t size)
{
    return fd_call(CALL_TRUNCATE, fd, SYS_ftruncate, size, 0, 0);
}

int fallocate(int fd, int mode, off_t from, off_t n)
{
    return fd_call(CALL_ALLOCATE, fd, SYS_fallocate, mode, from, n);
}

int posix_fallocate(int fd, off_t from, off_t n)
{
    return fallocate(fd, 0, from, n) == 0 ? 0 : errno;
}

// ---- names ------------------------------------------------------------------------------------------------

static int path_call(enum call c, const char *path, long number, long a, long b, long d, long e)
{
    const char *name = below(path);
    enum action action = name != NULL ? judge(c, name) : DO_NOTHING;
    return action == DO_ERROR ? -1 : (int)after(action, syscall(number, a, b, d, e));
}

int rename(const char *from, const char *to)
{
    return path_call(CALL_RENAME, to, SYS_rename, (long)from, (long)to, 0, 0);
}

int link(const char *from, const char *to)
{
    return path_call(CALL_LINK, to, SYS_link, (long)from, (long)to, 0, 0);
}

int unlink(const char *path)
{
    return path_call(CALL_UNLINK, path, SYS_unlink, (long)path, 0, 0, 0);
}

// A relative path is not watched: what it is relative to is not known here.
int unlinkat(int at, const char *path, int flags)
{
    return path_call(CALL_UNLINK, path, SYS_unlinkat, at, (long)path, flags, 0);
}

int mkdir(const char *path, mode_t mode)
{
    return path_call(CALL_MKDIR, path, SYS_mkdir, (long)path, (long)mode, 0, 0);
}

int statvfs(const char *path, struct statvfs *ret)
{
    int (*real)(const char *, struct statvfs *) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "statvfs");
    int result = real(path, ret);
    if (result == 0 && below(path) != NULL && full_now())
        ret->f_bavail = ret->f_bfree = 0;
    return result;
}

// ---- sockets ----------------------------------------------------------------------------------------------

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    enum action action = fd_socket(fd) ? judge(CALL_SEND, "@") : DO_NOTHING;
    if (action == DO_ERROR)
        return -1;
    if ((action == DO_TORN || action == DO_SHORT) && m->msg_iovlen > 0) {
        const struct iovec *first = &m->msg_iov[0];
        return after(action,
                     syscall(SYS_sendto, fd, first->iov_base, part(action, first->iov_len), flags, NULL, 0));
    }
    return after(action, syscall(SYS_sendmsg, fd, m, flags));
}

ssize_t send(int fd, const void *bytes, size_t n, int flags)
{
    enum action action = fd_socket(fd) ? judge(CALL_SEND, "@") : DO_NOTHING;
    return action == DO_ERROR
               ? -1
               : after(action, syscall(SYS_sendto, fd, bytes, part(action, n), flags, NULL, 0));
}

ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
    enum action action = fd_socket(fd) ? judge(CALL_RECV, "@") : DO_NOTHING;
    return action == DO_ERROR ? -1 : after(action, syscall(SYS_recvmsg, fd, m, flags));
}

ssize_t recv(int fd, void *bytes, size_t n, int flags)
{
    enum action action = fd_socket(fd) ? judge(CALL_RECV, "@") : DO_NOTHING;
    return action == DO_ERROR ? -1 : after(action, syscall(SYS_recvfrom, fd, bytes, n, flags, NULL, NULL));
}
