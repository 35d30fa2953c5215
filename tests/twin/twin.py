#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The PyTorch twin of a freshet model.

    twin.py FRESHET -c CONFIG --state DIR               builds the config's net, loads what freshet wrote, and compares
                                                        the predictions of every sample in the log
    twin.py FRESHET -c CONFIG --state DIR --train       starts where freshet started, trains on the same samples in the
                                                        same order, and compares AUC, dense layers and rows
    ... --out FILE                                      the twin's parameters after it, for `freshet import model`

Prints one JSON line; exit code 1 if a prediction differs by more than --tolerance. `freshet explain --model NAME
--json` says what the net is (presets opened, every option), `export model`, `export samples --format safetensors` and
`export predictions` give the rest. Needs torch and NumPy (Debian: python3-torch).
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import net  # noqa: E402
import optimizers  # noqa: E402
import tensors  # noqa: E402


def auc(p, y, w):
    """Of pairs of a positive and a negative, the share in order; ties count half. As freshet judges (docs/CONTRACT.md): each
    sample once, whatever its weight; one below 0 makes a positive of the negative that was there before."""
    positive, negative = (y > 0.5).astype(numpy.float64), (y <= 0.5).astype(numpy.float64)
    negative -= w < 0
    _, tie = numpy.unique(p, return_inverse=True)
    positive, negative = numpy.bincount(tie, positive), numpy.bincount(tie, negative)
    if positive.sum() == 0 or negative.sum() <= 0:
        return None
    below = numpy.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum()))


# What of a model's file is no parameter of the net.
APART = ("tables.", "optimizer.", "quantiles.", "norms.")


class Freshet:
    def __init__(self, binary, config, state, more=()):
        self.binary, self.options = binary, ["-c", config, *more]
        self.state = ["--state", state]

    def run(self, *args):
        r = subprocess.run([self.binary, args[0], *self.options, *args[1:]], capture_output=True, text=True)
        if r.returncode:
            raise SystemExit(f"freshet {' '.join(args)}: {r.stderr.strip()}")
        return r.stdout

    def graph(self, name):
        return json.loads(self.run("explain", "--model", name, "--json"))

    def file(self, *args):
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as to:
            self.run("export", *args, *self.state, "--out", to.name)
            return tensors.read(to.name)

    def predictions(self):
        with tempfile.NamedTemporaryFile(suffix=".jsonl") as to:
            self.run("export", "predictions", *self.state, "--out", to.name)
            with open(to.name) as lines:
                return [json.loads(line)["predictions"] for line in lines]


class Table:
    """Rows in order of id. `alive`: those that the version predicted with has."""

    def __init__(self, about, ids, weight):
        self.about, self.ids = about, ids.view(numpy.uint64)
        order = numpy.argsort(self.ids)
        self.order = order
        self.ids = self.ids[order]
        self.weight = torch.from_numpy(weight[order])
        self.optimizer = optimizers.Rows(about["optimizer"])
        self.accum, self.state = self.optimizer.begin(self.weight)
        self.counts = numpy.zeros(len(order), numpy.int64)
        self.alive = numpy.ones(len(order), bool)

    def rows_of(self, ids):
        """Places in the table; -1 for what is not there."""
        ids = ids.view(numpy.uint64)
        if len(self.ids) == 0:
            return numpy.full(len(ids), -1)
        at = numpy.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        return numpy.where(self.ids[at] == ids, at, -1)

    def touch(self, rows):
        """Counts occurrences, and which of them find their row admitted."""
        there = rows >= 0
        order = numpy.argsort(rows, kind="stable")
        first = numpy.searchsorted(rows[order], rows[order])
        nth = numpy.empty(len(rows), numpy.int64)
        nth[order] = numpy.arange(len(rows)) - first + 1
        admitted = there & (self.counts[rows] + nth >= self.about["admit"])
        numpy.add.at(self.counts, rows[there], 1)
        return admitted


