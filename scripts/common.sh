# SPDX-License-Identifier: Apache-2.0
# What the scripts share; sourced by them, after `cd` to the root of the sources.

# Whether build/freshet is missing, or older than what it is made of.
stale() {
    [ ! -x build/freshet ] ||
        [ -n "$(find base models state stream daemon CMakeLists.txt -newer build/freshet \
            \( -name '*.[ch]' -o -name '*.cc' -o -name CMakeLists.txt \) -print -quit)" ]
}

# Builds build/freshet if need be; what it says goes to stderr, so that stdout stays the caller's.
setup_if_stale() {
    if stale; then
        scripts/setup "$@" >&2
    fi
}
