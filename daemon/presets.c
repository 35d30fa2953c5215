// SPDX-License-Identifier: Apache-2.0
// A preset is YAML with gaps: the arguments of `with` are written into it, lines with <head> once for each head of
// `heads` (or for one, click), and what comes out is parsed as if it stood in the file. A mistake inside of it is
// reported at "preset NAME:line:column". The model's own `heads` are laid over the preset's.
#include "daemon/presets.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"

const struct preset presets[] = {
    {"mlp",
     "Fully connected layers over all features.",
     {{"widths", "[256, 128]", "Of the layers."},
      {"of", "all", "What is read."},
      {"activation", "relu", "Between and after the layers."}},
     "net:\n"
     "  - {name: bottom, mlp: <widths>, of: <of>, activation: <activation>}\n"
     "heads:\n"
     "  <head>: {of: bottom}\n"},
    {"dcn_v2",
     "DCN V2, parallel: cross layers beside fully connected ones.",
     {{"cross", "3", "How many cross layers."},
      {"rank", "0", "Of their weights; 0: full."},
      {"widths", "[256, 128]", "Of the fully connected layers."},
      {"of", "all", "What is read."},
      {"activation", "relu", "Of the fully connected layers."}},
     "net:\n"
     "  - {name: cross, dcn_v2: <cross>, rank: <rank>, of: <of>}\n"
     "  - {name: deep, mlp: <widths>, of: <of>, activation: <activation>}\n"
     "  - {name: top, concat: {}, of: [cross, deep]}\n"
     "heads:\n"
     "  <head>: {of: top}\n"},
    {"dcn_v2_stacked",
     "DCN V2, stacked: cross layers below fully connected ones.",
     {{"cross", "3", "How many cross layers."},
      {"rank", "0", "Of their weights; 0: full."},
      {"widths", "[256, 128]", "Of the fully connected layers."},
      {"of", "all", "What is read."},
      {"activation", "relu", "Of the fully connected layers."}},
     "net:\n"
     "  - {name: cross, dcn_v2: <cross>, rank: <rank>, of: <of>}\n"
     "  - {name: top, mlp: <widths>, of: cross, activation: <activation>}\n"
     "heads:\n"
     "  <head>: {of: top}\n"},
    {"fibinet",
     "FiBiNET: pairs of the fields, plain and weighed by senet, beside all features, below fully connected "
     "layers.",
     {{"fields", "all.fields", "What is crossed: of one width, but for output dot by interaction."},
      {"bilinear", "interaction", "One matrix of each pair, of each field, or of all."},
      {"output", "hadamard", "Of a pair: a vector, or its sum by dot."},
      {"reduction", "3", "Fields by hidden units of the senet."},
      {"widths", "[256, 128]", "Of the fully connected layers."},
      {"of", "all", "What else is read."},
      {"activation", "relu", "Of the fully connected layers."}},
     "net:\n"
     "  - {name: weighed, senet: {}, reduction: <reduction>, of: <fields>}\n"
     "  - {name: pairs, bilinear: <bilinear>, output: <output>, of: <fields>}\n"
     "  - {name: weighed_pairs, bilinear: <bilinear>, output: <output>, of: weighed}\n"
     "  - {name: plain, concat: {}, of: <of>}\n"
     "  - {name: top, mlp: <widths>, of: [plain, pairs, weighed_pairs], activation: <activation>}\n"
     "heads:\n"
     "  <head>: {of: top}\n"},
    {"fm",
     "A factorization machine: the products of all pairs of fields, and every column by a weight.",
     {{"fields", "all.fields", "What is crossed, of one width."},
      {"linear", "all", "First order: numbers, and embeddings, which make it one of each id."}},
     "net:\n"
     "  - {name: pairs, fm: {}, of: <fields>}\n"
     "  - {name: linear, concat: {}, of: <linear>}\n"
     "  - {name: top, concat: {}, of: [pairs, linear]}\n"
     "heads:\n"
     "  <head>: {of: top}\n"},
    {"mmoe",
     "Experts without sharing, and for each head a softmax gate that mixes them.",
     {{"experts", "4", "How many."},
      {"widths", "[256, 128]", "Of the layers of each expert."},
      {"gate", "[64]", "Of the fully connected layers of each gate."},
      {"gate_dropout", "0.1", "The probability that a gate leaves out an expert, in training."},
      {"of", "all", "What is read."},
      {"activation", "relu", "Between and after the layers of the experts."}},
     "net:\n"
     "  - {name: read, concat: {}, of: <of>}\n"
     "  - {name: experts, experts: <widths>, count: <experts>, of: read, activation: <activation>}\n"
     "  - {name: for_<head>, mmoe: {}, of: experts, by: read, gate: <gate>, dropout: <gate_dropout>}\n"
     "heads:\n"
     "  <head>: {of: for_<head>}\n"},
    {"ppnet",
     "Fully connected layers with gates by the user before each (PPNet).",
     {{"widths", "[256, 128]", "Of the layers."},
      {"gate", "64", "Width of the hidden layer of a gate."},
      {"user", "all.user", "What the gates read, beside what is read, which has no gradient from them."},
      {"of", "all", "What is read."},
      {"activation", "relu", "Between and after the layers."}},
     "net:\n"
     "  - {name: prior, concat: {}, of: <user>}\n"
     "  - {name: top, lhuc: <widths>, by: prior, hidden: <gate>, detached: true, gate_input: true, of: <of>, "
     "activation: <activation>}\n"
     "heads:\n"
     "  <head>: {of: top}\n"},
    {"din",
     "DIN: a sequence by its entries' weights beside the candidate, and all features below fully connected "
     "layers.",
     {{"history", "clicks", "The sequence; several of the same entries are put side by side."},
      {"candidate", "item_id", "What the entries are weighed by."},
      {"attention", "[64, 16]", "Hidden widths of the unit that weighs."},
      {"attention_activation", "dice", "Of these."},
      {"widths", "[256, 128]", "Of the fully connected layers."},
      {"of", "all", "What else is read."},
      {"activation", "relu", "Of the fully connected layers."}},
     "net:\n"
     "  - {name: interest, din: <attention>, of: <history>, candidate: <candidate>, activation: "
     "<attention_activation>}\n"
     "  - {name: plain, concat: {}, of: <of>}\n"
     "  - {name: top, mlp: <widths>, of: [plain, interest], activation: <activation>}\n"
     "heads:\n"
     "  <head>: {of: top}\n"},
    {"sim",
     "SIM: attention over what a long sequence holds of the candidate, DIN over the last entries, and all "
     "features, below fully connected layers.",
     {{"long", "clicks",
       "A long sequence, or one kept by item.category; beside it may stand that of its ages."},
      {"search", "soft",
       "soft: the 50 nearest of it; none: all, which is hard search where it is kept by the candidate's "
       "bucket."},
      {"heads", "4", "Of the attention over what is found."},
      {"history", "clicks", "The sequence of the last entries."},
      {"candidate", "item_id", "What is searched for and weighed by."},
      {"attention", "[64, 16]", "Hidden widths of the unit that weighs the last entries."},
      {"attention_activation", "dice", "Of these."},
      {"widths", "[256, 128]", "Of the fully connected layers."},
      {"of", "all", "What else is read."},
      {"activation", "relu", "Of the fully connected layers."}},
     "net:\n"
     "  - {name: found, sim: {}, of: <long>, candidate: <candidate>, search: <search>, heads: <heads>}\n"
     "  - {name: interest, din: <attention>, of: <history>, candidate: <candidate>, activation: "
     "<attention_activation>}\n"
     "  - {name: plain, concat: {}, of: <of>}\n"
     "  - {name: top, mlp: <widths>, of: [plain, found, interest], activation: <activation>}\n"
     "heads:\n"
     "  <head>: {of: top}\n"},
    {"three_tower",
     "Three towers, of the user, the item and the pair, crossed below fully connected layers: light for each "
     "candidate, "
     "for the first stage of ranking.",
     {{"user", "[128, 32]", "Widths of the user's tower, computed once a request."},
      {"item", "[128, 32]", "Of the item's, kept while a version is served; the last as the user's."},
      {"pair", "match",
       "What the third tower reads, computed for each candidate: match is the product of the other two; with "
       "features "
       "of both sides [match, all.cross]."},
      {"pair_widths", "[16]", "Of the third tower."},
      {"of_user", "all.request", "What the user's tower reads."},
      {"of_item", "all.item", "What the item's tower reads: the less it changes, the more is found."},
      {"cross", "1", "How many cross layers above the towers."},
      {"widths", "[32]", "Of the fully connected layers."},
      {"activation", "relu", "Between and after the layers."}},
     "net:\n"
     "  - {name: user_tower, mlp: <user>, of: <of_user>, side: user, activation: <activation>}\n"
     "  - {name: item_tower, mlp: <item>, of: <of_item>, side: item, activation: <activation>}\n"
     "  - {name: match, hadamard: {}, of: [user_tower, item_tower]}\n"
     "  - {name: pair_tower, mlp: <pair_widths>, of: <pair>, activation: <activation>}\n"
     "  - {name: crossed, dcn_v2: <cross>, of: [user_tower, item_tower, pair_tower]}\n"
     "  - {name: top, mlp: <widths>, of: crossed, activation: <activation>}\n"
     "heads:\n"
     "  <head>: {of: top}\n"},
    {"two_stage",
     "Three towers with a head first_<head> for each head, which see every candidate; and of those that "
     "models.NAME.rank "
     "keeps, all features through experts that the heads share, mixed for each (mmoe).",
     {{"user", "[128, 32]", "Widths of the user's tower, computed once a request."},
      {"item", "[128, 32]", "Of the item's, kept while a version is served; the last as the user's."},
      {"pair", "match",
       "What the third tower reads, computed for each candidate: match is the product of the other two; with "
       "features "
       "of both sides [match, all.cross]."},
      {"pair_widths", "[16]", "Of the third tower."},
      {"of_user", "all.request", "What the user's tower reads."},
      {"of_item", "all.item", "What the item's tower reads: the less it changes, the more is found."},
      {"cross", "1", "How many cross layers above the towers."},
      {"first", "[32]", "Of the fully connected layers above them."},
      {"experts", "4", "How many, in the second stage."},
      {"widths", "[256, 128]", "Of the layers of each expert."},
      {"gate", "[64]", "Of the fully connected layers of each gate."},
      {"of", "all", "What the second stage reads."},
      {"activation", "relu", "Between and after the layers."}},
     "net:\n"
     "  - {name: user_tower, mlp: <user>, of: <of_user>, side: user, activation: <activation>}\n"
     "  - {name: item_tower, mlp: <item>, of: <of_item>, side: item, activation: <activation>}\n"
     "  - {name: match, hadamard: {}, of: [user_tower, item_tower]}\n"
     "  - {name: pair_tower, mlp: <pair_widths>, of: <pair>, activation: <activation>}\n"
     "  - {name: crossed, dcn_v2: <cross>, of: [user_tower, item_tower, pair_tower]}\n"
     "  - {name: top, mlp: <first>, of: crossed, activation: <activation>}\n"
     "  - {name: read, concat: {}, of: <of>}\n"
     "  - {name: experts, experts: <widths>, count: <experts>, of: read, activation: <activation>}\n"
     "  - {name: for_<head>, mmoe: {}, of: experts, by: read, gate: <gate>}\n"
     "heads:\n"
     "  first_<head>: {of: top, label: <head>, stage: 1}\n"
     "  <head>: {of: for_<head>, stage: 2}\n"},
    {0},
};

