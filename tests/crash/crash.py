#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills, failing calls and full disks change nothing: crash.py FRESHET [--rounds N] [--seed S] [--only NAME] [--keep]

A round draws a log, a config and crashes from its seed (draw.py), runs the log through the program with these
crashes (shim.c), starts it again after each, and then compares everything with a run that was left alone, which
in turn was compared row by row with the batch oracle. README.md says how to read and repeat what fails.
"""
import argparse
import collections
import concurrent.futures
import json
import os
import shutil
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import draw  # noqa: E402
from judge import Broken  # noqa: E402
from rounds import Worker  # noqa: E402

KEPT = os.path.join(HERE, "rounds.jsonl")


def kept():
    """Rounds that failed once."""
    with open(KEPT) as f:
        return [json.loads(line) for line in f if line.strip() and not line.startswith("#")]


def wanted(options):
    """The rounds to be run: kept ones first, then drawn ones, up to their number."""
    if options.plan:
        with open(options.plan) as f:
            return [json.loads(line) for line in f if line.strip() and not line.startswith("#")]
    if options.round is not None:
        return [draw.draw(options.seed, options.round)]
    rounds = kept() if not options.only else []
    n = 0
    while len(rounds) < options.rounds:
        r = draw.draw(options.seed, n)
        if not options.only or options.only in draw.kinds(r):
            rounds.append(r)
        n += 1
        if n > 100 * options.rounds + 1000:
            break
    return rounds


def batches(rounds):
    """Rounds of one log go to one process, one after the other, so that what is compared with is made once."""
    groups = collections.OrderedDict()
    for r in rounds:
        groups.setdefault(json.dumps([r["log"], r["parts"], r["bad"], r.get("profiles")]), []).append(r)
    return list(groups.values())


def run_batch(binary, dir, rounds, keep):
    """(round, what went wrong or None, what was hit, seconds) of each."""
    worker, ret = Worker(binary, dir), []
    for r in rounds:
        begin, error = time.monotonic(), None
        try:
            worker.run(r)
        except Broken as e:
            error = str(e)
        except Exception:  # the round could not be judged: that is no pass
            error = traceback.format_exc()
        ret.append((r, error, worker.hits, time.monotonic() - begin, worker.dir))
        worker.done(keep or error is not None)
    return ret


def name(r):
    return f"seed {r['seed']} round {r['round']}" if "round" in r else r.get("why", "a kept round")


def tell(options, dir, r, error, kept_dir):
    plan = os.path.join(kept_dir, "round.json")
    with open(plan, "w") as f:
        json.dump(r, f)
        f.write("\n")
    again = f"tests/crash/crash.py {options.binary} --plan {plan}"
    print(f"FAIL  {name(r)}: {error}\n      its directory: {kept_dir}\n      again: {again}",
          flush=True)
    if "round" in r:
        print(f"      or: tests/crash/crash.py {options.binary} --seed {r['seed']} --round {r['round']}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("binary", metavar="FRESHET", type=os.path.abspath)
    p.add_argument("--rounds", type=int, default=200)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--round", type=int, help="only this round of the seed")
    p.add_argument("--plan", metavar="FILE", help="rounds as they were kept, one a line")
    p.add_argument("--only", metavar="NAME", help="rounds with NAME: files, live, nasty, a class of calls, a step, ...")
    p.add_argument("--jobs", type=int, default=2, help="rounds at a time")
    p.add_argument("--keep", action="store_true", help="keep the directories of all rounds")
    options = p.parse_args()
    rounds = wanted(options)
    skipped = 0
    if not (shutil.which("kcat") or shutil.which("kafkacat")):
        print("skip  live rounds: no kcat")
        skipped = len(rounds)
        rounds = [r for r in rounds if r["way"] != "live"]
        skipped -= len(rounds)
    dir = tempfile.mkdtemp(prefix="freshet-crash-")
    passed = failed = 0
    hits, begin = collections.Counter(), time.monotonic()
    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        tasks = [pool.submit(run_batch, options.binary, os.path.join(dir, str(n)), b, options.keep)
                 for n, b in enumerate(batches(rounds))]
        for task in concurrent.futures.as_completed(tasks):
            for r, error, hit, seconds, kept_dir in task.result():
                passed, failed = passed + (error is None), failed + (error is not None)
                hits.update(hit)
                if error is not None:
                    tell(options, dir, r, error, kept_dir)
                elif options.keep or len(rounds) < 20:
                    print(f"ok    {name(r)}: {r['way']}, {len(hit)} crashes in {seconds:.1f} s", flush=True)
    print(f"      {sum(hits.values())} crashes in {len(rounds)} rounds, {time.monotonic() - begin:.0f} s: "
          + ", ".join(f"{k} {n}" for k, n in sorted(hits.items())))
    missed = [s for s in draw.STEPS if hits[f"step {s}"] == 0]
    if missed and options.rounds >= 200 and not (options.only or options.plan or options.round is not None):
        print(f"FAIL  steps at which nothing was killed: {', '.join(missed)}")
        failed += 1
    if failed == 0 and not options.keep:
        shutil.rmtree(dir, ignore_errors=True)
    else:
        print("kept:", dir)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
