#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# From kill -9 to an answer and to ready, with more than a million keys in the store
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python3 tests/bench/recovery.py build/freshet "$@"
