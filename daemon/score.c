// SPDX-License-Identifier: Apache-2.0
// freshet score: predictions for the candidates of one request.
#include <stdlib.h>

#include "base/mem.h"
#include "daemon/ask.h"
#include "daemon/commands.h"
#include "daemon/score_body.h"
#include "daemon/views.h"

static int score_view(void *context, struct engine *e, struct json *j, struct err *err)
{
    return view_score(e, context, j, err);
}

static void score_body_put(const struct cli *cli, const struct view_request *r, struct buf *to)
{
    const char *context = cli_value(cli, "context");
    const char *at = cli_value(cli, "at");
    struct json j = json_to(to);
    json_object(&j);
    json_key(&j, "user_id");
    json_str(&j, r->user);
    json_key(&j, "items");
    json_array(&j);
    for (uint32_t i = 0; i < r->n_items; i++)
        json_str(&j, r->items[i]);
    json_end(&j);
    if (at != NULL) {
        json_key(&j, "timestamp");
        json_string(&j, at);
    }
    if (context != NULL) {
        json_key(&j, "context");
        json_raw(&j, context, strlen(context)); // was read before: it is JSON
    }
    json_end(&j);
}

static int score_ask(struct cli *cli, struct view_request *request)
{
    struct ask ask = {.kind = VIEW_SCORES, .method = "POST", .view = score_view, .context = request};
    buf_printf(&ask.path, "/v1/score");
    score_body_put(cli, request, &ask.body);
    return ask_command(cli, &ask);
}

int score_command(struct cli *cli)
{
    struct arena arena = {0};
    struct score_body context = {0};
    struct err err = {0};
    const char *at = cli_value(cli, "at");
    const char *text = cli_value(cli, "context");
    struct view_request request = {
        .user = str_of(cli->args[0]), .n_items = (uint32_t)cli->n_args - 1, .at = VIEW_NOW};
    if (at != NULL && view_time(at, &request.at) != 0)
        return cli_usage(cli, "--at %s: ms, s or RFC 3339 is expected", at);
    if (text != NULL && score_context_read(str_of(text), &arena, &context, &err) != 0) {
        arena_done(&arena);
        return cli_usage(cli, "--context: %s", err.message);
    }
    request.context = context.context;
    request.n_context = context.n_context;
    struct str *items = mem_array(request.n_items, sizeof *items);
    for (uint32_t i = 0; i < request.n_items; i++)
        items[i] = str_of(cli->args[i + 1]);
    request.items = items;
    int code = score_ask(cli, &request);
    free(items);
    arena_done(&arena);
    return code;
}
