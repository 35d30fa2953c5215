#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# The whole way in small: events come from a broker, a model is trained, versions leave, a follower has the same tables,
# HTTP answers, SIGTERM ends it, and a second start goes on where it stood. Short enough to run under sanitizers as
# well, and then silent: whole_way.py FRESHET
import json
import re
import sys

from harness import Freshet, wait_until

QUICK = ["--set", "update.every=1m", "--set", "update.bootstrap.samples=2000", "--set", "join.window=1m",
         "--set", "publish.digest_every=2", "--set", "tables={users: {dim: 8, rows: 20k}, items: {dim: 8, rows: 20k}}"]
EVENTS = 10000
SANITIZER = re.compile(r"AddressSanitizer|runtime error|LeakSanitizer|ThreadSanitizer")


def digests(f):
    return json.loads(f.run("digest", "--state", f.path("state"), *QUICK).stdout)


def main():
    f = Freshet()
    f.start_broker("--partitions", "1")
    daemon = f.start_daemon(*QUICK)
    f.check(f.simulate("--events", str(EVENTS), "--rate", "25").returncode == 0, "events are produced")
    f.wait_ready()

    def seen():
        metrics = f.get("/metrics").text
        return re.search(r'^freshet_[a-z_]*total\{[^}]*impression[^}]*\} (\d+)', metrics, re.M)
    wait_until(lambda: (m := seen()) and int(m.group(1)) >= EVENTS, 60, "the last event")
    f.check(True, "all impressions are counted in /metrics")
    # A window that waits would be trained by the second start: a version more, which is right, but not the same.
    f.wait_settled()
    f.check(re.search(r"^freshet_updates_waiting 0$", f.get("/metrics").text, re.M), "no ended window waits")
    user = json.loads(f.run("export", "counters", "--state", f.path("state"), *QUICK).stdout.splitlines()[0])["id"]
    f.equal(f.get(f"/v1/users/{user}").status, 200, "a user that was seen is known")
    f.equal(f.get("/v1/users/nobody").status, 404, "one that was not is not")
    f.equal(daemon.stop(), 0, "SIGTERM ends it cleanly")

    first = digests(f)
    f.check(first["version"] > 2, f"versions were made: {first['version']}")
    follower = f.run("follow", "--state", f.path("copy"), "--until", str(first["version"]), "--digest", "--json", *QUICK)
    f.equal(follower.returncode, 0, "a follower takes all of them: " + follower.stderr[-300:])
    f.check(all(digest in follower.stdout for digest in first["tables"].values()), "its tables are the daemon's")

    second = f.start_daemon(*QUICK)
    f.equal(second.stop(), 0, "a second start ends cleanly, too")
    f.equal(digests(f), first, "and has changed nothing")
    for process in daemon, second:
        f.check(not SANITIZER.search(process.stderr()), f"no sanitizer speaks in {process.name}")
    return f.summary()


sys.exit(main())
