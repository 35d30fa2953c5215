#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Kafka has deleted what was to be read next: the daemon says so in its log and in /v1/status, reads nothing of
# that partition, and keeps its offset, as often as it is started. argv[1]: the binary.
import json
import sys

from harness import Freshet, wait_until

QUIET = ["--set", "update.enabled=false"]


def offset(f):
    r = f.run("digest", "--state", f.path("state"))
    return json.loads(r.stdout)["offsets"].get("events", {}).get("0", 0) if r.returncode == 0 else 0


def read_some(f):
    d = f.start_daemon(*QUIET)
    f.equal(f.simulate("--events", "200").returncode, 0, "events are produced")
    wait_until(lambda: f.status()["offsets"].get("events", {}).get("0", 0) > 0 and f.status()["lag"] == 0, 60,
               "the end of the log")
    f.equal(d.stop(), 0, "the daemon stops")


def starts_and_says_it(f, wanted, time):
    d = f.start_daemon(*QUIET)
    problem = wait_until(lambda: f.status()["problem"], 60, "a problem in /v1/status")
    where = f"topic events partition 0: the next offset, {wanted}, is gone"
    f.check(where in problem and "can no longer be read" in problem, f"{time}: /v1/status says it: {problem}")
    f.check(where in d.stderr(), f"{time}: the log says it")
    f.check(d.alive() and f.get("/healthz").status == 200, f"{time}: the daemon answers")
    f.equal(f.get("/readyz").status, 503, f"{time}: and is not ready")
    f.equal(f.status()["offsets"]["events"]["0"], wanted, f"{time}: nothing is skipped")
    f.equal(d.stop(), 0, f"{time}: it stops at SIGTERM")
    f.equal(d.stderr().count(where), 1, f"{time}: said once")
    f.equal(offset(f), wanted, f"{time}: the offset on disk is the one before")


def goes_on(f, wanted):
    d = f.start_daemon(*QUIET, "--offset-gone", "earliest")
    wait_until(lambda: f.status()["lag"] == 0 and f.status()["offsets"]["events"]["0"] > wanted, 60, "the end of the log")
    f.check(f.status()["skipped"] > 0, f"told to go on, it counts what it passed over: {f.status()['skipped']}")
    f.check("going on at another offset" in d.stderr(), "and logs it")
    f.equal(d.stop(), 0, "it stops at SIGTERM")


def main():
    f = Freshet()
    f.start_broker("--partitions", "1")
    read_some(f)
    wanted = offset(f)
    f.check(wanted > 0, f"its offset, {wanted}, is on disk")
    # The embedded broker holds 5 MB a partition and drops the oldest.
    f.equal(f.simulate("--events", "40000", "--seed", "2", "--start", "2026-02-01T00:00:00Z").returncode, 0,
            "more events than the broker keeps")
    for time in "first start", "second start":
        starts_and_says_it(f, wanted, time)
    goes_on(f, wanted)
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
