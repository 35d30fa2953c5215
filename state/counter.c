// SPDX-License-Identifier: Apache-2.0
// Problem: exact counts over several sliding windows for millions of entities, most of which are cold.
//
// Idea: one list of tiles, oldest first, as wide as they must be and no wider. While a tile is alive in the
// finest window at the watermark it is one finest tile; then it is merged into the tile of the next coarser
// window in which it is alive; when there is none it is dropped:
//
//            alive[2]           alive[1]               alive[0]          watermark
//     dead ... | 1 h | 1 h | 1 h | 15 m | 15 m | 15 m | 1 m 1 m 1 m 1 m 1 m 1 m ... newest
//
// A merged tile has the number of its first finest tile. That number is below alive[w] of every window that
// is finer than it, since alive[w] only grows and something inside the tile was below it already; so "tile >=
// alive[w]" alone tells what window w counts, whether or not the list has been merged. Merging is therefore a
// matter of space: it is done when the list is full, and in the canonical form for digests.
//
// Spans that hardly grow (60 x 1 min, then 1 x 1 h) make a tile that is alive in the finer window and dead in
// the coarser one. Nothing here assumes the contrary: a tile goes to the finest window in which it is alive.
//
// Cost: 16 bytes a tile. Adding to the newest tile and reading at it or after are O(1): a small list is
// scanned, a larger one keeps for each window the sum from its oldest tile on, moved as the window moves. A
// read at an earlier time takes off what is newer, tile by tile. A late event costs a binary search and a
// memmove.
#include "state/counter.h"

#include <assert.h>
#include <string.h>

// ---- windows ---------------------------------------------------------------------------------------------

static int64_t floor_div(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((-(a + 1)) / b) - 1;
}

void tiling_init(struct tiling *t, const struct state_window *windows, uint32_t n)
{
    assert(n >= 1 && n <= STATE_WINDOWS_MAX);
    *t = (struct tiling){.n = n};
    for (uint32_t w = 0; w < n; w++) {
        assert(windows[w].tiles > 0 && windows[w].tile_ms >= TILE_MS_MIN);
        assert(w == 0 || windows[w].tile_ms % windows[w - 1].tile_ms == 0);
        t->tiles[w] = windows[w].tiles;
        t->tile_ms[w] = windows[w].tile_ms;
        int64_t width = windows[w].tile_ms / windows[0].tile_ms;
        assert(width < UINT32_MAX);
        t->width[w] = (uint32_t)width;
    }
    int64_t coarsest = t->tile_ms[n - 1];
    int64_t chunk_ms = (CHUNK_MS_MIN + coarsest - 1) / coarsest * coarsest;
    t->chunk = (uint32_t)(chunk_ms / t->tile_ms[0]);
    t->ts_max = ((int64_t)UINT32_MAX - 1) * t->tile_ms[0];
}

// First tile of the window that ends with the tile of `at`, in finest tiles.
static uint32_t tiling_begin(const struct tiling *t, uint32_t w, int64_t at)
{
    int64_t begin = (floor_div(at, t->tile_ms[w]) - t->tiles[w] + 1) * t->width[w];
    return begin > 0 ? (uint32_t)begin : 0;
}

static int64_t tiling_clamp(const struct tiling *t, int64_t ts)
{
    if (ts < 0)
        return -1;
    return ts < t->ts_max ? ts : t->ts_max;
}

void tiling_watermark(struct tiling *t, int64_t watermark)
{
    int64_t at = tiling_clamp(t, watermark);
    t->alive_any = UINT32_MAX;
    for (uint32_t w = 0; w < t->n; w++) {
        t->alive[w] = tiling_begin(t, w, at);
        if (t->alive[w] < t->alive_any)
            t->alive_any = t->alive[w];
    }
    t->from_ms = t->to_ms = 0;
}

void tiling_seek_slow(struct tiling *t, int64_t at)
{
    at = tiling_clamp(t, at);
    for (uint32_t w = 0; w < t->n; w++) {
        uint32_t begin = tiling_begin(t, w, at);
        int64_t end = (floor_div(at, t->tile_ms[w]) + 1) * t->width[w];
        t->lo[w] = begin > t->alive[w] ? begin : t->alive[w];
        t->hi[w] = end < UINT32_MAX ? (uint32_t)end : UINT32_MAX;
    }
    int64_t tile = floor_div(at, t->tile_ms[0]);
    t->tile = tile >= 0 ? (uint32_t)tile : 0;
    t->from_ms = tile * t->tile_ms[0];
    t->to_ms = t->from_ms + t->tile_ms[0];
}

