// SPDX-License-Identifier: Apache-2.0
// Looking into trees, laying one on another, and the --set overrides, which are small trees at the end of a
// dotted path. Merging moves nodes from `over` into `base`: both live in the same arena.
#include "daemon/config_tree.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *config_at_text(const struct config_at *at, char *text, size_t size)
{
    if (at->line > 0)
        snprintf(text, size, "%s:%d:%d", at->file, at->line, at->column);
    else
        snprintf(text, size, "%s", at->file);
    return text;
}

int tree_fail(struct err *err, const struct config_at *at, const char *fmt, ...)
{
    char message[sizeof(((struct err *)0)->message)];
    char place[4200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    // The file's name may fill the message: then its end, which is the telling part, stays.
    const char *text = config_at_text(at, place, sizeof place);
    size_t len = strlen(text), max = sizeof message / 2;
    // A part of the default can be wrong only because the file replaced what it needs.
    bool builtin = strcmp(at->file, "built-in") == 0;
    return err_set(err, ERR_CONFIG, "%s: %s%s", len > max ? text + (len - max) : text, message,
                   builtin ? " (this stands in the built-in default; give this section too)" : "");
}

// 60 bytes at most, and no character of UTF-8 cut in two.
static int quote_length(const char *s)
{
    size_t n = strnlen(s, 60);
    while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80)
        n--;
    return (int)n;
}

const char *tree_quote(const struct tree_node *n, char *text, size_t size)
{
    if (n->kind != TREE_SCALAR)
        snprintf(text, size, "%s", n->kind == TREE_MAP ? "a map" : "a list");
    else if (n->secret)
        snprintf(text, size, "(a secret)");
    else if (n->null)
        snprintf(text, size, "nothing");
    else
        snprintf(text, size, "\"%.*s%s\"", quote_length(n->text), n->text, strlen(n->text) > 60 ? "..." : "");
    return text;
}

struct tree_node *tree_get(const struct tree_node *map, const char *key)
{
    if (map == NULL || map->kind != TREE_MAP)
        return NULL;
    for (struct tree_node *n = map->first; n != NULL; n = n->next)
        if (strcmp(n->key, key) == 0)
            return n;
    return NULL;
}

struct tree_node *tree_path(const struct tree_node *root, const char *path)
{
    struct tree_node *n = NULL;
    const struct tree_node *at = root;
    char word[CONFIG_NAME];
    for (const char *p = path; *p != '\0';) {
        size_t len = strcspn(p, ".");
        if (len >= sizeof word)
            return NULL;
        memcpy(word, p, len);
        word[len] = '\0';
        n = tree_get(at, word);
        if (n == NULL)
            return NULL;
        at = n;
        p += len + (p[len] == '.');
    }
    return n;
}

uint32_t tree_count(const struct tree_node *n)
{
    uint32_t count = 0;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next)
        count++;
    return count;
}

static void tree_append(struct tree_node *map, struct tree_node *n)
{
    n->next = NULL;
    if (map->last != NULL)
        map->last->next = n;
    else
        map->first = n;
    map->last = n;
}

// `over` stands where `base` stood; base's neighbours stay.
static void tree_replace(struct tree_node *base, const struct tree_node *over)
{
    struct tree_node *next = base->next;
    *base = *over;
    base->next = next;
}

static const char *path_join(struct arena *arena, const char *path, const char *key)
{
    if (*path == '\0')
        return key;
    size_t size = strlen(path) + strlen(key) + 2;
    char *joined = ARENA_ARRAY(arena, char, size);
    snprintf(joined, size, "%s.%s", path, key);
    return joined;
}

void tree_merge(struct arena *arena, struct tree_node *base, struct tree_node *over, const char *path,
                bool (*merges)(const char *path))
{
    if (over->kind == TREE_SCALAR && over->null && base->kind == TREE_MAP)
        return;
    if (base->kind != TREE_MAP || over->kind != TREE_MAP || !merges(path)) {
        tree_replace(base, over);
        return;
    }
    for (struct tree_node *n = over->first, *next; n != NULL; n = next) {
        next = n->next;
        struct tree_node *twin = tree_get(base, n->key);
        if (twin != NULL)
            tree_merge(arena, twin, n, path_join(arena, path, n->key), merges);
        else
            tree_append(base, n);
    }
}

// An empty value is the empty text: `--set http.token=` switches the token off.
static int override_value(struct arena *arena, const struct config_override *override,
                          struct tree_node **ret_value, struct err *err)
{
    struct str text = str_of(override->value);
    int column = (int)strlen(override->path) + 1;
    if (tree_parse(arena, "command line", column, text, ret_value, err) < 0)
        return -1;
    if (text.len == 0)
        (*ret_value)->null = false;
    return 0;
}

static bool begins(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

// Length of the word of `path` at p. The names of librdkafka's properties hold dots themselves: below kafka
// the rest of the path is one name.
static size_t word_length(const char *path, const char *p)
{
    const size_t kafka = strlen("kafka.");
    if (!begins(path, "kafka.") || p < path + kafka)
        return strcspn(p, ".");
    if (p == path + kafka && (begins(p, "consumer.") || begins(p, "producer.")))
        return strlen("consumer");
    return strlen(p);
}

// The node for the next word of the path, made where it is missing.
static int override_step(struct arena *arena, struct tree_node **at, struct str word, struct config_at place,
                         struct err *err)
{
    struct tree_node *map = *at;
    if (map->kind == TREE_SCALAR && map->null)
        map->kind = TREE_MAP;
    if (map->kind != TREE_MAP)
        return tree_fail(err, &place, "\"%.*s\" lies inside %s: set that as a whole", (int)word.len, word.s,
                         map->kind == TREE_LIST ? "a list" : "a single value");
    const char *key = arena_str(arena, word).s;
    *at = tree_get(map, key);
    if (*at == NULL) {
        *at = ARENA_ARRAY(arena, struct tree_node, 1);
        **at = (struct tree_node){.null = true, .text = "", .key = key, .at = place, .key_at = place};
        tree_append(map, *at);
    }
    return 0;
}

int tree_set(struct arena *arena, struct tree_node *root, const struct config_override *override,
             bool (*merges)(const char *path), struct err *err)
{
    struct tree_node *value = NULL, *at = root;
    if (override_value(arena, override, &value, err) < 0)
        return -1;
    const char *path = override->path;
    struct config_at place = {"command line", 1, 1};
    for (const char *p = path;;) {
        size_t len = word_length(path, p);
        place.column = (int)(p - path) + 1;
        if (len == 0 || len > 250)
            return tree_fail(err, &place, "--set %.200s: a path is words with dots between them", path);
        if (override_step(arena, &at, (struct str){p, (uint32_t)len}, place, err) < 0)
            return -1;
        p += len;
        if (*p++ == '\0')
            break;
    }
    value->key = at->key;
    value->key_at = place;
    tree_merge(arena, at, value, path, merges);
    return 0;
}
