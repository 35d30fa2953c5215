# SPDX-License-Identifier: Apache-2.0
"""Two nets in PyTorch, their parameters, inputs, outputs, gradients and one Adagrad step, for tests/unit/test_net.c,
which builds the same nets. Writes net_mlp.bin and net_towers.bin beside this file.

A file is records until its end, little-endian: name length u8, name, kind u8 (0 f32, 1 u32), count u32, values.
Made with Debian's python3-torch; another PyTorch draws other numbers, which serve as well.
"""
import os
import struct

import torch
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
N, ROWS, DIM, ABSENT = 13, 40, 8, 0xFFFFFFFF


class Out:
    def __init__(self, name):
        self.file = open(os.path.join(HERE, name), "wb")

    def put(self, name, values):
        values = values.detach().reshape(-1).tolist() if torch.is_tensor(values) else list(values)
        kind = "f" if values and isinstance(values[0], float) else "I"
        head = struct.pack("<B", len(name)) + name.encode() + struct.pack("<BI", int(kind == "I"), len(values))
        self.file.write(head + struct.pack(f"<{len(values)}{kind}", *values))


def lookup(table, slots):
    """Rows of the table as a leaf, zeros for ABSENT: its gradient is per occurrence."""
    rows = torch.stack([table[s] if s != ABSENT else torch.zeros(DIM) for s in slots])
    return rows.requires_grad_()


def mean(rows, offsets):
    parts = [rows[a:b].mean(0) if b > a else torch.zeros(DIM) for a, b in zip(offsets, offsets[1:])]
    return torch.stack(parts)


def mlp(widths, relu=True):
    layers = []
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Linear(a, b)] + ([nn.ReLU()] if relu else [])
    # Names stay 0, 2, 4, ... without activations too.
    return nn.Sequential(*layers) if relu else nn.ModuleDict({str(2 * i): l for i, l in enumerate(layers)})


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.bottom = mlp([3 * DIM + 2, 32, 16])
        self.click = nn.Linear(16, 1)
        self.like = nn.Linear(16, 1)

    def forward(self, user, item, clicks, age, ctr):
        bottom = self.bottom(torch.cat([user, age, item, clicks, ctr], 1))
        return self.click(bottom), self.like(bottom)


class Towers(nn.Module):
    """`user` in three places, a concat in a concat, a head on a concat that a layer uses too."""

    def __init__(self):
        super().__init__()
        self.shared = mlp([DIM, 6, 5], relu=False)
        self.left = mlp([2 * DIM, 16, 8])
        self.right = mlp([DIM + 1 + 5, 12, 7])
        self.top = mlp([15 + DIM, 12])
        self.click = nn.Linear(12, 1)
        self.like = nn.Linear(15, 1)

    def forward(self, user, item, clicks, age, ctr):
        shared = self.shared["2"](self.shared["0"](user))
        left = self.left(torch.cat([user, clicks], 1))
        right = self.right(torch.cat([item, ctr, shared], 1))
        both = torch.cat([left, right], 1)
        return self.click(self.top(torch.cat([both, user], 1))), self.like(both)


def make(name, net, seed):
    torch.manual_seed(seed)
    net = net()
    out = Out(name)
    params = dict(net.named_parameters())
    for key, value in params.items():
        out.put(key, value)
    tables = [torch.randn(ROWS, DIM), torch.randn(ROWS, DIM)]
    lengths = [i * 5 % 7 for i in range(N)]
    offsets = [sum(lengths[:i]) for i in range(N + 1)]
    slots = {"user": torch.randint(ROWS, (N,)).tolist(), "item": torch.randint(ROWS, (N,)).tolist(),
             "clicks": torch.randint(ROWS, (offsets[-1],)).tolist()}
    slots["user"][3] = slots["clicks"][2] = ABSENT
    numbers = {"age": torch.randn(N, 1), "ctr": torch.rand(N, 1)}
    labels = {"click": (torch.rand(N) < 0.4).float(), "like": (torch.rand(N) < 0.3).float()}
    weights = torch.rand(N)

    rows = {"user": lookup(tables[0], slots["user"]), "item": lookup(tables[1], slots["item"]),
            "clicks": lookup(tables[1], slots["clicks"])}
    z = net(rows["user"], rows["item"], mean(rows["clicks"], offsets), numbers["age"], numbers["ctr"])
    bce = nn.functional.binary_cross_entropy_with_logits
    loss = bce(z[0][:, 0], labels["click"], weights, reduction="sum")
    loss = loss + 0.5 * bce(z[1][:, 0], labels["like"], reduction="sum")
    loss.backward()

    for i, table in enumerate(tables):
        out.put(f"table{i}", table)
    for key, value in slots.items():
        out.put("slots." + key, value)
    out.put("offsets.clicks", offsets)
    for key, value in (numbers | labels).items():
        out.put(key, value)
    out.put("weights.click", weights)
    for key, logit in zip(labels, z):
        out.put("p." + key, torch.sigmoid(logit))
    out.put("loss", loss)
    for key, value in rows.items():
        out.put("gradient." + key, value.grad)
    for key, value in params.items():
        out.put("gradient." + key, value.grad)
    optimizer = torch.optim.Adagrad(net.parameters(), lr=0.05, initial_accumulator_value=0.1)
    optimizer.step()
    for key, value in params.items():
        out.put("after." + key, value)


make("net_mlp.bin", Mlp, 1)
make("net_towers.bin", Towers, 2)
