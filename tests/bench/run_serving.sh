#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Answers of the feature API while events come in at half load: percentiles to p99.9
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python3 tests/bench/serving.py build/freshet build/bench/bench_http "$@"
