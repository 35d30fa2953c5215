#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# A brake stops an update whole: no version, no byte of the model, no delta; its samples are logged and never trained on, as if
# training had been off for so long. Each brake by name, and a daemon whose operator sees it, relaxes it and reloads.
# argv[1]: the freshet binary.
import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Freshet  # noqa: E402
from interchange import File  # noqa: E402

CONFIG = {
    "features": {"user_id": {"id": "user", "table": "users"}, "item_id": {"id": "item", "table": "items"},
                 "seen": {"count": "impression", "of": "item", "window": "1h", "bucketize": {"quantiles": 8}},
                 "duration": {"number": "context.duration", "missing": 30}},
    "tables": {"users": {"dim": 4, "rows": 2000}, "items": {"dim": 4, "rows": 2000}},
    "models": {"ctr": {"net": [{"name": "deep", "mlp": [8], "of": ["user_id", "item_id", "seen"]}],
                       "heads": {"click": {"of": "deep"},
                                 "share": {"of": "deep", "label": "watch", "loss": "fraction", "length": "duration"}},
                       "score": "click * share / norm_share"}},
    "join": {"window": "2m"}, "publish": {"digest_every": 1},
    "update": {"every": "2m", "bootstrap": {"samples": 1500}, "dense": {"optimizer": "adam"}, "brakes": {"min_samples": 1}}}
MODEL = "tables", "optimizer", "dense", "learned", "version"


