// SPDX-License-Identifier: Apache-2.0
// The model: a net of named blocks and its heads. Here names are checked: what a block uses stands before it,
// what a head predicts is a label; and options, by the tables of the layer kinds (models/option.h). Whether
// shapes fit is found when the net is made, which reports by the places kept here.
#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "daemon/config_keys.h"
#include "daemon/presets.h"
#include "models/loss.h"

enum { CONFIG_PAIRS_MAX = 1024 }; // that an option names

struct reading {
    struct config_loader *l;
    struct config_model *m;
    const struct tree_node *n;           // the entry of the block or head
    const struct tree_node *net, *heads; // of the model, or NULL
    char name[3 * CONFIG_NAME];          // for messages: "block bottom"
};

static int block_find(const struct config_model *m, const char *name)
{
    for (uint32_t i = 0; i < m->n_blocks; i++)
        if (strcmp(m->blocks[i].name, name) == 0)
            return (int)i;
    return -1;
}

// ---- what a block reads ------------------------------------------------------------------------------

static bool text_is(const struct tree_node *n, const char *text)
{
    return n->kind == TREE_SCALAR && !n->null && strcmp(n->text, text) == 0;
}

static const struct tree_node *entry_find(const struct tree_node *net, const char *name)
{
    for (const struct tree_node *e = net != NULL ? net->first : NULL; e != NULL; e = e->next) {
        const struct tree_node *n = tree_get(e, "name");
        if (n != NULL && text_is(n, name))
            return e;
    }
    return NULL;
}

// Something in the entry, by `of` or by an option, is the name.
static bool entry_reads(const struct tree_node *entry, const char *name)
{
    for (const struct tree_node *v = entry->first; v != NULL; v = v->next) {
        if (strcmp(v->key, "name") != 0 && text_is(v, name))
            return true;
        for (const struct tree_node *c = v->kind == TREE_LIST ? v->first : NULL; c != NULL; c = c->next)
            if (text_is(c, name))
                return true;
    }
    return false;
}

// The block `from`, or what it reads, reads `to`. A block that was met is not looked at again.
static bool entry_leads(const struct tree_node *net, const struct tree_node *from, const char *to,
                        const struct tree_node **met, uint32_t *n_met)
{
    for (uint32_t i = 0; i < *n_met; i++)
        if (met[i] == from)
            return false;
    if (*n_met == CONFIG_BLOCKS_MAX)
        return false;
    met[(*n_met)++] = from;
    if (entry_reads(from, to))
        return true;
    for (const struct tree_node *e = net->first; e != NULL; e = e->next) {
        const struct tree_node *name = tree_get(e, "name");
        if (name != NULL && name->kind == TREE_SCALAR && !name->null && entry_reads(from, name->text) &&
            entry_leads(net, e, to, met, n_met))
            return true;
    }
    return false;
}

// The name is one of a block that is not read yet.
static int later_fail(const struct reading *r, const struct tree_node *n, const struct tree_node *entry)
{
    const struct tree_node *own = tree_get(r->n, "name"), *met[CONFIG_BLOCKS_MAX];
    uint32_t n_met = 0;
    if (entry == r->n)
        return tree_fail(r->l->err, &n->at, "%s: it reads itself", r->name);
    if (own != NULL && entry_leads(r->net, entry, own->text, met, &n_met))
        return tree_fail(r->l->err, &n->at, "%s: a cycle, for what it reads, \"%.60s\", depends on it",
                         r->name, n->text);
    return tree_fail(r->l->err, &n->at, "%s: block \"%.60s\" must stand before it", r->name, n->text);
}

