// SPDX-License-Identifier: Apache-2.0
// freshet explain --model NAME: the net as text, as JSON, or as Graphviz (`| dot -Tsvg`); and the warnings of
// `freshet check` about what nobody uses. All of it is read from the compiled net (net_node).
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "daemon/commands.h"
#include "daemon/explain_net.h"
#include "daemon/update.h"

enum { SIDES_TEXT = 64, WIDTH_OF = 44 };

// ---- text -------------------------------------------------------------------------------------------------

// 1234567 -> "1.23M".
static const char *short_number(double x, char text[24])
{
    static const char units[] = " kMGT";
    uint32_t unit = 0;
    for (; x >= 9999.5 && units[unit + 1] != '\0'; unit++)
        x /= 1000;
    if (x == 0)
        snprintf(text, 24, "-");
    else
        snprintf(text, 24, unit > 0 && x < 100 ? "%.1f%c" : "%.0f%c", x, units[unit]);
    if (unit == 0)
        text[strcspn(text, " ")] = '\0';
    return text;
}

static void inputs_text(const struct net *net, uint32_t node, uint32_t n_in, struct buf *to)
{
    for (uint32_t k = 0; k < n_in; k++) {
        struct net_node in;
        net_node(net, net_node_in(net, node, k), &in);
        buf_printf(to, "%s%s", k > 0 ? ", " : "", in.name);
    }
}

static const char *shape_text(const struct net_node *n, char text[48])
{
    if (n->ragged)
        snprintf(text, 48, "%ux%u", n->max_len, n->dim);
    else
        snprintf(text, 48, "%u", n->dim);
    return text;
}

static void print_row(const struct net *net, uint32_t i)
{
    struct net_node n;
    char shape[48], sides[SIDES_TEXT], params[24], forward[24], frozen[24], dense[24];
    struct buf of = {0};
    net_node(net, i, &n);
    inputs_text(net, i, n.n_in, &of);
    const bool cut = of.len > WIDTH_OF;
    printf("%-20s %-9s %8s %8s %8s %8s %8s  %-17s %.*s%s%s\n", n.name, n.kind, shape_text(&n, shape),
           short_number((double)n.params, params), short_number(n.flops_forward, forward),
           short_number(n.flops_frozen, frozen), short_number(n.flops_dense, dense),
           net_sides_text(n.sides, sides, sizeof sides), (int)(cut ? WIDTH_OF : of.len),
           of.len > 0 ? (const char *)of.data : "", cut ? "..." : "", n.live ? "" : " (unused)");
    buf_done(&of);
}

// The dense layers, whose blocks may have a learning rate of their own, and the tables.
static void print_optimizers(const struct config *config)
{
    struct buf text = {0};
    config_optimizer_text(&config->update.dense, &text);
    for (uint32_t i = 0; i < config->model.n_blocks; i++)
        if (config->model.blocks[i].lr > 0)
            buf_printf(&text, "; %s lr %g", config->model.blocks[i].name, config->model.blocks[i].lr);
    for (uint32_t i = 0; i < config->model.n_heads; i++)
        if (config->model.heads[i].lr > 0)
            buf_printf(&text, "; %s lr %g", config->model.heads[i].name, config->model.heads[i].lr);
    printf("dense layers: %.*s\n", (int)text.len, (const char *)text.data);
    for (uint32_t i = 0; i < config->n_tables; i++) {
        buf_clear(&text);
        config_optimizer_text(&config->tables[i].optimizer, &text);
        printf("table %s: %.*s\n", config->tables[i].name, (int)text.len, (const char *)text.data);
    }
    buf_done(&text);
}

static void print_text(const struct config *config, const struct net *net)
{
    char params[24], forward[24], frozen[24], dense[24];
    const double f = net_flops(net, false, false);
    printf("model %s, per sample; sequences at their greatest length\n\n", config->model.name);
    printf("%-20s %-9s %8s %8s %8s %8s %8s  %-17s %s\n", "name", "kind", "shape", "params", "forward",
           "frozen", "dense", "side", "of");
    for (uint32_t i = 0; i < net_node_count(net); i++)
        print_row(net, i);
    printf("\n%s parameters; %s FLOPs forward, %s more to train frozen, %s to train all layers\n",
           short_number((double)net_param_floats(net), params), short_number(f, forward),
           short_number(net_flops(net, false, true) - f, frozen),
           short_number(net_flops(net, true, true) - f, dense));
    print_optimizers(config);
}

// ---- Graphviz ---------------------------------------------------------------------------------------------

static void print_dot(const struct config *config, const struct net *net)
{
    static const char *const colors[] = {"white", "lightblue", "lightyellow", "lightgrey"};
    printf("digraph \"%s\" {\n  rankdir=BT;\n  node [shape=box, style=filled];\n", config->model.name);
    for (uint32_t i = 0; i < net_node_count(net); i++) {
        struct net_node n;
        char shape[48];
        net_node(net, i, &n);
        const bool user = (n.sides & (NET_USER | NET_CONTEXT)) != 0, item = (n.sides & NET_ITEM) != 0;
        printf("  n%u [label=\"%s\\n%s %s\", fillcolor=%s%s%s];\n", i, n.name, n.kind, shape_text(&n, shape),
               (n.sides & NET_CROSS) != 0 ? colors[3] : colors[user + 2 * item],
               n.is_input ? ", shape=ellipse" : "", n.live ? "" : ", style=dashed");
        for (uint32_t k = 0; k < n.n_in; k++)
            printf("  n%u -> n%u;\n", net_node_in(net, i, k), i);
    }
    printf("}\n");
}

