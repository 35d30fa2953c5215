// SPDX-License-Identifier: Apache-2.0
// Ids of events seen within a window, in a table of open addressing: home = the top bits of the mixed id,
// then the next free slot. Most ids are new, and for those only the ids are looked at; the minutes are a
// second array, written at insertion.
//
// A slot whose time is over is dead: if its id comes again it is taken over; else it goes when the table is
// rebuilt, which happens when three quarters of the slots are taken. Since homes are top bits, a rebuild runs
// through the old and the new table in the same direction, at the speed of memory, and gives back the old one's
// pages on the way. The living take at most five eighths of the new one, so a rebuild costs an insertion some ns
// on average.
//
// How many live in each minute is kept in a short sorted list: the end of a minute, and the bound, are a
// matter of that list. At the bound the oldest minute is forgotten: `floor` is raised to it, for good. An id
// whose own minute would be the one to go is not remembered.
//
// A block of one commit:
//     u8 version, 1 | zigzag watermark's minute | zigzag floor | varint forgotten | runs: varint n (0: end),
//     zigzag minute, n * u64 id
#include "state/dedupe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

enum {
    DEDUPE_MAGIC = 0x64647570,
    DEDUPE_VERSION = 1,
    DEDUPE_SLOTS_LOG2 = 10,  // at least
    DEDUPE_BEHIND = 1 << 18, // slots of an old table, after which its memory is given back
    DEDUPE_AHEAD = 16,       // how far ahead of its use a slot is fetched when blocks are read
    DEDUPE_TURN = 4096,      // slots of an old table between two turns
    DEDUPE_SPARE = 32,       // room for a part of so many, at least, between events
    MINUTE_MS = 60000,
    MINUTE_NONE = INT32_MIN,
};

struct minute {
    int32_t minute;
    int32_t unused;
    uint64_t living;
    struct buf fresh; // ids since the last block
};

struct source {
    uint64_t commit;
    int32_t newest; // minute of its newest id
};

struct dedupe {
    uint32_t magic;
    int32_t window; // minutes
    uint64_t max_ids;
    int32_t now;   // the watermark's minute
    int32_t floor; // ids of this minute and before are forgotten
    uint64_t *ids; // 0: the slot is free
    int32_t *minutes;
    unsigned log2;  // of the number of slots
    uint64_t taken; // slots with an id, alive or dead
    uint64_t living;
    uint64_t forgotten;
    uint64_t fresh;      // ids since the last block
    struct minute *list; // ascending, without the dead
    size_t list_len, list_cap;
    struct source *sources; // blocks that may have an id alive
    size_t sources_len, sources_cap;
    void (*turn)(void *context); // in the middle of dedupe_make_room
    void *turn_context;
};

static size_t table_bytes(unsigned log2, size_t slot)
{
    return slot << log2;
}

static void table_new(struct dedupe *d, unsigned log2)
{
    d->log2 = log2;
    d->ids = mem_map(table_bytes(log2, sizeof *d->ids));
    d->minutes = mem_map(table_bytes(log2, sizeof *d->minutes));
    d->taken = 0;
}

static void table_free(uint64_t *ids, int32_t *minutes, unsigned log2)
{
    mem_unmap(ids, table_bytes(log2, sizeof *ids));
    mem_unmap(minutes, table_bytes(log2, sizeof *minutes));
}

struct dedupe *dedupe_new(int64_t window_ms, uint64_t max_ids)
{
    assert(window_ms >= 0 && window_ms / MINUTE_MS < INT32_MAX / 2);
    struct dedupe *d = mem_zalloc(sizeof *d);
    d->magic = DEDUPE_MAGIC;
    d->window = (int32_t)(window_ms / MINUTE_MS);
    d->max_ids = max_ids;
    d->now = MINUTE_NONE;
    d->floor = MINUTE_NONE;
    table_new(d, DEDUPE_SLOTS_LOG2);
    return d;
}

static void dedupe_check(const struct dedupe *d)
{
    assert(d != NULL && d->magic == DEDUPE_MAGIC);
}

void dedupe_free(struct dedupe *d)
{
    if (d == NULL)
        return;
    dedupe_check(d);
    for (size_t i = 0; i < d->list_len; i++)
        buf_done(&d->list[i].fresh);
    table_free(d->ids, d->minutes, d->log2);
    free(d->list);
    free(d->sources);
    free(d);
}

