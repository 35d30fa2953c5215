#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# From an event's arrival to its count over HTTP, while 20,000 events a second come in
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python3 tests/bench/latency.py build/freshet "$@"
