#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A training step of many nets over 20 embeddings x 16: predict, FC frozen, all layers
set -euo pipefail
exec "$(dirname "$0")/../../build/bench/bench_nets" "$@"
