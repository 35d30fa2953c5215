// SPDX-License-Identifier: Apache-2.0
// Promised: the built-in default is what docs/CONTRACT.md says; a file and overrides are laid over it; the
// reference file says what the default does. Mistakes are in test_config_mistakes.c.
#include "daemon/presets.h"
#include "tests/unit/config_text.h"

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
    cr_expect(c->update.epochs == 1 && c->update.dense.lr == 0.05 && c->update.enabled);
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
        cr_expect(t->optimizer.lr == 0.1 && t->init.x == 0.02);
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
    cr_expect(config_keep(c, ACTION_SHARE) == 0.5);
    cr_expect(c->join.thin.action == ACTION_LIKE && c->join.thin.window == 1 && c->join.thin.above == 1000);
    cr_expect(c->join.thin.power == 0.5 && strcmp(c->model.heads[0].loss, "logloss") == 0);
    config_free(c);
    c = load_good("join: {emit: fake_negative}\n");
    cr_expect(c->join.emit == STATE_EMIT_FAKE_NEGATIVE && !c->join.keep_by_label);
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

static bool reads(const struct config_block *b, const char *name)
{
    bool found = false;
    for (uint32_t i = 0; i < b->n_of; i++)
        found |= strcmp(b->of[i], name) == 0;
    return found;
}

// In ms as it is, a length would be all that a net sees.
Test(config, all_but_lengths)
{
    static const char *const heads[] = {
        "models: {m: {preset: mlp, heads: {share: {label: watch, loss: fraction, length: ms}}}}\n",
        "join: {labels: {click: {}, watch: {}, completion: {of: watch, length: ms}}}\n"
        "models: {m: {preset: mlp, heads: {click: {}}}}\n",
        "models: {m: {preset: mlp, heads: {click: {}}}}\n",
        "models: {m: {preset: mlp, with: {of: [all, ms]}, heads: {share: {label: watch, loss: fraction, "
        "length: "
        "ms}}}}\n",
    };
    for (int i = 0; i < 4; i++) {
        char text[600];
        snprintf(text, sizeof text,
                 "features: {user_id: {id: user, table: users}, ms: {number: item.ms}}\n%s%s",
                 i != 1 ? "join: {labels: {click: {}, watch: {}}}\n" : "", heads[i]);
        struct config *c = load_good(text);
        cr_expect(reads(&c->model.blocks[0], "user_id"));
        cr_expect_eq(reads(&c->model.blocks[0], "ms"), i >= 2, "%d", i);
        config_free(c);
    }
}

// Of the default features two are 16 wide and the hour 8: they are no fields of one width, and yet FiBiNET is made.
Test(config, fields_are_of_the_usual_width)
{
    static const char *const names[] = {"fibinet", "fm"};
    for (int i = 0; i < 2; i++) {
        char text[100];
        snprintf(text, sizeof text, "models: {m: {preset: %s}}\n", names[i]);
        struct config *c = load_good(text);
        cr_expect(c->model.blocks[0].n_of == 2 && reads(&c->model.blocks[0], "user_id") &&
                      reads(&c->model.blocks[0], "item_id"),
                  "%s", names[i]);
        config_free(c);
    }
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
        const uint32_t heads = strcmp(p->name, "two_stage") == 0 ? 4 : 2;
        cr_expect(c->model.n_blocks > 0 && c->model.n_heads == heads, "%s", p->name);
        config_free(c);
    }
}

// What is wrong with a head's target; where it stands is checked with the other errors of heads.
static const struct {
    const char *text, *message;
} wrong_targets[] = {
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
    {"join: {labels: {watch: {}, completion: {of: watch}}}\n",
     "join.labels.completion needs \"length\": the number feature that is the whole"},
    {"join: {labels: {watch: {}, completion: {length: hour}}}\n",
     "join.labels.completion is the share that was watched: it needs \"of: watch\""},
    {"join: {labels: {watch: {}, completion: {of: watch, length: hours}}}\n",
     "join.labels.completion.length: no feature \"hours\"; did you mean \"hour\"?"},
    {"join: {labels: {watch: {}, completion: {of: watch, length: hour}}}\n",
     "join.labels.completion.length: \"hour\" must be a number as it is, in ms"},
    {"join: {labels: {watch: {}, completion: {of: watch, length: hour, window: 1m}}}\n",
     "join.labels.completion has the window of watch"},
    {"join: {labels: {click: {}, completion: {of: watch, length: w}}}\nfeatures: {hour: {hour: "
     "timestamp}, "
     "w: {number: context.w}}\n",
     "join.labels.completion is of watch, which is none of join.labels"},
    {"join: {labels: {click: {length: hour}}}\n", "\"length\" belongs to completion alone"},
    {"models: {m: {heads: {click: {of: hour}, completion: {of: hour}}}}\n",
     "head completion: no label \"completion\" in join.labels"},
    {"models: {m: {heads: {click: {of: hour}}, score: click * lik}}\n",
     "models.m.score, column 9: no head or function \"lik\""},
    {"models: {m: {heads: {click: {of: hour}}, score: [click]}}\n", "models.m.score must be an expression"},
};

Test(config, wrong_targets_of_heads)
{
    for (size_t i = 0; i < sizeof wrong_targets / sizeof *wrong_targets; i++) {
        struct config *c;
        struct err err;
        cr_expect_lt(load_text(wrong_targets[i].text, &c, &err), 0, "%s", wrong_targets[i].text);
        cr_expect_not_null(strstr(err.message, wrong_targets[i].message), "%s", err.message);
    }
}

Test(config, targets_of_heads)
{
    struct config *c =
        load_good("join:\n"
                  "  labels: {click: {}, like: {}, watch: {}, completion: {of: watch, length: whole}}\n"
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
                  "      completion: {of: hour, loss: fraction}\n"
                  "    score: click * (1 + seconds)^0.5\n");
    const struct config_head *h = c->model.heads;
    cr_expect(h[0].given == -1 && h[0].through == -1 && h[0].length == -1 && !h[0].valued);
    cr_expect(h[1].through == 0 && h[2].valued && h[3].length == config_feature_find(c, "whole"));
    cr_expect(h[4].threshold == 0.8 && h[4].valued && h[5].given == ACTION_CLICK);
    cr_expect(h[6].label == ACTION_WATCH && h[6].length == h[3].length &&
              c->completion.feature == h[3].length);
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
