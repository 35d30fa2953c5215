// SPDX-License-Identifier: Apache-2.0
// Every key of the config, once. Order is the order of the file, which is the way of an event. Defaults stand
// as they would be written; what they mean is found by the same code that reads a file.
#include "daemon/config_keys.h"

#include <stddef.h>

#define SECOND 1e3
#define MINUTE 60e3
#define HOUR 3600e3
#define DAY 86400e3
#define KIB 1024.0
#define MIB (KIB * KIB)
#define TIB (MIB * MIB)

// Where a field is: in struct config, or in the struct of an entry.
#define IN(type, field) .size = sizeof(((type *)0)->field), .offset = offsetof(type, field)
#define AT(field) IN(struct config, field)

// The maps of the built-in default.
static const char default_kafka[] = "  bootstrap.servers: localhost:9092\n";
static const char default_sequences[] = "  all: {last: 100}\n";
static const char default_labels[] = "    all: {}\n";
static const char default_tables[] =
    "  users: {dim: 16, rows: 1M, admit: 1, expire: 30d, lr: 0.1, init: 0.02}\n"
    "  items: {dim: 16, rows: 1M, admit: 1, expire: 30d, lr: 0.1, init: 0.02}\n";
static const char default_features[] =
    "  user_id: {id: user, table: users}\n"
    "  item_id: {id: item, table: items}\n"
    "  hour: {hour: timestamp}\n"
    "  user_impressions_1d: {count: impression, of: user, window: 1d}\n"
    "  item_impressions_1d: {count: impression, of: item, window: 1d}\n"
    "  user_ctr_7d: {rate: click/impression, of: user, window: 7d, smooth: [1, 20]}\n"
    "  item_ctr_1h: {rate: click/impression, of: item, window: 1h, smooth: [1, 20]}\n"
    "  item_ctr_1d: {rate: click/impression, of: item, window: 1d, smooth: [1, 20]}\n"
    "  item_ctr_7d: {rate: click/impression, of: item, window: 7d, smooth: [1, 20]}\n"
    "  clicks: {sequence: click, last: 50, table: items, pool: mean}\n";
static const char default_models[] = "  ctr:\n"
                                     "    net:\n"
                                     "      - {name: bottom, mlp: [128], of: all}\n"
                                     "    heads:\n"
                                     "      click: {of: bottom}\n";

#define SECTION(at, about)                                    \
    {                                                         \
        .path = (at), .type = CONFIG_SECTION, .text = (about) \
    }
#define MAP(at, reader, keys, value, about)                                                       \
    {                                                                                             \
        .path = (at), .type = CONFIG_OWN, .read = (reader), .entry = (keys), .fallback = (value), \
        .text = (about)                                                                           \
    }

// clang-format off
// What an optimizer takes beside its kind and learning rate (models/optimizer.h).
#define OPTIMIZER_KEYS(prefix, type, field)                                                                          \
    {prefix "weight_decay", CONFIG_NUMBER, IN(type, field.weight_decay), 0, 1, "0",                                  \
     .text = "All but ftrl, which has l1 and l2: so much of a weight is added to its gradient, as torch's."},        \
    {prefix "decoupled", CONFIG_BOOL, IN(type, field.decoupled), .fallback = "false",                                \
     .text = "true: the decay is taken from the weight itself, times the learning rate, as AdamW does."},            \
    {prefix "warmup", CONFIG_COUNT, IN(type, field.warmup), 0, 1e12, "0",                                            \
     .text = "All but ftrl: the learning rate rises from 0 over so many samples that the model is trained on."},     \
    {prefix "accumulator", CONFIG_NUMBER, IN(type, field.accumulator), 0, 1e6, "0",                                  \
     .text = "All but adam: where the sums of squared gradients begin."},                                            \
    {prefix "beta1", CONFIG_NUMBER, IN(type, field.beta1), 0, 0.999999, "0.9",                                       \
     .text = "adam: what the mean of the gradients keeps in a step."},                                               \
    {prefix "beta2", CONFIG_NUMBER, IN(type, field.beta2), 0, 0.999999, "0.999",                                     \
     .text = "adam: what the mean of their squares keeps."},                                                         \
    {prefix "beta", CONFIG_NUMBER, IN(type, field.beta), 1e-6, 1e6, "0.001",                                         \
     .text = "ftrl: added to the root of the sum of squares. The paper has 1, for gradients of single samples; "     \
             "here they are means over a batch."},                                                                   \
    {prefix "l1", CONFIG_NUMBER, IN(type, field.l1), 0, 1e6, "0",                                                    \
     .text = "ftrl: a weight is 0 while its z stays below, which is about its sum of gradients."},                   \
    {prefix "l2", CONFIG_NUMBER, IN(type, field.l2), 0, 1e6, "0", .text = "ftrl: pulls weights towards 0."}

