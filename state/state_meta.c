// SPDX-License-Identifier: Apache-2.0
// The META record, keys that every commit writes, and recovery from it.
//
//     "format"    u32 STATE_FORMAT
//     "progress"  the caller's bytes
//     "marks"     varint next commit, zigzag watermark,
//                 varint joiner low, varint dedupe low, varint log low,
//                 varint outbox end, varint outbox delivered, varint outbox low,
//                 varint length and bytes of what samples_meta_put wrote,
//                 for users, then items: zigzag expire, zigzag the watermark since which it is in force,
//                 varint length and bytes of the place where the sweep goes on
//     "layout"    the lines of options.layout, when they changed
//
// A low is a commit number: the oldest whose LOG block of that kind is still needed. Recovery reads the
// joiner's and the dedupe's blocks from their lows on, in order of commit, and at least the last one of each,
// which carries totals. So it costs what the join window and the dedupe window hold, however long the log is.
// The dedupe is read by a thread of its own: a start waits for the longer of the two.
#include <assert.h>
#include <inttypes.h>
#include <pthread.h>

#include "state/internal.h"

static struct key key_meta(const char *name)
{
    struct key key = key_of(KEY_META, 0, 0);
    key_add(&key, name, strlen(name));
    return key;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static int meta_get(struct state *s, const char *name, struct buf *to, bool *ret_found, struct err *err)
{
    struct key key = key_meta(name);
    return store_get(s->store, key.bytes, key.n, to, ret_found, err);
}

// ---- expiry -----------------------------------------------------------------------------------------------

static void expiry_put(struct state *s, struct buf *to)
{
    struct committer *c = &s->committer;
    for (int kind = 0; kind < EXPIRY_KINDS; kind++) {
        buf_put_zigzag(to, kind == ENTITY_USER ? s->options.user_expire_ms : s->options.item_expire_ms);
        buf_put_zigzag(to, entities_since_of(s->entities, (enum entity_kind)kind));
    }
    pthread_mutex_lock(&c->lock);
    buf_put_str(to, (struct str){(const char *)c->place, c->place_n});
    pthread_mutex_unlock(&c->lock);
}

// An expire that is another than before is in force from now on.
static int expiry_get(struct state *s, struct rd *rd, struct err *err)
{
    for (int kind = 0; kind < EXPIRY_KINDS; kind++) {
        int64_t now = kind == ENTITY_USER ? s->options.user_expire_ms : s->options.item_expire_ms;
        int64_t before = rd_zigzag(rd);
        int64_t since = rd_zigzag(rd);
        entities_since(s->entities, (enum entity_kind)kind, before == now ? since : s->watermark);
    }
    struct str place = rd_str(rd);
    if (rd->bad || (place.len != 0 && place.len != KEY_PREFIX))
        return err_set(err, ERR_CORRUPT, "the record of retention marks is damaged");
    s->committer.sweep.place_n = s->committer.place_n = place.len;
    if (place.len > 0) {
        memcpy(s->committer.sweep.place, place.s, place.len);
        memcpy(s->committer.place, place.s, place.len);
    }
    return 0;
}

// ---- layout -----------------------------------------------------------------------------------------------

static struct str line_of(const char *at)
{
    return (struct str){at, (uint32_t)strcspn(at, "\n")};
}

// Every line of the store's must be the same in ours.
static int layout_compare(const char *stored, const char *ours, struct err *err)
{
    while (*stored != '\0') {
        struct str before = line_of(stored);
        struct str now = line_of(ours);
        if (!str_equal(before, now))
            return err_set(
                err, ERR_VERSION,
                "the state was written with another config: it has \"%.*s\" where the config now has "
                "\"%.*s\"; put it back as it was (new ones go to the end), or begin again from the "
                "stream in an empty directory",
                (int)before.len, before.s, (int)now.len, now.s);
        stored += before.len + (stored[before.len] == '\n');
        ours += now.len + (ours[now.len] == '\n');
    }
    return 0;
}

static int layout_check(struct state *s, struct err *err)
{
    struct buf stored = {0};
    bool found = false;
    if (s->options.layout == NULL)
        return 0;
    int r = meta_get(s, "layout", &stored, &found, err);
    buf_put_u8(&stored, '\0');
    if (r == 0 && found)
        r = layout_compare((const char *)stored.data, s->options.layout, err);
    s->layout_changed = !found || strcmp((const char *)stored.data, s->options.layout) != 0;
    buf_done(&stored);
    return r;
}

void meta_put(struct state *s, uint64_t log_low, struct str progress)
{
    struct buf marks = {0};
    struct buf samples = {0};
    uint64_t next = s->next_commit + 1;
    samples_meta_put(s->samples, &samples);
    buf_put_varint(&marks, next);
    buf_put_zigzag(&marks, s->watermark);
    buf_put_varint(&marks, joiner_low(s->joiner, next));
    buf_put_varint(&marks, dedupe_low(s->dedupe, next));
    buf_put_varint(&marks, log_low);
    buf_put_varint(&marks, s->outbox.end);
    buf_put_varint(&marks, s->outbox.delivered);
    buf_put_varint(&marks, outbox_low(s, next));
    buf_put_str(&marks, buf_str(&samples));
    expiry_put(s, &marks);
    uint32_t format = STATE_FORMAT;
    struct key key = key_meta("format");
    batch_put(s, &key, (struct str){(const char *)&format, sizeof format});
    key = key_meta("marks");
    batch_put(s, &key, buf_str(&marks));
    key = key_meta("progress");
    batch_put(s, &key, progress);
    if (s->layout_changed) {
        key = key_meta("layout");
        batch_put(s, &key, str_of(s->options.layout));
        s->layout_changed = false;
    }
    buf_done(&samples);
    buf_done(&marks);
}

static int store_is_empty(struct state *s, bool *ret_empty, struct err *err)
{
    struct str none = {"", 0};
    struct store_iter *it = store_iter_new(s->store, none, none, false);
    *ret_empty = !store_iter_valid(it);
    return store_iter_free(it, err);
}

// *ret_found false: nothing was ever committed here.
static int format_check(struct state *s, bool *ret_found, struct err *err)
{
    struct buf value = {0};
    bool empty = false;
    int r = meta_get(s, "format", &value, ret_found, err);
    struct rd rd = rd_of(value.data, value.len);
    uint32_t format = rd_u32(&rd);
    if (r == 0 && *ret_found && (rd.bad || format != STATE_FORMAT))
        r = err_set(err, ERR_VERSION,
                    "the store has format %" PRIu32
                    ", this program writes format %d: use the version that wrote "
                    "it, or begin again from the stream in an empty directory",
                    format, STATE_FORMAT);
    if (r == 0 && !*ret_found)
        r = store_is_empty(s, &empty, err);
    if (r == 0 && !*ret_found && !empty)
        r = err_set(err, ERR_VERSION,
                    "the directory holds a RocksDB that freshet did not write: name another one");
    buf_done(&value);
    return r;
}

static int marks_parse(struct state *s, struct rd *rd, uint64_t ret_lows[3], struct err *err)
{
    s->next_commit = rd_varint(rd);
    s->watermark = rd_zigzag(rd);
    ret_lows[0] = rd_varint(rd);
    ret_lows[1] = rd_varint(rd);
    s->order.begin = rd_varint(rd);
    s->outbox.end = rd_varint(rd);
    s->outbox.delivered = rd_varint(rd);
    ret_lows[2] = rd_varint(rd);
    struct str samples = rd_str(rd);
    if (expiry_get(s, rd, err) != 0)
        return -1;
    if (rd->bad || rd_left(rd) != 0 || s->next_commit < 2 || s->order.begin < 1)
        return err_set(err, ERR_CORRUPT, "the record of retention marks is damaged");
    struct rd inner = rd_of(samples.s, samples.len);
    return samples_meta_get(s->samples, &inner, err);
}

static int marks_load(struct state *s, uint64_t ret_lows[3], struct err *err)
{
    struct buf value = {0};
    bool found = false;
    int r = meta_get(s, "marks", &value, &found, err);
    struct rd rd = rd_of(value.data, value.len);
    if (r == 0)
        r = marks_parse(s, &rd, ret_lows, err);
    buf_done(&value);
    return r;
}

int meta_load(struct state *s, bool *ret_fresh, struct err *err)
{
    bool found = false;
    if (format_check(s, &found, err) != 0)
        return -1;
    *ret_fresh = !found;
    if (layout_check(s, err) != 0)
        return -1;
    return found ? meta_get(s, "progress", &s->progress, &found, err) : 0;
}

typedef int block_fn(struct state *s, uint64_t commit, struct rd *rd, struct err *err);

static int joiner_block(struct state *s, uint64_t commit, struct rd *rd, struct err *err)
{
    return joiner_block_get(s->joiner, commit, rd, err);
}

static int dedupe_block(struct state *s, uint64_t commit, struct rd *rd, struct err *err)
{
    return dedupe_block_get(s->dedupe, commit, rd, err);
}

static int blocks_load(struct state *s, enum key_log part, uint64_t low, block_fn *load, struct err *err)
{
    struct buf block = {0};
    int r = 0;
    for (uint64_t c = least(low, s->next_commit - 1); c < s->next_commit && r == 0; c++) {
        bool found = false;
        r = block_get(s, c, part, 0, &block, &found, err);
        if (r == 0 && !found)
            r = err_set(err, ERR_CORRUPT, "block '%c' of commit %" PRIu64 " is missing", part, c);
        struct rd rd = rd_of(block.data, block.len);
        if (r == 0)
            r = load(s, c, &rd, err);
        if (r == 0 && rd.bad)
            r = err_set(err, ERR_CORRUPT, "block '%c' of commit %" PRIu64 " is damaged", part, c);
    }
    buf_done(&block);
    return r;
}

struct dedupe_load {
    struct state *state;
    uint64_t low;
    int result;
    struct err err;
};

static void *dedupe_load(void *context)
{
    struct dedupe_load *l = context;
    l->result = blocks_load(l->state, KEY_LOG_DEDUPE, l->low, dedupe_block, &l->err);
    return NULL;
}

static int joiner_load(struct state *s, uint64_t low, struct err *err)
{
    int result = blocks_load(s, KEY_LOG_JOINER, low, joiner_block, err);
    if (result == 0)
        joiner_recovered(s->joiner);
    return result;
}

// The two share nothing but the store, which many threads may read.
static int joiner_dedupe_load(struct state *s, uint64_t joiner, uint64_t dedupe, struct err *err)
{
    struct dedupe_load load = {.state = s, .low = dedupe};
    pthread_t thread;
    bool beside = pthread_create(&thread, NULL, dedupe_load, &load) == 0;
    int result = joiner_load(s, joiner, err);
    if (beside)
        pthread_join(thread, NULL);
    else
        dedupe_load(&load);
    if (result == 0 && load.result != 0 && err != NULL)
        *err = load.err;
    return result == 0 ? load.result : result;
}

static int blocks_recover(struct state *s, struct err *err)
{
    uint64_t lows[3];
    if (marks_load(s, lows, err) != 0)
        return -1;
    atomic_store(&s->durable, s->next_commit - 1);
    atomic_store(&s->expire_watermark, s->watermark);
    atomic_store(&s->expire_log, s->order.begin);
    s->settled = s->next_commit - 1;
    if (s->watermark != INT64_MIN) {
        entities_watermark(s->entities, s->watermark);
        dedupe_advance(s->dedupe, s->watermark);
    }
    if (entities_gone_load(s->entities, s->batch, err) != 0 ||
        joiner_dedupe_load(s, lows[0], lows[1], err) != 0)
        return -1;
    return outbox_load(s, lows[2], err);
}

int state_recover(struct state *s, bool fresh, struct err *err)
{
    if (!fresh && blocks_recover(s, err) != 0)
        return -1;
    samples_commit_set(s->samples, s->next_commit);
    return 0;
}
