// SPDX-License-Identifier: Apache-2.0
// What the exports have in common; used by export*.c only.
#ifndef FRESHET_DAEMON_EXPORT_H
#define FRESHET_DAEMON_EXPORT_H

#include <stdio.h>

#include "base/json.h"
#include "daemon/cli.h"
#include "daemon/engine.h"

// Which samples, in order of the log: numbers in [first, end), emitted_ts in
// [from, to).
struct export_range {
    uint64_t first, end;
    int64_t from, to;
};

struct export
{
    struct cli *cli;
    struct engine *engine;
    struct buf out;
    struct json json;
    int64_t at;
    struct export_range range;
    FILE *to; // stdout, or of --out
    bool write_failed;
    struct err err; // of a visitor
};

// Begins a line of the output with a JSON object; export_line_end ends both,
// export_end a line whose object somebody else has ended.
struct json *export_line(struct export *x);
void export_line_end(struct export *x);
void export_end(struct export *x);
void export_flush(struct export *x);

// Reads the options of `export samples`. -1: one makes no sense, and *ret_why
// says which.
int export_range_get(const struct cli *cli, struct export_range *ret_range, char *ret_why, size_t size);
int export_samples(struct export *x, struct err *err);
// The columns that the net reads, as safetensors (export_columns.c).
int export_columns(struct export *x, struct err *err);
int export_predictions(struct export *x, struct err *err);
// Dense layers and tables in one file (model_file.h).
int export_model(struct export *x, struct err *err);
// Calls `row` for each sample of the range. It returns -1, with err, to end
// early.
int export_samples_each(struct engine *e, const struct export_range *range,
                        int (*row)(void *context, const struct sample *s, const struct feature_row *row,
                                   struct err *err),
                        void *context, struct err *err);
// Writes the range as Arrow IPC: a file, with the footer that gives random
// access, or a stream.
int export_arrow(struct engine *e, const struct export_range *range, FILE *to, bool as_file, struct err *err);

#endif
