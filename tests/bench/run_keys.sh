#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What an event costs with 1 M and 10 M users and items, and how long a start takes with them; --keys 1M,10M,30M
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python3 tests/bench/keys.py "${FRESHET:-build/freshet}" "$@"