const struct config_key config_keys[] = {
    MAP("kafka", config_kafka_read, NULL, default_kafka,
        "Properties of librdkafka, handed over as they are. Those below `consumer:` or `producer:` are "
        "laid over "
        "the common ones for that side; -X property=value is laid over both."),

    SECTION("stream", "What is read, and what its time is."),
    SECTION("stream.events", "Impressions and feedback, keyed by the user id."),
    {"stream.events.topic", CONFIG_TOPIC, AT(events.topic), .min = 1, .fallback = "events",
     .text = "The topic of events."},
    SECTION("stream.users", "Profiles of users, an upsert each."),
    {"stream.users.topic", CONFIG_TOPIC, AT(users.topic), .fallback = "\"\"",
     .text = "The topic of user profiles; empty: none."},
    MAP("stream.users.attributes", config_user_attributes_read, NULL, "{}",
        "What a profile holds, as {gender: string, age: number, tags: list, vip: boolean}. Where it is given, another "
        "name in a feature or bucket is a mistake, and a value of another type is counted and reads as missing."),
    SECTION("stream.items", "Profiles of items, an upsert each."),
    {"stream.items.topic", CONFIG_TOPIC, AT(items.topic), .fallback = "\"\"",
     .text = "The topic of item profiles; empty: none."},
    {"stream.items.birth", CONFIG_TEXT, AT(item_birth), .fallback = "\"\"",
     .text = "The attribute that is an item's birth (ms, s or RFC 3339); empty, or not there: its first event."},
    {"stream.items.category", CONFIG_TEXT, AT(item_category), .min = 1, .fallback = "category",
     .text = "The attribute that sequences keep as category."},
    {"stream.items.author", CONFIG_TEXT, AT(item_author), .min = 1, .fallback = "author",
     .text = "The attribute that sequences keep as author."},
    MAP("stream.items.attributes", config_item_attributes_read, NULL, "{}",
        "As stream.users.attributes."),
    MAP("stream.actions", config_actions_read, NULL, "[]",
        "Types of feedback beside the built-in click, like, collect, share, comment, follow, dislike and "
        "watch. "
        "Their order stands in the store: append only."),
    SECTION("stream.time", "Event time decides; these say what is late, and for how long a partition is "
            "waited for."),
    {"stream.time.out_of_order", CONFIG_DURATION, AT(time.out_of_order_ms), 0, 7 * DAY, "5s",
     .text = "How far events of a partition may come out of order; the watermark stays so far behind."},
    {"stream.time.max_future", CONFIG_DURATION, AT(time.max_future_ms), 0, 365 * DAY, "1h",
     .text = "An event further ahead of the broker's time goes to the DLQ. One that is not moves the watermark, and "
             "makes late what follows: as small as the producers' clocks allow."},
    {"stream.time.idle_after", CONFIG_DURATION, AT(time.idle_after_ms), 0, DAY, "10s",
     .text = "A partition at its end for so long no longer holds back the watermark."},
    {"stream.queue", CONFIG_SIZE, AT(queue_bytes), MIB, 2048 * MIB, "256MiB",
     .text = "Memory of messages that were fetched and wait, over all partitions; one has 1 MiB at least."},
    SECTION("stream.dlq", "Messages that cannot be used go to a topic of their own, with the reason."),
    {"stream.dlq.suffix", CONFIG_TOPIC, AT(dlq_suffix), .min = 1, .fallback = ".dlq",
     .text = "What is put after the topic's name."},

    SECTION("dedupe", "Events whose event_id was seen are dropped."),
    {"dedupe.window", CONFIG_DURATION, AT(dedupe.window_ms), 0, 30 * DAY, "10m",
     .text = "For how long ids are remembered; 0s: no dedupe."},
    {"dedupe.max", CONFIG_COUNT, AT(dedupe.max), 1000, 4e9, "10M",
     .text = "Ids remembered at most; beyond it the oldest minute goes."},

    MAP("buckets", config_buckets_read, config_bucket_keys, "{}",
        "Names for groups of users, items or contexts: {age: {of: user.age, edges: [18, 25, 35]}}. What has no value "
        "is in no bucket."),

    SECTION("counters", "Counts of every action by user and by item."),
    MAP("counters.windows", config_windows_read, config_window_keys, "[1h, 1d, 7d]",
        "Windows, shortest first: 1h (tiles of 1m), 1d (15m), 7d (1h), or {name: 30d, tile: 1d, length: "
        "30d}. Each "
        "tile is a multiple of the one before."),
    {"counters.totals", CONFIG_BOOL, AT(totals), .fallback = "false",
     .text = "Counts since ever are kept beside the windows, as window: total."},
    SECTION("counters.item", "Every item's counts, and besides them"),
    MAP("counters.item.by", config_item_by_read, NULL, "[]",
        "those by each of these: names of buckets, context.NAME, user.ATTRIBUTE, or NAME alone, which is a user's "
        "attribute."),
    SECTION("counters.user", "Every user's counts, and besides them"),
    MAP("counters.user.by", config_user_by_read, NULL, "[]",
        "those by each of these, in which NAME alone is an item's attribute: [category, author]."),
    SECTION("counters.all", "Counts of everything,"),
    MAP("counters.all.by", config_all_by_read, NULL, "[]",
        "by each of these, in which NAME alone is an item's attribute. The total of everything is kept where a "
        "feature reads it."),

    MAP("sequences", config_sequences_read, config_sequence_keys, default_sequences,
        "What each user did last. An entry with the name of an action is that action's; other names say `of` which "
        "actions they are. `all` is every feedback action, and an action's own entry comes before "
        "it. Given in a file, it replaces the whole default."),

    SECTION("join", "Impressions wait for feedback and become labelled samples."),
    {"join.window", CONFIG_DURATION, AT(join.window_ms), 1, 30 * DAY, "10m",
     .text = "Feedback so long after its impression labels it, unless join.labels says otherwise."},
    {"join.remember", CONFIG_DURATION, AT(join.remember_ms), 0, 30 * DAY, "0s",
     .text = "An impression is known at least so long: feedback after its window then counts as after_window, later "
             "as an orphan; 0s: as long as the longest window."},
    {"join.emit", CONFIG_CHOICE, AT(join.emit), .fallback = "wait", .choices = "wait|first_label|fake_negative",
     .text = "wait: a sample leaves at the end of its window; first_label: at its first label; fake_negative: at "
             "once, unlabelled, and labels correct it. docs/LABELS.md says what each costs."},
    {"join.corrections", CONFIG_BOOL, AT(join.corrections), .fallback = "false",
     .text = "With first_label and fake_negative: a label after the first makes a corrected sample, too."},
    {"join.watch", CONFIG_CHOICE, AT(join.watch_of), .fallback = "max", .choices = "max|sum|last",
     .text = "Which of several watch_ms of an impression is its label."},
    MAP("join.labels", config_labels_read, config_label_keys, default_labels,
        "The actions that are labels; `all` is every feedback action. Given in a file, it replaces the "
        "whole default."),
    {"join.keep_negatives", CONFIG_OWN, .fallback = "1.0", .read = config_keep_read,
     .text = "Share of the samples without any label that is kept, 1e-06 to 1, or by label: {click: 0.1, all: 0.5}; "
             "scores are calibrated by it."},
    MAP("join.thin_positives", config_thin_read, config_thin_keys, "{}",
        "Of the labelled samples of popular items only some are kept: (above / count)^power of them. For training "
        "retrieval; empty: all are kept."),
    {"join.max_pending", CONFIG_COUNT, AT(join.max_pending), 1, 1e9, "2M",
     .text = "Impressions that are known at most; beyond it the oldest is forgotten, and leaves early if it waits."},

    MAP("tables", config_tables_read, config_table_keys, default_tables,
        "Embedding tables. Given in a file, it replaces the whole default."),
    MAP("features", config_features_read, config_feature_keys, default_features,
        "What the model sees of an impression: each feature has one of id, number, count, rate, hour, "
        "weekday and "
        "sequence. An id, hour, weekday or bucketized feature without `table` gets a table of its own "
        "name and dim 8. "
        "Given in a file, it replaces the whole default."),
    MAP("models", config_models_read, config_model_keys, default_models,
        "One model: a net of blocks over features and earlier blocks, and heads on it. Given in a file, "
        "it replaces "
        "the whole default."),

    SECTION("update", "Training, in windows of event time."),
    {"update.every", CONFIG_DURATION, AT(update.every_ms), SECOND, 30 * DAY, "5m",
     .text = "Length of an update window."},
    SECTION("update.bootstrap", "Until the first freeze all layers are trained."),
    {"update.bootstrap.samples", CONFIG_COUNT, AT(update.bootstrap_samples), 0, 1e15, "100k",
     .text = "Samples until the dense layers freeze."},
    {"update.batch", CONFIG_COUNT, AT(update.batch), 1, 65536, "512", .text = "Samples in a step."},
    {"update.epochs", CONFIG_COUNT, AT(update.epochs), 1, 100, "1",
     .text = "Passes over the samples of a window."},
    {"update.dense_lr", CONFIG_NUMBER, AT(update.dense.lr), 1e-9, 10, "0.05",
     .text = "Learning rate of the dense layers, where a block has no `lr` of its own; of adam 0.001 where it is not "
             "given."},
    SECTION("update.dense", "How the dense layers are trained, as long as they are."),
    {"update.dense.optimizer", CONFIG_CHOICE, AT(update.dense.kind), .fallback = "adagrad",
     .choices = "adagrad|ftrl|adam", .text = "A store keeps it: another needs a state.dir of its own."},
    {"update.dense.clip_norm", CONFIG_NUMBER, AT(update.dense.clip_norm), 0, 1e9, "0",
     .text = "The norm of the gradient of all dense layers at most; 0: any."},
    OPTIMIZER_KEYS("update.dense.", struct config, update.dense),
    {"update.seed", CONFIG_COUNT, AT(update.seed), 0, 1e15, "1", .text = "Of the weights at the start."},
    {"update.kernel", CONFIG_CHOICE, AT(update.kernel), .fallback = "auto", .choices = PACKED_KERNEL_CHOICES,
     .text = "How products with dense layers that are not being trained are computed, in updates while they are frozen "
             "and in scoring. packed: weights are packed once a version, fp32 (AVX2); bf16: so, and rounded to bf16 "
             "(AVX512_BF16); blas: nothing is packed; auto: packed where the processor can, else blas. Each gives "
             "bytes of its own."},
    {"update.enabled", CONFIG_BOOL, AT(update.enabled), .fallback = "true",
     .text = "false: samples are logged and nothing is trained."},
    {"update.stop_after_bootstrap", CONFIG_BOOL, AT(update.stop_after_bootstrap), .fallback = "false",
     .text = "true: train until the dense layers freeze, then stop; for comparison."},
    SECTION("update.brakes", "An update beyond these is not served; NaN and infinity never are."),
    {"update.brakes.ne_max", CONFIG_NUMBER, AT(update.brakes.ne_max), 0, 1e6, "0",
     .text = "Normalized entropy of a window at most; 0: off."},
    {"update.brakes.calibration_min", CONFIG_NUMBER, AT(update.brakes.calibration_min), 0, 1e6, "0",
     .text = "Predicted by observed, at least; 0: off."},
    {"update.brakes.calibration_max", CONFIG_NUMBER, AT(update.brakes.calibration_max), 0, 1e6, "0",
     .text = "Predicted by observed, at most; 0: off."},
    {"update.brakes.row_norm_max", CONFIG_NUMBER, AT(update.brakes.row_norm_max), 0, 1e9, "1000",
     .text = "Norm of a row at most; 0: off."},
    {"update.brakes.min_samples", CONFIG_COUNT, AT(update.brakes.min_samples), 1, 1e15, "1000",
     .text = "Windows of fewer samples, and those of the bootstrap, are not judged by their metrics."},

    SECTION("publish", "What an update changed, for those who serve elsewhere."),
    {"publish.topic", CONFIG_TOPIC, AT(publish.topic), .min = 1, .fallback = "freshet-deltas",
     .text = "The delta topic, of one partition."},
    {"publish.digest_every", CONFIG_COUNT, AT(publish.digest_every), 0, 1e6, "12",
     .text = "Versions from one digest of the whole tables to the next; 0: none."},
    SECTION("publish.samples", "The sample log as a topic, for whoever trains elsewhere."),
    {"publish.samples.topic", CONFIG_TOPIC, AT(publish.samples_topic), .fallback = "\"\"",
     .text = "Samples as `export samples` prints them, keyed by user; empty: none. Its partitions must stay as "
             "many as they are."},
    {"publish.enabled", CONFIG_BOOL, AT(publish.enabled), .fallback = "true",
     .text = "false: nothing is published."},

    SECTION("state", "The store on disk, and its caches."),
    {"state.dir", CONFIG_TEXT, AT(state.dir), .min = 1, .fallback = "${STATE_DIRECTORY:-./freshet-state}",
     .text = "Where it lies; systemd gives $STATE_DIRECTORY."},
    {"state.commit_every", CONFIG_DURATION, AT(state.commit_every_ms), 1, HOUR, "1s",
     .text = "Time between commits, live."},
    {"state.commit_events", CONFIG_COUNT, AT(state.commit_events), 1, 1e9, "1M",
     .text = "Events between commits at most, while catching up."},
    {"state.commit_bytes", CONFIG_SIZE, AT(state.commit_bytes), 0, TIB, "0B",
     .text = "Memory that waits for a commit at most: when about so much has changed or is new, it is time for one. "
             "As much again may be under way. 0B: a sixteenth of memory.limit, 128MiB to 1GiB."},
    {"state.cache", CONFIG_SIZE, AT(state.cache_bytes), MIB, TIB, "768MiB",
     .text = "Memory of users and items."},
    {"state.body_cache", CONFIG_SIZE, AT(state.body_cache_bytes), MIB, TIB, "128MiB",
     .text = "Memory of encoded impressions."},
    {"state.block_cache", CONFIG_SIZE, AT(state.block_cache_bytes), MIB, TIB, "256MiB",
     .text = "Memory of the store's blocks."},
    {"state.samples_keep", CONFIG_DURATION, AT(state.samples_keep_ms), 0, 3650 * DAY, "30d",
     .text = "How long samples stay in the log, by event time; 0s: for ever. What the samples topic has not got "
             "stays."},
    {"state.samples_bytes", CONFIG_SIZE, AT(state.samples_bytes), 0, TIB * KIB, "0B",
     .text = "Bytes of the log before compression, at most; the oldest samples go once they are trained on, "
             "published or not. 0B: no bound."},
    SECTION("state.expire", "Who is not seen for so long, in event time, vanishes everywhere; 0s: never."),
    {"state.expire.users", CONFIG_DURATION, AT(state.users_expire_ms), 0, 3650 * DAY, "0s",
     .text = "Counters, sequences and profiles of users; at least the longest window."},
    {"state.expire.items", CONFIG_DURATION, AT(state.items_expire_ms), 0, 3650 * DAY, "0s",
     .text = "Counters and profiles of items; at least the longest window."},

    SECTION("http", "Features, scores, metrics and the status page."),
    {"http.listen", CONFIG_OWN, .fallback = "\"127.0.0.1:7878\"", .read = config_listen_read,
     .text = "host:port, [v6]:port; port 0: any free one. An address that others reach needs a token."},
    {"http.connections", CONFIG_COUNT, AT(http.connections), 1, 65536, "256", .text = "At a time, at most."},
    {"http.body", CONFIG_SIZE, AT(http.body_bytes), KIB, 64 * MIB, "1MiB",
     .text = "Largest body of a request."},
    {"http.token", CONFIG_TEXT, AT(http.token), .fallback = "\"\"",
     .text = "Asked of every request as `Authorization: Bearer`; file:PATH keeps it out of this file. "
             "Empty: none."},

    SECTION("memory", "What all budgets of this file are checked against before anything starts."),
    {"memory.limit", CONFIG_SIZE, AT(memory_limit), 0, TIB, "0B",
     .text = "Their sum at most; 0B: what the machine has, or the control group allows."},

    SECTION("log", "On stderr."),
    {"log.level", CONFIG_TEXT, AT(log.level), .fallback = "info", .choices = "error|warn|info|debug",
     .text = "What is written."},
    {"log.format", CONFIG_CHOICE, AT(log.json), .fallback = "logfmt", .choices = "logfmt|json",
     .text = "How a line looks."},
    {0},
};