// The name, below `key`, is one of a feature or of a block that is read already.
static int input_check(const struct reading *r, const char *key, const struct tree_node *n)
{
    const struct config *c = r->l->c;
    char value[80];
    if (n->kind != TREE_SCALAR || n->null)
        return tree_fail(r->l->err, &n->at, "%s: \"%s\" holds %s, but must hold names", r->name, key,
                         tree_quote(n, value, sizeof value));
    if (config_feature_find(c, n->text) >= 0 || block_find(r->m, n->text) >= 0)
        return 0;
    const struct tree_node *later = entry_find(r->net, n->text);
    if (later != NULL)
        return later_fail(r, n, later);
    const bool in_preset = strncmp(n->at.file, "preset ", strlen("preset ")) == 0;
    struct nearest near;
    nearest_init(&near, n->text);
    for (uint32_t i = 0; i < c->n_features; i++)
        nearest_put(&near, c->features[i].name);
    for (uint32_t i = 0; i < r->m->n_blocks; i++)
        nearest_put(&near, r->m->blocks[i].name);
    return tree_fail(r->l->err, &n->at, "%s: no feature or earlier block \"%.60s\"%s%s", r->name, n->text,
                     nearest_hint(&near),
                     in_preset ? " (this stands in the preset; its \"with\" says what is read)" : "");
}

static bool of_has(const struct config_block *b, const char *name)
{
    for (uint32_t i = 0; i < b->n_of; i++)
        if (strcmp(b->of[i], name) == 0)
            return true;
    return false;
}

static int of_add(const struct reading *r, struct config_block *b, const char *name,
                  const struct config_at *at)
{
    if (b->n_of == CONFIG_FEATURES_MAX)
        return tree_fail(r->l->err, at, "%s reads more than %d", r->name, CONFIG_FEATURES_MAX);
    snprintf(b->of[b->n_of++], CONFIG_NAME, "%s", name);
    return 0;
}

// `all` and its parts: a word with a dot is no name.
static const struct selector {
    const char *word;
    uint32_t sides; // features of these and no others; 0: whatever their sides
    bool ids, numbers, sequences;
    bool usual; // ids: those of the width that most have
} selectors[] = {
    {"all", 0, true, true, true, false},
    {"all.user", NET_USER, true, true, true, false},
    {"all.item", NET_ITEM, true, true, true, false},
    {"all.context", NET_CONTEXT, true, true, true, false},
    {"all.cross", NET_CROSS, true, true, true, false},
    {"all.request", NET_USER | NET_CONTEXT, true, true, true, false},
    {"all.ids", 0, true, false, false, false},
    {"all.fields", 0, true, false, false, true},
    {"all.numbers", 0, false, true, false, false},
    {"all.sequences", 0, false, false, true, false},
    {"all.plain", 0, true, true, false, false},
    {0},
};

static const struct selector *selector_find(const struct tree_node *n)
{
    for (const struct selector *s = selectors; s->word != NULL && n->kind == TREE_SCALAR && !n->null; s++)
        if (strcmp(s->word, n->text) == 0)
            return s;
    return NULL;
}

// The length of which a label is a share is there to divide by: in ms as it is, a net could not bear it. Who wants it
// names it.
static bool is_length(const struct reading *r, uint32_t feature)
{
    const struct config *c = r->l->c;
    bool is = (int)feature == c->completion.feature;
    for (const struct tree_node *h = r->heads != NULL ? r->heads->first : NULL; h != NULL; h = h->next) {
        const struct tree_node *length = tree_get(h, "length");
        is |= length != NULL && text_is(length, c->features[feature].name);
    }
    return is;
}

static uint32_t feature_width(const struct config *c, const struct config_feature *f)
{
    return f->table < 0 ? 0 : c->tables[f->table].dim;
}

// That most embeddings have, of equals the greater.
static uint32_t usual_width(const struct config *c)
{
    uint32_t usual = 0, most = 0;
    for (uint32_t i = 0; i < c->n_features; i++) {
        const uint32_t width = feature_width(c, &c->features[i]);
        uint32_t n = 0;
        for (uint32_t k = 0; k < c->n_features; k++)
            n += !config_feature_ragged(&c->features[k]) && feature_width(c, &c->features[k]) == width;
        if (width == 0 || n < most || (n == most && width < usual))
            continue;
        most = n;
        usual = width;
    }
    return usual;
}

