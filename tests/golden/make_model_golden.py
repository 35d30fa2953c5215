# SPDX-License-Identifier: Apache-2.0
"""An update of a small model in PyTorch, with dense and row-wise Adagrad, for tests/unit/test_model_golden.c, which trains
the same model from the same state. Writes model.bin beside this file.

Six batches, the last a short one; the dense layers are trained on the first three and frozen then. Ids 1 .. ROWS are
in the tables; ids beyond are new and begin with zeros. Done once with one epoch and once with two.

A file is records until its end, little-endian: name length u8, name, kind u8 (0 f32, 1 u32), count u32, values.
Made with Debian's python3-torch; another PyTorch draws other numbers, which serve as well.
"""
import copy
import os
import struct

import torch
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
N, BATCH, BOOTSTRAP = 45, 8, 24
ROWS, NEW, DIM = 20, 4, 8
LR_ROWS, LR_DENSE, ACCUM = 0.1, 0.05, 0.01


def put(file, name, values):
    values = values.detach().reshape(-1).tolist() if torch.is_tensor(values) else list(values)
    kind = "f" if isinstance(values[0], float) else "I"
    head = struct.pack("<B", len(name)) + name.encode() + struct.pack("<BI", int(kind == "I"), len(values))
    file.write(head + struct.pack(f"<{len(values)}{kind}", *values))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(3 * DIM + 1, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.click = nn.Linear(8, 1)
        self.like = nn.Linear(8, 1)


def forward(net, tables, data, samples):
    """Logits of both heads."""
    def pooled(s):
        ids = data["clicks"][data["offsets"][s]:data["offsets"][s + 1]]
        return tables[1][ids].mean(0) if ids else torch.zeros(DIM)

    user = torch.stack([tables[0][data["user"][s]] for s in samples])
    item = torch.stack([tables[1][data["item"][s]] for s in samples])
    clicks = torch.stack([pooled(s) for s in samples])
    bottom = net.bottom(torch.cat([user, item, clicks, data["age"][samples][:, None]], 1))
    return net.click(bottom)[:, 0], net.like(bottom)[:, 0]


def predict(net, tables, data):
    with torch.no_grad():
        return [torch.sigmoid(z) for z in forward(net, tables, data, list(range(N)))]


def step_rows(table, accum):
    """Rows without a gradient stay: their step is 0 and so is what their accumulator gains."""
    g = table.grad
    accum += (g * g).mean(1)
    with torch.no_grad():
        table -= LR_ROWS * g / (accum.sqrt() + 1e-8)[:, None]
    table.grad = None


def train(net, tables, data, epochs):
    optimizer = torch.optim.Adagrad(net.parameters(), lr=LR_DENSE)
    accums = [torch.full((ROWS + NEW + 1,), ACCUM) for _ in tables]
    bce = nn.functional.binary_cross_entropy_with_logits
    trained = 0
    for epoch in range(epochs):
        for at in range(0, N, BATCH):
            samples = list(range(at, min(at + BATCH, N)))
            click, like = forward(net, tables, data, samples)
            loss = bce(click, data["click"][samples], data["weights"][samples])
            loss = loss + 0.5 * bce(like, data["like"][samples])
            optimizer.zero_grad()
            loss.backward()
            if trained < BOOTSTRAP:
                optimizer.step()
            for table, accum in zip(tables, accums):
                step_rows(table, accum)
            trained += len(samples)
    return accums


def main():
    torch.manual_seed(4)
    net = Net()
    tables = [torch.randn(ROWS + NEW + 1, DIM) * 0.5 for _ in range(2)]
    for table in tables:
        table[0] = 0
        table[ROWS + 1:] = 0
    lengths = [i * 3 % 5 for i in range(N)]
    offsets = [sum(lengths[:i]) for i in range(N + 1)]
    ids = lambda n: torch.randint(1, ROWS + NEW + 1, (n,)).tolist()
    data = {"user": ids(N), "item": ids(N), "clicks": ids(offsets[-1]), "offsets": offsets,
            "age": torch.randn(N), "click": (torch.rand(N) < 0.4).float(), "like": (torch.rand(N) < 0.3).float(),
            "weights": torch.rand(N) + 0.5}
    with open(os.path.join(HERE, "model.bin"), "wb") as file:
        for name, value in net.named_parameters():
            put(file, name, value)
        for t, table in enumerate(tables):
            put(file, f"table{t}", table)
        for name, value in data.items():
            put(file, name, value)
        for head, p in zip(("click", "like"), predict(net, tables, data)):
            put(file, "before." + head, p)
        for epochs in (1, 2):
            after, rows = copy.deepcopy(net), [t.clone().requires_grad_() for t in tables]
            accums = train(after, rows, data, epochs)
            for name, value in after.named_parameters():
                put(file, f"{epochs}.{name}", value)
            for t, table in enumerate(rows):
                put(file, f"{epochs}.table{t}", table)
                put(file, f"{epochs}.accum{t}", accums[t])
            for head, p in zip(("click", "like"), predict(after, rows, data)):
                put(file, f"{epochs}.after." + head, p)


main()
