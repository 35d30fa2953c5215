#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# What an operator does all day: check a config, reload it (a good one, a bad one), stop the daemon, also in the
# middle of a backlog, of training or of a wait for a broker. argv[1]: the binary.
import json
import os
import signal
import sys
import time

from harness import Freshet, free_port, wait_until

STOP_SECONDS = 5
OFTEN = ["--set", "join.window=30s", "--set", "update.every=1m", "--set", "update.bootstrap.samples=0"]


def write(path, text):
    """In one step, so that nobody reads half of it."""
    with open(path + ".new", "w") as f:
        f.write(text)
    os.replace(path + ".new", path)
    return path


# ---- check -------------------------------------------------------------------------------------------

BAD = [
    ("an unknown key", "update: {evry: 5m}\n", "1:10", ['"evry"', 'did you mean "every"?']),
    ("a value out of bounds", "http:\n  connections: 0\n", "2:16", ["connections"]),
    ("a unit that is none", "update:\n  every: 5 parsecs\n", "2:10", ["every"]),
    ("no YAML", "update: {every: 5m\n", None, []),
    ("a bucket of a profile that no topic brings", "counters: {item: {by: [user.gender]}}\n", "1:24", ["stream.users.topic is empty"]),
]


def check(f):
    for what, text, place, words in BAD:
        path = write(f.path("bad.yaml"), text)
        r = f.run("check", "--no-environment", "-c", path)
        line = r.stderr.strip()
        f.equal(r.returncode, 78, f"check of {what}: exit 78")
        good = line.startswith(f"{path}:{place}: " if place else f"{path}:") and all(w in line for w in words)
        f.check(good and "\n" not in line, f"check of {what}: its place and what is wrong: {line}")
        started = f.run("run", "-c", path, "--state", f.path("never"), timeout=30)
        f.check(started.returncode == 78 and not os.path.exists(f.path("never")), f"run with {what}: nothing starts")
    good = write(f.path("good.yaml"), "update: {every: 1m}\n")
    f.equal(f.run("check", "--no-environment", "-c", good).returncode, 0, "check of a good config: exit 0")
    event = {"type": "click", "user_id": 1, "item_id": 2, "timestamp": 1767225600}
    f.run("replay", "--events", "-", "--state", f.path("other"), input=json.dumps(event) + "\n")
    r = f.run("get", "user", "1", "--state", f.path("other"), "--set", "tables.users.dim=8")
    f.check(r.returncode == 1 and f"the state in {f.path('other')}: it was made with other features" in r.stderr,
            "a state of another config is refused, and named")
    f.equal(f.run("check", "--nonsense").returncode, 2, "an option that is none: exit 2")
    f.equal(f.run("nonsense").returncode, 2, "a command that is none: exit 2")


def switched_off(f):
    event = {"event_id": "e", "type": "click", "user_id": 1, "item_id": 2, "timestamp": 1767225600}
    twice = (json.dumps(event) + "\n") * 2
    for window, wanted in ("10m", 1), ("0s", 0):
        r = f.run("replay", "--events", "-", "--set", f"dedupe.window={window}", input=twice)
        f.equal(json.loads(r.stdout)["duplicates"], wanted, f"dedupe.window {window}: {wanted} duplicates")


def default(f):
    """The config that is built in, as it is printed and as the reference explains it, does the same."""
    events = f.run("simulate", "--events", "3000", "--rate", "3").stdout
    printed = write(f.path("printed.yaml"), f.run("check", "--print-default").stdout)
    reference = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "freshet.reference.yaml")
    told = []
    for config in [], ["-c", printed], ["-c", reference]:
        r = f.run("replay", *config, "--events", "-", "--set", "update.bootstrap.samples=1000", input=events)
        told.append({**json.loads(r.stdout or "{}"), "seconds": 0})
    f.check(told[0]["version"] > 0 and told[0] == told[1] == told[2], "what is built in, printed and explained is one config")


