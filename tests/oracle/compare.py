#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares two exports row by row: compare.py counters|sequences|samples WANTED.jsonl GOT.jsonl

Samples are compared in their order, counters by (entity, id, by, bucket, action), sequences by (user, action, by, bucket).
Floats may differ by 1e-12 of themselves. Prints the first differences and the number of equal rows.
"""
import json
import sys

KEYS = {"counters": ("entity", "id", "by", "bucket", "action"), "sequences": ("user_id", "action", "by", "bucket")}
RELATIVE = 1e-12


def same(a, b):
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b or abs(a - b) <= RELATIVE * max(abs(a), abs(b))
    return a == b


def where(a, b, path=""):
    """The first path at which two rows differ, as text."""
    if isinstance(a, dict) and isinstance(b, dict):
        for k in list(a) + [k for k in b if k not in a]:
            if k not in a or k not in b:
                return f"{path}.{k}: {a.get(k, 'absent')!r} wanted, {b.get(k, 'absent')!r} got"
            if not same(a[k], b[k]):
                return where(a[k], b[k], f"{path}.{k}")
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for n, (x, y) in enumerate(zip(a, b)):
            if not same(x, y):
                return where(x, y, f"{path}[{n}]")
    if isinstance(a, list) and isinstance(b, list):
        return f"{path}: {len(a)} entries wanted, {len(b)} got: {a[:3]} and {b[:3]}"
    return f"{path}: {a!r} wanted, {b!r} got"


def keyed(what, rows):
    if what == "samples":
        return {n: r for n, r in enumerate(rows)}
    return {tuple(r.get(k) for k in KEYS[what]): r for r in rows}


def compare(what, wanted, got, ignore=()):
    """(equal rows, list of texts of what differs)"""
    wanted, got = list(wanted), list(got)
    for r in wanted + got:
        for k in ignore:
            r.pop(k, None)
    a, b = keyed(what, wanted), keyed(what, got)
    equal, texts = 0, []
    if len(b) != len(got):
        texts.append(f"{len(got) - len(b)} rows of one key")
    for key, row in a.items():
        if key not in b:
            texts.append(f"{what} {key}: not there, wanted {json.dumps(row)[:300]}")
        elif not same(row, b[key]):
            name = key if what != "samples" else (key, row["user_id"], row["item_id"], row["impression_ts"])
            texts.append(f"{what} {name}{where(row, b[key])}")
        else:
            equal += 1
    texts += [f"{what} {key}: not wanted: {json.dumps(b[key])[:300]}" for key in b if key not in a]
    return equal, texts


def read(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def main():
    what, wanted, got = sys.argv[1:]
    equal, texts = compare(what, read(wanted), read(got))
    for t in texts[:10]:
        print(t)
    print(f"{what}: {equal} rows equal, {len(texts)} differ")
    return 0 if not texts else 1


if __name__ == "__main__":
    sys.exit(main())
