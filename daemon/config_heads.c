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

static int length_read(const struct reading *r)
{
    const struct config *c = r->l->c;
    const struct tree_node *n = tree_get(r->n, "length");
    struct nearest near;
    r->h->length = -1;
    if (n == NULL)
        return 0;
    nearest_init(&near, n->text);
    for (uint32_t i = 0; i < c->n_features; i++)
        nearest_put(&near, c->features[i].name);
    r->h->length = config_feature_find(c, n->text);
    if (r->h->length < 0)
        return tree_fail(r->l->err, &n->at, "%s.length: no feature \"%.60s\"%s", r->name, n->text,
                         nearest_hint(&near));
    const struct config_feature *f = &c->features[r->h->length];
    if (f->kind != CONFIG_FEATURE_NUMBER || f->table >= 0 || f->log1p || f->n_edges > 0 ||
        f->equal_buckets > 0 || f->quantiles > 0)
        return tree_fail(
            r->l->err, &n->at,
            "%s.length: \"%s\" must be a number as it is, in ms, without log1p, bucketize or embedding",
            r->name, f->name);
    return 0;
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

int config_score_read(struct config_loader *l, struct config_model *m, const struct tree_node *n)
{
    const char *names[CONFIG_HEADS_MAX];
    struct err err = {0};
    if (n == NULL || (n->kind == TREE_SCALAR && n->null))
        return 0;
    if (n->kind != TREE_SCALAR)
        return tree_fail(l->err, &n->at, "models.%s.score must be an expression: \"click * like^0.5\"",
                         m->name);
    for (uint32_t i = 0; i < m->n_heads; i++) {
        names[i] = m->heads[i].name;
        if (strcmp(names[i], "score") == 0)
            return tree_fail(l->err, &m->heads[i].at,
                             "head score: with models.%s.score, no head can have this name", m->name);
    }
    if (fusion_parse(l->arena, n->text, m->n_heads, names, &m->score, &err) < 0)
        return tree_fail(l->err, &n->at, "models.%s.score, %s", m->name, err.message);
    return 0;
}
