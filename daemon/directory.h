// SPDX-License-Identifier: Apache-2.0
#ifndef FRESHET_DAEMON_DIRECTORY_H
#define FRESHET_DAEMON_DIRECTORY_H

#include <stddef.h>

#include "base/err.h"

// A new directory of our own under $TMPDIR or /tmp.
int directory_temporary(char *ret_path, size_t size, struct err *err);
// Removes it with all that is in it; symbolic links are not followed.
void directory_remove(const char *path);

#endif
