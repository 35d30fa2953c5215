// SPDX-License-Identifier: Apache-2.0
// JSONL files as parts: one message a line, offset = byte position of the line, key empty.
//
//     data  [ handed over | lines, a part of one at the end | free ]
//            0             begin                         end    cap
//
// Large reads into one buffer a file; what remains of a line is moved to the front before the next read. A
// line of over EVENT_MESSAGE_BYTES is bad and read to its newline without being kept: its beginning goes to
// the DLQ, which would not take more than Kafka's 1 MB anyway.

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "stream/source.h"
#include "stream/source_impl.h"

enum {
    FILE_READ = 256 << 10,    // the buffer, to begin with
    FILE_CUT_BYTES = 64 << 10 // kept of a line that is too long
};

struct file {
    char *path;
    int fd;
    bool opened; // close it
    bool eof;
    char *data;
    size_t begin;
    size_t end;
    size_t scanned; // data before it holds no newline, >= begin
    size_t cap;
    int64_t position; // in the file, of data[begin]
    int64_t skip;     // bytes to read and throw away before the first line
    uint64_t cut;     // bytes of a too long line that were thrown away after FILE_CUT_BYTES
};

struct files {
    struct source *source;
    int64_t append_ms;
    struct file *v;
    uint32_t n;
};

// ---- reading ----------------------------------------------------------------------------------------------

// Room for a read: the rest of a line goes to the front, a buffer that it fills is doubled.
static void file_make_room(struct file *f)
{
    if (f->begin > 0) {
        memmove(f->data, f->data + f->begin, f->end - f->begin);
        f->scanned -= f->begin;
        f->end -= f->begin;
        f->begin = 0;
    }
    if (f->cap - f->end < FILE_READ / 2) {
        f->cap = f->cap > 0 ? 2 * f->cap : FILE_READ;
        f->data = mem_resize(f->data, f->cap, 1);
    }
}

static int file_read(struct file *f, struct err *err)
{
    file_make_room(f);
    ssize_t n;
    do
        n = read(f->fd, f->data + f->end, f->cap - f->end);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_errno(err, "reading %s", f->path);
    f->eof = n == 0;
    f->end += (size_t)n;
    return 0;
}

static int file_skip(struct file *f, struct err *err)
{
    while (f->skip > 0) {
        if (file_read(f, err) < 0)
            return -1;
        if (f->eof)
            return err_set(err, ERR_INVALID, "%s ends before offset %" PRId64 ", where it is to go on",
                           f->path, f->position);
        size_t n = f->end - f->begin;
        n = (int64_t)n < f->skip ? n : (size_t)f->skip;
        f->begin += n;
        f->scanned = f->begin;
        f->skip -= (int64_t)n;
    }
    return 0;
}

// ---- lines ------------------------------------------------------------------------------------------------

static bool file_is_blank(struct str line)
{
    for (uint32_t i = 0; i < line.len; i++) {
        if (line.s[i] != ' ' && line.s[i] != '\t' && line.s[i] != '\r')
            return false;
    }
    return true;
}

// The line data[begin .. begin + n) ends, with its newline if it has one. True if it was a message.
static bool file_line(struct files *files, uint32_t part, size_t n, bool newline)
{
    struct file *f = &files->v[part];
    size_t kept = n < FILE_CUT_BYTES ? n : FILE_CUT_BYTES;
    uint64_t full = n + f->cut;
    bool cut = full > EVENT_MESSAGE_BYTES;
    int64_t next = f->position + (int64_t)full + newline;
    struct source_raw raw = {
        .value = {f->data + f->begin, (uint32_t)(cut ? kept : n)},
        .cut_from = cut ? full : 0,
        .offset = f->position,
        .next_offset = next,
        .append_ms = files->append_ms,
    };
    bool message = cut || !file_is_blank(raw.value);
    if (message)
        source_push(files->source, part, &raw);
    f->position = next;
    f->begin += n + newline;
    f->scanned = f->begin;
    f->cut = 0;
    return message;
}

// Throws away what a line without end in sight has beyond FILE_CUT_BYTES.
static void file_cut(struct file *f)
{
    size_t n = f->end - f->begin;
    if (n <= FILE_CUT_BYTES || (f->cut == 0 && n <= EVENT_MESSAGE_BYTES))
        return;
    f->cut += n - FILE_CUT_BYTES;
    f->end = f->begin + FILE_CUT_BYTES;
    f->scanned = f->end;
}

