// SPDX-License-Identifier: Apache-2.0
#include "daemon/directory.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { OPEN_DIRECTORIES = 16 };

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void directory_remove(const char *path)
{
    nftw(path, remove_one, OPEN_DIRECTORIES, FTW_DEPTH | FTW_PHYS);
}

int directory_temporary(char *ret_path, size_t size, struct err *err)
{
    const char *base = getenv("TMPDIR");
    snprintf(ret_path, size, "%s/freshet-XXXXXX", base != NULL && *base ? base : "/tmp");
    if (mkdtemp(ret_path) == NULL)
        return err_errno(err, "making a temporary directory %s (set TMPDIR to a writable place)", ret_path);
    return 0;
}
