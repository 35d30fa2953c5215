// SPDX-License-Identifier: Apache-2.0
// What freshet remembers, and the only header of state/ that other folders include: counters, Last-N
// sequences, profiles, the joiner's pending impressions, the sample log, dedupe, the recorded order, the
// outbox, table rows and versions. RocksDB stands behind it and is not seen.
//
// One thread (the main thread) calls everything here unless a function says otherwise. Changes are made in
// memory; state_commit hands a sorted copy of what is dirty to the commit thread, which makes it durable as a
// whole or not at all (docs/DESIGN.md, "A commit is a sorted file").
//
// Reads see every change made so far, durable or not.
#ifndef FRESHET_STATE_STATE_H
#define FRESHET_STATE_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/action.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/str.h"

struct state;
struct entity; // a user, an item or a group; valid until state_trim or state_close

enum {
    STATE_FORMAT = 3, // of everything on disk; a store of another format is refused with ERR_VERSION
    STATE_WINDOWS_MAX = 8,
    STATE_SEQUENCES_MAX = 64,
    STATE_GROUPINGS_MAX = 64,
    STATE_TABLES_MAX = 64,
};

// ---- opening ----------------------------------------------------------------------------------------------

struct state_window {
    char name[16];   // "1h"
    int64_t tile_ms; // a multiple of the tile of the window before it
    uint32_t tiles;  // length in tiles; spans do not get shorter either
};

enum state_emit { STATE_EMIT_WAIT, STATE_EMIT_FIRST_LABEL, STATE_EMIT_FAKE_NEGATIVE };
enum state_watch { STATE_WATCH_MAX, STATE_WATCH_SUM, STATE_WATCH_LAST };

// Of samples with a label whose item had c > above of `action` in a window at the watermark, the share
// (above / c)^power is kept.
struct state_thin {
    uint64_t above; // 0: all are kept
    double power;
    uint8_t action;
    uint32_t window; // index into the windows
};

struct state_join_options {
    int64_t window_ms;                   // a sample leaves so long after its impression
    int64_t label_window_ms[ACTION_MAX]; // feedback so long after the impression is a label; 0: window_ms
    int64_t remember_ms; // an impression is known at least so long; 0: as long as the longest window
    enum state_emit emit;
    bool corrections; // first_label, fake_negative: a label after the first makes a corrected sample
    enum state_watch watch_of;
    uint32_t labels;         // bit a: action a is a label (impression never)
    double keep_negatives;   // in (0, 1]: share kept of samples without any label
    double keep[ACTION_MAX]; // in (0, keep_negatives]: of the negatives of one label; 0: keep_negatives
    bool keep_by_label;      // samples tell the rate of each label
    struct state_thin thin;
    uint32_t max_pending; // at this many known impressions the oldest is forgotten, and leaves if it has not
};

// What is kept of an entry, and what of it goes into a body; item and ts are always kept.
enum { SEQUENCE_CATEGORY = 1, SEQUENCE_AUTHOR = 2, SEQUENCE_DWELL = 4, SEQUENCE_TIME = 8 };

struct state_sequence_options {
    uint32_t last; // N of Last-N, at most 8160; 0: none is kept
    uint8_t with;  // SEQUENCE_CATEGORY | SEQUENCE_AUTHOR | SEQUENCE_DWELL
    bool unique;   // a set: an id that comes again replaces its older entry
    bool gone;     // its ids are items, and state_gone hides them
};

