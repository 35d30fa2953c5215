// SPDX-License-Identifier: Apache-2.0
// freshet explain USER ITEM: every feature of the pair, and where it comes from.
#include <stdlib.h>

#include "base/mem.h"
#include "daemon/ask.h"
#include "daemon/commands.h"
#include "daemon/explain_item.h"

static int explain_view(void *context, struct engine *e, struct json *j, struct err *err)
{
    return view_explain(e, context, j, err);
}

// k=v: a number, true, false, else a text. False: there is no =.
static bool context_field(const char *text, struct event_field *ret)
{
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals == text)
        return false;
    const char *value = equals + 1;
    char *end;
    ret->name = (struct str){text, (uint32_t)(equals - text)};
    double number = strtod(value, &end);
    if (*value != '\0' && *end == '\0') {
        ret->type = EVENT_NUMBER;
        ret->n = number;
    } else if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0) {
        ret->type = EVENT_BOOL;
        ret->b = value[0] == 't';
    } else {
        ret->type = EVENT_STRING;
        ret->s = str_of(value);
    }
    return true;
}

static void body_context(const struct view_request *r, struct json *j)
{
    json_key(j, "context");
    json_object(j);
    for (uint32_t i = 0; i < r->n_context; i++) {
        const struct event_field *f = &r->context[i];
        json_key_n(j, f->name.s, f->name.len);
        if (f->type == EVENT_NUMBER)
            json_double(j, f->n);
        else if (f->type == EVENT_BOOL)
            json_bool(j, f->b);
        else
            json_str(j, f->s);
    }
    json_end(j);
}

static void explain_body(const struct cli *cli, const struct view_request *r, struct buf *to)
{
    struct json j = json_to(to);
    json_object(&j);
    json_key(&j, "user_id");
    json_str(&j, r->user);
    json_key(&j, "items");
    json_array(&j);
    json_str(&j, r->items[0]);
    json_end(&j);
    if (cli_value(cli, "at") != NULL) {
        json_key(&j, "timestamp");
        json_string(&j, cli_value(cli, "at"));
    }
    body_context(r, &j);
    json_end(&j);
}

int explain_pair(struct cli *cli)
{
    struct event_field context[CLI_VALUES_MAX];
    struct str item = str_of(cli->args[1]);
    struct view_request request = {
        .user = str_of(cli->args[0]), .n_items = 1, .items = &item, .at = VIEW_NOW, .context = context};
    const char *at = cli_value(cli, "at");
    uint32_t from = 0;
    if (at != NULL && view_time(at, &request.at) != 0)
        return cli_usage(cli, "--at %s: ms, s or RFC 3339 is expected", at);
    for (const char *text; (text = cli_each(cli, "context", &from)) != NULL;)
        if (!context_field(text, &context[request.n_context++]))
            return cli_usage(cli, "--context %s: NAME=VALUE is expected", text);
    struct ask ask = {.kind = VIEW_EXPLAIN, .method = "POST", .view = explain_view, .context = &request};
    buf_printf(&ask.path, "/v1/explain");
    explain_body(cli, &request, &ask.body);
    return ask_command(cli, &ask);
}
