// SPDX-License-Identifier: Apache-2.0
// A metric is a row of the table below: either the place of one number in struct exposition, or a function
// that puts samples by label. Names follow Prometheus: base units, _total for counters, HELP and TYPE once.
// No label names a user or an item: what labels can be is bounded by the config.
//
// Cost of a scrape: some hundred small writes; the heads' AUC comes from the cache.
#include "daemon/prometheus.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/run.h"
#include "models/gemm.h"

// Everything that a scrape looks at, taken at once.
struct exposition {
    struct daemon *d;
    const struct prometheus_cache *cache;
    const struct metric *metric;
    struct buf *out;
    struct state_join_counts join;
    struct state_figures state;
    struct ingest_counts counts;
    struct version version;
    struct daemon_figures *figures;
    uint64_t samples_kept, samples_published, samples_unpublished;
    uint64_t outbox_waiting, updates_waiting, commits, commit_failures, published, problem, ready, caught_up,
        frozen, resident_bytes, memory_limit;
    double began_s, publish_age_s, servable_s, watermark_s, watermark_ahead_s;
};

enum metric_type { COUNTER, GAUGE, HISTOGRAM };
enum metric_number { BY_LABEL, WHOLE, REAL };

struct metric {
    const char *name;
    enum metric_type type;
    const char *help;
    enum metric_number number;
    size_t at;          // of the number in struct exposition
    const char *labels; // for the reference
    void (*put)(struct exposition *x);
};

// ---- samples ----------------------------------------------------------------------------------------------

static void put_label_value(struct buf *to, const char *s)
{
    for (; *s != '\0'; s++) {
        if (*s == '\\' || *s == '"')
            buf_put_u8(to, '\\');
        if (*s == '\n')
            buf_printf(to, "\\n");
        else
            buf_put_u8(to, (uint8_t)*s);
    }
}

static void put_number(struct buf *to, double v)
{
    if (isnan(v))
        buf_printf(to, " NaN\n");
    else if (isinf(v))
        buf_printf(to, v > 0 ? " +Inf\n" : " -Inf\n");
    else
        buf_printf(to, v == floor(v) && fabs(v) < 1e15 ? " %.0f\n" : " %.17g\n", v);
}

// Up to two labels; NULL ends them.
static void put_sample(struct exposition *x, const char *suffix, const char *name1, const char *value1,
                       const char *name2, const char *value2, double v)
{
    buf_printf(x->out, "%s%s", x->metric->name, suffix);
    if (name1 != NULL) {
        buf_printf(x->out, "{%s=\"", name1);
        put_label_value(x->out, value1);
        if (name2 != NULL) {
            buf_printf(x->out, "\",%s=\"", name2);
            put_label_value(x->out, value2);
        }
        buf_printf(x->out, "\"}");
    }
    put_number(x->out, v);
}

static void put_labelled(struct exposition *x, const char *name, const char *value, double v)
{
    put_sample(x, "", name, value, NULL, NULL, v);
}

static void put_latency(struct exposition *x, const struct latency *l)
{
    uint64_t sum = 0;
    char bound[32];
    for (int b = 0; b < DAEMON_LATENCY_BUCKETS; b++) {
        sum += l->buckets[b];
        snprintf(bound, sizeof bound, "%g", 1e-4 * (double)(1U << b));
        put_sample(x, "_bucket", "le", bound, NULL, NULL, (double)sum);
    }
    put_sample(x, "_bucket", "le", "+Inf", NULL, NULL, (double)l->count);
    put_sample(x, "_sum", NULL, NULL, NULL, NULL, l->sum_s);
    put_sample(x, "_count", NULL, NULL, NULL, NULL, (double)l->count);
}

// ---- by label ---------------------------------------------------------------------------------------------

static void put_build(struct exposition *x)
{
    char kernel[192];
    snprintf(kernel, sizeof kernel, "%s, %s", gemm_kernel(),
             packed_kernel_name(updater_kernel(x->d->engine->updater)));
    put_sample(x, "", "version", FRESHET_VERSION, "kernel", kernel, 1);
}

