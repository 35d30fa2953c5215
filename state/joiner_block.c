// SPDX-License-Identifier: Apache-2.0
// The joiner's durable form: one block a commit, and its digest.
//
//     u8      version, 2
//     varint  commit
//     zigzag  watermark (INT64_MIN: none yet)
//     varint  arrival number of the next impression
//     varint  x 10: counts, absolute; then varint bits, and for each action among them varint after_window
//     u8      1: impressions of older blocks are gone, 2: samples of older ones left, 3: both, 0: neither
//             for each: all up to (zigzag ts, varint arrival)
//     varint  n updates:     varint arrival, labels              of older impressions that are known
//     varint  n impressions: see impression_put                  that came since the last block and are known
//     varint  n held:        see held_put                        all of it
//     varint  n bytes of samples that wait for the next advance
// labels: varint bits, u8 (1: emitted, 2: told, 4: rate), varint told, f32 rate, zigzag ts - impression ts for
//     each bit, varint watch_ms
//
// What is forgotten is the least of all by (ts, arrival), so of the older impressions always a beginning goes: one
// mark tells which, whatever made them go, and whatever the windows were set to; and another one whose sample left.
// A block that is older than joiner_low holds none that is known; updates and marks of later blocks pass over what
// they do not find. How blocks become memory again is told in joiner_recover.c. About 25 bytes an impression, 12
// where it shares user and request with the one before. To change the layout raise the version and STATE_FORMAT.
// Version 2: the second mark, IS_KEPT, what labels were told, two counts and after_window.
#include <stdlib.h>

#include "base/hash.h"
#include "state/joiner_impl.h"
#include "state/record.h"

enum { BLOCK_VERSION = 2, BLOCK_TURN = 256, BLOCK_COUNTS = 10 };

enum shared {
    SHARED_USER = 1,
    SHARED_REQUEST = 2,
    SHARED_BODY = 4, // commit, segment, user_at
    SHARED_PARTITION = 8,
    SHARED_TS = 16,
    HAS_LABELS = 32,
    IS_KEPT = 64,
};

enum { LABELS_EMITTED = 1, LABELS_TOLD = 2, LABELS_RATE = 4 };
enum { MARK_GONE = 1, MARK_OUT = 2 };

static void counts_fields(struct state_join_counts *c, uint64_t *ret_fields[BLOCK_COUNTS])
{
    uint64_t *const fields[BLOCK_COUNTS] = {&c->impressions,       &c->joined,     &c->orphans,
                                            &c->samples,           &c->corrected,  &c->negatives_dropped,
                                            &c->positives_thinned, &c->left_early, &c->forgotten_early,
                                            &c->late_labels};
    memcpy(ret_fields, fields, sizeof fields);
}

// ---- writing
// ---------------------------------------------------------------------------------------------------

static void labels_put(struct buf *to, const struct label_set *set, int64_t ts)
{
    bool rate = set->rate != 1.0f;
    buf_put_varint(to, set->labels);
    buf_put_u8(to, (uint8_t)((set->emitted ? LABELS_EMITTED : 0) | (set->told != 0 ? LABELS_TOLD : 0) |
                             (rate ? LABELS_RATE : 0)));
    if (set->told != 0)
        buf_put_varint(to, set->told);
    if (rate)
        buf_put_f32(to, set->rate);
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
                     (p->ts == last->ts ? SHARED_TS : 0) | (p->set != PENDING_NONE ? HAS_LABELS : 0) |
                     (pending_kept(p) ? IS_KEPT : 0));
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
        labels_put(to, label_set_at(j, p->set), p->ts);
}

static bool fresh_pending(const struct joiner *j, size_t i)
{
    return pending_arrival(&j->slab[j->fresh.at[i]]) == j->fresh_first + i;
}

void joiner_turn_set(struct joiner *j, void (*turn)(void *context), void *context)
{
    joiner_check(j);
    j->turn = turn;
    j->turn_context = context;
}

