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
#include "models/net.h"
#include "state/state.h"

enum {
    CONFIG_NAME = 64, // longest name of a feature, table, block, head
    CONFIG_FEATURES_MAX = 256,
    CONFIG_BLOCKS_MAX = 64,
    CONFIG_HEADS_MAX = 16,
    CONFIG_EDGES_MAX = 64,
    CONFIG_PROPERTIES_MAX = 128,
    CONFIG_ATTRIBUTES_MAX = 128, // declared for users, and as many for items
    CONFIG_BUCKETS_MAX = 128,    // those of `buckets`, and what counters and sequences name in passing
    CONFIG_GROUPINGS_MAX = STATE_GROUPINGS_MAX - 1,
    CONFIG_GROUPING_TOTAL = STATE_GROUPINGS_MAX - 1, // the number of the total of everything in the store
    CONFIG_PARENTS_MAX = 4,
};
#define CONFIG_NONE UINT32_MAX
#define CONFIG_WINDOW_TOTAL UINT32_MAX // window: total, since ever

struct config_at {
    const char *file; // "built-in", "command line" or the path
    int line, column; // from 1; 0: unknown
};

struct config_properties { // name, value, name, value, ..., NULL: as stream/ takes them
    const char *list[2 * CONFIG_PROPERTIES_MAX + 1];
    uint32_t n;
};

struct config_optimizer { // as struct optimizer
    enum optimizer_kind kind;
    double lr, accumulator, beta1, beta2, beta, l1, l2, weight_decay, clip_norm;
    bool decoupled;
    uint64_t warmup; // samples
};

struct config_table {
    char name[CONFIG_NAME];
    uint32_t dim;      // 16
    uint64_t rows;     // 1M
    uint32_t admit;    // 1
    int64_t expire_ms; // 30d
    struct config_optimizer optimizer;
    struct net_init_by init; // NORMAL, UNIFORM or CONSTANT
    struct config_at at;
};

// ---- what stands in a profile or a context

enum config_type_of { CONFIG_ANY, CONFIG_STRING, CONFIG_REAL, CONFIG_LIST, CONFIG_BOOLEAN };

struct config_attribute { // declared in stream.users.attributes or stream.items.attributes
    char name[CONFIG_NAME];
    enum config_type_of type;
};

enum config_source { CONFIG_OF_USER, CONFIG_OF_ITEM, CONFIG_OF_CONTEXT, CONFIG_OF_ALL };

struct config_ref { // user.ATTRIBUTE, item.ATTRIBUTE, context.NAME
    enum config_source of;
    char field[CONFIG_NAME];  // "": the id of the user or item itself
    enum config_type_of type; // as declared; a value of another type reads as missing
};

// ---- buckets and groupings

// The text of a bucket, by which counters are grouped. What has no value is in no bucket.
enum config_bucket_kind {
    CONFIG_BUCKET_VALUE,   // of: the value's text
    CONFIG_BUCKET_EDGES,   // of, edges: the number of edges at or below it
    CONFIG_BUCKET_PREFIX,  // of, prefix: the first characters of the text
    CONFIG_BUCKET_GEOHASH, // geohash: [lat, lon], precision
    CONFIG_BUCKET_HOUR,    // hour: timestamp, offset
    CONFIG_BUCKET_WEEKDAY, // weekday: timestamp, offset
};

struct config_bucket {
    char name[CONFIG_NAME]; // of `buckets`, or as it was written where it was named in passing
    enum config_bucket_kind kind;
    bool named; // stands in `buckets`
    struct config_ref of[2];
    uint32_t n_edges;
    double edges[CONFIG_EDGES_MAX];
    uint32_t prefix, precision;
    double offset_hours;
    struct config_at at;
};

struct config_grouping {    // its index is its number in the store
    char name[CONFIG_NAME]; // as in `by`
    enum group_of of;
    uint32_t bucket; // CONFIG_NONE: the total of everything
    bool counted;    // false: kept for a sequence alone
};

// ---- sequences

struct config_sequence {    // its index is its number in the store: below ACTION_MAX the actions' own
    char name[CONFIG_NAME]; // "": there is none of this number
    uint32_t actions;       // bit a: such an event enters
    uint32_t remove_on;     // bit a: such an event takes out what it names
    uint32_t last;
    uint8_t with; // SEQUENCE_*
    bool unique;
    bool gone;              // what a tombstone's item left is hidden
    bool keeps_attribute;   // entries are keep.field of the item, not the item
    struct config_ref keep; // item.ATTRIBUTE
    uint32_t grouping;      // by: kept in the group user x value of it; CONFIG_NONE: in the user
    struct config_at at;
};

// ---- features

