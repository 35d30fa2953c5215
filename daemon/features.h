// SPDX-License-Identifier: Apache-2.0
// Features, as the config declares them: read from the state at the impression, kept in the sample, turned
// into the model's inputs. One path for samples and for requests, so that there is no training-serving skew:
//
//     state  --features_read-->  body (bytes)  --features_decode-->  struct feature_row  -->  columns, JSON
//
// A body holds readings (raw counts, attributes, ids), not floats: it is smaller, costs less at ingest, and
// log1p, smoothing and bucketization are applied once, where the sample is used. The user's part is shared by
// the items of one message:
//
//     user part   u64 user, str user id, str request id, readings of user, context and sequences
//     item part   u64 item, str item id, zigzag position, readings of item
//
//     counter      varint
//     attribute    u8 type (0 missing, 1 string, 2 number, 3 false, 4 true), then str or f64
//     place        as an attribute: a string, its geohash
//     list         varint n, n x u64
//     age          varint, 1 + ms since the item's birth
//     member       u8
//     sequence     as state_sequence_put
//
// A counter or sequence by bucket is the group's of the bucket in which this event is (groups.h): it lies in the
// item's part where the item decides which that is.
#ifndef FRESHET_DAEMON_FEATURES_H
#define FRESHET_DAEMON_FEATURES_H

#include "base/json.h"
#include "daemon/config.h"
#include "models/model.h"
#include "state/state.h"
#include "stream/event.h"

struct features;

struct features *features_new(const struct config *config);
void features_free(struct features *f);
// Describes the layout of a body: two configs with the same text read each other's samples.
struct str features_schema(const struct features *f);

// ---- reading ----------------------------------------------------------------------------------------------

// Where the readings of one message come from. A user's profile is an entity of its own (partition
// PROFILE_PARTITION): profile topics need not be partitioned as the events are.
enum { PROFILE_PARTITION = UINT16_MAX };
struct feature_entities {
    struct entity *user;
    struct entity *profile;
    struct entity *const *items; // by item of the event
    bool begun;                  // groups_begin has been called for the message
};
// True if some feature or bucket reads the user's profile.
bool features_use_profile(const struct features *f);

// Upper bound of the bytes of a body for this event.
uint32_t features_body_bound(const struct features *f, const struct event *e);
// Puts the user's part, then the item's parts, as the state stands. `at` is where the body will begin in its
// segment, or UINT32_MAX for a request, which belongs to no segment. ret_item_at[i]: distance of item i's
// part from the begin of the body. NULL entities (unknown in a request) read as empty.
// -1: the state could not be read; features_error says why.
int features_read(struct features *f, struct state *s, const struct event *e,
                  const struct feature_entities *of, uint32_t at, struct buf *to, uint32_t *ret_item_at);
void features_error(const struct features *f, struct err *ret_err);
// The buckets and groups of the message that features_read saw last: to count it.
struct groups *features_groups(struct features *f);
// The measures of the counters that features_read reads, of whatever they are: bit m for measure m.
uint32_t features_measures(const struct features *f);
// Of an impression: items for which the label completion is not defined, its length being missing or not above 0.
uint32_t features_lengths_missing(struct features *f, const struct event *e,
                                  const struct feature_entities *of);
// When the item was born: its attribute, else its first event; `ts` where nothing is known of it.
int64_t features_birth(const struct features *f, const struct entity *item, int64_t ts);

// ---- values -----------------------------------------------------------------------------------------------

enum feature_type { FEATURE_MISSING, FEATURE_NUMBER, FEATURE_CATEGORY, FEATURE_SEQUENCE };

struct feature_value {
    enum feature_type type;
    double number;      // FEATURE_NUMBER: the value; of a bucketized one too, beside its category
    uint64_t id;        // FEATURE_CATEGORY (and FEATURE_MISSING of a category): id in its table
    struct str text;    // FEATURE_CATEGORY: what was hashed; "" for numbers shown as such (hour, bucket)
    int64_t integer;    // hour or bucket
    bool fraction;      // FEATURE_CATEGORY of a number that is not whole: shown as `number`
    bool cross;         // FEATURE_CATEGORY of two others: shown as both
    const uint8_t *ids; // FEATURE_SEQUENCE: u64 each, unaligned, newest first; feature_value_id has the ids
    uint32_t n;
    // A sequence of ages: times of the entries, the time of the row, hash_id of small numbers.
    const uint8_t *times;
    int64_t ts;
    const uint64_t *small;
};

// Entry k of a sequence; of one of ages the id of its interval: "0" below an hour, then 1 + floor(log2(hours)).
uint64_t feature_value_id(const struct feature_value *v, uint32_t k);
uint32_t feature_value_interval(const struct feature_value *v, uint32_t k);

