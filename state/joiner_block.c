// SPDX-License-Identifier: Apache-2.0
// The joiner's durable form: one block a commit, and its digest.
//
//     u8      version, 1
//     varint  commit
//     zigzag  watermark (INT64_MIN: none yet)
//     varint  arrival number of the next impression
//     varint  x 8: counts, absolute
//     u8      1: impressions of older blocks left, all up to (zigzag ts, varint arrival); 0: none did
//     varint  n updates:     varint arrival, labels              of older impressions that are pending
//     varint  n impressions: see impression_put                  that came since the last block and are
//     pending varint  n held:        see held_put                        all of it varint  n bytes of samples
//     that wait for the next advance labels: varint bits, u8 emitted, zigzag ts - impression ts for each bit,
//     varint watch_ms
//
// Everything that leaves is the least of all by (ts, arrival), so of the older impressions always a beginning
// leaves: one mark tells which, whatever made them leave, and whatever the window was set to. A block that is
// older than joiner_low holds none that is pending; updates and marks of later blocks pass over what they
// do not find. How blocks become memory again is told in joiner_recover.c. About 25 bytes an impression, 12 where it shares user and request with the one before.
// To change the layout raise the version and STATE_FORMAT.
#include <stdlib.h>

#include "base/hash.h"
#include "state/joiner_impl.h"
#include "state/record.h"

enum { BLOCK_VERSION = 1, BLOCK_COUNTS = 8 };

enum shared {
    SHARED_USER = 1,
    SHARED_REQUEST = 2,
    SHARED_BODY = 4, // commit, segment, user_at
    SHARED_PARTITION = 8,
    SHARED_TS = 16,
    HAS_LABELS = 32,
};

static void counts_fields(struct state_join_counts *c, uint64_t *ret_fields[BLOCK_COUNTS])
{
    uint64_t *const fields[BLOCK_COUNTS] = {&c->impressions, &c->joined,     &c->orphans,
                                            &c->samples,     &c->corrected,  &c->negatives_dropped,
                                            &c->left_early,  &c->late_labels};
    memcpy(ret_fields, fields, sizeof fields);
}

// ---- writing
// ---------------------------------------------------------------------------------------------------

static void labels_put(struct buf *to, const struct label_set *set, int64_t ts)
{
    buf_put_varint(to, set->labels);
    buf_put_u8(to, set->emitted);
    record_times_put(to, set->labels, set->ts, ts);
    buf_put_varint(to, set->watch_ms);
}

static uint8_t shared_of(const struct pending *p, const struct pending *last)
{
    struct body_ref a = pending_body(p);
    struct body_ref b = pending_body(last);
    bool body = a.commit == b.commit && a.segment == b.segment && a.user_at == b.user_at;
    return (uint8_t)((p->user == last->user ? SHARED_USER : 0) |
                     (p->request == last->request ? SHARED_REQUEST : 0) | (body ? SHARED_BODY : 0) |
                     (p->partition == last->partition ? SHARED_PARTITION : 0) |
                     (p->ts == last->ts ? SHARED_TS : 0) | (p->set != PENDING_NONE ? HAS_LABELS : 0));
}

// `last` is the impression before it in the block; all zero before the first.
static void impression_put(const struct joiner *j, struct buf *to, const struct pending *p,
                           const struct pending *last)
{
    struct body_ref body = pending_body(p);
    struct body_ref before = pending_body(last);
    uint8_t shared = shared_of(p, last);
    buf_put_u8(to, shared);
    buf_put_varint(to, pending_arrival(p) - pending_arrival(last));
    buf_put_u64(to, p->item);
    if (!(shared & SHARED_USER))
        buf_put_u64(to, p->user);
    if (!(shared & SHARED_REQUEST))
        buf_put_u64(to, p->request);
    if (!(shared & SHARED_TS))
        buf_put_zigzag(to, time_minus(p->ts, last->ts));
    if (!(shared & SHARED_PARTITION))
        buf_put_varint(to, p->partition);
    if (!(shared & SHARED_BODY)) {
        buf_put_zigzag(to, (int64_t)(body.commit - before.commit));
        buf_put_varint(to, body.segment);
        buf_put_varint(to, body.user_at);
    }
    buf_put_zigzag(to, (int64_t)body.item_at - (int64_t)body.user_at);
    if (shared & HAS_LABELS)
        labels_put(to, &j->sets[p->set], p->ts);
}

