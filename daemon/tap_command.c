// SPDX-License-Identifier: Apache-2.0
// freshet tap: the lines of GET /v1/tap on stdout, as they come, without the empty ones that only say that the
// daemon is there.
#include <stdio.h>

#include "daemon/ask.h"
#include "daemon/commands.h"
#include "daemon/http_client.h"
#include "daemon/view_print.h"

struct tap_output {
    bool begun; // of a line
};

static bool tap_print(void *context, struct str bytes)
{
    struct tap_output *out = context;
    for (uint32_t i = 0; i < bytes.len; i++) {
        if (bytes.s[i] == '\n' && !out->begun)
            continue;
        out->begun = bytes.s[i] != '\n';
        putchar(bytes.s[i]);
    }
    return fflush(stdout) == 0;
}

static void tap_argument(struct buf *path, const char *name, const char *value)
{
    if (value == NULL)
        return;
    buf_printf(path, "&%s=", name);
    http_client_encode(str_of(value), path);
}

static int tap_ask(struct cli *cli, const char *path, struct err *err)
{
    char url[300];
    char detail[900];
    int status = 0;
    struct buf problem = {0};
    struct tap_output out = {0};
    struct http_client_request request = {
        .url = url, .method = "GET", .path = path, .token = cli->config->http.token};
    if (ask_url(cli, url, sizeof url, err) != 0)
        return -1;
    int result = http_client_stream(&request, tap_print, &out, &problem, &status, err);
    if (result != 0 && status != 0 && status != 200) {
        view_problem(buf_str(&problem), status, detail, sizeof detail);
        err_set(err, ERR_INVALID, "%s", detail);
    }
    buf_done(&problem);
    return result;
}

int tap_command(struct cli *cli)
{
    const char *kind = cli->args[0];
    struct err err = {0};
    struct buf path = {0};
    uint32_t from = 0;
    if (strcmp(kind, "events") != 0 && strcmp(kind, "samples") != 0)
        return cli_usage(cli, "tap %s: events or samples is expected", kind);
    buf_printf(&path, "/v1/tap?kind=%s", kind);
    for (const char *where; (where = cli_each(cli, "where", &from)) != NULL;)
        tap_argument(&path, "where", where);
    tap_argument(&path, "limit", cli_value(cli, "limit"));
    tap_argument(&path, "rate", cli_value(cli, "rate"));
    buf_put_u8(&path, '\0');
    int result = tap_ask(cli, (const char *)path.data, &err);
    buf_done(&path);
    return result == 0 ? EXIT_DONE : cli_fail(cli, &err);
}
