// SPDX-License-Identifier: Apache-2.0
// See simulator.h. Feedback that a request will bring waits in a heap by time; the next event is the earlier
// of the heap's top and the next request.
#include "daemon/simulator.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"

static const double BIAS = -1.7;
static const double USER_SPREAD = 0.8;
static const double QUALITY_SPREAD = 0.7;
static const double QUALITY_SWING = 1.0;
static const double TASTE = 0.45;
static const double HOUR_MS = 3600000.0;
static const double TURN = 6.283185307179586;

struct sim_user {
    double affinity, theta;
};

struct sim_item {
    uint64_t number;
    double quality, swing_phase, swing_speed, theta, turn_speed; // speeds: radians an hour
    int64_t born_ms, dies_ms;
};

struct sim_feedback {
    int64_t ts;
    uint64_t order;
    uint32_t user;
    uint64_t item, request;
    const char *type;
    uint64_t watch_ms;
};

struct simulator {
    struct simulator_options options;
    struct rng rng;
    struct sim_user *users;
    struct sim_item *items;
    uint64_t n_items_born, n_requests, n_feedback;
    uint32_t n_fresh; // users beyond options.users
    double next_request_ms;
    struct sim_feedback *heap;
    uint32_t n_heap, cap_heap;
};

// ---- heap by (ts, order) ----------------------------------------------------------------------------------

static bool feedback_before(const struct sim_feedback *a, const struct sim_feedback *b)
{
    return a->ts != b->ts ? a->ts < b->ts : a->order < b->order;
}

