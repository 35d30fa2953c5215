# SPDX-License-Identifier: Apache-2.0
# The kernels of frozen layers: each learns the same, gives its own bytes, the same again over a restart, and says who
# it is; a state goes on under another one and tells; what the processor has not is refused.
# argv[1]: the freshet binary.
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from harness import Freshet  # noqa: E402

NET = [{"name": "hist", "din": [16, 8], "of": "clicks", "candidate": "item_id"},
       {"name": "cross", "dcn_v2": 2, "of": ["user_id", "item_id"]},
       {"name": "deep", "mlp": [32, 16], "of": ["user_id", "item_id", "hist"]},
       {"name": "top", "concat": True, "of": ["cross", "deep"]}]
CONFIG = {"tables": {name: {"dim": 8, "rows": "10k"} for name in ("users", "items")},
          "features": {"user_id": {"id": "user", "table": "users"}, "item_id": {"id": "item", "table": "items"},
                       "clicks": {"sequence": "click", "last": 10, "table": "items"}},
          "models": {"ctr": {"net": NET, "heads": {"click": {"of": "top"}}}},
          "update": {"every": "5m", "bootstrap": {"samples": 3000}}}


class Kernels:
    def __init__(self):
        self.f = Freshet()
        self.config = self.f.path("kernels.json")
        with open(self.config, "w") as to:
            json.dump(CONFIG, to)
        self.lines = self.f.run("simulate", "--events", "20000", "--rate", "5", "--seed", "4").stdout.splitlines()

    def replay(self, state, n, kernel, *more):
        events = self.f.path("events.jsonl")
        with open(events, "w") as to:
            to.write("\n".join(self.lines[:n]) + "\n")
        return self.f.run("replay", "-c", self.config, "--events", events, "--state", self.f.path(state),
                          "--set", f"update.kernel={kernel}", "--json", *more)

    def digest(self, state):
        told = json.loads(self.f.run("digest", "-c", self.config, "--state", self.f.path(state)).stdout)
        return {k: told[k] for k in ("tables", "optimizer", "dense", "version", "kernel")}


def main():
    k = Kernels()
    f, every = k.f, len(k.lines)
    version = f.run("version").stdout.splitlines()
    known = ["blas", "packed"] if "packed" in version[2] else ["blas"]
    f.check(version[2].split()[0] in ("blas", "packed"), f"version names the kernel: {version}")
    auc, whole = {}, {}
    for kernel in known:
        r = k.replay(kernel, every, kernel, "--flush")
        f.check(r.returncode == 0, f"{kernel}: {r.stderr}")
        auc[kernel] = json.loads(r.stdout)["metrics"]["click"]["auc"]
        whole[kernel] = k.digest(kernel)
        f.check(whole[kernel]["kernel"] == kernel, f"the digest names {kernel}")
        cut = f"{kernel}-cut"
        k.replay(cut, every // 2, kernel)
        r = k.replay(cut, every, kernel, "--flush")
        f.check("another kernel" not in r.stderr, f"{kernel}: a restart is nothing new")
        f.check(k.digest(cut) == whole[kernel], f"{kernel}: cut or not, the same bytes")
    f.check(max(auc.values()) - min(auc.values()) < 0.005 and min(auc.values()) > 0.55, f"they learn the same: {auc}")
    k.replay("auto", every, "auto", "--flush")
    f.check(k.digest("auto") == whole[known[-1]], f"auto is {known[-1]}")
    if len(known) > 1:
        f.check(whole["blas"]["tables"] != whole["packed"]["tables"], "each has bytes of its own")
        k.replay("mixed", every // 2, "blas")
        r = k.replay("mixed", every, "packed", "--flush")
        f.check(r.returncode == 0 and "another kernel" in r.stderr and "was=blas is=packed" in r.stderr,
                f"a state goes on under another kernel, and that is told: {r.stderr}")
        mixed = k.digest("mixed")
        f.check(mixed["kernel"] == "packed" and mixed["version"] == whole["packed"]["version"], "and stored")
    r = k.replay("bf16", every, "bf16", "--flush")
    if r.returncode == 0:
        f.check(abs(json.loads(r.stdout)["metrics"]["click"]["auc"] - auc["blas"]) < 0.01, "bf16 learns the same")
        f.check(k.digest("bf16")["kernel"] == "bf16", "the digest names bf16")
        k.replay("bf16-cut", every // 2, "bf16")
        k.replay("bf16-cut", every, "bf16", "--flush")
        f.check(k.digest("bf16-cut") == k.digest("bf16"), "bf16: cut or not, the same bytes")
    else:
        f.check("AVX512_BF16" in r.stderr and "use auto" in r.stderr, f"bf16 is refused where it is not: {r.stderr}")
    r = f.run("check", "-c", k.config, "--set", "update.kernel=fast")
    f.check(r.returncode != 0 and "blas, packed, bf16, auto" in r.stderr, f"others are unknown: {r.stderr}")
    sys.exit(f.summary())


main()
