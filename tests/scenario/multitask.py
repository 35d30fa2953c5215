# SPDX-License-Identifier: Apache-2.0
# Heads of several kinds on the presets mmoe and ppnet, and one score of them: the program as a user sees it. Who takes
# part in which head is counted again from the exported samples; the score is worked out again from the heads.
# argv[1]: the freshet binary.
import json
import math
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from harness import Freshet  # noqa: E402

HEADS = {"click": {}, "like": {"through": "click"}, "liked": {"label": "like", "given": "click"},
         "seconds": {"label": "watch", "loss": "watch_time"}, "long": {"label": "watch", "threshold": 5}}
SCORE = "click^1.0 * (1 + seconds)^0.5 + log(like) * -0.01"


def config_of(preset):
    return {"join": {"labels": {"click": {}, "like": {}, "watch": {}}},
            "models": {"ctr": {"preset": preset, "with": {"widths": [32]}, "heads": HEADS, "score": SCORE}},
            "update": {"every": "5m", "bootstrap": {"samples": 3000}}}


def replay(f, config, state, lines):
    r = f.run("replay", "-c", config, "--events", "-", "--state", state, "--flush", "--json", input="\n".join(lines) + "\n")
    if r.returncode:
        raise RuntimeError(r.stderr)
    return json.loads(r.stdout)


def counts(f, config, state, metrics):
    rows = [json.loads(line) for line in
            f.run("export", "samples", "-c", config, "--state", state).stdout.splitlines()]
    labels = [r["labels"] for r in rows]
    seconds = [r["watch_ms"] / 1000 if r.get("watch_ms") else 0 for r in labels]
    wanted = {"click": [r["click"] for r in labels],
              "like": [r["like"] for r in labels],
              "liked": [r["like"] for r in labels if r["click"]],
              "seconds": [s / (1 + s) for s in seconds],
              "long": [s >= 5 for s in seconds]}
    f.check(0 < len(wanted["liked"]) < len(rows) and any(seconds), "there are clicks and watches")
    for head, ys in wanted.items():
        f.equal(metrics[head]["samples"], len(ys), f"{head}: samples")
        rate = sum(ys) / len(ys)
        f.check(abs(metrics[head]["base_rate"] - rate) < 1e-5, f"{head}: base rate {rate}")


def scores(f, config, state, lines):
    event = json.loads(lines[0])
    user, items = event["user_id"], [f"i{i}" for i in range(1, 9)]
    ask = ["-c", config, "--state", state, user, *items]
    rows = json.loads(f.run("score", "--json", *ask).stdout)["scores"]
    f.equal([r["item_id"] for r in rows], items, "in the order of the request")
    for r in rows:
        f.check(0 < r["like"] < r["click"] < 1, "a like through a click is rarer than the click")
        score = r["click"] * math.sqrt(1 + r["seconds"]) - 0.01 * math.log(r["like"])
        f.check(abs(r["score"] - score) < 1e-5 * abs(score), f"the score is {score}: {r}")
    printed = [line.split()[0] for line in f.run("score", *ask).stdout.splitlines()[1:]]
    best = [r["item_id"] for r in sorted(rows, key=lambda r: -r["score"])]
    f.equal(printed, best, "printed by the score, the greatest first")


def warnings(f):
    """What check says of a net that is possible, and yet not what was meant."""
    base = ["check", "--no-environment", "--set", "models={m: {preset: mlp, heads: {click: {}, like: {given: click}}}}"]
    told = lambda *more: f.run(*base, *[x for setting in more for x in ("--set", setting)])
    for more, warned in (([], False), (["join.emit=fake_negative"], True), (["join.emit=first_label"], True),
                         (["join.emit=fake_negative", "join.corrections=true"], False)):
        r = told(*more)
        f.check(r.returncode == 0 and ("join.corrections: true" in r.stderr) == warned,
                f"{more}: labels after the first are {'' if warned else 'not '}warned of")
    length = "features={user_id: {id: user, table: users}, item_id: {id: item, table: items}, ms: {number: item.ms}}"
    for labels, warned in (("{click: {}, like: {}}", False),
                           ("{click: {}, like: {}, watch: {}, completion: {of: watch, length: ms}}", False)):
        r = told("stream.items.topic=items", length, f"join.labels={labels}")
        f.check(r.returncode == 0 and ('"ms" is used by no head' in r.stderr) == warned, f"{labels}: ms is used")


def main():
    f = Freshet()
    warnings(f)
    lines = f.run("simulate", "--events", "8000", "--rate", "5", "--seed", "3").stdout.splitlines()
    for preset in ("mmoe", "ppnet"):
        config = f.path(f"{preset}.json")
        with open(config, "w") as to:
            json.dump(config_of(preset), to)
        told = replay(f, config, f.path(preset), lines)
        f.check(told["version"] > 2, f"{told['version']} versions")
        counts(f, config, f.path(preset), told["metrics"])
        scores(f, config, f.path(preset), lines)
        replay(f, config, f.path("again"), lines)
        digests = [f.run("digest", "-c", config, "--state", f.path(s)).stdout for s in (preset, "again")]
        f.check(digests[0] != "" and digests[0] == digests[1], "the same log, the same bytes")
        os.rename(f.path("again"), f.path(preset + "-again"))
    r = f.run("replay", "-c", config, "--set", "models.ctr.score=click * lik", "--events", "-", input="")
    f.check(r.returncode == 78 and "column 9: no head or function \"lik\"" in r.stderr, f"a mistake: {r.stderr}")
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
