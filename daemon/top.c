// SPDX-License-Identifier: Apache-2.0
// freshet top: the daemon's status again and again. On a terminal it fills the screen (the alternate one, which
// leaves what was there before), takes keys as they come, of which q ends it, and goes with q, SIGINT, SIGTERM or ^Z
// without leaving a trace; elsewhere it is a line each time. Signals go through a pipe, which is waited for together
// with the keys and the time: to block them would not do, for libraries have threads of their own that take them.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/ask.h"
#include "daemon/commands.h"
#include "daemon/top_view.h"

enum { TOP_ROWS = 24, TOP_COLUMNS = 80 };

struct top_loop {
    struct cli *cli;
    struct top_frame frame;
    struct buf before, now, out;
    int64_t interval_us;
    bool once;
    bool screen;             // the terminal is ours
    bool keys;               // so is its input
    struct termios terminal; // as it was before that
};

static void top_write(const char *s, size_t n)
{
    fwrite(s, 1, n, stdout);
    fflush(stdout);
}

// Keys without waiting for the end of a line, and without an echo; ^C and ^Z stay signals. Who calls it anew, since
// others may have set the terminal meanwhile, keeps what was there before.
static void keys_enter(struct top_loop *t)
{
    if (!t->keys && (isatty(STDIN_FILENO) == 0 || tcgetattr(STDIN_FILENO, &t->terminal) != 0))
        return;
    struct termios raw = t->terminal;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    t->keys = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0 || t->keys;
}

static void keys_leave(struct top_loop *t)
{
    if (t->keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &t->terminal);
    t->keys = false;
}

// To the alternate screen without a cursor, and back.
static void screen_enter(struct top_loop *t)
{
    if (t->frame.form != TOP_SCREEN || t->once)
        return;
    keys_enter(t);
    static const char enter[] = "\033[?1049h\033[?25l\033[2J";
    if (!t->screen)
        top_write(enter, sizeof enter - 1);
    t->screen = true;
}

static void screen_leave(struct top_loop *t)
{
    static const char leave[] = "\033[?25h\033[?1049l";
    if (t->screen)
        top_write(leave, sizeof leave - 1);
    t->screen = false;
    keys_leave(t);
}

static void top_size(struct top_loop *t)
{
    struct winsize size;
    t->frame.rows = TOP_ROWS;
    t->frame.columns = TOP_COLUMNS;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) {
        t->frame.rows = size.ws_row - 1; // the last line's end would scroll
        t->frame.columns = size.ws_col;
    }
}

// The frame, each of its lines clearing the rest of its own, and at the end what is below.
static int top_draw(struct top_loop *t, struct err *err)
{
    buf_clear(&t->out);
    top_size(t);
    if (top_view(&t->frame, buf_str(&t->before), buf_str(&t->now), &t->out, err) != 0)
        return -1;
    if (!t->screen) {
        top_write((const char *)t->out.data, t->out.len);
        return 0;
    }
    printf("\033[H");
    for (size_t i = 0; i < t->out.len; i++) {
        if (t->out.data[i] == '\n')
            printf("\033[K");
        putchar(t->out.data[i]);
    }
    static const char rest[] = "\033[J";
    top_write(rest, sizeof rest - 1);
    return 0;
}

static int top_fetch(struct top_loop *t, struct err *err)
{
    struct buf swap = t->before;
    t->before = t->now;
    t->now = swap;
    buf_clear(&t->now);
    return ask_get(t->cli, "/v1/status", &t->now, err);
}

static int top_pipe[2] = {-1, -1}; // of the signals: a byte each

static void on_signal(int number)
{
    int error = errno;
    const uint8_t byte = (uint8_t)number;
    ssize_t n = write(top_pipe[1], &byte, 1); // fails only when it is full of them
    (void)n;
    errno = error;
}

