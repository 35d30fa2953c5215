// SPDX-License-Identifier: Apache-2.0
// The joiner's memory (drawn in joiner_impl.h): slots, chains, label sets, held feedback, and which durable
// block still has an impression that waits. No rule of joining stands here.
//
// Cost of an impression: a slot (the one freed last, still in the cache), one map probe, one append. Of being
// forgotten: one probe, one look at the newest of its chain. A chain is walked only for an impression out of
// order.
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "state/joiner_impl.h"

enum {
    FRESH_BYTES =
        56, // of an impression in a block, about, and its place in the list of those to be put there
    UPDATE_BYTES = 32, // of changed labels, the same
};
enum {
    PENDING_FIRST = 64,
    SLAB_FIRST = 8192,
    PENDING_RESERVE = 1 << 26,
    USERS_LOG2 = 10,
    USERS_UNBOUNDED = 1 << 20
};

void list_add(struct list *l, uint32_t at)
{
    if (l->len == l->cap) {
        l->cap = l->cap > 0 ? l->cap * 2 : PENDING_FIRST;
        l->at = mem_resize(l->at, l->cap, sizeof *l->at);
    }
    l->at[l->len++] = at;
}

void list_done(struct list *l)
{
    free(l->at);
    *l = (struct list){0};
}

// ---- slots
// -------------------------------------------------------------------------------------------------

// Huge pages: a feedback reads a slot at random.
static void *slab_grow(void *slab, size_t len, size_t old_cap, size_t cap, size_t size)
{
    void *grown = mem_map(cap * size);
    if (len > 0)
        memcpy(grown, slab, len * size);
    mem_unmap(slab, old_cap * size);
    return grown;
}

// Address space for all that max_pending allows is taken at once where that is sane, so that nothing is ever
// moved; pages are only used as far as slots were. The same for label sets.
static uint32_t pending_cap(const struct joiner *j, uint32_t cap)
{
    uint32_t max = j->options.max_pending;
    if (cap == 0 && max > 0 && max < PENDING_RESERVE)
        return max + 1;
    return cap > 0 ? cap * 2 : SLAB_FIRST;
}

static uint32_t pending_slot(struct joiner *j)
{
    if (j->slab_free != PENDING_NONE) {
        uint32_t at = j->slab_free;
        j->slab_free = j->slab[at].next;
        return at;
    }
    if (j->slab_len == j->slab_cap) {
        assert(j->slab_cap < PENDING_NONE / 2);
        uint32_t cap = pending_cap(j, j->slab_cap);
        j->slab = slab_grow(j->slab, j->slab_len, j->slab_cap, cap, sizeof *j->slab);
        j->links = slab_grow(j->links, j->slab_len, j->slab_cap, cap, sizeof *j->links);
        j->slab_cap = cap;
    }
    return j->slab_len++;
}

void pending_slot_free(struct joiner *j, uint32_t at)
{
    j->slab[at].arrival = ARRIVAL_FREE;
    j->slab[at].next = j->slab_free;
    j->slab_free = at;
}

static uint32_t label_set_slot(struct joiner *j)
{
    if (j->sets_free != PENDING_NONE) {
        uint32_t set = j->sets_free;
        j->sets_free = label_set_at(j, set)->next;
        return set;
    }
    if (j->sets_len == j->sets_cap) {
        uint32_t cap = pending_cap(j, j->sets_cap);
        j->sets = slab_grow(j->sets, j->sets_len, j->sets_cap, cap, j->set_bytes);
        j->sets_cap = cap;
    }
    return j->sets_len++;
}

size_t label_set_bytes(uint32_t labels)
{
    size_t actions = labels != 0 ? 32 - (size_t)__builtin_clz(labels) : 0;
    return offsetof(struct label_set, ts) + actions * sizeof(int64_t);
}

// A block of a config with other labels than now: all sets get the room that its label needs.
static void label_sets_widen(struct joiner *j, size_t bytes)
{
    uint8_t *sets = j->sets_cap > 0 ? mem_map(j->sets_cap * bytes) : NULL;
    for (uint32_t i = 0; i < j->sets_len; i++)
        memcpy(sets + i * bytes, j->sets + i * j->set_bytes, j->set_bytes);
    mem_unmap(j->sets, j->sets_cap * j->set_bytes);
    j->sets = sets;
    j->set_bytes = bytes;
}

