#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# A model goes out as safetensors and comes back: what was exported is what is imported, byte by byte; an import is a
# version as any other, which followers take; what does not fit is refused with its name, and nothing has changed.
# argv[1]: the freshet binary.
import array
import json
import os
import shutil
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from harness import Freshet, wait_until  # noqa: E402

CONFIG = {"tables": {"users": {"rows": 2000}, "items": {"rows": 2000, "expire": "1d"}},
          "features": {"user_id": {"id": "user", "table": "users"}, "item_id": {"id": "item", "table": "items"},
                       "clicks": {"sequence": "click", "last": 20, "table": "items"},
                       "ctr": {"rate": "click/impression", "of": "item", "window": "1h"}},
          "models": {"ctr": {"preset": "din", "with": {"widths": [32, 16], "attention": [8]}}},
          "update": {"every": "5m", "bootstrap": {"samples": 3000}},
          "publish": {"digest_every": 1}}


class File:
    """A safetensors file in plain Python: {name: [type, shape, bytes]}."""

    def __init__(self, path):
        with open(path, "rb") as file:
            data = file.read()
        length, = struct.unpack("<Q", data[:8])
        header = json.loads(data[8:8 + length])
        self.notes = header.pop("__metadata__", {})
        self.tensors = {}
        for name, about in header.items():
            begin, end = (8 + length + x for x in about["data_offsets"])
            self.tensors[name] = [about["dtype"], about["shape"], data[begin:end]]

    def numbers(self, name, code="f"):
        return array.array(code, self.tensors[name][2])

    def put(self, name, values, code="f"):
        self.tensors[name][2] = array.array(code, values).tobytes()

    def write(self, path):
        header, at = {}, 0
        for name, (kind, shape, data) in self.tensors.items():
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(data)]}
            at += len(data)
        text = json.dumps(header).encode()
        with open(path, "wb") as to:
            to.write(struct.pack("<Q", len(text)) + text + b"".join(t[2] for t in self.tensors.values()))
        return path


class Story:
    def __init__(self):
        self.f = Freshet()
        self.config = self.f.path("config.json")
        with open(self.config, "w") as to:
            json.dump(CONFIG, to)
        self.lines = self.f.run("simulate", "--events", "12000", "--rate", "10", "--users", "150",
                                "--seed", "7").stdout.splitlines(keepends=True)

    def run(self, *args, **more):
        r = self.f.run(args[0], "-c", self.config, *args[1:], **more)
        if r.returncode:
            raise RuntimeError(f"{args}: {r.stderr}")
        return r.stdout

    def replay(self, state, lines):
        return json.loads(self.run("replay", "--events", "-", "--state", self.f.path(state),
                                   input="".join(lines)))

    def digest(self, state):
        return json.loads(self.run("digest", "--state", self.f.path(state)))

    def model(self, state, *more):
        path = self.f.path(state + ".safetensors")
        self.run("export", "model", "--state", self.f.path(state), "--out", path, *more)
        return File(path)

    def put(self, state, file, *more):
        path = file.write(self.f.path("put.safetensors")) if isinstance(file, File) else file
        return json.loads(self.run("import", "model", "--state", self.f.path(state), "--from", path, *more))

    def predictions(self, state):
        text = self.run("export", "predictions", "--state", self.f.path(state))
        return [json.loads(line)["predictions"]["click"] for line in text.splitlines()]

    def copy(self, old, new):
        shutil.copytree(self.f.path(old), self.f.path(new))


MODEL = ("tables", "optimizer", "dense")


