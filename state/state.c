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
    return key[0] >= KEY_USER && key[0] <= KEY_GROUP && watermark != INT64_MIN &&
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

// How often the action of join.thin came for an item in its window, at the watermark. An error of the store is
// kept for the next commit, which fails with it.
static uint64_t thin_count(void *context, uint64_t item)
{
    struct state *s = context;
    const struct state_thin *thin = &s->options.join.thin;
    struct entity *e = NULL;
    struct err err = {0};
    if (s->watermark == INT64_MIN)
        return 0;
    if (entities_get(s->entities, ENTITY_ITEM, 0, item, (struct str){NULL, 0}, &e, &err) != 0) {
        if (s->advance_err.code == ERR_NONE)
            s->advance_err = err;
        return 0;
    }
    return e != NULL ? entities_window(s->entities, e, thin->action, thin->window, s->watermark) : 0;
}

static int state_begin(struct state *s, const char *dir, struct err *err)
{
    if (store_begin(s, dir, err) != 0)
        return -1;
    s->samples = samples_new(s->store, s->options.body_cache_bytes);
    s->joiner = joiner_new(&s->options.join);
    samples_turn_set(s->samples, s->options.turn, s->options.turn_context);
    joiner_turn_set(s->joiner, s->options.turn, s->options.turn_context);
    joiner_count_set(s->joiner, thin_count, s);
    s->dedupe = dedupe_new(s->options.dedupe_window_ms, s->options.dedupe_max);
    dedupe_turn_set(s->dedupe, s->options.turn, s->options.turn_context);
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
    s->magic = 0;
    free(s);
}

struct str state_progress(const struct state *s)
{
    return buf_str(&s->progress);
}

// ---- users, items, groups ----------------------------------------------------------------------------------

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

void state_prefetch(const struct state *s, enum entity_kind kind, uint16_t partition, uint64_t id,
                    uint32_t measures)
{
    entities_prefetch(s->entities, kind, partition, id, measures);
}

int state_group(struct state *s, const struct group_key *key, struct str text, struct entity **ret_group,
                struct err *err)
{
    return entities_group(s->entities, key, text, ret_group, err);
}

uint64_t state_group_place(const struct group_key *key)
{
    return entities_group_place(key);
}

void state_group_fetch(const struct state *s, uint64_t place, uint32_t measures, uint32_t stage)
{
    entities_fetch(s->entities, place, measures, stage);
}

int state_groups_each(struct state *s, enum group_of of, uint16_t partition, uint64_t owner,
                      int (*each)(void *context, struct entity *group), void *context, struct err *err)
{
    struct group_key key = {.of = of, .partition = partition, .owner = owner};
    return entities_groups_each(s->entities, &key, each, context, err);
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

uint64_t state_total(struct state *s, const struct entity *e, uint8_t measure)
{
    (void)s;
    return entities_total(e, measure);
}

void state_touch(struct state *s, struct entity *e, uint16_t partition, int64_t ts)
{
    entities_seen(s->entities, e, partition, ts);
}

void state_sequence_add(struct state *s, struct entity *e, uint8_t sequence,
                        const struct sequence_entry *entry)
{
    entities_sequence_add(s->entities, e, sequence, entry);
}

uint32_t state_sequence(struct state *s, const struct entity *e, uint8_t sequence, uint32_t max,
                        struct sequence_entry *ret_entries)
{
    return entities_sequence(s->entities, e, sequence, max, ret_entries);
}

uint32_t state_sequence_remove(struct state *s, struct entity *e, uint8_t sequence, uint64_t item)
{
    return entities_sequence_remove(s->entities, e, sequence, item);
}

bool state_sequence_has(struct state *s, const struct entity *e, uint8_t sequence, uint64_t item)
{
    return entities_sequence_has(s->entities, e, sequence, item);
}

void state_gone(struct state *s, uint64_t item, int64_t ts)
{
    entities_gone(s->entities, item, ts, s->batch);
}

bool state_profile_set(struct state *s, struct entity *e, int64_t ts, struct str record)
{
    return entities_profile_set(s->entities, e, ts, record);
}

void state_trim(struct state *s)
{
    state_settle(s);
    dirty_trim(s);
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

void state_sequence_put(struct state *s, struct entity *e, uint8_t sequence, uint32_t max, uint8_t with,
                        struct buf *to, uint32_t at)
{
    struct sequence_snapshot place = {
        .commit = (uint32_t)samples_commit(s->samples), .segment = samples_segment(s->samples), .at = at};
    entities_sequence_put(s->entities, e, sequence, max, with, &place, to);
}

static const uint8_t *column_get(struct rd *from, uint32_t n, uint32_t size, bool there)
{
    return there ? rd_bytes(from, (size_t)n * size) : NULL;
}

// See entities_sequence_put.
void state_sequence_get(struct str segment, struct rd *from, uint8_t with,
                        struct sequence_columns *ret_columns)
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
    *ret_columns = (struct sequence_columns){0};
    bool sound = n > 0 && n - 1 <= rd_left(full) / sizeof(uint64_t) && !from->bad && !full->bad;
    if (sound) {
        uint32_t k = (uint32_t)(n - 1);
        *ret_columns = (struct sequence_columns){.n = k, .ids = rd_bytes(full, k * sizeof(uint64_t))};
        ret_columns->ts = column_get(full, k, sizeof(int64_t), with & SEQUENCE_TIME);
        ret_columns->category = column_get(full, k, sizeof(uint64_t), with & SEQUENCE_CATEGORY);
        ret_columns->author = column_get(full, k, sizeof(uint64_t), with & SEQUENCE_AUTHOR);
        ret_columns->dwell = column_get(full, k, sizeof(uint32_t), with & SEQUENCE_DWELL);
    }
    if (!sound || full->bad) {
        *ret_columns = (struct sequence_columns){0};
        *from = (struct rd){from->end, from->end, true};
    }
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

uint64_t state_samples_durable(const struct state *s)
{
    return samples_durable_end(s->samples);
}

int state_samples_find(struct state *s, uint64_t seq, int64_t from, int64_t to, uint64_t *ret_begin,
                       uint64_t *ret_end, struct err *err)
{
    return samples_find(s->samples, seq, from, to, ret_begin, ret_end, err);
}

void state_samples_published(struct state *s, uint64_t seq)
{
    samples_published(s->samples, seq);
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

void state_make_room(struct state *s)
{
    assert(s->magic == STATE_MAGIC);
    dedupe_make_room(s->dedupe);
    joiner_make_room(s->joiner);
}

void state_seen_prefetch(const struct state *s, uint64_t event_id)
{
    dedupe_prefetch(s->dedupe, event_id);
}

bool state_seen(struct state *s, uint64_t event_id, int64_t ts)
{
    // An event that is late is remembered as long as one that is on time.
    return dedupe_seen(s->dedupe, event_id, ts > s->watermark ? ts : s->watermark);
}
