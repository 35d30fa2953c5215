// SPDX-License-Identifier: Apache-2.0
// Promised: every kind of mistake in a config gives its place and its message, word for word.
#include "models/loss.h"
#include "tests/unit/config_text.h"

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
    {"models:\n  m:\n    net:\n      - {name: a, mlp: [4], of: [hour, b]}\n      - {name: b, mlp: [4], of: "
     "hour}\n",
     "4:40: block a: block \"b\" must stand before it"},
    {"models: {m: {net: [{name: a, mlp: [4], of: [hour, a]}]}}\n", "1:51: block a: it reads itself"},
    {"models:\n  m:\n    net:\n      - {name: a, mlp: [4], of: c}\n      - {name: b, lhuc: [4], of: hour, "
     "by: a}\n"
     "      - {name: c, mlp: [4], of: [hour, b]}\n",
     "4:33: block a: a cycle, for what it reads, \"c\", depends on it"},
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
     "side, lr, init"},
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
    // optimizers
    {"tables: {users: {optimizer: sgd}, items: {}}\n",
     "1:29: tables.users.optimizer is \"sgd\", but must be one of: adagrad, ftrl, adam, rowwise_adagrad"},
    {"tables: {users: {optimizer: adam, l1: 0.5}, items: {}}\n",
     "1:35: tables.users.l1 is of ftrl alone; this one is adam"},
    {"tables: {users: {optimizer: ftrl, weight_decay: 0.5}, items: {}}\n",
     "1:35: tables.users.weight_decay is not of ftrl, which has l1 and l2; this one is ftrl"},
    {"tables: {users: {init: xavier_uniform}, items: {}}\n",
     "1:24: tables.users: init is \"xavier_uniform\", but must be a standard deviation, {normal: x}, "
     "{uniform: x}, {constant: x} or zeros"},
    {"tables: {users: {init: 11}, items: {}}\n", "1:24: tables.users.init is \"11\", but must be 0 to 10"},
    {"tables: {users: {init: {uniform: 11}}, items: {}}\n",
     "1:34: tables.users: init.uniform is \"11\", but must be 0 to 10"},
    {"update: {dense: {optimizer: rowwise_adagrad}}\n",
     "1:29: update.dense.optimizer is \"rowwise_adagrad\", but must be one of: adagrad, ftrl, adam"},
    {"update: {dense: {warmup: 10k, optimizer: ftrl}}\n",
     "1:18: update.dense.warmup is not of ftrl, whose state is a sum over steps of one learning rate; this "
     "one "
     "is ftrl"},
    {"update: {dense: {beta1: 0.5}}\n", "1:18: update.dense.beta1 is of adam alone; this one is adagrad"},
    {"models: {m: {net: [{name: a, mlp: [4], of: all, lr: 0}]}}\n",
     "1:53: block a: lr is \"0\", but must be 1e-09 to 10"},
    {"models: {m: {net: [{name: a, mlp: [4], of: all, init: 0.5}]}}\n",
     "1:55: block a: init is \"0.5\", but must be xavier_uniform, xavier_normal, kaiming_uniform, "
     "kaiming_normal, {normal: x}, {uniform: x}, {constant: x} or zeros"},
    {"models: {m: {heads: {click: {of: hour, lr: 11}}}}\n",
     "1:44: head click.lr is \"11\", but must be 1e-09 to 10"},
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

Test(config_mistakes, mistakes)
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

