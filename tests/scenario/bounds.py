#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# An endless stream of new users and items under small budgets: resident memory stays within their sum, which is
# checked before anything starts; who is not seen for long leaves the disk; impressions at their bound leave early, and
# are counted, at the same events however the log is cut into commits. argv[1]: the binary.
import json
import os
import subprocess
import sys

from harness import Freshet

MIB = 1 << 20
USERS, RATE = 150_000, 25  # a new one each request: 100 minutes; twice as many items
BUDGETS = {
    "state.cache": "16MiB", "state.body_cache": "4MiB", "state.block_cache": "8MiB", "state.commit_bytes": "8MiB",
    "state.commit_events": "1M", "dedupe.max": "20k", "join.max_pending": "10k", "update.enabled": "false",
    "stream.queue": "8MiB", "tables": "{users: {dim: 8, rows: 10k}, items: {dim: 8, rows: 10k}}",
    "http.connections": "16",
}
EXPIRE = {"state.expire.users": "10m", "state.expire.items": "10m", "state.samples_keep": "10m",
          "counters.windows": "[{name: 10m, tile: 1m, length: 10m}]"}
FEATURES = {"features": "{user_id: {id: user, table: users}, item_id: {id: item, table: items}, "
                        "ctr: {rate: click/impression, of: item, window: 10m, smooth: [1, 20]}}"}
NOT_IN_REPLAY = ("source", "sink", "http")  # its events come from a file, and go nowhere

FIXED = ("store", "names", "program")  # no key sets them


def sets(*parts):
    return [word for part in parts for key, value in part.items() for word in ("--set", f"{key}={value}")]


def replay(f, name, *args, events="events.jsonl"):
    """The summary, and the peak resident bytes."""
    argv = [f.binary, "replay", "--events", f.path(events), "--state", f.path(name), *args]
    with open(f.path(name + ".out"), "wb") as out, open(f.path(name + ".err"), "wb") as err:
        process = subprocess.Popen(argv, stdout=out, stderr=err, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
        _, status, usage = os.wait4(process.pid, 0)
    with open(f.path(name + (".err" if status else ".out"))) as text:
        if status:
            raise RuntimeError(text.read())
        return json.load(text), usage.ru_maxrss * 1024


def disk(f, name):
    return sum(entry.stat().st_size for entry in os.scandir(f.path(name)) if entry.name.endswith(".sst"))


# ---- the sum is checked ------------------------------------------------------------------------------

def checked(f):
    r = f.run("check", "--no-environment", "--json", *sets(BUDGETS, EXPIRE, FEATURES))
    memory = json.loads(r.stdout)["memory"]
    f.equal(sum(memory["families"].values()), memory["budget"], "check: the sum is of all families")
    f.check(0 < memory["limit"] and memory["budget"] < 4 << 30, "check: a limit, and small budgets are small")
    least = f.run("check", "--no-environment", "--json", *sets({"memory.limit": "3900MiB"}))
    default = json.loads(least.stdout)["memory"]["budget"] if least.returncode == 0 else 0
    f.check(0 < default <= 3900 << 20, f"the default config runs on 4 GiB: {default >> 20} MiB {least.stderr}")
    large = {**BUDGETS, "memory.limit": "300MiB", "state.cache": "200MiB"}
    for command in (["check"], ["run", "--state", f.path("never")]):
        r = f.run(*command, *sets(large), timeout=30)
        words = ("in all", "memory.limit is 300 MiB", "entities 200 MiB (state.cache)")
        f.check(r.returncode == 78 and all(w in r.stderr for w in words),
                f"{command[0]} above memory.limit: exit 78, and what is large: {r.stderr.strip()}")
    f.check(not os.path.exists(f.path("never")), "nothing started")
    return memory


# ---- and kept ----------------------------------------------------------------------------------------

def kept(f, memory):
    with open(f.path("events.jsonl"), "wb") as out:
        subprocess.run([f.binary, "simulate", "--users", "1", "--fresh", "1", "--slate", "1", "--items", "200", "--life",
                        "0.0012", "--events", str(USERS), "--rate", str(RATE)], stdout=out, check=True,
                       stderr=subprocess.DEVNULL)
    summary, peak = replay(f, "state", *sets(BUDGETS, EXPIRE, FEATURES))
    bound = memory["budget"] - sum(memory["families"][family] for family in NOT_IN_REPLAY)
    open(f.path("empty.jsonl"), "w").close()
    _, idle = replay(f, "idle", *sets(BUDGETS, EXPIRE, FEATURES), events="empty.jsonl")
    chosen = bound - sum(memory["families"][family] for family in FIXED)
    f.check(peak - idle < 1.25 * chosen,
            f"{(peak - idle) / MIB:.0f} MiB more than with no event, budgets that the config sets {chosen / MIB:.0f} MiB")
    f.check(peak < 1.25 * bound, f"peak resident {peak / MIB:.0f} MiB, budgets {bound / MIB:.0f} MiB")
    f.check(summary["left_early"] > USERS / 10, f"impressions at the bound left early: {summary['left_early']}")
    f.check(0 < summary["pending"] <= 10_000, f"no more wait than may: {summary['pending']}")
    again, _ = replay(f, "again", *sets({**BUDGETS, "state.commit_events": "5000"}, EXPIRE, FEATURES))
    # Of the log, what is kept goes by whole commits.
    same = [[s["left_early"], s["samples"], {k: v for k, v in s["digest"].items() if k != "samples"}]
            for s in (summary, again)]
    f.equal(same[1], same[0], "cut into many commits: the same leave early, the same digests")
    return disk(f, "again")


def vanished(f, small):
    """Without an expire the same log leaves several times as much on disk."""
    never = {**EXPIRE, "state.expire.users": "0s", "state.expire.items": "0s", "state.samples_keep": "0s"}
    replay(f, "never", *sets({**BUDGETS, "state.commit_events": "5000"}, never, FEATURES))
    large = disk(f, "never")
    f.check(2 * small < large, f"on disk {small / MIB:.1f} MiB with an expire, {large / MIB:.1f} MiB without")


def main():
    f = Freshet()
    memory = checked(f)
    vanished(f, kept(f, memory))
    return f.summary()


sys.exit(main())
