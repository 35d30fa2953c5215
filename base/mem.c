// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"

#include <assert.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    HUGE_PAGE = 2 << 20,
    PAGE = 4 << 10,
    ARENAS = 2,          // of malloc: what one thread frees another can use
    MAPPED = 256 << 10,  // from so many bytes on a block is pages of its own; a segment of bodies is
    TRIMMED = 4 << 20,   // so much at the top of the heap is kept
    AHEAD = 4 << 20,     // so much of an array is made ahead at most
    HUGE_FROM = 8 << 20, // bytes from which on a block is worth huge pages
};

// A large block is filled from its beginning: by huge pages that costs a fault in 2 MiB instead of 512. The advice
// covers the whole of its mapping, odd ends too: mremap moves one mapping and refuses two, and realloc would copy.
static void mem_huge(void *p, size_t size)
{
    uintptr_t from = (uintptr_t)p / PAGE * PAGE;
    uintptr_t to = ((uintptr_t)p + size + PAGE - 1) / PAGE * PAGE;
    if (size >= HUGE_FROM)
        (void)madvise((void *)from, to - from, MADV_HUGEPAGE);
}

void *mem_alloc(size_t size)
{
    void *p = malloc(size > 0 ? size : 1);
    assert(p != NULL);
    return p;
}

void *mem_zalloc(size_t size)
{
    return mem_array(1, size);
}

void *mem_array(size_t count, size_t size)
{
    void *p = calloc(count > 0 ? count : 1, size > 0 ? size : 1);
    assert(p != NULL);
    mem_huge(p, count * size);
    return p;
}

void *mem_resize(void *p, size_t count, size_t size)
{
    void *q = reallocarray(p, count > 0 ? count : 1, size);
    assert(q != NULL);
    mem_huge(q, count * size);
    return q;
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, strlen(s));
}

char *mem_strndup(const char *s, size_t n)
{
    char *p = mem_alloc(n + 1);
    memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

void *mem_map(size_t size)
{
    size_t rounded = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    void *p = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert(p != MAP_FAILED);
    (void)madvise(p, rounded, MADV_HUGEPAGE);
    return p;
}

void mem_unmap(void *p, size_t size)
{
    if (p != NULL)
        munmap(p, (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
}

void mem_unmap_behind(void *p, size_t done, size_t *io_gone)
{
    size_t gone = done / HUGE_PAGE * HUGE_PAGE;
    if (gone <= *io_gone)
        return;
    (void)madvise((char *)p + *io_gone, gone - *io_gone, MADV_DONTNEED);
    *io_gone = gone;
}

struct mem_span mem_ahead(const void *p, uint64_t at, uint64_t cap, size_t size, uint64_t filled,
                          uint64_t *io_told)
{
    const uint64_t came = *io_told > 0 && filled > *io_told ? 2 * (filled - *io_told) : 0,
                   most = AHEAD / size;
    uint64_t n = came < most ? came : most;
    n = n < cap - at ? n : cap - at;
    *io_told = filled;
    return (struct mem_span){(const uint8_t *)p + at * size, n * size};
}

void mem_populate(struct mem_span span)
{
#ifdef MADV_POPULATE_WRITE // Linux 5.14
    uintptr_t from = (uintptr_t)span.p / PAGE * PAGE;
    if (span.n > 0)
        (void)madvise((void *)from, (uintptr_t)span.p + span.n - from, MADV_POPULATE_WRITE);
#else
    (void)span;
#endif
}

// Setting a threshold also keeps glibc from raising it, up to 32 MiB, when large blocks are freed: these would
// then lie in the heap and leave holes.
void mem_setup(void)
{
    mallopt(M_ARENA_MAX, ARENAS);
    mallopt(M_MMAP_THRESHOLD, MAPPED);
    mallopt(M_TRIM_THRESHOLD, TRIMMED);
}
