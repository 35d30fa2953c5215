// SPDX-License-Identifier: Apache-2.0
// Promised: the built-in default is what docs/CONTRACT.md says; a file and overrides are laid over it; every
// kind of mistake gives its place and its message, word for word; the reference file says what the default
// does.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "daemon/config.h"
#include "daemon/config_keys.h"
#include "daemon/presets.h"
#include "models/loss.h"

#define DAY INT64_C(86400000)

static char file_name[64];

static void file_write(const void *text, size_t len)
{
    snprintf(file_name, sizeof file_name, "/tmp/freshet-config-XXXXXX");
    int fd = mkstemp(file_name);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, len), (ssize_t)len);
    close(fd);
}

static int load_text(const char *text, struct config **ret_config, struct err *err)
{
    file_write(text, strlen(text));
    int rc = config_load(file_name, NULL, 0, NULL, ret_config, err);
    unlink(file_name);
    return rc;
}

static struct config *load_good(const char *text)
{
    struct config *c = NULL;
    struct err err = {0};
    cr_assert_eq(load_text(text, &c, &err), 0, "%s", err.message);
    return c;
}

static struct config *load_set(const char *path, const char *value)
{
    struct config *c = NULL;
    struct err err = {0};
    struct config_override o = {path, value};
    cr_assert_eq(config_load(NULL, &o, 1, NULL, &c, &err), 0, "%s", err.message);
    return c;
}

static const char *property(const struct config_properties *p, const char *name)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (strcmp(p->list[2 * i], name) == 0)
            return p->list[2 * i + 1];
    return NULL;
}

static const struct config_feature *feature(const struct config *c, const char *name)
{
    int i = config_feature_find(c, name);
    cr_assert_geq(i, 0, "%s", name);
    return &c->features[i];
}

static const struct config_table *table(const struct config *c, const char *name)
{
    int i = config_table_find(c, name);
    cr_assert_geq(i, 0, "%s", name);
    return &c->tables[i];
}

static struct config *load_default(void)
{
    struct config *c = NULL;
    struct err err = {0};
    unsetenv("STATE_DIRECTORY");
    cr_assert_eq(config_load(NULL, NULL, 0, NULL, &c, &err), 0, "%s", err.message);
    return c;
}

// ---- the default ------------------------------------------------------------------------------------------

Test(config, default_scalars)
{
    struct config *c = load_default();
    cr_expect_str_eq(c->file, "built-in");
    cr_expect_str_eq(property(&c->consumer, "bootstrap.servers"), "localhost:9092");
    cr_expect_str_eq(property(&c->producer, "bootstrap.servers"), "localhost:9092");
    cr_expect_str_eq(c->events.topic, "events");
    cr_expect(c->users.topic[0] == '\0' && c->items.topic[0] == '\0');
    cr_expect_eq(c->n_actions, (uint32_t)ACTION_BUILTIN);
    cr_expect_str_eq(c->actions[ACTION_WATCH], "watch");
    cr_expect(c->time.out_of_order_ms == 5000 && c->time.max_future_ms == 3600000 &&
              c->time.idle_after_ms == 10000);
    cr_expect_str_eq(c->dlq_suffix, ".dlq");
    cr_expect(c->dedupe.window_ms == 600000 && c->dedupe.max == 10000000);
    cr_expect(c->join.window_ms == 600000 && c->join.emit == STATE_EMIT_WAIT && !c->join.corrections);
    cr_expect(c->join.keep_negatives == 1.0 && c->join.max_pending == 2000000 &&
              c->join.watch_of == STATE_WATCH_MAX);
    cr_expect_eq(c->join.labels, 0x1feu);
    cr_expect(c->update.every_ms == 300000 && c->update.bootstrap_samples == 100000 &&
              c->update.batch == 512);
    cr_expect(c->update.epochs == 1 && c->update.dense_lr == 0.05 && c->update.enabled);
    cr_expect_not(c->update.stop_after_bootstrap);
    cr_expect_str_eq(c->publish.topic, "freshet-deltas");
    cr_expect(c->publish.digest_every == 12 && c->publish.enabled);
    cr_expect_str_eq(c->state.dir, "./freshet-state");
    cr_expect(c->state.commit_every_ms == 1000 && c->state.commit_events == 1000000);
    cr_expect(c->state.cache_bytes == 768u << 20 && c->state.body_cache_bytes == 128u << 20);
    cr_expect(c->state.block_cache_bytes == 256u << 20 && c->state.samples_keep_ms == 30 * DAY);
    cr_expect_str_eq(c->http.host, "127.0.0.1");
    cr_expect(c->http.port == 7878 && c->http.connections == 256 && c->http.body_bytes == 1u << 20);
    cr_expect_str_eq(c->http.token, "");
    cr_expect_str_eq(c->log.level, "info");
    cr_expect_not(c->log.json);
    config_free(c);
}

Test(config, default_windows_sequences_tables)
{
    struct config *c = load_default();
    static const struct state_window windows[] = {
        {"1h", 60000, 60}, {"1d", 900000, 96}, {"7d", 3600000, 168}};
    cr_assert_eq(c->n_windows, 3);
    cr_expect_arr_eq(c->windows, windows, sizeof windows);
    for (int a = 0; a < ACTION_MAX; a++)
        cr_expect_eq(c->sequences[a].last, a > ACTION_IMPRESSION && a < ACTION_BUILTIN ? 100 : 0);
    cr_expect_eq(c->n_tables, 3);
    for (int i = 0; i < 2; i++) {
        const struct config_table *t = table(c, i == 0 ? "users" : "items");
        cr_expect(t->dim == 16 && t->rows == 1000000 && t->admit == 1 && t->expire_ms == 30 * DAY);
        cr_expect(t->lr == 0.1 && t->init == 0.02);
    }
    cr_expect(table(c, "hour")->dim == 8 && table(c, "hour")->rows == 24);
    config_free(c);
}

Test(config, default_features_and_model)
{
    struct config *c = load_default();
    static const char *const names[] = {
        "user_id",     "item_id",     "hour",        "user_impressions_1d", "item_impressions_1d",
        "user_ctr_7d", "item_ctr_1h", "item_ctr_1d", "item_ctr_7d",         "clicks"};
    cr_assert_eq(c->n_features, 10);
    cr_assert_eq(c->model.n_blocks, 1);
    const struct config_block *b = &c->model.blocks[0];
    cr_assert_eq(b->n_of, 10);
    for (uint32_t i = 0; i < 10; i++) {
        cr_expect_str_eq(c->features[i].name, names[i]);
        cr_expect_str_eq(b->of[i], names[i]);
    }
    cr_expect(strcmp(b->kind, "mlp") == 0 && strcmp(b->options[0].name, "mlp") == 0);
    cr_expect(b->options[0].dims[0] == 128 && b->options[0].dims[1] == 0 && b->options[1].name == NULL);
    const struct config_feature *f = feature(c, "user_ctr_7d");
    cr_expect(f->kind == CONFIG_FEATURE_RATE && f->ref.of == CONFIG_OF_USER && f->window == 2 &&
              f->table == -1);
    cr_expect(f->measure == ACTION_CLICK && f->denominator == ACTION_IMPRESSION);
    cr_expect(f->smooth[0] == 1 && f->smooth[1] == 20);
    f = feature(c, "item_impressions_1d");
    cr_expect(f->kind == CONFIG_FEATURE_COUNT && f->ref.of == CONFIG_OF_ITEM && f->log1p && f->window == 1);
    f = feature(c, "clicks");
    cr_expect(f->kind == CONFIG_FEATURE_SEQUENCE && f->last == 50 && f->sequence == ACTION_CLICK);
    cr_expect_str_eq(c->tables[f->table].name, "items");
    const struct config_head *h = &c->model.heads[0];
    cr_expect_eq(c->model.n_heads, 1);
    cr_expect(strcmp(h->name, "click") == 0 && strcmp(h->of, "bottom") == 0 &&
              strcmp(h->loss, "logloss") == 0);
    cr_expect(h->label == ACTION_CLICK && h->weight == 1);
    config_free(c);
}

