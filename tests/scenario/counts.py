#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# What was counted is told the same everywhere: the summary of a replay, /v1/status and /metrics of a daemon that read the
# same messages from Kafka, over a log in which everything that is counted happens: repetitions, lateness, orphans,
# feedback after its window, bad messages, conflicts of types, bounds that are reached. argv[1]: the freshet binary.
import json
import os
import random
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Freshet  # noqa: E402

BEGIN = 1767225600000
CONFIG = {
    "stream": {"users": {"topic": "users", "attributes": {"age": "number"}},
               "items": {"topic": "items", "attributes": {"author": "string"}}},
    "features": {"user_id": {"id": "user", "table": "users"}, "item_id": {"id": "item", "table": "items"},
                 "duration": {"number": "context.duration"}},
    "tables": {"users": {"dim": 4, "rows": 3000}, "items": {"dim": 4, "rows": 3000}},
    "models": {"ctr": {"net": [{"name": "deep", "mlp": [8], "of": ["user_id", "item_id"]}], "heads": {"click": {"of": "deep"}}}},
    "sequences": {"all": {"last": 20}, "authors": {"of": "click", "last": 20, "keep": "item.author"}},
    "update": {"every": "2m", "bootstrap": {"samples": 1000}}}
LABELS = {"click": {"window": "2m"}, "like": {"window": "8m"}, "watch": {}, "completion": {"of": "watch", "length": "duration"}}
CASES = {
    "wait": {"window": "2m", "labels": LABELS, "remember": "15m", "max_pending": 4000,
             "keep_negatives": {"click": 0.7, "watch": 1, "like": 1},
             "thin_positives": {"action": "click", "window": "1d", "above": 3, "power": 0.5}},
    "first_label": {"window": "2m", "labels": {"click": {}, "like": {"window": "1m"}}, "emit": "first_label", "max_pending": 600}}
# What both documents share (docs/CONTRACT.md), and what each case must have some of.
SHARED = ("events messages duplicates profile_conflicts sequences_skipped lengths_missing late late_by dlq joined orphans after_window "
          "after_window_by pending kept samples corrected left_early forgotten_early late_labels negatives_dropped positives_thinned "
          "updates updates_stopped updates_waiting version watermark at metrics").split()
SOME = {"wait": "duplicates sequences_skipped lengths_missing late orphans after_window pending kept corrected forgotten_early "
                "positives_thinned updates version".split(),
        "first_label": "duplicates late orphans left_early late_labels".split()}
PLAIN = {"messages": "messages", "duplicates": "duplicates", "sequences_skipped": "sequences_skipped", "lengths_missing": "lengths_missing",
         "feedback_joined": "joined", "feedback_orphans": "orphans", "impressions_forgotten_early": "forgotten_early",
         "impressions_left_early": "left_early", "late_labels": "late_labels", "samples": "samples", "samples_corrected": "corrected",
         "negatives_dropped": "negatives_dropped", "positives_thinned": "positives_thinned", "updates": "updates",
         "updates_stopped": "updates_stopped"}
GAUGES = {"impressions_pending": "pending", "impressions_kept": "kept", "updates_waiting": "updates_waiting", "model_version": "version"}
BY = {"events_total": ("type", "events"), "dlq_messages_total": ("reason", "dlq"), "late_events_total": ("kind", "late_by"),
      "profile_type_conflicts_total": ("of", "profile_conflicts"), "feedback_after_window_total": ("type", "after_window_by")}


