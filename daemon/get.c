// SPDX-License-Identifier: Apache-2.0
// freshet get: what is known of a user, an item, a feature id.
#include <string.h>

#include "daemon/ask.h"
#include "daemon/commands.h"
#include "daemon/http_client.h"
#include "daemon/views.h"

struct get {
    const char *kind, *table, *id;
    int64_t at;
};

static int get_view(void *context, struct engine *e, struct json *j, struct err *err)
{
    const struct get *g = context;
    if (g->table != NULL)
        return view_embedding(e, str_of(g->table), str_of(g->id), j, err);
    if (strcmp(g->kind, "user") == 0)
        return view_user(e, str_of(g->id), g->at, j, err);
    return view_item(e, str_of(g->id), g->at, j, err);
}

static void get_path(const struct cli *cli, const struct get *g, struct buf *to)
{
    const char *at = cli_value(cli, "at");
    buf_printf(to, "/v1/%ss/", g->kind);
    if (g->table != NULL) {
        http_client_encode(str_of(g->table), to);
        buf_put_u8(to, '/');
    }
    http_client_encode(str_of(g->id), to);
    if (at != NULL) {
        buf_printf(to, "?at=");
        http_client_encode(str_of(at), to);
    }
}

int get_command(struct cli *cli)
{
    struct get g = {.kind = cli->args[0], .at = VIEW_NOW};
    bool embedding = strcmp(g.kind, "embedding") == 0;
    const char *at = cli_value(cli, "at");
    if (!embedding && strcmp(g.kind, "user") != 0 && strcmp(g.kind, "item") != 0)
        return cli_usage(cli, "get %s: user, item or embedding is expected", g.kind);
    if (cli->n_args != (embedding ? 3 : 2))
        return cli_usage(cli, "get %s takes %s", g.kind, embedding ? "TABLE ID" : "one ID");
    if (at != NULL && (embedding || view_time(at, &g.at) != 0))
        return cli_usage(cli, "--at %s: %s", at,
                         embedding ? "a row is as of the served version" : "ms, s or RFC 3339 is expected");
    g.table = embedding ? cli->args[1] : NULL;
    g.id = cli->args[embedding ? 2 : 1];
    if (g.id[0] == '\0' || (embedding && g.table[0] == '\0'))
        return cli_usage(cli, "an id is never empty");
    struct ask ask = {
        .kind = embedding ? VIEW_EMBEDDING : VIEW_ENTITY, .method = "GET", .view = get_view, .context = &g};
    get_path(cli, &g, &ask.path);
    return ask_command(cli, &ask);
}
