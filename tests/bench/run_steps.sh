#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Training steps of MLP, DIN and two towers, FC frozen and not, by each kernel, beside PyTorch
set -euo pipefail
cd "$(dirname "$0")/../.."

# A python that has torch: $FRESHET_TORCH_PYTHON, or the first; Debian's package belongs to Debian's python.
python_with_torch() {
    local python
    for python in ${FRESHET_TORCH_PYTHON:-python3 /usr/bin/python3}; do
        if "$python" -c 'import torch' 2>/dev/null; then
            echo "$python"
            return 0
        fi
    done
}

exec python3 tests/bench/steps.py build/bench/bench_step "$(python_with_torch)" "${1:-3}" "${@:2}"
