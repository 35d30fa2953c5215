// SPDX-License-Identifier: Apache-2.0
// The table of keys as YAML, in two voices: bare it is the built-in default that every load begins with, and
// with comments the reference file. They cannot drift apart, and both are read by the code that reads a file.
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "daemon/config_keys.h"
#include "daemon/presets.h"
#include "daemon/units.h"
#include "models/loss.h"

enum { COMMENT_WIDTH = 108 };

static const char reference_head[] =
    "Every key of the config with its default. A file needs only what differs; this one changes nothing.\n"
    "`freshet check -c FILE` says whether a file is right, and where it is not.\n"
    "\n"
    "Durations are written 500ms, 5s, 10m, 1h, 30d; counts 1000, 100k, 1M, 1G; sizes 4096, 64MB "
    "(1000 * 1000), 1GiB (1024 * 1024 * 1024).\n"
    "Inside a value ${VAR} is the environment variable, ${VAR:-default} has a default where it is not set "
    "or empty, ${VAR:?message} an error; $${ is the two characters themselves.\n"
    "A value of file:PATH is replaced by that file's content without its last newline: for secrets.\n"
    "A file is laid over the default key by key; lists, and sequences, join.labels, tables, features and "
    "models, are replaced as a whole.\n"
    "On the command line --set path=value sets any key, also inside those: --set "
    "features.hour.offset=2.\n";

struct writer {
    struct buf *to;
    bool comments;
};

// ---- comments ----------------------------------------------------------------------------------------

static void put_text(struct buf *to, const char *s)
{
    buf_put(to, s, strlen(s));
}

static void put_spaces(struct buf *to, int n)
{
    for (int i = 0; i < n; i++)
        buf_put_u8(to, ' ');
}

// A paragraph in lines of `# ...`, further lines set in by `hang`.
static void comment_paragraph(struct buf *to, int indent, int hang, const char *s, size_t len)
{
    const char *end = s + len;
    for (bool first = true; first || s < end; first = false) {
        size_t room = (size_t)(COMMENT_WIDTH - indent - 2 - (first ? 0 : hang));
        size_t take = (size_t)(end - s);
        if (take > room) {
            take = room;
            while (take > 0 && s[take] != ' ')
                take--;
            if (take == 0)
                take = strcspn(s, " \n");
        }
        put_spaces(to, indent);
        put_text(to, "#");
        put_spaces(to, take == 0 ? 0 : first ? 1 : 1 + hang);
        buf_put(to, s, take);
        put_text(to, "\n");
        s += take;
        s += s < end && *s == ' ';
    }
}

static void comment(const struct writer *w, int indent, int hang, const char *text)
{
    for (const char *s = text; w->comments && *s != '\0';) {
        size_t len = strcspn(s, "\n");
        comment_paragraph(w->to, indent, hang, s, len);
        s += len + (s[len] == '\n');
    }
}

// "Duration, 0s to 7d", or "" where the text says it all.
static const char *key_form(const struct config_key *k, char *form, size_t size)
{
    char min[UNITS_TEXT], max[UNITS_TEXT];
    *form = '\0';
    if (k->choices != NULL) {
        size_t used = (size_t)snprintf(form, size, "One of ");
        for (const char *p = k->choices; *p != '\0'; p++)
            used += (size_t)snprintf(form + used, size - used, *p == '|' ? ", " : "%c", *p);
    } else if (k->type == CONFIG_DURATION) {
        snprintf(form, size, "Duration, %s to %s", units_format_duration((int64_t)k->min, min),
                 units_format_duration((int64_t)k->max, max));
    } else if (k->type == CONFIG_COUNT) {
        snprintf(form, size, "Count, %s to %s", units_format_count((uint64_t)k->min, min),
                 units_format_count((uint64_t)k->max, max));
    } else if (k->type == CONFIG_SIZE) {
        snprintf(form, size, "Size, %s to %s", units_format_size((uint64_t)k->min, min),
                 units_format_size((uint64_t)k->max, max));
    } else if (k->type == CONFIG_NUMBER) {
        snprintf(form, size, "Number, %g to %g", k->min, k->max);
    } else if (k->type == CONFIG_BOOL) {
        snprintf(form, size, "true or false");
    }
    return form;
}

// ---- what others declare -----------------------------------------------------------------------------

static void comment_line(const struct writer *w, int indent, int depth, const char *name, const char *text)
{
    char line[900];
    snprintf(line, sizeof line, "%*s%s%*s  %s", 2 * depth, "", name, (int)(10 - strlen(name)), "", text);
    comment(w, indent, 2 * depth + 12, line);
}

static const char *option_form(const struct layer_option *o, char *form, size_t size)
{
    const char *required = o->required ? " Required." : "";
    int used = 0;
    if (o->type == LAYER_NUMBER || o->type == LAYER_COUNT)
        used = snprintf(form, size, " %s, %g to %g.%s", o->type == LAYER_NUMBER ? "Number" : "Count", o->min,
                        o->max, required);
    else if (o->type == LAYER_DIMS)
        snprintf(form, size, " 1 to %d counts, %g to %g.%s", NET_DIMS_MAX, o->min, o->max, required);
    else if (o->type == LAYER_CHOICE)
        snprintf(form, size, " One of %s. Default %.*s.", o->choices, (int)strcspn(o->choices, "|"),
                 o->choices);
    else if (o->type == LAYER_PAIRS)
        snprintf(form, size, " A list of a*b.%s", required);
    else if (o->type == LAYER_FLAG)
        snprintf(form, size, " true or false. Default %s.", o->fallback != 0 ? "true" : "false");
    else
        snprintf(form, size, " %s of features and earlier blocks.%s",
                 o->type == LAYER_INPUT ? "A name" : "A list", required);
    if (used > 0 && !o->required)
        snprintf(form + used, size - (size_t)used, " Default %g.", o->fallback);
    return form;
}