// ---- files ------------------------------------------------------------------------------------------------

Test(config, empty_files_are_the_default)
{
    static const char *const texts[] = {"", "# nothing\n", "---\n", "{}\n", "stream:\nfeatures:\n", "~\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct config *c = load_good(texts[i]);
        cr_expect(c->time.out_of_order_ms == 5000 && c->n_features == 10);
        config_free(c);
    }
}

Test(config, a_file_lies_over_the_default)
{
    struct config *c = load_good("kafka:\n"
                                 "  bootstrap.servers: a:1,b:2\n"
                                 "  client.id: me\n"
                                 "  consumer: {fetch.wait.max.ms: 50, client.id: reader}\n"
                                 "  producer: {linger.ms: 5}\n"
                                 "stream: {actions: [buy], time: {out_of_order: 1m}}\n"
                                 "counters: {windows: [1h, {name: 30d, tile: 1d, length: 30d}]}\n"
                                 "sequences: {all: {last: 7}, click: {last: 20}, dislike: {last: 0}}\n"
                                 "join: {labels: {click: {}, buy: , watch: {of: sum}}}\n"
                                 "features: {u: {id: user, table: users}}\n");
    cr_expect_str_eq(property(&c->consumer, "bootstrap.servers"), "a:1,b:2");
    cr_expect_str_eq(property(&c->consumer, "client.id"), "reader");
    cr_expect_str_eq(property(&c->producer, "client.id"), "me");
    cr_expect_str_eq(property(&c->producer, "linger.ms"), "5");
    cr_expect_null(property(&c->producer, "fetch.wait.max.ms"));
    cr_expect_null(c->consumer.list[2 * c->consumer.n]);
    cr_expect(c->time.out_of_order_ms == 60000 && c->time.max_future_ms == 3600000);
    cr_expect(c->n_actions == ACTION_BUILTIN + 1 && strcmp(c->actions[ACTION_BUILTIN], "buy") == 0);
    cr_expect(c->n_windows == 2 && c->windows[1].tile_ms == DAY && c->windows[1].tiles == 30);
    cr_expect(c->sequences[ACTION_CLICK].last == 20 && c->sequences[ACTION_DISLIKE].last == 0);
    cr_expect(c->sequences[ACTION_BUILTIN].last == 7 && c->sequences[ACTION_IMPRESSION].last == 0);
    cr_expect_eq(c->join.labels, 1u << ACTION_CLICK | 1u << ACTION_BUILTIN | 1u << ACTION_WATCH);
    cr_expect_eq(c->join.watch_of, STATE_WATCH_SUM);
    cr_expect(c->n_features == 1 && c->model.blocks[0].n_of == 1);
    config_free(c);
}

Test(config, windows_and_rates_go_by_label)
{
    struct config *c = load_good("join: {labels: {click: {window: 1m}, all: {window: 1h}}, window: 10m,\n"
                                 "       keep_negatives: {click: 0.1, like: 0.5}, remember: 2h,\n"
                                 "       thin_positives: {action: like, window: 1d, above: 1k}}\n");
    cr_expect(c->join.label_window_ms[ACTION_CLICK] == 60000 &&
              c->join.label_window_ms[ACTION_LIKE] == 3600000);
    cr_expect(c->join.keep_negatives == 0.5 && c->join.keep_by_label && c->join.remember_ms == 7200000);
    cr_expect(config_keep(c, ACTION_CLICK) == 0.1 && config_keep(c, ACTION_LIKE) == 0.5);
    cr_expect(config_keep(c, ACTION_SHARE) == 0.5 && config_corrects(c));
    cr_expect(c->join.thin.action == ACTION_LIKE && c->join.thin.window == 1 && c->join.thin.above == 1000);
    cr_expect(c->join.thin.power == 0.5 && strcmp(c->model.heads[0].loss, "logloss") == 0);
    config_free(c);
    c = load_good("join: {emit: fake_negative}\n");
    cr_expect(c->join.emit == STATE_EMIT_FAKE_NEGATIVE && config_corrects(c) && !c->join.keep_by_label);
    cr_expect(strcmp(c->model.heads[0].loss, "fnw") == 0 && config_keep(c, ACTION_CLICK) == 1);
    config_free(c);
}

Test(config, features_of_every_form)
{
    struct config *c =
        load_good("tables: {users: {rows: 5k}, items: {dim: 4}, age: {dim: 3, rows: 99}}\n"
                  "features:\n"
                  "  device: {id: context.device}\n"
                  "  author: {id: item.author, table: items}\n"
                  "  who: {id: user}\n"
                  "  age: {number: user.age, bucketize: [18, 25.5, 35]}\n"
                  "  length: {number: item.duration_ms, log1p: true}\n"
                  "  watched: {count: watch_ms, of: user, window: 1h, log1p: false}\n"
                  "  likes: {count: like, of: item, window: 7d, bucketize: [1, 10]}\n"
                  "  rate20: {rate: like/click, of: item, window: 1d, bucketize: 20, smooth: [0.5, 2]}\n"
                  "  day: {weekday: timestamp, offset: -5.5}\n"
                  "  shared: {sequence: share, table: items}\n");
    const struct config_feature *f = feature(c, "device");
    cr_expect(f->ref.of == CONFIG_OF_CONTEXT && strcmp(f->ref.field, "device") == 0 &&
              c->tables[f->table].dim == 8);
    f = feature(c, "author");
    cr_expect(f->ref.of == CONFIG_OF_ITEM && strcmp(f->ref.field, "author") == 0 &&
              c->tables[f->table].dim == 4);
    f = feature(c, "who");
    cr_expect(f->ref.of == CONFIG_OF_USER && f->ref.field[0] == '\0' && c->tables[f->table].rows == 1000000);
    f = feature(c, "age");
    cr_expect(f->n_edges == 3 && f->edges[1] == 25.5 && c->tables[f->table].rows == 99 && !f->log1p);
    f = feature(c, "length");
    cr_expect(f->kind == CONFIG_FEATURE_NUMBER && f->table == -1 && f->log1p && f->ref.of == CONFIG_OF_ITEM);
    f = feature(c, "watched");
    cr_expect(f->measure == MEASURE_WATCH_MS && !f->log1p && f->window == 0);
    f = feature(c, "likes");
    cr_expect(f->n_edges == 2 && c->tables[f->table].rows == 4 && !f->log1p);
    f = feature(c, "rate20");
    cr_expect(f->equal_buckets == 20 && f->n_edges == 0 && f->smooth[0] == 0.5 && f->table >= 0);
    f = feature(c, "day");
    cr_expect(f->kind == CONFIG_FEATURE_WEEKDAY && f->offset_hours == -5.5 && c->tables[f->table].rows == 7);
    cr_expect_eq(feature(c, "shared")->last, 50);
    config_free(c);
}

