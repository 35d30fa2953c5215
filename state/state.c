// SPDX-License-Identifier: Apache-2.0
// What freshet remembers, put together: this file opens and closes, and hands each call of state.h to the
// part that does it. entity*.c hold users and items, joiner*.c the pending impressions, samples.c the log,
// dedupe.c the ids seen, state_table.c names, rows and blobs, state_log.c the order and the outbox,
// state_meta.c the marks that recovery needs, commit.c the commit thread, store*.c the disk.
//
// Everything that changed since the last commit is either dirty in one of these parts, or already in
// s->batch, where rows, blobs and names are put at once.
#include "state/state.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "state/internal.h"

// ---- keys ------------------------------------------------------------------------------------------------

void key_add(struct key *key, const void *rest, size_t n)
{
    assert(key->n + n <= sizeof key->bytes);
    memcpy(key->bytes + key->n, rest, n);
    key->n += n;
}

struct key key_of(enum key_family family, uint16_t partition, uint64_t id)
{
    struct key key = {.n = 0};
    key.bytes[key.n++] = (uint8_t)family;
    partition = __builtin_bswap16(partition);
    key_add(&key, &partition, sizeof partition);
    id = __builtin_bswap64(id);
    key_add(&key, &id, sizeof id);
    return key;
}

struct key key_log(uint64_t commit, enum key_log part, uint16_t n)
{
    struct key key = key_of(KEY_LOG, 0, commit);
    key.bytes[key.n++] = (uint8_t)part;
    n = __builtin_bswap16(n);
    key_add(&key, &n, sizeof n);
    return key;
}

void batch_put(struct state *s, const struct key *key, struct str value)
{
    store_batch_put(s->batch, key->bytes, key->n, value.s, value.len);
}

int block_get(struct state *s, uint64_t commit, enum key_log part, uint16_t n, struct buf *to,
              bool *ret_found, struct err *err)
{
    struct key key = key_log(commit, part, n);
    return store_get(s->store, key.bytes, key.n, to, ret_found, err);
}

// ---- open and close ---------------------------------------------------------------------------------------

// Called from RocksDB's threads.
static bool key_expired(void *context, const uint8_t *key, size_t n)
{
    struct state *s = context;
    if (n < KEY_PREFIX)
        return false;
    if (key[0] == KEY_LOG) {
        struct rd rd = rd_of(key + 3, sizeof(uint64_t));
        return rd_be64(&rd) < atomic_load_explicit(&s->expire_log, memory_order_relaxed);
    }
    int64_t watermark = atomic_load_explicit(&s->expire_watermark, memory_order_relaxed);
    return (key[0] == KEY_USER || key[0] == KEY_ITEM) && watermark != INT64_MIN &&
           entities_key_expired(&s->options, watermark, key, n);
}

static struct state *state_new(const struct state_options *options)
{
    struct state *s = mem_zalloc(sizeof *s);
    s->magic = STATE_MAGIC;
    s->options = *options;
    s->watermark = INT64_MIN;
    s->next_commit = 1;
    s->order.begin = 1;
    s->batch = store_batch_new();
    s->committer.fd = -1;
    atomic_init(&s->expire_watermark, INT64_MIN);
    atomic_init(&s->expire_log, 0);
    atomic_init(&s->durable, 0);
    return s;
}

static int store_begin(struct state *s, const char *dir, struct err *err)
{
    struct store_options o = {
        .block_cache_bytes = s->options.block_cache_bytes,
        .read_only = s->options.read_only,
        .fail_if_absent = s->options.fail_if_absent,
        .fault = s->options.fault,
        .fault_context = s->options.fault_context,
        .expired = key_expired,
        .expired_context = s,
    };
    return store_open(dir, &o, &s->store, err);
}

static int state_begin(struct state *s, const char *dir, struct err *err)
{
    if (store_begin(s, dir, err) != 0)
        return -1;
    s->samples = samples_new(s->store, s->options.body_cache_bytes);
    s->joiner = joiner_new(&s->options.join);
    s->dedupe = dedupe_new(s->options.dedupe_window_ms, s->options.dedupe_max);
    bool fresh = false;
    if (meta_load(s, &fresh, err) != 0)
        return err_context(err, "state %s", dir);
    s->entities = entities_new(&s->options, s->store, fresh);
    if (state_recover(s, fresh, err) != 0)
        return err_context(err, "state %s", dir);
    return committer_start(s, err);
}

