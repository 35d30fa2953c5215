// SPDX-License-Identifier: Apache-2.0
// From YAML to a tree. libfyaml gives the events of YAML 1.2 with their marks, and its own diagnostics; the
// tree is built here and not by its document builder, so that what a config must not have is refused with a
// place: a key twice, a second document, tags, keys that are no text, NUL. Aliases are written out, within
// the bound on values, so that a small file cannot become a large tree.
//
// Cost: linear in the text, but for the search for a key that stands twice (quadratic in the keys of one map,
// which TREE_NODES_MAX bounds).
#include <assert.h>
#include <fcntl.h>
#include <libfyaml.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "daemon/config_tree.h"

struct tree_anchor {
    const char *name;
    const struct tree_node *node;
    struct tree_anchor *next;
};

struct tree_level {
    struct tree_node *node;
    const char *anchor;          // of the node, or NULL
    const struct tree_node *key; // in a map: read, its value is next
};

struct tree_reader {
    struct arena *arena;
    const char *file;
    int column; // what stands before the text in line 1
    struct err *err;
    struct fy_parser *parser;
    struct fy_diag *diag;
    struct tree_anchor *anchors;
    struct tree_node *root;
    uint32_t nodes;
    uint32_t depth;
    uint32_t documents;
    struct tree_level levels[TREE_DEPTH_MAX];
};

static struct config_at place_at(const struct tree_reader *r, int line, int column)
{
    return (struct config_at){r->file, line, column + (line == 1 ? r->column : 0)};
}

// What stands before the mark and belongs to the value: a quote, or the * of an alias.
static int event_sign(struct fy_event *event)
{
    if (event->type == FYET_ALIAS)
        return 1;
    if (event->type != FYET_SCALAR || event->scalar.value == NULL)
        return 0;
    enum fy_scalar_style style = fy_token_scalar_style(event->scalar.value);
    return style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED;
}

// A mark counts from 0. Where an event has none (a value left out) it is the place of its key.
static struct config_at event_at(const struct tree_reader *r, struct fy_event *event)
{
    const struct fy_mark *mark = fy_event_start_mark(event);
    if (mark != NULL)
        return place_at(r, mark->line + 1, mark->column + 1 - event_sign(event));
    if (r->depth > 0 && r->levels[r->depth - 1].key != NULL)
        return r->levels[r->depth - 1].key->at;
    return place_at(r, 1, 1);
}

static int node_new(struct tree_reader *r, enum tree_kind kind, struct config_at at,
                    struct tree_node **ret_node)
{
    if (++r->nodes > TREE_NODES_MAX)
        return tree_fail(r->err, &at, "more than %d values", TREE_NODES_MAX);
    struct tree_node *n = ARENA_ARRAY(r->arena, struct tree_node, 1);
    *n = (struct tree_node){.kind = kind, .text = "", .at = at};
    *ret_node = n;
    return 0;
}

static const char *token_text(struct tree_reader *r, struct fy_token *token)
{
    size_t len = 0;
    const char *s = token != NULL ? fy_token_get_text(token, &len) : NULL;
    return s != NULL ? arena_str(r->arena, (struct str){s, (uint32_t)len}).s : NULL;
}

static void node_append(struct tree_node *parent, struct tree_node *n)
{
    if (parent->last != NULL)
        parent->last->next = n;
    else
        parent->first = n;
    parent->last = n;
}

static int key_take(struct tree_reader *r, struct tree_level *level, const struct tree_node *n)
{
    if (n->kind != TREE_SCALAR || n->null)
        return tree_fail(r->err, &n->at, "a key must be a plain word");
    const struct tree_node *twin = tree_get(level->node, n->text);
    if (twin != NULL)
        return tree_fail(r->err, &n->at, "key \"%s\" stands twice, first in line %d column %d", n->text,
                         twin->key_at.line, twin->key_at.column);
    level->key = n;
    return 0;
}

// Puts a whole value where it belongs: the root, the next of a list, a key or the value of one.
static int node_attach(struct tree_reader *r, struct tree_node *n)
{
    if (r->depth == 0) {
        r->root = n;
        return 0;
    }
    struct tree_level *level = &r->levels[r->depth - 1];
    if (level->node->kind == TREE_MAP && level->key == NULL)
        return key_take(r, level, n);
    if (level->node->kind == TREE_MAP) {
        n->key = level->key->text;
        n->key_at = level->key->at;
        level->key = NULL;
    }
    node_append(level->node, n);
    return 0;
}

