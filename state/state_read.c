// SPDX-License-Identifier: Apache-2.0
// Reading everything: export, digests, figures.
//
// A digest covers the logical content in key order and nothing physical (commit and segment numbers, tiles
// that are over, how sequences are cut), so that it does not depend on when commits were made:
//
//     counters, sequences, profiles   for each entity that has any, users, items, groups:
//                                     u8 kind, u16 partition, u64 id, u32 n, n canonical bytes
//     joiner                          joiner_digest
//     samples                         for each that is kept: the record below, u32 n, n bytes of the body
#include <assert.h>
#include <stdlib.h>

#include "state/internal.h"

enum { SAMPLES_AT_ONCE = 1024 };

int state_entities_each(struct state *s, enum entity_kind kind, int (*each)(void *context, struct entity *e),
                        void *context, struct err *err)
{
    int r = entities_each(s->entities, kind, each, context, err);
    if (r != 0 || s->advance_err.code == ERR_NONE)
        return r;
    if (err != NULL)
        *err = s->advance_err; // a name that `each` asked for could not be read
    return -1;
}

// ---- entities ---------------------------------------------------------------------------------------------

struct entity_digests {
    struct entities *entities;
    enum entity_kind kind;
    struct hasher *counters, *sequences, *profiles;
    struct buf bytes;
};

static void put_entity(struct entity_digests *d, struct hasher *h, const struct entity *e)
{
    uint8_t kind = (uint8_t)d->kind;
    uint16_t partition = entity_partition(e);
    uint64_t id = entity_id(e);
    uint32_t n = (uint32_t)d->bytes.len;
    if (n > 0) {
        hasher_put(h, &kind, sizeof kind);
        hasher_put(h, &partition, sizeof partition);
        hasher_put(h, &id, sizeof id);
        hasher_put(h, &n, sizeof n);
        hasher_put(h, d->bytes.data, n);
    }
    buf_clear(&d->bytes);
}

static int entity_digest(void *context, struct entity *e)
{
    struct entity_digests *d = context;
    entities_counters_put(d->entities, e, &d->bytes);
    put_entity(d, d->counters, e);
    entities_sequences_put(d->entities, e, &d->bytes);
    put_entity(d, d->sequences, e);
    entities_profile_put(e, &d->bytes);
    put_entity(d, d->profiles, e);
    return 0;
}

static int digest_entities(struct state *s, struct state_digests *ret, struct err *err)
{
    struct entity_digests d = {s->entities, ENTITY_USER, hasher_new(), hasher_new(), hasher_new(), {0}};
    int r = entities_each(s->entities, ENTITY_USER, entity_digest, &d, err);
    d.kind = ENTITY_ITEM;
    if (r == 0)
        r = entities_each(s->entities, ENTITY_ITEM, entity_digest, &d, err);
    d.kind = ENTITY_GROUP;
    if (r == 0)
        r = entities_each(s->entities, ENTITY_GROUP, entity_digest, &d, err);
    ret->counters = hasher_digest(d.counters);
    ret->sequences = hasher_digest(d.sequences);
    ret->profiles = hasher_digest(d.profiles);
    hasher_free(d.counters);
    hasher_free(d.sequences);
    hasher_free(d.profiles);
    buf_done(&d.bytes);
    return r;
}

// ---- samples ----------------------------------------------------------------------------------------------

typedef void body_fn(void *context, const struct sample *sample, struct str segment, struct buf *to);

static void sample_put(const struct sample *sample, struct buf *to)
{
    buf_put_u64(to, sample->seq);
    buf_put_u64(to, sample->impression);
    buf_put_u64(to, (uint64_t)sample->impression_ts);
    buf_put_u64(to, (uint64_t)sample->emitted_ts);
    buf_put_u32(to, sample->labels);
    buf_put_u8(to, sample->corrected);
    buf_put_f32(to, sample->keep_rate);
    buf_put_u64(to, sample->watch_ms);
    for (unsigned a = 0; a < ACTION_MAX; a++)
        if (sample->labels >> a & 1)
            buf_put_u64(to, (uint64_t)sample->label_ts[a]);
    buf_put_u16(to, sample->partition);
}

// Retention deletes whole files, so somewhat more than samples_keep_ms is there; what is in the digest is decided
// by time alone.
static int64_t samples_from(const struct state *s)
{
    int64_t keep = (int64_t)s->options.samples_keep_ms;
    return keep > 0 && s->watermark > keep ? s->watermark - keep : INT64_MIN;
}

static void chunk_digest(const struct sample_chunk *chunk, int64_t from, body_fn *body, void *context,
                         struct buf *bytes, struct hasher *h)
{
    for (uint32_t i = 0; i < chunk->n; i++) {
        if (chunk->samples[i].emitted_ts < from)
            continue;
        buf_clear(bytes);
        sample_put(&chunk->samples[i], bytes);
        hasher_put(h, bytes->data, bytes->len);
        buf_clear(bytes);
        body(context, &chunk->samples[i], chunk->segments[i], bytes);
        uint32_t n = (uint32_t)bytes->len;
        hasher_put(h, &n, sizeof n);
        hasher_put(h, bytes->data, n);
    }
}

