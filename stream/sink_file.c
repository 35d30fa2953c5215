// SPDX-License-Identifier: Apache-2.0
// A sink of files. Lines gather in a buffer a topic; sink_poll writes each buffer at the known end of its
// file and syncs it, and only then are its messages delivered.
//
// A write that fails half-way leaves the end where it was, so that the next attempt overwrites the half line:
// also after a failed sync, when the kernel may have dropped what it had taken. A half line that a killed
// process left behind is cut off when the file is opened; its message was never delivered and comes again.
//
// The line: {"key": text | null, "value": text | null, "headers": {name: text, ...}}. Bytes that are not
// valid UTF-8 stand under the name with "_base64" behind it.
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "stream/sink_impl.h"

enum {
    SINK_FILE_BYTES = 64 << 20, // lines that may wait in memory
    SINK_TOPIC_CHARS = 249,     // longest name of a topic in Kafka
};

struct sink_file {
    char *topic;
    int fd;
    off_t size; // bytes that are written and synced
    struct buf lines;
};

struct sink_files {
    char *dir;
    struct sink_file *files;
    uint32_t n;
    uint32_t waiting; // messages
    size_t waiting_bytes;
    uint64_t last; // sequence taken last
    uint64_t delivered;
    struct buf scratch; // base64
    struct err error;
};

static bool sink_topic_valid(const char *topic)
{
    size_t n = strlen(topic);
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    return n > 0 && n <= SINK_TOPIC_CHARS && strspn(topic, allowed) == n && strcmp(topic, ".") != 0 &&
           strcmp(topic, "..") != 0;
}

// The offset after the last newline before `size`.
static int sink_file_whole(int fd, off_t size, off_t *ret_size)
{
    char block[4096];
    while (size > 0) {
        size_t n = size < (off_t)sizeof block ? (size_t)size : sizeof block;
        off_t start = size - (off_t)n;
        if (pread(fd, block, n, start) != (ssize_t)n)
            return -1;
        const char *newline = memrchr(block, '\n', n);
        if (newline != NULL) {
            *ret_size = start + (newline - block) + 1;
            return 0;
        }
        size = start;
    }
    *ret_size = 0;
    return 0;
}

static int sink_file_open(const char *path, off_t *ret_size, struct err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_errno(err, "cannot open %s", path);
    struct stat st;
    off_t size = 0;
    if (fstat(fd, &st) < 0 || sink_file_whole(fd, st.st_size, &size) < 0 || ftruncate(fd, size) < 0) {
        err_errno(err, "cannot continue %s", path);
        close(fd);
        return -1;
    }
    *ret_size = size;
    return fd;
}

static struct sink_file *sink_files_get(struct sink_files *s, const char *topic, struct err *err)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (strcmp(s->files[i].topic, topic) == 0)
            return &s->files[i];
    if (!sink_topic_valid(topic)) {
        err_set(err, ERR_INVALID, "%s cannot be the name of a topic", topic);
        return NULL;
    }
    struct buf path = {0};
    buf_printf(&path, "%s/%s.jsonl", s->dir, topic);
    off_t size = 0;
    int fd = sink_file_open((const char *)path.data, &size, err);
    buf_done(&path);
    if (fd < 0)
        return NULL;
    s->files = mem_resize(s->files, s->n + 1, sizeof *s->files);
    s->files[s->n] = (struct sink_file){.topic = mem_strdup(topic), .fd = fd, .size = size};
    return &s->files[s->n++];
}

static void sink_base64(struct buf *to, struct str from)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = (const uint8_t *)from.s;
    for (uint32_t i = 0; i < from.len; i += 3) {
        uint32_t left = from.len - i;
        uint32_t v = (uint32_t)p[i] << 16;
        if (left > 1)
            v |= (uint32_t)p[i + 1] << 8;
        if (left > 2)
            v |= p[i + 2];
        buf_put_u8(to, (uint8_t)digits[v >> 18]);
        buf_put_u8(to, (uint8_t)digits[v >> 12 & 63]);
        buf_put_u8(to, left > 1 ? (uint8_t)digits[v >> 6 & 63] : '=');
        buf_put_u8(to, left > 2 ? (uint8_t)digits[v & 63] : '=');
    }
}