struct expansion {
    struct config_loader *l;
    const struct preset *preset;
    const struct tree_node *with, *heads; // of the model, or NULL
    struct buf text;
};

static void put(struct buf *to, const char *s, size_t n)
{
    buf_put(to, s, n);
}

// ---- arguments ---------------------------------------------------------------------------------------

// As flow YAML: a scalar, or a list of scalars.
static int argument_put(const struct expansion *e, const struct tree_node *n, struct buf *to)
{
    if (n->kind == TREE_SCALAR && !n->null) {
        buf_printf(to, "%s", n->text);
        return 0;
    }
    bool plain = n->kind == TREE_LIST && n->first != NULL;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next)
        plain = plain && c->kind == TREE_SCALAR && !c->null;
    if (!plain)
        return tree_fail(e->l->err, &n->at, "preset %s: \"%s\" must be a value or a list of values",
                         e->preset->name, n->key);
    for (const struct tree_node *c = n->first; c != NULL; c = c->next)
        buf_printf(to, "%s%s", c == n->first ? "[" : ", ", c->text);
    buf_printf(to, "]");
    return 0;
}

static const struct preset_argument *argument_find(const struct preset *p, const char *name, size_t len)
{
    for (const struct preset_argument *a = p->arguments; a->name != NULL; a++)
        if (strlen(a->name) == len && memcmp(a->name, name, len) == 0)
            return a;
    return NULL;
}

