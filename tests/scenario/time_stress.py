#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Event time under stress: a backlog of a day in partitions of very unequal size, partitions that stop and come back,
# clocks that are behind, ahead, that jump, stand still or go back, times that are none, partitions without events. Each
# through `replay` from files and through `run` on an embedded broker, where the log comes in pieces and the daemon is
# killed; judged row by row by the oracle, which is told in which order the pieces came. argv[1]: the freshet binary.
import json
import os
import random
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "oracle")]
from batch import Batch, Options, merged, read_events  # noqa: E402
from compare import compare  # noqa: E402
from harness import Freshet, wait_until  # noqa: E402
from nasty import START  # noqa: E402
from oracle import WHAT, exported  # noqa: E402

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
ORDER = 5 * SECOND  # time.out_of_order
SETTINGS = ["--set", "update.enabled=false", "--set", "state.commit_every=20ms", "--set", "state.commit_events=300",
            "--set", "state.samples_keep=0s"]
COUNTS = "late", "duplicates", "orphans", "after_window"


class Twin(Batch):
    """The oracle, with partitions that fall idle and come back."""

    def __init__(self, partitions, options=None):
        super().__init__(options or Options(flush=False), partitions)
        self.idle = set()

    def lift(self):
        live = [ts for n, ts in enumerate(self.largest) if n not in self.idle]
        known = [ts for ts in self.largest if ts is not None]
        if live and None not in live:
            self.raise_to(min(live))
        elif not live and known:
            self.raise_to(max(known))
        self.settle()

    def raise_to(self, ts):
        self.clock = self.watermark = max(self.watermark, ts - self.o.out_of_order)

    def advance(self, source, ts):
        self.idle.discard(source)
        super().advance(source, ts)

    def falls_idle(self, *partitions):
        self.idle.update(partitions)
        self.lift()

    def read(self, lines, partition=0):
        for e in read_events(lines):
            self.event(e, partition)

    def read_files(self, parts):
        """As the merge reads files: what has ended is idle, a file without events at once."""
        self.falls_idle(*(n for n, part in enumerate(parts) if not part))
        for e, n, last in merged([read_events(part) for part in parts]):
            self.event(e, n)
            if last:
                self.falls_idle(n)

    def time(self):
        return None if self.watermark < -DAY else self.watermark


# ---- logs

def text(events):
    return [json.dumps(e, separators=(",", ":")) for e in events]


def times(lines):
    return [json.loads(line)["timestamp"] for line in lines]


class Log:
    """Impressions with feedback of users of one partition; of all partitions no two have one timestamp."""

    def __init__(self, seed):
        self.rng, self.taken, self.made = random.Random(seed), set(), 0

    def free(self, ts):
        while ts in self.taken:
            ts += 1
        self.taken.add(ts)
        return ts

    def one(self, kind, user, item, ts, request=None):
        self.made += 1
        e = {"event_id": f"e{self.made}", "type": kind, "user_id": user, "item_id": item, "timestamp": self.free(ts)}
        if request:
            e["request_id"] = request
        if kind == "watch":
            e["watch_ms"] = self.rng.randrange(60_000)
        return e

    def events(self, partition, n, begin, span, users=20, feedback=9 * MINUTE):
        """n or n + 1 events in order of time."""
        rng, rows = self.rng, []
        while len(rows) < n:
            user, item = f"p{partition}u{rng.randrange(users)}", f"i{rng.randrange(30)}"
            ts = begin + rng.randrange(span)
            shown = self.one("impression", user, item, ts, f"r{self.made}")
            rows.append(shown)
            if rng.random() < 0.7:
                after = rng.choice((1, rng.randrange(1, feedback), rng.randrange(1, feedback), 2 * feedback))
                ts = min(shown["timestamp"] + after, begin + span)
                rows.append(self.one(rng.choice(("click", "like", "watch")), user, item, ts, shown["request_id"]))
        return sorted(rows, key=lambda e: e["timestamp"])

    def on_time(self, partition, n, begin, span, **more):
        return text(wobble(self.rng, self.events(partition, n, begin, span, **more)))


