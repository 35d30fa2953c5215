// SPDX-License-Identifier: Apache-2.0
// See ingest.h. Read ingest_event first: the whole path of an event is there.
#include "daemon/ingest.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/step.h"

enum {
    PROGRESS_FORMAT = 3, // 2: without the last of the counts
    DLQ_RAW_BYTES =
        900 << 10, // of a bad message: with its headers it must fit a producer's message.max.bytes
};

// ---- update windows ---------------------------------------------------------------------------------------

static void ingest_mark_put(struct ingest *in, uint64_t through)
{
    if (through > in->marked && in->window >= 0) {
        if (in->n_marks == in->cap_marks) {
            in->cap_marks = in->cap_marks > 0 ? 2 * in->cap_marks : INGEST_MARKS_MAX;
            in->marks = mem_resize(in->marks, in->cap_marks, sizeof *in->marks);
        }
        in->marks[in->n_marks++] =
            (struct ingest_mark){through, (in->window + 1) * in->config->update.every_ms};
    }
    in->marked = through;
}

// Each label once: a corrected sample repeats those of the sample before, and its own is what it left with.
static void ingest_label_delays(struct ingest *in, const struct sample *s)
{
    for (uint32_t left = s->labels; left != 0; left &= left - 1) {
        int64_t ts = s->label_ts[__builtin_ctz(left)];
        if (!s->corrected || ts == s->emitted_ts)
            delay_put(&in->label_delay, ts - s->impression_ts);
    }
}

// A sample leaves: the window it falls into is the open one, or it ends that.
static void ingest_on_sample(void *context, const struct sample *sample)
{
    struct ingest *in = context;
    int64_t window = sample->emitted_ts / in->config->update.every_ms;
    if (window > in->window) {
        ingest_mark_put(in, sample->seq);
        in->window = window;
    }
    ingest_label_delays(in, sample);
    if (in->on_sample != NULL)
        in->on_sample(in->on_sample_context, sample);
}

void ingest_advance(struct ingest *in)
{
    int64_t watermark = in->watermark.value;
    if (watermark == WATERMARK_NONE)
        return;
    state_advance(in->state, watermark, ingest_on_sample, in);
    int64_t window = watermark == WATERMARK_END ? INT64_MAX : watermark / in->config->update.every_ms;
    if (in->window >= 0 && window > in->window) {
        ingest_mark_put(in, state_samples_end(in->state));
        if (watermark != WATERMARK_END)
            in->window = window;
    }
}

void ingest_flush(struct ingest *in)
{
    watermark_flush(&in->watermark);
    ingest_advance(in);
}

void ingest_mark_done(struct ingest *in)
{
    assert(in->n_marks > 0);
    in->n_marks--;
    memmove(in->marks, in->marks + 1, in->n_marks * sizeof *in->marks);
    step_reached("update.marked");
}

// ---- events -----------------------------------------------------------------------------------------------

static void header_put(struct buf *to, const char *name, struct str value)
{
    buf_put_str(to, str_of(name));
    buf_put_str(to, value);
}

// To the DLQ, through the outbox: with the headers of Kafka Connect, which existing tools read.
static void ingest_bad(struct ingest *in, const struct ingest_part *part, const struct event *e)
{
    struct buf headers = {0};
    char number[32];
    char topic[300];
    char class[64];
    const char *from = part->topic;
    if (strncmp(from, INGEST_FILE_TOPIC, strlen(INGEST_FILE_TOPIC)) == 0)
        from += strlen(INGEST_FILE_TOPIC);
    header_put(&headers, "__connect.errors.topic", str_of(from));
    snprintf(number, sizeof number, "%d", part->partition);
    header_put(&headers, "__connect.errors.partition", str_of(number));
    snprintf(number, sizeof number, "%lld", (long long)e->offset);
    header_put(&headers, "__connect.errors.offset", str_of(number));
    header_put(&headers, "__connect.errors.stage", str_of("VALUE_CONVERTER"));
    snprintf(class, sizeof class, "freshet.%s", event_bad_name(e->bad));
    header_put(&headers, "__connect.errors.exception.class.name", str_of(class));
    header_put(&headers, "__connect.errors.exception.message", str_of(e->detail));
    snprintf(topic, sizeof topic, "%s%s", from, in->config->dlq_suffix);
    struct str raw = e->raw;
    uint64_t whole = e->cut_from > 0 ? e->cut_from : raw.len;
    if (raw.len > DLQ_RAW_BYTES)
        raw.len = DLQ_RAW_BYTES;
    if (raw.len < whole) {
        snprintf(number, sizeof number, "%llu", (unsigned long long)whole);
        header_put(&headers, "freshet.cut_from_bytes", str_of(number));
    }
    state_outbox_put(in->state, str_of(topic), e->key, raw, buf_str(&headers));
    buf_done(&headers);
    in->counts.dlq[e->bad]++;
}