// {name: 30d, tile: 1d, length: 30d}; length comes as tiles into the window, so it is read by its own code.
const struct config_key config_window_keys[] = {
    {"name", CONFIG_TEXT, IN(struct state_window, name), .min = 1, .text = "What features call it."},
    {"tile", CONFIG_DURATION, IN(struct state_window, tile_ms), SECOND, 365 * DAY,
     .text = "What is counted together."},
    {"length", CONFIG_OWN, .text = "A multiple of the tile, 1 to 1024 of them."},
    {0},
};

const struct config_key config_bucket_keys[] = {
    {"of", CONFIG_OWN, .text = "user.ATTRIBUTE, item.ATTRIBUTE or context.NAME: its text is the bucket."},
    {"edges", CONFIG_OWN, .text = "of a number: the bucket is how many of these are at or below it, \"0\", \"1\", ..."},
    {"prefix", CONFIG_COUNT, IN(struct config_bucket, prefix), 1, 64,
     .text = "of a text: its first so many characters."},
    {"geohash", CONFIG_OWN, .text = "[latitude, longitude]: the bucket is their geohash."},
    {"precision", CONFIG_COUNT, IN(struct config_bucket, precision), 1, 12,
     .text = "geohash: characters of it; default 5, a square of 5 km."},
    {"hour", CONFIG_OWN, .text = "timestamp: the hour of the day, \"0\" to \"23\"."},
    {"weekday", CONFIG_OWN, .text = "timestamp: the day, \"0\" Monday to \"6\"."},
    {"offset", CONFIG_NUMBER, IN(struct config_bucket, offset_hours), -14, 14,
     .text = "hour, weekday: hours added to UTC."},
    {0},
};