Test(config_mistakes, optimizers)
{
    struct config *c =
        load_good("tables:\n  users: {optimizer: adam, init: {uniform: 0.1}}\n"
                  "  items: {optimizer: ftrl, l1: 0.5, init: zeros}\n"
                  "update: {dense: {optimizer: adam, weight_decay: 0.01, decoupled: true, warmup: 10k}}\n"
                  "models: {m: {net: [{name: a, mlp: [4], of: all, lr: 0.25, init: kaiming_normal}],\n"
                  "  heads: {click: {of: a, lr: 2, init: {normal: 0.3}}}}}\n");
    const struct config_optimizer *users = &c->tables[0].optimizer, *items = &c->tables[1].optimizer;
    const struct config_block *a = &c->model.blocks[0];
    const struct config_head *click = &c->model.heads[0];
    cr_expect(users->kind == OPTIMIZER_ADAM && users->lr == 0.001 && users->beta2 == 0.999);
    cr_expect(c->tables[0].init.rule == NET_INIT_UNIFORM && c->tables[0].init.x == 0.1);
    cr_expect(items->kind == OPTIMIZER_FTRL && items->lr == 0.1 && items->l1 == 0.5 && items->beta == 0.001);
    cr_expect(c->tables[1].init.rule == NET_INIT_ZEROS && c->tables[1].init.x == 0);
    cr_expect(c->update.dense.kind == OPTIMIZER_ADAM && c->update.dense.lr == 0.001 &&
              c->update.dense.decoupled);
    cr_expect(a->lr == 0.25 && a->init.rule == NET_INIT_KAIMING_NORMAL && click->lr == 2);
    cr_expect(click->init.rule == NET_INIT_NORMAL && click->init.x == 0.3);
    struct buf text = {0};
    config_optimizer_text(&c->update.dense, &text);
    buf_put_u8(&text, 0);
    cr_expect_str_eq(
        (const char *)text.data,
        "adam, lr 0.001, betas 0.9 0.999, weight decay 0.01 (decoupled), warm-up over 10000 samples");
    buf_done(&text);
    config_free(c);
    c = load_set("update.dense.optimizer", "adam");
    cr_expect(c->update.dense.lr == 0.001);
    config_free(c);
    c = load_set("tables.users.optimizer", "ftrl");
    cr_expect(c->tables[0].optimizer.kind == OPTIMIZER_FTRL && c->tables[0].optimizer.lr == 0.1);
    config_free(c);
}

Test(config_mistakes, a_preset_says_who_names_what_it_reads)
{
    struct config *c = NULL;
    struct err err = {0};
    cr_expect_lt(load_text("features: {iid: {id: item}}\nmodels: {m: {preset: din, with: {history: iid}}}\n",
                           &c, &err),
                 0);
    cr_expect_str_eq(err.message, "preset din:2:57: block interest: no feature or earlier block \"item_id\"; "
                                  "there are: iid (this stands "
                                  "in the preset; its \"with\" says what is read)");
}

Test(config_mistakes, every_layer_kind_is_told)
{
    struct config *c = NULL;
    struct err err = {0};
    cr_expect_lt(load_text("models: {m: {net: [{name: a, of: all}]}}\n", &c, &err), 0);
    const char *list = strstr(err.message, ":1:20: block a needs one of: ");
    cr_assert_not_null(list, "%s", err.message);
    for (uint32_t i = 0; net_kind(i).name != NULL; i++)
        cr_expect_not_null(strstr(list, net_kind(i).name), "%s", net_kind(i).name);
}

Test(config_mistakes, every_loss_is_told)
{
    struct config *c = NULL;
    struct err err = {0};
    cr_expect_lt(load_text("models: {m: {heads: {click: {of: hour, loss: mse}}}}\n", &c, &err), 0);
    const char *list = strstr(err.message, ":1:46: head click.loss is \"mse\", but must be one of: ");
    cr_assert_not_null(list, "%s", err.message);
    for (const struct net_loss *l = net_losses; l->name != NULL; l++)
        cr_expect_not_null(strstr(list, l->name), "%s", l->name);
}

Test(config_mistakes, mistakes_in_the_built_in_part_say_why)
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

Test(config_mistakes, mistakes_of_overrides)
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

Test(config_mistakes, files_that_cannot_be_read)
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

Test(config_mistakes, bombs_are_bounded)
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
