# SPDX-License-Identifier: Apache-2.0
"""How long an answer of the feature API takes while events come in: `simulate --live` produces RATE events a second to
an embedded broker's topic that the daemon reads, and bench_http asks POST /v1/features (one user and 20 items) and GET
/v1/users/ID, over 1 and 8 kept connections, at a fixed rate (measured from when a request was due) and as
fast as answers come. The daemon's own load is printed beside it: half load is the main thread at about 50%.

All of it shares the processors of this machine: broker, producer, client, and whatever else runs. "late" and
"client" are what that costs: of the time, how much the daemon's main thread, and the client, were ready to run and
another had their processor. Where they are above 1%, one request in a hundred meets such a wait whatever the daemon
does; percentiles of the daemon alone are those of a machine where both are near 0.

Usage: serving.py FRESHET BENCH_HTTP [EVENTS_A_SECOND] [SECONDS_EACH]
"""
import json
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scenario"))
from harness import Freshet, wait_until  # noqa: E402

EVENTS_PER_IMPRESSION = 1.49  # with --slate 1: an impression and its feedback
USERS, ITEMS, ASKS = 100_000, 10_000, 2_000
FIXED_RATE = 1000


def requests(f):
    rng = random.Random(1)
    features, users = f.path("features.txt"), f.path("users.txt")
    with open(features, "w") as a, open(users, "w") as b:
        for _ in range(ASKS):
            user = "u%d" % rng.randrange(USERS)
            rows = [{"user_id": user, "item_id": "i%d" % rng.randrange(ITEMS)} for _ in range(20)]
            a.write("POST /v1/features " + json.dumps({"entities": rows}, separators=(",", ":")) + "\n")
    # GET of users that exist.
    with open(users, "w") as b:
        n = 0
        for u in range(USERS):
            if n < ASKS and f.get(f"/v1/users/u{u}").status == 200:
                b.write(f"GET /v1/users/u{u}\n")
                n += 1
            if u > 4 * ASKS and n > 0:
                break
    return {"POST /v1/features, 1 x 20": features, "GET /v1/users/ID": users}


def thread_ms(pid):
    """CPU of the main thread and of the whole process, and how long the main thread waited for a processor, in ms."""
    tick = 1000 / os.sysconf("SC_CLK_TCK")
    main = open(f"/proc/{pid}/task/{pid}/stat").read().rsplit(")", 1)[1].split()
    whole = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    late = int(open(f"/proc/{pid}/task/{pid}/schedstat").read().split()[1]) / 1e6
    return (int(main[11]) + int(main[12])) * tick, (int(whole[11]) + int(whole[12])) * tick, late


def measure(bench, port, connections, seconds, rate, file):
    line = subprocess.run([bench, str(port), str(connections), str(seconds), str(rate), file], check=True,
                          capture_output=True, text=True).stdout
    return [int(v) for v in line.split()]


def print_head():
    print(f"{'':28} {'conn':>4} {'events/s':>8} {'main':>5} {'all':>5} {'late':>5} {'client':>6} {'asked':>7} {'p50':>7} "
          f"{'p90':>7} {'p99':>7} {'p99.9':>7} {'worst':>7}  us")


def measure_all(f, daemon, files, seconds):
    for name, file in files.items():
        for connections, asked in ((1, FIXED_RATE), (8, FIXED_RATE), (1, 0), (8, 0)):
            before, at, began = f.status()["messages"], time.monotonic(), thread_ms(daemon.pid)
            n, errors, per_s, p50, p90, p99, p999, worst, client = measure(sys.argv[2], f.port, connections, seconds, asked,
                                                                           file)
            took = time.monotonic() - at
            main, whole, late = ((b - a) / took / 10 for a, b in zip(began, thread_ms(daemon.pid)))
            events = (f.status()["messages"] - before) / took
            print(f"{name:28} {connections:4} {events:8.0f} {main:4.0f}% {whole:4.0f}% {late:4.1f}% "
                  f"{client / seconds / 1e4:5.1f}% {per_s:5}/s {p50:7} {p90:7} {p99:7} {p999:7} {worst:7}"
                  + (f"  {errors} errors" if errors else ""), flush=True)


def main():
    rate = int(sys.argv[3]) if len(sys.argv) > 3 else 100_000
    seconds = int(sys.argv[4]) if len(sys.argv) > 4 else 10
    f = Freshet(sys.argv[1])
    f.start_broker()
    daemon = f.start_daemon(*sys.argv[5:])
    if rate > 0:
        load = f.start("load", "simulate", "--kafka", "--live", "--slate", "1", "--events", "0", "--rate",
                str(rate / EVENTS_PER_IMPRESSION), "--users", str(USERS), "--items", str(ITEMS))
        wait_until(lambda: f.status()["messages"] > 5 * rate, 300, "five seconds of load")
    files = requests(f)
    print_head()
    measure_all(f, daemon, files, seconds)
    if rate > 0:
        load.stop()
        wait_until(lambda: f.status()["lag"] == 0, 300, "the end of the log")
        print("the same without events: what this machine adds by itself")
        measure_all(f, daemon, files, seconds)
    daemon.stop()


main()
