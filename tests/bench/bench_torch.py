# SPDX-License-Identifier: Apache-2.0
"""The nets of bench_step.c in PyTorch, one thread, in CPU time: forward, backward and, as its best users would write it,
row-wise Adagrad by hand on the touched rows alone. Ways as there: `net` is frozen without the table's update, `step`
frozen with it, `layers` all layers with Adagrad on the dense ones, and the table. Ways take turns, the best of each counts.

One line each: NET KERNEL WAY samples/s

Usage: python3 bench_torch.py float32|bfloat16 [NET ...]
"""
import os
import sys
import time

# A BLAS with threads of its own does not hear torch.set_num_threads.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import nn

FIELDS, USER_FIELDS, ITEM_FIELDS, NUMBERS, DIM, HISTORY = 20, 6, 4, 8, 16, 50
ROWS, BATCHES, TURNS, STEPS = 1_000_000, 32, 7, 16
torch.set_num_threads(1)
torch.manual_seed(1)
torch.set_flush_denormal(True)

table = torch.randn(ROWS, DIM) * 0.05
accum = torch.zeros(ROWS)


def mlp(width, *widths):
    layers = []
    for to in widths:
        layers += [nn.Linear(width, to), nn.ReLU(inplace=True)]
        width = to
    return nn.Sequential(*layers)


class Mlp(nn.Module):
    batch, ids, numbers = 512, FIELDS, 0

    def __init__(self):
        super().__init__()
        self.top, self.head = mlp(FIELDS * DIM, 512, 256, 128), nn.Linear(128, 1)

    def forward(self, x, _):
        return self.head(self.top(x.view(self.batch, -1)))


class Din(nn.Module):
    """Zhou et al. 2018: FC([q, k, q - k, q k]) weighs each entry; the weighed sum stands beside the fields."""
    batch, ids, numbers = 256, FIELDS + HISTORY, 0

    def __init__(self):
        super().__init__()
        self.unit, self.weight = mlp(4 * DIM, 64, 16), nn.Linear(16, 1)
        self.top, self.head = mlp((FIELDS + 1) * DIM, 512, 256, 128), nn.Linear(128, 1)

    def forward(self, x, _):
        x = x.view(self.batch, self.ids, DIM)
        fields, keys = x[:, :FIELDS], x[:, FIELDS:]
        query = fields[:, :1].expand(-1, HISTORY, -1)
        weights = self.weight(self.unit(torch.cat([query, keys, query - keys, query * keys], -1)))
        interest = torch.bmm(weights.transpose(1, 2), keys.to(weights.dtype)).squeeze(1)
        return self.head(self.top(torch.cat([fields.reshape(self.batch, -1), interest], 1)))


class TwoTowers(nn.Module):
    batch, ids, numbers = 512, USER_FIELDS + ITEM_FIELDS, NUMBERS

    def __init__(self):
        super().__init__()
        self.user = mlp(USER_FIELDS * DIM + NUMBERS, 256, 128, 64)
        self.item = mlp(ITEM_FIELDS * DIM, 256, 128, 64)
        self.head = nn.Linear(64, 1)

    def forward(self, x, numbers):
        x = x.view(self.batch, -1)
        user = torch.cat([x[:, :USER_FIELDS * DIM], numbers], 1)
        return self.head(self.user(user) * self.item(x[:, USER_FIELDS * DIM:]))


def update(rows, gradient, lr=0.05):
    """Occurrences of one row are summed, then one step of row-wise Adagrad."""
    unique, inverse = torch.unique(rows, return_inverse=True)
    total = torch.zeros(len(unique), DIM).index_add_(0, inverse, gradient)
    state = accum[unique] + total.pow(2).mean(1)
    accum[unique] = state
    table[unique] -= lr * total / (state.sqrt() + 1e-8).unsqueeze(1)


class Run:
    def __init__(self, name, net, bf16):
        self.name, self.net, self.bf16 = name, net, bf16
        self.ids = torch.randint(ROWS, (BATCHES, net.batch * net.ids))
        self.numbers = torch.rand(net.batch, net.numbers)
        self.labels = (torch.rand(net.batch, 1) < 0.1).float()
        self.dense = torch.optim.Adagrad(net.parameters(), lr=0.01)
        self.loss = nn.BCEWithLogitsLoss()
        self.at = 0

    def step(self, frozen, with_table):
        rows = self.ids[self.at % BATCHES]
        self.at += 1
        x = table.index_select(0, rows).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            z = self.net(x, self.numbers)
        self.loss(z.float(), self.labels).backward()
        if not frozen:
            self.dense.step()
            self.dense.zero_grad(set_to_none=False)
        if with_table:
            with torch.no_grad():
                update(rows, x.grad)

    def turn(self, frozen, with_table):
        """Seconds a batch."""
        for p in self.net.parameters():
            p.requires_grad_(not frozen)
        begin = time.process_time()
        for _ in range(STEPS):
            self.step(frozen, with_table)
        return (time.process_time() - begin) / STEPS


def main():
    bf16 = sys.argv[1] == "bfloat16"
    nets = {"mlp": Mlp, "din": Din, "two_towers": TwoTowers}
    for name, kind in nets.items():
        if sys.argv[2:] and not any(name.startswith(w) for w in sys.argv[2:]):
            continue
        run = Run(name, kind(), bf16)
        for way, how in (("net", (True, False)), ("step", (True, True)), ("layers", (False, True))):
            run.turn(*how)  # warms up
            best = min(run.turn(*how) for _ in range(TURNS))
            print(f"{name} {'bf16' if bf16 else 'fp32'} {way} {run.net.batch / best:.0f}", flush=True)


main()
