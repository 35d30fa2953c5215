# SPDX-License-Identifier: Apache-2.0
"""Ingest from a real Kafka (4 partitions) beside the floor: a bare librdkafka + simdjson loop over the same topic.

The daemon reads the whole topic with all state on: counters, sequences, joiner, sample log, dedupe, order. Its CPU is
that of the whole process, RocksDB's and librdkafka's threads included, from start to end of log. Once with updates
switched off (the state alone) and once with training.

Usage: ingest.py FRESHET BENCH_BARE [IMPRESSIONS]
"""
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "scenario"))
from harness import Freshet, free_port  # noqa: E402
from measure import caught_up, cpu_seconds, metrics  # noqa: E402

KAFKA = os.path.join(HERE, "..", "kafka", "kafka.sh")
GOAL = 200_000


def run_daemon(f, name, events, *options):
    begin = time.monotonic()
    daemon = f.start_daemon(*options, state=name, wait=False)
    caught_up(f, daemon, events, 300)
    wall = time.monotonic() - begin
    time.sleep(2)  # commits and compaction that are under way are part of the price
    cpu = cpu_seconds(daemon.popen.pid)
    m = metrics(f)
    daemon.popen.terminate()
    daemon.popen.wait()
    return {"name": name, "cpu": cpu, "wall": wall, "puts": m["freshet_commit_puts_total"],
            "disk": m["freshet_disk_written_bytes_total"], "handed": m["freshet_commit_bytes_total"],
            "trained": m.get("freshet_training_examples_total", 0)}


def main():
    impressions = int(sys.argv[3]) if len(sys.argv) > 3 else 1_500_000
    f = Freshet(sys.argv[1])
    port = free_port()
    started = subprocess.run([KAFKA, "start", f.path("kafka"), str(port)], capture_output=True, text=True)
    if started.returncode == 77:
        sys.exit(started.stderr.strip())
    f.broker = address = started.stdout.strip().splitlines()[-1]
    try:
        subprocess.run([f.binary, "simulate", "--kafka", "--slate", "1", "--events", str(impressions), "--users", "200000",
                        "--items", "20000", "--rate", "2000", "-X", "bootstrap.servers=" + address], check=True)
        bare = json.loads(subprocess.run([sys.argv[2], address, "events"], capture_output=True, text=True, check=True).stdout)
        events = bare["events"]
        rows = [run_daemon(f, "state", events, "--set", "update.enabled=false"),
                run_daemon(f, "state+training", events)]
    finally:
        subprocess.run([KAFKA, "stop", f.path("kafka")])
    print(f"{events} events of {bare['bytes'] / events:.0f} bytes, 4 partitions")
    print(f"{'':16} {'events/CPU-s':>13} {'of bare':>8} {'events/s':>10} {'puts/event':>11} {'bytes handed':>13} "
          f"{'bytes to disk':>14}  (an event)")
    print(f"{'bare loop':16} {bare['per_cpu_second']:13.0f} {1:8.2f} {events / bare['wall']:10.0f}")
    for r in rows:
        rate = events / r["cpu"]
        print(f"{r['name']:16} {rate:13.0f} {rate / bare['per_cpu_second']:8.2f} {events / r['wall']:10.0f} "
              f"{r['puts'] / events:11.2f} {r['handed'] / events:13.0f} {r['disk'] / events:14.0f}")
    print(f"goal {GOAL} events/CPU-s: {events / rows[0]['cpu'] / GOAL:.2f} of it; Kafka Streams' best form is known to do "
          f"27,000: {events / rows[0]['cpu'] / 27000:.1f} times that")


main()
