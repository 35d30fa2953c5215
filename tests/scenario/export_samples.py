#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Ranges of the sample log, and its retention: export_samples.py FRESHET
# A range by time or number is what a filter over the whole export gives, byte by byte, also where samples left out
# of order. Arrow holds as many rows as JSONL (what is in them: tests/unit/test_export_arrow.c). A bound in bytes lets
# go of the oldest, and never of what was not trained on.
import datetime
import json
import os
import random
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "oracle")]
from harness import Freshet  # noqa: E402
from nasty import generate  # noqa: E402

QUICK = ["--set", "state.commit_events=500", "--set", "update.every=10m", "--set", "update.bootstrap.samples=2000",
         "--set", "state.samples_keep=0s"]


RANGES = 12


def replay(f, lines, state, *settings, flush=True):
    r = f.run("replay", "--events", "-", *["--flush"] * flush, "--state", f.path(state), *QUICK, *settings,
              input="\n".join(lines) + "\n")
    if r.returncode != 0:
        raise RuntimeError(r.stderr)
    return json.loads(r.stdout)


def export(f, state, *more):
    r = f.run("export", "samples", "--state", f.path(state), *QUICK, *more)
    if r.returncode != 0:
        raise RuntimeError(r.stderr)
    return r.stdout.splitlines()


def rfc3339(ms):
    t = datetime.datetime.fromtimestamp(ms // 1000, datetime.timezone.utc)
    return t.strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"


def ranges(f, name, lines, *settings):
    state = name.replace(" ", "-")
    replay(f, lines, state, *settings)
    whole = export(f, state, *settings)
    times = [json.loads(line)["emitted_ts"] for line in whole]
    disorder = sum(a > b for a, b in zip(times, times[1:]))
    rng, wrong = random.Random(1), 0
    for n in range(RANGES):
        a, b = sorted(rng.choices(times, k=2)) if n % 3 else sorted(rng.choices(range(min(times) - 9, max(times) + 9), k=2))
        form = str if n % 2 else rfc3339
        options = [["--from", form(a), "--to", form(b)], ["--from", form(a)], ["--to", form(b)]][n % 3]
        low = a if "--from" in options else 0
        high = b if "--to" in options else 1 << 62
        first, end = 0, len(whole)
        if n % 5 == 0:
            first, end = sorted(rng.choices(range(len(whole) + 1), k=2))
            options += ["--from-sample", str(first), "--to-sample", str(end)]
        want = [line for line, t in zip(whole[first:end], times[first:end]) if low <= t < high]
        wrong += export(f, state, *settings, *options) != want
    f.check(wrong == 0, f"{name}: {RANGES} ranges of {len(whole)} samples, {disorder} of them out of order, {wrong} differ")
    return whole


def arrow(f, state, rows):
    """The footer of the file is there, and says how long it is; the stream ends as one does."""
    path = f.path("samples.arrow")
    r = f.run("export", "samples", "--state", f.path(state), *QUICK, "--format", "arrow", "--out", path)
    f.equal((r.returncode, r.stdout), (0, ""), f"{rows} rows as an Arrow file")
    with open(path, "rb") as file:
        data = file.read()
    footer = struct.unpack("<i", data[-10:-6])[0]
    f.check(data[:6] == data[-6:] == b"ARROW1" and 0 < footer < len(data), "it begins and ends as one")


def usage(f):
    for options, code, words in [(["samples", "--from", "yesterday"], 2, "RFC 3339"),
                                 (["samples", "--from-sample", "-3"], 2, "number of a sample"),
                                 (["samples", "--format", "parquet"], 2, "jsonl, arrow or safetensors"),
                                 (["counters", "--from", "3"], 2, "is for samples"),
                                 (["samples", "--out", "/nowhere/x"], 1, "/nowhere/x")]:
        r = f.run("export", *options, "--state", f.path("in-order"), *QUICK)
        f.check(r.returncode == code and words in r.stderr, f"export {' '.join(options)}: exit {r.returncode}: {r.stderr.strip()[-120:]}")


def retention(f, lines):
    whole = replay(f, lines, "whole-log")["samples"]
    bound = ["--set", "state.samples_bytes=200kB"]
    summary = replay(f, lines, "bounded", *bound)
    kept = export(f, "bounded", *bound)
    f.check(0 < len(kept) < whole // 2, f"{len(kept)} of {whole} samples within 200 kB")
    f.equal(kept, export(f, "whole-log")[-len(kept):], "the newest, and as they were")
    f.equal(summary["samples"], whole, "all of them were joined")
    tiny = ["--set", "state.samples_bytes=1B"]
    open_window = [*tiny, "--set", "update.every=30d"]
    summary = replay(f, lines, "untrained", *open_window, flush=False)
    f.check(summary["samples"] == len(export(f, "untrained", *open_window)) > 0, "what waits for its update stays")
    replay(f, lines, "trained", *tiny)
    f.equal(export(f, "trained", *tiny), [], "what was trained on goes")


def main():
    f = Freshet()
    simulated = f.run("simulate", "--events", "12000", "--seed", "2", "--rate", "5").stdout.splitlines()
    whole = ranges(f, "in order", simulated)
    ranges(f, "nasty", generate(3, 5000))
    ranges(f, "first label", generate(4, 5000), "--set", "join.emit=first_label", "--set", "join.corrections=true")
    ranges(f, "left early", simulated, "--set", "join.max_pending=300")
    arrow(f, "in-order", len(whole))
    usage(f)
    retention(f, simulated)
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