struct label_set *pending_set_make(struct joiner *j, uint32_t at, uint32_t labels)
{
    static const struct label_set none = {.rate = 1};
    struct pending *p = &j->slab[at];
    if (label_set_bytes(labels) > j->set_bytes)
        label_sets_widen(j, label_set_bytes(labels));
    if (p->set == PENDING_NONE) {
        p->set = label_set_slot(j);
        memcpy(label_set_at(j, p->set), &none, j->set_bytes);
        label_set_at(j, p->set)->owner = at;
    }
    return label_set_at(j, p->set);
}

void label_set_copy(struct joiner *j, uint32_t at, const struct label_set *labels)
{
    struct label_set *set = pending_set_make(j, at, labels->labels);
    memcpy(set, labels, j->set_bytes);
    set->owner = at;
}

void label_set_free(struct joiner *j, uint32_t set)
{
    label_set_at(j, set)->next = j->sets_free;
    j->sets_free = set;
}

void joiner_ahead(struct joiner *j, struct mem_span ret_spans[JOINER_SPANS])
{
    joiner_check(j);
    const uint64_t len = j->slab_len, cap = j->slab_cap;
    ret_spans[0] = mem_ahead(j->slab, len, cap, sizeof *j->slab, len, &j->told[0]);
    ret_spans[1] = mem_ahead(j->links, len, cap, sizeof *j->links, len, &j->told[1]);
    ret_spans[2] = mem_ahead(j->sets, j->sets_len, j->sets_cap, j->set_bytes, j->sets_len, &j->told[2]);
    ret_spans[3] = timeq_span(&j->due, &j->told[3]);
    ret_spans[4] = timeq_span(&j->kept, &j->told[4]);
    ret_spans[5] = timeq_span(&j->held, &j->told[5]);
}

// ---- lists by user ----------------------------------------------------------------------------------------

// One for two impressions at the bound, to four. Where there is no bound lists are as long as they get.
uint32_t users_log2(const struct state_join_options *options)
{
    uint32_t n = options->max_pending > 0 ? options->max_pending : USERS_UNBOUNDED;
    uint32_t log2 = USERS_LOG2;
    if (n > PENDING_RESERVE)
        n = PENDING_RESERVE;
    while (UINT64_C(4) << log2 <= n)
        log2++;
    return log2;
}

static size_t users_bytes(const struct joiner *j)
{
    return j->firsts != NULL ? sizeof *j->firsts << j->firsts_log2 : 0;
}

static uint32_t *users_list(const struct joiner *j, uint64_t user)
{
    return &j->firsts[hash_mix(user) >> (64 - j->firsts_log2)];
}

uint32_t user_first(const struct joiner *j, uint64_t user)
{
    return j->firsts != NULL ? *users_list(j, user) - 1 : PENDING_NONE; // 0 - 1 is PENDING_NONE
}

uint32_t user_next(const struct joiner *j, uint32_t at)
{
    return j->links[at].next - 1;
}

void user_prefetch(const struct joiner *j, uint32_t at)
{
    if (j->links[at].before != 0)
        __builtin_prefetch(&j->links[j->links[at].before - 1], 1);
}

static void user_insert(struct joiner *j, uint32_t at)
{
    uint32_t *first = users_list(j, j->slab[at].user);
    j->links[at] = (struct user_link){.next = *first};
    if (*first != 0)
        j->links[*first - 1].before = at + 1;
    *first = at + 1;
}

static void user_remove(struct joiner *j, uint32_t at)
{
    const struct user_link link = j->links[at];
    if (link.before != 0)
        j->links[link.before - 1].next = link.next;
    else
        *users_list(j, j->slab[at].user) = link.next;
    if (link.next != 0)
        j->links[link.next - 1].before = link.before;
}

// ---- chains
// --------------------------------------------------------------------------------------------------

enum { CHAINS_LOG2 = 10, CHAINS_BEHIND = 1 << 18, CHAINS_TURN = 4096, CHAINS_SPARE = 32 };

static size_t chains_bytes_of(uint32_t log2)
{
    return sizeof(struct chain_slot) << log2;
}

static size_t chains_bytes(const struct joiner *j)
{
    return j->chains.slots != NULL ? chains_bytes_of(j->chains.log2) : 0;
}

void pending_done(struct joiner *j)
{
    mem_unmap(j->slab, j->slab_cap * sizeof *j->slab);
    mem_unmap(j->links, j->slab_cap * sizeof *j->links);
    free(j->firsts);
    mem_unmap(j->sets, j->sets_cap * j->set_bytes);
    mem_unmap(j->chains.slots, chains_bytes(j));
    j->chains = (struct chains){0};
}

