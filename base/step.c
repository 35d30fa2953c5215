// SPDX-License-Identifier: Apache-2.0
// A weak reference that nobody defines: the dynamic linker leaves it NULL, or binds it to a preloaded library.
// The executable's own definition of a function could not be replaced: it comes first in the order of lookup.
#include "base/step.h"

#include <stddef.h>

extern void step_observed(const char *name) __attribute__((weak));

void step_reached(const char *name)
{
    if (step_observed != NULL)
        step_observed(name);
}
