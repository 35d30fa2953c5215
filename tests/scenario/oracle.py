#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# The state against an oracle: the same log through `freshet replay` and through tests/oracle/batch.py, then
# every row of every export is compared. argv[1]: the freshet binary.
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "oracle")]
from batch import Batch, Options  # noqa: E402
from compare import compare  # noqa: E402
from harness import Freshet  # noqa: E402
from nasty import KINDS, generate  # noqa: E402

DATA = os.path.join(HERE, "..", "..", "..", "shared", "data", "to_events.py")
WHAT = "counters", "sequences", "samples"
MINUTE = 60_000


def kuairand():
    """The events of a real log as lines, or None where the data is absent."""
    if not os.path.exists(DATA):
        return None
    return subprocess.run([sys.executable, DATA, "kuairand"], capture_output=True, text=True, check=True).stdout.splitlines()


def simulated(freshet, impressions, seed=1):
    return freshet.run("simulate", "--events", str(impressions), "--seed", str(seed)).stdout.splitlines()


def exported(freshet, what, state, *more):
    r = freshet.run("export", what, "--state", state, *more)
    if r.returncode != 0:
        raise RuntimeError(f"export {what}: {r.stderr}")
    return [json.loads(line) for line in r.stdout.splitlines()]


def forgive_late(batch, got):
    """A window's sum at a time before the watermark is not kept exactly: a late impression reads what is left."""
    windowed = [f for f, (kind, *_) in batch.o.features.items() if kind in ("count", "rate")]
    for sample, row in zip(batch.samples, got):
        if sample.late:
            for f in windowed:
                row["features"].pop(f, None)
                sample.features.pop(f, None)


def agree(freshet, name, lines, options=None, settings=()):
    options = options or Options()
    state = freshet.path(name.replace(" ", "-"))
    r = freshet.run("replay", "--events", "-", "--flush", "--state", state, "--set", "update.enabled=false",
                    *settings, input="\n".join(lines) + "\n", timeout=300)
    if not freshet.equal(r.returncode, 0, f"{name}: replay"):
        print(r.stderr[-1000:])
        return
    summary = json.loads(r.stdout)
    batch = Batch(options).run([lines])
    for key in "duplicates", "orphans":
        freshet.equal(summary[key], getattr(batch, key), f"{name}: {key}")
    freshet.equal(summary["at"], batch.at, f"{name}: at")
    for what in WHAT:
        got = exported(freshet, what, state)
        if what == "samples":
            forgive_late(batch, got)
        equal, texts = compare(what, batch.rows(what), got)
        freshet.check(not texts, f"{name}: {equal} {what} equal, {len(texts)} differ")
        for t in texts[:3]:
            print("        " + t)


def main():
    f = Freshet()
    lines = kuairand()
    if lines is None:
        print("skip  kuairand: ../shared/data is not there")
    else:
        agree(f, "kuairand", lines)
    agree(f, "simulated", simulated(f, 20_000))
    for kind in KINDS:
        agree(f, f"nasty {kind}", generate(5, 1_200, [k for k in KINDS if k != kind]))
    for seed in range(1, 4):
        agree(f, f"nasty {seed}", generate(seed, 5_000))
    agree(f, "nasty wide", generate(9, 4_000), Options(out_of_order=MINUTE, join_window=3 * MINUTE),
          ["--set", "stream.time.out_of_order=1m", "--set", "join.window=3m"])
    agree(f, "nasty small commits", generate(10, 3_000), None, ["--set", "state.commit_events=97"])
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
