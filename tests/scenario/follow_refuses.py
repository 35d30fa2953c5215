#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# docs/DELTAS.md as a plain program (class Version), which reads what a daemon published and finds it as the page says; and
# the page's "What a consumer checks": versions with one wrong field, else whole and with right checks, are refused by
# `freshet follow` with a message that tells the way out, the copy stays as it was, and the way out is one. What only
# looks wrong (repetitions, a version that is begun again, the first format) is taken.
# argv[1]: the freshet binary.
import copy
import ctypes
import json
import os
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Freshet  # noqa: E402

CONFIG = {
    "tables": {"users": {"dim": 4, "rows": 2000}, "items": {"dim": 8, "rows": 3000}},
    "features": {"user_id": {"id": "user", "table": "users"}, "item_id": {"id": "item", "table": "items"},
                 "seen": {"count": "impression", "of": "item", "window": "1d", "bucketize": {"quantiles": 8}}},
    "models": {"ctr": {"net": [{"name": "deep", "mlp": [8], "of": ["user_id", "item_id", "seen"]}],
                       "heads": {"click": {"of": "deep"}}}},
    "join": {"window": "2m"}, "update": {"every": "2m", "bootstrap": {"samples": 3000}}, "publish": {"digest_every": 1}}
BEGIN, ROWS, DENSE, END, LEARNED = 1, 2, 3, 4, 5
HEAD = struct.Struct("<4sHBBQQQI")


class Digest(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


XXH = ctypes.CDLL("libxxhash.so.0")
XXH.XXH3_64bits.restype, XXH.XXH3_64bits.argtypes = ctypes.c_uint64, (ctypes.c_char_p, ctypes.c_size_t)
XXH.XXH3_128bits.restype, XXH.XXH3_128bits.argtypes = Digest, (ctypes.c_char_p, ctypes.c_size_t)


def check_of(payload):
    return struct.pack("<Q", XXH.XXH3_64bits(payload, len(payload)))


def digest_of(data):
    d = XXH.XXH3_128bits(data, len(data))
    return struct.pack("<QQ", d.low, d.high)


def name_of(text):
    assert len(text) < 128
    return bytes([len(text)]) + text.encode()


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        self.at += n
        assert self.at <= len(self.data)
        return self.data[self.at - n:self.at]

    def get(self, form):
        values = struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))
        return values if len(values) > 1 else values[0]

    def text(self):
        n = shift = 0
        while True:
            byte = self.get("B")
            n, shift = n | (byte & 127) << shift, shift + 7
            if byte < 128:
                return self.take(n).decode()

    def more(self):
        return self.at < len(self.data)


class Version:
    """A version's messages. bytes() makes them anew, with chunks, checks and the checksum as they must be, unless `forged`
    has a checksum."""

    def __init__(self, messages):
        heads = [HEAD.unpack(m[:HEAD.size]) for m in messages]
        self.format, (self.base, self.version, self.previous) = heads[0][1], heads[0][4:7]
        assert all(h == (b"FDLT", self.format, h[2], 0, *heads[0][4:7], i) for i, h in enumerate(heads))
        self.kinds = [h[2] for h in heads]
        self.payloads = [m[HEAD.size:] for m in messages]
        assert self.kinds[0] == BEGIN and self.kinds[-1] == END
        assert all(p[-8:] == check_of(p[:-8]) for p in (self.payloads[0], self.payloads[-1]))
        c = Cursor(self.payloads[0][:-8])
        self.boundary, self.through, self.dense, n = c.get("qQ16sH")
        self.tables = [(c.get("I"), c.text()) for _ in range(n)]
        c = Cursor(self.payloads[-1][:-8])
        self.rows, self.tombstones, self.checksum, n = c.get("QQ16sH")
        self.digests = [[c.text(), *c.get("16sQ")] for _ in range(n)]
        self.pieces = list(zip(self.kinds, self.payloads))[1:-1]
        self.forged = None

    def head(self, kind, chunk):
        return HEAD.pack(b"FDLT", self.format, kind, 0, self.base, self.version, self.previous, chunk)

    def bytes(self):
        begin = struct.pack("<qQ16sH", self.boundary, self.through, self.dense, len(self.tables))
        begin += b"".join(struct.pack("<I", dim) + name_of(name) for dim, name in self.tables)
        pieces = [self.head(kind, i + 1) + payload for i, (kind, payload) in enumerate(self.pieces)]
        end = struct.pack("<QQ16sH", self.rows, self.tombstones, self.forged or digest_of(b"".join(pieces)), len(self.digests))
        end += b"".join(name_of(name) + struct.pack("<16sQ", digest, rows) for name, digest, rows in self.digests)
        return [self.head(BEGIN, 0) + begin + check_of(begin), *pieces,
                self.head(END, len(pieces) + 1) + end + check_of(end)]

    def document(self, kind):
        return b"".join(payload for k, payload in self.pieces if k == kind)

    def each_row(self):
        """(name of the table, id, vector or None)."""
        for kind, payload in self.pieces:
            c = Cursor(payload if kind == ROWS else b"")
            while c.more():
                table, flags, id = c.get("HBQ")
                dim, name = self.tables[table]
                text = c.text()
                assert not text or XXH.XXH3_64bits(text.encode(), len(text.encode())) == id
                yield name, id, None if flags & 1 else c.take(4 * dim)

    def but(self, **fields):
        other = copy.deepcopy(self)
        for name, value in fields.items():
            setattr(other, name, value)
        return other

    def old(self):
        return self.but(format=1, pieces=[p for p in self.pieces if p[0] != LEARNED])


