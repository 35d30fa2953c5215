// SPDX-License-Identifier: Apache-2.0
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void err_fill(struct err *err, enum err_code code, bool retriable, const char *fmt, va_list args)
{
    if (err == NULL)
        return;
    err->code = code;
    err->retriable = retriable;
    vsnprintf(err->message, sizeof err->message, fmt, args);
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    err_fill(err, code, false, fmt, args);
    va_end(args);
    return -1;
}

int err_set_retriable(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    err_fill(err, code, true, fmt, args);
    va_end(args);
    return -1;
}

int err_context(struct err *err, const char *fmt, ...)
{
    if (err == NULL)
        return -1;
    char before[sizeof err->message];
    va_list args;
    va_start(args, fmt);
    vsnprintf(before, sizeof before, fmt, args);
    va_end(args);
    char whole[2 * sizeof err->message + 3];
    snprintf(whole, sizeof whole, "%s: %s", before, err->message);
    whole[sizeof err->message - 1] = '\0';
    memcpy(err->message, whole, sizeof err->message);
    return -1;
}

int err_errno(struct err *err, const char *fmt, ...)
{
    int saved = errno;
    va_list args;
    va_start(args, fmt);
    bool full = saved == ENOSPC || saved == EDQUOT;
    err_fill(err, full ? ERR_FULL : ERR_IO, full || saved == EINTR || saved == EAGAIN, fmt, args);
    va_end(args);
    if (err != NULL) {
        size_t n = strlen(err->message);
        char text[128];
        snprintf(err->message + n, sizeof err->message - n, ": %s", strerror_r(saved, text, sizeof text));
    }
    return -1;
}
