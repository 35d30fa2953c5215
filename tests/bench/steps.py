# SPDX-License-Identifier: Apache-2.0
"""Training steps of freshet beside PyTorch, in turns: bench_step and bench_torch.py in fp32 and bf16, ROUNDS times; of
each figure the median, and the ratio of the two in the same round.

Usage: steps.py BENCH_STEP PYTHON_WITH_TORCH|"" [ROUNDS [NET ...]]
"""
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# What stands beside what: freshet's kernel and PyTorch's numbers. `update` predicts every sample before it trains on it,
# which PyTorch's step does not.
WAYS = (("net", "net"), ("step", "step"), ("update", "step"), ("layers", "layers"))
KERNELS = (("packed", "fp32"), ("blas", "fp32"), ("bf16", "bf16"), ("bf16", "fp32"))


def figures(*command):
    """{(net, kernel, way): samples/s}"""
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {tuple(line.split()[:3]): float(line.split()[3]) for line in out.splitlines()}


def one_round(bench, python, nets):
    ours, theirs = figures(bench, *nets), {}
    for numbers in ("float32", "bfloat16") if python else ():
        theirs.update(figures(python, os.path.join(HERE, "bench_torch.py"), numbers, *nets))
    return ours, theirs


def rows(rounds):
    for net in dict.fromkeys(key[0] for key in rounds[0][0]):
        for kernel, numbers in KERNELS:
            for way, beside in WAYS:
                if (net, kernel, way) in rounds[0][0]:
                    yield (net, kernel, way), (net, numbers, beside)


def median(values):
    return statistics.median(values) if values else float("nan")


def main():
    bench, python = sys.argv[1], sys.argv[2]
    rounds = [one_round(bench, python, sys.argv[4:]) for _ in range(int(sys.argv[3]) if len(sys.argv) > 3 else 3)]
    print(f"median of {len(rounds)} rounds, samples/s of CPU time, one thread")
    print(f"{'':12} {'freshet':16} {'samples/s':>10}   {'PyTorch':12} {'samples/s':>10} {'ratio':>7}")
    for mine, other in rows(rounds):
        got = median([ours[mine] for ours, _ in rounds])
        line = f"{mine[0]:12} {mine[1] + ' ' + mine[2]:16} {got:10.0f}"
        there = [(ours[mine], theirs[other]) for ours, theirs in rounds if other in theirs]
        if there:
            line += (f"   {other[1] + ' ' + other[2]:12} {median([b for _, b in there]):10.0f} "
                     f"{median([a / b for a, b in there]):7.2f}")
        print(line)
    if not python:
        print("PyTorch is not there; to compare with it: scripts/setup --with-torch")


main()