Test(config, a_net_of_blocks)
{
    struct config *c = load_good("models:\n"
                                 "  m:\n"
                                 "    net:\n"
                                 "      - {name: pooled, mean: {}, of: clicks}\n"
                                 "      - {name: both, concat: , of: [pooled, user_id]}\n"
                                 "      - {name: top, mlp: [8], of: [both, hour], activation: none}\n"
                                 "    heads:\n"
                                 "      click: {of: top}\n"
                                 "      fan: {of: both, label: follow, weight: 0.5}\n");
    const struct config_model *m = &c->model;
    cr_assert(m->n_blocks == 3 && m->n_heads == 2);
    cr_expect(strcmp(m->blocks[0].kind, "mean") == 0 && m->blocks[0].n_of == 1);
    cr_expect(strcmp(m->blocks[1].kind, "concat") == 0 && strcmp(m->blocks[1].of[0], "pooled") == 0);
    cr_expect(strcmp(m->blocks[2].options[1].text, "none") == 0 && m->blocks[2].options[0].dims[0] == 8);
    cr_expect(m->blocks[2].at.line == 6 && m->blocks[2].at.column == 9);
    cr_expect(m->heads[1].label == ACTION_FOLLOW && m->heads[1].weight == 0.5);
    cr_expect(m->heads[1].at.line == 9 && m->at.line == 2 && c->at_model.line == 2);
    config_free(c);
}

Test(config, parts_of_all)
{
    struct config *c = load_good("models:\n"
                                 "  m:\n"
                                 "    net:\n"
                                 "      - {name: user, mlp: [8], of: all.request, side: user}\n"
                                 "      - {name: item, mlp: [8], of: all.item, side: item}\n"
                                 "      - {name: top, mlp: [8], of: [user, item, user_id, all.ids]}\n"
                                 "    heads:\n"
                                 "      click: {of: top}\n");
    const struct config_model *m = &c->model;
    cr_expect(m->blocks[0].side == NET_USER && m->blocks[1].side == NET_ITEM && m->blocks[2].side == 0);
    cr_expect(m->blocks[0].n_of == 5 && strcmp(m->blocks[0].of[0], "user_id") == 0);
    cr_expect(m->blocks[1].n_of == 5 && strcmp(m->blocks[1].of[0], "item_id") == 0);
    cr_expect(m->blocks[2].n_of == 5 && strcmp(m->blocks[2].of[4], "hour") == 0);
    config_free(c);
}

Test(config, a_preset_is_a_net)
{
    struct config *c = load_good("models:\n"
                                 "  m:\n"
                                 "    preset: mlp\n"
                                 "    with: {widths: [32, 16], of: [all.user, item_id], activation: tanh}\n"
                                 "    heads: {click: {}, like: {weight: 0.5}}\n");
    const struct config_model *m = &c->model;
    cr_assert(m->n_blocks == 1 && m->n_heads == 2);
    cr_expect(strcmp(m->blocks[0].name, "bottom") == 0 && m->blocks[0].n_of == 5);
    cr_expect(m->blocks[0].options[0].dims[0] == 32 && m->blocks[0].options[0].dims[1] == 16);
    cr_expect_str_eq(m->blocks[0].options[1].text, "tanh");
    cr_expect(m->heads[1].label == ACTION_LIKE && m->heads[1].weight == 0.5);
    cr_expect(strcmp(m->heads[1].of, "bottom") == 0 && m->heads[1].at.line == 5);
    config_free(c);
    c = load_good("models: {m: {preset: mlp}}\n");
    cr_expect(c->model.n_heads == 1 && strcmp(c->model.heads[0].name, "click") == 0);
    cr_expect(c->model.blocks[0].n_of == c->n_features);
    config_free(c);
}

Test(config, every_preset_is_a_net)
{
    for (const struct preset *p = presets; p->name != NULL; p++) {
        char text[200];
        snprintf(text, sizeof text, "models: {m: {preset: %s, heads: {click: {}, like: {}}}}\n", p->name);
        struct config *c = load_good(text);
        cr_expect(c->model.n_blocks > 0 && c->model.n_heads == 2, "%s", p->name);
        config_free(c);
    }
}

