#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# From kill -9 to an answer and to ready, with a million users and items in the store
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python3 tests/bench/recovery.py build/freshet "$@"
