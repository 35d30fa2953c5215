// SPDX-License-Identifier: Apache-2.0
// The model: a net of named blocks and its heads. Here names are checked: what a block uses stands before it,
// what a head predicts is a label. Whether shapes fit is found when the net is made, which reports by the
// places kept here.
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "daemon/config_keys.h"

enum { LAYER_DIM_MAX = 8192 };

static const char *const layer_kinds[] = {"mlp", "concat", "mean"};
enum { LAYER_KINDS = sizeof layer_kinds / sizeof *layer_kinds };

struct reading {
    struct config_loader *l;
    struct config_model *m;
    const struct tree_node *n;  // the entry of the block or head
    char name[3 * CONFIG_NAME]; // for messages: "block bottom"
};

static int block_find(const struct config_model *m, const char *name)
{
    for (uint32_t i = 0; i < m->n_blocks; i++)
        if (strcmp(m->blocks[i].name, name) == 0)
            return (int)i;
    return -1;
}

// ---- blocks ------------------------------------------------------------------------------------------

// The name is one of a feature or of a block that is read already.
static int input_check(const struct reading *r, const struct tree_node *n)
{
    const struct config *c = r->l->c;
    char value[80];
    if (n->kind != TREE_SCALAR || n->null)
        return tree_fail(r->l->err, &n->at, "%s: \"of\" holds %s, but must hold names", r->name,
                         tree_quote(n, value, sizeof value));
    if (config_feature_find(c, n->text) >= 0 || block_find(r->m, n->text) >= 0)
        return 0;
    struct nearest near;
    nearest_init(&near, n->text);
    for (uint32_t i = 0; i < c->n_features; i++)
        nearest_put(&near, c->features[i].name);
    for (uint32_t i = 0; i < r->m->n_blocks; i++)
        nearest_put(&near, r->m->blocks[i].name);
    return tree_fail(r->l->err, &n->at, "%s: no feature or earlier block \"%.60s\"%s", r->name, n->text,
                     nearest_hint(&near));
}

static int of_put(struct reading *r, struct config_block *b, const struct tree_node *n)
{
    if (input_check(r, n) < 0)
        return -1;
    for (uint32_t i = 0; i < b->n_of; i++)
        if (strcmp(b->of[i], n->text) == 0)
            return tree_fail(r->l->err, &n->at, "%s: \"%s\" stands twice in \"of\"", r->name, n->text);
    snprintf(b->of[b->n_of++], CONFIG_NAME, "%s", n->text);
    return 0;
}

static int of_all(struct reading *r, struct config_block *b, const struct tree_node *n)
{
    const struct config *c = r->l->c;
    if (c->n_features == 0)
        return tree_fail(r->l->err, &n->at, "%s: there are no features", r->name);
    for (uint32_t i = 0; i < c->n_features; i++)
        memcpy(b->of[b->n_of++], c->features[i].name, CONFIG_NAME);
    return 0;
}

static int of_read(struct reading *r, struct config_block *b)
{
    const struct tree_node *n = tree_get(r->n, "of");
    if (n == NULL)
        return tree_fail(r->l->err, &r->n->at, "%s needs \"of\": what it reads", r->name);
    b->of = arena_alloc(r->l->arena, sizeof *b->of * CONFIG_FEATURES_MAX, 1);
    if (n->kind == TREE_SCALAR)
        return strcmp(n->text, "all") == 0 ? of_all(r, b, n) : of_put(r, b, n);
    char name[4 * CONFIG_NAME];
    snprintf(name, sizeof name, "%s: \"of\"", r->name);
    if (config_list_check(r->l, name, n, 1, CONFIG_FEATURES_MAX) < 0)
        return -1;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next)
        if (of_put(r, b, c) < 0)
            return -1;
    return 0;
}

static int dims_read(struct reading *r, struct config_block *b, const struct tree_node *n)
{
    static const struct config_key key = {"mlp", CONFIG_COUNT, .size = sizeof(uint32_t), .min = 1,
                                          .max = LAYER_DIM_MAX};
    char name[4 * CONFIG_NAME];
    snprintf(name, sizeof name, "%s: mlp", r->name);
    if (config_list_check(r->l, name, n, 1, sizeof b->dims / sizeof *b->dims) < 0)
        return -1;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next)
        if (config_key_read(r->l, &key, name, c, &b->dims[b->n_dims++]) < 0)
            return -1;
    return 0;
}

