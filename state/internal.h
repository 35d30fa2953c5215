// SPDX-License-Identifier: Apache-2.0
// The inside of a struct state, for state.c, state_*.c and commit.c alone.
#ifndef FRESHET_STATE_INTERNAL_H
#define FRESHET_STATE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "state/dedupe.h"
#include "state/entity.h"
#include "state/joiner.h"
#include "state/keys.h"
#include "state/samples.h"
#include "state/state.h"
#include "state/store.h"
#include "state/sweep.h"

enum {
    STATE_MAGIC = 0x53544154,
    KEY_BYTES_MAX = KEY_PREFIX + 256 + 2,
    BLOB_PIECE_BYTES = 1 << 20,
    BLOB_BYTES_MAX = 1 << 30,
    OUTBOX_CHUNK_BYTES = 1 << 20,
    NAMES_BYTES = 8 << 20, // of texts in memory, twice
    EXPIRE_COMMITS = 16,   // retention looks at so many commits at once
    COMMIT_RETRY_MS = 1000,
    SWEEP_KEYS = 4096, // looked at a commit at least
};

struct key {
    uint8_t bytes[KEY_BYTES_MAX];
    size_t n;
};

// ---- names: texts by hash, in two generations, so that memory is bounded ----------------------------------

struct names {
    struct map at;    // id -> offset in bytes
    struct buf bytes; // varint length, then the text; ...
};

// ---- blobs that are not durable yet -----------------------------------------------------------------------

struct blob {
    char *name;
    struct buf bytes;
    uint64_t commit;
};

// ---- order ------------------------------------------------------------------------------------------------

// The runs of one commit: varint part, varint count, ...
struct order {
    struct buf done; // of runs before the last
    uint16_t part;   // the last run, which can still grow
    uint32_t count;
    bool open;         // there is a last run
    struct buf flight; // the block of the commit under way
    uint64_t begin;    // commit of the oldest block that is kept
};

// ---- outbox -----------------------------------------------------------------------------------------------

struct outbox_chunk {
    uint64_t commit;
    uint64_t first; // sequence number of the first entry
    uint32_t count;
    uint16_t n; // number of the chunk in its commit
};

struct outbox {
    struct outbox_chunk *chunks; // of undelivered entries, in order
    size_t n_chunks, cap_chunks;
    uint64_t end, delivered;
    struct buf open; // entries of the chunk that is being filled
    uint64_t open_first;
    uint32_t open_count;
    uint16_t open_n; // its number in the commit
    // The reader's place: a chunk's bytes, and the entry that comes next in it.
    struct buf read;
    uint64_t read_commit; // 0: nothing is loaded
    uint16_t read_n;
    uint64_t read_next;
    uint32_t read_left;
    size_t read_at;
};

// ---- the commit thread ------------------------------------------------------------------------------------

struct commit {
    uint64_t number;
    struct store_batch *batch;
    int64_t watermark; // as of the commit
    uint64_t log_low;  // commits below it are not needed once this one is durable
    struct buried_list buried;
    struct expiry expiry[EXPIRY_KINDS];      // at the watermark
    struct mem_span ahead[JOINER_SPANS + 1]; // what will be filled next, of the joiner and of the entities
};

struct committer {
    pthread_t thread;
    bool running;
    pthread_mutex_t lock; // of what follows
    pthread_cond_t changed;
    struct commit *work;       // NULL: none under way
    struct store_batch *spare; // of the commit before, empty; NULL: it is under way, or there was none
    bool stop;
    struct err err; // of the attempts of the commit under way; not retriable: the thread is done for
    uint64_t us_last, us_max;
    struct sweep sweep;        // the commit thread's
    struct buried_list found;  // by its sweeps, not yet taken
    uint8_t place[KEY_PREFIX]; // of the sweep,
    uint32_t place_n;          // as of then
    uint64_t removed[3];       // users, items and groups
    int fd;
};

struct state {
    uint32_t magic;
    struct state_options options;
    struct store *store;
    struct entities *entities;
    struct joiner *joiner;
    struct dedupe *dedupe;
    struct samples *samples;
    struct store_batch *batch; // of the commit that is being filled: rows, blobs, names already
    uint64_t next_commit;      // its number; the first is 1
    uint64_t settled;          // durable, and the others know
    _Atomic uint64_t durable;
    int64_t watermark;      // INT64_MIN before the first
    struct err advance_err; // of a read in state_advance, or of a name: the next commit fails with it
    // What compaction may drop follows the last durable commit: an older watermark can come back after a
    // kill.
    _Atomic int64_t expire_watermark;
    _Atomic uint64_t expire_log;
    uint64_t log_expired; // commits below it were asked to go; commit thread only
    struct buf progress;
    bool layout_changed; // the next commit writes it
    struct names names, names_before;
    struct buf name_read;
    struct blob *blobs;
    size_t n_blobs, cap_blobs;
    struct order order;
    struct outbox outbox;
    uint64_t commits, commit_puts, commit_bytes;
    // See state_memory.c.
    uint64_t entity_bytes; // as of the last commit, less what was evicted since
    uint64_t entity_put;   // bytes that a dirty one took of the last batch
    uint64_t flight_bytes; // that the commit under way holds
    struct committer committer;
};

// state.c
struct key key_of(enum key_family family, uint16_t partition, uint64_t id);
struct key key_log(uint64_t commit, enum key_log part, uint16_t n);
void key_add(struct key *key, const void *rest, size_t n);
void batch_put(struct state *s, const struct key *key, struct str value);
int block_get(struct state *s, uint64_t commit, enum key_log part, uint16_t n, struct buf *to,
              bool *ret_found, struct err *err);

// state_meta.c: the META record, and recovery.
void meta_put(struct state *s, uint64_t log_low, struct str progress);
int meta_load(struct state *s, bool *ret_fresh, struct err *err);
int state_recover(struct state *s, bool fresh, struct err *err);

// state_table.c
void names_done(struct names *n);
void names_turn(struct state *s);
void blobs_durable(struct state *s, uint64_t commit);
void blobs_done(struct state *s);

// state_log.c
void order_batch(struct state *s, uint64_t commit);
void outbox_batch(struct state *s, uint64_t commit);
uint64_t outbox_low(const struct state *s, uint64_t next_commit);
int outbox_load(struct state *s, uint64_t low, struct err *err);
void outbox_done(struct outbox *o);
void order_done(struct order *o);

// state_memory.c: of a commit, before it is collected, when it is, and when entities were evicted.
struct dirty_mark {
    uint64_t entities, bytes;
};
struct dirty_mark dirty_mark(const struct state *s);
void dirty_collected(struct state *s, const struct dirty_mark *before);
void dirty_trim(struct state *s);

// commit.c
int committer_start(struct state *s, struct err *err);
void committer_stop(struct state *s);
void state_settle(struct state *s);

#endif
