#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What an event costs in each part on its way: decoder, users and items, joiner, dedupe
set -euo pipefail
cd "$(dirname "$0")/../../build/bench"
echo "decoder"
./bench_decode
echo "users and items: counters and windows"
./bench_entity
echo "joiner and dedupe, 1 M impressions pending"
./bench_joiner