static void put_lag(struct exposition *x)
{
    const struct source *s = x->d->source;
    for (uint32_t i = 0; s != NULL && i < source_part_count(s); i++) {
        struct source_part_status status;
        char partition[16];
        source_part_status(s, i, &status);
        if (status.lag < 0)
            continue;
        snprintf(partition, sizeof partition, "%d", source_part(s, i)->partition);
        put_sample(x, "", "topic", source_part(s, i)->topic, "partition", partition, (double)status.lag);
    }
}

static void put_watermarks(struct exposition *x)
{
    struct daemon_part part;
    char number[16];
    for (uint32_t i = 0; daemon_part(x->d, i, &part); i++) {
        snprintf(number, sizeof number, "%d", part.partition);
        if (part.watermark != WATERMARK_NONE)
            put_sample(x, "", "topic", part.topic, "partition", number, (double)part.watermark / 1000);
    }
}

static void put_idle(struct exposition *x)
{
    struct daemon_part part;
    char number[16];
    for (uint32_t i = 0; daemon_part(x->d, i, &part); i++) {
        snprintf(number, sizeof number, "%d", part.partition);
        put_sample(x, "", "topic", part.topic, "partition", number, part.idle);
    }
}

static void put_events(struct exposition *x)
{
    for (uint32_t a = 0; a < x->d->config->n_actions; a++)
        put_labelled(x, "type", x->d->config->actions[a], (double)x->counts.events[a]);
}

static void put_profiles(struct exposition *x)
{
    put_labelled(x, "of", "user", (double)x->counts.users);
    put_labelled(x, "of", "item", (double)x->counts.items);
}

static void put_conflicts(struct exposition *x)
{
    put_labelled(x, "of", "user", (double)x->counts.profile_conflicts[0]);
    put_labelled(x, "of", "item", (double)x->counts.profile_conflicts[1]);
}

static void put_late(struct exposition *x)
{
    put_labelled(x, "kind", "impression", (double)x->counts.late_impressions);
    put_labelled(x, "kind", "feedback", (double)x->counts.late_feedback);
}

static void put_after_window(struct exposition *x)
{
    for (uint32_t a = ACTION_IMPRESSION + 1; a < x->d->config->n_actions; a++)
        put_labelled(x, "type", x->d->config->actions[a], (double)x->join.after_window[a]);
}

static void put_dlq(struct exposition *x)
{
    for (int reason = 1; reason < EVENT_BAD_COUNT; reason++)
        put_labelled(x, "reason", event_bad_name((enum event_bad)reason), (double)x->counts.dlq[reason]);
}

static void put_samples_gone(struct exposition *x)
{
    put_labelled(x, "by", "age", (double)x->state.samples_gone_by_age);
    put_labelled(x, "by", "size", (double)x->state.samples_gone_by_size);
}

static void put_samples_missed(struct exposition *x)
{
    uint64_t long_ones = x->d->samples != NULL ? samples_topic_oversize(x->d->samples) : 0;
    put_labelled(x, "by", "size", (double)x->state.samples_gone_unpublished);
    put_labelled(x, "by", "length", (double)long_ones);
}

static double metrics_member(const struct metrics_values *v, size_t at)
{
    double value;
    memcpy(&value, (const char *)v + at, sizeof value);
    return v->n > 0 ? value : (double)NAN;
}

static void put_heads(struct exposition *x, size_t at)
{
    const struct daemon_figures *f = x->figures;
    const struct daemon_update *last = &f->updates[(f->n_updates - 1) % DAEMON_UPDATES_SHOWN];
    for (uint32_t h = 0; h < x->d->config->model.n_heads; h++) {
        const char *head = x->d->config->model.heads[h].name;
        put_sample(x, "", "head", head, "over", "all", metrics_member(&x->cache->all[h], at));
        put_sample(x, "", "head", head, "over", "after_bootstrap",
                   metrics_member(&x->cache->after_bootstrap[h], at));
        if (f->n_updates > 0)
            put_sample(x, "", "head", head, "over", "window", metrics_member(&last->result.window[h], at));
    }
}

static void put_logloss(struct exposition *x)
{
    put_heads(x, offsetof(struct metrics_values, logloss));
}

