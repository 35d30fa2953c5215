#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A training step, FC frozen and not, beside the bare products and beside PyTorch
set -euo pipefail
cd "$(dirname "$0")/../.."

# A python that has torch; Debian's package belongs to Debian's python.
python_with_torch() {
    local python
    for python in python3 /usr/bin/python3; do
        if "$python" -c 'import torch' 2>/dev/null; then
            echo "$python"
            return 0
        fi
    done
    return 1
}

# Ours and PyTorch's lines side by side: `name  N samples/s ...`, matched by name.
table() {
    awk '
    { at = match($0, / +[0-9]+ samples\/s/); if (!at) next
      name = substr($0, 1, at - 1); split(substr($0, at), field, " ") }
    FNR == NR && name ~ /bare/ { bare[last] = field[1]; next }
    FNR == NR { order[++n] = name; ours[name] = field[1]; last = name; next }
    name in ours { torch[name] = field[1] }
    END {
        printf "%-20s %12s %14s %8s %12s %10s\n", "samples/s", "freshet", "bare products", "of bare", "PyTorch", "x PyTorch"
        for (i = 1; i <= n; i++) {
            name = order[i]
            printf "%-20s %12d %14d %8.2f", name, ours[name], bare[name], ours[name] / bare[name]
            if (torch[name]) printf " %12d %10.2f\n", torch[name], ours[name] / torch[name]
            else printf " %12s %10s\n", "-", "-"
        }
    }' "$1" "$2"
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
build/bench/bench_train | tee "$scratch/ours"
if python=$(python_with_torch); then
    "$python" tests/bench/bench_torch.py | tee "$scratch/torch"
else
    echo "PyTorch is not there; to compare with it: scripts/setup --with-torch"
    : >"$scratch/torch"
fi
echo
table "$scratch/ours" "$scratch/torch"