def tensors_digest(document):
    """Of the data of the tensors in their order."""
    n = struct.unpack("<Q", document[:8])[0]
    tensors = [t for name, t in json.loads(document[8:8 + n]).items() if name != "__metadata__"]
    return digest_of(b"".join(document[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]] for t in tensors))


def table_digest(rows):
    return digest_of(b"".join(struct.pack("<Q", id) + rows[id] for id in sorted(rows)))


def hexes(digest):
    return "%016x%016x" % struct.unpack("<QQ", digest)[::-1]


class Story:
    def __init__(self):
        self.f = f = Freshet()
        self.config = f.path("config.json")
        with open(self.config, "w") as to:
            json.dump(CONFIG, to)
        self.kcat = shutil.which("kcat") or "kafkacat"
        self.cases = 0
        self.copies = {}

    def publish(self):
        """What a daemon sends, by versions."""
        f = self.f
        f.simulate("--events", "9000", "--rate", "6", "--users", "100", "--seed", "5")
        daemon = f.start_daemon("-c", self.config, state="source")
        f.wait_ready()
        f.wait_settled()
        f.equal(daemon.stop(), 0, "the daemon stops")
        self.own = json.loads(f.run("digest", "-c", self.config, "--state", f.path("source")).stdout)
        log = Cursor(subprocess.run([self.kcat, "-C", "-q", "-b", f.broker, "-t", "freshet-deltas", "-o", "beginning", "-e",
                                     "-f", r"%S %s"], capture_output=True, check=True).stdout)
        messages = []
        while log.more():
            size = b""
            while not size.endswith(b" "):
                size += log.take(1)
            messages.append(log.take(int(size)))
        starts = [i for i, m in enumerate(messages) if m[6] == BEGIN] + [len(messages)]
        self.versions = [Version(messages[a:b]) for a, b in zip(starts, starts[1:])]
        self.messages = messages

    def topic(self, messages):
        self.cases += 1
        topic = f"case-{self.cases}"
        paths = [self.f.path(f"{topic}.{i}") for i in range(len(messages))]
        for path, message in zip(paths, messages):
            with open(path, "wb") as to:
                to.write(message)
        subprocess.run([self.kcat, "-P", "-b", self.f.broker, "-t", topic, "-p", "0", *paths], check=True)
        for path in paths:
            os.unlink(path)
        return topic

    def follow(self, topic, state, *more):
        return self.f.run("follow", "-c", self.config, "--set", f"publish.topic={topic}", "--state", self.f.path(state),
                          "-X", "fetch.wait.max.ms=10", "--digest", "--model", self.f.path("model"), *more)

    def stands(self, topic, state):
        """What the copy has, without reading on: its digests, and every byte of its model."""
        r = self.follow(topic, state, "--until", "0")
        with open(self.f.path("model"), "rb") as model:
            return r.returncode, r.stdout.splitlines()[-1], model.read()

    def upto(self, n):
        """A copy of the first n versions, and what it has."""
        state = f"upto-{n}"
        if n not in self.copies:
            r = self.follow("freshet-deltas", state, "--until", str(self.versions[n - 1].version))
            assert r.returncode == 0, r.stderr
            self.copies[n] = self.stands("freshet-deltas", state)
        new = f"copy-{self.cases}"
        shutil.rmtree(self.f.path(new), ignore_errors=True)
        shutil.copytree(self.f.path(state), self.f.path(new))
        return new, self.copies[n]

    def first(self, n):
        return [m for v in self.versions[:n] for m in v.bytes()]


