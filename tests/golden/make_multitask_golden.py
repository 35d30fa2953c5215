# SPDX-License-Identifier: Apache-2.0
"""MMOE of deepctr-torch 0.3.0, PPNet, and heads of several losses in PyTorch: whole nets with random inputs and
parameters, predictions, the sum of losses and its gradients, for tests/unit/test_multitask.c. Writes multitask.bin
beside this file.

    pip download --no-deps deepctr-torch==0.3.0
    unzip deepctr_torch-0.3.0-*.whl -d DIR
    PYTHONPATH=DIR python3 make_multitask_golden.py

Debian's python3-torch serves; what else deepctr-torch imports (TensorFlow, scikit-learn) is for its training loop and
is mocked. The file is records until its end, as of make_net_golden.py; a name is CASE/WHAT, WHAT being
an input, a parameter by freshet's name, label.<head>, p.<head>, loss, or gradient.<input or parameter>.
"""
import os
import struct
import sys
from unittest import mock

import torch
from torch import nn
from torch.nn import functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
B = 11
for name in ("sklearn", "sklearn.metrics", "tqdm", "requests", "tensorflow", "tensorflow.python",
             "tensorflow.python.keras", "tensorflow.python.keras.callbacks"):
    sys.modules[name] = mock.MagicMock()
FILE = open(os.path.join(HERE, "multitask.bin"), "wb")


def put(name, values):
    values = values.detach().reshape(-1).tolist()
    head = struct.pack("<B", len(name)) + name.encode() + struct.pack("<BI", 0, len(values))
    FILE.write(head + struct.pack(f"<{len(values)}f", *values))


def randomize(net):
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.4 * torch.randn(p.shape))


def make(case, params, inputs, run, labels):
    """params: freshet's name to a parameter; run(inputs) gives predictions by head and the sum of losses."""
    for name, value in {**params, **inputs}.items():
        put(f"{case}/{name}", value)
    for x in inputs.values():
        x.requires_grad_()
    predictions, loss = run(inputs)
    loss.backward()
    put(f"{case}/loss", loss)
    for name, label in labels.items():
        put(f"{case}/label.{name}", label)
        put(f"{case}/p.{name}", predictions[name])
    for name, value in {**params, **inputs}.items():
        put(f"{case}/gradient.{name}", value.grad)


def mmoe():
    from deepctr_torch.inputs import DenseFeat
    from deepctr_torch.models.multitask.mmoe import MMOE
    for case, gate in (("mmoe", (6,)), ("mmoe_plain", ())):
        net = MMOE([DenseFeat("x", 9)], num_experts=3, expert_dnn_hidden_units=(7, 5), gate_dnn_hidden_units=gate,
                   tower_dnn_hidden_units=(), task_names=("click", "like"))
        randomize(net)
        params = {}
        for e in range(3):
            for i in range(2):
                for part in ("weight", "bias"):
                    params[f"experts.{e}.{2 * i}.{part}"] = getattr(net.expert_dnn[e].linears[i], part)
        for t, name in enumerate(("click", "like")):
            for i in range(len(gate)):
                for part in ("weight", "bias"):
                    params[f"for_{name}.gate.{2 * i}.{part}"] = getattr(net.gate_dnn[t].linears[i], part)
            params[f"for_{name}.gate.{2 * len(gate)}.weight"] = net.gate_dnn_final_layer[t].weight
            params[f"{name}.weight"] = net.tower_dnn_final_layer[t].weight
            params[f"{name}.bias"] = net.out[t].bias
        labels = {"click": (torch.rand(B) < 0.4).float(), "like": (torch.rand(B) < 0.4).float()}

        def run(inputs):
            p = net(inputs["x"])
            loss = sum(F.binary_cross_entropy(p[:, t], labels[n], reduction="sum") for t, n in enumerate(labels))
            return {"click": p[:, 0], "like": p[:, 1]}, loss
        make(case, params, {"x": torch.randn(B, 9)}, run, labels)


class GateNU(nn.Module):
    """Of the paper (PEPNet, KDD 2023), as FuxiCTR has it in its model zoo, which its wheel leaves out."""

    def __init__(self, width, hidden, out):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out), nn.Sigmoid())

    def forward(self, x):
        return 2 * self.gate(x)


def ppnet():
    for case, gated, detached in (("ppnet", True, True), ("lhuc", False, False)):
        widths, prior, hidden = [8, 7, 5], 4, 6
        gates = nn.ModuleList([GateNU(prior + (8 if detached else 0), hidden, w) for w in widths[0 if gated else 1:]])
        layers = nn.ModuleList([nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in zip(widths, widths[1:])])
        head = nn.Linear(5, 1)
        for net in (gates, layers, head):
            randomize(net)
        params = {"click.weight": head.weight, "click.bias": head.bias}
        for part in ("weight", "bias"):
            for i, layer in enumerate(layers):
                params[f"top.layers.{i}.0.{part}"] = getattr(layer[0], part)
            for i, g in enumerate(gates):
                params[f"top.gates.{i}.0.{part}"] = getattr(g.gate[0], part)
                params[f"top.gates.{i}.2.{part}"] = getattr(g.gate[2], part)
        labels = {"click": (torch.rand(B) < 0.4).float()}

        def run(inputs):
            x, user = inputs["x"], inputs["user"]
            g = torch.cat([user, x.detach()], 1) if detached else user
            h = x * gates[0](g) if gated else x
            for layer, gate in zip(layers, gates[1 if gated else 0:]):
                h = layer(h) * gate(g)
            p = torch.sigmoid(head(h))[:, 0]
            return {"click": p}, F.binary_cross_entropy(p, labels["click"], reduction="sum")
        make(case, params, {"x": torch.randn(B, 8), "user": torch.randn(B, prior)}, run, labels)


def losses():
    """Heads on one input: click, like through click (ESMM), watch time, completion as a share."""
    heads = nn.ModuleDict({n: nn.Linear(6, 1) for n in ("click", "like", "watch", "done")})
    randomize(heads)
    params = {f"{n}.{part}": getattr(h, part) for n, h in heads.items() for part in ("weight", "bias")}
    labels = {"click": (torch.rand(B) < 0.5).float(), "watch": 30 * torch.rand(B) ** 3, "done": torch.rand(B)}
    labels["like"] = labels["click"] * (torch.rand(B) < 0.5).float()
    labels = {n: labels[n] for n in heads}

    def run(inputs):
        z = {n: h(inputs["x"])[:, 0] for n, h in heads.items()}
        p = {n: torch.sigmoid(z[n]) for n in ("click", "done")}
        p["like"] = p["click"] * torch.sigmoid(z["like"])
        bce = F.binary_cross_entropy
        loss = bce(p["click"], labels["click"], reduction="sum") + bce(p["like"], labels["like"], reduction="sum")
        loss = loss + bce(p["done"], labels["done"], reduction="sum")
        t = labels["watch"]
        loss = loss + F.binary_cross_entropy_with_logits(z["watch"], t / (1 + t), reduction="sum")
        p["watch"] = torch.exp(z["watch"])
        return p, loss
    make("losses", params, {"x": torch.randn(B, 6)}, run, labels)


torch.manual_seed(3)
mmoe()
ppnet()
losses()
