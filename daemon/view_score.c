// SPDX-License-Identifier: Apache-2.0
// Predictions for the candidates of a request, and their order.
//
// A model may rank in two stages: heads of stage 1 are computed of every candidate, and order them; the best `keep` go on,
// and for these the heads of stage 2 are computed. Both are heads of one net, so blocks below them are shared and one
// training serves both; what only heads of the other stage need is not computed.
//
//     candidates   --heads of stage 1-->  by `rank.by`  --best keep, heads of stage 2-->  by `score`
//                                         the others stand behind, in the order of stage 1
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/fusion.h"
#include "daemon/views.h"

struct candidate {
    uint32_t at; // in the request
    uint32_t stage;
    double first, score;            // by what it is ordered, in stage 1 and 2
    double p[2 * CONFIG_HEADS_MAX]; // heads, then norms, as expressions name them
};

struct scoring {
    struct event event;
    struct event_item *items;
    struct entity **entities;
    uint32_t *item_at;
    struct buf body;
    float *p[CONFIG_HEADS_MAX],
        *part[CONFIG_HEADS_MAX]; // by head: of the request, and of those computed at once
    struct candidate *candidates;
};

static void scoring_done(struct scoring *s)
{
    free(s->items);
    free(s->entities);
    free(s->item_at);
    free(s->candidates);
    buf_done(&s->body);
    for (uint32_t h = 0; h < CONFIG_HEADS_MAX; h++) {
        free(s->p[h]);
        free(s->part[h]);
    }
}

// The request as the event that an impression of it would be; entities that are not known stay NULL.
static int scoring_read(struct engine *e, const struct view_request *r, struct scoring *s, struct err *err)
{
    struct feature_entities of = {0};
    uint32_t n = r->n_items;
    s->items = mem_array(n, sizeof *s->items);
    s->entities = mem_array(n, sizeof *s->entities);
    s->item_at = mem_array(n, sizeof *s->item_at);
    s->candidates = mem_array(n, sizeof *s->candidates);
    s->event = (struct event){.kind = EVENT_ACTION,
                              .ts = view_at(e, r->at),
                              .user = hash_id(r->user),
                              .user_text = r->user,
                              .n_items = n,
                              .items = s->items,
                              .n_fields = r->n_context,
                              .fields = r->context};
    for (uint32_t i = 0; i < n; i++) {
        s->items[i] = (struct event_item){.id = hash_id(r->items[i]), .text = r->items[i], .position = -1};
        if (state_entity(e->state, ENTITY_ITEM, 0, s->items[i].id, (struct str){0}, &s->entities[i], err) !=
            0)
            return -1;
    }
    if (state_user_find(e->state, s->event.user, ingest_partitions(e->ingest), &of.user, err) != 0 ||
        state_entity(e->state, ENTITY_USER, PROFILE_PARTITION, s->event.user, (struct str){0}, &of.profile,
                     err) != 0)
        return -1;
    of.items = s->entities;
    if (features_read(e->features, e->state, &s->event, &of, UINT32_MAX, &s->body, s->item_at) == 0)
        return 0;
    features_error(e->features, err);
    return -1;
}

// ---- predicting -------------------------------------------------------------------------------------------