static void put_auc(struct exposition *x)
{
    put_heads(x, offsetof(struct metrics_values, auc));
}

static void put_ne(struct exposition *x)
{
    put_heads(x, offsetof(struct metrics_values, ne));
}

static void put_calibration(struct exposition *x)
{
    put_heads(x, offsetof(struct metrics_values, calibration));
}

static void put_tables(struct exposition *x, double (*value)(const struct table *t))
{
    struct model *model = updater_model(x->d->engine->updater);
    for (uint32_t t = 0; t < model_table_count(model); t++) {
        const struct table *table = model_table(model, t);
        put_labelled(x, "table", table_options(table)->name, value(table));
    }
}

static double value_rows(const struct table *t)
{
    return (double)table_count(t);
}

static double value_admitted(const struct table *t)
{
    return (double)table_admitted_count(t);
}

static double value_capacity(const struct table *t)
{
    return (double)table_options(t)->rows;
}

static double value_bytes(const struct table *t)
{
    return (double)table_bytes(t);
}

static double value_budget(const struct table *t)
{
    return (double)table_budget_bytes(table_options(t));
}

static void put_table_rows(struct exposition *x)
{
    put_tables(x, value_rows);
}

static void put_table_admitted(struct exposition *x)
{
    put_tables(x, value_admitted);
}

static void put_table_capacity(struct exposition *x)
{
    put_tables(x, value_capacity);
}

static void put_table_bytes(struct exposition *x)
{
    put_tables(x, value_bytes);
}

static void put_table_budget(struct exposition *x)
{
    put_tables(x, value_budget);
}

static struct model_tower_figures tower_of(const struct exposition *x)
{
    struct model_tower_figures f;
    model_tower_figures(updater_model(x->d->engine->updater), &f);
    return f;
}

static void put_tower_entries(struct exposition *x)
{
    put_labelled(x, "of", "kept", (double)tower_of(x).entries);
    put_labelled(x, "of", "capacity", (double)tower_of(x).capacity);
}

static void put_tower_candidates(struct exposition *x)
{
    put_labelled(x, "found", "yes", (double)tower_of(x).hits);
    put_labelled(x, "found", "no", (double)tower_of(x).misses);
}

static void put_tower_changes(struct exposition *x)
{
    put_labelled(x, "by", "fill", (double)tower_of(x).fills);
    put_labelled(x, "by", "eviction", (double)tower_of(x).evictions);
}

static void put_cached(struct exposition *x)
{
    put_labelled(x, "of", "user", (double)x->state.users_cached);
    put_labelled(x, "of", "item", (double)x->state.items_cached);
    put_labelled(x, "of", "group", (double)x->state.groups_cached);
}

static void put_expired(struct exposition *x)
{
    put_labelled(x, "of", "user", (double)x->state.users_expired);
    put_labelled(x, "of", "item", (double)x->state.items_expired);
    put_labelled(x, "of", "group", (double)x->state.groups_expired);
}

static void put_families(struct exposition *x)
{
    for (int i = 0; i < STATE_FAMILIES; i++)
        put_labelled(x, "family", state_family_names[i], (double)x->state.family_bytes[i]);
}

static void put_memory_budget(struct exposition *x)
{
    for (int i = 0; i < BUDGET_FAMILIES; i++)
        put_labelled(x, "family", budget_families[i].name, (double)x->d->budget.most[i]);
}

static void put_memory_used(struct exposition *x)
{
    uint64_t used[BUDGET_FAMILIES];
    budget_used(x->d, used);
    for (int i = 0; i < BUDGET_FAMILIES; i++)
        if (!budget_families[i].fixed)
            put_labelled(x, "family", budget_families[i].name, (double)used[i]);
}

static void put_requests(struct exposition *x)
{
    char code[16];
    for (int c = 1; c <= 5; c++) {
        snprintf(code, sizeof code, "%dxx", c);
        put_labelled(x, "code", code, (double)x->figures->http_requests[c]);
    }
}