static bool fresh_pending(const struct joiner *j, size_t i)
{
    return pending_arrival(&j->slab[j->fresh.at[i]]) == j->fresh_first + i;
}

// Returns how many there were.
static uint64_t impressions_put(const struct joiner *j, struct buf *to)
{
    static const struct pending zero = {.set = PENDING_NONE};
    uint64_t n = 0;
    for (size_t i = 0; i < j->fresh.len; i++)
        n += fresh_pending(j, i);
    buf_put_varint(to, n);
    const struct pending *last = &zero;
    for (size_t i = 0; i < j->fresh.len; i++) {
        if (!fresh_pending(j, i))
            continue;
        impression_put(j, to, &j->slab[j->fresh.at[i]], last);
        last = &j->slab[j->fresh.at[i]];
    }
    return n;
}

// Label sets whose impression left are done with, and freed here.
static void updates_put(struct joiner *j, struct buf *to)
{
    uint64_t n = 0;
    for (size_t i = 0; i < j->updates.len; i++)
        n += j->sets[j->updates.at[i]].owner != PENDING_NONE;
    buf_put_varint(to, n);
    for (size_t i = 0; i < j->updates.len; i++) {
        struct label_set *set = &j->sets[j->updates.at[i]];
        set->dirty = false;
        if (set->owner == PENDING_NONE) {
            label_set_free(j, j->updates.at[i]);
            continue;
        }
        buf_put_varint(to, pending_arrival(&j->slab[set->owner]));
        labels_put(to, set, j->slab[set->owner].ts);
    }
    j->updates.len = 0;
}

static void held_put(const struct joiner *j, struct buf *to)
{
    uint64_t n = timeq_count(&j->held);
    buf_put_varint(to, n);
    struct timeq_entry *all = timeq_sorted(&j->held);
    int64_t ts = 0;
    for (uint64_t i = 0; i < n; i++) {
        const struct state_feedback *f = &j->feedback[all[i].at];
        buf_put_u64(to, f->user);
        buf_put_u64(to, f->item);
        buf_put_u8(to, f->action);
        buf_put_u8(to, f->request != 0);
        if (f->request != 0)
            buf_put_u64(to, f->request);
        buf_put_varint(to, (uint64_t)time_minus(f->ts, ts));
        buf_put_varint(to, f->partition);
        buf_put_varint(to, f->watch_ms);
        ts = f->ts;
    }
    free(all);
}

void joiner_block_put(struct joiner *j, uint64_t commit, struct buf *to)
{
    joiner_check(j);
    joiner_recovered(j);
    uint64_t *fields[BLOCK_COUNTS];
    counts_fields(&j->counts, fields);
    buf_put_u8(to, BLOCK_VERSION);
    buf_put_varint(to, commit);
    buf_put_zigzag(to, j->watermark);
    buf_put_varint(to, j->next_arrival);
    for (int i = 0; i < BLOCK_COUNTS; i++)
        buf_put_varint(to, *fields[i]);
    buf_put_u8(to, j->left);
    if (j->left) {
        buf_put_zigzag(to, j->left_ts);
        buf_put_varint(to, j->left_arrival);
    }
    updates_put(j, to);
    uint64_t live = impressions_put(j, to);
    held_put(j, to);
    buf_put_varint(to, j->ready.len);
    buf_put(to, j->ready.data, j->ready.len);

    joiner_source_add(j, commit, j->next_arrival, live);
    j->left = false;
    j->fresh.len = 0;
    j->fresh_first = j->next_arrival;
}

// ---- reading
// ---------------------------------------------------------------------------------------------------

static void spoil(struct rd *from)
{
    from->bad = true;
    from->p = from->end;
}

static void labels_get(struct rd *from, int64_t ts, struct label_set *ret_set)
{
    ret_set->labels = (uint32_t)rd_varint(from);
    ret_set->emitted = rd_u8(from) != 0;
    record_times_get(from, ret_set->labels, ts, ret_set->ts);
    ret_set->watch_ms = rd_varint(from);
}

static void labels_set(struct joiner *j, uint32_t at, const struct label_set *labels)
{
    struct label_set *set = pending_set_make(j, at);
    j->shadows += labels->emitted;
    j->shadows -= set->emitted;
    *set = *labels;
    set->owner = at;
}

