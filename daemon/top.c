// SPDX-License-Identifier: Apache-2.0
// freshet top: the daemon's status again and again. On a terminal it fills the screen (the alternate one, which
// leaves what was there before) and goes with SIGINT, SIGTERM or ^Z without leaving a trace; elsewhere it is a
// line each time. Signals go through a pipe, which is waited for together with the time: to block them would not
// do, for libraries have threads of their own that take them.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
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
    bool screen; // the terminal is ours
};

static void top_write(const char *s, size_t n)
{
    fwrite(s, 1, n, stdout);
    fflush(stdout);
}

// To the alternate screen without a cursor, and back.
static void screen_enter(struct top_loop *t)
{
    if (t->frame.form != TOP_SCREEN || t->screen)
        return;
    static const char enter[] = "\033[?1049h\033[?25l\033[2J";
    top_write(enter, sizeof enter - 1);
    t->screen = true;
}

static void screen_leave(struct top_loop *t)
{
    static const char leave[] = "\033[?25h\033[?1049l";
    if (t->screen)
        top_write(leave, sizeof leave - 1);
    t->screen = false;
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

// ^Z: the terminal is given back, and taken again when we go on.
static void top_suspend(struct top_loop *t)
{
    screen_leave(t);
    raise(SIGSTOP);
    screen_enter(t);
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
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGWINCH};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    if (pipe2(top_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return err_errno(err, "a pipe");
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
    return 0;
}

// The next signal, or 0 where none came in time.
static int top_signal(int64_t left_us)
{
    uint8_t byte;
    struct pollfd fd = {.fd = top_pipe[0], .events = POLLIN};
    if (poll(&fd, 1, (int)((left_us + 999) / 1000)) <= 0 || read(top_pipe[0], &byte, 1) != 1)
        return 0;
    return byte;
}

// Waits until `until`. 0: the time is over; else the signal that ends it.
static int top_wait(struct top_loop *t, int64_t until)
{
    struct clock_source clock = clock_real();
    struct err err = {0};
    for (int64_t left; (left = until - clock_mono_us(&clock)) > 0;) {
        int number = top_signal(left);
        if (number == SIGINT || number == SIGTERM || number == SIGHUP)
            return number;
        if (number == SIGTSTP)
            top_suspend(t);
        if ((number == SIGWINCH || number == SIGTSTP) && t->screen)
            top_draw(t, &err);
    }
    return 0;
}

// A daemon that is away is waited for, once it was there: it may only be starting anew.
static int top_run(struct top_loop *t, bool once, struct err *err)
{
    struct clock_source clock = clock_real();
    int64_t due = clock_mono_us(&clock);
    if (top_fetch(t, err) != 0)
        return -1;
    if (!once)
        screen_enter(t);
    if (t->screen && top_draw(t, err) != 0) // no rates yet
        return -1;
    for (;;) {
        due += t->interval_us;
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
        if (result != 0 || once || ferror(stdout))
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
    struct top_loop t = {.cli = cli};
    struct err err = {0};
    char address[300];
    int code = top_interval(cli, &t.interval_us);
    if (code != 0)
        return code;
    if (ask_url(cli, address, sizeof address, &err) != 0)
        return cli_fail(cli, &err);
    bool once = cli_given(cli, "once");
    bool terminal = isatty(STDOUT_FILENO) != 0;
    const char *no_color = getenv("NO_COLOR");
    t.frame = (struct top_frame){.form = cli->json          ? TOP_JSON
                                         : terminal || once ? TOP_SCREEN
                                                            : TOP_LINE,
                                 .color = terminal && (no_color == NULL || no_color[0] == '\0'),
                                 .address = address};
    int result = top_signals(&err);
    if (result == 0)
        result = top_run(&t, once, &err);
    screen_leave(&t);
    buf_done(&t.before);
    buf_done(&t.now);
    buf_done(&t.out);
    return result == 0 ? EXIT_DONE : cli_fail(cli, &err);
}
