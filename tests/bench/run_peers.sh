#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# freshet, Kafka Streams and a bare loop in turn over one topic of a real Kafka: events per CPU-second, memory, disk, recovery
set -euo pipefail
cd "$(dirname "$0")/../.."
freshet=build/freshet bare=build/bench/bench_bare
cache=${FRESHET_CACHE:-$HOME/.cache/freshet}/peers
log=$cache/mvn.log

# -U makes Maven ask again for what a passing fault has made it remember as missing.
build_streams() {
    local goal=org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies unless=
    mkdir -p "$cache"
    rm -rf "$cache/src" "$cache/pom.xml"
    cp -r tests/bench/peers/src tests/bench/peers/pom.xml "$cache/"
    for unless in "" -U; do
        # shellcheck disable=SC2086
        mvn -q -B $unless -f "$cache/pom.xml" compile "$goal" -DoutputDirectory="$cache/target/lib" \
            -DincludeScope=runtime >"$log" 2>&1 && return 0
    done
    return 1
}

classpath=
if ! command -v javac >/dev/null || ! command -v mvn >/dev/null; then
    echo "Kafka Streams is skipped: it needs javac and mvn (apt-get install default-jdk-headless maven)"
elif build_streams; then
    classpath="$cache/target/classes:$cache/target/lib/*"
else
    echo "Kafka Streams is skipped: Maven could not build it ($log): $(grep -m 1 ERROR "$log" || true)"
fi
exec python3 tests/bench/peers/peers.py --freshet "${FRESHET:-$freshet}" --bare "${BENCH_BARE:-$bare}" \
    --classpath "$classpath" "$@"