class Story:
    def __init__(self):
        self.f = f = Freshet()
        self.lines = f.run("simulate", "--events", "12000", "--rate", "6", "--users", "100", "--seed", "3").stdout.splitlines(True)

    def config(self, brakes=None):
        config = json.loads(json.dumps(CONFIG))
        config["update"]["brakes"].update(brakes or {})
        path = self.f.path("config.json")
        with open(path, "w") as to:
            json.dump(config, to)
        return path

    def upto(self, n):
        """The log to the end of its n-th third."""
        return self.lines[:(n + 1) * len(self.lines) // 3]

    def replay(self, state, n, *more, brakes=None):
        r = self.f.run("replay", "-c", self.config(brakes), "--state", self.f.path(state), "--events", "-",
                       *more, input="".join(self.upto(n)))
        if r.returncode:
            raise RuntimeError(r.stderr)
        return json.loads(r.stdout), r.stderr

    def digest(self, state):
        return json.loads(self.f.run("digest", "-c", self.config(), "--state", self.f.path(state)).stdout)

    def copy(self, old, new):
        shutil.copytree(self.f.path(old), self.f.path(new))
        return new


def stops(s, state, what, name, brakes):
    """All updates of the second third."""
    f = s.f
    before = s.digest(state)
    told, log = s.replay(state, 1, brakes=brakes)
    stopped = told["updates_stopped"]
    f.check(stopped > 2 and told["version"] == before["version"] and
            len(re.findall(f"stopped by a brake.*brake={name} ", log)) == stopped, f"{what} stops {stopped} updates by its name")
    now = s.digest(state)
    f.check(all(now[k] == before[k] for k in MODEL) and now["samples"] != before["samples"], "the model stays, the samples come")


def endless(s):
    """Layers that are finite, from which no update is: stopped with every other brake off."""
    f = s.f
    s.copy("begun", "endless")
    model = f.path("model.safetensors")
    f.run("export", "model", "-c", s.config(), "--state", f.path("endless"), "--out", model)
    file = File(model)
    for name in (name for name in file.tensors if name.startswith("deep.") and name.endswith("weight")):
        file.put(name, (1e25 * x for x in file.numbers(name)))
    file.write(model)
    r = f.run("import", "model", "-c", s.config(), "--state", f.path("endless"), "--from", model)
    f.equal(r.returncode, 0, f"layers that are large {r.stderr.strip()}")
    stops(s, "endless", "infinity", "finite", {"row_norm_max": 0})


def each(s):
    """Every brake, from a state that has been trained and frozen: the model is what it was, and then that of one
    that was switched off."""
    f = s.f
    begun = s.replay("begun", 0)[0]
    f.check(begun["version"] > 1 and begun["updates_stopped"] == 0, f"{begun['version']} versions before")
    off, _ = s.replay(s.copy("begun", "off"), 1, "--set", "update.enabled=false")
    after, _ = s.replay("off", 2)
    f.check(after["version"] > off["version"] == begun["version"], "a pause, and then versions again")
    wanted = s.digest("off")
    for n, (what, name, brakes) in enumerate((("a row's norm", "row_norm", {"row_norm_max": 1e-6}),
                                              ("NE", "ne", {"ne_max": 0.01}),
                                              ("too low a calibration", "calibration", {"calibration_min": 100}),
                                              ("too high a calibration", "calibration", {"calibration_max": 1e-6}))):
        state = s.copy("begun", f"by-{n}")
        stops(s, state, what, name, brakes)
        told, _ = s.replay(state, 2)
        f.check(told["updates"] == after["updates"] - off["updates"] + begun["updates"] + told["updates_stopped"] and
                s.digest(state) == wanted, "and it goes on as one that was switched off")
    state = s.copy("begun", "judged")
    told, _ = s.replay(state, 1, "--set", "update.brakes.min_samples=1M", brakes={"ne_max": 0.01})
    f.check(told["updates_stopped"] == 0 and told["version"] > begun["version"], "windows of too few samples are not judged by metrics")


def first(s):
    """A state whose first updates are stopped is one that has no version yet: what is learned once is learned later."""
    f = s.f
    told, _ = s.replay("first", 0, brakes={"row_norm_max": 1e-6})
    s.replay("none", 0, "--set", "update.enabled=false")
    f.check(told["version"] == 0 and told["updates_stopped"] > 2, "no version at all")
    bootstrap, _ = s.replay("bootstrap", 0, brakes={"ne_max": 0.01})
    f.check(0 < bootstrap["version"] < bootstrap["version"] + bootstrap["updates_stopped"] == bootstrap["updates"],
            f"the first {bootstrap['version']}, until the dense layers freeze, are not judged by metrics")
    f.equal(s.digest("first"), s.digest("none"), "is a state that was never trained")
    s.replay("first", 1)
    s.replay("none", 1)
    f.check(s.digest("first") == s.digest("none") and s.digest("first")["version"] > 0, "and is trained as one")


def daemon(s):
    """What an operator sees and does; followers miss nothing."""
    f = s.f
    kcat = [shutil.which("kcat") or "kafkacat", "-P", "-b", f.broker, "-t", "events", "-p", "0", "-K", "\t"]

    def send(n):
        lines = s.upto(n)
        subprocess.run(kcat, input="".join(f"u\t{line}" for line in lines[f.sent:]), text=True, check=True)
        f.sent = len(lines)
        f.wait_settled()
        return f.status()

    config = s.config()
    d = f.start_daemon("-c", config)
    good = send(0)
    score = {"user_id": "u7", "items": ["i1", "i2"], "timestamp": 1767230000000}
    s.config({"ne_max": 0.01})
    f.equal(f.post("/v1/reload").status, 200, "a brake is set by a reload")
    bad = send(1)
    f.check(bad["version"] == good["version"] > 0 and bad["updates_stopped"] > 2, f"{bad['updates_stopped']} updates are stopped")
    f.check("brake=ne " in d.stderr() and "the served version stays" in d.stderr(), "the log tells by what")
    stopped = re.search(r"^freshet_updates_stopped_total (\d+)", f.get("/metrics").text, re.M)
    f.equal(int(stopped[1]), bad["updates_stopped"], "and the metrics how often")
    f.equal(f.post("/v1/score", score).json["version"], good["version"], "scores are those of the version before")
    s.config()
    f.post("/v1/reload")
    again = send(2)
    f.check(again["version"] > bad["version"] and again["updates_stopped"] == bad["updates_stopped"], "relaxed, it goes on")
    f.equal(d.stop(), 0, "the daemon stops")
    r = f.run("follow", "-c", config, "--state", f.path("copy"), "--once", "--digest")
    own = s.digest("state")
    told = json.loads(r.stdout.splitlines()[-1]) if r.returncode == 0 else r.stderr
    f.equal(told, {"version": own["version"], "tables": own["tables"], "dense": own["dense"]["ctr"], "learned": own["learned"]},
            "a follower has every version")


def main():
    s = Story()
    each(s)
    endless(s)
    first(s)
    if shutil.which("kcat") or shutil.which("kafkacat"):
        s.f.start_broker("--partitions", "1")
        daemon(s)
    else:
        print("kcat is not there: nothing brings events to a daemon", flush=True)
    return s.f.summary()


if __name__ == "__main__":
    sys.exit(main())
