# SPDX-License-Identifier: Apache-2.0
"""Resident memory against what the config allows, which is the sum that `freshet check` tells, without what `replay`
does not have (queues of Kafka, HTTP). First the same events with small and with large budgets: the peak resident set
of the process beside the sum, and beside the process with no event at all. Then an endless stream of new users and
items under small budgets, a simulated week, with an expire of a day: the resident set as it goes on.

Usage: memory.py FRESHET [IDS]      so many new users and items in that week, default 2000000
"""
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scenario"))
from harness import Freshet  # noqa: E402

USERS, ITEMS, IMPRESSIONS, RATE = 700_000, 300_000, 2_000_000, 2_000
MIB, WEEK_S = 1 << 20, 7 * 86400
NOT_IN_REPLAY = ("source", "sink", "http")
SMALL = {"state.commit_bytes": "16MiB", "dedupe.max": "500k", "join.max_pending": "300k"}
BUDGETS = (  # state.cache, body_cache, block_cache in MiB, rows of each of the two tables, and what is not the default
    ("small", 64, 16, 32, 100_000, SMALL),
    ("middle", 256, 64, 128, 500_000, {"state.commit_bytes": "64MiB"}),
    ("large", 1024, 128, 256, 1_000_000, {}),
)


FEATURES = ("{user_id: {id: user, table: users}, item_id: {id: item, table: items}, "
            "ctr: {rate: click/impression, of: item, window: 1d, smooth: [1, 20]}, "
            "clicks: {sequence: click, last: 50, table: items, pool: mean}}")


def options(cache, body, block, rows, **more):
    table = f"{{dim: 16, rows: {rows}}}"
    values = {"state.cache": f"{cache}MiB", "state.body_cache": f"{body}MiB", "state.block_cache": f"{block}MiB",
              "tables": f"{{users: {table}, items: {table}}}", **more}
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def budget(f, sets):
    memory = json.loads(f.run("check", "--no-environment", "--json", *sets).stdout)["memory"]
    return memory["budget"] - sum(memory["families"][family] for family in NOT_IN_REPLAY)


def replay(f, events, sets):
    """Peak resident bytes, and the summary."""
    argv = [f.binary, "replay", "--events", events, *sets]
    with open(f.path("summary"), "wb") as out, open(f.path("errors"), "wb") as err:
        process = subprocess.Popen(argv, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        with open(f.path("errors")) as text:
            sys.exit(text.read())
    with open(f.path("summary")) as text:
        return usage.ru_maxrss * 1024, json.load(text)


def sizes(f):
    empty, events = f.path("empty.jsonl"), f.path("events.jsonl")
    open(empty, "w").close()
    with open(events, "wb") as out:
        subprocess.run([f.binary, "simulate", "--users", str(USERS), "--items", str(ITEMS), "--events",
                        str(IMPRESSIONS), "--rate", str(RATE)], stdout=out, check=True, stderr=subprocess.DEVNULL)
    print(f"{IMPRESSIONS} impressions of {USERS} users and {ITEMS} items, MiB")
    print(f"{'budgets':8} {'cache':>6} {'bodies':>6} {'blocks':>6} {'sum':>6} {'no event':>8} {'peak':>6} "
          f"{'peak/sum':>8} {'seconds':>8}")
    for name, cache, body, block, rows, more in BUDGETS:
        sets = options(cache, body, block, rows, **more)
        total = budget(f, sets) / MIB
        idle, _ = replay(f, empty, sets)
        peak, summary = replay(f, events, sets)
        print(f"{name:8} {cache:6} {body:6} {block:6} {total:6.0f} {idle / MIB:8.0f} {peak / MIB:6.0f} "
              f"{peak / MIB / total:8.2f} {summary['seconds']:8.1f}", flush=True)


# ---- a week of new ids -------------------------------------------------------------------------------

def resident(pid):
    """VmRSS and VmHWM in bytes; None at the end."""
    try:
        with open(f"/proc/{pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return tuple(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    except (OSError, KeyError):
        return None


def week(f, ids):
    """Half of the ids are users, who come once; half are items."""
    users, alive = ids // 2, 1000
    sets = options(64, 16, 32, 100_000, **SMALL, **{"state.expire.users": "1d", "state.expire.items": "1d",
                                                  "counters.windows": "[1h, 1d]", "state.samples_keep": "1d",
                                                  "features": FEATURES})
    total = budget(f, sets) / MIB
    state = f.path("week")
    print(f"a week of {users} new users and {ids - users} new items, budgets of {total:.0f} MiB in all", flush=True)
    simulate = subprocess.Popen(
        [f.binary, "simulate", "--users", "1", "--fresh", "1", "--slate", "1", "--items", str(alive), "--life",
         f"{alive * WEEK_S / 3600 / (ids - users):.6f}", "--events", str(users), "--rate", f"{users / WEEK_S:.6f}"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with open(f.path("summary"), "wb") as out:
        process = subprocess.Popen([f.binary, "replay", "--events", "-", "--state", state, *sets],
                                   stdin=simulate.stdout, stdout=out)
    simulate.stdout.close()
    print(f"{'seconds':>8} {'resident':>8} {'peak':>6} {'peak/sum':>8} {'disk':>6}")
    began, show = time.monotonic(), 0
    while process.poll() is None:
        now, bytes_now = time.monotonic() - began, resident(process.pid)
        if now >= show and bytes_now is not None:
            show = max(now + 5, now * 1.2)
            disk = sum(e.stat().st_size for e in os.scandir(state) if e.name.endswith(".sst")) if os.path.isdir(state) else 0
            print(f"{now:8.0f} {bytes_now[0] / MIB:8.0f} {bytes_now[1] / MIB:6.0f} {bytes_now[1] / MIB / total:8.2f} "
                  f"{disk / MIB:6.0f}", flush=True)
        time.sleep(0.2)
    if process.returncode != 0 or simulate.wait() != 0:
        sys.exit("the week ended early")
    with open(f.path("summary")) as text:
        summary = json.load(text)
    print(f"{summary['messages']} messages in {summary['seconds']:.0f} s")


def main():
    f = Freshet()
    sizes(f)
    week(f, int(sys.argv[2]) if len(sys.argv) > 2 else 2_000_000)


main()