static void anchor_put(struct tree_reader *r, const char *name, const struct tree_node *n)
{
    if (name == NULL)
        return;
    struct tree_anchor *a = ARENA_ARRAY(r->arena, struct tree_anchor, 1);
    *a = (struct tree_anchor){name, n, r->anchors};
    r->anchors = a;
}

// A copy that stands at `at`; its children keep their places.
static int node_copy(struct tree_reader *r, const struct tree_node *from, struct config_at at,
                     struct tree_node **ret_node)
{
    struct tree_node *n = NULL;
    if (node_new(r, from->kind, at, &n) < 0)
        return -1;
    assert(n != NULL);
    n->null = from->null;
    n->text = from->text;
    for (const struct tree_node *c = from->first; c != NULL; c = c->next) {
        struct tree_node *copy = NULL;
        if (node_copy(r, c, c->at, &copy) < 0)
            return -1;
        copy->key = c->key;
        copy->key_at = c->key_at;
        node_append(n, copy);
    }
    *ret_node = n;
    return 0;
}

static int read_alias(struct tree_reader *r, struct fy_event *event)
{
    struct config_at at = event_at(r, event);
    const char *name = token_text(r, event->alias.anchor);
    for (const struct tree_anchor *a = r->anchors; a != NULL && name != NULL; a = a->next) {
        if (strcmp(a->name, name) != 0)
            continue;
        struct tree_node *n = NULL;
        return node_copy(r, a->node, at, &n) < 0 ? -1 : node_attach(r, n);
    }
    return tree_fail(r->err, &at, "no anchor \"%s\" stands before this alias", name != NULL ? name : "");
}

static bool text_is_null(const char *s)
{
    return *s == '\0' || strcmp(s, "~") == 0 || strcmp(s, "null") == 0;
}

static int read_scalar(struct tree_reader *r, struct fy_event *event)
{
    struct tree_node *n = NULL;
    if (node_new(r, TREE_SCALAR, event_at(r, event), &n) < 0)
        return -1;
    assert(n != NULL);
    const char *text = token_text(r, event->scalar.value);
    n->text = text != NULL ? text : "";
    n->null =
        text == NULL || (fy_token_scalar_style(event->scalar.value) == FYSS_PLAIN && text_is_null(n->text));
    if (n->null)
        n->text = "";
    else if (strlen(n->text) != fy_token_get_text_length(event->scalar.value))
        return tree_fail(r->err, &n->at, "a NUL character inside a value");
    anchor_put(r, token_text(r, event->scalar.anchor), n);
    return node_attach(r, n);
}

static int read_begin(struct tree_reader *r, struct fy_event *event, enum tree_kind kind)
{
    struct tree_node *n = NULL;
    struct config_at at = event_at(r, event);
    if (r->depth == TREE_DEPTH_MAX)
        return tree_fail(r->err, &at, "maps and lists more than %d deep", TREE_DEPTH_MAX);
    if (node_new(r, kind, at, &n) < 0)
        return -1;
    r->levels[r->depth++] = (struct tree_level){n, token_text(r, fy_event_get_anchor_token(event)), NULL};
    return 0;
}

static int read_end(struct tree_reader *r)
{
    const struct tree_level *level = &r->levels[--r->depth];
    anchor_put(r, level->anchor, level->node);
    return node_attach(r, level->node);
}

static int read_document(struct tree_reader *r, struct fy_event *event)
{
    struct config_at at = event_at(r, event);
    return ++r->documents == 1 ? 0 : tree_fail(r->err, &at, "a second document: a config is one");
}

static int read_event(struct tree_reader *r, struct fy_event *event)
{
    if (fy_event_get_tag_token(event) != NULL) {
        struct config_at at = event_at(r, event);
        return tree_fail(r->err, &at, "tags (!...) have no meaning in a config");
    }
    switch (event->type) {
    case FYET_DOCUMENT_START:
        return read_document(r, event);
    case FYET_MAPPING_START:
        return read_begin(r, event, TREE_MAP);
    case FYET_SEQUENCE_START:
        return read_begin(r, event, TREE_LIST);
    case FYET_MAPPING_END:
    case FYET_SEQUENCE_END:
        return read_end(r);
    case FYET_SCALAR:
        return read_scalar(r, event);
    case FYET_ALIAS:
        return read_alias(r, event);
    default:
        return 0;
    }
}

