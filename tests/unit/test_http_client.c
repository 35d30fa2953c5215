// SPDX-License-Identifier: Apache-2.0
// Promised: bodies by Content-Length, by chunks and to the end of the stream come out whole; every cut of a
// measured answer is refused, never taken for a shorter one; encoded ids decode to themselves.
#include <criterion/criterion.h>

#include "base/rng.h"
#include "daemon/http_client.h"
#include "daemon/http_impl.h"

static int parse(const char *text, size_t n, struct buf *body)
{
    int status = 0;
    buf_clear(body);
    return http_client_parse((struct str){text, (uint32_t)n}, body, &status) == 0 ? status : -1;
}

static void expect_body(const char *text, int status, const char *wanted)
{
    struct buf body = {0};
    cr_expect_eq(parse(text, strlen(text), &body), status, "%s", text);
    cr_expect_eq(body.len, strlen(wanted), "%s", text);
    cr_expect(body.len == 0 || memcmp(body.data, wanted, body.len) == 0, "%s", text);
    buf_done(&body);
}

static const char measured[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
static const char chunked[] =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n";

Test(http_client, bodies)
{
    expect_body(measured, 200, "hello");
    expect_body(chunked, 200, "hello");
    expect_body("HTTP/1.0 404 Not Found\n\nto the end", 404, "to the end");
    expect_body("HTTP/1.1 204 No Content\r\n\r\n", 204, "");
    expect_body("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nok", 200, "ok");
}

Test(http_client, what_is_cut_off_is_refused)
{
    struct buf body = {0};
    for (size_t n = 0; n < sizeof measured - 1; n++)
        cr_expect_eq(parse(measured, n, &body), -1, "%zu", n);
    for (size_t n = 0; n < sizeof chunked - 1 - strlen("\r\n\r\n") + 1; n++)
        cr_expect_eq(parse(chunked, n, &body), -1, "%zu", n);
    buf_done(&body);
}

Test(http_client, nonsense_is_refused)
{
    static const char *const bad[] = {"",
                                      "SSH-2.0-OpenSSH\r\n\r\n",
                                      "HTTP/1.1 abc OK\r\n\r\n",
                                      "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
                                      "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
                                      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\nx"};
    struct buf body = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_eq(parse(bad[i], strlen(bad[i]), &body), -1, "%s", bad[i]);
    buf_done(&body);
}

Test(http_client, ids_survive_the_path)
{
    struct rng rng = rng_of(7);
    struct buf encoded = {0};
    struct buf decoded = {0};
    for (int round = 0; round < 1000; round++) {
        char id[40];
        uint32_t n = (uint32_t)rng_below(&rng, sizeof id);
        for (uint32_t i = 0; i < n; i++)
            id[i] = (char)rng_u64(&rng);
        buf_clear(&encoded);
        buf_clear(&decoded);
        http_client_encode((struct str){id, n}, &encoded);
        cr_assert(encoded.len == 0 || memchr(encoded.data, '/', encoded.len) == NULL);
        cr_assert_eq(http_decode((const char *)encoded.data, encoded.len, &decoded), 0);
        cr_assert(decoded.len == n && (n == 0 || memcmp(decoded.data, id, n) == 0));
    }
    cr_expect_eq(http_decode("%4", 2, &decoded), -1);
    cr_expect_eq(http_decode("%zz", 3, &decoded), -1);
    buf_done(&encoded);
    buf_done(&decoded);
}
