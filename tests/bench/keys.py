# SPDX-License-Identifier: Apache-2.0
"""What an event costs by how many users and items are known, and how long a start takes with them. For each number of
keys: every user is seen once, over a real Kafka (4 partitions); then EVENTS events of users and items drawn evenly
among all, so that nothing is warm but what memory holds, and the CPU of the whole process for those. Then kill -9 a few
times, while events still come in, and the time from the start of the process to the first 200 of /healthz and /readyz.

Usage: keys.py FRESHET [--keys 1M,10M] [--events 2M] [--kills 3] [--set KEY=VALUE ...]
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "scenario"))
from harness import Freshet, free_port  # noqa: E402
from measure import caught_up, count, cpu_seconds, metrics, resident, since  # noqa: E402

KAFKA = os.path.join(HERE, "..", "kafka", "kafka.sh")
WAIT_S = 900
START_MS, RATE = 1767225600000, 300  # events a second of event time
USER_BYTES = 320  # of the cache: a user, a counter, its place in the table, now and then a sequence


def line(n, kind, user, item):
    ts = START_MS + n * 1000 // RATE
    return (f'u{user}|{{"type":"{kind}","user_id":"u{user}","item_id":"i{item}","request_id":"r{n}","timestamp":{ts}}}\n')


class Producer:
    """kcat, fed with lines; partitions by the hash of the key."""

    def __init__(self, broker, topic):
        self.kcat = subprocess.Popen(
            ["kcat", "-P", "-b", broker, "-t", topic, "-K|", "-z", "lz4", "-X", "enable.idempotence=true",
             "-X", "linger.ms=50", "-X", "queue.buffering.max.messages=500000", "-X", "partitioner=murmur2_random"],
            stdin=subprocess.PIPE, text=True, bufsize=1 << 20)
        self.n = 0

    def put(self, kind, user, item):
        self.kcat.stdin.write(line(self.n, kind, user, item))
        self.n += 1

    def end(self):
        self.kcat.stdin.close()
        if self.kcat.wait() != 0:
            sys.exit("kcat failed")


def draw(p, r, n, users, items):
    shown = [(0, 0)] * 64
    for i in range(n):
        if i % 4 == 3:
            p.put("click", *shown[r.randrange(64)] if i > 256 else (0, 0))
        else:
            pair = (r.randrange(users), r.randrange(items))
            shown[i % 64] = pair
            p.put("impression", *pair)


class Live(threading.Thread):
    """200 events a second until told to stop."""

    def __init__(self, broker, topic, n, users, items):
        super().__init__(daemon=True)
        self.producer, self.users, self.items, self.stop = Producer(broker, topic), users, items, False
        self.producer.n = n

    def run(self):
        r = random.Random(3)
        while not self.stop:
            draw(self.producer, r, 20, self.users, self.items)
            self.producer.kcat.stdin.flush()
            time.sleep(0.1)
        self.producer.end()


def run(f, keys, args):
    topic = f"keys-{keys}"
    users, items = keys - keys // 10, keys // 10
    r = random.Random(keys)
    options = ["--set", f"stream.events.topic={topic}", "--set", "update.enabled=false", "--set", "publish.enabled=false",
               "--set", f"state.cache={max(768, keys * USER_BYTES >> 20)}MiB", *(w for s in args.set for w in ("--set", s))]
    p = Producer(f.broker, topic)
    for user in range(users):
        p.put("impression", user, user % items)
    p.end()
    filled = p.n
    daemon = f.start_daemon(*options, state=topic, wait=False)
    caught_up(f, daemon, filled, WAIT_S)
    p = Producer(f.broker, topic)
    p.n = filled
    draw(p, r, args.events, users, items)
    os.kill(daemon.pid, 19)  # stopped, until all of it is in the topic: a backlog, at its full speed
    p.end()
    before = cpu_seconds(daemon.pid)
    os.kill(daemon.pid, 18)
    caught_up(f, daemon, filled + args.events, WAIT_S)
    time.sleep(2)  # commits that are under way are part of the price
    cpu = cpu_seconds(daemon.pid) - before
    m = metrics(f)
    row = {"keys": keys, "us": cpu / args.events * 1e6, "per_cpu_second": args.events / cpu, "rss": resident(daemon.pid),
           "disk": m["freshet_disk_written_bytes_total"] / (filled + args.events),
           "handed": m["freshet_commit_bytes_total"] / (filled + args.events), "healthz": [], "readyz": []}
    live = Live(f.broker, topic, p.n, users, items)
    live.start()
    for _ in range(args.kills):
        time.sleep(3)
        daemon.kill()
        daemon.wait()
        begin = time.monotonic()
        daemon = f.start_daemon(*options, state=topic, wait=False)
        row["healthz"].append(since(begin, f, daemon, "/healthz"))
        row["readyz"].append(since(begin, f, daemon, "/readyz"))
    live.stop = True
    live.join()
    daemon.stop(120)
    return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("freshet")
    parser.add_argument("--keys", default="1M,10M")
    parser.add_argument("--events", type=count, default=2_000_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    f = Freshet(args.freshet)
    started = subprocess.run([KAFKA, "start", f.path("kafka"), str(free_port())], capture_output=True, text=True)
    if started.returncode == 77:
        sys.exit(started.stderr.strip())
    f.broker = started.stdout.strip().splitlines()[-1]
    rows = []
    try:
        for keys in args.keys.split(","):
            rows.append(run(f, count(keys), args))
    finally:
        subprocess.run([KAFKA, "stop", f.path("kafka")])
    if args.json:
        print(json.dumps(rows))
    else:
        print(f"{'keys':>11} {'us/event':>9} {'events/CPU-s':>13} {'x least':>8} {'RSS MiB':>8} {'handed B/event':>15} {'disk B/event':>13} "
              f"{'healthz s':>10} {'readyz s':>9}")
        for row in rows:
            print(f"{row['keys']:11} {row['us']:9.2f} {row['per_cpu_second']:13.0f} {row['us'] / rows[0]['us']:8.2f} "
                  f"{row['rss'] >> 20:8} {row['handed']:15.0f} {row['disk']:13.0f} {statistics.median(row['healthz'] or [0]):10.2f} "
                  f"{statistics.median(row['readyz'] or [0]):9.2f}")


main()
