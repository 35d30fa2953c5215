// SPDX-License-Identifier: Apache-2.0
#define XXH_INLINE_ALL
#include "base/hash.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

uint64_t hash_bytes(const void *p, size_t n)
{
    return XXH3_64bits(p, n);
}

uint64_t hash_id(struct str text)
{
    uint64_t h = XXH3_64bits(text.s, text.len);
    if (h == 0)
        return 1;
    return h == UINT64_MAX ? UINT64_MAX - 1 : h;
}

struct hasher *hasher_new(void)
{
    XXH3_state_t *state = XXH3_createState();
    assert(state != NULL);
    XXH3_128bits_reset(state);
    return (struct hasher *)state;
}

void hasher_free(struct hasher *h)
{
    XXH3_freeState((XXH3_state_t *)h);
}

void hasher_put(struct hasher *h, const void *p, size_t n)
{
    XXH3_128bits_update((XXH3_state_t *)h, p, n);
}

struct digest hasher_digest(const struct hasher *h)
{
    XXH128_hash_t d = XXH3_128bits_digest((const XXH3_state_t *)h);
    return (struct digest){d.low64, d.high64};
}

struct digest digest_bytes(const void *p, size_t n)
{
    XXH128_hash_t d = XXH3_128bits(p, n);
    return (struct digest){d.low64, d.high64};
}

void digest_text(struct digest d, char ret_text[DIGEST_TEXT])
{
    snprintf(ret_text, DIGEST_TEXT, "%016" PRIx64 "%016" PRIx64, d.high, d.low);
}