def as_the_page_says(s):
    """Every version, with the checks of the page, and the tables that its rows make."""
    f = s.f
    f.equal([m for v in s.versions for m in v.bytes()], s.messages, f"{len(s.versions)} versions are laid out as the page says")
    tables, dense, good = {}, None, {"checksum": 0, "rows": 0, "dense": 0, "tables": 0}
    for v in s.versions:
        rows = list(v.each_row())
        good["checksum"] += v.checksum == digest_of(b"".join(v.head(k, i + 1) + p for i, (k, p) in enumerate(v.pieces)))
        good["rows"] += (v.rows, v.tombstones) == (sum(r[2] is not None for r in rows), sum(r[2] is None for r in rows))
        dense = tensors_digest(v.document(DENSE)) if v.document(DENSE) else dense
        good["dense"] += v.dense == dense
        good["tables"] += v.digests == [[name, table_digest(tables[name]), len(tables[name])]
                                        for _, name in v.tables if v.previous]  # of the version before
        for name, id, vector in rows:
            if vector is None:
                tables[name].pop(id, None)
            else:
                tables.setdefault(name, {})[id] = vector
    for what, n in good.items():
        f.equal(n, len(s.versions), f"{what}: as the version says, in each")
    f.equal({name: hexes(table_digest(rows)) for name, rows in tables.items()}, s.own["tables"], "the tables are the daemon's")
    f.equal(hexes(dense), s.own["dense"]["ctr"], "and the layers")
    f.equal(hexes(digest_of(s.versions[-1].document(LEARNED))), s.own["learned"], "and what was learned")


def anew(s, topic):
    """The way out."""
    r = s.follow(topic, f"new-{s.cases}", "--from", s.f.path("source"), "--once")
    told = json.loads(r.stdout.splitlines()[-1]) if r.returncode == 0 else r.stderr
    s.f.equal(told, {"version": s.own["version"], "tables": s.own["tables"], "dense": s.own["dense"]["ctr"],
                     "learned": s.own["learned"]}, "and a new one with --from has it all")


def refused(s, what, n, messages, *says, way_out=False):
    """A copy of n versions meets the messages."""
    f = s.f
    topic = s.topic(messages)
    state, before = s.upto(n) if n else (f"empty-{s.cases}", None)
    before = before or s.stands(topic, state)
    r = s.follow(topic, state, "--once")
    f.check(r.returncode == 1 and all(w in r.stderr for w in says), f"{what} is refused: {r.stderr.strip()[-300:]}")
    f.check(s.stands(topic, state) == before and before[0] == 0, "and the copy stays as it was")
    if way_out:
        anew(s, topic)


def refusals(s):
    f = s.f
    frozen = next(i for i, v in enumerate(s.versions) if i > 0 and not v.document(DENSE))
    dense = next(i for i, v in enumerate(s.versions) if i > 0 and v.document(DENSE))
    if not f.check(0 < dense < frozen < len(s.versions) - 1, "there are versions with layers, and then without"):
        return
    v, prefix = s.versions[frozen], s.first(frozen)
    name = f"version {v.version}"
    out = "begin a new copy with --from"

    def one(what, forged, *says, **more):
        refused(s, what, frozen, prefix + forged.bytes() + s.first(len(s.versions))[len(prefix) + len(v.kinds):], *says, **more)

    one("another digest of the layers that are there", v.but(dense=bytes(16)), "the dense layers of " + name, out)
    d = s.versions[dense]
    piece = next(i for i, p in enumerate(d.pieces) if p[0] == DENSE)
    changed = d.but()
    changed.pieces[piece] = (DENSE, d.pieces[piece][1][:-1] + bytes([d.pieces[piece][1][-1] ^ 1]))
    refused(s, "a bit of the layers that come", dense, s.first(dense) + changed.bytes(), f"the dense layers of version {d.version}", out)
    for table, column, value, kind in ((0, 1, bytes(16), "digest"), (1, 2, 1, "number of rows")):
        forged = v.but()
        forged.digests[table][column] = value
        one(f"another {kind} of a table", forged, "table " + v.digests[table][0], f"version {v.previous}", out)
    one("another checksum", v.but(forged=bytes(16)), name, "checksum", out, way_out=True)
    one("a row less than the end says", v.but(rows=v.rows + 1), name, f"{v.rows + 1}", out)
    one("a tombstone less than the end says", v.but(tombstones=v.tombstones + 3), name, f"{v.tombstones + 3}", out)
    one("a table of another dim", v.but(tables=[(3, v.tables[0][1]), *v.tables[1:]]), "table " + v.tables[0][1], "dim", out)
    without = v.bytes()
    del without[1]
    refused(s, "a version without a message", frozen, prefix + without, name, "piece 1 is missing", out)
    refused(s, "a gap", frozen, prefix + s.versions[frozen + 1].bytes(), f"version {v.version + 1} follows version {v.version}",
            f"stands at {v.previous}", out, way_out=True)
    refused(s, "a topic that has lost its beginning", 0, v.bytes(), f"{name} follows", "stands at 0", out)
    where = f"offset {len(prefix)}"
    one("another format", v.but(format=3), "format 3", "1 to 2", where)
    for at, what in ((0, "begin"), (-1, "end")):
        damaged = v.bytes()
        damaged[at] = damaged[at][:-1] + bytes([damaged[at][-1] ^ 1])
        after = s.first(len(s.versions))[len(prefix) + len(damaged):]
        refused(s, f"a damaged {what}", frozen, prefix + damaged + after, what.upper(), name, out, way_out=True)