// ---- minutes
// ---------------------------------------------------------------------------------------------------

// floor(ts / 1 min), kept inside what an int32 holds beside MINUTE_NONE: the years before -2100 and after
// 6000.
static int32_t minute_of(int64_t ts)
{
    int64_t minute = ts / MINUTE_MS - (ts % MINUTE_MS < 0);
    if (minute <= INT32_MIN)
        return INT32_MIN + 1;
    return minute > INT32_MAX ? INT32_MAX : (int32_t)minute;
}

static bool minute_alive(const struct dedupe *d, int32_t minute)
{
    return minute > d->floor && (int64_t)d->now <= (int64_t)minute + d->window;
}

// Its place in the list, made where there is none.
static struct minute *minute_at(struct dedupe *d, int32_t minute)
{
    size_t i = d->list_len;
    while (i > 0 && d->list[i - 1].minute > minute)
        i--;
    if (i > 0 && d->list[i - 1].minute == minute)
        return &d->list[i - 1];
    if (d->list_len == d->list_cap) {
        d->list_cap = d->list_cap > 0 ? d->list_cap * 2 : 16;
        d->list = mem_resize(d->list, d->list_cap, sizeof *d->list);
    }
    memmove(&d->list[i + 1], &d->list[i], (d->list_len - i) * sizeof *d->list);
    d->list[i] = (struct minute){.minute = minute};
    d->list_len++;
    return &d->list[i];
}

// Takes the minutes that died, always the oldest, off the list. Returns how many ids they had.
static uint64_t minutes_bury(struct dedupe *d)
{
    size_t dead = 0;
    uint64_t ids = 0;
    for (; dead < d->list_len && !minute_alive(d, d->list[dead].minute); dead++) {
        ids += d->list[dead].living;
        buf_done(&d->list[dead].fresh);
    }
    if (dead == 0)
        return 0;
    d->list_len -= dead;
    memmove(d->list, d->list + dead, d->list_len * sizeof *d->list);
    d->living -= ids;
    return ids;
}

void dedupe_advance(struct dedupe *d, int64_t watermark)
{
    dedupe_check(d);
    int32_t now = minute_of(watermark);
    if (now <= d->now)
        return;
    d->now = now;
    minutes_bury(d);
}

// ---- the table
// -------------------------------------------------------------------------------------------------

static uint64_t id_home(const struct dedupe *d, uint64_t id)
{
    return hash_mix(id) >> (64 - d->log2);
}

// The slot of the id, or the free one where it belongs.
static uint64_t id_slot(const struct dedupe *d, uint64_t id)
{
    uint64_t mask = (UINT64_C(1) << d->log2) - 1;
    uint64_t i = id_home(d, id);
    while (d->ids[i] != id && d->ids[i] != 0)
        i = (i + 1) & mask;
    return i;
}

static unsigned slots_log2(uint64_t ids)
{
    unsigned log2 = DEDUPE_SLOTS_LOG2;
    while ((UINT64_C(5) << log2) / 8 < ids)
        log2++;
    return log2;
}

// A table without the dead, in which the living and `more` take at most five eighths.
static void table_rebuild(struct dedupe *d, uint64_t more, bool turns)
{
    uint64_t *ids = d->ids;
    int32_t *minutes = d->minutes;
    unsigned old = d->log2;
    unsigned log2 = slots_log2(d->living + more);
    table_new(d, log2);
    size_t gone_ids = 0;
    size_t gone_minutes = 0;
    for (uint64_t i = 0; i < UINT64_C(1) << old; i++) {
        if (i % DEDUPE_BEHIND == 0) {
            mem_unmap_behind(ids, i * sizeof *ids, &gone_ids);
            mem_unmap_behind(minutes, i * sizeof *minutes, &gone_minutes);
        }
        if (turns && i % DEDUPE_TURN == 0 && d->turn != NULL)
            d->turn(d->turn_context);
        if (ids[i] == 0 || !minute_alive(d, minutes[i]))
            continue;
        uint64_t to = id_slot(d, ids[i]);
        d->ids[to] = ids[i];
        d->minutes[to] = minutes[i];
        d->taken++;
    }
    table_free(ids, minutes, old);
}

