// SPDX-License-Identifier: Apache-2.0
// join.labels, join.keep_negatives and join.thin_positives, and what keys of join say together. Windows and rates
// go by label: what an entry does not say is left 0, which the joiner takes for the common value.
#include <stdio.h>
#include <string.h>

#include "daemon/config_keys.h"

// ---- labels ------------------------------------------------------------------------------------------

static int label_of_read(struct config_loader *l, const struct tree_node *of, uint8_t action)
{
    char value[80];
    int choice = of->kind == TREE_SCALAR ? config_choice(config_label_keys[0].choices, of->text) : -1;
    if (action != ACTION_WATCH)
        return tree_fail(l->err, &of->key_at, "join.labels: \"of\" belongs to watch alone");
    if (choice < 0)
        return tree_fail(l->err, &of->at,
                         "join.labels.watch.of is %s, but must be one of: watch_ms, max, sum, last",
                         tree_quote(of, value, sizeof value));
    if (choice > 0)
        l->c->join.watch_of = (enum state_watch)(choice - 1);
    return 0;
}

// completion: {of: watch, length: FEATURE}. Features are read later: config_completion_resolve.
static int completion_read(struct config_loader *l, const struct tree_node *n)
{
    struct config_label label = {0};
    const char *name = "join.labels.completion";
    if (config_entry_read(l, config_label_keys, name, n, &label) < 0)
        return -1;
    const struct tree_node *of = tree_get(n, "of");
    const struct tree_node *length = tree_get(n, "length");
    const struct tree_node *window = tree_get(n, "window");
    if (of == NULL || of->kind != TREE_SCALAR || strcmp(of->text, "watch") != 0)
        return tree_fail(l->err, of != NULL ? &of->at : &n->key_at,
                         "%s is the share that was watched: it needs \"of: watch\"", name);
    if (length == NULL || length->kind != TREE_SCALAR || length->null || strlen(length->text) >= CONFIG_NAME)
        return tree_fail(l->err, length != NULL ? &length->at : &n->key_at,
                         "%s needs \"length\": the number feature that is the whole, in ms", name);
    if (window != NULL)
        return tree_fail(l->err, &window->key_at, "%s has the window of watch: give it to that", name);
    snprintf(l->c->completion.length, sizeof l->c->completion.length, "%s", length->text);
    l->c->completion.at = length->at;
    return 0;
}

int config_completion_resolve(struct config_loader *l)
{
    struct config *c = l->c;
    c->completion.feature = -1;
    if (c->completion.length[0] == '\0')
        return 0;
    if ((c->join.labels >> ACTION_WATCH & 1) == 0)
        return tree_fail(l->err, &c->completion.at,
                         "join.labels.completion is of watch, which is none of join.labels");
    return config_length_find(l, "join.labels.completion", c->completion.length, &c->completion.at,
                              &c->completion.feature);
}

static int label_read(struct config_loader *l, const struct tree_node *n, bool all)
{
    struct config_label label = {0};
    char name[2 * CONFIG_NAME];
    uint8_t action = ACTION_MAX;
    snprintf(name, sizeof name, "join.labels.%.64s", n->key);
    if (!all && config_action_take(l, "join.labels", n->key, true, &n->key_at, &action) < 0)
        return -1;
    if (config_entry_read(l, config_label_keys, name, n, &label) < 0)
        return -1;
    const struct tree_node *of = tree_get(n, "of");
    const struct tree_node *length = tree_get(n, "length");
    if (length != NULL)
        return tree_fail(l->err, &length->key_at, "join.labels: \"length\" belongs to completion alone");
    if (of != NULL && label_of_read(l, of, action) < 0)
        return -1;
    for (uint8_t a = ACTION_IMPRESSION + 1; a < l->c->n_actions; a++) {
        if (!all && a != action)
            continue;
        l->c->join.labels |= 1u << a;
        l->c->join.label_window_ms[a] = label.window_ms;
    }
    return 0;
}

int config_labels_read(struct config_loader *l, const struct tree_node *n)
{
    if (config_map_check(l, "join.labels", n) < 0)
        return -1;
    const struct tree_node *all = tree_get(n, "all");
    if (all != NULL && label_read(l, all, true) < 0)
        return -1;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next) {
        bool completion = strcmp(c->key, "completion") == 0 && config_action_find(l->c, c->key) == ACTION_MAX;
        if (c != all && (completion ? completion_read(l, c) : label_read(l, c, false)) < 0)
            return -1;
    }
    if (l->c->join.labels == 0)
        return tree_fail(l->err, &n->at, "join.labels is empty: a sample needs a label");
    return 0;
}

// ---- rates of negatives ------------------------------------------------------------------------------

static int rate_read(struct config_loader *l, const char *name, const struct tree_node *n, double *ret_rate)
{
    static const struct config_key key = {"rate", CONFIG_NUMBER, .size = sizeof(double), .min = 1e-6,
                                          .max = 1};
    return config_key_read(l, &key, name, n, ret_rate);
}