static bool selector_takes(const struct selector *s, const struct config *c, uint32_t feature)
{
    const struct config_feature *f = &c->features[feature];
    const bool sequence = config_feature_ragged(f), id = !sequence && f->table >= 0;
    uint32_t sides = config_feature_sides(c, feature);
    if ((sides & (NET_USER | NET_CONTEXT)) != 0 && (sides & NET_ITEM) != 0)
        sides = NET_CROSS;
    return (sequence ? s->sequences
            : id     ? s->ids
                     : s->numbers) &&
           (s->sides == 0 || (sides & ~s->sides) == 0);
}

static int of_select(const struct reading *r, struct config_block *b, const struct selector *s,
                     const struct config_at *at)
{
    const struct config *c = r->l->c;
    const uint32_t before = b->n_of, width = usual_width(c);
    bool found = false;
    for (uint32_t i = 0; i < c->n_features; i++) {
        if (!selector_takes(s, c, i) || is_length(r, i) ||
            (s->usual && feature_width(c, &c->features[i]) != width))
            continue;
        found = true;
        if (!of_has(b, c->features[i].name) && of_add(r, b, c->features[i].name, at) < 0)
            return -1;
    }
    if (b->n_of == before && !found)
        return tree_fail(r->l->err, at,
                         s->word[3] == '\0' ? "%s: there are no features"
                                            : "%s: there is no feature of \"%s\"",
                         r->name, s->word);
    return 0;
}

static int of_put(const struct reading *r, struct config_block *b, const struct tree_node *n)
{
    const struct selector *s = selector_find(n);
    if (s != NULL)
        return of_select(r, b, s, &n->at);
    if (input_check(r, "of", n) < 0)
        return -1;
    if (of_has(b, n->text))
        return tree_fail(r->l->err, &n->at, "%s: \"%s\" stands twice in \"of\"", r->name, n->text);
    return of_add(r, b, n->text, &n->at);
}

static int of_read(struct reading *r, struct config_block *b)
{
    const struct tree_node *n = tree_get(r->n, "of");
    if (n == NULL)
        return tree_fail(r->l->err, &r->n->at, "%s needs \"of\": what it reads", r->name);
    b->of = arena_alloc(r->l->arena, sizeof *b->of * CONFIG_FEATURES_MAX, 1);
    if (n->kind == TREE_SCALAR)
        return of_put(r, b, n);
    char name[4 * CONFIG_NAME];
    snprintf(name, sizeof name, "%s: \"of\"", r->name);
    if (config_list_check(r->l, name, n, 1, CONFIG_FEATURES_MAX) < 0)
        return -1;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next)
        if (of_put(r, b, c) < 0)
            return -1;
    return 0;
}

// ---- options, by the kind's table --------------------------------------------------------------------

static int dims_read(const struct reading *r, const struct layer_option *o, const char *name,
                     const struct tree_node *n, struct layer_value *v)
{
    const struct config_key key = {o->name, CONFIG_COUNT, .size = sizeof *v->dims, .min = o->min,
                                   .max = o->max};
    if (config_list_check(r->l, name, n, 1, NET_DIMS_MAX) < 0)
        return -1;
    uint32_t i = 0;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next)
        if (config_key_read(r->l, &key, name, c, &v->dims[i++]) < 0)
            return -1;
    return 0;
}

// A name or a list of names, as text with blanks between.
static int inputs_read(const struct reading *r, const struct layer_option *o, const char *name,
                       const struct tree_node *n, struct layer_value *v)
{
    if (n->kind == TREE_SCALAR && input_check(r, o->name, n) < 0)
        return -1;
    if (n->kind != TREE_SCALAR && config_list_check(r->l, name, n, 1, CONFIG_FEATURES_MAX) < 0)
        return -1;
    struct buf names = {0};
    const struct tree_node *const only = n->kind == TREE_SCALAR ? n : NULL;
    int result = 0;
    for (const struct tree_node *c = only != NULL ? only : n->first; c != NULL && result == 0;
         c = only != NULL ? NULL : c->next) {
        result = input_check(r, o->name, c);
        buf_printf(&names, "%s%s", names.len > 0 ? " " : "", c->text);
    }
    v->text = arena_str(r->l->arena, buf_str(&names)).s;
    buf_done(&names);
    return result;
}

