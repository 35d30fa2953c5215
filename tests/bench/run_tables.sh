#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Embedding tables of 1 M and 10 M rows: lookups, first touches, updates a second
set -euo pipefail
exec "$(dirname "$0")/../../build/bench/bench_table"
