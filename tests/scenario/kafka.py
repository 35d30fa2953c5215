#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# The daemon on a real Kafka, killed again and again, against the oracle: kafka.py FRESHET [KILLS [SEED]]
# Skipped with a message where tests/kafka/kafka.sh cannot have a broker.
import json
import os
import random
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "oracle")]
from batch import Batch, Options  # noqa: E402
from compare import compare  # noqa: E402
from harness import Freshet, free_port, wait_until  # noqa: E402
from rich_kafka import rich  # noqa: E402
from oracle import exported, kuairand, simulated  # noqa: E402

KAFKA = os.path.join(HERE, "..", "kafka", "kafka.sh")
PARTITIONS = 4
QUICK = ["--set", "state.commit_events=2000", "--set", "update.every=10m", "--set", "update.bootstrap.samples=5000",
         "--set", "state.samples_keep=0s"]


def kafka(*args):
    return subprocess.run(["bash", KAFKA, *args], capture_output=True, text=True)


def kcat(f, *args, input=None):
    return subprocess.run([shutil.which("kcat") or "kafkacat", "-b", f.broker, *args], input=input, text=True,
                          capture_output=True, check=True, timeout=120)


def partition_of(user):
    return sum(user.encode()) % PARTITIONS


def produce(f, topic, lines):
    """Keyed by user; the partition is chosen here, so that the oracle knows it."""
    parts = [[] for _ in range(PARTITIONS)]
    for line in lines:
        user = str(json.loads(line)["user_id"])
        parts[partition_of(user)].append((user, line))
    for n, part in enumerate(parts):
        kcat(f, "-P", "-t", topic, "-p", str(n), "-K", "\t", input="".join(f"{u}\t{e}\n" for u, e in part))
    return [[e for _, e in part] for part in parts]


def offsets(f, state, topic):
    r = f.run("digest", "--state", state)
    if r.returncode:
        return {}
    return json.loads(r.stdout)["offsets"].get(topic, {})


def read_all(f, topic, parts):
    wanted = {str(n): len(part) for n, part in enumerate(parts)}
    return lambda: f.status()["offsets"].get(topic) == wanted


def run_with_kills(f, topic, parts, state, kills, seed):
    rng = random.Random(seed)
    options = ["--set", f"stream.events.topic={topic}", "--set", f"publish.topic={topic}-deltas", *QUICK]
    done = read_all(f, topic, parts)
    for _ in range(kills):
        d = f.start_daemon(*options, state=os.path.basename(state), wait=False)
        try:
            d.wait(rng.uniform(0.05, 2.0))
            f.check(False, "the daemon ended by itself: " + d.stderr()[-400:])
            return None
        except subprocess.TimeoutExpired:
            d.kill()
            d.wait()
    d = f.start_daemon(*options, state=os.path.basename(state))
    wait_until(done, 300, "the end of the log")
    f.wait_settled()
    return d


def against_oracle(f, parts, state):
    batch = Batch(Options(flush=False)).run(parts)
    flushed = Batch(Options()).run(parts)
    for what in "counters", "sequences":
        equal, texts = compare(what, batch.rows(what), exported(f, what, state))
        f.check(not texts, f"{equal} {what} equal, {len(texts)} differ")
        for t in texts[:3]:
            print("        " + t)
    # Arrival order between partitions is the daemon's own where they meet at an equal ts: so by sample, not by number.
    def key(r):
        return r["user_id"], r["item_id"], r["request_id"], r["impression_ts"]
    wanted = {key(r): r for r in flushed.sample_rows()}
    got = exported(f, "samples", state)
    left = [wanted.get(key(r), {}) for r in got]
    equal, texts = compare("samples", left, got, ignore=("sample", "impression"))
    f.check(not texts and len(got) > 0, f"{equal} samples of {len(wanted)} have left and are equal, {len(texts)} differ")
    for t in texts[:3]:
        print("        " + t)


def followers(f, topic, state):
    options = ["--set", f"publish.topic={topic}-deltas", "--set", f"stream.events.topic={topic}"]
    copy = f.path("copy")
    digest = json.loads(f.run("digest", "--state", state).stdout)
    for n in range(3):
        p = f.start("follow", "follow", *options, "--state", copy)
        try:
            p.wait(0.15 * (n + 1))
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
    r = f.run("follow", *options, "--state", copy, "--once", "--digest", "--json")
    if f.equal(r.returncode, 0, "follow catches up after kills"):
        tables = next((json.loads(line)["tables"] for line in reversed(r.stdout.splitlines()) if '"tables"' in line), None)
        f.equal(tables, digest["tables"], "the copy's tables are the daemon's")
    else:
        print(r.stderr[-500:])


def offset_gone(f, topic, state):
    options = ["--set", f"stream.events.topic={topic}", "--set", f"publish.topic={topic}-deltas", *QUICK]
    behind = f.path("behind")
    d = f.start_daemon(*options, state="behind", wait=False)
    wait_until(lambda: offsets(f, behind, topic), 60, "a first commit")
    d.kill()
    d.wait()
    classes = os.path.join(os.environ.get("FRESHET_CACHE", os.path.expanduser("~/.cache/freshet")), "kafka", "lib", "*")
    plan = f.path("delete.json")
    with open(plan, "w") as out:
        json.dump({"version": 1, "partitions": [{"topic": topic, "partition": n, "offset": -1} for n in range(PARTITIONS)]}, out)
    r = subprocess.run(["java", "-cp", classes, "org.apache.kafka.tools.DeleteRecordsCommand", "--bootstrap-server",
                        f.broker, "--offset-json-file", plan], capture_output=True, text=True)
    if r.returncode:
        print("skip  an offset that is gone: no tool to delete records: " + r.stderr[-200:].strip().replace("\n", " "))
        return
    d = f.start_daemon(*options, state="behind", wait=False)
    try:
        wait_until(lambda: "offset" in d.stderr() and ("no longer" in d.stderr() or "gone" in d.stderr()), 30, "the alert")
        f.check(True, "an offset that is gone is said: " + next(x for x in d.stderr().splitlines() if "offset" in x)[-300:])
    except TimeoutError:
        f.check(False, "an offset that is gone is said: " + d.stderr()[-600:])
    d.stop()


def main():
    f = Freshet()
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    dir, port = f.path("kafka"), free_port()
    r = kafka("start", dir, str(port))
    if r.returncode == 77 or not (shutil.which("kcat") or shutil.which("kafkacat")):
        print("skip  " + (r.stderr.strip().splitlines() or ["no kcat"])[-1])
        print("0 passed, 0 failed")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        f.broker = r.stdout.strip().splitlines()[-1]
        topic, state = "events4", f.path("state")
        lines = kuairand() or simulated(f, 30_000, rate=15)
        parts = produce(f, topic, lines)
        d = run_with_kills(f, topic, parts, state, kills, seed)
        if d is not None:
            f.equal(d.stop(), 0, f"SIGTERM after {kills} kills and the whole log")
            against_oracle(f, parts, state)
            r = f.run("replay", "--as-committed", "--state", state, "--set", f"stream.events.topic={topic}", *QUICK, timeout=300)
            f.check(r.returncode == 0, "--as-committed from Kafka agrees " + (r.stdout[-1500:] + r.stderr[-300:] if r.returncode else ""))
            followers(f, topic, state)
            offset_gone(f, topic, state)
            rich(f, "rich")
    except (TimeoutError, RuntimeError, subprocess.CalledProcessError) as e:
        f.check(False, f"{e} {getattr(e, 'stderr', '')}")
    finally:
        for p in f.processes:
            p.kill()
            p.wait()
        kafka("stop", dir)
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