const struct config_key config_sequence_keys[] = {
    {"last", CONFIG_COUNT, IN(struct config_sequence, last), 0, 8000, "100",
     .text = "How many are kept; 0: none."},
    {"of", CONFIG_OWN, .text = "An action or a list of them; needed where the name is none."},
    {"with", CONFIG_OWN, .text = "What is kept beside item and time: a list of category, author, dwell."},
    {"keep", CONFIG_OWN, .text = "item, or item.ATTRIBUTE in its place: the authors that a user follows."},
    {"unique", CONFIG_BOOL, IN(struct config_sequence, unique),
     .text = "What comes again replaces its older entry: a set, the newest first."},
    {"by", CONFIG_OWN, .text = "item.ATTRIBUTE or a bucket: the long sequence, of which each bucket has so many."},
    {"remove_on", CONFIG_OWN, .text = "Actions that take the item out again."},
    {"gone", CONFIG_BOOL, IN(struct config_sequence, gone),
     .text = "true: entries of an item whose profile was deleted vanish."},
    {0},
};

const struct config_key config_label_keys[] = {
    {"of", CONFIG_OWN, .choices = "watch_ms|max|sum|last",
     .text = "Of watch alone: watch_ms as join.watch says, or max, sum or last itself. Of completion: watch."},
    {"length", CONFIG_OWN,
     .text = "Makes the entry completion a label, which is the share that was watched: {of: watch, length: FEATURE}, a "
             "plain number feature, ms."},
    {"window", CONFIG_DURATION, IN(struct config_label, window_ms), 1, 30 * DAY,
     .text = "Feedback so long after its impression is this label; default join.window. A longer one corrects the "
             "sample that has left."},
    {0},
};

