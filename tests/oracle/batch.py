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
import bisect
import datetime
import heapq
import json
import math
import os
import sys

MINUTE = 60_000
HOUR = 60 * MINUTE
END = 1 << 62

FEEDBACK = ["click", "like", "collect", "share", "comment", "follow", "dislike", "watch"]

# name: (tile, tiles)
WINDOWS = {"1h": (MINUTE, 60), "1d": (15 * MINUTE, 96), "7d": (HOUR, 168)}

# What the built-in config calls its features. A kind and its arguments:
#   user | item | hour | count of action window | rate of numerator denominator window a b | sequence action n
FEATURES = {
    "user_id": ("user",),
    "item_id": ("item",),
    "hour": ("hour",),
    "user_impressions_1d": ("count", "user", "impression", "1d"),
    "item_impressions_1d": ("count", "item", "impression", "1d"),
    "user_ctr_7d": ("rate", "user", "click", "impression", "7d", 1, 20),
    "item_ctr_1h": ("rate", "item", "click", "impression", "1h", 1, 20),
    "item_ctr_1d": ("rate", "item", "click", "impression", "1d", 1, 20),
    "item_ctr_7d": ("rate", "item", "click", "impression", "7d", 1, 20),
    "clicks": ("sequence", "click", 50),
}


class Options:
    def __init__(self, **given):
        self.out_of_order = 5_000
        self.join_window = 600_000
        self.dedupe_window = 600_000
        self.windows = WINDOWS
        self.features = FEATURES
        self.last = 100
        self.flush = True
        self.__dict__.update(given)


# ---- reading -----------------------------------------------------------------------------------------