struct state_options {
    struct state_window windows[STATE_WINDOWS_MAX];
    uint32_t n_windows;
    struct state_sequence_options sequences[STATE_SEQUENCES_MAX]; // below ACTION_MAX: the actions' own
    bool totals;                                                  // lifetime totals are kept
    // Users and items that were not seen for so long, in event time, vanish everywhere; 0: never. See "expiry".
    int64_t user_expire_ms, item_expire_ms;
    uint64_t gone_max; // tombstones of items that are remembered for sequences; beyond it the oldest go
    // What the numbers of windows, sequences and groupings mean, one line a thing. A store is refused with
    // ERR_VERSION where its lines are not the first of these; further lines are taken over. NULL: not checked.
    const char *layout;
    struct state_join_options join;
    int64_t out_of_order_ms; // for how long feedback waits for an impression out of order
    int64_t dedupe_window_ms;
    uint64_t dedupe_max;  // ids remembered at most; at the bound the oldest minute goes
    uint64_t cache_bytes; // entities
    uint64_t body_cache_bytes;
    uint64_t block_cache_bytes;  // RocksDB's
    uint64_t samples_keep_ms;    // retention of the sample log, event time; 0: for ever
    uint64_t samples_keep_bytes; // and by bytes of bodies and records before compression; 0: no bound
    bool read_only;              // no lock, no commit thread
    bool fail_if_absent;         // do not create
    // Called now and then in what takes the calling thread long (the copying of a commit, a larger table), so that
    // it can do something else meanwhile. It may read the state, and change nothing. NULL: nothing is called.
    void (*turn)(void *context);
    void *turn_context;
    // For tests: called in the commit thread at named steps ("collect", "write", "ingest", "done");
    // returning an errno makes the step fail with it.
    int (*fault)(void *context, const char *step);
    void *fault_context;
};

// Opens or creates the store in `dir`. ERR_VERSION: another format. ERR_CORRUPT: damaged; the message says
// what. ERR_LOCKED: another process has it. ERR_NOT_FOUND: absent and fail_if_absent.
int state_open(const char *dir, const struct state_options *options, struct state **ret_state,
               struct err *err);
void state_close(struct state *s); // what is not committed is lost, as it must be

// ---- progress: the caller's own record, written with every commit -----------------------------------------

// As of the last commit before state_open; empty for a new store. Valid until state_close.
struct str state_progress(const struct state *s);

// ---- users, items, groups ---------------------------------------------------------------------------------
//
// Expiry. An entity is seen when it is counted for, when an entry is added to one of its sequences, when its
// profile is set, and by state_touch; at the ts of that, or if that is late, at the watermark. When it was last
// seen is kept in steps of a sixteenth of the kind's expire, in whole seconds and at least 1 s: begin(t) =
// floor(t / step) * step. From the watermark begin(last) + step + expire on, thus never before `expire` and at
// most a step later, it reads as absent, and so do its groups. If it comes again it begins anew. A kind whose
// expire was changed is taken for seen at the watermark of the change.

enum entity_kind { ENTITY_USER = 0, ENTITY_ITEM = 1, ENTITY_GROUP = 2 };

// Finds, loads or, where text.s != NULL, creates. NULL: absent. `partition` is the Kafka partition that the
// event came from: part of a user's key, so that user state can move with its partition; an item has one
// entity, whose tiles are kept by partition. ERR_* of the read is fatal.
int state_entity(struct state *s, enum entity_kind kind, uint16_t partition, uint64_t id, struct str text,
                 struct entity **ret_entity, struct err *err);
// Looks for a user whose partition is not known (requests): tries the cache, then partitions 0 .. n-1.
int state_user_find(struct state *s, uint64_t id, uint16_t n_partitions, struct entity **ret_entity,
                    struct err *err);
// Starts fetching the cache lines of an entity that will be asked for soon, of its counters those of these measures
// (bit m for measure m): each line that nobody reads costs a place in the queue of those that somebody waits for.
void state_prefetch(const struct state *s, enum entity_kind kind, uint16_t partition, uint64_t id,
                    uint32_t measures);

// An entity that counts what belongs to an owner under one value of a grouping: the clicks that women gave an
// item, those that a user gave shoes, all clicks on shoes.
enum group_of { GROUP_OF_USER = 0, GROUP_OF_ITEM = 1, GROUP_OF_ALL = 2 };
struct group_key {
    enum group_of of;
    uint16_t
        partition;    // the user's; of items and all: any, their tiles are kept by partition as an item's are
    uint64_t owner;   // id of the user or item; 0 for all
    uint8_t grouping; // number, < STATE_GROUPINGS_MAX
    uint64_t value;   // hash_id of the bucket's text; 0: what has no bucket
};
// As state_entity; `text` is the bucket's. A group of an owner that expired is absent.
int state_group(struct state *s, const struct group_key *key, struct str text, struct entity **ret_group,
                struct err *err);