static void left_get(struct joiner *j, struct rd *from)
{
    if (rd_u8(from) == 0)
        return;
    int64_t ts = rd_zigzag(from);
    uint64_t arrival = rd_varint(from);
    recover_mark(j, ts, arrival);
}

static void updates_get(struct joiner *j, struct rd *from)
{
    uint64_t n = rd_varint(from);
    for (uint64_t i = 0; i < n && !from->bad; i++) {
        uint64_t arrival = rd_varint(from);
        uint32_t at = recover_find(j, arrival);
        struct label_set set = {0};
        labels_get(from, at != PENDING_NONE ? j->slab[at].ts : 0, &set);
        if (at != PENDING_NONE && !from->bad)
            labels_set(j, at, &set);
    }
}

// A number that can be the next one: numbers grow from block to block and inside one.
static bool arrival_sound(const struct joiner *j, uint64_t arrival)
{
    uint64_t least = j->fresh_first;
    if (j->slab_len > 0 && pending_arrival(&j->slab[j->slab_len - 1]) >= least)
        least = pending_arrival(&j->slab[j->slab_len - 1]) + 1;
    return arrival >= least && arrival < j->next_arrival;
}

static bool body_sound(const struct body_ref *body)
{
    return body->segment <= UINT16_MAX && body->commit >> (64 - ARRIVAL_BITS + 32) == 0;
}

// `io_i` and `io_arrival` hold the impression before, and then this one.
static void impression_get(struct joiner *j, struct rd *from, struct state_impression *io_i,
                           uint64_t *io_arrival)
{
    uint8_t shared = rd_u8(from);
    uint64_t arrival = *io_arrival + rd_varint(from);
    io_i->item = rd_u64(from);
    if (!(shared & SHARED_USER))
        io_i->user = rd_u64(from);
    if (!(shared & SHARED_REQUEST))
        io_i->request = rd_u64(from);
    if (!(shared & SHARED_TS))
        io_i->ts = time_plus(io_i->ts, rd_zigzag(from));
    if (!(shared & SHARED_PARTITION))
        io_i->partition = (uint16_t)rd_varint(from);
    if (!(shared & SHARED_BODY)) {
        io_i->body.commit += (uint64_t)rd_zigzag(from);
        io_i->body.segment = (uint32_t)rd_varint(from);
        io_i->body.user_at = (uint32_t)rd_varint(from);
    }
    io_i->body.item_at = (uint32_t)((int64_t)io_i->body.user_at + rd_zigzag(from));
    if (!arrival_sound(j, arrival) || !body_sound(&io_i->body))
        spoil(from);
    if (from->bad)
        return;
    uint32_t at = recover_add(j, io_i, arrival);
    *io_arrival = arrival;
    if (!(shared & HAS_LABELS))
        return;
    struct label_set set = {0};
    labels_get(from, io_i->ts, &set);
    if (!from->bad)
        labels_set(j, at, &set);
}

static void held_get(struct joiner *j, struct rd *from)
{
    held_clear(j);
    uint64_t n = rd_varint(from);
    int64_t ts = 0;
    for (uint64_t i = 0; i < n && !from->bad; i++) {
        struct state_feedback f = {0};
        f.user = rd_u64(from);
        f.item = rd_u64(from);
        f.action = rd_u8(from);
        if (rd_u8(from) != 0)
            f.request = rd_u64(from);
        f.ts = ts = time_plus(ts, (int64_t)rd_varint(from));
        f.partition = (uint16_t)rd_varint(from);
        f.watch_ms = rd_varint(from);
        if (f.action >= ACTION_MAX)
            spoil(from);
        if (!from->bad)
            held_add(j, &f);
    }
}

// Samples that wait, checked one by one, for later they are read without a way to fail.
static void ready_get(struct joiner *j, struct rd *from)
{
    struct str bytes = rd_str(from);
    struct rd r = rd_of(bytes.s, bytes.len);
    while (rd_left(&r) > 0) {
        uint64_t commit = rd_varint(&r);
        record_get(&r, commit, &j->scratch);
    }
    if (r.bad)
        spoil(from);
    buf_clear(&j->ready);
    buf_put(&j->ready, bytes.s, from->bad ? 0 : bytes.len);
}