def to_ms(t):
    if isinstance(t, str):
        t = datetime.datetime.fromisoformat(t.replace("Z", "+00:00"))
        return (t - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(milliseconds=1)
    # The year 2100 in seconds is 4.1e9, and in milliseconds that is February 1970.
    return int(t) if t >= 1e10 else int(round(t * 1000))


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

class Counters:
    def __init__(self, windows):
        self.windows = windows
        self.times = {}  # (entity, id, action) -> every ts, sorted
        self.sums = {}  # (entity, id) -> [(ts, watch_ms)]

    def add(self, entity, id, action, ts):
        times = self.times.setdefault((entity, id, action), [])
        if not times or times[-1] <= ts:
            times.append(ts)
        else:
            bisect.insort(times, ts)

    def add_sum(self, entity, id, ts, ms):
        self.sums.setdefault((entity, id), []).append((ts, ms))

    def span(self, window, at):
        tile, n = self.windows[window]
        return (at // tile - n + 1) * tile, (at // tile + 1) * tile

    def count(self, entity, id, action, window, at):
        times = self.times.get((entity, id, action))
        if times is None:
            return 0
        low, high = self.span(window, at)
        return bisect.bisect_left(times, high) - bisect.bisect_left(times, low)

    def rows(self, at):
        for (entity, id, action) in self.times:
            yield entity, id, action, {w: self.count(entity, id, action, w, at) for w in self.windows}
        for (entity, id), entries in self.sums.items():
            spans = {w: self.span(w, at) for w in self.windows}
            yield entity, id, "watch_ms", {w: sum(ms for ts, ms in entries if low <= ts < high)
                                           for w, (low, high) in spans.items()}


class Sample:
    __slots__ = ("arrival", "user", "item", "request", "position", "ts", "labels", "label_ts", "features", "left",
                 "late")


class Batch:
    def __init__(self, options=None, sources=1):
        self.o = options or Options()
        self.counters = Counters(self.o.windows)
        self.sequences = {}  # (user, action) -> [(ts, arrival, item)], sorted
        self.seen = {}  # event_id -> ts
        self.pending = {}  # (user, item) -> samples that have not left
        self.waiting = []  # heap of feedback: (ts, arrival, user, item, request, type, value)
        self.due = []  # heap of (due, arrival, sample)
        self.samples = []  # in the order in which they leave
        self.largest = [None] * sources  # None: nothing was read; END: the source has ended
        self.watermark = -END
        self.at = None
        self.arrival = 0
        self.orphans = self.duplicates = self.late = 0

    # ---- time

    def advance(self, source, ts):
        old = self.largest[source]
        self.largest[source] = ts if old is None else max(old, ts)
        self.at = ts if self.at is None else max(self.at, ts)
        self.lift()

    def lift(self):
        if None not in self.largest:
            low = min(self.largest)
            if low < END:
                self.watermark = max(self.watermark, low - self.o.out_of_order)
        self.settle()
        self.leave()

    def leave(self):
        while self.due and self.due[0][0] <= self.watermark:
            _, _, sample = heapq.heappop(self.due)
            key = (sample.user, sample.item)
            self.pending[key].remove(sample)
            sample.left = True
            self.samples.append(sample)

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
        self.late += late
        request = to_id(e.get("request_id"))
        if kind == "impression":
            entries = e.get("items")
            if entries is None:
                entries = [{"item_id": e["item_id"], "position": e.get("position")}]
            self.impression(ts, user, request, entries, late)
        else:
            item = to_id(e["item_id"])
            self.feedback(ts, user, item, request, kind, e.get("watch_ms"), late)
            self.count(user, item, kind, ts)
            self.remember(user, item, kind, ts, e.get("watch_ms"))
        self.advance(source, ts)

    def count(self, user, item, action, ts):
        self.counters.add("user", user, action, ts)
        self.counters.add("item", item, action, ts)

    def remember(self, user, item, action, ts, watch_ms):
        self.arrival += 1
        bisect.insort(self.sequences.setdefault((user, action), []), (ts, self.arrival, item))
        if action == "watch":
            self.counters.add_sum("user", user, ts, int(watch_ms))
            self.counters.add_sum("item", item, ts, int(watch_ms))

    def impression(self, ts, user, request, entries, late):
        before = [self.features(user, to_id(x["item_id"]), ts) for x in entries]
        for x, features in zip(entries, before):
            self.arrival += 1
            s = Sample()
            s.arrival, s.user, s.item, s.request = self.arrival, user, to_id(x["item_id"]), request
            s.ts, s.features, s.position = ts, features, x.get("position")
            s.labels, s.label_ts, s.left, s.late = {}, {}, False, late
            self.pending.setdefault((user, s.item), []).append(s)
            heapq.heappush(self.due, (ts + self.o.join_window, s.arrival, s))
            self.count(user, s.item, "impression", ts)

    def matches(self, s, ts, request):
        return (s.ts <= ts < s.ts + self.o.join_window
                and (request is None or s.request is None or request == s.request))

    def feedback(self, ts, user, item, request, kind, value, late):
        """Late feedback finds what there is. Other waits until no impression before it can come any more."""
        if late:
            self.orphans += not self.label(ts, user, item, request, kind, value)
        else:
            self.arrival += 1
            heapq.heappush(self.waiting, (ts, self.arrival, user, item, request, kind, value))

    def settle(self):
        while self.waiting and self.waiting[0][0] < self.watermark:
            ts, _, *rest = heapq.heappop(self.waiting)
            self.orphans += not self.label(ts, *rest)

    def label(self, ts, user, item, request, kind, value):
        fits = [s for s in self.pending.get((user, item), ()) if self.matches(s, ts, request)]
        if not fits:
            return False
        s = max(fits, key=lambda s: (s.ts, s.arrival))
        if kind == "watch":  # the largest value, and the first time that it was reported
            kind, value = "watch_ms", int(value)
        else:
            value = 1
        known = s.labels.get(kind, 0)
        if kind not in s.label_ts or value > known:
            s.labels[kind], s.label_ts[kind] = value, ts
        elif value == known:
            s.label_ts[kind] = min(s.label_ts[kind], ts)
        return True

    def features(self, user, item, ts):
        ret = {}
        for name, (kind, *a) in self.o.features.items():
            if kind == "user":
                ret[name] = user
            elif kind == "item":
                ret[name] = item
            elif kind == "hour":
                ret[name] = ts // HOUR % 24
            elif kind == "count":
                of, action, window = a
                ret[name] = math.log1p(self.counters.count(of, user if of == "user" else item, action, window, ts))
            elif kind == "rate":
                of, above, below, window, x, y = a
                id = user if of == "user" else item
                n = self.counters.count(of, id, above, window, ts)
                d = self.counters.count(of, id, below, window, ts)
                ret[name] = (n + x) / (d + y)
            elif kind == "sequence":
                action, last = a
                tail = self.sequences.get((user, action), ())[-last:]
                ret[name] = [i for _, _, i in reversed(tail)]
        return ret

    def run(self, sources):
        self.largest = [None] * len(sources)
        for event, source, is_last in merged([read_events(s) for s in sources]):
            self.event(event, source)
            if is_last:
                self.largest[source] = END
                self.lift()
        if self.o.flush:
            self.watermark = END
            self.settle()
            self.leave()
        return self

    # ---- rows, as `freshet export` names them

    def counter_rows(self, at=None):
        at = self.at if at is None else at
        for entity, id, action, windows in self.counters.rows(at):
            if any(windows.values()):
                yield {"entity": entity, "id": id, "by": None, "bucket": None, "action": action,
                       "windows": windows, "at": at}

    def sequence_rows(self):
        for (user, action), entries in self.sequences.items():
            yield {"user_id": user, "action": action,
                   "entries": [{"item_id": i, "ts": ts} for ts, _, i in reversed(entries[-self.o.last:])]}

    def sample_rows(self):
        for n, s in enumerate(self.samples):
            labels = {a: s.labels.get(a, 0) for a in FEEDBACK if a != "watch"}
            labels["watch_ms"] = s.labels.get("watch_ms", 0)
            yield {"sample": n, "user_id": s.user, "item_id": s.item, "request_id": s.request,
                   "position": s.position, "impression_ts": s.ts, "emitted_ts": s.ts + self.o.join_window,
                   "labels": labels, "label_ts": s.label_ts, "keep_rate": 1, "features": s.features}

    def rows(self, what):
        return {"counters": self.counter_rows, "sequences": self.sequence_rows, "samples": self.sample_rows}[what]()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("events", nargs="+")
    p.add_argument("--out", required=True)
    p.add_argument("--out-of-order", type=int, default=5_000)
    p.add_argument("--join-window", type=int, default=600_000)
    p.add_argument("--dedupe-window", type=int, default=600_000)
    p.add_argument("--no-flush", action="store_true")
    a = p.parse_args()
    batch = Batch(Options(out_of_order=a.out_of_order, join_window=a.join_window, dedupe_window=a.dedupe_window,
                          flush=not a.no_flush))
    batch.run([open(f) for f in a.events])
    os.makedirs(a.out, exist_ok=True)
    for what in "counters", "sequences", "samples":
        with open(os.path.join(a.out, what + ".jsonl"), "w") as f:
            for row in batch.rows(what):
                f.write(json.dumps(row, separators=(",", ":")) + "\n")
    print(json.dumps({"samples": len(batch.samples), "orphans": batch.orphans, "duplicates": batch.duplicates,
                      "late": batch.late, "at": batch.at}))


if __name__ == "__main__":
    sys.exit(main())