def waiting(f):
    """Of what waits for feedback the oldest 100 are shown, as the contract joins them."""
    begin = 1767225600000
    shown = [{"type": "impression", "user_id": "u", "item_id": f"i{n * 37 % 130}", "timestamp": begin + n * 37 % 130} for n in range(130)]
    clicks = [{"type": "click", "user_id": "u", "item_id": f"i{n}", "timestamp": begin + 1000 + n} for n in (0, 99, 100)]
    later = {"type": "click", "user_id": "v", "item_id": "i1", "timestamp": begin + 60000}
    events = "".join(json.dumps(e) + "\n" for e in [*shown, *clicks, later])
    f.run("replay", "--events", "-", "--state", f.path("waiting"), input=events)
    got = json.loads(f.run("get", "user", "u", "--state", f.path("waiting"), "--json").stdout)["pending"]
    f.equal(got, [{"item_id": f"i{n}", "ts": begin + n, "due": begin + n + 600_000, "labels": ["click"] if n in (0, 99) else []}
                  for n in range(100)], "the 100 oldest of 130 that wait, with their labels")


# ---- reload ------------------------------------------------------------------------------------------

def log_has(d, text, times=1):
    return lambda: d.stderr().count(text) >= times


def reload(f):
    config = write(f.path("daemon.yaml"), "update: {enabled: false}\nlog: {format: logfmt}\n")
    d = f.start_daemon("-c", config, state="reload")
    write(config, "update: {enabled: false}\nlog: {format: json}\n")
    d.kill(signal.SIGHUP)
    wait_until(log_has(d, "reloaded"), 30, "a reload")
    last = d.stderr().splitlines()[-1]
    f.check(last.startswith("{") and "reloaded" in json.loads(last).get("msg", last), "a good config counts at once")

    write(config, "update: {enabled: false}\nlog: {format: logfmt}\nhttp: {conections: 3}\n")
    d.kill(signal.SIGHUP)
    wait_until(log_has(d, "reload refused"), 30, "a refusal")
    last = d.stderr().splitlines()[-1]
    f.check(f"{config}:3:8" in last and "conections" in last, f"a bad one is refused, with its place: {last}")
    f.check(last.startswith("{"), "and nothing of it counts")
    f.check(d.alive() and f.get("/healthz").status == 200, "the daemon goes on")

    write(config, "update: {enabled: false}\nlog: {format: logfmt}\n")
    d.kill(signal.SIGHUP)
    wait_until(log_has(d, "reloaded", 2), 30, "a second reload")
    f.check(not d.stderr().splitlines()[-1].startswith("{"), "mended, it counts again")
    f.equal(d.stop(STOP_SECONDS), 0, "and ends with 0")


# ---- stop --------------------------------------------------------------------------------------------

def stopped(f, d, what):
    began = time.monotonic()
    d.kill(signal.SIGTERM)
    try:
        code = d.wait(STOP_SECONDS)
    except Exception:
        f.check(False, f"{what}: still there after {STOP_SECONDS} s")
        d.kill()
        return
    f.equal(code, 0, f"{what}: exit 0 at SIGTERM after {time.monotonic() - began:.1f} s")


def counts(f, state):
    r = f.run("digest", "--state", f.path(state))
    return json.loads(r.stdout) if r.returncode == 0 else {}


def stop(f):
    f.broker = f"127.0.0.1:{free_port()}"
    stopped(f, f.start_daemon(state="nobody"), "no broker there")

    f.start_broker("--partitions", "2")
    d = f.start_daemon(*OFTEN, state="busy", wait=False)
    wait_until(lambda: "reading" in d.stderr() or not d.alive(), 30, "the topics")
    f.equal(f.simulate("--events", "20000").returncode, 0, "a backlog")
    stopped(f, d, "in the middle of a backlog")
    first = counts(f, "busy")["offsets"].get("events", {})

    d = f.start_daemon(*OFTEN, state="busy")
    wait_until(lambda: f.status()["updates"] > 0, 120, "an update")
    stopped(f, d, "while it trains")
    second = counts(f, "busy")
    f.check(all(second["offsets"]["events"][p] >= n for p, n in first.items()), "what was read stays read")

    d = f.start_daemon(*OFTEN, state="busy")
    f.check(f.status()["version"] >= second["version"] > 0, "the version stays")
    d.kill(signal.SIGINT)
    f.equal(d.wait(STOP_SECONDS), 0, "SIGINT is the same")


def main():
    f = Freshet()
    check(f)
    switched_off(f)
    default(f)
    waiting(f)
    reload(f)
    stop(f)
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