enum config_feature_kind {
    CONFIG_FEATURE_ID,       // id: user | item | context.NAME | user.ATTR | item.ATTR; hash
    CONFIG_FEATURE_NUMBER,   // number: context.NAME | user.ATTR | item.ATTR; log1p, bucketize, missing
    CONFIG_FEATURE_COUNT,    // count: MEASURE, of: user|item|all, by, window; log1p (default true), bucketize
    CONFIG_FEATURE_RATE,     // rate: MEASURE/MEASURE, of, by, window, smooth; bucketize
    CONFIG_FEATURE_HOUR,     // hour: timestamp (0..23 of UTC plus `offset`)
    CONFIG_FEATURE_WEEKDAY,  // weekday: timestamp (0 Monday .. 6)
    CONFIG_FEATURE_SEQUENCE, // sequence: NAME, of: item|category|author|age, last: N, table, pool: mean
    CONFIG_FEATURE_CROSS,    // cross: [A, B] of two that are embeddings; hash
    CONFIG_FEATURE_AGE,      // age: item, hours since its birth; log1p, bucketize
    CONFIG_FEATURE_GEOHASH,  // geohash: [REF, REF], precision; hash
    CONFIG_FEATURE_IDS,      // ids: user.ATTR | item.ATTR, a list of strings; last
    CONFIG_FEATURE_MEMBER,   // member: SEQUENCE; 1 if what the item would put there stands there
};

enum config_missing { CONFIG_MISSING_CATEGORY, CONFIG_MISSING_VALUE };
enum config_column { CONFIG_COLUMN_ITEM, CONFIG_COLUMN_CATEGORY, CONFIG_COLUMN_AUTHOR, CONFIG_COLUMN_AGE };

struct config_feature {
    char name[CONFIG_NAME];
    enum config_feature_kind kind;
    struct config_ref ref;     // id, number, ids; first of geohash. ref.of: whose counter
    struct config_ref second;  // geohash: the longitude
    uint8_t measure;           // count; numerator of a rate
    uint8_t denominator;       // of a rate
    uint32_t sequence;         // sequence, member: index into sequences
    enum config_column column; // of the sequence
    uint32_t grouping;         // count, rate: of a group; CONFIG_NONE: of the user or item as a whole
    uint32_t window;           // index into windows, or CONFIG_WINDOW_TOTAL
    double smooth[2];          // (numerator + a) / (denominator + b); default [1, 20]
    double weight;             // of each parent's rate
    uint32_t n_parents; // the nearest first; groupings, or CONFIG_NONE for the user's or item's own rate
    uint32_t parents[CONFIG_PARENTS_MAX];
    bool log1p;
    double offset_hours; // hour, weekday
    uint32_t precision;  // geohash
    uint32_t n_edges;    // bucketize: [edges ascending]; value v is in bucket #{edges <= v}
    double edges[CONFIG_EDGES_MAX];
    uint32_t equal_buckets; // bucketize: N, for a rate: N equal buckets of [0, 1]; 0: none
    uint32_t quantiles;     // bucketize: {quantiles: N}, learned; 0: none
    enum config_missing missing;
    double missing_value;
    uint64_t hash;     // ids modulo it; 0: as they are
    uint32_t cross[2]; // earlier features
    uint32_t last;     // sequence, ids
    int table;         // index into tables: an embedding; -1: a plain number
    struct config_at at;
};

struct config_block {
    char name[CONFIG_NAME];
    char kind[CONFIG_NAME]; // the key that names a layer kind: mlp, concat, mean, ...
    uint32_t n_of;
    char (*of)[CONFIG_NAME];                         // features or earlier blocks
    struct layer_value options[NET_OPTIONS_MAX + 1]; // of the kind, as given; inputs by the names of `of`
    uint32_t side;                                   // NET_USER, NET_ITEM or 0
    double lr;                                       // 0: update.dense_lr
    struct net_init_by init;
    struct config_at at;
};

enum config_corrected { CONFIG_CORRECTED_REPLACES, CONFIG_CORRECTED_ADDS };

struct config_head {
    char name[CONFIG_NAME]; // also the label, unless `label` names another
    char of[CONFIG_NAME];
    char loss[16];
    uint8_t label; // action
    enum config_corrected corrected;
    double weight;
    // What it is trained on (targets.c).
    bool valued;      // of watch_ms, not of the bit alone
    int given;        // the action whose label must be there; -1: none
    int through;      // the earlier head whose probability is a factor; -1: none
    int length;       // index into features: the length in ms, of which the value is a share; -1: none
    double threshold; // from which on the value is a positive; 0: none
    double lr;        // 0: update.dense_lr
    struct net_init_by init;
    uint32_t stage; // of ranking: 1, or 2, of the candidates that the first keeps
    struct config_at at;
};

