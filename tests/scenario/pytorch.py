#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Every preset of the reference beside its PyTorch twin (tests/twin/), which takes the net from `freshet explain`, the
# parameters and the samples from `freshet export`: predictions to 1e-5; and trained from the same beginning on the same
# samples in the same order, AUC to 0.001. Then a net of what presets leave out, and each optimizer. Needs torch.
# argv[1]: the freshet binary.
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "twin")]
import where  # noqa: E402

where.with_torch(sys.argv)
import presets  # noqa: E402
import torch  # noqa: E402
import twin  # noqa: E402
from harness import Freshet  # noqa: E402

CLOSE, AUC = 1e-5, 1e-3
BASE = {**presets.BASE, "update": {"every": "5m", "bootstrap": {"samples": 3000}}}

# Kinds, options, heads and losses that no preset has.
RICH = {
    "models": {"m": {
        "net": [{"name": "rest", "mlp": [24, 12], "of": "all.plain", "activation": "prelu", "norm": "layer"},
                {"name": "batch", "mlp": [20], "of": "rest", "activation": "tanh", "norm": "batch"},
                {"name": "low", "dcn_v2": 2, "rank": 5, "of": "all.plain"},
                {"name": "unit", "l2norm": {}, "of": "batch"},
                {"name": "both", "hadamard": {}, "of": ["unit", "batch"]},
                {"name": "held", "stop": {}, "of": "rest"},
                {"name": "weighed", "senet": {}, "of": ["user_id", "item_id"]},
                {"name": "dots", "bilinear": "each", "output": "dot", "of": ["weighed", "category"],
                 "pairs": ["user_id*item_id", "item_id*category"]},
                {"name": "one", "bilinear": "all", "of": ["user_id", "item_id", "category"]},
                {"name": "first", "fm": {}, "of": ["user_id", "item_id"], "linear": ["item_ctr_1h", "item_ctr_1d"]},
                {"name": "vector", "fm": {}, "of": ["user_id", "item_id", "category"], "vector": True},
                {"name": "hist", "din": [8], "of": "clicks", "candidate": "item_id", "softmax": True,
                 "activation": "sigmoid"},
                {"name": "far", "sim": {}, "attention": "din", "k": 5, "of": ["long", "long_age"],
                 "candidate": "item_id"},
                {"name": "gated", "lhuc": [16], "of": ["low", "first", "vector"], "by": "user_id"},
                {"name": "top", "mlp": [32], "last": "sigmoid",
                 "of": ["rest", "both", "low", "held", "dots", "one", "hist", "far", "gated"]}],
        "heads": {"click": {"of": "top"}, "like": {"of": "top", "through": "click", "weight": 0.5},
                  "seconds": {"of": "rest", "label": "watch", "loss": "watch_time"}}}}}

TABLE = {"adam": {"optimizer": "adam", "lr": 0.01, "weight_decay": 1e-4},
         "ftrl": {"optimizer": "ftrl", "l1": 1e-4, "l2": 1e-4},
         "adagrad": {"optimizer": "adagrad", "accumulator": 0.01, "init": {"uniform": 0.02}, "warmup": "1k"},
         "rowwise": {"clip_norm": 0.1, "weight_decay": 1e-4, "admit": 3}}
DENSE = {"adam": {"optimizer": "adam", "weight_decay": 0.01, "decoupled": True},
         "ftrl": {"optimizer": "ftrl", "l2": 1e-3}, "adagrad": {"clip_norm": 0.5}, "rowwise": {"warmup": "2k"}}


def optimized(name):
    features = {k: BASE["features"][k] for k in ("user_id", "item_id", "item_ctr_1h")}
    return {"tables": {"users": TABLE[name], "items": TABLE[name]}, "features": features,
            "models": {"m": {"net": [{"name": "deep", "mlp": [32, 16], "of": "all", "lr": 0.02}],
                             "heads": {"click": {"of": "deep"}}}},
            "update": {**BASE["update"], "epochs": 2, "dense": DENSE[name]}}


# How samples come, which decides what a metric judges: corrected ones, negatives at a rate, thinned positives.
LABELS = {"corrected": {"window": "5s", "labels": {"click": {"window": "5m"}, "like": {"window": "5m"}}},
          "fake_negative": {"window": "5m", "emit": "fake_negative", "corrections": True},
          "rates": {"window": "5m", "keep_negatives": {"click": 0.3, "like": 0.6}},
          "thinned": {"window": "5m", "thin_positives": {"action": "click", "window": "1d", "above": 3}}}


class Story:
    def __init__(self):
        self.f = Freshet()
        torch.set_num_threads(1)
        self.lines = self.f.run("simulate", "--events", "10000", "--rate", "8", "--users", "200",
                                "--seed", "4").stdout
        presets.put_items(self.f.path("items.jsonl"))

    def run(self, *args, **more):
        r = self.f.run(*args, **more)
        if r.returncode:
            raise RuntimeError(f"{args}: {r.stderr}")
        return r.stdout

    def beside(self, name, settings, trains=AUC):
        """trains: how near the AUCs must be; None: only predictions are compared."""
        f, state, config = self.f, self.f.path(name), self.f.path(name + ".json")
        with open(config, "w") as to:
            json.dump(settings, to)
        told = json.loads(self.run("replay", "-c", config, "--state", state, "--events", "-", "--items",
                                   f.path("items.jsonl"), "--flush", input=self.lines))
        pair = twin.Pair(twin.Freshet(f.binary, config, state), "m")
        found = pair.compared()
        f.check(found["samples"] == told["samples"] and found["difference"] <= CLOSE,
                f"{name}: {found['samples']} predictions differ by {found['difference']:.1e} at most")
        if trains is None:
            return
        for head, scores in pair.trained()["train"].items():
            ours = told["metrics"][head]
            for what, own, theirs in (("all", ours["auc"], scores["auc"]),
                                      ("frozen", ours["after_bootstrap"]["auc"], scores["after_bootstrap"])):
                f.check(abs(own - theirs) <= trains, f"{name}: {head}, {what}: AUC {own:.5f}, PyTorch {theirs:.5f}")


def main():
    s = Story()
    names = sys.argv[2:] or presets.presets_of(s.f)
    for name in names:
        more = {"with": {"gate_dropout": 0}} if name == "mmoe" else {}
        s.beside(name, {**BASE, "models": {"m": {"preset": name, **more}}})
    s.beside("sim_hard", {**BASE, "models": {"m": presets.HARD}})
    s.beside("rich", {**BASE, **RICH})
    for name in TABLE:
        s.beside("by_" + name, optimized(name))
    for name, join in LABELS.items():
        s.beside(name, {**BASE, "join": join, "models": {"m": {"preset": "mlp", "heads": {"click": {}, "like": {}}}}})
    return s.f.summary()


if __name__ == "__main__":
    sys.exit(main())
