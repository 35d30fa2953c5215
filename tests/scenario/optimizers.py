# SPDX-License-Identifier: Apache-2.0
# Optimizers as a user sets them: each trains and learns, the same log gives the same bytes, cut in two (a stop, and a
# start from the store; or an export, and an import into a state that has trained on nothing) or not, and a store
# refuses another optimizer by name.
# argv[1]: the freshet binary.
import json
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from harness import Freshet  # noqa: E402
from interchange import File  # noqa: E402

ARRAYS = ("accum", "sum", "z", "n", "exp_avg", "exp_avg_sq")

# What is set for the tables and for the dense layers; the block `deep` has dropout, which draws by sample.
CASES = {
    "rowwise": ({"weight_decay": 1e-4, "clip_norm": 0.1, "warmup": "2k"}, {"weight_decay": 1e-4, "clip_norm": 0.5}),
    "adagrad": ({"optimizer": "adagrad", "accumulator": 0.01, "init": {"uniform": 0.02}}, {"optimizer": "adagrad", "warmup": "1k"}),
    "adam": ({"optimizer": "adam", "lr": 0.01}, {"optimizer": "adam", "weight_decay": 0.01, "decoupled": True}),
    "ftrl": ({"optimizer": "ftrl", "l1": 1e-4, "l2": 1e-4}, {"optimizer": "ftrl", "l2": 1e-3}),
}


def config_of(table, dense):
    tables = {name: {"dim": 8, "rows": "10k", **table} for name in ("users", "items")}
    net = [{"name": "deep", "mlp": [32, 16], "of": ["user_id", "item_id", "clicks"], "dropout": 0.1, "lr": 0.02,
            "init": "xavier_uniform"}]
    return {"tables": tables,
            "features": {"user_id": {"id": "user", "table": "users"}, "item_id": {"id": "item", "table": "items"},
                         "clicks": {"sequence": "click", "last": 10, "table": "items"}},
            "models": {"ctr": {"net": net, "heads": {"click": {"of": "deep", "init": {"normal": 0.1}}}}},
            "update": {"every": "5m", "bootstrap": {"samples": 6000}, "dense": dense}}


def replay(f, config, state, lines, *more):
    r = f.run("replay", "-c", config, "--events", "-", "--state", f.path(state), "--json", *more,
              input="\n".join(lines) + "\n")
    if r.returncode:
        raise RuntimeError(r.stderr)
    return json.loads(r.stdout)


def digest(f, config, state):
    told = json.loads(f.run("digest", "-c", config, "--state", f.path(state)).stdout)
    return {k: told[k] for k in ("tables", "optimizer", "dense", "version")}


def refused(f, config, state, changes, wanted):
    args = [a for change in changes for a in ("--set", change)]
    r = f.run("digest", "-c", config, "--state", f.path(state), *args)
    f.check(r.returncode != 0 and wanted in r.stderr, f"{changes}: {wanted!r} in {r.stderr.strip()!r}")


def moved(f, config, name, at, whole):
    """What an optimizer keeps goes with the model: trained on elsewhere, the bytes are the same."""
    events, state, part = f.path("events.jsonl"), f"{name}-moved-{at}", f.path(f"{name}-{at}.safetensors")
    with open(events) as of:
        lines = of.readlines()
    with open(events, "w") as to:
        to.writelines(lines[:at])

    def run(command, *args):
        more = ("--events", events) if command == "replay" else ()
        r = f.run(command, *args, "-c", config, *more)
        if r.returncode:
            raise RuntimeError(f"{command} {args}: {r.stderr}")

    run("replay", "--state", f.path(f"{state}-from"))
    run("export", "model", "--state", f.path(f"{state}-from"), "--out", part)
    file = File(part)
    for kept in (True, False):
        into = state if kept else f"{state}-anew"
        run("replay", "--state", f.path(into), "--set", "update.enabled=false")
        for tensor in list(file.tensors):
            if not kept and (tensor.startswith("optimizer.") or tensor.rsplit(".")[-1] in ARRAYS):
                del file.tensors[tensor]
        run("import", "model", "--state", f.path(into), "--from", file.write(part))
    with open(events, "a") as to:
        to.writelines(lines[at:])
    for into in (state, f"{state}-anew"):
        run("replay", "--state", f.path(into), "--flush")
    got, anew = (digest(f, config, into) for into in (state, f"{state}-anew"))
    parts = ("tables", "optimizer", "dense")
    f.equal({k: got[k] for k in parts}, {k: whole[k] for k in parts}, f"{name}: exported at {at}, imported, the same bytes")
    f.check(anew["optimizer"] != whole["optimizer"], f"{name}: without its state an optimizer begins anew")