class Twin:
    def __init__(self, graph, model, samples):
        self.graph = graph
        self.net = net.Net(graph)
        self.load(model)
        self.tables = {t["name"]: Table(t, model[f"tables.{t['name']}.ids"], model[f"tables.{t['name']}.weight"])
                       for t in graph["tables"]}
        self.n = len(samples["sample"])
        self.samples = samples
        self.inputs = {i["name"]: self.input(i) for i in graph["inputs"]}

    def begin(self, seed):
        """Begins anew with numbers of PyTorch's own, drawn as freshet draws its."""
        torch.manual_seed(seed)
        self.net = net.Net(self.graph)
        for table in self.tables.values():
            draw = {"normal": lambda x: torch.randn(table.weight.shape) * x,
                    "uniform": lambda x: (2 * torch.rand(table.weight.shape) - 1) * x,
                    "constant": lambda x: torch.full(table.weight.shape, x)}
            table.weight = draw[table.about["init"]](float(table.about["init_by"]))
            table.optimizer = optimizers.Rows(table.about["optimizer"])
            table.accum, table.state = table.optimizer.begin(table.weight)
            table.counts[:] = 0

    def load(self, model):
        own = self.net.state_dict()
        dense = {k: torch.from_numpy(v) for k, v in model.items() if not k.startswith(APART)}
        missing = {k for k in own if not k.endswith("num_batches_tracked")} ^ set(dense)
        if missing:
            raise SystemExit(f"names that only one of the two has: {sorted(missing)}")
        self.net.load_state_dict(dense, strict=False)

    def input(self, about):
        name = "input." + about["name"]
        if about["kind"] == "number":
            return torch.from_numpy(self.samples[name + ".number"]).unsqueeze(1)
        rows = self.tables[about["table"]].rows_of(self.samples[name + ".ids"])
        return rows, self.samples[name + ".offsets"] if about["kind"] == "sequence" else None

    def cut(self, about, a, b):
        """Places in the table, and for a sequence to which sample each belongs."""
        rows, offsets = self.inputs[about["name"]]
        if offsets is None:
            return rows[a:b], None
        counts = numpy.diff(offsets[a:b + 1])
        return rows[offsets[a]:offsets[b]], torch.from_numpy(numpy.repeat(numpy.arange(b - a), counts))

    def values(self, a, b, vectors):
        """Of samples a .. b - 1; vectors(about, rows) are the rows' vectors."""
        values = {}
        for about in self.graph["inputs"]:
            if about["kind"] == "number":
                values[about["name"]] = net.Rows(self.inputs[about["name"]][a:b])
                continue
            rows, at = self.cut(about, a, b)
            x = vectors(about, rows)
            values[about["name"]] = net.Rows(x) if at is None else net.Entries(x, at, b - a)
        return values

    def looked_up(self, about, rows):
        table = self.tables[about["table"]]
        there = torch.from_numpy((rows >= 0) & table.alive[rows]) if len(table.ids) else torch.zeros(len(rows), dtype=bool)
        x = torch.zeros(len(rows), int(about["dim"]))
        x[there] = table.weight[torch.from_numpy(rows)[there]]
        return x

    def predict(self, a, b):
        self.net.eval()
        with torch.no_grad():
            p = net.predictions(self.graph, self.net(self.values(a, b, self.looked_up)))
        return {name: x.numpy() for name, x in p.items()}

    def predict_all(self, a=0, b=None, step=512):
        b = self.n if b is None else b
        parts = [self.predict(i, min(i + step, b)) for i in range(a, b, step)]
        return {h["name"]: numpy.concatenate([p[h["name"]] for p in parts]) for h in self.graph["heads"]}


