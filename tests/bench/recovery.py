# SPDX-License-Identifier: Apache-2.0
"""How long a daemon needs after kill -9: a store with users, items and embedding rows, a million together, and impressions
that wait is made by `replay`; then `run` takes it on, live events come in, and the daemon is killed and started KILLS
times. Measured from the start of the process to the first 200 of /healthz and of /readyz.

Usage: recovery.py FRESHET [KILLS]
"""
import os
import random
import re
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scenario"))
from harness import Freshet  # noqa: E402
from measure import since  # noqa: E402

USERS, ITEMS, IMPRESSIONS, RATE, LIVE_RATE, GOAL_S = 700_000, 300_000, 2_000_000, 2_000, 2_000, 0.5


def make_store(f):
    """Returns how many different users and items its events have."""
    events = f.path("events.jsonl")
    start = int(time.time() - IMPRESSIONS / RATE) * 1000
    with open(events, "wb") as out:
        subprocess.run([f.binary, "simulate", "--users", str(USERS), "--items", str(ITEMS), "--events",
                        str(IMPRESSIONS), "--rate", str(RATE), "--start", str(start)], stdout=out, check=True,
                       stderr=subprocess.DEVNULL)
    done = f.run("replay", "--events", events, "--state", f.path("state"), timeout=600)
    if done.returncode != 0:
        sys.exit(done.stderr)
    users, items = set(), set()
    with open(events, "rb") as lines:
        for line in lines:
            users.update(re.findall(rb'"user_id":"([^"]*)"', line))
            items.update(re.findall(rb'"item_id":"([^"]*)"', line))
    os.unlink(events)
    return len(users), len(items)


def size_of(directory):
    return sum(os.path.getsize(os.path.join(d, name)) for d, _, names in os.walk(directory) for name in names)


def main():
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    f = Freshet()
    users, items = make_store(f)
    print(f"{users} users, {items} items, {IMPRESSIONS} impressions; the store has {size_of(f.path('state')) >> 20} MiB")
    f.start_broker()
    f.start("simulate", "simulate", "--kafka", "--live", "--events", "0", "--rate", str(LIVE_RATE),
            "--users", str(USERS), "--items", str(ITEMS))
    chance = random.Random(1)
    alive, ready = [], []
    for kill in range(kills + 1):
        begin = time.monotonic()
        daemon = f.start_daemon(wait=False)
        healthy = since(begin, f, daemon, "/healthz")
        caught_up = since(begin, f, daemon, "/readyz")
        if kill > 0:  # the first start comes after a clean end
            alive.append(healthy)
            ready.append(caught_up)
        time.sleep(chance.uniform(0.5, 3))  # events come in and are committed; any moment must do
        daemon.kill()
        daemon.wait()
    print(f"{'after kill -9, ' + str(kills) + ' times':24} {'median':>10} {'worst':>10} {'goal':>8} {'of it':>6}")
    for name, times in ("answers /healthz", alive), ("answers /readyz", ready):
        print(f"{name:24} {statistics.median(times) * 1000:7.0f} ms {max(times) * 1000:7.0f} ms "
              f"{GOAL_S * 1000:5.0f} ms {max(times) / GOAL_S:6.2f}")


main()