def bases(s):
    """A topic in which the versions of a state follow those of another base."""
    f = s.f
    other = [v.but(base=v.base ^ 1) for v in s.versions[:2]]
    before = [m for v in other for m in v.bytes()]
    topic = s.topic(before + s.messages)
    r = s.follow(topic, "other", "--until", str(other[-1].version))
    f.equal(r.returncode, 0, f"a copy of the other base {r.stderr.strip()}")
    stood = s.stands(topic, "other")
    r = s.follow(topic, "other", "--once")
    base = s.versions[0].base
    f.check(r.returncode == 1 and all(w in r.stderr for w in (f"{base:016x}", f"{base ^ 1:016x}", "new copy with --from")),
            f"another base is refused: {r.stderr.strip()}")
    f.equal(s.stands(topic, "other"), stood, "and the copy stays as it was")
    anew(s, topic)
    r = s.follow(s.topic(before), "none", "--from", f.path("source"), "--once")
    f.check(r.returncode == 1 and "nothing of the copy's base" in r.stderr, f"no version of its base is told: {r.stderr.strip()}")


def taken(s):
    """The whole log with something that is no fault: the copy is the daemon's."""
    f = s.f
    n = len(s.versions) // 2
    wanted = s.upto(len(s.versions))[1]

    def takes(what, messages, wanted=wanted):
        topic = s.topic(messages)
        state = f"taken-{s.cases}"
        r = s.follow(topic, state, "--once")
        f.check(r.returncode == 0 and s.stands(topic, state) == wanted, f"{what} is taken {r.stderr.strip()}")

    before, after = s.first(n), s.first(len(s.versions))[len(s.first(n)):]
    takes("a version that comes again", before + s.versions[n - 1].bytes() + s.versions[0].bytes() + after)
    takes("a version that is begun again", before + s.versions[n].bytes()[:-1] + after)
    first = s.versions[0]
    takes("a first version that was begun of another base", first.but(base=first.base ^ 1).bytes()[:2] + before + after)
    old = [m for v in s.versions[:-1] for m in v.old().bytes()]
    takes("a log of the first format that the second goes on with", old + s.versions[-1].bytes())
    takes("one of the first format after the second, which says nothing of what was learned,",
          s.first(len(s.versions) - 1) + s.versions[-1].old().bytes())
    topic = s.topic(old + s.versions[-1].old().bytes())
    told = json.loads(s.follow(topic, "old", "--once").stdout.splitlines()[-1])
    f.equal(told, {"version": s.own["version"], "tables": s.own["tables"], "dense": s.own["dense"]["ctr"],
                   "learned": hexes(digest_of(b""))}, "a log of the first format brings rows and layers, and nothing learned")


def directories(s):
    f = s.f
    copied, stood = s.upto(2)
    r = s.follow("freshet-deltas", copied, "--from", f.path("source"))
    f.check(r.returncode == 1 and "holds a copy already" in r.stderr and "new --state" in r.stderr,
            f"no --from over a copy: {r.stderr.strip()}")
    r = s.follow("freshet-deltas", "nothing", "--from", f.path(copied))
    f.check(r.returncode == 1 and "no state" in r.stderr, f"nor --from one: {r.stderr.strip()}")
    r = f.run("replay", "-c", s.config, "--state", f.path(copied), "--events", "/dev/null")
    f.check(r.returncode == 1 and "no state" in r.stderr, f"nor is it a state: {r.stderr.strip()}")
    f.equal(s.stands("freshet-deltas", copied), stood, "after all of them it stays as it was")
    r = s.follow("freshet-deltas", "source", "--once")
    f.check(r.returncode == 1 and "directory of its own" in r.stderr, f"no copy in a daemon's directory: {r.stderr.strip()}")
    r = f.run("digest", "-c", s.config, "--state", f.path("source"))
    f.equal(json.loads(r.stdout or "{}"), s.own, "which stays as it was")


def main():
    if not (shutil.which("kcat") or shutil.which("kafkacat")):
        print("kcat is not there: nothing brings these versions to a broker")
        return 77
    s = Story()
    s.f.start_broker("--partitions", "1")
    s.publish()
    as_the_page_says(s)
    refusals(s)
    bases(s)
    taken(s)
    directories(s)
    return s.f.summary()


if __name__ == "__main__":
    sys.exit(main())