static void heap_push(struct simulator *s, struct sim_feedback f)
{
    if (s->n_heap == s->cap_heap) {
        s->cap_heap = s->cap_heap > 0 ? 2 * s->cap_heap : 64;
        s->heap = mem_resize(s->heap, s->cap_heap, sizeof *s->heap);
    }
    uint32_t i = s->n_heap++;
    for (; i > 0 && feedback_before(&f, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = f;
}

static struct sim_feedback heap_pop(struct simulator *s)
{
    struct sim_feedback top = s->heap[0];
    struct sim_feedback last = s->heap[--s->n_heap];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= s->n_heap)
            break;
        if (child + 1 < s->n_heap && feedback_before(&s->heap[child + 1], &s->heap[child]))
            child++;
        if (!feedback_before(&s->heap[child], &last))
            break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    if (s->n_heap > 0)
        s->heap[i] = last;
    return top;
}

// ---- the world --------------------------------------------------------------------------------------------

static double sim_exponential(struct simulator *s, double mean)
{
    return -mean * log(1.0 - rng_uniform(&s->rng));
}

static void item_born(struct simulator *s, struct sim_item *item, int64_t now_ms)
{
    double drift = s->options.drift;
    item->number = s->n_items_born++;
    item->quality = QUALITY_SPREAD * rng_normal(&s->rng);
    item->swing_phase = TURN * rng_uniform(&s->rng);
    item->swing_speed = drift * (0.5 + rng_uniform(&s->rng));
    item->theta = TURN * rng_uniform(&s->rng);
    item->turn_speed = drift * (rng_uniform(&s->rng) < 0.5 ? -1 : 1) * (0.5 + rng_uniform(&s->rng)) / 2;
    item->born_ms = now_ms;
    item->dies_ms = now_ms + (int64_t)sim_exponential(s, s->options.life_h * HOUR_MS);
}

struct simulator *simulator_new(const struct simulator_options *options)
{
    struct simulator *s = mem_zalloc(sizeof *s);
    s->options = *options;
    s->rng = rng_of(hash_mix(options->seed + 1));
    s->users = mem_array(options->users, sizeof *s->users);
    s->items = mem_array(options->items, sizeof *s->items);
    for (uint32_t u = 0; u < options->users; u++)
        s->users[u] = (struct sim_user){USER_SPREAD * rng_normal(&s->rng), TURN * rng_uniform(&s->rng)};
    for (uint32_t i = 0; i < options->items; i++)
        item_born(s, &s->items[i], options->start_ms);
    s->next_request_ms = (double)options->start_ms;
    return s;
}

void simulator_free(struct simulator *s)
{
    if (s == NULL)
        return;
    free(s->users);
    free(s->items);
    free(s->heap);
    free(s);
}

static double sim_probability(const struct simulator *s, const struct sim_user *u, const struct sim_item *i,
                              int64_t now_ms)
{
    double hours = (double)(now_ms - s->options.start_ms) / HOUR_MS;
    double quality = i->quality + QUALITY_SWING * sin(i->swing_phase + i->swing_speed * hours);
    double taste = TASTE * cos(u->theta - i->theta - i->turn_speed * hours);
    return 1 / (1 + exp(-(BIAS + u->affinity + quality + taste)));
}

static void sim_feedback(struct simulator *s, uint32_t user, uint64_t item, const char *type, int64_t ts,
                         uint64_t watch_ms)
{
    heap_push(s, (struct sim_feedback){ts, s->n_feedback++, user, item, s->n_requests, type, watch_ms});
}

// What a click brings along.
static void sim_click(struct simulator *s, uint32_t user, uint64_t item, int64_t now_ms)
{
    double delay_s = s->options.delay_s > 0 ? s->options.delay_s : SIMULATOR_DELAY_S;
    if (s->options.slow > 0 && rng_uniform(&s->rng) < s->options.slow)
        delay_s = s->options.slow_s;
    int64_t click = now_ms + 300 + (int64_t)sim_exponential(s, 1000 * delay_s);
    sim_feedback(s, user, item, "click", click, 0);
    uint64_t watched = 1000 + (uint64_t)sim_exponential(s, 30000);
    sim_feedback(s, user, item, "watch", click + (int64_t)watched, watched);
    if (rng_uniform(&s->rng) < 0.2)
        sim_feedback(s, user, item, "like", click + 1000 + (int64_t)sim_exponential(s, 10000), 0);
    if (rng_uniform(&s->rng) < 0.06)
        sim_feedback(s, user, item, "collect", click + 1000 + (int64_t)sim_exponential(s, 20000), 0);
    if (rng_uniform(&s->rng) < 0.03)
        sim_feedback(s, user, item, "share", click + 2000 + (int64_t)sim_exponential(s, 20000), 0);
}

// ---- events -----------------------------------------------------------------------------------------------

static void sim_json_head(struct json *j, const char *event_id, const char *type, const char *user,
                          const char *request, int64_t ts)
{
    json_object(j);
    json_key(j, "event_id");
    json_string(j, event_id);
    json_key(j, "type");
    json_string(j, type);
    json_key(j, "user_id");
    json_string(j, user);
    json_key(j, "request_id");
    json_string(j, request);
    json_key(j, "timestamp");
    json_int(j, ts);
}

// Drawn with a long tail (some come often), or a new one.
static uint32_t sim_user(struct simulator *s)
{
    if (s->options.fresh > 0 && rng_uniform(&s->rng) < s->options.fresh)
        return s->options.users + s->n_fresh++;
    double tail = rng_uniform(&s->rng);
    return (uint32_t)(tail * tail * s->options.users);
}

// A request of a user over distinct items.
static uint32_t sim_request(struct simulator *s, struct buf *to, char *ret_user, char *ret_request,
                            int64_t now_ms, struct simulator_truth *ret_truth)
{
    uint32_t user = sim_user(s);
    char event_id[40];
    s->n_requests++;
    snprintf(ret_user, 24, "u%u", user);
    snprintf(ret_request, 24, "r%llu", (unsigned long long)s->n_requests);
    snprintf(event_id, sizeof event_id, "e%s", ret_request);
    struct json j = json_to(to);
    sim_json_head(&j, event_id, "impression", ret_user, ret_request, now_ms);
    json_key(&j, "items");
    json_array(&j);
    uint32_t slate = s->options.items < s->options.slate ? s->options.items : s->options.slate;
    uint32_t first = (uint32_t)rng_below(&s->rng, s->options.items);
    for (uint32_t k = 0; k < slate; k++) {
        uint32_t stride = s->options.items / slate;
        struct sim_item *item = &s->items[(first + k * stride) % s->options.items];
        if (item->dies_ms < now_ms)
            item_born(s, item, now_ms);
        struct simulator_truth *truth = &ret_truth[k];
        truth->p = sim_probability(s, &s->users[user % s->options.users], item, now_ms);
        truth->click = rng_uniform(&s->rng) < truth->p;
        snprintf(truth->item, sizeof truth->item, "i%llu", (unsigned long long)item->number);
        json_object(&j);
        json_key(&j, "item_id");
        json_string(&j, truth->item);
        json_key(&j, "position");
        json_int(&j, k);
        json_end(&j);
        if (truth->click)
            sim_click(s, user, item->number, now_ms);
    }
    json_end(&j);
    json_key(&j, "context");
    json_object(&j);
    json_key(&j, "device");
    json_string(&j, user % 3 == 0 ? "ios" : "android");
    json_end(&j);
    json_end(&j);
    s->next_request_ms += sim_exponential(s, 1000.0 * slate / s->options.rate);
    return slate;
}

static void sim_feedback_json(struct simulator *s, const struct sim_feedback *f, struct buf *to,
                              char *ret_user, char *ret_request)
{
    (void)s;
    char event_id[40];
    char item[24];
    snprintf(ret_user, 24, "u%u", f->user);
    snprintf(ret_request, 24, "r%llu", (unsigned long long)f->request);
    snprintf(event_id, sizeof event_id, "f%llu", (unsigned long long)f->order);
    snprintf(item, sizeof item, "i%llu", (unsigned long long)f->item);
    struct json j = json_to(to);
    sim_json_head(&j, event_id, f->type, ret_user, ret_request, f->ts);
    json_key(&j, "item_id");
    json_string(&j, item);
    if (f->watch_ms > 0) {
        json_key(&j, "watch_ms");
        json_uint(&j, f->watch_ms);
    }
    json_end(&j);
}

bool simulator_next(struct simulator *s, bool last_request, struct buf *to, char ret_user[24],
                    char ret_request[24], int64_t *ret_ts, struct simulator_truth ret_truth[SIMULATOR_SLATE],
                    uint32_t *ret_n)
{
    int64_t request = (int64_t)s->next_request_ms;
    *ret_n = 0;
    if (s->n_heap > 0 && (last_request || s->heap[0].ts <= request)) {
        struct sim_feedback f = heap_pop(s);
        *ret_ts = f.ts;
        sim_feedback_json(s, &f, to, ret_user, ret_request);
        return true;
    }
    if (last_request)
        return false;
    *ret_ts = request;
    *ret_n = sim_request(s, to, ret_user, ret_request, request, ret_truth);
    return true;
}
