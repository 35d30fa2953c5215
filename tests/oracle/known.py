# SPDX-License-Identifier: Apache-2.0
"""The contract's profiles, buckets, counters, sequences and features, from the definitions alone.

A Setup is read from the sections of a config as Python values (JSON is YAML, so the same text goes to freshet): stream,
buckets, counters, sequences, features. What it leaves out is as in the built-in config. Known is what such a config
knows after the events that it was told.
"""
import bisect
import datetime
import decimal
import math

MINUTE = 60_000
HOUR = 60 * MINUTE
FEEDBACK = ["click", "like", "collect", "share", "comment", "follow", "dislike", "watch"]

# name: (tile, tiles)
WINDOWS = {"1h": (MINUTE, 60), "1d": (15 * MINUTE, 96), "7d": (HOUR, 168)}

DEFAULT_FEATURES = {
    "user_id": {"id": "user"},
    "item_id": {"id": "item"},
    "hour": {"hour": "timestamp"},
    "user_impressions_1d": {"count": "impression", "of": "user", "window": "1d"},
    "item_impressions_1d": {"count": "impression", "of": "item", "window": "1d"},
    "user_ctr_7d": {"rate": "click/impression", "of": "user", "window": "7d", "smooth": [1, 20]},
    "item_ctr_1h": {"rate": "click/impression", "of": "item", "window": "1h", "smooth": [1, 20]},
    "item_ctr_1d": {"rate": "click/impression", "of": "item", "window": "1d", "smooth": [1, 20]},
    "item_ctr_7d": {"rate": "click/impression", "of": "item", "window": "7d", "smooth": [1, 20]},
    "clicks": {"sequence": "click", "last": 50},
}
KINDS = ("id", "number", "count", "rate", "hour", "weekday", "sequence", "cross", "age", "geohash", "ids", "member")