static int with_check(const struct expansion *e)
{
    if (e->with != NULL && config_map_check(e->l, "with", e->with) < 0)
        return -1;
    for (const struct tree_node *c = e->with != NULL ? e->with->first : NULL; c != NULL; c = c->next) {
        if (argument_find(e->preset, c->key, strlen(c->key)) != NULL)
            continue;
        struct nearest near;
        nearest_init(&near, c->key);
        for (const struct preset_argument *a = e->preset->arguments; a->name != NULL; a++)
            nearest_put(&near, a->name);
        return tree_fail(e->l->err, &c->key_at, "preset %s takes no \"%.80s\"%s", e->preset->name, c->key,
                         nearest_hint(&near));
    }
    return 0;
}

// ---- text --------------------------------------------------------------------------------------------

// One line with its gaps filled; `head` NULL: it has no <head>.
static int line_put(struct expansion *e, const char *line, size_t len, const char *head)
{
    const char *end = line + len;
    while (line < end) {
        const char *open = memchr(line, '<', (size_t)(end - line));
        const char *close = open != NULL ? memchr(open, '>', (size_t)(end - open)) : NULL;
        put(&e->text, line, (size_t)((close != NULL ? open : end) - line));
        if (close == NULL)
            break;
        const size_t n = (size_t)(close - open - 1);
        const struct preset_argument *a = argument_find(e->preset, open + 1, n);
        const struct tree_node *given = a != NULL && e->with != NULL ? tree_get(e->with, a->name) : NULL;
        if (given != NULL && argument_put(e, given, &e->text) < 0)
            return -1;
        const char *fill = a == NULL ? head : a->fallback;
        if (given == NULL && fill != NULL)
            put(&e->text, fill, strlen(fill));
        line = close + 1;
    }
    put(&e->text, "\n", 1);
    return 0;
}

