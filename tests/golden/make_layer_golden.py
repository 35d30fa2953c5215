# SPDX-License-Identifier: Apache-2.0
"""Layers of FuxiCTR 2.3.10 and of PyTorch, each with random inputs and parameters: outputs and gradients of
sum(c * output), with the statistics of the batch and with those stored, for tests/unit/test_layer_golden.c. Writes
layers.bin beside this file.

    pip download --no-deps fuxictr==2.3.10
    unzip fuxictr-2.3.10-*.whl -d DIR
    PYTHONPATH=DIR python3 make_layer_golden.py

Of FuxiCTR only the layers' own files are loaded, which need torch alone: Debian's python3-torch serves. The file is
records until its end, as of make_net_golden.py; a name is CASE/WHAT, WHAT being:

    x<i>, c, out                  (B, D_i), (B, D), (B, D); a sequence's entries (N, D_i)
    lengths                       (B) entries of each sample, where x0 is a sequence
    block.<parameter>             and gradient.<the same>; buffers too, with after.<the same>
    gradient.x<i>
    frozen.out, frozen.x<i>       the same by stored statistics, where they differ
"""
import importlib.util
import os
import struct
import sys
import types

import torch
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
B = 11


def fuxictr(path, name):
    """A class of one file below fuxictr/pytorch/layers."""
    root = importlib.util.find_spec("fuxictr").submodule_search_locations[0]
    for package in ("pytorch", "pytorch/layers", "pytorch/layers/attentions", "pytorch/layers/blocks"):
        empty = types.ModuleType("fuxictr." + package.replace("/", "."))
        empty.__path__ = [os.path.join(root, package)]
        sys.modules.setdefault(empty.__name__, empty)  # without what its own __init__ would load
    module_name = "fuxictr.pytorch.layers." + path[:-3].replace("/", ".")
    spec = importlib.util.spec_from_file_location(module_name, os.path.join(root, "pytorch/layers", path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


class Out:
    def __init__(self, name):
        self.file = open(os.path.join(HERE, name), "wb")

    def put(self, name, values):
        values = values.detach().reshape(-1).tolist()
        head = struct.pack("<B", len(name)) + name.encode() + struct.pack("<BI", 0, len(values))
        self.file.write(head + struct.pack(f"<{len(values)}f", *values))


OUT = Out("layers.bin")


def names_of(net):
    """Parameters and statistics, but for the count of batches."""
    return [k for k in net.state_dict() if not k.endswith("num_batches_tracked")]


def randomize(net):
    with torch.no_grad():
        for key, p in net.state_dict().items():
            if p.dtype.is_floating_point:
                p.copy_(0.5 + torch.rand(p.shape) if key.endswith("running_var") else 0.5 * torch.randn(p.shape))


def make(case, net, widths, forward, params=None):
    """forward(xs) is (B, D). params(get) gives names and values of the block, where they differ from the net's own:
    get(key) is the value of a parameter, or its gradient."""
    randomize(net)
    net.train()
    params = params or (lambda get: {"block." + key: get(key) for key in names_of(net)})
    values = {k: v.clone() for k, v in net.state_dict().items()}
    for key, value in params(values.__getitem__).items():
        OUT.put(f"{case}/{key}", value)
    xs = [torch.randn(w if isinstance(w, tuple) else (B, w)).requires_grad_() for w in widths]
    for i, x in enumerate(xs):
        OUT.put(f"{case}/x{i}", x)
    out = forward(xs)
    c = torch.randn(out.shape)
    OUT.put(f"{case}/c", c)
    OUT.put(f"{case}/out", out)
    (c * out).sum().backward()
    for i, x in enumerate(xs):
        OUT.put(f"{case}/gradient.x{i}", x.grad)
        x.grad = None
    trained = dict(net.named_parameters())
    get = lambda key: trained[key].grad if key in trained else torch.zeros_like(values[key])
    for key, value in params(get).items():
        OUT.put(f"{case}/gradient.{key}", value)
    for key in (k for k in names_of(net) if k not in trained):
        OUT.put(f"{case}/after.block.{key}", net.state_dict()[key])
    net.load_state_dict(values)
    net.eval()
    out = forward(xs)
    (c * out).sum().backward()
    OUT.put(f"{case}/frozen.out", out)
    for i, x in enumerate(xs):
        OUT.put(f"{case}/frozen.x{i}", x.grad)


def one(net):
    return lambda xs: net(torch.cat(xs, 1))


def fields(net):
    """Fields of one width, as (B, m, D), to whatever a row is, flat."""
    return lambda xs: net(torch.stack(xs, 1)).reshape(B, -1)


# ---- fully connected layers

def mlp(norm=None, activation=nn.ReLU):
    layers = []
    for a, b in ((6, 9), (9, 4)):
        layers += [nn.Linear(a, b)] + ([norm(b)] if norm else []) + [activation(b)]
    return nn.Sequential(*layers)


def mlps():
    dice = fuxictr("activations.py", "Dice")
    block = fuxictr("blocks/mlp_block.py", "MLP_Block")
    plain = lambda f: lambda width: f()
    nets = {
        "mlp_prelu": mlp(activation=plain(nn.PReLU)),
        "mlp_dice": mlp(activation=dice),
        "mlp_sigmoid": mlp(activation=plain(nn.Sigmoid)),
        "mlp_tanh": mlp(activation=plain(nn.Tanh)),
        "mlp_batch": mlp(norm=nn.BatchNorm1d, activation=plain(nn.ReLU)),
        "mlp_layer": mlp(norm=nn.LayerNorm, activation=plain(nn.ReLU)),
        "mlp_layer_dice": mlp(norm=nn.LayerNorm, activation=dice),
        "mlp_momentum": mlp(norm=lambda w: nn.BatchNorm1d(w, eps=0.01, momentum=0.3), activation=plain(nn.Tanh)),
        "mlp_block": block(6, [9, 4], batch_norm=True).mlp,
        "mlp_last": block(6, [9], output_dim=4, output_activation="sigmoid", batch_norm=True).mlp,
    }
    for case, net in nets.items():
        make(case, net, [6], one(net))


# ---- crosses

class LowRank(nn.Module):
    """CrossNetMix with one expert, without its gate and nonlinearities."""

    def __init__(self, dim, layers, rank):
        super().__init__()
        self.U_list = nn.ParameterList([nn.Parameter(torch.empty(dim, rank)) for _ in range(layers)])
        self.V_list = nn.ParameterList([nn.Parameter(torch.empty(dim, rank)) for _ in range(layers)])
        self.bias = nn.ParameterList([nn.Parameter(torch.empty(dim)) for _ in range(layers)])

    def forward(self, x0):
        x = x0
        for u, v, b in zip(self.U_list, self.V_list, self.bias):
            x = x0 * (x @ (u @ v.T).T + b) + x
        return x


class UnequalSenet(nn.Module):
    """FuxiCTR's SqueezeExcitation, whose fields are of one width, on fields of any: by its own excitation."""

    def __init__(self, m, **options):
        super().__init__()
        self.senet = fuxictr("attentions/squeeze_excitation.py", "SqueezeExcitation")(m, **options)

    def forward(self, xs):
        a = self.senet.excitation(torch.stack([x.mean(1) for x in xs], 1))
        return torch.cat([x * a[:, i:i + 1] for i, x in enumerate(xs)], 1)


def bilinear_params(bilinear_type):
    """bilinear_W is (m, in, out); ours is (out, in) of each."""
    def params(get):
        w = get("bilinear_W")
        if bilinear_type == "field_all":
            return {"block.weight": w.T}
        used = len(w) - 1 if bilinear_type == "field_each" else len(w)
        return {f"block.{i}.weight": w[i].T for i in range(used)}
    return params


class DotPairs(nn.Module):
    def __init__(self, widths):
        super().__init__()
        m = len(widths)
        self.pairs = [(i, j) for i in range(m) for j in range(i + 1, m)]
        self.bilinear = nn.ModuleList([nn.Bilinear(widths[j], widths[i], 1, bias=False) for i, j in self.pairs])

    def forward(self, xs):
        return torch.cat([f(xs[j], xs[i]) for f, (i, j) in zip(self.bilinear, self.pairs)], 1)


def crosses():
    net = fuxictr("interactions/cross_net.py", "CrossNetV2")(9, 3)
    make("dcn_v2", net, [4, 5], one(net))
    net = LowRank(9, 2, 3)
    make("dcn_v2_rank", net, [9], one(net))
    net = fuxictr("attentions/squeeze_excitation.py", "SqueezeExcitation")(5, reduction_ratio=2)
    make("senet_relu", net, [4] * 5, fields(net))
    net = UnequalSenet(4, reduction_ratio=2, excitation_activation="Sigmoid")
    strip = lambda get: {"block." + key[6:]: get(key) for key in names_of(net)}
    make("senet", net, [4, 7, 1, 3], net, strip)
    for cls in ("BilinearInteraction", "BilinearInteractionV2"):
        for kind in ("field_interaction", "field_each", "field_all"):
            net = fuxictr("interactions/bilinear_interaction.py", cls)(4, 5, kind)
            tail = cls[len("BilinearInteraction"):].lower()
            if tail == "" or kind == "field_interaction":
                index = net.state_dict().get("triu_index")
                make("bilinear" + kind[5:] + tail, net, [5] * 4, fields(net), bilinear_params(kind))
                assert index is None or (net.triu_index == index).all()
    net = DotPairs([4, 6, 3])
    make("bilinear_dot", net, [4, 6, 3], net,
         lambda get: {f"block.{i}.weight": get(f"bilinear.{i}.weight")[0] for i in range(3)})
    inner = fuxictr("interactions/inner_product.py", "InnerProductInteraction")
    for case, output in (("fm", "product_sum"), ("fm_vector", "bi_interaction")):
        net = inner(4, output)
        make(case, net, [5] * 4, fields(net))


# ---- attention of a candidate over sequences

L = 5


class Padded:
    """Entries of samples, (N, D), as (B, L, D) with zeros after each sample's own."""

    def __init__(self, case, lengths):
        self.mask = torch.arange(L)[None, :] < torch.tensor(lengths)[:, None]
        self.n = sum(lengths)
        OUT.put(f"{case}/lengths", torch.tensor(lengths, dtype=torch.float32))

    def __call__(self, x):
        return torch.zeros(B, L, x.shape[1]).index_put(torch.where(self.mask), x)


def lengths_of(full):
    return [L] * B if full else [1 + (3 * i + 2) % L for i in range(B)]


def nearest(q, k, mask, n):
    """The general search unit of FuxiCTR's SIM, by the inner product itself."""
    index = torch.bmm(k, q.unsqueeze(2)).squeeze(2).masked_fill(~mask, -1e9).topk(n, dim=1)[1]
    return torch.gather(k, 1, index.unsqueeze(-1).expand(-1, -1, k.shape[-1])), torch.gather(mask, 1, index)


def attend(case, net, sequences, candidates, full=False, search=0, params=None):
    """The candidate with zeros as far as it is narrower than an entry; `search`: over so many nearest."""
    padded = Padded(case, lengths_of(full))

    def forward(xs):
        k = padded(torch.cat(xs[:len(sequences)], 1))
        q = torch.cat(xs[len(sequences):], 1)
        q = nn.functional.pad(q, (0, k.shape[2] - q.shape[1]))
        k, mask = nearest(q.detach(), k, padded.mask, search) if search else (k, padded.mask)
        return net(q, k, mask)

    make(case, net, [(padded.n, w) for w in sequences] + candidates, forward, params)


def narrow(net, dim, query):
    """The columns of the first weight that a narrower candidate leaves: of q, k, q - k and q * k."""
    first = "attention_layer.mlp.0.weight"
    columns = [*range(query), *range(dim, 3 * dim + query)]
    return lambda get: {"block." + key: get(key)[:, columns] if key == first else get(key) for key in names_of(net)}


def multihead_is_pytorchs(net, dim, heads):
    twin = nn.MultiheadAttention(dim, heads, bias=False, batch_first=True)
    with torch.no_grad():
        twin.in_proj_weight.copy_(torch.cat([net.W_q.weight, net.W_k.weight, net.W_v.weight]))
        twin.out_proj.weight.copy_(net.W_o.weight)
        q, k = torch.randn(B, dim), torch.randn(B, L, dim)
        mask = torch.arange(L)[None, :] < torch.tensor(lengths_of(False))[:, None]
        own = twin(q.unsqueeze(1), k, k, key_padding_mask=~mask)[0].squeeze(1)
        assert torch.allclose(net(q, k, mask), own, atol=1e-5)


def attentions():
    din = fuxictr("attentions/target_attention.py", "DIN_Attention")
    heads = fuxictr("attentions/target_attention.py", "MultiHeadTargetAttention")
    attend("din", din(5, [9, 4]), [5], [5])
    attend("din_softmax", din(5, [9], "Sigmoid", use_softmax=True), [5], [5])
    attend("din_dice", din(7, [9, 4], "Dice"), [4, 3], [4, 3], full=True)
    attend("din_batch", din(5, [9, 4], "Sigmoid", batch_norm=True), [5], [5], full=True)
    net = din(7, [9, 4])
    attend("din_narrow", net, [4, 3], [4], params=narrow(net, 7, 4))
    net = heads(6, 6, 2)
    multihead_is_pytorchs(net, 6, 2)
    attend("sim_heads", net, [6], [6])
    attend("sim_soft", heads(6, 8, 4), [6], [6], search=2)
    net = din(7, [9, 4])
    attend("sim_soft_din", net, [4, 3], [4], search=3, params=narrow(net, 7, 4))


torch.manual_seed(1)
mlps()
crosses()
torch.manual_seed(3)
attentions()