// "a*b" as two names.
static int pair_read(const struct reading *r, const struct layer_option *o, const char *name,
                     const struct tree_node *n, struct buf *names)
{
    char value[80], left[CONFIG_NAME], right[CONFIG_NAME], more;
    if (n->kind != TREE_SCALAR || n->null ||
        sscanf(n->text, " %63[^* ] * %63[^* ] %c", left, right, &more) != 2)
        return tree_fail(r->l->err, &n->at, "%s is %s, but must be a*b, of two that the block reads", name,
                         tree_quote(n, value, sizeof value));
    struct tree_node part = *n;
    part.text = left;
    if (input_check(r, o->name, &part) < 0)
        return -1;
    part.text = right;
    if (input_check(r, o->name, &part) < 0)
        return -1;
    buf_printf(names, "%s%s %s", names->len > 0 ? " " : "", left, right);
    return 0;
}

static int pairs_read(const struct reading *r, const struct layer_option *o, const char *name,
                      const struct tree_node *n, struct layer_value *v)
{
    struct buf names = {0};
    int result = n->kind == TREE_SCALAR ? pair_read(r, o, name, n, &names)
                                        : config_list_check(r->l, name, n, 1, CONFIG_PAIRS_MAX);
    for (const struct tree_node *c = n->kind == TREE_SCALAR ? NULL : n->first; c != NULL && result == 0;
         c = c->next)
        result = pair_read(r, o, name, c, &names);
    v->text = arena_str(r->l->arena, buf_str(&names)).s;
    buf_done(&names);
    return result;
}

static int number_read(const struct reading *r, const struct layer_option *o, const char *name,
                       const struct tree_node *n, struct layer_value *v)
{
    uint64_t count = 0;
    bool flag = false;
    struct config_key key = {o->name, CONFIG_NUMBER, .size = sizeof v->number, .min = o->min, .max = o->max};
    if (o->type == LAYER_NUMBER)
        return config_key_read(r->l, &key, name, n, &v->number);
    key.type = o->type == LAYER_COUNT ? CONFIG_COUNT : CONFIG_BOOL;
    key.size = o->type == LAYER_COUNT ? sizeof count : sizeof flag;
    if (config_key_read(r->l, &key, name, n, o->type == LAYER_COUNT ? (void *)&count : (void *)&flag) < 0)
        return -1;
    v->number = o->type == LAYER_COUNT ? (double)count : flag;
    return 0;
}

static int choice_read(const struct reading *r, const struct layer_option *o, const char *name,
                       const struct tree_node *n, struct layer_value *v)
{
    char text[CONFIG_NAME];
    const struct config_key key = {o->name, CONFIG_TEXT, .size = sizeof text, .choices = o->choices};
    if (config_key_read(r->l, &key, name, n, text) < 0)
        return -1;
    v->text = arena_str(r->l->arena, str_of(text)).s;
    return 0;
}

static int option_read(const struct reading *r, struct config_block *b, const struct layer_option *o,
                       const struct tree_node *n)
{
    uint32_t i = 0;
    while (b->options[i].name != NULL)
        i++;
    struct layer_value *v = &b->options[i];
    char name[4 * CONFIG_NAME];
    snprintf(name, sizeof name, "%s: %s", r->name, o->name);
    v->name = o->name;
    switch (o->type) {
    case LAYER_DIMS:
        return dims_read(r, o, name, n, v);
    case LAYER_CHOICE:
        return choice_read(r, o, name, n, v);
    case LAYER_INPUT:
    case LAYER_INPUTS:
        return inputs_read(r, o, name, n, v);
    case LAYER_PAIRS:
        return pairs_read(r, o, name, n, v);
    case LAYER_NUMBER:
    case LAYER_COUNT:
    case LAYER_FLAG:
        return number_read(r, o, name, n, v);
    }
    return -1;
}

