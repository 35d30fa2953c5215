#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` puts in place, and the unit in systemd's own eyes: `verify` says nothing, `security` at most
# 1.5. Usage: unit.sh [BUILD_DIR]. Ends with "N passed, N failed"; exit code 77: no systemd-analyze here.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(cd "${1:-build}" && pwd)
worst=1.5
passed=0 failed=0

if ! command -v systemd-analyze >/dev/null; then
    echo "systemd-analyze is not installed (apt-get install systemd)"
    exit 77
fi

check() { # TEXT COMMAND...
    local text=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        echo "ok    $text"
    else
        failed=$((failed + 1))
        echo "FAIL  $text"
    fi
}

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
unit=$root/usr/lib/systemd/system/freshet.service

install_into_root() {
    DESTDIR=$root cmake --install "$build" --prefix /usr >"$root/install.log" 2>&1 || {
        cat "$root/install.log"
        return 1
    }
}

check "cmake --install" install_into_root
for file in usr/bin/freshet usr/lib/systemd/system/freshet.service etc/freshet/freshet.yaml \
    usr/share/doc/freshet/freshet.reference.yaml usr/share/doc/freshet/README.md; do
    check "/$file is installed" test -s "$root/$file"
done
check "the installed program runs" "$root/usr/bin/freshet" version
check "the installed config is right" \
    "$root/usr/bin/freshet" check --no-environment -c "$root/etc/freshet/freshet.yaml"
check "the unit starts what is installed" \
    grep -q '^ExecStart=/usr/bin/freshet run -c /etc/freshet/freshet.yaml$' "$unit"
check "nothing is left to fill in" bash -c "! grep -q '@[a-z]*@' '$unit'"

echo "# mine" >>"$root/etc/freshet/freshet.yaml"
check "a second install" install_into_root
check "it keeps the operator's config" grep -q '^# mine$' "$root/etc/freshet/freshet.yaml"

# systemd-analyze looks for the program where the unit says, which is not below the root of this test.
verify() {
    local complaints
    mkdir -p "$root/verify"
    sed "s|/usr/bin/freshet|$root/usr/bin/freshet|; s|file:/usr/|file:$root/usr/|g" "$unit" \
        >"$root/verify/freshet.service"
    complaints=$(systemd-analyze verify --man=no "$root/verify/freshet.service" 2>&1 |
        grep -F freshet) || true
    [ -z "$complaints" ] || {
        echo "$complaints"
        return 1
    }
}
check "systemd-analyze verify finds nothing to say" verify

# "→ Overall exposure level for freshet.service: 1.1 OK"
exposure() {
    systemd-analyze security --offline=true --no-pager "$root/verify/freshet.service" |
        sed -n 's/.*exposure level for [^:]*: *\([0-9.]*\).*/\1/p'
}
level=$(exposure)
check "its exposure is $level, at most $worst" \
    awk -v level="$level" -v worst="$worst" 'BEGIN { exit !(level != "" && level <= worst) }'

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
