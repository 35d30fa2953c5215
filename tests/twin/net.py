# SPDX-License-Identifier: Apache-2.0
"""A net of freshet in PyTorch. Net(graph) takes what `freshet explain --model NAME --json` says and is a
torch.nn.Module whose state_dict has freshet's names, so what `freshet export` writes is loaded as it is.

A layer kind is a class with its name in KINDS. It is made with the options and the widths of what it reads, and called
with the values: Rows (B, D), or a sequence, Entries (N, D) of B samples. It says its `width`; one whose output is the
fields that it reads, side by side, also says their widths, `fields`. `frozen` is freshet's frozen mode: batch
statistics are those stored, also in training.
"""
import torch
from torch import nn
from torch.nn import functional as F


class Rows:
    def __init__(self, x, fields=None):
        self.x, self.fields = x, fields or [x.shape[1]]

    def split(self):
        return list(torch.split(self.x, self.fields, 1))

    def like(self, x):
        return Rows(x)


class Entries:
    """Row i of x is of sample at[i]; the samples' entries stand one after the other."""

    def __init__(self, x, at, samples):
        self.x, self.at, self.samples, self.fields = x, at, samples, [x.shape[1]]

    def like(self, x):
        return Entries(x, self.at, self.samples)

    def sums(self, x):
        return torch.zeros(self.samples, x.shape[1]).index_add(0, self.at, x)

    def counts(self):
        return torch.bincount(self.at, minlength=self.samples)

    def padded(self, x):
        """(B, L, D), and what of it is there (B, L)."""
        counts = self.counts()
        longest = max(1, int(counts.max()))
        place = torch.arange(len(self.at)) - (counts.cumsum(0) - counts)[self.at]
        there = torch.arange(longest)[None, :] < counts[:, None]
        return torch.zeros(self.samples, longest, x.shape[1]).index_put((self.at, place), x), there


def joined(values):
    if len(values) == 1:
        return values[0]
    return values[0].like(torch.cat([v.x for v in values], 1))


# ---- fully connected layers

class Norm(nn.BatchNorm1d):
    """By the statistics stored where there is one row, or the layers are frozen."""
    frozen = False

    def forward(self, x):
        batch = self.training and not self.frozen and x.shape[0] > 1
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, batch, self.momentum,
                            self.eps)