// libfyaml's first diagnostic, as ours.
static int syntax_fail(struct tree_reader *r)
{
    void *iterator = NULL;
    const struct fy_diag_error *e = fy_diag_errors_iterate(r->diag, &iterator);
    if (e == NULL || e->msg == NULL) {
        struct config_at at = place_at(r, 1, 1);
        return tree_fail(r->err, &at, "this is no YAML");
    }
    struct config_at at = place_at(r, e->line > 0 ? e->line : 1, e->column > 0 ? e->column : 1);
    return tree_fail(r->err, &at, "%.*s", (int)strcspn(e->msg, "\n"), e->msg);
}

static int read_events(struct tree_reader *r)
{
    for (bool end = false; !end;) {
        struct fy_event *event = fy_parser_parse(r->parser);
        if (event == NULL)
            return syntax_fail(r);
        end = event->type == FYET_STREAM_END;
        int rc = read_event(r, event);
        fy_parser_event_free(r->parser, event);
        if (rc < 0)
            return -1;
    }
    return fy_parser_get_stream_error(r->parser) ? syntax_fail(r) : 0;
}

// What libfyaml must not see: a NUL, which it takes for the end of the text, and directives (a % that begins
// a line), on which 0.7.12 can run for ever.
static int text_check(const struct tree_reader *r, struct str text)
{
    struct config_at at = place_at(r, 1, 1);
    bool begin = true; // of a line
    for (uint32_t i = 0; i < text.len; i++) {
        if (text.s[i] == '\0')
            return tree_fail(r->err, &at, "a NUL byte: this is no text");
        if (begin && text.s[i] == '%')
            return tree_fail(r->err, &at,
                             "a line that begins with %% is a directive, and has no meaning in a config");
        begin = text.s[i] == '\n' || text.s[i] == '\r';
        at = text.s[i] == '\n' ? place_at(r, at.line + 1, 1)
                               : (struct config_at){at.file, at.line, at.column + 1};
    }
    return 0;
}

static int reader_run(struct tree_reader *r, struct str text)
{
    struct fy_diag_cfg diag_cfg;
    fy_diag_cfg_default(&diag_cfg);
    diag_cfg.fp = NULL;
    diag_cfg.colorize = false;
    r->diag = fy_diag_create(&diag_cfg);
    fy_diag_set_collect_errors(r->diag, true);
    struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE,
                               .diag = r->diag};
    r->parser = fy_parser_create(&cfg);
    int rc = r->parser != NULL && fy_parser_set_string(r->parser, text.s, text.len) == 0 ? read_events(r)
                                                                                         : syntax_fail(r);
    fy_parser_destroy(r->parser);
    fy_diag_destroy(r->diag);
    return rc;
}

int tree_parse(struct arena *arena, const char *file, int column, struct str text,
               struct tree_node **ret_root, struct err *err)
{
    struct config_at begin = {file, 1, 1 + column};
    struct tree_reader r = {.arena = arena, .file = file, .column = column, .err = err};
    if (text.len > TREE_TEXT_MAX)
        return tree_fail(err, &begin, "larger than %d bytes", TREE_TEXT_MAX);
    if (text.len > 0 && (text_check(&r, text) < 0 || reader_run(&r, text) < 0))
        return -1;
    if (r.root == NULL && node_new(&r, TREE_SCALAR, begin, &r.root) < 0)
        return -1;
    assert(r.root != NULL);
    r.root->null = r.root->null || r.documents == 0;
    *ret_root = r.root;
    return 0;
}

// At most one byte more than is allowed, so that tree_parse sees that it is too much.
static int file_read(int fd, struct buf *to)
{
    ssize_t n = 1;
    while (n > 0 && to->len <= TREE_TEXT_MAX) {
        n = read(fd, buf_reserve(to, 64 << 10), 64 << 10);
        if (n > 0)
            to->len += (size_t)n;
    }
    return n < 0 ? -1 : 0;
}

int tree_read(struct arena *arena, const char *file, struct tree_node **ret_root, struct err *err)
{
    struct config_at at = {file, 1, 1};
    struct buf text = {0};
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 || file_read(fd, &text) < 0 ? tree_fail(err, &at, "cannot be read: %m") : 0;
    if (fd >= 0)
        close(fd);
    if (rc == 0)
        rc = tree_parse(arena, file, 0, buf_str(&text), ret_root, err);
    buf_done(&text);
    return rc;
}
