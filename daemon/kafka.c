// SPDX-License-Identifier: Apache-2.0
#include "daemon/kafka.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"

void source_options_of(const struct config *config, struct clock_source clock, const char **names,
                       struct source_options *ret_options)
{
    for (uint32_t a = 0; a < config->n_actions; a++)
        names[a] = config->actions[a];
    *ret_options = (struct source_options){.decode = {.actions = names,
                                                      .n_actions = config->n_actions,
                                                      .max_future_ms = config->time.max_future_ms},
                                           .clock = clock,
                                           .idle_after_ms = config->time.idle_after_ms,
                                           .queue_bytes = config->queue_bytes};
}

struct kafka_topic {
    const char *name; // "": none
    enum decoder_kind kind;
};

// In the order in which ties of time are taken: a profile before the events of the same ms.
static void kafka_topics(const struct config *config, struct kafka_topic topics[KAFKA_TOPICS])
{
    topics[0] = (struct kafka_topic){config->users.topic, DECODER_USERS};
    topics[1] = (struct kafka_topic){config->items.topic, DECODER_ITEMS};
    topics[2] = (struct kafka_topic){config->events.topic, DECODER_EVENTS};
}

int kafka_partitions_ask(const struct config *config, int timeout_ms, int32_t ret_counts[KAFKA_TOPICS],
                         struct err *err)
{
    struct kafka_topic topics[KAFKA_TOPICS];
    kafka_topics(config, topics);
    for (int t = 0; t < KAFKA_TOPICS; t++) {
        ret_counts[t] = 0;
        if (topics[t].name[0] != '\0' && source_kafka_partitions(config->consumer.list, topics[t].name,
                                                                 timeout_ms, &ret_counts[t], err) != 0)
            return -1;
    }
    return 0;
}

// ---- the asker -------------------------------------------------------------------------------------------------

struct kafka_asker {
    const struct config *config;
    void (*wake)(void *context);
    void *context;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stop, told;
    int32_t counts[KAFKA_TOPICS];
    struct err err;
};

// One question; true when it was the last.
static bool asker_ask(struct kafka_asker *a)
{
    enum { ASK_MS = 1000 };
    int32_t counts[KAFKA_TOPICS];
    struct err err = {0};
    bool told = kafka_partitions_ask(a->config, ASK_MS, counts, &err) == 0;
    pthread_mutex_lock(&a->lock);
    a->told = told;
    a->err = err;
    memcpy(a->counts, counts, sizeof counts);
    bool stop = a->stop;
    pthread_mutex_unlock(&a->lock);
    if (!stop)
        a->wake(a->context);
    return told || stop || (err.code != ERR_UNAVAILABLE && err.code != ERR_NOT_FOUND);
}

static void *asker_main(void *context)
{
    struct kafka_asker *a = context;
    while (!asker_ask(a)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec++;
        pthread_mutex_lock(&a->lock);
        if (!a->stop)
            pthread_cond_timedwait(&a->changed, &a->lock, &until);
        pthread_mutex_unlock(&a->lock);
    }
    return NULL;
}

int kafka_asker_new(const struct config *config, void (*wake)(void *context), void *context,
                    struct kafka_asker **ret_asker, struct err *err)
{
    struct kafka_asker *a = mem_zalloc(sizeof *a);
    a->config = config;
    a->wake = wake;
    a->context = context;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, NULL);
    int code = pthread_create(&a->thread, NULL, asker_main, a);
    if (code != 0) {
        free(a);
        return err_set(err, ERR_IO, "starting a thread: error %d", code);
    }
    *ret_asker = a;
    return 0;
}

void kafka_asker_free(struct kafka_asker *a)
{
    if (a == NULL)
        return;
    pthread_mutex_lock(&a->lock);
    a->stop = true;
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->changed);
    free(a);
}

bool kafka_asker_told(struct kafka_asker *a, int32_t ret_counts[KAFKA_TOPICS], struct err *ret_err)
{
    pthread_mutex_lock(&a->lock);
    bool told = a->told;
    memcpy(ret_counts, a->counts, sizeof a->counts);
    *ret_err = a->err;
    pthread_mutex_unlock(&a->lock);
    return told;
}

// ---- the source ------------------------------------------------------------------------------------------------

// Parts of an earlier config or of files are not read: they must not hold the watermark back.
static void kafka_rest_idle(struct ingest *in, const uint32_t *part_of, uint32_t n)
{
    for (uint32_t p = 0; p < in->n_parts; p++) {
        bool read = false;
        for (uint32_t i = 0; i < n; i++)
            read |= part_of[i] == p;
        if (!read)
            watermark_idle(&in->watermark, p);
    }
}

static int kafka_offset_mend(const struct config *config, struct ingest *in, struct ingest_part *part,
                             bool latest, struct err *err)
{
    enum { RANGE_MS = 5000 };
    int64_t low;
    int64_t high;
    if (part->next_offset == SOURCE_OFFSET_START)
        return 0;
    if (source_kafka_range(config->consumer.list, part->topic, part->partition, RANGE_MS, &low, &high, err) !=
        0)
        return -1;
    if (part->next_offset >= low && part->next_offset <= high)
        return 0;
    int64_t to = latest ? high : low;
    uint64_t skipped = to > part->next_offset ? (uint64_t)(to - part->next_offset) : 0;
    log_warn("going on at another offset, as --offset-gone says",
             "topic=%s partition=%d from=%lld to=%lld skipped=%llu", part->topic, part->partition,
             (long long)part->next_offset, (long long)to, (unsigned long long)skipped);
    in->counts.skipped += skipped;
    part->next_offset = to;
    return 0;
}

int kafka_offsets_mend(const struct config *config, struct ingest *in, const int32_t counts[KAFKA_TOPICS],
                       bool latest, struct err *err)
{
    struct kafka_topic topics[KAFKA_TOPICS];
    kafka_topics(config, topics);
    for (int t = 0; t < KAFKA_TOPICS; t++)
        for (int32_t p = 0; p < counts[t]; p++) {
            uint32_t part = ingest_part(in, topics[t].name, p, topics[t].kind);
            if (kafka_offset_mend(config, in, &in->parts[part], latest, err) != 0)
                return -1;
        }
    return 0;
}

int kafka_source_open(const struct config *config, struct ingest *in, struct clock_source clock,
                      const int32_t counts[KAFKA_TOPICS], uint32_t *part_of, struct source **ret_source,
                      struct err *err)
{
    struct kafka_topic topics[KAFKA_TOPICS];
    struct source_part *parts = mem_array(INGEST_PARTS_MAX, sizeof *parts);
    uint32_t n = 0;
    kafka_topics(config, topics);
    for (int t = 0; t < KAFKA_TOPICS; t++)
        for (int32_t p = 0; p < counts[t] && n < INGEST_PARTS_MAX; p++) {
            uint32_t part = ingest_part(in, topics[t].name, p, topics[t].kind);
            parts[n] = (struct source_part){
                .partition = p, .kind = topics[t].kind, .offset = in->parts[part].next_offset};
            snprintf(parts[n].topic, sizeof parts[n].topic, "%s", topics[t].name);
            part_of[n++] = part;
        }
    const char *names[ACTION_MAX];
    struct source_options options;
    kafka_rest_idle(in, part_of, n);
    source_options_of(config, clock, names, &options);
    int result = source_kafka_new(&options, config->consumer.list, parts, n, ret_source, err);
    free(parts);
    return result;
}