class Trainer:
    """The updates of freshet: each predicts its samples with the version before it, then trains on them in batches."""

    def __init__(self, twin, through, begin):
        self.twin, self.through, self.first = twin, through, begin
        how = twin.graph["training"]
        self.batch, self.epochs, self.bootstrap = (int(how[k]) for k in ("batch", "epochs", "bootstrap_samples"))
        self.every, self.trained = int(how["every_ms"]), 0
        part = lambda about: (list(twin.net._modules[about["name"]].parameters()),
                              about.get("lr") or how["optimizer"]["lr"])
        groups = [part(about) for about in twin.graph["blocks"] + twin.graph["heads"]]
        self.dense = optimizers.Dense(how["optimizer"], [g for g in groups if g[0]])
        for table in twin.tables.values():
            table.alive[:] = False

    def windows(self):
        """Updates end where the window of event time does in which samples leave."""
        window = numpy.maximum.accumulate(self.twin.samples["emitted"] // self.every)[:self.through]
        return [0, *(numpy.flatnonzero(numpy.diff(window)) + 1).tolist(), self.through]

    def frozen(self):
        return self.trained >= self.bootstrap

    def step(self, a, b, admitted, fresh):
        twin, graph = self.twin, self.twin.graph
        frozen = self.frozen_now
        leaves = {}
        for table in twin.tables.values():
            table.optimizer.step += 1

        def vectors(about, rows):
            table = twin.tables[about["table"]]
            there = torch.from_numpy(admitted[about["name"]])
            at, back = torch.unique(torch.from_numpy(rows)[there], return_inverse=True)
            x = table.weight[at].requires_grad_()
            leaves.setdefault(about["table"], []).append((at, x))
            return torch.zeros(len(rows), int(about["dim"])).index_put((torch.where(there)[0],), x[back])

        twin.net.train()
        twin.net.freeze(frozen)
        self.dense.zero()
        values = twin.values(a, b, vectors)
        cut = lambda kind: {h["name"]: torch.from_numpy(twin.samples[f"{kind}.{h['name']}"][a:b])
                            for h in graph["heads"]}
        loss = net.loss(graph, twin.net(values), cut("label"), cut("weight")) / (b - a)
        loss.backward()
        for name, parts in leaves.items():
            used = [(at, x.grad) for at, x in parts if x.grad is not None]
            if not used:
                continue
            at, back = torch.unique(torch.cat([at for at, _ in used]), return_inverse=True)
            g = torch.zeros(len(at), used[0][1].shape[1]).index_add(0, back, torch.cat([g for _, g in used]))
            twin.tables[name].optimizer(twin.tables[name], at, g, self.trained + (b - a if fresh else 0))
        if not frozen:
            self.dense(self.trained + (b - a if fresh else 0))

    def touch(self, a, b):
        """Which occurrences have a row, in order of the inputs."""
        twin, admitted = self.twin, {}
        for about in twin.graph["inputs"]:
            if about["kind"] != "number":
                rows, _ = twin.cut(about, a, b)
                admitted[about["name"]] = twin.tables[about["table"]].touch(rows)
        return admitted

    def update(self, a, b):
        p = self.twin.predict_all(a, b, self.batch) if b > self.first else None
        batches = [(i, min(i + self.batch, b)) for i in range(a, b, self.batch)]
        admitted = [None] * len(batches)
        for epoch in range(self.epochs):
            for k, (i, j) in enumerate(batches):
                self.frozen_now = self.frozen()
                if epoch == 0:
                    admitted[k] = self.touch(i, j)
                self.step(i, j, admitted[k], epoch == 0)
                self.trained += (j - i) if epoch == 0 else 0
        for table in self.twin.tables.values():
            table.alive = table.counts >= table.about["admit"]
        return p

    def run(self):
        ends = self.windows()
        parts, frozen = [], []
        for a, b in zip(ends, ends[1:]):
            frozen += [self.frozen()] * (b - a)
            parts.append((a, b, self.update(a, b)))
        heads = [h["name"] for h in self.twin.graph["heads"]]
        none = lambda a, b: numpy.full(b - a, numpy.nan, numpy.float32)
        p = {h: numpy.concatenate([p[h] if p else none(a, b) for a, b, p in parts]) for h in heads}
        return p, numpy.array(frozen, bool)


def compare(twin, predictions):
    """The largest difference of a prediction, relative above 1."""
    ours = twin.predict_all()
    worst = 0
    for h in twin.graph["heads"]:
        theirs = numpy.array([p[h["name"]] for p in predictions], numpy.float64)
        if len(theirs):
            worst = max(worst, float((numpy.abs(ours[h["name"]] - theirs) / numpy.maximum(1, abs(theirs))).max()))
    return {"samples": len(predictions), "difference": worst}


def progressive(twin, through, begin=0):
    """AUC by head, of what each update predicts before it trains: as freshet's progressive metrics. Of updates that end
    before sample `begin` nothing is predicted."""
    p, frozen = Trainer(twin, through, begin).run()
    result = {}
    for h in twin.graph["heads"]:
        name = h["name"]
        y, w = (twin.samples[f"{kind}.{name}"][:through] for kind in ("label", "weight"))
        w = numpy.where(numpy.isnan(p[name]), 0, w)
        scores = lambda at: auc(p[name][at], y[at], w[at])
        if h["loss"] in ("logloss", "fnw"):
            result[name] = {"auc": scores(w != 0), "after_bootstrap": scores(frozen & (w != 0))}
    return result


def distance(twin, model):
    """How far the twin is from the model that freshet made of the same samples: mean and largest difference."""
    apart = lambda x: {"mean": float(x.mean()), "max": float(x.max())} if x.size else None
    own = twin.net.state_dict()
    result = {"dense": apart(numpy.concatenate([abs(own[k].numpy() - model[k]).ravel() for k in own if k in model]))}
    for name, table in twin.tables.items():
        result[name] = apart(abs(table.weight.numpy() - model[f"tables.{name}.weight"][table.order]))
    return result


def saved(twin, path):
    out = {f"tables.{name}.ids": table.ids.view(numpy.int64) for name, table in twin.tables.items()}
    out |= {key: value.numpy() for key, value in twin.net.state_dict().items()}
    for name, table in twin.tables.items():
        out[f"tables.{name}.weight"] = table.weight.numpy()
        out[f"tables.{name}.accum"] = table.accum.numpy()
    tensors.write(path, out)


class Pair:
    """A state of freshet and its twin."""

    def __init__(self, freshet, name):
        self.freshet = freshet
        self.graph = freshet.graph(name)
        self.samples, _ = freshet.file("samples", "--format", "safetensors")
        self.model, self.notes = freshet.file("model")
        self.twin = Twin(self.graph, self.model, self.samples)

    def compared(self):
        return compare(self.twin, self.freshet.predictions())

    def through(self):
        return int(self.notes["trained_through"])

    def trained(self, begin=0):
        initial, _ = self.freshet.file("model", "--initial")
        self.twin = Twin(self.graph, initial, self.samples)
        scores = progressive(self.twin, self.through(), begin)
        return {"train": scores, "distance": distance(self.twin, self.model)}

    def trained_anew(self, seed, begin=0):
        self.twin.begin(seed)
        return progressive(self.twin, self.through(), begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("freshet")
    parser.add_argument("-c", dest="config", required=True)
    parser.add_argument("--state", required=True)
    parser.add_argument("--model", default="ctr", help="its name in the config (default: ctr, as in the default config)")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument("--out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    pair = Pair(Freshet(args.freshet, args.config, args.state), args.model)
    result = pair.compared()
    if args.train:
        result |= pair.trained()
    if args.out:
        saved(pair.twin, args.out)
    print(json.dumps(result))
    return 0 if result["difference"] <= args.tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