// Starts fetching one that will be asked for within the next events: stage 0 where it is looked for, 1 the group, 2
// its counters of these measures, 3 the newest tiles of long ones; each some work after the one before. `place` names
// the group.
uint64_t state_group_place(const struct group_key *key);
void state_group_fetch(const struct state *s, uint64_t place, uint32_t measures, uint32_t stage);
void entity_group(const struct entity *e, struct group_key *ret_key); // its text is entity_text
// Every group of one owner, durable or not, in order of (grouping, value).
int state_groups_each(struct state *s, enum group_of of, uint16_t partition, uint64_t owner,
                      int (*each)(void *context, struct entity *group), void *context, struct err *err);

uint64_t entity_id(const struct entity *e); // of a group: a hash of its key
uint16_t entity_partition(const struct entity *e);
struct str entity_text(const struct entity *e);
int64_t entity_first_ts(const struct entity *e); // ts of the event that created it; 0 of a new one
bool entity_is_new(const struct entity *e);      // state_entity made it, and nothing has been put into it
// It was seen at `ts` without being counted for.
void state_touch(struct state *s, struct entity *e, uint16_t partition, int64_t ts);

// Counts `n` under `measure` (an action, or MEASURE_WATCH_MS) in the tile of `ts`, in every window in which
// that tile is alive at the watermark (state_advance).
void state_count(struct state *s, struct entity *e, uint16_t partition, uint8_t measure, int64_t ts,
                 uint64_t n);
// Sum over tiles floor(at/size)-n+1 .. floor(at/size) that are alive at the watermark. O(1) when `at` does not
// go back by more than the newest tile.
uint64_t state_window(struct state *s, struct entity *e, uint8_t measure, uint32_t window, int64_t at);

// What was counted since the entity was first seen; 0 without options.totals.
uint64_t state_total(struct state *s, const struct entity *e, uint8_t measure);

struct sequence_entry {
    uint64_t item;
    int64_t ts;
    uint64_t category, author; // what is not kept reads 0
    uint32_t dwell_ms;
};
// Ordered by ts, then arrival; beyond N the oldest leave. Of a set, an entry older than the one that has its
// id changes nothing. `sequence` is a number of options.sequences; nothing happens where none is kept.
void state_sequence_add(struct state *s, struct entity *e, uint8_t sequence,
                        const struct sequence_entry *entry);
// The newest `max`, newest first. Returns how many.
uint32_t state_sequence(struct state *s, const struct entity *e, uint8_t sequence, uint32_t max,
                        struct sequence_entry *ret_entries);
// Removes all entries of `item`; returns how many. What left before them does not come back.
uint32_t state_sequence_remove(struct state *s, struct entity *e, uint8_t sequence, uint64_t item);
bool state_sequence_has(struct state *s, const struct entity *e, uint8_t sequence, uint64_t item);
// The item is gone since `ts`: in every sequence with `gone`, entries of it that are not newer are hidden from
// all readers, and leave when the sequence is next added to.
void state_gone(struct state *s, uint64_t item, int64_t ts);

// The profile: an opaque record of the caller, with the ts of its upsert. An older one never replaces a newer
// one: then false is returned. record.s == NULL deletes.
bool state_profile_set(struct state *s, struct entity *e, int64_t ts, struct str record);
struct str state_profile(const struct entity *e, int64_t *ret_ts); // "" where there is none

// The text of a hashed value that is neither a user nor an item (a device, a city): kept once.
void state_name_put(struct state *s, uint64_t id, struct str text);
// Any text by its hash: the names above; "" where unknown. Valid until the next call.
struct str state_name(struct state *s, uint64_t id);

// Evicts clean entities beyond cache_bytes, least recently used first. No struct entity * survives it.
void state_trim(struct state *s);

// ---- bodies: encoded impressions, appended, never changed -------------------------------------------------

// A body lies in a segment (about 256 KiB) of the commit that wrote it.
struct body_ref {
    uint64_t commit;
    uint32_t segment;
    uint32_t user_at; // offsets in the segment: of the part that the items of a message share,
    uint32_t item_at; // and of this item's own part
};

// Makes room for a message of at most `size` bytes in the current segment; *ret_at is where it will begin.
void state_body_begin(struct state *s, uint32_t size, uint32_t *ret_at);
// Appends it. ret_ref->user_at and item_at are both the begin; the caller adds its own distances.
void state_body_append(struct state *s, const void *bytes, uint32_t size, struct body_ref *ret_ref);

