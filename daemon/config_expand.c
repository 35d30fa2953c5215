// SPDX-License-Identifier: Apache-2.0
// What stands inside scalars: the environment, as in a shell, and secrets in files of their own. It is done
// after merging, so that a value that an override replaced needs no variable.
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "daemon/config_tree.h"

// ${NAME}, ${NAME:-default}, ${NAME:?message}, cut into its parts.
struct variable {
    const char *name, *rest; // rest: of the default or the message
    char mode;               // '-', '?', or 0 where there is none
};

static bool name_is_good(const char *s)
{
    static const char taken[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
    return *s != '\0' && (*s < '0' || *s > '9') && s[strspn(s, taken)] == '\0';
}

static int variable_cut(struct arena *arena, struct str inside, const struct config_at *at,
                        struct variable *ret_variable, struct err *err)
{
    char *name = memcpy(ARENA_ARRAY(arena, char, inside.len + 1), inside.s, inside.len);
    name[inside.len] = '\0';
    struct variable v = {.name = name, .rest = ""};
    char *colon = strchr(name, ':');
    if (colon != NULL) {
        *colon = '\0';
        v.mode = colon[1];
        v.rest = colon + 1 + (colon[1] != '\0');
    }
    if (!name_is_good(name) || (colon != NULL && v.mode != '-' && v.mode != '?'))
        return tree_fail(err, at, "\"${%.*s}\" must be ${NAME}, ${NAME:-default} or ${NAME:?message}",
                         (int)(inside.len > 60 ? 60 : inside.len), inside.s);
    if (strstr(v.rest, "${") != NULL)
        return tree_fail(err, at, "a ${...} inside another is not taken");
    *ret_variable = v;
    return 0;
}

static int variable_put(const struct variable *v, const struct config_at *at, struct buf *to, struct err *err)
{
    const char *value = getenv(v->name);
    if (v->mode != 0 && value != NULL && *value == '\0')
        value = NULL; // ":-" and ":?" take an empty one for none, as a shell does
    if (value == NULL && v->mode == '?')
        return tree_fail(err, at, "%s: %s", v->name, *v->rest != '\0' ? v->rest : "is not set");
    if (value == NULL && v->mode == 0)
        return tree_fail(err, at,
                         "the environment variable %s is not set; ${%s:-default} would give a default",
                         v->name, v->name);
    if (value == NULL)
        value = v->rest;
    if (to->len + strlen(value) > TREE_TEXT_MAX)
        return tree_fail(err, at, "longer than %d bytes with ${%s} in it", TREE_TEXT_MAX, v->name);
    buf_put(to, value, strlen(value));
    return 0;
}

// One ${...} at s, which begins with "${"; *ret_len is its length.
static int variable_expand(struct arena *arena, const char *s, const struct config_at *at, struct buf *to,
                           size_t *ret_len, struct err *err)
{
    const char *end = strchr(s, '}');
    if (end == NULL)
        return tree_fail(err, at, "\"${\" without its \"}\"; write $${ for the two characters");
    struct variable v = {0};
    struct str inside = {s + 2, (uint32_t)(end - s - 2)};
    if (variable_cut(arena, inside, at, &v, err) < 0 || variable_put(&v, at, to, err) < 0)
        return -1;
    *ret_len = (size_t)(end + 1 - s);
    return 0;
}

static int environment_expand(struct arena *arena, struct tree_node *n, struct err *err)
{
    struct buf to = {0};
    int rc = 0;
    for (const char *s = n->text; rc == 0 && *s != '\0';) {
        size_t len = 1;
        if (strncmp(s, "$${", 3) == 0) {
            buf_put(&to, "${", 2);
            len = 3;
        } else if (strncmp(s, "${", 2) == 0) {
            rc = variable_expand(arena, s, &n->at, &to, &len, err);
        } else {
            buf_put(&to, s, 1);
        }
        s += len;
    }
    if (rc == 0)
        n->text = arena_str(arena, buf_str(&to)).s;
    buf_done(&to);
    return rc;
}

// Only a regular file, opened without waiting: a pipe or a terminal must not hold up the start.
static int secret_open(const char *path, const struct config_at *at, struct err *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return tree_fail(err, at, "file:%.200s cannot be read: %m", path);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= TREE_SECRET_MAX)
        return fd;
    close(fd);
    return tree_fail(err, at, "file:%.200s is no regular file of at most %d bytes", path, TREE_SECRET_MAX);
}

static int secret_expand(struct arena *arena, struct tree_node *n, struct err *err)
{
    const char *path = n->text + strlen("file:");
    int fd = secret_open(path, &n->at, err);
    if (fd < 0)
        return -1;
    char *text = ARENA_ARRAY(arena, char, TREE_SECRET_MAX + 1);
    ssize_t len = read(fd, text, TREE_SECRET_MAX);
    close(fd);
    if (len < 0)
        return tree_fail(err, &n->at, "file:%.200s cannot be read: %m", path);
    if (len > 0 && text[len - 1] == '\n')
        len--;
    if (len > 0 && text[len - 1] == '\r')
        len--;
    text[len] = '\0';
    if (strlen(text) != (size_t)len)
        return tree_fail(err, &n->at, "file:%.200s holds a NUL byte", path);
    n->text = text;
    n->secret = true;
    return 0;
}

static int scalar_expand(struct arena *arena, struct tree_node *n, struct err *err)
{
    if (strstr(n->text, "${") != NULL && environment_expand(arena, n, err) < 0)
        return -1;
    return strncmp(n->text, "file:", 5) == 0 ? secret_expand(arena, n, err) : 0;
}

int tree_expand(struct arena *arena, struct tree_node *root, struct err *err)
{
    if (root->kind == TREE_SCALAR)
        return scalar_expand(arena, root, err);
    for (struct tree_node *n = root->first; n != NULL; n = n->next)
        if (tree_expand(arena, n, err) < 0)
            return -1;
    return 0;
}