def stream(f):
    """Lines of events in the order of their arrival."""
    text = f.run("simulate", "--events", "9000", "--rate", "8", "--users", "150", "--seed", "21", "--slow", "0.3",
                 "--slow-delay", "300").stdout
    rng, lines = random.Random(4), []
    for n, line in enumerate(text.splitlines()):
        event = json.loads(line)
        if event["type"] == "impression" and rng.random() < 0.03:
            continue
        if rng.random() < 0.9:
            event.setdefault("context", {})["duration"] = 20
        at = float(n)
        if event["type"] == "click" and rng.random() < 0.1:
            event["type"], event["event_id"] = "like", f"like{n}"
        if rng.random() < 0.03:
            at += rng.randrange(500)  # late
        lines.append((at, json.dumps(event)))
        if rng.random() < 0.03:
            lines.append((at + rng.randrange(100), json.dumps(event)))
        if rng.random() < 0.01:
            lines.append((at, rng.choice(["nonsense", '{"type": "click"}',
                                           '{"type": "wink", "user_id": "u", "item_id": "i", "timestamp": 1}'])))
    lines.sort(key=lambda x: x[0])
    return [line for _, line in lines[:len(lines) * 9 // 10]]  # some are waiting at the end


def profiles(rng, kind):
    name, value = ("age", [31, "old"]) if kind == "user" else ("author", ["a", 7])
    return [json.dumps({f"{kind}_id": f"{kind[0]}{rng.randrange(150)}", "timestamp": BEGIN + rng.randrange(1000),
                        "attributes": {name: rng.choice(value)}}) for _ in range(100)]


def metrics(text):
    """{name: {labels as a tuple: value}}."""
    found = {}
    for name, labels, value in re.findall(r"^freshet_(\w+)(?:\{(.*)\})? (\S+)$", text, re.M):
        found.setdefault(name, {})[tuple(re.findall(r'(\w+)="([^"]*)"', labels))] = float(value)
    return found


def told_twice(f, status, text):
    """What /metrics has otherwise than the status."""
    m, wrong = metrics(text), []
    for name, key in [(name + "_total", key) for name, key in PLAIN.items()] + list(GAUGES.items()):
        if m[name] != {(): status[key]}:
            wrong.append((name, m[name], status[key]))
    for name, (label, key) in BY.items():
        have = {labels[0][1]: value for labels, value in m[name].items() if value and labels[0][0] == label}
        if have != {k: v for k, v in status[key].items() if v and "_profile" not in k}:
            wrong.append((name, have, status[key]))
    have = {labels[0][1] + "_profile": value for labels, value in m["profiles_total"].items()}
    if have != {k: v for k, v in status["events"].items() if "_profile" in k}:
        wrong.append(("profiles", m["profiles_total"], status["events"]))
    if m["watermark_timestamp_seconds"][()] * 1000 != status["watermark"]:
        wrong.append(("watermark", m["watermark_timestamp_seconds"], status["watermark"]))
    for name, key in (("logloss", "logloss"), ("auc", "auc"), ("normalized_entropy", "ne"), ("calibration", "calibration")):
        have = {dict(labels)["head"]: value for labels, value in m["progressive_" + name].items() if dict(labels)["over"] == "all"}
        if any(abs(have[head] - values[key]) > 1e-6 * abs(have[head]) for head, values in status["metrics"].items()):
            wrong.append((name, have, status["metrics"]))
    return wrong


def main():
    f = Freshet()
    kcat = shutil.which("kcat") or shutil.which("kafkacat")
    if kcat is None:
        print("kcat is not there: nothing brings these events to a broker")
        return 77
    rng = random.Random(5)
    logs = {"users": profiles(rng, "user"), "items": profiles(rng, "item"), "events": stream(f)}
    f.start_broker("--partitions", "1")
    for topic, lines in logs.items():
        with open(f.path(topic), "w") as out:
            out.write("".join(line + "\n" for line in lines))
        subprocess.run([kcat, "-P", "-b", f.broker, "-t", topic, "-p", "0", "-l", f.path(topic)], check=True)
    f.sent = len(logs["events"])
    for case, join in CASES.items():
        config = f.path(f"{case}.json")
        with open(config, "w") as out:
            json.dump({**CONFIG, "join": join}, out)
        r = f.run("replay", "-c", config, "--events", f.path("events"), "--users", f.path("users"), "--items", f.path("items"),
                  "--state", f.path(case))
        if not f.equal(r.returncode, 0, f"{case}: a replay {r.stderr[-500:]}"):
            continue
        summary = json.loads(r.stdout)
        d = f.start_daemon("-c", config, state=f"{case}-live")
        f.wait_settled()
        status, text = f.status(), f.get("/metrics").text
        f.equal(d.stop(), 0, "a daemon")
        f.equal({k: status[k] for k in SHARED}, {k: summary[k] for k in SHARED}, "status and summary say the same")
        few = [k for k in SOME[case] if not summary[k]]
        f.equal(few, [], "and something of all that may happen")
        f.equal(told_twice(f, status, text), [], "so do the metrics")
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
