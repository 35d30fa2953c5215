# SPDX-License-Identifier: Apache-2.0
"""Resident memory against what the config allows: the same events through `replay` with small and with large budgets.
The peak resident set of the process stands beside the sum of the budgets (caches of the state, tables) and what is
bounded by counts (impressions that wait, ids remembered), at their cost per entry as tests/bench/bench_joiner.c
measures it, and beside the process with no event at all.

Usage: memory.py FRESHET
"""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scenario"))
from harness import Freshet  # noqa: E402

USERS, ITEMS, IMPRESSIONS, RATE = 700_000, 300_000, 2_000_000, 2_000
ROW_BYTES, PENDING_BYTES, ID_BYTES, MIB = 112, 150, 42, 1 << 20  # of dim 16
BUDGETS = (  # state.cache, body_cache, block_cache in MiB, rows of each of the two tables
    ("small", 64, 16, 32, 100_000),
    ("middle", 256, 64, 128, 500_000),
    ("large", 1024, 128, 256, 1_000_000),
)


def replay(f, events, cache, body, block, rows):
    """Peak resident bytes, and the summary."""
    table = f"{{dim: 16, rows: {rows}}}"
    argv = [f.binary, "replay", "--events", events, "--set", f"state.cache={cache}MiB", "--set",
            f"state.body_cache={body}MiB", "--set", f"state.block_cache={block}MiB", "--set",
            f"tables={{users: {table}, items: {table}}}"]
    with open(f.path("summary"), "wb") as out, open(f.path("errors"), "wb") as err:
        process = subprocess.Popen(argv, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        with open(f.path("errors")) as text:
            sys.exit(text.read())
    with open(f.path("summary")) as text:
        return usage.ru_maxrss * 1024, json.load(text)


def main():
    f = Freshet()
    empty, events = f.path("empty.jsonl"), f.path("events.jsonl")
    open(empty, "w").close()
    with open(events, "wb") as out:
        subprocess.run([f.binary, "simulate", "--users", str(USERS), "--items", str(ITEMS), "--events",
                        str(IMPRESSIONS), "--rate", str(RATE)], stdout=out, check=True, stderr=subprocess.DEVNULL)
    print(f"{IMPRESSIONS} impressions of {USERS} users and {ITEMS} items, MiB")
    print(f"{'budgets':8} {'cache':>6} {'bodies':>6} {'blocks':>6} {'tables':>6} {'counts':>6} {'sum':>6} "
          f"{'no event':>8} {'peak':>6} {'peak/sum':>8} {'seconds':>8}")
    for name, cache, body, block, rows in BUDGETS:
        idle, _ = replay(f, empty, cache, body, block, rows)
        peak, summary = replay(f, events, cache, body, block, rows)
        tables = 2 * rows * ROW_BYTES / MIB
        counts = (summary["pending"] * PENDING_BYTES + summary["messages"] * ID_BYTES) / MIB
        total = cache + body + block + tables + counts
        print(f"{name:8} {cache:6} {body:6} {block:6} {tables:6.0f} {counts:6.0f} {total:6.0f} {idle / MIB:8.0f} "
              f"{peak / MIB:6.0f} {peak / MIB / total:8.2f} {summary['seconds']:8.1f}")


main()
