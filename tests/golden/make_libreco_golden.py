# SPDX-License-Identifier: Apache-2.0
"""LibRecommender's DIN, SIM, TwoTower and DeepFM as whole models, each with random inputs and variables: predictions,
the loss and its gradients, in training and with the stored statistics, for tests/unit/test_libreco_golden.c, which
composes the same nets of freshet's layers. Writes libreco.bin beside this file.

    pip install librecommender==1.5.2 tensorflow-cpu==2.21.0 tf-keras==2.21.0 recfarm==0.2.1 numpy==2.4.6 \\
        pandas scikit-learn requests
    python3 make_libreco_golden.py

The graph is LibRecommender's own (build_model), and so is the loss, but for a sum where it takes the mean. PyTorch,
which it imports for its other models, is mocked. What differs from freshet's layers, and how it is compared:

    attention of DIN    the weights are divided by sqrt(D) before the softmax: that is in the last layer's parameters
    attention of SIM    over the short sequence by q . k, without parameters: multi-head attention whose matrices are
                        multiples of the identity
    search of SIM       in what one matrix without bias makes of an item's features, both the candidate's and the
                        entries': blocks whose names differ after an @ have the same parameters, and the gradient is
                        the sum of theirs. Hard search and the time since an entry it has not.
    first stage of SIM  a sum where freshet has a mean, its logit added to the other's: off by alpha 0
    batch norm          of the input and after an activation, where freshet's stands before one: as that of a layer
                        whose matrix is the identity. TensorFlow keeps the biased variance of a batch, freshet as
                        PyTorch the unbiased one, as which it is written here
    l2 norm             the least length that is divided by is 1e-6, freshet's 1e-12: no row is that short
    an empty sequence   is one entry, the padding's, a row of the table; freshet's is zeros: there is none here
    FM                  ends in ELU, which freshet has not; its products are those of DeepFM

Not compared: losses by max margin and softmax, pooling by sqrt(n), dropout.

The file is records until its end, as of make_net_golden.py; a name is CASE/WHAT, WHAT being

    <table>                       (rows, D)
    slots.<input>                 rows of a table, one a sample or one an entry; of a number the numbers
    offsets.<input>               (B + 1) of a sequence
    label
    <parameter>, constant.<same>  of freshet's net; constant: LibRecommender has no such variable
    after.<buffer>                what a buffer becomes in training
    p, loss, gradient.<table>     and frozen.<each of these>, by the stored statistics
    gradient.<parameter>
"""
import os
import struct
import sys
from unittest import mock

