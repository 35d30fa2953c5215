#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# The sample log as a topic: samples_topic.py FRESHET [KILLS [SEED]]
# A daemon that is killed -9 after it has sent and before it has noted that. A consumer that keeps the largest number
# of each partition has every sample once, byte by byte what `export samples` prints. Then a topic that cannot be
# reached, while the log is bounded.
import json
import os
import random
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from harness import Freshet, wait_until  # noqa: E402

HOUR = 3_600_000
BEGIN = 1_767_225_600_000  # 2026-01-01T00:00:00Z
QUICK = ["--set", "join.window=1m", "--set", "update.every=2m", "--set", "update.bootstrap.samples=2000",
         "--set", "state.samples_keep=0s"]
TOPIC = ["--set", "publish.samples.topic=samples"]


def kcat():
    return shutil.which("kcat") or shutil.which("kafkacat")


def messages(f, topic):
    """(partition, number, state, key, value) in order of each partition."""
    form = "%p\t%h\t%k\t%s\n"
    r = subprocess.run([kcat(), "-b", f.broker, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", form],
                       capture_output=True, text=True, check=True, timeout=120)
    found = []
    for line in r.stdout.splitlines():
        partition, headers, key, value = line.split("\t", 3)
        headers = dict(h.split("=", 1) for h in headers.split(","))
        found.append((int(partition), int(headers["freshet.sample"]), headers["freshet.state"], key, value))
    return found


def consumed(all_messages):
    """What a consumer has that keeps one number a partition; how many repetitions it dropped."""
    largest, got, dropped = {}, {}, 0
    for partition, number, _, _, value in all_messages:
        if number <= largest.get(partition, -1):
            dropped += 1
            continue
        largest[partition] = number
        got[number] = value
    return got, dropped


def exported(f, state, *more):
    r = f.run("export", "samples", "--state", f.path(state), *QUICK, *more)
    if r.returncode != 0:
        raise RuntimeError(r.stderr)
    return r.stdout.splitlines()


def metric(f, name):
    for line in f.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[-1])
    return None


def missed(f):
    return metric(f, 'freshet_samples_missed_total{by="size"}')


def hour_of_events(f, n, events=1500):
    """Hour n of the simulated stream, into the broker."""
    r = f.simulate("--events", str(events), "--seed", str(n + 1), "--rate", "1", "--start", str(BEGIN + n * HOUR))
    if r.returncode != 0:
        raise RuntimeError(r.stderr)


def lines_read(f):
    return f.status()["lag"] == 0


def all_published(f):
    log = f.status()["sample_log"]
    return lines_read(f) and log["end"] > 0 and log["published_through"] == log["end"]


def kill_rounds(f, kills, rng):
    """Each time killed after something was delivered; the mark goes with a commit, which comes every 2 s."""
    options = [*QUICK, *TOPIC, "--set", "state.commit_every=2s"]
    for n in range(kills):
        d = f.start_daemon(*options)
        hour_of_events(f, n)
        wait_until(lambda: metric(f, "freshet_samples_published_total"), 60, "a sample delivered")
        try:
            d.wait(rng.uniform(0, 0.4))
        except subprocess.TimeoutExpired:
            pass
        f.check(d.alive(), f"kill {n + 1}: {metric(f, 'freshet_samples_published_total'):.0f} samples since the start")
        d.kill()
        d.wait()


def whole(f, kills, rng):
    kill_rounds(f, kills, rng)
    d = f.start_daemon(*QUICK, *TOPIC)
    hour_of_events(f, kills)
    wait_until(lambda: all_published(f), 60, "the end of the log in the topic")
    f.equal(metric(f, "freshet_samples_unpublished"), 0, "nothing is left to publish")
    f.equal(d.stop(), 0, "the daemon ends")
    found = messages(f, "samples")
    got, dropped = consumed(found)
    want = exported(f, "state")
    f.check(len(want) > 1000, f"{len(want)} samples in the log")
    f.check([got[n] for n in sorted(got)] == want, f"the topic is the export, byte by byte ({dropped} repetitions dropped)")
    f.check(dropped > 0, "kills made repetitions")
    f.equal(len({state for _, _, state, _, _ in found}), 1, "one state id")
    f.check(all(json.loads(v)["user_id"] == k and json.loads(v)["sample"] == n for _, n, _, k, v in found),
            "keys are users, headers are numbers")
    f.check(len({p for p, *_ in found}) > 1, "more than one partition")
    d = f.start_daemon(*QUICK, *TOPIC)
    hour_of_events(f, kills + 1, 500)
    wait_until(lambda: all_published(f), 60, "another hour in the topic")
    f.equal(d.stop(), 0, "the daemon ends")
    more = messages(f, "samples")
    f.equal(len(more) - len(found), len(exported(f, "state")) - len(want), "an orderly stop repeats nothing")


