# SPDX-License-Identifier: Apache-2.0
"""Rounds with a broker: the daemon reads, counts, trains and publishes, and is started again after each crash; then a
follower copies the tables from what was published, and is crashed too."""
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "scenario"))
from harness import free_port  # noqa: E402
from judge import Broken, letters, same, same_exports  # noqa: E402

SECONDS = 120
TICK = 0.01
FAST = ["-X", "fetch.wait.max.ms=10"]  # what is asked for is there


def seen_by_both(wanted, got):
    """Sequences without the ids of items that have vanished for one of two watermarks; all else stays to be compared."""
    a, b = ([json.loads(line) for line in text.splitlines()] for text in (wanted, got))
    for x, y in zip(a, b):
        for p, q in zip(x["entries"], y["entries"]):
            if p["item_id"] is None or q["item_id"] is None:
                p["item_id"] = q["item_id"] = None
    return tuple("\n".join(json.dumps(row) for row in rows) for rows in (a, b))


class Live:
    # ---- the broker

    def start_broker(self, parts, samples):
        """An embedded broker of this round alone, with so many partitions of the samples topic; its address."""
        path = os.path.join(self.dir, "broker.address")
        argv = [self.binary, "broker", "--partitions", str(parts), "--address-file", path,
                "--topic", "users:1", "--topic", "items:1", *(["--topic", f"samples:{samples}"] if samples else [])]
        with open(os.path.join(self.dir, "broker.err"), "wb") as err:
            p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err)
        self.processes.append(p)
        deadline = time.monotonic() + 30
        while not (os.path.exists(path) and open(path).read().endswith("\n")):
            if p.poll() is not None or time.monotonic() > deadline:
                raise Broken("the broker does not start")
            time.sleep(TICK)
        with open(path) as f:
            return f.read().strip()

    def kcat(self, broker, *args, input=None):
        tool = shutil.which("kcat") or shutil.which("kafkacat")
        return subprocess.run([tool, "-q", "-b", broker, *FAST, *args], input=input, text=True, capture_output=True, check=True,
                              timeout=SECONDS).stdout

    def produce(self, broker):
        """All messages, without keys (what is tested does not read them): offsets that stand when all are read."""
        topics = [("events", n, part) for n, part in enumerate(self.log.parts)]
        topics += [(t, 0, lines) for t, lines in (("users", self.log.users), ("items", self.log.items)) if lines]
        wanted = {}
        for topic, n, lines in topics:
            self.kcat(broker, "-P", "-t", topic, "-p", str(n), input="".join(line + "\n" for line in lines))
            wanted.setdefault(topic, {})[str(n)] = len(lines)
        return wanted

    # ---- the daemon

    def status(self, port):
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            c.request("GET", "/v1/status")
            return json.loads(c.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            c.close()

    def is_through(self, port, wanted):
        s = self.status(port)
        return (s is not None and s["offsets"] == wanted and not s["training"] and s["updates_waiting"] == 0
                and s["publish"]["waiting"] == 0
                and s["sample_log"].get("published_through", s["sample_log"]["end"]) == s["sample_log"]["end"])

    def daemon(self, settings, broker, crash, state, wanted, seconds):
        """Until it is through, or ended by its crash. The Run, or None where it was stopped at the end of the log."""
        port = free_port()
        argv = [self.binary, "run", "-X", f"bootstrap.servers={broker}", "--state", state,
                "--set", f"http.listen=127.0.0.1:{port}", "--set", "log.level=warn", *self.options_of(settings)]
        p = self.start(argv, crash, state)
        self.processes.append(p)
        begin = time.monotonic()
        until = begin + crash["moment"] * seconds if crash and "moment" in crash else None
        room = None
        while p.poll() is None:
            now = time.monotonic()
            if until is not None and now > until:
                p.kill()
                break
            if crash and crash.get("do") == "full" and room is None and self.fired(p):
                room = now + crash["room"]
            if room is not None and now > room and not os.path.exists(p.room):
                open(p.room, "w").close()
            if now > begin + SECONDS:
                self.hangs(p, port, crash)
            if self.is_through(port, wanted):
                p.send_signal(signal.SIGTERM)
                open(p.room, "w").close()
                break
            time.sleep(TICK)
        self.wait(p, crash)
        return self.ended(p, crash)

    def wait(self, p, crash):
        try:
            p.wait(30)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            raise Broken(f"does not end within 30 s of SIGTERM, under {crash}")

    def hangs(self, p, port, crash):
        s = self.status(port)
        p.kill()
        p.wait()
        raise Broken(f"the daemon hangs under {crash}: {json.dumps(s)[:1500]}")

    # ---- a round

    def live_round(self, r, settings):
        alone = self.left_alone(settings, False)
        all = {**settings, **r["physical"]}
        if self.log.users:
            all = {**all, "stream.users.topic": "users", "stream.items.topic": "items"}
        state = os.path.join(self.dir, "state")
        broker = self.start_broker(r["parts"], r.get("samples_topic", 0))
        if "samples_topic" in r:
            all["publish.samples.topic"] = "samples"
        wanted = self.produce(broker)
        for crash in r["crashes"]:
            run = self.daemon(all, broker, crash, state, wanted, alone["seconds"] + 1.0)
        for n in range(3):  # a port that somebody else took meanwhile is no failure
            run = self.daemon(all, broker, None, state, wanted, 0)
            if run.code == 0:
                break
        self.live_digests(r, alone, settings, state, wanted)
        self.letters_of_topic(broker)
        if "samples_topic" in r:
            self.topic_of_samples(broker, state, settings)
        self.followed(r, all, broker, state)
        if (r.get("as_committed") or r["parts"] > 1) and settings["state.samples_keep"] == "0s":
            self.as_committed(state, all, "-X", f"bootstrap.servers={broker}")

    def live_digests(self, r, alone, settings, state, wanted):
        """With several partitions a file that has ended is idle and a partition is not, so the watermarks at the end are
        not the same: then --as-committed judges, and here what no watermark decides."""
        got = self.digests(state, settings)
        same(wanted, got.pop("offsets"), "offsets")
        if r["parts"] == 1:
            same({k: v for k, v in alone["digest"].items() if k != "offsets"}, got, "digests")
            same_exports(alone["exports"], self.exports(state, settings))
        elif settings.get("state.expire.users", "0s") == "0s":  # else who has vanished is a matter of the watermark, too
            wanted, got = alone["exports"]["sequences"], self.exports(state, settings)["sequences"]
            if settings.get("state.expire.items", "0s") != "0s":
                wanted, got = seen_by_both(wanted, got)
            same_exports({"sequences": wanted}, {"sequences": got})

    def letters_of_topic(self, broker):
        if not self.log.lettered:
            return
        got = []
        for line in self.kcat(broker, "-C", "-t", "events.dlq", "-o", "beginning", "-e", "-J").splitlines():
            m = json.loads(line)
            got.append((dict(zip(m["headers"][::2], m["headers"][1::2])), m["payload"]))
        letters(self.log.lettered, got)

    def topic_of_samples(self, broker, state, settings):
        """Without its repetitions it is the log: whole, and what the log still has to the byte."""
        got, largest, ids = {}, {}, set()
        form = "%p\t%h\t%s\n"
        for line in self.kcat(broker, "-C", "-t", "samples", "-o", "beginning", "-e", "-f", form).splitlines():
            part, headers, value = line.split("\t", 2)
            headers = dict(h.split("=", 1) for h in headers.split(","))
            number = int(headers["freshet.sample"])
            ids.add(headers["freshet.state"])
            if number > largest.get(part, -1):
                got[number] = value
                largest[part] = number
        if sorted(got) != list(range(len(got))) or len(ids) > 1:
            raise Broken(f"the samples topic has {len(got)} samples up to {max(got, default=-1)}, of the states {ids}")
        log = self.command("export", "samples", "--state", state, *self.options_of(settings)).splitlines()
        if log and json.loads(log[-1])["sample"] not in got:
            raise Broken(f"the samples topic ends at {max(got, default=-1)}, the log at {json.loads(log[-1])['sample']}")
        # Of an item that has vanished when it is shown the id is null: the topic and the log may be of different times.
        vague = settings.get("state.expire.items", "0s") != "0s"

        def shown(row):
            sample = json.loads(row)
            sample["features"]["clicks"] = len(sample["features"]["clicks"])
            return sample
        differ = [row for row in log if got[json.loads(row)["sample"]] != row
                  and not (vague and shown(got[json.loads(row)["sample"]]) == shown(row))]
        if differ:
            raise Broken(f"the samples topic: {len(differ)} of {len(log)} differ from the log: {differ[0][:300]}")

    def followed(self, r, settings, broker, state):
        copy = os.path.join(self.dir, "copy")
        argv = [self.binary, "follow", "-X", f"bootstrap.servers={broker}", *FAST, "--state", copy, "--once", "--digest", "--json",
                *self.options_of(settings)]
        digest = self.digests(state, settings)
        if digest["version"] == 0:
            return
        for crash in r["follow"]:
            self.execute(argv, crash, copy, 0.3)
        run = self.execute(argv, None, copy)
        last = json.loads(run.out.splitlines()[-1])
        for key in "version", "tables":
            if last[key] != digest[key]:
                raise Broken(f"the follower's {key} {last[key]}, the daemon's {digest[key]}")
        if last["dense"] not in digest["dense"].values():
            raise Broken("the follower's dense digest is not the daemon's")
