// SPDX-License-Identifier: Apache-2.0
#include "daemon/engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/step.h"
#include "daemon/budget.h"

enum {
    OUTBOX_HEADERS_MAX = 16,
    GONE_MAX = 1000000, // tombstones of items that are remembered for sequences
};

void engine_state_options(const struct config *config, struct state_options *ret_options)
{
    *ret_options = (struct state_options){.n_windows = config->n_windows,
                                          .join = config->join,
                                          .out_of_order_ms = config->time.out_of_order_ms,
                                          .dedupe_window_ms = config->dedupe.window_ms,
                                          .dedupe_max = config->dedupe.max,
                                          .cache_bytes = config->state.cache_bytes,
                                          .body_cache_bytes = config->state.body_cache_bytes,
                                          .block_cache_bytes = config->state.block_cache_bytes,
                                          .samples_keep_ms = (uint64_t)config->state.samples_keep_ms,
                                          .samples_keep_bytes = config->state.samples_bytes};
    memcpy(ret_options->windows, config->windows, sizeof ret_options->windows);
    ret_options->totals = config->totals;
    ret_options->layout = config->layout;
    ret_options->user_expire_ms = config->state.users_expire_ms;
    ret_options->item_expire_ms = config->state.items_expire_ms;
    for (uint32_t i = 0; i < config->n_sequences; i++) {
        const struct config_sequence *c = &config->sequences[i];
        if (c->name[0] != '\0')
            ret_options->sequences[i] =
                (struct state_sequence_options){.last = c->last,
                                                .with = c->with,
                                                .unique = c->unique,
                                                .gone = c->gone && !c->keeps_attribute};
        if (ret_options->sequences[i].gone)
            ret_options->gone_max = GONE_MAX;
    }
}

// The state is as right as before, but not what a run with one kernel alone would have made, byte by byte.
static void engine_kernel_tell(const struct engine *e)
{
    const struct version *v = updater_version(e->updater);
    const enum packed_kernel is = updater_kernel(e->updater);
    if (v->version > 0 && v->kernel != is)
        log_info(
            "another kernel makes the versions from now on: their bytes are not those of a run by one alone",
            "was=%s is=%s", packed_kernel_word((enum packed_kernel)v->kernel), packed_kernel_word(is));
}

static int engine_build(struct engine *e, const struct engine_options *options, struct err *err)
{
    struct state_options state_options;
    engine_state_options(e->config, &state_options);
    state_options.read_only = options->read_only;
    state_options.fail_if_absent = options->fail_if_absent;
    state_options.turn = options->turn;
    state_options.turn_context = options->turn_context;
    e->features = features_new(e->config);
    sample_columns_init(&e->sample_columns, e->config);
    const char *dir = options->dir != NULL ? options->dir : e->config->state.dir;
    if (state_open(dir, &state_options, &e->state, err) != 0)
        return -1;
    if (updater_new(e->config, e->features, e->state, options->publish, &e->updater, err) != 0)
        return err_context(err, "the state in %s", dir);
    if (!options->read_only)
        engine_kernel_tell(e);
    e->outbox_sent = state_outbox_begin(e->state);
    if (ingest_new(e->config, e->features, e->state, &e->ingest, err) != 0)
        return -1;
    updater_partitions(e->updater, ingest_partitions(e->ingest));
    return samples_mark_load(e, options->read_only, err);
}

int engine_open(const struct config *config, const struct engine_options *options, struct engine **ret_engine,
                struct err *err)
{
    struct engine *e = mem_zalloc(sizeof *e);
    e->config = config;
    e->commit_bytes = budget_commit_bytes(config);
    if (engine_build(e, options, err) != 0) {
        engine_close(e);
        return -1;
    }
    *ret_engine = e;
    return 0;
}

void engine_close(struct engine *e)
{
    if (e == NULL)
        return;
    ingest_free(e->ingest);
    updater_free(e->updater);
    columns_free(e->columns);
    state_close(e->state);
    sample_columns_done(&e->sample_columns);
    features_free(e->features);
    buf_done(&e->progress);
    free(e);
}

bool engine_commit_due(const struct engine *e)
{
    return e->dirty_events >= e->config->state.commit_events ||
           (e->dirty_events > 0 && state_dirty_bytes(e->state) >= e->commit_bytes);
}

int engine_commit(struct engine *e, uint64_t *ret_ticket, struct err *err)
{
    ingest_advance(e->ingest); // as an open does: what is known does not depend
                               // on when it is closed
    updater_partitions(e->updater, ingest_partitions(e->ingest));
    updater_commit(e->updater);
    buf_clear(&e->progress);
    ingest_progress_put(e->ingest, &e->progress);
    e->dirty_events = 0;
    samples_mark_put(e);
    if (state_commit(e->state, buf_str(&e->progress), ret_ticket, err) != 0)
        return -1;
    if (e->samples_mark.ticket == UINT64_MAX)
        e->samples_mark.ticket = *ret_ticket;
    return 0;
}