static void put_label_delay(struct exposition *x)
{
    const struct delay *delay = &x->d->engine->ingest->label_delay;
    uint64_t sum = 0;
    char bound[32];
    for (int b = 0; b < DELAY_BUCKETS; b++) {
        sum += delay->buckets[b];
        snprintf(bound, sizeof bound, "%u", delay_bounds_s[b]);
        put_sample(x, "_bucket", "le", bound, NULL, NULL, (double)sum);
    }
    put_sample(x, "_bucket", "le", "+Inf", NULL, NULL, (double)delay->count);
    put_sample(x, "_sum", NULL, NULL, NULL, NULL, delay->sum_s);
    put_sample(x, "_count", NULL, NULL, NULL, NULL, (double)delay->count);
}

static void put_update_latency(struct exposition *x)
{
    put_latency(x, &x->figures->update);
}

static void put_commit_latency(struct exposition *x)
{
    put_latency(x, &x->figures->commit);
}

static void put_request_latency(struct exposition *x)
{
    put_latency(x, &x->figures->request);
}

// ---- the table --------------------------------------------------------------------------------------------

#define AT_WHOLE(member) WHOLE, offsetof(struct exposition, member), NULL, NULL
#define AT_REAL(member) REAL, offsetof(struct exposition, member), NULL, NULL
#define BY(labels, put) BY_LABEL, 0, labels, put

