// SPDX-License-Identifier: Apache-2.0
// What a config says of attributes, buckets, counters, sequences and the features over them: that it is understood
// as it is meant, and that a mistake is told with its place and the way out.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"

static char path[] = "/tmp/freshet-config-XXXXXX";

static int load(const char *text, struct config **ret_config, struct err *err)
{
    snprintf(path, sizeof path, "/tmp/freshet-config-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    int result = config_load(path, NULL, 0, NULL, ret_config, err);
    unlink(path);
    return result;
}

static struct config *loaded(const char *text)
{
    struct config *c = NULL;
    struct err err = {0};
    cr_assert(load(text, &c, &err) == 0, "%s", err.message);
    return c;
}

static const struct config_feature *feature(const struct config *c, const char *name)
{
    for (uint32_t i = 0; i < c->n_features; i++)
        if (strcmp(c->features[i].name, name) == 0)
            return &c->features[i];
    cr_assert(false, "no feature %s", name);
    return NULL;
}

Test(config_counters, buckets_and_groupings)
{
    struct config *c = loaded("buckets:\n"
                              "  age: {of: user.age, edges: [18, 25]}\n"
                              "  geo: {of: context.geo, prefix: 4}\n"
                              "  place: {geohash: [context.lat, user.lon], precision: 6}\n"
                              "  hour: {hour: timestamp, offset: 2}\n"
                              "counters:\n"
                              "  totals: true\n"
                              "  item: {by: [gender, age, context.device, place]}\n"
                              "  user: {by: [category, hour]}\n"
                              "  all: {by: [category, user.city]}\n");
    cr_assert(c->totals && c->n_groupings == 8);
    static const struct {
        const char *name;
        enum group_of of;
        enum config_bucket_kind kind;
        enum config_source source;
        const char *field;
    } wanted[] = {{"gender", GROUP_OF_ITEM, CONFIG_BUCKET_VALUE, CONFIG_OF_USER, "gender"},
                  {"age", GROUP_OF_ITEM, CONFIG_BUCKET_EDGES, CONFIG_OF_USER, "age"},
                  {"context.device", GROUP_OF_ITEM, CONFIG_BUCKET_VALUE, CONFIG_OF_CONTEXT, "device"},
                  {"place", GROUP_OF_ITEM, CONFIG_BUCKET_GEOHASH, CONFIG_OF_CONTEXT, "lat"},
                  {"category", GROUP_OF_USER, CONFIG_BUCKET_VALUE, CONFIG_OF_ITEM, "category"},
                  {"hour", GROUP_OF_USER, CONFIG_BUCKET_HOUR, CONFIG_OF_CONTEXT, ""},
                  {"category", GROUP_OF_ALL, CONFIG_BUCKET_VALUE, CONFIG_OF_ITEM, "category"},
                  {"user.city", GROUP_OF_ALL, CONFIG_BUCKET_VALUE, CONFIG_OF_USER, "city"}};
    for (uint32_t i = 0; i < c->n_groupings; i++) {
        const struct config_grouping *g = &c->groupings[i];
        const struct config_bucket *b = &c->buckets[g->bucket];
        cr_expect_str_eq(g->name, wanted[i].name);
        cr_expect(g->of == wanted[i].of && g->counted && b->kind == wanted[i].kind &&
                      b->of[0].of == wanted[i].source,
                  "%s", g->name);
        cr_expect_str_eq(b->of[0].field, wanted[i].field);
    }
    cr_expect(c->buckets[2].precision == 6 && c->buckets[2].of[1].of == CONFIG_OF_USER);
    cr_expect(c->buckets[3].offset_hours == 2 && c->buckets[1].prefix == 4 && c->buckets[0].n_edges == 2);
    config_free(c);
}

Test(config_counters, named_sequences)
{
    struct config *c =
        loaded("sequences:\n"
               "  all: {last: 9, remove_on: dislike}\n"
               "  click: {last: 5, with: [category, dwell], remove_on: [dislike, share]}\n"
               "  follows: {of: follow, keep: item.author, unique: true, last: 7}\n"
               "  long: {of: [click, like], last: 5000, by: item.category}\n"
               "features: {a: {sequence: click, of: category, table: t}, b: {member: follows}}\n"
               "tables: {t: {}}\n"
               "models: {m: {heads: {click: {of: b}}}}\n");
    cr_assert_eq(c->n_sequences, ACTION_MAX + 2);
    const struct config_sequence *click = &c->sequences[ACTION_CLICK], *like = &c->sequences[ACTION_LIKE];
    const struct config_sequence *follows = &c->sequences[ACTION_MAX],
                                 *longer = &c->sequences[ACTION_MAX + 1];
    cr_expect(click->last == 5 && click->with == (SEQUENCE_CATEGORY | SEQUENCE_DWELL) &&
              click->remove_on == (1U << ACTION_DISLIKE | 1U << ACTION_SHARE));
    cr_expect(like->last == 9 && like->actions == 1U << ACTION_LIKE &&
              like->remove_on == 1U << ACTION_DISLIKE);
    cr_expect_str_empty(c->sequences[ACTION_DISLIKE].name, "what removes is not kept by all");
    cr_expect(follows->unique && follows->keeps_attribute && follows->actions == 1U << ACTION_FOLLOW);
    cr_expect_str_eq(follows->keep.field, "author");
    cr_expect(longer->actions == (1U << ACTION_CLICK | 1U << ACTION_LIKE) && longer->grouping == 0);
    cr_expect(!c->groupings[0].counted && c->groupings[0].of == GROUP_OF_USER);
    cr_expect(feature(c, "a")->column == CONFIG_COLUMN_CATEGORY && feature(c, "b")->sequence == ACTION_MAX);
    config_free(c);
}

Test(config_counters, features_over_groups)
{
    struct config *c = loaded("counters: {totals: true, item: {by: [gender]}, all: {by: [category]}}\n"
                              "tables: {}\n"
                              "models: {m: {heads: {click: {of: n}}}}\n"
                              "features:\n"
                              "  n: {count: watch_ms, of: item, by: gender, window: total}\n"
                              "  r: {rate: click/impression, of: item, by: gender, window: 1d, smooth: "
                              "{parent: [item, category]}}\n"
                              "  s: {rate: click/impression, of: item, window: 1d, smooth: {parent: "
                              "category, weight: 5, prior: [2, 9]}}\n"
                              "  all: {count: click, of: all, window: 7d, bucketize: {quantiles: 10}}\n"
                              "  age: {age: item}\n"
                              "  place: {geohash: [context.lat, context.lon]}\n"
                              "  x: {cross: [place, all], hash: 1000}\n"
                              "  old: {number: user.age, missing: -1}\n"
                              "  tags: {ids: item.tags}\n");
    const struct config_feature *n = feature(c, "n"), *r = feature(c, "r"), *s = feature(c, "s");
    cr_expect(n->grouping == 0 && n->measure == MEASURE_WATCH_MS && n->window == CONFIG_WINDOW_TOTAL);
    cr_expect(r->n_parents == 3 && r->parents[0] == CONFIG_NONE && r->parents[1] == 1 &&
              r->parents[2] == CONFIG_GROUPING_TOTAL && r->weight == 20);
    cr_expect(s->n_parents == 2 && s->weight == 5 && s->smooth[0] == 2 && s->smooth[1] == 9);
    cr_expect(c->total_of_all && feature(c, "all")->grouping == CONFIG_GROUPING_TOTAL);
    cr_expect(feature(c, "all")->quantiles == 10 && c->tables[feature(c, "all")->table].rows == 11);
    cr_expect(feature(c, "age")->log1p && feature(c, "place")->precision == 5);
    cr_expect(c->tables[feature(c, "x")->table].rows == 1001 && feature(c, "x")->cross[1] == 3);
    cr_expect(feature(c, "old")->missing == CONFIG_MISSING_VALUE && feature(c, "old")->missing_value == -1);
    cr_expect(feature(c, "tags")->last == 50 && feature(c, "tags")->table >= 0);
    config_free(c);
}

// What is added at the end leaves the beginning as it was: such a store is taken over.
Test(config_counters, the_layout_grows_at_its_end)
{
    struct config *a = loaded("counters: {item: {by: [gender]}}\n");
    struct config *b = loaded("counters: {item: {by: [gender]}, all: {by: [category]}}\n");
    cr_expect(strncmp(a->layout, b->layout, strlen(a->layout)) == 0 && strlen(b->layout) > strlen(a->layout));
    cr_expect(strstr(a->layout, "grouping 0 item by gender: value user.gender\n") != NULL, "%s", a->layout);
    config_free(a);
    config_free(b);
}

Test(config_counters, attributes_of_no_profile)
{
    static const struct {
        const char *text, *message; // NULL: fine
    } cases[] = {
        {"counters: {item: {by: [gender]}}\n",
         "1:24: counters.item.by: user.gender is of a profile, and stream.users.topic is empty: no profile "
         "would "
         "ever come; name the topic, or use what events carry (context.NAME)"},
        {"counters: {user: {by: [category]}}\nstream: {users: {topic: users}}\n",
         "1:24: counters.user.by: item.category is of a profile, and stream.items.topic is empty: no profile "
         "would "
         "ever come; name the topic, or use what events carry (context.NAME)"},
        {"counters: {item: {by: [gender]}}\nstream: {users: {topic: users}}\n", NULL},
        {"counters: {item: {by: [context.gender]}}\nstream: {items: {birth: created}}\n", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};
        struct config *c = loaded(cases[i].text);
        int result = config_check_profiles(c, &err);
        cr_expect_eq(result, cases[i].message == NULL ? 0 : -1);
        const char *at = strstr(err.message, ":");
        if (cases[i].message != NULL)
            cr_expect_str_eq(at + 1, cases[i].message);
        config_free(c);
    }
}

static const struct {
    const char *text, *message;
} mistakes[] = {
    // attributes
    {"stream: {users: {attributes: {age: int}}}\n",
     "1:36: stream.users.attributes.age is \"int\", but must be one of: string, number, list, boolean"},
    {"stream: {users: {attributes: {age: number, gender: string}}}\ncounters: {item: {by: [gendr]}}\n",
     "2:24: counters.item.by: no attribute \"gendr\" in stream.users.attributes; did you mean \"gender\"?"},
    {"stream: {users: {attributes: {tags: list}}}\nbuckets: {t: {of: user.tags}}\n",
     "2:19: buckets.t.of: user.tags is declared as list in stream.users.attributes, which it cannot use"},
    {"stream: {items: {birth: made, attributes: {price: number}}}\n",
     "1:43: stream.items.birth: no attribute \"made\" in stream.items.attributes; there are: price"},
    // buckets
    {"buckets: {a: {edges: [1]}}\n", "1:11: buckets.a needs one of: of, geohash, hour, weekday"},
    {"buckets: {a: {of: user.age, edges: [2, 1]}}\n", "1:40: buckets.a.edges: edges must ascend"},
    {"buckets: {a: {of: user.age, edges: [1], prefix: 2}}\n", "1:41: buckets.a has both edges and prefix"},
    {"buckets: {a: {of: age}}\n",
     "1:19: buckets.a.of is \"age\", but must be context.NAME, user.ATTRIBUTE or item.ATTRIBUTE"},
    {"buckets: {a: {hour: timestamp, prefix: 2}}\n", "1:32: buckets.a: \"prefix\" does not go with \"hour\""},
    {"buckets: {a: {hour: now}}\n", "1:21: buckets.a.hour is \"now\", but must be timestamp"},
    {"buckets: {a: {geohash: [context.lat]}}\n",
     "1:24: buckets.a.geohash has 1 entries, but must have 2 to 2"},
    {"buckets: {all: {of: user.age}}\n", "1:11: buckets: \"all\" has a meaning of its own"},
    // counters
    {"counters: {item: {by: [gender, gender]}}\n", "1:32: counters.item.by: \"gender\" stands twice"},
    {"counters: {item: {by: [timestamp]}}\n",
     "1:24: counters.item.by: \"timestamp\" is neither a bucket nor an attribute"},
    {"counters: {windows: [{name: total, tile: 1d, length: 1d}]}\n",
     "1:22: counters.windows: \"total\" is what counters.totals keeps"},
    // sequences
    {"sequences: {mine: {last: 5}}\n", "1:13: sequences: no action \"mine\"; did you mean \"like\"?"},
    {"sequences: {mine: {of: []}}\n", "1:24: sequences.mine.of is empty"},
    {"sequences: {mine: {of: [clik]}}\n",
     "1:25: sequences.mine.of: no action \"clik\"; did you mean \"click\"?"},
    {"sequences: {click: {with: [dwel]}}\n",
     "1:28: sequences.click.with holds \"dwel\", but must hold category, author or dwell"},
    {"sequences: {click: {keep: user.city}}\n",
     "1:27: sequences.click.keep is \"user.city\", but must be item or item.ATTRIBUTE"},
    {"sequences: {click: {remove_on: click}}\n", "1:32: sequences.click: click both enters and removes"},
    {"sequences: {follow: {keep: item.author, gone: true}}\n",
     "1:47: sequences.follow.gone: it keeps item.author, and no items that could be gone"},
    {"sequences: {all: {of: click}}\n",
     "1:19: sequences.all: \"of\" does not go with \"all\", which is every feedback action by itself"},
    // features
    {"features: {a: {count: click, of: item, by: gender, window: 1h}}\n",
     "1:44: features.a.by: no \"gender\" in counters.item.by"},
    {"counters: {item: {by: [gender]}}\nfeatures: {a: {count: click, of: item, by: gendr, window: 1h}}\n",
     "2:44: features.a.by: no \"gendr\" in counters.item.by; did you mean \"gender\"?"},
    {"features: {a: {count: click, of: item, window: total}}\n",
     "1:48: features.a: window: total needs counters.totals: true, by which they are kept"},
    {"features: {a: {rate: click/impression, of: item, window: 1h, smooth: {parent: category}}}\n",
     "1:79: features.a.smooth.parent: no \"category\" in counters.all.by"},
    {"features: {a: {rate: click/impression, of: item, window: 1h, smooth: {parent: item}}}\n",
     "1:79: features.a.smooth.parent: item is the first parent of what is counted of it by a bucket, and of "
     "nothing else"},
    {"features: {a: {rate: click/impression, of: item, window: 1h, smooth: {parent: [all, all]}}}\n",
     "1:85: features.a.smooth.parent: nothing comes after all"},
    {"features: {a: {rate: click/impression, of: item, window: 1h, smooth: {weight: 2}}}\n",
     "1:70: features.a.smooth needs \"parent\", or is [a, b]"},
    {"features: {a: {number: user.age, bucketize: {}}}\n",
     "1:45: features.a.bucketize needs \"quantiles\", or is a list of edges"},
    {"features: {a: {number: user.age, missing: category}}\n",
     "1:43: features.a.missing: a category of its own goes with bucketize; a plain number needs a value, as "
     "zero"},
    {"features: {a: {cross: [b, c]}}\n", "1:24: features.a.cross: no earlier feature \"b\""},
    {"features: {b: {number: user.age}, a: {cross: [b, b]}}\n",
     "1:47: features.a.cross: b has no single id; bucketize makes one of a number"},
    {"features: {a: {sequence: click, of: category, table: items}}\n",
     "1:37: features.a.of: sequences.click is not kept with category; write with: [category] there"},
    {"features: {a: {member: follows}}\n", "1:24: features.a.member: no sequence \"follows\""},
    {"sequences: {l: {of: click, by: item.c}}\nfeatures: {a: {member: l}}\n",
     "2:24: features.a.member: sequences.l is kept by bucket"},
    {"features: {a: {ids: context.tags}}\n", "1:21: features.a.ids: a context has no lists"},
    {"features: {a: {age: user}}\n", "1:21: features.a.age is \"user\", but must be item"},
};

Test(config_counters, mistakes)
{
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        struct config *c = NULL;
        struct err err = {0};
        cr_expect(load(mistakes[i].text, &c, &err) == -1, "loaded: %s", mistakes[i].text);
        cr_expect(err.code == ERR_CONFIG && c == NULL);
        const char *message = err.message + strlen(path) + 1;
        size_t n = strlen(mistakes[i].message);
        cr_expect(strlen(err.message) > strlen(path) && strncmp(message, mistakes[i].message, n) == 0,
                  "%s\n%s", message, mistakes[i].message);
        config_free(c);
    }
}
