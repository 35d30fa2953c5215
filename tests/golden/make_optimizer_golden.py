# SPDX-License-Identifier: Apache-2.0
"""Steps of optimizers, for tests/unit/test_optimizer.c, which takes the same steps from the same numbers. Writes
optimizer.bin beside this file.

Dense: N parameters, STEPS gradients; after each step all parameters, by torch.optim.Adagrad, Adam and AdamW with weight
decay, warm-up and clip_grad_norm_. Rows: a table of ROWS x DIM of which some rows occur in each step; at the end the
table, by torch.optim.SparseAdam and Adagrad (sparse), or where torch has no such thing by hand in float64.
FTRL-Proximal is Algorithm 1 of McMahan et al. (KDD 2013) as it stands there, w computed of z and n when it is needed,
in float64, with numpy.

The format is make_model_golden.py's. Made with Debian's python3-torch; another PyTorch draws other numbers, which
serve as well.
"""
import os
import struct

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
N, STEPS, BATCH = 37, 12, 8
ROWS, DIM = 7, 5


def put(file, name, values):
    values = np.asarray(values).reshape(-1)
    kind = "f" if values.dtype.kind == "f" else "I"
    head = struct.pack("<B", len(name)) + name.encode() + struct.pack("<BI", int(kind == "I"), len(values))
    file.write(head + struct.pack(f"<{len(values)}{kind}", *values.tolist()))


def warm(lr, step, warmup):
    """Of step 0, 1, ...: BATCH samples each."""
    return lr * min(1, (step + 1) * BATCH / warmup) if warmup else lr


def dense(params, gradients, make, lr, warmup=0, clip=0):
    p = params.clone().requires_grad_()
    optimizer = make([p], lr)
    seen = []
    for step, g in enumerate(gradients):
        for group in optimizer.param_groups:
            group["lr"] = warm(lr, step, warmup)
        p.grad = g.clone()
        if clip:
            torch.nn.utils.clip_grad_norm_([p], clip)
        optimizer.step()
        seen.append(p.detach().clone())
    return torch.stack(seen).numpy()


class Ftrl:
    """From weights that are not zero, z begins such that they are what it gives."""

    def __init__(self, w, alpha, beta, l1, l2, begin=0.0):
        w = np.array(w, dtype=np.float64)
        self.alpha, self.beta, self.l1, self.l2 = alpha, beta, l1, l2
        self.n = np.full_like(w, begin)
        self.z = -w * ((beta + np.sqrt(self.n)) / alpha + l2) - np.sign(w) * l1

    def weights(self):
        w = -(self.z - np.sign(self.z) * self.l1) / ((self.beta + np.sqrt(self.n)) / self.alpha + self.l2)
        return np.where(np.abs(self.z) <= self.l1, 0, w)

    def step(self, g):
        w = self.weights()
        sigma = (np.sqrt(self.n + g * g) - np.sqrt(self.n)) / self.alpha
        self.z += g - sigma * w
        self.n += g * g


def ftrl(params, gradients, **options):
    f = Ftrl(params.numpy(), **options)
    seen = []
    for g in gradients.double().numpy():
        f.step(g)
        seen.append(f.weights())
    return np.stack(seen)


def sparse(table, touched, gradients, make, warmup=0, lr=0.0):
    p = torch.nn.Parameter(table.clone())
    optimizer = make([p])
    for step in range(STEPS):
        rows = torch.nonzero(touched[step])[:, 0]
        for group in optimizer.param_groups:
            group["lr"] = warm(lr, step, warmup)
        p.grad = torch.sparse_coo_tensor(rows[None], gradients[step][rows], p.shape).coalesce()
        optimizer.step()
    return p.detach().numpy()


def by_hand(table, touched, gradients, step_of, decay=0.0, decoupled=False, clip=0.0, lr=0.1):
    """Row by row; step_of(row) gives a function of (w, g) that returns the new w."""
    w = table.double().numpy().copy()
    steps = [step_of(row) for row in range(ROWS)]
    for step in range(STEPS):
        for row in np.nonzero(touched[step].numpy())[0]:
            g = gradients[step][row].double().numpy()
            if clip:
                g = g * min(1, clip / (np.linalg.norm(g) + 1e-6))
            if decoupled:
                w[row] *= 1 - lr * decay
            else:
                g = g + decay * w[row]
            w[row] = steps[row](w[row], g)
    return w