// What is wrong with a head's target; where it stands is checked with the other errors of heads.
Test(config, targets_of_heads)
{
    static const struct {
        const char *text, *message;
    } wrong[] = {
        {"join: {labels: {click: {}, like: {}, watch: {}}}\nmodels: {m: {heads: {click: {of: hour}, x: {of: "
         "hour, label: like, given: clik}}}}\n",
         "head x.given: no label \"clik\" in join.labels; did you mean \"click\"?"},
        {"join: {labels: {click: {}, like: {}, watch: {}}}\nmodels: {m: {heads: {like: {of: hour, given: "
         "like}}}}\n",
         "head like.given is its own label"},
        {"join: {labels: {click: {}, like: {}, watch: {}}}\nmodels: {m: {heads: {like: {of: hour, through: "
         "click}, click: {of: hour}}}}\n",
         "head like.through: no earlier head \"click\""},
        {"join: {labels: {click: {}, like: {}, watch: {}}}\nmodels: {m: {heads: {click: {of: hour}, like: "
         "{of: hour, through: click, given: click}}}}\n",
         "head like.through: the loss is over all impressions, so neither head may have \"given\""},
        {"join: {labels: {click: {}, like: {}, watch: {}}}\nmodels: {m: {heads: {click: {of: hour, loss: "
         "watch_time}}}}\n",
         "head click: watch_time is of what was watched: it needs label: watch"},
        {"join: {labels: {click: {}, like: {}, watch: {}}}\nmodels: {m: {heads: {watch: {of: hour, loss: "
         "fraction}}}}\n",
         "head watch: loss fraction needs \"length\": the feature that is the whole"},
        {"join: {labels: {click: {}, like: {}, watch: {}}}\nmodels: {m: {heads: {watch: {of: hour, length: "
         "hour, threshold: 0.8}}}}\n",
         "head watch.length: \"hour\" must be a number as it is, in ms, without log1p, bucketize or "
         "embedding"},
        {"join: {labels: {click: {}, like: {}, watch: {}}}\nmodels: {m: {heads: {watch: {of: hour, loss: "
         "watch_time, threshold: 3}}}}\n",
         "head watch: a threshold makes classes, for which loss watch_time is not"},
        {"join: {labels: {watch: {}}, keep_negatives: 0.5}\nmodels: {m: {heads: {watch: {of: hour, loss: "
         "watch_time}}}}\n",
         "head watch: join.keep_negatives keeps 0.5 of the negatives of watch, but watch_time needs all of "
         "them"},
        {"models: {m: {heads: {click: {of: hour}}, score: click * lik}}\n",
         "models.m.score, column 9: no head or function \"lik\""},
        {"models: {m: {heads: {click: {of: hour}}, score: [click]}}\n",
         "models.m.score must be an expression"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct config *c;
        struct err err;
        cr_expect_lt(load_text(wrong[i].text, &c, &err), 0, "%s", wrong[i].text);
        cr_expect_not_null(strstr(err.message, wrong[i].message), "%s", err.message);
    }
    struct config *c = load_good("join: {labels: {click: {}, like: {}, watch: {}}}\n"
                                 "stream: {items: {topic: items}}\n"
                                 "features: {hour: {hour: timestamp}, whole: {number: item.length}}\n"
                                 "models:\n"
                                 "  m:\n"
                                 "    heads:\n"
                                 "      click: {of: hour}\n"
                                 "      like: {of: hour, through: click}\n"
                                 "      seconds: {of: hour, label: watch, loss: watch_time}\n"
                                 "      share: {of: hour, label: watch, loss: fraction, length: whole}\n"
                                 "      done: {of: hour, label: watch, threshold: 0.8, length: whole}\n"
                                 "      liked: {of: hour, label: like, given: click}\n"
                                 "    score: click * (1 + seconds)^0.5\n");
    const struct config_head *h = c->model.heads;
    cr_expect(h[0].given == -1 && h[0].through == -1 && h[0].length == -1 && !h[0].valued);
    cr_expect(h[1].through == 0 && h[2].valued && h[3].length == config_feature_find(c, "whole"));
    cr_expect(h[4].threshold == 0.8 && h[4].valued && h[5].given == ACTION_CLICK);
    cr_expect_not_null(c->model.score);
    config_free(c);
}

Test(config, pairs_of_fields)
{
    struct config *c =
        load_good("models:\n"
                  "  m:\n"
                  "    net: [{name: x, bilinear: each, pairs: [user_id*item_id, hour * user_id], "
                  "of: all.ids}]\n"
                  "    heads: {click: {of: x}}\n");
    cr_expect_str_eq(c->model.blocks[0].options[1].name, "pairs");
    cr_expect_str_eq(c->model.blocks[0].options[1].text, "user_id item_id hour user_id");
    config_free(c);
}

Test(config, anchors_are_written_out)
{
    struct config *c = load_good("tables: {users: &t {dim: 5, rows: 10}, items: *t}\n");
    cr_expect(table(c, "items")->dim == 5 && table(c, "items")->rows == 10);
    config_free(c);
}

// ---- overrides, environment, secrets ----------------------------------------------------------------------

Test(config, overrides)
{
    struct config *c = load_set("update.every", "30s");
    cr_expect_eq(c->update.every_ms, 30000);
    config_free(c);
    c = load_set("features.user_ctr_7d.window", "1h");
    cr_expect(feature(c, "user_ctr_7d")->window == 0 && c->n_features == 10);
    config_free(c);
    c = load_set("features.extra", "{count: like, of: user, window: 1d}");
    cr_expect(c->n_features == 11 && c->model.blocks[0].n_of == 11);
    config_free(c);
    c = load_set("counters.windows", "[1h, 1d, 7d, {name: x, tile: 1d, length: 10d}]");
    cr_expect_eq(c->n_windows, 4);
    config_free(c);
    c = load_set("tables.hour.dim", "2");
    cr_expect(table(c, "hour")->dim == 2 && c->n_tables == 3);
    config_free(c);
    c = load_set("stream.time", "{idle_after: 1s}");
    cr_expect(c->time.idle_after_ms == 1000 && c->time.out_of_order_ms == 5000);
    config_free(c);
    c = load_set("kafka.consumer.fetch.wait.max.ms", "20");
    cr_expect_str_eq(property(&c->consumer, "fetch.wait.max.ms"), "20");
    config_free(c);
    c = load_set("kafka.bootstrap.servers", "x:1");
    cr_expect_str_eq(property(&c->producer, "bootstrap.servers"), "x:1");
    config_free(c);
    c = load_set("http.token", "");
    cr_expect_str_eq(c->http.token, "");
    config_free(c);
    c = load_set("http.listen", "\"[::1]:0\"");
    cr_expect(strcmp(c->http.host, "::1") == 0 && c->http.port == 0);
    config_free(c);
}

Test(config, properties_lie_over_both_sides)
{
    static const char *const properties[] = {"bootstrap.servers", "z:9", "debug", "cgrp", NULL};
    struct config *c = NULL;
    struct err err = {0};
    cr_assert_eq(config_load(NULL, NULL, 0, properties, &c, &err), 0, "%s", err.message);
    cr_expect_str_eq(property(&c->consumer, "bootstrap.servers"), "z:9");
    cr_expect_str_eq(property(&c->producer, "debug"), "cgrp");
    cr_expect_eq(c->consumer.n, 2);
    config_free(c);
}

Test(config, environment)
{
    setenv("FRESHET_A", "alpha", 1);
    setenv("FRESHET_EMPTY", "", 1);
    unsetenv("FRESHET_NONE");
    struct config *c =
        load_good("kafka: {a: '${FRESHET_A}', b: 'x${FRESHET_A}y${FRESHET_A}',\n"
                  "  c: '${FRESHET_NONE:-d:e}', d: '${FRESHET_EMPTY:-full}', e: '$${FRESHET_A}',\n"
                  "  f: '$a$', g: 'n${FRESHET_EMPTY}n'}\n"
                  "update: {every: '${FRESHET_NONE:-7s}'}\n");
    static const char *const expected[][2] = {{"a", "alpha"}, {"b", "xalphayalpha"}, {"c", "d:e"},
                                              {"d", "full"},  {"e", "${FRESHET_A}"}, {"f", "$a$"},
                                              {"g", "nn"}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        cr_expect_str_eq(property(&c->consumer, expected[i][0]), expected[i][1]);
    cr_expect_eq(c->update.every_ms, 7000);
    config_free(c);
    setenv("STATE_DIRECTORY", "/var/lib/freshet", 1);
    c = load_good("");
    cr_expect_str_eq(c->state.dir, "/var/lib/freshet");
    config_free(c);
}

Test(config, an_override_needs_no_variable_of_what_it_replaces)
{
    struct config_override o = {"http.token", "given"};
    struct config *c = NULL;
    struct err err = {0};
    const char *text = "http: {token: '${FRESHET_NONE:?set me}'}\n";
    unsetenv("FRESHET_NONE");
    file_write(text, strlen(text));
    cr_expect_eq(config_load(file_name, &o, 1, NULL, &c, &err), 0, "%s", err.message);
    cr_expect_str_eq(c->http.token, "given");
    config_free(c);
    unlink(file_name);
}

Test(config, secrets)
{
    char text[200];
    struct err err = {0};
    struct config *c = NULL;
    file_write("s3cret word\n", 12);
    setenv("FRESHET_SECRET", file_name, 1);
    char secret[64];
    strcpy(secret, file_name);
    c = load_good("kafka: {sasl.password: 'file:${FRESHET_SECRET}'}\nhttp: {listen: 0.0.0.0:80, token: "
                  "'file:${FRESHET_SECRET}'}\n");
    cr_expect_str_eq(c->http.token, "s3cret word");
    cr_expect_str_eq(property(&c->producer, "sasl.password"), "s3cret word");
    config_free(c);
    snprintf(text, sizeof text, "update: {every: file:%s}\n", secret);
    cr_expect_lt(load_text(text, &c, &err), 0);
    cr_expect_null(strstr(err.message, "s3cret"), "%s", err.message);
    cr_expect_not_null(strstr(err.message, ":1:17: update.every is (a secret), which is no duration"), "%s",
                       err.message);
    unlink(secret);
}

// ---- mistakes ---------------------------------------------------------------------------------------------

struct mistake {
    const char *text;
    const char *message; // after "file:"
};

static const struct mistake mistakes[] = {
    // YAML itself
    {"a: [1, 2\n", "2:1: flow sequence without a closing bracket"},
    {"update:\n  every: 5m\n every: 6m\n", "3:2: invalid indentation in mapping"},
    {"update: {every: 5m}\nlog: {level: info}\nupdate: {batch: 1}\n",
     "3:1: key \"update\" stands twice, first in line 1 column 1"},
    {"update:\n  every: 5m\n  every: 6m\n", "3:3: key \"every\" stands twice, first in line 2 column 3"},
    {"- a\n", "1:1: a config is a list, but must be a map"},
    {"hello\n", "1:1: a config is \"hello\", but must be a map"},
    {"a: 1\n---\nb: 2\n", "2:1: a second document: a config is one"},
    {"update: {every: !!str 5m}\n", "1:23: tags (!...) have no meaning in a config"},
    {"update: *x\n", "1:9: no anchor \"x\" stands before this alias"},
    {"&x update: {every: *y}\n", "1:20: no anchor \"y\" stands before this alias"},
    {"update: &x {a: *x}\n", "1:16: no anchor \"x\" stands before this alias"},
    {"log: {}\n%YAML 1.2\n", "2:1: a line that begins with % is a directive, and has no meaning in a config"},
    {"? [a]\n: 1\n", "1:3: a key must be a plain word"},
    {"log: {level: \"in\\0fo\"}\n", "1:14: a NUL character inside a value"},
    // keys
    {"stream:\n  time:\n    outof_order: 5s\n",
     "3:5: unknown key \"outof_order\" in stream.time; did you mean \"out_of_order\"?"},
    {"strem: {}\n", "1:1: unknown key \"strem\"; did you mean \"stream\"?"},
    {"log: {level: info, colour: red}\n", "1:20: unknown key \"colour\" in log; there are: level, format"},
    {"out_of_order: 5s\n", "1:1: unknown key \"out_of_order\"; did you mean \"stream.time.out_of_order\"?"},
    {"tables: {users: {dims: 5}}\n", "1:18: unknown key \"dims\" in tables.users; did you mean \"dim\"?"},
    {"features: {a: {id: user, tabel: users}}\n",
     "1:26: unknown key \"tabel\" in features.a; did you mean \"table\"?"},
    {"models: {m: {nets: []}}\n", "1:14: unknown key \"nets\" in models.m; did you mean \"net\"?"},
    {"models: {m: {net: [{name: a, mpl: [1], of: all}]}}\n",
     "1:30: unknown key \"mpl\" in block 1 of models.m.net; did you mean \"mlp\"?"},
    // values and bounds
    {"stream: 5\n", "1:9: stream is \"5\", but must be a map"},
    {"update: {every: 5x}\n",
     "1:17: update.every is \"5x\", which is no duration; write 500ms, 5s, 10m, 1h or 30d"},
    {"update:\n  every: 10ms\n", "2:10: update.every is \"10ms\", but must be 1s to 30d"},
    {"update: {every: 12345678901234567890123456789012345678901234567890123456789é}\n",
     "1:17: update.every is \"12345678901234567890123456789012345678901234567890123456789...\", which is no "
     "duration; "
     "write 500ms, 5s, 10m, 1h or 30d"},
    {"update: {every: [1s]}\n", "1:17: update.every is a list, but must be a duration"},
    {"update: {every: }\n", "1:10: update.every has no value"},
    {"update: {batch: many}\n",
     "1:17: update.batch is \"many\", which is no count; write 1000, 100k, 1M or 1G"},
    {"update: {batch: 100k}\n", "1:17: update.batch is \"100k\", but must be 1 to 65536"},
    {"state: {cache: 1G}\n", "1:16: state.cache is \"1G\", which is no size; write 4096, 64MB or 1GiB"},
    {"state: {cache: 1KiB}\n", "1:16: state.cache is \"1KiB\", but must be 1MiB to 1TiB"},
    {"join: {keep_negatives: half}\n", "1:24: join.keep_negatives is \"half\", which is no number"},
    {"join: {keep_negatives: 0}\n", "1:24: join.keep_negatives is \"0\", but must be 1e-06 to 1"},
    {"join: {emit: later}\n",
     "1:14: join.emit is \"later\", but must be one of: wait, first_label, fake_negative"},
    {"update: {enabled: yes}\n", "1:19: update.enabled is \"yes\", but must be true or false"},
    {"log: {level: loud}\n", "1:14: log.level is \"loud\", but must be one of: error, warn, info, debug"},
    {"stream: {events: {topic: ''}}\n", "1:26: stream.events.topic must not be empty"},
    {"stream: {events: {topic: 'a b'}}\n",
     "1:26: stream.events.topic is \"a b\", but a topic is made of letters, digits, '.', '_' and '-'"},
    {"stream: {dlq: {suffix: .123456789012345678901234567890123}}\n",
     "1:24: stream.dlq.suffix is 34 bytes long, but may be 31 at most"},
    // environment
    {"log: {level: '${FRESHET_NONE}'}\n",
     "1:14: the environment variable FRESHET_NONE is not set; ${FRESHET_NONE:-default} would give a default"},
    {"log: {level: '${FRESHET_NONE:?tell me}'}\n", "1:14: FRESHET_NONE: tell me"},
    {"log: {level: '${FRESHET_NONE'}\n", "1:14: \"${\" without its \"}\"; write $${ for the two characters"},
    {"log: {level: '${1X}'}\n", "1:14: \"${1X}\" must be ${NAME}, ${NAME:-default} or ${NAME:?message}"},
    {"log: {level: '${X:=y}'}\n", "1:14: \"${X:=y}\" must be ${NAME}, ${NAME:-default} or ${NAME:?message}"},
    {"log: {level: '${X:-${Y}}'}\n", "1:14: a ${...} inside another is not taken"},
    {"http: {token: file:/nowhere/at-all}\n",
     "1:15: file:/nowhere/at-all cannot be read: No such file or directory"},
    {"http: {token: file:/dev/zero}\n", "1:15: file:/dev/zero is no regular file of at most 65536 bytes"},
    // maps whose names the user chooses
    {"kafka: {group.id: [a]}\n", "1:19: property group.id is a list, but must be a single value"},
    {"kafka: {consumer: x}\n", "1:19: kafka.consumer is \"x\", but must be a map"},
    {"stream: {actions: [buy, click]}\n", "1:25: stream.actions: click is built in"},
    {"stream: {actions: [buy, buy]}\n", "1:25: stream.actions: buy stands twice"},
    {"stream: {actions: [all]}\n", "1:20: stream.actions: all has a meaning of its own"},
    {"stream: {actions: [a b]}\n",
     "1:20: \"a b\" is no name for an action: letters, digits, _ and -, a letter or _ first"},
    {"counters: {windows: []}\n", "1:21: counters.windows has 0 entries, but must have 1 to 8"},
    {"counters: {windows: [2h]}\n",
     "1:22: counters.windows: \"2h\" is none of 1h, 1d and 7d; others are {name: .., tile: .., length: ..}"},
    {"counters: {windows: [1d, 1h]}\n",
     "1:26: counters.windows: the tile of \"1h\" is no multiple of that of \"1d\" before it"},
    {"counters: {windows: [1h, 1h]}\n", "1:26: counters.windows: \"1h\" stands twice"},
    {"counters: {windows: [7d, {name: x, tile: 1h, length: 2h}]}\n",
     "1:26: counters.windows: \"x\" is shorter than \"7d\" before it"},
    {"counters: {windows: [{name: x, tile: 1h}]}\n",
     "1:22: a window needs name, tile and length; length is missing"},
    {"counters: {windows: [{name: x, tile: 1h, length: 90m}]}\n",
     "1:50: counters.windows.length is \"90m\", but must be 1 to 1024 whole tiles"},
    {"sequences: {clik: {last: 5}}\n", "1:13: sequences: no action \"clik\"; did you mean \"click\"?"},
    {"sequences: {impression: {last: 5}}\n", "1:13: sequences: impression is no feedback"},
    {"sequences: {click: {last: 1M}}\n", "1:27: sequences.click.last is \"1M\", but must be 0 to 8k"},
    {"join: {labels: {}}\n", "1:16: join.labels is empty: a sample needs a label"},
    {"join: {labels: {lik: {}}}\n", "1:17: join.labels: no action \"lik\"; did you mean \"like\"?"},
    {"join: {labels: {click: {of: max}}}\n", "1:25: join.labels: \"of\" belongs to watch alone"},
    {"join: {labels: {watch: {of: min}}}\n",
     "1:29: join.labels.watch.of is \"min\", but must be one of: watch_ms, max, sum, last"},
    {"join: {corrections: true}\n", "1:21: join.corrections goes with join.emit: first_label or "
                                    "fake_negative; with wait no label comes after its "
                                    "sample"},
    {"join: {keep_negatives: {}}\n",
     "1:24: join.keep_negatives is empty: write a rate, or {click: 0.1, ...}"},
    {"join: {labels: {click: {}}, keep_negatives: {like: 0.1}}\n",
     "1:46: join.keep_negatives.like: like is none of join.labels"},
    {"join: {keep_negatives: {click: 2}}\n",
     "1:32: join.keep_negatives.click is \"2\", but must be 1e-06 to 1"},
    {"join: {labels: {click: {window: 0s}}}\n",
     "1:33: join.labels.click.window is \"0s\", but must be 1ms to 30d"},
    {"join: {emit: first_label, labels: {click: {}, like: {window: 1h}}}\n",
     "1:35: join.labels: the window of like is longer than join.window, so its labels come as corrected "
     "samples; "
     "with this join.emit that needs join.corrections: true"},
    {"join: {thin_positives: {action: click, window: 1h}}\n",
     "1:24: join.thin_positives needs action, window and above; above is missing"},
    {"join: {thin_positives: {action: click, window: 2h, above: 10}}\n",
     "1:48: join.thin_positives.window is \"2h\", which is none of counters.windows"},
    {"join: {thin_positives: {action: clik, window: 1h, above: 10}}\n",
     "1:33: join.thin_positives.action: no action \"clik\"; did you mean \"click\"?"},
    {"join: {emit: fake_negative, thin_positives: {action: click, window: 1h, above: 10}}\n",
     "1:45: join.thin_positives does not go with join.emit: fake_negative: a positive that is left out would "
     "stay the "
     "negative that it was told as"},
    {"tables: {9: {}}\n",
     "1:10: \"9\" is no name for a table: letters, digits, _ and -, a letter or _ first"},
    {"tables: {users: {dim: 0}}\n", "1:23: tables.users.dim is \"0\", but must be 1 to 1024"},
    // features
    {"features: {a: {table: users}}\n",
     "1:12: features.a needs one of: id, number, count, rate, hour, weekday, sequence, cross, age, geohash, "
     "ids, member"},
    {"features: {a: {id: user, count: click}}\n",
     "1:26: features.a has both \"id\" and \"count\": a feature is of one kind"},
    {"features: {a: {id: user, window: 1h}}\n", "1:26: features.a: \"window\" does not go with \"id\""},
    {"features: {a: {id: context}}\n", "1:20: features.a.id is \"context\", but must be user, item, "
                                       "context.NAME, user.ATTRIBUTE or item.ATTRIBUTE"},
    {"features: {a: {number: user}}\n",
     "1:24: features.a.number is \"user\", but must be context.NAME, user.ATTRIBUTE or item.ATTRIBUTE"},
    {"features: {a: {id: user, table: user}}\n",
     "1:33: features.a: no table \"user\"; did you mean \"users\"?"},
    {"features:\n  a: {number: user.age, table: users}\n",
     "2:25: features.a: a plain number has no table; bucketize makes it an embedding"},
    {"features: {a: {count: clicks, of: user, window: 1h}}\n",
     "1:23: features.a.count: no action \"clicks\"; did you mean \"click\"?"},
    {"features: {a: {count: click, window: 1h}}\n",
     "1:12: features.a needs \"of\": user, item or all, whose counters they are"},
    {"features: {a: {count: click, of: none, window: 1h}}\n",
     "1:34: features.a.of is \"none\", but must be one of: user, item, all"},
    {"features: {a: {count: click, of: user}}\n",
     "1:12: features.a needs \"window\": one of counters.windows"},
    {"features: {a: {count: click, of: user, window: 2h}}\n",
     "1:48: features.a: no window \"2h\" in counters.windows; there are: 1h, 1d, 7d"},
    {"features: {a: {rate: click, of: user, window: 1h}}\n",
     "1:22: features.a.rate is \"click\", but must be ACTION/ACTION, as click/impression"},
    {"features: {a: {rate: click/impresion, of: user, window: 1h}}\n",
     "1:22: features.a.rate: no action \"impresion\"; did you mean \"impression\"?"},
    {"features: {a: {rate: click/impression, of: user, window: 1h, smooth: [1]}}\n",
     "1:70: features.a.smooth has 1 entries, but must have 2 to 2"},
    {"features: {a: {rate: click/impression, of: user, window: 1h, smooth: [1, 0]}}\n",
     "1:74: features.a.smooth is [a, b], and b must be above 0: nothing is divided by zero"},
    {"features: {a: {rate: click/impression, of: user, window: 1h, bucketize: 1}}\n",
     "1:73: features.a.bucketize is \"1\", but must be 2 to 1k"},
    {"features: {a: {number: user.age, bucketize: 20}}\n",
     "1:45: features.a.bucketize is \"20\", but must be a list"},
    {"features: {a: {number: user.age, bucketize: [1, 3, 2]}}\n",
     "1:52: features.a.bucketize: edges must ascend"},
    {"features: {a: {number: user.age, bucketize: [x]}}\n",
     "1:46: features.a.bucketize holds \"x\", but must hold numbers of -1e+18 to 1e+18"},
    {"features: {a: {number: user.age, bucketize: [1], log1p: true}}\n",
     "1:50: features.a: log1p has no effect with bucketize, whose edges cut the plain value"},
    {"features: {a: {hour: now}}\n", "1:22: features.a.hour is \"now\", but must be timestamp"},
    {"features: {a: {hour: timestamp, offset: 20}}\n",
     "1:41: features.a.offset is \"20\", but must be -14 to 14"},
    {"features: {a: {sequence: click}}\n", "1:12: features.a needs \"table\": the one of the items"},
    {"features: {a: {sequence: click, table: items, last: 500}}\n",
     "1:53: features.a.last is 500, but sequences keeps 100 of click"},
    {"features: {a: {sequence: click, table: items, pool: max}}\n",
     "1:53: features.a.pool is \"max\", but must be one of: mean"},
    {"sequences: {click: {last: 5}}\nfeatures: {a: {sequence: like, table: items}}\n",
     "2:26: features.a: sequences keeps none of like"},
    // models
    {"models: {}\n", "1:9: models is empty: one model is needed"},
    {"models: {a: {heads: {click: {of: hour}}}, b: {}}\n", "1:43: a second model: this release has one"},
    {"models: {m: {net: []}}\n", "1:10: models.m needs heads: what it predicts"},
    {"models: {m: {heads: {click: {of: botom}}, net: [{name: bottom, mlp: [4], of: all}]}}\n",
     "1:34: head click: no feature or earlier block \"botom\"; did you mean \"bottom\"?"},
    {"models:\n  m:\n    net:\n      - {name: a, mlp: [4], of: [hours]}\n",
     "4:34: block a: no feature or earlier block \"hours\"; did you mean \"hour\"?"},
    {"models: {m: {net: [{name: hour, mlp: [4], of: all}]}}\n",
     "1:27: block \"hour\": a feature has this name"},
    {"models: {m: {net: [{name: a, mlp: [4], of: all}, {name: a, mlp: [4], of: all}]}}\n",
     "1:57: block \"a\" stands twice"},
    {"models: {m: {net: [{mlp: [4], of: all}]}}\n", "1:20: block 1 of models.m.net needs a name"},
    {"models: {m: {net: [{name: a, mlp: [4], mean: {}, of: all}]}}\n",
     "1:40: block a has both \"mlp\" and \"mean\": a block is of one kind"},
    {"models: {m: {net: [{name: a, mlp: [4]}]}}\n", "1:20: block a needs \"of\": what it reads"},
    {"models: {m: {net: [{name: a, mlp: 4, of: all}]}}\n", "1:35: block a: mlp is \"4\", but must be a list"},
    {"models: {m: {net: [{name: a, mlp: [0], of: all}]}}\n",
     "1:36: block a: mlp is \"0\", but must be 1 to 8192"},
    {"models: {m: {net: [{name: a, mlp: [4], of: [hour, hour]}]}}\n",
     "1:51: block a: \"hour\" stands twice in \"of\""},
    {"models: {m: {net: [{name: a, concat: {}, of: all, activation: none}]}}\n",
     "1:51: unknown key \"activation\" in block 1 of models.m.net, of kind concat; there are: name, of, "
     "side"},
    {"models: {m: {net: [{name: a, concat: [4], of: all}]}}\n",
     "1:38: block a: concat takes no value; write concat: {}"},
    {"models: {m: {net: [{name: a, mlp: [4], of: all, activation: gelu}]}}\n",
     "1:61: block a: activation is \"gelu\", but must be one of: relu, none, sigmoid, tanh, prelu, dice"},
    {"models: {m: {net: [{name: a, mlp: [4], of: all, activaton: relu}]}}\n",
     "1:49: unknown key \"activaton\" in block 1 of models.m.net, of kind mlp; did you mean \"activation\"?"},
    {"models: {m: {net: [{name: a, l2norm: {}, of: all, eps: 2}]}}\n",
     "1:56: block a: eps is \"2\", but must be 1e-12 to 1"},
    {"models: {m: {net: [{name: a, mlp: [4], of: all, side: left}]}}\n",
     "1:55: block a: side is \"left\", but must be one of: user, item"},
    {"models: {m: {net: [{name: a, mlp: [4], of: all.cross}]}}\n",
     "1:44: block a: there is no feature of \"all.cross\""},
    {"models: {m: {preset: mpl}}\n", "1:22: no preset \"mpl\"; did you mean \"mlp\"?"},
    {"models: {m: {net: [{name: a, bilinear: all, of: all.ids, pairs: [hour]}]}}\n",
     "1:66: block a: pairs is \"hour\", but must be a*b, of two that the block reads"},
    {"models: {m: {net: [{name: a, bilinear: all, of: all.ids, pairs: [hour*our]}]}}\n",
     "1:66: block a: no feature or earlier block \"our\"; did you mean \"hour\"?"},
    {"models: {m: {preset: mlp, with: {width: [4]}}}\n",
     "1:34: preset mlp takes no \"width\"; did you mean \"widths\"?"},
    {"models: {m: {preset: mlp, with: {widths: {a: 4}}}}\n",
     "1:42: preset mlp: \"widths\" must be a value or a list of values"},
    {"models: {m: {preset: mlp, net: []}}\n", "1:27: a model has a net or a preset, not both"},
    {"models: {m: {with: {widths: [4]}, heads: {click: {of: hour}}}}\n", "1:14: \"with\" goes with a preset"},
    {"models: {m: {preset: mlp, heads: {tap: {}}}}\n",
     "1:35: head tap: no label \"tap\" in join.labels; there "
     "are: click, like, collect, share, comment, follow, dislike, watch"},
    {"models: {m: {heads: {tap: {of: hour}}}}\n", "1:22: head tap: no label \"tap\" in join.labels; there "
                                                  "are: click, like, collect, share, comment, follow, "
                                                  "dislike, watch"},
    {"join: {labels: {click: {}}}\nmodels: {m: {heads: {x: {of: hour, label: like}}}}\n",
     "2:43: head x: no label \"like\" in join.labels; there are: click"},
    {"models: {m: {net: [{name: click, mlp: [4], of: all}], heads: {click: {of: click}}}}\n",
     "1:63: head click: a block has this name"},
    // http
    {"http: {listen: 7878}\n",
     "1:16: http.listen is \"7878\", but must be host:port, as 127.0.0.1:7878 or \"[::1]:7878\""},
    {"http: {listen: 'localhost:99999'}\n",
     "1:16: http.listen is \"localhost:99999\", but must be host:port, as 127.0.0.1:7878 or \"[::1]:7878\""},
    {"http: {listen: 0.0.0.0:7878}\n", "1:16: http.listen: 0.0.0.0 can be reached from other machines, and "
                                       "without http.token everyone there could read "
                                       "what is known of every user; set a token, or listen on 127.0.0.1"},
    {"publish: {topic: events}\n", "1:18: stream.events.topic and publish.topic are the same topic, events"},
};

Test(config, mistakes)
{
    unsetenv("FRESHET_NONE");
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        struct config *c = NULL;
        struct err err = {0};
        char expected[1000];
        int rc = load_text(mistakes[i].text, &c, &err);
        snprintf(expected, sizeof expected, "%s:%s", file_name, mistakes[i].message);
        cr_expect_lt(rc, 0, "loaded: %s", mistakes[i].text);
        cr_expect_eq(err.code, ERR_CONFIG);
        cr_expect_str_eq(err.message, expected, "\n%s\n%s", err.message, expected);
        cr_expect_null(c, "the result is touched on failure");
        if (rc == 0)
            config_free(c);
    }
}

Test(config, every_layer_kind_is_told)
{
    struct config *c = NULL;
    struct err err = {0};
    cr_expect_lt(load_text("models: {m: {net: [{name: a, of: all}]}}\n", &c, &err), 0);
    const char *list = strstr(err.message, ":1:20: block a needs one of: ");
    cr_assert_not_null(list, "%s", err.message);
    for (uint32_t i = 0; net_kind(i).name != NULL; i++)
        cr_expect_not_null(strstr(list, net_kind(i).name), "%s", net_kind(i).name);
}

Test(config, every_loss_is_told)
{
    struct config *c = NULL;
    struct err err = {0};
    cr_expect_lt(load_text("models: {m: {heads: {click: {of: hour, loss: mse}}}}\n", &c, &err), 0);
    const char *list = strstr(err.message, ":1:46: head click.loss is \"mse\", but must be one of: ");
    cr_assert_not_null(list, "%s", err.message);
    for (const struct net_loss *l = net_losses; l->name != NULL; l++)
        cr_expect_not_null(strstr(list, l->name), "%s", l->name);
}

Test(config, mistakes_in_the_built_in_part_say_why)
{
    struct config *c = NULL;
    struct err err = {0};
    cr_expect_lt(load_text("tables: {user: {}, items: {}}\n", &c, &err), 0);
    cr_expect_not_null(strstr(err.message,
                              "features.user_id: no table \"users\"; did you mean \"user\"? (this stands in "
                              "the built-in default; give this section too)"),
                       "%s", err.message);
    cr_expect_eq(strncmp(err.message, "built-in:", 9), 0);
}

Test(config, mistakes_of_overrides)
{
    static const struct {
        const char *path, *value, *message;
    } cases[] = {
        {"update.every", "5x",
         "command line:1:14: update.every is \"5x\", which is no duration; write 500ms, 5s, 10m, 1h or 30d"},
        {"update.evry", "5s", "command line:1:8: unknown key \"evry\" in update; did you mean \"every\"?"},
        {"features.x", "{id: usr}",
         "command line:1:17: features.x.id is \"usr\", but must be user, item, context.NAME, user.ATTRIBUTE "
         "or "
         "item.ATTRIBUTE"},
        {"counters.windows.0", "1h", "command line:1:18: \"0\" lies inside a list: set that as a whole"},
        {"update..every", "1h",
         "command line:1:8: --set update..every: a path is words with dots between them"},
        {"", "1", "command line:1:1: --set : a path is words with dots between them"},
        {"update.", "1", "command line:1:8: --set update.: a path is words with dots between them"},
        {"log.level", "{a: 1, a: 2}", "command line:1:18: key \"a\" stands twice, first in line 1 column 12"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config *c = NULL;
        struct err err = {0};
        struct config_override o = {cases[i].path, cases[i].value};
        cr_expect_lt(config_load(NULL, &o, 1, NULL, &c, &err), 0);
        cr_expect_eq(err.code, ERR_CONFIG);
        cr_expect_str_eq(err.message, cases[i].message, "\n%s\n%s", err.message, cases[i].message);
    }
}

Test(config, files_that_cannot_be_read)
{
    struct config *c = NULL;
    struct err err = {0};
    cr_expect_lt(config_load("/nowhere/f.yaml", NULL, 0, NULL, &c, &err), 0);
    cr_expect_str_eq(err.message, "/nowhere/f.yaml:1:1: cannot be read: No such file or directory");
    file_write("log: {}\n\n  \0x: 1\n", 17);
    cr_expect_lt(config_load(file_name, NULL, 0, NULL, &c, &err), 0);
    cr_expect_not_null(strstr(err.message, ":3:3: a NUL byte: this is no text"), "%s", err.message);
    unlink(file_name);
    struct buf big = {0};
    while (big.len <= TREE_TEXT_MAX)
        buf_put(&big, "# comment\n", 10);
    file_write(big.data, big.len);
    cr_expect_lt(config_load(file_name, NULL, 0, NULL, &c, &err), 0);
    cr_expect_not_null(strstr(err.message, ":1:1: larger than 1048576 bytes"), "%s", err.message);
    unlink(file_name);
    buf_done(&big);
}

Test(config, bombs_are_bounded)
{
    struct config *c = NULL;
    struct err err = {0};
    cr_expect_lt(load_text("kafka: {a: &a [x,x,x,x,x,x,x,x,x,x], b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a],\n"
                           " c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b], d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c],\n"
                           " e: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]}\n",
                           &c, &err),
                 0);
    cr_expect_not_null(strstr(err.message, "more than 20000 values"), "%s", err.message);
    char deep[200];
    memset(deep, '[', 100);
    deep[100] = '\0';
    cr_expect_lt(load_text(deep, &c, &err), 0);
    cr_expect_not_null(strstr(err.message, "1:33: maps and lists more than 32 deep"), "%s", err.message);
}

// ---- the reference file -----------------------------------------------------------------------------------

// What two configs say, place by place left out: every field by the table of keys, then the maps.
static void same_keys(const struct config *a, const struct config *b)
{
    for (const struct config_key *k = config_keys; k->path != NULL; k++)
        if (k->size > 0)
            cr_expect_arr_eq((const char *)a + k->offset, (const char *)b + k->offset, k->size, "%s",
                             k->path);
    cr_expect_arr_eq(a->windows, b->windows, sizeof a->windows);
    cr_expect(a->n_sequences == b->n_sequences && a->n_buckets == b->n_buckets &&
              a->n_groupings == b->n_groupings);
    for (uint32_t i = 0; i < a->n_sequences; i++)
        cr_expect_arr_eq(&a->sequences[i], &b->sequences[i], offsetof(struct config_sequence, at));
    cr_expect_str_eq(a->layout, b->layout);
    cr_expect_arr_eq(a->actions, b->actions, sizeof a->actions);
    cr_expect(a->join.labels == b->join.labels && a->n_windows == b->n_windows &&
              a->n_actions == b->n_actions);
    cr_expect(strcmp(a->http.host, b->http.host) == 0 && a->http.port == b->http.port);
    cr_assert_eq(a->consumer.n, b->consumer.n);
    for (uint32_t i = 0; i < 2 * a->consumer.n; i++)
        cr_expect_str_eq(a->consumer.list[i], b->consumer.list[i]);
}

static void same_features(const struct config *a, const struct config *b)
{
    cr_assert(a->n_tables == b->n_tables && a->n_features == b->n_features);
    for (uint32_t i = 0; i < a->n_tables; i++)
        cr_expect_arr_eq(&a->tables[i], &b->tables[i], offsetof(struct config_table, at));
    for (uint32_t i = 0; i < a->n_features; i++)
        cr_expect_arr_eq(&a->features[i], &b->features[i], offsetof(struct config_feature, at), "%s",
                         a->features[i].name);
}

static void same_model(const struct config_model *a, const struct config_model *b)
{
    cr_expect_str_eq(a->name, b->name);
    cr_assert(a->n_blocks == b->n_blocks && a->n_heads == b->n_heads);
    for (uint32_t i = 0; i < a->n_blocks; i++) {
        const struct config_block *x = &a->blocks[i], *y = &b->blocks[i];
        cr_expect(strcmp(x->name, y->name) == 0 && strcmp(x->kind, y->kind) == 0);
        cr_assert_eq(x->n_of, y->n_of);
        cr_expect_arr_eq(x->of, y->of, x->n_of * sizeof *x->of);
        for (uint32_t k = 0; x->options[k].name != NULL || y->options[k].name != NULL; k++) {
            cr_expect_eq(x->options[k].name, y->options[k].name);
            cr_expect_arr_eq(x->options[k].dims, y->options[k].dims, sizeof x->options[k].dims);
        }
    }
    for (uint32_t i = 0; i < a->n_heads; i++)
        cr_expect_arr_eq(&a->heads[i], &b->heads[i], offsetof(struct config_head, at));
}

Test(config, the_reference_file_is_the_default)
{
    struct buf text = {0};
    config_reference(&text);
    buf_put_u8(&text, 0);
    struct config *a = load_default();
    struct config *b = load_good((const char *)text.data);
    same_keys(a, b);
    same_features(a, b);
    same_model(&a->model, &b->model);
    config_free(a);
    config_free(b);
    buf_done(&text);
}

Test(config, the_reference_file_is_up_to_date)
{
    struct buf text = {0};
    config_reference(&text);
    FILE *f = fopen(TESTS_DIR "/../docs/freshet.reference.yaml", "r");
    cr_assert_not_null(f);
    char *file = malloc(text.len + 2);
    size_t len = fread(file, 1, text.len + 2, f);
    fclose(f);
    cr_expect(len == text.len && memcmp(file, text.data, len) == 0,
              "docs/freshet.reference.yaml differs from what config_reference writes: write it again");
    free(file);
    buf_done(&text);
}

Test(config, every_key_is_in_the_reference_and_has_a_text)
{
    struct buf text = {0};
    config_reference(&text);
    buf_put_u8(&text, 0);
    for (const struct config_key *k = config_keys; k->path != NULL; k++) {
        const char *dot = strrchr(k->path, '.');
        char line[100];
        snprintf(line, sizeof line, "%s:", dot != NULL ? dot + 1 : k->path);
        cr_expect_not_null(strstr((const char *)text.data, line), "%s", k->path);
        cr_expect(k->text != NULL && k->text[0] != '\0', "%s", k->path);
        cr_expect(k->type == CONFIG_SECTION || k->fallback != NULL, "%s", k->path);
    }
    for (const char *p = (const char *)text.data; *p != '\0'; p += strcspn(p, "\n") + 1)
        cr_expect_leq(strcspn(p, "\n"), 110);
    buf_done(&text);
}

Test(config, places)
{
    char text[64];
    struct config_at at = {"f.yaml", 3, 4}, nowhere = {"built-in", 0, 0};
    cr_expect_str_eq(config_at_text(&at, text, sizeof text), "f.yaml:3:4");
    cr_expect_str_eq(config_at_text(&nowhere, text, sizeof text), "built-in");
    config_free(NULL);
}