// Of a kind without an option of its own name: {}, nothing or true.
static int no_value_check(const struct reading *r, const struct tree_node *n)
{
    if (n->first == NULL && (n->kind != TREE_SCALAR || n->null || strcmp(n->text, "true") == 0))
        return 0;
    return tree_fail(r->l->err, &n->at, "%s: %s takes no value; write %s: {}", r->name, n->key, n->key);
}

static int options_read(const struct reading *r, struct config_block *b, const struct net_kind *kind)
{
    assert(kind->name != NULL && kind->options != NULL);
    for (const struct tree_node *c = r->n->first; c != NULL; c = c->next) {
        const struct layer_option *o = net_kind_option(kind, c->key);
        if (o != NULL && option_read(r, b, o, c) < 0)
            return -1;
        if (o == NULL && strcmp(c->key, kind->name) == 0 && no_value_check(r, c) < 0)
            return -1;
    }
    for (const struct layer_option *o = kind->options; o->name != NULL; o++)
        if (o->required && tree_get(r->n, o->name) == NULL)
            return tree_fail(r->l->err, &r->n->at, "%s needs \"%s\": %s", r->name, o->name, o->text);
    return 0;
}

// ---- blocks ------------------------------------------------------------------------------------------

static int kind_missing(const struct reading *r)
{
    char kinds[600] = "";
    size_t used = 0;
    for (uint32_t i = 0; net_kind(i).name != NULL && used < sizeof kinds; i++)
        used +=
            (size_t)snprintf(kinds + used, sizeof kinds - used, "%s%s", i > 0 ? ", " : "", net_kind(i).name);
    return tree_fail(r->l->err, &r->n->at, "%s needs one of: %s", r->name, kinds);
}

// The first key that is a layer kind; .name NULL where there is none.
static struct net_kind kind_find(const struct reading *r)
{
    for (const struct tree_node *c = r->n->first; c != NULL; c = c->next)
        if (net_kind_find(c->key).name != NULL)
            return net_kind_find(c->key);
    return (struct net_kind){0};
}

static int kind_check(const struct reading *r, const struct net_kind *kind)
{
    if (kind->name == NULL)
        return kind_missing(r);
    for (const struct tree_node *c = r->n->first; c != NULL; c = c->next)
        if (net_kind_find(c->key).name != NULL && strcmp(c->key, kind->name) != 0)
            return tree_fail(r->l->err, &c->key_at, "%s has both \"%s\" and \"%s\": a block is of one kind",
                             r->name, kind->name, c->key);
    return 0;
}

// Every key is one of a block, the kind, or an option of it.
static int keys_check(const struct reading *r, const struct net_kind *kind)
{
    static const struct layer_option none = {0};
    const struct layer_option *options = kind->name != NULL ? kind->options : &none;
    for (const struct tree_node *c = r->n->first; c != NULL; c = c->next) {
        if (config_key_find(config_block_keys, c->key) != NULL || net_kind_find(c->key).name != NULL ||
            (kind->name != NULL && net_kind_option(kind, c->key) != NULL))
            continue;
        struct nearest near;
        nearest_init(&near, c->key);
        for (const struct config_key *k = config_block_keys; k->path != NULL; k++)
            nearest_put(&near, k->path);
        for (uint32_t i = 0; kind->name == NULL && net_kind(i).name != NULL; i++)
            nearest_put(&near, net_kind(i).name);
        for (const struct layer_option *o = options; o->name != NULL; o++)
            nearest_put(&near, o->name);
        return tree_fail(r->l->err, &c->key_at, "unknown key \"%.80s\" in %s%s%s%s", c->key, r->name,
                         kind->name != NULL ? ", of kind " : "", kind->name != NULL ? kind->name : "",
                         nearest_hint(&near));
    }
    return 0;
}

static int block_name_read(struct reading *r, struct config_block *b)
{
    const struct tree_node *name = tree_get(r->n, "name");
    if (name == NULL)
        return tree_fail(r->l->err, &r->n->at, "%s needs a name", r->name);
    if (config_name_take(r->l, "a block", name->text, &name->at, b->name) < 0)
        return -1;
    if (config_feature_find(r->l->c, b->name) >= 0)
        return tree_fail(r->l->err, &name->at, "block \"%s\": a feature has this name", b->name);
    if (block_find(r->m, b->name) >= 0)
        return tree_fail(r->l->err, &name->at, "block \"%s\" stands twice", b->name);
    snprintf(r->name, sizeof r->name, "block %s", b->name);
    return 0;
}