// Puts the newest `max` ids of a sequence, and of each what `with` names (SEQUENCE_*), into `to`, which will
// begin at `at` of the segment: in full, or as a reference to an earlier copy in the same segment when nothing
// changed since. `at` UINT32_MAX: there is no segment; in full.
void state_sequence_put(struct state *s, struct entity *e, uint8_t sequence, uint32_t max, uint8_t with,
                        struct buf *to, uint32_t at);

// Columns of n values, newest first, unaligned in the segment; NULL where not put.
struct sequence_columns {
    uint32_t n;
    const uint8_t *ids, *ts, *category, *author; // u64, i64, u64, u64
    const uint8_t *dwell;                        // u32
};
// Reads what state_sequence_put wrote with the same `with`. `segment` are the whole segment's bytes.
void state_sequence_get(struct str segment, struct rd *from, uint8_t with,
                        struct sequence_columns *ret_columns);

// ---- joining ----------------------------------------------------------------------------------------------

struct state_impression {
    uint64_t user;
    uint64_t item;
    uint64_t request; // 0: none
    int64_t ts;
    uint16_t partition;
    struct body_ref body;
};

struct state_feedback {
    uint64_t user;
    uint64_t item;
    uint64_t request; // 0: none
    int64_t ts;
    uint16_t partition;
    uint8_t action;
    uint64_t watch_ms;
};

struct sample {
    uint64_t seq; // position in the log, from 0
    struct body_ref body;
    uint64_t impression; // arrival number of the impression, from 0: the same in a corrected sample
    int64_t impression_ts;
    // impression_ts + window; fake_negative: impression_ts; of first_label and of a corrected sample the label's
    // ts; at the bound: the watermark
    int64_t emitted_ts;
    uint32_t labels; // bit a: action a came
    bool corrected;  // replaces an earlier sample of the same impression
    uint32_t told;   // of a corrected sample: the labels that the earlier one had
    // Labels whose negative is not among those kept: with label 0 they take no part; with one that came after the
    // earlier sample they had taken no part in that.
    uint32_t masked;
    float keep_rate; // the share of its kind that is kept: of a negative, of a thinned positive; else 1
    uint32_t rated;  // keep_by_label: the labels that have a rate
    float keep_rates[ACTION_MAX]; // theirs
    uint64_t watch_ms;
    int64_t label_ts[ACTION_MAX]; // ts of the first such feedback; of `watch`: of the value; 0: none
    uint16_t partition;
};

struct state_join_counts {
    uint64_t impressions;
    uint64_t joined;  // feedback that met an impression
    uint64_t orphans; // feedback without one
    uint64_t held;    // feedback that waits now
    uint64_t pending; // impressions that wait now
    uint64_t kept;    // impressions whose sample left and that are known still
    uint64_t samples; // emitted, corrected ones included
    uint64_t corrected;
    uint64_t negatives_dropped; // by keep_negatives
    uint64_t positives_thinned;
    uint64_t left_early;      // at max_pending
    uint64_t forgotten_early; // at max_pending, their sample having left
    uint64_t settled_early;   // feedback that waited for the watermark, at the bound, since state_open
    uint64_t late_labels;     // feedback after its sample left (no correction made)
    uint64_t after_window[ACTION_MAX]; // feedback whose impression is known, but that is no label any more
};

void state_impression(struct state *s, const struct state_impression *impression);
void state_feedback(struct state *s, const struct state_feedback *feedback);

// The watermark moved to `watermark`: feedback out of order is settled, due samples leave into the log in
// order, `emit` sees each. INT64_MAX: everything leaves. Also the clock of state_count and of retention.
void state_advance(struct state *s, int64_t watermark,
                   void (*emit)(void *context, const struct sample *sample), void *context);
void state_join_counts(const struct state *s, struct state_join_counts *ret_counts);

// Pending impressions of one user, oldest first; at most `max` are written. Returns how many.
struct state_pending {
    uint64_t item, request;
    int64_t ts, due;
    uint32_t labels;
};
uint32_t state_pending_of_user(const struct state *s, uint64_t user, uint32_t max,
                               struct state_pending *ret_pending);

// ---- the sample log ---------------------------------------------------------------------------------------

uint64_t state_samples_end(const struct state *s);     // sequence number of the next sample
uint64_t state_samples_begin(const struct state *s);   // of the oldest that is kept
uint64_t state_samples_durable(const struct state *s); // those below it are on disk