// A user that a profile names is seen by it, in whichever partition his events are.
static int ingest_profile_seen(struct ingest *in, const struct event *e, struct err *err)
{
    for (uint32_t p = 0; p < in->n_parts; p++) {
        const struct ingest_part *part = &in->parts[p];
        struct entity *user;
        if (part->kind != DECODER_EVENTS)
            continue;
        if (state_entity(in->state, ENTITY_USER, (uint16_t)part->partition, e->user, (struct str){0}, &user,
                         err) != 0)
            return -1;
        if (user != NULL)
            state_touch(in->state, user, (uint16_t)part->partition, e->ts);
    }
    return 0;
}

static int ingest_profile(struct ingest *in, const struct event *e, struct err *err)
{
    bool user = e->kind == EVENT_USER_PROFILE;
    struct entity *entity;
    if (user && in->config->state.users_expire_ms > 0 && ingest_profile_seen(in, e, err) != 0)
        return -1;
    if (state_entity(in->state, user ? ENTITY_USER : ENTITY_ITEM, user ? PROFILE_PARTITION : 0,
                     user ? e->user : e->items[0].id, user ? e->user_text : e->items[0].text, &entity,
                     err) != 0)
        return -1;
    buf_clear(&in->scratch);
    profile_put(&in->scratch, e);
    in->counts.profile_conflicts[!user] += profile_conflicts(in->config, e);
    struct str record = {(const char *)in->scratch.data, (uint32_t)in->scratch.len};
    if (record.s == NULL && !e->tombstone)
        record.s = "";
    if (e->tombstone)
        record = (struct str){0};
    if (!state_profile_set(in->state, entity, e->ts, record))
        in->counts.profiles_stale++;
    else if (e->tombstone && !user)
        remember_gone(in->remember, e->items[0].id, e->ts);
    if (user)
        in->counts.users++;
    else
        in->counts.items++;
    return 0;
}

static int ingest_items(struct ingest *in, const struct event *e, struct err *err)
{
    for (uint32_t i = 0; i < e->n_items; i++)
        if (state_entity(in->state, ENTITY_ITEM, 0, e->items[i].id, e->items[i].text, &in->items[i], err) !=
            0)
            return -1;
    return 0;
}

// The features of every item as they stand before the message; then each item is counted and waits.
static int ingest_impression(struct ingest *in, const struct groups_of *of, struct err *err)
{
    const struct event *e = of->event;
    const struct feature_entities entities = {
        .user = of->user, .profile = of->profile, .items = of->items, .begun = true};
    uint32_t at;
    struct body_ref body;
    buf_clear(&in->scratch);
    state_body_begin(in->state, features_body_bound(in->features, e), &at);
    if (features_read(in->features, in->state, e, &entities, at, &in->scratch, in->item_at) != 0) {
        features_error(in->features, err);
        return -1;
    }
    in->counts.lengths_missing += features_lengths_missing(in->features, e, &entities);
    remember_fetch(in->remember, of, 1);
    state_body_append(in->state, in->scratch.data, (uint32_t)in->scratch.len, &body);
    for (uint32_t i = 0; i < e->n_items; i++) {
        struct state_impression impression = {.user = e->user,
                                              .item = e->items[i].id,
                                              .request = e->request,
                                              .ts = e->ts,
                                              .partition = of->partition,
                                              .body = body};
        impression.body.item_at += in->item_at[i];
        state_impression(in->state, &impression);
    }
    remember_fetch(in->remember, of, 2);
    return remember_impression(in->remember, of, err);
}

static int ingest_feedback(struct ingest *in, const struct groups_of *of, struct err *err)
{
    const struct event *e = of->event;
    uint32_t skipped;
    remember_fetch(in->remember, of, 1);
    state_feedback(in->state, &(struct state_feedback){.user = e->user,
                                                       .item = e->items[0].id,
                                                       .request = e->request,
                                                       .ts = e->ts,
                                                       .partition = of->partition,
                                                       .action = e->action,
                                                       .watch_ms = e->watch_ms});
    if (remember_feedback(in->remember, of, &skipped, err) != 0)
        return -1;
    in->counts.sequences_skipped += skipped;
    return 0;
}

