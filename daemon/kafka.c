// SPDX-License-Identifier: Apache-2.0
#include "daemon/kafka.h"

#include <stdio.h>
#include <stdlib.h>

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
                                           .idle_after_ms = config->time.idle_after_ms};
}

// The parts of one topic, in order of partition.
static int kafka_topic_parts(const struct config *config, struct ingest *in, const char *topic,
                             enum decoder_kind kind, int timeout_ms, uint32_t *part_of,
                             struct source_part *parts, uint32_t *n, struct err *err)
{
    int32_t count;
    if (topic[0] == '\0')
        return 0;
    if (source_kafka_partitions(config->consumer.list, topic, timeout_ms, &count, err) != 0)
        return -1;
    for (int32_t p = 0; p < count && *n < INGEST_PARTS_MAX; p++) {
        uint32_t part = ingest_part(in, topic, p, kind);
        parts[*n] = (struct source_part){.partition = p, .kind = kind, .offset = in->parts[part].next_offset};
        snprintf(parts[*n].topic, sizeof parts[*n].topic, "%s", topic);
        part_of[(*n)++] = part;
    }
    return 0;
}

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

int kafka_source_open(const struct config *config, struct ingest *in, struct clock_source clock,
                      int timeout_ms, uint32_t *part_of, struct source **ret_source, struct err *err)
{
    struct source_part *parts = mem_array(INGEST_PARTS_MAX, sizeof *parts);
    uint32_t n = 0;
    int result = kafka_topic_parts(config, in, config->users.topic, DECODER_USERS, timeout_ms, part_of, parts,
                                   &n, err);
    if (result == 0)
        result = kafka_topic_parts(config, in, config->items.topic, DECODER_ITEMS, timeout_ms, part_of, parts,
                                   &n, err);
    if (result == 0)
        result = kafka_topic_parts(config, in, config->events.topic, DECODER_EVENTS, timeout_ms, part_of,
                                   parts, &n, err);
    if (result == 0) {
        const char *names[ACTION_MAX];
        struct source_options options;
        kafka_rest_idle(in, part_of, n);
        source_options_of(config, clock, names, &options);
        result = source_kafka_new(&options, config->consumer.list, parts, n, ret_source, err);
    }
    free(parts);
    return result;
}