const struct config_key config_thin_keys[] = {
    {"action", CONFIG_OWN, .text = "The action whose count says how popular an item is."},
    {"window", CONFIG_OWN, .text = "One of counters.windows, up to the watermark."},
    {"above", CONFIG_COUNT, IN(struct state_thin, above), 1, 1e15, .text = "Items of a higher count are thinned."},
    {"power", CONFIG_NUMBER, IN(struct state_thin, power), 0, 10, "0.5", .text = "How much."},
    {0},
};

const struct config_key config_table_keys[] = {
    {"dim", CONFIG_COUNT, IN(struct config_table, dim), 1, 1024, "16", .text = "Numbers in a vector."},
    {"rows", CONFIG_COUNT, IN(struct config_table, rows), 1, 4e9, "1M",
     .text = "Capacity; the memory is fixed at the start."},
    {"admit", CONFIG_COUNT, IN(struct config_table, admit), 1, 1e9, "1",
     .text = "Occurrences before an id gets its vector."},
    {"expire", CONFIG_DURATION, IN(struct config_table, expire_ms), 0, 3650 * DAY, "30d",
     .text = "A row without an occurrence for so long goes; 0s: never."},
    {"lr", CONFIG_NUMBER, IN(struct config_table, optimizer.lr), 1e-9, 10, "0.1",
     .text = "Learning rate; of adam 0.001 where it is not given."},
    {"init", CONFIG_OWN, .fallback = "0.02",
     .text = "New vectors: the standard deviation of a normal distribution, or {uniform: x} within -x to x, "
             "{constant: x}, zeros."},
    {"optimizer", CONFIG_CHOICE, IN(struct config_table, optimizer.kind), .fallback = "rowwise_adagrad",
     .choices = "adagrad|ftrl|adam|rowwise_adagrad",
     .text = "rowwise_adagrad keeps one number a row; adagrad, by coordinate, the memory of a vector more, ftrl and "
             "adam that of two. A store keeps it."},
    {"clip_norm", CONFIG_NUMBER, IN(struct config_table, optimizer.clip_norm), 0, 1e9, "0",
     .text = "The norm of a row's gradient at most; 0: any."},
    OPTIMIZER_KEYS("", struct config_table, optimizer),
    {0},
};