// ---- JSON -------------------------------------------------------------------------------------------------

static void put_node(struct json *j, const struct net *net, uint32_t i)
{
    struct net_node n;
    char sides[SIDES_TEXT];
    net_node(net, i, &n);
    json_object(j);
    json_member_string(j, "name", n.name);
    json_member_string(j, "kind", n.kind);
    json_member_string(j, "side", net_sides_text(n.sides, sides, sizeof sides));
    json_member_double(j, "dim", n.dim);
    json_member_double(j, "max_len", n.max_len);
    json_member_double(j, "params", (double)n.params);
    json_member_double(j, "flops_forward", n.flops_forward);
    json_member_double(j, "flops_frozen", n.flops_frozen);
    json_member_double(j, "flops_dense", n.flops_dense);
    json_key(j, "used");
    json_bool(j, n.live);
    json_key(j, "of");
    json_array(j);
    for (uint32_t k = 0; k < n.n_in; k++) {
        struct net_node in;
        net_node(net, net_node_in(net, i, k), &in);
        json_string(j, in.name);
    }
    json_end(j);
    json_end(j);
}

static void print_json(const struct config *config, const struct features_net *features,
                       const struct net *net)
{
    struct buf out = {0};
    struct json j = json_to(&out);
    json_object(&j);
    json_member_string(&j, "model", config->model.name);
    json_member_double(&j, "params", (double)net_param_floats(net));
    json_member_double(&j, "flops_forward", net_flops(net, false, false));
    json_member_double(&j, "flops_frozen", net_flops(net, false, true) - net_flops(net, false, false));
    json_member_double(&j, "flops_dense", net_flops(net, true, true) - net_flops(net, false, false));
    json_key(&j, "nodes");
    json_array(&j);
    for (uint32_t i = 0; i < net_node_count(net); i++)
        put_node(&j, net, i);
    json_end(&j);
    explain_net_json(&j, config, features);
    json_end(&j);
    printf("%.*s\n", (int)out.len, (const char *)out.data);
    buf_done(&out);
}

int explain_model(struct cli *cli, const char *name)
{
    const struct config *config = cli->config;
    struct err err = {0};
    struct features_net features;
    struct net *net;
    if (strcmp(name, config->model.name) != 0)
        return cli_usage(cli, "there is no model \"%s\"; the config has \"%s\"", name, config->model.name);
    if (updater_net_new(config, &features, &net, &err) != 0)
        return cli_fail(cli, &err);
    if (cli->json)
        print_json(config, &features, net);
    else if (cli_given(cli, "dot"))
        print_dot(config, net);
    else
        print_text(config, net);
    net_free(net);
    features_net_done(&features);
    return EXIT_DONE;
}

// ---- warnings ---------------------------------------------------------------------------------------------

static void warn(const struct config_at *at, const char *what, const char *name)
{
    char text[4200];
    fprintf(stderr, "%s: warning: %s \"%s\" is used by no head\n", config_at_text(at, text, sizeof text),
            what, name);
}

// Whether a node of this name is there and some head depends on it.
static bool node_used(const struct net *net, const char *name)
{
    for (uint32_t i = 0; i < net_node_count(net); i++) {
        struct net_node n;
        net_node(net, i, &n);
        if (!n.is_head && strcmp(n.name, name) == 0)
            return n.live;
    }
    return false;
}

static bool feature_is_length(const struct config *config, uint32_t feature)
{
    for (uint32_t h = 0; h < config->model.n_heads; h++)
        if (config->model.heads[h].length == (int)feature)
            return true;
    return config->completion.feature == (int)feature;
}

// Without corrections a sample that has left, or left with its first label, never learns of the labels that come after
// the first: of a like behind its click nothing is trained.
static void warn_of_later_labels(const struct config *config)
{
    char text[4200];
    uint64_t labels = 0;
    for (uint32_t h = 0; h < config->model.n_heads; h++) {
        labels |= 1ull << config->model.heads[h].label;
        if (config->model.heads[h].given >= 0)
            labels |= 1ull << config->model.heads[h].given;
    }
    if (config->join.emit == STATE_EMIT_WAIT || config->join.corrections || (labels & (labels - 1)) == 0)
        return;
    fprintf(stderr,
            "%s: warning: the heads have several labels, but with this join.emit those after the first of an "
            "impression come only with join.corrections: true\n",
            config_at_text(&config->model.at, text, sizeof text));
}

int explain_warnings(const struct config *config, struct err *err)
{
    struct features_net features;
    struct net *net;
    if (updater_net_new(config, &features, &net, err) != 0)
        return -1;
    for (uint32_t i = 0; i < config->n_features; i++)
        if (!node_used(net, config->features[i].name) && !feature_is_length(config, i))
            warn(&config->features[i].at, "feature", config->features[i].name);
    for (uint32_t i = 0; i < config->model.n_blocks; i++)
        if (!node_used(net, config->model.blocks[i].name))
            warn(&config->model.blocks[i].at, "block", config->model.blocks[i].name);
    warn_of_later_labels(config);
    net_free(net);
    features_net_done(&features);
    return 0;
}
