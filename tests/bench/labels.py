#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a way of labelling costs: labels.py FRESHET [--hours H] [--rate R] [--seed S]

One simulated log, in which the share SLOW of the clicks comes SLOW_DELAY later on average, is replayed under each
policy in pieces of half an hour. After each piece the model is taken out and predicts the impressions of the next
EVAL minutes, of which the simulator knows the true probabilities. So no policy is judged by its own labels.

    delay      from an impression to the end of the update that trained on it, out_of_order included: median and 90%
    clicks     of all clicks in the log, those that a sample had in the end
    auc        of the predictions against what was clicked; in the head of the table that of the true probabilities
    calib.     sum of predictions by sum of true probabilities

The dense layers are never frozen here, so that what is seen is the labels' doing.
"""
import argparse
import json
import math
import os
import struct
import subprocess
import sys
import tempfile

MINUTE = 60_000
START = 1_767_225_600_000
SLOW, SLOW_DELAY = 0.5, 600  # seconds
WINDOW, LONG = 5 * MINUTE, 60 * MINUTE
UPDATE, OUT_OF_ORDER = MINUTE, 5_000
PIECE, EVAL, WARM = 30 * MINUTE, 5 * MINUTE, 4

CONFIG = """
tables: {users: {dim: 8, rows: 100k, lr: 0.05}, items: {dim: 8, rows: 100k, lr: 0.05}}
features: {user_id: {id: user, table: users}, item_id: {id: item, table: items}}
models: {ctr: {net: [{name: bottom, mlp: [16], of: all}], heads: {click: {of: bottom%s}}}}
update: {every: 1m, bootstrap: {samples: 1G}, batch: 128}
counters: {windows: [1h]}
publish: {enabled: false}
"""

LABELS = "join.labels={all: {}, click: {window: 60m}}"
POLICIES = [
    ("wait 5m", "", ["join.window=5m"]),
    ("wait 60m", "", ["join.window=60m"]),
    ("wait 5m, click 60m", "", ["join.window=5m", LABELS]),
    ("  corrections added", ", corrected: add", ["join.window=5m", LABELS]),
    ("first_label 60m", "", ["join.window=60m", "join.emit=first_label"]),
    ("fake_negative 60m, fnw", "", ["join.window=60m", "join.emit=fake_negative"]),
    ("  logloss", ", loss: logloss", ["join.window=60m", "join.emit=fake_negative"]),
    ("  logloss, added", ", loss: logloss, corrected: add", ["join.window=60m", "join.emit=fake_negative"]),
]


def run(*argv, **more):
    r = subprocess.run([str(a) for a in argv], capture_output=True, text=True, **more)
    if r.returncode != 0:
        sys.exit(f"{' '.join(map(str, argv))}: {r.stderr[-500:]}")
    return r.stdout


# ---- the model, as it is exported ----------------------------------------------------------------------

def safetensors(path):
    with open(path, "rb") as f:
        b = f.read()
    n = struct.unpack("<Q", b[:8])[0]
    ret = {}
    for name, t in json.loads(b[8:8 + n]).items():
        if name == "__metadata__":
            continue
        low, high = t["data_offsets"]
        ret[name] = t["shape"], struct.unpack(f"<{(high - low) // 4}f", b[8 + n + low:8 + n + high])
    return ret


class Model:
    """Embeddings of user and item, a layer of 16 with ReLU, a sigmoid."""

    def __init__(self, freshet, config, state, dir):
        self.tables = {}
        for name in "users", "items":
            path = os.path.join(dir, name)
            run(freshet, "export", "table", name, "-c", config, "--state", state, "--out", path)
            (_, dim), values = safetensors(path)["weight"]
            with open(path + ".ids.jsonl") as f:
                rows = [json.loads(line) for line in f]
            self.tables[name] = {r["id"]: values[r["row"] * dim:(r["row"] + 1) * dim] for r in rows}
            self.dim = dim
        run(freshet, "export", "dense", "-c", config, "--state", state, "--out", os.path.join(dir, "dense"))
        dense = safetensors(os.path.join(dir, "dense"))
        (self.out, self.n_in), self.w = dense["bottom.0.weight"]
        self.b = dense["bottom.0.bias"][1]
        self.head, self.bias = dense["click.weight"][1], dense["click.bias"][1][0]

    def predict(self, user, item):
        none = (0.0,) * self.dim
        x = self.tables["users"].get(user, none) + self.tables["items"].get(item, none)
        z = self.bias
        for k in range(self.out):
            h = self.b[k] + sum(map(float.__mul__, self.w[k * self.n_in:(k + 1) * self.n_in], x))
            z += self.head[k] * h if h > 0 else 0
        return 1 / (1 + math.exp(-z))


def auc(scored):
    """Of (score, label)."""
    wins = below = 0
    positives = sum(y for _, y in scored)
    scored = sorted(scored)
    i = 0
    while i < len(scored):
        j = i
        while j < len(scored) and scored[j][0] == scored[i][0]:
            j += 1
        up = sum(y for _, y in scored[i:j])
        down = j - i - up
        wins += up * (below + down / 2)
        below += down
        i = j
    return wins / (positives * (len(scored) - positives))


# ---- a policy ------------------------------------------------------------------------------------------

def at_share(values, share):
    values = sorted(values)
    return values[int(share * (len(values) - 1))] / MINUTE if values else math.nan


def trained_at(row):
    return (row["emitted_ts"] // UPDATE + 1) * UPDATE + OUT_OF_ORDER


def delays(rows):
    """(of positives, of negatives, impressions with a click): from an impression to the first sample that says so."""
    positive, negative, clicked = [], [], set()
    for r in rows:
        key = r["request_id"], r["item_id"]
        if r["labels"]["click"] and key not in clicked:
            clicked.add(key)
            positive.append(trained_at(r) - r["impression_ts"])
        elif not r["labels"]["click"]:
            negative.append(trained_at(r) - r["impression_ts"])
    return positive, negative, clicked


def policy(freshet, dir, name, head, settings, pieces, truth):
    config, state, events = (os.path.join(dir, f) for f in ("config.yaml", "state", "events.jsonl"))
    with open(config, "w") as f:
        f.write(CONFIG % head)
    given = [a for s in settings for a in ("--set", s)]
    scores, best, sums = [], [], [0.0, 0.0]
    for k, piece in enumerate(pieces):
        with open(events, "a") as f:
            f.writelines(piece)
        run(freshet, "replay", "-c", config, *given, "--events", events, "--state", state)
        if k < WARM or k + 1 == len(pieces):
            continue
        model = Model(freshet, config, state, dir)
        begin = START + (k + 1) * PIECE
        for t in truth:
            if begin <= t["timestamp"] < begin + EVAL:
                q = model.predict(t["user"], t["item_id"])
                scores.append((q, t["click"]))
                best.append((t["p"], t["click"]))
                sums = [sums[0] + q, sums[1] + t["p"]]
    rows = map(json.loads, run(freshet, "export", "samples", "-c", config, *given, "--state", state).splitlines())
    positive, negative, clicked = delays(rows)
    settled = [t for t in truth if t["timestamp"] < START + len(pieces) * PIECE - 2 * LONG]
    clicks = [(t["request_id"], t["item_id"]) for t in settled if t["click"]]
    return {"name": name, "positive": (at_share(positive, 0.5), at_share(positive, 0.9)),
            "negative": at_share(negative, 0.5), "clicks": sum(c in clicked for c in clicks) / len(clicks),
            "auc": auc(scores), "best": auc(best), "calibration": sums[0] / sums[1]}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("freshet")
    p.add_argument("--hours", type=float, default=6)
    p.add_argument("--rate", type=float, default=15)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    freshet = os.path.abspath(a.freshet)
    n = int(a.hours * 3600 * a.rate)
    with tempfile.TemporaryDirectory(prefix="freshet-labels-") as top:
        path = os.path.join(top, "truth.jsonl")
        lines = run(freshet, "simulate", "--events", n, "--seed", a.seed, "--rate", a.rate, "--slow", SLOW,
                    "--slow-delay", SLOW_DELAY, "--truth", path).splitlines(keepends=True)
        events = [json.loads(line) for line in lines]
        users = {e["request_id"]: e["user_id"] for e in events if e["type"] == "impression"}
        with open(path) as f:
            truth = [json.loads(line) for line in f]
        for t in truth:
            t["user"] = users[t["request_id"]]
        pieces = [[] for _ in range(math.ceil(a.hours * 3600_000 / PIECE))]
        for line, e in zip(lines, events):
            k = (e["timestamp"] - START) // PIECE
            if k < len(pieces):
                pieces[k].append(line)
        print(f"{n} impressions in {a.hours:g} h; {SLOW:.0%} of the clicks come {SLOW_DELAY} s later on average; "
              f"update every {UPDATE // 1000} s")
        for k, (name, head, settings) in enumerate(POLICIES):
            dir = os.path.join(top, str(k))
            os.mkdir(dir)
            r = policy(freshet, dir, name, head, settings, pieces, truth)
            if k == 0:
                print(f"best possible auc {r['best']:.4f}")
                print(f"{'policy':<24} {'delay of positives':>20} {'negatives':>10} {'clicks':>8} {'auc':>7} {'calib.':>7}")
            print(f"{name:<24} {r['positive'][0]:9.1f} min {r['positive'][1]:5.1f} {r['negative']:6.1f} min "
                  f"{r['clicks']:8.1%} {r['auc']:7.4f} {r['calibration']:7.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