static const struct metric metrics[] = {
    {"freshet_build_info", GAUGE, "Always 1; what runs here.", BY("version, kernel", put_build)},
    {"process_start_time_seconds", GAUGE, "When the daemon started, since the epoch.", AT_REAL(began_s)},
    {"process_resident_memory_bytes", GAUGE, "Resident memory.", AT_WHOLE(resident_bytes)},
    {"freshet_memory_limit_bytes", GAUGE,
     "What the budgets are checked against at the start: memory.limit, or what the machine or the control "
     "group has.",
     AT_WHOLE(memory_limit)},
    {"freshet_memory_budget_bytes", GAUGE,
     "What a family of memory takes at most; `freshet check` tells its keys.",
     BY("family", put_memory_budget)},
    {"freshet_memory_used_bytes", GAUGE, "What it takes now, where that is counted.",
     BY("family", put_memory_used)},
    {"freshet_ready", GAUGE, "1 when /readyz says so.", AT_WHOLE(ready)},
    {"freshet_caught_up", GAUGE, "1 once the end of every log was reached since the start.",
     AT_WHOLE(caught_up)},
    {"freshet_trouble", GAUGE, "1 while something needs the operator; /v1/status tells what.",
     AT_WHOLE(problem)},

    {"freshet_consumer_lag_messages", GAUGE, "Messages of a partition that are not read yet.",
     BY("topic, partition", put_lag)},
    {"freshet_messages_total", COUNTER, "Messages taken in.", AT_WHOLE(counts.messages)},
    {"freshet_events_total", COUNTER, "Accepted events; an impression message counts each of its items.",
     BY("type", put_events)},
    {"freshet_profiles_total", COUNTER, "Accepted profile upserts.", BY("of", put_profiles)},
    {"freshet_profiles_stale_total", COUNTER, "Upserts older than the profile that is kept.",
     AT_WHOLE(counts.profiles_stale)},
    {"freshet_profile_type_conflicts_total", COUNTER,
     "Values of profiles that are not of the type that the config declares; they read as missing.",
     BY("of", put_conflicts)},
    {"freshet_sequences_skipped_total", COUNTER,
     "Entries left out of a sequence, since their item lacked the attribute by which it keeps them.",
     AT_WHOLE(counts.sequences_skipped)},
    {"freshet_duplicates_total", COUNTER, "Messages dropped because their event_id was seen.",
     AT_WHOLE(counts.duplicates)},
    {"freshet_skipped_messages_total", COUNTER, "Lost by the broker and passed over by --offset-gone.",
     AT_WHOLE(counts.skipped)},
    {"freshet_late_events_total", COUNTER, "Events below the watermark.", BY("kind", put_late)},
    {"freshet_dlq_messages_total", COUNTER, "Messages that went to the DLQ.", BY("reason", put_dlq)},
    {"freshet_watermark_timestamp_seconds", GAUGE,
     "Event time up to which everything has come; NaN before the first.", AT_REAL(watermark_s)},
    {"freshet_watermark_ahead_seconds", GAUGE,
     "By how much the watermark is ahead of the clock: until then what comes on time is late. 0 if it is "
     "not.",
     AT_REAL(watermark_ahead_s)},
    {"freshet_partition_watermark_timestamp_seconds", GAUGE,
     "The same of a partition of the event topic; none before its first event.",
     BY("topic, partition", put_watermarks)},
    {"freshet_partition_idle", GAUGE, "1 while a partition does not hold the watermark back.",
     BY("topic, partition", put_idle)},
    {"freshet_dedupe_ids", GAUGE, "Remembered event_ids.", AT_WHOLE(state.dedupe_ids)},
    {"freshet_dedupe_bytes", GAUGE, "Memory of dedupe.", AT_WHOLE(state.dedupe_bytes)},
    {"freshet_dedupe_forgotten_total", COUNTER, "Ids forgotten before their time, at dedupe.max.",
     AT_WHOLE(state.dedupe_forgotten)},

    {"freshet_impressions_total", COUNTER, "Impressions that were to be joined.", AT_WHOLE(join.impressions)},
    {"freshet_lengths_missing_total", COUNTER,
     "Impressions for which the label completion is not defined: its length is missing, or not above 0.",
     AT_WHOLE(counts.lengths_missing)},
    {"freshet_feedback_joined_total", COUNTER, "Feedback that met an impression.", AT_WHOLE(join.joined)},
    {"freshet_feedback_orphans_total", COUNTER, "Feedback without an impression.", AT_WHOLE(join.orphans)},
    {"freshet_feedback_after_window_total", COUNTER,
     "Feedback whose impression is known, but that came after the window of its label.",
     BY("type", put_after_window)},
    {"freshet_feedback_held", GAUGE, "Feedback that waits for the watermark.", AT_WHOLE(join.held)},
    {"freshet_impressions_pending", GAUGE, "Impressions that wait for feedback.", AT_WHOLE(join.pending)},
    {"freshet_impressions_kept", GAUGE, "Impressions whose sample left and that labels may still correct.",
     AT_WHOLE(join.kept)},
    {"freshet_impressions_forgotten_early_total", COUNTER,
     "Impressions that were kept for corrections and forgotten early, at join.max_pending.",
     AT_WHOLE(join.forgotten_early)},
    {"freshet_impressions_left_early_total", COUNTER,
     "Impressions that left before their window ended, at "
     "join.max_pending.",
     AT_WHOLE(join.left_early)},
    {"freshet_feedback_settled_early_total", COUNTER,
     "Feedback that was settled before the watermark had passed it, since more waited than an eighth of "
     "join.max_pending (65,536 at least).",
     AT_WHOLE(join.settled_early)},
    {"freshet_late_labels_total", COUNTER, "Feedback after its sample had left.", AT_WHOLE(join.late_labels)},
    {"freshet_label_delay_seconds", HISTOGRAM,
     "From an impression to its label, in event time, of the samples that left since the start.",
     BY("le", put_label_delay)},
    {"freshet_samples_total", COUNTER, "Samples emitted, corrected ones included.", AT_WHOLE(join.samples)},
    {"freshet_samples_corrected_total", COUNTER, "Samples that replace an earlier one.",
     AT_WHOLE(join.corrected)},
    {"freshet_negatives_dropped_total", COUNTER, "Samples dropped by join.keep_negatives.",
     AT_WHOLE(join.negatives_dropped)},
    {"freshet_positives_thinned_total", COUNTER, "Samples dropped by join.thin_positives.",
     AT_WHOLE(join.positives_thinned)},
    {"freshet_samples_kept", GAUGE, "Samples in the log.", AT_WHOLE(samples_kept)},
    {"freshet_samples_bytes", GAUGE, "Bytes of the log before compression, bounded by state.samples_bytes.",
     AT_WHOLE(state.samples_log_bytes)},
    {"freshet_samples_gone_total", COUNTER, "Samples that retention let go of.", BY("by", put_samples_gone)},
    {"freshet_samples_published_total", COUNTER, "Samples delivered to the samples topic since the start.",
     AT_WHOLE(samples_published)},
    {"freshet_samples_unpublished", GAUGE, "Samples that the samples topic has not got yet.",
     AT_WHOLE(samples_unpublished)},
    {"freshet_samples_missed_total", COUNTER,
     "Samples that the samples topic never gets: gone at state.samples_bytes, or too long for a message.",
     BY("by", put_samples_missed)},
    {"freshet_joiner_bytes", GAUGE, "Memory of what waits to be joined.", AT_WHOLE(state.joiner_bytes)},

    {"freshet_training_examples_total", COUNTER, "Samples trained on.", AT_WHOLE(version.samples)},
    {"freshet_progressive_logloss", GAUGE, "Log loss of predictions made before training on the sample.",
     BY("head, over", put_logloss)},
    {"freshet_progressive_auc", GAUGE, "AUC of the same.", BY("head, over", put_auc)},
    {"freshet_progressive_normalized_entropy", GAUGE, "Log loss over the entropy of the base rate.",
     BY("head, over", put_ne)},
    {"freshet_progressive_calibration", GAUGE, "Sum of predictions over sum of labels.",
     BY("head, over", put_calibration)},
    {"freshet_updates_total", COUNTER, "Updates tried.", AT_WHOLE(version.updates)},
    {"freshet_updates_waiting", GAUGE, "Update windows that have ended and are not trained on yet.",
     AT_WHOLE(updates_waiting)},
    {"freshet_updates_stopped_total", COUNTER, "Updates stopped by a brake.", AT_WHOLE(version.stopped)},
    {"freshet_update_duration_seconds", HISTOGRAM, "From the begin of an update to its version being served.",
     BY("le", put_update_latency)},
    {"freshet_model_version", GAUGE, "Version that is served.", AT_WHOLE(version.version)},
    {"freshet_model_frozen", GAUGE, "1 once dense layers are frozen.", AT_WHOLE(frozen)},
    {"freshet_rows_put_total", COUNTER, "Rows that updates wrote.", AT_WHOLE(version.rows)},
    {"freshet_rows_expired_total", COUNTER, "Rows that updates removed.", AT_WHOLE(version.tombstones)},
    {"freshet_table_rows", GAUGE, "Rows of a table.", BY("table", put_table_rows)},
    {"freshet_table_admitted_rows", GAUGE, "Rows that have a vector.", BY("table", put_table_admitted)},
    {"freshet_table_capacity_rows", GAUGE, "Rows that a table can hold.", BY("table", put_table_capacity)},
    {"freshet_table_bytes", GAUGE, "Memory of the rows that are there.", BY("table", put_table_bytes)},
    {"freshet_table_capacity_bytes", GAUGE, "Memory of the full table.", BY("table", put_table_budget)},
    {"freshet_item_cache_entries", GAUGE, "Outputs of the item's side that are kept, and that can be.",
     BY("of", put_tower_entries)},
    {"freshet_item_cache_candidates_total", COUNTER,
     "Candidates whose output was there for the served version, or not.", BY("found", put_tower_candidates)},
    {"freshet_item_cache_changes_total", COUNTER,
     "Outputs computed for a new version before they were asked for, and those that others took the place "
     "of.",
     BY("by", put_tower_changes)},

    {"freshet_published_messages_total", COUNTER,
     "Messages delivered to delta and DLQ topics since the start.", AT_WHOLE(published)},
    {"freshet_outbox_waiting_messages", GAUGE, "Messages that wait for their delivery.",
     AT_WHOLE(outbox_waiting)},
    {"freshet_publish_age_seconds", GAUGE, "Since the last delivery; NaN before the first.",
     AT_REAL(publish_age_s)},
    {"freshet_servable_delay_seconds", GAUGE,
     "Age of the newest sample of the last update when it was served, by "
     "event time; NaN before the first.",
     AT_REAL(servable_s)},

    {"freshet_commits_total", COUNTER, "Commits since the start.", AT_WHOLE(commits)},
    {"freshet_commit_failures_total", COUNTER, "Commits that failed and are tried again.",
     AT_WHOLE(commit_failures)},
    {"freshet_commit_duration_seconds", HISTOGRAM, "From the hand-over to durable.",
     BY("le", put_commit_latency)},
    {"freshet_commit_puts_total", COUNTER, "Records handed to the store.", AT_WHOLE(state.commit_puts)},
    {"freshet_commit_bytes_total", COUNTER, "Bytes handed to the store.", AT_WHOLE(state.commit_bytes)},
    {"freshet_disk_written_bytes_total", COUNTER, "Bytes written by commits and compaction.",
     AT_WHOLE(state.disk_written_bytes)},
    {"freshet_disk_bytes", GAUGE, "Size of the store.", AT_WHOLE(state.disk_bytes)},
    {"freshet_disk_family_bytes", GAUGE, "About what each kind of record takes of it.",
     BY("family", put_families)},
    {"freshet_disk_files", GAUGE, "Files of the store.", AT_WHOLE(state.files)},
    {"freshet_expired_total", COUNTER,
     "Users and items removed from the store since they were not seen for long enough, and their groups.",
     BY("of", put_expired)},
    {"freshet_gone_items", GAUGE, "Tombstones of items that are remembered for sequences.",
     AT_WHOLE(state.gone)},
    {"freshet_gone_forgotten_total", COUNTER, "Tombstones that had to make room for later ones.",
     AT_WHOLE(state.gone_forgotten)},
    {"freshet_cache_entities", GAUGE, "Users, items and groups (counters by bucket) in memory.",
     BY("of", put_cached)},
    {"freshet_cache_bytes", GAUGE, "Memory of users, items and groups.", AT_WHOLE(state.cache_bytes)},
    {"freshet_cache_hits_total", COUNTER, "Users, items and groups found in memory.",
     AT_WHOLE(state.cache_hits)},
    {"freshet_cache_misses_total", COUNTER, "Users, items and groups looked for in the store.",
     AT_WHOLE(state.cache_misses)},
    {"freshet_cache_evictions_total", COUNTER, "Users, items and groups dropped from memory.",
     AT_WHOLE(state.evictions)},
    {"freshet_body_cache_bytes", GAUGE, "Memory of impressions' bodies.", AT_WHOLE(state.body_bytes)},
    {"freshet_body_cache_hits_total", COUNTER, "Segments of bodies found in memory.",
     AT_WHOLE(state.body_hits)},
    {"freshet_body_cache_misses_total", COUNTER, "Segments of bodies read from the store.",
     AT_WHOLE(state.body_misses)},
    {"freshet_body_cache_evictions_total", COUNTER, "Segments of bodies dropped from memory.",
     AT_WHOLE(state.body_evictions)},
    {"freshet_block_cache_hits_total", COUNTER, "Blocks of the store found in memory.",
     AT_WHOLE(state.block_hits)},
    {"freshet_block_cache_misses_total", COUNTER, "Blocks of the store read from disk.",
     AT_WHOLE(state.block_misses)},
    {"freshet_block_cache_bytes", GAUGE, "Memory of the store's block cache.",
     AT_WHOLE(state.block_cache_used)},

    {"freshet_http_requests_total", COUNTER, "Answered requests.", BY("code", put_requests)},
    {"freshet_http_request_duration_seconds", HISTOGRAM, "From the headers to the last byte of the answer.",
     BY("le", put_request_latency)},
};
static const size_t n_metrics = sizeof metrics / sizeof *metrics;
static const char *const type_names[] = {"counter", "gauge", "histogram"};

