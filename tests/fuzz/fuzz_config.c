// SPDX-License-Identifier: Apache-2.0
// libFuzzer: whatever a config file or an override holds, config_load gives a whole config or ERR_CONFIG with
// a place. Build with clang and run with the reference file as the seed:
//
//     clang -g -O1 -std=gnu17 -D_GNU_SOURCE -I. -fsanitize=fuzzer,address,undefined tests/fuzz/fuzz_config.c
//         daemon/config*.c daemon/units.c base/*.c -lfyaml -lxxhash -lm -o fuzz_config
//     mkdir -p corpus && cp docs/freshet.reference.yaml corpus/ && ./fuzz_config -max_total_time=60 corpus
//
// libfyaml 0.7.12 leaks a buffer on some malformed quoted scalars: LSAN_OPTIONS=suppressions=FILE with the
// line `leak:libfyaml.so` keeps the search for leaks to what is ours.
//
// An input that begins with '=' is `path=value`, an override; anything else is a file.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "daemon/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int rc, struct config *c, const struct err *err)
{
    if (rc == 0) {
        if (c->model.n_heads == 0 || c->n_windows == 0)
            __builtin_trap();
        config_free(c);
    } else if (err->code != ERR_CONFIG || strchr(err->message, ':') == NULL) {
        __builtin_trap();
    }
}

static void load_override(const uint8_t *data, size_t size)
{
    char *path = mem_strndup((const char *)data, size);
    char *value = strchr(path, '=');
    if (value != NULL) {
        *value = '\0';
        struct config_override override = {path, value + 1};
        struct config *c = NULL;
        struct err err = {0};
        int rc = config_load(NULL, &override, 1, NULL, &c, &err);
        check(rc, c, &err);
    }
    free(path);
}

static void load_file(const uint8_t *data, size_t size)
{
    char file[64];
    int fd = memfd_create("config", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(file, sizeof file, "/proc/self/fd/%d", fd);
    struct config *c = NULL;
    struct err err = {0};
    int rc = config_load(file, NULL, 0, NULL, &c, &err);
    check(rc, c, &err);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == '=')
        load_override(data + 1, size - 1);
    else
        load_file(data, size);
    return 0;
}
