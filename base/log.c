// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/json.h"

enum { QUOTE_BUFFERS = 8, QUOTE_BYTES = 1200 };

static enum log_level log_max = LOG_LEVEL_INFO;
static int log_json;
static int log_journal;

// JOURNAL_STREAM names the device and inode of the journal's socket: stderr is the journal if it is that.
static int log_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat st;
    unsigned long long dev;
    unsigned long long ino;
    return stream != NULL && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && fstat(2, &st) == 0 &&
           st.st_dev == dev && st.st_ino == ino;
}

void log_setup(enum log_level level, int json)
{
    log_max = level;
    log_json = json;
    log_journal = log_is_journal();
}

static const char *log_level_name(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_ERROR:
        return "error";
    case LOG_LEVEL_WARN:
        return "warn";
    case LOG_LEVEL_INFO:
        return "info";
    case LOG_LEVEL_DEBUG:
        return "debug";
    }
    return "info";
}

static void log_put_time(struct buf *line)
{
    struct timespec t;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    char text[32];
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    buf_printf(line, "%s.%03ldZ", text, t.tv_nsec / 1000000);
}

// One `key=value` or `key="value"` of logfmt as a JSON member; returns where the next begins.
static const char *log_field_json(struct json *j, const char *p)
{
    const char *eq = strchr(p, '=');
    if (eq == NULL)
        return p + strlen(p);
    json_key_n(j, p, (size_t)(eq - p));
    const char *value = eq + 1;
    struct buf text = {0};
    if (*value == '"') {
        for (value++; *value != '\0' && *value != '"'; value++) {
            if (*value == '\\' && value[1] != '\0')
                value++;
            buf_put_u8(&text, (uint8_t)*value);
        }
        value += *value == '"';
    } else {
        size_t n = strcspn(value, " ");
        buf_put(&text, value, n);
        value += n;
    }
    json_string_n(j, (const char *)text.data, text.len);
    buf_done(&text);
    return value + strspn(value, " ");
}

void log_line(enum log_level level, const char *msg, const char *fields, ...)
{
    if (level > log_max)
        return;
    struct buf text = {0};
    va_list args;
    va_start(args, fields);
    char stack[2000];
    vsnprintf(stack, sizeof stack, fields, args);
    va_end(args);
    if (log_journal)
        buf_printf(&text, "<%d>", (int)level);
    if (log_json) {
        struct buf when = {0};
        log_put_time(&when);
        struct json j = json_to(&text);
        json_object(&j);
        json_key(&j, "time");
        json_string_n(&j, (const char *)when.data, when.len);
        json_key(&j, "level");
        json_string(&j, log_level_name(level));
        json_key(&j, "msg");
        json_string(&j, msg);
        for (const char *p = stack; *p != '\0';)
            p = log_field_json(&j, p);
        json_end(&j);
        buf_done(&when);
    } else {
        if (!log_journal) {
            buf_put(&text, "time=", 5);
            log_put_time(&text);
            buf_put_u8(&text, ' ');
        }
        buf_printf(&text, "level=%s msg=%s%s%s", log_level_name(level), log_quote(msg), *stack ? " " : "",
                   stack);
    }
    buf_put_u8(&text, '\n');
    fwrite(text.data, 1, text.len, stderr);
    buf_done(&text);
}

const char *log_quote(const char *s)
{
    static _Thread_local char buffers[QUOTE_BUFFERS][QUOTE_BYTES];
    static _Thread_local unsigned turn;
    char *out = buffers[turn++ % QUOTE_BUFFERS];
    size_t n = 0;
    out[n++] = '"';
    for (; *s != '\0' && n < QUOTE_BYTES - 4; s++) {
        if (*s == '"' || *s == '\\')
            out[n++] = '\\';
        if (*s == '\n') {
            out[n++] = '\\';
            out[n++] = 'n';
            continue;
        }
        out[n++] = *s;
    }
    out[n++] = '"';
    out[n] = '\0';
    return out;
}