static int block_side_read(const struct reading *r, struct config_block *b)
{
    const struct tree_node *n = tree_get(r->n, "side");
    if (n == NULL)
        return 0;
    char side[CONFIG_NAME], name[4 * CONFIG_NAME];
    const struct config_key key = {"side", CONFIG_TEXT, .size = sizeof side, .choices = "user|item"};
    snprintf(name, sizeof name, "%s: side", r->name);
    if (config_key_read(r->l, &key, name, n, side) < 0)
        return -1;
    b->side = strcmp(side, "user") == 0 ? NET_USER : NET_ITEM;
    return 0;
}

static int block_training_read(const struct reading *r, struct config_block *b)
{
    static const struct config_key key = {"lr", CONFIG_NUMBER, .size = sizeof b->lr, .min = 1e-9, .max = 10};
    const struct tree_node *lr = tree_get(r->n, "lr"), *init = tree_get(r->n, "init");
    char name[4 * CONFIG_NAME];
    snprintf(name, sizeof name, "%s: lr", r->name);
    if (lr != NULL && config_key_read(r->l, &key, name, lr, &b->lr) < 0)
        return -1;
    return init != NULL ? config_init_read(r->l, r->name, init, true, &b->init) : 0;
}

static int block_read(struct config_loader *l, struct config_model *m, const struct tree_node *n,
                      const struct tree_node *net, const struct tree_node *heads)
{
    struct config_block *b = &m->blocks[m->n_blocks];
    struct reading r = {.l = l, .m = m, .n = n, .net = net, .heads = heads};
    snprintf(r.name, sizeof r.name, "block %u of models.%s.net", m->n_blocks + 1, m->name);
    b->at = n->at;
    const struct net_kind kind = kind_find(&r);
    if (config_map_check(l, r.name, n) < 0 || keys_check(&r, &kind) < 0 || block_name_read(&r, b) < 0 ||
        kind_check(&r, &kind) < 0)
        return -1;
    snprintf(b->kind, sizeof b->kind, "%s", kind.name);
    if (options_read(&r, b, &kind) < 0 || block_side_read(&r, b) < 0 || block_training_read(&r, b) < 0 ||
        of_read(&r, b) < 0)
        return -1;
    m->n_blocks++;
    return 0;
}

// ---- heads -------------------------------------------------------------------------------------------

static int label_fail(const struct reading *r, const char *name, const struct config_at *at)
{
    const struct config *c = r->l->c;
    struct nearest near;
    nearest_init(&near, name);
    for (uint32_t i = 0; i < c->n_actions; i++)
        if (c->join.labels >> i & 1)
            nearest_put(&near, c->actions[i]);
    if (c->completion.feature >= 0)
        nearest_put(&near, "completion");
    return tree_fail(r->l->err, at, "%s: no label \"%.60s\" in join.labels%s", r->name, name,
                     nearest_hint(&near));
}

static int label_read(const struct reading *r, struct config_head *h)
{
    const struct tree_node *n = tree_get(r->n, "label");
    const char *name = n != NULL ? n->text : h->name;
    const struct config_at *at = n != NULL ? &n->at : &r->n->key_at;
    h->label = config_action_find(r->l->c, name);
    h->length = -1;
    if (h->label == ACTION_MAX && r->l->c->completion.feature >= 0 && strcmp(name, "completion") == 0) {
        h->label = ACTION_WATCH;
        h->length = r->l->c->completion.feature;
    }
    if (h->label == ACTION_MAX || (r->l->c->join.labels >> h->label & 1) == 0)
        return label_fail(r, name, at);
    return 0;
}