// ---- putting it together ----------------------------------------------------------------------------------

void prometheus_cache_fill(struct daemon *d, struct prometheus_cache *cache)
{
    uint64_t updates = updater_version(d->engine->updater)->updates;
    if (cache->filled && cache->updates == updates)
        return;
    for (uint32_t h = 0; h < d->config->model.n_heads; h++)
        updater_metrics(d->engine->updater, h, &cache->all[h], &cache->after_bootstrap[h]);
    cache->updates = updates;
    cache->filled = true;
}

uint64_t prometheus_resident_bytes(void)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%*u %llu", &pages) != 1)
        pages = 0;
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void exposition_times(struct exposition *x)
{
    const struct daemon *d = x->d;
    const struct daemon_figures *f = x->figures;
    int64_t watermark = d->engine->ingest->watermark.value;
    x->began_s = (double)d->began_ms / 1000;
    x->publish_age_s =
        f->publish_ms > 0 ? (double)(clock_now_ms(&d->clock) - f->publish_ms) / 1000 : (double)NAN;
    x->servable_s = f->n_updates > 0
                        ? (double)f->updates[(f->n_updates - 1) % DAEMON_UPDATES_SHOWN].servable_ms / 1000
                        : (double)NAN;
    x->watermark_s =
        watermark == WATERMARK_NONE || watermark == WATERMARK_END ? (double)NAN : (double)watermark / 1000;
    x->watermark_ahead_s = (double)daemon_ahead_ms(d) / 1000;
}