// `name`: text, or `name`_base64 where the bytes are no text.
static void sink_file_bytes(struct json *j, struct str name, struct str bytes, struct buf *scratch)
{
    bool text = bytes.s == NULL || json_is_utf8(bytes.s, bytes.len);
    buf_clear(scratch);
    buf_put(scratch, name.s, name.len);
    if (!text)
        buf_put(scratch, "_base64", strlen("_base64"));
    json_key_n(j, (const char *)scratch->data, scratch->len);
    if (bytes.s == NULL) {
        json_null(j);
    } else if (text) {
        json_str(j, bytes);
    } else {
        buf_clear(scratch);
        sink_base64(scratch, bytes);
        json_string_n(j, (const char *)scratch->data, scratch->len);
    }
}

static void sink_file_line(struct buf *to, const struct sink_message *m, struct buf *scratch)
{
    struct json j = json_to(to);
    json_object(&j);
    sink_file_bytes(&j, str_of("key"), m->key, scratch);
    sink_file_bytes(&j, str_of("value"), m->value, scratch);
    json_key(&j, "headers");
    json_object(&j);
    for (uint32_t i = 0; i < m->n_headers; i++)
        sink_file_bytes(&j, m->headers[i].name, m->headers[i].value, scratch);
    json_end(&j);
    json_end(&j);
    buf_put_u8(to, '\n');
}

static int sink_files_send(void *impl, const struct sink_message *message, struct err *err)
{
    struct sink_files *s = impl;
    if (s->waiting_bytes >= SINK_FILE_BYTES)
        return err_set_retriable(err, ERR_LIMIT, "%zu bytes wait to be written to %s", s->waiting_bytes,
                                 s->dir);
    struct sink_file *f = sink_files_get(s, message->topic, err);
    if (f == NULL)
        return -1;
    size_t before = f->lines.len;
    sink_file_line(&f->lines, message, &s->scratch);
    s->waiting_bytes += f->lines.len - before;
    s->waiting++;
    s->last = message->sequence;
    return 0;
}

static int sink_file_write(struct sink_file *f, struct err *err)
{
    for (size_t done = 0; done < f->lines.len;) {
        ssize_t n = pwrite(f->fd, f->lines.data + done, f->lines.len - done, f->size + (off_t)done);
        if (n < 0 && errno != EINTR)
            return err_errno(err, "cannot write to %s.jsonl", f->topic);
        done += n > 0 ? (size_t)n : 0;
    }
    if (f->lines.len > 0 && fdatasync(f->fd) < 0)
        return err_errno(err, "cannot sync %s.jsonl", f->topic);
    f->size += (off_t)f->lines.len;
    buf_clear(&f->lines);
    return 0;
}

static uint64_t sink_files_poll(void *impl)
{
    struct sink_files *s = impl;
    for (uint32_t i = 0; i < s->n; i++)
        if (sink_file_write(&s->files[i], &s->error) < 0)
            return s->delivered;
    s->error = (struct err){0};
    s->waiting = 0;
    s->waiting_bytes = 0;
    s->delivered = s->last;
    return s->delivered;
}

static bool sink_files_reset(void *impl)
{
    (void)impl;
    return false;
}

static uint32_t sink_files_under_way(const void *impl)
{
    const struct sink_files *s = impl;
    return s->waiting;
}

static int sink_files_fd(const void *impl)
{
    (void)impl;
    return -1;
}

static void sink_files_error(const void *impl, struct err *ret_err)
{
    const struct sink_files *s = impl;
    *ret_err = s->error;
}

static void sink_files_free(void *impl)
{
    struct sink_files *s = impl;
    (void)sink_files_poll(s);
    for (uint32_t i = 0; i < s->n; i++) {
        close(s->files[i].fd);
        buf_done(&s->files[i].lines);
        free(s->files[i].topic);
    }
    free(s->files);
    buf_done(&s->scratch);
    free(s->dir);
    free(s);
}

static const struct sink_ops sink_files_ops = {
    .send = sink_files_send,
    .poll = sink_files_poll,
    .reset = sink_files_reset,
    .under_way = sink_files_under_way,
    .fd = sink_files_fd,
    .error = sink_files_error,
    .free = sink_files_free,
};

int sink_files_new(const char *dir, struct sink **ret_sink, struct err *err)
{
    if (mkdir(dir, 0777) < 0 && errno != EEXIST)
        return err_errno(err, "cannot make the folder %s", dir);
    if (access(dir, W_OK | X_OK) < 0)
        return err_errno(err, "cannot write into %s", dir);
    struct sink_files *s = mem_zalloc(sizeof *s);
    s->dir = mem_strdup(dir);
    *ret_sink = sink_new(&sink_files_ops, s);
    return 0;
}