def wobble(rng, events):
    """Out of order by less than time.out_of_order."""
    return [e for _, e in sorted(((e["timestamp"] + rng.randrange(ORDER - 1), e) for e in events), key=lambda r: r[0])]


def between(lines, begin, end):
    """What a partition has of a span of time, in its order of arrival."""
    return [line for line in lines if begin <= json.loads(line)["timestamp"] < end]


# ---- judging

def judge(f, name, state, got, twin):
    """Counts and rows of a state against the twin, which has come as far as the state."""
    for key in COUNTS:
        f.equal(got[key], getattr(twin, key), f"{name}: {key} is {getattr(twin, key)}")
    f.equal((got["watermark"], got["at"]), (twin.time(), twin.at), f"{name}: watermark and at")
    for what in WHAT:
        rows = exported(f, what, state)
        equal, texts = compare(what, twin.rows(what), rows)
        f.check(not texts, f"{name}: {equal} {what} equal, {len(texts)} differ")
        for t in texts[:3]:
            print("        " + t)


def replayed(f, name, parts, *more):
    """`replay` of a file a partition; its state and summary."""
    state, files = f.path(name.replace(" ", "-") + ".files"), []
    for n, part in enumerate(parts):
        files += ["--events", f"{state}.{n}.jsonl"]
        with open(files[-1], "w") as to:
            to.writelines(line + "\n" for line in part)
    r = f.run("replay", *files, "--state", state, *SETTINGS, *more, timeout=300)
    if r.returncode != 0:
        raise RuntimeError(f"{name}: replay: {r.stderr[-1000:]}")
    return state, json.loads(r.stdout)


def from_files(f, name, parts, judged=None):
    """The same with a verdict. `judged`: the lines without what is for the DLQ."""
    state, summary = replayed(f, name, parts)
    twin = Twin(len(parts))
    twin.read_files(judged or parts)
    judge(f, name, state, summary, twin)
    return summary, twin


class Live:
    """A daemon on partitions that get their log piece by piece, and the twin that gets the same pieces. A piece is of
    one partition and is read before the next one comes, so that the order of arrival is known."""

    def __init__(self, f, topic, partitions):
        self.f, self.topic, self.twin = f, topic, Twin(partitions)
        self.sent = [0] * partitions
        self.state, self.daemon = f.path(topic), None
        self.settings = ["--set", f"stream.events.topic={topic}", "--set", "publish.enabled=false", *SETTINGS]

    def start(self, idle_after="1d"):
        """With 0s a partition is idle as soon as it stands at its end, with 1d never."""
        self.daemon = self.f.start_daemon(*self.settings, "--set", f"stream.time.idle_after={idle_after}", state=self.topic)

    def stop(self):
        self.f.equal(self.daemon.stop(), 0, f"{self.topic}: the daemon ends")

    def kill(self):
        self.daemon.kill()
        self.daemon.wait()

    def produce(self, partition, lines, *more):
        rows = "".join(f"{json.loads(line).get('user_id')}\t{line}\n" for line in lines)
        subprocess.run([shutil.which("kcat") or "kafkacat", "-P", "-b", self.f.broker, "-t", self.topic, "-p",
                        str(partition), "-K", "\t", *more], input=rows, text=True, check=True, timeout=120)
        self.sent[partition] += len(lines)

    def all_read(self):
        def read():
            return self.f.status()["messages"] == sum(self.sent)
        try:
            wait_until(read, 120, "all messages")
        except TimeoutError:
            got = self.f.status()
            raise RuntimeError(f"{self.topic}: sent {self.sent}, read {got['offsets']}: "
                               f"{self.daemon.stderr()[-600:]}") from None

    def all_committed(self):
        wanted = {str(n): sent for n, sent in enumerate(self.sent) if sent}

        def offsets():
            r = self.f.run("digest", "--state", self.state)
            known = json.loads(r.stdout)["offsets"].get(self.topic, {}) if r.returncode == 0 else {}
            return {p: n for p, n in known.items() if n > 0} == wanted
        wait_until(offsets, 60, f"{self.topic}: all is committed")

    def put(self, partition, lines):
        self.produce(partition, lines)
        self.all_read()
        self.twin.read(lines, partition)

    def put_with_kill(self, partition, lines, idle_after="1d"):
        """Killed in the middle of a piece, when all others are committed."""
        self.all_committed()
        self.produce(partition, lines)
        wait_until(lambda: self.f.status()["messages"] > sum(self.sent) - len(lines), 60, "a first message")
        self.kill()
        self.start(idle_after)
        self.all_read()
        self.twin.read(lines, partition)

    def bad(self, partition, lines):
        """What is for the DLQ."""
        self.produce(partition, lines)
        self.all_read()

    def all_idle(self):
        self.twin.falls_idle(*range(len(self.sent)))
        self.watermark_is("all partitions are idle: that of the furthest")

    def watermark_is(self, what):
        try:
            wait_until(lambda: self.f.status()["watermark"] == self.twin.time(), 30, "the watermark")
        except TimeoutError:
            pass
        self.f.equal(self.f.status()["watermark"], self.twin.time(), f"{self.topic}: {what}")

    def digest(self):
        return json.loads(self.f.run("digest", "--state", self.state).stdout)

    def end(self):
        """Stops, judges, and follows the recorded order."""
        got = self.f.status()
        self.stop()
        judge(self.f, self.topic, self.state, got, self.twin)
        r = self.f.run("replay", "--as-committed", "--state", self.state, *self.settings, timeout=300)
        self.f.check(r.returncode == 0, f"{self.topic}: --as-committed agrees" +
                     (r.stdout[-600:] + r.stderr[-300:] if r.returncode else ""))
        return got


