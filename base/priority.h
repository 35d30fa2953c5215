// SPDX-License-Identifier: Apache-2.0
// Which threads of the process the scheduler should prefer. Both are hints that need no privilege: where the kernel
// does not take one, nothing is different but the latency.
#ifndef FRESHET_BASE_PRIORITY_H
#define FRESHET_BASE_PRIORITY_H

// All other threads that the process has now, and those that these will start, give way to this one.
void priority_others_background(void);
// This thread asks for short turns: woken, or put aside, it gets the processor again before those that asked for
// long ones. Its share stays the same. Threads that it starts ask for nothing.
void priority_prompt(void);

#endif