static int ingest_action(struct ingest *in, uint32_t part, const struct event *e, struct err *err)
{
    remember_take(in->remember, e);
    if (e->event_id != 0 && in->config->dedupe.window_ms > 0 && state_seen(in->state, e->event_id, e->ts)) {
        in->counts.duplicates++;
        return 0;
    }
    uint16_t partition = (uint16_t)in->parts[part].partition;
    bool late = e->ts < in->watermark.value;
    struct groups_of of = {.event = e, .items = in->items, .partition = partition};
    if (state_entity(in->state, ENTITY_USER, partition, e->user, e->user_text, &of.user, err) != 0 ||
        ingest_items(in, e, err) != 0)
        return -1;
    if (in->use_profile && state_entity(in->state, ENTITY_USER, PROFILE_PARTITION, e->user, (struct str){0},
                                        &of.profile, err) != 0)
        return -1;
    if (of.profile != NULL && in->config->state.users_expire_ms > 0)
        state_touch(in->state, of.profile, PROFILE_PARTITION, e->ts); // it lives as long as its user
    remember_begin(in->remember, &of);
    if (e->action == ACTION_IMPRESSION) {
        if (ingest_impression(in, &of, err) != 0)
            return -1;
        in->counts.late_impressions += late ? e->n_items : 0;
    } else {
        if (ingest_feedback(in, &of, err) != 0)
            return -1;
        in->counts.late_feedback += late;
    }
    in->counts.events[e->action] += e->n_items;
    if (watermark_event(&in->watermark, part, e->ts) || late)
        ingest_advance(in);
    return 0;
}

int ingest_event(struct ingest *in, uint32_t part, const struct event *e, struct err *err)
{
    assert(part < in->n_parts);
    struct ingest_part *p = &in->parts[part];
    if (e->kind == EVENT_IDLE) {
        state_order(in->state, (uint16_t)part, 0);
        if (watermark_idle(&in->watermark, part))
            ingest_advance(in);
        return 0;
    }
    int result = 0;
    if (e->kind == EVENT_BAD)
        ingest_bad(in, p, e);
    else if (e->kind == EVENT_ACTION)
        result = ingest_action(in, part, e, err);
    else
        result = ingest_profile(in, e, err);
    if (result != 0)
        return result;
    state_order(in->state, (uint16_t)part, 1);
    p->next_offset = e->next_offset;
    in->counts.messages++;
    return 0;
}

// What an event counts under, and what an impression's features read.
static uint32_t ingest_measures(const struct ingest *in, const struct event *e)
{
    uint32_t counts = 1u << e->action | (uint32_t)(e->watch_ms > 0) << MEASURE_WATCH_MS;
    return e->action == ACTION_IMPRESSION ? counts | in->reads : counts;
}

void ingest_prefetch(const struct ingest *in, uint32_t part, const struct event *e)
{
    if (e->kind != EVENT_ACTION)
        return;
    uint16_t partition = (uint16_t)in->parts[part].partition;
    uint32_t measures = ingest_measures(in, e);
    if (e->event_id != 0)
        state_seen_prefetch(in->state, e->event_id);
    state_prefetch(in->state, ENTITY_USER, partition, e->user, measures);
    for (uint32_t i = 0; i < e->n_items; i++)
        state_prefetch(in->state, ENTITY_ITEM, 0, e->items[i].id, measures);
    remember_ahead(in->remember, e, partition, measures);
}

// ---- parts and progress -----------------------------------------------------------------------------------

uint32_t ingest_part(struct ingest *in, const char *topic, int32_t partition, enum decoder_kind kind)
{
    for (uint32_t i = 0; i < in->n_parts; i++)
        if (in->parts[i].partition == partition && strcmp(in->parts[i].topic, topic) == 0)
            return i;
    assert(in->n_parts < INGEST_PARTS_MAX);
    struct ingest_part *p = &in->parts[in->n_parts];
    *p = (struct ingest_part){.partition = partition, .kind = kind, .next_offset = SOURCE_OFFSET_START};
    snprintf(p->topic, sizeof p->topic, "%s", topic);
    in->watermark.n = in->n_parts + 1;
    watermark_counts(&in->watermark, in->n_parts, kind == DECODER_EVENTS);
    return in->n_parts++;
}

uint16_t ingest_partitions(const struct ingest *in)
{
    int32_t most = 0;
    for (uint32_t i = 0; i < in->n_parts; i++)
        if (in->parts[i].kind == DECODER_EVENTS && in->parts[i].partition >= most)
            most = in->parts[i].partition + 1;
    return (uint16_t)most;
}