static void head_get(struct joiner *j, struct rd *from)
{
    uint64_t *fields[BLOCK_COUNTS];
    counts_fields(&j->counts, fields);
    j->watermark = rd_zigzag(from);
    uint64_t next = rd_varint(from);
    if (next < j->next_arrival || next >= ARRIVAL_FREE)
        spoil(from);
    else
        j->next_arrival = next;
    for (int i = 0; i < BLOCK_COUNTS; i++)
        *fields[i] = rd_varint(from);
}

int joiner_block_get(struct joiner *j, uint64_t commit, struct rd *from, struct err *err)
{
    joiner_check(j);
    uint8_t version = rd_u8(from);
    if (version != BLOCK_VERSION)
        return err_set(err, from->bad ? ERR_CORRUPT : ERR_VERSION,
                       "joiner block of commit %lu: version %u, not %d", (unsigned long)commit, version,
                       BLOCK_VERSION);
    if (rd_varint(from) != commit)
        return err_set(err, ERR_CORRUPT, "joiner block of commit %lu names another commit",
                       (unsigned long)commit);
    recover_begin(j);
    head_get(j, from);
    left_get(j, from);
    updates_get(j, from);
    uint64_t live = rd_varint(from);
    struct state_impression last = {0};
    uint64_t arrival = 0;
    for (uint64_t i = 0; i < live && !from->bad; i++)
        impression_get(j, from, &last, &arrival);
    held_get(j, from);
    ready_get(j, from);
    if (from->bad)
        return err_set(err, ERR_CORRUPT, "joiner block of commit %lu is damaged", (unsigned long)commit);
    joiner_source_add(j, commit, j->next_arrival, live);
    j->fresh_first = j->next_arrival;
    j->left = false;
    return 0;
}

// ---- digest
// ----------------------------------------------------------------------------------------------------

static void labels_digest(const struct label_set *set, struct hasher *h)
{
    const uint64_t head[] = {set->labels, set->emitted, set->watch_ms};
    hasher_put(h, head, sizeof head);
    for (uint32_t rest = set->labels; rest != 0; rest &= rest - 1)
        hasher_put(h, &set->ts[__builtin_ctz(rest)], sizeof set->ts[0]);
}

static void pending_digest(const struct joiner *j, struct hasher *h)
{
    static const struct label_set none = {0};
    uint64_t n = timeq_count(&j->due);
    struct timeq_entry *all = timeq_sorted(&j->due);
    hasher_put(h, &n, sizeof n);
    for (uint64_t i = 0; i < n; i++) {
        const struct pending *p = &j->slab[all[i].at];
        const uint64_t fields[] = {(uint64_t)time_after(p->ts, j->options.window_ms),
                                   pending_arrival(p),
                                   p->user,
                                   p->item,
                                   p->request,
                                   (uint64_t)p->ts,
                                   p->partition};
        const struct label_set *set = pending_set(j, p);
        hasher_put(h, fields, sizeof fields);
        labels_digest(set != NULL ? set : &none, h);
    }
    free(all);
}

static void held_digest(const struct joiner *j, struct hasher *h)
{
    uint64_t n = timeq_count(&j->held);
    struct timeq_entry *all = timeq_sorted(&j->held);
    hasher_put(h, &n, sizeof n);
    for (uint64_t i = 0; i < n; i++) {
        const struct state_feedback *f = &j->feedback[all[i].at];
        const uint64_t fields[] = {(uint64_t)f->ts, f->user,   f->item,    f->request,
                                   f->partition,    f->action, f->watch_ms};
        hasher_put(h, fields, sizeof fields);
    }
    free(all);
}

// Without the places of bodies, which depend on where commits were cut.
static void ready_digest(const struct joiner *j, struct hasher *h)
{
    struct rd r = rd_of(j->ready.data, j->ready.len);
    while (rd_left(&r) > 0) {
        struct sample s;
        uint64_t commit = rd_varint(&r);
        record_get(&r, commit, &s);
        const uint64_t fields[] = {s.impression, (uint64_t)s.emitted_ts, s.labels, s.corrected, s.watch_ms};
        hasher_put(h, fields, sizeof fields);
        hasher_put(h, s.label_ts, sizeof s.label_ts);
    }
}

void joiner_digest(const struct joiner *j, struct hasher *h)
{
    joiner_check(j);
    struct state_join_counts counts;
    joiner_counts(j, &counts);
    pending_digest(j, h);
    held_digest(j, h);
    ready_digest(j, h);
    hasher_put(h, &counts, sizeof counts);
}
