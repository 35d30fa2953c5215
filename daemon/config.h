// SPDX-License-Identifier: Apache-2.0
// The config: one YAML file, sections in the order of the way of an event. One table of keys
// (daemon/config_keys.c) gives the parser, the reference file (docs/freshet.reference.yaml) and --help; the
// maps whose names the user chooses (kafka properties, sequences, tables, features, models, buckets) have a
// table of keys for their entries.
//
// Every value knows where it stood (struct config_at), so that an error found later (a net whose shapes do not
// fit) still has file, line and column.
#ifndef FRESHET_DAEMON_CONFIG_H
#define FRESHET_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/action.h"
#include "base/err.h"
#include "state/state.h"

enum {
    CONFIG_NAME = 64, // longest name of a feature, table, block, head
    CONFIG_FEATURES_MAX = 256,
    CONFIG_BLOCKS_MAX = 64,
    CONFIG_HEADS_MAX = 16,
    CONFIG_EDGES_MAX = 64,
    CONFIG_PROPERTIES_MAX = 128,
};

struct config_at {
    const char *file; // "built-in", "command line" or the path
    int line, column; // from 1; 0: unknown
};

struct config_properties { // name, value, name, value, ..., NULL: as stream/ takes them
    const char *list[2 * CONFIG_PROPERTIES_MAX + 1];
    uint32_t n;
};

struct config_table {
    char name[CONFIG_NAME];
    uint32_t dim;      // 16
    uint64_t rows;     // 1M
    uint32_t admit;    // 1
    int64_t expire_ms; // 30d
    double lr;         // 0.05
    double init;       // 0.05
    struct config_at at;
};

enum config_feature_kind {
    CONFIG_FEATURE_ID,     // id: user | item | context.NAME | user.ATTR | item.ATTR
    CONFIG_FEATURE_NUMBER, // number: context.NAME | user.ATTR | item.ATTR; log1p, bucketize
    CONFIG_FEATURE_COUNT, // count: ACTION (or watch_ms), of: user|item, window: NAME; log1p (default true), bucketize
    CONFIG_FEATURE_RATE,     // rate: ACTION/ACTION, of, window, smooth: [a, b]; bucketize
    CONFIG_FEATURE_HOUR,     // hour: timestamp (0..23 of UTC plus `offset`)
    CONFIG_FEATURE_WEEKDAY,  // weekday: timestamp (0 Monday .. 6)
    CONFIG_FEATURE_SEQUENCE, // sequence: ACTION, last: N, table, pool: mean
};

enum config_source { CONFIG_OF_USER, CONFIG_OF_ITEM, CONFIG_OF_CONTEXT };

struct config_feature {
    char name[CONFIG_NAME];
    enum config_feature_kind kind;
    enum config_source of;   // whose id, attribute or counter
    char field[CONFIG_NAME]; // attribute or context name; "" for the id of the user or item itself
    uint8_t measure;         // count; numerator of a rate; action of a sequence
    uint8_t denominator;     // of a rate
    uint32_t window;         // index into windows
    double smooth[2];        // (numerator + a) / (denominator + b); default [1, 20]
    bool log1p;
    double offset_hours; // hour, weekday
    uint32_t n_edges;    // bucketize: [edges ascending]; value v is in bucket #{edges <= v}
    double edges[CONFIG_EDGES_MAX];
    uint32_t equal_buckets; // bucketize: N, for a rate: N equal buckets of [0, 1]; 0: none
    uint32_t last;          // sequence
    int table;              // index into tables: an embedding; -1: a plain number
    struct config_at at;
};

struct config_block {
    char name[CONFIG_NAME];
    char kind[CONFIG_NAME]; // the key that names a layer kind: mlp, concat, mean
    uint32_t n_of;
    char (*of)[CONFIG_NAME]; // features or earlier blocks
    uint32_t n_dims;
    uint32_t dims[8];
    char activation[16];
    struct config_at at;
};