// A piece of the log. Bodies are shared, not copied: they stay while the chunk lives, and another thread may
// read them meanwhile.
struct sample_chunk {
    uint32_t n;
    const struct sample *samples;
    const struct str *segments; // by sample: the whole segment that its body_ref points into
};
// Samples from `seq` on, at most `max`; fewer at the end. ERR_NOT_FOUND: no longer kept.
int state_samples_read(struct state *s, uint64_t seq, uint32_t max, struct sample_chunk **ret_chunk,
                       struct err *err);
void state_chunk_free(struct state *s, struct sample_chunk *chunk);
// The first stretch [*ret_begin, *ret_end) at or above `seq` that may hold samples with from <= emitted_ts < to,
// by the index of the log: what lies before it holds none. A stretch of one value of the log, so a look at
// each sample is left to the caller. Both are state_samples_end when there is none.
int state_samples_find(struct state *s, uint64_t seq, int64_t from, int64_t to, uint64_t *ret_begin,
                       uint64_t *ret_end, struct err *err);
// Everything below `seq` is delivered to whoever gets the log: age alone lets go of nothing above it. Not kept
// across state_open, after which nobody gets it (UINT64_MAX).
void state_samples_published(struct state *s, uint64_t seq);
// Everything below `seq` has been trained on: where the next start of the daemon begins to look.
void state_samples_trained(struct state *s, uint64_t seq);

// ---- dedupe, order, outbox --------------------------------------------------------------------------------

// True if the id was seen inside the window; else it is remembered. Remembered while
// floor(watermark / 1 min) <= floor(t / 1 min) + window / 1 min, t the ts or, of a late event, the watermark then.
bool state_seen(struct state *s, uint64_t event_id, int64_t ts);
// Starts fetching the cache lines of an id that will be asked for soon.
void state_seen_prefetch(const struct state *s, uint64_t event_id);
// To be called between events, now and then: tables that will soon be full are made larger here, with turns in the
// middle, and not inside an event.
void state_make_room(struct state *s);

// The next `count` messages were of `part` (count 0: the part went idle). Merged with the run before it.
void state_order(struct state *s, uint16_t part, uint32_t count);
int state_order_each(struct state *s, void (*run)(void *context, uint16_t part, uint32_t count),
                     void *context, struct err *err);

struct outbox_entry {
    uint64_t sequence; // from 1
    struct str topic;
    struct str key;
    struct str value;
    struct str headers; // name, value, ...: each as buf_put_str
};
// Returns the entry's sequence number. It may be sent once state_commit_durable says so.
uint64_t state_outbox_put(struct state *s, struct str topic, struct str key, struct str value,
                          struct str headers);
// Entries up to `sequence` are delivered: they go with the next commit.
void state_outbox_delivered(struct state *s, uint64_t sequence);
// The first entry with a number above `after` that is durable. false: none. Valid until the next call.
bool state_outbox_next(struct state *s, uint64_t after, struct outbox_entry *ret_entry, struct err *err);
uint64_t state_outbox_end(const struct state *s);   // sequence number of the last entry put
uint64_t state_outbox_begin(const struct state *s); // everything up to it is delivered

// ---- models -----------------------------------------------------------------------------------------------

void state_row_put(struct state *s, uint16_t table, uint64_t id, struct str row);
void state_row_delete(struct state *s, uint16_t table, uint64_t id);
// Durable rows in order of id. May be called from several threads at once, before anything else runs.
int state_rows_each(struct state *s, uint16_t table, int (*row)(void *context, uint64_t id, struct str row),
                    void *context, struct err *err);
// Named blobs, of any size up to 1 GiB: dense layers, version records, schemas. Reads see what was put.
void state_blob_put(struct state *s, const char *name, struct str blob);
int state_blob_get(struct state *s, const char *name, struct buf *ret_blob, bool *ret_found, struct err *err);

// ---- commit -----------------------------------------------------------------------------------------------