const struct config_key config_feature_keys[] = {
    {"id", CONFIG_OWN, .text = "An embedding of user, item, context.NAME, user.ATTRIBUTE or item.ATTRIBUTE."},
    {"number", CONFIG_OWN, .text = "The number context.NAME, user.ATTRIBUTE or item.ATTRIBUTE."},
    {"count", CONFIG_OWN, .text = "An action's count, or watch_ms for its sum, in a window."},
    {"rate", CONFIG_OWN, .text = "A/B, two of these: (A + a) / (B + b) in a window, with smooth: [a, b]."},
    {"hour", CONFIG_OWN, .text = "timestamp: an embedding of the hour of the day, 0 to 23."},
    {"weekday", CONFIG_OWN, .text = "timestamp: an embedding of the day, 0 Monday to 6."},
    {"sequence", CONFIG_OWN,
     .text = "What a sequence of the user holds, as embeddings of `table`; of one that is kept by bucket, that of the "
             "candidate's bucket."},
    {"cross", CONFIG_OWN, .text = "[A, B], two earlier features that are embeddings: an embedding of the pair."},
    {"age", CONFIG_OWN, .text = "item: hours since its birth."},
    {"geohash", CONFIG_OWN, .text = "[latitude, longitude], numbers of a context or profile: an embedding of the place."},
    {"ids", CONFIG_OWN, .text = "user.ATTRIBUTE or item.ATTRIBUTE, a list of strings: the mean of their embeddings."},
    {"member", CONFIG_OWN,
     .text = "A sequence: 1 where the item (or what of it the sequence keeps, as its author) is in it, else 0."},
    {"of", CONFIG_OWN,
     .text = "count, rate: whose counters: user, item, or all for everything. sequence: item (the default), "
             "category, author, or age, the time since each entry in intervals that double from 1 h on."},
    {"by", CONFIG_OWN,
     .text = "count, rate: one of counters.OF.by: what was counted in the bucket in which this event is."},
    {"window", CONFIG_OWN, .text = "count, rate: one of counters.windows, or total."},
    {"smooth", CONFIG_OWN, .entry = config_smooth_keys,
     .text = "rate: [a, b], default [1, 20]; or a map: towards the rate of a parent."},
    {"log1p", CONFIG_BOOL, IN(struct config_feature, log1p),
     .text = "number (default false), count, age (default true): log(1 + x), of a negative x as of 0."},
    {"offset", CONFIG_NUMBER, IN(struct config_feature, offset_hours), -14, 14,
     .text = "hour, weekday: hours added to UTC."},
    {"bucketize", CONFIG_OWN, .entry = config_bucketize_keys,
     .text = "number, count, rate, age: [edges ascending], for a rate N equal parts of 0 to 1, or a map; makes it an "
             "embedding."},
    {"missing", CONFIG_OWN,
     .text = "number: zero, or the number that stands for a missing one; category, the default with bucketize: a "
             "bucket of its own."},
    {"hash", CONFIG_COUNT, IN(struct config_feature, hash), 2, 1e9,
     .text = "id, cross, geohash: ids modulo it, for a table that is smaller than what comes."},
    {"precision", CONFIG_COUNT, IN(struct config_feature, precision), 1, 12,
     .text = "geohash: its characters; default 5."},
    {"table", CONFIG_OWN, .text = "Of the embedding; a sequence must name one."},
    {"last", CONFIG_COUNT, IN(struct config_feature, last), 1, 8000,
     .text = "sequence, ids: how many; default 50, and never more than are kept."},
    {"pool", CONFIG_OWN, .choices = "mean", .text = "sequence: mean."},
    {0},
};