struct config_head {
    char name[CONFIG_NAME]; // also the label, unless `label` names another
    char of[CONFIG_NAME];
    char loss[16];
    uint8_t label; // action
    double weight;
    struct config_at at;
};

struct config_model { // one in this release
    char name[CONFIG_NAME];
    uint32_t n_blocks, n_heads;
    struct config_block blocks[CONFIG_BLOCKS_MAX];
    struct config_head heads[CONFIG_HEADS_MAX];
    struct config_at at;
};

struct config_topic {
    char topic[250]; // "" for users and items: none
};

struct config {
    const char *file;
    // kafka: properties verbatim; consumer: and producer: overlays
    struct config_properties consumer, producer; // merged with the common ones, and with -X
    // stream
    struct config_topic events, users, items;
    char actions[ACTION_MAX][CONFIG_NAME]; // built-in, then stream.actions
    uint32_t n_actions;
    struct {
        int64_t out_of_order_ms, max_future_ms, idle_after_ms;
    } time;
    char dlq_suffix[32]; // ".dlq"
    struct {
        int64_t window_ms;
        uint64_t max;
    } dedupe;
    // counters
    uint32_t n_windows;
    struct state_window windows[STATE_WINDOWS_MAX]; // "1h", "1d", "7d"; {name, tile, length} for others
    // sequences
    uint32_t sequence_last[ACTION_MAX];
    // join
    struct state_join_options join;
    // tables, features, models
    uint32_t n_tables, n_features;
    struct config_table tables[STATE_TABLES_MAX];
    struct config_feature features[CONFIG_FEATURES_MAX];
    struct config_model model;
    struct {
        int64_t every_ms;
        uint64_t bootstrap_samples; // 100k
        uint32_t batch;             // 512
        uint32_t epochs;            // 1
        double dense_lr;            // 0.02
        uint64_t seed;
        bool enabled;              // false: samples are logged, nothing is trained (updates switched off)
        bool stop_after_bootstrap; // for comparison: train until frozen, then stop
        struct {
            double ne_max; // 0: off; a window's normalized entropy above it stops the update
            double calibration_min, calibration_max;
            double row_norm_max;
            uint64_t min_samples; // brakes on metrics look at windows of at least so many
        } brakes;
    } update;
    struct {
        char topic[250];       // "freshet-deltas"
        uint32_t digest_every; // versions between digests of whole tables
        bool enabled;
    } publish;
    struct {
        char dir[4096];          // "freshet-state"; under systemd $STATE_DIRECTORY
        int64_t commit_every_ms; // 1s live
        uint64_t commit_events;  // and after so many events at most (catching up): 200k
        uint64_t cache_bytes, body_cache_bytes, block_cache_bytes;
        int64_t samples_keep_ms; // 7d
    } state;
    struct {
        char host[256];       // "127.0.0.1"
        uint16_t port;        // 7878
        uint32_t connections; // 256
        uint64_t body_bytes;  // largest request body: 1 MiB
        char token[256];      // "" : loopback only
    } http;
    struct {
        char level[8]; // info
        bool json;
    } log;
    struct config_at at_model; // where models stood
    void *memory;              // owned
};

struct config_override {
    const char *path;  // dotted: "update.every"
    const char *value; // YAML: "30s", "[1h, 1d]"
};

// Loads `file` (NULL: the built-in default only) over the defaults, then the overrides and the -X properties.
// `properties` are name, value, ..., NULL. On a mistake ERR_CONFIG: "file:line:column: message", with the
// nearest key where a key is unknown. The result is whole: every name resolved, every bound checked.
int config_load(const char *file, const struct config_override *overrides, uint32_t n_overrides,
                const char *const *properties, struct config **ret_config, struct err *err);
void config_free(struct config *c);

// The built-in default, as YAML.
const char *config_default_yaml(void);
// The annotated reference file, from the table of keys.
void config_reference(struct buf *to);
// "file:line:column" of a place.
const char *config_at_text(const struct config_at *at, char *text, size_t size);

#endif