// Layer kinds, each with its options; the one of its own name is told with it.
static void comment_kinds(const struct writer *w, int indent, int depth)
{
    char form[200], text[700];
    struct net_kind kind;
    comment_line(w, indent, depth, "and one of", "the layer kinds:");
    for (uint32_t i = 0; (kind = net_kind(i)).name != NULL; i++) {
        const struct layer_option *own = net_kind_option(&kind, kind.name);
        snprintf(text, sizeof text, "%s %s%s", kind.text, own != NULL ? own->text : "{}.",
                 own != NULL ? option_form(own, form, sizeof form) : "");
        comment_line(w, indent, depth, kind.name, text);
        for (const struct layer_option *o = kind.options; o->name != NULL; o++) {
            snprintf(text, sizeof text, "%s%s", o->text, option_form(o, form, sizeof form));
            if (o != own)
                comment_line(w, indent, depth + 1, o->name, text);
        }
    }
}

static void comment_losses(const struct writer *w, int indent, int depth)
{
    comment_line(w, indent, depth, "losses:", "of a head:");
    for (const struct net_loss *l = net_losses; l->name != NULL; l++)
        comment_line(w, indent, depth + 1, l->name, l->text);
}

static void comment_presets(const struct writer *w, int indent, int depth)
{
    char text[700];
    comment_line(w, indent, depth, "presets:", "nets that are ready, with their arguments:");
    for (const struct preset *p = presets; p->name != NULL; p++) {
        comment_line(w, indent, depth, p->name, p->text);
        for (const struct preset_argument *a = p->arguments; a->name != NULL; a++) {
            snprintf(text, sizeof text, "%s Default %s.", a->text, a->fallback);
            comment_line(w, indent, depth + 1, a->name, text);
        }
    }
}

static void comment_entry(const struct writer *w, int indent, int depth, const struct config_key *keys)
{
    for (const struct config_key *k = keys; k->path != NULL; k++) {
        char form[200], line[600];
        key_form(k, form, sizeof form);
        snprintf(line, sizeof line, "%*s%s%*s  %s%s%s%s%s%s%s", 2 * depth, "", k->path,
                 (int)(10 - strlen(k->path)), "", k->text, *form != '\0' ? " " : "", form,
                 *form != '\0' ? "." : "", k->fallback != NULL ? " Default " : "",
                 k->fallback != NULL ? k->fallback : "", k->fallback != NULL ? "." : "");
        comment(w, indent, 2 * depth + 12, line);
        if (k->entry != NULL)
            comment_entry(w, indent, depth + 1, k->entry);
    }
    if (keys == config_block_keys)
        comment_kinds(w, indent, depth);
    if (keys == config_head_keys)
        comment_losses(w, indent, depth);
    if (keys == config_model_keys)
        comment_presets(w, indent, depth);
}

// ---- keys --------------------------------------------------------------------------------------------

static void write_key(const struct writer *w, const struct config_key *k)
{
    const char *dot = strrchr(k->path, '.');
    const char *name = dot != NULL ? dot + 1 : k->path;
    char form[200], text[900];
    int indent = 0;
    for (const char *p = k->path; *p != '\0'; p++)
        indent += *p == '.' ? 2 : 0;
    if (w->comments && indent == 0)
        put_text(w->to, "\n");
    key_form(k, form, sizeof form);
    snprintf(text, sizeof text, "%s%s%s%s", k->text, *form != '\0' ? " " : "", form,
             *form != '\0' ? "." : "");
    comment(w, indent, 0, text);
    if (w->comments && k->entry != NULL)
        comment_entry(w, indent, 1, k->entry);
    put_spaces(w->to, indent);
    put_text(w->to, name);
    if (k->fallback == NULL) {
        put_text(w->to, ":\n");
    } else if (strchr(k->fallback, '\n') != NULL) {
        put_text(w->to, ":\n");
        put_text(w->to, k->fallback);
    } else {
        put_text(w->to, ": ");
        put_text(w->to, k->fallback);
        put_text(w->to, "\n");
    }
}

static void write_keys(const struct writer *w)
{
    for (const struct config_key *k = config_keys; k->path != NULL; k++)
        write_key(w, k);
}

void config_reference(struct buf *to)
{
    struct writer w = {to, true};
    comment(&w, 0, 0, reference_head);
    write_keys(&w);
}

static struct buf default_yaml; // written once, kept as long as the program

static void default_write(void)
{
    struct writer w = {&default_yaml, false};
    write_keys(&w);
    buf_put_u8(&default_yaml, 0);
}

const char *config_default_yaml(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, default_write);
    return (const char *)default_yaml.data;
}