// Hands over lines that are in the buffer; returns how many messages.
static uint32_t file_lines(struct files *files, uint32_t part, uint32_t max)
{
    struct file *f = &files->v[part];
    uint32_t n = 0;
    while (n < max) {
        const char *from = f->data + f->scanned;
        const char *newline = f->end > f->scanned ? memchr(from, '\n', f->end - f->scanned) : NULL;
        if (newline == NULL) {
            f->scanned = f->end;
            file_cut(f);
            break;
        }
        n += file_line(files, part, (size_t)(newline - f->data) - f->begin, true);
    }
    if (f->eof && n < max && f->end > f->begin)
        n += file_line(files, part, f->end - f->begin, false);
    return n;
}

static int files_fetch(void *impl, uint32_t part, struct err *err)
{
    struct files *files = impl;
    struct file *f = &files->v[part];
    if (file_skip(f, err) < 0)
        return -1;
    for (;;) {
        if (file_lines(files, part, SOURCE_FETCH) > 0)
            return 0;
        if (f->eof)
            break;
        if (file_read(f, err) < 0)
            return -1;
    }
    source_reached_end(files->source, part);
    return 0;
}

// ---- opening and closing ----------------------------------------------------------------------------------

// A place in a regular file is found by a seek, in a pipe by reading up to it.
static int file_seek(struct file *f, int64_t offset, struct err *err)
{
    if (offset <= 0)
        return 0;
    struct stat st;
    if (fstat(f->fd, &st) < 0)
        return err_errno(err, "%s", f->path);
    f->position = offset;
    if (!S_ISREG(st.st_mode)) {
        f->skip = offset;
        return 0;
    }
    if (st.st_size < offset)
        return err_set(err, ERR_INVALID, "%s has %lld bytes, and is to go on at offset %" PRId64, f->path,
                       (long long)st.st_size, offset);
    return lseek(f->fd, offset, SEEK_SET) < 0 ? err_errno(err, "seeking in %s", f->path) : 0;
}

static int file_open(struct file *f, const struct source_file *from, struct err *err)
{
    bool is_stdin = strcmp(from->path, "-") == 0;
    f->path = mem_strdup(is_stdin ? "standard input" : from->path);
    f->fd = is_stdin ? STDIN_FILENO : open(from->path, O_RDONLY | O_CLOEXEC);
    f->opened = !is_stdin && f->fd >= 0;
    if (f->fd < 0)
        return err_errno(err, "opening %s", f->path);
    file_make_room(f);
    return file_seek(f, from->part.offset, err);
}

static void files_free(void *impl)
{
    struct files *files = impl;
    for (uint32_t i = 0; i < files->n; i++) {
        struct file *f = &files->v[i];
        if (f->opened)
            close(f->fd);
        free(f->path);
        free(f->data);
    }
    free(files->v);
    free(files);
}

// The lag in messages is known at the end alone.
static void files_status(const void *impl, uint32_t part, struct source_part_status *status)
{
    const struct files *files = impl;
    struct stat st;
    if (fstat(files->v[part].fd, &st) == 0 && S_ISREG(st.st_mode))
        status->end_offset = st.st_size;
    if (status->at_end)
        status->lag = 0;
}

static const struct source_ops files_ops = {
    .ends = true,
    .fetch = files_fetch,
    .status = files_status,
    .free = files_free,
};

int source_files_new(const struct source_options *options, const struct source_file *files, uint32_t n,
                     struct source **ret_source, struct err *err)
{
    struct files *impl = mem_zalloc(sizeof *impl);
    impl->append_ms = options->file_append_ms;
    impl->v = mem_array(n, sizeof *impl->v);
    struct source_part *parts = mem_array(n, sizeof *parts);
    int done = 0;
    for (; impl->n < n && done == 0; impl->n++) {
        parts[impl->n] = files[impl->n].part;
        if (parts[impl->n].offset < 0)
            parts[impl->n].offset = 0;
        done = file_open(&impl->v[impl->n], &files[impl->n], err);
    }
    if (done == 0) {
        impl->source = source_new(options, &files_ops, impl, parts, n);
        *ret_source = impl->source;
    } else {
        files_free(impl);
    }
    free(parts);
    return done;
}
