# SPDX-License-Identifier: Apache-2.0
"""The optimizers of models/optimizer.h: those of the dense layers are torch's own where it has them; those of rows, where
only rows that occur in a step change, are written out here."""
import torch


def share(about, samples):
    """Of the learning rate, while it warms up."""
    warmup = about.get("warmup", 0)
    return 1.0 if samples >= warmup else samples / warmup


class Rows:
    """One table's. A table has accum (n) and state, two of (n, dim)."""

    def __init__(self, about):
        self.about, self.step = about, 0

    def begin(self, weight):
        a, n = self.about, len(weight)
        accum = torch.full((n,), float(a.get("accum", 0)))
        state = [torch.zeros_like(weight), torch.zeros_like(weight)]
        if a["kind"] == "adagrad":
            state[0] += a["accum"]
        if a["kind"] == "ftrl":
            state = list(Ftrl.begin(a, a["lr"], weight))
        return accum, state

    def __call__(self, table, at, g, samples):
        a, w = self.about, table.weight[at]
        lr = a["lr"] * share(a, samples)
        if a.get("clip_norm"):
            g = g * (a["clip_norm"] / (g.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1)
        if a.get("weight_decay"):
            w, g = (w * (1 - lr * a["weight_decay"]), g) if a["decoupled"] else (w, g + a["weight_decay"] * w)
        first, second = (s[at] for s in table.state)
        if a["kind"] == "rowwise_adagrad":
            table.accum[at] += (g * g).mean(1)
            w = w - lr * g / (table.accum[at].sqrt() + 1e-8).unsqueeze(1)
        elif a["kind"] == "adagrad":
            first = first + g * g
            w = w - lr * g / (first.sqrt() + 1e-10)
        elif a["kind"] == "adam":
            first = a["beta1"] * first + (1 - a["beta1"]) * g
            second = a["beta2"] * second + (1 - a["beta2"]) * g * g
            rate = lr * (1 - a["beta2"] ** self.step) ** 0.5 / (1 - a["beta1"] ** self.step)
            w = w - rate * first / (second.sqrt() + 1e-8)
        else:
            w, first, second = Ftrl.stepped(a, lr, w, first, second, g)
        table.weight[at], table.state[0][at], table.state[1][at] = w, first, second


class Ftrl(torch.optim.Optimizer):
    """FTRL-Proximal, by coordinate."""

    def __init__(self, groups, about):
        super().__init__(groups, {"lr": about["lr"]})
        self.about = about

    @staticmethod
    def begin(a, lr, w):
        z = -w * ((a["beta"] + a["accum"] ** 0.5) / lr + a["l2"]) - a["l1"] * torch.sign(w)
        return z, torch.full_like(w, a["accum"])

    @staticmethod
    def stepped(a, lr, w, z, s, g):
        after = s + g * g
        z = z + g - w * (after.sqrt() - s.sqrt()) / lr
        w = -torch.sign(z) * (z.abs() - a["l1"]).clamp(min=0) / ((a["beta"] + after.sqrt()) / lr + a["l2"])
        return w, z, after

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                if not self.state[p]:
                    self.state[p]["z"], self.state[p]["s"] = self.begin(self.about, group["lr"], p)
                kept = self.state[p]
                w, kept["z"], kept["s"] = self.stepped(self.about, group["lr"], p, kept["z"], kept["s"], p.grad)
                p.copy_(w)


class Dense:
    """groups: lists of parameters with their learning rates."""

    def __init__(self, about, groups):
        a = self.about = about
        self.params = [p for params, _ in groups for p in params]
        groups = [{"params": params, "lr": lr} for params, lr in groups]
        decay = 0 if a.get("decoupled") else a.get("weight_decay", 0)
        if a["kind"] == "adagrad":
            self.by = torch.optim.Adagrad(groups, a["lr"], weight_decay=decay, eps=1e-10,
                                          initial_accumulator_value=a.get("accum", 0))
        elif a["kind"] == "adam":
            self.by = torch.optim.Adam(groups, a["lr"], (a["beta1"], a["beta2"]), 1e-8, decay)
        else:
            self.by = Ftrl(groups, a)
        self.rates = [group["lr"] for group in self.by.param_groups]

    def zero(self):
        self.by.zero_grad()

    def __call__(self, samples):
        a = self.about
        if a.get("clip_norm"):
            torch.nn.utils.clip_grad_norm_(self.params, a["clip_norm"])
        for group, lr in zip(self.by.param_groups, self.rates):
            group["lr"] = lr * share(a, samples)
            if a.get("decoupled") and a.get("weight_decay"):
                with torch.no_grad():
                    for p in group["params"]:
                        p.mul_(1 - group["lr"] * a["weight_decay"])
        self.by.step()
