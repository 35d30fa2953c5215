// SPDX-License-Identifier: Apache-2.0
// Errors: a function that can fail returns 0 or -1 and fills the caller's struct err. Each layer may put
// context before the message with err_context; only daemon/ logs. A message says what happened, where, and
// what the operator can do.
#ifndef FRESHET_BASE_ERR_H
#define FRESHET_BASE_ERR_H

#include <stdbool.h>

enum err_code {
    ERR_NONE = 0,
    ERR_INVALID,     // the caller's input makes no sense
    ERR_CONFIG,      // a config mistake; the message carries file:line:column
    ERR_IO,          // the system said no
    ERR_FULL,        // no space left; retriable
    ERR_VERSION,     // a store or a message of another version
    ERR_CORRUPT,     // a damaged store or message
    ERR_LOCKED,      // another process holds the store
    ERR_NOT_FOUND,   // no such thing
    ERR_UNAVAILABLE, // broker away, port in use
    ERR_OFFSET_GONE, // Kafka no longer holds the offset where we stand
    ERR_GAP,         // a delta is missing, repeated or of another base
    ERR_DIGEST,      // two digests that must agree do not
    ERR_NUMERIC,     // NaN, Inf, or a kernel that computes wrong numbers
    ERR_LIMIT,       // a configured or built-in bound was reached
};

struct err {
    enum err_code code;
    bool retriable; // trying the same again later can succeed
    char message[1000];
};

// Fills *err and returns -1, so that a function can end with `return err_set(...)`. err may be NULL.
int err_set(struct err *err, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

// As err_set with retriable set.
int err_set_retriable(struct err *err, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// Puts "context: " before the message of an error that is set. Returns -1.
int err_context(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// As err_set(ERR_IO or ERR_FULL, "...: strerror(errno)").
int err_errno(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