struct feature_row {
    uint64_t user, item;
    struct str user_text, request_text, item_text;
    int64_t position;
    struct feature_value values[CONFIG_FEATURES_MAX]; // by feature of the config
};

// Decodes one sample's body. -1: it does not fit the schema.
int features_decode(const struct features *f, struct str segment, uint32_t user_at, uint32_t item_at,
                    int64_t ts, struct feature_row *ret_row);
// "features": {...}: ids as text, numbers in full precision, sequences as lists of item ids, missing as null.
void features_json(const struct features *f, struct state *s, const struct feature_row *row, struct json *j);
void features_value_json(const struct features *f, struct state *s, const struct feature_row *row, uint32_t i,
                         struct json *j);
// The canonical bytes of a body for digests: back-references resolved.
void features_canonical(void *features, const struct sample *sample, struct str segment, struct buf *to);

// The text behind a hash: of a feature's value, an item, or a user of the partitions below `partitions`; "" where
// it is not known. Valid until the state changes.
struct str features_text(struct state *s, uint64_t id, uint16_t partitions);
bool features_text_known(uint64_t id, struct str text); // of what features_text gave
// As JSON: null for 0, and where it is not known, as of an item that has vanished.
void features_text_json(struct state *s, uint64_t id, struct json *j);

// ---- quantiles (features_quantiles.c) ---------------------------------------------------------------------

// Collects what the edges of quantiles are learned from, while an update is fed, after what earlier updates gathered;
// NULL: all are known, or there are none. The other functions take NULL.
struct quantiles;
struct quantiles *features_quantiles_new(const struct features *f);
void features_quantiles_free(struct quantiles *q);
void features_quantiles_put(struct quantiles *q, const struct feature_row *row);
void features_quantiles_learn(const struct features *f, struct quantiles *q);
// The blobs of the version that the update makes: edges that were known and that it learned; values gathered where
// there are too few yet. Each blob has its load: ERR_CORRUPT.
void features_quantiles_save(const struct features *f, const struct quantiles *q, struct buf *to,
                             struct buf *gathered);
void features_quantiles_apply(struct features *f, struct quantiles *q);
int features_quantiles_load(struct features *f, struct str blob, struct err *err);
int features_quantiles_load_gathered(struct features *f, struct str blob, struct err *err);
// Edges that come from elsewhere, for the version that *q makes (NULL: is made here), in place of what is known.
void features_quantiles_set(struct quantiles **q, uint32_t feature, const double *edges, uint32_t n);
// False: not learned yet, everything is in bucket 0.
bool features_quantiles_of(const struct features *f, uint32_t feature, const double **ret_edges,
                           uint32_t *ret_n);
// Values of it that were gathered, and how many it takes to learn the edges between so many buckets.
uint32_t features_quantiles_gathered(const struct features *f, uint32_t feature);
uint32_t features_quantiles_need(uint32_t quantiles);
// What features_quantiles_of gives, of the version that q makes.
bool features_quantiles_next(const struct features *f, const struct quantiles *q, uint32_t feature,
                             const double **ret_edges, uint32_t *ret_n);
// Edges between `quantiles` buckets of equal share, ascending, at most quantiles - 1. Sorts the values.
uint32_t features_quantile_edges(double *values, uint32_t n, uint32_t quantiles, double *ret_edges);

// ---- the model's columns ----------------------------------------------------------------------------------

// Samples column by column, as model.h takes them; grows as needed and is reused.
struct columns;
struct columns *columns_new(const struct config *config);
void columns_free(struct columns *c);
void columns_clear(struct columns *c);
// seen_ms: event time of the sample. Labels and weights by head (model.h); NULL: 0 and 1.
void columns_put(struct columns *c, const struct feature_row *row, int64_t seen_ms, const float *labels,
                 const float *weights);
const struct model_samples *columns_samples(struct columns *c);

// The net of the config (feature_net.c): inputs from the features its blocks name, a "mean" block before whoever
// names a sequence and takes none. Owned by the result; free with features_net_free.
struct features_net {
    struct net_spec spec;
    struct table_options tables[STATE_TABLES_MAX];
    uint32_t n_tables;
    uint32_t inputs_of[CONFIG_FEATURES_MAX]; // net input -> feature of the config
    uint32_t block_of[CONFIG_BLOCKS_MAX + CONFIG_FEATURES_MAX +
                      CONFIG_HEADS_MAX]; // net block -> config's, or UINT32_MAX
    void *memory;
};
void features_net_new(const struct config *config, struct features_net *ret_net);
void features_net_done(struct features_net *net);

#endif