const struct config_key config_smooth_keys[] = {
    {"parent", CONFIG_OWN,
     .text = "One of counters.all.by, or all, or a list of them, the nearest first; all comes last by itself. Of "
             "counters by bucket the first may be item or user, the rate without the bucket. The rate is "
             "(A + weight * parent's) / (B + weight), the parent's being smoothed by its own."},
    {"weight", CONFIG_NUMBER, IN(struct config_feature, weight), 1e-9, 1e18,
     .text = "How many events the parent's rate counts for; default 20."},
    {"prior", CONFIG_OWN, .text = "[a, b] of the last parent; default [1, 20]."},
    {0},
};

const struct config_key config_bucketize_keys[] = {
    {"quantiles", CONFIG_COUNT, IN(struct config_feature, quantiles), 2, 65,
     .text = "So many buckets of equal share, learned by the first update at whose end samples have given 100 values "
             "a bucket; bucket 0 until then."},
    {0},
};

const struct config_key config_model_keys[] = {
    {"preset", CONFIG_OWN, .text = "A net and heads that are ready; see below."},
    {"with", CONFIG_OWN, .text = "Arguments of the preset."},
    {"net", CONFIG_OWN, .entry = config_block_keys,
     .text = "A list of blocks; each uses features and earlier blocks."},
    {"heads", CONFIG_OWN, .entry = config_head_keys, .text = "A map of heads, each predicts a label."},
    {"score", CONFIG_OWN,
     .text = "An expression of the heads, by which candidates are ordered: \"click * (1 + watch)^0.5\"; + - * / ^ ( ), "
             "numbers, log, exp, min, max; norm_HEAD of a head with `length`, its mean label at that length: \"finish / "
             "norm_finish\"."},
    {"rank", CONFIG_OWN, .entry = config_rank_keys,
     .text = "Ranking in two stages: heads of stage 1 see every candidate, those of stage 2 the best of these."},
    {"item_cache", CONFIG_SIZE, IN(struct config_model, item_cache), 0, TIB, "64MiB",
     .text = "For outputs of blocks of side: item, kept while a version is served; 0: none are."},
    {0},
};