void ingest_progress_put(const struct ingest *in, struct buf *to)
{
    buf_put_u32(to, PROGRESS_FORMAT);
    buf_put(to, &in->counts, sizeof in->counts);
    buf_put_u64(to, (uint64_t)in->watermark.value);
    buf_put_u64(to, (uint64_t)in->watermark.largest);
    buf_put_u64(to, (uint64_t)in->window);
    buf_put_u64(to, in->marked);
    buf_put_u32(to, in->n_marks);
    for (uint32_t i = 0; i < in->n_marks; i++) {
        buf_put_u64(to, in->marks[i].through);
        buf_put_u64(to, (uint64_t)in->marks[i].boundary_ms);
    }
    buf_put_u32(to, in->n_parts);
    for (uint32_t i = 0; i < in->n_parts; i++) {
        const struct ingest_part *p = &in->parts[i];
        buf_put_str(to, str_of(p->topic));
        buf_put_u32(to, (uint32_t)p->partition);
        buf_put_u8(to, (uint8_t)p->kind);
        buf_put_u64(to, (uint64_t)p->next_offset);
        watermark_part_put(&in->watermark, i, to);
    }
}

static int ingest_progress_get(struct ingest *in, struct str progress, struct err *err)
{
    struct rd r = rd_of(progress.s, progress.len);
    uint32_t format = rd_u32(&r);
    if (format != PROGRESS_FORMAT && format != PROGRESS_FORMAT - 1)
        return err_set(err, ERR_VERSION,
                       "the store's progress record is of another format than this freshet's");
    size_t size =
        format == PROGRESS_FORMAT ? sizeof in->counts : offsetof(struct ingest_counts, lengths_missing);
    const uint8_t *counts = rd_bytes(&r, size);
    if (counts != NULL)
        memcpy(&in->counts, counts, size);
    in->watermark.value = (int64_t)rd_u64(&r);
    in->watermark.largest = (int64_t)rd_u64(&r);
    in->window = (int64_t)rd_u64(&r);
    in->marked = rd_u64(&r);
    uint32_t n_marks = rd_u32(&r);
    for (uint32_t i = 0; i < n_marks && !r.bad; i++) {
        uint64_t through = rd_u64(&r);
        in->marks = mem_resize(in->marks, (size_t)i + 1, sizeof *in->marks);
        in->marks[i] = (struct ingest_mark){through, (int64_t)rd_u64(&r)};
        in->n_marks = in->cap_marks = i + 1;
    }
    uint32_t n_parts = rd_u32(&r);
    for (uint32_t i = 0; i < n_parts && !r.bad; i++) {
        char topic[250];
        struct str name = rd_str(&r);
        snprintf(topic, sizeof topic, "%.*s", (int)name.len, name.len > 0 ? name.s : "");
        int32_t partition = (int32_t)rd_u32(&r);
        uint8_t kind = rd_u8(&r);
        uint32_t part = ingest_part(in, topic, partition, (enum decoder_kind)kind);
        in->parts[part].next_offset = (int64_t)rd_u64(&r);
        watermark_part_get(&in->watermark, part, &r);
    }
    if (r.bad)
        return err_set(err, ERR_CORRUPT, "the store's progress record is cut short");
    return 0;
}

int ingest_new(const struct config *config, struct features *features, struct state *state,
               struct ingest **ret_ingest, struct err *err)
{
    struct ingest *in = mem_zalloc(sizeof *in);
    in->config = config;
    in->features = features;
    in->state = state;
    in->window = -1;
    in->use_profile = features_use_profile(features) || config->state.users_expire_ms > 0;
    in->reads = features_measures(features);
    in->remember = remember_new(config, features_groups(features), state);
    in->parts = mem_array(INGEST_PARTS_MAX, sizeof *in->parts);
    watermark_init(&in->watermark, INGEST_PARTS_MAX, config->time.out_of_order_ms);
    in->watermark.n = 0; // grows with ingest_part
    struct str progress = state_progress(state);
    if (progress.len > 0 && ingest_progress_get(in, progress, err) != 0) {
        ingest_free(in);
        return -1;
    }
    if (in->watermark.value != WATERMARK_NONE)
        state_advance(state, in->watermark.value, ingest_on_sample, in);
    *ret_ingest = in;
    return 0;
}

void ingest_free(struct ingest *in)
{
    if (in == NULL)
        return;
    remember_free(in->remember);
    watermark_done(&in->watermark);
    buf_done(&in->scratch);
    free(in->marks);
    free(in->parts);
    free(in);
}
