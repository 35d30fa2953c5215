// SPDX-License-Identifier: Apache-2.0
// GET /v1/status: all that an operator asks first, in one document.
#include <math.h>
#include <string.h>

#include "daemon/http_impl.h"

static void status_health(const struct daemon *d, struct json *j)
{
    const char *why;
    json_member_string(j, "freshet", FRESHET_VERSION);
    json_member_string(j, "kernel", packed_kernel_name(updater_kernel(d->engine->updater)));
    json_member_int(j, "now", clock_now_ms(&d->clock));
    json_member_int(j, "uptime_ms", clock_now_ms(&d->clock) - d->began_ms);
    json_key(j, "ready");
    json_bool(j, daemon_ready(d, &why));
    json_member_string(j, "waits_for", why);
    json_key(j, "training");
    json_bool(j, d->engine->ingest->n_marks > 0 || trainer_state(d->trainer) != TRAINER_IDLE);
    json_member_string(j, "problem", d->problem.code != ERR_NONE ? d->problem.message : NULL);
    json_key(j, "lag");
    if (daemon_lag(d) >= 0)
        json_int(j, daemon_lag(d));
    else
        json_null(j);
}

static void status_metrics(const struct http *h, struct json *j)
{
    const struct config *c = h->d->config;
    json_key(j, "metrics");
    json_object(j);
    for (uint32_t i = 0; i < c->model.n_heads; i++) {
        json_key(j, c->model.heads[i].name);
        metrics_values_json(&h->cache.all[i], j);
        json_key(j, "after_bootstrap");
        metrics_values_json(&h->cache.after_bootstrap[i], j);
        json_end(j);
        json_end(j);
    }
    json_end(j);
}

static void status_update(const struct config *c, const struct daemon_update *u, struct json *j)
{
    const struct update_result *r = &u->result;
    json_object(j);
    json_member_uint(j, "version", r->version);
    json_member_int(j, "boundary", r->boundary_ms);
    json_member_int(j, "applied", u->wall_ms);
    json_member_int(j, "duration_ms", u->duration_us / 1000);
    json_member_int(j, "servable_ms", u->servable_ms);
    json_member_uint(j, "samples", r->samples);
    json_member_uint(j, "rows", r->rows);
    json_member_uint(j, "tombstones", r->tombstones);
    json_member_string(j, "brake", r->brake != BRAKE_NONE ? update_brake_name(r->brake) : NULL);
    json_key(j, "frozen");
    json_bool(j, r->frozen);
    json_key(j, "heads");
    json_object(j);
    for (uint32_t i = 0; i < r->n_heads; i++) {
        json_key(j, c->model.heads[i].name);
        metrics_values_json(&r->window[i], j);
        json_key(j, "total"); // after this update
        json_object(j);
        json_member_uint(j, "samples", u->total_n[i]);
        json_member_double(j, "logloss", u->total_logloss[i]);
        json_end(j);
        json_end(j);
    }
    json_end(j);
    json_end(j);
}

// Newest first.
static void status_updates(const struct daemon *d, struct json *j)
{
    const struct daemon_figures *f = &d->figures;
    json_key(j, "newest_updates");
    json_array(j);
    for (uint64_t i = 0; i < f->n_updates && i < DAEMON_UPDATES_SHOWN; i++)
        status_update(d->config, &f->updates[(f->n_updates - 1 - i) % DAEMON_UPDATES_SHOWN], j);
    json_end(j);
}

static void status_tables(const struct daemon *d, struct json *j)
{
    struct model *model = updater_model(d->engine->updater);
    json_key(j, "tables");
    json_object(j);
    for (uint32_t t = 0; t < model_table_count(model); t++) {
        const struct table *table = model_table(model, t);
        json_key(j, table_options(table)->name);
        json_object(j);
        json_member_uint(j, "dim", table_options(table)->dim);
        json_member_uint(j, "rows", table_count(table));
        json_member_uint(j, "admitted", table_admitted_count(table));
        json_member_uint(j, "capacity", table_options(table)->rows);
        json_member_uint(j, "bytes", table_bytes(table));
        json_end(j);
    }
    json_end(j);
}

static void status_state(const struct daemon *d, struct json *j)
{
    struct state_figures f;
    state_figures(d->engine->state, &f);
    const struct {
        const char *key;
        uint64_t v;
    } members[] = {{"users_cached", f.users_cached},
                   {"items_cached", f.items_cached},
                   {"cache_bytes", f.cache_bytes},
                   {"cache_hits", f.cache_hits},
                   {"cache_misses", f.cache_misses},
                   {"evictions", f.evictions},
                   {"commits", f.commits},
                   {"commit_us_last", f.commit_us_last},
                   {"commit_us_max", f.commit_us_max},
                   {"disk_bytes", f.disk_bytes},
                   {"disk_written_bytes", f.disk_written_bytes},
                   {"files", f.files},
                   {"dedupe_ids", f.dedupe_ids},
                   {"dedupe_bytes", f.dedupe_bytes},
                   {"joiner_bytes", f.joiner_bytes},
                   {"body_bytes", f.body_bytes}};
    json_key(j, "state");
    json_object(j);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        json_member_uint(j, members[i].key, members[i].v);
    json_member_uint(j, "commit_failures", d->figures.commit_failures);
    json_end(j);
}