int state_open(const char *dir, const struct state_options *options, struct state **ret_state,
               struct err *err)
{
    assert(options->n_windows <= STATE_WINDOWS_MAX);
    struct state *s = state_new(options);
    if (state_begin(s, dir, err) != 0) {
        state_close(s);
        return -1;
    }
    *ret_state = s;
    return 0;
}

void state_close(struct state *s)
{
    if (s == NULL)
        return;
    assert(s->magic == STATE_MAGIC);
    committer_stop(s);
    entities_free(s->entities);
    joiner_free(s->joiner);
    dedupe_free(s->dedupe);
    samples_free(s->samples);
    store_batch_free(s->batch);
    names_done(&s->names);
    names_done(&s->names_before);
    blobs_done(s);
    order_done(&s->order);
    outbox_done(&s->outbox);
    store_close(s->store);
    buf_done(&s->progress);
    buf_done(&s->name_read);
    free(s->entries);
    s->magic = 0;
    free(s);
}

struct str state_progress(const struct state *s)
{
    return buf_str(&s->progress);
}

// ---- users and items --------------------------------------------------------------------------------------

int state_entity(struct state *s, enum entity_kind kind, uint16_t partition, uint64_t id, struct str text,
                 struct entity **ret_entity, struct err *err)
{
    return entities_get(s->entities, kind, partition, id, text, ret_entity, err);
}

int state_user_find(struct state *s, uint64_t id, uint16_t n_partitions, struct entity **ret_entity,
                    struct err *err)
{
    struct entity *found = NULL;
    for (uint16_t p = 0; p < n_partitions && found == NULL; p++)
        found = entities_peek(s->entities, ENTITY_USER, p, id);
    for (uint16_t p = 0; p < n_partitions && found == NULL; p++)
        if (entities_get(s->entities, ENTITY_USER, p, id, (struct str){NULL, 0}, &found, err) != 0)
            return -1;
    *ret_entity = found;
    return 0;
}

void state_prefetch(const struct state *s, enum entity_kind kind, uint16_t partition, uint64_t id)
{
    entities_prefetch(s->entities, kind, partition, id);
}

void state_count(struct state *s, struct entity *e, uint16_t partition, uint8_t measure, int64_t ts,
                 uint64_t n)
{
    entities_count(s->entities, e, partition, measure, ts, n);
}

uint64_t state_window(struct state *s, struct entity *e, uint8_t measure, uint32_t window, int64_t at)
{
    return entities_window(s->entities, e, measure, window, at);
}

void state_sequence_add(struct state *s, struct entity *user, uint8_t action, uint64_t item, int64_t ts)
{
    entities_sequence_add(s->entities, user, action, item, ts);
}

uint32_t state_sequence(struct state *s, const struct entity *user, uint8_t action, uint32_t max,
                        struct sequence_entry *ret_entries)
{
    (void)s;
    return entities_sequence(user, action, max, ret_entries);
}

bool state_profile_set(struct state *s, struct entity *e, int64_t ts, struct str record)
{
    return entities_profile_set(s->entities, e, ts, record);
}

void state_trim(struct state *s)
{
    state_settle(s);
    entities_trim(s->entities);
}

// ---- bodies -----------------------------------------------------------------------------------------------

void state_body_begin(struct state *s, uint32_t size, uint32_t *ret_at)
{
    samples_body_begin(s->samples, size, ret_at);
}

void state_body_append(struct state *s, const void *bytes, uint32_t size, struct body_ref *ret_ref)
{
    samples_body_append(s->samples, bytes, size, ret_ref);
}

static struct sequence_entry *entries_scratch(struct state *s, uint32_t max)
{
    if (max > s->cap_entries) {
        s->entries = mem_resize(s->entries, max, sizeof *s->entries);
        s->cap_entries = max;
    }
    return s->entries;
}