static void exposition_fill(struct exposition *x, struct daemon *d, struct buf *to)
{
    const char *why;
    *x = (struct exposition){.d = d, .out = to, .figures = &d->figures};
    state_join_counts(d->engine->state, &x->join);
    state_figures(d->engine->state, &x->state);
    x->counts = d->engine->ingest->counts;
    x->version = *updater_version(d->engine->updater);
    x->version.version = updater_served(d->engine->updater);
    x->outbox_waiting = state_outbox_end(d->engine->state) - state_outbox_begin(d->engine->state);
    x->updates_waiting = d->engine->ingest->n_marks;
    x->samples_kept = state_samples_end(d->engine->state) - state_samples_begin(d->engine->state);
    if (d->samples != NULL) {
        x->samples_published = samples_topic_published(d->samples);
        x->samples_unpublished = state_samples_end(d->engine->state) - d->engine->samples_mark.through;
    }
    x->commits = d->figures.commits;
    x->commit_failures = d->figures.commit_failures;
    x->published = d->figures.published;
    x->problem = d->problem.code != ERR_NONE;
    x->ready = daemon_ready(d, &why);
    x->caught_up = d->caught_up;
    x->frozen = model_frozen(updater_model(d->engine->updater));
    x->resident_bytes = prometheus_resident_bytes();
    x->memory_limit = d->budget.limit;
    exposition_times(x);
}