static uint32_t chain_tag(uint64_t user, uint64_t item)
{
    return (uint32_t)(hash_mix(user ^ item * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

static uint32_t chain_home(const struct chains *c, uint32_t tag)
{
    return (uint32_t)((uint64_t)tag << c->log2 >> 32);
}

// The slot of the tag, or the free one where it belongs.
static uint32_t chain_find(const struct chains *c, uint32_t tag)
{
    uint32_t mask = (uint32_t)((UINT64_C(1) << c->log2) - 1);
    uint32_t i = chain_home(c, tag);
    while (c->slots[i].newest != 0 && c->slots[i].tag != tag)
        i = (i + 1) & mask;
    return i;
}

// Homes are top bits: both tables are run through in one direction, and the slab is not touched.
static void chains_grow(struct joiner *j, bool turns)
{
    struct chains *c = &j->chains;
    struct chains old = *c;
    c->log2 = old.slots != NULL ? old.log2 + 1 : CHAINS_LOG2;
    assert(c->log2 <= 32);
    c->slots = mem_map(chains_bytes_of(c->log2));
    size_t gone = 0;
    for (uint64_t i = 0; old.slots != NULL && i < UINT64_C(1) << old.log2; i++) {
        if (i % CHAINS_BEHIND == 0)
            mem_unmap_behind(old.slots, i * sizeof *old.slots, &gone);
        if (turns && i % CHAINS_TURN == 0 && j->turn != NULL)
            j->turn(j->turn_context);
        if (old.slots[i].newest != 0)
            c->slots[chain_find(c, old.slots[i].tag)] = old.slots[i];
    }
    mem_unmap(old.slots, old.slots != NULL ? chains_bytes_of(old.log2) : 0);
}

// Frees slot i: what stands behind it moves up where its home allows.
static void chain_slot_free(struct chains *c, uint32_t i)
{
    uint32_t mask = (uint32_t)((UINT64_C(1) << c->log2) - 1);
    for (uint32_t k = (i + 1) & mask; c->slots[k].newest != 0; k = (k + 1) & mask) {
        uint32_t home = chain_home(c, c->slots[k].tag);
        if (((k - home) & mask) < ((k - i) & mask))
            continue;
        c->slots[i] = c->slots[k];
        i = k;
    }
    c->slots[i] = (struct chain_slot){0};
    c->taken--;
}

void chain_prefetch(const struct joiner *j, uint64_t user, uint64_t item)
{
    if (j->chains.slots != NULL)
        __builtin_prefetch(&j->chains.slots[chain_home(&j->chains, chain_tag(user, item))]);
}

uint32_t chain_newest(const struct joiner *j, uint64_t user, uint64_t item)
{
    if (j->chains.slots == NULL)
        return PENDING_NONE;
    return j->chains.slots[chain_find(&j->chains, chain_tag(user, item))].newest - 1; // 0 - 1 is PENDING_NONE
}

// Puts `at` into its circle, by (ts, arrival); it has the greatest arrival of all.
static void chain_insert(struct joiner *j, uint32_t at)
{
    struct pending *p = &j->slab[at];
    struct chains *c = &j->chains;
    if (c->slots == NULL || c->taken >= (UINT64_C(3) << c->log2) / 4)
        chains_grow(j, false);
    uint32_t tag = chain_tag(p->user, p->item);
    struct chain_slot *slot = &c->slots[chain_find(c, tag)];
    if (slot->newest == 0) {
        p->next = at;
        *slot = (struct chain_slot){tag, at + 1};
        c->taken++;
        return;
    }
    uint32_t before = slot->newest - 1;
    bool is_newest = p->ts >= j->slab[before].ts;
    while (!is_newest && j->slab[j->slab[before].next].ts <= p->ts)
        before = j->slab[before].next;
    p->next = j->slab[before].next;
    j->slab[before].next = at;
    if (is_newest)
        slot->newest = at + 1;
}

void chains_reserve(struct joiner *j, uint64_t n)
{
    struct chains *c = &j->chains;
    assert(c->slots == NULL);
    c->log2 = CHAINS_LOG2;
    while (n > (UINT64_C(3) << c->log2) / 4)
        c->log2++;
    assert(c->log2 <= 32);
    c->slots = mem_map(chains_bytes_of(c->log2));
}

void joiner_make_room(struct joiner *j)
{
    joiner_check(j);
    uint64_t slots = UINT64_C(1) << j->chains.log2;
    uint32_t max = j->options.max_pending;
    bool enough = max > 0 && max < slots / 4 * 3; // for as many as there will ever be
    if (j->chains.slots != NULL && !enough && j->chains.taken + slots / CHAINS_SPARE >= slots / 4 * 3)
        chains_grow(j, true);
}

void chain_link_all(struct joiner *j)
{
    for (uint32_t i = 0; i < j->n_unlinked; i++) {
        chain_insert(j, j->unlinked[i]);
        user_insert(j, j->unlinked[i]);
    }
    j->n_unlinked = 0;
}

static void chain_insert_later(struct joiner *j, uint32_t at)
{
    if (j->firsts == NULL) {
        j->firsts_log2 = users_log2(&j->options);
        j->firsts = mem_array(UINT64_C(1) << j->firsts_log2, sizeof *j->firsts);
    }
    __builtin_prefetch(users_list(j, j->slab[at].user), 1);
    chain_prefetch(j, j->slab[at].user, j->slab[at].item);
    j->unlinked[j->n_unlinked++] = at;
    if (j->n_unlinked == UNLINKED_MAX)
        chain_link_all(j);
}

// Takes `at`, the oldest of its circle, out of it.
static void chain_remove_oldest(struct joiner *j, uint32_t at)
{
    const struct pending *p = &j->slab[at];
    struct chains *c = &j->chains;
    uint32_t i = chain_find(c, chain_tag(p->user, p->item));
    uint32_t newest = c->slots[i].newest - 1;
    assert(newest != PENDING_NONE && j->slab[newest].next == at);
    if (newest == at)
        chain_slot_free(c, i);
    else
        j->slab[newest].next = p->next;
}

// ---- durable blocks that are still needed
// --------------------------------------------------------------------

void joiner_source_add(struct joiner *j, uint64_t commit, uint64_t end, uint64_t live)
{
    if (live == 0)
        return;
    if (j->sources_len == j->sources_cap) {
        size_t n = j->sources_len - j->sources_head;
        if (n > 0)
            memmove(j->sources, j->sources + j->sources_head, n * sizeof *j->sources);
        j->sources_head = 0;
        j->sources_len = n;
        j->sources_cap = n * 2 > PENDING_FIRST ? n * 2 : PENDING_FIRST;
        j->sources = mem_resize(j->sources, j->sources_cap, sizeof *j->sources);
    }
    j->sources[j->sources_len++] = (struct joiner_source){commit, end, live};
}

// The impression numbered `arrival` is forgotten: its block has one less that is known.
static void joiner_source_leave(struct joiner *j, uint64_t arrival)
{
    size_t low = j->sources_head;
    size_t high = j->sources_len;
    assert(low < high);
    if (arrival < j->sources[low].end)
        high = low + 1; // the usual case
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (arrival < j->sources[middle - 1].end)
            high = middle;
        else
            low = middle;
    }
    assert(arrival < j->sources[low].end && j->sources[low].live > 0);
    j->sources[low].live--;
    while (j->sources_head < j->sources_len && j->sources[j->sources_head].live == 0)
        j->sources_head++;
}

uint64_t joiner_low(const struct joiner *j, uint64_t next_commit)
{
    joiner_check(j);
    return j->sources_head < j->sources_len ? j->sources[j->sources_head].commit : next_commit;
}

// ---- pending
// ---------------------------------------------------------------------------------------------------

uint32_t pending_place(struct joiner *j, const struct state_impression *i, uint64_t arrival)
{
    assert(arrival < ARRIVAL_FREE && i->body.segment <= UINT16_MAX);
    assert(i->body.commit >> (64 - ARRIVAL_BITS + 32) == 0);
    uint32_t at = pending_slot(j);
    j->slab[at] = (struct pending){
        .user = i->user,
        .item = i->item,
        .request = i->request,
        .ts = i->ts,
        .arrival = arrival | i->body.commit >> 32 << ARRIVAL_BITS,
        .commit = (uint32_t)i->body.commit,
        .user_at = i->body.user_at,
        .item_at = i->body.item_at,
        .segment = (uint16_t)i->body.segment,
        .partition = i->partition,
        .set = PENDING_NONE,
    };
    return at;
}

void pending_enter(struct joiner *j, uint32_t at)
{
    const struct pending *p = &j->slab[at];
    chain_insert_later(j, at);
    timeq_push(pending_kept(p) ? &j->kept : &j->due, (struct timeq_entry){p->ts, pending_arrival(p), at});
}

uint32_t pending_add(struct joiner *j, const struct state_impression *i, uint64_t arrival)
{
    uint32_t at = pending_place(j, i, arrival);
    pending_enter(j, at);
    return at;
}

// The label set of an impression that is forgotten; one that stands in the list of updates is freed with the list.
static void pending_set_drop(struct joiner *j, uint32_t set)
{
    label_set_at(j, set)->owner = PENDING_NONE;
    if (!label_set_at(j, set)->dirty)
        label_set_free(j, set);
}

void label_set_dirty(struct joiner *j, uint32_t at)
{
    const struct pending *p = &j->slab[at];
    struct label_set *set = label_set_at(j, p->set);
    if (set->dirty || pending_arrival(p) >= j->fresh_first)
        return;
    set->dirty = true;
    list_add(&j->updates, p->set);
}

void pending_forget(struct joiner *j, uint32_t at)
{
    if (j->slab[at].set != PENDING_NONE)
        pending_set_drop(j, j->slab[at].set);
    j->slab[at].arrival = ARRIVAL_FREE;
}

void pending_keep(struct joiner *j)
{
    const struct timeq_entry least = *timeq_min(&j->due);
    struct pending *p = &j->slab[least.at];
    const struct label_set *set = pending_set(j, p);
    if (pending_arrival(p) < j->fresh_first)
        j->out = (struct joiner_upto){true, p->ts, pending_arrival(p)};
    if (set != NULL) {
        j->shadows -= set->emitted;
        label_set_dirty(j, least.at);
    }
    p->arrival |= ARRIVAL_KEPT;
    timeq_pop(&j->due);
    timeq_push(&j->kept, least);
}

void pending_drop(struct joiner *j, struct timeq *from)
{
    chain_link_all(j);
    uint32_t at = timeq_min(from)->at;
    const struct pending *p = &j->slab[at];
    uint64_t arrival = pending_arrival(p);
    if (arrival < j->fresh_first) {
        joiner_source_leave(j, arrival);
        j->gone = (struct joiner_upto){true, p->ts, arrival};
    }
    if (p->set != PENDING_NONE) {
        j->shadows -= !pending_kept(p) && label_set_at(j, p->set)->emitted;
        pending_set_drop(j, p->set);
    }
    chain_remove_oldest(j, at);
    user_remove(j, at);
    pending_slot_free(j, at);
    timeq_pop(from);
}

// ---- held feedback
// -----------------------------------------------------------------------------------------------

void held_add(struct joiner *j, const struct state_feedback *f)
{
    uint32_t at;
    if (j->feedback_free.len > 0) {
        at = j->feedback_free.at[--j->feedback_free.len];
    } else {
        if (j->feedback_len == j->feedback_cap) {
            j->feedback_cap = j->feedback_cap > 0 ? j->feedback_cap * 2 : PENDING_FIRST;
            j->feedback = mem_resize(j->feedback, j->feedback_cap, sizeof *j->feedback);
        }
        at = j->feedback_len++;
    }
    j->feedback[at] = *f;
    timeq_push(&j->held, (struct timeq_entry){f->ts, j->held_order++, at});
}

void held_clear(struct joiner *j)
{
    j->feedback_len = 0;
    j->feedback_free.len = 0;
    timeq_clear(&j->held);
}

uint64_t joiner_bytes(const struct joiner *j)
{
    joiner_check(j);
    return sizeof *j + j->slab_len * (sizeof *j->slab + sizeof *j->links) + users_bytes(j) +
           j->sets_len * j->set_bytes + j->feedback_cap * sizeof *j->feedback +
           j->sources_cap * sizeof *j->sources +
           (j->feedback_free.cap + j->fresh.cap + j->updates.cap) * sizeof(uint32_t) + j->ready.cap +
           timeq_bytes(&j->due) + timeq_bytes(&j->kept) + timeq_bytes(&j->held) + chains_bytes(j) +
           j->marks_cap * sizeof *j->marks;
}

uint64_t joiner_dirty_bytes(const struct joiner *j)
{
    return j->fresh.len * FRESH_BYTES + j->updates.len * UPDATE_BYTES;
}