uint32_t tiling_merged(const struct tiling *t, uint32_t tile)
{
    for (uint32_t w = 0; w < t->n; w++)
        if (tile >= t->alive[w])
            return tile - tile % t->width[w];
    return TILE_NONE;
}

// ---- the list ---------------------------------------------------------------------------------------------

enum { COUNTER_FIRST = 64, COUNTER_NEAR = 8 };

static void counter_shape(struct counter *c, uint32_t windows, uint32_t bytes)
{
    uint32_t head = (uint32_t)(sizeof *c + windows * sizeof c->sums[0]);
    c->windows = windows;
    c->bytes = bytes;
    c->cap = (bytes - head) / (uint32_t)sizeof(struct tile);
}

struct counter *counter_new(struct account *a)
{
    struct counter *c = account_alloc(a, COUNTER_FIRST);
    counter_shape(c, 0, COUNTER_FIRST);
    c->dirty = CHUNK_NONE;
    return c;
}

void counter_free(struct account *a, struct counter *c)
{
    account_free(a, c);
}

static uint64_t tile_order(uint32_t tile, uint16_t partition)
{
    return (uint64_t)tile << 16 | partition;
}

static bool tile_before(const struct tile *x, uint64_t order)
{
    return tile_order(x->tile, x->partition) < order;
}