static int lines_put(struct expansion *e)
{
    for (const char *s = e->preset->yaml; *s != '\0';) {
        const size_t len = strcspn(s, "\n");
        const char *mark = strstr(s, "<head>");
        const bool repeated = mark != NULL && mark < s + len;
        const struct tree_node *h = repeated && e->heads != NULL ? e->heads->first : NULL;
        if (h == NULL && line_put(e, s, len, "click") < 0)
            return -1;
        for (; h != NULL; h = h->next)
            if (line_put(e, s, len, h->key) < 0)
                return -1;
        s += len + (s[len] == '\n');
    }
    return 0;
}

static bool merges_all(const char *path)
{
    (void)path;
    return true;
}

static int text_parse(struct expansion *e, const struct tree_node **net, const struct tree_node **heads)
{
    char name[2 * CONFIG_NAME];
    snprintf(name, sizeof name, "preset %s", e->preset->name);
    const char *file = arena_str(e->l->arena, str_of(name)).s;
    const struct str text = arena_str(e->l->arena, buf_str(&e->text));
    struct tree_node *root;
    if (tree_parse(e->l->arena, file, 0, text, &root, e->l->err) < 0)
        return -1;
    struct tree_node *own = tree_get(root, "heads");
    for (const struct tree_node *h = e->heads != NULL ? e->heads->first : NULL; h != NULL; h = h->next) {
        struct tree_node *twin = tree_get(own, h->key);
        if (twin != NULL)
            twin->key_at = h->key_at; // of what is wrong with a head, the user's own line is the place
    }
    if (e->heads != NULL)
        tree_merge(e->l->arena, own, (struct tree_node *)(uintptr_t)e->heads, "heads", merges_all);
    *net = tree_get(root, "net");
    *heads = own;
    return 0;
}

static const struct preset *preset_find(struct config_loader *l, const struct tree_node *n)
{
    struct nearest near;
    nearest_init(&near, n->text);
    for (const struct preset *p = presets; p->name != NULL; p++) {
        if (n->kind == TREE_SCALAR && strcmp(p->name, n->text) == 0)
            return p;
        nearest_put(&near, p->name);
    }
    (void)tree_fail(l->err, &n->at, "no preset \"%.80s\"%s", n->text, nearest_hint(&near));
    return NULL;
}

int preset_expand(struct config_loader *l, const struct tree_node *model, const struct tree_node **net,
                  const struct tree_node **heads)
{
    const struct tree_node *n = tree_get(model, "preset"), *with = tree_get(model, "with");
    if (n == NULL)
        return with == NULL ? 0 : tree_fail(l->err, &with->key_at, "\"with\" goes with a preset");
    if (*net != NULL)
        return tree_fail(l->err, &(*net)->key_at, "a model has a net or a preset, not both");
    struct expansion e = {.l = l, .with = with, .heads = *heads, .preset = preset_find(l, n)};
    if (e.preset == NULL || with_check(&e) < 0 ||
        (e.heads != NULL && config_map_check(l, "heads", e.heads) < 0))
        return -1;
    if (e.heads != NULL && e.heads->first == NULL)
        e.heads = NULL;
    int result = lines_put(&e);
    if (result == 0)
        result = text_parse(&e, net, heads);
    buf_done(&e.text);
    return result;
}
