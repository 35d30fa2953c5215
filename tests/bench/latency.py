# SPDX-License-Identifier: Apache-2.0
"""How long until an event is seen over HTTP, under a live load: `simulate --live` produces RATE events a second to an
embedded broker's topic that the daemon reads, and a probe produces clicks of users of its own and asks
GET /v1/users/ID until the click is counted. Measured from the start of the
producer (kcat, whose own time is in it).

Usage: latency.py FRESHET [PROBES] [EVENTS_A_SECOND]
"""
import json
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scenario"))
from harness import Freshet, wait_until  # noqa: E402

EVENTS_PER_IMPRESSION = 1.49  # with --slate 1: an impression and its feedback


def main():
    probes = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    rate = int(sys.argv[3]) if len(sys.argv) > 3 else 20_000
    kcat = shutil.which("kcat") or shutil.which("kafkacat")
    if kcat is None:
        sys.exit("kcat is missing: apt-get install kafkacat")
    f = Freshet(sys.argv[1])
    f.start_broker()
    daemon = f.start_daemon()
    load = f.start("load", "simulate", "--kafka", "--live", "--slate", "1", "--events", "0", "--rate",
                   str(rate / EVENTS_PER_IMPRESSION), "--users", "100000", "--items", "10000")
    wait_until(lambda: f.get("/v1/status").json["messages"] > 5 * rate, 60, "five seconds of load")
    before, at = f.get("/v1/status").json["messages"], time.monotonic()
    took = []
    for i in range(probes):
        user = "probe%d" % i
        event = {"type": "click", "user_id": user, "item_id": "i1", "timestamp": int(time.time() * 1000)}
        begin = time.monotonic()
        subprocess.run([kcat, "-P", "-b", f.broker, "-t", "events", "-K", "|"], check=True,
                       input=(user + "|" + json.dumps(event) + "\n").encode())
        wait_until(lambda: f.get("/v1/users/" + user).status == 200, 10, "the probe's click")
        took.append(time.monotonic() - begin)
    seconds = time.monotonic() - at
    events = (f.get("/v1/status").json["messages"] - before) / seconds
    load.stop()
    daemon.stop()
    took.sort()
    print(f"{probes} probes under {events:.0f} events a second")
    print(f"{'seen over HTTP after':24} {'median':>8} {'p99':>8} {'worst':>8}  goal (p99)")
    print(f"{'':24} {took[len(took) // 2] * 1e3:6.0f} ms {took[int(len(took) * 0.99)] * 1e3:5.0f} ms "
          f"{took[-1] * 1e3:5.0f} ms  1000 ms")


main()