static void status_memory(const struct daemon *d, struct json *j)
{
    uint64_t used[BUDGET_FAMILIES];
    budget_used(d, used);
    json_key(j, "memory");
    json_object(j);
    json_member_uint(j, "limit", d->budget.limit);
    json_member_uint(j, "budget", d->budget.sum);
    json_member_uint(j, "resident", prometheus_resident_bytes());
    json_key(j, "families");
    json_object(j);
    for (int i = 0; i < BUDGET_FAMILIES; i++) {
        json_key(j, budget_families[i].name);
        json_object(j);
        json_member_uint(j, "budget", d->budget.most[i]);
        if (!budget_families[i].fixed)
            json_member_uint(j, "used", used[i]);
        json_end(j);
    }
    json_end(j);
    json_end(j);
}

static void status_publish(const struct daemon *d, struct json *j)
{
    const struct state *s = d->engine->state;
    json_key(j, "publish");
    json_object(j);
    json_member_string(j, "topic", d->config->publish.enabled ? d->config->publish.topic : NULL);
    json_member_uint(j, "published", d->figures.published);
    json_member_uint(j, "waiting", state_outbox_end(s) - state_outbox_begin(s));
    json_key(j, "last");
    if (d->figures.publish_ms > 0)
        json_int(j, d->figures.publish_ms);
    else
        json_null(j);
    json_end(j);
}

static void status_samples(const struct daemon *d, struct json *j)
{
    const struct state *s = d->engine->state;
    const struct samples_mark *mark = &d->engine->samples_mark;
    struct state_figures f;
    state_figures(s, &f);
    json_key(j, "sample_log");
    json_object(j);
    json_member_uint(j, "begin", state_samples_begin(s));
    json_member_uint(j, "end", state_samples_end(s));
    json_member_uint(j, "bytes", f.samples_log_bytes);
    json_member_uint(j, "gone_by_age", f.samples_gone_by_age);
    json_member_uint(j, "gone_by_size", f.samples_gone_by_size);
    json_member_uint(j, "gone_unpublished", f.samples_gone_unpublished);
    json_member_string(j, "topic", mark->active ? d->config->publish.samples_topic : NULL);
    if (mark->active)
        json_member_uint(j, "published_through", mark->through);
    json_end(j);
}

static void status_latency(struct json *j, const char *key, const struct latency *l)
{
    json_key(j, key);
    json_object(j);
    json_member_uint(j, "count", l->count);
    json_member_double(j, "p50_s", latency_quantile(l, 0.5));
    json_member_double(j, "p99_s", latency_quantile(l, 0.99));
    json_end(j);
}

static void status_times(const struct daemon *d, struct json *j)
{
    const struct delay *delay = &d->engine->ingest->label_delay;
    json_key(j, "label_delay");
    json_object(j);
    json_member_uint(j, "count", delay->count);
    json_member_double(j, "mean_s", delay->count > 0 ? delay->sum_s / (double)delay->count : (double)NAN);
    json_member_double(j, "p50_s", delay_quantile(delay, 0.5));
    json_member_double(j, "p99_s", delay_quantile(delay, 0.99));
    json_end(j);
    json_key(j, "latency");
    json_object(j);
    status_latency(j, "commit", &d->figures.commit);
    status_latency(j, "update", &d->figures.update);
    status_latency(j, "request", &d->figures.request);
    json_end(j);
    json_member_uint(j, "resident_bytes", prometheus_resident_bytes());
    json_member_uint(j, "taps", d->n_taps);
}

static void member_ts(struct json *j, const char *key, int64_t v, int64_t none)
{
    json_key(j, key);
    if (v == none)
        json_null(j);
    else
        json_int(j, v);
}

// Where each partition stands, and which hold the watermark back.
static void status_partitions(const struct daemon *d, struct json *j)
{
    struct daemon_part part;
    json_key(j, "partitions");
    json_array(j);
    for (uint32_t i = 0; daemon_part(d, i, &part); i++) {
        json_object(j);
        json_member_string(j, "topic", part.topic);
        json_member_int(j, "partition", part.partition);
        member_ts(j, "offset", part.next_offset, SOURCE_OFFSET_START);
        member_ts(j, "lag", part.lag, -1);
        member_ts(j, "watermark", part.watermark, WATERMARK_NONE);
        json_key(j, "idle");
        json_bool(j, part.idle);
        json_key(j, "stopped");
        json_bool(j, part.stopped);
        json_end(j);
    }
    json_end(j);
    json_member_int(j, "ahead_ms", daemon_ahead_ms(d));
}

void http_status_json(struct http *h, struct json *j)
{
    struct daemon *d = h->d;
    prometheus_cache_fill(d, &h->cache);
    json_object(j);
    status_health(d, j);
    engine_counts_json(d->engine, j);
    status_metrics(h, j);
    status_updates(d, j);
    status_tables(d, j);
    status_state(d, j);
    status_memory(d, j);
    status_publish(d, j);
    status_samples(d, j);
    status_times(d, j);
    json_key(j, "offsets");
    engine_offsets_json(d->engine, j);
    status_partitions(d, j);
    json_end(j);
}
