# SPDX-License-Identifier: Apache-2.0
# A config with buckets, named sequences and every kind of feature, through Kafka: profiles by their topics, events in
# several partitions, kills at random; every row equal to the oracle's. Here on the embedded broker; kafka.py runs the same
# on a real one. argv[1]: the freshet binary.
import json
import os
import random
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "oracle")]
from batch import Batch, options_of  # noqa: E402
from compare import compare  # noqa: E402
from configs import RICH  # noqa: E402
from harness import Freshet, wait_until  # noqa: E402
from nasty import KINDS, START, dress, generate  # noqa: E402
from oracle import exported, split  # noqa: E402

PARTITIONS = 3
QUICK = ["--set", "update.enabled=false", "--set", "state.commit_every=50ms", "--set",
         "stream.time.idle_after=1s"]


def put(f, topic, partition, rows):
    subprocess.run([shutil.which("kcat") or "kafkacat", "-P", "-b", f.broker, "-t", topic, "-p", str(partition), "-K", "\t"],
                   input="".join(f"{k}\t{v}\n" for k, v in rows), text=True, check=True)


def log(seed, messages):
    """Events of strictly ascending time, so that partitions have one order; profiles that all come before them."""
    events, users, items = dress(seed, generate(seed, messages, KINDS), span=900)
    rows, now = [json.loads(line) for line in events], START
    for e in rows:
        now = e["timestamp"] = max(now + 1, e["timestamp"])
    return [json.dumps(e, separators=(",", ":")) for e in rows], users, items


def rich(f, prefix, seed=6, messages=3_000, kills=3, drawn=RICH):
    events, users, items = log(seed, messages)
    parts = split(events, PARTITIONS)
    state, config = f.path(prefix), f.path(prefix + ".json")
    with open(config, "w") as to:
        json.dump(drawn, to)
    options = ["-c", config, *QUICK, "--set", f"stream.events.topic={prefix}-events", "--set",
               f"stream.users.topic={prefix}-users", "--set", f"stream.items.topic={prefix}-items"]

    def offsets(name):
        return sum(f.status()["offsets"].get(f"{prefix}-{name}", {}).values())

    for name, lines in ("users", users), ("items", items):
        put(f, f"{prefix}-{name}", 0, [(json.loads(line)[name[:-1] + "_id"], line) for line in lines])
    put(f, f"{prefix}-events", 0, [("x", "no event, but it makes the topic")])
    d = f.start_daemon(*options, state=prefix)
    wait_until(lambda: (offsets("users"), offsets("items")) == (len(users), len(items)), 30, "all profiles")
    f.equal(d.stop(), 0, "profiles are read")
    for n, part in enumerate(parts):
        put(f, f"{prefix}-events", n, [(json.loads(line)["user_id"], line) for line in part])
    rng = random.Random(seed)
    for _ in range(kills):
        d = f.start_daemon(*options, state=prefix, wait=False)
        try:
            d.wait(rng.uniform(0.05, 0.6))
            f.check(False, "the daemon ended by itself: " + d.stderr()[-400:])
        except subprocess.TimeoutExpired:
            d.kill()
            d.wait()
    d = f.start_daemon(*options, state=prefix)
    wait_until(lambda: offsets("events") == len(events) + 1, 60, "all events")
    batches = [batch(drawn, parts, users, items, flush) for flush in (False, True)]
    some = len(batches[0].samples)
    wait_until(lambda: f.status()["samples"] == some, 30, f"{some} samples, once a partition without events is idle")
    if drawn is RICH:
        f.equal(f.status()["profile_conflicts"]["user"] > 0, True, "values of another type are in the status")
    f.equal(d.stop(), 0, f"the daemon ends, after {kills} kills")
    against(f, config, state, batches)


def batch(drawn, parts, users, items, flush):
    """The profiles first."""
    ret = Batch(options_of(drawn, flush=flush))
    for side, lines in ("user", users), ("item", items):
        for e in map(json.loads, lines):
            ret.profile(side, {**e, "ts": e["timestamp"]})
    return ret.run(parts)


def against(f, config, state, batches):
    def key(r):
        return r["user_id"], r["item_id"], r["request_id"], r["impression_ts"], r.get("corrects", -1) >= 0, r["emitted_ts"]

    for what in "counters", "sequences", "samples":
        got = exported(f, what, state, "-c", config)
        wanted = list(batches[what == "samples"].rows(what))
        if what == "samples":
            by_key = {key(r): r for r in wanted}
            wanted = [by_key.get(key(r), {}) for r in got]
        equal, texts = compare(what, wanted, got, ignore=("sample",))
        f.check(not texts and (equal > 0 or not wanted), f"{equal} {what} equal, {len(texts)} differ")
        for t in texts[:3]:
            print("        " + t)


def main():
    f = Freshet()
    if not (shutil.which("kcat") or shutil.which("kafkacat")):
        print("skip  no kcat")
        sys.exit(77)
    f.start_broker("--partitions", "1", "--topic", f"rich-events:{PARTITIONS}", "--topic", "rich-users:1", "--topic", "rich-items:1")
    rich(f, "rich")
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