int engine_commit_wait(struct engine *e, struct err *err)
{
    uint64_t ticket;
    return engine_commit(e, &ticket, err) == 0 ? state_commit_wait(e->state, err) : -1;
}

// ---- outbox
// -----------------------------------------------------------------------------------------------

static int outbox_send(struct sink *sink, const struct outbox_entry *entry, struct err *err)
{
    struct sink_header headers[OUTBOX_HEADERS_MAX];
    char topic[300];
    uint32_t n = 0;
    struct rd r = rd_of(entry->headers.s, entry->headers.len);
    while (rd_left(&r) > 0 && n < OUTBOX_HEADERS_MAX) {
        headers[n].name = rd_str(&r);
        headers[n++].value = rd_str(&r);
    }
    snprintf(topic, sizeof topic, "%.*s", (int)entry->topic.len, entry->topic.s);
    struct sink_message message = {.topic = topic,
                                   .partition = -1,
                                   .key = entry->key,
                                   .value = entry->value,
                                   .headers = headers,
                                   .n_headers = n,
                                   .sequence = entry->sequence};
    return sink_send(sink, &message, err);
}

int engine_outbox(struct engine *e, struct sink *sink, struct err *err)
{
    struct outbox_entry entry;
    if (sink == NULL) {
        state_outbox_delivered(e->state, state_outbox_end(e->state));
        return 0;
    }
    if (sink_reset(sink))
        e->outbox_sent = state_outbox_begin(e->state);
    struct err none = {0};
    while (state_outbox_next(e->state, e->outbox_sent, &entry, &none)) {
        step_reached("outbox.send");
        if (outbox_send(sink, &entry, err) != 0) {
            if (err->retriable) // the sink is full: the rest goes when reports have
                                // come
                break;
            return -1;
        }
        e->outbox_sent = entry.sequence;
        step_reached("outbox.sent");
    }
    if (none.code != ERR_NONE) {
        *err = none;
        return -1;
    }
    uint64_t delivered = sink_poll(sink);
    if (delivered > state_outbox_begin(e->state)) {
        step_reached("outbox.reported");
        state_outbox_delivered(e->state, delivered);
        step_reached("outbox.delivered");
    }
    return 0;
}

// ---- JSON
// -------------------------------------------------------------------------------------------------

static void digest_json(struct json *j, const char *key, struct digest d)
{
    char text[DIGEST_TEXT];
    digest_text(d, text);
    json_key(j, key);
    json_string(j, text);
}

void engine_offsets_json(const struct engine *e, struct json *j)
{
    json_object(j);
    for (uint32_t i = 0; i < e->ingest->n_parts; i++) {
        const struct ingest_part *p = &e->ingest->parts[i];
        bool first = true;
        for (uint32_t k = 0; k < i; k++)
            first &= strcmp(e->ingest->parts[k].topic, p->topic) != 0;
        if (!first)
            continue;
        json_key(j, p->topic);
        json_object(j);
        for (uint32_t k = i; k < e->ingest->n_parts; k++) {
            const struct ingest_part *q = &e->ingest->parts[k];
            if (strcmp(q->topic, p->topic) != 0)
                continue;
            char number[16];
            snprintf(number, sizeof number, "%d", q->partition);
            json_key(j, number);
            json_int(j, q->next_offset == SOURCE_OFFSET_START ? 0 : q->next_offset);
        }
        json_end(j);
    }
    json_end(j);
}

int engine_digest_json(struct engine *e, struct json *j, struct err *err)
{
    struct state_digests d;
    if (state_digest(e->state, features_canonical, e->features, &d, err) != 0)
        return -1;
    digest_json(j, "counters", d.counters);
    digest_json(j, "sequences", d.sequences);
    digest_json(j, "joiner", d.joiner);
    digest_json(j, "samples", d.samples);
    digest_json(j, "profiles", d.profiles);
    struct model *model = updater_model(e->updater);
    json_key(j, "tables");
    json_object(j);
    for (uint32_t t = 0; t < model_table_count(model); t++)
        digest_json(j, e->config->tables[t].name, table_digest(model_table(model, t)));
    json_end(j);
    json_key(j, "optimizer");
    json_object(j);
    for (uint32_t t = 0; t < model_table_count(model); t++)
        digest_json(j, e->config->tables[t].name, table_digest_full(model_table(model, t)));
    json_end(j);
    json_key(j, "dense");
    json_object(j);
    digest_json(j, e->config->model.name, model_dense_digest(model));
    json_end(j);
    struct buf learned = {0};
    updater_learned(e->updater, &learned);
    digest_json(j, "learned", digest_bytes(learned.data, learned.len));
    buf_done(&learned);
    json_key(j, "version");
    json_uint(j, updater_served(e->updater));
    json_key(j, "kernel");
    json_string(j, packed_kernel_word((enum packed_kernel)updater_version(e->updater)->kernel));
    json_key(j, "offsets");
    engine_offsets_json(e, j);
    return 0;
}