static int head_of_read(const struct reading *r, struct config_head *h)
{
    const struct tree_node *of = tree_get(r->n, "of");
    if (of == NULL)
        return tree_fail(r->l->err, &r->n->key_at, "%s needs \"of\": the block that it reads", r->name);
    if (input_check(r, "of", of) < 0)
        return -1;
    snprintf(h->of, sizeof h->of, "%s", of->text);
    return 0;
}

// By the table of losses, of which the first is the default, but for fake negatives.
static int head_loss_read(const struct reading *r, struct config_head *h)
{
    const struct tree_node *n = tree_get(r->n, "loss");
    char choices[400] = "", name[4 * CONFIG_NAME];
    size_t used = 0;
    for (const struct net_loss *l = net_losses; l->name != NULL && used < sizeof choices; l++)
        used += (size_t)snprintf(choices + used, sizeof choices - used, "%s%s", used > 0 ? "|" : "", l->name);
    const struct config_key key = {"loss", CONFIG_TEXT, .size = sizeof h->loss, .choices = choices};
    snprintf(h->loss, sizeof h->loss, "%s",
             r->l->c->join.emit == STATE_EMIT_FAKE_NEGATIVE ? "fnw" : net_losses[0].name);
    snprintf(name, sizeof name, "%s.loss", r->name);
    return n == NULL ? 0 : config_key_read(r->l, &key, name, n, h->loss);
}

static int head_read(struct config_loader *l, struct config_model *m, const struct tree_node *n)
{
    if (m->n_heads == CONFIG_HEADS_MAX)
        return tree_fail(l->err, &n->key_at, "more than %d heads", CONFIG_HEADS_MAX);
    struct config_head *h = &m->heads[m->n_heads];
    struct reading r = {.l = l, .m = m, .n = n};
    snprintf(r.name, sizeof r.name, "head %.64s", n->key);
    h->at = n->key_at;
    config_entry_init(l, config_head_keys, h);
    if (config_name_take(l, "a head", n->key, &n->key_at, h->name) < 0 ||
        config_entry_read(l, config_head_keys, r.name, n, h) < 0 || head_of_read(&r, h) < 0 ||
        head_loss_read(&r, h) < 0 || label_read(&r, h) < 0 ||
        config_head_targets_read(l, m, r.name, n, h) < 0)
        return -1;
    const struct tree_node *init = tree_get(n, "init");
    if (init != NULL && config_init_read(l, r.name, init, true, &h->init) < 0)
        return -1;
    if (block_find(m, h->name) >= 0)
        return tree_fail(l->err, &n->key_at, "%s: a block has this name", r.name);
    m->n_heads++;
    return 0;
}

// ---- the model ---------------------------------------------------------------------------------------

static int net_read(struct config_loader *l, struct config_model *m, const struct tree_node *net,
                    const struct tree_node *heads)
{
    char name[2 * CONFIG_NAME];
    snprintf(name, sizeof name, "models.%s.net", m->name);
    if (net == NULL || (net->kind == TREE_SCALAR && net->null))
        return 0; // heads may stand on features
    if (config_list_check(l, name, net, 0, CONFIG_BLOCKS_MAX) < 0)
        return -1;
    for (const struct tree_node *c = net->first; c != NULL; c = c->next)
        if (block_read(l, m, c, net, heads) < 0)
            return -1;
    return 0;
}

static int model_read(struct config_loader *l, const struct tree_node *n)
{
    struct config_model *m = &l->c->model;
    const struct tree_node *net = tree_get(n, "net"), *heads = tree_get(n, "heads");
    char name[2 * CONFIG_NAME];
    m->at = n->key_at;
    if (config_name_take(l, "a model", n->key, &n->key_at, m->name) < 0)
        return -1;
    snprintf(name, sizeof name, "models.%s", m->name);
    config_entry_init(l, config_model_keys, m);
    if (config_entry_read(l, config_model_keys, name, n, m) < 0 || preset_expand(l, n, &net, &heads) < 0 ||
        net_read(l, m, net, heads) < 0)
        return -1;
    if (heads == NULL || (heads->kind != TREE_LIST && heads->first == NULL && heads->null))
        return tree_fail(l->err, &n->key_at, "%s needs heads: what it predicts", name);
    snprintf(name, sizeof name, "models.%s.heads", m->name);
    if (config_map_check(l, name, heads) < 0)
        return -1;
    if (heads->first == NULL)
        return tree_fail(l->err, &heads->at, "%s is empty: a model predicts something", name);
    for (const struct tree_node *c = heads->first; c != NULL; c = c->next)
        if (head_read(l, m, c) < 0)
            return -1;
    return config_score_read(l, m, tree_get(n, "score")) < 0 ? -1
                                                             : config_rank_read(l, m, tree_get(n, "rank"));
}