// Remembers an id that is not alive, in slot i, which is free or holds it dead.
static void id_put(struct dedupe *d, uint64_t i, uint64_t id, int32_t minute)
{
    if (d->ids[i] == 0 && d->taken + 1 > (UINT64_C(3) << d->log2) / 4) {
        table_rebuild(d, 1, false);
        i = id_slot(d, id);
    }
    d->taken += d->ids[i] == 0;
    d->ids[i] = id;
    d->minutes[i] = minute;
    d->living++;
    minute_at(d, minute)->living++;
}

// Room for one id of `minute`. false: it is itself the first that would have to go.
static bool dedupe_room(struct dedupe *d, int32_t minute)
{
    if (d->living < d->max_ids)
        return true;
    if (d->list_len == 0 || d->list[0].minute >= minute)
        return false;
    d->floor = d->list[0].minute;
    d->forgotten += minutes_bury(d);
    return true;
}

void dedupe_turn_set(struct dedupe *d, void (*turn)(void *context), void *context)
{
    dedupe_check(d);
    d->turn = turn;
    d->turn_context = context;
}

void dedupe_make_room(struct dedupe *d)
{
    dedupe_check(d);
    uint64_t slots = UINT64_C(1) << d->log2;
    uint64_t more = slots / DEDUPE_SPARE;
    uint64_t most = d->max_ids - (d->living < d->max_ids ? d->living : d->max_ids);
    if (d->taken + more > slots / 4 * 3)
        table_rebuild(d, more < most ? more : most, true); // at the bound it is not to become larger
}

void dedupe_prefetch(const struct dedupe *d, uint64_t id)
{
    uint64_t home = id_home(d, id + (id == 0));
    __builtin_prefetch(&d->ids[home], 1);
    __builtin_prefetch(&d->minutes[home], 1);
}

bool dedupe_seen(struct dedupe *d, uint64_t id, int64_t ts)
{
    dedupe_check(d);
    id += id == 0; // 0 marks a free slot
    int32_t minute = minute_of(ts);
    uint64_t i = id_slot(d, id);
    if (d->ids[i] == id && minute_alive(d, d->minutes[i]))
        return true;
    if ((int64_t)d->now > (int64_t)minute + d->window)
        return false; // its time is over already
    if (minute <= d->floor || !dedupe_room(d, minute)) {
        d->forgotten++;
        return false;
    }
    id_put(d, i, id, minute);
    buf_put_u64(&minute_at(d, minute)->fresh, id);
    d->fresh++;
    return false;
}

// ---- figures
// ---------------------------------------------------------------------------------------------------

uint64_t dedupe_count(const struct dedupe *d)
{
    dedupe_check(d);
    return d->living;
}

uint64_t dedupe_bytes_most(uint64_t max_ids)
{
    return table_bytes(slots_log2(max_ids), sizeof(uint64_t) + sizeof(int32_t));
}

uint64_t dedupe_dirty_bytes(const struct dedupe *d)
{
    dedupe_check(d);
    return d->fresh * sizeof(uint64_t);
}

uint64_t dedupe_bytes(const struct dedupe *d)
{
    dedupe_check(d);
    uint64_t bytes = sizeof *d + table_bytes(d->log2, sizeof *d->ids + sizeof *d->minutes) +
                     d->list_cap * sizeof *d->list + d->sources_cap * sizeof *d->sources;
    for (size_t i = 0; i < d->list_len; i++)
        bytes += d->list[i].fresh.cap;
    return bytes;
}

uint64_t dedupe_forgotten(const struct dedupe *d)
{
    dedupe_check(d);
    return d->forgotten;
}

// ---- blocks
// ----------------------------------------------------------------------------------------------------

// Blocks at the beginning that have nothing alive any more are taken off; then this one is added.
static void source_add(struct dedupe *d, uint64_t commit, int32_t newest)
{
    size_t dead = 0;
    while (dead < d->sources_len && !minute_alive(d, d->sources[dead].newest))
        dead++;
    d->sources_len -= dead;
    if (dead > 0)
        memmove(d->sources, d->sources + dead, d->sources_len * sizeof *d->sources);
    if (newest == MINUTE_NONE)
        return;
    if (d->sources_len == d->sources_cap) {
        d->sources_cap = d->sources_cap > 0 ? d->sources_cap * 2 : 64;
        d->sources = mem_resize(d->sources, d->sources_cap, sizeof *d->sources);
    }
    d->sources[d->sources_len++] = (struct source){commit, newest};
}

