// SPDX-License-Identifier: Apache-2.0
// A YAML text as a tree in which every value and key knows where it stood; merging of trees; what stands
// inside scalars (${VAR}, file:). Used by config*.c only. Everything lives in the arena.
#ifndef FRESHET_DAEMON_CONFIG_TREE_H
#define FRESHET_DAEMON_CONFIG_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "daemon/config.h"

enum {
    TREE_TEXT_MAX = 1 << 20,    // bytes of a file
    TREE_NODES_MAX = 20000,     // values in a file, aliases written out
    TREE_DEPTH_MAX = 32,        // maps and lists inside one another
    TREE_SECRET_MAX = 64 << 10, // bytes of a file that file: names
};

enum tree_kind { TREE_SCALAR, TREE_LIST, TREE_MAP };

struct tree_node {
    enum tree_kind kind;
    bool null;                             // a scalar: left out, ~ or null
    bool secret;                           // a scalar that came by file:, never to be quoted in a message
    const char *text;                      // of a scalar, "" for null
    const char *key;                       // in a map
    struct config_at at;                   // of the value
    struct config_at key_at;               // in a map
    struct tree_node *first, *last, *next; // children in the order of the text
};

// Parses one YAML document. An empty text gives a null scalar. `file` is kept: it must outlive the tree.
// `column`: how many columns stand before the text in its first line.
int tree_parse(struct arena *arena, const char *file, int column, struct str text,
               struct tree_node **ret_root, struct err *err);
// As tree_parse, of a file's content.
int tree_read(struct arena *arena, const char *file, struct tree_node **ret_root, struct err *err);

// The child of a map with this key, or NULL (also where `map` is no map).
struct tree_node *tree_get(const struct tree_node *map, const char *key);
// "a.b.c" below root, or NULL.
struct tree_node *tree_path(const struct tree_node *root, const char *path);
uint32_t tree_count(const struct tree_node *n); // children

// Lays `over` on `base`, the value of `path`. Two maps are merged key by key where `merges(path)`; else
// `over` stands in place of `base`. An `over` of null leaves a map as it is.
void tree_merge(struct arena *arena, struct tree_node *base, struct tree_node *over, const char *path,
                bool (*merges)(const char *path));
// Sets a dotted path to a YAML value as tree_merge does, making the maps on the way. `at` columns count in
// "path=value", line 1.
int tree_set(struct arena *arena, struct tree_node *root, const struct config_override *override,
             bool (*merges)(const char *path), struct err *err);

// Replaces ${VAR}, ${VAR:-default}, ${VAR:?message}, $${ and file:PATH in every scalar.
int tree_expand(struct arena *arena, struct tree_node *root, struct err *err);

// ERR_CONFIG, "file:line:column: message". Returns -1.
int tree_fail(struct err *err, const struct config_at *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
// The value for a message: "text" in quotes and cut where long, `a map`, `a list`, `nothing`, `(a secret)`.
const char *tree_quote(const struct tree_node *n, char *text, size_t size);

#endif
