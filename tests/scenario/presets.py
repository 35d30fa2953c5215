# SPDX-License-Identifier: Apache-2.0
# Every preset of the reference trains through the daemon's own path on simulated events: it learns something, twice the
# same bytes, and its dense layers stay as they were frozen. And SIM by hard search: the sequence of the candidate's
# category with the time since each entry. argv[1]: the freshet binary.
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from harness import Freshet  # noqa: E402

LEAST = 0.6  # AUC after the bootstrap; the best possible is .78
BASE = {
    "sequences": {"click": {"last": 50}, "long": {"of": "click", "last": 100, "by": "item.category"}},
    "tables": {"users": {}, "items": {}, "ages": {"rows": 1000}, "categories": {"rows": 1000}},
    "features": {"user_id": {"id": "user", "table": "users"},
                 "item_id": {"id": "item", "table": "items"},
                 "category": {"id": "item.category", "table": "categories"},
                 "item_ctr_1h": {"rate": "click/impression", "of": "item", "window": "1h"},
                 "item_ctr_1d": {"rate": "click/impression", "of": "item", "window": "1d"},
                 "clicks": {"sequence": "click", "last": 50, "table": "items"},
                 "long": {"sequence": "long", "last": 50, "table": "items"},
                 "long_age": {"sequence": "long", "of": "age", "last": 50, "table": "ages"}},
    "update": {"every": "5m", "bootstrap": {"samples": 4000}}}
HARD = {"preset": "sim", "with": {"long": ["long", "long_age"], "search": "none"}}


def replay(f, model, lines, *more):
    config, items = f.path("config.json"), f.path("items.jsonl")
    with open(config, "w") as to:
        json.dump(BASE | {"models": {"m": model}}, to)
    r = f.run("replay", "-c", config, "--events", "-", "--items", items, *more, input="\n".join(lines) + "\n")
    if r.returncode:
        raise RuntimeError(r.stderr)
    return json.loads(r.stdout)


def presets_of(f):
    text = f.run("check", "--reference").stdout
    part = text[text.index("\n#   presets: "):text.index("\nmodels:")]
    return re.findall(r"^#   (\w+) ", part, re.M)


def put_items(path):
    with open(path, "w") as to:
        for i in range(2000):
            to.write(json.dumps({"item_id": f"i{i}", "timestamp": 1767225500000,
                                 "attributes": {"category": f"c{i % 5}"}}) + "\n")


def trained(f, name, model, lines):
    whole = replay(f, model, lines, "--flush")
    after = whole["metrics"]["click"]["after_bootstrap"]
    f.check(after["samples"] > 5000 and after["auc"] > LEAST, f"{name}: AUC {after['auc']} of {after['samples']}")
    f.equal(whole["dlq"], {}, f"{name}: all was read")
    f.equal(replay(f, model, lines, "--flush")["digest"], whole["digest"], f"{name}: the same bytes twice")
    early = replay(f, model, lines[:len(lines) * 3 // 4])
    f.check(0 < early["version"] < whole["version"], f"{name}: {early['version']} versions, then {whole['version']}")
    f.equal(early["digest"]["dense"], whole["digest"]["dense"], f"{name}: the dense layers are frozen")


def main():
    f = Freshet()
    put_items(f.path("items.jsonl"))
    lines = f.run("simulate", "--events", "16000", "--rate", "10", "--users", "200", "--seed", "4").stdout.splitlines()
    names = presets_of(f)
    f.check({"mlp", "dcn_v2", "din", "sim"} <= set(names), f"presets: {names}")
    for name in names:
        trained(f, name, {"preset": name}, lines)
    trained(f, "sim, hard", HARD, lines)
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