static int top_signals(struct err *err)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    if (pipe2(top_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return err_errno(err, "a pipe");
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
    return 0;
}

// q is as good as ^C. A terminal that is gone is not asked again.
static int top_key(struct top_loop *t)
{
    char key = 0;
    ssize_t n = read(STDIN_FILENO, &key, 1);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
        keys_leave(t);
    return key == 'q' || key == 'Q' ? SIGINT : 0;
}

// The next signal, or 0 where none came in time.
static int top_signal(struct top_loop *t, int64_t left_us)
{
    uint8_t byte;
    struct pollfd fds[] = {{.fd = top_pipe[0], .events = POLLIN},
                           {.fd = t->keys ? STDIN_FILENO : -1, .events = POLLIN}};
    if (poll(fds, 2, (int)((left_us + 999) / 1000)) <= 0)
        return 0;
    if (fds[0].revents != 0)
        return read(top_pipe[0], &byte, 1) == 1 ? byte : 0;
    return top_key(t);
}

static bool top_ends(int number)
{
    return number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT;
}

// Waits until `until`, and looks at what came even where that has passed: a slow daemon must not hide q. 0: the time is
// over; else the signal that ends it.
static int top_wait(struct top_loop *t, int64_t until)
{
    struct clock_source clock = clock_real();
    struct err err = {0};
    for (;;) {
        int64_t left = until - clock_mono_us(&clock);
        int number = top_signal(t, left > 0 ? left : 0);
        if (top_ends(number))
            return number;
        if (number == 0 && left <= 0)
            return 0;
        if (number == SIGTSTP) { // ^Z: the terminal is given back, and taken again when we go on
            screen_leave(t);
            raise(SIGSTOP);
        }
        if (number == SIGTSTP || number == SIGCONT)
            screen_enter(t);
        if (number != 0 && t->screen)
            top_draw(t, &err);
    }
}

// A daemon that is away is waited for, once it was there: it may only be starting anew.
static int top_run(struct top_loop *t, struct err *err)
{
    struct clock_source clock = clock_real();
    int64_t due = clock_mono_us(&clock);
    if (top_fetch(t, err) != 0)
        return -1;
    screen_enter(t);
    if (t->screen && top_draw(t, err) != 0) // no rates yet
        return -1;
    for (;;) {
        const int64_t now = clock_mono_us(&clock); // frames that were missed are not made up for
        due = due + t->interval_us > now ? due + t->interval_us : now;
        if (top_wait(t, due) != 0)
            return 0;
        int result = top_fetch(t, err);
        if (result == 0)
            result = top_draw(t, err);
        else if (err->retriable && t->screen) {
            printf("\033[H%.*s\033[K\r\n", t->frame.columns, err->message);
            fflush(stdout);
            *err = (struct err){0};
            continue;
        }
        if (result != 0 || t->once || ferror(stdout))
            return result;
    }
}

static int top_interval(struct cli *cli, int64_t *ret_us)
{
    const char *text = cli_value(cli, "interval");
    char *end;
    *ret_us = 1000000;
    if (text == NULL)
        return 0;
    double seconds = strtod(text, &end);
    if (end == text || (*end != '\0' && strcmp(end, "s") != 0) || !(seconds >= 0.1 && seconds <= 3600))
        return cli_usage(cli, "--interval %s: 0.1 to 3600 seconds are expected", text);
    *ret_us = (int64_t)(seconds * 1e6);
    return 0;
}

int top_command(struct cli *cli)
{
    struct top_loop t = {.cli = cli, .once = cli_given(cli, "once")};
    struct err err = {0};
    char address[300];
    int code = top_interval(cli, &t.interval_us);
    if (code != 0)
        return code;
    if (ask_url(cli, address, sizeof address, &err) != 0)
        return cli_fail(cli, &err);
    bool terminal = isatty(STDOUT_FILENO) != 0;
    const char *no_color = getenv("NO_COLOR");
    t.frame = (struct top_frame){.form = cli->json            ? TOP_JSON
                                         : terminal || t.once ? TOP_SCREEN
                                                              : TOP_LINE,
                                 .color = terminal && (no_color == NULL || no_color[0] == '\0'),
                                 .address = address};
    int result = top_signals(&err);
    if (result == 0)
        result = top_run(&t, &err);
    screen_leave(&t);
    buf_done(&t.before);
    buf_done(&t.now);
    buf_done(&t.out);
    return result == 0 ? EXIT_DONE : cli_fail(cli, &err);
}