def off_and_on(f):
    """Without the topic nothing is sent; the mark stands, and the rest comes later. Another topic gets all."""
    before = len(messages(f, "samples"))
    d = f.start_daemon(*QUICK)
    hour_of_events(f, 20, 500)
    wait_until(lambda: lines_read(f) and f.status()["sample_log"]["topic"] is None, 30, "an hour without the topic")
    d.stop()
    f.equal(len(messages(f, "samples")), before, "without the topic nothing is sent")
    for topic in "samples", "others":
        d = f.start_daemon(*QUICK, "--set", f"publish.samples.topic={topic}")
        wait_until(lambda: all_published(f), 60, f"the rest in {topic}")
        d.stop()
        got, _ = consumed(messages(f, topic))
        f.check([got[n] for n in sorted(got)] == exported(f, "state"), f"{topic} has the whole log")


def too_long(f):
    """Samples that a message cannot hold are passed over, logged and counted; the rest has its place."""
    limit = 1500
    d = f.start_daemon(*QUICK, "--set", "publish.samples.topic=short", "--set", "update.enabled=false", "-X", f"message.max.bytes={limit}")
    lines = [f"u{n:0200}\t" + json.dumps({"type": "impression", "user_id": f"u{n:0200}", "item_id": f"i{n:0250}",
                                          "request_id": f"r{n:0250}", "timestamp": BEGIN + 20 * HOUR + HOUR // 2 + n}) for n in range(50)]
    subprocess.run([kcat(), "-P", "-b", f.broker, "-t", "events", "-K", "\t"], input="\n".join(lines), text=True, check=True)
    f.sent += len(lines)
    r = f.simulate("--events", "300", "--seed", "99", "--rate", "1", "--start", str(BEGIN + 20 * HOUR + 2 * HOUR // 3))
    f.equal(r.returncode, 0, "some samples of which nobody could make a message, and others")
    wait_until(lambda: f.settled() and all_published(f), 60, "all that is short enough")
    count = metric(f, 'freshet_samples_missed_total{by="length"}')
    d.stop()
    got, dropped = consumed(messages(f, "short"))
    want = exported(f, "state")
    gone = [line for line in want if json.loads(line)["sample"] not in got]
    f.check([got[n] for n in sorted(got)] == [line for line in want if line not in gone] and dropped == 0,
            f"{len(got)} samples are in the topic, in order")
    f.check(len(gone) == len(lines) and min(map(len, gone)) > limit - 300 and max(map(len, got.values())) < limit,
            f"{len(gone)} are too long for messages of {limit} bytes")
    f.equal(count, float(len(gone)), "which are counted")
    f.check("too long for the samples topic" in d.stderr(), "and logged")


def bounded(f):
    """A producer that reaches nobody: the log stays within its bound, and what the topic misses is counted."""
    options = [*QUICK, *TOPIC, "--set", "state.samples_bytes=100kB"]
    config = f.path("dead.yaml")
    with open(config, "w") as out:
        out.write(f"kafka: {{bootstrap.servers: \"{f.broker}\", producer: {{bootstrap.servers: \"127.0.0.1:1\"}}}}\n")
    broker, f.broker = f.broker, None
    d = f.start_daemon("-c", config, *options, state="bounded")
    f.broker = broker

    # Whole commits go, once they are trained on: so some hours, and a commit after each.
    for n in range(21, 25):
        wait_until(lambda: lines_read(f) and not f.status()["training"], 60, "an hour trained on")
        hour_of_events(f, n)

    def within():
        log = f.status()["sample_log"]
        return lines_read(f) and log["gone_unpublished"] > 0 and log["bytes"] < 200_000 and log

    log = wait_until(within, 60, "samples let go of")
    f.check(log["begin"] == log["gone_by_size"] == log["gone_unpublished"],
            f"within the bound: {log['bytes']} bytes, {log['begin']} samples gone")
    f.check(f.status()["sample_log"]["gone_unpublished"] == missed(f) > 0, "counted as missed")
    wait_until(lambda: "samples_bytes" in d.stderr(), 30, "the line in the log")
    d.stop()
    begin = json.loads(exported(f, "bounded", *options)[0])["sample"]
    d = f.start_daemon(*options, "--set", "publish.samples.topic=late", state="bounded")
    wait_until(lambda: all_published(f), 60, "what is left in the topic")
    d.stop()
    got, dropped = consumed(messages(f, "late"))
    f.check(min(got) >= begin and dropped == 0, f"what is left is published, from {min(got)} on")
    f.equal([got[n] for n in sorted(got)][-100:], exported(f, "bounded", *options)[-100:], "to the end of the log")


def main():
    if kcat() is None:
        print("kcat is not installed")
        return 77
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    f = Freshet()
    # The embedded broker keeps 5 MB a partition: repetitions must not push out what they repeat.
    f.start_broker("--topic", "samples:12", "--topic", "others:4", "--topic", "late:2", "--topic", "short:3")
    begin = time.monotonic()
    whole(f, kills, rng)
    off_and_on(f)
    too_long(f)
    bounded(f)
    print(f"      {time.monotonic() - begin:.0f} s")
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