int config_models_read(struct config_loader *l, const struct tree_node *n)
{
    if (config_map_check(l, "models", n) < 0)
        return -1;
    l->c->at_model = n->at;
    if (n->first == NULL)
        return tree_fail(l->err, &n->at, "models is empty: one model is needed");
    if (n->first->next != NULL)
        return tree_fail(l->err, &n->first->next->key_at, "a second model: this release has one");
    return model_read(l, n->first);
}

// ---- what a feature is to the net --------------------------------------------------------------------

bool config_feature_ragged(const struct config_feature *f)
{
    return f->kind == CONFIG_FEATURE_SEQUENCE || f->kind == CONFIG_FEATURE_IDS;
}

bool config_feature_twins(const struct config_feature *a, const struct config_feature *b)
{
    return a->kind == CONFIG_FEATURE_SEQUENCE && b->kind == CONFIG_FEATURE_SEQUENCE &&
           a->sequence == b->sequence && a->last == b->last;
}

static uint32_t source_sides(enum config_source of)
{
    static const uint32_t sides[] = {[CONFIG_OF_USER] = NET_USER,
                                     [CONFIG_OF_ITEM] = NET_ITEM,
                                     [CONFIG_OF_CONTEXT] = NET_CONTEXT,
                                     [CONFIG_OF_ALL] = 0};
    return sides[of];
}

// Of what decides which group is read.
static uint32_t grouping_sides(const struct config *c, uint32_t grouping)
{
    if (grouping >= c->n_groupings || c->groupings[grouping].bucket == CONFIG_NONE)
        return 0;
    const struct config_bucket *b = &c->buckets[c->groupings[grouping].bucket];
    if (b->kind == CONFIG_BUCKET_HOUR || b->kind == CONFIG_BUCKET_WEEKDAY)
        return NET_CONTEXT;
    return source_sides(b->of[0].of) | (b->kind == CONFIG_BUCKET_GEOHASH ? source_sides(b->of[1].of) : 0);
}

static uint32_t counter_sides(const struct config *c, const struct config_feature *f)
{
    uint32_t sides = source_sides(f->ref.of) | grouping_sides(c, f->grouping);
    for (uint32_t i = 0; i < f->n_parents; i++)
        sides |= grouping_sides(c, f->parents[i]);
    return sides;
}

uint32_t config_feature_sides(const struct config *c, uint32_t feature)
{
    const struct config_feature *f = &c->features[feature];
    switch (f->kind) {
    case CONFIG_FEATURE_HOUR:
    case CONFIG_FEATURE_WEEKDAY:
        return NET_CONTEXT;
    case CONFIG_FEATURE_SEQUENCE:
        return NET_USER | grouping_sides(c, c->sequences[f->sequence].grouping);
    case CONFIG_FEATURE_CROSS:
        return config_feature_sides(c, f->cross[0]) | config_feature_sides(c, f->cross[1]);
    case CONFIG_FEATURE_AGE:
        return NET_ITEM;
    case CONFIG_FEATURE_MEMBER:
        return NET_USER | NET_ITEM;
    case CONFIG_FEATURE_GEOHASH:
        return source_sides(f->ref.of) | source_sides(f->second.of);
    case CONFIG_FEATURE_COUNT:
    case CONFIG_FEATURE_RATE:
        return counter_sides(c, f);
    case CONFIG_FEATURE_ID:
    case CONFIG_FEATURE_NUMBER:
    case CONFIG_FEATURE_IDS:
        break;
    }
    return source_sides(f->ref.of);
}
