// SPDX-License-Identifier: Apache-2.0
// logfmt lines on stderr: `level=info msg="..." key=value ...`, with the sd-daemon prefix <N> in front when
// stderr is the journal. Only daemon/ logs.
#ifndef FRESHET_BASE_LOG_H
#define FRESHET_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARN = 4, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

// Lines above `level` are dropped. json: one JSON object a line instead of logfmt.
void log_setup(enum log_level level, int json);

// `fields` is a printf format that gives logfmt fields, e.g. "topic=%s offset=%lld", or "" for none. Values
// with spaces must be quoted by the caller with log_quote.
void log_line(enum log_level level, const char *msg, const char *fields, ...)
    __attribute__((format(printf, 3, 4)));

// `s` as a quoted logfmt value, in one of eight static buffers a thread.
const char *log_quote(const char *s);

#define log_error(msg, ...) log_line(LOG_LEVEL_ERROR, msg, __VA_ARGS__)
#define log_warn(msg, ...) log_line(LOG_LEVEL_WARN, msg, __VA_ARGS__)
#define log_info(msg, ...) log_line(LOG_LEVEL_INFO, msg, __VA_ARGS__)
#define log_debug(msg, ...) log_line(LOG_LEVEL_DEBUG, msg, __VA_ARGS__)

#endif
