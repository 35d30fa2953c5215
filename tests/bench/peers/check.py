# SPDX-License-Identifier: Apache-2.0
"""Is what Kafka Streams counted right? Reads the dump of its stores and its samples topic, and compares them with the
batch oracle on the same events: every counter of users, items and items by bucket, every sequence, every sample.

Usage: check.py DUMP SAMPLES EVENTS.jsonl [BUCKETS]    BUCKETS: true (default) or false

DUMP is what `dump=FILE` of Peers.java writes; SAMPLES is what kcat -f '%K %S %k%s' prints of the samples topic. The
layouts of keys and values are drawn in Tiles.java and Processors.java.
"""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "oracle"))
import batch  # noqa: E402

ACTIONS = ["impression", *batch.FEEDBACK, "watch_ms"]
LABELS = ["click", "like", "collect", "share", "comment", "follow", "dislike", "watch_ms"]
WINDOWS = [("1h", 60_000, 60), ("1d", 900_000, 96), ("7d", 3_600_000, 168)]
DIMENSIONS = {"g": "gender", "a": "age", "o": "geo"}
# What Event.java and freshet.yaml say, too.
BUCKETS = {"gender": {"of": "context.gender"}, "geo": {"of": "context.geo"},
           "age": {"of": "context.age", "edges": [18, 25, 35, 45, 55, 65]}}


def oracle_of(events, buckets):
    by = {"buckets": BUCKETS, "counters": {"item": {"by": list(BUCKETS)}}} if buckets else {}
    oracle = batch.Batch(batch.Options(dedupe_window=0, config={"features": {}, **by}))
    with open(events) as f:
        return oracle.run([f])


def counters_of(entity, key, cells, at):
    """The rows of one key of the stores users and items."""
    id, _, bucket = key.decode().partition("\0")
    rows = {}
    for slot, tile, value in struct.iter_unpack(">BIq", cells):
        name, size, tiles = WINDOWS[slot & 3]
        row = (entity, id, DIMENSIONS[bucket[0]] if bucket else None, bucket[1:] or None, ACTIONS[slot >> 2])
        windows = rows.setdefault(row, {name: 0 for name, _, _ in WINDOWS})
        if at // size - tiles < tile <= at // size:
            windows[name] += value
    return {row: windows for row, windows in rows.items() if any(windows.values())}


def sequence_of(value):
    at, entries = 0, []
    while at < len(value):
        ts, length = struct.unpack_from(">qB", value, at)
        entries.append((ts, value[at + 9:at + 9 + length].decode()))
        at += 9 + length
    return entries


def waiting_of(key, value):
    """((user, item, request, ts), labels) of each impression in one value."""
    user, item = key.decode().split("\0")
    at = 0
    while at < len(value):
        ts, watch_ms, bits, length = struct.unpack_from(">qqHB", value, at)
        labels = {name: bits >> ACTIONS.index(name) & 1 for name in LABELS[:-1]}
        labels["watch_ms"] = watch_ms
        yield (user, item, value[at + 19:at + 19 + length].decode() or None, ts), labels
        at += 19 + length


def compare(what, wanted, got):
    differ = [key for key in wanted.keys() | got.keys() if wanted.get(key) != got.get(key)]
    for key in sorted(differ, key=str)[:5]:
        print(f"  {what} {key}: wanted {wanted.get(key)}, got {got.get(key)}")
    print(f"{what}: {len(wanted) - sum(key in wanted for key in differ)} rows equal, {len(differ)} differ")
    return not differ and len(wanted) > 0


def read_dump(path):
    with open(path) as f:
        for line in f:
            store, key, value = line.split(" ")
            yield store, bytes.fromhex(key), bytes.fromhex(value)


def read_samples(path):
    with open(path, "rb") as f:
        data = f.read()
    at = 0
    while at < len(data):
        head = data[at:at + 24].split(b" ", 2)
        key, value = int(head[0]), int(head[1])
        at += len(head[0]) + len(head[1]) + 2
        yield data[at:at + key], data[at + key:at + key + value]
        at += key + value


def main():
    dump, samples, events = sys.argv[1:4]
    oracle = oracle_of(events, (sys.argv + ["true"])[4] == "true")
    counters, sequences, left, waiting = {}, {}, {}, {}
    for store, key, value in read_dump(dump):
        if store in ("users", "items"):
            counters.update(counters_of(store[:-1], key, value, oracle.at))
        elif store == "sequences":
            sequences[key[:-2].decode(), ACTIONS[key[-1]]] = sequence_of(value)
        else:
            waiting.update(waiting_of(key, value))
    twice = 0
    for key, value in read_samples(samples):
        for sample, labels in waiting_of(key, value):
            twice += sample in left or sample in waiting
            left[sample] = labels
    good = compare("counters", {tuple(r[k] for k in ("entity", "id", "by", "bucket", "action")): r["windows"]
                                for r in oracle.rows("counters")}, counters)
    good &= compare("sequences", {(r["user_id"], r["action"]): [(e["ts"], e["item_id"]) for e in reversed(r["entries"])]
                                  for r in oracle.rows("sequences")}, sequences)
    good &= compare("samples", {tuple(r[k] for k in ("user_id", "item_id", "request_id", "impression_ts")): r["labels"]
                                for r in oracle.rows("samples")}, {**waiting, **left})
    print(f"of the samples {len(left)} have left and {len(waiting)} wait; {twice} came twice")
    return 0 if good and twice == 0 and left else 1


if __name__ == "__main__":
    sys.exit(main())
