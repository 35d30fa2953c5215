// SPDX-License-Identifier: Apache-2.0
// What a head is trained on, beside its label: a value of what was watched, a condition, another head that it goes
// through; and the expression that fuses the heads. Read after the head's own keys (config_models.c).
#include <stdio.h>
#include <string.h>

#include "daemon/config_keys.h"
#include "daemon/fusion.h"
#include "models/loss.h"

struct reading {
    struct config_loader *l;
    const struct config_model *m;
    const struct tree_node *n; // the head's entry
    const char *name;          // for messages: "head click"
    struct config_head *h;
};

static int given_read(const struct reading *r)
{
    const struct config *c = r->l->c;
    const struct tree_node *n = tree_get(r->n, "given");
    r->h->given = -1;
    if (n == NULL)
        return 0;
    const uint8_t action = config_action_find(c, n->text);
    if (action == ACTION_MAX || (c->join.labels >> action & 1) == 0) {
        struct nearest near;
        nearest_init(&near, n->text);
        for (uint32_t i = 0; i < c->n_actions; i++)
            if (c->join.labels >> i & 1)
                nearest_put(&near, c->actions[i]);
        return tree_fail(r->l->err, &n->at, "%s.given: no label \"%.60s\" in join.labels%s", r->name, n->text,
                         nearest_hint(&near));
    }
    if (action == r->h->label)
        return tree_fail(r->l->err, &n->at, "%s.given is its own label", r->name);
    r->h->given = action;
    return 0;
}

static int through_read(const struct reading *r)
{
    const struct tree_node *n = tree_get(r->n, "through");
    struct nearest near;
    r->h->through = -1;
    if (n == NULL)
        return 0;
    nearest_init(&near, n->text);
    for (uint32_t i = 0; i < r->m->n_heads; i++) {
        if (strcmp(r->m->heads[i].name, n->text) == 0)
            r->h->through = (int)i;
        nearest_put(&near, r->m->heads[i].name);
    }
    if (r->h->through < 0)
        return tree_fail(r->l->err, &n->at, "%s.through: no earlier head \"%.60s\"%s", r->name, n->text,
                         nearest_hint(&near));
    const struct config_head *through = &r->m->heads[r->h->through];
    if (through->through >= 0)
        return tree_fail(r->l->err, &n->at, "%s.through: head %s goes through another itself", r->name,
                         through->name);
    if (r->h->given >= 0 || through->given >= 0)
        return tree_fail(r->l->err, &n->at,
                         "%s.through: the loss is over all impressions, so neither head may have \"given\"",
                         r->name);
    if (strcmp(r->h->loss, "logloss") != 0 || strcmp(through->loss, "logloss") != 0)
        return tree_fail(r->l->err, &n->at, "%s.through: both heads must have loss: logloss", r->name);
    return 0;
}

int config_length_find(struct config_loader *l, const char *what, const char *name,
                       const struct config_at *at, int *ret_feature)
{
    const struct config *c = l->c;
    struct nearest near;
    nearest_init(&near, name);
    for (uint32_t i = 0; i < c->n_features; i++)
        nearest_put(&near, c->features[i].name);
    int feature = config_feature_find(c, name);
    if (feature < 0)
        return tree_fail(l->err, at, "%s.length: no feature \"%.60s\"%s", what, name, nearest_hint(&near));
    const struct config_feature *f = &c->features[feature];
    if (f->kind != CONFIG_FEATURE_NUMBER || f->table >= 0 || f->log1p || f->n_edges > 0 ||
        f->equal_buckets > 0 || f->quantiles > 0)
        return tree_fail(
            l->err, at,
            "%s.length: \"%s\" must be a number as it is, in ms, without log1p, bucketize or embedding", what,
            f->name);
    *ret_feature = feature;
    return 0;
}

// Of label completion it is that label's own.
static int length_read(const struct reading *r)
{
    const struct tree_node *n = tree_get(r->n, "length");
    if (n != NULL && r->h->length >= 0)
        return tree_fail(r->l->err, &n->at, "%s.length: the label completion has its own, in join.labels",
                         r->name);
    return n == NULL ? 0 : config_length_find(r->l, r->name, n->text, &n->at, &r->h->length);
}

// All negatives must be there where a rate of them could not be taken out of the prediction again.
static int kept_check(const struct reading *r, uint8_t label, const char *why)
{
    if (config_keep(r->l->c, label) >= 1)
        return 0;
    return tree_fail(r->l->err, &r->n->key_at,
                     "%s: join.keep_negatives keeps %g of the negatives of %s, but %s needs all of them",
                     r->name, config_keep(r->l->c, label), r->l->c->actions[label], why);
}

static int value_check(const struct reading *r)
{
    const struct config_head *h = r->h;
    const enum net_label label = net_loss_find(h->loss)->label;
    const struct config_at *at = &r->n->key_at;
    if (h->valued && h->label != ACTION_WATCH)
        return tree_fail(r->l->err, at, "%s: %s is of what was watched: it needs label: watch", r->name,
                         h->threshold > 0 ? "threshold" : h->loss);
    if (h->threshold > 0 && label != NET_LABEL_BINARY)
        return tree_fail(r->l->err, at, "%s: a threshold makes classes, for which loss %s is not", r->name,
                         h->loss);
    if (label == NET_LABEL_FRACTION && h->length < 0)
        return tree_fail(r->l->err, at, "%s: loss fraction needs \"length\": the feature that is the whole",
                         r->name);
    if (h->length >= 0 && label != NET_LABEL_FRACTION && h->threshold <= 0)
        return tree_fail(r->l->err, at, "%s: length goes with loss: fraction, or with a threshold", r->name);
    if (h->threshold > 1 && h->length >= 0)
        return tree_fail(r->l->err, at, "%s: threshold is %g, but a share of length is 1 at most", r->name,
                         h->threshold);
    return h->valued ? kept_check(r, h->label, h->threshold > 0 ? "a threshold" : h->loss) : 0;
}

