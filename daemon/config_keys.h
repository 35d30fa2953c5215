// SPDX-License-Identifier: Apache-2.0
// The table of keys, and tables of the same kind for the entries of maps whose names the user chooses. Used
// by config*.c only. A row says all that is known of a key; the parser, the built-in default
// (config_default_yaml) and the reference file (config_reference) come from it.
#ifndef FRESHET_DAEMON_CONFIG_KEYS_H
#define FRESHET_DAEMON_CONFIG_KEYS_H

#include "base/arena.h"
#include "base/nearest.h"
#include "daemon/config.h"
#include "daemon/config_tree.h"

enum config_type {
    CONFIG_SECTION,  // holds the keys below it
    CONFIG_DURATION, // int64_t, ms
    CONFIG_COUNT,    // unsigned of the field's size
    CONFIG_SIZE,     // unsigned of the field's size, bytes
    CONFIG_NUMBER,   // double
    CONFIG_BOOL,     // bool
    CONFIG_TEXT,     // char array; with `choices` one of them
    CONFIG_TOPIC,    // char array: a Kafka topic, or part of the name of one
    CONFIG_CHOICE,   // enum or bool: index into `choices`
    CONFIG_OWN,      // read by `read`, or where that is NULL by whoever reads the entry
};

struct config_loader {
    struct config *c;
    struct arena *arena; // lives as long as the config
    struct err *err;
};

struct config_key {
    const char *path; // dotted from the root, or the key of an entry
    enum config_type type;
    uint16_t size;        // of the field
    uint32_t offset;      // in struct config, or in the struct of the entry
    double min, max;      // in the unit of the field; of a text: bytes
    const char *fallback; // the default, as YAML; of a map in blocks: from the line after the key on
    const char *choices;  // "a|b|c"
    const char *text;     // one line for the reference
    int (*read)(struct config_loader *l, const struct tree_node *n);
    const struct config_key *entry; // keys of the entries of a map, for the reference
};

extern const struct config_key
    config_keys[]; // in the order of the file; .path NULL ends each of these tables
extern const struct config_key config_window_keys[], config_bucket_keys[], config_sequence_keys[],
    config_label_keys[], config_thin_keys[], config_table_keys[], config_feature_keys[], config_smooth_keys[],
    config_bucketize_keys[], config_model_keys[], config_rank_keys[], config_block_keys[], config_head_keys[];

// ---- reading by a table (config_read.c) --------------------------------------------------------------

// Reads the scalar `n` into the field of `key` in `to`. `name` stands for the value in messages.
int config_key_read(struct config_loader *l, const struct config_key *key, const char *name,
                    const struct tree_node *n, void *to);
// Fallbacks of the fields of an entry.
void config_entry_init(struct config_loader *l, const struct config_key *keys, void *to);
// Every key of the map `n` must be in the table; those with a field are read into `to`.
int config_entry_read(struct config_loader *l, const struct config_key *keys, const char *name,
                      const struct tree_node *n, void *to);
// Every key of the file must be in config_keys, or lie below a map whose names the user chooses.
int config_check_keys(struct config_loader *l, const struct tree_node *root);
// True for the paths at which a file is laid over the default key by key; elsewhere it replaces.
bool config_merges(const char *path);
const struct config_key *config_key_find(const struct config_key *keys, const char *path);
// Where the choice stands in "a|b|c", or -1.
int config_choice(const char *choices, const char *text);

// ---- maps whose names the user chooses ---------------------------------------------------------------

int config_kafka_read(struct config_loader *l, const struct tree_node *n);
int config_actions_read(struct config_loader *l, const struct tree_node *n);
int config_windows_read(struct config_loader *l, const struct tree_node *n);
int config_user_attributes_read(struct config_loader *l, const struct tree_node *n);
int config_item_attributes_read(struct config_loader *l, const struct tree_node *n);
int config_buckets_read(struct config_loader *l, const struct tree_node *n);
int config_item_by_read(struct config_loader *l, const struct tree_node *n);
int config_user_by_read(struct config_loader *l, const struct tree_node *n);
int config_all_by_read(struct config_loader *l, const struct tree_node *n);
int config_sequences_read(struct config_loader *l, const struct tree_node *n);
int config_labels_read(struct config_loader *l, const struct tree_node *n);
int config_tables_read(struct config_loader *l, const struct tree_node *n);
int config_features_read(struct config_loader *l, const struct tree_node *n);
int config_models_read(struct config_loader *l, const struct tree_node *n);
int config_listen_read(struct config_loader *l, const struct tree_node *n);
// join (config_join.c)
struct config_label {
    int64_t window_ms; // 0: join.window
};
int config_keep_read(struct config_loader *l, const struct tree_node *n);
// The feature of join.labels.completion, once features are read.
int config_completion_resolve(struct config_loader *l);
// A number feature as it is, in ms; `what` stands for the key in messages.
int config_length_find(struct config_loader *l, const char *what, const char *name,
                       const struct config_at *at, int *ret_feature);