static double exposition_number(const struct exposition *x, const struct metric *m)
{
    uint64_t whole;
    double real;
    if (m->number == WHOLE) {
        memcpy(&whole, (const char *)x + m->at, sizeof whole);
        return (double)whole;
    }
    memcpy(&real, (const char *)x + m->at, sizeof real);
    return real;
}

void prometheus_put(struct daemon *d, struct prometheus_cache *cache, struct buf *to)
{
    struct exposition x;
    prometheus_cache_fill(d, cache);
    exposition_fill(&x, d, to);
    x.cache = cache;
    for (size_t i = 0; i < n_metrics; i++) {
        const struct metric *m = x.metric = &metrics[i];
        buf_printf(to, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, type_names[m->type]);
        if (m->number == BY_LABEL)
            m->put(&x);
        else
            put_sample(&x, "", NULL, NULL, NULL, NULL, exposition_number(&x, m));
    }
}

void prometheus_reference(struct buf *to)
{
    buf_printf(
        to, "<!-- SPDX-License-Identifier: Apache-2.0 -->\n# Metrics\n\n"
            "What `GET /metrics` tells, in the text format of Prometheus. This file is made from the table "
            "in `daemon/prometheus.c`, and a test compares them.\n\n"
            "`over` is `all` samples so far, those `after_bootstrap`, or the last update's `window`. "
            "Counters of events, samples and updates are kept in the state and go on after a restart; "
            "those of HTTP, commits and deliveries begin with the process.\n\n"
            "| Metric | Type | Labels | What it is |\n|---|---|---|---|\n");
    for (size_t i = 0; i < n_metrics; i++) {
        const struct metric *m = &metrics[i];
        buf_printf(to, "| `%s` | %s | %s | %s |\n", m->name, type_names[m->type],
                   m->labels != NULL ? m->labels : "", m->help);
    }
}