class Dice(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.bn = Norm(width, eps=1e-9, momentum=0.01, affine=False)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        p = torch.sigmoid(self.bn(x))
        return p * x + self.alpha * (1 - p) * x


ACTIVATIONS = {"relu": lambda width: nn.ReLU(), "none": lambda width: nn.Identity(),
               "sigmoid": lambda width: nn.Sigmoid(), "tanh": lambda width: nn.Tanh(),
               "prelu": lambda width: nn.PReLU(), "dice": Dice}


def stack(width, widths, activation="relu", last="same", norm="none", dropout=0, eps=1e-5, momentum=0.1):
    """What models/fc.h says of names and order."""
    layers = []
    for i, out in enumerate(widths):
        bare = last != "same" and i == len(widths) - 1
        layers.append(nn.Linear(width, out))
        if norm != "none" and not bare:
            layers.append(Norm(out, eps=eps, momentum=momentum) if norm == "batch" else nn.LayerNorm(out, eps=eps))
        layers.append(ACTIVATIONS[last if bare else activation](out))
        if dropout > 0 and not bare:
            layers.append(nn.Dropout(dropout))
        width = out
    return nn.Sequential(*layers)


def pick(options, *names):
    return {name: options[name] for name in names}


class Mlp(nn.Sequential):
    def __init__(self, options, of, **named):
        o = pick(options, "activation", "last", "norm", "eps", "momentum", "dropout")
        super().__init__(*stack(sum(w for w, _ in of), options["mlp"], **o))
        self.width = options["mlp"][-1]

    def forward(self, values):
        v = joined(values)
        return v.like(super().forward(v.x))


class Experts(nn.ModuleList):
    def __init__(self, options, of, **named):
        o = pick(options, "activation", "norm", "dropout")
        super().__init__(stack(sum(w for w, _ in of), options["experts"], **o) for _ in range(int(options["count"])))
        self.width = options["experts"][-1] * len(self)
        self.parts = [options["experts"][-1]] * len(self)

    def forward(self, values):
        v = joined(values)
        return Rows(torch.cat([e(v.x) for e in self], 1))


class Mmoe(nn.Module):
    def __init__(self, options, of, by):
        super().__init__()
        self.parts = [w for _, parts in of for w in parts]
        width = sum(w for w, _ in by)
        hidden = list(stack(width, options["gate"]))
        out = nn.Linear(options["gate"][-1] if options["gate"] else width, len(self.parts), bias=False)
        self.gate = nn.Sequential(*hidden, out)
        self.dropout, self.width = options["dropout"], self.parts[0]

    def forward(self, values, by):
        x = torch.stack(torch.split(torch.cat([v.x for v in values], 1), self.parts, 1), 1)
        z = self.gate(joined(by).x)
        if self.training and self.dropout > 0:
            drop = torch.rand(z.shape) < self.dropout
            z = z.masked_fill(drop & ~drop.all(1, keepdim=True), float("-inf"))
        return Rows((torch.softmax(z, 1).unsqueeze(2) * x).sum(1))


class Lhuc(nn.Module):
    def __init__(self, options, of, by):
        super().__init__()
        width, reads = sum(w for w, _ in of), sum(w for w, _ in by)
        self.detached, self.gate_input, self.scale = (options[k] for k in ("detached", "gate_input", "scale"))
        reads += width if self.detached else 0
        o = pick(options, "activation", "norm", "dropout")
        gated = ([width] if self.gate_input else []) + options["lhuc"]
        self.gates = nn.ModuleList(stack(reads, [int(options["hidden"]) or w, w], last="sigmoid") for w in gated)
        self.layers = nn.ModuleList(stack(a, [b], **o) for a, b in zip([width] + options["lhuc"], options["lhuc"]))
        self.width = options["lhuc"][-1]

    def forward(self, values, by):
        y = joined(values).x
        g = joined(by).x
        g = torch.cat([g, y.detach()], 1) if self.detached else g
        gates = [self.scale * gate(g) for gate in self.gates]
        if self.gate_input:
            y = y * gates.pop(0)
        for layer, gate in zip(self.layers, gates):
            y = layer(y) * gate
        return Rows(y)


# ---- crosses

class DcnV2(nn.Module):
    def __init__(self, options, of, **named):
        super().__init__()
        self.width, n, rank = sum(w for w, _ in of), int(options["dcn_v2"]), int(options["rank"])
        if rank == 0:
            self.cross_layers = nn.ModuleList(nn.Linear(self.width, self.width) for _ in range(n))
            return
        self.cross_layers = None
        xavier = lambda: nn.Parameter(nn.init.xavier_normal_(torch.empty(self.width, rank)))
        matrix = lambda: nn.ParameterList(xavier() for _ in range(n))
        self.U_list, self.V_list = matrix(), matrix()
        self.bias = nn.ParameterList(nn.Parameter(torch.zeros(self.width)) for _ in range(n))

    def forward(self, values):
        v = joined(values)
        x = v.x
        if self.cross_layers is not None:
            for layer in self.cross_layers:
                x = v.x * layer(x) + x
            return v.like(x)
        for u, w, b in zip(self.U_list, self.V_list, self.bias):
            x = v.x * (x @ w @ u.T + b) + x
        return v.like(x)


def fields_of(values):
    return [field for v in values for field in v.split()]


class Senet(nn.Module):
    def __init__(self, options, of, **named):
        super().__init__()
        self.fields = [w for _, parts in of for w in parts]
        m = len(self.fields)
        k = max(1, int(m / options["reduction"]))
        last = nn.Sigmoid() if options["activation"] == "sigmoid" else nn.ReLU()
        self.excitation = nn.Sequential(nn.Linear(m, k, bias=False), nn.ReLU(), nn.Linear(k, m, bias=False), last)
        self.width = sum(self.fields)

    def forward(self, values):
        xs = fields_of(values)
        a = self.excitation(torch.stack([x.mean(1) for x in xs], 1))
        return Rows(torch.cat([x * a[:, i:i + 1] for i, x in enumerate(xs)], 1), self.fields)


class Bilinear(nn.Module):
    def __init__(self, options, of, names=(), **named):
        super().__init__()
        parts = [w for _, p in of for w in p]
        m = len(parts)
        self.pairs = [(i, j) for i in range(m) for j in range(i + 1, m)]
        if options["pairs"]:
            chosen = [names.index(name) for name in options["pairs"]]
            self.pairs = list(zip(chosen[::2], chosen[1::2]))
        self.dot = options["output"] == "dot"
        self.kind = options["bilinear"]
        if self.kind == "all":
            self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(parts[0], parts[0])))
        for p, (i, j) in enumerate(self.pairs):
            name = str(p if self.kind == "interaction" else i)
            if self.kind != "all" and name not in self._modules:
                self.add_module(name, nn.Linear(parts[i], parts[j], bias=False))
                nn.init.xavier_normal_(self._modules[name].weight)
        self.width = len(self.pairs) if self.dot else sum(parts[j] for _, j in self.pairs)

    def forward(self, values):
        fields, out = fields_of(values), []
        for p, (i, j) in enumerate(self.pairs):
            if self.kind == "all":
                h = F.linear(fields[i], self.weight)
            else:
                h = self._modules[str(p if self.kind == "interaction" else i)](fields[i])
            h = h * fields[j]
            out.append(h.sum(1, keepdim=True) if self.dot else h)
        return Rows(torch.cat(out, 1))