void dedupe_block_put(struct dedupe *d, uint64_t commit, struct buf *to)
{
    dedupe_check(d);
    buf_put_u8(to, DEDUPE_VERSION);
    buf_put_zigzag(to, d->now);
    buf_put_zigzag(to, d->floor);
    buf_put_varint(to, d->forgotten);
    int32_t newest = MINUTE_NONE;
    for (size_t i = 0; i < d->list_len; i++) {
        struct minute *m = &d->list[i];
        if (m->fresh.len == 0)
            continue;
        buf_put_varint(to, m->fresh.len / sizeof(uint64_t));
        buf_put_zigzag(to, m->minute);
        buf_put(to, m->fresh.data, m->fresh.len);
        buf_done(&m->fresh);
        newest = m->minute;
    }
    buf_put_varint(to, 0);
    d->fresh = 0;
    source_add(d, commit, newest);
}

static uint64_t id_at(const uint8_t *ids, uint64_t k)
{
    uint64_t id;
    memcpy(&id, ids + k * sizeof id, sizeof id);
    return id;
}

static void ids_remember(struct dedupe *d, const uint8_t *ids, uint64_t n, int32_t minute)
{
    if (d->taken + n > (UINT64_C(3) << d->log2) / 4)
        table_rebuild(d, n, false);
    for (uint64_t k = 0; k < n; k++) {
        if (k + DEDUPE_AHEAD < n)
            __builtin_prefetch(&d->ids[id_home(d, id_at(ids, k + DEDUPE_AHEAD))]);
        uint64_t id = id_at(ids, k);
        if (id == 0)
            continue;
        uint64_t i = id_slot(d, id);
        if (d->ids[i] != id || !minute_alive(d, d->minutes[i]))
            id_put(d, i, id, minute);
    }
}

// One run of ids of one minute; those that died since by the block's own watermark were not written.
static void run_get(struct dedupe *d, struct rd *from, uint64_t n, int32_t *io_newest)
{
    int64_t minute = rd_zigzag(from);
    if (minute <= INT32_MIN || minute > INT32_MAX || n > rd_left(from) / sizeof(uint64_t)) {
        from->bad = true;
        return;
    }
    const uint8_t *ids = rd_bytes(from, n * sizeof(uint64_t));
    if (minute_alive(d, (int32_t)minute))
        ids_remember(d, ids, n, (int32_t)minute);
    *io_newest = (int32_t)minute > *io_newest ? (int32_t)minute : *io_newest;
}

int dedupe_block_get(struct dedupe *d, uint64_t commit, struct rd *from, struct err *err)
{
    dedupe_check(d);
    uint8_t version = rd_u8(from);
    if (version != DEDUPE_VERSION)
        return err_set(err, from->bad ? ERR_CORRUPT : ERR_VERSION,
                       "dedupe block of commit %lu: version %u, not %d", (unsigned long)commit, version,
                       DEDUPE_VERSION);
    int64_t now = rd_zigzag(from);
    int64_t floor = rd_zigzag(from);
    d->forgotten = rd_varint(from);
    from->bad |= now < INT32_MIN || now > INT32_MAX || floor < INT32_MIN || floor > INT32_MAX;
    if (!from->bad) {
        d->now = now > d->now ? (int32_t)now : d->now;
        d->floor = floor > d->floor ? (int32_t)floor : d->floor;
        minutes_bury(d);
    }
    int32_t newest = MINUTE_NONE;
    for (uint64_t n = rd_varint(from); n > 0 && !from->bad; n = rd_varint(from))
        run_get(d, from, n, &newest);
    if (from->bad)
        return err_set(err, ERR_CORRUPT, "dedupe block of commit %lu is damaged", (unsigned long)commit);
    source_add(d, commit, newest);
    return 0;
}

uint64_t dedupe_low(const struct dedupe *d, uint64_t next_commit)
{
    dedupe_check(d);
    for (size_t i = 0; i < d->sources_len; i++)
        if (minute_alive(d, d->sources[i].newest))
            return d->sources[i].commit;
    return next_commit;
}