// Hands everything dirty, and `progress`, to the commit thread. Waits for the commit before it, if that is
// still under way. *ret_ticket grows by 1 a commit.
int state_commit(struct state *s, struct str progress, uint64_t *ret_ticket, struct err *err);
bool state_commit_busy(const struct state *s);           // one is under way
uint64_t state_commit_durable(const struct state *s);    // the newest ticket that is on disk
int state_commit_wait(struct state *s, struct err *err); // until none is under way
// The commit under way fails and is tried again by itself every second (a full disk): how it fails, else
// ERR_NONE. Nothing is lost meanwhile; the caller stops taking in events.
void state_commit_error(const struct state *s, struct err *ret_err);
// An fd that is readable after a commit ended; state_commit_ack empties it.
int state_commit_fd(const struct state *s);
void state_commit_ack(struct state *s);

// ---- export, digest, figures ------------------------------------------------------------------------------

// Every entity of a kind in key order (groups by owner), from the store: call after a commit is durable. The
// entity is valid inside the call only.
int state_entities_each(struct state *s, enum entity_kind kind, int (*each)(void *context, struct entity *e),
                        void *context, struct err *err);

// XXH3-128 over the logical content in key order (docs/CONTRACT.md); after a durable commit.
struct state_digests {
    struct digest counters;
    struct digest sequences;
    struct digest profiles;
    struct digest joiner;
    struct digest samples; // the sample log as far as it is kept; body bytes are hashed by `body`
};
// `body` gives the canonical bytes of a sample's body (segment back-references resolved) into `to`.
int state_digest(struct state *s,
                 void (*body)(void *context, const struct sample *sample, struct str segment, struct buf *to),
                 void *context, struct state_digests *ret_digests, struct err *err);

enum state_family { // of keys on disk
    STATE_FAMILY_USERS,
    STATE_FAMILY_ITEMS,
    STATE_FAMILY_GROUPS,
    STATE_FAMILY_NAMES, // and tombstones
    STATE_FAMILY_TABLES,
    STATE_FAMILY_BLOBS,
    STATE_FAMILY_LOG,
    STATE_FAMILIES
};
extern const char *const state_family_names[STATE_FAMILIES]; // "users", ...

struct state_figures {
    uint64_t users_cached, items_cached, groups_cached, cache_bytes, cache_hits, cache_misses, evictions;
    uint64_t users_expired, items_expired, groups_expired; // removed from the store so far
    uint64_t gone, gone_forgotten, gone_bytes;
    uint64_t commits, commit_puts, commit_bytes; // handed to the store so far
    uint64_t commit_us_last, commit_us_max;
    uint64_t disk_written_bytes; // by commits and compaction
    uint64_t files, disk_bytes, block_cache_used;
    uint64_t family_bytes[STATE_FAMILIES]; // about so many of disk_bytes
    uint64_t dedupe_ids, dedupe_forgotten, dedupe_bytes, joiner_bytes, body_bytes;
    uint64_t body_hits, body_misses, body_evictions; // segments of encoded impressions
    uint64_t block_hits, block_misses;               // RocksDB's
    uint64_t samples_log_bytes;                      // bodies and records that are kept, before compression
    uint64_t samples_gone_by_age, samples_gone_by_size, samples_gone_unpublished; // samples let go of
};
void state_figures(const struct state *s, struct state_figures *ret_figures);

// ---- memory -----------------------------------------------------------------------------------------------

enum state_memory_kind {
    STATE_MEMORY_ENTITIES, // cache_bytes
    STATE_MEMORY_BODIES,   // body_cache_bytes
    STATE_MEMORY_BLOCKS,   // block_cache_bytes
    STATE_MEMORY_STORE,    // RocksDB's own: readers of open files, builders, compactions
    STATE_MEMORY_JOINER,   // join.max_pending
    STATE_MEMORY_DEDUPE,   // dedupe_max
    STATE_MEMORY_COMMIT,   // what is dirty, and the commit under way
    STATE_MEMORY_REST,     // tombstones, names, the outbox's chunk
    STATE_MEMORY_KINDS
};

// The bytes that each takes now, and at most, if no more than `commit_bytes` get dirty (state_dirty_bytes) between
// two commits.
struct state_memory {
    uint64_t bytes[STATE_MEMORY_KINDS];
};
void state_memory(const struct state *s, struct state_memory *ret_used);
void state_memory_most(const struct state_options *options, uint64_t commit_bytes,
                       struct state_memory *ret_most);

// About the memory that a commit would hold now until it is durable: what was loaded or made since the last one, and
// the records that it would write. When it is large it is time for a commit. Some ns.
uint64_t state_dirty_bytes(const struct state *s);

#endif
