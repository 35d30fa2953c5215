# SPDX-License-Identifier: Apache-2.0
"""The net of bench_train.c in PyTorch, one thread: forward, backward and, as its best users would write it, row-wise
Adagrad by hand on the touched rows alone. Lines: frozen without the table's update (what bench_train measures), frozen
with it, all layers with Adagrad on the dense ones, with and without the table's update. Best turn of each, in turns.

Usage: python3 bench_torch.py [float32|bfloat16]
"""
import os
import sys
import time

# A BLAS with threads of its own does not hear torch.set_num_threads.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import nn

FIELDS, DIM, BATCH, ROWS, BATCHES, TURNS, STEPS = 20, 16, 512, 1_000_000, 64, 12, 12
torch.set_num_threads(1)
torch.manual_seed(1)
torch.set_flush_denormal(True)
bf16 = "bfloat16" in sys.argv[1:]

table = torch.randn(ROWS, DIM) * 0.1
accum = torch.zeros(ROWS)
ids = torch.randint(ROWS, (BATCHES, BATCH * FIELDS))
labels = (torch.rand(BATCH, 1) < 0.1).float()
net = nn.Sequential(nn.Linear(FIELDS * DIM, 512), nn.ReLU(inplace=True), nn.Linear(512, 256), nn.ReLU(inplace=True),
                    nn.Linear(256, 128), nn.ReLU(inplace=True), nn.Linear(128, 1))
bce = nn.BCEWithLogitsLoss(reduction="sum")
dense = torch.optim.Adagrad(net.parameters(), lr=0.001)


def update(rows, gradient, lr=0.01):
    """Occurrences of one row are summed, then one step of row-wise Adagrad."""
    unique, inverse = torch.unique(rows, return_inverse=True)
    total = torch.zeros(len(unique), DIM).index_add_(0, inverse, gradient)
    state = accum[unique] + total.pow(2).mean(1)
    accum[unique] = state
    table[unique] -= lr * total / (state.sqrt() + 1e-8).unsqueeze(1)


def step(at, frozen, with_table):
    rows = ids[at % BATCHES]
    x = table.index_select(0, rows).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        z = net(x.view(BATCH, FIELDS * DIM))
    bce(z.float(), labels).backward()
    if not frozen:
        dense.step()
        dense.zero_grad(set_to_none=False)
    if with_table:
        with torch.no_grad():
            update(rows, x.grad)


def predict(at):
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        torch.sigmoid(net(table.index_select(0, ids[at % BATCHES]).view(BATCH, FIELDS * DIM)))


def way(frozen, with_table):
    def run(at):
        for p in net.parameters():
            p.requires_grad_(not frozen)
        step(at, frozen, with_table)

    return run


ways = [("predict", predict), ("train, FC frozen", way(True, False)), ("  and the table", way(True, True)),
        ("train, all layers", way(False, False)), ("  and the table", way(False, True))]
best = [float("inf")] * len(ways)
at = 0
for turn in range(TURNS + 1):
    for i, (_, run) in enumerate(ways):
        begin = time.process_time()
        for _ in range(STEPS):
            run(at)
            at += 1
        best[i] = min(best[i], (time.process_time() - begin) / STEPS)
print(f"PyTorch {torch.__version__}, {'bf16' if bf16 else 'fp32'}, batch {BATCH}, one thread")
for (name, _), seconds in zip(ways, best):
    print(f"{name:20s} {BATCH / seconds:8.0f} samples/s {seconds * 1e6:7.0f} us a batch")