int config_head_targets_read(struct config_loader *l, const struct config_model *m, const char *name,
                             const struct tree_node *n, struct config_head *h)
{
    const struct reading r = {l, m, n, name, h};
    if (given_read(&r) < 0 || through_read(&r) < 0 || length_read(&r) < 0)
        return -1;
    h->valued = h->threshold > 0 || net_loss_find(h->loss)->label != NET_LABEL_BINARY;
    if (value_check(&r) < 0)
        return -1;
    if (h->through >= 0)
        return kept_check(&r, h->label, "through") < 0
                   ? -1
                   : kept_check(&r, m->heads[h->through].label, "what goes through it");
    return 0;
}

// ---- expressions -------------------------------------------------------------------------------------

// What they may name: heads, and norm_HEAD of those with a length.
struct names {
    uint32_t n;
    const char *list[2 * CONFIG_HEADS_MAX];
    char norms[CONFIG_HEADS_MAX][CONFIG_NAME + sizeof "norm_"];
};

static void names_of(const struct config_model *m, struct names *ret)
{
    ret->n = 0;
    for (uint32_t i = 0; i < m->n_heads; i++)
        ret->list[ret->n++] = m->heads[i].name;
    for (uint32_t k = 0; k < m->n_norms; k++) {
        snprintf(ret->norms[k], sizeof ret->norms[k], "norm_%s", m->heads[m->norms[k]].name);
        ret->list[ret->n++] = ret->norms[k];
    }
}

static int expression_read(struct config_loader *l, const struct config_model *m, const char *key,
                           const struct tree_node *n, const struct fusion **ret)
{
    struct names names;
    struct err err = {0};
    names_of(m, &names);
    if (n->kind != TREE_SCALAR)
        return tree_fail(l->err, &n->at, "models.%s.%s must be an expression: \"click * like^0.5\"", m->name,
                         key);
    if (fusion_parse(l->arena, n->text, names.n, names.list, ret, &err) < 0)
        return tree_fail(l->err, &n->at, "models.%s.%s, %s", m->name, key, err.message);
    return 0;
}

int config_score_read(struct config_loader *l, struct config_model *m, const struct tree_node *n)
{
    for (uint32_t i = 0; i < m->n_heads; i++)
        if (m->heads[i].length >= 0)
            m->norms[m->n_norms++] = i;
    if (n == NULL || (n->kind == TREE_SCALAR && n->null))
        return 0;
    for (uint32_t i = 0; i < m->n_heads; i++)
        if (strcmp(m->heads[i].name, "score") == 0)
            return tree_fail(l->err, &m->heads[i].at,
                             "head score: with models.%s.score, no head can have this name", m->name);
    return expression_read(l, m, "score", n, &m->score);
}

// ---- stages ------------------------------------------------------------------------------------------

static int stages_check(struct config_loader *l, struct config_model *m)
{
    bool first = false;
    for (uint32_t i = 0; i < m->n_heads; i++) {
        const struct config_head *h = &m->heads[i];
        first |= h->stage == 1;
        m->staged |= h->stage == 2;
        if (h->through >= 0 && m->heads[h->through].stage > h->stage)
            return tree_fail(l->err, &h->at,
                             "head %s: it is of stage 1, but goes through %s, which is of stage 2", h->name,
                             m->heads[h->through].name);
    }
    if (!first)
        return tree_fail(
            l->err, &m->heads[0].at,
            "models.%s: all heads are of stage 2, but some must be of stage 1, which chooses what "
            "they see",
            m->name);
    return 0;
}

static int by_read(struct config_loader *l, struct config_model *m, const struct tree_node *n)
{
    if (n == NULL || (n->kind == TREE_SCALAR && n->null))
        return 0;
    if (expression_read(l, m, "rank.by", n, &m->by) < 0)
        return -1;
    for (uint32_t i = 0; i < m->n_heads; i++)
        if (m->heads[i].stage == 2 && fusion_reads(m->by, i))
            return tree_fail(l->err, &n->at, "models.%s.rank.by: head %s is of stage 2", m->name,
                             m->heads[i].name);
    return 0;
}

int config_rank_read(struct config_loader *l, struct config_model *m, const struct tree_node *n)
{
    char name[2 * CONFIG_NAME];
    snprintf(name, sizeof name, "models.%s.rank", m->name);
    config_entry_init(l, config_rank_keys, m);
    if (stages_check(l, m) < 0)
        return -1;
    if (n == NULL || (n->kind == TREE_SCALAR && n->null))
        return 0;
    if (!m->staged)
        return tree_fail(l->err, &n->key_at, "%s: no head is of stage: 2", name);
    if (config_map_check(l, name, n) < 0 || config_entry_read(l, config_rank_keys, name, n, m) < 0)
        return -1;
    return by_read(l, m, tree_get(n, "by"));
}