os.environ.update(TF_USE_LEGACY_KERAS="1", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
import numpy as np
import pandas as pd

for module in ("", ".linalg", ".nn", ".nn.functional", ".nn.init", ".optim", ".optim.lr_scheduler", ".utils",
               ".utils.data", ".utils.data.sampler"):
    sys.modules["torch" + module] = mock.MagicMock()
sys.modules["torch"].Tensor = type("Tensor", (), {})

from libreco.algorithms import DIN, SIM, DeepFM, TwoTower
from libreco.data import DatasetFeat
from libreco.tfops import choose_tf_loss, tf

HERE = os.path.dirname(os.path.abspath(__file__))
B, K, USERS, ITEMS = 11, 4, 6, 9
HIDDEN = (7, 5)
RNG = np.random.default_rng(7)
FILE = open(os.path.join(HERE, "libreco.bin"), "wb")


def put(name, values):
    values = np.asarray(values)
    kind = "f" if values.dtype.kind == "f" else "I"
    values = values.reshape(-1).astype("<f4" if kind == "f" else "<u4")
    head = struct.pack("<B", len(name)) + name.encode() + struct.pack("<BI", int(kind == "I"), values.size)
    FILE.write(head + values.tobytes())


# ---- parameters: freshet's name -> the variable, how its array is read, and by what it is multiplied

def as_it_is(a):
    return a


def dense(name, scope, scale=1.0):
    return {f"{name}.weight": (f"{scope}/kernel", np.transpose, scale),
            f"{name}.bias": (f"{scope}/bias", as_it_is, scale)}


def norm(name, scope):
    parts = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    return {f"{name}.1.{a}": (f"{scope}/{b}", as_it_is, 1.0) for a, b in parts.items()}


def identity(name, width):
    return {f"{name}.0.weight": np.eye(width), f"{name}.0.bias": np.zeros(width)}


def dense_nn(name, scope, width):
    """What dense_nn is with use_bn: blocks <name>_0 ... <name>_3. And their constants."""
    layer = f"{scope}/{scope}_layer"
    params = {**norm(f"{name}_0", f"{scope}/batch_normalization"), **dense(f"{name}_1.0", f"{layer}1"),
              **norm(f"{name}_2", f"{scope}/batch_normalization_1"), **dense(f"{name}_3.0", f"{layer}2")}
    return params, {**identity(f"{name}_0", width), **identity(f"{name}_2", HIDDEN[0])}


# ---- a case

def unbiased(before, after, momentum=0.99):
    """The running variance, had it been given the unbiased variance of the batch."""
    return momentum * before + (after - momentum * before) * B / (B - 1)


def assign(model):
    """Random values to all variables; by name."""
    variables = {v.op.name: v for v in tf.global_variables()}
    model.sess.run(tf.global_variables_initializer())
    for name, v in variables.items():
        value = RNG.normal(size=v.shape, scale=1.5 if name.startswith("attention/") else 0.5)
        if name.endswith("moving_variance") or name.endswith("gamma"):
            value = 0.5 + RNG.random(size=v.shape)
        v.load(value.astype("float32"), model.sess)
    return variables


def run(case, prefix, model, feed, tables, params):
    loss = B * choose_tf_loss(model, "ranking", "cross_entropy")
    trained = {v.op.name: v for v in tf.trainable_variables()}
    gradients = dict(zip(trained, map(tf.convert_to_tensor, tf.gradients(loss, list(trained.values())))))
    p, loss, gradients = model.sess.run([tf.sigmoid(model.output), loss, gradients], feed)
    put(f"{case}/{prefix}p", p)
    put(f"{case}/{prefix}loss", loss)
    for name, variable in tables.items():
        put(f"{case}/{prefix}gradient.{name}", gradients[variable])
    for name, (variable, view, scale) in params.items():
        if variable in trained and not prefix:
            put(f"{case}/gradient.{name}", view(gradients[variable]) / scale)


def make(case, model, feed, slots, tables, params, constants, unused=()):
    """feed: of the placeholders, by the names that the model has for them. slots: of freshet's inputs."""
    variables = assign(model)
    values = model.sess.run(variables)
    for name, variable in tables.items():
        put(f"{case}/{name}", values[variable])
    for name, (variable, view, scale) in params.items():
        put(f"{case}/{name}", view(values[variable]) * scale)
    for name, value in constants.items():
        put(f"{case}/constant.{name}", value)
    used = [*tables.values(), *(p[0] for p in params.values())]
    assert all(v in used or v.startswith(unused) for v in variables), set(variables) - set(used)
    label = (RNG.random(B) < 0.4).astype("float32")
    put(f"{case}/label", label)
    for name, value in slots.items():
        put(f"{case}/{name}", value)
    feed = {getattr(model, name): value for name, value in {**feed, "labels": label}.items()}
    run(case, "", model, {**feed, model.is_training: True}, tables, params)
    run(case, "frozen.", model, {**feed, model.is_training: False}, tables, params)
    model.sess.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS), {**feed, model.is_training: True})
    for name, (variable, view, _) in params.items():
        after = model.sess.run(variables[variable])
        if name.endswith("running_var"):
            put(f"{case}/after.{name}", unbiased(values[variable], after))
        elif name.endswith("running_mean"):
            put(f"{case}/after.{name}", after)


# ---- inputs

def data(price):
    """Users have a sex, items a category and, if so asked, a price."""
    rows = [(u, i, 1, u % 2, i % 4, 0.3 * i - 1) for u in range(USERS) for i in range(ITEMS) if (u + i) % 3]
    rows = pd.DataFrame(rows, columns=["user", "item", "label", "sex", "category", "price"])
    columns = {"item_col": ["category", "price"], "dense_col": ["price"]} if price else {"item_col": ["category"]}
    return DatasetFeat.build_trainset(rows, user_col=["sex"], sparse_col=["sex", "category"], **columns)[1]


class Samples:
    def __init__(self, info):
        self.info = info
        self.user = RNG.integers(USERS, size=B)
        self.item = RNG.integers(ITEMS, size=B)
        self.sex = info.user_sparse_unique[self.user, 0]
        self.category = info.item_sparse_unique[self.item, 0]
        assert info.sparse_col.name == ["sex", "category"]
        self.slots = {"slots.user": self.user, "slots.sex": self.sex, "slots.item": self.item,
                      "slots.category": self.category}
        self.feed = {"user_indices": self.user, "item_indices": self.item}

    def together(self):
        return {**self.feed, "sparse_indices": np.stack([self.sex, self.category], 1)}

    def sequence(self, name, longest):
        """Padded items and lengths, of which each occurs; the inputs <name> and <name>_category."""
        lengths = 1 + RNG.permutation(np.arange(B) % longest)
        padded = np.full((B, longest), self.info.n_items)
        for row, n in zip(padded, lengths):
            row[:n] = RNG.integers(ITEMS, size=n)
        entries = np.concatenate([row[:n] for row, n in zip(padded, lengths)])
        self.slots[f"slots.{name}"] = entries
        self.slots[f"slots.{name}_category"] = self.info.item_sparse_unique[entries, 0]
        self.slots[f"offsets.{name}"] = np.concatenate([[0], np.cumsum(lengths)])
        return padded, lengths


