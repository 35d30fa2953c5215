// SPDX-License-Identifier: Apache-2.0
#include "daemon/ask.h"

#include <stdio.h>
#include <string.h>

#include "daemon/http_client.h"

static int ask_state(struct cli *cli, const struct ask *ask, struct buf *to, struct err *err)
{
    struct engine *engine;
    struct engine_options options = {
        .dir = cli_value(cli, "state"), .read_only = true, .fail_if_absent = true};
    if (engine_open(cli->config, &options, &engine, err) != 0)
        return -1;
    struct json j = json_to(to);
    int result = ask->view(ask->context, engine, &j, err);
    engine_close(engine);
    return result;
}

int ask_url(const struct cli *cli, char *url, size_t size, struct err *err)
{
    const struct config *c = cli->config;
    const char *given = cli_value(cli, "url");
    const char *host = c->http.host;
    if (given == NULL && c->http.port == 0)
        return err_set(err, ERR_INVALID, "http.listen leaves the port open (0): say where with --url");
    if (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0)
        host = "127.0.0.1"; // every address is this one too
    bool six = strchr(host, ':') != NULL;
    if (given != NULL)
        snprintf(url, size, "%s", given);
    else
        snprintf(url, size, "http://%s%s%s:%u", six ? "[" : "", host, six ? "]" : "", c->http.port);
    return 0;
}

static int ask_request(const struct cli *cli, struct http_client_request *request, struct buf *to,
                       struct err *err)
{
    char url[300];
    char detail[900];
    int status;
    request->url = url;
    request->token = cli->config->http.token;
    if (ask_url(cli, url, sizeof url, err) != 0 || http_client_ask(request, to, &status, err) != 0)
        return -1;
    if (status == 200)
        return 0;
    view_problem(buf_str(to), status, detail, sizeof detail);
    return err_set(err, status == 404 ? ERR_NOT_FOUND : ERR_INVALID, "%s", detail);
}

static int ask_http(const struct cli *cli, const struct ask *ask, struct buf *to, struct err *err)
{
    struct http_client_request request = {.method = ask->method,
                                          .path = (const char *)ask->path.data,
                                          .body = {(const char *)ask->body.data, (uint32_t)ask->body.len}};
    return ask_request(cli, &request, to, err);
}

int ask_get(const struct cli *cli, const char *path, struct buf *ret_body, struct err *err)
{
    struct http_client_request request = {.method = "GET", .path = path};
    return ask_request(cli, &request, ret_body, err);
}

int ask_command(struct cli *cli, struct ask *ask)
{
    struct buf answer = {0};
    struct err err = {0};
    buf_put_u8(&ask->path, '\0');
    int result =
        cli_given(cli, "state") ? ask_state(cli, ask, &answer, &err) : ask_http(cli, ask, &answer, &err);
    struct str document = {(const char *)answer.data, (uint32_t)answer.len};
    if (result == 0 && cli->json)
        printf("%.*s\n", (int)document.len, document.s);
    else if (result == 0)
        result = view_print(ask->kind, document, stdout, &err);
    buf_done(&answer);
    buf_done(&ask->path);
    buf_done(&ask->body);
    return result == 0 ? EXIT_DONE : cli_fail(cli, &err);
}