// Heads of `stage` of the first n candidates; 0: all heads.
static int scoring_predict(struct engine *e, struct scoring *s, uint32_t n, uint32_t stage, struct err *err)
{
    const struct config_model *m = &e->config->model;
    const struct str segment = {(const char *)s->body.data, (uint32_t)s->body.len};
    struct feature_row row;
    bool heads[CONFIG_HEADS_MAX];
    if (e->columns == NULL)
        e->columns = columns_new(e->config);
    columns_clear(e->columns);
    for (uint32_t k = 0; k < n; k++) {
        if (features_decode(e->features, segment, 0, s->item_at[s->candidates[k].at], s->event.ts, &row) != 0)
            return err_set(err, ERR_INVALID, "the request's features do not decode");
        columns_put(e->columns, &row, s->event.ts, NULL, NULL);
        for (uint32_t i = 0; i < m->n_norms; i++)
            s->candidates[k].p[m->n_heads + i] = updater_norm(e->updater, m->norms[i], &row);
    }
    for (uint32_t h = 0; h < m->n_heads; h++)
        heads[h] = stage == 0 || m->heads[h].stage == stage;
    updater_predict(e->updater, columns_samples(e->columns), stage == 0 ? NULL : heads, s->part);
    for (uint32_t h = 0; h < m->n_heads; h++)
        for (uint32_t k = 0; k < n && heads[h]; k++)
            s->p[h][s->candidates[k].at] = s->part[h][k];
    return 0;
}

// p = a q / ((1 - q) + a q): the probability, where the share a of the negatives was kept in training.
static double scoring_calibrated(double q, double a)
{
    return a * q / ((1 - q) + a * q);
}

static bool head_seen(const struct engine *e, uint32_t head, uint32_t stage)
{
    return e->config->model.heads[head].stage <= stage;
}

// What the heads up to its stage say of a candidate; whether some of them was calibrated.
static bool scoring_heads(const struct engine *e, const struct scoring *s, struct candidate *c)
{
    const struct config *config = e->config;
    bool calibrated = false;
    for (uint32_t h = 0; h < config->model.n_heads; h++) {
        const double keep = config_keep(config, config->model.heads[h].label), q = (double)s->p[h][c->at];
        c->p[h] = !head_seen(e, h, c->stage) ? 0 : keep < 1 ? scoring_calibrated(q, keep) : q;
        calibrated |= keep < 1;
    }
    return calibrated;
}

// ---- order ------------------------------------------------------------------------------------------------

