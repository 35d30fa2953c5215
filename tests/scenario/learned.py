#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# What the stream taught beside rows and dense layers (edges of quantiles, means by length) goes with a version wherever
# the version goes: a follower that took the deltas scores to the byte as their source does, also after kill -9 of
# either, from a snapshot, and through export and import.
# argv[1]: the freshet binary.
import array
import json
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from harness import Freshet  # noqa: E402
from interchange import File  # noqa: E402

ITEMS = [f"i{i}" for i in range(1, 60)]
CONFIG = {
    "tables": {"users": {"rows": 2000}, "items": {"rows": 3000, "admit": 2}},
    "features": {"user_id": {"id": "user", "table": "users"}, "item_id": {"id": "item", "table": "items"},
                 "duration": {"number": "context.duration"},
                 "seen": {"count": "impression", "of": "item", "window": "1d", "bucketize": {"quantiles": 8}},
                 "rate": {"rate": "click/impression", "of": "item", "window": "1d", "bucketize": {"quantiles": 5}},
                 "never": {"number": "context.nothing", "bucketize": {"quantiles": 4}}},
    "join": {"window": "2m", "keep_negatives": {"click": 0.6, "watch": 1}},
    "models": {"ctr": {"net": [{"name": "deep", "mlp": [16, 8], "norm": "batch",
                                "of": ["user_id", "item_id", "seen", "rate", "never"]}],
                       "heads": {"click": {"of": "deep"},
                                 "share": {"of": "deep", "label": "watch", "loss": "fraction", "length": "duration"}},
                       "score": "click ^ 0.5 * share / norm_share"}},
    "update": {"every": "5m", "bootstrap": {"samples": 2000}}}


class Story:
    def __init__(self):
        self.f = f = Freshet()
        self.config = f.path("config.json")
        with open(self.config, "w") as to:
            json.dump(CONFIG, to)
        text = f.run("simulate", "--events", "12000", "--rate", "6", "--users", "100", "--seed", "11").stdout
        self.lines = [self.lengthened(json.loads(line)) for line in text.splitlines()]

    def lengthened(self, event):
        """The event, with a length but for some of which nobody knows it."""
        number = event["timestamp"] // 1000
        if number % 13:
            event.setdefault("context", {})["duration"] = 200 * 2 ** (number % 12) + 7 * number
        return json.dumps(event) + "\n"

    def run(self, *args, **more):
        r = self.f.run(args[0], "-c", self.config, *args[1:], **more)
        if r.returncode:
            raise RuntimeError(f"{args}: {r.stderr}")
        return r.stdout

    def replay(self, state, lines, *more, env=None, fails=False):
        with open(self.f.path("events.jsonl"), "w") as to:
            to.writelines(lines)
        r = self.f.run("replay", "-c", self.config, "--events", self.f.path("events.jsonl"), "--state", self.f.path(state), *more, env=env)
        if (r.returncode != 0) != fails:
            raise RuntimeError(f"replay: {r.returncode} {r.stderr}")
        return r

    def scores(self, state):
        """Bytes of an answer but for the number of the version, which an import counts anew."""
        answers = [self.run("rank", "u7", "--items", ",".join(ITEMS), "--at", "2026-01-01T03:00:00Z", "--json",
                            "--context", json.dumps({"duration": length}), "--state", self.f.path(state))
                   for length in (300, 9000)]
        return re.sub(r'"version":\d+', '"version":0', "".join(answers))

    def digest(self, state):
        return json.loads(self.run("digest", "--state", self.f.path(state)))

    def copy(self, old, new):
        shutil.rmtree(self.f.path(new), ignore_errors=True)
        shutil.copytree(self.f.path(old), self.f.path(new))
        return new

    def crash(self, state, step):
        shim = os.path.join(os.path.dirname(self.f.binary), "libcrash_shim.so")
        return {"LD_PRELOAD": shim, "CRASH_DIR": self.f.path(state), "CRASH_LOG": self.f.path("crash.log"),
                "CRASH_PLAN": f"on=step,name={step},at=1,do=kill"}

    def can_crash(self):
        return os.path.exists(os.path.join(os.path.dirname(self.f.binary), "libcrash_shim.so"))

    def source(self, lines, step):
        """The daemon takes what is new, dies once at the step, and has it all in the end."""
        f = self.f
        kcat = [shutil.which("kcat") or "kafkacat", "-P", "-b", f.broker, "-t", "events", "-p", "0", "-K", "\t"]
        subprocess.run(kcat, input="".join(f"u\t{line}" for line in lines[f.sent:]), text=True, check=True)
        f.sent = len(lines)
        if step and self.can_crash():
            killed = f.start_daemon("-c", self.config, state="source", wait=False, env=self.crash("source", step))
            f.equal(killed.wait(60), -9, f"the daemon is killed at {step}")
        daemon = f.start_daemon("-c", self.config, state="source")
        f.wait_ready()
        f.wait_settled()
        f.equal(daemon.stop(), 0, "the daemon stops")

    def follow(self, *more, state="copy", env=None, model="model.safetensors"):
        return self.f.run("follow", "-c", self.config, "--state", self.f.path(state), "--once", "--digest",
                          "--model", self.f.path(model), *more, env=env)

    def untaught(self, state, lines):
        """The same users and items, and a model that has seen no sample."""
        self.replay(state, lines, "--set", "update.enabled=false")
        return state

    def imported(self, state, file):
        path = file.write(self.f.path("put.safetensors")) if isinstance(file, File) else self.f.path(file)
        return self.run("import", "model", "--state", self.f.path(state), "--from", path)