def there_and_back(s):
    f = s.f
    s.replay("state", s.lines[:len(s.lines) * 3 // 4])
    before, file = s.digest("state"), s.model("state")
    f.equal(file.notes["version"], str(before["version"]), "the file says of which version it is")
    s.copy("state", "again")
    said = s.put("again", file)
    after = s.digest("again")
    f.equal(said["version"], before["version"] + 1, "an import is the next version")
    f.equal({k: after[k] for k in MODEL}, {k: before[k] for k in MODEL}, "it is what was exported, optimizer and all")
    f.equal(s.model("again").tensors, file.tensors, "and is exported again, byte by byte")
    s.copy("again", "twice")
    one, two, plain = (s.replay(state, s.lines) for state in ("again", "twice", "state"))
    f.equal(one["digest"], two["digest"], "training goes on from it, twice the same")
    f.equal(one["digest"]["tables"], plain["digest"]["tables"], "and as it would have without")
    return file


def elsewhere(s, file):
    """Into a state that has never seen an event."""
    f = s.f
    said = s.put("empty", file)
    digest = s.digest("empty")
    f.equal((said["version"], digest["version"]), (1, 1), "an empty state begins with it")
    s.copy("empty", "early")
    begun = s.digest("again")
    f.check(digest["tables"].keys() == begun["tables"].keys(), "with all tables")
    again = s.model("empty")
    f.equal(again.tensors, file.tensors, "and holds every byte of it")


def changed(s):
    """One bias and one row: exactly what was changed is other than before."""
    f = s.f
    file, before = s.model("twice"), s.predictions("twice")
    file.put("click.bias", [file.numbers("click.bias")[0] + 1])
    for part in ("accum", "count", "last_seen"):
        del file.tensors[f"tables.users.{part}"]
    for name in [name for name in file.tensors if name.startswith("tables.items.")]:
        del file.tensors[name]
    file.tensors["top.bn.num_batches_tracked"] = ["I64", [], struct.pack("<q", 3)]
    old = s.digest("twice")
    said = s.put("twice", file)
    new, after = s.digest("twice"), s.predictions("twice")
    f.equal(said["ignored"], 1, "PyTorch's count of batches is passed over, and counted")
    f.equal(new["tables"], old["tables"], "the tables are what they were")
    f.equal(new["optimizer"], old["optimizer"], "what the file does not say of a row stays")
    f.check(new["dense"] != old["dense"], "the dense layers are not")
    odds = [(q / (1 - q)) / (p / (1 - p)) for p, q in zip(before, after) if 0.01 < p < 0.9]
    f.check(len(odds) > 100 and all(abs(x / 2.718281828 - 1) < 1e-4 for x in odds),
            f"every one of {len(odds)} predictions has e times the odds")
    initial = s.model("twice", "--initial")
    f.check(all(set(initial.numbers(f"tables.{t}.accum")) <= {0.0} for t in ("users", "items")) and
            initial.numbers("click.weight") != file.numbers("click.weight"), "--initial is before any training")


# ---- what does not fit

def refused(s, what, file, *says):
    path = file.write(s.f.path("bad.safetensors")) if isinstance(file, File) else file
    r = s.f.run("import", "model", "-c", s.config, "--state", s.f.path("state"), "--from", path)
    s.f.check(r.returncode == 1 and all(w in r.stderr for w in says), f"{what}: {r.stderr.strip()}")


def bad_files(s):
    f = s.f
    before = s.digest("state")

    def of(change):
        file = s.model("state")
        change(file)
        return file

    def set_to(name, at, value, code="f"):
        def change(file):
            numbers = file.numbers(name, code)
            numbers[at] = value
            file.put(name, numbers, code)
        return change

    def retyped(file):
        file.tensors["top.0.bias"] = ["F64", [32], bytes(256)]

    def reshaped(file):
        kind, (rows, columns), data = file.tensors["top.2.weight"]
        file.tensors["top.2.weight"] = [kind, [columns, rows], data]

    def half(file):
        kind, (n, dim), data = file.tensors["tables.items.weight"]
        file.tensors["tables.items.weight"] = [kind, [n - 1, dim], data[:-4 * dim]]

    def renamed(file):
        file.tensors["top.0.wieght"] = file.tensors["top.0.weight"]

    def twice(file):
        ids = file.numbers("tables.users.ids", "q")
        ids[1] = ids[0]
        file.put("tables.users.ids", ids, "q")

    def many(file):
        n = 2500
        file.tensors = {"tables.users.ids": ["I64", [n], array.array("q", range(1, n + 1)).tobytes()],
                        "tables.users.weight": ["F32", [n, 16], bytes(64 * n)]}

    refused(s, "another type", of(retyped), '"top.0.bias"', "F32", "F64")
    refused(s, "another shape", of(reshaped), '"top.2.weight"', "(16, 32)", "(32, 16)")
    refused(s, "NaN", of(set_to("top.0.weight", 5, float("nan"))), '"top.0.weight"', "NaN", "place 5")
    refused(s, "infinity in a row", of(set_to("tables.items.weight", 17, float("inf"))), '"tables.items.weight"')
    refused(s, "a vector too few", of(half), "tables.items")
    refused(s, "an accumulator below 0", of(set_to("tables.users.accum", 3, -1.0)), "tables.users.accum", "below 0")
    refused(s, "an id that is none", of(set_to("tables.users.ids", 0, 0, "q")), "tables.users.ids")
    refused(s, "an id twice", of(twice), "twice")
    refused(s, "a layer is missing", of(lambda file: file.tensors.pop("click.bias")), '"click.bias"', "missing")
    refused(s, "a tensor too many", of(renamed), '"top.0.wieght"', 'did you mean "top.0.weight"')
    f.run("export", "table", "items", "-c", s.config, "--state", f.path("state"), "--out", f.path("rows"))
    refused(s, "a table alone", f.path("rows"), '"weight"', "tables.NAME.ids")
    refused(s, "ids without vectors", of(lambda file: file.tensors.pop("tables.items.weight")), "tables.items.weight")
    refused(s, "more rows than there is room for", of(many), "tables.users.rows")
    refused(s, "nothing of the model", of(lambda file: file.tensors.clear()), "no tensor")
    refused(s, "rows far too large", of(set_to("tables.users.weight", 0, 1e30)), "brake")
    for what, data in (("an empty file", b""), ("no safetensors", b"x" * 100), ("a header of nonsense", b"\5" + bytes(7) + b"abcde"),
                       ("a header that ends nowhere", struct.pack("<Q", 2 ** 63) + b"{}"),
                       ("a header that is no object", struct.pack("<Q", 2) + b"[]")):
        with open(f.path("raw"), "wb") as to:
            to.write(data)
        refused(s, what, f.path("raw"), "raw")
    with open(s.model("state").write(f.path("whole")), "rb") as file:
        data = file.read()
    with open(f.path("cut"), "wb") as to:
        to.write(data[:-10])
    refused(s, "a file that is cut short", f.path("cut"), "cut short")
    refused(s, "no file", f.path("nothing"), "nothing")
    f.equal(s.digest("state"), before, "after all of them the state is as it was")
    r = f.run("import", "model", "-c", s.config)
    f.equal(r.returncode, 2, "--from is needed")
    file = s.model("state")
    del file.tensors["tables.items.last_seen"]
    r = f.run("import", "model", "-c", s.config, "--state", f.path("void"), "--from", file.write(f.path("v")))
    f.check(r.returncode == 1 and "--at" in r.stderr, f"rows that nobody has seen: {r.stderr.strip()}")
    f.equal(s.put("void", file, "--at", "2026-01-01T01:00:00Z")["version"], 1, "--at says when")


# ---- kills

def killed(s, file):
    """At each step an import is all of the version or nothing of it."""
    f, shim = s.f, os.path.join(os.path.dirname(s.f.binary), "libcrash_shim.so")
    if not os.path.exists(shim):
        print(f"no kills: {shim} is not there", flush=True)
        return
    file.put("click.bias", [0.75])
    path = file.write(f.path("killed.safetensors"))
    old = s.digest("state")
    s.copy("state", "unharmed")
    s.put("unharmed", path)
    new = s.digest("unharmed")
    for step, left in (("update.record", old), ("update.recorded", old), ("commit.write", old), ("commit.ingest", old),
                       ("commit.durable", new), ("update.apply", new)):
        state = "killed-" + step
        s.copy("state", state)
        r = f.run("import", "model", "-c", s.config, "--state", f.path(state), "--from", path,
                  env={"LD_PRELOAD": shim, "CRASH_DIR": f.path(state), "CRASH_LOG": f.path("crash.log"),
                       "CRASH_PLAN": f"on=step,name={step},at=1,do=kill"})
        f.equal((r.returncode, s.digest(state)), (-9, left), f"killed at {step}: {'old' if left == old else 'new'}")
        s.put(state, path)
        f.equal({k: s.digest(state)[k] for k in MODEL}, {k: new[k] for k in MODEL}, "and once more")


# ---- followers

def followed(s, file):
    """Versions of an import reach the delta topic when the daemon runs again; dense layers and rows."""
    f = s.f
    f.start_broker()

    def through_daemon(version):
        daemon = f.start_daemon("-c", s.config, state="served")
        wait_until(lambda: f.status()["version"] == version, 30, f"version {version}")
        r = f.run("import", "model", "-c", s.config, "--state", f.path("served"), "--from", f.path("p"))
        f.check(r.returncode == 1 and "served" in r.stderr, f"while a daemon holds the state: {r.stderr.strip()}")
        f.equal(daemon.stop(), 0, "the daemon stops")
        r = f.run("follow", "-c", s.config, "--state", f.path("copy"), "--until", str(version), "--digest")
        told = json.loads(r.stdout.splitlines()[-1])
        own = s.digest("served")
        f.equal((told["version"], told["tables"], told["dense"]),
                (version, own["tables"], own["dense"]["ctr"]), f"a follower has version {version}")

    file.write(f.path("p"))
    s.put("served", file)
    through_daemon(1)
    numbers = file.numbers("tables.items.weight")
    numbers[3] += 0.5
    file.put("tables.items.weight", numbers)
    file.put("click.bias", [0.25])
    s.put("served", file)
    s.put("served", file)
    through_daemon(3)


def main():
    s = Story()
    file = there_and_back(s)
    elsewhere(s, file)
    changed(s)
    bad_files(s)
    killed(s, s.model("state"))
    followed(s, file)
    return s.f.summary()


if __name__ == "__main__":
    sys.exit(main())