static int kind_read(struct reading *r, struct config_block *b)
{
    const struct tree_node *found = NULL;
    for (int i = 0; i < LAYER_KINDS; i++) {
        const struct tree_node *n = tree_get(r->n, layer_kinds[i]);
        if (n != NULL && found != NULL)
            return tree_fail(r->l->err, &n->key_at, "%s has both \"%s\" and \"%s\": a block is of one kind",
                             r->name, found->key, n->key);
        found = n != NULL ? n : found;
    }
    if (found == NULL)
        return tree_fail(r->l->err, &r->n->at, "%s needs one of: mlp, concat, mean", r->name);
    snprintf(b->kind, sizeof b->kind, "%s", found->key);
    if (strcmp(found->key, "mlp") == 0)
        return dims_read(r, b, found);
    const struct tree_node *activation = tree_get(r->n, "activation");
    if (activation != NULL)
        return tree_fail(r->l->err, &activation->key_at, "%s: activation goes with mlp alone", r->name);
    if (found->first != NULL || (found->kind == TREE_SCALAR && !found->null))
        return tree_fail(r->l->err, &found->at, "%s: %s takes no value; write %s: {}", r->name, found->key,
                         found->key);
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

static int block_read(struct config_loader *l, struct config_model *m, const struct tree_node *n)
{
    struct config_block *b = &m->blocks[m->n_blocks];
    struct reading r = {.l = l, .m = m, .n = n};
    snprintf(r.name, sizeof r.name, "block %u of models.%s.net", m->n_blocks + 1, m->name);
    b->at = n->at;
    config_entry_init(l, config_block_keys, b);
    if (config_entry_read(l, config_block_keys, r.name, n, b) < 0 || block_name_read(&r, b) < 0 ||
        kind_read(&r, b) < 0 || of_read(&r, b) < 0)
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
    return tree_fail(r->l->err, at, "%s: no label \"%.60s\" in join.labels%s", r->name, name,
                     nearest_hint(&near));
}

static int label_read(const struct reading *r, struct config_head *h)
{
    const struct tree_node *n = tree_get(r->n, "label");
    const char *name = n != NULL ? n->text : h->name;
    const struct config_at *at = n != NULL ? &n->at : &r->n->key_at;
    h->label = config_action_find(r->l->c, name);
    if (h->label == ACTION_MAX || (r->l->c->join.labels >> h->label & 1) == 0)
        return label_fail(r, name, at);
    return 0;
}

static int head_of_read(const struct reading *r, struct config_head *h)
{
    const struct tree_node *of = tree_get(r->n, "of");
    if (of == NULL)
        return tree_fail(r->l->err, &r->n->key_at, "%s needs \"of\": the block that it reads", r->name);
    if (input_check(r, of) < 0)
        return -1;
    snprintf(h->of, sizeof h->of, "%s", of->text);
    return 0;
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
        label_read(&r, h) < 0)
        return -1;
    if (block_find(m, h->name) >= 0)
        return tree_fail(l->err, &n->key_at, "%s: a block has this name", r.name);
    m->n_heads++;
    return 0;
}

// ---- the model ---------------------------------------------------------------------------------------

static int net_read(struct config_loader *l, struct config_model *m, const struct tree_node *net)
{
    char name[2 * CONFIG_NAME];
    snprintf(name, sizeof name, "models.%s.net", m->name);
    if (net == NULL || (net->kind == TREE_SCALAR && net->null))
        return 0; // heads may stand on features
    if (config_list_check(l, name, net, 0, CONFIG_BLOCKS_MAX) < 0)
        return -1;
    for (const struct tree_node *c = net->first; c != NULL; c = c->next)
        if (block_read(l, m, c) < 0)
            return -1;
    return 0;
}

static int model_read(struct config_loader *l, const struct tree_node *n)
{
    struct config_model *m = &l->c->model;
    char name[2 * CONFIG_NAME];
    m->at = n->key_at;
    if (config_name_take(l, "a model", n->key, &n->key_at, m->name) < 0)
        return -1;
    snprintf(name, sizeof name, "models.%s", m->name);
    if (config_entry_read(l, config_model_keys, name, n, NULL) < 0 || net_read(l, m, tree_get(n, "net")) < 0)
        return -1;
    const struct tree_node *heads = tree_get(n, "heads");
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
    return 0;
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