class Fm(nn.Module):
    def __init__(self, options, of, linear=(), **named):
        super().__init__()
        self.vector, self.linear = options["vector"], None
        if linear:
            self.linear = nn.Linear(sum(w for w, _ in linear), 1, bias=False)
        self.width = of[0][1][0] if self.vector else 1

    def forward(self, values, linear=()):
        x = torch.stack(fields_of(values), 1)
        v = (x.sum(1) ** 2 - (x ** 2).sum(1)) / 2
        y = v if self.vector else v.sum(1, keepdim=True)
        return Rows(y + self.linear(joined(linear).x) if self.linear is not None else y)


# ---- attention of a candidate over a sequence

class AttentionUnit(nn.Module):
    """DIN's, of the entries `e` beside the candidate q, which may be narrower."""

    def __init__(self, dim, query, hidden, activation, softmax=False, norm="none", dropout=0):
        super().__init__()
        self.attention_layer = nn.Module()
        self.attention_layer.mlp = stack(2 * (dim + query), list(hidden) + [1], activation, "none", norm, dropout)
        self.softmax = softmax

    def forward(self, e, q):
        k, width = e.x, q.shape[1]
        q = q[e.at]
        beside = torch.cat([q - k[:, :width], -k[:, width:]], 1)
        a = self.attention_layer.mlp(torch.cat([q, k, beside, q * k[:, :width]], 1))
        if self.softmax:
            score, there = e.padded(a)
            score = torch.softmax(score.squeeze(2).masked_fill(~there, float("-inf")), 1)
            a = score[there].unsqueeze(1)
        return e.sums(a * k)