// config_heads.c: what a head is trained on, once its label and loss are read; and models.NAME.score.
int config_head_targets_read(struct config_loader *l, const struct config_model *m, const char *name,
                             const struct tree_node *n, struct config_head *h);
int config_score_read(struct config_loader *l, struct config_model *m, const struct tree_node *n);
int config_rank_read(struct config_loader *l, struct config_model *m, const struct tree_node *n);
// config_optimizer.c: what is set in the map `n` fits the kind; fills the learning rate where it is not set.
int config_optimizer_check(struct config_loader *l, const char *name, const struct tree_node *n,
                           const struct tree_node *lr, struct config_optimizer *o);
// A standard deviation, a word of NET_INIT_WORDS where `fans` (a matrix has them), or {normal: x} and its like.
int config_init_read(struct config_loader *l, const char *name, const struct tree_node *n, bool fans,
                     struct net_init_by *to);
int config_thin_read(struct config_loader *l, const struct tree_node *n);
int config_join_check(struct config_loader *l, const struct tree_node *root);
// Puts a property, or another value where the name is there. -1: no room.
int config_property_put(struct config_properties *p, const char *name, const char *value);

// ---- profiles and contexts (config_refs.c) -----------------------------------------------------------

// user, item (where `self`), context.NAME, user.ATTRIBUTE, item.ATTRIBUTE. `types`: bit t: an attribute declared
// as enum config_type_of t can be used. `what` stands for it in messages.
int config_ref_read(struct config_loader *l, const char *what, const struct tree_node *n, bool self,
                    unsigned types, struct config_ref *ret_ref);
// The same of an attribute by its name.
int config_ref_of(struct config_loader *l, const char *what, enum config_source of, const char *field,
                  unsigned types, const struct config_at *at, struct config_ref *ret_ref);

// ---- buckets and groupings (config_counters.c) -------------------------------------------------------

// Ascending numbers; `short_name` is what they are called in the message.
int config_edges_read(struct config_loader *l, const char *name, const char *short_name,
                      const struct tree_node *n, double *edges, uint32_t *ret_n);
// [latitude, longitude].
int config_location_read(struct config_loader *l, const char *name, const struct tree_node *n,
                         struct config_ref *ret_lat, struct config_ref *ret_lon);
// The grouping of users by what `n` names, made if counters have none.
int config_grouping_of_user(struct config_loader *l, const char *what, const struct tree_node *n,
                            uint32_t *ret_grouping);
int config_grouping_find(const struct config *c, enum group_of of, const char *name); // counted; -1: none
// Fills config.layout.
void config_layout(struct config_loader *l);

// ---- names (config_names.c) --------------------------------------------------------------------------

// Letters, digits, _ and -, not beginning with a digit or -, shorter than CONFIG_NAME. Copies it to `to`.
int config_name_take(struct config_loader *l, const char *what, const char *name, const struct config_at *at,
                     char to[CONFIG_NAME]);
// The number of an action, or ACTION_MAX.
uint8_t config_action_find(const struct config *c, const char *name);
// As above, or an error with the nearest. `feedback`: impression is refused.
int config_action_take(struct config_loader *l, const char *what, const char *name, bool feedback,
                       const struct config_at *at, uint8_t *ret_action);
int config_table_find(const struct config *c, const char *name);   // -1: none
int config_feature_find(const struct config *c, const char *name); // -1: none
// Adds a table with the fallbacks of config_table_keys. NULL: error.
struct config_table *config_table_add(struct config_loader *l, const char *name, const struct config_at *at);
// `n` must be a list of names, or one name: "what must be ...".
int config_list_check(struct config_loader *l, const char *name, const struct tree_node *n, uint32_t min,
                      uint32_t max);
int config_map_check(struct config_loader *l, const char *name, const struct tree_node *n);

#endif
