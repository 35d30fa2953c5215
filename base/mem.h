// SPDX-License-Identifier: Apache-2.0
// Memory that is there: allocation failure is an assertion, since every budget is fixed by the config and
// checked at start. Sizes are in bytes.
#ifndef FRESHET_BASE_MEM_H
#define FRESHET_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t size);                         // uninitialised
void *mem_zalloc(size_t size);                        // zeroed
void *mem_array(size_t count, size_t size);           // zeroed; the product is checked
void *mem_resize(void *p, size_t count, size_t size); // as reallocarray
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);

// `size` bytes of zeroed pages, with huge pages where the kernel gives them; free with mem_unmap.
void *mem_map(size_t size);
void mem_unmap(void *p, size_t size);
// Of a mem_map that is read through in order and then unmapped: its bytes below `done` are not needed any more.
// Whole huge pages of them go at once; *io_gone, 0 at first, is how far. So a table can move without being there
// twice.
void mem_unmap_behind(void *p, size_t done, size_t *io_gone);

// Memory that will be filled soon.
struct mem_span {
    const void *p;
    size_t n; // bytes, may be 0
};
// What an array will fill of its places at..cap - 1, of `size` bytes each, if twice as much comes as since the last call:
// `filled` counts on, *io_told keeps it. 4 MiB at most: of a backlog more comes, but nobody waits then, and what is made
// and never filled is lost. Nothing the first time, when nobody knows.
struct mem_span mem_ahead(const void *p, uint64_t at, uint64_t cap, size_t size, uint64_t filled,
                          uint64_t *io_told);
// Makes its pages, so that who fills it need not wait for them: a huge page is to be zeroed first. A hint, for a
// thread that has the time. What was unmapped meanwhile does no harm.
void mem_populate(struct mem_span span);

// For main, before anything else: what is freed goes back to the system, and stays in no thread's own heap.
void mem_setup(void);

#endif