def refused_state(f, config, state, file, *says):
    r = f.run("import", "model", "-c", config, "--state", f.path(state), "--from", file.write(f.path("bad.safetensors")))
    f.check(r.returncode == 1 and all(w in r.stderr for w in says), f"{says}: {r.stderr.strip()[:300]}")


def bad_states(f, config):
    """Of adam, whose arrays are two and have PyTorch's names."""
    path = f.path("adam-20000.safetensors")
    f.run("export", "model", "-c", config, "--state", f.path("adam"), "--out", path)
    names = set(File(path).tensors)
    f.check({"tables.users.exp_avg", "tables.users.exp_avg_sq", "optimizer.deep.0.weight.exp_avg", "optimizer.samples",
             "optimizer.click.bias.exp_avg_sq", "optimizer.step"} <= names, "the names are PyTorch's")
    before = digest(f, config, "adam")
    for name, change, says in (
            ("tables.users.exp_avg_sq", lambda t, n: t.pop(n), "missing"),
            ("optimizer.deep.0.weight.exp_avg", lambda t, n: t.pop(n), "missing"),
            ("deep.0.weight", lambda t, n: [t.pop(x) for x in list(t) if not x.startswith(("tables.", "optimizer."))], "missing"),
            ("tables.users.sum", lambda t, n: t.__setitem__(n, t["tables.users.exp_avg"]), "no part of the model"),
            ("optimizer.step", lambda t, n: t.__setitem__(n, ["I64", [1], (-1).to_bytes(8, "little", signed=True)]), "below 0"),
            ("optimizer.deep.0.bias.exp_avg_sq",
             lambda t, n: t.__setitem__(n, [*t[n][:2], struct.pack("<f", -1) + t[n][2][4:]]), "below 0 at place 0")):
        file = File(path)
        change(file.tensors, name)
        refused_state(f, config, "adam", file, name, says)
    f.equal(digest(f, config, "adam"), before, "after all of them the state is as it was")


def main():
    f = Freshet()
    lines = f.run("simulate", "--events", "30000", "--rate", "5", "--seed", "3").stdout.splitlines()
    configs = {}
    for name, (table, dense) in CASES.items():
        config = configs[name] = f.path(f"{name}.json")
        with open(config, "w") as to:
            json.dump(config_of(table, dense), to)
        told = replay(f, config, name, lines, "--flush")
        auc = told["metrics"]["click"]["auc"]
        f.check(told["version"] > 10 and auc > 0.55, f"{name}: {told['version']} versions, AUC {auc:.4f}")
        whole = digest(f, config, name)
        cut = []
        for at in (len(lines) // 7, len(lines) * 2 // 3):  # before the freeze, and behind it
            state = f"{name}-{at}"
            with open(f.path("events.jsonl"), "w") as to:
                to.write("\n".join(lines[:at]) + "\n")
            first = f.run("replay", "-c", config, "--events", f.path("events.jsonl"), "--state", f.path(state))
            with open(f.path("events.jsonl"), "a") as to:
                to.write("\n".join(lines[at:]) + "\n")
            second = f.run("replay", "-c", config, "--events", f.path("events.jsonl"), "--state", f.path(state), "--flush")
            f.check(first.returncode == 0 and second.returncode == 0, f"{name}: cut at {at} {first.stderr} {second.stderr}")
            cut.append(digest(f, config, state))
        f.check(cut[0] == cut[1], f"{name}: cut here or there, the same bytes")
        f.check(cut[0] == whole, f"{name}: cut or not, the same bytes")
        for at in (len(lines) // 5, len(lines) * 2 // 3):
            moved(f, config, name, at, whole)
    bad_states(f, configs["adam"])
    refused(f, configs["rowwise"], "rowwise", ["tables.items.optimizer=adam"],
            'where the config gives "items=8:adam; ')
    refused(f, configs["rowwise"], "rowwise", ["update.dense.optimizer=adam"], 'the config gives "net:adam ')
    refused(f, configs["ftrl"], "ftrl", ["tables.users.lr=0.2"], 'the config gives "users=8:ftrl(lr=0.2,')
    r = f.run("digest", "-c", configs["adam"], "--state", f.path("adam"), "--set", "tables.users.lr=0.2")
    f.check(r.returncode == 0, "another learning rate of adam goes on from what there is")
    r = f.run("explain", "-c", configs["adam"], "--model", "ctr")
    f.check("dense layers: adam, lr 0.001, betas 0.9 0.999, weight decay 0.01 (decoupled); deep lr 0.02\n" in r.stdout
            and "table items: adam, lr 0.01, betas 0.9 0.999\n" in r.stdout, "explain names optimizers")
    sys.exit(f.summary())


main()