def deltas(s):
    """Version by version: the follower's model in another state scores as the source does."""
    f = s.f
    for part, (share, step) in enumerate(((0.4, None), (0.7, "update.recorded"), (1.0, "commit.durable"))):
        lines = s.lines[:int(len(s.lines) * share)]
        s.source(lines, step)
        own = s.digest("source")
        r = s.follow()
        f.equal(r.returncode, 0, f"the follower follows {r.stderr.strip()}")
        told = json.loads(r.stdout.splitlines()[-1])
        f.equal({k: told[k] for k in ("version", "tables", "dense", "learned")},
                {"version": own["version"], "tables": own["tables"], "dense": own["dense"]["ctr"],
                 "learned": own["learned"]}, f"it has version {own['version']}, tables, layers and what was learned")
        state = s.untaught(f"other-{part}", lines)
        wanted, before = s.scores("source"), s.scores(state)
        s.imported(state, "model.safetensors")
        f.check(s.scores(state) == wanted != before, f"and its scores, byte by byte, after {own['version']} versions")
        f.equal(s.digest(state)["learned"], own["learned"], "what was learned is in the state")
    return wanted


def each_matters(s, wanted):
    """Without edges, or without means, the scores are others: so it is these that the delta brought."""
    f = s.f
    for prefix in ("quantiles.", "norms.share.duration."):
        file = File(f.path("model.safetensors"))
        gone = [name for name in file.tensors if name.startswith(prefix)]
        f.check(len(gone) == 2, f"{gone} are there, and nothing of what was never seen")
        for name in gone:
            del file.tensors[name]
        state = s.untaught("less-" + prefix, s.lines)
        s.imported(state, file)
        f.check(s.scores(state) != wanted, f"without {prefix} other scores")


def snapshot(s, wanted):
    """A follower that begins with a state, and takes the next version from the topic."""
    f = s.f
    r = s.follow("--from", f.path("source"), state="from", model="from.safetensors")
    f.equal(r.returncode, 0, f"from a snapshot {r.stderr.strip()}")
    state = s.untaught("other-from", s.lines)
    s.imported(state, "from.safetensors")
    f.check(s.scores(state) == wanted, "a snapshot scores as the state that it is of")
    own = s.digest("source")
    s.run("export", "model", "--state", f.path("source"), "--out", f.path("whole.safetensors"))
    state = s.untaught("other-export", s.lines)
    s.imported(state, "whole.safetensors")
    f.check(s.scores(state) == wanted, "export and import score as the state that was exported")
    f.equal({k: s.digest(state)[k] for k in ("tables", "dense", "learned")},
            {k: own[k] for k in ("tables", "dense", "learned")}, "with the same digests")


