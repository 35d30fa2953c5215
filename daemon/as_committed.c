// SPDX-License-Identifier: Apache-2.0
// freshet replay --as-committed --state DIR: follows the order that the state recorded, into an empty state,
// and compares the digests. The messages come from the files given, or, without any, from Kafka, where the
// state's parts are read from their beginning. It is the proof that the recorded order is all there is to
// know besides the messages.
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "daemon/kafka.h"
#include "daemon/replay.h"

struct recorded {
    struct source_run *runs; // `part` is the ingest's number
    uint32_t n, cap;
    char (*topics)[250]; // of the recording's parts
    int32_t *partitions;
    enum decoder_kind *kinds;
    uint32_t n_parts;
    bool flushed;
    uint64_t updates;
    struct buf digest;
};

static void recorded_done(struct recorded *rec)
{
    free(rec->runs);
    free(rec->topics);
    free(rec->partitions);
    free(rec->kinds);
    buf_done(&rec->digest);
}

static void recorded_run(void *context, uint16_t part, uint32_t count)
{
    struct recorded *rec = context;
    if (rec->n == rec->cap) {
        rec->cap = rec->cap > 0 ? 2 * rec->cap : 1024;
        rec->runs = mem_resize(rec->runs, rec->cap, sizeof *rec->runs);
    }
    rec->runs[rec->n++] = (struct source_run){part, count};
}

static int digests_text(struct engine *e, struct buf *to, struct err *err)
{
    struct json j = json_to(to);
    json_object(&j);
    int result = engine_digest_json(e, &j, err);
    json_end(&j);
    return result;
}

static void recorded_parts(struct recorded *rec, const struct ingest *in)
{
    rec->n_parts = in->n_parts;
    rec->topics = mem_array(in->n_parts, sizeof *rec->topics);
    rec->partitions = mem_array(in->n_parts, sizeof *rec->partitions);
    rec->kinds = mem_array(in->n_parts, sizeof *rec->kinds);
    for (uint32_t i = 0; i < in->n_parts; i++) {
        memcpy(rec->topics[i], in->parts[i].topic, sizeof rec->topics[i]);
        rec->partitions[i] = in->parts[i].partition;
        rec->kinds[i] = in->parts[i].kind;
    }
    rec->flushed = in->watermark.value == WATERMARK_END;
}

// What the state recorded, read without touching it.
static int recorded_load(struct recorded *rec, const struct cli *cli, const char *dir, struct err *err)
{
    struct engine *engine;
    struct engine_options options = {.dir = dir, .read_only = true, .fail_if_absent = true};
    if (engine_open(cli->config, &options, &engine, err) != 0)
        return -1;
    recorded_parts(rec, engine->ingest);
    rec->updates = updater_version(engine->updater)->updates;
    int result = state_order_each(engine->state, recorded_run, rec, err);
    if (result == 0)
        result = digests_text(engine, &rec->digest, err);
    engine_close(engine);
    return result;
}

// The runs by source part; runs of a part that is not read now are an error, not skipped.
static int recorded_follow(const struct recorded *rec, struct replay *r, struct err *err)
{
    struct source_run *runs = mem_array(rec->n, sizeof *runs);
    uint32_t n_source = source_part_count(r->source);
    int result = 0;
    for (uint32_t i = 0; i < rec->n && result == 0; i++) {
        uint32_t at = 0;
        while (at < n_source && r->part_of[at] != rec->runs[i].part)
            at++;
        if (at == n_source)
            result =
                err_set(err, ERR_NOT_FOUND,
                        "the recorded order has messages of %s partition %d, which is not among the inputs",
                        rec->topics[rec->runs[i].part], rec->partitions[rec->runs[i].part]);
        runs[i] = (struct source_run){(uint16_t)at, rec->runs[i].count};
    }
    if (result == 0)
        source_follow(r->source, runs, rec->n);
    free(runs);
    return result;
}

static int compared(const struct cli *cli, const struct buf *before, const struct buf *after)
{
    bool equal = before->len == after->len && memcmp(before->data, after->data, after->len) == 0;
    struct buf out = {0};
    struct json j = json_to(&out);
    json_object(&j);
    json_key(&j, "equal");
    json_bool(&j, equal);
    json_key(&j, "committed");
    json_raw(&j, (const char *)before->data, before->len);
    json_key(&j, "replayed");
    json_raw(&j, (const char *)after->data, after->len);
    json_end(&j);
    printf("%.*s\n", (int)out.len, (const char *)out.data);
    buf_done(&out);
    if (!equal && !cli->json)
        fprintf(stderr, "freshet: the replayed state differs from the committed one\n");
    return equal ? EXIT_DONE : EXIT_FAILED;
}

// The parts get the numbers of the recording, whatever order they are opened in.
static int as_committed_source(struct replay *r, const struct recorded *rec, struct err *err)
{
    enum { TIMEOUT_MS = 10000 };
    struct ingest *in = r->engine->ingest;
    for (uint32_t i = 0; i < rec->n_parts; i++)
        ingest_part(in, rec->topics[i], rec->partitions[i], rec->kinds[i]);
    if (cli_given(r->cli, "events") || cli_given(r->cli, "users") || cli_given(r->cli, "items"))
        return replay_open_source(r, err);
    int32_t counts[KAFKA_TOPICS];
    if (kafka_partitions_ask(r->cli->config, TIMEOUT_MS, counts, err) != 0)
        return -1;
    return kafka_source_open(r->cli->config, in, r->clock, counts, r->part_of, &r->source, err);
}

int replay_as_committed(struct cli *cli)
{
    struct err err = {0};
    struct recorded rec = {0};
    struct buf after = {0};
    const char *dir = cli_value(cli, "state");
    if (dir == NULL)
        return cli_usage(cli, "--as-committed needs --state DIR, the recording");
    struct replay *r = mem_zalloc(sizeof *r);
    int result = recorded_load(&rec, cli, dir, &err);
    if (result == 0)
        result = replay_open(r, cli, NULL, &err);
    r->max_updates = rec.updates;
    if (result == 0)
        result = as_committed_source(r, &rec, &err);
    if (result == 0)
        result = recorded_follow(&rec, r, &err);
    if (result == 0)
        result = replay_run(r, rec.flushed, &err);
    if (result == 0)
        result = digests_text(r->engine, &after, &err);
    int code = result == 0 ? compared(cli, &rec.digest, &after) : cli_fail(cli, &err);
    replay_close(r);
    free(r);
    recorded_done(&rec);
    buf_done(&after);
    return code;
}
