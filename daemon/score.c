// SPDX-License-Identifier: Apache-2.0
// freshet score: predictions for the candidates of one request. freshet rank: the same in order, best first, with the
// stage that ranked each; many candidates come from a file.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    if (r->sort) {
        json_key(&j, "sort");
        json_bool(&j, true);
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

// With the user and the items of the request already there.
static int score_run(struct cli *cli, struct view_request *request)
{
    struct arena arena = {0};
    struct score_body context = {0};
    struct err err = {0};
    const char *at = cli_value(cli, "at");
    const char *text = cli_value(cli, "context");
    if (at != NULL && view_time(at, &request->at) != 0)
        return cli_usage(cli, "--at %s: ms, s or RFC 3339 is expected", at);
    if (text != NULL && score_context_read(str_of(text), &arena, &context, &err) != 0) {
        arena_done(&arena);
        return cli_usage(cli, "--context: %s", err.message);
    }
    request->context = context.context;
    request->n_context = context.n_context;
    int code = score_ask(cli, request);
    arena_done(&arena);
    return code;
}

int score_command(struct cli *cli)
{
    struct view_request request = {
        .user = str_of(cli->args[0]), .n_items = (uint32_t)cli->n_args - 1, .at = VIEW_NOW};
    struct str *items = mem_array(request.n_items, sizeof *items);
    for (uint32_t i = 0; i < request.n_items; i++)
        items[i] = str_of(cli->args[i + 1]);
    request.items = items;
    int code = score_run(cli, &request);
    free(items);
    return code;
}

// ---- rank -------------------------------------------------------------------------------------------------

// The words between any of `separators`; too many are left for the request to refuse.
static uint32_t items_cut(char *text, const char *separators, struct str *items, uint32_t n)
{
    char *rest = text;
    for (char *word; (word = strsep(&rest, separators)) != NULL;)
        if (*word != '\0' && n <= VIEW_CANDIDATES_MAX)
            items[n++] = str_of(word);
    return n;
}

static int file_read(const char *path, struct buf *to)
{
    char piece[4096];
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    if (f == NULL)
        return -1;
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;)
        buf_put(to, piece, n);
    int result = ferror(f) != 0 ? -1 : 0;
    if (f != stdin)
        fclose(f);
    buf_put_u8(to, '\0');
    return result;
}

int rank_command(struct cli *cli)
{
    const char *list = cli_value(cli, "items"), *path = cli_value(cli, "items-file");
    struct buf lines = {0};
    if ((list == NULL) == (path == NULL))
        return cli_usage(cli, "the candidates come from --items or from --items-file, one of them");
    if (path != NULL && file_read(path, &lines) != 0) {
        buf_done(&lines);
        return cli_usage(cli, "--items-file %s: %s", path, strerror(errno));
    }
    char *text = list != NULL ? mem_strdup(list) : NULL;
    struct str *items = mem_array(VIEW_CANDIDATES_MAX + 1, sizeof *items);
    const uint32_t n =
        text != NULL ? items_cut(text, ",", items, 0) : items_cut((char *)lines.data, "\r\n", items, 0);
    struct view_request request = {
        .user = str_of(cli->args[0]), .n_items = n, .items = items, .at = VIEW_NOW, .sort = true};
    int code = n == 0 ? cli_usage(cli, "there is no candidate") : score_run(cli, &request);
    free(text);
    free(items);
    buf_done(&lines);
    return code;
}