// Of what is not named: the largest of the rates that are.
static int rates_read(struct config_loader *l, const struct tree_node *n)
{
    struct state_join_options *join = &l->c->join;
    double all = 0;
    join->keep_negatives = 0;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next) {
        char name[2 * CONFIG_NAME];
        uint8_t action = ACTION_MAX;
        bool is_all = strcmp(c->key, "all") == 0;
        snprintf(name, sizeof name, "join.keep_negatives.%.64s", c->key);
        if (!is_all && config_action_take(l, "join.keep_negatives", c->key, true, &c->key_at, &action) < 0)
            return -1;
        if (!is_all && (join->labels >> action & 1) == 0)
            return tree_fail(l->err, &c->key_at, "%s: %s is none of join.labels", name, c->key);
        double rate;
        if (rate_read(l, name, c, &rate) < 0)
            return -1;
        *(is_all ? &all : &join->keep[action]) = rate;
        join->keep_negatives = rate > join->keep_negatives ? rate : join->keep_negatives;
    }
    for (uint32_t a = 0; a < ACTION_MAX; a++)
        join->keep[a] = join->keep[a] > 0 ? join->keep[a] : all;
    join->keep_by_label = true;
    return 0;
}

int config_keep_read(struct config_loader *l, const struct tree_node *n)
{
    if (n->kind != TREE_MAP)
        return rate_read(l, "join.keep_negatives", n, &l->c->join.keep_negatives);
    if (n->first == NULL)
        return tree_fail(l->err, &n->at, "join.keep_negatives is empty: write a rate, or {click: 0.1, ...}");
    return rates_read(l, n);
}

double config_keep(const struct config *c, uint8_t label)
{
    return c->join.keep[label] > 0 ? c->join.keep[label] : c->join.keep_negatives;
}

// ---- thinning ----------------------------------------------------------------------------------------

static int thin_window(struct config_loader *l, const struct tree_node *n, uint32_t *ret_window)
{
    char value[80];
    for (uint32_t w = 0; w < l->c->n_windows; w++) {
        if (n->kind == TREE_SCALAR && strcmp(n->text, l->c->windows[w].name) == 0) {
            *ret_window = w;
            return 0;
        }
    }
    return tree_fail(l->err, &n->at, "join.thin_positives.window is %s, which is none of counters.windows",
                     tree_quote(n, value, sizeof value));
}

int config_thin_read(struct config_loader *l, const struct tree_node *n)
{
    struct state_thin *thin = &l->c->join.thin;
    if (config_map_check(l, "join.thin_positives", n) < 0)
        return -1;
    if (n->first == NULL)
        return 0;
    config_entry_init(l, config_thin_keys, thin);
    if (config_entry_read(l, config_thin_keys, "join.thin_positives", n, thin) < 0)
        return -1;
    static const char *const needed[] = {"action", "window", "above"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (tree_get(n, needed[i]) == NULL)
            return tree_fail(l->err, &n->at,
                             "join.thin_positives needs action, window and above; %s is missing", needed[i]);
    const struct tree_node *action = tree_get(n, "action");
    if (config_action_take(l, "join.thin_positives.action", action->text, true, &action->at, &thin->action) <
        0)
        return -1;
    return thin_window(l, tree_get(n, "window"), &thin->window);
}

// ---- together ----------------------------------------------------------------------------------------

// The label whose window is the longest, or ACTION_MAX where none is longer than join.window.
static uint8_t label_longest(const struct config *c)
{
    uint8_t longest = ACTION_MAX;
    int64_t window_ms = c->join.window_ms;
    for (uint8_t a = 0; a < c->n_actions; a++) {
        if (c->join.label_window_ms[a] <= window_ms)
            continue;
        window_ms = c->join.label_window_ms[a];
        longest = a;
    }
    return longest;
}

int config_join_check(struct config_loader *l, const struct tree_node *root)
{
    const struct config *c = l->c;
    uint8_t longest = label_longest(c);
    if (c->join.corrections && c->join.emit == STATE_EMIT_WAIT && longest == ACTION_MAX)
        return tree_fail(
            l->err, &tree_path(root, "join.corrections")->at,
            "join.corrections goes with join.emit: first_label or fake_negative; with wait no label "
            "comes after its sample");
    if (longest != ACTION_MAX && !c->join.corrections && c->join.emit != STATE_EMIT_WAIT)
        return tree_fail(l->err, &tree_path(root, "join.labels")->at,
                         "join.labels: the window of %s is longer than join.window, so its labels come as "
                         "corrected samples; with this join.emit that needs join.corrections: true",
                         c->actions[longest]);
    if (c->join.thin.above > 0 && c->join.emit == STATE_EMIT_FAKE_NEGATIVE)
        return tree_fail(
            l->err, &tree_path(root, "join.thin_positives")->at,
            "join.thin_positives does not go with join.emit: fake_negative: a positive that is left out "
            "would stay the negative that it was told as");
    return 0;
}
