#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Resident memory against the budgets of the config: small, large, and a week of new ids
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python3 tests/bench/memory.py build/freshet "$@"
