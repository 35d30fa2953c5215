#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# All of models/, one after the other: train, steps, nets, towers, tables
set -euo pipefail
for name in train steps nets towers tables; do
    echo "-- $name"
    bash "$(dirname "$0")/run_$name.sh"
    echo
done