const struct config_key config_rank_keys[] = {
    {"keep", CONFIG_COUNT, IN(struct config_model, keep), 1, 1000, "100",
     .text = "How many candidates go on to stage 2."},
    {"by", CONFIG_OWN,
     .text = "An expression of heads of stage 1, by which they are chosen; default: the first of these heads."},
    {0},
};

const struct config_key config_block_keys[] = {
    {"name", CONFIG_OWN, .text = "What later blocks and heads call it."},
    {"of", CONFIG_OWN,
     .text = "A list of features and earlier blocks; `all` is every feature but the `length` of a head, all.user, "
             "all.item, all.context, all.cross and all.request (user or context) those of a side, all.ids, "
             "all.numbers, all.sequences and all.plain (no sequences) those of a kind, all.fields the ids of the "
             "width that most of them have."},
    {"side", CONFIG_OWN, .choices = "user|item",
     .text = "A tower: nothing in it may be of another side (the user's may see the context). What it gives of an item "
             "is kept while a version is served (item_cache)."},
    {"lr", CONFIG_OWN, .text = "Learning rate of its parameters; default update.dense_lr."},
    {"init", CONFIG_OWN,
     .text = "How its matrices begin, in place of the layer's own rule: xavier_uniform, xavier_normal, "
             "kaiming_uniform, kaiming_normal, zeros, {normal: x}, {uniform: x} or {constant: x}."},
    {0},
};

const struct config_key config_head_keys[] = {
    {"of", CONFIG_OWN, .text = "The block or feature that it reads."},
    {"loss", CONFIG_OWN,
     .text = "What is minimised; the first of those below by default, with join.emit: fake_negative it is fnw."},
    {"corrected", CONFIG_CHOICE, IN(struct config_head, corrected), .fallback = "replace",
     .choices = "replace|add",
     .text = "replace: a corrected sample takes back the negative that it was before; add: it is trained on beside "
             "it, for comparison."},
    {"weight", CONFIG_NUMBER, IN(struct config_head, weight), 1e-6, 1e6, "1",
     .text = "In the sum of losses."},
    {"label", CONFIG_OWN, .text = "One of join.labels; default: the head's own name."},
    {"given", CONFIG_OWN,
     .text = "A label without which a sample takes no part: a like among clicks."},
    {"through", CONFIG_OWN,
     .text = "An earlier head: what is predicted is the product of both, over all impressions (ESMM)."},
    {"length", CONFIG_OWN,
     .text = "A plain number feature, ms: of label watch the share of it that was watched."},
    {"threshold", CONFIG_NUMBER, IN(struct config_head, threshold), 1e-6, 1e6,
     .text = "Of label watch: positive from so many seconds on, or from this share of `length`."},
    {"stage", CONFIG_COUNT, IN(struct config_head, stage), 1, 2, "1",
     .text = "Of ranking: 2 is computed of the candidates alone that stage 1 keeps (rank)."},
    {"lr", CONFIG_NUMBER, IN(struct config_head, lr), 1e-9, 10,
     .text = "Learning rate of its parameters; default update.dense_lr."},
    {"init", CONFIG_OWN, .text = "How its weight begins, as of a block."},
    {0},
};
// clang-format on
