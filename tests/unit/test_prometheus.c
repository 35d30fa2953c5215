// SPDX-License-Identifier: Apache-2.0
// Promised: docs/METRICS.md is what the table of metrics says.
#include <criterion/criterion.h>
#include <stdio.h>

#include "daemon/prometheus.h"

static void read_file(const char *path, struct buf *to)
{
    FILE *f = fopen(path, "r");
    size_t n = 1;
    while (f != NULL && n > 0) {
        n = fread(buf_reserve(to, 4096), 1, 4096, f);
        to->len += n;
    }
    if (f != NULL)
        fclose(f);
}

Test(prometheus, the_reference_is_the_table)
{
    struct buf wanted = {0};
    struct buf got = {0};
    const char *path = TESTS_DIR "/../docs/METRICS.md";
    prometheus_reference(&wanted);
    const char *refresh = getenv("FRESHET_REFRESH_METRICS");
    if (refresh != NULL) {
        FILE *f = fopen(path, "w");
        cr_assert_not_null(f);
        fwrite(wanted.data, 1, wanted.len, f);
        cr_assert_eq(fclose(f), 0);
    }
    read_file(path, &got);
    cr_expect(got.len == wanted.len && memcmp(got.data, wanted.data, got.len) == 0,
              "docs/METRICS.md is not what daemon/prometheus.c says; refresh it with "
              "FRESHET_REFRESH_METRICS=1 test_prometheus");
    buf_done(&wanted);
    buf_done(&got);
}
