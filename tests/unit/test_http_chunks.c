// SPDX-License-Identifier: Apache-2.0
// Promised: a chunked body comes out whole wherever it is cut; its end is known; what is malformed is refused.
#include <criterion/criterion.h>

#include "base/rng.h"
#include "daemon/http_chunks.h"

enum { ROUNDS = 2000 };

// A body of random chunks, some with extensions; *ret_data is what must come out.
static void body_make(struct rng *rng, struct buf *body, struct buf *data)
{
    buf_clear(body);
    buf_clear(data);
    for (uint64_t chunks = rng_below(rng, 6); chunks > 0; chunks--) {
        uint64_t n = 1 + rng_below(rng, 40);
        buf_printf(body, rng_below(rng, 2) ? "%llx" : "%llX", (unsigned long long)n);
        buf_printf(body, "%s\r\n", rng_below(rng, 3) == 0 ? ";name=\"value\"" : "");
        for (; n > 0; n--) {
            uint8_t byte = (uint8_t)rng_u64(rng);
            buf_put_u8(body, byte);
            buf_put_u8(data, byte);
        }
        buf_printf(body, "\r\n");
    }
    buf_printf(body, "0\r\n\r\n");
}

Test(http_chunks, every_cut_gives_the_same)
{
    struct rng rng = rng_of(7);
    struct buf body = {0};
    struct buf data = {0};
    struct buf got = {0};
    for (int round = 0; round < ROUNDS; round++) {
        struct http_chunks c = {0};
        body_make(&rng, &body, &data);
        buf_clear(&got);
        int more = 1;
        for (size_t at = 0, n; at < body.len && more == 1; at += n) {
            n = 1 + rng_below(&rng, body.len - at);
            more = http_chunks_decode(&c, (struct str){(const char *)body.data + at, (uint32_t)n}, &got);
        }
        cr_assert_eq(more, 0);
        cr_assert_eq(got.len, data.len);
        cr_assert(data.len == 0 || memcmp(got.data, data.data, data.len) == 0);
    }
    buf_done(&body);
    buf_done(&data);
    buf_done(&got);
}

Test(http_chunks, what_is_malformed_is_refused)
{
    static const char *const wrong[] = {"x\r\n",  "-1\r\n",      "\r\n",
                                        ";a\r\n", "1\r\nab\r\n", "1111111111111\r\n"};
    struct buf got = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct http_chunks c = {0};
        cr_expect_eq(http_chunks_decode(&c, str_of(wrong[i]), &got), -1, "%s", wrong[i]);
    }
    buf_done(&got);
}