def logical(digest):
    return {k: digest[k] for k in ("counters", "sequences", "joiner", "samples")}


# ---- (1) a backlog of a day

def backlog(f):
    log, sizes = Log(1), (8, 80, 800, 8_000)
    parts = [log.on_time(p, n, START, DAY) for p, n in enumerate(sizes)]
    summary, twin = from_files(f, "backlog", parts)
    f.equal(summary["late"], 0, "backlog of 1:10:100:1000: nothing is late")
    f.check(len(twin.samples) > 1000 and summary["joined"] > 1000, "backlog: there is something to be joined")

    # All of it is there before the daemon comes: partitions are merged as files are, however fetches come.
    live = Live(f, "backlog-kafka", 4)
    for p, more in (3, ["-X", "linger.ms=200"]), (0, ["-X", "batch.num.messages=1"]), (2, []), (1, []):
        live.produce(p, parts[p], *more)
    live.settings += ["-X", "fetch.message.max.bytes=20000"]
    live.start("0s")
    live.all_read()
    live.twin.read_files(parts)
    live.watermark_is("the backlog is read")
    live.end()
    f.equal(logical(live.digest()), logical(summary["digest"]), "backlog-kafka: the digests of the files")

    # It comes while the daemon runs: of a partition nothing for hours, and then all at once, by turns.
    live = Live(f, "burst", 4)
    live.start()
    hours = 6
    for n in range(24 // hours):
        order = list(range(4))
        log.rng.shuffle(order)
        for p in order:
            piece = between(parts[p], START + n * hours * HOUR, START + (n + 1) * hours * HOUR)
            (live.put_with_kill if p == 3 and n == 2 else live.put)(p, piece)
    got = live.end()
    f.equal(got["late"], 0, "burst: nothing is late, as long as no partition is idle")


# ---- (2) a partition that stops

def stopping(f):
    log = Log(2)
    first = [log.on_time(p, 150, START, HOUR) for p in (0, 1)]
    ahead = log.on_time(0, 400, START + HOUR, 3 * HOUR)  # while the other one stands
    back = log.on_time(1, 400, START + HOUR, 2 * HOUR)  # on time for itself
    turns = [log.on_time(n % 2, 50, START + 4 * HOUR + n * 10 * MINUTE, 9 * MINUTE) for n in range(6)]

    def came_back(name, got, twin):
        f.equal(got["late"], len(back), f"{name}: what the partition brings is late, and nothing else")
        f.equal(sum(got["events"].values()), len(sum([*first, ahead, back, *turns], [])), f"{name}: all count")
        f.check(sum(row.late for row in twin.samples) > 100, f"{name}: late impressions are samples")

    live = Live(f, "stopping", 2)
    live.start()
    for p in (0, 1):
        live.put(p, first[p])
    live.put(0, ahead)
    f.equal(f.status()["watermark"], max(times(first[1])) - ORDER, "stopping: one that stands holds the watermark")
    live.all_committed()
    live.kill()
    live.start("0s")
    live.all_idle()
    f.equal(live.twin.watermark, max(times(ahead)) - ORDER, "stopping: idle, it does not")
    live.put_with_kill(1, back, "0s")
    live.all_idle()
    for n, piece in enumerate(turns):
        live.put(n % 2, piece)
        live.all_idle()
    came_back("stopping", live.end(), live.twin)

    # Files: what has ended is idle, and the next replay goes on.
    twin, parts = Twin(2), [[], []]
    for pieces in (first[0] + ahead, first[1]), ([], back), *((piece, []) if n % 2 == 0 else ([], piece)
                                                              for n, piece in enumerate(turns)):
        parts = [part + piece for part, piece in zip(parts, pieces)]
        state, summary = replayed(f, "stopping files", parts)
        twin.read_files(pieces)
    judge(f, "stopping files", state, summary, twin)
    came_back("stopping files", summary, twin)


# ---- (3) clocks that are behind and ahead

def skewed_partitions(f):
    """Each partition has a clock of its own: none makes another one late, and the slowest holds the watermark."""
    log, skews = Log(3), (-10 * MINUTE, 0, 10 * MINUTE)
    parts = [log.on_time(p, 500, START + skew, 6 * HOUR) for p, skew in enumerate(skews)]
    summary, _ = from_files(f, "skewed", parts)
    f.equal(summary["late"], 0, "skewed: nothing is late in files")
    live = Live(f, "skewed-live", 3)
    live.start()
    for n in range(6):
        for p in log.rng.sample(range(3), 3):
            begin = START + skews[p] + n * HOUR
            piece = between(parts[p], begin, begin + (HOUR if n < 5 else 2 * HOUR))
            (live.put_with_kill if (n, p) == (3, 1) else live.put)(p, piece)
    f.equal(f.status()["watermark"], max(times(parts[0])) - ORDER, "skewed-live: the slowest clock holds the watermark")
    f.equal(live.end()["late"], 0, "skewed-live: nothing is late")


def skewed_devices(f):
    """Clocks of users who share a partition: who is behind the others is late, and counts."""
    log, parts = Log(4), []
    for p in range(2):
        rows = []
        for skew in (-10 * MINUTE, 0, 10 * MINUTE):
            rows += [(e["timestamp"] - skew, e) for e in log.events(f"{p}d{skew}", 250, START + skew, 3 * HOUR)]
        parts.append(text(e for _, e in sorted(rows, key=lambda r: r[0])))
    summary, _ = from_files(f, "devices", parts)
    f.check(summary["late"] > 400 and summary["joined"] > 200, f"devices: {summary['late']} late, {summary['joined']} joined")
    live = Live(f, "devices-live", 2)
    live.start()
    for n in range(0, max(map(len, parts)), 200):
        for p in range(2):
            if parts[p][n:n + 200]:
                (live.put_with_kill if (n, p) == (400, 1) else live.put)(p, parts[p][n:n + 200])
    live.end()


# ---- (4) a clock that jumps ahead

def jump(f):
    log = Log(5)
    parts = [log.on_time(p, 300, START, 2 * HOUR) for p in range(2)]
    n = len(parts[0]) // 3
    at = max(times(parts[0][:n])) + 50 * MINUTE
    parts[0].insert(n, text([log.one("click", "hasty", "i1", at)])[0])
    late = sum(ts < at - ORDER for ts in times(parts[0][n + 1:]))
    calm = Twin(1)
    calm.read_files([parts[0][:n] + parts[0][n + 1:]])
    summary, _ = from_files(f, "jump", parts[:1])
    f.check(summary["orphans"] > calm.orphans, f"jump: and of these the feedback comes too late, {calm.orphans} orphans without it")
    f.check(summary["late"] >= late > 50, f"jump: {late} events after it are late, until the clock is there")
    f.equal(sum(summary["events"].values()), len(parts[0]), "jump: and all count")
    f.equal(summary["time_jumps"], 0, "jump: by less than a day, which is not told")
    far = parts[0][:n] + text([log.one("click", "hasty", "i1", at + DAY)]) + parts[0][n + 1:]
    path = f.path("far.jsonl")
    with open(path, "w") as to:
        to.writelines(line + "\n" for line in far)
    r = f.run("replay", "--events", path, *SETTINGS)
    f.equal(json.loads(r.stdout)["time_jumps"], 1, "far jump: a file cannot refuse it, it is counted")
    f.check(f"at={path}:{n + 1} " in r.stderr, "far jump: and told, with file and line")
    from_files(f, "jump beside another", parts)
    live = Live(f, "jump-live", 2)  # live, the other partition keeps the watermark where it is
    live.start()
    for k in range(0, len(parts[0]), 20):
        live.put(1, between(parts[1], *span_of(parts[0], k, 20, n)))
        (live.put_with_kill if k == 60 else live.put)(0, parts[0][k:k + 20])
    live.end()


def span_of(lines, at, n, jump):
    """The time of n lines without the one that jumped; the last piece has no end."""
    ts = [t for k, t in enumerate(times(lines)) if k != jump]
    return (ts[at] if at else 0), (ts[at + n] if at + n < len(ts) else START + DAY)


def future(f):
    """By the broker's time: 50 min ahead is taken, 70 min ahead is not, and moves nothing."""
    log, now = Log(6), int(time.time() * SECOND)
    before = log.on_time(0, 100, now - 2 * HOUR, HOUR)
    after = log.on_time(0, 200, now - HOUR + MINUTE, HOUR - MINUTE)
    live = Live(f, "future", 1)
    live.start()
    live.put(0, before)
    live.bad(0, text([log.one("click", "u1", "i1", now + 70 * MINUTE)]))
    live.watermark_is("an event beyond max_future moves nothing")
    live.put(0, text([log.one("click", "u1", "i1", now + 50 * MINUTE)]))
    live.watermark_is("one within max_future moves it")
    told = "the watermark is ahead of the clock"
    wait_until(lambda: told in live.daemon.stderr(), 30, "a warning")
    line = next(line for line in live.daemon.stderr().splitlines() if told in line)
    f.check("topic=future partition=0" in line, "future: the log warns, naming the partition")
    f.check(48 * MINUTE < f.status()["ahead_ms"] <= 50 * MINUTE - ORDER, "future: the status says by how much")
    f.check("freshet_watermark_ahead_seconds 2" in f.get("/metrics").text, "future: and a metric")
    live.put_with_kill(0, after)
    got = live.end()
    f.equal((got["late"], got["dlq"]), (live.twin.late, {**got["dlq"], "future": 1}), "future: one dead letter")
    f.check(live.twin.late >= len(after), f"future: {live.twin.late} events after it are late")
    f.equal(sum(got["events"].values()), len(before) + 1 + len(after), "future: and count")
    lines = before + text([log.one("click", "u1", "i1", now + DAY)]) + after
    summary, _ = from_files(f, "future files", [lines], [before + after])
    f.equal((summary["late"], summary["dlq"]["future"]), (0, 1), "future files: one dead letter, nothing late")


# ---- (5) clocks that stand still, go back, or show no time

BAD_TIMES = (-1, -1_000, -86_400_000, 4_102_444_800, 4_102_444_800_000, 10**15, "1969-12-31T23:59:59Z",
             "2100-01-01T00:00:00Z")


def stuck(f):
    """Thousands of events of one ms, in two partitions, and then it goes on."""
    log, rng, parts = Log(7), random.Random(7), []
    for p in range(2):
        rows = log.events(p, 2_000, START + p * DAY, HOUR)
        for e in rows:
            e["timestamp"] = START + HOUR
        parts.append(text(log.events(p, 50, START, 50 * MINUTE)) + text(rows) +
                     text(log.events(p, 50, START + HOUR + MINUTE, HOUR)))
    summary, _ = from_files(f, "stuck", parts)
    f.equal(summary["late"], 0, "stuck: nothing is late")
    f.check(summary["joined"] > 1_000, "stuck: feedback at the ms of its impression is joined")
    live = Live(f, "stuck-live", 2)
    live.start()
    cut = rng.randrange(400, 1_600)
    for p, piece in (0, parts[0][:cut]), (1, parts[1][:900]), (0, parts[0][cut:]):
        live.put(p, piece)
    live.put_with_kill(1, parts[1][900:])
    f.equal(live.end()["late"], 0, "stuck-live: nothing is late")


def back(f):
    """A clock that is set back by an hour, and goes on from there."""
    log = Log(8)
    first, again, on = (log.on_time(0, 250, START + at, 2 * HOUR) for at in (0, HOUR, 3 * HOUR))
    other = log.on_time(1, 250, START, 5 * HOUR)
    summary, _ = from_files(f, "back", [first + again + on])
    expected = sum(ts < max(times(first)) - ORDER for ts in times(again))
    f.check(summary["late"] == expected > 100, f"back: {expected} events are late")
    from_files(f, "back beside another", [first + again + on, other])
    live = Live(f, "back-live", 2)
    live.start()
    for p, piece in (0, first), (1, between(other, 0, START + 2 * HOUR)), (0, again[:120]):
        live.put(p, piece)
    live.put_with_kill(0, again[120:])
    for p, piece in (1, between(other, START + 2 * HOUR, START + DAY)), (0, on):
        live.put(p, piece)
    f.check(live.end()["late"] > 100, "back-live: what is before the watermark is late")


def no_time(f):
    """Before 1970 and after 2099 is no time; 1970 itself is, and the way from there to today is short."""
    log = Log(9)
    good = text(log.events(0, 60, 1, 20 * SECOND)) + log.on_time(0, 200, START, HOUR)
    bad = text({"type": "click", "user_id": "u", "item_id": "i", "timestamp": t} for t in BAD_TIMES)
    rows = list(good)
    for n, line in enumerate(bad):
        rows.insert(n * 30, line)
    rows = [as_text_time(line) for line in rows]
    summary, _ = from_files(f, "no time", [rows], [[as_text_time(line) for line in good]])
    f.equal(summary["dlq"]["timestamp"], len(bad), "no time: dead letters")
    live = Live(f, "no-time-live", 2)
    live.start("0s")
    live.bad(1, bad)
    live.put(0, [as_text_time(line) for line in good[:60]])
    live.bad(0, bad)
    live.all_idle()
    live.put_with_kill(0, [as_text_time(line) for line in good[60:]], "0s")
    live.all_idle()
    f.equal(live.end()["dlq"]["timestamp"], 2 * len(bad), "no-time-live: dead letters")


def as_text_time(line):
    """Numbers near 1970 as RFC 3339: a small number would be one of seconds."""
    e = json.loads(line)
    ts = e["timestamp"]
    if isinstance(ts, int) and 0 <= ts < 60 * SECOND:
        e["timestamp"] = f"1970-01-01T00:00:{ts // 1000:02d}.{ts % 1000:03d}Z"
    return json.dumps(e, separators=(",", ":"))


# ---- (6) the order of arrival

def arrival(f):
    """Within out_of_order no order of arrival changes a join, a count or a sequence."""
    log = Log(10)
    events = [log.events(p, n, START, 2 * HOUR) for p, n in enumerate((300, 100, 500))]

    def known(state, digest):
        joins = sorted((r["user_id"], r["item_id"], r["request_id"], r["impression_ts"], r["emitted_ts"],
                        sorted(r["labels"].items()), sorted(r["label_ts"].items())) for r in exported(f, "samples", state))
        return joins, digest["counters"], digest["sequences"]

    seen = []
    for seed in range(3):
        parts = [text(wobble(random.Random(f"{seed} {p}"), part)) for p, part in enumerate(events)]
        state, summary = replayed(f, f"arrival {seed}", parts, "--flush")
        f.equal(summary["late"], 0, f"arrival {seed}: nothing is late")
        seen.append(known(state, summary["digest"]))
    f.check(len(seen[0][0]) > 300 and any(r[6] for r in seen[0][0]), "arrival: there are joins")
    f.check(seen[0] == seen[1] == seen[2], "arrival: another order in each partition, the same joins, counts and sequences")

    seen = []
    for seed in range(2):  # and live, another order between the partitions
        live, rng = Live(f, f"arrival-{seed}", 3), random.Random(seed)
        live.start()
        left = [list(part) for part in parts]
        while any(left):
            p = rng.choice([p for p in range(3) if left[p]])
            n = rng.randrange(50, 250)
            live.put(p, left[p][:n])
            del left[p][:n]
        f.equal(live.end()["late"], 0, f"arrival-{seed}: nothing is late")
        seen.append(known(live.state, live.digest()))
    f.check(seen[0] == seen[1], "arrival: another order between partitions, the same joins, counts and sequences")


# ---- (7) partitions without events, and all idle

def empty(f):
    log = Log(11)
    first, second, third = (log.on_time(0, 150, START + n * HOUR, HOUR - MINUTE) for n in range(3))
    new = log.on_time(3, 60, START + 3 * HOUR, HOUR)
    from_files(f, "empty files", [[], first + second, [], new])
    state, summary = replayed(f, "nothing at all", [[], []])
    f.equal((summary["watermark"], summary["messages"]), (None, 0), "nothing at all: no watermark")

    live = Live(f, "empty", 4)
    live.start()
    live.put(0, first)
    f.equal(f.status()["watermark"], None, "empty: no watermark before each partition has given an event")
    f.equal(f.status()["late"], 0, "empty: and nothing is late")
    live.put_with_kill(0, second)
    f.equal(f.status()["watermark"], None, "empty: nor after a kill")
    live.all_committed()
    live.kill()
    live.start("0s")
    live.all_idle()
    live.all_committed()
    live.kill()  # the idle ones are idle after it, too, or fall so again
    live.start("0s")
    live.all_idle()
    live.stop()
    live.start()  # idle ones stay so, until an event comes
    live.put_with_kill(0, third)
    live.watermark_is("partitions that are idle stay so over a restart")
    live.put_with_kill(3, new)
    live.watermark_is("the first event of a partition")
    f.equal(live.end()["late"], 0, "empty: nothing was late")


# ---- (8) a partition that brings nothing but what is for the DLQ

def only_bad(f):
    log = Log(12)
    first, second = (log.on_time(0, 150, START + n * HOUR, HOUR - MINUTE) for n in range(2))
    live = Live(f, "only-bad", 2)
    live.start("2s")
    live.put(0, first)

    def passed():  # such a message is never 2 s away
        live.bad(1, text([{"type": "none"}]))
        return f.status()["watermark"] == max(times(first)) - ORDER
    wait_until(passed, 60, "the watermark")
    live.twin.falls_idle(1)
    live.watermark_is("a partition that brings nothing but bad messages is idle")
    live.bad(1, text([{"type": "none"}]))
    live.put(0, second)
    live.watermark_is("and stays so")
    shown = {p["partition"]: (p["watermark"], p["idle"], p["lag"]) for p in f.status()["partitions"]}
    f.equal(shown[1], (None, True, 0), "only-bad: the status shows it")
    f.equal(shown[0][0], max(times(second)) - ORDER, "only-bad: and the watermark of the other one")
    live.daemon.stop()


CASES = (backlog, stopping, skewed_partitions, skewed_devices, jump, future, stuck, back, no_time, arrival, empty, only_bad)
TOPICS = {"backlog-kafka": 4, "burst": 4, "stopping": 2, "skewed-live": 3, "devices-live": 2, "jump-live": 2, "future": 1,
          "stuck-live": 2, "back-live": 2, "no-time-live": 2, "arrival-0": 3, "arrival-1": 3, "empty": 4,
          "only-bad": 2}


def main():
    f = Freshet()
    if not (shutil.which("kcat") or shutil.which("kafkacat")):
        print("skip  no kcat")
        sys.exit(77)
    f.start_broker("--partitions", "1", *(x for t, n in TOPICS.items() for x in ("--topic", f"{t}:{n}")))
    for case in CASES:
        if len(sys.argv) < 3 or case.__name__ in sys.argv[2:]:
            case(f)
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
