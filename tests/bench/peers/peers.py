# SPDX-License-Identifier: Apache-2.0
"""One topic, one machine, in turn: a bare loop, Kafka Streams, and freshet: the same state alone, with the default
features in its samples, with these in a topic as well, with training.

    peers.py --freshet F --bare B [--classpath CP] [--events N] [--rounds K] [--users N] [--items N] [--rate R]
             [--no-buckets] [--check [--log FILE]] [--streams name=value]... [--set path=value]...

Every run begins with nothing and ends when the whole topic is worked off, committed and closed. CPU is user and system
time of the process with all its threads, from its first instruction to its last; `from 20%` leaves out what was spent on
the first fifth, and with it the JVM's warming up. Then the state is opened again, the process is killed with -9, and
`ready` is the time from its next start until it has caught up. Disk is what the kernel wrote for the process; what it
made the broker write and spend stands beside it. The process that is killed has just been given some more events.

--check compares what Kafka Streams counted on a small log, or on --log FILE, with the batch oracle instead.
"""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "scenario"))
sys.path.insert(0, os.path.join(HERE, ".."))
from harness import Freshet, free_port, wait_until  # noqa: E402
from measure import count  # noqa: E402

KAFKA = os.path.join(HERE, "..", "..", "kafka", "kafka.sh")
JAVA = ["java", "-XX:+UseParallelGC", "-Xms2g", "-Xmx2g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
CONFIG = os.path.join(HERE, "freshet.yaml")
WAIT_S = 3600
ASK_S = 0.1  # a page of metrics is 0.7 ms of the CPU that is measured: asked every 20 ms it was a twentieth of a run
START = 1767225600000  # of event time
# Kafka Streams' samples have no features: nor have those of the first row, but for the ids.
ALONE = ("--set", "features={user_id: {id: user, table: users}, item_id: {id: item, table: items}}")


class Usage:
    """What a process has used so far, by /proc."""

    def __init__(self, pid):
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        self.cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        with open(f"/proc/{pid}/io") as f:
            self.written = int(dict(line.split(": ") for line in f.read().splitlines())["write_bytes"])


def ended(popen):
    """Waits for the end of a process and returns the CPU that it has used in all, and its peak RSS in bytes."""
    _, status, used = os.wait4(popen.pid, 0)
    popen.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


class Bench:
    def __init__(self, a):
        self.a = a
        self.f = Freshet(a.freshet)
        self.runs = 0
        self.broker_pid = None
        self.trickled = 0  # events that came between runs
        self.java = None  # the one that was started last

    # ---- broker and topic

    def start_broker(self):
        started = subprocess.run([KAFKA, "start", self.f.path("kafka"), str(free_port())], capture_output=True, text=True)
        if started.returncode != 0:
            sys.exit(started.stderr.strip())
        self.f.broker = started.stdout.strip().splitlines()[-1]
        with open(self.f.path("kafka", "pid")) as f:
            self.broker_pid = int(f.read())

    def stop_broker(self):
        subprocess.run([KAFKA, "stop", self.f.path("kafka")])

    def load(self, events, keep=None, start=START, seed=1):
        """About so many events, of which every third is feedback, into the topic; `keep`: also into that file."""
        impressions = int(events / 1.49)
        add_context = [sys.executable, os.path.join(HERE, "events.py")]
        if self.a.log is not None:
            make = ["cat", self.a.log]
        else:
            make = [self.f.binary, "simulate", "--slate", "1", "--events", str(impressions), "--users", str(self.a.users),
                    "--items", str(self.a.items), "--rate", str(self.a.rate), "--start", str(start), "--seed", str(seed)]
            add_context += ["--until", str(start + int(impressions / self.a.rate * 1000))]
        kcat = ["kcat", "-P", "-b", self.f.broker, "-t", "events", "-K", "\t", "-X", "linger.ms=50",
                "-X", "batch.num.messages=10000", "-X", "enable.idempotence=true", "-X", "log_level=3"]
        self.pipe(make, [*add_context, "--key"], kcat)
        if keep:
            with open(keep, "wb") as out:
                self.pipe(make, add_context, ["cat"], out)

    def pipe(self, make, change, take, out=None):
        made = subprocess.Popen(make, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        changed = subprocess.Popen(change, stdin=made.stdout, stdout=subprocess.PIPE)
        subprocess.run(take, stdin=changed.stdout, stdout=out, check=True)
        if made.wait() != 0 or changed.wait() != 0:
            sys.exit("the events could not be made")

    def trickle(self):
        """Some more events, and time to take them in: what is killed now has work under way."""
        start = START + int((self.a.events + self.trickled) / 1.49 / self.a.rate * 1000)
        self.trickled += 20_000
        self.load(20_000, start=start, seed=1 + self.trickled)
        time.sleep(3)

    def measured(self, name, work):
        """A row of the table: work() returns what it knows of itself, the broker's part is added."""
        self.runs += 1
        if name != "bare loop":
            self.events = self.count()
        self.before = Usage(self.broker_pid)
        row = {"name": name, **work(f"{name.split(' ')[0].lower()}-{self.runs}")}
        print(f"  {name}: {row['events'] / row['cpu']:.0f} events per CPU-second; "
              + ", ".join(f"{key} {value:.6g}" for key, value in row.items() if key != "name"), flush=True)
        return row

    def all_of(self, **row):
        """What is known of a run at its end: the events, and what the broker has done meanwhile."""
        now = Usage(self.broker_pid)
        return {**row, "events": self.events, "broker_cpu": now.cpu - self.before.cpu,
                "broker_written": now.written - self.before.written}

    # ---- bare loop

    def bare(self, _):
        out = subprocess.run([self.a.bare, self.f.broker, "events"], capture_output=True, text=True, check=True).stdout
        seen = json.loads(out)
        self.events, self.bytes = seen["events"], seen["bytes"]
        return self.all_of(cpu=seen["cpu"], wall=seen["wall"])

    def count(self):
        """Events in the topic: those that came between runs count, too."""
        ask = [x for p in range(4) for x in ("-t", f"events:{p}:-1")]
        ends = subprocess.run(["kcat", "-Q", "-b", self.f.broker, *ask], capture_output=True, text=True, check=True).stdout
        return sum(int(line.rsplit(" ", 1)[1]) for line in ends.splitlines())

    # ---- Kafka Streams

    def start_streams(self, app, *more):
        argv = [*JAVA, "-cp", self.a.classpath, "Peers", "broker=" + self.f.broker, "dir=" + self.f.path("streams", app),
                "app=" + app, "buckets=" + ("true" if self.a.buckets else "false"), *self.a.streams, *more]
        err = open(self.f.path(app + ".err"), "w")
        self.java = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=err, text=True)
        return self.java

    def heard(self, popen, app, what):
        """The line that the program prints at that point."""
        line = popen.stdout.readline()
        if not line:
            with open(self.f.path(app + ".err")) as f:
                sys.exit("Kafka Streams ended: " + f.read()[-2000:])
        said = json.loads(line)
        assert said["at"] == what, (said, what)
        return said

    def streams(self, app):
        popen = self.start_streams(app, f"events={self.events}")
        self.heard(popen, app, "ready")
        warm = self.heard(popen, app, "warm")
        done = self.heard(popen, app, "done")
        written = self.closing(popen)
        cpu, rss = ended(popen)
        if popen.returncode != 0:
            sys.exit(f"Kafka Streams ended with {popen.returncode}")
        row = self.all_of(cpu=cpu, wall=done["wall"], rss=rss, written=written, cpu_warm=cpu - warm["cpu"],
                          wall_warm=done["wall"] - warm["wall"])
        row["ready"], row["restored"] = self.streams_ready(app)
        return row

    def closing(self, popen):
        """What the process has written, read until it is gone."""
        written = 0
        while True:
            try:
                written = max(written, Usage(popen.pid).written)
            except OSError:
                return written
            with open(f"/proc/{popen.pid}/stat") as f:
                if f.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return written
            time.sleep(0.05)

    def streams_ready(self, app):
        for kill in True, False:
            begin = time.monotonic()
            popen = self.start_streams(app, "events=0")
            said = self.heard(popen, app, "ready")
            ready = time.monotonic() - begin
            if kill:
                self.trickle()
            popen.kill()
            popen.wait()
        return ready, said["restored"]

    # ---- freshet

    def start_freshet(self, state, *options):
        more = [x for pair in self.a.set for x in ("--set", pair)]
        if not self.a.buckets:
            more += ["--set", "counters.item.by=[]"]
        return self.f.start_daemon("-c", CONFIG, "--set", f"publish.topic={state}-deltas",
                                   *(o.replace("STATE", state) for o in options), *more,
                                   state=state, wait=False)

    def metrics(self, daemon):
        if not daemon.alive():
            sys.exit("freshet ended: " + daemon.stderr())
        try:
            text = self.f.get("/metrics").text
        except OSError:
            return {}
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
                for line in text.splitlines() if line and not line.startswith("#")}

    def read(self, daemon):
        return self.metrics(daemon).get("freshet_messages_total", 0)

    def at_rest(self, daemon):
        """Nothing more to read, to train or to publish."""
        s = self.f.status()
        return (s["lag"] == 0 and not s["training"] and s["updates_waiting"] == 0
                and self.metrics(daemon).get("freshet_samples_unpublished", 0) == 0)

    def freshet(self, *options):
        def work(state):
            begin = time.monotonic()
            daemon = self.start_freshet(state, *options)
            wait_until(lambda: self.read(daemon) >= self.events / 5, WAIT_S, "a fifth", ASK_S)
            warm, warm_wall = Usage(daemon.pid).cpu, time.monotonic() - begin
            wait_until(lambda: self.read(daemon) >= self.events and self.at_rest(daemon), WAIT_S, "the end of the log",
                       ASK_S)
            wall = time.monotonic() - begin
            daemon.kill(15)
            written = self.closing(daemon.popen)
            cpu, rss = ended(daemon.popen)
            row = self.all_of(cpu=cpu, wall=wall, rss=rss, written=written, cpu_warm=cpu - warm,
                              wall_warm=wall - warm_wall)
            row["ready"] = self.freshet_ready(state, *options)
            return row
        return work

    def freshet_ready(self, state, *options):
        def ready():
            self.metrics(daemon)
            try:
                if self.f.get("/readyz").status == 200:
                    return True
                s = self.f.status()  # a log too short for a first version never makes one
                return s["lag"] == 0 and s["waits_for"] == "no model version yet"
            except OSError:
                return False
        for kill in True, False:
            begin = time.monotonic()
            daemon = self.start_freshet(state, *options)
            wait_until(ready, WAIT_S, "readiness")
            took = time.monotonic() - begin
            if kill:
                self.trickle()
            daemon.kill()
            daemon.wait()
        return took

    # ---- together

    def round(self):
        rows = [self.measured("bare loop", self.bare)]
        if self.a.classpath:
            rows.append(self.measured("Kafka Streams", self.streams))
            shutil.rmtree(self.f.path("streams"))
        state_only, topic = ("--set", "update.enabled=false"), ("--set", "publish.samples.topic=STATE-samples")
        rows.append(self.measured("freshet", self.freshet(*state_only, *ALONE)))
        rows.append(self.measured("freshet + features", self.freshet(*state_only)))
        rows.append(self.measured("freshet + topic", self.freshet(*state_only, *topic)))
        rows.append(self.measured("freshet + training", self.freshet()))
        return rows

    def table(self, rounds):
        first, last = rounds[0][0], rounds[-1][0]
        print(f"\n{first['events']} events of {self.bytes / last['events']:.0f} bytes, 4 partitions, buckets "
              f"{'on' if self.a.buckets else 'off'}; median of {len(rounds)}")
        print(f"{'':20}{'events/CPU-s':>13}{'x Streams':>10}{'x bare':>8}{'events/s':>10}{'from 20%: /CPU-s':>18}"
              f"{'x Streams':>10}{'/s':>9}{'RSS MB':>8}{'disk B/event':>13}{'kill -9':>9}{'broker CPU-s':>14}"
              f"{'disk B/event':>13}")
        def rate(row, of):
            return row["events"] * (0.8 if of.endswith("_warm") else 1) / row[of]
        def median(name, value):
            return statistics.median(value(row) for rows in rounds for row in rows if row["name"] == name)
        def ratio(name, other, of):
            found = [rate(r, of) / rate(o, of) for rows in rounds for r in rows for o in rows
                     if r["name"] == name and o["name"] == other and of in r and of in o]
            return f"{statistics.median(found):.2f}" if found else "-"
        for name in [row["name"] for row in rounds[0]]:
            known = next(row for row in rounds[0] if row["name"] == name)
            line = (f"{name:20}{median(name, lambda r: rate(r, 'cpu')):13.0f}"
                    f"{ratio(name, 'Kafka Streams', 'cpu'):>10}{ratio(name, 'bare loop', 'cpu'):>8}"
                    f"{median(name, lambda r: rate(r, 'wall')):10.0f}")
            if "cpu_warm" in known:
                line += (f"{median(name, lambda r: rate(r, 'cpu_warm')):18.0f}"
                         f"{ratio(name, 'Kafka Streams', 'cpu_warm'):>10}"
                         f"{median(name, lambda r: rate(r, 'wall_warm')):9.0f}"
                         f"{median(name, lambda r: r['rss']) / 1e6:8.0f}"
                         f"{median(name, lambda r: r['written'] / r['events']):13.0f}"
                         f"{median(name, lambda r: r['ready']):8.2f}s")
            else:
                line += " " * 67
            print(line + f"{median(name, lambda r: r['broker_cpu']):14.1f}"
                  f"{median(name, lambda r: r['broker_written'] / r['events']):13.0f}")
        restored = [row["restored"] for rows in rounds for row in rows if "restored" in row]
        if restored:
            print(f"Kafka Streams restored {statistics.median(restored):.0f} records after kill -9")

    def check(self):
        events, dump, samples = self.f.path("events.jsonl"), self.f.path("dump"), self.f.path("samples")
        self.load(self.a.events, events)
        self.events = self.count()
        popen = self.start_streams("check", f"events={self.events}", "dump=" + dump)
        for what in "ready", "warm", "done":
            self.heard(popen, "check", what)
        if popen.wait() != 0:
            sys.exit(f"Kafka Streams ended with {popen.returncode}")
        with open(samples, "wb") as out:
            subprocess.run(["kcat", "-C", "-b", self.f.broker, "-t", "check-samples", "-e", "-q",
                            "-X", "isolation.level=read_committed", "-f", "%K %S %k%s"], stdout=out, check=True)
        return subprocess.run([sys.executable, os.path.join(HERE, "check.py"), dump, samples, events,
                               "true" if self.a.buckets else "false"]).returncode

    def run(self):
        self.start_broker()
        try:
            if self.a.check:
                return self.check()
            self.load(self.a.events)
            rounds = []
            for n in range(self.a.rounds):
                print(f"round {n + 1}", flush=True)
                rounds.append(self.round())
            self.table(rounds)
            return 0
        finally:
            if self.java is not None and self.java.returncode is None:
                self.java.kill()
            self.stop_broker()


def main():
    p = argparse.ArgumentParser(prog="scripts/bench peers", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--freshet", required=True, help=argparse.SUPPRESS)
    p.add_argument("--bare", required=True, help=argparse.SUPPRESS)
    p.add_argument("--classpath", default="", help=argparse.SUPPRESS)
    p.add_argument("--events", type=count, help="default 3000000; with --check 100000")
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--users", type=int, default=200_000)
    p.add_argument("--items", type=int, default=20_000)
    p.add_argument("--rate", type=float, help="impressions a second of event time; default 1000, with --check 0.5")
    p.add_argument("--no-buckets", dest="buckets", action="store_false", help="neither side counts by bucket")
    p.add_argument("--check", action="store_true")
    p.add_argument("--log", help="with --check: these events, and not simulated ones")
    p.add_argument("--streams", action="append", default=[], metavar="NAME=VALUE", help="see Peers.java")
    p.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="of freshet's config")
    a = p.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # and nothing stays behind
    a.events = a.events or (100_000 if a.check else 3_000_000)
    a.rate = a.rate or (0.5 if a.check else 1000)
    if a.check and not a.classpath:
        sys.exit(77)
    return Bench(a).run()


if __name__ == "__main__":
    sys.exit(main())