void metrics_values_json(const struct metrics_values *v, struct json *j)
{
    json_object(j);
    json_key(j, "samples");
    json_uint(j, v->n);
    json_key(j, "auc");
    json_double(j, v->auc);
    json_key(j, "logloss");
    json_double(j, v->n > 0 ? v->logloss : (double)NAN);
    json_key(j, "ne");
    json_double(j, v->ne);
    json_key(j, "calibration");
    json_double(j, v->calibration);
    json_key(j, "base_rate");
    json_double(j, v->n > 0 ? v->base_rate : (double)NAN);
}

void engine_metrics_json(const struct engine *e, struct json *j)
{
    json_object(j);
    for (uint32_t h = 0; h < e->config->model.n_heads; h++) {
        struct metrics_values all;
        struct metrics_values after;
        updater_metrics(e->updater, h, &all, &after);
        json_key(j, e->config->model.heads[h].name);
        metrics_values_json(&all, j);
        json_key(j, "after_bootstrap");
        metrics_values_json(&after, j);
        json_end(j);
        json_end(j);
    }
    json_end(j);
}

static void counts_events_json(const struct engine *e, struct json *j)
{
    const struct ingest_counts *c = &e->ingest->counts;
    json_object(j);
    for (uint32_t a = 0; a < e->config->n_actions; a++)
        if (c->events[a] > 0) {
            json_key(j, e->config->actions[a]);
            json_uint(j, c->events[a]);
        }
    if (c->users > 0) {
        json_key(j, "user_profile");
        json_uint(j, c->users);
    }
    if (c->items > 0) {
        json_key(j, "item_profile");
        json_uint(j, c->items);
    }
    json_end(j);
}

// Feedback after its window: all, and by action.
static void counts_after_json(const struct config *config, const struct state_join_counts *join,
                              struct json *j)
{
    uint64_t sum = 0;
    for (uint32_t a = 0; a < config->n_actions; a++)
        sum += join->after_window[a];
    json_member_uint(j, "after_window", sum);
    json_key(j, "after_window_by");
    json_object(j);
    for (uint32_t a = 0; a < config->n_actions; a++)
        if (join->after_window[a] > 0)
            json_member_uint(j, config->actions[a], join->after_window[a]);
    json_end(j);
}

void engine_counts_json(const struct engine *e, struct json *j)
{
    const struct ingest_counts *c = &e->ingest->counts;
    struct state_join_counts join;
    state_join_counts(e->state, &join);
    json_key(j, "events");
    counts_events_json(e, j);
    json_member_uint(j, "messages", c->messages);
    json_member_uint(j, "duplicates", c->duplicates);
    json_member_uint(j, "skipped", c->skipped);
    json_key(j, "profile_conflicts");
    json_object(j);
    json_member_uint(j, "user", c->profile_conflicts[0]);
    json_member_uint(j, "item", c->profile_conflicts[1]);
    json_end(j);
    json_member_uint(j, "sequences_skipped", c->sequences_skipped);
    json_member_uint(j, "lengths_missing", c->lengths_missing);
    json_member_uint(j, "late", c->late_impressions + c->late_feedback);
    json_key(j, "late_by");
    json_object(j);
    json_member_uint(j, "impression", c->late_impressions);
    json_member_uint(j, "feedback", c->late_feedback);
    json_end(j);
    json_key(j, "dlq");
    json_object(j);
    for (int reason = 1; reason < EVENT_BAD_COUNT; reason++)
        if (c->dlq[reason] > 0)
            json_member_uint(j, event_bad_name((enum event_bad)reason), c->dlq[reason]);
    json_end(j);
    json_member_uint(j, "joined", join.joined);
    json_member_uint(j, "orphans", join.orphans);
    counts_after_json(e->config, &join, j);
    json_member_uint(j, "pending", join.pending);
    json_member_uint(j, "kept", join.kept);
    json_member_uint(j, "samples", join.samples);
    json_member_uint(j, "corrected", join.corrected);
    json_member_uint(j, "left_early", join.left_early);
    json_member_uint(j, "forgotten_early", join.forgotten_early);
    json_member_uint(j, "settled_early", join.settled_early);
    json_member_uint(j, "late_labels", join.late_labels);
    json_member_uint(j, "negatives_dropped", join.negatives_dropped);
    json_member_uint(j, "positives_thinned", join.positives_thinned);
    const struct version *v = updater_version(e->updater);
    json_member_uint(j, "updates", v->updates);
    json_member_uint(j, "updates_stopped", v->stopped);
    json_member_uint(j, "updates_waiting", e->ingest->n_marks);
    json_member_uint(j, "version", updater_served(e->updater));
    json_key(j, "watermark");
    int64_t watermark = e->ingest->watermark.value;
    if (watermark == WATERMARK_NONE || watermark == WATERMARK_END)
        json_string(j, watermark == WATERMARK_NONE ? NULL : "end");
    else
        json_int(j, watermark);
    json_key(j, "at");
    if (e->ingest->watermark.largest == WATERMARK_NONE)
        json_null(j);
    else
        json_int(j, e->ingest->watermark.largest);
}