struct config_model { // one in this release
    char name[CONFIG_NAME];
    uint32_t n_blocks, n_heads;
    struct config_block blocks[CONFIG_BLOCKS_MAX];
    struct config_head heads[CONFIG_HEADS_MAX];
    const struct fusion *score; // NULL: none
    // What expressions know of after the heads: norm_HEAD, of those with a length (norms.h).
    uint32_t n_norms, norms[CONFIG_HEADS_MAX];
    bool staged;             // some head is of stage 2
    uint32_t keep;           // candidates that go on to stage 2
    const struct fusion *by; // orders them in stage 1; NULL: the first head of it
    uint64_t item_cache;     // bytes, of outputs of blocks of `side: item`
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
    uint32_t n_user_attributes, n_item_attributes; // 0: not declared, any name may be used
    struct config_attribute user_attributes[CONFIG_ATTRIBUTES_MAX], item_attributes[CONFIG_ATTRIBUTES_MAX];
    char item_birth[CONFIG_NAME];                              // attribute of the item's birth; "": none
    char item_category[CONFIG_NAME], item_author[CONFIG_NAME]; // attributes that sequences keep
    char actions[ACTION_MAX][CONFIG_NAME];                     // built-in, then stream.actions
    uint32_t n_actions;
    struct {
        int64_t out_of_order_ms, max_future_ms, idle_after_ms;
    } time;
    uint64_t queue_bytes; // of messages that wait in librdkafka
    char dlq_suffix[32];  // ".dlq"
    struct {
        int64_t window_ms;
        uint64_t max;
    } dedupe;
    // counters
    uint32_t n_windows;
    struct state_window windows[STATE_WINDOWS_MAX]; // "1h", "1d", "7d"; {name, tile, length} for others
    bool totals;
    uint32_t n_buckets, n_groupings;
    struct config_bucket buckets[CONFIG_BUCKETS_MAX];
    struct config_grouping groupings[CONFIG_GROUPINGS_MAX];
    bool total_of_all; // the total of everything is counted: grouping CONFIG_GROUPING_TOTAL
    // The first use of a user's and of an item's attribute: an error where no topic brings profiles.
    struct {
        struct config_at at;
        char what[3 * CONFIG_NAME];
    } uses[2]; // by config_source; what "": none
    // sequences
    uint32_t n_sequences; // numbers in use: at least ACTION_MAX
    struct config_sequence sequences[STATE_SEQUENCES_MAX];
    const char *layout; // state_options.layout
    // join
    struct state_join_options join;
    struct {
        char length[CONFIG_NAME]; // a number feature, ms; "": completion is no label
        int feature;              // its index; -1: none
        struct config_at at;
    } completion; // the label of what share was watched
    // tables, features, models
    uint32_t n_tables, n_features;
    struct config_table tables[STATE_TABLES_MAX];
    struct config_feature features[CONFIG_FEATURES_MAX];
    struct config_model model;
    struct {
        int64_t every_ms;
        uint64_t bootstrap_samples;    // 100k
        uint32_t batch;                // 512
        uint32_t epochs;               // 1
        struct config_optimizer dense; // its lr is update.dense_lr
        uint64_t seed;
        enum packed_kernel kernel; // as asked for
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
        char topic[250];         // "freshet-deltas"
        uint32_t digest_every;   // versions between digests of whole tables
        char samples_topic[250]; // "": samples are not published
        bool enabled;
    } publish;
    struct {
        char dir[4096];          // "freshet-state"; under systemd $STATE_DIRECTORY
        int64_t commit_every_ms; // 1s live
        uint64_t commit_events;  // and after so many events at most (catching up): 200k
        uint64_t commit_bytes;   // or when about so much memory waits for a commit
        uint64_t cache_bytes, body_cache_bytes, block_cache_bytes;
        int64_t samples_keep_ms;                  // 7d
        uint64_t samples_bytes;                   // 0: no bound
        int64_t users_expire_ms, items_expire_ms; // 0: never
    } state;
    struct {
        char host[256];       // "127.0.0.1"
        uint16_t port;        // 7878
        uint32_t connections; // 256
        uint64_t body_bytes;  // largest request body: 1 MiB
        char token[256];      // "" : loopback only
    } http;
    uint64_t memory_limit; // 0: the machine's
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

// As models/ takes it; and in words: "adam, lr 0.001, weight decay 0.01 (decoupled)".
struct optimizer config_optimizer(const struct config_optimizer *o);
void config_optimizer_text(const struct config_optimizer *o, struct buf *to);

// What `run` and `check` ask, and `replay`, which has profiles from files, does not: that a topic brings the
// profiles whose attributes are used. ERR_CONFIG as above.
int config_check_profiles(const struct config *c, struct err *err);

// A feature whose values are lists; and two of them that show the same entries, each otherwise.
bool config_feature_ragged(const struct config_feature *f);
bool config_feature_twins(const struct config_feature *a, const struct config_feature *b);
// Of whom a feature tells: bits of net_side.
uint32_t config_feature_sides(const struct config *c, uint32_t feature);

// The share of its negatives that a label keeps.
double config_keep(const struct config *c, uint8_t label);

// The built-in default, as YAML.
const char *config_default_yaml(void);
// The annotated reference file, from the table of keys.
void config_reference(struct buf *to);
// "file:line:column" of a place.
const char *config_at_text(const struct config_at *at, char *text, size_t size);

#endif
