// SPDX-License-Identifier: Apache-2.0
// A commit whose sync of the MANIFEST failed. It is unknown then whether the MANIFEST names the commit's files, but
// RocksDB (7.8) has deleted its links to them. If it does name them, the next open would find files missing. So
// the originals stay in DIR/ingest after such a failure, and here they are linked again:
//
//     open: 000039.sst is missing   ->   link ingest/12.sst to 000039.sst   ->   open again
//
// A commit has two files at most, and the error does not say which of them is missing. A wrong one does not pass:
// the MANIFEST knows size and unique id of every file. Then its link goes, and the next one is tried.
#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "state/store_private.h"

enum { PATH_BYTES = 4096, TRIES_MAX = 64 };

// Of "DIR/000039.ldb: No such file": 39. RocksDB looks for .sst and then, before it gives up, for .ldb.
static uint64_t missing_number(const char *text)
{
    uint64_t number = 0;
    if (strstr(text, "No such file") == NULL)
        return 0;
    for (const char *at = strchr(text, '/'); at != NULL; at = strchr(at + 1, '/')) {
        char *end;
        uint64_t n = isdigit((unsigned char)at[1]) ? strtoull(at + 1, &end, 10) : 0;
        if (n > 0 && (strncmp(end, ".ldb", 4) == 0 || strncmp(end, ".sst", 4) == 0))
            number = n;
    }
    return number;
}

static int is_table(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > 4 && strcmp(e->d_name + n - 4, ".sst") == 0;
}

// The path of the file number `at`, in order of names, in ingest/.
static bool original_path(const struct store *s, uint32_t at, char ret_path[PATH_BYTES])
{
    struct dirent **names;
    int n = scandir(s->ingest_dir, &names, is_table, alphasort);
    if (n < 0)
        return false;
    bool found = at < (uint32_t)n;
    if (found)
        snprintf(ret_path, PATH_BYTES, "%s/%s", s->ingest_dir, names[at]->d_name);
    for (int i = 0; i < n; i++)
        free(names[i]);
    free(names);
    return found;
}

bool store_salvage(const struct store *s, const char *text, struct salvage *v)
{
    char from[PATH_BYTES];
    char to[PATH_BYTES];
    uint64_t number = missing_number(text);
    if (v->tries++ == TRIES_MAX)
        return false;
    if (number != 0 && number != v->number) {
        v->number = number; // the one before, if any, has found its file
        v->next = 0;
        v->linked = false;
    }
    if (v->number == 0)
        return false;
    snprintf(to, sizeof to, "%s/%06llu.sst", s->dir, (unsigned long long)v->number);
    if (v->linked)
        unlink(to);
    v->linked = false;
    while (!v->linked && original_path(s, v->next++, from))
        v->linked = link(from, to) == 0;
    return v->linked;
}