TABLES = {"users": "embedding/user_embeds_var", "items": "embedding/item_embeds_var",
          "sparse": "embedding/sparse_embeds_var"}
LINEAR = {"users_linear": "embedding/user_linear_var", "items_linear": "embedding/item_linear_var",
          "sparse_linear": "embedding/sparse_linear_var"}


def number(name, variable):
    """A number times a vector: a fully connected layer without bias."""
    return {f"{name}.0.weight": (f"embedding/{variable}", as_it_is, 1.0)}


def begin(cls, info, **options):
    tf.reset_default_graph()
    model = cls("ranking", info, embed_size=K, hidden_units=HIDDEN, **options)
    model.build_model()
    return model


# ---- the models

def din():
    samples = Samples(data(False))
    seq, lengths = samples.sequence("clicks", 5)
    model = begin(DIN, samples.info, use_bn=False, recent_num=5)
    feed = {**samples.together(), "user_interacted_seq": seq, "user_interacted_len": lengths}
    params = {**dense("attention.attention_layer.mlp.0", "attention/attention_layer1"),
              **dense("attention.attention_layer.mlp.2", "attention/attention_layer2", (2 * K) ** -0.5),
              **dense("mlp.0", "mlp/mlp_layer1"), **dense("mlp.2", "mlp/mlp_layer2"), **dense("y", "dense")}
    make("din", model, feed, samples.slots, TABLES, params, {})


def sim():
    samples = Samples(data(False))
    long, long_lengths = samples.sequence("long", 8)
    short, short_lengths = samples.sequence("short", 4)
    model = begin(SIM, samples.info, use_bn=False, alpha=0.0, search_topk=3, num_heads=2, long_max_len=8,
                  short_max_len=4)
    feed = {**samples.together(), "long_seqs": long, "long_seq_lens": long_lengths, "short_seqs": short,
            "short_seq_lens": short_lengths}
    heads = lambda a: a.reshape(K, -1).T  # (in, heads, width of one)
    back = lambda a: a.reshape(-1, K).T  # (heads, width of one, out)
    scope = "multi_head_attention"
    params = {"project.0.weight": ("dense/kernel", np.transpose, 1.0),
              "found.W_q.weight": (f"{scope}/query/kernel", heads, 1.0),
              "found.W_k.weight": (f"{scope}/key/kernel", heads, 1.0),
              "found.W_v.weight": (f"{scope}/value/kernel", heads, 1.0),
              "found.W_o.weight": (f"{scope}/attention_output/kernel", back, 1.0),
              **dense("mlp.0", "second_stage_mlp/second_stage_mlp_layer1"),
              **dense("mlp.2", "second_stage_mlp/second_stage_mlp_layer2"), **dense("y", "dense_2")}
    constants = {"project.0.bias": np.zeros(K), **{f"recent.W_{w}.weight": np.eye(K) for w in "kvo"},
                 "recent.W_q.weight": K ** 0.5 * np.eye(K)}
    make("sim", model, feed, samples.slots, TABLES, params, constants, ("first_stage_mlp/", "dense_1/"))


def two_tower():
    samples = Samples(data(True))
    price = RNG.normal(size=B)
    model = begin(TwoTower, samples.info, loss_type="cross_entropy", norm_embed=True)
    feed = {**samples.feed, "user_sparse_indices": samples.sex[:, None],
            "item_sparse_indices": samples.category[:, None], "item_dense_values": price[:, None]}
    user, user_constants = dense_nn("user", "user_tower", 2 * K)
    item, item_constants = dense_nn("item", "item_tower", 3 * K)
    params = {**number("price", "dense_embeds_var"), **user, **item}
    constants = {**user_constants, **item_constants, "price.0.bias": np.zeros(K), "y.weight": np.ones(HIDDEN[1]),
                 "y.bias": np.zeros(1)}
    make("two_tower", model, feed, {**samples.slots, "slots.cost": price}, TABLES, params, constants)


def deepfm():
    samples = Samples(data(True))
    price = RNG.normal(size=B)
    model = begin(DeepFM, samples.info)
    feed = {**samples.together(), "dense_values": price[:, None]}
    deep, constants = dense_nn("deep", "mlp", 5 * K)
    params = {**number("price", "dense_embeds_var"), **number("price_linear", "dense_linear_var"),
              **dense("linear.0", "dense"), **deep, **dense("y", "dense_1")}
    constants = {**constants, "price.0.bias": np.zeros(K), "price_linear.0.bias": np.zeros(1)}
    slots = {**samples.slots, **{f"{name}_linear": value for name, value in samples.slots.items()}, "slots.cost": price}
    make("deepfm", model, feed, slots, {**TABLES, **LINEAR}, params, constants)


din()
sim()
two_tower()
deepfm()
