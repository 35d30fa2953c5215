#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The contract computed in one go: what `freshet export` must print after a log of events.

    batch.py --out DIR [--out-of-order MS] [--join-window MS] [--dedupe-window MS] [--at TS] EVENTS.jsonl...

Writes counters.jsonl, sequences.jsonl and samples.jsonl into DIR. It is written from the definitions of the
contract alone and remembers every event: a window is a bisection in the sorted list of all timestamps of a
counter, a sequence is the tail of a sorted list, and a join looks through the impressions of the pair. So it
shares neither data structure nor shortcut with the program that it judges.

Several files are merged as partitions are: the next event comes from the file whose head has the least
timestamp, in the order of the files where they are equal.
"""
import argparse
import ctypes
import heapq
import json
import os
import struct
import sys

from known import FEEDBACK, MINUTE, Known, Moment, Setup, duration, to_ms

END = 1 << 62


class Options:
    def __init__(self, **given):
        self.out_of_order = 5_000
        self.join_window = 600_000
        self.dedupe_window = 600_000
        self.config = {}  # sections of the config as known.Setup reads them
        self.flush = True
        self.emit = "wait"  # or first_label, fake_negative
        self.corrections = False
        self.labels = FEEDBACK  # the actions that are labels
        self.watch = "max"  # or sum, last
        self.label_windows = {}  # by action; others: join_window
        self.remember = 0
        self.keep_negatives = 1.0  # or by action; others: the largest of them
        self.thin = None  # {"action", "window", "above", "power"}
        self.max_pending = 1 << 40
        self.__dict__.update(given)
        self.setup = Setup(self.config)
        labels = self.config.get("join", {}).get("labels", {})
        self.whole = labels["completion"]["length"] if "completion" in labels else None  # a feature
        self.features = {name: (self.setup.kind(f),) for name, f in self.setup.features.items()}


def options_of(config, **more):
    """The options that a config means."""
    join, given = config.get("join", {}), {}
    for name, key in ("join_window", "window"), ("remember", "remember"):
        if key in join:
            given[name] = duration(join[key])
    for key in "emit", "corrections", "watch", "max_pending", "keep_negatives":
        if key in join:
            given[key] = join[key]
    if "thin_positives" in join:
        given["thin"] = {"power": 0.5, **join["thin_positives"]}
    time, dedupe = config.get("stream", {}).get("time", {}), config.get("dedupe", {})
    given["out_of_order"] = duration(time.get("out_of_order", "5s"))
    given["dedupe_window"] = duration(dedupe.get("window", "10m"))
    actions = FEEDBACK + config.get("stream", {}).get("actions", [])
    labels = {a: o for a, o in join.get("labels", {"all": {}}).items() if a != "completion"}
    everything = labels.get("all")
    given["labels"] = [a for a in actions if a in labels or everything is not None]
    given["label_windows"] = {}
    for a in given["labels"]:
        window = labels.get(a, everything).get("window")
        if window is not None:
            given["label_windows"][a] = duration(window)
    of = labels.get("watch", {}).get("of", "watch_ms")
    if of != "watch_ms":
        given["watch"] = of
    return Options(config=config, **(given | more))


# ---- reading -----------------------------------------------------------------------------------------

def to_id(v):
    return None if v is None else str(v)


def read_events(lines):
    for line in lines:
        if line.strip():
            e = json.loads(line)
            e["ts"] = to_ms(e["timestamp"])
            yield e


def merged(sources):
    """(event, source number, is the last of its source) in the order of partitions: least head first."""
    heads = []
    for n, events in enumerate(sources):
        events = iter(events)
        first = next(events, None)
        if first is not None:
            heads.append((first["ts"], n, first, events))
    heapq.heapify(heads)
    while heads:
        _, n, event, events = heads[0]
        after = next(events, None)
        if after is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (after["ts"], n, after, events))
        yield event, n, after is None


# ---- what is remembered ------------------------------------------------------------------------------

# ---- hashes: XXH3 of libxxhash, for they decide what is kept --------------------------------------------

XXH3 = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
XXH3.restype, XXH3.argtypes = ctypes.c_uint64, (ctypes.c_char_p, ctypes.c_size_t)
U64 = (1 << 64) - 1


def hash_bytes(b):
    return XXH3(b, len(b))


def hash_id(text):
    return 0 if text is None else min(max(hash_bytes(text.encode()), 1), U64 - 1)


def hash_mix(x):
    x ^= x >> 30
    x = x * 0xbf58476d1ce4e5b9 & U64
    x ^= x >> 27
    x = x * 0x94d049bb133111eb & U64
    return x ^ x >> 31


def f32(x):
    """A 32-bit float as an export prints it: the shortest decimal that is it."""
    bits = struct.pack("<f", x)
    digits = next(d for d in range(1, 10) if struct.pack("<f", float(f"{struct.unpack('<f', bits)[0]:.{d}g}")) == bits)
    return float(f"{struct.unpack('<f', bits)[0]:.{digits}g}")


def label_name(action):
    return "watch_ms" if action == "watch" else action


class Sample:
    """An impression, and what is known of it."""
    __slots__ = ("arrival", "number", "user", "item", "request", "position", "ts", "labels", "label_ts", "features",
                 "left", "forgotten", "told", "rate", "hash", "late")


class Row:
    """A sample as it left."""
    def __init__(self, of, ts, corrected):
        self.of, self.late, self.features = of, of.late, of.features
        self.ts, self.corrected, self.told = ts, corrected, of.told if corrected else set()
        self.labels, self.label_ts = dict(of.labels), dict(of.label_ts)


class Batch:
    def __init__(self, options=None, sources=1):
        self.o = options or Options()
        self.past = Known(self.o.setup)  # profiles, counters, sequences
        self.seen = {}  # event_id -> ts
        self.known = {}  # (user, item) -> samples that are not forgotten
        self.waiting = []  # heap of feedback: (ts, arrival, user, item, request, type, value)
        self.due = []  # heap of (when its sample leaves, arrival, sample)
        self.over = []  # heap of (when it is forgotten, arrival, sample)
        self.n_known = self.impressions = self.lengths_missing = 0
        self.samples = []  # rows, in the order in which they leave
        windows = [self.o.join_window, self.o.remember, *self.o.label_windows.values()]
        self.horizon = max(windows)
        keep = self.o.keep_negatives
        self.keep = keep if isinstance(keep, dict) else {}
        self.keep_most = max(keep.values()) if isinstance(keep, dict) else keep
        self.largest = [None] * sources  # None: nothing was read
        self.ended = [False] * sources
        self.watermark = self.clock = -END
        self.at = None
        self.arrival = 0
        self.orphans = self.duplicates = self.late = self.after_window = self.late_labels = 0
        self.negatives_dropped = self.positives_thinned = self.left_early = self.forgotten_early = 0

    # ---- time

    def advance(self, source, ts):
        old = self.largest[source]
        self.largest[source] = ts if old is None else max(old, ts)
        self.at = ts if self.at is None else max(self.at, ts)
        self.lift()

    def lift(self):
        """The least of those that have not ended; when all have, that of the furthest."""
        going = [ts for ts, ended in zip(self.largest, self.ended) if not ended]
        known = [ts for ts in self.largest if ts is not None]
        if None not in going and known:
            at = min(going) if going else max(known)
            self.clock = self.watermark = max(self.watermark, at - self.o.out_of_order)
        self.settle()

    def settle(self):
        """Feedback is settled and samples leave, in order of time; at the same time samples leave first."""
        self.past.watermark = self.clock if self.clock > -END else None
        fake = self.o.emit == "fake_negative"  # at the watermark itself an impression may come
        while True:
            while self.due and (self.due[0][2].left or self.due[0][2].forgotten):
                heapq.heappop(self.due)
            due = self.due[0][0] if self.due else END
            held = self.waiting[0][0] if self.waiting else END
            if due < END and (due < self.watermark or (due == self.watermark and not fake)) and due <= held:
                self.leave(heapq.heappop(self.due)[2], due)
            elif held < self.watermark:
                ts, _, *rest = heapq.heappop(self.waiting)
                self.label(ts, *rest)
            else:
                break
        while self.over and self.over[0][0] <= self.watermark:
            self.forget(heapq.heappop(self.over)[2])

    def forget(self, s):
        if not s.forgotten:
            self.known[s.user, s.item].remove(s)
            self.n_known -= 1
            s.forgotten = True

    def bound(self):
        """At the bound the oldest goes."""
        if self.n_known <= self.o.max_pending:
            return
        s = min((s for all in self.known.values() for s in all), key=lambda s: (s.ts, s.arrival))
        waits = s.ts + (0 if self.o.emit == "fake_negative" else self.o.join_window) > self.watermark - (
            self.o.emit == "fake_negative")
        self.left_early += not s.left or waits
        self.forgotten_early += not (not s.left or waits)
        if not s.left:
            self.leave(s, self.watermark if self.watermark > -END else s.ts)
        self.forget(s)

    # ---- samples

    def rate(self, action):
        """The share of the negatives of a label that is kept."""
        return self.keep.get(action, self.keep.get("all", self.keep_most))

    def leave(self, s, ts):
        s.left = True
        self.first(s, ts)

    def first(self, s, ts):
        """The first sample of an impression, if it is among those that are kept."""
        if not s.labels:
            if s.hash / 2**64 >= self.keep_most:
                self.negatives_dropped += 1
                return
            self.samples.append(Row(s, ts, False))
            return
        share = 1
        if self.o.thin is not None:
            t = self.o.thin
            key = "item", s.item, None, None
            n = self.past.counted(key, t["action"], t["window"], self.clock) if self.clock > -END else 0
            share = (t["above"] / n) ** t["power"] if n > t["above"] else 1
        kept = hash_mix(s.hash) / 2**64 < share
        s.rate = share if kept else 0
        if kept:
            self.samples.append(Row(s, ts, False))
        self.positives_thinned += not kept
        s.told = set(s.labels)

    def next(self, s, ts):
        """A further one, unless there was none before."""
        if not s.told and s.hash / 2**64 >= self.keep_most:
            self.first(s, ts)
            return
        if s.rate > 0:
            self.samples.append(Row(s, ts, True))
        s.told = set(s.labels)

    # ---- one message

    def event(self, e, source=0):
        ts, kind, user = e["ts"], e["type"], to_id(e["user_id"])
        id = to_id(e.get("event_id"))
        if id is not None and self.o.dedupe_window:
            if id in self.seen and self.watermark // MINUTE <= self.seen[id] // MINUTE + self.o.dedupe_window // MINUTE:
                self.duplicates += 1
                return
            self.seen[id] = max(ts, self.watermark)
        late = ts < self.watermark
        self.late += late * (len(e.get("items") or ()) or 1)
        request = to_id(e.get("request_id"))
        if kind == "impression":
            entries = e.get("items")
            if entries is None:
                entries = [{"item_id": e["item_id"], "position": e.get("position")}]
            self.impression(ts, user, request, entries, late, e.get("context"))
        else:
            item = to_id(e["item_id"])
            self.feedback(ts, user, item, request, kind, e.get("watch_ms"), late)
            self.past.look("user", user)
            self.past.look("item", item)
            m = Moment(self.past, user, item, ts, e.get("context"))
            watch_ms = int(e.get("watch_ms") or 0)
            self.past.count(m, kind, watch_ms if kind == "watch" else 0)
            self.past.remember(m, kind, watch_ms)
        self.advance(source, ts)

    def profile(self, side, e):
        """An upsert; attributes of None delete."""
        self.past.profile(side, to_id(e[side + "_id"]), e["ts"], e["attributes"])

    def impression(self, ts, user, request, entries, late, context):
        moments = [Moment(self.past, user, to_id(x["item_id"]), ts, context) for x in entries]
        self.past.look("user", user)
        for m in moments:
            self.past.look("item", m.item)
        before = [self.past.features(m) for m in moments]
        for x, m, features in zip(entries, moments, before):
            self.arrival += 1
            s = Sample()
            s.arrival, s.user, s.item, s.request = self.arrival, user, m.item, request
            s.ts, s.features, s.position = ts, features, x.get("position")
            s.labels, s.label_ts, s.left, s.forgotten, s.late = {}, {}, False, False, late
            s.number, s.told, s.rate = self.impressions, set(), 1
            name = hash_id(user), hash_id(s.item), hash_id(request), ts
            s.hash = hash_bytes(struct.pack("<4Q", *name))
            self.impressions += 1
            self.lengths_missing += self.o.whole is not None and not (features[self.o.whole] or 0) > 0
            self.n_known += 1
            self.known.setdefault((user, s.item), []).append(s)
            waits = 0 if self.o.emit == "fake_negative" else self.o.join_window
            heapq.heappush(self.due, (ts + waits, s.arrival, s))
            heapq.heappush(self.over, (ts + self.horizon, s.arrival, s))
            self.bound()
            self.past.count(m, "impression")

    def matches(self, s, ts, request, window):
        return (s.ts <= ts < s.ts + window
                and (request is None or s.request is None or request == s.request))

    def feedback(self, ts, user, item, request, kind, value, late):
        """Late feedback finds what there is. Other waits until no impression before it can come any more."""
        if kind not in self.o.labels:
            return
        if late:
            self.label(ts, user, item, request, kind, value)
        else:
            self.arrival += 1
            heapq.heappush(self.waiting, (ts, self.arrival, user, item, request, kind, value))

    def label(self, ts, user, item, request, kind, value):
        known = self.known.get((user, item), ())
        window = self.o.label_windows.get(kind, self.o.join_window)
        fits = [s for s in known if self.matches(s, ts, request, window)]
        if not fits:
            after = any(self.matches(s, ts, request, self.horizon) for s in known)
            self.after_window += after
            self.orphans += not after
            return
        s = max(fits, key=lambda s: (s.ts, s.arrival))
        before = dict(s.labels), dict(s.label_ts)
        self.label_set(s, ts, kind, value)
        if s.left:
            if self.o.emit != "wait" and not self.o.corrections and s.told:
                self.late_labels += 1
            elif before != (s.labels, s.label_ts):
                self.next(s, ts)
        elif self.o.emit == "first_label":
            self.leave(s, ts)

    def label_set(self, s, ts, kind, value):
        """Of watch the largest value, and the first time that it was reported; or the sum, or the value of the last."""
        kind, value = ("watch_ms", int(value)) if kind == "watch" else (kind, 1)
        known = s.labels.get(kind, 0)
        if kind == "watch_ms" and self.o.watch == "sum":
            s.labels[kind], s.label_ts[kind] = known + value, max(ts, s.label_ts.get(kind, ts))
        elif kind == "watch_ms" and self.o.watch == "last":
            if ts >= s.label_ts.get(kind, ts):
                s.labels[kind], s.label_ts[kind] = value, ts
        elif kind not in s.label_ts or value > known:
            s.labels[kind], s.label_ts[kind] = value, ts
        elif value == known:
            s.label_ts[kind] = min(s.label_ts[kind], ts)

    def run(self, sources, users=None, items=None):
        """Lines of each partition of the events, and of the profiles, which come first where times are equal."""
        sources = [list(lines) for lines in sources]
        self.largest, self.ended = [None] * len(sources), [not lines for lines in sources]
        sides = [(side, lines) for side, lines in (("user", users), ("item", items)) if lines is not None]
        for event, source, is_last in merged([read_events(s) for s in [lines for _, lines in sides] + list(sources)]):
            if source < len(sides):
                self.profile(sides[source][0], event)
                continue
            source -= len(sides)
            self.event(event, source)
            if is_last:
                self.ended[source] = True
                self.lift()
        if self.o.flush:
            self.watermark = END
            self.settle()
        return self

    # ---- rows, as `freshet export` names them

    def counter_rows(self, at=None):
        return self.past.counter_rows(self.at if at is None else at)

    def sequence_rows(self):
        return self.past.sequence_rows()

    def features_shown(self, features):
        sequences = self.past.sequences_of_items()
        return {name: [self.past.shown(sequences[name], id) for id in v] if name in sequences else v
                for name, v in features.items()}

    def sample_rows(self):
        self.past.sweep()
        for n, row in enumerate(self.samples):
            s = row.of
            labels = {label_name(a): row.labels.get(label_name(a), 0) for a in self.o.labels}
            if self.o.whole is not None:
                whole = row.features[self.o.whole] or 0
                labels["completion"] = min(row.labels.get("watch_ms", 0) / whole, 1) if whole > 0 else None
            had = row.told if row.corrected else row.labels
            ret = {"sample": n, "impression": s.number, "user_id": s.user, "item_id": s.item, "request_id": s.request,
                   "position": s.position, "impression_ts": s.ts, "emitted_ts": row.ts, "labels": labels,
                   "label_ts": row.label_ts, "keep_rate": f32(s.rate if row.labels else self.keep_most),
                   "features": self.features_shown(row.features)}
            if self.keep:
                ret["keep_rates"] = {label_name(a): f32(self.rate(a)) for a in self.o.labels}
            masked = [label_name(a) for a in self.o.labels
                      if label_name(a) not in row.labels and s.hash / 2**64 >= self.rate(a)]
            if masked:
                ret["masked"] = masked
            if row.corrected:
                ret["corrects"] = s.number
                ret["changed"] = [label_name(a) for a in self.o.labels if label_name(a) in row.labels and
                                  label_name(a) not in had]
            yield ret

    def rows(self, what):
        return {"counters": self.counter_rows, "sequences": self.sequence_rows, "samples": self.sample_rows}[what]()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("events", nargs="+")
    p.add_argument("--out", required=True)
    p.add_argument("--out-of-order", type=int, default=5_000)
    p.add_argument("--join-window", type=int, default=600_000)
    p.add_argument("--dedupe-window", type=int, default=600_000)
    p.add_argument("--users")
    p.add_argument("--items")
    p.add_argument("--config", help="sections of a config, as JSON; see known.Setup")
    p.add_argument("--no-flush", action="store_true")
    a = p.parse_args()
    config = json.load(open(a.config)) if a.config else {}
    batch = Batch(Options(out_of_order=a.out_of_order, join_window=a.join_window, dedupe_window=a.dedupe_window,
                          flush=not a.no_flush, config=config))
    batch.run([open(f) for f in a.events], *(open(f) if f else None for f in (a.users, a.items)))
    os.makedirs(a.out, exist_ok=True)
    for what in "counters", "sequences", "samples":
        with open(os.path.join(a.out, what + ".jsonl"), "w") as f:
            for row in batch.rows(what):
                f.write(json.dumps(row, separators=(",", ":")) + "\n")
    print(json.dumps({"samples": len(batch.samples), "orphans": batch.orphans, "duplicates": batch.duplicates,
                      "late": batch.late, "at": batch.at}))


if __name__ == "__main__":
    sys.exit(main())