static void block_turn(const struct joiner *j, uint64_t i)
{
    if (i % BLOCK_TURN == 0 && j->turn != NULL)
        j->turn(j->turn_context);
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
        block_turn(j, i);
        if (!fresh_pending(j, i))
            continue;
        impression_put(j, to, &j->slab[j->fresh.at[i]], last);
        last = &j->slab[j->fresh.at[i]];
    }
    return n;
}

// Label sets whose impression is forgotten are done with, and freed here.
static void updates_put(struct joiner *j, struct buf *to)
{
    uint64_t n = 0;
    for (size_t i = 0; i < j->updates.len; i++)
        n += label_set_at(j, j->updates.at[i])->owner != PENDING_NONE;
    buf_put_varint(to, n);
    for (size_t i = 0; i < j->updates.len; i++) {
        struct label_set *set = label_set_at(j, j->updates.at[i]);
        block_turn(j, i);
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
    struct timeq_walk walk;
    timeq_walk_begin(&j->held, &walk);
    int64_t ts = 0;
    uint64_t i = 0;
    for (const struct timeq_entry *at; (at = timeq_walk_next(&walk)) != NULL;) {
        const struct state_feedback *f = &j->feedback[at->at];
        block_turn(j, i++);
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
    timeq_walk_end(&walk);
}

static void counts_put(struct joiner *j, struct buf *to)
{
    uint64_t *fields[BLOCK_COUNTS];
    uint32_t after = 0;
    counts_fields(&j->counts, fields);
    for (int i = 0; i < BLOCK_COUNTS; i++)
        buf_put_varint(to, *fields[i]);
    for (uint32_t a = 0; a < ACTION_MAX; a++)
        after |= (uint32_t)(j->counts.after_window[a] > 0) << a;
    buf_put_varint(to, after);
    for (; after != 0; after &= after - 1)
        buf_put_varint(to, j->counts.after_window[__builtin_ctz(after)]);
}

static void upto_put(struct buf *to, const struct joiner_upto *upto)
{
    if (!upto->any)
        return;
    buf_put_zigzag(to, upto->ts);
    buf_put_varint(to, upto->arrival);
}

void joiner_block_put(struct joiner *j, uint64_t commit, struct buf *to)
{
    joiner_check(j);
    joiner_recovered(j);
    buf_put_u8(to, BLOCK_VERSION);
    buf_put_varint(to, commit);
    buf_put_zigzag(to, j->watermark);
    buf_put_varint(to, j->next_arrival);
    counts_put(j, to);
    buf_put_u8(to, (uint8_t)((j->gone.any ? MARK_GONE : 0) | (j->out.any ? MARK_OUT : 0)));
    upto_put(to, &j->gone);
    upto_put(to, &j->out);
    updates_put(j, to);
    uint64_t live = impressions_put(j, to);
    held_put(j, to);
    buf_put_varint(to, j->ready.len);
    buf_put(to, j->ready.data, j->ready.len);

    joiner_source_add(j, commit, j->next_arrival, live);
    j->gone = j->out = (struct joiner_upto){0};
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
    uint8_t flags = rd_u8(from);
    ret_set->emitted = (flags & LABELS_EMITTED) != 0;
    ret_set->told = flags & LABELS_TOLD ? (uint32_t)rd_varint(from) : 0;
    ret_set->rate = flags & LABELS_RATE ? rd_f32(from) : 1.0f;
    if ((ret_set->told & ~ret_set->labels) != 0)
        spoil(from);
    record_times_get(from, ret_set->labels, ts, ret_set->ts);
    ret_set->watch_ms = rd_varint(from);
}

static void upto_get(struct rd *from, bool any, struct joiner_upto *ret_upto)
{
    *ret_upto = (struct joiner_upto){.any = any};
    if (!any)
        return;
    ret_upto->ts = rd_zigzag(from);
    ret_upto->arrival = rd_varint(from);
}

static void marks_get(struct joiner *j, struct rd *from)
{
    struct joiner_upto gone;
    struct joiner_upto out;
    uint8_t marks = rd_u8(from);
    upto_get(from, (marks & MARK_GONE) != 0, &gone);
    upto_get(from, (marks & MARK_OUT) != 0, &out);
    if (marks > (MARK_GONE | MARK_OUT))
        spoil(from);
    if (!from->bad)
        recover_mark(j, &gone, &out);
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
            label_set_copy(j, at, &set);
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
    if (shared & IS_KEPT)
        j->slab[at].arrival |= ARRIVAL_KEPT;
    if (!(shared & HAS_LABELS))
        return;
    struct label_set set = {0};
    labels_get(from, io_i->ts, &set);
    if (!from->bad)
        label_set_copy(j, at, &set);
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
    uint64_t after = rd_varint(from);
    if (after >> ACTION_MAX != 0)
        spoil(from);
    memset(j->counts.after_window, 0, sizeof j->counts.after_window);
    for (; after != 0 && !from->bad; after &= after - 1)
        j->counts.after_window[__builtin_ctzll(after)] = rd_varint(from);
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
    marks_get(j, from);
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
    j->gone = j->out = (struct joiner_upto){0};
    return 0;
}

// ---- digest
// ----------------------------------------------------------------------------------------------------

static void labels_digest(const struct label_set *set, struct hasher *h)
{
    uint32_t rate;
    memcpy(&rate, &set->rate, sizeof rate);
    const uint64_t head[] = {set->labels, set->told, set->emitted, rate, set->watch_ms};
    hasher_put(h, head, sizeof head);
    for (uint32_t rest = set->labels; rest != 0; rest &= rest - 1)
        hasher_put(h, &set->ts[__builtin_ctz(rest)], sizeof set->ts[0]);
}

static void pending_digest(const struct joiner *j, const struct timeq *q, struct hasher *h)
{
    static const struct label_set none = {.rate = 1};
    uint64_t n = timeq_count(q);
    struct timeq_walk walk;
    timeq_walk_begin(q, &walk);
    hasher_put(h, &n, sizeof n);
    for (const struct timeq_entry *at; (at = timeq_walk_next(&walk)) != NULL;) {
        const struct pending *p = &j->slab[at->at];
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
    timeq_walk_end(&walk);
}

static void held_digest(const struct joiner *j, struct hasher *h)
{
    uint64_t n = timeq_count(&j->held);
    struct timeq_walk walk;
    timeq_walk_begin(&j->held, &walk);
    hasher_put(h, &n, sizeof n);
    for (const struct timeq_entry *at; (at = timeq_walk_next(&walk)) != NULL;) {
        const struct state_feedback *f = &j->feedback[at->at];
        const uint64_t fields[] = {(uint64_t)f->ts, f->user,   f->item,    f->request,
                                   f->partition,    f->action, f->watch_ms};
        hasher_put(h, fields, sizeof fields);
    }
    timeq_walk_end(&walk);
}

// Without the places of bodies, which depend on where commits were cut.
static void ready_digest(const struct joiner *j, struct hasher *h)
{
    struct rd r = rd_of(j->ready.data, j->ready.len);
    while (rd_left(&r) > 0) {
        struct sample s;
        uint64_t commit = rd_varint(&r);
        record_get(&r, commit, &s);
        const uint64_t fields[] = {
            s.impression, (uint64_t)s.emitted_ts, s.labels, s.told, s.masked, s.corrected, s.watch_ms};
        hasher_put(h, fields, sizeof fields);
        hasher_put(h, s.label_ts, sizeof s.label_ts);
    }
}

void joiner_digest(const struct joiner *j, struct hasher *h)
{
    joiner_check(j);
    struct state_join_counts counts;
    joiner_counts(j, &counts);
    pending_digest(j, &j->due, h);
    pending_digest(j, &j->kept, h);
    held_digest(j, h);
    ready_digest(j, h);
    hasher_put(h, &counts, sizeof counts);
}
