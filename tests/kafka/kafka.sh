#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A real Kafka broker (one node, KRaft) for tests, from jars that Maven fetches once.
#
#   kafka.sh start DIR PORT   format DIR if it is new, start there, wait until it serves, print its address
#   kafka.sh stop DIR         stop as an operator would
#   kafka.sh kill9 DIR        stop as a power cut would
#   kafka.sh restart DIR      start again on the data and the port of DIR
#   kafka.sh fetch            only get the jars
#
# The controller listens on PORT+1. DIR holds server.properties, data/, broker.log, pid and port. The jars are
# kept in ${FRESHET_CACHE:-$HOME/.cache/freshet}/kafka. Needs bash, java 17 (default-jre-headless) and maven.
# Exit code 77 with one line: the broker cannot be had here (no java, or Maven reaches nothing): skip the test.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${FRESHET_CACHE:-${HOME:-/tmp}/.cache/freshet}/kafka
start_seconds=120
stop_seconds=30

fail() {
    echo "kafka.sh: $*" >&2
    exit 1
}

skip() {
    echo "kafka.sh: skipped: $*" >&2
    exit 77
}

fetch_once() { # extra Maven options
    rm -rf "$cache/lib.new"
    mvn -q -B "$@" -f "$here/pom.xml" \
        org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DoutputDirectory="$cache/lib.new" -DincludeScope=runtime >"$cache/mvn.log" 2>&1
}

# The jars, complete or not at all: they are fetched beside and renamed. A changed pom.xml fetches anew. -U makes
# Maven ask again for what a passing fault has made it remember as missing.
fetch() {
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
    if ! cmp -s "$here/pom.xml" "$cache/lib/pom.xml"; then
        command -v mvn >/dev/null || skip "mvn is not installed and no jars are in $cache"
        fetch_once || fetch_once -U || skip "Maven could not fetch the broker's jars (see $cache/mvn.log)"
        cp "$here/pom.xml" "$cache/lib.new/"
        rm -rf "$cache/lib"
        mv "$cache/lib.new" "$cache/lib"
    fi
    exec 9>&-
}

kafka_java() {
    java -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$cache/lib/*" "$@"
}

# Asks for metadata (version 4, no topics) and looks at the number of brokers in the answer.
# Request: size 15 | key 3 | version 4 | correlation 1 | client null | 0 topics | no auto creation.
# Answer:  size u32 | correlation u32 | throttle u32 | brokers u32 | ...
serves() { # PORT
    local answer
    answer=$(timeout 5 bash -c '
        exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
        printf "\0\0\0\017\0\003\0\004\0\0\0\001\377\377\0\0\0\0\0" >&3
        head -c 16 <&3 | od -An -tx1' bash "$1" 2>/dev/null | tr -d ' \n') || return 1
    [ "${#answer}" -eq 32 ] && [ "${answer:24:8}" != 00000000 ]
}

running() { # DIR
    local pid
    pid=$(cat "$1/pid" 2>/dev/null) || return 1
    # The pid may have been given to another process since.
    kill -0 "$pid" 2>/dev/null && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "kafka.Kafka $1/"
}

wait_gone() { # DIR SECONDS
    local end=$((SECONDS + $2))
    while running "$1"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

launch() { # DIR PORT
    local dir=$1 port=$2 end
    # Its own session, so that a signal to the test's terminal does not reach it, and no open descriptor of
    # the caller's, or a pipe that reads our output would never end.
    setsid java -Xmx1g -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$cache/lib/*" \
        kafka.Kafka "$dir/server.properties" </dev/null >>"$dir/broker.log" 2>&1 &
    echo $! >"$dir/pid"
    end=$((SECONDS + start_seconds))
    until serves "$port"; do
        kill -0 "$(cat "$dir/pid")" 2>/dev/null || fail "the broker ended: $(tail -n 3 "$dir/broker.log")"
        [ "$SECONDS" -lt "$end" ] || fail "no answer on port $port after $start_seconds s (see $dir/broker.log)"
        sleep 0.1
    done
    echo "127.0.0.1:$port"
}

format() { # DIR PORT
    local dir=$1 port=$2
    sed -e "s|@PORT@|$port|g" -e "s|@CONTROLLER_PORT@|$((port + 1))|g" -e "s|@DATA@|$dir/data|g" \
        "$here/server.properties.in" >"$dir/server.properties"
    echo "$port" >"$dir/port"
    if [ ! -e "$dir/data/meta.properties" ]; then
        kafka_java kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$dir/server.properties" \
            >"$dir/format.log" 2>&1 || fail "the data folder could not be formatted (see $dir/format.log)"
    fi
}

need_java() {
    command -v java >/dev/null || skip "java is not installed"
}

start() { # DIR PORT
    need_java
    fetch
    mkdir -p "$1"
    local dir
    dir=$(cd "$1" && pwd)
    ! running "$dir" || fail "a broker runs in $dir already"
    format "$dir" "$2"
    launch "$dir" "$2"
}

stop() { # DIR
    local dir
    dir=$(cd "$1" 2>/dev/null && pwd) || return 0
    if running "$dir"; then
        kill -TERM "$(cat "$dir/pid")"
        wait_gone "$dir" "$stop_seconds" || kill9 "$dir"
    fi
    rm -f "$dir/pid"
}

kill9() { # DIR
    local dir
    dir=$(cd "$1" && pwd)
    if running "$dir"; then
        kill -KILL "$(cat "$dir/pid")"
        wait_gone "$dir" "$stop_seconds" || fail "the broker in $dir does not end"
    fi
    rm -f "$dir/pid"
}

restart() { # DIR
    need_java
    local dir
    dir=$(cd "$1" && pwd)
    [ -f "$dir/port" ] || fail "$dir was never started"
    fetch
    stop "$dir"
    launch "$dir" "$(cat "$dir/port")"
}

case "$#:${1:-}" in
3:start) start "$2" "$3" ;;
2:stop) stop "$2" ;;
2:kill9) kill9 "$2" ;;
2:restart) restart "$2" ;;
1:fetch) fetch ;;
*)
    echo "usage: kafka.sh start DIR PORT | stop DIR | kill9 DIR | restart DIR | fetch" >&2
    exit 2
    ;;
esac
