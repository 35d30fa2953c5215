# SPDX-License-Identifier: Apache-2.0
"""The messages of a round: what it reads, and what of it must come out as dead letters."""
import json
import os
import random
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "oracle"))
import nasty  # noqa: E402

CORPUS = os.path.join(HERE, "..", "corpus")
BAD_BYTES = 2000


def events(binary, log):
    if log["kind"] == "nasty":
        return nasty.generate(log["seed"], log["messages"], log.get("without", ()))
    argv = [binary, "simulate", "--events", str(log["messages"]), "--seed", str(log["seed"]), "--rate", "10"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()


def bad_messages():
    """Those of the corpus that are one line of text, so that they can stand in a file too."""
    all = []
    for name in sorted(os.listdir(CORPUS)):
        with open(os.path.join(CORPUS, name), "rb") as f:
            data = f.read()
        if name.startswith(("good", "README")) or len(data) > BAD_BYTES or not data.strip():
            continue
        if data.isascii() and all_printable(data):
            all.append(data.decode())
    return all


def all_printable(data):
    return all(0x20 <= b < 0x7f for b in data)


class Log:
    """parts: lists of lines. lettered: (part, index of the line) -> the bad line. users, items: lines of profiles."""

    def __init__(self, binary, round):
        rng = random.Random(f"log {round['log']} {round['parts']} {round['bad']}")
        n = round["parts"]
        self.good = [[] for _ in range(n)]
        for line in events(binary, round["log"]):
            user = str(json.loads(line)["user_id"])
            self.good[sum(user.encode()) % n].append(line)
        self.parts = [list(p) for p in self.good]
        choice = bad_messages()
        for _ in range(round["bad"]):
            part = rng.choice(self.parts)
            part.insert(rng.randrange(len(part) + 1), choice[rng.randrange(len(choice))])
        bad = set(choice)
        self.lettered = {(p, i): line for p, part in enumerate(self.parts) for i, line in enumerate(part) if line in bad}
        self.users, self.items = profiles(rng, self.good) if round.get("profiles") else ([], [])

    def write(self, dir):
        """Files of the parts and profiles: (events, users, items), lists of paths."""
        os.makedirs(dir, exist_ok=True)

        def put(name, lines):
            path = os.path.join(dir, name)
            with open(path, "w") as f:
                f.write("".join(line + "\n" for line in lines))
            return path
        return ([put(f"events-{n}.jsonl", part) for n, part in enumerate(self.parts)],
                [put("users.jsonl", self.users)] if self.users else [],
                [put("items.jsonl", self.items)] if self.items else [])

    def offsets(self):
        """Where lines begin in their files: (part, index) -> bytes."""
        ret = {}
        for p, part in enumerate(self.parts):
            at = 0
            for i, line in enumerate(part):
                ret[p, i] = at
                at += len(line.encode()) + 1
        return ret


def profiles(rng, parts):
    """Upserts over the time of the log; some are older than the one before and must not win."""
    lines = [json.loads(line) for part in parts for line in part[:400]]
    times = [nasty_ms(e["timestamp"]) for e in lines]
    low, high = min(times), max(times)

    def upserts(key, ids, attributes):
        rows = []
        for id in ids:
            for _ in range(rng.choice((1, 2, 3))):
                ts = rng.randrange(low, high + 1)
                rows.append((ts + rng.choice((0, 0, 5000)), {key: id, "timestamp": ts, "attributes": attributes()}))
        rows.sort(key=lambda r: r[0])
        return [json.dumps(r, separators=(",", ":")) for _, r in rows]
    users = sorted({str(e["user_id"]) for e in lines})
    items = sorted({str(e["item_id"]) for e in lines if "item_id" in e})
    return (upserts("user_id", users, lambda: {"gender": rng.choice("fm"), "age": rng.randrange(18, 80)}),
            upserts("item_id", items, lambda: {"category": rng.choice(("shoes", "hats")), "tags": ["new", "sale"]}))


def nasty_ms(t):
    import batch
    return batch.to_ms(t)