static int digest_samples(struct state *s, body_fn *body, void *context, struct digest *ret, struct err *err)
{
    struct hasher *h = hasher_new();
    struct buf bytes = {0};
    int r = 0;
    uint64_t seq = samples_begin(s->samples);
    while (seq < samples_end(s->samples) && r == 0) {
        struct sample_chunk *chunk = NULL;
        r = samples_read(s->samples, seq, SAMPLES_AT_ONCE, &chunk, err);
        if (r == 0 && chunk->n == 0)
            r = err_set(err, ERR_CORRUPT, "the sample log ends before its end");
        if (r == 0) {
            seq += chunk->n;
            chunk_digest(chunk, samples_from(s), body, context, &bytes, h);
        }
        samples_chunk_free(s->samples, chunk);
    }
    *ret = hasher_digest(h);
    hasher_free(h);
    buf_done(&bytes);
    return r;
}

int state_digest(struct state *s, body_fn *body, void *context, struct state_digests *ret_digests,
                 struct err *err)
{
    assert(s->magic == STATE_MAGIC);
    struct state_digests d = {0};
    if (digest_entities(s, &d, err) != 0 || digest_samples(s, body, context, &d.samples, err) != 0)
        return -1;
    struct hasher *h = hasher_new();
    joiner_digest(s->joiner, h);
    d.joiner = hasher_digest(h);
    hasher_free(h);
    *ret_digests = d;
    return 0;
}

// ---- figures ----------------------------------------------------------------------------------------------

static void commit_figures(const struct state *s, struct state_figures *f)
{
    struct committer *c = (struct committer *)&s->committer;
    f->commits = s->commits;
    f->commit_puts = s->commit_puts;
    f->commit_bytes = s->commit_bytes;
    pthread_mutex_lock(&c->lock);
    f->commit_us_last = c->us_last;
    f->commit_us_max = c->us_max;
    f->users_expired = c->removed[ENTITY_USER];
    f->items_expired = c->removed[ENTITY_ITEM];
    f->groups_expired = c->removed[ENTITY_GROUP];
    pthread_mutex_unlock(&c->lock);
}

const char *const state_family_names[STATE_FAMILIES] = {"users",  "items", "groups", "names",
                                                        "tables", "blobs", "log"};

static void family_figures(const struct state *s, struct state_figures *f)
{
    static const uint8_t families[STATE_FAMILIES][2] = {
        {KEY_USER, KEY_USER}, {KEY_ITEM, KEY_ITEM}, {KEY_GROUP, KEY_GROUP}, {KEY_NAME, KEY_GONE},
        {KEY_ROW, KEY_ROW},   {KEY_BLOB, KEY_BLOB}, {KEY_LOG, KEY_LOG},
    };
    for (int i = 0; i < STATE_FAMILIES; i++)
        f->family_bytes[i] = store_family_bytes(s->store, families[i][0], families[i][1]);
}

void state_figures(const struct state *s, struct state_figures *ret_figures)
{
    assert(s->magic == STATE_MAGIC);
    struct entities_figures e = {0};
    struct store_figures d = {0};
    struct samples_memory m;
    entities_figures(s->entities, &e);
    samples_memory(s->samples, &m);
    store_figures(s->store, &d);
    *ret_figures = (struct state_figures){
        .users_cached = e.users,
        .items_cached = e.items,
        .groups_cached = e.groups,
        .gone = e.gone,
        .gone_forgotten = e.gone_forgotten,
        .gone_bytes = e.gone_bytes,
        .cache_bytes = e.bytes,
        .cache_hits = e.hits,
        .cache_misses = e.misses,
        .evictions = e.evictions,
        .disk_written_bytes = d.written_bytes,
        .files = d.files,
        .disk_bytes = d.disk_bytes,
        .block_cache_used = d.block_cache_used,
        .dedupe_ids = dedupe_count(s->dedupe),
        .dedupe_bytes = dedupe_bytes(s->dedupe),
        .joiner_bytes = joiner_bytes(s->joiner),
        .body_bytes = m.cache_bytes + m.part_bytes,
        .dedupe_forgotten = dedupe_forgotten(s->dedupe),
        .body_hits = m.cache_hits,
        .body_misses = m.cache_misses,
        .body_evictions = m.cache_evictions,
        .block_hits = d.block_hits,
        .block_misses = d.block_misses,
        .samples_log_bytes = samples_log_bytes(s->samples),
        .samples_gone_by_age = samples_gone(s->samples)->by_age,
        .samples_gone_by_size = samples_gone(s->samples)->by_size,
        .samples_gone_unpublished = samples_gone(s->samples)->unpublished,
    };
    commit_figures(s, ret_figures);
    family_figures(s, ret_figures);
}
