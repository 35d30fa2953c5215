#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Events from a real Kafka with all state, beside a bare librdkafka and simdjson loop over the same topic
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python3 tests/bench/ingest.py build/freshet build/bench/bench_bare "$@"
