#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A training step of the MLP beside the bare products of its shapes: how near to the limit of the BLAS
set -euo pipefail
cd "$(dirname "$0")/../.."
build/bench/bench_train
if grep -q avx512_bf16 /proc/cpuinfo; then
    build/bench/bench_train bf16
fi
