#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What is of the request computed once, outputs of items kept: training, scoring 500 candidates, and that over HTTP
set -euo pipefail
cd "$(dirname "$0")/../.."
build/bench/bench_towers "$@"
echo
exec python3 tests/bench/ranking.py build/freshet "$@"