def killed(s):
    f = s.f
    if not s.can_crash():
        print("no kills: the shim is not there", flush=True)
        return
    half = s.lines[:len(s.lines) // 2]
    s.replay("whole", half)
    s.replay("whole", s.lines)
    wanted, right = s.digest("whole"), s.scores("whole")
    s.replay("half", half)
    for step in ("update.record", "update.recorded", "commit.write", "commit.ingest", "commit.durable", "update.apply"):
        state = s.copy("half", "killed")
        s.replay(state, s.lines, env=s.crash(state, step), fails=True)
        s.replay(state, s.lines)
        f.check(s.digest(state) == wanted and s.scores(state) == right, f"the source, killed at {step}, is as if it was not")
    whole = s.follow(state="unharmed")
    for step in ("commit.write", "commit.ingest", "commit.durable"):
        copy = "copy-" + step
        r = s.follow(state=copy, env=s.crash(copy, step))
        f.equal(r.returncode, -9, f"the follower is killed at {step}")
        r = s.follow(state=copy, model="killed.safetensors")
        same = File(f.path("killed.safetensors")).tensors == File(f.path("model.safetensors")).tensors
        f.check(r.stdout.splitlines()[-1] == whole.stdout.splitlines()[-1] and same, "and then has it all")


def refused(s):
    f = s.f

    def bad(what, change, *says):
        file = File(f.path("whole.safetensors"))
        change(file.tensors)
        r = f.run("import", "model", "-c", s.config, "--state", f.path("source"), "--from",
                  file.write(f.path("bad.safetensors")))
        f.check(r.returncode == 1 and all(w in r.stderr for w in says), f"{what}: {r.stderr.strip()}")

    def numbers(name, change):
        def of(tensors):
            values = array.array("d", tensors[name][2])
            change(values)
            tensors[name][2] = values.tobytes()
        return of

    before = s.digest("source")
    edges, sums, samples = "quantiles.rate.5", "norms.share.duration.sum", "norms.share.duration.samples"
    bad("edges that do not ascend", numbers(edges, lambda v: v.reverse()), edges, "ascend")
    bad("an edge that is no number", numbers(edges, lambda v: v.__setitem__(0, float("nan"))), edges, "NaN")
    bad("too many edges", lambda t: t.__setitem__(edges, ["F64", [5], array.array("d", range(5)).tobytes()]), edges, "(4)")
    bad("floats", lambda t: t.__setitem__(edges, ["F32", [3], array.array("f", range(3)).tobytes()]), edges, "F64")
    bad("edges of another number of buckets", lambda t: t.__setitem__("quantiles.rate.6", t.pop(edges)), "quantiles.rate.6")
    bad("sums without samples", lambda t: t.pop(samples), samples, "missing")
    bad("fewer than no samples", numbers(samples, lambda v: v.__setitem__(3, -1.0)), samples, "place 3")
    bad("an endless sum", numbers(sums, lambda v: v.__setitem__(3, float("inf"))), sums, "infinity")
    f.equal(s.digest("source"), before, "after all of them the state is as it was")


def main():
    if not (shutil.which("kcat") or shutil.which("kafkacat")):
        print("kcat is not there: nothing brings these events to a broker")
        return 77
    s = Story()
    s.f.start_broker("--partitions", "1")
    wanted = deltas(s)
    each_matters(s, wanted)
    snapshot(s, wanted)
    refused(s)
    killed(s)
    return s.f.summary()


if __name__ == "__main__":
    sys.exit(main())
