# SPDX-License-Identifier: Apache-2.0
"""Random configs and random logs, of a seed: all that the contract lets be configured meets all that it lets happen.

case(seed) is a dict that JSON holds: `config`; `parts`, the lines of each partition; `users` and `items`, the lines of
profiles; `at`, a time for which counters are asked;
`settings`, what must change nothing; `cuts`, shares of the log at which a replay is ended and begun again.
"""
import datetime
import json
import random

FEEDBACK = ["click", "like", "collect", "share", "comment", "follow", "dislike", "watch"]
ATTRIBUTES = {
    "user": {"gender": "string", "age": "number", "city": "string", "vip": "boolean", "tags": "list", "lat": "number",
             "lon": "number"},
    "item": {"category": "string", "author": "string", "price": "number", "created_at": "number", "tags": "list",
             "length": "number", "hot": "boolean"}}
CONTEXT = {"device": "string", "geo": "string", "lat": "number", "lon": "number", "depth": "number", "night": "boolean"}


def duration(ms):
    for unit, name in (86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"):
        if ms % unit == 0:
            return f"{ms // unit}{name}"
    return f"{ms}ms"


def some(rng, of, low, high):
    of = list(of)
    return rng.sample(of, min(len(of), rng.randint(low, high)))


# ---- configs -------------------------------------------------------------------------------------------

class Config:
    """Draws the sections one after another, since later ones name what earlier ones have."""

    def __init__(self, rng):
        self.rng = rng
        self.extra = some(rng, ["save", "buy", "hide_all"], 0, 2) if rng.random() < 0.4 else []
        self.actions = FEEDBACK + self.extra
        self.types = {"user": dict(ATTRIBUTES["user"]), "item": dict(ATTRIBUTES["item"]), "context": CONTEXT}
        self.out_of_order = rng.choice((0, 1, 999, 5_000, 5_000, 60_000, 600_000))
        self.dedupe = rng.choice((0, 60_000, 90_000, 600_000, 3_600_000))
        self.window = rng.choice((1, 1_000, 30_000, 90_000, 600_000, 3_600_000))
        self.config = {}

    def refs(self, side, *types):
        return [f"{side}.{a}" for a, t in self.types[side].items() if t in types]

    def stream(self):
        rng, time = self.rng, {"out_of_order": duration(self.out_of_order)}
        stream = {"time": time, "actions": self.extra}
        for side in "user", "item":
            stream[side + "s"] = {"attributes": self.types[side]} if rng.random() < 0.6 else {}
        stream["items"] |= rng.choice(({}, {"birth": "created_at"}, {"category": "author", "author": "category"}))
        return stream

    def windows(self):
        rng, longest, ret = self.rng, 0, []
        tile = rng.choice((1_000, 7_000, 60_000, 60_000, 780_000))
        if rng.random() < 0.2:
            return ["1h", "1d", "7d"]
        for n in range(rng.randint(1, 4)):
            if tile * 1024 > 3_000 * 86_400_000:
                break  # a window has 10 years at most
            while tile * 1024 <= longest:
                tile *= 2
            tiles = max(rng.choice((1, 2, 3, 60, 97, rng.randint(1, 1024))), longest // tile + 1)
            longest = tile * tiles
            ret.append({"name": f"w{n}", "tile": duration(tile), "length": duration(longest)})
            tile *= rng.choice((1, 2, 3, 5, 60))
        self.longest = longest
        return ret

    def buckets(self):
        rng, u, i, c = self.rng, "user", "item", "context"
        numbers, strings = (self.refs(u, "number") + self.refs(c, "number"), self.refs(u, "string") + self.refs(c, "string"))
        places = [["context.lat", "context.lon"], ["user.lat", "user.lon"]]
        ret = {"aged": {"of": rng.choice(numbers), "edges": [0, 18, 25.5]}, "cut": {"of": rng.choice(strings), "prefix": rng.choice((1, 2, 64))},
               "place": {"geohash": rng.choice(places), "precision": rng.randint(1, 12)},
               "hour": {"hour": "timestamp", "offset": rng.choice((0, -14, 14, 5.75, -3.5))},
               "day": {"weekday": "timestamp", "offset": rng.choice((0, 13.25, -0.5))},
               "same": {"of": rng.choice(self.refs(u, "string", "number", "boolean"))}}
        of_items = {"price": {"of": "item.price", "edges": [rng.choice((-3, 0)), 20]}, "cat": {"of": "item.category", "prefix": 2},
                    "born": {"of": "item.created_at"}}
        self.user_buckets = some(rng, ret, 0, 5)
        self.item_buckets = some(rng, of_items, 0, 3)
        return {k: v for k, v in (ret | of_items).items() if k in self.user_buckets + self.item_buckets}

    def counters(self):
        rng, single = self.rng, ("string", "number", "boolean")
        context = self.refs("context", *single)
        shared = [b for b in self.user_buckets if b in ("hour", "day")]
        of_item = self.user_buckets + [a for a, t in self.types["user"].items() if t != "list" and a not in ("lat", "lon")] + context
        of_user = self.item_buckets + shared + ["category", "author", "hot", "length"] + context
        of_all = self.user_buckets + self.item_buckets + ["category", "item.author", "user.vip", "context.device"]
        self.by = {"item": some(rng, of_item, 0, 5), "user": some(rng, of_user, 0, 4), "all": some(rng, of_all, 0, 4)}
        self.named = self.windows()
        self.window_names = [w if isinstance(w, str) else w["name"] for w in self.named]
        self.totals = rng.random() < 0.5
        return {"windows": self.named, "totals": self.totals} | {of: {"by": by} for of, by in self.by.items()}

    def sequence(self, of=None, named=True):
        rng, s = self.rng, {"last": self.rng.choice((1, 2, 5, 20, 63, 64, 65, 200, 500))}
        if of is not None:
            s["of"] = of
        if rng.random() < 0.6:
            s["with"] = some(rng, ["category", "author", "dwell"], 1, 3)
        if rng.random() < 0.4:
            s["unique"] = True
        if rng.random() < 0.4:
            s["remove_on"] = some(rng, [a for a in self.actions if a not in (of or [])], 1, 2)
        if rng.random() < 0.3 and "keep" not in s:
            s["gone"] = True
        if named and rng.random() < 0.4:
            s["by"] = rng.choice(["item.category", "item.author", "context.device", *self.item_buckets,
                                  *[b for b in self.user_buckets if b in ("hour", "day")]])
        if named and rng.random() < 0.3:
            s["keep"] = rng.choice(("item.author", "item.category", "item.hot", "item.price"))
            s.pop("gone", None)
        return s

    def sequences(self):
        rng, ret = self.rng, {}
        if rng.random() < 0.7:
            ret["all"] = self.sequence(named=False)
        for n in range(rng.randint(0 if ret else 1, 4)):
            ret[f"s{n}"] = self.sequence(some(rng, self.actions, 1, 4))
        if rng.random() < 0.3:
            own = rng.choice(self.actions)
            ret[own] = self.sequence(named=False)
            ret[own]["remove_on"] = [a for a in ret[own].get("remove_on", []) if a != own]
        self.lists = dict(ret)
        if "all" in ret:
            self.lists |= {a: ret["all"] for a in self.actions if a not in ret["all"].get("remove_on", []) and a not in ret}
        self.lists.pop("all", None)
        return ret

    def labels(self):
        rng = self.rng
        windows = [1, 30_000, 90_000, 480_000, 1_200_000, 5_400_000]
        ret = {"all": {}} if rng.random() < 0.6 else {}
        if ret and rng.random() < 0.2:
            ret["all"] = {"window": duration(rng.choice(windows))}
        for a in some(rng, self.actions, 0 if ret else 1, 4):
            ret[a] = {"window": duration(rng.choice(windows))} if rng.random() < 0.7 else {}
        if ("watch" in ret or "all" in ret) and rng.random() < 0.3:
            ret.setdefault("watch", {})["of"] = rng.choice(("sum", "last", "max"))
        return ret

    def ms(self, text):
        digits = text.rstrip("mshd")
        return int(digits) * {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[text[len(digits):]]

    def join(self):
        rng = self.rng
        labels = self.labels()
        join = {"window": duration(self.window), "labels": labels, "emit": rng.choice(("wait", "first_label", "fake_negative")),
                "watch": rng.choice(("max", "sum", "last"))}
        longer = any(self.ms(o["window"]) > self.window for o in labels.values() if "window" in o)
        if join["emit"] != "wait":
            join["corrections"] = longer or rng.random() < 0.5
        if rng.random() < 0.3:
            join["remember"] = duration(rng.choice((1_000, 600_000, 7_200_000)))
        names = [a for a in self.actions if a in labels or "all" in labels]
        if rng.random() < 0.4:
            join["keep_negatives"] = rng.choice((0.3, 0.000001, {a: rng.choice((0.1, 0.5, 1)) for a in some(rng, names, 1, 3)}))
            if isinstance(join["keep_negatives"], dict) and rng.random() < 0.4:
                join["keep_negatives"]["all"] = 0.4
        if join["emit"] != "fake_negative" and rng.random() < 0.4:
            join["thin_positives"] = {"action": rng.choice(self.actions), "window": rng.choice(self.window_names),
                                      "above": rng.choice((1, 2, 5))} | rng.choice(({}, {"power": 0}, {"power": 1.5}))
        if rng.random() < 0.3:
            join["max_pending"] = rng.choice((1, 2, 50, 200))
        self.names = names
        return join

    # ---- features

    def by_of(self):
        of = self.rng.choice(("item", "user", "all"))
        return {"of": of} | ({"by": self.rng.choice(self.by[of])} if self.by[of] and self.rng.random() < 0.6 else {})

    def counted(self):
        return self.rng.choice(["impression", "watch_ms", "click", *self.actions])

    def named_window(self):
        return {"window": self.rng.choice(self.window_names + ["total"] * self.totals)}

    def bucketize(self):
        return self.rng.choice(([0], [-1, 0.5, 1, 100], {"quantiles": self.rng.choice((2, 5, 65))}))

    def cut(self):
        """What becomes of a number: itself, its logarithm or a bucket."""
        return self.rng.choice(({}, {"log1p": True}, {"log1p": False}, {"bucketize": self.bucketize()}))

    def number(self):
        f = {"number": self.rng.choice([r for side in ("user", "item", "context") for r in self.refs(side, "number", "boolean")])}
        f |= self.cut()
        missing = ["category"] if "bucketize" in f else []
        return f | self.rng.choice(({}, {"missing": self.rng.choice([*missing, "zero", -7.5])}))

    def rate(self):
        rng = self.rng
        f = {"rate": f"{self.counted()}/{self.counted()}"} | self.by_of() | self.named_window()
        if rng.random() < 0.4:
            f["smooth"] = rng.choice(([0, 1], [1, 20], [0.5, 1e9]))
        elif rng.random() < 0.7:
            own = [f["of"]] if f["of"] != "all" and "by" in f and rng.random() < 0.5 else []
            parents = own + some(rng, [n for n in self.by["all"] if n != f.get("by") or f["of"] != "all"], 0, 2)
            if not parents or (len(parents) < 3 and rng.random() < 0.4):
                parents.append("all")
            if not (f["of"] == "all" and "by" not in f):
                f["smooth"] = {"parent": parents} | rng.choice(({}, {"weight": 0.25}, {"weight": 7, "prior": [0, 3]}))
        return f | rng.choice(({}, {"bucketize": rng.choice((2, 10, 64))}, {"bucketize": [0.01, 0.2]}))

    def of_sequence(self):
        name, s = self.rng.choice(sorted(self.lists.items()))
        of = self.rng.choice(["item", "age"] + [w for w in s.get("with", []) if w != "dwell"])
        f = {"sequence": name, "of": of} | ({} if of == "age" else {"table": "t"})
        return f | ({"last": self.rng.randint(1, s["last"])} if self.rng.random() < 0.6 else {})

    def feature(self):
        rng = self.rng
        every = [r for side in ("user", "item", "context") for r in self.refs(side, "string", "number", "boolean")]
        kind = rng.randrange(11)
        if kind == 0:
            return {"id": rng.choice(["user", "item", *every])} | rng.choice(({}, {"hash": 50}))
        if kind == 1:
            return self.number()
        if kind in (2, 3):
            return {"count": self.counted()} | self.by_of() | self.named_window() | self.cut()
        if kind in (4, 5):
            return self.rate()
        if kind == 6:
            return {rng.choice(("hour", "weekday")): "timestamp"} | rng.choice(({}, {"offset": 5.75}, {"offset": -14}))
        if kind == 7:
            return {"age": "item"} | self.cut()
        if kind == 8:
            return {"geohash": rng.choice((["context.lat", "context.lon"], ["user.lat", "user.lon"]))} | rng.choice(
                ({}, {"precision": rng.randint(1, 12)}))
        if kind == 9:
            return {"ids": rng.choice(("item.tags", "user.tags"))} | rng.choice(({}, {"last": 1}, {"last": 3}))
        plain = [n for n, s in self.lists.items() if "by" not in s]
        if plain and rng.random() < 0.3:
            return {"member": rng.choice(sorted(plain))}
        return self.of_sequence()

    def features(self):
        rng, ret = self.rng, {"i": {"id": "item"}}
        if self.completion:
            ret["whole"] = {"number": "item.length"} | rng.choice(({}, {"missing": 20_000}))
        for n in range(rng.randint(3, 24)):
            ret[f"f{n}"] = self.feature()
        ids = [n for n, f in ret.items() if {"id", "hour", "weekday", "geohash", "bucketize"} & f.keys()]
        for n in range(rng.randint(0, 2)):
            a = some(rng, ids, 2, 2)
            if len(a) == 2:
                ret[f"x{n}"] = {"cross": a} | rng.choice(({}, {"hash": 500}))
                ids.append(f"x{n}")
        return ret

    def draw(self):
        rng, c = self.rng, self.config
        c["stream"], c["dedupe"] = self.stream(), {"window": duration(self.dedupe)}
        c["buckets"], c["counters"], c["sequences"], c["join"] = self.buckets(), self.counters(), self.sequences(), self.join()
        self.completion = "watch" in self.names and rng.random() < 0.5
        c["features"] = self.features()
        if self.completion:
            c["join"]["labels"]["completion"] = {"of": "watch", "length": "whole"}
        c["tables"] = {"t": {"rows": 1000}}
        c["state"] = {"samples_keep": "0s"}  # every sample stays, to be compared
        if rng.random() < 0.25:
            longest = 7 * 86_400_000 if isinstance(self.named[0], str) else self.longest
            at_least = -(-longest // 1_000) * 1_000
            c["state"]["expire"] = {s: duration(at_least * rng.choice((1, 2)) + rng.choice((0, 1_000)))
                                    for s in some(rng, ["users", "items"], 1, 2)}
        trained = rng.random() < 0.3
        c["update"] = {"enabled": trained, "every": "2m", "batch": 64}
        c["models"] = {"m": {"net": [{"name": "b", "mlp": [4], "of": "all"}], "heads": {"h": {"of": "b", "label": self.names[0]}}}}
        if self.names[0] == "watch":
            c["models"]["m"]["heads"]["h"] |= {"threshold": 5}
        return c


# ---- logs ----------------------------------------------------------------------------------------------

ODD = ["", "\u00e9t\u00e9 \U0001f31e", "a\"b\\c/d", "tab\there", "nul\u0000x", "\u007f\u2028", "7", "-1", "0007", "null", "\u00fc" * 128]


class Log:
    def __init__(self, rng, config, messages):
        self.rng, self.config, self.messages = rng, config, messages
        self.actions = FEEDBACK + config["stream"]["actions"]
        self.out_of_order = self.ms(config["stream"]["time"]["out_of_order"])
        self.users, self.items = self.ids("u", rng.choice((2, 8, 40))), self.ids("i", rng.choice((3, 15, 60)))
        self.windows = sorted({self.ms(config["join"]["window"])} | {self.ms(o["window"]) for o in config["join"]["labels"].values()
                                                                     if "window" in o})
        self.start = rng.choice((1_767_225_600_000, 1_767_225_600_000, 1_767_225_600_000, 951_868_799_000, 951_868_799_000, 86_400_000 * 400, 86_400_000 * 400, 0))
        self.step = rng.choice((1, 50, 400, 400, 5_000, 60_000))
        self.gaps = rng.choice((0, 0, 0.002, 0.01, 0.05))
        self.gap_sizes = rng.choice(((3_600_000,), (3_600_000, 50_000_000), (700_000, 86_400_000 * 3)))
        self.burst = rng.choice((0, 0.5, 0.9))
        self.late, self.duplicates = rng.choice((0, 0.01, 0.2)), rng.choice((0, 0.03, 0.2))
        self.most = rng.choice((1, 1, 4, 30))
        self.share = rng.choice((0.2, 0.5, 0.8))  # of impressions
        self.plain = rng.random() < 0.3

    def ms(self, text):
        return Config.ms(self, text)

    def ids(self, prefix, n):
        ret = [f"{prefix}{k}" for k in range(n)]
        for k in range(n):
            kind = self.rng.randrange(4)
            if kind == 0:
                ret[k] = k
            elif kind == 1:
                text = self.rng.choice(ODD[1:])
                ret[k] = text[:240 // len(text.encode())] + str(k) if self.rng.random() < 0.5 else text
            elif kind == 2 and self.rng.random() < 0.3:
                ret[k] = self.rng.choice((prefix * 256, "x", -5, 2**63 - 1, 2**64 - 1, -2**63))
        return ret

    def id(self, v):
        """7 is "7"."""
        return str(v) if isinstance(v, int) and self.rng.random() < 0.5 else v

    def stamp(self, ms):
        rng = self.rng
        kind = 0 if self.plain else rng.randrange(6)
        if kind == 1 and ms % 1000 == 0:
            return ms // 1000
        if kind == 2 or (kind in (0, 1, 5) and ms < 100_000_000_000):
            return ms / 1000
        if kind in (3, 4):
            hours = rng.choice((0, 2, -7, 5.5, 14, -9.75)) if kind == 4 else 0
            at = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=ms, hours=hours)
            if at.year >= 1970:
                minutes = int(hours * 60)
                zone = "Z" if minutes == 0 else "%s%02d:%02d" % ("-" if minutes < 0 else "+", *divmod(abs(minutes), 60))
                return at.strftime("%Y-%m-%dT%H:%M:%S") + f".{at.microsecond // 1000:03d}{zone}"
            return ms / 1000
        return ms

    def text(self, row):
        rng = self.rng
        if rng.random() < 0.2:
            row = dict(rng.sample(list(row.items()), len(row)))
        if rng.random() < 0.05:
            row["unknown"] = {"a": [1, {"b": None}], "type": "click"}
        s = json.dumps(row, ensure_ascii=rng.random() < 0.5, separators=rng.choice(((",", ":"), (", ", " : "))))
        return s.replace("/", "\\/") if rng.random() < 0.1 else s

    # ---- attributes

    def number(self):
        rng = self.rng
        return rng.choice((0, -0.0, -3, 18, 25.5, 1e14, 1e15, -1e300, 0.1, 1e-7, 2**53 + 2, rng.randrange(90), rng.random() * 50))

    def string(self):
        return self.rng.choice(("f", "m", "Oslo", "Bergen", *ODD))

    def value(self, name, kind):
        rng = self.rng
        if name in ("lat", "lon"):
            return rng.choice((57.64911, 10.40744, 0, -45, 45, 90, 91, -90, 180, -180, 181, -25.382708))
        if name == "created_at":
            return rng.choice((self.start - 90_000_000, self.start / 1000 - 86_400.999, self.start + 50_000, -5, 1e20, 0))
        if name == "length":
            return rng.choice((0, -1, 30_000, 12_345.5, 1))
        if kind == "number":
            return self.number()
        if kind == "boolean":
            return rng.random() < 0.5
        if kind == "list":
            return [self.string() for _ in range(rng.choice((0, 1, 3, 70)))]
        if name in ("category", "author"):
            return rng.choice((f"c{rng.randrange(4)}", self.string()))
        return self.string()

    def attributes(self, of):
        rng, ret = self.rng, {}
        for name, kind in of.items():
            if rng.random() < 0.85:
                ret[name] = self.value(name, kind)
        if of is not CONTEXT and ret and rng.random() < 0.1:
            ret[rng.choice(list(ret))] = rng.choice(("text", 5, True, ["a"], None))
        return ret

    def profiles(self, side, ids, span):
        rng, rows = self.rng, []
        for _ in range(rng.choice((0, 20, 200))):
            ts = max(self.start + rng.randrange(-1_000, span + 1), 0)
            late = rng.choice((0, rng.randrange(3_000), rng.randrange(3_000), rng.randrange(span + 1)))
            rows.append((ts + late, len(rows), {
                side + "_id": self.id(rng.choice(ids)), "timestamp": self.stamp(ts), "attributes": self.attributes(ATTRIBUTES[side])}))
        return [self.text(row) for _, _, row in sorted(rows, key=lambda r: r[:2])]

    # ---- events

    def delay(self):
        rng = self.rng
        if rng.random() < self.late:
            return self.out_of_order + rng.choice((1, 1_000, 30_000, 700_000, 4_000_000, 90_000_000))
        return rng.choice((0, 0, rng.randint(0, self.out_of_order), self.out_of_order))

    def impression(self, user):
        rng = self.rng
        items = [rng.choice(self.items) for _ in range(rng.randint(1, self.most))]
        e = {"type": "impression", "user_id": self.id(user)}
        if len(items) > 1 or rng.random() < 0.1:
            e["items"] = [{"item_id": self.id(i)} | ({"position": k} if rng.random() < 0.7 else {}) for k, i in enumerate(items)]
        else:
            e["item_id"] = self.id(items[0])
            if rng.random() < 0.4:
                e["position"] = rng.choice((0, 3, None, 2**31 - 1))
        return e, items

    def feedback(self, now, shown):
        rng = self.rng
        user, item, request, ts = rng.choice(shown[-50:]) if shown and rng.random() < 0.9 else (
            rng.choice(self.users), rng.choice(self.items), None, now)
        w = rng.choice(self.windows)
        at = ts + rng.choice((0, 1, w // 2, w - 1, w, w + 1, rng.randrange(w + 1), self.step))
        e = {"type": rng.choice(self.actions), "user_id": self.id(user), "item_id": self.id(item)}
        if e["type"] == "watch":
            e["watch_ms"] = rng.choice((0, rng.randrange(60_000), 12_345.75, 2**31))
        elif rng.random() < 0.05:
            e["watch_ms"] = rng.choice((None, 5))
        if request is not None and rng.random() < 0.7:
            e["request_id"] = self.id(request)
        elif rng.random() < 0.1:
            e["request_id"] = "unknown"
        return e, at if at <= now + rng.choice((0, w)) else now

    def bad(self):
        return self.rng.choice(('{"type":"click"', '{"type":"impression","user_id":"u1"}', "[]", '{"type":"nothing","user_id":1,"item_id":2,"timestamp":1}',
                                '{"type":"click","user_id":7.0,"item_id":1,"timestamp":1767225600}', "", "  "))

    def events(self):
        """(arrival, event) in order of arrival"""
        rng, now, rows, shown = self.rng, self.start, [], []
        for n in range(self.messages):
            now += 0 if rng.random() < self.burst else rng.randrange(2 * self.step + 1)
            now += rng.choice(self.gap_sizes) if rng.random() < self.gaps else 0
            if rng.random() < self.share or not shown:
                user, ts = rng.choice(self.users), now
                request = rng.choice((None, f"r{n}", n, shown[-1][2] if shown else None))
                e, items = self.impression(user)
                if shown and rng.random() < 0.05:
                    user, item, request, _ = shown[-1]
                    items, e = [item], {"type": "impression", "user_id": user, "item_id": item}
                if request is not None:
                    e["request_id"] = self.id(request)
                shown += [(user, i, request, ts) for i in items]
            else:
                e, ts = self.feedback(now, shown)
            e["timestamp"], e["ts"] = self.stamp(ts), ts
            if rng.random() < 0.9:
                e["event_id"] = rng.choice((f"e{n}", f"e{n}", n))
            if rng.random() < 0.8:
                e["context"] = self.attributes(CONTEXT)
            at = ts + self.delay() if rng.random() < 0.97 else now
            rows.append((at, len(rows), e))
            if rng.random() < self.duplicates:
                rows.append((at + rng.choice((0, 1, 300, 20_000, 3_000_000)), len(rows), dict(e)))
        return [e for _, _, e in sorted(rows, key=lambda r: r[:2])]

    def split(self, events, partitions):
        """By user, of unequal size."""
        rng, parts = self.rng, [[] for _ in range(partitions)]
        of = {str(u): min(int(rng.expovariate(1)), partitions - 1) for u in self.users}
        bad = rng.choice((0, 0, 0.02))
        for e in events:
            part = parts[of[str(e["user_id"])]]
            del e["ts"]
            if rng.random() < bad:
                part.append(self.bad())
            part.append(self.text(e))
        return parts


def case(seed, messages=None):
    rng = random.Random(seed)
    config = Config(rng).draw()
    log = Log(rng, config, messages or rng.choice((60, 300, 300, 900, 2_500)))
    events = log.events()
    end = max(e["ts"] for e in events)
    span = end - log.start + 1
    ret = {"seed": seed, "config": config, "users": log.profiles("user", log.users, span), "items": log.profiles("item", log.items, span)}
    ret["parts"] = log.split(events, rng.choice((1, 1, 2, 3, 5)))
    ret["settings"] = {"state.commit_events": rng.choice((1, 7, 97, 300)), "state.cache": "1MiB", "state.body_cache": "1MiB"}
    ret["at"] = rng.randrange(log.start, end + 3_600_000)
    ret["cuts"] = sorted(rng.random() for _ in range(rng.randint(1, 4)))
    return ret
