# SPDX-License-Identifier: Apache-2.0
# No training-serving skew: what a request for features is answered just before an impression is what the
# sample of that impression has in the log, feature by feature, to the last bit. And what a deleted item leaves behind. A
# config with every kind of feature, profiles that change, contexts, an embedded broker. argv[1]: the freshet binary.
import json
import os
import random
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "oracle")]
from configs import RICH  # noqa: E402
from harness import Freshet, wait_until  # noqa: E402
from nasty import START, dress, generate  # noqa: E402

ASKED = 60  # impressions that are asked for before they come


class Log:
    """Produces, and waits until the daemon has read all of it."""

    def __init__(self, f):
        self.f, self.sent = f, 0

    def put(self, topic, lines, *options):
        if not lines:
            return
        text = "".join(line + "\n" for line in lines)
        subprocess.run([shutil.which("kcat") or "kafkacat", "-P", "-b", self.f.broker, "-t", topic, "-K", "\t", *options],
                       input=text, text=True, check=True)
        self.sent += len(lines)
        wait_until(lambda: self.f.status()["messages"] == self.sent, 30, "all messages")

    def events(self, events):
        self.put("events", [f"{e['user_id']}\t{json.dumps(e, separators=(',', ':'))}" for e in events])

    def profiles(self, side, lines):
        self.put(side + "s", [f"{json.loads(line)[side + '_id']}\t{line}" for line in lines])


def items_of(e):
    return [x["item_id"] for x in e["items"]] if "items" in e else [e["item_id"]]


def explained(f, e, item):
    answer = f.post("/v1/explain", {"user_id": e["user_id"], "items": [item], "timestamp": e["timestamp"],
                                    "context": e.get("context", {})})
    if answer.status != 200:
        raise RuntimeError(f"explain: {answer.text}")
    return {x["name"]: x["value"] for x in answer.json["features"]}


def asked(f, e, names):
    """The same by POST /v1/features, for each item of the message."""
    answer = f.post("/v1/features", {"features": names, "entities": [
        {"user_id": e["user_id"], "item_id": i, "context": e.get("context", {}), "at": e["timestamp"]}
        for i in items_of(e)]})
    if answer.status != 200:
        raise RuntimeError(f"features: {answer.text}")
    return [dict(zip(names, row["values"])) for row in answer.json["rows"]]


def skew(f, log):
    rng = random.Random(3)
    lines, users, items = dress(11, generate(11, 900, ["duplicate"]))
    events = [json.loads(line) for line in lines]
    names, wanted, differ = list(RICH["features"]), {}, []
    chosen = set(rng.sample([n for n, e in enumerate(events) if e["type"] == "impression"], ASKED))
    waiting, done = [], 0
    for n, e in enumerate(events):
        if n not in chosen:
            waiting.append(e)
            continue
        log.events(waiting)
        share = (done + 1) * len(users) // ASKED, (done + 1) * len(items) // ASKED
        log.profiles("user", users[done * len(users) // ASKED:share[0]])
        log.profiles("item", items[done * len(items) // ASKED:share[1]])
        waiting, done = [e], done + 1
        rows = asked(f, e, names)
        for item, row in zip(items_of(e), rows):
            features = explained(f, e, item)
            wanted[n, str(item)] = features
            if row != features:
                differ.append({k: (row.get(k), features[k]) for k in features if row.get(k) != features[k]})
        log.events(waiting)
        waiting = []
    log.events(waiting)
    f.equal(differ[:2], [], f"/v1/features and /v1/explain agree on {len(wanted)} pairs")
    log.events([{"type": "click", "user_id": "last", "item_id": "last", "timestamp": START + 30 * 86_400_000}])
    return events, wanted


def compare(f, config, events, wanted):
    r = f.run("export", "samples", "-c", config, "--state", f.path("state"))
    f.equal(r.returncode, 0, "export samples")
    rows = {}
    for line in r.stdout.splitlines():
        row = json.loads(line)
        rows.setdefault((row["user_id"], row["item_id"], row["request_id"], row["impression_ts"]), []).append(row)
    from known import to_ms
    equal, differ = 0, []
    for (n, item), features in wanted.items():
        e = events[n]
        key = str(e["user_id"]), item, e.get("request_id"), to_ms(e["timestamp"])
        for row in rows.get(key, [{"features": {}}]):
            # An earlier impression of the same key, a repetition of the message, has what was known before it.
            if row["features"] == features:
                equal += 1
                break
        else:
            got = rows[key][0]["features"] if key in rows else {}
            differ.append((key, {k: (v, got.get(k)) for k, v in features.items() if got.get(k) != v}))
    f.equal(differ[:2], [], f"{equal} samples have the features that were asked for before them")


def gone(f, log):
    """A tombstone hides the entries that are older, in the sequences that say so; a new event brings the item back."""
    now = START + 31 * 86_400_000

    def kept(name):
        entries = f.get("/v1/users/g1").json["sequences"].get(name, [])
        return [x["item_id"] for x in entries]

    log.events([{"type": a, "user_id": "g1", "item_id": i, "timestamp": now + n}
                for n, (a, i) in enumerate([("share", "p"), ("share", "q"), ("share", "p"), ("comment", "p")])])
    f.equal((kept("share"), kept("comment")), (["p", "q", "p"], ["p"]), "before the deletion")
    log.put("items", ["p\t"], "-Z")
    f.equal((kept("share"), kept("comment")), (["q"], ["p"]), "a deleted item is gone where `gone` says so")
    at = f.get("/v1/items/p").json
    f.equal(at["profile"], {}, "its profile is empty")
    log.events([{"type": "share", "user_id": "g1", "item_id": "q", "timestamp": now + 10}])
    f.equal(kept("share"), ["q", "q"], "and stays away when the sequence is written")


def main():
    f = Freshet()
    if not (shutil.which("kcat") or shutil.which("kafkacat")):
        print("skip  no kcat")
        sys.exit(77)
    config = f.path("config.json")
    told = {**RICH, "sequences": {**RICH["sequences"], "share": {"last": 9, "gone": True}}}
    with open(config, "w") as to:
        json.dump(told, to)
    f.start_broker("--partitions", "1", "--topic", "users:1", "--topic", "items:1")
    daemon = f.start_daemon("-c", config, "--set", "stream.users.topic=users", "--set", "stream.items.topic=items",
                            "--set", "update.enabled=false")
    log = Log(f)
    events, wanted = skew(f, log)
    gone(f, log)
    f.equal(daemon.stop(), 0, "the daemon ends")
    compare(f, config, events, wanted)
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