// The best first; what is no number last; the order of the request decides between equals.
static int by_number(double x, double y, const struct candidate *a, const struct candidate *b)
{
    const double left = isnan(x) ? -INFINITY : x, right = isnan(y) ? -INFINITY : y;
    if (left != right)
        return left > right ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

static int by_first(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return by_number(x->first, y->first, x, y);
}

static int by_score(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return by_number(x->score, y->score, x, y);
}

static int by_request(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

// What `stage` orders by: an expression, or the first of its heads.
static double scoring_value(const struct engine *e, const struct candidate *c, uint32_t stage)
{
    const struct config_model *m = &e->config->model;
    const struct fusion *f = stage == 1 && m->staged ? m->by : m->score;
    for (uint32_t h = 0; h < m->n_heads && f == NULL; h++)
        if (m->heads[h].stage == stage)
            return c->p[h];
    return f != NULL ? fusion_value(f, c->p) : 0;
}

static int scoring_stages(struct engine *e, struct scoring *s, struct err *err)
{
    const struct config_model *m = &e->config->model;
    const uint32_t n = s->event.n_items, keep = m->keep < n ? m->keep : n;
    if (scoring_predict(e, s, n, 1, err) != 0)
        return -1;
    for (uint32_t k = 0; k < n; k++) {
        struct candidate *c = &s->candidates[k];
        scoring_heads(e, s, c);
        c->first = scoring_value(e, c, 1);
    }
    qsort(s->candidates, n, sizeof *s->candidates, by_first);
    if (scoring_predict(e, s, keep, 2, err) != 0)
        return -1;
    for (uint32_t k = 0; k < keep; k++) {
        struct candidate *c = &s->candidates[k];
        c->stage = 2;
        scoring_heads(e, s, c);
        c->score = scoring_value(e, c, 2);
    }
    qsort(s->candidates, keep, sizeof *s->candidates, by_score);
    return 0;
}

static int scoring_run(struct engine *e, const struct view_request *r, struct scoring *s, struct err *err)
{
    const struct config_model *m = &e->config->model;
    for (uint32_t h = 0; h < m->n_heads; h++) {
        s->p[h] = mem_array(r->n_items, sizeof *s->p[h]);
        s->part[h] = mem_array(r->n_items, sizeof *s->part[h]);
    }
    for (uint32_t k = 0; k < r->n_items; k++)
        s->candidates[k] = (struct candidate){.at = k, .stage = 1};
    if (m->staged)
        return scoring_stages(e, s, err);
    if (scoring_predict(e, s, r->n_items, 0, err) != 0)
        return -1;
    for (uint32_t k = 0; k < r->n_items; k++) {
        scoring_heads(e, s, &s->candidates[k]);
        s->candidates[k].score = scoring_value(e, &s->candidates[k], 1);
    }
    qsort(s->candidates, r->n_items, sizeof *s->candidates, r->sort ? by_score : by_request);
    return 0;
}

// ---- the answer -------------------------------------------------------------------------------------------

static bool norm_read(const struct config_model *m, uint32_t norm)
{
    return (m->score != NULL && fusion_reads(m->score, m->n_heads + norm)) ||
           (m->by != NULL && fusion_reads(m->by, m->n_heads + norm));
}

// The fused score, by which candidates are ordered; the predictions by head; and where negatives are left out those
// before their calibration.
static void scoring_heads_json(const struct engine *e, const struct scoring *s, struct candidate *c,
                               struct json *j)
{
    const struct config_model *m = &e->config->model;
    const bool calibrated = scoring_heads(e, s, c);
    if (m->score != NULL && (!m->staged || c->stage == 2)) {
        json_key(j, "score");
        json_float(j, (float)c->score);
    }
    for (uint32_t h = 0; h < m->n_heads; h++) {
        if (!head_seen(e, h, c->stage))
            continue;
        json_key(j, m->heads[h].name);
        json_float(j, (float)c->p[h]);
    }
    for (uint32_t i = 0; i < m->n_norms; i++) {
        char name[CONFIG_NAME + sizeof "norm_"];
        if (!norm_read(m, i))
            continue;
        snprintf(name, sizeof name, "norm_%s", m->heads[m->norms[i]].name);
        json_key(j, name);
        json_float(j, (float)c->p[m->n_heads + i]);
    }
    if (!calibrated)
        return;
    json_key(j, "raw");
    json_object(j);
    for (uint32_t h = 0; h < m->n_heads; h++) {
        if (!head_seen(e, h, c->stage))
            continue;
        json_key(j, m->heads[h].name);
        json_float(j, s->p[h][c->at]);
    }
    json_end(j);
}

static void scoring_json(const struct engine *e, const struct scoring *s, bool ranked, struct json *j)
{
    json_object(j);
    json_key(j, "version");
    json_uint(j, updater_served(e->updater));
    json_key(j, "at");
    json_int(j, s->event.ts);
    json_key(j, "scores");
    json_array(j);
    for (uint32_t k = 0; k < s->event.n_items; k++) {
        struct candidate *c = &s->candidates[k];
        json_object(j);
        json_key(j, "item_id");
        json_str(j, s->items[c->at].text);
        if (ranked) {
            json_key(j, "rank");
            json_uint(j, k + 1);
            json_key(j, "stage");
            json_uint(j, c->stage);
        }
        scoring_heads_json(e, s, c, j);
        json_end(j);
    }
    json_end(j);
    json_end(j);
}

int view_score(struct engine *e, const struct view_request *request, struct json *j, struct err *err)
{
    if (request->n_items == 0 || request->n_items > VIEW_CANDIDATES_MAX)
        return err_set(err, ERR_LIMIT, "a request scores 1 to %d items, not %u", VIEW_CANDIDATES_MAX,
                       request->n_items);
    struct scoring s = {0};
    int result = scoring_read(e, request, &s, err);
    if (result == 0)
        result = scoring_run(e, request, &s, err);
    if (result == 0)
        scoring_json(e, &s, request->sort || e->config->model.staged, j);
    scoring_done(&s);
    return result;
}