class Heads(nn.Module):
    def __init__(self, dim, query, heads, width):
        super().__init__()
        self.W_q, self.W_k, self.W_v = (nn.Linear(d, width, bias=False) for d in (query, dim, dim))
        self.W_o = nn.Linear(width, dim, bias=False)
        self.heads = heads

    def forward(self, e, q):
        k, there = e.padded(e.x)
        by_head = lambda x: x.reshape(x.shape[0], -1, self.heads, x.shape[-1] // self.heads).transpose(1, 2)
        q, keys, mixed = by_head(self.W_q(q).unsqueeze(1)), by_head(self.W_k(k)), by_head(self.W_v(k))
        s = (q @ keys.transpose(2, 3) / q.shape[-1] ** 0.5).masked_fill(~there[:, None, None, :], -1e30)
        a = torch.softmax(s, 3) * there[:, None, None, :]
        return self.W_o((a @ mixed).transpose(1, 2).reshape(k.shape[0], -1))


def nearest(e, q, n):
    """The n entries of each sample whose inner product with q is greatest, of equal ones the earlier."""
    with torch.no_grad():
        score, there = e.padded((e.x[:, :q.shape[1]] * q[e.at]).sum(1, keepdim=True))
        score = score.squeeze(2).masked_fill(~there, float("-inf"))
        rank = torch.sort(score, dim=1, descending=True, stable=True)[1].argsort(1)
        kept = (rank < n)[there]
    return Entries(e.x[kept], e.at[kept], e.samples)


class Din(AttentionUnit):
    def __init__(self, options, of, candidate):
        o = pick(options, "activation", "softmax", "norm", "dropout")
        self_width = sum(w for w, _ in of)
        super().__init__(self_width, sum(w for w, _ in candidate), options["din"], **o)
        self.width = self_width

    def forward(self, values, candidate):
        return Rows(super().forward(joined(values), joined(candidate).x))


class Sim(nn.Module):
    def __init__(self, options, of, candidate):
        super().__init__()
        self.width, query = sum(w for w, _ in of), sum(w for w, _ in candidate)
        self.found = int(options["k"]) if options["search"] == "soft" else None
        if options["attention"] == "multihead":
            unit = Heads(self.width, query, int(options["heads"]), int(options["width"]))
        else:
            unit = AttentionUnit(self.width, query, options["units"] or [64, 16], options["activation"],
                                 options["softmax"])
        for name, part in unit.named_children():  # so that names are the block's own
            self.add_module(name, part)
        self.unit = [unit]

    def forward(self, values, candidate):
        e, q = joined(values), joined(candidate).x
        return Rows(self.unit[0](nearest(e, q, self.found) if self.found else e, q))


# ---- without parameters

class Plain(nn.Module):
    def __init__(self, options, of, **named):
        super().__init__()
        self.options, self.width = options, sum(w for w, _ in of)


class Concat(Plain):
    def forward(self, values):
        return joined(values)


class Mean(Plain):
    def forward(self, values):
        e = joined(values)
        return Rows(e.sums(e.x) / e.counts().clamp(min=1).unsqueeze(1))


class Hadamard(Plain):
    def __init__(self, options, of, **named):
        super().__init__(options, of)
        self.width = of[0][0]

    def forward(self, values):
        x = values[0].x
        for v in values[1:]:
            x = x * v.x
        return values[0].like(x)


class L2norm(Plain):
    def forward(self, values):
        v = joined(values)
        return v.like(F.normalize(v.x, eps=self.options["eps"]))


class Stop(Plain):
    def forward(self, values):
        v = joined(values)
        return v.like(v.x.detach())


KINDS = {"bilinear": Bilinear, "concat": Concat, "dcn_v2": DcnV2, "din": Din, "experts": Experts, "fm": Fm,
         "hadamard": Hadamard, "l2norm": L2norm, "lhuc": Lhuc, "mean": Mean, "mlp": Mlp, "mmoe": Mmoe, "senet": Senet,
         "sim": Sim, "stop": Stop}
NAMED = ("by", "linear", "candidate")  # options that name inputs


class Net(nn.Module):
    def __init__(self, graph):
        super().__init__()
        self.graph = graph
        shapes = {i["name"]: (int(i["dim"]), [int(i["dim"])]) for i in graph["inputs"]}  # width, fields
        names = {i["name"]: [i["name"]] for i in graph["inputs"]}  # of the fields
        experts = {}  # widths of the parts
        for block in graph["blocks"]:
            if block["kind"] not in KINDS:
                raise SystemExit(f"the twin has no layer \"{block['kind']}\" yet: a class in {__file__}")
            options = block["options"]
            named = {k: [shapes[n] for n in options[k]] for k in NAMED if options.get(k)}
            if block["kind"] == "bilinear":
                named["names"] = [field for n in block["of"] for field in names[n]]
            of = [(shapes[n][0], experts[n]) if n in experts and block["kind"] == "mmoe" else shapes[n]
                  for n in block["of"]]
            layer = KINDS[block["kind"]](options, of, **named)
            if block["kind"] == "experts":
                experts[block["name"]] = layer.parts
            keeps = hasattr(layer, "fields")
            shapes[block["name"]] = (layer.width, layer.fields if keeps else [layer.width])
            names[block["name"]] = [f for n in block["of"] for f in names[n]] if keeps else [block["name"]]
            self.add_module(block["name"], layer)
        for head in graph["heads"]:
            self.add_module(head["name"], nn.Linear(shapes[head["of"]][0], 1))

    def freeze(self, frozen):
        for module in self.modules():
            if isinstance(module, Norm):
                module.frozen = frozen

    def forward(self, inputs):
        """Values by input; logits by head."""
        values = dict(inputs)
        for block in self.graph["blocks"]:
            named = {k: [values[n] for n in block["options"][k]] for k in NAMED if block["options"].get(k)}
            values[block["name"]] = self._modules[block["name"]]([values[n] for n in block["of"]], **named)
        return {h["name"]: self._modules[h["name"]](values[h["of"]].x)[:, 0] for h in self.graph["heads"]}


# ---- heads

def predictions(graph, logits):
    p = {}
    for head in graph["heads"]:
        z = logits[head["name"]]
        p[head["name"]] = torch.exp(z.clamp(max=88.37)) if head["loss"] == "watch_time" else torch.sigmoid(z)
        if head["through"]:
            p[head["name"]] = p[head["name"]] * p[head["through"]]
    return p


def loss_of(head, logits, y):
    z = logits[head["name"]]
    if head["through"]:
        w = logits[head["through"]]
        a, b = torch.sigmoid(-z), torch.sigmoid(-w)
        return -y * (F.logsigmoid(z) + F.logsigmoid(w)) - (1 - y) * torch.log(a + b - a * b)
    if head["loss"] == "fnw":
        p = torch.sigmoid(z)
        return p + p * p / 2 - y * (F.logsigmoid(z) + p)
    if head["loss"] == "watch_time":
        y = y / (1 + y)
    return F.binary_cross_entropy_with_logits(z, y, reduction="none")


def loss(graph, logits, labels, weights):
    """The sum over samples and heads, as net_loss of models/net.h; a weight below 0 takes back a label 0."""
    total = 0
    for head in graph["heads"]:
        y, w = labels[head["name"]], weights[head["name"]]
        each = loss_of(head, logits, y)
        if (w < 0).any():
            each = each - torch.where(w < 0, loss_of(head, logits, torch.zeros_like(y)), torch.zeros_like(y))
        total = total + head["weight"] * (w.abs() * each).sum()
    return total
