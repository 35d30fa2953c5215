// SPDX-License-Identifier: Apache-2.0
// A place that a crash test wants to reach by name: before and after a commit is written, a message is
// published, its delivery is noted, a version is applied. In production nothing looks: the price is one call of
// an empty function, a few times a commit. A library that is preloaded and defines step_observed
// (tests/crash/shim.c) sees every step, and may end the process there.
//
// A name says what is about to be done (commit.write) or what was done (commit.written); tests/crash/README.md
// lists them.
#ifndef FRESHET_BASE_STEP_H
#define FRESHET_BASE_STEP_H

void step_reached(const char *name);

#endif