def to_ms(t):
    if isinstance(t, str):
        t = datetime.datetime.fromisoformat(t.replace("Z", "+00:00"))
        return (t - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(milliseconds=1)
    return int(t) if t >= 1e11 else int(round(t * 1_000_000)) // 1_000


def duration(text):
    digits = text.rstrip("mshd")
    return int(digits) * {"ms": 1, "s": 1_000, "m": MINUTE, "h": HOUR, "d": 24 * HOUR}[text[len(digits):]]


def decimal_of(v):
    """Whole numbers below 1e15 in decimal, others in the fewest digits that read back the same."""
    if v == int(v) and abs(v) < 1e15:
        return str(int(v))
    if abs(v) < 1e15:
        return repr(float(v))
    sign, digits, exponent = decimal.Decimal(repr(float(v))).normalize().as_tuple()
    digits = "".join(map(str, digits))
    return f"{'-' * sign}{digits[0]}{'.' * (len(digits) > 1)}{digits[1:]}e+{exponent + len(digits) - 1:02d}"


def text_of(v):
    """The text of a single value; None where there is none."""
    if v is True or v is False:
        return "true" if v else "false"
    if isinstance(v, (int, float)):
        return decimal_of(v)
    return v if isinstance(v, str) and v else None


def geohash(lat, lon, precision):
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        return None
    ranges, at, text, bits = [[-180.0, 180.0], [-90.0, 90.0]], (lon, lat), "", 0
    for n in range(5 * precision):
        r, x = ranges[n % 2], at[n % 2]
        middle = (r[0] + r[1]) / 2
        bits = bits * 2 + (x >= middle)
        r[0 if x >= middle else 1] = middle
        if n % 5 == 4:
            text, bits = text + "0123456789bcdefghjkmnpqrstuvwxyz"[bits], 0
    return text


def number(v):
    return isinstance(v, (int, float)) and not isinstance(v, bool)


def bucket_number(edges, v):
    return bisect.bisect_right(edges, v)


class Setup:
    def __init__(self, config=None):
        c = self.config = config or {}
        counters = c.get("counters", {})
        self.windows = self.read_windows(counters.get("windows", ["1h", "1d", "7d"]))
        self.totals = counters.get("totals", False)
        self.buckets = c.get("buckets", {})
        self.by = {of: counters.get(of, {}).get("by", []) for of in ("item", "user", "all")}
        self.features = c.get("features", DEFAULT_FEATURES)
        stream = c.get("stream", {})
        self.actions = FEEDBACK + stream.get("actions", [])
        expire = c.get("state", {}).get("expire", {})
        self.expire = {side: duration(expire.get(side + "s", "0s")) for side in ("user", "item")}
        self.types = {side: stream.get(side + "s", {}).get("attributes", {}) for side in ("user", "item")}
        items = stream.get("items", {})
        self.birth, self.category, self.author = (items.get("birth"), items.get("category", "category"),
                                                  items.get("author", "author"))
        self.sequences = self.read_sequences(c.get("sequences", {"all": {"last": 100}}))
        self.total_of_all = any(f.get("of") == "all" and "by" not in f or isinstance(f.get("smooth"), dict)
                                for f in self.features.values())

    def read_windows(self, given):
        return {w: WINDOWS[w] if isinstance(w, str) else None for w in given if isinstance(w, str)} | {
            w["name"]: (duration(w["tile"]), duration(w["length"]) // duration(w["tile"]))
            for w in given if isinstance(w, dict)}

    def read_sequences(self, given):
        def one(name, of, s):
            return {"name": name, "of": of, "last": s.get("last", 100), "with": s.get("with", []),
                    "keep": s.get("keep", "item"), "unique": s.get("unique", False), "by": s.get("by"),
                    "remove_on": s.get("remove_on", []), "gone": s.get("gone", False)}
        ret = {}
        everything = given.get("all")
        if everything is not None:
            ret = {a: one(a, [a], everything) for a in self.actions if a not in everything.get("remove_on", [])}
        for name, s in given.items():
            if name != "all":
                of = s.get("of", name)
                ret[name] = one(name, [of] if isinstance(of, str) else of, s)
        return {n: s for n, s in ret.items() if s["last"] > 0}

    def kind(self, feature):
        return next(k for k in KINDS if k in feature)


class Moment:
    """An event, or a request, and who is in it: what buckets and features look at."""

    def __init__(self, known, user, item, ts, context):
        self.known, self.user, self.item, self.ts, self.context = known, user, item, ts, context or {}

    def value(self, ref):
        """user.X, item.X or context.X; None where it is missing or of another type than declared."""
        side, _, name = ref.partition(".")
        if side == "context":
            v = self.context.get(name)
            return None if isinstance(v, list) else v
        id = self.user if side == "user" else self.item
        v = self.known.profiles[side].get(id, (0, {}))[1].get(name)
        fits = {"string": str, "list": list, "boolean": bool}
        declared = self.known.setup.types[side].get(name)
        if declared == "number":
            return v if number(v) else None
        return v if declared is None or isinstance(v, fits[declared]) else None

    def single(self, ref):
        v = self.value(ref)
        return None if isinstance(v, list) else v

    def place(self, refs, precision):
        lat, lon = (self.value(r) for r in refs)
        return geohash(lat, lon, precision) if number(lat) and number(lon) else None

    def clock(self, key, offset):
        hours = (self.ts + int(offset * HOUR)) // HOUR
        return hours % 24 if key == "hour" else (hours // 24 + 3) % 7

    def bucket(self, of, name):
        """The text of the bucket that `name` in counters.OF.by means; None: in none."""
        b = self.known.setup.buckets.get(name)
        if b is None:
            return text_of(self.single(name if "." in name else f"{'user' if of == 'item' else 'item'}.{name}"))
        if "geohash" in b:
            return self.place(b["geohash"], b.get("precision", 5))
        for key in ("hour", "weekday"):
            if key in b:
                return str(self.clock(key, b.get("offset", 0)))
        v = self.single(b["of"])
        if "edges" in b:
            return str(bucket_number(b["edges"], v)) if number(v) else None
        if "prefix" in b:
            return v[:b["prefix"]] or None if isinstance(v, str) else None
        return text_of(v)


class Known:
    def __init__(self, setup):
        self.setup = setup
        self.profiles = {"user": {}, "item": {}}  # id -> (ts, attributes)
        self.times = {}  # (of, id, by, bucket, measure) -> sorted ts; of watch_ms [(ts, ms)]
        self.sums = {}
        self.first = {}  # item -> ts of what was seen of it first
        self.lists = {}  # (user, sequence, bucket) -> [(ts, arrival, id, category, author, dwell)] ascending
        self.gone = {}  # item -> ts of its tombstone
        self.seen = {"user": {}, "item": {}}  # id -> when it was seen last
        self.watermark = None
        self.arrival = 0
        self.conflicts = {"user": 0, "item": 0}
        self.skipped = 0

    # ---- expiry

    def vanished(self, side, id):
        expire, last = self.setup.expire[side], self.seen[side].get(id)
        if not expire or last is None or self.watermark is None:
            return False
        step = max(expire // 16 // 1_000, 1) * 1_000
        return self.watermark >= last // step * step + step + expire

    def see(self, side, id, ts):
        """Who comes again after it vanished begins anew."""
        if self.vanished(side, id):
            self.forget(side, id)
        seen = max(ts, ts if self.watermark is None else self.watermark)
        self.seen[side][id] = max(seen, self.seen[side].get(id, seen))

    def look(self, side, id):
        if self.vanished(side, id):
            self.forget(side, id)

    def forget(self, side, id):
        del self.seen[side][id]
        self.profiles[side].pop(id, None)
        for of in self.times, self.sums:
            for key in [k for k in of if k[:2] == (side, id)]:
                del of[key]
        if side == "user":
            for key in [k for k in self.lists if k[0] == id]:
                del self.lists[key]
        else:
            self.first.pop(id, None)

    def shown(self, s, id):
        """An item of a sequence: None if it has vanished."""
        return None if s["keep"] == "item" and id not in self.seen["item"] else id

    def sequences_of_items(self):
        """Features that show items of a sequence: the sequence by name."""
        return {name: self.setup.sequences[f["sequence"]] for name, f in self.setup.features.items()
                if "sequence" in f and f.get("of", "item") == "item"}

    def sweep(self):
        for side in self.seen:
            for id in list(self.seen[side]):
                self.look(side, id)

    # ---- profiles

    def profile(self, side, id, ts, attributes):
        """None deletes. An older one does not replace a newer one."""
        if attributes is not None:
            types = self.setup.types[side]
            for name, v in attributes.items():
                want = {"string": isinstance(v, str), "number": number(v), "list": isinstance(v, list),
                        "boolean": isinstance(v, bool), None: True}[types.get(name)]
                self.conflicts[side] += not want and v is not None
        self.see(side, id, ts)
        if side == "item":
            self.first.setdefault(id, ts)
        if ts < self.profiles[side].get(id, (ts, {}))[0]:
            return
        self.profiles[side][id] = (ts, attributes or {})
        if side == "item" and attributes is None:
            self.gone[id] = max(ts, self.gone.get(id, ts))
            for (_, name, _), entries in self.lists.items():
                if self.setup.sequences[name]["gone"]:
                    entries[:] = [e for e in entries if e[2] != id or e[0] > ts]

    # ---- counters

    def keys(self, m):
        yield "user", m.user, None, None
        yield "item", m.item, None, None
        for of, names in self.setup.by.items():
            for name in names:
                bucket = m.bucket(of, name)
                if bucket is not None:
                    yield of, {"user": m.user, "item": m.item, "all": None}[of], name, bucket
        if self.setup.total_of_all:
            yield "all", None, None, None

    def count(self, m, action, watch_ms=0):
        self.see("user", m.user, m.ts)
        self.see("item", m.item, m.ts)
        self.first.setdefault(m.item, m.ts)
        for key in self.keys(m):
            bisect.insort(self.times.setdefault((*key, action), []), m.ts)
            if watch_ms:
                self.sums.setdefault((*key, "watch_ms"), []).append((m.ts, watch_ms))

    def span(self, window, at):
        """From the oldest tile that is in the window and alive, to the end of the newest."""
        tile, n = self.setup.windows[window]
        oldest = max(at, at if self.watermark is None else self.watermark) // tile - n + 1
        return oldest * tile, (at // tile + 1) * tile

    def counted(self, key, measure, window, at):
        """The value of a counter: key is (of, id, by, bucket)."""
        times = self.times.get((*key, measure), [])
        sums = self.sums.get((*key, measure), [])
        if window == "total":
            return len(times) + sum(ms for _, ms in sums)
        low, high = self.span(window, at)
        return (max(bisect.bisect_left(times, high) - bisect.bisect_left(times, low), 0)
                + sum(ms for ts, ms in sums if low <= ts < high))

    def counter_rows(self, at):
        self.sweep()
        windows = list(self.setup.windows) + ["total"] * self.setup.totals
        for (*key, measure) in list(self.times) + list(self.sums):
            row = {w: self.counted(key, measure, w, at) for w in windows}
            if any(row.values()):
                of, id, by, bucket = key
                yield {"entity": of, "id": id, "by": by, "bucket": bucket, "action": measure, "windows": row, "at": at}

    # ---- sequences

    def sequence_id(self, s, m):
        return m.item if s["keep"] == "item" else text_of(m.single(s["keep"]))

    def sequence_key(self, s, m):
        """None: in no bucket."""
        if s["by"] is None:
            return m.user, s["name"], None
        bucket = m.bucket("user", s["by"])
        return None if bucket is None else (m.user, s["name"], bucket)

    def remember(self, m, action, dwell):
        self.arrival += 1
        for s in self.setup.sequences.values():
            if action not in s["of"] and action not in s["remove_on"]:
                continue
            id, key = self.sequence_id(s, m), self.sequence_key(s, m)
            if id is None or key is None:
                self.skipped += action in s["of"]
                continue
            entries = self.lists.setdefault(key, [])
            if action in s["remove_on"]:
                entries[:] = [e for e in entries if e[2] != id]
            else:
                self.enter(s, entries, id, m, dwell)

    def enter(self, s, entries, id, m, dwell):
        if s["gone"] and self.gone.get(id, -1) >= m.ts:
            return
        if s["unique"]:
            if any(e[2] == id and e[0] > m.ts for e in entries):
                return
            entries[:] = [e for e in entries if e[2] != id]
        bisect.insort(entries, (m.ts, self.arrival, id, text_of(m.single("item." + self.setup.category)),
                                text_of(m.single("item." + self.setup.author)), dwell))
        del entries[:-s["last"]]

    def sequence_rows(self):
        self.sweep()
        for (user, name, bucket), entries in self.lists.items():
            if not entries:
                continue
            s = self.setup.sequences[name]
            row = {"user_id": user, "action": name}
            if s["by"] is not None:
                row |= {"by": s["by"], "bucket": bucket}
            row["entries"] = [
                {"item_id" if s["keep"] == "item" else "value": self.shown(s, id), "ts": ts}
                | ({"category": category} if "category" in s["with"] else {})
                | ({"author": author} if "author" in s["with"] else {})
                | ({"dwell_ms": dwell} if "dwell" in s["with"] else {})
                for ts, _, id, category, author, dwell in reversed(entries)]
            yield row

    # ---- features

    def numeric(self, f, v):
        """log1p or a bucket of a number."""
        if v is None:
            return None
        b = f.get("bucketize")
        if isinstance(b, dict):
            return 0  # learned by the first update, and there was none
        if isinstance(b, list):
            return bucket_number(b, v)
        if b is not None:
            return min(max(math.floor(v * b), 0), b - 1)
        return math.log1p(max(v, 0)) if f.get("log1p", "count" in f or "age" in f) else v

    def counter_key(self, m, of, by):
        id = {"user": m.user, "item": m.item, "all": None}[of]
        if by is None:
            return of, id, None, None
        bucket = m.bucket(of, by)
        return None if bucket is None else (of, id, by, bucket)

    def amount(self, m, key, measure, window):
        return 0 if key is None else self.counted(key, measure, window, m.ts)

    def rate(self, m, f):
        above, below = f["rate"].split("/")
        smooth = f.get("smooth", [1, 20])
        levels = [self.counter_key(m, f["of"], f.get("by"))]
        a, b, weight = 1, 20, 20
        if isinstance(smooth, dict):
            (a, b), weight = smooth.get("prior", (1, 20)), smooth.get("weight", 20)
            parents = smooth["parent"] if isinstance(smooth["parent"], list) else [smooth["parent"]]
            for p in parents + ["all"] * (parents[-1] != "all"):
                levels.append(self.counter_key(m, p, None) if p in ("user", "item", "all")
                              else self.counter_key(m, "all", p))
        else:
            a, b = smooth
        rate = None
        for key in reversed(levels):
            n, d = (self.amount(m, key, x, f["window"]) for x in (above, below))
            rate = (n + a) / (d + b) if rate is None else (n + weight * rate) / (d + weight)
        return rate

    def id_value(self, v):
        if v is True or v is False:
            return int(v)
        if number(v):
            return int(v) if v == int(v) and abs(v) < 1e15 else v
        return v if isinstance(v, str) else None

    def age(self, m):
        v = m.value(f"item.{self.setup.birth}")
        birth = None
        if number(v) and 0 <= v < 1e15:
            birth = to_ms(v)
        elif isinstance(v, str):
            try:
                birth = to_ms(v)
            except ValueError:
                birth = None
        if birth is None:
            birth = self.first.get(m.item, m.ts)
        return max(m.ts - int(birth), 0) / HOUR

    def sequence_value(self, m, f):
        s = self.setup.sequences[f["sequence"]]
        key = self.sequence_key(s, m)
        entries = list(reversed(self.lists.get(key, [])))[:f.get("last", min(50, s["last"]))]
        of = f.get("of", "item")
        if of == "age":
            return [min(max((m.ts - e[0]) // HOUR, 0).bit_length(), 31) for e in entries]
        return [e[{"item": 2, "category": 3, "author": 4}[of]] for e in entries]

    def feature(self, m, f, before):
        kind = self.setup.kind(f)
        if kind == "id":
            return {"user": m.user, "item": m.item}.get(f["id"]) or self.id_value(m.single(f["id"]))
        if kind == "number":
            v = m.single(f["number"])
            v = None if isinstance(v, str) else v
            missing = f.get("missing", "category")
            if v is None and missing != "category":
                v = 0 if missing == "zero" else missing
            return self.numeric(f, v if v is None else int(v) if isinstance(v, bool) else v)
        if kind == "count":
            return self.numeric(f, self.amount(m, self.counter_key(m, f["of"], f.get("by")), f["count"], f["window"]))
        if kind == "rate":
            return self.numeric(f, self.rate(m, f))
        if kind in ("hour", "weekday"):
            return m.clock(kind, f.get("offset", 0))
        if kind == "sequence":
            return self.sequence_value(m, f)
        if kind == "cross":
            return [before[x] for x in f["cross"]]
        if kind == "age":
            return self.numeric(f, self.age(m))
        if kind == "geohash":
            return m.place(f["geohash"], f.get("precision", 5))
        if kind == "ids":
            v = m.value(f["ids"])
            return ([v] if isinstance(v, str) else v if isinstance(v, list) else [])[:f.get("last", 50)]
        s = self.setup.sequences[f["member"]]
        id = self.sequence_id(s, m)
        return self.numeric({}, float(any(e[2] == id for e in self.lists.get((m.user, s["name"], None), []))))

    def features(self, m):
        ret = {}
        for name, f in self.setup.features.items():
            ret[name] = self.feature(m, f, ret)
        return ret
