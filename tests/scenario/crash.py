#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Kill -9 at random moments loses nothing and counts nothing twice: crash.py FRESHET [KILLS [SEED [EVENTS.jsonl]]]
# The digests of a run that was killed again and again, of one cut in two, of other commit sizes and of the
# recorded order are those of the run that went through.
import json
import os
import random
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from harness import Freshet  # noqa: E402

SMALL = ["--set", "state.commit_events=2000", "--set", "update.every=2m", "--set", "update.bootstrap.samples=8000",
         "--set", "state.samples_keep=0s"]


def digests(freshet, state, *settings):
    r = freshet.run("digest", "--state", state, *settings)
    return json.loads(r.stdout) if r.returncode == 0 else {"error": r.stderr}


def differing(a, b, path=""):
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in a.keys() | b.keys() for d in differing(a.get(k), b.get(k), f"{path}.{k}")]
    return [] if a == b else [path]


def same(freshet, wanted, state, text, *settings):
    differ = differing(wanted, digests(freshet, state, *settings))
    return freshet.check(not differ, text + (f": {', '.join(sorted(differ))} differ" if differ else ""))


def replay(freshet, events, state, *settings):
    r = freshet.run("replay", "--events", events, "--state", state, *settings, timeout=600)
    if r.returncode != 0:
        freshet.check(False, f"replay into {os.path.basename(state)}: exit {r.returncode}: {r.stderr[-300:]}")
        return None
    return json.loads(r.stdout)


def killed(freshet, rng, seconds, events, state, kills):
    """Starts until it is through: killed `kills` times at most. The times it was killed while it ran."""
    argv = [freshet.binary, "replay", "--events", events, "--state", state, "--flush", *SMALL]
    hits = 0
    while True:
        p = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if hits < kills:
            try:
                p.wait(rng.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                p.kill()
        error = p.communicate(timeout=600)[1].decode(errors="replace")
        if p.returncode == -9:
            hits += 1
        else:
            freshet.check(p.returncode == 0, f"the run after {hits} kills ends" + (f": {error[-300:]}" if p.returncode else ""))
            return hits


def kill_loop(freshet, wanted, seconds, events, kills, seed):
    rng, left, round = random.Random(seed), kills, 0
    while left > 0 and round < kills:
        state = freshet.path(f"killed-{round}")
        hits = killed(freshet, rng, seconds, events, state, min(left, 10))
        left -= hits
        same(freshet, wanted, state, f"digests after {hits} kills (seed {seed}, round {round})")
        if round == 0:
            as_committed(freshet, events, state, "a run that was killed")
        shutil.rmtree(state, ignore_errors=True)
        round += 1
    print(f"      {kills - left} kills")


def as_committed(freshet, events, state, text):
    before = digests(freshet, state)
    r = freshet.run("replay", "--as-committed", "--state", state, "--events", events, *SMALL, timeout=600)
    freshet.check(r.returncode == 0, f"--as-committed agrees with {text}" + (f": {r.stdout[-400:]} {r.stderr[-400:]}" if r.returncode else ""))
    same(freshet, before, state, "--as-committed leaves the state as it was")


def cut(freshet, wanted, events, n):
    with open(events) as f:
        lines = f.readlines()
    head, state = freshet.path(f"head-{n}.jsonl"), freshet.path(f"cut-{n}")
    # The same name in the record of offsets: the head is a file that grew.
    with open(head, "w") as f:
        f.writelines(lines[:len(lines) * n // 10])
    replay(freshet, head, state, *SMALL)
    with open(head, "w") as f:
        f.writelines(lines)
    replay(freshet, head, state, "--flush", *SMALL)
    same(freshet, wanted, state, f"the log cut at {n} tenths")


def retention(freshet, events):
    """What retention drops must not depend on when commits were made."""
    wanted = None
    keep = ("--set", "state.samples_keep=5m")  # the digest, too, must know what is kept
    for n in ("2000", "5003", "1M"):
        state = freshet.path("keep-" + n)
        replay(freshet, events, state, "--flush", *SMALL, *keep, "--set", "state.commit_events=" + n)
        if wanted is None:
            wanted = digests(freshet, state, *keep)
        same(freshet, wanted, state, f"with samples kept for 5m, commits of {n} events", *keep)


def main():
    f = Freshet()
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    events = sys.argv[4] if len(sys.argv) > 4 else f.path("events.jsonl")
    if not os.path.exists(events):
        with open(events, "w") as out:
            out.write(f.run("simulate", "--events", "20000", "--seed", "3", "--rate", "20").stdout)
    whole = f.path("whole")
    begin = time.monotonic()
    summary = replay(f, events, whole, "--flush", *SMALL)
    seconds = time.monotonic() - begin
    wanted = digests(f, whole)
    f.check(summary is not None and summary["samples"] > 0 and "error" not in wanted, f"the whole log in {seconds:.1f} s")
    f.check(summary["digest"] == wanted, "the summary's digests are those of `freshet digest`")
    as_committed(f, events, whole, "the whole run")
    again = replay(f, events, whole, "--flush", *SMALL)
    f.check(again is not None, "a replay of what was read reads nothing")
    same(f, wanted, whole, "and changes nothing")
    for n in (1, 5, 9):
        cut(f, wanted, events, n)
    for n in ("500", "7001", "1M"):
        state = f.path("commits-" + n)
        replay(f, events, state, "--flush", *SMALL, "--set", "state.commit_events=" + n)
        same(f, wanted, state, f"commits of {n} events")
    retention(f, events)
    kill_loop(f, wanted, seconds, events, kills, seed)
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
