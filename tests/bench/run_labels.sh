#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What each way of labelling costs in delay, lost clicks and calibration, against a simulated truth with slow clicks
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python3 tests/bench/labels.py build/freshet "$@"