// In full: varint n + 1, then n ids of 8 bytes. As a reference: varint 0, then u32 the offset in the segment
// at which the full copy begins. A sequence of none is always put in full: it is one byte.
void state_sequence_put(struct state *s, struct entity *user, uint8_t action, uint32_t max, struct buf *to,
                        uint32_t at)
{
    uint64_t commit = samples_commit(s->samples);
    uint32_t segment = samples_segment(s->samples);
    uint32_t before = entities_snapshot(user, action, max, commit, segment);
    if (before != UINT32_MAX) {
        buf_put_varint(to, 0);
        buf_put_u32(to, before);
        return;
    }
    struct sequence_entry *entries = entries_scratch(s, max);
    uint32_t n = entities_sequence(user, action, max, entries);
    if (n > 0)
        entities_snapshot_set(user, action, max, commit, segment, at + (uint32_t)to->len);
    buf_put_varint(to, (uint64_t)n + 1);
    for (uint32_t i = 0; i < n; i++)
        buf_put_u64(to, entries[i].item);
}

uint32_t state_sequence_get(struct str segment, struct rd *from, const uint8_t **ret_ids)
{
    struct rd copy = {NULL, NULL, false};
    struct rd *full = from;
    uint64_t n = rd_varint(from);
    if (n == 0 && !from->bad) {
        uint32_t at = rd_u32(from);
        copy = at < segment.len ? rd_of(segment.s + at, segment.len - at) : (struct rd){NULL, NULL, true};
        n = rd_varint(&copy);
        full = &copy;
    }
    bool sound = n > 0 && n - 1 <= rd_left(full) / sizeof(uint64_t) && !from->bad && !full->bad;
    *ret_ids = sound ? rd_bytes(full, (size_t)(n - 1) * sizeof(uint64_t)) : NULL;
    if (!sound)
        *from = (struct rd){from->end, from->end, true};
    return sound ? (uint32_t)(n - 1) : 0;
}

// ---- joining, samples, dedupe -----------------------------------------------------------------------------

void state_impression(struct state *s, const struct state_impression *impression)
{
    joiner_impression(s->joiner, impression);
}

void state_feedback(struct state *s, const struct state_feedback *feedback)
{
    joiner_feedback(s->joiner, feedback);
}

struct emit_context {
    struct state *state;
    void (*emit)(void *context, const struct sample *sample);
    void *context;
};

static void sample_emit(void *context, const struct sample *sample)
{
    struct emit_context *c = context;
    struct sample numbered = *sample;
    numbered.seq = samples_append(c->state->samples, sample);
    if (c->emit != NULL)
        c->emit(c->context, &numbered);
}

// The end of time empties the joiner but is no clock: windows and ids stay as they were.
void state_advance(struct state *s, int64_t watermark,
                   void (*emit)(void *context, const struct sample *sample), void *context)
{
    struct emit_context c = {s, emit, context};
    if (watermark != INT64_MAX && watermark > s->watermark) {
        s->watermark = watermark;
        entities_watermark(s->entities, watermark);
        dedupe_advance(s->dedupe, watermark);
    }
    joiner_advance(s->joiner, watermark, sample_emit, &c);
}

void state_join_counts(const struct state *s, struct state_join_counts *ret_counts)
{
    joiner_counts(s->joiner, ret_counts);
}

uint32_t state_pending_of_user(const struct state *s, uint64_t user, uint32_t max,
                               struct state_pending *ret_pending)
{
    struct joiner_pending *found = mem_array(max, sizeof *found);
    uint32_t n = joiner_of_user(s->joiner, user, max, found);
    for (uint32_t i = 0; i < n; i++)
        ret_pending[i] = (struct state_pending){found[i].item, found[i].request, found[i].ts, found[i].due,
                                                found[i].labels};
    free(found);
    return n;
}

uint64_t state_samples_end(const struct state *s)
{
    return samples_end(s->samples);
}

uint64_t state_samples_begin(const struct state *s)
{
    return samples_begin(s->samples);
}

int state_samples_read(struct state *s, uint64_t seq, uint32_t max, struct sample_chunk **ret_chunk,
                       struct err *err)
{
    return samples_read(s->samples, seq, max, ret_chunk, err);
}

void state_chunk_free(struct state *s, struct sample_chunk *chunk)
{
    samples_chunk_free(s->samples, chunk);
}

void state_samples_trained(struct state *s, uint64_t seq)
{
    samples_trained(s->samples, seq);
}

bool state_seen(struct state *s, uint64_t event_id, int64_t ts)
{
    // An event that is late is remembered as long as one that is on time.
    return dedupe_seen(s->dedupe, event_id, ts > s->watermark ? ts : s->watermark);
}
