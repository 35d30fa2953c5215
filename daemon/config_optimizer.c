// SPDX-License-Identifier: Apache-2.0
// Optimizers of tables and of the dense layers, and how parameters begin. What an optimizer does not take is a mistake,
// since it would do nothing, unless it is the default; and where a learning rate is built in, another optimizer has
// another.
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "daemon/config_keys.h"

#define ADAM_LR 0.001

// ---- reading -----------------------------------------------------------------------------------------

static const struct taken {
    const char *key;
    unsigned kinds; // bit k: optimizer k takes it
    const char *of;
} taken[] = {
    {"weight_decay", ~(1u << OPTIMIZER_FTRL), "not of ftrl, which has l1 and l2"},
    {"decoupled", ~(1u << OPTIMIZER_FTRL), "not of ftrl, which has l1 and l2"},
    {"warmup", ~(1u << OPTIMIZER_FTRL), "not of ftrl, whose state is a sum over steps of one learning rate"},
    {"accumulator", ~(1u << OPTIMIZER_ADAM), "not of adam, which has no sums"},
    {"beta1", 1u << OPTIMIZER_ADAM, "of adam alone"},
    {"beta2", 1u << OPTIMIZER_ADAM, "of adam alone"},
    {"beta", 1u << OPTIMIZER_FTRL, "of ftrl alone"},
    {"l1", 1u << OPTIMIZER_FTRL, "of ftrl alone"},
    {"l2", 1u << OPTIMIZER_FTRL, "of ftrl alone"},
};

static bool node_set(const struct tree_node *n)
{
    return n != NULL && strcmp(n->at.file, "built-in") != 0;
}

// The two tables of keys have the same defaults.
static bool node_differs(const struct tree_node *n)
{
    return n != NULL && strcmp(n->text, config_key_find(config_table_keys, n->key)->fallback) != 0;
}

int config_optimizer_check(struct config_loader *l, const char *name, const struct tree_node *n,
                           const struct tree_node *lr, struct config_optimizer *o)
{
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        const struct tree_node *c = tree_get(n, taken[i].key);
        if (node_differs(c) && (taken[i].kinds >> o->kind & 1) == 0)
            return tree_fail(l->err, &c->key_at, "%s.%s is %s; this one is %s", name, taken[i].key,
                             taken[i].of, optimizer_name(o->kind));
    }
    if (o->kind == OPTIMIZER_ADAM && !node_set(lr))
        o->lr = ADAM_LR;
    return 0;
}

// Those with a number of their own, from NET_INIT_NORMAL on.
static const struct config_key init_keys[] = {
    {"normal", CONFIG_NUMBER, .size = sizeof(double), .min = 0, .max = 10},
    {"uniform", CONFIG_NUMBER, .size = sizeof(double), .min = 0, .max = 10},
    {"constant", CONFIG_NUMBER, .size = sizeof(double), .min = -10, .max = 10},
    {0},
};

static int init_fail(struct config_loader *l, const char *name, const struct tree_node *n, bool fans)
{
    char value[80];
    return tree_fail(
        l->err, &n->at, "%s: init is %s, but must be %s{normal: x}, {uniform: x}, {constant: x} or zeros",
        name, tree_quote(n, value, sizeof value),
        fans ? "xavier_uniform, xavier_normal, kaiming_uniform, kaiming_normal, " : "a standard deviation, ");
}

// {normal: 0.02}.
static int init_map(struct config_loader *l, const char *name, const struct tree_node *n, bool fans,
                    struct net_init_by *to)
{
    const struct config_key *k = n->first != NULL ? config_key_find(init_keys, n->first->key) : NULL;
    char path[4 * CONFIG_NAME];
    if (k == NULL || n->first->next != NULL)
        return init_fail(l, name, n, fans);
    snprintf(path, sizeof path, "%s: init.%s", name, k->path);
    to->rule = NET_INIT_NORMAL + (enum net_init_rule)(k - init_keys);
    return config_key_read(l, k, path, n->first, &to->x);
}

int config_init_read(struct config_loader *l, const char *name, const struct tree_node *n, bool fans,
                     struct net_init_by *to)
{
    char path[4 * CONFIG_NAME];
    if (n->kind == TREE_MAP)
        return init_map(l, name, n, fans, to);
    if (n->kind != TREE_SCALAR || n->null)
        return init_fail(l, name, n, fans);
    const int word = config_choice(NET_INIT_WORDS, n->text);
    if (word > 0 && (fans || word == NET_INIT_ZEROS)) {
        *to = (struct net_init_by){.rule = (enum net_init_rule)word};
        return 0;
    }
    if (fans || strchr("0123456789.+-", n->text[0]) == NULL)
        return init_fail(l, name, n, fans);
    to->rule = NET_INIT_NORMAL;
    snprintf(path, sizeof path, "%s.init", name);
    return config_key_read(l, &init_keys[0], path, n, &to->x);
}

// ---- what it is --------------------------------------------------------------------------------------

struct optimizer config_optimizer(const struct config_optimizer *o)
{
    return (struct optimizer){.kind = o->kind,
                              .lr = (float)o->lr,
                              .accum = (float)o->accumulator,
                              .beta1 = (float)o->beta1,
                              .beta2 = (float)o->beta2,
                              .beta = (float)o->beta,
                              .l1 = (float)o->l1,
                              .l2 = (float)o->l2,
                              .weight_decay = (float)o->weight_decay,
                              .decoupled = o->decoupled,
                              .clip_norm = (float)o->clip_norm,
                              .warmup = o->warmup};
}

void config_optimizer_text(const struct config_optimizer *o, struct buf *to)
{
    buf_printf(to, "%s, lr %g", optimizer_name(o->kind), o->lr);
    if (o->kind == OPTIMIZER_ADAM)
        buf_printf(to, ", betas %g %g", o->beta1, o->beta2);
    if (o->kind == OPTIMIZER_FTRL)
        buf_printf(to, ", beta %g, l1 %g, l2 %g", o->beta, o->l1, o->l2);
    if (o->accumulator > 0)
        buf_printf(to, ", accumulator %g", o->accumulator);
    if (o->weight_decay > 0)
        buf_printf(to, ", weight decay %g%s", o->weight_decay, o->decoupled ? " (decoupled)" : "");
    if (o->clip_norm > 0)
        buf_printf(to, ", gradient clipped at %g", o->clip_norm);
    if (o->warmup > 0)
        buf_printf(to, ", warm-up over %llu samples", (unsigned long long)o->warmup);
}