uint32_t counter_find(const struct counter *c, uint32_t tile, uint16_t partition)
{
    const struct tile *tiles = counter_tiles_const(c);
    uint64_t order = tile_order(tile, partition);
    uint32_t hi = c->n; // nearly always the newest tile is meant
    for (uint32_t near = 0; near < COUNTER_NEAR; near++, hi--)
        if (hi == 0 || tile_before(&tiles[hi - 1], order))
            return hi;
    uint32_t lo = 0;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (tile_before(&tiles[mid], order))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool counter_is(const struct counter *c, uint32_t i, uint32_t tile, uint16_t partition)
{
    const struct tile *tiles = counter_tiles_const(c);
    return i < c->n && tiles[i].tile == tile && tiles[i].partition == partition;
}

static void counter_sum_from(struct counter *c, uint32_t window, uint32_t lo)
{
    const struct tile *tiles = counter_tiles(c);
    struct counter_sum *s = &c->sums[window];
    *s = (struct counter_sum){.first = counter_find(c, lo, 0), .lo = lo};
    for (uint32_t i = s->first; i < c->n; i++)
        s->sum += tiles[i].count;
}

// Adds `x`, merged, to the first *n tiles of the list, which are merged already.
static void merge_into(struct tile *tiles, uint32_t *n, struct tile x)
{
    uint32_t i = *n;
    while (i > 0 && tiles[i - 1].tile == x.tile && tiles[i - 1].partition > x.partition)
        i--;
    if (i > 0 && tiles[i - 1].tile == x.tile && tiles[i - 1].partition == x.partition) {
        tiles[i - 1].count += x.count;
        tiles[i - 1].dirty |= x.dirty;
        return;
    }
    memmove(&tiles[i + 1], &tiles[i], (*n - i) * sizeof *tiles);
    tiles[i] = x;
    (*n)++;
}

void counter_merge(struct counter *c, const struct tiling *t)
{
    struct tile *tiles = counter_tiles(c);
    if (c->n == 0 || tiles[0].tile >= t->alive[0])
        return;
    uint32_t n = 0;
    uint32_t i = 0;
    for (; i < c->n && tiles[i].tile < t->alive[0]; i++) {
        struct tile x = tiles[i];
        x.tile = tiling_merged(t, x.tile);
        if (x.tile != TILE_NONE)
            merge_into(tiles, &n, x);
    }
    memmove(&tiles[n], &tiles[i], (c->n - i) * sizeof *tiles);
    c->n = n + (c->n - i);
    c->newest = c->n > 0 ? tiles[c->n - 1].tile : 0;
    for (uint32_t w = 0; w < c->windows; w++)
        counter_sum_from(c, w, c->sums[w].lo > t->alive[w] ? c->sums[w].lo : t->alive[w]);
}

// Makes the list longer; a long one has sums in front of its tiles.
static struct counter *counter_grow(struct counter *c, struct account *a, const struct tiling *t)
{
    uint32_t bytes = c->bytes * 2;
    if (bytes > COUNTER_SMALL && sizeof *c + t->n * sizeof c->sums[0] > bytes / 2)
        bytes *= 2; // many windows: their sums must not eat up what is gained
    uint32_t windows = bytes > COUNTER_SMALL ? t->n : 0;
    c = account_resize(a, c, bytes);
    const struct tile *tiles = counter_tiles(c);
    bool first_sums = windows != c->windows;
    counter_shape(c, windows, bytes);
    if (!first_sums)
        return c;
    memmove(counter_tiles(c), tiles, c->n * sizeof *tiles);
    for (uint32_t w = 0; w < windows; w++)
        counter_sum_from(c, w, t->alive[w]);
    return c;
}

// Makes room in a full list. A quarter of it stays free after merging, or it grows: so the cost of merging is
// shared by as many additions.
static struct counter *counter_room(struct counter *c, struct account *a, const struct tiling *t)
{
    counter_merge(c, t);
    return c->n + c->cap / 4 < c->cap ? c : counter_grow(c, a, t);
}

static void counter_insert(struct counter *c, uint32_t i, uint32_t tile, uint16_t partition)
{
    assert(i <= c->n && c->n < c->cap);
    struct tile *tiles = counter_tiles(c);
    memmove(&tiles[i + 1], &tiles[i], (c->n - i) * sizeof *tiles);
    tiles[i] = (struct tile){.tile = tile, .partition = partition};
    c->n++;
    c->newest = tiles[c->n - 1].tile;
    for (uint32_t w = 0; w < c->windows; w++)
        if (tile < c->sums[w].lo)
            c->sums[w].first++;
}

// Returns the tile that n was added to.
static struct tile *counter_put(struct counter **slot, struct account *a, const struct tiling *t,
                                uint32_t tile, uint16_t partition, uint64_t n)
{
    assert(tile != TILE_NONE);
    struct counter *c = *slot;
    uint32_t i = c->n - 1; // the newest tile, or
    if (c->n == 0 || !counter_is(c, i, tile, partition))
        i = counter_find(c, tile, partition);
    if (!counter_is(c, i, tile, partition) && c->n == c->cap) {
        *slot = c = counter_room(c, a, t);
        i = counter_find(c, tile, partition);
    }
    if (!counter_is(c, i, tile, partition))
        counter_insert(c, i, tile, partition);
    for (uint32_t w = 0; w < c->windows; w++)
        if (tile >= c->sums[w].lo)
            c->sums[w].sum += n;
    struct tile *x = &counter_tiles(c)[i];
    x->count += n;
    return x;
}

void counter_add(struct counter **c, struct account *a, const struct tiling *t, uint32_t tile,
                 uint16_t partition, uint64_t n)
{
    struct tile *x = counter_put(c, a, t, tile, partition, n);
    if (x->dirty)
        return;
    x->dirty = 1;
    uint32_t chunk = tile / t->chunk;
    if (chunk < (*c)->dirty)
        (*c)->dirty = chunk;
}

void counter_load(struct counter **c, struct account *a, const struct tiling *t, uint32_t tile,
                  uint16_t partition, uint64_t n)
{
    counter_put(c, a, t, tile, partition, n);
}

// ---- reading ----------------------------------------------------------------------------------------------

static uint64_t counter_scan(const struct counter *c, uint32_t lo, uint32_t hi)
{
    const struct tile *tiles = counter_tiles_const(c);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < c->n; i++)
        sum += tiles[i].tile - lo < hi - lo ? tiles[i].count : 0;
    return sum;
}

static void counter_sum_move(const struct counter *c, struct counter_sum *s, uint32_t lo)
{
    const struct tile *tiles = counter_tiles_const(c);
    for (; lo > s->lo && s->first < c->n && tiles[s->first].tile < lo; s->first++)
        s->sum -= tiles[s->first].count;
    for (; lo < s->lo && s->first > 0 && tiles[s->first - 1].tile >= lo; s->first--)
        s->sum += tiles[s->first - 1].count;
    s->lo = lo;
}

uint64_t counter_window(struct counter *c, uint32_t window, uint32_t lo, uint32_t hi)
{
    if (c->n == 0 || lo >= hi)
        return 0;
    if (c->windows == 0)
        return counter_scan(c, lo, hi);
    struct counter_sum *s = &c->sums[window];
    if (s->lo != lo)
        counter_sum_move(c, s, lo);
    uint64_t sum = s->sum;
    if (c->newest < hi)
        return sum;
    const struct tile *tiles = counter_tiles(c);
    for (uint32_t i = c->n; i > s->first && tiles[i - 1].tile >= hi; i--)
        sum -= tiles[i - 1].count;
    return sum;
}