def rowwise(lr, begin=0.0):
    def of(_):
        accum = [begin]

        def step(w, g):
            accum[0] += (g * g).mean()
            return w - lr * g / (np.sqrt(accum[0]) + 1e-8)
        return step
    return of


def adagrad(lr):
    def of(_):
        accum = np.zeros(DIM)

        def step(w, g):
            accum[:] += g * g
            return w - lr * g / (np.sqrt(accum) + 1e-10)
        return step
    return of


def ftrl_rows(table, **options):
    def of(row):
        f = Ftrl(table[row].numpy(), **options)

        def step(_, g):
            f.step(g)
            return f.weights()
        return step
    return of


def main():
    torch.manual_seed(11)
    optim = torch.optim
    params, gradients = torch.randn(N) * 0.3, torch.randn(STEPS, N)
    gradients[5] *= 0.01
    gradients[:, 3] = 0
    table, rows = torch.randn(ROWS, DIM) * 0.3, torch.randn(STEPS, ROWS, DIM)
    touched = torch.rand(STEPS, ROWS) < 0.5
    touched[7:, 6] = False
    with open(os.path.join(HERE, "optimizer.bin"), "wb") as file:
        put(file, "params", params)
        put(file, "gradients", gradients)
        put(file, "table", table)
        put(file, "rows", rows)
        put(file, "touched", touched.numpy().astype(np.uint32))
        make = lambda kind, **options: lambda p, lr: kind(p, lr=lr, **options)
        put(file, "adagrad", dense(params, gradients, make(optim.Adagrad), 0.1))
        put(file, "adagrad_all", dense(params, gradients, make(
            optim.Adagrad, weight_decay=0.05, initial_accumulator_value=0.1), 0.1, warmup=40, clip=2))
        put(file, "adam", dense(params, gradients, make(optim.Adam), 0.01))
        put(file, "adam_all", dense(params, gradients, make(
            optim.Adam, betas=(0.8, 0.95), weight_decay=0.05), 0.01, warmup=40, clip=2))
        put(file, "adamw", dense(params, gradients, make(optim.AdamW, weight_decay=0.1), 0.01))
        put(file, "adamw_all", dense(params, gradients, make(optim.AdamW, weight_decay=0.1), 0.01, warmup=40, clip=2))
        put(file, "ftrl", ftrl(params, gradients, alpha=0.1, beta=1, l1=0, l2=0))
        put(file, "ftrl_all", ftrl(params, gradients, alpha=0.1, beta=0.5, l1=1.5, l2=0.3, begin=0.1))
        put(file, "ftrl_zeros", ftrl(torch.zeros(N), gradients, alpha=0.1, beta=1, l1=1.5, l2=0.3))
        adam = lambda **options: lambda p: optim.SparseAdam(p, lr=0.01, **options)
        put(file, "rows.adam", sparse(table, touched, rows, adam(), lr=0.01))
        put(file, "rows.adam_warm", sparse(table, touched, rows, adam(betas=(0.8, 0.95)), warmup=40, lr=0.01))
        put(file, "rows.adagrad", sparse(table, touched, rows, lambda p: optim.Adagrad(p, lr=0.1), lr=0.1))
        put(file, "rows.adagrad_all", by_hand(table, touched, rows, adagrad(0.1), decay=0.05, clip=1.5))
        put(file, "rows.rowwise", by_hand(table, touched, rows, rowwise(0.1)))
        put(file, "rows.rowwise_all", by_hand(table, touched, rows, rowwise(0.1, 0.1), decay=0.05, clip=1.5))
        put(file, "rows.rowwise_w", by_hand(table, touched, rows, rowwise(0.1), decay=0.5, decoupled=True))
        put(file, "rows.ftrl", by_hand(table, touched, rows, ftrl_rows(table, alpha=0.1, beta=1, l1=0.5, l2=0.1)))


main()
